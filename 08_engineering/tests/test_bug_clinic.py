"""bug_clinic.md: each of its tests fails on the sick function, and passes on the repaired one.

The page is run as one session, as a reader would; what its blocks print is compared by
tools/validate_all.py.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sick_code import lesson, repairs, sick
from utils.errors import UsageError
from utils.grader.learner_code import load, read_source

LESSON = Path(__file__).resolve().parents[1]
PAGE = (LESSON / "bug_clinic.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^## \d\. ", PAGE, flags=re.MULTILINE)[1:]
NAMES = [one.stubs[0] for one in repairs(lesson())]


@pytest.fixture(scope="module")
def session() -> Iterator[dict[str, Any]]:
    """What the page's blocks define."""
    names: dict[str, Any] = {"__name__": "bug_clinic"}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile("\n".join(blocks), "bug_clinic.md", "exec"), names)
    yield names
    names["scratch"].cleanup()


@pytest.fixture(scope="module")
def solutions() -> ModuleType:
    return load(read_source(LESSON / "exercises" / "solutions.py"))


def name_of_test(section: str) -> str:
    """The name of the test that a section defines."""
    (name,) = re.findall(r"^def (test_\w+)\(", section, re.MULTILINE)
    return name


def run_test(session: dict[str, Any], name: str, function: Callable[..., Any]) -> None:
    """Run the page's test of a function on this version of it."""
    test = name_of_test(SECTIONS[NAMES.index(name)])
    before = session[name]
    session[name] = function
    try:
        session[test]()
    finally:
        session[name] = before


def test_the_page_has_a_section_per_repair_that_ends_with_its_exercise() -> None:
    ended = [re.findall(r"\*\*Now repair (\d+\.\d+)\.\*\*", section) for section in SECTIONS]
    assert ended == [[one.id] for one in repairs(lesson())]
    in_the_table = re.findall(r"^\|.*\| (\d+\.\d+) \|$", PAGE, re.MULTILINE)
    assert in_the_table == [one.id for one in repairs(lesson())]


@pytest.mark.parametrize("name", NAMES)
def test_the_test_of_the_page_fails_on_the_sick_function(session, name: str) -> None:
    with pytest.raises(AssertionError):
        run_test(session, name, sick(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_test_of_the_page_passes_on_the_repaired_function(session, solutions, name) -> None:
    run_test(session, name, getattr(solutions, name))


def test_without_the_leak_the_validation_says_what_another_text_says(session, solutions) -> None:
    train, leaked, other = session["three_losses"](sick("split_windows"))
    assert abs(leaked - train) < 0.2 < 2 < other - leaked
    _, honest, other = session["three_losses"](solutions.split_windows)
    assert abs(honest - other) < 0.5


def test_no_line_of_a_repair_is_on_the_page(solutions) -> None:
    """The page shows symptoms and tests; the fix is in the solutions alone."""
    handed_out = "\n".join(one.body for one in repairs(lesson()))
    text = (LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8")
    bodies = [text.partition(f"def {name}(")[2].partition("\ndef ")[0] for name in NAMES]
    code = [line.partition("  #")[0].strip() for body in bodies for line in body.splitlines()]
    fixes = {line for line in code if line and line not in handed_out and '"""' not in line}
    assert "sibling.replace(path)" in fixes
    assert not {line for line in fixes if len(line) > 12 and line in PAGE}


def test_only_repairs_are_sick() -> None:
    with pytest.raises(UsageError, match="speedup"):
        sick("speedup")
