"""tools/module_tests.py: the course's own tests, then the learner's exercises, and a summary."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import module_tests
from utils.errors import run_program
from utils.grader.exercises import how_to

NAMES = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
LESSON = "01_first"
FUNCTION = 'def {name}() -> int:\n    """Exercise 1.{at}: {name}."""\n    {body}\n'
TEST = """
def test_{name}(ex):
    from utils.grader.feedback import expect_equal  # here: collecting the tests then needs no torch
    expect_equal(ex.{name}(), {at}, what="{name}")
"""
ENTRY = """
- id: "1.{at}"
  title: The number {name}
  kind: write
  stubs: [{name}]
  minutes: 5
  difficulty: 1
  why: Everything counts.
  hints: [one, two, three]
  judge: [test_{name}]
"""
OWN_TEST = """
from pathlib import Path

def test_the_course_itself():
    assert Path(__file__).with_name("number.txt").read_text(encoding="utf-8") == "1"
"""

Run = Callable[..., tuple[int, str, str]]


def exercises(solved: int, wrong: int) -> str:
    """exercises.py: some solved, then some wrong, the rest still to do."""
    parts = []
    for at, name in enumerate(NAMES, start=1):
        stub = f'raise NotImplementedError("Exercise 1.{at}: {name}")'
        body = f"return {at}" if at <= solved else "return -1" if at <= solved + wrong else stub
        parts.append(FUNCTION.format(name=name, at=at, body=body))
    return "\n\n".join(parts)


def all_of(template: str) -> str:
    """The template, once per exercise."""
    return "".join(template.format(name=name, at=at) for at, name in enumerate(NAMES, start=1))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="\n")
    return root


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A lesson of eight exercises, three of them solved and one wrong, and two without any."""
    return write(
        tmp_path,
        {
            "conftest.py": 'pytest_plugins = ["utils.grader.pytest_plugin"]\n',
            "requirements.txt": "",
            f"{LESSON}/exercises/exercises.py": exercises(3, 1),
            f"{LESSON}/exercises/solutions.py": exercises(8, 0),
            f"{LESSON}/exercises/exercises.yaml": all_of(ENTRY),
            f"{LESSON}/tests/test_first.py": OWN_TEST,
            f"{LESSON}/tests/number.txt": "1",
            f"{LESSON}/tests/test_first_exercises.py": all_of(TEST),
            f"{LESSON}/tests/first_misconceptions.py": "MISCONCEPTIONS = {}\n",
            "02_second/tests/test_second.py": OWN_TEST,
            "02_second/tests/number.txt": "1",
            "03_third/README.md": "",
        },
    )


@pytest.fixture
def run(course: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the program on the course; exit code, output (that of pytest too) and errors."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # not needed here

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["module_tests.py", *arguments])
        with pytest.raises(SystemExit) as left:
            run_program(lambda: module_tests.main(course))
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def test_a_lesson_ends_in_the_learners_summary_and_the_next_step(course: Path, run: Run) -> None:
    code, out, err = run(LESSON)
    assert (code, err) == (1, "")
    own, _, yours = out.partition("Your exercises:\n")
    assert own.startswith(f"The course's own code in {LESSON}:\n")
    assert "1 passed, 8 deselected" in own  # the exercises are judged once, below
    assert "four: got -1; expected 4" in yours
    assert "\nsolved 3, wrong 1, to do 4\nnext: 1.4 The number four (5 minutes," in yours
    assert yours.endswith(f"{how_to('watch')} checks every save\n")

    write(course, {f"{LESSON}/tests/number.txt": "2"})
    code, out, _ = run(LESSON + "/")  # as completed by a shell
    assert code == 1
    assert "FAILED 01_first/tests/test_first.py::test_the_course_itself" in out
    assert "\nsolved 3, wrong 1, to do 4\n" in out  # a failing test of the course hides nothing


def test_only_wrong_exercises_and_failing_tests_are_failures(course: Path, run: Run) -> None:
    write(course, {f"{LESSON}/exercises/exercises.py": exercises(3, 0)})
    code, out, _ = run(LESSON)
    assert (code, "\nsolved 3, wrong 0, to do 5\n" in out) == (0, True)

    write(course, {f"{LESSON}/tests/number.txt": "2"})
    code, out, _ = run(LESSON)
    assert (code, "\nsolved 3, wrong 0, to do 5\n" in out) == (1, True)


def test_a_module_without_exercises_runs_only_its_tests(course: Path, run: Run) -> None:
    code, out, _ = run("02_second")
    assert (code, "1 passed" in out, "Your exercises" in out) == (0, True, False)
    write(course, {"02_second/tests/number.txt": "2"})
    assert run("02_second")[0] == 1


def test_a_module_without_tests_says_so(run: Run) -> None:
    code, out, _ = run("03_third")
    assert code == 0
    assert "03_third has no tests of its own; make verify checks the environment\n" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["01_frist"], "unknown module '01_frist' (did you mean '01_first'?); choose one of: 01_f"),
        (["99"], "unknown module '99'; choose one of: 01_first, 02_second, 03_third, utils, tools"),
        (
            [],
            "MODULE is missing; choose one of: 01_first, 02_second, 03_third, utils, tools, setup",
        ),
        ([LESSON, "02_second"], f"unknown module '{LESSON} 02_second'"),
    ],
)
def test_a_typing_error_gets_one_line(run: Run, words: list[str], said: str) -> None:
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {said}")


def test_it_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, module_tests.__file__, "01_atention"],
        env={**os.environ, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean '01_attention'" in done.stderr
