"""Common wrong answers to the exercises of lesson 09; each diagnosis is shown to a learner.

Each exercise has one faulty implementation, `predicted_with` and so on, which is right until a
setting makes one mistake. Settings combine, so two mistakes at once are recognized as well. What
fits no setting is a function of its own, whose docstring is the diagnosis. `MISCONCEPTIONS` lists
them by the function that they imitate.
"""

import difflib
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from utils.grader.mistakes import mistakes

# --- 9.1 predict_floor ---


def predicted_with(
    *,
    per: float = 1 / 2.5,
    unit: float = 1 / math.log(2),
    floor: str = "bits",
    excess: str = "difference",
    power: str = "e to the nats",
    share: str = "of the way",
    digits: int = 9,
) -> tuple[float, ...]:
    """The four numbers; what depends on a wrong one is wrong as well."""
    nats, uniform = 1.50 * per, math.log2(65)
    bits = nats * unit
    lowest = {"as nats": 0.6266 / math.log(2), "nats": 0.6266 * math.log(2)}.get(floor, 0.6266)
    row = numbers_with(nats, bits, lowest, uniform, excess, power, share)
    return tuple(round(number, digits) for number in row)


def numbers_with(
    nats: float, bits: float, floor: float, uniform: float, excess: str, power: str, share: str
) -> tuple[float, ...]:
    """The loss in bits, and what follows from it."""
    above = {
        "ratio": bits / floor,
        "relative": bits / floor - 1,
        "reversed": floor - bits,
        "in nats": (bits - floor) * math.log(2),
        "nats and bits": nats - floor,
        "per token": (bits - floor) * 2.5,
    }
    size = {
        "e to the bits": math.exp(bits),
        "2 to the nats": 2**nats,
        "per token": math.exp(1.50),
        "of the floor": 2**floor,
        "of the excess": 2 ** (bits - floor),
        "2 to the bits": 2**bits,
        "ten": 10**nats,
    }
    way = {
        "left": (bits - floor) / (uniform - floor),
        "to zero": (uniform - bits) / uniform,
        "uniform in nats": (math.log(65) - bits) / (math.log(65) - floor),
        "all in nats": (math.log(65) - bits) / (math.log(65) - floor),
        "of 57": (math.log2(57) - bits) / (math.log2(57) - floor),
        "uniform is 65": (65 - bits) / (65 - floor),
        "all but the floor in nats": (math.log(65) - nats) / (math.log(65) - floor),
        "floor of the loss": floor / bits,
        "percent": 100 * (uniform - bits) / (uniform - floor),
        "loss of the guess": bits / uniform,
        "by perplexities": (65 - 2**bits) / (65 - 2**floor),
    }
    return (
        bits,
        above.get(excess, bits - floor),
        size.get(power, math.exp(nats)),
        way.get(share, (uniform - bits) / (uniform - floor)),
    )


TIMES_LN_2 = (
    "nats are multiplied by log 2; a bit is less than a nat, so there are more of them: divide"
)
BY_LOG10 = "the loss is divided by the decimal logarithm of 2; nats belong to the natural one, ln"
PREDICTED = mistakes(
    predicted_with,
    per_token=(
        "the loss is not divided by the 2.5 characters of a token, so the first number and all "
        "that follow from it are per token",
        {"per": 1.0},
    ),
    multiplied_by_the_length=(
        "the loss is multiplied by the length of a token; per character it is less, so divide",
        {"per": 2.5},
    ),
    still_nats=(
        "the first number is still in nats, and the floor is in bits; divide by log 2",
        {"unit": 1.0},
    ),
    multiplied_by_ln_2=(TIMES_LN_2, {"unit": math.log(2)}),
    multiplied_by_ln_2_throughout=(
        TIMES_LN_2,
        {"unit": math.log(2), "power": "2 to the bits"},
    ),
    decimal_logarithm=(BY_LOG10, {"unit": 1 / math.log10(2)}),
    decimal_logarithm_throughout=(
        BY_LOG10,
        {"unit": 1 / math.log10(2), "power": "2 to the bits"},
    ),
    floor_converted_again=(
        "the floor is in bits already, and is not divided by log 2 again",
        {"floor": "as nats"},
    ),
    floor_in_nats=(
        "the floor was converted to nats, and the loss is in bits",
        {"floor": "nats"},
    ),
    nats_as_bits=(
        "nats per character are taken for bits, in all four numbers; divide by log 2 first",
        {"unit": 1.0, "power": "2 to the nats"},
    ),
    two_decimals=(
        "two decimals are too few: the numbers must be correct to 0.001",
        {"digits": 2},
    ),
    uniform_of_57=(
        "the uniform guess is among the 57 characters of the theory; here there are 65",
        {"share": "of 57"},
    ),
    all_in_nats=(
        "the first two numbers are in nats; bits are asked for: divide by log 2",
        {"floor": "nats", "unit": 1.0, "share": "all in nats"},
    ),
    ratio=(
        "the second number is how many times the floor the loss is; a difference is asked for",
        {"excess": "ratio"},
    ),
    relative=(
        "the second number is a share of the floor; it is asked for in bits",
        {"excess": "relative"},
    ),
    below_the_floor=(
        "the second number is negative: the loss minus the floor is asked for",
        {"excess": "reversed"},
    ),
    excess_in_nats=(
        "the second number is in nats; bits are asked for",
        {"excess": "in nats"},
    ),
    nats_minus_bits=(
        "the second number is a loss in nats minus a floor in bits",
        {"excess": "nats and bits"},
    ),
    excess_per_token=(
        "the second number is per token; per character it is less",
        {"excess": "per token"},
    ),
    e_to_the_bits=(
        "the perplexity is e to the power of bits; e belongs to nats, 2 to bits",
        {"power": "e to the bits"},
    ),
    two_to_the_nats=(
        "the perplexity is 2 to the power of nats; 2 belongs to bits, e to nats",
        {"power": "2 to the nats"},
    ),
    perplexity_per_token=(
        "this is the perplexity per token; per character the loss is divided by 2.5 first",
        {"power": "per token"},
    ),
    perplexity_of_the_floor=(
        "this is the perplexity of a perfect model, which is at the floor",
        {"power": "of the floor"},
    ),
    perplexity_of_the_excess=(
        "the perplexity comes from the bits above the floor; it belongs to the whole loss",
        {"power": "of the excess"},
    ),
    ten_to_the_nats=(
        "the perplexity is 10 to the power of nats; e belongs to nats",
        {"power": "ten"},
    ),
    what_is_left=(
        "the fourth number is the share that is still to go",
        {"share": "left"},
    ),
    way_to_zero=(
        "the way of the fourth number leads to 0 bits; it ends at the floor",
        {"share": "to zero"},
    ),
    uniform_in_nats=(
        "the uniform guess is in nats, log 65, and the rest in bits; log2 65 = log 65 / log 2",
        {"share": "uniform in nats"},
    ),
    uniform_is_65=(
        "65 is the perplexity of the uniform guess; its loss is log2 65",
        {"share": "uniform is 65"},
    ),
    floor_in_bits_among_nats=(
        "in the fourth number, the floor is in bits and the rest in nats",
        {"share": "all but the floor in nats"},
    ),
    floor_of_the_loss=(
        "the fourth number is the floor divided by the loss, without the uniform guess",
        {"share": "floor of the loss"},
    ),
    in_percent=("the fourth number is a percentage; 1 would be the floor", {"share": "percent"}),
    loss_of_the_guess=(
        "the fourth number is the loss divided by that of the uniform guess; the way goes from "
        "the guess down to the floor",
        {"share": "loss of the guess"},
    ),
)


# --- 9.2 loss_by_group ---


