"""tools/validate_all.py: each check on a small made-up repository, valid and broken."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from tools import validate_all
from tools.checks import anatomy, layout, suites, text
from tools.checks.result import SKIPPED, TO_COME, Result
from tools.checks.suites import Case
from utils.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "pyproject.toml": "[tool.pytest.ini_options]\ntestpaths = ['01_one']\n",
    "utils/x.py": "",
    "tools/x.py": "",
    "setup/verify_environment.py": "print('[OK] Python')\nprint('[OK] disk')\n",
    "01_one/tests/test_first.py": "def test_a():\n    pass\n\ndef test_b():\n    pass\n",
    "01_one/README.md": "```python\nassert 1 + 1 == 2\n```\n\n```python notest\nboom\n```\n",
}


def build(root: Path, changes: dict[str, str]) -> Path:
    """A repository of the files of GOOD, with changes."""
    for name, content in {**GOOD, **changes}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def test_the_structure_names_each_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anatomy, "REQUIRED", ("01_one/README.md", "01_one/first.py", "LICENSE"))
    [found, *_] = anatomy.check_structure(build(tmp_path, {}), None)
    assert (found.passed, found.detail) == (False, "1 of 3 files")
    assert found.problems == ("missing: 01_one/first.py", "missing: LICENSE")
    [inside, *_] = anatomy.check_structure(tmp_path, "01_one")
    assert inside.problems == ("missing: 01_one/first.py",)


def test_a_ready_lesson_must_have_every_file_of_the_anatomy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anatomy, "REQUIRED", ())
    monkeypatch.setattr(anatomy, "LESSONS", ("01_one", "02_two"))
    names = [
        *("first.py", "notebook.ipynb", "pictures/draw.py", "pictures/a.png", "pictures/b.png"),
        *("exercises/exercises.py", "exercises/solutions.py", "exercises/exercises.yaml"),
        *("tests/test_first_exercises.py", "tests/test_first_theory.py"),
        "tests/first_misconceptions.py",
    ]
    theory = "![a](pictures/a.png) ![b](pictures/b.png)\n"
    build(tmp_path, {f"01_one/{name}": "" for name in names} | {"01_one/theory.md": theory})
    [_, found, _] = anatomy.check_structure(tmp_path, None, ["01_one"])
    assert found.problems == ()
    assert (found.check, found.word, found.detail) == ("lesson 01_one", "ok", "13 of 13 files")
    for name in names:
        (tmp_path / "01_one" / name).unlink()
        word = anatomy.check_structure(tmp_path, None, ["01_one"])[1].word
        assert (word == "FAILED") == (name != "pictures/a.png" and name != "pictures/b.png"), name
        (tmp_path / "01_one" / name).touch()


@pytest.mark.parametrize(
    ("theory", "problem"),
    [
        ("![a](pictures/a.png)\n" + "word " * 3500, "words; at most 3,500"),
        ("![a](pictures/a.png)\n", "does not show pictures/b.png"),
        ("![a](pictures/a.png)\n", "shows 1 of its own pictures; at least 2"),
        ("```python\nx = 1\nassert x\n```\n", "theory.md:2: an assertion"),
    ],
)
def test_a_theory_that_breaks_its_rules_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theory: str, problem: str
) -> None:
    monkeypatch.setattr(anatomy, "REQUIRED", ())
    monkeypatch.setattr(anatomy, "LESSONS", ("01_one",))
    pictures = {f"01_one/pictures/{name}.png": "" for name in "ab"}
    build(tmp_path, {"01_one/theory.md": theory} | pictures)
    [_, found] = anatomy.check_structure(tmp_path, None, ["01_one"])
    assert any(problem in one for one in found.problems), found.problems


def test_a_picture_that_is_too_large_is_named(tmp_path: Path) -> None:
    pages = {"theory.md": "", "pictures/a.png": "", "pictures/b.png": "x" * 100_000}
    build(tmp_path, {f"01_one/{name}": text for name, text in pages.items()})
    large = [one for one in anatomy.theory_problems(tmp_path / "01_one") if "bytes" in one]
    assert large == ["01_one/theory.md: pictures/b.png has 100,000 bytes"]


def test_the_theory_of_a_part_of_a_lesson_keeps_the_same_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anatomy, "REQUIRED", ())
    monkeypatch.setattr(anatomy, "LESSONS", ("01_one",))
    build(tmp_path, {"01_one/part/theory.md": "word " * 3501, "01_one/part/pictures/a.png": ""})
    [_, found] = anatomy.check_structure(tmp_path, None, ["01_one"])
    assert [one for one in found.problems if one.startswith("01_one/part/theory.md")] == [
        "01_one/part/theory.md: 3,501 words; at most 3,500",
        "01_one/part/theory.md: does not show pictures/a.png",
        "01_one/part/theory.md: shows 0 of its own pictures; at least 2",
    ]


def test_the_theory_of_a_part_may_show_pictures_of_the_lesson(tmp_path: Path) -> None:
    shown = "![a](../pictures/a.png) ![b](../pictures/b.png)"
    pictures = {f"01_one/pictures/{name}.png": "" for name in "abc"}
    build(tmp_path, {"01_one/theory.md": "", "01_one/part/theory.md": shown} | pictures)
    assert anatomy.theory_problems(tmp_path / "01_one" / "part") == []
    found = anatomy.theory_problems(tmp_path / "01_one")
    assert "01_one/theory.md: does not show pictures/c.png" in found
    assert len(found) == 2  # and its own page shows none


def test_the_environment_is_checked_by_its_own_program(tmp_path: Path) -> None:
    [found] = suites.check_environment(build(tmp_path, {}), None)
    assert (found.passed, found.detail) == (True, "2 OK, 0 failed")


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("print('[OK] a')\nprint('[FAIL] torch 1.0')\nraise SystemExit(1)", "[FAIL] torch 1.0"),
        ("raise ValueError('a bug')", "ValueError: a bug"),
    ],
)
def test_a_failed_environment_names_what_failed(program: str, problem: str, tmp_path: Path) -> None:
    root = build(tmp_path, {"setup/verify_environment.py": program})
    [found] = suites.check_environment(root, None)
    assert (found.passed, found.problems) == (False, (problem,))


@pytest.fixture
def bare_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pytest that a check starts loads no plugins, so that it starts faster."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


RUNS_ONCE = """
def test_once():
    with open("runs", "ab") as file:
        file.write(b"x")
