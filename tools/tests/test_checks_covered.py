"""tools/checks/covered.py: lines that no test runs are named; an old measurement is not used."""

import os
import re
import time
from pathlib import Path

import pytest
from coverage import CoverageData

from tools.checks import covered
from tools.checks.result import SKIPPED

ROOT = Path(__file__).resolve().parents[2]
GUARD = "try:\n    import torch\nexcept ImportError:\n    raise SystemExit('no') from None\n"
FILES = {
    "pyproject.toml": (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    "utils/full.py": GUARD + "".join(f"x{n} = {n}\n" for n in range(94)),  # 96 lines count
    "utils/tests/test_full.py": "never = 1\n",
    "01_one/half.py": "def f():\n    return 1\n",
    "01_one/exercises/solutions.py": "never = 1\n",
    "01_one/pictures/draw.py": "never = 1\n",
}
FULL = list(range(1, 3)) + list(range(5, 99))


def build(root: Path, lines: dict[str, list[int]], age: float = 0.0) -> Path:
    """A course of FILES with the measurement of a run of its tests, which is `age` seconds old."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    data = CoverageData(str(root / covered.DATA))
    data.add_lines({str(root / name): numbers for name, numbers in lines.items()})
    data.write()
    moment = time.time() + 1 - age
    os.utime(root / covered.DATA, (moment, moment))
    return root


def test_a_course_whose_lines_all_run_passes(tmp_path: Path) -> None:
    root = build(tmp_path, {"utils/full.py": FULL, "01_one/half.py": [1, 2]})
    [found] = covered.check_coverage(root, None)
    assert (found.word, found.detail) == ("ok", "100.0% of 98 lines")


def test_a_few_lines_that_do_not_run_are_allowed(tmp_path: Path) -> None:
    root = build(tmp_path, {"utils/full.py": FULL[:-4], "01_one/half.py": [1, 2]})
    [found] = covered.check_coverage(root, None)  # 92 of 96 are 95.8%
    assert (found.word, found.detail, found.problems) == ("ok", "95.9% of 98 lines", ())


def test_a_folder_with_too_many_lines_that_do_not_run_fails_and_its_modules_are_named(
    tmp_path: Path,
) -> None:
    root = build(tmp_path, {"utils/full.py": FULL[:-5], "01_one/half.py": [1, 2]})
    [found] = covered.check_coverage(root, None)
    assert found.word == "FAILED"
    assert found.problems == (
        "utils: 94.8% of 96 lines; at least 95%",
        "utils/full.py: 95%, not run: 94-98",
    )


def test_a_module_that_no_test_imports_counts_with_all_its_lines(tmp_path: Path) -> None:
    [found] = covered.check_coverage(build(tmp_path, {"utils/full.py": FULL}), None)
    assert found.problems == (
        "01_one: 0.0% of 2 lines; at least 95%",
        "01_one/half.py: 0%, not run: 1-2",
    )


def test_a_module_below_the_limit_is_named_even_where_its_folder_is_not(tmp_path: Path) -> None:
    root = build(tmp_path, {"utils/full.py": FULL, "01_one/half.py": [1, 2]})
    (root / "utils" / "small.py").write_text("x = 1\n", encoding="utf-8")
    moment = (root / covered.DATA).stat().st_mtime - 1
    os.utime(root / "utils" / "small.py", (moment, moment))
    [found] = covered.check_coverage(root, None)
    assert (found.word, found.problems) == ("ok", ("utils/small.py: 0%, not run: 1",))


@pytest.mark.parametrize("name", ["utils/full.py", "utils/tests/test_full.py"])
def test_a_measurement_from_before_a_change_is_not_used(name: str, tmp_path: Path) -> None:
    root = build(tmp_path, {})
    later = time.time() + 60
    os.utime(root / name, (later, later))
    [found] = covered.check_coverage(root, None)
    assert (found.passed, found.status) == (True, SKIPPED)
    [said] = found.problems
    assert said == f"needs a new run of the tests, as {name} has changed: {covered.MEASURE}"


def test_without_a_measurement_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    root = build(tmp_path, {})
    (root / covered.DATA).unlink()
    [found] = covered.check_coverage(root, None)
    assert found.status == SKIPPED
    assert found.problems == (f"needs a measured run of the tests: {covered.MEASURE}",)


def test_one_folder_alone_says_nothing(tmp_path: Path) -> None:
    assert covered.check_coverage(build(tmp_path, {}), "utils") == []


def test_the_workflow_measures_in_one_of_its_runs() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.search(r"run: \$PY -m pytest .*--cov --cov-report=", workflow)


def test_what_runs_in_child_processes_exists_and_is_left_out() -> None:
    assert all((ROOT / name).is_file() for name in covered.IN_CHILDREN)
    measured = {path.as_posix() for path in covered.measured_modules(ROOT)}
    assert measured.isdisjoint(covered.IN_CHILDREN)
    assert "utils/grader/guard.py" in measured
