"""Common wrong answers to the exercises of lesson 01; each docstring is the diagnosis.

A learner whose result equals that of one of them is shown its docstring. `MISCONCEPTIONS` lists
them by the function that they imitate.
"""

import math

import numpy as np
import torch
from torch import Tensor

from attention import apply_mask as right_mask
from attention import scaled_dot_product_attention as right_attention
from attention import softmax as right_softmax

# --- 1.1 softmax ---


def always_the_last_axis(x: Tensor, dim: int = -1) -> Tensor:
    """the sums run along the last axis, whatever dim says"""
    return right_softmax(x, -1)


def largest_not_subtracted(x: Tensor, dim: int = -1) -> Tensor:
    """the largest entry is not subtracted first: exp overflows to inf, and inf / inf is nan"""
    exps = torch.exp(x)
    return exps / exps.sum(dim, keepdim=True)


def largest_of_the_whole_tensor(x: Tensor, dim: int = -1) -> Tensor:
    """the largest entry of the whole tensor is subtracted, not that of each row: a row far below it
    underflows to 0, and 0 / 0 is nan"""
    exps = torch.exp(x - x.max())
    return exps / exps.sum(dim, keepdim=True)


def sum_without_keepdim(x: Tensor, dim: int = -1) -> Tensor:
    """the sum has lost its axis (no keepdim=True), so the division broadcasts along another axis"""
    exps = torch.exp(x - x.amax(dim, keepdim=True))
    return exps / exps.sum(dim)


def nan_for_masked_rows(x: Tensor, dim: int = -1) -> Tensor:
    """a row of only -inf becomes nan: its largest entry is -inf too, and -inf - -inf is nan"""
    return torch.softmax(x, dim)


def without_exponentials(x: Tensor, dim: int = -1) -> Tensor:
    """the entries themselves are divided by their sum; take their exponentials first"""
    return x / x.sum(dim, keepdim=True)


def subtracted_after_exp(x: Tensor, dim: int = -1) -> Tensor:
    """the largest entry is subtracted from the exponentials; subtract it inside exp"""
    exps = torch.exp(x) - x.amax(dim, keepdim=True)
    return exps / exps.sum(dim, keepdim=True)


def sum_of_the_whole_tensor(x: Tensor, dim: int = -1) -> Tensor:
    """the sum runs over the whole tensor; each row along dim needs a sum of its own"""
    exps = torch.exp(x - x.amax(dim, keepdim=True))
    return exps / exps.sum()


def subtracted_the_wrong_way(x: Tensor, dim: int = -1) -> Tensor:
    """the scores are subtracted from the largest one, so the smallest score gets the largest
    weight; subtract the largest from the scores"""
    exps = torch.exp(x.amax(dim, keepdim=True) - x)
    return exps / exps.sum(dim, keepdim=True)


def logarithm_of_the_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """this is the logarithm of the softmax: negative numbers, whose exponentials sum to 1"""
    return x - x.logsumexp(dim, keepdim=True)


def whole_tensor_with_clamp(x: Tensor, dim: int = -1) -> Tensor:
    """the largest entry of the whole tensor is subtracted, not that of each row: a row far below it
    underflows to 0"""
    largest = x.max().masked_fill(x.max() == -math.inf, 0.0)
    exps = torch.exp(x - largest)
    return exps / exps.sum(dim, keepdim=True).clamp(min=1.0)


def sum_along_the_last_axis(x: Tensor, dim: int = -1) -> Tensor:
    """the sum runs along the last axis, whatever dim says"""
    largest = x.amax(dim, keepdim=True)
    exps = torch.exp(x - largest.masked_fill(largest == -math.inf, 0.0))
    return exps / exps.sum(-1, keepdim=True).clamp(min=1e-30)


def smallest_subtracted(x: Tensor, dim: int = -1) -> Tensor:
    """the smallest entry is subtracted, so the largest exponential can still overflow; subtract the
    largest"""
    exps = torch.exp(x - x.amin(dim, keepdim=True))
    return exps / exps.sum(dim, keepdim=True)


def equal_weights_for_nothing(x: Tensor, dim: int = -1) -> Tensor:
    """a row of only -inf gets equal weights; it should get zeros"""
    weights = torch.softmax(x, dim)
    return weights.masked_fill(weights.isnan(), 1.0 / x.size(dim))


def plain_exps_over_everything(x: Tensor, dim: int = -1) -> Tensor:
    """the sum runs over the whole tensor; each row along dim needs a sum of its own"""
    return torch.exp(x) / torch.exp(x).sum()


def plain_exps_without_keepdim(x: Tensor, dim: int = -1) -> Tensor:
    """the sum has lost its axis (no keepdim=True), so the division broadcasts along another axis"""
    return torch.exp(x) / torch.exp(x).sum(dim)


# --- 1.2 attention_scores ---


def not_scaled(q: Tensor, k: Tensor) -> Tensor:
    """the division by the square root of d_k is missing"""
    return q @ k.transpose(-2, -1)


def scaled_by_d_k(q: Tensor, k: Tensor) -> Tensor:
    """the scores are divided by d_k; divide by its square root"""
    return q @ k.transpose(-2, -1) / q.size(-1)


def multiplied_by_the_root(q: Tensor, k: Tensor) -> Tensor:
    """the scores are multiplied by the square root of d_k; they should be divided by it"""
    return q @ k.transpose(-2, -1) * math.sqrt(q.size(-1))


def scaled_by_the_number_of_keys(q: Tensor, k: Tensor) -> Tensor:
    """the scores are divided by the square root of T_k, the number of keys; d_k is their width,
    k.size(-1)"""
    return q @ k.transpose(-2, -1) / math.sqrt(k.size(-2))


def queries_and_keys_exchanged(q: Tensor, k: Tensor) -> Tensor:
    """queries and keys are exchanged: this is k times q transposed"""
    return k @ q.transpose(-2, -1) / math.sqrt(q.size(-1))


def keys_not_transposed(q: Tensor, k: Tensor) -> Tensor:
    """k is not transposed: the product of (T_q, d_k) needs (d_k, T_k) on its right"""
    return q @ k / math.sqrt(q.size(-1))


