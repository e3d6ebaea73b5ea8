"""What prepare_data.py writes, read back."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from any_tokenizer import tokenizer_from_dict
from bpe_tokenizer import train_bpe
from special_tokens import SPECIAL_TOKENS
from tokenizer import CharTokenizer
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


def source(program: ModuleType, name: str, text: str = TEXT, bits: float | None = None) -> Any:
    """A text that comes in pieces of seven characters."""

    def pieces() -> Iterator[str]:
        return (text[start : start + 7] for start in range(0, len(text), 7))

    return program.Source(name, "a test", pieces, bits)


def test_the_arrays_decode_to_the_text(program, tmp_path):
    program.prepare(source(program, "mine"), tmp_path / "out")
    train, val = (np.load(tmp_path / "out" / f"{part}.npy") for part in ("train", "val"))
    assert train.ndim == val.ndim == 1
    assert train.dtype == val.dtype == np.uint16
    stored = json.loads((tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = CharTokenizer.from_dict(stored)
    assert tokenizer.decode(train) + tokenizer.decode(val) == TEXT
    assert len(train) == int(0.9 * len(TEXT))


def test_without_val_the_text_ends_where_the_validation_split_begins(program, tmp_path):
    whole = source(program, "mine")
    for name, text in (("whole", whole), ("tuning", program.without_val(whole))):
        program.prepare(text, tmp_path / name)
    train = np.load(tmp_path / "whole" / "train.npy")
    parts = [np.load(tmp_path / "tuning" / f"{part}.npy") for part in ("train", "val")]
    stored = json.loads((tmp_path / "tuning" / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = CharTokenizer.from_dict(stored)
    n_train = int(0.9 * len(TEXT))
    assert tokenizer.decode(np.concatenate(parts)) == TEXT[:n_train]
    assert (len(train), len(parts[0])) == (n_train, int(0.9 * n_train))


def test_the_program_leaves_the_validation_split_out(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text(TEXT, encoding="utf-8")
    done = run("--data", text, "--out-dir", tmp_path / "out", "--without-val")
    assert done.returncode == 0, done.stderr
    assert "without its validation split" in done.stdout
    assert f"characters  {int(0.9 * len(TEXT)):,}\n" in done.stdout


def test_the_arrays_can_be_mapped_into_memory(program, tmp_path):
    program.prepare(source(program, "mine"), tmp_path)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    del mapped  # Windows keeps the file until then


def test_the_program_prints_what_it_wrote(tmp_path):
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
    meta = program.prepare(source(program, "mock", bits=0.75), tmp_path)
    assert meta == json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))
    assert "0.7500 bits per character" in program.summary(meta, tmp_path)


def test_an_interrupted_preparation_is_not_taken_for_a_complete_one(program, tmp_path, monkeypatch):
    program.prepare(source(program, "old"), tmp_path)

    def full_disk(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(program, "_write_json", full_disk)
    with pytest.raises(CourseError, match=r"cannot write .*: No space left on device"):
        program.prepare(source(program, "new", TEXT[::-1]), tmp_path)
    assert not (tmp_path / "meta.json").exists()


def test_a_mistake_gives_one_line(tmp_path):
    wrong = run("--data", tmp_path / "none.txt", "--out-dir", tmp_path / "out")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: no file ")
    assert wrong.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_text_too_short_to_split_is_refused_before_anything_is_written(program, tmp_path):
    with pytest.raises(CourseError, match="too short"):
        program.prepare(source(program, "tiny", "a"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("second", ["shorter", "longer", "other letters"])
def test_a_text_that_changes_between_its_two_readings_is_noticed(program, tmp_path, second):
    program.prepare(source(program, "old"), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    texts = iter([TEXT, {"shorter": TEXT[:-1], "longer": TEXT + "a"}.get(second, TEXT.upper())])
    changing = program.Source("new", "a text", lambda: iter([next(texts)]))
    with pytest.raises(CourseError, match="a text changed while it was being read; prepare"):
        program.prepare(changing, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_leaves_the_old_files_complete_and_nothing_half_written(
    program, tmp_path, monkeypatch
):
    program.prepare(source(program, "old"), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(program, "write_array_header_1_0", full_disk)
    with pytest.raises(CourseError, match=r"cannot write .*: No space left on device"):
        program.prepare(source(program, "new", TEXT[::-1]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_large_file_is_read_in_pieces_and_gives_the_same_ids(program, tmp_path, monkeypatch):
    (tmp_path / "hamlet.txt").write_bytes(TEXT.replace("\n", "\r\n").encode())
    small = program.find_source(str(tmp_path / "hamlet.txt"))
    monkeypatch.setattr(program, "LARGE", 100)
    monkeypatch.setattr(program, "LARGEST_VAL", 50)
    large = program.find_source(str(tmp_path / "hamlet.txt"))
    metas = [program.prepare(each, tmp_path / f"{i}") for i, each in enumerate((small, large))]
    assert (metas[0]["name"], metas[0]["origin"]) == (metas[1]["name"], metas[1]["origin"])
    ids = [
        np.concatenate([np.load(tmp_path / f"{i}" / f"{part}.npy") for part in ("train", "val")])
        for i in range(2)
    ]
    assert (ids[0] == ids[1]).all()
    assert [meta["val_tokens"] for meta in metas] == [86, 50]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which tells a process's memory")
def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path):
    """Its ids are 40 MB and its characters 20; what Python and NumPy need does not count."""
    script = f"""
