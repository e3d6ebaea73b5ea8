"""Judge submissions: the engine's own tests in a sandbox, then the same questions from outside.

1. The lesson's tests run on the submission in one process, as they do for a learner. That gives the
   messages and the diagnoses. But the submission's code shares that process with the tests, so it
   can forge what it likes there.
2. So what claims to be solved is asked again. Tests and expected values are in a process that runs
   no code of the submission; that code is in a sandbox, and only returns values
   (tools/grading/audit.py). An answer that is not confirmed does not count.

Not every test can be asked from outside: some look at files that a function writes, or hand it
functions. Which ones can is found by trying it on the solutions. An exercise without any such test
is solved "unconfirmed".
"""

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tools.grading.sandbox import (
    MB,
    Sandbox,
    View,
    Watch,
    bubblewrap_works,
    first_user,
    is_root,
    patience,
    user_works,
)
from tools.grading.scrubbed import copy_for_answers, copy_for_tests
from tools.grading.submissions import Submission
from utils.errors import CourseError
from utils.grader.exercises import ROOT, Lesson
from utils.grader.report import SOLVED, TO_DO, WRONG, Case, Verdict, printable, verdict
from utils.grader.root_cause import with_root_causes
from utils.grader.runner import (
    ENVIRONMENT,
    LostWorker,
    Worker,
    add_lost_cases,
    collect_cases,
    job_for,
)

NEVER = threading.Event()
LONGEST_EVENT = 256 * 1024  # bytes
MOST_EVENT_BYTES = 32 * MB  # of one process
AUDIT_SILENCE = 120.0  # seconds for one test of the audit; each answer has its own, shorter limit
SECONDS_PER_EXERCISE = 20.0  # of the time limit of a lesson
LEAST_SECONDS = 120.0
LONGEST_TEXT = 4000  # characters of a message
WITHHELD = (
    "not confirmed: it can only be judged in its own process, and other answers of this file were "
    "not the same there as from outside"
)
UNCONFIRMED = "not confirmed: it passes the tests in its own process, but asked from outside, its "


@dataclass(frozen=True)
class Grade:
    """The verdict on one exercise of one submission."""

    verdict: Verdict
    confirmed: int = 0  # tests that passed when asked from outside
    disputed: bool = False  # claimed to be solved, and not confirmed


@dataclass
class Graded:
    """A submission and its grades by exercise; `problems` are for the instructor."""

    name: str
    grades: dict[str, Grade] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


# --- the first pass: the tests in one process with the submission ---


class SandboxedWorker(Worker):
    """A worker whose process may be hostile: what it sends is limited and checked."""

    def __init__(
        self, sandbox: Sandbox, view: View, end: float, stopped: threading.Event = NEVER
    ) -> None:
        self.sandbox, self.view, self.deadline, self.stopped = sandbox, view, end, stopped
        self.secret = secrets.token_hex(16)
        self.is_ready = False  # the first event; no job, and no submission, before it
        self.forged = 0
        super().__init__()
        self.watch = Watch(sandbox, self.process)

    def start_process(self) -> "subprocess.Popen[bytes]":
        return self.sandbox.start(
            self.view, "utils.grader.worker", self.errors.fileno(), ENVIRONMENT
        )

    def send_job(self, job: dict[str, Any]) -> None:
        root = self.sandbox.root(self.view)
        super().send_job({**job, "root": str(root), "secret": self.secret})

    def _read_events(self) -> None:
        """Events go into the queue until one is not valid, or there are too many."""
        read = 0
        stream = self.process.stdout
        with contextlib.suppress(OSError, ValueError):
            while stream is not None and (line := stream.readline(LONGEST_EVENT)):
                read += len(line)
                event = self._event(line)
                if event is None or read > MOST_EVENT_BYTES:
                    self.forged += event is None
                    break
                self.events.put(event)
        self.events.put(None)

    def _event(self, line: bytes) -> dict[str, Any] | None:
        """An event of the engine; None for anything else."""
        try:
            event = json.loads(line)
            if event == {"event": "ready"} and not self.is_ready:
                self.is_ready = True
                return event
            if not secrets.compare_digest(str(event.pop("secret", "")), self.secret):
                return None
            return event if is_event(event) else None
        except (ValueError, AttributeError, TypeError, RecursionError):
            return None

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        end = min(self.deadline, time.monotonic() + seconds * patience())
        while not self.stopped.is_set():
            left = end - time.monotonic()
            try:
                return super().next_event(max(0.0, min(1.0, left)))
            except queue.Empty:
                if time.monotonic() >= self.deadline:
                    return None
                if left <= 1.0:
                    raise
        return None

    def end(self, timeout: float = 0.0) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        self.watch.stop()
        self.sandbox.end(self.process)
        return super().end()


