"""Sharing the rows of a batch, against the whole batch; what a worker alone is spared.

All of it in one process. Two real workers train in 09_capstone/tests/test_data_parallel_run.py.
"""

import io
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import data_parallel
from data_parallel import LostWorkerError, Workers, connected, init_from_environment
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import UsageError

HashStore: Any = vars(dist)["HashStore"]  # what type checkers know of torch leaves it out

V, B, T = 11, 12, 5
CPU = torch.device("cpu")
TOLD = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
LOST = "[/pytorch/third_party/gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:7. And so on"


def batch() -> tuple[Tensor, Tensor]:
    """Rows of which no two are alike, and their targets."""
    x = torch.arange(B * T).view(B, T)
    return x, x + 1000


def all_workers(world_size: int) -> list[Workers]:
    return [Workers(rank, world_size) for rank in range(world_size)]


# --- the shares of a batch ----------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 12])
def test_every_row_is_one_workers_and_only_ones(world_size: int) -> None:
    x, y = batch()
    shares = [workers.shard((x, y)) for workers in all_workers(world_size)]
    assert [len(rows) for rows, _ in shares] == [B // world_size] * world_size
    rows = torch.cat([rows for rows, _ in shares])
    assert sorted(rows[:, 0].tolist()) == x[:, 0].tolist()
    assert all(torch.equal(targets, rows + 1000) for rows, targets in shares)


def test_too_few_rows_for_all_are_still_taken_once() -> None:
    x, y = batch()
    shares = [workers.shard((x[:2], y[:2]))[0] for workers in all_workers(3)]
    assert [len(rows) for rows in shares] == [1, 1, 0]
    assert torch.equal(torch.cat(shares), x[:2])


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the mean loss with respect to all parameters, in one row."""
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def model_and_batch() -> tuple[TinyTransformerLM, Tensor, Tensor]:
    config = ModelConfig(V, max_seq_len=T, d_model=8, n_layers=1, n_heads=2)
    model = TinyTransformerLM(config).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)  # some of them start at zero, and would pass nothing on
    return model, torch.randint(V, (B, T)), torch.randint(V, (B, T))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_mean_of_the_shares_gradients_is_the_gradient_of_the_batch(world_size: int) -> None:
    model, x, y = model_and_batch()
    shares = [gradient(model, *each.shard((x, y))) for each in all_workers(world_size)]
    expected = gradient(model, x, y)
    torch.testing.assert_close(torch.stack(shares).mean(0), expected, rtol=1e-10, atol=1e-12)


def test_if_two_workers_took_the_same_rows_the_gradient_would_be_another() -> None:
    model, x, y = model_and_batch()
    both_take = gradient(model, *Workers(0, 2).shard((x, y)))
    expected = gradient(model, x, y)
    assert (both_take - expected).norm() > 0.1 * expected.norm()


# --- what is checked ----------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 12])
def test_rows_that_can_be_shared_pass(world_size: int) -> None:
    Workers(0, world_size).check(12, CPU)


@pytest.mark.parametrize(("batch_size", "world_size"), [(5, 2), (1, 2), (8, 3)])
def test_rows_that_cannot_be_shared_are_refused_with_both_numbers(
    batch_size: int, world_size: int
) -> None:
    message = f"^batch_size {batch_size} is not divisible by the {world_size} workers$"
    with pytest.raises(UsageError, match=message):
        Workers(0, world_size).check(batch_size, CPU)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_workers_without_a_processor_each_are_refused_and_told_what_would_do(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=f"no {device} for each of 3 workers; try --device cpu"):
        Workers(0, world_size=6).check(12, torch.device(device))
    Workers().check(12, torch.device(device))  # alone, any will do


def test_with_a_gpu_for_each_worker_here_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    Workers(0, world_size=4).check(12, torch.device("cuda"))


# --- alone --------------------------------------------------------------------------------------


def test_by_default_a_worker_is_alone_and_the_main_one() -> None:
    assert Workers() == Workers(rank=0, world_size=1, local_rank=0)
    assert [workers.is_main for workers in all_workers(3)] == [True, False, False]


def test_alone_a_worker_keeps_its_model_its_rows_and_its_numbers() -> None:
    alone, model, (x, y) = Workers(), nn.Linear(2, 2), batch()
    assert alone.wrap(model, x, torch.float32) is model
    assert torch.equal(torch.stack(alone.shard((x, y))), torch.stack((x, y)))
    assert alone.add_up(2.5) == 2.5
    value = object()
    assert alone.from_main(value) is value
    with alone.averaging(model, now=False):
        model(torch.ones(2)).sum().backward()
    assert model.weight.grad is not None
    assert alone.leave(3) == 3


def test_alone_a_worker_draws_nothing_for_its_dropout() -> None:
    before = torch.get_rng_state()
    Workers().seed_dropout(seed=7, step=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_that_of_seed_step_and_rank() -> None:
    def drawn(seed: int, step: int, rank: int) -> float:
        torch.manual_seed(torch.randint(1000, ()).item())  # whatever was drawn before
        Workers(rank, world_size=2).seed_dropout(seed, step)
        return torch.rand(()).item()

    places = [(seed, step, rank) for seed in (0, 1) for step in (0, 1) for rank in (0, 1)]
    first = [drawn(*place) for place in places]
    assert first == [drawn(*place) for place in places]
    assert len(set(first)) == len(places)


# --- in a group ---------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[Workers]:
    """A worker that takes itself for one of two, in a group that is only itself."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield Workers(0, world_size=2)
    if dist.is_initialized():
        dist.destroy_process_group()


def test_what_is_averaged_is_the_same_model_without_a_gradient_yet(group: Workers) -> None:
    model, x, _ = model_and_batch()
    parallel = group.wrap(model, x, torch.float32)
    assert isinstance(parallel, DistributedDataParallel)
    assert parallel.module is model
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradients_wait_for_the_last_part_of_a_batch(group: Workers) -> None:
    model, x, _ = model_and_batch()
    parallel = group.wrap(model, x, torch.float32)
    assert isinstance(parallel, DistributedDataParallel)
    for now in (False, True):
        with group.averaging(parallel, now):
            assert parallel.require_backward_grad_sync is now


def test_sums_and_values_come_back_from_a_group(group: Workers) -> None:
    assert group.add_up(1 / 3) == 1 / 3  # in double precision
    assert group.add_up(True) == 1
    assert group.from_main({"step": 3}) == {"step": 3}


def test_leaving_ends_the_group_and_the_process_at_once_even_if_the_others_are_gone(
    monkeypatch: pytest.MonkeyPatch, group: Workers
) -> None:
    """Python must not take itself apart while a thread of gloo holds one of its tensors."""

    def lost() -> None:
        raise RuntimeError(LOST)

    def end(code: int) -> None:
        ended.append((code, dist.is_initialized(), kept.getvalue()))

    ended, kept = [], io.BytesIO()
    monkeypatch.setattr(dist, "barrier", lost)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, newline="\n"))
    print("the last word")
    group.leave(7)
    assert ended == [(7, False, b"the last word\n")]


