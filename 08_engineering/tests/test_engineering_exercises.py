"""What the exercises of lesson 08 must do, against uninterrupted runs, NumPy and by hand.

Where an exercise has effects, `observed` calls it in a folder or on a model of its own, and what
it did is compared: what a reader finds, which error was raised, the weights at the end. The first
case of an exercise is small enough to be printed whole.
"""

import copy
import errno
import math
import os
import random
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch._dynamo  # the first optimizer imports it, for seconds: not while a limit is running
import torch.nn.functional as F
from torch import Tensor, nn

from positional_embeddings import apply_rotary, rotary_angles
from rotary_layouts import apply_rotary_interleaved
from utils.grader.feedback import (
    expect,
    expect_equal,
    expect_prediction,
    expect_same_gradients,
)
from utils.grader.guard import observed
from utils.grader.readings import expect_letters
from utils.grader.values import type_name
from utils.grader.watched_disk import WatchedDisk

# --- 8.1 ---


def test_the_predicted_sizes_are_those_that_a_reader_finds(ex, tmp_path):
    """each number of bytes is what a reader finds"""
    path, sibling, new = tmp_path / "best.bin", tmp_path / "best.bin.tmp", bytes(60)
    path.write_bytes(bytes(100))
    sizes = []
    with path.open("wb") as file:  # what a file holds before the close is what outlives a kill
        file.write(new[:30])
        sizes.append(path.stat().st_size)
        file.flush()
        sizes.append(path.stat().st_size)
    path.write_bytes(bytes(100))
    sibling.write_bytes(new)
    sizes.append(path.stat().st_size)
    sibling.replace(path)
    sizes.append(path.stat().st_size)
    expect_prediction(ex.predict_after_crash(), sizes, what="the four sizes")


# --- 8.2 ---

FILE, OLD, NEW = Path("best.bin"), b"old " * 5, b"new data " * 7
NAMES = ("best.tmp", "best.bin.tmp", ".best.bin.tmp", "best.bin.bak", "best.bak", "tmp")


def saved(
    save_bytes: Callable[[Path, bytes], Any],
    path: Path,
    data: bytes,
    *,
    old: bytes | None = OLD,
    fails: str = "",
    windows: bool = False,
    interrupted: bool = False,
    others: Sequence[str] = (),
    report: Sequence[str],
) -> dict[str, str]:
    """Save once in a new folder; what `report` names of what happened."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        folder.mkdir()
        for name in others:
            (folder / name).write_bytes(b"another file")
        if old is not None:
            (folder / path).write_bytes(old)
        ctrl_c = KeyboardInterrupt() if interrupted else None
        disk = WatchedDisk(folder / path, old, data, fails, windows=windows, error=ctrl_c)
        error = "none"
        with disk:
            try:
                save_bytes(folder / path, data)
            except OSError as failure:
                error = type(failure).__name__
                error = "that of a full disk" if failure.errno == errno.ENOSPC else error
            except KeyboardInterrupt:
                error = "KeyboardInterrupt"
        left = {one.name for one in folder.iterdir()} - {path.name, *others}
        lost = [name for name in others if not is_untouched(folder / name)]
        happened = {
            "the error": error,
            "path holds": disk.content(),
            "left over": "one more file" if left else "nothing",
            "what a reader finds": ", ".join(disk.found),
            "what is on disk at the rename": disk.at_rename,
            "other files": f"{', '.join(lost)} changed" if lost else "as they were",
        }
    return {name: happened[name] for name in report}


def is_untouched(path: Path) -> bool:
    return path.is_file() and path.read_bytes() == b"another file"


def expect_saved(ex: Any, expected: dict[str, str], data: bytes = NEW, **settings: Any) -> None:
    """Save once, and compare what is expected of it."""
    save = observed(ex, "save_bytes", partial(saved, report=tuple(expected), **settings))
    expect_equal(save(FILE, data), expected, what="after the call")


@pytest.mark.parametrize("data", [NEW, b"", bytes(range(256)) * 100])
@pytest.mark.parametrize("old", [OLD, None])
def test_the_file_holds_the_data_and_nothing_else_is_left(ex, old, data):
    """path holds the data, and nothing else is left in the folder"""
    expect_saved(
        ex, {"the error": "none", "path holds": "the new", "left over": "nothing"}, data, old=old
    )


@pytest.mark.parametrize("old", [OLD, None])
def test_a_reader_finds_the_old_or_the_new_at_every_instant(ex, old):
    """at every instant, a reader finds what path held before, or all of the data"""
    found = "what a reader finds"
    expect_saved(ex, {found: "the old, the new"}, old=old)
    for fails in ("write", "fsync", "rename"):
        expect_saved(ex, {found: "the old"}, old=old, fails=fails)


def test_the_data_are_on_disk_before_they_get_the_name(ex):
    """all of the data is on disk before it gets the name"""
    expect_saved(ex, {"what is on disk at the rename": "all of the data"})


@pytest.mark.parametrize("fails", ["write", "fsync", "rename"])
@pytest.mark.parametrize("old", [OLD, None])
def test_a_failure_leaves_the_old_file_and_nothing_else(ex, old, fails):
    """a full disk is passed on as an error; it leaves the old file, and nothing else"""
    expected = {
        "path holds": "the old",
        "left over": "nothing",
        "the error": "that of a full disk",
    }
    expect_saved(ex, expected, old=old, fails=fails)


@pytest.mark.parametrize("fails", ["write", "rename"])
def test_ctrl_c_leaves_the_old_file_and_nothing_else(ex, fails):
    """Ctrl-C, a KeyboardInterrupt, is passed on; it leaves the old file, and nothing else"""
    expected = {"path holds": "the old", "left over": "nothing", "the error": "KeyboardInterrupt"}
    expect_saved(ex, expected, fails=fails, interrupted=True)


def test_other_files_stay_as_they_are(ex):
    """other files stay as they are, even if a call fails"""
    for fails in ("", "rename"):
        expect_saved(ex, {"other files": "as they were"}, others=NAMES, fails=fails)


def test_an_open_file_is_not_renamed_which_windows_refuses(ex):
    """it works on Windows: no open file is renamed, and nothing by os.rename"""
    expect_saved(ex, {"the error": "none", "path holds": "the new"}, windows=True)


# --- 8.3 ---

TORN = '{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n{"step": 3, "lo'


def rows_or_error(
    read_rows: Callable[[str], Any], text: str, *, line: int | None = None
) -> dict[str, Any]:
    """What became of a text: its rows, or the line that the error names."""
    try:
        rows = read_rows(text)
    except ValueError as error:
        named = re.findall(r"\bline (\d+)", str(error))
        if line is not None and str(line) in named:
            return {"the error": f"one that names line {line}"}
        return {"the error": f"one that names {f'line {named[0]}' if named else 'no line'}"}
    if not isinstance(rows, list):
        return {"the error": "none", "the result": type_name(rows)}
    return as_outcome(rows)


def as_outcome(rows: Sequence[Any]) -> dict[str, Any]:
    return {"the error": "none"} | {f"row {at}": row for at, row in enumerate(rows, start=1)}


def expect_rows(ex: Any, text: str, *rows: Any) -> None:
    actual = observed(ex, "read_rows", rows_or_error)(text)
    expect_equal(actual, as_outcome(rows), what="after the call")


def test_every_complete_line_is_a_row(ex):
    """every complete line is a row"""
    expect_rows(ex, '{"a": 1}\n', {"a": 1})
    expect_rows(
        ex, '{"a": 1, "b": [2, 3]}\n{}\n{"a": null}\n', {"a": 1, "b": [2, 3]}, {}, {"a": None}
    )
    expect_rows(ex, "")


def test_a_torn_last_line_is_dropped(ex):
    r"""what follows the last "\n" is dropped, whatever it holds"""
    two = {"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}
    expect_rows(ex, TORN, *two)
    expect_rows(ex, TORN[:-7], *two)  # the torn line is '{"s'
    expect_rows(ex, TORN + 'ss": 2}', *two)  # now it looks complete; its "\n" is missing
    expect_rows(ex, '{"step')


@pytest.mark.parametrize(
    ("place", "damaged"),
    [
        (2, '{"a": 1'),
        (3, "{'a': 1}"),
        (1, "a"),
        (3, ""),
        (1, ""),
        (2, "7"),
        (3, "[1]"),
        (1, "null"),
    ],
)
def test_a_damaged_line_is_an_error_that_names_it(ex, place, damaged):
    """a complete line that is no object is an error that names the line"""
    lines = ['{"a": 1}'] * 3
    lines[place - 1] = damaged
    for torn in ("", '{"a'):
        text = "\n".join([*lines, torn])
        actual = observed(ex, "read_rows", partial(rows_or_error, line=place))(text)
        expected = {"the error": f"one that names line {place}"}
        expect_equal(actual, expected, what="after the call")


def test_only_a_newline_ends_a_line(ex):
    r"""only "\n" ends a line"""
    expect_rows(ex, '{"a": "x\u2028y"}\n{"a": 2}\n', {"a": "x\u2028y"}, {"a": 2})
    expect_rows(ex, '{"a": "x\x85y"}\n', {"a": "x\x85y"})


# --- 8.4 ---

RUNS, NOW = Path("work/runs"), datetime(2025, 11, 30, 17, 5, 9)
TIME = "20251130-170509-"
REAL_MKDIR = os.mkdir


def started(
    new_run_folder: Callable[[Path, int, datetime], Any],
    parent: Path,
    seed: int,
    now: datetime,
    *,
    calls: int = 1,
    rivals: int = 0,
    report: Sequence[str],
) -> dict[str, str]:
    """Start runs one after the other; at each of the first `rivals` folders, another program is
    faster by an instant."""
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place) / parent
        taken: list[Path] = []

        def mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
            is_new = Path(path).parent == runs and runs.is_dir() and not Path(path).exists()
            if is_new and len(taken) < rivals:
                taken.append(Path(path))
                REAL_MKDIR(path)
                (Path(path) / "metrics.csv").write_text("step,loss\n", encoding="utf-8")
            REAL_MKDIR(path, *args, **kwargs)

        found: list[Any] = []
        error = "none"
        with mock.patch("os.mkdir", mkdir):
            try:
                found = [new_run_folder(runs, seed, now) for _ in range(calls)]
            except OSError as failure:
                error = type(failure).__name__
        for one in found:
            expect(isinstance(one, Path), f"the folder: this is {type_name(one)}; expected a Path")
        kept = sum((path / "metrics.csv").is_file() for path in taken)
        given_out = sum(path in taken for path in found)
        n_empty = sum(is_empty(path, runs) for path in found)
        happened = {
            "the error": error,
            "different folders": f"{len(set(found))} of {calls}",
            "folders that are new and empty": f"{n_empty} of {calls}",
            "the name begins with": ", ".join({beginning(path) for path in found}),
            "folders of another program given out": f"{given_out}",
            "folders of another program": f"{kept} of {rivals} kept",
        }
    return {name: happened[name] for name in report}


def beginning(path: Path) -> str:
    """The time in the name of a folder; in words if it is the clock's."""
    begins = path.name[: len(TIME)]
    return "the time of the clock" if begins.startswith(f"{datetime.now():%Y%m%d}") else begins


