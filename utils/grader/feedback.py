"""Comparing a learner's answer with the truth, in words that help.

    expect_equal(ex.causal_mask(5), truth, what="the mask (T, T)")

passes, or raises `Wrong`, whose message says what was called, what came out and where it first
differs. Values are compared within a tolerance, so an answer in another style (einsum, loops,
another order of sums) passes.

A *misconception* is a function with the exercise's own arguments that makes one mistake people
really make; its docstring is the diagnosis. Each answer remembers the call it came from, so the
misconceptions can be run on the very same inputs: those that give the learner's very answer, where
the truth is another, travel with the error.
"""

import copy
import inspect
import math
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Misconception = Callable[..., Any]
View = Callable[[Any], Any]

TOLERANCE = 1e-5  # absolute, and relative to the size of the true value
LOOSE = {torch.float16: 1e-2, torch.bfloat16: 2e-2}
ROW = 62  # characters of a row of values: with what stands before it, it fits 80 columns


class Wrong(AssertionError):  # noqa: N818 - a verdict, and pytest's own failures derive from this
    """The answer is wrong; the message is for the learner.

    `explained_by` names the misconceptions that give the learner's very answer; None says that this
    case cannot tell. `margin` is how far the answer is from the truth, in tolerances.
    """

    def __init__(
        self, message: str, explained_by: frozenset[str] | None = None, margin: float = math.inf
    ) -> None:
        super().__init__(message)
        self.message = message
        self.explained_by = explained_by
        self.margin = margin


