"""Draw every picture of this lesson, from real numbers.

    python 05_model/pictures/draw.py              from measured.json where it is slow
    python 05_model/pictures/draw.py --measure    train everything again: about fifteen minutes

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import encoder
import encoder_decoder
from attention import causal_mask, scaled_dot_product_attention
from budgets import GPT_2, LLAMA_3_8B, count_parameters, parameters_by_kind, training_flops
from encoder_decoder import EncoderDecoder
from initialization import pytorch_default_
from parts import Parts
from pattern_lab import sorting
from prefix_lm import PrefixLM, prefix_mask
from stack_lab import batch, corpus
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import run_program
from utils.pictures import hide_frame, read_measured, save_pictures, write_measured
from utils.shape_checker import ShapeTracer
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
MODELS = {"the default": ModelConfig(), "GPT-2 small": GPT_2, "Llama 3 8B": LLAMA_3_8B}
LETTERS = {  # of exercise 5.5
    "A": "decoder",
    "B": "encoder",
    "C": "cross-attention",
    "D": "prefix LM",
    "E": "decoder with a leak",
    "F": "encoder with padding",
}


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    parser = argparse.ArgumentParser(description="Draw the pictures of lesson 05.")
    parser.add_argument("--measure", action="store_true", help="train again, and keep the results")
    if parser.parse_args().measure:
        write_measured(HERE, measure())
    found = read_measured(HERE)
    pictures = {
        "model": model(),
        "which_pattern": which_pattern(),
        "first_steps": first_steps(found["first steps"]),
        "parameters": parameters(),
        "operations": operations(),
        "patterns": seen_by_whom(),
        "jumps": jump_curves(found["jumps"]),
    }
    save_pictures(pictures, HERE)


# --- what takes long to measure ---


def measure() -> dict[str, Any]:
    """Train all the small models of the pictures."""
    torch.set_num_threads(1)
    starts = {
        name: {str(seed): rounded(first_losses(name, seed)) for seed in SEEDS} for name in STARTS
    }
    gaps = {name: [gap_accuracy(name, seed) for seed in SEEDS] for name in GAP_MODELS}
    hops = {name: [jump_result(name, seed) for seed in SEEDS] for name in JUMP_MODELS}
    closed = {"cross-attention zero": [jump_result("", seed, zero=True) for seed in SEEDS]}
    sorted_ = {name: [sorting_accuracy(name, seed) for seed in SEEDS] for name in JUMP_MODELS}
    return {
        "first steps": starts,
        "gaps": gaps,
        "jumps": hops,
        "closed": closed,
        "sorting": sorted_,
    }


def rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


# --- the model ---

Shape = tuple[int, ...]


def layers_of(config: ModelConfig, T: int = 64) -> list[tuple[str, str, int]]:
    """What a TinyTransformerLM consists of, in order: name, what it holds, parameters.

    Names and sizes are read from the module itself, the order from a forward pass. The blocks are
    alike, so only the first is listed.
    """
    with torch.no_grad():
        lm = TinyTransformerLM(config)
        with ShapeTracer(lm, show=False) as tracer:
            lm(torch.zeros(1, T, dtype=torch.long))
    found = []
    for record in tracer.records[1:]:
        module = lm.get_submodule(record.name)
        own = list(module.named_parameters(recurse=False))
        if own and not record.name.startswith(tuple(f"blocks.{i}." for i in range(1, 100))):
            weight = " × ".join(map(str, own[0][1].shape))
            shift = ", a bias" if len(own) == 2 else ""
            found.append((record.name, f"{weight}{shift}", sum(p.numel() for _, p in own)))
    return found


BOX = {  # the colour of a box, by what its name holds
    "embedding": "#d9ead3",
    "norm": "#fde8c8",
    "proj": "#d6e8f5",
}


def model() -> Figure:
    """The default model from tokens to logits, as boxes, bottom to top."""
    config = ModelConfig()
    layers = {name: (weights, count) for name, weights, count in layers_of(config)}
    figure = Figure(figsize=(6.0, 5.7))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 16), ylim=(0, 16))
    axes.axis("off")
    stream, branch = 3.3, 10.4
    label(axes, stream, 0.4, f"tokens: B × T integers below {config.vocab_size}")
    arrow(axes, (stream, 0.65), (stream, 1.05))
    layer_box(axes, stream, 1.4, 2.1, "token_embedding", *layers["token_embedding"])
    layer_box(axes, branch, 1.4, 2.1, "position_embedding", *layers["position_embedding"])
    arrow(axes, (stream, 1.8), (stream, 12.7), width=3.0)
    arrow(axes, (branch, 1.8), (branch, 2.4), "-")
    arrow(axes, (branch, 2.4), (stream + 0.3, 2.4))
    plus(axes, stream, 2.4)
    label(axes, stream + 0.4, 2.95, f"x: B × T × {config.d_model}, the residual stream", ha="left")
    frame = FancyBboxPatch(
        *((1.0, 3.4), 14.6, 8.9), boxstyle="round,pad=0.05", facecolor="none", edgecolor=GREY
    )
    axes.add_patch(frame)
    label(axes, 15.4, 11.95, f"one of {config.n_layers} blocks", ha="right", weight="bold")
    sublayers = {
        "attention": (["attention.q_proj", "attention.k_proj", "attention.v_proj"], "out_proj"),
        "feed_forward": (["feed_forward.up_proj"], "down_proj"),
    }
    y = 4.2
    for name, (first, last) in sublayers.items():
        arrow(axes, (stream, y - 0.5), (branch, y - 0.5), "-")
        arrow(axes, (branch, y - 0.5), (branch, y - 0.3))
        rows = [[f"{name}_norm"], first, [f"{name}.{last}"]]
        for height, row in enumerate(rows):
            for place, one in enumerate(row):
                x = branch + 3.4 * (place - (len(row) - 1) / 2)
                width = 1.6 if len(row) > 1 else 3.2
                layer_box(axes, x, y + 1.0 * height + 0.05, width, one, *layers[f"blocks.0.{one}"])
        top = y + 2.75
        arrow(axes, (branch, top - 0.35), (branch, top), "-")
        arrow(axes, (branch, top), (stream + 0.3, top))
        plus(axes, stream, top)
        y += 3.9
    layer_box(axes, stream, 13.05, 2.1, "final_norm", *layers["final_norm"])
    arrow(axes, (stream, 13.4), (stream, 13.8))
    label(axes, 1.2, 14.1, "times token_embedding.weight, transposed", ha="left")
    arrow(axes, (stream, 14.4), (stream, 14.9))
    label(axes, stream, 15.2, f"logits: B × T × {config.vocab_size}")
    total = sum(p.numel() for p in TinyTransformerLM(config).parameters())
    label(axes, 15.6, 15.2, f"{total:,} parameters in all", ha="right", weight="bold")
    for ends in (
        ((0.45, 1.4), (0.45, 14.1)),
        ((0.45, 1.4), (1.15, 1.4)),
        ((0.45, 14.1), (1.1, 14.1)),
    ):
        axes.plot(*zip(*ends, strict=True), color=GREY, linestyle="--", lw=1.2)
    label(axes, 0.72, 7.9, "the same table (tied)", rotation=90, color=GREY)
    return figure


def layer_box(
    axes: Axes, x: float, y: float, width: float, name: str, weights: str, count: int
) -> None:
    """A layer: its name in the checkpoint, what it holds, and how many parameters that is."""
    colour = next(colour for part, colour in BOX.items() if part in name)
    box = FancyBboxPatch(
        *((x - width, y - 0.3), 2 * width, 0.62),
        boxstyle="round,pad=0.04",
        facecolor=colour,
        zorder=3,
    )
    axes.add_patch(box)
    label(axes, x, y + 0.15, name, fontsize=7 if width < 2 else 8)
    label(axes, x, y - 0.15, f"{weights}: {count:,}", fontsize=5.8 if width < 2 else 7)


def label(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    axes.text(
        x, y, text, **({"ha": "center", "va": "center", "fontsize": 9, "zorder": 5} | options)
    )


def plus(axes: Axes, x: float, y: float) -> None:
    box = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": "black"}
    axes.text(x, y, "+", ha="center", va="center", fontsize=11, bbox=box, zorder=4)


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    style: str = "-|>",
    width: float = 1.2,
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            *(start, end),
            arrowstyle=style,
            mutation_scale=12,
            lw=width,
            shrinkA=0,
            shrinkB=0,
            color="black",
        )
    )


# --- who sees whom ---


def patterns() -> dict[str, Tensor]:
    """The attention weights of one random head for each kind of model: (T_q, T_k)."""
    T = 7
    leak = torch.ones(T, T, dtype=torch.bool).tril(1)
    padding = (torch.arange(T) < 5).expand(T, T)
    masks = {
        "decoder": causal_mask(T),
        "encoder": None,
        "cross-attention": None,
        "prefix LM": prefix_mask(T, 3),
        "decoder with a leak": leak,
        "encoder with padding": padding,
    }
    found = {}
    for number, (name, mask) in enumerate(masks.items()):
        generator = torch.Generator().manual_seed(number)
        T_k = 10 if name == "cross-attention" else T
        q, k = (torch.randn(n, 8, generator=generator) for n in (T, T_k))
        found[name] = scaled_dot_product_attention(q, k, k, mask)[1]
    return found


def which_pattern() -> Figure:
    """Six attention maps by letter; the exercise asks whose they are."""
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    found = patterns()
    for axes, (letter, name) in zip(panels, LETTERS.items(), strict=True):
        weights = found[name].numpy()
        hidden = weights.copy()
        hidden[hidden == 0] = math.nan
        axes.imshow(hidden, cmap=WEIGHTS_MAP, vmin=0, vmax=0.6)
        axes.set_title(letter, loc="left", weight="bold")
        axes.set_xticks(range(weights.shape[1]))
        axes.set_yticks(range(weights.shape[0]))
        axes.tick_params(length=0, labelsize=7)
    figure.supxlabel("key")
    figure.supylabel("query")
    return figure


# --- where training starts ---

SEEDS = (0, 1, 2)
FIRST_STEPS = 150
START_CONFIG = ModelConfig(57, max_seq_len=32, d_model=64, n_layers=4, n_heads=4)


def as_it_is(lm: TinyTransformerLM, seed: int) -> None:
    """The course's own beginning."""


