"""Exercises of every kind, and answers written by PyTorch: judged in one lesson by one worker."""

import json
import math
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest

from utils.errors import CourseError
from utils.grader.calls import Call, history
from utils.grader.exercises import Lesson, lessons, read_lesson
from utils.grader.feedback import Wrong, expect_choice, expect_prediction
from utils.grader.learner_code import read_source
from utils.grader.pytest_plugin import AS_GIVEN
from utils.grader.report import SOLVED, TO_DO, WRONG, Verdict
from utils.grader.runner import judge
from utils.grader.stubs import make_stubs, reset_exercise

HEAD = """import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
"""
TESTS = """
import numpy as np
import torch

from utils.grader.feedback import expect_choice, expect_equal, expect_prediction

X = torch.tensor([[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]])


def truth(x):
    return torch.tensor(x).softmax(-1).numpy() if isinstance(x, np.ndarray) else x.softmax(-1)
"""
WRITTEN = "e = x.exp()\nreturn e / e.sum(-1, keepdim=True)"
WRITTEN_IN_NUMPY = "e = np.exp(x)\nreturn e / e.sum(-1, keepdims=True)"
BUGGY = "e = x.exp()\nreturn e / e.sum(0)\n"
RAISE = 'raise NotImplementedError("Exercise 1.NUMBER: NAME")\n'
PREDICTED = [0.125, 0.375, 0.5]
DIAGNOSIS = "the sum runs over the rows"
MISCONCEPTIONS = f"""
def given(x):
    {DIAGNOSIS!r}
    e = x.exp()
    return e / e.sum(0)


MISCONCEPTIONS = {{"not_repaired": (given,), "repaired_elsewhere": (given,)}}
"""
WITHOUT = {"write": ["softmax", "log_softmax"], "array": ["*"]}
BY_SOFTMAX = "correct, but written by PyTorch's softmax: now without it"
BY_PYTORCH = "correct, but written by PyTorch: now without it"
LEFTOVER = "still raises NotImplementedError: delete that line"

# name: kind, body of the answer, outcome, what the message has
ANSWERS: dict[str, tuple[str, str, str, str]] = {
    "written": ("write", WRITTEN, SOLVED, ""),
    "untouched": ("write", RAISE, TO_DO, ""),
    "by_function": ("write", "return torch.softmax(x, -1)", WRONG, BY_SOFTMAX),
    "by_functional": ("write", "return F.softmax(x, dim=-1)", WRONG, BY_SOFTMAX),
    "by_method": ("write", "return x.softmax(-1).nan_to_num(0.0)", WRONG, BY_SOFTMAX),
    "by_module": ("write", "return nn.Softmax(-1)(x)", WRONG, BY_SOFTMAX),
    "by_logarithm": ("write", "return F.log_softmax(x, -1).exp()", WRONG, "by PyTorch's log_soft"),
    "by_function_and_wrong": ("write", "return torch.softmax(x, 0)", WRONG, "the weights: the fi"),
    "wrong_in_float64": ("write", "return x.float().softmax(-1)", WRONG, "dtype torch.float32"),
    "array_written": ("array", WRITTEN_IN_NUMPY, SOLVED, ""),
    "array_by_torch": ("array", "return torch.tensor(x).softmax(-1).numpy()", WRONG, BY_PYTORCH),
    "array_by_exp": (
        "array",
        "e = torch.from_numpy(x).exp()\nreturn (e / e.sum(-1, keepdim=True)).numpy()",
        WRONG,
        BY_PYTORCH,
    ),
    "array_by_torch_and_wrong": ("array", "return torch.tensor(x).exp().numpy()", WRONG, "the fir"),
    "handed_out": ("repair", RAISE + BUGGY, TO_DO, ""),
    "repaired_below_raise": ("repair", RAISE + WRITTEN, WRONG, LEFTOVER),
    "repaired": ("repair", WRITTEN, SOLVED, ""),
    "not_repaired": ("repair", BUGGY, WRONG, "the weights: the first difference at [0, 0]"),
    "not_repaired_with_comment": ("repair", f'"""Mine."""\n{BUGGY}# why?\n', WRONG, AS_GIVEN),
    "repaired_elsewhere": ("repair", f"x = x + 1\n{BUGGY}", WRONG, "the weights: the first differ"),
    "emptied": ("repair", RAISE, WRONG, LEFTOVER),
    "predict_nothing": ("predict", RAISE, TO_DO, ""),
    "predict_well": ("predict", "return [0.12, 0.38, 0.5]", SOLVED, ""),
    "predict_a_tensor": ("predict", "return torch.tensor([0.125, 0.375, 0.5])", SOLVED, ""),
    "predict_badly": ("predict", "return [0.12, 0.2, 0.68]", WRONG, "1 of 3 values correct in"),
    "predict_two": ("predict", "return [0.12, 0.88]", WRONG, "got 2 numbers; 3 are expected"),
    "predict_words": ("predict", "return 'no idea'", WRONG, "this is a str; expected a list of 3"),
    "predict_none": ("predict", "[0.125, 0.375, 0.5]", WRONG, "got None; is a return missing?"),
    "read_nothing": ("read", RAISE, TO_DO, ""),
    "read_well": ("read", "return {'causal': 'B'}", SOLVED, ""),
    "read_badly": ("read", "return {'causal': 'A'}", WRONG, "causal: A is wrong"),
}


