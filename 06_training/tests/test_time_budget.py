"""Minutes become a number of steps once, early, and a resumed run keeps to what was settled."""

import json
from typing import Any

import pytest

import time_budget
from time_budget import TIMED_STEPS, TimeBudget

STEP = 0.5  # seconds
EVALUATION = 6  # steps that an evaluation takes as long as: 18 times the tokens of a step


class Clock:
    """Time that passes when somebody works."""

    def __init__(self) -> None:
        self.now = 1000.0  # a clock starts anywhere

    def perf_counter(self) -> float:
        return self.now


class Worker:
    """What the budget sees of a trainer; its steps always take the same time."""

    tokens_per_step, val_tokens = 100, range(3 * 100 * EVALUATION)

    def __init__(self, clock: Clock, eval_interval: int = 100) -> None:
        self.clock = clock
        self.step, self.max_steps, self.seconds = 0, 10_000, 0.0
        self.config: Any = type("Config", (), {"eval_interval": eval_interval})

    def work(self, budget: TimeBudget, until: int, seconds: float = STEP) -> None:
        """Take steps, asking the budget after each, as the trainer does."""
        while self.step < until:
            self.clock.now += seconds
            self.seconds += seconds
            self.step += 1
            self.max_steps = budget.steps(self)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_budget, "time", clock)
    return clock


def begun(minutes: float | None) -> TimeBudget:
    budget = TimeBudget(minutes)
    budget.start()
    return budget


def reckoned(worker: Worker, seconds: float) -> float:
    """How long the whole run takes: its steps and the evaluations on the way and at the end."""
    later = worker.max_steps - worker.step
    evaluations = later / worker.config.eval_interval + 1
    return worker.clock.now - 1000.0 + (later + evaluations * EVALUATION) * seconds


@pytest.mark.parametrize("eval_interval", [1, 7, 100])
@pytest.mark.parametrize("minutes", [1.0, 10.0])
def test_the_steps_that_fit_are_reckoned_once(
    clock: Clock, minutes: float, eval_interval: int
) -> None:
    worker, budget = Worker(clock, eval_interval), begun(minutes)
    worker.work(budget, until=TIMED_STEPS.stop - 1)
    assert (worker.max_steps, budget.settled) == (10_000, False)
    worker.work(budget, until=TIMED_STEPS.stop)
    settled, one_more = worker.max_steps, STEP * (1 + EVALUATION / eval_interval)
    assert 60 * minutes - one_more < reckoned(worker, STEP) <= 60 * minutes
    worker.work(budget, until=TIMED_STEPS.stop + 10, seconds=50.0)  # slower now: too late
    assert (worker.max_steps, budget.settled) == (settled, True)


def test_the_first_steps_are_slow_and_do_not_count(clock: Clock) -> None:
    worker, budget = Worker(clock), begun(10.0)
    worker.work(budget, until=TIMED_STEPS.start, seconds=20 * STEP)
    worker.work(budget, until=TIMED_STEPS.stop)
    assert 600 - 2 * STEP < reckoned(worker, STEP) <= 600


def test_without_minutes_the_configuration_says_how_many_steps(clock: Clock) -> None:
    worker, budget = Worker(clock), begun(None)
    worker.work(budget, until=TIMED_STEPS.stop + 1)
    assert (worker.max_steps, budget.settled) == (10_000, True)


def test_there_is_always_one_step_more(clock: Clock) -> None:
    worker = Worker(clock)
    worker.work(begun(1e-3), until=TIMED_STEPS.stop)
    assert worker.max_steps == TIMED_STEPS.stop + 1


@pytest.mark.parametrize("max_steps", [5, TIMED_STEPS.stop, TIMED_STEPS.stop + 1, 200])
def test_a_run_is_never_longer_than_the_configuration_says(clock: Clock, max_steps: int) -> None:
    worker, budget = Worker(clock), begun(1000.0)
    worker.max_steps = max_steps
    worker.work(budget, until=max_steps)
    assert worker.max_steps == max_steps


# --- resumed ------------------------------------------------------------------------------------


def resumed(budget: TimeBudget, worker: Worker, clock: Clock) -> tuple[TimeBudget, Worker]:
    """The same in another process, an hour later, whose clock starts somewhere else."""
    position = json.loads(json.dumps(budget.position()))
    clock.now = 5.0
    other, again = TimeBudget(budget.max_minutes), Worker(clock)
    again.step, again.max_steps, again.seconds = worker.step, worker.max_steps, worker.seconds
    other.resume(position)
    clock.now += 3600
    other.start()
    return other, again


def test_what_was_settled_before_the_kill_is_not_measured_again(clock: Clock) -> None:
    worker, budget = Worker(clock), begun(2.0)
    worker.work(budget, until=40)
    budget, again = resumed(budget, worker, clock)
    again.work(budget, until=50, seconds=99.0)
    assert again.max_steps == worker.max_steps
    assert budget.settled


@pytest.mark.parametrize("kill", [0, 5, 9, 10, 11, 20, 29])
def test_killed_before_it_is_settled_after_with_the_time_that_was_spent(
    clock: Clock, kill: int
) -> None:
    whole, other = Worker(clock), begun(2.0)
    whole.work(other, until=TIMED_STEPS.stop)
    worker, budget = Worker(clock), begun(2.0)
    worker.work(budget, until=kill)
    budget, again = resumed(budget, worker, clock)
    again.work(budget, until=TIMED_STEPS.stop)
    assert again.max_steps == whole.max_steps


def test_a_run_that_is_resumed_twice_has_spent_both_times(clock: Clock) -> None:
    worker, budget = Worker(clock), begun(2.0)
    for until in (8, 16):
        worker.work(budget, until)
        budget, worker = resumed(budget, worker, clock)
    assert budget.position()["spent"] == pytest.approx(16 * STEP)


def test_before_it_begins_nothing_is_spent() -> None:
    assert TimeBudget(1.0).position()["spent"] == 0.0
