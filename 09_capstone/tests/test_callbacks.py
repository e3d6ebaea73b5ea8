"""The progress bar with and without a terminal, and what RunRecorder writes."""

import io
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from callbacks import RunRecorder, repeatable, resumed_line
from checkpointing import load_checkpoint
from logging_utils import METRIC_COLUMNS, MetricsLog, read_csv
from loss_functions import bits_per_char
from progress_bar import ProgressBar
from run_samples import sample_text
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_data import TrainingData
from training_loop import StepReport, Trainer
from training_state import TrainingState
from utils.config import ModelConfig, SampleConfig, TrainConfig, load_config

TOKENIZER = CharTokenizer.train("abcd ")
TOKENS = np.arange(200, dtype=np.uint16) % TOKENIZER.vocab_size
DATA = TrainingData("letters", "a test", TOKENIZER, TOKENS, TOKENS)
SHAPE = ModelConfig(TOKENIZER.vocab_size, max_seq_len=8, d_model=16, n_layers=1, n_heads=2)
CONFIG = TrainConfig(SHAPE, max_steps=40, eval_interval=7, log_interval=5, sample_interval=20)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def model() -> TinyTransformerLM:
    return TinyTransformerLM(SHAPE)


@pytest.fixture
def trainer(model: TinyTransformerLM) -> Trainer:
    return Trainer(model, TOKENS, TOKENS, CONFIG)


@pytest.fixture
def run(tmp_path: Path, model: TinyTransformerLM) -> Iterator[RunRecorder]:
    run = RunRecorder(tmp_path, CONFIG, DATA, model)
    yield run
    run.close()


def report(step: int, val_loss: float | None = None) -> StepReport:
    return StepReport(step, 2.5, 0.5, 1.25, 1000 * step, 0.5 * step, val_loss)


# --- the progress bar ---------------------------------------------------------------------------


