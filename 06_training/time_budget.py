"""Minutes turned into a number of steps, once and early.

A schedule must know how many steps there will be: its learning rate falls towards the last one. So
a run that may take ten minutes is timed for its first steps, and from then on it is a run of so and
so many steps, which a resumed run or another machine repeats exactly.

    evaluation = validation tokens / tokens a step / 3
    steps = steps so far + (seconds left / seconds of a step - evaluation)
                           / (1 + evaluation / steps between two of them)

Evaluations come out of the same minutes, and are reckoned in steps: a step goes through the model
forwards, and backwards for twice as long; an evaluation only forwards.
"""

import time
from collections.abc import Mapping, Sized
from typing import Any, Protocol

from utils.errors import run_program

TIMED_STEPS = range(10, 30)  # the first ten are slower: caches and kernels are cold


class Timed(Protocol):
    """What the budget needs to know of a trainer."""

    step: int
    max_steps: int
    seconds: float
    config: Any

    @property
    def tokens_per_step(self) -> int: ...

    @property
    def val_tokens(self) -> Sized: ...


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

        One evaluation is kept for the end; samples and saves are not reckoned.
        """
        if trainer.step == TIMED_STEPS.start:
            self._timed_from = trainer.seconds
        if self.max_minutes is None or self.settled or trainer.step < TIMED_STEPS.stop:
            return trainer.max_steps
        self.settled = True
        step = (trainer.seconds - self._timed_from) / (trainer.step - TIMED_STEPS.start)
        evaluation = len(trainer.val_tokens) / trainer.tokens_per_step / 3
        left = self.max_minutes * 60 - (time.perf_counter() - self._started)
        fit = (left / step - evaluation) / (1 + evaluation / trainer.config.eval_interval)
        return min(trainer.max_steps, trainer.step + max(1, int(fit)))

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
        step, max_steps, seconds = 0, 10_000, 0.0
        tokens_per_step, val_tokens = 1024, range(30_000)  # an evaluation takes ten steps' time
        config = type("Config", (), {"eval_interval": 100})

    trainer, budget = Sleeper(), TimeBudget(max_minutes=0.1)
    budget.start()
    while trainer.step < TIMED_STEPS.stop:
        time.sleep(0.01)
        trainer.step, trainer.seconds = trainer.step + 1, trainer.seconds + 0.01
        trainer.max_steps = budget.steps(trainer)
    print(f"six seconds are enough for about {trainer.max_steps // 100 * 100} steps")


if __name__ == "__main__":
    run_program(main)
