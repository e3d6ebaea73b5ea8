"""Draw every picture of this lesson, from real numbers.

    python 06_training/pictures/draw.py                    from measured.json where it is slow
    python 06_training/pictures/draw.py --measure sick     measure one part again: minutes

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import loss_samples
import scaling_runs
import sick_runs
from newton_schulz import newton_schulz
from schedules import SCHEDULES, learning_rate_at
from utils.errors import run_program
from utils.pictures import hide_frame, read_measured, save_pictures, write_measured
from utils.visualization import BLUE, GREY, ORANGE, PURPLE

HERE = Path(__file__).resolve().parent
COPY_SEED = 3
LETTERS = {  # of exercise 6.11
    "A": "too little text",
    "B": "optimizer holds another model",
    "C": "gradients never zeroed",
    "D": "targets not shifted",
    "E": "validation text has its own vocabulary",
    "F": "schedule too short",
    "G": "softmax before the loss",
    "H": "one source after the other",
}


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    parser = argparse.ArgumentParser(description="Draw the pictures of lesson 06.")
    parser.add_argument("--measure", choices=MEASURE, help="measure again, and keep the results")
    part = parser.parse_args().measure
    if part:
        found = read_measured(HERE) | {part: MEASURE[part]()}
        write_measured(HERE, found)
    found = read_measured(HERE)
    pictures = {
        "loss": loss(),
        "schedules": schedules(),
        "singular_values": singular_values(),
        "sick_curves": sick_curves(found["sick"]),
        "scaling": scaling(found["scaling"]),
    }
    save_pictures(pictures, HERE)


# --- what takes long to measure ---


def measure_sick() -> dict[str, dict[str, list[float]]]:
    """The curves of the sound run and of the eight bugs."""
    torch.set_num_threads(1)
    found = {}
    for bug in (sick_runs.SOUND, *sick_runs.BUGS):
        _, curves = sick_runs.run(bug)
        found[bug] = {name: [round(x, 3) for x in row] for name, row in asdict(curves).items()}
    return found


def measure_scaling() -> dict[str, Any]:
    """The final losses by the size of the model, and by the number of steps."""
    torch.set_num_threads(1)
    by_size, by_steps = scaling_runs.measure()
    return {
        "by_size": {str(key): round(value, 4) for key, value in by_size.items()},
        "by_steps": {str(key): round(value, 4) for key, value in by_steps.items()},
    }


def measure_copies() -> dict[str, Any]:
    """What the sound model and the one with too little text write, and how much is copied."""
    torch.set_num_threads(1)
    found = {}
    for bug in (sick_runs.SOUND, "too little text"):
        model, _ = sick_runs.run(bug)
        text = loss_samples.write_text(model, sick_runs.vocabulary(), seed=COPY_SEED)
        source, _ = sick_runs.texts(bug)
        copied = loss_samples.n_copied(text, source)
        found[bug] = {"text": text, "copied": copied}
    return found


def measure_samples() -> list[dict[str, Any]]:
    """Texts from one run on Tiny Shakespeare, by loss."""
    torch.set_num_threads(1)
    return [asdict(sample) for sample in loss_samples.run()]


MEASURE: dict[str, Callable[[], Any]] = {
    "sick": measure_sick,
    "scaling": measure_scaling,
    "copies": measure_copies,
    "samples": measure_samples,
}


# --- the loss and its gradient ---


def loss() -> Figure:
    """-log p, and the gradient at the logits of one position."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    curve, bars = figure.subplots(1, 2)
    p = torch.linspace(0.002, 1, 500)
    curve.plot(p, -p.log(), color=BLUE)
    for share in (0.02, 0.1, 0.3, 0.8):
        curve.plot(share, -math.log(share), "o", color=ORANGE)
        curve.text(share + 0.03, 0.1 - math.log(share), f"{share:g}: {-math.log(share):.2f}")
    curve.set(
        title="the loss of one position",
        xlabel="probability of the correct token",
        ylabel="nats",
        ylim=(0, 6.5),
    )
    logits = torch.tensor([0.5, 2.0, 1.0, -1.0, 0.0])
    shares = torch.softmax(logits, dim=0)
    gradient = shares - torch.eye(5)[2]
    places = torch.arange(5)
    bars.bar(places - 0.2, shares, 0.4, color=BLUE, label="probability")
    bars.bar(places + 0.2, gradient, 0.4, color=ORANGE, label="gradient of the loss")
    bars.axhline(0, color="black", linewidth=0.8)
    bars.set_xticks(places.tolist(), ["a", "b", "c\n(correct)", "d", "e"])
    bars.set(title="what each logit is told", ylim=(-0.95, 0.75))
    bars.legend(frameon=False, loc="upper right")
    hide_frame(curve, bars)
    return figure


# --- schedules ---