def nothing_zero(lm: TinyTransformerLM, seed: int) -> None:
    """Every matrix with standard deviation 0.02."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(lm.named_parameters()):
        if name.endswith(("out_proj.weight", "down_proj.weight")):
            nn.init.normal_(parameter, std=0.02, generator=generator)


def pytorchs(lm: TinyTransformerLM, seed: int) -> None:
    """PyTorch's defaults."""
    pytorch_default_(lm, seed)


STARTS: dict[str, Callable[[TinyTransformerLM, int], None]] = {
    "residual outputs zero": as_it_is,
    "all matrices 0.02": nothing_zero,
    "PyTorch's defaults": pytorchs,
}


def first_losses(name: str, seed: int, n_steps: int = FIRST_STEPS) -> list[float]:
    """The losses of the first steps, from one of the beginnings; Adam, without warm-up."""
    lm = TinyTransformerLM(START_CONFIG, Parts.fused(), seed)
    STARTS[name](lm, seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(lm.parameters(), 3e-3)
    losses = []
    for _ in range(n_steps):
        tokens, targets = batch(generator)
        loss = F.cross_entropy(lm(tokens).flatten(0, 1), targets.flatten())
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def first_steps(found: dict[str, dict[str, list[float]]]) -> Figure:
    """The first losses from three beginnings."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats)")
    for (name, runs), colour in zip(found.items(), (BLUE, AMBER, ORANGE), strict=True):
        for number, losses in enumerate(runs.values()):
            axes.plot(losses, color=colour, lw=1.2, label=name if number == 0 else None)
    guess = math.log(len(corpus()[1]))
    axes.axhline(guess, color=GREY, linestyle=":", linewidth=1)
    axes.text(
        FIRST_STEPS, guess * 1.03, f"log V = {guess:.2f}", color=GREY, ha="right", va="bottom"
    )
    axes.set_yscale("log")
    ticks = (2, 3, 5, 10, 20, 50, 100)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False)
    hide_frame(axes)
    return figure


# --- encoder, decoder, encoder-decoder ---

GAP_MODELS = {"encoder": encoder.Encoder, "causal": TinyTransformerLM}
JUMP_STEPS = 600
_JUMPS = encoder_decoder.CONFIG
JUMP_MODELS: dict[str, Callable[[int], nn.Module]] = {  # by what they share with the first
    "encoder-decoder, 1 + 1 layers": lambda seed: EncoderDecoder(_JUMPS, Parts.fused(), seed),
    "decoder only, equal operations": lambda seed: TinyTransformerLM(
        replace(_JUMPS, d_ff=310), Parts.fused(), seed
    ),
    "decoder only, equal parameters": lambda seed: TinyTransformerLM(
        replace(_JUMPS, n_layers=2, d_ff=328), Parts.fused(), seed
    ),
    "prefix LM, equal parameters": lambda seed: PrefixLM(
        replace(_JUMPS, n_layers=2, d_ff=328), encoder_decoder.LENGTH, Parts.fused(), seed
    ),
}


def gap_accuracy(name: str, seed: int, n_steps: int = 600) -> list[float]:
    """The share of hidden letters that are filled in correctly, in each half of a palindrome."""
    lm = GAP_MODELS[name](encoder.CONFIG, Parts.fused(), seed)
    encoder.train(lm, n_steps, seed)
    return rounded(list(encoder.accuracy_by_half(lm)))


def closed_model(seed: int) -> nn.Module:
    """An encoder-decoder whose cross-attention starts at zero."""
    lm = EncoderDecoder(_JUMPS, Parts.fused(), seed)
    for name, parameter in lm.named_parameters():
        if name.endswith("cross_attention.out_proj.weight"):
            nn.init.zeros_(parameter)
    return lm


def sorting_accuracy(name: str, seed: int, n_steps: int = JUMP_STEPS) -> float:
    """How well a model learns to put letters in order."""
    lm = JUMP_MODELS[name](seed)
    encoder_decoder.train(lm, n_steps, seed, sorting)
    return round(encoder_decoder.accuracy(lm, sorting), 3)


def jump_result(
    name: str, seed: int, n_steps: int = JUMP_STEPS, zero: bool = False
) -> dict[str, Any]:
    """How well, and how soon, a model learns where two jumps lead."""
    lm = closed_model(seed) if zero else JUMP_MODELS[name](seed)
    losses = encoder_decoder.train(lm, n_steps, seed)
    means = [sum(losses[i : i + 10]) / 10 for i in range(0, n_steps, 10)]
    return {"accuracy": round(encoder_decoder.accuracy(lm), 3), "losses": rounded(means)}


def operations_of(lm: nn.Module) -> int:
    """Operations of the forward pass for one source and target, counted by PyTorch."""
    # The products inside a fused kernel are not counted on a CPU.
    lm.parts = Parts.reference()  # pyright: ignore[reportArgumentType]
    cells = torch.zeros(1, encoder_decoder.LENGTH, dtype=torch.long)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder_decoder.logits_of(lm, cells, cells)
    return counter.get_total_flops()


def jump_curves(found: dict[str, list[dict[str, Any]]]) -> Figure:
    """The losses of four models on two jumps; a line per seed."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats)")
    for (name, runs), colour in zip(found.items(), (GREEN, ORANGE, BLUE, PURPLE), strict=True):
        for number, run in enumerate(runs):
            steps = [10 * i + 5 for i in range(len(run["losses"]))]
            text = name if number == 0 else None
            axes.plot(steps, run["losses"], color=colour, lw=1.3, label=text)
    axes.set_ylim(0, None)
    axes.legend(frameon=False, fontsize=9)
    hide_frame(axes)
    return figure