def grouped_with(
    losses: Tensor,
    groups: Tensor,
    n_groups: int,
    *,
    divided: str = "by the group",
    empty: float = math.nan,
    minus_one: str = "left out",
    length: str = "all",
    taken: str = "mean",
    order: int = 0,
    rows: str = "all",
    unit: float = 1.0,
    zeros: str = "counted",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The means, group by group."""
    if rows == "the first":
        losses, groups = losses.reshape(-1, losses.size(-1))[0], groups.flatten()[: losses.size(-1)]
    if rows == "the mean of rows":
        return torch.stack(
            [
                grouped_with(one[None], group[None], n_groups)
                for one, group in zip(
                    losses.reshape(-1, losses.size(-1)),
                    groups.reshape(-1, groups.size(-1)),
                    strict=True,
                )
            ]
        ).nanmean(dim=0)
    values = []
    for group in range(n_groups):
        chosen = groups == group
        if minus_one == "shifted":
            chosen = groups == group - 1
        if minus_one == "0 as well" and group == 0:
            chosen = torch.zeros_like(chosen)
        if zeros == "left out":
            chosen = chosen & (losses != 0)
        if minus_one == "the last group" and group == n_groups - 1:
            chosen = chosen | (groups == -1)
        if minus_one == "the first group" and group == 0:
            chosen = chosen | (groups == -1)
        if minus_one == "counted" and group == n_groups - 1:
            count = int((chosen | (groups == -1)).sum())
            values.append(losses[chosen].sum().item() / count if count else empty)
            continue
        found = losses[chosen]
        if found.numel() == 0:
            if length == "present":
                continue
            values.append(empty)
            continue
        by = {"by all": losses.numel(), "never": 1, "by the counted": int((groups >= 0).sum())}
        by |= {"by the groups": n_groups, "by one more": found.numel() + 1}
        value = found.sum().item() / by.get(divided, found.numel())
        if minus_one == "times 0":
            value = (losses * chosen).sum().item() / found.numel()
        if taken == "median":
            value = found.median().item()
        elif taken == "last":
            value = found[-1].item()
        elif taken == "last, divided":
            value = found[-1].item() / found.numel()
        elif taken == "largest":
            value = found.max().item()
        elif taken == "perplexity":
            value = math.exp(value)
        elif taken == "count":
            value = float(found.numel())
        values.append(value * unit)
    if length == "one more":
        values.append(empty)
    if length == "up to the last that occurs":
        values = values[: int(groups.max()) + 1]
    if length == "a dictionary":
        return dict(enumerate(values))
    if length == "a list":
        return values
    return torch.tensor(values[::-1] if order else values, dtype=dtype)


GROUPED = mistakes(
    grouped_with,
    not_divided=(
        "these are sums; divide each by the number of its targets",
        {"divided": "never"},
    ),
    divided_by_all=(
        "each sum is divided by the number of all targets; each group has a number of its own",
        {"divided": "by all"},
    ),
    divided_by_the_counted=(
        "each sum is divided by the number of all targets that count; each group has its own",
        {"divided": "by the counted"},
    ),
    divided_by_the_groups=(
        "each sum is divided by the number of groups; divide by the number of its targets",
        {"divided": "by the groups"},
    ),
    one_too_many=("each count is too large by 1", {"divided": "by one more"}),
    zero_for_empty=(
        "a group without targets gets 0, which looks like a perfect loss; use nan",
        {"empty": 0.0},
    ),
    infinity_for_empty=("a group without targets gets inf; use nan", {"empty": math.inf}),
    minus_one_for_empty=("a group without targets gets -1; use nan", {"empty": -1.0}),
    minus_one_is_the_last=(
        "the group -1 has become the last one, as an index counts from the end; leave it out",
        {"minus_one": "the last group"},
    ),
    minus_one_is_the_first=(
        "targets of the group -1 are counted in group 0; leave them out",
        {"minus_one": "the first group"},
    ),
    minus_one_only_counted=(
        "the losses of the group -1 are left out of the sum, but they are counted in the last "
        "group",
        {"minus_one": "counted"},
    ),
    minus_one_times_zero=(
        "the losses of the group -1 are multiplied by 0, and 0 times nan is nan; leave them out",
        {"minus_one": "times 0"},
    ),
    shifted_by_one=(
        "each mean is one place late: 1 was added to the groups, so that -1 is 0, and not taken "
        "away again",
        {"minus_one": "shifted"},
    ),
    zero_left_out=(
        "group 0 is left out as well; only -1 doesn't count: >= 0, not > 0",
        {"minus_one": "0 as well"},
    ),
    zeros_not_counted=(
        "a target with a loss of 0 isn't counted; count the targets of a group, not their losses",
        {"zeros": "left out"},
    ),
    empty_at_the_end_missing=(
        "groups without targets are missing at the end; bincount has minlength",
        {"length": "up to the last that occurs"},
    ),
    only_groups_that_occur=(
        "groups without targets are missing, so the others move up; each has a place, nan if need "
        "be",
        {"length": "present"},
    ),
    one_group_more=("there is one group more than n_groups", {"length": "one more"}),
    a_list=("this is a list; a tensor is asked for", {"length": "a list"}),
    median=("these are medians; the mean is asked for", {"taken": "median"}),
    last_of_each=(
        "an assignment to an index keeps the last loss of each group; index_add adds them up",
        {"taken": "last"},
    ),
    last_of_each_divided=(
        "an assignment to an index keeps the last loss of each group; index_add adds them up",
        {"taken": "last, divided"},
    ),
    largest=("these are the largest losses; the mean is asked for", {"taken": "largest"}),
    perplexities=("these are perplexities; the mean loss is asked for", {"taken": "perplexity"}),
    counts=("these are the numbers of targets, not their mean loss", {"taken": "count"}),
    first_row_alone=("only the first row is used", {"rows": "the first"}),
    mean_of_row_means=(
        "each row gets a mean of its own, and these are averaged; rows with few targets of a "
        "group count too much",
        {"rows": "the mean of rows"},
    ),
    in_bits=("these losses are in bits; they come in nats, and stay so", {"unit": 1 / math.log(2)}),
    in_float64=("the means are float64; float32 is asked for", {"dtype": torch.float64}),
    reversed=("the groups are in the opposite order", {"order": 1}),
)


# --- 9.3 fit_power_law, predicted_loss ---


def fitted_with(
    sizes: Sequence[float],
    losses: Sequence[float],
    lowest: float,
    *,
    above: str = "subtracted",
    nothing: float = 1e-9,
    x_is: str = "log",
    y_is: str = "log",
    sign: float = -1.0,
    factor: str = "exp",
    points: str = "all",
    axes: str = "as they are",
    result: str = "a first",
) -> Any:
    """The power law."""
    size, loss = np.array(sizes, dtype=np.float64), np.array(losses, dtype=np.float64)
    y = {
        "never": loss,
        "after the logarithm": loss,
        "added": loss + lowest,
        "from the smallest": loss - loss.min() + nothing,
        "divided": loss / max(lowest, 1e-9),
    }.get(above, loss - lowest)
    logs = {"log": np.log, "log10": np.log10, "log2": np.log2, "plain": np.asarray}
    x, y = logs[x_is](size), logs[y_is](y)
    if above == "after the logarithm":
        y = np.log(loss) - lowest
    if points == "ends":
        x, y = x[[0, -1]], y[[0, -1]]
    elif points == "first two":
        different = int(np.argmax(x != x[0]))
        x, y = x[[0, different]], y[[0, different]]
    elif points == "last two":
        different = int(np.argmax((x != x[-1])[::-1]))
        x, y = x[[-1 - different, -1]], y[[-1 - different, -1]]
    elif points in ("mean of slopes", "mean of slopes, the first"):
        steps = np.diff(x) != 0
        slope = float((np.diff(y)[steps] / np.diff(x)[steps]).mean())
        at = (x[0], y[0]) if points.endswith("first") else (x.mean(), y.mean())
        return float(np.exp(at[1] - slope * at[0])), -slope
    if points == "in the losses":
        return fitted_in_the_losses(size, loss - lowest)
    if points == "through the origin":
        slope, intercept = float((x * y).sum() / (x * x).sum()), 0.0
    elif points == "weighted":
        slope, intercept = map(float, np.polyfit(x, y, 1, w=np.sqrt(size)))
    elif axes == "exchanged":
        back, start = np.polyfit(y, x, 1)
        slope, intercept = float(1 / back), float(-start / back)
    elif axes == "size over loss":
        slope, intercept = map(float, np.polyfit(y, x, 1))
    else:
        slope, intercept = map(float, np.polyfit(x, y, 1))
    values = {
        "exp": math.exp,
        "intercept": float,
        "ten": lambda value: 10.0**value,
        "two": lambda value: 2.0**value,
        "negative": lambda value: math.exp(-value),
        "less lowest": lambda value: math.exp(value) - lowest,
    }
    a, alpha = values.get(factor, math.exp)(intercept), sign * slope
    if factor == "mean of the points":
        a = float(((loss - lowest) * size**alpha).mean())
    return {
        "alpha first": (alpha, a),
        "alpha alone": alpha,
        "lowest too": (a, alpha, lowest),
        "slope and intercept": (slope, intercept),
        "polyfit the other way round": (math.exp(min(slope, 99.0)), -intercept),
    }.get(result, (a, alpha))


def fitted_in_the_losses(size: np.ndarray, above: np.ndarray) -> tuple[float, float]:
    """The least squares of the losses themselves, by halving the interval of alpha."""

    def factor(alpha: float) -> float:
        powers = size**-alpha
        return float((powers * above).sum() / (powers * powers).sum())

    def error(alpha: float) -> float:
        return float(((factor(alpha) * size**-alpha - above) ** 2).sum())

    low, high = 0.0, 5.0
    for _ in range(200):
        third = (high - low) / 3
        if error(low + third) < error(high - third):
            high -= third
        else:
            low += third
    return factor(low), low


FROM_THE_SMALLEST = (
    "the smallest of the losses is subtracted; lowest is the floor, which no loss has reached"
)
FITTED = mistakes(
    fitted_with,
    least_squares_of_the_losses=(
        "the errors of the losses themselves are made small; those of their logarithms are meant",
        {"points": "in the losses"},
    ),
    polyfit_the_other_way_round=(
        "np.polyfit returns the slope first, and then the intercept",
        {"result": "polyfit the other way round"},
    ),
    floor_ignored=(
        "lowest is not subtracted: the loss itself follows no power law, what is above the lowest "
        "does",
        {"above": "never"},
    ),
    floor_after_the_logarithm=(
        "lowest is subtracted from the logarithm of the losses; subtract it from the losses, and "
        "take the logarithm of what is left",
        {"above": "after the logarithm"},
    ),
    floor_added=("lowest is added to the losses; subtract it", {"above": "added"}),
    smallest_subtracted=(FROM_THE_SMALLEST, {"above": "from the smallest"}),
    smallest_subtracted_plus_1e_6=(
        FROM_THE_SMALLEST,
        {"above": "from the smallest", "nothing": 1e-6},
    ),
    smallest_subtracted_plus_1e_12=(
        FROM_THE_SMALLEST,
        {"above": "from the smallest", "nothing": 1e-12},
    ),
    floor_divided=("the losses are divided by lowest; subtract it", {"above": "divided"}),
    sizes_without_logarithm=(
        "the sizes are not logarithms: that fits an exponential, not a power law",
        {"x_is": "plain"},
    ),
    losses_without_logarithm=(
        "the losses are not logarithms; the line is in the logarithms of both",
        {"y_is": "plain"},
    ),
    decimal_logarithms_of_the_sizes=(
        "the logarithms of the sizes are decimal and those of the losses natural: use one kind",
        {"x_is": "log10"},
    ),
    decimal_logarithms_of_the_losses=(
        "the logarithms of the losses are decimal, and the rest is natural: use one kind",
        {"y_is": "log10"},
    ),
    decimal_logarithms_and_e=(
        "the logarithms are decimal, but a is e to the power of the intercept; 10 belongs to them",
        {"x_is": "log10", "y_is": "log10"},
    ),
    binary_logarithms_of_the_losses=(
        "the logarithms of the losses are to the base 2, and the rest is natural: use one kind",
        {"y_is": "log2"},
    ),
    binary_logarithms_of_the_sizes=(
        "the logarithms of the sizes are to the base 2, those of the losses natural: use one kind",
        {"x_is": "log2"},
    ),
    slope_for_alpha=(
        "alpha has the wrong sign: the slope is -alpha",
        {"sign": 1.0},
    ),
    intercept_for_a=(
        "a is still a logarithm: the intercept is log a",
        {"factor": "intercept"},
    ),
    ten_to_the_intercept=(
        "a is 10 to the power of the intercept, which is a natural logarithm",
        {"factor": "ten"},
    ),
    two_to_the_intercept=(
        "a is 2 to the power of the intercept, which is a natural logarithm",
        {"factor": "two"},
    ),
    mean_of_the_points=(
        "a is the arithmetic mean of what each point gives; least squares in the logarithms gives "
        "the geometric one: e to the power of the intercept",
        {"factor": "mean of the points"},
    ),
    minus_the_intercept=(
        "a is e to the power of minus the intercept; only the slope has a minus",
        {"factor": "negative"},
    ),
    ends_alone=(
        "only the first and the last point are used; least squares uses all",
        {"points": "ends"},
    ),
    first_two_alone=(
        "only the first two points are used; least squares uses all",
        {"points": "first two"},
    ),
    last_two_alone=(
        "only the last two points are used; least squares uses all",
        {"points": "last two"},
    ),
    slopes_averaged=(
        "the slopes between neighbours are averaged; least squares weighs them by their distance",
        {"points": "mean of slopes"},
    ),
    slopes_averaged_from_the_first=(
        "the slopes between neighbours are averaged; least squares weighs them by their distance",
        {"points": "mean of slopes, the first"},
    ),
    weighted_by_size=(
        "the large sizes count for more in the fit; all squared errors count the same",
        {"points": "weighted"},
    ),
    lowest_subtracted_from_a=(
        "lowest is subtracted from a; subtract it from each loss, before the logarithm",
        {"above": "never", "factor": "less lowest"},
    ),
    through_the_origin=(
        "the line is forced through the origin, so that a is 1; it needs an intercept",
        {"points": "through the origin"},
    ),
    axes_exchanged=(
        "the errors are those of the sizes: the losses must be the y of the fit",
        {"axes": "exchanged"},
    ),
    sizes_over_losses=(
        "the sizes are fitted as a power of the losses; it is the other way round",
        {"axes": "size over loss"},
    ),
    alpha_first=("the two results are exchanged: first a", {"result": "alpha first"}),
    alpha_alone=("only alpha is returned; a belongs to it", {"result": "alpha alone"}),
    lowest_returned_too=(
        "lowest is returned as well; a and alpha are asked for",
        {"result": "lowest too"},
    ),
    slope_and_intercept=(
        "these are slope and intercept, as polyfit returns them; a and alpha are asked for",
        {"result": "slope and intercept"},
    ),
)


def power_law_with(
    size: float, lowest: float, a: float, alpha: float, *, floor: str = "added", form: str = "power"
) -> Any:
    """The predicted loss."""
    value = {
        "positive": a * size**alpha,
        "both": (a * size) ** -alpha,
        "exponential": a * math.exp(-alpha * size) if alpha * size < 700 else 0.0,
        "logarithm": a - alpha * math.log(size),
        "linear": a - alpha * size,
        "exchanged": alpha * size**-a if a < 100 else 0.0,
        "without a": size**-alpha,
        "divided by alpha": a / (alpha * size),
        "root": a * alpha**-size if size < 300 and alpha > 0.2 else math.inf,
    }.get(form, a * size**-alpha)
    return {"never": value, "subtracted": value - lowest, "factor": lowest * value}.get(
        floor, lowest + value
    )


LAW = mistakes(
    power_law_with,
    without_the_floor=("lowest is not added", {"floor": "never"}),
    floor_subtracted=("lowest is subtracted; the loss is above it", {"floor": "subtracted"}),
    floor_as_a_factor=("lowest is multiplied; add it", {"floor": "factor"}),
    positive_exponent=(
        "the exponent is alpha; with -alpha the loss falls as the size grows",
        {"form": "positive"},
    ),
    a_in_the_power=("a is raised to the power as well; only the size is", {"form": "both"}),
    exponential=(
        "this is an exponential of the size; a power of the size is asked for",
        {"form": "exponential"},
    ),
    line_of_the_logarithm=(
        "this is a line in the logarithm of the size; a power of the size is asked for",
        {"form": "logarithm"},
    ),
    line=("this is a line in the size; a power of the size is asked for", {"form": "linear"}),
    exchanged=("a and alpha are exchanged", {"form": "exchanged"}),
    without_a=("a is missing", {"form": "without a"}),
    divided_by_alpha_times_size=(
        "a is divided by alpha times size; the size has -alpha as its exponent",
        {"form": "divided by alpha"},
    ),
)


# --- 9.4 train_keeping_best ---


def kept_with(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    val: tuple[Tensor, Tensor],
    eval_every: int,
    *,
    copied: str = "deep",
    chosen: str = "validation",
    mode: str = "switched",
    ties: str = "first",
    highest: bool = False,
    step_is: str = "from 1",
    measured: str = "both",
    loss_is: str = "best",
    order: str = "loss first",
    zeroed: bool = True,
    when: str = "after",
    stops: bool = False,
    reduction: str = "mean",
    grad: str = "none",
    goes_back: bool = False,
) -> Any:
    """Train, and keep the best weights."""
    best = math.inf if not highest else -math.inf
    best_value, best_step, weights = math.inf, 0, {}
    loss, n_measured, previous = math.inf, 0, math.inf
    if mode == "always eval":
        model.eval()
    if mode == "once":
        model.train()
    for step, (x, y) in enumerate(batches, start=1):
        if mode == "switched" or mode == "never eval":
            model.train()
        due = {
            "interval": step % eval_every == 0,
            "every step": True,
            "end": step == len(batches),
            "from step 1": (step - 1) % eval_every == 0 or step == len(batches),
        }.get(measured, step % eval_every == 0 or step == len(batches))
        before = values_of(model) if when == "before" else {}
        train_loss = F.cross_entropy(model(x), y)
        train_loss.backward()
        optimizer.step()
        if zeroed:
            optimizer.zero_grad()
        if not due:
            continue
        now = values_of(model) if when == "before" else {}
        if when == "before":
            model.load_state_dict(before)
        if mode in ("switched", "once"):
            model.eval()
        with torch.set_grad_enabled(grad == "kept"):
            loss = F.cross_entropy(model(val[0]), val[1], reduction=reduction)
        if grad == "kept":
            loss.backward()
        loss = loss.item()
        if when == "before":
            model.load_state_dict(now)
        n_measured += 1
        value = train_loss.item() if chosen == "training" else loss
        better = value > best if highest else value < best
        if ties == "last":
            better = value <= best
        if chosen == "previous":
            better = loss < previous
        if stops and not better:
            break
        previous = loss
        if better:
            best, best_value = value, loss
            best_step = n_measured if step_is == "measurement" else step
            weights = values_of(model) if when == "after" else before
            if copied == "alias":
                weights = model.state_dict() if when == "after" else before
            elif copied == "parameters":
                weights = {name: weights[name] for name, _ in model.named_parameters()}
            elif copied == "called weight":
                weights = {name: weights[name] for name in weights if name.endswith("weight")}
        elif goes_back:
            model.load_state_dict(weights, strict=False)
    if weights:
        model.load_state_dict(weights, strict=False)
    steps = {"from 0": best_step - 1, "last": len(batches), "at most": best_step % eval_every}
    value = {"last": loss, "training": best}.get(loss_is, best_value)
    step = steps.get(step_is, best_step)
    if order == "loss alone":
        return value
    if order == "weights too":
        return value, step, weights
    return (step, value) if order == "step first" else (value, step)


def values_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights and buffers."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


KEPT = mistakes(
    kept_with,
    not_copied=(
        "at the end the model has the weights of the last step: either best_weights holds the "
        "parameters themselves, which keep changing, even in a new dictionary (copy their "
        "values), or a copy was never loaded into the caller's model",
        {"copied": "alias"},
    ),
    parameters_alone=(
        "the buffers stay those of the last step, as the running means of a batch norm: "
        "state_dict() holds them, named_parameters() doesn't",
        {"copied": "parameters"},
    ),
    called_weight_alone=(
        "only what is called weight goes back to the best step; a bias belongs to it as well",
        {"copied": "called weight"},
    ),
    goes_back_at_once=(
        "after a loss that is no better, the training continues from the best weights; load them "
        "at the end only",
        {"goes_back": True},
    ),
    chosen_by_training_loss=(
        "the best step is chosen by its training loss, which falls even while the model overfits",
        {"chosen": "training", "loss_is": "validation"},
    ),
    training_loss_returned=(
        "the training loss is kept and returned in place of the validation loss",
        {"chosen": "training", "loss_is": "training"},
    ),
    compared_with_the_previous=(
        "the loss is compared with the previous one; compare it with the lowest so far",
        {"chosen": "previous"},
    ),
    highest=("the highest loss is kept; the lowest is the best", {"highest": True}),
    last_of_equal_ones=(
        "of equal losses the last is kept; the first is asked for: <, not <=",
        {"ties": "last"},
    ),
    validation_with_dropout=(
        "the validation loss is measured with dropout: model.eval() is missing",
        {"mode": "never eval"},
    ),
    trained_without_dropout=(
        "after the first measurement the model trains without dropout: model.train() belongs at "
        "the start of each step",
        {"mode": "once"},
    ),
    never_in_training_mode=("the model is never in training mode", {"mode": "always eval"}),
    only_at_intervals=(
        "the loss isn't measured after the last step unless it is a multiple of eval_every",
        {"measured": "interval"},
    ),
    at_every_step=(
        "the loss is measured after every step; eval_every says how often",
        {"measured": "every step"},
    ),
    only_at_the_end=("the loss is measured at the end only", {"measured": "end"}),
    from_the_first_step=(
        "the loss is measured after step 1, 1 + eval_every and so on; the first time is after "
        "step eval_every",
        {"measured": "from step 1"},
    ),
    measured_before_the_step=(
        "the loss is measured before the step of the optimizer; it belongs to the weights of the "
        "step before",
        {"when": "before"},
    ),
    stops_early=(
        "the training stops at the first loss that is no better; all batches are to be used",
        {"stops": True},
    ),
    counted_from_zero=("the step is counted from 0; count from 1", {"step_is": "from 0"}),
    last_step_returned=(
        "the step is the last one; that of the lowest loss is asked for",
        {"step_is": "last"},
    ),
    number_of_the_measurement=(
        "this counts the measurements; the number of the step is asked for",
        {"step_is": "measurement"},
    ),
    last_loss_returned=(
        "the loss is the last one that was measured; the lowest is asked for",
        {"loss_is": "last"},
    ),
    summed=("the validation loss is a sum; the mean is asked for", {"reduction": "sum"}),
    gradients_not_zeroed=(
        "the gradients are never zeroed, so each step uses those of all steps before",
        {"zeroed": False},
    ),
    learns_from_validation=(
        "backward is called on the validation loss: its gradients go into the next step",
        {"grad": "kept"},
    ),
    step_first=("the two results are exchanged: first the loss", {"order": "step first"}),
    loss_alone=("only the loss is returned; its step belongs to it", {"order": "loss alone"}),
)


# --- 9.5 ablate ---

Config = Mapping[str, Any]


def ablated_with(
    train: Callable[[Config, int], float],
    base: Config,
    changes: Mapping[str, Config],
    seeds: Sequence[int],
    *,
    paired: str = "by seed",
    sign: float = 1.0,
    ddof: int = 1,
    root: str = "of n",
    single: float = math.nan,
    config: str = "base with the change",
    base_seeds: str = "all",
    base_runs: str = "once",
    unknown: str = "refused first",
    first: str = "difference",
    result: str = "mean first",
) -> Any:
    """The table of an ablation."""
    allowed = [field for name in changes for field in changes[name] if field not in base]
    if unknown == "KeyError" and allowed:
        raise KeyError(allowed[0])
    if unknown == "the change named" and allowed:
        raise ValueError("a change has an unknown field")
    if unknown == "refused first" and allowed:
        raise ValueError(f"unknown field {allowed[0]}")
    few = seeds[:1] if base_seeds == "first" else seeds
    if base_seeds == "next":
        few = [seed + 1 for seed in seeds]
    if base_seeds == "counted":
        few = range(len(seeds))
    others = [train(base, seed) for seed in few]
    if unknown == "refused late" and allowed:
        raise ValueError(f"unknown field {allowed[0]}")
    if base_seeds == "first":
        others = others * len(seeds)
    table: dict[str, Any] = {}
    so_far = dict(base)
    for name, change in changes.items():
        if unknown == "left out":
            change = {field: value for field, value in change.items() if field in base}
        if unknown == "refused in turn" and any(field not in base for field in change):
            raise ValueError(f"unknown field {allowed[0]}")
        so_far |= change
        whole: Config = {**base, **change}
        if config == "cumulative":
            whole = dict(so_far)
        elif config == "the change alone":
            whole = dict(change)
        elif config == "base wins":
            whole = {**change, **base}
        elif config == "first field":
            whole = {**base, **dict([*change.items()][:1])}
        if base_runs == "for each change" and name != next(iter(changes)):
            others = [train(base, seed) for seed in seeds]
        used = range(len(seeds)) if base_seeds == "counted" else seeds
        losses = [train(whole, seed) for seed in used]
        if base_runs == "for the error too":
            losses = [train(whole, seed) for seed in used]
        table[name] = row_with(losses, others, paired, sign, ddof, root, single, first, result)
    if result == "base too":
        table = {"base": (0.0, 0.0), **table}
    if result == "a list":
        return [*table.values()]
    return table


def row_with(
    losses: list[float],
    others: list[float],
    paired: str,
    sign: float,
    ddof: int,
    root: str,
    single: float,
    first: str,
    result: str,
) -> Any:
    """Mean and standard error of one change."""
    n = len(losses)
    mine, theirs = np.array(losses), np.array(others)
    differences = sign * (mine - theirs)
    centre = {
        "mean loss": float(mine.mean()),
        "relative": float((differences / theirs).mean()),
        "median": float(np.median(differences)),
        "sum": float(differences.sum()),
        "best": sign * float(mine.min() - theirs.min()),
        "last": float(differences[-1]),
        "absolute": float(np.abs(differences).mean()),
    }.get(first, float(differences.mean()))
    if n == 1 and math.isinf(single) and single < 0:
        error = statistics.stdev(differences)  # raises an error
    elif n == 1:
        error = single
    elif paired == "unpaired":
        error = math.sqrt((mine.var(ddof=ddof) + theirs.var(ddof=ddof)) / n)
    elif paired == "the change alone":
        error = float(mine.std(ddof=ddof)) / math.sqrt(n)
    elif paired == "difference of errors":
        error = float(mine.std(ddof=ddof) - theirs.std(ddof=ddof)) / math.sqrt(n)
    else:
        error = float(differences.std(ddof=ddof))
        by = {"missing": 1.0, "n": float(n), "of n - 1": math.sqrt(n - 1)}
        error /= by.get(root, math.sqrt(n))
        if root == "squared":
            error = float(differences.var(ddof=ddof)) / n
        elif root == "range":
            error = float(differences.max() - differences.min()) / 2
        elif root == "variance":
            error = float(differences.var(ddof=ddof)) / math.sqrt(n)
        elif root == "confidence":
            error *= 1.96
    if result == "error first":
        return error, centre
    if result == "mean alone":
        return centre
    if result == "all differences":
        return tuple(map(float, differences))
    return centre, error


ABLATED = mistakes(
    ablated_with,
    unpaired=(
        "the standard error is that of two independent means; take the differences seed by seed "
        "first, so that what a seed does to both cancels out",
        {"paired": "unpaired"},
    ),
    error_of_the_change_alone=(
        "the standard error is that of the losses with the change; that of the differences is "
        "asked for",
        {"paired": "the change alone"},
    ),
    difference_of_the_errors=(
        "two standard errors are subtracted; take the differences first, then their error",
        {"paired": "difference of errors"},
    ),
    sign_reversed=(
        "the sign is reversed: the loss with the change minus that of base",
        {"sign": -1.0},
    ),
    divided_by_n=(
        "the standard deviation divides by n; with n - 1 it is that of a sample",
        {"ddof": 0},
    ),
    deviation_for_error=(
        "this is the standard deviation; the standard error is that divided by the root of n",
        {"root": "missing"},
    ),
    divided_by_n_without_the_root=(
        "the standard deviation is divided by n; divide by its root",
        {"root": "n"},
    ),
    root_of_n_minus_one=(
        "the standard deviation is divided by the root of n - 1; n - 1 belongs into the deviation, "
        "and n under this root",
        {"root": "of n - 1"},
    ),
    error_squared=("this is the square of the standard error", {"root": "squared"}),
    variance_for_deviation=(
        "a variance is divided by the root of n; take its root first",
        {"root": "variance"},
    ),
    half_the_range=("this is half of the range, no standard error", {"root": "range"}),
    confidence_interval=(
        "the standard error is multiplied by 1.96, as for an interval; it is asked for as it is",
        {"root": "confidence"},
    ),
    zero_for_one_seed=(
        "one seed has a standard error of 0, as if it were certain; use math.nan",
        {"single": 0.0},
    ),
    infinity_for_one_seed=(
        "one seed has a standard error of inf; use math.nan",
        {"single": math.inf},
    ),
    error_for_one_seed=(
        "a single seed has no standard deviation, and statistics.stdev raises an error: return "
        "math.nan then",
        {"single": -math.inf},
    ),
    key_error=(
        "an unknown field raises a KeyError; a ValueError is asked for",
        {"unknown": "KeyError"},
    ),
    changes_added_up=(
        "each change comes on top of those before it; start from base every time",
        {"config": "cumulative"},
    ),
    base_wins=(
        "the changes have no effect: where base and a change have a field, the change must win",
        {"config": "base wins"},
    ),
    change_without_base=(
        "a change is trained without the other fields of base: {**base, **change} has both",
        {"config": "the change alone"},
    ),
    first_field_alone=(
        "only the first field of each change is used",
        {"config": "first field"},
    ),
    base_with_one_seed=(
        "base is trained with the first seed only; each seed needs its own",
        {"base_seeds": "first"},
    ),
    base_with_other_seeds=(
        "base is trained with other seeds than the changes",
        {"base_seeds": "next"},
    ),
    seeds_counted=(
        "the models are trained with 0, 1, 2 and so on, not with the seeds that were given",
        {"base_seeds": "counted"},
    ),
    base_for_each_change=(
        "base is trained again for each change; once per seed is enough",
        {"base_runs": "for each change"},
    ),
    each_change_twice=(
        "each change is trained twice per seed, for instance for the mean and for the error; keep "
        "the losses",
        {"base_runs": "for the error too"},
    ),
    unknown_field_trained=(
        "an unknown field is not refused, and the ablation compares base with itself",
        {"unknown": "trained"},
    ),
    refused_late=(
        "the unknown field is found after base was trained; look at all changes first",
        {"unknown": "refused late"},
    ),
    refused_in_turn=(
        "the unknown field is found when its change has its turn; look at all changes first",
        {"unknown": "refused in turn"},
    ),
    field_not_named=(
        "the error doesn't name the field",
        {"unknown": "the change named"},
    ),
    mean_loss=(
        "the first number is the mean loss with the change; the difference is asked for",
        {"first": "mean loss"},
    ),
    relative_difference=(
        "the differences are divided by the loss of base; they are asked for in nats",
        {"first": "relative"},
    ),
    median=("the first number is a median; the mean is asked for", {"first": "median"}),
    sum_of_differences=("the first number is a sum; the mean is asked for", {"first": "sum"}),
    best_of_each=(
        "the best run of each is compared; with more seeds the best gets better by chance",
        {"first": "best"},
    ),
    last_seed_alone=("the first number is that of the last seed alone", {"first": "last"}),
    absolute_differences=(
        "the differences have lost their sign, so noise looks like an effect",
        {"first": "absolute"},
    ),
    error_first=("the two numbers are exchanged: first the mean", {"result": "error first"}),
    mean_alone=("only the mean is returned; its error belongs to it", {"result": "mean alone"}),
    all_differences=(
        "all differences are returned; their mean and its error are asked for",
        {"result": "all differences"},
    ),
    base_in_the_table=("base has an entry as well; only the changes do", {"result": "base too"}),
)


# --- 9.6 read_texts ---

TABLE = "a bigram table"


def read_with(**exchanged: str) -> dict[str, str]:
    """The letters, some of them exchanged."""
    letters = {
        "3.1 nats": "D",
        "2.2 nats": "A",
        "2.0 nats": "F",
        "1.8 nats": "C",
        "1.6 nats": "B",
        TABLE: "E",
    }
    names = {"l31": "3.1 nats", "l22": "2.2 nats", "l20": "2.0 nats", "l18": "1.8 nats"}
    names |= {"l16": "1.6 nats", "table": TABLE}
    return letters | {names[name]: letter for name, letter in exchanged.items()}


LETTER_TWICE = "two names have the same letter; each text has one model"
READ = mistakes(
    read_with,
    best_two_exchanged=(
        "the two best texts are exchanged: compare how many of their words are English, and "
        "whether the sentences hold together",
        {"l18": "B", "l16": "C"},
    ),
    middle_two_exchanged=(
        "2.0 and 1.8 nats are exchanged: the lower loss has fewer invented words, and the form of "
        "a play",
        {"l20": "C", "l18": "F"},
    ),
    middle_and_best_exchanged=(
        "2.0 and 1.6 nats are exchanged: the lower loss has more English words",
        {"l20": "B", "l16": "F"},
    ),
    early_and_table_exchanged=(
        "2.2 nats and the bigram table are exchanged: a table sees one character back, so hardly "
        "any word that is longer than three letters exists, and the lines end anywhere",
        {"l22": "E", "table": "A"},
    ),
    first_and_table_exchanged=(
        "3.1 nats and the bigram table are exchanged: at 3.1 nats not even the pairs of characters "
        "are English",
        {"l31": "E", "table": "D"},
    ),
    first_two_exchanged=(
        "3.1 and 2.2 nats are exchanged: at 3.1 nats there are characters, but no words",
        {"l31": "A", "l22": "D"},
    ),
    table_and_middle_exchanged=(
        "the bigram table and 2.0 nats are exchanged: a table of pairs writes hardly any long "
        "words that are English",
        {"l20": "E", "table": "F"},
    ),
    early_and_middle_exchanged=(
        "2.2 and 2.0 nats are exchanged: the lower loss has more English words",
        {"l22": "F", "l20": "A"},
    ),
    order_reversed=(
        "the order is reversed: a low loss writes the better text",
        {"l31": "B", "l22": "C", "l18": "A", "l16": "D"},
    ),
    table_is_the_best=(
        "the bigram table has got the best text; it knows nothing but pairs of characters",
        {"l16": "E", "table": "B"},
    ),
    table_middle_early=(
        "2.2 nats, 2.0 nats and the bigram table are exchanged in a circle: a table writes hardly "
        "any long words, and of the other two the lower loss writes more English ones",
        {"l22": "E", "l20": "A", "table": "F"},
    ),
    middle_twice=(LETTER_TWICE, {"l22": "F"}),
    early_twice=(LETTER_TWICE, {"l20": "A"}),
    best_twice=(LETTER_TWICE, {"l18": "B"}),
    second_best_twice=(LETTER_TWICE, {"l16": "C"}),
    table_is_1_75=(
        "the bigram table and 1.8 nats are exchanged; a table knows nothing but pairs of "
        "characters",
        {"l18": "E", "table": "C"},
    ),
)


# --- 9.7 distinct_n, repeated_share ---


def words_with(text: str, unit: str, lower: bool = False, punctuation: bool = True) -> list[str]:
    """What the n-grams are made of."""
    if lower:
        text = text.lower()
    if not punctuation:
        text = "".join(c for c in text if c.isalnum() or c.isspace())
    if unit == "characters":
        return [*text]
    if unit == "split at blanks":
        return text.split(" ")
    return text.split()


def distinct_with(
    samples: Sequence[str],
    n: int,
    *,
    unit: str = "words",
    lower: bool = False,
    punctuation: bool = True,
    glued: bool = False,
    joined: str = "never",
    over: str = "all",
    counted: str = "different",
    ordered: bool = True,
    length: int = 0,
    end: int = 1,
    stride: int = 1,
    empty: float = 0.0,
    short: str = "nothing",
) -> Any:
    """The share of different n-grams."""
    texts = [words_with(sample, unit, lower, punctuation) for sample in samples]
    if joined == "texts":
        texts = [[word for text in texts for word in text]]
    if joined == "the first":
        texts = texts[:1]
    size = n + length
    by_text = []
    for words in texts:
        step = size if stride != 1 else 1
        starts = range(0, len(words) - size + end, step)
        if end == 0 and size > len(words):
            starts = range(0)
        grams = [tuple(words[i : i + size]) for i in starts]
        if short == "kept" and 0 < len(words) < size:
            grams = [tuple(words)]
        if short == "to the end":
            grams = [tuple(words[i : i + size]) for i in range(len(words))]
        if not ordered:
            grams = [tuple(sorted(gram)) for gram in grams]
        if glued:
            grams = [("".join(gram),) for gram in grams]
        by_text.append(grams)
    if joined == "mean of texts":
        shares = [len(set(grams)) / len(grams) for grams in by_text if grams]
        return statistics.fmean(shares) if shares else empty
    grams = [gram for text in by_text for gram in text]
    if joined == "different in each":
        different = sum(len(set(text)) for text in by_text)
        return different / len(grams) if grams else empty
    counts = Counter(grams)
    value = {
        "once": sum(count == 1 for count in counts.values()),
        "repeated": len(grams) - len(counts),
        "several times": sum(count > 1 for count in counts.values()),
    }.get(counted, len(counts))
    whole = {
        "words": sum(map(len, texts)),
        "texts": len(samples),
        "nothing": 1,
        "vocabulary": len({word for text in texts for word in text}),
    }.get(over, len(grams))
    if counted == "all to different":
        return len(grams) / len(counts) if counts else empty
    if not grams and empty < 0:
        return len(grams) / len(grams)  # raises an error
    return value / whole if whole and grams else empty


DISTINCT = mistakes(
    distinct_with,
    characters=(
        "the n-grams are made of characters; they are made of words",
        {"unit": "characters"},
    ),
    lower_case=(
        "the words are made lower case; The and the are different words here",
        {"lower": True},
    ),
    no_punctuation=(
        "punctuation is removed; words are what split() gives",
        {"punctuation": False},
    ),
    split_at_blanks=(
        'split(" ") leaves line breaks in the words and makes empty ones; use split()',
        {"unit": "split at blanks"},
    ),
    texts_joined=(
        "the texts are joined, so that some n-grams reach from one into the next",
        {"joined": "texts"},
    ),
    first_text_alone=("only the first text is used", {"joined": "the first"}),
    mean_of_texts=(
        "each text gets a share of its own, and these are averaged; an n-gram that two texts have "
        "must count as one",
        {"joined": "mean of texts"},
    ),
    different_in_each=(
        "different n-grams are counted in each text by itself; one that two texts have must count "
        "as one",
        {"joined": "different in each"},
    ),
    over_words=(
        "the number of different n-grams is divided by the number of words; a text has n - 1 "
        "n-grams fewer",
        {"over": "words"},
    ),
    over_texts=(
        "the number of different n-grams is divided by the number of texts",
        {"over": "texts"},
    ),
    not_divided=(
        "this is the number of different n-grams; divide by that of all",
        {"over": "nothing"},
    ),
    over_vocabulary=(
        "the number of different n-grams is divided by that of different words",
        {"over": "vocabulary"},
    ),
    occurring_once=(
        "n-grams that occur exactly once are counted; each different one counts",
        {"counted": "once"},
    ),
    repeated=(
        "this is the share of repetitions; that of different n-grams is asked for",
        {"counted": "repeated"},
    ),
    occurring_several_times=(
        "n-grams that occur several times are counted; each different one counts",
        {"counted": "several times"},
    ),
    upside_down=(
        "the share is upside down: different divided by all",
        {"counted": "all to different"},
    ),
    order_ignored=(
        "the order of the words is ignored: to be and be to are different",
        {"ordered": False},
    ),
    glued=(
        "the words are joined without a blank, so that ab c and a bc look the same; use a tuple",
        {"glued": True},
    ),
    one_word_more=("the n-grams have n + 1 words", {"length": 1}),
    last_one_missing=(
        "the last n-gram of each text is missing: there are len(words) - n + 1",
        {"end": 0},
    ),
    not_overlapping=(
        "the n-grams don't overlap; one begins at each word",
        {"stride": 2},
    ),
    one_for_nothing=("without n-grams the result is 1; 0.0 is asked for", {"empty": 1.0}),
    error_for_nothing=(
        "without n-grams there is nothing to divide by; return 0.0 then",
        {"empty": -1.0},
    ),
    short_text_kept=(
        "a text that is shorter than n counts as an n-gram; it has none",
        {"short": "kept"},
    ),
    too_short_at_the_end=(
        "at the end of a text there are n-grams of fewer than n words",
        {"short": "to the end"},
    ),
)


def repeated_with(
    sample: str,
    n: int,
    *,
    unit: str = "words",
    lower: bool = False,
    punctuation: bool = True,
    glued: bool = False,
    marked: str = "n words",
    earlier: str = "anywhere",
    over: str = "words",
    once: bool = True,
    end: int = 1,
    length: int = 0,
    empty: float = 0.0,
    inverted: bool = False,
    ordered: bool = True,
) -> Any:
    """The share of words that have been said before."""
    words = words_with(sample, unit, lower, punctuation)
    size = n + length
    starts = range(max(0, len(words) - size + end))
    grams = [tuple(words[i : i + size]) for i in starts]
    if not ordered:
        grams = [tuple(sorted(gram)) for gram in grams]
    if glued:
        grams = [("".join(gram),) for gram in grams]
    counts = Counter(grams)
    repeated: set[int] = set()
    total = 0
    for i, gram in enumerate(grams):
        was = gram in grams[:i]
        if earlier == "apart":
            was = gram in grams[: max(0, i - size + 1)]
        elif earlier == "right before":
            was = i >= size and grams[i - size] == gram
        elif earlier == "neighbour":
            was = i > 0 and grams[i - 1] == gram
        elif earlier == "also later":
            was = counts[gram] > 1
        elif earlier == "only later":
            was = gram in grams[i + 1 :]
        if was:
            places = range(i, i + size)
            if marked == "the first word":
                places = range(i, i + 1)
            elif marked == "the last word":
                places = range(i + size - 1, i + size)
            elif marked == "between the ends":
                places = range(i, i + size - 1)
            repeated.update(places)
            total += len(places)
    if marked == "as words":
        kept = {words[i] for i in repeated if i < len(words)}
        repeated = {i for i, word in enumerate(words) if word in kept}
        total = len(repeated)
    if over == "n-grams":
        value, whole = sum(gram in grams[:i] for i, gram in enumerate(grams)), len(grams)
    elif over == "different words":
        value, whole = len({words[i] for i in repeated if i < len(words)}), len(set(words))
    elif over == "different n-grams":
        value, whole = sum(count > 1 for count in counts.values()), len(counts)
    elif over == "words and n-grams":
        value, whole = sum(gram in grams[:i] for i, gram in enumerate(grams)), len(words)
    elif over == "nothing":
        value, whole = len(repeated), 1
    elif over == "n-grams below":
        value, whole = len(repeated), len(grams)
    else:
        value, whole = (len(repeated) if once else total), len(words)
    if not words and empty < 0:
        return len(words) / len(words)  # raises an error
    if not words or not whole:
        return empty
    return 1 - value / whole if inverted else value / whole


REPEATED = mistakes(
    repeated_with,
    repeated_characters=(
        "the stretches are made of characters; they are made of words",
        {"unit": "characters"},
    ),
    repeated_lower_case=(
        "the words are made lower case, so that The repeats the; they are different words here",
        {"lower": True},
    ),
    repeated_no_punctuation=(
        "punctuation is removed before the comparison; words are what split() gives",
        {"punctuation": False},
    ),
    share_of_ngrams=(
        "this is the share of n-grams; the share of words is asked for",
        {"over": "n-grams"},
    ),
    ngrams_over_words=(
        "one word counts per repeated n-gram; all n words that it is made of do",
        {"over": "words and n-grams"},
    ),
    share_of_different_ngrams=(
        "this is the share of different n-grams that occur several times",
        {"over": "different n-grams"},
    ),
    different_words=(
        "different words are counted; each place of the text counts",
        {"over": "different words"},
    ),
    words_over_ngrams=(
        "repeated words are divided by the number of n-grams; divide by that of words",
        {"over": "n-grams below"},
    ),
    repeated_not_divided=("this is a number of words; divide by that of all", {"over": "nothing"}),
    several_times=(
        "a word that is part of several repeated n-grams counts several times",
        {"once": False},
    ),
    last_word_missing=(
        "the last word of a repeated n-gram is missing",
        {"marked": "between the ends"},
    ),
    kept_as_words=(
        "the repeated words are kept as words, so that the same words count wherever they stand; "
        "keep their places",
        {"marked": "as words"},
    ),
    first_occurrence_too=(
        "the first occurrence counts as well; only those that come after it are repetitions",
        {"earlier": "also later"},
    ),
    earlier_occurrences=(
        "the earlier occurrences are counted in place of the later ones",
        {"earlier": "only later"},
    ),
    overlap_refused=(
        "the two occurrences may overlap: in no no no, the second pair is a repetition",
        {"earlier": "apart"},
    ),
    right_before=(
        "only a repetition right after the first n-gram is found; any earlier place counts",
        {"earlier": "right before"},
    ),
    neighbour=(
        "only the n-gram one word before is compared; any earlier place counts",
        {"earlier": "neighbour"},
    ),
    last_ngram_missing=(
        "the last n-gram is missing: there are len(words) - n + 1",
        {"end": 0},
    ),
    repeated_glued=(
        "the words are joined without a blank, so that a bc seems to repeat ab c; use a tuple",
        {"glued": True},
    ),
    repeated_one_word_more=("what is looked for has n + 1 words", {"length": 1}),
    repeated_one_for_nothing=("without words the result is 1; 0.0 is asked for", {"empty": 1.0}),
    repeated_error_for_nothing=(
        "without words there is nothing to divide by; return 0.0 then",
        {"empty": -1.0},
    ),
    inverted=("this is the share of words that are not repeated", {"inverted": True}),
    repeated_order_ignored=("the order of the words in an n-gram is ignored", {"ordered": False}),
)


# --- 9.8 longest_copy ---


def copied_with(
    sample: str,
    corpus: str,
    *,
    first: str = "start",
    second: str = "length",
    ties: str = "first",
    case: bool = True,
    starts: str = "all",
    grows: str = "while found",
    last: int = 0,
    nothing: Any = (0, 0),
    minimum: int = 1,
    shorter: bool = False,
    result: str = "both",
    found_by: str = "search",
    text: str = "as it is",
) -> Any:
    """The longest copy."""
    if text == "stripped":
        sample = sample.strip()
    elif text == "blanks for line breaks":
        sample, corpus = sample.replace("\n", " "), corpus.replace("\n", " ")
    if not case:
        sample_used, corpus_used = sample.lower(), corpus.lower()
    else:
        sample_used, corpus_used = sample, corpus
    if found_by == "reversed":
        corpus_used = corpus_used[::-1]
    if found_by == "whole words":
        return whole_words(sample, corpus)
    if found_by == "difflib":
        match = difflib.SequenceMatcher(None, sample, corpus[:2000]).find_longest_match()
        return (match.a, match.size) if match.size else (0, 0)
    start, length = 0, 0
    places = range(len(sample) - last)
    if starts == "the beginning":
        places = range(min(1, len(sample)))
    elif starts == "after the last":
        places = starts_after(sample_used, corpus_used)
    elif starts == "behind the mismatch":
        places = starts_after(sample_used, corpus_used, skipped=1)
    elif starts == "words":
        places = [i for i in places if i == 0 or sample[i - 1].isspace()]
    elif starts == "up to a stranger":
        strange = [i for i in places if sample_used[i] not in corpus_used]
        places = places[: strange[0]] if strange else places
    elif starts == "the end":
        places = [i for i in places if sample_used[i:] in corpus_used][:1]
    for i in places:
        end = length if grows == "while found" else 0
        if ties == "last" and grows == "while found":
            end = max(0, length - 1)
        limit = len(sample) - last
        while i + end < limit and sample_used[i : i + end + 1] in corpus_used:
            end += 1
        longer = end >= length if ties == "last" else end > length
        if end and longer and i + end <= len(sample):
            start, length = i, end
        if grows == "first find" and length:
            break
    if shorter and length == len(sample):
        length = max(0, length - 1)
    if length < minimum:
        return nothing
    values = {
        "start": start,
        "in the corpus": corpus_used.find(sample_used[start : start + length]),
        "from 1": start + 1,
        "length": length,
        "end": start + length,
        "last": start + length - 1,
        "too short": length - 1,
        "too long": length + 1,
        "share": length / len(sample) if sample else 0,
        "words": len(sample[start : start + length].split()),
    }
    if result == "text":
        return sample[start : start + length]
    if result == "length":
        return length
    if result == "three":
        return start, length, values["in the corpus"]
    return values[first], values[second]


def whole_words(sample: str, corpus: str) -> tuple[int, int]:
    """The longest stretch from the beginning of a word to the end of one."""
    spans = [found.span() for found in re.finditer(r"\S+", sample)]
    found = [
        (start, end - start)
        for i, (start, _) in enumerate(spans)
        for _, end in spans[i:]
        if sample[start:end] in corpus
    ]
    return max(found, key=lambda one: (one[1], -one[0]), default=(0, 0))


def starts_after(sample: str, corpus: str, skipped: int = 0) -> list[int]:
    """The places that are left if each search begins where the last match has ended.

    skipped: 1 if the character that ended it is left out as well.
    """
    places, i = [], 0
    while i < len(sample):
        places.append(i)
        end = i
        while end < len(sample) and sample[i : end + 1] in corpus:
            end += 1
        i = max(end + skipped, i + 1)
    return places


COPIED = mistakes(
    copied_with,
    length_first=(
        "the two numbers are exchanged: first the start",
        {"first": "length", "second": "start"},
    ),
    place_in_the_corpus=(
        "this is the place in the corpus; the place in the sample is asked for",
        {"first": "in the corpus"},
    ),
    counted_from_one=("the start is counted from 1; count from 0", {"first": "from 1"}),
    end_for_length=("this is the end of the stretch; its length is asked for", {"second": "end"}),
    last_place_for_length=(
        "this is the place of the last character; the length is asked for",
        {"second": "last"},
    ),
    one_too_short=("the length is too small by 1", {"second": "too short"}),
    one_too_long=(
        "the length is too large by 1: that of the stretch which is no longer found",
        {"second": "too long"},
    ),
    share_of_the_sample=(
        "this is a share of the sample; the length is asked for",
        {"second": "share"},
    ),
    words_counted=("these are words; the length is one of characters", {"second": "words"}),
    last_of_equals=(
        "of several as long, the last is returned; the first is asked for: >, not >=",
        {"ties": "last"},
    ),
    case_ignored=("upper and lower case are taken for the same", {"case": False}),
    beginning_alone=(
        "only stretches that begin the sample are found; each place may be the start",
        {"starts": "the beginning"},
    ),
    jumps_over=(
        "the next search begins where the last match has ended; a longer one may begin within it",
        {"starts": "after the last"},
    ),
    begins_behind_the_mismatch=(
        "the next search begins behind the character that ended the last match; a longer one may "
        "begin within the match, or with that character",
        {"starts": "behind the mismatch"},
    ),
    stripped=(
        "the sample is stripped, which moves the start; whitespace counts as well",
        {"text": "stripped"},
    ),
    blanks_for_line_breaks=(
        "line breaks are taken for blanks; the stretch must be in the corpus character for "
        "character",
        {"text": "blanks for line breaks"},
    ),
    from_words_alone=(
        "only stretches that begin with a word are found; each character may be the start",
        {"starts": "words"},
    ),
    whole_words_alone=(
        "only whole words are found; a stretch may begin and end within a word",
        {"found_by": "whole words"},
    ),
    given_up=(
        "the search ends at the first character that isn't in the corpus; continue after it",
        {"starts": "up to a stranger"},
    ),
    whole_sample_never=(
        "the sample as a whole is never looked for; it is a stretch, too",
        {"shorter": True},
    ),
    end_alone=("only stretches that end the sample are found", {"starts": "the end"}),
    first_find=(
        "the first stretch that is found is returned; a longer one may come later",
        {"grows": "first find"},
    ),
    last_character_missing=(
        "the last character of the sample is never looked at; check the end of the loops",
        {"last": 1},
    ),
    minus_one_for_nothing=(
        "without a common character the start is -1; (0, 0) is asked for",
        {"nothing": (-1, 0)},
    ),
    text_returned=(
        "this is the stretch itself; its start and length are asked for",
        {"result": "text"},
    ),
    length_alone=("only the length is returned; the start belongs to it", {"result": "length"}),
    three_numbers=(
        "the place in the corpus is returned as well; start and length are asked for",
        {"result": "three"},
    ),
    difflib_with_autojunk=(
        "difflib leaves out characters that are frequent, unless autojunk is False; in a text all "
        "of them are",
        {"found_by": "difflib"},
    ),
    single_characters_ignored=(
        "a stretch of one character is ignored; it counts as well",
        {"minimum": 2},
    ),
    corpus_reversed=("the corpus is searched backwards", {"found_by": "reversed"}),
)


# --- 9.9 rolling_hashes, contaminated_share ---


def hashed_with(
    tokens: Sequence[int],
    n: int,
    base: int = 1_000_003,
    modulus: int = 2**61 - 1,
    *,
    removed: str = "times base^n",
    added: str = "last",
    reduced: str = "always",
    kept: str = "whole windows",
    shift: int = 0,
    stride: int = 1,
    result: str = "hashes",
    digits: str = "one base",
) -> Any:
    """The hashes of all n-grams."""
    power = pow(base, n, modulus)
    power = {
        "times base^(n-1)": pow(base, n - 1, modulus),
        "times base^(n+1)": pow(base, n + 1, modulus),
        "as it is": 1,
        "never": 0,
        "times base": base % modulus,
    }.get(removed, power)
    if reduced == "the first only":
        power = pow(base, n - 1, modulus) * base
    if digits == "n in place of base":
        base = n
        power = pow(base, n, modulus)
    hashes, value = [], 0
    if added == "first":
        hashes = hashed_with(tokens[::-1], n, base, modulus, reduced=reduced)[::-1]
    elif added == "summed":
        hashes = [sum(tokens[i : i + n]) % modulus for i in range(len(tokens) - n + 1)]
    else:
        for i, token in enumerate(tokens):
            value = value * base + token + shift
            if i >= n:
                value -= (tokens[i - n] + shift) * power
            if reduced == "always" or (reduced == "the first only" and i < n):
                value %= modulus
            elif reduced == "remainder":
                value = int(math.fmod(value, modulus))
            if kept == "all" or i >= n - 1 or (kept == "one early" and i == n - 2):
                hashes.append(value % modulus if reduced == "at the end" else value)
    if kept == "the first missing":
        hashes = hashes[1:]
    elif kept == "the last missing":
        hashes = hashes[:-1]
    elif kept == "short too" and len(tokens) < n:
        hashes = [value]
    hashes = hashes[::n] if stride != 1 else hashes
    if result == "a set":
        return set(hashes)
    if result == "the last":
        return hashes[-1] if hashes else 0
    return hashes


def hashed_in_int64(
    tokens: Sequence[int],
    n: int,
    base: int = 1_000_003,
    modulus: int = 2**61 - 1,
    *,
    power_is: str = "in int64",
    removed: str = "first",
) -> list[int]:
    """The hashes, in numbers of 64 bits."""

    def wrapped(number: int) -> int:
        return (number + 2**63) % 2**64 - 2**63

    power, value, hashes = 1, 0, []
    for _ in range(n if removed == "last" else n - 1):
        power = power * base if power_is == "exact" else wrapped(power * base)
        power %= modulus
    for i, token in enumerate(tokens):
        if i >= n and removed != "last":
            value = wrapped(value - wrapped(tokens[i - n] * power))
            value = value % modulus if removed == "first, reduced" else value
        value = wrapped(value * base + token)
        if i >= n and removed == "last":
            value = wrapped(value - wrapped(tokens[i - n] * power))
        value %= modulus
        if i >= n - 1:
            hashes.append(value)
    return hashes


TOO_LARGE = "a product is too large for int64, which ends at 2^63; Python's own numbers have no end"
IN_INT64 = mistakes(
    hashed_in_int64,
    in_int64=(TOO_LARGE, {}),
    in_int64_reduced=(TOO_LARGE, {"removed": "first, reduced"}),
    in_int64_removed_last=(TOO_LARGE, {"removed": "last"}),
    in_int64_exact_power=(TOO_LARGE, {"power_is": "exact"}),
    in_int64_exact_power_reduced=(
        TOO_LARGE,
        {"power_is": "exact", "removed": "first, reduced"},
    ),
    in_int64_exact_power_removed_last=(TOO_LARGE, {"power_is": "exact", "removed": "last"}),
)


def hashed_by_python(
    tokens: Sequence[int], n: int, base: int = 1_000_003, modulus: int = 2**61 - 1
) -> list[int]:
    """this is Python's hash of a tuple; the number whose digits are the tokens is asked for"""
    return [hash(tuple(tokens[i : i + n])) % modulus for i in range(len(tokens) - n + 1)]


HASHED = mistakes(
    hashed_with,
    removed_one_power_early=(
        "the token that leaves is subtracted with one power too few: before the others move up it "
        "has base^(n-1), afterwards base^n",
        {"removed": "times base^(n-1)"},
    ),
    removed_one_power_late=(
        "the token that leaves is subtracted with one power too many: before the others move up it "
        "has base^(n-1), afterwards base^n",
        {"removed": "times base^(n+1)"},
    ),
    removed_as_it_is=(
        "the token that leaves is subtracted as it is; it is the highest digit of the number",
        {"removed": "as it is"},
    ),
    removed_times_base=(
        "the token that leaves is subtracted times base; it is the highest digit of the number",
        {"removed": "times base"},
    ),
    never_removed=(
        "no token leaves the window: these are the hashes of all tokens so far",
        {"removed": "never"},
    ),
    first_is_the_lowest=(
        "the first token is the lowest digit; it is the highest",
        {"added": "first"},
    ),
    summed=(
        "the tokens are added up without powers, so that their order is lost",
        {"added": "summed"},
    ),
    no_modulus=("the modulus is missing", {"reduced": "never"}),
    first_reduced_alone=(
        "only the first hash is reduced by the modulus; each of them is",
        {"reduced": "the first only"},
    ),
    negative_remainder=(
        "the remainder may be negative, as with math.fmod; % of Python isn't",
        {"reduced": "remainder"},
    ),
    beginnings_too=(
        "the hashes of the first n - 1 beginnings, which are no n-grams, are returned as well",
        {"kept": "all"},
    ),
    one_too_early=("the first hash is that of n - 1 tokens", {"kept": "one early"}),
    first_missing=("the hash of the first n-gram is missing", {"kept": "the first missing"}),
    last_missing=(
        "the hash of the last n-gram is missing: there are len(tokens) - n + 1",
        {"kept": "the last missing"},
    ),
    short_text_hashed=(
        "fewer than n tokens get a hash; they have no n-gram",
        {"kept": "short too"},
    ),
    tokens_counted_from_one=("1 is added to each token", {"shift": 1}),
    not_overlapping=("the n-grams don't overlap; one begins at each token", {"stride": 2}),
    n_for_base=("n is used as the base", {"digits": "n in place of base"}),
)


def contaminated_with(
    train: list[int],
    evaluation: list[int],
    n: int,
    *,
    counted: str = "tokens",
    over: str = "evaluation",
    direction: str = "evaluation in train",
    ordered: bool = True,
    length: int = 0,
    last: int = 0,
    empty: float = 0.0,
    marked: str = "n tokens",
    exact: str = "tuples",
    source: str = "train",
    stride: int = 1,
    inverted: bool = False,
) -> Any:
    """The contaminated share."""
    size = n + length
    if direction == "train in evaluation":
        train, evaluation = evaluation, train

    def key(tokens: list[int]) -> Any:
        if exact == "hashes":
            return hash_of(tokens)
        return tuple(tokens) if ordered else tuple(sorted(tokens))

    if exact == "single tokens":
        known = set(train)
        hits = [i for i in range(len(evaluation)) if evaluation[i] in known]
        return len(hits) / len(evaluation) if evaluation else empty
    step = size if stride != 1 else 1
    known = {key(train[i : i + size]) for i in range(0, len(train) - size + 1, step)}
    if exact in ("the last of a hash", "the first of a hash"):
        grams = [tuple(train[i : i + size]) for i in range(len(train) - size + 1)]
        order = grams if exact == "the last of a hash" else grams[::-1]
        known = {*{hash_of(gram): gram for gram in order}.values()}
    starts = range(max(0, len(evaluation) - size + 1 - last))
    hits = [i for i in starts if key(evaluation[i : i + size]) in known]
    if exact.startswith("strings"):
        between = " " if exact == "strings with blanks" else ""
        text = between.join(map(str, train))
        hits = [i for i in starts if between.join(map(str, evaluation[i : i + size])) in text]
    if source == "both":
        both, first = train + evaluation, len(train)
        grams = [key(both[i : i + size]) for i in range(len(both) - size + 1)]
        hits = [i for i in starts if grams[first + i] in grams[: first + i]]
    if marked == "the first only":
        hits = hits[:1]
    if marked == "the whole text":
        return (1.0 if hits else 0.0) if evaluation else empty
    width = {"the first token": 1, "one less": size - 1}.get(marked, size)
    covered = {i + k for i in hits for k in range(width)}
    values = {
        "several times": len(hits) * size,
        "n-grams": len(hits),
        "different n-grams": len({key(evaluation[i : i + size]) for i in hits}),
        "different tokens": len({evaluation[i] for i in covered}),
        "longest": longest_run(covered),
        "number": len(covered),
    }
    wholes = {
        "train": len(train),
        "n-grams": len(starts),
        "different n-grams": len({key(evaluation[i : i + size]) for i in starts}),
        "different tokens": len(set(evaluation)),
        "nothing": 1,
    }
    value, whole = values.get(counted, len(covered)), wholes.get(over, len(evaluation))
    if not evaluation or not whole:
        return empty
    return 1 - value / whole if inverted else value / whole


def hash_of(tokens: Sequence[int]) -> int:
    """As rolling_hashes computes it."""
    return hashed_with(tokens, len(tokens))[0] if tokens else 0


def longest_run(places: set[int]) -> int:
    """The length of the longest run of neighbouring places."""
    best = 0
    for place in places:
        if place - 1 not in places:
            end = place
            while end in places:
                end += 1
            best = max(best, end - place)
    return best


ONE_PLACE = (
    "only one place of train is kept for each hash, which hides another n-gram with the same hash; "
    "keep all of them"
)
JOINED = (
    "the tokens are joined to a string, in which one number may stand within another: 1 2 within "
    "11 2; compare lists or tuples"
)
CONTAMINATED = mistakes(
    contaminated_with,
    strings_compared=(JOINED, {"exact": "strings with blanks"}),
    strings_without_blanks_compared=(JOINED, {"exact": "strings without blanks"}),
    share_of_ngrams=(
        "this is the share of n-grams; the share of tokens is asked for",
        {"counted": "n-grams", "over": "n-grams"},
    ),
    ngrams_over_tokens=(
        "one token counts per n-gram that train holds; all n tokens of it do",
        {"counted": "n-grams"},
    ),
    share_of_different_ngrams=(
        "this is the share of different n-grams; that of tokens is asked for",
        {"counted": "different n-grams", "over": "different n-grams"},
    ),
    several_times=(
        "a token that is part of several n-grams counts several times",
        {"counted": "several times"},
    ),
    different_tokens=(
        "different tokens are counted; each place of evaluation counts",
        {"counted": "different tokens", "over": "different tokens"},
    ),
    longest_alone=("only the longest stretch counts; all do", {"counted": "longest"}),
    over_train=("the number is divided by the tokens of train", {"over": "train"}),
    tokens_over_ngrams=(
        "the covered tokens are divided by the number of n-grams; divide by that of tokens",
        {"over": "n-grams"},
    ),
    not_divided=("this is a number of tokens; a share is asked for", {"over": "nothing"}),
    other_direction=(
        "this is the share of train that is in evaluation; it is the other way round",
        {"direction": "train in evaluation"},
    ),
    order_ignored=("the order within an n-gram is ignored", {"ordered": False}),
    single_tokens=(
        "single tokens are looked up; n in a row must be in train",
        {"exact": "single tokens"},
    ),
    hash_alone=(
        "different n-grams have the same hash, and are taken for equal; compare their tokens, too",
        {"exact": "hashes"},
    ),
    one_place_per_hash=(ONE_PLACE, {"exact": "the last of a hash"}),
    first_place_per_hash=(ONE_PLACE, {"exact": "the first of a hash"}),
    own_repetitions=(
        "what evaluation says twice counts as well; only what train holds does",
        {"source": "both"},
    ),
    one_token_more=("the n-grams have n + 1 tokens", {"length": 1}),
    last_ngram_missing=(
        "the last n-gram of evaluation is missing: there are len(evaluation) - n + 1",
        {"last": 1},
    ),
    last_token_missing=(
        "the last token of each such n-gram is missing",
        {"marked": "one less"},
    ),
    first_match_alone=("only the first n-gram that is found counts", {"marked": "the first only"}),
    all_or_nothing=(
        "this says whether anything is contaminated; the share of tokens is asked for",
        {"marked": "the whole text"},
    ),
    train_not_overlapping=(
        "the n-grams of train don't overlap; one begins at each token",
        {"stride": 2},
    ),
    nan_for_nothing=("without tokens the result is nan; 0.0 is asked for", {"empty": math.nan}),
    one_for_nothing=("without tokens the result is 1; 0.0 is asked for", {"empty": 1.0}),
    clean_share=("this is the share of tokens that are clean", {"inverted": True}),
)


MISCONCEPTIONS = {
    "predict_floor": PREDICTED,
    "loss_by_group": GROUPED,
    "fit_power_law": FITTED,
    "predicted_loss": LAW,
    "train_keeping_best": KEPT,
    "ablate": ABLATED,
    "read_texts": READ,
    "distinct_n": DISTINCT,
    "repeated_share": REPEATED,
    "longest_copy": COPIED,
    "rolling_hashes": (*HASHED, *IN_INT64, hashed_by_python),
    "contaminated_share": CONTAMINATED,
}
