"""How a wrong result is related to the expected one: transposed, scaled, inverted, reordered.

    relation(actual, expected, "the weights")    "every value is 2 times the expected one"

These relations hold for any exercise, and name the mistake where no known misconception does: a
factor is a missing or wrong scale, a transposed result is a confused axis.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor

CLOSE = 1e-4
SIMPLE = 64  # the largest numerator and denominator of a factor that says something
SIMPLE_FRACTION = 4  # and the largest of the smaller of the two


def relation(actual: Tensor, expected: Tensor, name: str) -> str:
    """What relates two results of one shape, as a sentence; "" if nothing simple does."""
    ours, truth = actual.detach().cpu(), expected.detach().cpu()
    if truth.dtype == torch.bool:
        return of_booleans(ours.bool(), truth)
    ours, truth = ours.double(), truth.double()
    if same(ours, truth):
        return "the difference is small: rounding, or a small term in another place, such as eps"
    of_rows = of_sums if "weights" in name else of_nothing
    checks = (of_nan, of_infinity, of_order, of_scale, of_rows, of_place)
    return next((found for check in checks if (found := check(ours, truth))), "")


def of_nothing(ours: Tensor, truth: Tensor) -> str:
    return ""


def of_booleans(ours: Tensor, truth: Tensor) -> str:
    """Inverted or reordered masks, and where they differ."""
    if torch.equal(ours, ~truth):
        return "True and False are exchanged"
    return of_order(ours.double(), truth.double()) or of_place(ours.double(), truth.double())


def of_nan(ours: Tensor, truth: Tensor) -> str:
    """How many values are nan that should not be."""
    count = int((ours.isnan() & ~truth.isnan()).sum())
    verb = "is" if count == 1 else "are"
    return f"{count} of your {ours.numel()} values {verb} nan" if count else ""


def of_infinity(ours: Tensor, truth: Tensor) -> str:
    """One finite number where there should be an infinite one, and everything else right."""
    infinite = truth.isinf()
    values = ours[infinite]
    if not infinite.any() or not same(ours.where(~infinite, 0.0), truth.where(~infinite, 0.0)):
        return ""
    if not values.isfinite().all() or not bool((values == values[0]).all()):
        return ""
    should = " or ".join(f"{value:g}" for value in truth[infinite].unique().tolist())
    return f"everything is right, but {values[0].item():.4g} in place of {should}"


def of_order(ours: Tensor, truth: Tensor) -> str:
    """The right values in another order."""
    if ours.dim() >= 2 and ours.size(-1) == ours.size(-2) and same(ours.mT, truth):
        return "yours is the expected result transposed"
    if ours.dim() >= 2 and same(ours.flip(-2), truth):
        return "the rows are right, but in reverse order"
    if ours.dim() >= 1 and same(ours.flip(-1), truth):
        return "each row is right, but in reverse order"
    is_mask = bool(((truth == 0) | (truth == 1)).all())
    if not is_mask and same(ours.flatten().sort().values, truth.flatten().sort().values):
        return "the values are right, but in another order"
    return ""


def of_scale(ours: Tensor, truth: Tensor) -> str:
    """One factor, or one difference, for all values."""
    used = (truth.abs() > 1e-6) & truth.isfinite() & ours.isfinite()
    if int(used.sum()) < 2 or not same(ours.masked_fill(used, 0.0), truth.masked_fill(used, 0.0)):
        return ""
    ratios = ours[used] / truth[used]
    if same(ratios, ratios[:1].expand_as(ratios)) and ratios[0] != 0:
        return f"every value is {ratios[0].item():.4g} times the expected one"
    offsets = ours[used] - truth[used]
    if bool(used.all()) and same(offsets, offsets[:1].expand_as(offsets)):
        return f"every value is the expected one plus {offsets[0].item():.4g}"
    return ""


def of_sums(ours: Tensor, truth: Tensor) -> str:
    """Attention weights and probabilities: rows that do not sum to 1 as the expected ones do."""
    expected = truth.sum(-1)
    if ours.dim() < 2 or same(ours.sum(-1), expected) or not is_zeros_and_ones(expected):
        return ""
    if same(ours.sum(-2), torch.ones_like(ours.sum(-2))):
        return "your columns sum to 1; the rows should"
    wrong = (ours.sum(-1) - truth.sum(-1)).abs() > CLOSE
    first = ours.sum(-1)[wrong][0].item()
    return f"one of your rows sums to {first:.4g}; it should sum to {truth.sum(-1)[wrong][0]:.4g}"


def is_zeros_and_ones(sums: Tensor) -> bool:
    """Whether these are the sums of probabilities: 1, or 0 where nothing is possible."""
    return same(sums, sums.round().clamp(0, 1))


def of_place(ours: Tensor, truth: Tensor) -> str:
    """Where two matrices differ, if that is one side of the diagonal, one row or one column."""
    if ours.dim() < 2 or min(ours.shape[-2:]) < 2:
        return ""
    bad = ~torch.isclose(ours, truth, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    bad = bad.flatten(0, -3).any(0) if bad.dim() > 2 else bad
    rows, columns = bad.any(1).nonzero().flatten(), bad.any(0).nonzero().flatten()
    n_rows, n_columns = bad.shape
    if len(rows) == 1:
        return f"only row {int(rows[0])} differs"
    if len(columns) == 1:
        return f"only column {int(columns[0])} differs"
    if n_rows == n_columns and not bad.tril().any():
        return "all differences are above the diagonal, in the future"
    if n_rows == n_columns and not bad.triu().any():
        return "all differences are below the diagonal, in the past"
    if n_rows == n_columns and len(rows) == n_rows and not (bad & ~torch.eye(n_rows).bool()).any():
        return "only the diagonal differs"
    return ""


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal within a tolerance; nan equals nan."""
    return one.shape == other.shape and torch.allclose(
        one, other, rtol=CLOSE, atol=CLOSE, equal_nan=True
    )


def of_numbers(ours: float, truth: float) -> str:
    """A simple factor between two numbers."""
    if not truth or not ours or not math.isfinite(ours) or not math.isfinite(truth):
        return ""
    mine, other = (Fraction(value).limit_denominator(10**9) for value in (ours, truth))
    if not mine or not other:  # too small to tell
        return ""
    factor = mine / other
    smaller, larger = sorted((abs(factor.numerator), factor.denominator))
    if factor == 1 or larger > SIMPLE or smaller > SIMPLE_FRACTION:
        return ""
    words = {Fraction(2): "twice", Fraction(1, 2): "half", Fraction(1, 3): "a third of"}
    return f"that is {words.get(factor, f'{factor} times')} the expected number"
