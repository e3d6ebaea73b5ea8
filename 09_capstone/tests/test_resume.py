"""train.py --resume: the same result in every configuration, and what it refuses.

The program runs inside the test process; kills and real signals are in test_faults.py.
"""

import itertools
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import run_checkpoints
import time_budget
import train
import training_loop
from checkpointing import load_checkpoint
from logging_utils import MetricsLog, read_csv
from sealed_folder import read_sealed
from training_loop import Trainer
from training_state import folders, last_good_state, save_state
from utils.config import TrainConfig, load_config

TEXT = Path(__file__).parents[2] / "data" / "simple_sequences.txt"
QUICK = (
    *("--preset", "smoke", "--dtype", "float32", "--data", TEXT, "--max-steps", 8),
    *("--eval-interval", 4, "--save-interval", 3, "--log-interval", 1, "--sample-interval", 4),
)


Call = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("training_folders")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, call_program: Call) -> Call:
    """Run train.py with these arguments; with stop_at, press Ctrl-C in the middle of that step."""

    def call(*arguments: object, stop_at: int = 0) -> Any:
        train_step = Trainer.train_step

        def interrupted(self: Trainer) -> tuple[float, float, float]:
            if self.step + 1 == stop_at:
                signal.raise_signal(signal.SIGINT)
            return train_step(self)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train_step", interrupted)
            return call_program(train.main, *arguments)

    return call


def places(root: Path) -> tuple[object, ...]:
    return ("--out-dir", root / "run", "--checkpoint-dir", root / "checkpoints")


