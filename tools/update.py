"""Bring a newer release of the course into this folder, and keep every answer.

    python tools/update.py                       from where this copy was cloned
    python tools/update.py --from FOLDER         from a folder, or a .zip, with a newer release
    python tools/update.py --from URL            from another repository
    python tools/update.py --dry-run             say what would change

Your answers are merged into the new exercises.py function by function. Any other file that you
changed stays, unless the course changed it as well: then the new one is taken. Whatever is replaced
is copied to .progress/backups first. Runs, checkpoints, data and files of your own are not touched.
In a git repository your branch then holds the new release, and your changes are what git shows.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tools.updating.git_history import move_branch
from tools.updating.plan import Plan, plan_update
from tools.updating.sources import Release, find_release, version_of
from utils.command_line import OneLineParser
from utils.files import atomic_write_bytes
from utils.grader.exercises import ROOT
from utils.grader.report import wrap

LISTED = 20  # files that a dry run names


def lines_to_print(plan: Plan, old: str, release: Release, is_dry: bool) -> Iterator[str]:
    """What happened, or would happen."""
    verb = "Would update" if is_dry else "Updated"
    count = len(plan.writes) + len(plan.removed)
    way = f"to {release.title}" if old == release.version else f"from {old} to {release.title}"
    yield f"{verb} {way}: {count} file{'' if count == 1 else 's'}."
    if is_dry:
        yield from names_of_files(plan)
    kept = sorted(set(plan.kept), key=lambda number: [int(part) for part in number.split(".")])
    if kept:
        yield from wrap(f"Answers kept in files that changed: {', '.join(kept)}")
    for note in plan.notes:
        yield from wrap(note, "  ", hanging=2)


def names_of_files(plan: Plan) -> Iterator[str]:
    """The files that would be written or removed, the first LISTED of them."""
    names = sorted([*plan.writes, *(f"{path} (removed)" for path in plan.removed)])
    yield from (f"  {name}" for name in names[:LISTED])
    if len(names) > LISTED:
        yield f"  and {len(names) - LISTED} more"


def present_files(root: Path, paths: list[str]) -> dict[str, bytes]:
    """What this folder holds at these paths."""
    return {path: (root / path).read_bytes() for path in paths if (root / path).is_file()}


def save_backups(root: Path, paths: list[str]) -> Path:
    """Copy files that will be replaced to a new folder below .progress/backups."""
    moment = time.strftime("%Y%m%d-%H%M%S")
    folder = root / ".progress" / "backups" / f"update-{moment}"
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"update-{moment}-{number}")
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(target, (root / path).read_bytes())
    return folder


def carry_out(root: Path, plan: Plan) -> None:
    """Write and remove files; an interrupted update is finished by starting it again."""
    for path, data in plan.writes.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        executable = (root / path).exists() and os.access(root / path, os.X_OK)
        atomic_write_bytes(root / path, data)
        if executable:
            (root / path).chmod(0o755)
    for path in plan.removed:
        (root / path).unlink(missing_ok=True)


def update(root: Path, source: str | None, is_dry: bool = False) -> None:
    """Bring a release into `root`, and say what was done."""
    release = find_release(root, source)
    old = version_of(present_files(root, ["pyproject.toml"]))
    if release.commit and release.commit == release.base_commit:
        print(f"This is the newest release: {release.title}.")
        return
    paths = sorted({*release.files, *release.base} if release.commit else release.files)
    plan = plan_update(release.base, present_files(root, paths), release.files, paths)
    if is_dry:
        print("\n".join(lines_to_print(plan, old, release, is_dry)))
        return
    replaced = [path for path in plan.backups if (root / path).is_file()]
    folder = save_backups(root, replaced) if replaced else None
    carry_out(root, plan)
    if release.commit:
        move_branch(root, release.title, release.commit, release.base_commit)
    print("\n".join(lines_to_print(plan, old, release, is_dry)))
    if folder is not None:
        print(f"Your files as they were: {folder.relative_to(root).as_posix()}")
    print("Next: make status")


def main() -> None:
    """Update the course in the folder that holds this file."""
    parser = OneLineParser(description="Bring in a newer release of the course; keep every answer.")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="a folder, a .zip, a git remote or an address; default: this clone's remote",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    args = parser.parse_args()
    update(ROOT, args.source, args.dry_run)


if __name__ == "__main__":
    run_program(main)
