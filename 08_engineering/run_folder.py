"""The folder of a run: whose it is, whether somebody is at work in it, and what its files say.

    run.json       the run's id: there from the beginning
    result.json    how the run ended: there when it has
    run.lock       held while a trainer is at work; the system lets go when that process ends

These three files tell the state of a run, and no program has to keep a list of what runs:

    finished       it came to its end
    running        a trainer holds the lock
    resumable      stopped or killed on the way; train.py --resume goes on with it
    old            nobody signed it: runs had no run.json yet, or train.py did not make it
"""

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from logging_utils import read_csv
from utils.config import TrainConfig, load_config
from utils.errors import CourseError, run_program
from utils.files import atomic_write_text

RUN_FILE = "run.json"
RESULT_FILE = "result.json"
LOCK_FILE = "run.lock"
SIGNS = ("config.yaml", "metrics.csv", RUN_FILE)  # any of these makes a folder a run's

Rows = Sequence[Mapping[str, float | None]]


# --- one trainer at a time ----------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other trainers out of a run's folder. The system lets go when this process ends,
    however it ends. Raises CourseError if another process is at work there."""
    # A second, because `in_use` holds the lock for an instant when somebody lists the runs.
    lock = FileLock(folder / LOCK_FILE, timeout=1)
    try:
        lock.acquire()
    except Timeout:
        raise CourseError(f"{folder} is in use: another trainer is at work there") from None
    try:
        yield
    finally:
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a trainer is at work in a folder, as far as one may look."""
    path = folder / LOCK_FILE
    try:
        if path.exists():  # asking for a lock would make one
            FileLock(path, timeout=0).acquire().lock.release()
        return False
    except Timeout:
        return True
    except OSError:  # somebody else's folder: one may not even ask
        return False


# --- its identity and its end -------------------------------------------------------------------


def sign(folder: Path, run_id: str) -> None:
    """Make a folder a run's."""
    atomic_write_text(folder / RUN_FILE, json.dumps({"id": run_id}) + "\n")


def run_id_of(folder: Path) -> str:
    """The id of the run in a folder. Raises CourseError if there is none."""
    try:
        return str(json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CourseError(f"{folder} holds no run that can be resumed (no {RUN_FILE})") from None


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Note how a run has ended."""
    atomic_write_text(folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")


def is_finished(folder: Path) -> bool:
    """Whether a run has come to its end; a killed or interrupted one has not."""
    try:
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        return result["outcome"] == "finished"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def state_of(folder: Path) -> str:
    """One of the four words at the top of this file."""
    if is_finished(folder):
        return "finished"
    if in_use(folder):
        return "running"
    with contextlib.suppress(CourseError):
        run_id_of(folder)
        return "resumable"
    return "old"


# --- what its files say -------------------------------------------------------------------------


def run_folders(root: Path | str) -> list[Path]:
    """Every folder directly under `root` with a sign of a run, by name, so the oldest first."""
    return sorted({file.parent for sign in SIGNS for file in Path(root).glob(f"*/{sign}")})


@dataclass(frozen=True)
class RunSummary:
    """A run in a line; None stands for what its files do not say."""

    path: Path
    steps: int
    max_steps: int | None
    best_val_loss: float | None
    state: str = "old"


def summarise(folder: Path) -> RunSummary:
    """Read what a run has written; a missing or damaged file leaves its part unknown."""
    config, rows = read_config(folder), read_metrics(folder)
    best = best_evaluation(rows)
    max_steps = config.max_steps if config else None
    return RunSummary(
        folder, steps_done(rows), max_steps, best[0] if best else None, state_of(folder)
    )


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
    """The last step that the metrics tell of."""
    return max((int(step) for step, _ in curve(rows, "step")), default=0)


def best_evaluation(rows: Rows) -> tuple[float, int] | None:
    """The lowest validation loss and its step; None before the first evaluation."""
    return min(((loss, int(step)) for step, loss in curve(rows, "val_loss")), default=None)


def curve(rows: Rows, column: str) -> list[tuple[float, float]]:
    """(step, value) of each row that holds both as finite numbers."""
    pairs = [(row.get("step"), row.get(column)) for row in rows]
    return [
        (step, value)
        for step, value in pairs
        if step is not None and value is not None and math.isfinite(step) and math.isfinite(value)
    ]


def main() -> None:
    """Follow the state of a run from its first moment to its end."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "demo"
        folder.mkdir()
        print("a folder:           ", state_of(folder))
        with locked(folder):
            sign(folder, "demo")
            print("a trainer at work:  ", state_of(folder))
        print("it was killed:      ", state_of(folder))
        with locked(folder):
            write_result(folder, {"outcome": "finished"})
        print("resumed, to its end:", state_of(folder))


if __name__ == "__main__":
    run_program(main)
