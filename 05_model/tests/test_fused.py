"""Each fused part gives the values and the gradients of the lesson's part."""

import math

import pytest
import torch
from torch import Tensor, nn

import feedforward
import fused
import layer_norm
import multi_head
import token_embeddings
from attention import causal_mask, padding_mask, scaled_dot_product_attention
from fused import BLOCK
from utils.shape_checker import ShapeError

B, H, T_q, T_k, d_k, d_v = 3, 2, 5, 7, 4, 6
CLOSENESS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]
KERNELS = [fused.sdpa, fused.matmul_attention]

PIECES = {
    "LayerNorm": (fused.FusedLayerNorm, layer_norm.LayerNorm, (6,)),
    "LayerNorm without bias": (fused.FusedLayerNorm, layer_norm.LayerNorm, (6, False)),
    "LayerNorm, large epsilon": (fused.FusedLayerNorm, layer_norm.LayerNorm, (6, True, 0.5)),
    "RMSNorm": (fused.FusedRMSNorm, layer_norm.RMSNorm, (6,)),
    "RMSNorm, large epsilon": (fused.FusedRMSNorm, layer_norm.RMSNorm, (6, 0.5)),
    "FeedForward, gelu": (fused.FusedFeedForward, feedforward.FeedForward, (6, 10, "gelu")),
    "FeedForward, relu2": (
        fused.FusedFeedForward,
        feedforward.FeedForward,
        (6, 10, "relu2", False),
    ),
    "SwiGLU": (fused.FusedSwiGLU, feedforward.SwiGLU, (6, 10)),
    "SwiGLU without bias": (fused.FusedSwiGLU, feedforward.SwiGLU, (6, 10, False)),
}


def results(outputs: Tensor, inputs: list[Tensor], weight: Tensor) -> list[Tensor]:
    """The outputs, and the gradients of a random linear function of them."""
    return [outputs, *torch.autograd.grad((outputs * weight).sum(), inputs)]


def randomize_alike_(fast: nn.Module, plain: nn.Module, dtype: torch.dtype) -> None:
    """Give both layers the same random parameters; loading is strict about names and shapes."""
    for parameter in fast.to(dtype).parameters():
        nn.init.normal_(parameter)
    plain.to(dtype).load_state_dict(fast.state_dict())


@pytest.mark.parametrize(("dtype", "within"), CLOSENESS)
@pytest.mark.parametrize("piece", PIECES)
def test_layers_equal_those_of_the_lessons(piece, dtype, within):
    fast_class, plain_class, sizes = PIECES[piece]
    fast, plain = fast_class(*sizes), plain_class(*sizes)
    randomize_alike_(fast, plain, dtype)
    assert "forward" in vars(fast_class)  # not just inherited
    x = (1 + 2 * torch.randn(3, 5, 6, dtype=dtype)).requires_grad_()
    weight = torch.randn_like(x)
    ours = results(fast(x), [x, *fast.parameters()], weight)
    theirs = results(plain(x), [x, *plain.parameters()], weight)
    torch.testing.assert_close(ours, theirs, rtol=within, atol=within)


@pytest.mark.parametrize(("dtype", "within"), CLOSENESS)
@pytest.mark.parametrize("bias", [True, False])
def test_one_projection_for_queries_keys_and_values_equals_three(bias, dtype, within):
    fast = fused.FusedMultiHeadAttention(8, 2, bias)
    plain = multi_head.MultiHeadAttention(8, 2, bias)
    randomize_alike_(fast, plain, dtype)
    x = torch.randn(3, 5, 8, dtype=dtype, requires_grad=True)
    weight = torch.randn_like(x)
    ours, theirs = (
        results(layer(x, causal_mask(5)), [x, *layer.parameters()], weight)
        for layer in (fast, plain)
    )
    torch.testing.assert_close(ours, theirs, rtol=within, atol=within)


