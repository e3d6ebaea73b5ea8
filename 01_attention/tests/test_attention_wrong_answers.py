"""Wrong answers that the tests of lesson 01's exercises must reject, and unusual right ones."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import test_attention_exercises as judges  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from attention import scaled_dot_product_attention
from utils.grader.feedback import Wrong


def use(**functions: Callable[..., Tensor]) -> SimpleNamespace:
    """A stand-in for the fixture `ex` that has these functions."""
    return SimpleNamespace(**functions)


# --- 1.4: a boolean mask gives -inf ---


@pytest.mark.parametrize("value", [-1e9, -1e4, -1e20, torch.finfo(torch.float32).min])
def test_a_large_negative_number_is_not_minus_infinity(value: float) -> None:
    def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
        is_boolean = mask.dtype == torch.bool
        return scores.masked_fill(~mask, value) if is_boolean else scores + mask.to(scores.dtype)

    with pytest.raises(
        Wrong, match=r"the masked scores .* the first difference at .* expected -inf"
    ):
        judges.test_a_boolean_mask_puts_minus_infinity_where_it_is_false(
            use(apply_mask=apply_mask), (5, 7)
        )


# --- 1.7: the mask is on the device of lengths ---


def compared_with_arange(lengths: Tensor, T: int) -> Tensor:
    return (torch.arange(T) < lengths[:, None])[:, None, None, :]


def from_nested_lists(lengths: Tensor, T: int) -> Tensor:
    return torch.tensor([[[[i < n for i in range(T)]]] for n in lengths.tolist()])


def filled_row_by_row(lengths: Tensor, T: int) -> Tensor:
    mask = torch.zeros(len(lengths), 1, 1, T, dtype=torch.bool)
    for row, length in zip(mask, lengths.tolist(), strict=True):
        row[..., :length] = True
    return mask


@pytest.mark.parametrize("wrong", [compared_with_arange, from_nested_lists, filled_row_by_row])
def test_a_mask_on_the_default_device_is_wrong(wrong: Callable[..., Tensor]) -> None:
    with pytest.raises((Wrong, RuntimeError), match="device"):
        judges.test_the_padding_mask_is_on_the_device_of_lengths(use(padding_mask=wrong))


def lists_on_the_right_device(lengths: Tensor, T: int) -> Tensor:
    rows = [[[[i < n for i in range(T)]]] for n in lengths.tolist()]
    return torch.tensor(rows, device=lengths.device)


def new_zeros_of_lengths(lengths: Tensor, T: int) -> Tensor:
    mask = lengths.new_zeros(len(lengths), T).bool()
    for row, length in zip(mask, lengths, strict=True):
        row[: int(length)] = True
    return mask[:, None, None, :]


def counted_by_cumsum(lengths: Tensor, T: int) -> Tensor:
    positions = torch.ones(T, device=lengths.device).cumsum(0)
    return (positions <= lengths.view(-1, 1)).view(-1, 1, 1, T)


@pytest.mark.parametrize(
    "right", [lists_on_the_right_device, new_zeros_of_lengths, counted_by_cumsum]
)
def test_every_way_to_use_the_device_of_lengths_passes(right: Callable[..., Tensor]) -> None:
    judges.test_the_padding_mask_is_on_the_device_of_lengths(use(padding_mask=right))


# --- 1.14: no tensor holds a query's scores for all keys ---


def in_blocks_of_queries(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    blocks = q.split(block_size, dim=-2)
    return torch.cat([scaled_dot_product_attention(block, k, v)[0] for block in blocks], dim=-2)


def query_by_query(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    rows = [torch.softmax(k @ row / math.sqrt(q.size(-1)), 0) @ v for row in q]
    return torch.stack(rows)


def blocks_joined_again(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    blocks = [q @ block.mT / math.sqrt(q.size(-1)) for block in k.split(block_size, dim=-2)]
    return torch.softmax(torch.cat(blocks, -1), -1) @ v


@pytest.mark.parametrize("wrong", [in_blocks_of_queries, query_by_query, blocks_joined_again])
@pytest.mark.parametrize("n_queries", [1, 2])
def test_all_scores_of_a_query_at_once_are_too_many(
    wrong: Callable[..., Tensor], n_queries: int
) -> None:
    with pytest.raises(Wrong, match="holds a query's scores for all keys: go through the keys in"):
        judges.test_online_attention_never_holds_a_whole_row_of_scores(
            use(online_attention=wrong), n_queries
        )


def in_float64_on_copies(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    largest = torch.full((*q.shape[:-1], 1), -math.inf, dtype=torch.float64)
    total = torch.zeros_like(largest)
    mixed = torch.zeros(*q.shape[:-1], v.size(-1), dtype=torch.float64)
    keys = k.double().mT.contiguous().split(block_size, dim=-1)
    for block, values in zip(keys, v.double().clone().split(block_size, dim=-2), strict=True):
        scores = q.double() @ block / math.sqrt(q.size(-1))
        new_largest = torch.maximum(largest, scores.amax(-1, keepdim=True))
        exps = (scores - new_largest).exp()
        rescale = (largest - new_largest).exp()
        total = total * rescale + exps.sum(-1, keepdim=True)
        mixed = mixed * rescale + exps @ values
        largest = new_largest
    return (mixed / total).to(q.dtype)


def test_copies_of_the_keys_and_values_are_allowed() -> None:
    for n_queries in (1, 2):
        judges.test_online_attention_never_holds_a_whole_row_of_scores(
            use(online_attention=in_float64_on_copies), n_queries
        )
