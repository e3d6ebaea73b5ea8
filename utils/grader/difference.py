"""Where two answers differ: type, shape, dtype, device, then values.

    found = difference(answer, truth, "the weights (B, T_q, T_k)", identity)

is None if the answer is right. Values are compared within a tolerance, so an answer in another
style (einsum, loops, a different order of summation) passes.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.grader.relation import of_numbers, relation
from utils.grader.state_words import LOADING, in_one_line
from utils.grader.values import format_rows, format_value, short_repr, type_name

View = Callable[[Any], Any]

TOLERANCE = 1e-5  # absolute, and relative to the expected value
LOOSE = {torch.float16: 1e-2, torch.bfloat16: 2e-2}
RIGHT_SHOWN = 3  # entries of a table of numbers that are right
LARGE_NUMBER = 20  # whole numbers from here on are counts, of which a factor says something


@dataclass(frozen=True)
class Difference:
    """What is wrong with an answer, and by how many tolerances.

    The message is written when it is read: an answer is compared with dozens of misconceptions, of
    which only that they differ counts.
    """

    said: str | Callable[[], str]
    tolerances: float = math.inf

    @property
    def message(self) -> str:
        return self.said if isinstance(self.said, str) else self.said()


def identity(value: Any) -> Any:
    return value


def difference(
    actual: Any, expected: Any, what: str | Sequence[str], view: View
) -> Difference | None:
    """What is wrong with an answer, and by how many tolerances; None if it is right."""
    name = what if isinstance(what, str) else " and ".join(what)
    if actual is None and expected is None:  # of a pair whose second part is None
        return None
    if actual is None:
        return Difference(f"{name}: got None; is a return missing?")
    if isinstance(expected, tuple):
        return difference_of_parts(actual, expected, what)
    if isinstance(expected, Tensor) and not isinstance(actual, Tensor):
        way_out = ": torch's functions, in place of np." * isinstance(actual, np.ndarray)
        return Difference(f"{name}: this is {type_name(actual)}; expected a tensor{way_out}")
    if isinstance(expected, np.ndarray):
        if not isinstance(actual, np.ndarray | np.generic):
            return Difference(f"{name}: this is {type_name(actual)}; expected a NumPy array")
        if np.asarray(actual).dtype.kind not in "biuf":
            return Difference(f"{name}: dtype {actual.dtype}; expected {expected.dtype}")
        if actual.shape == expected.shape and actual.dtype != expected.dtype:
            said = f"{name}: dtype {actual.dtype}; expected {expected.dtype}"
            cause = ": np.sqrt of a whole number is float64, for instance"
            return Difference(said + cause * (actual.dtype == np.float64))
        actual, expected = torch.from_numpy(np.array(actual)), torch.from_numpy(expected.copy())
    try:
        actual, expected = view(actual), view(expected)
    except Exception as error:
        said = in_one_line(error) if LOADING.search(str(error)) else str(error)
        return Difference(f"{name}, {short_repr(actual)}, cannot be used: {said}")
    if isinstance(expected, Tensor):
        return difference_of_tensors(actual, expected, name)
    if isinstance(expected, dict) and isinstance(actual, dict):
        return difference_of_entries(actual, expected, name)
    return difference_of_values(actual, expected, name)


def difference_of_parts(
    actual: Any, expected: tuple[Any, ...], what: str | Sequence[str]
) -> Difference | None:
    """The first part of a tuple that is wrong."""
    if isinstance(what, str):
        what = [f"{what}[{i}]" for i in range(len(expected))]
    if not isinstance(actual, tuple | list) or len(actual) != len(expected):
        got = f"{len(actual)} values" if isinstance(actual, tuple | list) else type_name(actual)
        wanted = f"{len(expected)} values: {', '.join(what)}"
        return Difference(f"it returned {got}; expected {wanted}")
    for ours, truth, name in zip(actual, expected, what, strict=True):
        found = difference(ours, truth, name, identity)
        if found is not None:
            return found
    return None


def difference_of_tensors(actual: Tensor, expected: Tensor, name: str) -> Difference | None:
    """Shape, dtype, device, then values."""
    if actual.shape != expected.shape:
        return Difference(shape_problem(tuple(actual.shape), tuple(expected.shape), name))
    if actual.dtype != expected.dtype:
        return Difference(f"{name}: dtype {actual.dtype}; expected {expected.dtype}")
    if actual.device != expected.device:
        return Difference(f"{name}: on device {actual.device}; expected {expected.device}")
    if torch.equal(actual, expected):
        return None
    error = errors_in_tolerances(actual, expected)
    bad = error > 1
    count = int(bad.sum())
    if count == 0:
        return None
    first = int(bad.flatten().int().argmax())  # argmax returns the first of equals
    at = tuple(int(index) for index in np.unravel_index(first, bad.shape))
    said = partial(values_problem, actual, expected, name, at, count)
    return Difference(said, error.max().item())


def shape_problem(ours: tuple[int, ...], truth: tuple[int, ...], name: str) -> str:
    """Two shapes, and how they are related, if they are."""
    said = f"{name}: shape {ours}; expected {truth}"
    if sorted(ours) == sorted(truth):
        return f"{said}: the same sizes in another order"
    if [size for size in ours if size != 1] == [size for size in truth if size != 1]:
        return f"{said}: they differ only by axes of size 1"
    return said


def values_problem(
    actual: Tensor, expected: Tensor, name: str, at: tuple[int, ...], count: int
) -> str:
    """Where the values first differ; the whole row if it is short enough to read."""
    ours, truth = actual[at], expected[at]
    place = f" at {list(at)}" if at else ""
    total = f" ({count} of {actual.numel()} values differ)" if actual.numel() > 1 else ""
    said = f"{name}: the first difference{place}: got {format_value(ours)}"
    said += f", expected {format_value(truth)}{total}"
    if format_value(ours) == format_value(truth) and not torch.isnan(ours):
        said += f"; the difference is {format_value(ours.double() - truth.double())}"
    if at and actual.size(-1) > 1:
        said += format_rows(actual[at[:-1]], expected[at[:-1]])
    related = relation(actual, expected, name)
    return f"{said}\nNote: {related}" if related else said


def difference_of_values(actual: Any, expected: Any, name: str) -> Difference | None:
    """Numbers by value, whatever their type; everything else by equality."""
    if isinstance(actual, Tensor | np.ndarray | np.generic) and actual.ndim == 0:
        actual = actual.item()
    if isinstance(expected, numbers.Real):
        if not isinstance(actual, numbers.Real):
            return Difference(f"{name}: this is {type_name(actual)}; expected a number")
        error = abs(float(actual) - float(expected)) / (TOLERANCE * (1 + abs(float(expected))))
        exact = isinstance(expected, numbers.Integral)
        if actual == expected or (not exact and error <= 1):
            return None
        # A factor says nothing about an index.
        is_index = exact and abs(float(expected)) < LARGE_NUMBER
        related = "" if is_index else of_numbers(float(actual), float(expected))
        note = f"\nNote: {related}" if related else ""
        said = f"{name}: got {actual}; expected {expected}{note}"
        return Difference(said, math.inf if exact else error)
    if type(actual) is type(expected) and is_equal(actual, expected):
        return None
    return Difference(f"{name}: got {short_repr(actual)}; expected {short_repr(expected)}")


def is_equal(actual: Any, expected: Any) -> bool:
    """Whether two values are equal; lists that hold tensors can't be asked, and count as not."""
    try:
        return bool(actual == expected)
    except (RuntimeError, ValueError):  # "the truth value of a tensor is ambiguous"
        return False


