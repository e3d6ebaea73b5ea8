"""Devices are chosen by name, unknown and missing ones refused, and candidates timed."""

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from utils import device
from utils.device import (
    autocast,
    available_devices,
    describe_device,
    fastest,
    pick_device,
    seed_everything,
)
from utils.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch) -> Callable[..., None]:
    """Pretend that this machine has other devices."""

    def pretend(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


# --- by name ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "present"),
    [
        ({}, ["cpu"]),
        ({"mps": True}, ["mps", "cpu"]),
        ({"cuda": 1}, ["cuda", "cpu"]),
        ({"cuda": 2, "mps": True}, ["cuda", "mps", "cpu"]),
    ],
)
def test_auto_is_the_fastest_kind_that_is_present(machine, has, present):
    machine(**has)
    assert available_devices() == present
    assert pick_device() == pick_device("auto") == torch.device(present[0])


@pytest.mark.parametrize("name", ["cpu", "mps", "cuda", "cuda:0", "cuda:1", "cuda:01"])
def test_a_present_device_is_chosen_by_name(machine, name):
    machine(cuda=2, mps=True)
    kind, _, index = name.partition(":")
    assert pick_device(name) == (torch.device(kind, int(index)) if index else torch.device(kind))


UNKNOWN = ["gpu", "CPU", "", "cpu:0", "mps:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cuda: 0"]


@pytest.mark.parametrize("name", [*UNKNOWN, "cuda:\u0663", "tpu", "cuda0", " cpu", "meta", "cpu\n"])
def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(machine, name):
    for cuda in (0, 2):
        machine(cuda=cuda, mps=True)
        with pytest.raises(UsageError) as raised:
            pick_device(name)
        expected = f"unknown device {name!r}; choose one of: auto, cpu, cuda, cuda:N, mps"
        assert str(raised.value) == expected


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:9", "mps"])
def test_a_missing_device_is_refused_and_the_present_ones_are_listed(machine, name):
    machine()
    with pytest.raises(UsageError) as raised:
        pick_device(name)
    assert str(raised.value) == f"device {name!r} is not available; available: cpu"


def test_a_gpu_index_out_of_range_is_refused_with_the_number_of_gpus(machine):
    machine(cuda=2)
    for name in ("cuda:2", "cuda:9", "cuda:" + "9" * 50):
        with pytest.raises(UsageError, match=f"{name}' is not available; CUDA devices: 2$"):
            pick_device(name)


def test_the_cpu_is_described_with_its_threads():
    description = describe_device(CPU)
    assert re.fullmatch(rf"cpu \(.+, {torch.get_num_threads()} threads\)", description)
    assert describe_device(torch.device("mps")) == "mps (Apple GPU)"


# --- seeds and precision ------------------------------------------------------------------------


def draws() -> tuple[float, float, float]:
    return random.random(), np.random.random(), torch.rand(()).item()


@pytest.mark.parametrize("seed", [0, 7, 2**32, 2**63 - 1])
def test_one_seed_sets_all_three_generators(seed):
    seed_everything(seed)
    first = draws()
    assert all(a != b for a, b in zip(first, draws(), strict=True))  # the generators advance
    seed_everything(seed)
    assert draws() == first
    seed_everything(seed - 1 if seed else 1)
    assert all(a != b for a, b in zip(first, draws(), strict=True))


def test_autocast_computes_matrix_products_in_the_requested_dtype():
    x = torch.randn(4, 4)
    with autocast(CPU, torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        assert (x + x).dtype == torch.float32
    with autocast(CPU, torch.float32):
        assert (x @ x).dtype == torch.float32
    assert (x @ x).dtype == torch.float32


# --- by measurement -----------------------------------------------------------------------------


class FakeClock:
    """A clock that advances only by the times that candidates are said to take."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def candidate(self, name: str, *seconds: float) -> Callable[[], None]:
        """A function whose calls take these times in turn, and the last one from then on."""
        times = list(seconds)

        def run() -> None:
            self.calls.append(name)
            self.now += times.pop(0) if len(times) > 1 else times[0]

        return run

    def candidates(self, **seconds: Any) -> dict[str, Callable[[], None]]:
        return {name: self.candidate(name, *times) for name, times in seconds.items()}


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(device, "time", fake)
    return fake


def test_the_candidate_with_the_least_time_is_the_fastest(clock):
    timed = clock.candidates(plain=[3.0], fused=[2.0], slow=[9.0])
    assert fastest(timed, CPU) == "fused"


@pytest.mark.parametrize(("seconds", "named"), [(0.95, "plain"), (0.92, "plain"), (0.9, "fused")])
def test_the_default_wins_unless_another_is_faster_by_the_margin(clock, seconds, named):
    assert fastest(clock.candidates(plain=[1.0], fused=[seconds]), CPU) == named


def test_the_margin_can_be_set(clock):
    assert fastest(clock.candidates(plain=[1.0], fused=[0.9]), CPU, margin=1.5) == "plain"
    assert fastest(clock.candidates(plain=[1.0], fused=[0.99]), CPU, margin=1.0) == "fused"


def test_the_margin_protects_only_the_default(clock):
    timed = clock.candidates(plain=[2.0], one=[1.0], two=[0.99])
    assert fastest(timed, CPU) == "two"


def test_the_warm_up_round_does_not_count(clock):
    # the first call of `fused` compiles for 100 s; that of `plain` hits a warm cache
    timed = clock.candidates(plain=[0.1, 5.0], fused=[100.0, 1.0])
    assert fastest(timed, CPU) == "fused"


def test_the_best_round_counts_so_that_one_slow_round_does_not_decide(clock):
    timed = clock.candidates(plain=[1.0, 3.0], fused=[1.0, 30.0, 1.0, 30.0])
    assert fastest(timed, CPU) == "fused"


def test_candidates_are_interleaved(clock):
    fastest(clock.candidates(a=[1.0], b=[1.0]), CPU, rounds=2)
    assert clock.calls == ["a", "b"] * 3


def test_a_single_candidate_is_the_fastest(clock):
    assert fastest(clock.candidates(only=[1.0]), CPU) == "only"


def test_with_a_real_clock_much_more_work_is_slower():
    def work(n: int) -> Callable[[], None]:
        return lambda: [sum(range(n))].clear()

    assert fastest({"much": work(200_000), "little": work(10)}, CPU) == "little"
    assert fastest({"little": work(10), "much": work(200_000)}, CPU) == "little"
