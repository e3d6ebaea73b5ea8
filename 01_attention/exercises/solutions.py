"""Solutions of lesson 01. Yours may look different: what counts is what it computes.

Read a solution when yours passes, and compare; the comments name other ways that people choose.
"""

import math

import torch
from torch import Tensor


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Exercise 1.1: turn numbers into shares that sum to 1 along `dim`.

    The share of an entry is its exponential, divided by the sum of all the exponentials along
    `dim`. Entries may be as large as 1e4, or -inf (share 0); a row of only -inf gives zeros.

    Returns a tensor of the shape and dtype of x. (torch.softmax would do
    nearly all of it in one call; here you write it.)
    """
    # Subtracting the same number from every entry multiplies numerator and denominator by the same
    # factor, which cancels. With the largest entry subtracted, no exponent is above 0.
    largest = x.amax(dim, keepdim=True)
    # keepdim leaves an axis of size 1, so that each row is compared with its own largest entry. A
    # single x.max() for all would let a row far below it vanish: exp(-2000) is 0, and 0 / 0 is nan.
    largest = largest.masked_fill(largest == -math.inf, 0.0)  # -inf - -inf would be nan
    exps = torch.exp(x - largest)
    # The largest entry gives exp(0) = 1, so only a row of zeros sums to less than 1. Others write
    # torch.nan_to_num(exps / sum): the same values, but it would hide a nan that came in, and its
    # gradient is nan for a row of -inf.
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
    # tril keeps the lower triangle, diagonal included. The definition itself does as well:
    # j = torch.arange(T, device=device); return j <= j[:, None].
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Exercise 1.4: make forbidden scores count for nothing.

    scores (..., T_q, T_k); mask of any shape that broadcasts to it. A boolean mask is True where
    attention is allowed: elsewhere the score becomes -inf. A floating mask is added to the scores.

    Returns new scores (..., T_q, T_k) of the dtype of scores; the input is left as it was.
    """
    if mask.dtype == torch.bool:
        # torch.where(mask, scores, -math.inf) says the same. A large negative number in place of
        # -inf gives the same weights, unless a row is forbidden altogether (exercise 1.5).
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
        scores = apply_mask(scores, mask)  # before the softmax: what it forbids takes no share
    weights = softmax(scores, dim=-1)  # over the keys: each query shares out one unit
    return weights @ v, weights


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """Exercise 1.6: which keys are tokens, and which only fill up the batch?

    lengths (B,) integers: row b holds lengths[b] tokens, then padding up to T.

    Returns (B, 1, 1, T) bool, True where the key is a token; the two axes of size 1 let it
    broadcast over heads and queries. It is on the device of lengths.
    """
    positions = torch.arange(T, device=lengths.device)  # (T,)
    # (T,) against (B, 1) gives (B, T). Position 3 is the fourth: it is a token if length > 3.
    is_token = positions < lengths[:, None]
    return is_token[:, None, None, :]  # .view(-1, 1, 1, T) and two unsqueeze(1) do the same


def cross_attention(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.7: x asks, context answers.

    x (B, T_q, d_model), context (B, T_k, d_model), w_q and w_k (d_model, d_k), w_v (d_model, d_v).
    Queries are x times w_q; keys and values are context times w_k and w_v. With context = x this
    is self-attention.

    Returns (output (B, T_q, d_v), weights (B, T_q, T_k)), as in 1.5.
    """
    # The side that asks decides how many rows come out; the side that answers, what is in them.
    q = x @ w_q  # (B, T_q, d_k)
    k = context @ w_k  # (B, T_k, d_k)
    v = context @ w_v  # (B, T_k, d_v)
    return scaled_dot_product_attention(q, k, v, mask)


def attention_cost(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """Exercise 1.8: what does attention cost when the text grows?

    Each of n_heads heads, for each of B sequences of T tokens, has queries, keys and values of
    width d_head, and computes q times k transposed, then weights times v.

    Returns (multiply-adds of both products, bytes of the weights). One multiplication with its
    addition counts as one multiply-add.
    """
    # Each of the T x T scores is a sum of d_head products; each of the T x d_head outputs is a sum
    # of T products. Both are T * T * d_head.
    one_product = B * n_heads * T * T * d_head
    weights = B * n_heads * T * T
    return 2 * one_product, weights * bytes_per_number


def sliding_window_mask(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """Exercise 1.9, a challenge: look back a little way only, and at the beginning.

    Position i may look at the `window` positions that end with itself (window=1: only itself), and
    also at the first n_sinks positions (the "attention sinks" of Xiao et al. 2023). Never at the
    future.

    Returns (T, T) bool, True where query i may attend to key j.
    """
    i, j = torch.arange(T)[:, None], torch.arange(T)
    is_near = i - j < window  # i itself is at distance 0, so `window` positions are nearer
    is_sink = j < n_sinks
    # "Never the future" holds for the sinks too: the parentheses matter.
    return (j <= i) & (is_near | is_sink)


def online_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """Exercise 1.10, a challenge: attention that never holds all the scores of a query.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v). Go through keys and values in blocks of
    at most block_size, and keep for each query: the largest score so far, the sum of the
    exponentials so far (relative to that largest), and the values mixed so far. When a block
    brings a larger score, rescale what you kept. Divide once, at the end.

    Returns the output (..., T_q, d_v). No tensor may be as large as T_q x T_k.
    """
    largest = q.new_full((*q.shape[:-1], 1), -math.inf)  # (..., T_q, 1)
    total = torch.zeros_like(largest)
    mixed = q.new_zeros((*q.shape[:-1], v.size(-1)))  # (..., T_q, d_v)
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
        mixed = mixed * rescale + exps @ values
        largest = new_largest
    return mixed / total
