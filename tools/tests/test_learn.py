"""tools/learn.py on a made-up course of two lessons: its output and its effect on files.

The course is judged once, by the real runner; most tests use a copy of it, with cached verdicts.
"""

import contextlib
import errno
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tools import learn
from utils.errors import run_program
from utils.files import atomic_write_text
from utils.grader import check as grader_check
from utils.grader import watch as watch_module
from utils.grader.exercises import Exercise, Lesson, how_to, lessons
from utils.grader.keyboard import Keyboard
from utils.grader.report import SOLVED, TO_DO, WRONG, Verdict
from utils.grader.runner import VERSION, state_file

LESSONS = {
    "01_first": ["double", "square", "increase", "negate", "halve", "sign", "cube"],
    "02_second": ["third", "root"],
}
SOLUTIONS = {
    "double": "return 2 * x",
    "square": "return x * x",
    "increase": "return x + 1",
    "negate": "return -x",
    "halve": "return x / 2",
    "sign": "return float(x > 0) - float(x < 0)",
    "cube": "return x * x * x",
    "third": "return x / 3",
    "root": "return x**0.5",
}
BEGUN = {  # one solved, five wrong in five ways, one to do; nothing of the second lesson
    "double": SOLUTIONS["double"],
    "square": "return 2 * x",
    "increase": "return x + one",
    "negate": "print('x is', x)",
    "halve": "return cube(x) / 2",
    "sign": "return [x]",
}
TESTS = """
from utils.grader.feedback import expect_equal

NUMBERS = [4.0, 9.0]
"""
TEST = """
def test_{name}(ex):
    for x in NUMBERS:
        expect_equal(ex.{name}(x), (lambda x: {value})(x), what="{name} of x")
"""
MISCONCEPTIONS = '''
def doubled(x: float) -> float:
    """x is added to itself, where it should be multiplied by itself"""
    return x + x

MISCONCEPTIONS = {"square": (doubled,)}
'''
ENTRY = """
- id: "{exercise}"
  title: The {name} of a number
  kind: write
  stubs: [{name}]
  minutes: 5
  difficulty: 1
  why: Whoever has the {name} of one number has the {name} of every number.
  hints: [the nudge for {name}, more about {name}, nearly all of {name}]
  judge: [test_{name}]
"""
IMPORTS = "from utils.grader.check import check_file\n"
END = '\n\nif __name__ == "__main__":\n    check_file(__file__)\n'

Run = Callable[..., tuple[int, str, str]]
Pretend = Callable[[dict[str, Verdict]], None]


def ids(lesson: str) -> dict[str, str]:
    """The functions of a lesson and the exercises they belong to."""
    number = int(lesson[:2])
    return {name: f"{number}.{at}" for at, name in enumerate(LESSONS[lesson], start=1)}


def text_of(lesson: str, bodies: dict[str, str]) -> str:
    """exercises.py with these bodies; a stub for every function that has none."""
    functions = []
    for name, exercise in ids(lesson).items():
        stub = f'raise NotImplementedError("Exercise {exercise}: {name}")  # TODO: your code here'
        head = f'def {name}(x: float) -> float:\n    """Exercise {exercise}: {name} of x."""\n'
        functions.append(f"\n\n{head}    {bodies.get(name, stub)}\n")
    return IMPORTS + "".join(functions) + END


def file_of(root: Path, lesson: str = "01_first") -> Path:
    return root / lesson / "exercises" / "exercises.py"


def write(root: Path, lesson: str, bodies: dict[str, str]) -> None:
    """Save a learner's file atomically, as editors do."""
    atomic_write_text(file_of(root, lesson), text_of(lesson, bodies))


def build(root: Path) -> Path:
    """Write the course to disk, with a learner's progress so far."""
    files = {
        "conftest.py": 'pytest_plugins = ["utils.grader.pytest_plugin"]\n',
        "requirements.txt": "",
    }
    for lesson in LESSONS:
        short = lesson[3:]
        files |= {
            f"{lesson}/exercises/exercises.py": text_of(lesson, BEGUN),
            f"{lesson}/exercises/solutions.py": text_of(lesson, SOLUTIONS),
            f"{lesson}/exercises/exercises.yaml": "".join(
                ENTRY.format(exercise=exercise, name=name) for name, exercise in ids(lesson).items()
            ),
            f"{lesson}/tests/test_{short}_exercises.py": TESTS
            + "\n".join(
                TEST.format(name=name, value=SOLUTIONS[name].removeprefix("return "))
                for name in LESSONS[lesson]
            ),
            f"{lesson}/tests/{short}_misconceptions.py": MISCONCEPTIONS,
        }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="\n")
    return root


@pytest.fixture(scope="module")
def judged_course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course, with cached verdicts."""
    root = build(tmp_path_factory.mktemp("course"))
    for lesson in lessons(root):
        grader_check.judged(lesson)
    return root


@pytest.fixture
def course(judged_course: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(judged_course, tmp_path / "course"))


@pytest.fixture
def run(course: Path, call_program: Run) -> Run:
    """Run the program on the course; exit code, output and errors."""
    return partial(call_program, lambda: learn.main(course))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Replace the runner: these verdicts, and solved for all other exercises."""

    def pretend(verdicts: dict[str, Verdict]) -> None:
        def stand_in(lesson: Lesson, start: object = None) -> dict[str, Verdict]:
            return {
                one.id: verdicts.get(one.id, Verdict(one.id, SOLVED)) for one in lesson.exercises
            }

        monkeypatch.setattr(learn, "judged", stand_in)
        monkeypatch.setattr(watch_module, "judged", stand_in)
        monkeypatch.setattr(grader_check, "judged", stand_in)

    return pretend


def all_of(lesson: str, outcome: str, count: int | None = None) -> dict[str, Verdict]:
    """One outcome for the first exercises of a lesson."""
    return {one: Verdict(one, outcome) for one in [*ids(lesson).values()][:count]}


def broken(lesson: str, message: str) -> dict[str, Verdict]:
    """The verdicts on a file that cannot be loaded."""
    return {
        one: Verdict(one, WRONG, message=message, broken_file=True) for one in ids(lesson).values()
    }


def widest(text: str) -> int:
    return max(len(line) for line in text.splitlines())


