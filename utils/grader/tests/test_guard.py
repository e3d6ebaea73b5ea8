"""utils/grader/guard.py: whatever a learner's function does ends in one message."""

import functools
import signal
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from utils.grader import guard, runner
from utils.grader.calls import Misconception, history
from utils.grader.exercises import Exercise, how_to
from utils.grader.feedback import Wrong, expect_equal
from utils.grader.guard import (
    BrokenFile,
    Clock,
    Guarded,
    LearnerModule,
    NotStarted,
    call_within,
    observed,
    restored_state,
    unchanged,
)
from utils.grader.learner_code import LoadError, TimeUp, read_source

HEAD = "import torch, numpy as np; from torch import nn\n"  # the first line
RESET = how_to("reset", "1.1")
EXERCISE = Exercise(
    "1.1", "Twice", "write", ("double",), 5, 1, "so", ("a", "b", "c"), ("test_double",)
)


@pytest.fixture(autouse=True)
def a_new_history() -> Iterator[None]:
    history.clear()
    yield
    history.clear()


def learner_of(folder: Path, text: str) -> LearnerModule:
    path = folder / "01_first" / "exercises" / "exercises.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return LearnerModule(read_source(path))


def exercises(
    folder: Path,
    text: str,
    wrong: Mapping[str, Sequence[Misconception]] | None = None,
    limit: float = 60.0,
) -> Guarded:
    """A guarded learner's file, as the tests of exercise 1.1 see it."""
    return Guarded(learner_of(folder, text), EXERCISE, wrong or {}, Clock(limit))


def message(ex: Guarded, name: str, *args: Any, **kwargs: Any) -> str:
    """The error message of calling this function."""
    with pytest.raises(Wrong) as error:
        getattr(ex, name)(*args, **kwargs)
    assert type(error.value) is Wrong
    return error.value.message


# --- the three outcomes ---

STUBS = """
def double(x):
    raise NotImplementedError("Exercise 1.1: double")

def treble(x):
    raise NotImplementedError("Exercise 1.2: treble")

def both(x):
    return double(x) + treble(x)

def three(x):
    return treble(x)

def begun(x):
    y = 2 * x
    raise NotImplementedError("Exercise 1.1: begun")
"""


def test_the_exercises_own_stub_is_not_started(tmp_path):
    with pytest.raises(NotStarted, match=r"^1\.1 double$"):
        exercises(tmp_path, STUBS).double(3)


def test_the_stub_of_another_exercise_is_named(tmp_path):
    said = message(exercises(tmp_path, STUBS), "three", 3)
    assert said == "it calls treble (1.2), which is still to do"


def test_the_exercises_own_stub_is_not_started_however_it_is_reached(tmp_path):
    with pytest.raises(NotStarted):
        exercises(tmp_path, STUBS).both(3)


def test_a_leftover_raise_is_wrong(tmp_path):
    said = message(exercises(tmp_path, STUBS), "begun", 3)
    assert said == "line 16 still raises NotImplementedError: delete that line"


def test_a_function_that_works_returns_what_it_returns(tmp_path):
    ex = exercises(tmp_path, "def double(x, times=2):\n    return times * x\n")
    assert ex.double(3) == 6
    assert ex.double(x=3, times=3) == 9
    assert history.calls[-1].kwargs == {"x": 3, "times": 3}


# --- effects ---

SAVES = """
def save(folder, text):
    (folder / "saved").write_text(text, encoding="utf-8")

def stub(folder, text):
    raise NotImplementedError("Exercise 1.1: stub")

def breaks(folder, text):
    return text / 2
"""


