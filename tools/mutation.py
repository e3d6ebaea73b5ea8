"""Mutation testing of a lesson's exercise tests: do they notice small changes of the solutions?

    python -m pip install -e ".[mutation]"
    python tools/mutation.py 01_attention

cosmic-ray makes each change (a mutant: + for -, < for <=, a constant one larger, ...) in a copy of
the repository, and runs the exercise tests on the changed solutions. A mutant that passes all tests
has survived and is printed: either a test is missing, or the mutant computes the same. It takes
about three seconds per mutant.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from tools.checks.course_files import kept_files
from utils.command_line import OneLineParser
from utils.errors import CourseError, pick
from utils.grader.exercises import Lesson, lessons
from utils.terminal import bar_options

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60.0  # a mutant that runs longer counts as killed
CONFIG = """
[cosmic-ray]
module-path = {module}
timeout = {seconds}
excluded-modules = []
test-command = {command}

[cosmic-ray.distributor]
name = "local"
"""


def main() -> int:
    """Mutate one lesson's solutions and print the survivors; 1 if there are any."""
    parser = OneLineParser(description="Mutate a lesson's solutions; print what its tests miss.")
    parser.add_argument("lesson", help="its folder, such as 01_attention")
    name = parser.parse_args().lesson.rstrip("/\\")
    if find_spec("cosmic_ray") is None:
        raise CourseError('cosmic-ray is missing: python -m pip install -e ".[mutation]"')
    course = lessons(ROOT)
    pick(name, [lesson.name for lesson in course], "lesson")
    lesson = next(one for one in course if one.name == name)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_repository(copy)
        results = mutate(lesson, copy)
    return print_results(results)


def copy_repository(target: Path) -> None:
    """Copy every file that git tracks or would track."""
    for path in kept_files(ROOT):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target / path)


def print_results(results: list[dict[str, str]]) -> int:
    """Print the survivors and the score; 1 if a mutant survived."""
    survivors = [found for found in results if found["outcome"] == "survived"]
    for found in survivors:
        print(f"\nline {found['line']}, {found['operator']}:\n{found['diff']}")
    killed = len(results) - len(survivors)
    print(f"\n{killed} of {len(results)} mutants killed ({100 * killed / len(results):.1f}%)")
    return int(bool(survivors))


def mutate(lesson: Lesson, copy: Path) -> list[dict[str, str]]:
    """Run cosmic-ray in a copy of the repository; one result per mutant."""
    (copy / "mutation.toml").write_text(configuration(lesson), encoding="utf-8")
    cosmic_ray(copy, "baseline", "mutation.toml")  # the unchanged solutions must pass
    cosmic_ray(copy, "init", "mutation.toml", "session.sqlite")
    run_mutants(copy)
    return [result_of(job, result) for job, result in results_so_far(copy)]


def configuration(lesson: Lesson) -> str:
    """cosmic-ray's configuration file: which module to change, and how to test it."""
    tests = lesson.test_file().relative_to(ROOT).as_posix()
    python = shlex.quote(sys.executable)
    command = f"{python} -m pytest -q -x --solutions -p no:cacheprovider {tests}"
    return CONFIG.format(
        module=json.dumps(lesson.solutions.relative_to(ROOT).as_posix()),
        seconds=SECONDS,
        command=json.dumps(command),
    )


def run_mutants(copy: Path) -> None:
    """Run all mutants, with a progress bar on a terminal."""
    total = len(results_so_far(copy))
    running = subprocess.Popen(
        [sys.executable, "-m", "cosmic_ray.cli", "exec", "mutation.toml", "session.sqlite"],
        cwd=copy,
        env=environment(),
    )
    with tqdm(total=total, desc="mutants", **bar_options()) as bar:
        while running.poll() is None:
            try:
                running.wait(timeout=5)
            except subprocess.TimeoutExpired:
                bar.update(sum(result is not None for _, result in results_so_far(copy)) - bar.n)


def result_of(job: dict, result: dict | None) -> dict[str, str]:
    """Where a mutant was, what it changed, and whether it survived."""
    [mutation] = job["mutations"]
    return {
        "line": str(mutation["start_pos"][0]),
        "operator": mutation["operator_name"].removeprefix("core/"),
        "outcome": result["test_outcome"] if result else "not run",
        "diff": (result or {}).get("diff") or "",
    }


def results_so_far(copy: Path) -> list[tuple[dict, dict | None]]:
    """Every mutant with its result; None for one that has not run yet."""
    dumped = cosmic_ray(copy, "dump", "session.sqlite")
    return [tuple(json.loads(line)) for line in dumped.splitlines() if line.strip()]


def cosmic_ray(copy: Path, *arguments: str) -> str:
    """Run a command of cosmic-ray; returns its output. Raises CourseError if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "cosmic_ray.cli", *arguments],
        cwd=copy,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode != 0:
        last = [*done.stderr.splitlines(), *done.stdout.splitlines(), "no message"][0]
        raise CourseError(f"cosmic-ray {arguments[0]} failed: {last}")
    return done.stdout


def environment() -> dict[str, str]:
    """One thread, and no plugins that the tests do not need: this halves the time per mutant."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONOPTIMIZE": "",  # the tests need assert statements
    }


if __name__ == "__main__":
    run_program(main)
