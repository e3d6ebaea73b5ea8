"""utils/grader/mistakes.py: wrong answers made by settings, alone and two at a time."""

import pytest
import torch

from utils.grader.feedback import Call, Wrong, diagnosis, expect_equal, history
from utils.grader.mistakes import Suspects, mistakes, pairs_of

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


def test_an_answer_without_mistakes_tries_no_pairs():
    x = torch.tensor([1.0, 2.0])
    assert answer(x, 2 * x)
    assert history.suspects.pairs is None
    assert len(history.suspects.passed) == 1
