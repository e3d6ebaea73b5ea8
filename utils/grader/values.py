"""Copy the values of a learner's call, and show them in a line of text."""

import copy
import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROW = 60  # characters of a row of values; with its label it fits 80 columns
SMALL = 12  # values in an input that is printed whole, if it fits into
LONGEST_INPUT = 72  # characters


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
    """The type of a value with its article: "a NumPy array", "a float"; "None" for None."""
    if value is None:
        return "None"
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
    """An input: small tensors and arrays by their values, others by dtype and shape.

    Half precision is named beside the values, because it may be what a check is about.
    """
    if isinstance(value, Tensor | np.ndarray) and 0 < value.ndim <= 3:
        count = value.numel() if isinstance(value, Tensor) else value.size
        is_meta = isinstance(value, Tensor) and value.is_meta
        whole = nested(value.tolist()) if 0 < count <= SMALL and not is_meta else ""
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        if whole and len(whole) <= LONGEST_INPUT:
            return f"{str(value.dtype).removeprefix('torch.')} {whole}" if half else whole
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


def is_number(value: Any) -> bool:
    """Whether a value is one real number, whatever its type."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.ndim == 0
    return isinstance(value, numbers.Real)
