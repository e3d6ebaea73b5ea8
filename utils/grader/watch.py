"""`learn.py watch`: check a lesson on every save, and act on single keys in between.

    watch_lessons(lessons, {"h": give_hint, "r": reset})

returns when all the lessons are solved. On a terminal the keys are h (next hint), n (next
exercise), r (reset, after a second r) and q (quit, raises Quit); elsewhere there are none.
"""

import contextlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from utils.errors import CourseError
from utils.grader.check import (
    ERASE_LINE,
    introduction,
    judged,
    next_exercise,
    place,
    print_verdicts,
)
from utils.grader.exercises import Exercise, Lesson, how_to
from utils.grader.keyboard import Keyboard, open_keyboard
from utils.grader.report import (
    SOLVED,
    WRONG,
    Verdict,
    colour,
    counts,
    message_lines,
    understands_escapes,
    width,
    wrap,
)
from utils.grader.runner import Worker

POLL = 0.2  # seconds between two looks at the file
PATIENCE = 2.0  # seconds to wait for the rest of a save that has lost a function so far
NOTICE = 0.5  # seconds of checking until a line says so
KEYS = "keys: h hint, n next exercise, s last solution, r reset, q quit"
FUNCTION = re.compile(rb"^(?:async\s+def|def|class)\s+(\w+)", re.MULTILINE)

Actions = Mapping[str, Callable[[Lesson, Exercise], None]]  # what h, s and r do


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


class Quit(Exception):  # noqa: N818 - not an error
    """The learner pressed q."""


def watch_lessons(lessons: Iterable[Lesson], actions: Actions) -> None:
    """Watch one lesson after the other until all are solved. Raises Quit when q is pressed."""
    spare = SpareWorker()
    try:
        with open_keyboard() as keyboard:
            for lesson in lessons:
                Watch(lesson, spare, keyboard, actions).run()
    finally:
        spare.close()


class Watch:
    """Checks a lesson on every save until it is solved; keys act on the current exercise."""

    def __init__(
        self, lesson: Lesson, spare: SpareWorker, keyboard: Keyboard, actions: Actions
    ) -> None:
        self.lesson = lesson
        self.spare = spare
        self.keyboard = keyboard
        self.actions = actions
        self.current = ""  # the exercise that the learner is working on
        self.solved = ""  # the one that was solved last
        self.verdicts: dict[str, Verdict] = {}
        self.confirms_reset = False  # r was pressed once

    def run(self) -> None:
        """Check the lesson now and on every save."""
        before = None
        while True:
            before = wait_for_save(self.lesson, before, self.wait)
            with announced(self.lesson):
                self.verdicts = judged(self.lesson, self.spare.take)
            self.confirms_reset = False
            exercise = self.next_exercise()
            if exercise is None and not self.current:  # it was solved before
                return
            print_time(self.lesson)
            self.report_solved()
            if exercise is None:
                return
            self.show(exercise)
            self.spare.prepare()

    def next_exercise(self) -> Exercise | None:
        """The current exercise while it is unsolved, else the first unsolved one."""
        if self.current and self.verdicts[self.current].outcome != SOLVED:
            return self.lesson.exercise(self.current)
        return next_exercise(self.lesson, self.verdicts)

    def report_solved(self) -> None:
        if self.current and self.verdicts[self.current].outcome == SOLVED:
            print(colour(f"{self.current} is solved.", SOLVED), end=" ")
            key = ", or the key s" * self.keyboard.has_keys
            print(f"Compare with the solution: {how_to('solution', self.current)}{key}\n")
            self.solved = self.current

    def show(self, exercise: Exercise) -> None:
        """Print the state of an exercise, which becomes the current one."""
        is_first = not self.current
        is_new = exercise.id != self.current
        show_in_watch(self.lesson, exercise, self.verdicts, is_new=is_new)
        if not self.verdicts[exercise.id].broken_file:  # else the exercise is not known
            self.current = exercise.id
            if is_first and self.keyboard.has_keys:
                print(colour(KEYS, "dim"))
        sys.stdout.flush()

    # --- keys ---

    def wait(self, seconds: float) -> None:
        """Wait for a moment, or act on a key that is pressed."""
        key = self.keyboard.read(seconds)
        if key == "q":
            raise Quit
        if key and self.current:
            self.act(key)
            self.confirms_reset = key == "r" and not self.confirms_reset
            sys.stdout.flush()

    def act(self, key: str) -> None:
        """Give a hint, move on or reset the current exercise; other keys do nothing."""
        exercise = self.lesson.exercise(self.current)
        if key == "h":
            self.actions["h"](self.lesson, exercise)
        elif key == "s" and self.solved:
            self.actions["s"](self.lesson, self.lesson.exercise(self.solved))
        elif key == "s":
            print("no exercise was solved yet in this session")
        elif key == "n":
            self.move_on()
        elif key == "r" and self.confirms_reset:
            self.reset(exercise)
        elif key == "r":
            question = f"press r again to restore the stub of {exercise.id}; a copy of your file"
            print("\n".join(wrap(f"{question} is kept")))

    def reset(self, exercise: Exercise) -> None:
        """Restore a stub; if that is not possible, print why and keep watching."""
        try:
            self.actions["r"](self.lesson, exercise)
        except CourseError as error:
            print("\n".join(wrap(str(error))))

    def move_on(self) -> None:
        """Show the unsolved exercise after the current one; after the last, the first."""
        ids = [one.id for one in self.lesson.path]
        at = ids.index(self.current)
        unsolved = [one for one in ids[at + 1 :] + ids[:at] if is_unsolved(self.verdicts[one])]
        if unsolved:
            self.show(self.lesson.exercise(unsolved[0]))
        else:
            part = "the core of " * self.lesson.only_core + self.lesson.name
            print("\n".join(wrap(f"{self.current} is the only exercise of {part} that is left")))


def is_unsolved(found: Verdict) -> bool:
    return found.outcome != SOLVED


@contextlib.contextmanager
def announced(lesson: Lesson) -> Iterator[None]:
    """Print one line if checking a lesson takes longer than half a second."""

    def announce() -> None:
        start = ERASE_LINE if understands_escapes(sys.stdout) else ""
        print(start + colour(f"checking {lesson.name} ...", "dim"), flush=True)

    timer = threading.Timer(NOTICE, announce)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
    total = counts(verdicts[one.id] for one in lesson.path)
    print("\n".join(wrap("the core: " * lesson.only_core + total)))


def wait_for_save(
    lesson: Lesson, before: bytes | None, wait: Callable[[float], None] = time.sleep
) -> bytes:
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
        wait(POLL)
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
