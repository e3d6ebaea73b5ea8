"""Verdicts as text that fits the terminal: one message per exercise."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from utils.grader.exercises import how_to

WIDTH = 80  # columns, where the terminal is not narrower
NARROWEST = 20
SOLVED, WRONG, TO_DO = "solved", "wrong", "to do"
COLOURS = {SOLVED: "32", WRONG: "31", TO_DO: "33", "dim": "2", "bold": "1"}
PRINTED_LINES = 3


@dataclass
class Case:
    """The result of one test of an exercise. `outcome` is "" until the test has run."""

    exercise: str
    outcome: str = ""
    message: str = ""
    explained_by: frozenset[str] | None = None
    refuted: frozenset[str] = frozenset()
    margin: float = 0.0
    broken_file: bool = False
    printed: str = ""
    wrong_answer: str = ""  # with --misconceptions: its name
    own_diagnosis: str = ""


@dataclass(frozen=True)
class Verdict:
    """The combined result of the tests of one exercise."""

    exercise: str
    outcome: str  # solved, wrong or to do
    message: str = ""
    diagnosis: str = ""
    printed: str = ""
    failed: int = 0
    checks: int = 0
    broken_file: bool = False


def verdict(exercise: str, cases: Sequence[Case]) -> Verdict:
    """Wrong if any case is wrong; solved only if all are; else to do."""
    failed = [case for case in cases if case.outcome == WRONG]
    if failed:
        first = failed[0]
        return Verdict(
            exercise,
            WRONG,
            first.message,
            diagnose(cases),
            first.printed,
            len(failed),
            len(cases),
            first.broken_file,
        )
    done = bool(cases) and all(case.outcome == SOLVED for case in cases)
    return Verdict(exercise, SOLVED if done else TO_DO, checks=len(cases))


def diagnose(cases: Sequence[Case]) -> str:
    """The only misconception that explains all cases; "" if there is none or more than one.

    It gives the learner's answer in every failed case that tells misconceptions apart, and the
    right answer in the others.
    """
    explained = [case.explained_by for case in cases if case.explained_by is not None]
    candidates = frozenset.intersection(*explained) if explained else frozenset()
    candidates -= frozenset().union(*(case.refuted for case in cases))
    return next(iter(candidates)) if len(candidates) == 1 else ""


def failure_text(cases: Sequence[Case]) -> str:
    """The message of an exercise whose tests failed, for pytest's own report."""
    found = verdict(cases[0].exercise, cases)
    return "\n".join(message_lines(found))


def message_lines(found: Verdict, indent: str = "") -> list[str]:
    """What is wrong with an exercise and what to do next, wrapped."""
    lines = wrap(found.message, indent)
    if found.diagnosis:
        lines += wrap(f"This looks like: {found.diagnosis}.", indent)
    if found.failed > 1 and not found.broken_file:
        lines += wrap(f"({found.failed} of {found.checks} checks fail; this is the first.)", indent)
    printed = found.printed.splitlines()
    if printed:
        shown = printed[:PRINTED_LINES] + ["..."] * (len(printed) > PRINTED_LINES)
        shown = [f"{indent}  {printable(line)}"[: width()] for line in shown]
        lines += [f"{indent}It printed:", *shown]
    if not found.broken_file:
        lines.append(f"{indent}For a hint: {how_to('hint', found.exercise)}")
    return lines


def counts(verdicts: Iterable[Verdict]) -> str:
    """ "solved 3, wrong 1, to do 4"."""
    outcomes = [found.outcome for found in verdicts]
    return ", ".join(f"{outcome} {outcomes.count(outcome)}" for outcome in (SOLVED, WRONG, TO_DO))


def width() -> int:
    """The columns to use: those of the terminal, 80 at most; 80 where there is no terminal."""
    if not sys.stdout.isatty():
        return WIDTH
    return max(NARROWEST, min(WIDTH, shutil.get_terminal_size().columns))


def wrap(message: str, indent: str = "") -> list[str]:
    """Lines that fit; rows of values and code, which are indented already, are cut instead."""
    lines = []
    for line in map(printable, message.splitlines()):
        if line.startswith("    "):
            lines.append((indent + line)[: width()])
        else:
            lines += textwrap.wrap(
                line,
                width(),
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
    return lines


def printable(line: str) -> str:
    """A line without characters that move the cursor, ring the bell or clear the screen."""
    return "".join(one if one.isprintable() else "?" for one in line.expandtabs())


def bar(done: int, total: int, length: int = 20) -> str:
    """A progress bar; full only when everything is done, empty only when nothing is."""
    filled = done * length // total if total else 0
    filled = max(filled, 1) if done else 0
    return "#" * filled + "-" * (length - filled)


def colour(text: str, name: str) -> str:
    """Text in a colour, on a terminal that supports and wants it (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or not understands_escapes(sys.stdout):
        return text
    return f"\033[{COLOURS[name]}m{text}\033[0m"


def understands_escapes(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor and show colours."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
