"""The losses of a trained model on the validation split, and on two parts of it.

Settings are tuned on the first two thirds of the split alone, so the last third shows what a model
is worth on text that no choice was made for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from data_loader import check_tokens
from evaluation import block_loss, equal_context, equal_evaluation_loss
from training_data import TrainingData

WHOLE, TUNING, LAST = "whole", "first two thirds", "last third"


@dataclass(frozen=True)
class Losses:
    """The loss on one part, in nats per character."""

    own: float  # in blocks of the model's own context
    equal: float  # in blocks of 256 characters


def split_parts(val: np.ndarray) -> dict[str, np.ndarray]:
    """The validation tokens (n,), and their two parts.

    Each token but the first is a target in exactly one part: the token at the cut is the last
    target of the first part, and the first input of the second.
    """
    cut = 2 * len(val) // 3
    return {WHOLE: val, TUNING: val[: cut + 1], LAST: val[cut:]}


def check_parts(val: np.ndarray, max_seq_len: int) -> None:
    """Raise CourseError if a part is shorter than one context."""
    for name, tokens in split_parts(val).items():
        check_tokens(tokens, 1, max_seq_len, f"{name} of the validation split")


def held_out_losses(
    model: nn.Module, data: TrainingData, max_seq_len: int, dtype: torch.dtype
) -> dict[str, Losses]:
    """The two losses on each part, by its name. Raises CourseError if a part is too short."""
    per_token = data.chars_per_token
    found = {}
    for name, tokens in split_parts(data.val).items():
        own = block_loss(model, tokens, max_seq_len, dtype=dtype) / per_token
        equal = own  # unless the context is longer
        if equal_context(max_seq_len, per_token) < max_seq_len:
            equal = equal_evaluation_loss(model, tokens, max_seq_len, per_token, dtype=dtype)
        found[name] = Losses(own, equal)
    return found
