"""What every tokenizer of the course can do, and how a stored one is read, whichever kind it is."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from bpe_tokenizer import BPETokenizer
from token_stream import TokenStream
from tokenizer import CharTokenizer
from utils.errors import CourseError, pick, run_program

# Each class writes its own kind into `to_dict`; a checkpoint is read without knowing it before.
KINDS = {"char": CharTokenizer, "bpe": BPETokenizer}


# A Protocol: whatever has these methods is a Tokenizer; neither class has to inherit from it.
class Tokenizer(Protocol):
    """Text to ids and back: decode(encode(text)) == text for every text that it accepts."""

    @property
    def vocab_size(self) -> int:
        """V: ids run from 0 to V - 1."""
        ...  # V is also the number of rows of the embedding and of logits per position

    def accepts(self, text: str) -> bool:
        """Whether `encode` knows every character of the text."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises UsageError, naming the character, if it is not accepted."""
        ...

    def encode_array(self, text: str) -> np.ndarray:
        """The same ids as an array (n,) of unsigned integers."""
        ...  # 1 to 4 bytes per token, where a list takes at least 8

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of a sequence of ids. Raises UsageError for an id that does not exist."""
        ...

    def stream_decoder(self) -> TokenStream:
        """Decodes ids one at a time."""
        ...  # not decode([id]): a token of bytes may end within a character

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint stores, with its kind, ready for JSON."""
        ...


def tokenizer_kind(tokenizer: Tokenizer) -> str:
    """The name of its kind: "char" or "bpe"."""
    return tokenizer.to_dict()["kind"]  # what is stored, so the name and the file always agree


def tokenizer_from_dict(stored: Mapping[str, Any]) -> Tokenizer:
    """Rebuild a tokenizer from its `to_dict`. Raises CourseError if `stored` is not one."""
    if not isinstance(stored, Mapping):  # JSON may hold a list or a number in its place
        raise CourseError(f"a stored tokenizer must be a dictionary, not {stored!r:.40}")
    # A file may hold anything: an unknown kind is refused by name.
    kind = pick(str(stored.get("kind")), KINDS, what="tokenizer kind")
    return KINDS[kind].from_dict(stored)  # each class checks its own fields


def main() -> None:
    """Store one tokenizer of each kind, read it back, and encode a text with it."""
    merges = [(116, 111)]  # "t" + "o" -> id 256
    for tokenizer in (CharTokenizer.train("to be"), BPETokenizer(merges)):
        again = tokenizer_from_dict(tokenizer.to_dict())
        print(f"{tokenizer_kind(again):<4}  V = {again.vocab_size:<3}  {again.encode('to be')}")


if __name__ == "__main__":
    run_program(main)