def is_empty(path: Path, parent: Path) -> bool:
    return path.is_dir() and path.parent == parent and not any(path.iterdir())


def expect_started(ex: Any, expected: dict[str, str], **settings: Any) -> None:
    """Start runs, and compare what is expected of their folders."""
    start = observed(ex, "new_run_folder", partial(started, report=tuple(expected), **settings))
    expect_equal(start(RUNS, 1337, NOW), expected, what="after the call")


def test_a_run_gets_a_new_folder_named_after_the_time(ex):
    """a run gets a new, empty folder whose name begins with the time"""
    expected = {
        "the error": "none",
        "folders that are new and empty": "1 of 1",
        "the name begins with": TIME,
    }
    expect_started(ex, expected)


def test_runs_with_one_seed_in_one_second_get_different_folders(ex):
    """runs with the same seed, in the same second, get different folders"""
    for calls in (2, 5, 40):
        all_of_them = f"{calls} of {calls}"
        expected = {
            "the error": "none",
            "different folders": all_of_them,
            "folders that are new and empty": all_of_them,
        }
        expect_started(ex, expected, calls=calls)


@pytest.mark.parametrize("rivals", [1, 3])
def test_a_folder_that_another_program_makes_meanwhile_is_left_to_it(ex, rivals):
    """a folder that another program makes in the same instant is left to it"""
    expected = {
        "the error": "none",
        "folders of another program given out": "0",
        "folders of another program": f"{rivals} of {rivals} kept",
        "folders that are new and empty": "2 of 2",
    }
    expect_started(ex, expected, calls=2, rivals=rivals)


# --- 8.5 ---


@dataclass(frozen=True)
class Run:
    """A configuration with a field of each kind; a whole number is the default of a float."""

    max_steps: int = 1000
    learning_rate: float = 0.001
    weight_decay: float = 0
    resume: bool = False
    compile: bool = True
    name: str = "baseline"


def given() -> Run:
    """A configuration that isn't all defaults; a new one, because an answer may change it."""
    return Run(max_steps=250, name="mine")


