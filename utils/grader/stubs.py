"""Make stubs from the solutions, and put one back into a learner's file.

A stub is its solution with the body removed: same name, arguments and docstring. So it can always
be recreated, whatever happened to the learner's file, and the two cannot drift apart: a check
compares exercises.py with the stubs made here.

Resetting an exercise never loses text. The old file is copied to .progress/backups first, and the
new one is written only if its syntax tree shows that the name is now bound to the untouched stub.
A file that Python cannot parse is cut where a piece of it can be parsed, so that an error in one
exercise does not prevent the reset of another.
"""

import ast
import itertools
import re
import string
import textwrap
import time
from pathlib import Path

from utils.errors import CourseError
from utils.files import atomic_write_bytes
from utils.grader.definitions import SCOPES, find_definition, first_line, last_binding, parse
from utils.grader.exercises import Exercise, Lesson
from utils.grader.learner_code import (
    as_stub,
    functions,
    lines_of,
    missing_file,
    repair_bodies,
)

TODO = {  # by the kind of exercise
    "write": "# TODO: your code here",
    "predict": "# TODO: return your prediction",
    "repair": "# TODO: delete, then repair",
    "read": "# TODO: return your answer",
}
LINE = 100  # characters; a longer line would be broken by the formatter
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PROGRAM = re.compile(r"if\s+__name__\b")  # where the part that runs the checks begins


# --- stubs made from the solutions ---


def emptied_solutions(lesson: Lesson) -> str:
    """The text of solutions.py with every body that a learner writes replaced by its stub."""
    source = lesson.solutions.read_text(encoding="utf-8-sig")
    lines = lines_of(source)
    for first, last, stub in reversed(bodies_to_replace(lesson, source)):
        lines[first - 1 : last] = [stub]
    return "".join(lines)


def make_stubs(lesson: Lesson) -> dict[str, str]:
    """The text of every function and class to fill in, by name."""
    emptied = emptied_solutions(lesson)
    names = {name for exercise in lesson.exercises for name in exercise.names}
    return {
        node.name: "".join(lines_of(emptied)[first_line(node) - 1 : node.end_lineno])
        for node in ast.parse(emptied).body
        if isinstance(node, SCOPES) and node.name in names
    }


def solution_of(lesson: Lesson, exercise: Exercise) -> str:
    """The solution of one exercise, without the docstrings that the learner's stub has as well."""
    source = lesson.solutions.read_text(encoding="utf-8-sig")
    tree = ast.parse(source, str(lesson.solutions))
    lines: list[str | None] = [*lines_of(source)]
    for name, node in functions(tree):
        if name in exercise.stubs and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            for line in range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1):
                lines[line - 1] = None
    texts = [
        lines[first_line(node) - 1 : node.end_lineno]
        for node in tree.body
        if isinstance(node, SCOPES) and node.name in exercise.names
    ]
    return "\n\n".join("".join(line for line in text if line is not None) for text in texts)


def bodies_to_replace(lesson: Lesson, source: str) -> list[tuple[int, int, str]]:
    """For each stub: first and last line of the solution's body, and what to put there."""
    owners = {stub: exercise for exercise in lesson.exercises for stub in exercise.stubs}
    found = []
    for name, node in functions(ast.parse(source, str(lesson.solutions))):
        if name in owners:
            has_docstring = ast.get_docstring(node) is not None
            first = (node.body[0].end_lineno or 0) + 1 if has_docstring else node.body[0].lineno
            body = stub_body(owners[name], name)
            stub = textwrap.indent(body, " " * node.body[0].col_offset)
            found.append((first, node.end_lineno or first, stub))
    return found


def stub_body(exercise: Exercise, name: str) -> str:
    """What replaces a solution's body: a `raise`, and the code to repair if any."""
    todo = f'raise NotImplementedError("Exercise {exercise.id}: {name}")'
    indent = 8 if "." in name else 4  # of a method, of a function
    fits = indent + len(todo) + 2 + len(TODO[exercise.kind]) <= LINE
    return f"{todo}  {TODO[exercise.kind] if fits else '# TODO'}\n{exercise.body}"


