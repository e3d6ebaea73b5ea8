"""The runner, its worker and the pytest plugin: every exercise gets its own verdict."""

import contextlib
import copy
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import textwrap
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from utils.errors import CourseError
from utils.grader import runner as engine
from utils.grader import worker
from utils.grader.exercises import ROOT, Lesson, how_to, read_lesson
from utils.grader.report import SOLVED, TO_DO, WRONG, Case, Verdict
from utils.grader.runner import (
    Worker,
    cached_verdicts,
    content_key,
    judge,
    progress,
    read_state,
    source_files,
    state_file,
    write_state,
)

# The tests fork their workers (conftest.py); this is how they start for a learner.
START = Worker.start_process


@pytest.fixture
def as_for_a_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are new processes, which import torch."""
    monkeypatch.setattr(Worker, "start_process", START)


# --- a small course ---

HEAD = """import os, sys, threading, time, warnings
import numpy as np
import torch
from torch import Tensor, nn
"""
TESTS = '''
import numpy as np
import pytest
import torch

from utils.grader.feedback import expect, expect_equal, expect_same_gradients


def state():
    """Settings that a learner's code may change, and that must be restored."""
    return [
        torch.get_default_dtype(), torch.is_grad_enabled(), torch.empty(0).device,
        torch.get_num_threads(), torch.get_rng_state().tolist(), str(np.random.get_state()),
    ]


AT_FIRST = state()


def judge(function):
    expect(state() == AT_FIRST, "PyTorch is not as it was")
    x = torch.arange(6.0).view(2, 3).requires_grad_()
    result = function(x)
    expect_equal(result, 2 * x, what="the result (2, 3)")
    expect_same_gradients(result, 2 * x, {"x": x})