class AnyText(str):
    """A text that is shown, and equals every other one: answers may say a thing in their words."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyText)

    def __ne__(self, other: object) -> bool:
        return not isinstance(other, AnyText)

    __hash__ = str.__hash__


def overridden(
    with_overrides: Callable[[Any, Sequence[str]], Any],
    config: Run,
    flags: Sequence[str],
    *,
    words: Sequence[str] = (),
) -> dict[str, str]:
    """The fields of the new configuration as Python writes them, or what the error says."""
    before = values_of(config)
    try:
        result = with_overrides(config, flags)
    except ValueError as error:
        missing = [word for word in words if word not in str(error)]
        if not words:
            return {"the error": AnyText(f"a ValueError: {error}")}
        text = f"lacks {', '.join(missing)}" if missing else "complete"
        return {"the error": "a ValueError", "its message": text}
    except (KeyError, TypeError, AttributeError) as error:
        if not words:
            raise
        return {"the error": f"a {type(error).__name__}"}
    if not isinstance(result, Run):
        return {"the error": "none", "the result": type_name(result)}
    if values_of(config) != before:
        return {"the error": "none", "the configuration that was given": "changed"}
    return {"the error": "none"} | values_of(result)


def values_of(config: Run) -> dict[str, str]:
    return {name: repr(value) for name, value in vars(config).items()}


def expect_overridden(ex: Any, flags: Sequence[str], **changes: str) -> None:
    override = observed(ex, "with_overrides", overridden)
    expected = {"the error": "none"} | values_of(given()) | changes
    expect_equal(override(given(), flags), expected, what="after the call")


def expect_refused(ex: Any, flag: str, *words: str, later: str = "name=new") -> None:
    """The flag is refused by a ValueError that holds it, and these words."""
    override = observed(ex, "with_overrides", partial(overridden, words=(flag, *words)))
    expected = {"the error": "a ValueError", "its message": "complete"}
    expect_equal(override(given(), ["name=new", flag, later]), expected, what=f"for {flag!r}")


def test_the_named_values_are_replaced_and_the_others_stay(ex):
    """the named values are replaced, and the others stay"""
    expect_overridden(ex, ["max_steps=500"], max_steps="500")
    expect_overridden(ex, [])
    expect_overridden(ex, ["name=a=b", "learning_rate=1e-2"], name="'a=b'", learning_rate="0.01")
    expect_overridden(ex, ["max_steps=5", "max_steps=7", "name="], max_steps="7", name="''")


def test_values_are_read_as_their_annotations_say(ex):
    """a value is read as its annotation says"""
    expect_overridden(ex, ["resume=true", "compile=false"], resume="True", compile="False")
    expect_overridden(ex, ["resume=false", "compile=true"])
    expect_overridden(
        ex, ["weight_decay=0.1", "learning_rate=1"], weight_decay="0.1", learning_rate="1.0"
    )
    expect_overridden(ex, ["name=12", "max_steps=-3"], name="'12'", max_steps="-3")
    expect_overridden(ex, ["name=true"], name="'true'")


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        ("max_steps=1e3", "int"),
        ("max_steps=2.5", "int"),
        ("max_steps=", "int"),
        ("learning_rate=fast", "float"),
        ("resume=yes", "bool"),
        ("compile=False", "bool"),
        ("compile=1", "bool"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_it(ex, flag, kind):
    """a value of the wrong type is an error with the flag and the type's name"""
    expect_refused(ex, flag, kind)


def test_an_unknown_name_is_an_error_with_the_closest_one(ex):
    """an unknown name is an error with the flag and the closest name; so is a flag without ="""
    expect_refused(ex, "max_step=5", "did you mean 'max_steps'?")
    expect_refused(ex, "learning_rat=0.5", "did you mean 'learning_rate'?")
    expect_refused(ex, "zzzz=5")
    expect_refused(ex, "resume")
    expect_refused(ex, "name")
    expect_refused(ex, "max_steps=few", "int", later="max_steps=5")


# --- 8.6 ---


class Batches(list):
    """A list that is shown as its size."""

    def __repr__(self) -> str:
        return f"{len(self)} batches"


class State(dict):
    """A dictionary that is shown as the step that it was saved after."""

    def __repr__(self) -> str:
        return f"the state after {self['step']} steps"


N_STEPS = 7


def build_small() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with dropout, and its optimizer; draws the weights."""
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 3))
    return model, torch.optim.AdamW(model.parameters(), lr=0.02)


def batch_of(step: int) -> tuple[Tensor, Tensor]:
    """The batch of a step: x (5, 4) and targets (5,), always the same."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(5, 4, generator=generator)
    return x, torch.randint(3, (5,), generator=generator)


def steps_from(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, end: int) -> list:
    """Train from step `first` to `end`; the losses."""
    losses = []
    for step in range(first, end):
        x, y = batch_of(step)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    """What is saved after a step."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return State(copy.deepcopy(state) | {"random": torch.get_rng_state(), "step": step})


def uninterrupted(cut: int) -> tuple[dict[str, Any], Tensor, Tensor]:
    """(The state after `cut` steps, the losses of the others, the weights at the end)."""
    torch.manual_seed(5)
    model, optimizer = build_small()
    steps_from(model, optimizer, 0, cut)
    state = state_of(model, optimizer, cut)
    losses = steps_from(model, optimizer, cut, N_STEPS)
    return state, torch.tensor(losses), flat(model)


def flat(model: nn.Module) -> Tensor:
    """All weights in a row."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def resumed(
    restore: Callable[..., Any],
    state: dict[str, Any],
    build: Callable[[], Any],
    *,
    weights: Tensor,
    stops: Sequence[int] = (),
) -> tuple[Tensor, int]:
    """Continue to the end, with more stops on the way: the losses, and how many weights differ."""
    losses: list[float] = []
    model: nn.Module = nn.Identity()
    for end in (*stops, N_STEPS):
        torch.manual_seed(999)  # another process begins with another state
        answer = restore(copy.deepcopy(state), build)
        expect(
            isinstance(answer, tuple | list) and len(answer) == 3,
            "restore returns three values: the model, its optimizer, the number of steps done",
        )
        model, optimizer, step = answer
        losses += steps_from(model, optimizer, step, end)
        state = state_of(model, optimizer, end)
    return torch.tensor(losses), int((flat(model) != weights).sum())


RESUMED = ("the losses of the steps that follow", "how many weights at the end differ in a bit")


@pytest.mark.parametrize("cut", [4, 1])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(ex, cut):
    """a resumed run equals one that was never stopped, bit for bit"""
    state, losses, weights = uninterrupted(cut)
    restore = observed(ex, "restore", partial(resumed, weights=weights))
    expect_equal(restore(state, build_small), (losses, 0), what=RESUMED)


def test_a_run_can_be_resumed_again_and_again(ex):
    """a run that is stopped and resumed several times equals one that never was"""
    state, losses, weights = uninterrupted(2)
    restore = observed(ex, "restore", partial(resumed, weights=weights, stops=(3, 5)))
    expect_equal(restore(state, build_small), (losses, 0), what=RESUMED)


# --- 8.7 ---

PEAK = 0.1
BATCHES = Batches(
    (
        torch.randn(5, 2, generator=torch.Generator().manual_seed(step)),
        torch.randn(5, 1, generator=torch.Generator().manual_seed(100 + step)),
    )
    for step in range(8)
)


def falling(step: int) -> float:
    return 1 / (step + 1)


def rising(step: int) -> float:
    return 0.2 + 0.01 * step**2


