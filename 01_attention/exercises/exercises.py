"""Exercises of lesson 01: attention. Replace each `raise` with your own code.

    python 01_attention/exercises/exercises.py    check them all
    make watch                                    check on every save, one after the other
    make hint EX=1.3                              one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md why. Later exercises may use earlier ones.
"""

import math

import numpy as np
import torch
from torch import Tensor

from utils.grader.check import check_file


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Exercise 1.1: turn scores into weights that sum to 1 along `dim`.

    Each weight is the exponential of its score, divided by the sum of the exponentials along `dim`.
    Scores may be as large as 1e4, or -inf (weight 0); a row of only -inf gives zeros.

    Returns a tensor of the shape and dtype of x, through which gradients flow: no nan in them, not
    even for a row of only -inf. Write it without torch.softmax.
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

    Returns new scores (..., T_q, T_k) of the dtype of scores; the input stays as it was.
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


def predict_weights() -> tuple[float, float, float]:
    """Exercise 1.6, a prediction: what changes when a mask comes in?

    In the worked example of theory.md, the scaled scores of "chase" are 2 (for "cats"), 0 (for
    "chase" itself) and 1 (for "mice"). Now the causal mask is applied: "chase" is token 1 of 3.

    Returns the three weights of "chase", to two decimals or better, computed by hand. (e is 2.718,
    its square 7.389.)
    """
    raise NotImplementedError("Exercise 1.6: predict_weights")  # TODO: return your prediction


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """Exercise 1.7: which keys are tokens, and which only fill up the batch?

    lengths (B,) integers: row b holds lengths[b] tokens, then padding up to T.

    Returns (B, 1, 1, T) bool, True where the key is a token; the two axes of size 1 let it
    broadcast over heads and queries. It is on the device of lengths.
    """
    raise NotImplementedError("Exercise 1.7: padding_mask")  # TODO: your code here


def attend_from_the_end(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Exercise 1.8, a repair: causal attention for the newest tokens of a text.

    The T_q queries are the last T_q of the T_k positions: query 0 is position T_k - T_q, and the
    last query is position T_k - 1. Each may attend to itself and the past, and to nothing else.
    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v), with T_q <= T_k.

    Returns the output (..., T_q, d_v). The code below the raise uses 1.3 and 1.5, and has one
    mistake. Delete the raise line, find the mistake, repair it.
    """
    raise NotImplementedError("Exercise 1.8: attend_from_the_end")  # TODO: delete, then repair
    T_q, T_k = q.size(-2), k.size(-2)
    allowed = causal_mask(T_k, device=q.device)[:T_q]  # (T_q, T_k)
    output, _ = scaled_dot_product_attention(q, k, v, allowed)
    return output


def cross_attention(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.9: the queries come from x, the keys and values from context.

    x (B, T_q, d_model), context (B, T_k, d_model), w_q and w_k (d_model, d_k), w_v (d_model, d_v).
    Queries are x @ w_q; keys and values are context @ w_k and context @ w_v. With context = x this
    is self-attention.

    Returns (output (B, T_q, d_v), weights (B, T_q, T_k)), as in 1.5.
    """
    raise NotImplementedError("Exercise 1.9: cross_attention")  # TODO: your code here


def read_maps() -> dict[str, str]:
    """Exercise 1.10, reading: which mask made which map?

    The picture 01_attention/pictures/which_mask.png (it is in theory.md too) shows the weights of
    six queries over six keys under four masks. Grey cells are exactly 0.

    Returns the letter of each map: {"causal": ..., "padding": ..., "causal and padded": ...,
    "sliding window": ...}, each "A", "B", "C" or "D", in either case.
    """
    raise NotImplementedError("Exercise 1.10: read_maps")  # TODO: return your answer


def numpy_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Exercise 1.11: attention once more, in NumPy alone.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); mask is None or boolean, True where
    attention is allowed, of any shape that broadcasts to (..., T_q, T_k). Scores may be as large as
    1e4. A query that may attend to nothing gets weights and output of zeros.

    Returns (output (..., T_q, d_v), weights (..., T_q, T_k)), NumPy arrays of the dtype of q.
    """
    raise NotImplementedError("Exercise 1.11: numpy_attention")  # TODO: your code here


def attention_cost(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_value: int = 4
) -> tuple[int, int]:
    """Exercise 1.12: what does attention cost when the text grows?

    Each of n_heads heads, for each of B sequences of T tokens, has queries, keys and values of
    width d_head, and computes q times k transposed, then weights times v.

    Returns (multiply-adds of both products, bytes of the weights). One multiplication with its
    addition counts as one multiply-add.
    """
    raise NotImplementedError("Exercise 1.12: attention_cost")  # TODO: your code here


def sliding_window_mask(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """Exercise 1.13, a challenge: look back a little way only, and at the beginning.

    Position i may look at the `window` positions that end with itself (window=1: only itself), and
    also at the first n_sinks positions (the "attention sinks" of Xiao et al. 2023). Never at the
    future.

    Returns (T, T) bool, True where query i may attend to key j.
    """
    raise NotImplementedError("Exercise 1.13: sliding_window_mask")  # TODO: your code here


def online_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """Exercise 1.14, a challenge: attention that never holds all the scores of a query.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v). Go through keys and values in blocks of
    at most block_size, and keep for each query: the largest score so far, the sum of the
    exponentials so far (relative to that largest), and the values weighted so far. When a block
    brings a larger score, rescale what you kept. Divide once, at the end.

    Returns the output (..., T_q, d_v). At no time may your tensors hold T_q x T_k values together,
    and none may hold the scores of a query with all keys.
    """
    raise NotImplementedError("Exercise 1.14: online_attention")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)
