"""Solutions of lesson 01. Yours may look different: what counts is what it computes.

Read a solution once yours passes, and compare. The comments mention other common ways to write it.
"""

import math

import torch
from torch import Tensor


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Exercise 1.1: turn scores into weights that sum to 1 along `dim`.

    The weight of an entry is its exponential divided by the sum of the exponentials along `dim`.
    Entries may be as large as 1e4, or -inf (weight 0); a row of only -inf gives zeros.

    Returns a tensor of the same shape and dtype as x. (torch.softmax does nearly all of this in
    one call; here you write it yourself.)
    """
    # Subtracting a constant from every entry multiplies numerator and denominator by the same
    # factor, which cancels. With the largest entry subtracted, every exponent is at most 0.
    largest = x.amax(dim, keepdim=True)
    # keepdim leaves an axis of size 1, so that each row subtracts its own largest entry. With a
    # single x.max() for all rows, a row far below it underflows: exp(-2000) is 0, and 0 / 0 is nan.
    largest = largest.masked_fill(largest == -math.inf, 0.0)  # -inf - -inf would be nan
    exps = torch.exp(x - largest)
    # The largest entry gives exp(0) = 1, so only a row of zeros sums to less than 1. An alternative
    # is torch.nan_to_num(exps / sum): it gives the same values, but hides a nan in the input, and
    # its gradient is nan for a row of -inf.
    return exps / exps.sum(dim, keepdim=True).clamp(min=1.0)


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """Exercise 1.2: how well does each key match each query?

    q (..., T_q, d_k), k (..., T_k, d_k), with any leading axes: batch, heads or none.

    Returns (..., T_q, T_k): the dot product of query i with key j, divided by sqrt(d_k).
    """
    # transpose(-2, -1) swaps the last two axes and keeps batch and heads; .T reverses all axes.
    # As an einsum: torch.einsum("...id,...jd->...ij", q, k) / math.sqrt(q.size(-1)).
    return q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))


def causal_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """Exercise 1.3: which positions may position i attend to?

    Returns (T, T) bool on `device`, True where query i may attend to key j, that is j <= i.
    """
    # tril keeps the lower triangle, including the diagonal. The definition itself also works:
    # j = torch.arange(T, device=device); return j <= j[:, None].
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Exercise 1.4: give masked positions no weight.

    scores (..., T_q, T_k); mask of any shape that broadcasts to it. A boolean mask is True where
    attention is allowed; elsewhere the score becomes -inf, not merely a large negative number.
    A floating mask is added to the scores.

    Returns new scores (..., T_q, T_k) with the dtype of scores; the input is not modified.
    """
    if mask.dtype == torch.bool:
        # torch.where(mask, scores, -math.inf) is equivalent. A large negative number in place of
        # -inf gives the same weights until a whole row is masked: then that row attends to every
        # key equally, where exercise 1.5 asks for zeros.
        return scores.masked_fill(~mask, -math.inf)
    return scores + mask.to(scores.dtype)


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.5: attention, built from your functions of 1.1, 1.2 and 1.4.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v); mask as in 1.4, or None.

    Returns (output (..., T_q, d_v), weights (..., T_q, T_k)). Each row of weights sums to 1; a
    query that may attend to nothing gets weights and output of zeros.
    """
    scores = attention_scores(q, k)  # (..., T_q, T_k)
    if mask is not None:
        scores = apply_mask(scores, mask)  # before the softmax: exp(-inf) = 0
    weights = softmax(scores, dim=-1)  # over the keys: each query's weights sum to 1
    return weights @ v, weights


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """Exercise 1.6: which keys are tokens, and which are padding?

    lengths (B,) integers: row b holds lengths[b] tokens, then padding up to T.

    Returns (B, 1, 1, T) bool, True where the key is a token; the two axes of size 1 let it
    broadcast over heads and queries. The mask is on the same device as lengths.
    """
    positions = torch.arange(T, device=lengths.device)  # (T,)
    # (T,) against (B, 1) gives (B, T). Position 3 is the fourth: it is a token if length > 3.
    is_token = positions < lengths[:, None]
    return is_token[:, None, None, :]  # .view(-1, 1, 1, T) and two unsqueeze(1) do the same


def cross_attention(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Exercise 1.7: queries from x, keys and values from context.

    x (B, T_q, d_model), context (B, T_k, d_model), w_q and w_k (d_model, d_k), w_v (d_model, d_v).
    The queries are x @ w_q; the keys and values are context @ w_k and context @ w_v. With
    context = x this is self-attention.

    Returns (output (B, T_q, d_v), weights (B, T_q, T_k)), as in 1.5.
    """
    # x determines the number of output rows, context their contents.
    q = x @ w_q  # (B, T_q, d_k)
    k = context @ w_k  # (B, T_k, d_k)
    v = context @ w_v  # (B, T_k, d_v)
    return scaled_dot_product_attention(q, k, v, mask)


