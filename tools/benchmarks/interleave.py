"""How tools/benchmark.py measures: everything that is to be compared takes turns.

    round 1:  A B C        round 2:  A B C        ...

A machine that slows down for a while then slows all of them, and the ratio of two values of one
round hardly moves. What is done for the first time (memory asked for, kernels chosen) is done
before the first round and does not count. What could be helped or hindered by the settings of the
process that it runs in, gets one of its own.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from tqdm import tqdm

from training_data import TrainingData
from utils.config import ModelConfig

Run = Callable[[], float]  # measures once
clock = time.perf_counter
REST = 0.5  # seconds before each turn: idle threads spin for a while, those of the side before too


@dataclass(frozen=True)
class Settings:
    """What all sections are told."""

    data: TrainingData
    source: str = "shakespeare"  # where that came from, as --data says it
    rounds: int = 5
    quick: bool = False
    seeds: int = 0  # how often to train
    preset: str = "laptop"  # what to train

    def fit(self, config: ModelConfig) -> ModelConfig:
        """The configuration with the vocabulary of the data."""
        return replace(config, vocab_size=self.data.tokenizer.vocab_size)


def take_turns(runs: Mapping[str, Run], rounds: int, what: str) -> dict[str, tuple[float, ...]]:
    """Run each once, then each once more, and so on; return the values of each, by name."""
    values: dict[str, list[float]] = {name: [] for name in runs}
    with progress(rounds * len(runs), what) as bar:
        for _ in range(rounds):
            for name, run in runs.items():
                time.sleep(REST)
                values[name].append(run())
                bar.update()
    return {name: tuple(found) for name, found in values.items()}


def in_own_process(make: Callable[..., Run], *given: Any) -> Run:
    """Measures what make(*given) measures, in a new process that was told nothing else.

    It is ready when this returns, waits between the rounds, and ends with the last mention of it.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (there, torch.get_num_threads(), make, given)
    context.Process(target=_measure_on_request, args=arguments, daemon=True).start()
    there.close()  # it has its own: if it dies, we are told
    here.recv()

    def run() -> float:
        here.send("now")
        return here.recv()

    return run


def _measure_on_request(
    there: Connection, threads: int, make: Callable[..., Run], given: tuple[Any, ...]
) -> None:
    torch.set_num_threads(threads)
    run = make(*given)
    there.send("ready")
    with suppress(EOFError):  # nobody asks any more
        while there.recv():
            there.send(run())


def progress(total: int, what: str) -> tqdm:
    """A line that moves on a terminal while something is measured, and then goes away."""
    layout = "{desc} |{bar}| {n_fmt} of {total_fmt}, {remaining} left"
    return tqdm(total=total, desc=what, disable=None, leave=False, ncols=79, bar_format=layout)


def speed_of(work: Callable[[], object], amount: float) -> Run:
    """Measures how much a second `work` does, which does `amount`."""
    return lambda: amount / seconds_of(work)


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    start = clock()
    work()
    return clock() - start


def repeated(work: Callable[[], object], n: int) -> Callable[[], None]:
    """The same work n times."""
    return partial(_repeat, work, n)


def _repeat(work: Callable[[], object], n: int) -> None:
    for _ in range(n):
        work()