def test_what_a_function_did_is_compared_in_place_of_its_result(tmp_path):
    def shouts(folder, text):
        """all letters are capitals"""
        (folder / "saved").write_text(text.upper(), encoding="utf-8")

    def saves_twice(folder, text):
        """the text is there twice"""
        (folder / "saved").write_text(text + text, encoding="utf-8")

    def what_is_saved(save, folder, text):
        save(folder, text)
        return (folder / "saved").read_text(encoding="utf-8")

    ex = exercises(tmp_path, SAVES, {"save": [shouts, saves_twice]})
    save = observed(ex, "save", what_is_saved)
    expect_equal(save(tmp_path, "hello"), "hello", what="what is saved")
    assert history.refuted == {"all letters are capitals", "the text is there twice"}
    with pytest.raises(Wrong) as error:
        expect_equal(save(tmp_path, "hello"), "hallo", what="what is saved")
    assert error.value.explained_by == frozenset()
    saved = save(tmp_path, "HELLO")
    with pytest.raises(Wrong, match=r"^save\(") as error:
        expect_equal(saved, "hello", what="what is saved")
    assert error.value.explained_by == {"all letters are capitals"}


def test_the_outcomes_of_an_observed_function_are_the_usual_ones(tmp_path):
    ex = exercises(tmp_path, SAVES)
    with pytest.raises(NotStarted, match=r"^1\.1 stub$"):
        observed(ex, "stub", lambda save, *args: save(*args))(tmp_path, "hello")
    with pytest.raises(Wrong, match="unsupported operand"):
        observed(ex, "breaks", lambda save, *args: save(*args))(tmp_path, "hello")
    with pytest.raises(Wrong, match="missing from the file"):
        observed(ex, "gone", lambda save, *args: save(*args))


RAISING = """
class Odd(BaseException):
    pass

def error(x): return x @ x
def leaves(x): raise SystemExit(3)
def odd(x): raise Odd("here")
def stops(x): raise GeneratorExit
def interrupts(x): raise KeyboardInterrupt
def later(x): raise NotImplementedError("later")
def in_c(x): return torch.empty(2, device="meta").cpu()
def in_python(x): return nn.Module()(x)
def deep(x): return deep(x)
def asks(x): return input()
def signature(): return 1
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("error", "line 5: RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("leaves", "it exits Python: line 6: SystemExit: 3"),
        ("odd", "line 7: _learner_01_first_exercises.Odd: here"),
        ("stops", "line 8: GeneratorExit"),
        ("interrupts", "line 9: KeyboardInterrupt"),
        ("later", "line 10: NotImplementedError: later"),
        ("in_c", "line 11: NotImplementedError: Cannot copy out of meta tensor"),
        ("in_python", "line 12: NotImplementedError: Module [Module] is missing"),
        ("deep", "line 13: RecursionError: maximum recursion depth exceeded"),
        ("asks", "line 14: OSError: "),
        ("signature", "TypeError: signature() takes 0 positional arguments but 1"),
    ],
)
def test_any_error_is_reported_with_the_call_and_the_line(tmp_path, name, said):
    ex = exercises(tmp_path, RAISING)
    call, told = message(ex, name, torch.zeros(2, 3)).split("\n", maxsplit=1)
    argument = "" if name == "signature" else "x="
    assert call == f"{name}({argument}[[0, 0, 0], [0, 0, 0]])"
    assert told.startswith(said)
    assert isinstance(history.calls[-1].error, BaseException)


HELPED = """
def helper(x):
    return x @ x

def direct(x):
    y = x + 1
    return helper(y)

def deeper(x):
    return direct(x)

class Layer(nn.Module):
    def forward(self, x):
        return helper(x)

def in_lambda(x):
    return (lambda y: y @ y)(x)

def by_torch(x):
    return torch.stack([x, x[0]])
