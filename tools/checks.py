"""The checks that `tools/validate_all.py` runs.

Each takes the root of the repository and one folder to stay in (None: all of it), and returns a
result or, for the tests, one result a folder. Links are checked in `tools/links.py`.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.house import TESTED_FOLDERS, kept_files, lesson_folders

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
STDERR = 2  # pytest's report is progress: standard output is for the table
# A file is one process's: its tests may share what is costly to make.
PARALLEL = ("-p", "xdist", "-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")
COLOUR = re.compile(r"#x1B\[[\d;]*m")  # how pytest's report writes a colour
CELL = re.compile(r"^Cell \d+: (Cell .+)$", re.MULTILINE)  # how nbval says what became of it
NOT_RUN = re.compile(r"^\s*```(?:py|python|python3)\b.*\bnotest\b", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What one check found; `detail` is a few words for the table.

    `seconds` is None where the check has no time of its own: then it is timed from outside.
    """

    check: str
    passed: bool
    detail: str
    problems: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class Case:
    """One test as pytest reports it; `outcome` is passed, skipped, failure or error."""

    folder: str
    name: str
    outcome: str
    message: str
    seconds: float


def check_structure(root: Path, module: str | None, ready: Sequence[str] = ()) -> list[Result]:
    """Is every file there that the design asks for, and all of a lesson that is ready?"""
    required = [name for name in REQUIRED if module in (None, name.split("/")[0])]
    wanted = required + [
        f"{lesson}/{pattern}" for lesson in ready if module in (None, lesson) for pattern in ANATOMY
    ]
    missing = tuple(f"missing: {pattern}" for pattern in wanted if not any(root.glob(pattern)))
    detail = f"{len(wanted) - len(missing)} of {len(wanted)} files"
    return [Result("structure", not missing, detail, missing)]


def check_environment(root: Path, module: str | None) -> list[Result]:
    """Is this machine ready, by setup/verify_environment.py? The same for every module."""
    done = subprocess.run(
        [sys.executable, "setup/verify_environment.py"],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    lines = done.stdout.splitlines()
    fine = sum(line.startswith("[OK]") for line in lines)
    failed = [line for line in lines if line.startswith("[FAIL]")]
    if done.returncode != 0 and not failed:
        failed = done.stderr.splitlines()[-1:] or [f"exit code {done.returncode}"]
    passed = done.returncode == 0
    return [Result("environment", passed, f"{fine} OK, {len(failed)} failed", tuple(failed))]


def check_tests(root: Path, module: str | None) -> list[Result]:
    """Do the tests pass? One run of pytest, so that each test runs once; one result a folder."""
    folders = [module] if module else [*TESTED_FOLDERS, *lesson_folders(root)]
    options = ["-p", "utils.exercise_plugin", "--solutions", *([] if module else PARALLEL)]
    code, cases = run_pytest(root, [*options, *folders])
    results = [
        summarise(f"tests {folder}", [case for case in cases if case.folder == folder])
        for folder in folders
    ]
    if code not in (0, 5) and all(result.passed for result in results):  # 5: there are no tests
        results.append(Result("tests", False, f"pytest ended with exit code {code}"))
    return results


def check_notebooks(root: Path, module: str | None) -> list[Result]:
    """Do the notebooks run? Cells marked NBVAL_CHECK_OUTPUT must print what they printed."""
    found = [path for path in kept_files(root) if path.suffix == ".ipynb"]
    notebooks = [path.as_posix() for path in found if module in (None, path.parts[0])]
    # Jupyter's own warnings (old paths, sockets at the end) are no fault of ours.
    options = ["-p", "nbval", "--nbval-lax", "-W", "default", *notebooks]
    code, cases = run_pytest(root, options) if notebooks else (0, [])
    result = summarise("notebooks", cases)
    passed = result.passed and code in (0, 5)
    detail = f"{len(notebooks)} notebooks, cells: {result.detail}"
    return [Result("notebooks", passed, detail, result.problems, result.seconds)]


def check_text_blocks(root: Path, module: str | None) -> list[Result]:
    """Does the Python in the Markdown run? Blocks marked `notest` are counted, not run."""
    if importlib.util.find_spec("pytest_markdown_docs") is None:
        missing = "pytest-markdown-docs is missing: run python tools/install.py --dev"
        return [Result("text blocks", False, "could not run", (missing,))]
    pages = markdown_files(root, module)
    texts = [(root / page).read_text(encoding="utf-8") for page in pages]
    left_out = sum(len(NOT_RUN.findall(text)) for text in texts)
    options = ["--markdown-docs", "-m", "markdown-docs", *(page.as_posix() for page in pages)]
    code, cases = run_pytest(root, options) if pages else (0, [])
    result = summarise("text blocks", cases)
    passed = result.passed and code in (0, 5)
    detail = f"{result.detail}, {left_out} notest"
    return [Result("text blocks", passed, detail, result.problems, result.seconds)]


def markdown_files(root: Path, module: str | None) -> list[Path]:
    """The Markdown pages of the repository, or of one folder, relative to root."""
    pages = [path for path in kept_files(root) if path.suffix == ".md"]
    return [path for path in pages if module in (None, path.parts[0])]


def run_pytest(root: Path, arguments: list[str]) -> tuple[int, list[Case]]:
    """Run pytest once; returns its exit code and what it says of each test."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--no-header", "--continue-on-collection-errors"]
        command += [f"--junitxml={report}", *arguments]
        code = subprocess.run(command, cwd=root, stdout=STDERR).returncode
        return code, read_report(report) if report.exists() else []


def read_report(report: Path) -> list[Case]:
    """The tests in pytest's JUnit report; a file that could not be loaded counts as one."""
    cases = []
    for element in ElementTree.parse(report).iter("testcase"):
        found = [child for child in element if child.tag in ("skipped", "failure", "error")]
        place = element.get("classname") or element.get("name") or ""
        cases.append(
            Case(
                folder=place.split(".")[0],
                name=f"{place}: {element.get('name')}",
                outcome=found[0].tag if found else "passed",
                message=first_words(found[0]) if found else "",
                seconds=float(element.get("time") or 0),
            )
        )
    return cases


def first_words(found: ElementTree.Element) -> str:
    """What a failure says in one line; of a notebook's cell, what became of it and the error."""
    said, text = (COLOUR.sub("", words or "") for words in (found.get("message"), found.text))
    cell = CELL.search(text)
    if cell is None:
        return said.partition("\n")[0]
    error = text.strip().rpartition("\n")[2] if "exception" in cell[1] else ""
    return f"{cell[1]}: {error}".removesuffix(": ")


def summarise(check: str, cases: list[Case]) -> Result:
    """One result for many tests: counts, the time they took, and what failed."""
    failed = [case for case in cases if case.outcome in ("failure", "error")]
    passed = sum(case.outcome == "passed" for case in cases)
    skipped = sum(case.outcome == "skipped" for case in cases)
    counts = [(passed, "passed"), (len(failed), "failed"), (skipped, "skipped")]
    detail = ", ".join(f"{count} {word}" for count, word in counts if count) or "none"
    problems = tuple(f"{case.name}: {case.message}" for case in failed)
    return Result(check, not failed, detail, problems, sum(case.seconds for case in cases))
