"""Judging exercises: what the tests say of a learner's file now.

`judge` runs the tests of a lesson in a process of their own and returns a verdict for each
exercise. Python loops are stopped inside that process (utils/grader/guard.py); when it says nothing
for SILENCE seconds (a call into C, a deadlock), or ends (a segmentation fault, os._exit), the
exercise it was at is wrong, and a new process judges the rest.

`progress` is the same for whoever asks often: verdicts are kept by the content of every file that
they depend on, so an unchanged lesson costs milliseconds and no torch.
"""

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from utils.errors import CourseError
from utils.files import atomic_write_text
from utils.grader.exercises import ROOT, Lesson
from utils.grader.report import SOLVED, TO_DO, WRONG, Case, Verdict, verdict

STARTING = 180.0  # seconds to import torch on a cold disk
LEAVING = 2.0  # seconds to end once it has closed its stream
SILENCE = 15.0  # seconds without a word from the process
JUDGED = (0, 1)  # pytest's exit codes that say something about the exercises
VERSION = 1
PYTEST = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}  # nbval takes a second

Watcher = Callable[[str], None]  # told the id of each exercise when its turn comes


# --- one process ---


class Child:
    """A process that has imported torch and waits for one job."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "utils.grader.worker"],
            cwd=ROOT,
            env={**os.environ, **PYTEST},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put(None)

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        """What it says next; None when it has ended. Raises queue.Empty after `seconds`."""
        return self.events.get(timeout=seconds)

    def give(self, job: dict[str, Any]) -> None:
        """Hand it its job. Raises CourseError if it could not start."""
        assert self.process.stdin is not None
        ready = self.next_event(STARTING)
        if ready is None:
            raise CourseError(f"the judge could not start: {self.last_words()}")
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def last_words(self) -> str:
        """The last error that it wrote, or else its last line."""
        self.errors.seek(0)
        text = self.errors.read().decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for sign in ("E  ", "INTERNALERROR>", "ERROR", ""):  # the cause comes before what it causes
            found = [line for line in lines if line.startswith(sign)]
            if found:
                return found[-1].removeprefix("E  ").removeprefix("INTERNALERROR>").strip()
        return "no message"

    def end(self, timeout: float = 0.0) -> int:
        """Make sure that it is gone; returns its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may be about to leave by itself
            self.process.wait(timeout)
        self.process.kill()
        code = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


# --- one lesson ---


def judge(
    lesson: Lesson,
    only: Iterable[str] | None = None,
    *,
    solutions: bool = False,
    start: Callable[[], Child] = Child,
    watcher: Watcher = lambda exercise: None,
) -> tuple[dict[str, Verdict], bool]:
    """Verdicts by exercise, and whether all came about in the ordinary way (may be kept).

    `only` limits them to some exercises; `start` gives a process, perhaps one that waits already.
    """
    asked = [exercise.id for exercise in lesson.exercises if only is None or exercise.id in only]
    cases: dict[str, list[Case]] = defaultdict(list)
    left, orderly = asked, True
    while left:
        with start() as child:
            end = listen(child, job_for(lesson, left, solutions), cases, watcher)
        if not end.problem:
            break
        orderly = False
        # What ends while the file is loading will do so for every exercise.
        ended = [end.at] if end.loaded else left
        where = "" if end.loaded else f"{lesson.file.name} does not finish loading: "
        for one in ended:
            cases[one].append(Case(one, WRONG, where + end.problem, broken_file=not end.loaded))
        left = [one for one in left if not cases[one]]
    unjudged = [one for one in asked if not cases[one]]
    if unjudged:
        raise CourseError(f"{lesson.name}: no test has judged {', '.join(unjudged)}")
    return {one: verdict(one, cases[one]) for one in asked}, orderly


def job_for(lesson: Lesson, exercises: list[str], solutions: bool) -> dict[str, Any]:
    """What a child is told: the tests that judge these exercises."""
    file = lesson.test_file()
    tests = [test for one in exercises for test in lesson.exercise(one).judge]
    arguments = [f"{file}::{test}" for test in tests] + ["--solutions"] * solutions
    return {"root": str(lesson.folder.parent), "arguments": arguments}


@dataclass
class End:
    """How a child's work ended: `problem` is "" if it came through."""

    at: str = ""  # the exercise it was at
    loaded: bool = False  # the learner's file was
    problem: str = ""