@dataclass
class Call:
    """One call of a learner's code: its inputs as they were before it, and what came out.

    `build` makes the object whose method was called from a class (the learner's or a
    misconception's), with the same parameters; None when a plain function was called.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    random_state: Tensor
    misconceptions: Sequence[Misconception] = ()
    build: Callable[[type], nn.Module] | None = None
    result: Any = None
    error: BaseException | None = None

    def __str__(self) -> str:
        words = [brief(value) for value in self.args]
        words += [f"{name}={brief(value)}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(words)})"

    def repeat(self, misconception: Misconception) -> Any:
        """What a misconception makes of the same inputs; an error it raises is returned."""
        args, kwargs = copied(self.args), copied(self.kwargs)
        now, function = torch.get_rng_state(), misconception
        try:
            with warnings.catch_warnings(action="ignore"):
                if self.build is not None and isinstance(misconception, type):
                    function = self.build(misconception)  # which may draw random numbers itself
                torch.set_rng_state(self.random_state)
                return function(*args, **kwargs)
        except Exception as error:
            return error
        finally:
            torch.set_rng_state(now)


@dataclass
class History:
    """What one test has seen: the last calls, so that an answer finds the one it came from.

    `refuted` are the misconceptions that would have failed where the learner's answer was right.
    """

    calls: list[Call] = field(default_factory=list)
    refuted: set[str] = field(default_factory=set)

    def clear(self) -> None:
        self.calls, self.refuted = [], set()

    def remember(self, call: Call) -> None:
        self.calls = [*self.calls[-7:], call]

    def origin(self, answer: Any) -> tuple[Call, int | None] | None:
        """The call that returned this answer, or a tuple with this answer at some index."""
        for call in reversed(self.calls):
            if call.result is answer:
                return call, None
            if isinstance(call.result, tuple | list):
                for index, part in enumerate(call.result):
                    if part is answer:
                        return call, index
        return None


history = History()


def as_it_is(value: Any) -> Any:
    return value


# --- what a test says ---


def expect(condition: bool, message: str) -> None:
    """Raise Wrong with this message, written for the learner, unless the condition holds."""
    if not condition:
        raise Wrong(message)


def expect_equal(
    actual: Any,
    expected: Any,
    what: str | Sequence[str] = "the result",
    *,
    view: View = as_it_is,
) -> None:
    """Raise Wrong unless a learner's answer equals the truth: kind, shape, dtype, device, values.

    actual: what the learner's function returned, untouched, so that its call is found. `what` names
    it, best with its axes: "the weights (B, T_q, T_k)"; for a tuple, one name each. `view` is seen
    in place of both, where more than one answer is right.
    """
    found = difference(actual, expected, what, view)
    source = history.origin(actual)
    if source is None:
        if found is not None:
            raise Wrong(found[0], None, found[1])
        return
    call, index = source
    theirs = {diagnosis(one): part_of(call.repeat(one), index) for one in call.misconceptions}
    wrong = {name for name, value in theirs.items() if is_wrong(value, expected, view)}
    if found is None:
        history.refuted |= wrong
        return
    alike = frozenset(name for name in wrong if same(theirs[name], actual, view))
    raise Wrong(f"{call}: {found[0]}", alike, found[1])


def expect_same_gradients(actual: Tensor, expected: Tensor, inputs: Mapping[str, Tensor]) -> None:
    """Raise Wrong unless both results send the same gradients back to the inputs, by name.

    The inputs require gradients, and both results were computed from them.
    """
    if not actual.requires_grad:
        raise Wrong(
            "the values are right, but no gradient can flow back through them: .detach(), .item(), "
            ".data, NumPy or torch.tensor(...) cut it off; keep to tensor operations"
        )
    weights = torch.linspace(-1, 1, expected.numel(), dtype=expected.dtype).view_as(expected)
    tensors = list(inputs.values())
    truths = gradients(expected, weights, tensors)
    try:
        found = gradients(actual, weights, tensors)
    except RuntimeError as error:
        raise Wrong(f"the backward pass fails: {error}") from None
    for name, ours, truth in zip(inputs, found, truths, strict=True):
        if truth is None:
            continue
        ours = torch.zeros_like(truth) if ours is None else ours
        problem = difference(ours, truth, f"the gradient of {name}", as_it_is)
        if problem is not None:
            raise Wrong(f"the values are right, but {problem[0]}", None, problem[1])


def gradients(
    result: Tensor, weights: Tensor, inputs: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """What a weighted sum of the result sends back to each input; None where nothing arrives."""
    total = (result * weights).sum()
    return torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=True)


# --- where two answers differ ---


def difference(
    actual: Any, expected: Any, what: str | Sequence[str], view: View
) -> tuple[str, float] | None:
    """What is wrong with an answer and by how many tolerances; None if nothing is."""
    name = what if isinstance(what, str) else " and ".join(what)
    if actual is None:
        return f"{name} is None: is a return missing?", math.inf
    if isinstance(expected, tuple):
        return difference_of_parts(actual, expected, what)
    if isinstance(expected, Tensor) and not isinstance(actual, Tensor):
        return f"{name} is {kind(actual)}, where a tensor was asked for", math.inf
    try:
        actual, expected = view(actual), view(expected)
    except Exception as error:
        return f"{name}, {brief(actual)}, cannot be used: {error}", math.inf
    if isinstance(expected, Tensor):
        return difference_of_tensors(actual, expected, name)
    return difference_of_values(actual, expected, name)


def difference_of_parts(
    actual: Any, expected: tuple[Any, ...], what: str | Sequence[str]
) -> tuple[str, float] | None:
    """The first part of a tuple that is wrong."""
    names = [f"{what}[{i}]" for i in range(len(expected))] if isinstance(what, str) else what
    if not isinstance(actual, tuple | list) or len(actual) != len(expected):
        got = f"{len(actual)} values" if isinstance(actual, tuple | list) else kind(actual)
        return f"it returned {got}, where {len(expected)} were asked for: {', '.join(names)}", (
            math.inf
        )
    for ours, truth, name in zip(actual, expected, names, strict=True):
        found = difference(ours, truth, name, as_it_is)
        if found is not None:
            return found
    return None


def difference_of_tensors(actual: Tensor, expected: Tensor, name: str) -> tuple[str, float] | None:
    """Shape, dtype, device, then values."""
    if actual.shape != expected.shape:
        return shape_problem(tuple(actual.shape), tuple(expected.shape), name), math.inf
    for quality in ("dtype", "device"):
        ours, truth = getattr(actual, quality), getattr(expected, quality)
        if ours != truth:
            return f"{name} has {quality} {ours}, where {truth} was asked for", math.inf
    error = errors_in_tolerances(actual, expected)
    bad = error > 1
    count = int(bad.sum())
    if count == 0:
        return None
    first = int(bad.flatten().int().argmax())  # of equal ones, the first
    at = tuple(int(index) for index in np.unravel_index(first, bad.shape))
    return values_problem(actual, expected, name, at, count), error.max().item()


def shape_problem(ours: tuple[int, ...], truth: tuple[int, ...], name: str) -> str:
    """Two shapes, and what usually makes the one from the other."""
    said = f"{name} has shape {ours}, where {truth} was asked for"
    if sorted(ours) == sorted(truth):
        return f"{said}: the same sizes in another order"
    if [size for size in ours if size != 1] == [size for size in truth if size != 1]:
        return f"{said}: they differ by axes of size 1"
    return said


def values_problem(
    actual: Tensor, expected: Tensor, name: str, at: tuple[int, ...], count: int
) -> str:
    """Where the values first differ; the whole last axis if it is short enough to read."""
    ours, truth = actual[at], expected[at]
    place = f" at {list(at)}" if at else ""
    total = f" ({count} of {actual.numel()} values differ)" if actual.numel() > 1 else ""
    if torch.isnan(ours) and not torch.isnan(truth):
        return f"{name} is nan{place}, where {number(truth)} was expected{total}"
    said = f"{name} first differs{place}: {number(ours)}, where {number(truth)} was expected{total}"
    if number(ours) == number(truth):
        said += f"; the difference is {number(ours.double() - truth.double())}"
    row = at[:-1]
    if at and actual.size(-1) > 1 and len(numbers_of(actual[row], expected[row])[0]) <= ROW:
        mine, right = numbers_of(actual[row], expected[row])
        said += f"\n    yours     {mine}\n    expected  {right}"
    return said


def difference_of_values(actual: Any, expected: Any, name: str) -> tuple[str, float] | None:
    """Numbers by value, whatever their type; anything else by equality."""
    if isinstance(actual, Tensor | np.ndarray | np.generic) and actual.ndim == 0:
        actual = actual.item()
    if isinstance(expected, numbers.Real):
        if not isinstance(actual, numbers.Real):
            return f"{name} is {kind(actual)}, where a number was asked for", math.inf
        error = abs(float(actual) - float(expected)) / (TOLERANCE * (1 + abs(float(expected))))
        exact = isinstance(expected, numbers.Integral)
        if actual == expected or (not exact and error <= 1):
            return None
        return f"{name} is {actual}, where {expected} was expected", math.inf if exact else error
    if type(actual) is type(expected) and actual == expected:
        return None
    return f"{name} is {brief(actual)}, where {brief(expected)} was expected", math.inf


def errors_in_tolerances(actual: Tensor, expected: Tensor) -> Tensor:
    """How far each value is from the truth, in tolerances; infinite where nan or inf disagree."""
    tolerance = LOOSE.get(expected.dtype, TOLERANCE)
    ours, truth = actual.detach().double(), expected.detach().double()
    error = (ours - truth).abs() / (tolerance * (1 + truth.abs()))
    same = (ours == truth) | (ours.isnan() & truth.isnan())
    strange = ~ours.isfinite() | ~truth.isfinite()
    return error.masked_fill(strange, math.inf).masked_fill(same, 0.0)


# --- misconceptions ---


def diagnosis(misconception: Misconception) -> str:
    """What a misconception is, in one sentence: its docstring."""
    return " ".join((inspect.getdoc(misconception) or misconception.__name__).split())


def is_wrong(theirs: Any, expected: Any, view: View) -> bool:
    """Whether a misconception's output is not the truth; to raise an error is not."""
    return isinstance(theirs, Exception) or difference(theirs, expected, "", view) is not None


