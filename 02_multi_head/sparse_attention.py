"""Sparse attention: compute only those blocks of scores in which something is allowed.

    output_i = sum_j a_ij v_j,    a_ij proportional to exp(q_i k_j / sqrt(d_k)) for allowed (i, j)

A mask saves no work by itself: all T x T scores are computed, and most of them overwritten with
-inf. Work is saved where whole blocks are forbidden, because those need not be computed at all:

    sliding_window_attention    a regular pattern: one product for all blocks, no loop
    block_sparse_attention      any mask: each block of queries gathers the keys that it needs

Child et al. 2019 (arXiv 1904.10509) trained the first such transformers; the window is that of
Beltagy et al. 2020 (arXiv 2004.05150, section 3.1). Both functions compute what masked attention
computes.

Dimensions: T_q queries, T_k keys, d_k and d_v widths, n_blocks = T / window rounded up.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from attention import scaled_dot_product_attention
from utils.errors import run_program
from utils.shape_checker import check_shape, check_shapes


def sliding_window_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention in which each query sees the `window` positions that end with itself.

    q and k (..., T, d_k), v (..., T, d_v); returns (..., T, d_v). The work grows with T * window.
    """
    check_shapes(q=(q, ("...", "T", "d_k")), k=(k, ("...", "T", "d_k")), v=(v, ("...", "T", "d_v")))
    lead, T = q.shape[:-2], q.size(-2)
    n_blocks = -(-T // window)  # rounded up
    # Blocks as long as the window: what a query may see lies in its own block and the one before.
    queries = in_blocks(q, n_blocks, window)  # (N, n_blocks, window, d_k)
    keys = with_previous(in_blocks(k, n_blocks, window))  # (N, n_blocks, 2 * window, d_k)
    values = with_previous(in_blocks(v, n_blocks, window))
    # In such a pair of blocks, query i stands at place window + i; key j stands at place j.
    i, j = torch.arange(window, device=q.device)[:, None], torch.arange(2 * window, device=q.device)
    allowed = (i < j) & (j <= window + i)  # (window, 2 * window): the same for every block ...
    allowed = allowed.repeat(n_blocks, 1, 1)
    allowed[0, :, :window] = False  # ... but the first, which has nothing before it
    output, _ = scaled_dot_product_attention(queries, keys, values, allowed[None])
    return output.flatten(1, 2)[:, :T].reshape(*lead, T, v.size(-1))  # without the filling


def in_blocks(x: Tensor, n_blocks: int, size: int) -> Tensor:
    """(..., T, d) -> (N, n_blocks, size, d), filled up with zeros at the end."""
    filling = n_blocks * size - x.size(-2)
    filled = F.pad(x, (0, 0, 0, filling))  # later than every real query, so the mask hides it
    return filled.reshape(-1, n_blocks, size, x.size(-1))


def with_previous(blocks: Tensor) -> Tensor:
    """Each block behind the one before it: (N, n_blocks, size, d) -> (N, n_blocks, 2 * size, d)."""
    before = F.pad(blocks[:, :-1], (0, 0, 0, 0, 1, 0))  # zeros before the first
    return torch.cat([before, blocks], dim=2)


def block_sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block_size: int = 64
) -> Tensor:
    """Masked attention that skips every block in which the mask allows nothing.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v), mask (T_q, T_k) bool; returns
    (..., T_q, d_v). A query that may attend to nothing gets zeros.
    """
    check_shape(mask, ("T_q", "T_k"), "mask", T_q=q.size(-2), T_k=k.size(-2))
    needed = block_map(mask, block_size)  # (query blocks, key blocks)
    key_blocks = torch.arange(k.size(-2), device=k.device).split(block_size)
    query_blocks = q.split(block_size, dim=-2)
    outputs = []
    for queries, rows, row in zip(query_blocks, mask.split(block_size), needed, strict=True):
        columns = [block for block, is_needed in zip(key_blocks, row, strict=True) if is_needed]
        if not columns:  # no key for any of these queries
            outputs.append(queries.new_zeros((*queries.shape[:-1], v.size(-1))))
            continue
        # A query has one softmax over all its keys, so its blocks are gathered first. At the edges
        # of the pattern a block is allowed in part: there the mask still counts.
        seen = torch.cat(columns)  # positions of keys
        keys, values = k[..., seen, :], v[..., seen, :]
        output, _ = scaled_dot_product_attention(queries, keys, values, rows[:, seen])
        outputs.append(output)
    return torch.cat(outputs, dim=-2)


def block_map(mask: Tensor, block_size: int) -> Tensor:
    """Which blocks of a mask (T_q, T_k) allow something? (query blocks, key blocks) bool."""
    return torch.stack(
        [
            torch.stack([block.any() for block in rows.split(block_size, dim=1)])
            for rows in mask.split(block_size)
        ]
    )


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """What both are compared with: every score computed, and most of them thrown away."""
    return scaled_dot_product_attention(q, k, v, mask)[0]


def main() -> None:
    """Compare masked attention with both sparse ones, for longer and longer texts."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    window, width = 64, 64
    print(f"A causal window of {window} positions, one head of width {width}, milliseconds:\n")
    print(f"{'T':>6}{'masked':>9}{'blocks':>9}{'window':>9}   blocks computed   largest difference")
    for T in (512, 1024, 2048):
        q, k, v = (torch.randn(T, width) for _ in range(3))
        i, j = torch.arange(T)[:, None], torch.arange(T)
        mask = (j <= i) & (i - j < window)
        masked, milliseconds = timed(masked_attention, q, k, v, mask)
        blocks, of_blocks = timed(block_sparse_attention, q, k, v, mask, window)
        windowed, of_window = timed(sliding_window_attention, q, k, v, window)
        difference = max((one - masked).abs().max().item() for one in (blocks, windowed))
        share = block_map(mask, window).float().mean()
        times = f"{milliseconds:9.1f}{of_blocks:9.1f}{of_window:9.1f}"
        print(f"{T:6}{times}{share:17.0%}{difference:21.1e}")


def timed(attend: Callable[..., Tensor], *inputs: Tensor | int) -> tuple[Tensor, float]:
    """The result, and the fastest of five runs in milliseconds."""
    result, seconds = attend(*inputs), []
    for _ in range(5):
        start = time.perf_counter()
        attend(*inputs)
        seconds.append(time.perf_counter() - start)
    return result, 1000 * min(seconds)


if __name__ == "__main__":
    run_program(main)
