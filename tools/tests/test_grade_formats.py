"""What tools/grade.py writes: Gradescope, Classroom 50, CSV, the table and the page.

The schemas are written from the documented fields. Gradescope:
https://gradescope-autograders.readthedocs.io/en/latest/specs/ (output format, test case status).
Classroom 50: the wiki page Advanced Autograding, and schemas/result-v1.schema.json, in
foundation50/classroom50.
"""

import csv
import io
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from tools.grading import formats
from tools.grading.class_page import class_page
from tools.grading.grades import Grade, Graded
from utils.errors import UsageError
from utils.grader.exercises import lessons
from utils.grader.report import SOLVED, TO_DO, WRONG, Verdict

COURSE = lessons()[1:2]
IDS = [exercise.id for exercise in COURSE[0].exercises]
MISTAKE = "each sum runs over the whole tensor"
EVIL = "<script>alert(1)</script>=1+1"

VISIBILITY = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
TEXT_FORMAT = {"enum": ["text", "html", "simple_format", "md", "ansi"]}
NUMBER = {"type": "number", "minimum": 0}
GRADESCOPE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tests"],
    "properties": {
        "score": NUMBER,
        "execution_time": NUMBER,
        "output": {"type": "string"},
        "output_format": TEXT_FORMAT,
        "test_output_format": TEXT_FORMAT,
        "test_name_format": TEXT_FORMAT,
        "visibility": VISIBILITY,
        "stdout_visibility": VISIBILITY,
        "extra_data": {"type": "object"},
        "leaderboard": {"type": "array"},
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["score"],
                "properties": {
                    "score": NUMBER,
                    "max_score": NUMBER,
                    "status": {"enum": ["passed", "failed"]},
                    "name": {"type": "string"},
                    "name_format": TEXT_FORMAT,
                    "number": {"type": "string"},
                    "output": {"type": "string"},
                    "output_format": TEXT_FORMAT,
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "visibility": VISIBILITY,
                    "extra_data": {"type": "object"},
                },
            },
        },
    },
}
WORDS = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$"}
STRINGS = ("classroom", "assignment", "owner", "commit", "release", "review")
CLASSROOM50: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        *("schema", "assignment_type", "submission", "datetime", "score", "max-score", "tests"),
        *STRINGS,
    ],
    "properties": {
        "schema": {"const": "classroom50/result/v1"},
        **dict.fromkeys(STRINGS, WORDS),
        "assignment_type": {"enum": ["individual", "group"]},
        "submission": {"type": "string", "pattern": "^submit/"},
        "datetime": MOMENT,
        "graded_at": MOMENT,
        "score": COUNT,
        "max-score": COUNT,
        "submitted_by": {"type": "object"},
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["test-name", "passed", "score", "max-score"],
                "properties": {
                    "test-name": WORDS,
                    "passed": {"type": "boolean"},
                    "score": COUNT,
                    "max-score": COUNT,
                },
            },
        },
    },
}
RUNNER = {
    "CLASSROOM": "deep-learning",
    "ASSIGNMENT": "attention",
    "USERNAME": "ann",
    "SUBMISSION_TAG": "submit/2026-11-30T08-00-00Z-a1b2c3d",
    "COMMIT_URL": "https://example.org/commit/1",
    "RELEASE_URL": "https://example.org/release/1",
}


def graded(name: str, solved: int, diagnosis: str = "", problem: str = "") -> Graded:
    """A student who has solved the first exercises, and has the next one wrong."""
    outcomes = [SOLVED] * solved + [WRONG] + [TO_DO] * len(IDS)
    grades = {one: Grade(Verdict(one, made), 3) for one, made in zip(IDS, outcomes, strict=False)}
    wrong = IDS[solved]
    verdict = Verdict(wrong, WRONG, message=f"got {EVIL}", diagnosis=diagnosis, failed=1, checks=5)
    grades[wrong] = Grade(verdict)
    return Graded(name, grades, [problem] if problem else [], 12.4)


CLASS = [graded("ann", 3, MISTAKE), graded("=bob", 3, MISTAKE), graded("eve", 1, EVIL, EVIL)]