def test_on_a_terminal_the_bar_shows_loss_speed_and_time_left_within_80_columns(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = ProgressBar(40)
    bar.bar.mininterval = 0.0  # show every step
    for step in range(1, 4):
        bar.on_step(trainer, report(step, val_loss=2.25 if step == 3 else None))
    bar.close()
    shown = re.split(r"[\r\n]+", terminal.getvalue())
    assert any("| loss 2.500, 2.0k tokens/s, " in line and line.endswith(" left") for line in shown)
    assert max(map(len, shown)) < 80
    assert shown[-2].strip() == ""  # the bar is removed
    assert capsys.readouterr().out.startswith("step     3 of 40   train 2.5000   validation 2.2500")


def test_without_a_terminal_only_the_evaluations_are_printed(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = ProgressBar(40)
    for step in range(1, 15):
        bar.on_step(trainer, report(step, val_loss=2.25 if step % 7 == 0 else None))
    bar.close()
    said = capsys.readouterr()
    assert said.err == ""
    assert [line[:16] for line in said.out.splitlines()] == ["step     7 of 40", "step    14 of 40"]


@pytest.mark.parametrize(
    ("seconds_per_step", "minutes", "is_said"),
    [(10, None, False), (30, None, True), (30, 9, False)],
)
def test_a_run_that_will_take_long_on_a_cpu_leads_to_the_page_that_helps(
    seconds_per_step: int,
    minutes: float | None,
    is_said: bool,
    model: TinyTransformerLM,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = Trainer(model, TOKENS, TOKENS, replace(CONFIG, max_minutes=minutes))
    bar = ProgressBar(40)
    for step in range(1, 31):
        bar.on_step(trainer, StepReport(step, 2.5, 0.5, 1.25, 1000, seconds_per_step * step))
    bar.close()
    said = capsys.readouterr().out
    assert said.count("note    about 20 minutes at this speed") == int(is_said)
    assert ("00_setup/troubleshooting.md" in said) is is_said
    assert max(map(len, said.splitlines()), default=0) <= 80


def test_on_a_narrow_terminal_the_bar_fits(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    bar = ProgressBar(40)
    bar.bar.mininterval = 0.0
    for step in range(1, 4):
        bar.on_step(trainer, report(step))
    bar.close()
    shown = re.split(r"[\r\n]+", terminal.getvalue())
    assert any(line.startswith("  8% loss 2.500, ") and line.endswith(" left") for line in shown)
    assert max(map(len, shown)) < 40


def test_a_dumb_terminal_gets_no_control_characters(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    bar = ProgressBar(40)
    bar.bar.mininterval = 0.0
    bar.on_step(trainer, report(7, val_loss=2.25))
    bar.close()
    assert terminal.getvalue() == ""
    printed = capsys.readouterr().out
    assert printed.startswith("step     7 of 40")
    assert "\r" not in printed and "\x1b" not in printed


# --- the folder ---------------------------------------------------------------------------------


def test_rows_are_written_where_due_where_evaluated_and_at_the_end(
    run: RunRecorder, trainer: Trainer, tmp_path: Path
) -> None:
    for step in range(1, 41):
        run.on_step(trainer, report(step, val_loss=2.25 if step % 14 == 0 else None))
    rows = read_csv(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == [5, 10, 14, 15, 20, 25, 28, 30, 35, 40]
    assert rows[2] == {
        **{"step": 14, "train_loss": 2.5, "val_loss": 2.25},
        "val_bits_per_char": bits_per_char(2.25),
        **{"learning_rate": 0.5 * CONFIG.lr, "grad_norm": 1.25, "seconds": 7.0},
    }


@pytest.mark.parametrize(("evaluation_due", "kept"), [(False, 10), (True, 9)])
def test_tensorboard_gets_the_rows_of_the_metrics_from_the_resumed_step_on(
    tmp_path: Path,
    model: TinyTransformerLM,
    trainer: Trainer,
    monkeypatch: pytest.MonkeyPatch,
    evaluation_due: bool,
    kept: int,
) -> None:
    told: list[object] = []

    class Curves:
        def __init__(self, path: Path, resumed_at: int) -> None:
            told.append((path, resumed_at))

        def append(self, row: dict[str, float]) -> None:
            told.append(row["step"])

        def close(self) -> None:
            told.append("closed")

    monkeypatch.setattr("run_metrics.TensorBoardLog", Curves)
    saved = {"best": None, "val_loss": None, "evaluated_at": 0}
    place = {"device": "cpu"}
    position = {"step": 10, "evaluation_due": evaluation_due, "run": saved, "place": place}
    state = TrainingState({}, [], {}, position)
    run = RunRecorder(tmp_path, CONFIG, DATA, model, state=state)
    for step in range(11, 21):
        run.on_step(trainer, report(step))
    run.close()
    assert told == [(tmp_path, kept), 15, 20, "closed"]
    assert [row["step"] for row in read_csv(tmp_path / "metrics.csv")] == [15, 20]


def test_a_run_that_is_stopped_writes_no_extra_row(
    run: RunRecorder, trainer: Trainer, tmp_path: Path
) -> None:
    trainer.stop = True
    run.on_step(trainer, report(3))
    assert read_csv(tmp_path / "metrics.csv") == []


def test_the_best_checkpoint_follows_the_lowest_loss_and_the_last_the_newest(
    run: RunRecorder, trainer: Trainer, tmp_path: Path
) -> None:
    for step, val_loss in ((7, 2.0), (14, 1.5), (21, math.nan), (28, 1.75)):
        run.on_step(trainer, report(step, val_loss))
    best, last = (load_checkpoint(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    bits = {"val_bits_per_char": bits_per_char(1.5)}
    same = {"corpus": "letters", "run": tmp_path.name}
    assert best.info == {"step": 14, **same, "val_loss": 1.5, **bits}
    assert (last.info["step"], last.info["val_loss"]) == (28, 1.75)
    assert (run.has_best, run.best) == (True, 1.5)


def test_a_non_finite_loss_is_never_the_best(
    run: RunRecorder, trainer: Trainer, tmp_path: Path
) -> None:
    run.on_step(trainer, report(7, math.nan))
    assert not run.has_best
    assert not (tmp_path / "best.safetensors").exists()
    assert "val_loss" not in load_checkpoint(tmp_path / "last.safetensors").info


def test_samples_are_added_where_due_and_at_the_end(
    run: RunRecorder, trainer: Trainer, tmp_path: Path
) -> None:
    for trainer.step in (19, 20, 21, 40):
        run.on_step(trainer, report(trainer.step))
    text = (tmp_path / "samples.txt").read_text(encoding="utf-8")
    assert re.findall("--- step .* ---", text) == ["--- step 20 ---", "--- step 40 ---"]


def test_a_sample_leaves_the_training_mode_and_the_random_numbers_unchanged(
    model: TinyTransformerLM, trainer: Trainer
) -> None:
    model.train()
    before = torch.get_rng_state()
    assert len(sample_text(model, TOKENIZER, SampleConfig(max_tokens=9), trainer)) == 9
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_the_end_of_a_run_is_logged(run: RunRecorder, trainer: Trainer, tmp_path: Path) -> None:
    run.finish(trainer, "interrupted")
    assert "step 0 of 40: interrupted" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert (tmp_path / "last.safetensors").exists()
    assert load_config(tmp_path / "config.yaml", TrainConfig) == CONFIG


def test_minutes_become_steps_once_a_step_has_been_timed(trainer: Trainer) -> None:
    config = TrainConfig(SHAPE, max_steps=40, max_minutes=1.0)
    trainer.max_steps, trainer.budget.settled = 35, False
    assert repeatable(config, trainer) == config
    trainer.budget.settled = True
    assert repeatable(config, trainer) == TrainConfig(SHAPE, max_steps=35)


@pytest.mark.parametrize("before", ["cpu", "cuda:0"])
def test_the_log_records_a_change_of_device(before: str) -> None:
    state = TrainingState({}, [], {}, {"step": 5, "place": {"device": before}})
    line = resumed_line(state, torch.device("cpu"))
    assert line.startswith("resumed at step 5")
    assert line.endswith("is not bit-exact") == (before != "cpu")


def test_a_run_of_an_older_version_keeps_the_columns_of_its_metrics(
    tmp_path: Path, model: TinyTransformerLM, trainer: Trainer
) -> None:
    older = [name for name in METRIC_COLUMNS if name != "val_bits_per_char"]
    with MetricsLog(tmp_path, older) as log:
        log.append({"step": 1, "train_loss": 2.5})
    trainer.step, trainer.evaluation_due = 1, False
    state = {"run": {"best": None, "val_loss": None, "evaluated_at": 0}, "place": {"device": "cpu"}}
    position = {**trainer.state_dict(), **state}
    run = RunRecorder(tmp_path, CONFIG, DATA, model, state=TrainingState({}, [], {}, position))
    run.on_step(trainer, report(7, val_loss=2.25))
    run.close()
    rows = read_csv(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == [1, 7]
    assert list(rows[1]) == older
