"""relation.py: what relates two results is found, and nothing is claimed where nothing holds."""

import math

import pytest
import torch
from torch import Tensor

from utils.grader.relation import of_numbers, relation

X = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.25, 0.35, 0.4]])
TRIANGLE = torch.ones(4, 4, dtype=torch.bool).tril()


def changed(row: int, column: int, value: float) -> Tensor:
    y = X.clone()
    y[row, column] = value
    return y


@pytest.mark.parametrize(
    ("ours", "truth", "said"),
    [
        (~TRIANGLE, TRIANGLE, "True and False are exchanged"),
        (TRIANGLE.T, TRIANGLE, "yours is the expected result transposed"),
        (TRIANGLE.flip(0), TRIANGLE, "the rows are right, but in reverse order"),
        (TRIANGLE.tril(-1), TRIANGLE, "only the diagonal differs"),
        (
            torch.ones(4, 4).bool(),
            TRIANGLE,
            "all differences are above the diagonal, in the future",
        ),
        (X.T, X, "yours is the expected result transposed"),
        (X.flip(-1), X, "each row is right, but in reverse order"),
        (X[[1, 0, 2]], X, "the values are right, but in another order"),
        (X * 4, X, "every value is 4 times the expected one"),
        (X + 1, X, "every value is the expected one plus 1"),
        (changed(1, 2, float("nan")), X, "1 of your 9 values is nan"),
        (changed(1, 2, 5.0), X, "one of your rows sums to 5.8; it should sum to 1"),
        (
            torch.tensor([1.0, -1e4, 2.0, -1e4]),
            torch.tensor([1.0, -math.inf, 2.0, -math.inf]),
            "everything is right, but -1e+04 in place of -inf",
        ),
        (X.softmax(0), X, "your columns sum to 1; the rows should"),
    ],
)
def test_the_relation_is_named(ours: Tensor, truth: Tensor, said: str) -> None:
    assert relation(ours, truth, "the weights (T_q, T_k)") == said


def test_sums_count_for_weights_only() -> None:
    assert relation(changed(1, 2, 5.0), X, "the output") == "only row 1 differs"


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_claimed_where_nothing_holds(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours, truth = (torch.randn(3, 5, 7, generator=generator) for _ in range(2))
    assert relation(ours, truth, "the output") == ""


@pytest.mark.parametrize(
    ("ours", "truth", "said"),
    [
        (600, 300, "that is twice the expected number"),
        (9, 36, "that is 1/4 times the expected number"),
        (300, 300, ""),
        (0, 5, ""),
        (5, 0, ""),
        (1013, 997, ""),
    ],
)
def test_a_simple_factor_between_numbers(ours: float, truth: float, said: str) -> None:
    assert of_numbers(ours, truth) == said


@pytest.mark.parametrize(("ours", "truth"), [(math.nan, 1.0), (1.0, math.inf), (math.inf, 2.0)])
def test_numbers_that_are_not_finite_have_no_relation(ours: float, truth: float) -> None:
    assert of_numbers(ours, truth) == ""


@pytest.mark.parametrize(("ours", "truth"), [(1.0, 1e-12), (1e-12, 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_numbers_that_are_almost_zero_have_no_relation(ours: float, truth: float) -> None:
    assert of_numbers(ours, truth) == ""
