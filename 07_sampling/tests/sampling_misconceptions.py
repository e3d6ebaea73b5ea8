"""Common wrong answers to the exercises of lesson 07; each diagnosis is shown to a learner.

Each exercise has one faulty implementation, `temperature_with` and so on, which is right until a
setting makes one mistake. Settings combine, so two mistakes at once are recognized as well. What
fits no setting is a function of its own, whose docstring is the diagnosis. `MISCONCEPTIONS` lists
them by the function that they imitate.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from beam_search import HasEnded, Hypothesis, NextLogits, length_normalized, never_ends
from utils.grader.mistakes import mistakes


def at_least_single(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


# --- 7.1 predict_distribution ---


def predicted_with(
    *,
    base: float = 2.0,
    square: str = "probabilities",
    exchanged: bool = False,
    end: float = 2.0,
    of_second: bool = False,
    merged: bool = False,
    unit: float = 1.0,
) -> tuple[float, ...]:
    """The four numbers."""
    p = [0.5, 0.25, 0.125] if merged else [0.5, 0.25, 0.125, 0.125]
    end = math.log2(3) if merged and end == 2.0 else end
    entropy = -sum(x * math.log(x) for x in p) / math.log(base)

    def first_at(power: float) -> float:
        if square == "not normalized":
            return p[0] ** power
        if square == "divided":
            return p[0] * power if p[0] * power < 1 else 1.0
        if square == "softmax of probabilities":
            exps = [math.exp(x * power) for x in p]
            return exps[0] / sum(exps)
        if square == "binary logits":
            exps = [math.exp(math.log2(x) * power) for x in p]
            return exps[0] / sum(exps)
        powers = [x**power for x in p]
        return powers[1 if of_second else 0] / sum(powers)

    sharp, flat = first_at(2.0), first_at(0.5)
    sharp, flat = sharp * unit, flat * unit
    return (entropy, flat, sharp, end) if exchanged else (entropy, sharp, flat, end)


PREDICTED = mistakes(
    predicted_with,
    nats=(
        "the entropy is in nats; in bits, the logarithms are to base 2",
        {"base": math.e, "end": math.log(4)},
    ),
    first_entropy_in_nats=(
        "the first entropy is in nats; in bits, the logarithms are to base 2",
        {"base": math.e},
    ),
    last_entropy_in_nats=(
        "the last entropy is in nats; in bits, the logarithms are to base 2",
        {"end": math.log(4)},
    ),
    temperatures_exchanged=(
        "the two temperatures are exchanged: one of 1/2 sharpens, one of 2 flattens",
        {"exchanged": True},
    ),
    not_normalized=(
        "the powers are not divided by their sum, so they are not probabilities",
        {"square": "not normalized"},
    ),
    probabilities_divided=(
        "the probabilities are divided by the temperature; it is their logarithms that are",
        {"square": "divided"},
    ),
    probabilities_taken_for_logits=(
        "the probabilities are taken for logits, and a softmax is computed of them; the logits are "
        "their logarithms",
        {"square": "softmax of probabilities"},
    ),
    binary_logits=(
        "the logits are logarithms to base 2, and the softmax takes powers of e; the entropy alone "
        "is to base 2",
        {"square": "binary logits"},
    ),
    negative_entropies=(
        "an entropy is never negative: a minus is missing, because the logarithms of probabilities "
        "are negative",
        {"base": 0.5, "end": -2.0},
    ),
    negative_first_entropy=(
        "an entropy is never negative: a minus is missing, because the logarithms of probabilities "
        "are negative",
        {"base": 0.5},
    ),
    percent=("the probabilities are in percent; a half is 0.5", {"unit": 100.0}),
    equal_tokens_merged=(
        "the two tokens of 1/8 are counted as one; there are four tokens",
        {"merged": True},
    ),
    entropy_without_bounds=(
        "the entropy does not grow without end; no distribution over four tokens has more than the "
        "flattest one",
        {"end": math.inf},
    ),
    number_of_tokens=(
        "the last number is a count of tokens; the entropy of four equal probabilities is the "
        "logarithm of that",
        {"end": 4.0},
    ),
    entropy_goes_to_zero=(
        "the entropy goes to 0 as the temperature goes to 0; the question is about a high one",
        {"end": 0.0},
    ),
    entropy_goes_to_one=(
        "a flat distribution of four tokens has more than 1 bit: 1 is for two",
        {"end": 1.0},
    ),
    entropy_stays=(
        "the entropy does not stay that of temperature 1: it grows as the distribution becomes "
        "flat",
        {"end": 1.75},
    ),
    of_the_second_token=(
        "these are probabilities of the second token; the first is asked for",
        {"of_second": True},
    ),
)


# --- 7.2 apply_temperature ---


def temperature_with(
    logits: Tensor,
    temperature: float,
    *,
    scaled: str = "divided",
    at_zero: str = "the first best",
    best_of: str = "the row",
    precision: str = "float32",
    lowest: float = -math.inf,
) -> Tensor:
    """The scaled logits."""
    given = logits.dtype
    if precision in ("float32", "always float32"):
        logits = logits.float() if precision == "always float32" else at_least_single(logits)
    if temperature != 0 or at_zero == "divided":
        if scaled == "multiplied":
            scaled_logits = logits * temperature
        elif scaled == "softmax":
            scaled_logits = torch.softmax(logits / temperature, dim=-1)
        elif scaled == "log_softmax":
            scaled_logits = torch.log_softmax(logits / temperature, dim=-1)
        elif scaled == "softmax first":
            scaled_logits = torch.softmax(logits, dim=-1) / temperature
        elif scaled == "shifted":
            best = logits.amax(-1, keepdim=True)
            scaled_logits = (logits - best) / temperature
        elif scaled == "not":
            scaled_logits = logits
        elif scaled == "1 + temperature":
            scaled_logits = logits / (1 + temperature)
        elif scaled == "squared":
            scaled_logits = logits / temperature**2
        elif scaled == "power":
            scaled_logits = logits ** (1 / temperature)
        elif scaled == "root":
            scaled_logits = logits / math.sqrt(temperature)
        else:
            scaled_logits = logits / temperature
        if precision == "after the division":
            scaled_logits = at_least_single(scaled_logits)
        return scaled_logits.to(given) if precision == "converted back" else scaled_logits
    if precision == "after the division":
        logits = at_least_single(logits)
    if at_zero == "a small number":
        return logits / 1e-6
    if at_zero == "unchanged":
        return logits
    ids = torch.arange(logits.size(-1))
    if at_zero == "the last best":
        flipped = logits.flip(-1).argmax(-1, keepdim=True)
        keep = ids == logits.size(-1) - 1 - flipped
    elif best_of == "all":
        keep = torch.zeros(logits.numel(), dtype=torch.bool)
        keep[logits.argmax()] = True
        keep = keep.view(logits.shape)
    elif at_zero == "all best":
        keep = logits == logits.amax(-1, keepdim=True)
    else:
        keep = ids == logits.argmax(-1, keepdim=True)
    if at_zero == "one-hot":
        return keep.to(logits.dtype)
    if at_zero == "zero for the best":
        return torch.where(keep, 0.0, -math.inf).to(logits.dtype)
    return logits.masked_fill(~keep, lowest)


TEMPERATURE = mistakes(
    temperature_with,
    multiplied=(
        "the logits are multiplied by the temperature; they should be divided by it",
        {"scaled": "multiplied"},
    ),
    softmax_taken_already=(
        "the softmax is taken already; logits are asked for",
        {"scaled": "softmax"},
    ),
    log_softmax_taken=(
        "the logarithm of the softmax is returned: the same distribution, but not the logits "
        "divided by the temperature",
        {"scaled": "log_softmax"},
    ),
    softmax_before_the_division=(
        "the softmax is taken before the division: divide the logits",
        {"scaled": "softmax first"},
    ),
    largest_subtracted=(
        "the largest logit is subtracted: the same distribution, but not the logits divided by "
        "the temperature",
        {"scaled": "shifted"},
    ),
    power_of_the_logits=(
        "the logits are raised to the power of 1 / temperature; that is what happens to the "
        "probabilities, while the logits are divided",
        {"scaled": "power"},
    ),
    temperature_ignored=("the temperature is ignored", {"scaled": "not"}),
    one_plus_temperature=(
        "the logits are divided by 1 + temperature: that avoids 0, but is wrong everywhere else",
        {"scaled": "1 + temperature"},
    ),
    temperature_squared=(
        "the logits are divided by the square of the temperature",
        {"scaled": "squared"},
    ),
    root_of_temperature=(
        "the logits are divided by the square root of the temperature; divide by the temperature",
        {"scaled": "root"},
    ),
    division_by_zero=(
        "temperature 0 is not treated: a division by 0 gives inf and nan; it means greedy",
        {"at_zero": "divided"},
    ),
    a_small_number_for_zero=(
        "a small number takes the place of temperature 0: equal logits then still share, and "
        "nothing is -inf; keep the largest logit only",
        {"at_zero": "a small number"},
    ),
    zero_changes_nothing=(
        "temperature 0 changes nothing here; it means greedy: all but the largest logit become "
        "-inf",
        {"at_zero": "unchanged"},
    ),
    all_that_tie=(
        "at temperature 0 all logits that equal the largest are kept; only the first of them "
        "should be",
        {"at_zero": "all best"},
    ),
    last_of_equals=(
        "of equal logits, temperature 0 keeps the last one; keep that with the lowest id",
        {"at_zero": "the last best"},
    ),
    one_hot=(
        "temperature 0 gives ones and zeros; these are logits: the largest stays as it is, and the "
        "others become -inf",
        {"at_zero": "one-hot"},
    ),
    zero_for_the_best=(
        "at temperature 0 the largest logit becomes 0; it should stay as it is",
        {"at_zero": "zero for the best"},
    ),
    best_of_the_whole_tensor=(
        "at temperature 0 one logit of the whole tensor is kept; each row needs its own",
        {"best_of": "all"},
    ),
    zero_for_the_others=(
        "at temperature 0 the other logits become 0, and exp(0) = 1 still gets probability; only "
        "-inf gets none",
        {"lowest": 0.0},
    ),
    large_negative_for_the_others=(
        "at temperature 0 the other logits become a large negative number; use -math.inf",
        {"lowest": -1e9},
    ),
    half_precision_stays=(
        "half precision stays half precision; convert it to float32 before the division",
        {"precision": "unchanged"},
    ),
    converted_after_the_division=(
        "half precision is converted after the division, which has overflowed or rounded already; "
        "convert first",
        {"precision": "after the division"},
    ),
    float64_becomes_float32=(
        "float64 becomes float32, too; only half precision should change",
        {"precision": "always float32"},
    ),
)


# --- 7.3 sample_inverse_cdf ---


def inverse_with(
    logits: Tensor,
    uniform: Tensor,
    *,
    weights: str = "softmax",
    edge: str = "<=",
    rounding: str = "normalized",
    order: str = "by id",
    axis: int = -1,
    offset: int = 0,
    number: str = "its own",
    dtype: torch.dtype = torch.int64,
    axes: str = "none",
    sums: str = "along the tokens",
) -> Tensor:
    """The ids."""
    logits = logits.double()
    if weights == "exponentials":
        p = torch.exp(logits)
    elif weights == "logits":
        p = logits
    elif weights == "softmax of all":
        p = torch.softmax(logits.flatten(), 0).view(logits.shape)
    elif weights == "float32":
        p = torch.softmax(logits.float(), axis)
    else:
        p = torch.softmax(logits, axis)
    ids = torch.arange(p.size(-1)).expand(p.shape)
    if order != "by id":
        p, ids = p.sort(dim=-1, descending=True, stable=True)
    ends = p.cumsum(0 if sums == "along the first axis" else axis)
    u = uniform.double()
    if number == "one for all" and u.dim() > 0:
        u = u.flatten()[0].expand(u.shape)
    if number == "1 - u":
        u = 1 - u
    u = u[..., None]
    if rounding == "normalized":
        ends = ends / ends[..., -1:]
    if edge == "starts":
        ends = ends - p
    if edge == "closest":
        places = (ends - u).abs().argmin(-1)
    else:
        places = ((ends < u) if edge == "<" else (ends <= u)).sum(-1)
    if rounding == "clamped":
        places = places.clamp(max=p.size(-1) - 1)
    if rounding == "argmax":
        places = (ends > u).int().argmax(-1)
    if rounding == "last possible":
        places = places.minimum((ids * (p > 0)).amax(-1))
    places = places + offset
    if order == "by probability":
        ids = ids.gather(-1, places.clamp(0, p.size(-1) - 1)[..., None])[..., 0]
    else:
        ids = places
    ids = ids[..., None] if axes == "kept" else ids
    return ids.to(dtype)


INVERSE = mistakes(
    inverse_with,
    not_normalized=(
        "the pieces are the exponentials, which do not sum to 1: take the softmax",
        {"weights": "exponentials", "rounding": "as it is"},
    ),
    logits_as_pieces=(
        "the logits themselves are laid end to end; take their softmax first",
        {"weights": "logits", "rounding": "as it is"},
    ),
    softmax_of_all=(
        "the softmax runs over the whole tensor; each row has its own distribution",
        {"weights": "softmax of all", "rounding": "as it is"},
    ),
    end_belongs_to_the_token_before=(
        "an end of a piece that equals u counts as beyond it: for u = 0 this draws a token of "
        "probability 0; the condition is end <= u",
        {"edge": "<"},
    ),
    starts_in_place_of_ends=(
        "u is compared with where the pieces start, so the id is one too large; compare with "
        "where they end",
        {"edge": "starts"},
    ),
    closest_end=(
        "the token whose end is closest to u is taken; it should be the one on whose piece u lies",
        {"edge": "closest"},
    ),
    sums_below_u=(
        "rounding lets the sums end below the largest u, and the id is then V, or a token of "
        "probability 0; it should be the last token with a probability above 0",
        {"rounding": "as it is", "weights": "float32"},
    ),
    clamped_to_the_last_id=(
        "an id that is too large is cut to V - 1, whose probability may be 0; it should be the "
        "last token with a probability above 0",
        {"rounding": "clamped", "weights": "float32"},
    ),
    first_token_where_sums_end=(
        "where the rounded sums end below u, argmax finds no True and returns id 0; it should be "
        "the last token with a probability above 0",
        {"rounding": "argmax", "weights": "float32"},
    ),
    most_probable_first=(
        "the tokens are sorted by probability first; lay them end to end in the order of their ids",
        {"order": "by probability"},
    ),
    rank_returned=(
        "the tokens are sorted by probability, and the rank is returned in place of the id; no "
        "order is needed but that of the ids",
        {"order": "ranks"},
    ),
    sums_along_the_first_axis=(
        "the probabilities are added up along the first axis; the tokens are the last one",
        {"sums": "along the first axis", "rounding": "last possible"},
    ),
    sums_along_the_first_axis_unlimited=(
        "the probabilities are added up along the first axis; the tokens are the last one",
        {"sums": "along the first axis", "rounding": "as it is"},
    ),
    one_too_few=("the id is one too small", {"offset": -1}),
    one_number_for_all_rows=(
        "all rows use the first random number; row i has uniform[i]",
        {"number": "one for all"},
    ),
    counted_from_the_end=(
        "the line is measured from its other end: u, not 1 - u",
        {"number": "1 - u"},
    ),
    ids_as_floats=("the ids are floats; they should be int64", {"dtype": torch.float32}),
    ids_as_int32=("the ids are int32; they should be int64", {"dtype": torch.int32}),
    axis_kept=(
        "the ids have an axis of size 1 at the end: one id per row is asked for",
        {"axes": "kept"},
    ),
)


def always_the_best(logits: Tensor, uniform: Tensor) -> Tensor:
    """the most probable token is taken, whatever u is"""
    return logits.argmax(-1)


def equal_pieces(logits: Tensor, uniform: Tensor) -> Tensor:
    """all tokens get pieces of equal length; they should be as long as the probabilities"""
    return (uniform * logits.size(-1)).long()


def drawn_again(logits: Tensor, uniform: Tensor) -> Tensor:
    """new random numbers are drawn, and uniform is ignored"""
    return inverse_with(logits, torch.rand(uniform.shape))


# --- 7.4 sample_gumbel ---


def gumbel_with(
    logits: Tensor,
    uniform: Tensor,
    *,
    noise: str = "gumbel",
    combined: str = "sum",
    choose: str = "argmax",
    axis: int = -1,
    keepdim: bool = False,
    dtype: torch.dtype = torch.int64,
) -> Tensor:
    """The ids."""
    u = uniform.double()
    logits = logits.double()
    g = {
        "gumbel": lambda: -torch.log(-torch.log(u)),
        "sign": lambda: torch.log(-torch.log(u)),
        "inner sign": lambda: -torch.log(torch.log(u)),
        "one log": lambda: -torch.log(u),
        "log u": lambda: torch.log(u),
        "uniform": lambda: u,
        "1 - u": lambda: -torch.log(-torch.log(1 - u)),
        "log2": lambda: -torch.log2(-torch.log2(u)),
        "logistic": lambda: torch.log(u) - torch.log(1 - u),
        "clamped": lambda: -torch.log(-torch.log(u.clamp(0.01, 0.99))),
        "clamped a little": lambda: -torch.log(-torch.log(u.clamp(0.001, 0.999))),
        "none": lambda: torch.zeros_like(u),
        "same for all tokens": lambda: (-torch.log(-torch.log(u[..., :1]))).expand(u.shape),
        "same for all rows": lambda: (
            -torch.log(-torch.log(u.reshape(-1, u.size(-1))[0])).expand(u.shape)
        ),
    }[noise]()
    values = {
        "sum": lambda: logits + g,
        "difference": lambda: logits - g,
        "product": lambda: logits * g,
        "softmax + noise": lambda: torch.softmax(logits, -1) + g,
        "softmax + noise, but never what is excluded": lambda: (
            torch.softmax(logits, -1) + g.masked_fill(logits == -math.inf, -math.inf)
        ),
        "log_softmax doubled": lambda: 2 * logits + g,
        "noise alone": lambda: g,
    }[combined]()
    if choose == "max":
        return values.amax(axis)
    if choose == "argmin":
        return values.argmin(axis)
    if choose == "of all":
        return values.argmax().expand(values.shape[:-1]).clone()
    if choose == "last argmax":
        values = values.flip(axis)
    return values.argmax(axis, keepdim=keepdim).to(dtype)


GUMBEL = mistakes(
    gumbel_with,
    sign_of_the_noise=(
        "the noise has the wrong sign: -log(-log(u)), with a minus before the outer logarithm "
        "too, is added to the logits",
        {"noise": "sign"},
    ),
    inner_sign=(
        "the inner minus is missing: log(u) is negative, and its logarithm is nan",
        {"noise": "inner sign"},
    ),
    one_logarithm=(
        "the noise is -log(u), one logarithm; it takes two: -log(-log(u))",
        {"noise": "one log"},
    ),
    logarithm_of_u=(
        "the noise is log(u); it should be -log(-log(u))",
        {"noise": "log u"},
    ),
    uniform_noise=(
        "u itself is added; the noise is -log(-log(u))",
        {"noise": "uniform"},
    ),
    one_minus_u=(
        "the noise is computed of 1 - u; it should be of u",
        {"noise": "1 - u"},
    ),
    binary_logarithms=(
        "the logarithms are to base 2; they should be natural ones",
        {"noise": "log2"},
    ),
    logistic_noise=(
        "this is logistic noise, log(u / (1 - u)); it should be -log(-log(u))",
        {"noise": "logistic"},
    ),
    no_noise=(
        "the noise changes nothing: none is added, or all tokens of a row get the same; this is "
        "greedy decoding",
        {"noise": "none"},
    ),
    one_noise_for_all_rows=(
        "all rows get the noise of the first one; each has its own",
        {"noise": "same for all rows"},
    ),
    noise_multiplied=(
        "logits and noise are multiplied; add them",
        {"combined": "product"},
    ),
    noise_on_probabilities=(
        "the noise is added to the softmax; add it to the logits",
        {"combined": "softmax + noise"},
    ),
    noise_on_possible_probabilities=(
        "the noise is added to the softmax; add it to the logits",
        {"combined": "softmax + noise, but never what is excluded"},
    ),
    u_is_clamped=(
        "u is limited to less than the range from 0 to 1, so rare tokens become too rare; it is "
        "never 0 or 1 here",
        {"noise": "clamped"},
    ),
    u_is_clamped_a_little=(
        "u is limited to less than the range from 0 to 1, so rare tokens become too rare; it is "
        "never 0 or 1 here",
        {"noise": "clamped a little"},
    ),
    noise_alone=(
        "only the noise decides, and the logits are ignored",
        {"combined": "noise alone"},
    ),
    values_in_place_of_ids=(
        "the largest sums are returned; the ids of the tokens are asked for (argmax)",
        {"choose": "max"},
    ),
    smallest_sum=("the smallest sum is taken; take the largest", {"choose": "argmin"}),
    largest_of_all_rows=(
        "the argmax runs over the whole tensor; each row has its own",
        {"choose": "of all"},
    ),
    over_the_first_axis=(
        "the argmax runs over the first axis; the tokens are the last one",
        {"axis": 0},
    ),
    axis_kept=(
        "the ids have an axis of size 1 at the end: one id per row is asked for",
        {"keepdim": True},
    ),
    ids_as_int32=("the ids are int32; they should be int64", {"dtype": torch.int32}),
    ids_as_floats=("the ids are floats; they should be int64", {"dtype": torch.float32}),
)


# --- 7.5 top_k_filter ---


def top_k_with(
    logits: Tensor,
    k: int | None,
    *,
    ties: str = "lowest ids",
    off: int = 0,
    hidden: float = -math.inf,
    which: str = "largest",
    of: str = "row",
    kept: str = "logits",
    without_k: str = "all",
    large_k: str = "all",
    dtype: str = "kept",
) -> Tensor:
    """The filtered logits."""
    V = logits.size(-1)
    if dtype == "half to float32":
        logits = at_least_single(logits)
    if k is None:
        if without_k in NONE_FAILS:
            NONE_FAILS[without_k](logits, k)  # raises the error of an answer that treats it so
        if without_k == "one":
            k = 1
        elif without_k == "none":
            return torch.full_like(logits, hidden)
        else:
            return logits.float() if dtype == "float32" else logits.clone()
    if large_k == "error" and k > V:
        raise RuntimeError("selected index k out of range")
    if large_k == "apart" and k >= V:
        off = 0
    k = max(0, min(k + off, V))
    values = logits.abs() if which == "absolute" else logits
    if of == "all":
        order = values.flatten().argsort(descending=True, stable=True)[:k]
        keep = torch.zeros(logits.numel(), dtype=torch.bool)
        keep[order] = True
        keep = keep.view(logits.shape)
    elif ties == "all":
        kth = values.sort(-1, descending=which != "smallest").values[..., max(k - 1, 0)][..., None]
        keep = values <= kth if which == "smallest" else values >= kth
    elif ties == "kthvalue":
        kth = values.sort(-1).values[..., k - 1 if k < V else 0][..., None]
        keep = values >= kth
    elif ties == "strictly above":
        kth = values.sort(-1, descending=True).values[..., max(k - 1, 0)][..., None]
        keep = values > kth
    else:
        if ties == "highest ids":
            order = V - 1 - values.flip(-1).argsort(dim=-1, descending=True, stable=True)
        elif ties == "ascending sort":
            order = values.argsort(dim=-1, stable=True).flip(-1)
        elif ties == "topk":
            order = values.topk(k, dim=-1).indices
        else:
            order = values.argsort(dim=-1, descending=which != "smallest", stable=True)
        if of == "the first row":
            order = order.reshape(-1, V)[0].expand(order.shape)
        full_order, order = order, order[..., :k]
        if of == "by rank":
            order = torch.arange(V).expand(logits.shape)[..., :k]
        keep = torch.zeros(logits.shape, dtype=torch.bool).scatter(-1, order, True)
        if of == "gathered":
            keep = (torch.arange(V) < k).expand(logits.shape).gather(-1, full_order)
    if kept == "inverted":
        keep = ~keep
    result = torch.where(keep, logits, torch.full_like(logits, hidden))
    if kept == "only the k":
        result = values.sort(-1, descending=True).values[..., :k]
    elif kept == "sorted":
        result = result.sort(-1, descending=True).values
    elif kept == "softmax":
        result = torch.softmax(result, -1)
    elif kept == "zeros":
        result = torch.where(keep, 0.0, -math.inf).to(logits.dtype)
    return result.float() if dtype == "float32" else result


NONE_FAILS: dict[str, Callable[[Tensor, Any], Any]] = {
    "compared": lambda logits, k: k >= logits.size(-1),
    "minimum": lambda logits, k: min(k, logits.size(-1)),
    "topk": lambda logits, k: logits.topk(k),
    "counted to": lambda logits, k: range(k),
}
IS_NOT_TREATED = "k = None is not treated; it keeps all"

TOP_K = mistakes(
    top_k_with,
    ties_all_kept=(
        "every logit that equals the k-th largest is kept, so more than k can stay; keep exactly "
        "k, of equal ones those with the lowest ids",
        {"ties": "all"},
    ),
    counted_from_the_smallest=(
        "the k-th smallest is taken for the k-th largest; kthvalue and an ascending sort count "
        "from the other end",
        {"ties": "kthvalue"},
    ),
    ties_all_dropped=(
        "only logits above the k-th largest are kept: that one itself is lost, and with it "
        "everything that equals it",
        {"ties": "strictly above"},
    ),
    ties_keep_the_highest_ids=(
        "of equal logits those with the highest ids are kept; keep those with the lowest",
        {"ties": "highest ids"},
    ),
    one_too_many=("one logit too many is kept", {"off": 1}),
    one_too_few=("one logit too few is kept", {"off": -1}),
    one_too_few_below_v=("one logit too few is kept", {"off": -1, "large_k": "apart"}),
    ties_as_topk_has_them=(
        "of equal logits those are kept that torch.topk happens to return; it promises no order, "
        "and the lowest ids should be",
        {"ties": "topk"},
    ),
    gathered_in_place_of_scattered=(
        "the decision is brought back with gather; the ids say where each rank belongs: scatter",
        {"of": "gathered"},
    ),
    zero_for_the_others=(
        "the others become 0, and exp(0) = 1 still gets probability; only -inf gets none",
        {"hidden": 0.0},
    ),
    large_negative=(
        "the others become a large negative number; use -math.inf",
        {"hidden": -1e9},
    ),
    smallest_finite=(
        "the others become the smallest finite number; use -math.inf",
        {"hidden": torch.finfo(torch.float32).min},
    ),
    smallest_kept=("the k smallest logits are kept; keep the largest", {"which": "smallest"}),
    largest_by_size=(
        "the k largest by absolute value are kept; a very negative logit is an improbable token",
        {"which": "absolute"},
    ),
    k_of_the_whole_tensor=(
        "k logits of the whole tensor are kept; each row keeps k of its own",
        {"of": "all"},
    ),
    ids_of_the_first_row=(
        "all rows keep the ids that are best in the first row; each row has its own",
        {"of": "the first row"},
    ),
    first_k_ids=(
        "the first k ids are kept: the ranks were not carried back to the ids",
        {"of": "by rank"},
    ),
    inverted=("what should be dropped is kept, and the other way round", {"kept": "inverted"}),
    only_the_k_values=(
        "only the k values are returned; return all V logits, with -inf for the others",
        {"kept": "only the k"},
    ),
    sorted_result=(
        "the logits come back sorted; each must stay at its own id",
        {"kept": "sorted"},
    ),
    softmax_taken=("the softmax is taken already; logits are asked for", {"kept": "softmax"}),
    zeros_for_the_kept=(
        "the kept logits become 0; they should stay as they are",
        {"kept": "zeros"},
    ),
    none_keeps_one=("k = None keeps one token; it should keep all", {"without_k": "one"}),
    none_is_compared=(IS_NOT_TREATED, {"without_k": "compared"}),
    none_in_a_minimum=(IS_NOT_TREATED, {"without_k": "minimum"}),
    none_passed_to_topk=(IS_NOT_TREATED, {"without_k": "topk"}),
    none_counted_to=(IS_NOT_TREATED, {"without_k": "counted to"}),
    none_keeps_nothing=("k = None keeps nothing; it should keep all", {"without_k": "none"}),
    large_k_is_an_error=(
        "a k above V is not treated: topk then fails; it keeps all",
        {"large_k": "error"},
    ),
    always_float32=(
        "the result is float32, whatever came in; keep the dtype",
        {"dtype": "float32"},
    ),
    half_becomes_float32=(
        "half precision comes back as float32; keep the dtype of the logits",
        {"dtype": "half to float32"},
    ),
)


# --- 7.6 top_p_filter ---


def top_p_with(
    logits: Tensor,
    p: float,
    *,
    crossing: str = "kept",
    compared: str = "before >= p",
    best: str = "always",
    carried: str = "to the ids",
    sort: str = "descending",
    ties: str = "lowest ids",
    summed: str = "probabilities",
    of: str = "row",
    hidden: float = -math.inf,
    at_one: str = "all",
    precision: str = "float32",
    returned: str = "logits",
    kept: str = "nucleus",
    rounding: str = "differences",
) -> Tensor:
    """The filtered logits."""
    if p == 1 and at_one == "all":
        return logits.clone() if precision != "always float32" else logits.float()
    V = logits.size(-1)
    single = logits if precision == "of the logits" else at_least_single(logits)
    if of == "all":
        single = single.reshape(-1)
    if sort == "not":
        ids = torch.arange(single.size(-1)).expand(single.shape)
    elif sort == "ascending":
        ids = single.argsort(dim=-1, stable=True)
    elif ties == "highest ids":
        ids = single.size(-1) - 1 - single.flip(-1).argsort(dim=-1, descending=True, stable=True)
    else:
        ids = single.argsort(dim=-1, descending=True, stable=True)
    ordered = single.gather(-1, ids)
    if summed == "logits":
        q = ordered
    elif summed == "exponentials":
        q = torch.exp(ordered)
    else:
        q = torch.softmax(ordered, -1)
    mass = q.cumsum(-1)
    before = mass - q
    if precision == "of the logits" and rounding == "sums":
        before = torch.cat([torch.zeros_like(q[..., :1]), mass[..., :-1]], -1)
    if crossing == "dropped":
        dropped = mass > p
    elif crossing == "dropped, >=":
        dropped = mass >= p
    elif crossing == "one more":
        dropped = torch.cat([torch.zeros_like(before[..., :1]), before[..., :-1]], -1) >= p
    elif crossing == "none reaches p":
        first = (mass >= p).int().argmax(-1, keepdim=True)
        dropped = torch.arange(mass.size(-1)) > first
    elif crossing == "shifted":
        dropped = torch.cat([mass[..., :1] > p, mass[..., :-1] > p], -1)
    elif compared == "before > p":
        dropped = before > p
    elif compared == "1 - p":
        dropped = before >= 1 - p
    elif compared == "each above 1 - p":
        dropped = q < 1 - p
    elif compared == "each above p":
        dropped = q < p
    else:
        dropped = before >= p
    if crossing.startswith("dropped") and best == "always":
        dropped[..., 0] = False
    if crossing == "one more":
        dropped[..., 0] = False
    if ties == "all kept":
        last = ordered.masked_fill(dropped, math.inf).amin(-1, keepdim=True)
        dropped = ordered < last
    if carried == "to the ids":
        dropped = torch.zeros_like(dropped).scatter(-1, ids, dropped)
    elif carried == "gathered":
        dropped = dropped.gather(-1, ids)
    if of == "all":
        dropped = dropped.view(logits.shape)
    if of == "the first row":
        dropped = dropped.reshape(-1, V)[0].expand(logits.shape)
    if kept == "tail":
        dropped = ~dropped
    if returned == "sorted":
        result = ordered.masked_fill(before >= p, hidden).to(logits.dtype)
    else:
        result = logits.masked_fill(dropped, hidden)
    if returned == "softmax":
        result = torch.softmax(result, -1)
    elif returned == "probabilities":
        result = logits.softmax(-1).masked_fill(dropped, 0.0)
    return at_least_single(result) if precision == "always float32" else result


TOP_P = mistakes(
    top_p_with,
    crossing_token_dropped=(
        "the token that crosses p is dropped: without it the set does not sum to p",
        {"crossing": "dropped"},
    ),
    crossing_token_dropped_with_the_best=(
        "the token that crosses p is dropped, and if that is the best one, nothing is left; the "
        "set has to reach p",
        {"crossing": "dropped", "best": "sometimes"},
    ),
    shifted_without_the_best=(
        "the mask is shifted by one, and its first entry stays as it was: where the best token "
        "alone exceeds p, it is dropped; it is always kept",
        {"crossing": "shifted"},
    ),
    a_sum_of_exactly_p=(
        "where the sum equals p, one token more is kept; p is enough",
        {"compared": "before > p"},
    ),
    one_token_too_many=(
        "one token more than needed is kept: the sum has reached p before it",
        {"crossing": "one more"},
    ),
    one_minus_p=(
        "the tokens are kept until they sum to 1 - p; p is what the nucleus holds",
        {"compared": "1 - p"},
    ),
    each_compared_with_p=(
        "each probability is compared with p; it is the sum of the most probable ones that has to "
        "reach p",
        {"compared": "each above p"},
    ),
    each_compared_with_one_minus_p=(
        "each probability is compared with 1 - p; it is the sum of the most probable ones that "
        "has to reach p",
        {"compared": "each above 1 - p"},
    ),
    rank_taken_for_id=(
        "what was decided by rank is applied to the ids as if the tokens were sorted; carry it "
        "back with scatter",
        {"carried": "not"},
    ),
    gathered_in_place_of_scattered=(
        "the decision is brought back with gather; the ids say where each rank belongs: scatter",
        {"carried": "gathered"},
    ),
    not_sorted=(
        "the tokens are summed in the order of their ids; sort them by probability first",
        {"sort": "not"},
    ),
    sorted_ascending=(
        "the least probable tokens are summed first; sort in descending order",
        {"sort": "ascending"},
    ),
    ties_keep_the_highest_ids=(
        "of equal logits those with the highest ids are taken first; take the lowest",
        {"ties": "highest ids"},
    ),
    ties_all_kept=(
        "every token that equals the last one of the nucleus is kept too; only as many as are "
        "needed should be",
        {"ties": "all kept"},
    ),
    logits_summed=(
        "the logits are summed; take their softmax first",
        {"summed": "logits"},
    ),
    exponentials_summed=(
        "the exponentials are summed without dividing by their sum; take the softmax",
        {"summed": "exponentials"},
    ),
    nucleus_of_the_whole_tensor=(
        "one nucleus is made of the whole tensor; each row has its own",
        {"of": "all"},
    ),
    nucleus_of_the_first_row=(
        "all rows get the nucleus of the first; each has its own",
        {"of": "the first row"},
    ),
    zero_for_the_others=(
        "the others become 0, and exp(0) = 1 still gets probability; only -inf gets none",
        {"hidden": 0.0},
    ),
    large_negative=(
        "the others become a large negative number; use -math.inf",
        {"hidden": -1e9},
    ),
    p_of_one_not_treated=(
        "with p = 1, tokens are dropped after rounding has let the sum reach 1; it keeps all",
        {"at_one": "computed"},
    ),
    half_precision_sums=(
        "the sums are computed in half precision, which is too coarse; use float32",
        {"precision": "of the logits"},
    ),
    half_precision_sums_of_those_before=(
        "the sums are computed in half precision, which is too coarse; use float32",
        {"precision": "of the logits", "rounding": "sums"},
    ),
    one_where_no_sum_reaches_p=(
        "where the rounded sums stay below p, argmax finds no True and only one token is left; all "
        "should stay",
        {"crossing": "none reaches p"},
    ),
    always_float32=(
        "half precision comes back as float32; keep the dtype of the logits",
        {"precision": "always float32"},
    ),
    sorted_result=(
        "the logits come back sorted; each must stay at its own id",
        {"returned": "sorted"},
    ),
    softmax_taken=("the softmax is taken already; logits are asked for", {"returned": "softmax"}),
    probabilities_returned=(
        "probabilities are returned; logits are asked for, with -inf for what is dropped",
        {"returned": "probabilities"},
    ),
    tail_kept=("the tail is kept and the nucleus dropped", {"kept": "tail"}),
)


# --- 7.7 min_p_filter ---


def min_p_with(
    logits: Tensor,
    min_p: float,
    *,
    bar: str = "times the best",
    best_of: str = "row",
    strict: bool = False,
    hidden: float = -math.inf,
    precision: str = "float32",
    weights: str = "softmax",
    returned: str = "logits",
    inverted: bool = False,
    lowest: float = 0.0,
) -> Tensor:
    """The filtered logits."""
    min_p = max(min_p, lowest)
    single = logits if precision == "of the logits" else at_least_single(logits)
    if weights == "logits":
        p = single
    elif weights == "of all":
        p = torch.softmax(single.flatten(), 0).view(single.shape)
    elif weights == "log-probabilities":
        p = torch.log_softmax(single, -1)
    elif weights == "first axis":
        p = torch.softmax(single, 0)
    else:
        p = torch.softmax(single, -1)
    best = p.amax(-1, keepdim=True)
    if best_of == "all":
        best = p.max()
    elif best_of == "mean":
        best = p.mean(-1, keepdim=True)
    elif best_of == "second":
        best = p.sort(-1, descending=True).values[..., min(1, p.size(-1) - 1)][..., None]
    elif best_of == "largest logit":
        best = single.amax(-1, keepdim=True)
    threshold = {
        "times the best": lambda: min_p * best,
        "absolute": lambda: torch.full_like(best, min_p),
        "best minus": lambda: best - min_p,
        "1 - min_p": lambda: (1 - min_p) * best,
        "divided": lambda: min_p / best,
        "logit difference": lambda: best,
    }[bar]()
    dropped = p <= threshold if strict else p < threshold
    if bar == "logit difference":
        dropped = single < single.amax(-1, keepdim=True) - min_p
    if inverted:
        dropped = ~dropped
    result = logits.masked_fill(dropped, hidden)
    if returned == "softmax":
        result = torch.softmax(result, -1)
    elif returned == "probabilities":
        result = p.masked_fill(dropped, 0.0).to(logits.dtype)
    if precision == "half to float32":
        return at_least_single(result)
    return result.float() if precision == "always float32" else result


MIN_P = mistakes(
    min_p_with,
    absolute_bar=(
        "the bar is min_p itself; it is min_p times the largest probability",
        {"bar": "absolute"},
    ),
    best_minus=(
        "the bar is the largest probability minus min_p; it is min_p times it",
        {"bar": "best minus"},
    ),
    one_minus=(
        "the bar is (1 - min_p) times the largest probability; it is min_p times it",
        {"bar": "1 - min_p"},
    ),
    divided_by_the_best=(
        "the bar is min_p divided by the largest probability; multiply them",
        {"bar": "divided"},
    ),
    difference_of_logits=(
        "logits are compared, with a difference of min_p; probabilities should be, or logits with "
        "a difference of log(min_p)",
        {"bar": "logit difference"},
    ),
    best_of_the_whole_tensor=(
        "the largest probability is that of the whole tensor; each row has its own",
        {"best_of": "all"},
    ),
    mean_probability=(
        "the bar is min_p times the mean probability; it is times the largest",
        {"best_of": "mean"},
    ),
    second_probability=(
        "the bar is min_p times the second largest probability; it is times the largest",
        {"best_of": "second"},
    ),
    largest_logit=(
        "the bar is min_p times the largest logit; it is times the largest probability",
        {"best_of": "largest logit"},
    ),
    equal_dropped=(
        "a token with exactly the probability of the bar is dropped; at least that much is enough",
        {"strict": True},
    ),
    zero_for_the_others=(
        "the others become 0, and exp(0) = 1 still gets probability; only -inf gets none",
        {"hidden": 0.0},
    ),
    large_negative=(
        "the others become a large negative number; use -math.inf",
        {"hidden": -1e9},
    ),
    half_precision=(
        "half precision is used as it is, which is too coarse; convert it to float32 first",
        {"precision": "of the logits"},
    ),
    always_float32=(
        "the result is float32, whatever came in; keep the dtype",
        {"precision": "always float32"},
    ),
    half_becomes_float32=(
        "half precision comes back as float32; keep the dtype of the logits",
        {"precision": "half to float32"},
    ),
    min_p_raised=(
        "min_p is raised to a small number, so 0 no longer keeps all",
        {"lowest": 1e-5},
    ),
    logits_compared=(
        "the logits are compared as if they were probabilities; take the softmax",
        {"weights": "logits"},
    ),
    log_probabilities_compared=(
        "the logarithms of the probabilities are compared with a share of the largest logarithm; "
        "compare the probabilities",
        {"weights": "log-probabilities"},
    ),
    softmax_of_all=(
        "the softmax runs over the whole tensor; each row is a distribution of its own",
        {"weights": "of all", "best_of": "all"},
    ),
    softmax_over_the_first_axis=(
        "the softmax runs over the first axis; the tokens are the last one",
        {"weights": "first axis"},
    ),
    softmax_taken=("the softmax is taken already; logits are asked for", {"returned": "softmax"}),
    probabilities_returned=(
        "probabilities are returned; logits are asked for, with -inf for what is dropped",
        {"returned": "probabilities"},
    ),
    inverted=("what should be dropped is kept, and the other way round", {"inverted": True}),
)


# --- 7.8 read_strategies ---

RULES = {
    "greedy": "C",
    "temperature 0.5": "E",
    "temperature 2": "A",
    "top-k 4": "F",
    "top-p 0.8": "B",
    "min-p 0.2": "D",
}


def rules_with(**exchanged: str) -> dict[str, str]:
    """The answers, with rules exchanged: each of `names="one, other"` has the next one's letter."""
    answer = dict(RULES)
    for circle in exchanged.values():
        names = circle.split(", ")
        letters = [answer[name] for name in names]
        answer.update(zip(names, [*letters[1:], letters[0]], strict=True))
    return answer


