"""Solutions of lesson 01. Yours may look different: what counts is what it computes.

Read a solution when yours passes, and compare; the comments name other ways that people choose.
"""

import math

import numpy as np
import torch
from torch import Tensor


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Exercise 1.1: turn scores into weights that sum to 1 along `dim`.

    Each weight is the exponential of its score, divided by the sum of the exponentials along `dim`.
    Scores may be as large as 1e4, or -inf (weight 0); a row of only -inf gives zeros.

    Returns a tensor of the shape and dtype of x, through which gradients flow: no nan in them, not
    even for a row of only -inf. Write it without torch.softmax.
    """
    # Subtracting the same number from every score multiplies numerator and denominator by the same
    # factor, which cancels. With the largest score subtracted, no exponent is above 0.
    largest = x.amax(dim, keepdim=True)
    # keepdim leaves an axis of size 1, so that each row is compared with its own largest score. A
    # single x.max() for all would let a row far below it vanish: exp(-2000) is 0, and 0 / 0 is nan.
    largest = largest.masked_fill(largest == -math.inf, 0.0)  # -inf - -inf would be nan
    exps = torch.exp(x - largest)
    # The largest score contributes exp(0) = 1, so only a row of -inf sums to less than 1. Others
    # write torch.nan_to_num(exps / sum): the same values, but it would hide a nan that came in, and
    # its gradient is nan for a row of -inf.
    return exps / exps.sum(dim, keepdim=True).clamp(min=1.0)


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """Exercise 1.2: how well does each key answer each query?

    q (..., T_q, d_k), k (..., T_k, d_k), with any leading axes: batch, heads, or none.

    Returns (..., T_q, T_k): the dot product of query i with key j, divided by sqrt(d_k).
    """
    # transpose(-2, -1) swaps the last two axes and leaves batch and heads alone; .T would not.
    # As an einsum: torch.einsum("...id,...jd->...ij", q, k) / math.sqrt(q.size(-1)).
    return q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Exercise 1.3: which positions may position i look at?

    Returns (T, T) bool on `device`, True where query i may attend to key j, that is j <= i.
    """
    # tril keeps the lower triangle, diagonal included. The definition itself works as well:
    # j = torch.arange(T, device=device); return j <= j[:, None].
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Exercise 1.4: make forbidden scores count for nothing.

    scores (..., T_q, T_k); mask of any shape that broadcasts to it. A boolean mask is True where
    attention is allowed: elsewhere the score becomes -inf. A floating mask is added to the scores.

    Returns new scores (..., T_q, T_k) of the dtype of scores; the input stays as it was.
    """
    if mask.dtype == torch.bool:
        # torch.where(mask, scores, -math.inf) says the same. A large negative number in place of
        # -inf gives the same weights, unless every key is forbidden: then it gives equal weights
        # to all of them (exercise 1.5).
        return scores.masked_fill(~mask, -math.inf)
    return scores + mask.to(scores.dtype)


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.5: attention itself. Use what you wrote in 1.1, 1.2 and 1.4.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); mask as in 1.4, or None.

    Returns (output (..., T_q, d_v), weights (..., T_q, T_k)). Each row of weights sums to 1; a
    query that may attend to nothing gets weights and output of zeros.
    """
    scores = attention_scores(q, k)  # (..., T_q, T_k)
    if mask is not None:
        scores = apply_mask(scores, mask)  # before the softmax: what it forbids gets no weight
    weights = softmax(scores, dim=-1)  # over the keys: each query's weights sum to 1
    return weights @ v, weights


def predict_weights() -> tuple[float, float, float]:
    """Exercise 1.6, a prediction: what changes when a mask comes in?

    In the worked example of theory.md, the scaled scores of "chase" are 2 (for "cats"), 0 (for
    "chase" itself) and 1 (for "mice"). Now the causal mask is applied: "chase" is token 1 of 3.

    Returns the three weights of "chase", to two decimals or better, computed by hand. (e is 2.718,
    its square 7.389.)
    """
    # Token 1 may see tokens 0 and 1, so the score of "mice" becomes -inf and its exponential 0. The
    # other two exponentials are e² = 7.389 and e⁰ = 1, with the sum 8.389.
    return 0.881, 0.119, 0.0  # 7.389 / 8.389, 1 / 8.389, 0


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """Exercise 1.7: which keys are tokens, and which only fill up the batch?

    lengths (B,) integers: row b holds lengths[b] tokens, then padding up to T.

    Returns (B, 1, 1, T) bool, True where the key is a token; the two axes of size 1 let it
    broadcast over heads and queries. It is on the device of lengths.
    """
    positions = torch.arange(T, device=lengths.device)  # (T,)
    # (T,) against (B, 1) gives (B, T). Position 3 is the fourth: it is a token if length > 3.
    is_token = positions < lengths[:, None]
    return is_token[:, None, None, :]  # .view(-1, 1, 1, T) and two unsqueeze(1) do the same