"""


@pytest.mark.parametrize(
    ("name", "line", "code"),
    [
        ("direct", 7, "return helper(y)"),
        ("deeper", 10, "return direct(x)"),
        ("in_lambda", 17, "return (lambda y: y @ y)(x)"),
        ("by_torch", 20, "return torch.stack([x, x[0]])"),
        ("helper", 3, "return x @ x"),
    ],
)
def test_the_line_is_that_of_the_exercises_own_function(tmp_path, name, line, code):
    _, said, source, *_ = message(exercises(tmp_path, HELPED), name, torch.zeros(2, 3)).splitlines()
    assert said.startswith(f"line {line}: RuntimeError: ")
    assert source == f"    {code}"


def test_the_line_of_a_class_is_that_of_its_method(tmp_path):
    layer = exercises(tmp_path, HELPED).Layer()
    with pytest.raises(Wrong, match=r"\nline 14: RuntimeError: .*\n    return helper\(x\)\n"):
        layer(torch.zeros(2, 3))


def test_a_raw_error_is_followed_by_plain_words(tmp_path):
    *_, last = message(exercises(tmp_path, HELPED), "direct", torch.zeros(2, 3)).splitlines()
    assert last.startswith("In plain words: in a @ b the last axis of a must be as long as")


def test_a_state_that_is_refused_is_told_in_plain_words(tmp_path):
    text = "def f(x): nn.BatchNorm1d(3).load_state_dict({})\n"
    _, first, code, last = message(exercises(tmp_path, text), "f", 1).splitlines()
    assert first == "line 2: load_state_dict: the state lacks weight, bias and 2 more"
    assert code == "    def f(x): nn.BatchNorm1d(3).load_state_dict({})"
    assert last.startswith("In plain words: save a copy of all that state_dict() gives")


def test_an_error_of_unknown_cause_is_not_explained(tmp_path):
    text = "def f(x): raise ValueError('own words')\n"
    assert "In plain words" not in message(exercises(tmp_path, text), "f", 1)


NAMED = """
def f(x, dim=-1, *rest, mask=None, **more): return x @ x
def of_any(*xs): return xs[0] @ xs[0]
def only_by_position(x, /): return x @ x
"""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda ex, x: ex.f(x, 1), "f(x=[[0, 0, 0], [0, 0, 0]], dim=1)"),
        (lambda ex, x: ex.f(x=x, mask=x[0]), "f(x=[[0, 0, 0], [0, 0, 0]], mask=[0, 0, 0])"),
        (lambda ex, x: ex.f(x, 1, 2, other=3), "f(x=[[0, 0, 0], [0, 0, 0]], dim=1, 2, other=3)"),
        (lambda ex, x: ex.of_any(x, 4), "of_any([[0, 0, 0], [0, 0, 0]], 4)"),
        (lambda ex, x: ex.only_by_position(x), "only_by_position(x=[[0, 0, 0], [0, 0, 0]])"),
    ],
)
def test_arguments_are_named_as_in_the_learners_signature(tmp_path, call, said):
    with pytest.raises(Wrong) as error:
        call(exercises(tmp_path, NAMED), torch.zeros(2, 3))
    assert error.value.message.splitlines()[0] == said


def test_an_outcome_passes_through_an_outer_call(tmp_path):
    ex = exercises(tmp_path, f"{STUBS}\ndef apply(f, x): return f(x)\n")
    assert message(ex, "apply", ex.three, 3) == "it calls treble (1.2), which is still to do"
    with pytest.raises(NotStarted):
        ex.apply(ex.double, 3)


def test_ctrl_c_is_not_the_learners_mistake(tmp_path):
    text = f"import signal\ndef wait(x): signal.raise_signal({int(signal.SIGINT)})\n"
    with pytest.raises(KeyboardInterrupt):
        exercises(tmp_path, text).wait(1)


def test_a_misconception_that_raises_the_same_error_explains_it(tmp_path):
    def axes(x: Tensor) -> Tensor:
        """the axes do not fit"""
        return x @ x

    ex = exercises(tmp_path, RAISING, {"error": [axes]})
    with pytest.raises(Wrong) as error:
        ex.error(torch.zeros(2, 3))
    assert error.value.explained_by == {"the axes do not fit"}


def test_warnings_do_not_stop_a_call_or_change_the_filters(tmp_path):
    ex = exercises(
        tmp_path,
        """
        import warnings

        def warn(x):
            warnings.simplefilter("ignore")
            warnings.warn("old")
            return x.T.sum()
        """,
    )
    ex.warn(torch.zeros(2, 3, 4))
    with pytest.raises(UserWarning):
        warnings.warn("this run turns warnings into errors", stacklevel=1)


# --- what the file lacks ---


def test_a_missing_function_is_reported_with_the_reset_command(tmp_path):
    for text in ("", "double = None", "def duoble(x):\n    return 2 * x\n"):
        with pytest.raises(Wrong) as error:
            _ = exercises(tmp_path, text).double
        assert (
            error.value.message
            == f"double is missing from the file: undo that, or restore the stub: {RESET}"
        )


@pytest.mark.parametrize(("text", "kind"), [("3", "an int"), ("torch.ones(2)", "a tensor")])
def test_a_value_in_place_of_a_function_is_reported(tmp_path, text, kind):
    ex = exercises(tmp_path, f"double = {text}\n")
    with pytest.raises(Wrong) as error:
        ex.double(3)
    assert error.value.message == f"double is {kind}; expected a function"


def test_a_file_that_fails_to_load_gives_every_exercise_the_same_message(tmp_path):
    learner = learner_of(tmp_path, "1 / 0\n")
    for name in ("double", "treble"):
        with pytest.raises(BrokenFile) as error:
            getattr(Guarded(learner, EXERCISE, {}, Clock()), name)(1)
        assert error.value.message.startswith("exercises.py fails to load: line 2: ZeroDiv")


def test_an_unreadable_file_is_reported_with_the_reason(tmp_path):
    learner = LearnerModule(LoadError("exercises.py is missing"))
    with pytest.raises(BrokenFile, match=r"^exercises\.py is missing$"):
        _ = Guarded(learner, EXERCISE, {}, Clock()).double


def test_a_file_that_does_not_finish_loading_is_reported_with_the_line(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "Clock", functools.partial(Clock, 0.2))
    learner = learner_of(tmp_path, "x = 1\nwhile True:\n    pass\n")
    said = "exercises.py does not finish loading: still running after 0 seconds at line "
    assert learner.problem in [
        f"{said}{line}; is there an endless loop, or is it too slow?" for line in (3, 4)
    ]


# --- inputs that must stay as they are ---

SPOILING = """
def multiplies(x): x *= 2
def fills(x): x[0] = 5
def deeper(x): x[1][0].zero_()
def appends(x): x.append(1)
def drops(x): x.pop()
def sorts(x): x.sort()
def turns(x): x.t_()
def replaces(x): x[0] = "gone"
def adds(x): x["new"] = 1
def changes(x): x["old"] = 2
def reshapes(x): x.shape = (3, 2)
def grows(x): x.add(7)
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("multiplies", torch.ones(2, 3)),
        ("multiplies", np.ones(3)),
        ("fills", torch.ones(2, 3)),
        ("fills", np.ones(3)),
        ("fills", [1, 2, 3]),
        ("deeper", (1, [torch.ones(2)])),
        ("appends", [1, 2]),
        ("drops", [1, 2]),
        ("sorts", [3, 1, 2]),
        ("sorts", ["b", "a"]),
        ("turns", torch.ones(2, 3)),
        ("turns", torch.ones(2, 3, device="meta")),
        ("replaces", [torch.ones(2)]),
        ("replaces", [np.ones(2)]),
        ("replaces", [[1], [2]]),
        ("replaces", [{"a": 1}]),
        ("adds", {"old": 1}),
        ("changes", {"old": 1}),
        ("reshapes", np.ones((2, 3))),
        ("grows", {1, 2}),
    ],
)
def test_a_changed_input_is_wrong(tmp_path, name, value):
    ex = exercises(tmp_path, SPOILING)
    told = message(ex, name, value)
    assert "changes its input x, which the caller still needs: compute a new" in told
    way_out = {"appends": "a new list instead", "adds": "a new dict instead"}
    assert way_out.get(name, "a new ") in told


