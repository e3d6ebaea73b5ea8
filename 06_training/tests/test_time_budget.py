"""Minutes become a number of steps once, early, and a resumed run keeps to what was settled."""

import json
import math
from typing import Any

import pytest

import time_budget
from time_budget import TIMED_STEPS, TimeBudget

STEP, EVALUATION = 0.5, 3.0  # seconds


class Clock:
    """Time that passes when somebody works."""

    def __init__(self) -> None:
        self.now = 1000.0  # a clock starts anywhere

    def perf_counter(self) -> float:
        return self.now


class Worker:
    """What the budget sees of a trainer; its steps and evaluations always take the same time."""

    def __init__(self, clock: Clock, eval_interval: int = 100) -> None:
        self.clock = clock
        self.step, self.max_steps, self.seconds, self.stop = 0, 10_000, 0.0, False
        self.config: Any = type("Config", (), {"eval_interval": eval_interval})
        self.evaluations = 0
        self.stopped_in_evaluation = False

    def evaluate(self) -> float:
        self.evaluations += 1
        self.stop = self.stopped_in_evaluation
        self.clock.now += EVALUATION
        return math.nan

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


def expected_steps(seconds: float, eval_interval: int, spent: float) -> int:
    """What fits, in the words of the module's own equation."""
    left = seconds - spent - EVALUATION
    return TIMED_STEPS.stop + int(left / (STEP + EVALUATION / eval_interval))


@pytest.mark.parametrize("eval_interval", [1, 7, 100])
@pytest.mark.parametrize("minutes", [1.0, 10.0])
def test_the_steps_that_fit_are_reckoned_once(
    clock: Clock, minutes: float, eval_interval: int
) -> None:
    worker, budget = Worker(clock, eval_interval), begun(minutes)
    worker.work(budget, until=TIMED_STEPS.stop - 1)
    assert (worker.max_steps, worker.evaluations, budget.settled) == (10_000, 0, False)
    worker.work(budget, until=TIMED_STEPS.stop)
    spent = TIMED_STEPS.stop * STEP + EVALUATION
    assert worker.max_steps == expected_steps(60 * minutes, eval_interval, spent)
    settled = worker.max_steps
    worker.work(budget, until=TIMED_STEPS.stop + 10, seconds=50.0)  # slower now: too late
    assert (worker.max_steps, worker.evaluations, budget.settled) == (settled, 1, True)


def test_the_first_steps_are_slow_and_do_not_count(clock: Clock) -> None:
    worker, budget = Worker(clock), begun(10.0)
    worker.work(budget, until=TIMED_STEPS.start, seconds=20 * STEP)
    worker.work(budget, until=TIMED_STEPS.stop)
    spent = (20 * TIMED_STEPS.start + len(TIMED_STEPS)) * STEP + EVALUATION
    assert worker.max_steps == expected_steps(600, 100, spent)


def test_without_minutes_the_configuration_says_how_many_steps(clock: Clock) -> None:
    worker, budget = Worker(clock), begun(None)
    worker.work(budget, until=TIMED_STEPS.stop + 1)
    assert (worker.max_steps, worker.evaluations, budget.settled) == (10_000, 0, True)


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
    assert (again.max_steps, again.evaluations) == (worker.max_steps, 0)
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
    assert (again.max_steps, again.evaluations) == (whole.max_steps, 1)


def test_stopped_while_the_evaluation_is_timed_it_is_settled_by_the_resumed_run(
    clock: Clock,
) -> None:
    worker, budget = Worker(clock), begun(2.0)
    worker.stopped_in_evaluation = True
    worker.work(budget, until=TIMED_STEPS.stop)
    assert (worker.max_steps, budget.settled) == (10_000, False)
    budget, again = resumed(budget, worker, clock)
    again.work(budget, until=TIMED_STEPS.stop + 1)
    spent = (TIMED_STEPS.stop + 1) * STEP + 2 * EVALUATION  # that of the first evaluation as well
    assert again.max_steps == 1 + expected_steps(120, 100, spent)
    assert budget.settled


def test_a_run_that_is_resumed_twice_has_spent_both_times(clock: Clock) -> None:
    worker, budget = Worker(clock), begun(2.0)
    for until in (8, 16):
        worker.work(budget, until)
        budget, worker = resumed(budget, worker, clock)
    assert budget.position()["spent"] == pytest.approx(16 * STEP)


def test_before_it_begins_nothing_is_spent() -> None:
    assert TimeBudget(1.0).position()["spent"] == 0.0
