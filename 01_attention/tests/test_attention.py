"""Attention and its gradients against PyTorch; masks, and rows in which every key is masked."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attention import causal_mask, padding_mask, scaled_dot_product_attention, softmax
from utils.shape_checker import ShapeError

B, H, T_q, T_k, d_k, d_v = 3, 2, 5, 7, 4, 6
MASKED_ROW = 2  # the query whose keys are all masked


def heads(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values with standard deviation 2 and requires_grad set."""
    shapes = (B, H, T_q, d_k), (B, H, T_k, d_k), (B, H, T_k, d_v)
    q, k, v = ((2 * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes)
    return q, k, v


def random_mask(*shape: int) -> Tensor:
    """A random boolean mask; every query may attend to the first key and about half the others."""
    return (torch.rand(shape) < 0.5) | (torch.arange(shape[-1]) == 0)


def masks() -> dict[str, Tensor | None]:
    """One mask of each kind; all broadcast to (B, H, T_q, T_k)."""
    causal = torch.ones(T_q, T_k, dtype=torch.bool).tril(T_k - T_q)
    padding = padding_mask(torch.tensor([7, 4, 6]), T_k)
    masked_row = random_mask(T_q, T_k)
    masked_row[MASKED_ROW] = False
    return {
        "none": None,
        "boolean (T_q, T_k)": random_mask(T_q, T_k),
        "boolean (B, 1, T_q, T_k)": random_mask(B, 1, T_q, T_k),
        "boolean (1, H, T_q, T_k)": random_mask(H, T_q, T_k)[None],
        "boolean (1, T_q, T_k)": random_mask(1, T_q, T_k),
        "padding": padding,
        "padding and causal": padding & causal,
        "floating": torch.randn(H, T_q, T_k, dtype=torch.float64)[None],
        "floating with -inf": torch.randn(T_q, T_k).masked_fill(~causal, -math.inf),
        "boolean, one row all False": masked_row,
        "floating, one row all -inf": torch.zeros(T_q, T_k).masked_fill(~masked_row, -math.inf),
    }


def torch_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None and mask.is_floating_point():
        mask = mask.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", masks())
def test_output_and_gradients_equal_pytorch(kind, dtype, within):
    inputs, mask = heads(dtype), masks()[kind]
    ours, _ = scaled_dot_product_attention(*inputs, mask)
    theirs = torch_attention(*inputs, mask)
    torch.testing.assert_close(ours, theirs, rtol=within, atol=within)
    weight = torch.randn_like(ours)
    our_gradients = torch.autograd.grad((ours * weight).sum(), inputs)
    their_gradients = torch.autograd.grad((theirs * weight).sum(), inputs)
    torch.testing.assert_close(our_gradients, their_gradients, rtol=within, atol=within)


@pytest.mark.parametrize("kind", masks())
def test_weights_sum_to_1_over_the_visible_keys(kind):
    q, k, v = heads()
    mask = masks()[kind]
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    assert weights.shape == (B, H, T_q, T_k)
    torch.testing.assert_close(output, weights @ v)
    visible = torch.ones(T_q, T_k, dtype=torch.bool)
    if mask is not None:
        visible = mask if mask.dtype == torch.bool else mask > -math.inf
    assert not weights.masked_select(~visible).any()
    total = visible.any(-1).expand(B, H, T_q).double()  # 1, or 0 in a fully masked row
    torch.testing.assert_close(weights.sum(-1), total)


@pytest.mark.parametrize("kind", ["boolean, one row all False", "floating, one row all -inf"])
def test_a_fully_masked_row_has_zero_output_and_zero_gradient(kind):
    q, k, v = heads()
    output, weights = scaled_dot_product_attention(q, k, v, masks()[kind])
    assert not output[..., MASKED_ROW, :].any()
    assert not weights[..., MASKED_ROW, :].any()
    gradients = torch.autograd.grad(output.square().sum(), (q, k, v))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][..., MASKED_ROW, :].any()
    assert gradients[0][..., MASKED_ROW + 1, :].any()


@pytest.mark.parametrize("lead", [(), (B,), (B, H)])
def test_any_number_of_leading_axes_is_accepted(lead):
    q, k, v = (torch.randn(*lead, *shape) for shape in ((T_q, d_k), (T_k, d_k), (T_k, d_v)))
    output, weights = scaled_dot_product_attention(q, k, v)
    assert weights.shape == (*lead, T_q, T_k)
    torch.testing.assert_close(output, F.scaled_dot_product_attention(q, k, v))


def test_gradients_reach_a_learned_mask():
    q, k, v = heads()
    mask = torch.randn(H, T_q, T_k, dtype=torch.float64)[None].requires_grad_()
    ours, _ = scaled_dot_product_attention(q, k, v, mask)
    theirs = torch_attention(q, k, v, mask)
    (our_gradient,) = torch.autograd.grad(ours.square().sum(), mask)
    (their_gradient,) = torch.autograd.grad(theirs.square().sum(), mask)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-10, atol=1e-10)


