"""utils/grader/root_cause.py: a wrong answer that calls another wrong one names that one first."""

import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from utils.grader.exercises import Exercise, Lesson
from utils.grader.report import SOLVED, TO_DO, WRONG, Verdict, message_lines
from utils.grader.root_cause import with_root_causes

NAMES = ("softmax", "scores", "attention", "cost")


def lesson_of(root: Path, text: str) -> Lesson:
    """A lesson with four exercises, whose file has this text."""
    folder = root / "01_first"
    (folder / "exercises").mkdir(parents=True)
    (folder / "exercises" / "exercises.py").write_text(textwrap.dedent(text), encoding="utf-8")
    exercises = (
        Exercise(f"1.{at}", name, "write", (name,), 5, 1, "so", ("a", "b", "c"), (f"test_{name}",))
        for at, name in enumerate(NAMES, start=1)
    )
    return Lesson(folder, tuple(exercises))


def causes(lesson: Lesson, *wrong: str, **others: str) -> dict[str, str]:
    """The exercise to fix first, for each that has one; `wrong` are names, the rest is solved."""
    outcomes = dict.fromkeys(NAMES, SOLVED) | dict.fromkeys(wrong, WRONG) | others
    verdicts = {
        exercise.id: Verdict(exercise.id, outcomes[exercise.title], "a check", "own message", "own")
        for exercise in lesson.exercises
    }
    found = with_root_causes(lesson, verdicts)
    names = {exercise.id: exercise.title for exercise in lesson.exercises}
    return {names[one]: names[each.hint_for] for one, each in found.items() if each.hint_for}


DIRECT = """
def softmax(x): return x
def scores(q, k): return q
def attention(q, k): return softmax(scores(q, k))
def cost(n): return n
"""


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (("softmax", "attention"), {"attention": "softmax"}),
        (("scores", "attention"), {"attention": "scores"}),
        (("softmax", "scores", "attention"), {"attention": "softmax"}),
        (("softmax", "cost"), {}),
        (("attention",), {}),
        (("softmax",), {}),
        ((), {}),
    ],
)
def test_a_wrong_answer_that_calls_a_wrong_one_names_the_first(tmp_path, wrong, expected):
    assert causes(lesson_of(tmp_path, DIRECT), *wrong) == expected


@pytest.mark.parametrize("outcome", [SOLVED, TO_DO])
def test_what_is_solved_or_to_do_is_not_a_cause(tmp_path, outcome):
    assert causes(lesson_of(tmp_path, DIRECT), "attention", "cost", softmax=outcome) == {}


def test_a_solved_answer_that_calls_a_wrong_one_stays_solved(tmp_path):
    assert causes(lesson_of(tmp_path, DIRECT), "softmax", "scores") == {}


def test_the_root_cause_is_all_that_is_said(tmp_path):
    lesson = lesson_of(tmp_path, DIRECT)
    verdicts = {
        "1.1": Verdict("1.1", WRONG, "a check", "own message", "own"),
        "1.2": Verdict("1.2", SOLVED),
        "1.3": Verdict("1.3", WRONG, "a check", "m", "d", printed="p", failed=4, checks=5),
        "1.4": Verdict("1.4", SOLVED),
    }
    found = with_root_causes(lesson, verdicts)
    assert found["1.1"] == verdicts["1.1"]
    assert message_lines(found["1.3"]) == [
        "it calls your softmax (1.1), which is wrong: fix that first",
        message_lines(verdicts["1.1"])[-1],  # the hint is for 1.1
    ]


def test_of_an_exercise_with_two_functions_the_one_that_is_called_is_named(tmp_path):
    lesson = lesson_of(tmp_path, DIRECT)
    both = replace(lesson.exercises[0], stubs=("softmax", "scores"))
    lesson = replace(lesson, exercises=(both, *lesson.exercises[2:]))
    (lesson.folder / "exercises" / "exercises.py").write_text(
        "def softmax(x): return x\ndef scores(q): return q\ndef attention(q): return scores(q)",
        encoding="utf-8",
    )
    verdicts = {one: Verdict(one, WRONG, "a check", "own message") for one in ("1.1", "1.3")}
    assert with_root_causes(lesson, verdicts)["1.3"].message == (
        "it calls your scores, part of 1.1, which is wrong: fix that first"
    )


CHAIN = """
def softmax(x): return x
def helper(x): return softmax(x)
def scores(x): return helper(x)
class Inner:
    def run(self, x): return scores(x)
def attention(x): return Inner().run(x)
def cost(n): return n
"""


def test_calls_are_followed_through_helpers_and_classes_to_the_first_cause(tmp_path):
    lesson = lesson_of(tmp_path, CHAIN)
    expected = {"scores": "softmax", "attention": "softmax"}
    assert causes(lesson, "softmax", "scores", "attention") == expected


def test_the_cause_is_found_across_a_solved_exercise(tmp_path):
    assert causes(lesson_of(tmp_path, CHAIN), "softmax", "attention") == {"attention": "softmax"}


def test_two_that_call_each_other_do_not_point_at_each_other(tmp_path):
    text = """
        def softmax(x): return scores(x)
        def scores(x): return softmax(x)
        def attention(x): return x
        def cost(n): return n
    """
    assert causes(lesson_of(tmp_path, text), "softmax", "scores") == {"scores": "softmax"}


@pytest.mark.parametrize(
    "body",
    [
        "softmax = x.exp()\n    return softmax / softmax.sum()",
        "return [softmax for softmax in x]",
        "import scores\n    return x",
        "return x.softmax(-1)",
        "return 'softmax'",
    ],
)
def test_a_local_variable_of_the_same_name_is_not_a_call(tmp_path, body):
    text = f"{DIRECT}\ndef attention(q, k):\n    x = q\n    {body}\n"
    assert causes(lesson_of(tmp_path, text), "softmax", "scores", "attention") == {}


def test_an_argument_of_the_same_name_is_not_a_call(tmp_path):
    text = f"{DIRECT}\ndef attention(q, scores): return scores\n"
    assert causes(lesson_of(tmp_path, text), "scores", "attention") == {}


def test_an_answer_that_is_right_but_written_by_pytorch_is_not_a_cause(tmp_path):
    lesson = lesson_of(tmp_path, DIRECT)
    verdicts = {one.id: Verdict(one.id, WRONG, message="no") for one in lesson.exercises}
    verdicts["1.1"] = Verdict("1.1", WRONG, message="correct, but written by", is_replaced=True)
    found = with_root_causes(lesson, verdicts)
    assert found["1.3"].hint_for == "1.2"
    verdicts["1.2"] = Verdict("1.2", SOLVED)
    assert with_root_causes(lesson, verdicts) == verdicts


@pytest.mark.parametrize("text", ["def softmax(:\n", "\0", ""])
def test_a_file_that_cannot_be_read_has_no_root_causes(tmp_path, text):
    assert causes(lesson_of(tmp_path, text), *NAMES) == {}


def test_a_broken_file_has_no_root_causes(tmp_path):
    lesson = lesson_of(tmp_path, DIRECT)
    verdicts = {
        one.id: Verdict(one.id, WRONG, message="line 3", broken_file=True)
        for one in lesson.exercises
    }
    assert with_root_causes(lesson, verdicts) == verdicts
