"""Compare a learner's answer with the expected one, and explain the difference.

    expect_equal(ex.causal_mask(5), truth, what="the mask (T, T)")

passes, or raises `Wrong`, whose message names the call, its result and where it first differs.
Values are compared within a tolerance, so an answer in another style (einsum, loops, a different
order of summation) passes.

A *misconception* is a function with the same arguments as the exercise that makes one common
mistake; its docstring is the diagnosis. Each result is traced to the call it came from, so the
misconceptions can be run on the same inputs. Those that reproduce the learner's wrong result are
attached to the error; so are those that resemble it, because a second mistake or a harmless cast
beside the first must not hide it.
"""

import copy
import inspect
import itertools
import math
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils.grader.mistakes import Suspects, class_of
from utils.grader.plain_words import explain
from utils.grader.relation import of_numbers, relation

Misconception = Callable[..., Any]
View = Callable[[Any], Any]

TOLERANCE = 1e-5  # absolute, and relative to the expected value
LOOSE = {torch.float16: 1e-2, torch.bfloat16: 2e-2}
CALLS_KEPT = 8  # in the history of a test
ROW = 60  # characters of a row of values; with its label it fits 80 columns
LARGE_NUMBER = 20  # whole numbers from here on are counts, of which a factor says something
SMALL = 12  # values in an input that is printed whole, if it fits into
LONGEST_INPUT = 72  # characters


