"""The test suites and the environment, as `tools/validate_all.py` runs them.

Each check takes the root of the repository and one folder to check (None: all of them), and returns
a list of results: one, or for the tests one per folder.
"""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tools.checks.course_files import TESTED_FOLDERS, lesson_folders
from tools.checks.result import Result

STDERR = 2  # pytest's output is progress; standard output is for the table
# One process runs all tests of a file, because they may share expensive fixtures; the files keep
# their order, in which the root conftest.py puts the longest first.
PARALLEL = ("-p", "xdist", "-n", "auto", "--maxprocesses", "4")
PARALLEL += ("--dist", "loadfile", "--no-loadscope-reorder")
COLOUR = re.compile(r"#x1B\[[\d;]*m")  # an escape sequence, as pytest's XML report writes it
CELL = re.compile(r"^Cell \d+: (Cell .+)$", re.MULTILINE)  # nbval's verdict on a cell


@dataclass(frozen=True)
class Case:
    """One test as pytest reports it; `outcome` is passed, skipped, failure or error."""

    folder: str
    name: str
    outcome: str
    message: str
    seconds: float


def check_environment(root: Path, module: str | None) -> list[Result]:
    """Does setup/verify_environment.py pass? The result is the same for every module."""
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
    """Do the tests pass? One run of pytest, so that each test runs once; one result per folder."""
    folders = [module] if module else [*TESTED_FOLDERS, *lesson_folders(root)]
    options = ["-p", "utils.grader.pytest_plugin", "--solutions"]
    if module is None:
        options += PARALLEL
    code, cases = run_pytest(root, [*options, *folders])
    results = [
        summarise(f"tests {folder}", [case for case in cases if case.folder == folder])
        for folder in folders
    ]
    if code not in (0, 5) and all(result.passed for result in results):  # 5: there are no tests
        results.append(Result("tests", False, f"pytest ended with exit code {code}"))
    return results


def run_pytest(root: Path, arguments: list[str]) -> tuple[int, list[Case]]:
    """Run pytest once, with assertions on; return its exit code and the result of each test."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--no-header", "--continue-on-collection-errors"]
        command += [f"--junitxml={report}", *arguments]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONOPTIMIZE"}
        code = subprocess.run(command, cwd=root, env=env, stdout=STDERR).returncode
        return code, read_report(report) if report.exists() else []


def read_report(report: Path) -> list[Case]:
    """The tests in pytest's JUnit report; a file that cannot be imported counts as one test."""
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
    """A failure in one line; for a notebook cell, nbval's verdict and the error."""
    message, text = (COLOUR.sub("", words or "") for words in (found.get("message"), found.text))
    if message == "collection skipped":  # a whole file; the text is ('path', line, 'Skipped: why')
        return text.partition("Skipped: ")[2].strip().rstrip("'\")")
    cell = CELL.search(text)
    if cell is None:
        return message.partition("\n")[0]
    error = text.strip().rpartition("\n")[2] if "exception" in cell[1] else ""
    return f"{cell[1]}: {error}".removesuffix(": ")


def summarise(check: str, cases: list[Case]) -> Result:
    """One result for many tests: the counts, the time, what failed and why others were skipped."""
    failed = [case for case in cases if case.outcome in ("failure", "error")]
    passed = sum(case.outcome == "passed" for case in cases)
    skipped = sum(case.outcome == "skipped" for case in cases)
    counts = [(passed, "passed"), (len(failed), "failed"), (skipped, "skipped")]
    detail = ", ".join(f"{count} {word}" for count, word in counts if count) or "none"
    reasons = Counter(case.message for case in cases if case.outcome == "skipped")
    problems = tuple(f"{case.name}: {case.message}" for case in failed)
    problems += tuple(f"{count} skipped: {reason}" for reason, count in reasons.items())
    return Result(check, not failed, detail, problems, sum(case.seconds for case in cases))
