"""The best model of a run is published under its name, and never over that of another run."""

import shutil
from pathlib import Path

import pytest

import publishing
from publishing import PUBLISHED_FILE, check_name, publish
from utils.errors import UsageError


def make_run(folder: Path, weights: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.safetensors").write_bytes(weights)
    return folder


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_two_runs_of_one_name_are_published_side_by_side(tmp_path: Path, checkpoints: Path) -> None:
    one, other = make_run(tmp_path / "a/run", b"one"), make_run(tmp_path / "b/run", b"other")
    assert publish(one, checkpoints) == checkpoints / "run.safetensors"
    assert publish(other, checkpoints) == checkpoints / "run-2.safetensors"
    make_run(one, b"one, trained again")
    make_run(other, b"other, trained again")
    for folder in (other, one):
        publish(folder, checkpoints)
    contents = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    assert contents == {
        "run.safetensors": b"one, trained again",
        "run-2.safetensors": b"other, trained again",
    }


def test_a_copy_of_a_run_is_another_run(tmp_path: Path, checkpoints: Path) -> None:
    publish(make_run(tmp_path / "a/run", b"one"), checkpoints)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert publish(tmp_path / "b/run", checkpoints).name == "run-2.safetensors"


def test_a_file_that_the_user_put_there_stays(tmp_path: Path, checkpoints: Path) -> None:
    (checkpoints / "run.safetensors").write_bytes(b"mine")
    publish(make_run(tmp_path / "run", b"one"), checkpoints)
    assert (checkpoints / "run.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("record", [b"", b"[]", b"\xff", b'{"file": 3, "folder": "x"}'])
def test_a_damaged_record_is_ignored(tmp_path: Path, checkpoints: Path, record: bytes) -> None:
    folder = make_run(tmp_path / "run", b"one")
    publish(folder, checkpoints)
    (folder / PUBLISHED_FILE).write_bytes(record)
    assert publish(folder, checkpoints).name == "run-2.safetensors"


def test_a_run_may_be_published_in_two_places(tmp_path: Path, checkpoints: Path) -> None:
    folder = make_run(tmp_path / "run", b"one")
    (tmp_path / "more").mkdir()
    assert publish(folder, checkpoints).parent == checkpoints
    assert publish(folder, tmp_path / "more") == tmp_path / "more" / "run.safetensors"


def test_the_longest_name_that_is_allowed_can_be_published(
    tmp_path: Path, checkpoints: Path
) -> None:
    longest = publishing.longest_name(checkpoints) - len(publishing.LONGEST_SUFFIX)
    for parent in ("a", "b"):
        folder = make_run(tmp_path / parent / ("x" * longest), parent.encode())
        check_name(folder, checkpoints)
        assert publish(folder, checkpoints).read_bytes() == parent.encode()
    with pytest.raises(UsageError, match=rf"the name has {longest + 1} bytes; at most {longest}"):
        check_name(tmp_path / ("x" * (longest + 1)), checkpoints)


def test_a_name_is_measured_in_bytes(checkpoints: Path) -> None:
    with pytest.raises(UsageError, match="the name has 240 bytes"):
        check_name(Path("/tmp") / ("\u00e9" * 120), checkpoints)
