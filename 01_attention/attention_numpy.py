"""Attention in NumPy: the equation once more, and its gradients worked out by hand.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V        Vaswani et al. 2017, equation 1

PyTorch's autograd hides half of the work. Here it is in the open: `scaled_dot_product_attention`
goes forward, `attention_backward` comes back, and every number on the way is a plain array. All of
the computing is NumPy's; only the course's shape check, imported below, loads PyTorch.

Dimensions: B batch, T_q queries, T_k keys, d_k width of queries and keys, d_v width of values.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import run_program
from utils.shape_checker import ShapeError, check_shapes

Array = NDArray[Any]


def softmax(x: Array, axis: int = -1) -> Array:
    """Exponentials that sum to 1 along `axis`; a row of only -inf gives zeros."""
    largest = x.max(axis, keepdims=True)
    largest = np.where(largest == -np.inf, 0.0, largest)  # -inf - -inf would be nan
    exps = np.exp(x - largest)
    # The largest entry contributes exp(0) = 1, so only a row of zeros sums to less than 1.
    return exps / np.maximum(exps.sum(axis, keepdims=True), 1.0)


def causal_mask(T: int) -> NDArray[np.bool_]:
    """Which positions position i may look at: itself and the past.

    Returns (T, T) bool, True where query i may attend to key j, that is j <= i.
    """
    return np.tri(T, dtype=np.bool_)


def padding_mask(lengths: NDArray[np.integer[Any]], T: int) -> NDArray[np.bool_]:
    """Which keys are tokens and not padding, for a batch of sequences padded on the right.

    lengths (B,) integers; returns (B, 1, 1, T) bool, True where the key is a real token.
    """
    return np.arange(T) < lengths[:, None, None, None]


def check_mask(mask: Array, scores: tuple[int, ...]) -> None:
    """Refuse a mask that could broadcast to something its owner did not mean: ShapeError."""
    if mask.dtype != np.bool_ and not np.issubdtype(mask.dtype, np.floating):
        raise ShapeError(
            f"mask has dtype {mask.dtype}: use bool (True = may attend), or floats, added "
            "to the scores"
        )
    if mask.ndim == 3 and len(scores) == 4 and mask.shape[0] != 1:
        raise ShapeError(
            f"mask {mask.shape} is ambiguous for scores {scores}: if its first axis is the "
            "batch, write mask[:, None]; if it is the heads, write mask[None]"
        )
    try:
        fits = np.broadcast_shapes(mask.shape, scores) == scores
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"mask {mask.shape} does not broadcast to scores {scores}")


def apply_mask(scores: Array, mask: Array) -> Array:
    """Boolean masks put -inf where False; floating masks are added (ALiBi, T5).

    scores (..., T_q, T_k); mask of any shape that broadcasts to it.
    """
    check_mask(mask, scores.shape)
    if mask.dtype == np.bool_:
        return np.where(mask, scores, -np.inf)
    return scores + mask.astype(scores.dtype)


def scaled_dot_product_attention(
    q: Array, k: Array, v: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """Mix the values, weighting each by how well its key answers the query.

    Returns (output (..., T_q, d_v), weights (..., T_q, T_k)). Each row of weights sums to 1, or is
    zero where the mask allows nothing. Vaswani et al. 2017, section 3.2.1.
    """
    check_shapes(
        q=(q, ("...", "T_q", "d_k")),
        k=(k, ("...", "T_k", "d_k")),
        v=(v, ("...", "T_k", "d_v")),
    )
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (..., T_q, T_k)
    if mask is not None:
        scores = apply_mask(scores, mask)
    weights = softmax(scores)
    return weights @ v, weights


def attention_backward(
    d_output: Array, q: Array, k: Array, v: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """How the loss changes with the queries, the keys and the values, from how it does with O.

    With S = Q K^T / sqrt(d_k), P = softmax(S) the weights, O = P V, and dX for d loss / dX:

        dV = P^T dO                              a value is mixed into outputs, in shares P
        dP = dO V^T                              a share matters as its value points along dO
        dS = P * (dP - rowsum(dP * P))           softmax: what one key gains, the others lose
        dQ = dS K / sqrt(d_k)
        dK = dS^T Q / sqrt(d_k)

    The mask is not needed: where it forbids, P is zero, and so is dS.
    Shapes: d_output (..., T_q, d_v), weights (..., T_q, T_k) from the forward pass. Returns
    (dQ, dK, dV), each with the shape of its input.
    """
    check_shapes(
        d_output=(d_output, ("...", "T_q", "d_v")),
        q=(q, ("...", "T_q", "d_k")),
        k=(k, ("...", "T_k", "d_k")),
        v=(v, ("...", "T_k", "d_v")),
        weights=(weights, ("...", "T_q", "T_k")),
    )
    d_values = weights.mT @ d_output
    d_weights = d_output @ v.mT
    d_scores = weights * (d_weights - (d_weights * weights).sum(-1, keepdims=True))
    d_queries = d_scores @ k / math.sqrt(q.shape[-1])
    d_keys = d_scores.mT @ q / math.sqrt(q.shape[-1])
    return sum_to(d_queries, q.shape), sum_to(d_keys, k.shape), sum_to(d_values, v.shape)


def sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: keys that several heads share collect the gradients of all of them."""
    n_new = gradient.ndim - len(shape)
    stretched = [n_new + axis for axis, size in enumerate(shape) if size == 1]
    return gradient.sum((*range(n_new), *stretched), keepdims=True).reshape(shape)


def main() -> None:
    """Nudge one number of each input: the loss moves as the equations say."""
    q, k, v = np.random.default_rng(0).standard_normal((3, 4, 8))  # four tokens, eight features
    mask = causal_mask(4)

    def loss(q: Array, k: Array, v: Array) -> float:
        return scaled_dot_product_attention(q, k, v, mask)[0].sum()

    _, weights = scaled_dot_product_attention(q, k, v, mask)
    gradients = attention_backward(np.ones((4, 8)), q, k, v, weights)  # d sum / d output is 1
    nudge = np.zeros((4, 8))
    nudge[2, 5] = 1e-5  # feature 5 of the third token
    tried = {
        "query": loss(q + nudge, k, v) - loss(q - nudge, k, v),
        "key": loss(q, k + nudge, v) - loss(q, k - nudge, v),
        "value": loss(q, k, v + nudge) - loss(q, k, v - nudge),
    }
    print("How fast the loss grows with one feature of the third token:\n")
    print("         by the equations   by trying it")
    for (name, change), gradient in zip(tried.items(), gradients, strict=True):
        print(f"{name:>7} {gradient[2, 5]:17.6f} {change / 2e-5:14.6f}")


if __name__ == "__main__":
    run_program(main)