def start_linear() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A linear layer with fixed weights, and its optimizer."""
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, 0.5)
    nn.init.zeros_(model.bias)
    return model, torch.optim.SGD(model.parameters(), lr=PEAK, momentum=0.9)


def whole_run(schedule: Callable[[int], float], end: int) -> tuple[nn.Module, Any]:
    """Train for `end` steps with rates set by hand."""
    model, optimizer = start_linear()
    for step, (x, y) in enumerate(BATCHES[:end]):
        optimizer.param_groups[0]["lr"] = PEAK * schedule(step)
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def trained_on(
    train_on: Callable[..., Any],
    model: str,
    optimizer: str,
    batches: Sequence[Any],
    schedule: Callable[[int], float],
    done: int,
    *,
    state: dict[str, Any],
    result: str,
) -> Any:
    """Continue a run from a state: the rates, or the weights at the end.

    The names of model and optimizer are for the message only; both are made here.
    """
    ours, sgd = start_linear()
    ours.load_state_dict(state["model"])
    sgd.load_state_dict(copy.deepcopy(state["optimizer"]))
    rates = train_on(ours, sgd, batches, schedule, done)
    return rates if result == "rates" else flat(ours)


def expect_trained(
    ex: Any, schedule: Callable[[int], float], done: int, result: str, truth: Any, **how: Any
) -> None:
    """Continue after `done` steps, and compare what comes out."""
    model, optimizer = whole_run(schedule, done)
    if done:
        optimizer.param_groups[0]["initial_lr"] = PEAK  # as a scheduler leaves it
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    train = observed(ex, "train_on", partial(trained_on, state=state, result=result))
    names = "a linear layer", f"SGD at {PEAK}, {done} steps done"
    expect_equal(train(*names, BATCHES, schedule, done), truth, **how)


def as_rates(rates: Any) -> Tensor:
    return torch.as_tensor([float(rate) for rate in rates], dtype=torch.float64)


def expect_rates(ex: Any, schedule: Callable[[int], float], done: int) -> None:
    truth = [PEAK * schedule(step) for step in range(done, len(BATCHES))]
    expect_trained(ex, schedule, done, "rates", truth, what="the learning rates", view=as_rates)


@pytest.mark.parametrize("schedule", [falling, rising])
@pytest.mark.parametrize("done", [3, 1, 7])
def test_a_resumed_run_has_the_rates_of_the_whole_run(ex, done, schedule):
    """step i has the rate of step i, although the run was resumed"""
    expect_rates(ex, schedule, done)


@pytest.mark.parametrize("schedule", [falling, rising])
@pytest.mark.parametrize("done", [3, 5])
def test_a_resumed_run_ends_at_the_same_weights(ex, done, schedule):
    """a resumed run ends at the weights of one that was never stopped"""
    truth = flat(whole_run(schedule, len(BATCHES))[0])
    expect_trained(ex, schedule, done, "weights", truth, what="the weights at the end")


@pytest.mark.parametrize("schedule", [falling, rising])
def test_a_run_from_the_start_has_the_rates_of_the_schedule(ex, schedule):
    """a run from step 0 has the rates of the schedule from step 0"""
    expect_rates(ex, schedule, 0)


# --- 8.8 ---

NAN, INF = math.nan, math.inf


def mismatch(
    first_mismatch: Callable[..., Any],
    actual: Tensor,
    expected: Tensor,
    rtol: float,
    atol: float,
) -> dict[str, str]:
    """The index, or what was returned or raised in its place, in words."""
    try:
        found = first_mismatch(actual, expected, rtol, atol)
    except ValueError:
        return {"the first mismatch": "a ValueError"}
    if found is None:
        return {"the first mismatch": "none"}
    if isinstance(found, Tensor):
        return {"the first mismatch": "a tensor"}
    return {"the first mismatch": repr(found)}


def first_by_hand(actual: Tensor, expected: Tensor, rtol: float, atol: float) -> str:
    """The same by NumPy, in float64."""
    close = np.isclose(
        actual.double().numpy(), expected.double().numpy(), rtol=rtol, atol=atol, equal_nan=True
    )
    places = np.argwhere(~close)
    return repr(tuple(places[0].tolist())) if len(places) else "none"


def expect_mismatch(
    ex: Any, actual: Tensor, expected: Tensor, rtol: float, atol: float, truth: str | None = None
) -> None:
    truth = truth or first_by_hand(actual, expected, rtol, atol)
    found = observed(ex, "first_mismatch", mismatch)(actual, expected, rtol, atol)
    expect_equal(found, {"the first mismatch": truth}, what="the comparison")


@pytest.mark.parametrize(
    "change",
    [
        [0.0, 0.0, 0.0, 0.0],
        [1.75, 0.0, 0.0, 0.0],
        [1.5, 0.0, 0.0, 0.0],
        [-1.5, 0.0, 0.0, 0.0],
        [0.0, -5.5, 0.0, 0.0],
        [0.0, -3.0, 0.0, 0.0],
        [0.0, 4.75, 0.0, 0.0],
        [0.0, 5.25, 1.5, 0.0],
        [0.0, 0.0, -1.25, 0.0],
        [0.0, 0.0, 0.75, 0.0],
        [0.0, 0.0, 0.0, 60.0],
        [0.0, 0.0, 0.0, -50.5],
        [0.0, 0.0, 0.0, -51.5],
        [-1.25, -4.5, 0.75, 50.75],
    ],
)
def test_the_tolerance_is_absolute_plus_relative_to_the_expected_value(ex, change):
    """allowed is atol + rtol * |expected|, and exactly that still matches"""
    expected = torch.tensor([1.0, -8.0, 0.0, 100.0])
    expect_mismatch(ex, expected + torch.tensor(change), expected, 0.5, 1.0)


def test_without_a_tolerance_only_equal_values_match(ex):
    """with tolerances of 0, only equal values match"""
    expected = torch.tensor([1.0, -8.0, 0.0, 100.0])
    expect_mismatch(ex, expected.clone(), expected, 0.0, 0.0)
    expect_mismatch(ex, expected + 0.001, expected, 0.0, 0.0)


@pytest.mark.parametrize("actual", [NAN, INF, -INF, 2.0])
@pytest.mark.parametrize("expected", [NAN, INF, -INF, 2.0])
def test_nan_and_infinities_match_only_themselves(ex, actual, expected):
    """nan matches nan only, inf only inf, and -inf only -inf, whatever the tolerances"""
    for rtol, atol in ((0.5, 1.0), (0.0, 0.0), (0.0, 1e9)):
        ours, truth = torch.tensor([1.0, actual, 3.0]), torch.tensor([1.0, expected, 3.0])
        expect_mismatch(ex, ours, truth, rtol, atol)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (6,), ()])
def test_the_first_mismatch_is_found_row_after_row(ex, shape):
    """the first mismatch, row after row, is returned as a tuple of ints"""
    expected = 2 * torch.randn(shape)
    for seed in range(4):
        chosen = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.3 + seed
        expect_mismatch(ex, expected + chosen, expected, 1e-5, 1e-6)
    expect_mismatch(ex, expected.clone(), expected, 1e-5, 1e-6)
    expect_mismatch(ex, torch.zeros(0, 3), torch.zeros(0, 3), 0.0, 0.0)


def test_differences_of_any_dtype_are_computed_in_float64(ex):
    """tensors of any dtype are compared in float64"""
    expected = torch.tensor([5, 200, 7], dtype=torch.uint8)
    for ours in ([4, 199, 7], [5, 200, 6], [3, 200, 7], [5, 255, 7]):
        actual = torch.tensor(ours, dtype=torch.uint8)
        expect_mismatch(ex, actual, expected, 0.0, 1.0)
    large = torch.tensor([2**24, 2**24 + 1])  # float32 can't tell these apart
    expect_mismatch(ex, large, large.flip(0), 0.0, 0.5)
    expect_mismatch(ex, torch.tensor([True, False]), torch.tensor([True, True]), 0.0, 0.5)
    half = torch.tensor([1.0, 2048.0]).half()
    expect_mismatch(ex, half, torch.tensor([1.0, 2049.0], dtype=torch.float64), 0.0, 0.5)


@pytest.mark.parametrize(
    ("ours", "truth"), [((3,), (1,)), ((3,), (2, 3)), ((2, 3), (3, 2)), ((1,), ()), ((4,), (3,))]
)
def test_different_shapes_are_an_error(ex, ours, truth):
    """different shapes are a ValueError, even if they broadcast"""
    expect_mismatch(ex, torch.ones(ours), torch.ones(truth), 0.1, 0.1, "a ValueError")


# --- 8.9 ---

V = 11


class Causal:
    """A causal model: the logits of a position are its running mean of embeddings, turned."""

    def __init__(self, V: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(V, V, generator=generator)
        self.turn = torch.randn(V, V, generator=generator)

    def __call__(self, tokens: Tensor) -> Tensor:
        steps = torch.arange(1, tokens.size(1) + 1)[:, None]
        return self.table[tokens].cumsum(1) / steps @ self.turn


def loss_by_hand(model: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Prediction by prediction."""
    log_p = model(tokens).log_softmax(-1)
    losses = [
        -log_p[b, t, tokens[b, t + 1]]
        for b in range(tokens.size(0))
        for t in range(tokens.size(1) - 1)
    ]
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("B", "T"), [(1, 3), (3, 6), (4, 2), (2, 9)])
def test_each_position_predicts_the_token_that_follows(ex, B, T):
    """each position predicts the token that follows"""
    model, tokens = Causal(V), torch.randint(V, (B, T))
    loss = ex.next_token_loss(model, tokens)
    expect_equal(loss, loss_by_hand(model, tokens), what="the loss")


