"""utils/grader/readings.py: which panel belongs to which name, and what a wrong answer is told."""

from typing import Any

import pytest

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
