"""Common wrong answers to the exercises of lesson 06; each diagnosis is shown to a learner.

Most exercises have one faulty implementation, `cross_entropy_with` and so on, which is right until
a setting makes one mistake. Settings combine, so two mistakes at once are recognized as well. What
fits no setting is a function of its own, whose docstring is the diagnosis. `MISCONCEPTIONS` lists
them by the function that they imitate.
"""

import itertools
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.grader.mistakes import mistakes

Pair = tuple[int, int]

# --- 6.1 predict_losses ---


PREDICTION = mistakes(
    lambda row: row,
    in_bits=(
        "the losses are in bits: nats are natural logarithms, ln on a calculator",
        {"row": (6.022, 1.75, 3.364, 0.997)},
    ),
    in_bits_with_e_to_their_power=(
        "the losses are in bits, and e is raised to their power: nats are natural logarithms, ln",
        {"row": (6.022, 1.75, 5.755, 0.997)},
    ),
    second_in_bits=(
        "the second loss is in bits; a bit is 0.693 nats",
        {"row": (4.174, 1.75, 3.364, 0.691)},
    ),
    second_in_bits_and_its_power_too=(
        "the second loss is in bits, and e is raised to its power; a bit is 0.693 nats",
        {"row": (4.174, 1.75, 5.755, 0.691)},
    ),
    decimal_logarithms=(
        "these are logarithms to the base 10, log on a calculator; nats are natural logarithms, ln",
        {"row": (1.813, 0.527, 1.694, 0.3)},
    ),
    decimal_logarithms_and_powers_of_ten=(
        "the losses are logarithms to the base 10, log on a calculator; nats are natural "
        "logarithms, ln",
        {"row": (1.813, 0.527, 3.364, 0.3)},
    ),
    probabilities_averaged=(
        "the probabilities are averaged, and then their logarithm is taken; each position has its "
        "own logarithm, and those are averaged",
        {"row": (4.174, 1.068, 2.909, 0.105)},
    ),
    not_averaged=(
        "the losses of the positions are added up; the loss is their mean",
        {"row": (4.174, 4.852, 128.0, 6.908)},
    ),
    not_averaged_the_last=(
        "the fourth loss is that of the tenth position alone; nine positions cost 0, and the mean "
        "is over all ten",
        {"row": (4.174, 1.213, 3.364, 6.908)},
    ),
    divided_by_nine=(
        "the fourth loss is divided by 9; there are ten positions",
        {"row": (4.174, 1.213, 3.364, 0.768)},
    ),
    last_costs_nothing=(
        "the fourth loss leaves out the position that went wrong: it costs 6.9 nats",
        {"row": (4.174, 1.213, 3.364, 0.0)},
    ),
    power_of_two=(
        "the perplexity is 2 to the power of nats; nats belong to e, bits to 2",
        {"row": (4.174, 1.213, 2.318, 0.691)},
    ),
    mean_of_inverses=(
        "the perplexity is the mean of 1 / p; it is e to the power of the mean loss, which is less",
        {"row": (4.174, 1.213, 4.0, 0.691)},
    ),
    perplexity_by_the_probability=(
        "the perplexity is 1 / the mean probability; it is e to the power of the mean loss",
        {"row": (4.174, 1.213, 2.909, 0.691)},
    ),
    negative=(
        "the sign is missing: a logarithm of a probability is negative, the loss is minus that",
        {"row": (-4.174, -1.213, 0.297, -0.691)},
    ),
    negative_losses=(
        "the losses are negative: they are minus the logarithms of the probabilities",
        {"row": (-4.174, -1.213, 3.364, -0.691)},
    ),
    one_minus_p=(
        "these are means of 1 - p; the loss of a position is -log p",
        {"row": (0.985, 0.656, 1.928, 0.1)},
    ),
    one_minus_p_and_the_right_power=(
        "the losses are means of 1 - p; the loss of a position is -log p",
        {"row": (0.985, 0.656, 3.364, 0.1)},
    ),
    probability_itself=(
        "the first is 1 / 65, a probability; the loss is minus its logarithm",
        {"row": (0.015, 1.213, 3.364, 0.691)},
    ),
    number_of_characters=(
        "the first is the perplexity of 65 equal choices; its loss is the logarithm of that",
        {"row": (65.0, 1.213, 3.364, 0.691)},
    ),
    second_from_the_mean_probability=(
        "the second loss is the logarithm of the mean probability; each position has its own "
        "logarithm, and those are averaged",
        {"row": (4.174, 1.068, 2.909, 0.691)},
    ),
    second_alone_from_the_mean_probability=(
        "the second loss, and not the perplexity, is the logarithm of the mean probability; each "
        "position has its own logarithm, and those are averaged",
        {"row": (4.174, 1.068, 3.364, 0.691)},
    ),
    fourth_from_the_mean_probability=(
        "the fourth loss is the logarithm of the mean probability; each position has its own "
        "logarithm, and those are averaged",
        {"row": (4.174, 1.213, 3.364, 0.105)},
    ),
    fourth_in_bits=(
        "the fourth loss is in bits; a bit is 0.693 nats",
        {"row": (4.174, 1.213, 3.364, 0.997)},
    ),
    first_in_bits=(
        "the first loss is in bits; a bit is 0.693 nats",
        {"row": (6.022, 1.213, 3.364, 0.691)},
    ),
)


# --- 6.2 cut_windows ---


def windows_with(
    tokens: Tensor,
    starts: Tensor,
    seq_len: int,
    *,
    x_from: int = 0,
    y_from: int = 1,
    length: int = 0,
    ends: str = "follow",
    places: str = "starts",
    order: str = "x, y",
    layout: str = "rows",
    dtype: torch.dtype = torch.int64,
) -> Any:
    """Inputs and targets."""
    if places == "blocks":
        starts = starts * seq_len
    elif places == "from 1":
        starts = starts - 1
    elif places == "the first":
        starts = starts[:1].expand(len(starts))
    elif places == "one after the other":
        starts = torch.arange(len(starts)) * seq_len
    elif places == "sorted":
        starts = starts.sort().values
    elif places == "rounded":
        starts = starts // seq_len * seq_len
    positions = starts[:, None] + torch.arange(seq_len + length)
    x = tokens[(positions + x_from) % len(tokens)]
    y = tokens[(positions + y_from) % len(tokens)]
    if ends == "without the last token":
        y = tokens[(positions + y_from).clamp(max=len(tokens) - 2)]
    elif ends == "longer targets":
        y = torch.cat([x[:, :1], y], dim=1)
    elif ends == "one id higher":
        y = x + 1
    elif ends == "wrapped":
        y = x.roll(-1, dims=-1)
    elif ends == "repeated":
        y = torch.cat([x[:, 1:], x[:, -1:]], dim=1)
    elif ends == "zero":
        y = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)
    elif ends == "cut":
        x, y = x[:, :-1], x[:, 1:]
    elif ends == "last only":
        y = y[:, -1]
    elif ends == "next window":
        y = tokens[(positions + seq_len) % len(tokens)]
    x, y = x.to(dtype), y.to(dtype)
    if layout == "columns":
        x, y = x.mT, y.mT
    elif layout == "flat":
        x, y = x.flatten(), y.flatten()
    return (y, x) if order == "y, x" else x if order == "x" else (x, y)


WINDOWS = mistakes(
    windows_with,
    not_shifted=(
        "the targets are the inputs themselves; each target is the token after its input",
        {"y_from": 0},
    ),
    shifted_backwards=(
        "the targets are the tokens before the inputs; they should be those after them",
        {"y_from": -1},
    ),
    shifted_by_two=(
        "the targets are two tokens ahead; the next one is asked for",
        {"y_from": 2},
    ),
    both_one_too_late=(
        "x begins one token after its start; x begins at the start itself, y one after it",
        {"x_from": 1, "y_from": 2},
    ),
    only_x_one_too_late=(
        "x begins one token after its start, like y; x begins at the start itself",
        {"x_from": 1},
    ),
    exchanged=(
        "x and y are exchanged: x comes first, and y is one token ahead of it",
        {"order": "y, x"},
    ),
    only_x=(
        "only x is returned; x and y are asked for",
        {"order": "x"},
    ),
    one_token_too_long=(
        "x and y are one token too long: a window of seq_len + 1 tokens gives seq_len of each",
        {"length": 1},
    ),
    cut_from_one_window=(
        "x and y come from a window of seq_len tokens, so they are one too short; cut one token "
        "more",
        {"ends": "cut"},
    ),
    wrapped_around=(
        "the last target is the first token of its own window (roll); it is the next token of the "
        "text",
        {"ends": "wrapped"},
    ),
    zero_at_the_end=(
        "the last target is 0; it is the next token of the text, one after the window",
        {"ends": "zero"},
    ),
    last_repeated=(
        "the last target is the last token of x once more; it is the next token of the text, one "
        "after the window",
        {"ends": "repeated"},
    ),
    one_target_per_window=(
        "y holds one target per window; there is one for each position",
        {"ends": "last only"},
    ),
    starts_are_blocks=(
        "starts are multiplied by seq_len; they are positions in the text already",
        {"places": "blocks"},
    ),
    starts_from_one=(
        "the windows begin one token too early: positions count from 0",
        {"places": "from 1", "x_from": 0},
    ),
    always_the_first_start=(
        "every row begins at the first start; row b begins at starts[b]",
        {"places": "the first"},
    ),
    starts_ignored=(
        "the windows follow one another from the beginning of the text, whatever starts says",
        {"places": "one after the other"},
    ),
    starts_sorted=(
        "the rows are in the order of the text; row b belongs to starts[b]",
        {"places": "sorted"},
    ),
    one_column_per_window=(
        "each window is a column; (B, seq_len) has one row per window",
        {"layout": "columns"},
    ),
    one_long_row=(
        "all windows are in one row; (B, seq_len) has one row per window",
        {"layout": "flat"},
    ),
    floats=(
        "the tokens have become floating-point numbers; they are indices, int64",
        {"dtype": torch.float32},
    ),
    small_integers=(
        "the tokens are int32; int64 is asked for",
        {"dtype": torch.int32},
    ),
    starts_rounded=(
        "the starts are rounded down to multiples of seq_len; a window may begin anywhere",
        {"places": "rounded"},
    ),
    last_token_left_out=(
        "the last token of the text is never a target; the last window reaches it",
        {"ends": "without the last token"},
    ),
    targets_one_longer=(
        "y has one token more than x; the first of its window is no target",
        {"ends": "longer targets"},
    ),
    next_window=(
        "y is the window after x, seq_len tokens later; each target is one token after its input",
        {"ends": "next window"},
    ),
    ids_plus_one=(
        "1 is added to the ids themselves; the next token is the one at the next place of the text",
        {"ends": "one id higher"},
    ),
)


# --- 6.3 perplexity, bits_per_char ---


def perplexity_with(
    loss: float,
    *,
    base: float = math.e,
    sign: int = 1,
    large: str = "infinite",
    add: float = 0.0,
    digits: int = 300,
) -> float:
    """e to the power of the loss."""
    if large == "limited" and loss > 709.7:
        return math.exp(700)
    try:
        power = math.exp(sign * loss) if base == math.e else math.pow(base, sign * loss)
        return round(power + add, digits) if math.isfinite(power) and digits < 300 else power + add
    except OverflowError:
        if large == "raises":
            raise
        return {
            "limited": math.exp(700),
            "infinite": math.inf,
            "largest": sys.float_info.max,
            "nan": math.nan,
        }[large]


PERPLEXITY = mistakes(
    perplexity_with,
    power_of_two=(
        "this is 2 to the power of the loss; a loss in nats belongs to e",
        {"base": 2.0},
    ),
    power_of_ten=(
        "this is 10 to the power of the loss; a loss in nats belongs to e",
        {"base": 10.0},
    ),
    negative_power=(
        "this is e to the power of minus the loss, a probability; the loss is already minus a "
        "logarithm",
        {"sign": -1},
    ),
    overflow_not_caught=(
        "math.exp raises an OverflowError above 709; the answer is math.inf there",
        {"large": "raises"},
    ),
    finite_for_large=(
        "where e^loss is too large for a float, a finite number is returned; infinity is asked for",
        {"large": "largest"},
    ),
    loss_limited=(
        "where e^loss is too large for a float, a finite number is returned; infinity is asked for",
        {"large": "limited"},
    ),
    nan_for_large=(
        "where e^loss is too large, nan is returned; infinity is asked for",
        {"large": "nan"},
    ),
    rounded_perplexity=(
        "the perplexity is rounded to a whole number; return it as it is",
        {"digits": 0},
    ),
    minus_one=(
        "1 is subtracted (expm1, for instance); a perfect model has perplexity 1",
        {"add": -1.0},
    ),
)


