"""The training loop against a plain PyTorch loop, and what it promises.

The toy task is counting: token t is followed by t + 1, and 10 by 0. A tiny model learns it in a few
dozen steps.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import time_budget
import training_loop
from data_loader import DataLoader
from run_progress import StepReport
from schedules import learning_rate_at
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Callback, Trainer
from utils.config import ModelConfig, TrainConfig
from utils.errors import CourseError

V = 11
COUNTING = (np.arange(500) % V).astype(np.uint16)
NOISE = np.random.default_rng(0).integers(V, size=500).astype(np.uint16)
MODEL = ModelConfig(V, max_seq_len=8, d_model=16, n_layers=1, n_heads=2)
CONFIG = TrainConfig(MODEL, batch_size=4, max_steps=6, lr=1e-2, warmup_steps=3, eval_interval=1000)


class Recorder(Callback):
    """Keeps all reports."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        self.reports.append(report)

    @property
    def losses(self) -> list[float]:
        return [report.train_loss for report in self.reports]


def trainer_for(
    config: TrainConfig,
    tokens: np.ndarray = NOISE,
    callbacks: Iterable[Callback] = (),
    dtype: torch.dtype = torch.float32,
) -> Trainer:
    """A trainer with a new model, whose initial weights are always the same."""
    model = TinyTransformerLM(config.model)
    return Trainer(model, tokens[:-100], tokens[-100:], config, None, dtype, list(callbacks))


def train(config: TrainConfig, tokens: np.ndarray = NOISE) -> tuple[Trainer, Recorder]:
    """Train to the end."""
    recorder = Recorder()
    trainer = trainer_for(config, tokens, [recorder])
    trainer.fit()
    return trainer, recorder


def bits_of(model: nn.Module) -> list[bytes]:
    """The bytes of the weights, so that NaN compares equal too."""
    return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]


def with_model(**changes: Any) -> TrainConfig:
    return replace(CONFIG, model=replace(MODEL, **changes))


# --- learning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tiny_model_learns_to_count(optimizer, dtype):
    config = replace(CONFIG, max_steps=80, optimizer=optimizer, lr=2e-2)
    recorder = Recorder()
    trainer = trainer_for(config, COUNTING, [recorder], dtype)
    val_loss = trainer.fit()
    assert abs(recorder.losses[0] - math.log(V)) < 0.05
    assert val_loss < 0.2
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_bfloat16_is_used_in_the_forward_pass_and_not_for_weights_or_loss():
    trainer, seen = trainer_for(CONFIG, dtype=torch.bfloat16), []
    trainer.model.register_forward_hook(lambda model, inputs, logits: seen.append(logits.dtype))
    loss, _, _ = trainer.train_step()
    val_loss = trainer.evaluate()
    assert set(seen) == {torch.bfloat16}
    exact = trainer_for(CONFIG)
    assert (loss, val_loss) == pytest.approx((exact.train_step()[0], exact.evaluate()), abs=0.01)


def plain_loop(config: TrainConfig, steps: int) -> tuple[list[float], nn.Module]:
    """The same training in plain PyTorch."""
    model = TinyTransformerLM(config.model)
    vectors = [p for p in model.parameters() if p.dim() == 1]
    others = [p for p in model.parameters() if p.dim() > 1]
    optimizer = torch.optim.AdamW(
        [{"params": others}, {"params": vectors, "weight_decay": 0.0}],
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
    )
    loader = DataLoader(NOISE[:-100], config.batch_size, config.model.max_seq_len, config.seed)
    losses = []
    for step in range(steps):
        x, y = loader.batch(step)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (step + 1) / config.warmup_steps)
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("grad_clip", [0.1, 100.0])
def test_twenty_steps_equal_those_of_a_plain_loop(grad_clip):
    # No biases: the gradient of the key bias is rounding noise around zero, and AdamW amplifies it.
    config = replace(with_model(bias=False), max_steps=20, lr=1e-3, schedule="constant", seed=3)
    config = replace(config, grad_clip=grad_clip)
    trainer, recorder = train(config)
    assert all(0.1 < report.grad_norm < 100.0 for report in recorder.reports)
    losses, model = plain_loop(config, 20)
    np.testing.assert_allclose(recorder.losses, losses, rtol=0, atol=1e-6)
    for mine, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


