"""What a check found, as the table of tools/validate_all.py shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What one check found; `detail` is a few words for the table.

    `seconds` is None where the check has no time of its own: then it is timed from outside.
    """

    check: str
    passed: bool
    detail: str
    problems: tuple[str, ...] = ()
    seconds: float | None = None
