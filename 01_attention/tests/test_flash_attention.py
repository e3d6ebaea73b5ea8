"""Flash attention against PyTorch and plain attention: values, gradients and memory."""

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attention import scaled_dot_product_attention
from flash_attention import (
    SoftmaxState,
    empty_state,
    finalize,
    flash_attention,
    merge,
    tile_state,
)
from memory_meter import MemoryMeter, forward_and_backward
from utils.errors import UsageError
from utils.shape_checker import ShapeError

B, H, d_k, d_v = 3, 2, 4, 6
SIZES = [(5, 7), (7, 5), (12, 12), (1, 9), (9, 1)]  # (T_q, T_k)
BLOCKS = [1, 3, 4, 64]  # dividing T, not dividing T, larger than T


def heads(
    T_q: int, T_k: int, lead: tuple[int, ...] = (B, H), dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values with standard deviation 2 and requires_grad set."""
    shapes = (*lead, T_q, d_k), (*lead, T_k, d_k), (*lead, T_k, d_v)
    q, k, v = ((2 * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes)
    return q, k, v


def mask_of(T_q: int, T_k: int, causal: bool) -> Tensor:
    """(T_q, T_k) bool: all True, or the lower triangle aligned to the bottom right corner."""
    mask = torch.ones(T_q, T_k, dtype=torch.bool)
    return mask.tril(T_k - T_q) if causal else mask


def torch_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask_of(q.size(-2), k.size(-2), causal))


def plain_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    mask = mask_of(q.size(-2), k.size(-2), causal)
    return scaled_dot_product_attention(q, k, v, mask)[0]


# --- values and gradients ---


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T_q", "T_k"), SIZES)
def test_output_and_gradients_equal_pytorch_and_plain(T_q, T_k, causal, block_size, dtype, within):
    inputs = heads(T_q, T_k, dtype=dtype)
    ours = flash_attention(*inputs, causal, block_size)
    weight = torch.randn_like(ours)
    our_gradients = torch.autograd.grad((ours * weight).sum(), inputs)
    for attend in (torch_attention, plain_attention):
        theirs = attend(*inputs, causal)
        torch.testing.assert_close(ours, theirs, rtol=within, atol=within)
        gradients = torch.autograd.grad((theirs * weight).sum(), inputs)
        torch.testing.assert_close(our_gradients, gradients, rtol=within, atol=within)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lead", [(), (B,), (B, H), (2, B, H)])
def test_any_number_of_leading_axes_is_accepted(lead, causal):
    inputs = heads(10, 10, lead)
    ours = flash_attention(*inputs, causal=causal, block_size=4)
    torch.testing.assert_close(ours, torch_attention(*inputs, causal))


def test_keys_and_values_shared_by_heads_sum_the_gradients_of_all_heads():
    q, _, _ = heads(5, 7)
    _, k, v = heads(5, 7, (1, 1))
    ours, _ = forward_and_backward(partial(flash_attention, block_size=3), q, k, v)
    theirs, _ = forward_and_backward(plain_attention, q, k, v)
    assert ours[2].shape == k.shape
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("T_q", "T_k"), [(4, 5), (5, 3)])
def test_gradients_pass_gradcheck(T_q, T_k, causal):
    inputs = heads(T_q, T_k, (2,))
    assert torch.autograd.gradcheck(partial(flash_attention, causal=causal, block_size=2), inputs)


def test_second_derivatives_raise_instead_of_being_wrong():
    q, k, v = heads(5, 7)
    output = flash_attention(q, k, v, block_size=3)
    (gradient,) = torch.autograd.grad(output.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("causal", [False, True])
def test_scores_of_ten_thousand_do_not_overflow(causal):
    q, k, v = heads(12, 12)
    assert (100 * q @ (100 * k).mT / math.sqrt(d_k)).abs().max() > 1e4

    def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flash_attention(100 * q, 100 * k, v, causal, block_size=5)

    def torch_own(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch_attention(100 * q, 100 * k, v, causal)

    ours, _ = forward_and_backward(flash, q, k, v)
    theirs, _ = forward_and_backward(torch_own, q, k, v)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dominant", range(5))
@pytest.mark.parametrize("level", [1e4, 0.0, -1e4])
def test_a_dominant_key_gets_all_the_weight_in_any_tile(level, dominant):
    scores = torch.full((5,), level)
    scores[dominant] += 1e4
    q = torch.ones(1, 1, requires_grad=True)  # d_k = 1: the scores are the keys
    v = torch.randn(5, d_v)
    output = flash_attention(q, scores[:, None], v, block_size=2)
    assert torch.equal(output[0], v[dominant])
    (gradient,) = torch.autograd.grad(output.sum(), q)
    assert gradient.isfinite().all()


def test_inputs_are_not_modified():
    inputs = heads(5, 7)
    before = [x.detach().clone() for x in inputs]
    flash_attention(*inputs, causal=True, block_size=3).sum().backward()
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))


# --- the causal mask ---


@pytest.mark.parametrize("n_new", [1, 3])
def test_the_last_queries_alone_give_the_last_rows_of_the_full_output(n_new):
    q, k, v = heads(9, 9)
    whole = flash_attention(q, k, v, causal=True, block_size=4)
    last = flash_attention(q[..., -n_new:, :], k, v, causal=True, block_size=4)
    torch.testing.assert_close(last, whole[..., -n_new:, :])


@pytest.mark.parametrize("block_size", BLOCKS)
def test_fully_masked_queries_have_zero_output_and_zero_gradient(block_size):
    q, k, v = heads(7, 4)
    output = flash_attention(q, k, v, causal=True, block_size=block_size)
    assert not output[..., :3, :].any()
    assert output[..., 3:, :].all()
    gradients = torch.autograd.grad(output.sum(), (q, k, v))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][..., :3, :].any()
    assert gradients[0][..., 4:, :].all()  # query 3 sees one key: its weight is always 1


def test_zero_keys_give_zeros():
    q, k, v = heads(5, 0)
    assert torch.equal(flash_attention(q, k, v), torch.zeros(B, H, 5, d_v, dtype=q.dtype))


def test_tiles_in_the_future_are_never_read():
    """A tile that is computed and then masked would still propagate nan: 0 * nan is nan."""
    q, k, v = heads(12, 12)
    poison = torch.zeros(12, 1, dtype=q.dtype)
    poison[8:] = math.nan
    output = flash_attention(q, k + poison, v + poison, causal=True, block_size=4)
    assert output[..., :8, :].isfinite().all()
    assert output[..., 8:, :].isnan().all()


def test_gradients_of_past_queries_do_not_reach_future_keys():
    q, k, v = heads(12, 12)
    output = flash_attention(q, k, v, causal=True, block_size=4)
    d_output = torch.ones_like(output)
    d_output[..., :4, :] = math.nan
    for gradient in torch.autograd.grad(output, (q, k, v), d_output):
        assert gradient[..., :4, :].isnan().any()
        assert gradient[..., 4:, :].isfinite().all()


# --- the merge is associative and commutative, and has an identity ---


def scores_and_values() -> tuple[Tensor, Tensor]:
    """Scores (6, 12), partly masked: row 0 every third, row 1 the first half, row 2 all."""
    scores = 3 * torch.randn(6, 12, dtype=torch.float64)
    scores[0, ::3] = -math.inf
    scores[1, :6] = -math.inf
    scores[2] = -math.inf
    scores[3] *= 1e3  # exp() of these overflows or underflows
    return scores, torch.randn(12, d_v, dtype=torch.float64)


def tile_states(scores: Tensor, v: Tensor) -> list[SoftmaxState]:
    """The states of three tiles that together hold all keys."""
    widths = [4, 5, 3]
    return [
        tile_state(*tile) for tile in zip(scores.split(widths, -1), v.split(widths), strict=True)
    ]


def assert_same(a: SoftmaxState, b: SoftmaxState) -> None:
    torch.testing.assert_close(tuple(a), tuple(b), rtol=1e-12, atol=1e-12)


def test_merging_is_associative():
    a, b, c = tile_states(*scores_and_values())
    assert_same(merge(merge(a, b), c), merge(a, merge(b, c)))


def test_merging_is_commutative():
    a, b, c = tile_states(*scores_and_values())
    assert_same(merge(a, b), merge(b, a))
    assert_same(merge(merge(a, b), c), merge(merge(c, a), b))


def test_merging_with_the_empty_state_changes_nothing():
    for part in tile_states(*scores_and_values()):
        empty = empty_state(torch.randn(6, d_k, dtype=torch.float64), part.weighted_sum)
        assert_same(merge(empty, part), part)
        assert_same(merge(part, empty), part)
        assert_same(merge(empty, empty), empty)


def test_merged_tiles_equal_one_tile_of_all_keys():
    scores, v = scores_and_values()
    assert_same(reduce(merge, tile_states(scores, v)), tile_state(scores, v))


def test_the_final_state_gives_softmax_output_and_log_sum_exp():
    scores, v = scores_and_values()
    output, log_sum = finalize(reduce(merge, tile_states(scores, v)))
    seen = torch.arange(6) != 2
    torch.testing.assert_close(output[seen], torch.softmax(scores, -1)[seen] @ v)
    torch.testing.assert_close(log_sum[seen], torch.logsumexp(scores, -1, keepdim=True)[seen])
    assert not output[2].any()
    assert log_sum.isfinite().all()


# --- memory ---


class SizeMeter(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.largest = max(self.largest, *sizes)
        return result


def largest_tensors(attend: Callable[..., Tensor], *inputs: Tensor) -> tuple[int, int]:
    """Elements of the largest tensor of the forward pass, and of the backward pass."""
    with SizeMeter() as forward:
        output = attend(*inputs)
    d_output = torch.ones_like(output)
    with SizeMeter() as backward:
        torch.autograd.grad(output, inputs, d_output)
    return forward.largest, backward.largest


@pytest.mark.parametrize("causal", [False, True])
def test_neither_pass_creates_a_tensor_as_large_as_the_score_matrix(causal):
    inputs, tiled = heads(96, 128, ()), partial(flash_attention, causal=causal, block_size=16)
    for largest in largest_tensors(tiled, *inputs):
        assert largest == 128 * d_v  # the size of v
    for largest in largest_tensors(partial(plain_attention, causal=causal), *inputs):
        assert largest == 96 * 128  # control: the meter does see the full matrix


def test_the_default_tile_is_64_by_64():
    assert largest_tensors(flash_attention, *heads(256, 256, ())) == (64 * 64, 64 * 64)


def test_only_inputs_output_and_log_sum_exp_are_saved_for_backward():
    inputs, kept = heads(10, 14, ()), []

    def keep(x: Tensor) -> Tensor:
        kept.append(tuple(x.shape))
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        flash_attention(*inputs, block_size=4)
    output, log_sum = (10, d_v), (10, 1)
    assert sorted(kept) == sorted([*(tuple(x.shape) for x in inputs), output, log_sum])


def peaks(attend: Callable[..., Tensor]) -> list[int]:
    """Peak memory of forward plus backward for T = 128, 256, 512."""
    return [forward_and_backward(attend, *heads(T, T, ()))[1] for T in (128, 256, 512)]


@pytest.mark.parametrize("causal", [False, True])
def test_memory_grows_linearly_with_sequence_length(causal):
    short, middle, long = peaks(partial(flash_attention, causal=causal, block_size=32))
    assert long - middle == pytest.approx(2 * (middle - short), rel=0.01)  # linear
    short, middle, long = peaks(partial(plain_attention, causal=causal))
    assert long - middle == pytest.approx(4 * (middle - short), rel=0.1)  # quadratic


def test_the_meter_counts_live_tensors_and_ignores_views():
    given = torch.zeros(1000)
    with MemoryMeter() as meter:
        a = given + 1
        b = a.view(10, 100)[1:].add_(given[0])
        assert (meter.alive, meter.peak) == (4000, 4000)
        b = b * 2
        assert (meter.alive, meter.peak) == (7600, 7600)
        del b
        assert (meter.alive, meter.peak) == (4000, 7600)
        del a
    assert (meter.alive, meter.peak) == (0, 7600)


# --- invalid arguments ---


@pytest.mark.parametrize("block_size", [0, -1])
def test_a_block_size_below_1_is_rejected(block_size):
    with pytest.raises(UsageError, match=f"block_size is {block_size}; it must be at least 1"):
        flash_attention(*heads(5, 7), block_size=block_size)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5, d_k), (7, d_k + 1), (7, d_v)), "k has shape"),
        (((5, d_k), (7, d_k), (8, d_v)), "v has shape"),
        (((B, 5, d_k), (B + 1, 7, d_k), (B, 7, d_v)), "k has shape"),
        (((d_k,), (7, d_k), (7, d_v)), "q has shape"),
    ],
)
def test_mismatched_shapes_are_rejected_by_name(shapes, message):
    q, k, v = (torch.randn(shape) for shape in shapes)
    with pytest.raises(ShapeError, match=message):
        flash_attention(q, k, v)
