"""Activations and feed-forward networks, with gradients, against PyTorch's functions."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feedforward import FeedForward, SwiGLU, gelu, relu_squared, silu
from utils.errors import UsageError
from utils.shape_checker import ShapeError

D_MODEL, D_FF = 6, 10

TRUTH: dict[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = {
    gelu: F.gelu,
    relu_squared: lambda x: F.relu(x) ** 2,
    silu: F.silu,
}


def randomize_(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.double()


def assert_same_with_gradients(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    weight = torch.randn_like(ours)
    our_gradients = torch.autograd.grad((ours * weight).sum(), inputs)
    their_gradients = torch.autograd.grad((theirs * weight).sum(), inputs)
    torch.testing.assert_close(our_gradients, their_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", TRUTH)
def test_activations_and_their_gradients_equal_pytorch(activation):
    x = torch.linspace(-40, 40, 2001, dtype=torch.float64, requires_grad=True)
    assert_same_with_gradients(activation(x), TRUTH[activation](x), [x])


@pytest.mark.parametrize("activation", TRUTH)
def test_activations_and_gradients_are_finite_for_huge_inputs(activation):
    x = torch.tensor([-1e18, 1e18], requires_grad=True)
    y = activation(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("name", "activation"), [("gelu", gelu), ("relu2", relu_squared)])
def test_feed_forward_is_up_activation_down(name, activation, bias):
    layer = randomize_(FeedForward(D_MODEL, D_FF, name, bias))
    x = torch.randn(3, 5, D_MODEL, dtype=torch.float64, requires_grad=True)
    weights = dict(layer.named_parameters())
    assert weights["up_proj.weight"].shape == (D_FF, D_MODEL)
    hidden = F.linear(x, weights["up_proj.weight"], weights.get("up_proj.bias"))
    activated = TRUTH[activation](hidden)
    theirs = F.linear(activated, weights["down_proj.weight"], weights.get("down_proj.bias"))
    assert_same_with_gradients(layer(x), theirs, [x, *weights.values()])


@pytest.mark.parametrize("bias", [True, False])
def test_swiglu_is_gate_times_up_projection(bias):
    layer = randomize_(SwiGLU(D_MODEL, D_FF, bias))
    x = torch.randn(3, 5, D_MODEL, dtype=torch.float64, requires_grad=True)
    weights = dict(layer.named_parameters())
    gate = F.linear(x, weights["gate_proj.weight"], weights.get("gate_proj.bias"))
    up = F.linear(x, weights["up_proj.weight"], weights.get("up_proj.bias"))
    product = F.silu(gate) * up
    theirs = F.linear(product, weights["down_proj.weight"], weights.get("down_proj.bias"))
    assert_same_with_gradients(layer(x), theirs, [x, *weights.values()])


@pytest.mark.parametrize("bias", [True, False])
def test_the_bias_option_is_respected(bias):
    for layer in (FeedForward(D_MODEL, D_FF, bias=bias), SwiGLU(D_MODEL, D_FF, bias)):
        assert any("bias" in name for name, _ in layer.named_parameters()) == bias


def test_swiglu_at_eight_thirds_has_as_many_weights_as_feed_forward_at_four():
    def size(layer: nn.Module) -> int:
        return sum(p.numel() for p in layer.parameters())

    assert size(SwiGLU(6, 6 * 8 // 3, bias=False)) == size(FeedForward(6, 4 * 6, bias=False))


def test_an_unknown_activation_is_rejected_with_a_suggestion():
    with pytest.raises(UsageError, match=r"unknown activation 'gelo'.*did you mean 'gelu'"):
        FeedForward(D_MODEL, D_FF, "gelo")


@pytest.mark.parametrize("layer", [FeedForward(D_MODEL, D_FF), SwiGLU(D_MODEL, D_FF)])
def test_an_input_of_the_wrong_width_is_rejected(layer):
    with pytest.raises(ShapeError, match="d_model is 7, not 6"):
        layer(torch.randn(3, 5, 7))
