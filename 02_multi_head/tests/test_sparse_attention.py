"""Sparse attention against masked attention, and the work it saves."""

import math
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from attention import scaled_dot_product_attention
from sparse_attention import block_map, block_sparse_attention, sliding_window_attention
from utils.shape_checker import ShapeError

D_K, D_V = 4, 6


def inputs(T_q: int, T_k: int, *lead: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values in float64."""
    shapes = (T_q, D_K), (T_k, D_K), (T_k, D_V)
    q, k, v = (2 * torch.randn(*lead, *shape, dtype=torch.float64) for shape in shapes)
    return q, k, v


def window_mask(T: int, window: int) -> Tensor:
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return (j <= i) & (i - j < window)


def assert_same_with_gradients(sparse, masked, tensors: tuple[Tensor, ...]) -> None:
    for tensor in tensors:
        tensor.requires_grad_()
    ours, theirs = sparse(*tensors), masked(*tensors)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    weight = torch.randn_like(theirs)
    our_gradients = torch.autograd.grad((ours * weight).sum(), tensors)
    their_gradients = torch.autograd.grad((theirs * weight).sum(), tensors)
    torch.testing.assert_close(our_gradients, their_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("lead", [(), (3,), (3, 2)])
@pytest.mark.parametrize(("T", "window"), [(12, 4), (13, 4), (5, 8), (7, 1), (1, 3), (9, 9)])
def test_the_sliding_window_equals_masked_attention_with_its_gradients(T, window, lead):
    assert_same_with_gradients(
        lambda q, k, v: sliding_window_attention(q, k, v, window),
        lambda q, k, v: scaled_dot_product_attention(q, k, v, window_mask(T, window))[0],
        inputs(T, T, *lead),
    )


@pytest.mark.parametrize("lead", [(), (3,), (3, 2)])
@pytest.mark.parametrize(("T_q", "T_k", "block_size"), [(12, 12, 4), (5, 7, 3), (7, 5, 64)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_blocks_equal_masked_attention_with_its_gradients(T_q, T_k, block_size, share, lead):
    mask = torch.rand(T_q, T_k) < share
    sparse = block_sparse_attention
    if share == 0.0:  # nothing is allowed: zeros, which depend on nothing
        q, k, v = inputs(T_q, T_k, *lead)
        assert not sparse(q, k, v, mask, block_size).any()
        return
    assert_same_with_gradients(
        lambda q, k, v: sparse(q, k, v, mask, block_size),
        lambda q, k, v: scaled_dot_product_attention(q, k, v, mask)[0],
        inputs(T_q, T_k, *lead),
    )


def test_a_block_of_keys_that_no_query_sees_is_not_read():
    q, k, v = inputs(9, 12, 3)
    mask = torch.ones(9, 12, dtype=torch.bool)
    mask[:, 4:8] = False
    expected = scaled_dot_product_attention(q, k, v, mask)[0]
    k[:, 4:8], v[:, 4:8] = math.nan, math.nan
    torch.testing.assert_close(block_sparse_attention(q, k, v, mask, 4), expected)


def test_the_map_shows_the_blocks_in_which_something_is_allowed():
    mask = window_mask(6, 2)
    assert block_map(mask, 2).int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert block_map(mask, 4).int().tolist() == [[1, 0], [1, 1]]
    assert block_map(torch.zeros(3, 5, dtype=torch.bool), 4).int().tolist() == [[0, 0]]


@pytest.mark.parametrize("T", [64, 128, 256])
def test_the_work_grows_with_the_text_and_not_with_its_square(T):
    window = 16
    q, k, v = inputs(T, T)
    mask = window_mask(T, window)
    counted = {}
    for name, attend in {
        "masked": lambda: scaled_dot_product_attention(q, k, v, mask),
        "blocks": lambda: block_sparse_attention(q, k, v, mask, window),
        "window": lambda: sliding_window_attention(q, k, v, window),
    }.items():
        with FlopCounterMode(display=False) as counter:
            attend()
        counted[name] = counter.get_total_flops() // 2
    n_blocks = T // window
    assert counted["masked"] == T * T * (D_K + D_V)
    assert counted["blocks"] == (2 * n_blocks - 1) * window**2 * (D_K + D_V)
    assert counted["window"] == 2 * T * window * (D_K + D_V)


def test_inputs_are_not_modified():
    q, k, v = inputs(9, 9, 3)
    mask = window_mask(9, 4)
    before = [x.clone() for x in (q, k, v, mask)]
    block_sparse_attention(q, k, v, mask, 4)
    sliding_window_attention(q, k, v, 4)
    assert all(torch.equal(x, y) for x, y in zip((q, k, v, mask), before, strict=True))


def test_a_mask_of_another_shape_is_rejected():
    q, k, v = inputs(9, 12)
    with pytest.raises(ShapeError, match="mask has shape"):
        block_sparse_attention(q, k, v, torch.ones(12, 9, dtype=torch.bool))


def test_queries_and_keys_of_different_lengths_have_no_sliding_window():
    with pytest.raises(ShapeError, match="k has shape"):
        sliding_window_attention(*inputs(5, 7), 4)


def test_the_program_prints_small_differences(capsys):
    path = Path(__file__).resolve().parents[1] / "sparse_attention.py"
    runpy.run_path(str(path))["main"]()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[0] for row in rows] == ["512", "1024", "2048"]
    assert [row[4] for row in rows] == ["23%", "12%", "6%"]
    assert all(float(row[5]) < 1e-5 for row in rows)
