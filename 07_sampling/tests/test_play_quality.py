"""play_quality.py: openings end where a line begins, and lines are counted as said."""

import pytest
import torch
from torch import Tensor

from greedy import greedy
from play_quality import sample_lines, scene_openings, score, written_lines
from small_model import load_small_model
from utils.mock_corpus import speakers


def test_openings_are_different_and_end_with_a_name() -> None:
    openings = scene_openings(20)
    assert len(set(openings)) == 20
    for opening in openings:
        assert opening.startswith("Enter ")
        assert opening.endswith(":\n") and opening.splitlines()[-1][:-1] in speakers()
        assert len(opening) <= 120
    assert scene_openings(3) == openings[:3]


def test_the_plays_themselves_are_valid_throughout() -> None:
    lines = written_lines(200)
    found = score(lines, lines)
    assert found.valid == 1
    assert found.different == found.both == len(set(lines)) / 200


def test_lines_are_counted() -> None:
    lines = ["The ring is amid the star."] * 2 + ["The ring is amid that star.", "The rinq is"]
    found = score(["a", "a", "b", "b"], lines)
    assert (found.valid, found.different, found.both) == (0.75, 0.75, 0.5)
    assert found.word_pairs == pytest.approx(9 / 17)
    assert score(["a", "b", "b", "b"], lines).both == 0.75


def test_the_line_after_each_opening_is_generated() -> None:
    model, tokenizer = load_small_model()
    newline, letter = tokenizer.encode("\nx")

    script = iter([letter, letter, newline])

    def choose(logits: Tensor) -> Tensor:
        """An x for each row, twice, then a newline for all."""
        return torch.full((len(logits),), next(script))

    openings = scene_openings(2)
    assert sample_lines(model, model.config, tokenizer, openings, choose) == ["xx", "xx"]
    lines = sample_lines(model, model.config, tokenizer, openings, greedy)
    assert len(lines) == 2 and not any("\n" in line for line in lines)
