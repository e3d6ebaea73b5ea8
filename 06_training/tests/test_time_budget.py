"""Minutes are converted to steps once, early, and a resumed run keeps the settled number."""

import json
from typing import Any

import pytest

import time_budget
from time_budget import TIMED_STEPS, TimeBudget

STEP = 0.5  # seconds
EVALUATION = 6  # cost of an evaluation in steps: 18 times the tokens of a step, forward only
ONE_MORE = STEP * (1 + EVALUATION)  # a step more, whose evaluation may not fit


class Clock:
    """A clock that advances only while a trainer takes steps."""

    def __init__(self) -> None:
        self.now = 1000.0  # perf_counter has no fixed origin

    def perf_counter(self) -> float:
        return self.now


class SteadyTrainer:
    """What the budget sees of a trainer; all steps take the same time."""

    tokens_per_step = 100
    evaluation_seconds: float | None = None
    val_tokens = range(3 * 100 * EVALUATION)

    def __init__(self, clock: Clock, eval_interval: int = 100) -> None:
        self.clock = clock
        self.step = 0
        self.max_steps = 10_000
        self.seconds = 0.0
        self.config: Any = type("Config", (), {"eval_interval": eval_interval})

    def train(self, budget: TimeBudget, until: int, seconds: float = STEP) -> None:
        """Take steps and ask the budget after each, as `Trainer.fit` does."""
        while self.step < until:
            self.clock.now += seconds
            self.seconds += seconds
            self.step += 1
            self.max_steps = budget.steps_for(self)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_budget, "time", clock)
    return clock


def started(minutes: float | None) -> TimeBudget:
    budget = TimeBudget(minutes)
    budget.start()
    return budget


def expected_seconds(trainer: SteadyTrainer, seconds: float) -> float:
    """Duration of the whole run: all steps, the evaluations in between and the one at the end."""
    later = trainer.max_steps - trainer.step
    evaluations = 1 + sum(
        step % trainer.config.eval_interval == 0 for step in range(trainer.step, trainer.max_steps)
    )
    return trainer.clock.now - 1000.0 + (later + evaluations * EVALUATION) * seconds


@pytest.mark.parametrize("eval_interval", [1, 7, 100])
@pytest.mark.parametrize("minutes", [1.0, 10.0])
def test_the_number_of_steps_that_fit_is_computed_once(
    clock: Clock, minutes: float, eval_interval: int
) -> None:
    trainer, budget = SteadyTrainer(clock, eval_interval), started(minutes)
    trainer.train(budget, until=TIMED_STEPS.stop - 1)
    assert (trainer.max_steps, budget.settled) == (10_000, False)
    trainer.train(budget, until=TIMED_STEPS.stop)
    settled = trainer.max_steps
    assert 60 * minutes - ONE_MORE < expected_seconds(trainer, STEP) <= 60 * minutes
    # much slower from now on, but the number is settled
    trainer.train(budget, until=TIMED_STEPS.stop + 10, seconds=50.0)
    assert (trainer.max_steps, budget.settled) == (settled, True)


def test_an_evaluation_that_was_timed_is_not_estimated(clock: Clock) -> None:
    """Ten times as long as the tokens tell."""
    trainer, budget = SteadyTrainer(clock), started(10.0)
    trainer.evaluation_seconds = 10 * EVALUATION * STEP
    trainer.train(budget, until=TIMED_STEPS.stop)
    evaluations = trainer.max_steps // 100 + (trainer.max_steps % 100 > 0)
    later = trainer.max_steps - trainer.step
    seconds = later * STEP + evaluations * trainer.evaluation_seconds
    assert 600 - 10 * ONE_MORE < clock.now - 1000.0 + seconds <= 600


