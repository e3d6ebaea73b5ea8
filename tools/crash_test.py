"""Break training runs on purpose, resume them, and count what was lost.

    python tools/crash_test.py                every fault that the course promises to survive
    python tools/crash_test.py --kills 200    the same, with more kills at random times

A tiny model is trained once without interruption. Then it is trained again by processes that are
killed, interrupted, given damaged files or a full disk, and resumed until they finish: weights,
optimizer state, random generators, metrics (except times) and samples must be identical, bit for
bit. Exit code 1 if a promise is broken. Everything happens in temporary folders.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import contextlib
import importlib
import itertools
import json
import math
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from tqdm import tqdm

from checkpointing import load_checkpoint
from engine import build_model, choose_engine
from logging_utils import read_csv, read_jsonl
from model.config import preset
from sealed_folder import MANIFEST, DamagedError, read_sealed, write_sealed
from training_loop import Trainer
from training_state import TrainingState, folders, last_good_state, random_states, save_state
from utils.command_line import OneLineParser
from utils.errors import CourseError, UsageError
from utils.failpoint import EXIT_CODE, VARIABLE
from utils.terminal import bar_options

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "09_capstone" / "train.py"
SAVE_INTERVAL = 4
OPTIONS = f"""
    --device cpu --dtype float32 --n-layers 1
    --d-model 16 --n-heads 2 --max-seq-len 16 --dropout 0.1 --batch-size 4 --max-steps 96
    --warmup-steps 5 --eval-interval 8 --save-interval {SAVE_INTERVAL} --sample-interval 48
    --log-interval 1
