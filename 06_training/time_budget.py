"""Minutes turned into a number of steps, once and early.

A schedule must know how many steps there will be: its learning rate falls towards the last one. So
a run that may take ten minutes is timed for its first steps, and from then on it is a run of so and
so many steps, which a resumed run or another machine repeats exactly.

    steps = steps so far + seconds left / (seconds of a step + its share of an evaluation)
"""

import math
import time
from collections.abc import Mapping
from typing import Any, Protocol

from utils.errors import run_program

TIMED_STEPS = range(10, 30)  # the first ten are slower: caches and kernels are cold


class Timed(Protocol):
    """What the budget needs to know of a trainer."""

    step: int
    max_steps: int
    seconds: float
    stop: bool
    config: Any

    def evaluate(self) -> float: ...


class TimeBudget:
    """How many of the configuration's steps fit into `max_minutes`; None: all of them."""

    def __init__(self, max_minutes: float | None) -> None:
        self.max_minutes = max_minutes
        self._started = 0.0  # what the clock said when the run began
        self._timed_from = 0.0  # the seconds of training when the timing began
        self.settled = max_minutes is None

    def start(self) -> None:
        """The run begins, or goes on, now."""
        self._started += time.perf_counter()

    def steps(self, trainer: Timed) -> int:
        """The number of steps that the run shall have; it changes once, after the timed steps.

        An evaluation is timed as well, for they come out of the same minutes; samples and saves
        are not reckoned.
        """
        if trainer.step == TIMED_STEPS.start:
            self._timed_from = trainer.seconds
        if self.max_minutes is None or self.settled or trainer.step < TIMED_STEPS.stop:
            return trainer.max_steps
        before = time.perf_counter()
        trainer.evaluate()
        now = time.perf_counter()
        if trainer.stop:  # the evaluation was cut short: the resumed run settles it
            return trainer.max_steps
        self.settled = True
        evaluation = now - before
        step = (trainer.seconds - self._timed_from) / (trainer.step - TIMED_STEPS.start)
        step += evaluation / trainer.config.eval_interval
        left = self.max_minutes * 60 - (now - self._started) - evaluation
        return min(trainer.max_steps, trainer.step + max(1, int(left / step)))

    def position(self) -> dict[str, Any]:
        """What a resumed run must know, ready for JSON."""
        spent = time.perf_counter() - self._started if self._started else 0.0
        return {"spent": spent, "timed_from": self._timed_from, "settled": self.settled}

    def resume(self, position: Mapping[str, Any]) -> None:
        """Go on where `position` was taken: what was spent then is spent."""
        self._started = -position["spent"]
        self._timed_from, self.settled = position["timed_from"], position["settled"]


def main() -> None:
    """Fit a run into a tenth of a minute, with steps that take a hundredth of a second."""

    class Sleeper:
        step, max_steps, seconds, stop = 0, 10_000, 0.0, False
        config = type("Config", (), {"eval_interval": 100})

        def evaluate(self) -> float:
            time.sleep(0.1)
            return math.nan

    trainer, budget = Sleeper(), TimeBudget(max_minutes=0.1)
    budget.start()
    while trainer.step < TIMED_STEPS.stop:
        time.sleep(0.01)
        trainer.step, trainer.seconds = trainer.step + 1, trainer.seconds + 0.01
        trainer.max_steps = budget.steps(trainer)
    print(f"six seconds are enough for about {trainer.max_steps // 100 * 100} steps")


if __name__ == "__main__":
    run_program(main)