def loss_itself(loss: float) -> float:
    """this is the loss itself; the perplexity is e to the power of it"""
    return loss


def logarithm_of_the_loss(loss: float) -> float:
    """this is a logarithm of the loss, which is one already; take its exponential"""
    return math.log(loss) if loss > 0 else -math.inf


def always_infinite_from_100(loss: float) -> float:
    """losses that a float can still raise e to are given infinity; that begins above 709"""
    return math.inf if loss > 100 else math.exp(loss)


def perplexity_of_bits(loss: float) -> float:
    """the loss is changed to bits first, and e to the power of bits is taken; e belongs to nats"""
    return math.inf if loss > 490 else math.exp(loss / math.log(2))


def bits_with(
    loss: float,
    chars_per_token: float = 1.0,
    *,
    unit: str = "bits",
    length: str = "divided",
) -> float:
    """Bits per character."""
    found = {
        "bits": loss / math.log(2),
        "nats": loss,
        "the wrong way": loss * math.log(2),
        "decimal": loss / math.log(10),
        "logarithm": math.log2(loss) if loss > 0 else 0.0,
        "power": 2.0**loss,
        "halved": loss / 2,
        "whole": float(loss // math.log(2)),
        "rounded": round(loss / math.log(2), 2),
    }[unit]
    if length == "divided":
        return found / chars_per_token
    if length == "multiplied":
        return found * chars_per_token
    if length == "in the logarithm":
        return loss / math.log(2 * chars_per_token) if chars_per_token > 0.5 else math.inf
    if length == "whole":
        return found / max(1, int(chars_per_token))
    return found


BITS = mistakes(
    bits_with,
    still_nats=(
        "these are still nats: divide by log 2 for bits",
        {"unit": "nats"},
    ),
    multiplied_by_log_two=(
        "the loss is multiplied by log 2; a nat is more than a bit, so divide",
        {"unit": "the wrong way"},
    ),
    decimal_digits=(
        "the loss is divided by log 10, which gives decimal digits; bits have the base 2",
        {"unit": "decimal"},
    ),
    logarithm_of_the_nats=(
        "this takes a logarithm of the loss, which is one already; only its unit is to be changed",
        {"unit": "logarithm"},
    ),
    two_to_the_power=(
        "this is 2 to the power of the loss; only the unit is to be changed",
        {"unit": "power"},
    ),
    halved=(
        "the loss is divided by 2; a nat is 1 / log 2 bits, 1.443",
        {"unit": "halved"},
    ),
    rounded_down=(
        "// rounds down to whole bits; divide with /",
        {"unit": "whole"},
    ),
    times_the_length=(
        "the loss is multiplied by the length of a token; per character it is less, so divide",
        {"length": "multiplied"},
    ),
    length_ignored=(
        "chars_per_token is ignored: the result is in bits per token",
        {"length": "ignored"},
    ),
    length_in_the_logarithm=(
        "the length of a token is within the logarithm; divide by log 2, and by the length",
        {"length": "in the logarithm"},
    ),
    whole_length=(
        "the length of a token is rounded to a whole number; on average it may be 2.5",
        {"length": "whole"},
    ),
    rounded_bits=(
        "the bits are rounded; return them as they are",
        {"unit": "rounded"},
    ),
)


# --- 6.4 cross_entropy ---


def cross_entropy_with(
    logits: Tensor,
    targets: Tensor,
    ignore_index: int | None = None,
    *,
    shift: str = "of the row",
    target_shifted: bool = True,
    dim: int = -1,
    softmaxes: int = 0,
    log: str = "natural",
    sign: int = 1,
    mean: str = "positions",
    ignoring: str = "dropped",
    result: str = "tensor",
    dtype: torch.dtype | None = None,
) -> Any:
    """The mean loss."""
    dtype_of_logits = logits.dtype
    for _ in range(softmaxes):
        logits = torch.softmax(logits, dim=-1)
    kept = torch.ones_like(targets, dtype=torch.bool)
    if ignore_index is not None and ignoring != "argument ignored":
        if ignoring != "0 is none" or ignore_index:
            kept = targets != ignore_index
        if ignoring == "inverted":
            kept = ~kept
    elif ignoring == "argument ignored":
        ignore_index = None
    if ignoring in ("always -100", "negative"):
        kept = targets >= 0
    if ignoring == "clamped":
        kept = torch.ones_like(kept)
    if ignoring == "zeroed":
        logits, targets = logits * kept[..., None], targets * kept
        kept = torch.ones_like(kept)
    raw = ignoring in ("argument ignored", "gathered first")
    safe = targets if raw else targets.clamp(0, logits.size(-1) - 1)
    largest = logits.detach()
    if shift == "of the row":
        largest = largest.amax(dim=-1, keepdim=True)
    elif shift == "of all":
        largest = largest.max()
    elif shift == "smallest":
        largest = largest.amin(dim=-1, keepdim=True)
    elif shift == "absolute":
        largest = largest.abs().amax(dim=-1, keepdim=True)
    elif shift == "of axis 0":
        largest = largest.amax(dim=0, keepdim=True)
    elif shift == "without keepdim":
        largest = largest.amax(dim=-1)
    else:
        largest = torch.zeros((), dtype=logits.dtype)
    shifted = logits.clamp(-80, 80) if shift == "clamped" else logits - largest
    at_target = (shifted if target_shifted else logits).gather(-1, safe[..., None]).squeeze(-1)
    losses = shifted.exp().sum(dim=-1).log() - at_target
    if (dim != -1 and logits.dim() >= -dim > 0) or (dim >= 0 and logits.dim() > dim):
        shares = torch.log_softmax(logits, dim)
        losses = -shares.gather(-1, safe[..., None]).squeeze(-1)
    if log == "base 2":
        losses = losses / math.log(2)
    elif log == "none":
        losses = -(-losses).exp()
    elif log == "of the softmax":
        losses = -torch.softmax(logits, -1).gather(-1, safe[..., None]).squeeze(-1).log()
    elif log == "of an overflowing softmax":
        p = logits.exp() / logits.exp().sum(-1, keepdim=True)
        losses = -p.gather(-1, safe[..., None]).squeeze(-1).log()
    elif log.startswith("of the softmax plus"):
        p = torch.softmax(logits, -1).gather(-1, safe[..., None]).squeeze(-1)
        losses = -(p + float(log.split()[-1])).log()
    elif log == "without the target":
        losses = shifted.exp().sum(dim=-1).log()
    elif log == "squared error":
        losses = (torch.softmax(logits, -1) - F.one_hot(safe, logits.size(-1))).square().sum(-1)
    elif log == "all tokens":
        losses = -torch.log_softmax(logits, -1).mean(-1)
    losses = sign * losses
    every = losses
    losses = losses[kept]
    found = {
        "positions": lambda: losses.mean(),
        "sum": lambda: losses.sum(),
        "rows": lambda: losses.sum() / (targets.size(0) if targets.dim() else 1),
        "none": lambda: losses,
        "all positions": lambda: losses.sum() / targets.numel(),
        "entries": lambda: losses.mean() / logits.size(-1),
        "probabilities": lambda: -(-losses).exp().mean().log(),
        "keepdim": lambda: losses.mean()[None],
        "of the means of the rows": lambda: mean_of_rows(every, kept),
    }[mean]()
    if result == "number":
        return found.item()
    return found.to(dtype or dtype_of_logits)


def mean_of_rows(losses: Tensor, kept: Tensor) -> Tensor:
    """The mean of each row's mean, over what is kept."""
    if losses.dim() == 0:
        return losses
    rows = (losses * kept).sum(-1) / kept.sum(-1).clamp(min=1)
    return rows[kept.any(-1)].mean()


CROSS_ENTROPY = mistakes(
    cross_entropy_with,
    nothing_subtracted=(
        "the largest logit is not subtracted first: exp overflows to inf, or all exponentials "
        "become 0",
        {"shift": "none"},
    ),
    clamped=(
        "large logits are clamped, so different ones cost the same; subtract the largest logit of "
        "the position instead",
        {"shift": "clamped", "target_shifted": True},
    ),
    largest_of_all=(
        "the largest logit of the whole tensor is subtracted; each position needs its own, or its "
        "exponentials may all become 0",
        {"shift": "of all"},
    ),
    smallest_subtracted=(
        "the smallest logit is subtracted, so the largest exponential can still overflow",
        {"shift": "smallest"},
    ),
    largest_absolute_value=(
        "the largest absolute value is subtracted: very negative logits then vanish; subtract the "
        "largest logit itself",
        {"shift": "absolute"},
    ),
    target_not_shifted=(
        "the largest logit is subtracted within the sum, and not from the target's logit; both "
        "need it, or it does not cancel",
        {"target_shifted": False},
    ),
    logarithm_of_the_softmax=(
        "the logarithm is taken of a softmax, whose small shares have become 0: log 0 is -inf. "
        "Take the logarithm of the sum, and subtract the target's logit from it",
        {"log": "of the softmax"},
    ),
    target_forgotten=(
        "this is the log of the sum alone; the target's logit is to be subtracted from it",
        {"log": "without the target"},
    ),
    all_tokens=(
        "the log-probabilities of all tokens are averaged; only that of the target counts",
        {"log": "all tokens"},
    ),
    no_logarithm=(
        "this is minus the probability of the target; minus its logarithm is asked for",
        {"log": "none"},
    ),
    in_bits=(
        "the loss is in bits; nats are natural logarithms (torch.log)",
        {"log": "base 2"},
    ),
    sign_missing=(
        "the sign is wrong: the loss is minus a logarithm of a probability, and never negative",
        {"sign": -1},
    ),
    softmax_twice=(
        "a softmax is applied to the logits before the loss, which contains one already",
        {"softmaxes": 1},
    ),
    softmax_over_the_positions=(
        "the softmax runs over the positions (dim=-2) and not over the tokens, the last axis",
        {"dim": -2},
    ),
    softmax_over_axis_zero=(
        "the softmax runs over axis 0 and not over the tokens, the last axis",
        {"dim": 0},
    ),
    softmax_over_axis_one=(
        "the softmax runs over axis 1, which is the last one only without a batch; use dim=-1",
        {"dim": 1},
    ),
    summed=(
        "the losses are added up; their mean is asked for",
        {"mean": "sum"},
    ),
    mean_per_row=(
        "the sum is divided by the number of rows; the mean is over all positions of all rows",
        {"mean": "rows"},
    ),
    mean_over_the_tokens_too=(
        "the sum is divided by the number of logits, V times too much; the mean is over the "
        "positions",
        {"mean": "entries"},
    ),
    probabilities_averaged=(
        "the probabilities are averaged, and then their logarithm is taken; each position has its "
        "own logarithm, and those are averaged",
        {"mean": "probabilities"},
    ),
    squared_error=(
        "this is a squared error of the probabilities; minus the logarithm of the target's is "
        "asked for",
        {"log": "squared error"},
    ),
    ignored_positions_zeroed=(
        "the logits of ignored positions are set to 0, which costs log V each; leave these "
        "positions out",
        {"ignoring": "zeroed"},
    ),
    one_loss_per_position=(
        "there is one loss per position; their mean is asked for",
        {"mean": "none"},
    ),
    ignored_positions_in_the_mean=(
        "ignored positions add nothing to the sum, but are counted in the mean; divide by the "
        "number of the others",
        {"mean": "all positions"},
    ),
    ignore_index_ignored=(
        "ignore_index is ignored: positions with that target should not count",
        {"ignoring": "argument ignored"},
    ),
    only_what_should_be_ignored=(
        "the mask is the wrong way round: it keeps the positions that should be ignored",
        {"ignoring": "inverted"},
    ),
    zero_taken_for_none=(
        "an ignore_index of 0 is taken for none: `if ignore_index` is false for 0; ask `is not "
        "None`",
        {"ignoring": "0 is none"},
    ),
    negative_targets_only=(
        "only negative targets are ignored, whatever ignore_index says",
        {"ignoring": "negative"},
    ),
    a_little_added_8=(
        "a small number is added within the logarithm, or is the least that goes into it; that "
        "hides the infinity and caps the loss. Take the logarithm of the sum, and subtract the "
        "target's logit from it",
        {"log": "of the softmax plus 1e-8"},
    ),
    a_little_added_9=(
        "a small number is added within the logarithm, or is the least that goes into it; that "
        "hides the infinity and caps the loss. Take the logarithm of the sum, and subtract the "
        "target's logit from it",
        {"log": "of the softmax plus 1e-9"},
    ),
    a_little_added_10=(
        "a small number is added within the logarithm, or is the least that goes into it; that "
        "hides the infinity and caps the loss. Take the logarithm of the sum, and subtract the "
        "target's logit from it",
        {"log": "of the softmax plus 1e-10"},
    ),
    a_little_added_12=(
        "a small number is added within the logarithm, or is the least that goes into it; that "
        "hides the infinity and caps the loss. Take the logarithm of the sum, and subtract the "
        "target's logit from it",
        {"log": "of the softmax plus 1e-12"},
    ),
    largest_along_axis_zero=(
        "the largest logit along axis 0 is subtracted, another one for each token, so it does not "
        "cancel; subtract the largest of the position, over the last axis",
        {"shift": "of axis 0"},
    ),
    overflowing_softmax=(
        "the softmax overflows, inf / inf is nan, and its logarithm too: subtract the largest "
        "logit of the position first",
        {"log": "of an overflowing softmax"},
    ),
    largest_without_keepdim=(
        "the largest logits have lost their axis (no keepdim=True), so they line up with the "
        "tokens in place of the positions",
        {"shift": "without keepdim"},
    ),
    mean_of_the_means=(
        "each row is averaged by itself, and then the rows; with ignored positions the rows have "
        "different numbers of targets, and the mean is over all of them",
        {"mean": "of the means of the rows"},
    ),
    ignored_targets_clamped=(
        "ignored targets are clamped to a valid token, and then counted like the others",
        {"ignoring": "clamped"},
    ),
    gathered_before_ignoring=(
        "the targets' logits are picked before the ignored ones are left out, and -100 is no "
        "index: leave them out first",
        {"ignoring": "gathered first"},
    ),
    one_axis_too_many=(
        "the loss has an axis of size 1; a tensor without axes is asked for",
        {"mean": "keepdim"},
    ),
)


def loss_as_a_number(logits: Tensor, targets: Tensor, ignore_index: int | None = None) -> Any:
    """.item() makes a plain number of the loss, without a gradient; return the tensor"""
    return cross_entropy_with(logits, targets, ignore_index, result="number")


def always_float32(logits: Tensor, targets: Tensor, ignore_index: int | None = None) -> Any:
    """the loss is float32 whatever the logits are; it should have their dtype"""
    return cross_entropy_with(logits, targets, ignore_index, dtype=torch.float32)


# --- 6.5 cross_entropy_backward ---


def backward_with(
    logits: Tensor,
    targets: Tensor,
    *,
    over: str = "positions",
    dim: int = -1,
    sign: int = 1,
    parts: str = "both",
    shares: str = "softmax",
    one: float = 1.0,
    factor: float = 1.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """What was predicted minus what was true."""
    axis = dim if -logits.dim() <= dim < logits.dim() else -1
    p = {
        "softmax": lambda: torch.softmax(logits, axis),
        "overflowing": lambda: logits.exp() / logits.exp().sum(axis, keepdim=True),
        "logarithms": lambda: torch.log_softmax(logits, axis),
        "sigmoid": lambda: torch.sigmoid(logits),
        "logits": lambda: logits,
        "of all": lambda: torch.softmax(logits.flatten(), 0).view_as(logits),
        "of all positions": lambda: torch.softmax(logits.reshape(-1, logits.size(-1)), 0).view_as(
            logits
        ),
    }[shares]()
    truth = one * F.one_hot(targets, logits.size(-1)).to(p.dtype)
    gradient = {
        "both": lambda: p - truth,
        "shares only": lambda: p,
        "truth only": lambda: -truth,
        "at the target": lambda: (p - truth) * truth,
        "beside the target": lambda: p * (1 - truth),
        "through the softmax": lambda: p * ((p - truth) - (p * (p - truth)).sum(-1, keepdim=True)),
        "squared": lambda: 2 * (p - truth),
        "replaced": lambda: p * (1 - truth) - truth,
        "truth undivided": lambda: p - truth * targets.numel(),
        "shares undivided": lambda: p * targets.numel() - truth,
    }[parts]()
    count = {
        "positions": targets.numel(),
        "nothing": 1,
        "rows": logits.size(0) if targets.dim() else 1,
        "entries": logits.numel(),
        "tokens": logits.size(-1),
        "last axis of targets": targets.size(-1) if targets.dim() else 1,
    }[over]
    return (sign * factor * gradient / count).to(dtype or logits.dtype)


BACKWARD = mistakes(
    backward_with,
    not_divided=(
        "the gradient is that of the sum of the losses; the loss is a mean, so divide by the "
        "number of positions",
        {"over": "nothing"},
    ),
    divided_by_the_rows=(
        "the gradient is divided by the size of axis 0; the mean is over all positions, "
        "targets.numel()",
        {"over": "rows"},
    ),
    divided_by_the_entries=(
        "the gradient is divided by the number of entries of the logits, V times too much; the "
        "mean is over the positions",
        {"over": "entries"},
    ),
    divided_by_the_vocabulary=(
        "the gradient is divided by V; the mean is over the positions, targets.numel()",
        {"over": "tokens"},
    ),
    divided_by_the_length=(
        "the gradient is divided by the size of the last axis of the targets; the mean is over all "
        "positions, targets.numel()",
        {"over": "last axis of targets"},
    ),
    sign_flipped=(
        "the sign is wrong: this is what was true minus what was predicted, along which the loss "
        "falls; the gradient is where it rises",
        {"sign": -1},
    ),
    truth_not_subtracted=(
        "this is the softmax alone; at the target, 1 is to be subtracted",
        {"parts": "shares only"},
    ),
    only_the_truth=(
        "only the -1 at the target is there; the softmax belongs to every token",
        {"parts": "truth only"},
    ),
    only_at_the_target=(
        "only the target's logit has a gradient; all the others have one too, their share",
        {"parts": "at the target"},
    ),
    not_at_the_target=(
        "the target's own entry is 0; it is its share minus 1",
        {"parts": "beside the target"},
    ),
    through_the_softmax_again=(
        "softmax minus truth is the gradient at the logits already; it is sent through the "
        "softmax once more",
        {"parts": "through the softmax"},
    ),
    squared_error=(
        "there is a factor 2, as for a squared error; the cross-entropy has none",
        {"parts": "squared"},
    ),
    in_bits=(
        "the gradient is that of a loss in bits, divided by log 2; the loss is in nats",
        {"factor": 1 / math.log(2)},
    ),
    overflowing=(
        "the softmax overflows for large logits: inf / inf is nan; torch.softmax subtracts the "
        "largest logit first",
        {"shares": "overflowing"},
    ),
    log_softmax=(
        "these are logarithms of the softmax; the gradient contains the shares themselves",
        {"shares": "logarithms"},
    ),
    sigmoid=(
        "each logit goes through a sigmoid of its own; the tokens share one softmax",
        {"shares": "sigmoid"},
    ),
    logits_themselves=(
        "1 is subtracted from the logits themselves; take their softmax first",
        {"shares": "logits"},
    ),
    softmax_of_everything=(
        "one softmax runs over all positions; each position has its own, over the last axis",
        {"shares": "of all"},
    ),
    softmax_over_the_positions=(
        "the softmax runs over the positions (dim=-2) and not over the tokens, the last axis",
        {"dim": -2},
    ),
    softmax_over_axis_zero=(
        "the softmax runs over axis 0 and not over the tokens, the last axis",
        {"dim": 0},
    ),
    softmax_over_axis_one=(
        "the softmax runs over axis 1, which is the last one only without a batch; use dim=-1",
        {"dim": 1},
    ),
    always_float32=(
        "the gradient is float32 whatever the logits are; it should have their dtype",
        {"dtype": torch.float32},
    ),
    truth_not_divided=(
        "the softmax is divided by the number of positions, and the 1 at the target is not; both "
        "are",
        {"parts": "truth undivided"},
    ),
    shares_not_divided=(
        "the 1 at the target is divided by the number of positions, and the softmax is not; both "
        "are",
        {"parts": "shares undivided"},
    ),
    target_replaced=(
        "the target's entry is -1; it is its share minus 1",
        {"parts": "replaced"},
    ),
    softmax_over_all_positions=(
        "the softmax runs over all positions of all rows; it runs over the tokens, the last axis",
        {"shares": "of all positions"},
    ),
)


# --- 6.6 adamw_step ---


def adamw_with(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    *,
    corrected: str = "both",
    count: int = 0,
    power: str = "power",
    decay: str = "decoupled",
    eps_at: str = "outside",
    root: bool = True,
    beta_order: tuple[int, int] = (0, 1),
    means: str = "right",
    squared: str = "gradient",
    direction: int = 1,
    rate: str = "used",
    returned: str = "raw",
    numerator: str = "mean",
    order: str = "weight, mean, square",
) -> Any:
    """One step of AdamW."""
    beta1, beta2 = betas[beta_order[0]], betas[beta_order[1]]
    if decay in ("in the gradient", "in the gradient only"):
        gradient = gradient + weight_decay * weight
    old_mean, old_square = mean, square
    if means == "exchanged":
        m, kept_m, kept_v = gradient, 1 - beta1, 1 - beta2
        mean = kept_m * mean + beta1 * m
        square = kept_v * square + beta2 * gradient**2
    elif means == "summed":
        mean = beta1 * mean + gradient
        square = beta2 * square + gradient**2
    elif means == "mean summed":
        mean = beta1 * mean + gradient
        square = beta2 * square + (1 - beta2) * gradient**2
    else:
        mean = beta1 * mean + (1 - beta1) * gradient
        into = {
            "gradient": gradient**2,
            "mean": mean**2,
            "absolute": gradient.abs(),
            "not": gradient,
            "norm": gradient.square().mean().expand_as(gradient),
            "deviation": (gradient - mean) ** 2,
        }[squared]
        square = beta2 * square + (1 - beta2) * into
    t = step + count
    c1, c2 = {
        "power": (1 - beta1**t, 1 - beta2**t),
        "product": (1 - beta1 * t, 1 - beta2 * t),
        "fixed": (1 - beta1, 1 - beta2),
        "without 1 -": (beta1**t, beta2**t),
    }[power]
    used_mean, used_square = (old_mean, old_square) if numerator == "old" else (mean, square)
    hat_m = used_mean / c1 if corrected in ("both", "mean") else used_mean
    hat_v = used_square / c2 if corrected in ("both", "square") else used_square
    if corrected == "multiplied":
        hat_m, hat_v = used_mean * c1, used_square * c2
    if numerator == "gradient":
        hat_m = gradient
    elif numerator == "nesterov":
        hat_m = (beta1 * mean + (1 - beta1) * gradient) / c1
    if eps_at == "inside":
        size = torch.sqrt(hat_v + eps)
    elif eps_at == "before the correction":
        size = (torch.sqrt(used_square) + eps) / math.sqrt(c2)
    elif eps_at == "root before the correction":
        size = torch.sqrt(used_square) / c2 + eps
    elif eps_at == "nowhere":
        size = torch.sqrt(hat_v)
    else:
        size = (torch.sqrt(hat_v) if root else hat_v) + eps
    eta = lr if rate == "used" else 1.0 if rate == "forgotten" else 1e-3
    update = eta * hat_m / size
    if eps_at == "after the division":
        update = eta * (hat_m / torch.sqrt(hat_v) + eps)
    new = weight - direction * update
    if decay == "decoupled":
        new = new - lr * weight_decay * weight
    elif decay == "without lr":
        new = new - weight_decay * weight
    elif decay == "after the step, without lr":
        new = new - weight_decay * new
    elif decay == "after the step":
        new = new - lr * weight_decay * new
    elif decay == "added":
        new = new + lr * weight_decay * weight
    elif decay == "default":
        new = new - lr * 0.01 * weight
    elif decay == "of the sign":
        new = new - lr * weight_decay * weight.sign()
    if returned == "corrected":
        mean, square = hat_m, hat_v
    elif returned == "old":
        mean, square = old_mean, old_square
    elif returned == "root":
        square = torch.sqrt(square)
    elif returned == "update":
        new = update
    return {
        "weight, mean, square": (new, mean, square),
        "mean, square, weight": (mean, square, new),
        "weight, square, mean": (new, square, mean),
        "weight": new,
    }[order]


ADAMW = mistakes(
    adamw_with,
    no_bias_correction=(
        "the bias correction is missing: divide the means by 1 - beta^step for the step",
        {"corrected": "none"},
    ),
    only_the_mean_corrected=(
        "only the mean of the gradients is corrected; the mean of the squares needs it too",
        {"corrected": "mean"},
    ),
    only_the_square_corrected=(
        "only the mean of the squares is corrected; the mean of the gradients needs it too",
        {"corrected": "square"},
    ),
    correction_multiplied=(
        "the means are multiplied by 1 - beta^step; they are too small, so divide",
        {"corrected": "multiplied"},
    ),
    one_step_too_late=(
        "the bias correction uses step + 1; steps count from 1 already",
        {"count": 1},
    ),
    one_step_too_early=(
        "the bias correction uses step - 1; steps count from 1, so step itself is the exponent",
        {"count": -1},
    ),
    beta_times_step=(
        "the bias correction uses beta * step; it is beta ** step, a power",
        {"power": "product"},
    ),
    correction_without_the_step=(
        "the bias correction is 1 - beta whatever the step; it is 1 - beta ** step",
        {"power": "fixed"},
    ),
    decay_in_the_gradient=(
        "the decay is added to the gradient, and divided by its size like the gradient; decoupled, "
        "lr * weight_decay * weight is taken from the weight directly",
        {"decay": "in the gradient"},
    ),
    decay_without_lr=(
        "the decay is not multiplied by lr: it takes lr * weight_decay * weight",
        {"decay": "without lr"},
    ),
    decay_after_the_step=(
        "the decay is taken from the new weight; it is that of the old one",
        {"decay": "after the step"},
    ),
    decay_after_the_step_without_lr=(
        "the decay is not multiplied by lr, and is taken from the new weight; it takes lr * "
        "weight_decay * the old one",
        {"decay": "after the step, without lr"},
    ),
    decay_forgotten=(
        "there is no weight decay: lr * weight_decay * weight is to be subtracted as well",
        {"decay": "none"},
    ),
    decay_added=(
        "the decay is added, so weights grow; subtract it",
        {"decay": "added"},
    ),
    eps_inside_the_root=(
        "eps is added within the root; it is added to the root",
        {"eps_at": "inside"},
    ),
    eps_before_the_correction=(
        "eps is added before the bias correction, which then divides it too; correct first",
        {"eps_at": "before the correction"},
    ),
    eps_after_the_division=(
        "eps is added to the quotient; it is added to the root, below the fraction bar",
        {"eps_at": "after the division"},
    ),
    eps_forgotten=(
        "eps is not used; it is added to the root of the corrected square",
        {"eps_at": "nowhere"},
    ),
    root_before_the_correction=(
        "the root is taken before the bias correction; correct the mean of the squares first, and "
        "then take its root",
        {"eps_at": "root before the correction"},
    ),
    no_root=(
        "the root is missing: the mean is divided by the root of the mean square, plus eps",
        {"root": False},
    ),
    betas_exchanged=(
        "the betas are exchanged: the first belongs to the mean, the second to the square",
        {"beta_order": (1, 0)},
    ),
    first_beta_for_both=(
        "the first beta is used for both; the mean of the squares has the second",
        {"beta_order": (0, 0)},
    ),
    weights_of_the_mean_exchanged=(
        "beta and 1 - beta are exchanged in the running means: the old mean keeps beta of its "
        "weight",
        {"means": "exchanged"},
    ),
    gradients_summed=(
        "the gradient is added without its factor 1 - beta, so the means are sums",
        {"means": "summed"},
    ),
    mean_squared=(
        "the square of the mean is averaged; average the square of the gradient",
        {"squared": "mean"},
    ),
    not_squared=(
        "the gradient goes into the mean of the squares without being squared",
        {"squared": "not"},
    ),
    uphill=(
        "the step goes uphill: subtract it from the weight",
        {"direction": -1},
    ),
    lr_forgotten=(
        "the step is not multiplied by lr",
        {"rate": "forgotten"},
    ),
)

ADAMW_RETURNS = mistakes(
    adamw_with,
    old_means_used=(
        "the step is computed from the old means; first update them, then use them",
        {"numerator": "old"},
    ),
    gradient_itself=(
        "the gradient itself is divided by its size; the running mean takes its place",
        {"numerator": "gradient"},
    ),
    corrected_means_returned=(
        "the means are returned with their bias correction, and the next step would correct them "
        "again; return them without it",
        {"returned": "corrected"},
    ),
    old_means_returned=(
        "the old means are returned; the next step needs the new ones",
        {"returned": "old"},
    ),
    weight_last=(
        "the weight is returned last; (weight, mean, square) is asked for",
        {"order": "mean, square, weight"},
    ),
    only_the_weight=(
        "only the weight is returned; the means are needed for the next step",
        {"order": "weight"},
    ),
)


# --- 6.7 warmup_cosine ---


def cosine_with(
    step: int,
    *,
    max_steps: int,
    warmup_steps: int,
    min_ratio: float,
    rise: str = "right",
    p_from: int = 0,
    p_to: int = 0,
    base: str = "1 at least",
    curve: str = "half cosine",
    low: str = "scaled",
    guard: bool = True,
) -> float:
    """Warm-up, then half a cosine."""
    if not guard and warmup_steps == 0:
        return 1 / warmup_steps
    rising = {
        "right": lambda: (step + 1) / warmup_steps,
        "from zero": lambda: step / warmup_steps,
        "from zero to one": lambda: step / (warmup_steps - 1) if warmup_steps > 1 else 1.0,
        "from zero to one, or an error": lambda: step / (warmup_steps - 1),
        "never there": lambda: (step + 1) / (warmup_steps + 1),
        "none": lambda: 1.0,
        "from min_ratio": lambda: min_ratio + (1 - min_ratio) * (step + 1) / warmup_steps,
        "whole": lambda: float((step + 1) // warmup_steps),
    }
    if step < warmup_steps and rise not in ("absent", "times"):
        return rising.get(rise, rising["right"])()
    start = max(warmup_steps, 0 if base == "warm-up" else 1)
    start = 1 if rise in ("over all", "absent", "times") else start
    length = max_steps if base == "over max_steps" else max_steps - start
    p = (step + 1 - start + p_from) / max(1, length + p_to)
    wave = {
        "half cosine": lambda: (1 + math.cos(math.pi * p)) / 2,
        "whole cosine": lambda: (1 + math.cos(2 * math.pi * p)) / 2,
        "quarter cosine": lambda: math.cos(math.pi * p / 2),
        "without pi": lambda: (1 + math.cos(p)) / 2,
        "not halved": lambda: 1 + math.cos(math.pi * p),
        "between 1 and -1": lambda: math.cos(math.pi * p),
        "rising": lambda: (1 - math.cos(math.pi * p)) / 2,
        "sine": lambda: (1 + math.sin(math.pi * p)) / 2,
        "line": lambda: 1 - p,
    }[curve]()
    factor = {
        "scaled": lambda: min_ratio + (1 - min_ratio) * wave,
        "ignored": lambda: wave,
        "added": lambda: min_ratio + wave,
        "clamped": lambda: max(min_ratio, wave),
        "only multiplied": lambda: (1 - min_ratio) * wave,
        "times the wave": lambda: min_ratio * wave,
        "without brackets": lambda: wave + 1 / 2,
    }[low]()
    is_rising = rise == "times" and step < warmup_steps
    return factor * (step + 1) / warmup_steps if is_rising else factor


COSINE = mistakes(
    cosine_with,
    warmup_from_zero=(
        "the warm-up begins at 0, which wastes step 0: steps count from 0, so step 0 has "
        "1 / warmup_steps",
        {"rise": "from zero"},
    ),
    warmup_from_zero_to_one=(
        "the warm-up begins at 0, in warmup_steps - 1 parts; it has warmup_steps of them, so step "
        "0 has 1 / warmup_steps",
        {"rise": "from zero to one"},
    ),
    warmup_never_there=(
        "the warm-up does not reach 1 at its last step: it has warmup_steps parts, not one more",
        {"rise": "never there"},
    ),
    no_warmup=(
        "there is no warm-up: the factor is 1 from step 0 on",
        {"rise": "none"},
    ),
    warmup_from_the_minimum=(
        "the warm-up rises from min_ratio; it rises from 0, and has 1 / warmup_steps at step 0",
        {"rise": "from min_ratio"},
    ),
    warmup_in_whole_numbers=(
        "// rounds the warm-up down to 0; divide with /",
        {"rise": "whole"},
    ),
    cosine_over_the_whole_run=(
        "the cosine begins at step 0; it begins at the end of the warm-up",
        {"rise": "over all"},
    ),
    warmup_times_the_cosine=(
        "the cosine begins at step 0 and is multiplied by the warm-up; it begins where that ends",
        {"rise": "times"},
    ),
    parts_of_the_whole_run=(
        "the fall is divided into max_steps parts; it has only the steps after the warm-up",
        {"base": "over max_steps"},
    ),
    warmup_left_out=(
        "the warm-up is left out: the cosine runs from step 0 on",
        {"rise": "absent"},
    ),
    one_step_late=(
        "the fall is one step late, and the last step does not reach min_ratio: at step max_steps "
        "- 1 all of it is done",
        {"p_from": -1, "base": "warm-up"},
    ),
    one_step_late_even_without_warmup=(
        "the fall is one step late; at step max_steps - 1 all of it is done",
        {"p_from": -1},
    ),
    early_without_warmup=(
        "without a warm-up the fall begins at step 0 already; step 0 has the peak then",
        {"base": "warm-up"},
    ),
    one_step_early=(
        "the fall is one step early, and already over before the last step",
        {"p_from": 1},
    ),
    peak_twice=(
        "the first step after the warm-up still has the peak: the fall begins with it, since the "
        "last step of the warm-up has 1 already",
        {"p_from": -1, "p_to": -1, "base": "warm-up"},
    ),
    never_at_the_minimum=(
        "the fall has one part too many, so the last step does not reach min_ratio",
        {"p_to": 1},
    ),
    whole_cosine=(
        "this is a whole cosine, which comes up again; half of one ends at its lowest point",
        {"curve": "whole cosine"},
    ),
    quarter_cosine=(
        "this is a quarter of a cosine, steepest at its end; half of one is level at both ends",
        {"curve": "quarter cosine"},
    ),
    pi_forgotten=(
        "math.cos takes radians: pi is missing from its argument",
        {"curve": "without pi"},
    ),
    not_halved=(
        "1 + cos runs from 2 to 0; halve it",
        {"curve": "not halved"},
    ),
    between_plus_and_minus_one=(
        "the cosine runs from 1 to -1; bring it between 1 and 0 first",
        {"curve": "between 1 and -1"},
    ),
    rising=(
        "the factor rises after the warm-up; it should fall",
        {"curve": "rising"},
    ),
    sine=(
        "this is a sine; a cosine is 1 at 0",
        {"curve": "sine"},
    ),
    a_line=(
        "this is a line; half a cosine is asked for",
        {"curve": "line"},
    ),
    minimum_ignored=(
        "min_ratio is ignored: the factor falls to 0",
        {"low": "ignored"},
    ),
    minimum_added=(
        "min_ratio is added to a fall from 1 to 0, so the peak is above 1; the fall has only "
        "1 - min_ratio of room",
        {"low": "added"},
    ),
    cut_off_at_the_minimum=(
        "the fall goes to 0 and is cut off at min_ratio (max); it should end there",
        {"low": "clamped"},
    ),
    minimum_not_added=(
        "the fall goes from 1 - min_ratio to 0; min_ratio is still to be added",
        {"low": "only multiplied"},
    ),
    brackets_missing=(
        "1 - min_ratio is multiplied with the 1 alone, and not with the cosine: brackets are "
        "missing, and the factor starts at 1.5",
        {"low": "without brackets"},
    ),
    minimum_times_the_wave=(
        "min_ratio times the wave falls from min_ratio to 0; the fall goes from 1 to min_ratio",
        {"low": "times the wave"},
    ),
    no_warmup_divides_by_zero=(
        "warmup_steps may be 0, and is divided by: ask first whether the step is in the warm-up",
        {"guard": False},
    ),
)


# --- 6.8 warmup_stable_decay ---


def stable_with(
    step: int,
    *,
    max_steps: int,
    warmup_steps: int,
    decay_steps: int,
    min_ratio: float,
    rise: str = "right",
    done: int = 0,
    parts: int = 0,
    begins: str = "late",
    curve: str = "line",
    low: str = "scaled",
) -> float:
    """Warm-up, stable, decay."""
    if step < warmup_steps:
        return {
            "right": lambda: (step + 1) / warmup_steps,
            "from zero": lambda: step / warmup_steps,
            "from zero to one": lambda: step / (warmup_steps - 1) if warmup_steps > 1 else 1.0,
            "never there": lambda: (step + 1) / (warmup_steps + 1),
            "none": lambda: 1.0,
            "from min_ratio": lambda: min_ratio + (1 - min_ratio) * (step + 1) / warmup_steps,
        }[rise]()
    start = {
        "late": max_steps - decay_steps,
        "after the warm-up": warmup_steps,
        "after the warm-up, for decay_steps": warmup_steps,
        "early": decay_steps,
        "after decay_steps": warmup_steps + decay_steps,
        "never": max_steps,
    }[begins]
    now = step + 1 - start + done
    if now <= 0 or (decay_steps == 0 and begins != "after the warm-up"):
        return 1.0
    if begins == "after the warm-up, for decay_steps":
        begins = "late"
    if begins == "after decay_steps":
        decay_steps = max_steps - start
    whole = (max_steps - warmup_steps if begins == "after the warm-up" else decay_steps) + parts
    p = min(now / whole, 1.0) if whole else 1.0
    wave = {
        "line": lambda: 1 - p,
        "cosine": lambda: (1 + math.cos(math.pi * p)) / 2,
        "root": lambda: 1 - math.sqrt(p),
        "square": lambda: (1 - p) ** 2,
        "rising": lambda: p,
        "at once": lambda: 0.0,
        "exponential": lambda: max(min_ratio, 1e-3) ** p,
    }[curve]()
    if curve == "exponential":
        return wave
    return {
        "scaled": lambda: min_ratio + (1 - min_ratio) * wave,
        "ignored": lambda: wave,
        "added": lambda: min_ratio + wave,
        "clamped": lambda: max(min_ratio, wave),
        "only multiplied": lambda: (1 - min_ratio) * wave,
        "subtracted": lambda: 1 - min_ratio * p,
    }[low]()


STABLE = mistakes(
    stable_with,
    warmup_from_zero=(
        "the warm-up begins at 0, which wastes step 0: steps count from 0, so step 0 has "
        "1 / warmup_steps",
        {"rise": "from zero"},
    ),
    warmup_never_there=(
        "the warm-up does not reach 1 at its last step: it has warmup_steps parts, not one more",
        {"rise": "never there"},
    ),
    no_warmup=(
        "there is no warm-up: the factor is 1 from step 0 on",
        {"rise": "none"},
    ),
    warmup_from_the_minimum=(
        "the warm-up rises from min_ratio; it rises from 0, and has 1 / warmup_steps at step 0",
        {"rise": "from min_ratio"},
    ),
    warmup_from_zero_to_one=(
        "the warm-up begins at 0, in warmup_steps - 1 parts; it has warmup_steps of them, so step "
        "0 has 1 / warmup_steps",
        {"rise": "from zero to one"},
    ),
    decay_one_step_late=(
        "the decay is one step late: its first step still has the peak, and the last step does "
        "not reach min_ratio",
        {"done": -1},
    ),
    decay_one_step_early=(
        "the decay is one step early: the step before it has fallen already",
        {"done": 1},
    ),
    first_step_of_the_decay_at_the_peak=(
        "the first step of the decay still has the peak; the fall takes decay_steps equal parts",
        {"done": -1, "parts": -1},
    ),
    one_part_too_many=(
        "the decay has one part too many, so the last step does not reach min_ratio",
        {"parts": 1},
    ),
    decay_right_after_the_warmup=(
        "the decay begins at the end of the warm-up; it begins decay_steps before the end of the "
        "run",
        {"begins": "after the warm-up"},
    ),
    early_and_short=(
        "the decay begins at the end of the warm-up, and the rest of the run has min_ratio; it "
        "begins decay_steps before the end of the run",
        {"begins": "after the warm-up, for decay_steps"},
    ),
    decay_counted_from_the_start=(
        "the decay begins at step decay_steps; that is its length, counted from the end of the run",
        {"begins": "early"},
    ),
    stable_for_decay_steps=(
        "the factor stays at 1 for decay_steps, and falls from then on; decay_steps is the length "
        "of the fall",
        {"begins": "after decay_steps"},
    ),
    never_falls=(
        "the factor never falls: there is no decay",
        {"begins": "never"},
    ),
    cosine=(
        "the decay follows a cosine; it falls in equal parts, along a line",
        {"curve": "cosine"},
    ),
    root=(
        "the decay follows a root, fast at first; it falls in equal parts, along a line",
        {"curve": "root"},
    ),
    square=(
        "the decay follows a square; it falls in equal parts, along a line",
        {"curve": "square"},
    ),
    exponential=(
        "the decay is exponential; it falls in equal parts, along a line",
        {"curve": "exponential"},
    ),
    rising=(
        "the decay rises from min_ratio to 1; it should fall",
        {"curve": "rising"},
    ),
    at_once=(
        "the factor drops to min_ratio at once; it falls in equal parts over decay_steps",
        {"curve": "at once"},
    ),
    minimum_ignored=(
        "min_ratio is ignored: the factor falls to 0",
        {"low": "ignored"},
    ),
    minimum_added=(
        "min_ratio is added to a fall from 1 to 0; the fall has only 1 - min_ratio of room",
        {"low": "added"},
    ),
    cut_off_at_the_minimum=(
        "the fall goes to 0 and is cut off at min_ratio (max); it should end there",
        {"low": "clamped"},
    ),
    minimum_not_added=(
        "the fall goes from 1 - min_ratio to 0; min_ratio is still to be added",
        {"low": "only multiplied"},
    ),
    minimum_taken_away=(
        "the fall takes min_ratio away; it ends at min_ratio, so it takes 1 - min_ratio away",
        {"low": "subtracted"},
    ),
)


def divides_by_no_decay(
    step: int, *, max_steps: int, warmup_steps: int, decay_steps: int, min_ratio: float
) -> float:
    """decay_steps may be 0, and is divided by; ask first whether the decay has begun"""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step + 1 - (max_steps - decay_steps)) / decay_steps
    return 1 - (1 - min_ratio) * max(0.0, share)


# --- 6.9 clip_gradients ---


def clip_with(
    gradients: Sequence[Tensor],
    max_norm: float,
    *,
    norm_of: str = "all entries",
    power: float = 1.0,
    when: str = "too long",
    how: str = "scaled",
    returned: str = "before",
    order: str = "gradients, norm",
    zero: str = "no limit",
    empty: str = "zero",
) -> Any:
    """Clipped gradients and their norm."""
    row = torch.cat([gradient.double().flatten() for gradient in gradients])
    norm = {
        "all entries": lambda: row.norm(),
        "not rooted": lambda: row.square().sum(),
        "absolute": lambda: row.abs().sum(),
        "largest": lambda: row.abs().max(),
        "mean": lambda: row.square().mean().sqrt(),
        "signed": lambda: row.sum().abs(),
        "sum of norms": lambda: torch.stack([g.double().norm() for g in gradients]).sum(),
        "root of norms": lambda: torch.stack([g.double().norm() for g in gradients]).sum().sqrt(),
        "largest norm": lambda: torch.stack([g.double().norm() for g in gradients]).max(),
        "mean of norms": lambda: torch.stack([g.double().norm() for g in gradients]).mean(),
        "first": lambda: gradients[0].double().norm(),
        "last": lambda: gradients[-1].double().norm(),
    }[norm_of]().item()

    def factor_for(length: float) -> float:
        if zero == "no limit" and max_norm == 0:
            return 1.0
        if length == 0 and empty == "nan":
            return math.nan
        if when == "too long" and length <= max_norm:
            return 1.0
        if when == "too short" and length >= max_norm:
            return 1.0
        if how == "inverted":
            return length / max_norm if max_norm else math.inf
        if how == "to length 1":
            return 1 / length if length else 1.0
        if how == "over the square":
            return max_norm / length**2 if length else 1.0
        if how == "times the limit":
            return max_norm
        if length == 0:
            return math.nan if empty == "nan" else 1.0
        return (max_norm / length) ** power

    if how == "each entry":
        limit = max_norm if max_norm or zero != "no limit" else math.inf
        clipped = tuple(gradient.clamp(-limit, limit) for gradient in gradients)
    elif how == "each tensor":
        clipped = tuple(g * factor_for(g.double().norm().item()) for g in gradients)
    elif how == "not at all":
        clipped = tuple(gradients)
    elif how == "first only":
        clipped = (gradients[0] * factor_for(norm), *gradients[1:])
    elif how == "zeroed":
        clipped = tuple(g * (0.0 if factor_for(norm) != 1 else 1.0) for g in gradients)
    else:
        clipped = tuple(gradient * factor_for(norm) for gradient in gradients)
    after = torch.cat([gradient.double().flatten() for gradient in clipped]).norm().item()
    shown: Any = {
        "before": norm,
        "after": after,
        "factor": factor_for(norm),
        "squared": norm**2,
        "each": [gradient.norm().item() for gradient in gradients],
    }[returned]
    if order == "norm, gradients":
        return shown, clipped
    if order == "gradients":
        return clipped
    if order == "flat":
        return torch.cat([gradient.flatten() for gradient in clipped]), shown
    return clipped, shown


CLIP = mistakes(
    clip_with,
    each_tensor_alone=(
        "each gradient is clipped by a norm of its own, which turns the direction; all together "
        "have one norm and one factor",
        {"how": "each tensor"},
    ),
    each_entry_alone=(
        "each entry is limited by itself (clamp), which turns the direction; all together have one "
        "norm and one factor",
        {"how": "each entry"},
    ),
    root_forgotten=(
        "the root is missing: the norm is the root of the sum of the squares",
        {"norm_of": "not rooted"},
    ),
    absolute_values=(
        "the norm is the sum of the absolute values; it is the root of the sum of the squares",
        {"norm_of": "absolute"},
    ),
    largest_entry=(
        "the norm is the largest entry; it is the root of the sum of all squares",
        {"norm_of": "largest"},
    ),
    root_mean_square=(
        "the squares are averaged; the norm is the root of their sum",
        {"norm_of": "mean"},
    ),
    signed_sum=(
        "the entries are added up without being squared; the norm is the root of the sum of the "
        "squares",
        {"norm_of": "signed"},
    ),
    norms_added=(
        "the norms of the tensors are added up; the squares are, before one root is taken",
        {"norm_of": "sum of norms"},
    ),
    norms_not_squared=(
        "the root is taken of the sum of the norms; square each norm before you add",
        {"norm_of": "root of norms"},
    ),
    largest_norm=(
        "the norm is that of the largest tensor; it is that of all entries together",
        {"norm_of": "largest norm"},
    ),
    mean_of_the_norms=(
        "the norms of the tensors are averaged; the norm is that of all entries together",
        {"norm_of": "mean of norms"},
    ),
    norm_of_the_first=(
        "the norm is that of the first tensor; it is that of all entries together",
        {"norm_of": "first"},
    ),
    norm_of_the_last=(
        "the norm is that of the last tensor; it is that of all entries together",
        {"norm_of": "last"},
    ),
    always_scaled=(
        "short gradients are stretched to max_norm; only longer ones are changed",
        {"when": "always"},
    ),
    scaled_the_wrong_ones=(
        "gradients that are short enough are scaled, and long ones are not; it is the other way "
        "round",
        {"when": "too short"},
    ),
    factor_inverted=(
        "the factor is norm / max_norm, which makes long gradients longer; it is the inverse",
        {"how": "inverted"},
    ),
    divided_by_the_norm=(
        "long gradients become 1 long; they should become max_norm long",
        {"how": "to length 1"},
    ),
    times_the_limit=(
        "the gradients are multiplied by max_norm; the factor is max_norm / norm",
        {"how": "times the limit"},
    ),
    over_the_square=(
        "the factor is max_norm over the sum of the squares; divide by its root, the norm",
        {"how": "over the square"},
    ),
    never_clipped=(
        "nothing is clipped: the gradients come back as they were",
        {"how": "not at all"},
    ),
    only_the_first_scaled=(
        "only the first tensor is scaled; all are, by the same factor",
        {"how": "first only"},
    ),
    set_to_zero=(
        "long gradients are set to 0; they are shortened to max_norm",
        {"how": "zeroed"},
    ),
    factor_squared=(
        "the factor is squared, or applied twice: once is enough",
        {"power": 2.0},
    ),
    norm_after=(
        "the norm after the clipping is returned; the one before it says more",
        {"returned": "after"},
    ),
    factor_returned=(
        "the factor is returned; the norm before the clipping is asked for",
        {"returned": "factor"},
    ),
    norms_returned=(
        "the norm of each tensor is returned; one norm of all together is asked for",
        {"returned": "each"},
    ),
    norm_first=(
        "the norm is returned first; (gradients, norm) is asked for",
        {"order": "norm, gradients"},
    ),
    only_gradients=(
        "only the gradients are returned; the norm is asked for too",
        {"order": "gradients"},
    ),
    zero_is_a_limit=(
        "a max_norm of 0 is taken for a limit, and everything becomes 0; it means no limit",
        {"zero": "limit"},
    ),
    always_scaled_and_nan=(
        "all gradients are brought to max_norm, short ones too, and 0 / 0 is nan; only longer ones "
        "are changed",
        {"when": "always", "empty": "nan"},
    ),
    nan_for_nothing=(
        "gradients of 0 become nan: their norm is 0, and is divided by",
        {"empty": "nan"},
    ),
)


# --- 6.10 accumulated_step ---


def accumulated_with(
    weight: Tensor,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    lr: float,
    *,
    share: str = "of the targets",
    zeroed: str = "before",
    steps: str = "once",
    used: str = "all",
    sign: int = 1,
    returned: str = "weight",
) -> Any:
    """One step on all micro-batches."""
    weight = weight.detach().clone()
    start = weight.clone()
    n_targets = sum(len(y) for _, y in micro_batches)
    gradient = torch.zeros_like(weight)
    chosen = micro_batches[:1] if used == "first" else micro_batches
    seen = 0
    for x, y in chosen:
        seen += len(y)
        leaf = weight.clone().requires_grad_()
        loss = F.cross_entropy(x @ leaf.mT, y)
        factor = {
            "of the targets": len(y) / n_targets,
            "so far": len(y) / seen,
            "equal": 1 / len(micro_batches),
            "none": 1.0,
            "number of targets": float(len(y)),
            "both": len(y) / n_targets / len(micro_batches),
            "sum over number": len(y) / len(micro_batches),
            "inverse": n_targets / len(y),
            "one over its own": 1 / len(y),
            "one over all": 1 / n_targets,
            "largest": len(y) / max(len(each) for _, each in micro_batches),
            "first": len(y) / (len(micro_batches[0][1]) * len(micro_batches)),
            "features": len(y) / (n_targets * x.size(-1)),
            "times the features": x.numel() / n_targets,
            "inverted weights": (1 - len(y) / n_targets) if len(micro_batches) > 1 else 1.0,
        }[share]
        (each,) = torch.autograd.grad(loss * factor, leaf)
        gradient = each if zeroed == "inside" else gradient + each
        if steps == "each":
            weight = weight - sign * lr * gradient
            gradient = torch.zeros_like(weight) if zeroed == "before" else gradient
    if steps == "once":
        weight = weight - sign * lr * gradient
    return {"weight": weight, "gradient": gradient, "start": start}[returned]


ACCUMULATED = mistakes(
    accumulated_with,
    mean_of_means=(
        "the mistake is still there: each micro-batch counts the same, whatever its size, so a "
        "target of a small one counts for more. Weight each by its share of the targets",
        {"share": "equal"},
    ),
    losses_added=(
        "the means of the micro-batches are added up; each is to be weighted by its share of the "
        "targets",
        {"share": "none"},
    ),
    sum_of_all_losses=(
        "the losses of all targets are added up; their mean is asked for, so divide by the number "
        "of all targets",
        {"share": "number of targets"},
    ),
    sum_over_the_number_of_micro_batches=(
        "the sum of all losses is divided by the number of micro-batches; divide by the number of "
        "targets",
        {"share": "sum over number"},
    ),
    divided_twice=(
        "the share of the targets is divided by the number of micro-batches once more; the share "
        "is enough",
        {"share": "both"},
    ),
    share_inverted=(
        "the share is the wrong way round: a micro-batch with more targets has to count for more",
        {"share": "inverse"},
    ),
    mean_divided_again=(
        "the loss of a micro-batch is a mean already, and is divided by its number of targets "
        "again",
        {"share": "one over its own"},
    ),
    mean_divided_by_all=(
        "each mean is divided by the number of all targets; multiply it by its own number first",
        {"share": "one over all"},
    ),
    weighted_by_the_largest=(
        "each micro-batch is weighted by its size relative to the largest one; it is its share of "
        "all targets",
        {"share": "largest"},
    ),
    share_of_those_so_far=(
        "the number of targets so far is taken for the number of all: count them before the loop",
        {"share": "so far"},
    ),
    weighted_by_the_first=(
        "the size of the first micro-batch is taken for that of all",
        {"share": "first"},
    ),
    divided_by_the_features=(
        "the number of features is counted as well; only the targets count",
        {"share": "features"},
    ),
    weights_of_the_others=(
        "each micro-batch gets the share of the others: 1 minus its own",
        {"share": "inverted weights"},
    ),
    only_the_last_gradient=(
        "only the last micro-batch counts: the gradients are cleared within the loop; clear them "
        "once, before it",
        {"zeroed": "inside"},
    ),
    one_step_per_micro_batch=(
        "the optimizer steps after each micro-batch; it should step once, after the last",
        {"steps": "each"},
    ),
    one_step_per_micro_batch_without_clearing=(
        "the optimizer steps after each micro-batch, with gradients that add up; it should step "
        "once, after the last",
        {"steps": "each", "zeroed": "never"},
    ),
    only_the_first=(
        "only the first micro-batch is used",
        {"used": "first"},
    ),
    uphill=(
        "the step goes uphill: subtract lr times the gradient",
        {"sign": -1},
    ),
    gradient_returned=(
        "the gradient is returned; the new weight is asked for",
        {"returned": "gradient"},
    ),
    no_step=(
        "the weight is returned as it was: the optimizer never steps, or what steps is a copy",
        {"returned": "start"},
    ),
    times_the_features=(
        "x.numel() counts the features as well; only the targets count",
        {"share": "times the features"},
    ),
)


# --- 6.11 read_sick_curves ---

RIGHT = {
    "softmax before the loss": "G",
    "targets not shifted": "D",
    "gradients never zeroed": "C",
    "schedule too short": "F",
    "optimizer holds another model": "B",
    "one source after the other": "H",
    "too little text": "A",
    "validation text has its own vocabulary": "E",
}


def reading_with(*, bug: str = "", letter: str = "") -> dict[str, str]:
    """The right answer with one wrong letter."""
    return {**RIGHT, bug: letter} if bug else dict(RIGHT)


def reading(bug: str, letter: str) -> dict[str, str]:
    return {"bug": bug, "letter": letter}


SOFTMAX, SHIFT, ZEROED = (
    "softmax before the loss",
    "targets not shifted",
    "gradients never zeroed",
)
SCHEDULE, OTHER, ORDER = (
    "schedule too short",
    "optimizer holds another model",
    "one source after the other",
)
LITTLE, VOCABULARY = "too little text", "validation text has its own vocabulary"

READINGS = mistakes(
    reading_with,
    b_does_not_move_at_all=(
        "B does not move at all; with a second softmax gradients still flow, and a little is "
        "learned",
        reading(SOFTMAX, "B"),
    ),
    f_is_sharp_enough=(
        "F falls well below the dashed line; a second softmax makes predictions far too even for "
        "that",
        reading(SOFTMAX, "F"),
    ),
    c_moves=(
        "C swings up and down; a second softmax makes a curve dull, not wild",
        reading(SOFTMAX, "C"),
    ),
    e_predicts_well_in_training=(
        "E learns well in training; a second softmax would spoil both curves",
        reading(SOFTMAX, "E"),
    ),
    a_takes_its_time=(
        "A needs hundreds of steps for a low training loss, and its validation rises; copying the "
        "input is learned at once, and works on any text",
        reading(SHIFT, "A"),
    ),
    b_learns_nothing=(
        "B learns nothing; a target that is in the input is the easiest thing to learn",
        reading(SHIFT, "B"),
    ),
    e_does_not_learn_to_copy=(
        "E has a training loss like the sound run; copying would bring it to 0",
        reading(SHIFT, "E"),
    ),
    h_of_two_parts=(
        "H has a jump in the middle; nothing happens there in the code that zeroes gradients",
        reading(ZEROED, "H"),
    ),
    f_is_at_rest=(
        "F is at rest after 50 steps; gradients that add up push the weights for ever",
        reading(ZEROED, "F"),
    ),
    a_falls_steadily=(
        "A falls steadily in training; old gradients that are never forgotten would throw it about",
        reading(ZEROED, "A"),
    ),
    g_hardly_moves=(
        "G hardly moves; gradients that add up make steps that go too far",
        reading(ZEROED, "G"),
    ),
    g_falls_too_little=(
        "G comes to rest high above the dashed line; the first 50 steps of a sound run get lower "
        "than that",
        reading(SCHEDULE, "G"),
    ),
    b_has_no_first_steps=(
        "B does not even fall in the first 50 steps, which this schedule leaves as they are",
        reading(SCHEDULE, "B"),
    ),
    h_goes_on_learning=(
        "H still learns after its jump; with a learning rate of 0 nothing would change any more",
        reading(SCHEDULE, "H"),
    ),
    d_is_perfect=(
        "D comes to rest because nothing is left to learn: its loss is 0; a schedule can't do that",
        reading(SCHEDULE, "D"),
    ),
    g_moves_a_little=(
        "G falls a little at first; if another model is trained, this one never changes",
        reading(OTHER, "G"),
    ),
    f_falls_at_first=(
        "F falls at first; if another model is trained, this one never changes",
        reading(OTHER, "F"),
    ),
    c_changes=(
        "C changes all the time; if another model is trained, this one never does",
        reading(OTHER, "C"),
    ),
    c_has_many_waves=(
        "C has many waves, in both curves; a second source begins once, in the middle",
        reading(ORDER, "C"),
    ),
    a_has_no_jump=(
        "A has no jump anywhere; where the second source begins, the training loss rises at once",
        reading(ORDER, "A"),
    ),
    e_has_no_jump=(
        "E has no jump anywhere; where the second source begins, the training loss rises at once",
        reading(ORDER, "E"),
    ),
    e_trains_like_the_sound_run=(
        "E's training loss is that of the sound run; with 1,000 characters it falls far below",
        reading(LITTLE, "E"),
    ),
    h_is_not_low=(
        "H has a training loss above the sound one; with 1,000 characters it falls far below",
        reading(LITTLE, "H"),
    ),
    d_validates_well=(
        "D is as good in validation; text that is memorized helps with nothing else",
        reading(LITTLE, "D"),
    ),
    a_falls_at_first=(
        "A's validation loss falls at first, so its targets are the right characters",
        reading(VOCABULARY, "A"),
    ),
    h_stays_near_the_dashed_line=(
        "H's validation loss falls below the start; wrong characters cost more and more, the surer "
        "the model becomes",
        reading(VOCABULARY, "H"),
    ),
    c_is_wild_in_training_too=(
        "C is wild in training too; another vocabulary concerns the validation only",
        reading(VOCABULARY, "C"),
    ),
)


# --- 6.12 count_pairs, merge_pair ---


def count_with(
    words: Mapping[tuple[int, ...], int],
    *,
    weight: str = "occurrences",
    pairs: str = "neighbours",
    across: str = "",
    overlapping: bool = True,
    order: str = "as they stand",
    kind: str = "counter",
) -> Any:
    """Counts of pairs."""
    counts: Counter[Any] = Counter()
    entries = list(words.items())
    if across:
        joined = tuple(itertools.chain.from_iterable(word for word, _ in entries))
        entries = [(joined, 1)] if weight == "one" else entries
        if across == "written out":
            written = [token for word, n in words.items() for _ in range(n) for token in word]
            return Counter(itertools.pairwise(written))
        for (one, _), (other, n) in itertools.pairwise(words.items()):
            if one and other:
                counts[one[-1], other[0]] += n
    for word, occurrences in entries:
        found: list[Any] = {
            "neighbours": lambda w=word: list(itertools.pairwise(w)),
            "all pairs": lambda w=word: list(itertools.combinations(w, 2)),
            "every second": lambda w=word: list(itertools.pairwise(w))[::2],
            "last left out": lambda w=word: list(itertools.pairwise(w))[:-1],
            "first left out": lambda w=word: list(itertools.pairwise(w))[1:],
            "round": lambda w=word: [(w[i - 1], w[i]) for i in range(len(w))],
            "gaps": lambda w=word: list(zip(w, w[2:], strict=False)),
            "once per word": lambda w=word: sorted(set(itertools.pairwise(w))),
            "tokens": lambda w=word: [(token, token) for token in w],
        }[pairs]()
        if not overlapping:
            kept: list[Any] = []
            last = -2
            for i, pair in enumerate(found):
                if kept and pair == found[last] and i == last + 1:
                    continue
                kept.append(pair)
                last = i
            found = kept
        for pair in found:
            key = tuple(sorted(pair)) if order == "sorted" else pair
            key = pair[::-1] if order == "reversed" else key
            counts[key] += {
                "occurrences": occurrences,
                "one": 1,
                "squared": occurrences**2,
                "set": 0,
                "length": len(word),
            }[weight]
            if weight == "set":
                counts[key] = occurrences
    if kind == "every pair":
        known = sorted({token for word in words for token in word})
        return {pair: counts[pair] for pair in itertools.product(known, known)}
    if kind == "list":
        return counts.most_common()
    if kind == "most frequent":
        return dict(counts.most_common(1))
    if kind == "sum":
        return sum(counts.values())
    return counts


COUNT = mistakes(
    count_with,
    occurrences_ignored=(
        "each word counts once, however often it occurs in the text",
        {"weight": "one"},
    ),
    overwritten=(
        "a later count replaces an earlier one (= in place of +=); counts of several words add up",
        {"weight": "set"},
    ),
    length_counted=(
        "the length of the word is added; add how often the word occurs",
        {"weight": "length"},
    ),
    across_words=(
        "the last token of a word and the first of the next are counted as a pair; words are "
        "separate",
        {"across": "once"},
    ),
    words_in_one_row=(
        "all words are in one row, so a pair reaches from the end of one into the next; words "
        "are separate",
        {"across": "written out"},
    ),
    all_pairs_of_a_word=(
        "any two tokens of a word are counted; only neighbours are pairs",
        {"pairs": "all pairs"},
    ),
    every_second=(
        "every second pair is left out: the word is cut into twos; every token but the last "
        "begins a pair",
        {"pairs": "every second"},
    ),
    last_left_out=(
        "the last pair of each word is left out: n tokens have n - 1 pairs",
        {"pairs": "last left out"},
    ),
    first_left_out=(
        "the first pair of each word is left out: n tokens have n - 1 pairs",
        {"pairs": "first left out"},
    ),
    last_with_the_first=(
        "the last token of a word and its first are counted as a pair: index -1 is the last",
        {"pairs": "round"},
    ),
    next_but_one=(
        "each token is paired with the next but one; neighbours are asked for",
        {"pairs": "gaps"},
    ),
    once_per_word=(
        "a pair that occurs twice in a word is counted once; every position counts",
        {"pairs": "once per word"},
    ),
    not_overlapping=(
        "(7, 7, 7) holds the pair (7, 7) twice; overlapping positions are left out here",
        {"overlapping": False},
    ),
    sorted_pairs=(
        "(1, 2) and (2, 1) are counted as one pair; the order matters",
        {"order": "sorted"},
    ),
    reversed_pairs=(
        "left and right are exchanged in the pairs",
        {"order": "reversed"},
    ),
    single_tokens=(
        "single tokens are counted; pairs of neighbours are asked for",
        {"pairs": "tokens"},
    ),
    a_list=(
        "this is a list of pairs and counts; a dictionary or Counter is asked for",
        {"kind": "list"},
    ),
    only_the_most_frequent=(
        "only the most frequent pair is returned; all of them are asked for",
        {"kind": "most frequent"},
    ),
    total=(
        "this is the number of all pairs; a count for each is asked for",
        {"kind": "sum"},
    ),
    pairs_that_never_occur=(
        "pairs that never occur are listed with 0; leave them out",
        {"kind": "every pair"},
    ),
)


def merge_with(
    ids: Sequence[int],
    pair: Pair,
    new_id: int,
    *,
    skip: int = 2,
    direction: str = "from the left",
    last: str = "kept",
    matching: str = "both",
    how_many: str = "all",
    kept_too: str = "neither",
    result: str = "list",
) -> Any:
    """Merged ids."""
    left, right = pair[::-1] if matching == "reversed" else pair
    source = list(ids)[::-1] if direction == "from the right" else list(ids)
    if direction == "from the right":
        left, right = right, left
    merged: list[int] = []
    i = count = 0
    while i < len(source):
        here = source[i] == left
        there = i + 1 < len(source) and source[i + 1] == right
        hit = {
            "both": here and there,
            "reversed": here and there,
            "left only": here,
            "either order": (there and here) or source[i : i + 2] == [right, left],
        }[matching]
        if hit and (how_many == "all" or count == 0):
            count += 1
            if kept_too == "left":
                merged.append(source[i])
            merged.append(new_id)
            if kept_too == "right":
                merged.append(source[i + 1])
            i += skip
        else:
            if not (last == "lost" and i == len(source) - 1):
                merged.append(source[i])
            i += 1
    if direction == "from the right":
        merged.reverse()
    if result == "last again" and ids and tuple(ids[-2:]) == pair:
        return [*merged, ids[-1]] if merged[-1] == new_id else merged
    if result == "each":
        return [new_id if token in pair else token for token in ids]
    if result == "text":
        text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))
        return [int(token) for token in text.split()]
    if result == "tokens that differ":
        return sorted(set(merged))
    if result == "count":
        return count
    if result == "unchanged":
        return list(ids)
    if result == "dropped":
        return [token for token in merged if token == new_id or token not in pair]
    return merged


