"""What prepare_data.py writes, read back."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tokenizer import CharTokenizer
from utils.corpus import Corpus
from utils.errors import CourseError

PROGRAM = Path(__file__).parents[1] / "data" / "prepare_data.py"
TEXT = "To be, or not to be:\nthat is the question. " * 20


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """The program as a module: its folder is called data, so nothing imports it by name."""
    spec = importlib.util.spec_from_file_location("prepare_data", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_the_arrays_decode_to_the_text(program, tmp_path):
    program.prepare(Corpus("mine", TEXT, "a test"), tmp_path / "out")
    train, val = (np.load(tmp_path / "out" / f"{part}.npy") for part in ("train", "val"))
    assert train.ndim == val.ndim == 1
    assert train.dtype == val.dtype == np.uint16
    stored = json.loads((tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = CharTokenizer.from_dict(stored)
    assert tokenizer.decode(train) + tokenizer.decode(val) == TEXT
    assert len(train) == int(0.9 * len(TEXT))


def test_the_arrays_can_be_mapped_into_memory(program, tmp_path):
    program.prepare(Corpus("mine", TEXT, "a test"), tmp_path)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    del mapped  # Windows keeps the file until then


def test_the_program_says_what_it_wrote(tmp_path):
    (tmp_path / "hamlet.txt").write_text(TEXT, encoding="utf-8")
    done = run("--data", tmp_path / "hamlet.txt", "--out-dir", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    meta = json.loads((tmp_path / "out" / "meta.json").read_text(encoding="utf-8"))
    assert (meta["name"], meta["characters"]) == ("hamlet", len(TEXT))
    assert meta["vocab_size"] == len(set(TEXT))
    assert meta["entropy_bits_per_char"] is None
    for words in (
        f"{len(TEXT):,}",
        f"{len(set(TEXT))} characters",
        "774 to train, 86 to validate",
        "out",
    ):
        assert words in done.stdout
    assert "entropy" not in done.stdout


def test_the_entropy_is_kept_where_it_is_known(program, tmp_path):
    meta = program.prepare(Corpus("mock", TEXT, "a test", None, 0.75), tmp_path)
    assert meta == json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))
    assert "0.7500 bits per character" in program.summary(meta, tmp_path)


def test_an_interrupted_run_does_not_pass_for_a_finished_one(program, tmp_path, monkeypatch):
    program.prepare(Corpus("old", TEXT, "a test"), tmp_path)

    def full_disk(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(program, "_write_json", full_disk)
    with pytest.raises(CourseError, match=r"cannot write .*: No space left on device"):
        program.prepare(Corpus("new", TEXT[::-1], "a test"), tmp_path)
    assert not (tmp_path / "meta.json").exists()


def test_a_mistake_is_told_in_one_line(tmp_path):
    wrong = run("--data", tmp_path / "none.txt", "--out-dir", tmp_path / "out")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: no file ")
    assert wrong.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_text_too_short_to_split_is_refused_before_anything_is_written(program, tmp_path):
    with pytest.raises(CourseError, match="too short"):
        program.prepare(Corpus("tiny", "a", "a test"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
