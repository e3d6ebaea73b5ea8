"""Draw every picture of this lesson, from real numbers.

    python 03_transformer_blocks/pictures/draw.py              from measured.json where it is slow
    python 03_transformer_blocks/pictures/draw.py --measure    train everything again: minutes

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor, nn

from feedforward import gelu, relu_squared, silu
from layer_norm import LayerNorm
from mixture_of_experts import MixtureOfExperts
from multi_head import MultiHeadAttention
from stack_lab import StackLM, batch, corpus, final_loss, standard_block, train, unigram_entropy
from transformer_block import TransformerBlock
from utils.errors import run_program
from utils.pictures import hide_frame, read_measured, save_pictures, write_measured
from utils.visualization import BLUE, GREEN, GREY, ORANGE, PURPLE

HERE = Path(__file__).resolve().parent
DEPTHS = (2, 3, 4, 5, 6, 8)
RECIPES = {"pre": ("pre", 0), "post": ("post", 0), "post, warm-up": ("post", 150)}
SEEDS = (0, 1)
N_STEPS, LR = 300, 3e-3
CURVE_STEPS = 250
LETTERS = {  # of exercise 3.12
    "A": "learning rate too low",
    "B": "no causal mask",
    "C": "learning rate too high",
    "D": "sound",
    "E": "no residual connections",
    "F": "initial weights too large",
}
BALANCE = (0.0, 0.01)  # factors of the load balance loss


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    parser = argparse.ArgumentParser(description="Draw the pictures of lesson 03.")
    parser.add_argument("--measure", action="store_true", help="train again, and keep the results")
    if parser.parse_args().measure:
        write_measured(HERE, measure())
    found = read_measured(HERE)
    pictures = {
        "blocks": blocks(),
        "stream": stream(),
        "activations": activations(),
        "gradients": gradients(),
        "warmup": warmup(found["warmup"]),
        "which_curve": which_curve(found["curves"]),
        "expert_load": expert_load(found["experts"]),
    }
    save_pictures(pictures, HERE)


# --- what takes long to measure ---


def measure() -> dict[str, Any]:
    """Train all the small models of the pictures."""
    torch.set_num_threads(1)
    curves = {name: [round(x, 3) for x in run()] for name, run in CURVES.items()}
    experts = {f"{factor:g}": measure_experts(factor) for factor in BALANCE}
    warm = {
        name: {
            str(depth): [round(measure_depth(depth, name, seed), 3) for seed in SEEDS]
            for depth in DEPTHS
        }
        for name in RECIPES
    }
    return {"warmup": warm, "curves": curves, "experts": experts}


def measure_depth(depth: int, recipe: str, seed: int, n_steps: int = N_STEPS) -> float:
    """The final loss of a stack of this depth."""
    placement, warmup_steps = RECIPES[recipe]
    torch.manual_seed(seed)
    model = StackLM(depth, placement)
    return final_loss(train(model, n_steps, LR, warmup_steps, seed))


class Replacing(TransformerBlock):
    """A block without residual connections: each sublayer replaces the stream."""

    def forward(self, x: Tensor, mask: Tensor | None = None, attend: Any = None) -> Tensor:
        x = self.attention(self.attention_norm(x), mask)
        return self.feed_forward(self.feed_forward_norm(x))


def replacing(d_model: int, placement: str = "pre") -> nn.Module:
    block = standard_block(d_model, placement)
    block.__class__ = Replacing
    return block


def curve(
    lr: float = LR, masked: bool = True, n_steps: int = CURVE_STEPS, **options: Any
) -> list[float]:
    """The losses of four blocks, with one thing wrong or nothing."""
    torch.manual_seed(0)
    model = StackLM(4, **options)
    model.mask = model.mask if masked else None
    return train(model, n_steps, lr)


CURVES: dict[str, Callable[[], list[float]]] = {
    "sound": curve,
    "learning rate too low": lambda: curve(lr=1e-4),
    "learning rate too high": lambda: curve(lr=1.0),
    "no causal mask": lambda: curve(masked=False),
    "no residual connections": lambda: curve(build=replacing),
    "initial weights too large": lambda: curve(std=1.0),
}


def expert_block(d_model: int, placement: str = "pre") -> nn.Module:
    """A block with eight experts, each half as wide as usual, two per token."""
    return TransformerBlock(
        MultiHeadAttention(d_model, 4),
        MixtureOfExperts(d_model, 2 * d_model, n_experts=8, k=2),
        LayerNorm(d_model),
        LayerNorm(d_model),
        placement,
    )


def measure_experts(factor: float) -> list[float]:
    """Two blocks of experts: the final loss, then each expert's load in the first block."""

    def balance(model: StackLM) -> Tensor:
        losses = [block.feed_forward.balance_loss for block in model.blocks]  # pyright: ignore
        return factor * torch.stack(losses).sum()  # pyright: ignore

    torch.manual_seed(1)
    model = StackLM(2, build=expert_block)
    losses = train(model, N_STEPS, LR, seed=1, extra=balance)
    tokens, _ = batch(torch.Generator().manual_seed(99))
    model(tokens)
    load = model.blocks[0].feed_forward.load  # pyright: ignore
    return [round(final_loss(losses), 3), *(round(x, 3) for x in load.tolist())]  # pyright: ignore