def first_two_axes_swapped(q: Tensor, k: Tensor) -> Tensor:
    """transpose(0, 1) counts from the front: with leading axes those are not the last two; use
    transpose(-2, -1)"""
    return q @ k.transpose(0, 1) / math.sqrt(q.size(-1))


def axes_one_and_two_swapped(q: Tensor, k: Tensor) -> Tensor:
    """transpose(1, 2) counts from the front: only with three axes are those the last two; use
    transpose(-2, -1)"""
    return q @ k.transpose(1, 2) / math.sqrt(q.size(-1))


def keys_reshaped(q: Tensor, k: Tensor) -> Tensor:
    """k is reshaped, not transposed: the shape is right, but view and reshape regroup the values
    in memory order, where a transpose moves axes"""
    turned = k.reshape(*k.shape[:-2], k.size(-1), k.size(-2))
    return q @ turned / math.sqrt(q.size(-1))


def width_of_axis_one(q: Tensor, k: Tensor) -> Tensor:
    """d_k is read from axis 1, which is the last one only without leading axes; use q.size(-1)"""
    return q @ k.transpose(-2, -1) / math.sqrt(q.size(1))


def softmax_taken_already(q: Tensor, k: Tensor) -> Tensor:
    """the softmax is taken already; only the scores are asked for"""
    return torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), -1)


# --- 1.3 causal_mask ---


def without_itself(T: int, device: torch.device | str | None = None) -> Tensor:
    """a position does not attend to itself: the condition is j <= i, not j < i"""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril(-1)


def sees_the_future(T: int, device: torch.device | str | None = None) -> Tensor:
    """the triangle is upside down: each position attends to itself and the future"""
    return torch.ones(T, T, dtype=torch.bool, device=device).triu()


def true_means_forbidden(T: int, device: torch.device | str | None = None) -> Tensor:
    """True and False are exchanged: True means that a query may attend"""
    return torch.ones(T, T, dtype=torch.bool, device=device).triu(1)


def one_step_ahead(T: int, device: torch.device | str | None = None) -> Tensor:
    """each position sees one step into the future: the condition is j <= i, not j <= i + 1"""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril(1)


def ones_and_zeros(T: int, device: torch.device | str | None = None) -> Tensor:
    """the mask contains the numbers 1 and 0; make it boolean (dtype=torch.bool)"""
    return torch.ones(T, T, device=device).tril()


def additive_mask(T: int, device: torch.device | str | None = None) -> Tensor:
    """this is an additive mask of 0 and -inf; the exercise asks for a boolean one"""
    return torch.full((T, T), -math.inf, device=device).triu(1)


def everything_allowed(T: int, device: torch.device | str | None = None) -> Tensor:
    """every position sees every other, the future too: a triangle is missing"""
    return torch.ones(T, T, dtype=torch.bool, device=device)


def only_itself(T: int, device: torch.device | str | None = None) -> Tensor:
    """each position sees only itself: this is the diagonal, without the past"""
    return torch.eye(T, dtype=torch.bool, device=device)


# --- 1.4 apply_mask ---


def zero_for_masked(scores: Tensor, mask: Tensor) -> Tensor:
    """masked scores become 0, and exp(0) = 1 still gets weight; only -inf gets none"""
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, 0.0)
    return scores + mask.to(scores.dtype)


def fills_where_true(scores: Tensor, mask: Tensor) -> Tensor:
    """-inf is written where the mask is True, where attention is allowed: invert the mask with ~"""
    if mask.dtype == torch.bool:
        return scores.masked_fill(mask, -math.inf)
    return scores + mask.to(scores.dtype)


def multiplied(scores: Tensor, mask: Tensor) -> Tensor:
    """scores and mask are multiplied: a masked score becomes 0, which still gets weight"""
    return scores * mask


def added_as_numbers(scores: Tensor, mask: Tensor) -> Tensor:
    """a boolean mask is added as ones and zeros, which masks nothing"""
    return scores + mask


def floats_taken_for_booleans(scores: Tensor, mask: Tensor) -> Tensor:
    """a floating mask is treated like a boolean one; it should be added to the scores"""
    return scores.masked_fill(mask == 0, -math.inf)


def floats_multiplied(scores: Tensor, mask: Tensor) -> Tensor:
    """the scores are multiplied by a floating mask; it should be added"""
    return right_mask(scores, mask) if mask.dtype == torch.bool else scores * mask.to(scores.dtype)


def floats_ignored(scores: Tensor, mask: Tensor) -> Tensor:
    """a floating mask is ignored; it should be added to the scores"""
    return right_mask(scores, mask) if mask.dtype == torch.bool else scores


def minus_a_billion(scores: Tensor, mask: Tensor) -> Tensor:
    """masked scores are -1e9; a row that is masked entirely then attends to everything equally:
    use -math.inf"""
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -1e9)
    return scores + mask.to(scores.dtype)


def smallest_finite_number(scores: Tensor, mask: Tensor) -> Tensor:
    """masked scores are the smallest finite number; a row that is masked entirely then attends to
    everything equally: use -math.inf"""
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask.to(scores.dtype)


# --- 1.5 scaled_dot_product_attention ---


