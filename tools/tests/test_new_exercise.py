"""tools/new_exercise.py: what it writes can be read, judged and checked; what exists stays."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tools import new_exercise
from tools.checks.exercises import list_problems, stub_problems
from utils.grader.exercises import KINDS, ROOT, read_lesson
from utils.grader.report import SOLVED, TO_DO
from utils.grader.runner import judge

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of two lessons: the first one of the course, and one without exercises."""
    ignored = shutil.ignore_patterns("__pycache__", "*.png", "*.ipynb", "*.html")
    shutil.copytree(ROOT / "01_attention", tmp_path / "01_attention", ignore=ignored)
    (tmp_path / "02_multi_head").mkdir()
    (tmp_path / "02_multi_head" / "multi_head.py").write_text(
        "from torch import Tensor, nn\n\n"
        "def split_heads(values: Tensor, n_heads: int) -> Tensor:\n    return values\n\n"
        "def use(module: nn.Module) -> None: ...\n",
        encoding="utf-8",
    )
    for name in ("conftest.py", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def run(course: Path, call_program: Run) -> Run:
    """Run the program on the course; exit code, output and errors."""
    return partial(call_program, lambda: new_exercise.main(course))


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_lesson_without_exercises_gets_all_its_files(course: Path, run: Run) -> None:
    code, out, err = run("02_multi_head", "split_heads")
    assert (code, err) == (0, "")
    assert out.startswith(
        "2.1 Split heads (write) is in\n  02_multi_head/exercises/exercises.yaml\n"
    )
    for kind in KINDS[1:]:
        assert run("02_multi_head/", f"some_{kind}", "--kind", kind)[0] == 0
    lesson = read_lesson(course / "02_multi_head")
    assert [(one.id, one.kind) for one in lesson.exercises] == [
        ("2.1", "write"),
        ("2.2", "predict"),
        ("2.3", "repair"),
        ("2.4", "read"),
    ]
    assert [*stub_problems(lesson), *list_problems(lesson)] == []
    verdicts, _ = judge(lesson)
    assert [found.outcome for found in verdicts.values()] == [TO_DO] * 4
    solved, _ = judge(lesson, solutions=True)
    assert [found.outcome for found in solved.values()] == [SOLVED] * 4


def test_the_arguments_come_from_the_reference(course: Path, run: Run) -> None:
    run("02_multi_head", "split_heads")
    text = (course / "02_multi_head/exercises/exercises.py").read_text(encoding="utf-8")
    assert "\n\n\ndef split_heads(values: Tensor, n_heads: int) -> Tensor:\n" in text
    assert (
        '    raise NotImplementedError("Exercise 2.1: split_heads")  # TODO: your code here' in text
    )
    assert text.endswith('\n\n\nif __name__ == "__main__":\n    check_file(__file__)\n')
    solutions = (course / "02_multi_head/exercises/solutions.py").read_text(encoding="utf-8")
    assert "    return values  # TODO: the solution, and why\n" in solutions


def test_the_arguments_may_be_given(course: Path, run: Run) -> None:
    given = "(weights: Tensor, base: float = 2.0) -> Tensor"
    assert run("02_multi_head", "entropy", "--arguments", given)[0] == 0
    for name in ("exercises/exercises.py", "exercises/solutions.py"):
        text = (course / "02_multi_head" / name).read_text(encoding="utf-8")
        assert f"def entropy{given}:\n" in text
    tests = (course / "02_multi_head/tests/test_multi_head_exercises.py").read_text("utf-8")
    assert "ex.entropy(x)" in tests


def test_annotations_that_a_stub_cannot_use_are_not_copied(course: Path, run: Run) -> None:
    run("02_multi_head", "use")
    text = (course / "02_multi_head/exercises/exercises.py").read_text(encoding="utf-8")
    assert "def use(x: Tensor) -> Tensor:\n" in text


def test_an_exercise_follows_the_last_one_and_changes_nothing_else(course: Path, run: Run) -> None:
    before = read_lesson(course / "01_attention")
    old = contents(course)
    title = 'The "last" one: C:\\ # really'
    code, out, _ = run("01_attention", "one_more", "--title", title)
    assert code == 0
    lesson = read_lesson(course / "01_attention")
    number = len(before.exercises) + 1
    new = lesson.exercises[-1]
    assert lesson.exercises[:-1] == before.exercises
    assert (new.id, new.title, new.names) == (f"1.{number}", title, ("one_more",))
    assert new.difficulty == before.exercises[-1].difficulty
    assert all("TODO" in text for text in (new.why, *new.hints))
    assert [*stub_problems(lesson), *list_problems(lesson)] == []
    verdicts, _ = judge(lesson, [new.id])
    assert verdicts[new.id].outcome == TO_DO
    changed = {path for path, data in old.items() if path.read_bytes() != data}
    assert {path.relative_to(course).as_posix() for path in changed} == {
        line.strip() for line in out.splitlines()[1:6]
    }
    for path in changed:  # nothing is lost
        kept = path.read_text(encoding="utf-8").split()
        assert set(old[path].decode().split()) - set(kept) <= {"}"}


@pytest.mark.parametrize("flags", [(), ("--core",)])
def test_an_exercise_of_the_core_is_marked(course: Path, run: Run, flags: tuple[str, ...]) -> None:
    assert run("01_attention", "one_more", *flags)[0] == 0
    assert read_lesson(course / "01_attention").exercises[-1].core == bool(flags)


def test_a_misconception_is_listed_in_the_dictionary(course: Path, run: Run) -> None:
    from utils.grader.pytest_plugin import load_misconceptions

    for name in ("one_more", "and_another"):
        run("01_attention", name)
    run("02_multi_head", "split_heads")
    for lesson, names in (
        ("01_attention", ("one_more", "and_another")),
        ("02_multi_head", ("split_heads",)),
    ):
        path = read_lesson(course / lesson).misconceptions_file()
        known = load_misconceptions(path)
        for name in names:
            [wrong] = known[name]
            assert wrong.__name__ == f"wrong_{name}"
            assert wrong.__doc__.startswith("TODO")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["01_attention", "softmax"], 2, "01_attention has softmax already: it is exercise 1.1"),
        (["01_attention", "check_file"], 1, "exercises.py has check_file already; nothing was"),
        (["01_atention", "x"], 2, "unknown lesson '01_atention' (did you mean '01_attention'?)"),
        (["01_attention", "2x"], 2, "'2x' cannot be the name of a function"),
        (["01_attention", "class"], 2, "'class' cannot be the name of a function"),
        (["01_attention", "x", "--kind", "red"], 2, "unknown kind 'red' (did you mean 'read'?)"),
        (["01_attention"], 2, "the following arguments are required: name"),
        (["01_attention", "x", "--arguments", "(x"], 2, "arguments '(x' must look like '(x: Ten"),
        (["01_attention", "x", "--arguments", "(x: Foo)"], 2, "arguments '(x: Foo)' must look"),
    ],
)
def test_what_exists_or_cannot_be_is_refused_in_one_line(
    course: Path, run: Run, arguments: list[str], code: int, said: str
) -> None:
    old = contents(course)
    found, out, err = run(*arguments)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(f"error: {said}")
    assert contents(course) == old


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "exercises/solutions.py",
            "",
            "02_multi_head has exercises/solutions.py, but no exercises",
        ),
        (
            "tests/test_multi_head_exercises.py",
            "",
            "02_multi_head has test_multi_head_exercises.py,",
        ),
    ],
)
def test_half_of_a_lesson_is_refused(
    course: Path, run: Run, name: str, text: str, said: str
) -> None:
    path = course / "02_multi_head" / name
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    code, _, err = run("02_multi_head", "split_heads")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"error: {said}")
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_that_cannot_be_parsed_is_refused(course: Path, run: Run) -> None:
    path = course / "01_attention/tests/attention_misconceptions.py"
    path.write_text("def f(:\n", encoding="utf-8")
    old = contents(course)
    code, _, err = run("01_attention", "one_more")
    assert (code, err) == (
        1,
        "error: attention_misconceptions.py is not valid Python: repair it first\n",
    )
    assert contents(course) == old
