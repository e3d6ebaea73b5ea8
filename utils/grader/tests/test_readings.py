"""utils/grader/readings.py: which panel belongs to which name, and what a wrong answer is told."""

from typing import Any

import pytest
import torch

from utils.grader.calls import Call, history
from utils.grader.feedback import Wrong
from utils.grader.readings import expect_letters

TRUTH = {"causal": "B", "padding": "A", "window": "C"}


@pytest.mark.parametrize("change", [str, str.lower, lambda letter: f" {letter} "])
def test_letters_in_either_case_are_accepted(change: Any) -> None:
    expect_letters({name: change(letter) for name, letter in TRUTH.items()}, TRUTH, "the maps")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "the maps: this is None; expected a dictionary that gives each name a letter"),
        ({letter: name for name, letter in TRUTH.items()}, "the other way round; give each name"),
        ({"b": ["causal"]}, "the other way round; give each name"),
        ({"causal": "B", "padding": "A"}, "the maps: 'window' is missing; keep the names"),
        ({**TRUTH, "padding": "D"}, "the maps: 'padding' has 'D'; the panels are A to C"),
        ({**TRUTH, "padding": 1}, "the maps: 'padding' has 1; the panels are A to C"),
        ({**TRUTH, "padding": ["A"]}, "the maps: 'padding' has ['A']; the panels are A to C"),
        ({**TRUTH, "window": "a"}, "window: A is wrong"),
    ],
)
def test_what_is_wrong_is_said_and_what_is_right_is_not(answer: Any, said: str) -> None:
    with pytest.raises(Wrong) as error:
        expect_letters(answer, TRUTH, "the maps")
    assert said in error.value.message


def exchanged(one: str, other: str) -> Any:
    """A known wrong reading, in which two names have each other's letter."""
    reading = {**TRUTH, one: TRUTH[other], other: TRUTH[one]}
    misconception = lambda: reading  # noqa: E731 - with a docstring of its own
    misconception.__doc__ = f"{one} and {other} are exchanged"
    return misconception


def told(answer: dict[str, str]) -> Wrong:
    """The error for a reading, where two exchanges are known."""
    known = [exchanged("causal", "padding"), exchanged("causal", "window")]
    call = Call("read", (), {}, torch.get_rng_state(), known, result=answer)
    history.add(call)
    with pytest.raises(Wrong) as error:
        expect_letters(answer, TRUTH, "the maps")
    history.clear()
    return error.value


def test_a_known_wrong_reading_is_named_only_if_all_its_letters_are_there() -> None:
    found = told({"causal": "A", "padding": "B", "window": "C"})
    assert found.explained_by == {"causal and padding are exchanged"}
    circle = told({"causal": "A", "padding": "C", "window": "B"})
    assert circle.explained_by == circle.resembles == frozenset()


def test_a_known_wrong_reading_with_another_mistake_is_named_weakly() -> None:
    found = told({"causal": "A", "padding": "B", "window": "B"})
    assert found.explained_by == frozenset()
    assert found.resembles == {"causal and padding are exchanged"}
