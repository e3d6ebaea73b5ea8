"""The course keeps its own rules, and each rule notices when it is broken.

The rules are in tools/checks/layout.py and tools/checks/code_rules.py. A rule that cannot fail says
nothing, so every rule is also shown a small made-up tree that breaks it.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.checks import code_rules, layout

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[Path], list[str]]

RULES: list[Rule] = [
    layout.wrong_folder_lists,
    layout.clashing_modules,
    layout.clashing_test_files,
    layout.stray_inits,
    layout.stray_top_level,
    layout.missing_readmes,
    layout.large_files,
    layout.private_strings,
    code_rules.upward_imports,
    code_rules.unimportable_imports,
    code_rules.path_edits,
    code_rules.pickles,
    code_rules.unnamed_encodings,
]

LISTS = """
[tool.hatch.build]
dev-mode-dirs = [".", "01_one", "02_two"]
[tool.pytest.ini_options]
testpaths = ["utils", "tools", "setup", "01_one", "02_two"]
pythonpath = [".", "01_one", "02_two"]
[tool.pyright]
include = ["utils", "tools", "setup", "conftest.py", "01_one", "02_two"]
extraPaths = [".", "01_one", "02_two"]
"""
GOOD_HOUSE = {
    "pyproject.toml": LISTS,
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
    reason="needs git, which knows the files that are kept",
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
def test_the_course_keeps(rule: Rule) -> None:
    problems = rule(ROOT)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_a_good_house_has_no_problems(rule: Rule, tmp_path: Path) -> None:
    assert rule(build(tmp_path, GOOD_HOUSE)) == []


BROKEN: list[tuple[Rule, str, str, str]] = [  # rule, file, its text, what the problem says
    (layout.wrong_folder_lists, "03_three/third.py", "", "pytest testpaths differs"),
    (layout.wrong_folder_lists, "03_three/third.py", "", "hatch dev-mode-dirs differs"),
    (layout.wrong_folder_lists, "03_three/third.py", "", "pyright extraPaths differs"),
    (layout.clashing_modules, "02_two/first.py", "", "module first is in 01_one and 02_two"),
    (layout.clashing_modules, "02_two/first/part.py", "", "module first is in 01_one and 02_two"),
    (layout.clashing_modules, "02_two/json.py", "", "json of 02_two has the name"),
    (layout.clashing_modules, "02_two/numpy.py", "", "numpy of 02_two has the name"),
    (layout.clashing_modules, "02_two/profiling.py", "", "profiling of 02_two has the name"),
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
    (code_rules.unimportable_imports, "tools/a.py", "from exercises import x", "exercises by name"),
    (code_rules.unimportable_imports, "tools/a.py", "import data.prepare", "data by name"),
    (code_rules.path_edits, "tools/a.py", "import sys\nsys.path.insert(0, '.')", "a.py:2"),
    (code_rules.path_edits, "tools/a.py", "sys.path[:0] = ['.']", "sys.path[:0]"),
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
]


@pytest.mark.parametrize(("rule", "name", "text", "said"), BROKEN)
def test_a_broken_rule_is_noticed(
    rule: Rule, name: str, text: str, said: str, tmp_path: Path
) -> None:
    problems = rule(build(tmp_path, {**GOOD_HOUSE, name: text}))
    assert any(said in problem for problem in problems), problems


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
def test_what_only_looks_like_a_mistake_passes(rule: Rule, text: str, tmp_path: Path) -> None:
    assert rule(build(tmp_path, {"tools/a.py": text})) == []


def test_a_test_may_write_the_pickle_that_it_proves_to_be_refused(tmp_path: Path) -> None:
    tree = build(tmp_path, {"01_one/tests/test_a.py": "torch.save({}, 'x')"})
    assert code_rules.pickles(tree) == []


@needs_git
def test_files_that_git_ignores_are_not_kept(tmp_path: Path) -> None:
    build(tmp_path, {".gitignore": "runs/\n", "runs/log.txt": "", "a b.md": "", "b.py": ""})
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert layout.kept_files(tmp_path) == [Path(".gitignore"), Path("a b.md"), Path("b.py")]
