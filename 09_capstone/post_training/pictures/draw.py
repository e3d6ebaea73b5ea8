"""Draw the pictures of post-training's theory.md, from the runs in measured.json.

    python 09_capstone/post_training/pictures/draw.py

The runs are made by experiments.py, one folder above. Pictures have a white background of their
own, so they are legible on light and dark pages.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.pictures import hide_frame, read_measured, save_pictures
from utils.visualization import BLUE, GREEN, ORANGE, SKY

HERE = Path(__file__).resolve().parent
METHODS = {
    "grpo": ("GRPO", BLUE),
    "exact": ("GRPO, one reward per answer", SKY),
    "sft": ("SFT", GREEN),
    "dpo": ("DPO", ORANGE),
}
ONE_THREAD = ["exact"]  # measured on half of the machine: its seconds are no comparison
CHEATED = {"word": 'counting "sweet"', "rhyme": "counting rhymes", "length": "paying for length"}
MARKERS = "os^Dvp"  # neighbouring colours of a scale are hard to tell apart
PRICES = "kl-"  # the names of the runs at several KL weights begin with it
REWARD_MODELS = {
    "reward-model": "without errors",
    "reward-model-noisy": "wrong in 20%",
}

Runs = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]  # by name, then by seed


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    runs = read_measured(HERE)
    pictures = {"methods": methods(runs), "cheated": cheated(runs)}
    if any(name.startswith(PRICES) for name in runs):
        pictures["kl_weights"] = kl_weights(runs)
    if any(name in runs for name in REWARD_MODELS):
        pictures["reward_errors"] = reward_errors(runs)
    save_pictures(pictures, HERE)


def methods(runs: Runs) -> Figure:
    """The share of right answers against the time, and what each method costs in corpus loss."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    for name, (label, colour) in METHODS.items():
        for rows in runs.get(name, {}).values():
            seconds = [row["seconds"] for row in rows]
            share = [100 * row["right"] for row in rows]
            if name not in ONE_THREAD:
                left.plot(seconds, share, color=colour, marker="o", markersize=3)
            loss = [row["val_loss"] for row in rows]
            right.plot([row["kl"] for row in rows], loss, color=colour, marker="o", markersize=3)
        if name in runs:
            right.plot([], [], color=colour, marker="o", markersize=3, label=label)
    left.set(xlabel="seconds of training", ylabel="right answers, %", ylim=(0, 100))
    right.set(xlabel="KL to the base model, nats per token", ylabel="loss on the plays, nats")
    right.legend(frameon=False)
    hide_frame(left, right)
    return figure


def cheated(runs: Runs) -> Figure:
    """Rewards that can be cheated: each rises while the share of right answers falls."""
    present = {name: label for name, label in CHEATED.items() if name in runs}
    figure, panels = plt.subplots(1, len(present), figsize=(8.7, 2.9), layout="constrained")
    rewards = [axes.twinx() for axes in panels]
    for axes, reward, (name, label) in zip(panels, rewards, present.items(), strict=True):
        rows = next(iter(runs[name].values()))
        steps = [row["step"] for row in rows]
        axes.plot(steps, [100 * row["right"] for row in rows], color=BLUE, marker="o")
        axes.set(xlabel="step", title=label, ylim=(0, 100))
        axes.tick_params("y", colors=BLUE)
        axes.spines["top"].set_visible(False)
        show_reward(reward, rows)
    # only at the outer axes: between two panels, the labels of both would stand side by side
    panels[0].set_ylabel("right answers, %", color=BLUE)
    rewards[-1].set_ylabel("mean reward", color=ORANGE)
    return figure


def kl_weights(runs: Runs) -> Figure:
    """The same steps at several prices of a nat: what is gained, and how far the model moves."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.2), layout="constrained")
    names = sorted((name for name in runs if name.startswith(PRICES)), key=price_of)
    colours = plt.get_cmap("viridis")(range(0, 256, 256 // max(2, len(names))))
    for name, colour, marker in zip(names, colours, MARKERS, strict=False):
        style = {"color": colour, "marker": marker}
        for rows in runs[name].values():
            steps = [row["step"] for row in rows]
            left.plot(steps, [100 * row["right"] for row in rows], **style)
            right.plot(steps, [row["kl"] for row in rows], **style)
        left.plot([], [], **style, label=f"KL weight {price_of(name):g}")
    left.set(xlabel="step", ylabel="right answers, %", ylim=(50, 100))
    right.set(xlabel="step", ylabel="KL to the base model, nats per token", ylim=(0, None))
    left.legend(frameon=False)
    hide_frame(left, right)
    return figure


def price_of(name: str) -> float:
    """The KL weight in the name of a run."""
    return float(name.removeprefix(PRICES))


def reward_errors(runs: Runs) -> Figure:
    """How often a learned reward prefers the wrong answer, on two kinds of pairs."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    kinds = {"pairs": "two answers of the base model", "slips": "a right answer, and one slip"}
    for axes, (kind, title) in zip(panels, kinds.items(), strict=True):
        for (name, label), colour in zip(REWARD_MODELS.items(), (BLUE, ORANGE), strict=True):
            for rows in runs.get(name, {}).values():
                errors = [100 * row[kind] for row in rows]
                axes.plot([row["step"] for row in rows], errors, color=colour, marker="o")
            axes.plot([], [], color=colour, marker="o", label=label)
        axes.set(xlabel="step", title=title, ylim=(0, None))
    panels[0].set_ylabel("pairs in the wrong order, %")
    panels[0].legend(frameon=False, title="the judge")
    hide_frame(*panels)
    return figure


def show_reward(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """The reward on an axis of its own, at the right."""
    known = [row for row in rows if row["reward"] is not None]
    reward = [row["reward"] for row in known]
    axes.plot([row["step"] for row in known], reward, color=ORANGE, marker="s")
    axes.set_ylim(0, 1.1 * max(reward))
    axes.tick_params("y", colors=ORANGE)
    axes.spines["top"].set_visible(False)


def last(runs: Runs, name: str, column: str) -> list[float]:
    """A column at the end of each run of that name."""
    return [rows[-1][column] for rows in runs[name].values()]


def median_of(runs: Runs, name: str, column: str) -> float:
    """Its median over the seeds."""
    return statistics.median(last(runs, name, column))


if __name__ == "__main__":
    run_program(main)