MERGE = mistakes(
    merge_with,
    steps_by_one=(
        "after a merge the right token of the pair is looked at again, and stays; both are used up",
        {"skip": 1},
    ),
    steps_by_three=(
        "after a merge one token too many is skipped; a pair is two tokens",
        {"skip": 3},
    ),
    from_the_right=(
        "the merges go from right to left; the order matters for [7, 7, 7]",
        {"direction": "from the right"},
    ),
    last_token_lost=(
        "the last token is lost if it is not part of a pair",
        {"last": "lost"},
    ),
    reversed_pair=(
        "the pair is taken the wrong way round: left comes first",
        {"matching": "reversed"},
    ),
    left_token_alone=(
        "the left token is replaced whatever follows it; both have to match",
        {"matching": "left only"},
    ),
    either_order=(
        "(2, 1) is merged like (1, 2); the order matters",
        {"matching": "either order"},
    ),
    only_the_first=(
        "only the first occurrence is merged; all are",
        {"how_many": "first"},
    ),
    left_token_kept=(
        "the left token stays beside the new one; the new token replaces both",
        {"kept_too": "left"},
    ),
    right_token_kept=(
        "the right token stays beside the new one; the new token replaces both",
        {"kept_too": "right"},
    ),
    number_of_merges=(
        "this is the number of merges; the list of ids is asked for",
        {"result": "count"},
    ),
    never_merged=(
        "nothing is merged: the ids come back as they were",
        {"result": "unchanged"},
    ),
    others_of_the_pair_dropped=(
        "tokens of the pair that are alone are lost; they stay as they are",
        {"result": "dropped"},
    ),
    last_again=(
        "the last token is added at the end even if it was merged with the one before it",
        {"result": "last again"},
    ),
    each_token_of_the_pair=(
        "every token of the pair is replaced by itself; two neighbours become one new token",
        {"result": "each"},
    ),
    replaced_in_a_text=(
        "the ids are replaced in a text, where 7 7 is also in 17 7; compare the ids themselves",
        {"result": "text"},
    ),
)


