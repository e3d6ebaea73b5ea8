"""The rules for Python code, checked on its syntax trees.

Each rule takes the root of a repository and returns its problems, one per line: "file:line: what".
"""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.checks.course_files import (
    NEVER_IMPORTED,
    lesson_folders,
    lesson_modules,
    python_files,
)

PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve"}
OPENS_NO_TEXT = {"os", "webbrowser", "tarfile", "zipfile", "gzip", "Image", "wave", "urllib"}
SUBPROCESS = {"run", "Popen", "check_output", "check_call", "call"}

PROGRAM_FOLDERS = ("tools", "09_capstone", "setup")  # where people start programs by their path
NOT_INSTALLED = "error: not installed; run make install, then use .venv/bin/python"

# Tests of the pages of lesson 00 that describe the whole course, and so import all of it.
GUIDE_TESTS = {
    f"00_setup/tests/test_{page}.py"
    for page in ("commands_elsewhere", "review_questions", "study_guide", "troubleshooting")
}

Finder = Callable[[ast.AST], str | None]


# --- one file: parsed and walked once for all rules, because that takes longer than they do ---


@dataclass(frozen=True)
class Findings:
    """What the rules need to know of one file; the tree itself would fill the memory."""

    imports: tuple[tuple[int, str], ...]  # (line, first part of the name)
    found: dict[Finder, list[str]]  # "line: what"
    is_unguarded: bool


def findings(path: Path) -> Findings:
    """The findings of a Python file as it is now."""
    stat = path.stat()
    return findings_of_version(path, stat.st_mtime_ns, stat.st_size)


@cache
def findings_of_version(path: Path, modified: int, size: int) -> Findings:
    """Parse a file, which Python decodes itself, and walk its tree once."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    found: dict[Finder, list[str]] = {finder: [] for finder in FINDERS}
    imports: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        imports += imports_of(node)
        for finder in FINDERS:
            if what := finder(node):
                found[finder].append(f"{getattr(node, 'lineno', '?')}: {what}")
    return Findings(tuple(imports), found, is_unguarded_program(tree))


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, first part of the name) for each import of the tree, at any depth."""
    for node in ast.walk(tree):
        yield from imports_of(node)


def imports_of(node: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, first part of the name) for each name that the node itself imports."""
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        yield node.lineno, node.module.split(".")[0]


# --- the rules ---


def upward_imports(root: Path) -> list[str]:
    """Imports run one way: utils, then the lessons by number, then tools.

    A lesson imports utils and lessons up to its own number; utils (its grader too) and tools/checks
    import no lesson; only tools, and tests, import tools. GUIDE_TESTS import anything.
    """
    lessons = lesson_folders(root)
    owner = {name: folders[0] for name, folders in lesson_modules(root).items()}
    owner |= {"utils": "", "tools": "tools"}
    problems = []
    for path in python_files(root):
        here = path.parts[0]
        if path.as_posix() in GUIDE_TESTS:
            continue
        if here in lessons:
            allowed = {"", *(name for name in lessons if name <= here)}
        elif here == "utils":
            allowed = {""}
        elif path.parts[:2] == ("tools", "checks"):
            allowed = {"", "tools"}
        else:
            continue
        for line, name in findings(root / path).imports:
            there = owner.get(name, "")
            if there == "tools" and "tests" in path.parts:
                continue
            if there not in allowed:
                problems.append(f"{path.as_posix()}:{line}: {here} imports {name} of {there}")
    return problems


def unguarded_programs(root: Path) -> list[str]:
    """A program that people start prints how to install the course if it is not installed.

    So its first import from outside the standard library is guarded: `try: from utils.errors import
    run_program`, `except ImportError: raise SystemExit(NOT_INSTALLED) from None`. The guard has to
    stand in each program: before the course is installed, they can import nothing in common.
    """
    return [
        f"{path.as_posix()}: the first import of utils has no guard with {NOT_INSTALLED!r}"
        for path in python_files(root)
        if path.parts[0] in PROGRAM_FOLDERS
        and not {"tests", "exercises"} & set(path.parts)  # exercises: make watch starts them
        and findings(root / path).is_unguarded
    ]


def is_unguarded_program(tree: ast.Module) -> bool:
    """Has the module a `__main__` block, and an import that can fail before any guard?"""
    if not any(isinstance(node, ast.If) and "__main__" in ast.unparse(node) for node in tree.body):
        return False
    for node in tree.body:
        if isinstance(node, ast.Try) and NOT_INSTALLED in ast.unparse(node):
            return False
        if isinstance(node, ast.Import | ast.ImportFrom) and not is_standard(node):
            return True
    return False


def is_standard(node: ast.Import | ast.ImportFrom) -> bool:
    """Does the statement import from the standard library only?"""
    return all(name in sys.stdlib_module_names for _, name in imported_modules(node))


def unimportable_imports(root: Path) -> list[str]:
    """exercises, tests and data are folders in several lessons: load them by path, not by name."""
    return [
        f"{path.as_posix()}:{line}: imports {name} by name"
        for path in python_files(root)
        for line, name in findings(root / path).imports
        if name in NEVER_IMPORTED
    ]


def path_edits(root: Path) -> list[str]:
    """Nothing edits sys.path: the editable install makes every module importable."""
    return search(root, path_edit)


def path_edit(node: ast.AST) -> str | None:
    """The edit of sys.path, if the node is one."""
    if isinstance(node, ast.Call):
        name = dotted(node.func)
        edits = ("sys.path.append", "sys.path.insert", "sys.path.extend", "site.addsitedir")
        return name if name in edits or name.endswith(".syspath_prepend") else None
    if isinstance(node, ast.ImportFrom):
        return "from sys import path" if imports(node, "sys", "path") else None
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    for target in targets:
        whole = target.value if isinstance(target, ast.Subscript) else target
        if target and isinstance(whole, ast.Attribute) and dotted(whole) == "sys.path":
            return f"sys.path{'' if whole is target else '[...]'}"
    return None


def dotted(node: ast.AST) -> str:
    """`a.b.c` as text; "?" for a part that is not a name, such as a call."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def pickles(root: Path) -> list[str]:
    """No pickle is read or written, because opening a file must never run code.

    Tests may use pickle, to prove that one is refused.
    """
    found = search(root, pickle_use)
    return [problem for problem in found if "/tests/" not in problem]


