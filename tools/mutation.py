"""Are the tests of a lesson's exercises sharp? Change the solutions a little, and see who notices.

    python -m pip install -e ".[mutation]"
    python tools/mutation.py 01_attention

Each change (a mutant: + for -, < for <=, a number one larger, ...) is made by cosmic-ray in a copy
of the repository, where the tests that judge the exercises then run on the changed solutions. A
mutant that every test passes is printed: either a test is missing, or the change changes nothing.
It takes about three seconds a mutant.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from tools.checks.course_files import kept_files
from utils.command_line import OneLineParser
from utils.errors import CourseError, pick
from utils.grader.exercises import Lesson, lessons

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60.0  # a mutant that runs longer counts as noticed
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
    """Mutate one lesson's solutions and print who survived; 1 if somebody did."""
    parser = OneLineParser(description="Change the solutions a little, and see who notices.")
    parser.add_argument("lesson", help="its folder, as 01_attention")
    name = parser.parse_args().lesson.rstrip("/\\")
    if find_spec("cosmic_ray") is None:
        raise CourseError('cosmic-ray is missing: python -m pip install -e ".[mutation]"')
    course = lessons(ROOT)
    pick(name, [lesson.name for lesson in course], "lesson")
    lesson = next(one for one in course if one.name == name)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for path in kept_files(ROOT):
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, copy / path)
        results = list(mutate(lesson, copy))
    survivors = [found for found in results if found["outcome"] == "survived"]
    for found in survivors:
        print(f"\nline {found['line']}, {found['operator']}:\n{found['diff']}")
    noticed = len(results) - len(survivors)
    print(f"\n{noticed} of {len(results)} mutants noticed ({100 * noticed / len(results):.1f}%)")
    return int(bool(survivors))


def mutate(lesson: Lesson, copy: Path) -> Iterator[dict[str, str]]:
    """Run cosmic-ray in a copy of the repository; one result a mutant."""
    tests = lesson.test_file().relative_to(ROOT).as_posix()
    command = f'"{sys.executable}" -m pytest -q -x --solutions -p no:cacheprovider {tests}'
    config = CONFIG.format(
        module=json.dumps(lesson.solutions.relative_to(ROOT).as_posix()),
        seconds=SECONDS,
        command=json.dumps(command),
    )
    (copy / "mutation.toml").write_text(config, encoding="utf-8")
    cosmic_ray(copy, "baseline", "mutation.toml")  # unchanged solutions pass
    cosmic_ray(copy, "init", "mutation.toml", "session.sqlite")
    work = [*results_so_far(copy)]
    running = subprocess.Popen(
        [sys.executable, "-m", "cosmic_ray.cli", "exec", "mutation.toml", "session.sqlite"],
        cwd=copy,
        env=environment(),
    )
    with tqdm(total=len(work), desc="mutants", disable=not sys.stderr.isatty()) as bar:
        while running.poll() is None:
            try:
                running.wait(timeout=5)
            except subprocess.TimeoutExpired:
                bar.update(sum(result is not None for _, result in results_so_far(copy)) - bar.n)
    for job, result in results_so_far(copy):
        [mutation] = job["mutations"]
        yield {
            "line": str(mutation["start_pos"][0]),
            "operator": mutation["operator_name"].removeprefix("core/"),
            "outcome": result["test_outcome"] if result else "not run",
            "diff": (result or {}).get("diff") or "",
        }


def results_so_far(copy: Path) -> list[tuple[dict, dict | None]]:
    """Every mutant with what became of it, None while it waits."""
    dumped = cosmic_ray(copy, "dump", "session.sqlite")
    return [tuple(json.loads(line)) for line in dumped.splitlines() if line.strip()]


def cosmic_ray(copy: Path, *arguments: str) -> str:
    """Run one of its commands; returns what it prints. Raises CourseError if it fails."""
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
    """One thread, and no plugins that the tests do not need: half the time a mutant takes."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


if __name__ == "__main__":
    run_program(main)
