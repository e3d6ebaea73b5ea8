"""What a submission gets: a grade per exercise, and verdicts whose texts can be shown to anyone."""

from dataclasses import dataclass, field, replace

from utils.grader.report import SOLVED, WRONG, Verdict, printable

LONGEST_TEXT = 4000  # characters of a message
WITHHELD = (
    "not confirmed: it can only be judged in its own process, and other answers of this file were "
    "not the same there as from outside"
)


@dataclass(frozen=True)
class Grade:
    """The verdict on one exercise of one submission."""

    verdict: Verdict
    confirmed: int = 0  # tests that passed when asked from outside
    disputed: bool = False  # claimed to be solved, and not confirmed


@dataclass
class Graded:
    """A submission and its grades by exercise; `problems` are for the instructor."""

    name: str
    grades: dict[str, Grade] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def withheld(grades: dict[str, Grade]) -> dict[str, Grade]:
    """The grades of a submission with a disputed answer: what cannot be confirmed does not count.

    A file that forges the verdict on one exercise may have forged the others, too.
    """
    return {
        one: Grade(Verdict(one, WRONG, message=WITHHELD), disputed=True)
        if grade.verdict.outcome == SOLVED and not grade.confirmed
        else grade
        for one, grade in grades.items()
    }


def clean(found: Verdict) -> Verdict:
    """A verdict whose texts are short, printable and valid UTF-8: they may come from anyone."""
    texts = {
        name: clean_text(value)
        for name, value in vars(found).items()
        if isinstance(value, str) and name not in ("exercise", "outcome")
    }
    return replace(found, **texts)


def clean_text(text: str) -> str:
    """At most LONGEST_TEXT printable characters, in lines."""
    lines = [printable(line) for line in text[:LONGEST_TEXT].splitlines()]
    return "\n".join(lines).encode("utf-8", "replace").decode("utf-8")
