"""Two workers train one model, in separate processes that communicate over gloo.

Where it matters, torchrun starts them. Elsewhere the tests set its environment variables and fork
processes that have PyTorch loaded, which is faster. One run is killed, interrupted and resumed in
both ways, and must give the same result as an uninterrupted run.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from checkpointing import load_checkpoint
from data_loader import Batch
from data_parallel import DistributedTrainer
from distributed_context import DistributedContext
from distributed_worker import check_world_size
from tools.crash_test import (
    OPTIONS,
    SAVE_INTERVAL,
    TRAIN,
    Action,
    Run,
    act_at,
    quick_context,
    send,
    train_in_child,
)
from training_state import TrainingState, last_good_state
from utils.errors import UsageError

SIGINT, SIGKILL, SIGTERM = 2, 9, 15  # Windows does not know all of these names
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither of these signals")

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
PATIENCE = 90  # seconds for one start; a worker that waits for a lost one would take ten minutes
MAX_STEPS = 48
QUICK = [*OPTIONS, "--max-steps", f"{MAX_STEPS}"]
EXACT = [*QUICK, "--dropout", "0", "--accumulation", "2", "--max-steps", "32"]
STEPS = list(range(1, MAX_STEPS + 1))

INJECTED = """
import os, runpy, signal, sys, time
from functools import partial
import run_curves
from tools.crash_test import TRAIN, act_at, send

run_curves.plot_metrics = lambda folder, data: None  # slower than everything else

def signal_torchrun(number):
    heard, handler = [], signal.getsignal(number)
    signal.signal(number, lambda *given: heard.append(handler(*given)))
    os.kill(os.getppid(), number)
    while not heard:  # until torchrun has passed the signal on
        time.sleep(0.01)

rank, step, action, number = sys.argv[1:5]
sys.argv[:5] = [str(TRAIN)]
if os.environ["RANK"] == rank:
    act_at("step", int(step), partial({"die": send, "tell": signal_torchrun}[action], int(number)))
runpy.run_path(str(TRAIN), run_name="__main__")
"""


@dataclass(frozen=True)
class Ended:
    """The exit code of a worker or of torchrun, and its output."""

    code: int | None
    output: str


class Team(Run):
    """A run that several workers share."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, tick=lambda: None)

    def arguments(self, options: Sequence[str]) -> list[str]:
        """The arguments of train.py: `options` for a new run, --resume for an existing one."""
        begun = (self.folder / "run.json").exists()
        if begun:
            self.look()
        places = ["--out-dir", str(self.folder), "--checkpoint-dir", str(self.root / "best")]
        return [*(["--resume"] if begun else options), *places]

    def torchrun(self, *injected: object, options: Sequence[str] = QUICK) -> Ended:
        """Start two workers with torchrun; `injected` are the arguments of INJECTED."""
        script = self.root / "injected.py"
        script.write_text(INJECTED, encoding="utf-8")
        program = [str(script), *map(str, injected)] if injected else [str(TRAIN)]
        command = [*TORCHRUN, *program, *self.arguments(options)]
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        with subprocess.Popen(command, stdout=pipe, stderr=both, encoding="utf-8") as process:
            try:
                printed, _ = process.communicate(timeout=PATIENCE)
            finally:
                process.terminate()  # if it is still there, and with it its workers
        return Ended(process.returncode, printed)

    def by_hand(
        self,
        actions: Mapping[int, Action] | None = None,
        options: Sequence[str] = QUICK,
        world_size: int = 2,
    ) -> list[Ended]:
        """Start workers without torchrun, with an action for some ranks; results by rank."""
        context = quick_context()
        arguments, port = self.arguments(options), free_port()
        printed = [self.root / f"printed {rank}.txt" for rank in range(world_size)]
        children = []
        for rank, path in enumerate(printed):
            to_do: list[Action] = [partial(set_torchrun_variables, rank, world_size, port)]
            if actions and rank in actions:
                to_do.append(actions[rank])
            given = (arguments, path, "", to_do)
            children.append(context.Process(target=train_in_child, args=given, daemon=True))
            children[-1].start()
        for child in children:
            child.join(PATIENCE)
            child.kill()  # if it is still there
        return [
            Ended(child.exitcode, path.read_text(encoding="utf-8"))
            for child, path in zip(children, printed, strict=True)
        ]

    @property
    def saved(self) -> int:
        """The step of the newest state, which must be intact."""
        state, faults = last_good_state(self.states, self.id)
        assert state is not None
        assert faults == []
        return state.step


