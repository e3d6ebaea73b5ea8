"""tools/install.py, with real environments and a fake pip that records its arguments."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tools import install
from tools.checks.code_rules import imported_modules

TOOLS = Path(install.__file__).parent
FAKE_PIP = """
import pathlib, sys
if sys.argv[1] == "config":
    sys.exit()
with open("pip.log", "a", encoding="utf-8") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
print("Collecting torch")
if pathlib.Path("no-network").exists():
    sys.exit("ERROR: no matching distribution for torch")
"""


def make_fake_venv(python: str, root: Path) -> None:
    """A new environment of this Python, whose pip is FAKE_PIP."""
    folder = root / ".venv"
    venv.EnvBuilder(symlinks=os.name != "nt", clear=True).create(folder)
    packages = next(folder.glob("[Ll]ib/**/site-packages"))
    (packages / "pip").mkdir()
    (packages / "pip" / "__init__.py").write_text("", encoding="utf-8")
    (packages / "pip" / "__main__.py").write_text(FAKE_PIP, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with package lists and no environment."""
    monkeypatch.setattr(install, "make_venv", make_fake_venv)
    folder = tmp_path / "course"
    folder.mkdir()
    (folder / "requirements.txt").write_text("torch\n", encoding="utf-8")
    (folder / "pyproject.toml").write_text("", encoding="utf-8")
    return folder


def pip_calls(root: Path) -> list[str]:
    """The last two arguments of each call of pip."""
    log = root / "pip.log"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [" ".join(line.split()[-2:]) for line in lines]


def mark(root: Path) -> Path:
    """A file in .venv, which disappears when a new environment is made."""
    path = root / ".venv" / "mark"
    path.touch()
    return path


def test_the_second_time_nothing_is_done_and_nothing_is_printed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install.install(root)
    said = capsys.readouterr().out
    last = f"\nInstalled. To check this machine: {install.verify_command()}\n"
    assert "a few minutes" in said and said.endswith(last)
    install.install(root)
    assert capsys.readouterr().out == ""
    assert pip_calls(root) == ["-r requirements.txt"]


def test_the_developer_tools_are_a_separate_step(root: Path) -> None:
    install.install(root)
    install.install(root, dev=True)
    install.install(root, dev=True)
    assert pip_calls(root) == ["-r requirements.txt", "-e .[dev]"]


