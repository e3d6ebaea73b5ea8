"""Draw every picture of this lesson, from real numbers.

    python 01_attention/pictures/draw.py

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

import math
import runpy
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from torch import Tensor

from attention import causal_mask, padding_mask, scaled_dot_product_attention, softmax
from utils.errors import run_program
from utils.pictures import save_pictures
from utils.visualization import (
    BLUE,
    ORANGE,
    plot_attention_heads,
    plot_sampling_distributions,
)

HERE = Path(__file__).resolve().parent
SOLUTIONS = HERE.parent / "exercises" / "solutions.py"  # this file must not show a solution


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    pictures = {
        "softmax_scales": softmax_scales(),
        "query_key_value": query_key_value(),
        "saturation": saturation(),
        "masks": masks(),
        "learned_head": learned_head(),
        "which_mask": which_mask(),
    }
    save_pictures(pictures, HERE)


# --- the softmax ---


def softmax_scales() -> Figure:
    """The same four scores, multiplied by 0.1, 1 and 10."""
    scores = torch.tensor([2.0, 1.0, 0.5, -1.0])
    labels = [f"{score:g}" for score in scores.tolist()]
    weights = {f"scores × {scale:g}": softmax(scale * scores) for scale in (0.1, 1.0, 10.0)}
    return plot_sampling_distributions(weights, labels, title="The same four scores, scaled")


def measure_saturation(d_k: int, divided: bool) -> tuple[float, float, float]:
    """Variance of a score, and medians of the largest weight and of the gradient at the query.

    1,000 random queries with 16 random keys each; features have mean 0 and variance 1.
    """
    torch.manual_seed(0)
    q = torch.randn(1000, 1, d_k, requires_grad=True)
    k, v = torch.randn(1000, 16, d_k), torch.randn(1000, 16, 1)
    scores = q @ k.mT / (math.sqrt(d_k) if divided else 1.0)  # (1000, 1, 16)
    weights = softmax(scores)
    (gradient,) = torch.autograd.grad((weights @ v).sum(), q)
    variance = scores[:, 0, 0].detach().var()  # of independent pairs: the first key only
    largest = weights.detach().amax(-1).median()
    return variance.item(), largest.item(), gradient.norm(dim=-1).median().item()


def saturation() -> Figure:
    """Largest weight and gradient as d_k grows, with and without the division."""
    widths = [4, 16, 64, 256, 1024]
    figure = Figure(figsize=(8, 3), layout="constrained")
    largest = figure.add_subplot(1, 2, 1, title="largest of 16 weights", ylim=(0, 1.05))
    gradient = figure.add_subplot(1, 2, 2, title="gradient at the query", yscale="log")
    for divided, colour in ((False, ORANGE), (True, BLUE)):
        measured = [measure_saturation(d_k, divided) for d_k in widths]
        label = "divided by √d_k" if divided else "not divided"
        largest.plot(widths, [row[1] for row in measured], "o-", color=colour, label=label)
        gradient.plot(widths, [row[2] for row in measured], "o-", color=colour, label=label)
    for axes in (largest, gradient):
        axes.set_xscale("log", base=4)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.set_xlabel("d_k")
        axes.spines[["top", "right"]].set_visible(False)
    gradient.legend(frameon=False)
    return figure


# --- from x to the output ---


def query_key_value() -> Figure:
    """Every matrix of attention as a block of cells, with its shape, from left to right."""
    torch.manual_seed(2)
    T, d_model, d_k, d_v = 5, 6, 4, 3
    x = torch.randn(T, d_model)
    W_q, W_k, W_v = (torch.randn(d_model, width) for width in (d_k, d_k, d_v))
    q, k, v = x @ W_q, x @ W_k, x @ W_v
    output, weights = scaled_dot_product_attention(q, k, v)
    scores = q @ k.mT / math.sqrt(d_k)
    figure = Figure(figsize=(9, 5))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    draw_matrix(axes, x, (1, 8), "x", "(T, d_model)")
    draw_matrix(axes, q, (11, 1), "q = x W_q", "(T, d_k)")
    draw_matrix(axes, k, (11, 8), "k = x W_k", "(T, d_k)")
    draw_matrix(axes, v, (11, 15), "v = x W_v", "(T, d_v)")
    draw_matrix(axes, scores, (18.5, 4.5), "q kᵀ / √d_k", "(T, T)")
    draw_matrix(axes, weights, (25.5, 4.5), "softmax of each row", "(T, T)", "viridis")
    draw_matrix(axes, output, (32.5, 11), "output = weights v", "(T, d_v)")
    for start, end in [
        ((7.3, 9.5), (10.7, 4)),  # x to q
        ((7.3, 10.5), (10.7, 10.5)),  # x to k
        ((7.3, 11.5), (10.7, 17)),  # x to v
        ((15.3, 3.5), (18.2, 6.3)),  # q to scores
        ((15.3, 10.5), (18.2, 7.7)),  # k to scores
        ((23.8, 7), (25.2, 7)),  # scores to weights
        ((30.8, 8.5), (32.6, 10.2)),  # weights to output
        ((14.3, 17.5), (32.2, 14.5)),  # v to output
    ]:
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, lw=1.2))
    key = "red: positive    blue: negative\nweights: dark 0, yellow 1"
    axes.text(1, 20, key, va="bottom", fontsize=9)
    return figure


def draw_matrix(
    axes: Axes,
    matrix: Tensor,
    corner: tuple[float, float],
    name: str,
    shape: str,
    colours: str = "coolwarm",
) -> None:
    """A matrix of unit cells with its upper left corner there, its name above, its shape below."""
    rows, columns = matrix.shape
    left, top = corner
    limit = None if colours == "viridis" else float(matrix.abs().max())
    axes.imshow(
        matrix,
        cmap=colours,
        vmin=0 if limit is None else -limit,
        vmax=limit,
        extent=(left, left + columns, top + rows, top),
        interpolation="nearest",
    )
    middle = left + columns / 2
    axes.text(middle, top - 0.3, name, ha="center", va="bottom", fontsize=9)
    axes.text(middle, top + rows + 0.3, shape, ha="center", va="top", fontsize=8, color="#444444")
    axes.set(xlim=(0, 37.5), ylim=(21, 0), aspect="equal")  # imshow has changed them


# --- masks and maps ---


def masks() -> Figure:
    """Weights of queries without a preference, which are pictures of the masks."""
    tokens = ["the", "cat", "sat", "down", "<pad>", "<pad>"]
    T = len(tokens)
    causal, padding = causal_mask(T), padding_mask(torch.tensor([4]), T)[0, 0]
    named = {
        "causal": causal,
        "padding": padding.expand(T, T),
        "causal and padded": causal & padding,
        "sliding window of 3": sliding_window(T, 3),
    }
    undecided = torch.zeros(T, 8)  # every score is 0
    return draw_maps(
        {
            name: scaled_dot_product_attention(undecided, undecided, undecided, mask)[1]
            for name, mask in named.items()
        },
        tokens,
        "Equal scores: a query shares its weight among the keys it may see (grey: forbidden)",
    )


def draw_maps(maps: Mapping[str, Tensor], tokens: list[str], title: str) -> Figure:
    """Attention maps side by side, each under its name."""
    return plot_attention_heads(
        torch.stack(list(maps.values())), tokens, titles=list(maps), title=title
    )


def which_mask_maps() -> dict[str, Tensor]:
    """The maps of exercise 1.10 by letter; the scores are random."""
    T = 6
    causal, keys = causal_mask(T), torch.arange(T)
    allowed = {
        "A": keys < 4,  # padding on the right
        "B": sliding_window(T, 2),
        "C": causal & (keys >= 2),  # padding on the left
        "D": causal,
    }
    torch.manual_seed(5)
    q, k = torch.randn(T, 4), torch.randn(T, 4)
    return {
        letter: scaled_dot_product_attention(q, k, k, mask.expand(T, T))[1]
        for letter, mask in allowed.items()
    }


def sliding_window(T: int, window: int) -> Tensor:
    """(T, T) bool: each query may attend to itself and the `window` - 1 keys before it."""
    return runpy.run_path(str(SOLUTIONS))["sliding_window_mask"](T, window)


def which_mask() -> Figure:
    """Four maps; the exercise asks for their masks."""
    tokens = [str(position) for position in range(6)]
    return draw_maps(which_mask_maps(), tokens, "Which mask made which map?")


# --- a head that learned ---

LETTERS = "ABCDEFGHIJKL"


def puzzles(n: int) -> Tensor:
    """Eight letters in random order, twice over: (n, 16)."""
    order = torch.rand(n, len(LETTERS)).argsort(-1)[:, :8]
    return torch.cat([order, order], dim=1)


def head(tokens: Tensor, W_q: Tensor, W_k: Tensor) -> tuple[Tensor, Tensor]:
    """One head whose inputs are each letter and the one before it; its values are the letters.

    tokens (n, T) -> the probability of each letter (n, T, V), and the weights (n, T, T).
    """
    own = F.one_hot(tokens, len(LETTERS)).float()
    before = F.pad(own[:, :-1], (0, 0, 1, 0))
    x = torch.cat([own, before], dim=-1)
    return scaled_dot_product_attention(x @ W_q, x @ W_k, own, causal_mask(tokens.size(1)))


def learned_head(n_steps: int = 200) -> Figure:
    """The maps of one puzzle before and after training W_q and W_k."""
    torch.manual_seed(0)
    W_q, W_k = (0.1 * torch.randn(2 * len(LETTERS), 16) for _ in range(2))
    optimizer = torch.optim.Adam([W_q.requires_grad_(), W_k.requires_grad_()], lr=0.01)
    example = puzzles(1)
    before = head(example, W_q, W_k)[1][0].detach()
    for _ in range(n_steps):
        batch = puzzles(32)
        output, _ = head(batch, W_q, W_k)
        guesses, answers = output[:, 8:-1], batch[:, 9:]
        loss = -guesses.gather(-1, answers[..., None]).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = head(example, W_q, W_k)[1][0].detach()
    letters = [LETTERS[number] for number in example[0].tolist()]
    maps = {"before training": before, f"after {n_steps} steps": after}
    return draw_maps(maps, letters, "A head learns to find what came next")


if __name__ == "__main__":
    run_program(main)
