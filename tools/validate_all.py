"""Run every check of the course and print the results as a table.

    python tools/validate_all.py                          all checks
    python tools/validate_all.py --module 01_attention    on one folder
    python tools/validate_all.py --fast                   only checks that take seconds
    python tools/validate_all.py --json                   for programs

Progress goes to standard error, the table to standard output. A check is ok, FAILED, skipped (its
tool is not installed: the problems say how) or to come (a lesson that is not finished). Exit code 1
if any check failed. Only files that git tracks are checked: `git add` a new file first.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

from tools.checks.anatomy import check_structure
from tools.checks.attention_page import check_attention_page
from tools.checks.commands import check_commands
from tools.checks.course_files import TESTED_FOLDERS, lesson_folders
from tools.checks.covered import check_coverage
from tools.checks.exercises import check_exercises
from tools.checks.layout import LESSONS
from tools.checks.links import check_links
from tools.checks.messages import check_messages
from tools.checks.result import SKIPPED, TO_COME, Result
from tools.checks.suites import check_environment, check_tests
from tools.checks.text import check_notebooks, check_text_blocks
from utils.command_line import OneLineParser
from utils.errors import pick

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 80
SHOWN = 20  # problems per check; --json has all of them

# The complete lessons: every file of the anatomy must be there.
READY = LESSONS

LEFT_OUT_WHEN_FAST = ["tests", "coverage", "exercises", "text blocks", "notebooks"]

Check = Callable[[Path, str | None], list[Result]]
CHECKS: dict[str, Check] = {
    "structure": lambda root, module: check_structure(root, module, READY),
    "environment": check_environment,
    "interactive page": check_attention_page,
    "links": check_links,
    "commands": check_commands,
    "messages": check_messages,
    "tests": check_tests,
    "coverage": check_coverage,  # of the tests before it
    "exercises": check_exercises,
    "text blocks": check_text_blocks,
    "notebooks": check_notebooks,
}
NEEDS = {  # the module that a check cannot do without, its package, and what installs it
    "tests": ("pytest", "pytest", "make install"),
    "coverage": ("pytest_cov", "pytest-cov", "make install-dev"),
    "exercises": ("pytest", "pytest", "make install"),
    "notebooks": ("nbval", "nbval", "make install"),
}


def main() -> int:
    """Run the selected checks; 0 if none failed, 1 otherwise."""
    options = read_options()
    left_out = LEFT_OUT_WHEN_FAST if options.fast else ["tests"] if options.skip_tests else []
    start = time.perf_counter()
    results = [
        result
        for name, check in CHECKS.items()
        if name not in left_out
        for result in run(name, check, options.module)
    ]
    seconds = time.perf_counter() - start
    show = as_json if options.json else as_table
    print(show(results, seconds, left_out))
    return 0 if all(result.passed for result in results) else 1


def read_options() -> argparse.Namespace:
    """The command line. Raises UsageError for an unknown module."""
    parser = OneLineParser(description="Run every check of the course.")
    parser.add_argument("--module", metavar="FOLDER", help="check one folder, e.g. 01_attention")
    parser.add_argument("--fast", action="store_true", help="run only checks that take seconds")
    parser.add_argument("--skip-tests", action="store_true", help="leave out the tests")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    if options.module is not None:
        pick(options.module, [*lesson_folders(ROOT), *TESTED_FOLDERS], "module")
    return options


def run(name: str, check: Check, module: str | None) -> list[Result]:
    """Run one check, showing progress; a result without a time gets the time of the check."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    results = missing_tool(name) or check(ROOT, module)
    seconds = time.perf_counter() - start
    print(f"{name}: {summary(results)} ({seconds:.1f} s)", file=sys.stderr, flush=True)
    return [
        replace(result, seconds=seconds) if result.seconds is None else result for result in results
    ]


def missing_tool(name: str) -> list[Result]:
    """The result of a check whose tool is not installed; empty if it is there."""
    module, package, command = NEEDS.get(name, ("sys", "", ""))
    if find_spec(module) is not None:
        return []
    return [
        Result(name, True, f"needs {package}", (f"needs {package}: {command}",), status=SKIPPED)
    ]


def summary(results: list[Result]) -> str:
    """The results of one check or of all, in a few words: "1 failed, 2 skipped", "all ok"."""
    failed = sum(not result.passed for result in results)
    words = [f"{failed} failed"] if failed else []
    for status in (SKIPPED, TO_COME):
        count = sum(result.status == status for result in results)
        words += [f"{count} {status}"] if count else []
    ok = len(results) - failed - sum(bool(result.status) for result in results)
    return ", ".join(words if failed or not ok else ["all ok" if not words else f"{ok} ok", *words])


def as_table(results: list[Result], seconds: float, left_out: list[str]) -> str:
    """One row per result, the total, and below the table the problems of what failed."""
    lines = [row("check", "result", "seconds", "details"), "-" * WIDTH]
    for result in results:
        time_taken = f"{result.seconds or 0:.1f}"
        lines.append(row(result.check, result.word, time_taken, result.detail))
    failed = [result for result in results if not result.passed]
    verdict = "FAILED" if failed else "ok"
    lines += ["-" * WIDTH, row("all", verdict, f"{seconds:.1f}", summary(results))]
    if left_out:
        lines.append(f"left out: {', '.join(left_out)}")
    for result in results:
        if result.problems:
            lines += ["", f"{result.check}: {result.word}", *wrapped(result.problems)]
    return "\n".join(lines)


def row(check: str, result: str, seconds: str, details: str) -> str:
    """One line of the table, never wider than WIDTH."""
    line = f"{check:<32}{result:<8}{seconds:>7}  {details}"
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def wrapped(problems: tuple[str, ...]) -> list[str]:
    """The first problems, wrapped at WIDTH."""
    lines = []
    for problem in problems[:SHOWN]:
        lines += textwrap.wrap(
            problem, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more")
    return lines


def as_json(results: list[Result], seconds: float, left_out: list[str]) -> str:
    """The same as JSON, with every problem."""
    report = {
        "passed": all(result.passed for result in results),
        "seconds": round(seconds, 3),
        "left_out": left_out,
        "results": [asdict(result) for result in results],
    }
    return json.dumps(report, indent=2)


if __name__ == "__main__":
    run_program(main)