def line_of(path: Path, name: str) -> int:
    """The line where a function begins."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines.index(f"def {name}(x: float) -> float:") + 1


# --- status ---


@pytest.mark.parametrize(
    ("left", "bar"),
    [(7, "-" * 20), (6, "##" + "-" * 18), (4, "########" + "-" * 12), (0, "#" * 20)],
)
def test_a_bar_is_as_long_as_what_is_solved(
    run: Run, pretend: Pretend, left: int, bar: str
) -> None:
    pretend(all_of("01_first", TO_DO, left))
    _, out, _ = run("status")
    assert re.search(rf"^01_first +{bar} +{7 - left}/7$", out, re.MULTILINE)
    assert re.search(rf"^02_second +{'#' * 20} +2/2$", out, re.MULTILINE)
    assert re.search(rf"^course +[#-]{{20}} +{9 - left}/9$", out, re.MULTILINE)
    assert f"solved {9 - left}, wrong 0, to do {left}" in out


def test_the_status_of_one_lesson_leaves_out_the_others(run: Run) -> None:
    code, out, _ = run("status", "02_second/")
    assert (code, "02_second" in out, "01_first" in out, "course " in out) == (
        0,
        True,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("count", "note"),
    [(1, "wrong: 1.1"), (3, "wrong: 1.1, 1.2, 1.3"), (4, "wrong: 1.1, 1.2, 1.3, ...")],
)
def test_up_to_three_wrong_exercises_are_listed(
    run: Run, pretend: Pretend, count: int, note: str
) -> None:
    pretend(all_of("01_first", WRONG, count))
    code, out, _ = run()  # `status` is the default
    [line] = [line for line in out.splitlines() if line.startswith("01_first")]
    assert (code, line.endswith(f" {note}")) == (0, True)


def test_a_broken_file_is_the_next_step(run: Run, pretend: Pretend) -> None:
    pretend(broken("01_first", "exercises.py, line 3: invalid syntax\n    def f(:"))
    code, out, _ = run("status")
    assert code == 0
    assert re.search(r"^01_first .* 0/7 +cannot be read$", out, re.MULTILINE)
    step = "next: fix 01_first/exercises/exercises.py\n      exercises.py, line 3: invalid syntax"
    assert step in out
    assert "    def f(:" in out
    assert "hint" not in out


def test_the_next_step_names_exercise_file_and_line(course: Path, run: Run) -> None:
    code, out, _ = run("status")
    line = line_of(file_of(course), "square")
    assert code == 0
    assert "next: 1.2 The square of a number (5 minutes, difficulty 1 of 5)" in out
    assert f"\n      01_first/exercises/exercises.py, line {line}\n" in out
    assert how_to("hint", "1.2") in out


def test_the_next_step_is_in_the_first_unfinished_lesson(run: Run, pretend: Pretend) -> None:
    pretend(all_of("02_second", TO_DO))
    assert "next: 2.1 The third of a number" in run("status")[1]


def test_a_finished_course_has_a_next_step(run: Run, pretend: Pretend) -> None:
    pretend({})
    code, out, _ = run("status")
    assert (code, "next:" in out) == (0, False)
    assert "Everything here is solved. The notebooks and make test-module come next" in out


WORDS = "exercises.py fails to load: line 12: " + "something went wrong; " * 20
SITUATIONS = {
    "nothing begun": lambda one: Verdict(one, TO_DO),
    "all solved": lambda one: Verdict(one, SOLVED),
    "all wrong": lambda one: Verdict(one, WRONG, message="it is wrong " * 30, failed=1, checks=1),
    "the last wrong": lambda one: Verdict(one, WRONG if int(one[2:]) > 9 else SOLVED),
    "no file": lambda one: Verdict(
        one, WRONG, message=f"{WORDS}\n    {'x = ' * 40}", broken_file=True
    ),
}


def long_course(root: Path) -> list[Lesson]:
    """Lessons with the longest name and more exercises than any real one."""
    lesson = lessons(root)[0]
    title = "Thirty-six characters make a title.."
    exercises = tuple(
        Exercise(
            f"3.{at}",
            title,
            "write",
            ("double",),
            120,
            5,
            "Why? " * 40,
            ("a",) * 3,
            ("test_double",),
            core=at % 2 == 1,
        )
        for at in range(1, 19)
    )
    return [Lesson(lesson.folder.with_name("03_transformer_blocks"), exercises)] * 2


@pytest.mark.parametrize("command", ["status", "next", "check", "hint"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_line_is_wider_than_eighty_columns(
    run: Run,
    pretend: Pretend,
    monkeypatch: pytest.MonkeyPatch,
    course: Path,
    command: str,
    situation: str,
) -> None:
    made = long_course(course)
    monkeypatch.setattr(learn, "lessons", lambda root: made)
    pretend({one.id: SITUATIONS[situation](one.id) for one in made[0].exercises})
    _, out, err = run(command)
    assert out
    assert widest(out + err) <= 80


PROGRAM = """
import signal, sys
from pathlib import Path
from tools import learn
from utils.errors import run_program

# A background job ignores Ctrl-C, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
run_program(lambda: learn.main(Path.cwd()))
"""
FRUGAL = """
import subprocess, sys
from pathlib import Path
from tools import learn

def refuse(*arguments, **options):
    raise AssertionError("a process was started")

subprocess.Popen.__init__ = refuse
print(learn.main(Path.cwd()), "torch" in sys.modules)
"""


def environment(**changes: str) -> dict[str, str]:
    """The environment of an ordinary terminal: output is buffered."""
    special = ("PYTHONUNBUFFERED", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in special}
    return {**kept, "TERM": "xterm", **changes}


def program(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", text, *arguments]


def frugally(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that must not start another."""
    return subprocess.run(program(FRUGAL, command), cwd=root, capture_output=True, encoding="utf-8")


@pytest.mark.parametrize("command", ["status", "next", "check", "hint"])
def test_an_unchanged_course_needs_neither_torch_nor_a_process(course: Path, command: str) -> None:
    done = frugally(course, command)
    assert done.stdout.splitlines()[-1] == f"{int(command == 'check')} False", done.stderr


def test_a_changed_lesson_is_judged_again(course: Path) -> None:
    write(course, "02_second", {"root": "return x"})
    assert "AssertionError: a process was started" in frugally(course, "status").stderr


