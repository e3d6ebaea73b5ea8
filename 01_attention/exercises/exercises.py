"""Exercises of lesson 01: attention. Replace each `raise` by your own code.

    python 01_attention/exercises/exercises.py    check them all
    make watch                                    check each time you save, one after the other
    make hint EX=1.3                              a nudge; three for each exercise

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md why. Later exercises may use earlier ones.
"""

import math

import torch
from torch import Tensor

from utils.grader.check import check_file


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Exercise 1.1: turn numbers into shares that sum to 1 along `dim`.

    The share of an entry is its exponential, divided by the sum of all the exponentials along
    `dim`. Entries may be as large as 1e4, or -inf (share 0); a row of only -inf gives zeros.

    Returns a tensor of the shape and dtype of x. (torch.softmax would do
    nearly all of it in one call; here you write it.)
    """
    raise NotImplementedError("Exercise 1.1: softmax")  # TODO: your code here


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """Exercise 1.2: how well does each key answer each query?

    q (..., T_q, d_k), k (..., T_k, d_k), with any leading axes: batch, heads, or none.

    Returns (..., T_q, T_k): the dot product of query i with key j, divided by sqrt(d_k).
    """
    raise NotImplementedError("Exercise 1.2: attention_scores")  # TODO: your code here


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Exercise 1.3: which positions may position i look at?

    Returns (T, T) bool on `device`, True where query i may attend to key j, that is j <= i.
    """
    raise NotImplementedError("Exercise 1.3: causal_mask")  # TODO: your code here


def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Exercise 1.4: make forbidden scores count for nothing.

    scores (..., T_q, T_k); mask of any shape that broadcasts to it. A boolean mask is True where
    attention is allowed: elsewhere the score becomes -inf. A floating mask is added to the scores.

    Returns new scores (..., T_q, T_k) of the dtype of scores; the input is left as it was.
    """
    raise NotImplementedError("Exercise 1.4: apply_mask")  # TODO: your code here


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.5: attention itself. Use what you wrote in 1.1, 1.2 and 1.4.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); mask as in 1.4, or None.

    Returns (output (..., T_q, d_v), weights (..., T_q, T_k)). Each row of weights sums to 1; a
    query that may attend to nothing gets weights and output of zeros.
    """
    raise NotImplementedError("Exercise 1.5: scaled_dot_product_attention")  # TODO: your code here


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """Exercise 1.6: which keys are tokens, and which only fill up the batch?

    lengths (B,) integers: row b holds lengths[b] tokens, then padding up to T.

    Returns (B, 1, 1, T) bool, True where the key is a token; the two axes of size 1 let it
    broadcast over heads and queries. It is on the device of lengths.
    """
    raise NotImplementedError("Exercise 1.6: padding_mask")  # TODO: your code here


def cross_attention(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.7: x asks, context answers.

    x (B, T_q, d_model), context (B, T_k, d_model), w_q and w_k (d_model, d_k), w_v (d_model, d_v).
    Queries are x times w_q; keys and values are context times w_k and w_v. With context = x this
    is self-attention.

    Returns (output (B, T_q, d_v), weights (B, T_q, T_k)), as in 1.5.
    """
    raise NotImplementedError("Exercise 1.7: cross_attention")  # TODO: your code here


def attention_cost(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """Exercise 1.8: what does attention cost when the text grows?

    Each of n_heads heads, for each of B sequences of T tokens, has queries, keys and values of
    width d_head, and computes q times k transposed, then weights times v.

    Returns (multiply-adds of both products, bytes of the weights). One multiplication with its
    addition counts as one multiply-add.
    """
    raise NotImplementedError("Exercise 1.8: attention_cost")  # TODO: your code here


def sliding_window_mask(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """Exercise 1.9, a challenge: look back a little way only, and at the beginning.

    Position i may look at the `window` positions that end with itself (window=1: only itself), and
    also at the first n_sinks positions (the "attention sinks" of Xiao et al. 2023). Never at the
    future.

    Returns (T, T) bool, True where query i may attend to key j.
    """
    raise NotImplementedError("Exercise 1.9: sliding_window_mask")  # TODO: your code here


def online_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """Exercise 1.10, a challenge: attention that never holds all the scores of a query.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v). Go through keys and values in blocks of
    at most block_size, and keep for each query: the largest score so far, the sum of the
    exponentials so far (relative to that largest), and the values mixed so far. When a block
    brings a larger score, rescale what you kept. Divide once, at the end.

    Returns the output (..., T_q, d_v). No tensor may be as large as T_q x T_k.
    """
    raise NotImplementedError("Exercise 1.10: online_attention")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)
