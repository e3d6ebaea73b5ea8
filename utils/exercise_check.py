"""Judge exercises and print what was found: `learn.py check`, and an exercises.py run by itself."""

import sys
from collections.abc import Sequence
from pathlib import Path

from utils.errors import run_program
from utils.exercise_list import Exercise, Lesson, read_lesson
from utils.exercise_report import (
    SOLVED,
    TO_DO,
    WIDTH,
    WRONG,
    Verdict,
    colour,
    counts,
    fold,
    message_lines,
)
from utils.judge import Child, progress

SIGNS = {SOLVED: "ok", WRONG: "wrong", TO_DO: "to do"}
STARS = 5


def check_file(file: str) -> None:
    """Check the lesson that this exercises.py belongs to, and leave with its exit code."""
    lesson = read_lesson(Path(file).resolve().parents[1])
    run_program(lambda: check(lesson, lesson.exercises))


def check(lesson: Lesson, exercises: Sequence[Exercise]) -> int:
    """Judge a lesson and print these exercises; 1 if one of them is wrong, else 0."""
    verdicts = judged(lesson)
    print_verdicts(lesson, exercises, verdicts)
    return int(any(verdicts[exercise.id].outcome == WRONG for exercise in exercises))


def judged(lesson: Lesson, spare: Child | None = None) -> dict[str, Verdict]:
    """The verdicts of a lesson; a line on a terminal says where it is."""
    show = sys.stderr.isatty()

    def watcher(exercise: str) -> None:
        if show:
            print(f"\r\033[K{lesson.name}: checking {exercise} ...", end="", file=sys.stderr)
            sys.stderr.flush()

    verdicts = progress(lesson, spare, watcher)
    if show:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return verdicts


def print_verdicts(
    lesson: Lesson, exercises: Sequence[Exercise], verdicts: dict[str, Verdict]
) -> None:
    """One line an exercise, below it what is wrong; the counts; the next step."""
    broken = next((found for found in verdicts.values() if found.broken_file), None)
    if broken is not None:
        print(colour(f"{lesson.name}: nothing can be checked", "31"))
        print("\n".join(fold(broken.message, indent="  ")))
        return
    for exercise in exercises:
        print(verdict_line(exercise, verdicts[exercise.id]))
        found = verdicts[exercise.id]
        if found.outcome == WRONG:
            print("\n".join(f"  {line}"[:WIDTH] for line in message_lines(found)))
            print()
    print(f"\n{counts(verdicts.values())}")


def verdict_line(exercise: Exercise, found: Verdict) -> str:
    """ "1.3   ok      The causal mask"."""
    sign = colour(f"{SIGNS[found.outcome]:<6}", found.outcome)
    return f"{exercise.id:<5} {sign}  {exercise.title}{' (challenge)' * exercise.challenge}"