def on_a_terminal(root: Path, **changes: str) -> str:
    """The output of `status` on a pseudo-terminal."""
    import pty  # not on Windows

    ours, theirs = pty.openpty()
    command = program(PROGRAM, "status")
    process = subprocess.Popen(
        command, cwd=root, stdout=theirs, stderr=theirs, env=environment(**changes)
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # Linux reports a closed terminal this way
        while part := os.read(ours, 4096):
            said += part
    os.close(ours)
    assert process.wait() == 0
    return said.decode("utf-8")


needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal (pty)")


@needs_pty
def test_a_terminal_gets_colours_and_lines_that_fit(course: Path) -> None:
    said = on_a_terminal(course)
    assert "\033[32m##------------------\033[0m" in said  # solved: green
    assert "\033[31mwrong: 1.2, 1.3, 1.4, ...\033[0m" in said
    assert widest(re.sub(r"\033\[[0-9]*[mK]|\r", "", said)) <= 80


@needs_pty
@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colours_gets_none(course: Path, changes: dict[str, str]) -> None:
    said = on_a_terminal(course, **changes)
    assert "wrong: 1.2" in said
    assert "\033[3" not in said
    assert "\033[1m" not in said


@pytest.mark.parametrize("command", ["status", "next", "check", "hint"])
def test_a_pipe_gets_no_colours(run: Run, command: str) -> None:
    assert "\033" not in "".join(map(str, run(command)))


# --- next ---


def test_next_shows_the_first_unsolved_exercise(course: Path, run: Run) -> None:
    code, out, _ = run("next")
    assert code == 0
    assert out.startswith("1.2 The square of a number\n5 minutes, difficulty 1 of 5; wrong\n")
    assert "Whoever has the square of one number" in out
    line = line_of(file_of(course), "square")
    assert f"01_first/exercises/exercises.py, line {line}\n" in out
    assert how_to("hint", "1.2") in out
    assert how_to("check", "1.2") in out  # it is wrong already


def test_next_names_the_section_to_read_first(course: Path, run: Run) -> None:
    assert "Read first" not in run("next")[1]  # no page leads to it
    page = course / "01_first" / "theory.md"
    page.write_text("# First\n\n## Squares\n\nA square.\n\n**Now write 1.2.**\n", encoding="utf-8")
    out = run("next")[1]
    assert '\n\nRead first: "Squares" in 01_first/theory.md, line 3\nWrite it in ' in out


def test_next_continues_with_the_next_lesson(run: Run, pretend: Pretend) -> None:
    pretend(all_of("02_second", TO_DO))
    out = run("next")[1]
    assert out.startswith("2.1 The third of a number\n5 minutes, difficulty 1 of 5; to do\n")
    assert how_to("check", "2.1") not in out
    pretend({})
    code, out, _ = run("next")
    assert code == 0
    assert out.startswith("Everything here is solved. The notebooks and make test-module")


def test_next_in_a_lesson_stays_in_it(run: Run) -> None:
    assert run("next", "02_second")[1].startswith("2.1 ")


def test_next_for_a_broken_file_is_to_fix_it(run: Run, pretend: Pretend) -> None:
    pretend(broken("01_first", "exercises.py, line 3: invalid syntax"))
    code, out, _ = run("next")
    said = "next: fix 01_first/exercises/exercises.py\n      exercises.py, line 3: invalid syntax\n"
    assert (code, out) == (0, said)


def test_a_challenge_is_called_one(course: Path, run: Run, pretend: Pretend) -> None:
    path = course / "01_first" / "exercises" / "exercises.yaml"
    text = path.read_text(encoding="utf-8").replace(
        "judge: [test_cube]", "judge: [test_cube]\n  challenge: true"
    )
    path.write_text(text, encoding="utf-8")
    pretend({"1.7": Verdict("1.7", TO_DO)})
    assert run("next")[1].startswith("1.7 The cube of a number (challenge)\n")


# --- the core ---


@pytest.fixture
def with_core(course: Path) -> Path:
    """The course with a core: 1.1, 1.4, 1.7 and 2.2."""
    for lesson, names in (("01_first", ("double", "negate", "cube")), ("02_second", ("root",))):
        path = course / lesson / "exercises" / "exercises.yaml"
        text = path.read_text(encoding="utf-8")
        for name in names:
            text = text.replace(f"judge: [test_{name}]", f"judge: [test_{name}]\n  core: true")
        path.write_text(text, encoding="utf-8")
    return course


def test_the_status_counts_the_core(with_core: Path, run: Run, pretend: Pretend) -> None:
    pretend(all_of("01_first", TO_DO, 4) | {"1.5": Verdict("1.5", WRONG)})
    out = run("status")[1]
    assert re.search(r"^01_first .* 2/7 +core 1/3 +wrong: 1\.5$", out, re.MULTILINE)
    assert re.search(r"^02_second .* 2/2 +core 1/1$", out, re.MULTILINE)
    assert re.search(r"^course .* 4/9 +core 2/4 +wrong: 1\.5$", out, re.MULTILINE)
    assert widest(out) <= 80


def test_the_next_exercise_of_the_core_follows_the_last(
    with_core: Path, run: Run, pretend: Pretend
) -> None:
    pretend(
        all_of("01_first", TO_DO) | {"1.1": Verdict("1.1", SOLVED)} | all_of("02_second", TO_DO)
    )
    assert run("next")[1].startswith("1.2 ")
    assert run("next", "--core")[1].startswith("1.4 ")
    assert run("next", "02_second", "--core")[1].startswith("2.2 ")
    assert run("hint", "--core")[1].startswith("1.4 ")
    step = " ".join(run("status", "--core")[1].split())
    assert "next: 1.4 The negate of a number" in step
    assert f"{how_to('watch', flag='--core')} checks every save" in step


def test_the_end_of_the_core_is_said(with_core: Path, run: Run, pretend: Pretend) -> None:
    pretend({"1.2": Verdict("1.2", TO_DO), "2.1": Verdict("2.1", TO_DO)})
    code, out, _ = run("next", "--core")
    assert (code, out) == (
        0,
        "All of the core is solved here. Next is a model of your own:\n"
        f"09_capstone/ROADMAP.md. What the core leaves out: {how_to('next')}\n",
    )
    assert "All of the core is solved here. Next" in run("status", "--core")[1]
    assert run("watch", "--core") == (0, "All of the core is solved here.\n", "")
    assert run("next")[1].startswith("1.2 ")


def test_watch_keeps_to_the_core(with_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lesson = replace(lessons(with_core)[0], only_core=True)
    watch = watch_module.Watch(lesson, watch_module.SpareWorker(), Keyboard(), {})
    watch.verdicts = all_of("01_first", TO_DO) | {"1.1": Verdict("1.1", SOLVED)}
    for expected in ("1.4 ", "1.7 ", "1.4 "):
        exercise = watch.next_exercise()
        assert exercise is not None
        if watch.current:
            watch.move_on()
        else:
            watch.show(exercise)
        assert watch.current == expected.strip()
        said = capsys.readouterr().out
        assert said.startswith(expected)
        assert said.endswith("the core: solved 1, wrong 0, to do 2\n")
    watch.verdicts["1.7"] = Verdict("1.7", SOLVED)
    watch.move_on()
    said = capsys.readouterr().out
    assert said == "1.4 is the only exercise of the core of 01_first that is left\n"


@pytest.mark.parametrize("command", ["check", "reset"])
def test_not_every_command_has_a_core(run: Run, command: str) -> None:
    code, out, err = run(command, "1.1", "--core")
    said = f"error: --core belongs to status, next, watch, hint, solution, not to {command}\n"
    assert (code, out, err) == (2, "", said)


# --- check ---


def blocks(out: str) -> dict[str, list[str]]:
    """The lines of each wrong exercise, by its id."""
    found = {}
    lines = out.splitlines()
    for at, line in enumerate(lines):
        if re.match(r"\d\.\d+ +wrong ", line):
            found[line.split()[0]] = lines[at : lines.index("", at)]
    return found


def test_check_shows_three_outcomes(run: Run) -> None:
    code, out, err = run("check")
    assert (code, err) == (1, "")
    verdicts = dict(re.findall(r"^(\d\.\d+) +(ok|wrong|to do) +The ", out, re.MULTILINE))
    expected = {"1.1": "ok", **{f"1.{at}": "wrong" for at in range(2, 7)}, "1.7": "to do"}
    assert verdicts == {**expected, "2.1": "to do", "2.2": "to do"}
    assert out.index("--- 01_first ---") < out.index("1.1 ")
    assert out.index("1.7 ") < out.index("solved 1, wrong 5, to do 1")
    assert out.index("--- 02_second ---") < out.index("2.1 ")
    assert out.index("2.2 ") < out.index("solved 0, wrong 0, to do 2")


def test_a_wrong_exercise_takes_three_to_eight_lines(run: Run) -> None:
    found = blocks(run("check", "01_first")[1])
    assert list(found) == ["1.2", "1.3", "1.4", "1.5", "1.6"]
    for one, lines in found.items():
        assert 3 <= len(lines) <= 8
        assert widest("\n".join(lines)) <= 80
        assert lines[-1].strip() == f"For a hint: {how_to('hint', one)}"
    texts = {one: " ".join(" ".join(lines).split()) for one, lines in found.items()}
    assert "square square(x=4.0) square of x: got 8.0; expected 16.0" in texts["1.2"]
    assert "This looks like: x is added to itself, where it should be" in texts["1.2"]
    assert "NameError: name 'one' is not defined" in texts["1.3"]
    assert "negate of x: got None; is a return missing?" in texts["1.4"]
    assert "It printed: x is 4.0" in texts["1.4"]
    assert "it calls cube (1.7), which is still to do" in texts["1.5"]
    assert "sign of x: this is a list; expected a number" in texts["1.6"]


@pytest.mark.parametrize(
    ("what", "code", "shown"),
    [
        ("01_first", 1, ["1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7"]),
        ("02_second/", 0, ["2.1", "2.2"]),
        ("1.1", 0, ["1.1"]),
        ("1.2", 1, ["1.2"]),
        ("1.7", 0, ["1.7"]),
    ],
)
def test_check_of_a_part_shows_and_judges_that_part(
    run: Run, what: str, code: int, shown: list[str]
) -> None:
    found, out, _ = run("check", what)
    assert (found, re.findall(r"^(\d\.\d+) ", out, re.MULTILINE)) == (code, shown)


def test_check_of_a_solved_lesson_points_to_the_solutions(run: Run, pretend: Pretend) -> None:
    pretend({})
    code, out, _ = run("check", "01_first")
    assert (code, "next:" in out) == (0, False)
    assert (
        "solved 7, wrong 0, to do 0\nCompare with the solution: 01_first/exercises/solutions.py\n"
        in out
    )


def test_check_of_a_solved_exercise_points_to_its_solution_alone(
    run: Run, pretend: Pretend
) -> None:
    pretend({})
    _, out, _ = run("check", "1.2")
    assert f"Compare with the solution: {how_to('solution', '1.2')}\n" in out


def test_check_of_a_broken_file_says_so_once(run: Run, pretend: Pretend) -> None:
    pretend(broken("01_first", "exercises.py, line 3: invalid syntax"))
    code, out, _ = run("check", "1.2")
    assert code == 1
    assert "nothing can be checked" in out
    assert out.count("invalid syntax") == 1


def test_check_for_programs_gives_every_verdict(course: Path, run: Run) -> None:
    code, out, err = run("check", "--json")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert found["counts"] == {"solved": 1, "wrong": 5, "to do": 3}
    by_id = {one["exercise"]: one for one in found["exercises"]}
    assert [*by_id] == [f"1.{at}" for at in range(1, 8)] + ["2.1", "2.2"]
    square = by_id["1.2"]
    assert {"check", "message", "is_certain", "second_mistake", "hint_for"} <= square.keys()
    assert (square["outcome"], square["lesson"]) == ("wrong", "01_first")
    assert square["diagnosis"].startswith("x is added to itself")
    line = (course / square["file"]).read_text(encoding="utf-8").splitlines()[square["line"] - 1]
    assert line.startswith("def square(")


@pytest.mark.parametrize(
    ("what", "code", "ids"),
    [("1.1", 0, ["1.1"]), ("square", 1, ["1.2"]), ("02_second", 0, ["2.1", "2.2"])],
)
def test_check_for_programs_of_a_part(run: Run, what: str, code: int, ids: list[str]) -> None:
    found, out, _ = run("check", what, "--json")
    assert (found, [one["exercise"] for one in json.loads(out)["exercises"]]) == (code, ids)


def test_only_check_has_an_answer_for_programs(run: Run) -> None:
    code, out, err = run("status", "--json")
    assert (code, out, err) == (2, "", "error: --json belongs to check, not to status\n")


def test_running_exercises_py_does_the_same(course: Path, run: Run) -> None:
    for lesson, code in (("01_first", 1), ("02_second", 0)):
        done = subprocess.run(
            [sys.executable, file_of(course, lesson)], capture_output=True, encoding="utf-8"
        )
        assert (done.returncode, done.stdout, done.stderr) == run("check", lesson)
        assert done.returncode == code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek"], "unknown command 'chek' (did you mean 'check'?); choose one of: status,"),
        (["check", "1.77"], "unknown exercise '1.77'; lesson 1 has 1.1 to 1.7"),
        (["hint", "sqare"], "unknown exercise 'sqare' (did you mean 'square'?); choose one of: "),
        (["check", "Square"], "unknown exercise 'Square' (did you mean 'square'?); choose one of"),
        (["reset", "x.y"], "unknown exercise 'x.y'; choose one of: 1.1, 1.2,"),
        (["hint", "9.9"], "unknown exercise '9.9'; no such lesson"),
        (["reset", "02.1"], "unknown exercise '02.1'; lesson 2 has 2.1 to 2.2"),
        (["check", "02"], "unknown exercise '02'; lesson 2 has 2.1 to 2.2"),
        (["check", "01_frist"], "unknown lesson '01_frist' (did you mean '01_first'?)"),
        (["status", "first"], "unknown lesson 'first' (did you mean '01_first'?)"),
        (["next", "2_second"], "unknown lesson '2_second' (did you mean '02_second'?)"),
        (["watch", "1.3"], "unknown lesson '1.3'; choose one of: 01_first, 02_second"),
        (["check", "1.1", "1.2"], "unknown argument 1.2"),
        (["--chek"], "unknown argument --chek"),
    ],
)
def test_a_typing_error_gets_one_line(run: Run, words: list[str], said: str) -> None:
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {said}")