def free_port() -> int:
    """A port that is free at the moment."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def set_torchrun_variables(rank: int, world_size: int, port: int) -> None:
    """Set the environment variables of this worker as torchrun would."""
    who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size}
    where = {"LOCAL_WORLD_SIZE": world_size, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in (who | where).items()})


def lines(printed: str, start: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith(start)]


# --- the same losses ----------------------------------------------------------------------------


def largest_difference(run: Team, other: Team) -> float:
    """The largest difference between two metrics.csv, in any row and column but seconds."""
    differences = []
    for row, its in zip(run.rows, other.rows, strict=True):
        assert [v is None for v in row.values()] == [v is None for v in its.values()]
        differences += [
            abs(value - (its[name] or 0.0))
            for name, value in row.items()
            if value is not None and name != "seconds"
        ]
    return max(differences)


def weights_differ(run: Team, other: Team) -> float:
    """The largest difference between two values of the last weights."""
    one, its = (load_checkpoint(each.folder / "last.safetensors").weights for each in (run, other))
    return max((one[name] - its[name]).abs().max().item() for name in one)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A run of one process without dropout, with two micro-batches per step."""
    run = Team(tmp_path_factory.mktemp("alone") / "0")
    (ended,) = run.by_hand(options=EXACT, world_size=1)
    assert ended.code == 0, ended.output
    assert "workers" not in ended.output
    return run


def test_two_workers_have_the_losses_and_weights_of_one_process(
    alone: Team, tmp_path: Path
) -> None:
    both = Team(tmp_path / "both")
    main, other = both.by_hand(options=EXACT)
    assert (main.code, other.code) == (0, 0), main.output
    assert "workers 2, 2 of the 4 rows each\n" in main.output
    assert [row["step"] for row in both.rows] == list(range(1, 33))
    assert largest_difference(both, alone) < 1e-5
    assert weights_differ(both, alone) < 1e-5


def take_the_rows_of_the_main_one() -> None:
    shard = DistributedContext.shard
    main = DistributedContext(0, world_size=2)
    DistributedContext.shard = lambda self, batch: shard(main, batch)


def never_average() -> None:
    def micro_batches(self: DistributedTrainer) -> Iterator[Batch]:
        with self.parallel.no_sync():
            yield from every_batch(self)

    every_batch = DistributedTrainer._micro_batches
    DistributedTrainer._micro_batches = micro_batches


@pytest.mark.parametrize("mistake", [take_the_rows_of_the_main_one, never_average])
def test_workers_with_wrong_shards_have_other_losses(
    alone: Team, tmp_path: Path, mistake: Action
) -> None:
    wrong = Team(tmp_path / "wrong")
    main, other = wrong.by_hand({0: mistake, 1: mistake}, options=EXACT)
    assert (main.code, other.code) == (0, 0), main.output
    assert largest_difference(wrong, alone) > 1e-3
    assert weights_differ(wrong, alone) > 1e-3


def test_two_workers_fine_tune_a_model_as_one_process_does(alone: Team, tmp_path: Path) -> None:
    given = str(alone.folder / "best.safetensors")
    options = [*EXACT, "--max-steps", "4", "--init-from", given]
    one, both = Team(tmp_path / "one"), Team(tmp_path / "both")
    (single,) = one.by_hand(options=options, world_size=1)
    main, other = both.by_hand(options=options)
    assert (single.code, main.code, other.code) == (0, 0, 0), main.output
    assert lines(main.output, "start ") == lines(single.output, "start ") != []
    assert weights_differ(both, one) < 1e-5


# --- one of them writes -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Team, list[Ended]]:
    """An uninterrupted run of two workers with dropout."""
    run = Team(tmp_path_factory.mktemp("undisturbed") / "0")
    ended = run.by_hand()
    assert [each.code for each in ended] == [0, 0], ended
    return run, ended


