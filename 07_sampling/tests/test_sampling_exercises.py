"""What the exercises of lesson 07 must compute, against NumPy in float64 and by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other, logits have a standard deviation of 2, there are three rows, not two, and values tie.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from utils.grader.feedback import expect, expect_equal, expect_prediction
from utils.grader.readings import expect_letters

B, T, V = 3, 5, 7
INF = math.inf
LEADS = [(), (V,), (B, T), (B, 2, T)]


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random values with a standard deviation of 2."""
    return 2 * torch.randn(shape, dtype=torch.float64).to(dtype)


def turned(*shape: int) -> Tensor:
    """Random values that are not contiguous in memory."""
    *lead, rows, columns = shape
    return draw(*lead, columns, rows).mT


def rows_of(logits: Tensor) -> np.ndarray:
    """The rows of (..., V) in float64: (n, V)."""
    return logits.detach().double().numpy().reshape(-1, logits.size(-1))


def softmax64(row: np.ndarray) -> np.ndarray:
    exps = np.exp(row - row.max())
    return exps / exps.sum()


def by_rank(row: np.ndarray) -> list[int]:
    """The ids from the largest value to the smallest; of equal ones the lowest first."""
    return sorted(range(len(row)), key=lambda v: (-row[v], v))


def keeping(logits: Tensor, keep: Callable[[np.ndarray], Sequence[int]]) -> Tensor:
    """The logits, with -inf at all ids that `keep` doesn't name for their row."""
    rows = rows_of(logits)
    result = np.full_like(rows, -INF)
    for row, out in zip(rows, result, strict=True):
        kept = list(keep(row))
        out[kept] = row[kept]
    return torch.from_numpy(result.reshape(logits.shape)).to(logits.dtype)


# --- 7.1 ---


def test_the_predicted_probabilities_and_entropies_are_right(ex):
    p = np.array([0.5, 0.25, 0.125, 0.125])
    sharp, flat = p**2 / (p**2).sum(), p**0.5 / (p**0.5).sum()
    truth = (-(p * np.log2(p)).sum(), sharp[0], flat[0], 2.0)
    expect_prediction(ex.predict_distribution(), truth, what="the four numbers", within=0.006)


# --- 7.2 ---

SCALED = "the logits (..., V)"


def test_the_logits_are_divided_by_the_temperature(ex):
    """the logits are divided by the temperature"""
    logits = torch.tensor([[1.0, 2.0, -1.0]])
    expect_equal(ex.apply_temperature(logits, 0.5), torch.tensor([[2.0, 4.0, -2.0]]), what=SCALED)
    for temperature in (0.25, 1.0, 3.0):
        logits = draw(B, T, V)
        truth = (logits.double() / temperature).float()
        expect_equal(ex.apply_temperature(logits, temperature), truth, what=SCALED)


def test_temperature_zero_keeps_the_greedy_choice(ex):
    """at temperature 0 the largest logit stays, and all others become -inf"""
    logits = torch.tensor([[1.0, 3.0, 2.0], [4.0, 0.0, -1.0]])
    truth = torch.tensor([[-INF, 3.0, -INF], [4.0, -INF, -INF]])
    expect_equal(ex.apply_temperature(logits, 0.0), truth, what=SCALED)
    logits = draw(B, T, V)
    truth = keeping(logits, lambda row: by_rank(row)[:1])
    expect_equal(ex.apply_temperature(logits, 0), truth, what=SCALED)


def test_of_equal_logits_temperature_zero_keeps_the_first(ex):
    """of equal logits, temperature 0 keeps that with the lowest id"""
    logits = torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
    truth = torch.tensor([[-INF, 3.0, -INF], [0.0, -INF, -INF]])
    expect_equal(ex.apply_temperature(logits, 0), truth, what=SCALED)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("temperature", [0, 0.7])
def test_temperature_works_with_any_leading_axes(ex, temperature, lead):
    logits = draw(*lead, V)
    scaled = (logits.double() / temperature).float() if temperature else logits
    truth = scaled if temperature else keeping(logits, lambda row: by_rank(row)[:1])
    expect_equal(ex.apply_temperature(logits, temperature), truth, what=SCALED)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_becomes_float32_before_the_division(ex, dtype):
    """half precision becomes float32 before the division; float64 stays"""
    logits = torch.tensor([[20.0, 10.0, -20.0]], dtype=dtype)
    target = torch.float64 if dtype == torch.float64 else torch.float32
    for temperature in (0.7, 1e-4, 0):
        truth = logits.to(target) / temperature if temperature else logits.to(target)
        truth = truth if temperature else truth.masked_fill(logits < 20, -INF)
        expect_equal(ex.apply_temperature(logits, temperature), truth, what=SCALED)


@pytest.mark.parametrize("temperature", [0, 0.5])
def test_temperature_leaves_what_is_excluded_already(ex, temperature):
    """-inf stays -inf"""
    logits = torch.tensor([[-INF, 2.0, -INF, -1.0]])
    truth = logits / temperature if temperature else logits.masked_fill(logits < 2, -INF)
    expect_equal(ex.apply_temperature(logits, temperature), truth, what=SCALED)


# --- 7.3 ---

IDS = "the ids (...)"


def true_inverse_cdf(logits: Tensor, uniform: Tensor) -> Tensor:
    """Row by row: walk along the probabilities until u is used up."""
    ids = []
    for row, u in zip(rows_of(logits), uniform.double().flatten().tolist(), strict=True):
        total, found = 0.0, int(np.flatnonzero(row > -INF)[-1])
        for v, p in enumerate(softmax64(row)):
            total += p
            if u < total and p > 0:
                found = v
                break
        ids.append(found)
    return torch.tensor(ids).reshape(logits.shape[:-1])


