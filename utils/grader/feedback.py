"""Compare a learner's answer with the expected one, and explain the difference.

    expect_equal(ex.causal_mask(5), truth, what="the mask (T, T)")

passes, or raises `Wrong`, whose message names the call, its result and where it first differs.
Each result is traced to the call it came from, so the misconceptions can be run on the same
inputs. Those that reproduce the learner's wrong result are attached to the error; so are those that
resemble it, because a second mistake or a harmless cast beside the first must not hide it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils.grader.calls import Call, Misconception, history, part_of
from utils.grader.difference import LOOSE, TOLERANCE, View, difference, identity
from utils.grader.plain_words import explain
from utils.grader.resemblance import diagnosis, is_same, is_similar, is_wrong
from utils.grader.values import is_number, type_name

CUT_GRAPH = (
    "the values are right, but no gradient flows back through them: .detach(), .item(), "
    ".data, NumPy and torch.tensor(...) cut the graph; use tensor operations throughout"
)


class Wrong(AssertionError):  # noqa: N818 - an outcome; pytest's failures are AssertionErrors too
    """The answer is wrong; the message is for the learner.

    `explained_by` holds the misconceptions that give the same answer; None if this case says
    nothing about misconceptions. `resembles` holds, besides, those that give the same values in
    another dtype, or with other axes of size 1. `margin` is the distance from the expected answer,
    in tolerances; `function` is what was called, where misconceptions were tried.
    """

    def __init__(
        self,
        message: str,
        explained_by: frozenset[str] | None = None,
        margin: float = math.inf,
        resembles: frozenset[str] = frozenset(),
        function: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.explained_by = explained_by
        self.margin = margin
        self.resembles = resembles | (explained_by or frozenset())
        self.function = function


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
            raise Wrong(found.message, None, found.tolerances)
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
    alike = frozenset(name for name, value in wrong if is_similar(value, actual, expected, view))
    message = f"{call}\n{found.message}"
    raise Wrong(message, matching, found.tolerances, alike, call.function)


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
        history.suspects.answer_is_right(call.misconceptions, lambda pair: gives(pair, expected))
    else:
        history.suspects.answer_is_wrong(call.misconceptions, lambda pair: gives(pair, actual))


ALL_CLOSE = "\nNote: all are close; compute more decimals"


def expect_prediction(
    actual: Any, expected: Sequence[float], what: str, *, within: float = 0.006
) -> None:
    """Raise Wrong unless a predicted row of numbers is right; the message does not tell the row."""
    origin = history.origin(actual)
    call = None if origin is None else origin[0]
    known = [] if call is None else [(diagnosis(m), call.repeat(m)) for m in call.misconceptions]
    found = prediction_problem(actual, expected, what, within)
    if found and call is not None:
        history.suspects.answer_is_wrong(
            call.misconceptions,
            lambda pair: is_same_row(actual, call.repeat(pair), within),
        )
    wrong = [one for one in known if prediction_problem(one[1], expected, what, within)]
    if not found:
        history.refuted |= {name for name, _ in wrong}
        return
    alike = [name for name, row in wrong if is_same_row(actual, row, within)]
    if alike:  # a mistake that is close to the truth: more decimals would not help
        found = found.removesuffix(ALL_CLOSE)
    raise Wrong(found, frozenset(alike))


def is_same_row(actual: Any, theirs: Any, within: float) -> bool:
    """Whether a predicted row is that of a misconception, whose large numbers may be rounded."""
    if isinstance(theirs, Exception):
        return False
    scale = [max(1.0, abs(float(value))) if is_number(value) else 1.0 for value in theirs]
    return prediction_problem(actual, theirs, "", within, scale) == ""


def prediction_problem(
    actual: Any, expected: Any, what: str, within: float, scale: Sequence[float] = ()
) -> str:
    """What is wrong with a predicted row, "" if nothing is; it never says what is right."""
    if actual is None:
        return f"{what}: got None; is a return missing?"
    if not isinstance(actual, Sequence | np.ndarray | Tensor) or isinstance(actual, str):
        return f"{what}: this is {type_name(actual)}; expected a list of {len(expected)} numbers"
    row = [float(value) if is_number(value) else math.nan for value in actual]
    if len(row) != len(expected):
        return f"{what}: got {len(row)} numbers; {len(expected)} are expected"
    errors = [
        0.0 if mine == truth else abs(mine - truth) / unit  # infinity minus infinity is nan
        for mine, truth, unit in zip(row, expected, scale or [1.0] * len(row), strict=True)
    ]
    good = sum(error <= within for error in errors)
    if good == len(row):
        return ""
    shown_row = ", ".join(f"{value:.4g}" for value in row)
    said = f"{what}: {good} of {len(row)} values correct in {shown_row}"
    if max(errors) < 10 * within:
        return f"{said}{ALL_CLOSE}"
    # Of other numbers the sum means nothing, and would give the last missing one away.
    if abs(sum(expected) - 1) < within < abs(sum(row) - 1) / 3:
        return f"{said}\nNote: yours sum to {sum(row):.4g}; they should sum to 1"
    return said


def expect_choice(
    answer: Any,
    choice: Any,
    expected: Any,
    name: str,
    whole: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
) -> None:
    """Raise Wrong unless one part of a reading is right; the message does not tell the right one.

    answer: what the learner's function returned; choice: the part of it that belongs to `name`;
    whole: all parts, and all right ones, if a misconception is to be named for certain only where
    it explains them all. Else this one part is enough.
    """
    origin = history.origin(answer)
    call = None if origin is None else origin[0]
    known = () if call is None else call.misconceptions
    theirs = [(diagnosis(one), call.repeat(one)) for one in known if call is not None]
    if choice == expected:
        right = {one for one, reading in theirs if reading.get(name) == expected}
        history.refuted |= {one for one, _ in theirs} - right
        return
    alike = [(one, reading) for one, reading in theirs if reading.get(name) == choice]
    message = f"{name}: {choice} is wrong"
    if call is None or whole is None:
        raise Wrong(message, frozenset(one for one, _ in alike))
    given, truth = whole
    history.suspects.answer_is_wrong(known, lambda pair: call.repeat(pair) == given)
    contained = frozenset(
        one
        for one, reading in alike
        if all(given.get(part) == other for part, other in reading.items() if other != truth[part])
    )
    same = frozenset(one for one, reading in alike if reading == given)
    raise Wrong(message, same, math.inf, contained)


def expect_same_gradients(actual: Tensor, expected: Tensor, inputs: Mapping[str, Tensor]) -> None:
    """Raise Wrong unless both results give the same gradient for each of the named inputs.

    The inputs require gradients, and both results were computed from them.
    """
    if not actual.requires_grad:
        raise Wrong(CUT_GRAPH)
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
    if all(gradient is None for gradient in found):  # requires_grad=True came too late
        raise Wrong(CUT_GRAPH)
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
            raise Wrong(f"the values are right, but {problem.message}", None, problem.tolerances)


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
