"""Data parallelism against one process: gradients of shards, and what DistributedTrainer overrides.

Everything here runs in one process. Two real processes train in
09_capstone/tests/test_data_parallel_run.py.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import data_parallel
from data_parallel import DistributedTrainer, SharedTimeBudget, wrap_model
from distributed_context import DistributedContext, LostWorkerError
from time_budget import TIMED_STEPS
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.config import ModelConfig, TrainConfig
from utils.errors import UsageError

HashStore: Any = vars(dist)["HashStore"]  # missing from PyTorch's type stubs

V, B, T = 11, 12, 5
MODEL = ModelConfig(V, max_seq_len=T, d_model=8, n_layers=1, n_heads=2, dropout=0.3)
CONFIG = TrainConfig(MODEL, batch_size=4, accumulation=3, max_steps=4, eval_interval=2)
TOKENS = np.random.default_rng(0).integers(V, size=500).astype(np.uint16)


def all_ranks(world_size: int) -> list[DistributedContext]:
    return [DistributedContext(rank, world_size) for rank in range(world_size)]


# --- gradients of shards --------------------------------------------------------------------------


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the mean loss with respect to all parameters, as one vector."""
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def model_and_batch() -> tuple[TinyTransformerLM, Tensor, Tensor]:
    model = TinyTransformerLM(replace(MODEL, dropout=0.0)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)  # those that start at zero would block the gradient
    return model, torch.randint(V, (B, T)), torch.randint(V, (B, T))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_mean_of_the_shards_gradients_is_the_gradient_of_the_batch(world_size: int) -> None:
    model, x, y = model_and_batch()
    shards = [gradient(model, *context.shard((x, y))) for context in all_ranks(world_size)]
    expected = gradient(model, x, y)
    torch.testing.assert_close(torch.stack(shards).mean(0), expected, rtol=1e-10, atol=1e-12)


def test_if_all_processes_took_the_same_rows_the_gradient_would_differ() -> None:
    model, x, y = model_and_batch()
    same_rows = gradient(model, *DistributedContext(0, 2).shard((x, y)))
    expected = gradient(model, x, y)
    assert (same_rows - expected).norm() > 0.1 * expected.norm()


