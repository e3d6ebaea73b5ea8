"""Draw every picture of this lesson, from the small trained model beside it.

    python 07_sampling/pictures/draw.py              from measured.json where it is slow
    python 07_sampling/pictures/draw.py --measure    generate and count everything again: minutes
    python 07_sampling/pictures/draw.py --measure loops    only this part

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

import argparse
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from beam_decoder import beam_search_batch
from beam_search import ends_with
from decoding_loop import Choose, generate_tokens, window_start
from greedy import greedy
from line_patterns import is_valid
from parts import Parts
from penalties import apply_frequency_penalty, apply_repetition_penalty
from play_quality import sample_lines, scene_openings, score, written_lines
from small_model import load_small_model
from temperature import apply_temperature, sample
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from top_k import top_k_filter
from top_p import min_p_filter, top_p_filter
from utils.errors import run_program
from utils.mock_corpus import generate, speakers
from utils.pictures import hide_frame, read_measured, save_pictures, write_measured
from utils.visualization import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY

HERE = Path(__file__).resolve().parent
OPEN = "FRIAR ANSELM:\nNo truth so "  # almost any letter can follow
NARROW = "FRIAR ANSELM:\nNo truth so h"  # a few vowels can
SHOWN = 12  # characters per panel
RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "greedy": lambda logits: apply_temperature(logits, 0),
    "temperature 0.5": lambda logits: apply_temperature(logits, 0.5),
    "temperature 2": lambda logits: apply_temperature(logits, 2.0),
    "top-k 4": lambda logits: top_k_filter(logits, 4),
    "top-p 0.8": lambda logits: top_p_filter(logits, 0.8),
    "min-p 0.2": lambda logits: min_p_filter(logits, 0.2),
}
LETTERS = {  # of exercise 7.8
    "A": "temperature 2",
    "B": "top-p 0.8",
    "C": "greedy",
    "D": "min-p 0.2",
    "E": "temperature 0.5",
    "F": "top-k 4",
}
N_OPENINGS, N_DRAWS = 8, 40  # lines per setting: 320
SETTINGS: dict[str, Sequence[float]] = {
    "temperature": (0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0),
    "top-p": (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0),
    "top-k": (1, 2, 3, 5, 10, 20, 57),
    "min-p": (1.0, 0.5, 0.3, 0.1, 0.03, 0.01, 0.0),
}
LOOP_LENGTH = 2000  # characters, after each opening
BEAMS = (1, 2, 4, 8, 16)
ORDERS = (0, 1, 2, 3, 4, 5)  # characters that a draft model looks back


def main() -> None:
    """Draw all pictures into this folder, and print their names and sizes."""
    parser = argparse.ArgumentParser(description="Draw the pictures of lesson 07.")
    parser.add_argument(
        *("--measure",),
        nargs="*",
        metavar="PART",
        help=f"count again, and keep the results: all, or some of {', '.join(PARTS)}",
    )
    parts = parser.parse_args().measure
    if parts is not None:
        torch.set_num_threads(1)
        old = read_measured(HERE)
        new = {name: PARTS[name]() for name in parts or PARTS}
        write_measured(HERE, {name: (old | new)[name] for name in PARTS})
    found = read_measured(HERE)
    pictures = {
        "temperature": temperature_picture(),
        "stretches": stretches(),
        "which_rule": which_rule(),
        "quality": quality(found["quality"]),
        "trade_off": trade_off(found["quality"]),
        "loops": loops(found["loops"]),
        "cache": cache_picture(),
        "beams": beams_picture(found["beams"], found["sampled lines"]),
        "speculative": speculative(found["acceptance"]),
    }
    save_pictures(pictures, HERE)


@functools.cache
def trained() -> tuple[TinyTransformerLM, CharTokenizer]:
    """The small model, on the fused kernels."""
    return load_small_model(Parts.fused())


@torch.inference_mode()
def logits_after(text: str) -> Tensor:
    """The logits (V,) of the character after a text."""
    model, tokenizer = trained()
    return model(torch.tensor([tokenizer.encode(text)]))[0, -1]


def entropy_bits(logits: Tensor) -> float:
    """The entropy of softmax(logits), in bits."""
    p = logits.double().softmax(-1)
    return -torch.special.xlogy(p, p).sum().item() / math.log(2)


# --- what takes long to measure ---


PARTS: dict[str, Callable[[], dict[str, Any]]] = {  # everything that the pages quote
    "quality": lambda: {
        name: {f"{value:g}": measure_quality(name, value) for value in values}
        for name, values in SETTINGS.items()
    },
    "loops": lambda: {name: measure_loops(name) for name in LOOP_RULES},
    "beams": lambda: {str(n): measure_beams(n) for n in BEAMS},
    "beams without a length penalty": lambda: {str(n): measure_beams(n, 0.0) for n in BEAMS},
    "sampled lines": lambda: {f"{t:g}": measure_sampled(t) for t in (0.5, 1.0)},
    "acceptance": lambda: measure_acceptance(),
}


def choose_by(name: str, value: float, seed: int = 0) -> Choose:
    """The rule of one setting: a temperature, or a filter at temperature 1."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, Callable[[Tensor], Tensor]] = {
        "temperature": lambda logits: apply_temperature(logits, value),
        "top-p": lambda logits: top_p_filter(logits, value),
        "top-k": lambda logits: top_k_filter(logits, int(value)),
        "min-p": lambda logits: min_p_filter(logits, value),
    }
    return lambda logits: sample(shapes[name](logits), generator)