def test_a_changed_keyword_is_named(tmp_path):
    ex = exercises(tmp_path, "def f(x, *, mask): mask |= True\n")
    assert "its input mask," in message(ex, "f", torch.ones(2), mask=torch.zeros(2).bool())


def test_inputs_of_a_constructor_are_compared_too(tmp_path):
    ex = exercises(tmp_path, "class Box:\n    def __init__(self, items): items.clear()\n")
    assert "its input items," in message(ex, "Box", [1])


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.0, float("nan")]),
        torch.ones(2, device="meta"),
        nn.Parameter(torch.ones(2)),
        np.array([1.0, float("nan")]),
        [1, float("nan"), "a", None, (2, [3])],
        {"a": [torch.ones(1)], "b": {1, 2}},
        torch.Generator(),
        nn.Linear(2, 2),
        len,
        iter([1]),
        torch.float32,
        slice(1, 2),
    ],
)
def test_reading_an_input_is_fine(tmp_path, value):
    assert exercises(tmp_path, "def look(x): return 1\n").look(value) == 1


def test_replacing_nan_counts_as_a_change():
    before = torch.tensor([1.0, float("nan")])
    assert not unchanged(before, torch.tensor([1.0, 0.0]))
    assert not unchanged(before, before.double())


# --- time ---


