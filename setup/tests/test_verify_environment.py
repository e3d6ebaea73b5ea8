"""The environment check prints [OK] where all is well, and names each problem otherwise."""

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

PROGRAM = Path(__file__).resolve().parents[1] / "verify_environment.py"


def load() -> ModuleType:
    """The program as a module; its folder is not importable by name."""
    spec = importlib.util.spec_from_file_location("verify_environment", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


verify = load()


def run(*arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, str(PROGRAM), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)


def test_a_ready_machine_gets_ok_lines_and_the_next_step():
    answer = run()
    *lines, last = answer.stdout.splitlines()
    assert all(line.startswith("[OK]   ") for line in lines), answer.stdout
    assert last.startswith("Ready. Next: make demo")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_json_gives_the_same_report():
    answer = run("--json")
    report = json.loads(answer.stdout)
    assert report["ready"] is True and answer.returncode == 0
    names = [check["name"] for check in report["checks"]]
    assert {"Python", "torch", "course modules", "device", "bfloat16", "disk"} <= set(names)
    assert all(check["ok"] for check in report["checks"])


def test_without_any_package_it_still_runs_and_names_what_is_missing():
    answer = run(options=("-I", "-S"))  # no site-packages: as on a fresh machine
    *lines, last = answer.stdout.splitlines()
    assert answer.returncode == 1
    assert f"[FAIL] torch: not installed (the course pins {pinned('torch')})" in lines
    assert any(line.startswith("[FAIL] course modules: ") for line in lines)
    assert any(line.startswith("[FAIL] PyTorch: does not work here") for line in lines)
    assert last.startswith("Not ready: ") and "make " in last
    assert answer.stderr == ""


def pinned(name: str) -> str:
    requirements = (PROGRAM.parents[1] / "requirements.txt").read_text(encoding="utf-8")
    return verify.pins(requirements)[name]


def test_an_unknown_option_is_wrong_usage():
    assert run("--jsom").returncode == 2


def test_a_python_too_old_for_the_course_can_still_read_the_program():
    ast.parse(PROGRAM.read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize(
    ("version", "ok"), [((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), False)]
)
def test_the_supported_pythons_are_3_11_to_3_14(version, ok):
    assert verify.check_python(version).ok is ok


def test_pins_are_read_from_requirements_and_other_lines_are_skipped():
    text = "# with a==1\ntorch==2.13.0  # exactly\n\nnumpy == 2.4.6\n-e .\n"
    assert verify.pins(text) == {"torch": "2.13.0", "numpy": "2.4.6"}


@pytest.mark.parametrize(
    ("installed", "ok"),
    [("2.13.0", True), ("2.13.0+cpu", True), ("2.13.1", False), ("2.13.0rc1", False)],
)
def test_a_package_must_have_the_pinned_version_in_any_build(monkeypatch, installed, ok):
    monkeypatch.setattr(verify.metadata, "version", lambda name: installed)
    check = verify.check_package("torch", "2.13.0")
    assert (check.ok, installed in check.found) == (ok, True)
    assert ok or ("2.13.0" in check.found and "make install" in check.fix)


def test_a_missing_package_is_named():
    line = str(verify.check_package("no-such-package-at-all", "1.0"))
    assert line == "[FAIL] no-such-package-at-all: not installed (the course pins 1.0)"


def test_course_modules_are_the_files_and_folders_that_lessons_make_importable(tmp_path):
    for name in ("01_a/one.py", "01_a/tests/test_one.py", "09_b/model/net.py", "tools/not_me.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert verify.course_modules(tmp_path) == {
        "utils": tmp_path / "utils",
        "one": tmp_path / "01_a" / "one.py",
        "model": tmp_path / "09_b" / "model",
    }


STRAY = (  # editors, systems and learners leave these
    *("01_a/._one.py", "01_a/.#one.py", "01_a/one.old.py", "01_a/.ipynb_checkpoints/one.py"),
    *("01_a/__pycache__/one.py", "02_b/.hidden/one.py"),
)


def make_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_that_cannot_be_imported_are_no_course_modules(tmp_path):
    make_files(tmp_path, "01_a/one.py", *STRAY)
    assert set(verify.course_modules(tmp_path)) == {"utils", "one"}


def test_a_name_in_two_lessons_is_the_learners_and_no_problem(tmp_path):
    make_files(tmp_path, "01_a/one.py", "01_a/scratch.py", "02_b/scratch.py")
    assert set(verify.course_modules(tmp_path)) == {"utils", "one"}


def test_a_copy_that_hides_a_module_of_the_course_is_to_be_renamed(tmp_path, monkeypatch):
    make_files(tmp_path, "01_a/hidden_module.py", "05_b/hidden_module.py")
    copy, original = (tmp_path / name / "hidden_module.py" for name in ("01_a", "05_b"))
    monkeypatch.setattr(verify, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", [str(copy.parent), str(original.parent), *sys.path])
    (check,) = verify.check_modules({"hidden_module": original})
    assert not check.ok and check.fix == f"rename {copy}"


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_in_a_clone_only_files_that_git_tracks_are_course_modules(tmp_path):
    make_files(tmp_path, "01_a/one.py", "01_a/package/two.py", "01_a/tests/test_one.py")
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    make_files(tmp_path, "01_a/scratch.py", "02_b/scratch.py", "09_c/scratch/x.py", *STRAY)
    assert set(verify.course_modules(tmp_path)) == {"utils", "one", "package"}


def test_for_a_shadowed_module_both_places_are_named(monkeypatch, tmp_path):
    theirs, ours = tmp_path / "site-packages", tmp_path / "01_lesson"
    for folder in (theirs, ours):
        folder.mkdir()
        (folder / "shadowed_lesson.py").touch()
    modules = {"shadowed_lesson": ours / "shadowed_lesson.py"}

    monkeypatch.setattr(sys, "path", [str(ours), *sys.path])
    assert [check.ok for check in verify.check_modules(modules)] == [True]

    monkeypatch.setattr(sys, "path", [str(theirs), *sys.path])
    (check,) = verify.check_modules(modules)
    assert (check.name, check.ok) == ("module shadowed_lesson", False)
    assert str(theirs) in check.found and str(ours) in check.found


def test_a_package_is_found(monkeypatch, tmp_path):
    (tmp_path / "folder_of_a_lesson").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    modules = {"folder_of_a_lesson": tmp_path / "folder_of_a_lesson"}
    assert [check.ok for check in verify.check_modules(modules)] == [True]


def test_modules_that_cannot_be_found_are_listed():
    (check,) = verify.check_modules({"no_such_lesson": Path("no_such_lesson.py")})
    assert str(check) == "[FAIL] course modules: 1 of 1 cannot be imported: no_such_lesson"


def test_a_wrong_gradient_fails(monkeypatch):
    device = torch.device("cpu")
    assert verify.check_gradient(device).ok
    monkeypatch.setattr(torch.Tensor, "square", lambda x: x**3)
    assert not verify.check_gradient(device).ok


def test_a_device_without_bfloat16_is_only_noted(monkeypatch):
    def refuse(*_: object) -> str:
        raise RuntimeError("not implemented for BFloat16")

    monkeypatch.setattr("utils.device.fastest", refuse)
    check = verify.check_bfloat16(torch.device("cpu"))
    assert check.ok and "not supported" in check.found


def test_a_broken_torch_is_reported_in_one_line(monkeypatch):
    def break_down() -> None:
        raise OSError("libtorch.so: no such file\nand a long story")

    monkeypatch.setattr("utils.device.pick_device", break_down)
    (check,) = verify.check_torch()
    assert str(check) == ("[FAIL] PyTorch: does not work here, OSError: libtorch.so: no such file")


@pytest.mark.parametrize(("free", "ok"), [(10**9 - 1, False), (10**9, True)])
def test_one_gigabyte_must_be_free(monkeypatch, tmp_path, free, ok):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(verify.shutil, "disk_usage", lambda folder: usage)
    check = verify.check_disk(tmp_path)
    assert check.ok is ok
    assert "data and runs need 1 GB" in check.found  # besides .venv, which is there by then


def test_writing_leaves_nothing_behind(tmp_path):
    assert verify.check_writing(tmp_path / "new" / "runs").ok
    assert list((tmp_path / "new" / "runs").iterdir()) == []


def test_a_folder_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "runs").touch()  # a file in its place stops every user, even root
    check = verify.check_writing(tmp_path / "runs")
    assert not check.ok and str(tmp_path / "runs") in check.found


def test_the_next_step_is_the_fix_of_the_first_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(verify, "ROOT", tmp_path)
    checks = [
        verify.Check("a", True, "fine"),
        verify.Check("b", False, "broken", "make install"),
        verify.Check("c", False, "broken too", "something else"),
    ]
    assert verify.next_step(checks) == "Not ready: 2 of 3 checks failed. Next: make install"


def test_with_another_python_the_next_step_is_to_use_the_one_of_the_course(monkeypatch, tmp_path):
    own = tmp_path / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    own.parent.mkdir(parents=True)
    own.touch()
    monkeypatch.setattr(verify, "ROOT", tmp_path)
    problem = verify.Check("b", False, "broken", "make install")
    assert "make verify" in verify.next_step([problem])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert verify.next_step([problem]).endswith("Next: make install")