def test_only_rank_0_prints_and_prints_each_line_once(
    undisturbed: tuple[Team, list[Ended]],
) -> None:
    main, other = undisturbed[1]
    assert other.output == ""
    printed = [line.split()[1] for line in lines(main.output, "step ")]
    assert printed == [str(step) for step in STEPS if step % 8 == 0]
    for start in ("data ", "model ", "engine ", "workers ", "run ", "best ", "sample "):
        assert len(lines(main.output, start)) == 1, start


def test_only_one_folder_is_written_and_every_row_in_it_once(
    undisturbed: tuple[Team, list[Ended]],
) -> None:
    run, _ = undisturbed
    assert {path.name for path in run.root.iterdir() if path.is_dir()} == {"run", "best"}
    assert [path.name for path in (run.root / "best").iterdir()] == ["run.safetensors"]
    assert [row["step"] for row in run.rows] == STEPS
    text = (run.folder / "metrics.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["step"] for line in text.splitlines()] == STEPS
    log = (run.folder / "log.txt").read_text(encoding="utf-8")
    assert re.findall(r"  step (\d+): train", log) == [str(s) for s in STEPS if s % 8 == 0]
    assert len(log.splitlines()) == MAX_STEPS // 8 + 1  # and how it came to its end
    assert (run.folder / "samples.txt").read_text(encoding="utf-8").count("--- step") == 1
    assert len(list(run.states.iterdir())) == 2


# --- what cannot be -----------------------------------------------------------------------------


def test_a_batch_that_cannot_be_divided_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    run = Team(tmp_path / "5")
    main, other = run.by_hand(options=[*QUICK, "--batch-size", "5"])
    assert main == Ended(2, "error: batch_size 5 is not divisible by the 2 workers\n")
    assert other.code in (0, 1)  # as far as it came; torchrun ends it when one has failed
    assert [path for path in run.root.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(("before", "position"), [(3, {"workers": 3}), (1, {})])
def test_another_number_of_workers_is_refused_with_both_numbers(
    before: int, position: dict[str, int]
) -> None:
    state = TrainingState({}, [], {}, {"step": 4, **position})
    message = f"as many processes as before: {before}, not 2$"
    with pytest.raises(UsageError, match=message):
        check_world_size(2, state)
    check_world_size(before, state)


# --- killed, interrupted, resumed ---------------------------------------------------------------


@dataclass(frozen=True)
class Disturbed:
    """A run that has been through all of these interruptions in turn."""

    run: Team
    early: Team  # a copy of it after the first death
    other_killed: Ended
    main_killed: list[Ended]
    told_to_stop: Ended
    one_interrupted: list[Ended]
    refused: Ended
    end: Ended
    saved: list[int]  # the step of the newest state after each of them


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    """States are saved at 4, 8, 12 and so on; steps and saves are counted from each start."""
    root, saved = tmp_path_factory.mktemp("disturbed"), []
    run, early = Team(root / "0"), Team(root / "1")
    other_killed = run.torchrun(1, 10, "die", SIGKILL)
    saved.append(run.saved)
    shutil.copytree(run.root, early.root, dirs_exist_ok=True)
    in_second_save = partial(act_at, "save", 3, partial(send, SIGKILL))  # two folders a save
    main_killed = run.by_hand({0: in_second_save})
    saved.append(run.saved)
    told_to_stop = run.torchrun(0, 3, "tell", SIGTERM)
    saved.append(run.saved)
    in_third_step = partial(act_at, "step", 3, partial(send, SIGINT))
    one_interrupted = run.by_hand({1: in_third_step})
    saved.append(run.saved)
    (refused,) = run.by_hand(world_size=1)
    saved.append(run.saved)
    end = run.torchrun()
    return Disturbed(
        *(run, early, other_killed, main_killed, told_to_stop, one_interrupted, refused, end),
        saved,
    )


@posix
def test_a_killed_worker_ends_the_run_with_one_line_from_train_py(disturbed: Disturbed) -> None:
    ended = disturbed.other_killed
    assert ended.code not in (0, None)
    (line,) = lines(ended.output, "error: ")
    assert line.startswith("error: a worker process crashed, was killed or did not start (")
    assert line.endswith("; --resume continues from the last saved state")
    assert_no_traceback_of_ours(ended.output)
    assert disturbed.saved[0] == 8


@posix
def test_when_rank_0_is_killed_another_rank_reports_it(disturbed: Disturbed) -> None:
    main, other = disturbed.main_killed
    assert (main.code, other.code) == (-SIGKILL, 1)
    assert "error: " not in main.output
    assert other.output.count("\n") == 1
    assert other.output.startswith("error: a worker process crashed, was killed or did not start (")
    assert disturbed.saved[1] == 12  # the state of 16 was not yet whole


@posix
def test_torchrun_stopped_by_a_signal_lets_the_workers_save_first(disturbed: Disturbed) -> None:
    ended, step = disturbed.told_to_stop, disturbed.saved[2]
    assert ended.code not in (0, None)
    assert step == disturbed.saved[1] + 3
    printed = f"interrupted at step {step} of {MAX_STEPS}; the state is saved"
    assert lines(ended.output, "interrupted") == [printed]
    advice = lines(ended.output, "resume ")[-1]
    assert "  torchrun --nproc-per-node 2 09_capstone/train.py --resume --out-dir " in advice
    assert lines(ended.output, "error: ") == lines(ended.output, "stopping") == []
    assert_no_traceback_of_ours(ended.output)


@posix
def test_if_one_worker_is_interrupted_all_stop_after_the_same_step(disturbed: Disturbed) -> None:
    main, other = disturbed.one_interrupted
    before, step = disturbed.saved[2:4]
    assert step == before + 3
    assert (main.code, other) == (130, Ended(0, ""))
    assert f"\ninterrupted at step {step} of {MAX_STEPS}; the state is saved\n" in main.output


@posix
def test_one_process_cannot_resume_a_run_of_two(disturbed: Disturbed) -> None:
    assert disturbed.refused.code == 2
    message = "error: a run must be resumed with as many processes as before: 2, not 1"
    assert disturbed.refused.output.splitlines()[-1] == message
    assert disturbed.saved[4] == disturbed.saved[3]


@posix
def test_after_all_these_interruptions_the_result_is_that_of_an_uninterrupted_run(
    disturbed: Disturbed, undisturbed: tuple[Team, list[Ended]]
) -> None:
    assert disturbed.end.code == 0
    assert "Traceback" not in disturbed.end.output
    expected, found = undisturbed[0].result(), disturbed.run.result()
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert disturbed.run.lost <= SAVE_INTERVAL
    assert list(disturbed.run.folder.rglob(".*")) == []  # nothing that was half written


@posix
def test_under_torchrun_too_each_line_is_printed_once(disturbed: Disturbed) -> None:
    printed = [int(line.split()[1]) for line in lines(disturbed.end.output, "step ")]
    assert printed == [step for step in STEPS if step % 8 == 0 and step > disturbed.saved[4]]
    for start in ("data ", "resume ", "model ", "engine ", "workers ", "run ", "best ", "sample "):
        assert len(lines(disturbed.end.output, start)) == 1, start


def keep_dropout_as_it_comes() -> None:
    DistributedContext.seed_dropout = lambda self, seed, step: None


@posix
def test_without_a_seed_for_each_steps_dropout_the_result_differs(
    disturbed: Disturbed, undisturbed: tuple[Team, list[Ended]]
) -> None:
    run, mistake = disturbed.early, keep_dropout_as_it_comes
    main, other = run.by_hand({0: mistake, 1: mistake})
    assert (main.code, other.code) == (0, 0), main.output
    expected, found = undisturbed[0].result(), run.result()
    differ = [name for name in found if found[name] != expected[name]]
    assert {"model.safetensors", "optimizer.safetensors", "metrics.csv"} <= set(differ)


def assert_no_traceback_of_ours(printed: str) -> None:
    """Ignore torchrun's own traceback, which it always prints after a failure."""
    tracebacks = printed.split("Traceback (most recent call last)")[1:]
    assert len(tracebacks) <= 1
    assert not any('train.py", line' in each for each in tracebacks), printed
