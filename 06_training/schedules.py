"""How large the steps are, from the first to the last: the learning rate as a function of the step.

A schedule is a factor between 0 and 1 that multiplies the peak learning rate. Steps are small at
first, until the optimizer's running averages are reliable, and small at the end, to settle into the
minimum that the large steps found. With w steps of warm-up, d of decay, and a final factor r:

    warm-up    (step + 1) / w                     steps count from 0; the first is not wasted at 0
    cosine     r + (1 - r) (1 + cos(pi p)) / 2    p rises from 0 at the end of the warm-up to 1
    stable     1                                  "wsd" (warm-up, stable, decay) holds the peak,
    decay      1 - (1 - r) p                      then p rises from 0 to 1 over the last d steps

With r = 0 the very last step has learning rate 0 and changes nothing.

Schedules are pure functions, so a resumed run continues with the learning rate it had. Cosine:
Loshchilov and Hutter 2017, equation 5. Warm-up, stable, decay: Hu et al. 2024 (MiniCPM), section 4,
here with a linear decay.
"""

import math

from utils.config import TrainConfig
from utils.errors import pick, run_program

SCHEDULES = ("cosine", "wsd", "constant")


def warmup_cosine(step: int, *, max_steps: int, warmup_steps: int, min_ratio: float) -> float:
    """Rise to 1 over `warmup_steps`, then fall along half a cosine to `min_ratio` at the last step.

    A warm-up longer than the run is cut off by its end, and the factor never falls.
    """
    p = progress(step, start=max(warmup_steps, 1), stop=max_steps)  # stays 0 during the warm-up
    cosine = (1 + math.cos(math.pi * p)) / 2  # half a wave: 1 at p = 0, 0 at p = 1
    fall = min_ratio + (1 - min_ratio) * cosine  # from 1 down to r instead of to 0
    return warmup(step, warmup_steps) * fall  # one of the two factors is always 1


def warmup_stable_decay(
    step: int, *, max_steps: int, warmup_steps: int, decay_steps: int, min_ratio: float
) -> float:
    """Rise to 1, stay there, and fall linearly over the last `decay_steps` to `min_ratio`.

    The decay never overlaps the warm-up; with no decay steps the factor never falls.
    """
    start = max(max_steps - decay_steps, warmup_steps, 1)  # where the decay begins
    p = progress(step, start=start, stop=max_steps)  # stays 0 until then
    decay = 1 - (1 - min_ratio) * p  # a line: 1 at p = 0, min_ratio at p = 1
    return warmup(step, warmup_steps) * decay


def warmup(step: int, warmup_steps: int) -> float:
    """Rise linearly from 1 / warmup_steps at step 0 to 1 at step warmup_steps - 1, and stay."""
    return min(1.0, (step + 1) / max(warmup_steps, 1))  # no warm-up steps: 1 from the start


def progress(step: int, *, start: int, stop: int) -> float:
    """p, from 0 to 1: how much of the way from `start` to `stop` steps is done after this step."""
    done = step + 1  # steps are counted from 0
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
    """Return the learning rate at a step: `peak` times the factor of the named schedule.

    "constant" warms up and stays; only "wsd" uses `decay_steps`. Raises UsageError for a name that
    is not in SCHEDULES.
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
        ratio = warmup(step, warmup_steps)  # "constant"
    return peak * ratio


def learning_rate_ratio(config: TrainConfig, step: int, max_steps: int) -> float:
    """The learning rate at a step as a fraction of its peak, by the schedule of a configuration.

    `max_steps` is separate because a limit in minutes can lower the configured number.
    """
    return learning_rate_at(
        step,
        config.schedule,
        max_steps=max_steps,
        warmup_steps=config.warmup_steps,
        decay_steps=round(config.decay_fraction * max_steps),  # the configuration has a fraction
        min_ratio=config.min_lr_ratio,
    )


def main() -> None:
    """Print the schedules of a run of 10 steps, side by side."""
    print("10 steps, 2 of warm-up, 4 of decay, a tenth of the peak at the end")
    print("step" + "".join(f"{schedule:>10}" for schedule in SCHEDULES))
    options = {"max_steps": 10, "warmup_steps": 2, "decay_steps": 4}
    for step in range(10):
        rates = [learning_rate_at(step, name, min_ratio=0.1, **options) for name in SCHEDULES]
        print(f"{step:4}" + "".join(f"{rate:10.3f}" for rate in rates))


if __name__ == "__main__":
    run_program(main)
