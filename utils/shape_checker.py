"""Check tensor shapes by name, at the entry of a function, before a wrong shape spreads.

    B, T, d_model = check_shape(x, ("B", "T", "d_model"), d_model=64)
    check_shapes(q=(q, ("...", "T_q", "d_k")), k=(k, ("...", "T_k", "d_k")))
    with ShapeTracer(model):
        model(tokens)

A pattern describes each axis: a name ("T") stands for one size wherever it appears, an integer for
itself, and a leading "..." for any number of axes, including none. Nothing is checked while
`torch.compile` traces, so a compiled model pays nothing. The tracer is in utils/shape_tracer.py.
"""

import sys
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Protocol

from utils.errors import CourseError
from utils.shape_tracer import Shape, ShapeRecord, ShapeTracer

__all__ = [
    "HasShape",
    "Pattern",
    "Shape",
    "ShapeError",
    "ShapeRecord",
    "ShapeTracer",
    "check_shape",
    "check_shapes",
]

Pattern = tuple[str | int, ...]


class ShapeError(CourseError):
    """A tensor does not have the expected shape; the message lists every known size."""


class HasShape(Protocol):
    """A PyTorch tensor, a NumPy array, or anything else with a shape."""

    @property
    def shape(self) -> Shape: ...


def check_shape(x: HasShape, pattern: Pattern, what: str = "x", /, **sizes: int) -> Shape:
    """Check the shape of `x` against a pattern; return it as a tuple of integers.

    `sizes` fixes some of the names (d_model=64); `what` is the tensor's name in the message.
    Raises ShapeError if the shape does not match, TypeError if a size belongs to no axis.
    """
    shape = _shape_of(what, x, pattern)
    if _is_compiling():
        return shape
    for name in sizes:
        if name not in pattern:
            raise TypeError(f"{name}={sizes[name]} names no axis of {_show(pattern)}")
    if _Bindings(sizes.copy()).problem_with(what, shape, pattern):
        raise ShapeError(_explain({what: (shape, pattern)}, sizes))
    return shape


def check_shapes(**tensors: tuple[HasShape, Pattern]) -> dict[str, int]:
    """Check several tensors against one set of names; return the size of each name.

    The leading axes of a "..." may differ from tensor to tensor, as long as they broadcast.
    Raises ShapeError, whose message says which tensor gave each name its size.
    """
    shapes = {
        what: (_shape_of(what, x, pattern), pattern) for what, (x, pattern) in tensors.items()
    }
    if _is_compiling():
        return _sizes_unchecked(shapes)
    bindings = _Bindings({})
    for what, (shape, pattern) in shapes.items():
        if bindings.problem_with(what, shape, pattern):
            raise ShapeError(_explain(shapes, {}))
    return bindings.sizes


