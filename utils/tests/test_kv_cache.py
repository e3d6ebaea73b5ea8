"""The cache against a simple model of it: a list of vectors per row.

Random sequences of operations run on both, and the cache must return what the lists hold.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from utils.config import ModelConfig
from utils.kv_cache import GROWTH, KVCache

CONFIG = ModelConfig(max_seq_len=7, d_model=12, n_layers=2, n_heads=4, n_kv_heads=2)
Row = list[Tensor]  # per position, the keys of all layers: (n_layers, n_kv_heads, d_head)


class Lists:
    """The keys in plain lists; the values are minus the keys."""

    def __init__(self, batch_size: int) -> None:
        self.rows: list[Row] = [[] for _ in range(batch_size)]

    def lengths(self) -> list[int]:
        return [len(row) for row in self.rows]

    def append(self, new: Tensor) -> None:
        """Append new (n_layers, B, n_kv_heads, T, d_head) to all rows."""
        for b, row in enumerate(self.rows):
            row.extend(new[:, b, :, t] for t in range(new.size(3)))

    def truncate(self, lengths: Sequence[int]) -> None:
        self.rows = [row[:length] for row, length in zip(self.rows, lengths, strict=True)]


def random_keys(batch_size: int, T: int, dtype: torch.dtype = torch.float32) -> Tensor:
    shape = (CONFIG.n_layers, batch_size, CONFIG.kv_heads, T, CONFIG.d_head)
    return torch.randn(shape, dtype=dtype)


def extend(cache: KVCache, lists: Lists, T: int) -> None:
    """Append T tokens to both, as a forward pass does, and compare the returned views."""
    starts = lists.lengths()
    positions = cache.positions(T).expand(cache.batch_size, T)
    assert positions.tolist() == [list(range(start, start + T)) for start in starts]
    keys = random_keys(cache.batch_size, T, cache.keys.dtype)
    lists.append(keys)
    for layer in range(CONFIG.n_layers):
        k, v = cache.write(layer, keys[layer], -keys[layer])
        assert k.shape == (cache.batch_size, CONFIG.kv_heads, max(starts) + T, CONFIG.d_head)
        assert cache.lengths == starts  # lengths change after all layers have written
        for b, row in enumerate(lists.rows):
            expected = torch.stack([entry[layer] for entry in row], dim=1)
            assert torch.equal(k[b, :, : len(row)], expected)
            assert torch.equal(v[b, :, : len(row)], -expected)
    cache.advance(T)


def compare(cache: KVCache, lists: Lists) -> None:
    """Compare the whole contents."""
    assert cache.lengths == lists.lengths()
    assert cache.equal_lengths == (len(set(lists.lengths())) == 1)
    for b, row in enumerate(lists.rows):
        for t, entry in enumerate(row):
            assert torch.equal(cache.keys[:, b, :, t], entry)
            assert torch.equal(cache.values[:, b, :, t], -entry)


def some_cache(batch_size: int, lengths: Sequence[int]) -> tuple[KVCache, Lists]:
    """A cache and its lists, with rows of these lengths."""
    cache, lists = KVCache(CONFIG, batch_size), Lists(batch_size)
    if max(lengths) > 0:
        extend(cache, lists, max(lengths))
    cache.truncate(lengths)
    lists.truncate(lengths)
    return cache, lists


@pytest.mark.parametrize("seed", range(25))
def test_after_random_operations_the_cache_holds_what_the_lists_hold(seed):
    draw = random.Random(seed)
    B = draw.choice([1, 2, 3])
    cache, lists = KVCache(CONFIG, B), Lists(B)
    for _ in range(12):
        room = CONFIG.max_seq_len - max(cache.lengths)
        operation = draw.choice(["extend", "extend", "truncate", "replace", "reorder"])
        if operation == "extend" and room > 0:
            extend(cache, lists, draw.randint(1, room))
        elif operation == "truncate":
            lengths = [draw.randint(0, length) for length in cache.lengths]
            cache.truncate(lengths)
            lists.truncate(lengths)
        elif operation == "replace":
            chosen = draw.sample(range(B), draw.randint(1, B))
            new_lengths = [draw.randint(0, CONFIG.max_seq_len) for _ in chosen]
            other, other_lists = some_cache(len(chosen), new_lengths)
            cache.replace_rows(chosen, other)
            for row, new in zip(chosen, other_lists.rows, strict=True):
                lists.rows[row] = list(new)
        elif operation == "reorder":
            parents = [draw.randrange(B) for _ in range(B)]
            cache.reorder_rows(parents)
            lists.rows = [list(lists.rows[parent]) for parent in parents]
        compare(cache, lists)


def test_positions_have_one_row_while_all_lengths_are_equal():
    cache, _ = some_cache(3, [4, 4, 4])
    assert cache.positions(2).tolist() == [[4, 5]]
    cache, _ = some_cache(3, [4, 0, 2])
    assert cache.positions(2).tolist() == [[4, 5], [0, 1], [2, 3]]
    assert cache.positions(2).dtype == torch.int64


@pytest.mark.parametrize("lengths", [[7, 7], [7, 0], [0, 7], [6, 6], [2, 6]])
def test_tokens_that_do_not_fit_are_refused_and_nothing_changes(lengths):
    cache, lists = some_cache(2, lengths)
    T = 8 - max(lengths)
    with pytest.raises(ValueError, match=f"holds 7 positions, of which {max(lengths)} are taken"):
        cache.positions(T)
    compare(cache, lists)
    if T > 1:
        extend(cache, lists, T - 1)  # tokens that fit are accepted, up to the last position
        assert max(cache.lengths) == 7


@pytest.mark.parametrize("lengths", [[4, 3, 1], [5, 2, 1], [3, -1, 1]])
def test_truncating_to_an_impossible_length_is_refused(lengths):
    cache, lists = some_cache(3, [4, 2, 1])
    with pytest.raises(ValueError, match="it cannot be truncated to"):
        cache.truncate(lengths)
    compare(cache, lists)


def test_truncating_needs_a_length_per_row():
    cache, lists = some_cache(2, [4, 4])
    with pytest.raises(ValueError, match="zip"):
        cache.truncate([1])
    compare(cache, lists)


def test_truncated_tokens_are_overwritten_and_never_returned():
    cache, lists = some_cache(2, [3, 7])
    cache.truncate([1, 0])
    lists.truncate([1, 0])
    extend(cache, lists, 1)
    compare(cache, lists)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[2, 2], [2, 0]])
def test_the_cache_keeps_its_own_dtype(dtype, lengths):
    cache = KVCache(CONFIG, 2, dtype)
    cache.advance(2)
    cache.truncate(lengths)
    keys = random_keys(2, 1)  # float32: under autocast a model may write another dtype
    k, v = cache.write(0, keys[0], -keys[0])
    assert k.dtype == v.dtype == cache.keys.dtype == dtype
    assert torch.equal(k[0, :, 2], keys[0, 0, :, 0].to(dtype))


def test_the_cache_stores_key_value_heads_and_not_query_heads():
    cache = KVCache(CONFIG, 3)
    assert cache.keys.shape == cache.values.shape == (2, 3, 2, 7, 3)
    assert cache.batch_size == 3 and cache.max_seq_len == 7 and cache.lengths == [0, 0, 0]


def test_reordering_keeps_the_tensors_of_which_others_hold_views():
    cache, lists = some_cache(3, [4, 4, 4])
    keys, values = cache.keys, cache.values
    expected = keys[:, [2, 0, 0], :, :4].clone()
    cache.reorder_rows([2, 0, 0])
    assert cache.keys is keys and cache.values is values
    assert torch.equal(keys[:, :, :, :4], expected)
    lists.rows = [lists.rows[parent] for parent in (2, 0, 0)]
    compare(cache, lists)


def test_reordering_needs_a_parent_per_row():
    cache, lists = some_cache(2, [4, 3])
    with pytest.raises(ValueError, match="3 parents for the 2 rows"):
        cache.reorder_rows([0, 1, 1])
    compare(cache, lists)


LONG = replace(CONFIG, max_seq_len=2 * GROWTH + 6)


def test_the_capacity_grows_without_gaps_and_keeps_what_was_written():
    cache = KVCache(LONG, 2)
    assert cache.capacity == GROWTH
    address, written = cache.keys.data_ptr(), []
    for T in (GROWTH - 1, 1, 1, GROWTH, 5):
        keys = random_keys(2, T)
        written.append(keys)
        for layer in range(LONG.n_layers):
            k, v = cache.write(layer, keys[layer], -keys[layer])
            expected = torch.cat([each[layer] for each in written], dim=2)
            assert torch.equal(k, expected) and torch.equal(v, -expected)
            assert cache.keys[layer].is_contiguous()
            assert not cache.keys[layer, :, :, k.size(2) :].any()
        cache.advance(T)
    assert cache.capacity == LONG.max_seq_len
    assert cache.keys.data_ptr() == address


def test_rows_that_are_taken_over_make_the_cache_grow():
    cache, other = KVCache(LONG, 2), KVCache(LONG, 1)
    keys = random_keys(1, GROWTH + 3)
    for layer in range(LONG.n_layers):
        other.write(layer, keys[layer], -keys[layer])
    other.advance(GROWTH + 3)
    cache.replace_rows([1], other)
    assert torch.equal(cache.keys[:, 1:, :, : GROWTH + 3], keys)
    assert not cache.keys[:, 0].any()
    assert cache.lengths == [0, GROWTH + 3]


def test_first_rows_still_share_the_memory_when_they_grow():
    cache = KVCache(LONG, 3)
    rows, keys = cache.first_rows(2), random_keys(2, GROWTH + 3)
    rows.write(0, keys[0], -keys[0])
    assert torch.equal(cache.keys[0, :2, :, : GROWTH + 3], keys[0])


def test_it_may_grow_without_gradients_and_be_written_with_them():
    cache = KVCache(LONG, 1)
    keys = random_keys(1, GROWTH)
    with torch.no_grad():
        cache.write(0, keys[0], -keys[0])
    cache.advance(GROWTH)
    for T in (1, GROWTH):
        new = random_keys(1, T)[0].requires_grad_()
        k, _ = cache.write(0, new, -new)
        cache.advance(T)
        assert torch.equal(k[:, :, -T:], new)
