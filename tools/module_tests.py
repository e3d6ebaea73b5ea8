"""Run the tests of one folder: the course's own code first, then your exercises.

    make test-module MODULE=01_attention
    python tools/module_tests.py 01_attention

The exercises are checked as by `learn.py check`: one message each, then a summary. An exercise that
is still to do is not a failure. (The file is not called test_module.py because pytest would collect
it.)
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import os
import subprocess
import sys
from pathlib import Path

from tools.checks.course_files import TESTED_FOLDERS, lesson_folders
from utils.command_line import OneLineParser
from utils.errors import UsageError, pick
from utils.grader.check import check
from utils.grader.exercises import lessons

ROOT = Path(__file__).resolve().parents[1]
NO_TESTS = 5  # pytest's exit code if it found no tests
PYTEST = ("-q", "-p", "no:cacheprovider", "-m", "not exercise")  # works in a read-only folder


def pick_module(given: str, root: Path) -> str:
    """The folder to test. Raises UsageError for a missing or unknown name."""
    modules = [*lesson_folders(root), *TESTED_FOLDERS]
    if not given:
        raise UsageError(f"MODULE is missing; choose one of: {', '.join(modules)}")
    return pick(given.rstrip("/\\"), modules, "module")


def main(root: Path = ROOT) -> int:
    """Exit code 0 if nothing is wrong, 1 if something is, 2 for an unknown module."""
    parser = OneLineParser(description="Run one folder's tests, then check its exercises.")
    parser.add_argument("module", nargs="*", help="the folder, such as 01_attention")
    module = pick_module(" ".join(parser.parse_args().module), root)
    lesson = next((one for one in lessons(root) if one.name == module), None)
    if lesson is not None:
        print(f"The course's own code in {module}:", flush=True)
    command = [sys.executable, "-m", "pytest", *PYTEST, module]
    environment = {**os.environ, "PYTHONOPTIMIZE": ""}  # the tests need assert statements
    code = subprocess.run(command, cwd=root, env=environment).returncode
    if code == NO_TESTS:
        print(f"{module} has no tests of its own; make verify checks the environment")
    failed = code not in (0, NO_TESTS)
    if lesson is not None:
        print("\nYour exercises:", flush=True)
        failed = bool(check(lesson, lesson.exercises)) or failed
    return int(failed)


if __name__ == "__main__":
    run_program(main)
