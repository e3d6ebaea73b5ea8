"""The numbers of the pages that no code block prints.

What takes minutes to train or needs Tiny Shakespeare is kept in pictures/measured.json, which
`pictures/draw.py --measure` writes: here the pages are compared with that file, and its cheapest
entries are measured again.
"""

import json
import math
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import budget_runs
import overfitting_runs
import scaling_runs
import texts_by_loss
from contamination import rolling_hashes
from model.config import PRESETS
from power_law import fit_power_law, predicted_loss
from text_statistics import distinct_n, repeated_share
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.mock_corpus import entropy_rate, generate

LESSON = Path(__file__).resolve().parents[1]
ROOT = LESSON.parent
MEASURED = json.loads((LESSON / "pictures" / "measured.json").read_text(encoding="utf-8"))
SHAKESPEARE = 1_115_394 - 111_540  # characters of its training split


def page(name: str) -> str:
    """A page of the lesson, its line breaks as spaces."""
    return " ".join((LESSON / name).read_text(encoding="utf-8").split())


THEORY, README, RUNNING, ROADMAP = map(page, ("theory.md", "README.md", "running.md", "ROADMAP.md"))
RECORD = json.loads((LESSON / "ablations.json").read_text(encoding="utf-8"))
BENCHMARKS, ABLATIONS = page("BENCHMARKS.md"), page("ablations.md")


# --- 1. what a loss means ---


def test_the_three_conversions_of_the_example() -> None:
    bits = 2.40 / math.log(2)
    per_char, floor = bits / 3.2, entropy_rate().bits_per_char
    uniform = math.log2(57)
    for said in (
        f"| 2.40 / {math.log(2):.5f} | {bits:.3f} bits per token |",
        f"| {bits:.3f} / 3.2 | {per_char:.3f} bits per character |",
        f"| 2^{per_char:.3f} | perplexity {2**per_char:.3f} per character |",
        f"it is {floor:.4f} bits per character",
        f"of these {per_char:.3f} bits, {floor:.3f} belong to the text and {per_char - floor:.3f}",
        f"log₂ 57 = {uniform:.3f} bits",
        f"({uniform:.3f} - {per_char:.3f}) / ({uniform:.3f} - {floor:.3f}) = "
        f"{(uniform - per_char) / (uniform - floor):.3f} of the way",
    ):
        assert said in THEORY, said
    assert len(set(generate(100_000))) == 57


def test_where_the_small_model_s_loss_comes_from(draw: ModuleType) -> None:
    losses, kinds = draw.target_losses()
    mean, floor = losses.mean().item(), scaling_runs.floor()
    assert f"The floor is {floor:.3f} nats, so {mean - floor:.3f} seem" in THEORY
    assert f"{round(mean, 3) - round(losses[:, 32:].mean().item(), 3):.3f} of them" in THEORY
    assert f"{(kinds == 0).float().mean():.0%} of the targets" in THEORY
    assert losses[kinds == 0].sum() > losses.sum() / 2


# --- 2. size, data, steps ---


def test_what_a_run_costs() -> None:
    for name, command in (("laptop", "train.py"), ("full", "train.py --preset full")):
        run = PRESETS[name]
        weights = 12 * run.model.d_model**2 * run.model.n_layers
        read = run.batch_size * run.model.max_seq_len * run.max_steps
        cost = 6 * weights * read
        seconds = re.findall(rf"\| `{command}` \|.*?\| (\d+) s", BENCHMARKS)[0]
        assert f"`{name}` {cost / 1e13:.2f} × 10¹³, {seconds} s" in THEORY
        if name == "laptop":
            assert f"N = {weights:,} and reads D = {read:,}" in THEORY
            assert f"{cost / 1e13:.2f} × 10¹³ operations, in about {seconds} seconds" in THEORY
            speed = round(cost / float(seconds), -9)
            assert f"so {speed / 1e9:.0f} × 10⁹ per second" in THEORY
            assert f"Ten minutes are then {600 * speed / 1e14:.1f} × 10¹⁴" in THEORY
        else:
            assert f"{weights / 1e6:.1f} million in its blocks" in THEORY
            assert math.isclose(read / SHAKESPEARE, 7.96, abs_tol=0.01)
            for lesson in ("06_training/theory.md", "09_capstone/theory.md"):
                text = (ROOT / lesson).read_text(encoding="utf-8")
                assert re.search(r"reads (Tiny Shakespeare|the text)\salmost eight times", text)


