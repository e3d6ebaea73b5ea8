"""An answer whose state load_state_dict refuses is told so in plain words, in every lesson."""

import ast

import pytest

from tools.try_answers import Answer, judge_all
from utils.grader.exercises import Exercise, Lesson, find_exercise, lessons
from utils.grader.learner_code import read_source

COURSE = lessons()
RAW = ("Error(s) in", "key(s) in", "size mismatch for", "torch.Size")  # PyTorch's own words

# By exercise: a call in its solution, and what a learner may write in its place
SPOILED = {
    "8.6": (
        ("model.load_state_dict(state['model'])", "model.load_state_dict(state)"),
        ("model.load_state_dict(state['model'])", "model.load_state_dict(state['optimizer'])"),
        ("optimizer.load_state_dict(state['optimizer'])", "optimizer.load_state_dict({})"),
    ),
    "9.4": (
        ("model.load_state_dict(best_weights)", "model.load_state_dict({})"),
        ("model.load_state_dict(best_weights)", "model[0].load_state_dict(best_weights)"),
        (
            "model.load_state_dict(best_weights)",
            "model.load_state_dict(dict(model.named_parameters()))",
        ),
    ),
}


def solution_of(lesson: Lesson, exercise: Exercise) -> str:
    """The functions of an exercise, as its solution has them."""
    tree = read_source(lesson.solutions).tree
    named = [node for node in tree.body if getattr(node, "name", "") in exercise.names]
    return "\n\n".join(map(ast.unparse, named))


def test_every_exercise_that_loads_a_state_is_tried_here():
    found = {
        exercise.id
        for lesson in COURSE
        for exercise in lesson.exercises
        if ".load_state_dict(" in solution_of(lesson, exercise)
    }
    assert found == SPOILED.keys()


@pytest.mark.parametrize("number", SPOILED)
def test_a_refused_state_is_told_in_plain_words(number):
    lesson, exercise = find_exercise(number, COURSE)
    right = solution_of(lesson, exercise)
    assert all(call in right for call, _ in SPOILED[number])
    codes = [right.replace(call, wrong) for call, wrong in SPOILED[number]]
    answers = [Answer(number, False, "spoiled", code + "\n", 1) for code in codes]
    for one in judge_all(lesson, answers):
        assert not one.passed
        assert not any(words in one.found.message for words in RAW), one.found.message
        assert "In plain words: " in one.found.message, one.found.message
