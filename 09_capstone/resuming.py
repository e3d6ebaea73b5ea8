"""Going on with a run that was stopped or killed: which one, with what, and never two at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from run_folder import RESULT_FILE as RESULT_FILE
from run_folder import RUN_FILE, is_finished, run_id_of
from run_folder import locked as locked
from run_folder import sign as sign
from run_folder import write_result as write_result
from training_data import TrainingData
from training_state import TrainingState, last_good_state
from utils.config import TrainConfig, to_dict
from utils.errors import CourseError, UsageError


def run_to_resume(out_dir: Path | None, runs: Path) -> Path:
    """The run in out_dir, or the newest one under `runs` that is not finished."""
    if out_dir is not None:
        run_id_of(out_dir)
        if is_finished(out_dir):
            raise UsageError(f"the run in {out_dir} is finished; there is nothing to resume")
        return out_dir.resolve()
    found = [path.parent for path in runs.glob(f"*/{RUN_FILE}")]
    unfinished = [folder for folder in found if not is_finished(folder)]
    if not unfinished:
        raise UsageError(f"no unfinished run under {runs}; start one without --resume")
    return max(unfinished, key=run_id_of)  # an id begins with the time; a folder may be "demo"


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
