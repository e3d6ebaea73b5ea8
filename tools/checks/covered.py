"""How many lines of the lesson modules and of utils the tests run.

`make test ARGS=--cov` measures it, which takes about twice as long as the tests alone, and leaves
it in `.coverage`; one of the workflow's machines does so for every change. pyproject.toml says
which lines do not count, and why. What only a program in a process of its own runs counts as not
run: many of these are killed on purpose, and a killed process leaves no measurement. The modules of
IN_CHILDREN are nothing but such programs, and are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.checks.course_files import lesson_folders, python_files
from tools.checks.result import SKIPPED, Result

LEAST = 95  # percent of the lines of a folder: a lesson, or utils
MEASURE = "make test ARGS=--cov"
NOT_MEASURED = {"tests", "exercises", "pictures"}
IN_CHILDREN = {  # the judge's processes: tests look at what comes out of them
    "utils/grader/forked.py",
    "utils/grader/pytest_plugin.py",
    "utils/grader/worker.py",
}
DATA = ".coverage"


@dataclass(frozen=True)
class Measured:
    """The lines of a module or folder that count, and those of them that the tests did not run."""

    name: str
    lines: int
    missing: int
    where: str = ""  # the numbers of the missing lines

    @property
    def percent(self) -> float:
        return 100 * (1 - self.missing / max(1, self.lines))


def check_coverage(root: Path, module: str | None) -> list[Result]:
    """Do the tests run most lines of every folder? Its own tests alone would not say."""
    if module is not None:
        return []
    reason = why_unknown(root)
    if reason:
        return [Result("coverage", True, "not measured", (reason,), status=SKIPPED)]
    return [summarise(list(measure(root)))]


def why_unknown(root: Path) -> str:
    """Why there is no measurement of the files as they are now; "" if there is one."""
    data = root / DATA
    if not data.is_file():
        return f"needs a measured run of the tests: {MEASURE}"
    since = data.stat().st_mtime
    changed = [path for path in python_files(root) if (root / path).stat().st_mtime > since]
    if changed:
        return f"needs a new run of the tests, as {changed[0].as_posix()} has changed: {MEASURE}"
    return ""


def measured_modules(root: Path) -> list[Path]:
    """The lesson modules and those of utils."""
    folders = {"utils", *lesson_folders(root)}
    return [
        path
        for path in python_files(root)
        if path.parts[0] in folders and NOT_MEASURED.isdisjoint(path.parts)
        if path.as_posix() not in IN_CHILDREN
    ]


def measure(root: Path) -> Iterator[Measured]:
    """What the last measured run of the tests found, by module."""
    from coverage import Coverage  # not everyone has it

    run = Coverage(data_file=str(root / DATA), config_file=str(root / "pyproject.toml"))
    run.load()
    for path in measured_modules(root):
        _, lines, _, missing, where = run.analysis2(str(root / path))
        yield Measured(path.as_posix(), len(lines), len(missing), where)


def summarise(found: list[Measured]) -> Result:
    """The share of all lines; each folder below LEAST fails, and each module below it is named."""
    names = sorted({one.name.split("/")[0] for one in found})
    folders = [
        total(name, [one for one in found if one.name.startswith(f"{name}/")]) for name in names
    ]
    low = [folder for folder in folders if folder.percent < LEAST]
    modules = sorted((one for one in found if one.percent < LEAST), key=lambda one: one.percent)
    problems = (
        *(
            f"{one.name}: {one.percent:.1f}% of {one.lines:,} lines; at least {LEAST}%"
            for one in low
        ),
        *(f"{one.name}: {one.percent:.0f}%, not run: {one.where}" for one in modules),
    )
    everything = total("all", found)
    detail = f"{everything.percent:.1f}% of {everything.lines:,} lines"
    return Result("coverage", not low, detail, problems)


def total(name: str, found: list[Measured]) -> Measured:
    """Several modules as one."""
    return Measured(name, sum(one.lines for one in found), sum(one.missing for one in found))