READ = mistakes(
    rules_with,
    temperatures_exchanged=(
        "the temperatures are exchanged: a low one makes high bars higher",
        {"temperatures": "temperature 0.5, temperature 2"},
    ),
    top_k_and_top_p_exchanged=(
        "top-k and top-p are exchanged: a fixed number of tokens is left in both positions by one "
        "of them only",
        {"filters": "top-k 4, top-p 0.8"},
    ),
    top_k_and_min_p_exchanged=(
        "top-k and min-p are exchanged: a fixed number of tokens is left in both positions by one "
        "of them only",
        {"filters": "top-k 4, min-p 0.2"},
    ),
    top_p_and_min_p_exchanged=(
        "top-p and min-p are exchanged: add up the outlines of what is left, and compare with 0.8; "
        "compare the least of them with a fifth of the highest",
        {"filters": "top-p 0.8, min-p 0.2"},
    ),
    filters_in_a_circle=(
        "all three filters are exchanged: count what is left in both positions for top-k, add up "
        "the outlines for top-p, and compare the least with the highest for min-p",
        {"filters": "top-k 4, top-p 0.8, min-p 0.2"},
    ),
    filters_in_the_other_circle=(
        "all three filters are exchanged: count what is left in both positions for top-k, add up "
        "the outlines for top-p, and compare the least with the highest for min-p",
        {"filters": "top-k 4, min-p 0.2, top-p 0.8"},
    ),
    greedy_and_low_temperature_exchanged=(
        "greedy and a low temperature are exchanged: only one of them leaves a single token",
        {"sharp": "greedy, temperature 0.5"},
    ),
    high_temperature_and_min_p_exchanged=(
        "a temperature cuts nothing off, and a filter keeps the proportions of what is left",
        {"flat": "temperature 2, min-p 0.2"},
    ),
    low_temperature_and_top_p_exchanged=(
        "a low temperature cuts nothing off, and a filter keeps the proportions of what is left",
        {"sharp": "temperature 0.5, top-p 0.8"},
    ),
    low_temperature_and_top_k_exchanged=(
        "a temperature of 0.5 cuts nothing off; top-k leaves exactly k tokens",
        {"sharp": "temperature 0.5, top-k 4"},
    ),
)


