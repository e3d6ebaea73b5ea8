"""Common wrong answers to the exercises of lesson 01; each diagnosis is shown to a learner.

Most exercises have one faulty implementation, `softmax_with` and so on, which is right until a
setting makes one mistake. Settings combine, so two mistakes at once are recognized as well. What
fits no setting is a function of its own, whose docstring is the diagnosis. `MISCONCEPTIONS` lists
them by the function that they imitate.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.grader.mistakes import mistakes

# --- 1.1 softmax ---


def softmax_with(
    x: Tensor,
    dim: int = -1,
    *,
    dim_of_all: int | None = None,
    largest: str = "of the row",
    dim_of_sum: int | None = None,
    total: str = "of the row",
    flipped: bool = False,
    empty: str = "zeros",
) -> Tensor:
    """The softmax; `empty` says what a row of only -inf becomes."""
    dim = dim if dim_of_all is None else dim_of_all
    first = x.new_zeros(())
    if largest in ("of the row", "after exp"):
        first = x.amax(dim, keepdim=True)
    elif largest == "of all":
        first = x.max()
    elif largest == "of the last axis":
        first = x.amax(-1, keepdim=True)
    elif largest == "smallest":
        first = x.amin(dim, keepdim=True)
    elif largest == "without keepdim":
        first = x.amax(dim)
    elif largest == "[:, None]":
        first = x.amax(dim)[:, None]
    elif largest == "absolute":
        first = x.abs().amax(dim, keepdim=True)
    elif largest == "clamped":
        x = x.clamp(max=80)
    if empty == "zeros":
        first = first.masked_fill(first == -math.inf, 0.0)
    if largest == "after exp":
        exps = torch.exp(x) - first
    else:
        exps = torch.exp(first - x if flipped else x - first)
    sums = exps.sum(dim if dim_of_sum is None else dim_of_sum, keepdim=True)
    if total == "of all":
        sums = exps.sum()
    elif total == "without keepdim":
        sums = exps.sum(dim)
    elif total == "[:, None]":
        sums = exps.sum(dim)[:, None]
    elif total == "missing":
        sums = torch.ones_like(sums)
    weights = exps / (sums.masked_fill(sums == 0, 1.0) if empty == "zeros" else sums)
    if empty == "equal":
        return weights.masked_fill(weights.isnan(), 1.0 / x.size(dim))
    return weights.nan_to_num(0.0) if empty == "nan to zero" else weights


SOFTMAX = mistakes(
    softmax_with,
    always_the_last_axis=(
        "the sums run along the last axis, whatever dim says",
        {"dim_of_all": -1},
    ),
    largest_not_subtracted=(
        "the largest entry is not subtracted first: exp overflows to inf, and inf / inf is nan",
        {"largest": "none"},
    ),
    overflow_hidden=(
        "the largest entry is not subtracted first: exp overflows, and replacing the nan by 0 only "
        "hides that",
        {"largest": "none", "empty": "nan to zero"},
    ),
    clamped_before_exp=(
        "large scores are clamped, so different ones get the same weight; subtract the largest of "
        "the row instead",
        {"largest": "clamped"},
    ),
    largest_of_the_whole_tensor=(
        "the largest entry of the whole tensor is subtracted, not that of each row: a row far "
        "below it underflows to 0, and 0 / 0 is nan",
        {"largest": "of all", "empty": "nan"},
    ),
    largest_of_the_whole_tensor_with_clamp=(
        "the largest entry of the whole tensor is subtracted, not that of each row: a row far "
        "below it underflows to 0",
        {"largest": "of all"},
    ),
    largest_along_the_last_axis=(
        "the largest entry is that of the last axis, whatever dim says",
        {"largest": "of the last axis"},
    ),
    largest_without_keepdim=(
        "the largest entries have lost their axis (no keepdim=True), so the subtraction broadcasts "
        "along another axis",
        {"largest": "without keepdim"},
    ),
    largest_absolute_value=(
        "the largest absolute value is subtracted: a row of very negative scores underflows to 0; "
        "subtract the largest score itself",
        {"largest": "absolute"},
    ),
    smallest_subtracted=(
        "the smallest entry is subtracted, so the largest exponential can still overflow; subtract "
        "the largest",
        {"largest": "smallest"},
    ),
    subtracted_after_exp=(
        "the largest entry is subtracted from the exponentials; subtract it inside exp",
        {"largest": "after exp"},
    ),
    subtracted_the_wrong_way=(
        "the scores are subtracted from the largest one, so the smallest score gets the largest "
        "weight; subtract the largest from the scores",
        {"flipped": True},
    ),
    sum_of_the_whole_tensor=(
        "the sum runs over the whole tensor; each row along dim needs a sum of its own",
        {"total": "of all"},
    ),
    sum_without_keepdim=(
        "the sum has lost its axis (no keepdim=True), so the division broadcasts along another "
        "axis",
        {"total": "without keepdim"},
    ),
    sum_with_an_axis_in_place_one=(
        "[:, None] puts the lost axis back in place 1, which is right for dim=-1 of a matrix only; "
        "keepdim=True leaves it where it was",
        {"largest": "[:, None]", "total": "[:, None]"},
    ),
    sum_along_the_last_axis=(
        "the sum runs along the last axis, whatever dim says",
        {"dim_of_sum": -1},
    ),
    sum_along_the_first_axis=(
        "the sum runs along the first axis, whatever dim says",
        {"dim_of_sum": 0},
    ),
    not_divided_by_the_sum=(
        "the exponentials are not divided by their sum, so a row does not sum to 1",
        {"total": "missing"},
    ),
    nan_for_masked_rows=(
        "a row of only -inf becomes nan: all its exponentials are 0, and 0 / 0 is nan (or -inf - "
        "-inf, if its largest entry is subtracted)",
        {"empty": "nan"},
    ),
    equal_weights_for_nothing=(
        "a row of only -inf gets equal weights; it should get zeros",
        {"empty": "equal"},
    ),
)


def without_exponentials(x: Tensor, dim: int = -1) -> Tensor:
    """the entries themselves are divided by their sum; take their exponentials first"""
    return x / x.sum(dim, keepdim=True)


def powers_of_two(x: Tensor, dim: int = -1) -> Tensor:
    """these are powers of 2; the exponential has the base e"""
    return softmax_with(x * math.log(2), dim)


def logarithm_of_the_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """this is the logarithm of the softmax: negative numbers, whose exponentials sum to 1"""
    return x - x.logsumexp(dim, keepdim=True)


# --- 1.2 attention_scores ---


def scores_with(
    q: Tensor,
    k: Tensor,
    *,
    divisor: str = "root of d_k",
    turned: str = "the last two axes",
    exchanged: bool = False,
    softmax_over: int | None = None,
) -> Tensor:
    """The scores."""
    q, k = (k, q) if exchanged else (q, k)
    if turned == "the last two axes":
        keys = k.transpose(-2, -1)
    elif turned == "not":
        keys = k
    elif turned == "the first two axes":
        keys = k.transpose(0, 1)
    elif turned == "axes 1 and 2":
        keys = k.transpose(1, 2)
    elif turned == "all axes":
        keys = k.permute(*range(k.dim())[::-1])
    else:  # reshaped
        keys = k.reshape(*k.shape[:-2], k.size(-1), k.size(-2))
    scores = q @ keys / DIVISORS[divisor](q, k)
    return scores if softmax_over is None else softmax_with(scores, softmax_over)


DIVISORS = {
    "root of d_k": lambda q, k: math.sqrt(q.size(-1)),
    "none": lambda q, k: 1.0,
    "d_k": lambda q, k: q.size(-1),
    "one over the root": lambda q, k: 1 / math.sqrt(q.size(-1)),
    "square of d_k": lambda q, k: q.size(-1) ** 2,
    "root of T_k": lambda q, k: math.sqrt(k.size(-2)),
    "root of T_q": lambda q, k: math.sqrt(q.size(-2)),
    "root of axis 0": lambda q, k: math.sqrt(q.size(0)),
    "root of len(k)": lambda q, k: math.sqrt(len(k)),
    "root of axis 1": lambda q, k: math.sqrt(q.size(1)),
    "root of axis 2": lambda q, k: math.sqrt(q.size(2)),
    "whole root": lambda q, k: math.isqrt(q.size(-1)),
    "d_k ** 1 / 2": lambda q, k: 2 * q.size(-1),
    "half of d_k": lambda q, k: q.size(-1) / 2,
}

SCORES = mistakes(
    scores_with,
    not_scaled=(
        "the division by the square root of d_k is missing",
        {"divisor": "none"},
    ),
    scaled_by_d_k=(
        "the scores are divided by d_k; divide by its square root",
        {"divisor": "d_k"},
    ),
    multiplied_by_the_root=(
        "the scores are multiplied by the square root of d_k; they should be divided by it",
        {"divisor": "one over the root"},
    ),
    scaled_by_the_square=(
        "the scores are divided by the square of d_k; divide by its square root",
        {"divisor": "square of d_k"},
    ),
    scaled_by_the_number_of_keys=(
        "the scores are divided by the square root of T_k, the number of keys; d_k is their width, "
        "k.size(-1)",
        {"divisor": "root of T_k"},
    ),
    scaled_by_the_number_of_queries=(
        "the scores are divided by the square root of T_q, the number of queries; d_k is their "
        "width, q.size(-1)",
        {"divisor": "root of T_q"},
    ),
    width_by_len=(
        "d_k is taken as len(k), the size of the first axis: the number of keys, or the batch; it "
        "is the last axis, k.size(-1)",
        {"divisor": "root of len(k)"},
    ),
    width_of_axis_zero=(
        "d_k is read from axis 0; it is the last axis, q.size(-1)",
        {"divisor": "root of axis 0"},
    ),
    width_of_axis_one=(
        "d_k is read from axis 1, which is the last one only without leading axes; use q.size(-1)",
        {"divisor": "root of axis 1"},
    ),
    width_of_axis_two=(
        "d_k is read from axis 2, which is the last one only with one leading axis; use q.size(-1)",
        {"divisor": "root of axis 2"},
    ),
    power_before_division=(
        "the scores are divided by d_k and then by 2: ** comes before /, so write d_k ** 0.5",
        {"divisor": "d_k ** 1 / 2"},
    ),
    half_of_the_width=(
        "the scores are divided by half of d_k; ** comes before /, so d_k ** 1 / 2 is not the "
        "square root",
        {"divisor": "half of d_k"},
    ),
    root_rounded_down=(
        "the square root of d_k is rounded to a whole number; use math.sqrt",
        {"divisor": "whole root"},
    ),
    queries_and_keys_exchanged=(
        "queries and keys are exchanged: this is k times q transposed",
        {"exchanged": True},
    ),
    keys_not_transposed=(
        "k is not transposed: the product of (T_q, d_k) needs (d_k, T_k) on its right",
        {"turned": "not"},
    ),
    first_two_axes_swapped=(
        "transpose(0, 1) counts from the front: with leading axes those are not the last two; use "
        "transpose(-2, -1)",
        {"turned": "the first two axes"},
    ),
    axes_one_and_two_swapped=(
        "transpose(1, 2) counts from the front: only with three axes are those the last two; use "
        "transpose(-2, -1)",
        {"turned": "axes 1 and 2"},
    ),
    all_axes_reversed=(
        ".T reverses all axes, the batch too; .mT, or transpose(-2, -1), swaps the last two",
        {"turned": "all axes"},
    ),
    keys_reshaped=(
        "k is reshaped, not transposed: the shape is right, but view and reshape regroup the "
        "values in memory order, where a transpose moves axes",
        {"turned": "reshaped"},
    ),
    softmax_taken_already=(
        "the softmax is taken already; only the scores are asked for",
        {"softmax_over": -1},
    ),
)


def products_summed_over_all_axes(q: Tensor, k: Tensor) -> Tensor:
    """query i is multiplied with key i only, element by element; every query meets every key"""
    n = min(q.size(-2), k.size(-2))
    return q[..., :n, :] * k[..., :n, :] / math.sqrt(q.size(-1))


# --- 1.3 causal_mask ---

Device = torch.device | str | None


def causal_with(
    T: int,
    device: Device = None,
    *,
    edge: int = 0,
    side: str = "lower",
    inverted: bool = False,
    kind: str = "boolean",
    axes_in_front: int = 0,
    first_is_empty: bool = False,
) -> Tensor:
    """The causal mask."""
    square = torch.ones(T, T, dtype=torch.bool, device=device)
    allowed = square.triu(-edge) if side == "upper" else square.tril(edge)
    allowed = ~allowed if inverted else allowed
    allowed = allowed[(None,) * axes_in_front]
    allowed = allowed & (torch.arange(T, device=device)[:, None] > 0) if first_is_empty else allowed
    if kind == "numbers":
        return allowed.float()
    if kind == "whole numbers":
        return allowed.long()
    if kind == "bytes":
        return allowed.to(torch.uint8)
    if kind == "additive":
        return torch.zeros(allowed.shape, device=device).masked_fill(~allowed, -math.inf)
    return allowed


CAUSAL = mistakes(
    causal_with,
    without_itself=(
        "a position does not attend to itself: the condition is j <= i, not j < i",
        {"edge": -1},
    ),
    one_step_ahead=(
        "each position sees one step into the future: the condition is j <= i, not j <= i + 1",
        {"edge": 1},
    ),
    sees_the_future=(
        "the triangle is upside down: each position attends to itself and the future",
        {"side": "upper"},
    ),
    true_means_forbidden=(
        "True and False are exchanged: True means that a query may attend",
        {"inverted": True},
    ),
    ones_and_zeros=(
        "the mask contains the numbers 1 and 0; make it boolean (dtype=torch.bool)",
        {"kind": "numbers"},
    ),
    whole_ones_and_zeros=(
        "the mask contains the whole numbers 1 and 0; make it boolean (dtype=torch.bool)",
        {"kind": "whole numbers"},
    ),
    bytes_of_one_and_zero=(
        "the mask is of dtype uint8, ones and zeros; make it boolean (dtype=torch.bool)",
        {"kind": "bytes"},
    ),
    first_row_empty=(
        "row 0 is empty: rows and columns count from 0, and position 0 sees itself",
        {"first_is_empty": True},
    ),
    additive_mask=(
        "this is an additive mask of 0 and -inf; the exercise asks for a boolean one",
        {"kind": "additive"},
    ),
    axes_of_heads=(
        "the mask has axes of size 1 in front; (T, T) is asked for, and broadcasts all the same",
        {"axes_in_front": 2},
    ),
    axis_of_the_batch=(
        "the mask has an axis of size 1 in front; (T, T) is asked for, and broadcasts all the same",
        {"axes_in_front": 1},
    ),
)


def everything_allowed(T: int, device: Device = None) -> Tensor:
    """every position sees every other, the future too: a triangle is missing"""
    return torch.ones(T, T, dtype=torch.bool, device=device)


def only_itself(T: int, device: Device = None) -> Tensor:
    """each position sees only itself: this is the diagonal, without the past"""
    return torch.eye(T, dtype=torch.bool, device=device)


def one_row(T: int, device: Device = None) -> Tensor:
    """this is one row of positions; compare a column of positions with a row of them"""
    return torch.arange(T, device=device) <= T


# --- 1.4 apply_mask ---


def masked_with(
    scores: Tensor,
    mask: Tensor,
    *,
    hidden: float = -math.inf,
    inverted: bool = False,
    boolean: str = "filled",
    floating: str = "added",
) -> Tensor:
    """Masked scores."""
    if mask.dtype == torch.bool:
        mask = ~mask if inverted else mask
        if boolean == "multiplied":
            return scores * mask
        if boolean == "added":
            return scores + mask
        if boolean == "times -inf":
            return scores + ~mask * -math.inf
        if boolean == "ignored":
            return scores
        if boolean == "the mask alone":
            return torch.zeros_like(scores).masked_fill(~mask, hidden)
        if boolean == "where of the mask alone":
            return torch.where(mask, 0.0, hidden).to(scores.dtype)
        if boolean == "scores as the condition":
            return torch.where(scores, mask, hidden)  # raises PyTorch's own error
        return scores.masked_fill(~mask, hidden)
    if floating == "as the condition":
        return torch.where(mask, scores, hidden)  # raises, as the next two do
    if floating == "inverted":
        return scores.masked_fill(~mask, hidden)
    if floating == "filled":
        return scores.masked_fill(mask, hidden)
    bias = mask.to(scores.dtype)
    if floating == "promoted":
        return scores + mask
    if floating == "multiplied":
        return scores * bias
    if floating == "subtracted":
        return scores - bias
    if floating == "like a boolean":
        return scores.masked_fill(bias == 0, hidden)
    if floating == "1 allows":
        return scores.masked_fill(bias != 1, hidden)
    if floating == "hides what is not 0":
        return scores.masked_fill(bias != 0, -math.inf)
    if floating == "negative hides":
        return scores.masked_fill(bias < 0, -math.inf)
    if floating == "-inf alone":
        return scores.masked_fill(bias == -math.inf, -math.inf)
    if floating == "at most 0":
        return scores + bias.clamp(max=0)
    if floating == "times a billion":
        return scores + (1 - bias) * -1e9
    return scores if floating == "ignored" else scores + bias


APPLY = mistakes(
    masked_with,
    zero_for_masked=(
        "masked scores become 0, and exp(0) = 1 still gets weight; only -inf gets none",
        {"hidden": 0.0},
    ),
    minus_a_billion=(
        "masked scores are -1e9; a row that is masked entirely then attends to everything equally: "
        "use -math.inf",
        {"hidden": -1e9},
    ),
    smallest_finite_number=(
        "masked scores are the smallest finite number; a row that is masked entirely then attends "
        "to everything equally: use -math.inf",
        {"hidden": torch.finfo(torch.float32).min},
    ),
    plus_infinity=(
        "masked scores become +inf, which takes all the weight; -inf gets none",
        {"hidden": math.inf},
    ),
    nan_for_masked=(
        "masked scores become nan, which spreads to everything it meets; use -math.inf",
        {"hidden": math.nan},
    ),
    fills_where_true=(
        "-inf is written where the mask is True, where attention is allowed: invert the mask with "
        "~, or swap the two values of torch.where",
        {"inverted": True},
    ),
    zeros_where_true=(
        "the scores become 0 where the mask is True, where attention is allowed; write -inf, and "
        "where the mask is False",
        {"hidden": 0.0, "inverted": True},
    ),
    multiplied=(
        "scores and mask are multiplied: a masked score becomes 0, which still gets weight",
        {"boolean": "multiplied", "floating": "multiplied"},
    ),
    added_as_numbers=(
        "a boolean mask is added as ones and zeros, which masks nothing (mask.dtype == bool is "
        "always False: compare with torch.bool)",
        {"boolean": "added"},
    ),
    booleans_ignored=(
        "a boolean mask is ignored; it should put -inf where it is False",
        {"boolean": "ignored"},
    ),
    zero_times_infinity=(
        "the inverted mask is multiplied by -inf, and 0 times -inf is nan; write -inf only where "
        "the mask is False",
        {"boolean": "times -inf"},
    ),
    scores_forgotten=(
        "the scores are lost: what is allowed becomes 0, where it should keep its score",
        {"boolean": "the mask alone"},
    ),
    scores_forgotten_in_where=(
        "the scores are lost: what is allowed becomes 0, where it should keep its score",
        {"boolean": "where of the mask alone"},
    ),
    scores_as_condition=(
        "the scores are the condition of torch.where; the mask comes first, then the scores, then "
        "what a masked score becomes",
        {"boolean": "scores as the condition"},
    ),
    floats_as_condition=(
        "a floating mask is the condition of torch.where, which takes booleans; it should be added "
        "to the scores",
        {"floating": "as the condition"},
    ),
    floats_inverted=(
        "a floating mask is inverted with ~, which is for booleans; it should be added to the "
        "scores",
        {"floating": "inverted"},
    ),
    floats_in_masked_fill=(
        "a floating mask is given to masked_fill, which takes booleans; it should be added to the "
        "scores",
        {"floating": "filled"},
    ),
    floats_taken_for_booleans=(
        "a floating mask is treated like a boolean one; it should be added to the scores",
        {"floating": "like a boolean"},
    ),
    floats_allow_where_one=(
        "a floating mask is treated like a boolean one; it should be added to the scores",
        {"floating": "1 allows"},
    ),
    floats_hide_what_is_not_zero=(
        "a floating mask hides everything that is not 0; it should be added to the scores",
        {"floating": "hides what is not 0"},
    ),
    negative_floats_hide=(
        "every negative value of a floating mask hides its key, and the others do nothing; a "
        "floating mask is added to the scores",
        {"floating": "negative hides"},
    ),
    floats_hide_infinity_alone=(
        "of a floating mask only the -inf are used; the other values should be added too",
        {"floating": "-inf alone"},
    ),
    floats_taken_for_shares=(
        "a floating mask is taken for ones and zeros, (1 - mask) * -1e9; it should be added to the "
        "scores as it is",
        {"floating": "times a billion"},
    ),
    floats_multiplied=(
        "the scores are multiplied by a floating mask; it should be added",
        {"floating": "multiplied"},
    ),
    floats_subtracted=(
        "a floating mask is subtracted; it should be added, so that -inf hides",
        {"floating": "subtracted"},
    ),
    floats_ignored=(
        "a floating mask is ignored; it should be added to the scores",
        {"floating": "ignored"},
    ),
    floats_clamped=(
        "a floating mask is cut at 0; positive values count too, they encourage a key",
        {"floating": "at most 0"},
    ),
    floats_promote=(
        "the sum takes the dtype of a mask of higher precision; convert the mask to scores.dtype",
        {"floating": "promoted"},
    ),
)


# --- 1.5 scaled_dot_product_attention ---


def attention_with(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    divisor: str = "root of d_k",
    turned: str = "the last two axes",
    exchanged: bool = False,
    dim: int = -1,
    empty: str = "zeros",
    masking: str = "before the softmax",
    mixed: str = "weights",
    returned: str = "output and weights",
    weights_divided: bool = False,
    softmaxes: int = 1,
    **of_mask: Any,
) -> Any:
    """Attention; `of_mask` are settings of `masked_with`."""
    if divisor == "root of d_v":
        divisor, q = "none", q / math.sqrt(v.size(-1))
    unmasked = scores_with(q, k, divisor=divisor, turned=turned, exchanged=exchanged)
    scores = unmasked
    if mask is not None and is_early(masking, mask):
        root = math.sqrt(q.size(-1)) if masking == "before the division" else 1.0
        scores = masked_with(scores * root, mask, **of_mask) / root
        if masking == "twice":
            scores = masked_with(scores, mask, **of_mask)
    weights = scores
    for _ in range(softmaxes):
        weights = softmax_with(weights, dim, empty=empty)
    if mask is not None and not is_early(masking, mask):
        weights = masked_late(weights, mask, masking, bool(of_mask.get("inverted")))
    weights = weights / math.sqrt(q.size(-1)) if weights_divided else weights
    output = (scores if mixed == "scores" else weights) @ v
    if returned == "output alone":
        return output
    if returned == "weights first":
        return weights, output
    if returned == "scores":
        return output, scores
    return output, softmax_with(unmasked) if returned == "weights without the mask" else weights


def is_early(masking: str, mask: Tensor) -> bool:
    """Whether the mask is applied to the scores, before the softmax."""
    if masking in ("before the softmax", "before the division", "twice"):
        return True
    late_booleans = ("boolean after the softmax", "renormalized", "renormalized, 0 / 0 avoided")
    return masking in late_booleans and mask.dtype != torch.bool


def masked_late(weights: Tensor, mask: Tensor, masking: str, inverted: bool) -> Tensor:
    """Weights that are masked, in one way or another, after the softmax."""
    is_boolean = mask.dtype == torch.bool
    mask = ~mask if is_boolean and inverted else mask
    if masking == "-inf into the weights":
        return masked_with(weights, mask)
    if masking == "filled after the softmax":
        return weights.masked_fill(~mask, 0.0) if is_boolean else weights + mask
    if masking.startswith("renormalized"):
        kept = weights * mask
        total = kept.sum(-1, keepdim=True)
        return kept / (total.clamp(min=1e-9) if "0 / 0 avoided" in masking else total)
    return weights if masking == "never" else weights * mask


AFTER = (
    "the mask is applied after the softmax: the masked keys have had their weight already, so the "
    "rows no longer sum to 1"
)
RENORMALIZED = (
    "the mask is applied after the softmax, and the rest made to sum to 1 again: where a masked "
    "key had all the weight, or every key is masked, 0 / 0 is left"
)
DIVIDED = (
    "the division of the scores by the square root of d_k is missing",
    {"divisor": "none"},
)
DIVIDED_BY_D_K = (
    "the scores are divided by d_k, or by its square root twice; divide by the root, once",
    {"divisor": "d_k"},
)
OUTPUT_ALONE = (
    "only the output is returned; return output and weights",
    {"returned": "output alone"},
)
WEIGHTS_FIRST = (
    "the weights are returned first; return the output first",
    {"returned": "weights first"},
)
OVER_QUERIES = (
    "the softmax runs over the queries (dim=-2), so columns sum to 1; it should run over the keys, "
    "the last axis",
    {"dim": -2},
)

ATTENTION = mistakes(
    attention_with,
    softmax_over_queries=OVER_QUERIES,
    softmax_over_axis_one=(
        "the softmax runs over axis 1, which is the last axis only if there are no leading axes: "
        "use dim=-1",
        {"dim": 1},
    ),
    softmax_over_axis_zero=(
        "the softmax runs over the first axis; it should run over the keys, the last axis",
        {"dim": 0},
    ),
    softmax_twice=("the softmax is taken twice", {"softmaxes": 2}),
    no_softmax=(
        "the softmax is missing: the scores themselves weight the values",
        {"softmaxes": 0},
    ),
    attention_not_scaled=DIVIDED,
    attention_scaled_by_d_k=DIVIDED_BY_D_K,
    multiplied_by_the_root_of_d_k=(
        "the scores are multiplied by the square root of d_k; they should be divided by it",
        {"divisor": "one over the root"},
    ),
    scaled_by_the_width_of_values=(
        "the scores are divided by the square root of d_v, the width of the values; d_k is that of "
        "queries and keys",
        {"divisor": "root of d_v"},
    ),
    scaled_by_the_length=(
        "the scores are divided by the square root of T_k, the number of keys; d_k is their width",
        {"divisor": "root of T_k"},
    ),
    scaled_by_axis_one=(
        "d_k is read from axis 1, which is the last one only without leading axes; use q.size(-1)",
        {"divisor": "root of axis 1"},
    ),
    scaled_after_softmax=(
        "the weights are divided by the square root of d_k; divide the scores, before the softmax",
        {"divisor": "none", "weights_divided": True},
    ),
    scaled_twice=(
        "the division by the square root of d_k is done twice, for the scores and for the weights",
        {"weights_divided": True},
    ),
    all_axes_of_keys_reversed=(
        ".T reverses all axes, the batch too; .mT, or transpose(-2, -1), swaps the last two",
        {"turned": "all axes"},
    ),
    keys_reshaped_in_attention=(
        "k is reshaped, not transposed: the shape is right, but view and reshape regroup the "
        "values in memory order, where a transpose moves axes",
        {"turned": "reshaped"},
    ),
    queries_and_keys_exchanged_in_attention=(
        "queries and keys are exchanged: this is k times q transposed",
        {"exchanged": True},
    ),
    mask_after_softmax=(AFTER, {"masking": "filled after the softmax"}),
    mask_multiplied_after_softmax=(AFTER, {"masking": "multiplied after the softmax"}),
    boolean_mask_after_softmax=(
        AFTER,
        {"masking": "boolean after the softmax"},
    ),
    renormalized_after_softmax=(RENORMALIZED, {"masking": "renormalized"}),
    always_renormalized=(RENORMALIZED, {"masking": "renormalized, floating too"}),
    renormalized_with_clamp=(
        "the mask is applied after the softmax, and the rest made to sum to 1 again: where a "
        "masked key had all the weight, nothing is left to share",
        {"masking": "renormalized, 0 / 0 avoided"},
    ),
    weights_masked_with_infinity=(
        "the mask is applied to the weights, after the softmax; apply it to the scores, before",
        {"masking": "-inf into the weights"},
    ),
    mask_ignored=("the mask is not used at all", {"masking": "never"}),
    mask_added_twice=(
        "the mask is applied twice: a floating mask then counts double",
        {"masking": "twice"},
    ),
    floating_mask_scaled=(
        "a floating mask is divided by the square root of d_k as well: divide the scores first, "
        "then add the mask",
        {"masking": "before the division"},
    ),
    floating_mask_ignored=(
        "a floating mask is not used; add it to the scores",
        {"floating": "ignored"},
    ),
    floating_mask_multiplied=(
        "the scores are multiplied by a floating mask; it should be added",
        {"floating": "multiplied"},
    ),
    floating_mask_taken_for_boolean=(
        "a floating mask is treated like a boolean one; it should be added to the scores",
        {"floating": "like a boolean"},
    ),
    zero_scores_for_masked=(
        "masked scores become 0, and exp(0) = 1 still gives weight; use -inf",
        {"hidden": 0.0},
    ),
    large_number_for_infinity=(
        "masked scores are a large negative number (perhaps in 1.4): a query that may attend to "
        "nothing then attends to all masked keys equally; with -inf its weights are zeros",
        {"hidden": -1e9},
    ),
    masked_where_true=(
        "the mask is used the wrong way round: True means that a query may attend to the key",
        {"inverted": True},
    ),
    nan_for_masked_queries=(
        "a query that may attend to nothing gets nan: the softmax of a row of -inf is 0 / 0",
        {"empty": "nan"},
    ),
    only_the_output=OUTPUT_ALONE,
    weights_first=WEIGHTS_FIRST,
    unmasked_weights_returned=(
        "the output is right, but the weights that are returned are those without the mask",
        {"returned": "weights without the mask"},
    ),
    scores_returned=(
        "the output is right, but the scores are returned in place of the weights",
        {"returned": "scores"},
    ),
    values_weighted_by_scores=(
        "the values are weighted by the scores; use the weights, after the softmax",
        {"mixed": "scores"},
    ),
)


def zero_scores_for_masked_and_floating(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """scores and mask are multiplied: a masked score becomes 0, which still gets weight"""
    return attention_with(q, k, v, mask, boolean="multiplied", floating="multiplied")


def values_from_the_weights_transposed(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """the weights are transposed before they meet the values; their last axis is the keys'"""
    _, weights = attention_with(q, k, v, mask)
    return weights.transpose(-2, -1) @ v, weights


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


