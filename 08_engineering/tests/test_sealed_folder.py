"""A sealed folder is complete or absent, and any damage to it is noticed and named."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sealed_folder
from sealed_folder import MANIFEST, DamagedError, digest_of, manifest, read_sealed, write_sealed
from utils import failpoint, files

FILES = {"one.bin": bytes(range(256)), "two.txt": b"Tyger Tyger", "none.txt": b""}
OWNER = "20261121-101530-laptop-3fa29c81d04e"
WRITE = """
import sys
from pathlib import Path
from sealed_folder import write_sealed
write_sealed(Path(sys.argv[1]), {"one.bin": bytes(range(256)), "two.txt": b"new"}, "owner")
print("written")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder."""
    write_sealed(tmp_path / "sealed", FILES, OWNER)
    return tmp_path / "sealed"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- whole --------------------------------------------------------------------------------------


def test_what_was_written_is_read_and_nothing_else_is_left(folder: Path) -> None:
    assert read_sealed(folder, OWNER) == FILES
    assert names(folder) == sorted([*FILES, MANIFEST])
    assert names(folder.parent) == ["sealed"]


def test_a_file_that_was_added_later_is_not_read(folder: Path) -> None:
    (folder / "notes.txt").write_bytes(b"mine")
    assert read_sealed(folder, OWNER) == FILES


def test_a_folder_is_never_overwritten(folder: Path) -> None:
    with pytest.raises(OSError):
        write_sealed(folder, {"other.txt": b"other"}, OWNER)
    assert read_sealed(folder, OWNER) == FILES
    assert names(folder.parent) == ["sealed"]


# --- killed on the way --------------------------------------------------------------------------


def boundaries(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[str]:
    """The failpoints that writing passes, in order."""
    passed: list[str] = []
    with monkeypatch.context() as patch:
        for module in (sealed_folder, files):
            patch.setattr(module, "failpoint", passed.append)
        write_sealed(place, {"one.bin": b"1", "two.txt": b"2"}, OWNER)
    return passed


def test_every_boundary_of_writing_has_a_failpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_a_file = ("half written", "before fsync", "after fsync")
    assert boundaries(monkeypatch, tmp_path / "sealed") == [
        "sealed: folder made",
        *(f"{name}: {place}" for name in ("one.bin", "two.txt", MANIFEST) for place in of_a_file),
        *("sealed: before rename", "sealed: renamed", "sealed: named for good"),
    ]


def test_killed_at_any_boundary_it_is_complete_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"
    write_sealed(old, FILES, OWNER)
    passed = boundaries(monkeypatch, tmp_path / "other")
    for number, name in enumerate(passed):
        folder = tmp_path / f"{number}"
        done = subprocess.run(
            [sys.executable, "-c", WRITE, str(folder)],
            env={**os.environ, failpoint.VARIABLE: name},
            capture_output=True,
        )
        assert (done.returncode, done.stdout) == (failpoint.EXIT_CODE, b""), name
        if number < passed.index("sealed: renamed"):
            assert not folder.exists(), name
            assert (tmp_path / f".{number}.tmp").is_dir(), name
        else:
            assert read_sealed(folder, "owner") == {"one.bin": bytes(range(256)), "two.txt": b"new"}
    assert read_sealed(old, OWNER) == FILES


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_failure_on_the_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(type(error)):
        write_sealed(tmp_path / "sealed", FILES, OWNER)
    assert names(tmp_path) == []


def test_every_byte_and_name_is_on_the_disk_before_the_folder_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename, sync_folder = os.fsync, Path.rename, sealed_folder.sync_folder

    def forced(descriptor: int) -> None:
        calls.append(f"{os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def named(old: Path, new: Path) -> Path:
        calls.append(f"{old.name} -> {new.name}")
        return rename(old, new)

    def listed(folder: Path) -> None:
        calls.append(f"list of {folder.name}")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            sync_folder(folder)

    monkeypatch.setattr(os, "fsync", forced)
    monkeypatch.setattr(Path, "rename", named)
    monkeypatch.setattr(sealed_folder, "sync_folder", listed)
    write_sealed(tmp_path / "sealed", FILES, OWNER)
    assert calls == [
        *(f"{len(data)} bytes" for data in FILES.values()),
        f"{len(manifest(FILES, OWNER))} bytes",  # the size of the file as it is
        "list of .sealed.tmp",
        ".sealed.tmp -> sealed",
        f"list of {tmp_path.name}",
    ]


# --- damaged ------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["one.bin", "two.txt", MANIFEST])
@pytest.mark.parametrize("damage", [truncate, empty, lengthen, make_a_folder, Path.unlink])
def test_damage_is_noticed_and_the_file_is_named(
    folder: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(folder / name)
    with pytest.raises(DamagedError, match=f"^sealed/{name} [^\n]+$") as raised:
        read_sealed(folder, OWNER)
    if damage is Path.unlink:
        assert str(raised.value) == f"sealed/{name} is missing"


@pytest.mark.parametrize("name", ["one.bin", "two.txt", MANIFEST])
def test_any_single_bit_that_flips_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    on_disk = {path.name: bytearray(path.read_bytes()) for path in folder.iterdir()}
    monkeypatch.setattr(Path, "read_bytes", lambda path: bytes(on_disk[path.name]))
    assert read_sealed(folder, OWNER) == FILES
    data = on_disk[name]  # thousands of real files would take minutes
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            with pytest.raises(DamagedError, match=f"^sealed/{name} [^\n]+$"):
                read_sealed(folder, OWNER)
            data[position] ^= 1 << bit
    assert read_sealed(folder, OWNER) == FILES


def test_a_file_that_was_written_empty_is_intact(folder: Path) -> None:
    assert read_sealed(folder, OWNER)["none.txt"] == b""
    lengthen(folder / "none.txt")
    with pytest.raises(DamagedError, match=r"none\.txt"):
        read_sealed(folder, OWNER)


def test_two_swapped_files_are_noticed(folder: Path) -> None:
    (folder / "one.bin").rename(folder / "x")
    (folder / "two.txt").rename(folder / "one.bin")
    (folder / "x").rename(folder / "two.txt")
    with pytest.raises(
        DamagedError, match=r"sealed/one\.bin \(11 bytes\) differs from what was written"
    ):
        read_sealed(folder, OWNER)


def test_the_folder_of_another_owner_is_refused_and_named(folder: Path) -> None:
    with pytest.raises(DamagedError, match=f"^sealed/{MANIFEST} belongs to another run, {OWNER}$"):
        read_sealed(folder, "20261121-101531-laptop-000000000000")


def test_a_file_of_another_folder_is_noticed(folder: Path, tmp_path: Path) -> None:
    write_sealed(tmp_path / "other", {**FILES, "one.bin": b"of another state"}, OWNER)
    (tmp_path / "other" / "one.bin").replace(folder / "one.bin")
    with pytest.raises(DamagedError, match=r"sealed/one\.bin"):
        read_sealed(folder, OWNER)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "{", '"sha256"', '{"sha256": 1}', '{"format": 1}', "\xff"]
)
def test_a_file_that_is_not_a_manifest_is_damaged(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedError, match=f"^sealed/{MANIFEST} is damaged: [^\n]+$"):
        read_sealed(folder, OWNER)


def test_a_manifest_of_another_format_is_refused_though_its_hash_is_right(folder: Path) -> None:
    said = {"format": "tiny-transformer-sealed-2", "owner": OWNER, "files": {}}
    text = json.dumps({**said, "sha256": digest_of(said)})
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(DamagedError, match="is damaged"):
        read_sealed(folder, OWNER)


def test_a_missing_folder_is_damaged_too(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="missing"):
        read_sealed(tmp_path / "sealed", OWNER)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "I/O")])
def test_a_file_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    read_bytes = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == "two.txt":
            raise error
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(DamagedError, match=r"^sealed/two\.txt cannot be read: "):
        read_sealed(folder, OWNER)


def test_without_the_hashes_a_flipped_bit_would_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengthen(folder / "one.bin")
    monkeypatch.setattr(sealed_folder, "verified", lambda path, digest: path.read_bytes())
    assert read_sealed(folder, OWNER) != FILES  # the control: this is what the hashes are for
