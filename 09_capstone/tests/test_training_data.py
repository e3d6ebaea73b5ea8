"""Where the tokens of a run come from: a text file, or a folder that prepare_data.py wrote."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import training_data
from bpe_tokenizer import BPETokenizer, train_bpe
from special_tokens import SPECIAL_TOKENS
from training_data import TrainingData, load_training_data
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
    folder = poem.parent / "prepared"
    prepare_into(poem, folder)
    return folder


def prepare_into(text: Path, folder: Path, *tokenizer: object) -> None:
    """Run prepare_data.py, which nothing imports by name."""
    spec = importlib.util.spec_from_file_location("prepare_data", PREPARE)
    assert spec and spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.prepare(program.find_source(str(text)), folder, *tokenizer)


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


# --- learned tokens, and characters per token ----------------------------------------------------


def test_characters_count_one_per_token(poem: Path) -> None:
    data = load_training_data(str(poem))
    assert data.n_characters == (len(data.train), len(data.val))
    assert data.chars_per_token == 1.0


def test_tokens_are_learned_from_the_training_split_alone(poem: Path) -> None:
    data = load_training_data(str(poem), "bpe", 300)
    n_train = int(0.9 * len(TEXT))
    assert data.tokenizer == train_bpe(TEXT[:n_train], 300, SPECIAL_TOKENS)
    assert data.n_characters == (n_train, len(TEXT) - n_train)
    assert data.tokenizer.decode(data.train) == TEXT[:n_train]
    assert data.tokenizer.decode(data.val) == TEXT[n_train:]


def test_characters_per_token_leave_out_the_first_token_which_is_not_predicted() -> None:
    tokenizer = BPETokenizer([(97, 98), (256, 256)])
    val = tokenizer.encode_array("ababcdab")  # abab c d ab
    data = TrainingData("x", "a test", tokenizer, val, val, None, (8, 8))
    assert data.chars_per_token == 4 / 3
    half = BPETokenizer([]).encode_array("éa")  # the first character begins with the first token
    data = TrainingData("x", "a test", BPETokenizer([]), half, half, None, (2, 2))
    assert data.chars_per_token == 1 / 2


def test_special_tokens_of_a_training_text_become_their_ids(tmp_path: Path) -> None:
    (tmp_path / "docs.txt").write_text("to be<|eos|>" * 100, encoding="utf-8")
    data = load_training_data(str(tmp_path / "docs.txt"), "bpe", 270)
    assert isinstance(data.tokenizer, BPETokenizer)
    assert data.tokenizer.special_ids["<|eos|>"] in data.train


def test_a_folder_prepared_with_learned_tokens_gives_the_same_data(
    poem: Path, tmp_path: Path
) -> None:
    prepare_into(poem, tmp_path / "bpe", "bpe", 280)
    text, folder = load_training_data(str(poem), "bpe", 280), load_training_data(f"{tmp_path}/bpe")
    assert folder.tokenizer == text.tokenizer
    assert folder.n_characters == text.n_characters
    assert folder.chars_per_token == text.chars_per_token > 1.5
    assert folder.fingerprint == text.fingerprint
    assert load_training_data(f"{tmp_path}/bpe", "bpe", 280).fingerprint == text.fingerprint


def test_a_folder_of_an_older_version_has_one_character_per_token(prepared: Path) -> None:
    meta = json.loads((prepared / "meta.json").read_text(encoding="utf-8"))
    meta.pop("val_characters")
    (prepared / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    assert load_training_data(str(prepared)).chars_per_token == 1.0


def test_a_request_that_does_not_fit_is_refused(poem: Path, prepared: Path) -> None:
    for source, kind, size, problem in (
        (poem, "char", 300, "--vocab-size 300 needs --tokenizer bpe"),
        (poem, "auto", 300, "--vocab-size 300 needs --tokenizer bpe"),
        (poem, "bpe", 200, "vocab_size 200 is too small: 256 bytes and 3 special tokens need"),
        (prepared, "bpe", None, "was prepared with char; prepare it again with bpe"),
        (prepared, "auto", 300, "--vocab-size 300 needs --tokenizer bpe"),
    ):
        with pytest.raises(UsageError, match=problem):
            load_training_data(str(source), kind, size)
    prepare_into(poem, prepared, "bpe", 280)
    with pytest.raises(UsageError, match="was prepared with bpe; prepare it again with char"):
        load_training_data(str(prepared), "char")
    with pytest.raises(UsageError, match=r"--vocab-size 301: .* was prepared with 280 tokens"):
        load_training_data(str(prepared), "bpe", 301)


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
        (rewrite("tokenizer.json", '{"kind": "word"}'), "unknown tokenizer kind 'word'"),
        (rewrite("tokenizer.json", '{"kind": "bpe"}'), "merges must be pairs of ids, not None"),
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
