"""Turn text into integers and back: the first and the last thing a language model does.

A character tokenizer knows V characters; the id of each is its index in the vocabulary, 0 to V - 1:

    characters = "abc"      encode("cab") = [2, 0, 1]      decode([2, 0, 1]) = "cab"

Nothing is lost: decode(encode(text)) == text for every text that can be encoded. A small vocabulary
makes long sequences; byte-pair encoding (bpe_tokenizer.py) trades one for the other.

Dimensions: V vocabulary size.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any

import numpy as np

from token_stream import CharStream, TokenStream
from utils.errors import CourseError, UsageError, pick, run_program
from utils.terminal import labelled

UNKNOWN = -1  # in the look-up table: a code point that has no id


@dataclass(frozen=True)
class CharTokenizer:
    """One id per character: the id of `characters[i]` is i.

    Raises CourseError if there are no characters, or if one occurs twice.
    """

    characters: str

    def __post_init__(self) -> None:
        if not self.characters:
            raise CourseError("a tokenizer needs at least one character, and the text has none")
        for character, times in Counter(self.characters).items():
            if times > 1:
                raise CourseError(
                    f"the vocabulary contains {character!r} {times} times; "
                    "every character must be unique"
                )

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """Learn the vocabulary of `text`: its distinct characters, in Unicode order."""
        # Sorted, because the order of a set changes from run to run.
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        """V, the number of ids."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Return the id of every character. Raises UsageError for an unknown character."""
        try:
            return [self._ids[character] for character in text]
        except KeyError:  # found without a check per character; the slow search is for the message
            raise self._unknown_character(text) from None

    def encode_array(self, text: str) -> np.ndarray:
        """Encode a whole corpus at once: the same ids, (len(text),) uint16 (uint32 if V > 65536).

        In UTF-32 every character is one 4-byte integer, its code point. So a text is an array of
        code points, and encoding it is one table look-up.
        """
        # "surrogatepass": half of a surrogate pair is an unknown character, not a Unicode error
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        ids = self._table.take(code_points, mode="clip")  # above the table's range: its last entry
        if ids.size and ids.min() == UNKNOWN:  # one check for the whole text
            raise self._unknown_character(text)
        return ids.astype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)

    def decode(self, ids: Iterable[Any]) -> str:
        """Join the characters of a sequence of ids: a list, a NumPy array or a tensor of integers.

        Raises UsageError for an id outside 0 to V - 1.
        """
        # index: the integer inside a NumPy or tensor scalar, and a TypeError for 1.0
        return "".join(self._character(index(token_id)) for token_id in ids)

    def accepts(self, text: str) -> bool:
        """Whether every character of the text has an id."""
        return self._ids.keys() >= set(text)

    def stream_decoder(self) -> TokenStream:
        """Decode ids one at a time, as a model generates them."""
        return CharStream(lambda token_id: self.decode([token_id]))

    def to_dict(self) -> dict[str, str]:
        """Return what a checkpoint stores, ready for JSON."""
        return {"kind": "char", "characters": self.characters}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "CharTokenizer":
        """Rebuild a tokenizer from `to_dict`. Raises CourseError if `stored` is not one."""
        if not isinstance(stored, Mapping):
            raise CourseError(f"a stored tokenizer must be a dictionary, not {stored!r:.40}")
        pick(str(stored.get("kind")), ["char"], what="tokenizer kind")
        characters = stored.get("characters")
        if not isinstance(characters, str):
            raise CourseError(
                f"the tokenizer's characters must be a string, not {characters!r:.40}"
            )
        return cls(characters)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.characters)}

    @cached_property
    def _table(self) -> np.ndarray:
        """Code point to id. The last entry is UNKNOWN and stands for all higher code points."""
        code_points = [ord(character) for character in self.characters]
        # + 1 for code point 0, + 1 for the last entry
        table = np.full(max(code_points) + 2, UNKNOWN, dtype=np.int32)
        table[code_points] = np.arange(self.vocab_size)  # table[ord(characters[i])] = i
        return table

    def _character(self, token_id: int) -> str:
        if not 0 <= token_id < self.vocab_size:
            raise UsageError(
                f"no character has id {token_id}; ids run from 0 to {self.vocab_size - 1}"
            )
        return self.characters[token_id]

    def _unknown_character(self, text: str) -> UsageError:
        """The error for the first character of `text` that has no id, with its position."""
        position = next(i for i, character in enumerate(text) if character not in self._ids)
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)  # from 1; rfind gives -1 on line 1
        where = f" (line {line}, column {column})" if "\n" in text else ""
        character = f"{text[position]!r} (U+{ord(text[position]):04X})"
        return UsageError(
            f"unknown character {character} at index {position}{where}; "
            f"the vocabulary has {self.vocab_size} characters: {shorten(self.characters)}"
        )


def shorten(characters: str, limit: int = 60) -> str:
    """Write the characters on one line, with Unicode neighbours as a range: abcdxz is 'a-dxz'.

    A line longer than `limit` is cut and ends in "...".
    """
    runs: list[str] = []
    for character in characters:
        if runs and ord(character) == ord(runs[-1][-1]) + 1:
            runs[-1] += character
        else:
            runs.append(character)
    # A range takes three characters, so it pays off from a run of four.
    spans = [run if len(run) < 4 else f"{run[0]}-{run[-1]}" for run in runs]
    line = repr("".join(spans))  # repr makes newlines and the like visible
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def main() -> None:
    """Encode a text, decode it again, and show the error for an unknown character."""
    text = "To be, or not to be"
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    print(f"vocabulary  {tokenizer.characters!r}: {tokenizer.vocab_size} characters")
    print(f"encoded     {ids}")
    print(f"decoded     {tokenizer.decode(ids)!r}")
    try:
        tokenizer.encode("To bee or not to bee?")
    except UsageError as error:
        print(labelled("error", error, column=12))


if __name__ == "__main__":
    run_program(main)