def undivided_and_removed_afterwards() -> tuple[float, float, float]:
    """these come from the scores 4, 0 and 2, before the division by the square root of d_k, and the
    weight of "mice" is removed after the softmax; divide the scores, and remove one before it"""
    return 0.867, 0.016, 0.0


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


def padding_with(
    lengths: Tensor,
    T: int,
    *,
    longer: int = 0,
    inverted: bool = False,
    side: str = "right",
    axes: str = "(B, 1, 1, T)",
    kind: str = "boolean",
    device: torch.device | None = None,
) -> Tensor:
    """The padding mask; `longer` tokens more than the lengths say."""
    positions = torch.arange(T) if device is None else torch.arange(T, device=device)
    column = lengths[:, None] + longer
    is_token = positions >= T - column if side == "left" else positions < column
    is_token = ~is_token if inverted else is_token  # (B, T)
    shaped = {
        "(B, T)": is_token,
        "(B, 1, T)": is_token[:, None],
        "(B, 1, T, 1)": is_token[:, None, :, None],
        "(B, T, 1, 1)": is_token[:, :, None, None],
        "(1, 1, B, T)": is_token[None, None],
        "(B, 1, T, T)": is_token[:, None, None].expand(-1, 1, T, T),
        "both": is_token[:, None, None] & is_token[:, None, :, None],
    }
    mask = shaped.get(axes, is_token[:, None, None])
    if kind == "additive":
        return torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
    kinds = {"numbers": mask.float(), "whole numbers": mask.long(), "bytes": mask.to(torch.uint8)}
    return kinds.get(kind, mask)


