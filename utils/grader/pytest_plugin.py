"""The pytest plugin for exercises: the fixture `ex`, three outcomes, messages without tracebacks.

    pytest 01_attention                     tests exercises.py
    pytest 01_attention --solutions         tests solutions.py, where no stub may be left
    pytest 01_attention --misconceptions    tests each known wrong answer in place of its solution,
                                            until it is rejected and its mistake is named

A test belongs to the exercise that lists it under `judge` in exercises.yaml. The root conftest.py
loads this plugin; torch is imported only when a test uses `ex`.
"""

import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from utils.errors import CourseError
from utils.grader.exercises import Exercise, Lesson, read_lesson
from utils.grader.report import SOLVED, TO_DO, WRONG, Case, failure_text, is_named
from utils.grader.state_words import in_one_line

if TYPE_CHECKING:
    from utils.grader.guard import Clock, Guarded, LearnerModule
    from utils.grader.mistakes import Suspects

AS_GIVEN = "Note: this is the code as it was given, without its raise line: the bug is still in it"
PRINTED = 1000  # characters kept of an exercise's output
EXERCISE = pytest.StashKey[tuple[Lesson, Exercise]]()
CASE = pytest.StashKey[Case]()
LESSONS = pytest.StashKey[dict[Path, Lesson | None]]()
LEARNERS = pytest.StashKey[dict[Path, "LearnerModule"]]()
MISCONCEPTIONS = pytest.StashKey[dict[Path, dict[str, Any]]]()
CLOCKS = pytest.StashKey[dict[tuple[str, str], "Clock"]]()
SUSPECTS = pytest.StashKey[dict[tuple[str, str], "Suspects"]]()
WRONG_ANSWERS = pytest.StashKey[dict[tuple[str, str], list[Case]]]()  # their cases so far


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("exercises")
    group.addoption("--solutions", action="store_true", help="test solutions.py")
    group.addoption(
        "--misconceptions", action="store_true", help="test every known wrong answer instead"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exercise: tests the learner's code")
    config.stash[LESSONS] = {}
    config.stash[LEARNERS] = {}
    config.stash[MISCONCEPTIONS] = {}
    config.stash[CLOCKS] = {}
    config.stash[SUSPECTS] = {}
    config.stash[WRONG_ANSWERS] = defaultdict(list)
    # With CI in the environment, pytest would print each whole message again in its summary.
    config.option.force_short_summary = True


# --- which test belongs to which exercise ---


def lesson_of(config: pytest.Config, test_file: Path) -> Lesson | None:
    """The lesson whose exercises this file tests; None for any other file. Read once per run."""
    if not test_file.name.endswith("_exercises.py") or test_file.parent.name != "tests":
        return None
    folder = test_file.parents[1]
    known = config.stash[LESSONS]
    if folder not in known:
        has_list = (folder / "exercises" / "exercises.yaml").is_file()
        known[folder] = read_lesson(folder) if has_list else None
    return known[folder]


def exercise_of(lesson: Lesson, test: str) -> Exercise | None:
    """The exercise that this test function belongs to."""
    return next((one for one in lesson.exercises if test in one.judge), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Attach its exercise to each test. Raises UsageError for an invalid exercises.yaml."""
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
            item.repr_failure = failure_in_words(item.repr_failure)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With --misconceptions, run each test once for every wrong answer of its exercise."""
    if "ex" not in metafunc.fixturenames or not metafunc.config.getoption("misconceptions"):
        return
    try:
        lesson = lesson_of(metafunc.config, Path(metafunc.definition.path))
        exercise = exercise_of(lesson, metafunc.function.__name__) if lesson else None
        if lesson is None or exercise is None:
            return
        known = misconceptions_of(metafunc.config, lesson)
    except CourseError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    wrong = [(name, each) for name in exercise.names for each in known.get(name, ())]
    ids = [each.__name__ for _, each in wrong]
    metafunc.parametrize("ex", wrong, ids=ids, indirect=True, scope="function")


def misconceptions_of(config: pytest.Config, lesson: Lesson) -> dict[str, Any]:
    """The known wrong answers of a lesson by function or class, loaded once. Raises CourseError."""
    loaded = config.stash[MISCONCEPTIONS]
    if lesson.folder not in loaded:
        loaded[lesson.folder] = load_misconceptions(lesson.misconceptions_file())
    return loaded[lesson.folder]


def load_misconceptions(path: Path) -> dict[str, Any]:
    """MISCONCEPTIONS of one file. Raises CourseError, which names the file and the cause."""
    from utils.grader.learner_code import LoadError, load, read_source

    place = "/".join(path.parts[-3:])
    try:
        module = load(read_source(path))
    except LoadError as error:
        lines = str(error).splitlines()
        cause = f"{path.name}: {lines[0]}".replace(f"{path.name}: {path.name}", path.name)
        raise CourseError(f"{place.removesuffix(path.name)}{cause}") from None
    if not isinstance(getattr(module, "MISCONCEPTIONS", None), dict):
        raise CourseError(f"{place} must define MISCONCEPTIONS, a dictionary")
    return module.MISCONCEPTIONS


# --- the fixture ---


@pytest.fixture
def ex(request: pytest.FixtureRequest) -> Iterator["Guarded"]:
    """The learner's module behind a guard; that of the solutions with --solutions."""
    if EXERCISE not in request.node.stash:
        pytest.fail(f"no exercise in exercises.yaml lists {request.node.name} under judge")
    from utils.grader.calls import history
    from utils.grader.guard import Clock, Guarded, restored_state
    from utils.grader.mistakes import Suspects
    from utils.grader.resemblance import diagnosis

    lesson, exercise = request.node.stash[EXERCISE]
    try:
        known = misconceptions_of(request.config, lesson)
    except CourseError as error:
        pytest.fail(str(error), pytrace=False)
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
    check = check_sentence(request.node)
    request.node.stash[CASE] = Case(exercise.id, check=check, wrong_answer=label, own_diagnosis=own)
    history.clear()
    suspects = request.config.stash[SUSPECTS]
    # A known wrong answer has one mistake: no need to try pairs.
    fresh = Suspects([], is_known=True) if wrong else Suspects()
    history.suspects = suspects.setdefault((exercise.id, label), fresh)
    with restored_state():
        yield Guarded(learner, exercise, known, clock)


def check_sentence(item: pytest.Item) -> str:
    """What a test checks, as a sentence: its docstring, or its name without the underscores."""
    docstring = inspect.getdoc(getattr(item, "function", None)) or ""
    name = getattr(item, "originalname", item.name)
    return docstring.partition("\n")[0] or name.removeprefix("test_").replace("_", " ")


def learner_at(config: pytest.Config, path: Path) -> "LearnerModule":
    """The module in a file, loaded once per run."""
    from utils.grader.guard import LearnerModule
    from utils.grader.learner_code import LoadError, read_source

    loaded = config.stash[LEARNERS]
    if path not in loaded:
        try:
            source = read_source(path)
        except LoadError as error:
            source = error
        loaded[path] = LearnerModule(source)
    return loaded[path]


def with_wrong_answer(learner: "LearnerModule", name: str, misconception: Any) -> Any:
    """The solutions, with one function replaced by a known wrong answer."""
    module = SimpleNamespace(**{**vars(learner.module), name: misconception})
    return SimpleNamespace(source=learner.source, problem=learner.problem, module=module)


# --- the three outcomes ---


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Leave out the tests of a known wrong answer that was rejected and named by earlier ones.

    It gives what its misconception gives, so the later tests would only say the same again.
    """
    return True if is_done(item) else None


def wrong_answer(item: pytest.Item) -> tuple[str, str] | None:
    """The exercise and the name of the known wrong answer that an item tests, if it is one."""
    callspec = getattr(item, "callspec", None)
    wrong = callspec.params.get("ex") if callspec else None
    if not isinstance(wrong, tuple) or EXERCISE not in item.stash:  # an exercise may have none
        return None
    return item.stash[EXERCISE][1].id, wrong[1].__name__


def is_done(item: pytest.Item) -> bool:
    """Whether it tests a known wrong answer that was rejected and named already."""
    wrong = wrong_answer(item)
    return wrong is not None and is_named(item.config.stash[WRONG_ANSWERS][wrong])


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With --misconceptions, try first what has rejected and named most wrong answers so far.

    Most wrong answers then need one test, and not all those that come before it in the file.
    """
    option, plugins = session.config.option, session.config.pluginmanager
    is_shared = hasattr(session.config, "workerinput") or plugins.hasplugin("dsession")  # by xdist
    if not option.misconceptions or option.collectonly or session.testsfailed or is_shared:
        return None
    for item, following in telling_order(session.items):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    return True


def telling_order(
    items: list[pytest.Item],
) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    """The items by wrong answer, the telling ones first; with each, one that follows it.

    What follows only tells pytest which fixtures to keep: any item of the same file would do.
    """
    groups: dict[Any, list[pytest.Item]] = defaultdict(list)
    for item in items:
        groups[wrong_answer(item) or item.nodeid].append(item)
    named: Counter[str] = Counter()  # how many wrong answers each test was the one to name
    firsts = [*(group[0] for group in groups.values()), None]
    for group, first_of_next in zip(groups.values(), firsts[1:], strict=True):
        group.sort(key=lambda item: -named[test_of(item)])
        for item, following in zip(group, [*group[1:], first_of_next], strict=True):
            yield item, following
            if is_done(item):
                named[test_of(item)] += 1
                break


def test_of(item: pytest.Item) -> str:
    """The test of an item with its parameters, the same for every wrong answer."""
    wrong = wrong_answer(item)
    name, _, parameters = item.name.partition("[")
    return f"{name}[{parameters.replace(wrong[1], '', 1)}" if wrong else item.name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Turn the errors of an exercise's test into to do (skipped), or wrong with a message."""
    if EXERCISE not in item.stash:
        return (yield)
    from utils.grader.calls import history
    from utils.grader.feedback import Wrong
    from utils.grader.guard import BrokenFile, NotStarted

    case = item.stash[CASE]
    error: BaseException
    try:
        result = yield
        replaced = history.replaced or reference_used(item)
        if not replaced or item.config.getoption("solutions"):
            case.outcome = SOLVED
            return result
        case.is_replaced = True
        error = Wrong(f"correct, but written by {replaced}: now without it")
    except NotStarted as stub:
        if not item.config.getoption("solutions"):
            case.outcome = TO_DO
            pytest.skip(f"to do: {stub}")
        error = Wrong(f"the solution of {stub} is a stub")
    except (Exception, SystemExit, pytest.fail.Exception) as any_error:  # pytest.raises calls fail
        error = any_error
    finally:
        case.refuted = frozenset(history.refuted)
        case.pairs = history.suspects.diagnoses()
    case.outcome = WRONG
    case.message = f"the test cannot use the answer: {in_one_line(error)}"
    if isinstance(error, Wrong):
        case.message, case.margin = error.message, error.margin
        case.explained_by = error.explained_by
        case.resembles, case.function = error.resembles, error.function
        case.broken_file = isinstance(error, BrokenFile)
        if history.replaced and not item.config.getoption("solutions") and not case.is_replaced:
            case.message += f"\nNote: it calls {history.replaced}; the exercise is to write that"
    if not case.broken_file and is_as_given(
        item
    ):  # no idea of the learner's to diagnose, and its name would be the answer
        case.message += f"\n{AS_GIVEN}"
        case.explained_by, case.resembles, case.pairs = None, frozenset(), []
    pytest.fail(case.message, pytrace=False)


def is_as_given(item: pytest.Item) -> bool:
    """Whether the learner has not changed the code to repair yet, its `raise` line aside."""
    if item.config.getoption("solutions") or item.config.getoption("misconceptions"):
        return False
    lesson, exercise = item.stash[EXERCISE]
    source = learner_at(item.config, lesson.file).source
    return source is not None and source.is_as_given(exercise.id, exercise.stubs)


def reference_used(item: pytest.Item) -> str:
    """The module of the lesson that does the work in the learner's place, "" if none does."""
    if item.config.getoption("solutions") or item.config.getoption("misconceptions"):
        return ""
    lesson, exercise = item.stash[EXERCISE]
    source = learner_at(item.config, lesson.file).source
    modules = {path.stem for path in lesson.folder.glob("*.py")}
    solutions = learner_at(item.config, lesson.solutions).source
    given = {*(solutions.function_names() if solutions else ())} - {*exercise.stubs}
    module = source.uses(exercise.names, modules, given) if source else ""
    return f"{module}.py" if module else ""


def failure_in_words(repr_failure: Callable[..., Any]) -> Callable[..., Any]:
    """A test's repr_failure that gives a message without a traceback as it is.

    pytest would first filter the traceback that it then leaves out, which takes milliseconds.
    """

    def in_words(excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        error = excinfo.value
        if isinstance(error, pytest.fail.Exception) and not error.pytrace:
            return str(error)
        return repr_failure(excinfo)

    return in_words


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the case to the report of a test, for the summary and the worker."""
    report = yield
    case = item.stash.get(CASE, None)
    if case is not None and report.when == "call":
        case.printed = report.capstdout[:PRINTED]
        vars(report)["case"] = asdict(case)  # a dictionary can cross processes
        if case.wrong_answer:
            item.config.stash[WRONG_ANSWERS][case.exercise, case.wrong_answer].append(case)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None, None, None]:
    """Print one message per exercise, not one per test."""
    failed = terminalreporter.stats.get("failed", [])
    groups: dict[str, list[Any]] = defaultdict(list)
    for report in failed:
        case = case_of(report)
        groups[f"{case.exercise} {case.wrong_answer}" if case else report.nodeid].append(report)
    for reports in groups.values():
        cases = [case for report in reports if (case := case_of(report))]
        if cases:
            reports[0].longrepr = failure_text(cases)
            reports[0].sections = []  # the beginning of the output is in the text
    if failed:
        terminalreporter.stats["failed"] = [reports[0] for reports in groups.values()]
    return (yield)


def case_of(report: Any) -> Case | None:
    """The case of a report; None for a test that belongs to no exercise."""
    return Case(**report.case) if hasattr(report, "case") else None
