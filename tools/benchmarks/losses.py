"""Training time until given validation losses are reached, and the loss after a given time."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tqdm import tqdm

from engine import Engine, build_model, choose_engine
from model.config import preset
from tools.benchmarks.baseline import CPU
from tools.benchmarks.interleave import Settings, elapsed, progress
from tools.benchmarks.report import Row, Section
from training_loop import Callback, StepReport, Trainer
from utils.config import TrainConfig

TARGET_LOSSES = (1.92, 1.70, 1.60, 1.50)  # validation losses; a run is timed to each
EVAL_INTERVAL = 125  # steps: how finely the time to a loss is known
MINUTES = 0.25  # of the runs with a time limit


class LossHistory(Callback):
    """Records each validation loss per character, and when it was measured: seconds of training."""

    def __init__(self, bar: tqdm, chars_per_token: float = 1.0) -> None:
        self.bar = bar
        self.chars_per_token = chars_per_token
        self.losses: list[tuple[float, float]] = []  # (seconds, validation loss)
        self.total = 0.0  # seconds including the evaluations

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
    """Train a preset once per seed, without and with a time limit."""
    usual = preset(settings.preset)
    config = replace(usual, eval_interval=EVAL_INTERVAL, device="cpu")
    config = replace(config, model=settings.fit(config.model))
    engine = choose_engine(config)
    seeds = [replace(config, seed=n) for n in range(settings.seeds)]
    runs = [train(each, settings, engine) for each in seeds]
    name = f"{settings.preset} preset, {engine.dtype_name}"
    yield Section(f"{name}: training time", "seconds, without evaluations", time_rows(runs))
    limits = {"eval_interval": usual.eval_interval, "max_minutes": MINUTES}
    limited = [train(replace(each, **limits), settings, engine) for each in seeds]
    slowest = f"at most {max(run.total for run in limited):.1f} s in all"
    rows = (
        Row(f"after {config.max_steps} steps", tuple(run.final for run in runs), 4),
        Row(f"--max-minutes {MINUTES}", tuple(run.final for run in limited), 4, note=slowest),
    )
    yield Section(f"{name}: validation loss", "nats per character", rows)


def time_rows(runs: Sequence[LossHistory]) -> tuple[Row, ...]:
    """One row per target loss, with the times of the seeds that reached it, and one for the end."""
    rows = []
    for target in TARGET_LOSSES:
        times = [seconds for run in runs if (seconds := run.seconds_to(target)) is not None]
        note = "" if len(times) == len(runs) else f"{len(times)} of {len(runs)} seeds"
        rows.append(Row(f"to a validation loss of {target:.2f}", tuple(times), 1, note=note))
    return (*rows, Row("to the last step", tuple(run.losses[-1][0] for run in runs), 1))


def train(config: TrainConfig, settings: Settings, engine: Engine) -> LossHistory:
    """Train as train.py does, but write nothing; returns the losses along the way."""
    model = build_model(config.model, engine, config.seed)
    data = settings.data
    with progress(config.max_steps, f"training, seed {config.seed}") as bar:
        history = LossHistory(bar, data.chars_per_token)
        trainer = Trainer(model, data.train, data.val, config, CPU, engine.dtype, [history])
        history.total = elapsed(trainer.fit)
    return history
