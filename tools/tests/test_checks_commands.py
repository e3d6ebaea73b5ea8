"""tools/checks/commands.py finds the commands that would not work, and only those."""

import json
from pathlib import Path

import pytest

from tools.checks import commands
from tools.checks.command_lines import Line, command_lines, of_notebook, of_page, of_program
from tools.checks.commands import Course, check_commands, commands_of, expanded

ROOT = Path(__file__).resolve().parents[2]

WORKS = [
    "make demo",
    'make demo ARGS="--parts mine"',
    "make hint EX=softmax",
    "make check MODULE=01_attention",
    "make install PYTHON=python3.12",
    "python 09_capstone/train.py --preset full --d-model 64 --no-bias --max-minutes 5",
    "python 09_capstone/train.py --config 09_capstone/runs/RUN/config.yaml",
    "python 09_capstone/train.py --help",
    "OMP_NUM_THREADS=1 .venv/bin/python 09_capstone/train.py",
    ".venv\\Scripts\\python tools\\demo.py",
    "torchrun --standalone --nproc-per-node 2 09_capstone/train.py --preset laptop",
    "python -m utils.corpus --download",
    "python -i 01_attention/attention.py",
    "python -m pytest 05_model -k causal -v",
    "python -m pip install -e .",
    "python -m jupyterlab 01_attention/notebook.ipynb",
    "python 08_engineering/experiment_tracking.py compare RUN RUN",
    "python 09_capstone/sample.py --prompt KING | head -5",
    "cd tiny-transformer-course && make install",
    "git commit -am done",
    "$env:OMP_NUM_THREADS = 1",
    "python 09_capstone/train.py --data /somewhere/else.txt --out-dir ../runs",
]
FAILS = {
    "make demoo": "no target 'demoo' in the Makefile",
    "make hint EX=1.99": "unknown exercise '1.99'; lesson 1 has 1.1 to 1.",
    "make hint NAME=1.3": "make hint does not use NAME",
    "make test-module": "module is missing",
    "make test-module MODULE=01_atention": "unknown lesson '01_atention'",
    'make demo ARGS="--parts yours"': "parts 'yours' is not one of: reference, fused, mine",
    "python 09_capstone/train.py --preset labtop": "preset 'labtop' is not one of: smoke",
    "python 09_capstone/train.py --presets full": "unknown argument --presets (did you mean",
    "python 09_capstone/train.py --d-model 100 --n-heads 3": "d_model 100 is not divisible by",
    "python 09_capstone/train.py --d-model wide": "d_model 'wide' is not a whole number",
    "python 09_capstone/train.py --config runs/one.yaml": "runs/one.yaml does not exist, and no",
    "python 09_capstone/train.py --data my_book.txt": "my_book.txt does not exist, and no earlier",
    "python 09_capstone/sample.py --batch": "--batch needs --output FILE",
    "python tools/interactive.py --compare": "unknown argument --compare",
    "python 09_capstone/serve.py --port 99999": "--port 99999 is out of range",
    "python 01_attention/attention.py --plot": "01_attention/attention.py takes no arguments",
    "python 02_multi_head/attention.py": "does not exist; 01_attention/attention.py does",
    "python tools/learn.py hints 1.3": "unknown command 'hints'",
    "python tools/mutation.py": "the following arguments are required: lesson",
    "python tools/install.py --extra srve": "argument --extra: invalid choice: 'srve'",
    "python tools/clean.py --al": "unrecognized arguments: --al",
    "python tools/new_exercise.py 02_multi_head f --kind wrte": "kind 'wrte' is not one of: write",
    "python tools/validate_all.py --module attention": "unknown module 'attention'",
    "python -m utils.corpora": "no module utils.corpora",
    "python -m jupyterlab 01_attention/notebok.ipynb": "01_attention/notebok.ipynb does not exist",
    "python -m pytest 05_mode -k causal": "05_mode does not exist",
    "python -m pytest --cov=utils": "--cov=utils is not among the known options of pytest",
    "torchrun --nproc_per_node 2 09_capstone/train.py": "--nproc_per_node is not among",
    "torchrun --nnodes 2 09_capstone/train.py --epochs 3": "unknown argument --epochs",
    "python 08_engineering/experiment_tracking.py lst": "invalid choice: 'lst'",
    "mkae demo": "unknown program 'mkae'",
    "sh data/download.sh": "data/download.sh does not exist",
    'python 09_capstone/train.py "Romeo': "the shell cannot read it: No closing quotation",
}


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What the check says of each command above; all of them are judged at once."""
    lines = [Line("page.md", number, text) for number, text in enumerate([*WORKS, *FAILS])]
    return {line.text: why for line, why in Course(ROOT).problems_of(lines)}


@pytest.mark.parametrize("command", WORKS)
def test_a_command_that_works_passes(command: str, found: dict[str, str]) -> None:
    assert command not in found, found[command]


@pytest.mark.parametrize("command", FAILS)
def test_a_command_that_would_fail_is_found(command: str, found: dict[str, str]) -> None:
    assert found[command].startswith(FAILS[command]) or FAILS[command] in found[command]


# --- a small course ---

PROGRAM = """
import argparse
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("--out-dir")
    parser.add_argument("--model")
    options = parser.parse_args()
    raise RuntimeError("it runs")
