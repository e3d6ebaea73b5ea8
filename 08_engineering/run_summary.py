"""What the files of a run contain: its configuration, its metrics, its progress and its best loss.

What a missing or damaged file would contain is unknown; nothing here raises an error for it.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from logging_utils import read_csv
from run_folder import RUN_FILE, folders, run_status, step_of
from utils.config import TrainConfig, load_config
from utils.errors import CourseError

RUN_FILES = ("config.yaml", "metrics.csv", RUN_FILE)  # any of these marks the folder of a run
Rows = Sequence[Mapping[str, float | None]]


def run_folders(root: Path | str) -> list[Path]:
    """Every run directly under `root`, sorted by name and therefore by age."""
    return sorted({file.parent for name in RUN_FILES for file in Path(root).glob(f"*/{name}")})


@dataclass(frozen=True)
class RunSummary:
    """The facts about a run; None for what its files do not contain."""

    path: Path
    steps: int
    max_steps: int | None
    best_val_loss: float | None
    state: str = "old"


def summarize(folder: Path) -> RunSummary:
    """Read the files of a run; what a missing or damaged file would contain is None."""
    config, rows = read_config(folder), read_metrics(folder)
    best = best_evaluation(rows)
    max_steps = config.max_steps if config else None
    # Rows are some steps apart: a run stopped between two of them has the state of a later step.
    steps = max(steps_done(rows), saved_step(folder))
    return RunSummary(folder, steps, max_steps, best[0] if best else None, run_status(folder))


def read_config(folder: Path) -> TrainConfig | None:
    """The configuration of a run, or None if it cannot be read."""
    path = folder / "config.yaml"
    with contextlib.suppress(CourseError, OSError):
        if path.stat().st_size:  # an empty file would be read as all defaults
            return load_config(path, TrainConfig)
    return None


def read_metrics(folder: Path) -> list[dict[str, float | None]]:
    """The rows of metrics.csv, or none if it cannot be read."""
    with contextlib.suppress(CourseError, OSError):
        return read_csv(folder / "metrics.csv")
    return []


def steps_done(rows: Rows) -> int:
    """The last step with a row of metrics."""
    return max((int(step) for step, _ in curve(rows, "step")), default=0)


def saved_step(folder: Path) -> int:
    """The step of the newest saved state, from which --resume continues; 0 if there is none."""
    with contextlib.suppress(OSError):
        return max(map(step_of, folders(folder / "states")), default=0)
    return 0


def best_evaluation(rows: Rows) -> tuple[float, int] | None:
    """The lowest validation loss and its step; None before the first evaluation."""
    return min(((loss, int(step)) for step, loss in curve(rows, "val_loss")), default=None)


def curve(rows: Rows, column: str) -> list[tuple[float, float]]:
    """(step, value) of each row where both are finite."""
    pairs = [(row.get("step"), row.get(column)) for row in rows]
    return [
        (step, value)
        for step, value in pairs
        if step is not None and value is not None and math.isfinite(step) and math.isfinite(value)
    ]
