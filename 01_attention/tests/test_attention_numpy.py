"""NumPy attention against PyTorch, and its hand-written gradients against autograd."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

import attention
import attention_numpy
from attention_numpy import (
    attention_backward,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
    softmax,
)
from utils.shape_checker import ShapeError

Array = NDArray[Any]

B, H, T_q, T_k, d_k, d_v = 3, 2, 5, 7, 4, 6
MASKED_ROW = 2  # the query whose keys are all masked
DTYPES = [(np.float64, 1e-10), (np.float32, 1e-5)]


def randn(*shape: int, dtype: Any = np.float64) -> Array:
    return np.random.standard_normal(shape).astype(dtype)


def heads(dtype: Any = np.float64, lead: tuple[int, ...] = (B, H)) -> tuple[Array, Array, Array]:
    """Queries, keys and values with standard deviation 2."""
    shapes = (*lead, T_q, d_k), (*lead, T_k, d_k), (*lead, T_k, d_v)
    q, k, v = (2 * randn(*shape, dtype=dtype) for shape in shapes)
    return q, k, v


def random_mask(*shape: int) -> Array:
    """A random boolean mask; every query may attend to the first key and about half the others."""
    return (np.random.random(shape) < 0.5) | (np.arange(shape[-1]) == 0)


def masks() -> dict[str, Array | None]:
    """One mask of each kind; all broadcast to (B, H, T_q, T_k)."""
    causal = np.tri(T_q, T_k, T_k - T_q, dtype=bool)
    padding = padding_mask(np.array([7, 4, 6]), T_k)
    masked_row = random_mask(T_q, T_k)
    masked_row[MASKED_ROW] = False
    return {
        "none": None,
        "boolean (T_q, T_k)": random_mask(T_q, T_k),
        "boolean (B, 1, T_q, T_k)": random_mask(B, 1, T_q, T_k),
        "boolean (1, H, T_q, T_k)": random_mask(1, H, T_q, T_k),
        "boolean (1, T_q, T_k)": random_mask(1, T_q, T_k),
        "padding": padding,
        "padding and causal": padding & causal,
        "floating": randn(1, H, T_q, T_k),
        "floating with -inf": np.where(causal, randn(T_q, T_k), -np.inf),
        "floating, float16": randn(T_q, T_k, dtype=np.float16),
        "boolean, one row all False": masked_row,
        "floating, one row all -inf": np.where(masked_row, 0.0, -np.inf),
    }


def torch_attention(
    q: Array, k: Array, v: Array, mask: Array | None, d_output: Array
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output of PyTorch, and the gradients from autograd."""
    inputs = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
    lead = np.broadcast_shapes(*(x.shape[:-2] for x in inputs))
    wide = (x.expand(*lead, *x.shape[-2:]) for x in inputs)
    if mask is not None and mask.dtype != bool:
        mask = mask.astype(q.dtype)
    attn_mask = None if mask is None else torch.from_numpy(mask)
    output = F.scaled_dot_product_attention(*wide, attn_mask=attn_mask)
    return output.detach(), torch.autograd.grad(output, inputs, torch.from_numpy(d_output))


def assert_close(ours: Array, theirs: Tensor, within: float) -> None:
    """Same dtype, same shape, values equal up to rounding."""
    torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=within, atol=within)


def test_only_numpy_computes():
    modules = [x.__name__ for x in vars(attention_numpy).values() if isinstance(x, ModuleType)]
    assert sorted(modules) == ["math", "numpy"]
    assert isinstance(scaled_dot_product_attention(*heads())[0], np.ndarray)


@pytest.mark.parametrize(("dtype", "within"), DTYPES)
@pytest.mark.parametrize("kind", masks())
def test_output_and_gradients_equal_pytorch_in_the_same_dtype(kind, dtype, within):
    inputs, mask, d_output = heads(dtype), masks()[kind], randn(B, H, T_q, d_v, dtype=dtype)
    output, weights = scaled_dot_product_attention(*inputs, mask)
    theirs, their_gradients = torch_attention(*inputs, mask, d_output)
    assert_close(output, theirs, within)
    gradients = attention_backward(d_output, *inputs, weights)
    for ours, expected in zip(gradients, their_gradients, strict=True):
        assert_close(ours, expected, within)


@pytest.mark.parametrize(("dtype", "within"), DTYPES)
@pytest.mark.parametrize("kind", masks())
def test_weights_equal_those_of_attention_py(kind, dtype, within):
    inputs, mask = heads(dtype), masks()[kind]
    _, weights = scaled_dot_product_attention(*inputs, mask)
    q, k, v = (torch.from_numpy(x) for x in inputs)
    torch_mask = None if mask is None else torch.from_numpy(mask)
    _, theirs = attention.scaled_dot_product_attention(q, k, v, torch_mask)
    assert_close(weights, theirs, within)


@pytest.mark.parametrize("kind", ["boolean, one row all False", "floating, one row all -inf"])
def test_a_fully_masked_row_has_zero_output_and_zero_gradient(kind):
    inputs = heads()
    output, weights = scaled_dot_product_attention(*inputs, masks()[kind])
    assert not output[..., MASKED_ROW, :].any()
    assert not weights[..., MASKED_ROW, :].any()
    assert output[..., MASKED_ROW + 1, :].all()
    gradients = attention_backward(randn(*output.shape), *inputs, weights)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not gradients[0][..., MASKED_ROW, :].any()