def padding_on_device(lengths: Tensor, T: int, **settings: Any) -> Tensor:
    """The same on the device of lengths."""
    return padding_with(lengths, T, device=lengths.device, **settings)


PADDING = mistakes(
    padding_on_device,
    without_axes_of_size_one=(
        "the mask has shape (B, T): the two axes of size 1 between them are missing",
        {"axes": "(B, T)"},
    ),
    without_one_axis_of_size_one=(
        "the mask has shape (B, 1, T): an axis of size 1 is missing, for the heads or the queries",
        {"axes": "(B, 1, T)"},
    ),
    queries_masked=(
        "the mask is (B, 1, T, 1), which masks queries; the keys are the last axis, (B, 1, 1, T)",
        {"axes": "(B, 1, T, 1)"},
    ),
    axes_of_size_one_at_the_end=(
        "the axes of size 1 are at the end, (B, T, 1, 1); they belong between B and T",
        {"axes": "(B, T, 1, 1)"},
    ),
    axes_of_size_one_in_front=(
        "the axes of size 1 are in front, (1, 1, B, T); they belong between B and T",
        {"axes": "(1, 1, B, T)"},
    ),
    a_row_for_every_query=(
        "the mask has a row per query, (B, 1, T, T); all are equal, so an axis of size 1 is enough",
        {"axes": "(B, 1, T, T)"},
    ),
    queries_and_keys_masked=(
        "padded queries are masked as well; only keys are asked for, in (B, 1, 1, T)",
        {"axes": "both"},
    ),
    true_for_padding=(
        "True marks padding; it should mark tokens, which may be attended to",
        {"inverted": True},
    ),
    one_token_too_many=(
        "one padding token counts as real: positions start at 0, so test position < length",
        {"longer": 1},
    ),
    one_token_too_few=(
        "the last token counts as padding: positions start at 0, so test position < length",
        {"longer": -1},
    ),
    padded_on_the_left=(
        "the mask is for padding on the left; here the padding is on the right",
        {"side": "left"},
    ),
    padding_as_numbers=("the mask contains numbers; it should be boolean", {"kind": "numbers"}),
    padding_as_whole_numbers=(
        "the mask contains whole numbers; it should be boolean",
        {"kind": "whole numbers"},
    ),
    padding_as_bytes=("the mask is of dtype uint8; it should be boolean", {"kind": "bytes"}),
    additive_padding=(
        "this is an additive mask of 0 and -inf; the exercise asks for a boolean one",
        {"kind": "additive"},
    ),
)