# --- 7.9 penalties ---


def repetition_with(
    logits: Tensor,
    counts: Tensor,
    penalty: float,
    *,
    negative: str = "multiplied",
    who: str = "occurred",
    how_often: str = "once",
    positive: str = "divided",
    precision: str = "float32",
    infinite: str = "kept",
    of: str = "logits",
) -> Tensor:
    """The penalized logits."""
    given = logits.dtype
    if precision == "always float32":
        logits = logits.float()
    elif precision != "unchanged":
        logits = at_least_single(logits)
    strength: Any = penalty
    if how_often == "power of the count":
        strength = torch.as_tensor(penalty, dtype=logits.dtype) ** counts
    elif how_often == "times the count":
        strength = torch.where(counts > 0, penalty * counts, torch.ones_like(counts)).to(
            logits.dtype
        )
    if of == "log-probabilities":
        logits = logits.log_softmax(-1)
    if positive == "subtracted":
        penalized = logits - strength
    elif positive == "log subtracted":
        penalized = logits - math.log(penalty)
    elif positive == "exchanged":
        penalized = torch.where(logits > 0, logits * strength, logits / strength)
    elif negative == "divided":
        penalized = logits / strength
    elif negative == "unchanged":
        penalized = torch.where(logits > 0, logits / strength, logits)
    elif negative == "all multiplied":
        penalized = logits * strength
    elif negative == "sign by probability":
        p = torch.softmax(logits, -1)
        penalized = (p / strength).log()
    else:
        penalized = torch.where(logits > 0, logits / strength, logits * strength)
    if infinite == "nan":
        penalized = penalized + 0 * logits
    chosen = {
        "occurred": counts > 0,
        "all": torch.ones_like(counts, dtype=torch.bool),
        "new ones": counts == 0,
        "more than once": counts > 1,
        "exactly once": counts == 1,
    }[who]
    result = torch.where(chosen, penalized, logits)
    return result.to(given) if precision == "converted back" else result


