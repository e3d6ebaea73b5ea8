"""A checkpoint as data for the page: its metadata, and its weights as float16 in base64.

Half precision halves the page. It keeps 11 significant bits of each weight, so the logits of the
page differ from those of the checkpoint in the third digit or so; with the same rounded weights,
PyTorch gives the same logits as the page.
"""

import base64
import json
from typing import Any

import torch
from torch import Tensor

from checkpointing import FORMAT, Checkpoint
from utils.config import to_dict
from utils.errors import CourseError

LARGEST_EMBEDDED = 5_000_000  # parameters: a page of about 13 MB


def describe(checkpoint: Checkpoint, title: str) -> dict[str, Any]:
    """What readEmbedded in checkpoint.js reads: {metadata, tensors: {name: {shape, float16}}}."""
    info = {**checkpoint.info, "title": title}
    return {
        "metadata": {
            "format": FORMAT,
            "model_config": json.dumps(to_dict(checkpoint.model_config)),
            "tokenizer": json.dumps(checkpoint.tokenizer.to_dict()),
            "info": json.dumps(info),
        },
        "tensors": {
            name: {"shape": list(weight.shape), "float16": in_half_precision(name, weight)}
            for name, weight in checkpoint.weights.items()
        },
    }


def in_half_precision(name: str, weight: Tensor) -> str:
    """The weight as base64 of little-endian float16. Raises CourseError if it does not fit."""
    half = weight.to(torch.float16)
    if not half.isfinite().all():
        largest = weight.abs().max().item()
        raise CourseError(f"{name} holds {largest:g}; float16 ends at 65504: use --no-weights")
    return base64.b64encode(half.numpy().astype("<f2").tobytes()).decode("ascii")


def n_parameters(checkpoint: Checkpoint) -> int:
    """How many numbers the weights are."""
    return sum(weight.numel() for weight in checkpoint.weights.values())
