"""Install what the course needs into .venv; do nothing, silently, when it is already there.

    python tools/install.py            the packages of the course (requirements.txt)
    python tools/install.py --dev      also the development tools (ruff, pyright)
    python tools/install.py --extra serve    also what one part of the course needs: EXTRAS
    python tools/install.py --force    delete .venv first and start from scratch

A finished installation leaves a stamp in .venv: the Python version, the folder, and a hash of the
package lists. While the stamp is up to date there is nothing to do.

Standard library only, and syntax that Python 3.8 can read: this file runs before anything is
installed, and an old Python must still be able to print why it is not supported.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = ("3.14", "3.13", "3.12", "3.11")  # newest first
PACKAGE_LISTS = ("requirements.txt", "pyproject.toml")
STEPS = {  # name of the stamp: what is installed, and the arguments for pip
    "course": ("the packages of the course", ["-r", "requirements.txt"]),
    "dev": ("the development tools", ["-e", ".[dev]"]),
    "serve": ("the packages of the server", ["-e", ".[serve]"]),
    "interop": ("the library transformers", ["-e", ".[interop]"]),
}
EXTRAS = ("interop", "serve")  # for --extra
# Run in another Python. 32-bit and free-threaded builds print nothing: some packages have no wheel.
ASK_VERSION = """
import {needs}, sys, sysconfig
if sys.maxsize > 2**32 and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print("%d.%d" % sys.version_info[:2])
"""

FOLDERS_OF_PIP = ("target", "prefix", "root")  # settings of pip that name where packages go

# The wheels of this version on PyPI, as its file names list them. A test compares it with the pin.
TORCH = "2.13.0"
WHEELS = "Linux with glibc 2.28 or newer (x86_64, aarch64), macOS 14 or newer (Apple silicon), \
Windows (x86_64)"
OLDEST_GLIBC, OLDEST_MACOS = (2, 28), (14,)


class InstallError(Exception):
    """The installation is not possible; the message says why and what would help."""


def main() -> int:
    """Install what is missing; 0 done, 1 failed, 130 interrupted."""
    parser = argparse.ArgumentParser(description="Install what the course needs into .venv.")
    parser.add_argument("--dev", action="store_true", help="also install the development tools")
    parser.add_argument(
        "--extra",
        action="append",
        choices=EXTRAS,
        default=[],
        help="also install what one part needs: interop (comparisons with transformers), "
        "serve (the capstone's server)",
    )
    parser.add_argument("--force", action="store_true", help="delete .venv and start from scratch")
    options = parser.parse_args()
    try:
        install(ROOT, dev=options.dev, force=options.force, extras=options.extra)
    except (InstallError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def install(root: Path, dev: bool = False, force: bool = False, extras: Sequence[str] = ()) -> None:
    """Bring `root`/.venv up to date; silent when it already is. Raises InstallError."""
    version = version_of(venv_python(root), needs="pip")
    if force or version not in SUPPORTED or has_moved(root):
        check_machine(root)
        make_venv(find_python(), root)
        version = version_of(venv_python(root), needs="pip")
    expected = stamp_text(root, version)
    installed = False
    for name in ["course", *(["dev"] if dev else []), *extras]:
        stamp = stamp_path(root, name)
        if read(stamp) == expected:
            continue
        check_machine(root)
        if stamp.exists():
            stamp.unlink()  # a failed or interrupted installation leaves no stamp
        what, arguments = STEPS[name]
        pip_install(root, what, arguments)
        stamp.write_text(expected, encoding="utf-8")
        installed = True
    if installed:
        print(f"Installed. To check this machine: {verify_command()}", flush=True)


def verify_command() -> str:
    """What to type after the installation; Windows seldom has make."""
    if sys.platform == "win32":
        return r".venv\Scripts\python setup\verify_environment.py"
    return "make verify"


# --- is it possible here? ---


def check_machine(root: Path) -> None:
    """Raise InstallError, before pip is asked, where the packages cannot be installed."""
    if os.pathsep in str(root):
        raise InstallError(
            f"the path of the course, {root}, contains {os.pathsep!r}, which Python's virtual "
            f"environments do not support; rename the folder"
        )
    if f"torch=={TORCH}\n" in read(root / "requirements.txt"):  # another pin: pip will find out
        problem = missing_wheel(
            sys.platform, platform.machine(), glibc_version(), platform.mac_ver()[0]
        )
        if problem:
            raise InstallError(
                f"PyTorch {TORCH} has no build for {problem}. There are builds for {WHEELS}; "
                f"elsewhere, use a cloud notebook such as Colab"
            )


def missing_wheel(system: str, machine: str, glibc: str, macos: str) -> str:
    """Describe this platform if the pinned PyTorch has no wheel for it; "" if it has one."""
    machine = machine.lower()
    if system == "darwin" and machine != "arm64":
        return f"macOS on {machine} (on Apple silicon, use an arm64 Python without Rosetta)"
    if system == "darwin" and numbers(macos) < OLDEST_MACOS:
        return f"macOS {macos}"
    if system == "win32" and machine not in ("amd64", "x86_64"):
        return f"Windows on {machine}"
    if system == "linux" and machine not in ("x86_64", "aarch64"):
        return f"Linux on {machine}"
    if system == "linux" and numbers(glibc) < OLDEST_GLIBC:
        return f"Linux with glibc {glibc}" if glibc else "Linux without glibc (musl, as on Alpine)"
    return "" if system in ("darwin", "win32", "linux") else system


def glibc_version() -> str:
    """The version of the GNU C library, such as "2.36"; "" where there is none."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2]
    except (AttributeError, OSError, ValueError):  # Windows; musl; macOS
        return ""


