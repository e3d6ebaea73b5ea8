"""Where you stand in the course, and what to do next.

    python tools/learn.py status           every lesson: solved, wrong, to do, a bar, the next step
    python tools/learn.py next             the next exercise, and why it matters
    python tools/learn.py check            judge your exercises now: all, a lesson's, or one (1.3)
    python tools/learn.py watch            judge at each save, and move on when one is solved
    python tools/learn.py hint 1.3         one hint more each time; the next exercise's if left out
    python tools/learn.py reset 1.3        put its stub back; your version is kept aside

`make status`, `make hint EX=1.3` and so on are the same. Progress is what the tests say of your
files now, so it cannot be wrong for long; torch is imported only when something has changed.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import sys
import time
from pathlib import Path

from utils.command_line import OneLineParser
from utils.errors import UsageError, pick
from utils.grader.check import (
    check,
    judged,
    line_of_exercise,
    next_exercise,
    next_step,
    place,
    print_verdicts,
)
from utils.grader.exercises import ROOT, Exercise, Lesson, find_exercise, how_to, lessons
from utils.grader.report import (
    SOLVED,
    WIDTH,
    WRONG,
    Verdict,
    bar,
    colour,
    counts,
    fold,
    message_lines,
)
from utils.grader.runner import Child, read_state, write_state
from utils.grader.stubs import put_back

POLL = 0.2  # seconds between looks at the file
SHOWN = 3  # wrong exercises named in one line of the status
COMMANDS = ("status", "next", "check", "watch", "hint", "reset")


def main(root: Path = ROOT) -> int:
    """Do what the command line says of the lessons below `root`; 1 if `check` finds a fault."""
    parser = OneLineParser(description="Where you stand in the course, and what to do next.")
    parser.add_argument("command", nargs="?", default="status", help=", ".join(COMMANDS))
    parser.add_argument("what", nargs="?", default="", help="an exercise (1.3) or a lesson")
    options = parser.parse_args()
    command = pick(options.command, COMMANDS, "command")
    course = lessons(root)
    if not course:
        raise UsageError("there is no lesson with exercises here")
    return globals()[f"do_{command}"](course, options.what)


# --- status and next ---


def do_status(course: list[Lesson], what: str) -> int:
    """Print a bar for each lesson and for the course, and the next step."""
    chosen = choose(what, course)
    verdicts = {lesson.name: judged(lesson) for lesson in chosen}
    print(colour("Tiny Transformer Course", "bold"), end="\n\n")
    for lesson in chosen:
        print(status_line(lesson.name, list(verdicts[lesson.name].values())))
    everything = [found for each in verdicts.values() for found in each.values()]
    if len(chosen) > 1:
        print(status_line("course", everything))
    print(f"\n{counts(everything)}")
    print("\n".join(first_step(chosen, verdicts)))
    return 0


def status_line(name: str, found: list[Verdict]) -> str:
    """ "01_attention           ######--------------   3/10  wrong: 1.4"."""
    solved = sum(each.outcome == SOLVED for each in found)
    wrong = [each.exercise for each in found if each.outcome == WRONG]
    if any(each.broken_file for each in found):
        note = colour("cannot be read", WRONG)
    else:
        named = wrong[:SHOWN] + ["..."] * (len(wrong) > SHOWN)
        note = colour(f"wrong: {', '.join(named)}", WRONG) if wrong else ""
    shown = colour(bar(solved, len(found)), SOLVED)
    return f"{name:<22} {shown} {solved:>3}/{len(found):<3} {note}".rstrip()


def first_step(course: list[Lesson], verdicts: dict[str, dict[str, Verdict]]) -> list[str]:
    """The next step in the first lesson that is not done."""
    for lesson in course:
        found = verdicts[lesson.name]
        exercise = next_exercise(lesson, found)
        if exercise is not None and found[exercise.id].broken_file:
            return to_mend(lesson, found[exercise.id])
        if exercise is not None:
            return next_step(lesson, found)
    return ["Everything here is solved. Now train a model: make demo"]


def to_mend(lesson: Lesson, found: Verdict) -> list[str]:
    """The next step while a file cannot be loaded."""
    return [f"next: mend {place(lesson, lesson.file)}", *fold(found.message, indent="      ")]


def do_next(course: list[Lesson], what: str) -> int:
    """Print the next exercise with its reason and its place."""
    found = next_of(choose(what, course))
    if found is None:
        print("Everything here is solved. Now train a model: make demo")
        return 0
    lesson, exercise, verdict = found
    if verdict.broken_file:
        print("\n".join(to_mend(lesson, verdict)))
        return 0
    print("\n".join(introduction(lesson, exercise, verdict)))
    if verdict.outcome == WRONG:
        print(f"What is wrong: {how_to('check', exercise.id)}")
    return 0


def next_of(course: list[Lesson]) -> tuple[Lesson, Exercise, Verdict] | None:
    """The first exercise of the course that is not solved; later lessons are not judged."""
    for lesson in course:
        verdicts = judged(lesson)
        exercise = next_exercise(lesson, verdicts)
        if exercise is not None:
            return lesson, exercise, verdicts[exercise.id]
    return None


def introduction(lesson: Lesson, exercise: Exercise, found: Verdict) -> list[str]:
    """An exercise, for someone who is about to begin it."""
    line = line_of_exercise(lesson, exercise)
    title = f"{exercise.id} {exercise.title}{' (challenge)' * exercise.challenge}"
    level = f"{exercise.minutes} minutes, difficulty {exercise.difficulty} of 5"
    return [
        colour(title, "bold"),
        f"{level}; {found.outcome}",
        "",
        *fold(exercise.why),
        "",
        f"Write it in {place(lesson, lesson.file)}" + (f", line {line}" if line else ""),
        f"For a hint: {how_to('hint', exercise.id)}",
    ]


# --- check ---


def do_check(course: list[Lesson], what: str) -> int:
    """Judge everything, a lesson or one exercise; 1 if something is wrong."""
    if "." in what:
        lesson, exercise = find_exercise(what, course)
        return check(lesson, [exercise])
    chosen = choose(what, course)
    code = 0
    for lesson in chosen:
        if len(chosen) > 1:
            print(colour(f"--- {lesson.name} ".ljust(WIDTH, "-"), "dim"))
        code = max(code, check(lesson, lesson.exercises))
    return code


def choose(what: str, course: list[Lesson]) -> list[Lesson]:
    """The lesson that was named, or else all of them."""
    return [pick_lesson(what, course)] if what else course


def pick_lesson(name: str, course: list[Lesson]) -> Lesson:
    """A lesson by its folder's name. Raises UsageError with a did-you-mean."""
    pick(name.rstrip("/\\"), [lesson.name for lesson in course], "lesson")
    return next(lesson for lesson in course if lesson.name == name.rstrip("/\\"))