if __name__ == "__main__":
    main()
"""
FILES = {"Makefile": "go: ## go\n\t@$(PY) tools/prog.py $(ARGS)\n", "tools/prog.py": PROGRAM}


def problems(root: Path, text: str) -> list[str]:
    """What the check says of a page README.md with this text."""
    for name, content in {**FILES, "README.md": text}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    [result] = check_commands(root, None)
    assert result.passed == (not result.problems)
    return list(result.problems)


def test_each_problem_names_file_line_command_and_reason(tmp_path: Path) -> None:
    text = "```\nmake go ARGS=x\n\nmake stop   # or not\n```\n"
    assert problems(tmp_path, text) == ["README.md:4: make stop: no target 'stop' in the Makefile"]


def test_a_mention_may_leave_arguments_out_but_a_command_may_not(tmp_path: Path) -> None:
    assert problems(tmp_path, "Type `make go` or `prog.py --model`.") == []
    [problem] = problems(tmp_path, "```\nmake go\n```\n")
    assert problem.endswith("make go: the following arguments are required: what")
    [problem] = problems(tmp_path, "Type `prog.py --modle`.")
    assert "unrecognized arguments: --modle" in problem


def test_a_file_may_be_what_an_earlier_command_of_the_page_writes(tmp_path: Path) -> None:
    write, read = "python tools/prog.py x --out-dir runs/one", "runs/one/best.safetensors"
    use = f"python tools/prog.py x --model {read}"
    assert problems(tmp_path, f"```\n{write}\n```\nThen `{use}`.\n") == []
    [problem] = problems(tmp_path, f"```\n{use}\n{write}\n```\n")
    assert f"{read} does not exist" in problem


def test_an_exercise_may_be_what_an_earlier_command_of_the_page_scaffolds() -> None:
    make, use = "python tools/new_exercise.py 01_attention a_new_one", "make check EX=a_new_one"
    good, bad = (
        list(of_page("a.md", f"```\n{one}\n{two}\n```")) for one, two in ((make, use), (use, make))
    )
    assert list(Course(ROOT).problems_of(good)) == []
    [(_, why)] = Course(ROOT).problems_of(bad)
    assert "unknown exercise 'a_new_one'" in why


def test_a_module_limits_the_check_to_its_pages(tmp_path: Path) -> None:
    problems(tmp_path, "")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("`make stop`", encoding="utf-8")
    assert len(check_commands(tmp_path, "data")[0].problems) == 1
    assert check_commands(tmp_path, "tools")[0].passed


# --- where commands are found ---


def texts(page: str) -> list[tuple[int, str]]:
    return [(line.number, line.text) for line in of_page("page.md", page)]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("```\nmake a  # why\n# all of it\n\nmkae b\n```", [(2, "make a"), (5, "mkae b")]),
        ("```bash\n$ make a\n```", [(2, "make a")]),
        ("```bash\n#!/usr/bin/env bash\nmake a\n```", [(3, "make a")]),
        ("```\nmake a \\\n  B=c\nmake d\n```", [(2, "make a B=c"), (4, "make d")]),
        ("  ```\n  python x.py\n  ```", [(2, "python x.py")]),
        ("```text\nmake a\n```", []),
        ("```\nROMEO:\nWhy, he shall see\n```", []),
        ("```text\n  For a hint: make hint EX=1.3\n```", [(2, "make hint EX=1.3")]),
        ("see `make a`, `make`, `x.py`\nand `python\ny.py`.", [(1, "make a"), (2, "python y.py")]),
        ("`train.py --resume`, `x.py` is", [(1, "train.py --resume")]),
        ("`exercises.py does not load`, `tools.py compare RUN`", [(1, "tools.py compare RUN")]),
        ("| they say | here |\n| --- | --- |\n| `make a` | `make b` |\n", [(3, "make b")]),
        ("| here | they say |\n| --- | --- |\n| `make a` | x |\n", [(3, "make a")]),
    ],
)  # fmt: skip
def test_commands_of_a_page(page: str, expected: list[tuple[int, str]]) -> None:
    assert texts(page) == expected


def test_commands_of_a_notebook_and_of_a_docstring() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["Type `make a`."]},
        {"cell_type": "code", "source": ["x = 1\n", "!git clone y\n"]},
    ]
    found = list(of_notebook("n.ipynb", json.dumps({"cells": cells})))
    assert [(line.place, line.text) for line in found] == [
        ("n.ipynb:1", "make a"),
        ("n.ipynb:2", "git clone y"),
    ]
    program = '"""What.\n\n    python a.py --b 1    it explains\n"""\nx = "python d/e.py --f, g"\n'
    assert [line.text for line in of_program("a.py", program)] == [
        "python a.py --b 1",
        "python d/e.py --f",
    ]
    assert len(list(of_program("x/tests/test_a.py", program))) == 1  # tests plant wrong ones


def test_the_course_has_hundreds_of_commands() -> None:
    found = list(command_lines(ROOT, None))
    assert len(found) > 500
    assert {".md", ".py", ".ipynb", ".yaml"} == {Path(line.page).suffix for line in found}


# --- parts ---


def test_a_line_is_split_at_pipes_and_loses_where_its_output_goes() -> None:
    words = ["a", "b", "|", "c", "&&", "d", ">", "e"]
    assert list(commands_of(words)) == [["a", "b"], ["c"], ["d"]]


def test_a_recipe_is_expanded_as_make_does() -> None:
    recipe = '\t@$(EXEC) $(PY) tools/learn.py check "$(or $(EX),$(MODULE))" $(ARGS) || exit 0'
    assert expanded(recipe, {"MODULE": "01_a"}) == 'python tools/learn.py check "01_a" '
    assert expanded(recipe, {"EX": "1.3", "ARGS": "--x"}).endswith('check "1.3" --x')


def test_torchrun_has_the_options_that_are_known() -> None:
    from torch.distributed.run import get_args_parser

    known = get_args_parser()._option_string_actions
    for option, takes_value in commands.TORCHRUN.items():
        assert (known[option].nargs != 0) == takes_value


def test_pytest_has_the_options_that_are_known(pytestconfig: pytest.Config) -> None:
    groups = [pytestconfig._parser._anonymous, *pytestconfig._parser._groups]
    known = {name for group in groups for option in group.options for name in option.names()}
    assert commands.MODULES["pytest"] - {"-x", "-s", "-q", "-v"} <= known
