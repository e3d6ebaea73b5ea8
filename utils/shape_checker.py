"""Shapes that check themselves: a wrong one is told by name, where it enters, before it spreads.

    B, T, d_model = check_shape(x, ("B", "T", "d_model"), d_model=64)
    check_shapes(q=(q, ("...", "T_q", "d_k")), k=(k, ("...", "T_k", "d_k")))
    with ShapeTracer(model):
        model(tokens)

A pattern says what each axis is: a name ("T") stands for one size wherever it appears, a plain
integer for itself, and a first "..." for any leading axes, or none. Nothing is checked while
`torch.compile` traces, so a compiled model pays nothing.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from utils.errors import CourseError

Shape = tuple[int, ...]
Pattern = tuple[str | int, ...]


class ShapeError(CourseError):
    """A tensor has another shape than its place asks for; the message gives every size known."""


class HasShape(Protocol):
    """A PyTorch tensor, a NumPy array, or anything else with a shape."""

    @property
    def shape(self) -> Shape: ...


def check_shape(x: HasShape, pattern: Pattern, what: str = "x", /, **sizes: int) -> Shape:
    """Return the shape of `x` as plain integers, once it matches the pattern.

    `sizes` fixes some of the names (d_model=64); `what` is the tensor's name in the message.
    Raises ShapeError if the shape does not match, TypeError if a size belongs to no axis.
    """
    shape = _shape_of(what, x, pattern)
    if torch.compiler.is_compiling():
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
    if torch.compiler.is_compiling():
        return _sizes_unchecked(shapes)
    bindings = _Bindings({})
    for what, (shape, pattern) in shapes.items():
        if bindings.problem_with(what, shape, pattern):
            raise ShapeError(_explain(shapes, {}))
    return bindings.sizes


class _Bindings:
    """What the names stand for so far, and which tensor said so."""

    def __init__(self, given: dict[str, int]) -> None:
        self.sizes = given
        self.owners = dict.fromkeys(given, "given")
        self.leads: dict[str, Shape] = {}  # each tensor's own "..."

    def problem_with(self, what: str, shape: Shape, pattern: Pattern) -> str:
        """Bind the names of one tensor; return what contradicts them, or "" if nothing does."""
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
    """Pair names with sizes, the last axis first, and compare nothing."""
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


# --- the message: only a wrong shape pays for it ---


def _explain(shapes: Mapping[str, tuple[Shape, Pattern]], given: Mapping[str, int]) -> str:
    """Say which tensor does not fit, why, which sizes are known, and what might help."""
    bindings = _Bindings(dict(given))
    for what, (shape, pattern) in shapes.items():
        if problem := bindings.problem_with(what, shape, pattern):
            lines = [f"{what} has shape {shape}, expected {_show(pattern)}: {problem}"]
            lines.append(f"known: {bindings}")
            lines.extend(_swap_hint(shapes, given, suspect=what))
            return "\n  ".join(lines)
    raise AssertionError("every shape fits")


def _swap_hint(
    shapes: Mapping[str, tuple[Shape, Pattern]], given: Mapping[str, int], suspect: str
) -> Iterator[str]:
    """Yield one line if exchanging two axes of one tensor makes everything fit."""
    for what in sorted(shapes, key=lambda name: name != suspect):
        shape, pattern = shapes[what]
        for i, j in _axis_pairs(len(shape)):
            swapped = {**shapes, what: (_swap(shape, i, j), pattern)}
            if shape[i] != shape[j] and _all_fit(swapped, given):
                yield f"axes {i} and {j} of {what} look swapped: {what}.transpose({i}, {j}) fits"
                return


def _axis_pairs(n_axes: int) -> list[tuple[int, int]]:
    """Pairs of axes counted from the end, neighbours first and the last two before all others."""
    pairs = [(j, i) for i, j in combinations(range(-1, -n_axes - 1, -1), 2)]
    return sorted(pairs, key=lambda pair: pair[1] - pair[0])


def _swap(shape: Shape, i: int, j: int) -> Shape:
    sizes = list(shape)
    sizes[i], sizes[j] = sizes[j], sizes[i]
    return tuple(sizes)


def _all_fit(shapes: Mapping[str, tuple[Shape, Pattern]], given: Mapping[str, int]) -> bool:
    bindings = _Bindings(dict(given))
    return not any(bindings.problem_with(what, *pair) for what, pair in shapes.items())


# --- watching a whole module ---


@dataclass(frozen=True)
class ShapeRecord:
    """One call of one submodule; `outputs` is None if the call did not return."""

    name: str
    kind: str
    depth: int  # how many watched calls were running around this one
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...] | None = None


class ShapeTracer:
    """Record the shapes that flow through a module and its submodules, and print them at the end.

    `records` holds one ShapeRecord a call, in the order in which the calls began. The table is
    printed even when the forward pass raises: the calls that did not return lead to the culprit.
    """

    def __init__(self, module: nn.Module, *, show: bool = True) -> None:
        self.module = module
        self.show = show
        self.records: list[ShapeRecord] = []
        self._running: list[int] = []  # indices into records, the innermost call last
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, module in self.module.named_modules():
            self._watch(name or "(model)", module)
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self.show:
            print(self)

    def _watch(self, name: str, module: nn.Module) -> None:
        def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kind, inputs = type(module).__name__, tuple(_shapes_in((args, kwargs)))
            record = ShapeRecord(name, kind, len(self._running), inputs)
            self._running.append(len(self.records))
            self.records.append(record)

        def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            index = self._running.pop()
            if output is not None:  # None comes from a call that raised
                outputs = tuple(_shapes_in(output))
                self.records[index] = replace(self.records[index], outputs=outputs)

        self._handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
        self._handles.append(module.register_forward_hook(end, always_call=True))

    def __str__(self) -> str:
        """The table: name, class, and input -> output, in 80 columns."""
        if not self.records:
            return "no module was called"
        names = [_fit(name, 26) for name in _indented_names(self.records)]
        kinds = [_fit(record.kind, 22) for record in self.records]
        name_width, kind_width = max(map(len, names)), max(map(len, kinds))
        return "\n".join(
            _row(f"{name:{name_width}}  {kind:{kind_width}}  ", record)
            for name, kind, record in zip(names, kinds, self.records, strict=True)
        )


def _indented_names(records: list[ShapeRecord]) -> Iterator[str]:
    """Each name below its caller's, without the part that they share."""
    path: list[str] = []
    for record in records:
        path[record.depth :] = [record.name]
        caller = path[record.depth - 1] if record.depth else ""
        yield "  " * record.depth + record.name.removeprefix(f"{caller}.")


def _row(head: str, record: ShapeRecord) -> str:
    """One call as text; shapes that do not fit continue below, in their own column."""
    outputs = "did\xa0not\xa0return" if record.outputs is None else _list(record.outputs)
    shapes = f"{_list(record.inputs)} ->\xa0{outputs}"
    lines = textwrap.wrap(shapes, 80 - len(head), break_long_words=False)
    below = "\n" + " " * len(head)
    return (head + below.join(lines)).replace("\xa0", " ")


def _list(shapes: tuple[Shape, ...]) -> str:
    """Shapes as text in which only the gaps between shapes may break a line."""
    return ", ".join(str(shape).replace(" ", "\xa0") for shape in shapes) or "none"


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _shapes_in(value: Any) -> Iterator[Shape]:
    """The shapes of the tensors in a value, also inside tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield tuple(value.shape)
    elif isinstance(value, Mapping):
        yield from _shapes_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _shapes_in(item)
