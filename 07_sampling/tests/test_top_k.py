"""top_k.py: exactly k logits are kept, and always the same ones."""

import math

import numpy as np
import pytest
import torch

from top_k import keep_only, top_k_filter
from utils.errors import UsageError


def random_logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def top_k_numpy(row: np.ndarray, k: int) -> np.ndarray:
    """One row, sorted by (largest value, lowest id) in plain Python."""
    kept = sorted(range(len(row)), key=lambda v: (-row[v], v))[:k]
    return np.where(np.isin(np.arange(len(row)), kept), row, -np.inf)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("k", [1, 2, 8, 9, 10])
def test_the_k_largest_are_kept_and_the_others_become_minus_infinity(k, dtype):
    logits = random_logits(4, 9).to(dtype)
    filtered = top_k_filter(logits, k)
    assert filtered.dtype == dtype
    expected = np.stack([top_k_numpy(row, k) for row in logits.double().numpy()])
    np.testing.assert_array_equal(filtered.double().numpy(), expected)


@pytest.mark.parametrize("k", range(1, 9))
def test_ties_keep_exactly_k_and_the_lowest_ids(k):
    row = torch.tensor([1.0, 2.0, 1.0, 2.0, 2.0, 0.0, 1.0, 0.0])
    filtered = top_k_filter(row, k)
    assert filtered.isfinite().sum() == k
    np.testing.assert_array_equal(filtered.numpy(), top_k_numpy(row.numpy(), k))


def test_ties_across_a_large_vocabulary_keep_the_lowest_ids():
    kept = top_k_filter(torch.zeros(50_000), 3).isfinite().nonzero().flatten()
    assert kept.tolist() == [0, 1, 2]


@pytest.mark.parametrize("k", [None, 9, 1000])
def test_none_and_k_of_at_least_the_vocabulary_size_keep_all(k):
    logits = random_logits(2, 9)
    assert torch.equal(top_k_filter(logits, k), logits)


@pytest.mark.parametrize("k", [0, -1])
def test_a_k_below_one_is_refused_by_value(k):
    with pytest.raises(UsageError, match=f"top-k {k} "):
        top_k_filter(torch.zeros(3), k)


def test_the_rows_of_a_batch_are_filtered_independently():
    logits = random_logits(2, 3, 9)
    alone = [[top_k_filter(row, 4) for row in rows] for rows in logits]
    assert torch.equal(top_k_filter(logits, 4), torch.stack([torch.stack(a) for a in alone]))


def test_the_filter_is_equivariant_to_a_permutation_of_the_ids():
    logits = random_logits(3, 11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    assert torch.equal(top_k_filter(logits[:, order], 4), top_k_filter(logits, 4)[:, order])


def test_a_logit_of_minus_infinity_stays_minus_infinity():
    row = torch.tensor([-math.inf, 1.0, -math.inf, 0.0])
    assert torch.equal(top_k_filter(row, 3), row)


def test_keep_only_keeps_the_ids_of_each_row():
    filtered = keep_only(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1], [0]]))
    assert torch.equal(filtered, torch.tensor([[-math.inf, 2.0], [3.0, -math.inf]]))


def test_inputs_are_not_modified():
    logits = random_logits(3, 9)
    before = logits.clone()
    top_k_filter(logits, 2)
    assert torch.equal(logits, before)
