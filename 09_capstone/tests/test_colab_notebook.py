"""notebooks/capstone_colab.ipynb: the cell that installs the course on Colab, and only there.

There is no Colab here: the folder /content, the missing package and git are acted.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "capstone_colab.ipynb"
CELL = "".join(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"][1]["source"])
PLACEHOLDER = "https://github.com/YOUR-NAME/YOUR-COPY"
ADDRESS = "https://example.org/me/course"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that the cell runs on Colab, where git fails and nothing is installed."""
    run: list[list[str]] = []

    def fail(command: list[str], **options: object) -> SimpleNamespace:
        run.append(command)
        return SimpleNamespace(returncode=128)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(Path, "is_dir", lambda path: path.as_posix() == "/content")
    monkeypatch.setattr(subprocess, "run", fail)
    return run


def test_the_address_is_the_first_statement_of_the_cell():
    first = next(line for line in CELL.splitlines() if not line.startswith("#"))
    assert first.startswith(f'REPOSITORY = "{PLACEHOLDER}"')


@pytest.mark.parametrize("address", [PLACEHOLDER, ""])
def test_without_an_address_one_line_says_what_to_set(commands: list[list[str]], address: str):
    with pytest.raises(SystemExit) as error:
        exec(CELL.replace(PLACEHOLDER, address), {})
    assert str(error.value) == (
        "set REPOSITORY to your copy's address, or upload it as /content/tiny-transformer-course"
    )
    assert commands == []


def test_an_address_that_git_refuses_is_named(commands: list[list[str]]):
    with pytest.raises(SystemExit, match=rf"^git can't clone {ADDRESS}: is it spelled right"):
        exec(CELL.replace(PLACEHOLDER, ADDRESS), {})
    (clone,) = commands
    assert clone[:2] == ["git", "clone"]
    assert clone[-2:] == [ADDRESS, "/content/tiny-transformer-course"]


def test_an_uploaded_course_is_installed_without_an_address(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    with pytest.raises(SystemExit, match=r"^the course is not installed"):  # pip is acted, too
        exec(CELL, {})
    (install,) = commands
    assert install[:4] == [sys.executable, "-m", "pip", "install"]


def test_on_another_machine_the_cell_does_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a command is run"))
    exec(CELL, {})
