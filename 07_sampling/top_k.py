"""Top-k: sample from the k most probable tokens only.

    logits[v] = -inf   unless v is one of the k largest

A trained model gives a little probability to every token, and thousands of unlikely tokens together
are sampled often enough to derail a text. Top-k cuts off that tail after a fixed number of tokens
(Fan et al. 2018, "Hierarchical Neural Story Generation").

Dimensions: `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

import math

import torch
from torch import Tensor

from utils.errors import UsageError, run_program


def top_k_filter(logits: Tensor, k: int | None) -> Tensor:
    """Keep the k largest logits of each row (..., V), and set the others to -inf.

    Exactly k are kept: of equal logits, those with the lowest ids. k = None, or k >= V, keeps all.
    Raises UsageError for k < 1.
    """
    if k is None:
        return logits
    if k < 1:
        raise UsageError(f"top-k {k} would keep no token; give 1 or more, or none to keep all")
    # torch.topk is faster, but does not define which of several equal values it returns.
    order = logits.argsort(dim=-1, descending=True, stable=True)  # ids, best first
    return keep_only(logits, order[..., :k])  # a slice beyond V keeps all


def keep_only(logits: Tensor, ids: Tensor) -> Tensor:
    """The logits (..., V), with -inf everywhere except at the ids (..., k)."""
    dropped = torch.ones_like(logits, dtype=torch.bool).scatter(-1, ids, False)  # (..., V)
    return logits.masked_fill(dropped, -math.inf)  # exp(-inf) = 0: the softmax divides by the rest


def main() -> None:
    """Show which tokens are kept, and how the probability is redistributed among them."""
    words = ["cat", "dog", "owl", "bee", "ant"]
    logits = torch.tensor([2.0, 3.0, 1.0, -1.0, 1.0])
    print("   k" + "".join(f"{word:>7}" for word in words))
    for k in (1, 2, 3, None):
        probabilities = top_k_filter(logits, k).softmax(dim=-1)
        print(f"{k or 'all':>4}" + "".join(f"{p:7.3f}" for p in probabilities))
    print("owl and ant tie: with k = 3 the lower id is kept")


if __name__ == "__main__":
    run_program(main)