# --- 6.13 apply_merges ---


def apply_with(
    ids: Sequence[int],
    new_ids: Mapping[Pair, int],
    *,
    choice: str = "lowest",
    merging: str = "all",
    rounds: int = 10_000,
    result: str = "list",
) -> Any:
    """Tokens of a word."""
    tokens = list(ids)
    order: list[Pair] = []
    if choice == "in the order of the dictionary":
        order = list(new_ids)
    elif choice == "of the beginning":
        order = sorted(set(itertools.pairwise(tokens)) & set(new_ids), key=lambda p: new_ids[p])
    elif choice == "longest":
        return longest_first(tokens, new_ids)
    if choice in ("in the order of the dictionary", "of the beginning"):
        for pair in order:
            tokens = merge_with(tokens, pair, new_ids[pair])
        return tokens
    for _ in range(rounds):
        found = [pair for pair in itertools.pairwise(tokens) if pair in new_ids]
        if not found or (choice == "unknown first" and len(found) < len(tokens) - 1):
            break
        pair = {
            "unknown first": lambda f=found: min(f, key=lambda each: new_ids[each]),
            "lowest": lambda f=found: min(f, key=lambda each: new_ids[each]),
            "highest": lambda f=found: max(f, key=lambda each: new_ids[each]),
            "leftmost": lambda f=found: f[0],
            "rightmost": lambda f=found: f[-1],
            "most frequent": lambda f=found: max(f, key=lambda each, f=f: f.count(each)),
            "smallest pair": lambda f=found: min(f),
        }[choice]()
        how_many = "all" if merging == "all" else "first"
        direction = "from the right" if merging == "from the right" else "from the left"
        how_many = "all" if merging == "from the right" else how_many
        tokens = merge_with(tokens, pair, new_ids[pair], how_many=how_many, direction=direction)
    if result == "tuple of pairs":
        return list(itertools.pairwise(tokens))
    return tokens


