"""Plots of what a language model does: attention, training, embeddings, positions, sampling.

Every function takes tensors or arrays and returns a matplotlib Figure; with `path` it also saves it
(atomically, as .png, .svg or .pdf). Nothing here needs a display or changes pyplot's global state.
In a notebook, run `%matplotlib inline` once; then the figure that ends a cell is displayed.

Labels are drawn literally: a dollar sign does not start a formula, and `text.usetex` is ignored.
"""

import functools
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from utils.errors import UsageError, pick
from utils.files import atomic_write_bytes
from utils.shape_checker import Pattern, check_shape

Values = Tensor | np.ndarray
Row = Mapping[str, float | int | str | None]

# Perceptually uniform: equal steps look equal. A weight of exactly 0 (masked) is grey.
WEIGHTS_MAP = matplotlib.colormaps["viridis"].with_extremes(bad="#e6e6e6")
SIGNED_MAP = "coolwarm"  # zero is the pale middle
# The palette of Okabe and Ito (2008), which colour-blind readers can tell apart as well.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
AMBER = "#E69F00"
SKY = "#56B4E9"
GREY = "#666666"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, "#000000")

P = ParamSpec("P")


def literal_text(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A drawing function whose texts are drawn as they are, whatever the user's settings say."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context({"text.usetex": False, "text.parse_math": False}):
            return draw(*args, **kwargs)

    return drawn


def printable(text: str) -> str:
    """The text with a replacement for what no font can draw: control characters, stray bytes."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


# --- attention ---


@literal_text
def plot_attention(
    weights: Values,
    tokens: Sequence[str],
    *,
    key_tokens: Sequence[str] | None = None,
    title: str = "Attention weights",
    path: str | Path | None = None,
) -> Figure:
    """Draw one head's weights (T_q, T_k): row i shows where query i looks, and sums to 1.

    `tokens` label the queries, `key_tokens` the keys (the same tokens if left out). Zeros are grey,
    as masked positions are; up to eight tokens, the other cells show their values.
    Raises ShapeError or UsageError if the inputs do not fit.
    """
    weights = _weights(weights, ("T_q", "T_k"))
    key_tokens = tokens if key_tokens is None else key_tokens
    T_q, T_k = weights.shape
    _expect_labels(tokens, T_q, "tokens")
    _expect_labels(key_tokens, T_k, "key_tokens")
    cell = min(0.5, 9 / max(T_q, T_k))  # inches
    width = max(3.8, 2.3 + cell * T_k + _room(tokens))
    height = max(3.0, 1.1 + cell * T_q + _room(key_tokens))
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot(
        title=printable(title), xlabel="key (attended to)", ylabel="query (attends)"
    )
    image = _draw_weights(axes, weights, float(weights.max()))
    _label_axis(axes.yaxis, tokens, at_most=50)
    _label_axis(axes.xaxis, key_tokens, at_most=50)
    if max(T_q, T_k) <= 8:
        _write_numbers(axes, weights)
    figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label="weight")
    return _finish(figure, path)


@literal_text
def plot_attention_heads(
    weights: Values,
    tokens: Sequence[str],
    *,
    key_tokens: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    title: str = "Attention weights by head",
    path: str | Path | None = None,
) -> Figure:
    """Draw all heads of one layer (n_heads, T_q, T_k) side by side, on one colour scale.

    Labels as in `plot_attention`; `titles` name the panels ("head 0", "head 1" … if left out).
    Raises ShapeError or UsageError if the inputs do not fit.
    """
    weights = _weights(weights, ("n_heads", "T_q", "T_k"))
    key_tokens = tokens if key_tokens is None else key_tokens
    n_heads, T_q, T_k = weights.shape
    titles = [f"head {i}" for i in range(n_heads)] if titles is None else titles
    _expect_labels(titles, n_heads, "titles")
    _expect_labels(tokens, T_q, "tokens")
    _expect_labels(key_tokens, T_k, "key_tokens")
    n_rows, n_columns = _grid(n_heads)
    width = 1.6 + 2.4 * n_columns + _room(tokens)
    height = 1.2 + 2.5 * n_rows + _room(key_tokens)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = [figure.add_subplot(n_rows, n_columns, i + 1) for i in range(n_heads)]
    images = [
        _draw_weights(axes, head, float(weights.max()))
        for axes, head in zip(panels, weights, strict=True)
    ]
    for i, axes in enumerate(panels):
        is_leftmost, is_lowest = i % n_columns == 0, i + n_columns >= n_heads
        axes.set_title(titles[i], parse_math=False, fontsize=10)
        _label_axis(axes.yaxis, tokens if is_leftmost else None, at_most=16)
        _label_axis(axes.xaxis, key_tokens if is_lowest else None, at_most=16)
    figure.colorbar(images[0], ax=panels, label="weight", fraction=0.05, pad=0.02)
    figure.suptitle(printable(title))
    figure.supxlabel("key (attended to)")
    figure.supylabel("query (attends)")
    return _finish(figure, path)


def _draw_weights(axes: Axes, weights: np.ndarray, largest: float) -> AxesImage:
    visible = np.ma.masked_equal(weights, 0.0)
    return axes.imshow(visible, cmap=WEIGHTS_MAP, vmin=0.0, vmax=largest or 1.0)


def _write_numbers(axes: Axes, weights: np.ndarray) -> None:
    """Write each nonzero weight into its cell, in white where the cell is dark."""
    for i, j in np.argwhere(weights):
        weight = weights[i, j]
        colour = "white" if weight < 0.6 * weights.max() else "black"
        axes.text(j, i, f"{weight:.2f}", ha="center", va="center", color=colour, fontsize=8)


# --- training ---


@literal_text
def plot_training_curves(
    metrics: Sequence[Row] | Mapping[str, Sequence[float | str | None]],
    *,
    floor: float | None = None,
    floor_label: str = "entropy of the text",
    title: str = "Training",
    path: str | Path | None = None,
) -> Figure:
    """Draw train_loss and val_loss against step, in nats per token; empty cells are left out.

    `metrics` is a sequence of rows (those of csv.DictReader will do) or a mapping of columns. A
    column learning_rate gets a panel of its own; `floor` is the lowest loss that is possible.
    Raises UsageError if step or both losses are missing, or a cell is not a number.
    """
    columns = _columns(metrics)
    rates = columns.pop("learning_rate", None)
    n_rows = 1 if rates is None else 2
    figure = Figure(figsize=(7.0, 3.2 + n_rows), layout="constrained")
    panels = figure.subplots(
        n_rows, sharex=True, squeeze=False, height_ratios=[3, 1][:n_rows]
    ).ravel()
    _draw_losses(panels[0], columns)
    if floor is not None:
        panels[0].axhline(floor, color=GREY, linestyle="--", label=f"{floor_label}: {floor:.3f}")
    panels[0].set(title=printable(title), ylabel="loss (nats per token)")
    panels[0].legend(frameon=False)
    if rates is not None:
        panels[1].plot(*_known(columns["step"], rates), color=GREY)
        panels[1].set(ylabel="learning rate", ylim=(0, None))
    panels[-1].set_xlabel("step")
    for axes in panels:
        _tidy(axes)
    return _finish(figure, path)


def _draw_losses(axes: Axes, columns: Mapping[str, np.ndarray]) -> None:
    if "train_loss" in columns:
        steps, losses = _known(columns["step"], columns["train_loss"])
        axes.plot(steps, losses, color=BLUE, alpha=0.8, linewidth=1, label="train")
    if "val_loss" in columns:
        steps, losses = _known(columns["step"], columns["val_loss"])
        label = f"validation, best {losses.min():.3f}" if len(losses) else "validation"
        axes.plot(steps, losses, color=ORANGE, marker=".", label=label)


def _columns(
    metrics: Sequence[Row] | Mapping[str, Sequence[float | str | None]],
) -> dict[str, np.ndarray]:
    """The columns that are drawn, as float64; NaN where a row has no value."""
    wanted = ("step", "train_loss", "val_loss", "learning_rate")
    if isinstance(metrics, Mapping):
        table = {name: list(metrics[name]) for name in wanted if name in metrics}
    else:
        table = {name: [row.get(name) for row in metrics] for name in wanted}
    columns = {name: _numbers(name, cells) for name, cells in table.items()}
    columns = {name: column for name, column in columns.items() if not np.isnan(column).all()}
    if "step" not in columns or not {"train_loss", "val_loss"} & columns.keys():
        found = ", ".join(columns) or "none"
        raise UsageError(f"metrics need step and train_loss or val_loss; columns found: {found}")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"columns of metrics differ in length: {lengths}")
    return columns


def _numbers(name: str, cells: Sequence[float | str | None]) -> np.ndarray:
    try:
        return np.array([math.nan if cell in (None, "") else float(cell) for cell in cells])
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"column {name} of metrics contains a cell that is not a number: {error}"
        ) from None


def _known(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(steps) & np.isfinite(values)
    return steps[known], values[known]


# --- embeddings and positions ---


@literal_text
def plot_embeddings(
    weight: Values,
    labels: Sequence[str],
    *,
    title: str = "Token embeddings",
    path: str | Path | None = None,
) -> Figure:
    """Draw the rows of (V, d_model) in the plane of their first two principal components (PCA).

    Each point is labelled. Raises ShapeError or UsageError if the inputs do not fit.
    """
    weight = _array(weight, ("V", "d_model"), "weight")
    V, d_model = weight.shape
    if min(V, d_model) < 2:
        raise UsageError(f"weight has shape {weight.shape}; both V and d_model must be at least 2")
    _expect_labels(labels, V, "labels")
    points, shares = _principal_plane(weight)
    side, fontsize = min(12.0, 5.0 + V / 40), max(5, 10 - V // 60)  # inches, points
    figure = Figure(figsize=(side, 0.85 * side), layout="constrained")
    axes = figure.add_subplot(title=printable(title))
    axes.scatter(points[:, 0], points[:, 1], s=8, color=BLUE, alpha=0.5, linewidths=0)
    for (x, y), label in zip(points, labels, strict=True):
        text = _visible(label)
        axes.annotate(text, (x, y), (3, 3), textcoords="offset points", fontsize=fontsize)
    axes.set_xlabel(f"first direction ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second direction ({shares[1]:.0%})")
    axes.margins(0.08)
    _tidy(axes)
    return _finish(figure, path)


def _principal_plane(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project rows (V, d_model) on their two principal directions.

    Returns (points (V, 2), the share of the variance along each (2,)). A direction may point either
    way; here its largest component is positive, so that the same rows give the same picture.
    """
    centred = rows - rows.mean(axis=0)
    _, spreads, directions = np.linalg.svd(centred, full_matrices=False)  # one direction per row
    plane = directions[:2]
    largest = np.abs(plane).argmax(axis=1, keepdims=True)
    plane = plane * np.sign(np.take_along_axis(plane, largest, axis=1))
    variances = spreads**2
    return centred @ plane.T, variances[:2] / (variances.sum() or 1.0)


@literal_text
def plot_positional_encoding(
    table: Values, *, title: str = "Positional encoding", path: str | Path | None = None
) -> Figure:
    """Draw a table (T, d_model), one row per position; red is positive, blue negative, pale zero.

    Raises ShapeError or UsageError if it is not a finite table.
    """
    table = _array(table, ("T", "d_model"), "table")
    largest = float(np.abs(table).max()) or 1.0
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot(title=printable(title), xlabel="dimension", ylabel="position")
    axes.locator_params(integer=True)
    image = axes.imshow(
        table,
        cmap=SIGNED_MAP,
        vmin=-largest,
        vmax=largest,
        aspect="auto",
        interpolation="nearest",
    )
    figure.colorbar(image, ax=axes, label="value")
    return _finish(figure, path)


# --- sampling ---


@literal_text
def plot_sampling_distributions(
    distributions: Mapping[str, Values],
    labels: Sequence[str],
    *,
    n_top: int = 10,
    title: str = "Next-token distribution of each strategy",
    path: str | Path | None = None,
) -> Figure:
    """Draw the next-token distributions of strategies ({name: probabilities (V,)}) side by side.

    All panels show the same tokens, the `n_top` most likely under the first strategy, so that rows
    are comparable. Raises ShapeError or UsageError if the inputs do not fit or do not sum to 1.
    """
    if not distributions:
        raise UsageError("distributions is empty; give at least one, as {name: probabilities}")
    table = {name: _probabilities(p, name) for name, p in distributions.items()}
    first = next(iter(table.values()))
    for name, p in table.items():
        check_shape(p, ("V",), name, V=len(first))
    _expect_labels(labels, len(first), "labels")
    top = np.argsort(-first, kind="stable")[:n_top]
    names = [_visible(labels[int(i)]) for i in top]
    bars = {name: p[top] for name, p in table.items()}
    if len(top) < len(first):
        names.append("all others")
        bars = {name: np.append(p[top], np.delete(p, top).sum()) for name, p in table.items()}
    widest = 1.4 * max(float(heights.max()) for heights in bars.values())  # room for the percentage
    n_rows, n_columns = _grid(len(table))
    size = (1.3 + 2.3 * n_columns, 0.5 + n_rows * (0.7 + 0.24 * len(names)))
    figure = Figure(figsize=size, layout="constrained")
    for i, (name, heights) in enumerate(bars.items()):
        axes = figure.add_subplot(n_rows, n_columns, i + 1, title=printable(name), xlim=(0, widest))
        _draw_bars(axes, heights, len(top), names if i % n_columns == 0 else [])
    figure.suptitle(printable(title))
    return _finish(figure, path)


def _draw_bars(axes: Axes, p: np.ndarray, n_tokens: int, names: Sequence[str]) -> None:
    """One bar per token, the most likely on top, with its percentage; a last bar for the rest."""
    colours = [BLUE if i < n_tokens else GREY for i in range(len(p))]
    bars = axes.barh(range(len(p)), p, color=colours)
    axes.bar_label(bars, [f"{x:.1%}" if x > 0 else "0" for x in p], padding=2, fontsize=8)
    axes.set_ylim(len(p) - 0.4, -0.6)
    axes.set_xticks([])
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


# --- shared helpers ---


def _array(values: Values, pattern: Pattern, what: str) -> np.ndarray:
    """A float64 copy with the shape of the pattern, not empty, all finite."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().to(torch.float64).numpy()
    array = np.array(values, dtype=np.float64)
    check_shape(array, pattern, what)
    if array.size == 0:
        raise UsageError(f"{what} has shape {array.shape}: nothing to draw; no axis may be 0")
    if not np.isfinite(array).all():
        value = array[~np.isfinite(array)][0]
        raise UsageError(f"{what} contains {value}; every value must be finite")
    return array


def _weights(values: Values, pattern: Pattern) -> np.ndarray:
    weights = _array(values, pattern, "weights")
    if weights.min() < 0:
        raise UsageError(f"weights contains {weights.min():.3g}; apply softmax to scores first")
    return weights


def _probabilities(values: Values, name: str) -> np.ndarray:
    p = _array(values, ("V",), name)
    if p.min() < 0 or abs(p.sum() - 1) > 1e-2:  # bfloat16 has two to three digits
        raise UsageError(
            f"{name} must be probabilities, at least 0 and summing to 1; "
            f"its minimum is {p.min():.3g}, its sum {p.sum():.3g}"
        )
    return p


def _expect_labels(labels: Sequence[str], n: int, what: str) -> None:
    if len(labels) != n:
        raise UsageError(f"{what} has {len(labels)} entries, but there are {n} to label")


def _label_axis(axis: Axis, labels: Sequence[str] | None, at_most: int) -> None:
    """Write every label, or every n-th if there are more than `at_most`; None hides them."""
    if labels is None:
        axis.set_ticks([])
        return
    every = math.ceil(len(labels) / at_most)
    shown = [_visible(label) for label in labels[::every]]
    is_upright = isinstance(axis, XAxis) and max(map(len, shown)) > 2
    axis.set_ticks(
        range(0, len(labels), every),
        labels=shown,
        fontsize=9,
        rotation=90 if is_upright else 0,
    )


def _room(labels: Sequence[str]) -> float:
    """Width of the longest label at 9 points, in inches."""
    return 0.08 * max(len(_visible(label)) for label in labels)


def _grid(n: int) -> tuple[int, int]:
    """Rows and columns for n panels: at most four columns, rows as even as possible."""
    n_rows = math.ceil(n / 4)
    return n_rows, math.ceil(n / n_rows)


def _visible(token: str) -> str:
    """At most 16 characters, with visible spaces and newlines and escaped control characters."""
    marks = {" ": "␣", "\n": "↵", "\t": "⇥"}
    text = "".join(marks.get(c, c if c.isprintable() else repr(c)[1:-1]) for c in token) or "''"
    return text if len(text) <= 16 else text[:15] + "…"


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _finish(figure: Figure, path: str | Path | None) -> Figure:
    """The figure, saved if a path is given."""
    if path is not None:
        save_figure(figure, path)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save a figure in the format of its suffix, whole or not at all; the folder is made."""
    path = Path(path)
    kind = pick(path.suffix.lower(), (".png", ".svg", ".pdf"), "suffix of a picture")
    picture = io.BytesIO()
    figure.savefig(picture, format=kind[1:], dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, picture.getvalue())
    return path
