"""Check everything that must hold, and say it in a table.

    python tools/validate_all.py                          all of it
    python tools/validate_all.py --module 01_attention    one folder
    python tools/validate_all.py --fast                   only what takes seconds
    python tools/validate_all.py --json                   for programs

Progress goes to standard error, the table to standard output. Exit code 1 if any check fails.
"""

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from tools.checks.exercises import check_exercises
from tools.checks.layout import TESTED_FOLDERS, check_structure, lesson_folders
from tools.checks.links import check_links
from tools.checks.result import Result
from tools.checks.suites import check_environment, check_tests
from tools.checks.text import check_notebooks, check_text_blocks
from utils.command_line import OneLineParser
from utils.errors import pick, run_program

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 80
SHOWN = 20  # problems of one check; --json gives them all

READY = ("01_attention",)  # lessons that are complete, and so held to the whole anatomy

LEFT_OUT_WHEN_FAST = ["tests", "exercises", "text blocks", "notebooks"]

Check = Callable[[Path, str | None], list[Result]]
CHECKS: dict[str, Check] = {
    "structure": lambda root, module: check_structure(root, module, READY),
    "environment": check_environment,
    "links": check_links,
    "tests": check_tests,
    "exercises": check_exercises,
    "text blocks": check_text_blocks,
    "notebooks": check_notebooks,
}


def main() -> int:
    """Run the checks that were asked for; 0 when all pass, 1 otherwise."""
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
    """The command line. Raises UsageError for a module that is not there."""
    parser = OneLineParser(description="Check everything that must hold.")
    parser.add_argument("--module", metavar="FOLDER", help="stay in one folder: 01_attention")
    parser.add_argument("--fast", action="store_true", help="only what takes seconds")
    parser.add_argument("--skip-tests", action="store_true", help="when they have just been run")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    if options.module is not None:
        pick(options.module, [*lesson_folders(ROOT), *TESTED_FOLDERS], "module")
    return options


def run(name: str, check: Check, module: str | None) -> list[Result]:
    """Run one check, telling where we are; a result without a time gets that of the check."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    results = check(ROOT, module)
    seconds = time.perf_counter() - start
    verdict = word(all(result.passed for result in results))
    print(f"{name}: {verdict} ({seconds:.1f} s)", file=sys.stderr, flush=True)
    return [
        replace(result, seconds=seconds) if result.seconds is None else result for result in results
    ]


def word(passed: bool) -> str:
    """How the table says it."""
    return "ok" if passed else "FAILED"


def as_table(results: list[Result], seconds: float, left_out: list[str]) -> str:
    """One row a result, what failed below it, and the sum."""
    lines = [row("check", "result", "seconds", "what"), "-" * WIDTH]
    for result in results:
        time_taken = f"{result.seconds or 0:.1f}"
        lines.append(row(result.check, word(result.passed), time_taken, result.detail))
    failed = [result for result in results if not result.passed]
    verdict = f"{len(failed)} failed" if failed else "all passed"
    lines += ["-" * WIDTH, row("all", word(not failed), f"{seconds:.1f}", verdict)]
    if left_out:
        lines.append(f"left out: {', '.join(left_out)}")
    for result in failed:
        lines += ["", f"{result.check}:", *wrapped(result.problems)]
    return "\n".join(lines)


def row(check: str, result: str, seconds: str, what: str) -> str:
    """One line of the table, never wider than WIDTH."""
    line = f"{check:<28}{result:<8}{seconds:>8}  {what}"
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def wrapped(problems: tuple[str, ...]) -> list[str]:
    """The first problems, folded at WIDTH."""
    lines = []
    for problem in problems[:SHOWN]:
        lines += textwrap.wrap(
            problem, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more")
    return lines


def as_json(results: list[Result], seconds: float, left_out: list[str]) -> str:
    """The same for a program, with every problem."""
    summary = {
        "passed": all(result.passed for result in results),
        "seconds": round(seconds, 3),
        "left_out": left_out,
        "results": [asdict(result) for result in results],
    }
    return json.dumps(summary, indent=2)


if __name__ == "__main__":
    run_program(main)
