"""Activations and feed-forward networks against PyTorch's own functions, gradients included."""

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


def random_(layer: nn.Module) -> nn.Module:
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
def test_activations_and_their_slopes_are_those_of_pytorch(activation):
    x = torch.linspace(-40, 40, 2001, dtype=torch.float64, requires_grad=True)
    assert_same_with_gradients(activation(x), TRUTH[activation](x), [x])


@pytest.mark.parametrize("activation", TRUTH)
def test_activations_stay_finite_at_the_ends_of_float32(activation):
    x = torch.tensor([-1e18, 1e18], requires_grad=True)
    y = activation(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("name", "activation"), [("gelu", gelu), ("relu2", relu_squared)])
def test_feed_forward_is_up_bend_down(name, activation, bias):
    layer = random_(FeedForward(D_MODEL, D_FF, name, bias))
    x = torch.randn(3, 5, D_MODEL, dtype=torch.float64, requires_grad=True)
    weights = dict(layer.named_parameters())
    assert weights["up_proj.weight"].shape == (D_FF, D_MODEL)
    hidden = F.linear(x, weights["up_proj.weight"], weights.get("up_proj.bias"))
    bent = TRUTH[activation](hidden)
    theirs = F.linear(bent, weights["down_proj.weight"], weights.get("down_proj.bias"))
    assert_same_with_gradients(layer(x), theirs, [x, *weights.values()])


@pytest.mark.parametrize("bias", [True, False])
def test_swiglu_is_a_gate_times_what_goes_up(bias):
    layer = random_(SwiGLU(D_MODEL, D_FF, bias))
    x = torch.randn(3, 5, D_MODEL, dtype=torch.float64, requires_grad=True)
    weights = dict(layer.named_parameters())
    gate = F.linear(x, weights["gate_proj.weight"], weights.get("gate_proj.bias"))
    up = F.linear(x, weights["up_proj.weight"], weights.get("up_proj.bias"))
    product = F.silu(gate) * up
    theirs = F.linear(product, weights["down_proj.weight"], weights.get("down_proj.bias"))
    assert_same_with_gradients(layer(x), theirs, [x, *weights.values()])


@pytest.mark.parametrize("bias", [True, False])
def test_bias_is_what_was_asked_for(bias):
    for layer in (FeedForward(D_MODEL, D_FF, bias=bias), SwiGLU(D_MODEL, D_FF, bias)):
        assert any("bias" in name for name, _ in layer.named_parameters()) == bias


def test_swiglu_of_eight_thirds_costs_as_much_as_a_feed_forward_of_four():
    def size(layer: nn.Module) -> int:
        return sum(p.numel() for p in layer.parameters())

    assert size(SwiGLU(6, 6 * 8 // 3, bias=False)) == size(FeedForward(6, 4 * 6, bias=False))


def test_an_unknown_activation_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match=r"unknown activation 'gelo'.*did you mean 'gelu'"):
        FeedForward(D_MODEL, D_FF, "gelo")


@pytest.mark.parametrize("layer", [FeedForward(D_MODEL, D_FF), SwiGLU(D_MODEL, D_FF)])
def test_an_input_of_another_width_is_refused(layer):
    with pytest.raises(ShapeError, match="d_model is 7, not 6"):
        layer(torch.randn(3, 5, 7))
