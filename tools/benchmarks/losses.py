"""Training time until given validation losses are reached, and the loss after a given time.

Every time is given in seconds and in units (unit.py), every loss at the model's own context and at
equal evaluation: lesson 06, evaluation.py.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from tqdm import tqdm

from engine import Engine, build_model, choose_engine
from evaluation import equal_context
from model.config import preset
from tools.benchmarks.baseline import CPU, NOT_INSTALLED
from tools.benchmarks.held_out import LAST, TUNING, WHOLE, Losses, check_parts, held_out_losses
from tools.benchmarks.interleave import REST, Measure, Settings, elapsed, progress
from tools.benchmarks.report import Row, Section
from tools.benchmarks.unit import unit_measure
from training_loop import Callback, StepReport, Trainer
from utils.config import TrainConfig

TARGET_LOSSES = (1.92, 1.70, 1.60, 1.50)  # validation losses; a run is timed to each
EVALUATIONS = 16  # per run: how finely the time to a loss is known
LIMITED = "laptop"  # the preset that is also trained with a time limit
LIMIT = 0.2  # that limit, in units
MINUTES = 0.25  # that limit where units cannot be measured
EQUAL = "equal evaluation"


class LossHistory(Callback):
    """Records each validation loss per character, and when it was measured: seconds of training."""

    def __init__(self, bar: tqdm, chars_per_token: float = 1.0) -> None:
        self.bar = bar
        self.chars_per_token = chars_per_token
        self.losses: list[tuple[float, float]] = []  # (seconds, validation loss)
        self.total = 0.0  # seconds including the evaluations
        self.held_out: dict[str, Losses] = {}  # of the model after the last step

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Called by the trainer after each step."""
        self.bar.total = trainer.max_steps
        self.bar.update()
        if report.val_loss is not None:
            self.losses.append((report.seconds, report.val_loss / self.chars_per_token))

    @property
    def final(self) -> float:
        """The last validation loss."""
        return self.losses[-1][1]

    def seconds_to(self, target: float) -> float | None:
        """When the loss was first at or below `target`; None if it never was."""
        return next((seconds for seconds, loss in self.losses if loss <= target), None)


