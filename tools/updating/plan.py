"""What an update does with each file, given three versions of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from utils.errors import CourseError
from utils.grader.merge_answers import MergeError, merge_answers
from utils.grader.stubs import line_end

EXERCISES = re.compile(r"\d\d_\w+/exercises/exercises\.py")

Files = Mapping[str, bytes]  # by path in the repository, with "/"


@dataclass
class Plan:
    """What an update writes and removes, and what it says."""

    writes: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # exercises with answers
    notes: list[str] = field(default_factory=list)


def plan_update(base: Files, mine: Files, new: Files, paths: list[str]) -> Plan:
    """What to do with each path, of which `base`, `mine` and `new` hold the three versions.

    Raises CourseError, before anything is written, for answers that cannot be merged.
    """
    plan, unreadable = Plan(), []
    for path in paths:
        old, own, release = (files.get(path) for files in (base, mine, new))
        if own == release:
            continue
        if EXERCISES.fullmatch(path) and own is not None and release is not None:
            try:
                merge_into(plan, path, old, own, release)
            except MergeError as error:
                unreadable.append(f"{path}, {error}")
        elif own == old or own is None:
            take(plan, path, release)
        elif release is None:
            plan.notes.append(f"{path}: not in the course any more; yours is kept")
        else:
            plan.backups.append(path)
            plan.notes.append(f"{path}: both changed; the new one is here, yours in the backup")
            take(plan, path, release)
    if unreadable:
        files = "; ".join(unreadable)
        raise CourseError(f"nothing was changed: repair this first, or move it away: {files}")
    return plan


def merge_into(plan: Plan, path: str, base: bytes | None, own: bytes, new: bytes) -> None:
    """Merge one exercises.py. Raises MergeError."""
    try:
        mine = own.decode("utf-8")
    except UnicodeDecodeError:
        raise MergeError("it is not UTF-8 text") from None
    old = base.decode("utf-8") if base is not None else None
    merged = merge_answers(old, mine, new.decode("utf-8"))
    text = merged.text.replace("\n", line_end(mine))
    plan.kept += merged.kept
    plan.notes += [f"{path.split('/')[0]}: {note}" for note in merged.notes]
    if text.encode("utf-8") != own:
        plan.backups.append(path)
        plan.writes[path] = text.encode("utf-8")


def take(plan: Plan, path: str, release: bytes | None) -> None:
    """Have the file as the release has it."""
    if release is None:
        plan.removed.append(path)
    else:
        plan.writes[path] = release