class Wrong(AssertionError):  # noqa: N818 - an outcome; pytest's failures are AssertionErrors too
    """The answer is wrong; the message is for the learner.

    `explained_by` holds the misconceptions that give the same answer; None if this case says
    nothing about misconceptions. `resembles` holds, besides, those that give the same values in
    another dtype, or with other axes of size 1. `margin` is the distance from the expected answer,
    in tolerances.
    """

    def __init__(
        self,
        message: str,
        explained_by: frozenset[str] | None = None,
        margin: float = math.inf,
        resembles: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.explained_by = explained_by
        self.margin = margin
        self.resembles = resembles | (explained_by or frozenset())


@dataclass
class Call:
    """One call of a learner's code: copies of its inputs, and its result or error.

    For a method, `build` makes an object of another class with the same parameters, so that a
    misconception can replace the learner's class; None for a plain function.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    random_state: Tensor
    misconceptions: Sequence[Misconception] = ()
    build: Callable[[Misconception], nn.Module] | None = None
    names: Sequence[str] = ()  # of the positional arguments
    result: Any = None
    error: BaseException | None = None

    def __str__(self) -> str:
        """The call with every argument named, and small inputs shown."""
        names = itertools.chain(self.names, itertools.repeat(""))
        arguments = [named(name, value) for name, value in zip(names, self.args, strict=False)]
        arguments += [named(name, value) for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(arguments)})"

    def repeat(self, misconception: Misconception) -> Any:
        """The result of a misconception on the same inputs; an error it raises is returned."""
        args, kwargs = copy_of(self.args), copy_of(self.kwargs)
        now = torch.get_rng_state()
        function = misconception
        try:
            with warnings.catch_warnings(action="ignore"):
                if self.build is not None and class_of(misconception) is not None:
                    function = self.build(misconception)  # may draw random numbers
                torch.set_rng_state(self.random_state)
                return function(*args, **kwargs)
        except Exception as error:
            return error
        finally:
            torch.set_rng_state(now)


@dataclass
class History:
    """The last calls of one test, so that a result can be traced to the call it came from.

    `refuted` holds the misconceptions that would have failed where the learner's answer was right,
    `replaced` a function of PyTorch that the learner called though it replaces the exercise.
    `suspects` are pairs of mistakes, over all the tests of an exercise.
    """

    calls: list[Call] = field(default_factory=list)
    refuted: set[str] = field(default_factory=set)
    replaced: str = ""
    suspects: Suspects = field(default_factory=Suspects)

    def clear(self) -> None:
        self.calls = []
        self.refuted = set()
        self.replaced = ""

    def add(self, call: Call) -> None:
        self.calls = [*self.calls[1 - CALLS_KEPT :], call]

    def origin(self, answer: Any) -> tuple[Call, int | None] | None:
        """The call that returned this answer (index None), or a tuple with it at an index."""
        for call in reversed(self.calls):
            if call.result is answer:
                return call, None
            if isinstance(call.result, tuple | list):
                for index, part in enumerate(call.result):
                    if part is answer:
                        return call, index
        return None


history = History()


def identity(value: Any) -> Any:
    return value


# --- called by the tests ---


def expect(condition: bool, message: str) -> None:
    """Raise Wrong with this message for the learner unless the condition holds."""
    if not condition:
        raise Wrong(message)


def expect_equal(
    actual: Any,
    expected: Any,
    what: str | Sequence[str] = "the result",
    *,
    view: View = identity,
) -> None:
    """Raise Wrong unless an answer is as expected: type, shape, dtype, device and values.

    actual: what the learner's function returned, unmodified, so that its call can be found.
    what: its name, best with its axes: "the weights (B, T_q, T_k)"; for a tuple, one name each.
    view: applied to both before they are compared, for when more than one answer is right.
    """
    found = difference(actual, expected, what, view)
    origin = history.origin(actual)
    if origin is None:
        if found is not None:
            raise Wrong(found[0], None, found[1])
        return
    call, index = origin
    suspect_pairs(found is None, call, index, (actual, expected, view))
    # A mistake may have several spellings: misconceptions with one diagnosis.
    known = [one for one in call.misconceptions if history.suspects.concerns(diagnosis(one))]
    theirs = [(diagnosis(one), part_of(call.repeat(one), index)) for one in known]
    wrong = [(name, value) for name, value in theirs if is_wrong(value, expected, view)]
    if found is None:
        right = {name for name, value in theirs if not is_wrong(value, expected, view)}
        history.refuted |= {name for name, _ in wrong} - right
        return
    matching = frozenset(name for name, value in wrong if is_same(value, actual, view))
    history.suspects.explained_by(matching)
    alike = frozenset(name for name, value in wrong if is_similar(value, actual, expected))
    raise Wrong(f"{call}\n{found[0]}", matching, found[1], alike)


def expect_parameters(actual: Any, expected: nn.Module) -> None:
    """Raise Wrong unless a learner's layer can load the weights of the expected one.

    actual: what the learner's class returned, so that its misconceptions can be built as well;
    expected: a layer made with the same arguments. Names and shapes are compared, not values.
    """
    expect_equal(actual, expected, what="the parameters", view=parameter_shapes)


def parameter_shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter and buffer of a layer by its name, as load_state_dict sees it."""
    if not isinstance(module, nn.Module):
        raise TypeError("a layer is asked for, a class that is derived from nn.Module")
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def suspect_pairs(
    is_right: bool, call: Call, index: int | None, compared: tuple[Any, Any, View]
) -> None:
    """Narrow down which pairs of mistakes may be behind the answers to this exercise."""
    actual, expected, view = compared

    def gives(pair: Misconception, answer: Any) -> bool:
        return is_same(part_of(call.repeat(pair), index), answer, view)

    if is_right:
        history.suspects.answer_is_right(lambda pair: gives(pair, expected))
    else:
        history.suspects.answer_is_wrong(call.misconceptions, lambda pair: gives(pair, actual))


def expect_prediction(
    actual: Any, expected: Sequence[float], what: str, *, within: float = 0.006
) -> None:
    """Raise Wrong unless a predicted row of numbers is right; the message does not tell the row."""
    origin = history.origin(actual)
    call = None if origin is None else origin[0]
    known = {} if call is None else {diagnosis(m): call.repeat(m) for m in call.misconceptions}
    found = prediction_problem(actual, expected, what, within)
    wrong = {name for name, row in known.items() if prediction_problem(row, expected, what, within)}
    if not found:
        history.refuted |= wrong
        return
    alike = [name for name in wrong if prediction_problem(actual, known[name], what, within) == ""]
    raise Wrong(found, frozenset(alike))


def prediction_problem(actual: Any, expected: Any, what: str, within: float) -> str:
    """What is wrong with a predicted row, "" if nothing is; it never says what is right."""
    if actual is None:
        return f"{what}: got None; is a return missing?"
    if not isinstance(actual, Sequence | np.ndarray | Tensor) or isinstance(actual, str):
        return f"{what}: this is {type_name(actual)}; expected a list of {len(expected)} numbers"
    row = [float(value) if is_number(value) else math.nan for value in actual]
    if len(row) != len(expected):
        return f"{what}: got {len(row)} numbers; {len(expected)} are expected"
    errors = [abs(mine - truth) for mine, truth in zip(row, expected, strict=True)]
    good = sum(error <= within for error in errors)
    if good == len(row):
        return ""
    shown_row = ", ".join(f"{value:.4g}" for value in row)
    said = f"{what}: {good} of {len(row)} values correct in {shown_row}"
    if max(errors) < 10 * within:
        return f"{said}\nNote: all are close; compute more decimals"
    if abs(sum(row) - sum(expected)) > 3 * within:
        return f"{said}\nNote: yours sum to {sum(row):.4g}; they should sum to {sum(expected):.4g}"
    return said


def is_number(value: Any) -> bool:
    """Whether a value is one real number, whatever its type."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.ndim == 0
    return isinstance(value, numbers.Real)


def expect_choice(answer: Any, choice: Any, expected: Any, name: str) -> None:
    """Raise Wrong unless one part of a reading is right; the message does not tell the right one.

    answer: what the learner's function returned; choice: the part of it that belongs to `name`.
    """
    origin = history.origin(answer)
    if choice == expected:
        return
    call = None if origin is None else origin[0]
    theirs = (
        {} if call is None else {diagnosis(one): call.repeat(one) for one in call.misconceptions}
    )
    alike = frozenset(one for one, reading in theirs.items() if reading.get(name) == choice)
    raise Wrong(f"{name}: {choice} is wrong", alike)


def expect_same_gradients(actual: Tensor, expected: Tensor, inputs: Mapping[str, Tensor]) -> None:
    """Raise Wrong unless both results give the same gradient for each of the named inputs.

    The inputs require gradients, and both results were computed from them.
    """
    if not actual.requires_grad:
        raise Wrong(
            "the values are right, but no gradient flows back through them: .detach(), .item(), "
            ".data, NumPy and torch.tensor(...) cut the graph; use tensor operations throughout"
        )
    weights = torch.linspace(-1, 1, expected.numel(), dtype=expected.dtype).view_as(expected)
    tensors = list(inputs.values())
    truths = gradients(expected, weights, tensors)
    try:
        found = gradients(actual, weights, tensors)
    except RuntimeError as error:
        meaning = explain(error)
        plain = f"\nIn plain words: {meaning}" if meaning else ""
        cause = str(error).partition("Hint:")[0].strip()
        raise Wrong(f"the values are right, but the backward pass fails: {cause}{plain}") from None
    for name, gradient, truth in zip(inputs, found, truths, strict=True):
        if truth is None:
            continue
        actual = torch.zeros_like(truth) if gradient is None else gradient
        if actual.isnan().any() and not truth.isnan().any():
            raise Wrong(
                f"the values are right, but the gradient of {name} is nan in places: replacing a "
                "nan afterwards (nan_to_num, torch.where, masked_fill) repairs the value and not "
                "the gradient; see to it that no nan is computed"
            )
        problem = difference(actual, truth, f"the gradient of {name}", identity)
        if problem is not None and not is_rounding(actual, truth):
            raise Wrong(f"the values are right, but {problem[0]}", None, problem[1])


def is_rounding(actual: Tensor, truth: Tensor) -> bool:
    """Whether a gradient differs by no more than a sum of terms as large as its largest rounds."""
    if actual.shape != truth.shape or actual.dtype != truth.dtype:
        return False
    tolerance = LOOSE.get(truth.dtype, TOLERANCE) * (1 + truth.abs().max().item())
    return torch.allclose(actual, truth, rtol=0.0, atol=tolerance)


def gradients(
    result: Tensor, weights: Tensor, inputs: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradient of a weighted sum of the result for each input; None if it is not used."""
    total = (result * weights).sum()
    return torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=True)


