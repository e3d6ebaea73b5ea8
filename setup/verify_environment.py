"""Is this machine ready for the course? One line per check, [OK] or [FAIL]; exit code 0 or 1.

    python setup/verify_environment.py           for people, and for bug reports
    python setup/verify_environment.py --json    for programs

Only the standard library at the top, and syntax that Python 3.8 can read: this file must be able to
report what is missing when nothing is installed and the Python is too old.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 14)
GIGABYTE = 10**9
INSTALL = "make install (or: python tools/install.py)"
REINSTALL = "python tools/install.py --force"
# Folders of a lesson that are not packages.
NOT_IMPORTED = {"tests", "exercises", "data", "__pycache__"}


@dataclass(frozen=True)
class Check:
    """What was checked, what was found, and how to fix it."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{'[OK]' if self.ok else '[FAIL]':<7}{self.name}: {self.found}"


def main() -> int:
    """Run every check and print the report; return 0 if all passed, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Is this machine ready for the course?")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a console may lack letters of a path
        sys.stdout.reconfigure(errors="backslashreplace")
    checks = []
    for check in all_checks():
        checks.append(check)
        if not options.json:
            print(check, flush=True)
    ready = all(check.ok for check in checks)
    if options.json:
        report = {"ready": ready, "next": next_step(checks), "checks": list(map(asdict, checks))}
        print(json.dumps(report, indent=2))
    else:
        print(next_step(checks))
    return 0 if ready else 1


def all_checks() -> Iterator[Check]:
    """Every check, causes before their consequences."""
    yield check_python(sys.version_info[:2])
    for name, pin in pins((ROOT / "requirements.txt").read_text(encoding="utf-8")).items():
        yield check_package(name, pin)
    yield from check_modules(course_modules(ROOT))
    yield from check_torch()
    yield check_disk(ROOT)
    yield check_writing(ROOT / "09_capstone" / "runs")


def next_step(checks: list[Check]) -> str:
    """The last line of the report: what to type now."""
    failed = [check for check in checks if not check.ok]
    if not failed:
        return "Ready. Next: make demo (train a small model), or make status (start learning)."
    fix = failed[0].fix
    own = Path(".venv", "Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (ROOT / own).exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        fix = f"make verify (or: {own} setup/verify_environment.py), with the Python in .venv"
    return f"Not ready: {len(failed)} of {len(checks)} checks failed. Next: {fix}"


def check_python(version: tuple[int, int]) -> Check:
    """Is this a Python version that the packages support?"""
    oldest, newest, running = ("{}.{}".format(*v) for v in (OLDEST, NEWEST, version))
    fix = f"install Python {oldest} to {newest} from https://www.python.org, then {INSTALL}"
    found = f"{running} at {sys.executable} (the course needs {oldest} to {newest})"
    return Check("Python", OLDEST <= version <= NEWEST, found, fix)


# --- packages and modules ---


def pins(requirements: str) -> dict[str, str]:
    """Name and version of every `name==version` line; comments and options are skipped."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {name.strip(): pin.strip() for name, _, pin in pairs}


def check_package(name: str, pin: str) -> Check:
    """Is the pinned version installed? A build such as 2.13.0+cpu counts as 2.13.0."""
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, False, f"not installed (the course pins {pin})", INSTALL)
    if installed.partition("+")[0] != pin:
        return Check(name, False, f"{installed} (the course pins {pin})", INSTALL)
    return Check(name, True, installed)


def course_modules(root: Path) -> dict[str, Path]:
    """Each name that the course makes importable, with the file or folder it must come from."""
    places = {"utils": {root / "utils"}}
    for path in lesson_files(root):
        module = root.joinpath(*path.parts[:2])  # a file of the lesson, or a folder of files
        if module.stem.isidentifier() and module.stem not in NOT_IMPORTED:
            places.setdefault(module.stem, set()).add(module)
    # The course uses a name once; one that is in two lessons is the learner's.
    return {name: found.pop() for name, found in places.items() if len(found) == 1}


def lesson_files(root: Path) -> list[Path]:
    """The Python files of the lessons, relative to root: those of the course, not the learner's."""
    found = tracked_files(root)
    if found is None:
        found = [path.relative_to(root) for path in root.glob("[0-9][0-9]_*/**/*.py")]
    return sorted(
        path
        for path in found
        if path.match("[0-9][0-9]_*/*.py") or path.match("[0-9][0-9]_*/*/*.py")
        if path.suffix == ".py" and path.stem.isidentifier() and (root / path).is_file()
    )