def seen_by_whom() -> Figure:
    """Three models as rows of tokens; a line from each token to those that see it."""
    figure = Figure(figsize=(8, 3.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 24), ylim=(0.7, 7.8))
    axes.axis("off")
    connect(axes, 1.0, (2.0, 4.6), torch.ones(5, 5, dtype=torch.bool), BLUE)
    connect(axes, 8.2, (2.0, 4.6), causal_mask(5), ORANGE)
    connect(axes, 15.2, (2.0, 4.6), torch.ones(3, 3, dtype=torch.bool), BLUE)
    connect(axes, 19.6, (2.0, 4.6), causal_mask(4), ORANGE)
    for key in range(3):
        for query in range(4):
            ends = [15.2 + 1.2 * key, 19.6 + 1.2 * query], [4.6, 6.2]
            axes.plot(*ends, color=GREEN, lw=1.0, zorder=1)
    connect(axes, 19.6, (4.6, 6.2), torch.eye(4, dtype=torch.bool), ORANGE)
    titles = {3.4: "encoder (BERT)", 10.6: "decoder (GPT)", 19.0: "encoder-decoder (T5)"}
    for x, title in titles.items():
        label(axes, x, 7.3, title, weight="bold", fontsize=11)
    label(axes, 16.4, 1.1, "source", color=GREY)
    label(axes, 21.4, 1.1, "target so far", color=GREY)
    label(axes, 16.6, 5.9, "cross-attention", color=GREEN)
    return figure