LOOPS = """
def endless(x):
    while True:
        x = x + 1

def stubborn(x):
    try:
        n = 0
        while True:
            n += 1
    except Exception:
        return 0

def gives_in(x):
    try:
        n = 0
        while True:
            n += 1
    except BaseException:
        return 7

def works(x):
    return x
"""


@pytest.mark.parametrize("name", ["endless", "stubborn"])
def test_an_endless_loop_is_interrupted_and_reported_with_its_line(tmp_path, name):
    ex = exercises(tmp_path, LOOPS, limit=0.2)
    told = message(ex, name, 1)
    assert told.startswith(f"{name}(x=1)\nstill running after 0 seconds at line ")
    assert told.endswith("; is there an endless loop, or is it too slow?")


def test_when_the_time_is_up_the_rest_of_the_exercise_is_not_tried(tmp_path):
    ex = exercises(tmp_path, LOOPS, limit=0.2)
    told = message(ex, "endless", 1)
    assert message(ex, "works", 1) == told.removeprefix("endless(x=1)\n")
    assert exercises(tmp_path, LOOPS).works(1) == 1


def test_catching_every_exception_gains_no_time(tmp_path):
    ex = exercises(tmp_path, LOOPS, limit=0.2)
    assert ex.gives_in(1) == 7
    assert (
        message(ex, "works", 1)
        == "still running after 0 seconds; is there an endless loop, or is it too slow?"
    )


def test_the_calls_of_an_exercise_share_one_clock():
    clock = Clock(limit=60.0)
    for _ in range(3):
        clock.run(lambda: time.sleep(0.2))
    assert 0.6 / guard.PATIENCE <= clock.spent < 10
    with pytest.raises(ZeroDivisionError):
        clock.run(lambda: 1 / 0)
    clock.spent = 59.8
    with pytest.raises(TimeUp):
        clock.run(lambda: spin(5))


def test_the_time_limit_message_has_duration_and_line():
    assert Clock(10.0, where="line 7").message() == (
        "still running after 10 seconds at line 7; is there an endless loop, or is it too slow?"
    )


def test_python_loops_are_interrupted_before_the_worker_is_killed():
    assert guard.SECONDS * guard.PATIENCE < runner.SILENCE < runner.STARTUP
    assert guard.SECONDS * guard.BUSY < runner.SILENCE * runner.LONGEST_SILENCE


def test_only_processor_time_counts_in_full():
    start = guard.moment()
    time.sleep(0.5)
    waited = guard.seconds_since(start)
    assert waited >= 0.5 / guard.PATIENCE
    processor, wall = guard.moment()
    assert guard.seconds_since((processor - 3, wall - 3)) >= 3
    assert guard.seconds_since((processor - 9, wall - 3)) < 9  # of several threads


def test_who_waits_for_a_busy_machine_gets_more_time_than_who_sleeps():
    processor, wall = guard.moment()
    busy = guard.seconds_since((processor - 2, wall - 18))  # a ninth of a processor
    asleep = guard.seconds_since((processor, wall - 18))
    assert 2 <= busy < 0.9 * guard.SECONDS
    assert asleep > guard.SECONDS


def test_code_that_waits_for_a_busy_machine_is_not_late(monkeypatch):
    monkeypatch.setattr(guard, "PATIENCE", 1000.0)
    assert call_within(0.05, lambda: time.sleep(0.4) or "done") == "done"