def build(root: Path) -> Lesson:
    """A lesson with one exercise per answer."""
    entries, tests, answers, solutions = [], [TESTS], [HEAD], [HEAD]
    for number, (name, (kind, body, _, _)) in enumerate(ANSWERS.items(), start=1):
        entries.append(entry_of(number, name, kind))
        tests.append(checks_of(name, kind))
        answers.append(
            function(name, kind, body.replace("NUMBER", str(number)).replace("NAME", name))
        )
        solutions.append(function(name, kind, "pass" if kind in ("predict", "read") else WRITTEN))
    files = {
        "conftest.py": 'pytest_plugins = ["utils.grader.pytest_plugin"]\n',
        "requirements.txt": "",
        "01_first/exercises/exercises.py": "".join(answers),
        "01_first/exercises/solutions.py": "".join(solutions),
        "01_first/exercises/exercises.yaml": json.dumps(entries),
        "01_first/tests/test_first_exercises.py": "".join(tests),
        "01_first/tests/first_misconceptions.py": MISCONCEPTIONS,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return read_lesson(root / "01_first")


def entry_of(number: int, name: str, kind: str) -> dict[str, Any]:
    entry = {"id": f"1.{number}", "title": name, "kind": kind.replace("array", "write")}
    entry |= {"stubs": [name], "minutes": 1, "difficulty": 1, "why": "so", "hints": ["a", "b", "c"]}
    entry |= {"judge": [f"test_{name}", f"test_{name}_again"]}
    if kind in WITHOUT:
        entry["without"] = WITHOUT[kind]
    if kind == "repair":
        entry["body"] = BUGGY
    return entry


def checks_of(name: str, kind: str) -> str:
    """Two tests of an answer; the second is stricter for functions, the same for the rest."""
    inputs = ("X.numpy()", "X.double().numpy()") if kind == "array" else ("X", "X.double()")
    checks = [f'expect_equal(ex.{name}({x}), truth({x}), what="the weights")' for x in inputs]
    if kind == "predict":
        checks = [f'expect_prediction(ex.{name}(), {PREDICTED}, "the weights")'] * 2
    if kind == "read":
        checks = [
            f'answer = ex.{name}()\n    expect_choice(answer, answer["causal"], "B", "causal")'
        ] * 2
    return "".join(
        f'\n\ndef test_{name}{ending}(ex):\n    """the answer to {name}"""\n    {one}\n'
        for ending, one in zip(("", "_again"), checks, strict=True)
    )


def function(name: str, kind: str, body: str) -> str:
    arguments = "" if kind in ("predict", "read") else "x"
    return f"\n\ndef {name}({arguments}):\n{textwrap.indent(body, '    ')}\n"


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    return build(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def verdicts(lesson: Lesson) -> dict[str, Verdict]:
    """The verdict on each answer, by its name."""
    found, _ = judge(lesson)
    return {exercise.title: found[exercise.id] for exercise in lesson.exercises}


@pytest.mark.parametrize("name", ANSWERS)
def test_each_answer_gets_its_verdict(verdicts: dict[str, Verdict], name: str) -> None:
    _, _, outcome, said = ANSWERS[name]
    found = verdicts[name]
    assert (found.outcome, found.message == "") == (outcome, outcome != WRONG), found.message
    assert said in found.message


def test_a_repair_as_it_was_given_says_so_and_has_no_diagnosis(
    verdicts: dict[str, Verdict],
) -> None:
    lines = verdicts["not_repaired"].message.splitlines()
    assert lines[-1] == AS_GIVEN
    assert "got" in lines[1], "what it gives, and what is expected"
    assert verdicts["not_repaired"].diagnosis == ""
    changed = verdicts["repaired_elsewhere"]
    assert AS_GIVEN not in changed.message
    assert changed.diagnosis == DIAGNOSIS


def test_a_mistake_is_reported_before_the_function_that_replaces_the_exercise(
    verdicts: dict[str, Verdict],
) -> None:
    found = verdicts["wrong_in_float64"]  # right, by torch.softmax, in the first check
    assert "written by" not in found.message
    assert (found.failed, found.checks) == (1, 2)


def test_an_answer_written_by_pytorch_has_no_failed_check_to_show(
    verdicts: dict[str, Verdict],
) -> None:
    found = verdicts["by_function"]
    assert (found.message, found.check, found.failed) == (BY_SOFTMAX, "", 1)
    assert found.is_replaced


def test_the_failed_check_is_reported_by_its_sentence(verdicts: dict[str, Verdict]) -> None:
    assert verdicts["by_function_and_wrong"].check == "the answer to by_function_and_wrong"


@pytest.mark.parametrize("name", [name for name in ANSWERS if ANSWERS[name][0] == "predict"])
def test_a_prediction_is_never_given_away(verdicts: dict[str, Verdict], name: str) -> None:
    for value in PREDICTED:
        assert str(value) not in verdicts[name].message


def test_a_reading_is_never_given_away(verdicts: dict[str, Verdict]) -> None:
    assert "B" not in verdicts["read_badly"].message


# --- the stubs of repairs ---


def exercise_named(lesson: Lesson, name: str) -> Any:
    return next(one for one in lesson.exercises if one.title == name)


def test_the_stub_of_a_repair_holds_the_code_to_repair(lesson: Lesson) -> None:
    stub = make_stubs(lesson)["repaired"]
    number = exercise_named(lesson, "repaired").id
    assert stub == (
        f'def repaired(x):\n    raise NotImplementedError("Exercise {number}: repaired")'
        "  # TODO: delete, then repair\n    e = x.exp()\n    return e / e.sum(0)\n"
    )


def test_only_the_code_as_handed_out_counts_as_untouched(lesson: Lesson) -> None:
    untouched = {stub.name for stub in read_source(lesson.file).stubs()}
    repairs = {name for name, (kind, *_) in ANSWERS.items() if kind == "repair"}
    assert untouched & repairs == {"handed_out"}


@pytest.mark.parametrize("name", ["repaired", "repaired_below_raise", "not_repaired", "emptied"])
def test_a_reset_restores_the_code_to_repair(tmp_path: Path, name: str) -> None:
    lesson = build(tmp_path)
    exercise = exercise_named(lesson, name)
    assert reset_exercise(lesson, exercise) is not None
    assert make_stubs(lesson)[name] in lesson.file.read_text(encoding="utf-8")
    assert (exercise.id, name) in {
        (stub.exercise, stub.name) for stub in read_source(lesson.file).stubs()
    }


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.name)
def test_every_repair_of_the_course_is_recognized_without_its_raise_line(
    tmp_path: Path, lesson: Lesson
) -> None:
    repairs = [one for one in lesson.exercises if one.kind == "repair"]
    file = tmp_path / lesson.name / "exercises" / "exercises.py"
    file.parent.mkdir(parents=True)
    shutil.copy(lesson.file.with_suffix(".yaml"), file.parent)
    text = lesson.file.read_text(encoding="utf-8")
    for one in repairs:
        text, count = re.subn(rf'\n *raise NotImpl\w+\("Exercise {re.escape(one.id)}:.*', "", text)
        assert count == len(one.stubs)
    file.write_text(text, encoding="utf-8")
    source = read_source(file)
    assert [one.id for one in lesson.exercises if source.is_as_given(one.id, one.stubs)] == [
        one.id for one in repairs
    ]
    untouched = read_source(lesson.file)
    assert not any(untouched.is_as_given(one.id, one.stubs) for one in repairs)


# --- what a prediction and a choice are compared with ---


@pytest.fixture
def misconceptions() -> Any:
    """Known wrong predictions; the history is emptied afterwards."""

    def unmasked() -> list[float]:
        """the hidden key has kept its weight"""
        return [0.2, 0.3, 0.5]

    def reversed_row() -> list[float]:
        """the row is read from the right"""
        return [0.5, 0.375, 0.125]

    yield [unmasked, reversed_row]
    history.clear()


def told(answer: Any, misconceptions: Any) -> Wrong:
    """The error for a prediction."""
    call = Call("predict", (), {}, pytest.importorskip("torch").get_rng_state(), misconceptions)
    call.result = answer
    history.add(call)
    with pytest.raises(Wrong) as error:
        expect_prediction(answer, PREDICTED, "the weights")
    return error.value


def test_a_known_wrong_prediction_is_named(misconceptions: Any) -> None:
    assert told([0.2, 0.3, 0.5], misconceptions).explained_by == {
        "the hidden key has kept its weight"
    }
    assert told([0.9, 0.05, 0.05], misconceptions).explained_by == frozenset()


def test_a_prediction_may_be_infinite_and_its_sum_is_no_help_where_it_is_not_1() -> None:
    with pytest.raises(Wrong, match=r"2 of 3 values correct in 1, 2, inf$"):
        expect_prediction([1.0, 2.0, math.inf], [1.0, 2.0, 3.0], "the numbers")
    expect_prediction([1.0, math.inf], [1.0, math.inf], "the numbers")
    with pytest.raises(Wrong, match=r"yours sum to 1\.1; they should sum to 1$"):
        expect_prediction([0.5, 0.6], [0.5, 0.5], "the weights")


def test_a_known_wrong_choice_is_named() -> None:
    def swapped() -> dict[str, str]:
        """rows are queries, not keys"""
        return {"causal": "A"}

    answer = {"causal": "A"}
    call = Call("read", (), {}, pytest.importorskip("torch").get_rng_state(), [swapped])
    call.result = answer
    history.add(call)
    with pytest.raises(Wrong, match=r"^causal: A is wrong$") as error:
        expect_choice(answer, answer["causal"], "B", "causal")
    assert error.value.explained_by == {"rows are queries, not keys"}
    expect_choice(answer, "B", "B", "causal")
    history.clear()


def test_a_right_choice_refutes_those_who_chose_otherwise() -> None:
    def swapped() -> dict[str, str]:
        """the two are exchanged"""
        return {"causal": "B", "padding": "A"}

    def one_wrong() -> dict[str, str]:
        """padding is a column"""
        return {"causal": "A", "padding": "C"}

    answer = {"causal": "A", "padding": "B"}
    call = Call("read", (), {}, pytest.importorskip("torch").get_rng_state(), [swapped, one_wrong])
    call.result = answer
    history.add(call)
    expect_choice(answer, answer["causal"], "A", "causal")
    assert history.refuted == {"the two are exchanged"}
    history.clear()


# --- what exercises.yaml allows ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "guess"}, "kind is 'guess'; allowed: write, predict, repair, read"),
        ({"kind": ["write"]}, "kind must be a string, not ['write']"),
        ({"kind": "repair"}, "an exercise of the kind repair, and only that, has a body"),
        ({"body": "return 1"}, "an exercise of the kind repair, and only that, has a body"),
        ({"kind": "predict", "body": "return 1"}, "an exercise of the kind repair, and only that"),
        ({"kind": "repair", "body": "return ("}, "body is not valid Python: '(' was never closed"),
        ({"kind": "repair", "body": ""}, "body must be a string, not ''"),
        ({"without": "softmax"}, "without must be a list, not 'softmax'"),
        ({"without": []}, "without must be a list, not []"),
    ],
)
def test_a_wrong_combination_of_keys_is_one_line(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = build(tmp_path).folder
    entry = entry_of(1, "written", "other") | {"kind": "write"} | change
    (folder / "exercises" / "exercises.yaml").write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.raises(CourseError) as error:
        read_lesson(folder)
    assert str(error.value).startswith(f"01_first/exercises/exercises.yaml: exercise 1.1: {said}")
    assert "\n" not in str(error.value)


def test_a_missing_kind_is_one_line(tmp_path: Path) -> None:
    folder = build(tmp_path).folder
    entry = entry_of(1, "written", "write")
    del entry["kind"]
    (folder / "exercises" / "exercises.yaml").write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.raises(CourseError, match=r"exercise 1\.1: kind is missing$"):
        read_lesson(folder)