""".split()
OPTIONS += ["--data", f"{ROOT / 'data' / 'simple_sequences.txt'}"]  # the path may contain spaces
FILES = ("model.safetensors", "optimizer.safetensors", "random.safetensors", "position.json")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PLACES = {  # where an action can be injected into a run
    "start-up": ("training_data", "load_training_data"),
    "step": ("training_loop", "clip_gradients_"),
    "evaluation": ("training_loop", "evaluation_blocks"),
    "sampling": ("generator", "TextGenerator.stream"),
    "save": ("sealed_folder", "sync_folder"),
}
BAR = "{desc}: {n_fmt} processes, {elapsed}"
Action = Callable[[], object]  # such as a change that a process makes to itself before it trains


def flip_a_bit(path: Path) -> None:
    """Flip one random bit of a file, as a bad disk does."""
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "with one bit flipped": flip_a_bit,
    "missing": Path.unlink,
}


class BrokenPromiseError(CourseError):
    """Something was lost that the course promises to keep."""


def promise(kept: bool, what: str) -> None:
    """Raise BrokenPromiseError unless the promise was kept."""
    if not kept:
        raise BrokenPromiseError(what)


# --- processes that train -----------------------------------------------------------------------


def train_in_child(
    arguments: list[str], output: Path, failpoint: str, actions: list[Action]
) -> None:
    """Become train.py with these arguments; its output goes into a file."""
    with output.open("wb", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ[VARIABLE] = failpoint
    sys.argv = [str(TRAIN), *arguments]
    tqdm.set_lock(
        threading.RLock()
    )  # the default lock is shared between processes, and stays locked after a kill
    for action in actions:
        action()
    runpy.run_path(str(TRAIN), run_name="__main__")


def quick_context() -> Any:
    """A way to start processes. On Linux they are forked from a server that has torch loaded, which
    saves most of the start-up time."""
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload(["train", "torch._dynamo", "matplotlib.pyplot"])
    return context


class Run:
    """One run in its own folder, which can be started, killed and resumed repeatedly."""

    def __init__(self, root: Path, tick: Action, injected: tuple[Action, ...] = ()) -> None:
        root.mkdir()
        self.root, self.tick, self.injected = root, tick, injected
        self.folder, self.states = root / "run", root / "run" / "states"
        self.resumes = self.fallbacks = self.lost = 0

    def start(self, *actions: Action, failpoint: str = "") -> BaseProcess:
        """Start a process that starts the run or resumes it."""
        begun = (self.folder / "run.json").exists()
        options = ["--resume"] if begun else [*OPTIONS, "--overwrite"]
        options += ["--out-dir", str(self.folder), "--checkpoint-dir", str(self.root / "best")]
        if begun:
            self.look()
        arguments = (options, self.root / "output.txt", failpoint, [*self.injected, *actions])
        child = quick_context().Process(target=train_in_child, args=arguments, daemon=True)
        child.start()
        self.tick()
        return child

    def go(self, *actions: Action, failpoint: str = "", code: int = 0) -> str:
        """Start a process and wait; returns its output. It must end with this exit code."""
        child = self.start(*actions, failpoint=failpoint)
        child.join()
        promise(child.exitcode == code, f"exit code {child.exitcode}, not {code}: {self.output}")
        return self.output

    def look(self) -> None:
        """Count the steps that the next process has to repeat."""
        with contextlib.suppress(DamagedError):
            state, faults = last_good_state(self.states, self.id)
            saved = state.step if state else 0
            self.lost = max(self.lost, int(self.rows[-1]["step"] or 0) - saved if self.rows else 0)
            self.resumes, self.fallbacks = self.resumes + 1, self.fallbacks + bool(faults)

    @property
    def output(self) -> str:
        """The output of the last process so far."""
        path = self.root / "output.txt"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end."""
        return (self.folder / "result.json").exists()

    @property
    def id(self) -> str:
        """The id that the run's states carry."""
        return json.loads((self.folder / "run.json").read_bytes())["id"]

    @property
    def rows(self) -> list[dict[str, float | None]]:
        """The metrics so far."""
        path = self.folder / "metrics.csv"
        return read_csv(path) if path.exists() else []

    def result(self) -> dict[str, Any]:
        """Everything that interruptions must not change."""
        state = read_sealed(folders(self.states)[-1], self.id)
        found: dict[str, Any] = {name: state[name] for name in FILES if name != "position.json"}
        position = json.loads(state["position.json"])
        found["position"] = [position[name] for name in ("step", "max_steps", "run")]
        for name in ("best", "last"):
            checkpoint = load_checkpoint(self.folder / f"{name}.safetensors")
            weights = {key: w.numpy().tobytes() for key, w in checkpoint.weights.items()}
            found[name] = (weights, checkpoint.info)
        for file in (self.folder / "metrics.csv", self.folder / "metrics.jsonl"):
            rows = read_csv(file) if file.suffix == ".csv" else read_jsonl(file)
            found[file.name] = [{**row, "seconds": None} for row in rows]
        found["samples.txt"] = (self.folder / "samples.txt").read_bytes()
        found["published"] = load_checkpoint(self.root / "best" / "run.safetensors").info
        return found


class Lab:
    """A folder for broken runs, and the uninterrupted run that they are compared with."""

    def __init__(
        self,
        root: Path,
        kills: int = 10,
        tick: Action = lambda: None,
        injected: tuple[Action, ...] = (),
    ) -> None:
        self.root, self.kills, self.tick, self.count = root, kills, tick, itertools.count()
        self.injected = injected  # changes that every process of a run makes to itself
        run = self.run()
        run.go(partial(record_failpoints, root / "passed.txt"))
        self.whole = run.result()
        start = time.perf_counter()
        self.finish(self.run(), 0, "")
        self.seconds = time.perf_counter() - start
        names = (root / "passed.txt").read_text(encoding="utf-8").splitlines()
        self.boundaries = list(dict.fromkeys(names))

    def run(self) -> Run:
        """A run in a new folder."""
        return Run(self.root / str(next(self.count)), self.tick, self.injected)

    def finish(self, run: Run, tried: int, what: str, allowed: int = SAVE_INTERVAL) -> "Row":
        """Resume a run to its end and compare; it may have lost `allowed` steps."""
        if not run.finished:
            run.go()
        result = run.result()
        differ = [name for name in self.whole if result[name] != self.whole[name]]
        promise(not differ, f"the result differs: {', '.join(differ)}")
        promise(run.lost <= allowed, f"{run.lost} steps lost, {allowed} allowed")
        return Row(tried, what, run.lost)


