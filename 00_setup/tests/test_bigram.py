"""The bigram model: counted against plain Python, trained against counted, drawn against shares."""

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from bigram import (
    bigram_probabilities,
    cross_entropy,
    decode,
    draw,
    encode,
    generate,
    main,
    train,
)
from utils import mock_corpus
from utils.shape_checker import ShapeError

TEXT = mock_corpus.generate(3_000)


def test_encoding_and_decoding_gives_the_text_back():
    ids, vocabulary = encode(TEXT)
    assert decode(ids.tolist(), vocabulary) == TEXT
    assert vocabulary == "".join(sorted(set(TEXT)))
    assert ids.max() == len(vocabulary) - 1


def test_probabilities_are_the_shares_that_plain_python_counts():
    ids, vocabulary = encode(TEXT)
    V = len(vocabulary)
    table = bigram_probabilities(ids, V)
    pairs, totals = Counter(pairwise(TEXT)), Counter(TEXT[:-1])
    for i, current in enumerate(vocabulary):
        for j, following in enumerate(vocabulary):
            expected = pairs[current, following] / totals[current]
            assert math.isclose(table[i, j].item(), expected, rel_tol=1e-6)
    torch.testing.assert_close(table.sum(1), torch.ones(V))


@pytest.mark.parametrize("ids", [[0, 1, 0], [2], []])
def test_a_row_that_nothing_follows_is_uniform(ids):
    table = bigram_probabilities(torch.tensor(ids, dtype=torch.int64), 4)
    torch.testing.assert_close(table[3], torch.full((4,), 0.25))
    torch.testing.assert_close(table.sum(1), torch.ones(4))


def test_the_loss_and_its_gradient_are_those_of_pytorch():
    ids, V = torch.tensor([0, 3, 1, 1, 4, 2, 0, 3, 3]), 5
    logits = torch.randn(V, V, dtype=torch.float64, requires_grad=True)
    ours = cross_entropy(torch.softmax(logits, -1), ids)
    theirs = F.cross_entropy(logits[ids[:-1]], ids[1:])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_no_other_table_has_a_lower_loss_than_the_counted_one():
    ids, vocabulary = encode(TEXT)
    counted = bigram_probabilities(ids, len(vocabulary))
    lowest = cross_entropy(counted, ids)
    for _ in range(20):
        other = torch.softmax(counted.clamp(min=1e-6).log() + 0.1 * torch.randn(counted.shape), -1)
        assert cross_entropy(other, ids) > lowest


def test_what_is_impossible_and_happens_costs_infinitely_much():
    table = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert cross_entropy(table, torch.tensor([0, 1])).item() == math.inf


def test_training_finds_the_counted_table():
    ids, vocabulary = encode(mock_corpus.generate(20_000))
    V = len(vocabulary)
    counted = bigram_probabilities(ids, V)
    logits, losses = train(ids, V)
    trained = torch.softmax(logits, -1)
    assert len(losses) == 200
    assert math.isclose(losses[0], math.log(V), rel_tol=1e-6)
    assert losses[-1] < losses[100] < losses[0]
    assert 0 <= cross_entropy(trained, ids) - cross_entropy(counted, ids) < 1e-4
    torch.testing.assert_close(trained, counted, rtol=0, atol=1e-3)


def test_each_character_is_drawn_as_often_as_its_probability_says():
    row = torch.tensor([0.0, 0.125, 0.5, 0.0, 0.375, 0.0])
    drawn = Counter(draw(row, u / 1000) for u in range(1000))
    assert drawn == {1: 125, 2: 500, 4: 375}


@pytest.mark.parametrize(("u", "expected"), [(0.0, 1), (0.5, 3), (0.4999999, 1), (0.9999999, 3)])
def test_a_piece_includes_its_start_and_not_its_end(u, expected):
    assert draw(torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0]), u) == expected


def test_a_row_that_rounds_to_less_than_one_still_gives_a_possible_character():
    row = torch.tensor([0.5, 0.4999, 0.0])
    assert draw(row, 0.99999) == 1


def test_generation_repeats_with_its_seed_and_follows_the_table():
    ids, vocabulary = encode(TEXT)
    table = bigram_probabilities(ids, len(vocabulary))
    first, again, other = (
        generate(table, 0, 200, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == 200
    assert all(table[i, j] > 0 for i, j in pairwise([0, *first]))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError):
        bigram_probabilities(torch.zeros(2, 3, dtype=torch.int64), 4)
    with pytest.raises(ShapeError):
        cross_entropy(torch.ones(3, 4), torch.tensor([0, 1]))


def test_the_program_prints_equal_losses_and_two_samples(capsys):
    main()
    lines = capsys.readouterr().out.splitlines()
    losses = {line[:24].strip(): line[24:].split() for line in lines[3:7]}
    assert losses["counted"] == losses["trained"]
    assert losses["the play's own entropy"] == ["0.4343", "0.6266"]
    counted, trained = lines.index("counted:"), lines.index("trained:")
    assert lines[counted + 1 : trained - 1] == lines[trained + 1 :]  # the same random numbers
