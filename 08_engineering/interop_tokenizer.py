"""Tokenizers in the format of the library tokenizers: one file, tokenizer.json.

Ours are two of the many that it can describe:

    characters   every character is a word, and the vocabulary is a table of words (WordLevel)
    bpe          GPT-2's: bytes, spelled as printable characters, and merges of them (BPE)

The ids of a byte-pair tokenizer are a convention. Ours are the bytes, the merges and the special
tokens, in this order; other files have their own. So reading one gives a tokenizer of ours, and
the list that says which of their ids each of ours was: the rows of the embedding move with it.

Source: the format is documented at huggingface.co/docs/tokenizers; bytes_to_unicode is from the
code released with GPT-2.
"""

from functools import cache
from typing import Any

from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer
from special_tokens import refuse_lone_surrogates
from tokenizer import CharTokenizer
from utils.errors import UsageError, run_program

# Each character is a word of its own, and words are joined without spaces.
CHARACTERS = {
    "normalizer": None,
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"Regex": r"[\s\S]"},
        "behavior": "Isolated",
        "invert": False,
    },
    "decoder": {"type": "Fuse"},
}
# GPT-2's words (06_training/split_pattern.py), spelled in bytes.
BYTE_LEVEL = {
    "normalizer": None,
    "pre_tokenizer": {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    },
    "decoder": {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    },
}
UNKNOWN = "<unk>"  # of a WordLevel: not in the vocabulary, so an unknown character is an error


@cache
def byte_letters() -> tuple[str, ...]:
    """The printable character that stands for each byte, as GPT-2 spells them.

    Printable bytes stand for themselves; the others, in order, are the characters from U+0100.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(b if b in printable else next(others)) for b in range(256))


def spell(token: bytes) -> str:
    """The bytes of a token as printable characters."""
    return "".join(byte_letters()[b] for b in token)


# --- writing ---


def to_tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer.json for a tokenizer of ours. Raises UsageError for what it can't express."""
    common = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None}
    if isinstance(tokenizer, CharTokenizer):
        return {**common, "added_tokens": [], **CHARACTERS, "model": word_level(tokenizer)}
    if isinstance(tokenizer, BPETokenizer):
        added = [added_token(token, i) for token, i in tokenizer.special_ids.items()]
        return {**common, "added_tokens": added, **BYTE_LEVEL, "model": byte_pairs(tokenizer)}
    raise UsageError(f"a tokenizer of type {type(tokenizer).__name__} can't be exported")


def word_level(tokenizer: CharTokenizer) -> dict[str, Any]:
    """The model of a character tokenizer: a table of words."""
    refuse_lone_surrogates(tokenizer.characters)  # UTF-8, and so tokenizer.json, has none
    vocab = {character: i for i, character in enumerate(tokenizer.characters)}
    return {"type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN}


def byte_pairs(tokenizer: BPETokenizer) -> dict[str, Any]:
    """The model of a byte-pair tokenizer: its tokens without the special ones, and its merges."""
    n_special = len(tokenizer.special_tokens)
    tokens = [spell(token) for token in tokenizer.tokens[: tokenizer.vocab_size - n_special]]
    vocab = {token: i for i, token in enumerate([*tokens, *tokenizer.special_tokens])}
    if len(vocab) < tokenizer.vocab_size:
        raise UsageError("merges: two tokens have the same text; tokenizer.json allows one id each")
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: vocab[token] for token in tokens},
        "merges": [[tokens[left], tokens[right]] for left, right in tokenizer.merges],
    }


def added_token(token: str, token_id: int) -> dict[str, Any]:
    """A special token: an id that no merge makes."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token_id, "content": token, **flags, "special": True}


def main() -> None:
    """Print the interesting parts of both kinds of file."""
    for tokenizer in (CharTokenizer.train("to be"), BPETokenizer([(116, 111)])):
        stored = to_tokenizer_json(tokenizer)
        model, words = stored["model"], stored["pre_tokenizer"]["type"]
        print(f"{model['type']:<9} cut by {words:<9} V = {len(model['vocab'])}")


if __name__ == "__main__":
    run_program(main)
