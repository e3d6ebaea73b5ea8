"""Decode and prefill of the rows of a cache by the model's own forward pass, for any model.

    decode    the newest token of the first W rows          model(tokens, rows of the cache)
    prefill   the prompts of several rows in one pass       padded on the right, then copied

slot_decoder.py does the same in fewer operations for the models that it supports.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from fast_path import is_supported
from slot_decoder import SlotDecoder
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.kv_cache import KVCache


class SlotModel(Protocol):
    """A model and a cache, one sequence per row."""

    def decode(self, tokens: Tensor) -> Tensor:
        """The newest tokens (W,) of the first W rows -> logits (W, V); they join the cache."""
        ...

    def prefill(self, windows: Mapping[int, Sequence[int]]) -> None:
        """Make these rows of the cache hold these tokens and nothing else."""
        ...


def slot_model(model: nn.Module, config: ModelConfig, cache: KVCache) -> SlotModel:
    """A SlotDecoder for the models that fast_path.py knows, else PlainSlots."""
    if is_supported(model, cache):
        return SlotDecoder(cast(TinyTransformerLM, model), cache)
    return PlainSlots(model, config, cache)


class PlainSlots:
    """The forward pass of any model on the rows of a cache."""

    def __init__(self, model: nn.Module, config: ModelConfig, cache: KVCache) -> None:
        self.model = model
        self.config = config
        self.cache = cache

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """tokens (W,), the newest of each row -> logits (W, V); added to the cache."""
        rows = self.cache.first_rows(len(tokens))
        logits = self.model(tokens[:, None], rows)[:, -1]
        self.cache.lengths[: len(tokens)] = rows.lengths
        return logits

    @torch.no_grad()
    def prefill(self, windows: Mapping[int, Sequence[int]]) -> None:
        """Fill rows of the cache, all in one pass; unequal windows are padded on the right."""
        lengths = [len(window) for window in windows.values()]
        like = self.cache.keys
        filled = KVCache(self.config, len(windows), like.dtype, like.device)
        if max(lengths, default=0) > 0:
            padded = torch.zeros(len(windows), max(lengths), dtype=torch.long)
            for row, window in zip(padded, windows.values(), strict=True):
                row[: len(window)] = torch.tensor(window)
            self.model(padded.to(like.device), filled)
            filled.truncate(lengths)  # drop the padding
        if windows:
            self.cache.replace_rows(list(windows), filled)
