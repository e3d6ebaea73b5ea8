"""The rules for files and folders.

Each rule takes the root of a repository and returns its problems, one line per problem, [] if there
are none; `tools/tests/test_checks_layout.py` runs them on the course. The rules that need syntax
trees are in `tools/checks/code_rules.py`, those for wording in `tools/checks/wording.py`.
"""

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

from tools.checks.course_files import (
    TESTED_FOLDERS,
    kept_files,
    lesson_folders,
    lesson_modules,
    python_files,
)

TOP_LEVEL = {
    *("utils", "data", "setup", "tools", ".ci", ".github", ".devcontainer"),
    *("Makefile", "requirements.txt", "README.md", "pyproject.toml", "conftest.py", "LICENSE"),
    *(".gitignore", ".gitattributes", "AGENTS.md"),
}
LESSONS = (
    "00_setup",
    "01_attention",
    "02_multi_head",
    "03_transformer_blocks",
    "04_embeddings",
    "05_model",
    "06_training",
    "07_sampling",
    "08_engineering",
    "09_capstone",
)
NEW_IN_PYTHON = {"annotationlib", "compression", "profiling"}  # standard library after 3.11
LARGE_ON_PURPOSE = {"01_attention/interactive_demo.html"}
LARGEST = 1_000_000  # bytes

# A path that works on one person's machine only, or an access key. Examples and tests may use the
# made-up users "ann" and "you".
PRIVATE = re.compile(
    r"/(?:home|Users)/(?!ann|you)[a-z][\w.-]*/"
    r"|/root/[\w.]"
    r"|[A-Z]:\\+Users\\+(?!ann|you)\w"
    r"|\bgh[pousr]_[A-Za-z0-9]{36}"
    r"|\bgithub_pat_\w{50}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bhf_[A-Za-z]{34}\b"
    r"|\bsk-[A-Za-z0-9_-]{32}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def wrong_folder_lists(root: Path) -> list[str]:
    """Three tools in pyproject.toml list the folders; each list must match what is on disk."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    lessons = lesson_folders(root)
    importable = {".", *lessons}
    tested = {*TESTED_FOLDERS, *lessons}
    expected = [
        ("hatch dev-mode-dirs", settings["hatch"]["build"]["dev-mode-dirs"], importable),
        ("pytest pythonpath", settings["pytest"]["ini_options"]["pythonpath"], importable),
        ("pyright extraPaths", settings["pyright"]["extraPaths"], importable),
        ("pytest testpaths", settings["pytest"]["ini_options"]["testpaths"], tested),
        ("pyright include", settings["pyright"]["include"], {*tested, "conftest.py"}),
    ]
    return [
        f"{name} differs from the folders on disk in: {', '.join(difference)}"
        for name, listed, wanted in expected
        if (difference := sorted(set(listed) ^ wanted))
    ]


def wrong_pins(root: Path) -> list[str]:
    """requirements.txt and pyproject.toml must pin the same versions of the same packages."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {line for line in lines if line and not line.startswith(("#", "-"))}
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = set(project["dependencies"])
    return [
        *(f"only in requirements.txt: {pin}" for pin in sorted(required - declared)),
        *(f"only in pyproject.toml: {pin}" for pin in sorted(declared - required)),
        *(f"not pinned to one version: {pin}" for pin in sorted(required) if "==" not in pin),
    ]


def clashing_modules(root: Path) -> list[str]:
    """A module name must be used by one lesson only, and by no library."""
    ours = ["tiny-transformer-course"]
    libraries = {name for name, owners in packages_distributions().items() if owners != ours}
    taken = sys.stdlib_module_names | NEW_IN_PYTHON | libraries | {"conftest", "utils", "tools"}
    problems = []
    for name, lessons in lesson_modules(root).items():
        if len(lessons) > 1:
            problems.append(f"module {name} is in {' and '.join(lessons)}")
        if name in taken:
            problems.append(f"module {name} of {lessons[0]} has the name of a library")
    return problems


def clashing_test_files(root: Path) -> list[str]:
    """pytest imports each test file by its bare name, so no two may have the same name."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in python_files(root):
        if "tests" in path.parts[:-1]:
            places[path.name].append(path.as_posix())
    for module, lessons in lesson_modules(root).items():
        places[f"{module}.py"] += [f"{lesson}/{module}.py" for lesson in lessons]
    return [
        f"files with the same name: {', '.join(paths)}"
        for paths in places.values()
        if len(paths) > 1 and any("/tests/" in path for path in paths)
    ]


def stray_inits(root: Path) -> list[str]:
    """An __init__.py in tests/ or exercises/ would make ten packages with the same name."""
    return [
        f"{path.as_posix()}: remove it"
        for path in python_files(root)
        if path.name == "__init__.py" and path.parent.name in ("tests", "exercises")
    ]


def stray_top_level(root: Path) -> list[str]:
    """The top level has the entries that the design lists, and no others."""
    allowed = TOP_LEVEL | set(lesson_folders(root))
    entries = {path.parts[0] for path in kept_files(root)}
    return [f"not in the design: {name}" for name in sorted(entries - allowed)]


def missing_readmes(root: Path) -> list[str]:
    """Every lesson has a README."""
    return [
        f"{lesson}/README.md is missing"
        for lesson in lesson_folders(root)
        if not (root / lesson / "README.md").is_file()
    ]


def large_files(root: Path) -> list[str]:
    """Files of more than a megabyte are generated, not committed."""
    return [
        f"{path.as_posix()}: {size:,} bytes, the limit is {LARGEST:,}"
        for path in kept_files(root)
        if path.as_posix() not in LARGE_ON_PURPOSE
        and (size := (root / path).stat().st_size) > LARGEST
    ]


def private_strings(root: Path) -> list[str]:
    """No file contains the path of a person's home folder, or an access key."""
    return [
        f"{path.as_posix()}:{number}: a home folder or a key: {found[0]!r}"
        for path in kept_files(root)
        for number, line in enumerate(text_lines(root / path), start=1)
        if (found := PRIVATE.search(line))
    ]


def text_lines(path: Path) -> Iterable[str]:
    """The lines of a text file; none for a file that is not UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
