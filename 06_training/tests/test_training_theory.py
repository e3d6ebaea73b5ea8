"""The numbers of the pages that no code block prints.

What takes minutes to train (sick curves, scaling, samples) is kept in pictures/measured.json, which
`pictures/draw.py --measure` writes: here the pages are compared with that file, and only its
cheapest entries are measured again.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import data_parallel
import loss_samples
import optimizers
import scaling_runs
import sick_runs
from bpe import apply_merges, count_pairs, merge_pair
from loss_functions import bits_per_char, perplexity
from newton_schulz import POLAR_EXPRESS
from schedules import warmup_cosine
from utils.mock_corpus import entropy_rate

LESSON = Path(__file__).resolve().parents[1]
MEASURED = json.loads((LESSON / "pictures" / "measured.json").read_text(encoding="utf-8"))
TOKENS = json.loads((LESSON / "pictures" / "tokenizers.json").read_text(encoding="utf-8"))
MATRIX = re.compile(r"\\begin\{bmatrix\}(.*?)\\end\{bmatrix\}", re.DOTALL)


def page(name: str) -> str:
    """A page of the lesson, its line breaks as spaces."""
    return " ".join((LESSON / name).read_text(encoding="utf-8").split())


THEORY, CURVES = page("theory.md"), page("reading_curves.md")
TOKENIZERS, MUON, SCALING = page("tokenizers.md"), page("muon.md"), page("scaling.md")


def matrices(name: str) -> list[Tensor]:
    """Every matrix of numbers on a page, in order."""
    found = []
    for body in MATRIX.findall((LESSON / name).read_text(encoding="utf-8")):
        cells = [row.split("&") for row in " ".join(body.split()).split("\\\\")]
        if not any("log" in cell for row in cells for cell in row):
            found.append(torch.tensor([[float(cell) for cell in row] for row in cells]))
    return found


# --- theory.md ---


def test_the_worked_example_of_the_loss() -> None:
    targets, shares, gradient = (matrix.double() for matrix in matrices("theory.md"))
    logits = torch.tensor([[1.0, 2, 5], [4, 1, 3]], dtype=torch.float64).log().requires_grad_()
    torch.testing.assert_close(torch.softmax(logits, -1), shares)
    loss = F.cross_entropy(logits, targets[0].long())
    loss.backward()
    torch.testing.assert_close(logits.grad, gradient)
    assert (
        f"their mean is {loss.item():.3f}, the perplexity {perplexity(loss.item()):.3f}" in THEORY
    )
    assert f"log 4 = {math.log(4):.3f} and log 2 = {math.log(2):.3f}" in THEORY


def test_the_two_steps_of_adamw() -> None:
    text = (LESSON / "theory.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([12]) \| (.*) \|$", text, re.MULTILINE)
    w, m, v = 1.0, 0.0, 0.0
    for (t, cells), g in zip(rows, (0.5, -0.25), strict=True):
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        m_hat, root = m / (1 - 0.8 ** int(t)), math.sqrt(v / (1 - 0.9 ** int(t)))
        decay, step = 0.1 * 0.5 * w, 0.1 * m_hat / root
        w = w - decay - step
        shown = [float(cell) for cell in cells.split(" | ")]
        truth = [m, v, m_hat, root, decay, step, w]
        for mine, theirs in zip(truth, shown, strict=True):
            assert math.isclose(mine, theirs, abs_tol=6e-6)


def test_units_and_first_losses() -> None:
    assert f"a nat is {bits_per_char(1):.3f} bits" in THEORY
    assert f"{math.log(1000):.2f} for a thousand tokens" in THEORY


def test_the_ends_of_a_warmup() -> None:
    options = {"max_steps": 100, "warmup_steps": 10, "min_ratio": 0.1}
    assert warmup_cosine(0, **options) == 0.1 and warmup_cosine(9, **options) == 1
    assert "step 0 gets a tenth, and step 9 the peak" in THEORY


def test_the_table_of_the_formats() -> None:
    for name, bits in (("float32", "8, 23"), ("bfloat16", "8, 7"), ("float16", "5, 10")):
        info = torch.finfo(getattr(torch, name))
        largest = f"{info.max:.0f}" if name == "float16" else f"{info.max:.2g}".replace("+", "")
        row = f"| {name} | {bits} | {largest} | {info.smallest_normal:.2g} | {info.eps:.2g} |"
        assert row in THEORY


def test_four_times_as_many_windows_have_half_the_noise() -> None:
    losses = torch.randn(1000, 64, dtype=torch.float64)
    few, many = losses[:, :16].mean(1).std(), losses.mean(1).std()
    assert abs(few / many - 2) < 0.15


# --- reading_curves.md ---


def test_each_curve_shows_its_symptom() -> None:
    found, guess = MEASURED["sick"], math.log(sick_runs.vocabulary().vocab_size)
    floor = sick_runs.unigram_entropy()
    assert f"log 61 = {guess:.2f}" in CURVES and f"frequencies, {floor:.2f}" in CURVES
    train, val = (
        {name: curves[part] for name, curves in found.items()} for part in ("train", "val")
    )
    last = {name: sum(losses[-20:]) / 20 for name, losses in train.items()}
    assert set(found) == {sick_runs.SOUND, *sick_runs.BUGS}
    for name in found:
        if name != "targets not shifted":
            assert abs(train[name][0] - guess) < 0.05
    assert last["sound"] < 1.9 and abs(val["sound"][-1] - last["sound"]) < 0.1
    assert (
        last["too little text"] < 0.3
        and val["too little text"][-1] > min(val["too little text"]) + 1
    )
    assert max(abs(x - guess) for x in train["optimizer holds another model"]) < 0.05
    assert min(train["gradients never zeroed"]) > floor - 0.1
    assert max(train["gradients never zeroed"][100:]) > guess + 0.5
    assert max(train["targets not shifted"][50:]) < 0.05
    assert f"{train['targets not shifted'][0]:.1f}, where equal probabilities" in CURVES
    assert last["validation text has its own vocabulary"] == last["sound"]
    assert val["validation text has its own vocabulary"][-1] > guess + 1
    flat = train["schedule too short"][60:]
    assert floor - 1 < min(flat) and max(flat) - min(flat) < 0.4 and last["sound"] < min(flat)
    assert floor < last["softmax before the loss"] < guess - 0.1
    jump = train["one source after the other"]
    assert max(jump[200:205]) > max(jump[150:200]) + 1
    assert min(val["one source after the other"]) > floor - 0.1


def test_the_curves_start_where_they_started_when_they_were_measured() -> None:
    for bug in sick_runs.BUGS:
        _, again = sick_runs.run(bug, n_steps=3)
        before = torch.tensor(MEASURED["sick"][bug]["train"][:3])
        assert torch.allclose(torch.tensor(again.train), before, atol=0.02), bug


def test_the_letters_of_the_exercise_are_those_of_the_picture(draw: ModuleType) -> None:
    text = (LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8")
    assert set(draw.LETTERS.values()) == set(sick_runs.BUGS)
    for letter, name in draw.LETTERS.items():
        assert f'"{name}": "{letter}"' in text


def test_a_softmax_of_shares_is_never_sharp() -> None:
    V = sick_runs.vocabulary().vocab_size
    assert f"here {math.e / (math.e + V - 1):.3f}" in CURVES


def test_the_samples_are_those_that_were_measured() -> None:
    raw = (LESSON / "reading_curves.md").read_text(encoding="utf-8")
    samples = MEASURED["samples"]
    for sample in samples:
        assert f"**Loss {sample['loss']:.2f}**, after {sample['step']:,} steps:" in raw
        assert sample["text"].strip() in raw
    copied = [sample["copied"] for sample in samples]
    assert f"is {copied[0]}, {copied[1]}, {copied[2]} and {copied[3]} characters long" in CURVES
    first, *_, third, last = samples
    assert f"From {first['loss']:.2f} to {last['loss']:.2f} nats" in CURVES
    assert round(math.exp(first["loss"])) == 11 and abs(math.exp(last["loss"]) - 4.5) < 0.05
    assert abs(bits_per_char(first["loss"] - last["loss"]) - 4 / 3) < 0.05
    assert f"It took {first['step']} steps to the first text" in CURVES
    assert f"{last['step'] - third['step']} from the third to the fourth" in CURVES
    model = loss_samples.configuration(65).model
    assert round(12 * model.d_model**2 * model.n_layers / 1e6, 1) == 1.8


def test_the_copies_are_those_that_were_measured() -> None:
    raw = (LESSON / "reading_curves.md").read_text(encoding="utf-8")
    for found in MEASURED["copies"].values():
        assert found["text"].strip() in raw
        assert f"at most {found['copied']} characters in a row are copied" in raw
    copied = MEASURED["copies"]["too little text"]
    assert f"{copied['copied']} characters, and where" in CURVES
    source, _ = sick_runs.texts("too little text")
    assert loss_samples.n_copied(copied["text"], source) == copied["copied"]


# --- tokenizers.md ---


def test_every_merge_of_the_example() -> None:
    words = {tuple(map(ord, word)): n for word, n in (("the", 5), ("then", 2), ("hen", 3))}
    spelled = {ord(letter): letter for letter in "then"}
    merges = {}
    for step in range(4):
        counts = count_pairs(words)
        names = {" ".join(spelled[i] for i in pair): n for pair, n in counts.items()}
        size = sum(len(word) * n for word, n in words.items())
        assert f"| {size} |" in TOKENIZERS
        shown = ", ".join("·".join(spelled[i] for i in word) for word in words)
        assert f"| {shown} | {size} |" in TOKENIZERS
        if step == 3:
            break
        told = ", ".join(f"{name}: {n}" for name, n in names.items())
        assert f"| {told} |" in TOKENIZERS
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        new_id = 300 + step
        merges[best] = new_id
        spelled[new_id] = spelled[best[0]] + spelled[best[1]]
        words = {tuple(merge_pair(word, best, new_id)): n for word, n in words.items()}
    assert [spelled[new_id] for new_id in merges.values()] == ["he", "the", "hen"]
    found = [spelled[i] for i in apply_merges([ord(letter) for letter in "then"], merges)]
    assert found == ["the", "n"] and "wins: *the·n*" in TOKENIZERS


def test_the_price_of_a_vocabulary() -> None:
    assert 2 * 2048 * 128 == 524_288 and 4 * 12 * 128**2 == 786_432
    for number in ("524,288", "786,432"):
        assert number in TOKENIZERS
    assert [len(letter.encode()) for letter in "é語"] == [2, 3]


def test_the_table_of_the_models_with_each_kind_of_token() -> None:
    assert TOKENS["text"] == "shakespeare" and not TOKENS["quick"]
    rows = TOKENS["training"]
    assert [(row["tokenizer"], row["vocab_size"]) for row in rows] == [
        ("char", 65),
        ("bpe", 512),
        ("bpe", 1024),
    ]
    assert {(row["context"], row["total_tflop"]) for row in rows} == {(64, 1.08)}
    assert "same 1.08 × 10¹² operations" in TOKENIZERS
    for name, row in zip(("65 characters", "BPE, 512", "BPE, 1,024"), rows, strict=True):
        counts = " | ".join(f"{row[key]:,}" for key in ("parameters", "steps", "characters_read"))
        nats, bits = (
            ", ".join(f"{run[key]:.3f}" for run in row["runs"]) for key in ("loss", "bits_per_char")
        )
        assert f"| {name} | {counts} | {nats} | {bits} |" in TOKENIZERS


def test_what_the_page_says_about_that_table() -> None:
    rows = TOKENS["training"]
    found = [[run["bits_per_char"] for run in row["runs"]] for row in rows]
    chars, small, large = (sum(bits) / 3 for bits in found)
    text = " ".join(TOKENIZERS.split())
    assert f"by {1 - small / chars:.0%} with 512 tokens, and by {1 - large / chars:.0%}" in text
    assert max(max(bits) - min(bits) for bits in found) <= 0.015
    loss = [sum(run["loss"] for run in row["runs"]) for row in rows]
    assert 1.9 < loss[2] / loss[0] < 2.2  # "doubles"
    seen = [64 * row["chars_per_predicted_token"] for row in rows]
    assert f"{seen[0]:.0f} characters, or about {seen[1]:.0f} and {seen[2]:.0f} with" in TOKENIZERS
    read = [row["characters_read"] / rows[0]["characters_read"] for row in rows[1:]]
    assert f"reads {read[0]:.1f} or {read[1]:.1f} times as much text" in TOKENIZERS


def test_the_table_beside_the_library() -> None:
    library = TOKENS["library"]
    assert f"tokenizers) {library['version']}, on one thread" in TOKENIZERS
    assert f"on the {library['megabytes']:.1f} MB of" in TOKENIZERS
    for row in library["rows"]:
        training, encoding = (
            ", ".join(f"{row[f'{whose}_{what}']['median']:.2f}" for whose in ("our", "library"))
            for what in ("training", "encoding")
        )
        assert row["tokens"] == row["library_tokens"]
        cells = f"| {row['merges']:,} | {training} | {encoding} | {row['tokens']:,} |"
        assert cells in TOKENIZERS
        assert row["our_encoding"]["median"] < row["library_encoding"]["median"]
    slower = [
        row["our_training"]["median"] / row["library_training"]["median"] for row in library["rows"]
    ]
    assert f"takes {min(slower):.1f} to {max(slower):.1f} times as long" in TOKENIZERS
    last = library["rows"][-1]
    assert last["in_both"] == last["equal_with_our_byte_order"] == last["merges"] == 4096
    assert f"{last['equal_with_its_byte_order']:,} are at the same place" in TOKENIZERS


# --- muon.md ---


def test_the_example_of_two_directions() -> None:
    gradient, adam, muon = (matrix.double() for matrix in matrices("muon.md"))
    u, s, vt = torch.linalg.svd(gradient)
    assert [round(value, 6) for value in s.tolist()] == [3, 0.3]
    torch.testing.assert_close(u @ vt, muon)
    torch.testing.assert_close(gradient / gradient.abs(), adam)
    torch.testing.assert_close(adam @ torch.tensor([1.0, -1.0]).double(), torch.zeros(2).double())


def test_five_steps_bring_singular_values_between_the_bounds() -> None:
    s = torch.linspace(0.0016, 1, 200_001, dtype=torch.float64)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert f"between {s.min().item():.2f} and {s.max().item():.2f}" in MUON


def test_how_much_small_values_grow() -> None:
    three = math.prod(a for a, _, _ in POLAR_EXPRESS)
    assert f"grows {int(three)}-fold at most, and by five steps {3.4445**5:.0f}-fold" in MUON


def test_what_muon_costs_and_gains() -> None:
    assert f"{3 * 128 / 2048:.0%} for the `laptop` preset" in MUON
    assert f"{3 * 4096 / 4e6:.1%} for a model" in MUON
    rows = (LESSON.parent / "09_capstone" / "ablations.md").read_text(encoding="utf-8")
    for name, said in (
        ("laptop", "loss of {} in 400 steps"),
        ("without muon", "and {} with AdamW"),
        ("five Newton-Schulz steps", "it reaches {}."),
    ):
        row = re.findall(rf"^\| {name} \|.*$", rows, re.MULTILINE)[0]
        loss = float(row.split("|")[3])
        assert said.format(f"{loss:.2f}") in MUON


# --- scaling.md ---


def test_the_table_of_the_nine_runs() -> None:
    found = MEASURED["scaling"]
    sizes = {scaling_runs.n_block_weights(int(key)): x for key, x in found["by_size"].items()}
    texts = {scaling_runs.n_characters(int(key)): x for key, x in found["by_steps"].items()}
    for (n, loss), (d, other) in zip(sizes.items(), texts.items(), strict=True):
        assert f"| {n:,} | {loss:.3f} | | {d:,} | {other:.3f} |" in SCALING
    assert f"{scaling_runs.floor():.3f} nats per character" in SCALING
    assert max(sizes) / min(sizes) == 72 and max(texts) / min(texts) == 16


def test_what_the_page_says_about_the_laws() -> None:
    found, lowest = MEASURED["scaling"], scaling_runs.floor()
    sizes = [scaling_runs.n_block_weights(int(key)) for key in found["by_size"]]
    texts = [scaling_runs.n_characters(int(key)) for key in found["by_steps"]]
    exponents, shrinks, slopes = [], [], []
    for name, xs, losses in (
        ("N", sizes, list(found["by_size"].values())),
        ("D", texts, list(found["by_steps"].values())),
    ):
        runs = list(zip(xs, losses, strict=True))
        _, exponent = scaling_runs.law_through(runs[0], runs[-1], lowest)
        exponents.append(f"{exponent:.2f}")
        shrinks.append(f"{2**-exponent:.2f}")
        a, alpha = scaling_runs.law_through(runs[0], runs[-2], lowest)
        predicted = lowest + a * xs[-1] ** -alpha
        assert f"| {name} = {xs[-1]:,} | {predicted:.3f} | {losses[-1]:.3f} |" in SCALING
        for i in (0, 3):
            _, local = scaling_runs.law_through(runs[i], runs[i + 1], lowest)
            slopes.append(f"{local:.2f}")
    assert "through the first and the fourth run only" in SCALING
    assert f"α = {exponents[0]} and β = {exponents[1]}" in SCALING
    assert f"leaves {shrinks[0]} of" in SCALING and f"twice as much text {shrinks[1]}" in SCALING
    assert f"from {slopes[0]} to {slopes[1]}, and from {slopes[2]} to {slopes[3]}" in SCALING


def test_the_shortest_run_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first three steps of the smallest model: the corpus is cut, which changes little."""
    from utils.mock_corpus import generate

    monkeypatch.setattr(scaling_runs, "generate", lambda n: generate(60_000))
    scaling_runs.corpus.cache_clear()
    loss = scaling_runs.final_loss(16, 4)
    scaling_runs.corpus.cache_clear()
    assert 2.5 < loss < math.log(57)


