"""Your progress in the course, and what to do next.

    python tools/learn.py status           every lesson: solved, wrong, to do, a bar, the next step
    python tools/learn.py next             the next exercise, why it matters, what to read first
    python tools/learn.py check            check your exercises: all, one lesson's, or one (1.3)
    python tools/learn.py check 1.3 --json  the same for programs: see check_json in this file
    python tools/learn.py watch            check on every save, and move on when one is solved
    python tools/learn.py hint 1.3         one more hint each time; by default for the next exercise
    python tools/learn.py solution 1.3     the solution of an exercise that you have solved
    python tools/learn.py reset 1.3        restore its stub; a copy of your file is kept

With --core, status, next, watch, hint and solution keep to the core, the shortest way to a model of
your own (00_setup/learning_paths.md): `next --core`, `make watch ARGS=--core`.
An exercise has a number and the name of its function: `hint 1.1` is `hint softmax`. `make status`,
`make hint EX=1.3` and so on do the same. Your progress is what the tests say about your files now;
torch is imported only if something has changed.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import json
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path

from utils.command_line import OneLineParser
from utils.errors import UsageError, pick
from utils.grader.check import (
    CORE,
    check,
    introduction,
    judged,
    line_of_exercise,
    next_exercise,
    next_step,
    place,
    step_indent,
)
from utils.grader.exercises import ROOT, Exercise, Lesson, find_exercise, how_to, lessons
from utils.grader.report import (
    SOLVED,
    TO_DO,
    WRONG,
    Verdict,
    bar,
    colour,
    counts,
    width,
    wrap,
)
from utils.grader.runner import read_state, write_state
from utils.grader.stubs import reset_exercise, solution_of
from utils.grader.watch import Quit, watch_lessons

SHOWN = 3  # wrong exercises listed on one line of the status
LESSON = re.compile(r"\d+_")  # how the name of a lesson begins
ALL_SOLVED = "Everything here is solved."
AFTERWARDS = "The notebooks and make test-module come next; then train a model: make demo"
CORE_SOLVED = "All of the core is solved here."
AFTER_THE_CORE = "Next is a model of your own: 09_capstone/ROADMAP.md. What the core leaves out:"


def main(root: Path = ROOT) -> int:
    """Run a command on the lessons below `root`; 1 if `check` finds a wrong exercise."""
    parser = OneLineParser(description="Your progress in the course, and what to do next.")
    parser.add_argument("command", nargs="?", default="status", help=", ".join(COMMANDS))
    parser.add_argument(
        "what", nargs="?", default="", help="an exercise (1.3 or causal_mask) or a lesson"
    )
    parser.add_argument("--json", action="store_true", help="check: print the verdicts as JSON")
    parser.add_argument(
        CORE, action="store_true", help=f"{', '.join(ON_A_PATH)}: take the core alone"
    )
    options = parser.parse_args()
    command = pick(options.command, COMMANDS, "command")
    if options.json and command != "check":
        raise UsageError(f"--json belongs to check, not to {command}")
    if options.core and command not in ON_A_PATH:
        raise UsageError(f"{CORE} belongs to {', '.join(ON_A_PATH)}, not to {command}")
    course = [replace(lesson, only_core=options.core) for lesson in lessons(root)]
    if not course:
        raise UsageError(f"there are no lessons with exercises in {root}; restore them from git")
    if options.json:
        return check_json(course, options.what)
    return COMMANDS[command](course, options.what)


# --- status and next ---


def do_status(course: list[Lesson], what: str) -> int:
    """Print a bar per lesson and one for the course, then the next step."""
    chosen = choose(what, course)
    verdicts = {lesson.name: judged(lesson) for lesson in chosen}
    print(colour("Tiny Transformer Course", "bold"), end="\n\n")
    core = {exercise.id for lesson in chosen for exercise in lesson.core}
    for lesson in chosen:
        print(status_line(lesson.name, list(verdicts[lesson.name].values()), core))
    everything = [found for each in verdicts.values() for found in each.values()]
    if len(chosen) > 1:
        print(status_line("course", everything, core))
    print()
    print("\n".join([*wrap(counts(everything)), *first_step(chosen, verdicts)]))
    return 0


def status_line(name: str, found: list[Verdict], core: Collection[str]) -> str:
    """ "01_attention           ######--------------   3/14   core 3/9    wrong: 1.4"."""
    solved = sum(each.outcome == SOLVED for each in found)
    length = max(4, min(20, width() - 31))
    shown = colour(bar(solved, len(found), length), SOLVED)
    line, columns = f"{name:<22} {shown} {solved:>3}/{len(found):<3}", 22 + 1 + length + 8
    problem = status_note(found)
    for note, painted in (
        (core_note(found, core),) * 2,
        (problem, colour(problem, WRONG)),
    ):
        if note and columns + 2 + len(note) <= width():
            line, columns = f"{line}  {painted}", columns + 2 + len(note)
        elif note:
            line, columns = f"{line.rstrip()}\n  {painted}", 2 + len(note)
    return line.rstrip()


def core_note(found: list[Verdict], core: Collection[str]) -> str:
    """ "core 3/9  ": how many exercises of the core are solved; "" if none belongs to it."""
    outcomes = [each.outcome for each in found if each.exercise in core]
    return f"core {outcomes.count(SOLVED)}/{len(outcomes)}".ljust(10) if outcomes else ""


def status_note(found: list[Verdict]) -> str:
    """ "wrong: 1.2, 1.3, 1.4, ...", "cannot be read", or "" if nothing is wrong."""
    if any(each.broken_file for each in found):
        return "cannot be read"
    wrong = [each.exercise for each in found if each.outcome == WRONG]
    named = wrong[:SHOWN] + ["..."] * (len(wrong) > SHOWN)
    return f"wrong: {', '.join(named)}" if wrong else ""


def first_step(course: list[Lesson], verdicts: dict[str, dict[str, Verdict]]) -> list[str]:
    """The next step in the first unfinished lesson."""
    for lesson in course:
        found = verdicts[lesson.name]
        exercise = next_exercise(lesson, found)
        if exercise is not None and found[exercise.id].broken_file:
            return fix_step(lesson, found[exercise.id])
        if exercise is not None:
            return next_step(lesson, found)
    return wrap(" ".join(end_of_path(course)))


def end_of_path(course: list[Lesson]) -> tuple[str, str]:
    """What to say when everything on the learner's path is solved, and what comes after it."""
    if course[0].only_core:
        return CORE_SOLVED, f"{AFTER_THE_CORE} {how_to('next')}"
    return ALL_SOLVED, AFTERWARDS