def test_the_token_is_the_one_on_whose_piece_u_falls(ex):
    """u falls on the piece of one token"""
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    for u in (0.1, 0.25, 0.69, 0.75, 0.95):
        uniform = torch.tensor([u])
        truth = true_inverse_cdf(logits, uniform)
        expect_equal(ex.sample_inverse_cdf(logits, uniform), truth, what=IDS)


@pytest.mark.parametrize("lead", LEADS)
def test_each_row_has_a_number_of_its_own(ex, lead):
    """each row has its own u"""
    logits, uniform = draw(*lead, V), torch.rand(lead)
    truth = true_inverse_cdf(logits, uniform)
    expect_equal(ex.sample_inverse_cdf(logits, uniform), truth, what=IDS)


def test_a_token_at_minus_infinity_is_never_drawn(ex):
    """a token whose logit is -inf is never drawn, not even for u = 0"""
    logits = torch.tensor([[-INF, 1.0, -INF, 1.0, -INF]])
    for u in (0.0, 0.25, 0.75, 0.9999999):
        uniform = torch.tensor([u])
        truth = true_inverse_cdf(logits, uniform)
        expect_equal(ex.sample_inverse_cdf(logits, uniform), truth, what=IDS)


def test_the_largest_u_gives_a_token_although_sums_are_rounded(ex):
    """for the largest u below 1 it is still the last token with a probability above 0"""
    logits = torch.tensor([[1.0, 2.0, 0.5, 1.5, -INF]])
    for last in (0.99, 1 - 2**-24):
        uniform = torch.tensor([last])
        truth = torch.tensor([3])
        expect_equal(ex.sample_inverse_cdf(logits, uniform), truth, what=IDS)
    logits = draw(40, 997)
    logits[:, -3:] = -INF
    logits[:, -4] = 8.0  # far more probable than the rounding error of the sums
    uniform = torch.full((40,), 1 - 2**-24)
    ids = ex.sample_inverse_cdf(logits, uniform)
    expect_equal(ids, torch.full((40,), 993), what="the ids for u = 0.99999994")


def test_the_frequencies_are_the_probabilities(ex):
    """evenly spaced numbers u draw each token as often as its probability says"""
    n = 1000
    logits = draw(V)
    uniform = (torch.arange(n) + 0.5) / n
    ids = ex.sample_inverse_cdf(logits.expand(n, V), uniform)
    expect_equal(ids, true_inverse_cdf(logits.expand(n, V), uniform), what="the ids (1000,)")


# --- 7.4 ---


def true_gumbel(logits: Tensor, uniform: Tensor) -> Tensor:
    noise = -np.log(-np.log(uniform.double().numpy()))
    return torch.as_tensor((logits.double().numpy() + noise).argmax(-1))


def test_the_largest_sum_of_logit_and_noise_wins(ex):
    """the largest sum of logit and noise wins"""
    logits = torch.tensor([[1.0, 0.0, 0.5]])
    for u in ([0.5, 0.5, 0.5], [0.2, 0.9, 0.3], [0.1, 0.2, 0.4], [0.3, 0.5, 0.8]):
        uniform = torch.tensor([u])
        expect_equal(ex.sample_gumbel(logits, uniform), true_gumbel(logits, uniform), what=IDS)


@pytest.mark.parametrize("lead", LEADS)
def test_each_token_of_each_row_has_noise_of_its_own(ex, lead):
    for _ in range(5):
        logits, uniform = draw(*lead, V), torch.rand(*lead, V).clamp(1e-6, 1 - 1e-6)
        expect_equal(ex.sample_gumbel(logits, uniform), true_gumbel(logits, uniform), what=IDS)


def test_noise_of_a_u_close_to_0_or_1_counts_in_full(ex):
    """a u close to 0 or 1 counts like any other"""
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 9.0, -1.0]])
    for u in ([0.5, 0.9995, 0.99999], [0.002, 0.0001, 0.5], [0.5, 0.999, 0.9999]):
        uniform = torch.tensor([u, u[::-1]])
        expect_equal(ex.sample_gumbel(logits, uniform), true_gumbel(logits, uniform), what=IDS)
    logits, uniform = torch.tensor([[0.3, 0.0, -5.0]]), torch.tensor([[1e-6, 1e-4, 0.5]])
    expect_equal(ex.sample_gumbel(logits, uniform), true_gumbel(logits, uniform), what=IDS)


def test_noise_cannot_choose_what_is_excluded(ex):
    """a token whose logit is -inf is never drawn"""
    logits = torch.tensor([[-INF, -9.0, -INF, -8.0]]).expand(B, -1)
    uniform = torch.tensor([[0.999, 0.01, 0.9, 0.2], [0.9, 0.9, 0.9, 0.1], [0.5] * 4])
    expect_equal(ex.sample_gumbel(logits, uniform), true_gumbel(logits, uniform), what=IDS)


def test_the_winners_are_as_frequent_as_the_softmax_says(ex):
    """over many draws, each token wins as often as its probability says"""
    n = 1000
    logits = torch.tensor([1.0, 0.0, 0.5, -1.0])
    uniform = torch.rand(n, 4).clamp(1e-6, 1 - 1e-6)
    ids = ex.sample_gumbel(logits.expand(n, 4), uniform)
    expect_equal(ids, true_gumbel(logits.expand(n, 4), uniform), what="the ids (1000,)")


# --- 7.5 ---

FILTERED = "the filtered logits (..., V)"


def true_top_k(logits: Tensor, k: int | None) -> Tensor:
    return keeping(logits, lambda row: by_rank(row)[:k])


