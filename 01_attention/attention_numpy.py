"""Attention in NumPy: equation 1 again, and its gradients derived by hand.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V        Vaswani et al. 2017, equation 1

PyTorch's autograd hides half of the work. Here it is in plain sight: `scaled_dot_product_attention`
is the forward pass, `attention_backward` the backward pass, and every intermediate result is a
plain array. All computation is NumPy's; only the course's shape check, imported below, loads
PyTorch.

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
    """exp(x_i) / sum_j exp(x_j) along `axis`; a row of only -inf gives zeros."""
    largest = x.max(axis, keepdims=True)  # subtracting it keeps exp() from overflowing
    largest = np.where(largest == -np.inf, 0.0, largest)  # -inf - -inf would be nan
    exps = np.exp(x - largest)
    # The largest entry contributes exp(0) = 1, so only a row of -inf has a sum below 1.
    return exps / np.maximum(exps.sum(axis, keepdims=True), 1.0)


def causal_mask(T: int) -> NDArray[np.bool_]:
    """Position i may attend to itself and to the past, never to the future.

    Returns (T, T) bool, True where query i may attend to key j, that is j <= i.
    """
    return np.tri(T, dtype=np.bool_)


def padding_mask(lengths: NDArray[np.integer[Any]], T: int) -> NDArray[np.bool_]:
    """Hide the padding in a batch of sequences that are padded on the right.

    lengths (B,) integers; returns (B, 1, 1, T) bool, True where the key is a real token.
    """
    return np.arange(T) < lengths[:, None, None, None]


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
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # S = Q K^T / sqrt(d_k)  (..., T_q, T_k)
    if mask is not None:
        scores = apply_mask(scores, mask)
    weights = softmax(scores)  # P = softmax(S), over the keys
    return weights @ v, weights  # O = P V  (..., T_q, d_v)


def attention_backward(
    d_output: Array, q: Array, k: Array, v: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """Gradients of the loss with respect to Q, K and V, given its gradient dO for the output.

    With S = Q K^T / sqrt(d_k), P = softmax(S), O = P V, and dX short for d loss / dX:

        dV = P^T dO                              each value enters each output, weighted by P
        dP = dO V^T                              the slope of a weight: its value, along dO
        dS = P * (dP - rowsum(dP * P))           softmax: one weight rises, the others fall
        dQ = dS K / sqrt(d_k)
        dK = dS^T Q / sqrt(d_k)

    No mask is needed: where it hides a key, P is zero, and so is dS.
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
    # O = P V
    d_values = weights.mT @ d_output  # dV  (..., T_k, d_v)
    d_weights = d_output @ v.mT  # dP  (..., T_q, T_k)
    # P = softmax(S)
    row_sum = (d_weights * weights).sum(-1, keepdims=True)  # (..., T_q, 1)
    d_scores = weights * (d_weights - row_sum)  # dS  (..., T_q, T_k)
    # S = Q K^T / sqrt(d_k)
    d_queries = d_scores @ k / math.sqrt(q.shape[-1])  # dQ  (..., T_q, d_k)
    d_keys = d_scores.mT @ q / math.sqrt(q.shape[-1])  # dK  (..., T_k, d_k)
    return sum_to(d_queries, q.shape), sum_to(d_keys, k.shape), sum_to(d_values, v.shape)


def sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: an input gets the sum of the gradients of all its copies."""
    n_new = gradient.ndim - len(shape)  # axes that broadcasting put in front
    stretched = [n_new + axis for axis, size in enumerate(shape) if size == 1]
    return gradient.sum((*range(n_new), *stretched), keepdims=True).reshape(shape)


def apply_mask(scores: Array, mask: Array) -> Array:
    """Boolean masks put -inf where False; floating masks are added (ALiBi, T5).

    scores (..., T_q, T_k); mask of any shape that broadcasts to it.
    """
    check_mask(mask, scores.shape)
    if mask.dtype == np.bool_:
        return np.where(mask, scores, -np.inf)  # exp(-inf) = 0: weight exactly zero
    return scores + mask.astype(scores.dtype)


def check_mask(mask: Array, scores: tuple[int, ...]) -> None:
    """Raise ShapeError if the mask does not broadcast to `scores`, or might do so by mistake."""
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


def main() -> None:
    """Check the gradients: move one entry of each input and measure how the loss changes."""
    q, k, v = np.random.default_rng(0).standard_normal((3, 4, 8))  # four tokens, eight features
    mask = causal_mask(4)

    def loss(q: Array, k: Array, v: Array) -> float:
        return scaled_dot_product_attention(q, k, v, mask)[0].sum()

    _, weights = scaled_dot_product_attention(q, k, v, mask)
    gradients = attention_backward(np.ones((4, 8)), q, k, v, weights)  # d sum / d output is 1
    step = np.zeros((4, 8))
    step[2, 5] = 1e-5  # feature 5 of the third token
    differences = {
        "query": loss(q + step, k, v) - loss(q - step, k, v),
        "key": loss(q, k + step, v) - loss(q, k - step, v),
        "value": loss(q, k, v + step) - loss(q, k, v - step),
    }
    print("Gradient of the loss with respect to one feature of the third token:\n")
    print("        attention_backward   finite difference")
    for (name, difference), gradient in zip(differences.items(), gradients, strict=True):
        print(f"{name:>7} {gradient[2, 5]:18.6f} {difference / 2e-5:19.6f}")


if __name__ == "__main__":
    run_program(main)
