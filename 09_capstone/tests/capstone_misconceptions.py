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
        place = {"times 0, in group 0": 0, "times 0, in the last": n_groups - 1}.get(minus_one)
        if group == place:  # where a clamped index, or one that counts from the end, leads
            value += (0 * losses[groups == -1]).sum().item()
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


TIMES_ZERO = (
    "the losses of the group -1 are multiplied by 0, and 0 times nan is nan; leave them out"
)
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
    minus_one_times_zero=(TIMES_ZERO, {"minus_one": "times 0"}),
    minus_one_times_zero_in_the_first=(TIMES_ZERO, {"minus_one": "times 0, in group 0"}),
    minus_one_times_zero_in_the_last=(TIMES_ZERO, {"minus_one": "times 0, in the last"}),
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
        before = values_of(model) if when != "after" else {}
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
    copied_before_the_step=(
        "the weights that are kept are those before the step; the loss belongs to those after it",
        {"when": "kept before"},
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
    if reduced == "never, nor the power":
        power = base**n
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
    no_modulus_anywhere=("the modulus is missing", {"reduced": "never, nor the power"}),
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
    steps: str = "of one",
    inverted: bool = False,
) -> Any:
    """The contaminated share."""
    size = n + length
    if direction == "train in evaluation":
        train, evaluation = evaluation, train

    def key(tokens: list[int]) -> Any:
        if exact == "hashes":
            return hash_of(tokens)
        if exact == "joined":
            return "".join(map(str, tokens))
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
    starts = range(0, max(0, len(evaluation) - size + 1 - last), size if steps == "of n" else 1)
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
    joined_ngrams_compared=(
        "the tokens of an n-gram are joined to a string without anything between them, so 1 12 and "
        "11 2 are the same; compare tuples",
        {"exact": "joined"},
    ),
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
    evaluation_not_overlapping=(
        "the n-grams of evaluation don't overlap; one begins at each token",
        {"steps": "of n"},
    ),
    nan_for_nothing=("without tokens the result is nan; 0.0 is asked for", {"empty": math.nan}),
    one_for_nothing=("without tokens the result is 1; 0.0 is asked for", {"empty": 1.0}),
    clean_share=("this is the share of tokens that are clean", {"inverted": True}),
)


# --- 9.10 predict_post_training ---


def post_training_with(
    *,
    deviation: str = "population",
    centre: str = "mean",
    pair: Mapping[str, Any] | None = None,
    ratio: float = 2.5,
    k3: str = "k3",
    clip: str = "smaller",
    quotient: str = "new / old",
    sign: float = 1.0,
    digits: int = 9,
) -> tuple[float, ...]:
    """The five numbers; those that share a mistake have it alike.

    The mistakes of the second number are one setting, so that no two of them are combined: of their
    sixty combinations one would be near to many a number that came about in another way.
    """
    row = (
        advantage_with(deviation, centre),
        pair_with(**(pair or {})),
        estimate_with(ratio, k3),
        *(sign * objective_with(now, old, clip, quotient) for now, old in ((0.6, 0.4), (0.3, 0.5))),
    )
    return tuple(round(number, digits) for number in row)


def advantage_with(deviation: str, centre: str) -> float:
    """Of the first reward."""
    rewards = np.array([0.9, 0.4, 0.1, 0.2])
    centred = {
        "never": rewards,
        "median": rewards - np.median(rewards),
        "others": rewards - (rewards.sum() - rewards) / 3,
        "reversed": rewards.mean() - rewards,
    }.get(centre, rewards - rewards.mean())
    spread = {
        "sample": rewards.std(ddof=1),
        "variance": rewards.var(),
        "sample variance": rewards.var(ddof=1),
        "none": 1.0,
        "absolute": np.abs(centred).mean(),
        "range": np.ptp(rewards),
        "not averaged": np.sqrt((centred**2).sum()),
    }.get(deviation, rewards.std())
    return float(centred[0] / spread)


def pair_with(
    h: str = "difference", beta: float = 0.1, outside: float = 1.0, form: str = "log"
) -> float:
    """The loss of DPO."""
    chosen, rejected, ref_chosen, ref_rejected = -40.0, -55.0, -45.0, -54.0
    difference = {
        "reversed": (rejected - ref_rejected) - (chosen - ref_chosen),
        "without the reference": chosen - rejected,
        "reversed, without the reference": rejected - chosen,
        "of the reference": ref_chosen - ref_rejected,
        "chosen alone": chosen - ref_chosen,
        "rejected alone": -(rejected - ref_rejected),
        "added": (chosen - ref_chosen) + (rejected - ref_rejected),
        "reference added": (chosen - rejected) + (ref_chosen - ref_rejected),
    }.get(h, (chosen - ref_chosen) - (rejected - ref_rejected))
    x = beta * difference
    return outside * {
        "probability": 1 / (1 + math.exp(-x)),
        "other probability": 1 / (1 + math.exp(x)),
        "negative": -math.log1p(math.exp(-x)),
        "decimal": math.log10(1 + math.exp(-x)),
        "bits": math.log2(1 + math.exp(-x)),
        "no loss": x,
        "exponential": math.exp(-x),
    }.get(form, math.log1p(math.exp(-x)))


def estimate_with(ratio: float, k3: str) -> float:
    """Of the KL divergence."""
    log = math.log(ratio)
    return {
        "k1": -log,
        "k1 reversed": log,
        "k2": log**2 / 2,
        "k2 without the half": log**2,
        "1 missing": ratio - log,
        "logarithm missing": ratio - 1,
        "logarithm added": ratio - 1 + log,
        "decimal": ratio - 1 - math.log10(ratio),
        "bits": ratio - 1 - math.log2(ratio),
        "weighted by the policy": -0.2 * log,
        "weighted by the reference": 0.5 * log,
        "negative": log + 1 - ratio,
        "mixed": ratio - 1 + math.log(1 / ratio) * -1,
        "of the log-ratio": log - 1 - ratio,
    }.get(k3, ratio - 1 - log)


def objective_with(now: float, old: float, clip: str, quotient: str) -> float:
    """For the advantage -2 and a clip of 0.2."""
    ratio = {"old / new": old / now, "difference": now - old}.get(quotient, now / old)
    if quotient == "logarithm":
        ratio = math.log(now / old)
    clipped = min(max(ratio, 0.8), 1.2)
    return {
        "larger": max(-2 * ratio, -2 * clipped),
        "always": -2 * clipped,
        "never": -2 * ratio,
        "advantage ignored": min(ratio, clipped),
        "advantage left out": max(ratio, clipped),
        "positive": min(2 * ratio, 2 * clipped),
        "sign": -max(ratio, clipped),
        "zero": 0.0 if clipped != ratio and -2 * clipped < -2 * ratio else -2 * ratio,
        "one": -2 * min(max(ratio, 1.0), 1.0),
    }.get(clip, min(-2 * ratio, -2 * clipped))


BETA_MISPLACED = (
    "the second number is almost 0, so beta is missing or not in its place; it is a factor of h, "
    "within the sigmoid"
)
NOT_THE_RATIO = (
    "the last two numbers have the difference of the probabilities, or the logarithm of their "
    "ratio, in place of the ratio"
)
RATIOS_ALONE = "the last two numbers are ratios; the advantage is missing"
POST_TRAINING = mistakes(
    post_training_with,
    sample_deviation=(
        "the first number has the deviation of a sample, which divides by 3; a population's by 4",
        {"deviation": "sample"},
    ),
    variance_for_deviation=(
        "the first number is divided by the variance; its root is the deviation",
        {"deviation": "variance"},
    ),
    sample_variance_for_deviation=(
        "the first number is divided by a sample's variance; a population's deviation is the "
        "root of a mean of all 4 squares",
        {"deviation": "sample variance"},
    ),
    not_divided=(
        "the first number is the distance from the mean; divide it by the deviation of the group",
        {"deviation": "none"},
    ),
    mean_distance=(
        "the first number is divided by the mean distance from the mean; a deviation is the root "
        "of the mean square",
        {"deviation": "absolute"},
    ),
    divided_by_the_range=(
        "the first number is divided by the range; a standard deviation is asked for",
        {"deviation": "range"},
    ),
    squares_not_averaged=(
        "the first number is divided by the root of the sum of the squares; their mean is missing",
        {"deviation": "not averaged"},
    ),
    not_centred=(
        "the first number is the reward in deviations; what the group got on average is the zero",
        {"centre": "never"},
    ),
    from_the_others=(
        "the first number compares the reward with the mean of the other three; the mean of a "
        "group is over all four",
        {"centre": "others"},
    ),
    advantage_reversed=(
        "the first number has the wrong sign: the best answer of a group has a positive advantage",
        {"centre": "reversed"},
    ),
    pair_reversed=(
        "the second number punishes the right order: chosen has gained 5, rejected has lost 1, so "
        "the loss is below log 2",
        {"pair": {"h": "reversed"}},
    ),
    without_the_reference=(
        "the second number leaves out the reference; what counts is the gain over it",
        {"pair": {"h": "without the reference"}},
    ),
    reference_alone=(
        "the second number is about the reference alone; what counts is the policy's gain over it",
        {"pair": {"h": "of the reference"}},
    ),
    chosen_alone=(
        "the second number is about the chosen answer alone; the rejected one is subtracted",
        {"pair": {"h": "chosen alone"}},
    ),
    gains_added=(
        "in the second number, the gains of the two answers are added; their difference counts",
        {"pair": {"h": "added"}},
    ),
    reference_added=(
        "in the second number, the reference's difference is added to the policy's; subtract it",
        {"pair": {"h": "reference added"}},
    ),
    beta_missing=("in the second number, beta is missing", {"pair": {"beta": 1.0}}),
    divided_by_beta=(BETA_MISPLACED, {"pair": {"beta": 10.0}}),
    beta_outside=(BETA_MISPLACED, {"pair": {"beta": 1.0, "outside": 0.1}}),
    reversed_without_the_reference=(
        "the second number leaves out the reference, and has the order of the two answers the "
        "wrong way round; what counts is the gain over the reference, chosen minus rejected",
        {"pair": {"h": "reversed, without the reference"}},
    ),
    reversed_without_beta=(
        "in the second number, beta is missing, and the order of the two answers is the wrong way "
        "round: chosen has gained 5, rejected has lost 1",
        {"pair": {"h": "reversed", "beta": 1.0}},
    ),
    sigmoid_without_the_reference=(
        "the second number leaves out the reference, and is the sigmoid itself; minus its "
        "logarithm is the loss, and within it is the gain over the reference",
        {"pair": {"h": "without the reference", "form": "probability"}},
    ),
    sigmoid_alone=(
        "the second number is the sigmoid itself; minus its logarithm is the loss",
        {"pair": {"form": "probability"}},
    ),
    one_minus_sigmoid=(
        "the second number is 1 minus the sigmoid; minus the sigmoid's logarithm is the loss",
        {"pair": {"form": "other probability"}},
    ),
    loss_negative=(
        "the second number has the wrong sign: a loss is positive",
        {"pair": {"form": "negative"}},
    ),
    loss_with_log10=(
        "the second number is a decimal logarithm; take the natural one, ln on a calculator",
        {"pair": {"form": "decimal"}},
    ),
    loss_in_bits=(
        "the second number is in bits, a logarithm to the base 2",
        {"pair": {"form": "bits"}},
    ),
    no_loss_at_all=(
        "the second number is beta times h, the difference of the rewards; the loss comes from it",
        {"pair": {"form": "no loss"}},
    ),
    exponential_alone=(
        "the second number is e^-x; the loss is log(1 + e^-x)",
        {"pair": {"form": "exponential"}},
    ),
    ratio_reversed=(
        "the third number has the ratio the wrong way round: it is reference / policy, and the "
        "policy sampled the token",
        {"ratio": 0.4},
    ),
    difference_in_k3=(
        "the third number has the difference of the two probabilities in place of their ratio",
        {"ratio": 0.3},
    ),
    k1_for_k3=(
        "the third number is k1, the logarithm of policy / reference; it may be negative, k3 never",
        {"k3": "k1"},
    ),
    logarithm_alone=(
        "the third number is the logarithm of the ratio alone; k3 has two more terms",
        {"k3": "k1 reversed"},
    ),
    k2_for_k3=("the third number is k2, half the squared logarithm", {"k3": "k2"}),
    k2_without_half=(
        "the third number is the squared logarithm; k3 is another estimate",
        {"k3": "k2 without the half"},
    ),
    one_missing=(
        "in the third number, the 1 is missing: equal probabilities must give 0",
        {"k3": "1 missing"},
    ),
    logarithm_missing=(
        "in the third number, the logarithm is missing",
        {"k3": "logarithm missing"},
    ),
    logarithm_added=(
        "in the third number, the logarithm is added; it is subtracted",
        {"k3": "logarithm added"},
    ),
    k3_with_log10=(
        "the third number has a decimal logarithm; take the natural one, ln on a calculator",
        {"k3": "decimal"},
    ),
    k3_in_bits=("the third number has a logarithm to the base 2", {"k3": "bits"}),
    weighted_by_the_policy=(
        "the third number is weighted by the token's probability; it has been sampled already, so "
        "it counts once",
        {"k3": "weighted by the policy"},
    ),
    weighted_by_the_reference=(
        "the third number is weighted by the reference's probability; the token has been sampled, "
        "so it counts once",
        {"k3": "weighted by the reference"},
    ),
    k3_negative=("the third number has the wrong sign: k3 is never negative", {"k3": "negative"}),
    larger_product=(
        "the last two numbers are the larger of the two products: the smaller ratio gives it, "
        "because the advantage is negative; the objective is the smaller product, further from 0",
        {"clip": "larger"},
    ),
    always_clipped=(
        "the fourth number is clipped, although the token has moved against its advantage: both "
        "products are to be compared",
        {"clip": "always"},
    ),
    never_clipped=("the last two numbers are not clipped", {"clip": "never"}),
    without_the_advantage=(RATIOS_ALONE, {"clip": "advantage ignored"}),
    advantage_left_out=(RATIOS_ALONE, {"clip": "advantage left out"}),
    sign_of_the_advantage=(
        "the last two numbers have the advantage -1; it is -2",
        {"clip": "sign"},
    ),
    advantage_taken_positive=(
        "the last two numbers have the advantage 2; it is -2",
        {"clip": "positive"},
    ),
    zero_beyond_the_clip=(
        "one of the last two numbers is 0: beyond the clip the gradient is 0, not the objective",
        {"clip": "zero"},
    ),
    old_over_new=(
        "the ratio of the last two numbers is the wrong way round: now / when it was sampled",
        {"quotient": "old / new"},
    ),
    difference_for_ratio=(NOT_THE_RATIO, {"quotient": "difference"}),
    logarithm_for_ratio=(NOT_THE_RATIO, {"quotient": "logarithm"}),
    objective_as_a_loss=(
        "the last two numbers have the sign of a loss; the objective is to be maximized",
        {"sign": -1.0},
    ),
    two_decimals=(
        "two decimals are too few: the numbers must be correct to 0.001",
        {"digits": 2},
    ),
    one_decimal=(
        "one decimal is too few: the numbers must be correct to 0.001",
        {"digits": 1},
    ),
)


