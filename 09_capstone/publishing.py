"""Publishing: the best model of a run is copied to where sample.py looks for the newest one.

The copy has the name of the run's folder. Two runs may have folders of the same name (a/run,
b/run), so each run records in published.json which file is its own, and replaces no other: the
second run publishes run-2.safetensors.
"""

import itertools
import json
import os
from pathlib import Path

from utils.errors import UsageError
from utils.files import atomic_write_bytes, atomic_write_text, naming_errors

PUBLISHED_FILE = "published.json"
LONGEST_SUFFIX = "-999.safetensors"


def publish(folder: Path, checkpoint_dir: Path) -> Path:
    """Copy best.safetensors to `checkpoint_dir`; return the copy."""
    folder = folder.resolve()
    target = own_file(folder, checkpoint_dir) or free_file(folder, checkpoint_dir)
    with naming_errors(target):
        record = {"folder": str(folder), "file": str(target.resolve())}
        atomic_write_text(folder / PUBLISHED_FILE, json.dumps(record, indent=2) + "\n")
        atomic_write_bytes(target, (folder / "best.safetensors").read_bytes())
    return target


def own_file(folder: Path, checkpoint_dir: Path) -> Path | None:
    """The file in `checkpoint_dir` that this run has published before, if there is one.

    The record names its folder, because a copy of a folder is another run.
    """
    try:
        record = json.loads((folder / PUBLISHED_FILE).read_text(encoding="utf-8"))
        target = Path(record["file"])
        is_own = record["folder"] == str(folder) and target.parent == checkpoint_dir.resolve()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return checkpoint_dir / target.name if is_own else None


def free_file(folder: Path, checkpoint_dir: Path) -> Path:
    """The first of NAME, NAME-2, NAME-3 … that no run has published."""
    names = itertools.chain([folder.name], (f"{folder.name}-{n}" for n in itertools.count(2)))
    files = (checkpoint_dir / f"{name}.safetensors" for name in names)
    return next(file for file in files if not file.exists())


def check_name(folder: Path, checkpoint_dir: Path) -> None:
    """Raise UsageError if the name of a run is too long for the file that it will publish."""
    longest = longest_name(checkpoint_dir) - len(LONGEST_SUFFIX)
    length = len(os.fsencode(folder.name))
    if length > longest:
        raise UsageError(
            f"--out-dir {folder.name[:20]}...: the name has {length} bytes; "
            f"at most {longest} leave room for the name of its checkpoint"
        )


def longest_name(folder: Path) -> int:
    """The most bytes that a file name may have there (143 on some encrypted disks)."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows; a folder that is not there yet
        return 255