def test_an_extra_is_a_step_of_its_own_that_is_done_once(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install.install(root, extras=["serve"])
    assert "the packages of the server" in capsys.readouterr().out
    install.install(root, extras=["serve"])
    assert capsys.readouterr().out == ""
    assert pip_calls(root) == ["-r requirements.txt", "-e .[serve]"]


def test_every_extra_is_declared_and_exactly_pinned() -> None:
    text = (TOOLS.parent / "pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)["project"]["optional-dependencies"]
    for extra in install.EXTRAS:
        assert all("==" in package for package in declared[extra])
        assert install.STEPS[extra][1] == ["-e", f".[{extra}]"]
    assert f"tiny-transformer-course[{','.join(install.EXTRAS)}]" in declared["dev"]


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_a_changed_list_is_installed_into_the_same_environment(root: Path, name: str) -> None:
    install.install(root)
    kept = mark(root)
    (root / name).write_text("# changed\n", encoding="utf-8")
    install.install(root)
    assert len(pip_calls(root)) == 2
    assert kept.exists()


def test_a_failed_installation_shows_the_output_of_pip_and_leaves_no_stamp(root: Path) -> None:
    install.install(root)
    (root / "no-network").touch()
    (root / "requirements.txt").write_text("torch==2\n", encoding="utf-8")
    with pytest.raises(install.InstallError, match=r"(?s)exit code 1.*\| ERROR: no matching"):
        install.install(root)
    assert not list((root / ".venv").glob(".stamp*"))
    (root / "no-network").unlink()
    install.install(root)
    assert len(pip_calls(root)) == 3
    assert list((root / ".venv").glob(".stamp*"))


def test_an_interrupted_installation_stops_pip_and_leaves_no_stamp(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[subprocess.Popen[bytes]] = []

    def interrupt(child: subprocess.Popen[bytes]) -> None:
        children.append(child)
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "show_time", interrupt)
    with pytest.raises(KeyboardInterrupt):
        install.install(root)
    assert children[0].poll() is not None
    assert not list((root / ".venv").glob(".stamp*"))


def test_force_starts_from_scratch(root: Path) -> None:
    install.install(root)
    gone = mark(root)
    install.install(root, force=True)
    assert not gone.exists()
    assert len(pip_calls(root)) == 2


def test_an_environment_without_its_python_is_made_again(root: Path) -> None:
    install.install(root)
    gone = mark(root)
    install.venv_python(root).unlink()
    install.install(root)
    assert not gone.exists()
    assert len(pip_calls(root)) == 2


def test_a_moved_repository_gets_a_new_environment(root: Path) -> None:
    install.install(root)
    gone = mark(root)
    moved = root.with_name("elsewhere")
    shutil.move(root, moved)
    install.install(moved)
    assert not (moved / gone.relative_to(root)).exists()
    assert len(pip_calls(moved)) == 2


def test_an_environment_made_by_hand_is_kept(root: Path) -> None:
    make_fake_venv(sys.executable, root)
    kept = mark(root)
    install.install(root)
    assert kept.exists()
    assert pip_calls(root) == ["-r requirements.txt"]


def test_the_running_python_is_used_if_it_is_supported() -> None:
    found = install.find_python()
    assert install.version_of(found, needs="venv") == "{}.{}".format(*sys.version_info[:2])
    assert ".venv" not in Path(found).parts


def test_otherwise_the_newest_working_python_on_the_path_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {"p3.99": "", "p3.98": "3.98", "p3.97": "3.97"}  # the newest is there but broken
    monkeypatch.setattr(install, "SUPPORTED", ("3.99", "3.98", "3.97"))
    monkeypatch.setattr(install.shutil, "which", lambda name: name.replace("python", "p"))
    monkeypatch.setattr(install, "version_of", lambda python, needs: answers.get(python, ""))
    assert install.find_python() == "p3.98"


def test_without_a_supported_python_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "SUPPORTED", ("3.99", "3.98"))
    monkeypatch.setattr(install, "ROOT", Path("nowhere"))
    monkeypatch.setattr(sys, "argv", ["install.py"])
    assert install.main() == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "install Python 3.98 to 3.99" in error


def test_an_interrupted_program_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "install", interrupt)
    monkeypatch.setattr(sys, "argv", ["install.py"])
    assert install.main() == 130


def test_an_environment_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".venv").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(install.InstallError, match=r"could not create \.venv"):
        install.make_venv(sys.executable, tmp_path)


