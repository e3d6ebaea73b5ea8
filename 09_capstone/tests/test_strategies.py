"""strategies.py: columns of text, which keep every character and never get too wide."""

from itertools import product

import pytest

from strategies import (
    COLUMN_WIDTH,
    COLUMNS,
    GAP,
    STRATEGIES,
    printable,
    side_by_side,
    width,
    wrapped,
)
from utils.config import SampleConfig

TEXTS = [
    "To be, or not to be, that is the question",
    "short",
    "",
    "\n\n",
    "a" * 50,
    "two  spaces   and\na new line",
    " leading and trailing ",
    "漢字かな交じり文を折り返す",
    "cafe\u0301 " * 9,
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("columns", [2, 7, 24])
def test_no_line_is_wider_than_its_column_and_no_word_is_lost(text, columns):
    lines = wrapped(text, columns)
    assert all(width(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")
    assert len(lines) > text.count("\n")


def test_lines_are_broken_at_spaces_where_there_are_any():
    assert wrapped("to be or not", 5) == ["to be", "or", "not"]
    assert wrapped("abcdefgh", 5) == ["abcde", "fgh"]
    assert wrapped("ab abcdefgh", 5) == ["ab", "abcde", "fgh"]
    assert wrapped("abcde fgh", 5) == ["abcde", "fgh"]


@pytest.mark.parametrize(
    ("character", "columns"), [("a", 1), ("é", 1), ("\u0301", 0), ("漢", 2), ("Ａ", 2)]
)
def test_wide_and_combining_characters_have_their_width(character, columns):
    assert width(character) == columns


def test_control_characters_are_replaced_and_tabs_are_spaces():
    assert printable("a\tb\x1b[2J\r\n\x00") == "a   b\ufffd[2J\ufffd\n\ufffd"


def test_columns_of_unequal_length_stand_side_by_side():
    lines = list(side_by_side([["a", "bc"], ["d"], ["e", "", "f"]], 3))
    assert lines == ["a   | d   | e", "bc  |     |", "    |     | f"]


def test_three_columns_fit_into_eighty_characters():
    assert COLUMNS * COLUMN_WIDTH + (COLUMNS - 1) * len(GAP) < 80
    assert all(width(name) <= COLUMN_WIDTH for name in STRATEGIES)


def test_every_strategy_is_a_valid_configuration_and_no_two_are_the_same():
    configs = [SampleConfig(**changes) for changes in STRATEGIES.values()]
    assert all(a != b for (i, a), (j, b) in product(enumerate(configs), repeat=2) if i != j)