# --- the two blocks ---


def blocks() -> Figure:
    """Pre-norm and post-norm, as boxes: where is the norm?"""
    figure = Figure(figsize=(8, 4.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 16), ylim=(0, 9.2))
    axes.axis("off")
    draw_block(axes, 2.2, "pre-norm", on_branch=True)
    draw_block(axes, 10.2, "post-norm", on_branch=False)
    return figure


def draw_block(axes: Axes, x: float, title: str, on_branch: bool) -> None:
    """One block, from below to above; the thick line is the residual stream."""
    axes.text(x + 1.5, 8.85, title, ha="center", va="center", fontsize=12, weight="bold")
    draw_arrow(axes, (x, 0.3), (x, 8.4), width=3.0)
    axes.text(x - 0.3, 0.25, "x", ha="right", va="bottom", fontsize=11)
    for bottom, name in ((0.8, "attention"), (4.7, "feed-forward")):
        out = bottom + 2.75 if on_branch else bottom + 2.0
        draw_arrow(axes, (x, bottom), (x + 2.0, bottom), "-")
        if on_branch:
            draw_arrow(axes, (x + 2.0, bottom), (x + 2.0, bottom + 0.4))
            draw_box(axes, x + 2.0, bottom + 0.75, "norm", "#fde8c8")
            draw_arrow(axes, (x + 2.0, bottom + 1.1), (x + 2.0, bottom + 1.5))
            draw_box(axes, x + 2.0, bottom + 1.85, name, "#d6e8f5")
            draw_arrow(axes, (x + 2.0, bottom + 2.2), (x + 2.0, out), "-")
        else:
            draw_arrow(axes, (x + 2.0, bottom), (x + 2.0, bottom + 0.7))
            draw_box(axes, x + 2.0, bottom + 1.05, name, "#d6e8f5")
            draw_arrow(axes, (x + 2.0, bottom + 1.4), (x + 2.0, out), "-")
            draw_box(axes, x, bottom + 2.85, "norm", "#fde8c8")
        draw_arrow(axes, (x + 2.0, out), (x + 0.28, out))
        axes.text(
            *(x, out, "+"),
            ha="center",
            va="center",
            fontsize=12,
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"},
            zorder=4,
        )


def draw_box(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    box = FancyBboxPatch(
        (x - 1.1, y - 0.33), 2.2, 0.66, boxstyle="round,pad=0.02", facecolor=colour, zorder=3
    )
    axes.add_patch(box)
    axes.text(x, y, text, ha="center", va="center", fontsize=10, zorder=5)


def draw_arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    style: str = "-|>",
    width: float = 1.2,
) -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle=style, mutation_scale=12, lw=width, shrinkA=0, shrinkB=0, zorder=2
    )
    axes.add_patch(arrow)


# --- what runs through an untrained stack ---


