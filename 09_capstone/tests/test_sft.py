"""Special tokens for a trained model: what it computed before stays as it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bpe_tokenizer import train_bpe
from checkpointing import Checkpoint, load_checkpoint, save_checkpoint
from post_training.sft import add_special_tokens, is_table, with_rows
from post_training.tasks import SPECIAL
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.errors import CourseError
from utils.recipes import MODERN

LAYOUTS: dict[str, dict[str, Any]] = {"untied": MODERN, "tied": {}}
LETTERS = "abcdef"


@pytest.fixture(params=LAYOUTS)
def given(request: pytest.FixtureRequest) -> Checkpoint:
    return checkpoint_of(LETTERS, request.param)


def checkpoint_of(characters: str, layout: str = "untied") -> Checkpoint:
    sizes: dict[str, Any] = {"max_seq_len": 8, "d_model": 16, "n_layers": 1, "n_heads": 2}
    config = ModelConfig(len(characters), **sizes, **LAYOUTS[layout])
    weights = TinyTransformerLM(config, seed=3).state_dict()
    return Checkpoint(config, CharTokenizer(characters), dict(weights), {"step": 7}, "tiny")


def test_new_tokens_follow_the_known_ones(given: Checkpoint) -> None:
    grown = add_special_tokens(given)
    assert isinstance(grown.tokenizer, CharTokenizer)
    assert grown.tokenizer.characters == LETTERS + SPECIAL
    assert grown.model_config == replace(given.model_config, vocab_size=len(LETTERS + SPECIAL))
    assert (grown.info, grown.name) == (given.info, given.name)


def test_the_logits_of_known_tokens_are_unchanged(given: Checkpoint) -> None:
    tokens = torch.tensor([given.tokenizer.encode("abcfed")])
    before = given.build_model()(tokens)
    after = add_special_tokens(given).build_model()(tokens)
    torch.testing.assert_close(after[..., : len(LETTERS)], before)
    mean = before.mean(-1, keepdim=True).expand(*before.shape[:-1], len(SPECIAL))
    torch.testing.assert_close(after[..., len(LETTERS) :], mean)  # the rows are a mean as well


def test_new_rows_are_the_mean_of_all_known_rows(given: Checkpoint) -> None:
    grown = add_special_tokens(given)
    tables = [name for name in given.weights if is_table(name)]
    assert len(tables) == (1 if given.model_config.tie_weights else 2)
    for name, weight in given.weights.items():
        if name in tables:
            assert torch.equal(grown.weights[name][: len(LETTERS)], weight)
            for row in grown.weights[name][len(LETTERS) :]:
                torch.testing.assert_close(row, weight.mean(0))
        else:
            assert torch.equal(grown.weights[name], weight)


def test_the_given_checkpoint_is_left_as_it_was(given: Checkpoint) -> None:
    before = {name: weight.clone() for name, weight in given.weights.items()}
    add_special_tokens(given)
    assert given.tokenizer == CharTokenizer(LETTERS)
    assert all(torch.equal(before[name], weight) for name, weight in given.weights.items())


@pytest.mark.parametrize(
    ("known", "expected"),
    [("abc[]|", "abc[]|"), ("|ab[]c", "|ab[]c"), ("ab[c", "ab[c]|"), ("]a", "]a[|")],
)
def test_marks_that_are_known_are_not_added_again(known: str, expected: str) -> None:
    given = checkpoint_of(known)
    grown = add_special_tokens(given)
    assert isinstance(grown.tokenizer, CharTokenizer)
    assert grown.tokenizer.characters == expected
    n_rows = {len(weight) for name, weight in grown.weights.items() if is_table(name)}
    assert n_rows == {len(expected)}
    assert {*add_special_tokens(grown).weights} == {*grown.weights}


def test_the_grown_model_can_be_saved_and_loaded(given: Checkpoint, tmp_path: Path) -> None:
    grown = add_special_tokens(given)
    path = tmp_path / "grown.safetensors"
    save_checkpoint(path, grown.build_model(), grown.tokenizer)
    loaded = load_checkpoint(path)
    assert loaded.tokenizer == grown.tokenizer
    assert all(torch.equal(loaded.weights[name], weight) for name, weight in grown.weights.items())


def test_a_tokenizer_of_learned_tokens_is_refused_in_one_line() -> None:
    learned = train_bpe("the cat sat on the mat " * 20, 270)
    given = replace(checkpoint_of(LETTERS), tokenizer=learned)
    with pytest.raises(CourseError) as refused:
        add_special_tokens(given)
    assert str(refused.value) == "tiny: its tokens are not characters, which the tasks need"


def test_a_table_grows_by_rows_of_its_mean() -> None:
    table = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert with_rows(table, 2).tolist() == [[1, 2], [3, 6], [2, 4], [2, 4]]
    assert torch.equal(with_rows(table, 0), table)
