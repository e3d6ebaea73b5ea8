"""What tools/grade.py takes from a submission, and what it refuses, by name."""

import io
import os
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.grading.submissions import (
    LARGEST_FILE,
    entries,
    read_submission,
    read_submissions,
)
from utils.errors import UsageError
from utils.grader.exercises import lessons

COURSE = lessons()
PLACE = "01_attention/exercises/exercises.py"
TEXT = b"def softmax(x, dim=-1):\n    return x\n"

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links and pipes")

MakeZip = Callable[..., Path]


@pytest.fixture
def make_zip(tmp_path: Path) -> MakeZip:
    """Writes ann.zip with these entries."""

    def make(entries: dict[str | zipfile.ZipInfo, bytes], name: str = "ann.zip") -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, data in entries.items():
                archive.writestr(entry, data)
        return tmp_path / name

    return make


def test_a_zip_of_a_repository_gives_its_exercises_and_nothing_else(make_zip: MakeZip) -> None:
    files = {
        f"my-course-main/{PLACE}": TEXT,
        "my-course-main/01_attention/exercises/solutions.py": b"1",
        "my-course-main/conftest.py": b"raise SystemExit",
        f"my-course-main/.progress/{PLACE}": b"old",
        f"__MACOSX/my-course-main/{PLACE}": b"\0",
    }
    found = read_submission(make_zip(files), COURSE)
    assert (found.name, found.files, found.refused) == ("ann", {"01_attention": TEXT}, [])


def test_a_folder_gives_every_lesson_in_it(tmp_path: Path) -> None:
    for lesson in ("01_attention", "02_multi_head"):
        file = tmp_path / "bob" / lesson / "exercises" / "exercises.py"
        file.parent.mkdir(parents=True)
        file.write_bytes(TEXT)
    found = read_submission(tmp_path / "bob", COURSE)
    assert found.name == "bob"
    assert found.files == {"01_attention": TEXT, "02_multi_head": TEXT}


@pytest.mark.parametrize("name", ["eve.py", "eve/exercises.py"])
def test_a_file_by_itself_belongs_to_the_lesson_whose_functions_it_defines(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"def causal_mask(T):\n    return T\n\n\ndef softmax(x):\n    return x\n")
    found = read_submission(file, COURSE)
    assert (found.name, list(found.files)) == ("eve", ["01_attention"])


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (f"../../{PLACE}", "leads out of the archive"),
        (f"/{PLACE}", "leads out of the archive"),
        (f"C:\\{PLACE}", "leads out of the archive"),
        (f"x/..\\..\\{PLACE}", "leads out of the archive"),
    ],
)
def test_a_path_that_leads_out_of_the_archive_is_refused(
    make_zip: MakeZip, where: str, why: str
) -> None:
    found = read_submission(make_zip({where: TEXT}), COURSE)
    assert found.files == {}
    assert why in found.refused[0] and PLACE.rpartition("/")[2] in found.refused[0]


def test_a_symbolic_link_in_an_archive_is_refused(make_zip: MakeZip) -> None:
    link = zipfile.ZipInfo(PLACE)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    found = read_submission(make_zip({link: b"/etc/passwd"}), COURSE)
    assert found.files == {} and "symbolic link" in found.refused[0]


def test_a_zip_bomb_ends_at_the_limit(make_zip: MakeZip) -> None:
    path = make_zip({PLACE: bytes(50_000_000)})
    assert path.stat().st_size < 100_000
    found = read_submission(path, COURSE)
    assert found.files == {} and f"{LARGEST_FILE:,}" in found.refused[0]


def test_a_size_that_the_archive_understates_does_not_help(make_zip: MakeZip) -> None:
    path = make_zip({PLACE: bytes(5_000_000)})
    data = bytearray(path.read_bytes())
    size = (5_000_000).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    found = read_submission(path, COURSE)
    assert len(found.files.get("01_attention", b"")) <= 10


def test_an_encrypted_entry_is_refused(make_zip: MakeZip) -> None:
    path = make_zip({PLACE: TEXT})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    assert "encrypted" in read_submission(path, COURSE).refused[0]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip at all"])
def test_a_broken_archive_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "ann.zip").write_bytes(data)
    found = read_submission(tmp_path / "ann.zip", COURSE)
    assert found.files == {} and "not a zip" in found.refused[0]


@needs_links
def test_links_and_pipes_in_a_folder_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_bytes(TEXT)
    for lesson, make in (("01_attention", secret.__class__.symlink_to), ("02_multi_head", None)):
        file = tmp_path / "ann" / lesson / "exercises" / "exercises.py"
        file.parent.mkdir(parents=True)
        if make is not None:
            make(file, secret)
        else:
            os.mkfifo(file)
    (tmp_path / "ann" / "more").symlink_to(tmp_path)  # a loop
    found = read_submission(tmp_path / "ann", COURSE)
    assert found.files == {}
    assert ["symbolic link" in one or "ordinary" in one for one in found.refused] == [True, True]


def test_two_different_files_of_one_lesson_are_refused(make_zip: MakeZip) -> None:
    found = read_submission(make_zip({f"a/{PLACE}": TEXT, f"b/{PLACE}": TEXT + b"#"}), COURSE)
    assert found.files == {"01_attention": TEXT}
    assert "second, different" in found.refused[0]


def test_a_submission_without_exercises_says_so(make_zip: MakeZip) -> None:
    found = read_submission(make_zip({"notes.txt": b"sorry"}), COURSE)
    assert found.refused == ["ann.zip: it holds no exercises.py of a lesson"]


def test_two_submissions_of_one_name_are_a_mistake_of_usage(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "ann").mkdir(parents=True)
    with pytest.raises(UsageError, match="two submissions are called 'ann'"):
        read_submissions([tmp_path / "a" / "ann", tmp_path / "b" / "ann"], COURSE)


def test_each_entry_of_a_folder_is_a_submission(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    for name in ("bob.zip", "eve.py", "notes.txt", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    assert [one.name for one in entries(tmp_path)] == ["ann", "bob.zip", "eve.py"]
    with pytest.raises(UsageError, match="is not a folder"):
        entries(tmp_path / "eve.py")


def test_nothing_is_written_while_reading(make_zip: MakeZip, tmp_path: Path) -> None:
    path = make_zip({PLACE: TEXT, "../evil.py": b"x"})
    before = sorted(tmp_path.rglob("*"))
    read_submission(path, COURSE)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_with_too_many_entries_is_refused(
    make_zip: MakeZip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.grading.submissions.MOST_ENTRIES", 3)
    found = read_submission(make_zip({f"{at}.txt": b"" for at in range(4)}), COURSE)
    assert "more than 3 files" in found.refused[0]


def test_a_text_with_a_mark_of_its_encoding_is_taken_as_it_is(tmp_path: Path) -> None:
    data = io.BytesIO(b"\xef\xbb\xbf" + TEXT).getvalue()
    (tmp_path / "ann.py").write_bytes(data)
    assert read_submission(tmp_path / "ann.py", COURSE).files == {"01_attention": data}
