"""Decode tokens one at a time, while a model generates them.

A character tokenizer has a character for every id. Tokens made of bytes may end within a character:
"é" is the bytes c3 a9, and a screen that got each of them by itself would show two wrong signs. So
the bytes of a character wait until it is complete:

    ids    c3   a9   62
    shown  ""   "é"  "b"
"""

import codecs
from collections.abc import Callable
from typing import Protocol

from utils.errors import run_program


class TokenStream(Protocol):
    """Turns ids into text, one at a time; the pieces, joined, are what `decode` gives."""

    def feed(self, token_id: int) -> str:
        """Add an id; returns the text that is complete now, possibly none."""
        ...

    def flush(self) -> str:
        """Return what is left when no more ids will come."""
        ...


class ByteStream:
    """For tokens made of bytes, which `token_bytes` gives: holds back incomplete characters."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        # The decoder keeps the bytes of an incomplete character; "replace" shows U+FFFD for bytes
        # that can't become one.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """Add an id; returns the characters that are complete now. Others than UTF-8: U+FFFD."""
        return self._utf8.decode(self._token_bytes(token_id))  # "" while a character is incomplete

    def flush(self) -> str:
        """U+FFFD if bytes still wait for the rest of their character, else ""."""
        return self._utf8.decode(b"", final=True)  # final: nothing more will complete them


class CharStream:
    """For one character per id, which `character` gives: nothing ever waits."""

    def __init__(self, character: Callable[[int], str]) -> None:
        self._character = character

    def feed(self, token_id: int) -> str:
        """The character of an id."""
        return self._character(token_id)  # complete by itself

    def flush(self) -> str:
        """Nothing is left."""
        return ""


def main() -> None:
    """Feed the bytes of a word one at a time."""
    stream = ByteStream(lambda byte: bytes([byte]))
    for byte in "né🙂".encode():
        print(f"byte {byte:02x}  shown {stream.feed(byte)!r}")


if __name__ == "__main__":
    run_program(main)
