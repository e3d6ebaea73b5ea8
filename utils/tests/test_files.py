"""utils/files.py: the old file or the new one, and never half a line."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from utils import files
from utils.errors import CourseError
from utils.files import (
    TEMPORARY_SUFFIX,
    LineFile,
    atomic_write_bytes,
    atomic_write_text,
    complete_lines,
    naming_errors,
    quoted,
    shown,
    sync_folder,
)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_file_holds_exactly_the_bytes_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "state.bin"
    atomic_write_bytes(path, bytes(range(256)))
    assert path.read_bytes() == bytes(range(256))
    assert names(tmp_path) == ["state.bin"]


def test_a_longer_old_file_leaves_no_tail_behind(tmp_path):
    path = tmp_path / "state.bin"
    path.write_bytes(b"x" * 1000)
    atomic_write_bytes(path, b"short")
    assert path.read_bytes() == b"short"


def test_text_is_utf8_and_its_newlines_are_kept_as_they_are(tmp_path):
    atomic_write_text(tmp_path / "text.txt", "caf\u00e9\nline\r\nlast")
    assert (tmp_path / "text.txt").read_bytes() == b"caf\xc3\xa9\nline\r\nlast"


def test_a_string_path_works_as_well_as_a_path(tmp_path):
    atomic_write_text(str(tmp_path / "a.txt"), "a")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "a"


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        atomic_write_text(path, "\ud800")  # half of a surrogate pair is no character
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["text.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failure_on_the_way_leaves_the_old_file_and_no_sibling(
    tmp_path, monkeypatch, step, error
):
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(type(error)):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state.bin"]


def test_the_bytes_reach_the_disk_before_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda old, new: (calls.append("replace"), replace(old, new))[1]
    )
    atomic_write_bytes(tmp_path / "state.bin", b"new")
    assert calls[:2] == ["fsync", "replace"]


def test_a_process_killed_before_the_rename_leaves_the_old_file(tmp_path):
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    program = (
        "import os, sys, pathlib; from utils.files import atomic_write_bytes\n"
        "pathlib.Path.replace = lambda *_: os._exit(9)\n"
        "atomic_write_bytes(sys.argv[1], b'new')\n"
    )
    code = subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode
    assert code == 9
    assert path.read_bytes() == b"old"
    leftovers = [name for name in names(tmp_path) if name != "state.bin"]
    assert len(leftovers) == 1 and leftovers[0].endswith(TEMPORARY_SUFFIX)


def test_on_windows_a_file_held_open_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    path, sibling = tmp_path / "state.bin", tmp_path / "new.tmp"
    sibling.write_bytes(b"new")
    held, replace = [PermissionError(), PermissionError()], Path.replace

    def replace_when_free(old: Path, new: Path) -> None:
        if held:
            raise held.pop()
        replace(old, new)

    monkeypatch.setattr(Path, "replace", replace_when_free)
    monkeypatch.setattr(files, "os", SimpleNamespace(name="nt"))
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    files._rename(sibling, path)
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permission bits")
def test_permissions_follow_the_umask_as_for_any_other_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic_write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        atomic_write_bytes(tmp_path / "nowhere" / "state.bin", b"new")


def test_sync_folder_is_quiet_where_it_cannot_sync(tmp_path):
    sync_folder(tmp_path)
    sync_folder(tmp_path / "nowhere")


# --- LineFile -----------------------------------------------------------------------------------


def test_every_line_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    with LineFile(tmp_path / "log.txt") as log:
        for n, line in enumerate(["one", "two", "caf\u00e9 \u2028"], start=1):
            log.write_line(line)
            assert len(complete_lines(log.path)) == n  # the file is still open
    assert complete_lines(log.path) == ["one", "two", "caf\u00e9 \u2028"]
    assert log.path.read_bytes().startswith(b"one\ntwo\n")  # no "\r" on any system


@pytest.mark.parametrize("cut", range(len(b"one\ntwo\nthree\n") + 1))
def test_a_file_cut_anywhere_keeps_its_complete_lines_and_can_be_extended(tmp_path, cut):
    path = tmp_path / "log.txt"
    path.write_bytes(b"one\ntwo\nthree\n"[:cut])
    whole = [line for line, end in (("one", 4), ("two", 8), ("three", 14)) if end <= cut]
    assert complete_lines(path) == whole
    with LineFile(path) as log:
        log.write_line("next")
    assert complete_lines(path) == [*whole, "next"]


def test_a_character_torn_in_two_is_skipped(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes("one\ncaf\u00e9".encode()[:-1])
    assert complete_lines(path) == ["one"]


def test_a_full_disk_leaves_the_file_without_half_a_line(tmp_path, monkeypatch):
    log = LineFile(tmp_path / "log.txt")
    log.write_line("one")
    monkeypatch.setattr(log, "_file", HalfWritingFile(log._file))
    with pytest.raises(OSError, match="No space left") as raised:
        log.write_line("a line that does not fit")
    assert raised.value.errno == errno.ENOSPC
    assert log.path.read_bytes() == b"one\n"
    log.close()


class HalfWritingFile:
    """Takes half of what it is given, as a disk does that has just filled up."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        return self.file.write(data[: len(data) // 2])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_killed_writer_loses_no_line(tmp_path):
    program = (
        "import os, sys; from utils.files import LineFile\n"
        "log = LineFile(sys.argv[1])\n"
        "for n in range(100): log.write_line(str(n))\n"
        "os._exit(9)\n"  # as with kill -9, nothing is flushed on the way out
    )
    path = tmp_path / "log.txt"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert complete_lines(path) == [str(n) for n in range(100)]


