"""Routing, the balance loss and the layer, against loops over tokens and experts."""

import math

import pytest
import torch
from torch import Tensor

from feedforward import FeedForward
from layer_norm import LayerNorm
from mixture_of_experts import MixtureOfExperts, load_balance_loss, route
from multi_head import MultiHeadAttention
from transformer_block import TransformerBlock
from utils.errors import UsageError
from utils.shape_checker import ShapeError

B, T, D_MODEL, D_FF, N_EXPERTS = 3, 5, 6, 10, 7


def scores(*lead: int) -> Tensor:
    """Random scores with standard deviation 2, in float64."""
    return 2 * torch.randn(*lead, N_EXPERTS, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, N_EXPERTS])
@pytest.mark.parametrize("lead", [(), (T,), (B, T)])
def test_k_gates_are_above_0_and_share_1_by_their_exponentials(lead, k):
    logits = scores(*lead)
    gates = route(logits, k)
    assert ((gates > 0).sum(-1) == k).all()
    torch.testing.assert_close(gates.sum(-1), torch.ones(lead, dtype=torch.float64))
    exps = logits.exp() * (gates > 0)
    torch.testing.assert_close(gates, exps / exps.sum(-1, keepdim=True))
    smallest = logits.masked_fill(gates == 0, math.inf).amin(-1)
    largest = logits.masked_fill(gates > 0, -math.inf).amax(-1)
    assert (smallest > largest).all()


def test_the_balance_loss_is_n_times_the_sum_of_share_times_probability():
    logits = scores(B, T)
    gates = route(logits, 2)
    share = (gates > 0).double().mean((0, 1)) / 2
    probability = torch.softmax(logits, -1).mean((0, 1))
    expected = N_EXPERTS * (share * probability).sum()
    torch.testing.assert_close(load_balance_loss(logits, gates), expected)


def test_a_step_against_the_balance_loss_makes_the_load_more_even():
    logits = (scores(200) + torch.linspace(0, 4, N_EXPERTS)).requires_grad_()
    before = load_balance_loss(logits, route(logits, 2))
    (gradient,) = torch.autograd.grad(before, logits)
    moved = (logits - 500 * gradient).detach()
    assert load_balance_loss(moved, route(moved, 2)) < before


@pytest.mark.parametrize("k", [1, 2, N_EXPERTS])
def test_the_layer_equals_a_loop_over_tokens(k):
    layer = MixtureOfExperts(D_MODEL, D_FF, N_EXPERTS, k).double()
    x = torch.randn(B, T, D_MODEL, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for b in range(B):
        for t in range(T):
            gates = route(layer.router(x[b, t]), k)
            for gate, expert in zip(gates, layer.experts, strict=True):
                expected[b, t] += gate * expert(x[b, t])
    torch.testing.assert_close(layer(x), expected)


def test_an_expert_computes_only_its_own_tokens():
    layer = MixtureOfExperts(D_MODEL, D_FF, N_EXPERTS, 2)
    seen: list[int] = []
    for expert in layer.experts:
        expert.register_forward_hook(lambda module, given, result: seen.append(len(given[0])))
    layer(torch.randn(B, T, D_MODEL))
    assert sum(seen) == 2 * B * T


def test_load_and_balance_loss_are_those_of_the_last_pass():
    layer = MixtureOfExperts(D_MODEL, D_FF, N_EXPERTS, 2)
    x = torch.randn(B, T, D_MODEL)
    layer(x)
    gates = route(layer.router(x), 2)
    torch.testing.assert_close(layer.balance_loss, load_balance_loss(layer.router(x), gates))
    torch.testing.assert_close(layer.load, (gates > 0).float().mean((0, 1)) / 2)
    torch.testing.assert_close(layer.load.sum(), torch.tensor(1.0))


def test_router_and_chosen_experts_get_gradients():
    layer = MixtureOfExperts(D_MODEL, D_FF, N_EXPERTS, 2)
    layer(torch.randn(B, T, D_MODEL)).square().sum().backward()
    assert layer.router.weight.grad is not None
    assert layer.router.weight.grad.any()
    for share, expert in zip(layer.load, layer.experts, strict=True):
        gradient = expert.get_parameter("up_proj.weight").grad
        assert (gradient is not None and bool(gradient.any())) == bool(share > 0)


def test_with_one_expert_it_is_a_feed_forward_network():
    layer, plain = MixtureOfExperts(D_MODEL, D_FF, 1, 1), FeedForward(D_MODEL, D_FF)
    plain.load_state_dict(layer.experts[0].state_dict())
    x = torch.randn(B, T, D_MODEL)
    torch.testing.assert_close(layer(x), plain(x))


def test_it_fits_into_a_block():
    experts = MixtureOfExperts(D_MODEL, D_FF, N_EXPERTS, 2)
    block = TransformerBlock(
        MultiHeadAttention(D_MODEL, 2), experts, LayerNorm(D_MODEL), LayerNorm(D_MODEL)
    )
    assert block(torch.randn(B, T, D_MODEL)).shape == (B, T, D_MODEL)


@pytest.mark.parametrize("k", [0, N_EXPERTS + 1])
def test_an_impossible_k_is_rejected(k):
    with pytest.raises(UsageError, match=rf"k is {k}; allowed: 1 to n_experts, {N_EXPERTS}"):
        MixtureOfExperts(D_MODEL, D_FF, N_EXPERTS, k)


def test_an_input_of_the_wrong_width_is_rejected():
    with pytest.raises(ShapeError, match="d_model is 5, not 6"):
        MixtureOfExperts(D_MODEL, D_FF, N_EXPERTS)(torch.randn(B, T, 5))
