"""Judge a file of invented answers: how many of the wrong ones are rejected, named and explained?

    python tools/try_answers.py answers.py
    python tools/try_answers.py answers.py --lesson 01_attention --json > verdicts.json

The file is Python text in sections. Each begins with a line that says what to expect, and holds a
complete answer: the function or class of the exercise, with its helpers and imports.

    # wrong 1.1: divides by the sum along the wrong axis
    def softmax(x, dim=-1):
        ...

    # right 1.1: exponentials in float64, cast back
    def softmax(x, dim=-1):
        ...

Each answer is judged by the lesson's tests in a temporary copy, where every other exercise holds
its solution; your own exercises.py is never touched. Write the answers without reading the lesson's
misconceptions, and don't tune the lesson to them after the first count.

A wrong answer is *named* if a misconception is named, firmly or as "First of all, this looks like";
it is *actionable* if it is named, or if its message gives more than values that differ: a shape,
dtype or device, None, an error with its line, a changed input, a missing gradient, nan, a number of
results, or what to do. Where the machine is so busy that a process hardly gets the processor, an
answer is judged again at the end, alone; if that doesn't help it has no verdict, and isn't counted.
Exit code 1 if a wrong answer passes, a right one is refused, or one has no verdict.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import contextlib
import json
import queue
import re
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from utils.command_line import OneLineParser
from utils.errors import CourseError, UsageError, pick
from utils.grader.definitions import last_binding, parse
from utils.grader.exercises import ROOT, Lesson, find_exercise, lessons
from utils.grader.learner_code import lines_of
from utils.grader.report import SOLVED, Case, Verdict, verdict, wrap
from utils.grader.runner import Worker, add_lost_cases, collect_cases, job_for
from utils.grader.stubs import add_definition

WORKERS = 2  # each keeps a core busy, and holds torch in memory
JOBS = 40  # of one process; then a fresh one follows, whatever the answers did to it
HEADER = re.compile(r"#\s*(wrong|right)\s+(\d+\.\d+)\s*:\s*(.+)")
IMPORTS = """import math
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
"""
ONLY_VALUES = re.compile(
    r"the first difference( at \[[\d, ]*\])?: got (?!nan)"  # tensors and arrays
    r"|: got (?!nan).*; expected "  # numbers, strings and other values
    r"|of \d+ values correct in "  # a prediction
    r"|: .* is wrong$"  # a choice
)
NOTE = re.compile(r"\nNote: (?!only (row|column) )")  # which row differs does not say why


@dataclass(frozen=True)
class Answer:
    """An invented answer, and whether it is right."""

    exercise: str
    is_right: bool
    label: str
    code: str
    line: int  # of its header


@dataclass(frozen=True)
class Judged:
    """An answer and the verdict on it."""

    answer: Answer
    found: Verdict
    has_verdict: bool = True  # False: the machine was too busy to tell right from wrong

    @property
    def passed(self) -> bool:
        return self.found.outcome == SOLVED

    @property
    def is_named(self) -> bool:
        return not self.passed and bool(self.found.diagnosis)

    @property
    def is_actionable(self) -> bool:
        return not self.passed and (self.is_named or tells_more_than_values(self.found))


def main(root: Path = ROOT) -> int:
    """Judge the answers of a file and print the counts; 1 if one is judged wrongly."""
    parser = OneLineParser(description="Judge a file of invented answers.")
    parser.add_argument("file", help="Python text in sections: # wrong 1.1: label, # right 1.1: …")
    parser.add_argument("--lesson", default="", help="default: the lesson of the first answer")
    parser.add_argument("--json", action="store_true", help="print every verdict as JSON")
    parser.add_argument("--diagnoses", action="store_true", help="list every diagnosis, to check")
    options = parser.parse_args()
    answers = read_answers(Path(options.file))
    lesson = pick_lesson(options.lesson, answers, root)
    judged = judge_all(lesson, answers)
    if options.json:
        print(json.dumps([as_json(one) for one in judged], indent=1))
    else:
        print("\n".join([*table(judged), *lists(judged)]))
        print("\n".join(diagnoses(judged) if options.diagnoses else ()))
    return int(any(not one.has_verdict or one.passed != one.answer.is_right for one in judged))


# --- the file of answers ---


def read_answers(path: Path) -> list[Answer]:
    """The answers of a file. Raises CourseError if it has none or text before the first."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is not UTF-8 text: {error.reason}") from None
    headers = [(at, found) for at, line in enumerate(lines) if (found := HEADER.match(line))]
    if not headers:
        raise CourseError(f"{path} has no answers; each begins with a line '# wrong 1.1: label'")
    ends = [at for at, _ in headers[1:]] + [len(lines)]
    first = headers[0][0]
    if any(line.strip() and not line.startswith("#") for line in lines[:first]):
        raise CourseError(f"{path}: code before the first '# wrong 1.1: label' on line {first + 1}")
    return [
        Answer(
            exercise=found[2],
            is_right=found[1] == "right",
            label=found[3].strip(),
            code="\n".join(lines[at + 1 : end]).strip("\n") + "\n",
            line=at + 1,
        )
        for (at, found), end in zip(headers, ends, strict=True)
    ]


