"""The first pass: the lesson's tests in one process with the submission, as a learner runs them."""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tools.grading.grades import clean
from tools.grading.sandbox import Sandbox, View
from tools.grading.sandboxed_worker import NEVER, SandboxedWorker
from utils.errors import CourseError
from utils.grader.exercises import Lesson
from utils.grader.report import SOLVED, WRONG, Case, Verdict, verdict
from utils.grader.root_cause import with_root_causes
from utils.grader.runner import LostWorker, Worker, add_lost_cases, collect_cases, job_for


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
