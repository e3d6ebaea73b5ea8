"""Draw every picture of this lesson, from real numbers.

    python 04_embeddings/pictures/draw.py              from measured.json where it is slow
    python 04_embeddings/pictures/draw.py --measure    train everything again: about ten minutes

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

import argparse
import copy
import itertools
import math
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, FancyArrowPatch, Rectangle
from torch import Tensor, nn

from context_extension import ntk_base
from position_lab import EDGES, SCHEMES, T_TRAIN, PositionLM, loss_by_position, train
from positional_embeddings import (
    alibi_bias,
    alibi_slopes,
    apply_rotary,
    rotary_angles,
    sinusoidal_encoding,
)
from relative_bias import RelativeBias, relative_position_bucket
from utils.errors import run_program
from utils.pictures import hide_frame, read_measured, save_pictures, write_measured
from utils.visualization import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1)
FACTOR = 4  # how much longer the stretched contexts are
STRETCHED_EDGES = (0, 32, 64, 96, 128, 160, 192, 224, 256)
TUNING_STEPS = (0, 20, 100, 300)
STRETCHES = {  # factor and base of RoPE
    "plain": (1.0, 10_000.0),
    "interpolated": (float(FACTOR), 10_000.0),
    "larger base": (1.0, ntk_base(10_000.0, 16, FACTOR)),
}
LETTERS = {  # of exercise 4.10
    "A": "rope",
    "B": "none",
    "C": "t5",
    "D": "sinusoidal",
    "E": "alibi",
    "F": "learned",
}
COLOURS = {
    "none": GREY,
    "learned": AMBER,
    "sinusoidal": PURPLE,
    "rope": ORANGE,
    "alibi": BLUE,
    "t5": GREEN,
    "t5 up to 128": SKY,
}
NAMES = {
    "none": "none",
    "learned": "learned",
    "sinusoidal": "sinusoidal",
    "rope": "RoPE",
    "alibi": "ALiBi",
    "t5": "T5, buckets up to 32",
    "t5 up to 128": "T5, buckets up to 128",
}


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    parser = argparse.ArgumentParser(description="Draw the pictures of lesson 04.")
    parser.add_argument("--measure", action="store_true", help="train again, and keep the results")
    if parser.parse_args().measure:
        write_measured(HERE, measure())
    found = read_measured(HERE)
    pictures = {
        "waves": waves(),
        "biases": biases(),
        "rotation": rotation(),
        "layouts": layouts(),
        "which_scheme": which_scheme(),
        "extrapolation": extrapolation(found["extrapolation"]),
        "stretched": stretched(found["stretched"]),
    }
    save_pictures(pictures, HERE)


# --- what takes long to measure ---


def measure() -> dict[str, Any]:
    """Train every scheme, with two seeds, and stretch the first model that has RoPE."""
    torch.set_num_threads(1)
    extrapolated: dict[str, Any] = {scheme: [] for scheme in SCHEMES}
    found: dict[str, Any] = {}
    for scheme in SCHEMES:
        for seed in SEEDS:
            model = trained(scheme, seed)
            extrapolated[scheme].append(rounded(loss_by_position(model)))
            print(scheme, seed, extrapolated[scheme][-1], flush=True)
            if (scheme, seed) == ("rope", 0):
                found = {
                    f"{name}, {n_steps}": rounded(measure_stretched(model, name, n_steps))
                    for name in STRETCHES
                    for n_steps in TUNING_STEPS
                }
    return {"extrapolation": extrapolated, "stretched": found}


def trained(scheme: str, seed: int, n_steps: int = 1200) -> PositionLM:
    """A model with one scheme, trained on contexts of T_TRAIN characters."""
    torch.manual_seed(seed)
    model = PositionLM(scheme)
    train(model, n_steps, seed=seed)
    return model


def measure_stretched(model: PositionLM, name: str, n_steps: int) -> list[float]:
    """The loss by position up to FACTOR * T_TRAIN, after some steps at that length."""
    model = copy.deepcopy(model)
    model.factor, model.base = STRETCHES[name]
    train(model, n_steps, T=FACTOR * T_TRAIN, lr=1e-3, seed=5)
    return loss_by_position(model, edges=STRETCHED_EDGES)


def rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


# --- waves ---


def waves() -> Figure:
    """The sinusoidal table, and the dot product of two positions by their distance."""
    table = sinusoidal_encoding(64, 32)
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    image = left.imshow(table.T, cmap="coolwarm", vmin=-1, vmax=1, aspect="auto")
    left.set(title="encoding", xlabel="position", ylabel="feature")
    figure.colorbar(image, ax=left)
    distance = torch.arange(-31, 33)
    for start, style in ((31, "-"), (16, "o")):
        seen = distance[(distance + start >= 0)]
        products = table[start + seen] @ table[start]
        right.plot(seen, products, style, color=BLUE if style == "-" else ORANGE, ms=3)
    right.set(title="dot product of two positions", xlabel="distance", ylim=(0, 17))
    right.legend(["from position 31", "from position 16"], frameon=False)
    hide_frame(right)
    return figure


# --- biases ---


def biases() -> Figure:
    """ALiBi's penalty by distance, and the bucket of each distance."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    distance = torch.arange(65)
    bias = alibi_bias(alibi_slopes(4), torch.tensor([[64]]), 64 - distance)[0, :, 0]
    for head, (row, colour) in enumerate(zip(bias, (BLUE, ORANGE, GREEN, PURPLE), strict=True)):
        left.plot(distance, row, color=colour, label=f"head {head}")
    left.set(title="ALiBi: added to the score", xlabel="distance", ylim=(-17, 1))
    left.legend(frameon=False, loc="lower left")
    distance = torch.arange(150)
    bucket = relative_position_bucket(distance, 16, 128)
    right.step(distance, bucket, where="post", color=BLUE)
    right.axvline(128, color=GREY, linestyle="--", linewidth=1)
    right.text(126, 1, "max_distance", ha="right", color=GREY)
    right.set(title="T5: the bucket, of 16", xlabel="distance", yticks=range(0, 16, 3))
    hide_frame(left, right)
    return figure