def test_the_k_largest_stay_and_the_others_become_minus_infinity(ex):
    """the k largest stay, the others become -inf"""
    # Neither order is its own inverse, so gather and scatter differ.
    logits = torch.tensor([[1.0, 3.0, -1.0, 2.0], [-2.0, 5.0, 0.0, 4.0]])
    expect_equal(ex.top_k_filter(logits, 2), true_top_k(logits, 2), what=FILTERED)
    for k in (1, 3, V - 1):
        logits = draw(B, T, V)
        expect_equal(ex.top_k_filter(logits, k), true_top_k(logits, k), what=FILTERED)


def test_ties_keep_exactly_k_with_the_lowest_ids(ex):
    """of equal logits exactly k are kept, those with the lowest ids"""
    logits = torch.tensor([[1.0, 2.0, 1.0, 2.0, 2.0, 1.0]])
    for k in (2, 4, 1, 5):
        expect_equal(ex.top_k_filter(logits, k), true_top_k(logits, k), what=FILTERED)
    logits = torch.zeros(B, 300)
    logits[:, 100:200] = 1.0
    expect_equal(ex.top_k_filter(logits, 40), true_top_k(logits, 40), what=FILTERED)


@pytest.mark.parametrize("k", [None, V, 1000])
def test_none_and_a_large_k_keep_all(ex, k):
    logits = draw(B, T, V)
    expect_equal(ex.top_k_filter(logits, k), logits.clone(), what=FILTERED)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("lead", LEADS)
def test_top_k_works_with_any_leading_axes_and_dtype(ex, lead, dtype):
    logits = draw(*lead, V, dtype=dtype)
    expect_equal(ex.top_k_filter(logits, 3), true_top_k(logits, 3), what=FILTERED)


def test_top_k_leaves_what_is_excluded_already(ex):
    logits = torch.tensor([[-INF, 1.0, -INF, 0.0, 2.0]])
    for k in (2, 4):
        expect_equal(ex.top_k_filter(logits, k), true_top_k(logits, k), what=FILTERED)


# --- 7.6 ---


def nucleus(row: np.ndarray, p: float) -> list[int]:
    """One row, token by token, in float64."""
    probabilities, kept, total = softmax64(row), [], 0.0
    for v in by_rank(row):
        if total >= p:
            break
        kept.append(v)
        total += probabilities[v]
    return kept


def true_top_p(logits: Tensor, p: float) -> Tensor:
    return logits.clone() if p == 1 else keeping(logits, lambda row: nucleus(row, p))


def is_clear(row: np.ndarray, p: float, margin: float) -> bool:
    """Whether no sum of the most probable tokens is close to p, where rounding would decide."""
    sums = np.cumsum(np.sort(softmax64(row))[::-1])
    return bool((np.abs(sums - p) > margin).all())


