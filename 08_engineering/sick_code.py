"""The eight sick functions of the bug clinic, as the exercises hand them out.

    save_bytes = sick("save_bytes")

is the code of exercise 8.2 without its `raise` line: plausible, and with one real bug. There is one
text of each, in exercises/exercises.yaml; bug_clinic.md and its tests run the same code that a
learner repairs. (The repaired ones are in exercises/solutions.py.)
"""

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from utils.errors import pick, run_program
from utils.grader.exercises import Exercise, Lesson, read_lesson
from utils.grader.stubs import emptied_solutions

FOLDER = Path(__file__).resolve().parent


def sick(name: str) -> Callable[..., Any]:
    """The function of a repair with its bug. Raises UsageError for any other name."""
    pick(name, [one.stubs[0] for one in repairs(lesson())], "sick function")
    return namespace()[name]


@cache
def lesson() -> Lesson:
    """The exercises of this lesson."""
    return read_lesson(FOLDER)


def repairs(of: Lesson) -> list[Exercise]:
    """The exercises in which code is to be repaired, in order."""
    return [one for one in of.exercises if one.kind == "repair"]


@cache
def namespace() -> dict[str, Any]:
    """All functions of exercises.py as they are handed out, those to repair without their raise."""
    tree = ast.parse(emptied_solutions(lesson()))
    sick_ones = {one.stubs[0] for one in repairs(lesson())}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in sick_ones:
            node.body = [one for one in node.body if not isinstance(one, ast.Raise)]
    names: dict[str, Any] = {"__name__": "sick_functions"}
    exec(compile(tree, "sick functions", "exec"), names)
    return names


def main() -> None:
    """List the eight."""
    for one in repairs(lesson()):
        print(f"{one.id:<5} {one.stubs[0]:<20} {one.title.removeprefix('Repair: ')}")


if __name__ == "__main__":
    run_program(main)
