"""Scaled dot-product attention from scratch: the softmax, the masks and equation 1.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V        Vaswani et al. 2017, equation 1

Each token has three vectors: a query (what it is looking for), a key (what it can be found by) and
a value (what it hands over when found). A score, the dot product of a query and a key, measures how
well they match. The softmax turns each row of scores into weights that sum to 1, and the output is
the weighted sum of the values.

Dimensions: B batch, T_q queries, T_k keys, d_k width of queries and keys, d_v width of values.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from utils.errors import run_program
from utils.shape_checker import ShapeError, check_shapes


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """exp(x_i) / sum_j exp(x_j) along `dim`; a row of only -inf gives zeros."""
    # exp(x - c) / sum exp(x - c) is the same for every c; c = max(x) keeps exp() from overflowing.
    largest = x.detach().amax(dim, keepdim=True)  # detached: c cancels, and so does its gradient
    largest = largest.masked_fill(largest == -math.inf, 0.0)  # -inf - -inf would be nan
    exps = torch.exp(x - largest)  # in [0, 1]
    # The largest entry contributes exp(0) = 1, so only a row of -inf has a sum below 1.
    return exps / exps.sum(dim, keepdim=True).clamp(min=1.0)


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Position i may attend to itself and to the past, never to the future.

    Returns (T, T) bool, True where query i may attend to key j, that is j <= i.
    """
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """Hide the padding in a batch of sequences that are padded on the right.

    lengths (B,) integers; returns (B, 1, 1, T) bool, True where the key is a real token.
    """
    positions = torch.arange(T, device=lengths.device)  # (T,)
    is_token = positions < lengths[:, None]  # (B, T)
    return is_token[:, None, None, :]  # (B, 1, 1, T): the same for every head and every query


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
    # Q K^T / sqrt(d_k): a sum of d_k products; the division keeps its variance near 1.
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (..., T_q, T_k)
    if mask is not None:
        scores = apply_mask(scores, mask)  # before the softmax: hidden keys get no share of the sum
    weights = softmax(scores, dim=-1)  # over the keys
    return weights @ v, weights  # output (..., T_q, d_v)


def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Boolean masks put -inf where False; floating masks are added (ALiBi, T5).

    scores (..., T_q, T_k); mask of any shape that broadcasts to it.
    """
    check_mask(mask, scores.shape)
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -math.inf)  # exp(-inf) = 0: weight exactly zero
    return scores + mask.to(scores.dtype)


class AttentionFunction(Protocol):
    """The interface of every attention function in the course: this one, fused kernels, yours."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]: ...


def check_mask(mask: Tensor, scores: torch.Size) -> None:
    """Raise ShapeError for a mask that does not broadcast to `scores`, or might do so by mistake.

    Plain broadcasting would line up the B of a (B, T_q, T_k) mask with n_heads: no error if B and
    n_heads are equal, and a wrong result.
    """
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


def main() -> None:
    """Print the attention weights of four tokens under a causal mask."""
    torch.manual_seed(0)
    words = ["the", "cat", "sat", "down"]
    x = torch.randn(4, 8)  # four tokens, eight features; queries, keys and values are all x
    _, weights = scaled_dot_product_attention(x, x, x, causal_mask(4))
    print("Each row: how a token divides its attention among itself and earlier tokens\n")
    print(" " * 6 + "".join(f"{word:>6}" for word in words))
    for word, row in zip(words, weights, strict=True):
        print(f"{word:>6}" + "".join(f"{weight:6.2f}" for weight in row))


if __name__ == "__main__":
    run_program(main)