def on_the_default_device(lengths: Tensor, T: int) -> Tensor:
    """the mask is made on PyTorch's default device; pass device=lengths.device"""
    return padding_with(lengths, T)


def regrouped_in_memory(lengths: Tensor, T: int) -> Tensor:
    """the comparison gives (T, B), and reshape regroups it in memory order; transpose it, or
    compare (T,) with lengths[:, None]"""
    return (torch.arange(T, device=lengths.device)[:, None] < lengths).reshape(-1, 1, 1, T)


def as_wide_as_the_longest(lengths: Tensor, T: int) -> Tensor:
    """the mask is as wide as the longest row; T positions are asked for, even if all are padded"""
    return padding_on_device(lengths, max(int(lengths.max()), 1))


def cleared_from_minus_zero(lengths: Tensor, T: int) -> Tensor:
    """the last T - n positions are cleared with a negative slice; without padding that is -0, which
    is 0, and clears the whole row"""
    return padding_on_device(torch.where(lengths == T, 0, lengths), T)


def batch_of_one_length(lengths: Tensor, T: int) -> Tensor:
    """every row gets the length of the longest one; each has a length of its own"""
    return padding_on_device(lengths.max().expand(len(lengths)), T)


# --- 1.8 attend_from_the_end ---


def late_with(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    rows: str = "the last",
    later: int = 0,
    side: str = "lower",
    inverted: bool = False,
    reversed_rows: bool = False,
    one_row: bool = False,
    divided: bool = True,
    used: str = "all",
) -> Tensor:
    """Causal attention of late queries; `later` moves the edge of the triangle."""
    T_q, T_k = q.size(-2), k.size(-2)
    if used == "the last keys":
        k, v, T_k = k[..., -T_q:, :], v[..., -T_q:, :], T_q
    edges = {"the last": T_k - T_q, "the first": 0, "moved left": T_q - T_k, "all keys": T_k}
    edge = edges[rows] + later
    square = torch.ones(T_q, T_k, dtype=torch.bool)
    allowed = square.triu(edge) if side == "upper" else square.tril(edge)
    allowed = allowed.flip(0) if reversed_rows else allowed
    allowed = allowed[:1] if one_row else allowed
    allowed = ~allowed if inverted else allowed
    return attention_with(q if divided else q * math.sqrt(q.size(-1)), k, v, allowed)[0]