TYPES: dict[str, Any] = {  # of the values of a case
    "outcome": str,
    "check": str,
    "message": str,
    "explained_by": list | None,
    "resembles": list,
    "refuted": list,
    "pairs": list,
    "margin": int | float,
    "broken_file": bool,
    "is_replaced": bool,
    "printed": str,
    "wrong_answer": str,
    "own_diagnosis": str,
    "function": str,
    "exercise": str,
}


def is_event(event: dict[str, Any]) -> bool:
    """Whether an event has the form that utils/grader/worker.py gives it."""
    kind = event.get("event")
    values = {name: value for name, value in event.items() if name != "event"}
    if kind == "case":
        lists = [values.get(name) or [] for name in ("explained_by", "resembles", "refuted")]
        pairs = values.get("pairs")
        return (
            values.keys() == TYPES.keys()
            and all(isinstance(values[name], TYPES[name]) for name in TYPES)
            and all(isinstance(text, str) for one in lists for text in one)
            and isinstance(pairs, list)
            and all(is_pair(pair) for pair in pairs)
            and values["outcome"] in (SOLVED, WRONG, TO_DO)
        )
    forms: dict[str, dict[str, Any]] = {
        "start": {"exercise": str},
        "loaded": {},
        "end": {"code": int},
        "ready": {},
        "error": {"phase": str, "message": str},
    }
    form = forms.get(str(kind))
    return (
        form is not None
        and values.keys() == form.keys()
        and all(isinstance(values[name], form[name]) for name in form)
    )


def is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)


def judge_in_sandbox(
    lesson: Lesson,
    learner: Lesson,
    sandbox: Sandbox,
    view: View,
    end: float,
    stopped: threading.Event = NEVER,
) -> dict[str, Verdict]:
    """The verdicts of the first pass. `learner` is the lesson with the submission's file."""
    cases: dict[str, list[Case]] = defaultdict(list)
    chosen = [exercise.id for exercise in lesson.exercises]
    remaining = chosen
    while remaining and time.monotonic() < end and not stopped.is_set():
        with SandboxedWorker(sandbox, view, end, stopped) as worker:
            lost = collect(worker, lesson, remaining, cases)
            lost = with_cause(lost, worker, end)
        if lost is None:
            break
        add_lost_cases(lost, lesson, remaining, cases)
        remaining = [one for one in remaining if not cases[one]]
    for one in chosen:
        if not cases[one]:
            late = time.monotonic() >= end
            why = "the time limit of the lesson is used up" if late else "no test of it has run"
            cases[one].append(Case(one, WRONG, message=f"not judged: {why}"))
    verdicts = {one: clean(verdict(one, known(cases[one], lesson, one))) for one in chosen}
    return with_root_causes(learner, verdicts)


def collect(
    worker: Worker, lesson: Lesson, remaining: list[str], cases: dict[str, list[Case]]
) -> LostWorker | None:
    """The cases of one process; what breaks the tests themselves costs the exercise it was at."""
    at = [remaining[0]]
    started: list[str] = []

    def note(exercise: str) -> None:
        if exercise in remaining:
            at[0] = exercise
            started.append(exercise)

    worker_job = job_for(lesson, remaining, False)
    try:
        lost = collect_cases(worker, worker_job, cases, note)
    except CourseError as error:
        if not started and "could not start" in str(error):
            raise
        return LostWorker(at[0], True, f"it breaks the tests: {error}")
    except (KeyError, TypeError, ValueError) as error:
        return LostWorker(at[0], True, f"it sends what is not a result: {type(error).__name__}")
    if lost is not None and lost.exercise not in remaining:
        return replace(lost, exercise=at[0])
    return lost


