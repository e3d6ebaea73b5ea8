"""Is this machine ready for the course? One line a check, [OK] or [FAIL]; exit code 0 or 1.

    python setup/verify_environment.py           for people, and for bug reports
    python setup/verify_environment.py --json    for programs

Only the standard library at the top, in the grammar of Python 3.8: this file must be able to say
what is missing where nothing is installed and the Python is too old.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import shutil
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
NOT_IMPORTED = {"tests", "exercises", "data"}  # folders of a lesson that hold no module


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do if that is not good enough."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{'[OK]' if self.ok else '[FAIL]':<7}{self.name}: {self.found}"


def main() -> int:
    """Check everything, print the report, return 0 if all is well and 1 otherwise."""
    parser = argparse.ArgumentParser(description="Is this machine ready for the course?")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a path may hold letters that a console cannot show
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
    """Every check, in the order in which a fault would cause the next."""
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
        return "Ready. Next: make demo (a model that speaks), or make status (where to learn)."
    fix = failed[0].fix
    own = Path(".venv", "Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (ROOT / own).exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        fix = f"make verify (or: {own} setup/verify_environment.py), with the Python of the course"
    return f"Not ready: {len(failed)} of {len(checks)} checks failed. Next: {fix}"


def check_python(version: tuple[int, int]) -> Check:
    """Is the running Python one that the packages are made for?"""
    oldest, newest, running = ("{}.{}".format(*v) for v in (OLDEST, NEWEST, version))
    fix = f"install Python {oldest} to {newest} from https://www.python.org, then {INSTALL}"
    found = f"{running} at {sys.executable} (the course needs {oldest} to {newest})"
    return Check("Python", OLDEST <= version <= NEWEST, found, fix)


# --- packages and modules ---


def pins(requirements: str) -> dict[str, str]:
    """Name and version of every `name==version` line; comments and options are passed over."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {name.strip(): pin.strip() for name, _, pin in pairs}


def check_package(name: str, pin: str) -> Check:
    """Is the pinned version installed? A build of it, such as 2.13.0+cpu, is that version."""
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, False, f"not installed (the course pins {pin})", INSTALL)
    if installed.partition("+")[0] != pin:
        return Check(name, False, f"{installed} (the course pins {pin})", INSTALL)
    return Check(name, True, installed)


def course_modules(root: Path) -> dict[str, Path]:
    """Each name that the course makes importable, with the file or folder it must come from."""
    modules = {"utils": root / "utils"}
    for lesson in sorted(root.glob("[0-9][0-9]_*")):
        modules.update({file.stem: file for file in sorted(lesson.glob("*.py"))})
        folders = sorted({file.parent for file in lesson.glob("*/*.py")})
        modules.update({folder.name: folder for folder in folders})
    return {name: path for name, path in modules.items() if name not in NOT_IMPORTED}


def check_modules(modules: dict[str, Path]) -> Iterator[Check]:
    """Does Python load each module from here? A package of the same name would come first."""
    places = {name: place_of(name) for name in modules}
    missing = [name for name, place in places.items() if place is None]
    if missing:
        first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        found = f"{len(missing)} of {len(modules)} cannot be imported: {first}"
        yield Check("course modules", False, found, INSTALL)
    for name, place in places.items():
        if place is not None and place != modules[name].resolve():
            found = f"loaded from {place} instead of {modules[name]}"
            yield Check(f"module {name}", False, found, REINSTALL)
            missing.append(name)
    if not missing:
        yield Check("course modules", True, f"all {len(modules)} are loaded from {ROOT}")


def place_of(name: str) -> Path | None:
    """The file of a module, or the folder of a package, that an import would load; else None."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin or "").resolve()


# --- what PyTorch can do here ---


def check_torch() -> Iterator[Check]:
    """The device, whether bfloat16 pays there, and a gradient whose value is known."""
    try:
        from utils.device import describe_device, pick_device

        device = pick_device()
        yield Check("device", True, describe_device(device))
        yield check_bfloat16(device)
        yield check_gradient(device)
    except Exception as error:  # a broken installation can raise anything; here it is told
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Check("PyTorch", False, f"does not work here, {cause}", REINSTALL)


def check_bfloat16(device: torch.device) -> Check:
    """Is a matrix product in bfloat16 faster than in float32? A note: any answer is fine."""
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
        return Check("bfloat16", True, "not supported here; float32 serves as well")
    return Check("bfloat16", True, f"works; for a small matrix product, {winner} is the choice")


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
    """Is there room for the data, some runs and their checkpoints?"""
    free = shutil.disk_usage(folder).free
    found = f"{free / GIGABYTE:.1f} GB free (the course needs 1 GB)"
    return Check("disk", free >= GIGABYTE, found, f"free some space on the disk of {folder}")


def check_writing(folder: Path) -> Check:
    """May training runs be written? The folder is made if need be, and a file tried in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        fix = f"make {folder} a folder that you may write to"
        return Check("training runs", False, f"cannot write to {folder}: {error.strerror}", fix)
    return Check("training runs", True, f"can be written to {folder}")


if __name__ == "__main__":
    sys.exit(main())
