"""What each change for speed gives: from the code of the lessons to what the capstone runs.

Each row has all that the rows above it have, and one thing more, and computes the same function.
What a change should give can be told from the profile (08_engineering): fused parts
and kept memory save trips through memory, bfloat16 the part of a step that is matrix products, the
cache all positions but the newest, and the decoder the way from one small operation to the next.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from decoding_loop import forward_step
from engine import build_model, choose_engine
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.generation import PROMPT, generate, run_of
from tools.benchmarks.generation import SHAPES as GENERATION_SHAPES
from tools.benchmarks.interleave import Run, Settings, in_own_process, progress, take_turns
from tools.benchmarks.report import SPEED, Row, Section, ratio
from tools.benchmarks.training import CPU
from tools.benchmarks.training import SHAPES as TRAINING_SHAPES
from tools.benchmarks.training import run_of as steps_of
from training_loop import Trainer
from utils.config import ModelConfig, TrainConfig
from utils.memory import keep_freed_memory

LESSONS = "the code of the lessons"


def changes(settings: Settings) -> Iterator[Section]:
    """Tokens per second as one change follows another, in training and in speaking."""
    name, (config, n_steps) = next(iter(TRAINING_SHAPES.items()))
    config = replace(config, model=settings.fit(config.model), device="cpu")
    with progress(1, f"getting ready, {name}"):
        runs = training_runs(config, settings, 1 if settings.quick else n_steps)
    batch = f"{config.batch_size} x {config.model.max_seq_len} tokens a step"
    values = take_turns(runs, settings.rounds, f"changes, {name}")
    yield Section(f"one change at a time, training {name}, {batch}", SPEED, rows(values))
    name, model = next(iter(GENERATION_SHAPES.items()))
    n_tokens = 15 if settings.quick else model.max_seq_len - len(PROMPT)
    with progress(1, f"getting ready, {name}"):
        runs = generation_runs(settings.fit(model), n_tokens)
    values = take_turns(runs, settings.rounds, f"changes, {name}")
    yield Section(f"one change at a time, generation {name}", SPEED, rows(values))


def training_runs(config: TrainConfig, settings: Settings, n_steps: int) -> dict[str, Run]:
    """Each in a process of its own, since memory is kept by a process or it is not."""
    lessons = replace(config, parts="reference", dtype="float32")
    fused = replace(config, parts="fused", dtype="float32")
    best = replace(config, dtype=choose_engine(config).dtype_name)
    ladder = {f"{LESSONS}, float32": (lessons, False), "+ fused parts": (fused, False)}
    ladder |= {f"+ {best.dtype}": (best, False)} if best.dtype != fused.dtype else {}
    ladder |= {"+ freed memory is kept": (best, True)}
    tokens = settings.data.train
    return {
        label: in_own_process(training_run, each, tokens, keep, n_steps)
        for label, (each, keep) in ladder.items()
    }


def training_run(config: TrainConfig, tokens: np.ndarray, keep: bool, n_steps: int) -> Run:
    """Called in a process of its own."""
    if keep:
        keep_freed_memory()
    engine = choose_engine(config)
    model = build_model(config.model, engine, config.seed)
    return steps_of(Trainer(model, tokens, tokens, config, CPU, engine.dtype), config, n_steps)


def generation_runs(config: ModelConfig, n_tokens: int) -> dict[str, Run]:
    """All float32, as in sample.py."""
    lessons, fused = (
        TinyTransformerLM(config, parts).eval() for parts in (Parts.reference(), Parts.fused())
    )
    by_forward = partial(generate, fused, 1, True, make_decode_step=forward_step)
    ladder: dict[str, Callable[[int], object]] = {
        f"{LESSONS}, no cache": partial(generate, lessons, 1, False),
        "+ fused parts": partial(generate, fused, 1, False),
        "+ a cache of keys and values": by_forward,
        "+ the fast decode step": partial(generate, fused, 1, True),
    }
    return {label: run_of(work, 1, n_tokens) for label, work in ladder.items()}


def rows(values: Mapping[str, tuple[float, ...]]) -> tuple[Row, ...]:
    """The speeds, and each one's ratio to the one above it and to the first."""
    labels = list(values)
    ratios = [
        ratio(f"ratio: {label[2:]} / before", values[label], values[before])
        for before, label in pairwise(labels)
    ]
    together = ratio("ratio: all of them together", values[labels[-1]], values[labels[0]])
    return (*(Row(label, found) for label, found in values.items()), *ratios, together)