def test_the_law_by_hand() -> None:
    a, alpha = fit_power_law([10_000, 160_000], [1.2, 0.8], 0.4)
    assert math.isclose(alpha, 0.25) and math.isclose(a, 8)
    assert math.isclose(0.4 + a * 2_560_000**-alpha, 0.6) and 40**4 == 2_560_000
    assert 2_560_000 == 256 * 10_000 and math.isclose((0.6 - 0.4) / (1.2 - 0.4), 1 / 4)


def test_lesson_06_s_predictions_were_too_good_by_what_the_page_says() -> None:
    rows = re.findall(
        r"^\| [ND] = [\d,]+ \| ([\d.]+) \| ([\d.]+) \|",
        (ROOT / "06_training" / "scaling.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    missed = {f"{float(measured) - float(predicted):.2f}" for predicted, measured in rows}
    assert len(rows) == 2 and len(missed) == 1
    assert f"in lesson 06 both were too good, by {missed.pop()} each" in THEORY


def lowest_points() -> list[tuple[float, float]]:
    """For each budget: the weights and the characters at the lowest point of a parabola."""
    found = []
    for budget, row in MEASURED["budgets"].items():
        sizes = np.log([scaling_runs.n_block_weights(int(d_model)) for d_model in row])
        losses = np.array(list(row.values()))
        best = int(losses.argmin())
        three = slice(best - 1, best + 2)  # a best size at the end would make this fail
        curve = np.polyfit(sizes[three], losses[three], 2)
        weights = math.exp(-curve[1] / (2 * curve[0]))
        found.append((weights, budget_runs.n_operations(int(budget)) / (6 * weights)))
    return found


def test_the_best_sizes_of_three_budgets() -> None:
    points = lowest_points()
    sizes = [f"{round(weights, -2):,.0f}" for weights, _ in points]
    assert f"{sizes[0]}, {sizes[1]} and {sizes[2]} weights" in THEORY
    grown = [(n2 / n1, d2 / d1) for (n1, d1), (n2, d2) in pairwise(points)]
    by_size = sorted(f"{size:.1f}" for size, _ in grown)
    by_text = sorted(f"{text:.1f}" for _, text in grown)
    assert f"grow by {' to '.join(by_size)} and {' to '.join(by_text)}" in THEORY
    per_weight = [f"{text / size:.0f}" for size, text in points]
    assert f"our three have {per_weight[0]}, {per_weight[1]} and {per_weight[2]}" in THEORY
    costs = [budget_runs.n_operations(int(budget)) for budget in MEASURED["budgets"]]
    assert f"{costs[0]:.0e}" == "5e+10" and [cost / costs[0] for cost in costs] == [1, 4, 16]
    largest = MEASURED["budgets"]["1600"]
    more = scaling_runs.n_block_weights(64) / scaling_runs.n_block_weights(48)
    lost = largest["64"] - min(largest.values())
    assert f"{more:.1f} times as many weights as the best size cost {lost:.2f} nats" in THEORY


def test_budgets_and_lesson_06_agree_where_they_trained_the_same_model() -> None:
    path = ROOT / "06_training" / "pictures" / "measured.json"
    by_steps = json.loads(path.read_text(encoding="utf-8"))["scaling"]["by_steps"]
    for budget, row in MEASURED["budgets"].items():
        assert row[str(budget_runs.MIDDLE)] == by_steps[budget]
        assert all(
            budget_runs.steps_for(int(d_model), int(budget)) <= budget_runs.MOST_STEPS
            for d_model in row
        )


# --- 3. overfitting ---


def test_what_the_four_runs_did() -> None:
    runs = (MEASURED["overfitting"][name] for name in overfitting_runs.RUNS)
    little, dropout, decayed, everything = runs
    read = overfitting_runs.N_STEPS * overfitting_runs.BATCH_SIZE * overfitting_runs.T
    assert f"have {overfitting_runs.LITTLE:,} characters, which they read" in THEORY
    assert f"they read {read / overfitting_runs.LITTLE:.0f} times" in THEORY
    best, lowest = min(little["val"]), min(decayed["val"])
    step = little["steps"][little["val"].index(best)]
    decayed_step = decayed["steps"][decayed["val"].index(lowest)]
    train = sum(little["train"][-25:]) / 25
    assert f"best after {step} steps, at {best:.2f}; then it rises to {little['val'][-1]:.2f}" in (
        THEORY
    )
    assert f"the training loss falls to {train:.2f}" in THEORY
    assert f"doesn't get lower either: {min(dropout['val']):.2f}" in THEORY
    assert dropout["val"][-1] < min(dropout["val"]) + 0.04 and min(dropout["val"]) > best
    said = f"best after {decayed_step} steps, at {lowest:.2f}, and ends at {decayed['val'][-1]:.2f}"
    assert said in THEORY
    assert PRESETS["full"].weight_decay == 0.5 and PRESETS["full"].model.dropout == 0
    assert f"the same model is at {everything['val'][-1]:.2f}, and both curves still" in THEORY
    assert everything["val"][-1] == min(everything["val"])


def test_the_first_steps_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the mock plays, which are everywhere: the curves are kept as they are for Shakespeare."""
    monkeypatch.setattr(overfitting_runs, "N_VAL", 1025)
    monkeypatch.setattr(overfitting_runs, "load_corpus", lambda: texts_by_loss.load_corpus("mock"))
    curves = overfitting_runs.run(5_000, 0.0, 0.0, max_steps=25)
    assert len(curves.train) == 25 and curves.steps == [25]
    assert abs(curves.train[0] - math.log(57)) < 0.1 and curves.val[0] < 3.5


# --- 4. ablations ---


def test_the_table_of_the_pairs() -> None:
    base, change = [1.60, 1.63, 1.59], [1.57, 1.61, 1.56]
    differences = [new - old for old, new in zip(base, change, strict=True)]
    for seed, (old, new, difference) in enumerate(zip(base, change, differences, strict=True)):
        assert f"| {seed} | {old:.2f} | {new:.2f} | {difference:.2f} |" in THEORY
    means = [f"{statistics.mean(row):.3f}" for row in (base, change, differences)]
    deviations = [statistics.stdev(row) for row in (base, change, differences)]
    assert f"| mean | {' | '.join(means)} |" in THEORY
    shown = " | ".join(f"{deviation:.3f}" for deviation in deviations)
    assert f"| standard deviation (n - 1) | {shown} |" in THEORY
    paired = deviations[2] / math.sqrt(3)
    alone = math.sqrt((deviations[0] ** 2 + deviations[1] ** 2) / 3)
    assert f"{deviations[2]:.3f} / √3 = {paired:.3f}" in THEORY
    assert f"³ / 3 + {deviations[1]:.3f}" in THEORY.replace("²", "³")
    assert f"= {alone:.3f}. Then the same six numbers" in THEORY
    mean = -statistics.mean(differences)
    assert round(mean / paired) == 8 and f"{mean / alone:.1f} standard errors" in THEORY
    beyond_three = 1 - 3 / math.sqrt(2 + 3**2)  # Student's t with 3 - 1 degrees of freedom
    assert round(20 * beyond_three) == 2 and "twenty changes that do nothing, two are" in THEORY


def runs_by_seed() -> dict[str, dict[int, float]]:
    """The losses of each configuration of ablations.json, by seed."""
    losses: dict[str, dict[int, float]] = {}
    for run in RECORD["runs"]:
        losses.setdefault(run["config"], {})[run["seed"]] = run["val_loss"]
    return losses


def test_what_pairs_gain_in_the_ablations_of_the_course() -> None:
    losses, variant = runs_by_seed(), RECORD["variants"]
    rows = [row for table in RECORD["tables"].values() for row in table if row["compared"]]
    pairs = {frozenset((variant[row["name"]], variant[row["compared"]])) for row in rows}
    ratios = []
    for one, other in map(sorted, pairs):
        differences = [loss - losses[other][seed] for seed, loss in losses[one].items()]
        alone = sum(statistics.variance(losses[name].values()) for name in (one, other))
        ratios.append(statistics.stdev(differences) / math.sqrt(alone))
    said = (
        f"{min(ratios):.2f} to {max(ratios):.2f} times the other, {statistics.median(ratios):.2f}"
    )
    assert (
        f"In the {len(ratios)} comparisons of ablations.md, the error in pairs is {said}" in THEORY
    )
    assert sum(ratio > 1 for ratio in ratios) == 4 and "four times it is even larger" in THEORY


def test_how_much_two_seeds_differ() -> None:
    differ = [
        abs(one - other)
        for by_seed in runs_by_seed().values()
        for one, other in combinations(by_seed.values(), 2)
    ]
    said = f"{statistics.mean(differ):.3f} on average, and up to {max(differ):.2f}"
    assert f"differ by {said}" in README and f"differ by {said}" in ROADMAP


def test_what_the_law_predicts_from_the_losses_of_the_roadmap() -> None:
    block = re.search(r"fit_power_law\(sizes, \[(.*?)\], 0.9\)", ROADMAP)
    assert block is not None
    losses = [float(loss) for loss in block[1].split(",")]
    a, alpha = fit_power_law([12 * 4 * d_model**2 for d_model in (64, 96, 128)], losses, 0.9)
    predicted = predicted_loss(12 * 4 * 192**2, 0.9, a, alpha)
    assert f"The law predicts {predicted:.2f} from them" in ROADMAP


def test_what_the_ablations_of_the_course_say() -> None:
    assert "seven changes separate GPT-2's recipe" in THEORY and "are 7 changes apart" in ABLATIONS
    total = re.findall(r"changes from [\d.]+ to [\d.]+: -([\d.]+)\.", ABLATIONS)[0]
    assert f"lower the loss by {float(total):.2f}" in THEORY
    row = r"\| \+ ([\w-]+)(?: = laptop)? \|[^|]+\|[^|]+\|[^|]+\| ([+-][\d.]+ ?~?)"
    added = dict(re.findall(row, ABLATIONS))
    assert added["rmsnorm"].endswith("~") and added["wsd"].endswith("~")
    assert added["untied"].startswith("+") and not added["untied"].endswith("~")
    assert -float(added["rope"]) - float(added["muon"]) > 0.9 * float(total)
    minutes, runs = (re.findall(p, ABLATIONS)[0] for p in (r"took ([\d.]+) min", r"The (\d+) runs"))
    assert f"{runs} runs of ablations.md: {float(minutes):.0f} minutes" in THEORY


# --- 5. texts ---


def test_the_table_of_the_texts(draw: ModuleType) -> None:
    for name, entry in MEASURED["texts"].items():
        row = f"| {entry['loss']:.2f} | {entry['existing']:.0%} |"
        first = "a table of pairs" if name == "a bigram table" else f"after {entry['step']:,} steps"
        assert f"| {first} {row}" in THEORY
        assert len(entry["texts"]) == texts_by_loss.N_TEXTS
        assert {len(text) for text in entry["texts"]} == {texts_by_loss.N_CHARACTERS}
    assert f"Over {texts_by_loss.N_TEXTS * texts_by_loss.N_CHARACTERS:,} characters" in THEORY
    assert f"has not seen, {MEASURED['validation']['existing']:.0%} of the words do" in THEORY
    losses = [entry["loss"] for name, entry in MEASURED["texts"].items() if "table" not in name]
    *most, last = [f"{loss:.1f}" for loss in losses]
    assert f"at validation losses of {', '.join(most)} and {last} nats" in THEORY


def test_the_letters_of_the_exercise_are_those_of_the_picture(draw: ModuleType) -> None:
    text = (LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8")
    for letter, name in draw.LETTERS.items():
        assert f'"{name}": "{letter}"' in text
    found = {draw.name_in_exercise(name, entry) for name, entry in MEASURED["texts"].items()}
    assert found == set(draw.LETTERS.values())


def test_each_panel_is_typical_of_its_loss(draw: ModuleType) -> None:
    """The better the model, the more words of its panel exist: so the exercise can be answered."""
    shares = []
    for entry in sorted(MEASURED["texts"].values(), key=lambda entry: entry["existing"]):
        place = entry["texts"].index(draw.typical(entry))
        assert abs(entry["shares"][place] - entry["existing"]) < 0.06
        shares.append(entry["shares"][place])
    assert all(after > before + 0.05 for before, after in pairwise(shares))


def test_existing_words_are_counted_without_the_last_which_may_be_cut_off() -> None:
    assert texts_by_loss.existing_words(["The kng's so th"], "the king is so old") == 2 / 3
    assert texts_by_loss.existing_words(["To be", "or"], "to") == 1
    assert texts_by_loss.existing_words([""], "to") == 0


def test_a_short_run_writes_at_each_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_by_loss, "SHORT", 60)  # longer than the preset's warm-up
    monkeypatch.setattr(texts_by_loss, "N_CHARACTERS", 20)
    train_text, val_text = generate(20_000), generate(1000, seed=1)
    tokenizer = CharTokenizer.train(train_text + val_text)
    val_tokens = tokenizer.encode_array(val_text)
    writer = texts_by_loss.WriteAtLosses(tokenizer, train_text, val_tokens, (3.5, -math.inf))
    tiny = texts_by_loss.configuration(tokenizer.vocab_size)
    config = replace(tiny, model=replace(tiny.model, d_model=16, n_layers=1, n_heads=2))
    monkeypatch.setattr(texts_by_loss, "configuration", lambda vocab_size: config)
    texts_by_loss.train_short(tokenizer.encode_array(train_text), val_tokens, writer)
    first, last = writer.found
    assert first.step < last.step == 60 and first.loss < 3.5
    assert [len(text) for text in first.texts] == [20] * texts_by_loss.N_TEXTS
    assert len(first.shares) == texts_by_loss.N_TEXTS


def test_a_table_of_pairs_costs_what_its_counts_say() -> None:
    """By hand: after a came b twice, after b came a once; one is added to each of V = 2 counts."""
    expected = -(math.log(3 / 4) + math.log(2 / 3)) / 2
    assert math.isclose(texts_by_loss.pair_loss("abab", "aba"), expected, rel_tol=1e-6)


# --- 6. diversity ---


def test_the_example_of_the_pairs_of_words() -> None:
    text = "to be or not to be"
    assert distinct_n([text], 2) == 0.8 and "five are different: 0.8" in THEORY
    assert f"2 of 6 words: {repeated_share(text, 2):.3f}" in THEORY


def test_the_table_of_the_temperatures(draw: ModuleType) -> None:
    for name, (one, two, repeated, existing) in MEASURED["diversity"].items():
        row = f"| {name} | {one:.2f} | {two:.2f} | {repeated:.2f} | {existing:.0%} |"
        assert row in THEORY, row
    low, high = MEASURED["diversity"]["0.1"], MEASURED["diversity"]["1.5"]
    assert low[3] == 1 and abs(low[2] - 1 / 6) < 0.01  # "a sixth"
    assert high[2] == 0 and abs((1 - high[3]) - 1 / 12) < 0.01  # "one word in twelve"
    plays = MEASURED["diversity"]["the plays"]

    def off(name: str) -> float:
        return math.dist(MEASURED["diversity"][name], plays)

    assert min(map(str, draw.TEMPERATURES), key=off) == "1.0"


def test_the_plays_row_measured_again(draw: ModuleType) -> None:
    train_text, val_text = draw.split_text(draw.load_corpus("mock").text)
    found = draw.statistics_of(draw.pieces(val_text, 10), train_text)
    assert found == MEASURED["diversity"]["the plays"]


# --- 7. copies and contamination ---


def test_the_table_of_the_copies() -> None:
    rows = {
        "a bigram table": "a table of pairs",
        "validation": "the validation text, Shakespeare's own",
        "trained": "the trained `laptop` model",
    }
    for name, first in rows.items():
        found = MEASURED["copies"][name]
        assert len(found) == texts_by_loss.N_TEXTS
        assert f"| {first} | {statistics.median(found):g} | {max(found)} |" in THEORY
    copied = json.loads(
        (ROOT / "06_training" / "pictures" / "measured.json").read_text(encoding="utf-8")
    )["copies"]["too little text"]["copied"]
    assert f"1,000 characters to learn from copied {copied}" in THEORY


def test_the_rolling_hash_by_hand() -> None:
    assert rolling_hashes([3, 1, 4, 1, 5], 3, base=10) == [314, 141, 415]


# --- the tables at the end, and the other pages ---


def test_nanogpt_s_run_reads_its_text_as_often_as_the_table_says() -> None:
    run = PRESETS["baby_gpt"]  # the same sizes
    read = run.batch_size * run.model.max_seq_len * run.max_steps
    assert f"{read / 1e6:.0f} million characters, {read / SHAKESPEARE:.0f} times over" in THEORY


def test_the_table_of_the_presets_is_that_of_the_code() -> None:
    for name, run in PRESETS.items():
        model = run.model
        with torch.device("meta"):
            parameters = sum(p.numel() for p in TinyTransformerLM(model).parameters())
        tokens_seen = run.batch_size * model.max_seq_len * run.max_steps
        row = (
            f"| `{name}` | {model.n_layers} x {model.d_model} | {model.n_heads} "
            f"| {model.max_seq_len} | {parameters:,} | {run.batch_size} x {run.max_steps} "
            f"| {tokens_seen:,} | {run.optimizer} | {model.position} |"
        )
        assert row in RUNNING, row


def test_the_readme_and_the_roadmap_have_the_losses_of_the_benchmarks() -> None:
    full = r"\| `train.py --preset full` \| [\d,]+ \| ([\d.]+) \(([^)]+)\) \|"
    ((median, spread),) = re.findall(full, BENCHMARKS)
    assert f"a median of **{median}** nats per character ({spread})" in README
    assert f"it ends near {median}" in ROADMAP and float(median) < 1.45
    laptop = re.findall(r"\| `train.py` \| [\d,]+ \| ([\d.]+) \(", BENCHMARKS)[0]
    assert f"end near {float(laptop):.2f}" in ROADMAP


def test_the_readme_shows_the_three_runs_of_full() -> None:
    text = (LESSON / "README.md").read_text(encoding="utf-8")
    runs = json.loads((LESSON / "full_runs.json").read_text(encoding="utf-8"))
    assert [run["seed"] for run in runs] == [0, 1, 2]
    for run in runs:
        loss, bits = run["val_loss"], run["bits"]
        assert loss < 1.5 and math.isclose(loss / math.log(2), bits, abs_tol=6e-4)
        assert f"| {run['seed']} | {loss:.4f} | {bits:.3f} | {run['seconds']} s |" in text
        assert f"Seed {run['seed']}:\n\n```text\n{run['sample']}\n```" in text


def test_the_questions_of_the_readme() -> None:
    assert f"more than {3.0 / 1.4:.2f} of them per token" in README
    floor = entropy_rate()
    assert f"{floor.nats_per_char:.4f} nats ({floor.bits_per_char:.4f} bits)" in README
    assert f"{math.log(65):.2f} for 65 characters" in RUNNING


@pytest.mark.parametrize(
    ("fourth", "said", "unsaid"),
    [
        (0.954, "among the 57 characters", "decimals"),  # off by 0.0016 only
        (0.958, "compute more decimals", "among the 57 characters"),
    ],
)
def test_a_guess_among_57_characters_is_not_told_to_compute_more_decimals(
    shown_to_learner: Callable[[str, str], str], fourth: float, said: str, unsaid: str
) -> None:
    shown = shown_to_learner("9.1", f"return 0.866, 0.239, 1.822, {fourth}")
    assert said in shown and unsaid not in shown


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = """
        words = " ".join(samples).split()
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        return len(set(grams)) / len(grams) if grams else 0.0
    """
    shown = shown_to_learner("9.7", body)
    assert shown in (LESSON / "README.md").read_text(encoding="utf-8")