import importlib.util, sys, threading
from pathlib import Path
spec = importlib.util.spec_from_file_location("prepare_data", {str(PROGRAM)!r})
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)

def used():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) // 1024

program.LARGE = 1_000_000
source = program.find_source("big.txt")
pieces, most = source.pieces, used()
before = most

def watched():
    global most
    for piece in pieces():
        most = max(most, used())
        yield piece

from dataclasses import replace
program.prepare(replace(source, pieces=watched), Path("out"))
print(most - before)
"""
    (tmp_path / "big.txt").write_text(TEXT * 23_000, encoding="utf-8")
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert int(done.stdout) < 30  # MB


# --- learned tokens -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 50, 10_000])
def test_pieces_of_any_size_give_the_tokens_of_the_whole_text(program, tmp_path, size):
    text = TEXT + "Größe 🙂 to be<|eos|>" * 5 + TEXT
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    source = program.Source("mine", "a test", lambda: iter(pieces))
    meta = program.prepare(source, tmp_path, "bpe", 300)
    n_train = int(0.9 * len(text))
    tokenizer = train_bpe(text[:n_train], 300, SPECIAL_TOKENS)
    stored = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer_from_dict(stored) == tokenizer
    for part, split in (("train", text[:n_train]), ("val", text[n_train:])):
        ids = np.load(tmp_path / f"{part}.npy")
        np.testing.assert_array_equal(ids, tokenizer.encode_array(split, allow_special=True))
        assert meta[f"{part}_tokens"] == len(ids)
    assert meta["val_characters"] == len(text) - n_train
    assert tokenizer.special_ids["<|eos|>"] in np.load(tmp_path / "train.npy")
    assert np.load(tmp_path / "train.npy", mmap_mode="r").shape == (meta["train_tokens"],)


def test_the_program_prints_what_it_learned(tmp_path):
    (tmp_path / "hamlet.txt").write_text(TEXT, encoding="utf-8")
    flags = ("--tokenizer", "bpe", "--vocab-size", 270)
    done = run("--data", tmp_path / "hamlet.txt", "--out-dir", tmp_path / "out", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    meta = json.loads((tmp_path / "out" / "meta.json").read_text(encoding="utf-8"))
    assert "vocabulary  270 tokens" in done.stdout
    assert f"{meta['train_tokens']:,} to train, {meta['val_tokens']:,} to validate" in done.stdout


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--vocab-size", 300], "--vocab-size 300 needs --tokenizer bpe"),
        (["--tokenizer", "bpe", "--vocab-size", 258], "258 is too small: 256 bytes and 3 special"),
        (["--tokenizer", "bpa"], "unknown tokenizer 'bpa' (did you mean 'bpe'?)"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(flags, problem, tmp_path):
    (tmp_path / "hamlet.txt").write_text(TEXT, encoding="utf-8")
    wrong = run("--data", tmp_path / "hamlet.txt", "--out-dir", tmp_path / "out", *flags)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert problem in wrong.stderr
    assert not (tmp_path / "out").exists()
