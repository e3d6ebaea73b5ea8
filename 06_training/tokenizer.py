"""Turn text into numbers and back: the first and the last thing a language model does.

A character tokenizer knows V characters and gives each its place in the list, 0 to V - 1:

    characters = "abc"      encode("cab") = [2, 0, 1]      decode([2, 0, 1]) = "cab"

Nothing is lost on the way, so decode(encode(text)) == text for every text it can encode. A small
vocabulary makes long sequences; byte-pair encoding trades one against the other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any

import numpy as np

from utils.errors import CourseError, UsageError, pick, run_program

UNKNOWN = -1  # the mark in the look-up table for a code point that has no id


@dataclass(frozen=True)
class CharTokenizer:
    """One id for each character: the id of `characters[i]` is i.

    Raises CourseError if there are no characters, or one stands there twice.
    """

    characters: str

    def __post_init__(self) -> None:
        if not self.characters:
            raise CourseError("a tokenizer needs at least one character, and the text has none")
        for character, times in Counter(self.characters).items():
            if times > 1:
                raise CourseError(
                    f"the vocabulary holds {character!r} {times} times; each stands there once"
                )

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """Learn the vocabulary of `text`: its distinct characters, in the order of Unicode."""
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        """V, how many ids there are."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Give the id of every character. Raises UsageError at one that has none."""
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            raise self._unknown_character(text) from None

    def encode_array(self, text: str) -> np.ndarray:
        """Encode a whole corpus at once: the same ids, (len(text),) uint16 (uint32 if V > 65536).

        In UTF-32 every character is one 4-byte number, its code point, so a text is an array and
        encoding it is one look-up in a table.
        """
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        ids = self._table.take(code_points, mode="clip")  # beyond the table: its last entry
        if ids.size and ids.min() == UNKNOWN:
            raise self._unknown_character(text)
        return ids.astype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)

    def decode(self, ids: Iterable[Any]) -> str:
        """Join the characters of a row of ids: integers in a list, a NumPy array or a tensor.

        Raises UsageError at an id outside 0 to V - 1.
        """
        return "".join(self._character(index(number)) for number in ids)

    def to_dict(self) -> dict[str, str]:
        """Return what a checkpoint stores; JSON can hold it."""
        return {"kind": "char", "characters": self.characters}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "CharTokenizer":
        """Rebuild the tokenizer that `to_dict` described. Raises CourseError if it is not one."""
        if not isinstance(stored, Mapping):
            raise CourseError(f"a stored tokenizer is a dictionary, not {stored!r:.40}")
        pick(str(stored.get("kind")), ["char"], what="tokenizer kind")
        characters = stored.get("characters")
        if not isinstance(characters, str):
            raise CourseError(f"the tokenizer's characters must be a text, not {characters!r:.40}")
        return cls(characters)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.characters)}

    @cached_property
    def _table(self) -> np.ndarray:
        """From code point to id; the last entry answers for every code point beyond it."""
        code_points = [ord(character) for character in self.characters]
        table = np.full(max(code_points) + 2, UNKNOWN, dtype=np.int32)
        table[code_points] = np.arange(self.vocab_size)
        return table

    def _character(self, number: int) -> str:
        if not 0 <= number < self.vocab_size:
            raise UsageError(
                f"no character has id {number}; ids run from 0 to {self.vocab_size - 1}"
            )
        return self.characters[number]

    def _unknown_character(self, text: str) -> UsageError:
        """Say which character of `text` has no id, where it stands, and what would have one."""
        place = next(i for i, character in enumerate(text) if character not in self._ids)
        line = text.count("\n", 0, place) + 1
        column = place - text.rfind("\n", 0, place)
        where = f" (line {line}, column {column})" if "\n" in text else ""
        character = f"{text[place]!r} (U+{ord(text[place]):04X})"
        return UsageError(
            f"unknown character {character} at index {place}{where}; "
            f"the vocabulary holds {self.vocab_size}: {shorten(self.characters)}"
        )


def shorten(characters: str, limit: int = 60) -> str:
    """Write the characters on one line, neighbours in Unicode as a range: abcdxz is 'a-dxz'.

    What is longer than `limit` ends in "...".
    """
    runs: list[str] = []
    for character in characters:
        if runs and ord(character) == ord(runs[-1][-1]) + 1:
            runs[-1] += character
        else:
            runs.append(character)
    spans = [run if len(run) < 4 else f"{run[0]}-{run[-1]}" for run in runs]
    line = repr("".join(spans))  # repr makes newlines and the like visible
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def main() -> None:
    """Show a text as ids, the way back, and what happens to a character never seen."""
    text = "To be, or not to be"
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    print(f"vocabulary  {tokenizer.characters!r}: {tokenizer.vocab_size} characters")
    print(f"encoded     {ids}")
    print(f"decoded     {tokenizer.decode(ids)!r}")
    try:
        tokenizer.encode("To bee or not to bee?")
    except UsageError as error:
        print(f"refused     {error}")


if __name__ == "__main__":
    run_program(main)
