"""Flash attention: the same output as attention.py, without the (T_q, T_k) matrix in memory.

The keys are read tile by tile. For the keys read so far, each query keeps three running values:

    m = max_j s_j                    the largest score
    l = sum_j exp(s_j - m)           the sum of exponentials
    A = sum_j exp(s_j - m) v_j       the weighted sum of the values, not yet normalized

The states of two sets of keys, a and b, merge into the state of both:

    m = max(m_a, m_b)
    l = exp(m_a - m) l_a + exp(m_b - m) l_b
    A = exp(m_a - m) A_a + exp(m_b - m) A_b        after the last key, output = A / l

So a tile can be discarded as soon as it is merged. The backward pass recomputes each tile; all it
needs for that is the log-sum-exp L = m + log l, one value per query.

The merge: Milakov and Gimelshein 2018 (arXiv 1805.02867), section 3.1. The tiles: Dao et al. 2022
(arXiv 2205.14135). Both passes: Dao 2023 (arXiv 2307.08691), algorithms 1 and 2. Their speed comes
from a GPU kernel that keeps each tile in on-chip memory. Python loops are slow, but they save the
same memory.

Dimensions: T_q queries, T_k keys, d_k width of queries and keys, d_v width of values.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attention import scaled_dot_product_attention
from memory_meter import forward_and_backward
from utils.errors import UsageError, run_program
from utils.shape_checker import check_shapes


class SoftmaxState(NamedTuple):
    """The running softmax of each query over the keys read so far."""

    row_max: Tensor  # m (..., T_q, 1)
    exp_sum: Tensor  # l (..., T_q, 1)
    weighted_sum: Tensor  # A (..., T_q, d_v)


def empty_state(q: Tensor, v: Tensor) -> SoftmaxState:
    """The state before the first key: m = -inf, l = 0, A = 0; merging with it changes nothing."""
    zero = q.new_zeros(*q.shape[:-1], 1)
    return SoftmaxState(zero - math.inf, zero, zero.expand(*q.shape[:-1], v.size(-1)))


def tile_state(scores: Tensor, v: Tensor) -> SoftmaxState:
    """The state of one tile: scores (..., T_q, T_k), -inf where hidden, and v (..., T_k, d_v)."""
    row_max = scores.amax(-1, keepdim=True)  # m
    exps = torch.exp(scores - finite(row_max))  # exp(s_j - m)
    return SoftmaxState(row_max, exps.sum(-1, keepdim=True), exps @ v)


def merge(a: SoftmaxState, b: SoftmaxState) -> SoftmaxState:
    """The state of the keys of both; the order does not matter."""
    row_max = torch.maximum(a.row_max, b.row_max)  # m
    scale_a = torch.exp(a.row_max - finite(row_max))  # exp(m_a - m): 1 if a holds the maximum
    scale_b = torch.exp(b.row_max - finite(row_max))  # exp(m_b - m)
    exp_sum = scale_a * a.exp_sum + scale_b * b.exp_sum  # l
    weighted_sum = scale_a * a.weighted_sum + scale_b * b.weighted_sum  # A
    return SoftmaxState(row_max, exp_sum, weighted_sum)


def finite(row_max: Tensor) -> Tensor:
    """Replace -inf by 0: for a query that has seen no key, -inf - -inf would be nan."""
    return row_max.masked_fill(row_max == -math.inf, 0.0)


def finalize(state: SoftmaxState) -> tuple[Tensor, Tensor]:
    """(output (..., T_q, d_v), log-sum-exp (..., T_q, 1)); a query that saw no key gives zeros."""
    exp_sum = state.exp_sum.clamp(min=1.0)  # the largest score adds exp(0) = 1: below 1 means 0
    output = state.weighted_sum / exp_sum  # A / l
    log_sum_exp = finite(state.row_max) + exp_sum.log()  # L = m + log l
    return output, log_sum_exp


def blocks(T: int, block_size: int) -> list[slice]:
    """Cut T positions into slices of block_size; the last may be shorter."""
    return [slice(i, min(i + block_size, T)) for i in range(0, T, block_size)]


def tile_scores(q: Tensor, k: Tensor, rows: slice, columns: slice, offset: int) -> Tensor:
    """One tile of Q K^T / sqrt(d_k), with -inf where j > i + offset: query i may not see key j."""
    scores = q[..., rows, :] @ k[..., columns, :].mT / math.sqrt(q.size(-1))
    i = torch.arange(rows.start, rows.stop, device=q.device)[:, None]
    j = torch.arange(columns.start, columns.stop, device=q.device)
    return scores.masked_fill(j > i + offset, -math.inf)


class FlashAttention(torch.autograd.Function):
    """Both passes tile by tile; only Q, K, V, the output and the log-sum-exp are saved."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, offset: int, block_size: int) -> Tensor:
        """Algorithm 1 of Dao 2023."""
        output = q.new_empty(*q.shape[:-1], v.size(-1))
        log_sum_exp = q.new_empty(*q.shape[:-1], 1)
        for rows in blocks(q.size(-2), block_size):
            state = empty_state(q[..., rows, :], v)
            # Keys that even the last of these queries may not see are never read.
            for columns in blocks(min(k.size(-2), rows.stop + offset), block_size):
                scores = tile_scores(q, k, rows, columns, offset)
                state = merge(state, tile_state(scores, v[..., columns, :]))
            output[..., rows, :], log_sum_exp[..., rows, :] = finalize(state)
        ctx.save_for_backward(q, k, v, output, log_sum_exp)
        ctx.offset = offset
        ctx.block_size = block_size
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Algorithm 2 of Dao 2023: the equations of attention_numpy.py, one tile at a time.

        Those subtract rowsum(dP * P) from dP. Since dP = dO V^T and O = P V, it equals
        rowsum(dO * O), which needs no tile.
        """
        q, k, v, output, log_sum_exp = ctx.saved_tensors
        row_sum = (d_output * output).sum(-1, keepdim=True)  # rowsum(dO * O)  (..., T_q, 1)
        d_queries, d_keys, d_values = (torch.zeros_like(x) for x in (q, k, v))
        for rows in blocks(q.size(-2), ctx.block_size):
            d_out = d_output[..., rows, :]  # dO
            for columns in blocks(min(k.size(-2), rows.stop + ctx.offset), ctx.block_size):
                scores = tile_scores(q, k, rows, columns, ctx.offset)  # S, recomputed
                weights = torch.exp(scores - log_sum_exp[..., rows, :])  # P = exp(S - L)
                d_weights = d_out @ v[..., columns, :].mT  # dP = dO V^T
                # dS, already divided by sqrt(d_k)
                d_scores = weights * (d_weights - row_sum[..., rows, :]) / math.sqrt(q.size(-1))
                d_queries[..., rows, :] += d_scores @ k[..., columns, :]  # dQ = dS K
                d_keys[..., columns, :] += d_scores.mT @ q[..., rows, :]  # dK = dS^T Q
                d_values[..., columns, :] += weights.mT @ d_out  # dV = P^T dO
        return d_queries, d_keys, d_values, None, None


def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, block_size: int = 64
) -> Tensor:
    """Scaled dot-product attention whose memory grows linearly with the number of positions.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); returns (..., T_q, d_v). Causal: the
    last query sees every key, each earlier query one key less than the next (so where T_q > T_k,
    the first ones see none and give zeros). Second derivatives are not supported. Raises
    ShapeError, and UsageError if block_size is not positive.
    """
    check_shapes(
        q=(q, ("...", "T_q", "d_k")),
        k=(k, ("...", "T_k", "d_k")),
        v=(v, ("...", "T_k", "d_v")),
    )
    if block_size < 1:
        raise UsageError(f"block_size is {block_size}; it must be at least 1")
    lead = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (x.expand(*lead, *x.shape[-2:]) for x in (q, k, v))
    offset = k.size(-2) - (q.size(-2) if causal else 0)  # query i sees key j if j <= i + offset
    return FlashAttention.apply(q, k, v, offset, block_size)


def main() -> None:
    """Compare results and peak memory with plain attention as T doubles."""
    torch.manual_seed(0)
    print("One head of width 64, forward and backward; peak memory in KiB:\n")
    print("     T     plain     tiled   largest difference")
    for T in (256, 512, 1024, 2048):
        inputs = [torch.randn(T, 64, requires_grad=True) for _ in range(3)]
        plain, plain_peak = forward_and_backward(
            lambda *x: scaled_dot_product_attention(*x)[0], *inputs
        )
        tiled, tiled_peak = forward_and_backward(flash_attention, *inputs)
        error = max((x - y).abs().max().item() for x, y in zip(plain, tiled, strict=True))
        print(f"{T:6} {plain_peak // 1024:9,} {tiled_peak // 1024:9,}   {error:.1e}")


if __name__ == "__main__":
    run_program(main)
