"""A page about a class that opens from disk: who has solved what, and what many got wrong.

Everything that comes from a submission is escaped, and the page's own policy forbids scripts and
any load from outside.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import jinja2

from tools.grading.formats import (
    counts,
    exercises_of,
    is_unconfirmed,
    misconceptions,
    text_of,
    total,
)
from tools.grading.grades import Graded
from utils.grader.exercises import Lesson
from utils.grader.report import SOLVED, TO_DO, WRONG

TEMPLATE = Path(__file__).with_name("class_page.html")
MARKS = {SOLVED: ("✓", "solved"), WRONG: ("✗", "wrong"), TO_DO: ("·", "todo")}
SHOWN = 20  # misconceptions


def class_page(
    graded: Sequence[Graded], course: Sequence[Lesson], title: str, weakness: str = ""
) -> str:
    """The page as HTML."""
    exercises = exercises_of(course)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    counted = [counts(graded, one) for one in exercises]
    return template.render(
        title=title,
        moment=time.strftime("%Y-%m-%d %H:%M"),
        graded=graded,
        exercises=exercises,
        titles={one.id: one.title for one in exercises},
        rows=[row(one, course) for one in graded],
        solved=[one[SOLVED] for one in counted],
        wrong=[one[WRONG] for one in counted],
        common=misconceptions(graded)[:SHOWN],
        problems=[(one.name, problem) for one in graded for problem in one.problems],
        unconfirmed=[one.id for one in exercises if is_unconfirmed(graded, one)],
        weakness=weakness,
    )


def row(graded: Graded, course: Sequence[Lesson]) -> dict[str, object]:
    """What the page shows of one student."""
    exercises = exercises_of(course)
    grades = [(one.id, graded.grades[one.id]) for one in exercises]
    return {
        "name": graded.name,
        "cells": [MARKS[grade.verdict.outcome] for _, grade in grades],
        "total": total(graded),
        "messages": [(one, text_of(each)) for one, each in grades if each.verdict.outcome == WRONG],
    }