def losses(settings: Settings) -> Iterator[Section]:
    """Train a preset once per seed; LIMITED also with a time limit."""
    usual = preset(settings.preset)
    interval = max(1, usual.max_steps // EVALUATIONS)
    config = replace(usual, eval_interval=interval, device="cpu")
    config = replace(config, model=settings.fit(config.model))
    check_parts(settings.data.val, config.model.max_seq_len)  # now, not after the training
    engine = choose_engine(config)
    seeds = [replace(config, seed=n) for n in range(settings.seeds)]
    runs, units = train_between_units(seeds, settings, engine)
    name = f"{settings.preset} preset, {engine.dtype_name}"
    yield Section(f"{name}: training time", "seconds, without evaluations", time_rows(runs))
    yield Section(f"{name}: training time in units", "units", unit_rows(runs, units))
    rows = whole_run_rows(runs, config, settings.data.chars_per_token)
    if settings.preset == LIMITED:
        minutes = minutes_of(LIMIT, units)
        limits = {"eval_interval": usual.eval_interval, "max_minutes": minutes}
        limited = [train(replace(each, **limits), settings, engine) for each in seeds]
        rows += limited_rows(minutes, limited, config, settings.data.chars_per_token)
    yield Section(f"{name}: validation loss", "nats per character", rows)


def whole_run_rows(
    runs: Sequence[LossHistory], config: TrainConfig, chars_per_token: float
) -> tuple[Row, ...]:
    """The losses after the last step, on all of the validation split and on its parts."""
    blocks = blocks_of(config, chars_per_token)
    return (
        *loss_rows(f"after {config.max_steps} steps", WHOLE, runs, blocks),
        *loss_rows(TUNING, TUNING, runs, blocks),
        *loss_rows(LAST, LAST, runs, blocks),
    )


def limited_rows(
    minutes: float, runs: Sequence[LossHistory], config: TrainConfig, chars_per_token: float
) -> tuple[Row, ...]:
    """The losses of the runs with a time limit, and how long the longest took."""
    slowest = f"at most {max(run.total for run in runs):.1f} s in all"
    blocks = blocks_of(config, chars_per_token)
    own, equal = loss_rows(f"--max-minutes {minutes}", WHOLE, runs, blocks)
    return (replace(own, note=slowest), equal)


def blocks_of(config: TrainConfig, chars_per_token: float) -> str:
    """How the text is cut for equal evaluation."""
    return f"blocks of {equal_context(config.model.max_seq_len, chars_per_token)}"


def minutes_of(units: float, measured: Sequence[float]) -> float:
    """So many units as minutes, rounded down to hundredths, for --max-minutes."""
    if not measured:
        return MINUTES
    hundredths = math.floor(100 * units * statistics.median(measured) / 60)
    return max(1, hundredths) / 100


def train_between_units(
    configs: Sequence[TrainConfig], settings: Settings, engine: Engine
) -> tuple[list[LossHistory], list[float]]:
    """Train each configuration, and measure the unit before, between and after them.

    Without transformers, there are no units.
    """
    measure = unit_measure(settings)
    runs, units = [], measured(measure)
    for config in configs:
        runs.append(train(config, settings, engine))
        units += measured(measure)
    return runs, units


def measured(measure: Measure | None) -> list[float]:
    """One measurement, once the threads of what ran before have stopped spinning."""
    if measure is None:
        return []
    time.sleep(REST)
    return [measure()]


def time_rows(runs: Sequence[LossHistory], units: Sequence[float] | None = None) -> tuple[Row, ...]:
    """One row per target loss, with the times of the seeds that reached it, and one for the end.

    In seconds; with `units`, which are the seconds of one unit during each run, in units.
    """
    ones, digits = units or [1.0] * len(runs), 2 if units else 1
    pairs = list(zip(runs, ones, strict=True))
    rows = []
    for target in TARGET_LOSSES:
        reached = [(run.seconds_to(target), one) for run, one in pairs]
        times = tuple(seconds / one for seconds, one in reached if seconds is not None)
        note = "" if len(times) == len(runs) else f"{len(times)} of {len(runs)} seeds"
        rows.append(Row(f"to a validation loss of {target:.2f}", times, digits, note=note))
    last = tuple(run.losses[-1][0] / one for run, one in pairs)
    return (*rows, Row("to the last step", last, digits))


def unit_rows(runs: Sequence[LossHistory], units: Sequence[float]) -> tuple[Row, ...]:
    """The seconds of one unit, and the times in units.

    A run's unit is the mean of the two that were measured before and after it.
    """
    if not units:
        return (Row("one unit", note=NOT_INSTALLED),)
    during = [(before + after) / 2 for before, after in pairwise(units)]
    return (Row("one unit, in seconds", tuple(units), 1), *time_rows(runs, during))


def loss_rows(label: str, part: str, runs: Sequence[LossHistory], blocks: str) -> tuple[Row, Row]:
    """The losses on one part of the split: at the model's own context, and at equal evaluation."""
    found = [run.held_out[part] for run in runs]
    return (
        Row(label, tuple(each.own for each in found), 4),
        Row(f"{label}, {EQUAL}", tuple(each.equal for each in found), 4, note=blocks),
    )


def train(config: TrainConfig, settings: Settings, engine: Engine) -> LossHistory:
    """Train as train.py does, but write nothing; returns the losses along the way."""
    model = build_model(config.model, engine, config.seed)
    data = settings.data
    with progress(config.max_steps, f"training, seed {config.seed}") as bar:
        history = LossHistory(bar, data.chars_per_token)
        trainer = Trainer(model, data.train, data.val, config, CPU, engine.dtype, [history])
        history.total = elapsed(trainer.fit)
    T = config.model.max_seq_len
    history.held_out = held_out_losses(model, data, T, engine.dtype)
    return history
