"""Where a run writes: its folders are checked before any work, and made when the work is certain.

    09_capstone/runs/RUN/          everything about one run, or the folder of --out-dir
    09_capstone/checkpoints/       the best model of each run, where sample.py looks for the newest

What the folder of a run says about its run (its id, its lock, its end) is in lesson 08,
run_folder.py.
"""

import argparse
import os
import shutil
from pathlib import Path

from checkpointing import Checkpoint
from experiment_tracking import create_run_dir, new_run_id
from fine_tuning import INITIAL_FILE, save_initial
from publishing import check_name
from run_folder import RESULT_FILE, RUN_FILE, write_run_file
from utils.config import TrainConfig, save_config
from utils.errors import CourseError, UsageError
from utils.shakespeare import expand_home

HERE = Path(__file__).resolve().parent
WRITTEN = (  # by a run; --overwrite removes these files and no others
    *(RUN_FILE, RESULT_FILE),  # first: a folder without them is not taken for a run
    *("config.yaml", "environment.json", "metrics.csv", "metrics.jsonl", "log.txt"),
    *("samples.txt", "samples.jsonl", "curves.png", "best.safetensors", "last.safetensors"),
)
WRITTEN_AFTER_TRAINING = ("answers.csv", "before_after.txt")  # by post_train.py
PARTS_FILE = "parts.txt"  # whose each part of the model is; with --parts mine only


def default_runs() -> Path:
    """Where each run without --out-dir gets a folder."""
    return HERE / "runs"


def default_checkpoints() -> Path:
    """Where sample.py looks for the newest checkpoint."""
    return HERE / "checkpoints"


# --- before any work ----------------------------------------------------------------------------


def check_folders(args: argparse.Namespace) -> None:
    """Refuse folders that cannot be used before any work is done. Raises CourseError."""
    if args.out_dir is not None:
        check_name(args.out_dir.absolute(), args.checkpoint_dir)
    for flag, folder in (("--out-dir", args.out_dir), ("--checkpoint-dir", args.checkpoint_dir)):
        if folder is not None:
            check_writable(flag, folder)
    if args.out_dir is not None:
        check_not_used(args)


def check_writable(flag: str, folder: Path) -> None:
    """Raise CourseError unless a folder, or the nearest one that exists above it, takes files."""
    places = (folder, *folder.absolute().parents)
    exists = next((place for place in places if place.exists()), None)
    if exists is None:
        raise UsageError(f"{flag} {folder}: this drive does not exist")
    if not exists.is_dir():
        raise UsageError(f"{flag} {folder}: {exists} is a file, not a folder")
    if not os.access(exists, os.W_OK):
        raise CourseError(f"{flag} {folder}: no permission to write in {exists}")


def check_not_used(args: argparse.Namespace) -> None:
    """Raise UsageError if --out-dir holds something that the run would replace unasked."""
    folder: Path = args.out_dir
    if folder.exists() and any(folder.iterdir()) and not args.overwrite:
        raise UsageError(
            f"--out-dir {folder} is not empty; add --resume to continue that run, or "
            "--overwrite to replace it"
        )
    if args.config and args.config.resolve() == (folder / "config.yaml").resolve():
        raise UsageError(f"--overwrite would replace {args.config}; choose another --out-dir")
    if folder.exists() and is_inside(getattr(args, "init_from", None), folder):
        raise UsageError(f"--overwrite would replace {args.init_from}; choose another --out-dir")


def is_inside(path: str | None, folder: Path) -> bool:
    """Whether a path that was given lies in a folder."""
    return path is not None and expand_home(path).resolve().is_relative_to(folder.resolve())


# --- when the model is built --------------------------------------------------------------------


def make_run_folder(args: argparse.Namespace, config: TrainConfig) -> Path:
    """A new folder under runs/, or --out-dir."""
    args.checkpoint_dir.mkdir(parents=True, exist_ok=True)  # fails now, not after the training
    if args.out_dir is None:
        return create_run_dir(default_runs(), args.preset or Path(config.data).stem)
    folder: Path = args.out_dir.resolve()  # "." gets its full name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def begin_folder(
    folder: Path, config: TrainConfig, named_by_user: bool, initial: Checkpoint | None = None
) -> None:
    """Remove what an earlier run left in a folder, and mark it as that of a new one."""
    clear(folder)
    if initial is not None:
        save_initial(folder, initial)
    save_config(config, folder / "config.yaml")  # before run.json, where --resume looks
    write_run_file(folder, new_run_id(folder.name) if named_by_user else folder.name)


def clear(folder: Path) -> None:
    """Remove the files of an earlier run from a folder, and no others."""
    for name in (*WRITTEN, *WRITTEN_AFTER_TRAINING, PARTS_FILE, INITIAL_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in ("states", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