# --- resetting one exercise ---


def reset_exercise(lesson: Lesson, exercise: Exercise) -> Path | None:
    """Restore the stubs of one exercise; returns the path of the backup, None if nothing changed.

    The rest of the file stays as it is, even if Python cannot parse it.
    Raises CourseError if there is no file, or if the stub would not be what the name refers to.
    """
    if not lesson.file.is_file():
        raise CourseError(missing_file(lesson.file))
    old = lesson.file.read_bytes()
    new = with_stubs(old, lesson, exercise)
    if new == old:
        return None
    backup = save_backup(lesson, old)
    atomic_write_bytes(lesson.file, new)
    return backup


def with_stubs(data: bytes, lesson: Lesson, exercise: Exercise) -> bytes:
    """The file with the stubs of one exercise restored. Raises CourseError."""
    mark = BYTE_ORDER_MARK if data.startswith(BYTE_ORDER_MARK) else b""
    text = data.removeprefix(mark).decode("utf-8", "surrogateescape")  # keeps bytes as they were
    newline = line_end(text)
    stubs = make_stubs(lesson)
    for name in exercise.names:
        text = replace_definition(text, name, stubs[name].replace("\n", newline))
        check_restored(text, name, exercise, lesson)
    return mark + text.encode("utf-8", "surrogateescape")


def line_end(text: str) -> str:
    """The line end that a file uses: Windows, old Macintosh, or everything else."""
    if "\r\n" in text:
        return "\r\n"
    return "\r" if "\r" in text and "\n" not in text else "\n"


def save_backup(lesson: Lesson, data: bytes) -> Path:
    """Write a copy of the learner's file to .progress/backups, named after the current time."""
    folder = lesson.folder.parent / ".progress" / "backups"
    folder.mkdir(parents=True, exist_ok=True)
    moment = time.strftime("%Y%m%d-%H%M%S")
    suffixes = itertools.chain(["", *string.ascii_lowercase[1:]], map(str, itertools.count(27)))
    names = (f"{lesson.name}-{moment}{suffix}.py" for suffix in suffixes)
    path = next(folder / name for name in names if not (folder / name).exists())
    atomic_write_bytes(path, data)
    return path


def check_restored(text: str, name: str, exercise: Exercise, lesson: Lesson) -> None:
    """Raise CourseError unless a name refers to the untouched stub now."""
    tree = parse(text)
    if tree is None:
        return  # a syntax error elsewhere in the file
    node = last_binding(tree, name)
    module = ast.Module([node] if isinstance(node, SCOPES) else [], [])
    bodies = repair_bodies(lesson.file)
    stubs = {
        qualified for qualified, one in functions(module) if as_stub(one, bodies) == exercise.id
    }
    wanted = {stub for stub in exercise.stubs if stub.partition(".")[0] == name}
    if not wanted <= stubs:
        line = f" on line {node.lineno}" if node is not None else ""
        place = lesson.file.relative_to(lesson.folder.parent).as_posix()
        raise CourseError(f"{place} binds {name} again{line}: remove that first, then reset")


def replace_definition(text: str, name: str, stub: str) -> str:
    """The text with the top-level function or class of this name replaced, or added if missing."""
    lines = lines_of(text)
    place = find_definition(text, name, stub)
    if place is None:
        return add_definition(lines, stub)
    first, last = place
    return "".join(lines[:first]) + stub + "".join(lines[last:])


def add_definition(lines: list[str], stub: str) -> str:
    """The text with a stub added at the end, but before the part that runs the checks."""
    end = next((at for at, line in enumerate(lines) if PROGRAM.match(line)), len(lines))
    newline = line_end(stub)
    above = "".join(lines[:end]).rstrip("\r\n")
    return above + 3 * newline + stub + 2 * newline + "".join(lines[end:])
