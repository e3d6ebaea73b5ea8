"""Stop texts, however the text is cut into pieces: a small alphabet makes all the awkward cases."""

from itertools import product
from random import Random

import pytest

from stop_string import StopString

STOPS = ["a", "b", "aa", "ab", "aab", "aba", "abab", "aabaab", "bbbbb"]


def pieces_of(text: str, draw: Random) -> list[str]:
    """Cut a text at random places; some pieces are empty."""
    cuts = sorted(draw.randrange(len(text) + 1) for _ in range(draw.randrange(len(text) + 2)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def show_all(stop: str | None, pieces: list[str]) -> tuple[list[str], StopString]:
    stopper = StopString(stop)
    return [stopper.feed(piece) for piece in pieces], stopper


@pytest.mark.parametrize("stop", STOPS)
def test_what_is_shown_is_the_text_up_to_the_first_stop_string(stop):
    draw = Random(0)
    for letters in product("ab", repeat=8):
        text = "".join(letters)
        shown, stopper = show_all(stop, pieces_of(text, draw))
        assert "".join(shown) + stopper.flush() == text.partition(stop)[0]
        assert stopper.finished == (stop in text)


@pytest.mark.parametrize("stop", STOPS)
def test_everything_is_shown_at_once_but_what_could_become_the_stop_string(stop):
    for letters in product("ab", repeat=8):
        stopper, came, shown = StopString(stop), "", ""
        for letter in letters:
            came += letter
            shown += stopper.feed(letter)
            if stop in came:
                assert stopper.finished  # seen with its last letter
                break
            held = came.removeprefix(shown)
            tails = [came[i:] for i in range(len(came) + 1)]
            assert held == next(tail for tail in tails if stop.startswith(tail))  # the longest


@pytest.mark.parametrize("stop", [None, ""])
def test_without_a_stop_string_everything_passes(stop):
    shown, stopper = show_all(stop, ["", "a", "bc\n"])
    assert shown == ["", "a", "bc\n"]
    assert stopper.flush() == "" and not stopper.finished


def test_after_the_stop_string_nothing_is_shown_any_more():
    shown, stopper = show_all("\n\n", ["one\n", "\ntwo", "three", "\n\n"])
    assert shown == ["one", "", "", ""]
    assert stopper.finished and stopper.flush() == ""


def test_a_whole_text_in_one_piece_is_cut_at_the_first_of_two_stop_strings():
    shown, stopper = show_all("END", ["one END two END three"])
    assert shown == ["one "] and stopper.finished


def test_what_was_held_back_for_nothing_comes_with_the_next_piece_or_at_the_end():
    shown, stopper = show_all("END", ["xE", "N", "Ex", "EN"])
    assert shown == ["x", "", "ENEx", ""]
    assert stopper.flush() == "EN" and not stopper.finished
