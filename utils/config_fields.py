"""The fields of a configuration dataclass: their help texts, types and checks.

    n_heads: int = option(4, "attention heads per layer")    # in the class
    check_fields(self)                                       # in its __post_init__
    check_range(self, "n_heads", at_least=1)

An error names the field, the value and what is allowed.
"""

import math
import types
import typing
from dataclasses import field, fields
from functools import cache
from typing import Any

from utils.errors import UsageError, pick

LARGEST = 2**63  # integers stay below it, here and in PyTorch


def option(default: Any, description: str, choices: tuple[str, ...] | None = None) -> Any:
    """A field with its default, its help text and, if only some are allowed, its choices."""
    return field(default=default, metadata={"help": description, "choices": choices})


@cache
def field_types(config_class: Any) -> dict[str, type]:
    """The type of each field; `int | None` counts as `int`, `tuple[str, ...]` as `tuple`."""
    hints = typing.get_type_hints(config_class)
    return {f.name: _bare_type(hints[f.name]) for f in fields(config_class)}


def _bare_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        return next(arm for arm in hint.__args__ if arm is not type(None))
    return typing.get_origin(hint) or hint


def check_fields(config: Any) -> None:
    """Check the type and the choices of each field.

    An integer is accepted for a float, and a text or a list of texts for a tuple of texts. Raises
    UsageError naming the field and the value.
    """
    for f in fields(config):
        value, kind = getattr(config, f.name), field_types(type(config))[f.name]
        if value is None and f.default is None:
            continue
        if type(value) is int and abs(value) >= LARGEST:
            raise UsageError(
                f"{f.name} {value!r:.12}... is out of range: numbers are limited to 2**63"
            )
        if kind is float and type(value) is int:
            object.__setattr__(config, f.name, float(value))
        elif kind is tuple:
            object.__setattr__(config, f.name, _texts(value, f.name))
        elif type(value) is not kind:
            raise UsageError(f"{f.name} {value!r} is not {article(kind)}")
        if choices := f.metadata.get("choices"):
            pick(str(value), choices, f.name)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    """A tuple of texts, from one text or a list of them, as YAML and JSON have it."""
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{name} {value!r} is not a list of texts")
    return tuple(texts)


def article(kind: type) -> str:
    """The name of a type with its article: "a whole number"."""
    words = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return words.get(kind, f"a {kind.__name__}")


def check_range(
    config: Any,
    name: str,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Check that a number is in its range; None passes. Raises UsageError."""
    value = getattr(config, name)
    if value is None:
        return
    if at_least <= value <= at_most and above < value < below:  # false for infinity and NaN
        return
    limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    allowed = [f"{word} {x:g}" for word, x in limits.items() if math.isfinite(x)]
    allowed += [] if math.isfinite(value) else ["finite"]
    raise UsageError(f"{name} {value} is out of range: it must be {' and '.join(allowed)}")


def divisors(number: int) -> str:
    """The divisors of `number` up to 1000, as text: "1, 2, 4" for 4."""
    return ", ".join(str(n) for n in range(1, min(number, 1000) + 1) if number % n == 0)