def pickle_use(node: ast.AST) -> str | None:
    """The use of pickle, torch.load and torch.save included, if the node is one."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        for _, name in imported_modules(node):
            if name in PICKLES:
                return f"import {name}"
        if isinstance(node, ast.ImportFrom):
            found = [name for name in ("load", "save") if imports(node, "torch", name)]
            return f"from torch import {found[0]}" if found else None
    if isinstance(node, ast.Attribute) and dotted(node) in ("torch.load", "torch.save"):
        return dotted(node)
    if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        allowed = not (isinstance(node.value, ast.Constant) and node.value.value is False)
        return "allow_pickle" if allowed else None
    return None


def unnamed_encodings(root: Path) -> list[str]:
    """Text is read and written as UTF-8 by name: the default differs between systems."""
    return search(root, unnamed_encoding)


def unnamed_encoding(node: ast.AST) -> str | None:
    """The call that reads or writes text in the system's encoding, if the node is one."""
    if not isinstance(node, ast.Call):
        return None
    words = {word.arg for word in node.keywords}
    if words & {"encoding", None}:  # None means **options, which may include it
        return None
    whole = dotted(node.func)
    receiver, _, name = whole.rpartition(".")
    if name == "open" and receiver.split(".")[0] not in OPENS_NO_TEXT:
        binary = is_binary(node, position=0 if receiver not in ("", "io") else 1)
        return None if binary else f"{ast.unparse(node.func)} without encoding"
    if name in ("read_text", "write_text"):
        positional = 0 if name == "read_text" else 1
        return f"{name} without encoding" if len(node.args) <= positional else None
    if name in SUBPROCESS and receiver in ("", "subprocess"):
        as_text = words & {"text", "universal_newlines"}
        return f"{whole} with text, without encoding" if as_text else None
    return None


def is_binary(call: ast.Call, position: int) -> bool:
    """Does this call of open read or write bytes? A mode that is not a literal counts as yes."""
    named = [word.value for word in call.keywords if word.arg == "mode"]
    mode = (named or call.args[position : position + 1] or [ast.Constant("r")])[0]
    return not isinstance(mode, ast.Constant) or "b" in str(mode.value)


def imports(node: ast.ImportFrom, module: str, name: str) -> bool:
    """Is the node `from module import name`?"""
    return node.module == module and any(alias.name == name for alias in node.names)


def search(root: Path, finder: Finder) -> list[str]:
    """Every node of every Python file in which the finder finds something."""
    return [
        f"{path.as_posix()}:{found}"
        for path in python_files(root)
        for found in findings(root / path).found[finder]
    ]


FINDERS: tuple[Finder, ...] = (path_edit, pickle_use, unnamed_encoding)