def measure_quality(name: str, value: float, n_draws: int = N_DRAWS) -> list[float]:
    """The shares of valid and different lines, of both, and of different word pairs."""
    model, tokenizer = trained()
    openings = [one for one in scene_openings(N_OPENINGS) for _ in range(n_draws)]
    lines = sample_lines(model, model.config, tokenizer, openings, choose_by(name, value))
    found = score(openings, lines)
    return [round(share, 4) for share in astuple(found)]


def penalized(penalty: Callable[[Tensor, Tensor], Tensor], n_rows: int) -> Choose:
    """Greedy decoding with a penalty for the characters that were generated already."""
    _, tokenizer = trained()
    counts = torch.zeros(n_rows, tokenizer.vocab_size, dtype=torch.long)

    def choose(logits: Tensor) -> Tensor:
        tokens = greedy(penalty(logits, counts))
        counts.scatter_add_(1, tokens[:, None], torch.ones_like(tokens)[:, None])
        return tokens

    return choose


def repetition(penalty: float, n_rows: int) -> Choose:
    return penalized(lambda z, counts: apply_repetition_penalty(z, counts, penalty), n_rows)


def frequency(penalty: float, n_rows: int) -> Choose:
    return penalized(lambda z, counts: apply_frequency_penalty(z, counts, penalty), n_rows)


LOOP_RULES: dict[str, Callable[[int], Choose]] = {
    "greedy": lambda n: greedy,
    "temperature 0.3": lambda n: choose_by("temperature", 0.3),
    "temperature 1": lambda n: choose_by("temperature", 1.0),
    "greedy, repetition penalty 1.2": lambda n: repetition(1.2, n),
    "greedy, repetition penalty 2": lambda n: repetition(2.0, n),
    "greedy, frequency penalty 0.05": lambda n: frequency(0.05, n),
    "greedy, frequency penalty 0.5": lambda n: frequency(0.5, n),
}


def texts_by(rule: str, length: int = LOOP_LENGTH) -> list[str]:
    """What is generated after each opening, `length` characters."""
    model, tokenizer = trained()
    openings = scene_openings(N_OPENINGS)
    prompts = [tokenizer.encode(opening) for opening in openings]
    choose = LOOP_RULES[rule](len(prompts))
    steps = list(generate_tokens(model, model.config, prompts, length, choose))
    return [tokenizer.decode(column) for column in zip(*steps, strict=True)]


def spoken_lines(text: str) -> list[str]:
    """The lines of a text, without empty ones, names of speakers and stage directions."""
    lines = text.splitlines()[:-1]  # the last one may be cut off
    others = re.compile(rf"(?:{'|'.join(speakers())}):|Enter .*|Exeunt\.|A .* within\.|")
    return [line for line in lines if not others.fullmatch(line)]


def measure_loops(rule: str) -> list[Any]:
    """The shares of lines that the text has had before and of valid ones, and a sample."""
    texts = texts_by(rule)
    lines = [spoken_lines(text) for text in texts]
    n = sum(map(len, lines))
    repeated = n - sum(len(set(found)) for found in lines)
    valid = sum(is_valid(line) for found in lines for line in found)
    return [round(repeated / n, 3), round(valid / n, 3), texts[0][:400]]


def measure_beams(n_beams: int, length_penalty: float = 1.0) -> list[Any]:
    """Of the best line after each of 40 openings: log-probability, length, valid and distinct."""
    model, tokenizer = trained()
    openings = scene_openings(40)
    prompts = [tokenizer.encode(opening) for opening in openings]
    newline = tokenizer.encode("\n")[0]
    found = beam_search_batch(
        model, model.config, prompts, n_beams, 100, ends_with([newline]), length_penalty
    )
    best = [beams[0] for beams in found]
    lines = [tokenizer.decode(one.tokens).partition("\n")[0] for one in best]
    return summary(lines, [one.log_prob for one in best])