def same(theirs: Any, actual: Any, view: View) -> bool:
    """Whether a misconception's output is the learner's."""
    raised = isinstance(theirs, Exception) or theirs is None
    return not raised and difference(actual, theirs, "", view) is None


def raised_alike(call: Call) -> frozenset[str]:
    """The misconceptions that raise the very error that the learner's code raised."""
    mine = call.error
    return frozenset(
        diagnosis(misconception)
        for misconception in call.misconceptions
        if isinstance(theirs := call.repeat(misconception), Exception)
        and type(theirs) is type(mine)
        and str(theirs) == str(mine)
    )


def part_of(value: Any, index: int | None) -> Any:
    """value[index], None where there is no such part; the value itself without an index."""
    if index is None or isinstance(value, Exception):
        return value
    return value[index] if isinstance(value, tuple | list) and index < len(value) else None


# --- values in words ---


def copied(value: Any) -> Any:
    """The same value in memory of its own, so that later changes do not reach it."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*map(copied, value))
    if isinstance(value, tuple | list):
        return type(value)(copied(part) for part in value)
    if isinstance(value, dict):
        twin = copy.copy(value)  # a Counter stays a Counter
        for name, part in value.items():
            twin[name] = copied(part)
        return twin
    return value if callable(value) else copy.copy(value)


def kind(value: Any) -> str:
    """What sort of thing a value is: "a NumPy array", "a float"."""
    if isinstance(value, np.ndarray):
        return "a NumPy array"
    name = "tensor" if isinstance(value, Tensor) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def brief(value: Any) -> str:
    """A value in a few characters: small ones as they are, tensors by dtype and shape."""
    if isinstance(value, Tensor | np.ndarray):
        if value.ndim == 0:
            return f"{value.item():.6g}"
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, tuple | list) and any(isinstance(part, Tensor) for part in value):
        return f"({', '.join(brief(part) for part in value)})"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def number(value: Tensor) -> str:
    """One value of a tensor, short."""
    item = value.item()
    return f"{item:.4g}" if isinstance(item, float) else str(item)


def numbers_of(ours: Tensor, truth: Tensor) -> tuple[str, str]:
    """Two rows of values, one below the other."""
    rows = [[number(value) for value in row[: ROW // 2]] for row in (ours, truth)]
    width = max(len(cell) for row in rows for cell in row)
    mine, right = ("  ".join(cell.rjust(width) for cell in row) for row in rows)
    return mine, right
