"""A limit in minutes, converted to a number of steps once, early in the run.

A schedule must know how many steps there will be, because its learning rate falls towards the last
one. So a run limited to ten minutes times some of its first steps and computes how many will fit.
From then on it is a run of that many steps, which can be resumed or repeated on another machine.

    E     = validation tokens / tokens per step / 3             cost of one evaluation, in steps
            or, where more is evaluated, measured seconds / seconds per step
    steps = steps so far + the largest n with
            n + E evaluations(n) <= seconds left / seconds per step

Evaluations count towards the same limit: those after every eval_interval steps, and the one at the
end. A training step runs the model forward and then backward, which costs about twice as much as
forward; an evaluation only runs it forward. Hence the factor 3.
"""

import math
import time
from collections.abc import Mapping, Sized
from typing import Any, Protocol

from utils.errors import run_program

TIMED_STEPS = range(10, 30)  # the first ten are slower: caches and kernels are cold


class Timed(Protocol):
    """What the budget needs to know about a trainer."""

    step: int
    max_steps: int
    seconds: float
    config: Any

    @property
    def tokens_per_step(self) -> int: ...

    @property
    def val_tokens(self) -> Sized: ...

    @property
    def evaluation_seconds(self) -> float | None: ...


class TimeBudget:
    """How many of the configured steps fit into `max_minutes`; None means all of them."""

    def __init__(self, max_minutes: float | None) -> None:
        self.max_minutes = max_minutes
        self._started = 0.0  # the clock's reading at the start, less what was spent before a resume
        self._timed_from = 0.0  # seconds of training before the first timed step
        self.settled = max_minutes is None  # whether the number of steps is final

    def start(self) -> None:
        """Start the clock of a run, or of a resumed one."""
        self._started += time.perf_counter()

    def spend(self, seconds: float) -> None:
        """Count time that was spent before the clock is started."""
        self._started -= seconds

    def steps_for(self, trainer: Timed) -> int:
        """The number of steps of the whole run; it changes once, after the timed steps.

        Time for one evaluation at the end is set aside. Samples and saves are not counted.
        """
        if trainer.step == TIMED_STEPS.start:  # warmed up: timing begins
            self._timed_from = trainer.seconds
        if self.max_minutes is None or self.settled or trainer.step < TIMED_STEPS.stop:
            return trainer.max_steps
        self.settled = True
        n_timed = trainer.step - TIMED_STEPS.start
        seconds_per_step = (trainer.seconds - self._timed_from) / n_timed
        seconds_left = self.max_minutes * 60 - (time.perf_counter() - self._started)
        # E: one evaluation costs as much as this many steps
        if trainer.evaluation_seconds is None:
            evaluation = len(trainer.val_tokens) / trainer.tokens_per_step / 3
        else:
            evaluation = trainer.evaluation_seconds / seconds_per_step
        left, interval = seconds_left / seconds_per_step, trainer.config.eval_interval
        n = int(left / (1 + evaluation / interval))  # no more fit: each pays for its evaluations
        while n > 1 and n + evaluation * n_evaluations(trainer.step, n, interval) > left:
            n -= 1
        return min(trainer.max_steps, trainer.step + max(1, n))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, ready for JSON."""
        spent = time.perf_counter() - self._started if self._started else 0.0
        return {"spent": spent, "timed_from": self._timed_from, "settled": self.settled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`: the time spent before counts."""
        self._started = -state["spent"]
        self._timed_from = state["timed_from"]
        self.settled = state["settled"]


def n_evaluations(step: int, n: int, interval: int) -> int:
    """How many are due after n steps more: the one of this step, if any, and the last included."""
    return math.ceil((step + n) / interval) - math.ceil(step / interval) + 1


def main() -> None:
    """Fit a run into a tenth of a minute, with steps that take a hundredth of a second."""

    class SleepingTrainer:
        step = 0
        max_steps = 10_000
        seconds = 0.0
        tokens_per_step = 1024
        val_tokens = range(30_000)  # an evaluation takes as long as ten steps
        evaluation_seconds = None
        config = type("Config", (), {"eval_interval": 100})

    trainer = SleepingTrainer()
    budget = TimeBudget(max_minutes=0.1)
    budget.start()
    while trainer.step < TIMED_STEPS.stop:
        time.sleep(0.01)
        trainer.step += 1
        trainer.seconds += 0.01
        trainer.max_steps = budget.steps_for(trainer)
    print(f"six seconds are enough for about {trainer.max_steps // 100 * 100} steps")


if __name__ == "__main__":
    run_program(main)
