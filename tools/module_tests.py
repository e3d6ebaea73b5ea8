"""Run the tests of one folder.

    make test-module MODULE=01_attention
    python tools/module_tests.py 01_attention

(It is not called test_module.py: pytest would take it for a file of tests.)
"""

import subprocess
import sys
from pathlib import Path

from tools.house import TESTED_FOLDERS, lesson_folders
from utils.errors import UsageError, pick, run_program

ROOT = Path(__file__).resolve().parents[1]
NO_TESTS = 5  # the exit code of pytest that found nothing to run


def pick_module(given: str, root: Path) -> str:
    """The folder whose tests are meant; a missing or mistyped name raises UsageError."""
    modules = [*lesson_folders(root), *TESTED_FOLDERS]
    if not given:
        raise UsageError(f"MODULE is missing; choose one of: {', '.join(modules)}")
    return pick(given.rstrip("/\\"), modules, "module")


def main() -> int:
    """Exit code 0 when all tests pass, 1 when one fails, 2 for a name that is no module."""
    module = pick_module(" ".join(sys.argv[1:]), ROOT)
    code = subprocess.run([sys.executable, "-m", "pytest", "-q", module], cwd=ROOT).returncode
    if code == NO_TESTS:
        print(f"{module} has no tests of its own; make verify checks the environment")
    return 0 if code in (0, NO_TESTS) else 1


if __name__ == "__main__":
    run_program(main)
