"""Grades in the forms that others read: Gradescope, Classroom 50, CSV, a table on the terminal.

The fields of Gradescope's results.json are documented at
https://gradescope-autograders.readthedocs.io/en/latest/specs/, those of Classroom 50's result.json
in its wiki (Advanced Autograding) and in schemas/result-v1.schema.json of foundation50/classroom50.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tools.grading.grades import Grade, Graded
from utils.errors import UsageError
from utils.grader.exercises import Exercise, Lesson
from utils.grader.report import SOLVED, TO_DO, WIDTH, WRONG, message_lines, wrap

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a spreadsheet recognizes a formula
CLASSROOM50 = {  # field: the variable in which Classroom 50's runner gives it
    "classroom": "CLASSROOM",
    "assignment": "ASSIGNMENT",
    "assignment_type": "ASSIGNMENT_TYPE",
    "owner": "OWNER",
    "submission": "SUBMISSION_TAG",
    "commit": "COMMIT_URL",
    "release": "RELEASE_URL",
    "review": "REVIEW_URL",
}
INSTEAD = {"owner": "USERNAME", "review": "COMMIT_URL"}


def exercises_of(course: Sequence[Lesson]) -> list[Exercise]:
    return [exercise for lesson in course for exercise in lesson.exercises]


def points(grade: Grade) -> int:
    return int(grade.verdict.outcome == SOLVED)


def grade_of(graded: Graded, exercise: Exercise) -> Grade:
    """The grade of one exercise."""
    return graded.grades[exercise.id]


def total(graded: Graded) -> int:
    return sum(map(points, graded.grades.values()))


def solved_in(graded: Graded, lesson: Lesson) -> int:
    return sum(points(grade_of(graded, one)) for one in lesson.exercises)


def text_of(grade: Grade) -> str:
    """What a student reads about one exercise."""
    if grade.verdict.outcome == WRONG:
        return "\n".join(message_lines(grade.verdict))
    return "still to do" if grade.verdict.outcome == TO_DO else "solved"


# --- Gradescope ---


def gradescope(graded: Graded, course: Sequence[Lesson]) -> dict[str, Any]:
    """results.json of one submission: a test per exercise, a point each."""
    tests = [
        {
            "name": f"{exercise.id} {exercise.title}",
            "number": exercise.id,
            "score": points(grade_of(graded, exercise)),
            "max_score": 1,
            "status": "passed" if points(grade_of(graded, exercise)) else "failed",
            "output": text_of(grade_of(graded, exercise)),
            "output_format": "text",
            "tags": [lesson.name],
            "visibility": "visible",
        }
        for lesson in course
        for exercise in lesson.exercises
    ]
    return {
        "execution_time": round(graded.seconds),
        "output": "\n".join(graded.problems) or f"{total(graded)} of {len(tests)} solved",
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


# --- Classroom 50 ---


def classroom50(
    graded: Graded, course: Sequence[Lesson], environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """result.json of one submission. Raises UsageError if the runner's variables are missing."""
    known: dict[str, str] = {}
    for name, variable in CLASSROOM50.items():
        value = environment.get(variable) or environment.get(INSTEAD.get(name, ""), "")
        if not value and name == "assignment_type":
            value = "individual"
        if not value:
            raise UsageError(
                f"{variable} is not set; Classroom 50's runner sets it, so run this from its "
                "autograder.py (00_setup/for_instructors.md)"
            )
        known[name] = value
    tests = [
        {
            "test-name": f"{exercise.id} {exercise.title}",
            "passed": bool(points(grade_of(graded, exercise))),
            "score": points(grade_of(graded, exercise)),
            "max-score": 1,
            "output": text_of(grade_of(graded, exercise)),
        }
        for exercise in exercises_of(course)
    ]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "schema": "classroom50/result/v1",
        **known,
        "datetime": now,  # the runner replaces it by the moment of the commit
        "graded_at": now,
        "score": total(graded),
        "max-score": len(tests),
        "tests": tests,
    }