def clear_rows(lead: tuple[int, ...], p: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random logits (*lead, V) for which rounding doesn't decide who is in the nucleus."""
    count, found = math.prod(lead), []
    while len(found) < count:
        row = draw(V, dtype=dtype)
        if is_clear(rows_of(row)[0], p, 1e-4):
            found.append(row)
    return torch.stack(found).reshape(*lead, V)


def test_the_nucleus_has_the_token_that_crosses_p(ex):
    """the nucleus is the smallest set that sums to p or more"""
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()
    for p in (0.75, 0.4, 0.9, 0.97):
        expect_equal(ex.top_p_filter(logits, p), true_top_p(logits, p), what=FILTERED)


def test_a_sum_of_exactly_p_is_enough(ex):
    """a sum that equals p is enough"""
    logits = torch.zeros(1, 4)  # a quarter each, exactly
    for p in (0.5, 0.25, 0.75):
        expect_equal(ex.top_p_filter(logits, p), true_top_p(logits, p), what=FILTERED)


@pytest.mark.parametrize("p", [0.001, 0.3, 0.6, 0.9, 0.99])
def test_each_row_has_its_own_nucleus(ex, p):
    """each row has its own nucleus; the best token is always in it"""
    logits = clear_rows((B, T), p)
    expect_equal(ex.top_p_filter(logits, p), true_top_p(logits, p), what=FILTERED)


def test_where_rounded_sums_stay_below_p_all_are_kept(ex):
    """where rounding keeps the sum below p, all tokens stay"""
    rows = ([0.0, 1.0, 3.0, 5.0], [1.0, 2.0, 4.0, -1.0], [0.0] * 41, [0.0] * 115)
    for row in rows:  # their probabilities sum to less than 1 in float32
        logits = torch.tensor([row])
        expect_equal(ex.top_p_filter(logits, 1 - 2**-30), logits.clone(), what=FILTERED)


def test_of_equal_tokens_the_nucleus_takes_the_lowest_ids(ex):
    """of equal logits, the nucleus takes the lowest ids"""
    logits = torch.zeros(B, 8)
    logits[1, ::2] = 3.0
    for p in (0.45, 0.7, 0.05):
        expect_equal(ex.top_p_filter(logits, p), true_top_p(logits, p), what=FILTERED)
    logits = torch.zeros(300)
    expect_equal(ex.top_p_filter(logits, 0.3351), true_top_p(logits, 0.3351), what=FILTERED)


def test_a_p_of_1_keeps_all_even_what_underflows(ex):
    """p = 1 keeps all tokens, even those whose probability is rounded to 0"""
    logits = torch.tensor([[0.0, -200.0, -90.0, 1.0]])
    expect_equal(ex.top_p_filter(logits, 1.0), logits.clone(), what=FILTERED)
    logits = draw(B, T, V)
    expect_equal(ex.top_p_filter(logits, 1.0), logits.clone(), what=FILTERED)


@pytest.mark.parametrize("lead", LEADS)
def test_top_p_works_with_any_leading_axes(ex, lead):
    logits = clear_rows(lead or (1,), 0.8).reshape(*lead, V)
    expect_equal(ex.top_p_filter(logits, 0.8), true_top_p(logits, 0.8), what=FILTERED)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_top_p_sums_half_precision_in_float32(ex, dtype):
    """half precision comes back in its own dtype, after sums in float32"""
    logits = clear_rows((B, T), 0.9, dtype)
    expect_equal(ex.top_p_filter(logits, 0.9), true_top_p(logits, 0.9), what=FILTERED)
    logits = (torch.arange(600) / 1000).flip(0).to(dtype)[None]
    for p in (0.5101, 0.9501):
        truth = true_top_p(logits, p)
        expect_equal(ex.top_p_filter(logits, p), truth, what=FILTERED)


def test_top_p_leaves_what_is_excluded_already(ex):
    logits = torch.tensor([[-INF, 1.0, -INF, 0.0, 2.0]])
    for p in (0.5, 0.99, 0.9999):
        expect_equal(ex.top_p_filter(logits, p), true_top_p(logits, p), what=FILTERED)


# --- 7.7 ---


def true_min_p(logits: Tensor, min_p: float) -> Tensor:
    def kept(row: np.ndarray) -> list[int]:
        probabilities = softmax64(row)
        return np.flatnonzero(probabilities >= min_p * probabilities.max()).tolist()

    return keeping(logits, kept)


def test_min_p_compares_with_the_largest_probability(ex):
    """a token stays with at least min_p times the largest probability"""
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()
    for min_p in (0.2, 0.5, 0.05, 0.7):
        expect_equal(ex.min_p_filter(logits, min_p), true_min_p(logits, min_p), what=FILTERED)
    for min_p in (0.01, 0.1, 0.4, 0.9):
        logits = draw(B, T, V)
        expect_equal(ex.min_p_filter(logits, min_p), true_min_p(logits, min_p), what=FILTERED)


def test_min_p_of_0_keeps_all_and_of_1_all_that_tie(ex):
    """min_p = 0 keeps all; min_p = 1 keeps the best, and what equals it"""
    logits = torch.tensor([[1.0, 3.0, 3.0, -200.0]])
    for min_p in (1.0, 0.0):
        expect_equal(ex.min_p_filter(logits, min_p), true_min_p(logits, min_p), what=FILTERED)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("lead", LEADS)
def test_min_p_works_with_any_leading_axes_and_dtype(ex, lead, dtype):
    logits = draw(*lead, V, dtype=dtype)
    expect_equal(ex.min_p_filter(logits, 0.1), true_min_p(logits, 0.1), what=FILTERED)


def test_min_p_leaves_what_is_excluded_already(ex):
    logits = torch.tensor([[-INF, 1.0, -INF, 0.0, 2.0]])
    expect_equal(ex.min_p_filter(logits, 0.2), true_min_p(logits, 0.2), what=FILTERED)


@pytest.mark.parametrize(("dtype", "n"), [(torch.bfloat16, 256), (torch.float16, 2048)])
def test_min_p_computes_half_precision_in_float32(ex, dtype, n):
    """the probabilities of half precision are computed in float32"""
    logits = (torch.arange(n) / n).flip(0).to(dtype)[None]  # exact, and close to each other
    for rank in (0.15, 0.35, 0.6, 0.8):
        min_p = math.exp(-(round(rank * n) + 0.5) / n)  # half-way between two tokens
        truth = true_min_p(logits, min_p)
        expect_equal(ex.min_p_filter(logits, min_p), truth, what=FILTERED)


# --- 7.8 ---

RULES = {  # and the columns of the picture, LETTERS in pictures/draw.py
    "greedy": "C",
    "temperature 0.5": "E",
    "temperature 2": "A",
    "top-k 4": "F",
    "top-p 0.8": "B",
    "min-p 0.2": "D",
}


def test_each_column_is_given_its_rule(ex):
    expect_letters(ex.read_strategies(), RULES, "the rules")


# --- 7.9 ---

PENALIZED = "the penalized logits (..., V)"


def some_counts(*shape: int) -> Tensor:
    return torch.randint(0, 4, shape) * torch.randint(0, 2, shape)


def true_repetition(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Entry by entry."""
    target = torch.promote_types(logits.dtype, torch.float32)
    found = []
    for x, n in zip(logits.double().flatten().tolist(), counts.flatten().tolist(), strict=True):
        if n == 0 or x == -INF:
            found.append(x)
        else:
            found.append(x / penalty if x > 0 else x * penalty)
    return torch.tensor(found, dtype=torch.float64).to(target).reshape(logits.shape)


def test_a_repeated_token_becomes_less_probable_whatever_its_sign(ex):
    """a repeated token becomes less probable, whatever the sign of its logit"""
    logits = torch.tensor([[3.0, -3.0, 1.0, -1.0]])
    counts = torch.tensor([[1, 1, 0, 0]])
    truth = true_repetition(logits, counts, 1.5)
    expect_equal(ex.apply_repetition_penalty(logits, counts, 1.5), truth, what=PENALIZED)
    counts = torch.tensor([[0, 3, 2, 1]])
    truth = true_repetition(logits, counts, 2.0)
    expect_equal(ex.apply_repetition_penalty(logits, counts, 2.0), truth, what=PENALIZED)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_the_repetition_penalty_does_not_ask_how_often(ex, penalty, lead):
    """one occurrence counts like many; a penalty of 1 changes nothing"""
    logits, counts = draw(*lead, V), some_counts(*lead, V)
    truth = true_repetition(logits, counts, penalty)
    expect_equal(ex.apply_repetition_penalty(logits, counts, penalty), truth, what=PENALIZED)


def true_frequency(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    target = torch.promote_types(logits.dtype, torch.float32)
    return torch.from_numpy(logits.double().numpy() - penalty * counts.numpy()).to(target)


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("penalty", [0.4, -0.5])
def test_the_frequency_penalty_is_subtracted_once_per_occurrence(ex, penalty, lead):
    """the frequency penalty is subtracted once per occurrence"""
    logits = torch.tensor([[3.0, -3.0, 1.0, -1.0]])
    counts = torch.tensor([[1, 2, 0, 3]])
    truth = true_frequency(logits, counts, 0.5)
    expect_equal(ex.apply_frequency_penalty(logits, counts, 0.5), truth, what=PENALIZED)
    logits, counts = draw(*lead, V), some_counts(*lead, V)
    truth = true_frequency(logits, counts, penalty)
    expect_equal(ex.apply_frequency_penalty(logits, counts, penalty), truth, what=PENALIZED)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_penalties_of_half_precision_come_back_as_float32(ex, dtype):
    """half precision comes back as float32, and -inf stays -inf"""
    logits = torch.tensor([[300.0, -300.0, -INF, 1.0]], dtype=dtype)
    counts = torch.tensor([[2, 1, 1, 0]])
    truth = true_repetition(logits, counts, 1.2)
    expect_equal(ex.apply_repetition_penalty(logits, counts, 1.2), truth, what=PENALIZED)
    truth = true_frequency(logits, counts, 0.3)
    expect_equal(ex.apply_frequency_penalty(logits, counts, 0.3), truth, what=PENALIZED)


# --- 7.10 ---

NEXT = "the logits (B, V)"


def causal_model(V: int = V, pads_matter: float = 1.0) -> Callable[[Tensor], Tensor]:
    """A small causal model: each position adds up what it has seen, and where."""
    table = draw(V, 4, dtype=torch.float64)
    table[0] += pads_matter
    places = draw(8, 4, dtype=torch.float64)
    head = draw(4, V, dtype=torch.float64)

    def model(tokens: Tensor) -> Tensor:
        if tokens.dtype != torch.int64:
            raise TypeError(f"the model takes tokens of dtype int64, not {tokens.dtype}")
        if tokens.dim() != 2:
            raise ValueError(f"the model takes tokens (B, T), not {tuple(tokens.shape)}")
        steps = torch.arange(1, tokens.size(1) + 1, dtype=torch.float64)[:, None]
        stood = table[tokens] * places[: tokens.size(1)]  # the order of the tokens counts
        seen = stood.cumsum(dim=1) / steps + 0.1 * steps  # (B, T, 4)
        return torch.sin(seen) @ head

    return model


def true_next(model: Callable[[Tensor], Tensor], prompts: list[list[int]]) -> Tensor:
    """One prompt at a time, without padding."""
    return torch.stack([model(torch.tensor([prompt]))[0, -1] for prompt in prompts])


def expect_next(ex: Any, prompts: list[list[int]]) -> None:
    """Compare with one prompt at a time; the answer has one call of the model for all."""
    untold, batches = causal_model(), []

    def model(tokens: Tensor) -> Tensor:
        batches.append(tokens)
        return untold(tokens)

    found = ex.next_token_logits(model, prompts)
    if len(prompts) > 1:
        expect(
            len(batches) == 1,
            f"{len(prompts)} prompts: the model is called {len(batches)} times; one call takes all "
            "of them in a batch",
        )
    expect_equal(found, true_next(untold, prompts), what=NEXT)


@pytest.mark.parametrize(
    "prompts",
    [
        [[1, 2], [3, 4, 5, 6]],
        [[1, 2, 3], [4], [5, 6]],
        [[5], [1, 1, 1, 0, 0], [2, 3]],
        [[1, 2, 3, 4], [4, 3]],
        [[2, 0, 0], [0]],
    ],
)
def test_each_prompt_is_continued_from_its_own_end(ex, prompts):
    """each prompt is continued from its own last token"""
    expect_next(ex, prompts)


@pytest.mark.parametrize("prompts", [[[3, 1, 2]], [[4]], [[1, 2], [3, 4], [5, 6]]])
def test_prompts_of_one_length_need_no_padding(ex, prompts):
    expect_next(ex, prompts)


# --- 7.11 ---

STOPPED = ("shown", "held_back", "finished")


def true_feed(held_back: str, piece: str, stop: str) -> tuple[str, str, bool]:
    """Try every way to cut the text in two, from the longest end."""
    text = held_back + piece
    for i in range(len(text)):
        if text[i : i + len(stop)] == stop:
            return text[:i], "", True
    for i in range(len(text) + 1):
        if stop.startswith(text[i:]):
            return text[:i], text[i:], False
    raise AssertionError("the empty end always fits")


@pytest.mark.parametrize(
    ("held_back", "piece", "stop"),
    [
        ("", "hello", "\n\n"),
        ("", "end\n", "\n\n"),
        ("\n", "\nmore", "\n\n"),
        ("\n", "more", "\n\n"),
        ("", "one END two END", "END"),
        ("EN", "D", "END"),
        ("EN", "E", "END"),
        ("EN", "EN", "END"),
        ("E", "", "END"),
        ("", "", "END"),
        ("", "aab", "aabaab"),
        ("aaba", "ab", "aabaab"),
        ("aab", "aaba", "aabaab"),
        ("a", "a", "ab"),
        ("", "x", "x"),
        ("", "y", "x"),
        ("", "axb", "x"),
        ("", ".", "..."),
        ("..", ".", "..."),
        ("", "aaa", "aaaa"),
        ("", "x\n\n\ny", "\n\n"),
        ("", "aaa", "aa"),
    ],
)
def test_what_can_be_shown_is_shown(ex, held_back, piece, stop):
    """shown as soon as possible, but nothing of the stop string"""
    truth = true_feed(held_back, piece, stop)
    expect_equal(ex.feed_stop(held_back, piece, stop), truth, what=STOPPED)


@pytest.mark.parametrize("stop", ["ab", "aab", "abab"])
def test_whatever_the_pieces_the_text_before_the_stop_string_is_shown(ex, stop):
    """piece by piece, the text before the stop string is shown"""
    for number in range(32):
        text = format(number, "05b").replace("0", "a").replace("1", "b") + "ba"
        held_back = ""
        for start in range(0, len(text), 1 + number % 3):
            piece = text[start : start + 1 + number % 3]
            truth = true_feed(held_back, piece, stop)
            found = ex.feed_stop(held_back, piece, stop)
            expect_equal(found, truth, what=STOPPED)
            held_back = truth[1]
            if truth[2]:
                break


# --- 7.12 ---

POSITIONS = "the positions (B, T)"
CACHE = "the cache (B, n_heads, max_len, d_head)"


@pytest.mark.parametrize(
    ("lengths", "n_new"),
    [([2, 0, 3], 2), ([5, 1], 1), ([4], 3), ([0, 0, 0], 4), ([7, 2, 2, 0], 3), ([1, 2, 3], 3)],
)
def test_each_row_continues_from_its_own_length(ex, lengths, n_new):
    """each row continues from its own length"""
    truth = torch.tensor([[length + t for t in range(n_new)] for length in lengths])
    given = torch.tensor(lengths)
    expect_equal(ex.cache_positions(given, n_new), truth, what=POSITIONS)


def true_write(cache: Tensor, new: Tensor, lengths: Tensor) -> Tensor:
    result = cache.clone()
    for row, length in enumerate(lengths.tolist()):
        for t in range(new.size(2)):
            result[row, :, length + t] = new[row, :, t]
    return result


@pytest.mark.parametrize(
    ("shape", "lengths", "n_new"),
    [
        ((2, 1, 4, 1), [2, 0], 1),
        ((3, 2, 8, 4), [2, 0, 3], 5),
        ((3, 2, 9, 4), [1, 5, 3], 3),
        ((3, 2, 9, 4), [8, 0, 4], 1),
        ((1, 2, 6, 3), [2], 4),
        ((3, 3, 7, 3), [4, 4, 4], 3),
        ((2, 2, 7, 5), [0, 3], 2),
    ],
)
def test_new_keys_go_to_their_places(ex, shape, lengths, n_new):
    """new keys go to their own places, and everything else stays"""
    n_rows, n_heads, _, d_head = shape
    cache = torch.zeros(shape) if shape[0] == 2 and shape[1] == 1 else draw(*shape)
    new = draw(n_rows, n_new, n_heads, d_head).transpose(1, 2)
    if shape[1] == 1:
        new = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
    given = torch.tensor(lengths)
    expect_equal(ex.write_cache(cache, new, given), true_write(cache, new, given), what=CACHE)


# --- 7.13 ---

START = "the first index of the window"


def whole(start: Any) -> str:
    """As text: a float is not an index."""
    return str(start.item() if isinstance(start, Tensor | np.generic) else start)


def true_start(length: int, context: int) -> int:
    start = 0
    while length - start > context:
        start += math.ceil(context / 2)
    return start


@pytest.mark.parametrize(
    ("length", "context"),
    [(5, 8), (8, 8), (9, 8), (12, 8), (13, 8), (1, 8), (100, 8), (8, 7), (11, 7), (6, 5), (3, 1)],
)
def test_the_window_jumps_by_half_a_context(ex, length, context):
    """the window jumps by half a context, as soon as the text doesn't fit"""
    expect_equal(
        ex.window_start(length, context), true_start(length, context), what=START, view=whole
    )


def test_the_window_of_every_length_fits(ex):
    for context in (1, 2, 5, 6):
        for length in range(1, 4 * context + 3):
            truth = true_start(length, context)
            expect_equal(ex.window_start(length, context), truth, what=START, view=whole)


# --- 7.14 ---

EXTENSIONS = ("log_probs (n,)", "parents (n,)", "tokens (n,)")


def true_extensions(
    log_probs: Tensor, next_log_probs: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of parent and token, sorted in plain Python."""
    sums = (log_probs.double()[:, None] + next_log_probs.double()).tolist()
    pairs = [(row, token) for row in range(len(sums)) for token in range(len(sums[0]))]
    best = sorted(pairs, key=lambda pair: (-sums[pair[0]][pair[1]], *pair))[:n]
    values = torch.tensor([sums[row][token] for row, token in best], dtype=torch.float64)
    parents, tokens = zip(*best, strict=True)
    return values.to(log_probs.dtype), torch.tensor(parents), torch.tensor(tokens)


def test_the_best_extensions_are_those_with_the_largest_sums(ex):
    """the n largest sums of all texts and tokens, the best first"""
    log_probs = torch.tensor([-1.0, -2.0])
    next_log_probs = torch.tensor([[-3.0, -1.0, -4.0], [-0.5, -0.25, -6.0]])
    truth = true_extensions(log_probs, next_log_probs, 3)
    expect_equal(ex.best_extensions(log_probs, next_log_probs, 3), truth, what=EXTENSIONS)
    for n_texts, n in ((3, 4), (4, 2), (1, 3), (7, 5)):
        log_probs, next_log_probs = draw(n_texts), draw(n_texts, V)
        truth = true_extensions(log_probs, next_log_probs, n)
        expect_equal(ex.best_extensions(log_probs, next_log_probs, n), truth, what=EXTENSIONS)


def test_equal_sums_go_by_parent_and_token_and_n_may_be_large(ex):
    """of equal sums the lower parent first, then the lower token; at most K V come back"""
    log_probs = torch.tensor([-1.0, 0.0, -1.0])
    next_log_probs = torch.tensor([[-1.0, -2.0], [-2.0, -2.0], [-1.0, -1.0]])
    for n in (3, 4, 6, 10):
        truth = true_extensions(log_probs, next_log_probs, n)
        expect_equal(ex.best_extensions(log_probs, next_log_probs, n), truth, what=EXTENSIONS)
    log_probs, next_log_probs = torch.zeros(3), torch.zeros(3, 40)
    truth = true_extensions(log_probs, next_log_probs, 50)
    expect_equal(ex.best_extensions(log_probs, next_log_probs, 50), truth, what=EXTENSIONS)


def table_model(
    n_tokens: int, rows: Tensor | None = None, scale: float = 1.0
) -> Callable[[list[list[int]]], Tensor]:
    """A model whose logits depend on the last two tokens and on the length."""
    table = scale * draw(n_tokens, n_tokens, 5, n_tokens) if rows is None else rows

    def next_logits(sequences: list[list[int]]) -> Tensor:
        found = [table[s[-2] if len(s) > 1 else 0, s[-1], len(s) % 5] for s in sequences]
        return torch.stack(found)

    return next_logits


def listed(found: Any) -> dict[str, str]:
    """Hypotheses as text, so that rounding doesn't matter; the order is part of it."""
    lines = found.split("; ") if isinstance(found, str) else [as_text(one) for one in found]
    return {f"number {i}": line for i, line in enumerate(lines, start=1)}


def as_text(one: Any) -> str:
    """One hypothesis. Raises TypeError where it holds tensors in place of numbers."""
    if any(isinstance(value, Tensor) for value in (one.log_prob, *one.tokens)):
        raise TypeError("tokens and log_prob are tensors; use int() and float(), or .item()")
    tokens = " ".join(str(int(token)) for token in one.tokens)
    return f"[{tokens}] {float(one.log_prob):.3f}{' ended' * bool(one.ended)}"


def true_beams(
    next_logits: Callable[[list[list[int]]], Tensor],
    prompt: list[int],
    n_beams: int,
    max_tokens: int,
    end: int | None = None,
    length_penalty: float = 1.0,
) -> str:
    """Beam search with every extension of every beam written out."""
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]

    def is_over(tokens: tuple[int, ...]) -> bool:
        return end is not None and tokens[-1:] == (end,)

    for _ in range(max_tokens):
        candidates = []
        for tokens, total in beams:
            if is_over(tokens):
                candidates.append((tokens, total))
                continue
            row = next_logits([[*prompt, *tokens]])[0].double().numpy()
            logs = np.log(softmax64(row))
            candidates += [((*tokens, v), total + float(logs[v])) for v in range(len(row))]
        candidates.sort(key=lambda one: -one[1] / len(one[0]) ** length_penalty)
        beams = candidates[:n_beams]
    lines = [
        f"[{' '.join(map(str, tokens))}] {total:.3f}{' ended' * is_over(tokens)}"
        for tokens, total in beams
    ]
    return "; ".join(lines)


def has(end: int) -> Callable[[Sequence[int]], bool]:
    """The text ends with this token; the name is what a message shows."""

    def has_ended(tokens: Sequence[int]) -> bool:
        return end in tokens

    has_ended.__name__ = f"has_token_{end}"
    return has_ended


HYPOTHESES = "the hypotheses"


def trap_model() -> Callable[[list[list[int]]], Tensor]:
    """Token 0 looks best, but what follows token 1 is certain."""
    rows = torch.zeros(3, 3, 5, 3)
    rows[:] = torch.tensor([0.5, 0.4, 0.1]).log()
    rows[:, 1] = torch.tensor([0.01, 0.04, 0.95]).log()
    return table_model(3, rows)


def test_the_search_finds_what_greedy_decoding_misses(ex):
    """two beams find a more probable text than greedy decoding"""
    model = trap_model()
    for n_beams in (2, 1, 3):
        truth = true_beams(model, [0], n_beams, 2)
        expect_equal(ex.beam_search(model, [0], n_beams, 2), truth, what=HYPOTHESES, view=listed)


@pytest.mark.parametrize(
    ("n_beams", "max_tokens"), [(1, 4), (3, 4), (4, 3), (9, 2), (30, 3), (2, 1)]
)
def test_the_beams_are_the_best_of_all_extensions(ex, n_beams, max_tokens):
    model = table_model(4)
    truth = true_beams(model, [2, 1, 3], n_beams, max_tokens)
    found = ex.beam_search(model, [2, 1, 3], n_beams, max_tokens)
    expect_equal(found, truth, what=HYPOTHESES, view=listed)


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 0.5])
@pytest.mark.parametrize("n_beams", [1, 2, 4])
def test_ended_hypotheses_compete_as_they_are(ex, n_beams, length_penalty):
    """a hypothesis that has ended stays as it is, and competes by its normalized length"""
    model = table_model(4, scale=0.4)
    for prompt in ([1], [3, 2, 0, 1, 2, 3]):
        truth = true_beams(model, prompt, n_beams, 5, 0, length_penalty)
        found = ex.beam_search(model, prompt, n_beams, 5, has(0), length_penalty)
        expect_equal(found, truth, what=HYPOTHESES, view=listed)


