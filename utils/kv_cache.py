"""A cache of keys and values, so that a new token costs one position of computation.

    cache = KVCache(config, batch_size=2)
    logits = model(prompts, cache)           # prefill: all prompt tokens at once
    cache.truncate([5, 3])                   # prompts of 5 and 3 tokens, padded on the right
    logits = model(next_tokens, cache)       # one token per row

The memory is allocated once. Each row of the batch has its own length. What lies beyond it, such
as padding, is never attended to, because a query sees only keys at or before its own position, and
is overwritten by later tokens. So prompts of unequal length need no padding mask.

The heads lie one behind the other in memory, each with room for `capacity` positions. Attention
reads them in this order, and a processor fetches memory ahead only as long as there are no gaps.
So the capacity is not max_seq_len from the beginning: it grows with the longest row.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from utils.config import ModelConfig

GROWTH = 32  # positions by which the capacity grows


class KVCache:
    """Keys and values (n_layers, B, n_kv_heads, capacity, d_head), and a length per row."""

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.max_seq_len = config.max_seq_len
        size = batch_size * config.kv_heads * config.max_seq_len * config.d_head
        memory = torch.zeros(2, config.n_layers, size, dtype=dtype, device=device)
        self._key_memory, self._value_memory = memory.unbind()  # (n_layers, size) each
        shape = (config.n_layers, batch_size, config.kv_heads, 0, config.d_head)
        self.keys = self.values = memory.new_empty(shape)
        self.reserve(1)
        self.lengths = [0] * batch_size
        self._steps = torch.arange(config.max_seq_len, device=device)

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """The positions that each row has room for, before the next `reserve`."""
        return self.keys.size(3)

    def reserve(self, n_positions: int) -> None:
        """Make room for so many positions: `keys` and `values` may become other tensors."""
        if n_positions <= self.capacity:
            return
        capacity = min(-(-n_positions // GROWTH) * GROWTH, self.max_seq_len)
        self.keys = _spread(self.keys, self._key_memory, capacity)
        self.values = _spread(self.values, self._value_memory, capacity)

    @property
    def equal_lengths(self) -> bool:
        """Whether all rows have the same length, so that plain slices can be used."""
        return min(self.lengths) == max(self.lengths)

    def positions(self, T: int) -> Tensor:
        """Positions of the next T tokens: (1, T) if all rows have the same length, else (B, T).

        Raises ValueError if they do not fit.
        """
        if max(self.lengths) + T > self.max_seq_len:
            raise ValueError(
                f"the cache holds {self.max_seq_len} positions, of which {max(self.lengths)} are "
                f"taken: {T} more do not fit"
            )
        if self.equal_lengths:
            start = self.lengths[0]
            return self._steps[None, start : start + T]
        starts = torch.tensor(self.lengths, device=self._steps.device)
        return starts[:, None] + self._steps[:T]

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append k and v (B, n_kv_heads, T, d_head) to each row; return all keys and values so far.

        Returns two views (B, n_kv_heads, T_k, d_head), where T_k is the longest row with its T new
        tokens. The lengths change in `advance`, after every layer has written.
        """
        T = k.size(2)
        self.reserve(max(self.lengths) + T)
        keys, values = self.keys[layer], self.values[layer]
        if self.equal_lengths:
            start = self.lengths[0]
            keys[:, :, start : start + T] = k
            values[:, :, start : start + T] = v
        else:
            rows = torch.arange(self.batch_size, device=k.device)[:, None]
            positions = self.positions(T)  # (B, T)
            keys[rows, :, positions] = k.transpose(1, 2).to(keys.dtype)
            values[rows, :, positions] = v.transpose(1, 2).to(values.dtype)
        T_k = max(self.lengths) + T
        return keys[:, :, :T_k], values[:, :, :T_k]

    def advance(self, T: int) -> None:
        """Add T to the length of every row."""
        self.lengths = [length + T for length in self.lengths]

    def truncate(self, lengths: Sequence[int]) -> None:
        """Shorten each row to its length in `lengths`, to drop padding, for instance."""
        for row, (new, old) in enumerate(zip(lengths, self.lengths, strict=True)):
            if not 0 <= new <= old:
                raise ValueError(f"row {row} holds {old} tokens; it cannot be truncated to {new}")
        self.lengths = list(lengths)

    def first_rows(self, n: int) -> "KVCache":
        """A cache of the first n rows: the same tensors, with lengths of its own."""
        self.reserve(self.max_seq_len)  # so that neither of the two grows without the other
        rows = copy.copy(self)
        rows.keys, rows.values = self.keys[:, :n], self.values[:, :n]
        rows.lengths = self.lengths[:n]
        return rows

    def replace_rows(self, rows: Sequence[int], other: "KVCache") -> None:
        """Overwrite these rows with the rows of another cache."""
        filled = max(other.lengths)
        self.reserve(filled)
        index = torch.tensor(rows, device=self.keys.device)
        self.keys[:, index, :, :filled] = other.keys[:, :, :, :filled]
        self.values[:, index, :, :filled] = other.values[:, :, :, :filled]
        for row, length in zip(rows, other.lengths, strict=True):
            self.lengths[row] = length

    def reorder_rows(self, parents: Sequence[int]) -> None:
        """Row i becomes a copy of row parents[i], in place: views of the tensors stay valid."""
        if len(parents) != self.batch_size:
            raise ValueError(f"{len(parents)} parents for the {self.batch_size} rows of the cache")
        self.lengths = [self.lengths[parent] for parent in parents]
        if list(parents) == list(range(self.batch_size)):
            return
        index = torch.tensor(parents, device=self.keys.device)
        filled = max(self.lengths)
        for tensor in (self.keys, self.values):
            tensor[:, :, :, :filled] = tensor[:, index, :, :filled]  # the right side is a copy


@torch.no_grad()
def _spread(old: Tensor, memory: Tensor, capacity: int) -> Tensor:
    """The same keys or values with a larger capacity, in the same memory (n_layers, size)."""
    n_layers, B, n_kv_heads, old_capacity, d_head = old.shape
    used = memory[:, : B * n_kv_heads * capacity * d_head]
    # Detached: a tensor of its own for autograd, as if it had been allocated.
    new = used.view(n_layers, B, n_kv_heads, capacity, d_head).detach()
    for old_layer, new_layer in zip(old, new, strict=True):
        entries = old_layer.clone()  # the places overlap
        new_layer[:, :, :old_capacity] = entries
        new_layer[:, :, old_capacity:] = 0
    return new