def tracked_files(root: Path) -> list[Path] | None:
    """The files that git tracks; None where git cannot tell."""
    if not (root / ".git").exists():
        return None
    command = ["git", "ls-files", "-z"]
    try:
        answer = subprocess.run(
            command, cwd=str(root), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:  # git is not installed
        return None
    if answer.returncode != 0:  # the repository belongs to another user, say
        return None
    return [Path(name) for name in os.fsdecode(answer.stdout).split("\0") if name]


def check_modules(modules: dict[str, Path]) -> Iterator[Check]:
    """Is each module loaded from here? An installed package of the same name would come first."""
    places = {name: place_of(name) for name in modules}
    missing = [name for name, place in places.items() if place is None]
    if missing:
        first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        found = f"{len(missing)} of {len(modules)} cannot be imported: {first}"
        yield Check("course modules", False, found, INSTALL)
    for name, place in places.items():
        if place is not None and place != modules[name].resolve():
            found = f"loaded from {place} instead of {modules[name]}"
            ours = ROOT in place.parents and ROOT / ".venv" not in place.parents
            yield Check(f"module {name}", False, found, f"rename {place}" if ours else REINSTALL)
            missing.append(name)
    if not missing:
        yield Check("course modules", True, f"all {len(modules)} are loaded from {ROOT}")


def place_of(name: str) -> Path | None:
    """The file of the module, or the folder of the package, that an import would load."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin or "").resolve()


# --- what PyTorch can do here ---


def check_torch() -> Iterator[Check]:
    """The device, its speed in bfloat16, and a gradient whose value is known."""
    try:
        from utils.device import describe_device, pick_device

        device = pick_device()
        yield Check("device", True, describe_device(device))
        yield check_bfloat16(device)
        yield check_gradient(device)
    except Exception as error:  # a broken installation can raise anything
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Check("PyTorch", False, f"does not work here, {cause}", REINSTALL)


def check_bfloat16(device: torch.device) -> Check:
    """Is a matrix product faster in bfloat16 or in float32? Either answer is fine."""
    import torch

    from utils.device import fastest

    x = torch.ones(256, 256, device=device)
    half = x.bfloat16()

    def multiply(matrix: torch.Tensor) -> None:
        torch.mm(matrix, matrix)

    products = {"float32": lambda: multiply(x), "bfloat16": lambda: multiply(half)}
    try:
        winner = fastest(products, device)
    except RuntimeError:
        return Check("bfloat16", True, "not supported here; float32 is used instead")
    return Check("bfloat16", True, f"works; for a small matrix product {winner} is faster")


def check_gradient(device: torch.device) -> Check:
    """One forward and one backward pass: the gradient of mean((x w)^2) is 2 x^T (x w) / n."""
    import torch

    start = time.perf_counter()
    x = torch.arange(6.0, device=device).view(3, 2)
    w = torch.ones(2, device=device, requires_grad=True)
    (x @ w).square().mean().backward()
    truth = torch.tensor([92 / 3, 122 / 3])  # x w = (1, 5, 9), so x^T (x w) = (46, 61)
    ok = w.grad is not None and torch.allclose(w.grad.cpu(), truth)
    found = f"{1000 * (time.perf_counter() - start):.0f} ms" if ok else f"wrong gradient {w.grad}"
    return Check("forward and backward pass", ok, found, REINSTALL)


# --- the disk ---


def check_disk(folder: Path) -> Check:
    """Is there space for the data, some runs and their checkpoints?"""
    free = shutil.disk_usage(folder).free
    found = f"{free / GIGABYTE:.1f} GB free (data and runs need 1 GB)"
    return Check("disk", free >= GIGABYTE, found, f"free up space on the disk that holds {folder}")


def check_writing(folder: Path) -> Check:
    """Can training runs be written? Creates the folder if necessary, and a file in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        fix = f"make {folder} writable, or train with --out-dir in a folder that is"
        return Check("training runs", False, f"cannot write to {folder}: {error.strerror}", fix)
    return Check("training runs", True, f"{folder} is writable")


if __name__ == "__main__":
    sys.exit(main())
