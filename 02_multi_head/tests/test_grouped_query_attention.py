"""Grouped-query attention against PyTorch and against plain multi-head attention."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention import causal_mask, padding_mask
from grouped_query_attention import GroupedQueryAttention, grouped_attention, repeat_kv
from multi_head import MultiHeadAttention
from utils.errors import UsageError
from utils.shape_checker import ShapeError

B, T_q, T_k, N_HEADS, D_HEAD = 3, 5, 7, 6, 4
D_MODEL = N_HEADS * D_HEAD
KV_HEADS = [1, 2, 3, 6]


def random_layer(n_kv_heads: int, bias: bool = True) -> GroupedQueryAttention:
    """A float64 layer in which every weight and bias is random."""
    layer = GroupedQueryAttention(D_MODEL, N_HEADS, n_kv_heads, bias).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def equivalent_multi_head(layer: GroupedQueryAttention, bias: bool) -> MultiHeadAttention:
    """Multi-head attention with equal output: each key-value head is copied for its query heads."""
    multi_head = MultiHeadAttention(D_MODEL, N_HEADS, bias).double()
    state = dict(layer.state_dict())
    for name in state:
        if name.startswith(("k_proj", "v_proj")):
            heads = state[name].unflatten(0, (layer.n_kv_heads, D_HEAD))
            repeats = N_HEADS // layer.n_kv_heads
            state[name] = heads.repeat_interleave(repeats, dim=0).flatten(0, 1)
    multi_head.load_state_dict(state)
    return multi_head


@pytest.mark.parametrize("n_kv_heads", KV_HEADS)
def test_grouped_attention_and_its_gradients_equal_pytorch(n_kv_heads):
    shapes = (N_HEADS, T_q, D_HEAD), (n_kv_heads, T_k, D_HEAD), (n_kv_heads, T_k, 6)
    q, k, v = (torch.randn(B, *s, dtype=torch.float64, requires_grad=True) for s in shapes)
    mask = causal_mask(T_k)[-T_q:] & padding_mask(torch.tensor([7, 3, 5]), T_k)
    ours, weights = grouped_attention(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert weights.shape == (B, N_HEADS, T_q, T_k)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    weight = torch.randn_like(ours)
    our_gradients = torch.autograd.grad((ours * weight).sum(), (q, k, v))
    their_gradients = torch.autograd.grad((theirs * weight).sum(), (q, k, v))
    torch.testing.assert_close(our_gradients, their_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_kv_heads", KV_HEADS)
def test_the_layer_equals_multi_head_attention_with_copied_heads(n_kv_heads, bias):
    layer = random_layer(n_kv_heads, bias)
    x = torch.randn(B, T_q, D_MODEL, dtype=torch.float64)
    expected = equivalent_multi_head(layer, bias)(x, causal_mask(T_q))
    torch.testing.assert_close(layer(x, causal_mask(T_q)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_repeats", [1, 2, 3])
def test_the_copies_of_a_head_are_adjacent(n_repeats):
    x = torch.randn(B, 2, T_k, D_HEAD)
    assert torch.equal(repeat_kv(x, n_repeats), x.repeat_interleave(n_repeats, dim=1))


def test_attend_receives_unrepeated_key_value_heads():
    seen = []

    def attend(q, k, v, mask=None):
        seen.extend([q.size(1), k.size(1), v.size(1)])
        return q, None

    random_layer(n_kv_heads=2)(torch.randn(B, T_q, D_MODEL, dtype=torch.float64), attend=attend)
    assert seen == [N_HEADS, 2, 2]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((10, 3, 1), "d_model 10 is not divisible by n_heads 3"),
        ((12, 6, 4), "n_heads 6 is not divisible by n_kv_heads 4"),
        ((12, 6, 12), "n_heads 6 is not divisible by n_kv_heads 12"),
    ],
)
def test_indivisible_head_counts_are_rejected(sizes, message):
    with pytest.raises(UsageError, match=message):
        GroupedQueryAttention(*sizes)


def test_an_input_of_the_wrong_width_is_rejected():
    with pytest.raises(ShapeError, match="x has shape"):
        random_layer(2)(torch.randn(B, T_q, D_MODEL + 1, dtype=torch.float64))
