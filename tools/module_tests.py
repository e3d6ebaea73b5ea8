"""Run the tests of one folder: the course's own code first, then what you wrote.

    make test-module MODULE=01_attention
    python tools/module_tests.py 01_attention

The exercises are judged as `learn.py check` judges them, one message each, and a summary ends it.
What is still to do is no failure. (The file is not called test_module.py: pytest would take it for
a file of tests.)
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import subprocess
import sys
from pathlib import Path

from tools.checks.course_files import TESTED_FOLDERS, lesson_folders
from utils.errors import UsageError, pick
from utils.grader.check import check
from utils.grader.exercises import lessons

ROOT = Path(__file__).resolve().parents[1]
NO_TESTS = 5  # the exit code of pytest that found nothing to run


def pick_module(given: str, root: Path) -> str:
    """The folder whose tests are meant; a missing or mistyped name raises UsageError."""
    modules = [*lesson_folders(root), *TESTED_FOLDERS]
    if not given:
        raise UsageError(f"MODULE is missing; choose one of: {', '.join(modules)}")
    return pick(given.rstrip("/\\"), modules, "module")


def main(root: Path = ROOT) -> int:
    """Exit code 0 when nothing is wrong, 1 when something is, 2 for a name that is no module."""
    module = pick_module(" ".join(sys.argv[1:]), root)
    lesson = next((one for one in lessons(root) if one.name == module), None)
    if lesson is not None:
        print(f"The course's own code in {module}:", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not exercise", module]
    code = subprocess.run(command, cwd=root).returncode
    if code == NO_TESTS:
        print(f"{module} has no tests of its own; make verify checks the environment")
    failed = code not in (0, NO_TESTS)
    if lesson is not None:
        print("\nWhat you wrote:", flush=True)
        failed = bool(check(lesson, lesson.exercises)) or failed
    return int(failed)


if __name__ == "__main__":
    run_program(main)