REPETITION = mistakes(
    repetition_with,
    negative_divided=(
        "a negative logit is divided as well, which raises it: it has to be multiplied",
        {"negative": "divided"},
    ),
    negative_unchanged=(
        "negative logits stay as they are; they are multiplied by the penalty",
        {"negative": "unchanged"},
    ),
    all_multiplied=(
        "positive logits are multiplied too, which raises them; they are divided",
        {"negative": "all multiplied"},
    ),
    exchanged=(
        "positive logits are multiplied and negative ones divided, so repeated tokens become more "
        "probable; it is the other way round",
        {"positive": "exchanged"},
    ),
    subtracted=(
        "the penalty is subtracted; this one divides and multiplies",
        {"positive": "subtracted"},
    ),
    logarithm_subtracted=(
        "the logarithm of the penalty is subtracted: the probability is divided, where the logit "
        "should be",
        {"positive": "log subtracted"},
    ),
    probabilities_divided=(
        "the probabilities are divided by the penalty; it works on the logits",
        {"negative": "sign by probability"},
    ),
    log_probabilities_penalized=(
        "the logarithms of the probabilities are penalized, which are all negative; it works on "
        "the logits as they are",
        {"of": "log-probabilities"},
    ),
    all_tokens_penalized=(
        "all tokens are penalized; only those that occur in the text should be",
        {"who": "all"},
    ),
    new_tokens_penalized=(
        "the tokens that do not occur are penalized; it should be those that do",
        {"who": "new ones"},
    ),
    more_than_once=(
        "only tokens that occur more than once are penalized; once is enough",
        {"who": "more than once"},
    ),
    exactly_once=(
        "only tokens that occur exactly once are penalized; more often counts as well",
        {"who": "exactly once"},
    ),
    once_per_occurrence=(
        "the penalty is applied once per occurrence; it should not ask how often",
        {"how_often": "power of the count"},
    ),
    times_the_count=(
        "the penalty is multiplied by the count; it should not ask how often",
        {"how_often": "times the count"},
    ),
    half_precision=(
        "half precision stays half precision; it comes back as float32",
        {"precision": "unchanged"},
    ),
    float64_becomes_float32=(
        "float64 becomes float32, too; only half precision should change",
        {"precision": "always float32"},
    ),
    nan_for_excluded=(
        "a logit of -inf becomes nan (0 times infinity); it should stay -inf",
        {"infinite": "nan"},
    ),
)


def frequency_with(
    logits: Tensor,
    counts: Tensor,
    penalty: float,
    *,
    count: str = "each",
    operation: str = "subtracted",
    precision: str = "float32",
) -> Tensor:
    """The penalized logits."""
    given = logits.dtype
    if precision == "always float32":
        logits = logits.float()
    elif precision != "unchanged":
        logits = at_least_single(logits)
    n = {
        "each": lambda: counts,
        "once": lambda: (counts > 0).long(),
        "squared": lambda: counts**2,
        "log": lambda: torch.log1p(counts.double()),
        "share": lambda: counts / counts.sum(-1, keepdim=True).clamp(min=1),
        "all": lambda: torch.ones_like(counts),
        "minus one": lambda: (counts - 1).clamp(min=0),
    }[count]()
    n = n.to(logits.dtype)
    if operation == "added":
        result = logits + penalty * n
    elif operation == "by sign":
        result = torch.where(logits > 0, logits - penalty * n, logits + penalty * n)
    elif operation == "divided":
        result = logits / (1 + penalty * n)
    elif operation == "power":
        result = torch.where(counts > 0, logits - penalty**n, logits)
    else:
        result = logits - penalty * n
    return result.to(given) if precision == "converted back" else result


