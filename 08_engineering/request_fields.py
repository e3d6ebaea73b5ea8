"""Reading a JSON body that anyone may have sent: every field is checked before it is used.

    fields = Fields(read_json(data))
    temperature = fields.number("temperature", 1.0, at_least=0, at_most=2)
    fields.refuse_rest()                              a misspelt name is an error, not ignored

`null` counts as absent, as in OpenAI's API. The errors name the field, the value and what is
allowed.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from serving_errors import invalid
from utils.errors import did_you_mean, run_program
from utils.terminal import labelled

NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer"}


def read_json(data: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises ApiError if it is anything else."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        body = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except RecursionError:
        raise invalid("the body is nested too deeply") from None
    except ValueError as error:  # not UTF-8, not JSON, an integer of thousands of digits
        raise invalid(f"the body is not JSON in UTF-8: {error}"[:200]) from None
    if not isinstance(body, dict):
        raise invalid(f"the body must be a JSON object, not {kind_of(body)}")
    return body


def kind_of(value: Any) -> str:
    """What a JSON value is: "a string", "a number" and so on."""
    if value is None:
        return "null"
    return NAMES.get(type(value), "a number")


class Fields:
    """The fields of a JSON object, taken one by one."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.rest = dict(body)
        self.known: set[str] = set()

    def take(self, name: str) -> Any:
        """The value of a field, None if it is absent."""
        self.known.add(name)
        return self.rest.pop(name, None)

    def typed(self, name: str, kind: type, default: Any = None) -> Any:
        """A field of this JSON type (str, bool, int, list or dict)."""
        value = self.take(name)
        if value is None:
            return default
        if type(value) is not kind:  # a boolean is not an integer here
            raise invalid(f"{name} must be {NAMES[kind]}, not {kind_of(value)}", name)
        return value

    def integer(self, name: str, default: int | None, at_least: int, at_most: int) -> int | None:
        """An integer in a range."""
        value = self.typed(name, int, default)
        return value if value is default else in_range(name, value, at_least, at_most)

    def number(self, name: str, default: float, at_least: float, at_most: float) -> float:
        """A finite number in a range."""
        value = self.take(name)
        if value is None:
            return default
        if type(value) not in (int, float):
            raise invalid(f"{name} must be a number, not {kind_of(value)}", name)
        return float(in_range(name, value, at_least, at_most))

    def refuse_unless(self, neutral: Mapping[str, tuple[Any, ...]]) -> None:
        """Refuse what this server lacks, by name, unless its value asks for nothing.

        Of each name, the values that are accepted are given; null is one of them.
        """
        for name, accepted in neutral.items():
            value = self.take(name)
            same = [type(value) is type(one) and value == one for one in accepted]
            if value is not None and not any(same):
                raise invalid(f"{name} is not supported by this server", name, "unsupported")

    def refuse_rest(self) -> None:
        """Raise ApiError for a field that has not been taken."""
        for name in self.rest:
            hint = did_you_mean(name, sorted(self.known))
            raise invalid(f"unknown field {name!r:.60}{hint}", name[:60], "unknown_field")


def in_range(name: str, value: Any, at_least: float, at_most: float) -> Any:
    """The value. Raises ApiError, with both bounds, if it is outside them or not finite."""
    if not (math.isfinite(value) and at_least <= value <= at_most):
        raise invalid(f"{name} must be from {at_least} to {at_most}, not {value!s:.40}", name)
    return value


def main() -> None:
    """Show what some bodies are answered."""
    for data in (b"{", b"[1]", b'{"top_p": "high"}', b'{"top_p": 7}', b'{"topp": 0.5}'):
        try:
            fields = Fields(read_json(data))
            fields.number("top_p", 1.0, at_least=0, at_most=1)
            fields.refuse_rest()
        except ValueError as error:
            print(labelled(data.decode(), error, column=19))


if __name__ == "__main__":
    run_program(main)
