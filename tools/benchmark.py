"""How fast does a model speak here? Tokens per second, with the cache and without, in one run.

    python tools/benchmark.py
    python tools/benchmark.py --batch-sizes 1 8 16 --rounds 5

The two loops take turns, so that a machine that slows down for a while slows both; the medians and
their ratio are what to quote. The weights are random: speed does not depend on what is said.
"""

import platform
import statistics
import time
from collections.abc import Sequence

import torch

from generator import choose_with, generate_tokens
from model.config import MODERN
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.command_line import OneLineParser
from utils.config import ModelConfig, SampleConfig
from utils.errors import UsageError, run_program

MODEL = ModelConfig(max_seq_len=256, d_model=128, n_layers=4, n_heads=4, **MODERN)
NEW_TOKENS = 255  # one token of prompt and these fill the context


def main() -> None:
    """Print one line for each batch size."""
    parser = OneLineParser(description="Measure generation, with and without the cache.")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each loop")
    args = parser.parse_args()
    if args.rounds < 1 or min(args.batch_sizes) < 1:
        raise UsageError("--rounds and --batch-sizes must be 1 or more")
    model = TinyTransformerLM(MODEL, Parts.fused()).eval()
    print(f"{MODEL.n_layers} layers x {MODEL.d_model}, context {MODEL.max_seq_len}, float32")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(f"{'batch':>5} {'cached':>16} {'uncached':>16} {'ratio':>7}   (median tokens/s, spread)")
    for batch_size in args.batch_sizes:
        cached, uncached = measure(model, batch_size, args.rounds)
        ratio = statistics.median(cached) / statistics.median(uncached)
        print(f"{batch_size:>5} {shown(cached):>16} {shown(uncached):>16} {ratio:>7.1f}")


def measure(
    model: TinyTransformerLM, batch_size: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Tokens per second of `rounds` runs with the cache and as many without, in turn."""
    tokens_per_second(model, batch_size, use_cache=True)  # warms up and does not count
    runs = [
        [tokens_per_second(model, batch_size, use_cache) for use_cache in (True, False)]
        for _ in range(rounds)
    ]
    cached, uncached = zip(*runs, strict=True)
    return list(cached), list(uncached)


def tokens_per_second(model: TinyTransformerLM, batch_size: int, use_cache: bool) -> float:
    """All new tokens of all rows, over the wall-clock time they took."""
    choose = choose_with(SampleConfig())
    prompts = [[1]] * batch_size
    start = time.perf_counter()
    for _ in generate_tokens(model, MODEL, prompts, NEW_TOKENS, choose, use_cache):
        pass
    return batch_size * NEW_TOKENS / (time.perf_counter() - start)


def shown(speeds: Sequence[float]) -> str:
    """Median, and half the distance between the fastest and the slowest run."""
    spread = (max(speeds) - min(speeds)) / 2
    return f"{statistics.median(speeds):,.0f} +- {spread:,.0f}"


if __name__ == "__main__":
    run_program(main)