FREQUENCY = mistakes(
    frequency_with,
    presence=(
        "the penalty is subtracted once, however often the token occurs: that is the presence "
        "penalty; the frequency penalty counts each occurrence",
        {"count": "once"},
    ),
    squared_counts=(
        "the counts are squared; the penalty is subtracted once per occurrence",
        {"count": "squared"},
    ),
    logarithm_of_counts=(
        "the logarithm of the counts is used; the penalty is subtracted once per occurrence",
        {"count": "log"},
    ),
    share_of_the_text=(
        "the counts are divided by the length of the text; the counts themselves are used",
        {"count": "share"},
    ),
    all_tokens=(
        "the penalty is subtracted from all tokens alike, which changes nothing in the end",
        {"count": "all"},
    ),
    first_occurrence_free=(
        "the first occurrence is free; it counts like the others",
        {"count": "minus one"},
    ),
    added=("the penalty is added; it should be subtracted", {"operation": "added"}),
    by_sign=(
        "the penalty is added to negative logits; subtracting lowers them too",
        {"operation": "by sign"},
    ),
    divided=(
        "the logits are divided; this penalty is subtracted",
        {"operation": "divided"},
    ),
    power_of_the_count=(
        "the penalty is raised to the power of the count; multiply them",
        {"operation": "power"},
    ),
    frequency_half_precision=(
        "the frequency penalty leaves half precision as it is; it comes back as float32",
        {"precision": "unchanged"},
    ),
    frequency_float64_becomes_float32=(
        "the frequency penalty turns float64 into float32, too; only half precision should change",
        {"precision": "always float32"},
    ),
)


# --- 7.10 next_token_logits ---


def next_logits_with(
    model: Callable[[Tensor], Tensor],
    prompts: Sequence[Sequence[int]],
    *,
    column: str = "own last",
    padding: str = "right",
    pad: int = 0,
    returned: str = "logits",
    batch: str = "all",
    rows_by: str = "prompt",
) -> Tensor:
    """The logits of the next token."""
    if rows_by != "prompt":
        prompts = sorted(prompts, key=len, reverse=rows_by == "longest first")
    lengths = [len(prompt) for prompt in prompts]
    longest = max(lengths)
    if padding == "cut":
        longest = min(lengths)
    if padding == "one more":
        longest += 1
    padded = torch.full((len(prompts), longest), pad, dtype=torch.long)
    for row, prompt in zip(padded, prompts, strict=True):
        kept = list(prompt)[-longest:] if padding == "cut" else list(prompt)
        if padding.startswith("left"):
            row[longest - len(kept) :] = torch.tensor(kept)
        elif padding == "repeated":
            row[:] = kept[-1]
            row[: len(kept)] = torch.tensor(kept)
        else:
            row[: len(kept)] = torch.tensor(kept)
    logits = model(padded)
    rows, last = torch.arange(len(prompts)), torch.tensor(lengths) - 1
    chosen = {
        "own last": lambda: (
            logits[:, -1] if padding == "left" else logits[rows, last.clamp(max=longest - 1)]
        ),
        "last": lambda: logits[:, -1],
        "one too far": lambda: logits[rows, (last + 1).clamp(max=longest - 1)],
        "one too early": lambda: logits[rows, (last - 1).clamp(min=0)],
        "shortest": lambda: logits[:, min(lengths) - 1],
        "first prompt's": lambda: logits[:, lengths[0] - 1],
        "first": lambda: logits[:, 0],
        "mean": lambda: logits.mean(1),
        "own mean": lambda: torch.stack(
            [logits[row, :length].mean(0) for row, length in enumerate(lengths)]
        ),
        "all pairs": lambda: logits[:, last],
        "not pad": lambda: logits[rows, (padded != 0).sum(1).clamp(min=1) - 1],
    }[column]()
    if returned == "tokens":
        return chosen.argmax(-1)
    if returned == "probabilities":
        return chosen.softmax(-1)
    if returned == "of the first token":
        return chosen[:, :1]
    if returned == "with an axis":
        return chosen[:, None]
    return chosen[:1] if batch == "first" else chosen


NEXT = mistakes(
    next_logits_with,
    last_column=(
        "the logits come from the last column, which is padding in all rows but the longest; take "
        "each row's own last token",
        {"column": "last"},
    ),
    one_too_far=(
        "the column is one too far: a prompt of n tokens ends in column n - 1",
        {"column": "one too far"},
    ),
    one_too_far_in_a_longer_batch=(
        "the column is one too far: a prompt of n tokens ends in column n - 1",
        {"column": "one too far", "padding": "one more"},
    ),
    one_too_early=(
        "the column is one too early: a prompt of n tokens ends in column n - 1",
        {"column": "one too early"},
    ),
    shortest_for_all=(
        "all rows use the column where the shortest prompt ends; each has its own",
        {"column": "shortest"},
    ),
    first_for_all=(
        "all rows use the column where the first prompt ends; each has its own",
        {"column": "first prompt's"},
    ),
    first_column=(
        "the logits come from the first column; take each row's own last token",
        {"column": "first"},
    ),
    mean_of_columns=(
        "the logits are a mean over positions; take those at each row's last token",
        {"column": "mean"},
    ),
    mean_of_its_own_columns=(
        "the logits are a mean over positions; take those at each row's last token",
        {"column": "own mean"},
    ),
    longest_first=(
        "the prompts are sorted by length, and the rows come back in that order; row i belongs to "
        "prompt i",
        {"rows_by": "longest first"},
    ),
    shortest_first=(
        "the prompts are sorted by length, and the rows come back in that order; row i belongs to "
        "prompt i",
        {"rows_by": "shortest first"},
    ),
    index_not_expanded=(
        "one logit per row is left: gather returns as many entries as its index has, so the index "
        "needs V of them along the last axis",
        {"returned": "of the first token"},
    ),
    every_row_with_every_column=(
        "logits[:, last] takes all those columns of every row; index the rows too, with "
        "torch.arange",
        {"column": "all pairs"},
    ),
    zeros_counted_as_padding=(
        "the length is counted as the entries that are not 0, but 0 is a token too; use the "
        "prompts' lengths",
        {"column": "not pad"},
    ),
    padded_on_the_left=(
        "the prompts are padded on the left: then the padding is in the past of the tokens, and "
        "the model sees it",
        {"padding": "left"},
    ),
    padded_on_the_left_and_read_as_on_the_right=(
        "the prompts are padded on the left: then the padding is in the past of the tokens, and "
        "the model sees it",
        {"padding": "left, own length"},
    ),
    prompts_cut=(
        "the prompts are cut to the shortest one; every token counts",
        {"padding": "cut"},
    ),
    padded_with_its_last_token=(
        "the last token is repeated, and the logits come from a repetition; take those of the "
        "token itself",
        {"padding": "repeated", "column": "last"},
    ),
    tokens_in_place_of_logits=(
        "tokens are chosen already; the logits are asked for",
        {"returned": "tokens"},
    ),
    probabilities_in_place_of_logits=(
        "the softmax is taken already; the logits are asked for",
        {"returned": "probabilities"},
    ),
    axis_kept=(
        "the result has an axis of size 1 in the middle; (B, V) is asked for",
        {"returned": "with an axis"},
    ),
    first_row_only=("only the first prompt's logits are returned", {"batch": "first"}),
)


# --- 7.11 feed_stop ---


def feed_with(
    held_back: str,
    piece: str,
    stop: str,
    *,
    search: str = "whole text",
    hold: str = "longest",
    cut: str = "before",
    rest: str = "dropped",
    occurrence: str = "first",
    after: str = "empty",
    flag: str = "right",
) -> tuple[str, str, bool]:
    """What is shown, what is held back, and whether the text has ended."""
    text = held_back + piece
    if search == "piece alone":
        found = stop in piece
    elif search == "at the end":
        found = text.endswith(stop)
    elif search == "equal":
        found = text == stop
    else:
        found = stop in text
    if found:
        last = occurrence == "last" or search == "at the end"
        at = text.rindex(stop) if last else text.index(stop)
        if occurrence == "split from the right":
            at = len(text.rsplit(stop)[0])
        end = at + len(stop) if cut == "after" else at
        shown = text[:end]
        if cut == "nothing":
            shown = ""
        if cut == "held text":
            shown = text[len(held_back) : end]
        held = {"empty": "", "rest": text[at + len(stop) :], "stop": stop}[after]
        return shown, held, flag != "never"
    lengths = range(min(len(stop) - 1, len(text)), 0, -1)
    if hold == "len - 2":
        lengths = range(min(len(stop) - 2, len(text)), 0, -1)
    if hold == "shortest":
        lengths = reversed(lengths)
    if hold == "piece only":
        lengths = range(min(len(stop) - 1, len(piece)), 0, -1)
    fits = stop.endswith if hold == "ends with" else stop.startswith
    n = next((m for m in lengths if fits(text[len(text) - m :])), 0)
    if hold == "all or nothing":
        n = len(text) if stop.startswith(text) else 0
    elif hold == "first character":
        n = 1 if text.endswith(stop[0]) and len(stop) > 1 else 0
    elif hold == "always len - 1":
        n = min(len(stop) - 1, len(text))
    elif hold == "nothing":
        n = 0
    elif hold == "its characters":
        n = len(text) - len(text.rstrip(stop))
    elif hold == "restarted":
        n = 0
        for character in text:  # after a mismatch, only the new character can begin the stop string
            n = n + 1 if character == stop[n] else int(character == stop[0])
            if n == len(stop):
                return text, "", True
    elif hold == "everything":
        n = len(text)
    elif hold == "from the first character":
        at = text.find(stop[0])
        n = len(text) - at if at >= 0 and len(stop) > 1 else 0
    shown, held = text[: len(text) - n], text[len(text) - n :]
    if rest == "old text lost":
        shown = piece[: max(0, len(piece) - n)]
    if rest == "held text shown too":
        shown = text
    if rest == "cut with -0" and n == 0:
        shown, held = text[:-n], text[-n:]
    if rest == "cut with -0, held by the stop string" and n == 0:
        shown, held = text[:-n], stop[:n]
    if rest == "held forgotten":
        held = ""
    return shown, held, flag == "when held" and n > 0


STOP = mistakes(
    feed_with,
    only_the_piece_searched=(
        "the stop string is looked for in the new piece alone; it may have begun in what was held "
        "back",
        {"search": "piece alone"},
    ),
    only_at_the_end=(
        "the stop string is found only at the end of the text; a piece may continue after it",
        {"search": "at the end"},
    ),
    only_the_whole_text=(
        "the text has to equal the stop string; it may be anywhere in it",
        {"search": "equal"},
    ),
    shortest_end_held_back=(
        "the shortest end that fits is held back; the longest one can still become the stop string",
        {"hold": "shortest"},
    ),
    one_less_than_could_be=(
        "an end that lacks only the last character of the stop string is not held back",
        {"hold": "len - 2"},
    ),
    matching_starts_again=(
        "after a character that does not fit, matching starts again from nothing; the end of what "
        "had fitted may begin the stop string once more",
        {"hold": "restarted"},
    ),
    end_of_the_stop_string=(
        "what could be the end of the stop string is held back; it has to be its beginning",
        {"hold": "ends with"},
    ),
    its_characters_in_any_order=(
        "every end that is made of the stop string's characters is held back, in whatever order; "
        "it has to be the beginning of the stop string",
        {"hold": "its characters"},
    ),
    only_the_piece_held_back=(
        "what is held back is looked for in the new piece alone; it may have begun earlier",
        {"hold": "piece only"},
    ),
    all_or_nothing=(
        "text is held back only if all of it could begin the stop string; its end alone may, too",
        {"hold": "all or nothing"},
    ),
    one_character_held_back=(
        "at most one character is held back; a longer end may be the beginning of the stop string",
        {"hold": "first character"},
    ),
    always_as_much_as_the_stop_string=(
        "as many characters as could be are always held back; only those with which the stop "
        "string begins should be",
        {"hold": "always len - 1"},
    ),
    nothing_held_back=(
        "nothing is held back, so the beginning of a stop string is shown",
        {"hold": "nothing"},
    ),
    everything_held_back=(
        "everything is held back until the stop string comes; show what can't be a part of it",
        {"hold": "everything"},
    ),
    held_from_its_first_character=(
        "everything after the first character of the stop string is held back, although what "
        "follows does not fit it",
        {"hold": "from the first character"},
    ),
    stop_string_shown=(
        "the stop string itself is shown; the text ends before it",
        {"cut": "after"},
    ),
    text_before_lost=(
        "the text before the stop string is lost; it should be shown",
        {"cut": "nothing"},
    ),
    held_text_lost_at_the_end=(
        "when the stop string is complete, the text that was held back before it is lost; show it",
        {"cut": "held text"},
    ),
    last_occurrence=(
        "the text ends at the last occurrence of the stop string; it should end at the first",
        {"occurrence": "last"},
    ),
    split_from_the_right=(
        "the text is split from its right end (rsplit): where stop strings overlap, that is "
        "another place; it should end at the first one",
        {"occurrence": "split from the right"},
    ),
    text_after_it_held_back=(
        "what follows the stop string is held back; nothing should be",
        {"after": "rest"},
    ),
    stop_string_held_back=(
        "the stop string is held back at the end; nothing should be",
        {"after": "stop"},
    ),
    held_text_lost=(
        "text that was held back before is lost when it turns out to be harmless; show it",
        {"rest": "old text lost"},
    ),
    shown_and_held_back=(
        "what is held back is shown as well",
        {"rest": "held text shown too"},
    ),
    cut_with_minus_zero=(
        "where nothing is to be held back, text[:-n] with n = 0 is empty, and text[-n:] "
        "is all of it",
        {"rest": "cut with -0"},
    ),
    cut_with_minus_zero_alone=(
        "where nothing is to be held back, text[:-n] with n = 0 is empty, and text[-n:] "
        "is all of it",
        {"rest": "cut with -0, held by the stop string"},
    ),
    held_text_forgotten=(
        "the end of the text is neither shown nor held back",
        {"rest": "held forgotten"},
    ),
    never_finished=(
        "finished stays False although the stop string is complete",
        {"flag": "never"},
    ),
    finished_when_held_back=(
        "finished is True as soon as something is held back; only the whole stop string ends the "
        "text",
        {"flag": "when held"},
    ),
)