LATE = mistakes(
    late_with,
    as_handed_out=(
        "the mask still has the rows of the oldest positions: query 0 sees key 0 only, though it "
        "is position T_k - T_q",
        {"rows": "the first"},
    ),
    moved_the_wrong_way=(
        "the triangle is moved by T_q - T_k, to the left; it must go right, by T_k - T_q",
        {"rows": "moved left"},
    ),
    every_key_visible=(
        "every query sees every key, the future too: only the last row of the mask looks like that",
        {"rows": "all keys"},
    ),
    moved_too_far=(
        "the rows are those of one position later: each query sees the token after its own",
        {"later": 1},
    ),
    not_moved_enough=(
        "the rows are those of one position earlier: a query does not see its own token",
        {"later": -1},
    ),
    triangle_upside_down=(
        "the triangle is upside down: each query sees itself and the future",
        {"side": "upper"},
    ),
    late_mask_inverted=(
        "True and False are exchanged: each query sees the future alone",
        {"inverted": True},
    ),
    rows_in_reverse=(
        "the right rows in the wrong order: the first query has the row of the last one",
        {"reversed_rows": True},
    ),
    one_row_for_all=(
        "all queries get the row of the first of them: an index picks one row, a slice keeps all",
        {"one_row": True},
    ),
    late_not_scaled=(
        "the division of the scores by the square root of d_k is missing",
        {"divided": False},
    ),
    past_cut_off=(
        "keys and values are cut to the last T_q, which removes the past; all T_k keys count",
        {"used": "the last keys"},
    ),
)


def square_of_the_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the mask is made for T_q positions, a square; it needs a column for each of the T_k keys"""
    allowed = torch.ones(q.size(-2), q.size(-2), dtype=torch.bool).tril()
    return attention_with(q, k, v, allowed)[0]


def square_of_the_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the mask has a row for each of the T_k positions; it needs one for each of the T_q queries"""
    allowed = torch.ones(k.size(-2), k.size(-2), dtype=torch.bool).tril()
    return attention_with(q, k, v, allowed)[0]