'''
CONFTEST = 'pytest_plugins = ["utils.grader.pytest_plugin"]\n'
CONFIG = """
[tool.pytest.ini_options]
addopts = "--strict-markers --strict-config -ra"
filterwarnings = ["error"]
"""
RIGHT = "return 2 * x"
EVENT = '{"event": "end", "code": 0}'  # the last event of a worker
STUB = "STUB"  # stands for the untouched body


def function(number: int, name: str, body: str) -> str:
    """An exercise, its body indented."""
    if body == STUB:
        body = f'raise NotImplementedError("Exercise 1.{number}: {name}")  # TODO'
    doc = f'"""Exercise 1.{number}: twice x."""'
    return f"\n\ndef {name}(x):\n    {doc}\n{textwrap.indent(body, '    ')}\n"


def build(
    root: Path,
    bodies: Mapping[str, str],
    *,
    head: str = HEAD,
    conftest: str = "",
    judges: Mapping[str, str] | None = None,
    misconceptions: str = "MISCONCEPTIONS = {}\n",
) -> Lesson:
    """A course of one lesson; each exercise is to return twice x, and these are the answers.

    `judges` are the bodies of tests that ask for something else, by the name of the exercise.
    """
    items = list(enumerate(bodies.items(), start=1))
    entries = [
        {"id": f"1.{number}", "title": name, "kind": "write", "stubs": [name], "minutes": 1}
        | {"difficulty": 1, "why": "so", "hints": ["a", "b", "c"], "judge": [f"test_{name}"]}
        for number, (name, _) in items
    ]
    asked = {name: f"judge(ex.{name})" for name in bodies} | dict(judges or {})
    tests = [f"\n\ndef test_{name}(ex):\n    {body}\n" for name, body in asked.items()]
    answers = [function(number, name, body) for number, (name, body) in items]
    solutions = [function(number, name, RIGHT) for number, (name, _) in items]
    files = {
        "conftest.py": CONFTEST + conftest,
        "pyproject.toml": CONFIG,
        "requirements.txt": "torch\n",
        "01_first/exercises/exercises.py": head + "".join(answers),
        "01_first/exercises/solutions.py": HEAD + "".join(solutions),
        "01_first/exercises/exercises.yaml": json.dumps(entries),
        "01_first/tests/test_first_exercises.py": TESTS + "".join(tests),
        "01_first/tests/first_misconceptions.py": misconceptions,
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_lesson(root / "01_first")


def by_name(lesson: Lesson, verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Verdicts by the name of the exercise's function."""
    return {one.title: verdicts[one.id] for one in lesson.exercises}


# --- what may stand in an exercise: all of these in one file, judged by one process ---

# name: body, outcome, what the message says; LINE is where "# here" stands
CASES: dict[str, tuple[str, str, str]] = {
    "solved": (RIGHT, SOLVED, ""),
    "handed_out": (STUB, TO_DO, ""),
    "commented": ('# how?\n\nraise NotImplementedError("Exercise 1.3: so far")', TO_DO, ""),
    "begun": (
        'y = 2 * x\nraise NotImplementedError("Exercise 1.4: begun")  # here\nreturn y',
        WRONG,
        "line LINE still raises NotImplementedError: delete that line",
    ),
    "calls_a_stub": ("return handed_out(x)", WRONG, "it calls handed_out (1.2), which is still t"),
    "torch_in_c": (
        "return torch.empty(2, device='meta').cpu()  # here",
        WRONG,
        "line LINE: NotImplementedError: Cannot copy out of meta tensor",
    ),
    "torch_in_python": (
        "return nn.Module()(x)  # here",
        WRONG,
        "line LINE: NotImplementedError: Module [Module] is missing",
    ),
    "own_words": ("raise NotImplementedError('l')  # here", WRONG, "line LINE: NotImplementedErro"),
    # answers in another style
    "einsum": ("return torch.einsum('ij,->ij', x, torch.tensor(2.0))", SOLVED, ""),
    "loops": ("return torch.stack([torch.stack([v + v for v in row]) for row in x])", SOLVED, ""),
    "in_float64": ("return (x.double() * 2).float()", SOLVED, ""),
    # answers of a wrong type, shape or value
    "none": ("x * 2", WRONG, "the result (2, 3): got None; is a return missing?"),
    "array": ("return x.detach().numpy()", WRONG, "this is a NumPy array; expected a tensor"),
    "a_list": ("return (2 * x).tolist()", WRONG, "this is a list; expected a tensor"),
    "a_float": ("return 2.0", WRONG, "this is a float; expected a tensor"),
    "shape": ("return 2 * x.T", WRONG, "shape (3, 2); expected (2, 3)"),
    "dtype": ("return 2 * x.double()", WRONG, "dtype torch.float64; expected torch.float32"),
    "device": ("return (2 * x).to('meta')", WRONG, "on device meta; expected cpu"),
    "values": ("return 3 * x", WRONG, "the first difference at [0, 1]: got 3, expected 2 (5 of 6"),
    "nan": ("return 2 * x.masked_fill(x == 5, torch.nan)", WRONG, "got nan, expected 10"),
    "detached": ("return 2 * x.detach()", WRONG, "the values are right, but no gradient flows"),
    # side effects and errors
    "in_place": ("with torch.no_grad(): x *= 2\nreturn x", WRONG, "changes its input x,"),
    "raises": ("return x @ x  # here", WRONG, "line LINE: RuntimeError: mat1 and mat2"),
    "exits": ("sys.exit('bye')  # here", WRONG, "it exits Python: line LINE: SystemExit: bye"),
    "interrupts": ("raise KeyboardInterrupt  # here", WRONG, "line LINE: KeyboardInterrupt"),
    "odd_base": ("raise type('Odd', (BaseException,), {})  # here", WRONG, "line LINE: "),
    "recursion": ("return recursion(x)  # here", WRONG, "line LINE: RecursionError: max"),
    "loop": ("while True: x = x + 1  # here", WRONG, "still running after 1 seconds at line LINE;"),
    "debugs": (
        "breakpoint()  # here\nreturn 2 * x",
        WRONG,
        "line LINE: NoTerminalError: brea",
    ),
    "debugs_too": ("import pdb\npdb.set_trace()  # here", WRONG, "line LINE: NoTerminalErr"),
    "asserts": (
        "assert x is None  # here\nreturn 2 * x",
        WRONG,
        "line LINE: AssertionError",
    ),
    "asks": (
        "return float(input()) * x  # here",
        WRONG,
        "line LINE: NoTerminalError: input() needs a t",
    ),
    "deleted": (RIGHT, WRONG, "deleted is missing from the file: "),
    "emptied": (RIGHT, WRONG, "emptied is missing from the file: "),
    "replaced": (RIGHT, WRONG, "replaced is an int; expected a function"),
    "signature": (RIGHT, WRONG, "TypeError: signature() takes 0 positional arguments"),
    # output
    "megabytes": (
        "print('x' * 5_000_000)\nreturn x",
        WRONG,
        "the result (2, 3): the first difference",
    ),
    "unprintable": (
        "print('\\x1b[2J\\0\\ud800')\nreturn x",
        WRONG,
        "the result (2, 3): the first dif",
    ),
    "prints": ("print('hello')\nreturn x", WRONG, "the result (2, 3): the first difference"),
    "past_capture": (f"print({EVENT!r}, file=sys.__stdout__, flush=True)\n{RIGHT}", SOLVED, ""),
    "past_python": (f"os.write(1, b'noise\\n'), os.write(2, b'noise\\n')\n{RIGHT}", SOLVED, ""),
    "closes_one": (f"os.close(1)\n{RIGHT}", SOLVED, ""),
    "no_stdout": (f"sys.stdout = None\n{RIGHT}", SOLVED, ""),
    "warns": (f"warnings.warn('old')\nx.detach()[None].T\n{RIGHT}", SOLVED, ""),
    "threads": (f"threading.Thread(target=threading.Event().wait).start()\n{RIGHT}", SOLVED, ""),
    "bad_thread": (f"threading.Thread(target=int, args='x').start()\n{RIGHT}", SOLVED, ""),
    "bad_object": (f"o = type('O', (), {{'__del__': 1}})()\no.o = o\n{RIGHT}", SOLVED, ""),
    "collects": (f"import gc\ngc.collect()\n{RIGHT}", SOLVED, ""),
    # settings
    "default_dtype": ("y = 2 * x\ntorch.set_default_dtype(torch.float64)\nreturn y", SOLVED, ""),
    "no_grad": (
        f"torch.set_grad_enabled(False)\n{RIGHT}",
        WRONG,
        "the values are right, but no gr",
    ),
    "meta": (
        f"torch.set_default_device('meta')\n{RIGHT}",
        WRONG,
        "the test cannot use the answer: ",
    ),
    "seed": (f"torch.manual_seed(7), torch.rand(3), np.random.seed(7)\n{RIGHT}", SOLVED, ""),
    "num_threads": (f"torch.set_num_threads(3)\n{RIGHT}", SOLVED, ""),
    "folder": (f"os.chdir('/')\n{RIGHT}", SOLVED, ""),
    # misconceptions, and tests of another kind
    "halves": ("return x / 2", WRONG, "the first difference at [0, 1]: got 0.5, expected 2"),
    "cuts": ("return 0 * x", WRONG, "the first difference at [0, 1]: got 0, expected 2"),
    "misjudged": (RIGHT, WRONG, "this is not how it is done"),
    "asserted": (
        "return 3",
        WRONG,
        "the test cannot use the answer: AssertionError: three is no answ",
    ),
    "ended": ("return sys.exit", WRONG, "the test cannot use the answer: SystemExit: 3"),
    "a_pair": ("return [x, np.float32(0.25)]", SOLVED, ""),
    "last": (RIGHT, SOLVED, ""),
}
JUDGES = {
    "misjudged": "pytest.fail('this is not how it is done')",
    "asserted": "assert ex.asserted(1) != 3, 'three is no answer'",
    "ended": "ex.ended(1)(3)",
    "a_pair": "expect_equal(ex.a_pair(3), (3, 0.25), what=('the number', 'its share'))",
}
MISCONCEPTIONS = '''
def halved(x):
    """the numbers are halved"""
    return x / 2


