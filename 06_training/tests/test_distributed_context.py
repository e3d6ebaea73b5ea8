"""The group of processes: who belongs to it, what is validated, and what it exchanges.

Everything here runs in one process. Two real processes train in
09_capstone/tests/test_data_parallel_run.py.
"""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import distributed_context
from distributed_context import (
    TORCHRUN_VARIABLES,
    DistributedContext,
    LostWorkerError,
    init_distributed,
    lost_worker_errors,
)
from utils.errors import UsageError

HashStore: Any = vars(dist)["HashStore"]  # missing from PyTorch's type stubs

ROOT = Path(__file__).resolve().parents[2]
B, T = 12, 5
CPU = torch.device("cpu")
TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29400",
}
LOST = "[/pytorch/third_party/gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:7. And so on"


def batch() -> tuple[Tensor, Tensor]:
    """Rows that are all different, and their targets."""
    x = torch.arange(B * T).view(B, T)
    return x, x + 1000


def all_ranks(world_size: int) -> list[DistributedContext]:
    return [DistributedContext(rank, world_size) for rank in range(world_size)]


# --- shards of a batch ----------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 12])
def test_every_row_belongs_to_exactly_one_process(world_size: int) -> None:
    x, y = batch()
    shards = [context.shard((x, y)) for context in all_ranks(world_size)]
    assert [len(rows) for rows, _ in shards] == [B // world_size] * world_size
    rows = torch.cat([rows for rows, _ in shards])
    assert sorted(rows[:, 0].tolist()) == x[:, 0].tolist()
    assert all(torch.equal(targets, rows + 1000) for rows, targets in shards)


def test_with_fewer_rows_than_processes_each_row_still_belongs_to_one() -> None:
    x, y = batch()
    shards = [context.shard((x[:2], y[:2]))[0] for context in all_ranks(3)]
    assert [len(rows) for rows in shards] == [1, 1, 0]
    assert torch.equal(torch.cat(shards), x[:2])


# --- validation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 12])
def test_a_batch_that_divides_evenly_is_accepted(world_size: int) -> None:
    DistributedContext(0, world_size).validate(12, CPU)


@pytest.mark.parametrize(("batch_size", "world_size"), [(5, 2), (1, 2), (8, 3)])
def test_a_batch_that_does_not_divide_is_refused_with_both_values(
    batch_size: int, world_size: int
) -> None:
    message = f"^batch_size {batch_size} is not divisible by the {world_size} workers$"
    with pytest.raises(UsageError, match=message):
        DistributedContext(0, world_size).validate(batch_size, CPU)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_too_few_devices_are_refused_with_an_alternative(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    context = DistributedContext(0, world_size=6, local_world_size=3)
    with pytest.raises(
        UsageError, match=f"{device} is not available to each of the 3 workers .*; try --device cpu"
    ):
        context.validate(12, torch.device(device))
    DistributedContext().validate(12, torch.device(device))  # one process may use any device


def test_one_gpu_per_process_on_this_machine_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    context = DistributedContext(0, world_size=4, local_world_size=2)
    context.validate(12, torch.device("cuda"))


# --- a group of one -------------------------------------------------------------------------------


def test_the_default_is_a_group_of_one_whose_process_is_the_main_one() -> None:
    default = DistributedContext()
    assert default == DistributedContext(rank=0, world_size=1, local_rank=0, local_world_size=1)
    assert [context.is_main for context in all_ranks(3)] == [True, False, False]


def test_a_group_of_one_keeps_its_rows_and_values() -> None:
    alone = DistributedContext()
    x, y = batch()
    assert torch.equal(torch.stack(alone.shard((x, y))), torch.stack((x, y)))
    assert alone.all_reduce_sum(2.5) == 2.5
    value = object()
    assert alone.broadcast(value) is value
    assert alone.shutdown(3) == 3


def test_a_group_of_one_does_not_reseed_dropout() -> None:
    before = torch.get_rng_state()
    DistributedContext().seed_dropout(seed=7, step=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_depends_on_seed_step_and_rank_alone() -> None:
    def drawn(seed: int, step: int, rank: int) -> float:
        torch.manual_seed(torch.randint(1000, ()).item())  # whatever was drawn before
        DistributedContext(rank, world_size=2).seed_dropout(seed, step)
        return torch.rand(()).item()

    cases = [(seed, step, rank) for seed in (0, 1) for step in (0, 1) for rank in (0, 1)]
    first = [drawn(*case) for case in cases]
    assert first == [drawn(*case) for case in cases]
    assert len(set(first)) == len(cases)


# --- a group --------------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[DistributedContext]:
    """A context for a group of two, in a process group that contains only this process."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield DistributedContext(0, world_size=2)
    if dist.is_initialized():
        dist.destroy_process_group()


def test_sums_and_values_pass_through_a_group(group: DistributedContext) -> None:
    assert group.all_reduce_sum(1 / 3) == 1 / 3  # in double precision
    assert group.all_reduce_sum(True) == 1
    assert group.broadcast({"step": 3}) == {"step": 3}


def test_shutdown_ends_group_and_process_even_if_the_others_are_lost(
    monkeypatch: pytest.MonkeyPatch, group: DistributedContext
) -> None:
    """Python's own cleanup must not start while a thread of gloo holds a tensor."""

    def lost() -> None:
        raise RuntimeError(LOST)

    def end(code: int) -> None:
        ended.append((code, dist.is_initialized(), kept.getvalue()))

    ended, kept = [], io.BytesIO()
    monkeypatch.setattr(dist, "barrier", lost)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, newline="\n"))
    print("the last line")
    group.shutdown(7)
    assert ended == [(7, False, b"the last line\n")]


# --- joining --------------------------------------------------------------------------------------


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The calls of init_process_group, in an environment without torchrun's variables."""
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(dist, "init_process_group", lambda *given, **_: calls.append(given))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    return calls


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_an_empty_optional_variable_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]]
) -> None:
    set_variables(monkeypatch, TORCHRUN | {"LOCAL_WORLD_SIZE": ""})
    assert init_distributed().local_world_size == 1