def pick_lesson(name: str, answers: Sequence[Answer], root: Path) -> Lesson:
    """The lesson that all the answers belong to. Raises UsageError."""
    course = lessons(root)
    if name:
        pick(name.rstrip("/\\"), [lesson.name for lesson in course], "lesson")
        lesson = next(one for one in course if one.name == name.rstrip("/\\"))
    else:
        lesson, _ = find_exercise(answers[0].exercise, course)
    for answer in answers:
        check_answer(answer, lesson)
    return lesson


def check_answer(answer: Answer, lesson: Lesson) -> None:
    """Raise UsageError unless an answer defines what its exercise asks for."""
    known = [exercise.id for exercise in lesson.exercises]
    where = f"line {answer.line}"
    if answer.exercise not in known:
        problem = f"{lesson.name} has no exercise {answer.exercise}"
        raise UsageError(f"{where}: {problem}; choose one of: {', '.join(known)}")
    tree = parse(answer.code)  # None for a syntax error, which is a wrong answer like others
    for name in lesson.exercise(answer.exercise).names if tree else ():
        if tree and last_binding(tree, name) is None:
            raise UsageError(f"{where}: the answer to {answer.exercise} does not define {name}")


# --- judging ---


class Judge:
    """Judges one answer after the other in a copy of the lesson, with a process kept warm."""

    def __init__(self, lesson: Lesson, folder: Path) -> None:
        self.lesson = copy_lesson(lesson, folder)
        self.solutions = self.lesson.solutions.read_text(encoding="utf-8-sig")
        self.worker = Worker()
        self.jobs = 0
        self.lock = threading.Lock()  # close() is called by another thread
        self.is_closed = False

    def judge(self, answer: Answer) -> Judged:
        """The verdict on an answer; an unexpected one is confirmed by a fresh process."""
        judged = self.judge_once(answer)
        if judged.has_verdict and judged.passed != answer.is_right and self.jobs > 1:
            self.restart()
            judged = self.judge_once(answer)
        return judged

    def judge_once(self, answer: Answer) -> Judged:
        if self.jobs >= JOBS or self.worker.process.poll() is not None:
            self.restart()
        self.jobs += 1
        exercise = self.lesson.exercise(answer.exercise)
        self.lesson.file.write_text(with_answer(self.solutions, answer.code), encoding="utf-8")
        cases: dict[str, list[Case]] = defaultdict(list)
        lost = collect_cases(self.worker, job_for(self.lesson, [exercise.id], False), cases)
        if lost is not None:
            add_lost_cases(lost, self.lesson, [exercise.id], cases)
            self.restart()
        found = verdict(exercise.id, cases[exercise.id])
        return Judged(answer, found, has_verdict=lost is None or not lost.is_starved)

    def restart(self) -> None:
        """End the process and start the next. Raises Stopped after close()."""
        with self.lock:
            if self.is_closed:
                raise Stopped
            self.worker.end()
            self.worker = Worker()
            self.jobs = 0

    def close(self) -> None:
        """End the process, even in the middle of a job."""
        with self.lock:
            self.is_closed = True
            self.worker.end()


class Stopped(Exception):  # noqa: N818 - not an error
    """The program is ending: no other process may start."""


def copy_lesson(lesson: Lesson, root: Path) -> Lesson:
    """A copy of a lesson below another root, with what its tests need around it."""
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs", "checkpoints")
    shutil.copytree(lesson.folder, root / lesson.name, ignore=ignored)
    for name in ("conftest.py", "pyproject.toml"):
        path = lesson.folder.parent / name
        if path.is_file():
            shutil.copy(path, root / name)
    return Lesson(root / lesson.name, lesson.exercises)


def with_answer(solutions: str, code: str) -> str:
    """The solutions, followed by an answer: of two functions of one name, the later one counts."""
    return IMPORTS + add_definition(lines_of(solutions), code)


def judge_all(lesson: Lesson, answers: Sequence[Answer]) -> list[Judged]:
    """Judge all the answers, a few at a time; a terminal shows the progress.

    Those without a verdict are judged again when the others are done, one at a time.
    """
    with tempfile.TemporaryDirectory() as folder, judges(lesson, Path(folder)) as free:

        def judge(answer: Answer) -> Judged:
            one = free.get()
            try:
                return one.judge(answer)
            finally:
                free.put(one)

        with in_threads(WORKERS) as pool:
            found = pool.map(judge, answers)
            judged = [*tqdm(found, "judging", len(answers), leave=False, disable=None)]
        return [one if one.has_verdict else judge(one.answer) for one in judged]


@contextlib.contextmanager
def judges(lesson: Lesson, folder: Path) -> Iterator["queue.Queue[Judge]"]:
    """The judges that are free; their processes end with the block."""
    free: queue.Queue[Judge] = queue.Queue()
    made: list[Judge] = []
    try:
        for number in range(WORKERS):
            made.append(Judge(lesson, folder / str(number)))
            free.put(made[-1])
        yield free
    finally:
        for one in made:
            one.close()


