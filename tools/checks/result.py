"""The result of a check, as the table of tools/validate_all.py shows it."""

from dataclasses import dataclass

SKIPPED, TO_COME = "skipped", "to come"


@dataclass(frozen=True)
class Result:
    """What one check found; `detail` is a few words for the table.

    `status` is SKIPPED for a check that could not run here, TO_COME for what is not built yet:
    neither ok nor failed. `seconds` is None where the check did not measure its own time.
    """

    check: str
    passed: bool
    detail: str
    problems: tuple[str, ...] = ()
    seconds: float | None = None
    status: str = ""

    @property
    def word(self) -> str:
        """The result as one word of the table."""
        return self.status or ("ok" if self.passed else "FAILED")
