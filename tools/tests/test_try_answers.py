"""tools/try_answers.py on a made-up lesson of two exercises: what is judged, counted and listed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tools import try_answers
from tools.try_answers import Answer, Judged, problem_of, read_answers, tells_more_than_values
from utils.errors import CourseError
from utils.grader.exercises import Lesson, read_lesson
from utils.grader.feedback import Wrong, expect_choice, expect_equal, expect_prediction
from utils.grader.report import SOLVED, WRONG, Verdict
from utils.grader.runner import Starved

LESSON = "01_first"
SOLUTIONS = '''"""Solutions."""

import torch
from torch import Tensor


def double(x: Tensor) -> Tensor:
    """Exercise 1.1: twice x."""
    return 2 * x


def shifted(x: Tensor) -> Tensor:
    """Exercise 1.2: twice x plus 1."""
    return double(x) + 1
'''
STUBS = SOLUTIONS.replace(
    "    return 2 * x", '    raise NotImplementedError("Exercise 1.1: double")'
).replace("    return double(x) + 1", '    raise NotImplementedError("Exercise 1.2: shifted")')
ENTRY = """
- id: "1.{at}"
  title: The function {name}
  kind: write
  stubs: [{name}]
  minutes: 5
  difficulty: 1
  why: It counts.
  hints: [a, b, c]
  judge: [test_{name}]
"""
TESTS = """
import torch

from utils.grader.feedback import expect_equal

X = torch.tensor([[1.0, 2.0], [3.0, 5.0]])


def test_double(ex):
    expect_equal(ex.double(X), 2 * X, what="twice x (2, 2)")


def test_shifted(ex):
    expect_equal(ex.shifted(X), 2 * X + 1, what="twice x plus 1 (2, 2)")
"""
MISCONCEPTIONS = '''
def squared(x):
    """x is multiplied by itself"""
    return x * x


def not_shifted(x):
    """1 is not added"""
    return 2 * x


MISCONCEPTIONS = {"double": (squared,), "shifted": (not_shifted,)}
'''
ANSWERS = """# Invented answers.

# wrong 1.1: squares
def double(x):
    return x * x

# wrong 1.1: squares, in float64
def double(x):
    return x.double() ** 2

# wrong 1.1: plus its cube
def double(x):
    return 2 * x + x**3

# wrong 1.1: plus its cube, and the shape is lost
def double(x):
    return (3 * x).flatten()