# --- RoPE ---


def rotation() -> Figure:
    """A query and a key at two positions, the same distance apart; and scores by distance."""
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=[1, 1, 1.5])
    speed = 0.5  # radians per position
    for axes, (i, j) in zip(panels, ((3, 1), (9, 7)), strict=False):
        draw_arrow(axes, 0.4 + speed * j, "k", BLUE)
        draw_arrow(axes, 0.1 + speed * i, "q", ORANGE)
        degrees = [math.degrees(angle) for angle in (0.4 + speed * j, 0.1 + speed * i)]
        axes.add_patch(Arc((0, 0), 0.8, 0.8, theta1=degrees[0], theta2=degrees[1], color=GREY))
        axes.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal", xticks=[], yticks=[])
        axes.add_patch(Arc((0, 0), 2, 2, color="#dddddd"))
        axes.set_title(f"query at {i}, key at {j}", fontsize=10)
    x = torch.ones(1, 1, 1, 32)
    distance = torch.arange(0, 129)
    cos, sin = rotary_angles(distance, 32)
    turned = apply_rotary(x.expand(1, 1, 129, 32), cos, sin)
    panels[2].plot(distance, (turned @ x.mT).flatten() / 32, color=BLUE)
    panels[2].axhline(0, color=GREY, linewidth=0.8)
    panels[2].set(xlabel="distance", ylim=(-0.2, 1.05))
    panels[2].set_title("mean cosine of 16 pairs", fontsize=10)
    hide_frame(panels[2])
    return figure


def draw_arrow(axes: Axes, angle: float, name: str, colour: str) -> None:
    end = (math.cos(angle), math.sin(angle))
    arrow = FancyArrowPatch(
        (0, 0), end, arrowstyle="-|>", mutation_scale=14, lw=2, color=colour, shrinkA=0, shrinkB=0
    )
    axes.add_patch(arrow)
    axes.text(1.18 * end[0], 1.18 * end[1], name, ha="center", va="center", fontsize=12)


def layouts() -> Figure:
    """Which features form a pair, in the two layouts."""
    figure = Figure(figsize=(8, 1.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0.9, 15.3), ylim=(0.1, 3.9))
    axes.axis("off")
    colours = (SKY, AMBER, GREEN, PURPLE)
    orders = {"interleaved": [0, 0, 1, 1, 2, 2, 3, 3], "halves": [0, 1, 2, 3, 0, 1, 2, 3]}
    for y, (name, pairs) in zip((2.0, 0.4), orders.items(), strict=True):
        axes.text(3.2, y + 0.5, name, ha="right", va="center", fontsize=11)
        for feature, pair in enumerate(pairs):
            box = Rectangle((3.6 + 1.4 * feature, y), 1.3, 1, facecolor=colours[pair], alpha=0.75)
            axes.add_patch(box)
            text = f"{feature}\npair {pair}"
            axes.text(4.25 + 1.4 * feature, y + 0.5, text, ha="center", va="center", fontsize=9)
    axes.text(3.2, 3.5, "feature of a head:", ha="right", va="center", fontsize=9, color=GREY)
    return figure


