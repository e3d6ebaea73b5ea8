"""Draw the pictures of theory.md, from real numbers.

    python 09_capstone/pictures/draw.py                     from measured.json where it is slow
    python 09_capstone/pictures/draw.py --measure texts     measure one part again: minutes

"texts" needs a trained `laptop` model: python 09_capstone/train.py. The other pictures of this
folder are drawn by tools/make_pictures.py and tools/benchmark.py. Pictures have a white background
of their own, so they are legible on light and dark pages.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

import budget_runs
import overfitting_runs
import scaling_runs
import texts_by_loss
from contamination import longest_copy
from generator import TextGenerator
from parts import Parts
from power_law import fit_power_law
from small_model import load_small_model
from text_statistics import distinct_n, repeated_share
from utils.config import SampleConfig
from utils.corpus import load_corpus, split_text
from utils.pictures import hide_frame, read_measured, save_pictures, write_measured
from utils.visualization import BLUE, GREEN, GREY, ORANGE, PURPLE

HERE = Path(__file__).resolve().parent
LETTERS = {  # of exercise 9.6, which rounds the losses
    "A": "2.2 nats",
    "B": "1.6 nats",
    "C": "1.8 nats",
    "D": "3.1 nats",
    "E": "a bigram table",
    "F": "2.0 nats",
}
WIDTH, HEIGHT = 54, 9  # of a panel, in characters and lines
SMOOTH = 20  # steps
N_WINDOWS = 300
TEMPERATURES = (0.1, 0.5, 1.0, 1.5)
LENGTH = texts_by_loss.N_CHARACTERS


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    parser = argparse.ArgumentParser(description="Draw the pictures of lesson 09.")
    parser.add_argument("--measure", choices=MEASURE, help="measure again, and keep the results")
    part = parser.parse_args().measure
    if part:
        torch.set_num_threads(1)
        new = MEASURE[part]()
        write_measured(HERE, read_measured(HERE) | {part: new})
    found = read_measured(HERE)
    pictures = {
        "position": position(),
        "scaling": scaling(found["budgets"]),
        "overfitting": overfitting(found["overfitting"]),
        "texts_by_loss": draw_texts(found["texts"]),
    }
    save_pictures(pictures, HERE)


# --- what takes long to measure ---


def measure_texts() -> dict[str, Any]:
    """What was written at each loss, and by a table of pairs."""
    return {name: asdict(entry) for name, entry in texts_by_loss.run().items()}


def measure_budgets() -> dict[str, Any]:
    """For each budget, the losses by d_model."""
    return {
        str(budget): {str(d_model): round(loss, 4) for d_model, loss in losses.items()}
        for budget, losses in budget_runs.measure().items()
    }


def measure_overfitting() -> dict[str, Any]:
    """The curves of the four runs."""
    return {name: asdict(overfitting_runs.run(*how)) for name, how in overfitting_runs.RUNS.items()}


def measure_diversity() -> dict[str, list[float]]:
    """distinct-1, distinct-2, repeated share and existing words, by temperature; and the plays'."""
    model, tokenizer = load_small_model(Parts.fused())
    train_text, val_text = split_text(load_corpus("mock").text)
    texts = {"the plays": pieces(val_text, 10)}
    for temperature in TEMPERATURES:
        sampling = SampleConfig(max_tokens=LENGTH, temperature=temperature)
        generator = TextGenerator(model, model.config, tokenizer)
        texts[str(temperature)] = generator.generate(["\n\n"] * 10, sampling)
    return {name: statistics_of(samples, train_text) for name, samples in texts.items()}


def statistics_of(samples: list[str], train_text: str) -> list[float]:
    """The four numbers of a row of the table."""
    repeated = sum(repeated_share(sample, 4) for sample in samples) / len(samples)
    distinct = (distinct_n(samples, n) for n in (1, 2))
    numbers = *distinct, repeated, texts_by_loss.existing_words(samples, train_text)
    return [round(number, 3) for number in numbers]


def measure_validation() -> dict[str, float]:
    """The share of the words of Tiny Shakespeare's validation text that the training text has."""
    train_text, val_text = split_text(load_corpus("shakespeare").text)
    return {"existing": round(texts_by_loss.existing_words([val_text], train_text), 4)}


