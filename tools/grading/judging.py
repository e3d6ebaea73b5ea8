"""Judge submissions: the engine's own tests in a sandbox, then the same questions from outside.

1. The lesson's tests run on the submission in one process, as they do for a learner. That gives the
   messages and the diagnoses. But the submission's code shares that process with the tests, so it
   can forge what it likes there (first_pass.py).
2. So what claims to be solved is asked again. Tests and expected values are in a process that runs
   no code of the submission; that code is in a sandbox, and only returns values
   (tools/grading/audit.py). An answer that is not confirmed does not count.

Not every test can be asked from outside: some look at files that a function writes, or hand it
functions. Which ones can is found by trying it on the solutions. An exercise without any such test
is solved "unconfirmed".
"""

import contextlib
import os
import queue
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.grading.first_pass import judge_in_sandbox
from tools.grading.grades import Grade, Graded, clean_text
from tools.grading.sandbox import (
    Sandbox,
    View,
    bubblewrap_works,
    first_user,
    is_root,
    user_works,
)
from tools.grading.scrubbed import copy_for_answers, copy_for_tests
from tools.grading.second_pass import Auditor, Prepared, confirm, tests_of
from tools.grading.submissions import Submission
from utils.errors import CourseError
from utils.grader.exercises import Lesson
from utils.grader.report import TO_DO, Verdict

SECONDS_PER_EXERCISE = 20.0  # of the time limit of a lesson
LEAST_SECONDS = 120.0


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
                    answers = (file, copy)
                    auditor = self.auditors[slot]
                    return confirm(prepared, verdicts, auditor, answers, self.seeds)
        finally:
            file.unlink(missing_ok=True)

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
        own = self.folder / f"slot-{slot}-{secrets.token_hex(4)}"
        shutil.copytree(copy, own)
        shutil.copyfile(file, own / self.place(lesson))
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)
