"""Runs that are killed, interrupted, damaged and resumed, in separate processes.

The faults, and the uninterrupted run that every result is compared with, are those of
tools/crash_test.py. Each training is a real process that is really killed; only the clock
and the full disk are simulated.
"""

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from checkpointing import load_checkpoint
from sealed_folder import DamagedError, read_sealed
from tools.crash_test import (
    DAMAGES,
    FAULTS,
    FILES,
    SAVE_INTERVAL,
    SIGNALS,
    BrokenPromiseError,
    Lab,
    Run,
    act_at,
    can_be_tried,
    make_nan,
    send,
)
from training_state import folders
from utils.failpoint import EXIT_CODE
from utils.files import atomic_write_bytes

NOT_HERE = "Windows has neither SIGTERM nor a limit on the size of files"
posix = pytest.mark.skipif(sys.platform == "win32", reason=NOT_HERE)


def draw_at_once() -> None:
    """Write curves.png as ever, but without drawing it, which takes longer than the training."""

    def stand_in(*_: object, path: Path, **__: object) -> None:
        atomic_write_bytes(path, b"a picture")

    vars(importlib.import_module("utils.visualization"))["plot_training_curves"] = stand_in


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A folder for broken runs, with one uninterrupted run."""
    return Lab(tmp_path_factory.mktemp("lab"), kills=10, injected=(draw_at_once,))


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def steps(run: Run) -> list[int]:
    """The steps of the existing states."""
    return [int(path.name.split("-")[0]) for path in folders(run.states)]


# --- every fault of the table -------------------------------------------------------------------

LOST = {  # at most so many steps; all else loses at most those since the last save
    "Ctrl-C or SIGTERM": 0,
    "newest state damaged": 2 * SAVE_INTERVAL,
    "every state damaged": None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_has_the_same_result_after_a_fault(fault: str, lab: Lab) -> None:
    if not can_be_tried(fault):
        pytest.skip(NOT_HERE)
    row, allowed = FAULTS[fault](lab), LOST.get(fault, SAVE_INTERVAL)
    assert row.tried > 0
    assert len(row.happened) <= 26  # so wide is its column
    assert row.lost is None if allowed is None else (row.lost or 0) <= allowed


def test_the_boundaries_are_those_of_every_file_that_a_run_saves(lab: Lab) -> None:
    of_a_file = ("half written", "before fsync", "after fsync")
    sealed = (*FILES, "manifest.json")
    whole = (
        "best.safetensors",
        "last.safetensors",
        "samples.txt",
        "config.yaml",
        "result.json",
        "published.json",
    )
    growing = ("metrics.csv", "metrics.jsonl", "samples.jsonl", "log.txt")
    expected = {
        *(f"{name}: {place}" for name in (*sealed, *whole) for place in of_a_file),
        *(f"{name}: renamed" for name in whole),
        *(f"{name}: line written" for name in growing),
        *(f"sealed: {place}" for place in ("folder made", "before rename", "renamed")),
        *("sealed: named for good", "state: old one renamed", "state: pruned"),
    }
    assert expected <= set(lab.boundaries)


# --- killed -------------------------------------------------------------------------------------


def test_files_that_a_killed_run_left_half_written_are_removed(lab: Lab) -> None:
    run = lab.run()
    run.go(failpoint="best.safetensors: half written", code=EXIT_CODE)
    run.go(failpoint="optimizer.safetensors: half written@3", code=EXIT_CODE)
    assert list(run.states.glob(".*.tmp"))
    run.go(failpoint="last.safetensors: half written", code=EXIT_CODE)
    assert list(run.folder.glob(".*.tmp"))
    lab.finish(run, 3, "")
    assert list(run.folder.rglob(".*")) == []


def test_a_torn_line_is_written_again(lab: Lab) -> None:
    run = lab.run()
    for at in ("metrics.jsonl: line written@2", "metrics.jsonl: line written@6"):
        run.go(failpoint=at, code=EXIT_CODE)  # before the first state, and after it
        for name, n_bytes in (("metrics.csv", 3), ("metrics.jsonl", 30), ("log.txt", 5)):
            path = run.folder / name
            os.truncate(path, max(0, path.stat().st_size - n_bytes))
    lab.finish(run, 2, "")


def test_killed_after_an_evaluation_that_was_due_its_row_is_there_once(lab: Lab) -> None:
    run = lab.run()
    run.go(partial(act_at, "evaluation", 2, partial(send, SIGNALS[0])), code=130)
    assert (steps(run)[-1], run.rows[-1]["step"]) == (16, 15)
    run.go(failpoint="model.safetensors: half written", code=EXIT_CODE)
    assert run.rows[-1]["step"] == 16
    lab.finish(run, 2, "")


# --- interrupted --------------------------------------------------------------------------------


def send_twice(number: int) -> None:
    send(number)
    send(number)


@posix
def test_a_second_signal_exits_at_once_and_loses_only_what_was_not_saved(lab: Lab) -> None:
    run = lab.run()
    saved = {"step": [], "evaluation": [4], "save": [4], "sampling": [44, 48]}
    for (place, states), number in zip(saved.items(), 2 * SIGNALS, strict=True):
        printed = run.go(partial(act_at, place, 1, partial(send_twice, number)), code=130)
        assert printed.endswith("\ninterrupted\n") and "Traceback" not in printed
        assert "the state is saved" not in printed
        assert steps(run) == states
        assert not list(run.states.glob(".*"))
    lab.finish(run, len(saved), "")


@posix
def test_interrupted_in_the_last_step_it_is_not_finished_and_loses_nothing(lab: Lab) -> None:
    run = lab.run()
    evaluations = sum(row["val_loss"] is not None for row in lab.whole["metrics.csv"])
    for place, count in (("evaluation", evaluations), ("sampling", 1)):
        printed = run.go(partial(act_at, place, count, partial(send, SIGNALS[1])), code=130)
        assert "interrupted at step 96 of 96; the state is saved" in printed
        assert steps(run)[-1] == 96
        assert not run.finished
    lab.finish(run, 2, "", allowed=0)


@posix
def test_interrupted_before_the_first_step_there_is_nothing_to_save(lab: Lab) -> None:
    run = lab.run()
    for number in SIGNALS:
        printed = run.go(partial(act_at, "start-up", 1, partial(send, number)), code=130)
        assert printed == "interrupted\n"
        assert not run.folder.exists()


# --- damaged ------------------------------------------------------------------------------------


def test_a_skipped_state_is_replaced_and_two_good_ones_are_kept(lab: Lab) -> None:
    run = lab.run()
    run.go(failpoint="sealed: renamed@4", code=EXIT_CODE)  # killed before it pruned: three states
    assert steps(run) == [8, 12, 16]
    for state in folders(run.states)[1:]:
        DAMAGES["truncated"](state / "optimizer.safetensors")
    printed = run.go(failpoint="state: pruned", code=EXIT_CODE)
    assert printed.count("; an older state is used\n") == 2
    assert "resume  step 8 of 96\n" in printed
    assert steps(run) == [8, 12]
    assert [sorted(read_sealed(state, run.id)) for state in folders(run.states)] == [
        sorted(FILES)
    ] * 2
    lab.finish(run, 1, "", allowed=8)


# --- not a number, and full ---------------------------------------------------------------------


def test_nan_leaves_states_and_weights_as_they_were(lab: Lab) -> None:
    run = lab.run()
    run.go(failpoint="state: pruned@2", code=EXIT_CODE)
    before = files(run.folder)
    printed = run.go(partial(make_nan, "gradient", 11), code=1)
    assert printed.count("error: ") == 1 and "Traceback" not in printed
    after = files(run.folder)
    kept = [name for name in before if name.startswith("states/") or name.endswith(".safetensors")]
    assert len(kept) == 12  # two states of five files, the best weights and the last
    assert all(after[name] == before[name] for name in kept)
    assert "step 10 of 96: step 11: the gradient norm is nan" in after["log.txt"].decode()
    weights = load_checkpoint(run.folder / "last.safetensors").weights
    assert all(weight.isfinite().all() for weight in weights.values())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, if this user may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a small disk (root on Linux)")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(disk: str) -> None:
    """Use every byte that is left."""
    with (Path(disk) / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            return


@posix
def test_a_really_full_disk_keeps_its_states_and_the_run_resumes_when_there_is_space(
    lab: Lab, small_disk: Path
) -> None:
    run = lab.run()
    run.folder, run.states = small_disk / "run", small_disk / "run" / "states"
    printed = run.go(partial(act_at, "step", 10, partial(fill, str(small_disk))), code=1)
    assert f"error: No space left on device: {run.folder}" in printed and "Traceback" not in printed
    assert steps(run) == [4, 8]
    assert [len(read_sealed(state, run.id)) for state in folders(run.states)] == [4, 4]
    printed = run.go(code=1)  # the disk is still full
    assert "error: No space left on device" in printed and "Traceback" not in printed
    (small_disk / "filler").unlink()
    lab.finish(run, 1, "")


# --- controls: without a guard, the test fails -------------------------------------------------


def without(module: str, name: str) -> None:
    """Remove one guard."""
    *path, name = name.split(".")
    owner: Any = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, name, lambda *_, **__: None)


def trust_files() -> None:
    """Read files without verifying their hashes."""
    vars(importlib.import_module("sealed_folder"))["verified"] = lambda path, digest: (
        path.read_bytes()
    )


def start_over() -> None:
    """Where no state is intact, silently start again."""
    module: Any = importlib.import_module("resuming")
    find = module.last_good_state

    def forgiving(*given: Any) -> Any:
        try:
            return find(*given)
        except DamagedError:
            return None, []

    module.last_good_state = forgiving


UNGUARDED = {
    "Ctrl-C or SIGTERM": partial(without, "signal", "signal"),
    "newest state damaged": trust_files,
    "every state damaged": start_over,
    "not a number": partial(without, "training_loop", "check_finite"),
}


@pytest.mark.parametrize("fault", UNGUARDED)
def test_without_its_guard_a_fault_breaks_the_guarantee(lab: Lab, fault: str) -> None:
    if not can_be_tried(fault):
        pytest.skip(NOT_HERE)
    lab.injected = (draw_at_once, UNGUARDED[fault])
    try:
        with pytest.raises(BrokenPromiseError):
            FAULTS[fault](lab)
    finally:
        lab.injected = (draw_at_once,)


@pytest.mark.parametrize(
    ("guard", "differ"),
    [
        (("training_run", "restore_random_states"), "model.safetensors, optimizer.safetensors"),
        (("optimizers", "Muon.load_state_dict"), "model.safetensors, optimizer.safetensors"),
        (("logging_utils", "MetricsLog.truncate_after"), "metrics.csv, metrics.jsonl"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_without_a_guard_a_killed_run_has_another_result(
    lab: Lab, guard: tuple[str, str], differ: str
) -> None:
    run = lab.run()
    run.go(failpoint="manifest.json: half written@3", code=EXIT_CODE)
    run.go(partial(without, *guard))
    with pytest.raises(BrokenPromiseError, match=f"the result differs: .*{differ}"):
        lab.finish(run, 1, "")


def test_without_the_lock_a_second_trainer_is_not_refused(lab: Lab) -> None:
    run, unlocked = lab.run(), partial(without, "filelock", "BaseFileLock.acquire")
    first = run.start(unlocked, partial(act_at, "step", 3, partial(time.sleep, 600)))
    try:
        while len(run.rows) < 2:
            assert first.is_alive(), run.output
            time.sleep(0.02)
        run.go(unlocked)
        assert first.is_alive()
    finally:
        first.kill()
        first.join()
