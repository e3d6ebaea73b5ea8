"""Your progress in the course, and what to do next.

    python tools/learn.py status           every lesson: solved, wrong, to do, a bar, the next step
    python tools/learn.py next             the next exercise, and why it matters
    python tools/learn.py check            check your exercises: all, one lesson's, or one (1.3)
    python tools/learn.py watch            check on every save, and move on when one is solved
    python tools/learn.py hint 1.3         one more hint each time; by default for the next exercise
    python tools/learn.py reset 1.3        restore its stub; a copy of your file is kept

`make status`, `make hint EX=1.3` and so on do the same. Your progress is what the tests say about
your files now; torch is imported only if something has changed.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from utils.command_line import OneLineParser
from utils.errors import UsageError, pick
from utils.grader.check import (
    check,
    judged,
    level,
    next_exercise,
    next_step,
    place,
    print_verdicts,
    step_indent,
    where_is,
)
from utils.grader.exercises import ROOT, Exercise, Lesson, find_exercise, how_to, lessons
from utils.grader.report import (
    SOLVED,
    WRONG,
    Verdict,
    bar,
    colour,
    counts,
    message_lines,
    width,
    wrap,
)
from utils.grader.runner import Worker, read_state, write_state
from utils.grader.stubs import reset_exercise

POLL = 0.2  # seconds between two looks at the file
PATIENCE = 2.0  # seconds to wait for the rest of a save that has lost a function so far
SHOWN = 3  # wrong exercises listed on one line of the status
FUNCTION = re.compile(rb"^(?:async\s+def|def|class)\s+(\w+)", re.MULTILINE)
ALL_SOLVED = "Everything here is solved."


def main(root: Path = ROOT) -> int:
    """Run a command on the lessons below `root`; 1 if `check` finds a wrong exercise."""
    parser = OneLineParser(description="Your progress in the course, and what to do next.")
    parser.add_argument("command", nargs="?", default="status", help=", ".join(COMMANDS))
    parser.add_argument("what", nargs="?", default="", help="an exercise (1.3) or a lesson")
    options = parser.parse_args()
    command = pick(options.command, COMMANDS, "command")
    course = lessons(root)
    if not course:
        raise UsageError(f"there are no lessons with exercises in {root}")
    return COMMANDS[command](course, options.what)


# --- status and next ---


def do_status(course: list[Lesson], what: str) -> int:
    """Print a bar per lesson and one for the course, then the next step."""
    chosen = choose(what, course)
    verdicts = {lesson.name: judged(lesson) for lesson in chosen}
    print(colour("Tiny Transformer Course", "bold"), end="\n\n")
    for lesson in chosen:
        print(status_line(lesson.name, list(verdicts[lesson.name].values())))
    everything = [found for each in verdicts.values() for found in each.values()]
    if len(chosen) > 1:
        print(status_line("course", everything))
    print()
    print("\n".join([*wrap(counts(everything)), *first_step(chosen, verdicts)]))
    return 0


def status_line(name: str, found: list[Verdict]) -> str:
    """ "01_attention           ######--------------   3/10  wrong: 1.4"."""
    solved = sum(each.outcome == SOLVED for each in found)
    length = max(4, min(20, width() - 31))
    shown = colour(bar(solved, len(found), length), SOLVED)
    line = f"{name:<22} {shown} {solved:>3}/{len(found):<3}"
    note = status_note(found)
    if not note:
        return line.rstrip()
    fits = 22 + 1 + length + 8 + 1 + len(note) <= width()
    return f"{line} {colour(note, WRONG)}" if fits else f"{line.rstrip()}\n  {colour(note, WRONG)}"


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
    return wrap(f"{ALL_SOLVED} Now train a model: make demo")


def fix_step(lesson: Lesson, found: Verdict) -> list[str]:
    """The next step while the exercises of a lesson cannot be loaded."""
    step = wrap(f"next: fix {place(lesson, lesson.file)}")
    return [*step, *wrap(found.message, step_indent())]


def do_next(course: list[Lesson], what: str) -> int:
    """Print the next exercise, why it matters and where it is."""
    found = next_of(choose(what, course))
    if found is None:
        print("\n".join(wrap(f"{ALL_SOLVED} Now train a model: make demo")))
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
    """The first unsolved exercise of the course; later lessons are not judged."""
    for lesson in course:
        verdicts = judged(lesson)
        exercise = next_exercise(lesson, verdicts)
        if exercise is not None:
            return lesson, exercise, verdicts[exercise.id]
    return None


def introduction(lesson: Lesson, exercise: Exercise, found: Verdict) -> list[str]:
    """An exercise, introduced to a learner who is about to start it."""
    title = f"{exercise.id} {exercise.title}{' (challenge)' * exercise.challenge}"
    return [
        *(colour(line, "bold") for line in wrap(title)),
        *wrap(f"{level(exercise)}; {found.outcome}"),
        "",
        *wrap(exercise.why),
        "",
        *wrap(f"Write it in {where_is(lesson, exercise)}"),
        f"For a hint: {how_to('hint', exercise.id)}",
    ]


# --- check ---


def do_check(course: list[Lesson], what: str) -> int:
    """Check everything, one lesson or one exercise; 1 if something is wrong."""
    if "." in what:
        lesson, exercise = find_exercise(what, course)
        return check(lesson, [exercise])
    chosen = choose(what, course)
    code = 0
    for lesson in chosen:
        if len(chosen) > 1:
            print(colour(f"--- {lesson.name} ".ljust(width(), "-"), "dim"))
        code = max(code, check(lesson, lesson.exercises))
    return code


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
        print(f"{ALL_SOLVED} There is nothing to give a hint for.")
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
    lesson, exercise = find_exercise(what, course)
    backup = reset_exercise(lesson, exercise)
    name = f"{exercise.id} {exercise.title}"
    if backup is None:
        print("\n".join(wrap(f"{name}: nothing to reset, the stub is untouched")))
        return 0
    print("\n".join(wrap(f"{name}: stub restored in {place(lesson, lesson.file)}")))
    print("\n".join(wrap(f"Your old file: {place(lesson, backup)}")))
    return 0


# --- watch ---


class SpareWorker:
    """Keeps one process waiting with torch imported, so that a save is checked at once."""

    def __init__(self) -> None:
        self.waiting: Worker | None = None

    def prepare(self) -> None:
        """Start the next process, unless one is waiting."""
        self.waiting = self.waiting or Worker()

    def take(self) -> Worker:
        """The waiting process; a new one if there is none."""
        worker = self.waiting or Worker()
        self.waiting = None
        return worker

    def close(self) -> None:
        if self.waiting is not None:
            self.waiting.end()


def do_watch(course: list[Lesson], what: str) -> int:
    """Check the first unfinished lesson on every save, until all is solved or Ctrl-C is pressed."""
    chosen = choose(what, course)
    spare = SpareWorker()
    try:
        for lesson in chosen:
            watch_lesson(lesson, spare)
        print(ALL_SOLVED)
    except KeyboardInterrupt:
        print(f"\nstopped; {how_to('status')} shows where you are")
    finally:
        spare.close()
    return 0


def watch_lesson(lesson: Lesson, spare: SpareWorker) -> None:
    """Check a lesson on every save until all its exercises are solved."""
    current = ""  # the exercise that the learner is working on
    before = None
    while True:
        before = wait_for_save(lesson, before)
        verdicts = judged(lesson, spare.take)
        exercise = next_exercise(lesson, verdicts)
        if exercise is None and not current:  # it was solved before
            return
        print_time(lesson)
        if current and verdicts[current].outcome == SOLVED:
            print(colour(f"{current} is solved.", SOLVED), end=" ")
            print(f"Compare with {place(lesson, lesson.solutions)}\n")
        if exercise is None:
            return
        show_in_watch(lesson, exercise, verdicts, is_new=exercise.id != current)
        if not verdicts[exercise.id].broken_file:  # else the exercise is not known
            current = exercise.id
        sys.stdout.flush()
        spare.prepare()


def print_time(lesson: Lesson) -> None:
    """Print the line that begins the report of one save."""
    line = time.strftime(f"--- %H:%M:%S {lesson.name} ").ljust(width(), "-")
    print(colour(line[: width()], "dim"))


def show_in_watch(
    lesson: Lesson, exercise: Exercise, verdicts: dict[str, Verdict], *, is_new: bool
) -> None:
    """Print the state of the current exercise in full, and of the others only their ids."""
    found = verdicts[exercise.id]
    if found.broken_file:
        print_verdicts(lesson, lesson.exercises, verdicts)
        return
    if is_new:
        print("\n".join(introduction(lesson, exercise, found)) + "\n")
    if found.outcome == WRONG:
        print(colour(f"{exercise.id} {exercise.title}: wrong", WRONG))
        print("\n".join(message_lines(found, indent="  ")))
    elif not is_new:
        print(f"{exercise.id} {exercise.title}: still to do")
    others = [one for one, each in verdicts.items() if each.outcome == WRONG and one != exercise.id]
    if others:
        print("\n".join(wrap(f"also wrong: {', '.join(others)}")))
    print("\n".join(wrap(counts(verdicts.values()))))


def wait_for_save(lesson: Lesson, before: bytes | None) -> bytes:
    """Wait until the file differs from before and has been saved completely; returns its bytes.

    Some editors empty a file and then write it, or move it away and write a new one. Advice about
    half a file could make a learner lose the other half, so an empty or missing file is not judged.
    """
    seen = read_or_none(lesson.file)
    since = time.monotonic()
    has_told = False
    while not is_complete(before, seen, time.monotonic() - since):
        if not has_told and not seen and time.monotonic() - since > PATIENCE:
            print(
                f"waiting for a save: {place(lesson, lesson.file)} is empty or missing", flush=True
            )
            has_told = True
        time.sleep(POLL)
        now = read_or_none(lesson.file)
        if now != seen:
            seen = now
            since = time.monotonic()
    return seen or b""


def is_complete(before: bytes | None, now: bytes | None, quiet: float) -> bool:
    """Whether a file has changed, and looks like all of a save after this many quiet seconds."""
    if now is None or not now.strip() or now == before:
        return False
    return before is None or quiet >= required_quiet(before, now)


def required_quiet(before: bytes, now: bytes) -> float:
    """Seconds without a change before a save counts as complete; more if a function is missing."""
    lost = set(FUNCTION.findall(before)) - set(FUNCTION.findall(now))
    return PATIENCE if lost else POLL


def read_or_none(path: Path) -> bytes | None:
    """The bytes of a file; None while it is missing."""
    try:
        return path.read_bytes()
    except OSError:
        return None


COMMANDS: dict[str, Callable[[list[Lesson], str], int]] = {
    "status": do_status,
    "next": do_next,
    "check": do_check,
    "watch": do_watch,
    "hint": do_hint,
    "reset": do_reset,
}


if __name__ == "__main__":
    run_program(main)
