"""tools/checks/exercises.py: a good lesson passes, and every problem is reported.

The lessons are made up: exercise 1.1 is to write times_2(x), 1.2 times_3(x), and so on.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.checks import exercises as exercise_checks
from tools.checks.suites import Result
from utils.errors import CourseError
from utils.grader.exercises import Lesson, read_lesson
from utils.grader.report import SOLVED, WRONG, Case

LESSON = "01_first"
YAML = f"{LESSON}/exercises/exercises.yaml"
STUBS = f"{LESSON}/exercises/exercises.py"
SOLUTIONS = f"{LESSON}/exercises/solutions.py"
TESTS = f"{LESSON}/tests/test_first_exercises.py"

FUNCTION = 'def times_{k}(x: float) -> float:\n    """Exercise {one}: x times {k}."""\n    {body}\n'
TEST = """
def test_times_{k}(ex):
    for x in (5.0, 7.0):
        expect_equal(ex.times_{k}(x), {k} * x, what="x times {k}")
"""
ENTRY = """
- id: "{one}"
  title: Times {k}
  kind: write
  stubs: [times_{k}]
  minutes: 5
  difficulty: {level}
  why: Everything counts.
  hints: [one, two, three]
  judge: [test_times_{k}]
"""
WRONG_ANSWERS = {"{k} is added": "x + {k}", "x is the exponent": "{k} ** x", "x is left": "x"}
ONE = {"{k} is added": "x + {k}"}


def exercise(k: int) -> str:
    """The exercise of times_k."""
    return f"1.{k - 1}"


def functions(count: int, body: str) -> str:
    """The first functions of the lesson, all with the same body."""
    return "\n\n".join(
        FUNCTION.format(k=k, one=exercise(k), body=body.format(k=k, one=exercise(k)))
        for k in range(2, count + 2)
    )


def misconceptions(count: int, special: Mapping[int, dict[str, str]]) -> str:
    """The wrong answers of the first functions: diagnosis and expression."""
    text, names = "", {}
    for k in range(2, count + 2):
        names[f"times_{k}"] = []
        for at, (why, expression) in enumerate(special.get(k, WRONG_ANSWERS).items()):
            name = f"wrong_{k}_{at}"
            said, value = why.format(k=k), expression.format(k=k)
            text += f'def {name}(x: float) -> float:\n    """{said}"""\n    return {value}\n\n\n'
            names[f"times_{k}"].append(name)
    table = ", ".join(
        f'"{one}": ({"".join(f"{n}, " for n in all_)})' for one, all_ in names.items()
    )
    return f"{text}MISCONCEPTIONS = {{{table}}}\n"


def build(
    root: Path,
    count: int = 2,
    special: Mapping[int, dict[str, str]] | None = None,
    edits: Mapping[str, list[tuple[str, str]]] | None = None,
) -> Lesson:
    """A lesson without problems, except for special wrong answers and edits (old, new)."""
    stub = 'raise NotImplementedError("Exercise {one}: times_{k}")  # TODO: your code here'
    numbers = range(2, count + 2)
    files = {
        "conftest.py": 'pytest_plugins = ["utils.grader.pytest_plugin"]\n',
        STUBS: functions(count, stub),
        SOLUTIONS: functions(count, "return {k} * x"),
        YAML: "".join(ENTRY.format(k=k, one=exercise(k), level=1 + (k > 3)) for k in numbers),
        TESTS: "from utils.grader.feedback import expect_equal\n"
        + "".join(TEST.format(k=k) for k in numbers),
        f"{LESSON}/tests/first_misconceptions.py": misconceptions(count, special or {}),
    }
    for name, changes in (edits or {}).items():
        for old, new in changes:
            assert old in files[name]
            files[name] = files[name].replace(old, new)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8", newline="\n")
    return read_lesson(root / LESSON)


# --- a good lesson ---


@pytest.fixture(scope="module")
def good_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lesson without problems; its second exercise has one wrong answer and a reason."""
    root = tmp_path_factory.mktemp("good")
    reason = "  fewer_misconceptions: there is one way to go wrong\n"
    edits = {YAML: [("  judge: [test_times_3]\n", f"  judge: [test_times_3]\n{reason}")]}
    build(root, 2, {3: ONE}, edits)
    return root


DETAIL = "2 exercises, 4 wrong answers diagnosed, median 2 per exercise"  # 3 and 1


