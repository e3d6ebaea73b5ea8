"""line_patterns.py: every line of the plays is valid, and hardly anything else."""

import re

import pytest

from line_patterns import is_valid, patterns, words
from utils.mock_corpus import generate, speakers


def spoken(text: str) -> list[str]:
    """The lines of a play, without names, directions and empty lines."""
    others = re.compile(rf"(?:{'|'.join(speakers())}):|Enter .*|Exeunt\.|A .* within\.|")
    return [line for line in text.splitlines() if not others.fullmatch(line)]


def test_every_line_of_the_plays_is_valid() -> None:
    lines = spoken(generate(60_000, seed=4))
    assert len(lines) > 1000
    assert all(map(is_valid, lines))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "O young ladder, O lovely blossom",  # no end
        "O young ladder, O lovely blosom!",
        "O ladder young, O lovely blossom!",
        "O young ladder, O lovely blossom! O",
        "O young ladder, O lovely  blossom!",
        "If the thing be bad, then let",
        "While songs grow sound, song grow sour too.",
        "The ring is amid star.",
    ],
)
def test_a_line_with_one_mistake_is_not(line: str) -> None:
    assert not is_valid(line)


@pytest.mark.parametrize(
    "line",
    [
        "O young ladder, O lovely blossom!",
        "While songs grow sound, songs grow sour too.",
        "The ring is amid the star.",
        "Well do I know you, fair Rosamund; you do gladly honour this hand.",
        "Hast thou my letter, sirrah?",
    ],
)
def test_a_line_that_no_speaker_has_said_may_be(line: str) -> None:
    assert is_valid(line)


def test_a_changed_letter_is_noticed() -> None:
    lines = spoken(generate(3_000, seed=5))
    changed = [re.sub("e(?=[a-z])", "x", line, count=1) for line in lines]
    assert not any(is_valid(new) for new, old in zip(changed, lines, strict=True) if new != old)


def test_the_vocabulary_and_the_patterns_are_those_of_the_playbill() -> None:
    assert {"noun", "verb", "adj", "the", "must", "adverb"} == set(words())
    assert "anchor" in words()["noun"] and "hand" in words()["noun"]
    assert len(patterns()) > 50