def measure_copies() -> dict[str, list[int]]:
    """The longest copy from Tiny Shakespeare's training text, for each text of 400 characters."""
    train_text, val_text = split_text(load_corpus("shakespeare").text)
    found = read_measured(HERE)["texts"]
    texts = {"validation": pieces(val_text, texts_by_loss.N_TEXTS)} | {
        name: found[name]["texts"] for name in ("trained", "a bigram table")
    }
    return {
        name: sorted(longest_copy(text, train_text)[1] for text in samples)
        for name, samples in texts.items()
    }


def pieces(text: str, n: int) -> list[str]:
    """n pieces of LENGTH characters, at equal distances."""
    return [text[i : i + LENGTH] for i in range(0, len(text) - LENGTH, len(text) // n)][:n]


MEASURE: dict[str, Callable[[], Any]] = {
    "texts": measure_texts,
    "budgets": measure_budgets,
    "overfitting": measure_overfitting,
    "diversity": measure_diversity,
    "copies": measure_copies,
    "validation": measure_validation,
}


# --- where the loss comes from ---


def target_losses(n_windows: int = N_WINDOWS) -> tuple[Tensor, Tensor]:
    """The small model's losses on new plays, (n_windows, 128), and the kind of each target.

    Kinds: 0 the first letter of a word, 1 another letter, 2 no letter.
    """
    model, tokenizer = load_small_model(Parts.fused())
    T = model.config.max_seq_len
    _, val_text = split_text(load_corpus("mock").text)
    ids = torch.tensor(tokenizer.encode(val_text[: n_windows * T + 1]))
    x, y = ids[:-1].view(n_windows, T), ids[1:].view(n_windows, T)
    with torch.inference_mode():
        logits = model(x).flatten(0, 1)  # (n_windows * T, V)
        losses = F.cross_entropy(logits, y.flatten(), reduction="none").view(n_windows, T)
    is_letter = torch.tensor([character.isalpha() for character in tokenizer.characters])
    kinds = torch.where(is_letter[y], is_letter[x].long(), 2)
    return losses, kinds


def position() -> Figure:
    """The loss by position in the window, and what the kinds of targets contribute."""
    losses, kinds = target_losses()
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    curve, bars = figure.subplots(1, 2, width_ratios=(1.5, 1))
    T = losses.size(1)
    curve.plot(range(1, T + 1), losses.mean(0), color=BLUE)
    floor = scaling_runs.floor()
    curve.axhline(floor, color=GREY, linestyle="--", linewidth=1)
    curve.text(T, floor - 0.03, "the floor", color=GREY, ha="right", va="top")
    curve.set(xlabel="position in the window", ylabel="loss (nats per character)", ylim=(0, 2.6))
    share = torch.bincount(kinds.flatten()) / kinds.numel()
    of_loss = torch.bincount(kinds.flatten(), losses.flatten()) / losses.sum()
    names = ("first letters\nof words", "other letters", "spaces, signs")
    for row, name in enumerate(names):
        bars.barh(row - 0.2, share[row], 0.36, color=GREY)
        bars.barh(row + 0.2, of_loss[row], 0.36, color=BLUE)
        bars.text(share[row] + 0.01, row - 0.2, f"{share[row]:.0%} of the targets", va="center")
        bars.text(of_loss[row] + 0.01, row + 0.2, f"{of_loss[row]:.0%} of the loss", va="center")
        bars.text(-0.02, row, name, ha="right", va="center")
    bars.set(xlim=(0, 1), ylim=(2.6, -0.6), xticks=[], yticks=[])
    bars.spines[:].set_visible(False)
    hide_frame(curve)
    return figure


# --- sizes ---


def scaling(budgets: Mapping[str, Mapping[str, float]]) -> Figure:
    """Left: lesson 06's sizes and the fitted law. Right: the same cost, spent in other ways."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = read_measured(HERE.parents[1] / "06_training" / "pictures")["scaling"]["by_size"]
    sizes = [scaling_runs.n_block_weights(int(d_model)) for d_model in found]
    losses, lowest = list(found.values()), scaling_runs.floor()
    a, alpha = fit_power_law(sizes, losses, lowest)
    line = np.logspace(math.log10(sizes[0] / 1.5), math.log10(sizes[-1] * 4), 50)
    left.plot(line, lowest + a * line**-alpha, color=GREY, linewidth=1)
    left.plot(sizes, losses, "o", color=BLUE)
    left.axhline(lowest, color=GREY, linestyle="--", linewidth=1)
    left.text(sizes[0], lowest + 0.02, "the floor, E", color=GREY, va="bottom")
    left.set_title(rf"the same text: E + {a:.0f} $\cdot$ N$^{{-{alpha:.2f}}}$")
    for (budget, row), colour in zip(budgets.items(), (ORANGE, PURPLE, GREEN), strict=True):
        places = [scaling_runs.n_block_weights(int(d_model)) for d_model in row]
        factor, power = f"{budget_runs.n_operations(int(budget)):.0e}".split("e+")
        label = rf"{factor} $\times$ 10$^{{{int(power)}}}$ operations"
        right.plot(places, list(row.values()), "o-", color=colour, label=label)
    right.set_title("the same cost")
    right.legend(frameon=False, loc="upper left")
    for axes in (left, right):
        axes.set(xscale="log", xlabel="weights in the blocks, N", ylim=(0.35, 2.7))
        axes.minorticks_off()
    left.set_ylabel("loss (nats per character)")
    hide_frame(left, right)
    return figure


# --- overfitting ---


def overfitting(found: Mapping[str, Mapping[str, list[float]]]) -> Figure:
    """Training and validation loss of the four runs."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True)
    for axes, (name, curves) in zip(panels, found.items(), strict=True):
        smooth = np.convolve(curves["train"], np.ones(SMOOTH) / SMOOTH, mode="valid")
        axes.plot(range(SMOOTH, len(smooth) + SMOOTH), smooth, color=BLUE, label="training")
        axes.plot(curves["steps"], curves["val"], color=ORANGE, label="validation")
        best = min(curves["val"])
        step = curves["steps"][curves["val"].index(best)]
        axes.plot(step, best, "o", color=ORANGE)
        axes.text(step, best + 0.1, f"{best:.2f}", color=ORANGE, ha="center", va="bottom")
        axes.set(title=name.replace(", ", ",\n"), xlabel="step", ylim=(0.8, 3.5))
    panels[0].set_ylabel("loss (nats per character)")
    panels[0].legend(frameon=False, loc="upper right")
    hide_frame(*panels)
    return figure


# --- texts ---


def typical(entry: Mapping[str, Any]) -> str:
    """Of the texts at one loss, that whose share of existing words is in the middle.

    The source of the words is Tiny Shakespeare, which isn't everywhere: the shares are measured.
    """
    shares = entry["shares"]
    middle = sorted(range(len(shares)), key=shares.__getitem__)[len(shares) // 2]
    return entry["texts"][middle]


def panel_lines(text: str) -> list[str]:
    """The first lines of a text that fit into a panel; a line that is too long is wrapped."""
    lines = []
    for line in text.strip("\n").split("\n"):
        lines += textwrap.wrap(line, WIDTH) or [""]
    return lines[:HEIGHT]


def draw_texts(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Six texts by letter; the exercise asks what generated them."""
    figure = Figure(figsize=(6.0, 3.5))
    rounded = {name_in_exercise(name, entry): entry for name, entry in found.items()}
    for place, (letter, name) in enumerate(sorted(LETTERS.items())):
        row, column = divmod(place, 2)
        axes = figure.add_axes((0.015 + 0.5 * column, 0.675 - 0.33 * row, 0.47, 0.315))
        axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        axes.spines[:].set_color("#cccccc")
        axes.text(0.02, 0.95, letter, va="top", weight="bold", fontsize=9)
        text = "\n".join(panel_lines(typical(rounded[name])))
        axes.text(
            0.08, 0.94, text, va="top", fontsize=5.35, family="monospace", linespacing=1.25,
            parse_math=False,
        )  # fmt: skip
    return figure


def name_in_exercise(name: str, entry: Mapping[str, Any]) -> str:
    """The name under which exercise 9.6 asks for what was measured: the loss to one decimal."""
    return name if name == "a bigram table" else f"{entry['loss']:.1f} nats"


if __name__ == "__main__":
    run_program(main)
