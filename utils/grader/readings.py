"""Judge a reading exercise: which panel of a picture belongs to which name?

    expect_letters(ex.read_maps(), {"causal": "B", "padding": "A"}, "the maps")

The message says which letter is wrong, never which one is right.
"""

from collections.abc import Mapping
from typing import Any

from utils.grader.feedback import expect, expect_choice
from utils.grader.values import type_name


def expect_letters(answer: Any, truth: Mapping[str, str], what: str) -> None:
    """Raise Wrong unless each name is given the letter of its panel, in either case.

    answer: what the learner's function returned; truth: the letter of each name.
    """
    expect(
        isinstance(answer, dict),
        f"{what}: this is {type_name(answer)}; expected a dictionary that gives each name a letter",
    )
    panels = sorted(truth.values())
    is_inverted = {*map(panel_letter, answer)} & {*panels} and not {*answer} & {*truth}
    expect(not is_inverted, f"{what}: the other way round; give each name its letter")
    letters = {name: panel_letter(value) for name, value in answer.items()}
    for name, letter in truth.items():
        expect(name in answer, f"{what}: {name!r} is missing; keep the names as they are")
        given = letters[name]
        expect(
            given in panels,
            f"{what}: {name!r} has {answer[name]!r}; the panels are {panels[0]} to {panels[-1]}",
        )
        expect_choice(answer, given, letter, name, (letters, truth))


def panel_letter(value: Any) -> Any:
    """A letter as it stands in the picture; anything else is returned unchanged."""
    return value.strip().upper() if isinstance(value, str) else value
