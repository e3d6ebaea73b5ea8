"""Ideas that the course does not use: each computes what it says, and trains."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import model_ideas
import training_ideas
from model.config import preset
from muon_ideas import EverySecondStep, NormalizedMuon
from optimizers import Muon
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.ablation_ideas import IDEAS
from tools.benchmarks.ablation_variants import with_fields
from training_loop import Trainer
from utils.config import TrainConfig

SIZES = {"vocab_size": 11, "max_seq_len": 8, "d_model": 16, "n_layers": 3, "n_heads": 2}
SHORT = {"batch_size": 4, "max_steps": 6, "eval_interval": 6, "warmup_steps": 0}
TEXT = np.random.default_rng(0).integers(11, size=400).astype(np.uint8)
MODELS = [idea.model for idea in IDEAS.values() if idea.model is not TinyTransformerLM]


def small(**changes: object) -> TrainConfig:
    return with_fields(preset("laptop"), {**SIZES, **SHORT, "dtype": "float32", **changes})


def trainer_of(name: str, **changes: object) -> Trainer:
    idea = IDEAS[name]
    fields = {key: value for key, value in idea.fields.items() if key == "schedule"}
    config = small(**fields, **changes)
    model = idea.model(config.model, Parts.fused(), config.seed)
    return idea.trainer(model, TEXT[:300], TEXT[300:], config)


def weights_of(trainer: Trainer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


@pytest.mark.parametrize("name", IDEAS)
def test_each_idea_trains_and_gives_another_model_than_laptop(name: str) -> None:
    trainer, plain = trainer_of(name), trainer_of("decay of tables")
    plain = Trainer(
        TinyTransformerLM(plain.config.model, Parts.fused()), TEXT[:300], TEXT[300:], small()
    )
    losses = trainer.fit(), plain.fit()
    assert all(map(np.isfinite, losses))
    if not IDEAS[name].fields.keys() & {"d_model", "n_layers"}:  # other sizes: not in this test
        assert losses[0] != losses[1]


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_begins_as_the_plain_one_and_its_addition_then_matters(kind) -> None:
    config = small().model
    torch.manual_seed(0)
    plain, model = TinyTransformerLM(config).eval(), kind(config).eval()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():  # an output that is not zero
            model.get_parameter(name).copy_(parameter.normal_())
    tokens = torch.randint(11, (3, 8))
    if kind is model_ideas.SoftCappedLogits:
        expected = 15 * torch.tanh(plain(tokens) / 15)
        torch.testing.assert_close(model(tokens), expected)
        return
    torch.testing.assert_close(model(tokens), plain(tokens))
    added = [
        p for name, p in model.named_parameters() if name not in dict(plain.named_parameters())
    ]
    assert added
    with torch.no_grad():
        for parameter in added:
            parameter.normal_()
    changed = model.train()(tokens)
    assert changed.shape[1] == 15 or not torch.allclose(changed, plain(tokens))


@pytest.mark.parametrize("kind", MODELS)
def test_no_position_depends_on_a_later_token(kind) -> None:
    model = kind(small().model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    tokens = torch.randint(11, (1, 8))
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1) % 11
    torch.testing.assert_close(model(tokens)[0, :-1], model(other)[0, :-1])


def test_two_targets_are_the_next_token_and_the_one_after_it() -> None:
    trainer = trainer_of("two targets")
    ((x, y),) = trainer._micro_batches()
    assert torch.equal(y[:, :7], x[:, 1:]) and torch.equal(y[:, 8:14], x[:, 2:])
    assert trainer.model.train()(x).shape[:2] == y.shape == (4, 15)


def test_noise_changes_a_few_inputs_and_no_target() -> None:
    config = replace(small(), batch_size=32)
    model = TinyTransformerLM(config.model)
    noisy = training_ideas.NoisyInputs(model, TEXT[:300], TEXT[300:], config)
    plain = Trainer(model, TEXT[:300], TEXT[300:], config)
    ((x, y),), ((x0, y0),) = noisy._micro_batches(), plain._micro_batches()
    assert torch.equal(y, y0) and 0 < (x != x0).float().mean() < 0.1


def test_short_windows_hold_the_same_tokens_with_the_same_targets() -> None:
    trainer = trainer_of("short context first")
    ((x, y),) = trainer._micro_batches()
    assert x.shape == (8, 4) and torch.equal(x[:, 1:], y[:, :-1])
    trainer.step = 3
    ((x, _),) = trainer._micro_batches()
    assert x.shape == (4, 8)


def test_small_batches_come_first_and_all_hold_as_many_tokens_as_usual() -> None:
    trainer = trainer_of("small batch first")
    rows = []
    for trainer.step in range(6):
        ((x, _),) = trainer._micro_batches()
        rows.append(len(x))
    assert rows == [2, 2, 2, 6, 6, 6] and sum(rows) == 6 * 4


def test_the_mean_of_the_weights_is_evaluated_and_the_weights_stay() -> None:
    trainer = trainer_of("averaged weights")
    assert isinstance(trainer, training_ideas.AveragedWeights)
    seen = []
    for _ in range(3):
        trainer.train_step()
        seen.append(weights_of(trainer))
    mean = seen[0]
    for weights in seen[1:]:
        mean = [0.99 * m + 0.01 * w for m, w in zip(mean, weights, strict=True)]
    torch.testing.assert_close(trainer.mean, mean)
    averaged = trainer.evaluate()
    torch.testing.assert_close(weights_of(trainer), seen[-1], rtol=0, atol=0)
    assert averaged != Trainer.evaluate(trainer)


def test_the_tail_average_is_the_plain_mean_of_the_last_half() -> None:
    trainer = trainer_of("tail average")
    assert isinstance(trainer, training_ideas.AveragedWeights)
    seen = []
    for _ in range(6):
        trainer.train_step()
        seen.append(weights_of(trainer))
    mean = [torch.stack(each).mean(0) for each in zip(*seen[3:], strict=True)]
    torch.testing.assert_close(trainer.mean, mean)


def gradient_steps(kind: type[Muon], n: int) -> list[torch.Tensor]:
    """A matrix after each of n steps with fixed random gradients."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(6, 8, requires_grad=True)
    optimizer = kind([weight], lr=0.1, weight_decay=0.0, dtype=torch.float32)
    after = [weight.detach().clone()]
    for _ in range(n):
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        weight.grad = torch.randn(6, 8, generator=generator)
        optimizer.step()
        after.append(weight.detach().clone())
    return after


def test_every_second_step_stays_where_it_is_and_the_next_goes_twice_as_far() -> None:
    w0, w1, w2 = gradient_steps(EverySecondStep, 2)
    _, v1, v2 = gradient_steps(Muon, 2)
    assert torch.equal(w0, w1)
    torch.testing.assert_close(w2, 2 * (v2 - v1))  # the momentum has seen both gradients


def test_rows_take_even_steps_of_the_same_total_length() -> None:
    w0, w1 = gradient_steps(NormalizedMuon, 1)
    _, v1 = gradient_steps(Muon, 1)
    step, plain = w1 - w0, v1
    rows = step.norm(dim=1)
    torch.testing.assert_close(rows, rows.mean().expand(6))
    torch.testing.assert_close(step.norm(), plain.norm())
    assert plain.norm(dim=1).std() > 1e-3
