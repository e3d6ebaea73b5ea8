"""The numbers of the page that no code block prints.

What takes minutes to train (each scheme beyond its trained length, RoPE stretched) is kept in
pictures/measured.json, which `pictures/draw.py --measure` writes: here the page is compared with
that file, and the measurement itself only runs for a few steps.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from position_lab import SCHEMES, T_MAX, T_TRAIN, corpus, loss_by_position
from positional_embeddings import alibi_bias, alibi_slopes, apply_rotary, sinusoidal_encoding
from relative_bias import relative_position_bucket

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "theory.md").read_text(encoding="utf-8")
MEASURED = json.loads((LESSON / "pictures" / "measured.json").read_text(encoding="utf-8"))
MATRIX = re.compile(r"\\begin\{bmatrix\}(.*?)\\end\{bmatrix\}", re.DOTALL)
NAMES = {
    "none": "none",
    "learned": "learned",
    "sinusoidal": "sinusoidal",
    "rope": "RoPE",
    "alibi": "ALiBi",
    "t5": "T5, buckets up to 32",
    "t5 up to 128": "T5, buckets up to 128",
}


def matrices() -> list[Tensor]:
    """Every matrix of numbers of the page, in order, in float64."""
    bodies = [" ".join(body.split()) for body in MATRIX.findall(PAGE)]
    return [
        torch.tensor(
            [[float(cell) for cell in row.split("&")] for row in body.split("\\\\")],
            dtype=torch.float64,
        )
        for body in bodies
        if "w" not in body
    ]


def words(text: str) -> str:
    """The text with its line breaks as spaces."""
    return " ".join(text.split())


def shown(expected: Tensor, row: Tensor) -> None:
    """The row of the page is the expected one, to its three digits."""
    torch.testing.assert_close(row, expected, rtol=0.0, atol=0.0005001)


# --- the worked example ---

ANGLES = torch.tensor([math.pi / 2, math.atan2(0.6, 0.8)], dtype=torch.float64)


def example_scores() -> Tensor:
    """(T_q, T_k), not scaled, from the reference's rotation."""
    turns = torch.arange(4, dtype=torch.float64)[:, None] * ANGLES
    q, k = (
        apply_rotary(torch.tensor(row, dtype=torch.float64).expand(4, 4), turns.cos(), turns.sin())
        for row in ([1.0, 1, 0, 0], [0.0, 1, 1, 0])
    )
    _, p, q_shown, k_shown, *_ = matrices()
    waves = torch.stack((turns.sin(), turns.cos()), dim=-1).flatten(1)
    for found, on_page in ((waves, p), (q, q_shown), (k, k_shown)):
        torch.testing.assert_close(found, on_page, rtol=0.0, atol=1e-12)
    return q @ k.mT


def test_the_worked_example_is_right_to_every_digit() -> None:
    scores = example_scores()
    *_, products, rope, alibi, t5 = matrices()
    torch.testing.assert_close(scores, products, rtol=0.0, atol=1e-12)
    last = scores[3] / 2
    assert "last row is [-0.676, 0.14, 0.9, 0.5]" in words(PAGE)
    torch.testing.assert_close(last, torch.tensor([-0.676, 0.14, 0.9, 0.5], dtype=torch.float64))
    shown(torch.softmax(last, -1), rope[0])
    bias = alibi_bias(torch.tensor([0.5]), torch.tensor([[3]]), torch.arange(4))[0, 0, 0].double()
    assert (0.5 + bias).tolist() == [-1, -0.5, 0, 0.5]
    assert "from the last row: [-1, -0.5, 0, 0.5]" in words(PAGE)
    shown(torch.softmax(0.5 + bias, -1), alibi[0])
    buckets = relative_position_bucket(torch.tensor([3, 2, 1, 0]), 4, 8)
    assert buckets.tolist() == [2, 2, 1, 0]
    learned = torch.tensor([0.0, 1, -1, -2], dtype=torch.float64)[buckets]
    assert (0.5 + learned).tolist() == [-0.5, -0.5, 1.5, 0.5]
    shown(torch.softmax(0.5 + learned, -1), t5[0])


def test_without_positions_all_weights_are_equal() -> None:
    q, k = torch.tensor([1.0, 1, 0, 0]), torch.tensor([0.0, 1, 1, 0])
    assert (q @ k).item() == 1
    assert "the scores 0.5 and the weights 0.25" in words(PAGE)


def test_the_angle_of_three_four_five() -> None:
    cos, sin = 0.8, 0.6
    assert math.isclose(cos**2 - sin**2, 0.28) and math.isclose(2 * cos * sin, 0.96)
    three = 3 * ANGLES[1].item()
    assert f"{math.cos(three):.3f} and {math.sin(three):.3f}" in words(PAGE)


# --- sentences ---


def test_the_table_of_gpt_2() -> None:
    table, whole = 50_257 * 768, 124_439_808
    assert f"{table / 1e6:.1f} million parameters, {table / whole:.0%} of the model" in words(PAGE)


def test_the_hands_of_the_clock() -> None:
    assert f"one round in {2 * math.pi:.1f} positions" in words(PAGE)
    slowest = 2 * math.pi * 10_000 ** (510 / 512)
    assert round(slowest, -2) == 60_600 and "60,600 (with d_model = 512)" in words(PAGE)


def test_rows_of_waves_know_their_distance_only() -> None:
    table = sinusoidal_encoding(64, 32).double()
    products = table @ table.T
    for distance in (1, 5, 20):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-4)