def longest_first(ids: Sequence[int], new_ids: Mapping[Pair, int]) -> list[int]:
    """At each place the longest token that fits, from the left."""
    spelled: dict[int, tuple[int, ...]] = {}
    for (left, right), new_id in sorted(new_ids.items(), key=lambda entry: entry[1]):
        spelled[new_id] = (*spelled.get(left, (left,)), *spelled.get(right, (right,)))
    by_length = sorted(spelled.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    tokens: list[int] = []
    i = 0
    while i < len(ids):
        fits = (one for one in by_length if tuple(ids[i : i + len(one[1])]) == one[1])
        token, spelling = next(fits, (ids[i], (ids[i],)))
        tokens.append(token)
        i += len(spelling)
    return tokens


def one_pass(ids: Sequence[int], new_ids: Mapping[Pair, int]) -> list[int]:
    """the word is gone through once, from the left, and what can be merged there is merged; of all
    pairs the one with the lowest new id comes first, and then all over again"""
    tokens: list[int] = []
    i = 0
    while i < len(ids):
        pair = tuple(ids[i : i + 2])
        if pair in new_ids:
            tokens.append(new_ids[pair])  # pyright: ignore[reportArgumentType]
            i += 2
        else:
            tokens.append(ids[i])
            i += 1
    return tokens


def grown_from_the_left(ids: Sequence[int], new_ids: Mapping[Pair, int]) -> list[int]:
    """what is furthest to the left is merged first; the merge that was learned first, with the
    lowest new id, comes first"""
    tokens: list[int] = []
    for token in ids:
        tokens.append(token)
        while len(tokens) > 1 and (tokens[-2], tokens[-1]) in new_ids:
            right = tokens.pop()
            tokens[-1] = new_ids[tokens[-1], right]
    return tokens


APPLY = mistakes(
    apply_with,
    highest_first=(
        "the pair with the highest new id is merged first; the merge that was learned first, with "
        "the lowest id, comes first",
        {"choice": "highest"},
    ),
    leftmost_first=(
        "what is furthest to the left is merged first; the merge that was learned first, with the "
        "lowest new id, comes first",
        {"choice": "leftmost"},
    ),
    leftmost_first_one_by_one=(
        "what is furthest to the left is merged first; the merge that was learned first, with the "
        "lowest new id, comes first",
        {"choice": "leftmost", "merging": "first"},
    ),
    most_frequent_first_one_by_one=(
        "the pair that the word has most often is merged first; that was decided in training: the "
        "lowest new id comes first",
        {"choice": "most frequent", "merging": "first"},
    ),
    highest_first_one_by_one=(
        "the pair with the highest new id is merged first; the merge that was learned first, with "
        "the lowest id, comes first",
        {"choice": "highest", "merging": "first"},
    ),
    pairs_of_the_beginning=(
        "only the pairs that the word has at the beginning are merged; merging makes new pairs, "
        "which can be merged in turn",
        {"choice": "of the beginning"},
    ),
    longest_first=(
        "the longest token that fits is taken; the merges are applied in the order in which they "
        "were learned",
        {"choice": "longest"},
    ),
    unknown_pairs_first=(
        "it ends at the first pair that is unknown, as if that came before all others; unknown "
        "pairs stay, and the known ones are merged",
        {"choice": "unknown first"},
    ),
    rightmost_first=(
        "the rightmost pair is merged first; the merge that was learned first, with the lowest new "
        "id, comes first",
        {"choice": "rightmost"},
    ),
    most_frequent_first=(
        "the pair that the word has most often is merged first; that was decided in training: the "
        "lowest new id comes first",
        {"choice": "most frequent"},
    ),
    smallest_pair_first=(
        "the smallest pair of ids is merged first; compare their new ids",
        {"choice": "smallest pair"},
    ),
    order_of_the_dictionary=(
        "the merges are applied in the order of the dictionary; the order of learning is that of "
        "the new ids",
        {"choice": "in the order of the dictionary"},
    ),
    one_round=(
        "one merge is applied, and no other; repeat until no pair can be merged",
        {"rounds": 1},
    ),
    two_rounds=(
        "two merges are applied, and no more; repeat until no pair can be merged",
        {"rounds": 2},
    ),
    no_round=(
        "nothing is merged: the ids come back as they were",
        {"rounds": 0},
    ),
    from_the_right=(
        "occurrences of a pair are merged from right to left; the order matters for [1, 1, 1]",
        {"merging": "from the right"},
    ),
    pairs_returned=(
        "these are pairs of tokens; the list of tokens is asked for",
        {"result": "tuple of pairs"},
    ),
)


# --- 6.14 newton_schulz ---


def newton_with(
    update: Tensor,
    steps: int = 5,
    *,
    norm: str = "Frobenius",
    a: float = 3.4445,
    b: float = -4.7750,
    c: float = 2.0315,
    product: str = "matrix",
    turned: str = "mT",
    third: str = "right",
    repeat: str = "steps",
    gram_of: str = "X",
    result: str = "X",
) -> Any:
    """Newton-Schulz."""
    n = {
        "Frobenius": lambda: update.norm(dim=(-2, -1), keepdim=True),
        "of all": lambda: update.norm(),
        "of rows": lambda: update.norm(dim=-1, keepdim=True),
        "of columns": lambda: update.norm(dim=-2, keepdim=True),
        "largest entry": lambda: update.abs().amax(dim=(-2, -1), keepdim=True),
        "squared": lambda: update.square().sum(dim=(-2, -1), keepdim=True),
        "none": lambda: torch.ones((), dtype=update.dtype),
        "again and again": lambda: update.norm(dim=(-2, -1), keepdim=True),
        "spectral": lambda: torch.linalg.matrix_norm(update, 2, keepdim=True),
        "mean": lambda: update.square().mean(dim=(-2, -1), keepdim=True).sqrt(),
        "sum": lambda: update.abs().sum(dim=(-2, -1), keepdim=True),
    }[norm]()
    x = update / n
    if result == "bfloat16":
        x = update.bfloat16() / update.bfloat16().norm(dim=(-2, -1), keepdim=True)
    first = x
    count = {"steps": steps, "always 5": 5, "one less": steps - 1, "one more": steps + 1, "once": 1}
    if result == "left transposed" and x.size(-2) > x.size(-1):
        return newton_with(update.mT, steps)
    for _ in range(max(0, count[repeat])):
        if norm == "again and again":
            x = x / x.norm(dim=(-2, -1), keepdim=True)
        base = first if gram_of == "the first X" else x
        if product == "entries":
            x = a * x + b * x**3 + c * x**5
            continue
        other = base.transpose(0, 1) if turned == "first axes" else base.mT
        if turned == "not":
            other = base
        gram = base.mT @ base if turned == "the wrong side" else base @ other
        if third == "right":
            x = a * x + (b * gram + c * gram @ gram) @ x
        elif third == "gram only":
            x = a * x + b * gram @ x + c * gram @ gram
        elif third == "missing":
            x = a * x + b * gram @ x
        elif third == "linear":
            x = a * x + (b + c) * gram @ x
        elif third == "entries squared":
            x = a * x + (b * gram + c * gram * gram) @ x
        elif third == "without a":
            x = (b * gram + c * gram @ gram) @ x
        elif third == "in turn":
            x = a * x + b * gram @ x
            gram = x @ x.mT
            x = x + c * gram @ gram @ x
    if result == "times the norm":
        return x * n
    if result == "bfloat16":
        return x.to(update.dtype)
    if result == "transposed":
        return x.mT
    return x


NEWTON = mistakes(
    newton_with,
    not_divided=(
        "X is not divided by its norm: singular values above 1 grow without limit",
        {"norm": "none"},
    ),
    one_norm_for_all=(
        "all matrices of the batch are divided by one norm; each has its own",
        {"norm": "of all"},
    ),
    norm_of_each_row=(
        "each row is divided by its own norm; a matrix has one",
        {"norm": "of rows"},
    ),
    norm_of_each_column=(
        "each column is divided by its own norm; a matrix has one",
        {"norm": "of columns"},
    ),
    largest_entry=(
        "X is divided by its largest entry; it is the root of the sum of the squares",
        {"norm": "largest entry"},
    ),
    root_forgotten=(
        "X is divided by the sum of its squares; the root is missing",
        {"norm": "squared"},
    ),
    spectral_norm=(
        "X is divided by its largest singular value; the Frobenius norm is asked for, which is "
        "cheaper",
        {"norm": "spectral"},
    ),
    root_mean_square=(
        "X is divided by its root mean square; the squares are summed, not averaged",
        {"norm": "mean"},
    ),
    absolute_values=(
        "X is divided by the sum of its absolute values; it is the root of the sum of the squares",
        {"norm": "sum"},
    ),
    entry_by_entry=(
        "the polynomial is applied to each entry (*, **); the products are those of matrices (@)",
        {"product": "entries"},
    ),
    sign_of_b=(
        "b is negative: -4.7750",
        {"b": 4.7750},
    ),
    signs_of_b_and_c=(
        "the signs of b and c are exchanged: b is -4.7750, c is 2.0315",
        {"b": 4.7750, "c": -2.0315},
    ),
    b_and_c_exchanged=(
        "b and c are exchanged: b belongs to (X X^T) X",
        {"b": 2.0315, "c": -4.7750},
    ),
    classical_coefficients=(
        "these are other coefficients, 1.5 and -0.5; the ones asked for are in the docstring",
        {"a": 1.5, "b": -0.5, "c": 0.0},
    ),
    third_term_missing=(
        "the third term, with c, is missing",
        {"third": "missing"},
    ),
    third_term_without_x=(
        "the third term is c (X X^T)(X X^T) without the X on its right",
        {"third": "gram only"},
    ),
    third_term_like_the_second=(
        "c is multiplied with (X X^T) X, like b; it belongs to (X X^T)(X X^T) X",
        {"third": "linear"},
    ),
    squared_by_entries=(
        "X X^T is squared entry by entry (*, **2); the product is that of matrices (@)",
        {"third": "entries squared"},
    ),
    first_term_missing=(
        "the first term, a X, is missing",
        {"third": "without a"},
    ),
    terms_in_turn=(
        "the third term uses an X that the second has changed already; all three use the same X",
        {"third": "in turn"},
    ),
    gram_of_the_first=(
        "X X^T is computed once, before the loop; every step needs that of its own X",
        {"gram_of": "the first X"},
    ),
    first_axes_swapped=(
        "transpose(0, 1) swaps the first two axes, which are the last two only without a batch; "
        "use .mT",
        {"turned": "first axes"},
    ),
    not_transposed=(
        "the second X is not transposed: X X^T is X @ X.mT",
        {"turned": "not"},
    ),
    wrong_side=(
        "X^T X is on the left of X, which fits only if m = n; it is X X^T there",
        {"turned": "the wrong side"},
    ),
    always_five=(
        "there are always five steps, whatever steps says",
        {"repeat": "always 5"},
    ),
    one_step_less=(
        "there is one step too few",
        {"repeat": "one less"},
    ),
    one_step_more=(
        "there is one step too many",
        {"repeat": "one more"},
    ),
    norm_put_back=(
        "the result is multiplied by the norm again; the singular values should be close to 1",
        {"result": "times the norm"},
    ),
    transposed=(
        "the result is transposed",
        {"result": "transposed"},
    ),
    norm_at_every_step=(
        "X is divided by its norm at every step; once, at the start, is enough",
        {"norm": "again and again"},
    ),
    in_bfloat16=(
        "X is computed in bfloat16, which has two or three digits; keep the dtype of update",
        {"result": "bfloat16"},
    ),
    left_transposed=(
        "a tall matrix is transposed, and not transposed back",
        {"result": "left transposed"},
    ),
)


MISCONCEPTIONS = {
    "predict_losses": PREDICTION,
    "cut_windows": WINDOWS,
    "perplexity": (
        *PERPLEXITY,
        loss_itself,
        logarithm_of_the_loss,
        always_infinite_from_100,
        perplexity_of_bits,
    ),
    "bits_per_char": BITS,
    "cross_entropy": (*CROSS_ENTROPY, loss_as_a_number, always_float32),
    "cross_entropy_backward": BACKWARD,
    "adamw_step": (*ADAMW, *ADAMW_RETURNS),
    "warmup_cosine": COSINE,
    "warmup_stable_decay": (*STABLE, divides_by_no_decay),
    "clip_gradients": CLIP,
    "accumulated_step": ACCUMULATED,
    "read_sick_curves": READINGS,
    "count_pairs": COUNT,
    "merge_pair": MERGE,
    "apply_merges": (*APPLY, one_pass, grown_from_the_left),
    "newton_schulz": NEWTON,
}