def zero(x):
    """all is zero"""
    return 0 * x


def nothing(x):
    """nothing is left"""
    return x - x


MISCONCEPTIONS = {"halves": (halved, zero), "cuts": (halved, zero, nothing)}
'''
AFTERWARDS = """

del deleted
emptied = None
replaced = 3


def signature():
    return 1
"""
SHORT_CLOCK = """
import functools
from utils.grader import guard
guard.Clock = functools.partial(guard.Clock, 1.0)  # saves time: the default is 5 s per endless loop
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    """A lesson with all of these exercises."""
    bodies = {name: body for name, (body, _, _) in CASES.items()}
    lesson = build(
        tmp_path_factory.mktemp("zoo"),
        bodies,
        conftest=SHORT_CLOCK,
        judges=JUDGES,
        misconceptions=MISCONCEPTIONS,
    )
    with lesson.file.open("a", encoding="utf-8") as file:
        file.write(AFTERWARDS)
    return lesson


@pytest.fixture(scope="module")
def judged_zoo(zoo: Lesson) -> dict[str, Verdict]:
    """The verdicts of one process on all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "start_process", START)
        verdicts, orderly = judge(zoo)
    assert orderly
    return by_name(zoo, verdicts)


@pytest.mark.parametrize("name", CASES)
def test_each_exercise_gets_its_own_verdict(zoo, judged_zoo, name):
    _, outcome, said = CASES[name]
    found = judged_zoo[name]
    above, _, below = zoo.file.read_text(encoding="utf-8").partition(f"def {name}(")
    line = (above + below.partition("# here")[0]).count("\n") + 1
    assert (found.outcome, found.message == "") == (outcome, outcome != WRONG), found.message
    assert said.replace("LINE", str(line)) in found.message
    assert (found.checks, found.failed, found.broken_file) == (1, int(outcome == WRONG), False)


def test_messages_begin_with_the_call(judged_zoo):
    for name in ("none", "shape", "in_place", "raises", "loop"):
        assert judged_zoo[name].message.startswith(f"{name}(x=[[0, 1, 2], [3, 4, 5]])\n")


def test_a_misconception_is_named_only_if_it_is_unique(judged_zoo):
    assert judged_zoo["halves"].diagnosis == "the numbers are halved"
    assert judged_zoo["cuts"].diagnosis == ""


def test_the_beginning_of_the_output_is_kept(judged_zoo):
    assert judged_zoo["prints"].printed == "hello\n"
    assert 100 < len(judged_zoo["megabytes"].printed) < 10_000


# --- what ends the process, or never comes back ---

STUBBORN = """
while True:
    try:
        n = 0
        while True:
            n += 1
    except BaseException:
        n = 0
"""
DEADLY = {  # name: body, what the message says
    "first": (RIGHT, ""),
    "leaves": ("os._exit(3)", "it ended the Python process (exit code 3)"),
    "between": ("return x + 1", "the result (2, 3): the first difference"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "it ended the Python process (exit code "),
    "closes": ("sys.stdout.close()", "the test cannot use the answer: ValueError: I/O"),
    "sleeps": (
        "time.sleep(1000)",
        "no response for 2 seconds; is there an endless loop, or is it too slow?",
    ),
    "waits": ("lock = threading.Lock()\nlock.acquire(), lock.acquire()", "no response for 2"),
    "stubborn": (
        STUBBORN,
        "no response for 2 seconds; is there an endless loop, or is it too slow?",
    ),
    "handed_out": (STUB, ""),
    "last": (RIGHT, ""),
}


class Relay:
    """Provides one worker after the other, starting the next while one works."""

    def __init__(self) -> None:
        self.workers = [Worker()]

    def __call__(self) -> Worker:
        self.workers.append(Worker())
        return self.workers[-2]

    def end(self) -> None:
        for process in self.workers:
            process.end()


def test_an_exercise_that_ends_or_blocks_the_process_is_wrong_and_the_rest_is_judged(
    tmp_path, monkeypatch
):
    bodies = {name: body for name, (body, _) in DEADLY.items()}
    lesson = build(tmp_path, bodies, conftest=SHORT_CLOCK)
    monkeypatch.setattr(engine, "SILENCE", 2.0)
    monkeypatch.setattr(engine, "LONGEST_SILENCE", 60.0)  # one of them computes all the time
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nonsense")  # a setting of the user
    seen: list[str] = []
    relay = Relay()
    with contextlib.ExitStack() as stack:
        stack.callback(relay.end)
        verdicts, orderly = judge(lesson, start=relay, on_exercise=seen.append)
        leaves_by_itself(relay.workers[-1])
    found = by_name(lesson, verdicts)
    for name, (_, said) in DEADLY.items():
        assert said in found[name].message
        assert (found[name].message == "") == (said == "")
        assert not found[name].broken_file
    outcomes = [each.outcome for each in found.values()]
    assert outcomes == [SOLVED, *[WRONG] * 7, TO_DO, SOLVED]
    assert not orderly
    assert seen == [exercise.id for exercise in lesson.exercises]
    assert len(relay.workers) == 1 + 6 + 1  # one per lost process, the last one, and a spare


def leaves_by_itself(process: Worker) -> None:
    """A worker whose input is closed ends by itself."""
    assert process.process.stdin is not None
    process.process.stdin.close()
    assert process.next_event(engine.STARTUP) == {"event": "ready"}
    assert process.next_event(engine.STARTUP) is None
    assert process.end(timeout=30) == 0


@pytest.mark.usefixtures("as_for_a_learner")
def test_one_process_does_one_job_after_the_other(tmp_path):
    lesson = build(tmp_path, {"one": "return 3 * x", "two": RIGHT})
    job = engine.job_for(lesson, ["1.1", "1.2"], False)
    outcomes = []
    with Worker() as process:
        for body in ("return 3 * x", RIGHT, STUB):
            text = HEAD + function(1, "one", body) + function(2, "two", RIGHT)
            lesson.file.write_text(text, encoding="utf-8")
            cases: dict[str, list[Case]] = defaultdict(list)
            assert engine.collect_cases(process, job, cases) is None
            outcomes.append([case.outcome for found in cases.values() for case in found])
    assert outcomes == [[WRONG, SOLVED], [SOLVED, SOLVED], [TO_DO, SOLVED]]


@pytest.mark.parametrize(
    ("top", "said"),
    [
        (
            "os._exit(3)",
            "exercises.py does not finish loading: it ended the Python process (exit code",
        ),
        ("1 +", "exercises.py, line 5: invalid syntax"),
    ],
)
def test_an_error_at_module_level_applies_to_all_exercises(tmp_path, top, said):
    lesson = build(tmp_path, {"one": RIGHT, "two": STUB}, head=f"{HEAD}{top}\n")
    verdicts, _ = judge(lesson)
    for found in verdicts.values():
        assert found.message.startswith(said)
        assert found.outcome == WRONG
        assert found.broken_file


def test_an_import_error_in_the_tests_is_one_line(tmp_path):
    lesson = build(tmp_path, {"one": RIGHT})
    lesson.test_file().write_text("import nothing_there\n", encoding="utf-8")
    with pytest.raises(CourseError) as error:
        progress(lesson)
    said = "the tests could not run: "
    assert str(error.value).startswith(said)
    assert "No module named 'nothing_there'" in str(error.value)
    assert "\n" not in str(error.value)
    assert not state_file(tmp_path).exists()


# --- a verdict comes from a test that ran ---

CONFLICT = "<<<<<<< HEAD\nMISCONCEPTIONS = {}\n=======\nMISCONCEPTIONS = {}\n>>>>>>> theirs\n"
SECOND = "01_first/tests/more_misconceptions.py"
KNOWN = "01_first/tests/first_misconceptions.py"


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        (
            SECOND,
            "MISCONCEPTIONS = {}\n",
            "must hold exactly one *_misconceptions.py; it holds 2 (",
        ),
        (KNOWN, None, "01_first/tests must hold exactly one *_misconceptions.py; it holds none"),
        (KNOWN, "def f(:\n", "01_first/tests/first_misconceptions.py, line 1: invalid syntax"),
        (KNOWN, CONFLICT, "01_first/tests/first_misconceptions.py, line 1: invalid syntax"),
        (KNOWN, "import nothing_there\n", "first_misconceptions.py fails to load: line 1: ModuleN"),
        (KNOWN, "X = 1\n", "first_misconceptions.py must define MISCONCEPTIONS, a dictionary"),
    ],
)
def test_an_error_before_a_test_runs_gives_no_verdict(tmp_path, name, text, cause):
    lesson = build(tmp_path, {"one": RIGHT, "two": STUB})
    path = tmp_path / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(CourseError) as error:
        progress(lesson)
    assert str(error.value).startswith("the tests could not run: ")
    assert cause in str(error.value)
    assert "\n" not in str(error.value)
    assert not state_file(tmp_path).exists()


def test_misconceptions_that_cannot_be_loaded_are_an_error_with_its_cause(tmp_path):
    lesson = build(tmp_path, {"one": RIGHT}, misconceptions=CONFLICT)
    job = {"root": str(tmp_path), "arguments": [engine.test_path(lesson), "--misconceptions"]}
    with (
        Worker() as process,
        pytest.raises(CourseError, match=r"first_misconceptions\.py, line 1: invalid syntax$"),
    ):
        engine.collect_cases(process, job, defaultdict(list))


@pytest.mark.parametrize(
    ("head", "cause"),
    [
        ("@pytest.fixture\ndef one_more(ex):\n    raise OSError('no data')\n", "OSError: no data"),
        ("", "fixture 'one_more' not found"),
    ],
)
def test_a_broken_fixture_is_an_error_with_its_cause(tmp_path, head, cause):
    lesson = build(tmp_path, {"one": RIGHT})
    tests = lesson.test_file().read_text(encoding="utf-8")
    tests = tests.replace("def test_one(ex)", f"{head}\n\ndef test_one(ex, one_more)")
    lesson.test_file().write_text(tests, encoding="utf-8")
    with pytest.raises(CourseError, match=rf"the tests could not run: test_one: {cause}"):
        progress(lesson)


@pytest.mark.parametrize("skip", ["@pytest.mark.skip", "@pytest.mark.parametrize('x', [])"])
def test_a_test_that_is_skipped_gives_no_verdict(tmp_path, skip):
    lesson = build(tmp_path, {"one": RIGHT})
    tests = lesson.test_file().read_text(encoding="utf-8")
    argument = ", x" * ("x" in skip)
    tests = tests.replace("def test_one(ex)", f"{skip}\ndef test_one(ex{argument})")
    lesson.test_file().write_text(tests, encoding="utf-8")
    with pytest.raises(CourseError, match=r"^01_first: no test ran for 1\.1$"):
        judge(lesson)


def test_a_test_that_skips_itself_gives_no_verdict(tmp_path):
    lesson = build(tmp_path, {"one": RIGHT}, judges={"one": "pytest.skip('no time')"})
    with pytest.raises(CourseError, match=r"^01_first: no test ran for 1\.1$"):
        judge(lesson)


# --- any folder, any environment ---


@pytest.mark.parametrize("name", ["a [b] c", "$HOME::100% 'x'"])
def test_the_folder_of_the_course_may_have_any_name(tmp_path, name):
    lesson = build(tmp_path / name, {"one": RIGHT, "two": "return x", "three": STUB})
    verdicts, _ = judge(lesson)
    assert [each.outcome for each in verdicts.values()] == [SOLVED, WRONG, TO_DO]


@pytest.mark.usefixtures("as_for_a_learner")
def test_assert_statements_count_under_pythonoptimize(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")  # would strip assert statements
    lesson = build(tmp_path, {"one": "assert x is None\nreturn 2 * x", "two": RIGHT})
    verdicts, _ = judge(lesson)
    assert [each.outcome for each in verdicts.values()] == [WRONG, SOLVED]
    assert "AssertionError" in verdicts["1.1"].message


# --- the events of a worker, and what the runner makes of them ---

Event = dict[str, Any] | type[queue.Empty]


def started(exercise: str) -> list[Event]:
    return [{"event": "start", "exercise": exercise}, {"event": "loaded"}]


def case(exercise: str, outcome: str, message: str = "") -> list[Event]:
    """The events of one test."""
    told = Case(exercise, outcome, message=message)
    return [*started(exercise), {"event": "case", **worker.as_json(told)}]


def ended(code: int = 0) -> list[Event]:
    return [{"event": "end", "code": code}]


class Scripted:
    """A worker that sends scripted events and then ends."""

    def __init__(self, *events: Sequence[Event]) -> None:
        self.events = [copy.copy(event) for group in events for event in group]
        self.job: dict[str, Any] = {}
        self.patience: list[float] = []
        self.processor: list[float] = []  # seconds used, at each look; then 0.0

    def send_job(self, job: dict[str, Any]) -> None:
        self.job = job

    def processor_seconds(self) -> float:
        return self.processor.pop(0) if self.processor else 0.0

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        self.patience.append(seconds)
        event = self.events.pop(0) if self.events else None
        if event is queue.Empty:
            raise queue.Empty
        return cast(Any, event)

    def end(self, timeout: float = 0.0) -> int:
        return 7

    def last_error(self) -> str:
        return "its last error"

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def tests(self) -> list[str]:
        return [argument.rpartition("::")[2] for argument in self.job["arguments"]]


def one_after_the_other(*workers: Scripted) -> Callable[[], Worker]:
    """A `start` for `judge` that provides each of these workers once."""
    left = list(workers)
    return lambda: cast(Worker, left.pop(0))


def no_worker() -> Worker:
    raise AssertionError("a process was started")


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    """Three exercises, which no process runs."""
    return build(tmp_path, {"one": RIGHT, "two": RIGHT, "three": STUB})


ALL = [*case("1.1", SOLVED), *case("1.2", WRONG, "no"), *case("1.3", TO_DO)]


def test_verdicts_come_from_the_reported_cases(lesson):
    process = Scripted(ALL, ended(1))
    verdicts, orderly = judge(lesson, start=one_after_the_other(process))
    assert [(one, each.outcome, each.message) for one, each in verdicts.items()] == [
        ("1.1", SOLVED, ""),
        ("1.2", WRONG, "no"),
        ("1.3", TO_DO, ""),
    ]
    assert orderly
    assert process.job["root"] == str(lesson.folder.parent)
    assert process.tests == ["test_one", "test_two", "test_three"]


def test_only_what_is_asked_for_is_judged(lesson):
    process = Scripted(case("1.2", SOLVED), ended())
    verdicts, _ = judge(lesson, ["1.2"], solutions=True, start=one_after_the_other(process))
    assert list(verdicts) == ["1.2"]
    assert process.tests == ["test_two", "--solutions"]


def test_the_callback_gets_each_exercise_once(lesson):
    twice = [*case("1.1", SOLVED), *case("1.1", SOLVED), *case("1.2", SOLVED)]
    seen: list[str] = []
    process = Scripted(twice, case("1.3", TO_DO), ended())
    judge(lesson, start=one_after_the_other(process), on_exercise=seen.append)
    assert seen == ["1.1", "1.2", "1.3"]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ([], "it ended the Python process (exit code 7)"),
        (
            [queue.Empty] * 2,
            "no response for 15 seconds; is there an endless loop, or is it too slow?",
        ),
    ],
)
def test_an_exercise_that_loses_the_process_is_wrong_and_the_next_process_continues(
    lesson, last, said
):
    lost = Scripted(case("1.1", SOLVED), started("1.2"), last)
    next_one = Scripted(case("1.3", TO_DO), ended())
    verdicts, orderly = judge(lesson, start=one_after_the_other(lost, next_one))
    assert [each.outcome for each in verdicts.values()] == [SOLVED, WRONG, TO_DO]
    assert verdicts["1.2"].message == said
    assert not verdicts["1.2"].broken_file
    assert not orderly
    assert next_one.tests == ["test_three"]


def test_passed_tests_do_not_save_an_exercise_that_loses_its_process(lesson):
    lost = Scripted(case("1.1", SOLVED), case("1.2", SOLVED), started("1.2"))
    next_one = Scripted(case("1.3", TO_DO), ended())
    verdicts, _ = judge(lesson, start=one_after_the_other(lost, next_one))
    assert (verdicts["1.2"].outcome, verdicts["1.2"].checks) == (WRONG, 2)


def test_a_file_that_loses_the_process_while_loading_is_not_loaded_again(lesson):
    lost = Scripted([{"event": "start", "exercise": "1.1"}])
    verdicts, orderly = judge(lesson, start=one_after_the_other(lost))
    assert all(each.broken_file and each.outcome == WRONG for each in verdicts.values())
    assert not orderly


def test_startup_may_take_longer_than_an_exercise(lesson):
    process = Scripted(ALL, ended())
    judge(lesson, start=one_after_the_other(process))
    first, *others = process.patience
    assert first == engine.STARTUP
    assert set(others) == {engine.SILENCE * (1 - engine.LOOK)}


# --- how long a silent process is waited for ---


def silent(processor: list[float], last: Event) -> Scripted:
    """A worker that is silent for as many looks as there are times, but the first; then `last`."""
    worker = Scripted([queue.Empty] * (len(processor) - 1), [last])
    worker.processor = [*processor]
    return worker


@pytest.mark.parametrize(
    "processor",
    [
        [7.0, 19.0, 22.0],  # it computes all the time
        [7.0, 8.0, 8.0],  # it has computed for a second, and sleeps
        [7.0, 8.0, 9.0, 10.0, 10.001],  # after a while it sleeps
        [7.0, 12.0, 14.0, 17.0, 20.0, 22.1],  # with half of a processor it takes longer
        [0.0, 0.0, 0.0],  # the system doesn't tell
    ],
)
def test_a_process_that_computes_or_sleeps_for_15_seconds_is_lost(processor):
    process = silent(processor, queue.Empty)
    with pytest.raises(queue.Empty):
        engine.patient_event(cast(Worker, process))
    assert sum(process.patience) == engine.SILENCE * (1 + engine.LOOK * (len(processor) - 3))


def test_a_process_that_waits_for_the_processor_is_waited_for():
    process = silent([7.0, 7.5, 7.7, 7.9, 8.1, 8.3], {"event": "end"})
    assert engine.patient_event(cast(Worker, process)) == {"event": "end"}
    assert sum(process.patience) > engine.SILENCE


def test_a_process_that_hardly_gets_the_processor_has_no_verdict(lesson):
    starved = Scripted(started("1.1"), [queue.Empty] * 17)
    starved.processor = [0.0] * 2 + [0.1 * look for look in range(17)]  # two events before
    cases: dict[str, list[Case]] = defaultdict(list)
    lost = engine.collect_cases(
        cast(Worker, starved), engine.job_for(lesson, ["1.1"], False), cases
    )
    assert lost is not None
    assert lost.is_starved
    assert lost.problem == (
        "no response for 60 seconds, in 2 of which it had the processor: the machine is too busy; "
        "check again when it has less to do"
    )


@pytest.mark.usefixtures("as_for_a_learner")
def test_the_processor_time_of_a_process_is_told():
    with Worker() as process:
        process.next_event(engine.STARTUP)  # it has imported torch
        assert 0.1 < process.processor_seconds() < engine.STARTUP
    assert process.processor_seconds() == 0.0  # it has ended


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_an_exit_code_of_an_aborted_run_gives_no_verdict(lesson, code):
    process = Scripted(ALL, ended(code))
    with pytest.raises(CourseError, match=r"^the tests could not run: its last error$"):
        progress(lesson, one_after_the_other(process))
    assert not state_file(lesson.folder.parent).exists()


def test_an_exercise_without_a_result_is_an_error(lesson):
    process = Scripted(case("1.2", SOLVED), ended())
    with pytest.raises(CourseError, match=r"^01_first: no test ran for 1\.1, 1\.3$"):
        judge(lesson, start=one_after_the_other(process))


# --- the process itself ---


@pytest.mark.usefixtures("as_for_a_learner")
def test_a_process_that_cannot_start_is_an_error_with_the_reason(tmp_path, monkeypatch, lesson):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "__init__.py").touch()
    monkeypatch.setattr(engine, "ROOT", tmp_path)  # has no worker to start
    with pytest.raises(CourseError, match=r"^the grader could not start: .*utils\.grader\.worker"):
        judge(lesson)


@pytest.mark.usefixtures("as_for_a_learner")
def test_a_process_that_takes_too_long_to_start_is_an_error_that_says_so(monkeypatch, lesson):
    monkeypatch.setattr(engine, "STARTUP", 0.001)
    with pytest.raises(CourseError, match=r"not started within 0 seconds.*; try again later$"):
        judge(lesson)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no message"),
        ("one\n  two  \n\n", "two"),
        ("E   ModuleNotFoundError: x\n1 error in 0.1s\n", "ModuleNotFoundError: x"),
        ("E   EOFError: E\nend\n", "EOFError: E"),
        ("E   the cause\nERROR: no collectors\n1 error\n", "the cause"),
        ("1 error\nERROR: not found: t.py\nlast\n", "ERROR: not found: t.py"),
        ("INTERNALERROR> a\nINTERNALERROR> OSError: b\nno tests ran\n", "OSError: b"),
        ("\xff\n", "\ufffd"),
    ],
)
def test_the_last_error_is_found_or_else_the_last_line(text, said):
    process = Worker.__new__(Worker)
    with tempfile.TemporaryFile() as process.errors:
        process.errors.write(text.encode("latin-1"))
        assert process.last_error() == said


# --- what is kept ---


def judged(lesson: Lesson, events: Sequence[Event] = ALL) -> dict[str, Verdict]:
    """Judge a lesson with scripted events."""
    return progress(lesson, one_after_the_other(Scripted(events, ended(1))))


def test_an_unchanged_lesson_is_not_judged_again(lesson):
    verdicts = judged(lesson)
    assert progress(lesson, no_worker) == verdicts
    assert verdicts["1.2"].message == "no"


BEHIND = [
    "conftest.py",
    "requirements.txt",
    "01_first/exercises/exercises.py",
    "01_first/exercises/exercises.yaml",
    "01_first/tests/test_first_exercises.py",
    "01_first/tests/first_misconceptions.py",
    "01_first/first.py",
    "00_before/zeroth.py",
    "utils/grader/feedback.py",
]
BESIDE = [
    "README.md",
    "01_first/README.md",
    "01_first/exercises/solutions.py",
    "02_second/second.py",
    "02_second/exercises/exercises.py",
    "tools/learn.py",
]


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize("change", ["changed", "gone"])
def test_every_file_that_a_verdict_depends_on_invalidates_the_cache(lesson, name, change):
    path = lesson.folder.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n# first\n")
    judged(lesson)
    if change == "gone":
        path.unlink()
    else:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("# first", "# other"), encoding="utf-8")
    with pytest.raises(AssertionError, match="a process was started"):
        progress(lesson, no_worker)


@pytest.mark.parametrize("name", BESIDE)
def test_other_files_do_not_invalidate_the_cache(lesson, name):
    judged(lesson)
    path = lesson.folder.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("other", encoding="utf-8")
    progress(lesson, no_worker)


def test_two_files_that_exchange_their_contents_are_noticed(lesson):
    for name in ("a.py", "b.py"):
        (lesson.folder / name).write_text(name, encoding="utf-8")
    before = content_key(lesson)
    (lesson.folder / "a.py").rename(lesson.folder / "c.py")
    assert content_key(lesson) != before
    assert len(source_files(lesson)) == len(set(source_files(lesson)))


def test_a_file_saved_while_it_is_judged_is_judged_again(lesson):
    def save(_: str) -> None:
        with lesson.file.open("a", encoding="utf-8") as file:
            file.write("# saved\n")

    progress(lesson, one_after_the_other(Scripted(ALL, ended())), save)
    with pytest.raises(AssertionError, match="a process was started"):
        progress(lesson, no_worker)


def test_verdicts_after_a_lost_process_are_not_cached(lesson):
    workers = Scripted(case("1.1", SOLVED), started("1.2")), Scripted(case("1.3", TO_DO), ended())
    assert progress(lesson, one_after_the_other(*workers))["1.2"].outcome == WRONG
    with pytest.raises(AssertionError, match="a process was started"):
        progress(lesson, no_worker)


def test_lessons_and_hints_are_stored_side_by_side(lesson):
    root = lesson.folder.parent
    write_state({"version": engine.VERSION, "lessons": {"00": {}}, "hints": {"1.1": 2}}, root)
    judged(lesson)
    state = read_state(root)
    assert state["hints"] == {"1.1": 2}
    assert set(state["lessons"]) == {"00", "01_first"}


def damaged(state: Path, lesson: Lesson, how: str) -> None:
    """Damage the stored state."""
    sound = json.loads(state.read_text(encoding="utf-8"))
    entry = sound["lessons"][lesson.name]
    verdict = entry["verdicts"]["1.1"]
    match how:
        case "truncated":
            state.write_bytes(state.read_bytes()[:-20])
        case "folder":
            state.unlink()
            state.mkdir()
        case "verdict of another kind":
            verdict["message"] = 3
        case "verdict of no outcome":
            verdict["outcome"] = "banana"
        case "verdict without an outcome":
            del verdict["outcome"]
        case "verdict with more":
            verdict["more"] = 1
        case "verdict that is a list":
            entry["verdicts"]["1.1"] = [1]
        case "a verdict less":
            del entry["verdicts"]["1.1"]
        case "verdicts that are a list":
            entry["verdicts"] = []
        case "an entry that is a number":
            sound["lessons"][lesson.name] = 5
        case "lessons that are a list":
            sound["lessons"] = []
        case "hints that are a number":
            sound["hints"] = 3
        case "another version":
            sound["version"] += 1
        case _:
            state.write_bytes(how.encode("latin-1"))
            return
    if state.is_file() and how != "truncated":
        state.write_text(json.dumps(sound), encoding="utf-8")


@pytest.mark.parametrize(
    "how",
    [
        "",
        "[]",
        "null",
        "3",
        '"text"',
        "{}",
        '{"version": 1}',
        "\xff\xfe",
        "\0",
        "[" * 100_000,
        "truncated",
        "folder",
        "verdict of another kind",
        "verdict of no outcome",
        "verdict without an outcome",
        "verdict with more",
        "verdict that is a list",
        "a verdict less",
        "verdicts that are a list",
        "an entry that is a number",
        "lessons that are a list",
        "hints that are a number",
        "another version",
    ],
    ids=lambda how: how[:30],
)
def test_a_damaged_cache_is_rebuilt(lesson, how):
    verdicts = judged(lesson)
    state = state_file(lesson.folder.parent)
    damaged(state, lesson, how)
    assert judged(lesson) == verdicts
    if how != "folder":  # with a folder in the way, nothing can be stored
        assert progress(lesson, no_worker) == verdicts
        assert read_state(lesson.folder.parent)["version"] == engine.VERSION


@pytest.mark.parametrize("where", ["state", "folder"])
def test_verdicts_are_returned_even_if_they_cannot_be_stored(lesson, where):
    state = state_file(lesson.folder.parent)
    if where == "folder":
        state.parent.touch()
    else:
        state.mkdir(parents=True)
    assert judged(lesson)["1.1"].outcome == SOLVED


def test_a_full_disk_leaves_the_cache_intact(lesson, monkeypatch):
    judged(lesson)
    before = state_file(lesson.folder.parent).read_bytes()
    lesson.file.write_text("# changed\n", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert judged(lesson, [*case("1.1", TO_DO), *ALL[3:]])["1.1"].outcome == TO_DO
    assert state_file(lesson.folder.parent).read_bytes() == before
    assert [path.name for path in state_file(lesson.folder.parent).parent.iterdir()] == [
        "state.json"
    ]


def test_a_cached_verdict_of_other_content_is_not_used(lesson):
    verdicts = judged(lesson)
    entry = read_state(lesson.folder.parent)["lessons"][lesson.name]
    assert cached_verdicts(entry, entry["key"], lesson) == verdicts
    assert cached_verdicts(entry, "other", lesson) is None
    more = replace(lesson, exercises=(*lesson.exercises, replace(lesson.exercises[0], id="1.4")))
    assert cached_verdicts(entry, entry["key"], more) is None


# --- the same under pytest itself ---

COURSE = {"todo": STUB, "right": RIGHT, "half": "print('here')\nreturn x / 2", "gone": "os = 1 / 0"}
SIZES = """@pytest.mark.parametrize("size", [0, 2, 3])
def test_half(ex, size):
    x = torch.arange(float(size))
    expect_equal(ex.half(x), 2 * x, what="the result (size,)")


def test_orphan(ex):
    ex.right(1)
"""
HALVED = """
def halved(x):
    \"\"\"the numbers are halved\"\"\"
    return x / 2


MISCONCEPTIONS = {"half": (halved,), "right": (halved,)}
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    """A lesson for pytest itself: one exercise per outcome, and one unlisted test."""
    root = tmp_path_factory.mktemp("course")
    lesson = build(root, COURSE, judges={"half": "pass"}, misconceptions=HALVED)
    tests = lesson.test_file().read_text(encoding="utf-8")
    tests = tests.replace("def test_half(ex):\n    pass\n", SIZES)
    lesson.test_file().write_text(tests, encoding="utf-8")
    return lesson


def run_pytest(lesson: Lesson, *options: str) -> tuple[int, list[str]]:
    """Exit code and output of a run started by hand."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, lesson.name]
    environment = {**os.environ, **engine.ENVIRONMENT, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    done = subprocess.run(
        command,
        cwd=lesson.folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def section(lines: list[str], title: str) -> list[str]:
    """The lines below the heading of one test, up to the next heading."""
    at = next(number for number, line in enumerate(lines) if f"_ {title} _" in line)
    below = lines[at + 1 :]
    end = next(
        number for number, line in enumerate(below) if line.startswith(("___", "===", "---"))
    )
    return below[:end]


@pytest.mark.parametrize("ci", ["", "true"])
def test_pytest_skips_stubs_and_reports_each_wrong_exercise_once(course, monkeypatch, ci):
    monkeypatch.setenv("CI", ci)
    code, lines = run_pytest(course, "-k", "not orphan")
    text = "\n".join(lines)
    assert code == 1
    assert section(lines, "test_half[2]") == [
        "half",
        "half(x=[0, 1])",
        "the result (size,): the first difference at [1]: got 0.5, expected 2 (1 of 2",
        "values differ)",
        "    yours       0  0.5",
        "    expected    0    2",
        "This looks like: the numbers are halved.",
        "(2 of 2 checks fail; this is the first.)",
        "It printed:",
        "  here",
        f"For a hint: {how_to('hint', '1.3')}",
    ]
    assert "_ test_half[3] _" not in text
    assert text.count("This looks like: ") == 1
    assert "to do: 1.1 todo" in text
    line = course.file.read_text(encoding="utf-8").splitlines().index("    os = 1 / 0") + 1
    assert section(lines, "test_gone")[:4] == [
        "gone",
        "gone(x=[[0, 1, 2], [3, 4, 5]])",
        f"line {line}: ZeroDivisionError: division by zero",
        "    os = 1 / 0",
    ]
    for sign in ("Traceback", "\nE  ", "\n> ", "feedback.py", "guard.py", "Captured stdout"):
        assert sign not in text
    assert [line.split()[:2] for line in lines if line.startswith("FAILED")] == [
        ["FAILED", "01_first/tests/test_first_exercises.py::test_half[2]"],
        ["FAILED", "01_first/tests/test_first_exercises.py::test_gone"],
    ]


def test_with_solutions_a_stub_is_a_failure(course):
    stub = function(1, "todo", STUB)
    solutions = course.solutions.read_text(encoding="utf-8")
    course.solutions.write_text(solutions + stub, encoding="utf-8")
    code, lines = run_pytest(course, "--solutions", "-k", "not orphan")
    course.solutions.write_text(solutions, encoding="utf-8")
    assert code == 1
    assert section(lines, "test_todo")[1] == "the solution of 1.1 todo is a stub"
    assert "1 failed, 5 passed" in lines[-1]
    assert not [line for line in lines if "SKIPPED" in line]


def test_with_misconceptions_each_wrong_answer_is_tested_and_named(course):
    code, lines = run_pytest(course, "--misconceptions", "-k", "half or right or orphan")
    assert code == 1
    for title in ("test_right[halved]", "test_half[halved-2]"):
        assert "This looks like: the numbers are halved." in section(lines, title)
    assert "2 failed, 1 passed" in lines[-1]
    assert "no exercise in exercises.yaml lists test_orphan under judge" in "\n".join(lines)


TENTHS = """
def tenth(x):
    \"\"\"the numbers are divided by ten\"\"\"
    return x / 10


MISCONCEPTIONS = {"half": (halved, tenth), "right": (halved,)}
"""


def test_a_wrong_answer_is_tested_until_it_is_named_by_the_most_telling_tests_first(course):
    known = course.misconceptions_file()
    known.write_text(HALVED + TENTHS, encoding="utf-8")
    _, lines = run_pytest(course, "--misconceptions", "-v", "-k", "test_half")
    known.write_text(HALVED, encoding="utf-8")
    ran = re.findall(r"test_half\[(\w+)-(\d)\] (PASSED|FAILED)", "\n".join(lines))
    of_the_first = [("halved", "0", "PASSED"), ("halved", "2", "FAILED")]  # and not with size 3
    assert ran == [*of_the_first, ("tenth", "2", "FAILED")]


def test_an_invalid_exercises_yaml_is_reported_in_one_line(tmp_path):
    lesson = build(tmp_path, {"one": RIGHT})
    lesson.test_file().write_text("def test_one(ex):\n    ex.one(1)\n", encoding="utf-8")
    (lesson.folder / "exercises" / "exercises.yaml").write_text("[]", encoding="utf-8")
    code, lines = run_pytest(lesson)
    assert code == 4
    assert "ERROR: 01_first/exercises/exercises.yaml must be a list of exercises" in lines
    assert "Traceback" not in "\n".join(lines)