def overtaken_model() -> Callable[[list[list[int]]], Tensor]:
    """Token 0 can end a text at once, but two longer texts become more probable."""
    rows = torch.zeros(3, 3, 5, 3)
    rows[:] = torch.tensor([0.02, 0.51, 0.47]).log()
    rows[:, :, 1] = torch.tensor([0.1, 0.5, 0.4]).log()
    return table_model(3, rows)


@pytest.mark.parametrize(("n_beams", "max_tokens"), [(3, 2), (3, 3), (4, 3)])
def test_an_ended_hypothesis_can_be_overtaken(ex, n_beams, max_tokens):
    """an ended hypothesis loses its place when n_beams others are better"""
    model = overtaken_model()
    truth = true_beams(model, [1], n_beams, max_tokens, 0)
    found = ex.beam_search(model, [1], n_beams, max_tokens, has(0))
    expect_equal(found, truth, what=HYPOTHESES, view=listed)


def test_the_mean_per_token_is_the_default_order(ex):
    """the default length penalty is 1"""
    model = table_model(4, scale=0.4)
    for prompt in ([1], [3, 2], [0], [2]):
        truth = true_beams(model, prompt, 3, 4, 0, 1.0)
        found = ex.beam_search(model, prompt, 3, 4, has(0))
        expect_equal(found, truth, what=HYPOTHESES, view=listed)


