"""Experiment tracking: an id for each run, the environment it ran in, and a table of all runs.

    python 08_engineering/experiment_tracking.py list
    python 08_engineering/experiment_tracking.py compare RUN RUN

An id such as 20261121-101530-laptop-3fa29c81d04e begins with the time, so that sorting by name
sorts by age, then names the preset or data, and ends in 48 random bits, so that ids are unique.
"""

import contextlib
import json
import os
import platform
import re
import secrets
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from run_summary import RUN_FILES, RunSummary, run_folders, summarize
from utils.command_line import OneLineParser
from utils.errors import CourseError, UsageError, did_you_mean, run_program
from utils.files import atomic_write_text
from utils.terminal import labelled

REPOSITORY = Path(__file__).resolve().parents[1]
RUNS = REPOSITORY / "09_capstone" / "runs"
PACKAGES = ("torch", "numpy", "matplotlib", "pyyaml", "tqdm", "safetensors")


def new_run_id(name: str, now: datetime | None = None) -> str:
    """A fresh id: the time in UTC, the name in lower case, 12 random hexadecimal digits.

    It contains only a-z, 0-9, "-", "_" and ".", which are safe on every file system; a long name is
    cut to 20 characters. UTC has no daylight saving time, so ids sort by time.
    """
    now = now or datetime.now(UTC)
    if now.tzinfo is not None:
        now = now.astimezone(UTC)
    plain = re.sub(r"[^a-z0-9_.]+", "-", name.lower())[:20].strip("-.") or "run"
    # From `secrets`, not the seeded generator: two runs with the same seed are still two runs.
    return f"{now:%Y%m%d-%H%M%S}-{plain}-{secrets.token_hex(6)}"


def create_run_dir(root: Path | str, name: str) -> Path:
    """Make a new, empty folder for a run under `root` and return it.

    `mkdir` creates the folder or fails, atomically, so two programs never share one. Raises
    OSError where nothing can be written.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    for _ in range(100):
        folder = Path(root) / new_run_id(name)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(exist_ok=False)
            return folder
    raise CourseError(f"no free run id under {root} after 100 tries")


def environment_info(device: str = "auto") -> dict[str, Any]:
    """What a result depends on besides the configuration, ready for JSON.

    Nothing personal: no user or host name, no environment variables, no home folder.
    """
    import torch  # imported here, so that `list` starts fast

    from utils.device import describe_device, pick_device

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "device": describe_device(pick_device(device)),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "git": git_state(),
        "command": shown_command(sys.argv),
    }


def write_environment(run_dir: Path | str, device: str = "auto") -> Path:
    """Write environment.json into the run's folder and return its path."""
    path = Path(run_dir) / "environment.json"
    atomic_write_text(path, json.dumps(environment_info(device), indent=2) + "\n")
    return path


def cpu_model() -> str:
    """The name of the processor, or its architecture if the name is unknown."""
    if sys.platform == "darwin":
        found = run_quietly("sysctl", "-n", "machdep.cpu.brand_string") or ""
    elif Path("/proc/cpuinfo").exists():
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        found = next(iter(re.findall(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)), "")
    else:
        found = platform.processor()
    return found.strip() or platform.machine()


def git_state(folder: Path = REPOSITORY) -> dict[str, Any] | None:
    """The commit checked out in `folder`, and whether files differ from it; None without git."""
    answer = run_quietly("git", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD")
    top, _, commit = (answer or "").strip().partition("\n")
    if not commit or Path(top).resolve() != folder.resolve():  # an enclosing repository
        return None
    changes = run_quietly("git", "-C", str(folder), "--no-optional-locks", "status", "--porcelain")
    return {"commit": commit, "dirty": bool(changes)}


def run_quietly(*command: str) -> str | None:
    """The output of a command; None if it is missing, fails or takes over ten seconds."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10)
        return answer.decode("utf-8", errors="replace")
    return None


def shown_command(words: Sequence[str]) -> list[str]:
    """A command line safe to share: /home/ann/x.txt becomes .../x.txt, --api-key is hidden."""
    home = ""
    with contextlib.suppress(RuntimeError):  # without HOME and a passwd entry there is none
        home = str(Path.home()).rstrip("\\/")
    shown, hide = [], False
    for word in words:
        plain = word.replace(home, "~") if home else word
        plain = re.sub(r"(^|[=,:\s])([A-Za-z]:)?[\\/~].*[\\/]", r"\1.../", plain)
        plain = re.sub(r"(?i)^(-.*(key|token|secret|password)=).*", r"\1***", plain)
        shown.append("***" if hide else plain)
        hide = bool(re.fullmatch(r"(?i)-.*(key|token|secret|password)", word))
    return shown


def list_runs(root: Path | str) -> list[RunSummary]:
    """Every folder under `root` with a config.yaml, metrics.csv or run.json, oldest first."""
    return [summarize(folder) for folder in run_folders(root)]


def find_run(given: str, root: Path) -> Path:
    """The run given by its folder, its id under `root`, or the beginning of its id.

    Raises UsageError, with the closest id, if there is none, or more than one.
    """
    folder = Path(given)
    if any((folder / name).is_file() for name in RUN_FILES):
        return folder
    place = root if folder.parent == Path() else folder.parent
    names = [path.name for path in run_folders(place)]
    found = [name for name in names if folder.name and name.startswith(folder.name)]
    if folder.name in names or len(found) == 1:
        return place / (folder.name if folder.name in names else found[0])
    if found:
        raise UsageError(f"{given!r} matches {len(found)} runs: {', '.join(found)}")
    beginnings = [name[: len(folder.name)] for name in names]
    hint = did_you_mean(folder.name, names) or did_you_mean(folder.name, beginnings)
    raise UsageError(f"no run {given!r} under {place}{hint}")


def table(runs: Sequence[RunSummary]) -> str:
    """The runs as lines of at most 80 columns."""
    lines = [f"{'run':<49} {'steps':>11} {'best val':>8} state"]
    for run in runs:
        steps = f"{run.steps}/{run.max_steps or '?'}"
        best = "-" if run.best_val_loss is None else f"{run.best_val_loss:.4f}"
        lines.append(f"{run.path.name[:49]:<49} {steps:>11} {best:>8} {run.state}")
    return "\n".join(lines)


def main() -> None:
    """List or compare runs; without a command, show what a new run would record."""
    parser = OneLineParser(description="List and compare the runs of the capstone.")
    commands = parser.add_subparsers(dest="command")
    listing = commands.add_parser("list", help="a table of all runs, oldest first")
    comparing = commands.add_parser("compare", help="how runs differ, and their results")
    comparing.add_argument(
        "runs", nargs="+", metavar="RUN", help="a folder, an id, or the start of an id"
    )
    comparing.add_argument("--out", type=Path, metavar="FILE", help="where to save the plot")
    for command in (listing, comparing):
        command.add_argument("--root", type=Path, metavar="DIR", default=RUNS, help="where to look")
    args = parser.parse_args()
    if args.command == "list":
        runs = list_runs(args.root)
        print(table(runs) if runs else f"no runs under {args.root} yet")
    elif args.command == "compare":
        from compare_runs import compare  # imported here, so that `list` starts fast

        compare([find_run(name, args.root) for name in args.runs], args.out)
    else:
        for name, value in {"a new id": new_run_id("laptop"), **environment_info()}.items():
            print(labelled(name, value, column=15))


if __name__ == "__main__":
    run_program(main)