# --- 7.12 cache_positions, write_cache ---


def positions_with(
    lengths: Tensor,
    T: int,
    *,
    start: str = "own length",
    offset: int = 0,
    axes: str = "B, T",
    dtype: torch.dtype = torch.int64,
) -> Tensor:
    """The positions."""
    starts = {
        "own length": lengths,
        "0": torch.zeros_like(lengths),
        "longest": lengths.amax().expand_as(lengths),
        "shortest": lengths.amin().expand_as(lengths),
        "first": lengths[:1].expand_as(lengths),
        "from the end": lengths - T,
    }[start]
    steps = torch.arange(T) + offset
    if axes == "T, B":
        return (steps[:, None] + starts).to(dtype)
    if axes == "starts only":
        return starts[:, None].expand(-1, T).to(dtype).clone()
    if axes == "batch index":
        return (torch.arange(len(starts))[:, None] + steps).to(dtype)
    if axes == "flat":
        return (starts[:, None] + steps).flatten().to(dtype)
    if axes == "sum of broadcast":
        return (starts + steps).to(dtype)
    if axes == "times":
        return (starts[:, None] * T + steps).to(dtype)
    return (starts[:, None] + steps).to(dtype)


CACHE_POSITIONS = mistakes(
    positions_with,
    from_zero=(
        "all rows start at 0; a row that holds n tokens continues at n",
        {"start": "0"},
    ),
    longest_for_all=(
        "all rows start where the longest one ends; each has its own length",
        {"start": "longest"},
    ),
    shortest_for_all=(
        "all rows start where the shortest one ends; each has its own length",
        {"start": "shortest"},
    ),
    first_for_all=(
        "all rows start where the first one ends; each has its own length",
        {"start": "first"},
    ),
    last_t_positions=(
        "these are the last T positions that are taken; the new ones come after them",
        {"start": "from the end"},
    ),
    one_too_far=(
        "the positions are one too far: they count from 0, so n tokens fill 0 to n - 1",
        {"offset": 1},
    ),
    one_too_early=(
        "the positions are one too early: n tokens fill 0 to n - 1, and the next one is at n",
        {"offset": -1},
    ),
    axes_exchanged=("the axes are exchanged: (B, T) is asked for", {"axes": "T, B"}),
    same_position_for_all=(
        "all T tokens of a row get the same position; each needs its own",
        {"axes": "starts only"},
    ),
    row_number_in_place_of_length=(
        "the number of the row is used in place of its length",
        {"axes": "batch index"},
    ),
    flat=("all positions come in one axis; (B, T) is asked for", {"axes": "flat"}),
    not_broadcast=(
        "lengths (B,) and steps (T,) are added entry by entry; lengths needs an axis of its own: "
        "[:, None]",
        {"axes": "sum of broadcast"},
    ),
    lengths_times_t=("the lengths are multiplied by T", {"axes": "times"}),
    as_floats=("the positions are floats; they should be int64", {"dtype": torch.float32}),
    as_int32=("the positions are int32; they should be int64", {"dtype": torch.int32}),
)


def written_with(
    cache: Tensor,
    new: Tensor,
    lengths: Tensor,
    *,
    start: str = "own length",
    offset: int = 0,
    order: str = "kept",
    operation: str = "written",
    tokens: str = "all",
    heads: str = "all",
    else_: str = "kept",
    result: str = "cache",
) -> Tensor:
    """The cache with the new keys."""
    T, max_len = new.size(2), cache.size(2)
    written = torch.zeros_like(cache) if else_ == "zeros" else cache.clone()
    positions = positions_with(lengths, T, start=start, offset=offset).clamp(0, max_len - 1)
    for row, places in enumerate(positions.tolist()):
        values = new[row]
        if order == "reversed":
            values = values.flip(1)
        elif order == "other row":
            values = new[0]
        elif order == "reshaped":
            n_heads, _, d_head = values.shape
            values = values.reshape(T, n_heads, d_head).transpose(0, 1)
        if heads == "first":
            written[row, :1, places] = values[:1]
            continue
        if heads == "first feature":
            written[row, :1, places, :1] = values[:1, :, :1]
            continue
        if tokens == "first":
            written[row, :, places[0]] = values[:, 0]
        elif tokens == "last":
            written[row, :, places[-1]] = values[:, -1]
        elif tokens == "first for all":
            written[row, :, places] = values[:, :1].expand(-1, T, -1)
        elif operation == "added":
            written[row, :, places] += values
        else:
            written[row, :, places] = values
        if else_ == "zeros after":
            written[row, :, places[-1] + 1 :] = 0
    if result == "new length":
        return written[:, :, : int(lengths.max()) + T]
    if result == "old and new":
        return torch.cat([cache[:, :, : int(lengths[0])], new], dim=2)
    if result == "concatenated":
        return torch.cat([cache, new], dim=2)
    if result == "shifted":
        return torch.cat([cache, new], dim=2)[:, :, T:]
    return written


WRITE = mistakes(
    written_with,
    start_at_zero=(
        "every row is written from index 0; a row that holds n tokens continues at n",
        {"start": "0"},
    ),
    written_longest_for_all=(
        "all rows are written where the longest one ends; each has its own length",
        {"start": "longest"},
    ),
    written_shortest_for_all=(
        "all rows are written where the shortest one ends; each has its own length",
        {"start": "shortest"},
    ),
    written_first_for_all=(
        "all rows are written where the first one ends; each has its own length",
        {"start": "first"},
    ),
    last_tokens_overwritten=(
        "the last T tokens are overwritten; the new ones come after them",
        {"start": "from the end"},
    ),
    written_one_too_far=(
        "the keys are written one place too far: n tokens fill 0 to n - 1, and the next is at n",
        {"offset": 1},
    ),
    written_one_too_early=(
        "the keys are written one place too early, over the last token; the next one is at n",
        {"offset": -1},
    ),
    tokens_reversed=("the new tokens are written in reverse order", {"order": "reversed"}),
    first_row_for_all=(
        "every row gets the keys of the first; each has its own",
        {"order": "other row"},
    ),
    added=(
        "the new keys are added to what was there; they should replace it",
        {"operation": "added"},
    ),
    first_token_only=("only the first new token is written", {"tokens": "first"}),
    last_token_only=("only the last new token is written", {"tokens": "last"}),
    first_token_everywhere=(
        "all places get the first new token; each gets its own",
        {"tokens": "first for all"},
    ),
    first_head_only=("only the first head is written", {"heads": "first"}),
    first_feature_only=(
        "only the first feature of the first head is written: scatter moves as many entries as its "
        "index has, so expand the index to the shape of new",
        {"heads": "first feature"},
    ),
    reshaped=(
        "heads and tokens are exchanged with reshape, which mixes their keys; transpose those axes",
        {"order": "reshaped"},
    ),
    old_and_new=(
        "only what was held and the new keys come back; the cache keeps its shape, max_len places "
        "per row",
        {"result": "old and new"},
    ),
    rest_set_to_zero=(
        "everything else becomes 0; what the cache held should stay",
        {"else_": "zeros"},
    ),
    zeros_behind=(
        "what is behind the new tokens becomes 0; everything else should stay",
        {"else_": "zeros after"},
    ),
    cut_to_the_longest=(
        "the cache is cut to what is in use; its shape should stay",
        {"result": "new length"},
    ),
    concatenated=(
        "the new keys are appended to the whole cache, which grows; they have places in it",
        {"result": "concatenated"},
    ),
    shifted=(
        "the cache is shifted to make room at its end; the new keys have places in it",
        {"result": "shifted"},
    ),
)


# --- 7.13 window_start ---


