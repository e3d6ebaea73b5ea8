"""utils/grader/watched_disk.py: every instant of a save is seen, and every step of it can fail."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from utils.files import atomic_write_bytes
from utils.grader.watched_disk import WatchedDisk

OLD, NEW = b"old", b"something new"

Save = Callable[[Path, bytes], object]


def in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def in_halves(path: Path, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123 - the function is watched too
        file.write(data[:5])
        file.write(data[5:])


def renamed(path: Path, data: bytes, sync: str = "all") -> None:
    sibling = path.with_name("sibling")
    with sibling.open("wb") as file:
        file.write(data)
        if sync == "all":
            file.flush()
        if sync != "none":
            os.fsync(file.fileno())
    sibling.replace(path)


def removed(path: Path, data: bytes) -> None:
    sibling = path.with_name("sibling")
    sibling.write_bytes(data)
    path.unlink()
    sibling.rename(path)


def by_descriptor(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    os.write(descriptor, data)
    os.fsync(descriptor)
    os.close(descriptor)
    Path(name).replace(path)


def watch(
    folder: Path, save: Save, fails: str = "", *, windows: bool = False
) -> tuple[WatchedDisk, OSError | None]:
    """Save once; the disk, and the error if there was one."""
    path = folder / "run" / "best.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(OLD)
    disk = WatchedDisk(path, OLD, NEW, fails, windows=windows)
    with disk:
        try:
            save(path, NEW)
        except OSError as error:
            return disk, error
    return disk, None


@pytest.mark.parametrize("save", [renamed, by_descriptor, atomic_write_bytes])
def test_an_atomic_save_shows_the_old_and_then_the_new(tmp_path: Path, save: Save) -> None:
    disk, error = watch(tmp_path, save)
    assert (disk.found, disk.at_rename, error) == (["the old", "the new"], "all of it", None)


@pytest.mark.parametrize(
    ("save", "between"),
    [
        (in_place, ["an empty file"]),
        (in_halves, ["an empty file", "5 other bytes"]),
        (removed, ["nothing"]),
    ],
)
def test_what_is_between_the_old_and_the_new_is_seen(
    tmp_path: Path, save: Save, between: list[str]
) -> None:
    disk, _ = watch(tmp_path, save)
    assert disk.found == ["the old", *between, "the new"]


@pytest.mark.parametrize("fails", ["write", "fsync", "rename"])
@pytest.mark.parametrize("save", [renamed, by_descriptor, atomic_write_bytes])
def test_every_step_can_fail(tmp_path: Path, save: Save, fails: str) -> None:
    disk, error = watch(tmp_path, save, fails)
    assert error is not None
    assert disk.found == ["the old"]


def test_half_of_a_failed_write_is_there(tmp_path: Path) -> None:
    disk, error = watch(tmp_path, in_place, "write")
    assert error is not None
    assert disk.found == ["the old", "an empty file", "6 other bytes"]


@pytest.mark.parametrize(
    ("sync", "said"), [("none", "none of it was synced"), ("early", "0 bytes were synced")]
)
def test_data_that_are_not_on_disk_at_the_rename_are_noticed(
    tmp_path: Path, sync: str, said: str
) -> None:
    disk, _ = watch(tmp_path, lambda path, data: renamed(path, data, sync))
    assert disk.at_rename == said


def test_what_windows_refuses_is_refused_everywhere(tmp_path: Path) -> None:
    def while_open(path: Path, data: bytes) -> None:
        sibling = path.with_name("sibling")
        with sibling.open("wb") as file:
            file.write(data)
            sibling.replace(path)

    def onto_a_file(path: Path, data: bytes) -> None:
        sibling = path.with_name("sibling")
        sibling.write_bytes(data)
        sibling.rename(path)

    assert isinstance(watch(tmp_path, while_open, windows=True)[1], PermissionError)
    assert isinstance(watch(tmp_path, onto_a_file, windows=True)[1], FileExistsError)
    assert watch(tmp_path, atomic_write_bytes, windows=True)[1] is None


def test_nothing_is_renamed_from_another_folder(tmp_path: Path) -> None:
    def elsewhere(path: Path, data: bytes) -> None:
        other = Path(tempfile.gettempdir()) / "other"
        other.write_bytes(data)
        other.replace(path)

    disk, error = watch(tmp_path, elsewhere)
    assert error is not None
    assert disk.found == ["the old"]
    assert (tmp_path / "other").exists()


def test_python_is_as_it_was_afterwards(tmp_path: Path) -> None:
    before = open, os.replace, os.fsync, tempfile.tempdir
    watch(tmp_path, renamed)
    assert (open, os.replace, os.fsync, tempfile.tempdir) == before