def test_inputs_are_not_modified():
    inputs, mask = heads(), random_mask(T_q, T_k)
    before = [x.detach().clone() for x in (*inputs, mask)]
    scaled_dot_product_attention(*inputs, mask)
    assert all(torch.equal(x, y) for x, y in zip((*inputs, mask), before, strict=True))


def test_huge_scores_select_one_key_with_finite_gradients():
    q = torch.full((1, d_k), 1e15, requires_grad=True)
    k = torch.stack([torch.full((d_k,), size) for size in (1e15, -1e15, 9e14)])
    output, weights = scaled_dot_product_attention(q, k, torch.randn(3, d_v))
    assert weights.tolist() == [[1.0, 0.0, 0.0]]
    output.sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("dim", [-1, 0, 1])
@pytest.mark.parametrize("scale", [1e-3, 3.0, 1e4])
def test_softmax_and_its_gradient_equal_pytorch(scale, dim):
    x = (scale * torch.randn(3, 5, 7, dtype=torch.float64)).requires_grad_()
    ours, theirs = softmax(x, dim), torch.softmax(x, dim)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(x)
    (our_gradient,) = torch.autograd.grad((ours * weight).sum(), x)
    (their_gradient,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-10, atol=1e-12)


def test_softmax_of_huge_and_of_masked_scores():
    x = torch.tensor([[1e30, -1e30, 1e30], [-math.inf, 3.0, -math.inf], [-math.inf] * 3])
    assert softmax(x).tolist() == [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_softmax_propagates_nan():
    assert softmax(torch.tensor([0.0, math.nan])).isnan().all()


@pytest.mark.parametrize("T", [1, 2, 5])
def test_position_i_sees_itself_and_the_past(T):
    i, j = torch.arange(T)[:, None], torch.arange(T)
    assert torch.equal(causal_mask(T), j <= i)


def test_positions_beyond_the_length_are_padding():
    mask = padding_mask(torch.tensor([5, 0, 2]), T=5)
    assert mask.shape == (3, 1, 1, 5)
    assert mask[:, 0, 0].tolist() == [[True] * 5, [False] * 5, [True, True, False, False, False]]


def attend_with(mask: Tensor) -> Tensor:
    q, k, v = heads()
    return scaled_dot_product_attention(q, k, v, mask)[0]


def test_an_ambiguous_three_dimensional_mask_is_rejected_with_the_fix():
    mask = random_mask(B, T_q, T_k)
    with pytest.raises(ShapeError, match=r"\(3, 5, 7\) is ambiguous .* write mask\[:, None\]"):
        attend_with(mask)
    assert attend_with(mask[:, None]).shape == (B, H, T_q, d_v)


def test_an_ambiguous_mask_is_rejected_even_if_batch_and_heads_are_equal():
    q = k = v = torch.randn(B, B, T_q, d_k)
    with pytest.raises(ShapeError, match="ambiguous"):
        scaled_dot_product_attention(q, k, v, random_mask(B, T_q, T_q))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_an_integer_mask_is_rejected(dtype):
    with pytest.raises(ShapeError, match=r"use bool \(True = may attend\), or floats"):
        attend_with(random_mask(T_q, T_k).to(dtype))


@pytest.mark.parametrize("shape", [(T_k, T_q), (B, H, T_q, T_k + 1), (1, B, H, T_q, T_k), (4, T_k)])
def test_a_mask_that_does_not_broadcast_to_the_scores_is_rejected(shape):
    with pytest.raises(ShapeError, match=r"does not broadcast to scores \(3, 2, 5, 7\)"):
        attend_with(random_mask(*shape))


def test_a_batch_of_masks_is_rejected_for_a_single_sequence():
    q, k, v = (torch.randn(shape) for shape in ((T_q, d_k), (T_k, d_k), (T_k, d_v)))
    with pytest.raises(ShapeError, match="does not broadcast"):
        scaled_dot_product_attention(q, k, v, random_mask(B, T_q, T_k))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((T_q, d_k), (T_k, d_k + 1), (T_k, d_v)), "k has shape"),
        (((T_q, d_k), (T_k, d_k), (T_k + 1, d_v)), "v has shape"),
        (((B, T_q, d_k), (B + 1, T_k, d_k), (B, T_k, d_v)), "k has shape"),
        (((d_k,), (T_k, d_k), (T_k, d_v)), "q has shape"),
    ],
)
def test_mismatched_shapes_are_rejected_by_name(shapes, message):
    q, k, v = (torch.randn(shape) for shape in shapes)
    with pytest.raises(ShapeError, match=message):
        scaled_dot_product_attention(q, k, v)
