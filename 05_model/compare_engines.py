"""One checkpoint, many engines: the same logits from every code that can compute them.

    python 05_model/compare_engines.py

Each engine gets the weights of one checkpoint and the same random tokens. Rounding differs, because
sums are taken in another order; anything above 1e-4 would be a mistake.
"""

from pathlib import Path

import numpy as np
import torch

import fused
from attention_numpy import Array
from numpy_checkpoint import newest_checkpoint, read_checkpoint
from numpy_forward import NumpyLM
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.command_line import OneLineParser
from utils.errors import run_program

ENGINES = {  # the same layers, with either of the two fast kinds of attention
    "fused, with sdpa": Parts.fused(fused.sdpa),
    "fused, with matmul": Parts.fused(fused.matmul_attention),
}


def torch_logits(model: NumpyLM, tokens: Array, parts: Parts) -> Array:
    """The logits (B, T, vocab_size) that PyTorch computes from the same weights."""
    twin = TinyTransformerLM(model.config, parts)
    # One state_dict for all: every engine has the same names and shapes.
    twin.load_state_dict({name: torch.from_numpy(w) for name, w in model.weights.items()})
    with torch.inference_mode():
        return twin.eval()(torch.from_numpy(tokens)).numpy()  # eval: dropout would differ


def compare(model: NumpyLM, tokens: Array, engines: dict[str, Parts] | None = None) -> None:
    """Print how far the logits of each engine are from those of the lessons' code."""
    # The code of the lessons is the truth here: it is the one that is tested against PyTorch.
    reference = torch_logits(model, tokens, Parts.reference())
    print(f"\nlogits from {reference.min():.1f} to {reference.max():.1f}; the largest difference")
    print("from those of the reference, the code of the lessons:")
    others = {"NumPy": model(tokens)}  # no PyTorch at all: an independent second opinion
    for name, parts in {**ENGINES, **(engines or {})}.items():
        others[name] = torch_logits(model, tokens, parts)
    for name, logits in others.items():
        # The largest, not the mean: one wrong position must not hide among thousands of right ones.
        print(f"  {name:<20} {np.abs(logits - reference).max():.1e}")


def main() -> None:
    """Compare the engines, and your own code, on random tokens."""
    parser = OneLineParser(description="Compare the logits of all engines on one checkpoint.")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="default: the newest")
    args = parser.parse_args()
    path = args.checkpoint or newest_checkpoint()
    config, weights, _ = read_checkpoint(path)
    shape = (3, config.max_seq_len)  # (B, T): a full context, so every position is compared
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=shape)
    print(f"{path.name}: {shape[0]} sequences of {shape[1]} random tokens")
    compare(NumpyLM(config, weights), tokens, {"your own parts": Parts.mine(config)})


if __name__ == "__main__":
    run_program(main)