def fix_step(lesson: Lesson, found: Verdict) -> list[str]:
    """The next step while the exercises of a lesson cannot be loaded."""
    step = wrap(f"next: fix {place(lesson, lesson.file)}")
    return [*step, *wrap(found.message, step_indent())]


def do_next(course: list[Lesson], what: str) -> int:
    """Print the next exercise, why it matters, what to read before it and where it is."""
    found = next_of(choose(what, course))
    if found is None:
        print("\n".join(wrap(" ".join(end_of_path(course)))))
        return 0
    lesson, exercise, verdict = found
    if verdict.broken_file:
        print("\n".join(fix_step(lesson, verdict)))
        return 0
    print("\n".join(introduction(lesson, exercise, verdict)))
    if verdict.outcome == WRONG:
        print(f"To see what is wrong: {how_to('check', exercise.id)}")
    return 0


def next_of(course: list[Lesson]) -> tuple[Lesson, Exercise, Verdict] | None:
    """The first unsolved exercise on the learner's path; later lessons are not judged."""
    for lesson in course:
        verdicts = judged(lesson)
        exercise = next_exercise(lesson, verdicts)
        if exercise is not None:
            return lesson, exercise, verdicts[exercise.id]
    return None


# --- check ---


def do_check(course: list[Lesson], what: str) -> int:
    """Check everything, one lesson or one exercise; 1 if something is wrong."""
    if what and not LESSON.match(what):
        lesson, exercise = find_exercise(what, course)
        return check(lesson, [exercise])
    chosen = choose(what, course)
    code = 0
    for lesson in chosen:
        if len(chosen) > 1:
            print(colour(f"--- {lesson.name} ".ljust(width(), "-"), "dim"))
        code = max(code, check(lesson, lesson.exercises))
    return code


def check_json(course: list[Lesson], what: str) -> int:
    """Print the verdicts as JSON; 1 if something is wrong.

    {"counts": {"solved": 3, "wrong": 1, "to do": 10},
     "exercises": [{"exercise": "1.3", "lesson": "01_attention", "title": ..., "kind": "write",
       "core": true, "challenge": false, "file": "01_attention/exercises/exercises.py", "line": 77,
       and all the fields of Verdict in utils/grader/report.py: "outcome" (solved, wrong, to do),
       "check", "message", "diagnosis", "is_certain", "second_mistake", "printed", "failed", ...}]}
    """
    if what and not LESSON.match(what):
        lesson, exercise = find_exercise(what, course)
        chosen = [(lesson, [exercise])]
    else:
        chosen = [(lesson, [*lesson.exercises]) for lesson in choose(what, course)]
    entries = [
        as_json(lesson, exercise, verdicts[exercise.id])
        for lesson, exercises in chosen
        for verdicts in [judged(lesson)]
        for exercise in exercises
    ]
    outcomes = [entry["outcome"] for entry in entries]
    counted = {outcome: outcomes.count(outcome) for outcome in (SOLVED, WRONG, TO_DO)}
    print(json.dumps({"counts": counted, "exercises": entries}, indent=1))
    return int(WRONG in outcomes)


def as_json(lesson: Lesson, exercise: Exercise, found: Verdict) -> dict[str, object]:
    """One exercise and the verdict on it."""
    return {
        "lesson": lesson.name,
        "title": exercise.title,
        "kind": exercise.kind,
        "core": exercise.core,
        "challenge": exercise.challenge,
        "file": place(lesson, lesson.file),
        "line": line_of_exercise(lesson, exercise),
        **asdict(found),
    }


def choose(what: str, course: list[Lesson]) -> list[Lesson]:
    """The lesson of this name, or all lessons without a name."""
    return [pick_lesson(what, course)] if what else course