def test_the_loss_is_a_mean_through_which_gradients_flow(ex):
    """gradients flow through the loss"""
    model, tokens = Causal(V, seed=1), torch.randint(V, (3, 5))
    model.turn.requires_grad_()
    loss, truth = ex.next_token_loss(model, tokens), loss_by_hand(model, tokens)
    expect_equal(loss, truth, what="the loss")
    expect_same_gradients(loss, truth, {"the weights": model.turn})


# --- 8.10 ---


def update_of(
    accumulated_update: Callable[..., Any],
    model: str,
    optimizer: str,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    max_norm: float,
    *,
    result: str,
) -> Any:
    """One step of a new model: (loss, norm), the weights after it, or the gradients left.

    The names of model and optimizer are for the message only; both are made here.
    """
    ours = small_classifier()
    sgd = torch.optim.SGD(ours.parameters(), lr=0.5)
    answer = accumulated_update(ours, sgd, micro_batches, max_norm)
    if result == "weights":
        return flat(ours)
    if result == "gradients":
        grads = [p.grad for p in ours.parameters() if p.grad is not None]
        return {"left": "nothing" if all(not grad.any() for grad in grads) else "gradients"}
    return answer


def small_classifier() -> nn.Module:
    model = nn.Linear(4, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return model


def whole_update(
    micro_batches: Sequence[tuple[Tensor, Tensor]], max_norm: float
) -> tuple[tuple[float, float], Tensor]:
    """The same by hand: all examples at once; ((loss, norm), the weights)."""
    model = small_classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x, y = (torch.cat(part) for part in zip(*micro_batches, strict=True))
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients))
    for gradient in gradients:
        gradient *= min(1.0, max_norm / norm)
    optimizer.step()
    return (loss.item(), norm), flat(model)


def micro(count: int, size: int, seed: int) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    return Batches(
        (
            torch.randn(size, 4, generator=generator),
            torch.randint(3, (size,), generator=generator),
        )
        for _ in range(count)
    )


def expect_update(
    ex: Any, batches: list[tuple[Tensor, Tensor]], max_norm: float, result: str
) -> None:
    """What one call returns, or the weights after it, is as for the whole batch."""
    returned, weights = whole_update(batches, max_norm)
    truths = {
        "returned": (returned, ("the mean loss", "the norm of the gradient")),
        "weights": (weights, "the weights after the step"),
        "gradients": ({"left": "nothing"}, "the gradients after the step"),
    }
    update = observed(ex, "accumulated_update", partial(update_of, result=result))
    truth, what = truths[result]
    expect_equal(update("a linear layer", "SGD", batches, max_norm), truth, what=what)


@pytest.mark.parametrize(("count", "size"), [(4, 3), (3, 5), (1, 6)])
def test_loss_and_norm_are_those_of_the_whole_batch(ex, count, size):
    """the loss and the norm are those of the whole batch"""
    expect_update(ex, micro(count, size, seed=count), 100.0, "returned")


@pytest.mark.parametrize(("count", "size"), [(4, 3), (3, 5), (1, 6)])
def test_micro_batches_give_the_step_of_the_whole_batch(ex, count, size):
    """micro-batches give the step of the whole batch"""
    expect_update(ex, micro(count, size, seed=count), 100.0, "weights")


@pytest.mark.parametrize("max_norm", [0.25, 0.5])
@pytest.mark.parametrize("result", ["returned", "weights"])
def test_the_norm_is_clipped_as_that_of_the_whole_batch(ex, result, max_norm):
    """the gradient is clipped as that of the whole batch"""
    expect_update(ex, micro(4, 3, seed=9), max_norm, result)


def test_no_gradient_is_left_for_the_next_step(ex):
    """no gradient is left for the next step"""
    expect_update(ex, micro(3, 4, seed=2), 1.0, "gradients")


# --- 8.11 ---

WINDOWS = ("the windows for training", "the windows for validation")


def windows_by_hand(
    tokens: Tensor, length: int, stride: int, val_share: float
) -> tuple[Tensor, Tensor]:
    """Window by window."""
    text = tokens.tolist()
    n_train = len(text) - int(len(text) * val_share)
    parts = [
        [part[i : i + length] for i in range(0, len(part) - length + 1, stride)]
        for part in (text[:n_train], text[n_train:])
    ]
    return torch.tensor(parts[0]), torch.tensor(parts[1])


