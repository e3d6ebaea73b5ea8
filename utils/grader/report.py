"""Verdicts as text that fits the terminal: one message per exercise."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

from utils.grader.exercises import how_to

WIDTH = 80  # columns, where the terminal is not narrower
NARROWEST = 20
SOLVED, WRONG, TO_DO = "solved", "wrong", "to do"
TOO_LONG = "is there an endless loop, or is it too slow?"
COLOURS = {SOLVED: "32", WRONG: "31", TO_DO: "33", "dim": "2", "bold": "1"}
PRINTED_LINES = 3
HOLDS_SHOWN = 2  # checks that pass
CLEAR = 100  # tolerances between a known wrong answer and the right one, at least


@dataclass
class Case:
    """The result of one test of an exercise. `outcome` is "" until the test has run."""

    exercise: str
    outcome: str = ""
    check: str = ""  # the promise that the test checks, as a sentence
    message: str = ""
    explained_by: frozenset[str] | None = None
    resembles: frozenset[str] = frozenset()
    refuted: frozenset[str] = frozenset()
    pairs: list[tuple[str, str]] = field(default_factory=list)  # of mistakes, left after this test
    margin: float = 0.0
    broken_file: bool = False
    is_replaced: bool = False  # right, but by a function that replaces the exercise
    printed: str = ""
    wrong_answer: str = ""  # with --misconceptions: its name
    own_diagnosis: str = ""
    function: str = ""  # of an exercise with several: the one that explained_by is about


@dataclass(frozen=True)
class Verdict:
    """The combined result of the tests of one exercise."""

    exercise: str
    outcome: str  # solved, wrong or to do
    check: str = ""
    message: str = ""
    diagnosis: str = ""
    is_certain: bool = True  # about the diagnosis
    second_mistake: str = ""  # the diagnosis of another one, if there are two at once
    printed: str = ""
    failed: int = 0
    checks: int = 0
    broken_file: bool = False
    hint_for: str = ""  # another exercise, if that one is to be fixed first
    is_replaced: bool = False  # right, but by a function that replaces the exercise
    holds: str = ""  # checks that pass, where no diagnosis says what is wrong


def verdict(exercise: str, cases: Sequence[Case]) -> Verdict:
    """Wrong if any case is wrong; solved only if all are; else to do."""
    failed = [case for case in cases if case.outcome == WRONG]
    if failed and all(case.is_replaced for case in failed):
        message = failed[0].message
        return Verdict(
            exercise, WRONG, message=message, failed=1, checks=len(cases), is_replaced=True
        )
    failed = [case for case in failed if not case.is_replaced]
    if failed:
        first, found = failed[0], diagnose(cases)
        return Verdict(
            exercise,
            WRONG,
            first.check,
            first.message,
            *found,
            first.printed,
            len(failed),
            len(cases),
            first.broken_file,
            holds="" if found.first else holding(cases),
        )
    done = bool(cases) and all(case.outcome == SOLVED for case in cases)
    return Verdict(exercise, SOLVED if done else TO_DO, checks=len(cases))


def holding(cases: Sequence[Case]) -> str:
    """Checks all of whose cases pass, as sentences: where not to look for the mistake."""
    broken = {"", *(case.check for case in cases if case.outcome != SOLVED)}
    whole = [*dict.fromkeys(case.check for case in cases if case.check not in broken)]
    return "; ".join(whole[:HOLDS_SHOWN])


class Diagnosis(NamedTuple):
    """The misconception behind a wrong answer, "" if unknown; or two of them."""

    first: str = ""
    is_certain: bool = True
    second: str = ""


def diagnose(cases: Sequence[Case]) -> Diagnosis:
    """The misconception behind a wrong answer.

    For certain if it alone gives the learner's answer in every failed case that tells
    misconceptions apart, and the right answer in the others. Where none does, two at once may do so
    (see utils/grader/mistakes.py). Else (a third mistake, a cast beside the mistake) it is the one
    that no right answer refutes, that resembles the answer in the first failed case, in more cases
    than any other does, and in at least half of them: less would be a guess. Of an exercise with
    several functions, only the first that fails is looked at; the others may have mistakes as well.
    """
    refuted = frozenset().union(*(case.refuted for case in cases))
    failed = [case for case in cases if case.explained_by is not None]
    if not failed:
        return Diagnosis()
    failed = [case for case in failed if case.function == failed[0].function]
    exact = frozenset.intersection(*(case.explained_by or frozenset() for case in failed)) - refuted
    if len(exact) == 1:
        return Diagnosis(next(iter(exact)))
    if not exact and cases[-1].pairs:
        pairs = [(one, other) for one, other in cases[-1].pairs]
        return diagnose_pairs(pairs, failed[0].resembles)
    candidates = exact or failed[0].resembles - refuted
    scores = {one: sum(one in case.resembles for case in failed) for one in candidates}
    best = [one for one in candidates if scores[one] == max(scores.values())]
    explains_half = len(best) == 1 and 2 * scores[best[0]] >= len(failed)
    return Diagnosis(best[0], False) if explains_half else Diagnosis()


def is_named(cases: Sequence[Case]) -> bool:
    """Whether the cases of a known wrong answer reject it clearly, with its own diagnosis alone."""
    failed = [case for case in cases if case.outcome == WRONG and not case.is_replaced]
    is_clear = any(case.margin >= CLEAR for case in failed)
    return is_clear and diagnose(cases) == Diagnosis(failed[0].own_diagnosis)


def diagnose_pairs(pairs: Sequence[tuple[str, str]], seen_first: frozenset[str]) -> Diagnosis:
    """Both mistakes if one pair is left; what all pairs share, if they share one mistake.

    `seen_first` are those that explain what is shown, the first failure: such a mistake leads.
    """
    if len(pairs) == 1:
        one, other = sorted(pairs[0], key=lambda each: each not in seen_first)
        return Diagnosis(one, True, other)
    shared = frozenset.intersection(*map(frozenset, pairs))
    return Diagnosis(next(iter(shared)), False) if len(shared) == 1 else Diagnosis()


def failure_text(cases: Sequence[Case]) -> str:
    """The message of an exercise whose tests failed, for pytest's own report."""
    found = verdict(cases[0].exercise, cases)
    return "\n".join(message_lines(found))