def test_a_folder_without_lessons_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["learn.py"])
    with pytest.raises(SystemExit) as left:
        run_program(lambda: learn.main(tmp_path))
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        f"error: there are no lessons with exercises in {tmp_path}; restore them from git\n"
    )


# --- exercises by the name of their function ---


def test_a_function_stands_for_its_exercise(course: Path, run: Run) -> None:
    assert run("check", "square") == run("check", "1.2")
    assert run("check", "third") == run("check", "2.1")
    assert "1. the nudge for square" in run("hint", "square")[1]
    assert "1.2 The square of a number: stub restored" in run("reset", "square")[1]


def test_a_function_of_two_lessons_is_refused_with_both_ids(course: Path, run: Run) -> None:
    path = course / "02_second" / "exercises" / "exercises.yaml"
    text = path.read_text(encoding="utf-8").replace("stubs: [root]", "stubs: [square]")
    path.write_text(text, encoding="utf-8")
    old = file_of(course).read_bytes()
    said = "error: 'square' is in 2 exercises; choose one of: 1.2, 2.2\n"
    for command in ("check", "hint", "reset"):
        assert run(command, "square") == (2, "", said)
    assert file_of(course).read_bytes() == old


# --- hint ---

HINTS = ["1. the nudge for double", "2. more about double", "3. nearly all of double"]


