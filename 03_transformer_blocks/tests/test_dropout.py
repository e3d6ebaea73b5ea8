"""Dropout keeps the right share, keeps the mean, and draws from PyTorch's generator alone."""

import math

import pytest
import torch
from torch import nn

from dropout import Dropout, dropout_factors, random_levels

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
def test_a_share_p_is_zeroed_and_the_rest_is_divided_by_1_minus_p(p):
    torch.manual_seed(0)
    n = 200_000
    y = Dropout(p)(torch.full((n,), 3.0))
    standard_error = math.sqrt(p * (1 - p) / n)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=5 * standard_error)
    torch.testing.assert_close(
        y[y != 0], torch.full_like(y[y != 0], 3 / (1 - p)), rtol=1e-4, atol=0
    )


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = (dropout_factors(torch.empty(400_000), 0.5) > 0).double()
    for distance in (1, 2, 3, 4, 8):  # four numbers come from one draw
        both = (kept[:-distance] * kept[distance:]).mean().item()
        assert both == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / 400_000))


def test_every_level_is_equally_likely():
    torch.manual_seed(0)
    counts = torch.bincount(random_levels(1_000_000).long().add(1 << 15) >> 8, minlength=256)
    expected = 1_000_000 / 256
    chi_squared = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_squared < 255 + 5 * math.sqrt(2 * 255)  # mean plus five standard deviations


def test_evaluation_and_p_0_return_the_input_and_draw_nothing():
    x = torch.randn(4, 5)
    state = torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_stays_and_a_seed_gives_the_same_mask(dtype):
    x = torch.randn(3, 7, 5).to(dtype)
    torch.manual_seed(1)
    first = Dropout(0.4)(x)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.4)(x), first)
    assert first.dtype == dtype
    assert not torch.equal(Dropout(0.4)(x), first)


def test_the_gradient_has_the_same_zeros_and_factors():
    torch.manual_seed(0)
    x = torch.randn(50, 7, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0, 4), (2, 3, 5)])
def test_any_shape(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_the_ends_of_p():
    x = torch.ones(1000)
    assert not Dropout(1.0)(x).any()
    assert torch.equal(dropout_factors(x, 1e-9), x)  # rounds to 0: nothing dropped, nothing scaled


def test_a_module_that_takes_the_place_of_pytorchs():
    ours, theirs = Dropout(0.2), nn.Dropout(0.2)
    assert isinstance(ours, nn.Dropout)
    assert repr(ours) == repr(theirs)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)