# --- what a scheme does to the scores ---


def scores_of(scheme: str, T: int = 32, d_model: int = 32, seed: int = 3) -> Tensor:
    """The scores (T, T) of one untrained head if all tokens are the same."""
    torch.manual_seed(seed)
    x = torch.randn(1, 1, 1, d_model).expand(1, 1, T, d_model)
    w_q, w_k = torch.randn(2, d_model, d_model) / math.sqrt(d_model)
    positions = torch.arange(T)
    if scheme == "sinusoidal":
        x = x + sinusoidal_encoding(T, d_model)
    if scheme == "learned":
        x = x + torch.randn(T, d_model)
    q, k = x @ w_q, x @ w_k  # (1, 1, T, d_model)
    if scheme == "rope":
        angles = rotary_angles(positions, d_model)
        q, k = apply_rotary(q, *angles), apply_rotary(k, *angles)
    scores = q @ k.mT / math.sqrt(d_model)
    if scheme == "alibi":
        scores = scores + alibi_bias(torch.tensor([0.25]), positions[None], positions)
    if scheme == "t5":
        table = RelativeBias(1, 8, 32)
        nn.init.normal_(table.weight)
        scores = scores + table(positions[None], positions).detach()
    return scores[0, 0]


def which_scheme() -> Figure:
    """The scores of six schemes by letter; the exercise asks which is which."""
    figure = Figure(figsize=(8, 4.9), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    for axes, (letter, scheme) in zip(panels, LETTERS.items(), strict=True):
        scores = scores_of(scheme)
        middle, reach = scores.mean().item(), (scores.max() - scores.min()).item() / 2
        if reach < 0.01:  # only rounding: one colour, in the middle of the scale
            limits = (middle - 1, middle + 1)
        else:
            limits = (scores.min().item(), scores.max().item())
        image = axes.imshow(scores.numpy(), cmap="viridis", vmin=limits[0], vmax=limits[1])
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set_title(letter, loc="left", weight="bold")
    for axes in panels[3:]:
        axes.set_xlabel("key")
    for axes in panels[::3]:
        axes.set_ylabel("query")
    return figure


# --- what was trained ---


def extrapolation(found: dict[str, list[list[float]]]) -> Figure:
    """The loss by position of every scheme; the mean of the seeds."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="position", ylabel="loss (nats per character)")
    middles = [(first + last) / 2 for first, last in itertools.pairwise(EDGES)]
    for scheme, runs in found.items():
        mean = torch.tensor(runs).mean(0)
        axes.plot(middles, mean, "o-", ms=4, color=COLOURS[scheme], label=NAMES[scheme])
    axes.axvline(T_TRAIN, color=GREY, linestyle="--", linewidth=1)
    axes.text(T_TRAIN + 4, 0.75, "trained up to here", color=GREY, va="bottom")
    axes.set_ylim(0.7, None)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    hide_frame(axes)
    return figure


def stretched(found: dict[str, list[float]]) -> Figure:
    """The loss by position in contexts four times as long, after some steps of fine-tuning."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(TUNING_STEPS), sharey=True)
    middles = [x + 16 for x in STRETCHED_EDGES[:-1]]
    for axes, n_steps in zip(panels, TUNING_STEPS, strict=True):
        for name, colour in zip(STRETCHES, (ORANGE, BLUE, GREEN), strict=True):
            axes.plot(middles, found[f"{name}, {n_steps}"], "o-", ms=3, color=colour, label=name)
        axes.axvline(T_TRAIN, color=GREY, linestyle="--", linewidth=1)
        axes.set(title=f"{n_steps} steps", xlabel="position", xticks=(0, 64, 128, 192, 256))
        hide_frame(axes)
    panels[0].set_ylabel("loss (nats per character)")
    panels[-1].legend(frameon=False)
    return figure


if __name__ == "__main__":
    run_program(main)