# --- 9.11 answer_loss ---


def answered_with(
    logits: Tensor,
    tokens: Tensor,
    is_answer: Tensor,
    *,
    shift: str = "next",
    mask: str = "with the targets",
    counted: str = "answers",
    ends: str = "whole",
    mean: str = "tokens",
    value: str = "loss",
    zeroed: str = "left out",
    sign: float = 1.0,
    result: str = "scalar",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The loss of the answers' tokens."""
    if value == "over all positions":
        logits = logits.log_softmax(1)  # before the last one is cut off
    scores, targets, counts = aligned_with(logits, tokens, is_answer, shift, mask)
    if counted == "not the prompt":
        first = is_answer.int().argmax(-1, keepdim=True)
        counts = (torch.arange(tokens.size(1)) >= first)[:, 1:][:, : counts.size(1)]
    begun, ended = counts.int().cumsum(-1) > 0, counts.int().flip(-1).cumsum(-1).flip(-1) > 0
    counts = {
        "all": torch.ones_like(counts),
        "first to last": begun & ended,
        "prompts": ~counts,
        "not 0": targets != 0,
        "not 0 in answers": counts & (targets != 0),
    }.get(counted, counts)
    if counted == "targets of 0":
        targets = torch.where(counts, targets, 0)
    elif counted == "logits of 0":
        scores = scores * counts[..., None]
    if counted in ("targets of 0", "logits of 0"):
        counts = torch.ones_like(counts)
    before = F.pad(counts, (1, 0))[:, :-1]
    after = F.pad(counts, (0, 1))[:, 1:]
    counts = {
        "first missing": counts & before,
        "last missing": counts & after,
        "last alone": counts & ~after,
        "first alone": counts & ~before,
        "one more": counts | before,
        "first of several": counts & ((counts & ~before).int().cumsum(-1) == 1),
        "last of several": counts & ((counts & ~after).int().flip(-1).cumsum(-1).flip(-1) == 1),
    }.get(ends, counts)
    losses = sign * losses_with(scores, targets, value)
    is_multiplied = zeroed == "multiplied"  # nan where a loss that does not count is inf
    losses = losses * counts if is_multiplied else torch.where(counts, losses, 0.0)
    return averaged_with(losses, counts, logits.size(-1), mean, value, result, dtype)


def aligned_with(
    logits: Tensor, tokens: Tensor, is_answer: Tensor, shift: str, mask: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, their targets, and which of them count."""
    if shift == "none":
        return logits, tokens, is_answer
    if shift == "none, and cut":
        return logits[:, :-1], tokens[:, :-1], is_answer[:, :-1]
    if shift == "none, but the mask":
        return logits[:, :-1], tokens[:, :-1], is_answer[:, 1:]
    if shift.startswith("backwards"):
        counts = is_answer[:, 1:] if shift.endswith("by the logits") else is_answer[:, :-1]
        return logits[:, 1:], tokens[:, :-1], counts
    if shift == "wrapped":  # the last position predicts the first token
        counts = is_answer if mask == "with the logits" else is_answer.roll(-1, 1)
        return logits, tokens.roll(-1, 1), counts
    if shift == "by two":
        return logits[:, :-2], tokens[:, 2:], is_answer[:, 2:]
    scores, targets = logits[:, :-1], tokens[:, 1:]
    if mask == "with the logits":
        return scores, targets, is_answer[:, :-1]
    if mask == "both":
        return scores, targets, is_answer[:, :-1] & is_answer[:, 1:]
    if mask == "either":
        return scores, targets, is_answer[:, :-1] | is_answer[:, 1:]
    return scores, targets, is_answer[:, 1:]


def losses_with(scores: Tensor, targets: Tensor, value: str) -> Tensor:
    """What each token costs."""
    B, T, V = scores.shape
    kind, _, limit = value.partition(" at ")
    if kind == "clamped":
        scores = scores.clamp(-float(limit), float(limit))
    if value == "reshaped":
        return F.cross_entropy(scores.reshape(B, V, T), targets, reduction="none")
    if value == "over the positions":
        log_probs = scores.log_softmax(1)
    elif value in ("logits", "over all positions"):
        log_probs = scores
    elif value == "softmax twice":
        log_probs = scores.softmax(-1).log_softmax(-1)
    elif value == "log of softmax":
        log_probs = scores.softmax(-1).log()
    elif value == "quotient of exponentials":
        log_probs = (scores.exp() / scores.exp().sum(-1, keepdim=True)).log()
    elif value == "with 1e-8":
        log_probs = (scores.softmax(-1) + 1e-8).log()
    elif value == "with 1e-9":
        log_probs = (scores.softmax(-1) + 1e-9).log()
    elif value == "with 1e-10":
        log_probs = (scores.softmax(-1) + 1e-10).log()
    elif value == "with 1e-12":
        log_probs = (scores.softmax(-1) + 1e-12).log()
    else:
        log_probs = scores.log_softmax(-1)
    losses = -log_probs.gather(-1, targets[..., None]).squeeze(-1)
    if value in ("probability", "log of the mean"):
        return losses.neg().exp()
    if value == "one minus":
        return 1 - losses.neg().exp()
    if value == "smoothed":
        return 0.9 * losses - 0.1 * log_probs.mean(-1)
    if value == "smoothed over the others":
        return 0.9 * losses - 0.1 * (log_probs.sum(-1) + losses) / (V - 1)
    if value == "entropy":
        return -(log_probs.exp() * log_probs).sum(-1)
    if value == "wrong":
        return (scores.argmax(-1) != targets).float()
    return losses / math.log(2) if value == "bits" else losses


def averaged_with(
    losses: Tensor,
    counts: Tensor,
    n_tokens: int,
    mean: str,
    value: str,
    result: str,
    dtype: torch.dtype,
) -> Any:
    """One number of the losses; n_tokens is the size of the vocabulary."""
    rows = counts.sum(-1)
    total = {
        "sum": losses.sum(),
        "all positions": losses.mean(),
        "rows": losses.sum() / len(losses),
        "row means": (losses.sum(-1) / rows).mean(),
        "row means of some": (losses.sum(-1) / rows)[rows > 0].mean(),
        "row means of all positions": losses.mean(-1).mean(),
        "one more": losses.sum() / (counts.sum() + 1),
        "longest": losses.sum() / (rows.max() * len(losses)),
        "vocabulary": losses.sum() / counts.sum() / n_tokens,
    }.get(mean, losses.sum() / counts.sum())
    if mean == "root of the length":
        total = (losses.sum(-1) / rows.sqrt()).mean()
    if value == "perplexity":
        total = total.exp()
    if value == "log of the mean":
        total = -total.log()
    if value == "log of the mean, by logsumexp":
        total = counts.sum().log() - losses[counts].neg().logsumexp(0)
    return {
        "per token": losses,
        "per row": losses.sum(-1) / rows,
        "sum per row": losses.sum(-1),
        "counted": losses[counts],
        "(1,)": total[None],
    }.get(result, total.to(dtype))


UNSTABLE_SOFTMAX = (
    "the logarithm is taken of a softmax, which is rounded to 0 for a logit far below the others; "
    "log-softmax and cross-entropy subtract instead"
)
BACKWARDS = "the logits are compared with the token before them; they predict the next one"
OVERFLOW = (
    "for large logits, an exponential overflows to inf, or a softmax is rounded to 0, whose "
    "logarithm times 0 is nan; log-softmax and cross-entropy stay finite"
)
TINY_ADDED = (
    "a small number is added before the logarithm, so that no loss can be larger than its own; "
    "log-softmax needs none"
)
LOGITS_CLAMPED = (
    "the logits are clamped, which bounds the loss and leaves no gradient beyond the limits; "
    "log-softmax takes logits of any size"
)
EACH_ANSWER = (
    "each answer gets a mean of its own, and these are averaged; so a token of a long answer "
    "counts less than one of a short answer"
)
LABEL_SMOOTHING = (
    "a tenth of the loss is spread over the vocabulary (label smoothing); all of it belongs to the "
    "token that came"
)
LOG_OF_THE_MEAN = (
    "the probabilities are averaged before the logarithm; each token has its own logarithm"
)
OVER_POSITIONS = "the softmax runs over the positions; it runs over the vocabulary, the last axis"
ANSWERED = mistakes(
    answered_with,
    not_shifted=(
        "the logits of a position are compared with its own token; they predict the next one",
        {"shift": "none"},
    ),
    not_shifted_and_cut=(
        "logits and tokens are both cut at the end, so that they are still compared at the same "
        "position; the logits predict the next token",
        {"shift": "none, and cut"},
    ),
    only_the_mask_shifted=(
        "the mask is shifted and the tokens are not: the logits of a position are compared with "
        "its own token, and they predict the next one",
        {"shift": "none, but the mask"},
    ),
    shifted_backwards=(BACKWARDS, {"shift": "backwards"}),
    shifted_backwards_by_the_logits=(BACKWARDS, {"shift": "backwards, by the logits"}),
    shifted_by_two=("the logits are compared with the token two places later", {"shift": "by two"}),
    mask_of_the_logits=(
        "a loss counts if the position of its logits is in the answer; the token that they predict "
        "decides, so the first token of each answer is missing, and one after its end counts",
        {"mask": "with the logits"},
    ),
    wrapped_with_the_mask_of_the_logits=(
        "the tokens are shifted and the mask is not, and the last position predicts the first "
        "token of its row; shift the mask with the tokens",
        {"shift": "wrapped", "mask": "with the logits"},
    ),
    both_in_the_answer=(
        "a loss counts if both positions are in the answer; that leaves out its first token, which "
        "the prompt predicts",
        {"mask": "both"},
    ),
    either_in_the_answer=(
        "a loss counts if one of its two positions is in the answer; that counts the token after "
        "the end as well",
        {"mask": "either"},
    ),
    everything_counts=(
        "every token counts; the prompt is given, and the padding means nothing",
        {"counted": "all"},
    ),
    prompts_count=(
        "the mask is the wrong way round: what is not an answer counts",
        {"counted": "prompts"},
    ),
    id_0_for_padding=(
        "tokens with the id 0 are left out, and all others count; is_answer says which ones do",
        {"counted": "not 0"},
    ),
    id_0_left_out_of_answers=(
        "tokens with the id 0 are left out of the answers; in an answer, 0 is a token like others",
        {"counted": "not 0 in answers"},
    ),
    padding_counts=(
        "everything after the prompt counts, the padding too; only answers do",
        {"counted": "not the prompt"},
    ),
    first_to_last=(
        "all tokens from the first to the last of a row's answers count; what lies between two "
        "answers, such as the next request, does not",
        {"counted": "first to last"},
    ),
    targets_set_to_0=(
        "the tokens of prompt and padding are replaced by 0, and still count: the model learns to "
        "write token 0; leave them out",
        {"counted": "targets of 0"},
    ),
    last_token_missing=("the last token of each answer is missing", {"ends": "last missing"}),
    last_token_alone=(
        "only the last token of each answer counts; all of them do",
        {"ends": "last alone"},
    ),
    first_token_alone=(
        "only the first token of each answer counts; all of them do",
        {"ends": "first alone"},
    ),
    first_answer_alone=(
        "only the first answer of a row counts; a conversation has several, and all of them do",
        {"ends": "first of several"},
    ),
    last_answer_alone=(
        "only the last answer of a row counts; a conversation has several, and all of them do",
        {"ends": "last of several"},
    ),
    divided_by_all_positions=(
        "the losses of prompt and padding are set to 0, but the mean still counts them; divide by "
        "the number of the answers' tokens",
        {"mean": "all positions"},
    ),
    mean_of_each_answer=(EACH_ANSWER, {"mean": "row means"}),
    mean_of_each_answer_that_has_tokens=(EACH_ANSWER, {"mean": "row means of some"}),
    divided_by_the_answers=(
        "the sum is divided by the number of answers; divide by the number of their tokens",
        {"mean": "rows"},
    ),
    divided_by_the_longest=(
        "every answer is counted as long as the longest; divide by the tokens that there are",
        {"mean": "longest"},
    ),
    mean_over_the_vocabulary=(
        "the mean runs over the vocabulary as well; only the token that came has a loss",
        {"mean": "vocabulary"},
    ),
    not_divided=("this is a sum; a mean is asked for", {"mean": "sum"}),
    one_too_many=("the number of tokens is too large by 1", {"mean": "one more"}),
    root_of_the_length=(
        "each answer is divided by the root of its length; all tokens of the batch count the same",
        {"mean": "root of the length"},
    ),
    axes_reshaped=(
        "the axes T and V are reshaped, which mixes the values; they have to change places, or be "
        "flattened",
        {"value": "reshaped"},
    ),
    softmax_over_positions=(OVER_POSITIONS, {"value": "over the positions"}),
    softmax_over_all_positions=(OVER_POSITIONS, {"value": "over all positions"}),
    raw_logits=(
        "the logits are taken for log-probabilities (nll_loss expects those); the log-softmax is "
        "missing",
        {"value": "logits"},
    ),
    softmax_twice=(
        "the softmax is applied twice: cross-entropy expects logits, and has one of its own",
        {"value": "softmax twice"},
    ),
    log_of_softmax=(UNSTABLE_SOFTMAX, {"value": "log of softmax"}),
    log_of_softmax_multiplied=(
        "the logarithm is taken of a softmax, which is rounded to 0 for a logit far below the "
        "others, and a mask of 0 times minus infinity is nan; log-softmax is finite everywhere",
        {"value": "log of softmax", "zeroed": "multiplied"},
    ),
    quotient_of_exponentials=(OVERFLOW, {"value": "quotient of exponentials"}),
    quotient_of_exponentials_multiplied=(
        OVERFLOW,
        {"value": "quotient of exponentials", "zeroed": "multiplied"},
    ),
    logits_clamped_at_20=(LOGITS_CLAMPED, {"value": "clamped at 20"}),
    logits_clamped_at_50=(LOGITS_CLAMPED, {"value": "clamped at 50"}),
    logits_clamped_at_100=(LOGITS_CLAMPED, {"value": "clamped at 100"}),
    with_1e_8=(TINY_ADDED, {"value": "with 1e-8"}),
    with_1e_9=(TINY_ADDED, {"value": "with 1e-9"}),
    with_1e_10=(TINY_ADDED, {"value": "with 1e-10"}),
    with_1e_12=(TINY_ADDED, {"value": "with 1e-12"}),
    logits_masked=(
        "the logits outside the answers are multiplied by 0, and still count: each of them costs "
        "log V; leave out their losses",
        {"counted": "logits of 0"},
    ),
    probabilities=(
        "these are probabilities; the loss is minus their logarithm",
        {"value": "probability"},
    ),
    one_minus_probabilities=(
        "this is the mean of 1 - p; the loss is -log p",
        {"value": "one minus"},
    ),
    log_of_the_mean=(LOG_OF_THE_MEAN, {"value": "log of the mean"}),
    log_of_the_mean_by_logsumexp=(LOG_OF_THE_MEAN, {"value": "log of the mean, by logsumexp"}),
    label_smoothing=(LABEL_SMOOTHING, {"value": "smoothed"}),
    label_smoothing_over_the_others=(LABEL_SMOOTHING, {"value": "smoothed over the others"}),
    perplexity=("this is the perplexity; the loss itself is asked for", {"value": "perplexity"}),
    in_bits=("this is in bits; the natural logarithm is asked for", {"value": "bits"}),
    entropy=(
        "this is the entropy of the predictions; what the model gives to the token that came is "
        "asked for",
        {"value": "entropy"},
    ),
    share_of_wrong=(
        "this is the share of tokens that are not the most likely; the cross-entropy is asked for",
        {"value": "wrong"},
    ),
    negative=("the sign is wrong: a loss is minus a log-probability", {"sign": -1.0}),
    per_token=("these are losses of tokens; their mean is asked for", {"result": "per token"}),
    per_token_counted=(
        "these are losses of tokens; their mean is asked for",
        {"result": "counted"},
    ),
    per_row=("these are losses of answers; one number is asked for", {"result": "per row"}),
    sum_per_row=(
        "these are sums of answers; the mean over all tokens is asked for",
        {"result": "sum per row"},
    ),
    in_float64=("the loss is float64; float32 is asked for", {"dtype": torch.float64}),
)


# --- 9.12 bradley_terry_loss, and the last step of 9.13 ---


def pair_losses_with(x: Tensor, form: str) -> Tensor:
    """The loss of each pair, from the difference of its rewards."""
    sigmoid = x.sigmoid()
    tiny = {"1e-12": 1e-12, "1e-10": 1e-10, "1e-9": 1e-9, "1e-8": 1e-8, "1e-7": 1e-7, "1e-6": 1e-6}
    kind, _, number = form.partition(" with ")
    if kind == "added":
        return -(sigmoid + tiny[number]).log()
    if kind == "clamped":
        return -sigmoid.clamp(min=tiny[number]).log()
    if kind == "difference clamped":
        return F.softplus(-x.clamp(-float(number), float(number)))
    return {
        "log of sigmoid": -sigmoid.log(),
        "logarithm clamped": (-sigmoid.log()).clamp(max=100),
        "sigmoid twice": F.softplus(-sigmoid),
        "log of exp": (1 + (-x).exp()).log(),
        "one minus": 1 - sigmoid,
        "probability": sigmoid,
        "minus probability": -sigmoid,
        "hinge": (1 - x).relu(),
        "hinge at 0": (-x).relu(),
        "exponential": (-x).exp(),
        "difference": -x,
        "squared": (1 - x) ** 2,
        "squared probability": (1 - sigmoid) ** 2,
        "tanh": -(x.tanh() / 2 + 0.5).log(),
        "bits": F.softplus(-x) / math.log(2),
        "both": F.softplus(-x) + F.softplus(x),
        "wrong order": (x < 0).float(),
        "entropy": F.softplus(-x) * sigmoid,
    }.get(form, F.softplus(-x))


def reduced_with(losses: Tensor, reduction: str) -> Any:
    """One number, or what comes in its place."""
    return {
        "sum": losses.sum(),
        "none": losses,
        "half": losses.mean() / 2,
        "largest": losses.max(),
        "median": losses.median(),
        "first": losses[0],
        "n - 1": losses.sum() / max(len(losses) - 1, 1),
        "kept": losses.mean(-1, keepdim=True),
    }.get(reduction, losses.mean())


def preferred_with(
    chosen: Tensor,
    rejected: Tensor,
    *,
    order: float = 1.0,
    form: str = "loss",
    compared: str = "pairs",
    distance: bool = False,
    counted: str = "all",
    price: float = 0.0,
    margin: float = 0.0,
    scale: float = 1.0,
    sign: float = 1.0,
    reduction: str = "mean",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The loss of the pairs."""
    difference = chosen - rejected
    if compared == "all pairs":
        difference = (chosen[:, None] - rejected).flatten()
    elif compared == "means":
        difference = difference.mean()[None]
    elif compared == "sums":
        difference = difference.sum()[None]
    elif compared == "normalized":
        difference = (difference - difference.mean()) / (difference.std(correction=0) + 1e-8)
    elif compared == "probabilities":
        difference = chosen.sigmoid() - rejected.sigmoid()
    elif compared == "divided":
        difference = chosen / rejected
    difference = difference.abs() if distance else difference
    x = order * scale * difference - margin
    losses = pair_losses_with(x, form)
    if compared == "one by one":
        losses = F.softplus(-order * chosen) + F.softplus(order * rejected)
    elif compared == "chosen alone":
        losses = F.softplus(-order * chosen)
    elif compared == "chosen given softmax of the batch":
        losses = -chosen.log_softmax(0)
    elif compared == "softmax of the differences":
        losses = -difference.log_softmax(0)
    elif compared == "quotient":
        losses = -(chosen / (chosen + rejected)).log()
    elif compared == "quotient of exponentials":
        losses = -(chosen.exp() / (chosen.exp() + rejected.exp())).log()
    elif compared == "logarithm of the mean":
        losses = -x.sigmoid().mean().log()[None]
    elif compared == "logarithms apart":
        losses = F.logsigmoid(order * rejected) - F.logsigmoid(order * chosen)
    elif compared == "logarithm of the difference":
        losses = -(chosen.sigmoid() - rejected.sigmoid()).log()
    if counted.startswith("wrong order"):
        is_wrong = (x <= 0).expand_as(losses)
        share = is_wrong.float().mean().clamp(min=1 / len(losses))
        losses = torch.where(is_wrong, losses, 0.0)
        losses = losses / share if counted == "wrong order alone" else losses
    losses = losses + price * (chosen + rejected) ** 2 if price else losses
    found = reduced_with(sign * losses, reduction)
    return found.to(dtype) if isinstance(found, Tensor) else found


UNSTABLE_SIGMOID = (
    "for a pair far in the wrong order an exponential overflows, or a sigmoid is rounded to 0, and "
    "the loss is inf or nan; a function that is made for the logarithm of a sigmoid needs neither"
)
BOUNDED = (
    "a small number keeps the logarithm finite, but the loss of a pair in the wrong order must "
    "grow with the difference, up to 1000 and beyond; no such number is needed"
)
JUDGED_ALONE = (
    "each reward is judged by itself, as if 0 were the limit between good and bad; only the "
    "difference within a pair means something"
)
SIGMOIDS_APART = (
    "each reward gets a sigmoid of its own, and these are compared; the sigmoid is of the "
    "difference of the two rewards"
)
WRONG_ORDER_ALONE = (
    "pairs in the right order are left out; they have a loss as well, which falls with the "
    "difference"
)
SMALL_NUMBERS = ("1e-12", "1e-10", "1e-9", "1e-8", "1e-7", "1e-6")
KEPT_FINITE = {
    f"{kind}_{number.replace('-', '_')}": (BOUNDED, {"form": f"{kind} with {number}"})
    for kind in ("added", "clamped")
    for number in SMALL_NUMBERS
}
LOSS_CUT_OFF = (  # a difference clamped to 100 gives the same
    "no loss is above 100: F.binary_cross_entropy cuts the logarithm off, or the differences are "
    "clamped; a pair far in the wrong order needs its full loss, which a function made for the "
    "logarithm of a sigmoid gives"
)
DIFFERENCE_CLAMPED = {
    f"difference_clamped_to_{limit}": (
        f"the differences are clamped to {limit}; a pair far in the wrong order needs its full "
        "loss",
        {"form": f"difference clamped with {limit}"},
    )
    for limit in (10, 20, 30, 50, 80, 88)
}
PREFERRED = mistakes(
    preferred_with,
    reversed=(
        "the pair is the wrong way round: this loss falls as the rejected answer gets more, so "
        "that training would teach to prefer it",
        {"order": -1.0},
    ),
    log_of_sigmoid=(UNSTABLE_SIGMOID, {"form": "log of sigmoid"}),
    log_of_one_plus_exp=(UNSTABLE_SIGMOID, {"form": "log of exp"}),
    quotient_of_exponentials=(UNSTABLE_SIGMOID, {"compared": "quotient of exponentials"}),
    **KEPT_FINITE,
    no_logarithm=(
        "this is the probability of the wrong order; the loss is minus the logarithm of the "
        "probability of the right one",
        {"form": "one minus"},
    ),
    probability=(
        "this is the probability itself; the loss is minus its logarithm",
        {"form": "probability"},
    ),
    minus_probability=(
        "this is minus the probability; its logarithm is missing",
        {"form": "minus probability"},
    ),
    hinge=(
        "this is a hinge loss, which is 0 from a difference of 1 on; Bradley and Terry's never is",
        {"form": "hinge"},
    ),
    hinge_at_0=(
        "only the difference of pairs in the wrong order counts; those in the right one still have "
        "a loss, which falls with the difference",
        {"form": "hinge at 0"},
    ),
    exponential=("this is e^-d; the loss is log(1 + e^-d)", {"form": "exponential"}),
    difference_alone=(
        "this is the difference of the rewards, which may fall for ever; the loss is minus the "
        "logarithm of its sigmoid",
        {"form": "difference"},
    ),
    squared=(
        "this is the squared distance of the difference from 1; no such aim is given",
        {"form": "squared"},
    ),
    tanh_for_sigmoid=(
        "this sigmoid is too steep: that of d is 1 / (1 + e^-d), half of 1 + tanh(d / 2)",
        {"form": "tanh"},
    ),
    in_bits=("this is in bits; the natural logarithm is asked for", {"form": "bits"}),
    both_orders=(
        "both orders of a pair are added, the wrong one as well; only the preference that the "
        "judge stated counts",
        {"form": "both"},
    ),
    **DIFFERENCE_CLAMPED,
    logarithm_clamped=(LOSS_CUT_OFF, {"form": "logarithm clamped"}),
    sigmoid_twice=(
        "the sigmoid is applied twice: a function for logits, such as logsigmoid, has one of its "
        "own",
        {"form": "sigmoid twice"},
    ),
    share_of_wrong=(
        "this is the share of pairs in the wrong order, which has no gradient",
        {"form": "wrong order"},
    ),
    judged_alone=(JUDGED_ALONE, {"compared": "one by one"}),
    judged_alone_and_averaged=(JUDGED_ALONE, {"compared": "one by one", "reduction": "half"}),
    chosen_alone=(
        "the rejected answer's reward is left out; only the difference within a pair means "
        "something",
        {"compared": "chosen alone"},
    ),
    softmax_of_the_batch=(
        "each chosen reward is compared with those of the other pairs; it is compared with the "
        "rejected one of its own",
        {"compared": "chosen given softmax of the batch"},
    ),
    softmax_of_the_differences=(
        "a softmax over the batch compares the pairs with each other; each pair has a probability "
        "of its own, the sigmoid of its difference",
        {"compared": "softmax of the differences"},
    ),
    rewards_divided=(
        "the sigmoid is of the quotient of the rewards; it is of their difference",
        {"compared": "divided"},
    ),
    quotient_of_rewards=(
        "the rewards are divided as if they were positive; Bradley and Terry's strengths are e to "
        "the power of the rewards",
        {"compared": "quotient"},
    ),
    every_pair=(
        "every chosen answer is compared with every rejected one; the two of a pair belong "
        "together",
        {"compared": "all pairs"},
    ),
    mean_before_the_loss=(
        "the differences are averaged before the loss; each pair has a loss of its own",
        {"compared": "means"},
    ),
    logarithm_of_the_mean=(
        "the probabilities are averaged before the logarithm; each pair has its own logarithm",
        {"compared": "logarithm of the mean"},
    ),
    sigmoids_compared=(
        "the rewards are sent through a sigmoid before they are compared; their difference is",
        {"compared": "probabilities"},
    ),
    logarithms_apart=(SIGMOIDS_APART, {"compared": "logarithms apart"}),
    logarithm_of_the_difference=(SIGMOIDS_APART, {"compared": "logarithm of the difference"}),
    distance=(
        "the distance of the two rewards counts; it matters which of them is larger",
        {"distance": True},
    ),
    wrong_order_alone=(WRONG_ORDER_ALONE, {"counted": "wrong order alone"}),
    wrong_order_of_all=(WRONG_ORDER_ALONE, {"counted": "wrong order, of all"}),
    price_of_the_size=(
        "a hundredth of the squared sum of the two rewards is added, to keep them around 0; only "
        "their difference counts",
        {"price": 0.01},
    ),
    with_a_margin=("the difference is reduced by a margin of 1; none is given", {"margin": 1.0}),
    halved_difference=("the difference is halved", {"scale": 0.5}),
    negative=(
        "the sign is wrong: minus the logarithm of a probability is positive",
        {"sign": -1.0},
    ),
    not_divided=("this is a sum; the mean over the pairs is asked for", {"reduction": "sum"}),
    halved=(
        "the sum is divided by the number of answers; that of pairs is half of it",
        {"reduction": "half"},
    ),
    per_pair=("these are losses of pairs; their mean is asked for", {"reduction": "none"}),
    shape_1=("this has the shape (1,); a scalar is asked for", {"reduction": "kept"}),
    in_float64=("the loss is float64; float32 is asked for", {"dtype": torch.float64}),
)


# --- 9.13 dpo_loss ---


def optimized_with(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float = 0.1,
    *,
    gains: str = "over the reference",
    order: float = 1.0,
    scaled: str = "within",
    form: str = "loss",
    compared: str = "pairs",
    sign: float = 1.0,
    reduction: str = "mean",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """DPO's loss of the pairs."""
    beta = 0.1 if scaled == "always 0.1" else beta
    up, down = gains_with(chosen, rejected, ref_chosen, ref_rejected, gains, beta)
    if compared == "added":
        down = -down
    h = order * (up - down)
    if scaled == "chosen alone":
        h = order * (up * beta - down)
    x = {
        "missing": h,
        "outside": h,
        "chosen alone": h,
        "divided": h / beta,
        "squared": h * beta**2,
        "root": h * beta**0.5,
        "added": h + beta,
        "subtracted": h - beta,
        "halved": h * beta / 2,
        "in both": h * beta,
    }.get(scaled, beta * h)
    if compared == "mean first":
        x = x.mean()[None]
    losses = pair_losses_with(x, form)
    if compared == "softmax of the batch":
        losses = -(order * beta * up).log_softmax(0)
    if form == "IPO":
        losses = (h - 1 / (2 * beta)) ** 2
    elif form == "hinge":
        losses = (1 - x).relu()
    elif form == "smoothed":
        losses = F.softplus(-x) + 0.1 * x
    elif compared == "one by one":
        losses = F.softplus(-beta * up) + F.softplus(beta * down)
    elif compared == "logarithms apart":
        losses = F.logsigmoid(beta * down) - F.logsigmoid(beta * up)
    elif compared == "logarithm of the difference":
        losses = -((beta * up).sigmoid() - (beta * down).sigmoid()).log()
    elif compared == "logarithm of the mean":
        losses = -x.sigmoid().mean().log()[None]
    losses = losses * beta if scaled in ("outside", "in both") else losses
    found = reduced_with(sign * losses, reduction)
    return found.to(dtype) if isinstance(found, Tensor) else found


def gains_with(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    gains: str,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """What the policy has gained for each answer."""
    zero = torch.zeros_like(chosen)
    kind, _, number = gains.partition(" with ")
    if kind == "clamped":
        up, down = chosen - ref_chosen, rejected - ref_rejected
        return up.clamp(-float(number), float(number)), down.clamp(-float(number), float(number))
    if kind == "exponentiated" and number:
        tiny = float(number)
        return (
            (chosen.exp() / (ref_chosen.exp() + tiny) + tiny).log(),
            (rejected.exp() / (ref_rejected.exp() + tiny) + tiny).log(),
        )
    return {
        "without the reference": (chosen, rejected),
        "reference alone": (ref_chosen, ref_rejected),
        "reference added": (chosen + ref_chosen, rejected + ref_rejected),
        "reference exchanged": (chosen - ref_rejected, rejected - ref_chosen),
        "chosen alone": (chosen - ref_chosen, zero),
        "rejected alone": (zero, rejected - ref_rejected),
        "reference for chosen": (chosen - ref_chosen, rejected),
        "reference for rejected": (chosen, rejected - ref_rejected),
        "reference's chosen twice": (chosen - ref_chosen, rejected - ref_chosen),
        "policy against reference": (chosen - ref_rejected, zero),
        "probabilities": ((chosen - ref_chosen).exp(), (rejected - ref_rejected).exp()),
        "probabilities' difference": (
            chosen.exp() - ref_chosen.exp(),
            rejected.exp() - ref_rejected.exp(),
        ),
        "exponentiated": (
            (chosen.exp() / ref_chosen.exp()).log(),
            (rejected.exp() / ref_rejected.exp()).log(),
        ),
        "divided": (chosen / ref_chosen, rejected / ref_rejected),
        "distance": ((chosen - ref_chosen).abs(), (rejected - ref_rejected).abs()),
        "never below 0": ((chosen - ref_chosen).relu(), (rejected - ref_rejected).relu()),
        "beta on the reference": (chosen - beta * ref_chosen, rejected - beta * ref_rejected),
        "beta on the policy": (beta * chosen - ref_chosen, beta * rejected - ref_rejected),
        "parentheses missing": (chosen - ref_chosen, rejected + ref_rejected),
        "logarithms again": (
            (chosen / ref_chosen).abs().log(),
            (rejected / ref_rejected).abs().log(),
        ),
    }.get(gains, (chosen - ref_chosen, rejected - ref_rejected))


REFERENCE_ADDED = (
    "the reference's difference is added to the policy's, or its two numbers are exchanged; what "
    "counts is each answer's own gain over the reference"
)
GAINS_CLAMPED = (
    "the logarithms of policy / reference are clamped, so that an answer which has moved far from "
    "the reference counts too little, and has no gradient"
)
EXPONENTIATED = (
    "exponentials are computed, and a small number is added, next to which the probability of a "
    "whole answer vanishes; the logarithms are given, and their difference is enough"
)
OPTIMIZED = mistakes(
    optimized_with,
    without_the_reference=(
        "the reference is left out: what counts is what the policy has gained over it",
        {"gains": "without the reference"},
    ),
    reference_alone=(
        "the policy is left out: only the reference is compared",
        {"gains": "reference alone"},
    ),
    reference_added=(REFERENCE_ADDED, {"gains": "reference added"}),
    reference_exchanged=(REFERENCE_ADDED, {"gains": "reference exchanged"}),
    chosen_alone=(
        "only the chosen answer's reward is there; that of the rejected one is missing",
        {"gains": "chosen alone"},
    ),
    rejected_alone=(
        "only the rejected answer's reward is there; that of the chosen one is missing",
        {"gains": "rejected alone"},
    ),
    no_reference_for_rejected=(
        "the rejected answer is not compared with the reference",
        {"gains": "reference for chosen"},
    ),
    no_reference_for_chosen=(
        "the chosen answer is not compared with the reference",
        {"gains": "reference for rejected"},
    ),
    probabilities_divided=(
        "the rewards are the quotients of the probabilities; their logarithms are asked for",
        {"gains": "probabilities"},
    ),
    probabilities_subtracted=(
        "the probabilities are subtracted, of whole answers all but 0; their logarithms are given, "
        "and a difference of those is what is needed",
        {"gains": "probabilities' difference"},
    ),
    exponentiated=(
        "exponentials are computed before a logarithm is taken again; for a whole answer they are "
        "0 or inf, and the loss is nan; the logarithms are given, and their difference is enough",
        {"gains": "exponentiated"},
    ),
    exponentiated_with_1e_8=(EXPONENTIATED, {"gains": "exponentiated with 1e-8"}),
    exponentiated_with_1e_10=(EXPONENTIATED, {"gains": "exponentiated with 1e-10"}),
    exponentiated_with_1e_12=(EXPONENTIATED, {"gains": "exponentiated with 1e-12"}),
    gains_clamped_to_5=(GAINS_CLAMPED, {"gains": "clamped with 5"}),
    gains_clamped_to_10=(GAINS_CLAMPED, {"gains": "clamped with 10"}),
    gains_clamped_to_20=(GAINS_CLAMPED, {"gains": "clamped with 20"}),
    log_probabilities_divided=(
        "the log-probabilities are divided; the logarithm of a quotient is a difference",
        {"gains": "divided"},
    ),
    logarithm_of_the_logarithms=(
        "a logarithm is taken of the log-probabilities, which are logarithms already",
        {"gains": "logarithms again"},
    ),
    distances=(
        "the distances from the reference count; it matters in which direction",
        {"gains": "distance"},
    ),
    beta_on_the_reference=(
        "beta scales the reference's log-probabilities; it scales the whole difference",
        {"gains": "beta on the reference", "scaled": "missing"},
    ),
    beta_on_the_policy=(
        "beta scales the policy's log-probabilities alone; it scales the whole difference",
        {"gains": "beta on the policy", "scaled": "missing"},
    ),
    parentheses_missing=(
        "the reference's log-probability of the rejected answer has the wrong sign: a minus in "
        "front of a difference turns both of its signs round",
        {"gains": "parentheses missing"},
    ),
    reversed=(
        "the sign of the difference is wrong, so that the rejected answer becomes more likely: "
        "chosen and rejected, or policy and reference, are exchanged",
        {"order": -1.0},
    ),
    gains_added=(
        "the rewards of the two answers are added; that of the rejected one is subtracted",
        {"compared": "added"},
    ),
    beta_missing=("beta is missing", {"scaled": "missing"}),
    beta_outside=(
        "beta multiplies the loss; it belongs to the rewards, within the sigmoid",
        {"scaled": "outside"},
    ),
    beta_within_and_outside=(
        "beta multiplies the loss as well; it belongs to the rewards, and only there",
        {"scaled": "in both"},
    ),
    divided_by_beta=("the rewards are divided by beta; multiply", {"scaled": "divided"}),
    beta_squared=("beta is there twice", {"scaled": "squared"}),
    beta_always_01=("beta is always 0.1; use the argument", {"scaled": "always 0.1"}),
    beta_on_chosen_alone=(
        "beta scales the gain of the chosen answer alone; it scales both",
        {"scaled": "chosen alone"},
    ),
    halved_difference=("the difference of the rewards is halved", {"scaled": "halved"}),
    beta_added=("beta is added; it is a factor", {"scaled": "added"}),
    beta_subtracted=("beta is subtracted like a margin; it is a factor", {"scaled": "subtracted"}),
    log_of_sigmoid=(UNSTABLE_SIGMOID, {"form": "log of sigmoid"}),
    log_of_one_plus_exp=(UNSTABLE_SIGMOID, {"form": "log of exp"}),
    **KEPT_FINITE,
    no_logarithm=(
        "this is 1 minus the sigmoid; the loss is minus the logarithm of the sigmoid",
        {"form": "one minus"},
    ),
    probability=(
        "this is the sigmoid itself; the loss is minus its logarithm",
        {"form": "probability"},
    ),
    minus_probability=(
        "this is minus the sigmoid; its logarithm is missing",
        {"form": "minus probability"},
    ),
    hinge=(
        "this is a hinge loss, which is 0 from a difference of 1 on; Bradley and Terry's never is",
        {"form": "hinge"},
    ),
    smoothed=(
        "one pair in ten is taken for the wrong way round (the label smoothing of cDPO); none is",
        {"form": "smoothed"},
    ),
    ipo=(
        "this is the squared loss of IPO; Bradley and Terry's is asked for",
        {"form": "IPO"},
    ),
    exponential=("this is e^-x; the loss is log(1 + e^-x)", {"form": "exponential"}),
    difference_alone=(
        "this is the difference of the rewards; the loss is minus the logarithm of its sigmoid",
        {"form": "difference"},
    ),
    in_bits=("this is in bits; the natural logarithm is asked for", {"form": "bits"}),
    **DIFFERENCE_CLAMPED,
    logarithm_clamped=(LOSS_CUT_OFF, {"form": "logarithm clamped"}),
    judged_alone=(JUDGED_ALONE, {"compared": "one by one"}),
    logarithms_apart=(SIGMOIDS_APART, {"compared": "logarithms apart"}),
    logarithm_of_the_difference=(SIGMOIDS_APART, {"compared": "logarithm of the difference"}),
    softmax_of_the_batch=(
        "the softmax runs over the pairs of the batch; it belongs to the two answers of a pair",
        {"compared": "softmax of the batch"},
    ),
    mean_before_the_loss=(
        "the differences are averaged before the loss; each pair has a loss of its own",
        {"compared": "mean first"},
    ),
    logarithm_of_the_mean=(
        "the probabilities are averaged before the logarithm; each pair has its own logarithm",
        {"compared": "logarithm of the mean"},
    ),
    negative=("the sign is wrong: minus the logarithm of a sigmoid is positive", {"sign": -1.0}),
    not_divided=("this is a sum; the mean over the pairs is asked for", {"reduction": "sum"}),
    halved=(
        "the sum is divided by the number of answers; that of pairs is half of it",
        {"reduction": "half"},
    ),
    per_pair=("these are losses of pairs; their mean is asked for", {"reduction": "none"}),
    in_float64=("the loss is float64; float32 is asked for", {"dtype": torch.float64}),
)


# --- 9.14 group_advantages ---


def grouped_rewards_with(
    rewards: Tensor,
    *,
    over: str = "group",
    centre: str = "mean",
    spread: str = "population",
    eps: float = 1e-4,
    added: str = "to the deviation",
    sign: float = 1.0,
    keep: bool = True,
    result: str = "all",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The advantages."""
    if over == "interleaved":  # of all rewards, number i is taken for prompt i modulo n_prompts
        rows = rewards.reshape(rewards.size(1), rewards.size(0)).T
        settings: Any = {"centre": centre, "spread": spread, "eps": eps, "added": added}
        return grouped_rewards_with(rows, **settings, sign=sign).T.reshape(rewards.shape)
    if result == "none of one":
        rewards = rewards.squeeze()
    axes: Any = {"prompts": 0, "batch": (0, 1)}.get(over, 1)
    spread_axes: Any = {"batch deviation": (0, 1), "prompts' deviation": 0}.get(over, axes)
    middle = rewards.mean(axes, keepdim=keep)
    if over == "batch mean":
        middle = rewards.mean()
    n = rewards.size(1)
    middle = {
        "none": torch.zeros_like(middle),
        "median": rewards.median(1, keepdim=True).values,
        "smallest": rewards.amin(1, keepdim=True),
        "largest": rewards.amax(1, keepdim=True),
        "first": rewards[:, :1],
        "half": torch.full_like(middle, 0.5),
        "others": (rewards.sum(1, keepdim=True) - rewards) / max(n - 1, 1),
    }.get(centre, middle)
    centred = sign * (rewards - middle)
    deviation = spread_with(rewards, spread, spread_axes, keep)
    if added.startswith("within the root"):
        eps = float(added.removeprefix("within the root") or eps)
        advantages = centred / (deviation**2 + eps).sqrt()
    elif added == "above and below":
        advantages = (centred + eps) / (deviation + eps)
    elif added == "as a limit":
        advantages = centred / deviation.clamp(min=eps)
    elif added == "nan to 0":
        advantages = (centred / deviation).nan_to_num(0.0)
    elif added == "brackets":
        advantages = sign * (rewards - middle / (deviation + eps))
    elif added == "where 0":
        advantages = centred / torch.where(deviation == 0, 1.0, deviation)
    elif added == "without parentheses":
        advantages = centred / deviation + eps
    elif added == "subtracted":
        advantages = centred / (deviation - eps)
    else:
        advantages = centred / (deviation + eps)
    if result == "reward of one" and n == 1:
        return rewards
    if result.startswith("normalized again"):
        eps = float(result.removeprefix("normalized again with "))
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + eps)
    advantages = {
        "clamped": advantages.clamp(-1, 1),
        "tanh": advantages.tanh(),
        "positive": advantages.relu(),
        "mean": advantages.mean(1),
        "flat": advantages.flatten(),
        "turned": advantages.mT,
        "softmax": rewards.softmax(1),
        "ranks": rewards.argsort(1).argsort(1).float(),
        "centred again": advantages - advantages.mean(1, keepdim=True),
    }.get(result, advantages)
    return advantages.to(dtype)


def spread_with(rewards: Tensor, spread: str, axes: Any, keep: bool) -> Tensor:
    """What the distances from the mean are divided by."""
    if spread == "sample":
        return rewards.std(axes, keepdim=keep)
    if spread == "all distances":
        return (rewards - rewards.mean(1, keepdim=True)).std(correction=0)
    if spread == "none":
        return torch.ones_like(rewards.mean(axes, keepdim=keep))
    if spread == "variance":
        return rewards.var(axes, correction=0, keepdim=keep)
    if spread == "sample variance":
        return rewards.var(axes, keepdim=keep)
    if spread == "absolute":
        middle = rewards.mean(axes, keepdim=True)
        return (rewards - middle).abs().mean(axes, keepdim=keep)
    if spread == "absolute, from the median":
        middle = rewards.median(1, keepdim=True).values
        return (rewards - middle).abs().mean(axes, keepdim=keep)
    if spread == "range":
        return rewards.amax(axes, keepdim=keep) - rewards.amin(axes, keepdim=keep)
    if spread == "not centred":
        return (rewards**2).mean(axes, keepdim=keep).sqrt()
    if spread == "not averaged":
        return (rewards - rewards.mean(axes, keepdim=True)).norm(dim=axes, keepdim=keep)
    if spread == "root of G":
        return rewards.std(axes, correction=0, keepdim=keep) / rewards.size(1) ** 0.5
    if spread == "mean":
        return rewards.mean(axes, keepdim=keep)
    if spread == "sum of squares":
        return ((rewards - rewards.mean(axes, keepdim=True)) ** 2).sum(axes, keepdim=keep)
    return rewards.std(axes, correction=0, keepdim=keep)


NO_EPS = (
    "nothing is added to the deviation: 0 / 0 is nan for a group of equal rewards, and a group "
    "that hardly differs gets advantages as large as any other"
)
ZERO_AFTERWARDS = (
    "nothing, or hardly anything, is added to the deviation, even if equal rewards are treated "
    "apart; with 1e-4 added, groups that hardly differ count less, and equal ones 0"
)
OTHER_EPS = "another number is added to the deviation; 1e-4 is asked for"
NORMALIZED_AGAIN = (
    "the advantages are normalized once more, over the whole batch; a group of equal rewards makes "
    "those of the others larger then"
)
GROUP_REWARDS = mistakes(
    grouped_rewards_with,
    sample_deviation=(
        "the deviation is that of a sample, which divides by G - 1; a population's divides by G",
        {"spread": "sample"},
    ),
    whole_batch=(
        "mean and deviation are those of the whole batch; each prompt is a group of its own, so "
        "that an easy prompt is not an advantage",
        {"over": "batch"},
    ),
    over_the_prompts=(
        "mean and deviation run over the prompts; a group is the answers to one prompt, a row",
        {"over": "prompts"},
    ),
    groups_interleaved=(
        "the rewards are regrouped, as if the prompts took turns; the answers to one prompt are a "
        "row already",
        {"over": "interleaved"},
    ),
    deviation_of_the_batch=(
        "the mean is that of the group, but the deviation that of the whole batch",
        {"over": "batch deviation"},
    ),
    deviation_of_all_distances=(
        "the mean is that of the group, but the deviation is over the distances of all groups",
        {"spread": "all distances"},
    ),
    mean_of_the_batch=(
        "the deviation is that of the group, but the mean that of the whole batch",
        {"over": "batch mean"},
    ),
    keepdim_missing=(
        "the means (n_prompts,) are broadcast along the wrong axis: the last axes are aligned; "
        "keep the axis that is reduced",
        {"keep": False},
    ),
    no_eps=(NO_EPS, {"eps": 0.0}),
    nan_to_0=(ZERO_AFTERWARDS, {"added": "nan to 0"}),
    one_where_0=(ZERO_AFTERWARDS, {"added": "where 0"}),
    eps_1e_8=(OTHER_EPS, {"eps": 1e-8}),
    eps_1e_6=(OTHER_EPS, {"eps": 1e-6}),
    eps_1e_5=(OTHER_EPS, {"eps": 1e-5}),
    eps_1e_3=(OTHER_EPS, {"eps": 1e-3}),
    eps_1e_2=(OTHER_EPS, {"eps": 1e-2}),
    eps_1e_1=(OTHER_EPS, {"eps": 0.1}),
    eps_1=(OTHER_EPS, {"eps": 1.0}),
    eps_within_the_root=(
        "1e-4 is added to the variance, before the root; add it to the deviation",
        {"added": "within the root"},
    ),
    eps_of_layer_norm=(
        "1e-5 is added to the variance, as F.layer_norm does; 1e-4 is added to the deviation",
        {"added": "within the root 1e-5"},
    ),
    tiny_eps_within_the_root=(
        "1e-8 is added to the variance, before the root; 1e-4 is added to the deviation",
        {"added": "within the root 1e-8"},
    ),
    eps_as_a_limit=(
        "the distances are divided by at least 1e-4; it is added to the deviation",
        {"added": "as a limit"},
    ),
    eps_above_as_well=(
        "1e-4 is added to the distances as well; only to the deviation",
        {"added": "above and below"},
    ),
    eps_after_the_division=(
        "1e-4 is added after the division; parentheses are missing",
        {"added": "without parentheses"},
    ),
    only_the_mean_divided=(
        "only the mean is divided by the deviation; the difference needs parentheses",
        {"added": "brackets"},
    ),
    not_divided=(
        "the rewards are centred and not divided by the deviation",
        {"spread": "none", "eps": 0.0},
    ),
    divided_by_one_and_eps=(
        "the rewards are centred and not divided by the deviation",
        {"spread": "none"},
    ),
    variance=(
        "the distances are divided by the variance; the deviation is its root",
        {"spread": "variance"},
    ),
    sample_variance=(
        "the distances are divided by the variance of a sample; the deviation is the root of a "
        "mean of squares",
        {"spread": "sample variance"},
    ),
    absolute_deviation=(
        "the distances are divided by their mean size; the deviation is the root of their mean "
        "square",
        {"spread": "absolute"},
    ),
    divided_by_the_range=(
        "the distances are divided by the range of the group; its deviation is asked for",
        {"spread": "range"},
    ),
    between_0_and_1=(
        "the rewards are scaled to lie between 0 and 1; mean and deviation are asked for",
        {"spread": "range", "centre": "smallest"},
    ),
    squares_not_centred=(
        "the deviation is the root of the mean squared reward; the mean is subtracted first",
        {"spread": "not centred"},
    ),
    squares_not_averaged=(
        "the distances are divided by the root of the sum of their squares; a mean is missing",
        {"spread": "not averaged"},
    ),
    error_of_the_mean=(
        "the deviation is divided by the root of G, which is the standard error of the mean",
        {"spread": "root of G"},
    ),
    divided_by_the_mean=(
        "the distances are divided by the mean; the deviation is asked for",
        {"spread": "mean"},
    ),
    not_centred=(
        "the mean is not subtracted, so that every answer to an easy prompt has an advantage",
        {"centre": "none"},
    ),
    median_and_distances_from_it=(
        "the distances from the median are divided by their mean size; mean and deviation are "
        "asked for",
        {"centre": "median", "spread": "absolute, from the median"},
    ),
    median=("the median is subtracted; the mean is asked for", {"centre": "median"}),
    from_the_smallest=(
        "the smallest reward is subtracted; the mean is asked for",
        {"centre": "smallest"},
    ),
    from_the_largest=(
        "the largest reward is subtracted; the mean is asked for",
        {"centre": "largest"},
    ),
    from_the_first=("the first reward is subtracted; the mean is asked for", {"centre": "first"}),
    from_the_others=(
        "each reward is compared with the mean of the others; the group's mean includes its own",
        {"centre": "others"},
    ),
    from_the_others_not_divided=(
        "each reward is compared with the mean of the others, and not divided by the deviation",
        {"centre": "others", "spread": "none", "eps": 0.0},
    ),
    reversed=(
        "the sign is wrong: a reward above the mean has a positive advantage",
        {"sign": -1.0},
    ),
    reward_of_one=(
        "a single answer keeps its reward; the mean of its group is that reward, so it gets 0",
        {"result": "reward of one"},
    ),
    normalized_again=(NORMALIZED_AGAIN, {"result": "normalized again with 1e-4"}),
    normalized_again_with_1e_8=(NORMALIZED_AGAIN, {"result": "normalized again with 1e-8"}),
    clamped=("the advantages are clamped to between -1 and 1", {"result": "clamped"}),
    positive_alone=(
        "negative advantages are set to 0; a bad answer has to become less likely",
        {"result": "positive"},
    ),
    mean_per_group=(
        "this is one number per group; each answer has its own",
        {"result": "mean"},
    ),
    flattened=("the axes are flattened; (n_prompts, G) is asked for", {"result": "flat"}),
    turned=("the axes are exchanged; (n_prompts, G) is asked for", {"result": "turned"}),
    softmax=(
        "this is a softmax of the rewards; distances from the mean in deviations are asked for",
        {"result": "softmax"},
    ),
    ranks=("these are ranks; the rewards themselves count", {"result": "ranks"}),
    in_float64=("the advantages are float64; float32 is asked for", {"dtype": torch.float64}),
)


# --- 9.15 kl_k3 ---


def estimated_with(
    log_probs: Tensor,
    ref_log_probs: Tensor,
    *,
    ratio: str = "reference / policy",
    form: str = "k3",
    limit: float = math.inf,
    result: str = "per token",
    sign: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The estimate of each token."""
    kind, _, number = ratio.partition(" with ")
    tiny = float(number or 0)
    log_ratio = {
        "policy / reference": log_probs - ref_log_probs,
        "of the logarithms": (ref_log_probs / log_probs).log(),
        "of the logarithms, reversed": (log_probs / ref_log_probs).log(),
        "logarithms twice": ref_log_probs.log() - log_probs.log(),
        "of exponentials": (ref_log_probs.exp() / log_probs.exp()).log(),
        "probabilities": log_probs.new_zeros(()) + ref_log_probs.exp() - log_probs.exp(),
        "sum": ref_log_probs + log_probs,
        "normalized": ref_log_probs.log_softmax(-1) - log_probs.log_softmax(-1),
        "small number in both": ((ref_log_probs.exp() + tiny) / (log_probs.exp() + tiny)).log(),
        "small number": (ref_log_probs.exp() / (log_probs.exp() + tiny) + tiny).log(),
    }.get(kind, ref_log_probs - log_probs)
    log_ratio = log_ratio.clamp(-limit, limit)
    exact = log_ratio.exp()
    values = {
        "k1": -log_ratio,
        "log ratio": log_ratio,
        "absolute k1": log_ratio.abs(),
        "k1 above 0": (-log_ratio).relu(),
        "k2": log_ratio**2 / 2,
        "squared": log_ratio**2,
        "1 missing": exact - log_ratio,
        "logarithm missing": exact - 1,
        "logarithm added": exact - 1 + log_ratio,
        "1 twice": exact - 2 - log_ratio,
        "series": log_ratio**2 / 2 + log_ratio**3 / 6,
        "1 added": exact + 1 - log_ratio,
        "1 missing, logarithm added": exact + log_ratio,
        "square for the exponential": log_ratio**2 - 1 - log_ratio,
        "ratio": exact,
        "1 minus": 1 - exact,
        "exponential missing": log_ratio - 1 - log_ratio,
        "logarithm of the logarithm": log_ratio - 1 - log_ratio.log(),
        "k2 of the ratio": (exact - 1) ** 2 / 2,
        "weighted by the policy": -log_probs.exp() * log_ratio,
        "weighted by the reference": ref_log_probs.exp() * log_ratio,
        "k3 weighted": log_probs.exp() * (exact - 1 - log_ratio),
        "both directions": (exact + 1 / exact) / 2 - 1,
        "sum of both directions": exact + 1 / exact - 2,
        "halved": (exact - 1 - log_ratio) / 2,
        "decimal": exact - 1 - log_ratio / math.log(10),
        "bits": exact - 1 - log_ratio / math.log(2),
        "all in bits": (exact - 1 - log_ratio) / math.log(2),
        "ratio times logarithm": exact * log_ratio,
        "reversed with its own sign": exact * log_ratio - exact + 1,
        "at least 0": (exact - 1 - log_ratio).clamp(max=10),
        "squared difference": (ref_log_probs.exp() - log_probs.exp()) ** 2,
    }.get(form, exact - 1 - log_ratio)
    values = sign * values
    return {
        "mean": values.mean(),
        "sum": values.sum(),
        "mean of rows": values.mean(-1),
        "sum of rows": values.sum(-1),
        "flat": values.flatten(),
        "list": values.tolist(),
    }.get(result, values.to(dtype))


CUT_OFF = (
    "the logarithm of the ratio is cut off; that hides the tokens which are furthest from the "
    "reference, and has no gradient there"
)
SMALL_NUMBER = (
    "the probabilities themselves are divided, with a small number added, which bounds the ratio; "
    "the exponential of a difference of logarithms needs none"
)
ESTIMATED = mistakes(
    estimated_with,
    reversed=(
        "the ratio is the wrong way round, which estimates something else, since the tokens come "
        "from the policy: it is reference / policy",
        {"ratio": "policy / reference"},
    ),
    k1=(
        "this is k1, the logarithm of policy / reference: right on average, but negative for some "
        "tokens; k3 has two more terms",
        {"form": "k1"},
    ),
    log_ratio_alone=(
        "this is the logarithm of the ratio alone; k3 has two more terms",
        {"form": "log ratio"},
    ),
    absolute_k1=(
        "this is the size of the logarithm of the ratio; k3 is another way not to be negative",
        {"form": "absolute k1"},
    ),
    k1_above_0=(
        "negative estimates of k1 are set to 0, so that its mean is too large; k3 is another way",
        {"form": "k1 above 0"},
    ),
    k2=("this is k2, half the squared logarithm; k3 is asked for", {"form": "k2"}),
    squared_logarithm=(
        "this is the squared logarithm of the ratio; k3 is asked for",
        {"form": "squared"},
    ),
    one_missing=("the 1 is missing: equal probabilities must give 0", {"form": "1 missing"}),
    one_twice=(
        "the 1 is subtracted twice (expm1 does so once): equal probabilities must give 0",
        {"form": "1 twice"},
    ),
    one_added=(
        "the 1 is added: equal probabilities must give 0",
        {"form": "1 added"},
    ),
    logarithm_missing=(
        "the logarithm is missing: ratio - 1 is 0 on average, whatever the policy is",
        {"form": "logarithm missing"},
    ),
    logarithm_added=("the logarithm is added; it is subtracted", {"form": "logarithm added"}),
    one_missing_logarithm_added=(
        "the 1 is missing, and the logarithm is added: equal probabilities must give 0, and it is "
        "ratio - 1 - log ratio",
        {"form": "1 missing, logarithm added"},
    ),
    square_for_the_exponential=(
        "the square of the logarithm takes the place of the ratio, which is its exponential",
        {"form": "square for the exponential"},
    ),
    ratio_alone=("this is the ratio alone; k3 has two more terms", {"form": "ratio"}),
    exponential_missing=(
        "the logarithm of the ratio takes the place of the ratio, and all cancels to -1",
        {"form": "exponential missing"},
    ),
    logarithm_of_the_logarithm=(
        "the logarithm of the ratio takes the place of the ratio, and its logarithm is taken once "
        "more; the ratio is its exponential",
        {"form": "logarithm of the logarithm"},
    ),
    series=(
        "these are the first terms of a series, which hold for a small difference; the exponential "
        "itself is asked for",
        {"form": "series"},
    ),
    k2_of_the_ratio=(
        "this is half the squared distance of the ratio from 1; k3 is asked for",
        {"form": "k2 of the ratio"},
    ),
    one_minus_ratio=(
        "this is 1 minus the ratio, without the logarithm",
        {"form": "1 minus"},
    ),
    mixed_directions=(
        "ratio and logarithm have different directions: one is policy / reference, the other "
        "reference / policy",
        {"ratio": "policy / reference", "form": "logarithm added"},
    ),
    weighted_by_the_policy=(
        "each token is weighted by its probability; it has been sampled, so that its probability "
        "is in how often it comes",
        {"form": "weighted by the policy"},
    ),
    weighted_by_the_reference=(
        "each token is weighted by the reference's probability (as F.kl_div does); it has been "
        "sampled, so that its probability is in how often it comes",
        {"form": "weighted by the reference"},
    ),
    k3_weighted=(
        "each k3 is weighted by the token's probability; it has been sampled, so that its "
        "probability is in how often it comes",
        {"form": "k3 weighted"},
    ),
    both_directions=(
        "this is the mean of both directions; KL(policy || reference) is one of them",
        {"form": "both directions"},
    ),
    sum_of_both_directions=(
        "this is the sum of both directions; KL(policy || reference) is one of them",
        {"form": "sum of both directions"},
    ),
    halved=("this is half of k3", {"form": "halved"}),
    decimal=("the logarithm is decimal; the natural one is asked for", {"form": "decimal"}),
    in_bits=("this is in bits; nats are asked for", {"form": "all in bits"}),
    logarithm_in_bits=(
        "the logarithm is to the base 2; the natural one is asked for",
        {"form": "bits"},
    ),
    for_samples_of_the_reference=(
        "this estimate is for tokens that the reference sampled; these come from the policy",
        {"form": "reversed with its own sign"},
    ),
    with_1e_8=(SMALL_NUMBER, {"ratio": "small number with 1e-8"}),
    with_1e_10=(SMALL_NUMBER, {"ratio": "small number with 1e-10"}),
    with_1e_12=(SMALL_NUMBER, {"ratio": "small number with 1e-12"}),
    with_1e_8_in_both=(SMALL_NUMBER, {"ratio": "small number in both with 1e-8"}),
    with_1e_10_in_both=(SMALL_NUMBER, {"ratio": "small number in both with 1e-10"}),
    normalized=(
        "a log-softmax over the last axis compares the tokens of a row with each other; each "
        "log-probability has been normalized already, over the vocabulary",
        {"ratio": "normalized"},
    ),
    ratio_of_the_logarithms=(
        "the log-probabilities are divided; the logarithm of a quotient is their difference",
        {"ratio": "of the logarithms"},
    ),
    logarithms_of_logarithms=(
        "a logarithm is taken of the log-probabilities, which are negative, so it is nan; their "
        "difference is the logarithm of the ratio already",
        {"ratio": "logarithms twice"},
    ),
    probabilities_subtracted=(
        "the probabilities are subtracted where their logarithms should be",
        {"ratio": "probabilities"},
    ),
    logarithms_added=(
        "the log-probabilities are added; the logarithm of a quotient is their difference",
        {"ratio": "sum"},
    ),
    cut_off_at_10=(CUT_OFF, {"limit": 10.0}),
    cut_off_at_20=(CUT_OFF, {"limit": 20.0}),
    cut_off_at_5=(CUT_OFF, {"limit": 5.0}),
    cut_off_at_1=(CUT_OFF, {"limit": 1.0}),
    estimate_cut_off=(
        "the estimate is cut off at 10; that hides the tokens which are furthest from the "
        "reference, and has no gradient there",
        {"form": "at least 0"},
    ),
    squared_difference=(
        "this is the squared difference of the probabilities; k3 is asked for",
        {"form": "squared difference"},
    ),
    negative=("the sign is wrong: k3 is never negative", {"sign": -1.0}),
    averaged=("this is a mean; each token has its own estimate", {"result": "mean"}),
    summed=("this is a sum; each token has its own estimate", {"result": "sum"}),
    mean_of_rows=(
        "these are means over the last axis; each token has its own estimate",
        {"result": "mean of rows"},
    ),
    sum_of_rows=(
        "these are sums over the last axis; each token has its own estimate",
        {"result": "sum of rows"},
    ),
    in_float64=("the estimates are float64; float32 is asked for", {"dtype": torch.float64}),
)


# --- 9.16 clipped_objective ---


def clipped_with(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    clip: float = 0.2,
    *,
    chosen: str = "smaller product",
    ratio_is: str = "new / old",
    bounds: str = "both",
    width: str = "clip",
    advantage: str = "signed",
    beyond: str = "bound",
    sign: float = 1.0,
    result: str = "per token",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The objective of each token."""
    clip = 0.2 if width == "always 0.2" else clip
    log_ratio = log_probs - old_log_probs
    ratio = {
        "old / new": (-log_ratio).exp(),
        "logarithm": log_ratio,
        "of the logarithms": log_probs / old_log_probs,
        "difference": log_probs.exp() - old_log_probs.exp(),
        "probability": log_probs.exp(),
        "1": (log_probs - log_probs.detach()).exp(),
        "mean of the answer": log_ratio.mean(-1, keepdim=True).exp().expand_as(log_ratio),
        "product of the answer": log_ratio.sum(-1, keepdim=True).exp().expand_as(log_ratio),
    }.get(ratio_is, log_ratio.exp())
    advantages = {
        "absolute": advantages.abs(),
        "sign": advantages.sign(),
        "ignored": torch.ones_like(advantages),
        "clipped": advantages.clamp(1 - clip, 1 + clip),
        "clipped above": torch.minimum(advantages, advantages.clamp(1 - clip, 1 + clip)),
        "positive": advantages.relu(),
    }.get(advantage, advantages)
    low, high = {
        "quotients": (1 / (1 + clip), 1 + clip),
        "around 0": (-clip, clip),
        "up to 1": (1 - clip, 1.0),
        "from 1": (1.0, 1 + clip),
        "in the logarithm": (math.exp(-clip), math.exp(clip)),
        "halved": (1 - clip / 2, 1 + clip / 2),
        "exchanged": (1 + clip, 1 - clip),
        "clip itself": (clip, 1 + clip),
    }.get(bounds, (1 - clip, 1 + clip))
    clipped = ratio.clamp(low, high)
    one, other = ratio * advantages, clipped * advantages
    smaller, larger = torch.minimum(one, other), torch.maximum(one, other)
    is_negative = advantages < 0
    values = {
        "larger product": larger,
        "smaller ratio": torch.minimum(ratio, clipped) * advantages,
        "larger ratio": torch.maximum(ratio, clipped) * advantages,
        "clipped": other,
        "not clipped": one,
        "clipped if negative": torch.where(is_negative, other, smaller),
        "not clipped if negative": torch.where(is_negative, one, smaller),
        "larger if negative": torch.where(is_negative, larger, smaller),
        "clipped if positive": torch.where(is_negative, smaller, other),
        "not clipped if positive": torch.where(is_negative, smaller, one),
        "larger if positive": torch.where(is_negative, smaller, larger),
        "mean of both": (one + other) / 2,
        "sum of both": one + other,
        "difference of both": one - other,
        "smaller size": torch.where(one.abs() < other.abs(), one, other),
        "larger size": torch.where(one.abs() > other.abs(), one, other),
        "smaller of the product and its clip": torch.minimum(one, one.clamp(low, high)),
        "product clipped": one.clamp(low, high),
        "lower bound from above": torch.where(
            is_negative, ratio.clamp(max=low), ratio.clamp(max=high)
        )
        * advantages,
        "without the advantage": torch.minimum(one, clipped.expand_as(one)),
        "with a second limit": torch.where(
            is_negative, torch.maximum(smaller, 3 * advantages), smaller
        ),
        "log-probability": log_probs * advantages,
        "log-probability, weighted": log_probs * smaller.detach(),
        "log-probability, weighted and always clipped": log_probs * other.detach(),
    }.get(chosen, smaller)
    if beyond == "zero":
        values = torch.where(smaller < one, 0.0, values)
    elif beyond == "advantage":
        values = torch.where(smaller < one, advantages, values)
    elif beyond == "zero outside":
        values = torch.where(clipped == ratio, values, 0.0)
    values = sign * values
    return {
        "mean": values.mean(),
        "sum": values.sum(),
        "mean of rows": values.mean(-1) if values.ndim else values,
        "minus the advantages": values - advantages,
    }.get(result, values.to(dtype))


IN_THE_LOGARITHM = (
    "the logarithm of the ratio is clipped; the ratio itself is, to 1 - clip and 1 + clip"
)
LARGER_IF_NEGATIVE = (
    "for a negative advantage this is the larger of the two products: the smaller ratio gives it, "
    "since the sign turns the order round; two of the four cases are wrong"
)
LARGER_IF_POSITIVE = (
    "for a positive advantage this is the larger of the two products, so that it is clipped on the "
    "wrong side; a negative one is right"
)
PRODUCT_CLIPPED = (
    "the product of ratio and advantage is clipped; the ratio is what is to be clipped, before it "
    "is multiplied"
)
ADVANTAGES_CLIPPED = "the advantages are clipped; the ratio is what is to be clipped"
WEIGHTED = (
    "the log-probability is a factor beside the ratio and the advantage (as in CISPO); the ratio "
    "itself carries the gradient"
)
ONE_RATIO = "all tokens of a row have one ratio (as in GSPO); each token has its own"
OBJECTIVES = mistakes(
    clipped_with,
    as_handed_out=(LARGER_IF_NEGATIVE, {"chosen": "smaller ratio"}),
    larger_if_negative=(LARGER_IF_NEGATIVE, {"chosen": "larger if negative"}),
    larger_product=(
        "the larger of the products is taken, so a move in the right direction is never stopped, "
        "and one in the wrong direction is not pulled back; the objective is the cautious one",
        {"chosen": "larger product"},
    ),
    larger_ratio=(LARGER_IF_POSITIVE, {"chosen": "larger ratio"}),
    larger_size=(LARGER_IF_POSITIVE, {"chosen": "larger size"}),
    always_clipped=(
        "the ratio is clipped in every case, also where the token has moved against its advantage: "
        "there nothing pulls it back",
        {"chosen": "clipped"},
    ),
    never_clipped=("nothing is clipped", {"chosen": "not clipped"}),
    clipped_if_negative=(
        "a negative advantage is clipped on both sides; a token that has become more likely in "
        "spite of it is not pulled back",
        {"chosen": "clipped if negative"},
    ),
    not_clipped_if_negative=(
        "a negative advantage is never clipped; a token that has become rare enough is pushed "
        "further down",
        {"chosen": "not clipped if negative"},
    ),
    clipped_if_positive=(
        "a positive advantage is clipped on both sides; a token that has become less likely in "
        "spite of it is not pulled back",
        {"chosen": "clipped if positive"},
    ),
    not_clipped_if_positive=(
        "a positive advantage is never clipped",
        {"chosen": "not clipped if positive"},
    ),
    mean_of_both=("clipped and unclipped products are averaged", {"chosen": "mean of both"}),
    sum_of_both=("clipped and unclipped products are added", {"chosen": "sum of both"}),
    advantage_missing_in_one=(
        "the clipped ratio is compared without its advantage",
        {"chosen": "without the advantage"},
    ),
    product_clipped=(PRODUCT_CLIPPED, {"chosen": "product clipped"}),
    product_clipped_above=(PRODUCT_CLIPPED, {"chosen": "smaller of the product and its clip"}),
    lower_bound_from_above=(
        "for a negative advantage 1 - clip is an upper limit of the ratio; it is the lower one: "
        "the pull ends where the token has become rare enough",
        {"chosen": "lower bound from above"},
    ),
    second_limit=(
        "a negative advantage has a second limit (dual-clip PPO); none is asked for",
        {"chosen": "with a second limit"},
    ),
    policy_gradient=(
        "this is the log-probability times the advantage; the ratio of the two probabilities is "
        "asked for",
        {"chosen": "log-probability"},
    ),
    weighted=(WEIGHTED, {"chosen": "log-probability, weighted"}),
    weighted_and_always_clipped=(
        WEIGHTED,
        {"chosen": "log-probability, weighted and always clipped"},
    ),
    ratio_1=(
        "the ratio is 1 for every token; it compares with the policy that sampled the tokens, "
        "old_log_probs",
        {"ratio_is": "1"},
    ),
    one_ratio_from_the_mean=(ONE_RATIO, {"ratio_is": "mean of the answer"}),
    one_ratio_from_the_sum=(ONE_RATIO, {"ratio_is": "product of the answer"}),
    old_over_new=(
        "the ratio is the wrong way round: new / old",
        {"ratio_is": "old / new"},
    ),
    logarithm_for_ratio=(
        "the logarithm of the ratio is used; the ratio itself is its exponential",
        {"ratio_is": "logarithm"},
    ),
    ratio_of_the_logarithms=(
        "the log-probabilities are divided; the ratio of the probabilities is asked for",
        {"ratio_is": "of the logarithms"},
    ),
    difference_for_ratio=(
        "the probabilities are subtracted; their ratio is asked for",
        {"ratio_is": "difference"},
    ),
    probability_for_ratio=(
        "the old probability is missing in the ratio",
        {"ratio_is": "probability"},
    ),
    clipped_in_the_logarithm=(IN_THE_LOGARITHM, {"bounds": "in the logarithm"}),
    quotient_as_a_bound=(
        "the lower bound is 1 / (1 + clip); 1 - clip is asked for",
        {"bounds": "quotients"},
    ),
    bounds_around_0=(
        "the ratio is clipped to between -clip and clip; it is around 1",
        {"bounds": "around 0"},
    ),
    up_to_1=("the upper bound is 1; 1 + clip is asked for", {"bounds": "up to 1"}),
    from_1=("the lower bound is 1; 1 - clip is asked for", {"bounds": "from 1"}),
    bounds_halved=("the bounds are half as far from 1 as clip says", {"bounds": "halved"}),
    clip_as_the_lower_bound=(
        "the lower bound is clip itself; 1 - clip is asked for",
        {"bounds": "clip itself"},
    ),
    clip_always_02=("the clip is always 0.2; use the argument", {"width": "always 0.2"}),
    advantages_absolute=(
        "the advantages have lost their sign; a bad answer has to become less likely",
        {"advantage": "absolute"},
    ),
    sign_alone=(
        "only the sign of the advantage is used; its size counts as well",
        {"advantage": "sign"},
    ),
    advantages_ignored=("the advantages are missing", {"advantage": "ignored"}),
    advantages_clipped=(ADVANTAGES_CLIPPED, {"advantage": "clipped", "chosen": "not clipped"}),
    advantages_clipped_above=(
        ADVANTAGES_CLIPPED,
        {"advantage": "clipped above", "chosen": "not clipped"},
    ),
    positive_alone=(
        "negative advantages are set to 0; a bad answer has to become less likely",
        {"advantage": "positive"},
    ),
    zero_beyond=(
        "beyond the clip the objective is 0; its gradient is, and the objective stays at its value "
        "at the bound",
        {"beyond": "zero"},
    ),
    zero_outside=(
        "outside the bounds the objective is 0, whatever the advantage is; it stays at its value "
        "at the bound, and only where the advantage asks for it",
        {"beyond": "zero outside"},
    ),
    loss=(
        "this is the loss, to be minimized; the objective is to be maximized",
        {"sign": -1.0},
    ),
    averaged=("this is a mean; each token has its own objective", {"result": "mean"}),
    summed=("this is a sum; each token has its own objective", {"result": "sum"}),
    mean_of_rows=(
        "these are means over the last axis; each token has its own objective",
        {"result": "mean of rows"},
    ),
    in_float64=("the objective is float64; float32 is asked for", {"dtype": torch.float64}),
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
    "predict_post_training": POST_TRAINING,
    "answer_loss": ANSWERED,
    "bradley_terry_loss": PREFERRED,
    "dpo_loss": OPTIMIZED,
    "group_advantages": GROUP_REWARDS,
    "kl_k3": ESTIMATED,
    "clipped_objective": OBJECTIVES,
}
