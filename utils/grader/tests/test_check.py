"""utils/grader/check.py: which line a learner is sent to."""

import textwrap
from pathlib import Path

import pytest

from utils.grader.check import line_of_exercise
from utils.grader.exercises import Exercise, Lesson

STUB = 'raise NotImplementedError("Exercise 1.1: {}")  # TODO: your code here'


def lesson_of(folder: Path, text: str) -> Lesson:
    """A lesson whose first exercise has two functions, and whose file has this text."""
    (folder / "exercises").mkdir(parents=True)
    (folder / "exercises" / "exercises.py").write_text(textwrap.dedent(text), encoding="utf-8")
    hints = ("a", "b", "c")
    pair = Exercise("1.1", "a pair", "write", ("one", "two"), 5, 1, "so", hints, ("test_pair",))
    return Lesson(folder, (pair,))


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        (STUB.format("one"), STUB.format("two"), 1),
        ("return 1", STUB.format("two"), 4),
        (STUB.format("one"), "return 2", 1),
        ("return 1", "return 2", 1),
    ],
)
def test_a_learner_is_sent_to_the_function_that_is_still_to_do(
    tmp_path: Path, first: str, second: str, line: int
) -> None:
    text = f"def one():\n    {first}\n\ndef two():\n    {second}\n"
    lesson = lesson_of(tmp_path / "01_first", text)
    assert line_of_exercise(lesson, lesson.exercises[0]) == line


def test_a_missing_function_or_file_has_no_line(tmp_path: Path) -> None:
    lesson = lesson_of(tmp_path / "01_first", "x = 1\n")
    assert line_of_exercise(lesson, lesson.exercises[0]) is None
    lesson.file.unlink()
    assert line_of_exercise(lesson, lesson.exercises[0]) is None
