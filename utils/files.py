r"""Two crash-safe ways to write a file.

Atomically (`atomic_write_bytes`, `atomic_write_text`, `atomic_writer`): a reader finds the old file
or the new one, never half of one. The bytes go to a temporary sibling, are flushed to disk, and the
sibling is then renamed in one step. At worst a sibling ending in `.tmp` stays behind, which no
reader opens.

Line by line (`LineFile`): each line, with its "\n" at the end, is one unbuffered write. A program
killed at any instant can tear only the last line, and a torn line has no "\n": readers skip it, and
opening the file for writing drops it.
"""

import contextlib
import errno
import os
import secrets
import shlex
import subprocess
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
    sibling = temporary_sibling(path)
    try:
        write_through(sibling, data, path.name)
        _rename(sibling, path)
        failpoint(f"{path.name}: renamed")
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(OSError):  # a failed cleanup must not hide the first error
            sibling.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def atomic_write_text(path: Path | str, text: str) -> None:
    r"""Make `path` hold exactly `text` as UTF-8; "\n" stays "\n" on every system."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """A file to write in pieces, which becomes `path` when the block ends without an error.

    For data that does not fit in memory; on any failure the old file stays as it was.
    """
    sibling = temporary_sibling(path)
    try:
        with sibling.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _rename(sibling, path)
    except BaseException:
        with contextlib.suppress(OSError):
            sibling.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def temporary_sibling(path: Path) -> Path:
    """A new name in the same folder, of at most 142 bytes however long the file's own name is."""
    return path.with_name(f".{path.name[:32]}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def write_through(path: Path, data: bytes, name: str) -> None:
    """Write a new file and wait until it is on disk; failpoints are called after `name`.

    Without the wait, a power cut could keep the file's new name and lose its contents.
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


def _rename(sibling: Path, path: Path) -> None:
    """Replace `path` with `sibling`; on Windows, wait for a virus scanner to release it."""
    for pause in (0.01, 0.1, 1.0) if os.name == "nt" else ():
        try:
            sibling.replace(path)
            return
        except PermissionError:  # another process has it open, which only Windows refuses
            time.sleep(pause)
    sibling.replace(path)


def sync_folder(folder: Path | str) -> None:
    """Flush the folder's directory entries to disk, so that a rename survives a power cut.

    Does nothing where a folder cannot be opened this way (Windows, some network file systems).
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class LineFile:
    """A text file that grows by complete lines. Opening it drops a last line torn by a crash."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.exists():
            whole = self.path.read_bytes().rfind(b"\n") + 1
            os.truncate(self.path, whole)
        self._file = self.path.open("ab", buffering=0)  # bytes: "\n" stays "\n" on Windows

    def write_line(self, line: str) -> None:
        """Append one line. If the disk is full, leave the file as it was and raise OSError."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        written = self._file.write(data)
        if written != len(data):
            self._file.truncate(self._file.tell() - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        failpoint(f"{self.path.name}: line written")

    def sync(self) -> None:
        """Wait until the lines are on disk, where they survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def complete_lines(path: Path | str) -> list[str]:
    """The lines of a UTF-8 file without line endings; a torn last line is left out."""
    data = Path(path).read_bytes()
    try:
        text = data[: data.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is not UTF-8 text: see byte {error.start}") from None
    return text.replace("\r\n", "\n").split("\n")[:-1]  # splitlines() also splits at U+2028


@contextlib.contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Add `path` to an OSError that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def shown(path: Path) -> str:
    """A path as one would type it: relative to the current folder if it lies below."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def quoted(path: Path) -> str:
    """The path as `shown` gives it, quoted where a shell needs it."""
    if os.name == "nt":
        return subprocess.list2cmdline([shown(path)])
    return shlex.quote(shown(path))
