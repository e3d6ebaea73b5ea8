"""Schedules against PyTorch's schedulers, and properties that hold at every step."""

import math
from itertools import pairwise

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler

from schedules import (
    SCHEDULES,
    learning_rate_at,
    learning_rate_ratio,
    warmup_cosine,
    warmup_stable_decay,
)
from utils.config import TrainConfig
from utils.errors import UsageError

RUNS = [
    {"max_steps": max_steps, "warmup_steps": warmup_steps, "decay_steps": decay_steps}
    for max_steps in (1, 2, 3, 10, 100)
    for warmup_steps in (0, 1, 2, 9, 50, 200)
    for decay_steps in (0, 1, 5, 100, 200)
]


def rates(schedule: str, min_ratio: float = 0.1, **run: int) -> list[float]:
    """The factor at every step of a run."""
    return [
        learning_rate_at(step, schedule, min_ratio=min_ratio, **run)
        for step in range(run["max_steps"])
    ]


def sgd() -> SGD:
    return SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def drive(scheduler: LRScheduler, steps: int) -> list[float]:
    """The learning rates that a PyTorch scheduler sets, step by step."""
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup_steps", [2, 5, 17])
def test_the_warm_up_equals_pytorchs_linear_schedule(schedule, warmup_steps):
    linear = LinearLR(sgd(), start_factor=1 / warmup_steps, total_iters=warmup_steps - 1)
    ours = rates(schedule, max_steps=40, warmup_steps=warmup_steps)[:warmup_steps]
    assert ours == pytest.approx(drive(linear, warmup_steps), abs=1e-12)


@pytest.mark.parametrize("warmup_steps", [0, 1, 5, 17])
@pytest.mark.parametrize("min_ratio", [0.0, 0.1])
def test_the_cosine_equals_pytorchs_cosine_schedule(warmup_steps, min_ratio):
    peak = max(warmup_steps, 1) - 1  # the step at which the rate is highest
    cosine = CosineAnnealingLR(sgd(), T_max=39 - peak, eta_min=min_ratio)
    ours = rates("cosine", min_ratio, max_steps=40, warmup_steps=warmup_steps)[peak:]
    assert ours == pytest.approx(drive(cosine, 40 - peak), abs=1e-12)


@pytest.mark.parametrize("decay_steps", [1, 5, 20])
def test_the_decay_equals_pytorchs_linear_schedule(decay_steps):
    linear = LinearLR(sgd(), start_factor=1.0, end_factor=0.1, total_iters=decay_steps)
    ours = rates("wsd", max_steps=40, warmup_steps=3, decay_steps=decay_steps)
    assert ours[39 - decay_steps :] == pytest.approx(drive(linear, decay_steps + 1), abs=1e-12)
    assert ours[2 : 40 - decay_steps] == [1.0] * (38 - decay_steps)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_lie_between_0_and_1_and_the_first_is_above_0(schedule):
    for run in RUNS:
        ratios = rates(schedule, min_ratio=0.0, **run)
        assert all(0 <= ratio <= 1 for ratio in ratios), run
        assert ratios[0] > 0, run


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_rise_to_one_peak_and_then_only_fall(schedule):
    for run in RUNS:
        ratios = rates(schedule, **run)
        peak = ratios.index(max(ratios))
        assert all(a < b for a, b in pairwise(ratios[: peak + 1])), run
        assert all(a >= b for a, b in pairwise(ratios[peak:])), run


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_rate_jumps(schedule):
    """No step changes the rate by more than the steepest slope of the schedule."""
    for run in RUNS:
        warmup_steps = max(run["warmup_steps"], 1)
        left = max(run["max_steps"] - warmup_steps, 1)
        steepest_fall = {
            "cosine": 0.9 * math.pi / 2 / left,
            "wsd": 0.9 / max(min(run["decay_steps"], left), 1),
            "constant": 0.0,
        }
        bound = max(1 / warmup_steps, steepest_fall[schedule]) + 1e-12
        assert all(abs(b - a) <= bound for a, b in pairwise(rates(schedule, **run))), run


def test_the_last_step_has_the_smallest_rate_if_the_warm_up_ends_before_it():
    for run in RUNS:
        falls = run["max_steps"] > max(run["warmup_steps"], 1)
        end = min(1.0, run["max_steps"] / max(run["warmup_steps"], 1))
        assert rates("constant", **run)[-1] == pytest.approx(end), run
        assert rates("cosine", **run)[-1] == pytest.approx(0.1 if falls else end), run
        falls = falls and run["decay_steps"] > 0
        assert rates("wsd", **run)[-1] == pytest.approx(0.1 if falls else end), run


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_steps_after_the_last_stay_at_the_smallest_rate(schedule):
    run = {"max_steps": 10, "warmup_steps": 2, "decay_steps": 4, "min_ratio": 0.1}
    late = [learning_rate_at(step, schedule, **run) for step in (9, 10, 1000)]
    assert late == pytest.approx([0.1, 0.1, 0.1])


def test_the_learning_rate_is_the_peak_times_the_schedule():
    run = {"max_steps": 40, "warmup_steps": 5, "min_ratio": 0.1}
    for step in range(40):
        cosine, wsd = warmup_cosine(step, **run), warmup_stable_decay(step, decay_steps=9, **run)
        assert learning_rate_at(step, "cosine", peak=3e-3, **run) == 3e-3 * cosine
        assert learning_rate_at(step, "wsd", peak=3e-3, decay_steps=9, **run) == 3e-3 * wsd


def test_a_schedule_drives_pytorchs_lambda_scheduler():
    run = {"max_steps": 12, "warmup_steps": 3, "min_ratio": 0.1}
    scheduler = LambdaLR(sgd(), lambda step: warmup_cosine(step, **run))
    assert drive(scheduler, 12) == [warmup_cosine(step, **run) for step in range(12)]


def test_an_unknown_schedule_is_refused_with_the_valid_names():
    with pytest.raises(UsageError, match=r"'cosin' \(did you mean 'cosine'\?\); .*wsd, constant"):
        learning_rate_at(0, "cosin", max_steps=10)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_ratio_of_a_configuration_uses_all_its_fields_and_the_given_number_of_steps(schedule):
    config = TrainConfig(
        max_steps=1000, schedule=schedule, warmup_steps=3, decay_fraction=0.3, min_lr_ratio=0.2
    )
    run = {"max_steps": 40, "warmup_steps": 3, "decay_steps": 12, "min_ratio": 0.2}
    ratios = [learning_rate_ratio(config, step, max_steps=40) for step in range(40)]
    assert ratios == [learning_rate_at(step, schedule, **run) for step in range(40)]