@contextlib.contextmanager
def in_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads; after an error or Ctrl-C it does not start what is still waiting."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


# --- what a message tells ---


def tells_more_than_values(found: Verdict) -> bool:
    """Whether a message gives more than values that differ."""
    return (
        bool(found.hint_for)
        or bool(NOTE.search(found.message))
        or not (
            ONLY_VALUES.search(problem_of(found)) and "the values are right" not in found.message
        )
    )


def problem_of(found: Verdict) -> str:
    """The line of a message that says what is wrong: the call and the rows of values left out."""
    lines = [line for line in found.message.splitlines() if not line.startswith("    ")]
    is_call = len(lines) > 1 and re.match(r"[\w.]+\(.*\)$", lines[0])
    return lines[1] if is_call else lines[0] if lines else ""


# --- the table and the lists ---

COLUMNS = ("exercise", "wrong", "rejected", "named", "weakly", "actionable", "right", "accepted")


def table(judged: Sequence[Judged]) -> list[str]:
    """A line per exercise, one for all, and the shares; only of the answers with a verdict."""
    judged = [one for one in judged if one.has_verdict]
    ids = sorted({one.answer.exercise for one in judged}, key=lambda one: int(one.split(".")[1]))
    rows = [
        (one, counts_of([each for each in judged if each.answer.exercise == one])) for one in ids
    ]
    total = counts_of(judged)
    lines = ["  ".join(COLUMNS)]
    lines += [row(name, counted) for name, counted in [*rows, ("all", total)]]
    wrong, rejected, named, weakly, actionable, right, accepted = total
    shares = [("rejected", rejected), ("named", named), ("named or actionable", actionable)]
    said = ", ".join(f"{share(count, wrong)} {name}" for name, count in shares)
    lines += ["", f"wrong answers: {said}", f"right answers: {share(accepted, right)} accepted"]
    lines += [f"({weakly} of the {named} are named as 'First of all, this looks like')"]
    return lines


def counts_of(judged: Iterable[Judged]) -> tuple[int, ...]:
    """The numbers of a row, in the order of the columns."""
    judged = list(judged)
    wrong = [one for one in judged if not one.answer.is_right]
    right = [one for one in judged if one.answer.is_right]
    named = [one for one in wrong if one.is_named]
    return (
        len(wrong),
        sum(not one.passed for one in wrong),
        len(named),
        sum(not one.found.is_certain for one in named),
        sum(one.is_actionable for one in wrong),
        len(right),
        sum(one.passed for one in right),
    )


def row(name: str, counted: Sequence[int]) -> str:
    cells = [
        str(count).rjust(len(title)) for count, title in zip(counted, COLUMNS[1:], strict=True)
    ]
    return "  ".join([name.ljust(len(COLUMNS[0])), *cells])


def share(count: int, total: int) -> str:
    """ "98.2%"; "none" of none."""
    return f"{100 * count / total:.1f}%" if total else "none"


def lists(judged: Sequence[Judged]) -> list[str]:
    """The answers that need a look: passed or refused by mistake, and those without a help."""
    unknown = [one for one in judged if not one.has_verdict]
    judged = [one for one in judged if one.has_verdict]
    wrong = [one for one in judged if not one.answer.is_right]
    unhelped = [one for one in wrong if not one.passed and not one.is_actionable]
    refused = [one for one in judged if one.answer.is_right and not one.passed]
    return [
        *listed("Wrong answers that passed", [one for one in wrong if one.passed], lambda one: ""),
        *listed("Right answers that were refused", refused, lambda one: one.found.message),
        *listed("Neither named nor actionable", unhelped, lambda one: problem_of(one.found)),
        *listed("No verdict: the machine was too busy; run again", unknown, lambda one: ""),
    ]


def diagnoses(judged: Sequence[Judged]) -> list[str]:
    """Every diagnosis below the label of its answer, so that a false one can be seen."""
    named = [one for one in judged if one.is_named]
    return listed("Diagnoses", named, lambda one: diagnosis_of(one.found))


def diagnosis_of(found: Verdict) -> str:
    """The diagnosis in one line, of both mistakes if there are two."""
    second = f"; and: {found.second_mistake}" if found.second_mistake else ""
    return found.diagnosis + second


def listed(title: str, judged: Sequence[Judged], text: Callable[[Judged], str]) -> list[str]:
    """A title and the answers below it, each with its line, its label and a text."""
    if not judged:
        return []
    lines = ["", f"{title}:"]
    for one in judged:
        answer = one.answer
        lines += wrap(f"{answer.exercise} {answer.label} (line {answer.line})", indent="  ")
        lines += wrap(text(one), indent="      ")
    return lines


def as_json(one: Judged) -> dict[str, object]:
    """An answer and its verdict, without its code."""
    answer = {name: value for name, value in asdict(one.answer).items() if name != "code"}
    marks = {"passed": one.passed, "named": one.is_named, "actionable": one.is_actionable}
    marks["has_verdict"] = one.has_verdict
    return {**answer, **marks, "verdict": asdict(one.found)}


if __name__ == "__main__":
    run_program(main)
