"""What a training run and prepare_data.py share about tokenizers; it does not load PyTorch."""

import numpy as np

from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer
from utils.errors import UsageError

LEARNED_TOKENS = 512  # the vocabulary of byte-pair encoding, if no size is given


def encode_corpus(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The ids of a training text; where it spells out a special token, it means that token."""
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.encode_array(text, allow_special=True)
    return tokenizer.encode_array(text)


def refuse_size_of_characters(kind: str, vocab_size: int | None) -> None:
    """Raise UsageError for a vocabulary size that the characters of the text determine."""
    if vocab_size is not None and kind != "bpe":
        raise UsageError(
            f"--vocab-size {vocab_size} needs --tokenizer bpe; the size of a character "
            "vocabulary is set by the text"
        )