@dataclass(frozen=True)
class Row:
    """The outcome of one kind of fault; `lost` is None if there was nothing to resume."""

    tried: int
    happened: str
    lost: int | None
    note: str = ""


# --- actions inside a training process ---------------------------------------------------------


def act_at(place: str, count: int, action: Action) -> None:
    """Run an action at the count-th call of a place; after the first item if it is an iterator."""
    module, name = PLACES[place]
    *path, name = name.split(".")
    owner: Any = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), itertools.count(1)

    def patched(*args: Any, **options: Any) -> Any:
        due, result = next(calls) == count, original(*args, **options)
        if due and isinstance(result, Iterator):
            return after_first(result, action)
        if due:
            action()
        return result

    setattr(owner, name, patched)


def after_first(items: Iterator[Any], action: Action) -> Iterator[Any]:
    """The same items, with an action between the first and the second."""
    yield next(items)
    action()
    yield from items


def record_failpoints(path: Path) -> None:
    """Write the name of every failpoint that is reached into a file."""

    def passed(name: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")

    for module in ("sealed_folder", "training_state", "utils.files"):
        vars(importlib.import_module(module))["failpoint"] = passed


def send(number: int) -> None:
    """Send a signal to this process."""
    os.kill(os.getpid(), number)


def make_nan(what: str, step: int) -> None:
    """Make the data, the loss or the gradient of one step NaN."""
    original = Trainer.train_step

    def lost(*given: Any) -> Any:
        return given[-1] * math.nan

    def poisoned(self: Trainer) -> tuple[float, float, float]:
        if self.step + 1 == step and what == "gradient":
            next(self.model.parameters()).register_hook(lost)
        elif self.step + 1 == step:
            name = {"data": "token_embedding", "loss": ""}[what]  # "" is the model itself
            self.model.get_submodule(name).register_forward_hook(lost)
        return original(self)

    Trainer.train_step = poisoned


def limit_files(size: int) -> None:
    """From now on no file of this process can exceed `size` bytes, as on a full disk."""
    import resource  # POSIX only

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def turn_clock_back() -> None:
    """Each time the clock is read, it is an hour earlier than before."""
    now = itertools.count(time.time(), -3600)

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(time.time(), tz)

    time.time = lambda: next(now)
    for module in ("logging_utils", "experiment_tracking"):
        vars(importlib.import_module(module))["datetime"] = Earlier


# --- faults -------------------------------------------------------------------------------------


def killed_at_every_boundary(lab: Lab) -> Row:
    """Kill a run at each failpoint in turn, and resume it from there."""
    run = lab.run()
    for name in lab.boundaries:
        if run.finished:  # the last ones lie after its result, while curves.png is written
            lab.finish(run, 1, "")
            run = lab.run()
        run.go(failpoint=name, code=EXIT_CODE)
    return lab.finish(run, len(lab.boundaries), "resumed")


def killed_at_random_times(lab: Lab) -> Row:
    """kill -9 after a random time, at most half the length of a run, N times in all."""
    kills, runs = 0, [lab.run()]
    while kills < lab.kills:
        child = runs[-1].start()
        child.join(random.uniform(0, lab.seconds / 2))
        if child.exitcode is None:
            child.kill()
            child.join()
            kills += 1
        else:
            promise(child.exitcode == 0, f"exit code {child.exitcode}: {runs[-1].output}")
        if runs[-1].finished:
            lab.finish(runs[-1], kills, "")
            runs.append(lab.run())
    lab.finish(runs[-1], kills, "")
    resumes, older = sum(run.resumes for run in runs), sum(run.fallbacks for run in runs)
    note = f"{kills} kills, {resumes} resumes, {older} from an older state"
    return Row(kills, "resumed", max(run.lost for run in runs), note)


def interrupted(lab: Lab) -> Row:
    """Ctrl-C and SIGTERM in every phase of a run: the state is saved."""
    run, tried = lab.run(), list(itertools.product(PLACES, SIGNALS))
    for place, number in tried:
        run.go(partial(act_at, place, 1, partial(send, number)), code=130)
    return lab.finish(run, len(tried), "saved, exit 130; resumed", allowed=0)


def newest_state_damaged(lab: Lab) -> Row:
    """Damage each file of the newest state in each way; then replace it with another run's."""
    run, tried = lab.run(), list(itertools.product((*FILES, MANIFEST), DAMAGES))
    run.go(failpoint="state: pruned@2", code=EXIT_CODE)
    for name, how in tried:
        state = folders(run.states)[-1]
        DAMAGES[how](state / name)
        printed = run.go(failpoint="state: pruned@2", code=EXIT_CODE)
        promise(f"damaged state: {state.name}/{name}" in printed, f"{name} {how}: not named")
    state = folders(run.states)[-1]
    files = read_sealed(state, run.id)
    shutil.rmtree(state)
    write_sealed(state, files, "another-run")
    printed = run.go()
    promise(f"{state.name}/{MANIFEST} belongs to another run, another-run" in printed, "not named")
    return lab.finish(run, len(tried) + 1, "named, older state used", allowed=2 * SAVE_INTERVAL)


def every_state_damaged(lab: Lab) -> Row:
    """Without an intact state the run must end with an error, and not start over."""
    run = lab.run()
    run.go(failpoint="state: pruned@3", code=EXIT_CODE)
    for state in folders(run.states):
        flip_a_bit(state / "model.safetensors")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    printed = run.go(code=1)
    promise(f"error: no state of {run.id} is intact: " in printed, "not printed")
    promise(all(path.read_bytes() == was for path, was in before.items()), "a file changed")
    return Row(1, "refused, exit 1", None)


def not_a_number(lab: Lab) -> Row:
    """NaN in the data, the loss or the gradient: the optimizer takes no step."""
    run, tried = lab.run(), {"data": "loss", "loss": "loss", "gradient": "gradient norm"}
    for step, (what, named) in enumerate(tried.items(), start=11):
        printed = run.go(partial(make_nan, what, step), code=1)
        promise(f"error: step {step}: the {named} is nan; " in printed, f"{what}: not printed")
    return lab.finish(run, len(tried), "stopped, exit 1; resumed")


def disk_full(lab: Lab) -> Row:
    """A save that does not fit leaves the earlier states intact."""
    run = lab.run()
    printed = run.go(partial(act_at, "save", 5, partial(limit_files, 3000)), code=1)
    promise(
        "error: File too large: " in printed and "Traceback" not in printed,
        "not one line",
    )
    return lab.finish(run, 1, "one line, exit 1; resumed")


def clock_turned_back(lab: Lab) -> Row:
    """Only the times in the log depend on the wall clock."""
    run = lab.run()
    run.go(turn_clock_back, failpoint="state: pruned@3", code=EXIT_CODE)
    run.go(turn_clock_back)
    seconds = [row["seconds"] or 0.0 for row in run.rows]
    promise(seconds == sorted(seconds), "the seconds of the metrics go back")
    return lab.finish(run, 1, "resumed")


def two_trainers(lab: Lab) -> Row:
    """The second trainer is refused; a killed one holds no lock."""
    run = lab.run()
    first = run.start(partial(act_at, "step", 3, partial(time.sleep, 600)))
    try:
        while len(run.rows) < 2:
            promise(first.is_alive(), f"the first ended: {run.output}")
            time.sleep(0.02)
        printed = run.go(code=1)
        promise("is in use by another training process\n" in printed, "not printed")
    finally:
        first.kill()
        first.join()
    return lab.finish(run, 1, "second refused, exit 1")


FAULTS: dict[str, Callable[[Lab], Row]] = {
    "killed at every boundary of a save": killed_at_every_boundary,
    "kill -9 at random times": killed_at_random_times,
    "Ctrl-C or SIGTERM": interrupted,
    "newest state damaged": newest_state_damaged,
    "every state damaged": every_state_damaged,
    "not a number": not_a_number,
    "disk full": disk_full,
    "clock turned back": clock_turned_back,
    "two trainers": two_trainers,
}


# --- what it costs ------------------------------------------------------------------------------


def cost_of_saving(root: Path) -> tuple[float, float]:
    """Median seconds of a save and of a step of the `laptop` preset, on one thread."""
    torch.set_num_threads(1)
    config = preset("laptop")
    tokens = np.arange(10_000, dtype=np.uint16) % config.model.vocab_size
    engine = choose_engine(config)
    model = build_model(config.model, engine, config.seed)
    trainer = Trainer(model, tokens, tokens, config, engine.device, engine.dtype)

    def save() -> None:
        optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
        position = trainer.state_dict()
        state = TrainingState(model.state_dict(), optimizers, random_states(), position)
        save_state(root, state, "cost")

    steps = [seconds_of(trainer.train_step) for _ in range(60)]
    return statistics.median(seconds_of(save) for _ in range(9)), statistics.median(steps[20:])


def cost_sentence(save: float, step: float) -> str:
    """A sentence about the cost of saving."""
    interval = preset("laptop").save_interval
    return (
        f"the laptop preset, on one thread: a save takes {1000 * save:.0f} ms, a step "
        f"{1000 * step:.0f} ms;\nwith {interval} steps between two saves, that is "
        f"{save / (interval * step):.2%} of the training"
    )


def seconds_of(action: Callable[[], object]) -> float:
    """How long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> int:
    """Try every fault and print a table; returns 1 if a promise was broken."""
    parser = OneLineParser(description="Break training runs on purpose, and count what was lost.")
    parser.add_argument(
        "--kills", type=int, default=10, metavar="N", help="kills at random times (default: 10)"
    )
    kills = parser.parse_args().kills
    if kills < 1:
        raise UsageError(f"--kills {kills} is out of range: it must be at least 1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes: their tensors are tiny
    bar = tqdm(delay=2, leave=False, bar_format=BAR, **bar_options())
    with tempfile.TemporaryDirectory() as folder, bar:
        bar.set_description_str("an uninterrupted run")
        lab = Lab(Path(folder), kills, bar.update)
        tqdm.write(f"{'fault':<34} {'tried':>5}  {'what happened':<26} {'lost':>4}  same")
        faults = {name: fault for name, fault in FAULTS.items() if can_be_tried(name)}
        notes, broken = [], False
        for number, (name, fault) in enumerate(faults.items(), start=1):
            bar.set_description_str(f"{number} of {len(faults)}, {name}")
            try:
                row = fault(lab)
                same, lost = ("-", "-") if row.lost is None else ("yes", row.lost)
            except Exception as error:  # whatever the error is, a user would have lost work
                row, same, lost, broken = Row(1, "BROKEN", None, repr(error)), "no", "?", True
            tqdm.write(f"{name:<34} {row.tried:>5}  {row.happened:<26} {lost:>4}  {same}")
            notes += [f"{name}: {row.note}"] if row.note else []
        notes.append(cost_sentence(*cost_of_saving(Path(folder) / "cost")))
    print("", *notes, sep="\n")
    print(f"(lost: steps that had to be repeated; a state is saved every {SAVE_INTERVAL} steps)")
    return int(broken)


def can_be_tried(fault: str) -> bool:
    """Whether this platform can produce a fault: Windows lacks signals and file-size limits."""
    return sys.platform != "win32" or fault not in ("Ctrl-C or SIGTERM", "disk full")


if __name__ == "__main__":
    run_program(main)
