r"""Cut a text into words before byte-pair encoding, in the way of GPT-2.

    To be, or not... it's 1599    ->    To| be|,| or| not|...| it|'s| 1599

No merge crosses the end of a word. So "dog", "dog." and "dog!" share a token for the dog, and a
word is encoded in the same way wherever it occurs. A space belongs to the word that follows it, so
that a word and its space can become one token. Nothing is lost: the words, joined, are the text.

GPT-2's pattern says \p{L} for a letter and \p{N} for a digit of any script. Python's `re` has
neither, but it has character classes, and `unicodedata` knows the category of every character. The
classes below are those categories, so the pattern is GPT-2's and not an approximation of it.

Source: Radford et al. 2019, section 2.2; the pattern is in the code released with it.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

from utils.errors import run_program

# Unicode's White_Space; Python's \s also has the four separators U+001C to U+001F.
SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def split_words(text: str) -> list[str]:
    """Split a text into words: runs of letters, of digits, of other signs, or of white space.

    One space before a word is part of it; 's, 't, 're, 've, 'm, 'll and 'd are words.
    """
    return word_pattern().findall(text)


@cache  # 0.2 s: it asks for the category of all 1.1 million code points
def word_pattern() -> re.Pattern[str]:
    """GPT-2's pattern. The first alternative that matches wins."""
    letters, digits = character_class("L"), character_class("N")
    alternatives = [
        r"'(?:s|t|re|ve|m|ll|d)",  # English contractions
        rf" ?[{letters}]+",
        rf" ?[{digits}]+",
        rf" ?[^{SPACES}{letters}{digits}]+",  # punctuation, symbols, accents on their own
        rf"[{SPACES}]+(?![^{SPACES}])",  # leaves the last space to the word that follows
        rf"[{SPACES}]+",
    ]
    return re.compile("|".join(alternatives))


def character_class(category: str) -> str:
    """The inside of a regular expression's [...]: all characters of a Unicode category."""
    ranges: list[list[int]] = []  # [first, last] code points
    for code_point in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code_point)).startswith(category):
            if ranges and ranges[-1][1] == code_point - 1:
                ranges[-1][1] = code_point
            else:
                ranges.append([code_point, code_point])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


def whole_words(pieces: Iterable[str]) -> Iterator[str]:
    """Regroup the pieces of a text so that none of them ends inside a word.

    A text larger than memory is split piece by piece: the words are those of the whole text.
    """
    waiting = ""
    for piece in pieces:
        waiting += piece
        cut = last_word_start(waiting)
        if cut > 0:
            yield waiting[:cut]
            waiting = waiting[cut:]
    if waiting:
        yield waiting


def last_word_start(text: str) -> int:
    """The last place where a word surely begins, whatever comes next; 0 if there is none.

    It is before white space that follows something else: no alternative of the pattern goes on
    there, and only a run of white space depends on what comes after it.
    """
    is_space = re.compile(f"[{SPACES}]").match
    for i in range(len(text) - 1, 0, -1):
        if is_space(text[i]) and not is_space(text[i - 1]):
            return i
    return 0


def main() -> None:
    """Show the words of a few texts."""
    for text in ("To be, or not... it's 1599", "  def f(x):\n    return x", "Größe: 10µm, naïve"):
        print("|".join(split_words(text)).replace("\n", "↵"))


if __name__ == "__main__":
    run_program(main)
