"""utils/grader/mistakes.py: wrong answers made by settings, alone and two at a time."""

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from utils.grader.calls import Call, history
from utils.grader.exercises import Exercise
from utils.grader.feedback import Wrong, expect_equal, expect_parameters
from utils.grader.guard import Clock, Guarded
from utils.grader.mistakes import Suspects, class_of, mistakes, pairs_of
from utils.grader.resemblance import diagnosis

HALVED, SHIFTED, FLIPPED = "the values are halved", "1 is added", "the order is reversed"


def line_with(x, *, factor=2.0, shift=0.0, flipped=False):
    """Twice x."""
    y = factor * x + shift
    return y.flip(-1) if flipped else y


LINE = mistakes(
    line_with,
    halved=(HALVED, {"factor": 1.0}),
    tripled=("the values are tripled", {"factor": 3.0}),
    shifted=(SHIFTED, {"shift": 1.0}),
    flipped=(FLIPPED, {"flipped": True}),
)


@pytest.fixture(autouse=True)
def fresh_history():
    history.clear()
    history.suspects = Suspects()
    yield
    history.clear()
    history.suspects = Suspects()


def answer(x, result):
    """The result of a learner's call; then it is compared with the right one."""
    call = Call("line", (x,), {}, torch.get_rng_state(), LINE)
    call.result = result
    history.add(call)
    try:
        expect_equal(result, line_with(x))
    except Wrong:
        return False
    return True


def test_a_mistake_is_a_misconception_with_a_name_and_a_diagnosis():
    halved = LINE[0]
    assert (halved.__name__, diagnosis(halved)) == ("halved", HALVED)
    assert halved(torch.tensor([2.0])).tolist() == [2.0]


def test_pairs_are_all_that_set_different_things():
    names = {tuple(sorted(pair.settings)) for pair in pairs_of(LINE)}
    assert names == {("factor", "shift"), ("factor", "flipped"), ("flipped", "shift")}
    assert len(pairs_of(LINE)) == 5  # halved and tripled exclude each other
    assert pairs_of([line_with, abs]) == []


def test_two_mistakes_at_once_are_found():
    x = torch.tensor([1.0, 2.0, 5.0])
    assert not answer(x, x + 1)
    assert history.suspects.diagnoses() == [(HALVED, SHIFTED)]


def test_each_wrong_answer_leaves_fewer_pairs():
    same = torch.tensor([3.0, 3.0])  # reversed, it is the same
    assert not answer(same, same + 1)
    assert history.suspects.diagnoses() == [(HALVED, SHIFTED)]
    x = torch.tensor([1.0, 2.0])
    assert not answer(x, (x + 1).flip(-1))  # three mistakes, by now
    assert history.suspects.diagnoses() == []


@pytest.mark.parametrize("right_first", [True, False])
def test_a_right_answer_refutes_the_pairs_that_would_fail_there(right_first):
    x, zeros = torch.tensor([1.0, 2.0]), torch.zeros(2)
    answers = [(zeros, zeros), (x, x + 1)]
    for inputs, result in answers if right_first else answers[::-1]:
        answer(inputs, result)
    assert history.suspects.diagnoses() == []  # with 1 added, zeros would have been ones


def test_pairs_that_take_too_long_are_given_up(monkeypatch):
    monkeypatch.setattr("utils.grader.mistakes.PATIENCE", -1.0)
    x = torch.tensor([1.0, 2.0, 5.0])
    assert not answer(x, x + 1)
    assert history.suspects.pairs == []


def test_an_answer_without_mistakes_tries_no_pairs():
    x = torch.tensor([1.0, 2.0])
    assert answer(x, 2 * x)
    assert history.suspects.pairs is None
    assert len(history.suspects.passed) == 1


def square_with(x, *, power=2):
    """The square."""
    return x**power


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("comes_first", [True, False])
def test_calls_of_another_function_say_nothing_about_a_pair(is_right, comes_first):
    x = torch.tensor([1.0, 2.0, 5.0])
    cubes = mistakes(square_with, cubed=("the cube is taken", {"power": 3}))

    def square():
        call = Call("square", (x,), {}, torch.get_rng_state(), cubes)
        call.result = x**2 if is_right else x**4
        history.add(call)
        with contextlib.nullcontext() if is_right else pytest.raises(Wrong):
            expect_equal(call.result, x**2)

    if comes_first:
        square()
    assert not answer(x, x + 1)
    if not comes_first:
        square()
    first_is_wrong = comes_first and not is_right  # then the pairs are those of the first
    assert history.suspects.diagnoses() == ([] if first_is_wrong else [(HALVED, SHIFTED)])


# --- mistakes of a class ---


class Line(nn.Module):
    """factor * x with a factor that is a parameter."""

    def __init__(self, width, *, size=1, shift=0.0, flipped=False):
        super().__init__()
        self.factor = nn.Parameter(torch.full((width * size,), 2.0))
        self.shift, self.flipped = shift, flipped

    def forward(self, x):
        y = self.factor * x + self.shift
        return y.flip(-1) if self.flipped else y


LAYER = mistakes(
    Line,
    wider=("the layer is too wide", {"size": 2}),
    shifted=(SHIFTED, {"shift": 1.0}),
    flipped=(FLIPPED, {"flipped": True}),
)


def guarded(learners):
    """A module of a learner's with this class, guarded."""
    exercise = Exercise("1.1", "", "write", ("Line",), 1, 1, "", ("", "", ""), ("",))
    learner: Any = SimpleNamespace(source=None, problem="", module=SimpleNamespace(Line=learners))
    return Guarded(learner, exercise, {"Line": LAYER}, Clock())


def test_the_class_behind_an_answer():
    pair = pairs_of(LAYER)[0]
    assert [class_of(one) for one in (Line, LAYER[0], pair)] == [Line] * 3
    assert [class_of(one) for one in (line_with, LINE[0], pairs_of(LINE)[0])] == [None] * 3


class Shifted(Line):
    def __init__(self, width):
        super().__init__(width, shift=1.0)


@pytest.mark.parametrize("learners", [Shifted, LAYER[1]])
def test_a_mistake_of_a_class_is_built_with_the_weights_of_the_learners_layer(learners):
    layer = guarded(learners).Line(2)
    layer.load_state_dict({"factor": torch.tensor([3.0, 5.0])})
    x = torch.tensor([1.0, 2.0])
    with pytest.raises(Wrong) as caught:
        expect_equal(layer(x), torch.tensor([3.0, 10.0]))
    assert caught.value.explained_by == {SHIFTED}


def test_two_mistakes_of_a_class_are_found():
    class Learners(Line):
        def __init__(self, width):
            super().__init__(width, shift=1.0, flipped=True)

    layer, x = guarded(Learners).Line(2), torch.tensor([1.0, 2.0])
    with pytest.raises(Wrong):
        expect_equal(layer(x), torch.tensor([2.0, 4.0]))
    assert history.suspects.diagnoses() == [(SHIFTED, FLIPPED)]


def test_mistakes_of_the_constructor_and_of_forward_are_found_together():
    class Learners(Line):
        def __init__(self, width):
            super().__init__(width, size=2, flipped=True)

    learner = guarded(Learners)
    with pytest.raises(Wrong):
        expect_parameters(learner.Line(2), Line(2))
    layer, x = learner.Line(1), torch.tensor([1.0, 2.0])
    with pytest.raises(Wrong):
        expect_equal(layer(x), torch.tensor([2.0, 4.0]))
    assert history.suspects.diagnoses() == [("the layer is too wide", FLIPPED)]
