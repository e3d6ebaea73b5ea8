"""Training speed in tokens per second, ours and the baseline's.

A training step is everything from drawing the batch to updating the weights. A speed is also given
as a share of the machine's peak (model FLOP utilization, Chowdhery et al. 2022, section 4.1):

    tokens per second * FLOP per token / FLOP per second of a plain matrix product

where the matrix product has the same precision and was measured in the same round.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from compute_peak import matmul_peak, training_flops_per_token
from engine import Engine, build_model, check_compiler, choose_engine
from tools.benchmarks import shapes
from tools.benchmarks.baseline import (
    CPU,
    NOT_INSTALLED,
    BaselineTrainer,
    gpt2_layout,
    is_installed,
)
from tools.benchmarks.interleave import (
    Measure,
    Settings,
    in_subprocess,
    interleave,
    progress,
    repeat,
    throughput,
)
from tools.benchmarks.report import BASELINE, OURS, SPEED, Row, Section, ratio
from training_loop import Trainer
from utils.config import TrainConfig
from utils.errors import UsageError


@dataclass(frozen=True)
class Candidate:
    """One row of the comparison: a program, its precision, and how to measure it."""

    label: str
    dtype: str
    flops: float  # per token
    measure: Measure  # tokens per second; warmed up


def training(settings: Settings) -> Iterator[Section]:
    """Tokens per second of a training step, ours and the baseline's."""
    for name, (config, n_steps) in shapes.TRAINING.items():
        config = replace(config, model=settings.fit(config.model), device="cpu")
        if settings.quick:
            config = replace(config, batch_size=min(4, config.batch_size))
            n_steps = 1
        with progress(1, f"warming up, {name}"):
            compared = candidates(config, settings, choose_engine(config), n_steps)
        seconds = 0.1 if settings.quick else 1.0
        measures = peak_measures(compared, seconds) | {c.label: c.measure for c in compared}
        values = interleave(measures, settings.rounds, f"training, {name}")
        batch = f"{config.batch_size} x {config.model.max_seq_len} tokens per step"
        yield Section(f"training {name}, {batch}", SPEED, training_rows(compared, values))


def candidates(
    config: TrainConfig, settings: Settings, engine: Engine, n_steps: int
) -> list[Candidate]:
    """Ours as train.py runs it, the baseline in float32, each with the other's settings, and ours
    compiled."""
    float32 = choose_engine(replace(config, dtype="float32"))
    adamw = replace(config, optimizer="adamw")  # the baseline's optimizer
    compared = [ours(f"{OURS}, {engine.dtype_name}", config, settings, engine, n_steps)]
    if is_installed():
        compared.append(baseline(config, settings, float32, n_steps))
    if adamw != config:
        compared.append(ours(f"{OURS} with AdamW, float32", adamw, settings, float32, n_steps))
    if engine.dtype == torch.bfloat16:
        compared.append(ours(f"{OURS}, float32", config, settings, float32, n_steps))
        if is_installed():
            compared.append(baseline(config, settings, engine, n_steps))
    if not settings.quick and has_compiler():
        label = f"{OURS} with --compile, {engine.dtype_name}"
        compiled = replace(engine, compiled=True)
        compared.append(ours(label, config, settings, compiled, n_steps))
    return compared


def has_compiler() -> bool:
    """Whether torch.compile works here. Compiling takes a minute, which the warm-up hides."""
    try:
        check_compiler(CPU)
    except UsageError:
        return False
    return True


def ours(
    label: str, config: TrainConfig, settings: Settings, engine: Engine, n_steps: int
) -> Candidate:
    """The Trainer of lesson 06 on the engine of lesson 05."""
    model = build_model(config.model, engine, config.seed)
    data = settings.data
    trainer = Trainer(model, data.train, data.val, config, CPU, engine.dtype)
    flops = training_flops_per_token(config.model)
    return Candidate(label, engine.dtype_name, flops, training_speed(trainer, config, n_steps))


def baseline(config: TrainConfig, settings: Settings, engine: Engine, n_steps: int) -> Candidate:
    """The baseline in the engine's precision, in a process of its own."""
    label = f"{BASELINE}, {engine.dtype_name}"
    flops = training_flops_per_token(gpt2_layout(config.model))
    tokens = settings.data.train
    measure = in_subprocess(baseline_speed, config, tokens, engine.dtype, n_steps)
    return Candidate(label, engine.dtype_name, flops, measure)


def baseline_speed(
    config: TrainConfig, tokens: np.ndarray, dtype: torch.dtype, n_steps: int
) -> Measure:
    """The baseline's training speed; runs in a subprocess."""
    return training_speed(BaselineTrainer(config, tokens, dtype), config, n_steps)


def training_speed(
    trainer: Trainer | BaselineTrainer, config: TrainConfig, n_steps: int
) -> Measure:
    """Measures tokens per second over n_steps, after n_steps of warm-up."""
    steps = repeat(trainer.train_step, n_steps)
    steps()
    return throughput(steps, n_steps * config.batch_size * config.model.max_seq_len)


def peak_measures(compared: Sequence[Candidate], seconds: float) -> dict[str, Measure]:
    """One matrix-product measurement per precision in use, by label."""
    dtypes = dict.fromkeys(candidate.dtype for candidate in compared)
    return {peak_label(dtype): partial(matmul_gflops, dtype, seconds) for dtype in dtypes}


def peak_label(dtype: str) -> str:
    """The label of the peak's row."""
    return f"matrix product peak, {dtype}, GFLOP/s"


def matmul_gflops(dtype: str, seconds: float) -> float:
    """The speed of the fastest matrix product in this precision, in GFLOP/s."""
    return matmul_peak(getattr(torch, dtype), CPU, seconds=seconds) / 1e9


def training_rows(
    compared: Sequence[Candidate], values: Mapping[str, tuple[float, ...]]
) -> tuple[Row, ...]:
    """Speeds with their shares of the peak, ratios of ours to the baseline's, and the peaks."""
    rows = [
        Row(each.label, values[each.label], of_peak=shares_of_peak(each, values))
        for each in compared
    ]
    ratios = list(training_ratios(compared, values))
    absent = [] if ratios else [Row(BASELINE, note=NOT_INSTALLED)]
    labels = dict.fromkeys(peak_label(candidate.dtype) for candidate in compared)
    peaks = [Row(label, values[label]) for label in labels]
    return (*rows, *absent, *ratios, *peaks)


def shares_of_peak(
    candidate: Candidate, values: Mapping[str, tuple[float, ...]]
) -> tuple[float, ...]:
    """FLOP per second of the model, divided by that of the matrix product, round by round."""
    pairs = zip(values[candidate.label], values[peak_label(candidate.dtype)], strict=True)
    return tuple(speed * candidate.flops / (peak * 1e9) for speed, peak in pairs)


def training_ratios(
    compared: Sequence[Candidate], values: Mapping[str, tuple[float, ...]]
) -> Iterator[Row]:
    """Each of ours to the baseline in the same precision; first, if ours as train.py runs it is not
    float32, to the baseline in float32, which is how most people run it."""
    first = compared[0]
    usual = f"{BASELINE}, float32"
    if first.dtype != "float32" and usual in values:
        label = f"ratio: {OURS} {first.dtype} / {BASELINE} float32"
        yield ratio(label, values[first.label], values[usual])
    for candidate in compared:
        theirs = f"{BASELINE}, {candidate.dtype}"
        if candidate.label.startswith(OURS) and theirs in values:
            name = candidate.label.removesuffix(f", {candidate.dtype}")
            yield ratio(f"ratio: {name} / {theirs}", values[candidate.label], values[theirs])
