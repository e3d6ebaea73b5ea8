"""How tools/benchmark.py measures: the candidates of a comparison are interleaved.

    round 1:  A B C        round 2:  A B C        ...

When the machine slows down for a while, it slows down all of them, so the ratio of two values from
the same round hardly moves. First calls (memory allocation, kernel selection) happen before round 1
and do not count. A candidate that depends on settings of its process gets a process of its own.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from training_data import TrainingData
from utils.config import ModelConfig
from utils.errors import CourseError
from utils.terminal import bar_options

Measure = Callable[[], float]  # each call takes one measurement
clock = time.perf_counter
REST = (
    0.5  # seconds before each measurement, until the OpenMP threads of the last one stop spinning
)


@dataclass(frozen=True)
class Settings:
    """What every section of the benchmark needs to know."""

    data: TrainingData
    source: str = "shakespeare"  # the value of --data that `data` was loaded from
    rounds: int = 5
    quick: bool = False
    seeds: int = 0  # training runs of the section "losses"
    preset: str = "laptop"  # the preset that these runs train
    out: Path | None = None  # where they are saved, so that an interrupted command continues

    def fit(self, config: ModelConfig) -> ModelConfig:
        """The configuration with the vocabulary size of the data."""
        return replace(config, vocab_size=self.data.tokenizer.vocab_size)


def interleave(
    measures: Mapping[str, Measure], rounds: int, description: str
) -> dict[str, tuple[float, ...]]:
    """Measure each candidate once per round; return the values of each by name."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    with progress(rounds * len(measures), description) as bar:
        for _ in range(rounds):
            for name, measure in measures.items():
                time.sleep(REST)
                values[name].append(measure())
                bar.update()
    return {name: tuple(measured) for name, measured in values.items()}


def in_subprocess(make: Callable[..., Measure], *args: Any) -> Measure:
    """What make(*args) measures, measured in a fresh process with the same number of threads.

    The process is warmed up when this returns. It waits between rounds and exits when the returned
    function is garbage-collected. Raises CourseError if it fails.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker_args = (theirs, torch.get_num_threads(), make, args)
    context.Process(target=_serve_measurements, args=worker_args, daemon=True).start()
    theirs.close()  # the child has its own copy; with ours closed, its end raises EOFError here
    _receive(ours)  # "ready"

    def measure() -> float:
        ours.send("measure")
        return _receive(ours)

    return measure


def _receive(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        raise CourseError("a measuring process failed; its own error is shown above") from None


def _serve_measurements(
    connection: Connection, threads: int, make: Callable[..., Measure], args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(threads)
    measure = make(*args)
    connection.send("ready")
    with suppress(EOFError):  # the parent has closed its end
        while connection.recv():
            connection.send(measure())


def progress(total: int, description: str) -> tqdm:
    """A progress bar that is shown only on a terminal and disappears when it is done."""
    layout = "{desc} |{bar}| {n_fmt} of {total_fmt}, {remaining} left"
    return tqdm(total=total, desc=description, leave=False, bar_format=layout, **bar_options())


def throughput(work: Callable[[], object], amount: float) -> Measure:
    """Measures units per second of `work`, one call of which processes `amount` units."""
    return lambda: amount / elapsed(work)


def elapsed(work: Callable[[], object]) -> float:
    """The seconds that one call of `work` takes."""
    start = clock()
    work()
    return clock() - start


def repeat(work: Callable[[], object], n: int) -> Callable[[], None]:
    """A function that calls `work` n times."""
    return partial(_call_n_times, work, n)


def _call_n_times(work: Callable[[], object], n: int) -> None:
    for _ in range(n):
        work()
