"""Gradient clipping against PyTorch's own, and the check for values that are not finite."""

import math

import pytest
import torch
from torch import nn

from clipping import check_finite, clip_gradients_
from utils.errors import CourseError


def parameters_with_gradients(scale: float) -> list[nn.Parameter]:
    """Parameters of several shapes; the third has no gradient."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,), (2,), ())]
    for parameter in parameters[:2] + parameters[3:]:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return parameters


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("max_norm", [0.01, 1.0, 50.0])
def test_clipping_equals_pytorch(scale, max_norm):
    mine, theirs = parameters_with_gradients(scale), parameters_with_gradients(scale)
    norm = clip_gradients_(iter(mine), max_norm)
    expected = nn.utils.clip_grad_norm_(theirs, max_norm)
    assert norm == pytest.approx(expected.item(), rel=1e-6)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("max_norm", [0.0, 1e9])
def test_gradients_below_the_limit_or_without_a_limit_are_unchanged(max_norm):
    parameters = parameters_with_gradients(1e3)
    clip_gradients_(parameters, max_norm)
    for clipped, fresh in zip(parameters, parameters_with_gradients(1e3), strict=True):
        torch.testing.assert_close(clipped.grad, fresh.grad, rtol=0.0, atol=0.0)


def test_clipped_gradients_have_exactly_the_maximum_norm():
    parameters = parameters_with_gradients(1e3)
    clip_gradients_(parameters, 2.0)
    assert clip_gradients_(parameters, 0.0) == pytest.approx(2.0)


def test_zero_gradients_and_missing_gradients_have_norm_zero():
    zero = parameters_with_gradients(0.0)
    assert clip_gradients_(zero, 1.0) == 0.0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in zero)
    assert clip_gradients_([nn.Parameter(torch.ones(3))], 1.0) == 0.0
    assert clip_gradients_([], 1.0) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_or_norm_that_is_not_finite_is_refused_with_its_value_and_step(value):
    message = f"^step 7: the loss is {value}; the weights are unchanged. [^\n]*learning rate"
    with pytest.raises(CourseError, match=message):
        check_finite(7, loss=value, norm=1.0)
    with pytest.raises(CourseError, match=f"^step 7: the gradient norm is {value}; "):
        check_finite(7, loss=1.0, norm=value)
    check_finite(7, loss=1e30, norm=0.0)
