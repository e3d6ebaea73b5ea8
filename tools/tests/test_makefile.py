"""The Makefile, .ci/run and the workflow run programs that exist, as the design requires."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tools.module_tests import pick_module
from utils.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PROMISED = {
    *("help", "install", "verify", "data", "demo", "test", "test-module", "validate"),
    *("lint", "format", "clean", "status", "watch", "hint", "reset", "serve", "update"),
}

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the repository, without the variables of a make that started these tests."""
    return run_make(arguments, ROOT)


def run_make(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run make as from a terminal: under `make test`, its variables would change what it prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    env.pop("MFLAGS", None)
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding="utf-8")


def test_every_promised_target_exists() -> None:
    assert TARGETS >= PROMISED


def test_every_target_is_phony() -> None:
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].replace("\\\n", " ").split()) == TARGETS


@needs_make
def test_make_alone_lists_every_target() -> None:
    listed = [line.split()[1] for line in make().stdout.splitlines()]
    assert set(listed) == TARGETS


@needs_make
@pytest.mark.parametrize("name", ["a [b] c", "a::b", "a $b $(c)", "'a' \"b\" & c"])
def test_the_targets_work_in_a_folder_with_a_strange_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    (folder / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "tools" / "install.py").write_text("print('installed')", encoding="utf-8")
    (folder / "tools" / "clean.py").write_text("print('cleaned')", encoding="utf-8")
    for target, printed in (("install", "installed\n"), ("clean", "cleaned\n")):
        done = run_make([f"PYTHON={shlex.quote(sys.executable)}", target], folder)
        assert (done.stdout, done.stderr) == (printed, "")


@needs_make
def test_assertions_count_even_with_pythonoptimize(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    printed = make("PYTHON=env #", "install").stdout.splitlines()
    assert any(line.startswith("PATH=") for line in printed)
    assert not any(line.startswith("PYTHONOPTIMIZE=") for line in printed)


@needs_make
def test_the_list_of_targets_fits_eighty_columns() -> None:
    assert max(len(line) for line in make().stdout.splitlines()) <= 80


@pytest.mark.parametrize("target", ["verify", "data", "demo", "test", "test-module"])
def test_a_target_that_needs_the_environment_installs_it_first(target: str) -> None:
    assert re.search(rf"^{target}: install\b", MAKEFILE, re.MULTILINE)


@needs_make
def test_a_dry_run_of_every_target_succeeds() -> None:
    done = make("--dry-run", *sorted(TARGETS))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", [MAKEFILE, WORKFLOW], ids=["Makefile", "ci.yml"])
def test_the_programs_that_are_called_exist(text: str) -> None:
    programs = re.findall(r"(?:\$\(PY(?:THON)?\)|\$PY|python) ([\w/]+\.py)", text)
    assert "tools/install.py" in programs
    assert [name for name in programs if not (ROOT / name).is_file()] == []


def test_the_workflow_covers_three_systems_and_two_versions_of_python() -> None:
    job = yaml.safe_load(WORKFLOW)["jobs"]["check"]
    matrix = job["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == ["3.11", "3.14"]


@pytest.mark.parametrize("name", [".ci/run", ".github/workflows/ci.yml"])
def test_ci_runs_each_test_once(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(re.findall(r"make test\b(?!-)|-m pytest", text, re.MULTILINE)) == 1
    assert "--skip-tests" in text


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash and permission bits")
def test_ci_run_is_a_program_that_bash_can_read() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("given", ["01_attention", "01_attention/", "utils"])
def test_a_module_is_found_by_its_name(given: str) -> None:
    assert pick_module(given, ROOT) == given.rstrip("/")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "MODULE is missing; choose one of: 00_setup"),
        ("01_atention", "did you mean '01_attention'"),
        ("attention", "did you mean '01_attention'"),
        ("99", "choose one of: 00_setup"),
    ],
)
def test_an_unknown_module_is_wrong_usage(given: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        pick_module(given, ROOT)
