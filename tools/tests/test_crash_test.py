"""tools/crash_test.py: its table, its exit code, and that it notices any loss.

That the course keeps the promises is for 09_capstone/tests/test_faults.py, which tries every fault.
"""

import importlib
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from tools import crash_test
from tools.crash_test import BrokenPromiseError, Lab, Row, act_at, flip_a_bit, main, promise
from utils.errors import UsageError

FAULTS: dict[str, Callable[[Any], Row]] = {
    "killed at every boundary of a save": lambda lab: Row(68, "resumed", 4),
    "kill -9 at random times": lambda lab: Row(lab.kills, "resumed", 3, f"{lab.kills} kills"),
    "every state damaged": lambda lab: Row(1, "refused, exit 1", None),
}


class NoLab:
    """A lab that trains nothing."""

    def __init__(self, root: Path, kills: int, tick: Callable[[], object]) -> None:
        assert root.is_dir()
        tick()
        self.kills = kills


def raising(error: Exception) -> Callable[[Any], Row]:
    def fault(lab: Any) -> Row:
        raise error

    return fault


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the program on these faults, without training; returns its exit code and output."""

    def call(*arguments: str, **faults: Callable[[Any], Row]) -> tuple[int, str]:
        monkeypatch.setattr(crash_test, "Lab", NoLab)
        monkeypatch.setattr(crash_test, "cost_of_saving", lambda root: (0.010, 0.020))
        monkeypatch.setattr(crash_test, "FAULTS", {**FAULTS, **faults})
        monkeypatch.setattr(sys, "argv", ["crash_test.py", *arguments])
        code = main()
        return code, capsys.readouterr().out

    return call


# --- the table ----------------------------------------------------------------------------------


def test_the_table_shows_what_was_tried_what_happened_and_what_was_lost(call: Any) -> None:
    code, printed = call()
    assert code == 0
    table = [re.split(r"  +", line) for line in printed.splitlines()[:4]]
    assert table == [
        ["fault", "tried", "what happened", "lost", "same"],
        ["killed at every boundary of a save", "68", "resumed", "4", "yes"],
        ["kill -9 at random times", "10", "resumed", "3", "yes"],
        ["every state damaged", "1", "refused, exit 1", "-", "-"],
    ]
    assert "kill -9 at random times: 10 kills\n" in printed


def test_every_line_fits_80_columns(call: Any) -> None:
    note = "9999 kills, 9999 resumes, 9999 from an older state"
    faults = {name: lambda lab: Row(9999, 26 * "x", 9999) for name in crash_test.FAULTS}
    faults["kill -9 at random times"] = lambda lab: Row(9999, "resumed", 4, note)
    _, printed = call(**faults)
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize(
    "error", [BrokenPromiseError("5 steps lost, 4 allowed"), FileNotFoundError("samples.txt")]
)
def test_a_broken_promise_is_reported_and_the_other_faults_are_tried(
    call: Any, error: Exception
) -> None:
    code, printed = call(**{"kill -9 at random times": raising(error)})
    assert code == 1
    assert re.search(r"^kill -9 at random times +1  BROKEN +\?  no$", printed, re.MULTILINE)
    assert f"kill -9 at random times: {error!r}" in printed
    assert re.search(r"^every state damaged +1 ", printed, re.MULTILINE)


def test_the_number_of_kills_is_a_flag(call: Any) -> None:
    assert "random times: 200 kills" in call("--kills", "200")[1]
    with pytest.raises(UsageError, match="--kills 0 is out of range: it must be at least 1"):
        call("--kills", "0")


def test_the_cost_of_saving_is_a_share_of_the_training(call: Any) -> None:
    printed = call()[1].replace("\n", " ")
    assert "a save takes 10 ms, a step 20 ms" in printed
    assert "with 250 steps between two saves, that is 0.20% of the training" in printed


def test_on_windows_two_faults_are_left_out(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = {"Ctrl-C or SIGTERM": raising(OSError()), "disk full": raising(OSError())}
    assert set(faults) < set(crash_test.FAULTS)
    monkeypatch.setattr(sys, "platform", "win32")
    code, printed = call(**faults)
    assert (code, "disk full" in printed) == (0, False)


def test_the_cost_is_measured_on_the_laptop_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []

    def once(action: Callable[[], object]) -> float:
        if timed.count(name := getattr(action, "__name__", "")) < 2:
            action()
        timed.append(name)
        return {"save": 1.0, "train_step": 2.0}[name]

    monkeypatch.setattr(crash_test, "seconds_of", once)
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)
    assert crash_test.cost_of_saving(tmp_path) == (1.0, 2.0)
    [state] = tmp_path.iterdir()
    assert state.name.startswith("00000002-")  # after two real steps


# --- what it notices ----------------------------------------------------------------------------


class Finished:
    """A finished run."""

    finished = True

    def __init__(self, lost: int = 0, **result: object) -> None:
        self.lost, self.found = lost, {"best": 1, "metrics.csv": 2, **result}

    def result(self) -> dict[str, object]:
        return self.found


@pytest.fixture
def lab() -> Lab:
    """A lab with a known result, without any training."""
    lab = Lab.__new__(Lab)
    lab.whole = Finished().found
    return lab


def test_the_same_result_is_no_loss(lab: Lab) -> None:
    run: Any = Finished(lost=3)
    assert lab.finish(run, 7, "resumed") == Row(7, "resumed", 3)


@pytest.mark.parametrize("name", ["best", "metrics.csv"])
def test_another_result_is_a_broken_promise(lab: Lab, name: str) -> None:
    run: Any = Finished(**{name: 0})
    with pytest.raises(BrokenPromiseError, match=f"^the result differs: {re.escape(name)}$"):
        lab.finish(run, 1, "resumed")


def test_more_steps_lost_than_lie_between_two_saves_are_a_broken_promise(lab: Lab) -> None:
    run: Any = Finished(lost=5)
    with pytest.raises(BrokenPromiseError, match="5 steps lost, 4 allowed"):
        lab.finish(run, 1, "resumed")
    assert lab.finish(run, 1, "resumed", allowed=5).lost == 5


def test_a_promise_that_is_kept_is_silent() -> None:
    promise(True, "lost")
    with pytest.raises(BrokenPromiseError, match=r"^lost$"):
        promise(False, "lost")


def test_just_one_bit_is_flipped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for _ in range(20):
        path.write_bytes(bytes(8))
        flip_a_bit(path)
        assert int.from_bytes(path.read_bytes(), "little").bit_count() == 1


# --- where things are made to happen ------------------------------------------------------------


def double(x: int) -> int:
    return 2 * x


def count_to(n: int) -> Iterator[int]:
    return iter(range(n))


def test_an_action_runs_at_the_requested_call(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[int] = []
    calls = itertools.count(1)
    monkeypatch.setattr(crash_test, "PLACES", {"here": (__name__, "double")})
    monkeypatch.setitem(globals(), "double", double)
    act_at("here", 3, lambda: happened.append(next(calls)))
    assert [double(x) for x in range(5)] == [0, 2, 4, 6, 8]
    assert happened == [1]


def test_for_an_iterator_it_runs_after_the_first_item(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(crash_test, "PLACES", {"here": (__name__, "count_to")})
    monkeypatch.setitem(globals(), "count_to", count_to)
    act_at("here", 2, lambda: seen.append("now"))
    for _ in range(2):
        for x in count_to(3):
            seen.append(x)
    assert seen == [0, 1, 2, 0, "now", 1, 2]


@pytest.mark.parametrize(("module", "name"), crash_test.PLACES.values(), ids=crash_test.PLACES)
def test_every_place_is_a_function(module: str, name: str) -> None:
    assert callable(attrgetter(name)(importlib.import_module(module)))