def test_every_call_gives_one_more_hint_up_to_three(course: Path, run: Run) -> None:
    ends = [f"(2 more: {how_to('hint', '1.1')})", f"(1 more: {how_to('hint', '1.1')})"]
    ends += ["(That was the last hint.)"] * 2
    for shown, end in zip([1, 2, 3, 3], ends, strict=True):
        code, out, _ = run("hint", "1.1")
        assert code == 0
        assert [line for line in out.splitlines() if line[:2] in ("1.", "2.", "3.")][1:] == (
            HINTS[:shown]
        )
        assert out.startswith("1.1 The double of a number\n")
        assert out.splitlines()[-1] == end
    assert json.loads(state_file(course).read_text(encoding="utf-8"))["hints"] == {"1.1": 3}


def test_hints_are_counted_per_exercise(run: Run) -> None:
    run("hint", "1.1")
    run("hint", "1.1")
    assert "2. " not in run("hint", "2.2")[1]
    assert HINTS[2] in run("hint", "1.1")[1]


def test_a_hint_without_an_id_is_for_the_next_exercise(run: Run, pretend: Pretend) -> None:
    assert "1. the nudge for square" in run("hint")[1]
    assert "2. more about square" in run("hint")[1]
    pretend({})
    assert run("hint")[:2] == (
        0,
        "Everything here is solved. There is nothing to give a hint for.\n",
    )


def test_a_hint_keeps_the_cached_verdicts(course: Path, run: Run) -> None:
    before = run("status")
    run("hint", "1.1")
    assert frugally(course, "status").stdout.startswith(before[1])


def test_no_hint_is_spent_on_a_broken_file(course: Path, run: Run, pretend: Pretend) -> None:
    pretend(broken("01_first", "exercises.py, line 3: invalid syntax"))
    code, out, _ = run("hint")
    assert (code, out.splitlines()[0]) == (0, "next: fix 01_first/exercises/exercises.py")
    assert json.loads(state_file(course).read_text(encoding="utf-8"))["hints"] == {}


FRESH = f'{{"version": {VERSION}, "lessons": {{}}, "hints": '


