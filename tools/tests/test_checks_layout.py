"""The course follows its own rules, and each rule detects a violation.

The rules are in tools/checks: layout.py, code_rules.py and wording.py. A rule that cannot fail is
worthless, so every rule is also run on a small made-up repository that breaks it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.checks import code_rules, layout, wording
from tools.checks.course_files import kept_files, lesson_folders, lesson_modules

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[Path], list[str]]

RULES: list[Rule] = [
    layout.wrong_folder_lists,
    layout.wrong_pins,
    layout.clashing_modules,
    layout.clashing_test_files,
    layout.stray_inits,
    layout.stray_top_level,
    layout.missing_readmes,
    layout.large_files,
    layout.private_strings,
    code_rules.upward_imports,
    code_rules.unguarded_programs,
    code_rules.unimportable_imports,
    code_rules.path_edits,
    code_rules.pickles,
    code_rules.unnamed_encodings,
    wording.unidiomatic_phrases,
]

LISTS = """
[project]
dependencies = ["torch==2", "numpy==1"]
[tool.hatch.build]
dev-mode-dirs = [".", "01_one", "02_two"]
[tool.pytest.ini_options]
testpaths = ["utils", "tools", "setup", "01_one", "02_two"]
pythonpath = [".", "01_one", "02_two"]
[tool.pyright]
include = ["utils", "tools", "setup", "conftest.py", "01_one", "02_two"]
extraPaths = [".", "01_one", "02_two"]
"""
GUARD = f"""
try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit({code_rules.NOT_INSTALLED!r}) from None
"""
PROGRAM = "import torch\n\nif __name__ == '__main__':\n    print(torch)\n"
GOOD_COURSE = {
    "pyproject.toml": LISTS,
    "requirements.txt": "# pinned\nnumpy==1\ntorch==2\n\n-e .\n",
    "tools/program.py": f"import sys\n{GUARD}\n{PROGRAM}",
    "utils/helper.py": "import json\n",
    "01_one/README.md": "# One\n",
    "01_one/first.py": "from utils.helper import json\n",
    "01_one/tests/test_first.py": "import first\n",
    "02_two/README.md": "# Two\n",
    "02_two/second.py": "from first import json\nfrom second import json\n",
    "02_two/tests/test_second.py": "open('x', 'rb')\n",
}

needs_git = pytest.mark.skipif(
    not shutil.which("git") or not (ROOT / ".git").exists(),
    reason="needs git, which knows the files of the course",
)


def build(root: Path, files: dict[str, str]) -> Path:
    """Write the files, given as path and text, below root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def name_of(rule: Rule) -> str:
    return getattr(rule, "__name__", "rule")


@needs_git
@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_the_course_follows(rule: Rule) -> None:
    problems = rule(ROOT)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_a_good_course_has_no_problems(rule: Rule, tmp_path: Path) -> None:
    assert rule(build(tmp_path, GOOD_COURSE)) == []


