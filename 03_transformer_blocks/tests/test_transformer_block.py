"""Transformer blocks against nn.TransformerEncoderLayer with the same weights."""

import pytest
import torch
from torch import Tensor, nn

from attention import causal_mask, padding_mask
from feedforward import FeedForward, SwiGLU
from grouped_query_attention import GroupedQueryAttention
from layer_norm import LayerNorm, RMSNorm
from multi_head import MultiHeadAttention
from transformer_block import PLACEMENTS, TransformerBlock
from utils.errors import UsageError

B, T, D_MODEL, N_HEADS, D_FF = 3, 5, 12, 3, 20


def random_block(placement: str, bias: bool = True, dropout: float = 0.0) -> TransformerBlock:
    """A float64 block in which every parameter is random."""
    block = TransformerBlock(
        MultiHeadAttention(D_MODEL, N_HEADS, bias),
        FeedForward(D_MODEL, D_FF, "gelu", bias),
        LayerNorm(D_MODEL, bias),
        LayerNorm(D_MODEL, bias),
        placement,
        dropout,
    ).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def torch_equivalent(block: TransformerBlock, bias: bool) -> nn.TransformerEncoderLayer:
    """PyTorch's layer with our weights."""
    nn_block = nn.TransformerEncoderLayer(
        D_MODEL,
        N_HEADS,
        D_FF,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=block.placement == "pre",
        bias=bias,
        dtype=torch.float64,
    )
    renamed = {
        "out_proj": "self_attn.out_proj",
        "up_proj": "linear1",
        "down_proj": "linear2",
        "attention_norm": "norm1",
        "feed_forward_norm": "norm2",
    }
    ours = block.state_dict()
    state = {}
    for name, value in ours.items():
        *_, layer, kind = name.split(".")
        if layer in renamed:
            state[f"{renamed[layer]}.{kind}"] = value
    for kind in ("weight", "bias") if bias else ("weight",):
        projections = [ours[f"attention.{x}_proj.{kind}"] for x in "qkv"]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(projections)
    nn_block.load_state_dict(state)
    return nn_block


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_output_and_gradients_equal_pytorch(placement, padded, bias):
    block = random_block(placement, bias)
    nn_block = torch_equivalent(block, bias)
    x = torch.randn(B, T, D_MODEL, dtype=torch.float64, requires_grad=True)
    keys = padding_mask(torch.tensor([5, 2, 3] if padded else [5, 5, 5]), T)
    ours = block(x, causal_mask(T) & keys)
    theirs = nn_block(x, src_mask=~causal_mask(T), src_key_padding_mask=~keys[:, 0, 0])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    weight = torch.randn_like(ours)
    names = "attention.out_proj", "feed_forward.up_proj", "attention_norm"
    our_inputs = [block.get_parameter(f"{name}.weight") for name in names]
    their_inputs = [
        nn_block.self_attn.out_proj.weight,
        nn_block.linear1.weight,
        nn_block.norm1.weight,
    ]
    our_gradients = torch.autograd.grad((ours * weight).sum(), [x, *our_inputs])
    their_gradients = torch.autograd.grad((theirs * weight).sum(), [x, *their_inputs])
    torch.testing.assert_close(our_gradients, their_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_kv_heads", [1, 3, 6])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_norm_attention_and_feed_forward_are_interchangeable(placement, n_kv_heads):
    """RMSNorm, grouped queries and SwiGLU, against the formulas in the module docstring."""
    attention = GroupedQueryAttention(D_MODEL, 6, n_kv_heads)
    pieces = attention, SwiGLU(D_MODEL, D_FF), RMSNorm(D_MODEL), RMSNorm(D_MODEL)
    block = TransformerBlock(*pieces, placement)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    x, mask = torch.randn(B, T, D_MODEL), causal_mask(T)
    attend, feed_forward, norm_1, norm_2 = pieces
    if placement == "pre":
        y = x + attend(norm_1(x), mask)
        expected = y + feed_forward(norm_2(y))
    else:
        y = norm_1(x + attend(x, mask))
        expected = norm_2(y + feed_forward(y))
    torch.testing.assert_close(block(x, mask), expected)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_later_tokens_do_not_affect_earlier_outputs(placement):
    block = random_block(placement)
    x = torch.randn(B, T, D_MODEL, dtype=torch.float64)
    changed = x.clone()
    changed[:, 3] += torch.randn(D_MODEL)
    before, after = block(x, causal_mask(T)), block(changed, causal_mask(T))
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=1e-12)
    assert ((before[:, 3:] - after[:, 3:]).abs().amax(-1) > 1e-3).all()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_attend_and_mask_are_passed_to_the_attention(placement):
    block, seen = random_block(placement), []

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
        seen.append(mask)
        return v, None

    mask = causal_mask(T)
    block(torch.randn(B, T, D_MODEL, dtype=torch.float64), mask, attend)
    assert len(seen) == 1
    assert seen[0] is mask


def test_a_pre_norm_block_with_zero_sublayers_is_the_identity():
    block = random_block("pre")
    for name in ("attention.out_proj", "feed_forward.down_proj"):
        for parameter in block.get_submodule(name).parameters():
            nn.init.zeros_(parameter)
    x = torch.randn(B, T, D_MODEL, dtype=torch.float64)
    assert torch.equal(block(x, causal_mask(T)), x)


def test_dropout_applies_to_the_updates_and_never_to_the_stream():
    """With dropout 0.999 nearly every feature of a pre-norm block's output is its input."""
    block = random_block("pre", dropout=0.999)
    x = torch.randn(B, T, D_MODEL, dtype=torch.float64)
    unchanged = block(x, causal_mask(T)) == x
    assert unchanged.double().mean() > 0.98


def test_dropout_is_off_in_eval_mode():
    with_dropout, without = random_block("pre", dropout=0.5).eval(), random_block("pre")
    without.load_state_dict(with_dropout.state_dict())
    x = torch.randn(B, T, D_MODEL, dtype=torch.float64)
    assert torch.equal(with_dropout(x), without(x))
    assert not torch.equal(with_dropout.train()(x), without(x))


def test_an_unknown_placement_is_rejected_with_the_choices():
    with pytest.raises(UsageError, match="unknown norm placement 'middle'; choose one of: pre, po"):
        random_block("middle")
