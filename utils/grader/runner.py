"""Judge exercises: run the tests on a learner's file and collect the verdicts.

`judge` runs the tests of a lesson in a process of their own and returns a verdict per exercise.
Python loops are stopped inside that process (utils/grader/guard.py). If it sends nothing for
SILENCE seconds (a call into C, a deadlock), or ends (a segmentation fault, os._exit), the exercise
it was running is wrong, and a new process judges the rest. Seconds in which a busy machine kept the
process waiting for the processor don't count, up to LONGEST_SILENCE. A verdict only ever comes from
a test that ran: if the tests cannot run, CourseError gives the cause.

`progress` does the same with a cache: verdicts are stored together with a hash of every file that
they depend on, so an unchanged lesson costs milliseconds and does not import torch.
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
from utils.grader.report import SOLVED, TO_DO, TOO_LONG, WRONG, Case, Verdict, verdict
from utils.grader.root_cause import with_root_causes

STARTUP = 180.0  # seconds to import torch from a cold disk
SHUTDOWN = 2.0  # seconds to end after closing its output
SILENCE = 15.0  # seconds without an event, of the processor, or in which the process sleeps
LONGEST_SILENCE = 4.0  # times as long, for a process that waits for the processor
LOOK = 0.2  # of SILENCE: the time between two looks at whether the process is running
RUNNING = 0.005  # of the processor: a process that gets less is asleep or blocked
TESTS_RAN = (0, 1)  # exit codes of pytest: all passed, some failed
VERSION = 2
ENVIRONMENT = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # nbval takes a second to load
    "PYTEST_ADDOPTS": "",
    "PYTHONOPTIMIZE": "",  # pytest and the tests need assert statements
}

OnExercise = Callable[[str], None]  # called with the id of each exercise when it starts


def ignore(exercise: str) -> None:
    """The callback of a caller who does not want to follow the progress."""


# --- one process ---


class Worker:
    """A process that has imported torch and waits for one job; see utils/grader/worker.py."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self.process = self.start_process()
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read_events, daemon=True).start()

    def start_process(self) -> "subprocess.Popen[bytes]":
        """Start the process; its standard input and output are pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "utils.grader.worker"],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    def _read_events(self) -> None:
        for line in self.process.stdout or ():
            self.events.put(json.loads(line))
        self.events.put(None)

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        """The next event; None when the process has ended. Raises queue.Empty after `seconds`."""
        return self.events.get(timeout=seconds)

    def processor_seconds(self) -> float:
        """The processor time that the process has used; 0.0 where the system doesn't tell."""
        import psutil  # on demand: stored verdicts are shown without it

        try:
            used = psutil.Process(self.process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return used.user + used.system

    def send_job(self, job: dict[str, Any]) -> None:
        """Send the process its job. Raises CourseError if it could not start."""
        try:
            ready = self.next_event(STARTUP)
        except queue.Empty:
            raise CourseError(
                f"the grader has not started within {STARTUP:.0f} seconds, so this machine is very "
                "busy; try again later"
            ) from None
        if ready is None or self.process.stdin is None:
            raise CourseError(f"the grader could not start: {self.last_error()}")
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def last_error(self) -> str:
        """The last error in the output of the process, or else its last line."""
        self.errors.seek(0)
        text = self.errors.read().decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for mark in ("E  ", "INTERNALERROR>", "ERROR", ""):  # the cause first, then what follows
            found = [line for line in lines if line.startswith(mark)]
            if found:
                return found[-1].removeprefix("E  ").removeprefix("INTERNALERROR>").strip()
        return "no message"

    def end(self, timeout: float = 0.0) -> int:
        """End the process, after `timeout` seconds by force; returns its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
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
    start: Callable[[], Worker] = Worker,
    on_exercise: OnExercise = ignore,
) -> tuple[dict[str, Verdict], bool]:
    """Verdicts by exercise, and whether they may be cached: no process was lost on the way.

    `only` selects exercises; `start` provides a worker, perhaps one that is waiting already.
    """
    chosen = [exercise.id for exercise in lesson.exercises if only is None or exercise.id in only]
    cases: dict[str, list[Case]] = defaultdict(list)
    remaining = chosen
    cacheable = True
    while remaining:
        with start() as worker:
            lost = collect_cases(worker, job_for(lesson, remaining, solutions), cases, on_exercise)
        if lost is None:
            break
        cacheable = False
        add_lost_cases(lost, lesson, remaining, cases)
        remaining = [one for one in remaining if not cases[one]]
    missing = [one for one in chosen if not cases[one]]
    if missing:
        raise CourseError(f"{lesson.name}: no test ran for {', '.join(missing)}")
    verdicts = {one: verdict(one, cases[one]) for one in chosen}
    return verdicts if solutions else with_root_causes(lesson, verdicts), cacheable


def job_for(lesson: Lesson, exercises: list[str], solutions: bool) -> dict[str, Any]:
    """The job of a worker: the tests that judge these exercises."""
    tests = [test for one in exercises for test in lesson.exercise(one).judge]
    arguments = [f"{test_path(lesson)}::{test}" for test in tests]
    return {
        "root": str(lesson.folder.parent),
        "arguments": arguments + ["--solutions"] * solutions,
    }


def test_path(lesson: Lesson) -> str:
    """The lesson's tests relative to the root: pytest splits names at `[` and `::`."""
    return lesson.test_file().relative_to(lesson.folder.parent).as_posix()


@dataclass(frozen=True)
class LostWorker:
    """A process that ended, or stopped answering, before its job was done."""

    exercise: str  # the one that was running
    has_loaded: bool  # whether the learner's file had been loaded
    problem: str
    is_starved: bool = False  # it hardly got the processor, which says nothing about the exercise


def collect_cases(
    worker: Worker,
    job: dict[str, Any],
    cases: dict[str, list[Case]],
    on_exercise: OnExercise = ignore,
) -> LostWorker | None:
    """Add the cases of one worker; returns what happened if it was lost, None if all went well.

    Raises CourseError if a test could not run.
    """
    exercise = ""
    has_loaded = False
    worker.send_job(job)
    while True:
        try:
            event = patient_event(worker) if exercise else worker.next_event(STARTUP)
        except queue.Empty:
            problem = f"no response for {SILENCE:.0f} seconds; {TOO_LONG}"
            return LostWorker(exercise, has_loaded, problem)
        except Starved as error:
            return LostWorker(exercise, has_loaded, str(error), is_starved=True)
        if event is None:
            problem = f"it ended the Python process (exit code {worker.end(SHUTDOWN)})"
            return LostWorker(exercise, has_loaded, problem)
        kind = event.pop("event")
        if kind == "start" and event["exercise"] != exercise:
            exercise = event["exercise"]
            on_exercise(exercise)
        elif kind == "loaded":
            has_loaded = True
        elif kind == "case":
            cases[event["exercise"]].append(case_from(event))
        elif kind == "error" and event["phase"] == "teardown":  # the tests have run: a side effect
            problem = f"it leaves Python in a state that breaks other tests: {event['message']}"
            return LostWorker(exercise, has_loaded, problem)
        elif kind == "error":
            raise CourseError(f"the tests could not run: {event['message']}")
        elif kind == "end" and event["code"] not in TESTS_RAN:
            raise CourseError(f"the tests could not run: {worker.last_error()}")
        elif kind == "end":
            return None


class Starved(Exception):  # noqa: N818 - no verdict, and no error of the learner
    """A process was running, but so slowly that nothing can be said about it."""


def patient_event(worker: Worker) -> dict[str, Any] | None:
    """The next event of a process; None when it has ended.

    Raises queue.Empty if it has computed for SILENCE seconds without an event, or sleeps; Starved
    if it has waited for the processor most of the time.
    """
    start = before = worker.processor_seconds()
    look = LOOK * SILENCE
    waited, wait = 0.0, SILENCE - look
    while True:
        with contextlib.suppress(queue.Empty):
            return worker.next_event(wait)
        waited, wait = waited + wait, look
        now = worker.processor_seconds()
        if waited >= SILENCE and (now - start >= SILENCE or now - before < RUNNING * look):
            raise queue.Empty
        if waited >= LONGEST_SILENCE * SILENCE:
            raise Starved(
                f"no response for {waited:.0f} seconds, in {now - start:.0f} of which it had the "
                "processor: the machine is too busy; check again when it has less to do"
            )
        before = now


def add_lost_cases(
    lost: LostWorker, lesson: Lesson, remaining: list[str], cases: dict[str, list[Case]]
) -> None:
    """Mark as wrong the exercise that was running; all, if the file was still being loaded."""
    if lost.has_loaded:
        cases[lost.exercise].append(Case(lost.exercise, WRONG, message=lost.problem))
        return
    message = f"{lesson.file.name} does not finish loading: {lost.problem}"
    for one in remaining:
        cases[one].append(Case(one, WRONG, message=message, broken_file=True))


def case_from(event: dict[str, Any]) -> Case:
    """The case that a worker reported, its sets restored."""
    explained = event["explained_by"]
    sets = {
        "explained_by": None if explained is None else frozenset(explained),
        "resembles": frozenset(event["resembles"]),
        "refuted": frozenset(event["refuted"]),
    }
    return Case(**{**event, **sets})


# --- the cache ---


def state_file(root: Path = ROOT) -> Path:
    """The file that stores verdicts and hints; git ignores it."""
    return root / ".progress" / "state.json"


def read_state(root: Path = ROOT) -> dict[str, Any]:
    """The stored state; an empty one if there is none or it is damaged."""
    empty: dict[str, Any] = {"version": VERSION, "lessons": {}, "hints": {}}
    try:
        state = json.loads(state_file(root).read_text(encoding="utf-8"))
        valid = state["version"] == VERSION
        valid = valid and isinstance(state["lessons"], dict) and isinstance(state["hints"], dict)
        return state if valid else empty
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return empty


def write_state(state: dict[str, Any], root: Path = ROOT) -> None:
    """Store the state atomically. Raises OSError (a read-only folder, a full disk)."""
    path = state_file(root)
    path.parent.mkdir(exist_ok=True)
    atomic_write_text(path, json.dumps(state, indent=1))


def content_key(lesson: Lesson) -> str:
    """A hash of everything that the verdicts of a lesson depend on."""
    root = lesson.folder.parent
    digest = hashlib.sha256(sys.version.encode())
    for path in [root / "conftest.py", root / "requirements.txt", *source_files(lesson)]:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() if path.is_file() else b"missing")
    return digest.hexdigest()


