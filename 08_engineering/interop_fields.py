"""Configurations of two programs: fields with two names, and fields that only one of them has.

A field is either translated or checked, never dropped. What one side can vary and the other can't
must have the one value that means the same. Anything else is refused, by the field's name and its
value: a model that loads and computes something else is worse than one that doesn't load.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from utils.config import ModelConfig
from utils.errors import CourseError, UsageError, run_program

# Fields of ours that may be None, and the property that says what None means.
RESOLVED = {"n_kv_heads": "kv_heads", "d_ff": "ff_width"}


def resolved(config: ModelConfig, name: str) -> Any:
    """The value of a field of ours, never None."""
    return getattr(config, RESOLVED.get(name, name))


def renamed(config: ModelConfig, names: Mapping[str, str]) -> dict[str, Any]:
    """Our configuration under their names; `names` maps ours to theirs."""
    return {theirs: resolved(config, ours) for ours, theirs in names.items()}


Allowed = Mapping[str, tuple[Any, ...]]  # field -> the values that both sides can express


def check_ours(config: ModelConfig, allowed: Allowed, format_name: str) -> None:
    """Raise UsageError for the first field of ours that their format can't express."""
    for name, values in allowed.items():
        if resolved(config, name) not in values:
            raise UsageError(
                f"{name} {written(resolved(config, name))} can't be expressed as {format_name}, "
                f"only {either(values)}"
            )


def check_theirs(stored: Mapping[str, Any], allowed: Allowed) -> None:
    """Raise CourseError for the first field of theirs that our model can't express."""
    for name, values in allowed.items():
        if stored.get(name) not in values:
            raise CourseError(
                f"{name} {written(stored.get(name))} can't be expressed in this course, "
                f"only {either(values)}"
            )


def to_model_config(
    stored: Mapping[str, Any], names: Mapping[str, str], **others: Any
) -> ModelConfig:
    """Our configuration from theirs, and from `others`, which are ours already.

    Raises CourseError, with both names, for values of the wrong type and values that don't fit.
    """
    try:
        config = ModelConfig(**{ours: stored[theirs] for ours, theirs in names.items()}, **others)
        # None where it means the same, so that a configuration that comes back equals the original
        defaults = {"n_kv_heads": config.n_heads, "d_ff": 4 * config.d_model}
        return _replace_defaults(config, defaults)
    except UsageError as error:
        mentioned = [name for name in names if re.search(rf"\b{name}\b", str(error))]
        where = ", ".join(f"{name} is {names[name]}" for name in mentioned)
        raise CourseError(f"{error}" + (f" ({where})" if where else "")) from None


def _replace_defaults(config: ModelConfig, defaults: Mapping[str, Any]) -> ModelConfig:
    same = {name: None for name, value in defaults.items() if getattr(config, name) == value}
    return ModelConfig(**{**vars(config), **same})


def either(values: Iterable[Any]) -> str:
    """The values as a choice: "a" or "b"."""
    return " or ".join(map(written, values))


def written(value: Any) -> str:
    """A value as JSON writes it, shortened: true and null, as in config.json."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def main() -> None:
    """Rename a few fields, and refuse one."""
    config = ModelConfig(d_model=64, n_heads=4, norm="rmsnorm")
    print(renamed(config, {"d_model": "n_embd", "n_heads": "n_head", "d_ff": "n_inner"}))
    try:
        check_ours(config, {"norm": ("layernorm",)}, "gpt2")
    except UsageError as error:
        print(f"refused: {error}")


if __name__ == "__main__":
    run_program(main)