class FixedBatches:
    """A loader that returns the given batches."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.batches[step]


@pytest.mark.parametrize("k", [2, 3])
def test_k_micro_batches_equal_one_batch_of_all_their_rows(k):
    loader = DataLoader(NOISE, 2, MODEL.max_seq_len, seed=0)
    small = [loader.batch(step) for step in range(4 * k)]
    groups = [small[i : i + k] for i in range(0, 4 * k, k)]
    large = [(torch.cat([x for x, _ in g]), torch.cat([y for _, y in g])) for g in groups]
    results = []
    for batches, accumulation in ((small, k), (large, 1)):
        trainer = trainer_for(replace(CONFIG, accumulation=accumulation))
        trainer.loader = FixedBatches(batches)  # pyright: ignore[reportAttributeAccessIssue]
        results.append([trainer.train_step() for _ in range(4)])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


def test_every_micro_batch_of_every_step_is_a_different_one(monkeypatch):
    trainer = trainer_for(replace(CONFIG, accumulation=3))
    asked: list[int] = []
    batch = trainer.loader.batch
    monkeypatch.setattr(trainer.loader, "batch", lambda step: (asked.append(step), batch(step))[1])
    for _ in range(3):
        trainer.train_step()
    assert asked == list(range(9))
    assert trainer.tokens_per_step == 3 * 4 * 8


# --- reports --------------------------------------------------------------------------------------


def test_every_step_is_reported_to_every_callback_in_order():
    events: list[tuple[str, int, bool]] = []

    class Named(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_step(self, trainer: Trainer, report: StepReport) -> None:
            assert trainer.step == report.step
            events.append((self.name, report.step, report.val_loss is not None))

    config = replace(CONFIG, max_steps=5, eval_interval=2)
    trainer_for(config, callbacks=[Named("a"), Named("b")]).fit()
    evaluated = {1: False, 2: True, 3: False, 4: True, 5: True}  # the last step always is
    assert events == [(name, step, evaluated[step]) for step in range(1, 6) for name in "ab"]


def test_a_report_describes_the_step():
    config = replace(CONFIG, accumulation=2, eval_interval=3)
    trainer, recorder = train(config)
    reports = recorder.reports
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.tokens for report in reports] == [64 * step for step in range(1, 7)]
    seconds = [report.seconds for report in reports]
    assert seconds == sorted(seconds) and seconds[0] > 0
    rates = [learning_rate_at(s, max_steps=6, warmup_steps=3, min_ratio=0.1) for s in range(6)]
    assert [report.learning_rate for report in reports] == rates
    assert all(report.grad_norm > 0 for report in reports)
    assert reports[-1].val_loss == trainer.evaluate()


def test_the_schedule_scales_the_peak_learning_rate_of_every_group():
    trainer = trainer_for(replace(CONFIG, optimizer="muon", muon_lr=0.5, lr=0.25))
    trainer.train_step()
    peaks = {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups}
    assert peaks == {0.5 / 3, 0.25 / 3}  # the first of three steps of warm-up


# --- evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [9, 10, 16, 17, 18, 100, 8192 + 15])  # the last needs two batches
def test_evaluation_is_the_mean_over_every_position_including_the_remainder(n):
    tokens = np.random.default_rng(1).integers(V, size=n).astype(np.uint16)
    trainer, _ = train(with_model(dropout=0.5))
    trainer.val_tokens = tokens
    model, total = trainer.model.eval(), 0.0
    for start in range(0, n - 1, 8):
        block = torch.from_numpy(tokens[start : start + 9].astype(np.int64))
        logits = model(block[None, :-1]).detach().double()
        total += F.cross_entropy(logits[0], block[1:], reduction="sum").item()
    model.train()
    assert abs(trainer.evaluate() - total / (n - 1)) < 1e-6


def random_states() -> tuple[Any, ...]:
    """The states of the three global random generators."""
    numpy_state = [str(part) for part in np.random.get_state()]
    return torch.get_rng_state().tolist(), random.getstate(), numpy_state


def test_evaluation_keeps_no_gradients():
    trainer, seen = trainer_for(CONFIG), []
    trainer.model.register_forward_hook(lambda model, inputs, out: seen.append(out.requires_grad))
    trainer.evaluate()
    assert seen == [False, False]  # the full blocks, and the remainder


def test_evaluation_changes_neither_random_generators_nor_weights():
    trainer, _ = train(with_model(dropout=0.5))
    before, weights = random_states(), bits_of(trainer.model)
    assert trainer.evaluate() == trainer.evaluate()
    assert random_states() == before
    assert bits_of(trainer.model) == weights


# --- reproducibility ------------------------------------------------------------------------------


def test_training_is_reproducible_bit_for_bit_from_its_seed():
    config = with_model(dropout=0.3)
    first, recorded = train(config)
    torch.rand(5)
    second, again = train(config)
    assert recorded.losses == again.losses
    assert bits_of(first.model) == bits_of(second.model)


def test_a_different_seed_trains_differently():
    assert train(CONFIG)[1].losses != train(replace(CONFIG, seed=1))[1].losses


def test_the_evaluation_interval_does_not_change_training():
    rarely = with_model(dropout=0.3)
    often = replace(rarely, eval_interval=1)
    (first, recorded), (second, again) = train(rarely), train(often)
    assert recorded.losses == again.losses
    assert bits_of(first.model) == bits_of(second.model)


def test_dropout_is_active_in_training():
    assert train(with_model(dropout=0.5))[1].losses[2:] != train(CONFIG)[1].losses[2:]


# --- stopping -------------------------------------------------------------------------------------


class StopAt(Callback):
    """Stops training after a given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        trainer.stop = report.step == self.step