def summary(lines: Sequence[str], log_probs: Sequence[float]) -> list[Any]:
    """Mean log-probability and length, the valid share, and the number of different lines.

    Then how many of them begin like the most frequent one, with four words; and the first line.
    """
    n = len(lines)
    valid = sum(is_valid(line) for line in lines)
    length = sum(len(line) + 1 for line in lines) / n
    return [
        round(sum(log_probs) / n, 3),
        round(length, 2),
        round(valid / n, 3),
        len(set(lines)),
        max(Counter(" ".join(line.split()[:4]) for line in lines).values()),
        lines[0],
    ]


@torch.inference_mode()
def line_log_prob(opening: str, line: str) -> float:
    """The log-probability of a line and its newline, after an opening."""
    model, tokenizer = trained()
    tokens = torch.tensor([tokenizer.encode(opening + line + "\n")])[:, -129:]
    log_probs = model(tokens[:, :-1])[0].log_softmax(-1)
    chosen = log_probs.gather(-1, tokens[0, 1:, None])[:, 0]
    return chosen[-len(line) - 1 :].sum().item()


def measure_sampled(temperature: float) -> list[Any]:
    """The same for one sampled line after each of the 40 openings."""
    model, tokenizer = trained()
    openings = scene_openings(40)
    choose = choose_by("temperature", temperature)
    lines = sample_lines(model, model.config, tokenizer, openings, choose)
    log_probs = [line_log_prob(*pair) for pair in zip(openings, lines, strict=True)]
    return summary(lines, log_probs)


def count_model(order: int, n_chars: int = 300_000) -> Callable[[str], Tensor]:
    """A draft: how often each character followed the last `order` ones in a text of its own."""
    _, tokenizer = trained()
    text, V = generate(n_chars, seed=2), tokenizer.vocab_size
    counts: dict[str, Tensor] = {}
    ids = tokenizer.encode(text)
    for i in range(order, len(text)):
        row = counts.setdefault(text[i - order : i], torch.full((V,), 0.05))
        row[ids[i]] += 1
    even = torch.ones(V) / V
    return lambda before: normalized(counts.get(before[len(before) - order :], even))


def normalized(row: Tensor) -> Tensor:
    return row / row.sum()