@pytest.mark.parametrize("lead", [(), (B,), (B, H)])
def test_any_number_of_leading_axes_is_accepted(lead):
    inputs, d_output = heads(lead=lead), randn(*lead, T_q, d_v)
    output, weights = scaled_dot_product_attention(*inputs)
    theirs, their_gradients = torch_attention(*inputs, None, d_output)
    assert weights.shape == (*lead, T_q, T_k)
    assert_close(output, theirs, 1e-10)
    gradients = attention_backward(d_output, *inputs, weights)
    for ours, expected in zip(gradients, their_gradients, strict=True):
        assert_close(ours, expected, 1e-10)


@pytest.mark.parametrize(
    "leads",
    [
        ((B, H), (B, 1), (1, 1)),  # keys shared by all heads, values by the batch as well
        ((B, H), (H,), ()),  # the same without axes of size 1
        ((B, H), (1,), (1,)),  # one leading axis of size 1
        ((), (B, H), (B, 1)),  # shared queries
    ],
)
def test_gradients_of_broadcast_inputs_are_summed_over_their_copies(leads):
    sizes = (T_q, d_k), (T_k, d_k), (T_k, d_v)
    q, k, v = (randn(*lead, *size) for lead, size in zip(leads, sizes, strict=True))
    output, weights = scaled_dot_product_attention(q, k, v)
    assert output.shape == (B, H, T_q, d_v)
    d_output = randn(*output.shape)
    _, their_gradients = torch_attention(q, k, v, None, d_output)
    gradients = attention_backward(d_output, q, k, v, weights)
    for ours, expected in zip(gradients, their_gradients, strict=True):
        assert_close(ours, expected, 1e-10)


def test_inputs_are_not_modified():
    inputs, mask, d_output = heads(), random_mask(T_q, T_k), randn(B, H, T_q, d_v)
    before = [x.copy() for x in (*inputs, mask, d_output)]
    _, weights = scaled_dot_product_attention(*inputs, mask)
    before.append(weights.copy())
    attention_backward(d_output, *inputs, weights)
    after = (*inputs, mask, d_output, weights)
    assert all(np.array_equal(x, y) for x, y in zip(after, before, strict=True))


def test_huge_scores_select_one_key():
    q = np.full((1, d_k), 1e15, dtype=np.float32)
    k = np.stack([np.full(d_k, size, dtype=np.float32) for size in (1e15, -1e15, 9e14)])
    _, weights = scaled_dot_product_attention(q, k, randn(3, d_v, dtype=np.float32))
    assert weights.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("scale", [1e-3, 3.0, 1e4])
def test_softmax_equals_pytorch(scale, axis):
    x = scale * randn(3, 5, 7)
    assert_close(softmax(x, axis), torch.softmax(torch.from_numpy(x), axis), 1e-12)
    assert_close(softmax(x), torch.softmax(torch.from_numpy(x), -1), 1e-12)


def test_softmax_of_huge_and_of_masked_scores():
    x = np.array([[1e30, -1e30, 1e30], [-np.inf, 3.0, -np.inf], [-np.inf] * 3])
    assert softmax(x).tolist() == [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_softmax_propagates_nan():
    assert np.isnan(softmax(np.array([0.0, np.nan]))).all()


@pytest.mark.parametrize("T", [1, 2, 5])
def test_position_i_sees_itself_and_the_past(T):
    i, j = np.arange(T)[:, None], np.arange(T)
    assert causal_mask(T).dtype == bool
    assert np.array_equal(causal_mask(T), j <= i)


def test_positions_beyond_the_length_are_padding():
    mask = padding_mask(np.array([5, 0, 2]), T=5)
    assert mask.shape == (3, 1, 1, 5)
    assert mask[:, 0, 0].tolist() == [[True] * 5, [False] * 5, [True, True, False, False, False]]


def attend_with(mask: Array) -> Array:
    return scaled_dot_product_attention(*heads(), mask)[0]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.complex128])
def test_integer_and_complex_masks_are_rejected(dtype):
    with pytest.raises(ShapeError, match=r"use bool \(True = may attend\), or floats"):
        attend_with(random_mask(T_q, T_k).astype(dtype))


def test_an_ambiguous_three_dimensional_mask_is_rejected_with_the_fix():
    mask = random_mask(B, T_q, T_k)
    with pytest.raises(ShapeError, match=r"\(3, 5, 7\) is ambiguous .* write mask\[:, None\]"):
        attend_with(mask)
    assert attend_with(mask[:, None]).shape == (B, H, T_q, d_v)


def test_an_ambiguous_mask_is_rejected_even_if_batch_and_heads_are_equal():
    q = randn(B, B, T_q, d_k)
    with pytest.raises(ShapeError, match="ambiguous"):
        scaled_dot_product_attention(q, q, q, random_mask(B, T_q, T_q))


@pytest.mark.parametrize("shape", [(T_k, T_q), (B, H, T_q, T_k + 1), (1, B, H, T_q, T_k), (4, T_k)])
def test_a_mask_that_does_not_broadcast_to_the_scores_is_rejected(shape):
    with pytest.raises(ShapeError, match=r"does not broadcast to scores \(3, 2, 5, 7\)"):
        attend_with(random_mask(*shape))


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
    with pytest.raises(ShapeError, match=message):
        scaled_dot_product_attention(*(randn(*shape) for shape in shapes))


@pytest.mark.parametrize(
    ("d_output", "weights", "message"),
    [
        ((T_q, d_v + 1), (T_q, T_k), "v has shape"),
        ((T_q, d_v), (T_k, T_q), "weights has shape"),
        ((T_q + 1, d_v), (T_q, T_k), "q has shape"),
    ],
)
def test_gradients_with_mismatched_shapes_are_rejected_by_name(d_output, weights, message):
    with pytest.raises(ShapeError, match=message):
        attention_backward(randn(*d_output), *heads(lead=()), randn(*weights))