def start_with(
    length: int,
    context: int,
    *,
    fits: str = "<=",
    half: str = "up",
    jumps: str = "up",
    step: str = "half",
    result: str = "start",
) -> Any:
    """The start of the window."""
    if length < context or (length == context and fits == "<="):
        return 0
    if half == "rounded at the end":
        return math.ceil(math.ceil((length - context) / (context / 2)) * context / 2)
    if step == "one":
        return length - context
    if step == "once":
        return (context + 1) // 2
    if step == "keeps half":
        return length - (context + 1) // 2
    if step == "keeps half, rounded down":
        return length - context // 2
    jump = (context + 1) // 2 if half == "up" else max(1, context // 2)
    if half == "plus one":
        jump = context // 2 + 1
    if half == "to even":
        jump = max(1, round(context / 2))
    if length == context and fits == "< at first":
        return jump
    if step == "whole":
        jump = context
    if step == "multiple of the length":
        return length // context * jump
    excess = length - context
    if half == "exact":
        jump = context / 2
    n = math.ceil(excess / jump)
    if jumps == "down":
        n = int(excess // jump)
    elif jumps == "one more" or fits == "<":
        n = int(excess // jump) + 1
    elif jumps == "of the length":
        n = math.ceil(length / jump)
    start = n * jump
    if result == "jumps":
        return n
    if result == "end":
        return start + context
    if result == "window":
        return length - start
    return float(start) if result == "float" else start


WINDOW = mistakes(
    start_with,
    jumps_when_full=(
        "the window jumps when the context is exactly full; such a text still fits",
        {"fits": "< at first"},
    ),
    jumps_whenever_full=(
        "the window jumps when the context is exactly full; such a text still fits",
        {"fits": "<"},
    ),
    one_token_at_a_time=(
        "the window moves by one token at a time; it should jump by half a context",
        {"step": "one"},
    ),
    one_jump_only=(
        "the window jumps once and never again; a longer text needs more jumps",
        {"step": "once"},
    ),
    always_half_a_context=(
        "the window always holds half a context; it should start at a multiple of half a context, "
        "and hold between half and all of it",
        {"step": "keeps half"},
    ),
    always_half_a_context_rounded_down=(
        "the window always holds half a context; it should start at a multiple of half a context, "
        "and hold between half and all of it",
        {"step": "keeps half, rounded down"},
    ),
    whole_context=(
        "the window jumps by a whole context, and has then forgotten everything; jump by half",
        {"step": "whole"},
    ),
    multiples_of_the_context=(
        "one jump is made per full context of text; count how far the text is too long",
        {"step": "multiple of the length"},
    ),
    half_rounded_down=(
        "half of an odd context is rounded down; round it up",
        {"half": "down"},
    ),
    half_of_an_odd_context=(
        "half of an odd context is not rounded; a jump is a whole number of tokens, rounded up",
        {"half": "exact"},
    ),
    rounded_at_the_end=(
        "half of an odd context is not rounded; a jump is a whole number of tokens, rounded up",
        {"half": "rounded at the end"},
    ),
    half_plus_one=(
        "one is added to half of an even context, too; only half of an odd one is rounded up",
        {"half": "plus one"},
    ),
    half_rounded_to_even=(
        "round takes 2.5 to 2, the even number; half of an odd context is rounded up",
        {"half": "to even"},
    ),
    jumps_rounded_down=(
        "the number of jumps is rounded down, so the rest of the text does not fit; round it up",
        {"jumps": "down"},
    ),
    one_jump_too_many=(
        "there is one jump too many where the excess is a multiple of half a context",
        {"jumps": "one more"},
    ),
    jumps_of_the_whole_length=(
        "the jumps are counted for the whole text; count only what is more than a context",
        {"jumps": "of the length"},
    ),
    number_of_jumps=(
        "the number of jumps is returned; multiply it by half a context",
        {"result": "jumps"},
    ),
    end_of_the_window=(
        "the end of the window is returned; its start is asked for",
        {"result": "end"},
    ),
    length_of_the_window=(
        "the length of the window is returned; its start is asked for",
        {"result": "window"},
    ),
    a_float=("the start is a float; an index is a whole number", {"result": "float"}),
)


# --- 7.14 best_extensions, beam_search ---


def extensions_with(
    log_probs: Tensor,
    next_log_probs: Tensor,
    n: int,
    *,
    sums: str = "both",
    per_text: bool = False,
    order: str = "descending",
    ties: str = "lowest",
    parent: str = "// V",
    returned: str = "sums",
    exchanged: bool = False,
    off: int = 0,
    large_n: str = "all",
    dtype: torch.dtype = torch.int64,
) -> Any:
    """The best extensions."""
    K, V = next_log_probs.shape
    if large_n == "error" and n > K * V:
        raise RuntimeError("selected index k out of range")
    n = min(max(n + off, 1), K * V)
    if sums == "next only":
        table = next_log_probs
    elif sums == "product":
        table = log_probs[:, None] * next_log_probs
    elif sums == "wrong axis":
        table = next_log_probs + log_probs  # an error, but for K = V and K = 1
    elif sums == "wrong axis where it fits":
        table = next_log_probs + (log_probs if K in (1, V) else log_probs[:, None])
    elif sums == "difference":
        table = next_log_probs - log_probs[:, None]
    elif sums == "probabilities":
        table = log_probs[:, None].exp() * next_log_probs.exp()
    elif sums == "mean":
        table = (log_probs[:, None] + next_log_probs) / 2
    else:
        table = log_probs[:, None] + next_log_probs
    if per_text:
        best = table.argmax(-1)
        values = table.gather(-1, best[:, None])[:, 0]
        rank = values.argsort(descending=True, stable=True)[:n]
        return values[rank], rank, best[rank]
    flat = table.flatten()
    if ties == "topk":
        ranks = flat.topk(n).indices
    elif ties == "highest":
        ranks = len(flat) - 1 - flat.flip(0).argsort(descending=True, stable=True)
    elif ties == "token first":
        flat_t = table.T.flatten()
        by_token = flat_t.argsort(descending=True, stable=True)
        ranks = by_token % K * V + by_token // K
    else:
        ranks = flat.argsort(descending=order != "ascending", stable=True)
    ranks = ranks[:n]
    if order == "unsorted":
        ranks = ranks.sort().values
    values = flat[ranks]
    parents, tokens = ranks // V, ranks % V
    if parent == "// K":
        parents, tokens = ranks // K, ranks % K
    elif parent == "% V":
        parents, tokens = ranks % K, ranks // K
    if returned == "next":
        values = next_log_probs[parents.clamp(max=K - 1), tokens]
    elif returned == "parents'":
        values = log_probs[parents.clamp(max=K - 1)]
    elif returned == "probabilities":
        values = values.exp()
    elif returned == "flat":
        tokens = ranks
    parents, tokens = parents.to(dtype), tokens.to(dtype)
    return (values, tokens, parents) if exchanged else (values, parents, tokens)


EXTENSIONS = mistakes(
    extensions_with,
    sums_of_the_past_ignored=(
        "the log-probabilities of the texts so far are not added; a text and a token have the sum "
        "of both",
        {"sums": "next only"},
    ),
    multiplied=(
        "the logarithms are multiplied; probabilities multiply, their logarithms add",
        {"sums": "product"},
    ),
    added_along_the_tokens=(
        "log_probs is added along the tokens; it needs an axis for them: [:, None]",
        {"sums": "wrong axis"},
    ),
    added_along_the_tokens_where_it_fits=(
        "log_probs is added along the tokens; it needs an axis for them: [:, None]",
        {"sums": "wrong axis where it fits"},
    ),
    subtracted=(
        "the log-probabilities of the texts are subtracted; add them",
        {"sums": "difference"},
    ),
    probabilities_returned=(
        "probabilities are returned; their logarithms are asked for",
        {"sums": "probabilities"},
    ),
    mean_in_place_of_sum=("the mean of both is taken; take the sum", {"sums": "mean"}),
    one_per_text=(
        "the best are taken within each text; the n best of all may be children of one text",
        {"per_text": True},
    ),
    ties_as_topk_has_them=(
        "equal sums come in the order in which torch.topk happens to return them; it promises "
        "none, and the lower parent, then the lower token should come first",
        {"ties": "topk"},
    ),
    worst_first=("the smallest sums are taken; take the largest", {"order": "ascending"}),
    not_in_order=(
        "the n best are right, but not in order: the best comes first",
        {"order": "unsorted"},
    ),
    ties_from_the_end=(
        "of equal sums the later one comes first; the lower parent, and then the lower token, "
        "should",
        {"ties": "highest"},
    ),
    ties_by_token=(
        "of equal sums the lower token comes first; the lower parent should, whatever the tokens",
        {"ties": "token first"},
    ),
    divided_by_the_number_of_texts=(
        "the index is divided by K; a row of the table has V entries, so parent and token are "
        "index // V and the rest",
        {"parent": "// K"},
    ),
    parent_and_token_from_k=(
        "parent and token are the rest and the quotient of a division by K; the table is flattened "
        "row by row, and a row has V entries",
        {"parent": "% V"},
    ),
    next_log_probs_returned=(
        "the log-probabilities of the tokens are returned; the sums are asked for",
        {"returned": "next"},
    ),
    parents_log_probs_returned=(
        "the log-probabilities of the parents are returned; the sums are asked for",
        {"returned": "parents'"},
    ),
    index_for_token=(
        "the index into the flattened table is returned as the token; the rest of the division by "
        "V is",
        {"returned": "flat"},
    ),
    parents_and_tokens_exchanged=(
        "parents and tokens are exchanged",
        {"exchanged": True},
    ),
    one_too_many=("one extension too many is returned", {"off": 1}),
    one_too_few=("one extension too few is returned", {"off": -1}),
    large_n_is_an_error=(
        "an n above K V is not treated: topk then fails; all K V come back",
        {"large_n": "error"},
    ),
    as_int32=("parents and tokens are int32; they should be int64", {"dtype": torch.int32}),
)


def search_with(
    next_logits: NextLogits,
    prompt: Sequence[int],
    n_beams: int,
    max_tokens: int,
    has_ended: HasEnded = never_ends,
    length_penalty: float = 1.0,
    *,
    values: str = "log_softmax",
    width: str = "n_beams",
    ended: str = "compete",
    by: str = "normalized",
    context: str = "prompt and tokens",
    length: str = "new tokens",
    returned: str = "all",
    order: str = "best first",
    asked: str = "new tokens",
    steps: int = 0,
    penalty: str = "given",
    total: str = "sum",
    per_text: bool = False,
    start: int = 1,
) -> Any:
    """The hypotheses."""
    alpha = {"given": length_penalty, "always 1": 1.0, "always 0": 0.0}[penalty]

    def rank(beam: Hypothesis) -> float:
        n = len(beam.tokens) + (len(prompt) if length == "with the prompt" else 0)
        if length == "one more":
            n += 1
        if by == "sum" or (by == "sum until the end" and not is_over):
            return beam.log_prob
        if by == "multiplied":
            return beam.log_prob * n**alpha
        return length_normalized(beam.log_prob, n, alpha)

    is_over = False
    beams = [Hypothesis((), 0.0)] * (n_beams if start == 0 else 1)
    finished: list[Hypothesis] = []
    for _ in range(max_tokens + steps):
        live = [beam for beam in beams if ended.startswith("extended") or not beam.ended]
        if not live or (ended == "extended" and all(beam.ended for beam in beams)):
            break
        seen = {
            "prompt and tokens": lambda b: [*prompt, *b.tokens],
            "tokens only": lambda b: [*b.tokens] or [*prompt],
            "prompt only": lambda b: [*prompt],
            "last token": lambda b: [*b.tokens[-1:]] or [*prompt],
        }[context]
        logits = next_logits([seen(beam) for beam in live]).double()
        if values == "logits":
            scores = logits
        elif values == "probabilities":
            scores = logits.softmax(-1)
        elif values == "over the beams":
            scores = logits.log_softmax(0)
        else:
            scores = logits.log_softmax(-1)
        sums = torch.tensor([beam.log_prob for beam in live], dtype=torch.float64)
        count = {"n_beams": n_beams, "places left": n_beams - (len(beams) - len(live)), "1": 1}[
            width
        ]
        if ended == "set aside, of twice as many":
            count = 2 * n_beams
        found = extensions_with(sums, scores, max(count, 1), per_text=per_text)
        candidates = []
        for value, parent, token in zip(*(x.tolist() for x in found), strict=True):
            tokens = (*live[parent].tokens, token)
            if total == "last only":
                value = scores[parent, token].item()
            question = (*prompt, *tokens) if asked == "prompt and tokens" else tokens
            candidates.append(Hypothesis(tokens, value, has_ended(question)))
        old = [beam for beam in beams if beam.ended]
        if ended.startswith("set aside"):
            finished += [beam for beam in candidates if beam.ended]
            beams = sorted((beam for beam in candidates if not beam.ended), key=rank, reverse=True)[
                :n_beams
            ]
            continue
        if ended == "compete":
            candidates += old
        candidates.sort(key=rank, reverse=order != "worst first")
        beams = candidates[:n_beams]
        if ended == "kept always":
            beams = old + candidates[: max(n_beams - len(old), 0)]
            beams.sort(key=rank, reverse=True)
        if ended == "first ends all" and any(beam.ended for beam in beams):
            break
        if ended == "best ends all" and beams[0].ended:
            break
    is_over = True
    if by == "sum until the end":
        beams.sort(key=rank, reverse=True)
    if ended.startswith("set aside"):
        beams = sorted(beams + finished, key=rank, reverse=True)[:n_beams]
    if order == "reversed":
        beams = beams[::-1]
    if returned == "best":
        return beams[:1]
    if returned == "with the prompt":
        return [Hypothesis((*prompt, *b.tokens), b.log_prob, b.ended) for b in beams]
    if returned == "without the end":
        return [
            Hypothesis(b.tokens[:-1] if b.ended else b.tokens, b.log_prob, b.ended) for b in beams
        ]
    if returned == "normalized":
        return [Hypothesis(b.tokens, rank(b), b.ended) for b in beams]
    if returned == "ended only":
        return [b for b in beams if b.ended] or beams
    if returned == "never ended":
        return [Hypothesis(b.tokens, b.log_prob, False) for b in beams]
    return beams


SEARCH = mistakes(
    search_with,
    logits_summed=(
        "the logits are summed; take their log_softmax first",
        {"values": "logits"},
    ),
    probabilities_summed=(
        "the probabilities are summed; their logarithms add up",
        {"values": "probabilities"},
    ),
    softmax_over_the_beams=(
        "the softmax runs over the texts (dim=0); the tokens are the last axis",
        {"values": "over the beams"},
    ),
    greedy=(
        "only one text is ever kept, which is greedy decoding: the single text at the start has to "
        "be able to have n_beams children",
        {"width": "1"},
    ),
    ended_ones_extended=(
        "hypotheses that have ended are extended like the others; they stay as they are",
        {"ended": "extended"},
    ),
    ended_ones_extended_to_the_last_step=(
        "hypotheses that have ended are extended like the others; they stay as they are",
        {"ended": "extended to the last step"},
    ),
    ended_ones_dropped=(
        "hypotheses that have ended are dropped in the next step; they stay among the candidates",
        {"ended": "dropped"},
    ),
    ended_ones_always_kept=(
        "hypotheses that have ended keep their places whatever comes; they compete with the new "
        "ones",
        {"ended": "kept always"},
    ),
    ended_ones_set_aside=(
        "hypotheses that have ended are set aside and take no place among the n_beams; they "
        "compete with the new ones",
        {"ended": "set aside"},
    ),
    ended_ones_set_aside_of_twice_as_many=(
        "hypotheses that have ended are set aside and take no place among the n_beams; they "
        "compete with the new ones",
        {"ended": "set aside, of twice as many"},
    ),
    best_end_ends_the_search=(
        "the search stops when the best hypothesis has ended; it goes on until all have, or "
        "max_tokens is reached",
        {"ended": "best ends all"},
    ),
    first_end_ends_the_search=(
        "the search stops when the first hypothesis has ended; it goes on until all have, or "
        "max_tokens is reached",
        {"ended": "first ends all"},
    ),
    plain_sums_compared=(
        "plain sums are compared, whatever the length; use length_normalized",
        {"by": "sum"},
    ),
    plain_sums_until_the_end=(
        "plain sums are compared in each step, and normalized ones only at the end; use "
        "length_normalized for both",
        {"by": "sum until the end"},
    ),
    n_beams_at_the_start=(
        "the search begins with n_beams equal hypotheses, so it finds each text several times; it "
        "begins with one",
        {"start": 0},
    ),
    prompt_counted=(
        "the prompt counts towards the length; only new tokens do",
        {"length": "with the prompt"},
    ),
    one_counted_too_many=(
        "the length is one too large: count the new tokens",
        {"length": "one more"},
    ),
    penalty_ignored=(
        "the length penalty is always 1, whatever is given",
        {"penalty": "always 1"},
    ),
    prompt_not_passed=(
        "the model sees the new tokens without the prompt",
        {"context": "tokens only"},
    ),
    last_token_passed_alone=(
        "the model sees the last token alone; it needs the prompt and all new tokens",
        {"context": "last token"},
    ),
    new_tokens_not_passed=(
        "the model sees the prompt only, never the new tokens",
        {"context": "prompt only"},
    ),
    last_token_alone=(
        "the log_prob is that of the last token alone; it is the sum over all new tokens",
        {"total": "last only"},
    ),
    has_ended_asked_with_the_prompt=(
        "has_ended is asked about prompt and new tokens; it takes the new tokens alone",
        {"asked": "prompt and tokens"},
    ),
    one_step_too_few=("there is one step too few", {"steps": -1}),
    one_step_too_many=("there is one step too many", {"steps": 1}),
    best_alone=(
        "only the best hypothesis is returned; all that stayed are asked for",
        {"returned": "best"},
    ),
    prompt_in_the_tokens=(
        "the tokens hold the prompt too; only the new ones are asked for",
        {"returned": "with the prompt"},
    ),
    end_token_removed=(
        "the token that ended a hypothesis is removed; it belongs to it",
        {"returned": "without the end"},
    ),
    normalized_log_probs=(
        "log_prob holds the normalized score; the plain sum is asked for",
        {"returned": "normalized"},
    ),
    never_marked_as_ended=(
        "hypotheses that have ended are not marked as such",
        {"returned": "never ended"},
    ),
    worst_kept=(
        "the worst hypotheses are kept, because they are sorted the wrong way round",
        {"order": "worst first"},
    ),
    hypotheses_worst_first=("the hypotheses come back with the worst first", {"order": "reversed"}),
)


# --- 7.15 residual_distribution, accept_drafted ---


def residual_with(
    p: Tensor,
    q: Tensor,
    *,
    difference: str = "p - q",
    negative: str = "cut",
    total: str = "own",
    empty: str = "p",
    nearly: bool = False,
) -> Tensor:
    """The residual distribution."""
    left = {
        "p - q": lambda: p - q,
        "q - p": lambda: q - p,
        "p / q": lambda: p / q - 1,
        "log": lambda: p.log() - q.log(),
        "minimum": lambda: torch.minimum(p, q),
        "times": lambda: p * (1 - q),
    }[difference]()
    if nearly:
        close = ((p - q).abs() < 0.01).all(-1, keepdim=True)
        left = left.masked_fill(close, 0.0)
    if negative == "cut":
        left = left.clamp(min=0)
    elif negative == "absolute":
        left = left.abs()
    elif negative == "softmax":
        return torch.softmax(left, -1)
    elif negative == "p where larger":
        left = torch.where(left > 0, p, torch.zeros_like(p))
    if total == "missing":
        return torch.where((left > 0).any(-1, keepdim=True), left, p)
    sums = left.sum() if total == "of all" else left.sum(-1, keepdim=True)
    if total == "first axis":
        sums = left.sum(0, keepdim=True)
    if empty == "nan":
        return left / sums
    if empty == "zeros":
        return left / sums.clamp(min=1e-12)
    if empty == "even":
        even = torch.full_like(p, 1 / p.size(-1))
        return torch.where(sums > 0, left / sums.masked_fill(sums == 0, 1.0), even)
    return torch.where(sums != 0, left / sums.masked_fill(sums == 0, 1.0), p)


RESIDUAL = mistakes(
    residual_with,
    q_minus_p=(
        "this is what q has more than p; what p has more than q is left",
        {"difference": "q - p"},
    ),
    ratio=(
        "the ratio of p and q is used; the residual is made of their difference",
        {"difference": "p / q"},
    ),
    difference_of_logarithms=(
        "the logarithms are subtracted; the probabilities themselves are",
        {"difference": "log"},
    ),
    minimum=(
        "this is what both have, min(p, q); the residual is what p has more",
        {"difference": "minimum"},
    ),
    p_without_q=(
        "p is multiplied by 1 - q; the residual is max(0, p - q)",
        {"difference": "times"},
    ),
    absolute_difference=(
        "the absolute difference is taken; where q is larger, nothing is left",
        {"negative": "absolute"},
    ),
    negative_differences_kept=(
        "negative differences are kept; where q is larger, nothing is left",
        {"negative": "kept"},
    ),
    softmax_of_the_difference=(
        "a softmax of the difference is taken; cut it at 0 and divide by its sum",
        {"negative": "softmax"},
    ),
    p_where_it_is_larger=(
        "where p is larger all of it is kept; only what it has more than q is left",
        {"negative": "p where larger"},
    ),
    not_normalized=("the differences are not divided by their sum", {"total": "missing"}),
    sum_of_the_whole_tensor=(
        "the sum runs over the whole tensor; each row has its own",
        {"total": "of all"},
    ),
    sum_over_the_first_axis=(
        "the sum runs over the first axis; the tokens are the last one",
        {"total": "first axis"},
    ),
    nan_for_equal=(
        "where p is nowhere above q the sum is 0, and 0 / 0 is nan; p itself is asked for",
        {"empty": "nan"},
    ),
    zeros_for_equal=(
        "where p is nowhere above q the result is all zeros, which is not a distribution; p itself "
        "is asked for",
        {"empty": "zeros"},
    ),
    small_differences_ignored=(
        "where p and q differ by little, p is returned; only where p is nowhere above q it should "
        "be",
        {"nearly": True},
    ),
    even_for_equal=(
        "where p is nowhere above q all tokens get the same; p itself is asked for",
        {"empty": "even"},
    ),
)


def accepted_with(
    drafted: Tensor,
    q: Tensor,
    p: Tensor,
    uniform: Tensor,
    *,
    ratio: str = "p / q",
    condition: str = "<",
    first: str = "stops",
    after: str = "residual",
    row: int = 0,
    all_accepted: str = "last row",
    counted: str = "accepted",
    number: str = "its own",
    exchanged: bool = False,
) -> Any:
    """How many are accepted, and the next distribution."""
    n = len(drafted)
    index = torch.arange(n)
    if ratio == "of the most probable":
        ours, theirs = p[:n].amax(-1), q.amax(-1)
    else:
        ours, theirs = p[index, drafted], q[index, drafted]
    if ratio == "next row":
        ours = p[1:][index, drafted]
    bar = {
        "q / p": lambda: theirs / ours,
        "p": lambda: ours,
        "p - q": lambda: ours - theirs,
        "p >= q": lambda: (ours >= theirs).double() * 2,
    }.get(ratio, lambda: ours / theirs)()
    u = uniform[:1].expand(n) if number == "the first" else uniform
    u = 1 - u if number == "1 - u" else u
    accepted = u > bar if condition == ">" else u <= bar if condition == "<=" else u < bar
    if first == "counts all":
        count = int(accepted.sum())
    elif first == "last":
        found = accepted.nonzero()
        count = int(found[-1]) + 1 if len(found) else 0
    else:
        count = int(accepted.long().cumprod(0).sum())
    if count == n:
        rows = {
            "last row": p[n],
            "row before": p[n - 1],
            "even": torch.full_like(p[n], 1 / p.size(-1)),
        }
        if all_accepted == "residual":
            following = residual_with(p[n - 1], q[n - 1])
        else:
            following = rows[all_accepted]
    else:
        at = min(max(count + row, 0), n - 1)
        following = {
            "residual": lambda: residual_with(p[at], q[at]),
            "of another q": lambda: residual_with(p[at], q[max(at - 1, 0)]),
            "p": lambda: p[at],
            "q": lambda: q[at],
            "without the token": lambda: without(p[at], drafted[at]),
            "not normalized": lambda: (p[at] - q[at]).clamp(min=0),
            "q - p": lambda: residual_with(q[at], p[at]),
            "last row": lambda: p[n],
        }[after]()
    if counted == "one more" or (counted == "the rejected one" and count < n):
        count = count + 1
    return (following, count) if exchanged else (count, following)


def without(p: Tensor, token: Tensor) -> Tensor:
    """p without one token, made to sum to 1 again."""
    left = p.clone()
    left[token] = 0
    return left / left.sum()


ACCEPT = mistakes(
    accepted_with,
    ratio_upside_down=(
        "the ratio is upside down: it is p / q, large where the target likes the token better",
        {"ratio": "q / p"},
    ),
    compared_with_p=(
        "u is compared with p alone; it is compared with p / q",
        {"ratio": "p"},
    ),
    compared_with_the_difference=(
        "u is compared with p - q; it is compared with p / q",
        {"ratio": "p - q"},
    ),
    accepted_only_if_p_is_larger=(
        "a token is accepted only if p is at least q, and u is ignored; it is accepted with the "
        "chance p / q",
        {"ratio": "p >= q"},
    ),
    row_after=(
        "p is read one row too late: row i of p is for drafted[i]",
        {"ratio": "next row"},
    ),
    ratio_of_the_best_tokens=(
        "the largest probabilities are compared; it should be those of the drafted token",
        {"ratio": "of the most probable"},
    ),
    above_in_place_of_below=(
        "a token is accepted if u is above the ratio; it should be below",
        {"condition": ">"},
    ),
    u_equal_to_the_ratio=(
        "u equal to the ratio is accepted, so u = 0 accepts a token with p = 0; u has to be below",
        {"condition": "<="},
    ),
    all_accepted_counted=(
        "accepted tokens after a rejection are counted too; the first rejection ends the round",
        {"first": "counts all"},
    ),
    last_accepted=(
        "everything up to the last accepted token is taken; the first rejection ends the round",
        {"first": "last"},
    ),
    p_after_a_rejection=(
        "after a rejection the next token is drawn from p; then the text would be too much like "
        "the draft: use the residual",
        {"after": "p"},
    ),
    q_after_a_rejection=(
        "after a rejection the next token is drawn from q; use the residual",
        {"after": "q"},
    ),
    p_without_the_token=(
        "after a rejection the rejected token alone is excluded; the residual takes what q has "
        "from every token",
        {"after": "without the token"},
    ),
    residual_not_normalized=(
        "the residual does not sum to 1",
        {"after": "not normalized"},
    ),
    residual_of_q=(
        "the residual is that of q over p; it is what p has more than q",
        {"after": "q - p"},
    ),
    last_row_after_a_rejection=(
        "the last row of p is returned after a rejection, too; it is for the position after all "
        "drafted tokens",
        {"after": "last row"},
    ),
    residual_of_the_row_before=(
        "the residual is that of the position before the rejection",
        {"row": -1},
    ),
    residual_of_the_row_after=(
        "the residual is that of the position after the rejection",
        {"row": 1},
    ),
    q_of_the_row_before=(
        "the residual takes q from the position before the rejection, and p from the right one",
        {"after": "of another q"},
    ),
    row_before_the_last=(
        "if all are accepted, the row before the last of p is returned; the last one is for the "
        "position after them",
        {"all_accepted": "row before"},
    ),
    residual_if_all_accepted=(
        "if all are accepted, a residual is returned; the last row of p is asked for",
        {"all_accepted": "residual"},
    ),
    one_more_counted=(
        "the token that is still to be drawn is counted; only accepted ones are",
        {"counted": "one more"},
    ),
    rejected_one_counted=(
        "the rejected token is counted, too; only accepted ones are",
        {"counted": "the rejected one"},
    ),
    first_number_for_all=(
        "all tokens use the first random number; each has its own",
        {"number": "the first"},
    ),
    one_minus_u=("1 - u is compared with the ratio; u is", {"number": "1 - u"}),
    results_exchanged=("the two results are exchanged", {"exchanged": True}),
)


MISCONCEPTIONS = {
    "predict_distribution": PREDICTED,
    "apply_temperature": TEMPERATURE,
    "sample_inverse_cdf": (*INVERSE, always_the_best, equal_pieces, drawn_again),
    "sample_gumbel": GUMBEL,
    "top_k_filter": TOP_K,
    "top_p_filter": TOP_P,
    "min_p_filter": MIN_P,
    "read_strategies": READ,
    "apply_repetition_penalty": REPETITION,
    "apply_frequency_penalty": FREQUENCY,
    "next_token_logits": NEXT,
    "feed_stop": STOP,
    "cache_positions": CACHE_POSITIONS,
    "write_cache": WRITE,
    "window_start": WINDOW,
    "best_extensions": EXTENSIONS,
    "beam_search": SEARCH,
    "residual_distribution": RESIDUAL,
    "accept_drafted": ACCEPT,
}