# wrong 1.1: syntax error
def double(x):
    return (2 * x

# wrong 1.1: ends the process
import os
def double(x):
    os._exit(3)

# wrong 1.1: not wrong at all
def double(x):
    return x + x

# right 1.1: by a helper of its own, with an import
from functools import reduce

def add(a, b):
    return a + b

def double(x):
    return reduce(add, [x, x])

# right 1.1: not right at all
def double(x):
    return x + 1

# wrong 1.2: 1 is forgotten
def shifted(x):
    return double(x)

# right 1.2: through the solution of 1.1, with NumPy
def shifted(x):
    return torch.from_numpy(np.add(double(x).numpy(), 1))
"""

Run = Callable[..., tuple[int, str, str]]


def write(root: Path, answers: str = ANSWERS) -> Path:
    """The lesson, whose exercises are still stubs, and a file of answers."""
    files = {
        "conftest.py": 'pytest_plugins = ["utils.grader.pytest_plugin"]\n',
        f"{LESSON}/exercises/exercises.py": STUBS,
        f"{LESSON}/exercises/solutions.py": SOLUTIONS,
        f"{LESSON}/exercises/exercises.yaml": "".join(
            ENTRY.format(at=at, name=name) for at, name in enumerate(("double", "shifted"), 1)
        ),
        f"{LESSON}/tests/test_first_exercises.py": TESTS,
        f"{LESSON}/tests/first_misconceptions.py": MISCONCEPTIONS,
        "answers.py": answers,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def run(call_program: Run) -> Run:
    """Run the program on a course; exit code, output and errors."""
    return lambda root, *arguments: call_program(lambda: try_answers.main(root), *arguments)


# --- a whole file ---


def test_a_file_of_answers_is_judged_and_tabled(tmp_path: Path, run: Run) -> None:
    root = write(tmp_path)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    code, out, err = run(root, str(root / "answers.py"), "--diagnoses")
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[:4] == [
        "exercise  wrong  rejected  named  weakly  actionable  right  accepted",
        "1.1           7         6      2       1           5      2         1",
        "1.2           1         1      1       0           1      1         1",
        "all           8         7      3       1           6      3         2",
    ]
    assert "wrong answers: 87.5% rejected, 37.5% named, 75.0% named or actionable" in lines
    assert "right answers: 66.7% accepted" in lines
    assert "Wrong answers that passed:\n  1.1 not wrong at all (line 28)\n" in out
    assert "Right answers that were refused:\n  1.1 not right at all (line 41)\n" in out
    assert "      double(x=[[1, 2], [3, 5]])\n      twice x (2, 2): the first difference" in out
    unhelped = out.partition("Neither named nor actionable:\n")[2]
    assert unhelped.startswith(
        "  1.1 plus its cube (line 11)\n      twice x (2, 2): the first diff"
    )
    assert unhelped.count(" (line ") == 1 + 3  # one, and the three diagnoses below
    assert "  1.2 1 is forgotten (line 45)\n      1 is not added" in out
    assert {path: path.read_bytes() for path in before} == before
    assert not (root / ".progress").exists()
    assert max(map(len, lines)) <= 80


def test_the_verdicts_can_be_read_by_a_program(tmp_path: Path, run: Run) -> None:
    kept = ANSWERS.split("# wrong 1.1: plus its cube\n")[0]
    root = write(tmp_path, kept)
    code, out, _ = run(root, str(root / "answers.py"), "--lesson", "01_first/", "--json")
    first, second = json.loads(out)
    assert code == 0
    assert first["label"] == "squares"
    assert (first["passed"], first["named"], first["actionable"]) == (False, True, True)
    assert first["verdict"]["diagnosis"] == "x is multiplied by itself"
    assert (first["verdict"]["is_certain"], second["verdict"]["is_certain"]) == (True, False)


class Starving(try_answers.Worker):
    """A process that gets no processor, as on a busy machine; the first few of them."""

    left = 0

    def __init__(self) -> None:
        super().__init__()
        self.is_starved = Starving.left > 0
        Starving.left -= 1

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        event = super().next_event(60.0)
        if self.is_starved and event and event["event"] == "case":
            raise Starved("the machine is too busy")
        return event


def starve(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(try_answers, "Worker", Starving)
    monkeypatch.setattr(Starving, "left", count)


FEW = ANSWERS.split("# wrong 1.1: plus its cube\n")[0]


def test_an_answer_without_a_verdict_is_judged_again_at_the_end(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    starve(monkeypatch, 2)
    root = write(tmp_path, FEW)
    code, out, err = run(root, str(root / "answers.py"))
    assert (code, err) == (0, "")
    assert "wrong answers: 100.0% rejected, 100.0% named, 100.0% named or actionable" in out
    assert "No verdict" not in out


def test_an_answer_that_never_gets_a_verdict_counts_as_nothing(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    starve(monkeypatch, 99)
    root = write(tmp_path, FEW)
    code, out, _ = run(root, str(root / "answers.py"))
    assert code == 1
    assert "wrong answers: none rejected, none named, none named or actionable" in out
    said = out.partition("No verdict: the machine was too busy; run again:\n")[2]
    assert said == "  1.1 squares (line 3)\n  1.1 squares, in float64 (line 7)\n\n"


PROGRAM = """
import signal, sys
from pathlib import Path
from tools import try_answers
from utils.errors import run_program

signal.signal(signal.SIGINT, signal.default_int_handler)
run_program(lambda: try_answers.main(Path.cwd()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals as POSIX has them")
def test_ctrl_c_ends_in_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    import os

    started = "Path(r'STARTED').touch(); time.sleep(1000)".replace("STARTED", str(tmp_path / "on"))
    slow = f"import time\nfrom pathlib import Path\ndef double(x):\n    {started}\n"
    root = write(tmp_path, "".join(f"# wrong 1.1: slow {at}\n{slow}" for at in range(9)))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "answers.py"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not (tmp_path / "on").exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


# --- the file of answers ---


def test_sections_are_read_with_their_labels_and_code(tmp_path: Path) -> None:
    path = tmp_path / "answers.py"
    path.write_bytes(b"\xef\xbb\xbf# a note\r\n\r\n#wrong 1.10 :  a label \r\nx = 1\r\n\r\n# y\r\n")
    assert read_answers(path) == [Answer("1.10", False, "a label", "x = 1\n\n# y\n", 3)]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", 1, "has no answers; each begins with a line '# wrong 1.1: label'"),
        ("# rong 1.1: x\ndef double(x): return x\n", 1, "has no answers"),
        ("x = 1\n# wrong 1.1: x\n", 1, "code before the first '# wrong 1.1: label' on line 2"),
        ("# wrong 1.3: x\n", 2, "unknown exercise '1.3'"),
        ("# wrong 1.1: x\ndef duoble(x): return x\n", 2, "line 1: the answer to 1.1 does not def"),
        ("# wrong 1.1: x\ndef double(x): return x\n# right 2.1: y\n", 2, "line 3: 01_first has no"),
    ],
)
def test_an_invalid_file_is_one_line(
    tmp_path: Path, run: Run, text: str, code: int, said: str
) -> None:
    root = write(tmp_path, text)
    found, out, err = run(root, str(root / "answers.py"))
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("error: ")
    assert said in err


def test_a_missing_file_and_an_unknown_lesson_are_one_line(tmp_path: Path, run: Run) -> None:
    root = write(tmp_path)
    code, _, err = run(root, str(root / "none.py"))
    assert (code, err.count("\n")) == (1, 1)
    assert "none.py" in err
    code, _, err = run(root, str(root / "answers.py"), "--lesson", "01_frist")
    assert (code, err.count("\n")) == (2, 1)
    assert "did you mean '01_first'?" in err


def test_bytes_that_are_not_utf_8_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.py"
    path.write_bytes(b"# wrong 1.1: \xff\n")
    with pytest.raises(CourseError, match="is not UTF-8 text"):
        read_answers(path)


# --- what makes a message actionable ---

X = torch.tensor([1.0, 2.0])
UNRELATED = torch.tensor([7.3, 4.9])
NAN = torch.tensor([1.0, float("nan")])


def message(compare: Callable[[], None]) -> str:
    """The message of a comparison that fails."""
    with pytest.raises(Wrong) as error:
        compare()
    return error.value.message


@pytest.mark.parametrize(
    "compare",
    [
        lambda: expect_equal(X, UNRELATED),
        lambda: expect_equal(X[0], X[1]),
        lambda: expect_equal(X > 1, X > 0),
        lambda: expect_equal(X.numpy(), UNRELATED.numpy()),
        lambda: expect_equal(X, torch.tensor([1.0, float("nan")])),
        lambda: expect_equal(3.1, 4.17),
        lambda: expect_equal("a", "b"),
        lambda: expect_equal((X, X), (X, UNRELATED), what=("one", "two")),
        lambda: expect_prediction([0.1, 0.9], [0.9, 0.1], "the row"),
        lambda: expect_choice({"a": 1}, 1, 2, "a"),
    ],
)
def test_a_message_with_nothing_but_values_is_not_actionable(compare: Callable[[], None]) -> None:
    for call in ("", "f(x=[1, 2])\n"):
        found = Verdict("1.1", WRONG, message=call + message(compare))
        assert not tells_more_than_values(found), found.message


@pytest.mark.parametrize(
    "compare",
    [
        lambda: expect_equal(NAN, X),
        lambda: expect_equal(X, 2 * X),  # related: a note says how
        lambda: expect_equal(float("nan"), 1.0),
        lambda: expect_equal(None, X),
        lambda: expect_equal(X[None], X),
        lambda: expect_equal(X.double(), X),
        lambda: expect_equal(X.to("meta"), X),
        lambda: expect_equal(X.numpy(), X),
        lambda: expect_equal(np.float32(1), X),
        lambda: expect_equal((X,), (X, X), what=("one", "two")),
        lambda: expect_prediction([0.1], [0.1, 0.9], "the row"),
    ],
)
def test_a_message_with_more_than_values_is_actionable(compare: Callable[[], None]) -> None:
    for call in ("", "f(x=[1, 2])\n"):
        found = Verdict("1.1", WRONG, message=call + message(compare))
        assert tells_more_than_values(found), found.message


@pytest.mark.parametrize(
    "text",
    [
        "f(x=1)\nline 3: NameError: name 'y' is not defined\n    return y",
        "f(x=1)\nit changes its input x, which the caller still needs",
        "correct, but written by PyTorch's softmax: now without it",
        "the values are right, but no gradient flows back through them",
        "the values are right, but the gradient of x: the first difference at [0]: got 1, expecte",
        "f(x=1)\nstill running after 5 seconds at line 3; is there an endless loop, or is it too "
        "slow?",
        "exercises.py, line 5: invalid syntax",
    ],
)
def test_what_is_not_a_difference_of_values_is_actionable(text: str) -> None:
    assert tells_more_than_values(Verdict("1.1", WRONG, message=text))


def test_a_named_mistake_and_a_root_cause_are_actionable() -> None:
    values = "y: the first difference at [0]: got 1, expected 2"
    answer = Answer("1.1", False, "x", "", 1)
    named = Judged(answer, Verdict("1.1", WRONG, message=values, diagnosis="it is halved"))
    assert named.is_named
    assert named.is_actionable
    assert not Judged(answer, Verdict("1.1", WRONG, message=values)).is_actionable
    assert not Judged(answer, Verdict("1.1", SOLVED)).is_actionable
    assert tells_more_than_values(Verdict("1.1", WRONG, message=values, hint_for="1.2"))


def test_the_problem_of_a_message_is_the_line_after_the_call() -> None:
    assert problem_of(Verdict("1.1", WRONG, message="f(x=1)\ny: got 1; expected 2")) == (
        "y: got 1; expected 2"
    )
    assert problem_of(Verdict("1.1", WRONG, message="a sentence")) == "a sentence"
    assert problem_of(Verdict("1.1", SOLVED)) == ""


def test_the_copy_of_a_lesson_holds_the_other_solutions(tmp_path: Path) -> None:
    lesson = read_lesson(write(tmp_path / "course") / LESSON)
    copied = try_answers.copy_lesson(lesson, tmp_path / "copy")
    assert isinstance(copied, Lesson)
    assert copied.file.is_relative_to(tmp_path / "copy")
    text = try_answers.with_answer(SOLUTIONS, "def double(x):\n    return 7\n")
    module: dict[str, object] = {}
    exec(text, module)
    assert module["shifted"](1) == 8  # type: ignore[operator]