# --- the wrapped model ----------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[None]:
    """A process group that contains only this process; contexts of any rank can be tried in it."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_wrapping_keeps_the_model_and_leaves_no_gradient(group: None) -> None:
    model, x, _ = model_and_batch()
    parallel = wrap_model(model, x, torch.float32)
    assert isinstance(parallel, DistributedDataParallel)
    assert parallel.module is model
    assert all(parameter.grad is None for parameter in model.parameters())


# --- the trainer ----------------------------------------------------------------------------------


def trainer_of_rank(rank: int, config: TrainConfig = CONFIG, **options: Any) -> DistributedTrainer:
    """One of two trainers, with the same weights every time."""
    return DistributedTrainer(
        TinyTransformerLM(config.model),
        TOKENS[:-100],
        TOKENS[-100:],
        config,
        distributed=DistributedContext(rank, world_size=2),
        **options,
    )


def single_trainer(config: TrainConfig = CONFIG) -> Trainer:
    return Trainer(TinyTransformerLM(config.model), TOKENS[:-100], TOKENS[-100:], config)


def test_two_ranks_together_see_the_micro_batches_of_one_process(group: None) -> None:
    ranks = [trainer_of_rank(rank) for rank in range(2)]
    shards = [[x for x, _ in trainer._micro_batches()] for trainer in ranks]
    whole = [x for x, _ in single_trainer()._micro_batches()]
    assert len(whole) == 3
    for even_rows, odd_rows, x in zip(*shards, whole, strict=True):
        assert torch.equal(even_rows, x[::2])
        assert torch.equal(odd_rows, x[1::2])


def test_gradients_are_averaged_after_the_last_micro_batch_only(group: None) -> None:
    trainer = trainer_of_rank(0)
    averaged = [trainer.parallel.require_backward_grad_sync for _ in trainer._micro_batches()]
    assert averaged == [False, False, True]
    assert trainer.parallel.require_backward_grad_sync


def test_training_runs_the_wrapped_model(group: None) -> None:
    trainer, calls = trainer_of_rank(0), []
    trainer.parallel.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    trainer.train_step()
    assert len(calls) == 3


@pytest.mark.parametrize("n_val_tokens", [17, 100, 8192 + T + 2])  # the last one has two batches
def test_the_validation_loss_is_that_of_one_process(
    monkeypatch: pytest.MonkeyPatch, group: None, n_val_tokens: int
) -> None:
    """The last batch has one row, so rank 1 gets an empty shard of it."""
    val_tokens = np.random.default_rng(1).integers(V, size=n_val_tokens).astype(np.uint16)
    sums: list[float] = []

    def all_reduce_sum(self: DistributedContext, value: float) -> float:
        if isinstance(value, bool):  # should_stop
            return 0.0
        sums.append(value)
        return sum(sums)

    monkeypatch.setattr(DistributedContext, "all_reduce_sum", all_reduce_sum)
    val_loss = math.nan
    for rank in range(2):
        trainer = trainer_of_rank(rank)
        trainer.val_tokens = val_tokens
        val_loss = trainer.evaluate()
    assert min(sums) > 0
    single = single_trainer()
    single.val_tokens = val_tokens
    assert val_loss == pytest.approx(single.evaluate(), rel=1e-6)


def test_the_training_loss_is_the_mean_over_the_processes(
    monkeypatch: pytest.MonkeyPatch, group: None
) -> None:
    def all_reduce_sum(self: DistributedContext, value: float) -> float:
        seen.append(value)
        return value + 4.0  # the other process has a loss of 4

    seen: list[float] = []
    monkeypatch.setattr(DistributedContext, "all_reduce_sum", all_reduce_sum)
    loss, _, _ = trainer_of_rank(0).train_step()
    assert loss == (seen[0] + 4.0) / 2


def test_a_stop_in_any_process_stops_this_one(monkeypatch: pytest.MonkeyPatch, group: None) -> None:
    trainer = trainer_of_rank(0)
    assert not trainer.should_stop()
    monkeypatch.setattr(DistributedContext, "all_reduce_sum", lambda self, value: value + 1.0)
    assert math.isnan(trainer.fit())
    assert (trainer.step, trainer.stop) == (0, True)


def test_dropout_is_reseeded_at_every_step(monkeypatch: pytest.MonkeyPatch, group: None) -> None:
    def seed_dropout(self: DistributedContext, seed: int, step: int) -> None:
        seeds.append((seed, step, self.rank))

    seeds: list[tuple[int, int, int]] = []
    monkeypatch.setattr(DistributedContext, "seed_dropout", seed_dropout)
    trainer_of_rank(1, replace(CONFIG, seed=5)).fit()
    assert seeds == [(5, step, 1) for step in range(4)]


def test_the_state_says_how_many_processes_must_resume_it(group: None) -> None:
    state = trainer_of_rank(1).state_dict()
    assert state.pop("workers") == 2
    assert state == single_trainer().state_dict()


def test_the_main_process_decides_how_many_steps_fit(
    monkeypatch: pytest.MonkeyPatch, group: None
) -> None:
    asked: list[int] = []

    def broadcast(self: DistributedContext, value: int) -> int:
        asked.append(value)
        return 77

    monkeypatch.setattr(DistributedContext, "broadcast", broadcast)
    budget = SharedTimeBudget(1.0, DistributedContext(1, world_size=2))
    trainer = single_trainer(replace(CONFIG, max_steps=1000))
    budget.start()
    for trainer.step in (TIMED_STEPS.start, TIMED_STEPS.stop, TIMED_STEPS.stop + 1):
        trainer.seconds += 1.0
        trainer.max_steps = budget.steps_for(trainer)
        assert trainer.max_steps == 77
    assert len(asked) == 2  # once it is settled, nothing is sent
    assert isinstance(trainer_of_rank(0).budget, SharedTimeBudget)


def test_an_uneven_batch_is_refused_before_the_group_is_used() -> None:
    with pytest.raises(UsageError, match="batch_size 5 is not divisible by the 2 workers"):
        trainer_of_rank(0, replace(CONFIG, batch_size=5))


def test_a_lost_worker_is_reported_wherever_it_is_noticed(
    monkeypatch: pytest.MonkeyPatch, group: None
) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("[gloo/pair.cc:5] Connection closed by peer. And so on")

    trainer = trainer_of_rank(0)
    monkeypatch.setattr(dist, "all_reduce", lost)
    with pytest.raises(LostWorkerError, match="Connection closed by peer"):
        trainer.fit()
    monkeypatch.setattr(data_parallel, "wrap_model", lost)
    with pytest.raises(LostWorkerError, match="Connection closed by peer"):
        trainer_of_rank(0)


def test_the_program_shows_that_the_shards_average_to_the_batch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data_parallel.main()
    lines = capsys.readouterr().out.splitlines()
    values = [[float(n) for n in line.split("[")[1].strip("])").split(",")] for line in lines]
    for one, other, both in zip(*values, strict=True):
        assert math.isclose((one + other) / 2, both, abs_tol=2e-4)  # as printed
