"""The tokens of a run: from a text file, or mapped from a folder that prepare_data.py wrote."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from any_tokenizer import Tokenizer, tokenizer_from_dict, tokenizer_kind
from bpe_tokenizer import train_bpe
from corpus_tokenizer import LEARNED_TOKENS, encode_corpus, refuse_size_of_characters
from data_loader import load_tokens
from special_tokens import SPECIAL_TOKENS
from tokenizer import CharTokenizer
from utils.corpus import LARGE, expand_home, load_corpus, split_text
from utils.errors import CourseError, UsageError

CHECKED = 1_000_000  # tokens at each end that are read when a run starts


@dataclass(frozen=True)
class TrainingData:
    """The training and validation tokens of a run, and the tokenizer that produced them."""

    name: str
    origin: str  # one line, printed at the start
    tokenizer: Tokenizer
    train: np.ndarray  # (n,) unsigned integers
    val: np.ndarray
    entropy_bits_per_char: float | None = None  # the lowest possible loss, where it is known
    lengths: tuple[int, int] | None = None  # of the splits, in characters; None: one per token

    @property
    def n_characters(self) -> tuple[int, int]:
        """The characters of the two splits."""
        return self.lengths or (len(self.train), len(self.val))

    @property
    def chars_per_token(self) -> float:
        """Characters of the validation split per token that is predicted there: all but the first.

        A loss divided by it is a loss per character, which depends on the text and not on how it
        was cut into tokens.
        """
        given = len(self.tokenizer.decode(self.val[:1]))  # by the first token: not predicted
        return (self.n_characters[1] - given) / max(1, len(self.val) - 1)

    @property
    def fingerprint(self) -> str:
        """A hash by which a resumed run recognizes its data, wherever the file is now.

        It covers the tokenizer, and of each split the length, the beginning and the end.
        """
        digest = hashlib.sha256(json.dumps(self.tokenizer.to_dict(), sort_keys=True).encode())
        for tokens in (self.train, self.val):
            digest.update(f"{len(tokens)} {tokens.dtype}".encode())
            digest.update(tokens[:CHECKED].tobytes() + tokens[-CHECKED:].tobytes())
        return digest.hexdigest()


def load_training_data(
    source: str,
    kind: str = "auto",
    vocab_size: int | None = None,
    tokenizer: Tokenizer | None = None,
) -> TrainingData:
    """Load a corpus by its name, a text file, or a prepared folder. Raises CourseError.

    `kind` is that of the tokenizer: "char", or "bpe", which learns `vocab_size` tokens; "auto" is
    that of a prepared folder, and else "char". A given `tokenizer` is used in place of a new one.
    Raises UsageError where they don't fit together, or for a character that it doesn't know.
    """
    folder = expand_home(source)
    if (folder / "tokenizer.json").is_file():
        data = _load_prepared(folder, kind, vocab_size)
        if tokenizer not in (None, data.tokenizer):
            raise UsageError(f"{folder} was prepared with another tokenizer than the model has")
        return data
    if folder.is_file() and folder.stat().st_size > LARGE:
        program = "python 09_capstone/data/prepare_data.py"
        raise UsageError(f"{folder} is too large; prepare it with {program} --data {folder}")
    refuse_size_of_characters(kind, vocab_size)
    corpus = load_corpus(source)
    train, val = split_text(corpus.text)
    if tokenizer is not None:
        check_accepts(tokenizer, corpus.text, source)
    elif kind == "bpe":
        # The validation split stays unseen: what its words are is part of what it tests.
        tokenizer = train_bpe(train, vocab_size or LEARNED_TOKENS, SPECIAL_TOKENS)
    else:
        tokenizer = CharTokenizer.train(corpus.text)
    return TrainingData(
        corpus.name,
        corpus.origin,
        tokenizer,
        encode_corpus(tokenizer, train),
        encode_corpus(tokenizer, val),
        corpus.entropy_bits_per_char,
        (len(train), len(val)),
    )


def check_accepts(tokenizer: Tokenizer, text: str, source: str) -> None:
    """Raise UsageError, naming the first character of a text that a given tokenizer can't encode.

    The whole text at once, so that line and column are those of the file.
    """
    if not tokenizer.accepts(text):
        try:
            tokenizer.encode_array(text)
        except UsageError as error:
            raise UsageError(f"--data {source}: {error}") from None


def _load_prepared(folder: Path, kind: str, vocab_size: int | None) -> TrainingData:
    try:
        tokenizer = tokenizer_from_dict(_read_json(folder / "tokenizer.json"))
        meta = _read_json(folder / "meta.json")
        name, entropy = str(meta["name"]), meta.get("entropy_bits_per_char")
        characters = int(meta["characters"])
    except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise CourseError(f"{folder} is not a complete prepared folder: {error}") from None
    _check_request(folder, tokenizer, kind, vocab_size)
    train, val = load_tokens(folder / "train.npy"), load_tokens(folder / "val.npy")
    for part, tokens in (("train", train), ("val", val)):
        if len(tokens) != meta.get(f"{part}_tokens"):
            raise CourseError(f"{folder}/{part}.npy does not match meta.json; prepare it again")
        largest = max(ends.max(initial=0) for ends in (tokens[:CHECKED], tokens[-CHECKED:]))
        if largest >= tokenizer.vocab_size:
            raise CourseError(
                f"{folder}/{part}.npy contains the id {largest}, but tokenizer.json has "
                f"only 0 to {tokenizer.vocab_size - 1}; prepare the data again"
            )
    n_val = int(meta.get("val_characters", len(val)))  # older folders: characters only
    origin, lengths = f"prepared in {folder}", (characters - n_val, n_val)
    return TrainingData(name, origin, tokenizer, train, val, entropy, lengths)


def _check_request(folder: Path, tokenizer: Tokenizer, kind: str, vocab_size: int | None) -> None:
    """Raise UsageError if a folder was prepared with another tokenizer than the one asked for."""
    found, V = tokenizer_kind(tokenizer), tokenizer.vocab_size
    if kind not in ("auto", found):
        raise UsageError(
            f"--tokenizer {kind}: {folder} was prepared with {found}; prepare it again with {kind}"
        )
    refuse_size_of_characters(found, vocab_size)
    if vocab_size not in (None, V):
        raise UsageError(
            f"--vocab-size {vocab_size}: {folder} was prepared with {V} tokens; prepare it again"
        )


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise CourseError(f"{path.name} must be a JSON object, not {content!r:.40}")
    return content