@pytest.mark.parametrize(
    ("damaged", "shown"),
    [
        ("", 1),
        ("{", 1),
        ("\0\0\0", 1),
        ("[]", 1),
        ('{"version": 1}', 1),
        ('{"version": 0, "lessons": {}, "hints": {"1.1": 2}}', 1),
        (FRESH + "[]}", 1),
        (FRESH + '{"1.1": "two"}}', 1),
        (FRESH + '{"1.1": null}}', 1),
        (FRESH + '{"1.1": -5}}', 1),
        (FRESH + '{"1.1": 1}}', 2),
        (FRESH + '{"1.1": 99}}', 3),
    ],
)
def test_a_damaged_state_file_only_resets_the_hints(
    course: Path, run: Run, damaged: str, shown: int
) -> None:
    state_file(course).write_text(damaged, encoding="utf-8")
    code, out, err = run("hint", "1.1")
    assert (code, err) == (0, "")
    assert [hint for hint in HINTS if hint in out] == HINTS[:shown]
    left = json.loads(state_file(course).read_text(encoding="utf-8"))
    assert left["hints"]["1.1"] == shown


# --- solution ---


@pytest.mark.parametrize("what", ["1.1", "double", ""])  # 1.1 is the only one that is solved
def test_the_solution_of_a_solved_exercise_is_shown_and_no_other(run: Run, what: str) -> None:
    code, out, _ = run("solution", what) if what else run("solution")
    assert code == 0
    assert "def double(x: float) -> float:\n    return 2 * x\n" in out
    assert "x * x" not in out
    assert "Exercise 1.1" not in out  # the docstring stands in the stub as well
    assert "01_first/exercises/solutions.py" in out


@pytest.mark.parametrize(("what", "outcome"), [("1.2", "wrong"), ("1.7", "to do")])
def test_no_solution_is_shown_before_an_exercise_is_solved(
    run: Run, what: str, outcome: str
) -> None:
    code, out, _ = run("solution", what)
    assert code == 1
    assert f"{what} is {outcome}; solve it first" in out
    assert how_to("hint", what) in out
    assert "return" not in out


def test_solution_without_a_solved_exercise_asks_which(run: Run, pretend: Pretend) -> None:
    pretend({"1.1": Verdict("1.1", TO_DO)})
    code, _, err = run("solution")
    assert code == 2
    assert "which exercise?" in err


# --- reset ---


def test_reset_puts_one_stub_back_and_keeps_the_old_file(course: Path, run: Run) -> None:
    file = file_of(course)
    old = file.read_bytes()
    code, out, err = run("reset", "1.2")
    assert (code, err) == (0, "")
    without = {name: body for name, body in BEGUN.items() if name != "square"}
    assert file.read_text(encoding="utf-8") == text_of("01_first", without)
    *said, kept = out.splitlines()
    restored = "1.2 The square of a number: stub restored in 01_first/exercises/exercises.py"
    assert " ".join(said) == restored
    place = kept.removeprefix("Your old file: ")
    assert place.startswith(".progress/backups/01_first-")
    assert (course / place).read_bytes() == old


def test_reset_of_what_is_untouched_changes_nothing(course: Path, run: Run) -> None:
    old = file_of(course).read_bytes()
    code, out, _ = run("reset", "1.7")
    said = "1.7 The cube of a number: nothing to reset, the stub is untouched\n"
    assert (code, out) == (0, said)
    assert file_of(course).read_bytes() == old
    assert not (course / ".progress" / "backups").exists()


def test_reset_keeps_every_older_version(course: Path, run: Run) -> None:
    for one in ("1.1", "1.2", "1.3"):
        run("reset", one)
    assert len([*(course / ".progress" / "backups").iterdir()]) == 3


def test_reset_needs_an_exercise(course: Path, run: Run) -> None:
    old = file_of(course).read_bytes()
    said = f"error: which exercise? For example: {how_to('reset', '1.3')}\n"
    assert run("reset") == (2, "", said)
    assert file_of(course).read_bytes() == old


# --- watch ---


class Session:
    """A running `watch`: its process and what it has printed."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            program(PROGRAM, "watch"),
            cwd=root,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,  # its own process group, as on a terminal
        )
        self.said, self.seen = "", 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        while part := self.process.stdout.readline():
            self.said += part

    def until(self, words: str, seconds: float = 60) -> str:
        """Wait for this text; returns the output up to it."""
        end = time.monotonic() + seconds
        while words not in self.said[self.seen :]:
            assert time.monotonic() < end, f"{words!r} does not come: {self.said[self.seen :]}"
            time.sleep(0.02)
        first, self.seen = self.seen, self.said.index(words, self.seen) + len(words)
        return self.said[first : self.seen]

    def ended(self) -> int:
        return self.process.wait(timeout=30)

    def left_behind(self, seconds: float = 10) -> bool:
        """Whether a process of its process group is still alive."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.05)
        return True


@contextlib.contextmanager
def watching(course: Path) -> Iterator[Session]:
    """A `watch` process that is ended afterwards."""
    session = Session(course)
    yield session
    session.process.kill()
    session.process.wait()
    if session.process.stdout is not None:
        session.process.stdout.close()


@pytest.fixture
def watch(course: Path) -> Iterator[Session]:
    """`watch` on the course in its present state."""
    with watching(course) as session:
        yield session


def test_watch_follows_the_learner_from_save_to_save(course: Path, watch: Session) -> None:
    file = file_of(course)
    counted = "solved {}, wrong {}, to do {}\n"

    said = watch.until(counted.format(1, 5, 1))  # cached: 1.2 is wrong
    assert "1.2 The square of a number\n5 minutes, difficulty 1 of 5; wrong\n" in said
    assert "This looks like: x is added to itself" in said
    assert "also wrong: 1.3, 1.4, 1.5, 1.6\n" in said

    file.write_text("def f(:\n", encoding="utf-8")
    said = watch.until("def f(:\n")
    assert "01_first: nothing can be checked" in said
    assert "exercises.py, line 1: invalid syntax" in said

    done = {**BEGUN, "square": SOLUTIONS["square"], "increase": "return x"}
    write(course, "01_first", done)  # the file is repaired, and 1.2 solved
    said = watch.until(counted.format(2, 4, 1))
    assert f"1.2 is solved. Compare with the solution: {how_to('solution', '1.2')}\n" in said
    assert "1.3 The increase of a number\n5 minutes" in said
    assert "increase of x: got 4.0; expected 5.0" in said

    write(course, "01_first", {**done, "increase": "return x + 2"})
    said = watch.until(counted.format(2, 4, 1))
    assert "increase of x: got 6.0; expected 5.0" in said
    assert "Whoever has" not in said  # it was introduced before
    assert "is solved" not in said

    file.unlink()
    watch.until("waiting for a save: 01_first/exercises/exercises.py is empty or missing\n")

    write(course, "01_first", done)
    time.sleep(0.3)  # two saves within a second
    write(course, "01_first", SOLUTIONS)
    said = watch.until(counted.format(0, 0, 2))  # on to the second lesson
    assert "1.3 is solved." in said
    assert "2.1 The third of a number\n5 minutes, difficulty 1 of 5; to do\n" in said

    write(course, "02_second", SOLUTIONS)
    said = watch.until("Everything here is solved.\n")
    assert "2.1 is solved." in said
    assert watch.ended() == 0
    assert widest(watch.said) <= 80
    assert "Traceback" not in watch.said
    if sys.platform != "win32":
        assert not watch.left_behind()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals as POSIX has them")
