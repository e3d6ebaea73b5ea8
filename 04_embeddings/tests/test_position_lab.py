"""The small model with which the lesson measures: what it predicts, sees and reports."""

import math

import pytest
import torch

from position_lab import (
    SCHEMES,
    PositionLM,
    batch,
    corpus,
    loss_by_position,
    losses_of,
    train,
)


def small(scheme: str) -> PositionLM:
    torch.manual_seed(0)
    return PositionLM(scheme, d_model=16, n_heads=2, n_blocks=2)


def test_a_piece_holds_one_character_more_than_its_length():
    pieces = batch(torch.Generator().manual_seed(3), 4, 10)
    text, characters = corpus()
    assert pieces.shape == (4, 11)
    piece = "".join(characters[int(i)] for i in pieces[0])
    assert piece in "".join(characters[int(i)] for i in text)


def test_held_out_pieces_are_never_trained_on():
    text, _ = corpus()
    cut = len(text) * 4 // 5
    for held_out, part in ((False, text[:cut]), (True, text[cut:])):
        pieces = batch(torch.Generator().manual_seed(0), 50, 200, held_out)
        windows = part.unfold(0, 201, 1)
        for piece in pieces[:3]:
            assert bool((windows == piece).all(dim=1).any())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_prediction_depends_on_a_later_character(scheme):
    model = small(scheme)
    tokens = batch(torch.Generator().manual_seed(0), 2, 23)
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % len(corpus()[1])
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_new_model_starts_near_equal_probabilities_and_learns(scheme):
    model = small(scheme)
    losses = train(model, n_steps=12)
    assert abs(losses[0] - math.log(len(corpus()[1]))) < 0.8  # logits have a variance of about 1
    assert losses[-1] < losses[0] - 0.3


def test_only_the_order_of_the_past_is_lost_without_positions():
    """Two blocks notice a change of order through the causal mask, one block does not."""
    tokens = batch(torch.Generator().manual_seed(0), 2, 9)
    order = torch.tensor([3, 1, 4, 0, 2, 5, 7, 6, 8, 9])
    for n_blocks, same in ((1, True), (2, False)):
        torch.manual_seed(0)
        model = PositionLM("none", d_model=16, n_heads=2, n_blocks=n_blocks)
        last = [model(tokens)[:, -1], model(tokens[:, order])[:, -1]]
        assert torch.allclose(*last, atol=1e-5) == same


def test_a_stretched_model_has_the_angles_of_training():
    model = small("rope")
    q = torch.randn(1, 2, 8, 8)
    model.factor = 4.0
    stretched = model.attend(torch.arange(0, 32, 4))(q, q, q)[1]
    model.factor = 1.0
    torch.testing.assert_close(stretched, model.attend(torch.arange(8))(q, q, q)[1])


def test_the_loss_by_position_is_the_mean_of_the_losses():
    model = small("alibi")
    found = loss_by_position(model, n_texts=20, edges=(0, 5, 12))
    pieces = batch(torch.Generator().manual_seed(99), 20, 12, held_out=True)
    losses = losses_of(model, pieces).detach()
    assert found == pytest.approx([losses[:, :5].mean().item(), losses[:, 5:].mean().item()])


def test_training_is_repeatable():
    assert train(small("t5"), n_steps=3) == train(small("t5"), n_steps=3)