def softmax_over_queries(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the softmax runs over the queries (dim=-2), so columns sum to 1; it should run over the keys,
    the last axis"""
    weights = right_softmax(masked_scores(q, k, mask), -2)
    return weights @ v, weights


def softmax_over_axis_one(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the softmax runs over axis 1, which is the last axis only if there are no leading axes:
    use dim=-1"""
    weights = right_softmax(masked_scores(q, k, mask), 1)
    return weights @ v, weights


def attention_not_scaled(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the division of the scores by the square root of d_k is missing"""
    return right_attention(q * math.sqrt(q.size(-1)), k, v, mask)


def attention_scaled_by_d_k(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the scores are divided by d_k; divide by its square root"""
    return right_attention(q / math.sqrt(q.size(-1)), k, v, mask)


def mask_after_softmax(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is applied after the softmax: the masked keys have had their weight already, so the
    rows no longer sum to 1"""
    _, weights = right_attention(q, k, v)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0) if mask.dtype == torch.bool else weights + mask
    return weights @ v, weights


def mask_ignored(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is not used at all"""
    return right_attention(q, k, v)


def only_the_output(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """only the output is returned; return output and weights"""
    return right_attention(q, k, v, mask)[0]


def weights_first(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the weights are returned first; return the output first"""
    output, weights = right_attention(q, k, v, mask)
    return weights, output


def nan_for_masked_queries(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """a query that may attend to nothing gets nan: the softmax of a row of -inf is 0 / 0"""
    weights = torch.softmax(masked_scores(q, k, mask), -1)
    return weights @ v, weights


def large_number_for_infinity(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """masked scores are a large negative number (perhaps in 1.4): a query that may attend to
    nothing then attends to all masked keys equally; with -inf its weights are zeros"""
    scores = masked_scores(q, k, mask).clamp(min=-1e9)
    weights = torch.softmax(scores, -1)
    return weights @ v, weights


def values_weighted_by_scores(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the values are weighted by the scores; use the weights, after the softmax"""
    _, weights = right_attention(q, k, v, mask)
    return masked_scores(q, k, mask) @ v, weights


def mask_multiplied_after_softmax(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is applied after the softmax: the masked keys have had their weight already, so the
    rows no longer sum to 1"""
    _, weights = right_attention(q, k, v)
    weights = weights if mask is None else weights * mask
    return weights @ v, weights


def boolean_mask_after_softmax(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is applied after the softmax: the masked keys have had their weight already, so the
    rows no longer sum to 1"""
    if mask is None or mask.dtype != torch.bool:
        return right_attention(q, k, v, mask)
    _, weights = right_attention(q, k, v)
    return (weights * mask) @ v, weights * mask


def renormalised_after_softmax(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is applied after the softmax, and the rest made to sum to 1 again: where a masked
    key had all the weight, or every key is masked, 0 / 0 is left"""
    _, weights = right_attention(q, k, v)
    if mask is not None and mask.dtype == torch.bool:
        weights = weights * mask
        weights = weights / weights.sum(-1, keepdim=True)
    elif mask is not None:
        _, weights = right_attention(q, k, v, mask)
    return weights @ v, weights


def zero_scores_for_masked(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """masked scores become 0, and exp(0) = 1 still gives weight; use -inf"""
    scores = masked_scores(q, k, None)
    if mask is not None:
        scores = scores * mask
    weights = right_softmax(scores)
    return weights @ v, weights


def masked_where_true(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is used the wrong way round: True means that a query may attend to the key"""
    inverted = ~mask if mask is not None and mask.dtype == torch.bool else mask
    return plain_attention(q, k, v, inverted)


def no_softmax(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the softmax is missing: the scores themselves weight the values"""
    scores = masked_scores(q, k, mask)
    return scores @ v, scores


def scaled_after_softmax(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the weights are divided by the square root of d_k; divide the scores, before the softmax"""
    root = math.sqrt(q.size(-1))
    _, weights = right_attention(q * root, k, v, mask)
    return weights / root @ v, weights / root


def floating_mask_scaled(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """a floating mask is divided by the square root of d_k as well: divide the scores first, then
    add the mask"""
    if mask is None or mask.dtype == torch.bool:
        return right_attention(q, k, v, mask)
    return right_attention(q, k, v, mask / math.sqrt(q.size(-1)))


def floating_mask_ignored(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """a floating mask is not used; add it to the scores"""
    return right_attention(q, k, v, mask if mask is None or mask.dtype == torch.bool else None)


def unmasked_weights_returned(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the output is right, but the weights that are returned are those without the mask"""
    return right_attention(q, k, v, mask)[0], right_attention(q, k, v)[1]


def scores_returned(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the output is right, but the scores are returned in place of the weights"""
    return right_attention(q, k, v, mask)[0], masked_scores(q, k, mask)


def scaled_by_the_width_of_values(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the scores are divided by the square root of d_v, the width of the values; d_k is that of
    queries and keys"""
    return right_attention(q * math.sqrt(q.size(-1) / v.size(-1)), k, v, mask)


def scaled_by_the_length(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the scores are divided by the square root of T_k, the number of keys; d_k is their width"""
    return right_attention(q * math.sqrt(q.size(-1) / k.size(-2)), k, v, mask)


def mask_added_twice(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is applied twice: a floating mask then counts double"""
    doubled = 2 * mask if mask is not None and mask.dtype != torch.bool else mask
    return right_attention(q, k, v, doubled)


def softmax_twice(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the softmax is taken twice"""
    weights = right_softmax(right_attention(q, k, v, mask)[1])
    return weights @ v, weights


def weights_masked_with_infinity(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is applied to the weights, after the softmax; apply it to the scores, before"""
    _, weights = right_attention(q, k, v)
    weights = weights if mask is None else right_mask(weights, mask)
    return weights @ v, weights


def masked_scores(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled and masked scores, used by the wrong answers."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    return scores if mask is None else right_mask(scores, mask)


# --- 1.6 predict_weights ---


def without_the_mask() -> tuple[float, float, float]:
    """these are the weights without the mask; the score of "mice" must not count"""
    return 0.665, 0.090, 0.245


def row_of_cats() -> tuple[float, float, float]:
    """the token "chase" sees itself too, and the exponential of its score 0 is 1, not 0; weights of
    1 and 0 are those of "cats", who sees only itself"""
    return 1.0, 0.0, 0.0


def weight_removed_afterwards() -> tuple[float, float, float]:
    """the weight of "mice" is removed after the softmax, so the row no longer sums to 1; remove its
    score before"""
    return 0.665, 0.090, 0.0


def score_of_zero() -> tuple[float, float, float]:
    """the score of "mice" is taken as 0, whose exponential is 1; -inf has the exponential 0"""
    return 0.787, 0.107, 0.107


def not_yet_divided() -> tuple[float, float, float]:
    """these come from the scores 4 and 0, before the division by the square root of d_k"""
    return 0.982, 0.018, 0.0


def equal_shares() -> tuple[float, float, float]:
    """the visible keys share equally here; their scores, 2 and 0, differ"""
    return 0.5, 0.5, 0.0


def wrong_key_masked() -> tuple[float, float, float]:
    """the score of "chase" itself is masked; a token may see itself, but not the future"""
    return 0.731, 0.0, 0.269


def in_reverse() -> tuple[float, float, float]:
    """the weights of "cats" and "chase" are exchanged: the score 2 belongs to "cats\""""
    return 0.119, 0.881, 0.0


def in_percent() -> tuple[float, float, float]:
    """these are percentages; weights sum to 1"""
    return 88.1, 11.9, 0.0


def exponent_not_squared() -> tuple[float, float, float]:
    """the score of "cats" is 2, and its exponential is e squared, not e"""
    return 0.731, 0.269, 0.0


def past_masked() -> tuple[float, float, float]:
    """the past is masked here; a causal mask hides the future"""
    return 0.0, 0.269, 0.731


def scores_as_shares() -> tuple[float, float, float]:
    """these are shares of the scores themselves; take their exponentials first"""
    return 0.667, 0.0, 0.333


# --- 1.7 padding_mask ---


def without_axes_of_size_one(lengths: Tensor, T: int) -> Tensor:
    """the mask has shape (B, T): the two axes of size 1 between them are missing"""
    return torch.arange(T) < lengths[:, None]


def true_for_padding(lengths: Tensor, T: int) -> Tensor:
    """True marks padding; it should mark tokens, which may be attended to"""
    return (torch.arange(T) >= lengths[:, None])[:, None, None, :]


def one_token_too_many(lengths: Tensor, T: int) -> Tensor:
    """one padding token counts as real: positions start at 0, so test position < length"""
    return (torch.arange(T) <= lengths[:, None])[:, None, None, :]


def padded_on_the_left(lengths: Tensor, T: int) -> Tensor:
    """the mask is for padding on the left; here the padding is on the right"""
    return (torch.arange(T) >= T - lengths[:, None])[:, None, None, :]


def queries_masked(lengths: Tensor, T: int) -> Tensor:
    """the mask is (B, 1, T, 1), which masks queries; the keys are the last axis, (B, 1, 1, T)"""
    return (torch.arange(T) < lengths[:, None])[:, None, :, None]


def padding_as_numbers(lengths: Tensor, T: int) -> Tensor:
    """the mask contains numbers; it should be boolean"""
    return (torch.arange(T) < lengths[:, None]).float()[:, None, None, :]


def on_the_default_device(lengths: Tensor, T: int) -> Tensor:
    """the mask is made on PyTorch's default device; pass device=lengths.device"""
    return (torch.arange(T) < lengths[:, None])[:, None, None, :]


def one_token_too_few(lengths: Tensor, T: int) -> Tensor:
    """the last token counts as padding: positions start at 0, so test position < length"""
    positions = torch.arange(T, device=lengths.device)
    return (positions < lengths[:, None] - 1)[:, None, None, :]


def axes_of_size_one_in_front(lengths: Tensor, T: int) -> Tensor:
    """the axes of size 1 stand in front, (1, 1, B, T); they belong between B and T"""
    return (torch.arange(T, device=lengths.device) < lengths[:, None])[None, None]


# --- 1.8 attend_from_the_end ---


def triangle_attention(q: Tensor, k: Tensor, v: Tensor, diagonal: int) -> Tensor:
    """Attention under a triangle whose edge is moved, used by the wrong answers."""
    allowed = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).tril(diagonal)
    return plain_attention(q, k, v, allowed)[0]


def as_handed_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the mask still has the rows of the oldest positions: query 0 sees key 0 only, though it is
    position T_k - T_q"""
    return triangle_attention(q, k, v, 0)


def moved_the_wrong_way(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the triangle is moved by T_q - T_k, to the left; it must go right, by T_k - T_q"""
    return triangle_attention(q, k, v, q.size(-2) - k.size(-2))


def moved_too_far(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the rows are those of one position later: each query sees the token after its own"""
    return triangle_attention(q, k, v, k.size(-2) - q.size(-2) + 1)


def not_moved_enough(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the rows are those of one position earlier: a query does not see its own token"""
    return triangle_attention(q, k, v, k.size(-2) - q.size(-2) - 1)


def every_key_visible(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """every query sees every key, the future too: only the last row of the mask looks like that"""
    return triangle_attention(q, k, v, k.size(-2))


def triangle_upside_down(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the triangle is upside down: each query sees itself and the future"""
    allowed = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).triu(k.size(-2) - q.size(-2))
    return plain_attention(q, k, v, allowed)[0]


def rows_in_reverse(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the right rows in the wrong order: the first query has the row of the last one"""
    T_q, T_k = q.size(-2), k.size(-2)
    allowed = torch.ones(T_q, T_k, dtype=torch.bool).tril(T_k - T_q).flip(0)
    return plain_attention(q, k, v, allowed)[0]


def square_of_the_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the mask is made for T_q positions, a square; it needs a column for each of the T_k keys"""
    allowed = torch.ones(q.size(-2), q.size(-2), dtype=torch.bool).tril()
    return plain_attention(q, k, v, allowed)[0]


def past_cut_off(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """keys and values are cut to the last T_q, which removes the past; all T_k keys count"""
    T = q.size(-2)
    triangle = torch.ones(T, T, dtype=torch.bool).tril()
    return plain_attention(q, k[..., -T:, :], v[..., -T:, :], triangle)[0]


# --- 1.9 cross_attention ---


def context_ignored(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """this is self-attention: keys and values come from x, and should come from context"""
    return plain_attention(x @ w_q, x @ w_k, x @ w_v, mask)


def queries_from_context(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the roles are exchanged: queries come from x, keys and values from context"""
    return plain_attention(context @ w_q, x @ w_k, x @ w_v, mask)


def values_not_projected(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the values are context itself; they should be context times w_v"""
    return plain_attention(x @ w_q, context @ w_k, context, mask)


def keys_and_values_exchanged(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """w_k and w_v are exchanged"""
    return plain_attention(x @ w_q, context @ w_v, context @ w_k, mask)


def values_from_x(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the values come from x; like the keys they should come from context"""
    return plain_attention(x @ w_q, context @ w_k, x @ w_v, mask)


def cross_mask_ignored(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the mask is not used"""
    return plain_attention(x @ w_q, context @ w_k, context @ w_v)


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention without the reference's checks: it raises the errors of a learner's code."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask.to(scores.dtype)
    weights = right_softmax(scores, -1)
    return weights @ v, weights


def projections_of_queries_and_keys_exchanged(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """w_q and w_k are exchanged"""
    return plain_attention(x @ w_k, context @ w_q, context @ w_v, mask)


def keys_from_x(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the keys come from x; take them from context, like the values"""
    return plain_attention(x @ w_q, x @ w_k, context @ w_v, mask)


def cross_output_only(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> Tensor:
    """only the output is returned; return output and weights"""
    return plain_attention(x @ w_q, context @ w_k, context @ w_v, mask)[0]


def cross_weights_first(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the weights are returned first; return the output first"""
    output, weights = plain_attention(x @ w_q, context @ w_k, context @ w_v, mask)
    return weights, output


def cross_not_scaled(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the division of the scores by the square root of d_k is missing"""
    root = math.sqrt(w_q.size(-1))
    return plain_attention(x @ w_q * root, context @ w_k, context @ w_v, mask)


def scaled_by_d_model(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the scores are divided by the square root of d_model; divide by that of d_k, the width of
    queries and keys"""
    factor = math.sqrt(w_q.size(-1) / x.size(-1))
    return plain_attention(x @ w_q * factor, context @ w_k, context @ w_v, mask)


def x_joins_the_context(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x is put before the context, so its tokens are keys as well; the keys are those of context
    alone"""
    both = torch.cat([x, context], dim=1)
    return plain_attention(x @ w_q, both @ w_k, both @ w_v)


def one_projection_for_queries_and_keys(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the keys are projected with w_q; they have a matrix of their own, w_k"""
    return plain_attention(x @ w_q, context @ w_q, context @ w_v, mask)


# --- 1.10 read_maps ---


def reading(name: str, letter: str) -> dict[str, str]:
    """The right answer with one wrong letter."""
    right = {
        "causal": "D",
        "padding": "A",
        "causal, padded on the left": "C",
        "sliding window": "B",
    }
    return {**right, name: letter}


def a_is_not_causal() -> dict[str, str]:
    """in A the first query sees four keys, three of them in its future"""
    return reading("causal", "A")


def b_is_narrower_than_causal() -> dict[str, str]:
    """in B the last query sees two keys only; under a causal mask it sees all six"""
    return reading("causal", "B")


def c_lacks_its_first_columns() -> dict[str, str]:
    """in C no query sees keys 0 and 1, and the first two rows are empty; a plain causal mask hides
    the future only"""
    return reading("causal", "C")


def b_hides_no_column() -> dict[str, str]:
    """in B every key is seen by some query; padding hides whole columns from all of them"""
    return reading("padding", "B")


def c_hides_the_future_too() -> dict[str, str]:
    """C hides the first columns, but the future as well; padding alone lets a query look ahead"""
    return reading("padding", "C")


def d_hides_no_column() -> dict[str, str]:
    """in D every key is seen by some query; padding hides whole columns from all of them"""
    return reading("padding", "D")


def a_sees_the_future() -> dict[str, str]:
    """in A queries see keys in their future, and the hidden columns are the last ones"""
    return reading("causal, padded on the left", "A")


def d_hides_no_first_column() -> dict[str, str]:
    """in D the first columns are visible; padding on the left hides them"""
    return reading("causal, padded on the left", "D")


def d_sees_the_whole_past() -> dict[str, str]:
    """in D the last query sees all six keys; a window is equally wide in every later row"""
    return reading("sliding window", "D")


def a_is_as_wide_everywhere() -> dict[str, str]:
    """A shows the same four keys in every row; a window moves along with the query"""
    return reading("sliding window", "A")


def b_has_no_empty_rows() -> dict[str, str]:
    """in B every query sees at least itself; with padding on the left the first rows are empty"""
    return reading("causal, padded on the left", "B")


def c_grows_with_the_query() -> dict[str, str]:
    """in C later queries see more keys; a window is equally wide in every later row"""
    return reading("sliding window", "C")


# --- 1.11 numpy_attention ---

Arrays = tuple[np.ndarray, np.ndarray]


def numpy_variant(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None,
    *,
    scale: float = 1.0,
    axis: int = -1,
    hidden: float = -np.inf,
    stable: bool = True,
    zeros_for_nothing: bool = True,
) -> Arrays:
    """Attention in NumPy with one thing changed, used by the wrong answers."""
    with np.errstate(all="ignore"):
        scores = q @ k.swapaxes(-2, -1) * (scale / np.sqrt(q.shape[-1])).astype(q.dtype)
        if mask is not None:
            scores = np.where(mask, scores, np.asarray(hidden, dtype=q.dtype))
        if stable:
            largest = scores.max(axis=axis, keepdims=True)
            if zeros_for_nothing:
                largest = np.where(largest == -np.inf, np.asarray(0, dtype=q.dtype), largest)
            scores = scores - largest
        exps = np.exp(scores)
        total = exps.sum(axis=axis, keepdims=True)
        weights = exps / np.where((total == 0) & zeros_for_nothing, 1, total).astype(q.dtype)
        return weights @ v, weights


def numpy_not_scaled(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """the division of the scores by the square root of d_k is missing"""
    return numpy_variant(q, k, v, mask, scale=math.sqrt(q.shape[-1]))


def numpy_scaled_by_d_k(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """the scores are divided by d_k; divide by its square root"""
    return numpy_variant(q, k, v, mask, scale=1 / math.sqrt(q.shape[-1]))


def numpy_softmax_over_queries(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """the softmax runs over the queries; it belongs over the keys, axis=-1"""
    return numpy_variant(q, k, v, mask, axis=-2)


def numpy_zero_for_masked(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """masked scores become 0, and exp(0) = 1 still gives weight; use -np.inf"""
    return numpy_variant(q, k, v, mask, hidden=0.0)


def numpy_large_number_for_infinity(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """masked scores are a large negative number: a query that may attend to nothing then attends to
    all masked keys equally; use -np.inf"""
    return numpy_variant(q, k, v, mask, hidden=-1e9)


def numpy_overflows(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """the largest score is not subtracted first: exp overflows to inf, and inf / inf is nan"""
    return numpy_variant(q, k, v, mask, stable=False)


def numpy_nan_for_nothing(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """a query that may attend to nothing gets nan: its largest score is -inf, and -inf - -inf is
    nan"""
    return numpy_variant(q, k, v, mask, zeros_for_nothing=False)


def numpy_masked_where_true(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """the mask is used the wrong way round: True means that a query may attend to the key"""
    return numpy_variant(q, k, v, None if mask is None else ~mask)


def numpy_mask_after_softmax(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """the mask is applied after the softmax: the masked keys have had their weight already, so the
    rows no longer sum to 1"""
    _, weights = numpy_variant(q, k, v, None)
    weights = weights if mask is None else weights * mask
    return weights @ v, weights


def numpy_output_only(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """only the output is returned; return output and weights"""
    return numpy_variant(q, k, v, mask)[0]


def numpy_all_axes_reversed(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """k.T reverses all axes, the batch too; k.swapaxes(-2, -1) swaps the last two"""
    scores = q @ k.T / math.sqrt(q.shape[-1])
    return scores @ v, scores


def numpy_largest_of_all(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Arrays:
    """the largest score of all queries is subtracted, not that of each row: a row far below it
    underflows to 0"""
    scores = q @ k.swapaxes(-2, -1) / np.sqrt(q.shape[-1]).astype(q.dtype)
    if mask is not None:
        scores = np.where(mask, scores, np.asarray(-np.inf, dtype=q.dtype))
    exps = np.exp(scores - scores.max())
    total = exps.sum(axis=-1, keepdims=True)
    weights = exps / np.where(total == 0, 1, total).astype(q.dtype)
    return weights @ v, weights


# --- 1.12 attention_cost ---


def one_product_counted(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """only one of the two products is counted: weights times v costs as much as q times k"""
    return B * n_heads * T * T * d_head, B * n_heads * T * T * bytes_per_number


def multiplications_and_additions(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """multiplications and additions are counted separately; a pair of them is one multiply-add"""
    return 4 * B * n_heads * T * T * d_head, B * n_heads * T * T * bytes_per_number


def numbers_not_bytes(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """the second value is the number of weights; multiply it by bytes_per_number"""
    return 2 * B * n_heads * T * T * d_head, B * n_heads * T * T


def one_head_only(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """n_heads is missing: each head has its own products and weights"""
    return 2 * B * T * T * d_head, B * T * T * bytes_per_number


def one_weight_matrix(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """the weights are counted once for all heads; each head has its own T x T matrix"""
    return 2 * B * n_heads * T * T * d_head, B * T * T * bytes_per_number


def linear_in_length(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """T is counted once; every query meets every key, which makes T * T"""
    return 2 * B * n_heads * T * d_head, B * n_heads * T * bytes_per_number


def batch_forgotten(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """the B sequences are left out: each has products and weights of its own"""
    return 2 * n_heads * T * T * d_head, n_heads * T * T * bytes_per_number


def width_squared(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """d_head is counted twice and T once; every query meets every key, so it is T * T * d_head"""
    return 2 * B * n_heads * T * d_head * d_head, B * n_heads * T * T * bytes_per_number


def projections_counted_too(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """the projections that make queries, keys and values are counted too; only the two products of
    attention are asked for"""
    products = 2 * B * n_heads * T * T * d_head
    projections = 3 * B * T * (n_heads * d_head) ** 2
    return products + projections, B * n_heads * T * T * bytes_per_number


def bytes_of_the_outputs(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """the second value counts T x d_head outputs; the weights are T x T per head"""
    return 2 * B * n_heads * T * T * d_head, B * n_heads * T * d_head * bytes_per_number


def half_for_the_mask(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """only the visible half is counted; plain attention computes all T x T scores, masked or not"""
    pairs = T * (T + 1) // 2
    return 2 * B * n_heads * pairs * d_head, B * n_heads * pairs * bytes_per_number


def always_four_bytes(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """the bytes are those of float32, whatever bytes_per_number says"""
    return 2 * B * n_heads * T * T * d_head, B * n_heads * T * T * 4


def results_exchanged(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """the two results are exchanged: multiply-adds first, then bytes"""
    return B * n_heads * T * T * bytes_per_number, 2 * B * n_heads * T * T * d_head


def bytes_of_the_inputs(
    B: int, n_heads: int, T: int, d_head: int, bytes_per_number: int = 4
) -> tuple[int, int]:
    """the second value counts queries, keys and values; count the weights, T x T per head"""
    return 2 * B * n_heads * T * T * d_head, 3 * B * n_heads * T * d_head * bytes_per_number


# --- 1.13 sliding_window_mask ---


def window_one_longer(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the window is one position too long: it counts the position itself, so i - j < window"""
    return right_window(T, window + 1, n_sinks)


def window_one_shorter(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the window is one position too short: with window=1 a position still sees itself"""
    return right_window(T, window - 1, n_sinks)


def window_both_ways(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the window reaches into the future as well: j <= i is missing"""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return ((i - j).abs() < window) | ((j < n_sinks) & (j <= i))


def sinks_ignored(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the sinks are missing: the first n_sinks positions stay visible from everywhere later"""
    return right_window(T, window, 0)


def sinks_in_the_future(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """sinks are visible from the past: position 0 sees sink 1; j <= i applies to sinks too"""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return ((j <= i) & (i - j < window)) | (j < n_sinks)


def sinks_within_the_window(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the mask requires near and sink; either is enough: near or sink"""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return (j <= i) & (i - j < window) & (j < n_sinks)


def sinks_one_too_many(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """there is one sink too many: positions start at 0, so the first n_sinks are j < n_sinks"""
    return right_window(T, window, n_sinks + 1)


def sinks_at_the_end(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the sinks are the last positions here; they are the first n_sinks"""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return (j <= i) & ((i - j < window) | (j >= T - n_sinks))


def window_ignored(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the whole past is visible: the window, i - j < window, is missing"""
    return torch.ones(T, T, dtype=torch.bool).tril()


def window_ahead(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the window looks ahead: j - i in place of i - j"""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return ((j >= i) & (j - i < window)) | ((j < n_sinks) & (j <= i))


def window_of_numbers(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the mask contains the numbers 1 and 0; it must contain True and False (dtype=torch.bool)"""
    return right_window(T, window, n_sinks).float()


def and_before_or(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the parentheses are missing: & binds more tightly than |, so "never the future" covers only
    one of the two ways to be allowed"""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return (i - j < window) | ((j < n_sinks) & (j <= i))


def blocks_in_place_of_a_window(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """these are fixed blocks of `window` positions; a window slides along with the query"""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return (j <= i) & ((i // window == j // window) | (j < n_sinks))


def queries_taken_for_sinks(T: int, window: int, n_sinks: int = 0) -> Tensor:
    """the sinks are tested on the query, i < n_sinks; it is the key that is one, j < n_sinks"""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return (j <= i) & ((i - j < window) | (i < n_sinks))


def right_window(T: int, window: int, n_sinks: int) -> Tensor:
    """The right mask, used by the wrong answers."""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    return (j <= i) & ((i - j < window) | (j < n_sinks))


# --- 1.14 online_attention ---


def values_not_rescaled(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the weighted sum of values is not rescaled when a block has a larger score"""
    return online(q, k, v, block_size, rescale_values=False)


def sum_not_rescaled(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the sum of exponentials is not rescaled when a block has a larger score"""
    return online(q, k, v, block_size, rescale_sum=False)


def nothing_rescaled(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """nothing is rescaled when a block has a larger score: exponentials of different blocks are
    then relative to different maxima"""
    return online(q, k, v, block_size, rescale_values=False, rescale_sum=False)


def blocks_averaged(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """each block has its own softmax, and the results are averaged; a block with larger scores must
    count for more"""
    starts = range(0, k.size(-2), block_size)
    blocks = [(k[..., s : s + block_size, :], v[..., s : s + block_size, :]) for s in starts]
    outputs = [right_attention(q, keys, values)[0] for keys, values in blocks]
    return torch.stack(outputs).mean(0)


def last_block_dropped(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the keys after the last full block are ignored: T_k need not be a multiple of block_size"""
    whole = max(k.size(-2) // block_size, 1) * block_size
    return right_attention(q, k[..., :whole, :], v[..., :whole, :])[0]


def online_not_scaled(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the division of the scores by the square root of d_k is missing"""
    return right_attention(q * math.sqrt(q.size(-1)), k, v)[0]


def largest_starts_at_zero(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the largest score starts at 0; if all scores are far below, every exponential is 0, and
    0 / 0 is nan: start at -inf"""
    return online(q, k, v, block_size, start=0.0)


def largest_ignored(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the largest score is not subtracted: exp overflows for large scores, and inf / inf is nan"""
    starts = range(0, k.size(-2), block_size)
    exps = [torch.exp(masked_scores(q, k[..., s : s + block_size, :], None)) for s in starts]
    mixed = [e @ v[..., s : s + block_size, :] for s, e in zip(starts, exps, strict=True)]
    return sum(mixed, torch.zeros(())) / sum(e.sum(-1, keepdim=True) for e in exps)


def largest_of_the_first_block(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the largest score is taken from the first block and never updated: a later, larger score
    overflows, and inf / inf is nan"""
    largest = masked_scores(q, k[..., :block_size, :], None).amax(-1, keepdim=True)
    exps = torch.exp(masked_scores(q, k, None) - largest)
    return exps @ v / exps.sum(-1, keepdim=True)


def rescaled_the_wrong_way(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the factor is the wrong way round: it is exp(old largest - new largest), at most 1"""
    return online(q, k, v, block_size, direction=-1)


def not_divided(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the weighted values are returned without the division by the sum of the exponentials"""
    return online(q, k, v, block_size, divide=False)


def only_the_last_block(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """each block overwrites what was kept; add to the sum and to the weighted values"""
    start = (k.size(-2) - 1) // block_size * block_size
    return right_attention(q, k[..., start:, :], v[..., start:, :])[0]


def blocks_summed(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """each block has a softmax of its own, and the results are added up; divide once, at the end,
    by the sum over all blocks"""
    starts = range(0, k.size(-2), block_size)
    blocks = [(k[..., s : s + block_size, :], v[..., s : s + block_size, :]) for s in starts]
    return torch.stack([right_attention(q, keys, values)[0] for keys, values in blocks]).sum(0)


def online_scaled_by_d_k(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """the scores are divided by d_k; divide by its square root"""
    return right_attention(q / math.sqrt(q.size(-1)), k, v)[0]


def online(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_size: int,
    *,
    start: float = -math.inf,
    rescale_values: bool = True,
    rescale_sum: bool = True,
    direction: int = 1,
    divide: bool = True,
) -> Tensor:
    """The online softmax with parts of it left out, used by the wrong answers."""
    largest = q.new_full((*q.shape[:-1], 1), start)
    total, mixed = torch.zeros_like(largest), q.new_zeros((*q.shape[:-1], v.size(-1)))
    for begin in range(0, k.size(-2), block_size):
        scores = masked_scores(q, k[..., begin : begin + block_size, :], None)
        new_largest = torch.maximum(largest, scores.amax(-1, keepdim=True))
        rescale = torch.exp(direction * (largest - new_largest))
        exps = torch.exp(scores - new_largest)
        total = total * (rescale if rescale_sum else 1) + exps.sum(-1, keepdim=True)
        mixed = mixed * (rescale if rescale_values else 1)
        mixed = mixed + exps @ v[..., begin : begin + block_size, :]
        largest = new_largest
    return mixed / total if divide else mixed


MISCONCEPTIONS = {
    "softmax": (
        always_the_last_axis,
        largest_not_subtracted,
        largest_of_the_whole_tensor,
        sum_without_keepdim,
        nan_for_masked_rows,
        without_exponentials,
        subtracted_after_exp,
        sum_of_the_whole_tensor,
        subtracted_the_wrong_way,
        logarithm_of_the_softmax,
        whole_tensor_with_clamp,
        sum_along_the_last_axis,
        smallest_subtracted,
        equal_weights_for_nothing,
        plain_exps_over_everything,
        plain_exps_without_keepdim,
    ),
    "attention_scores": (
        not_scaled,
        scaled_by_d_k,
        multiplied_by_the_root,
        scaled_by_the_number_of_keys,
        queries_and_keys_exchanged,
        keys_not_transposed,
        first_two_axes_swapped,
        axes_one_and_two_swapped,
        keys_reshaped,
        width_of_axis_one,
        softmax_taken_already,
    ),
    "causal_mask": (
        without_itself,
        sees_the_future,
        true_means_forbidden,
        one_step_ahead,
        ones_and_zeros,
        additive_mask,
        everything_allowed,
        only_itself,
    ),
    "apply_mask": (
        zero_for_masked,
        fills_where_true,
        multiplied,
        added_as_numbers,
        floats_taken_for_booleans,
        floats_multiplied,
        floats_ignored,
        minus_a_billion,
        smallest_finite_number,
    ),
    "scaled_dot_product_attention": (
        softmax_over_queries,
        softmax_over_axis_one,
        attention_not_scaled,
        attention_scaled_by_d_k,
        mask_after_softmax,
        mask_ignored,
        only_the_output,
        weights_first,
        nan_for_masked_queries,
        large_number_for_infinity,
        values_weighted_by_scores,
        mask_multiplied_after_softmax,
        boolean_mask_after_softmax,
        renormalised_after_softmax,
        zero_scores_for_masked,
        masked_where_true,
        no_softmax,
        scaled_after_softmax,
        floating_mask_scaled,
        floating_mask_ignored,
        unmasked_weights_returned,
        scores_returned,
        scaled_by_the_width_of_values,
        scaled_by_the_length,
        mask_added_twice,
        softmax_twice,
        weights_masked_with_infinity,
    ),
    "predict_weights": (
        without_the_mask,
        row_of_cats,
        weight_removed_afterwards,
        score_of_zero,
        not_yet_divided,
        equal_shares,
        wrong_key_masked,
        in_reverse,
        in_percent,
        exponent_not_squared,
        past_masked,
        scores_as_shares,
    ),
    "padding_mask": (
        without_axes_of_size_one,
        true_for_padding,
        one_token_too_many,
        padded_on_the_left,
        queries_masked,
        padding_as_numbers,
        on_the_default_device,
        one_token_too_few,
        axes_of_size_one_in_front,
    ),
    "attend_from_the_end": (
        as_handed_out,
        moved_the_wrong_way,
        moved_too_far,
        not_moved_enough,
        every_key_visible,
        triangle_upside_down,
        rows_in_reverse,
        square_of_the_queries,
        past_cut_off,
    ),
    "cross_attention": (
        context_ignored,
        queries_from_context,
        values_not_projected,
        keys_and_values_exchanged,
        values_from_x,
        cross_mask_ignored,
        projections_of_queries_and_keys_exchanged,
        keys_from_x,
        cross_output_only,
        cross_weights_first,
        cross_not_scaled,
        scaled_by_d_model,
        x_joins_the_context,
        one_projection_for_queries_and_keys,
    ),
    "read_maps": (
        a_is_not_causal,
        b_is_narrower_than_causal,
        c_lacks_its_first_columns,
        b_hides_no_column,
        c_hides_the_future_too,
        d_hides_no_column,
        a_sees_the_future,
        d_hides_no_first_column,
        d_sees_the_whole_past,
        a_is_as_wide_everywhere,
        b_has_no_empty_rows,
        c_grows_with_the_query,
    ),
    "numpy_attention": (
        numpy_not_scaled,
        numpy_scaled_by_d_k,
        numpy_softmax_over_queries,
        numpy_zero_for_masked,
        numpy_large_number_for_infinity,
        numpy_overflows,
        numpy_nan_for_nothing,
        numpy_masked_where_true,
        numpy_mask_after_softmax,
        numpy_output_only,
        numpy_all_axes_reversed,
        numpy_largest_of_all,
    ),
    "attention_cost": (
        one_product_counted,
        multiplications_and_additions,
        numbers_not_bytes,
        one_head_only,
        one_weight_matrix,
        linear_in_length,
        batch_forgotten,
        width_squared,
        projections_counted_too,
        bytes_of_the_outputs,
        half_for_the_mask,
        always_four_bytes,
        results_exchanged,
        bytes_of_the_inputs,
    ),
    "sliding_window_mask": (
        window_one_longer,
        window_one_shorter,
        window_both_ways,
        sinks_ignored,
        sinks_in_the_future,
        sinks_within_the_window,
        sinks_one_too_many,
        sinks_at_the_end,
        window_ignored,
        window_ahead,
        window_of_numbers,
        and_before_or,
        blocks_in_place_of_a_window,
        queries_taken_for_sinks,
    ),
    "online_attention": (
        values_not_rescaled,
        sum_not_rescaled,
        nothing_rescaled,
        blocks_averaged,
        last_block_dropped,
        online_not_scaled,
        largest_starts_at_zero,
        largest_ignored,
        largest_of_the_first_block,
        rescaled_the_wrong_way,
        not_divided,
        only_the_last_block,
        blocks_summed,
        online_scaled_by_d_k,
    ),
}
