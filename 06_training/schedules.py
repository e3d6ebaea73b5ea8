"""How large the steps are, from the first to the last: the learning rate as a function of the step.

A schedule gives a number from 0 to 1 that multiplies the peak learning rate. Small steps come
first, until the optimizer's averages are worth something, and last, to settle where they have led.
Of n steps, w warm up and d decay; the last is made at r times the peak:

    warm-up    (step + 1) / w                     steps count from 0, and none is wasted at zero
    cosine     r + (1 - r) (1 + cos(pi p)) / 2    p goes from 0 at the end of the warm-up to 1
    stable     1                                  "wsd", warm-up, stable, decay, stays at the peak
    decay      1 - (1 - r) p                      until p goes from 0 to 1 over the last d steps

With r = 0 the last step of all has rate zero and moves nothing.

Schedules are pure functions, so a run that was stopped goes on at the rate it had. The cosine is
Loshchilov and Hutter 2017, equation 5; warm-up, stable, decay is Hu et al. 2024 (MiniCPM), section
4, here with a straight line at the end.
"""

import math

from utils.errors import pick, run_program

SCHEDULES = ("cosine", "wsd", "constant")


def warmup_cosine(step: int, *, max_steps: int, warmup_steps: int, min_ratio: float) -> float:
    """Rise to 1 in `warmup_steps`, then fall along half a cosine: `min_ratio` at the last step.

    A warm-up longer than the run is cut off by its end, and nothing falls.
    """
    p = progress(step, start=max(warmup_steps, 1), stop=max_steps)
    cosine = (1 + math.cos(math.pi * p)) / 2  # from 1 down to 0
    return warmup(step, warmup_steps) * (min_ratio + (1 - min_ratio) * cosine)


def warmup_stable_decay(
    step: int, *, max_steps: int, warmup_steps: int, decay_steps: int, min_ratio: float
) -> float:
    """Rise to 1, stay, and fall in a line over the last `decay_steps`: `min_ratio` at the end.

    The decay never cuts into the warm-up; with no decay steps nothing falls.
    """
    start = max(max_steps - decay_steps, warmup_steps, 1)
    p = progress(step, start=start, stop=max_steps)
    return warmup(step, warmup_steps) * (1 - (1 - min_ratio) * p)


def warmup(step: int, warmup_steps: int) -> float:
    """Rise in a line from 1 / warmup_steps at step 0 to 1 at step warmup_steps - 1, and stay."""
    return min(1.0, (step + 1) / max(warmup_steps, 1))


def progress(step: int, *, start: int, stop: int) -> float:
    """Return the part done, 0 to 1, of what begins after `start` steps and is over after `stop`."""
    done = step + 1
    if done <= start:
        return 0.0
    return 1.0 if done >= stop else (done - start) / (stop - start)


def learning_rate_at(
    step: int,
    schedule: str = "cosine",
    *,
    max_steps: int,
    peak: float = 1.0,
    warmup_steps: int = 0,
    decay_steps: int = 0,
    min_ratio: float = 0.0,
) -> float:
    """Return the learning rate of a step: `peak` times what the schedule of this name says.

    "constant" warms up and stays; only "wsd" uses `decay_steps`. Raises UsageError for a name that
    is not one of SCHEDULES.
    """
    pick(schedule, SCHEDULES, what="schedule")
    if schedule == "cosine":
        ratio = warmup_cosine(
            step, max_steps=max_steps, warmup_steps=warmup_steps, min_ratio=min_ratio
        )
    elif schedule == "wsd":
        ratio = warmup_stable_decay(
            step,
            max_steps=max_steps,
            warmup_steps=warmup_steps,
            decay_steps=decay_steps,
            min_ratio=min_ratio,
        )
    else:
        ratio = warmup(step, warmup_steps)
    return peak * ratio


def main() -> None:
    """Show the schedules of a run of 10 steps, side by side."""
    print("10 steps, 2 of warm-up, 4 of decay, a tenth of the peak at the end")
    print("step" + "".join(f"{schedule:>10}" for schedule in SCHEDULES))
    options = {"max_steps": 10, "warmup_steps": 2, "decay_steps": 4}
    for step in range(10):
        rates = [learning_rate_at(step, name, min_ratio=0.1, **options) for name in SCHEDULES]
        print(f"{step:4}" + "".join(f"{rate:10.3f}" for rate in rates))


if __name__ == "__main__":
    run_program(main)
