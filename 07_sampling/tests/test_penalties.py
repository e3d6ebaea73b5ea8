"""penalties.py: the formulas, token by token in NumPy, and whose tokens are counted."""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from penalties import (
    TokenCounts,
    apply_frequency_penalty,
    apply_presence_penalty,
    apply_repetition_penalty,
    token_counts,
)
from utils.errors import UsageError

Penalty = Callable[[Tensor, Tensor, float], Tensor]
ALL = pytest.mark.parametrize(
    "apply", [apply_repetition_penalty, apply_presence_penalty, apply_frequency_penalty]
)
V = 9


def penalized(apply: Penalty, logit: float, count: int, penalty: float) -> float:
    """One logit, by the definition."""
    if count == 0:
        return logit
    if apply is apply_repetition_penalty:
        return logit / penalty if logit > 0 else logit * penalty
    times = count if apply is apply_frequency_penalty else 1
    return logit - penalty * times


@ALL
@pytest.mark.parametrize("penalty", [0.3, 1.0, 1.7, 50.0])
def test_each_logit_is_changed_as_its_definition_says(apply: Penalty, penalty: float) -> None:
    logits = torch.randn(4, V, dtype=torch.float64) * 3
    counts = torch.randint(4, (4, V))
    expected = [
        [penalized(apply, logits[b, v].item(), int(counts[b, v]), penalty) for v in range(V)]
        for b in range(4)
    ]
    np.testing.assert_allclose(apply(logits, counts, penalty).numpy(), expected, rtol=1e-15)


@ALL
def test_a_token_that_has_occurred_becomes_less_probable_and_the_others_more(
    apply: Penalty,
) -> None:
    logits = torch.randn(V)
    counts = torch.tensor([0, 1, 0, 2, 0, 0, 5, 0, 1])
    before, after = logits.softmax(-1), apply(logits, counts, 1.5).softmax(-1)
    assert (after[counts > 0] < before[counts > 0]).all()
    assert (after[counts == 0] > before[counts == 0]).all()


@ALL
def test_the_neutral_penalty_changes_nothing(apply: Penalty) -> None:
    logits, counts = torch.randn(3, V), torch.randint(3, (3, V))
    neutral = 1.0 if apply is apply_repetition_penalty else 0.0
    assert torch.equal(apply(logits, counts, neutral), logits)


@ALL
def test_where_nothing_has_occurred_nothing_changes(apply: Penalty) -> None:
    logits = torch.randn(3, V)
    assert torch.equal(apply(logits, torch.zeros(3, V, dtype=torch.long), 1.7), logits)


@pytest.mark.parametrize("apply", [apply_repetition_penalty, apply_presence_penalty])
def test_how_often_a_token_occurred_makes_no_difference(apply: Penalty) -> None:
    logits, counts = torch.randn(3, V), torch.randint(4, (3, V))
    assert torch.equal(apply(logits, counts, 1.7), apply(logits, counts.clamp(max=1), 1.7))


def test_a_logit_of_zero_stays_zero_under_the_repetition_penalty() -> None:
    assert apply_repetition_penalty(torch.zeros(1), torch.ones(1), 3.0).tolist() == [0.0]


@ALL
def test_a_logit_of_minus_infinity_stays_minus_infinity(apply: Penalty) -> None:
    logits = torch.tensor([-math.inf, -math.inf, 1.0])
    for penalty in (0.5, 2.0):
        changed = apply(logits, torch.tensor([3, 0, 1]), penalty)
        assert changed[:2].tolist() == [-math.inf] * 2 and changed[2].isfinite()


@ALL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_and_returned_in_float32(
    apply: Penalty, dtype: torch.dtype
) -> None:
    logits, counts = torch.randn(3, V).to(dtype), torch.randint(3, (3, V))
    changed = apply(logits, counts, 1.3)
    assert changed.dtype == torch.float32
    assert torch.equal(changed, apply(logits.float(), counts, 1.3))
    assert apply(logits.double(), counts, 1.3).dtype == torch.float64


@ALL
def test_inputs_are_not_modified(apply: Penalty) -> None:
    logits, counts = torch.randn(3, V), torch.randint(3, (3, V))
    before = logits.clone(), counts.clone()
    apply(logits, counts, 1.7)
    assert torch.equal(logits, before[0]) and torch.equal(counts, before[1])


@ALL
def test_any_leading_axes_are_rows(apply: Penalty) -> None:
    logits, counts = torch.randn(2, 3, V), torch.randint(3, (2, 3, V))
    rows = zip(logits.view(6, V), counts.view(6, V), strict=True)
    alone = torch.stack([apply(row, of_row, 1.7) for row, of_row in rows])
    assert torch.equal(apply(logits, counts, 1.7), alone.view(2, 3, V))


@pytest.mark.parametrize("penalty", [0, -1.5, math.nan, math.inf])
def test_a_repetition_penalty_out_of_range_is_refused_by_value(penalty: float) -> None:
    with pytest.raises(UsageError, match=f"repetition penalty {penalty} is out of range"):
        apply_repetition_penalty(torch.zeros(3), torch.ones(3), penalty)


@pytest.mark.parametrize("name", ["presence", "frequency"])
@pytest.mark.parametrize("penalty", [math.nan, math.inf, -math.inf])
def test_a_penalty_that_is_not_finite_is_refused_by_value(name: str, penalty: float) -> None:
    apply = {"presence": apply_presence_penalty, "frequency": apply_frequency_penalty}[name]
    with pytest.raises(UsageError, match=f"{name} penalty {penalty} is out of range"):
        apply(torch.zeros(3), torch.ones(3), penalty)


# --- counting -----------------------------------------------------------------------------------


def test_tokens_are_counted_row_by_row() -> None:
    sequences = [[1, 3, 3, 8], [], [0] * 20, [2, 1, 2, 1, 2]]
    counts = token_counts(sequences, V)
    assert counts.dtype == torch.int64 and counts.shape == (4, V)
    for row, sequence in zip(counts.tolist(), sequences, strict=True):
        assert {v: n for v, n in enumerate(row) if n > 0} == Counter(sequence)


def test_no_sequences_give_no_rows() -> None:
    assert token_counts([], V).shape == (0, V)


def test_new_tokens_are_counted_apart_from_the_prompts() -> None:
    counts = TokenCounts.of_prompts([[1, 1], [2]], V)
    for tokens in ([1, 4], [1, 4], [0, 5]):
        counts.add_(torch.tensor(tokens))
    assert torch.equal(counts.prompt, token_counts([[1, 1], [2]], V))
    assert torch.equal(counts.new, token_counts([[1, 1, 0], [4, 4, 5]], V))
