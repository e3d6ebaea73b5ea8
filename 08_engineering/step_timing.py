"""Two ways to time a step: a stopwatch between its stages, and a profiler of its operations.

The stopwatch is read wherever one stage ends and the next begins, and costs next to nothing.
PyTorch's profiler times every call into PyTorch's own code; what no call explains is the
interpreter's: Python, and on a busy machine its waiting (on a GPU, time in which it computes
nothing). The profiler's notes take time too, so a step is longer under it, most of all one of many
small calls: read its shares for what is large, and the stopwatch for how long it is.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat
from statistics import median
from typing import Any

if __name__ == "__main__":  # before PyTorch is there: its profiler would print remarks of its own
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch.autograd.profiler import profile
from torch.autograd.profiler_util import FunctionEvent

from profile_report import Row, rows_of
from utils.device import synchronize
from utils.errors import run_program

Steps = Iterator[Callable[[], object]]  # without end; each call takes one step

WARM_UP, MIN_STEPS, SECONDS, ROUNDS = 3, 5, 1.0, 5
# The first kind whose pattern fits the whole name of a call; the last takes all that is left.
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
PRODUCTS = re.compile("aten::(mm|addmm|bmm|baddbmm)")  # whose operations the profiler counts


class Stopwatch:
    """Time since the last reading belongs to the stage that now ends; `laps` has one dict a step.

    Outside a step, readings mean nothing and are not kept.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.device, self.clock = device, clock
        self.laps: list[dict[str, float]] = []
        self.lap: dict[str, float] | None = None
        self.last = 0.0

    def ends(self, stage: str, *_: Any) -> None:
        """A stage ends. What follows its name is what PyTorch tells a hook."""
        if self.lap is not None:
            synchronize(self.device)
            now = self.clock()
            self.lap[stage] = self.lap.get(stage, 0.0) + now - self.last
            self.last = now

    def time(self, step: Callable[[], object], last_stage: str) -> float:
        """Take a step, whose last stage ends with it; return its seconds."""
        synchronize(self.device)
        self.lap, self.last = {}, self.clock()
        step()
        self.ends(last_stage)
        self.laps.append(self.lap)
        self.lap = None
        return sum(self.laps[-1].values())


def by_stage(steps: Steps, watch: Stopwatch, stages: Sequence[str]) -> dict[str, float]:
    """Median seconds of each stage, over as many steps as fit into `SECONDS`."""
    for step in islice(steps, WARM_UP):
        step()
    left = SECONDS
    while len(watch.laps) < MIN_STEPS or left > 0:
        left -= watch.time(next(steps), stages[-1])
    return {stage: median(lap.get(stage, 0.0) for lap in watch.laps) for stage in stages}


def by_kind(steps: Steps, device: torch.device, n_steps: int) -> tuple[Row, ...]:
    """Seconds of each kind of operation in a step, as the profiler sees it, and what is left.

    Of `ROUNDS` rounds of n_steps each, the one of median length is taken apart.
    """
    rounds = [_profiled(steps, device, n_steps) for _ in range(ROUNDS)]
    seen, wall = sorted(rounds, key=lambda one: one[1])[ROUNDS // 2]
    seconds, flops = dict.fromkeys([*KINDS, "optimizer"], 0.0), Counter[str]()
    for event in seen.function_events or []:
        if kind := kind_of(event):
            on_gpu = device.type == "cuda"
            taken = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            seconds[kind] += taken / 1e6 / n_steps  # from microseconds
    seconds["interpreter"] = max(0.0, wall / n_steps - sum(seconds.values()))
    counted, _ = _profiled(steps, device, 1, with_flops=True)  # alone, for counting takes time
    for event in counted.function_events or []:
        if (kind := kind_of(event)) and PRODUCTS.fullmatch(event.name):
            flops[kind] += event.flops or 0
    return rows_of({kind: taken for kind, taken in seconds.items() if taken}, flops)


def _profiled(
    steps: Steps, device: torch.device, n_steps: int, with_flops: bool = False
) -> tuple[profile, float]:
    """What the profiler saw in some steps, and the seconds that they took under it."""
    taken = list(islice(steps, n_steps))  # before it looks: what prepares a step is none of it
    gpu = "cuda" if device.type == "cuda" else None
    seen = profile(use_kineto=gpu is not None, use_device=gpu, with_flops=with_flops)
    with seen:
        start = time.perf_counter()
        for step in taken:
            step()
        synchronize(device)
        seconds = time.perf_counter() - start
    return seen, seconds


def kind_of(event: FunctionEvent) -> str | None:
    """The kind of a call by its name, or None for a mere mark, in which Python is at work."""
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
    """Take apart a step of a matrix product and an addition, both ways."""
    x = torch.randn(256, 256)
    watch = Stopwatch(torch.device("cpu"))

    def step() -> None:
        y = x @ x
        watch.ends("product")
        y.add_(x)

    rows = rows_of(by_stage(repeat(step), watch, ("product", "addition")), {})
    for row in (*rows, *by_kind(repeat(step), watch.device, n_steps=20)):
        print(f"{row.name:<20} {row.seconds * 1e6:>8.1f} microseconds {row.share:>7.1%}")


if __name__ == "__main__":
    run_program(main)