def test_a_power_law_is_found_again() -> None:
    first, second = ((n, 0.4 + 3 * n**-0.3) for n in (10, 1000))
    a, alpha = scaling_runs.law_through(first, second, 0.4)
    assert math.isclose(a, 3) and math.isclose(alpha, 0.3)


def test_memory_of_a_large_model() -> None:
    assert 16 * 7 == 112 and 112 / 8 == 14 and 15_000 / 8 == 1875
    assert entropy_rate().nats_per_char == scaling_runs.floor()
    for said in ("takes 112 GB", "| FSDP | 14 GB", "1,875 per weight"):
        assert said in SCALING


def test_the_block_about_fsdp_names_what_pytorch_has() -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    assert callable(fsdp.fully_shard) and "import fully_shard" in SCALING


def test_the_pages_show_what_the_programs_print(capsys: pytest.CaptureFixture[str]) -> None:
    data_parallel.main()
    assert capsys.readouterr().out.strip() in (LESSON / "scaling.md").read_text(encoding="utf-8")
    optimizers.main()
    lines = capsys.readouterr().out.rstrip().splitlines()[1:]
    readme = (LESSON / "README.md").read_text(encoding="utf-8")
    for line in lines:
        name, *numbers = line.split()
        (shown,) = re.findall(rf"^  {name} (.*)$", readme, re.MULTILINE)
        for mine, theirs in zip(numbers, shown.split(), strict=True):
            assert math.isclose(float(mine), float(theirs), rel_tol=0.05)


# --- all pages ---


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = """
        kept = targets != (-1 if ignore_index is None else ignore_index)
        logits, targets = logits[kept], targets[kept]
        at_target = logits.gather(-1, targets[:, None])[:, 0]
        return (logits.exp().sum(-1).log() - at_target).mean()
    """
    shown = shown_to_learner("6.4", body)
    assert shown in (LESSON / "README.md").read_text(encoding="utf-8")
