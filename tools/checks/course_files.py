"""Which files belong to the course: what git tracks, and no stray files.

A learner's scratch files, an editor's lock files (.#x.py), the files that macOS writes on foreign
disks (._x.py) and .ipynb_checkpoints do not count. Without git, as in a downloaded archive, every
file counts but those of editors and systems.
"""

import os
import subprocess
from collections import defaultdict
from pathlib import Path, PurePath

TESTED_FOLDERS = ("utils", "tools", "setup")  # besides the lessons
NEVER_IMPORTED = {"tests", "exercises", "pictures", "data"}  # several lessons have them
OUTSIDE = {".git", ".venv"}
LEFTOVER_FOLDERS = {".ipynb_checkpoints", "__pycache__", "__MACOSX"}
LEFTOVER_PREFIXES = ("._", ".#", "~$")  # AppleDouble; lock files of Emacs and of Word


def kept_files(root: Path) -> list[Path]:
    """The files of the course, relative to root, in order."""
    found = tracked_files(root)
    if found is None:
        found = [path.relative_to(root) for path in root.rglob("*")]
    return sorted(path for path in found if not is_leftover(path) and (root / path).is_file())


def tracked_files(root: Path) -> list[Path] | None:
    """The files that git tracks, staged ones included; None where git cannot tell."""
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True)
    except OSError:  # git is not installed
        return None
    if answer.returncode != 0:  # the repository belongs to another user, say
        return None
    return [Path(name) for name in os.fsdecode(answer.stdout).split("\0") if name]


def is_leftover(path: PurePath) -> bool:
    """Was the file left by an editor or a system? Even when git tracks it, it is not the course."""
    if path.parts[0] in OUTSIDE or not LEFTOVER_FOLDERS.isdisjoint(path.parts):
        return True
    return path.name.startswith(LEFTOVER_PREFIXES)


def python_files(root: Path) -> list[Path]:
    """The Python files among them. `x.old.py` cannot be imported: it is a copy kept aside."""
    return [path for path in kept_files(root) if path.suffix == ".py" and "." not in path.stem]


def markdown_files(root: Path, module: str | None) -> list[Path]:
    """The Markdown pages of the course, or of one folder, relative to root."""
    pages = [path for path in kept_files(root) if path.suffix == ".md"]
    return [path for path in pages if module in (None, path.parts[0])]


def lesson_folders(root: Path) -> list[str]:
    """The names of the numbered folders that hold a file of the course, in order."""
    lessons = {path.name for path in root.glob("[0-9][0-9]_*")}
    return sorted(lessons & {path.parts[0] for path in kept_files(root) if len(path.parts) > 1})


def lesson_modules(root: Path) -> dict[str, list[str]]:
    """Each name that a lesson folder makes importable, with the lessons that do so.

    That is a .py file directly in the lesson's folder, or a folder with .py files in it.
    """
    owners: dict[str, set[str]] = defaultdict(set)
    lessons = lesson_folders(root)
    for path in python_files(root):
        if path.parts[0] in lessons and path.parts[1] not in NEVER_IMPORTED:
            owners[Path(path.parts[1]).stem].add(path.parts[0])
    return {name: sorted(lessons) for name, lessons in sorted(owners.items())}