# --- hint and reset ---


def do_hint(course: list[Lesson], what: str) -> int:
    """Print the hints given so far and one more."""
    if what:
        give_hint(*find_exercise(what, course))
        return 0
    found = next_of(course)
    if found is None:
        print("Everything here is solved: no hint is needed.")
    elif found[2].broken_file:
        print("\n".join(to_mend(found[0], found[2])))
    else:
        give_hint(found[0], found[1])
    return 0


def give_hint(lesson: Lesson, exercise: Exercise) -> None:
    """Print the hints of one exercise so far and one more, and remember how many."""
    root = lesson.folder.parent
    state = read_state(root)
    before = state["hints"].get(exercise.id, 0)
    before = before if isinstance(before, int) else 0  # a person may have been in the file
    given = max(1, min(before + 1, len(exercise.hints)))
    state["hints"][exercise.id] = given
    write_state(state, root)
    print(f"{exercise.id} {exercise.title}")
    for number, hint in enumerate(exercise.hints[:given], start=1):
        lines = fold(f"{number}. {hint}")
        print("\n".join(["", *lines]))
    left = len(exercise.hints) - given
    more = f"{left} more: {how_to('hint', exercise.id)}" if left else "That was the last hint."
    print(f"\n({more})")


def do_reset(course: list[Lesson], what: str) -> int:
    """Put one stub back, and say where the old file is kept."""
    if not what:
        raise UsageError(f"which exercise? For example: {how_to('reset', '1.3')}")
    lesson, exercise = find_exercise(what, course)
    kept = put_back(lesson, exercise)
    if kept is None:
        print(f"{exercise.id} {exercise.title} is as it was handed out; nothing to do")
        return 0
    print(f"{exercise.id} {exercise.title} is to do again in {place(lesson, lesson.file)}")
    print(f"Your file as it was: {place(lesson, kept)}")
    return 0


# --- watch ---


class Reserve:
    """Keeps one process waiting with torch imported, so that a save is judged at once."""

    def __init__(self) -> None:
        self.waiting: Child | None = None

    def fill(self) -> None:
        """Start the next one, if none waits."""
        self.waiting = self.waiting or Child()

    def take(self) -> Child:
        """The one that waits; a new one if there is none."""
        child, self.waiting = self.waiting or Child(), None
        return child

    def close(self) -> None:
        if self.waiting is not None:
            self.waiting.end()


def do_watch(course: list[Lesson], what: str) -> int:
    """Judge the first lesson that is not done, at each save, until all is solved or Ctrl-C."""
    chosen = choose(what, course)
    reserve = Reserve()
    try:
        for lesson in chosen:
            watch_lesson(lesson, reserve)
        print("Everything here is solved.")
    except KeyboardInterrupt:
        print(f"\nstopped; {how_to('status')} shows where you are")
    finally:
        reserve.close()
    return 0


def watch_lesson(lesson: Lesson, reserve: Reserve) -> None:
    """Judge a lesson at each save until every exercise in it is solved."""
    at = ""  # the exercise that the learner is at
    while True:
        before = content(lesson.file)
        verdicts = judged(lesson, reserve.take)
        exercise = next_exercise(lesson, verdicts)
        if exercise is None and not at:  # it was solved before
            return
        print(colour(time.strftime(f"--- %H:%M:%S {lesson.name} ").ljust(WIDTH, "-"), "dim"))
        if at and verdicts[at].outcome == SOLVED:
            print(colour(f"{at} is solved.", SOLVED), end=" ")
            print(f"Compare with {place(lesson, lesson.solutions)}\n")
        if exercise is None:
            return
        show_in_watch(lesson, exercise, verdicts, is_new=exercise.id != at)
        if not verdicts[exercise.id].broken_file:  # else nothing is known of any exercise
            at = exercise.id
        sys.stdout.flush()
        reserve.fill()
        while content(lesson.file) == before:
            time.sleep(POLL)


def show_in_watch(
    lesson: Lesson, exercise: Exercise, verdicts: dict[str, Verdict], *, is_new: bool
) -> None:
    """The exercise that the learner is at, as it stands; the others only by count."""
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
        print("\n".join(fold(f"wrong as well: {', '.join(others)}")))
    print(counts(verdicts.values()))


def content(path: Path) -> bytes | None:
    """The bytes of a file; None while an editor has it away."""
    try:
        return path.read_bytes()
    except OSError:
        return None


if __name__ == "__main__":
    run_program(main)