def test_code_that_only_waits_is_interrupted_too(monkeypatch):
    monkeypatch.setattr(guard, "PATIENCE", 2.0)

    def wait() -> None:
        for _ in range(200):
            time.sleep(0.05)

    start = time.perf_counter()
    with pytest.raises(TimeUp):
        call_within(0.1, wait)
    assert time.perf_counter() - start < 9


def test_two_thousand_calls_are_cheap_and_leave_no_threads():
    before, start = threading.active_count(), time.perf_counter()
    assert [call_within(60.0, lambda: 1) for _ in range(2000)] == [1] * 2000
    assert time.perf_counter() - start < 10  # about 0.3 s on an idle machine
    wait_until(lambda: threading.active_count() <= before)


def wait_until(done: Any) -> None:
    """Wait a while for a condition; returns whether it became true."""
    end = time.perf_counter() + 5
    while not done() and time.perf_counter() < end:
        time.sleep(0.01)
    assert done()


def spin(seconds: float) -> None:
    """Keep Python busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_results_and_exceptions_pass_through():
    assert call_within(60.0, lambda: "result") == "result"
    with pytest.raises(KeyError):
        call_within(60.0, lambda: {}["missing"])


def test_the_inner_limit_comes_first_and_the_outer_one_still_holds():
    def outer() -> None:
        with pytest.raises(TimeUp):
            call_within(0.1, lambda: spin(5))
        reached.append("inner")
        spin(5)

    reached: list[str] = []
    with pytest.raises(TimeUp):
        call_within(0.6, outer)
    assert reached == ["inner"]


def test_an_outer_limit_interrupts_an_inner_call():
    start = time.perf_counter()
    with pytest.raises(TimeUp):
        call_within(0.1, lambda: call_within(60.0, lambda: spin(5)))
    assert time.perf_counter() - start < 4


def test_the_exception_is_raised_again_until_the_function_ends():
    def stubborn() -> int:
        try:
            spin(20)
        except TimeUp:
            spin(20)
        return 1

    with pytest.raises(TimeUp):
        call_within(0.05, stubborn)


def test_only_the_watched_thread_is_interrupted():
    ends: list[float] = []
    other = threading.Thread(target=lambda: ends.append(spin(0.5) or 1.0))
    other.start()
    with pytest.raises(TimeUp):
        call_within(0.1, lambda: spin(5))
    other.join()
    assert ends == [1.0]


def test_nothing_is_raised_after_the_function_has_returned():
    """The hardest case: limits that expire just when the function returns."""
    interrupted, before = 0, threading.active_count()
    for round_ in range(2000):
        try:
            call_within(0.0003, lambda round_=round_: spin(0.0001 + 0.0004 * (round_ % 7) / 7))
        except TimeUp:
            interrupted += 1
    spin(1.3)  # a watchdog that was not stopped raises once per second
    assert 0 < interrupted < 2000
    wait_until(lambda: threading.active_count() <= before)


# --- classes ---

LAYER = """
class Layer(nn.Module):
    def __init__(self, width, bias=True):
        super().__init__()
        self.linear = nn.Linear(width, width, bias=bias)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return -self.dropout(self.linear(x))

class Stub(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x):
        raise NotImplementedError("Exercise 1.1: Stub.forward")

class Late(nn.Module):
    def __init__(self):
        raise NotImplementedError("Exercise 1.1: Late.__init__")

class Spoils(nn.Module):
    def forward(self, x):
        x += 1
        while True:
            pass

class Forgets(nn.Module):
    def __init__(self):
        self.linear = nn.Linear(2, 2)

class Plain:
    def __init__(self, size):
        self.size = size