def pick_lesson(name: str, course: list[Lesson]) -> Lesson:
    """A lesson by its folder's name. Raises UsageError with a did-you-mean."""
    pick(name.rstrip("/\\"), [lesson.name for lesson in course], "lesson")
    return next(lesson for lesson in course if lesson.name == name.rstrip("/\\"))


# --- hint and reset ---


def do_hint(course: list[Lesson], what: str) -> int:
    """Print the hints given so far and the next one."""
    if what:
        give_hint(*find_exercise(what, course))
        return 0
    found = next_of(course)
    if found is None:
        print(f"{end_of_path(course)[0]} There is nothing to give a hint for.")
    elif found[2].broken_file:
        print("\n".join(fix_step(found[0], found[2])))
    else:
        give_hint(found[0], found[1])
    return 0


def give_hint(lesson: Lesson, exercise: Exercise) -> None:
    """Print the hints of one exercise so far and the next one."""
    given = count_hint(lesson.folder.parent, exercise)
    print("\n".join(wrap(f"{exercise.id} {exercise.title}")))
    for number, hint in enumerate(exercise.hints[:given], start=1):
        print("\n".join(["", *wrap(f"{number}. {hint}")]))
    left = len(exercise.hints) - given
    more = f"{left} more: {how_to('hint', exercise.id)}" if left else "That was the last hint."
    print(f"\n({more})")


def count_hint(root: Path, exercise: Exercise) -> int:
    """Store that one more hint was given; returns how many that makes."""
    state = read_state(root)
    before = state["hints"].get(exercise.id, 0)
    before = before if isinstance(before, int) else 0  # the file may have been edited by hand
    given = max(1, min(before + 1, len(exercise.hints)))
    state["hints"][exercise.id] = given
    try:
        write_state(state, root)
    except OSError as error:  # a read-only folder
        print(f"note: progress is not saved: {error.strerror}", file=sys.stderr)
    return given


def do_reset(course: list[Lesson], what: str) -> int:
    """Restore the stub of one exercise, and print where the old file is kept."""
    if not what:
        raise UsageError(f"which exercise? For example: {how_to('reset', '1.3')}")
    reset_and_report(*find_exercise(what, course))
    return 0


def reset_and_report(lesson: Lesson, exercise: Exercise) -> None:
    """Restore the stub of an exercise, and print where the old file is kept."""
    backup = reset_exercise(lesson, exercise)
    name = f"{exercise.id} {exercise.title}"
    if backup is None:
        print("\n".join(wrap(f"{name}: nothing to reset, the stub is untouched")))
        return
    print("\n".join(wrap(f"{name}: stub restored in {place(lesson, lesson.file)}")))
    print("\n".join(wrap(f"Your old file: {place(lesson, backup)}")))


# --- solution ---


def do_solution(course: list[Lesson], what: str) -> int:
    """Print the solution of a solved exercise, by default of the one before the next; else 1."""
    lesson, exercise = find_exercise(what, course) if what else last_solved(course)
    found = judged(lesson)[exercise.id]
    if found.outcome != SOLVED:
        hint = f"a hint: {how_to('hint', exercise.id)}"
        print("\n".join(wrap(f"{exercise.id} is {found.outcome}; solve it first, or take {hint}")))
        return 1
    show_solution(lesson, exercise)
    return 0


def last_solved(course: list[Lesson]) -> tuple[Lesson, Exercise]:
    """The last solved exercise before the first unsolved one. Raises UsageError if none is."""
    before = None
    for lesson in course:
        verdicts = judged(lesson)
        for exercise in lesson.path:
            if verdicts[exercise.id].outcome != SOLVED:
                break
            before = lesson, exercise
        else:
            continue
        break
    if before is None:
        raise UsageError(f"which exercise? For example: {how_to('solution', '1.3')}")
    return before


def show_solution(lesson: Lesson, exercise: Exercise) -> None:
    """Print the solution of one exercise, with its comments, and no other."""
    print(colour(f"{exercise.id} {exercise.title}", "bold"), end="\n\n")
    print(solution_of(lesson, exercise).rstrip())
    print("\n".join(["", *wrap(f"(from {place(lesson, lesson.solutions)})")]))


# --- watch ---


def do_watch(course: list[Lesson], what: str) -> int:
    """Check the first unfinished lesson on every save, until all is solved, or q or Ctrl-C."""
    chosen = choose(what, course)
    actions = {"h": give_hint, "r": reset_and_report, "s": show_solution}
    try:
        watch_lessons(chosen, actions)
        print(end_of_path(course)[0])
    except (KeyboardInterrupt, Quit):
        print(f"\nstopped; {how_to('status')} shows where you are")
    return 0


COMMANDS: dict[str, Callable[[list[Lesson], str], int]] = {
    "status": do_status,
    "next": do_next,
    "check": do_check,
    "watch": do_watch,
    "hint": do_hint,
    "solution": do_solution,
    "reset": do_reset,
}
ON_A_PATH = ("status", "next", "watch", "hint", "solution")  # the commands that take --core


if __name__ == "__main__":
    run_program(main)