def measure_stream(placement: str, n_blocks: int = 12, seed: int = 0) -> list[Tensor]:
    """The stream of an untrained stack, from an embedding with variance 1."""
    torch.manual_seed(seed)
    model = StackLM(n_blocks, placement)
    nn.init.normal_(model.token.weight)
    nn.init.zeros_(model.position.weight)
    tokens, _ = batch(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model.stream(tokens)


def mean_cosine(x: Tensor, y: Tensor) -> float:
    return F.cosine_similarity(x, y, dim=-1).mean().item()


def stream() -> Figure:
    """The features of one token from the embedding to the last block."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, placement in zip(panels, ("pre", "post"), strict=True):
        found = measure_stream(placement)
        cosine = mean_cosine(found[-1], found[0])
        token = torch.stack([x[0, 20] for x in found])  # (n_blocks + 1, d_model)
        axes.imshow(
            token.T, cmap="coolwarm", vmin=-4, vmax=4, aspect="auto", interpolation="nearest"
        )
        axes.set(title=f"{placement}-norm: cosine of first and last {cosine:.2f}")
        axes.set_xlabel("after block")
    panels[0].set_ylabel("feature")
    figure.colorbar(panels[0].images[0], ax=panels, label="value")
    return figure


# --- activations ---


def activations() -> Figure:
    """Three activations and their slopes."""
    x = torch.linspace(-4, 4, 401, dtype=torch.float64, requires_grad=True)
    figure = Figure(figsize=(8, 3), layout="constrained")
    value, slope = figure.subplots(1, 2)
    named = {"ReLU": torch.relu, "ReLU²": relu_squared, "GELU": gelu, "SiLU": silu}
    for (name, function), colour in zip(named.items(), (GREY, GREEN, BLUE, ORANGE), strict=True):
        y = function(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        value.plot(x.detach(), y.detach(), color=colour, label=name)
        slope.plot(x.detach(), gradient, color=colour, label=name)
    value.set(title="activation", ylim=(-0.5, 4), xlabel="x")
    slope.set(title="slope", ylim=(-0.3, 3), xlabel="x")
    value.legend(frameon=False)
    hide_frame(value, slope)
    return figure


# --- gradients ---


def measure_gradients(placement: str, n_blocks: int, n_seeds: int = 3) -> Tensor:
    """Norm of the loss's gradient at each block's down_proj, untrained: (n_blocks,)."""
    total = torch.zeros(n_blocks)
    for seed in range(n_seeds):
        torch.manual_seed(seed)
        model = StackLM(n_blocks, placement)
        tokens, targets = batch(torch.Generator().manual_seed(seed))
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        matrices = [block.feed_forward.down_proj.weight for block in model.blocks]  # pyright: ignore
        found = torch.autograd.grad(loss, matrices)  # pyright: ignore
        total += torch.stack([gradient.norm() for gradient in found])
    return total / n_seeds


def gradients() -> Figure:
    """Gradient norms by block for 24 blocks, and of the last block by depth."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    by_block, last = figure.subplots(1, 2)
    depths = (2, 4, 8, 16, 24)
    for placement, colour in (("pre", BLUE), ("post", ORANGE)):
        label = f"{placement}-norm"
        found = {depth: measure_gradients(placement, depth) for depth in depths}
        by_block.plot(range(1, 25), found[24], "o-", ms=4, color=colour, label=label)
        last.plot(depths, [found[n][-1].item() for n in depths], "o-", color=colour, label=label)
    by_block.set(title="24 blocks: gradient norm by block", xlabel="block", ylim=(0, None))
    last.set(title="gradient norm of the last block", xlabel="number of blocks", ylim=(0, None))
    by_block.legend(frameon=False)
    hide_frame(by_block, last)
    return figure


# --- what was trained ---


def warmup(found: dict[str, dict[str, list[float]]]) -> Figure:
    """The final loss by depth; a dot per seed."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.add_subplot(xlabel="number of blocks", ylabel="loss after 300 steps (nats)")
    axes.axhline(unigram_entropy(), color=GREY, linestyle="--", linewidth=1)
    axes.text(DEPTHS[0], unigram_entropy() + 0.02, "character frequencies only", color=GREY)
    colours = {"pre": BLUE, "post": ORANGE, "post, warm-up": PURPLE}
    for name, losses in found.items():
        label = name.replace("pre", "pre-norm").replace("post", "post-norm")
        mean = [sum(losses[str(depth)]) / len(SEEDS) for depth in DEPTHS]
        axes.plot(DEPTHS, mean, color=colours[name], label=label)
        for number in range(len(SEEDS)):
            dots = [losses[str(depth)][number] for depth in DEPTHS]
            axes.plot(DEPTHS, dots, "o", color=colours[name], ms=5)
    axes.set_xticks(DEPTHS)
    axes.set_ylim(2.0, 3.5)
    axes.legend(frameon=False, loc="center right")
    hide_frame(axes)
    return figure


def which_curve(found: dict[str, list[float]]) -> Figure:
    """Six loss curves by letter; the exercise asks what made them."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    guess = math.log(len(corpus()[1]))  # the loss of equal probabilities
    for axes, (letter, name) in zip(panels, LETTERS.items(), strict=True):
        axes.axhline(guess, color=GREY, linestyle=":", linewidth=1)
        axes.axhline(unigram_entropy(), color=GREY, linestyle="--", linewidth=1)
        axes.plot(found[name], color=BLUE, linewidth=1.2)
        axes.set_title(letter, loc="left", weight="bold")
        axes.set_yscale("log")
        ticks = (0.3, 1, 3, 10, 30, 100)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    for axes in panels[3:]:
        axes.set_xlabel("step")
    for axes in panels[::3]:
        axes.set_ylabel("loss (nats)")
    hide_frame(*panels)
    return figure


def expert_load(found: dict[str, list[float]]) -> Figure:
    """Each expert's share of the choices, without and with the balance loss."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (factor, (_, *load)), colour in zip(
        panels, found.items(), (ORANGE, BLUE), strict=True
    ):
        axes.bar(range(len(load)), load, color=colour)
        axes.axhline(1 / len(load), color=GREY, linestyle="--", linewidth=1)
        without = "without balance loss" if factor == "0" else f"balance loss times {factor}"
        axes.set(title=without, xlabel="expert")
    panels[0].set_ylabel("share of the choices")
    hide_frame(*panels)
    return figure


if __name__ == "__main__":
    run_program(main)