def columns_cut(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the first T_q columns of the mask are taken, and columns belong to keys; cut rows, so that
    the mask is (T_q, T_k)"""
    allowed = torch.ones(k.size(-2), k.size(-2), dtype=torch.bool).tril()[:, : q.size(-2)]
    return attention_with(q, k, v, allowed)[0]


def last_columns_cut(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """the last T_q columns of the mask are taken, and columns belong to keys; cut rows, so that the
    mask is (T_q, T_k)"""
    allowed = torch.ones(k.size(-2), k.size(-2), dtype=torch.bool).tril()[:, -q.size(-2) :]
    return attention_with(q, k, v, allowed)[0]


# --- 1.9 cross_attention ---


def cross_with(
    x: Tensor,
    context: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    mask: Tensor | None = None,
    *,
    queries: str = "x w_q",
    keys: str = "context w_k",
    values: str = "context w_v",
    divisor: str = "root of d_k",
    causal: bool = False,
    **settings: Any,
) -> Any:
    """Cross-attention; `settings` are those of `attention_with`."""
    sources = {"x": x, "context": context, "both": torch.cat([x, context], dim=1)}
    matrices = {"w_q": w_q, "w_k": w_k, "w_v": w_v}

    def made(name: str) -> Tensor:
        source, _, matrix = name.partition(" ")
        return sources[source] @ matrices[matrix] if matrix else sources[source]

    q, k, v = made(queries), made(keys), made(values)
    if divisor == "root of d_model":
        divisor, q = "none", q / math.sqrt(x.size(-1))
    if causal and mask is None:
        mask = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).tril()
    return attention_with(q, k, v, mask, divisor=divisor, **settings)


CROSS = mistakes(
    cross_with,
    context_ignored=(
        "this is self-attention: keys and values come from x, and should come from context",
        {"keys": "x w_k", "values": "x w_v"},
    ),
    queries_from_context=(
        "the roles are exchanged: queries come from x, keys and values from context",
        {"queries": "context w_q", "keys": "x w_k", "values": "x w_v"},
    ),
    all_from_context=(
        "the queries come from context as well; they come from x",
        {"queries": "context w_q"},
    ),
    keys_from_x=(
        "the keys come from x; take them from context, like the values",
        {"keys": "x w_k"},
    ),
    values_from_x=(
        "the values come from x; like the keys they should come from context",
        {"values": "x w_v"},
    ),
    x_joins_the_context=(
        "x is put before the context, so its tokens are keys as well; the keys are those of "
        "context alone",
        {"keys": "both w_k", "values": "both w_v"},
    ),
    queries_not_projected=(
        "the queries are x itself; they should be x times w_q",
        {"queries": "x"},
    ),
    keys_not_projected=(
        "the keys are context itself; they should be context times w_k",
        {"keys": "context"},
    ),
    values_not_projected=(
        "the values are context itself; they should be context times w_v",
        {"values": "context"},
    ),
    queries_and_keys_swap_matrices=(
        "w_q and w_k are exchanged",
        {"queries": "x w_k", "keys": "context w_q"},
    ),
    keys_and_values_swap_matrices=(
        "w_k and w_v are exchanged",
        {"keys": "context w_v", "values": "context w_k"},
    ),
    keys_projected_like_queries=(
        "the keys are projected with w_q; they have a matrix of their own, w_k",
        {"keys": "context w_q"},
    ),
    queries_projected_like_keys=(
        "the queries are projected with w_k; they have a matrix of their own, w_q",
        {"queries": "x w_k"},
    ),
    values_projected_like_keys=(
        "the values are projected with w_k; they have a matrix of their own, w_v",
        {"values": "context w_k"},
    ),
    cross_not_scaled=DIVIDED,
    cross_scaled_by_d_k=DIVIDED_BY_D_K,
    scaled_by_d_model=(
        "the scores are divided by the square root of d_model; divide by that of d_k, the width of "
        "queries and keys",
        {"divisor": "root of d_model"},
    ),
    cross_over_queries=OVER_QUERIES,
    cross_mask_ignored=("the mask is not used", {"masking": "never"}),
    cross_mask_late=(AFTER, {"masking": "multiplied after the softmax"}),
    cross_mask_inverted=(
        "the mask is used the wrong way round: True means that a query may attend to the key",
        {"inverted": True},
    ),
    cross_floating_mask_ignored=(
        "a floating mask is not used; add it to the scores",
        {"floating": "ignored"},
    ),
    cross_floating_mask_boolean=(
        "a floating mask is treated like a boolean one; it should be added to the scores",
        {"floating": "like a boolean"},
    ),
    causal_unasked=(
        "a causal mask is used where none was handed in; x may read all of context",
        {"causal": True},
    ),
    cross_output_only=OUTPUT_ALONE,
    cross_weights_first=WEIGHTS_FIRST,
)


def weights_transposed(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> Tensor:
    """the matrices are transposed; they are (d_model, d_k) already, so x times w_q is enough"""
    return x @ w_q.T


# --- 1.10 read_maps ---


def reading(name: str, letter: str) -> dict[str, str]:
    """The right answer with one wrong letter."""
    right = {
        "causal": "D",
        "padding": "A",
        "causal and padded": "C",
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
    return reading("causal and padded", "A")


def d_hides_no_first_column() -> dict[str, str]:
    """in D the first columns are visible; padding on the left hides them"""
    return reading("causal and padded", "D")


def d_sees_the_whole_past() -> dict[str, str]:
    """in D the last query sees all six keys; a window is equally wide in every later row"""
    return reading("sliding window", "D")


def a_is_as_wide_everywhere() -> dict[str, str]:
    """A shows the same four keys in every row; a window moves along with the query"""
    return reading("sliding window", "A")


def b_has_no_empty_rows() -> dict[str, str]:
    """in B every query sees at least itself; with padding on the left the first rows are empty"""
    return reading("causal and padded", "B")


def c_grows_with_the_query() -> dict[str, str]:
    """in C later queries see more keys; a window is equally wide in every later row"""
    return reading("sliding window", "C")


# --- 1.11 numpy_attention ---


def numpy_with(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None, **settings: Any
) -> Any:
    """`numpy_inner` without NumPy's warnings."""
    with np.errstate(all="ignore"):
        return numpy_inner(q, k, v, mask, **settings)


def numpy_inner(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None,
    *,
    divisor: str = "root",
    axis: int = -1,
    hidden: float = -np.inf,
    largest: str = "of the row",
    empty: str = "zeros",
    inverted: bool = False,
    masking: str = "before",
    returned: str = "output and weights",
    dtype: Any = None,
) -> Any:
    """Attention in NumPy."""
    root = np.sqrt(q.shape[-1])
    divisors = {"root": root, "none": 1.0, "d_k": q.shape[-1], "root of T_k": np.sqrt(k.shape[-2])}
    divisors |= {"root of d_v": np.sqrt(v.shape[-1]), "one over the root": 1 / root}
    scores = (q @ k.swapaxes(-2, -1) / divisors[divisor]).astype(q.dtype)
    before_the_mask = scores.max(axis=axis, keepdims=True)
    mask = ~mask if mask is not None and inverted else mask
    if mask is not None and masking == "before":
        scores = np.where(mask, scores, np.asarray(hidden, dtype=q.dtype))
    first = {
        "none": np.zeros((), q.dtype),
        "of all": scores.max(),
        "before the mask": before_the_mask,
        "of the row": scores.max(axis=axis, keepdims=True),
    }[largest]
    if empty != "nan":
        first = np.where(first == -np.inf, np.asarray(0, dtype=q.dtype), first)
    exps = np.exp(scores - first)
    total = exps.sum(axis=axis, keepdims=True)
    total = total if empty == "nan" else np.where(total == 0, 1, total).astype(q.dtype)
    weights = exps / total
    weights = np.nan_to_num(weights) if empty == "nan to zero" else weights
    if mask is not None and masking == "after":
        weights = weights * mask
    elif mask is not None and masking == "renormalized":
        weights = weights * mask
        weights = weights / weights.sum(axis=-1, keepdims=True)
    weights = weights if dtype is None else weights.astype(dtype)
    output = weights @ v
    results = {
        "output alone": output,
        "weights first": (weights, output),
        "scores": (output, scores),
    }
    return results.get(returned, (output, weights))


NUMPY = mistakes(
    numpy_with,
    numpy_not_scaled=DIVIDED,
    numpy_scaled_by_d_k=DIVIDED_BY_D_K,
    numpy_multiplied_by_the_root=(
        "the scores are multiplied by the square root of d_k; they should be divided by it",
        {"divisor": "one over the root"},
    ),
    numpy_scaled_by_the_length=(
        "the scores are divided by the square root of T_k, the number of keys; d_k is their width",
        {"divisor": "root of T_k"},
    ),
    numpy_scaled_by_the_width_of_values=(
        "the scores are divided by the square root of d_v, the width of the values; d_k is that of "
        "queries and keys",
        {"divisor": "root of d_v"},
    ),
    numpy_softmax_over_queries=(
        "the softmax runs over the queries; it belongs over the keys, axis=-1",
        {"axis": -2},
    ),
    numpy_zero_for_masked=(
        "masked scores become 0, and exp(0) = 1 still gives weight; use -np.inf",
        {"hidden": 0.0},
    ),
    numpy_large_number_for_infinity=(
        "masked scores are a large negative number: a query that may attend to nothing then "
        "attends to all masked keys equally; use -np.inf",
        {"hidden": -1e9},
    ),
    numpy_overflows=(
        "the largest score is not subtracted first: exp overflows to inf, and inf / inf is nan",
        {"largest": "none"},
    ),
    numpy_overflow_hidden=(
        "the largest score is not subtracted first: exp overflows, and replacing the nan by 0 only "
        "hides that",
        {"largest": "none", "empty": "nan to zero"},
    ),
    numpy_largest_of_all=(
        "the largest score of all queries is subtracted, not that of each row: a row far below it "
        "underflows to 0",
        {"largest": "of all"},
    ),
    numpy_largest_before_the_mask=(
        "the largest score is taken before the mask: where a hidden key has a much larger one, all "
        "others underflow to 0; mask first",
        {"largest": "before the mask"},
    ),
    numpy_nan_for_nothing=(
        "a query that may attend to nothing gets nan: its largest score is -inf, and -inf - -inf "
        "is nan",
        {"empty": "nan"},
    ),
    numpy_masked_where_true=(
        "the mask is used the wrong way round: True means that a query may attend to the key",
        {"inverted": True},
    ),
    numpy_mask_after_softmax=(AFTER, {"masking": "after"}),
    numpy_renormalized=(RENORMALIZED, {"masking": "renormalized"}),
    numpy_mask_ignored=("the mask is not used at all", {"masking": "never"}),
    numpy_output_only=OUTPUT_ALONE,
    numpy_weights_first=WEIGHTS_FIRST,
    numpy_scores_returned=(
        "the output is right, but the scores are returned in place of the weights",
        {"returned": "scores"},
    ),
    numpy_in_float64=(
        "the results are float64 whatever the dtype of q; astype(q.dtype) brings it back",
        {"dtype": np.float64},
    ),
    numpy_in_float32=(
        "the results are float32 whatever the dtype of q; keep that of q",
        {"dtype": np.float32},
    ),
)


def numpy_all_axes_reversed(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> Any:
    """k.T reverses all axes, the batch too; k.swapaxes(-2, -1) swaps the last two"""
    scores = q @ k.T / math.sqrt(q.shape[-1])
    return scores @ v, scores


# --- 1.12 attention_cost ---


def cost_with(
    B: int,
    n_heads: int,
    T: int,
    d_head: int,
    bytes_per_value: int = 4,
    *,
    per_pair: int = 2,
    sequences: bool = True,
    heads: bool = True,
    product: str = "T T d",
    extra: str = "nothing",
    weights: str = "T T",
    copies: str = "own",
    size: str = "given",
    in_kib: bool = False,
    exchanged: bool = False,
) -> tuple[float, float]:
    """The cost of attention."""
    width = {"own": d_head, "model": n_heads * d_head}
    pairs = {
        "T T d": T * T * d_head,
        "T d": T * d_head,
        "T d d": T * d_head * d_head,
        "T T": T * T,
        "T T T": T**3,
        "half": T * (T + 1) // 2 * d_head,
        "whole width": T * T * width["model"],
        "xor": (T ^ 2) * d_head,
    }[product]
    each = (B if sequences else 1) * (n_heads if heads else 1)
    adds = per_pair * each * pairs
    if extra == "projections":
        adds += 3 * B * T * width["model"] ** 2
    elif extra == "four projections":
        adds += 4 * B * T * width["model"] ** 2
    elif extra == "softmax":
        adds += each * T * T
    counted = {
        "T T": T * T,
        "half": T * (T + 1) // 2,
        "T d": T * d_head,
        "3 T d": 3 * T * d_head,
        "T": T,
        "T T d": T * T * d_head,
        "2 T T": 2 * T * T,
        "xor": T ^ 2,
    }[weights]
    times = {"own": each, "of one head": B, "of one sequence": n_heads, "one": 1}[copies]
    sizes = {"given": bytes_per_value, "none": 1, "four": 4, "bits": 8 * bytes_per_value}
    held = times * counted * sizes[size]
    held = held / 1024 if in_kib else held
    return (held, adds) if exchanged else (adds, held)


COST = mistakes(
    cost_with,
    one_product_counted=(
        "only one of the two products is counted: weights times v costs as much as q times k",
        {"per_pair": 1},
    ),
    multiplications_and_additions=(
        "multiplications and additions are counted separately; a pair of them is one multiply-add",
        {"per_pair": 4},
    ),
    three_products=(
        "one product too many is counted: there are two, q times k and weights times v",
        {"per_pair": 3},
    ),
    linear_in_length=(
        "T is counted once; every query meets every key, which makes T * T",
        {"product": "T d", "weights": "T"},
    ),
    products_linear_in_length=(
        "T is counted once in the products; every query meets every key, so it is T * T * d_head",
        {"product": "T d"},
    ),
    weights_linear_in_length=(
        "the weights are counted once per query; a query has one for every key, T * T in all",
        {"weights": "T"},
    ),
    width_squared=(
        "d_head is counted twice and T once; every query meets every key, so it is T * T * d_head",
        {"product": "T d d"},
    ),
    width_forgotten=(
        "d_head is missing from the products: each score takes d_head multiply-adds",
        {"product": "T T"},
    ),
    length_cubed=(
        "T is counted three times in a product; it is T * T * d_head",
        {"product": "T T T"},
    ),
    xor_for_a_power=(
        "^ is not a power in Python, it combines bits; T squared is T ** 2 or T * T",
        {"product": "xor", "weights": "xor"},
    ),
    whole_width=(
        "n_heads is counted twice in the products: a head has the width d_head, not all of d_model",
        {"product": "whole width"},
    ),
    one_head_only=(
        "n_heads is missing: each head has its own products and weights",
        {"heads": False},
    ),
    one_weight_matrix=(
        "the weights are counted once for all heads; each head has its own T x T matrix",
        {"copies": "of one head"},
    ),
    batch_forgotten=(
        "the B sequences are left out: each has products and weights of its own",
        {"sequences": False},
    ),
    weights_of_one_sequence=(
        "the weights are counted for one sequence; each of the B has its own",
        {"copies": "of one sequence"},
    ),
    one_matrix_in_all=(
        "the weights are counted once; every head of every sequence has its own T x T matrix",
        {"copies": "one"},
    ),
    projections_counted_too=(
        "the projections that make queries, keys and values are counted too; only the two products "
        "of attention are asked for",
        {"extra": "projections"},
    ),
    all_projections_counted_too=(
        "the four projections are counted too; only the two products of attention are asked for",
        {"extra": "four projections"},
    ),
    softmax_counted_too=(
        "the softmax is counted too; only the two products are asked for",
        {"extra": "softmax"},
    ),
    half_for_the_mask=(
        "only the visible half is counted; plain attention computes all T x T scores, masked or "
        "not",
        {"product": "half", "weights": "half"},
    ),
    bytes_of_the_outputs=(
        "the second value counts T x d_head outputs; the weights are T x T per head",
        {"weights": "T d"},
    ),
    bytes_of_the_inputs=(
        "the second value counts queries, keys and values; count the weights, T x T per head",
        {"weights": "3 T d"},
    ),
    weights_times_width=(
        "d_head is counted in the weights; a weight is one number per query and key",
        {"weights": "T T d"},
    ),
    scores_counted_too=(
        "scores and weights are counted; only the weights are asked for",
        {"weights": "2 T T"},
    ),
    numbers_not_bytes=(
        "the second value is the number of weights; multiply it by bytes_per_value",
        {"size": "none"},
    ),
    always_four_bytes=(
        "the bytes are those of float32, whatever bytes_per_value says",
        {"size": "four"},
    ),
    bits_not_bytes=("the second value is in bits; a byte has eight", {"size": "bits"}),
    kib_not_bytes=("the second value is in KiB; bytes are asked for", {"in_kib": True}),
    results_exchanged=(
        "the two results are exchanged: multiply-adds first, then bytes",
        {"exchanged": True},
    ),
)


# --- 1.13 sliding_window_mask ---


def window_with(
    T: int,
    window: int,
    n_sinks: int = 0,
    *,
    longer: int = 0,
    more_sinks: int = 0,
    near: str = "behind",
    sink: str = "first keys",
    joined: str = "either",
    future: str = "hidden",
    kind: str = "boolean",
    inverted: bool = False,
    sinks_take_room: bool = False,
) -> Tensor:
    """The sliding window with sinks."""
    i, j = torch.arange(T)[:, None], torch.arange(T)
    window, n_sinks = window + longer, n_sinks + more_sinks
    window = window - n_sinks if sinks_take_room else window
    is_near = {
        "behind": i - j < window,
        "both ways": (i - j).abs() < window,
        "ahead": (j >= i) & (j - i < window),
        "far": i - j > window,
        "blocks": i // max(window, 1) == j // max(window, 1),
        "everything": i >= j,
        "from a negative start": (i - j < window) & (i - window + 1 >= 0),
    }[near]
    is_sink = {
        "first keys": j < n_sinks,
        "last keys": j >= T - n_sinks,
        "first queries": i < n_sinks,
        "one key": (j == n_sinks) & (n_sinks > 0),
        "none": j < 0,
    }[sink]
    past = j <= i
    if future == "seen by the window":
        allowed = is_near | (is_sink & past)
    elif future == "seen by sinks":
        allowed = (is_near & past) | is_sink
    else:
        both = joined == "both" or (joined == "both if there are sinks" and n_sinks > 0)
        allowed = past & (is_near & is_sink if both else is_near | is_sink)
    allowed = ~allowed if inverted else allowed
    if kind == "additive":
        return torch.zeros(T, T).masked_fill(~allowed, -math.inf)
    if kind == "bytes":
        return allowed.to(torch.uint8)
    return allowed.float() if kind == "numbers" else allowed


BOTH = "the mask requires near and sink; either is enough: near or sink"

WINDOW = mistakes(
    window_with,
    window_one_longer=(
        "the window is one position too long: it counts the position itself, so i - j < window",
        {"longer": 1},
    ),
    window_one_shorter=(
        "the window is one position too short: with window=1 a position still sees itself",
        {"longer": -1},
    ),
    window_ignored=(
        "the whole past is visible: the window, i - j < window, is missing",
        {"near": "everything"},
    ),
    slice_from_a_negative_start=(
        "the first rows are empty: a slice that starts at i - window + 1 < 0 counts from the end; "
        "start at 0 at the earliest",
        {"near": "from a negative start"},
    ),
    window_far_away=(
        "the comparison is the wrong way round: what is near is hidden, what is far is visible",
        {"near": "far"},
    ),
    blocks_in_place_of_a_window=(
        "these are fixed blocks of `window` positions; a window slides along with the query",
        {"near": "blocks"},
    ),
    window_both_ways=(
        "the window reaches into the future as well: j <= i is missing",
        {"near": "both ways", "future": "seen by the window"},
    ),
    window_ahead=(
        "the window looks ahead: j - i in place of i - j",
        {"near": "ahead", "future": "seen by the window"},
    ),
    and_before_or=(
        "the future is visible: j <= i must cover the window and the sinks (& binds more tightly "
        "than |, so mind the parentheses)",
        {"future": "seen by the window"},
    ),
    sinks_in_the_future=(
        "sinks are visible too early: position 0 sees sink 1; j <= i applies to sinks too",
        {"future": "seen by sinks"},
    ),
    sinks_ignored=(
        "the sinks are missing: the first n_sinks positions stay visible from everywhere later",
        {"sink": "none"},
    ),
    sinks_at_the_end=(
        "the sinks are the last positions here; they are the first n_sinks",
        {"sink": "last keys"},
    ),
    queries_taken_for_sinks=(
        "the sinks are tested on the query, i < n_sinks; it is the key that is one, j < n_sinks",
        {"sink": "first queries"},
    ),
    a_single_sink=(
        "only position n_sinks is a sink; the first n_sinks positions are, j < n_sinks",
        {"sink": "one key"},
    ),
    sinks_one_too_many=(
        "there is one sink too many: positions start at 0, so the first n_sinks are j < n_sinks",
        {"more_sinks": 1},
    ),
    sinks_one_too_few=(
        "there is one sink too few: positions start at 0, so the first n_sinks are j < n_sinks",
        {"more_sinks": -1},
    ),
    sinks_taken_out_of_the_window=(
        "the window gets narrower by n_sinks; it keeps its width, and the sinks come on top",
        {"sinks_take_room": True},
    ),
    sinks_within_the_window=(BOTH, {"joined": "both"}),
    sinks_within_the_window_if_any=(BOTH, {"joined": "both if there are sinks"}),
    window_inverted=(
        "True and False are exchanged: True means that a query may attend",
        {"inverted": True},
    ),
    window_of_numbers=(
        "the mask contains the numbers 1 and 0; it must contain True and False (dtype=torch.bool)",
        {"kind": "numbers"},
    ),
    window_of_bytes=(
        "the mask is of dtype uint8, ones and zeros; make it boolean (dtype=torch.bool)",
        {"kind": "bytes"},
    ),
    additive_window=(
        "this is an additive mask of 0 and -inf; the exercise asks for a boolean one",
        {"kind": "additive"},
    ),
)


# --- 1.14 online_attention ---


def online_with(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_size: int = 64,
    *,
    divisor: str = "root of d_k",
    start: float = -math.inf,
    total_from: float = 0.0,
    largest: str = "so far",
    rescale_values: bool = True,
    rescale_sum: bool = True,
    rescale_too_late: bool = False,
    direction: int = 1,
    total: str = "all blocks",
    mixed: str = "all blocks",
    divide: str = "once",
    blocks: str = "all",
    first_axis: bool = False,
    clamped: bool = False,
) -> Tensor:
    """The online softmax."""
    m = q.new_full((*q.shape[:-1], 1), start)
    sums, values = torch.zeros_like(m) + total_from, q.new_zeros((*q.shape[:-1], v.size(-1)))
    T_k = k.size(-2)
    stop = max(T_k // block_size, 1) * block_size if blocks == "whole ones" else T_k
    for begin in range(block_size if blocks == "not the first" else 0, stop, block_size):
        rows = slice(begin, begin + block_size)
        keys, block = (k[rows], v[rows]) if first_axis else (k[..., rows, :], v[..., rows, :])
        scores = scores_with(q, keys, divisor=divisor)
        highest = scores.amax(-1, keepdim=True)
        new_m = torch.maximum(m, highest)
        if largest == "of the block":
            new_m = highest
        elif largest == "of the first block":
            new_m = highest if begin == 0 else m
        elif largest == "none":
            new_m = torch.zeros_like(m)
        rescale = torch.exp(direction * (m - new_m))
        exps = torch.exp(scores - new_m)
        sums = sums * (rescale if rescale_sum else 1) * (total == "all blocks")
        sums = sums + exps.sum(-1, keepdim=True) * (rescale if rescale_too_late else 1)
        values = values * (rescale if rescale_values else 1) * (mixed == "all blocks")
        values = values + exps @ block * (rescale if rescale_too_late else 1)
        if divide == "in every block":
            values = values / sums
        m = new_m
    sums = sums.clamp(min=1e-9) if clamped else sums
    return values / sums if divide == "once" else values


NOT_UPDATED = (
    "the largest score is taken from the first block and never updated: a later, larger score "
    "overflows, and inf / inf is nan"
)

ONLINE = mistakes(
    online_with,
    values_not_rescaled=(
        "the weighted sum of values is not rescaled when a block has a larger score",
        {"rescale_values": False},
    ),
    sum_not_rescaled=(
        "the sum of exponentials is not rescaled when a block has a larger score",
        {"rescale_sum": False},
    ),
    nothing_rescaled=(
        "nothing is rescaled when a block has a larger score: exponentials of different blocks are "
        "then relative to different maxima",
        {"rescale_values": False, "rescale_sum": False},
    ),
    rescaled_too_late=(
        "the new block is added before the old sums are rescaled, so it is multiplied by the "
        "factor too; rescale what you kept, then add",
        {"rescale_too_late": True},
    ),
    rescaled_the_wrong_way=(
        "the factor is the wrong way round: it is exp(old largest - new largest), at most 1",
        {"direction": -1},
    ),
    largest_starts_at_zero=(
        "the largest score starts at 0; if all scores are far below, every exponential is 0, and 0 "
        "/ 0 is nan: start at -inf",
        {"start": 0.0},
    ),
    largest_starts_at_zero_with_clamp=(
        "the largest score starts at 0; if all scores are far below, every exponential is 0, and "
        "clamping the sum hides that: start at -inf",
        {"start": 0.0, "clamped": True},
    ),
    sliced_along_the_first_axis=(
        "the blocks are slices of the first axis, which is the batch if there is one; the keys are "
        "the last axis but one, k[..., a:b, :]",
        {"first_axis": True},
    ),
    largest_ignored=(
        "the largest score is not subtracted: exp overflows for large scores, and inf / inf is nan",
        {"largest": "none", "rescale_values": False, "rescale_sum": False},
    ),
    largest_of_the_block=(
        "the largest score is that of the block alone; keep the largest of all blocks so far",
        {"largest": "of the block"},
    ),
    each_block_its_own_largest=(
        "each block subtracts its own largest score, and the sums are added as they are: they are "
        "relative to different maxima",
        {"largest": "of the block", "rescale_values": False, "rescale_sum": False},
    ),
    largest_of_the_first_block=(NOT_UPDATED, {"largest": "of the first block"}),
    online_not_scaled=DIVIDED,
    online_scaled_by_d_k=DIVIDED_BY_D_K,
    online_scaled_by_the_length=(
        "the scores are divided by the square root of the number of keys; d_k is their width",
        {"divisor": "root of T_k"},
    ),
    sum_of_the_last_block=(
        "the sum of exponentials is that of the last block alone; add up those of all blocks",
        {"total": "last block"},
    ),
    values_of_the_last_block=(
        "the weighted values are those of the last block alone; add up those of all blocks",
        {"mixed": "last block"},
    ),
    only_the_last_block=(
        "each block overwrites what was kept; add to the sum and to the weighted values",
        {"mixed": "last block", "total": "last block"},
    ),
    not_divided=(
        "the weighted values are returned without the division by the sum of the exponentials",
        {"divide": "never"},
    ),
    divided_in_every_block=(
        "the division happens in every block; divide once, after the last one",
        {"divide": "in every block"},
    ),
    last_block_dropped=(
        "the keys after the last full block are ignored: T_k need not be a multiple of block_size",
        {"blocks": "whole ones"},
    ),
    sum_starts_at_one=(
        "the sum of exponentials starts at 1; start at 0",
        {"total_from": 1.0, "start": 0.0},
    ),
)


def blocks_averaged(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """each block has its own softmax, and the results are averaged; a block with larger scores must
    count for more"""
    return torch.stack(outputs_of_blocks(q, k, v, block_size)).mean(0)


def blocks_averaged_by_length(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """each block has its own softmax, and the results are averaged by the number of keys; what
    counts is the sum of their exponentials"""
    sizes = [keys.size(-2) for keys in k.split(block_size, dim=-2)]
    outputs = zip(sizes, outputs_of_blocks(q, k, v, block_size), strict=True)
    return torch.stack([size / k.size(-2) * output for size, output in outputs]).sum(0)


def blocks_summed(q: Tensor, k: Tensor, v: Tensor, block_size: int = 64) -> Tensor:
    """each block has a softmax of its own, and the results are added up; divide once, at the end,
    by the sum over all blocks"""
    return torch.stack(outputs_of_blocks(q, k, v, block_size)).sum(0)


def outputs_of_blocks(q: Tensor, k: Tensor, v: Tensor, block_size: int) -> list[Tensor]:
    """The attention of each block by itself."""
    blocks = zip(k.split(block_size, dim=-2), v.split(block_size, dim=-2), strict=True)
    return [attention_with(q, keys, values)[0] for keys, values in blocks]


MISCONCEPTIONS = {
    "softmax": (*SOFTMAX, without_exponentials, powers_of_two, logarithm_of_the_softmax),
    "attention_scores": (*SCORES, products_summed_over_all_axes),
    "causal_mask": (*CAUSAL, everything_allowed, only_itself, one_row),
    "apply_mask": APPLY,
    "scaled_dot_product_attention": (
        *ATTENTION,
        zero_scores_for_masked_and_floating,
        values_from_the_weights_transposed,
    ),
    "predict_weights": (
        without_the_mask,
        row_of_cats,
        weight_removed_afterwards,
        score_of_zero,
        not_yet_divided,
        undivided_and_removed_afterwards,
        equal_shares,
        wrong_key_masked,
        in_reverse,
        in_percent,
        exponent_not_squared,
        past_masked,
        scores_as_shares,
    ),
    "padding_mask": (
        *PADDING,
        on_the_default_device,
        regrouped_in_memory,
        as_wide_as_the_longest,
        cleared_from_minus_zero,
        batch_of_one_length,
    ),
    "attend_from_the_end": (
        *LATE,
        square_of_the_queries,
        square_of_the_keys,
        columns_cut,
        last_columns_cut,
    ),
    "cross_attention": (*CROSS, weights_transposed),
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
    "numpy_attention": (*NUMPY, numpy_all_axes_reversed),
    "attention_cost": COST,
    "sliding_window_mask": WINDOW,
    "online_attention": (
        *ONLINE,
        blocks_averaged,
        blocks_averaged_by_length,
        blocks_summed,
    ),
}