def test_python_3_8_can_read_it() -> None:
    source = (TOOLS / "install.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))


@pytest.mark.parametrize("name", ["install.py", "clean.py"])
def test_it_runs_before_anything_is_installed(name: str) -> None:
    tree = ast.parse((TOOLS / name).read_text(encoding="utf-8"))
    assert {module for _, module in imported_modules(tree)} <= sys.stdlib_module_names


# --- machines for which the packages are not built ---


@pytest.mark.parametrize(
    ("system", "machine", "glibc", "macos"),
    [
        ("linux", "x86_64", "2.28", ""),
        ("linux", "aarch64", "2.41", ""),
        ("darwin", "arm64", "", "14.0"),
        ("darwin", "arm64", "", "26.1"),
        ("win32", "AMD64", "", ""),
    ],
)
def test_these_platforms_have_a_wheel_of_torch(
    system: str, machine: str, glibc: str, macos: str
) -> None:
    assert install.missing_wheel(system, machine, glibc, macos) == ""


@pytest.mark.parametrize(
    ("system", "machine", "glibc", "macos", "named"),
    [
        ("darwin", "x86_64", "", "15.1", "macOS on x86_64"),  # an Intel Mac, or Rosetta
        ("darwin", "arm64", "", "13.7.1", "macOS 13.7.1"),
        ("linux", "x86_64", "", "", "Linux without glibc (musl"),
        ("linux", "x86_64", "2.17", "", "Linux with glibc 2.17"),
        ("linux", "armv7l", "2.36", "", "Linux on armv7l"),
        ("linux", "riscv64", "2.36", "", "Linux on riscv64"),
        ("win32", "ARM64", "", "", "Windows on arm64"),
        ("freebsd14", "amd64", "", "", "freebsd14"),
    ],
)
def test_these_platforms_have_no_wheel_of_torch(
    system: str, machine: str, glibc: str, macos: str, named: str
) -> None:
    assert install.missing_wheel(system, machine, glibc, macos).startswith(named)


def test_on_an_intel_mac_one_line_says_so_before_anything_is_made(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "requirements.txt").write_text(f"torch=={install.TORCH}\n", encoding="utf-8")
    monkeypatch.setattr(install, "ROOT", root)
    monkeypatch.setattr(install.sys, "platform", "darwin")
    monkeypatch.setattr(install.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "argv", ["install.py"])
    assert install.main() == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: PyTorch {install.TORCH} has no build for macOS on x86_64")
    assert error.count("\n") == 1
    assert not (root / ".venv").exists()


def test_with_a_torch_of_another_version_pip_decides(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "glibc_version", lambda: "2.17")
    (root / "requirements.txt").write_text("torch==2.2.2\n", encoding="utf-8")
    install.check_machine(root)


def test_the_list_of_wheels_is_that_of_the_pinned_torch() -> None:
    pins = (TOOLS.parent / "requirements.txt").read_text(encoding="utf-8")
    assert f"\ntorch=={install.TORCH}\n" in pins


@pytest.mark.parametrize("command", ["jupyter-lab", "jupyter-notebook"])
def test_both_front_ends_of_jupyter_are_installed(command: str) -> None:
    assert command in {script.name for script in entry_points(group="console_scripts")}


@pytest.mark.parametrize("build", ["free-threaded", "32-bit"])
def test_a_build_of_python_without_wheels_is_not_used(
    monkeypatch: pytest.MonkeyPatch, build: str
) -> None:
    made_up = {
        "free-threaded": "sysconfig.get_config_var = lambda name: 1",
        "32-bit": "sys.maxsize = 2**31 - 1",
    }
    question = install.ASK_VERSION.replace("\nif", f"\n{made_up[build]}\nif")
    assert install.version_of(sys.executable, needs="venv")
    monkeypatch.setattr(install, "ASK_VERSION", question)
    assert install.version_of(sys.executable, needs="venv") == ""


def test_a_path_that_environments_do_not_support_is_named(tmp_path: Path) -> None:
    with pytest.raises(install.InstallError, match=f"contains {os.pathsep!r}.*rename the folder"):
        install.check_machine(tmp_path / f"a{os.pathsep}{os.pathsep}b")


PIP_SETTINGS = {  # each sends packages elsewhere, if pip obeys it; a file by its text
    "PIP_USER": "1",
    "PIP_TARGET": "elsewhere",
    "PIP_PREFIX": "elsewhere",
    "PIP_ROOT": "elsewhere",
    "PIP_CONFIG_FILE": "[install]\nuser = yes\n",
}


def set_pip(patch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """Make this setting for the programs that are started."""
    value = PIP_SETTINGS[name]
    if name == "PIP_CONFIG_FILE":
        (folder / "pip.conf").write_text(value, encoding="utf-8")
        value = str(folder / "pip.conf")
    patch.setenv(name, value)


@pytest.fixture(scope="module")
def real_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real environment, made once while every one of the settings is in force."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        for name in PIP_SETTINGS:
            set_pip(patch, name, folder)
        install.make_venv(install.find_python(), folder)
    return folder


@pytest.mark.parametrize("name", PIP_SETTINGS)
def test_settings_of_pip_do_not_send_packages_elsewhere(
    name: str, real_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the real pip on a wheel made here: it must end up in the environment."""
    monkeypatch.chdir(tmp_path)
    set_pip(monkeypatch, name, tmp_path)
    install.pip_install(real_root, "a wheel", ["--no-index", str(tiny_wheel(tmp_path))])
    [installed] = (real_root / ".venv").glob("**/site-packages/made_here.py")
    for left in installed.parent.glob("made_here*"):  # for the next setting
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert not (tmp_path / "elsewhere").exists()
    assert not (real_root / "elsewhere").exists()


@pytest.mark.parametrize("section", ["global", "install"])
def test_a_pip_conf_that_names_another_folder_is_refused_with_the_way_to_undo_it(
    section: str, real_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "pip.conf"
    conf.write_text(f"[{section}]\ntarget = elsewhere\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(conf))
    with pytest.raises(install.InstallError, match=rf"pip config unset {section}\.target$"):
        install.pip_install(real_root, "a wheel", [])


def tiny_wheel(folder: Path) -> Path:
    """A wheel of one module without dependencies."""
    info = "made_here-1.0.dist-info"
    files = {
        "made_here.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: made-here\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    wheel = folder / "made_here-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return wheel
