"""The tokens of a run: from a text, or mapped from a folder that prepare_data.py has written."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_loader import load_tokens
from tokenizer import CharTokenizer
from utils.corpus import load_corpus, split_text
from utils.errors import CourseError


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from, and what it is judged by."""

    name: str
    origin: str  # one line for people
    tokenizer: CharTokenizer
    train: np.ndarray  # (n,) unsigned integers
    val: np.ndarray
    entropy_bits_per_char: float | None = None  # the loss no model can beat, where it is known


def load_training_data(source: str) -> TrainingData:
    """Load "shakespeare", "mock", a text file, or a prepared folder. Raises CourseError."""
    if (Path(source) / "tokenizer.json").is_file():
        return _load_prepared(Path(source))
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
        stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        return TrainingData(
            meta["name"],
            f"prepared in {folder}",
            CharTokenizer.from_dict(stored),
            load_tokens(folder / "train.npy"),
            load_tokens(folder / "val.npy"),
            meta.get("entropy_bits_per_char"),
        )
    except (KeyError, json.JSONDecodeError, UnicodeDecodeError, FileNotFoundError) as error:
        raise CourseError(f"{folder} is not a whole prepared folder: {error}") from None