def difference_of_entries(
    actual: dict[str, Any], expected: dict[str, Any], name: str
) -> Difference | None:
    """The first entry of a dictionary that is missing, differs, or should not be there."""
    for key, truth in expected.items():
        if key not in actual:
            found = ", ".join(actual) or "none"
            return Difference(f"{name}: {key} is missing; yours are: {found}")
        error = error_of_entry(actual[key], truth)
        if error > 1:
            # A key may be a name, or the beginning of a sentence: no verb fits all of them.
            ours, theirs = entries_as_text(actual[key], truth)
            said = f"{name}, {key}: {ours}; expected {theirs}"
            return Difference(said + notes_on_entry(actual, expected, key), error)
    extra = [key for key in actual if key not in expected]
    return Difference(f"{name}: {extra[0]} should not be there") if extra else None


def error_of_entry(actual: Any, expected: Any) -> float:
    """How far an entry is from the truth, in tolerances; only floats may be close to it."""
    if not isinstance(actual, float) or not isinstance(expected, float):
        return 0.0 if actual == expected else math.inf
    if actual == expected or (math.isnan(actual) and math.isnan(expected)):
        return 0.0
    error = abs(actual - expected) / (TOLERANCE * (1 + abs(expected)))
    return math.inf if math.isnan(error) else error


def entries_as_text(actual: Any, expected: Any) -> tuple[str, str]:
    """Both as text; floats with few digits, unless they are as good as equal."""
    if not isinstance(actual, float) or not isinstance(expected, float):
        return f"{actual}", f"{expected}"
    ours, truth = f"{actual:.4g}", f"{expected:.4g}"
    return (ours, truth) if ours != truth else (f"{actual:.8g}", f"{expected:.8g}")


def notes_on_entry(actual: dict[str, Any], expected: dict[str, Any], key: str) -> str:
    """Of a table of numbers: a factor of the one that is wrong, and which others are right."""
    if not isinstance(expected[key], float):
        return ""
    related = of_numbers(actual[key], expected[key]) if isinstance(actual[key], float) else ""
    right = [
        one for one in expected if one in actual and error_of_entry(actual[one], expected[one]) <= 1
    ]
    note = f"\nNote: {related}" if related else ""
    return note + (f"\nNote: right already: {', '.join(right[:RIGHT_SHOWN])}" if right else "")


def errors_in_tolerances(actual: Tensor, expected: Tensor) -> Tensor:
    """The error of each value in tolerances; infinite where nan or inf disagree."""
    tolerance = LOOSE.get(expected.dtype, TOLERANCE)
    ours, truth = actual.detach().double(), expected.detach().double()
    error = (ours - truth).abs() / (tolerance * (1 + truth.abs()))
    same = (ours == truth) | (ours.isnan() & truth.isnan())
    not_finite = ~ours.isfinite() | ~truth.isfinite()
    return error.masked_fill(not_finite, math.inf).masked_fill(same, 0.0)
