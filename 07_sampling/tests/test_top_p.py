"""top_p.py: the smallest set that reaches p, and all tokens probable enough next to the best."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from top_p import min_p_filter, top_p_filter
from utils.errors import UsageError

Filter = Callable[[Tensor, float], Tensor]
BOTH = pytest.mark.parametrize("keep", [top_p_filter, min_p_filter])


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def softmax64(row: np.ndarray) -> np.ndarray:
    e = np.exp(row - row.max())
    return e / e.sum()


def nucleus_numpy(row: np.ndarray, p: float) -> list[int]:
    """One row, token by token, in float64."""
    probabilities, kept, mass = softmax64(row), [], 0.0
    for v in sorted(range(len(row)), key=lambda v: (-row[v], v)):
        if mass >= p:
            break
        kept.append(v)
        mass += probabilities[v]
    return sorted(kept)


def kept_ids(filtered: Tensor) -> list[int]:
    return filtered.isfinite().nonzero().flatten().tolist()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.001, 0.3, 0.5, 0.9, 0.99])
def test_the_nucleus_is_the_one_numpy_computes(p, dtype):
    for row in random_logits(20, 12).to(dtype):
        filtered = top_p_filter(row, p)
        assert filtered.dtype == dtype
        kept = kept_ids(filtered)
        assert kept == nucleus_numpy(row.double().numpy(), p)
        assert torch.equal(filtered[kept], row[kept])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.97])
def test_the_nucleus_reaches_p_and_does_not_without_its_least_probable_token(p):
    for row in random_logits(20, 12, seed=1):
        kept = kept_ids(top_p_filter(row, p))
        masses = np.sort(softmax64(row.double().numpy())[kept])
        assert masses.sum() >= p
        assert masses[1:].sum() < p


def test_the_nucleus_holds_the_most_probable_tokens():
    for row in random_logits(20, 12, seed=2):
        filtered = top_p_filter(row, 0.8)
        inside, outside = row[filtered.isfinite()], row[~filtered.isfinite()]
        assert outside.numel() == 0 or inside.min() >= outside.max()


def test_a_larger_p_never_drops_a_token_that_a_smaller_one_kept():
    row = random_logits(12)
    nuclei = [set(kept_ids(top_p_filter(row, p))) for p in (0.1, 0.3, 0.6, 0.9, 1.0)]
    assert all(smaller <= larger for smaller, larger in pairwise(nuclei))
    assert len(nuclei[0]) < len(nuclei[-1])


def test_of_equal_tokens_the_nucleus_takes_the_lowest_ids():
    # Four tokens of exactly a quarter each: two of them reach a half.
    assert kept_ids(top_p_filter(torch.zeros(4), 0.5)) == [0, 1]
    assert kept_ids(top_p_filter(torch.zeros(4), 0.51)) == [0, 1, 2]
    assert kept_ids(top_p_filter(torch.zeros(4096), 0.25)) == list(range(1024))


def test_p_of_one_keeps_even_tokens_whose_probability_underflows():
    row = torch.tensor([0.0, -200.0, -90.0])  # exp(-200) is 0 in float32
    assert torch.equal(top_p_filter(row, 1.0), row)
    assert torch.equal(top_p_filter(row, 1), row)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("min_p", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_min_p_keeps_what_numpy_keeps(min_p, dtype):
    for row in random_logits(20, 12, seed=3).to(dtype):
        filtered = min_p_filter(row, min_p)
        assert filtered.dtype == dtype
        probabilities = softmax64(row.double().numpy())
        kept = np.flatnonzero(probabilities >= min_p * probabilities.max()).tolist()
        assert kept_ids(filtered) == kept
        assert torch.equal(filtered[kept], row[kept])


def test_min_p_of_one_keeps_all_tokens_that_tie_for_the_best():
    assert kept_ids(min_p_filter(torch.tensor([1.0, 3.0, 3.0, 2.0]), 1.0)) == [1, 2]


def test_min_p_of_zero_keeps_all():
    row = torch.tensor([0.0, -200.0, -90.0])
    assert torch.equal(min_p_filter(row, 0), row)


@pytest.mark.parametrize("p", [0, -0.1, 1.0001, math.nan, math.inf])
def test_a_top_p_out_of_range_is_refused_by_value(p):
    with pytest.raises(UsageError, match=f"top-p {p} "):
        top_p_filter(torch.zeros(3), p)


@pytest.mark.parametrize("min_p", [-0.1, 1.0001, math.nan, math.inf])
def test_a_min_p_out_of_range_is_refused_by_value(min_p):
    with pytest.raises(UsageError, match=f"min-p {min_p} "):
        min_p_filter(torch.zeros(3), min_p)


@BOTH
def test_the_best_token_is_always_kept(keep: Filter):
    for row in random_logits(50, 12, seed=4) * 10:
        for share in (1e-9, 0.5, 1.0):
            assert int(row.argmax()) in kept_ids(keep(row, share))


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_what_float32_keeps(keep: Filter, dtype: torch.dtype):
    logits = random_logits(20, 500, seed=7).to(dtype)
    for share in (0.02, 0.3, 0.9):
        expected = keep(logits.float(), share).isfinite()
        assert torch.equal(keep(logits, share).isfinite(), expected)


@BOTH
def test_the_rows_of_a_batch_are_filtered_independently(keep: Filter):
    logits = random_logits(2, 3, 9, seed=5)
    alone = torch.stack([keep(row, 0.4) for row in logits.flatten(0, 1)])
    assert torch.equal(keep(logits, 0.4), alone.view(2, 3, 9))


@BOTH
def test_the_filter_is_equivariant_to_a_permutation_of_the_ids(keep: Filter):
    logits = random_logits(3, 11, seed=6)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    assert torch.equal(keep(logits[:, order], 0.3), keep(logits, 0.3)[:, order])


@BOTH
def test_a_logit_of_minus_infinity_stays_minus_infinity(keep: Filter):
    row = torch.tensor([-math.inf, 1.0, -math.inf, 1.0])
    assert torch.equal(keep(row, 0.9), row)


@BOTH
def test_nan_is_passed_on_for_sampling_to_refuse(keep: Filter):
    assert keep(torch.tensor([0.0, math.nan, 1.0]), 0.5).isnan().any()


@BOTH
def test_inputs_are_not_modified(keep: Filter):
    logits = random_logits(3, 9)
    before = logits.clone()
    keep(logits, 0.5)
    assert torch.equal(logits, before)