def connect(axes: Axes, x: float, heights: tuple[float, float], mask: Tensor, colour: str) -> None:
    """A row of tokens below, a row above, and a line wherever the mask allows one."""
    for query, key in mask.nonzero().tolist():
        axes.plot([x + 1.2 * key, x + 1.2 * query], heights, color=colour, lw=1.2, zorder=1)
    for place in range(mask.size(0)):
        for y in heights:
            circle = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": colour}
            label(axes, x + 1.2 * place, y, str(place), fontsize=8, bbox=circle)


# --- budgets ---

COLOURS = (GREEN, SKY, BLUE, ORANGE, AMBER, PURPLE)


def parameters() -> Figure:
    """Where the parameters of three models are, as shares."""
    figure = Figure(figsize=(8, 2.7), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1), xlabel="share of the parameters")
    for row, config in enumerate(MODELS.values()):
        left = 0.0
        total = count_parameters(config)
        for (kind, count), colour in zip(parameters_by_kind(config).items(), COLOURS, strict=True):
            axes.barh(row, count / total, left=left, color=colour, label=None if row else kind)
            if count / total > 0.04:
                text = f"{count / total:.0%}"
                axes.text(left + count / total / 2, row, text, ha="center", va="center", fontsize=8)
            left += count / total
    names = [f"{name}\n{count_parameters(config):,}" for name, config in MODELS.items()]
    axes.set_yticks(range(len(MODELS)), names)
    axes.invert_yaxis()
    axes.legend(frameon=False, ncols=3, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    hide_frame(axes)
    return figure


def operations() -> Figure:
    """Operations of training per parameter and token, by the length of the sequence."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot(xlabel="T, tokens in the sequence", ylabel="operations / (N T)")
    lengths = [2**n for n in range(4, 18)]
    for (name, config), colour in zip(MODELS.items(), (GREEN, BLUE, ORANGE), strict=True):
        N = count_parameters(config)
        axes.plot(
            *(lengths, [training_flops(config, T) / N / T for T in lengths]),
            color=colour,
            label=name,
        )
        T = config.max_seq_len
        axes.plot(T, training_flops(config, T) / N / T, "o", color=colour)
    axes.axhline(6, color=GREY, linestyle="--", linewidth=1)
    axes.text(lengths[0], 6.3, "6", color=GREY)
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 40)
    axes.legend(frameon=False)
    hide_frame(axes)
    return figure


if __name__ == "__main__":
    run_program(main)