def numbers(version: str) -> tuple[int, ...]:
    """ "14.6" as (14, 6), so that versions can be compared; () for ""."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


# --- the environment ---


def venv_python(root: Path) -> Path:
    """The Python executable of `root`/.venv."""
    inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    return root / ".venv" / inside


def version_of(python: str | Path, needs: str) -> str:
    """The version, such as "3.11", of a usable Python that has the module `needs`; else ""."""
    command = [str(python), "-I", "-c", ASK_VERSION.format(needs=needs)]
    try:
        answer = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def find_python() -> str:
    """A supported Python: this one, or the newest on the PATH. Raises InstallError."""
    this = getattr(sys, "_base_executable", sys.executable)  # never the one inside .venv
    running = "{}.{}".format(*sys.version_info[:2])
    if running in SUPPORTED and version_of(this, needs="sys") == running:
        return this
    for version in SUPPORTED:
        found = shutil.which(f"python{version}")
        if found and version_of(found, needs="venv") == version:
            return found
    raise InstallError(
        f"{describe_python(running)} is not supported, and no other Python was found on the PATH; "
        f"install Python {SUPPORTED[-1]} to {SUPPORTED[0]} from https://www.python.org/downloads/"
    )


def describe_python(version: str) -> str:
    """ "Python 3.15", with what else makes this build unsupported."""
    threads = " (free-threaded)" if not getattr(sys, "_is_gil_enabled", lambda: True)() else ""
    bits = "" if sys.maxsize > 2**32 else " (32-bit)"
    return f"Python {version}{threads}{bits}"


def make_venv(python: str, root: Path) -> None:
    """Create a new `root`/.venv with that Python, replacing any old one. Raises InstallError."""
    print(f"Creating .venv with {python}", flush=True)
    command = [python, "-m", "venv", "--clear", str(root / ".venv")]
    made = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if made.returncode != 0:
        raise InstallError("could not create .venv:\n" + last_lines(made.stdout))


# --- the stamp ---


def stamp_path(root: Path, name: str) -> Path:
    """The file whose presence means that the step `name` of STEPS is done."""
    return root / ".venv" / f".stamp-{name}"


def stamp_text(root: Path, version: str) -> str:
    """Everything an installation depends on; when it changes, the packages are installed again."""
    digest = hashlib.sha256()
    for name in PACKAGE_LISTS:
        digest.update((root / name).read_bytes())
    return f"folder {root}\npython {version}\npackages {digest.hexdigest()}\n"


def has_moved(root: Path) -> bool:
    """Was .venv made for another folder? Its scripts would still point there."""
    first = read(stamp_path(root, "course")).partition("\n")[0]
    return first not in ("", f"folder {root}")


def read(path: Path) -> str:
    """The text of a file, "" if there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


# --- pip ---


def pip_install(root: Path, what: str, arguments: list[str]) -> None:
    """Run pip in .venv, showing the time. Raises InstallError with the end of pip's output."""
    env = environment_for_pip()
    check_pip_settings(root, env)
    print(f"Installing {what} into .venv; the first time takes a few minutes.", flush=True)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command = [str(venv_python(root)), "-I", "-m", "pip", "install", "--no-user"]
    command += [*quiet, *arguments]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command, cwd=str(root), env=env, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            show_time(child)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        log.seek(0)
        output = log.read().decode("utf-8", errors="replace")
    if child.returncode != 0:
        raise InstallError(
            f"pip could not install {what} (exit code {child.returncode}). Its last lines:\n"
            f"{last_lines(output)}\n"
            "Fix the cause (often the network or a full disk) and run the same command again."
        )


def environment_for_pip() -> dict[str, str]:
    """The environment variables, without those that would send the packages elsewhere."""
    elsewhere = {f"PIP_{name.upper()}" for name in ("user", *FOLDERS_OF_PIP)}
    return {name: value for name, value in os.environ.items() if name not in elsewhere}


def check_pip_settings(root: Path, env: dict[str, str]) -> None:
    """Raise InstallError if pip.conf names another folder to install into."""
    command = [str(venv_python(root)), "-I", "-m", "pip", "config", "list"]
    answer = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    for line in answer.stdout.splitlines():
        name, _, value = line.partition("=")  # global.target='/some/folder'
        if name.rpartition(".")[2] in FOLDERS_OF_PIP:
            raise InstallError(
                f"pip is configured to install into {value} ({name}), not into .venv; "
                f"undo that with: python -m pip config unset {name}"
            )


def show_time(child: subprocess.Popen[bytes]) -> None:
    """Print how long pip has run: every second on a terminal, every 30 seconds in a log."""
    start = time.monotonic()
    terminal = sys.stdout.isatty()
    while True:
        try:
            child.wait(timeout=1 if terminal else 30)
            break
        except subprocess.TimeoutExpired:
            print(f"  {elapsed(start)}", end="\r" if terminal else "\n", flush=True)
    print(f"  {elapsed(start)}", flush=True)


def elapsed(start: float) -> str:
    """Minutes and seconds since `start`, such as "2:05"."""
    minutes, seconds = divmod(int(time.monotonic() - start), 60)
    return f"{minutes}:{seconds:02d}"


def last_lines(text: str, count: int = 12) -> str:
    """The last lines that are not blank, each after a bar."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"  | {line}" for line in lines[-count:])


if __name__ == "__main__":
    sys.exit(main())
