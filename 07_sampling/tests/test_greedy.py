"""greedy.py: the id of the largest logit, deterministically."""

import math

import numpy as np
import pytest
import torch

from greedy import check_logits, greedy
from utils.errors import CourseError


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_greedy_agrees_with_numpy_for_every_shape_and_dtype(shape, dtype):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    chosen = greedy(logits)
    assert chosen.dtype == torch.int64
    np.testing.assert_array_equal(chosen.numpy(), logits.double().numpy().argmax(-1))


def test_the_lowest_id_wins_a_tie():
    assert greedy(torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])).tolist() == [1, 0]


def test_the_lowest_id_wins_a_tie_in_a_large_vocabulary():
    logits = torch.zeros(2, 50_000)
    logits[:, 20_001::7] = 1.0
    assert greedy(logits).tolist() == [20_001, 20_001]


def test_an_id_at_minus_infinity_is_not_chosen():
    assert greedy(torch.tensor([-math.inf, -5.0, -math.inf])).item() == 1


def test_the_choice_is_equivariant_to_a_permutation_of_the_ids():
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    assert torch.equal(order[greedy(logits[:, order])], greedy(logits))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_with_nan_or_infinity_is_named(bad):
    logits = torch.zeros(2, 3, 4)
    logits[1, 2, 0] = bad
    with pytest.raises(CourseError, match=f"in row 1, 2 is {bad}"):
        greedy(logits)


def test_a_row_of_minus_infinity_is_refused():
    with pytest.raises(CourseError, match="is -inf; choosing a token needs"):
        check_logits(torch.full((4,), -math.inf))


def test_valid_rows_pass_the_check():
    check_logits(torch.tensor([[0.0, -math.inf], [-1e30, 1e30]]))
