"""Draw the pictures of this lesson from real files, weights, lengths and profiles.

    python 08_engineering/pictures/draw.py              from measured.json where it is slow
    python 08_engineering/pictures/draw.py --measure    measure again: a minute, on a quiet machine
    python 08_engineering/pictures/draw.py --measure profiles    only this part

step_profile.png is drawn by step_profile.py instead; performance.md has the command. Pictures have
a white background of their own, so they are legible on light and dark pages.
"""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before PyTorch: it silences the profiler's log

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from data_loader import Batch, evaluation_blocks
from decoding_loop import MakeDecodeStep, forward_step
from engine import build_model, choose_engine
from evaluation import sum_losses
from fast_decoder import fast_decode_step
from generator import choose_with
from inference_ops import matmul_op
from parts import Parts
from profile_report import Row
from quantization import (
    GROUP,
    Int4Linear,
    Int8Linear,
    dequantize_rows,
    quantize_rows,
    quantized,
    size_in_bytes,
)
from small_model import PATH as SMALL_MODEL
from small_model import load_small_model
from step_profile import token_steps
from step_timing import by_kind
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.config import ModelConfig, SampleConfig, TrainConfig
from utils.errors import run_program
from utils.mock_corpus import generate
from utils.pictures import hide_frame, read_measured, save_pictures, write_measured
from utils.visualization import AMBER, BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, SKY

HERE = Path(__file__).resolve().parent

PROFILED = TrainConfig(  # the capstone's `laptop` preset
    ModelConfig(
        norm="rmsnorm",
        activation="relu2",
        position="rope",
        qk_norm=True,
        bias=False,
        tie_weights=False,
    ),
    batch_size=16,
    optimizer="muon",
    lr=4e-3,
    momentum=0.9,
    weight_decay=0.0,
    grad_clip=0.0,
    schedule="wsd",
)
LETTERS = {  # of exercise 8.14
    "A": "training, fused engine in bfloat16",
    "B": "generation with the fast decoder",
    "C": "training, the lessons' code in float32",
    "D": "generation with the modules and cache",
}
ROUNDS = 15  # of each profile: in its shortest one a kind was disturbed least by other programs
BITS = (8, 7, 6, 5, 4, 3, 2)
SHARED_BY = ("matrix", "row", "group")  # the weights that share a scale
N_SLOTS = 4  # sequences that are decoded together


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    parser = argparse.ArgumentParser(description="Draw the pictures of lesson 08.")
    parser.add_argument(
        *("--measure",),
        nargs="*",
        metavar="PART",
        help=f"measure again, and keep the results: all, or some of {', '.join(PARTS)}",
    )
    parts = parser.parse_args().measure
    if parts is not None:
        torch.set_num_threads(1)
        old = read_measured(HERE)
        new = {name: PARTS[name]() for name in parts or PARTS}
        write_measured(HERE, {name: (old | new)[name] for name in PARTS if name in old | new})
    found = read_measured(HERE)
    pictures = {
        "crash": crash(),
        "resume": resume(),
        "which_profile": which_profile(found["profiles"]),
        "fewer_bits": fewer_bits(found["losses by bits"]),
        "batching": batching(),
    }
    save_pictures(pictures, HERE)


# --- a file while it is being replaced ---


def replace_in_place(path: Path, data: bytes, n_pieces: int) -> list[int]:
    """Overwrite a file piece by piece; the bytes that a reader finds after each piece."""
    found = [path.stat().st_size]
    with path.open("wb", buffering=0) as file:
        found.append(path.stat().st_size)
        for piece in np.array_split(np.frombuffer(data, dtype=np.uint8), n_pieces):
            file.write(piece.tobytes())
            found.append(path.stat().st_size)
    return found


def replace_by_rename(path: Path, data: bytes, n_pieces: int) -> list[int]:
    """The same with a second file that takes the name of the first at the end."""
    found = [path.stat().st_size]
    new = path.with_suffix(".tmp")
    with new.open("wb", buffering=0) as file:
        found.append(path.stat().st_size)
        for piece in np.array_split(np.frombuffer(data, dtype=np.uint8), n_pieces):
            file.write(piece.tobytes())
            found.append(path.stat().st_size)
    new.replace(path)
    return [*found[:-1], path.stat().st_size]