def test_a_good_lesson_passes_and_its_wrong_answers_are_counted(good_root: Path) -> None:
    before = {path: path.read_bytes() for path in good_root.rglob("*") if path.is_file()}
    expected = Result("exercises 01_first", True, DETAIL)
    assert exercise_checks.check_exercises(good_root, None) == [expected]
    kept = [path for path in good_root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path: path.read_bytes() for path in kept} == before


def test_a_module_without_exercises_has_nothing_to_check(good_root: Path) -> None:
    assert exercise_checks.check_exercises(good_root, "utils") == []


# --- a lesson with a problem in each exercise ---

SPECIAL = {
    2: {**WRONG_ANSWERS, "it is right": "2 * x"},
    3: {**WRONG_ANSWERS, "3 is put in front": "3 + x"},
    4: {**WRONG_ANSWERS, "it is a hair too large": "4 * x + 4e-3"},
    5: {"5 is added": "x + 5", "x is left": "x"},
    8: {},
    9: {},
}
REASON = "  fewer_misconceptions: there is only one way to write it\n"
FAULTS = {
    YAML: [
        ("  judge: [test_times_6]\n", f"  judge: [test_times_6]\n{REASON}"),
        ("  judge: [test_times_8]\n", f"  judge: [test_times_8]\n{REASON}"),
        ("  judge: [test_times_9]\n", f"  judge: [test_times_9]\n{REASON}"),
    ],
    TESTS: [
        (TEST.format(k=8), "\ndef test_times_8(ex):\n    assert True\n"),
        ("(ex.times_9(x), 9", "(ex.times_2(x) * 4.5, 9"),
    ],
    STUBS: [('raise NotImplementedError("Exercise 1.6: times_7")', "return 7 * x")],
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result for a lesson in which exercises 1.1 to 1.8 each have a problem."""
    return exercise_checks.check_lesson(build(tmp_path_factory.mktemp("bad"), 8, SPECIAL, FAULTS))


@pytest.mark.parametrize(
    "said",
    [
        "01_first: 1.1: wrong_2_3 passes every test",
        "01_first: 1.2: wrong_3_0 is rejected without a diagnosis; it cannot be told apart from: "
        "3 is added / 3 is put in front",
        "01_first: 1.2: wrong_3_3 is rejected without a diagnosis; it cannot be told apart from: "
        "3 is added / 3 is put in front",
        "01_first: 1.3: wrong_4_3 is less than 100 tolerances from the right answer",
        "01_first: 1.4 has 2 misconceptions; it needs 3, or a reason in fewer_misconceptions",
        "01_first: 1.5 has 3 misconceptions, so fewer_misconceptions is outdated",
        "01_first/exercises/exercises.py: 1.6 times_7 is not an untouched stub",
        "01_first/exercises/exercises.py: times_7 differs from its solution outside the body",
        "01_first: 1.6 is solved before it was started: ",
        "01_first: 1.7 is solved before it was started: ",
        "01_first: 1.8 is wrong before it was started: "
        "it calls times_2 (1.1), which is still to do",
    ],
)
def test_each_problem_of_a_lesson_is_reported(faulty: Result, said: str) -> None:
    assert said in faulty.problems


def test_no_other_problem_is_reported(faulty: Result) -> None:
    assert (faulty.passed, faulty.detail) == (False, "11 problems")
    assert len(faulty.problems) == 11


# --- what the hints give away ---


@pytest.mark.parametrize(
    ("hint", "body", "given"),
    [
        ("return 2 * x + 0 * x", "return 2 * x + 0 * x", True),
        (
            '"write `total = x + x + 0*x` and return it"',
            "total = x + x + 0 * x\n    return total",
            True,
        ),
        ("return x*2 or so", "return x*2", False),  # too short to tell
        ("multiply by two and return", "return 2 * x + 0 * x", False),
        ("x + x + 0 * x", "# x + x + 0 * x\n    return 2 * x", False),  # a comment
        ('"y = max(x, key=len)"', "y = 2 * x\n    return y", False),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_hint_holds_a_line_of_its_solution(
    tmp_path: Path, hint: str, body: str, given: bool, number: int
) -> None:
    hints = ["one", "two", "three"]
    hints[number - 1] = hint
    edits = {
        YAML: [("[one, two, three]", f"[{', '.join(hints)}]")],
        SOLUTIONS: [("return 2 * x", body)],
    }
    lesson = build(tmp_path, 2, None, edits)
    found = exercise_checks.hint_problems(lesson)
    said = f"01_first: 1.1: hint {number} gives away a line of the solution: "
    assert [problem.startswith(said) for problem in found] == [True] * given


# --- what exercises.yaml says ---


HEAD = "\ndef test_times_2(ex)"


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({}, []),
        (
            {YAML: [("[test_times_2]", "[test_times_22]")]},
            ["1.1: no test test_times_22 in", "test_times_2 is not listed"],
        ),
        ({TESTS: [(HEAD, f"{HEAD}:\n    pass\n{HEAD}".replace("2", "22", 1))]},
         ["test_times_22 is not listed"]),
        ({YAML: [("[test_times_3]", "[test_times_3, test_times_2]")]},
         ["test_times_2 is listed twice"]),
        ({YAML: [("difficulty: 1", "difficulty: 4")]}, ["the difficulty must not fall: [4, 4, 2]"]),
        ({YAML: [("difficulty: 1", "difficulty: 4"),
                 ("difficulty: 2", "difficulty: 2\n  page: next.md")]}, []),
        ({TESTS: [(HEAD, f"\ndef test_ours():\n    pass\n{HEAD}")]}, []),  # does not use `ex`
        ({TESTS: [(HEAD, f"\ndef helper(ex):\n    pass\n{HEAD}")]}, []),
        ({TESTS: [("test_times_2(ex)", "test_times_2(tmp_path, ex)")]}, []),
    ],
)  # fmt: skip
def test_the_list_of_exercises_is_compared_with_the_tests(
    edits: dict[str, list[tuple[str, str]]], said: list[str], tmp_path: Path
) -> None:
    found = exercise_checks.list_problems(build(tmp_path, 3, None, edits))
    assert len(found) == len(said)
    for problem, words in zip(found, said, strict=True):
        assert problem.startswith(f"{YAML}: {words}")


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        (
            [("[one, two, three]", "[one, two]")],
            "exercise 1.1: found 2 hints; exactly 3 are needed",
        ),
        ([("[one, two, three]", "[one, two, three, four]")], "found 4 hints; exactly 3 are needed"),
        ([('"1.2"', '"1.3"')], "the ids are ['1.1', '1.3']; they must be ['1.1', '1.2']"),
    ],
)
def test_an_invalid_exercises_yaml_is_reported(
    edits: list[tuple[str, str]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(CourseError):
        build(tmp_path, 2, None, {YAML: edits})
    [found] = exercise_checks.check_exercises(tmp_path, None)
    assert (found.passed, found.detail) == (False, "could not be read")
    assert said in found.problems[0]


def test_earlier_problems_are_kept_when_the_tests_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(lesson: Lesson) -> None:
        raise CourseError("the tests could not run: not found")

    monkeypatch.setattr(exercise_checks, "judge_misconceptions", stop)
    build(tmp_path, 2, None, {YAML: [("[test_times_2]", "[test_times_22]")]})
    [found] = exercise_checks.check_exercises(tmp_path, None)
    assert (found.passed, found.detail) == (False, "could not run")
    assert "no test test_times_22" in found.problems[0]
    assert found.problems[-1] == "the tests could not run: not found"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (SOLUTIONS, "def f(:\n", "invalid syntax"),
        (TESTS, "def f(:\n", "invalid syntax (test_first_exercises.py, line 1)"),
        (SOLUTIONS, None, "solutions.py"),
        (TESTS, None, "01_first/tests must hold exactly one test_*_exercises.py; it holds none"),
    ],
)
def test_a_missing_or_invalid_file_is_a_problem_and_no_crash(
    name: str, text: str | None, said: str, tmp_path: Path
) -> None:
    lesson = build(tmp_path)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = exercise_checks.check_lesson(lesson)
    assert (found.passed, found.detail) == (False, "could not run")
    assert said in found.problems[-1]


# --- what exercises.py holds ---

RAISE = '    raise NotImplementedError("Exercise 1.1'
TOUCHED = "1.1 times_2 is not an untouched stub"
DRIFTED = "times_2 differs from its solution outside the body"


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([], []),
        ([("times_2(x: float)", "times_2(x: int)")], [DRIFTED]),
        ([("times_2(x: float)", "times_2(x: float, y: float = 0)")], [DRIFTED]),
        ([("x times 2.", "x times two.")], [DRIFTED]),
        ([(RAISE, f"    x += 1\n{RAISE}")], [TOUCHED, DRIFTED]),
        ([("Exercise 1.1: times_2", "Exercise 1.2: times_2")],
         [TOUCHED, "1.2 times_2 is not in the yaml", DRIFTED]),
        ([("def times_2", "def times_two")],
         [TOUCHED, "1.1 times_two is not in the yaml", DRIFTED]),
        ([("def times_2(", "def f(:")], ["exercises.py, line 1: invalid syntax"]),
    ],
)  # fmt: skip
def test_the_stubs_are_compared_with_their_solutions(
    edits: list[tuple[str, str]], said: list[str], tmp_path: Path
) -> None:
    lesson = build(tmp_path, 2, None, {STUBS: edits})
    found = [problem.partition("\n")[0] for problem in exercise_checks.stub_problems(lesson)]
    assert found == [f"{STUBS}: {words}" for words in said]


# --- one wrong answer ---

OWN = frozenset({"own"})
APART = "is rejected without a diagnosis; it cannot be told apart from: "


def case(outcome: str = WRONG, **details: object) -> Case:
    settings = {"explained_by": OWN, "margin": 200.0, "own_diagnosis": "own", **details}
    return Case("1.1", outcome, message="it differs", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([case()], ""),
        ([case(), case(SOLVED, explained_by=None, margin=0.0)], ""),
        ([case(), case(margin=2.0)], ""),  # one clear case is enough
        ([case(margin=100.0)], ""),
        ([case(margin=99.0)], "is less than 100 tolerances from the right answer"),
        ([case(SOLVED)], "passes every test"),
        ([case(is_replaced=True, explained_by=None)], "passes every test"),  # by PyTorch
        ([], "passes every test"),
        ([case(explained_by=OWN | {"b"})], f"{APART}b / own"),
        ([case(explained_by=OWN | {"b"}), case()], ""),  # the second case tells them apart
        ([case(explained_by=None)], "is rejected without a diagnosis: it differs"),
        ([case(explained_by=frozenset())], "is rejected without a diagnosis: it differs"),
        ([case(), case(SOLVED, refuted=OWN)], f"{APART}own"),
        ([case(explained_by=frozenset({"b"}))], "gets the diagnosis of another one: b"),
    ],
)  # fmt: skip
def test_a_wrong_answer_must_be_rejected_with_its_own_diagnosis(
    cases: list[Case], said: str
) -> None:
    assert exercise_checks.fault_of(cases) == said


# --- what a scaffold leaves to write, and the pages ---


def test_an_exercise_is_named_by_the_page_that_it_says(tmp_path: Path) -> None:
    lesson = build(tmp_path, 2, edits={YAML: [('"1.2"', '"1.2"\n  page: inner/theory.md')]})
    (lesson.folder / "theory.md").write_text("Now write 1.1 and 1.2.", encoding="utf-8")
    said = "01_first: no page names 1.2; inner/theory.md should lead to it: Now write 1.2"
    assert exercise_checks.page_problems(lesson) == [said]
    (lesson.folder / "inner").mkdir()
    (lesson.folder / "inner" / "theory.md").write_text("Now write 1.2.", encoding="utf-8")
    assert exercise_checks.page_problems(lesson) == []


def test_what_is_still_marked_todo_is_a_problem(tmp_path: Path) -> None:
    edits = {
        YAML: [("why: Everything counts.", "why: TODO why it matters")],
        SOLUTIONS: [("return 3 * x", "return 3 * x  # TODO: the solution, and why")],
    }
    found = exercise_checks.todo_problems(build(tmp_path, 2, edits=edits))
    assert [problem.partition(": still to write: ")[2] for problem in found] == [
        "why: TODO why it matters",
        "why: TODO why it matters",
        "return 3 * x  # TODO: the solution, and why",
    ]
    assert found[0].startswith(f"{YAML}:")
    assert exercise_checks.todo_problems(build(tmp_path / "good", 2)) == []


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ({}, []),
        ({"theory.md": "Now write 1.1. **Now write 1.2**.", "README.md": "| two exercises"}, []),
        ({"theory.md": "Now write 1.1 and 1.20.", "README.md": "1.2"}, []),
        (
            {"theory.md": "Now write 1.1 and 1.20, or 11.2."},
            ["01_first: no page names 1.2; theory.md should lead to it: Now write 1.2"],
        ),
        (
            {"README.md": "1.1, 1.2 | three exercises, with hints"},
            ["01_first/README.md says three exercises; there are 2"],
        ),
    ],
)
def test_pages_name_and_count_the_exercises(
    pages: dict[str, str], said: list[str], tmp_path: Path
) -> None:
    lesson = build(tmp_path, 2)
    for name, text in pages.items():
        (lesson.folder / name).parent.mkdir(exist_ok=True)
        (lesson.folder / name).write_text(text, encoding="utf-8")
    assert exercise_checks.page_problems(lesson) == said