"""


class Right(nn.Module):
    """The right answer."""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=bias)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear(x))


class Negative(Right):
    """the sign is wrong"""

    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


class WithoutBias(Right):
    """the bias is missing"""

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x @ self.linear.weight.T)


def doubled(x: Tensor) -> Tensor:
    """this is not a class"""
    return 2 * x


@pytest.mark.parametrize("training", [True, False])
def test_misconception_modules_share_weights_mode_and_random_state(tmp_path, training):
    wrong = {"Layer": (Negative, WithoutBias, doubled)}
    layer = exercises(tmp_path, LAYER, wrong).Layer(3, bias=True)
    truth = Right(3)
    truth.load_state_dict(layer.state_dict())
    for module in (layer, truth):
        module.train(training)
    x, state = torch.randn(20, 3), torch.get_rng_state()
    result = layer(x)
    torch.set_rng_state(state)
    with pytest.raises(Wrong) as error:
        expect_equal(result, truth(x))
    assert error.value.explained_by == {"the sign is wrong"}
    assert error.value.message.startswith("Layer.forward(x=float32 (20, 3))\nthe result: the first")
    assert bool((result == 0).any()) == training


class Plus(nn.Module):
    """the layer's input is added"""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


def test_a_misconception_does_not_touch_the_modules_that_the_learners_was_given(tmp_path):
    text = """
class Wrapper(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x).square()
"""
    x, inner = torch.ones(3, 2, requires_grad=True), nn.Linear(2, 2)
    wrapper = exercises(tmp_path, text, {"Wrapper": (Plus,)}).Wrapper(inner)
    result = wrapper(x)
    expect_equal(result, inner(x).square())  # runs the misconception, too
    result.sum().backward()
    assert x.grad is not None


def test_a_guarded_module_is_the_learners_own(tmp_path):
    ex = exercises(tmp_path, LAYER)
    layer = ex.Layer(width=2)
    assert isinstance(layer, nn.Module)
    assert type(layer).__name__ == "Layer"
    assert set(layer.state_dict()) == {"linear.weight", "linear.bias"}
    layer(torch.ones(1, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("name", ["Stub", "Late"])
def test_a_method_that_is_a_stub_is_not_started(tmp_path, name):
    ex = exercises(tmp_path, LAYER)
    with pytest.raises(NotStarted, match=rf"^1\.1 {name}\."):
        getattr(ex, name)()(torch.ones(2))


def test_errors_in_a_class_are_reported(tmp_path):
    ex = exercises(tmp_path, LAYER, limit=0.3)
    said = message(ex, "Forgets")
    assert said.startswith("Forgets()\nline 30: AttributeError: cannot assign module")
    with pytest.raises(Wrong, match=r"^Spoils.forward\(x=\[1, 1\]\)\nstill running after"):
        ex.Spoils()(torch.ones(2))


def test_the_inputs_of_forward_are_compared(tmp_path):
    text = "class Adds(nn.Module):\n    def forward(self, x): return x.add_(1)\n"
    with pytest.raises(Wrong, match="changes its input x"):
        exercises(tmp_path, text).Adds()(torch.ones(2))


def test_a_class_that_is_not_a_module_can_be_used(tmp_path):
    assert exercises(tmp_path, LAYER).Plain(3).size == 3


# --- the state of PyTorch ---

SWITCHES = [
    "torch.set_default_dtype(torch.float64)",
    "torch.set_grad_enabled(False)",
    "torch.set_default_device('meta')",
    "torch.set_autocast_enabled('cpu', True)",
    "torch.use_deterministic_algorithms(True)",
    "torch.manual_seed(7), torch.rand(3)",
    "np.random.seed(7)",
    "torch.set_num_threads(3)",
]


def state_of_pytorch() -> list[Any]:
    return [
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.empty(0).device.type,
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state().tolist(),
        str(np.random.get_state()),
        torch.get_num_threads(),
    ]


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_changed_setting_is_restored(tmp_path, switch):
    before = state_of_pytorch()
    ex = exercises(tmp_path, f"def switch(): {switch}\n")
    with restored_state():
        ex.switch()
        assert state_of_pytorch() != before
    assert state_of_pytorch() == before


@pytest.mark.parametrize("switch", SWITCHES)
def test_settings_changed_by_loading_a_file_are_restored(tmp_path, switch):
    before = state_of_pytorch()
    learner_of(tmp_path, f"{switch}\n1 / 0\n")
    assert state_of_pytorch() == before


def test_the_state_is_restored_if_the_test_fails():
    before = state_of_pytorch()
    with pytest.raises(Wrong), restored_state():
        torch.set_default_dtype(torch.float64)
        raise Wrong("so")
    assert state_of_pytorch() == before
