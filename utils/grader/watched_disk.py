"""A disk that is watched: what a reader finds after each operation, and operations that fail.

    with WatchedDisk(path, old, new, fails="fsync") as disk:
        save(path, new)
    disk.found      what a reader found at `path`, one after the other: "the old", "the new"
    disk.at_rename  how much of the new data was on disk when it got its name

Opening, writing, syncing and renaming go through Python's own functions, which are replaced while
the disk is watched; nothing outside the folder of `path` is touched. `fails` names the operation
that fails, as on a full disk or with another `error`: "write" (in the middle), "fsync" or "rename".
With `windows`, what Windows refuses is refused everywhere: to rename an open file, and os.rename to
a name that exists.
"""

import contextlib
import errno
import io
import os
import stat
from pathlib import Path
from typing import Any, Self
from unittest import mock

REAL_OPEN = io.open
REAL_REPLACE, REAL_RENAME, REAL_WRITE, REAL_UNLINK = os.replace, os.rename, os.write, os.unlink


class WatchedFile:
    """A file that is open for writing; everything but `write` is the file's own."""

    def __init__(self, file: Any, disk: "WatchedDisk") -> None:
        self._file = file
        self._disk = disk

    def write(self, data: Any) -> int:
        if self._disk.fails == "write":
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._disk.look()
            self._disk.fail("write")
        count = self._file.write(data)
        self._disk.look()
        return count

    def flush(self) -> None:
        self._file.flush()
        self._disk.look()

    def close(self) -> None:
        self._file.close()
        self._disk.look()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WatchedDisk(contextlib.ExitStack):
    """Follows what a program does to one file."""

    def __init__(
        self,
        path: Path,
        old: bytes | None,
        new: bytes,
        fails: str = "",
        *,
        windows: bool = False,
        error: BaseException | None = None,
    ) -> None:
        super().__init__()
        self.path, self.old, self.new = path, old, new
        self.fails, self.windows = fails, windows
        self.error = error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.found: list[str] = []
        self.at_rename = "unknown: nothing is renamed to it"
        self._files: list[WatchedFile] = []
        self._synced: dict[tuple[int, int], int] = {}  # bytes that were on disk, by file

    def __enter__(self) -> Self:
        self.look()
        replaced = {
            "io.open": self._open,
            "builtins.open": self._open,
            "os.fsync": self._fsync,
            "os.write": self._write,
            "os.replace": self._replace,
            "os.rename": self._rename,
            "os.unlink": self._unlink,
            "os.remove": self._unlink,
            "tempfile.tempdir": str(self.path.parent.parent),  # another folder than that of path
        }
        for name, function in replaced.items():
            self.enter_context(mock.patch(name, function))
        return super().__enter__()

    def look(self) -> None:
        """Note what a reader finds at the path now, unless it is what the last one found."""
        now = self.content()
        if self.found[-1:] != [now]:
            self.found.append(now)

    def content(self) -> str:
        """What the path holds, in words."""
        try:
            with REAL_OPEN(self.path, "rb") as file:
                data = file.read()
        except OSError:
            return "the old" if self.old is None else "nothing"  # there was none
        known = {self.old: "the old", self.new: "the new"}
        return known.get(data, f"{len(data)} other bytes" if data else "an empty file")

    def fail(self, operation: str) -> None:
        """Raise the error, that of a full disk by default, if this operation has to fail."""
        if self.fails == operation:
            raise self.error

    # --- what takes the place of Python's own functions ---

    def _open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        opened = REAL_OPEN(file, mode, *args, **kwargs)
        if not set(mode) & set("wxa+"):
            return opened
        self.look()
        self._files.append(WatchedFile(opened, self))
        return self._files[-1]

    def _write(self, descriptor: int, data: bytes) -> int:
        if self.fails == "write":
            REAL_WRITE(descriptor, data[: len(data) // 2])
            self.look()
            self.fail("write")
        count = REAL_WRITE(descriptor, data)
        self.look()
        return count

    def _fsync(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        found = os.fstat(number)
        if stat.S_ISDIR(found.st_mode):
            return
        self.fail("fsync")
        self._synced[found.st_dev, found.st_ino] = found.st_size

    def _replace(self, source: Any, target: Any, **_: Any) -> None:
        self._check_rename(Path(source), Path(target))
        REAL_REPLACE(source, target)
        self.look()

    def _rename(self, source: Any, target: Any, **_: Any) -> None:
        if self.windows and Path(target).exists():
            raise FileExistsError(errno.EEXIST, "Windows can't rename to a name that exists")
        self._check_rename(Path(source), Path(target))
        REAL_RENAME(source, target)
        self.look()

    def _unlink(self, path: Any, **_: Any) -> None:
        REAL_UNLINK(path)
        self.look()

    def _check_rename(self, source: Path, target: Path) -> None:
        """Fail where a system would; note how much of the data is on disk."""
        self.fail("rename")
        if source.resolve().parent != target.resolve().parent:
            raise OSError(errno.EXDEV, "the two folders may be on different disks")
        found = source.stat()
        key = found.st_dev, found.st_ino
        if self.windows and any(self._is_open(file, key) for file in self._files):
            raise PermissionError(errno.EACCES, "Windows can't rename a file that is open")
        if target == self.path:
            synced = self._synced.get(key)
            some = "nothing was synced" if synced is None else f"{synced} bytes were synced"
            self.at_rename = "all of the data" if synced == len(self.new) else some

    @staticmethod
    def _is_open(file: WatchedFile, key: tuple[int, int]) -> bool:
        if file.closed:
            return False
        found = os.fstat(file.fileno())
        return (found.st_dev, found.st_ino) == key