def test_gradescope_gets_the_documented_fields_and_the_points() -> None:
    made = formats.gradescope(CLASS[0], COURSE)
    jsonschema.validate(made, GRADESCOPE)
    assert [one["number"] for one in made["tests"]] == IDS
    assert sum(one["score"] for one in made["tests"]) == 3
    assert all(one["score"] <= one["max_score"] for one in made["tests"])
    assert [one["status"] for one in made["tests"]][:4] == ["passed"] * 3 + ["failed"]
    assert MISTAKE in made["tests"][3]["output"]
    assert "score" not in made  # it would override the sum


def test_a_schema_that_can_fail() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"tests": [{"score": -1}]}, GRADESCOPE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": "classroom50/result/v1"}, CLASSROOM50)


def test_classroom50_gets_the_documented_fields_and_whole_points() -> None:
    made = formats.classroom50(CLASS[0], COURSE, RUNNER)
    jsonschema.validate(made, CLASSROOM50)
    assert (made["score"], made["max-score"]) == (3, len(IDS))
    assert made["score"] == sum(one["score"] for one in made["tests"])
    assert (made["owner"], made["assignment_type"]) == ("ann", "individual")
    assert made["review"] == made["commit"]


@pytest.mark.parametrize("missing", ["CLASSROOM", "SUBMISSION_TAG"])
def test_outside_of_classroom50_the_missing_variable_is_named(missing: str) -> None:
    environment = {name: value for name, value in RUNNER.items() if name != missing}
    with pytest.raises(UsageError, match=f"{missing} is not set"):
        formats.classroom50(CLASS[0], COURSE, environment)


def rows_of(text: str) -> list[list[str]]:
    return [*csv.reader(io.StringIO(text))]


def test_the_table_of_the_class_has_a_row_per_student_and_a_column_per_exercise() -> None:
    head, *rows = rows_of(formats.grades_csv(CLASS, COURSE))
    assert head == ["student", *IDS, "solved", "of", "look at"]
    assert rows[0][1:6] == ["1", "1", "1", "0", ""]
    assert [row[-3] for row in rows] == ["3", "3", "1"]


def test_no_cell_is_a_formula_for_a_spreadsheet() -> None:
    text = formats.grades_csv(CLASS, COURSE) + formats.misconceptions_csv(CLASS)
    assert "'=bob" in text
    assert not any(cell.startswith(("=", "+", "@")) for row in rows_of(text) for cell in row)


def test_misconceptions_are_counted_and_the_most_frequent_comes_first() -> None:
    first, second = formats.misconceptions(CLASS)
    assert (first.diagnosis, first.students) == (MISTAKE, ("ann", "=bob"))
    assert second.students == ("eve",)
    assert rows_of(formats.misconceptions_csv(CLASS))[1][:3] == [IDS[3], MISTAKE, "2"]


def test_the_table_fits_a_terminal_and_names_what_to_look_at() -> None:
    lines = formats.table(CLASS, COURSE)
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].split() == ["ann", f"3/{len(IDS)}", "3"]
    assert any(MISTAKE[:30] in line for line in lines)
    assert any(line.startswith("  eve: ") for line in lines)


def test_what_was_judged_in_one_process_only_is_named() -> None:
    one = graded("ann", 2)
    one.grades[IDS[0]] = Grade(Verdict(IDS[0], SOLVED), confirmed=0)
    assert "Judged only in one process with the answer: 1.1" in formats.table([one], COURSE)


class Tags(HTMLParser):
    """Collects the tags of a page, and every address in it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_runs_and_loads_nothing_whatever_a_submission_says() -> None:
    page = class_page(CLASS, COURSE, "A class & more", "no walls")
    found = Tags()
    found.feed(page)
    assert "script" not in found.tags
    assert found.addresses == ["data:,"]
    assert "default-src 'none'" in page
    assert "&lt;script&gt;" in page and "A class &amp; more" in page and "no walls" in page
    assert not re.search(r"https?://", page)


def test_the_page_shows_every_student_with_every_exercise() -> None:
    page = class_page(CLASS, COURSE, "A class")
    assert page.count('class="solved"') == 7
    assert page.count('<td class="') == len(CLASS) * len(IDS)
    assert "width: 66.7%" in page  # two of three have the same misconception