"""
MIXED = """
import pytest

def test_a():
    assert 1 == 2

def test_b():
    pytest.skip("no GPU")
"""


@pytest.mark.usefixtures("bare_pytest")
def test_tests_are_run_once_and_counted_by_folder(tmp_path: Path) -> None:
    results = suites.check_tests(build(tmp_path, {"utils/tests/test_u.py": RUNS_ONCE}), None)
    found = {result.check: result.detail for result in results}
    assert found["tests 01_one"] == "2 passed"
    assert found["tests utils"] == "1 passed"
    assert found["tests setup"] == "none"
    assert all(result.passed for result in results)
    assert (tmp_path / "runs").read_bytes() == b"x"


@pytest.mark.usefixtures("bare_pytest")
def test_a_failing_a_skipped_and_an_unloadable_test_are_distinguished(tmp_path: Path) -> None:
    broken = {"01_one/tests/test_z.py": "import nowhere_at_all", "01_one/tests/test_m.py": MIXED}
    [found] = suites.check_tests(build(tmp_path, broken), "01_one")
    assert (found.passed, found.detail) == (False, "2 passed, 2 failed, 1 skipped")
    assert "01_one.tests.test_m: test_a: assert 1 == 2" in found.problems
    assert any("test_z" in problem for problem in found.problems)
    assert found.problems[-1] == "1 skipped: no GPU"


@pytest.mark.usefixtures("bare_pytest")
def test_a_file_that_is_skipped_as_a_whole_says_why(tmp_path: Path) -> None:
    needs = "import pytest\n\npytest.importorskip('nowhere_at_all', reason='needs it: make it')\n"
    root = build(tmp_path, {"01_one/tests/test_n.py": needs})
    [found] = suites.check_tests(root, "01_one")
    assert (found.word, found.detail) == ("ok", "2 passed, 1 skipped")
    assert found.problems == ("1 skipped: needs it: make it",)


@pytest.mark.usefixtures("bare_pytest")
def test_assertions_count_even_with_pythonoptimize(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    wrong = "def test_a():\n    assert 1 == 2\n"
    [found] = suites.check_tests(build(tmp_path, {"01_one/tests/test_first.py": wrong}), "01_one")
    assert (found.passed, found.detail) == (False, "1 failed")


@pytest.mark.usefixtures("bare_pytest")
def test_a_crash_of_pytest_itself_is_a_failure(tmp_path: Path) -> None:
    crash = "import os\n\ndef test_a():\n    os._exit(3)\n"
    results = suites.check_tests(build(tmp_path, {"01_one/tests/test_first.py": crash}), "01_one")
    assert results[-1].detail == "pytest ended with exit code 3"
    assert not results[-1].passed


def test_code_in_the_text_is_run_and_its_output_compared(tmp_path: Path) -> None:
    page = "```python\nx = 1 / 3\n```\n\n```python\nprint(x)\n```\n```text\n0.333\n```\n"
    root = build(tmp_path, {"01_one/theory.md": page})
    [found] = text.check_text_blocks(root, None)
    assert found.passed, found.problems
    assert found.detail == "3 blocks, 1 outputs compared, 1 notest"
    (root / "01_one/theory.md").write_text(page.replace("0.333", "0.335"), encoding="utf-8")
    [found] = text.check_text_blocks(root, "01_one")
    assert not found.passed
    assert found.problems[0].startswith("01_one/theory.md:6: output line 1 is ")


def notebook(*cells: tuple[str, str]) -> str:
    """A notebook of code cells, each with its source and its committed output."""
    shown = [
        {
            "cell_type": "code",
            "execution_count": number,
            "id": f"cell-{number}",
            "metadata": {},
            "outputs": [{"name": "stdout", "output_type": "stream", "text": printed}]
            * bool(printed),
            "source": source,
        }
        for number, (source, printed) in enumerate(cells)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": shown, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


MARKED = "# NBVAL_CHECK_OUTPUT\nprint(1 + 1)"
CELLS = [
    ("print('a')", "b\n"),  # not marked: it only has to run
    (MARKED, "2\n"),
    ("1 / 0", ""),
    (MARKED, "3\n"),
    ("print('after')", "after\n"),
]


@pytest.mark.usefixtures("bare_pytest")
def test_notebooks_run_and_marked_cells_print_what_they_printed(tmp_path: Path) -> None:
    root = build(tmp_path, {"01_one/a.ipynb": notebook(*CELLS)})
    [found] = text.check_notebooks(root, None)
    assert (found.passed, found.detail) == (False, "1 notebooks, cells: 3 passed, 2 failed")
    raised = "Cell execution caused an exception: ZeroDivisionError: division by zero"
    first, second = found.problems
    assert first == f"01_one.a.ipynb: Cell 2: {raised}"
    assert second == "01_one.a.ipynb: Cell 3: Cell outputs differ"
    assert found.seconds


@pytest.mark.parametrize(
    ("module", "code", "names", "passed"),
    [
        (None, 0, ["01_one/a.ipynb", "utils/b.ipynb"], True),
        ("utils", 0, ["utils/b.ipynb"], True),
        ("utils", 5, ["utils/b.ipynb"], True),  # a notebook without code
        ("utils", 3, ["utils/b.ipynb"], False),  # pytest itself broke
        ("tools", 3, [], True),  # there is nothing to run
    ],
)
def test_only_the_selected_notebooks_are_run(
    module: str | None,
    code: int,
    names: list[str],
    passed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def stand_in(root: Path, arguments: list[str]) -> tuple[int, list[Case]]:
        asked.extend(arguments)
        return code, []

    monkeypatch.setattr(text, "run_pytest", stand_in)
    [found] = text.check_notebooks(
        build(tmp_path, {"01_one/a.ipynb": "", "utils/b.ipynb": ""}), module
    )
    assert [name for name in asked if name.endswith(".ipynb")] == names
    assert (found.passed, found.detail) == (passed, f"{len(names)} notebooks, cells: none")


ROWS = [
    Result("structure", True, "34 of 34 files", (), 0.04),
    Result("exercises 03_transformer_blocks", True, "none", status=TO_COME),
    Result("tests 03_transformer_blocks", False, "x" * 99, ("a long problem " * 20,) * 25, 101.25),
]


def test_the_table_shows_what_was_skipped_and_what_is_to_come_never_as_ok() -> None:
    rows = [
        Result("structure", True, "34 of 34 files"),
        Result("lesson 02_two", True, "3 of 10 files", status=TO_COME),
        Result("text blocks", True, "tool not installed", ("needs a plugin",), status=SKIPPED),
    ]
    lines = validate_all.as_table(rows, 1.0, []).splitlines()
    assert lines[3].split() == ["lesson", "02_two", "to", "come", "0.0", "3", "of", "10", "files"]
    assert lines[4].startswith("text blocks                     skipped")
    assert lines[6].endswith("1 ok, 1 skipped, 1 to come")
    assert lines[-2:] == ["text blocks: skipped", "  needs a plugin"]


def test_the_table_fits_eighty_columns_and_shows_the_problems() -> None:
    table = validate_all.as_table(ROWS, 101.3, ["tests"])
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "structure                       ok" in table
    assert "exercises 03_transformer_blocks to come" in table
    assert "101.2" in table
    assert "... and 5 more" in table
    assert "left out: tests" in table


def test_the_json_holds_every_problem() -> None:
    found = json.loads(validate_all.as_json(ROWS, 101.3, []))
    assert found["passed"] is False
    assert len(found["results"][2]["problems"]) == 25
    assert found["results"][0]["check"] == "structure"


def run_main(
    monkeypatch: pytest.MonkeyPatch, passed: bool, *arguments: str, missing: str = ""
) -> tuple[int, list[str]]:
    """Run the program with checks that only record their names: exit code and names."""
    ran: list[str] = []
    monkeypatch.setattr(validate_all, "find_spec", lambda name: None if name == missing else name)

    def stand_in(name: str) -> validate_all.Check:
        def check(root: Path, module: str | None) -> list[Result]:
            ran.append(name)
            return [Result(name, passed, f"in {module}")]

        return check

    monkeypatch.setattr(
        validate_all, "CHECKS", {name: stand_in(name) for name in validate_all.CHECKS}
    )
    monkeypatch.setattr(sys, "argv", ["validate_all.py", *arguments])
    return validate_all.main(), ran


def test_the_exit_code_says_whether_all_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_main(monkeypatch, True)[0] == 0
    assert run_main(monkeypatch, False)[0] == 1


@pytest.mark.parametrize(
    ("option", "left_out"),
    [
        ("--json", set()),
        ("--fast", {"tests", "coverage", "exercises", "text blocks", "notebooks"}),
        ("--skip-tests", {"tests"}),
    ],
)
def test_an_option_leaves_out_what_its_help_says(
    option: str, left_out: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = set(validate_all.CHECKS)
    assert set(run_main(monkeypatch, True, option)[1]) == every - left_out


def test_a_check_without_its_tool_is_skipped_and_says_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, ran = run_main(monkeypatch, True, missing="pytest_cov")
    assert code == 0
    assert {*ran} == validate_all.CHECKS.keys() - {"coverage"}
    lines = capsys.readouterr().out.splitlines()
    assert "coverage                        skipped     0.0  needs pytest-cov" in lines
    assert "  needs pytest-cov: make install-dev" in lines


def test_every_tool_that_a_check_needs_is_pinned_where_the_command_installs_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {
        "make install": project["dependencies"],
        "make install-dev": project["optional-dependencies"]["dev"],
    }
    for check, (_, package, command) in validate_all.NEEDS.items():
        assert check in validate_all.CHECKS
        assert any(pin.startswith(f"{package}==") for pin in pins[command])


def test_the_exercises_are_checked(tmp_path: Path) -> None:
    bad = build(tmp_path, {"01_one/exercises/exercises.yaml": "a word"})
    [found] = validate_all.CHECKS["exercises"](bad, None)
    assert (found.passed, found.check) == (False, "exercises")
    assert found.problems == ("01_one/exercises/exercises.yaml must be a list of exercises",)


def test_a_ready_lesson_must_be_complete_and_any_other_is_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anatomy, "REQUIRED", ("01_one/README.md",))
    monkeypatch.setattr(anatomy, "LESSONS", ("01_one",))
    monkeypatch.setattr(validate_all, "READY", ())
    [house, lesson] = validate_all.CHECKS["structure"](build(tmp_path, {}), None)
    assert (house.word, lesson.word, lesson.passed) == ("ok", "to come", True)
    monkeypatch.setattr(validate_all, "READY", ("01_one",))
    [_, lesson] = validate_all.CHECKS["structure"](tmp_path, None)
    assert lesson.word == "FAILED"
    assert "missing: 01_one/theory.md" in lesson.problems


def test_every_ready_lesson_exists() -> None:
    assert set(validate_all.READY) <= set(layout.LESSONS)


def test_the_module_reaches_the_checks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_main(monkeypatch, True, "--module", "01_attention")
    assert "in 01_attention" in capsys.readouterr().out


def test_a_mistyped_module_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="did you mean '01_attention'"):
        run_main(monkeypatch, True, "--module", "01_atention")