def shared_tokens(answer: Any) -> Any:
    """How many tokens are in both parts, if the answer has two; the tokens are all different."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise TypeError("two results are asked for: the windows of each part")
    train, val = (set(torch.as_tensor(part).flatten().tolist()) for part in answer)
    return {"tokens in both parts": len(train & val)}


@pytest.mark.parametrize(("length", "stride"), [(4, 2), (5, 1), (3, 3)])
def test_no_token_is_in_both_parts(ex, length, stride):
    """no token of the text is in both parts"""
    tokens = torch.arange(30)
    answer = ex.split_windows(tokens, length, stride, 0.25)
    truth = windows_by_hand(tokens, length, stride, 0.25)
    found = shared_tokens(answer)["tokens in both parts"]
    if found:
        expect_equal(answer, truth, what=WINDOWS)
    expect_equal(answer, truth, what=WINDOWS)


@pytest.mark.parametrize(
    ("n", "length", "stride", "val_share"),
    [(10, 4, 2, 0.4), (40, 6, 4, 0.2), (41, 5, 3, 0.3), (50, 4, 7, 0.5), (23, 3, 1, 0.15)],
)
def test_the_windows_of_each_part_are_those_of_its_text(ex, n, length, stride, val_share):
    """each part is cut into windows that begin at every stride-th of its tokens"""
    tokens = torch.randint(100, (n,))
    answer = ex.split_windows(tokens, length, stride, val_share)
    expect_equal(answer, windows_by_hand(tokens, length, stride, val_share), what=WINDOWS)


@pytest.mark.parametrize("n", [37, 38, 39, 40])
def test_parts_of_any_size_are_cut_where_the_share_says(ex, n):
    """the last int(n * val_share) tokens are for validation"""
    tokens = torch.arange(n) + 100
    answer = ex.split_windows(tokens, 4, 2, 0.3)
    expect_equal(answer, windows_by_hand(tokens, 4, 2, 0.3), what=WINDOWS)


# --- 8.12 ---

ATTENDED = "the outputs (T, d_v)"


class Pieces(list):
    """A list that is shown as the sizes of its pieces."""

    def __repr__(self) -> str:
        return f"pieces of {', '.join(str(len(q)) for q, _, _ in self)} tokens"


def pieces_of(sizes: Sequence[int], d_head: int = 4, d_v: int = 6) -> list[tuple[Tensor, ...]]:
    """Random queries, keys and values, in pieces of these sizes."""
    total = sum(sizes)
    q, k, v = 2 * torch.randn(total, d_head), torch.randn(total, d_head), torch.randn(total, d_v)
    return Pieces(zip(q.split(sizes), k.split(sizes), v.split(sizes), strict=True))


def attended_by_hand(pieces: Sequence[tuple[Tensor, ...]]) -> Tensor:
    """Query by query in float64, without a cache."""
    q, k, v = (torch.cat(part).double() for part in zip(*pieces, strict=True))
    rows = []
    for t in range(len(q)):
        scores = k[: t + 1] @ q[t] / math.sqrt(q.size(-1))
        rows.append(scores.softmax(-1) @ v[: t + 1])
    return torch.stack(rows).float()


def expect_attended(ex: Any, pieces: list[tuple[Tensor, ...]]) -> None:
    expect_equal(ex.attend_cached(pieces), attended_by_hand(pieces), what=ATTENDED)


@pytest.mark.parametrize("prompt", [3, 1, 5])
@pytest.mark.parametrize("new", [1, 4])
def test_a_prompt_and_single_tokens_give_what_one_pass_gives(ex, new, prompt):
    """a prompt and then single tokens give what one pass without a cache gives"""
    expect_attended(ex, pieces_of([prompt] + [1] * new))


@pytest.mark.parametrize("sizes", [[2, 3], [4, 1, 3, 2], [5], [1, 6]])
def test_pieces_of_any_sizes_give_what_one_pass_gives(ex, sizes):
    """pieces of any sizes give what one pass without a cache gives"""
    expect_attended(ex, pieces_of(sizes))


# --- 8.13 ---


def expect_speedup(ex: Any, shares: list[float], times: list[float]) -> None:
    left = 1 - math.fsum(shares) + math.fsum(s / t for s, t in zip(shares, times, strict=True))
    truth = 1 / left if left > 1e-12 else INF
    expect_equal(ex.speedup(shares, times), truth, what="the speed-up")


@pytest.mark.parametrize(
    ("shares", "times"),
    [
        ([0.5, 0.25], [2.0, 5.0]),
        ([0.8], [4.0]),
        ([0.6, 0.3], [1.5, 10.0]),
        ([0.2, 0.3, 0.5], [2.0, 3.0, 10.0]),
        ([], []),
        ([1.0], [3.0]),
    ],
)
def test_what_is_left_of_the_time_adds_up(ex, shares, times):
    """what is left of the time of each part adds up; the rest stays as it is"""
    expect_speedup(ex, shares, times)


@pytest.mark.parametrize(
    ("shares", "times"),
    [
        ([0.75], [INF]),
        ([0.5, 0.3], [INF, 2.0]),
        ([0.5, 0.5], [INF, INF]),
        ([0.5, 0.5], [INF, 4.0]),
        ([0.5, 0.25, 0.25], [INF, INF, INF]),
    ],
)
def test_a_part_that_disappears_leaves_the_rest(ex, shares, times):
    """a part may disappear, and so may all of them"""
    expect_speedup(ex, shares, times)


@pytest.mark.parametrize(
    ("shares", "times"),
    [([0.5, 0.25], [2.0, 0.5]), ([0.25], [0.25]), ([0.1] * 10, [2.0] * 10)],
)
def test_parts_may_become_slower(ex, shares, times):
    """a part may become slower, and so may the whole"""
    expect_speedup(ex, shares, times)


# --- 8.14 ---

LETTERS = {
    "training, the lessons' code in float32": "C",
    "training, fused engine in bfloat16": "A",
    "generation with the modules and cache": "D",
    "generation with the fast decoder": "B",
}


def test_each_profile_is_given_its_program(ex):
    """each program is given its profile"""
    expect_letters(ex.read_profiles(), LETTERS, "the programs")


# --- 8.15 ---

QUANTIZED = ("the weights (d_out, d_in) int8", "the scales (d_out,)")
PRODUCTS = "the outputs (..., d_out)"


def quantized_by_hand(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row in NumPy's float32."""
    rows, scales = [], []
    for row in weight.float().numpy():
        largest = np.abs(row).max()
        scale = largest / np.float32(127) if largest > 0 else np.float32(1)
        rows.append(np.rint(row / scale).astype(np.int8))
        scales.append(scale)
    return torch.from_numpy(np.stack(rows)), torch.tensor(np.array(scales, dtype=np.float32))


def clear_weights(d_out: int, d_in: int) -> Tensor:
    """Random weights of which none is close to the middle between two whole numbers of scales."""
    scale = torch.rand(d_out) + 0.01
    whole = torch.randint(-126, 127, (d_out, d_in)).float()
    whole[torch.arange(d_out), torch.randint(d_in, (d_out,))] = 127.0 * (
        2 * torch.randint(2, (d_out,)) - 1
    )
    near = (torch.rand(d_out, d_in) - 0.5) * 0.8 * (whole.abs() < 127)
    return (whole + near) * scale[:, None]


def test_the_largest_weight_of_each_row_becomes_127(ex):
    """the largest absolute value of each row becomes 127 or -127"""
    weight = torch.tensor([[0.5, -2.54, 1.3], [12.7, 0.23, -0.16]])
    expect_equal(ex.quantize_rows(weight), quantized_by_hand(weight), what=QUANTIZED)
    weight = torch.tensor([[-1.1, -2.0, -0.3], [0.001, 0.0, 0.0009], [-3.0, 2.9, 0.01]])
    expect_equal(ex.quantize_rows(weight), quantized_by_hand(weight), what=QUANTIZED)


