"""Where the tokens of a run come from: a text file, or a folder that prepare_data.py wrote."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import training_data
from training_data import load_training_data
from utils.corpus import Corpus
from utils.errors import CourseError, UsageError

PREPARE = Path(__file__).parents[1] / "data" / "prepare_data.py"
TEXT = "To be, or not to be:\nthat is the question. " * 20


@pytest.fixture
def poem(tmp_path: Path) -> Path:
    path = tmp_path / "poem.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def prepared(poem: Path) -> Path:
    """What prepare_data.py makes of the poem."""
    spec = importlib.util.spec_from_file_location("prepare_data", PREPARE)
    assert spec and spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    folder = poem.parent / "prepared"
    program.prepare(program.find_source(str(poem)), folder)
    return folder


def test_a_text_is_split_nine_to_one(poem: Path) -> None:
    data = load_training_data(str(poem))
    assert data.tokenizer.decode(data.train) + data.tokenizer.decode(data.val) == TEXT
    assert len(data.train) == int(0.9 * len(TEXT))
    assert (data.name, data.entropy_bits_per_char) == ("poem", None)


def test_a_prepared_folder_gives_the_same_data_memory_mapped(poem: Path, prepared: Path) -> None:
    text, folder = load_training_data(str(poem)), load_training_data(str(prepared))
    assert folder.tokenizer == text.tokenizer
    assert (folder.name, folder.entropy_bits_per_char) == ("poem", None)
    for ours, theirs in ((folder.train, text.train), (folder.val, text.val)):
        assert isinstance(ours, np.memmap)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_a_tilde_means_the_home_folder(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):  # Unix, Windows
        monkeypatch.setenv(variable, str(prepared.parent))
    assert load_training_data("~/prepared").name == "poem"


def test_a_known_entropy_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus("mock", TEXT, "a test", entropy_bits_per_char=0.75)
    monkeypatch.setattr(training_data, "load_corpus", lambda source: corpus)
    assert load_training_data("mock").entropy_bits_per_char == 0.75


Damage = Callable[[Path], object]


def rewrite(name: str, content: str) -> Damage:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def replace_tokens(tokens: np.ndarray) -> Damage:
    return lambda folder: np.save(folder / "val.npy", tokens)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove("meta.json"), "is not a complete prepared folder"),
        (remove("train.npy"), "no token file at"),
        (rewrite("meta.json", "{"), "is not a complete prepared folder"),
        (rewrite("meta.json", "[1]"), "meta.json must be a JSON object, not [1]"),
        (rewrite("meta.json", "{}"), "is not a complete prepared folder: 'name'"),
        (rewrite("tokenizer.json", '"ab"'), "tokenizer.json must be a JSON object"),
        (rewrite("tokenizer.json", '{"kind": "bpe"}'), "unknown tokenizer kind 'bpe'"),
        (rewrite("val.npy", "not an array"), "is not a complete .npy file"),
        (replace_tokens(np.zeros((3, 4), np.uint16)), "one-dimensional array of unsigned integers"),
        (replace_tokens(np.full(86, 999, np.uint16)), "contains the id 999, but tokenizer.json"),
        (replace_tokens(np.zeros(85, np.uint16)), "val.npy does not match meta.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_folder_gives_one_line(prepared: Path, damage: Damage, words: str) -> None:
    damage(prepared)
    with pytest.raises(CourseError) as raised:
        load_training_data(str(prepared))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unprepared_folder_is_not_a_text(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"name": "half"}), encoding="utf-8")
    with pytest.raises(UsageError, match="is a folder"):
        load_training_data(str(tmp_path))


def test_a_text_that_may_not_fit_into_memory_must_be_prepared(
    poem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_data, "LARGE", 100)
    with pytest.raises(
        UsageError, match=r"poem\.txt is too large; prepare it with .*prepare_data\.py"
    ):
        load_training_data(str(poem))
