"""The maintainer's side of the exercises: can each be failed, solved and diagnosed?

A check of a lesson asks whether exercises.py is what the learner should get (every stub untouched,
and made from its solution), whether every stub counts as not started, and whether every known wrong
answer is rejected with its own diagnosis. That the solutions pass is asked by the tests.
"""

import ast
from collections import defaultdict
from pathlib import Path

from tools.checks.result import Result
from utils.errors import CourseError
from utils.grader.exercises import Exercise, Lesson, lessons
from utils.grader.learner_code import LoadError, read_source
from utils.grader.report import TO_DO, WRONG, Case, named
from utils.grader.runner import Child, judge, listen
from utils.grader.stubs import handed_out

MISCONCEPTIONS = 3  # for each exercise, unless its yaml says why there are fewer
CLEAR = 100  # tolerances: a wrong answer must be wrong beyond doubt


def check_exercises(root: Path, module: str | None) -> list[Result]:
    """One result for each lesson that has exercises."""
    try:
        found = [lesson for lesson in lessons(root) if module in (None, lesson.name)]
    except CourseError as error:
        return [Result("exercises", False, "could not be read", (str(error),))]
    return [check_lesson(lesson) for lesson in found]


def check_lesson(lesson: Lesson) -> Result:
    """All of it for one lesson."""
    problems: list[str] = []
    try:
        problems += [*list_problems(lesson), *stub_problems(lesson)]
        wrong_answers = judge_misconceptions(lesson)
        problems += misconception_problems(lesson, wrong_answers)
        problems += not_started_problems(lesson)
    except (CourseError, OSError, SyntaxError) as error:
        found = (*problems, str(error))  # what was found before may say why it could not run
        return Result(f"exercises {lesson.name}", False, "could not run", found)
    count = sum(len(each) for each in wrong_answers.values())
    detail = f"{len(lesson.exercises)} exercises, {count} wrong answers named"
    detail = detail if not problems else f"{len(problems)} problems"
    return Result(f"exercises {lesson.name}", not problems, detail, tuple(problems))


def list_problems(lesson: Lesson) -> list[str]:
    """What exercises.yaml says must be so: the judges exist, each judges once, difficulty rises."""
    where = f"{lesson.name}/exercises/exercises.yaml"
    tests = tests_with_ex(lesson.test_file())
    named_tests = [test for exercise in lesson.exercises for test in exercise.judge]
    problems = [
        f"{where}: {exercise.id}: there is no test {test} in {lesson.test_file().name}"
        for exercise in lesson.exercises
        for test in exercise.judge
        if test not in tests
    ]
    problems += [f"{where}: {test} judges no exercise" for test in tests if test not in named_tests]
    problems += [
        f"{where}: {test} judges two exercises"
        for test in sorted(set(named_tests))
        if named_tests.count(test) > 1
    ]
    levels = [exercise.difficulty for exercise in lesson.exercises]
    if levels != sorted(levels):
        problems.append(f"{where}: the difficulty must rise: {levels}")
    return problems


def tests_with_ex(path: Path) -> list[str]:
    """The test functions of a file that ask for the fixture `ex`."""
    return [
        node.name
        for node in ast.parse(path.read_bytes(), str(path)).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test")
        and "ex" in [argument.arg for argument in node.args.args]
    ]


def stub_problems(lesson: Lesson) -> list[str]:
    """exercises.py holds every stub, untouched, and as its solution makes it."""
    where = f"{lesson.name}/exercises/exercises.py"
    try:
        source = read_source(lesson.file)
    except LoadError as error:
        return [f"{where}: {error}"]
    wanted = {(exercise.id, stub) for exercise in lesson.exercises for stub in exercise.stubs}
    found = {(stub.exercise, stub.name) for stub in source.stubs()}
    problems = [f"{where}: {one} {name} is no untouched stub" for one, name in wanted - found]
    problems += [f"{where}: {one} {name} is not in the yaml" for one, name in found - wanted]
    text = source.data.decode("utf-8")
    problems += [
        f"{where}: {name} differs from its solution in more than the body"
        for name, stub in handed_out(lesson).items()
        if stub not in text
    ]
    return sorted(problems)


def not_started_problems(lesson: Lesson) -> list[str]:
    """As handed out, every exercise is to do."""
    verdicts, _ = judge(lesson)
    return [
        f"{lesson.name}: {one} is {found.outcome} before anyone has begun: {found.message}"
        for one, found in verdicts.items()
        if found.outcome != TO_DO
    ]


def judge_misconceptions(lesson: Lesson) -> dict[str, dict[str, list[Case]]]:
    """The cases of each known wrong answer, by exercise and by name."""
    cases: dict[str, list[Case]] = defaultdict(list)
    arguments = [str(lesson.test_file()), "--misconceptions", "-m", "exercise"]
    with Child() as child:
        end = listen(child, {"root": str(lesson.folder.parent), "arguments": arguments}, cases)
    if end.problem:
        raise CourseError(f"{lesson.name}: wrong answers of {end.at}: {end.problem}")
    groups: dict[str, dict[str, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for exercise, found in cases.items():
        for case in found:
            if case.wrong_answer:
                groups[exercise][case.wrong_answer].append(case)
    return groups


def misconception_problems(
    lesson: Lesson, wrong_answers: dict[str, dict[str, list[Case]]]
) -> list[str]:
    """Enough of them, and each is rejected, clearly, and named by its own diagnosis."""
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
    """Fewer than three wrong answers need a reason, three or more need none."""
    where = f"{lesson.name}: {exercise.id} has {count} misconceptions"
    if count < MISCONCEPTIONS and not exercise.fewer_misconceptions:
        return [f"{where}; it needs {MISCONCEPTIONS}, or fewer_misconceptions says why not"]
    if count >= MISCONCEPTIONS and exercise.fewer_misconceptions:
        return [f"{where}, so fewer_misconceptions is out of date"]
    return []


def fault_of(cases: list[Case]) -> str:
    """What is wrong with a wrong answer, "" if it is rejected as it should be."""
    failed = [case for case in cases if case.outcome == WRONG]
    if not failed:
        return "passes every test"
    if max(case.margin for case in failed) < CLEAR:
        return f"is less than {CLEAR} tolerances from the truth"
    diagnosis = named(cases)
    if not diagnosis:
        first = f": {failed[0].message}"
        alike = [case.explained_by for case in failed if case.explained_by is not None]
        left = frozenset.intersection(*alike) if alike else frozenset()
        others = f"; it cannot be told from: {' / '.join(sorted(left))}" if left else first
        return f"is rejected, but not named{others}"
    if diagnosis != failed[0].own_diagnosis:
        return f"is taken for another: {diagnosis}"
    return ""
