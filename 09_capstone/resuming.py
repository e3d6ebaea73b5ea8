"""Which run --resume continues, on which data and device, and which changes it refuses."""

import argparse
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from run_folder import RUN_FILE, is_finished, run_id_of, start_folder_of
from train_args import requested_config
from training_data import TrainingData
from training_state import TrainingState, last_good_state
from utils.config import TrainConfig, load_config, to_dict
from utils.corpus import NAMES
from utils.device import available_devices, pick_device
from utils.errors import CourseError, UsageError
from utils.shakespeare import expand_home

# Fields that --resume may change: the path of the data, because its fingerprint is compared, and
# the device, although the run is then not bit-exact.
FREE_FIELDS = ("data", "device")
TRAIN, POST_TRAIN = "train.py", "post_train.py"
Config = TypeVar("Config", bound=TrainConfig)


def run_to_resume(out_dir: Path | None, runs: Path, program: str = TRAIN) -> Path:
    """The run in out_dir, or the newest unfinished one under `runs` that `program` has started."""
    if out_dir is not None:
        run_id_of(out_dir)
        if (started := program_of(out_dir)) != program:
            raise UsageError(
                f"the run in {out_dir} was started by {started}; use {started} --resume"
            )
        if is_finished(out_dir):
            raise UsageError(f"the run in {out_dir} is finished; there is nothing to resume")
        return out_dir.resolve()
    unfinished = [each for each in unfinished_runs(runs) if program_of(each[1]) == program]
    if not unfinished:
        raise UsageError(f"no unfinished run under {runs}; start one without --resume")
    _, newest = max(unfinished)
    return newest


def unfinished_runs(runs: Path) -> list[tuple[str, Path]]:
    """(id, folder) of each: an id begins with the time, whereas a folder may be called "demo".

    A run whose run.json is damaged is skipped with a warning: it must not hide the others.
    """
    found = []
    for folder in sorted(path.parent for path in runs.glob(f"*/{RUN_FILE}")):
        if is_finished(folder):
            continue
        try:
            found.append((run_id_of(folder), folder))
        except CourseError as error:
            print(f"warning: skipped: {error}", file=sys.stderr)
    return found


def program_of(folder: Path) -> str:
    """Which program has started a run: its configuration tells."""
    with suppress(OSError, UnicodeDecodeError):
        lines = (folder / "config.yaml").read_text(encoding="utf-8").splitlines()
        if any(line.startswith("method:") for line in lines):
            return POST_TRAIN
    return TRAIN


def stored_config(folder: Path, kind: type[Config] = TrainConfig) -> Config:
    """The configuration of a run. Raises CourseError if it is missing, empty or damaged."""
    path = folder / "config.yaml"
    if path.is_file() and path.stat().st_size == 0:  # YAML would take it for all defaults
        raise CourseError(f"{path} is empty; this run cannot be resumed")
    return load_config(path, kind)


def config_to_resume(args: argparse.Namespace, folder: Path) -> TrainConfig:
    """The stored configuration, with the data and the device that the command line requests.

    Raises UsageError if it requests any other change.
    """
    stored = stored_config(folder)
    requested = requested_config(args, stored)
    refuse_changes(requested, stored)
    data = data_to_resume(folder, requested.data, stored.data)
    return replace(stored, data=data, device=requested.device)


def refuse_changes(requested: TrainConfig, stored: TrainConfig) -> None:
    """Raise UsageError, naming the fields, if a flag would change what is being trained.

    "auto", which the machine or the data determines, is not compared.
    """
    before, now = flat(to_dict(stored)), flat(to_dict(requested))
    changes = [
        f"{name} {before[name]} -> {value}"
        for name, value in now.items()
        if value != before[name] and "auto" not in (value, before[name]) and name not in FREE_FIELDS
    ]
    if changes:
        raise UsageError(f"a resumed run keeps its configuration; refused: {', '.join(changes)}")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return found


def data_to_resume(folder: Path, requested: str, stored: str) -> str:
    """The path of a run's data: the one given now, or the stored one, if it still exists.

    A relative path is tried in the folder in which the run was started, then in the current one.
    Raises UsageError, naming --data, if the file no longer exists.
    """
    if requested != stored or stored in NAMES:
        return requested
    path = expand_home(stored)
    started = start_folder_of(folder)
    candidates = [path] if started is None else [started / path, path]
    found = next((each for each in candidates if each.exists()), None)
    if found is None:
        raise UsageError(
            f"the data of this run, {stored}, is missing; give its new path with --data"
        )
    return stored if found.resolve() == path.resolve() else str(found)


def device_to_resume(requested: str, state: TrainingState) -> str:
    """The device of the run, or the one requested now. Raises UsageError if it is absent.

    On another device the run is not bit-exact; log.txt says so.
    """
    before = state.position["place"]["device"]
    if requested not in ("auto", before):
        return requested
    try:
        pick_device(before)
    except UsageError:
        present = ", ".join(available_devices())
        raise UsageError(
            f"this run was trained on {before}, which is not available (available: {present}); "
            "--device cpu resumes it here, but not bit for bit"
        ) from None
    return before


def state_to_resume(folder: Path, data: TrainingData) -> TrainingState | None:
    """The newest intact state; None if the run was killed before it saved one.

    Prints what is wrong with newer ones. Raises CourseError if none is intact, or the data differs.
    """
    state, faults = last_good_state(folder / "states", run_id_of(folder))
    for fault in faults:
        print(f"damaged state: {fault}; an older state is used")
    if state is None:
        print("resume  no state was saved yet; starting from the beginning")
        return None
    if state.position["place"]["data"] != data.fingerprint:
        raise CourseError(
            f"{folder.name} was trained on different data than {data.name} contains now"
        )
    torch.set_num_threads(state.position["place"]["threads"])
    print(f"resume  step {state.step} of {state.position['max_steps']}")
    return state