def _is_compiling() -> bool:
    """Is torch.compile tracing this call? Without PyTorch loaded (NumPy arrays), no."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


class _Bindings:
    """The size of each name so far, and the tensor that it came from."""

    def __init__(self, given: dict[str, int]) -> None:
        self.sizes = given
        self.owners = dict.fromkeys(given, "given")
        self.leads: dict[str, Shape] = {}  # each tensor's own "..."

    def problem_with(self, what: str, shape: Shape, pattern: Pattern) -> str:
        """Bind the names of one tensor; return the first contradiction, "" if there is none."""
        if "..." in pattern[1:]:
            raise TypeError(f"'...' can only come first in a pattern, not as in {_show(pattern)}")
        if pattern[:1] != ("...",):
            if len(shape) != len(pattern):
                return f"the number of axes is {len(shape)}, not {len(pattern)}"
            return self._problem_with_sizes(what, shape, pattern)
        pattern = pattern[1:]
        n_lead = len(shape) - len(pattern)
        if n_lead < 0:
            return f"too few axes, {len(shape)} of at least {len(pattern)}"
        return self._problem_with_lead(what, shape[:n_lead]) or self._problem_with_sizes(
            what, shape[n_lead:], pattern
        )

    def _problem_with_sizes(self, what: str, shape: Shape, pattern: Pattern) -> str:
        for name, size in zip(pattern, shape, strict=True):
            if isinstance(name, int):
                if name != size:
                    return f"an axis is {size}, not {name}"
            elif name not in self.sizes:
                self.sizes[name] = size
                self.owners[name] = f"in {what}"
            elif self.sizes[name] != size:
                return f"{name} is {size}, not {self.sizes[name]} as {self.owners[name]}"
        return ""

    def _problem_with_lead(self, what: str, lead: Shape) -> str:
        for other, other_lead in self.leads.items():
            if lead != other_lead and not _broadcasts(lead, other_lead):
                return f"leading axes {lead} do not broadcast with {other_lead} of {other}"
        self.leads[what] = lead
        return ""

    def __str__(self) -> str:
        leads = [f"... = {lead} (in {what})" for what, lead in self.leads.items()]
        names = [f"{name} = {size} ({self.owners[name]})" for name, size in self.sizes.items()]
        return ", ".join(leads + names) or "none"


def _shape_of(what: str, x: HasShape, pattern: Pattern) -> Shape:
    try:
        return tuple(x.shape)
    except AttributeError:
        kind = type(x).__name__
        raise ShapeError(
            f"{what} is not a tensor but a {kind}, expected {_show(pattern)}"
        ) from None


def _sizes_unchecked(shapes: Mapping[str, tuple[Shape, Pattern]]) -> dict[str, int]:
    """Pair names with sizes, from the last axis, without comparing anything."""
    return {
        name: size
        for shape, pattern in shapes.values()
        for name, size in zip(reversed(pattern), reversed(shape), strict=False)
        if isinstance(name, str) and name != "..."
    }


def _broadcasts(a: Shape, b: Shape) -> bool:
    pairs = zip(reversed(a), reversed(b), strict=False)
    return all(m == n or m == 1 or n == 1 for m, n in pairs)


def _show(pattern: Pattern) -> str:
    return f"({', '.join(map(str, pattern))}{',' if len(pattern) == 1 else ''})"


# --- the message, which is computed only for a wrong shape ---


def _explain(shapes: Mapping[str, tuple[Shape, Pattern]], given: Mapping[str, int]) -> str:
    """The message: which tensor does not match, why, the known sizes, and a hint."""
    bindings = _Bindings(dict(given))
    for what, (shape, pattern) in shapes.items():
        if problem := bindings.problem_with(what, shape, pattern):
            lines = [f"{what} has shape {shape}, expected {_show(pattern)}: {problem}"]
            lines.append(f"known: {bindings}")
            lines.extend(_swap_hint(shapes, given, suspect=what))
            return "\n  ".join(lines)
    raise AssertionError("every shape matches")


def _swap_hint(
    shapes: Mapping[str, tuple[Shape, Pattern]], given: Mapping[str, int], suspect: str
) -> Iterator[str]:
    """Yield one line if swapping two axes of one tensor makes every shape match."""
    for what in sorted(shapes, key=lambda name: name != suspect):
        shape, pattern = shapes[what]
        named = len(pattern) - 1 if "..." in pattern else len(shape)  # of "..." nothing is known
        for i, j in _axis_pairs(min(named, len(shape))):
            swapped = {**shapes, what: (_swap(shape, i, j), pattern)}
            if shape[i] != shape[j] and _all_fit(swapped, given):
                yield f"axes {i} and {j} of {what} look swapped: {what}.transpose({i}, {j}) fits"
                return


def _axis_pairs(n_axes: int) -> list[tuple[int, int]]:
    """Pairs of axes counted from the end: neighbours first, the last two before all others."""
    pairs = [(j, i) for i, j in combinations(range(-1, -n_axes - 1, -1), 2)]
    return sorted(pairs, key=lambda pair: pair[1] - pair[0])


def _swap(shape: Shape, i: int, j: int) -> Shape:
    sizes = list(shape)
    sizes[i], sizes[j] = sizes[j], sizes[i]
    return tuple(sizes)


def _all_fit(shapes: Mapping[str, tuple[Shape, Pattern]], given: Mapping[str, int]) -> bool:
    bindings = _Bindings(dict(given))
    return not any(bindings.problem_with(what, *pair) for what, pair in shapes.items())
