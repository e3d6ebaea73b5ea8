"""Checks for maintainers: can each exercise be failed, solved and diagnosed?

For each lesson: exercises.py is what a learner should get (every stub untouched and made from its
solution), no hint holds a line of its solution, every stub counts as not started, and every known
wrong answer is rejected with its own diagnosis. Its page leads to each exercise, and
nothing is left of what tools/new_exercise.py marks TODO. The tests check that the solutions pass.
"""

import ast
import itertools
import re
import statistics
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.checks.result import Result
from utils.errors import CourseError
from utils.grader.exercises import THEORY, Exercise, Lesson, lessons
from utils.grader.forked import CAN_FORK, ForkedWorker
from utils.grader.learner_code import LoadError, functions, read_source
from utils.grader.report import CLEAR, TO_DO, WRONG, Case, diagnose
from utils.grader.runner import Worker, collect_cases, judge, test_path
from utils.grader.stubs import make_stubs

START = ForkedWorker if CAN_FORK else Worker  # a process for a lesson's wrong answers
AT_ONCE = 2  # lessons; each keeps a core busy
MISCONCEPTIONS = 3  # per exercise, unless its yaml gives a reason for fewer
TELLING = 12  # characters of a line of the solution that a hint must not hold
NUMBERS = (
    *("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)


def check_exercises(root: Path, module: str | None) -> list[Result]:
    """One result per lesson that has exercises."""
    try:
        found = [lesson for lesson in lessons(root) if module in (None, lesson.name)]
    except CourseError as error:
        return [Result("exercises", False, "could not be read", (str(error),))]
    with ThreadPoolExecutor(AT_ONCE) as pool:  # each lesson is judged in processes of its own
        return [*pool.map(check_lesson, found)]


def check_lesson(lesson: Lesson) -> Result:
    """Run all checks on one lesson."""
    problems: list[str] = []
    try:
        problems += [*list_problems(lesson), *stub_problems(lesson), *hint_problems(lesson)]
        problems += [*todo_problems(lesson), *page_problems(lesson)]
        wrong_answers = judge_misconceptions(lesson)
        problems += misconception_problems(lesson, wrong_answers)
        problems += not_started_problems(lesson)
    except (CourseError, OSError, SyntaxError) as error:
        found = (*problems, str(error))  # an earlier problem may be the cause
        return Result(f"exercises {lesson.name}", False, "could not run", found)
    counts = [len(wrong_answers.get(one.id, ())) for one in lesson.exercises]
    middle = f"median {statistics.median(counts):g} per exercise"
    detail = f"{len(counts)} exercises, {sum(counts)} wrong answers diagnosed, {middle}"
    detail = detail if not problems else f"{len(problems)} problems"
    return Result(f"exercises {lesson.name}", not problems, detail, tuple(problems))


def list_problems(lesson: Lesson) -> list[str]:
    """Compare exercises.yaml with the tests: each test is listed once, and difficulty rises."""
    where = f"{lesson.name}/exercises/exercises.yaml"
    tests = tests_with_ex(lesson.test_file())
    listed = [test for exercise in lesson.exercises for test in exercise.judge]
    problems = [
        f"{where}: {exercise.id}: no test {test} in {lesson.test_file().name}"
        for exercise in lesson.exercises
        for test in exercise.judge
        if test not in tests
    ]
    problems += [f"{where}: {test} is not listed" for test in tests if test not in listed]
    problems += [
        f"{where}: {test} is listed twice" for test in sorted(set(listed)) if listed.count(test) > 1
    ]
    for _, group in itertools.groupby(lesson.exercises, key=lambda one: one.page):
        levels = [exercise.difficulty for exercise in group]  # a new page begins anew
        if levels != sorted(levels):
            problems.append(f"{where}: the difficulty must not fall: {levels}")
    return problems


def tests_with_ex(path: Path) -> list[str]:
    """The test functions of a file that use the fixture `ex`."""
    return [
        node.name
        for node in ast.parse(path.read_bytes(), str(path)).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test")
        and "ex" in [argument.arg for argument in node.args.args]
    ]


def stub_problems(lesson: Lesson) -> list[str]:
    """exercises.py must hold every stub, untouched and as made from its solution."""
    where = f"{lesson.name}/exercises/exercises.py"
    try:
        source = read_source(lesson.file)
    except LoadError as error:
        return [f"{where}: {error}"]
    wanted = {(exercise.id, stub) for exercise in lesson.exercises for stub in exercise.stubs}
    found = {(stub.exercise, stub.name) for stub in source.stubs()}
    problems = [f"{where}: {one} {name} is not an untouched stub" for one, name in wanted - found]
    problems += [f"{where}: {one} {name} is not in the yaml" for one, name in found - wanted]
    text = source.data.decode("utf-8")
    problems += [
        f"{where}: {name} differs from its solution outside the body"
        for name, stub in make_stubs(lesson).items()
        if stub not in text
    ]
    return sorted(problems)


def not_started_problems(lesson: Lesson) -> list[str]:
    """Every exercise of the untouched file must be to do."""
    verdicts, _ = judge(lesson, start=START)
    return [
        f"{lesson.name}: {one} is {found.outcome} before it was started: {found.message}"
        for one, found in verdicts.items()
        if found.outcome != TO_DO
    ]


def hint_problems(lesson: Lesson) -> list[str]:
    """The hints lead to the code without giving it: none holds a line of its solution."""
    lines = solution_lines(lesson)
    return [
        f"{lesson.name}: {exercise.id}: hint {number} gives away a line of the solution: {line}"
        for exercise in lesson.exercises
        for number, hint in enumerate(exercise.hints, start=1)
        for line in lines[exercise.id]
        if squeezed(line) in squeezed(hint)
    ]


def todo_problems(lesson: Lesson) -> list[str]:
    """What tools/new_exercise.py marks TODO has been written; only the comment of a stub stays."""
    files = [lesson.folder / "exercises" / "exercises.yaml", lesson.file, lesson.solutions]
    files += [lesson.test_file(), lesson.misconceptions_file()]
    problems = []
    for path in files:
        where = path.relative_to(lesson.folder.parent).as_posix()
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        problems += [
            f"{where}:{number}: still to write: {line.strip()}"
            for number, line in enumerate(lines, start=1)
            if "TODO" in line and not (path == lesson.file and "# TODO" in line)
        ]
    return problems


def page_problems(lesson: Lesson) -> list[str]:
    """The page of each exercise names it, and the lesson's README says how many there are.

    An exercise of theory.md may be named by any page of the lesson; one of another page by that.
    """
    pages = {path.name: path.read_text(encoding="utf-8") for path in lesson.folder.glob("*.md")}
    texts = {THEORY: "\n".join(pages.values())}
    for page in {one.page for one in lesson.exercises} - {THEORY}:
        path = lesson.folder / page
        texts[page] = path.read_text(encoding="utf-8") if path.is_file() else ""
    problems = [
        f"{lesson.name}: no page names {one.id}; {one.page} should lead to it: Now write {one.id}"
        for one in lesson.exercises
        if pages and not re.search(rf"(?<![\d.]){re.escape(one.id)}(?!\d)", texts[one.page])
    ]
    count = len(lesson.exercises)
    said = re.search(r"\| (\w+) exercises\b", pages.get("README.md", ""))
    if said and said[1] not in (str(count), number_word(count)):
        problems.append(f"{lesson.name}/README.md says {said[0][2:]}; there are {count}")
    return problems


def number_word(number: int) -> str:
    """A number up to 20 in words."""
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def solution_lines(lesson: Lesson) -> dict[str, list[str]]:
    """By exercise, the lines of its solution that are long enough to give something away."""
    text = lesson.solutions.read_text(encoding="utf-8-sig")
    owners = {stub: exercise.id for exercise in lesson.exercises for stub in exercise.stubs}
    lines: dict[str, list[str]] = {exercise.id: [] for exercise in lesson.exercises}
    for name, node in functions(ast.parse(text, str(lesson.solutions))):
        if name in owners:
            start = 1 if ast.get_docstring(node) is not None else 0
            body = "\n".join(ast.unparse(one) for one in node.body[start:])
            lines[owners[name]] += [one.strip() for one in body.splitlines() if is_telling(one)]
    return lines


def is_telling(line: str) -> bool:
    """Whether a line of code would give something away."""
    return len(squeezed(line)) >= TELLING


def squeezed(text: str) -> str:
    """A text without whitespace and in one kind of quotes."""
    return "".join(text.split()).replace('"', "'")


def judge_misconceptions(lesson: Lesson) -> dict[str, dict[str, list[Case]]]:
    """The cases of each known wrong answer, by exercise and name."""
    cases: dict[str, list[Case]] = defaultdict(list)
    arguments = [test_path(lesson), "--misconceptions", "-m", "exercise"]
    job = {"root": str(lesson.folder.parent), "arguments": arguments}
    with START() as worker:
        lost = collect_cases(worker, job, cases)
    if lost is not None:
        raise CourseError(f"{lesson.name}: wrong answers of {lost.exercise}: {lost.problem}")
    groups: dict[str, dict[str, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for exercise, found in cases.items():
        for case in found:
            if case.wrong_answer:
                groups[exercise][case.wrong_answer].append(case)
    return groups


def misconception_problems(
    lesson: Lesson, wrong_answers: dict[str, dict[str, list[Case]]]
) -> list[str]:
    """Each exercise has enough wrong answers; each is clearly rejected with its own diagnosis."""
    problems = []
    for exercise in lesson.exercises:
        found = wrong_answers.get(exercise.id, {})
        problems += count_problems(lesson, exercise, len(found))
        for name, cases in found.items():
            fault = fault_of(cases)
            if fault:
                problems.append(f"{lesson.name}: {exercise.id}: {name} {fault}")
    return problems


def count_problems(lesson: Lesson, exercise: Exercise, count: int) -> list[str]:
    """Fewer than three wrong answers need a reason; three or more must not give one."""
    where = f"{lesson.name}: {exercise.id} has {count} misconceptions"
    if count < MISCONCEPTIONS and not exercise.fewer_misconceptions:
        return [f"{where}; it needs {MISCONCEPTIONS}, or a reason in fewer_misconceptions"]
    if count >= MISCONCEPTIONS and exercise.fewer_misconceptions:
        return [f"{where}, so fewer_misconceptions is outdated"]
    return []


def fault_of(cases: list[Case]) -> str:
    """What is wrong with a known wrong answer; "" if it is rejected as it should be."""
    failed = [case for case in cases if case.outcome == WRONG and not case.is_replaced]
    if not failed:
        return "passes every test"
    if max(case.margin for case in failed) < CLEAR:
        return f"is less than {CLEAR} tolerances from the right answer"
    found = diagnose(cases)
    if not found.first:
        return f"is rejected without a diagnosis{reason(failed)}"
    if found.first != failed[0].own_diagnosis or found.second:
        return f"gets the diagnosis of another one: {found.first}"
    return ""


def reason(failed: list[Case]) -> str:
    """Why a wrong answer has no diagnosis: others give the same results, or none explains them."""
    explained = [case.explained_by for case in failed if case.explained_by is not None]
    candidates = frozenset.intersection(*explained) if explained else frozenset()
    if candidates:
        return f"; it cannot be told apart from: {' / '.join(sorted(candidates))}"
    return f": {failed[0].message}"