def test_a_text_that_utf8_cannot_hold_is_escaped_and_not_fatal(tmp_path):
    with LineFile(tmp_path / "log.txt") as log:
        log.write_line("name \udcff")
    assert complete_lines(log.path) == ["name \\udcff"]


def test_lines_that_an_editor_ended_with_carriage_returns_are_read_without_them(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"one\r\ntwo\r\n")
    assert complete_lines(tmp_path / "log.txt") == ["one", "two"]


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path):
    (tmp_path / "photo.csv").write_bytes(b"abc\xff\xfe\n")
    with pytest.raises(CourseError, match=r"photo\.csv is not UTF-8 text: see byte 3"):
        complete_lines(tmp_path / "photo.csv")


def test_sync_forces_the_lines_to_the_disk(tmp_path, monkeypatch):
    synced = []
    with LineFile(tmp_path / "log.txt") as log:
        monkeypatch.setattr(os, "fsync", synced.append)
        log.sync()
        assert synced == [log._file.fileno()]


@pytest.mark.parametrize("name", ["x" * 250, "\u00e9" * 125, "\U0001f600" * 62])
def test_a_name_of_the_greatest_length_can_be_written(tmp_path, name):
    path = tmp_path / name
    atomic_write_bytes(path, b"old")
    with files.atomic_writer(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == [name]


def test_an_error_without_a_path_gets_one(tmp_path):
    with pytest.raises(OSError, match="No space left") as raised, naming_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(tmp_path)
    with pytest.raises(FileNotFoundError) as raised, naming_errors(tmp_path):
        (tmp_path / "none").read_bytes()
    assert raised.value.filename == str(tmp_path / "none")


def test_a_path_is_shown_as_one_would_type_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a" / "b") == str(Path("a") / "b")
    assert shown(tmp_path.parent) == str(tmp_path.parent)


@pytest.mark.skipif(os.name == "nt", reason="the quotes of a POSIX shell")
def test_a_path_is_quoted_where_a_shell_needs_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert quoted(tmp_path / "plain") == "plain"
    assert quoted(tmp_path / "a [b] $c") == "'a [b] $c'"