def test_ctrl_c_ends_watch_in_one_line_and_leaves_nothing_behind(watch: Session) -> None:
    watch.until("to do 1\n")
    os.killpg(watch.process.pid, signal.SIGINT)  # to the whole group, as a terminal does
    assert watch.ended() == 0
    said = watch.until(f"\nstopped; {how_to('status')} shows where you are\n", seconds=5)
    assert said.count("\n") == 2
    assert not watch.left_behind()


class Waiting:
    """A stand-in for a waiting worker."""

    ended = False

    def end(self) -> None:
        self.ended = True


def test_a_spare_process_is_ended_with_the_watch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Waiting] = []

    def start() -> Waiting:
        started.append(Waiting())
        return started[-1]

    def run_watch(watch: watch_module.Watch) -> None:
        spare = watch.spare
        spare.prepare()
        spare.prepare()
        assert len(started) == 1
        assert spare.take() is started[0]
        spare.prepare()
        raise KeyboardInterrupt

    monkeypatch.setattr(watch_module, "Worker", start)
    monkeypatch.setattr(watch_module.Watch, "run", run_watch)
    assert run("watch") == (0, f"\nstopped; {how_to('status')} shows where you are\n", "")
    assert [one.ended for one in started] == [
        False,
        True,
    ]  # the first is ended by the code that took it


def test_watch_passes_over_lessons_that_are_done(run: Run, pretend: Pretend) -> None:
    pretend({})
    assert run("watch") == (0, "Everything here is solved.\n", "")


