"""A tokenizer that has learned its tokens: byte-pair encoding of UTF-8, text to ids and back.

    "cafés"  ->  bytes 63 61 66 c3 a9 73  ->  merges  ->  tokens  c  af  é  s

The ids are, in order: the 256 bytes (byte b has id b), the merges (the i-th has id 256 + i), and
the special tokens. Every text can be encoded, and decode(encode(text)) == text. Generated ids may
end within a character, or not be UTF-8 at all: decoding shows U+FFFD there.

Dimensions: V vocabulary size.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from operator import index
from typing import Any

import numpy as np

from bpe import FIRST_MERGED, Pair, apply_merges, check_merges, is_pair, learn_merges
from special_tokens import check_special_tokens, lone_surrogate, refuse_lone_surrogates, split_at
from split_pattern import split_words
from token_stream import ByteStream, TokenStream
from utils.errors import CourseError, UsageError, run_program


@dataclass(frozen=True)
class BPETokenizer:
    """Tokens made by merges: `merges[i]` is the pair of ids that became id 256 + i.

    Raises CourseError for a merge of ids that do not exist yet, a pair that is merged twice, or a
    special token that is empty, repeated, or contains white space.
    """

    merges: Sequence[Pair]  # in the order in which they were learned, and will be applied
    special_tokens: Sequence[str] = ()

    def __post_init__(self) -> None:
        # Tuples, so that a tokenizer read from JSON equals the one that was saved
        object.__setattr__(self, "merges", tuple((a, b) for a, b in self.merges))
        object.__setattr__(self, "special_tokens", tuple(self.special_tokens))
        check_merges(self.merges)
        check_special_tokens(self.special_tokens)

    @property
    def vocab_size(self) -> int:
        """V, the number of ids."""
        return FIRST_MERGED + len(self.merges) + len(self.special_tokens)

    @cached_property
    def tokens(self) -> tuple[bytes, ...]:
        """The bytes of every id."""
        found = [bytes([b]) for b in range(FIRST_MERGED)]  # byte b has id b
        for left, right in self.merges:
            found.append(found[left] + found[right])  # both exist: a merge refers to earlier ids
        return (*found, *(token.encode() for token in self.special_tokens))

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """The id of every special token: the last ids of the vocabulary."""
        first = FIRST_MERGED + len(self.merges)  # at the end: one more moves no other id
        return {token: first + i for i, token in enumerate(self.special_tokens)}

    def accepts(self, text: str) -> bool:
        """Whether every character has a token; only half of a surrogate pair has none."""
        return lone_surrogate(text) is None

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Return the ids of a text. Raises UsageError for a lone surrogate.

        With `allow_special`, a special token that the text spells out becomes its id.
        """
        return list(self._ids(text, allow_special))

    def encode_array(self, text: str, allow_special: bool = False) -> np.ndarray:
        """Encode a whole corpus at once: the same ids, (n,) uint16 (uint32 if V > 65536)."""
        dtype = np.uint16 if self.vocab_size <= 2**16 else np.uint32
        return np.fromiter(self._ids(text, allow_special), dtype)  # without a list in between

    def decode(self, ids: Iterable[Any]) -> str:
        """Return the text of a sequence of ids: a list, a NumPy array or a tensor of integers.

        Bytes that are not UTF-8 become U+FFFD. Raises UsageError for an id outside 0 to V - 1.
        """
        joined = b"".join(map(self.token_bytes, ids))  # first: a character may span two tokens
        return joined.decode("utf-8", "replace")

    def token_bytes(self, token_id: Any) -> bytes:
        """The bytes of one id. Raises UsageError if there is no such id."""
        i = index(token_id)  # the integer inside a NumPy or tensor scalar
        if not 0 <= i < self.vocab_size:
            raise UsageError(f"no token has id {i}; ids run from 0 to {self.vocab_size - 1}")
        return self.tokens[i]

    def stream_decoder(self) -> TokenStream:
        """Decode ids one at a time, as a model generates them."""
        return ByteStream(self.token_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores, ready for JSON; the merges imply the vocabulary."""
        merges = [list(pair) for pair in self.merges]
        return {"kind": "bpe", "merges": merges, "special_tokens": list(self.special_tokens)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "BPETokenizer":
        """Rebuild a tokenizer from `to_dict`. Raises CourseError if `stored` is not one."""
        merges, special_tokens = stored.get("merges"), stored.get("special_tokens")
        if not isinstance(merges, list) or not all(map(is_pair, merges)):
            raise CourseError(f"the tokenizer's merges must be pairs of ids, not {merges!r:.40}")
        if not isinstance(special_tokens, list):
            raise CourseError(
                f"the tokenizer's special tokens must be a list, not {special_tokens!r:.40}"
            )
        return cls(merges, special_tokens)

    def _ids(self, text: str, allow_special: bool) -> Iterable[int]:
        refuse_lone_surrogates(text)
        if not allow_special:  # "<|eos|>" in a stranger's text is seven characters
            return self._encode_words(text)
        return chain.from_iterable(
            [self.special_ids[part]] if part in self.special_ids else self._encode_words(part)
            for part in split_at(self.special_tokens, text)
        )

    def _encode_words(self, text: str) -> Iterable[int]:
        return chain.from_iterable(map(self._encode_word, split_words(text)))  # never across words

    @cached_property
    def _encode_word(self) -> Any:
        """Encodes one word. A text repeats its words, so the ids of the latest are remembered."""
        new_ids = {pair: FIRST_MERGED + i for i, pair in enumerate(self.merges)}

        @lru_cache(maxsize=2**17)  # bounded: a stream of new words must not fill the memory
        def encode_word(word: str) -> list[int]:
            return apply_merges(word.encode(), new_ids)  # UTF-8 bytes are the first ids

        return encode_word


def train_bpe(text: str, vocab_size: int, special_tokens: Sequence[str] = ()) -> BPETokenizer:
    """Learn a tokenizer from a text; its special tokens, where it spells them out, only separate.

    Its V is `vocab_size`, or less if the text repeats too little. Raises UsageError if there is no
    room for the bytes and the special tokens, or for a lone surrogate.
    """
    room_for_merges(vocab_size, special_tokens)  # refused before the work
    return train_on_words(count_words([text], special_tokens), vocab_size, special_tokens)


def count_words(texts: Iterable[str], special_tokens: Sequence[str] = ()) -> Counter[str]:
    """How often each word occurs. Raises UsageError for a lone surrogate."""
    counts: Counter[str] = Counter()
    for text in texts:
        refuse_lone_surrogates(text)
        for part in split_at(special_tokens, text):  # a word ends where a special token begins
            if part not in special_tokens:  # they have ids already, and are never merged
                counts.update(split_words(part))
    return counts


def train_on_words(
    counts: Mapping[str, int], vocab_size: int, special_tokens: Sequence[str] = ()
) -> BPETokenizer:
    """`train_bpe` for a text whose words were counted before, such as one larger than memory."""
    n_merges = room_for_merges(vocab_size, special_tokens)
    # A word starts as its bytes, whose ids are the bytes themselves.
    words = {tuple(word.encode()): count for word, count in counts.items()}
    return BPETokenizer(learn_merges(words, n_merges), special_tokens)


def room_for_merges(vocab_size: int, special_tokens: Sequence[str] = ()) -> int:
    """How many merges fit into a vocabulary. Raises UsageError if not even the bytes do."""
    check_special_tokens(special_tokens)
    smallest = FIRST_MERGED + len(special_tokens)  # every byte keeps its id: any text encodes
    if vocab_size < smallest:
        raise UsageError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {len(special_tokens)} special "
            f"tokens need at least {smallest}"
        )
    return vocab_size - smallest


def main() -> None:
    """Train on the mock plays, and show the longest tokens and the tokens of a line."""
    from utils.mock_corpus import generate

    text = generate(200_000)
    tokenizer = train_bpe(text, vocab_size=512)  # 256 merges
    line = "ROMEO: Good night, good night! I'll go to bed."
    ids = tokenizer.encode(line)
    print(f"longest  {[t.decode() for t in sorted(tokenizer.tokens, key=len)[-6:]]}")
    print(f"encoded  {'|'.join(tokenizer.decode([i]) for i in ids)}")
    print(f"         {len(line)} characters, {len(ids)} tokens: {ids[:8]} ...")
    print(f"decoded  {tokenizer.decode(ids) == line}")


if __name__ == "__main__":
    run_program(main)
