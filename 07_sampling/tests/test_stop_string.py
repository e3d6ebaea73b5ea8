"""Stop strings, however the text is split into pieces: a small alphabet covers the hard cases."""

from itertools import product
from random import Random

import pytest

from stop_string import StopString

STOPS = ["a", "b", "aa", "ab", "aab", "aba", "abab", "aabaab", "bbbbb"]


def pieces_of(text: str, draw: Random) -> list[str]:
    """Split a text at random; some pieces are empty."""
    cuts = sorted(draw.randrange(len(text) + 1) for _ in range(draw.randrange(len(text) + 2)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def feed_all(stop: str | None, pieces: list[str]) -> tuple[list[str], StopString]:
    stopper = StopString(stop)
    return [stopper.feed(piece) for piece in pieces], stopper


@pytest.mark.parametrize("stop", STOPS)
def test_the_text_up_to_the_first_stop_string_is_shown(stop):
    draw = Random(0)
    for letters in product("ab", repeat=8):
        text = "".join(letters)
        shown, stopper = feed_all(stop, pieces_of(text, draw))
        assert "".join(shown) + stopper.flush() == text.partition(stop)[0]
        assert stopper.finished == (stop in text)


@pytest.mark.parametrize("stop", STOPS)
def test_text_is_shown_at_once_unless_it_could_begin_the_stop_string(stop):
    for letters in product("ab", repeat=8):
        stopper = StopString(stop)
        received = ""
        shown = ""
        for letter in letters:
            received += letter
            shown += stopper.feed(letter)
            if stop in received:
                assert stopper.finished  # recognised with its last letter
                break
            held_back = received.removeprefix(shown)
            suffixes = [received[i:] for i in range(len(received) + 1)]
            longest = next(suffix for suffix in suffixes if stop.startswith(suffix))
            assert held_back == longest


@pytest.mark.parametrize("stop", [None, ""])
def test_without_a_stop_string_all_text_is_shown(stop):
    shown, stopper = feed_all(stop, ["", "a", "bc\n"])
    assert shown == ["", "a", "bc\n"]
    assert stopper.flush() == "" and not stopper.finished


def test_nothing_is_shown_after_the_stop_string():
    shown, stopper = feed_all("\n\n", ["one\n", "\ntwo", "three", "\n\n"])
    assert shown == ["one", "", "", ""]
    assert stopper.finished and stopper.flush() == ""


def test_a_text_in_one_piece_ends_at_the_first_of_two_stop_strings():
    shown, stopper = feed_all("END", ["one END two END three"])
    assert shown == ["one "] and stopper.finished


def test_text_held_back_is_released_with_a_later_piece_or_at_the_end():
    shown, stopper = feed_all("END", ["xE", "N", "Ex", "EN"])
    assert shown == ["x", "", "ENEx", ""]
    assert stopper.flush() == "EN" and not stopper.finished