@pytest.mark.parametrize(("d_out", "d_in"), [(3, 5), (6, 2), (4, 1), (1, 7)])
def test_each_weight_becomes_the_closest_whole_number(ex, d_out, d_in):
    """each weight becomes the closest whole number of scales"""
    weight = clear_weights(d_out, d_in)
    expect_equal(ex.quantize_rows(weight), quantized_by_hand(weight), what=QUANTIZED)


def test_a_row_of_zeros_has_scale_1(ex):
    """a row of zeros has scale 1, and stays zeros"""
    weight = clear_weights(3, 5)
    weight[1] = 0
    expect_equal(ex.quantize_rows(weight), quantized_by_hand(weight), what=QUANTIZED)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_quantized_in_float32(ex, dtype):
    """half precision is quantized in float32"""
    weight = torch.tensor([[0.511, -0.213, 0.007], [-0.9, 0.33, 0.46]], dtype=dtype)
    expect_equal(ex.quantize_rows(weight), quantized_by_hand(weight), what=QUANTIZED)


def codes(d_out: int, d_in: int) -> tuple[Tensor, Tensor]:
    q = torch.randint(-127, 128, (d_out, d_in)).to(torch.int8)
    return q, torch.rand(d_out) * 0.1 + 0.01


def expect_products(ex: Any, x: Tensor, q: Tensor, scale: Tensor) -> None:
    stands_for = q.double() * scale.double()[:, None]
    truth = (x.double() @ stands_for.mT).float()
    expect_equal(ex.int8_linear(x, q, scale), truth, what=PRODUCTS)


def test_the_layer_gives_what_its_weights_stand_for(ex):
    """the layer gives what a layer with the weights q times scale gives"""
    q = torch.tensor([[25, -127, 65], [127, 2, -2]], dtype=torch.int8)
    expect_products(ex, torch.tensor([[1.0, 1.0, 2.0]]), q, torch.tensor([0.02, 0.1]))
    expect_products(ex, torch.randn(4, 5), *codes(3, 5))


@pytest.mark.parametrize("lead", [(), (3,), (2, 4), (2, 1, 3)])
def test_the_layer_works_with_any_leading_axes(ex, lead):
    """the layer works with any leading axes"""
    expect_products(ex, torch.randn(*lead, 5), *codes(3, 5))
    expect_products(ex, torch.randn(*lead, 4), *codes(4, 4))


# --- 8.16 ---

TURNED = ("attention.wq.weight", "attention.wk.weight")
OUR_NAMES = {  # Meta's: ours
    "attention_norm.weight": "attention_norm.weight",
    "ffn_norm.weight": "feed_forward_norm.weight",
    **{f"attention.w{one}.weight": f"attention.{one}_proj.weight" for one in "qkv"},
    "attention.wo.weight": "attention.out_proj.weight",
    "feed_forward.w1.weight": "feed_forward.gate_proj.weight",
    "feed_forward.w2.weight": "feed_forward.down_proj.weight",
    "feed_forward.w3.weight": "feed_forward.up_proj.weight",
}


