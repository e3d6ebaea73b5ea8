"""Put what the course needs into .venv, once, and stay out of the way after that.

    python tools/install.py            what a learner needs (requirements.txt)
    python tools/install.py --dev      also what it takes to change the course (ruff, pyright)
    python tools/install.py --force    from nothing, whatever is there

A finished installation leaves a stamp in .venv that names the Python, the folder and a hash of the
lists of packages. As long as the stamp is true there is nothing to do, and nothing is said.

Standard library only, in the grammar of Python 3.8: this file runs before anything is installed,
and a Python too old for the course must still be able to say so.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = ("3.14", "3.13", "3.12", "3.11")  # newest first
PACKAGE_LISTS = ("requirements.txt", "pyproject.toml")
STEPS = {  # name of the stamp: what is installed, and what pip is asked for
    "course": ("the packages of the course", ["-r", "requirements.txt"]),
    "dev": ("the tools for changing the course", ["-e", ".[dev]"]),
}
ASK_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


class InstallError(Exception):
    """The installation cannot be done; the message says why and what would help."""


def main() -> int:
    """Install what is missing; 0 done, 1 failed, 130 interrupted."""
    parser = argparse.ArgumentParser(description="Put what the course needs into .venv.")
    parser.add_argument("--dev", action="store_true", help="also ruff, pyright and the like")
    parser.add_argument("--force", action="store_true", help="make .venv from nothing")
    options = parser.parse_args()
    try:
        install(ROOT, dev=options.dev, force=options.force)
    except (InstallError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def install(root: Path, dev: bool = False, force: bool = False) -> None:
    """Bring `root`/.venv up to date; silent when it is. Raises InstallError."""
    version = version_of(venv_python(root), needs="pip")
    if force or version not in SUPPORTED or has_moved(root):
        make_venv(find_python(), root)
        version = version_of(venv_python(root), needs="pip")
    truth = stamp_text(root, version)
    for name in ["course", "dev"] if dev else ["course"]:
        stamp = stamp_path(root, name)
        if read(stamp) == truth:
            continue
        if stamp.exists():
            stamp.unlink()  # a failed or interrupted installation leaves no stamp
        what, arguments = STEPS[name]
        pip_install(root, what, arguments)
        stamp.write_text(truth, encoding="utf-8")


def venv_python(root: Path) -> Path:
    """Where the environment of `root` keeps its Python."""
    inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    return root / ".venv" / inside


def version_of(python: str | Path, needs: str) -> str:
    """Major and minor version of a Python that runs and has the module `needs`; else ""."""
    command = [str(python), "-I", "-c", f"import {needs}; {ASK_VERSION}"]
    try:
        answer = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def find_python() -> str:
    """A Python that fits the course: this one, or the newest on the PATH. Raises InstallError."""
    running = "{}.{}".format(*sys.version_info[:2])
    if running in SUPPORTED:
        return getattr(sys, "_base_executable", sys.executable)  # never the one inside .venv
    for version in SUPPORTED:
        found = shutil.which(f"python{version}")
        if found and version_of(found, needs="venv") == version:
            return found
    raise InstallError(
        f"Python {running} does not fit the course, and no other was found on the PATH; "
        f"install Python {SUPPORTED[-1]} to {SUPPORTED[0]} from https://www.python.org/downloads/"
    )


def make_venv(python: str, root: Path) -> None:
    """Make a fresh `root`/.venv with that Python, in place of any old one. Raises InstallError."""
    print(f"Making .venv with {python}", flush=True)
    command = [python, "-m", "venv", "--clear", str(root / ".venv")]
    made = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if made.returncode != 0:
        raise InstallError("could not make .venv:\n" + last_lines(made.stdout))


def stamp_path(root: Path, name: str) -> Path:
    """The file that says that the step `name` of STEPS is done."""
    return root / ".venv" / f".stamp-{name}"


def stamp_text(root: Path, version: str) -> str:
    """All that an installation depends on; when one line changes, it is no longer true."""
    digest = hashlib.sha256()
    for name in PACKAGE_LISTS:
        digest.update((root / name).read_bytes())
    return f"folder {root}\npython {version}\npackages {digest.hexdigest()}\n"


def has_moved(root: Path) -> bool:
    """Was .venv made for another folder? Its scripts would still point there."""
    first = read(stamp_path(root, "course")).partition("\n")[0]
    return first not in ("", f"folder {root}")


def read(path: Path) -> str:
    """The text of a file, "" when there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def pip_install(root: Path, what: str, arguments: list[str]) -> None:
    """Run pip in .venv, telling the time. Raises InstallError with the end of what pip said."""
    print(f"Installing {what} into .venv: some minutes the first time.", flush=True)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command = [str(venv_python(root)), "-m", "pip", "install", *quiet, *arguments]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, cwd=str(root), stdout=log, stderr=subprocess.STDOUT)
        try:
            tell_time(child)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        log.seek(0)
        said = log.read().decode("utf-8", errors="replace")
    if child.returncode != 0:
        raise InstallError(
            f"pip could not install {what} (exit code {child.returncode}). Its last lines:\n"
            f"{last_lines(said)}\n"
            "Mend the cause (often the network or a full disk) and run the same command again."
        )


def tell_time(child: subprocess.Popen[bytes]) -> None:
    """Wait for pip and say for how long: each second on a terminal, each half minute in a log."""
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
    """Minutes and seconds since `start`, as in "2:05"."""
    minutes, seconds = divmod(int(time.monotonic() - start), 60)
    return f"{minutes}:{seconds:02d}"


def last_lines(text: str, count: int = 12) -> str:
    """The last lines that are not blank, set off by a bar."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"  | {line}" for line in lines[-count:])


if __name__ == "__main__":
    sys.exit(main())
