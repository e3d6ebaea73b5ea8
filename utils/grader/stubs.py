"""Stubs as they are handed out, and putting one back.

A stub is its solution with the body taken out: same name, arguments and docstring. So it can always
be made again, whatever became of the learner's file, and the two can never drift apart: a check
compares exercises.py with what is made here.
"""

import ast
import re
import time
from pathlib import Path

from utils.errors import CourseError
from utils.files import atomic_write_bytes
from utils.grader.exercises import Exercise, Lesson
from utils.grader.learner_code import functions, lines_of

TODO = "# TODO: your code here"
NEXT_AT_TOP = re.compile(r"^[A-Za-z_@#]")


def handed_out(lesson: Lesson) -> dict[str, str]:
    """The text of every function and class to fill in, by name."""
    source = lesson.solutions.read_text(encoding="utf-8")
    ids = {stub: exercise.id for exercise in lesson.exercises for stub in exercise.stubs}
    lines = source.splitlines()
    tree = ast.parse(source, str(lesson.solutions))
    cuts = []  # (first line of the body, last line, what comes instead), counted from 1
    for name, node in functions(tree):
        if name in ids:
            first = (node.body[0].end_lineno or 0) + 1
            indent = " " * node.body[0].col_offset
            stub = f'{indent}raise NotImplementedError("Exercise {ids[name]}: {name}")  {TODO}'
            cuts.append((first, node.end_lineno or first, stub))
    for first, last, stub in reversed(cuts):
        lines[first - 1 : last] = [stub]
    emptied = "\n".join(lines) + "\n"
    names = {name for exercise in lesson.exercises for name in exercise.names}
    return {
        node.name: "\n".join(emptied.splitlines()[start_of(node) - 1 : node.end_lineno]) + "\n"
        for node in ast.parse(emptied).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names
    }


def start_of(node: ast.FunctionDef | ast.ClassDef) -> int:
    """The first line of a function or class, decorators included."""
    return min([node.lineno, *(one.lineno for one in node.decorator_list)])


def put_back(lesson: Lesson, exercise: Exercise) -> Path | None:
    """Make an exercise's part of the file as it was handed out; returns where the old file is kept.

    None if the exercise was untouched. The rest of the file stays, even if Python cannot read it.
    Raises CourseError if there is no file.
    """
    if not lesson.file.is_file():
        where = lesson.file.relative_to(lesson.folder.parent).as_posix()
        raise CourseError(f"{where} is missing; git checkout {where} brings it back")
    old = lesson.file.read_bytes()
    text = old.decode("utf-8", "surrogateescape")  # what is no UTF-8 comes back as it was
    end = "\r\n" if "\r\n" in text else "\n"
    stubs = handed_out(lesson)
    for name in exercise.names:
        text = replaced(text, name, stubs[name].replace("\n", end))
    new = text.encode("utf-8", "surrogateescape")
    if new == old:
        return None
    kept = keep_copy(lesson, old)
    atomic_write_bytes(lesson.file, new)
    return kept


def keep_copy(lesson: Lesson, data: bytes) -> Path:
    """Write a copy of the learner's file aside, under the present time."""
    folder = lesson.folder.parent / ".progress" / "backups"
    folder.mkdir(parents=True, exist_ok=True)
    moment = time.strftime("%Y%m%d-%H%M%S")
    names = (f"{lesson.name}-{moment}{suffix}.py" for suffix in ("", *"bcdefghijk"))
    path = next(folder / name for name in names if not (folder / name).exists())
    atomic_write_bytes(path, data)
    return path


def replaced(text: str, name: str, stub: str) -> str:
    """The text with the top-level function or class of this name replaced; added if not there."""
    lines = lines_of(text)
    place = place_of(text, name)
    if place is None:
        end = next((at for at, line in enumerate(lines) if line.startswith("if __name__")), None)
        at = len(lines) if end is None else end
        newline = "\r\n" if stub.endswith("\r\n") else "\n"
        above, below = "".join(lines[:at]).rstrip("\r\n"), "".join(lines[at:])
        return above + 3 * newline + stub + 2 * newline + below
    first, last = place
    return "".join(lines[:first]) + stub + "".join(lines[last:])


def place_of(text: str, name: str) -> tuple[int, int] | None:
    """First line and the one after the last, counted from 0; None if it is not there."""
    try:
        for node in reversed(ast.parse(text).body):  # of two, the later one is what counts
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                return start_of(node) - 1, node.end_lineno or node.lineno
        return None
    except (SyntaxError, ValueError):
        return place_by_lines(lines_of(text), name)


def place_by_lines(lines: list[str], name: str) -> tuple[int, int] | None:
    """The same for a text that is no Python: up to the next line that begins something new."""
    begin = re.compile(rf"(def|class)\s+{name}\b")
    first = next((at for at, line in enumerate(lines) if begin.match(line)), None)
    if first is None:
        return None
    after = range(first + 1, len(lines))
    last = next((at for at in after if NEXT_AT_TOP.match(lines[at])), len(lines))
    while last > first + 1 and not lines[last - 1].strip():
        last -= 1
    return first, last