# --- a class ---


@dataclass(frozen=True)
class Misconception:
    """A diagnosis, and who it was made for."""

    exercise: str
    diagnosis: str
    students: tuple[str, ...]


def misconceptions(graded: Sequence[Graded]) -> list[Misconception]:
    """The diagnoses of a class, the most frequent first."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in graded:
        for exercise, grade in one.grades.items():
            verdict = grade.verdict
            for text in filter(None, (verdict.diagnosis, verdict.second_mistake)):
                found.setdefault((exercise, text), []).append(one.name)
    made = [Misconception(*key, tuple(students)) for key, students in found.items()]
    return sorted(made, key=lambda one: -len(one.students))


def cell(value: object) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def as_csv(rows: Sequence[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[cell(one) for one in row] for row in rows])
    return text.getvalue()


def grades_csv(graded: Sequence[Graded], course: Sequence[Lesson]) -> str:
    """Students x exercises: 1 solved, 0 wrong, empty for to do; then what to look at."""
    exercises = exercises_of(course)
    shown = {SOLVED: "1", WRONG: "0", TO_DO: ""}
    rows: list[list[object]] = [
        ["student", *(one.id for one in exercises), "solved", "of", "look at"]
    ]
    for one in graded:
        outcomes = [shown[grade_of(one, each).verdict.outcome] for each in exercises]
        rows.append([one.name, *outcomes, total(one), len(exercises), "; ".join(one.problems)])
    return as_csv(rows)


def misconceptions_csv(graded: Sequence[Graded]) -> str:
    """The misconceptions of the class, the most frequent first."""
    rows: list[list[object]] = [["exercise", "misconception", "students", "names"]]
    for one in misconceptions(graded):
        rows.append([one.exercise, one.diagnosis, len(one.students), ", ".join(one.students)])
    return as_csv(rows)


def table(graded: Sequence[Graded], course: Sequence[Lesson]) -> list[str]:
    """A line per student: what is solved in each lesson, and what the instructor should look at."""
    name_width = min(24, max([7, *(len(one.name) for one in graded)]))
    heads = [lesson.name[:2] for lesson in course]
    lines = ["  ".join(["student".ljust(name_width), *(one.rjust(5) for one in heads), "total"])]
    for one in graded:
        cells = [f"{solved_in(one, lesson)}/{len(lesson.exercises)}" for lesson in course]
        start = "  ".join([one.name[:name_width].ljust(name_width), *(c.rjust(5) for c in cells)])
        lines.append(f"{start}  {total(one):>5}")
    common = misconceptions(graded)[:5]
    if common:
        lines += ["", "The commonest misconceptions:"]
        for each in common:
            lines += wrap(f"{len(each.students):>3} x {each.exercise}: {each.diagnosis}", "  ", 6)
    problems = [(one.name, problem) for one in graded for problem in one.problems]
    if problems:
        lines += ["", "To look at:"]
        for name, problem in problems:
            lines += wrap(f"{name}: {problem}", "  ", 2)
    unconfirmed = [each.id for each in exercises_of(course) if is_unconfirmed(graded, each)]
    if unconfirmed:
        lines += [
            "",
            *wrap(f"Judged only in one process with the answer: {', '.join(unconfirmed)}"),
        ]
    return [line[:WIDTH] if len(course) <= 6 else line for line in lines]


def is_unconfirmed(graded: Sequence[Graded], exercise: Exercise) -> bool:
    """Whether an exercise counts as solved for someone without having been asked from outside."""
    grades = [one.grades[exercise.id] for one in graded]
    return any(points(grade) and not grade.confirmed for grade in grades)


def counts(graded: Sequence[Graded], exercise: Exercise) -> Counter[str]:
    """How many students have solved an exercise, have it wrong, or have not begun."""
    return Counter(one.grades[exercise.id].verdict.outcome for one in graded)