def with_cause(lost: LostWorker | None, worker: SandboxedWorker, end: float) -> LostWorker | None:
    """Why a process was ended, if the grader did it."""
    if lost is None:
        return None
    if worker.watch.problem:
        return replace(lost, problem=worker.watch.problem)
    if worker.forged:
        return replace(lost, problem="it writes to the channel of the verdicts")
    if time.monotonic() >= end:
        return replace(lost, problem="the time limit of the lesson is used up")
    return lost


def known(cases: Sequence[Case], lesson: Lesson, exercise: str) -> Sequence[Case]:
    """The cases; fewer than the exercise has tests count as a wrong one."""
    least = len(lesson.exercise(exercise).judge)
    if len(cases) >= least or any(case.outcome != SOLVED for case in cases):
        return cases
    message = f"not judged: {len(cases)} of at least {least} tests have run"
    return [*cases, Case(exercise, WRONG, message=message)]


def clean(found: Verdict) -> Verdict:
    """A verdict whose texts are short, printable and valid UTF-8: they may come from anyone."""
    texts = {
        name: clean_text(value)
        for name, value in vars(found).items()
        if isinstance(value, str) and name not in ("exercise", "outcome")
    }
    return replace(found, **texts)


def clean_text(text: str) -> str:
    """At most LONGEST_TEXT printable characters, in lines."""
    lines = [printable(line) for line in text[:LONGEST_TEXT].splitlines()]
    return "\n".join(lines).encode("utf-8", "replace").decode("utf-8")


# --- the second pass: asked from outside ---


class Auditor:
    """A warm process that asks submissions from outside; it runs none of their code."""

    def __init__(self, sandbox: Sandbox, stopped: threading.Event = NEVER) -> None:
        self.sandbox = sandbox
        self.stopped = stopped
        self.worker: Worker | None = None
        self.failed: dict[str, str] = {}  # why, of all tests that failed

    def passed(
        self, lesson: Lesson, tests: Sequence[str], file: Path, copy: Path, seed: int
    ) -> set[str]:
        """Those of these tests (or of these functions' tests) that pass when asked from outside."""
        if self.stopped.is_set():
            return set()
        if self.worker is None or self.worker.process.poll() is not None:
            self.worker = AuditWorker()
        job = {
            "root": str(lesson.folder.parent),
            "arguments": [*tests],
            "seed": seed,
            "lesson": lesson.name,
            "submission": str(file),
            "copy": str(copy),
            "sandbox": asdict(self.sandbox),
        }
        found: set[str] = set()
        try:
            self.worker.send_job(job)
            while (event := self.worker.next_event(AUDIT_SILENCE)) is not None:
                if event["event"] == "test" and event["passed"]:
                    found.add(event["test"])
                elif event["event"] == "test":
                    self.failed[event["test"]] = event["why"]
                elif event["event"] == "end":
                    return found
        except queue.Empty:
            pass
        self.close()  # it ended or is silent: what has passed until now has passed
        return found

    def close(self) -> None:
        if self.worker is not None:
            self.worker.end()
            self.worker = None


class AuditWorker(Worker):
    """The process behind an Auditor."""

    def start_process(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "tools.grading.audit"],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )


def tests_of(lesson: Lesson, exercises: Iterable[str]) -> list[str]:
    """The pytest ids of these exercises' test functions."""
    return job_for(lesson, [*exercises], False)["arguments"]


def function_of(test: str) -> str:
    """The test function of a test: without its parameters."""
    return test.partition("[")[0]


def withheld(grades: dict[str, Grade]) -> dict[str, Grade]:
    """The grades of a submission with a disputed answer: what cannot be confirmed does not count.

    Whoever forges the verdict on an exercise that is asked again may have forged the others, too.
    """
    return {
        one: Grade(Verdict(one, WRONG, message=WITHHELD), disputed=True)
        if grade.verdict.outcome == SOLVED and not grade.confirmed
        else grade
        for one, grade in grades.items()
    }


# --- all of it ---


@dataclass(frozen=True)
class Prepared:
    """What grading a lesson needs: two scrubbed copies, and which tests can be asked."""

    lesson: Lesson
    for_tests: Path
    for_answers: Path
    askable: frozenset[str]  # pytest ids


