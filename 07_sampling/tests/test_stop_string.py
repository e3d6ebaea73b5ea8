"""Stop strings, however the text is split into pieces: a small alphabet covers the hard cases."""

from collections.abc import Sequence
from itertools import product
from random import Random

import pytest

from stop_string import StopStrings

STOPS = ["a", "b", "aa", "ab", "aab", "aba", "abab", "aabaab", "bbbbb"]


def pieces_of(text: str, draw: Random) -> list[str]:
    """Split a text at random; some pieces are empty."""
    cuts = sorted(draw.randrange(len(text) + 1) for _ in range(draw.randrange(len(text) + 2)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def feed_all(stop: str | Sequence[str], pieces: list[str]) -> tuple[list[str], StopStrings]:
    stopper = StopStrings([stop] if isinstance(stop, str) else stop)
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
        stopper = StopStrings([stop])
        received = ""
        shown = ""
        for letter in letters:
            received += letter
            shown += stopper.feed(letter)
            if stop in received:
                assert stopper.finished  # recognized with its last letter
                break
            held_back = received.removeprefix(shown)
            suffixes = [received[i:] for i in range(len(received) + 1)]
            longest = next(suffix for suffix in suffixes if stop.startswith(suffix))
            assert held_back == longest


@pytest.mark.parametrize("stops", [[], [""], ["", ""]])
def test_without_a_stop_string_all_text_is_shown(stops):
    shown, stopper = feed_all(stops, ["", "a", "bc\n"])
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


SEVERAL = [["a", "b"], ["ab", "b"], ["aab", "ab", "ba"], ["abab", "bb", ""], ["bbb", "aba", "aaa"]]


def ends_at(text: str, stops: Sequence[str]) -> int | None:
    """Where the text ends, letter by letter: before the longest stop string that ends first."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if found:
            return end - max(map(len, found))
    return None


@pytest.mark.parametrize("stops", SEVERAL)
def test_of_several_stop_strings_the_one_that_is_complete_first_ends_the_text(stops):
    draw = Random(0)
    for letters in product("ab", repeat=8):
        text = "".join(letters)
        for pieces in (list(text), [text], pieces_of(text, draw)):
            shown, stopper = feed_all(stops, pieces)
            assert "".join(shown) + stopper.flush() == text[: ends_at(text, stops)]
            assert stopper.finished == (ends_at(text, stops) is not None)


@pytest.mark.parametrize("stops", SEVERAL)
def test_with_several_stop_strings_no_text_is_held_back_without_need(stops):
    for letters in product("ab", repeat=6):
        stopper, received, shown = StopStrings(stops), "", ""
        for letter in letters:
            received += letter
            shown += stopper.feed(letter)
            if stopper.finished:
                break
            held_back = received.removeprefix(shown)
            suffixes = [received[i:] for i in range(len(received) + 1)]
            beginnings = (x for x in suffixes if any(stop.startswith(x) for stop in stops if stop))
            assert held_back == next(beginnings)


def test_a_text_by_itself_is_one_stop_string_and_not_its_letters():
    assert StopStrings("END").stops == ("END",)
