"""The split into words: GPT-2's rules one by one, on all of Unicode, and in pieces."""

import importlib.util
import random
import sys
import unicodedata

import pytest

from split_pattern import last_word_start, split_words, whole_words
from utils.mock_corpus import generate

ALPHABET = "ab Z9²'’.,_-\n\t\r\x1c\x85\xa0\u2003é́ßжк中あ🙂\U0001d7d8\u200b½"


def random_texts(n: int, longest: int = 40) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices(ALPHABET, k=generator.randrange(longest))) for _ in range(n)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("To be, or not", ["To", " be", ",", " or", " not"]),
        ("it's we'll I'm he'd they're I've don't", None),
        ("IT'S", ["IT", "'", "S"]),  # contractions are lower case only
        ("rock 'n' roll", ["rock", " '", "n", "'", " roll"]),
        ("'tis", ["'t", "is"]),
        ("in 1599!", ["in", " 1599", "!"]),
        ("x2y", ["x", "2", "y"]),
        ("a  b", ["a", " ", " b"]),  # the last space belongs to the word
        ("a\n\nb", ["a", "\n", "\n", "b"]),
        ("a \n b", ["a", " \n", " b"]),
        ("a   ", ["a", "   "]),
        (" \t", [" \t"]),
        ("?!... --", ["?!...", " --"]),
        ("snake_case", ["snake", "_", "case"]),
        ("Größe naïve Жук", ["Größe", " naïve", " Жук"]),
        ("e\u0301a", ["e", "\u0301", "a"]),  # an accent on its own is not a letter
        ("10², ½", ["10²", ",", " ½"]),
        ("一二三 四", ["一二三", " 四"]),
        ("hi🙂🙂ok", ["hi", "🙂🙂", "ok"]),
        ("a\xa0b", ["a", "\xa0", "b"]),  # a no-break space is white space, but not "a space"
    ],
)
def test_words_of(text: str, words: list[str] | None) -> None:
    if words is None:
        words = [
            *("it", "'s", " we", "'ll", " I", "'m", " he", "'d"),
            *(" they", "'re", " I", "'ve", " don", "'t"),
        ]
    assert split_words(text) == words


@pytest.mark.parametrize("text", [*random_texts(300), generate(5_000)])
def test_nothing_is_lost_and_no_word_is_empty(text: str) -> None:
    words = split_words(text)
    assert "".join(words) == text
    assert all(words)


def test_every_character_of_unicode_joins_the_words_of_its_category() -> None:
    """A run never mixes kinds, so one word of all letters means that each of them is a letter."""
    kinds: dict[str, list[str]] = {"a": [], "1": [], ".": [], " ": []}
    for character in map(chr, range(sys.maxunicode + 1)):
        category = unicodedata.category(character)[0]
        if character.isspace() and character not in "\x1c\x1d\x1e\x1f":  # as in Unicode's table
            kinds[" "].append(character)
        else:
            kinds[{"L": "a", "N": "1"}.get(category, ".")].append(character)
    for first, members in kinds.items():
        run = first + "".join(members)
        assert split_words(run) == [run]
    assert split_words("." + "".join(kinds[" "]))[0] == "."


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_text_in_pieces_has_the_same_words(size: int) -> None:
    for text in [*random_texts(200, longest=120), "  ", "a", "no-space-at-all" * 20]:
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        regrouped = list(whole_words(pieces))
        assert "".join(regrouped) == text
        assert [word for piece in regrouped for word in split_words(piece)] == split_words(text)


def test_the_last_start_of_a_word_is_before_white_space_that_follows_something() -> None:
    assert last_word_start("to be or") == len("to be")
    assert last_word_start("to be  ") == len("to be")
    assert last_word_start("tobe") == last_word_start("  tobe") == last_word_start("") == 0


@pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None,
    reason="needs the library tokenizers (make install-dev)",
)
def test_the_library_tokenizers_splits_text_into_the_same_words() -> None:
    from tokenizers import pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in [*random_texts(300), generate(20_000)]:
        places = [place for _, place in byte_level.pre_tokenize_str(text)]
        assert [text[start:stop] for start, stop in places] == split_words(text)