def attend_from_the_end(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Exercise 1.8, a repair: causal attention for the newest tokens of a text.

    The T_q queries are the last T_q of the T_k positions: query 0 is position T_k - T_q, and the
    last query is position T_k - 1. Each may attend to itself and the past, and to nothing else.
    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v), with T_q <= T_k.

    Returns the output (..., T_q, d_v). The code below the raise uses 1.3 and 1.5, and has one
    mistake. Delete the raise line, find the mistake, repair it.
    """
    T_q, T_k = q.size(-2), k.size(-2)
    # The queries are the last T_q positions, so theirs are the last T_q rows of the mask. The first
    # rows, [:T_q], belong to the oldest positions: the newest token would see only the oldest keys.
    # [-T_q:] works too, and so does a triangle whose edge is moved to the right by T_k - T_q.
    allowed = causal_mask(T_k, device=q.device)[T_k - T_q :]  # (T_q, T_k)
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
    # The side of the queries decides how many rows come out; the other side, what is in them.
    q = x @ w_q  # (B, T_q, d_k)
    k = context @ w_k  # (B, T_k, d_k)
    v = context @ w_v  # (B, T_k, d_v)
    return scaled_dot_product_attention(q, k, v, mask)


def read_maps() -> dict[str, str]:
    """Exercise 1.10, reading: which mask made which map?

    The picture 01_attention/pictures/which_mask.png (it is in theory.md too) shows the weights of
    six queries over six keys under four masks. Grey cells are exactly 0.

    Returns the letter of each map: {"causal": ..., "padding": ..., "causal and padded": ...,
    "sliding window": ...}, each "A", "B", "C" or "D", in either case.
    """
    # A hides the last two columns from every query: padding on the right. B has a band of two keys
    # per row. C is a triangle without its first two columns, and its first two rows see nothing. D
    # is the whole triangle.
    return {
        "causal": "D",
        "padding": "A",
        "causal and padded": "C",
        "sliding window": "B",
    }


def numpy_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Exercise 1.11: attention once more, in NumPy alone.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); mask is None or boolean, True where
    attention is allowed, of any shape that broadcasts to (..., T_q, T_k). Scores may be as large as
    1e4. A query that may attend to nothing gets weights and output of zeros.

    Returns (output (..., T_q, d_v), weights (..., T_q, T_k)), NumPy arrays of the dtype of q.
    """
    scores = q @ k.swapaxes(-2, -1) / np.sqrt(q.shape[-1]).astype(q.dtype)  # (..., T_q, T_k)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    largest = scores.max(axis=-1, keepdims=True)
    largest = np.where(largest == -np.inf, 0.0, largest)  # -inf - -inf would be nan
    exps = np.exp(scores - largest)
    # The largest score contributes 1, so only a row that sees nothing sums to less than 1.
    weights = exps / np.maximum(exps.sum(axis=-1, keepdims=True), 1.0)
    weights = weights.astype(q.dtype)  # np.where may have made float64 of float32
    return weights @ v, weights


def attention_cost(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_value: int = 4
) -> tuple[int, int]:
    """Exercise 1.12: what does attention cost when the text grows?

    Each of n_heads heads, for each of B sequences of T tokens, has queries, keys and values of
    width d_head, and computes q times k transposed, then weights times v.

    Returns (multiply-adds of both products, bytes of the weights). One multiplication with its
    addition counts as one multiply-add.
    """
    # Each of the T x T scores is a sum of d_head products; each of the T x d_head outputs is a sum
    # of T products. Both are T * T * d_head.
    one_product = B * n_heads * T * T * d_head
    weights = B * n_heads * T * T
    return 2 * one_product, weights * bytes_per_value


def sliding_window_mask(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """Exercise 1.13, a challenge: look back a little way only, and at the beginning.

    Position i may look at the `window` positions that end with itself (window=1: only itself), and
    also at the first n_sinks positions (the "attention sinks" of Xiao et al. 2023). Never at the
    future.

    Returns (T, T) bool, True where query i may attend to key j.
    """
    i, j = torch.arange(T)[:, None], torch.arange(T)
    is_near = i - j < window  # distances 0 to window - 1, which are `window` positions
    is_sink = j < n_sinks
    # "Never the future" holds for the sinks too: the parentheses matter.
    return (j <= i) & (is_near | is_sink)


def online_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """Exercise 1.14, a challenge: attention that never holds all the scores of a query.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v). Go through keys and values in blocks of
    at most block_size, and keep for each query: the largest score so far, the sum of the
    exponentials so far (relative to that largest), and the values weighted so far. When a block
    brings a larger score, rescale what you kept. Divide once, at the end.

    Returns the output (..., T_q, d_v). At no time may your tensors hold T_q x T_k values together,
    and none may hold the scores of a query with all keys.
    """
    largest = q.new_full((*q.shape[:-1], 1), -math.inf)  # m: (..., T_q, 1)
    total = torch.zeros_like(largest)  # the sum of the exponentials, relative to m
    weighted = q.new_zeros((*q.shape[:-1], v.size(-1)))  # (..., T_q, d_v)
    for start in range(0, k.size(-2), block_size):
        keys = k[..., start : start + block_size, :]  # a slice past the end is only shorter
        values = v[..., start : start + block_size, :]
        scores = attention_scores(q, keys)  # (..., T_q, block_size)
        new_largest = torch.maximum(largest, scores.amax(-1, keepdim=True))
        # Everything so far was exp(score - largest); times this, it is exp(score - new_largest).
        # In the first round largest is -inf, and exp(-inf) = 0 wipes out what is not there yet.
        rescale = torch.exp(largest - new_largest)
        exps = torch.exp(scores - new_largest)
        total = total * rescale + exps.sum(-1, keepdim=True)
        weighted = weighted * rescale + exps @ values
        largest = new_largest
    return weighted / total