# --- where two answers differ ---


def difference(
    actual: Any, expected: Any, what: str | Sequence[str], view: View
) -> tuple[str, float] | None:
    """What is wrong with an answer, and by how many tolerances; None if it is right."""
    name = what if isinstance(what, str) else " and ".join(what)
    if actual is None:
        return f"{name}: got None; is a return missing?", math.inf
    if isinstance(expected, tuple):
        return difference_of_parts(actual, expected, what)
    if isinstance(expected, Tensor) and not isinstance(actual, Tensor):
        way_out = ": torch's functions, in place of np." * isinstance(actual, np.ndarray)
        return f"{name}: this is {type_name(actual)}; expected a tensor{way_out}", math.inf
    if isinstance(expected, np.ndarray):
        if not isinstance(actual, np.ndarray | np.generic):
            return f"{name}: this is {type_name(actual)}; expected a NumPy array", math.inf
        if np.asarray(actual).dtype.kind not in "biuf":
            return f"{name}: dtype {actual.dtype}; expected {expected.dtype}", math.inf
        if actual.shape == expected.shape and actual.dtype != expected.dtype:
            said = f"{name}: dtype {actual.dtype}; expected {expected.dtype}"
            cause = ": np.sqrt of a whole number is float64, for instance"
            return said + cause * (actual.dtype == np.float64), math.inf
        actual, expected = torch.from_numpy(np.array(actual)), torch.from_numpy(expected.copy())
    try:
        actual, expected = view(actual), view(expected)
    except Exception as error:
        return f"{name}, {short_repr(actual)}, cannot be used: {error}", math.inf
    if isinstance(expected, Tensor):
        return difference_of_tensors(actual, expected, name)
    if isinstance(expected, dict) and isinstance(actual, dict):
        return difference_of_entries(actual, expected, name)
    return difference_of_values(actual, expected, name)