BROKEN: list[tuple[Rule, str, str, str]] = [  # rule, file, its text, part of the problem
    (layout.wrong_folder_lists, "03_three/third.py", "", "pytest testpaths differs"),
    (layout.wrong_folder_lists, "03_three/third.py", "", "hatch dev-mode-dirs differs"),
    (layout.wrong_folder_lists, "03_three/third.py", "", "pyright extraPaths differs"),
    (layout.wrong_pins, "requirements.txt", "numpy==1", "only in pyproject.toml: torch==2"),
    (layout.wrong_pins, "requirements.txt", "numpy==1\ntorch==3", "in requirements.txt: torch==3"),
    (layout.wrong_pins, "requirements.txt", "torch>=2", "not pinned to one version: torch>=2"),
    (layout.clashing_modules, "02_two/first.py", "", "module first is in 01_one and 02_two"),
    (layout.clashing_modules, "02_two/first/part.py", "", "module first is in 01_one and 02_two"),
    (layout.clashing_modules, "02_two/json.py", "", "json of 02_two has the name of a library"),
    (layout.clashing_modules, "02_two/numpy.py", "", "numpy of 02_two has the name of a library"),
    (
        layout.clashing_modules,
        "02_two/profiling.py",
        "",
        "profiling of 02_two has the name",
    ),
    (layout.clashing_test_files, "02_two/tests/test_first.py", "", "02_two/tests/test_first.py"),
    (layout.clashing_test_files, "02_two/tests/first.py", "", "01_one/first.py"),
    (layout.stray_inits, "02_two/tests/__init__.py", "", "02_two/tests/__init__.py"),
    (layout.stray_inits, "02_two/exercises/__init__.py", "", "02_two/exercises/__init__.py"),
    (layout.stray_top_level, "notes/today.md", "", "notes"),
    (layout.stray_top_level, "setup.cfg", "", "setup.cfg"),
    (layout.missing_readmes, "03_three/third.py", "", "03_three/README.md"),
    (layout.large_files, "data/big.txt", "x" * 1_000_001, "data/big.txt: 1,000,001 bytes"),
    (layout.private_strings, "a.md", "one\nsee /ho" + "me/mary/course", "a.md:2"),
    (layout.private_strings, "a.md", "see C:\\Us" + "ers\\mary", "a.md:1"),
    (layout.private_strings, "a.md", "token gh" + "p_" + 36 * "a", "a.md:1"),
    (layout.private_strings, "a.md", "-----BEGIN RSA " + "PRIVATE KEY-----", "a.md:1"),
    (code_rules.upward_imports, "01_one/up.py", "import second", "01_one imports second of 02_two"),
    (code_rules.upward_imports, "01_one/up.py", "def f():\n from second import x", "up.py:2"),
    (code_rules.upward_imports, "01_one/tests/test_up.py", "import second", "01_one imports"),
    (code_rules.upward_imports, "utils/up.py", "from first import x", "utils imports first"),
    (code_rules.upward_imports, "utils/grader/up.py", "import first", "utils imports first"),
    (code_rules.upward_imports, "utils/up.py", "from tools.a import x", "utils imports tools"),
    (code_rules.upward_imports, "02_two/up.py", "import tools.a", "02_two imports tools"),
    (code_rules.upward_imports, "tools/checks/up.py", "import second", "tools imports second"),
    (code_rules.unguarded_programs, "tools/a.py", PROGRAM, "tools/a.py: the first import"),
    (code_rules.unguarded_programs, "09_capstone/a.py", PROGRAM + GUARD, "09_capstone/a.py: the"),
    (code_rules.unimportable_imports, "tools/a.py", "from exercises import x", "exercises by name"),
    (code_rules.unimportable_imports, "tools/a.py", "import data.prepare", "data by name"),
    (code_rules.path_edits, "tools/a.py", "import sys\nsys.path.insert(0, '.')", "a.py:2"),
    (code_rules.path_edits, "tools/a.py", "sys.path[:0] = ['.']", "sys.path[...]"),
    (code_rules.path_edits, "tools/a.py", "sys.path += ['.']", "a.py:1: sys.path"),
    (code_rules.path_edits, "tools/a.py", "from sys import path", "from sys import path"),
    (code_rules.path_edits, "tools/a.py", "m.syspath_prepend('.')", "syspath_prepend"),
    (code_rules.pickles, "tools/a.py", "import pickle", "import pickle"),
    (code_rules.pickles, "tools/a.py", "from pickle import loads", "import pickle"),
    (code_rules.pickles, "tools/a.py", "torch.load('x', weights_only=True)", "torch.load"),
    (code_rules.pickles, "tools/a.py", "from torch import save", "from torch import save"),
    (code_rules.pickles, "tools/a.py", "np.load('x', allow_pickle=True)", "allow_pickle"),
    (code_rules.unnamed_encodings, "tools/a.py", "open('x')", "open without encoding"),
    (code_rules.unnamed_encodings, "tools/a.py", "open('x', 'w')", "open without encoding"),
    (code_rules.unnamed_encodings, "tools/a.py", "Path('x').open()", "open without encoding"),
    (code_rules.unnamed_encodings, "tools/a.py", "p.open(mode='a')", "open without encoding"),
    (code_rules.unnamed_encodings, "tools/a.py", "p.read_text()", "read_text without"),
    (code_rules.unnamed_encodings, "tools/a.py", "p.write_text('x')", "write_text without"),
    (code_rules.unnamed_encodings, "tools/a.py", "subprocess.run(c, text=True)", "with text"),
    (wording.unidiomatic_phrases, "data/README.md", "one\nNobody knows", "README.md:2: 'Nobody'"),
    (wording.unidiomatic_phrases, "Makefile", "# 9 tokens a step", "instead: per"),
    (wording.unidiomatic_phrases, "data/README.md", "recognised", "'recognised' (instead: -ize"),
    (wording.unidiomatic_phrases, "data/README.md", "1.5 / ln 2", "'ln 2' (instead: log"),
]


@pytest.mark.parametrize(("rule", "name", "text", "expected"), BROKEN)
def test_a_violation_is_detected(
    rule: Rule, name: str, text: str, expected: str, tmp_path: Path
) -> None:
    problems = rule(build(tmp_path, {**GOOD_COURSE, name: text}))
    assert any(expected in problem for problem in problems), problems


