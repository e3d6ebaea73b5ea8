"""Exercises of lesson 01: attention. Replace each `raise` with your own code.

    python 01_attention/exercises/exercises.py    check all of them
    make watch                                    check on every save, one exercise after the other
    make hint EX=1.3                              a hint; there are three per exercise

`python` is the one in .venv (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
define what to write, theory.md explains why. Later exercises may use earlier ones.
"""

import math

import torch
from torch import Tensor

from utils.grader.check import check_file


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Exercise 1.1: turn scores into weights that sum to 1 along `dim`.

    The weight of an entry is its exponential divided by the sum of the exponentials along `dim`.
    Entries may be as large as 1e4, or -inf (weight 0); a row of only -inf gives zeros.

    Returns a tensor of the same shape and dtype as x. (torch.softmax does nearly all of this in
    one call; here you write it yourself.)
    """
    raise NotImplementedError("Exercise 1.1: softmax")  # TODO: your code here


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """Exercise 1.2: how well does each key match each query?

    q (..., T_q, d_k), k (..., T_k, d_k), with any leading axes: batch, heads or none.

    Returns (..., T_q, T_k): the dot product of query i with key j, divided by sqrt(d_k).
    """
    raise NotImplementedError("Exercise 1.2: attention_scores")  # TODO: your code here


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Exercise 1.3: which positions may position i attend to?

    Returns (T, T) bool on `device`, True where query i may attend to key j, that is j <= i.
    """
    raise NotImplementedError("Exercise 1.3: causal_mask")  # TODO: your code here


def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Exercise 1.4: give masked positions no weight.

    scores (..., T_q, T_k); mask of any shape that broadcasts to it. A boolean mask is True where
    attention is allowed; elsewhere the score becomes -inf, not merely a large negative number.
    A floating mask is added to the scores.

    Returns new scores (..., T_q, T_k) with the dtype of scores; the input is not modified.
    """
    raise NotImplementedError("Exercise 1.4: apply_mask")  # TODO: your code here


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.5: attention, built from your functions of 1.1, 1.2 and 1.4.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); mask as in 1.4, or None.

    Returns (output (..., T_q, d_v), weights (..., T_q, T_k)). Each row of weights sums to 1; a
    query that may attend to nothing gets weights and output of zeros.
    """
    raise NotImplementedError("Exercise 1.5: scaled_dot_product_attention")  # TODO: your code here


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """Exercise 1.6: which keys are tokens, and which are padding?

    lengths (B,) integers: row b holds lengths[b] tokens, then padding up to T.

    Returns (B, 1, 1, T) bool, True where the key is a token; the two axes of size 1 let it
    broadcast over heads and queries. The mask is on the same device as lengths.
    """
    raise NotImplementedError("Exercise 1.6: padding_mask")  # TODO: your code here


def cross_attention(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.7: queries from x, keys and values from context.

    x (B, T_q, d_model), context (B, T_k, d_model), w_q and w_k (d_model, d_k), w_v (d_model, d_v).
    The queries are x @ w_q; the keys and values are context @ w_k and context @ w_v. With
    context = x this is self-attention.

    Returns (output (B, T_q, d_v), weights (B, T_q, T_k)), as in 1.5.
    """
    raise NotImplementedError("Exercise 1.7: cross_attention")  # TODO: your code here


def attention_cost(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """Exercise 1.8: how does the cost of attention grow with the sequence length?

    For each of B sequences of T tokens, each of n_heads heads has queries, keys and values of width
    d_head, and computes q @ k.T and then weights @ v.

    Returns (multiply-adds of both products, bytes of the weights). One multiplication and its
    addition count as one multiply-add.
    """
    raise NotImplementedError("Exercise 1.8: attention_cost")  # TODO: your code here


def sliding_window_mask(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """Exercise 1.9, a challenge: attend to a recent window and to the first tokens.

    Position i may attend to the `window` positions that end with itself (window=1: only itself),
    and to the first n_sinks positions (the "attention sinks" of Xiao et al. 2023), but never to
    the future.

    Returns (T, T) bool, True where query i may attend to key j.
    """
    raise NotImplementedError("Exercise 1.9: sliding_window_mask")  # TODO: your code here


def online_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """Exercise 1.10, a challenge: attention that never holds all scores of a query at once.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v). Go through the keys and values in
    blocks of at most block_size. For each query keep the largest score so far, the sum of the
    exponentials so far (relative to that largest score), and the weighted sum of the values so
    far. When a block contains a larger score, rescale both sums. Divide once, at the end.

    Returns the output (..., T_q, d_v). No tensor may hold T_q x T_k scores, and none may hold the
    scores of a query for all T_k keys.
    """
    raise NotImplementedError("Exercise 1.10: online_attention")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)
