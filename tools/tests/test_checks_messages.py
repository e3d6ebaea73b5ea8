"""tools/checks/messages.py finds messages that a reader cannot act on, and quotes of none."""

from pathlib import Path

import pytest

from tools.checks.messages import EXPLAINS, Message, check_messages, is_printed, messages

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from utils.errors import CourseError, UsageError
CAUSE = "the moon is full"
class FullMoonError(CourseError): ...
def main(n, path):
    {statement}
"""


def problems(root: Path, statement: str, page: str = "", name: str = "01_one/program.py") -> str:
    """What the check says of a program with this statement, and of a page."""
    files = {name: PROGRAM.format(statement=statement), "00_setup/troubleshooting.md": page}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    [result] = check_messages(root, None)
    assert result.passed == (not result.problems)
    return "\n".join(result.problems)


@pytest.mark.parametrize(
    "statement",
    [
        'raise UsageError(f"n {n} is out of range: it must be at least 1")',
        'raise CourseError(f"{path} is too short; use a longer one")',
        'raise CourseError(f"no checkpoint in {path}; train a model first: make demo")',
        'raise UsageError(f"{n} has no effect without --batch")',
        'raise CourseError(f"cannot read {path}: {n}")',
        'raise UsageError(f"no file {path}")',
        'raise CourseError(f"{path}: {n}")',  # it passes on another message
        'raise ValueError("the moon is full")',  # for the programmer
        'print("the moon is full")',
    ],
)
def test_a_message_that_explains_itself_passes(statement: str, tmp_path: Path) -> None:
    assert problems(tmp_path, statement) == ""


@pytest.mark.parametrize(
    "statement",
    [
        'raise CourseError(f"{path} has a full moon")',
        'raise UsageError("the moon " + f"over {path} is full")',
        "raise CourseError(CAUSE)",
        'raise FullMoonError(f"it is {n} days old, the moon")',
        'raise SystemExit("error: the moon is full")',
        'print(f"warning: {path} has a full moon", file=sys.stderr)',
    ],
)
def test_a_message_that_does_not_must_be_quoted(statement: str, tmp_path: Path) -> None:
    found = problems(tmp_path, statement)
    assert found.startswith("01_one/program.py:7: '")
    assert "moon" in found
    quote = found.split("'")[1]
    assert problems(tmp_path, statement, f"| `error: {quote}` | howl |\n") == ""


def test_what_maintainers_and_tests_print_is_left_out(tmp_path: Path) -> None:
    statement = 'raise CourseError(f"{path} has a full moon")'
    for name in ("tools/mutation.py", "01_one/tests/test_x.py", "tools/benchmarks/x.py"):
        assert problems(tmp_path / name.replace("/", "_"), statement, name=name) == ""


@pytest.mark.parametrize(
    ("quote", "is_real"),
    [
        ("cats 3 is out of range: it must be at least 1", True),
        ("cats ... is out of range: ...", True),
        ("cats ... is out of range", True),  # to the end of a sentence
        ("cats ... are out of range: ...", False),
        ("cats 3 is out of range: it must be at least 2", False),
        ("No space left on device: ...", True),
        ("No space left: ...", False),
    ],
)
def test_a_quote_must_be_a_message_word_for_word(quote: str, is_real: bool, tmp_path: Path) -> None:
    statement = 'raise UsageError(f"cats {n} is out of range: it must be at least 1")'
    found = problems(tmp_path, statement, f"\n`error: {quote}`\n")
    expected = f"00_setup/troubleshooting.md:2: no message in the sources reads {quote!r}"
    assert found == ("" if is_real else expected)


def test_the_course_has_hundreds_of_messages_and_the_rule_does_not_let_all_pass() -> None:
    found = list(messages(ROOT))
    assert len(found) > 250
    unexplained = [one for one in found if not EXPLAINS.search(one.text)]
    assert 40 < len(unexplained) < len(found) / 3


def test_a_message_is_not_taken_for_another_that_only_begins_alike() -> None:
    one = Message("a.py", 1, "\0 is damaged: its own hash does not match")
    assert is_printed("... is damaged: ...", [one])
    assert not is_printed("... is missing", [one])
