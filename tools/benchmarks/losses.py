"""Training time until given validation losses are reached, and the loss after a given time.

Every time is given in seconds and in units (unit.py), every loss at the model's own context and at
equal evaluation: lesson 06, evaluation.py.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tqdm import tqdm

from engine import Engine, build_model, choose_engine
from evaluation import equal_context
from model.config import preset
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.baseline import CPU, NOT_INSTALLED
from tools.benchmarks.held_out import LAST, TUNING, WHOLE, check_parts, held_out_losses
from tools.benchmarks.interleave import REST, Measure, Settings, elapsed, progress
from tools.benchmarks.measured_runs import MeasuredRun, RunFolder
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
    """Records each validation loss per character, and when it was measured."""

    def __init__(self, bar: tqdm, chars_per_token: float = 1.0) -> None:
        self.bar = bar
        self.chars_per_token = chars_per_token
        self.losses: list[tuple[float, float]] = []  # (seconds of training, validation loss)

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Called by the trainer after each step."""
        self.bar.total = trainer.max_steps
        self.bar.update()
        if report.val_loss is not None:
            self.losses.append((report.seconds, report.val_loss / self.chars_per_token))


def losses(settings: Settings) -> Iterator[Section]:
    """Train a preset once per seed; LIMITED also with a time limit."""
    usual = preset(settings.preset)
    interval = max(1, usual.max_steps // EVALUATIONS)
    config = replace(usual, eval_interval=interval, device="cpu")
    config = replace(config, model=settings.fit(config.model))
    check_parts(settings.data.val, config.model.max_seq_len)  # now, not after the training
    engine = choose_engine(config)
    seeds = [replace(config, seed=n) for n in range(settings.seeds)]
    kept_in = None if settings.quick else settings.out  # a quick trial's units are not to be reused
    folder = RunFolder(kept_in, settings.data)
    runs = train_between_units(seeds, settings, engine, folder)
    name = f"{settings.preset} preset, {engine.dtype_name}"
    yield Section(f"{name}: training time", "seconds, without evaluations", time_rows(runs))
    yield Section(f"{name}: training time in units", "units", unit_rows(runs))
    rows = whole_run_rows(runs, config, settings.data.chars_per_token)
    if settings.preset == LIMITED:
        minutes = minutes_of(LIMIT, [unit for run in runs for unit in run.units])
        limits = {"eval_interval": usual.eval_interval, "max_minutes": minutes}
        limited = [
            folder.measured(
                f"{settings.preset}-{each.seed}-limited",
                replace(each, **limits),
                lambda each: train(each, settings, engine),
            )
            for each in seeds
        ]
        rows += limited_rows(minutes, limited, config, settings.data.chars_per_token)
    yield Section(f"{name}: validation loss", "nats per character", rows)


def whole_run_rows(
    runs: Sequence[MeasuredRun], config: TrainConfig, chars_per_token: float
) -> tuple[Row, ...]:
    """The losses after the last step, on all of the validation split and on its parts."""
    blocks = blocks_of(config, chars_per_token)
    return (
        *loss_rows(f"after {config.max_steps} steps", WHOLE, runs, blocks),
        *loss_rows(TUNING, TUNING, runs, blocks),
        *loss_rows(LAST, LAST, runs, blocks),
    )


def limited_rows(
    minutes: float, runs: Sequence[MeasuredRun], config: TrainConfig, chars_per_token: float
) -> tuple[Row, ...]:
    """The losses of the runs with a time limit, and how long the longest took."""
    slowest = f"at most {max(run.total for run in runs):.1f} s in all"
    blocks = blocks_of(config, chars_per_token)
    own, equal = loss_rows(f"--max-minutes {minutes}", WHOLE, runs, blocks)
    return (replace(own, note=slowest), replace(equal, note=""))


def blocks_of(config: TrainConfig, chars_per_token: float) -> str:
    """How the text is cut for equal evaluation."""
    return f"blocks of {equal_context(config.model.max_seq_len, chars_per_token)}"


def minutes_of(units: float, measured: Sequence[float]) -> float:
    """So many units as minutes, rounded down to thousandths, for --max-minutes."""
    if not measured:
        return MINUTES
    thousandths = math.floor(1000 * units * statistics.median(measured) / 60)
    return max(1, thousandths) / 1000


def train_between_units(
    configs: Sequence[TrainConfig], settings: Settings, engine: Engine, folder: RunFolder
) -> list[MeasuredRun]:
    """Train each configuration, and measure the unit before and after each of them.

    Without transformers, there are no units.
    """
    measure = unit_measure(settings)

    def run(config: TrainConfig) -> tuple[MeasuredRun, TinyTransformerLM]:
        before = measured(measure)
        trained, model = train(config, settings, engine)
        return replace(trained, units=(*before, *measured(measure))), model

    return [folder.measured(f"{settings.preset}-{each.seed}", each, run) for each in configs]


def measured(measure: Measure | None) -> list[float]:
    """One measurement, once the threads of what ran before have stopped spinning."""
    if measure is None:
        return []
    time.sleep(REST)
    return [measure()]


def time_rows(runs: Sequence[MeasuredRun], in_units: bool = False) -> tuple[Row, ...]:
    """One row per target loss, with the times of the seeds that reached it, and one for the end.

    In seconds, or in units: a run's unit is the mean of the two that were measured around it.
    """
    ones = [statistics.mean(run.units) if in_units else 1.0 for run in runs]
    digits = 2 if in_units else 1
    pairs = list(zip(runs, ones, strict=True))
    rows = []
    for target in TARGET_LOSSES:
        reached = [(run.seconds_to(target), one) for run, one in pairs]
        times = tuple(seconds / one for seconds, one in reached if seconds is not None)
        note = "" if len(times) == len(runs) else f"{len(times)} of {len(runs)} seeds"
        rows.append(Row(f"to a validation loss of {target:.2f}", times, digits, note=note))
    last = tuple(run.seconds / one for run, one in pairs)
    return (*rows, Row("to the last step", last, digits))


def unit_rows(runs: Sequence[MeasuredRun]) -> tuple[Row, ...]:
    """The seconds of one unit, and the times in units."""
    units = tuple(unit for run in runs for unit in run.units)
    if not units:
        return (Row("one unit", note=NOT_INSTALLED),)
    return (Row("one unit, in seconds", units, 1), *time_rows(runs, in_units=True))


def loss_rows(label: str, part: str, runs: Sequence[MeasuredRun], blocks: str) -> tuple[Row, Row]:
    """The losses on one part of the split: at the model's own context, and at equal evaluation."""
    found = [run.held_out[part] for run in runs]
    return (
        Row(label, tuple(each.own for each in found), 4),
        Row(f"{label}, {EQUAL}", tuple(each.equal for each in found), 4, note=blocks),
    )


def train(
    config: TrainConfig, settings: Settings, engine: Engine
) -> tuple[MeasuredRun, TinyTransformerLM]:
    """Train as train.py does; returns what was measured, without units, and the model."""
    model = build_model(config.model, engine, config.seed)
    data = settings.data
    with progress(config.max_steps, f"training, seed {config.seed}") as bar:
        history = LossHistory(bar, data.chars_per_token)
        trainer = Trainer(model, data.train, data.val, config, CPU, engine.dtype, [history])
        total = elapsed(trainer.fit)
    held_out = held_out_losses(model, data, config.model.max_seq_len, engine.dtype)
    return MeasuredRun(tuple(history.losses), trainer.step, total, held_out), model
