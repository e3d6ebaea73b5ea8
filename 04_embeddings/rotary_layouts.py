"""Two layouts of RoPE, and how weights move between them.

    halves        feature i turns with feature i + d_head / 2     Llama in Hugging Face, and here
    interleaved   feature 2i turns with feature 2i + 1            Su et al. 2021, Llama by Meta

Both turn d_head / 2 pairs by the same angles; only the places of the features differ. A score sums
over all features, so if queries and keys are permuted alike, it stays the same. The permutation is
applied once, to the rows of W_q and W_k, when a checkpoint changes its layout.

Dimensions: B batch, T positions, d_head features per head.
"""

import torch
from torch import Tensor

from positional_embeddings import apply_rotary, rotary_angles
from utils.errors import UsageError, run_program


def apply_rotary_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of neighbours (x[2i], x[2i + 1]) of a query or key by its angle.

    x (B, n_heads, T, d_head); cos and sin broadcast to (B, n_heads, T, d_head / 2). Returns the
    shape and dtype of x.
    """
    first, second = x[..., 0::2], x[..., 1::2]  # each (B, n_heads, T, d_head / 2)
    pairs = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return pairs.flatten(-2).to(x.dtype)  # (..., d_head / 2, 2) -> (..., d_head)


def interleaved_to_halves(weight: Tensor, n_heads: int) -> Tensor:
    """Reorder the rows of q_proj or k_proj: in each head first the even rows, then the odd ones.

    weight (n_heads * d_head, ...), a matrix or its bias; for k_proj, n_heads is n_kv_heads.
    """
    # Axis by axis: the head, the pair, its first or second row.
    pairs = weight.reshape(n_heads, half_of_head(weight, n_heads), 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape)  # now all first rows come first


def halves_to_interleaved(weight: Tensor, n_heads: int) -> Tensor:
    """The inverse of interleaved_to_halves."""
    halves = weight.reshape(n_heads, 2, half_of_head(weight, n_heads), *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def half_of_head(weight: Tensor, n_heads: int) -> int:
    """d_head / 2. Raises UsageError unless the rows are n_heads heads of an even width."""
    if len(weight) % (2 * n_heads) != 0:
        raise UsageError(f"{len(weight)} rows can't be {n_heads} heads of pairs")
    return len(weight) // (2 * n_heads)


def main() -> None:
    """Print that permuted weights give the same scores in the other layout."""
    torch.manual_seed(0)
    x = torch.randn(5, 8)  # (T, d_model); one head of 8 features
    w_q, w_k = torch.randn(8, 8), torch.randn(8, 8)
    cos, sin = rotary_angles(torch.arange(5), 8)
    q, k = (apply_rotary_interleaved(x @ w.T, cos, sin) for w in (w_q, w_k))
    moved = [interleaved_to_halves(w, n_heads=1) for w in (w_q, w_k)]
    q_moved, k_moved = (apply_rotary(x @ w.T, cos, sin) for w in moved)
    print("scores of the last token")
    print("  neighbours turned:                   ", rounded(q[-1] @ k.T))
    print("  weights permuted, halves turned:     ", rounded(q_moved[-1] @ k_moved.T))
    forgotten = apply_rotary(x @ w_q.T, cos, sin)[-1] @ apply_rotary(x @ w_k.T, cos, sin).T
    print("  not permuted, halves turned (a bug): ", rounded(forgotten))


def rounded(values: Tensor) -> list[float]:
    return [round(value, 2) for value in values.tolist()]


if __name__ == "__main__":
    run_program(main)
