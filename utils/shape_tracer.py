"""Record and print the shapes that flow through a module: `with ShapeTracer(model): model(tokens)`.

PyTorch is imported only when a tracer is used, so that `utils.shape_checker` loads without it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRecord:
    """One call of a submodule; `outputs` is None if the call did not return."""

    name: str
    kind: str
    depth: int  # number of traced calls that were running when it began
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...] | None = None


class ShapeTracer:
    """Record the shapes that flow through a module and its submodules, and print them at the end.

    `records` has one ShapeRecord per call, in the order in which the calls began. The table is
    printed even when the forward pass raises: the calls that did not return show where.
    """

    def __init__(self, module: nn.Module, *, show: bool = True) -> None:
        self.module = module
        self.show = show
        self.records: list[ShapeRecord] = []
        self._running: list[int] = []  # indices into records, the innermost call last
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, module in self.module.named_modules():
            self._trace(name or "(model)", module)
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self.show:
            print(self)

    def _trace(self, name: str, module: nn.Module) -> None:
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
    """Each name indented below its caller, without the prefix that they share."""
    path: list[str] = []
    for record in records:
        path[record.depth :] = [record.name]
        caller = path[record.depth - 1] if record.depth else ""
        yield "  " * record.depth + record.name.removeprefix(f"{caller}.")


def _row(head: str, record: ShapeRecord) -> str:
    """One call as text; shapes that do not fit continue on the next line, in their own column."""
    outputs = "did\xa0not\xa0return" if record.outputs is None else _list(record.outputs)
    shapes = f"{_list(record.inputs)} ->\xa0{outputs}"
    lines = textwrap.wrap(shapes, 80 - len(head), break_long_words=False)
    below = "\n" + " " * len(head)
    return (head + below.join(lines)).replace("\xa0", " ")


def _list(shapes: tuple[Shape, ...]) -> str:
    """Shapes as text that can be wrapped only between two shapes."""
    return ", ".join(str(shape).replace(" ", "\xa0") for shape in shapes) or "none"


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _shapes_in(value: Any) -> Iterator[Shape]:
    """The shapes of the tensors in a value, also inside tuples, lists and dictionaries."""
    from torch import Tensor

    if isinstance(value, Tensor):
        yield tuple(value.shape)
    elif isinstance(value, Mapping):
        yield from _shapes_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _shapes_in(item)
