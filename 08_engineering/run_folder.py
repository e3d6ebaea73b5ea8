"""The folder of a run: its id, its status, and whether a trainer is using it.

    run.json       the run's id, and where it was started: written first
    result.json    how the run ended: written last
    run.lock       held while a trainer runs; the system releases it when that process ends
    states/        what --resume continues from, a folder per state: 00000250-3fa29c is of step 250

The status of a run follows from the three files, so no program keeps a list of running processes:

    finished       it reached its end
    running        a trainer holds the lock
    resumable      stopped or killed before its end; train.py --resume continues it
    old            it has no run.json: from an early version, or not written by train.py
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from utils.errors import CourseError, run_program
from utils.files import atomic_write_text

RUN_FILE = "run.json"
RESULT_FILE = "result.json"
LOCK_FILE = "run.lock"

# What reading a missing or damaged JSON file can raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)


# --- one trainer at a time ----------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other trainers out of a run's folder; the system releases the lock when this process
    ends, however it ends. Raises CourseError if another process holds it."""
    # Wait a second, because `in_use` holds the lock for an instant when the runs are listed.
    lock = FileLock(folder / LOCK_FILE, timeout=1)
    try:
        lock.acquire()
    except Timeout:
        raise CourseError(f"{folder} is in use by another training process") from None
    try:
        yield
    finally:
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a trainer holds the lock of a folder; False where that cannot be determined."""
    path = folder / LOCK_FILE
    try:
        if path.exists():  # acquiring a lock creates its file
            FileLock(path, timeout=0).acquire().lock.release()
        return False
    except Timeout:
        return True
    except OSError:  # no permission, as in another user's folder
        return False


# --- its identity and its end -------------------------------------------------------------------


def write_run_file(folder: Path, run_id: str) -> None:
    """Write run.json, which marks the folder as that of a run."""
    identity = {"id": run_id, "started_in": str(Path.cwd())}
    atomic_write_text(folder / RUN_FILE, json.dumps(identity) + "\n")


def run_id_of(folder: Path) -> str:
    """The id of the run in a folder. Raises CourseError if there is none."""
    path = folder / RUN_FILE
    try:
        return str(read_json(path)["id"])
    except UNREADABLE:
        what = "is damaged" if path.is_file() else "is missing"
        raise CourseError(f"{folder} has no run that can be resumed: {RUN_FILE} {what}") from None


def start_folder_of(folder: Path) -> Path | None:
    """The current folder when the run was started, to which its relative paths refer."""
    try:
        return Path(read_json(folder / RUN_FILE)["started_in"])
    except UNREADABLE:
        return None


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Record how a run ended."""
    atomic_write_text(folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")


def is_finished(folder: Path) -> bool:
    """Whether a run reached its end; a killed or interrupted one did not."""
    try:
        return read_json(folder / RESULT_FILE)["outcome"] == "finished"
    except UNREADABLE:
        return False


def read_json(path: Path) -> Any:
    """The content of a small JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def run_status(folder: Path) -> str:
    """One of the four words at the top of this file."""
    if is_finished(folder):
        return "finished"
    if in_use(folder):
        return "running"
    with contextlib.suppress(CourseError):
        run_id_of(folder)
        return "resumable"
    return "old"


# --- its states ---------------------------------------------------------------------------------


def folders(root: Path) -> list[Path]:
    """The states under root, oldest first."""
    found = [path for path in root.glob("*-*") if path.name.partition("-")[0].isdigit()]
    return sorted(found, key=lambda path: (step_of(path), path.stat().st_mtime_ns))


def step_of(folder: Path) -> int:
    """The step that a state's folder is named after."""
    return int(folder.name.partition("-")[0])


def main() -> None:
    """Follow the state of a run from its start to its end."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "demo"
        folder.mkdir()
        print("empty folder:   ", run_status(folder))
        with locked(folder):
            write_run_file(folder, "demo")
            print("training:       ", run_status(folder))
        print("killed:         ", run_status(folder))
        with locked(folder):
            write_result(folder, {"outcome": "finished"})
        print("resumed, ended: ", run_status(folder))


if __name__ == "__main__":
    run_program(main)
