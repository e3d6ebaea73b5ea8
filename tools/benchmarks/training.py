"""How fast models learn: tokens per second beside the peer's, and the time to given losses.

A training step is everything from the batch to the moved weights. A speed is also given as a share
of the machine's peak (model FLOP utilisation, Chowdhery et al. 2022, section 4.1):

    tokens per second * FLOP per token / FLOP per second of a plain matrix product

of the same precision, measured in the same round.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from compute_peak import matmul_peak, training_flops_per_token
from engine import Engine, build_model, choose_engine
from model.config import MODERN, MODERN_TRAINING, preset
from tools.benchmarks.baseline import INSTALL, PeerTrainer, classic, is_installed
from tools.benchmarks.interleave import (
    Run,
    Settings,
    in_own_process,
    progress,
    repeated,
    seconds_of,
    speed_of,
    take_turns,
)
from tools.benchmarks.report import OURS, PEER, SPEED, Row, Section, ratio
from training_loop import Callback, StepReport, Trainer
from utils.config import ModelConfig, TrainConfig

CPU = torch.device("cpu")
LARGE = ModelConfig(max_seq_len=256, d_model=384, n_layers=6, n_heads=6, **MODERN)
SHAPES = {  # name: configuration, steps a round
    "laptop": (preset("laptop"), 20),
    "6x384": (TrainConfig(LARGE, batch_size=16, **MODERN_TRAINING), 1),
    "6x384 in GPT-2's layout": (TrainConfig(classic(LARGE), batch_size=16, grad_clip=0.0), 1),
}
LEVELS = (1.92, 1.70, 1.60, 1.50)  # the validation losses that a run is timed to
MINUTES = 0.25  # of the runs that are given so long


@dataclass(frozen=True)
class Competitor:
    """One side of the comparison, ready to train."""

    label: str
    dtype: str
    flops: float  # per token
    run: Run  # measures tokens per second; warmed up


def training(settings: Settings) -> Iterator[Section]:
    """Tokens per second of a training step, ours and the peer's."""
    for name, (config, n_steps) in SHAPES.items():
        config = replace(config, model=settings.fit(config.model), device="cpu")
        if settings.quick:  # four texts are enough to see that it works
            config, n_steps = replace(config, batch_size=min(4, config.batch_size)), 1
        with progress(1, f"getting ready, {name}"):
            sides = competitors(config, settings, choose_engine(config), n_steps)
        seconds = 0.1 if settings.quick else 1.0
        runs: dict[str, Run] = {
            peak(side.dtype): partial(peak_rate, side.dtype, seconds) for side in sides
        }
        runs |= {side.label: side.run for side in sides}
        values = take_turns(runs, settings.rounds, f"training, {name}")
        title = f"training {name}, {config.batch_size} x {config.model.max_seq_len} tokens a step"
        yield Section(title, SPEED, training_rows(sides, values))


def competitors(
    config: TrainConfig, settings: Settings, engine: Engine, n_steps: int
) -> list[Competitor]:
    """Who takes turns: ours as train.py runs it, the peer, and each in the other's precision."""
    exact = choose_engine(replace(config, dtype="float32"))
    plain = replace(config, optimizer="adamw")  # which is the peer's
    sides = [ours(f"{OURS}, {engine.dtype_name}", config, settings, engine, n_steps)]
    if is_installed():
        sides.append(peers(f"{PEER}, float32", config, settings, exact, n_steps))
    if plain != config:
        sides.append(ours(f"{OURS} with AdamW, float32", plain, settings, exact, n_steps))
    if engine.dtype == torch.bfloat16:
        sides.append(ours(f"{OURS}, float32", config, settings, exact, n_steps))
        if is_installed():
            sides.append(peers(f"{PEER}, bfloat16", config, settings, engine, n_steps))
    return sides


def ours(
    label: str, config: TrainConfig, settings: Settings, engine: Engine, n_steps: int
) -> Competitor:
    """Our Trainer."""
    model, data = build_model(config.model, engine, config.seed), settings.data
    trainer = Trainer(model, data.train, data.val, config, CPU, engine.dtype)
    flops = training_flops_per_token(config.model)
    return Competitor(label, engine.dtype_name, flops, run_of(trainer, config, n_steps))


def peers(
    label: str, config: TrainConfig, settings: Settings, engine: Engine, n_steps: int
) -> Competitor:
    """The peer, in the engine's precision; the parts are its own, and so is the process."""
    flops = training_flops_per_token(classic(config.model))
    run = in_own_process(peers_run, config, settings.data.train, engine.dtype, n_steps)
    return Competitor(label, engine.dtype_name, flops, run)


def peers_run(config: TrainConfig, tokens: np.ndarray, dtype: torch.dtype, n_steps: int) -> Run:
    """Called in the peer's process."""
    return run_of(PeerTrainer(config, tokens, dtype), config, n_steps)