def test_without_torchrun_a_program_is_a_group_of_one(joined: list[tuple[object, ...]]) -> None:
    assert init_distributed() == DistributedContext()
    assert joined == []


def test_variables_that_describe_no_group_are_ignored(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]]
) -> None:
    """Other launchers and clusters set some of these for programs of a single process."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, TORCHRUN[name])
    assert init_distributed() == DistributedContext()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert init_distributed() == DistributedContext()
    assert joined == []


def test_torchrun_with_one_process_is_a_group_of_one(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]]
) -> None:
    set_variables(monkeypatch, TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"})
    assert init_distributed() == DistributedContext()
    assert joined == []


def test_one_of_several_processes_joins_the_group_with_its_rank(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]]
) -> None:
    set_variables(monkeypatch, TORCHRUN | {"RANK": "5", "WORLD_SIZE": "8"})
    expected = DistributedContext(rank=5, world_size=8, local_rank=1, local_world_size=2)
    assert init_distributed() == expected
    assert joined == [("gloo",)]


@pytest.mark.parametrize("missing", TORCHRUN_VARIABLES)
@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_variable_is_named_and_so_is_torchrun(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]], missing: str, empty: bool
) -> None:
    variables = {name: value for name, value in TORCHRUN.items() if name != missing}
    set_variables(monkeypatch, variables | ({missing: ""} if empty else {}))
    with pytest.raises(UsageError) as caught:
        init_distributed()
    present = " and ".join(name for name in ("RANK", "WORLD_SIZE") if name != missing)
    expected = f"the environment sets {present} but not {missing}; start with torchrun, "
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)
    assert joined == []


def test_a_rank_alone_gets_an_error_that_names_everything_missing(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]]
) -> None:
    monkeypatch.setenv("RANK", "0")
    missing = "LOCAL_RANK, WORLD_SIZE, MASTER_PORT, MASTER_ADDR"
    with pytest.raises(UsageError, match=f"sets RANK but not {missing}; start with torchrun"):
        init_distributed()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize("value", ["one", "-1", "1.5", "²"])
def test_a_variable_that_is_not_a_whole_number_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, joined: list[tuple[object, ...]], name: str, value: str
) -> None:
    set_variables(monkeypatch, TORCHRUN | {name: value})
    message = f"^{name} is {value!r}; torchrun sets it to a whole number$"
    with pytest.raises(UsageError, match=message):
        init_distributed()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "2"}, "RANK is 2; it must be below WORLD_SIZE, which is 2"),
        ({"WORLD_SIZE": "0"}, "RANK is 1; it must be below WORLD_SIZE, which is 0"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT is 65536; a port is at most 65535"),
    ],
)
def test_values_out_of_range_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    joined: list[tuple[object, ...]],
    variables: dict[str, str],
    message: str,
) -> None:
    set_variables(monkeypatch, TORCHRUN | variables)
    with pytest.raises(UsageError, match=f"^{message}$"):
        init_distributed()
    assert joined == []


def test_the_training_program_prints_one_line_for_a_missing_variable() -> None:
    """RANK without MASTER_PORT ended in a traceback once."""
    variables = {name: value for name, value in TORCHRUN.items() if name != "MASTER_PORT"}
    command = [sys.executable, str(ROOT / "09_capstone" / "train.py"), "--preset", "smoke"]
    ended = subprocess.run(
        command,
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (
        "error: the environment sets RANK and WORLD_SIZE but not MASTER_PORT; start with torchrun, "
        "which sets them all, or unset RANK and WORLD_SIZE for a single process\n"
    )


# --- a lost process -------------------------------------------------------------------------------


def test_a_lost_worker_is_reported_in_one_line() -> None:
    with pytest.raises(LostWorkerError) as caught, lost_worker_errors():
        raise RuntimeError(LOST)
    reason = "Connection closed by peer [127.0.0.1]:7"
    assert str(caught.value) == f"a worker process crashed, was killed or did not start ({reason})"
    assert caught.value.__suppress_context__
    with pytest.raises(LostWorkerError) as caught, lost_worker_errors():
        raise RuntimeError("NCCL: " + "x" * 5000)
    assert len(str(caught.value)) < 200


def test_a_worker_that_never_starts_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, TORCHRUN | {"RANK": "0", "MASTER_PORT": "0"})
    monkeypatch.setattr(distributed_context, "TIMEOUT", timedelta(milliseconds=100))
    with pytest.raises(LostWorkerError, match=r"^a worker process crashed, [^\n]+$"):
        init_distributed()
    assert not dist.is_initialized()


def test_a_worker_that_disappears_during_a_collective_is_recognized_by_gloos_error() -> None:
    store, waiting = HashStore(), timedelta(milliseconds=200)
    with ThreadPoolExecutor() as pool:
        groups = pool.map(lambda rank: dist.ProcessGroupGloo(store, rank, 2, waiting), range(2))
        first: Any = next(groups)  # the other one takes no part in the collective
    with (
        pytest.raises(LostWorkerError, match=r"^a worker process crashed, [^\n]+$"),
        lost_worker_errors(),
    ):
        first.allreduce([torch.ones(1)]).wait()


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("gloo"), KeyError(1)])
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, lost_worker_errors():
        raise error
    assert caught.value is error


def test_the_program_gives_each_row_to_one_rank(capsys: pytest.CaptureFixture[str]) -> None:
    distributed_context.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [int(row) for line in lines[:3] for row in line.split("[")[1].strip("]").split(",")]
    assert sorted(rows) == list(range(6))
