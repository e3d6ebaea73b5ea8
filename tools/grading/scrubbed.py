"""Scrubbed copies of the course: what a judged process may see of it.

No solution, no answer of anyone, no git history, no notebook, no page. Every exercises.py is the
stubs, and so is solutions.py, which the engine reads for the names in it. Of the lesson that is
judged, and of higher ones, only the modules that the tests (or the stubs) import are there.
"""

import ast
import shutil
from collections.abc import Iterable
from pathlib import Path

from tools.checks.course_files import NEVER_IMPORTED
from utils.grader.exercises import ROOT, Lesson, lessons
from utils.grader.stubs import emptied_solutions

CONFIGURATION = ("conftest.py", "pyproject.toml", "requirements.txt")
ANSWERING = ("answers.py", "wire.py")  # of tools/grading: what runs in a sandbox


def copy_for_tests(lesson: Lesson, folder: Path) -> Path:
    """A copy in which the lesson's tests can judge an exercises.py."""
    starts = [lesson.test_file(), lesson.misconceptions_file(), lesson.solutions]
    copy = copy_course(lesson, starts, folder)
    for file in (lesson.test_file(), lesson.misconceptions_file()):
        take(file, copy)
    return copy


def copy_for_answers(lesson: Lesson, folder: Path) -> Path:
    """A copy in which an exercises.py can be loaded: no tests, and nothing to copy from."""
    stubs = folder / "stubs.py"
    folder.mkdir(parents=True, exist_ok=True)
    stubs.write_text(emptied_solutions(lesson), encoding="utf-8")
    copy = copy_course(lesson, [stubs], folder / "course")
    stubs.unlink()
    for name in ANSWERING:
        take(ROOT / "tools" / "grading" / name, copy)
    return copy


def copy_course(lesson: Lesson, starts: Iterable[Path], folder: Path) -> Path:
    """What both copies have: utils, the lower lessons, and the modules that `starts` import."""
    root = lesson.folder.parent
    for name in CONFIGURATION:
        take(root / name, folder, root)
    for path in (root / "utils").rglob("*.py"):
        if "tests" not in path.parts:
            take(path, folder, root)
    take(root / "data" / "simple_sequences.txt", folder, root)
    for each in lessons(root):
        if each.name < lesson.name:
            copy_modules(each.folder, folder, root)
        for file, text in ((each.file, None), (each.solutions, None)):
            place = folder / file.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text or emptied_solutions(each), encoding="utf-8")
        take(each.folder / "exercises" / "exercises.yaml", folder, root)
    for path in own_modules(lesson, starts):
        take(path, folder, root)
    (folder / ".venv").mkdir(exist_ok=True)  # where the environment is laid over the copy
    return folder


def copy_modules(lesson: Path, folder: Path, root: Path) -> None:
    """The modules of a lesson, without its tests, exercises, pictures and data."""
    for path in lesson.rglob("*.py"):
        if not NEVER_IMPORTED & set(path.relative_to(lesson).parts[:-1]):
            take(path, folder, root)


def take(file: Path, folder: Path, root: Path = ROOT) -> None:
    """Copy one file to the same place below another folder, if it exists."""
    if file.is_file():
        place = folder / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def own_modules(lesson: Lesson, starts: Iterable[Path]) -> list[Path]:
    """The files of the lesson that these files import, directly or not."""
    found: dict[str, Path] = {}
    waiting = [*starts]
    while waiting:
        for name in imported_names(waiting.pop()):
            for path in files_of_module(lesson.folder, name):
                if str(path) not in found:
                    found[str(path)] = path
                    waiting.append(path)
    return sorted(found.values())


def files_of_module(folder: Path, name: str) -> list[Path]:
    """The file of a module of this lesson, or all files of a package; none of another lesson's."""
    single = folder / f"{name}.py"
    if single.is_file():
        return [single]
    package = folder / name
    is_package = name not in NEVER_IMPORTED and package.is_dir()
    return sorted(package.rglob("*.py")) if is_package else []


def imported_names(file: Path) -> set[str]:
    """The first part of each name that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names
