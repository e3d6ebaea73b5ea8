r"""Two ways to write a file that no crash can spoil.

Whole (`atomic_write_bytes`, `atomic_write_text`, `atomic_writer`): a reader finds the old file or
the new one, never half of one. The bytes go to a temporary sibling, are forced to the disk, and the
sibling then takes the name in one step. At worst a sibling ending in `.tmp` stays behind, which
nobody reads.

Growing (`LineFile`): a line is written whole, with its "\n" last, by a single unbuffered write. A
program killed at any instant can tear only the last line, and a torn line is known by its missing
"\n": readers pass over it, and opening the file to write again drops it.
"""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from utils.errors import CourseError
from utils.failpoint import failpoint

TEMPORARY_SUFFIX = ".tmp"


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Make `path` hold exactly `data`. On any failure the old file stays as it was.

    Raises OSError (no such folder, disk full, no permission); the folder must exist.
    """
    path = Path(path)
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        write_through(sibling, data, path.name)
        _take_the_name(sibling, path)
        failpoint(f"{path.name}: renamed")
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(OSError):  # a failed clean-up must not hide why we are here
            sibling.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def atomic_write_text(path: Path | str, text: str) -> None:
    r"""Make `path` hold exactly `text` as UTF-8; "\n" stays "\n" on every system."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """A file to write piece by piece, which becomes `path` when the block ends without an error.

    For what is too large to be held in memory; on any failure the old file stays as it was.
    """
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with sibling.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _take_the_name(sibling, path)
    except BaseException:
        with contextlib.suppress(OSError):
            sibling.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_through(path: Path, data: bytes, name: str) -> None:
    """Write a new file and wait until it is on the disk; `name` is what failpoints call it.

    Without the wait, a power cut could keep a name that is given to the file and lose its bytes.
    """
    with path.open("xb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        failpoint(f"{name}: half written")
        file.write(data[len(data) // 2 :])
        file.flush()
        failpoint(f"{name}: before fsync")
        os.fsync(file.fileno())
    failpoint(f"{name}: after fsync")


def _take_the_name(sibling: Path, path: Path) -> None:
    """Replace `path` by `sibling`; on Windows wait a moment for a virus scanner to let go of it."""
    for pause in (0.01, 0.1, 1.0) if os.name == "nt" else ():
        try:
            sibling.replace(path)
            return
        except PermissionError:  # somebody has the file open, which only Windows minds
            time.sleep(pause)
    sibling.replace(path)


def sync_folder(folder: Path | str) -> None:
    """Force the folder's list of names to the disk, so that a rename outlives a power cut.

    Windows cannot open a folder this way, and some network disks refuse: there it does nothing.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class LineFile:
    """A text file that grows by whole lines. Opening it drops a last line that a crash has torn."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.exists():
            whole = self.path.read_bytes().rfind(b"\n") + 1
            os.truncate(self.path, whole)
        self._file = self.path.open("ab", buffering=0)  # bytes: no system changes the "\n"

    def write_line(self, line: str) -> None:
        """Append one line, or (disk full) leave the file as it was and raise OSError."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        written = self._file.write(data)
        if written != len(data):
            self._file.truncate(self._file.tell() - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        failpoint(f"{self.path.name}: line written")

    def sync(self) -> None:
        """Wait until the lines are on the disk, where a power cut cannot take them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def complete_lines(path: Path | str) -> list[str]:
    """The lines of a UTF-8 file without their ends; a torn last line is left out."""
    data = Path(path).read_bytes()
    try:
        text = data[: data.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is not UTF-8 text: see byte {error.start}") from None
    return text.replace("\r\n", "\n").split("\n")[:-1]  # splitlines() would cut at U+2028 too
