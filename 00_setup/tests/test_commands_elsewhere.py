"""Every command that the pages of this lesson tell people to type exists, flags included."""

import re
import runpy
import shlex
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig, TrainConfig

FOLDER = Path(__file__).resolve().parents[1]
ROOT = FOLDER.parent
ELSEWHERE = (FOLDER / "commands_elsewhere.md").read_text(encoding="utf-8")
PAGES = (
    "commands_elsewhere",
    "daily_cadence",
    "learning_paths",
    "study_guide",
    "troubleshooting",
    "review_questions",
)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
MODULES = {"pytest", "jupyterlab", "notebook", "pip"}  # of installed packages
STARTS = ("make ", "python ", "torchrun ", "sh ", ".venv/bin/python ", "OMP_NUM_THREADS=1 ")
PLACEHOLDERS = {"FILE", "RUN", "my_text.txt"}


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def ours(page: str) -> list[str]:
    """The commands of a page that people are told to type in this course."""
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in text.splitlines():
        if page == "commands_elsewhere" and line.startswith("|"):
            first = line.split("|")[1]
            keep = "make" in first and len(cells(line)) == 2
            line = line if keep else " | ".join(cells(line)[1:])
        lines += re.findall(r"`([^`]+)`", line)
    return sorted({line.partition("  #")[0].strip() for line in lines if line.startswith(STARTS)})


COMMANDS = sorted({command for page in PAGES for command in ours(page)})


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 60


@pytest.fixture(scope="module")
def help_text() -> dict[str, str]:
    """The --help of each program that was asked, by its path."""
    return {}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_exists(
    command: str, call_program: Callable[..., object], help_text: dict[str, str]
) -> None:
    words = shlex.split(command.replace("\\", "/").partition(" > ")[0])
    words = words[1:] if words[0].startswith("OMP_NUM_THREADS") else words
    if words[0] == "make":
        check_make(words[1:])
        return
    if words[0] == "torchrun":
        assert words[1] == "--nproc-per-node"
        words = words[2:]
    words = words[2:] if words[1] == "-i" else words[1:]
    if words[0] == "-m":
        check_module(words[1:])
        return
    check_program(words, call_program, help_text)


def check_make(words: list[str]) -> None:
    """The target is in the Makefile, and uses the variables that are set."""
    target, *settings = words
    recipe = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None, f"make {target}: no such target"
    for setting in settings:
        assert f"$({setting.partition('=')[0]})" in recipe[1] or (
            f"$(or $({setting.partition('=')[0]})" in recipe[1]
        )


def check_module(words: list[str]) -> None:
    """An installed package with files that exist, or a module of ours."""
    module, *arguments = words
    if module not in MODULES:
        path = ROOT / f"{module.replace('.', '/')}.py"
        assert path.is_file()
        assert all(flag in path.read_text("utf-8") for flag in arguments if flag.startswith("--"))
        return
    for word in arguments:
        if "/" in word or word.endswith((".py", ".ipynb")):
            assert (ROOT / word).exists(), word


def check_program(
    words: list[str], call_program: Callable[..., object], help_text: dict[str, str]
) -> None:
    """The file exists, and its --help has every flag."""
    program, *arguments = words
    path = ROOT / program
    assert path.is_file(), program
    flags = [word for word in arguments if word.startswith("--")]
    if flags and program not in help_text:
        namespace = runpy.run_path(str(path), run_name="asked_for_help")
        help_text[program] = call_program(namespace["main"], "--help").out  # type: ignore[attr-defined]
    for flag in flags:
        assert re.search(rf"{flag}\b", help_text[program]), f"{program} has no {flag}"
    for word in arguments:
        if "/" in word and not PLACEHOLDERS & set(word.split("/")):
            assert (ROOT / word).exists(), word


def test_every_target_of_the_makefile_has_a_row_without_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):.* ## ", MAKEFILE, re.MULTILINE))
    for_developers = {"help", "install-dev", "lint", "format"}
    section = ELSEWHERE.partition("## Without make")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `make ([a-z-]+)", section, re.MULTILINE))
    missing = sorted(targets - for_developers - named)
    assert not missing, f"commands_elsewhere.md, 'Without make': add a row for {missing}"
    assert named <= targets, "these rows name targets that the Makefile no longer has"


def test_a_row_without_make_runs_what_the_target_runs() -> None:
    section = ELSEWHERE.partition("## Without make")[2].partition("\n## ")[0]
    for target, program in re.findall(r"^\| `make ([a-z-]+).*?`python ([^` ]+)", section, re.M):
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
        assert recipe is not None and f") {program}" in recipe[1], target


@cache
def names_here() -> set[str]:
    """The names of fields, properties and modules that the last table may list."""
    model = TinyTransformerLM(ModelConfig(5, max_seq_len=4, d_model=8, n_layers=1, n_heads=2))
    config = {f.name for each in (ModelConfig, TrainConfig) for f in fields(each)}
    return config | {"d_head"} | set(dir(model))


def test_the_names_of_the_last_table_are_those_of_the_code() -> None:
    section = ELSEWHERE.partition("## The same thing by other names")[2]
    names = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert len(names) >= 10
    assert set(names) <= names_here()


def test_each_sitting_of_the_daily_cadence_adds_up() -> None:
    text = (FOLDER / "daily_cadence.md").read_text(encoding="utf-8")
    sittings = re.findall(r"^## (\d+) minutes\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert [int(minutes) for minutes, _ in sittings] == [25, 60, 90]
    for minutes, body in sittings:
        rows = [int(n) for n in re.findall(r"^\| (\d+) \|", body, re.MULTILINE)]
        assert rows[-1] == sum(rows[:-1]) == int(minutes)
