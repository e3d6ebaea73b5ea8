"""What the judge found, in words that fit 80 columns: one message an exercise."""

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from utils.grader.exercises import how_to

WIDTH = 80
SOLVED, WRONG, TO_DO = "solved", "wrong", "to do"
COLOURS = {SOLVED: "32", WRONG: "31", TO_DO: "33", "dim": "2", "bold": "1"}
PRINTED_LINES = 3


@dataclass
class Case:
    """One test of an exercise, as it went."""

    exercise: str
    outcome: str = TO_DO
    message: str = ""
    explained_by: frozenset[str] | None = None
    refuted: frozenset[str] = frozenset()
    margin: float = 0.0
    broken_file: bool = False
    printed: str = ""
    wrong_answer: str = ""  # with --misconceptions: which one was judged
    own_diagnosis: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the tests of one exercise say together."""

    exercise: str
    outcome: str  # solved, wrong or to do
    message: str = ""
    diagnosis: str = ""
    printed: str = ""
    failed: int = 0
    checks: int = 0
    broken_file: bool = False


def verdict(exercise: str, cases: Sequence[Case]) -> Verdict:
    """Wrong if one case is; else to do if one is; solved only if all are."""
    bad = [case for case in cases if case.outcome == WRONG]
    if bad:
        first = bad[0]
        return Verdict(
            exercise,
            WRONG,
            first.message,
            named(cases),
            first.printed,
            len(bad),
            len(cases),
            first.broken_file,
        )
    done = bool(cases) and all(case.outcome == SOLVED for case in cases)
    return Verdict(exercise, SOLVED if done else TO_DO, checks=len(cases))


def named(cases: Sequence[Case]) -> str:
    """The one misconception that explains all that happened, "" if none or several do.

    It gives the learner's answer in every failed case that can tell, and is right in the others.
    """
    known = [case.explained_by for case in cases if case.explained_by is not None]
    left = frozenset.intersection(*known) if known else frozenset()
    left -= frozenset().union(*(case.refuted for case in cases))
    return next(iter(left)) if len(left) == 1 else ""


def failure_text(cases: Sequence[Case]) -> str:
    """The message of an exercise whose tests failed, for pytest's own report."""
    found = verdict(cases[0].exercise, cases)
    return "\n".join(message_lines(found))


def message_lines(found: Verdict, indent: str = "") -> list[str]:
    """What is wrong with an exercise and what to do next, folded."""
    lines = fold(found.message, indent)
    if found.diagnosis:
        lines += fold(f"This looks like: {found.diagnosis}.", indent)
    if found.failed > 1 and not found.broken_file:
        lines += fold(f"({found.failed} of {found.checks} checks fail; this is the first.)", indent)
    printed = found.printed.splitlines()
    if printed:
        shown = printed[:PRINTED_LINES] + ["..."] * (len(printed) > PRINTED_LINES)
        shown = [f"{indent}  {printable(line)}"[:WIDTH] for line in shown]
        lines += [f"{indent}It printed:", *shown]
    if not found.broken_file:
        lines.append(f"{indent}For a hint: {how_to('hint', found.exercise)}")
    return lines


def counts(verdicts: Iterable[Verdict]) -> str:
    """ "solved 3, wrong 1, to do 4"."""
    outcomes = [found.outcome for found in verdicts]
    return ", ".join(f"{outcome} {outcomes.count(outcome)}" for outcome in (SOLVED, WRONG, TO_DO))


def fold(message: str, indent: str = "") -> list[str]:
    """Lines of at most WIDTH characters; lines that are indented already stay as they are."""
    lines = []
    for line in map(printable, message.splitlines()):
        if line.startswith("    "):
            lines.append(indent + line[: WIDTH - len(indent)])
        else:
            lines += textwrap.wrap(
                line,
                WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
    return lines


def printable(line: str) -> str:
    """A line without what would move the cursor, ring the bell or clear the screen."""
    return "".join(one if one.isprintable() else "?" for one in line.expandtabs())


def bar(done: int, total: int, width: int = 20) -> str:
    """A bar of `width` characters; full only when all is done, empty only when nothing is."""
    filled = done * width // total if total else 0
    filled = max(filled, 1) if done else 0
    return "#" * filled + "-" * (width - filled)


def colour(words: str, name: str) -> str:
    """Words in a colour, on a terminal that wants colours (https://no-color.org)."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    if plain or not sys.stdout.isatty():
        return words
    return f"\033[{COLOURS[name]}m{words}\033[0m"
