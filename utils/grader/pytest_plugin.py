"""pytest for exercises: the fixture `ex`, three outcomes, and messages in place of tracebacks.

    pytest 01_attention                     judges exercises.py
    pytest 01_attention --solutions         judges solutions.py, where nothing may be to do
    pytest 01_attention --misconceptions    judges each known wrong answer, put into the solutions

A test belongs to the exercise whose `judge` names it in exercises.yaml. The root conftest.py loads
this plugin; torch is imported only when a test asks for `ex`.
"""

import importlib.util
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utils.errors import CourseError
from utils.grader.exercises import Exercise, Lesson, read_lesson
from utils.grader.report import SOLVED, WRONG, Case, failure_text

if TYPE_CHECKING:
    from utils.grader.guard import Clock, Guarded, Learner

PRINTED = 1000  # characters that are kept of what an exercise prints
EXERCISE = pytest.StashKey[tuple[Lesson, Exercise]]()
CASE = pytest.StashKey[Case]()
LESSONS = pytest.StashKey[dict[Path, Lesson | None]]()
LEARNERS = pytest.StashKey[dict[Path, "Learner"]]()
CLOCKS = pytest.StashKey[dict[tuple[str, str], "Clock"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("exercises")
    group.addoption("--solutions", action="store_true", help="judge solutions.py")
    group.addoption(
        "--misconceptions", action="store_true", help="judge every known wrong answer instead"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exercise: judges what a learner wrote")
    config.stash[LESSONS] = {}
    config.stash[LEARNERS] = {}
    config.stash[CLOCKS] = {}
    # With CI in the environment pytest would print each message again, whole, in its summary.
    config.option.force_short_summary = True


# --- which test belongs to which exercise ---


def lesson_of(config: pytest.Config, test_file: Path) -> Lesson | None:
    """The lesson whose exercises this file judges, None for any other file. Read once a run."""
    if not test_file.name.endswith("_exercises.py") or test_file.parent.name != "tests":
        return None
    folder = test_file.parents[1]
    known = config.stash[LESSONS]
    if folder not in known:
        has_list = (folder / "exercises" / "exercises.yaml").is_file()
        known[folder] = read_lesson(folder) if has_list else None
    return known[folder]


def exercise_of(lesson: Lesson, test: str) -> Exercise | None:
    """The exercise that this test function judges."""
    return next((one for one in lesson.exercises if test in one.judge), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell each test its exercise. Raises UsageError for a list of exercises that is wrong."""
    for item in items:
        if "ex" not in getattr(item, "fixturenames", ()):
            continue
        try:
            lesson = lesson_of(config, item.path)
        except CourseError as error:
            raise pytest.UsageError(str(error)) from None
        name = getattr(item, "originalname", item.name)
        exercise = exercise_of(lesson, name) if lesson else None
        if lesson is not None and exercise is not None:
            item.stash[EXERCISE] = (lesson, exercise)
            item.add_marker("exercise")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With --misconceptions, run each test once for every wrong answer of its exercise."""
    if "ex" not in metafunc.fixturenames or not metafunc.config.getoption("misconceptions"):
        return
    lesson = lesson_of(metafunc.config, Path(metafunc.definition.path))
    exercise = exercise_of(lesson, metafunc.function.__name__) if lesson else None
    if lesson is None or exercise is None:
        return
    known = misconceptions_of(lesson)
    wrong = [(name, each) for name in exercise.names for each in known.get(name, ())]
    ids = [each.__name__ for _, each in wrong]
    metafunc.parametrize("ex", wrong, ids=ids, indirect=True, scope="function")


def misconceptions_of(lesson: Lesson) -> dict[str, Any]:
    """The known wrong answers of a lesson, by the name of what they stand in for."""
    path = lesson.misconceptions_file()
    spec = importlib.util.spec_from_file_location(f"_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # the file is there
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MISCONCEPTIONS


# --- the fixture ---


@pytest.fixture
def ex(request: pytest.FixtureRequest) -> Iterator["Guarded"]:
    """The learner's exercises, guarded; the solutions with --solutions."""
    if EXERCISE not in request.node.stash:
        pytest.fail(f"no exercise in exercises.yaml has {request.node.name} as its judge")
    from utils.grader.feedback import diagnosis, history
    from utils.grader.guard import Clock, Guarded, same_state_afterwards

    lesson, exercise = request.node.stash[EXERCISE]
    wrong = getattr(request, "param", None)
    label = wrong[1].__name__ if wrong else ""
    path = lesson.file
    if wrong or request.config.getoption("solutions"):
        path = lesson.solutions
    learner = learner_at(request.config, path)
    if wrong:
        learner = with_wrong_answer(learner, *wrong)
    clock = request.config.stash[CLOCKS].setdefault((exercise.id, label), Clock())
    own = diagnosis(wrong[1]) if wrong else ""
    request.node.stash[CASE] = Case(exercise.id, wrong_answer=label, own_diagnosis=own)
    history.clear()
    with same_state_afterwards():
        yield Guarded(learner, exercise.id, known_wrong_answers(request.config, lesson), clock)


def learner_at(config: pytest.Config, path: Path) -> "Learner":
    """The file, loaded once a run."""
    from utils.grader.guard import Learner
    from utils.grader.learner_code import LoadError, read_source

    loaded = config.stash[LEARNERS]
    if path not in loaded:
        try:
            source = read_source(path)
        except LoadError as error:
            source = error
        loaded[path] = Learner(source)
    return loaded[path]


KNOWN: dict[Path, dict[str, Any]] = {}


def known_wrong_answers(config: pytest.Config, lesson: Lesson) -> dict[str, Any]:
    """The same as misconceptions_of, loaded once."""
    if lesson.folder not in KNOWN:
        KNOWN[lesson.folder] = misconceptions_of(lesson)
    return KNOWN[lesson.folder]


def with_wrong_answer(learner: "Learner", name: str, misconception: Any) -> Any:
    """The solutions, in which one function is a known wrong answer."""
    module = SimpleNamespace(**{**vars(learner.module), name: misconception})
    return SimpleNamespace(source=learner.source, problem=learner.problem, module=module)


# --- the three outcomes ---


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Turn what an exercise's test raises into: to do (skipped), or wrong with a message."""
    if EXERCISE not in item.stash:
        return (yield)
    from utils.grader.feedback import Wrong, history
    from utils.grader.guard import BrokenFile, NotStarted

    case = item.stash[CASE]
    try:
        result = yield
        case.outcome = SOLVED
        return result
    except NotStarted as stub:
        if not item.config.getoption("solutions"):
            pytest.skip(f"to do: {stub}")
        error: BaseException = Wrong(f"the solution of {stub} is a stub")
    except (Exception, SystemExit, pytest.fail.Exception) as any_error:  # pytest.raises fails, too
        error = any_error
    finally:
        case.refuted = frozenset(history.refuted)
    case.outcome = WRONG
    case.message = f"the answer cannot be used: {type(error).__name__}: {error}"
    if isinstance(error, Wrong):
        case.message, case.margin = error.message, error.margin
        case.explained_by = error.explained_by
        case.broken_file = isinstance(error, BrokenFile)
    pytest.fail(case.message, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report know its case, for the summary."""
    report = yield
    case = item.stash.get(CASE, None)
    if case is not None and report.when == "call":
        case.printed = report.capstdout[:PRINTED]
        vars(report)["case"] = asdict(case)  # plain, for it may come from another process
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None, None, None]:
    """Print one message an exercise, not one a test."""
    failed = terminalreporter.stats.get("failed", [])
    groups: dict[str, list[Any]] = defaultdict(list)
    for report in failed:
        case = case_of(report)
        groups[f"{case.exercise} {case.wrong_answer}" if case else report.nodeid].append(report)
    for reports in groups.values():
        cases = [case for report in reports if (case := case_of(report))]
        if cases:
            reports[0].longrepr = failure_text(cases)
            reports[0].sections = []  # what was printed is in the text, as far as anyone reads it
    if failed:
        terminalreporter.stats["failed"] = [reports[0] for reports in groups.values()]
    return (yield)


def case_of(report: Any) -> Case | None:
    """The case that a report is of; None where no exercise is judged."""
    return Case(**report.case) if hasattr(report, "case") else None