def message_lines(found: Verdict, indent: str = "") -> list[str]:
    """What is wrong with an exercise and what to do next, wrapped."""
    check = "" if found.broken_file else found.check
    lines = [*wrap(check, indent), *wrap(found.message, indent)]
    if found.second_mistake:
        lines += wrap("This looks like two mistakes at once:", indent)
        for number, mistake in enumerate((found.diagnosis, found.second_mistake), start=1):
            lines += wrap(f"{number}. {mistake}.", f"{indent}  ", hanging=3)
    elif found.diagnosis:
        opening = "This looks like" if found.is_certain else "First of all, this looks like"
        lines += wrap(f"{opening}: {found.diagnosis}.", indent)
    if found.failed > 1 and not found.broken_file:
        lines += wrap(f"({found.failed} of {found.checks} checks fail; this is the first.)", indent)
    if found.holds:
        lines += wrap(f"What holds: {found.holds}.", indent)
    printed = found.printed.splitlines()
    if printed:
        shown = printed[:PRINTED_LINES] + ["..."] * (len(printed) > PRINTED_LINES)
        shown = [cut(f"{indent}  {printable(line)}", width()) for line in shown]
        lines += [f"{indent}It printed:", *shown]
    if not found.broken_file:
        hint_for = found.hint_for or found.exercise
        lines.append(f"{indent}For a hint: {how_to('hint', hint_for)}")
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


def wrap(message: str, indent: str = "", hanging: int = 0) -> list[str]:
    """Lines that fit; rows of values and code, which are indented already, are cut instead.

    `hanging` is the indentation of the second and later lines, beyond `indent`.
    """
    lines = []
    for line in map(printable, message.splitlines()):
        if line.startswith("    "):
            lines.append(cut(indent + line, width()))
        else:
            lines += textwrap.wrap(
                line,
                width(),
                initial_indent=indent,
                subsequent_indent=indent + " " * hanging,
                break_on_hyphens=False,
            )
    return lines


def cut(line: str, length: int) -> str:
    """A line of at most this length, which ends with a sign where something is left out."""
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


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