@pytest.mark.parametrize("shift", [0, 1, 40])
@pytest.mark.parametrize("T", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK - 5])
def test_attention_in_blocks_equals_that_of_lesson_1(T, shift):
    """With a shift, the first query attends to that many keys before its own."""
    q, k, v = (torch.randn(2, 1, n, 8, dtype=torch.float64) for n in (T, T + shift, T + shift))
    inputs = [each.requires_grad_() for each in (q, k, v)]
    mask, weight = causal_mask(T + shift)[shift:], torch.randn_like(q)
    ours = results(fused.matmul_attention(q, k, v, mask)[0], inputs, weight)
    theirs = results(scaled_dot_product_attention(q, k, v, mask)[0], inputs, weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_block_includes_every_key_that_any_of_its_queries_attends_to():
    T = 2 * BLOCK
    mask = causal_mask(T)
    assert [fused.visible_keys(mask[:BLOCK]), fused.visible_keys(mask[BLOCK:])] == [BLOCK, T]
    mask = mask.clone()
    mask[3, BLOCK + 7] = True
    assert fused.visible_keys(mask[:BLOCK]) == BLOCK + 8
    assert fused.visible_keys(torch.zeros(4, T, dtype=torch.bool)) == T  # nan, as without blocks


def test_under_autocast_the_norm_returns_the_dtype_of_the_next_matrix_product():
    norm, x = fused.FusedRMSNorm(8), torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x).dtype == torch.bfloat16
    assert norm(x).dtype == torch.float32
    assert norm.double()(x.double()).dtype == torch.float64


def test_embeddings_equal_those_of_the_lessons():
    fast, plain = fused.FusedTokenEmbedding(7, 4), token_embeddings.TokenEmbedding(7, 4)
    randomize_alike_(fast, plain, torch.float64)
    tokens = torch.randint(7, (3, 5))
    weight = torch.randn(3, 5, 4, dtype=torch.float64)
    ours = results(fast(tokens), list(fast.parameters()), weight)
    theirs = results(plain(tokens), list(plain.parameters()), weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def masks() -> dict[str, Tensor | None]:
    causal = causal_mask(T_k)[-T_q:]
    return {
        "none": None,
        "causal": causal,
        "causal and padding": causal & padding_mask(torch.tensor([7, 3, 5]), T_k),
        "one per head": (torch.rand(1, H, T_q, T_k) < 0.5) | (torch.arange(T_k) == 0),
        "floating": torch.randn(1, H, T_q, T_k),
        "floating with -inf": torch.randn(B, 1, T_q, T_k).masked_fill(~causal, -math.inf),
    }


def heads(dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys and values of standard deviation 2 that require gradients."""
    shapes = (T_q, d_k), (T_k, d_k), (T_k, d_v)
    return [(2 * torch.randn(B, H, *shape, dtype=dtype)).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("dtype", "within"), CLOSENESS)
@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_equal_the_attention_of_lesson_1(kernel, kind, dtype, within):
    (q, k, v), mask = heads(dtype), masks()[kind]
    fast, weights = kernel(q, k, v, mask)
    assert weights is None
    plain, _ = scaled_dot_product_attention(q, k, v, mask)
    weight = torch.randn_like(plain)
    ours, theirs = results(fast, [q, k, v], weight), results(plain, [q, k, v], weight)
    torch.testing.assert_close(ours, theirs, rtol=within, atol=within)


@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_keep_bfloat16_and_are_close(kernel, kind):
    q, k, v = (x.detach() for x in heads(torch.bfloat16))
    mask = masks()[kind]
    output, _ = kernel(q, k, v, mask)
    expected, _ = scaled_dot_product_attention(q.double(), k.double(), v.double(), mask)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), expected, rtol=0.1, atol=0.2)


def test_a_fully_masked_row_gives_zeros_from_sdpa_and_nan_from_matmul_attention():
    q, k, v = heads(torch.float32)
    mask = causal_mask(T_k)[:T_q].clone()
    mask[2] = False
    assert not fused.sdpa(q, k, v, mask)[0][:, :, 2].any()
    assert fused.matmul_attention(q, k, v, mask)[0][:, :, 2].isnan().all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_masks_are_not_modified(kernel):
    q, k, v = heads(torch.float32)
    for name, mask in masks().items():
        if mask is not None:
            before = mask.clone()
            kernel(q, k, v, mask)
            assert torch.equal(mask, before), name


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(T_q, T_k, dtype=torch.int64), "dtype torch.int64"),
        (torch.ones(B, T_q, T_k, dtype=torch.bool), "write mask[:, None]"),
        (torch.ones(T_q + 1, T_k, dtype=torch.bool), "does not broadcast"),
    ],
    ids=["integers", "no head axis", "another length"],
)
def test_kernels_refuse_the_masks_that_lesson_1_refuses(kernel, mask, words):
    with pytest.raises(ShapeError) as refused:
        kernel(*heads(torch.float32), mask)
    assert words in str(refused.value)
