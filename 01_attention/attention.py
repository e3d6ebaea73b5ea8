"""Scaled dot-product attention, its softmax and its masks, written out.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V        Vaswani et al. 2017, equation 1

Every position asks a question (its query), offers a description of itself (its key), and carries
something to say (its value). A score says how well a key answers a query; the softmax turns a row
of scores into shares of attention; the output is the values mixed in those shares.

Dimensions: B batch, T_q queries, T_k keys, d_k width of queries and keys, d_v width of values.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from utils.errors import run_program
from utils.shape_checker import ShapeError, check_shapes


class AttentionFunction(Protocol):
    """What every attention of the course looks like: ours, PyTorch's fused one, and yours."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]: ...


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Exponentials that sum to 1 along `dim`; a row of only -inf gives zeros.

    Subtracting the largest entry changes nothing (it cancels) and keeps exp() from overflowing.
    """
    largest = x.detach().amax(dim, keepdim=True)  # a constant: its gradient cancels as well
    largest = largest.masked_fill(largest == -math.inf, 0.0)  # -inf - -inf would be nan
    exps = torch.exp(x - largest)
    # The largest entry contributes exp(0) = 1, so only a row of zeros sums to less than 1.
    return exps / exps.sum(dim, keepdim=True).clamp(min=1.0)


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Which positions position i may look at: itself and the past.

    Returns (T, T) bool, True where query i may attend to key j, that is j <= i.
    """
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """Which keys are tokens and not padding, for a batch of sequences padded on the right.

    lengths (B,) integers; returns (B, 1, 1, T) bool, True where the key is a real token.
    """
    positions = torch.arange(T, device=lengths.device)
    return (positions < lengths[:, None])[:, None, None, :]


def check_mask(mask: Tensor, scores: torch.Size) -> None:
    """Refuse a mask that could broadcast to something its owner did not mean: ShapeError."""
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ShapeError(
            f"mask has dtype {mask.dtype}: use bool (True = may attend), or floats, added "
            "to the scores"
        )
    if mask.dim() == 3 and len(scores) == 4 and mask.size(0) != 1:
        raise ShapeError(
            f"mask {tuple(mask.shape)} is ambiguous for scores {tuple(scores)}: if its first "
            "axis is the batch, write mask[:, None]; if it is the heads, write mask[None]"
        )
    try:
        fits = torch.broadcast_shapes(mask.shape, scores) == scores
    except RuntimeError:
        fits = False
    if not fits:
        raise ShapeError(f"mask {tuple(mask.shape)} does not broadcast to scores {tuple(scores)}")


def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Boolean masks put -inf where False; floating masks are added (ALiBi, T5).

    scores (..., T_q, T_k); mask of any shape that broadcasts to it.
    """
    check_mask(mask, scores.shape)
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -math.inf)
    return scores + mask.to(scores.dtype)


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mix the values, weighting each by how well its key answers the query.

    Returns (output (..., T_q, d_v), weights (..., T_q, T_k)). Each row of weights sums to 1, or is
    zero where the mask allows nothing. Vaswani et al. 2017, section 3.2.1.
    """
    check_shapes(
        q=(q, ("...", "T_q", "d_k")),
        k=(k, ("...", "T_k", "d_k")),
        v=(v, ("...", "T_k", "d_v")),
    )
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (..., T_q, T_k)
    if mask is not None:
        scores = apply_mask(scores, mask)
    weights = softmax(scores, dim=-1)
    return weights @ v, weights


def main() -> None:
    """Show how four tokens share their attention over themselves and the past."""
    torch.manual_seed(0)
    words = ["the", "cat", "sat", "down"]
    x = torch.randn(4, 8)  # four tokens, eight features; queries, keys and values are all x
    _, weights = scaled_dot_product_attention(x, x, x, causal_mask(4))
    print("Each row says how one token shares its attention over itself and the past:\n")
    print(" " * 6 + "".join(f"{word:>6}" for word in words))
    for word, row in zip(words, weights, strict=True):
        print(f"{word:>6}" + "".join(f"{weight:6.2f}" for weight in row))


if __name__ == "__main__":
    run_program(main)
