"""Judge exercises and print what was found: `learn.py check`, and an exercises.py run by itself."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.errors import run_program
from utils.grader.exercises import Exercise, Lesson, how_to, read_lesson
from utils.grader.report import (
    SOLVED,
    TO_DO,
    WRONG,
    Verdict,
    colour,
    counts,
    fold,
    message_lines,
)
from utils.grader.runner import Child, progress

SIGNS = {SOLVED: "ok", WRONG: "wrong", TO_DO: "to do"}


def check_file(file: str) -> None:
    """Check the lesson that this exercises.py belongs to, and leave with its exit code."""
    lesson = read_lesson(Path(file).resolve().parents[1])
    run_program(lambda: check(lesson, lesson.exercises))


def check(lesson: Lesson, exercises: Sequence[Exercise]) -> int:
    """Judge a lesson and print these exercises; 1 if one of them is wrong, else 0."""
    verdicts = judged(lesson)
    print_verdicts(lesson, exercises, verdicts)
    return int(any(verdicts[exercise.id].outcome == WRONG for exercise in exercises))


def judged(lesson: Lesson, start: Callable[[], Child] = Child) -> dict[str, Verdict]:
    """The verdicts of a lesson; a terminal is told where it is."""
    show = sys.stderr.isatty()

    def watcher(exercise: str) -> None:
        if show:
            print(f"\r\033[K{lesson.name}: checking {exercise} ...", end="", file=sys.stderr)
            sys.stderr.flush()

    try:
        return progress(lesson, start, watcher)
    finally:
        if show:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def print_verdicts(
    lesson: Lesson, exercises: Sequence[Exercise], verdicts: dict[str, Verdict]
) -> None:
    """One line an exercise, below it what is wrong; then the counts and the next step."""
    broken = next((found for found in verdicts.values() if found.broken_file), None)
    if broken is not None:
        print(colour(f"{lesson.name}: nothing can be checked", WRONG))
        print("\n".join(fold(broken.message, indent="  ")))
        return
    for exercise in exercises:
        found = verdicts[exercise.id]
        print(verdict_line(exercise, found))
        if found.outcome == WRONG:
            print("\n".join(message_lines(found, indent="  ")) + "\n")
    shown = [verdicts[exercise.id] for exercise in exercises]
    if shown[-1].outcome != WRONG:
        print()
    print(counts(shown))
    if all(found.outcome == SOLVED for found in shown):
        print(f"Compare with {place(lesson, lesson.solutions)}")
    elif len(shown) > 1:
        print("\n".join(next_step(lesson, verdicts)))
    elif shown[0].outcome == TO_DO:
        print(f"It is to do in {where_is(lesson, exercises[0])}")


def verdict_line(exercise: Exercise, found: Verdict) -> str:
    """ "1.3   ok     The causal mask"."""
    sign = colour(f"{SIGNS[found.outcome]:<6}", found.outcome)
    return f"{exercise.id:<5} {sign} {exercise.title}{' (challenge)' * exercise.challenge}"


def next_exercise(lesson: Lesson, verdicts: dict[str, Verdict]) -> Exercise | None:
    """The first that is not solved, in the order of the lesson."""
    return next((one for one in lesson.exercises if verdicts[one.id].outcome != SOLVED), None)


def next_step(lesson: Lesson, verdicts: dict[str, Verdict]) -> list[str]:
    """Which exercise comes next, where it stands, and what can be done about it."""
    exercise = next_exercise(lesson, verdicts)
    if exercise is None:
        return [f"All of {lesson.name} is solved."]
    level = f"{exercise.minutes} minutes, difficulty {exercise.difficulty} of 5"
    return [
        *fold(f"next: {exercise.id} {exercise.title} ({level})"),
        f"      {where_is(lesson, exercise)}",
        f"      {how_to('hint', exercise.id)} gives a nudge; {how_to('watch')} checks each save",
    ]


def where_is(lesson: Lesson, exercise: Exercise) -> str:
    """File and line of an exercise, as an editor's search box takes them."""
    line = line_of_exercise(lesson, exercise)
    return place(lesson, lesson.file) + (f", line {line}" if line else "")


def place(lesson: Lesson, path: Path) -> str:
    """A file of the lesson, as seen from the root of the repository."""
    return path.relative_to(lesson.folder.parent).as_posix()


def line_of_exercise(lesson: Lesson, exercise: Exercise) -> int | None:
    """Where its function or class begins in the learner's file; None if it is not there."""
    begin = re.compile(rf"(def|class) {exercise.names[0]}\b")
    try:
        lines = lesson.file.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    return next((number for number, line in enumerate(lines, 1) if begin.match(line)), None)
