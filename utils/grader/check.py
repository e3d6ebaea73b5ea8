"""Check exercises and print the verdicts: `learn.py check`, and exercises.py run as a program."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.errors import run_program
from utils.grader.exercises import Exercise, Lesson, how_to, read_lesson
from utils.grader.report import (
    SOLVED,
    TO_DO,
    WIDTH,
    WRONG,
    Verdict,
    colour,
    counts,
    message_lines,
    understands_escapes,
    width,
    wrap,
)
from utils.grader.runner import Worker, ignore, progress
from utils.grader.sections import section_before

SIGNS = {SOLVED: "ok", WRONG: "wrong", TO_DO: "to do"}
CORE = "--core"  # the flag of a learner who takes the core alone
ERASE_LINE = "\r\033[K"


def check_file(file: str) -> None:
    """Check the lesson that this exercises.py belongs to, and leave with the exit code."""
    lesson = read_lesson(Path(file).resolve().parents[1])
    run_program(lambda: check(lesson, lesson.exercises))


def check(lesson: Lesson, exercises: Sequence[Exercise]) -> int:
    """Judge a lesson and print these exercises; 1 if one of them is wrong, else 0."""
    verdicts = judged(lesson)
    print_verdicts(lesson, exercises, verdicts)
    return int(any(verdicts[exercise.id].outcome == WRONG for exercise in exercises))


def judged(lesson: Lesson, start: Callable[[], Worker] = Worker) -> dict[str, Verdict]:
    """The verdicts of a lesson; a terminal shows which exercise is being checked."""
    if not understands_escapes(sys.stderr):
        return progress(lesson, start, ignore)

    def show(exercise: str) -> None:
        text = f"{lesson.name}: checking {exercise} ..."[: width() - 1]
        print(ERASE_LINE + text, end="", file=sys.stderr, flush=True)

    try:
        return progress(lesson, start, show)
    finally:
        print(ERASE_LINE, end="", file=sys.stderr, flush=True)


# --- what is printed ---


def print_verdicts(
    lesson: Lesson, exercises: Sequence[Exercise], verdicts: dict[str, Verdict]
) -> None:
    """Print one line per exercise, followed by what is wrong; then the counts and the next step."""
    broken = next((found for found in verdicts.values() if found.broken_file), None)
    if broken is not None:
        print(colour(f"{lesson.name}: nothing can be checked", WRONG))
        print("\n".join(wrap(broken.message, indent="  ")))
        return
    for exercise in exercises:
        found = verdicts[exercise.id]
        print(verdict_line(exercise, found))
        if found.outcome == WRONG:
            print("\n".join(message_lines(found, indent="  ")) + "\n")
    shown = [verdicts[exercise.id] for exercise in exercises]
    if shown[-1].outcome != WRONG:
        print()
    total = wrap(counts(shown)) if len(shown) > 1 else []
    print("\n".join([*total, *what_next(lesson, exercises, verdicts)]).rstrip())


def verdict_line(exercise: Exercise, found: Verdict) -> str:
    """ "1.3   ok     The causal mask"."""
    sign = colour(f"{SIGNS[found.outcome]:<6}", found.outcome)
    start = f"{exercise.id:<5} {SIGNS[found.outcome]:<6} "
    title = f"{exercise.title}{' (challenge)' * exercise.challenge}"
    first, *others = wrap(title, indent=" " * len(start))
    return "\n".join([f"{exercise.id:<5} {sign} {first.strip()}", *others])


def what_next(
    lesson: Lesson, exercises: Sequence[Exercise], verdicts: dict[str, Verdict]
) -> list[str]:
    """The lines that follow the counts: what to read or to do now."""
    shown = [verdicts[exercise.id] for exercise in exercises]
    if all(found.outcome == SOLVED for found in shown):
        alone = how_to("solution", exercises[0].id)
        whole = place(lesson, lesson.solutions)
        return wrap(f"Compare with the solution: {alone if len(shown) == 1 else whole}")
    if len(shown) > 1:
        return next_step(lesson, verdicts)
    if shown[0].outcome == TO_DO:
        return wrap(f"Write it in {where_is(lesson, exercises[0])}")
    return []


def next_exercise(lesson: Lesson, verdicts: dict[str, Verdict]) -> Exercise | None:
    """The first exercise on the learner's path that is not solved, in the order of the lesson."""
    return next((one for one in lesson.path if verdicts[one.id].outcome != SOLVED), None)


def next_step(lesson: Lesson, verdicts: dict[str, Verdict]) -> list[str]:
    """The next exercise, where it is, and which commands help."""
    exercise = next_exercise(lesson, verdicts)
    if exercise is None:
        return [f"All of {lesson.name} is solved."]
    watch = how_to("watch", flag=CORE * lesson.only_core)
    commands = f"{how_to('hint', exercise.id)} gives a hint; {watch} checks every save"
    indent = step_indent()
    return [
        *wrap(f"next: {exercise.id} {exercise.title} ({level(exercise)})"),
        *wrap(where_is(lesson, exercise), indent),
        *wrap(commands, indent),
    ]


def introduction(lesson: Lesson, exercise: Exercise, found: Verdict) -> list[str]:
    """An exercise, introduced to a learner who is about to start it."""
    title = f"{exercise.id} {exercise.title}{' (challenge)' * exercise.challenge}"
    return [
        *(colour(line, "bold") for line in wrap(title)),
        *wrap(f"{level(exercise)}; {found.outcome}"),
        "",
        *wrap(exercise.why),
        "",
        *reading(lesson, exercise),
        *wrap(f"Write it in {where_is(lesson, exercise)}"),
        f"For a hint: {how_to('hint', exercise.id)}",
    ]


def reading(lesson: Lesson, exercise: Exercise) -> list[str]:
    """Which section to read before an exercise; nothing if no page leads to it."""
    section = section_before(lesson, exercise)
    if section is None:
        return []
    page = place(lesson, section.page)
    return wrap(f'Read first: "{section.heading}" in {page}, line {section.line}')


def step_indent() -> str:
    """The indentation of the lines below "next: "; less on a narrow terminal."""
    return "      " if width() == WIDTH else "  "


def level(exercise: Exercise) -> str:
    """ "15 minutes, difficulty 2 of 5"."""
    return f"{exercise.minutes} minutes, difficulty {exercise.difficulty} of 5"


def where_is(lesson: Lesson, exercise: Exercise) -> str:
    """File and line of an exercise: "01_attention/exercises/exercises.py, line 19"."""
    line = line_of_exercise(lesson, exercise)
    return place(lesson, lesson.file) + (f", line {line}" if line else "")


def place(lesson: Lesson, path: Path) -> str:
    """The path of a lesson's file, relative to the root of the repository."""
    return path.relative_to(lesson.folder.parent).as_posix()


def line_of_exercise(lesson: Lesson, exercise: Exercise) -> int | None:
    """The line in the learner's file where to write: the first of its functions still to do.

    Without a stub, where its first function or class begins; None if that is missing.
    """
    try:
        lines = lesson.file.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    stub = re.compile(rf'\s*raise NotImplementedError\("Exercise {re.escape(exercise.id)}:')
    todo = next((at for at, line in enumerate(lines) if stub.match(line)), None)
    begin = re.compile(rf"(async def|def|class) {exercise.names[0]}\b")
    first = next((at for at, line in enumerate(lines) if begin.match(line)), None)
    if todo is None:
        return None if first is None else first + 1
    heads = [at for at in range(todo) if re.match(r"\s*(async def|def|class) ", lines[at])]
    return heads[-1] + 1 if heads else first