def attention_cost(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """Exercise 1.8: how does the cost of attention grow with the sequence length?

    For each of B sequences of T tokens, each of n_heads heads has queries, keys and values of width
    d_head, and computes q @ k.T and then weights @ v.

    Returns (multiply-adds of both products, bytes of the weights). One multiplication and its
    addition count as one multiply-add.
    """
    # Each of the T x T scores is a sum of d_head products; each of the T x d_head outputs is a sum
    # of T products. Both take T * T * d_head multiply-adds.
    one_product = B * n_heads * T * T * d_head
    weights = B * n_heads * T * T
    return 2 * one_product, weights * bytes_per_number


def sliding_window_mask(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """Exercise 1.9, a challenge: attend to a recent window and to the first tokens.

    Position i may attend to the `window` positions that end with itself (window=1: only itself),
    and to the first n_sinks positions (the "attention sinks" of Xiao et al. 2023), but never to
    the future.

    Returns (T, T) bool, True where query i may attend to key j.
    """
    i = torch.arange(T)[:, None]  # queries, as a column
    j = torch.arange(T)  # keys, as a row
    is_near = i - j < window  # i itself is at distance 0: `window` positions in all
    is_sink = j < n_sinks
    # The future is masked for the sinks too, so the parentheses matter.
    return (j <= i) & (is_near | is_sink)


def online_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """Exercise 1.10, a challenge: attention that never holds all scores of a query at once.

    q (..., T_q, d_k), k (..., T_k, d_k), v (..., T_k, d_v). Go through the keys and values in
    blocks of at most block_size. For each query keep the largest score so far, the sum of the
    exponentials so far (relative to that largest score), and the weighted sum of the values so
    far. When a block contains a larger score, rescale both sums. Divide once, at the end.

    Returns the output (..., T_q, d_v). No tensor may hold T_q x T_k scores, and none may hold the
    scores of a query for all T_k keys.
    """
    largest = q.new_full((*q.shape[:-1], 1), -math.inf)  # (..., T_q, 1)
    total = torch.zeros_like(largest)
    mixed = q.new_zeros((*q.shape[:-1], v.size(-1)))  # (..., T_q, d_v)
    for start in range(0, k.size(-2), block_size):
        keys = k[..., start : start + block_size, :]  # the last block may be shorter
        values = v[..., start : start + block_size, :]
        scores = attention_scores(q, keys)  # (..., T_q, block_size)
        new_largest = torch.maximum(largest, scores.amax(-1, keepdim=True))
        # Both sums so far contain exp(score - largest); this factor turns it into
        # exp(score - new_largest). In the first block largest is -inf and the factor exp(-inf) = 0.
        rescale = torch.exp(largest - new_largest)
        exps = torch.exp(scores - new_largest)
        total = total * rescale + exps.sum(-1, keepdim=True)
        mixed = mixed * rescale + exps @ values
        largest = new_largest
    return mixed / total