def published_block(
    n_heads: int, n_kv_heads: int, d_head: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """A block by Meta's names: d_model = n_heads * d_head, and d_ff = d_model + 4."""
    d_model = n_heads * d_head
    rows = {"wq": d_model, "wk": n_kv_heads * d_head, "wv": n_kv_heads * d_head, "wo": d_model}
    shapes = {f"attention.{name}.weight": (count, d_model) for name, count in rows.items()}
    shapes |= {f"feed_forward.{name}.weight": (d_model + 4, d_model) for name in ("w1", "w3")}
    shapes |= {"feed_forward.w2.weight": (d_model, d_model + 4)}
    shapes |= {f"{name}_norm.weight": (d_model,) for name in ("attention", "ffn")}
    return {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}


def moved_by_hand(weight: Tensor, n_heads: int) -> Tensor:
    """Row by row."""
    d_head = len(weight) // n_heads
    order = [
        head * d_head + row
        for head in range(n_heads)
        for row in [*range(0, d_head, 2), *range(1, d_head, 2)]
    ]
    return weight[order]


def source(tensor: Any, theirs: dict[str, Tensor], expected: str) -> str:
    """Which of their tensors has these values, in whatever order; the expected one if none has."""
    if not isinstance(tensor, Tensor):
        return expected

    def is_it(name: str) -> bool:  # told by two values, because pairs of mistakes are many
        extremes = zip(theirs[name].to(tensor.dtype).aminmax(), tensor.aminmax(), strict=True)
        return all(one.equal(other) for one, other in extremes)

    return next((name for name in (expected, *theirs) if name in theirs and is_it(name)), expected)


def converted(convert: Callable[..., Any], *block: Any) -> tuple[Any, ...]:
    """(By each name that comes out, what it holds, the tensors in the order of OUR_NAMES)."""
    answer = convert(*block)
    expect(isinstance(answer, dict), "block_from_meta returns a dictionary")
    expected = {ours: name for name, ours in OUR_NAMES.items()}
    sources = {name: source(answer[name], block[0], expected.get(name, "")) for name in answer}
    return (sources, *(answer.get(name) for name in OUR_NAMES.values()))


def expect_converted(
    ex, theirs: dict[str, Tensor], n_heads: int, n_kv_heads: int
) -> dict[str, Tensor]:
    """The tensors by our names, which are right."""
    heads = dict(zip(TURNED, (n_heads, n_kv_heads), strict=True))
    truth = [
        moved_by_hand(tensor, heads[name]) if name in heads else tensor
        for name, tensor in ((name, theirs[name]) for name in OUR_NAMES)
    ]
    ours = [*OUR_NAMES.values()]
    answer = observed(ex, "block_from_meta", converted)(theirs, n_heads, n_kv_heads)
    sources = {name: theirs_of for theirs_of, name in OUR_NAMES.items()}
    expect_equal(answer, (sources, *truth), what=("the tensors by name", *ours))
    return dict(zip(ours, answer[1:], strict=True))


def test_each_tensor_of_a_block_gets_our_name(ex):
    """every tensor arrives under our name"""
    theirs = published_block(3, 3, d_head=2)  # in heads of two rows, the layouts are the same
    expect_converted(ex, theirs, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_queries_and_keys_alone_change_their_layout(ex, dtype):
    """the rows of queries and keys, and no others, move from neighbours to halves"""
    # In heads of four rows, the way there is the way back.
    for n_heads, n_kv_heads, d_head in ((3, 3, 6), (4, 2, 6), (6, 3, 8), (4, 1, 8)):
        theirs = published_block(n_heads, n_kv_heads, d_head, dtype)
        expect_converted(ex, theirs, n_heads, n_kv_heads)


def test_the_converted_block_gives_the_same_scores(ex):
    """converted queries and keys, turned by halves, give the scores of the published ones"""
    T, n_heads, n_kv_heads, d_head = 5, 4, 2, 8
    theirs = published_block(n_heads, n_kv_heads, d_head)
    x = torch.randn(T, n_heads * d_head)
    cos, sin = rotary_angles(torch.arange(T), d_head)
    answer = expect_converted(ex, theirs, n_heads, n_kv_heads)

    def scores(turn: Callable[..., Tensor], pair: Sequence[Tensor]) -> Tensor:
        heads = [(x @ w.mT).unflatten(-1, (-1, d_head)).transpose(0, 1) for w in pair]
        q, k = (turn(one[None], cos, sin)[0] for one in heads)
        return q @ k.repeat_interleave(n_heads // n_kv_heads, dim=0).mT

    truth = scores(apply_rotary_interleaved, [theirs[name] for name in TURNED])
    moved = [answer[OUR_NAMES[name]] for name in TURNED]
    expect_equal(scores(apply_rotary, moved), truth, what="the scores (n_heads, T, T)")


def refusal(convert: Callable[..., Any], *block: Any, names: Sequence[str]) -> dict[str, str]:
    """How a block is refused: whether by a ValueError, and whether with one of these names."""
    try:
        answer = convert(*block)
    except ValueError as error:
        if any(name in str(error) for name in names):
            return {"the error": "a ValueError", "its message names": " or ".join(names)}
        ours = (OUR_NAMES[name] for name in names if name in OUR_NAMES)
        named = next((name for name in ours if name in str(error)), "no tensor that is wrong")
        return {"the error": "a ValueError", "its message names": named}
    except (KeyError, AssertionError) as error:
        if type(error) not in (KeyError, AssertionError):
            raise
        return {"the error": f"{type(error).__name__}"}
    if not isinstance(answer, dict):
        return {"the error": "none"}
    more = [name for name in answer if name not in OUR_NAMES.values()]
    return {"the error": f"none; {len(answer)} tensors came back", "more": ", ".join(more)}


def expect_named_error(ex, theirs: dict[str, Tensor], name: str) -> None:
    """A block of two heads, and one of keys, is refused by a ValueError with this name."""
    convert = observed(ex, "block_from_meta", partial(refusal, names=(name,)))
    truth = {"the error": "a ValueError", "its message names": name}
    expect_equal(convert(theirs, 2, 1), truth, what="the call")


@pytest.mark.parametrize("name", ["attention.wq.weight", "ffn_norm.weight"])
def test_a_tensor_that_is_missing_is_an_error_with_its_name(ex, name):
    """a tensor of META_NAMES that is missing is a ValueError with its name"""
    block = published_block(2, 1, d_head=4)
    left = {each: tensor for each, tensor in block.items() if each != name}
    expect_named_error(ex, left, name)


@pytest.mark.parametrize(
    "name", ["attention.wq.bias", "attention.q_norm.weight", "layers.0.attention.wv.weight"]
)
def test_a_tensor_that_is_unknown_is_an_error_with_its_name(ex, name):
    """a tensor that META_NAMES doesn't have is a ValueError with its name"""
    block = {**published_block(2, 1, d_head=4), name: torch.zeros(8)}
    expect_named_error(ex, block, name)


def test_a_tensor_by_another_name_is_an_error_with_one_of_the_two(ex):
    """nine tensors, one of them by an unknown name, are a ValueError with one of the two names"""
    block = published_block(2, 1, d_head=4)
    block["feed_forward.w4.weight"] = block.pop("feed_forward.w3.weight")
    names = ("feed_forward.w3.weight", "feed_forward.w4.weight")
    found = observed(ex, "block_from_meta", partial(refusal, names=names))(block, 2, 1)
    # Which name comes first is free, so the known wrong answers are not compared here.
    expect(
        found.get("its message names") == " or ".join(names),
        f"{names[0]} is missing and {names[1]} is unknown, nine tensors in all: expected a "
        f"ValueError with one of the two names; the error: {found['the error']}",
    )


# --- 8.17 ---


def scheduled_by_hand(requests: Sequence[tuple[int, int]], n_slots: int) -> list[tuple]:
    """Request by request: each takes the first slot that is free when its turn comes."""
    free = [0] * n_slots  # the step from which on each slot is free
    stretches = []
    for index in sorted(range(len(requests)), key=lambda i: (requests[i][0], i)):
        arrival, length = requests[index]
        start = max(arrival, min(free))
        slot = next(slot for slot in range(n_slots) if free[slot] <= start)
        free[slot] = start + length
        stretches.append((index, slot, start, start + length))
    rows: list[list[int | None]] = [[None] * n_slots for _ in range(max(free))]
    for index, slot, start, end in stretches:
        for step in range(start, end):
            rows[step][slot] = index
    return [tuple(row) for row in rows]


def by_step(rows: Any) -> dict[str, Any]:
    """The rows by their step, so that the first that differs can be named."""
    if not isinstance(rows, list | tuple):
        raise TypeError("a list is asked for, with one row per step")
    return {
        f"step {step}": tuple(row) if isinstance(row, list | tuple) else row
        for step, row in enumerate(rows)
    }


def expect_scheduled(ex: Any, requests: list[tuple[int, int]], n_slots: int) -> None:
    truth = scheduled_by_hand(requests, n_slots)
    expect_equal(ex.schedule(requests, n_slots), truth, what="the schedule", view=by_step)


@pytest.mark.parametrize(
    ("requests", "n_slots"),
    [
        ([(0, 2), (0, 1)], 2),
        ([(0, 3), (0, 2), (0, 1), (0, 2)], 1),
        ([(0, 1)], 3),
        ([(3, 1), (0, 2), (1, 4), (1, 2)], 1),
        ([], 2),
    ],
)
def test_waiting_requests_take_free_slots_in_order(ex, requests, n_slots):
    """waiting requests take the free slots, the lowest slot first, in order of their arrival"""
    expect_scheduled(ex, requests, n_slots)


@pytest.mark.parametrize(
    ("requests", "n_slots"),
    [
        ([(0, 3), (0, 1), (1, 2)], 2),
        ([(0, 6), (0, 1), (0, 2), (0, 1), (0, 2)], 2),
        ([(0, 2), (0, 3), (0, 2), (0, 2), (0, 1)], 3),
    ],
)
def test_a_slot_is_free_again_as_soon_as_its_request_has_ended(ex, requests, n_slots):
    """a slot is taken again in the step after its request has ended"""
    expect_scheduled(ex, requests, n_slots)


@pytest.mark.parametrize(
    ("requests", "n_slots"),
    [([(2, 1)], 1), ([(0, 1), (4, 2), (4, 1)], 2), ([(5, 2), (0, 2), (1, 1)], 2)],
)
def test_nothing_starts_before_it_arrives(ex, requests, n_slots):
    """no request starts before it arrives; until then slots stay empty"""
    expect_scheduled(ex, requests, n_slots)


@pytest.mark.parametrize("seed", range(6))
def test_random_requests_are_scheduled_like_by_hand(ex, seed):
    """random requests are scheduled as the rules say"""
    chance = random.Random(seed)
    requests = [(chance.randrange(8), chance.randrange(1, 6)) for _ in range(8)]
    expect_scheduled(ex, requests, n_slots=1 + seed % 3)
