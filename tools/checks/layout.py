"""The rules that files and folders keep.

Each rule takes the root of a repository and returns its problems, one line each, [] when there are
none; `tools/tests/test_checks_layout.py` holds the course to them. What syntax trees tell is in
`tools/checks/code_rules.py`.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

from tools.checks.result import Result

TESTED_FOLDERS = ("utils", "tools", "setup")  # besides the lessons
TOP_LEVEL = {
    *("utils", "data", "setup", "tools", ".ci", ".github"),
    *("Makefile", "requirements.txt", "README.md", "pyproject.toml", "conftest.py", "LICENSE"),
    *(".gitignore", ".gitattributes"),
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
REQUIRED = (
    *(f"{lesson}/README.md" for lesson in LESSONS),
    "09_capstone/train.py",
    "09_capstone/sample.py",
    "09_capstone/data/prepare_data.py",
    "utils/shape_checker.py",
    "utils/config.py",
    "utils/visualization.py",
    "utils/corpus.py",
    "utils/mock_corpus.py",
    "utils/device.py",
    "data/README.md",
    "data/download_datasets.sh",
    "data/simple_sequences.txt",
    "setup/verify_environment.py",
    "tools/install.py",
    "tools/validate_all.py",
    "Makefile",
    "README.md",
    "requirements.txt",
    "pyproject.toml",
    "conftest.py",
    "LICENSE",
    ".gitignore",
    ".ci/run",
    ".github/workflows/ci.yml",
)
ANATOMY = (  # patterns; a complete lesson has a file for each
    "README.md",
    "theory.md",
    "[a-z]*.py",
    "exercises/exercises.py",
    "exercises/solutions.py",
    "exercises/exercises.yaml",
    "tests/test_*.py",
    "tests/test_*_exercises.py",
    "tests/*_misconceptions.py",
    "**/*.ipynb",
)
NEVER_IMPORTED = {"tests", "exercises", "data"}  # folders of these names are in several places
NEW_IN_PYTHON = {"annotationlib", "compression", "profiling"}  # of the library after 3.11
LARGE_ON_PURPOSE = {"01_attention/interactive_demo.html"}
LARGEST = 1_000_000  # bytes

# A path that works on one person's machine only, or a key that opens something. Ann and "you" are
# nobody: examples and tests may give them a home.
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


def lesson_folders(root: Path) -> list[str]:
    """The names of the numbered folders, in order."""
    return sorted(path.name for path in root.glob("[0-9][0-9]_*") if path.is_dir())


def kept_files(root: Path) -> list[Path]:
    """Files that are in git or would be added, relative to root; all files where git cannot say."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") and (root / ".git").exists():
        answer = subprocess.run(command, cwd=root, capture_output=True, check=True)
        names = answer.stdout.decode("utf-8").split("\0")
        found = [Path(name) for name in names if name]
    else:
        found = [path.relative_to(root) for path in root.rglob("*")]
    return sorted(
        path for path in found if (root / path).is_file() and path.parts[0] not in (".git", ".venv")
    )


def python_files(root: Path) -> list[Path]:
    """The Python files among them."""
    return [path for path in kept_files(root) if path.suffix == ".py"]


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


def wrong_folder_lists(root: Path) -> list[str]:
    """Three tools in pyproject.toml are told the folders; each list must say what is on disk."""
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


def clashing_modules(root: Path) -> list[str]:
    """A module name must be in one lesson only, and belong to no library."""
    ours = ["tiny-transformer-course"]
    libraries = {name for name, owners in packages_distributions().items() if owners != ours}
    taken = sys.stdlib_module_names | NEW_IN_PYTHON | libraries | {"conftest", "utils", "tools"}
    problems = []
    for name, lessons in lesson_modules(root).items():
        if len(lessons) > 1:
            problems.append(f"module {name} is in {' and '.join(lessons)}")
        if name in taken:
            problems.append(f"module {name} of {lessons[0]} has the name of another library")
    return problems


def clashing_test_files(root: Path) -> list[str]:
    """pytest loads every file of a tests folder by its bare name, so no two may share one."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in python_files(root):
        if "tests" in path.parts[:-1]:
            places[path.name].append(path.as_posix())
    for module, lessons in lesson_modules(root).items():
        places[f"{module}.py"] += [f"{lesson}/{module}.py" for lesson in lessons]
    return [
        f"files of one name: {', '.join(paths)}"
        for paths in places.values()
        if len(paths) > 1 and any("/tests/" in path for path in paths)
    ]


def stray_inits(root: Path) -> list[str]:
    """An __init__.py in tests/ or exercises/ would make a package of one name in ten places."""
    return [
        f"{path.as_posix()}: remove it"
        for path in python_files(root)
        if path.name == "__init__.py" and path.parent.name in ("tests", "exercises")
    ]


def stray_top_level(root: Path) -> list[str]:
    """The top level holds what the design lists, and nothing else."""
    allowed = TOP_LEVEL | set(lesson_folders(root))
    entries = {path.parts[0] for path in kept_files(root)}
    return [f"not in the design: {name}" for name in sorted(entries - allowed)]


def missing_readmes(root: Path) -> list[str]:
    """Every lesson opens with a README."""
    return [
        f"{lesson}/README.md is missing"
        for lesson in lesson_folders(root)
        if not (root / lesson / "README.md").is_file()
    ]


def large_files(root: Path) -> list[str]:
    """What is larger than a megabyte is made, not kept."""
    return [
        f"{path.as_posix()}: {size:,} bytes, the limit is {LARGEST:,}"
        for path in kept_files(root)
        if path.as_posix() not in LARGE_ON_PURPOSE
        and (size := (root / path).stat().st_size) > LARGEST
    ]


def private_strings(root: Path) -> list[str]:
    """No file names a person's home folder or holds a key."""
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


def markdown_files(root: Path, module: str | None) -> list[Path]:
    """The Markdown pages of the repository, or of one folder, relative to root."""
    pages = [path for path in kept_files(root) if path.suffix == ".md"]
    return [path for path in pages if module in (None, path.parts[0])]


def check_structure(root: Path, module: str | None, ready: Sequence[str] = ()) -> list[Result]:
    """Is every file there that the design asks for, and all of a lesson that is ready?"""
    required = [name for name in REQUIRED if module in (None, name.split("/")[0])]
    wanted = required + [
        f"{lesson}/{pattern}" for lesson in ready if module in (None, lesson) for pattern in ANATOMY
    ]
    missing = tuple(f"missing: {pattern}" for pattern in wanted if not any(root.glob(pattern)))
    detail = f"{len(wanted) - len(missing)} of {len(wanted)} files"
    return [Result("structure", not missing, detail, missing)]