def test_watch_reports_an_exercise_that_is_still_to_do(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson = lessons(course)[0]
    verdicts = all_of("01_first", TO_DO)
    watch_module.show_in_watch(lesson, lesson.exercises[0], verdicts, is_new=False)
    said = "1.1 The double of a number: still to do\nsolved 0, wrong 0, to do 7\n"
    assert capsys.readouterr().out == said


def test_watch_fits_eighty_columns_when_everything_is_wrong(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson = long_course(course)[0]
    verdicts = {one.id: Verdict(one.id, WRONG, message="it is wrong") for one in lesson.exercises}
    watch_module.show_in_watch(lesson, lesson.exercises[0], verdicts, is_new=True)
    said = capsys.readouterr().out
    assert widest(said) <= 80
    assert "3.18" in said


# --- the keys of watch, on a terminal ---


class TerminalSession(Session):
    """A command on a pseudo-terminal, which controls it as a terminal window does."""

    def __init__(self, root: Path, *command: str) -> None:
        import fcntl  # not on Windows
        import pty
        import termios

        self.ours, self.terminal = pty.openpty()
        self.settings = termios.tcgetattr(self.terminal)
        self.process = subprocess.Popen(
            command or program(PROGRAM, "watch"),
            cwd=root,
            env=environment(NO_COLOR="1"),
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.said, self.seen = "", 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # Linux reports a closed terminal this way
            while part := os.read(self.ours, 4096):
                self.said += part.decode("utf-8").replace("\r\n", "\n")

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def settings_are_restored(self) -> bool:
        import termios

        return termios.tcgetattr(self.terminal) == self.settings

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        os.close(self.ours)


@pytest.fixture
def terminal(course: Path) -> Iterator[TerminalSession]:
    """`watch` on a terminal, at exercise 1.2, which is wrong."""
    session = TerminalSession(course)
    session.until("keys: h hint, n next exercise, s last solution, r reset, q quit\n")
    yield session
    session.close()


STOPPED = f"stopped; {how_to('status')} shows where you are\n"


@needs_pty
def test_h_gives_one_more_hint_each_time(course: Path, terminal: TerminalSession) -> None:
    terminal.press("h")
    said = terminal.until(f"(2 more: {how_to('hint', '1.2')})\n")
    assert "1. the nudge for square" in said
    terminal.press("H")
    assert "2. more about square" in terminal.until(f"(1 more: {how_to('hint', '1.2')})\n")
    assert json.loads(state_file(course).read_text(encoding="utf-8"))["hints"] == {"1.2": 2}


@needs_pty
def test_n_moves_to_the_next_exercise_and_stays_there(
    course: Path, terminal: TerminalSession
) -> None:
    terminal.press("n")
    said = terminal.until("to do 1\n")
    assert "1.3 The increase of a number\n5 minutes" in said
    assert "NameError: name 'one' is not defined" in said
    for expected in ("1.4 ", "1.5 ", "1.6 ", "1.7 ", "1.2 "):  # 1.1 is solved
        terminal.press("n")
        assert f"{expected}The " in terminal.until("to do 1\n")
    terminal.press("n")
    terminal.until("to do 1\n")
    write(course, "01_first", {**BEGUN, "increase": "return x + 3"})
    assert "1.3 The increase of a number: wrong\n" in terminal.until("to do 1\n")
    assert terminal.said.count("keys: ") == 1


@needs_pty
def test_r_restores_the_stub_only_when_it_is_pressed_again(
    course: Path, terminal: TerminalSession
) -> None:
    old = file_of(course).read_bytes()
    question = "press r again to restore the stub of 1.2; a copy of your file is kept\n"
    terminal.press("r")
    terminal.until(question)
    terminal.press("x")  # another key in between: it asks again
    time.sleep(0.5)
    terminal.press("r")
    terminal.until(question)
    assert file_of(course).read_bytes() == old
    terminal.press("r")
    said = terminal.until("Your old file: ")
    assert "1.2 The square of a number: stub restored in" in said
    terminal.until("1.2 The square of a number: still to do\n")  # the change is checked
    assert b"Exercise 1.2: square" in file_of(course).read_bytes()


@needs_pty
def test_a_reset_that_is_not_possible_does_not_end_watch(
    course: Path, terminal: TerminalSession
) -> None:
    text = text_of("01_first", BEGUN) + "\n\nsquare = 3\n"
    atomic_write_text(file_of(course), text)
    terminal.until("square is an int; expected a function")
    terminal.until("to do 1\n")
    terminal.press("r")
    terminal.until("press r again")
    terminal.press("r")
    terminal.until("binds square again on line")
    terminal.press("q")
    assert terminal.ended() == 0
    assert file_of(course).read_text(encoding="utf-8") == text


@needs_pty
def test_pasted_text_and_arrow_keys_are_not_keys(course: Path, terminal: TerminalSession) -> None:
    old = file_of(course).read_bytes()
    for typed in ("\x1b[A", "\x1b", "quick", "rh", "é"):
        terminal.press(typed)
        time.sleep(0.3)
    assert terminal.process.poll() is None
    assert terminal.said[terminal.seen :] == ""
    assert file_of(course).read_bytes() == old


@needs_pty
@pytest.mark.parametrize("key", ["q", "\x03"])
def test_watch_ends_in_one_line_and_restores_the_terminal(
    terminal: TerminalSession, key: str
) -> None:
    assert not terminal.settings_are_restored()
    terminal.press(key)
    assert terminal.ended() == 0
    assert terminal.until(STOPPED, seconds=5).count("\n") == 2
    assert terminal.settings_are_restored()
    assert not terminal.left_behind()


@needs_pty
@pytest.mark.parametrize(("key", "codes"), [("q", [0]), ("\x03", [0, 130, -signal.SIGINT])])
def test_make_watch_ends_without_a_message_of_make(
    course: Path, key: str, codes: list[int]
) -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    (course / "Makefile").write_text(makefile.replace("watch: install", "watch:"), encoding="utf-8")
    (course / "tools").mkdir()
    (course / "tools" / "learn.py").write_text(PROGRAM, encoding="utf-8")
    session = TerminalSession(course, "make", f"PY={shlex.quote(sys.executable)}", "watch")
    session.until("q quit\n")
    session.press(key)
    assert session.ended() in codes
    session.until(STOPPED, seconds=5)
    time.sleep(0.3)
    assert "***" not in session.said
    session.close()


def test_without_a_terminal_there_are_no_keys(watch: Session) -> None:
    watch.until("to do 1\n")
    assert "keys: " not in watch.said


def test_watch_says_that_it_is_checking_when_that_takes_a_while(
    course: Path, watch: Session
) -> None:
    watch.until("to do 1\n")
    assert "checking" not in watch.said  # the verdicts were cached
    slow = "import time; time.sleep(1); return 2 * x"
    write(course, "01_first", {**BEGUN, "square": slow})
    assert watch.until("to do 1\n").count("checking 01_first ...\n") == 1


# --- a save that takes its time ---

DESTRUCTIVE = ("reset", "git checkout", "git restore")


def solved_so_far() -> dict[str, str]:
    return {**BEGUN, "square": SOLUTIONS["square"]}


@pytest.mark.parametrize("way", ["truncated", "written in two parts", "renamed away"])
def test_watch_waits_for_a_slow_save_and_gives_no_advice_that_loses_work(
    course: Path, watch: Session, way: str
) -> None:
    watch.until("to do 1\n")
    file = file_of(course)
    text = text_of("01_first", solved_so_far())
    if way == "renamed away":
        file.rename(file.with_name("exercises.py~"))
    else:
        file.write_text(text[: len(text) // 2] if "parts" in way else "", encoding="utf-8")
    time.sleep(1.2)
    file.write_text(text, encoding="utf-8")
    said = watch.until("1.2 is solved.")
    assert "wrong" not in said
    for word in DESTRUCTIVE:
        assert word not in said


def test_watch_checks_a_file_that_has_really_lost_a_function(course: Path, watch: Session) -> None:
    watch.until("to do 1\n")
    text = text_of("01_first", BEGUN).replace("def square(", "def squared(")
    file_of(course).write_text(text, encoding="utf-8")
    assert "square is missing from the file" in watch.until("For a hint")


# --- errors of the course, other folders, narrow terminals ---


@pytest.mark.parametrize("command", ["check", "status"])
def test_a_second_file_of_misconceptions_is_an_error_and_not_to_do(
    course: Path, run: Run, command: str
) -> None:
    (course / "01_first" / "tests" / "b_misconceptions.py").write_text(
        "MISCONCEPTIONS = {}\n", encoding="utf-8"
    )
    code, out, err = run(command)
    assert (code, "to do" in out, err.count("\n")) == (1, False, 1)
    assert "must hold exactly one *_misconceptions.py; it holds 2" in err


def test_watch_ends_with_the_error_of_the_course(course: Path) -> None:
    (course / "01_first" / "tests" / "first_misconceptions.py").write_text(
        "<<<<<<< HEAD\n", encoding="utf-8"
    )
    with watching(course) as session:
        assert session.ended() == 1
        assert "first_misconceptions.py, line 1: invalid syntax\n" in session.until("syntax\n")


def test_a_hint_is_given_where_progress_cannot_be_saved(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(learn, "write_state", refuse)
    code, out, err = run("hint", "1.1")
    assert (code, HINTS[0] in out) == (0, True)
    assert err == "note: progress is not saved: Read-only file system\n"


@needs_pty
def test_a_dumb_terminal_gets_no_escape_sequences(course: Path) -> None:
    write(course, "02_second", {"root": "return x"})  # so that something is judged
    assert "\033" not in on_a_terminal(course, TERM="dumb")


class Narrow(io.StringIO):
    """A terminal whose width comes from COLUMNS."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("command", ["status", "next", "check", "hint", "reset"])
def test_lines_fit_a_narrow_terminal(
    course: Path, monkeypatch: pytest.MonkeyPatch, command: str, columns: int
) -> None:
    screen = Narrow()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "argv", ["learn.py", command, *["1.2"] * (command == "reset")])
    learn.main(course)
    assert 20 < widest(screen.getvalue()) <= min(columns, 80)