def test_slopes_and_buckets_of_the_pictures() -> None:
    assert alibi_slopes(8).tolist() == [1 / 2**n for n in range(1, 9)]
    assert f"$16^{{1/8}} = {16 ** (1 / 8):.2f}$" in PAGE
    buckets = relative_position_bucket(torch.arange(200), 16, 128)
    assert buckets[:8].tolist() == list(range(8)) and buckets[128:].eq(15).all()


# --- what was measured ---


def test_the_table_of_the_schemes_is_what_was_measured() -> None:
    found = MEASURED["extrapolation"]
    assert list(found) == list(SCHEMES) == list(NAMES)
    for scheme, runs in found.items():
        cells = [", ".join(f"{run[bin_]:.2f}" for run in runs) for bin_ in (2, 3, 5, 8)]
        assert f"| {NAMES[scheme]} | {' | '.join(cells)} |" in PAGE


def test_what_the_page_says_about_the_schemes(draw: ModuleType) -> None:
    found = {name: torch.tensor(runs) for name, runs in MEASURED["extrapolation"].items()}
    text, _ = corpus()
    shares = text.bincount() / len(text)
    floor = -torch.xlogy(shares, shares).sum().item()
    assert f"{floor:.2f}" in ("3.20", "3.21") and "3.20 is what you get" in words(PAGE)
    assert (T_TRAIN, T_MAX) == (64, 512) and draw.EDGES[3] == 64
    inside = {name: runs[:, 2].max().item() for name, runs in found.items()}
    assert min(inside, key=lambda name: inside[name]) == "rope"
    beyond = {name: runs[:, -1].min().item() for name, runs in found.items()}
    assert min(beyond, key=lambda name: beyond[name]) == "alibi"
    assert (found["alibi"][:, 3:] < found["alibi"][:, 2:3] + 0.1).all()
    assert found["learned"][:, 3].min() > floor and found["sinusoidal"][:, 3].min() > floor
    assert (found["rope"][:, 3] < found["rope"][:, 2] + 0.05).all()
    assert found["rope"][:, 5].min() > 2.5
    assert (found["t5"][:, 4:] < found["t5 up to 128"][:, 4:] - 0.5).all()
    at_96 = {name: runs[:, 3].max().item() for name, runs in found.items()}
    assert min(at_96, key=lambda name: at_96[name]) == "rope"
    assert {f"{loss:.2f}" for loss in found["none"][:, 0].tolist()} == {"1.85"}
    assert "from 1.85 before position 16" in words(PAGE)


def test_the_order_in_which_the_schemes_fail() -> None:
    """By the first bin whose loss is 0.2 above that of the end of the trained length."""
    first = []
    for scheme in ("sinusoidal", "rope", "t5", "alibi"):
        runs = torch.tensor(MEASURED["extrapolation"][scheme])
        risen = [*(runs > runs[:, 2:3] + 0.2)[:, 3:].all(0).tolist(), True]
        first.append(risen.index(True))
    assert first == sorted(set(first)), first


def test_the_table_of_the_stretched_model_is_what_was_measured(draw: ModuleType) -> None:
    found = MEASURED["stretched"]
    for name in draw.STRETCHES:
        means = [torch.tensor(found[f"{name}, {n}"]).mean().item() for n in draw.TUNING_STEPS]
        assert f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} |" in PAGE


def test_what_the_page_says_about_stretching() -> None:
    found = {name: torch.tensor(losses) for name, losses in MEASURED["stretched"].items()}
    assert (found["larger base, 0"][:5] < 1.3).all()  # up to place 160
    flat = found["interpolated, 0"]
    assert flat.max() - flat.min() < 0.3 and flat.min() > 3
    mean = {name: losses.mean().item() for name, losses in found.items()}
    assert all(mean[f"plain, {n}"] < mean[f"interpolated, {n}"] for n in (0, 20, 100, 300))
    gains = [mean[f"plain, {n}"] - mean[f"larger base, {n}"] for n in (20, 100, 300)]
    assert gains[0] > gains[1] > 0.2 > 0.05 > gains[2] > 0


def test_a_few_steps_of_what_was_measured(draw: ModuleType) -> None:
    """The short end of the long measurement: a second, and no number of the table."""
    model = draw.trained("alibi", seed=0, n_steps=25)
    short, long = loss_by_position(model, n_texts=8, edges=(0, 64, 256))
    assert max(short, long) < math.log(len(corpus()[1])) - 0.3 and abs(short - long) < 0.3


# --- exercises, README, pictures ---


def test_the_letters_of_the_exercise_are_those_of_the_picture(draw: ModuleType) -> None:
    text = (LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8")
    for letter, name in draw.LETTERS.items():
        assert f'"{name}": "{letter}"' in text


def test_each_panel_shows_what_its_scheme_can_say(draw: ModuleType) -> None:
    scores = {scheme: draw.scores_of(scheme) for scheme in draw.LETTERS.values()}
    assert scores["none"].max() - scores["none"].min() < 1e-4
    for scheme, panel in scores.items():
        spread = max(
            (panel.diagonal(d).max() - panel.diagonal(d).min()).item() for d in (-9, -1, 0, 4)
        )
        assert (spread < 1e-3) == (scheme in ("none", "rope", "alibi", "t5")), scheme
    torch.testing.assert_close(scores["alibi"], scores["alibi"].T, atol=1e-4, rtol=0)
    later = scores["t5"][torch.ones(32, 32).triu().bool()]
    assert later.max() - later.min() < 1e-4


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = """
        frequencies = base ** (-torch.arange(0, d_model, 2) / d_model)
        angles = torch.arange(max_seq_len)[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=-1)[:, :d_model]
    """
    shown = shown_to_learner("4.4", body)
    assert shown in (LESSON / "README.md").read_text(encoding="utf-8")
