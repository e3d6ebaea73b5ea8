"""tools/install.py, with true environments and a pip that only writes down what it is asked for."""

import ast
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tools import install
from tools.checks.code_rules import imported_modules

TOOLS = Path(install.__file__).parent
FAKE_PIP = """
import pathlib, sys
with open("pip.log", "a", encoding="utf-8") as log:
    log.write(" ".join(sys.argv[-2:]) + "\\n")
print("Collecting torch")
if pathlib.Path("no-network").exists():
    sys.exit("ERROR: no matching distribution for torch")
"""


def make_fake_venv(python: str, root: Path) -> None:
    """A fresh environment of this Python, whose pip is FAKE_PIP."""
    folder = root / ".venv"
    venv.EnvBuilder(symlinks=os.name != "nt", clear=True).create(folder)
    packages = next(folder.glob("[Ll]ib/**/site-packages"))
    (packages / "pip").mkdir()
    (packages / "pip" / "__init__.py").write_text("", encoding="utf-8")
    (packages / "pip" / "__main__.py").write_text(FAKE_PIP, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with lists of packages and no environment."""
    monkeypatch.setattr(install, "make_venv", make_fake_venv)
    folder = tmp_path / "course"
    folder.mkdir()
    (folder / "requirements.txt").write_text("torch\n", encoding="utf-8")
    (folder / "pyproject.toml").write_text("", encoding="utf-8")
    return folder


def asked_of_pip(root: Path) -> list[str]:
    """The last two arguments of each call of pip."""
    log = root / "pip.log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def mark(root: Path) -> Path:
    """A file in .venv, which is gone once a new environment was made."""
    path = root / ".venv" / "mark"
    path.touch()
    return path


def test_the_second_time_there_is_nothing_to_do_and_nothing_is_said(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install.install(root)
    assert "some minutes" in capsys.readouterr().out
    install.install(root)
    assert capsys.readouterr().out == ""
    assert asked_of_pip(root) == ["-r requirements.txt"]


def test_the_tools_for_developers_are_a_step_of_their_own(root: Path) -> None:
    install.install(root)
    install.install(root, dev=True)
    install.install(root, dev=True)
    assert asked_of_pip(root) == ["-r requirements.txt", "-e .[dev]"]


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_a_changed_list_is_installed_into_the_same_environment(root: Path, name: str) -> None:
    install.install(root)
    kept = mark(root)
    (root / name).write_text("# changed\n", encoding="utf-8")
    install.install(root)
    assert len(asked_of_pip(root)) == 2
    assert kept.exists()


def test_a_failed_installation_shows_what_pip_said_and_leaves_no_stamp(root: Path) -> None:
    install.install(root)
    (root / "no-network").touch()
    (root / "requirements.txt").write_text("torch==2\n", encoding="utf-8")
    with pytest.raises(install.InstallError, match=r"(?s)exit code 1.*\| ERROR: no matching"):
        install.install(root)
    assert not list((root / ".venv").glob(".stamp*"))
    (root / "no-network").unlink()
    install.install(root)
    assert len(asked_of_pip(root)) == 3
    assert list((root / ".venv").glob(".stamp*"))


def test_an_interrupted_installation_stops_pip_and_leaves_no_stamp(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[subprocess.Popen[bytes]] = []

    def interrupt(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "tell_time", interrupt)
    with pytest.raises(KeyboardInterrupt):
        install.install(root)
    assert children[0].poll() is not None
    assert not list((root / ".venv").glob(".stamp*"))


def test_force_begins_from_nothing(root: Path) -> None:
    install.install(root)
    gone = mark(root)
    install.install(root, force=True)
    assert not gone.exists()
    assert len(asked_of_pip(root)) == 2


def test_an_environment_whose_python_is_gone_is_made_again(root: Path) -> None:
    install.install(root)
    gone = mark(root)
    install.venv_python(root).unlink()
    install.install(root)
    assert not gone.exists()
    assert len(asked_of_pip(root)) == 2


def test_a_moved_repository_gets_a_new_environment(root: Path) -> None:
    install.install(root)
    gone = mark(root)
    moved = root.with_name("elsewhere")
    shutil.move(root, moved)
    install.install(moved)
    assert not (moved / gone.relative_to(root)).exists()
    assert len(asked_of_pip(moved)) == 2


def test_an_environment_that_was_made_by_hand_is_kept(root: Path) -> None:
    make_fake_venv(sys.executable, root)
    kept = mark(root)
    install.install(root)
    assert kept.exists()
    assert asked_of_pip(root) == ["-r requirements.txt"]


def test_the_running_python_is_taken_if_it_fits() -> None:
    found = install.find_python()
    assert install.version_of(found, needs="venv") == "{}.{}".format(*sys.version_info[:2])
    assert ".venv" not in Path(found).parts


def test_else_the_newest_on_the_path_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"p3.99": "", "p3.98": "3.98", "p3.97": "3.97"}  # the newest is there but broken
    monkeypatch.setattr(install, "SUPPORTED", ("3.99", "3.98", "3.97"))
    monkeypatch.setattr(install.shutil, "which", lambda name: name.replace("python", "p"))
    monkeypatch.setattr(install, "version_of", lambda python, needs: answers[python])
    assert install.find_python() == "p3.98"


def test_without_a_python_that_fits_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "SUPPORTED", ("3.99", "3.98"))
    monkeypatch.setattr(install, "ROOT", Path("nowhere"))
    monkeypatch.setattr(sys, "argv", ["install.py"])
    assert install.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "install Python 3.98 to 3.99" in said


def test_an_interrupted_program_leaves_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "install", interrupt)
    monkeypatch.setattr(sys, "argv", ["install.py"])
    assert install.main() == 130


def test_an_environment_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / ".venv").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(install.InstallError, match=r"could not make \.venv"):
        install.make_venv(sys.executable, tmp_path)


def test_it_is_written_in_the_grammar_of_python_3_8() -> None:
    source = (TOOLS / "install.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))


@pytest.mark.parametrize("name", ["install.py", "clean.py"])
def test_it_runs_before_anything_is_installed(name: str) -> None:
    tree = ast.parse((TOOLS / name).read_text(encoding="utf-8"))
    assert {module for _, module in imported_modules(tree)} <= sys.stdlib_module_names