# --- joining ------------------------------------------------------------------------------------


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """With what a group would have been joined; and the environment of nobody's worker."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(dist, "init_process_group", lambda *given, **_: calls.append(given))
    for name in TOLD:
        monkeypatch.delenv(name, raising=False)
    return calls


def test_without_torchrun_a_program_works_alone(joined: list[tuple[object, ...]]) -> None:
    assert init_from_environment() == Workers()
    assert joined == []


@pytest.mark.parametrize("missing", TOLD)
def test_told_only_by_half_it_works_alone(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]], missing: str
) -> None:
    for name, value in TOLD.items():  # other launchers set some of these
        if name != missing:
            monkeypatch.setenv(name, value)
    assert init_from_environment() == Workers()
    assert joined == []


def test_one_worker_of_torchrun_works_alone(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]]
) -> None:
    for name, value in {**TOLD, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert init_from_environment() == Workers()
    assert joined == []


def test_one_of_several_joins_the_others_and_knows_its_place(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name, value in {**TOLD, "RANK": "5", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    assert init_from_environment() == Workers(rank=5, world_size=8, local_rank=1)
    assert joined == [("gloo",)]


# --- a worker that is gone ----------------------------------------------------------------------


def test_a_lost_worker_is_told_in_one_line() -> None:
    with pytest.raises(LostWorkerError) as caught, connected():
        raise RuntimeError(LOST)
    reason = "Connection closed by peer [127.0.0.1]:7"
    assert str(caught.value) == f"a worker is gone, crashed or killed ({reason})"
    assert caught.value.__suppress_context__
    with pytest.raises(LostWorkerError) as caught, connected():
        raise RuntimeError("NCCL: " + "x" * 5000)
    assert len(str(caught.value)) < 200


def test_one_that_never_comes_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TOLD, "RANK": "0", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(data_parallel, "PATIENCE", timedelta(milliseconds=100))
    with pytest.raises(LostWorkerError, match=r"^a worker is gone, [^\n]+$"):
        init_from_environment()
    assert not dist.is_initialized()


def test_one_that_leaves_in_the_middle_is_told_as_gloo_says_it() -> None:
    store, waiting = HashStore(), timedelta(milliseconds=200)
    with ThreadPoolExecutor() as pool:
        groups = pool.map(lambda rank: dist.ProcessGroupGloo(store, rank, 2, waiting), range(2))
        first: Any = next(groups)  # the other one does no more than that
    with pytest.raises(LostWorkerError, match=r"^a worker is gone, [^\n]+$"), connected():
        first.allreduce([torch.ones(1)]).wait()


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("gloo"), KeyError(1)])
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, connected():
        raise error
    assert caught.value is error


def test_the_program_shows_that_the_shares_average_to_the_batch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data_parallel.main()
    lines = capsys.readouterr().out.splitlines()
    numbers = [[float(n) for n in line.split("[")[1].strip("])").split(",")] for line in lines]
    for one, other, both in zip(*numbers, strict=True):
        assert math.isclose((one + other) / 2, both, abs_tol=2e-4)  # as printed