def schedules() -> Figure:
    """Three schedules of 100 steps."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="learning rate / peak", ylim=(0, 1.08))
    options = {"max_steps": 100, "warmup_steps": 10, "decay_steps": 30, "min_ratio": 0.1}
    for name, colour in zip(SCHEDULES, (BLUE, ORANGE, GREY), strict=True):
        rates = [learning_rate_at(step, name, **options) for step in range(100)]
        label = {"cosine": "cosine", "wsd": "warm-up, stable, decay", "constant": "constant"}[name]
        axes.plot(rates, color=colour, label=label, linestyle="--" if name == "constant" else "-")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.1, 0.05))
    hide_frame(axes)
    return figure


# --- Newton-Schulz ---


def singular_values() -> Figure:
    """The polynomial, and what five steps of it make of singular values."""
    figure = Figure(figsize=(6.6, 2.7), layout="constrained")
    once, steps = figure.subplots(1, 2)
    s = torch.linspace(0, 1, 300)
    once.plot(s, s, color=GREY, linestyle="--", linewidth=1)
    for n, colour in ((1, ORANGE), (2, PURPLE), (5, BLUE)):
        once.plot(s, polynomial(s, n), color=colour, label=f"{n} step{'s' * (n > 1)}")
    once.set(title="singular values: before and after", xlabel="before", ylabel="after")
    once.legend(frameon=False, loc="lower right")
    start = torch.tensor([1.0, 0.3, 0.1, 0.03, 0.01, 0.003])
    matrix = torch.diag(start)
    found = [newton_schulz(matrix, n) for n in range(6)]
    rows = torch.stack([torch.linalg.svdvals(x).sort(descending=True).values for x in found])
    for column in range(len(start)):
        steps.plot(rows[:, column], "o-", ms=4, color=BLUE)
    steps.set(title="one matrix, step by step", xlabel="step", yscale="log")
    ticks = (0.003, 0.01, 0.03, 0.1, 0.3, 1)
    steps.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    steps.minorticks_off()
    hide_frame(once, steps)
    return figure


def polynomial(s: torch.Tensor, n: int) -> torch.Tensor:
    for _ in range(n):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


# --- what was trained ---


def sick_curves(found: dict[str, dict[str, list[float]]]) -> Figure:
    """The sound run and eight others by letter; the exercise asks what made them."""
    figure = Figure(figsize=(6.8, 5.6), layout="constrained")
    panels = figure.subplots(3, 3, sharex=True, sharey=True).ravel()
    titles = {"sound": sick_runs.SOUND, **LETTERS}
    guess, frequencies = math.log(sick_runs.vocabulary().vocab_size), sick_runs.unigram_entropy()
    for axes, (title, name) in zip(panels, titles.items(), strict=True):
        axes.axhline(guess, color=GREY, linestyle=":", linewidth=1)
        axes.axhline(frequencies, color=GREY, linestyle="--", linewidth=1)
        axes.plot(found[name]["train"], color=BLUE, linewidth=1, label="training")
        places = range(0, len(found[name]["train"]), sick_runs.EVAL_INTERVAL)
        axes.plot(places, found[name]["val"], color=ORANGE, linewidth=1.6, label="validation")
        axes.set_title(title, loc="left", weight="bold")
        axes.set(ylim=(0, 6.5), yticks=range(0, 7, 2))
    panels[0].legend(frameon=False, loc="upper right")
    for axes in panels[6:]:
        axes.set_xlabel("step")
    for axes in panels[::3]:
        axes.set_ylabel("loss (nats)")
    hide_frame(*panels)
    return figure


def scaling(found: dict[str, dict[str, float]]) -> Figure:
    """What is left of the loss above its lowest value, by size and by amount of text."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    lowest = scaling_runs.floor()
    sizes = [scaling_runs.n_block_weights(int(key)) for key in found["by_size"]]
    texts = [scaling_runs.n_characters(int(key)) for key in found["by_steps"]]
    for axes, xs, losses, name in (
        (left, sizes, list(found["by_size"].values()), "weights in the blocks, N"),
        (right, texts, list(found["by_steps"].values()), "characters read, D"),
    ):
        first, *_, last = zip(xs, losses, strict=True)
        a, alpha = scaling_runs.law_through(first, last, lowest)
        line = torch.logspace(math.log10(xs[0] / 1.5), math.log10(xs[-1] * 1.5), 50)
        axes.plot(line, a * line**-alpha, color=GREY, linewidth=1)
        axes.plot(xs, [value - lowest for value in losses], "o", color=BLUE)
        axes.set(xscale="log", yscale="log", xlabel=name)
        axes.set_title(f"exponent {alpha:.2f}")
        ticks = (0.2, 0.5, 1.0, 2.0)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    left.set_ylabel("loss - E (nats per character)")
    hide_frame(left, right)
    return figure


if __name__ == "__main__":
    run_program(main)
