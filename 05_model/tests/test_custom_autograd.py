"""custom_autograd.py: values and gradients are autograd's, and inputs are not modified."""

import pytest
import torch
from torch import Tensor

from custom_autograd import (
    NormalizeAndRotateFunction,
    ReLUSquaredFunction,
    RMSNormFunction,
    inverse_rms,
)
from layer_norm import rms_normalize
from positional_embeddings import apply_rotary, rotary_angles

B, H, T, D = 3, 2, 5, 8
EPS = 1e-5
DTYPES = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x that requires a gradient, a weight for its norm, and cosines and sines of all positions."""
    x = (2 * torch.randn(B, H, T, D)).to(dtype).requires_grad_()
    weight = torch.randn(D, dtype=torch.promote_types(dtype, torch.float32)).requires_grad_()
    cos, sin = rotary_angles(torch.arange(T), D)
    return x, weight, cos.to(weight.dtype), sin.to(weight.dtype)


def both(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Our output, the reference's output, and the tensors to differentiate by."""
    x, weight, cos, sin = inputs(dtype)
    if name == "RMSNorm":
        expected = (rms_normalize(x.to(weight.dtype)) * weight).to(dtype)
        return RMSNormFunction.apply(x, weight, EPS, dtype), expected, [x, weight]  # type: ignore[return-value]
    if name == "NormalizeAndRotate":
        ours = NormalizeAndRotateFunction.apply(x, cos, sin, EPS)
        expected = apply_rotary(rms_normalize(x.to(cos.dtype)), cos, sin).to(dtype)
        return ours, expected, [x]  # type: ignore[return-value]
    return ReLUSquaredFunction.apply(x), torch.relu(x).square(), [x]  # type: ignore[return-value]


@pytest.mark.parametrize(("dtype", "within"), DTYPES)
@pytest.mark.parametrize("name", ["RMSNorm", "NormalizeAndRotate", "ReLUSquared"])
def test_values_and_gradients_are_autograds(name, dtype, within):
    ours, expected, variables = both(name, dtype)
    assert ours.dtype == expected.dtype == dtype
    torch.testing.assert_close(ours, expected, rtol=within, atol=within)
    output_gradient = torch.randn(ours.shape).to(dtype)
    gradients = [
        torch.autograd.grad((y * output_gradient).sum(), variables) for y in (ours, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=within, atol=10 * within)


def test_gradients_agree_with_finite_differences():
    x, weight, cos, sin = inputs(torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, w: RMSNormFunction.apply(x, w, EPS, x.dtype), (x, weight)
    )
    assert torch.autograd.gradcheck(
        lambda x: NormalizeAndRotateFunction.apply(x, cos, sin, EPS), (x,)
    )
    assert torch.autograd.gradcheck(ReLUSquaredFunction.apply, (x,))


@pytest.mark.parametrize("name", ["RMSNorm", "NormalizeAndRotate", "ReLUSquared"])
def test_inputs_and_incoming_gradients_are_not_modified(name):
    ours, _, variables = both(name, torch.float32)
    gradient = torch.randn_like(ours)
    kept = [each.detach().clone() for each in (*variables, gradient)]
    torch.autograd.grad(ours, variables, gradient)
    for before, after in zip(kept, (*variables, gradient), strict=True):
        assert torch.equal(before, after)


def test_heads_may_be_views_of_one_tensor():
    together = torch.randn(B, T, 3, H, D, dtype=torch.float64, requires_grad=True)
    cos, sin = rotary_angles(torch.arange(T), D)
    q = together[:, :, 0].transpose(1, 2)
    ours, expected = (
        NormalizeAndRotateFunction.apply(q, cos, sin, EPS),
        apply_rotary(rms_normalize(q), cos, sin),
    )
    output_gradient = torch.randn_like(expected)
    gradients = [
        torch.autograd.grad((y * output_gradient).sum(), together) for y in (ours, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_a_single_token_without_leading_axes():
    x, weight = torch.randn(D, requires_grad=True), torch.randn(D, requires_grad=True)
    pair = RMSNormFunction.apply(x, weight, EPS, x.dtype), rms_normalize(x) * weight
    gradients = [torch.autograd.grad(y.square().sum(), (x, weight)) for y in pair]
    torch.testing.assert_close(*gradients)


def test_a_token_of_zeros_is_divided_by_the_square_root_of_eps():
    x = torch.zeros(1, 4, requires_grad=True)
    assert inverse_rms(x.detach(), 0.25).item() == 2.0
    (gradient,) = torch.autograd.grad(
        RMSNormFunction.apply(x, torch.ones(4), 0.25, x.dtype).sum(), x
    )
    assert gradient.tolist() == [[2.0] * 4]


def test_squares_of_bfloat16_are_summed_in_float32():
    x = torch.full((1, 4096), 1.0, dtype=torch.bfloat16)
    x[0, 0] = 64.0  # in bfloat16, 4096 + 1 is 4096
    assert inverse_rms(x, 0.0).item() == pytest.approx((8191 / 4096) ** -0.5, rel=1e-6)
