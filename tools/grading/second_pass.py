"""The second pass: what claims to be solved is asked from outside (tools/grading/audit.py)."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.grading.grades import Grade, withheld
from tools.grading.sandbox import Sandbox
from tools.grading.sandboxed_worker import NEVER
from utils.grader.exercises import ROOT, Lesson
from utils.grader.report import SOLVED, WRONG, Verdict
from utils.grader.runner import ENVIRONMENT, Worker, job_for

AUDIT_SILENCE = 120.0  # seconds for one test of the audit; each answer has its own, shorter limit
UNCONFIRMED = "not confirmed: it passes the tests in its own process, but asked from outside, its "


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


@dataclass(frozen=True)
class Prepared:
    """What grading a lesson needs: two scrubbed copies, and which tests can be asked."""

    lesson: Lesson
    for_tests: Path
    for_answers: Path
    askable: frozenset[str]  # pytest ids


def askable(prepared: Prepared, exercises: Iterable[str]) -> dict[str, list[str]]:
    """The tests of these exercises that can be asked from outside."""
    functions = {one: set(tests_of(prepared.lesson, [one])) for one in exercises}
    return {
        one: sorted(test for test in prepared.askable if function_of(test) in tests)
        for one, tests in functions.items()
    }


def confirm(
    prepared: Prepared,
    verdicts: dict[str, Verdict],
    auditor: Auditor,
    answers: tuple[Path, Path],
    seeds: Sequence[int],
) -> dict[str, Grade]:
    """The grades: what claims to be solved is asked from outside, twice if need be.

    `answers` are the submission's file and the copy of the course that it is asked in.
    """
    lesson = prepared.lesson
    claimed = [one for one, found in verdicts.items() if found.outcome == SOLVED]
    wanted = askable(prepared, claimed)
    missing = {test for tests in wanted.values() for test in tests}
    for seed in seeds:  # a statistical test may fail once, by chance
        if missing:
            missing -= auditor.passed(lesson, sorted(missing), *answers, seed)
    grades = {one: Grade(found) for one, found in verdicts.items()}
    for one in claimed:
        failed = [test for test in wanted[one] if test in missing]
        grades[one] = Grade(verdicts[one], len(wanted[one]) - len(failed))
        if failed:
            name = function_of(failed[0]).rpartition("::")[2].removeprefix("test_")
            answers_of = UNCONFIRMED + f"answers are not right ({name.replace('_', ' ')})"
            checks = verdicts[one].checks
            found = Verdict(one, WRONG, message=answers_of, failed=len(failed), checks=checks)
            grades[one] = Grade(found, len(wanted[one]) - len(failed), disputed=True)
    return withheld(grades) if any(each.disputed for each in grades.values()) else grades
