"""The tokens of a run: from a text file, or mapped from a folder that prepare_data.py wrote."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_loader import load_tokens
from tokenizer import CharTokenizer
from utils.corpus import LARGE, expand_home, load_corpus, split_text
from utils.errors import CourseError, UsageError

CHECKED = 1_000_000  # tokens at each end that are read when a run starts


@dataclass(frozen=True)
class TrainingData:
    """The training and validation tokens of a run, and the tokenizer that produced them."""

    name: str
    origin: str  # one line, printed at the start
    tokenizer: CharTokenizer
    train: np.ndarray  # (n,) unsigned integers
    val: np.ndarray
    entropy_bits_per_char: float | None = None  # the lowest possible loss, where it is known

    @property
    def fingerprint(self) -> str:
        """A hash by which a resumed run recognises its data, wherever the file is now.

        It covers the tokenizer, and of each split the length, the beginning and the end.
        """
        digest = hashlib.sha256(json.dumps(self.tokenizer.to_dict(), sort_keys=True).encode())
        for tokens in (self.train, self.val):
            digest.update(f"{len(tokens)} {tokens.dtype}".encode())
            digest.update(tokens[:CHECKED].tobytes() + tokens[-CHECKED:].tobytes())
        return digest.hexdigest()


def load_training_data(source: str) -> TrainingData:
    """Load "shakespeare", "mock", a text file, or a prepared folder. Raises CourseError."""
    folder = expand_home(source)
    if (folder / "tokenizer.json").is_file():
        return _load_prepared(folder)
    if folder.is_file() and folder.stat().st_size > LARGE:
        program = "python 09_capstone/data/prepare_data.py"
        raise UsageError(f"{folder} is too large; prepare it with {program} --data {folder}")
    corpus = load_corpus(source)
    tokenizer = CharTokenizer.train(corpus.text)
    train, val = split_text(corpus.text)
    return TrainingData(
        corpus.name,
        corpus.origin,
        tokenizer,
        tokenizer.encode_array(train),
        tokenizer.encode_array(val),
        corpus.entropy_bits_per_char,
    )


def _load_prepared(folder: Path) -> TrainingData:
    try:
        tokenizer = CharTokenizer.from_dict(_read_json(folder / "tokenizer.json"))
        meta = _read_json(folder / "meta.json")
        name, entropy = str(meta["name"]), meta.get("entropy_bits_per_char")
    except (KeyError, ValueError, FileNotFoundError) as error:
        raise CourseError(f"{folder} is not a complete prepared folder: {error}") from None
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
    return TrainingData(name, f"prepared in {folder}", tokenizer, train, val, entropy)


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise CourseError(f"{path.name} must be a JSON object, not {content!r:.40}")
    return content
