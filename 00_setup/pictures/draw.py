"""Draw every picture of this lesson, from real numbers.

    python 00_setup/pictures/draw.py

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from bigram import bigram_probabilities, cross_entropy, encode, train
from utils import mock_corpus
from utils.errors import run_program
from utils.pictures import save_pictures
from utils.visualization import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    WEIGHTS_MAP,
)

HERE = Path(__file__).resolve().parent
VISIBLE = {" ": "␣", "\n": "↵"}


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    pictures = {
        "strides": strides(),
        "bigram_table": bigram_table(),
        "which_text": which_text(),
        "pieces": pieces(),
        "training": training(),
    }
    save_pictures(pictures, HERE)


def play() -> tuple[Tensor, str]:
    """The text of the lesson: the ids of a play from the course's own grammar, its vocabulary."""
    return encode(mock_corpus.generate(20_000))


# --- memory ---


def strides() -> Figure:
    """Six values in memory, and the three tables that shape and strides make of them."""
    x = torch.arange(6).view(2, 3)
    tables = {"x": x, "x.T": x.T, "x.view(3, 2)": x.view(3, 2)}
    figure = Figure(figsize=(8, 3.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 16), ylim=(7.2, 0), aspect="equal")
    axes.axis("off")
    axes.text(8, 0.55, "memory", ha="center", fontsize=10, color=GREY)
    draw_cells(axes, x.flatten()[None], (5, 0.8))
    for left, (name, table) in zip((0.9, 7, 13.1), tables.items(), strict=True):
        rows, columns = table.shape
        corner = (left - (columns - 2) / 2, 3.2)
        draw_cells(axes, table, corner)
        said = f"shape {tuple(table.shape)}\nstrides {table.stride()}"
        axes.text(left + 1, 3, name, ha="center", va="bottom", fontsize=11, family="monospace")
        axes.text(left + 1, 3.3 + rows, said, ha="center", va="top", fontsize=10)
    return figure


def draw_cells(axes: Axes, table: Tensor, corner: tuple[float, float]) -> None:
    """A table of unit cells, each in the colour of its value."""
    left, top = corner
    colours = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
    for (i, j), value in np.ndenumerate(table.numpy()):
        place = (left + j, top + i)
        axes.fill_between(
            [place[0], place[0] + 1], place[1], place[1] + 1, color=colours[value], alpha=0.45, lw=0
        )
        axes.plot(
            [place[0], place[0] + 1, place[0] + 1, place[0], place[0]],
            [place[1], place[1], place[1] + 1, place[1] + 1, place[1]],
            color="white",
            lw=2,
        )
        axes.text(place[0] + 0.5, place[1] + 0.52, str(value), ha="center", va="center")


# --- tables of probabilities ---


def bigram_table() -> Figure:
    """P(next | current) in the play, for the small letters, space, comma, full stop, line end."""
    ids, vocabulary = play()
    table = bigram_probabilities(ids, len(vocabulary))
    shown = [i for i, c in enumerate(vocabulary) if c.islower() or c in " ,.\n"]
    labels = [VISIBLE.get(vocabulary[i], vocabulary[i]) for i in shown]
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="next character", ylabel="current character")
    image = draw_table(axes, table[shown][:, shown], labels)
    figure.colorbar(image, ax=axes, label="P(next | current)", fraction=0.05, pad=0.02)
    return figure


def draw_table(axes: Axes, table: Tensor, labels: list[str]) -> AxesImage:
    """A table of probabilities; what never happens is grey."""
    visible = np.ma.masked_equal(table.numpy(), 0.0)
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    scale = PowerNorm(0.5, 0.0, 1.0)  # the square root: small probabilities can be told apart
    return axes.imshow(visible, cmap=WEIGHTS_MAP, norm=scale)


def texts_of_the_rules(T: int = 600) -> dict[str, Tensor]:
    """The four texts of exercise 0.5 by the letter of their table; one step in five is random."""
    generator = torch.Generator().manual_seed(0)

    def step(rule: str, i: int) -> int:
        if torch.rand((), generator=generator) < 0.2:
            return int(torch.randint(6, (), generator=generator))
        if rule == "alternating":
            return int(torch.randint(3, (), generator=generator)) + 3 * (i < 3)
        return (i + {"forwards": 1, "backwards": -1, "runs": 0}[rule]) % 6

    texts = {}
    for letter, rule in zip("ABCD", ("backwards", "alternating", "runs", "forwards"), strict=True):
        ids = [0]
        while len(ids) < T:
            ids.append(step(rule, ids[-1]))
        texts[letter] = torch.tensor(ids)
    return texts


def which_text() -> Figure:
    """Four tables; the exercise asks for their texts."""
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    panels = figure.subplots(1, 4)
    images = []
    for axes, (letter, ids) in zip(panels, texts_of_the_rules().items(), strict=True):
        images.append(draw_table(axes, bigram_probabilities(ids, 6), list("abcdef")))
        axes.set_xlabel("next")
        axes.text(2.5, 6, letter, ha="center", va="center", fontsize=12, fontweight="bold")
    panels[0].set_ylabel("current")
    figure.colorbar(images[0], ax=list(panels), label="P(next | current)", fraction=0.02, pad=0.01)
    return figure


def pieces() -> Figure:
    """Three rows of the play's table as pieces of the interval from 0 to 1, and where 0.6 falls."""
    ids, vocabulary = play()
    table = bigram_probabilities(ids, len(vocabulary))
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1), xlabel="u")
    currents = "wvh"
    for height, current in enumerate(currents):
        row, start = table[vocabulary.index(current)].tolist(), 0.0
        for following, p in zip(vocabulary, row, strict=True):
            axes.barh(height, p, left=start, height=0.62, color=SKY, edgecolor="white")
            if p > 0.025:
                label = VISIBLE.get(following, following)
                axes.text(start + p / 2, height, label, ha="center", va="center")
            start += p
    axes.axvline(0.6, color=ORANGE, lw=2)
    axes.text(0.608, 2.62, "u = 0.6", color=ORANGE, va="center", fontsize=9)
    axes.set_yticks(range(3), [f"after {current}" for current in currents])
    axes.set_ylim(-0.45, 2.85)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


# --- training ---


def plain_descent(ids: Tensor, V: int, n_steps: int, learning_rate: float) -> list[float]:
    """The losses of plain gradient descent: each step is the gradient times the learning rate."""
    logits = torch.zeros(V, V, requires_grad=True)
    losses = []
    for _ in range(n_steps):
        loss = cross_entropy(torch.softmax(logits, dim=-1), ids)
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - learning_rate * gradient).detach().requires_grad_()
        losses.append(loss.item())
    return losses


def training() -> Figure:
    """The loss of the trained table against the step, and that of the counted one."""
    ids, vocabulary = play()
    V = len(vocabulary)
    counted = cross_entropy(bigram_probabilities(ids, V), ids).item()
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats per character)")
    axes.plot(plain_descent(ids, V, 200, 30.0), color=ORANGE, label="plain gradient descent")
    axes.plot(train(ids, V)[1], color=BLUE, label="Adam")
    axes.axhline(counted, color=GREY, ls="--", label=f"counted: {counted:.4f}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(2, None)
    return figure


if __name__ == "__main__":
    run_program(main)
