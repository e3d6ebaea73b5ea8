"""What each optimization gives, from the code of the lessons to what the capstone runs.

Each row adds one optimization to the row above and computes the same function. What to expect of
each follows from the profile in 08_engineering: fused parts and reused memory save memory traffic,
bfloat16 speeds up the matrix products, the cache computes only the newest position, and the fast
decode step has less interpreter overhead between small operations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from decoding_loop import forward_step
from engine import build_model, choose_engine
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks import shapes
from tools.benchmarks.baseline import CPU
from tools.benchmarks.generation import PROMPT, generate, generation_speed
from tools.benchmarks.interleave import Measure, Settings, in_subprocess, interleave, progress
from tools.benchmarks.report import SPEED, Row, Section, ratio
from tools.benchmarks.training import training_speed
from training_loop import Trainer
from utils.config import ModelConfig, TrainConfig
from utils.memory import keep_freed_memory

REFERENCE = "reference parts"  # the code of the lessons, as it is read there


def changes(settings: Settings) -> Iterator[Section]:
    """Tokens per second as one optimization is added after another."""
    yield training_changes(settings)
    yield generation_changes(settings)


def training_changes(settings: Settings) -> Section:
    """The training ladder, on the first of the training shapes."""
    name, (config, n_steps) = next(iter(shapes.TRAINING.items()))
    config = replace(config, model=settings.fit(config.model), device="cpu")
    with progress(1, f"warming up, {name}"):
        measures = training_measures(config, settings, 1 if settings.quick else n_steps)
    batch = f"{config.batch_size} x {config.model.max_seq_len} tokens per step"
    values = interleave(measures, settings.rounds, f"changes, {name}")
    return Section(f"one change at a time, training {name}, {batch}", SPEED, rows(values))


def generation_changes(settings: Settings) -> Section:
    """The generation ladder, on the first of the generation shapes."""
    name, model = next(iter(shapes.GENERATION.items()))
    n_tokens = 15 if settings.quick else model.max_seq_len - len(PROMPT)
    with progress(1, f"warming up, {name}"):
        measures = generation_measures(settings.fit(model), n_tokens)
    values = interleave(measures, settings.rounds, f"changes, {name}")
    return Section(f"one change at a time, generation {name}", SPEED, rows(values))


def training_measures(config: TrainConfig, settings: Settings, n_steps: int) -> dict[str, Measure]:
    """One process per candidate, because the allocator's setting belongs to a whole process."""
    reference = replace(config, parts="reference", dtype="float32")
    fused = replace(config, parts="fused", dtype="float32")
    fastest = replace(config, dtype=choose_engine(config).dtype_name)
    ladder = {f"{REFERENCE}, float32": (reference, False), "+ fused parts": (fused, False)}
    if fastest.dtype != fused.dtype:
        ladder[f"+ {fastest.dtype}"] = (fastest, False)
    ladder["+ freed memory reused"] = (fastest, True)
    tokens = settings.data.train
    return {
        label: in_subprocess(measure_training, candidate, tokens, keep_memory, n_steps)
        for label, (candidate, keep_memory) in ladder.items()
    }


def measure_training(
    config: TrainConfig, tokens: np.ndarray, keep_memory: bool, n_steps: int
) -> Measure:
    """The training speed of one candidate; runs in a subprocess."""
    if keep_memory:
        keep_freed_memory()
    engine = choose_engine(config)
    model = build_model(config.model, engine, config.seed)
    trainer = Trainer(model, tokens, tokens, config, CPU, engine.dtype)
    return training_speed(trainer, config, n_steps)


def generation_measures(config: ModelConfig, n_tokens: int) -> dict[str, Measure]:
    """All in float32, as in sample.py."""
    reference = TinyTransformerLM(config, Parts.reference()).eval()
    fused = TinyTransformerLM(config, Parts.fused()).eval()
    ladder = {
        f"{REFERENCE}, no cache": partial(generate, reference, 1, False),
        "+ fused parts": partial(generate, fused, 1, False),
        "+ KV cache": partial(generate, fused, 1, True, make_decode_step=forward_step),
        "+ fast decode step": partial(generate, fused, 1, True),
    }
    return {label: generation_speed(work, 1, n_tokens) for label, work in ladder.items()}


def rows(values: Mapping[str, tuple[float, ...]]) -> tuple[Row, ...]:
    """The speeds, the ratio of each to the row above it, and of the last to the first."""
    labels = list(values)
    ratios = [
        ratio(f"ratio: {label.removeprefix('+ ')} / row above", values[label], values[before])
        for before, label in pairwise(labels)
    ]
    together = ratio("ratio: all changes together", values[labels[-1]], values[labels[0]])
    return (*(Row(label, measured) for label, measured in values.items()), *ratios, together)
