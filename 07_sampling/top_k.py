"""Top-k: draw only among the k best tokens.

    logits[v] = -inf   unless v is one of the k largest

A trained model leaves a little probability on every token, and thousands of unlikely ones together
are drawn often enough to derail a text. Top-k cuts that tail at a fixed length (Fan et al. 2018,
"Hierarchical Neural Story Generation").

Dimensions: `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

import math

import torch
from torch import Tensor

from utils.errors import UsageError, run_program


def top_k_filter(logits: Tensor, k: int | None) -> Tensor:
    """Keep the k largest of the logits (..., V), and set the others to -inf.

    Exactly k stay: of equal logits the lowest ids go first. k = None, or k >= V, keeps all.
    Raises UsageError for k < 1.
    """
    if k is None:
        return logits
    if k < 1:
        raise UsageError(f"top-k {k} would keep no token; give 1 or more, or none to keep all")
    # torch.topk is faster, but does not say which of equal values it returns.
    order = logits.argsort(dim=-1, descending=True, stable=True)  # ids, best first
    return keep_only(logits, order[..., :k])


def keep_only(logits: Tensor, ids: Tensor) -> Tensor:
    """The logits (..., V) with -inf everywhere but at the ids (..., k)."""
    dropped = torch.ones_like(logits, dtype=torch.bool).scatter(-1, ids, False)
    return logits.masked_fill(dropped, -math.inf)


def main() -> None:
    """Show what is left, and how the rest of the probability is shared out again."""
    words = ["cat", "dog", "owl", "bee", "ant"]
    logits = torch.tensor([2.0, 3.0, 1.0, -1.0, 1.0])
    print("   k" + "".join(f"{word:>7}" for word in words))
    for k in (1, 2, 3, None):
        probabilities = top_k_filter(logits, k).softmax(dim=-1)
        print(f"{k or 'all':>4}" + "".join(f"{p:7.3f}" for p in probabilities))
    print("owl and ant tie: with k = 3 the lower id stays")


if __name__ == "__main__":
    run_program(main)
