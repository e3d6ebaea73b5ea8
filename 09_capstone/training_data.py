"""The tokens of a run: from a text, or mapped from a folder that prepare_data.py has written."""

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

SEEN = 1_000_000  # tokens of either end that are read when a run begins


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from, and what it is judged by."""

    name: str
    origin: str  # one line for people
    tokenizer: CharTokenizer
    train: np.ndarray  # (n,) unsigned integers
    val: np.ndarray
    entropy_bits_per_char: float | None = None  # the loss no model can beat, where it is known

    @property
    def fingerprint(self) -> str:
        """Tells other data apart, so that a run goes on with its own; of a large file it takes
        the length, the beginning and the end."""
        digest = hashlib.sha256(json.dumps(self.tokenizer.to_dict(), sort_keys=True).encode())
        for tokens in (self.train, self.val):
            digest.update(f"{len(tokens)} {tokens.dtype}".encode())
            digest.update(tokens[:SEEN].tobytes() + tokens[-SEEN:].tobytes())
        return digest.hexdigest()


def load_training_data(source: str) -> TrainingData:
    """Load "shakespeare", "mock", a text file, or a prepared folder. Raises CourseError."""
    folder = expand_home(source)
    if (folder / "tokenizer.json").is_file():
        return _load_prepared(folder)
    if folder.is_file() and folder.stat().st_size > LARGE:
        program = "python 09_capstone/data/prepare_data.py"
        raise UsageError(f"{folder} is large: {program} --data {folder} first, then train on that")
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
        raise CourseError(f"{folder} is not a whole prepared folder: {error}") from None
    train, val = load_tokens(folder / "train.npy"), load_tokens(folder / "val.npy")
    for part, tokens in (("train", train), ("val", val)):
        if len(tokens) != meta.get(f"{part}_tokens"):
            raise CourseError(f"{folder}/{part}.npy is not of this set; prepare the data again")
        largest = max(ends.max(initial=0) for ends in (tokens[:SEEN], tokens[-SEEN:]))
        if largest >= tokenizer.vocab_size:
            raise CourseError(
                f"{folder}/{part}.npy holds the id {largest}, but tokenizer.json "
                f"only 0 to {tokenizer.vocab_size - 1}; prepare the data again"
            )
    return TrainingData(name, f"prepared in {folder}", tokenizer, train, val, entropy)


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise CourseError(f"{path.name} holds no names and values but {content!r:.40}")
    return content
