"""What is taken from a submission: files that are called exercises.py, and nothing else.

A submission is a folder, a zip, or one exercises.py. Nothing is ever unpacked: the bytes of each
exercises.py are read, up to a limit, and written to a place of our own. A path that leads out of
the archive, a symbolic link, a file that is too large or not a file is refused by name.
"""

import codecs
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from utils.errors import UsageError
from utils.grader.exercises import Lesson

FILE = "exercises.py"
LARGEST_FILE = 500_000  # bytes; the longest solutions of a lesson have a tenth of that
LARGEST_ZIP = 100_000_000
MOST_ENTRIES = 50_000
DEEPEST = 8  # folders
SKIPPED = {"__MACOSX", "node_modules", "site-packages", "backups"}  # and everything hidden


@dataclass
class Submission:
    """What one student has handed in: the bytes of exercises.py by lesson."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)  # one line per file that was not taken


class Refused(Exception):  # noqa: N818 - an outcome
    """A file is not taken; the message says why."""


def read_submissions(paths: Sequence[Path], course: Sequence[Lesson]) -> list[Submission]:
    """The submissions at these paths. Raises UsageError for a missing one, or a name used twice."""
    found = [read_submission(path, course) for path in paths]
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two submissions are called {twice!r}: rename one")
    return found


def entries(folder: Path) -> list[Path]:
    """Every submission of a folder that holds one per student. Raises UsageError if none is."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; --each takes one that holds the submissions")
    found = sorted(one for one in folder.iterdir() if is_submission(one))
    if not found:
        raise UsageError(f"{folder} holds no submission: no folder, no zip and no .py file")
    return found


def is_submission(path: Path) -> bool:
    if path.name.startswith(".") or path.name in SKIPPED:
        return False
    return path.is_dir() or path.suffix in (".zip", ".py")


def read_submission(path: Path, course: Sequence[Lesson]) -> Submission:
    """One submission. Raises UsageError if there is none at this path."""
    if not path.exists():
        raise UsageError(f"there is no submission {path}")
    is_file = path.is_file()
    submission = Submission(path.stem if is_file else path.resolve().name)
    if is_file and path.suffix not in (".zip", ".py"):
        raise UsageError(f"{path}: a submission is a folder, a .zip or an exercises.py")
    if is_file and path.suffix == ".py" and path.name == FILE:
        submission.name = student_of(path)
    try:
        for where, data in candidates(path):
            take(submission, where, data, course)
    except Refused as problem:
        submission.refused.append(f"{path.name}: {problem}")
    if not submission.files and not submission.refused:
        submission.refused.append(f"{path.name}: it holds no {FILE} of a lesson")
    return submission


def student_of(path: Path) -> str:
    """Whose exercises.py this is: the first folder above that is not one of the course's own."""
    names = [one for one in path.resolve().parts[1:-1] if not is_of_course(one)]
    return names[-1] if names else path.stem


def is_of_course(name: str) -> bool:
    return name == "exercises" or re.match(r"\d\d_", name) is not None


def take(
    submission: Submission, where: str, data: bytes | Refused, course: Sequence[Lesson]
) -> None:
    """Add one exercises.py to a submission, or the reason why it is refused."""
    if isinstance(data, Refused):
        submission.refused.append(f"{where}: {data}")
        return
    lesson = lesson_of(where, data, course)
    if lesson is None:
        submission.refused.append(f"{where}: it does not belong to a lesson of the course")
    elif submission.files.get(lesson.name, data) != data:
        submission.refused.append(f"{where}: a second, different {FILE} of {lesson.name}")
    else:
        submission.files[lesson.name] = data


def lesson_of(where: str, data: bytes, course: Sequence[Lesson]) -> Lesson | None:
    """The lesson that a file belongs to: by its folder, or else by the functions it defines."""
    parts = PurePosixPath(where).parts
    named = [lesson for lesson in course if lesson.name in parts]
    if len(named) == 1:
        return named[0]
    text = data.removeprefix(codecs.BOM_UTF8)
    defined = {name.decode() for name in re.findall(rb"^(?:def|class) (\w{1,99})", text, re.M)}
    counted = [
        (len(defined & {name for one in lesson.exercises for name in one.names}), lesson)
        for lesson in course
    ]
    best = max((count for count, _ in counted), default=0)
    winners = [lesson for count, lesson in counted if count == best]
    return winners[0] if best and len(winners) == 1 else None


# --- where the files are ---


def candidates(path: Path) -> Iterator[tuple[str, bytes | Refused]]:
    """Each exercises.py of a submission: its path, and its bytes or why it is refused."""
    if path.is_dir():
        yield from in_folder(path)
    elif path.suffix == ".zip":
        yield from in_zip(path)
    else:
        yield path.name, read_file(path)


def in_folder(folder: Path) -> Iterator[tuple[str, bytes | Refused]]:
    """The files of a folder; links to folders are not followed."""
    count = 0
    for at, folders, files in os.walk(folder, followlinks=False):
        here = Path(at).relative_to(folder)
        count += len(files)
        if count > MOST_ENTRIES:
            raise Refused(f"it has more than {MOST_ENTRIES:,} files")
        too_deep = len(here.parts) >= DEEPEST
        folders[:] = [] if too_deep else sorted(filter(is_looked_into, folders))
        if FILE in files:
            yield (here / FILE).as_posix(), read_file(Path(at) / FILE)


def is_looked_into(name: str) -> bool:
    return not name.startswith(".") and name not in SKIPPED


def read_file(path: Path) -> bytes | Refused:
    """The bytes of a file, if it is an ordinary one that is not too large."""
    try:
        before = path.lstat()
        if stat.S_ISLNK(before.st_mode):
            return Refused("a symbolic link is not followed")
        if not stat.S_ISREG(before.st_mode):
            return Refused("not an ordinary file")
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            return checked(file.read(LARGEST_FILE + 1))
    except OSError as error:
        return Refused(f"it cannot be read: {error.strerror}")


def checked(data: bytes) -> bytes | Refused:
    return data if len(data) <= LARGEST_FILE else Refused(f"more than {LARGEST_FILE:,} bytes")


def in_zip(path: Path) -> Iterator[tuple[str, bytes | Refused]]:
    """The files of an archive. Raises Refused if it cannot be read."""
    if path.stat().st_size > LARGEST_ZIP:
        raise Refused(f"the archive has more than {LARGEST_ZIP:,} bytes")
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            if len(listed) > MOST_ENTRIES:
                raise Refused(f"it has more than {MOST_ENTRIES:,} files")
            for entry in listed:
                parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
                if parts and parts[-1] == FILE and not entry.is_dir():
                    where = entry.filename
                    if all(map(is_looked_into, (one for one in parts[:-1] if one != ".."))):
                        yield where, read_entry(archive, entry, parts)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise Refused(f"not a zip that can be read: {error}") from None


def read_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, parts: Sequence[str]
) -> bytes | Refused:
    """The bytes of one entry: what comes out is counted, whatever the archive says of its size."""
    if ".." in parts or parts[0].startswith("/") or ":" in parts[0]:
        return Refused("its path leads out of the archive")
    if stat.S_ISLNK(entry.external_attr >> 16):
        return Refused("a symbolic link is not followed")
    if entry.flag_bits & 1:
        return Refused("it is encrypted")
    try:
        with archive.open(entry) as file:
            return checked(file.read(LARGEST_FILE + 1))
    except Exception as error:  # zlib, lzma and others raise their own
        return Refused(f"it cannot be unpacked: {type(error).__name__}")