def test_every_rule_has_a_case_that_breaks_it() -> None:
    assert {name_of(rule) for rule in RULES} == {name_of(rule) for rule, *_ in BROKEN}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (code_rules.path_edits, "import sys\nprint(sys.path, sys.path[0], list(sys.path))"),
        (code_rules.pickles, "model.load('x')\nnp.load('x', allow_pickle=False)"),
        (code_rules.unnamed_encodings, "open('x', 'rb')\nPath('x').open('wb')\nos.open('x', 0)"),
        (code_rules.unnamed_encodings, "open('x', mode)\nopen('x', **options)"),
        (code_rules.unnamed_encodings, "p.read_text('utf-8')\np.write_text('x', 'utf-8')"),
        (code_rules.unnamed_encodings, "subprocess.run(c, text=True, encoding='utf-8')"),
        (
            layout.private_strings,
            "import os  # join(home, 'x'), ~/x, /home/ann/x, /usr/bin/env",
        ),
    ],
)
def test_code_that_only_looks_wrong_passes(rule: Rule, text: str, tmp_path: Path) -> None:
    assert rule(build(tmp_path, {"tools/a.py": text})) == []


def test_a_test_may_write_a_pickle_to_prove_that_it_is_refused(tmp_path: Path) -> None:
    tree = build(tmp_path, {"01_one/tests/test_a.py": "torch.save({}, 'x')"})
    assert code_rules.pickles(tree) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("setup/a.py", "def f():\n    import torch\n\nif __name__ == '__main__':\n    f()"),
        ("tools/tests/test_a.py", PROGRAM),
        ("tools/a.py", "import torch"),
    ],
)
def test_only_a_program_that_imports_at_its_top_needs_a_guard(
    name: str, text: str, tmp_path: Path
) -> None:
    assert code_rules.unguarded_programs(build(tmp_path, {name: text})) == []


def programs() -> list[str]:
    """Every program of the course that people start by its path."""
    return [
        path.as_posix()
        for path in kept_files(ROOT)
        if path.parts[0] in code_rules.PROGRAM_FOLDERS
        and path.suffix == ".py"
        and code_rules.NOT_INSTALLED in (ROOT / path).read_text(encoding="utf-8")
        and path.name != "code_rules.py"
    ]


@pytest.mark.parametrize("program", programs())
def test_without_the_course_a_program_says_in_one_line_how_to_install(
    program: str, tmp_path: Path
) -> None:
    bare = [sys.executable, "-S", "-B", str(ROOT / program)]  # -S: no installed package is found
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(bare, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [code_rules.NOT_INSTALLED]


# --- which files count ---

STRAY = {  # what lies around in the folder of someone who works with it
    "01_one/._first.py": "\0\0",
    "01_one/.#first.py": "",
    "01_one/first.old.py": "not Python at all",
    "01_one/.ipynb_checkpoints/first.py": "(",
    "01_one/.ipynb_checkpoints/README.md": "[a](nowhere.md)",
    "01_one/scratch.py": "import second",
    "02_two/scratch.py": "print(open('x'))",
    "03_mine/scratch.py": "",
    "02_two/Untitled.ipynb": "",
    "notes.md": "[a](nowhere.md)",
}


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


@needs_git
def test_only_files_that_git_tracks_count(tmp_path: Path) -> None:
    build(tmp_path, {".gitignore": "runs/\n", "runs/log.txt": "", "a b.md": "", "b.py": ""})
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    build(tmp_path, {"new.py": "", "01_one/new.py": ""})
    assert kept_files(tmp_path) == [Path(".gitignore"), Path("a b.md"), Path("b.py")]
    assert lesson_folders(tmp_path) == []


@needs_git
@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_stray_files_break_no_rule(rule: Rule, tmp_path: Path) -> None:
    build(tmp_path, GOOD_COURSE)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    assert rule(build(tmp_path, STRAY)) == []


@needs_git
def test_files_of_editors_and_systems_do_not_count_even_when_git_tracks_them(
    tmp_path: Path,
) -> None:
    build(tmp_path, {**GOOD_COURSE, **STRAY})
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    names = {path.as_posix() for path in kept_files(tmp_path)}
    assert names - set(GOOD_COURSE) == {
        *("01_one/first.old.py", "01_one/scratch.py", "02_two/scratch.py", "03_mine/scratch.py"),
        *("02_two/Untitled.ipynb", "notes.md"),
    }
    assert list(lesson_modules(tmp_path)) == ["first", "scratch", "second"]


@needs_git
def test_where_git_refuses_to_answer_every_file_counts(tmp_path: Path) -> None:
    build(tmp_path, {".git": "not a repository", "01_one/first.py": "", "01_one/._first.py": ""})
    assert Path("01_one/first.py") in kept_files(tmp_path)
    assert lesson_modules(tmp_path) == {"first": ["01_one"]}