def files(root: Path) -> dict[str, bytes]:
    """Every file but the lock, which every call opens."""
    found = (path for path in root.rglob("*") if path.is_file() and path.name != "run.lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def run_id(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["id"]


def result(folder: Path) -> dict[str, Any]:
    """What must not depend on how often the run was stopped."""
    state = read_sealed(folders(folder / "states")[-1], run_id(folder))
    found: dict[str, Any] = {name: data for name, data in state.items() if name != "position.json"}
    for name in ("best", "last"):
        checkpoint = load_checkpoint(folder / f"{name}.safetensors")
        weights = {key: w.numpy().tobytes() for key, w in checkpoint.weights.items()}
        found[name] = (weights, checkpoint.info)
    found["metrics"] = [{**row, "seconds": 0} for row in read_csv(folder / "metrics.csv")]
    found["samples"] = (folder / "samples.txt").read_text(encoding="utf-8")
    return found


# --- the same result ----------------------------------------------------------------------------

CONFIGURATIONS = {
    "smoke": (),
    "dropout": ("--dropout", 0.3),
    "AdamW, cosine, GPT-2's layout": (
        *("--optimizer", "adamw", "--schedule", "cosine", "--norm", "layernorm", "--bias"),
        *("--position", "learned", "--activation", "gelu", "--tie-weights", "--no-qk-norm"),
    ),
    "accumulation and clipping": ("--accumulation", 3, "--grad-clip", 0.1, "--weight-decay", 0.1),
    "bfloat16": ("--dtype", "bfloat16", "--dropout", 0.3),
    "the reference": ("--parts", "reference", "--dropout", 0.3),
    "another seed, no samples": ("--seed", 7, "--sample-interval", 5),
    "learned tokens": ("--tokenizer", "bpe", "--vocab-size", 280),
}


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_stopped_and_resumed_twice_it_has_the_same_result(
    call: Call, tmp_path: Path, options: tuple[object, ...]
) -> None:
    arguments = (*QUICK, *options)
    assert call(*arguments, *places(tmp_path / "whole")).code == 0
    assert call(*arguments, *places(tmp_path), stop_at=2).code == 130
    assert call("--resume", *places(tmp_path), stop_at=5).code == 130
    done = call("--resume", *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    assert "resume  step 5 of 8\n" in done.out
    assert result(tmp_path / "run") == result(tmp_path / "whole" / "run")
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert log.count("resumed at step 2") == log.count("resumed at step 5") == 1
    published = (tmp_path / "checkpoints" / "run.safetensors").read_bytes()
    assert published == (tmp_path / "run" / "best.safetensors").read_bytes()


def test_how_often_states_are_saved_changes_nothing(call: Call, tmp_path: Path) -> None:
    for interval in (1, 100):
        call(*QUICK, "--save-interval", interval, *places(tmp_path / f"{interval}"))
    assert result(tmp_path / "1" / "run") == result(tmp_path / "100" / "run")


def test_a_state_is_saved_after_everything_that_it_relies_on(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows up to its step, and the weights that it calls the best."""
    events: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **options: Any) -> Any:
            events.append(name)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(MetricsLog, "append")
    watch(MetricsLog, "sync")
    watch(run_checkpoints, "save_checkpoint")
    watch(run_checkpoints, "save_state")
    call(*QUICK, "--save-interval", 4, "--max-steps", 4, "--sample-interval", 0, *places(tmp_path))
    at_step_4 = ["append", "save_checkpoint", "save_checkpoint", "sync", "save_state"]
    assert events == [*["append"] * 3, *at_step_4, "save_checkpoint"]  # the last: finish


def test_the_flags_of_the_run_may_be_given_again(call: Call, tmp_path: Path) -> None:
    call(*QUICK, *places(tmp_path), stop_at=5)
    again = call(*QUICK, "--dtype", "auto", "--device", "auto", "--resume", *places(tmp_path))
    assert (again.code, again.err) == (0, "")


def test_a_finished_run_has_a_result_file(call: Call, tmp_path: Path) -> None:
    call(*QUICK, *places(tmp_path), stop_at=5)
    assert not (tmp_path / "run" / "result.json").exists()
    call("--resume", *places(tmp_path))
    told = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    evaluated = [row["val_loss"] for row in read_csv(tmp_path / "run" / "metrics.csv")]
    best = min(loss for loss in evaluated if loss is not None)
    assert told == {"outcome": "finished", "step": 8, "best": best, "equal_evaluation": best}


# --- which run ----------------------------------------------------------------------------------


def resumed_folder(done: Any) -> str:
    """The name of the run's folder in the output of a call."""
    return next(line for line in done.out.splitlines() if line.startswith("run ")).split("/")[-1]


def test_without_a_folder_the_newest_unfinished_run_is_resumed(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = itertools.count(10)
    names: list[str] = []

    def at_another_time(name: str) -> str:
        names.append(f"20261121-{next(hours)}0000-{name}-0123456789ab")
        return names[-1]

    monkeypatch.setattr("experiment_tracking.new_run_id", at_another_time)
    monkeypatch.setattr("run_places.new_run_id", at_another_time)
    demo = ("--out-dir", tmp_path / "capstone" / "runs" / "demo")  # its name comes last, always
    assert call(*QUICK, *demo, stop_at=2).code == 130
    for stop_at, code in ((2, 130), (5, 130), (0, 0)):
        assert call(*QUICK, stop_at=stop_at).code == code
    for expected in (names[2], names[1], "demo"):
        done = call("--resume")
        assert (done.code, resumed_folder(done)) == (0, expected)
    done = call("--resume")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: no unfinished run under {tmp_path / 'capstone' / 'runs'}; start one without "
        "--resume\n"
    )


def test_without_any_run_there_is_nothing_to_resume(call: Call, tmp_path: Path) -> None:
    done = call("--resume")
    assert (done.code, done.out) == (2, "")
    assert "no unfinished run under" in done.err
    assert list(tmp_path.iterdir()) == []


# --- refused ------------------------------------------------------------------------------------


@pytest.fixture
def stopped(call: Call, tmp_path: Path) -> Path:
    """The folder of a run that was stopped at step 5, on a text of its own."""
    (tmp_path / "poems.txt").write_bytes(TEXT.read_bytes())
    assert call(*QUICK, "--data", tmp_path / "poems.txt", *places(tmp_path), stop_at=5).code == 130
    return tmp_path / "run"


def refused(call: Call, stopped: Path, *arguments: object) -> Any:
    """A call that must be refused in one line, and leave every file of the run as it was."""
    before = files(stopped)
    done = call(*arguments, *places(stopped.parent))
    assert done.code in (1, 2)
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert files(stopped) == before
    return done


CHANGES = {
    "a number": (("--lr", 0.5), "lr 0.004 -> 0.5"),
    "the model": (("--d-model", 64), "model.d_model 32 -> 64"),
    "two": (("--seed", 9, "--no-bias", "--n-layers", 3), "model.n_layers 2 -> 3, seed 0 -> 9"),
    "the end": (("--max-steps", 100), "max_steps 8 -> 100"),
    "minutes": (("--max-minutes", 2), "max_minutes None -> 2.0"),
    "the precision": (("--dtype", "bfloat16"), "dtype float32 -> bfloat16"),
    "a preset": (("--preset", "nano"), "model.n_layers 2 -> 4"),
    "the tokenizer": (("--tokenizer", "bpe"), "tokenizer char -> bpe"),
    "the vocabulary": (("--vocab-size", 300), "model.vocab_size 44 -> 300"),
}


@pytest.mark.parametrize(("flags", "named"), CHANGES.values(), ids=CHANGES)
def test_a_changed_configuration_is_refused_and_the_fields_are_named(
    call: Call, stopped: Path, flags: tuple[object, ...], named: str
) -> None:
    done = refused(call, stopped, "--resume", *flags)
    assert (done.code, done.out) == (2, "")
    assert "a resumed run keeps its configuration; refused: " in done.err
    assert named in done.err


def test_resume_and_overwrite_exclude_each_other(call: Call, stopped: Path) -> None:
    done = refused(call, stopped, "--resume", "--overwrite")
    assert (done.code, done.err.count("choose one")) == (2, 1)


def test_without_resume_the_folder_is_not_empty(call: Call, stopped: Path) -> None:
    done = refused(call, stopped, *QUICK)
    assert done.code == 2
    assert "is not empty; add --resume to continue that run, or --overwrite" in done.err


def test_the_same_data_may_be_named_by_another_path(call: Call, stopped: Path) -> None:
    other = stopped.parent / "elsewhere" / "same.txt"
    other.parent.mkdir()
    (stopped.parent / "poems.txt").rename(other)
    done = call("--resume", "--data", other, *places(stopped.parent))
    assert (done.code, done.err) == (0, "")
    assert "resume  step 5 of 8\n" in done.out
    assert load_config(stopped / "config.yaml", TrainConfig).data == str(other)


def test_a_run_started_with_a_relative_path_is_resumed_from_another_folder(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "poems.txt").write_bytes(TEXT.read_bytes())
    (tmp_path / "there" / "poems.txt").write_text("another text of this name", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "here")
    assert call(*QUICK, "--data", "poems.txt", *places(tmp_path), stop_at=5).code == 130
    monkeypatch.chdir(tmp_path / "there")
    done = call("--resume", *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    assert "resume  step 5 of 8\n" in done.out


def test_missing_data_is_named_with_the_way_to_continue(call: Call, stopped: Path) -> None:
    (stopped.parent / "poems.txt").unlink()
    done = refused(call, stopped, "--resume")
    assert (done.code, done.out) == (2, "")
    assert "poems.txt, is missing; give its new path with --data" in done.err


@pytest.mark.parametrize("data", ["mock", "changed"])
def test_other_data_is_refused_whatever_its_name(call: Call, stopped: Path, data: str) -> None:
    path = stopped.parent / "changed"
    path.write_bytes(TEXT.read_bytes() + b"!")
    done = refused(call, stopped, "--resume", "--data", path if data == "changed" else data)
    assert done.code == 1
    assert f"run was trained on different data than {data} contains now" in done.err


@pytest.fixture
def from_cuda(stopped: Path) -> Path:
    """The same run, with states that record a GPU that is absent here."""
    state, _ = last_good_state(stopped / "states", run_id(stopped))
    assert state is not None
    shutil.rmtree(stopped / "states")
    state.position["place"]["device"] = "cuda:7"
    save_state(stopped / "states", state, run_id(stopped))
    return stopped


def test_a_run_of_an_absent_gpu_is_refused_with_the_way_to_continue(
    call: Call, from_cuda: Path
) -> None:
    done = refused(call, from_cuda, "--resume")
    assert done.code == 2
    assert "trained on cuda:7, which is not available" in done.err
    assert "--device cpu resumes it here, but not bit for bit" in done.err


def test_a_run_of_an_absent_gpu_continues_on_the_cpu_and_the_log_says_so(
    call: Call, from_cuda: Path
) -> None:
    done = call("--resume", "--device", "cpu", *places(from_cuda.parent), stop_at=7)
    assert done.code == 130
    log = (from_cuda / "log.txt").read_text(encoding="utf-8")
    line = "resumed at step 5 on cpu; the steps before ran on cuda:7, so this run is not bit-exact"
    assert line in log
    assert load_config(from_cuda / "config.yaml", TrainConfig).device == "cpu"
    assert call("--resume", *places(from_cuda.parent)).code == 0  # and stays there


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"no": 1}', b"[" * 100_000])
def test_a_damaged_run_json_does_not_hide_the_good_runs(
    call: Call, tmp_path: Path, content: bytes
) -> None:
    runs = tmp_path / "capstone" / "runs"
    (runs / "99999999-broken").mkdir(parents=True)
    (runs / "99999999-broken" / "run.json").write_bytes(content)
    assert call(*QUICK, "--out-dir", runs / "good", stop_at=2).code == 130
    done = call("--resume")
    assert (done.code, resumed_folder(done)) == (0, "good")
    assert done.err.startswith("warning: skipped: ") and done.err.count("\n") == 1
    assert "99999999-broken has no run that can be resumed: run.json is damaged" in done.err


def test_an_empty_configuration_is_refused_and_not_taken_for_the_defaults(
    call: Call, stopped: Path
) -> None:
    (stopped / "config.yaml").write_bytes(b"")
    done = refused(call, stopped, "--resume")
    assert (done.code, done.out) == (1, "")
    assert "config.yaml is empty; this run cannot be resumed" in done.err


# --- samples ------------------------------------------------------------------------------------


def test_notes_and_stray_bytes_in_the_samples_do_not_end_a_run_and_stay(
    call: Call, tmp_path: Path
) -> None:
    quick = (*QUICK, "--sample-interval", 2)
    call(*quick, *places(tmp_path / "whole"))
    assert call(*quick, *places(tmp_path), stop_at=5).code == 130
    samples = tmp_path / "run" / "samples.txt"
    notes = b"my note \xff\n--- step 4 ---\n--- step 999999 ---\n"
    samples.write_bytes(notes + samples.read_bytes())
    done = call("--resume", *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    whole = (tmp_path / "whole" / "run" / "samples.txt").read_bytes()
    assert samples.read_bytes() == notes + whole
    assert whole.count(b"--- step ") == 4


def test_a_damaged_record_of_the_samples_does_not_end_a_run(call: Call, stopped: Path) -> None:
    (stopped / "samples.jsonl").write_bytes(b'\xff\n[1]\n{"step": "x"}\n{"step')
    done = call("--resume", *places(stopped.parent))
    assert (done.code, done.err) == (0, "")
    assert b"--- step 8 ---" in (stopped / "samples.txt").read_bytes()


@pytest.mark.parametrize("change", ["one letter", "cut", "a new letter"])
def test_other_data_is_refused(call: Call, stopped: Path, change: str) -> None:
    text = TEXT.read_text(encoding="utf-8")
    texts = {
        "one letter": text[:50] + text[51] + text[51:],
        "cut": text[:-40],
        "a new letter": text + "%",
    }
    (stopped.parent / "poems.txt").write_text(texts[change], encoding="utf-8", newline="")
    done = refused(call, stopped, "--resume")
    assert done.code == 1
    assert "run was trained on different data than poems contains now" in done.err


def test_a_run_that_is_finished_is_refused(call: Call, stopped: Path) -> None:
    assert call("--resume", *places(stopped.parent)).code == 0
    done = refused(call, stopped, "--resume")
    assert done.code == 2
    assert "is finished; there is nothing to resume" in done.err


@pytest.mark.parametrize("found", ["nothing", "an empty folder", "a file", "a damaged run.json"])
def test_where_there_is_no_run_there_is_nothing_to_resume(
    call: Call, tmp_path: Path, found: str
) -> None:
    folder = tmp_path / "run"
    if found == "a file":
        folder.write_bytes(b"")
    elif found != "nothing":
        folder.mkdir()
    if found == "a damaged run.json":
        (folder / "run.json").write_bytes(b'{"id"')
    done = call("--resume", *places(tmp_path))
    assert (done.code, done.out) == (1, "")
    what = "damaged" if found == "a damaged run.json" else "missing"
    message = f"error: {folder} has no run that can be resumed: run.json is {what}\n"
    assert done.err == message


def test_without_an_intact_state_it_does_not_start_over(call: Call, stopped: Path) -> None:
    for state in folders(stopped / "states"):
        (state / "random.safetensors").unlink()
    done = refused(call, stopped, "--resume")
    assert done.code == 1
    assert f"no state of {run_id(stopped)} is intact: " in done.err
    assert done.err.count("random.safetensors is missing") == 2


def test_the_states_of_another_run_are_not_taken_for_its_own(call: Call, stopped: Path) -> None:
    call(*QUICK, *places(stopped.parent / "other"), stop_at=7)
    shutil.rmtree(stopped / "states")
    shutil.copytree(stopped.parent / "other" / "run" / "states", stopped / "states")
    done = refused(call, stopped, "--resume")
    assert (done.code, done.err.count("belongs to another run")) == (1, 2)


def test_a_run_without_a_state_starts_with_the_data_as_it_is_now(call: Call, stopped: Path) -> None:
    shutil.rmtree(stopped / "states")  # as if it had been killed before its first save
    text = TEXT.read_text(encoding="utf-8")
    (stopped.parent / "poems.txt").write_text(f"{text}%", encoding="utf-8", newline="")
    done = call("--resume", *places(stopped.parent))
    assert (done.code, done.err) == (0, "")
    assert "resume  no state was saved yet; starting from the beginning" in done.out
    fresh = stopped.parent / "fresh"
    call(*QUICK, "--data", stopped.parent / "poems.txt", *places(fresh))
    assert result(stopped) == result(fresh / "run")


# --- minutes ------------------------------------------------------------------------------------


def clock(tick: float) -> SimpleNamespace:
    """A clock that advances by so many seconds at every reading."""
    now = itertools.count(0.0, tick)
    return SimpleNamespace(perf_counter=lambda: next(now))


MINUTES = (
    *(*QUICK, "--max-minutes", 0.5, "--max-steps", 1000, "--n-layers", 1),
    *("--eval-interval", 50, "--save-interval", 50, "--sample-interval", 1000),
)


@pytest.fixture
def timed(call: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run train.py on a machine where each reading of the clock takes `tick` seconds."""

    def timed(tick: float, *arguments: object, stop_at: int = 0) -> Any:
        with monkeypatch.context() as patch:
            for module in (time_budget, training_loop):
                patch.setattr(module, "time", clock(tick))
            return call(*arguments, stop_at=stop_at)

    return timed


def settled(root: Path) -> int:
    """The number of steps that the time limit was converted to."""
    config = load_config(root / "run" / "config.yaml", TrainConfig)
    assert config.max_minutes is None
    assert read_csv(root / "run" / "metrics.csv")[-1]["step"] == config.max_steps
    return config.max_steps


def test_the_number_of_steps_fixed_before_a_kill_is_kept_on_a_slower_machine(
    timed: Call, tmp_path: Path
) -> None:
    assert timed(0.3, *MINUTES, *places(tmp_path / "whole")).code == 0
    steps = settled(tmp_path / "whole")
    assert 40 < steps < 300
    assert timed(0.3, *MINUTES, *places(tmp_path), stop_at=35).code == 130
    done = timed(3.0, "--resume", *places(tmp_path))
    assert f"resume  step 35 of {steps}\n" in done.out
    assert settled(tmp_path) == steps
    assert result(tmp_path / "run") == result(tmp_path / "whole" / "run")


def test_after_an_early_kill_the_resuming_machine_decides(timed: Call, tmp_path: Path) -> None:
    for tick in (0.3, 0.6):
        timed(tick, *MINUTES, *places(tmp_path / f"{tick}"))
    assert timed(0.3, *MINUTES, *places(tmp_path), stop_at=5).code == 130
    done = timed(0.6, "--resume", *places(tmp_path))
    assert "resume  step 5 of 1000\n" in done.out
    slow, fast = settled(tmp_path / "0.6"), settled(tmp_path / "0.3")
    assert slow <= settled(tmp_path) <= slow + 10 < fast  # five steps were taken on the faster one