def difference_of_parts(
    actual: Any, expected: tuple[Any, ...], what: str | Sequence[str]
) -> tuple[str, float] | None:
    """The first part of a tuple that is wrong."""
    if isinstance(what, str):
        what = [f"{what}[{i}]" for i in range(len(expected))]
    if not isinstance(actual, tuple | list) or len(actual) != len(expected):
        got = f"{len(actual)} values" if isinstance(actual, tuple | list) else type_name(actual)
        wanted = f"{len(expected)} values: {', '.join(what)}"
        return f"it returned {got}; expected {wanted}", math.inf
    for ours, truth, name in zip(actual, expected, what, strict=True):
        found = difference(ours, truth, name, identity)
        if found is not None:
            return found
    return None


def difference_of_tensors(actual: Tensor, expected: Tensor, name: str) -> tuple[str, float] | None:
    """Shape, dtype, device, then values."""
    if actual.shape != expected.shape:
        return shape_problem(tuple(actual.shape), tuple(expected.shape), name), math.inf
    if actual.dtype != expected.dtype:
        return f"{name}: dtype {actual.dtype}; expected {expected.dtype}", math.inf
    if actual.device != expected.device:
        return f"{name}: on device {actual.device}; expected {expected.device}", math.inf
    error = errors_in_tolerances(actual, expected)
    bad = error > 1
    count = int(bad.sum())
    if count == 0:
        return None
    first = int(bad.flatten().int().argmax())  # argmax returns the first of equals
    at = tuple(int(index) for index in np.unravel_index(first, bad.shape))
    return values_problem(actual, expected, name, at, count), error.max().item()


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


def difference_of_values(actual: Any, expected: Any, name: str) -> tuple[str, float] | None:
    """Numbers by value, whatever their type; everything else by equality."""
    if isinstance(actual, Tensor | np.ndarray | np.generic) and actual.ndim == 0:
        actual = actual.item()
    if isinstance(expected, numbers.Real):
        if not isinstance(actual, numbers.Real):
            return f"{name}: this is {type_name(actual)}; expected a number", math.inf
        error = abs(float(actual) - float(expected)) / (TOLERANCE * (1 + abs(float(expected))))
        exact = isinstance(expected, numbers.Integral)
        if actual == expected or (not exact and error <= 1):
            return None
        # A factor says nothing about an index.
        is_index = exact and abs(float(expected)) < LARGE_NUMBER
        related = "" if is_index else of_numbers(float(actual), float(expected))
        note = f"\nNote: {related}" if related else ""
        return f"{name}: got {actual}; expected {expected}{note}", math.inf if exact else error
    if type(actual) is type(expected) and actual == expected:
        return None
    return f"{name}: got {short_repr(actual)}; expected {short_repr(expected)}", math.inf


def difference_of_entries(
    actual: dict[str, Any], expected: dict[str, Any], name: str
) -> tuple[str, float] | None:
    """The first entry of a dictionary that is missing, differs, or should not be there."""
    for key, truth in expected.items():
        if key not in actual:
            found = ", ".join(actual) or "none"
            return f"{name}: {key} is missing; yours are: {found}", math.inf
        if actual[key] != truth:
            return f"{name}: {key} is {actual[key]}; expected {truth}", math.inf
    extra = [key for key in actual if key not in expected]
    return (f"{name}: {extra[0]} should not be there", math.inf) if extra else None