def crash() -> Figure:
    """How many bytes a reader finds while a model replaces one that is a quarter larger."""
    data = SMALL_MODEL.read_bytes()
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    ways = {
        "overwritten in place": replace_in_place,
        "written aside, then renamed": replace_by_rename,
    }
    n_pieces = 40
    with tempfile.TemporaryDirectory() as place:
        for axes, (title, replace) in zip(panels, ways.items(), strict=True):
            path = Path(place) / "model.safetensors"
            path.write_bytes(data + data[: len(data) // 4])
            found = np.array(replace(path, data, n_pieces)) / 1000
            x = np.arange(len(found))
            whole = np.isin(found, (found[0], found[-1]))
            axes.bar(x[whole], found[whole], width=1.0, color=BLUE, label="whole: old or new")
            axes.bar(x[~whole], found[~whole], width=1.0, color=ORANGE, label="neither")
            axes.set_title(title, fontsize=10)
            axes.set(xticks=[0, n_pieces + 1], xlim=(-1.5, n_pieces + 2.5))
            axes.set_xticklabels(["begins", "done"])
    panels[0].set_ylabel("kB that a reader finds")
    panels[0].legend(frameon=False, fontsize=9, loc="upper center")
    hide_frame(*panels)
    return figure


# --- a run that is resumed ---


def losses_of(n_steps: int, stop_at: int | None = None, keep: Sequence[str] = ()) -> list[float]:
    """Fit a line with noisy batches; a new process at `stop_at` gets only what is named in `keep`.

    The names are "weights", "momentum" and "random".
    """
    target = torch.linspace(-1, 1, 8)
    state: dict[str, Tensor] = {"weights": torch.zeros(8), "momentum": torch.zeros(8)}
    generator = torch.Generator().manual_seed(0)
    losses = []
    for step in range(n_steps):
        if step == stop_at:
            fresh = {"weights": torch.zeros(8), "momentum": torch.zeros(8)}
            state = {name: state[name] if name in keep else fresh[name] for name in state}
            if "random" not in keep:
                generator.manual_seed(0)
        x = torch.randn(16, 8, generator=generator)
        error = x @ (state["weights"] - target)
        losses.append(error.square().mean().item())
        gradient = 2 * x.t() @ error / 16
        state["momentum"] = 0.9 * state["momentum"] + gradient
        state["weights"] = state["weights"] - 0.01 * state["momentum"]
    return losses


def resume() -> Figure:
    """One run, and the same run resumed with everything, without momentum, without random state."""
    figure = Figure(figsize=(7.5, 2.6), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss of the batch", yscale="log")
    whole = losses_of(60)
    kept = {
        "weights only": (("weights", "random"), ORANGE, "momentum lost"),
        "random": (("weights", "momentum"), PURPLE, "random state lost"),
        "all": (("weights", "momentum", "random"), GREEN, "everything restored"),
    }
    for keep, colour, label in kept.values():
        width = 6 if label == "everything restored" else 1.6
        alpha = 0.4 if width == 6 else 1.0
        losses = losses_of(60, 20, keep)
        axes.plot(
            range(20, 60), losses[20:], color=colour, linewidth=width, alpha=alpha, label=label
        )
    axes.plot(whole, color="black", linewidth=1.2, label="uninterrupted")
    axes.axvline(20, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        "killed, resumed",
        (20, axes.get_ylim()[1]),
        ha="left",
        va="top",
        fontsize=9,
        xytext=(4, -2),
        textcoords="offset points",
    )
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    hide_frame(axes)
    return figure


# --- profiles ---


def profile(kind: str) -> tuple[Row, ...]:
    """The time of each kind of operation in one step of one of the four settings."""
    device = torch.device("cpu")
    if kind.startswith("training"):
        fused = "fused" in kind
        dtype = "bfloat16" if fused else "float32"
        parts = "fused" if fused else "reference"
        config = replace(PROFILED, parts=parts, dtype=dtype, device="cpu")
        engine = choose_engine(config)
        T = config.model.max_seq_len
        tokens = np.random.default_rng(0).integers(config.model.vocab_size, size=64 * (T + 1))
        tokens = tokens.astype(np.uint32)
        model = build_model(config.model, engine, config.seed)
        trainer = Trainer(model, tokens, tokens, config, engine.device, engine.dtype)
        return by_kind(repeat(trainer.train_step), device, 1)
    make: MakeDecodeStep = fast_decode_step if "fast" in kind else forward_step
    model = TinyTransformerLM(PROFILED.model, Parts.fused()).eval()
    steps = token_steps(model, PROFILED.model, choose_with(SampleConfig()), make)
    return by_kind(steps, device, 10)


def measure_profiles() -> dict[str, dict[str, float]]:
    """For each setting, the milliseconds of each kind of operation in its shortest round."""
    found = {}
    for setting in LETTERS.values():
        rounds = [{row.name: row.seconds for row in profile(setting)} for _ in range(ROUNDS)]
        found[setting] = {
            kind: round(1000 * min(one[kind] for one in rounds), 4) for kind in rounds[0]
        }
    return found


def shares_of(milliseconds: Mapping[str, float]) -> dict[str, float]:
    """The share of each kind in the sum of all."""
    total = sum(milliseconds.values())
    return {kind: taken / total for kind, taken in milliseconds.items()}


def which_profile(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """Four profiles by letter; the exercise asks which setting each belongs to."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True, sharex=True)
    names = list(dict.fromkeys(name for profile in found.values() for name in profile))
    y = np.arange(len(names))[::-1]
    for axes, (letter, kind) in zip(panels, LETTERS.items(), strict=True):
        shares = shares_of(found[kind])
        values = [shares.get(name, 0.0) for name in names]
        bars = axes.barh(y, values, color=(*PALETTE, GREY))
        labels = [
            f"{value:.0%}" if value >= 0.005 else ("0%" if value else "–") for value in values
        ]
        axes.bar_label(bars, labels, padding=2, fontsize=9)
        axes.set_title(letter, weight="bold")
        axes.set_yticks(y, names)
        axes.set(xlim=(0, 0.76), xticks=[0, 0.25, 0.5], xticklabels=["0", "25%", "50%"])
    figure.supxlabel("share of the time of one step, under the profiler", fontsize=10)
    hide_frame(*panels)
    return figure


# --- fewer bits ---


@functools.cache
def unseen_blocks() -> tuple[list[Batch], int]:
    """Plays that the small model has not seen, and the number of targets in them."""
    _, tokenizer = load_small_model()
    tokens = tokenizer.encode_array(generate(12_801, seed=1)[:12_801])
    return list(evaluation_blocks(tokens, 128, batch_size=25)), len(tokens) - 1


def loss_of(model: nn.Module) -> float:
    """Nats per character on the unseen plays."""
    batches, n_targets = unseen_blocks()
    return sum_losses(model, batches) / n_targets


def rounded(weight: Tensor, bits: int, shared_by: str) -> Tensor:
    """A matrix with its weights rounded to `bits` bits, with a scale per matrix, row or group."""
    shape = {"matrix": (1, -1), "row": (len(weight), -1), "group": (-1, GROUP)}[shared_by]
    q, scale = quantize_rows(weight.reshape(shape), largest=2 ** (bits - 1) - 1)
    return dequantize_rows(q, scale).view_as(weight)


def loss_with(bits: int, shared_by: str) -> float:
    """The loss of the small model with the matrices of its linear layers rounded."""
    model, _ = load_small_model(Parts.fused())
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = rounded(module.weight.data, bits, shared_by)
    return round(loss_of(model), 4)


def measure_models() -> dict[str, list[float]]:
    """The bytes and the loss of the small model, as it is, in 8 bits and in 4."""
    model, _ = load_small_model(Parts.fused())
    models = {
        "float32": model,
        "int8": quantized(model, Int8Linear),
        "int4": quantized(model, Int4Linear),
    }
    return {name: [size_in_bytes(one), round(loss_of(one), 4)] for name, one in models.items()}


def measure_one_row(width: int = 2048, n_calls: int = 40) -> dict[str, float]:
    """The time of a product of one row with a square matrix, as a multiple of float32's.

    The fastest call of each kind, in turns; the median of all rounds.
    """
    layer = nn.Linear(width, width, bias=False).requires_grad_(False)
    small, x = Int8Linear(layer), torch.randn(1, width)
    half, scale = x.bfloat16(), small.scale.bfloat16()
    in_float16 = matmul_op(layer.weight)
    products: dict[str, Callable[[], Tensor]] = {
        "float32": lambda: layer(x),
        "float16": lambda: in_float16(x),
        "Int8Linear": lambda: small(x),
        "PyTorch's kernel": lambda: torch.ops.aten._weight_int8pack_mm(half, small.q, scale),
    }
    rounds = []
    for _ in range(ROUNDS):
        times = {name: min(timed(run) for _ in range(n_calls)) for name, run in products.items()}
        rounds.append({name: taken / times["float32"] for name, taken in times.items()})
    return {name: round(median(one[name] for one in rounds), 2) for name in products}


def timed(run: Callable[[], object]) -> float:
    """The seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def fewer_bits(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """A few weights and the nearest levels, and the loss by the number of bits."""
    figure = Figure(figsize=(9.5, 3.3), layout="constrained")
    weights, losses = figure.subplots(1, 2, width_ratios=(1, 1.1))
    model, _ = load_small_model()
    row = model.get_submodule("blocks.0.attention.q_proj").weight.detach()[0]  # pyright: ignore
    x = np.arange(GROUP)
    q, scale = quantize_rows(row[None, :GROUP], largest=7)
    for level in range(-7, 8):
        weights.axhline(level * scale.item(), color=GREY, linewidth=0.4, alpha=0.7)
    close = dequantize_rows(q, scale)[0]
    weights.vlines(x, row[:GROUP].numpy(), close.numpy(), color=ORANGE, linewidth=1.5)
    weights.plot(x, close.numpy(), "_", ms=8, color=BLUE, label="nearest of 15 levels")
    weights.plot(x, row[:GROUP].numpy(), "o", ms=3.5, color="black", label="weight")
    weights.set_title("32 weights with one scale, in 4 bits", fontsize=10)
    weights.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0))
    weights.set_xticks([])
    for shared_by, colour in zip(SHARED_BY, (ORANGE, BLUE, GREEN), strict=True):
        y = [found[shared_by][str(bits)] for bits in BITS]
        label = f"per {shared_by}" if shared_by != "group" else f"per {GROUP} weights"
        losses.plot(BITS, y, "o-", ms=4, color=colour, label=label)
    losses.axhline(
        found["float32"]["32"], color="black", linestyle="--", linewidth=1, label="float32"
    )
    losses.invert_xaxis()
    losses.set(xlabel="bits per weight", ylim=(0.5, 1.5), xticks=BITS)
    losses.set_title("validation loss (nats per character)", fontsize=10)
    losses.legend(frameon=False, fontsize=9, title="one scale", loc="upper left")
    hide_frame(weights, losses)
    return figure


def measure_bits() -> dict[str, dict[str, float]]:
    """The loss by the number of bits, for each way to share a scale."""
    model, _ = load_small_model(Parts.fused())
    found = {"float32": {"32": round(loss_of(model), 4)}}
    for shared_by in SHARED_BY:
        found[shared_by] = {str(bits): loss_with(bits, shared_by) for bits in BITS}
    return found


# --- batches of requests ---

Span = tuple[int, int, int, int]  # request, slot, first step, first step after it


def requested_lengths(n_requests: int = 20) -> list[int]:
    """How many tokens each request will take: lengths of speeches in the mock plays, / 8."""
    speeches = [part for part in generate(12_000, seed=4).split("\n\n") if ":\n" in part]
    return [max(1, round(len(part.partition(":\n")[2]) / 8)) for part in speeches[:n_requests]]


def static_batches(lengths: Sequence[int], n_slots: int = N_SLOTS) -> list[Span]:
    """A batch starts when the batch before it has ended, the longest request included."""
    spans, start = [], 0
    for first in range(0, len(lengths), n_slots):
        batch = lengths[first : first + n_slots]
        spans += [(first + i, i, start, start + n) for i, n in enumerate(batch)]
        start += max(batch)
    return spans


def continuous_batches(lengths: Sequence[int], n_slots: int = N_SLOTS) -> list[Span]:
    """Each request takes the slot that is free first."""
    free, spans = [0] * n_slots, []
    for request, n in enumerate(lengths):
        slot = free.index(min(free))
        spans.append((request, slot, free[slot], free[slot] + n))
        free[slot] += n
    return spans


def steps_and_use(spans: Sequence[Span], n_slots: int = N_SLOTS) -> tuple[int, float]:
    """The number of steps, and the share of the slots in which a token was decoded."""
    steps = max(end for *_, end in spans)
    return steps, sum(end - start for _, _, start, end in spans) / (steps * n_slots)


def batching() -> Figure:
    """The same requests in static batches and with slots that are refilled at once."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    lengths = requested_lengths()
    ways = {"static": static_batches(lengths), "continuous": continuous_batches(lengths)}
    colours = (BLUE, AMBER, GREEN, PURPLE, SKY, ORANGE)
    for axes, (name, spans) in zip(panels, ways.items(), strict=True):
        steps, use = steps_and_use(spans)
        for request, slot, start, end in spans:
            colour = colours[request % len(colours)]
            axes.barh(slot, end - start, left=start, height=0.85, color=colour, edgecolor="white")
            if end - start < 4:  # too narrow for its number
                continue
            ink = "white" if colour in (BLUE, ORANGE) else "black"
            axes.text(
                (start + end) / 2,
                slot,
                str(request),
                ha="center",
                va="center",
                fontsize=8,
                color=ink,
            )
        axes.axvline(steps, color=GREY, linestyle="--", linewidth=1)
        axes.set_title(
            f"{name}: {steps} steps, {use:.0%} of the slots in use", fontsize=10, loc="left"
        )
        axes.set(yticks=range(N_SLOTS), ylim=(N_SLOTS - 0.5, -0.5), ylabel="slot")
    panels[1].set_xlabel("step: one token for each slot in use")
    hide_frame(*panels)
    return figure


PARTS: dict[str, Any] = {  # what takes long, and is kept in measured.json
    "profiles": measure_profiles,
    "models": measure_models,
    "losses by bits": measure_bits,
    "one row": measure_one_row,
}


if __name__ == "__main__":
    run_program(main)