class Grader:
    """Judges submissions, a few at a time. Use it in a `with` block."""

    def __init__(self, workers: int = 2, *, audits: bool = True, walls: bool = True) -> None:
        uses_bubblewrap = walls and bubblewrap_works()
        first = first_user()
        if is_root() and not uses_bubblewrap and not user_works(first):
            raise CourseError(
                "bubblewrap does not work here, and submissions would run as root: grade as "
                f"another user, or with a Python that other users can run (not {sys.executable})"
            )
        self.sandboxes = [Sandbox(uses_bubblewrap, first + slot) for slot in range(workers)]
        self.audits = audits and os.name != "nt"
        self.seeds = [secrets.randbelow(2**31) for _ in range(2)]
        self.prepared: dict[str, Prepared] = {}
        self.stopped = threading.Event()
        self.auditors = [Auditor(one, self.stopped) for one in self.sandboxes]
        self.free: queue.Queue[int] = queue.Queue()
        for slot in range(workers):
            self.free.put(slot)

    def __enter__(self) -> "Grader":
        self._folder = tempfile.TemporaryDirectory(prefix="grading-")
        self.folder = Path(self._folder.name)
        if is_root():  # the judged user has to get through
            self.folder.chmod(0o711)
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.auditors:
            one.close()
        with contextlib.suppress(OSError):
            self._folder.cleanup()

    @property
    def weakness(self) -> str:
        """What the sandbox here does not protect from."""
        return self.sandboxes[0].weakness

    def prepare(self, lesson: Lesson) -> Prepared:
        """Make the copies of a lesson, and try on its solutions which tests can be asked."""
        place = self.folder / "course" / lesson.name
        for_tests = copy_for_tests(lesson, place / "tests")
        for_answers = copy_for_answers(lesson, place / "answers")
        askable: set[str] = set()
        if self.audits:
            tests = tests_of(lesson, [one.id for one in lesson.exercises])
            solutions = self.write(lesson.solutions.read_bytes(), f"{lesson.name}-solutions")
            with self.slot() as slot, self.copy(for_answers, solutions, lesson, slot) as copy:
                found = [
                    self.auditors[slot].passed(lesson, tests, solutions, copy, seed)
                    for seed in self.seeds
                ]
            askable = found[0] & found[1]
            if not askable:
                why = next(iter(self.auditors[slot].failed.values()), "no test has run")
                raise CourseError(f"{lesson.name}: even the solutions do not answer: {why}")
        prepared = Prepared(lesson, for_tests, for_answers, frozenset(askable))
        self.prepared[lesson.name] = prepared
        return prepared

    def grade_all(
        self,
        submissions: Sequence[Submission],
        course: Sequence[Lesson],
        on_done: Callable[[str], object] = lambda name: None,
    ) -> list[Graded]:
        """The grades of all submissions in these lessons."""
        graded = {one.name: Graded(one.name, problems=[*one.refused]) for one in submissions}
        jobs = [(one, lesson) for lesson in course for one in submissions]
        with ThreadPoolExecutor(len(self.sandboxes)) as pool:
            try:
                list(pool.map(self.prepare, course))
                for name, lesson, grades, problems, seconds in pool.map(self._job, jobs):
                    ids = [exercise.id for exercise in lesson.exercises]
                    graded[name].grades |= {one: grades[one] for one in ids}
                    graded[name].problems += problems
                    graded[name].seconds += seconds
                    on_done(name)
            except BaseException:  # Ctrl-C, too: what is running ends within a second
                pool.shutdown(wait=False, cancel_futures=True)
                self.stopped.set()
                for one in self.auditors:
                    one.close()
                raise
        return [graded[one.name] for one in submissions]

    def _job(
        self, job: tuple[Submission, Lesson]
    ) -> tuple[str, Lesson, dict[str, Grade], list[str], float]:
        """Grade one lesson of one submission; nothing that it does keeps the others from theirs."""
        submission, lesson = job
        start = time.monotonic()
        problems: list[str] = []
        data = submission.files.get(lesson.name)
        ids = [exercise.id for exercise in lesson.exercises]
        grades = {one: Grade(Verdict(one, TO_DO)) for one in ids}
        if data is not None:
            try:
                grades = self.grade(data, lesson)
            except Exception as error:  # of the grader or the machine, never the student's fault
                problems.append(
                    f"{lesson.name} could not be graded: {clean_text(str(error))[:300]}"
                )
        for one in ids:
            if grades[one].disputed:
                problems.append(f"{one} passes in its own process, but not when asked from outside")
        return submission.name, lesson, grades, problems, time.monotonic() - start

    def grade(self, data: bytes, lesson: Lesson) -> dict[str, Grade]:
        """The grades of one exercises.py."""
        prepared = self.prepared[lesson.name]
        limit = max(LEAST_SECONDS, SECONDS_PER_EXERCISE * len(lesson.exercises))
        file = self.write(data, f"{lesson.name}-{secrets.token_hex(8)}")
        learner = Lesson(file.parents[1], lesson.exercises)
        try:
            with self.slot() as slot:
                sandbox = self.sandboxes[slot]
                with self.copy(prepared.for_tests, file, lesson, slot) as copy:
                    view = View(copy, {self.place(lesson): file})
                    end = time.monotonic() + limit
                    verdicts = judge_in_sandbox(lesson, learner, sandbox, view, end, self.stopped)
                with self.copy(prepared.for_answers, file, lesson, slot) as copy:
                    return self._confirm(prepared, verdicts, file, copy, slot)
        finally:
            file.unlink(missing_ok=True)

    def _confirm(
        self, prepared: Prepared, verdicts: dict[str, Verdict], file: Path, copy: Path, slot: int
    ) -> dict[str, Grade]:
        """The grades: what claims to be solved is asked from outside, twice if need be."""
        lesson = prepared.lesson
        claimed = [one for one, found in verdicts.items() if found.outcome == SOLVED]
        wanted = self.askable(prepared, claimed)
        missing = {test for tests in wanted.values() for test in tests}
        for seed in self.seeds:  # a statistical test may fail once, by chance
            if missing:
                passed = self.auditors[slot].passed(lesson, sorted(missing), file, copy, seed)
                missing -= passed
        grades = {one: Grade(found) for one, found in verdicts.items()}
        for one in claimed:
            failed = [test for test in wanted[one] if test in missing]
            grades[one] = Grade(verdicts[one], len(wanted[one]) - len(failed))
            if failed:
                name = function_of(failed[0]).rpartition("::")[2].removeprefix("test_")
                answers = UNCONFIRMED + f"answers are not right ({name.replace('_', ' ')})"
                checks = verdicts[one].checks
                found = Verdict(one, WRONG, message=answers, failed=len(failed), checks=checks)
                grades[one] = Grade(found, len(wanted[one]) - len(failed), disputed=True)
        return withheld(grades) if any(each.disputed for each in grades.values()) else grades

    def askable(self, prepared: Prepared, exercises: Iterable[str]) -> dict[str, list[str]]:
        """The tests of these exercises that can be asked from outside."""
        functions = {one: set(tests_of(prepared.lesson, [one])) for one in exercises}
        return {
            one: sorted(test for test in prepared.askable if function_of(test) in tests)
            for one, tests in functions.items()
        }

    def place(self, lesson: Lesson) -> str:
        return lesson.file.relative_to(lesson.folder.parent).as_posix()

    def write(self, data: bytes, name: str) -> Path:
        """The bytes as NAME/lesson/exercises/exercises.py in our folder, for everyone to read."""
        file = self.folder / "files" / name / "exercises" / "exercises.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o644)
        return file

    @contextlib.contextmanager
    def slot(self) -> Iterator[int]:
        """The number of a sandbox that is free."""
        number = self.free.get()
        try:
            yield number
        finally:
            self.free.put(number)

    @contextlib.contextmanager
    def copy(self, copy: Path, file: Path, lesson: Lesson, slot: int) -> Iterator[Path]:
        """The copy itself behind walls; else a copy of it with the submission's file in it."""
        if self.sandboxes[slot].uses_bubblewrap:
            yield copy
            return
        import shutil

        own = self.folder / f"slot-{slot}-{secrets.token_hex(4)}"
        shutil.copytree(copy, own)
        shutil.copyfile(file, own / self.place(lesson))
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)