def test_without_steps_there_is_one_empty_hypothesis(ex):
    model = table_model(4)
    found = ex.beam_search(model, [1], 2, 0)
    expect_equal(found, "[] 0.000", what=HYPOTHESES, view=listed)


# --- 7.15 ---

RESIDUAL = "the residual distribution (..., V)"
ACCEPTED = ("how many were accepted", "the next distribution (V,)")


def distributions(*shape: int) -> Tensor:
    return torch.softmax(draw(*shape, dtype=torch.float64), dim=-1)


def true_residual(p: Tensor, q: Tensor) -> Tensor:
    """Row by row."""
    result = []
    for ours, theirs in zip(rows_of(p), rows_of(q), strict=True):
        left = np.maximum(ours - theirs, 0)
        result.append(left / left.sum() if left.sum() > 0 else ours)
    return torch.from_numpy(np.array(result)).reshape(p.shape).to(p.dtype)


@pytest.mark.parametrize("lead", LEADS)
def test_the_residual_is_where_p_is_above_q(ex, lead):
    """what p has more than q, made to sum to 1"""
    p = torch.tensor([[0.5, 0.3, 0.2]])
    q = torch.tensor([[0.2, 0.7, 0.1]])
    expect_equal(ex.residual_distribution(p, q), true_residual(p, q), what=RESIDUAL)
    p, q = distributions(*lead, V), distributions(*lead, V)
    expect_equal(ex.residual_distribution(p, q), true_residual(p, q), what=RESIDUAL)


