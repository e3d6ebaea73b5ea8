"""Configurations as dictionaries and as YAML or JSON files; unknown keys are refused."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from utils.config_fields import field_types
from utils.errors import CourseError, UsageError, did_you_mean
from utils.files import atomic_write_text

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain dictionaries, ready for YAML or JSON."""

    def with_lists(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: list(x) if isinstance(x, tuple) else x for name, x in items}

    return dataclasses.asdict(config, dict_factory=with_lists)


def from_dict(values: Mapping[str, Any], config_class: type[Config], base: Any = None) -> Config:
    """Build a configuration; other fields are taken from `base`, or have their defaults.

    Raises UsageError for an unknown key, with the closest known one.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"expected fields of {config_class.__name__}, found {values!r:.60}")
    base = config_class() if base is None else base
    kinds, changes = field_types(config_class), {}
    for name, value in values.items():
        if name not in kinds:
            raise UsageError(f"unknown field {name!r}{did_you_mean(str(name), kinds)}")
        if is_dataclass(kinds[name]):
            value = _nested(name, value, kinds[name], getattr(base, name))
        changes[name] = value
    return dataclasses.replace(base, **changes)


def _nested(name: str, values: Any, config_class: Any, base: Any) -> Any:
    try:
        return from_dict(values, config_class, base)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def save_config(config: Any, path: str | Path) -> None:
    """Write YAML, or JSON if the name ends in .json."""
    path = Path(path)
    if path.suffix == ".json":
        text = json.dumps(to_dict(config), indent=2) + "\n"
    else:
        text = yaml.dump(to_dict(config), Dumper=_ConfigDumper, sort_keys=False)
    atomic_write_text(path, text)


def load_config(path: str | Path, config_class: type[Config], base: Any = None) -> Config:
    """Read YAML, or JSON if the name ends in .json; other fields are taken from `base`.

    Raises CourseError, naming the file, if it does not contain a configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no configuration file at {path}")
    text_to_values = json.loads if path.suffix == ".json" else _load_yaml
    try:
        values = text_to_values(path.read_text(encoding="utf-8-sig"))
    except OSError:
        raise  # no permission: the system's own message is clear
    except Exception as error:  # PyYAML raises errors of many kinds
        reason = " ".join(str(error).split())
        raise CourseError(f"{path} is not valid YAML or JSON: {reason}") from None
    try:
        return from_dict({} if values is None else values, config_class, base)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _load_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_ConfigLoader)


class _ConfigLoader(yaml.SafeLoader):
    """Reads 1e-3 as a number; YAML 1.1 takes it for text, because it has no decimal point."""


class _ConfigDumper(yaml.SafeDumper):
    """Quotes a text that looks like such a number."""


for _yaml in (_ConfigLoader, _ConfigDumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