def source_files(lesson: Lesson) -> list[Path]:
    """The exercises and their tests, utils, and the modules of this lesson and lower ones."""
    root = lesson.folder.parent
    lessons = [one for one in root.glob("[0-9][0-9]_*") if one.name <= lesson.name]
    folders = [*lessons, lesson.folder / "tests", root / "utils", root / "utils" / "grader"]
    found = [path for folder in folders for path in folder.glob("*.py")]
    found += (lesson.folder / "exercises").glob("exercises.*")
    return sorted(path for path in found if not path.name.startswith("."))


def progress(
    lesson: Lesson,
    start: Callable[[], Worker] = Worker,
    on_exercise: OnExercise = ignore,
) -> dict[str, Verdict]:
    """The current verdicts of a lesson; it is judged only if something has changed."""
    root = lesson.folder.parent
    key = content_key(lesson)
    cached = cached_verdicts(read_state(root)["lessons"].get(lesson.name), key, lesson)
    if cached is not None:
        return cached
    verdicts, cacheable = judge(lesson, start=start, on_exercise=on_exercise)
    if cacheable and key == content_key(lesson):  # no file was saved in the meantime
        entry = {"key": key, "verdicts": {one: asdict(found) for one, found in verdicts.items()}}
        state = read_state(root)
        state["lessons"][lesson.name] = entry
        with contextlib.suppress(OSError):  # a read-only folder: judge again next time
            write_state(state, root)
    return verdicts


def cached_verdicts(entry: Any, key: str, lesson: Lesson) -> dict[str, Verdict] | None:
    """The stored verdicts of a lesson; None if its files have changed or the entry is damaged."""
    try:
        if entry["key"] != key:
            return None
        found = {one.id: Verdict(**entry["verdicts"][one.id]) for one in lesson.exercises}
    except (KeyError, TypeError):
        return None
    return found if all(map(is_valid, found.values())) else None


def is_valid(found: Verdict) -> bool:
    """Whether a stored verdict has values of the right types."""
    types = [type(value) for value in asdict(found).values()]
    expected = [type(value) for value in asdict(Verdict("", "")).values()]
    return types == expected and found.outcome in (SOLVED, WRONG, TO_DO)
