"""The small model with which the lesson measures: what it predicts, sees and reports."""

import math

import torch

from stack_lab import StackLM, T, batch, corpus, final_loss, loss_of, train, unigram_entropy


def small(n_blocks: int = 1, placement: str = "pre") -> StackLM:
    torch.manual_seed(0)
    return StackLM(n_blocks, placement, d_model=16)


def test_a_batch_holds_pieces_of_the_text_and_what_follows_each_character():
    tokens, targets = batch(torch.Generator().manual_seed(3))
    assert torch.equal(tokens[:, 1:], targets[:, :-1])
    text, characters = corpus()
    piece = "".join(characters[int(i)] for i in tokens[0])
    assert piece in "".join(characters[int(i)] for i in text)


def test_no_prediction_depends_on_a_later_character():
    model = small()
    tokens, _ = batch(torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, T // 2 :] = (changed[:, T // 2 :] + 1) % len(corpus()[1])
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, : T // 2], after[:, : T // 2])
    assert not torch.allclose(before[:, T // 2 :], after[:, T // 2 :])


def test_a_new_model_gives_nearly_equal_probabilities():
    tokens, targets = batch(torch.Generator().manual_seed(0))
    for placement in ("pre", "post"):
        loss = loss_of(small(2, placement), tokens, targets).item()
        assert abs(loss - math.log(len(corpus()[1]))) < 0.1


def test_training_lowers_the_loss_and_is_repeatable():
    losses = train(small(), n_steps=30)
    assert final_loss(losses, last=5) < losses[0] - 0.5
    assert train(small(), n_steps=30) == losses


def test_the_warm_up_starts_with_small_steps():
    moved = []
    for warmup in (0, 100):
        model = small()
        before = model.head.weight.detach().clone()
        train(model, n_steps=1, warmup=warmup)
        moved.append((model.head.weight - before).abs().max().item())
    assert math.isclose(moved[1], moved[0] / 100, rel_tol=0.01)


def test_training_stops_at_a_loss_that_is_not_finite():
    model = small()
    with torch.no_grad():
        model.head.weight.fill_(math.nan)
    assert len(train(model, n_steps=5)) == 1


def test_the_unigram_entropy_is_that_of_the_counts():
    text, characters = corpus()
    shares = [(text == i).float().mean().item() for i in range(len(characters))]
    assert math.isclose(unigram_entropy(), -sum(p * math.log(p) for p in shares), rel_tol=1e-4)
