"""Two ways to time a step: a stopwatch between its stages, and a profiler of its operations.

The stopwatch is read wherever one stage ends and the next begins, and costs almost nothing.
PyTorch's profiler times every call of a PyTorch operation; the rest of the step is attributed to
the interpreter: Python itself, and on a busy machine time spent waiting (on a GPU, time in which it
is idle). Recording takes time too, so the profiler makes a step longer, most of all one with many
small calls. Use the profiler to see which shares are large, and the stopwatch to see how long a
step takes.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat
from statistics import median
from typing import Any

if __name__ == "__main__":  # before PyTorch is imported: it silences the profiler's log
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch.autograd.profiler import profile
from torch.autograd.profiler_util import FunctionEvent

from profile_report import Row, rows_of
from utils.device import synchronize
from utils.errors import run_program

Steps = Iterator[Callable[[], object]]  # endless; each callable runs one step

WARM_UP = 3  # steps that are not timed
MIN_STEPS = 5
SECONDS = 1.0  # of timed steps
ROUNDS = 5  # under the profiler
# A call belongs to the first kind whose pattern matches its whole name; the last matches all.
KINDS = {
    "autograd": r".*autograd::.*|.*Backward\d*",
    "matrix products": r"(add)?m[mv]|linear.*|matmul|mkldnn_linear.*",
    "attention, softmax": r".*(attention|bmm|softmax).*",
    "embedding, indexing": r".*(embedding|index|gather|scatter).*",
    "copies, casts, views": r"_*(to|to_copy|copy|contiguous|clone|cat|stack|fill|zero|arange|item"
    r"|(new_)?(empty|zeros|ones|full)(_like|_strided)?|(unsafe_)?view(_as)?|reshape(_alias)?|m?[tT]"
    r"|transpose|permute|as_strided|expand(_as)?|slice|select|narrow|split|chunk|unbind|repeat"
    r"|(un)?squeeze|(un)?flatten|alias|detach|lift_fresh|resolve_\w+|local_scalar_dense"
    r")_?(_backward)?",
    "norms, elementwise": r".*",
}
PRODUCTS = re.compile("aten::(mm|addmm|bmm|baddbmm)")  # calls whose FLOP the profiler counts


class Stopwatch:
    """Measures the stages of steps; `laps` holds one dict of seconds by stage per step.

    The time since the last reading belongs to the stage that ends now. Readings outside a step are
    ignored.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.device, self.clock = device, clock
        self.laps: list[dict[str, float]] = []
        self.lap: dict[str, float] | None = None
        self.last = 0.0

    def end_stage(self, stage: str, *_: Any) -> None:
        """Record that a stage ends; further arguments are those PyTorch passes to a hook."""
        if self.lap is not None:
            synchronize(self.device)
            now = self.clock()
            self.lap[stage] = self.lap.get(stage, 0.0) + now - self.last
            self.last = now

    def time_step(self, step: Callable[[], object], last_stage: str) -> float:
        """Run a step, which ends with its last stage; returns its seconds."""
        synchronize(self.device)
        self.lap = {}
        self.last = self.clock()
        step()
        self.end_stage(last_stage)
        self.laps.append(self.lap)
        self.lap = None
        return sum(self.laps[-1].values())


def by_stage(steps: Steps, watch: Stopwatch, stages: Sequence[str]) -> dict[str, float]:
    """Median seconds of each stage, over as many steps as fit in `SECONDS`."""
    for step in islice(steps, WARM_UP):
        step()
    left = SECONDS
    while len(watch.laps) < MIN_STEPS or left > 0:
        left -= watch.time_step(next(steps), stages[-1])
    return {stage: median(lap.get(stage, 0.0) for lap in watch.laps) for stage in stages}


def by_kind(steps: Steps, device: torch.device, n_steps: int) -> tuple[Row, ...]:
    """Seconds per step of each kind of operation under the profiler; the rest is "interpreter".

    Runs `ROUNDS` rounds of n_steps each and analyses the round of median length.
    """
    rounds = [_profiled(steps, device, n_steps) for _ in range(ROUNDS)]
    record, wall = sorted(rounds, key=lambda one: one[1])[ROUNDS // 2]
    seconds = dict.fromkeys([*KINDS, "optimizer"], 0.0)
    flops = Counter[str]()
    for event in record.function_events or []:
        if kind := kind_of(event):
            on_gpu = device.type == "cuda"
            taken = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            seconds[kind] += taken / 1e6 / n_steps  # from microseconds
    seconds["interpreter"] = max(0.0, wall / n_steps - sum(seconds.values()))
    counted, _ = _profiled(steps, device, 1, with_flops=True)  # separately: counting takes time
    for event in counted.function_events or []:
        if (kind := kind_of(event)) and PRODUCTS.fullmatch(event.name):
            flops[kind] += event.flops or 0
    return rows_of({kind: taken for kind, taken in seconds.items() if taken}, flops)


def _profiled(
    steps: Steps, device: torch.device, n_steps: int, with_flops: bool = False
) -> tuple[profile, float]:
    """The profiler's record of n_steps, and the seconds that they took under it."""
    taken = list(islice(steps, n_steps))  # preparing a step is not profiled
    gpu = "cuda" if device.type == "cuda" else None
    record = profile(use_kineto=gpu is not None, use_device=gpu, with_flops=with_flops)
    with record:
        start = time.perf_counter()
        for step in taken:
            step()
        synchronize(device)
        seconds = time.perf_counter() - start
    return record, seconds


def kind_of(event: FunctionEvent) -> str | None:
    """The kind of a call by its name; None for a marker, whose own time is Python's."""
    if event.device_type.name != "CPU" or event.name.startswith("Optimizer."):
        return None
    caller = event.cpu_parent
    while caller:
        if caller.name.startswith("Optimizer."):
            return "optimizer"
        caller = caller.cpu_parent
    name = event.name.removeprefix("aten::")
    return next(kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name))


def main() -> None:
    """Time a step of one matrix product and one addition, both ways."""
    x = torch.randn(256, 256)
    watch = Stopwatch(torch.device("cpu"))

    def step() -> None:
        y = x @ x
        watch.end_stage("product")
        y.add_(x)

    rows = rows_of(by_stage(repeat(step), watch, ("product", "addition")), {})
    for row in (*rows, *by_kind(repeat(step), watch.device, n_steps=20)):
        print(f"{row.name:<20} {row.seconds * 1e6:>8.1f} microseconds {row.share:>7.1%}")


if __name__ == "__main__":
    run_program(main)
