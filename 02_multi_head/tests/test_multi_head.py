"""Multi-head attention against nn.MultiheadAttention with the same weights."""

import math

import pytest
import torch
from torch import Tensor, nn

from attention import causal_mask, padding_mask, scaled_dot_product_attention
from multi_head import MultiHeadAttention, merge_heads, split_heads
from utils.errors import UsageError
from utils.shape_checker import ShapeError

B, T, D_MODEL, N_HEADS = 3, 5, 12, 3  # d_head is 4


def random_layer(bias: bool = True, dtype: torch.dtype = torch.float64) -> MultiHeadAttention:
    """A layer in which every weight and bias is random."""
    layer = MultiHeadAttention(D_MODEL, N_HEADS, bias).to(dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def torch_equivalent(layer: MultiHeadAttention) -> nn.MultiheadAttention:
    """PyTorch's layer with our weights; it stores the three projections in one matrix."""
    projections = layer.q_proj, layer.k_proj, layer.v_proj
    bias = layer.out_proj.bias is not None
    nn_layer = nn.MultiheadAttention(D_MODEL, N_HEADS, bias=bias, batch_first=True)
    state = {"in_proj_weight": torch.cat([p.weight for p in projections])}
    state["out_proj.weight"] = layer.out_proj.weight
    if bias:
        state["in_proj_bias"] = torch.cat([p.bias for p in projections])
        state["out_proj.bias"] = layer.out_proj.bias
    nn_layer.to(layer.out_proj.weight.dtype).load_state_dict(state)
    return nn_layer


def torch_forward(nn_layer: nn.MultiheadAttention, x: Tensor, mask: Tensor | None) -> Tensor:
    """PyTorch expects (B * n_heads, T, T) masks, and its True means may not attend."""
    if mask is None:
        return nn_layer(x, x, x, need_weights=False)[0]
    mask = mask.expand(B, N_HEADS, T, T).flatten(0, 1)
    mask = ~mask if mask.dtype == torch.bool else mask
    return nn_layer(x, x, x, attn_mask=mask, need_weights=False)[0]


def masks() -> dict[str, Tensor | None]:
    causal = causal_mask(T)
    return {
        "none": None,
        "causal": causal,
        "causal and padding": causal & padding_mask(torch.tensor([5, 2, 3]), T),
        "one per head": (torch.rand(1, N_HEADS, T, T) < 0.5) | causal_mask(T),
        "floating": torch.randn(1, N_HEADS, T, T, dtype=torch.float64),
        "floating with -inf": torch.randn(T, T).masked_fill(~causal, -math.inf).double(),
    }


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", masks())
def test_output_and_gradients_equal_pytorch(kind, bias):
    layer, mask = random_layer(bias), masks()[kind]
    nn_layer = torch_equivalent(layer)
    x = torch.randn(B, T, D_MODEL, dtype=torch.float64, requires_grad=True)
    ours, theirs = layer(x, mask), torch_forward(nn_layer, x, mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    weight = torch.randn_like(ours)
    ours_x, *ours_qkv = torch.autograd.grad(
        (ours * weight).sum(), (x, layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight)
    )
    theirs_x, theirs_qkv = torch.autograd.grad(
        (theirs * weight).sum(), (x, nn_layer.in_proj_weight)
    )
    torch.testing.assert_close(ours_x, theirs_x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat(ours_qkv), theirs_qkv, rtol=1e-10, atol=1e-10)


def test_float32_output_equals_pytorch_to_1e_5():
    layer = random_layer(dtype=torch.float32)
    x = torch.randn(B, T, D_MODEL)
    expected = torch_forward(torch_equivalent(layer), x, causal_mask(T))
    torch.testing.assert_close(layer(x, causal_mask(T)), expected, rtol=1e-5, atol=1e-5)


def test_each_head_is_a_separate_attention():
    """The formula of the paper, head by head, on slices of the projections."""
    layer = random_layer(bias=False)
    x = torch.randn(B, T, D_MODEL, dtype=torch.float64)
    outputs = []
    for head in range(N_HEADS):
        rows = slice(4 * head, 4 * head + 4)
        q, k, v = (x @ p.weight[rows].T for p in (layer.q_proj, layer.k_proj, layer.v_proj))
        outputs.append(scaled_dot_product_attention(q, k, v, causal_mask(T))[0])
    expected = torch.cat(outputs, dim=-1) @ layer.out_proj.weight.T
    torch.testing.assert_close(layer(x, causal_mask(T)), expected, rtol=1e-10, atol=1e-10)


def test_heads_are_contiguous_slices_and_merge_restores_them():
    x = torch.arange(B * T * D_MODEL).view(B, T, D_MODEL)
    heads = split_heads(x, N_HEADS)
    assert heads.shape == (B, N_HEADS, T, 4)
    for head in range(N_HEADS):
        assert torch.equal(heads[:, head], x[..., 4 * head : 4 * head + 4])
    assert torch.equal(merge_heads(heads), x)


def test_split_and_merge_accept_non_contiguous_tensors():
    x = torch.randn(T, B, D_MODEL).transpose(0, 1)
    assert torch.equal(merge_heads(split_heads(x, N_HEADS)), x)


def test_attend_replaces_the_attention_and_receives_the_mask():
    layer, seen = random_layer(), []

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
        seen.append((q.shape, k.shape, v.shape, mask))
        return v, None

    x, mask = torch.randn(B, T, D_MODEL, dtype=torch.float64), causal_mask(T)
    output = layer(x, mask, attend)
    heads = (B, N_HEADS, T, 4)
    assert seen == [(heads, heads, heads, mask)]
    torch.testing.assert_close(output, layer.out_proj(layer.v_proj(x)))


def test_an_indivisible_d_model_is_rejected():
    with pytest.raises(UsageError, match="d_model 10 is not divisible by n_heads 3"):
        MultiHeadAttention(10, 3)


@pytest.mark.parametrize("shape", [(T, D_MODEL), (B, T, D_MODEL + 1), (B, T, N_HEADS, 4)])
def test_an_input_of_the_wrong_shape_is_rejected(shape):
    with pytest.raises(ShapeError, match="x has shape"):
        random_layer()(torch.randn(shape, dtype=torch.float64))
