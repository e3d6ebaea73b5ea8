"""How fast can this machine be, and how much arithmetic does a model need?

    FLOP of one forward pass = 2 * T_q * weights  +  4 * n_layers * T_q * T_k * d_model
    FLOP of one training step = 3 * forward        the backward pass has two products for each one

A multiplication and an addition are two operations. `weights` are the entries of all matrices in
matrix products: the output layer counts; embedding tables do not, because they are looked up;
norms, biases and the softmax are small and do not count either. In the second term each query is
paired with all T_k positions twice, once for the scores and once for the weighted sum of values.
Masked keys count as if they were attended to, as in Chowdhery et al. 2022 (PaLM), appendix B, so
that shares of the peak can be compared with published ones.

Dimensions: T_q positions computed, T_k positions attended to, d_model features.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from utils.config import ModelConfig
from utils.device import describe_device, pick_device, synchronize
from utils.errors import run_program

SIZES = (512, 1024, 2048, 4096, 8192)  # a GPU needs the large ones; a laptop stops earlier
COPIED = 2**28  # bytes, more than fits in a processor's caches
MIN_ROUNDS = 3


def matmul_peak(
    dtype: torch.dtype,
    device: torch.device,
    sizes: Sequence[int] = SIZES,
    seconds: float = 1.0,
) -> float:
    """The fastest square matrix product found in about `seconds`, in FLOP/s."""
    return max(max(rates) for rates in matmul_rates(dtype, device, sizes, seconds).values())


def matmul_rates(
    dtype: torch.dtype,
    device: torch.device,
    sizes: Sequence[int] = SIZES,
    seconds: float = 1.0,
) -> dict[int, list[float]]:
    """FLOP/s of every round, for each size n of an (n, n) @ (n, n) product, smallest first.

    Stops before the first size that would take more than its share of the time.
    """
    rates: dict[int, list[float]] = {}
    for n in sorted(sizes):
        flops, budget = 2 * n**3, seconds / 2
        if rates and MIN_ROUNDS * flops / max(max(r) for r in rates.values()) > budget:
            break
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)  # allocated once, so that rounds do not time the allocation
        times = _rounds(partial(torch.mm, a, b, out=out), device, budget / 2)
        rates[n] = [flops / t for t in times]
    return rates


def memory_bandwidth(device: torch.device, n_bytes: int = COPIED, seconds: float = 0.5) -> float:
    """Bytes/s of the fastest copy of `n_bytes`; each byte counts twice, as it is read and written.

    This is the convention of the STREAM benchmark (McCalpin 1995).
    """
    source = torch.ones(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / min(_rounds(lambda: target.copy_(source), device, seconds))


def _rounds(run: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Seconds of each round, for about `seconds` in total."""
    _timed(run, device)  # a warm-up that does not count
    times: list[float] = []
    while len(times) < MIN_ROUNDS or sum(times) < seconds:
        times.append(_timed(run, device))
    return times


def _timed(run: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def product_weights(config: ModelConfig) -> int:
    """Weights in matrix products: all matrices except embedding tables that are looked up."""
    d_model, kv_width = config.d_model, config.kv_heads * config.d_head
    attention = 2 * d_model * d_model + 2 * d_model * kv_width  # q_proj, out_proj; k_proj, v_proj
    n_matrices = 3 if config.activation == "swiglu" else 2
    feed_forward = n_matrices * d_model * config.ff_width
    return config.n_layers * (attention + feed_forward) + config.vocab_size * d_model


def forward_flops(config: ModelConfig, T_q: int, T_k: int) -> int:
    """FLOP of T_q positions of one sequence that attend to T_k positions, including themselves."""
    scores_and_weighted_sums = 4 * config.n_layers * T_k * config.d_model
    return T_q * (2 * product_weights(config) + scores_and_weighted_sums)


def training_flops_per_token(config: ModelConfig) -> int:
    """FLOP per token of a full context, for the forward and the backward pass together."""
    T = config.max_seq_len
    return 3 * forward_flops(config, T, T) // T


def main() -> None:
    """Print this machine's peak in two precisions, and what training on one token costs."""
    device = pick_device()
    print(f"{describe_device(device)}, torch {torch.__version__}\n")
    print(f"{'matrix product':>16} {'best GFLOP/s':>14} {'median':>10} {'rounds':>8}")
    for dtype in (torch.float32, torch.bfloat16):
        print(str(dtype).removeprefix("torch."))
        for n, rates in matmul_rates(dtype, device).items():
            best, median = max(rates) / 1e9, statistics.median(rates) / 1e9
            print(f"{f'{n} x {n}':>16} {best:>14,.1f} {median:>10,.1f} {len(rates):>8}")
    print(f"\nmemory: a large copy moves {memory_bandwidth(device) / 1e9:.1f} GB/s")
    flops = training_flops_per_token(ModelConfig())
    print(f"training the default model takes {flops / 1e6:.2f} MFLOP per token")


if __name__ == "__main__":
    run_program(main)