def test_what_was_spent_before_the_start_counts(clock: Clock) -> None:
    trainer, budget = SteadyTrainer(clock), TimeBudget(2.0)
    budget.spend(60.0)
    budget.start()
    trainer.train(budget, until=TIMED_STEPS.stop)
    other, half = SteadyTrainer(clock), started(1.0)
    other.train(half, until=TIMED_STEPS.stop)
    assert trainer.max_steps == other.max_steps
    assert budget.state_dict()["spent"] == pytest.approx(60.0 + 2 * TIMED_STEPS.stop * STEP)


def test_the_slow_first_steps_do_not_count(clock: Clock) -> None:
    trainer, budget = SteadyTrainer(clock), started(10.0)
    trainer.train(budget, until=TIMED_STEPS.start, seconds=20 * STEP)
    trainer.train(budget, until=TIMED_STEPS.stop)
    assert 600 - ONE_MORE < expected_seconds(trainer, STEP) <= 600


def test_without_a_limit_all_configured_steps_are_taken(clock: Clock) -> None:
    trainer, budget = SteadyTrainer(clock), started(None)
    trainer.train(budget, until=TIMED_STEPS.stop + 1)
    assert (trainer.max_steps, budget.settled) == (10_000, True)


def test_at_least_one_more_step_is_always_left(clock: Clock) -> None:
    trainer = SteadyTrainer(clock)
    trainer.train(started(1e-3), until=TIMED_STEPS.stop)
    assert trainer.max_steps == TIMED_STEPS.stop + 1


@pytest.mark.parametrize("max_steps", [5, TIMED_STEPS.stop, TIMED_STEPS.stop + 1, 200])
def test_a_run_never_has_more_steps_than_configured(clock: Clock, max_steps: int) -> None:
    trainer, budget = SteadyTrainer(clock), started(1000.0)
    trainer.max_steps = max_steps
    trainer.train(budget, until=max_steps)
    assert trainer.max_steps == max_steps


# --- resumed --------------------------------------------------------------------------------------


def resumed(
    budget: TimeBudget, trainer: SteadyTrainer, clock: Clock
) -> tuple[TimeBudget, SteadyTrainer]:
    """The same run in another process, an hour later, with another origin of the clock."""
    state = json.loads(json.dumps(budget.state_dict()))
    clock.now = 5.0
    other, again = TimeBudget(budget.max_minutes), SteadyTrainer(clock)
    again.step, again.max_steps, again.seconds = trainer.step, trainer.max_steps, trainer.seconds
    other.load_state_dict(state)
    clock.now += 3600
    other.start()
    return other, again


def test_a_number_settled_before_the_kill_is_not_computed_again(clock: Clock) -> None:
    trainer, budget = SteadyTrainer(clock), started(2.0)
    trainer.train(budget, until=40)
    budget, again = resumed(budget, trainer, clock)
    again.train(budget, until=50, seconds=99.0)
    assert again.max_steps == trainer.max_steps
    assert budget.settled


@pytest.mark.parametrize("kill", [0, 5, 9, 10, 11, 20, 29])
def test_killed_before_it_is_settled_a_run_counts_the_time_already_spent(
    clock: Clock, kill: int
) -> None:
    whole, other = SteadyTrainer(clock), started(2.0)
    whole.train(other, until=TIMED_STEPS.stop)
    trainer, budget = SteadyTrainer(clock), started(2.0)
    trainer.train(budget, until=kill)
    budget, again = resumed(budget, trainer, clock)
    again.train(budget, until=TIMED_STEPS.stop)
    assert again.max_steps == whole.max_steps


def test_a_run_resumed_twice_has_spent_the_time_of_both_parts(clock: Clock) -> None:
    trainer, budget = SteadyTrainer(clock), started(2.0)
    for until in (8, 16):
        trainer.train(budget, until)
        budget, trainer = resumed(budget, trainer, clock)
    assert budget.state_dict()["spent"] == pytest.approx(16 * STEP)


def test_before_the_start_no_time_is_spent() -> None:
    assert TimeBudget(1.0).state_dict()["spent"] == 0.0
