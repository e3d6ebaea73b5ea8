"""Flash attention: the output of attention.py, without ever holding its (T_q, T_k) matrix.

A query that has read some of the keys holds a partial result: m, the largest score; l, the sum of
exp(score - m); A, the sum of exp(score - m) * value. Two partial results a and b merge into one:

    m = max(m_a, m_b)
    l = exp(m_a - m) l_a + exp(m_b - m) l_b
    A = exp(m_a - m) A_a + exp(m_b - m) A_b        and after the last key, output = A / l

So keys may come tile by tile, and a tile is forgotten once it is merged. The backward pass computes
each tile again, and needs only m + log l for it, the log-sum-exp: one number a query.

The merge: Milakov and Gimelshein 2018 (arXiv 1805.02867), section 3.1. The tiles: Dao et al. 2022
(arXiv 2205.14135). Both passes: Dao 2023 (arXiv 2307.08691), algorithms 1 and 2. Their speed comes
from a GPU kernel that keeps its tiles on the chip; what loops in Python can show is the memory.

Dimensions: T_q queries, T_k keys, d_k width of queries and keys, d_v width of values.
"""

import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attention import scaled_dot_product_attention
from utils.errors import UsageError, run_program
from utils.shape_checker import check_shapes


class Partial(NamedTuple):
    """What queries hold after some of the keys."""

    largest: Tensor  # m (..., T_q, 1)
    total: Tensor  # l (..., T_q, 1)
    mixed: Tensor  # A (..., T_q, d_v)


def read_nothing(q: Tensor, v: Tensor) -> Partial:
    """The partial result before the first key: merging with it changes nothing."""
    zero = q.new_zeros(*q.shape[:-1], 1)
    return Partial(zero - math.inf, zero, zero.expand(*q.shape[:-1], v.size(-1)))


def read_tile(scores: Tensor, v: Tensor) -> Partial:
    """The partial result of scores (..., T_q, T_k), -inf where hidden, and v (..., T_k, d_v)."""
    largest = scores.amax(-1, keepdim=True)
    exps = torch.exp(scores - finite(largest))
    return Partial(largest, exps.sum(-1, keepdim=True), exps @ v)


def merge(a: Partial, b: Partial) -> Partial:
    """The partial result of the keys of both, in whichever order they came."""
    largest = torch.maximum(a.largest, b.largest)
    scale_a = torch.exp(a.largest - finite(largest))  # 1 where the maximum is a's, else less
    scale_b = torch.exp(b.largest - finite(largest))
    total = scale_a * a.total + scale_b * b.total
    return Partial(largest, total, scale_a * a.mixed + scale_b * b.mixed)


def finite(largest: Tensor) -> Tensor:
    """0 in place of -inf: for a query that saw nothing, -inf - -inf would be nan."""
    return largest.masked_fill(largest == -math.inf, 0.0)


def finish(part: Partial) -> tuple[Tensor, Tensor]:
    """(output (..., T_q, d_v), log-sum-exp (..., T_q, 1)); a query that saw nothing gives zeros."""
    total = part.total.clamp(min=1.0)  # the largest score adds 1, so only seeing nothing is less
    return part.mixed / total, finite(part.largest) + total.log()


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
    """Both passes, tile by tile; between them only the output and the log-sum-exp are kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, offset: int, block_size: int) -> Tensor:
        """Algorithm 1 of Dao 2023."""
        output = q.new_empty(*q.shape[:-1], v.size(-1))
        log_sum = q.new_empty(*q.shape[:-1], 1)
        for rows in blocks(q.size(-2), block_size):
            part = read_nothing(q[..., rows, :], v)
            # Keys that even the last of these queries may not see are never read.
            for columns in blocks(min(k.size(-2), rows.stop + offset), block_size):
                scores = tile_scores(q, k, rows, columns, offset)
                part = merge(part, read_tile(scores, v[..., columns, :]))
            output[..., rows, :], log_sum[..., rows, :] = finish(part)
        ctx.save_for_backward(q, k, v, output, log_sum)
        ctx.offset, ctx.block_size = offset, block_size
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Algorithm 2 of Dao 2023: the equations of attention_numpy.py, a tile at a time.

        Those subtract rowsum(dP * P) from dP. As dP = dO V^T and O = P V, it is rowsum(dO * O),
        which needs no tile.
        """
        q, k, v, output, log_sum = ctx.saved_tensors
        row_sum = (d_output * output).sum(-1, keepdim=True)  # (..., T_q, 1)
        d_queries, d_keys, d_values = (torch.zeros_like(x) for x in (q, k, v))
        for rows in blocks(q.size(-2), ctx.block_size):
            d_out = d_output[..., rows, :]
            for columns in blocks(min(k.size(-2), rows.stop + ctx.offset), ctx.block_size):
                scores = tile_scores(q, k, rows, columns, ctx.offset)
                weights = torch.exp(scores - log_sum[..., rows, :])
                d_weights = d_out @ v[..., columns, :].mT
                d_scores = weights * (d_weights - row_sum[..., rows, :]) / math.sqrt(q.size(-1))
                d_queries[..., rows, :] += d_scores @ k[..., columns, :]
                d_keys[..., columns, :] += d_scores.mT @ q[..., rows, :]
                d_values[..., columns, :] += weights.mT @ d_out
        return d_queries, d_keys, d_values, None, None


def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, block_size: int = 64
) -> Tensor:
    """Scaled dot-product attention in memory that grows with T, not with its square.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); returns (..., T_q, d_v). Causal: the
    last query sees every key, each query before it one key less (so where T_q > T_k, the first
    ones see nothing and give zeros). The gradient cannot be differentiated again. Raises
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


class MemoryMeter(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations make, for as long as each of them lives."""

    alive = peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for storage in storages(result) - storages((args, kwargs)):  # a view is nothing new
            self.count(storage.nbytes())
            weakref.finalize(storage, self.count, -storage.nbytes())
        return result

    def count(self, n_bytes: int) -> None:
        self.alive += n_bytes
        self.peak = max(self.peak, self.alive)


def storages(tree: Any) -> set[torch.UntypedStorage]:
    return {x.untyped_storage() for x in tree_leaves(tree) if isinstance(x, Tensor)}


def both_passes(attend: Callable[..., Tensor], *inputs: Tensor) -> tuple[list[Tensor], int]:
    """The output and the gradients of the sum of its squares, and the peak memory in bytes."""
    with MemoryMeter() as meter:
        output = attend(*inputs)
        gradients = torch.autograd.grad(output.square().sum(), inputs)
    return [output, *gradients], meter.peak


def main() -> None:
    """Compare the numbers with the plain way's, and the memory, as T doubles."""
    torch.manual_seed(0)
    print("One head of width 64, forward and backward; peak memory in KiB:\n")
    print("     T     plain     tiled   results differ by at most")
    for T in (256, 512, 1024, 2048):
        inputs = [torch.randn(T, 64, requires_grad=True) for _ in range(3)]
        plain, plain_peak = both_passes(lambda *x: scaled_dot_product_attention(*x)[0], *inputs)
        tiled, tiled_peak = both_passes(flash_attention, *inputs)
        error = max((x - y).abs().max().item() for x, y in zip(plain, tiled, strict=True))
        print(f"{T:6} {plain_peak // 1024:9,} {tiled_peak // 1024:9,}   {error:.1e}")


if __name__ == "__main__":
    run_program(main)