def errors_in_tolerances(actual: Tensor, expected: Tensor) -> Tensor:
    """The error of each value in tolerances; infinite where nan or inf disagree."""
    tolerance = LOOSE.get(expected.dtype, TOLERANCE)
    ours, truth = actual.detach().double(), expected.detach().double()
    error = (ours - truth).abs() / (tolerance * (1 + truth.abs()))
    same = (ours == truth) | (ours.isnan() & truth.isnan())
    not_finite = ~ours.isfinite() | ~truth.isfinite()
    return error.masked_fill(not_finite, math.inf).masked_fill(same, 0.0)


# --- misconceptions ---


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


def is_similar(theirs: Any, actual: Any, expected: Any) -> bool:
    """Whether two answers have the same values, whatever their dtype and their axes of size 1.

    The values must not be the expected ones: a wrong dtype alone resembles nothing.
    """
    if isinstance(expected, tuple):
        for index, truth in enumerate(expected):  # the first part that is wrong is what is shown
            part = part_of(actual, index)
            if not same_values(plain_values(part), plain_values(truth)):
                return is_similar(part_of(theirs, index), part, truth)
        return False
    values = [plain_values(value) for value in (theirs, actual, expected)]
    if any(value is None for value in values):
        return False
    mine, learners, truth = values
    return same_values(mine, learners) and not same_values(learners, truth)


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


def part_of(value: Any, index: int | None) -> Any:
    """value[index], or None if there is none; the value itself if index is None."""
    if index is None or isinstance(value, Exception):
        return value
    return value[index] if isinstance(value, tuple | list) and index < len(value) else None


# --- copying and formatting values ---


def copy_of(value: Any) -> Any:
    """A copy that shares no memory with the value, so that later changes do not affect it."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*map(copy_of, value))
    if isinstance(value, tuple | list):
        return type(value)(copy_of(part) for part in value)
    if isinstance(value, dict):
        twin = copy.copy(value)  # a Counter stays a Counter
        for name, part in value.items():
            twin[name] = copy_of(part)
        return twin
    return value if callable(value) else copy.copy(value)


def type_name(value: Any) -> str:
    """The type of a value with its article: "a NumPy array", "a float"."""
    if isinstance(value, np.ndarray):
        return "a NumPy array"
    name = "tensor" if isinstance(value, Tensor) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def short_repr(value: Any) -> str:
    """A value in at most 40 characters; tensors by dtype and shape."""
    if isinstance(value, Tensor | np.ndarray):
        if value.ndim == 0 and not (isinstance(value, Tensor) and value.is_meta):
            return f"{value.item():.6g}"
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if isinstance(value, tuple | list) and any(isinstance(part, Tensor) for part in value):
        return f"({', '.join(short_repr(part) for part in value)})"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def shown(value: Any) -> str:
    """An input: small tensors and arrays by their values, others by dtype and shape."""
    if isinstance(value, Tensor | np.ndarray) and 0 < value.ndim <= 3:
        count = value.numel() if isinstance(value, Tensor) else value.size
        is_meta = isinstance(value, Tensor) and value.is_meta
        whole = nested(value.tolist()) if 0 < count <= SMALL and not is_meta else ""
        if whole and len(whole) <= LONGEST_INPUT:
            return whole
    return short_repr(value)


def named(name: str, value: Any) -> str:
    """An argument of a call: "dim=-1"; the value alone if the argument has no name."""
    return f"{name}={shown(value)}" if name.isidentifier() else shown(value)


def nested(values: Any) -> str:
    """A nested list with at most four significant digits per number."""
    if isinstance(values, list):
        return f"[{', '.join(nested(value) for value in values)}]"
    return f"{values:.4g}" if isinstance(values, float) else str(values)


def format_value(value: Tensor) -> str:
    """One value of a tensor, with four significant digits."""
    item = value.item()
    return f"{item:.4g}" if isinstance(item, float) else str(item)


def format_rows(actual: Tensor, expected: Tensor) -> str:
    """Two rows of values, one below the other; "" if they are too long to read."""
    rows = [[format_value(value) for value in row[: ROW // 2]] for row in (actual, expected)]
    width = max(len(cell) for row in rows for cell in row)
    yours, truth = ("  ".join(cell.rjust(width) for cell in row) for row in rows)
    return f"\n    yours     {yours}\n    expected  {truth}" if len(yours) <= ROW else ""