def test_a_stopped_trainer_continues_where_it_stopped():
    whole, _ = train(CONFIG)
    trainer = trainer_for(CONFIG, callbacks=[StopAt(2)])
    assert math.isnan(trainer.fit())  # stopped before the first evaluation
    assert trainer.step == 2
    trainer.stop = False
    trainer.fit()
    assert trainer.step == 6
    assert bits_of(trainer.model) == bits_of(whole.model)


class FakeTime:
    """A clock driven by the model: 1 second per training step, 1/3 for as many tokens evaluated."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def watch(self, trainer: Trainer) -> None:
        def spend(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            steps = inputs[0].numel() / trainer.tokens_per_step
            self.now += steps if module.training else steps / 3

        trainer.model.register_forward_pre_hook(spend)


def watch_time(monkeypatch, clock):
    for module in (training_loop, time_budget):
        monkeypatch.setattr(module, "time", clock)


@pytest.mark.parametrize("eval_interval", [7, 20, 1000])
@pytest.mark.parametrize("minutes", [2.0, 3.0])
def test_max_minutes_shortens_the_schedule_to_fit(monkeypatch, eval_interval, minutes):
    clock, recorder = FakeTime(), Recorder()
    watch_time(monkeypatch, clock)
    config = replace(CONFIG, max_steps=1000, max_minutes=minutes, eval_interval=eval_interval)
    trainer = trainer_for(config, callbacks=[recorder])
    clock.watch(trainer)
    trainer.fit()
    assert minutes * 60 - 3 < clock.now <= minutes * 60  # within one step and one evaluation
    assert trainer.step == trainer.max_steps < 1000
    assert recorder.reports[-1].val_loss is not None
    rates = [report.learning_rate for report in recorder.reports[31:]]
    assert rates[-1] == pytest.approx(config.min_lr_ratio)  # the schedule was completed
    assert max(abs(a - b) for a, b in pairwise(rates)) < 0.05  # without a jump


@pytest.mark.parametrize(("minutes", "steps"), [(0.01, 31), (None, 50)])
def test_max_minutes_always_leaves_at_least_one_more_step(monkeypatch, minutes, steps):
    clock = FakeTime()
    watch_time(monkeypatch, clock)
    trainer = trainer_for(replace(CONFIG, max_steps=50, max_minutes=minutes))
    clock.watch(trainer)
    trainer.fit()
    assert trainer.step == steps


# --- values that are not finite -------------------------------------------------------------------


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_non_finite_loss_stops_before_any_weight_changes(poison):
    trainer, _ = train(CONFIG)
    trainer.max_steps = 10
    with torch.no_grad():
        trainer.model.get_parameter("final_norm.weight")[0] = poison
    before = bits_of(trainer.model)
    with pytest.raises(CourseError, match=r"^step 7: the loss is nan; .*learning rate"):
        trainer.fit()
    assert bits_of(trainer.model) == before
    assert trainer.step == 6


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_non_finite_gradient_stops_before_any_weight_changes(poison, grad_clip, optimizer):
    config = replace(CONFIG, grad_clip=grad_clip, optimizer=optimizer)
    trainer = trainer_for(config)
    trainer.train_step()
    weight = trainer.model.get_parameter("blocks.0.attention.q_proj.weight")
    weight.register_hook(lambda gradient: torch.full_like(gradient, poison))
    before = bits_of(trainer.model)
    with pytest.raises(CourseError, match=r"^step 2: the gradient norm is (nan|inf); [^\n]*$"):
        trainer.train_step()
    assert bits_of(trainer.model) == before
    assert trainer.step == 1


# --- data -----------------------------------------------------------------------------------------


def test_data_shorter_than_the_context_is_refused_by_name():
    model = TinyTransformerLM(MODEL)
    with pytest.raises(CourseError, match="the training split has 8 tokens"):
        Trainer(model, NOISE[:8], NOISE, CONFIG)
    with pytest.raises(CourseError, match="the validation split has 8 tokens"):
        Trainer(model, NOISE, NOISE[:8], CONFIG).evaluate()