@torch.inference_mode()
def measure_acceptance(n_chars: int = 1500) -> dict[str, list[float]]:
    """How probable it is that a draft's character is accepted, by its order; mean over a text."""
    model, tokenizer = trained()
    text = generate(n_chars, seed=3)[:n_chars]
    ids = torch.tensor(tokenizer.encode(text))
    context = model.config.max_seq_len
    p = []
    for start in range(0, n_chars - context, context // 2):
        probabilities = model(ids[None, start : start + context])[0].softmax(-1)
        p.append(probabilities[context // 2 :])
    target = torch.cat(p)  # the distribution after each character from context / 2 on
    found = {}
    for order in ORDERS:
        draft = count_model(order)
        at = range(context // 2 + 1, context // 2 + 1 + len(target))
        q = torch.stack([draft(text[:end]) for end in at])
        rate = torch.minimum(target, q).sum(-1).mean().item()
        found[str(order)] = [round(rate, 4)]
    return found


# --- temperature ---


def names(ids: Tensor) -> list[str]:
    """Characters as labels of an axis."""
    _, tokenizer = trained()
    shown = {" ": "␣", "\n": "↵"}
    return [shown.get(tokenizer.characters[i], tokenizer.characters[i]) for i in ids.tolist()]


def bars(axes: Axes, logits: Tensor, order: Tensor, colour: str) -> None:
    axes.bar(range(len(order)), logits.softmax(-1)[order].numpy(), color=colour)
    axes.set_xticks(range(len(order)), names(order), fontsize=9)
    axes.tick_params(axis="x", length=0)


def temperature_picture() -> Figure:
    """One distribution at three temperatures, and the entropy of two by temperature."""
    figure = Figure(figsize=(9, 3.0), layout="constrained")
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
    logits = logits_after(OPEN)
    order = logits.argsort(descending=True)[:SHOWN]
    for axes, temperature in zip(panels, (0.5, 1.0, 2.0), strict=False):
        bars(axes, logits / temperature, order, BLUE)
        bits = entropy_bits(logits / temperature)
        axes.set(title=f"temperature {temperature:g}\n{bits:.2f} bits", ylim=(0, 0.32))
        axes.title.set_fontsize(10)
    panels[0].set_ylabel("probability")
    grid = torch.linspace(0.05, 5, 100)
    for text, colour in ((OPEN, BLUE), (NARROW, ORANGE)):
        values = [entropy_bits(logits_after(text) / t) for t in grid]
        panels[3].plot(grid, values, color=colour, label=repr(text[-12:]))
    panels[3].axhline(math.log2(len(logits)), color=GREY, linestyle="--", linewidth=1)
    panels[3].set_xlabel("temperature")
    panels[3].set_title("entropy (bits)", fontsize=10)
    panels[3].legend(frameon=False, fontsize=8, loc="lower right")
    hide_frame(*panels)
    return figure


# --- drawing ---


def stretches() -> Figure:
    """The probabilities of a position laid end to end, and three random numbers."""
    figure = Figure(figsize=(9, 1.7), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1), ylim=(-0.9, 1.25))
    p = logits_after(NARROW).softmax(-1)
    start = 0.0
    colours = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
    drawn = 0
    for i, width in enumerate(p.tolist()):
        if width > 0.002:
            colour = colours[drawn % len(colours)]
            axes.barh(0.5, width, left=start, height=0.8, color=colour, edgecolor="white")
            drawn += 1
            if width > 0.015:
                label = names(torch.tensor([i]))[0]
                middle = start + width / 2
                ink = "white" if colour in (BLUE, ORANGE, GREEN) else "black"  # on pale colours
                axes.text(middle, 0.5, label, ha="center", va="center", color=ink, fontsize=12)
        start += width
    for u in (0.12, 0.5, 0.91):
        axes.annotate(
            f"u = {u}",
            xy=(u, 0.08),
            xytext=(u, -0.75),
            ha="center",
            fontsize=10,
            arrowprops={"arrowstyle": "-|>", "color": "black"},
        )
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


# --- the rules ---


def which_rule() -> Figure:
    """Two positions under six rules, by letter; the exercise asks which rule made which."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = figure.subplots(2, 6, sharey="row")
    for row, text in enumerate((NARROW, OPEN)):
        logits = logits_after(text)
        order = logits.argsort(descending=True)[:SHOWN]
        for column, (letter, rule) in enumerate(LETTERS.items()):
            axes = panels[row, column]
            bars(axes, RULES[rule](logits), order, BLUE)
            before = logits.softmax(-1)[order].numpy()
            axes.bar(range(SHOWN), before, facecolor="none", edgecolor="black", linewidth=0.9)
            axes.set_ylim(0, 1.02)
            axes.tick_params(labelsize=7)
            if row == 0:
                axes.set_title(letter, weight="bold")
        panels[row, 0].set_ylabel(f"after {text[-4:]!r}", fontsize=9)
    hide_frame(*panels.ravel())
    return figure


# --- quality and diversity ---


def quality(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Valid, distinct and distinct valid lines, over the temperature and over top-p."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("temperature", "top-p"), strict=True):
        x = [float(value) for value in found[name]]
        valid, different, both, _ = zip(*found[name].values(), strict=True)
        axes.plot(x, valid, "o-", ms=4, color=BLUE, label="valid")
        axes.plot(x, different, "o-", ms=4, color=ORANGE, label="different")
        axes.plot(x, both, color=GREEN, linewidth=7, alpha=0.35, label="both")
        axes.set(xlabel=name if name == "temperature" else "top-p, at temperature 1")
        axes.set_ylim(0, 1.02)
    panels[0].set_ylabel("share of 320 lines")
    panels[0].legend(frameon=False, loc="center right")
    hide_frame(*panels)
    return figure


def trade_off(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """The share of valid lines against that of different word pairs, a curve per rule."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.add_subplot(
        xlabel="different word pairs (share of all)", ylabel="valid lines (share)"
    )
    colours = {"temperature": BLUE, "top-p": ORANGE, "top-k": GREEN, "min-p": PURPLE}
    for name, entries in found.items():
        valid, _, _, word_pairs = zip(*entries.values(), strict=True)
        axes.plot(word_pairs, valid, "o-", ms=4, color=colours[name], label=name)
    written = written_lines(N_OPENINGS * N_DRAWS)
    plays = score(written, written)
    axes.plot(plays.word_pairs, plays.valid, "*", ms=13, color="black", label="the plays")
    axes.legend(frameon=False, loc="lower left")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04))
    hide_frame(axes)
    return figure