def listen(
    child: Child,
    job: dict[str, Any],
    cases: dict[str, list[Case]],
    watcher: Watcher = lambda exercise: None,
) -> End:
    """Collect the cases of one process. Raises CourseError if pytest could not run the tests."""
    end = End()
    child.give(job)
    while True:
        try:
            event = child.next_event(SILENCE if end.at else STARTING)
        except queue.Empty:
            end.problem = f"nothing came back for {SILENCE:.0f} seconds: does something never end?"
            return end
        if event is None:
            end.problem = f"it ended Python itself (exit code {child.end(LEAVING)})"
            return end
        kind = event.pop("event")
        if kind == "start" and event["exercise"] != end.at:
            end.at = event["exercise"]
            watcher(end.at)
        elif kind == "loaded":
            end.loaded = True
        elif kind == "case":
            cases[event["exercise"]].append(case_from(event))
        elif kind == "end":
            if event["code"] not in JUDGED:
                raise CourseError(f"the tests could not run: {child.last_words()}")
            return end


def case_from(event: dict[str, Any]) -> Case:
    """What utils/grader/worker.py said of one test."""
    explained = event["explained_by"]
    sets = {
        "explained_by": None if explained is None else frozenset(explained),
        "refuted": frozenset(event["refuted"]),
    }
    return Case(**{**event, **sets})


# --- kept by content ---


def state_file(root: Path = ROOT) -> Path:
    """Where verdicts and hints are kept; git ignores it."""
    return root / ".progress" / "state.json"


def read_state(root: Path = ROOT) -> dict[str, Any]:
    """What was kept; a new beginning if there is nothing, or nothing that can be read."""
    fresh: dict[str, Any] = {"version": VERSION, "lessons": {}, "hints": {}}
    try:
        state = json.loads(state_file(root).read_text(encoding="utf-8"))
        sound = state["version"] == VERSION
        sound = sound and isinstance(state["lessons"], dict) and isinstance(state["hints"], dict)
        return state if sound else fresh
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return fresh


def write_state(state: dict[str, Any], root: Path = ROOT) -> None:
    """Keep it; the file is whole at every moment."""
    path = state_file(root)
    path.parent.mkdir(exist_ok=True)
    atomic_write_text(path, json.dumps(state, indent=1))


def content_key(lesson: Lesson) -> str:
    """A hash of everything that the verdicts of a lesson depend on."""
    root = lesson.folder.parent
    digest = hashlib.sha256(sys.version.encode())
    for path in [root / "conftest.py", root / "requirements.txt", *files_behind(lesson)]:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() if path.is_file() else b"missing")
    return digest.hexdigest()


def files_behind(lesson: Lesson) -> list[Path]:
    """The exercises and their tests, utils, and the modules of this lesson and lower ones."""
    root = lesson.folder.parent
    folders = [one for one in root.glob("[0-9][0-9]_*") if one.name <= lesson.name]
    rooms = (*folders, root / "utils", root / "utils" / "grader")
    found = [path for folder in rooms for path in folder.glob("*.py")]
    found += (lesson.folder / "exercises").glob("exercises.*")
    found += (lesson.folder / "tests").glob("*.py")
    return sorted(found)


def progress(
    lesson: Lesson,
    start: Callable[[], Child] = Child,
    watcher: Watcher = lambda exercise: None,
) -> dict[str, Verdict]:
    """The verdicts of a lesson as it is now, judged only if something changed."""
    root = lesson.folder.parent
    key = content_key(lesson)
    kept = kept_verdicts(read_state(root)["lessons"].get(lesson.name), key, lesson)
    if kept is not None:
        return kept
    verdicts, orderly = judge(lesson, start=start, watcher=watcher)
    if orderly and key == content_key(lesson):  # not saved in between
        state = read_state(root)
        state["lessons"][lesson.name] = {
            "key": key,
            "verdicts": {one: asdict(found) for one, found in verdicts.items()},
        }
        with contextlib.suppress(OSError):  # what cannot be kept is judged again next time
            write_state(state, root)
    return verdicts


def kept_verdicts(entry: Any, key: str, lesson: Lesson) -> dict[str, Verdict] | None:
    """What was kept for a lesson, None if it is of another content or damaged."""
    try:
        if entry["key"] != key:
            return None
        found = {one.id: Verdict(**entry["verdicts"][one.id]) for one in lesson.exercises}
    except (KeyError, TypeError):
        return None
    return found if all(map(is_sound, found.values())) else None


def is_sound(found: Verdict) -> bool:
    """Whether a verdict that was kept holds what a verdict holds."""
    kinds = [type(value) for value in asdict(found).values()]
    wanted = [type(value) for value in asdict(Verdict("", "")).values()]
    return kinds == wanted and found.outcome in (SOLVED, WRONG, TO_DO)
