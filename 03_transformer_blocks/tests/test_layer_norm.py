"""Norms and their gradients against PyTorch, with random scales and shifts."""

import pytest
import torch
from torch import Tensor, nn

from layer_norm import LayerNorm, RMSNorm, rms_normalize
from utils.shape_checker import ShapeError

D_MODEL = 6
TOLERANCES = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


def randomize_(norm: nn.Module) -> nn.Module:
    """Replace the initial scales (ones) and shifts (zeros) by random values."""
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def off_centre(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random input with mean 5 and standard deviation 3, so that norms change it."""
    return (5 + 3 * torch.randn(shape, dtype=dtype)).requires_grad_()


def assert_same_with_gradients(ours: nn.Module, theirs: nn.Module, x: Tensor, within: float):
    """Same output, and same gradients for the input and every parameter."""
    assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()
    theirs.load_state_dict(ours.state_dict())
    weight = torch.randn_like(x)
    results = []
    for norm in (ours, theirs):
        y = norm(x)
        gradients = torch.autograd.grad((y * weight).sum(), [x, *norm.parameters()])
        results.append([y, *gradients])
    torch.testing.assert_close(results[0], results[1], rtol=within, atol=within)


@pytest.mark.parametrize("shape", [(D_MODEL,), (3, 5, D_MODEL), (3, 2, 5, D_MODEL)])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "within"), TOLERANCES)
def test_layer_norm_equals_pytorch(dtype, within, bias, eps, shape):
    ours = randomize_(LayerNorm(D_MODEL, bias, eps)).to(dtype)
    theirs = nn.LayerNorm(D_MODEL, eps=eps, bias=bias, dtype=dtype)
    assert_same_with_gradients(ours, theirs, off_centre(*shape, dtype=dtype), within)


@pytest.mark.parametrize("shape", [(D_MODEL,), (3, 5, D_MODEL), (3, 2, 5, D_MODEL)])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize(("dtype", "within"), TOLERANCES)
def test_rms_norm_equals_pytorch(dtype, within, eps, shape):
    ours = randomize_(RMSNorm(D_MODEL, eps)).to(dtype)
    theirs = nn.RMSNorm(D_MODEL, eps=eps, dtype=dtype)
    assert_same_with_gradients(ours, theirs, off_centre(*shape, dtype=dtype), within)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_a_new_norm_has_the_initial_values_of_pytorch(norm):
    x = off_centre(3, 5, D_MODEL) * 1e-3  # so small that epsilon matters
    ours = norm(D_MODEL).double()
    options = {} if norm is LayerNorm else {"eps": 1e-5}
    theirs = getattr(nn, norm.__name__)(D_MODEL, dtype=torch.float64, **options)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_tokens_do_not_affect_each_other(norm):
    layer = randomize_(norm(D_MODEL))
    x = torch.randn(3, 5, D_MODEL)
    changed = x.clone()
    changed[1, 2] += 1
    differs = (layer(x) != layer(changed)).any(-1)
    assert differs.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_equal_features_give_finite_outputs_and_gradients(norm, value):
    x = torch.full((2, D_MODEL), value, requires_grad=True)
    y = randomize_(norm(D_MODEL))(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_rms_normalize_gives_mean_square_1():
    y = rms_normalize(off_centre(3, 5, D_MODEL))
    expected = torch.ones(3, 5, dtype=torch.float64)
    torch.testing.assert_close(y.square().mean(-1), expected, rtol=1e-5, atol=0)


def test_rms_normalize_in_bfloat16_is_the_float32_result_rounded():
    x = off_centre(100, D_MODEL, dtype=torch.bfloat16)
    y = rms_normalize(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, rms_normalize(x.float()).bfloat16())


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_an_input_of_the_wrong_width_is_rejected(norm):
    with pytest.raises(ShapeError, match="d_model is 5, not 6"):
        norm(D_MODEL)(torch.randn(3, 5))
