"""A command line made from a configuration dataclass: one flag per field, with the field's help.

    parser = OneLineParser(description="Train a model.")
    add_config_flags(parser, TrainConfig)
    config = config_from_args(parser.parse_args(), base=TrainConfig())

A flag that is not given changes nothing.
"""

import argparse
import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

from utils.config_fields import article, field_types
from utils.errors import UsageError, did_you_mean, pick

NO_NOTES: Mapping[str, str] = MappingProxyType({})
Container = argparse.ArgumentParser | argparse._ArgumentGroup


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with a suggestion for a mistyped flag."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:  # pyright: ignore[reportIncompatibleMethodOverride]
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            hint = did_you_mean(unknown[0].split("=")[0], self._option_string_actions)
            self.error(f"unknown argument {unknown[0]}{hint}")
        return known

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(f"{message}; --help lists the options")


def add_config_flags(
    parser: Container, config_class: Any, skip: str = "", notes: Mapping[str, str] = NO_NOTES
) -> None:
    """Add one flag per field (--d-model 128, --bias / --no-bias), except those in `skip`.

    The help of a field is its own, and what `notes` adds to it.
    """
    for f in fields(config_class):
        kind = field_types(config_class)[f.name]
        flag = "--" + f.name.replace("_", "-")
        if is_dataclass(kind):
            add_config_flags(parser.add_argument_group(f.name), kind, skip, notes)
        elif f.name not in skip.split():
            _add_flag(parser, flag, kind, f, notes.get(f.name, ""))


def _add_flag(parser: Container, flag: str, kind: type, f: Any, note: str) -> None:
    text = (f.metadata["help"] + note).replace("%", "%%")
    described = {"help": text, "default": argparse.SUPPRESS}
    if kind is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **described)
        return
    if kind is tuple:
        parser.add_argument(flag, action="append", metavar="TEXT", **described)
        return
    choices = f.metadata["choices"]
    metavar = "|".join(choices) if choices else {int: "N", float: "X"}.get(kind, "TEXT")
    parser.add_argument(flag, metavar=metavar, **described)  # text until config_from_args


def read_value(f: dataclasses.Field[Any], kind: type, text: str) -> Any:
    """Convert the text given for a field; "none" is None where that is allowed."""
    if f.default is None and kind is not str and text.lower() == "none":
        return None
    if kind is bool:
        return pick(text.lower(), ("true", "false"), f.name) == "true"
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{f.name} {text!r} is not {article(kind)}") from None


def change_field(config: Any, name: str, text: str) -> Any:
    """The configuration with one field set from text. Raises UsageError.

    A field of several texts gets one more; "none" removes them all.
    """
    known = {f.name: f for f in fields(config)}
    f, kind = known[pick(name, known, "field")], field_types(type(config))[name]
    if kind is tuple:
        value = () if text.lower() == "none" else (*getattr(config, name), text)
    else:
        value = read_value(f, kind, text)
    return dataclasses.replace(config, **{name: value})


def config_from_args(args: argparse.Namespace, base: Any) -> Any:
    """The base configuration, with the fields that were given as flags."""
    given, kinds = vars(args), field_types(type(base))
    changes = {}
    for f in fields(base):
        if is_dataclass(kinds[f.name]):
            changes[f.name] = config_from_args(args, getattr(base, f.name))
        elif f.name in given:
            typed = given[f.name]  # text, a list of texts, or a bool from --bias and --no-bias
            is_list = kinds[f.name] is tuple
            changes[f.name] = typed if is_list else read_value(f, kinds[f.name], str(typed))
    return dataclasses.replace(base, **changes)