def run_of(trainer: Trainer | PeerTrainer, config: TrainConfig, n_steps: int) -> Run:
    """Measures the tokens per second of n_steps; the first steps are made now and do not count."""
    steps = repeated(trainer.train_step, n_steps)
    steps()
    return speed_of(steps, n_steps * config.batch_size * config.model.max_seq_len)


def peak(dtype: str) -> str:
    """What the table calls it."""
    return f"peak of matrix products, {dtype}, GFLOP/s"


def peak_rate(dtype: str, seconds: float) -> float:
    """The fastest matrix product of this precision here and now, in GFLOP/s."""
    return matmul_peak(getattr(torch, dtype), CPU, seconds=seconds) / 1e9


def training_rows(
    sides: Sequence[Competitor], values: Mapping[str, tuple[float, ...]]
) -> tuple[Row, ...]:
    """Speeds with their shares of the peak, ratios of ours to the peer's, and the peaks."""
    rows = []
    for side in sides:
        pairs = zip(values[side.label], values[peak(side.dtype)], strict=True)
        shares = tuple(speed * side.flops / (best * 1e9) for speed, best in pairs)
        rows.append(Row(side.label, values[side.label], of_peak=shares))
    ratios = list(training_ratios(sides, values))
    absent = [] if ratios else [Row(PEER, note=INSTALL)]
    peaks = [Row(name, values[name]) for name in dict.fromkeys(peak(side.dtype) for side in sides)]
    return (*rows, *absent, *ratios, *peaks)


def training_ratios(
    sides: Sequence[Competitor], values: Mapping[str, tuple[float, ...]]
) -> Iterator[Row]:
    """Each of ours beside the peer of its precision, and the first, which may have a faster one,
    beside the peer as most people run it."""
    usual = f"{PEER}, float32"
    if sides[0].dtype != "float32" and usual in values:
        label = f"ratio: {OURS} {sides[0].dtype} / {PEER} float32"
        yield ratio(label, values[sides[0].label], values[usual])
    for side in sides:
        theirs = f"{PEER}, {side.dtype}"
        if side.label.startswith(OURS) and theirs in values:
            name = side.label.removesuffix(f", {side.dtype}")
            yield ratio(f"ratio: {name} / {theirs}", values[side.label], values[theirs])


# --- time to given losses ---


class Watch(Callback):
    """Moves a bar, and remembers which loss was measured after how many seconds of training."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar
        self.losses: list[tuple[float, float]] = []  # seconds, validation loss
        self.total = 0.0  # seconds with the evaluations

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Called by the trainer."""
        self.bar.total = trainer.max_steps
        self.bar.update()
        if report.val_loss is not None:
            self.losses.append((report.seconds, report.val_loss))

    def seconds_to(self, level: float) -> float | None:
        """When the loss was first at or below `level`; None if never."""
        return next((seconds for seconds, loss in self.losses if loss <= level), None)


def losses(settings: Settings) -> Iterator[Section]:
    """Train a preset: seconds to given losses, and what a quarter of a minute gives."""
    usual = preset(settings.preset)
    config = replace(usual, eval_interval=125, device="cpu")
    config = replace(config, model=settings.fit(config.model))
    engine = choose_engine(config)
    seeds = [replace(config, seed=n) for n in range(settings.seeds)]
    runs = [train(each, settings, engine) for each in seeds]
    name = f"{settings.preset} preset, {engine.dtype_name}"
    yield Section(f"{name}: training time", "seconds, evaluations not counted", level_rows(runs))
    limited = {"eval_interval": usual.eval_interval, "max_minutes": MINUTES}
    short = [train(replace(each, **limited), settings, engine) for each in seeds]
    longest = f"took {max(run.total for run in short):.1f} s at most"
    rows = (
        Row(f"after {config.max_steps} steps", last_losses(runs), 4),
        Row(f"given {MINUTES} minutes", last_losses(short), 4, note=longest),
    )
    yield Section(f"{name}: validation loss", "nats a character", rows)


def last_losses(runs: Sequence[Watch]) -> tuple[float, ...]:
    """Where each run ended."""
    return tuple(run.losses[-1][1] for run in runs)


def level_rows(runs: Sequence[Watch]) -> tuple[Row, ...]:
    """A row for each level, of the seeds that came there, and one for whole runs."""
    rows = []
    for level in LEVELS:
        times = [seconds for run in runs if (seconds := run.seconds_to(level)) is not None]
        note = "" if len(times) == len(runs) else f"{len(times)} of {len(runs)} seeds"
        rows.append(Row(f"to a validation loss of {level:.2f}", tuple(times), 1, note=note))
    return (*rows, Row("to the last step", tuple(run.losses[-1][0] for run in runs), 1))


def train(config: TrainConfig, settings: Settings, engine: Engine) -> Watch:
    """Train as train.py does, without a folder; returns what was seen on the way."""
    model, data = build_model(config.model, engine, config.seed), settings.data
    with progress(config.max_steps, f"training, seed {config.seed}") as bar:
        watch = Watch(bar)
        trainer = Trainer(model, data.train, data.val, config, CPU, engine.dtype, [watch])
        watch.total = seconds_of(trainer.fit)
    return watch
