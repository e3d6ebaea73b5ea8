"""Which misconceptions give the same answer as a learner, or one that resembles it."""

import inspect
import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.grader.calls import Call, Misconception, history, part_of
from utils.grader.difference import View, difference, error_of_entry, identity


def diagnosis(misconception: Misconception) -> str:
    """The diagnosis of a misconception, one sentence: its docstring."""
    return " ".join((inspect.getdoc(misconception) or misconception.__name__).split())


def is_wrong(theirs: Any, expected: Any, view: View) -> bool:
    """Whether a misconception's output is wrong here; raising an error counts as wrong."""
    return isinstance(theirs, Exception) or difference(theirs, expected, "", view) is not None


def is_same(theirs: Any, actual: Any, view: View) -> bool:
    """Whether a misconception's output is the same as the learner's."""
    if theirs is None or isinstance(theirs, Exception):
        return False
    return difference(actual, theirs, "", view) is None


def is_similar(theirs: Any, actual: Any, expected: Any, view: View = identity) -> bool:
    """Whether two answers have the same values, whatever their dtype and their axes of size 1.

    Of several results, or a table of numbers, the first that is wrong is compared. The values must
    not be the expected ones: a wrong dtype alone resembles nothing.
    """
    if isinstance(expected, dict):
        return has_first_mistake(theirs, actual, expected, view)
    if isinstance(expected, tuple):
        for index, truth in enumerate(expected):  # the first part that is wrong is what is shown
            part = part_of(actual, index)
            if not is_right(part, truth):
                return is_similar(part_of(theirs, index), part, truth)
        return False
    values = [plain_values(value) for value in (theirs, actual, expected)]
    if any(value is None for value in values):
        return False
    mine, learners, truth = values
    return same_values(mine, learners) and not same_values(learners, truth)


def is_right(part: Any, truth: Any) -> bool:
    """Whether a part of several results is right, whatever its dtype and its axes of size 1."""
    if same_values(plain_values(part), plain_values(truth)):
        return True
    return difference(part, truth, "", identity) is None  # text, lists, or nothing at all


def has_first_mistake(theirs: Any, actual: Any, expected: Any, view: View) -> bool:
    """Whether the first number of a table that is wrong is the same in both."""
    try:
        mine, learners, truth = view(theirs), view(actual), view(expected)
        first = next(key for key in truth if error_of_entry(learners[key], truth[key]) > 1)
        is_number = isinstance(truth[first], float)  # words coincide too easily
        return is_number and error_of_entry(mine[first], learners[first]) <= 1
    except Exception:  # another type or other keys, or only something that should not be there
        return False


def plain_values(value: Any) -> Tensor | None:
    """The values of a tensor, array or number as float64, without axes of size 1; else None."""
    if isinstance(value, numbers.Real):
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor) or value.is_meta or value.is_complex():
        return None
    return value.detach().cpu().double().squeeze()


def same_values(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors of float64 are equal, within what float32 rounds."""
    if one is None or other is None or one.shape != other.shape:
        return False
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


def misconceptions_with_same_error(call: Call) -> frozenset[str]:
    """The misconceptions that raise the same error as the learner's code."""

    def raises_it(misconception: Misconception) -> bool:
        theirs, error = call.repeat(misconception), call.error
        return type(theirs) is type(error) and str(theirs) == str(error)

    history.suspects.answer_is_wrong(call.misconceptions, raises_it)
    return frozenset(diagnosis(one) for one in call.misconceptions if raises_it(one))
