"""The numbers of the pages that no code block prints.

What takes minutes to generate and count is kept in pictures/measured.json, which
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
from torch import Tensor

from beam_search import best_extensions, length_normalized
from decoding_loop import window_start
from play_quality import score, written_lines
from small_model import MODEL, TRAINING, load_small_model
from speculative import residual_distribution
from stop_string import StopStrings
from temperature import apply_temperature
from top_p import min_p_filter, top_p_filter

LESSON = Path(__file__).resolve().parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in LESSON.glob("*.md")}
MEASURED = json.loads((LESSON / "pictures" / "measured.json").read_text(encoding="utf-8"))
MATRIX = re.compile(r"\\begin\{bmatrix\}(.*?)\\end\{bmatrix\}", re.DOTALL)


def matrices(page: str) -> list[Tensor]:
    """Every matrix of a page, in order."""
    bodies = [" ".join(body.split()) for body in MATRIX.findall(PAGES[page])]
    return [
        torch.tensor(
            [[float(cell) for cell in row.split("&")] for row in body.split("\\\\")],
            dtype=torch.float64,
        )
        for body in bodies
    ]


def words(page: str) -> str:
    """A page with its line breaks as spaces."""
    return " ".join(PAGES[page].split())


def bits(p: Tensor) -> float:
    return -torch.special.xlogy(p, p).sum().item() / math.log(2)


# --- theory.md ---


def test_the_small_model_is_as_described() -> None:
    model, tokenizer = load_small_model()
    said = f"{MODEL.n_layers} layers, {MODEL.d_model} features, a context of {MODEL.max_seq_len}"
    assert said in words("theory")
    assert f"Its tokens are {tokenizer.vocab_size} characters" in words("theory")
    assert model.config.n_layers == MODEL.n_layers and TRAINING["max_steps"] == 4000


def test_entropies_and_temperatures_by_hand() -> None:
    p = torch.tensor([0.75, 0.25], dtype=torch.float64)
    surprise = [f"{-math.log2(x):.3g}" for x in p.tolist()]
    assert f"the surprises are {surprise[0]} and {surprise[1]}" in words("theory")
    assert f"{bits(p):.3f} bits" in words("theory")
    logits = torch.tensor([0.8, 0.2], dtype=torch.float64).log()
    for temperature, shown in ((0.5, "0.941"), (2.0, "0.667")):
        first = apply_temperature(logits, temperature).softmax(-1)[0].item()
        assert f"{first:.3f}" == shown and shown in words("theory")


def test_the_worked_example_of_the_filters() -> None:
    p, ordered, sums, nucleus, sharper = (matrix[0] for matrix in matrices("theory"))
    torch.testing.assert_close(p.sort(descending=True).values, ordered)
    torch.testing.assert_close(ordered.cumsum(0), sums)
    logits = p.log()
    torch.testing.assert_close(top_p_filter(logits, 0.8).softmax(-1), nucleus, rtol=0.0, atol=6e-4)
    torch.testing.assert_close(min_p_filter(logits, 0.3).softmax(-1), nucleus, rtol=0.0, atol=6e-4)
    assert f"divided by their sum {p.square().sum():.4f}" in words("theory")
    squared = apply_temperature(logits, 0.5).softmax(-1)
    torch.testing.assert_close(squared, sharper, rtol=0.0, atol=6e-4)
    assert top_p_filter(squared.log(), 0.8).isfinite().sum() == 2
    assert "0.557 + 0.313 = 0.870" in words("theory")


def test_the_rules_of_the_picture_are_those_of_the_table(draw: ModuleType) -> None:
    def left(rule: str) -> list[int]:
        return [
            int(draw.RULES[rule](draw.logits_after(text)).isfinite().sum())
            for text in (draw.NARROW, draw.OPEN)
        ]

    assert left("greedy") == [1, 1] and left("top-k 4") == [4, 4]
    assert left("top-p 0.8") == [3, 10] and "three bars are left above, ten below" in words(
        "theory"
    )
    assert left("min-p 0.2") == [4, 9] and "four above, nine below" in words("theory")
    assert left("temperature 0.5") == left("temperature 2") == [57, 57]


def test_the_letters_of_the_exercise_are_those_of_the_picture(draw: ModuleType) -> None:
    text = (LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8")
    for letter, rule in draw.LETTERS.items():
        assert f'"{rule}": "{letter}"' in text


def test_the_table_of_quality_is_what_was_measured() -> None:
    found = MEASURED["quality"]
    rows = re.findall(
        r"^\| (temperature|top-[kp]|min-p) ([\d.]+) \| (0.*|1.*) \|$", PAGES["theory"], re.M
    )
    assert len(rows) == 9
    for rule, value, cells in rows:
        valid, different, _, word_pairs = found[rule][value]
        shown = [float(cell) for cell in cells.split(" | ")]
        assert shown == pytest.approx([valid, different, word_pairs], abs=0.00501)
    lines = written_lines(320)
    plays = score(lines, lines)
    row = f"| {plays.valid:.2f} | {plays.different:.2f} | {plays.word_pairs:.2f} |"
    assert f"| the plays themselves {row}" in PAGES["theory"]


def test_what_the_page_says_about_quality() -> None:
    found = MEASURED["quality"]
    both = {float(t): row[2] for t, row in found["temperature"].items()}
    assert max(both, key=lambda t: both[t]) == 0.2
    assert found["temperature"]["0"][0] == 1 and found["temperature"]["0"][1] == 8 / 320
    said = {"temperature": ("0.85", 0.70), "top-p": ("0.95", 0.80), "min-p": ("0.1", 0.81)}
    for rule, (value, valid) in {**said, "top-k": ("10", 0.67)}.items():
        row = found[rule][value]
        assert row[0] == pytest.approx(valid, abs=0.00501)
        assert row[3] == pytest.approx(0.76, abs=0.00501)
    assert "leaves 70% valid; with top-p 0.95 it is 80%, with min-p 0.1 81%" in words("theory")
    assert "with top-k 10 only 67%" in words("theory")
    valid, _, _, word_pairs = found["temperature"]["0.7"]
    assert f"at a temperature of 0.7 it is {valid:.0%}" in words("theory") and word_pairs < 0.76
    assert f"in 320 lines, a share of 80% is uncertain by {100 * math.sqrt(0.16 / 320):.0f}" in (
        words("theory")
    )


def test_two_of_the_settings_measured_again(draw: ModuleType) -> None:
    """Five lines after each opening in place of forty: about two seconds."""
    low, high = (draw.measure_quality("temperature", t, n_draws=5) for t in (0.3, 1.5))
    assert low[0] > 0.7 and high[0] < 0.5 and low[3] < high[3]


def test_what_the_page_says_about_repetition(draw: ModuleType) -> None:
    found = MEASURED["loops"]
    assert set(found) == set(draw.LOOP_RULES)
    assert f"Of the greedy lines {found['greedy'][0]:.0%} are repetitions" in words("theory")
    assert found["temperature 0.3"][0] == found["temperature 1"][0] == 0
    few, many = (found[f"greedy, frequency penalty {a}"][1] for a in ("0.05", "0.5"))
    assert f"with 0.05 per occurrence, {few:.0%} of the lines are valid, with 0.5, {many:.0%}" in (
        words("theory")
    )
    gentle = found["greedy, repetition penalty 1.2"]
    assert gentle[0] / found["greedy"][0] == pytest.approx(0.5, abs=0.05)
    assert f"and {gentle[1]:.0%} stay valid" in words("theory")


def test_the_pieces_of_the_stop_string() -> None:
    stop = StopStrings(["\n\n"])
    shown = [stop.feed(piece) for piece in ("be", "\n", "or", "\n", "\n")]
    assert shown == ["be", "", "\nor", "", ""] and stop.finished


# --- kv_cache.md ---


def test_the_memory_of_the_cache() -> None:
    small = 2 * MODEL.n_layers * MODEL.kv_heads * MODEL.d_head * 4
    assert f"= {small:,} bytes" in words("kv_cache")
    assert f"takes {small * MODEL.max_seq_len:,}" in words("kv_cache")
    for layers, heads, row in (
        (32, 32, "| 512 KiB | 4,096 | 2 GiB |"),
        (32, 8, "| 128 KiB | 8,192 | 1 GiB |"),
        (32, 8, "| 128 KiB | 131,072 | 16 GiB |"),
    ):
        per_token = 2 * layers * heads * 128 * 2
        context = int(row.split("|")[2].replace(",", ""))
        shown = f"| {per_token // 1024} KiB | {context:,} | {per_token * context // 2**30} GiB |"
        assert shown == row and row in PAGES["kv_cache"]


def test_the_positions_that_a_cache_saves(draw: ModuleType) -> None:
    costs = [sum(draw.positions_per_token(8, 100, 32, use_cache)) for use_cache in (True, False)]
    assert f"cost {costs[0]} positions instead of {costs[1]:,}" in words("kv_cache")
    assert window_start(33, 32) == 16


# --- beam_search.md ---


def test_the_trap_and_the_sums() -> None:
    (sums,) = matrices("beam_search")
    log_probs = torch.tensor([-1.0, -1.5], dtype=torch.float64)
    following = torch.tensor([[-2.0, -0.5, -1.5], [-0.2, -3.0, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(log_probs[:, None] + following, sums)
    values, parents, tokens = best_extensions(log_probs, following, 2)
    assert values.tolist() == [-1.5, -1.7]
    assert (parents.tolist(), tokens.tolist()) == ([0, 1], [1, 0])
    assert 0.5 * 0.4 == 0.2 and math.isclose(0.4 * 0.9, 0.36)
    assert [length_normalized(-3.0, 2, 1.0), length_normalized(-6.0, 6, 1.0)] == [-1.5, -1.0]


def test_what_the_page_says_about_beams() -> None:
    found, sampled = MEASURED["beams"], MEASURED["sampled lines"]
    rates = [row[0] / row[1] for row in (found["16"], found["1"], sampled["1"])]
    said = f"is {rates[0]:.2f}, against {rates[1]:.2f} for greedy decoding and {rates[2]:.2f}"
    assert said in words("beam_search")
    assert math.exp(60 * (rates[0] - rates[1])) > 1e6
    assert min(row[2] for row in found.values()) >= 0.9
    assert f"they are {found['16'][3]} different lines for 40" in words("beam_search")
    assert f"{found['16'][4]} begin with the same four words" in words("beam_search")
    half = sampled["0.5"]
    said = f"gives {half[3]} different lines, of which {half[2]:.0%} are valid and {half[4]} begin"
    assert said.replace("87%", "88%") in words("beam_search") or said in words("beam_search")
    assert f"Its {half[0] / half[1]:.2f} per character" in words("beam_search")
    assert f"greedy decoding has {found['1'][0]:.1f}, and it {half[0]:.1f}" in words("beam_search")
    said = f"greedy decoding has {found['1'][3]} different lines, 4 beams have {found['4'][3]}"
    assert said in words("beam_search")
    plain = MEASURED["beams without a length penalty"]["16"]
    assert f"{plain[1]:.0f} characters on average, in place of {found['16'][1]:.0f}" in (
        words("beam_search")
    )


# --- speculative.md ---


def test_the_example_of_acceptance_and_residual() -> None:
    p, q, both, *parts = (matrix[0] for matrix in matrices("speculative"))
    torch.testing.assert_close(torch.minimum(p, q), both)
    assert math.isclose(both.sum().item(), 0.7)
    assert residual_distribution(p, q).tolist() == pytest.approx([1, 0, 0])
    torch.testing.assert_close(parts[0] + parts[1], p)
    torch.testing.assert_close(parts[2], p)


def test_the_tokens_per_round() -> None:
    terms = [0.8**i for i in range(5)]
    shown = "1 + 0.8 + 0.64 + 0.512 + 0.410 = 3.36"
    assert shown in words("speculative") and f"{sum(terms):.2f}" == "3.36"
    rates = {order: rate for order, (rate,) in MEASURED["acceptance"].items()}
    assert f"accepted in {rates['0']:.0%} of cases" in words("speculative")
    assert f"reaches {rates['4']:.0%}" in words("speculative")
    per_round = (1 - rates["4"] ** 5) / (1 - rates["4"])
    assert f"about {per_round:.1f} characters for one pass" in words("speculative")
    assert max(rates, key=lambda order: rates[order]) == "4"


def test_the_speeds_are_what_tools_speculative_speed_measured() -> None:
    path = LESSON / "pictures" / "speculative.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert f"{found['models']['4x128']['parameters']:,} weights" in words("speculative")
    names = {"1x32": "one layer of 32 features", "2x64": "two layers of 64 features"}
    for row in found["rows"]:
        if (row["engine"], row["n_draft"], row["temperature"]) == ("forward", 4, 0.8):
            accepted = math.floor(100 * row["accepted"] + 0.5) / 100  # 0.475 is rounded up
            assert 0 < 1 + 4 * accepted - row["tokens_per_pass"] < 0.25  # "a little less"
            cells = f"{accepted:.2f} | {row['tokens_per_pass']:.2f} | {row['speed_up']:.2f}"
            name = names[row["draft"]]
            assert f"| {name} | {cells} |" in PAGES["speculative"]
    costs = found["check_costs"][0]
    said = f"takes {costs['check_of_5_ms']:.1f} ms, an ordinary step {costs['forward_ms']:.2f}"
    assert said in words("speculative")


# --- README.md and pictures ---


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = """
        if p == 1:
            return logits
        ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
        dropped = ordered.softmax(-1).cumsum(-1) > p
        dropped = torch.zeros_like(dropped).scatter(-1, ids, dropped)
        return logits.masked_fill(dropped, -math.inf)
    """
    shown = shown_to_learner("7.6", body)
    assert shown in PAGES["README"]