def loops(found: Mapping[str, Sequence[Any]]) -> Figure:
    """The shares of repeated and of valid lines, by rule."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot(xlabel="share of the lines", xlim=(0, 1.01))
    rules = list(found)[::-1]
    y = np.arange(len(rules))
    axes.barh(y + 0.2, [found[rule][0] for rule in rules], 0.38, color=ORANGE, label="repeated")
    axes.barh(y - 0.2, [found[rule][1] for rule in rules], 0.38, color=BLUE, label="valid")
    axes.set_yticks(y, rules)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    hide_frame(axes)
    return figure


# --- the cache ---


def positions_per_token(n_prompt: int, n_tokens: int, context: int, use_cache: bool) -> list[int]:
    """How many positions the model computes for each new token."""
    costs, start = [], -1
    for length in range(n_prompt, n_prompt + n_tokens):
        window = window_start(length, context)
        moved = window != start
        costs.append(length - window if moved or not use_cache else 1)
        start = window
    return costs


def cache_picture() -> Figure:
    """The window over a growing text, and what each new token costs."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    windows, costs = figure.subplots(1, 2)
    context, n_prompt, n_tokens = 32, 8, 100
    lengths = range(n_prompt, n_prompt + n_tokens)
    starts = [window_start(length, context) for length in lengths]
    windows.fill_betweenx(lengths, starts, lengths, color=SKY, step="post", linewidth=0)
    windows.plot(lengths, lengths, color=BLUE, linewidth=2)
    windows.invert_yaxis()
    windows.set(xlabel="token of the text", ylabel="length of the text", title="the window")
    for use_cache, colour in ((False, ORANGE), (True, BLUE)):
        cost = positions_per_token(n_prompt, n_tokens, context, use_cache)
        label = f"{'with' if use_cache else 'without'} a cache: {sum(cost):,} in all"
        costs.step(lengths, cost, color=colour, label=label)
    costs.set(xlabel="length of the text", title="positions computed per new token", ylim=(0, 45))
    costs.legend(frameon=False, loc="upper right", fontsize=9)
    hide_frame(windows, costs)
    return figure


# --- beams and drafts ---


def beams_picture(
    found: Mapping[str, Sequence[Any]], sampled: Mapping[str, Sequence[Any]]
) -> Figure:
    """Log-probability, validity and variety of the best line, by the number of beams."""
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    panels = figure.subplots(1, 3)
    titles = ("log-probability per character", "valid lines (share)", "different lines, of 40")
    views = (lambda row: row[0] / row[1], lambda row: row[2], lambda row: row[3])
    x = [int(n) for n in found]
    for axes, title, view in zip(panels, titles, views, strict=True):
        axes.plot(x, [view(row) for row in found.values()], "o-", color=BLUE, label="beam search")
        for (name, row), colour in zip(sampled.items(), (GREEN, ORANGE), strict=True):
            axes.axhline(view(row), color=colour, linestyle="--", label=f"temperature {name}")
        axes.set_title(title, fontsize=10)
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(n) for n in x])
        axes.minorticks_off()
        axes.set_xlabel("beams")
    panels[1].set_ylim(0, 1.05)
    panels[2].set_ylim(0, 42)
    panels[0].legend(frameon=False, fontsize=8)
    hide_frame(*panels)
    return figure


def speculative(found: Mapping[str, Sequence[float]]) -> Figure:
    """What is accepted and what is left, at one position; and acceptance by the draft's order."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    position, rates = figure.subplots(1, 2, width_ratios=(1.6, 1))
    p = logits_after(NARROW).softmax(-1)
    q = count_model(1)(NARROW)
    order = p.argsort(descending=True)[:8]
    x = np.arange(len(order))
    both = torch.minimum(p, q)
    position.bar(x - 0.2, q[order], 0.38, color=SKY, label="q, the draft")
    position.bar(x + 0.2, both[order], 0.38, color=BLUE, label="accepted: min(p, q)")
    left = (p - q).clamp(min=0)
    position.bar(
        x + 0.2, left[order], 0.38, bottom=both[order], color=ORANGE, label="residual: p - q"
    )
    position.set_xticks(x, names(order))
    position.set_title(f"after {NARROW[-8:]!r}: {both.sum():.2f} accepted", fontsize=10)
    position.legend(frameon=False, fontsize=9)
    orders = [int(one) for one in found]
    rates.plot(orders, [rate for (rate,) in found.values()], "o-", color=BLUE)
    rates.set(xlabel="characters that the draft looks back", ylim=(0, 1))
    rates.set_title("mean acceptance", fontsize=10)
    hide_frame(position, rates)
    return figure


if __name__ == "__main__":
    run_program(main)