def test_where_p_is_nowhere_above_q_the_residual_is_p(ex):
    """p = q leaves nothing: the residual is p itself, and not nan"""
    p = distributions(3, V)
    q = p.clone()
    q[1] = distributions(V)
    expect_equal(ex.residual_distribution(p, q), true_residual(p, q), what=RESIDUAL)


def test_a_small_difference_is_left_as_well(ex):
    """a small difference is made to sum to 1 like a large one"""
    p = torch.tensor([[0.502, 0.298, 0.2], [0.25, 0.25, 0.5]], dtype=torch.float64)
    q = torch.tensor([[0.5, 0.3, 0.2], [0.2501, 0.2499, 0.5]], dtype=torch.float64)
    expect_equal(ex.residual_distribution(p, q), true_residual(p, q), what=RESIDUAL)


def true_accept(drafted: Tensor, q: Tensor, p: Tensor, uniform: Tensor) -> tuple[int, Tensor]:
    for i, x in enumerate(drafted.tolist()):
        if uniform[i].item() >= p[i, x].item() / q[i, x].item():
            return i, true_residual(p[i : i + 1], q[i : i + 1])[0]
    return len(drafted), p[len(drafted)]


def test_a_token_is_accepted_if_u_is_below_the_ratio(ex):
    """a drafted token is accepted if u is below p / q"""
    q = torch.tensor([[0.8, 0.2]])
    p = torch.tensor([[0.4, 0.6], [0.3, 0.7]])
    for x, u in ((0, 0.8), (0, 0.4), (0, 0.6), (1, 0.9), (0, 0.45), (1, 0.3)):
        given = torch.tensor([x]), q, p, torch.tensor([u])
        expect_equal(ex.accept_drafted(*given), true_accept(*given), what=ACCEPTED)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_first_rejection_ends_the_round(ex, n):
    """all tokens after the first rejected one are dropped"""
    q = torch.tensor([[0.6, 0.4]]).repeat(3, 1)
    p = torch.tensor([[0.45, 0.55]]).repeat(4, 1)
    for u in ([0.1, 0.95, 0.96], [0.3, 0.95, 0.2], [0.2, 0.3, 0.8], [0.8, 0.1, 0.1]):
        given = torch.tensor([0, 0, 0]), q, p, torch.tensor(u)
        expect_equal(ex.accept_drafted(*given), true_accept(*given), what=ACCEPTED)
    for _ in range(5):
        q, p = distributions(n, V), distributions(n + 1, V)
        drafted = torch.multinomial(q, 1)[:, 0]
        given = drafted, q, p, torch.rand(n)
        expect_equal(ex.accept_drafted(*given), true_accept(*given), what=ACCEPTED)


def test_a_draft_that_agrees_is_accepted_whole(ex):
    """where p = q everything is accepted, and one more token comes from the last row of p"""
    p = distributions(4, V)
    drafted = torch.multinomial(p[:3], 1)[:, 0]
    given = drafted, p[:3].clone(), p, torch.tensor([0.999, 0.5, 0.0])
    expect_equal(ex.accept_drafted(*given), true_accept(*given), what=ACCEPTED)


def test_a_token_that_p_excludes_is_rejected_even_for_u_0(ex):
    """a token with p = 0 is rejected, even for u = 0"""
    q = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    p = torch.tensor([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])
    for u in (0.0, 0.3):
        given = torch.tensor([1, 0]), q, p, torch.tensor([0.2, u])
        expect_equal(ex.accept_drafted(*given), true_accept(*given), what=ACCEPTED)
