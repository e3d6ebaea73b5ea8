"""Going on with a run that was stopped or killed: which one, with what, and never two at once."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from training_data import TrainingData
from training_state import TrainingState, last_good_state
from utils.config import TrainConfig, to_dict
from utils.errors import CourseError, UsageError
from utils.files import atomic_write_text

RUN_FILE = "run.json"  # the run's id: there from the beginning
RESULT_FILE = "result.json"  # how the run ended: there when it has
LOCK_FILE = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other trainers out of a run's folder. The system lets go when this process ends,
    however it ends. Raises CourseError if another process is at work there."""
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise CourseError(f"{folder} is in use: another trainer is at work there") from None
    try:
        yield
    finally:
        lock.release()


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


def run_to_resume(out_dir: Path | None, runs: Path) -> Path:
    """The run in out_dir, or the newest one under `runs` that is not finished."""
    if out_dir is not None:
        run_id_of(out_dir)
        if is_finished(out_dir):
            raise UsageError(f"the run in {out_dir} is finished; there is nothing to resume")
        return out_dir.resolve()
    found = sorted(path.parent for path in runs.glob(f"*/{RUN_FILE}"))
    unfinished = [folder for folder in found if not is_finished(folder)]
    if not unfinished:
        raise UsageError(f"no unfinished run under {runs}; start one without --resume")
    return unfinished[-1]


def refuse_changes(asked: TrainConfig, stored: TrainConfig) -> None:
    """Raise UsageError, naming the fields, if a run would go on as another one.

    What the data or the machine has settled ("auto", the vocabulary) may be left open again.
    """
    before, now = flat(to_dict(stored)), flat(to_dict(asked))
    changes = [
        f"{name} {before[name]} -> {value}"
        for name, value in now.items()
        if value != before[name] and name != "model.vocab_size" and value != "auto"
    ]
    if changes:
        raise UsageError(f"a resumed run keeps its configuration; changed: {', '.join(changes)}")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return found


def state_to_resume(folder: Path, data: TrainingData) -> TrainingState | None:
    """The newest state that is whole; None if the run was killed before it saved one.

    Prints what is wrong with newer ones. Raises CourseError if none is whole, or the data differs.
    """
    state, faults = last_good_state(folder / "states", run_id_of(folder))
    for fault in faults:
        print(f"damaged {fault}; an older state is used")
    if state is None:
        print("resume  nothing was saved yet: from the beginning")
        return None
    if state.position["place"]["data"] != data.fingerprint:
        raise CourseError(f"{folder.name} learned from other data than {data.name} is now")
    torch.set_num_threads(state.position["place"]["threads"])
    print(f"resume  step {state.step} of {state.position['max_steps']}")
    return state
