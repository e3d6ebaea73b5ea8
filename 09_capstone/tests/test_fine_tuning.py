"""train.py --init-from: a run that starts from given weights, and what it refuses."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import train
from bpe_tokenizer import train_bpe
from checkpointing import Checkpoint, load_checkpoint, save_checkpoint
from distributed_worker import announce_run, receive_run
from interop_checkpoint import export_folder
from interop_models import FORMATS, fitting_format
from logging_utils import read_csv
from model.config import PRESETS, preset
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Trainer
from utils.config import ModelConfig, load_config

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "data" / "simple_sequences.txt"
QUICK = (
    *("--dtype", "float32", "--data", TEXT, "--max-steps", 6, "--eval-interval", 3),
    *("--save-interval", 2, "--log-interval", 1, "--sample-interval", 0, "--batch-size", 4),
)
Call = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("training_folders")


@pytest.fixture
def call(call_and_stop: Call) -> Call:
    """Run train.py with these arguments; with stop_at, press Ctrl-C in the middle of that step."""
    return partial(call_and_stop, train.main, Trainer)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained a little: sizes of no preset, dropout, and a known loss."""
    root = tmp_path_factory.mktemp("source")
    sizes = ("--preset", "smoke", "--d-model", 24, "--n-heads", 3, "--max-seq-len", 20)
    with pytest.MonkeyPatch.context() as patch:
        arguments = (*sizes, "--dropout", 0.1, *QUICK, *places(root))
        patch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        patch.setattr("run_curves.plot_metrics", lambda folder, data: None)
        assert train.main() == 0
    return root / "run" / "best.safetensors"


def places(root: Path) -> tuple[object, ...]:
    return ("--out-dir", root / "run", "--checkpoint-dir", root / "checkpoints")


def start_loss(outcome: Any) -> str:
    """The loss that train.py prints before the first step."""
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("start ")]
    return line.partition("validation loss ")[2]


def result(folder: Path) -> dict[str, Any]:
    """What must not depend on how often the run was stopped."""
    found: dict[str, Any] = {}
    for name in ("best", "last"):
        checkpoint = load_checkpoint(folder / f"{name}.safetensors")
        found[name] = {key: w.numpy().tobytes() for key, w in checkpoint.weights.items()}
    found["metrics"] = [{**row, "seconds": 0} for row in read_csv(folder / "metrics.csv")]
    return found


# --- where it starts ----------------------------------------------------------------------------


def test_a_run_starts_at_the_validation_loss_of_the_given_model(
    source: Path, tmp_path: Path, call: Call
) -> None:
    outcome = call("--init-from", source, *QUICK, *places(tmp_path))
    assert outcome.code == 0, outcome
    given = load_checkpoint(source)
    assert start_loss(outcome) == f"{given.info['val_loss']:.4f}"
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert f"started from {source}: validation {given.info['val_loss']:.4f}" in log
    config = load_config(tmp_path / "run" / "config.yaml", type(preset("smoke")))
    assert config.model == given.model_config  # not the preset's
    assert config.init_from == str(source)
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").tokenizer == given.tokenizer


def test_at_a_learning_rate_of_zero_the_weights_stay_those_of_the_given_model(
    source: Path, tmp_path: Path, call: Call
) -> None:
    rates = ("--lr", 0, "--muon-lr", 0, "--weight-decay", 0)
    assert call("--init-from", source, *rates, *QUICK, *places(tmp_path)).code == 0
    before = load_checkpoint(source).weights
    for name in ("initial", "last"):
        after = load_checkpoint(tmp_path / "run" / f"{name}.safetensors").weights
        assert all(torch.equal(after[key], before[key]) for key in before)


def test_fine_tuning_changes_the_weights_and_keeps_the_source(
    source: Path, tmp_path: Path, call: Call
) -> None:
    before = source.read_bytes()
    outcome = call("--init-from", source, *QUICK, *places(tmp_path))
    rows = read_csv(tmp_path / "run" / "metrics.csv")
    last = rows[-1]["val_loss"]
    assert last is not None and last < float(start_loss(outcome))
    assert source.read_bytes() == before


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_folder_of_hugging_face_gives_the_same_start_as_its_checkpoint(
    tmp_path: Path, call: Call, kind: str
) -> None:
    text = TEXT.read_text(encoding="utf-8")
    tokenizer = CharTokenizer.train(text) if kind == "char" else train_bpe(text, 300)
    config = ModelConfig(
        tokenizer.vocab_size, max_seq_len=8, d_model=16, n_layers=2, norm="rmsnorm"
    )
    config = replace(config, position="rope", activation="swiglu", bias=False, n_kv_heads=2)
    model = TinyTransformerLM(config, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    save_checkpoint(tmp_path / "model.safetensors", model, tokenizer)
    export_folder(Checkpoint(config, tokenizer, model.state_dict()), tmp_path / "hf")
    quick = (*QUICK, "--batch-size", 2)
    first = call("--init-from", tmp_path / "model.safetensors", *quick, *places(tmp_path / "a"))
    second = call("--init-from", tmp_path / "hf", *quick, *places(tmp_path / "b"))
    assert first.code == second.code == 0, (first, second)
    assert start_loss(first) == start_loss(second)
    assert result(tmp_path / "a" / "run") == result(tmp_path / "b" / "run")


def test_dropout_may_be_chosen_anew(source: Path, tmp_path: Path, call: Call) -> None:
    same = ("--d-model", 24, "--n-heads", 3)  # may be said again
    outcome = call("--init-from", source, "--dropout", 0.3, *same, *QUICK, *places(tmp_path))
    assert outcome.code == 0
    config = load_config(tmp_path / "run" / "config.yaml", type(preset("smoke")))
    assert config.model.dropout == 0.3


# --- resuming -----------------------------------------------------------------------------------


def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one_without_the_original(
    source: Path, tmp_path: Path, call: Call
) -> None:
    copy = tmp_path / "copy.safetensors"
    shutil.copy(source, copy)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert call("--init-from", copy, *QUICK, *places(whole)).code == 0
    assert call("--init-from", copy, *QUICK, *places(stopped), stop_at=4).code == 130
    copy.unlink()
    outcome = call("--resume", *places(stopped))
    assert outcome.code == 0, outcome
    assert result(stopped / "run") == result(whole / "run")


def test_a_run_that_was_killed_before_its_first_state_starts_from_the_given_weights_again(
    source: Path, tmp_path: Path, call: Call
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = call("--init-from", source, *QUICK, *places(whole))
    assert call("--init-from", source, *QUICK, *places(killed), stop_at=1).code == 130
    shutil.rmtree(killed / "run" / "states")
    outcome = call("--resume", *places(killed))
    assert outcome.code == 0, outcome
    assert start_loss(outcome) == start_loss(first)
    assert result(killed / "run") == result(whole / "run")


def test_the_same_command_with_resume_continues_and_another_model_is_refused(
    source: Path, tmp_path: Path, call: Call
) -> None:
    command = ("--preset", "laptop", "--init-from", source, *QUICK, *places(tmp_path))
    assert call(*command, stop_at=3).code == 130
    other = call("--resume", "--init-from", tmp_path / "other", *places(tmp_path))
    assert other.code == 2
    assert f"init_from {source} -> {tmp_path / 'other'}" in other.err
    assert call("--init-from", source, *QUICK, *places(tmp_path), "--resume").code == 0


def test_a_repeated_run_starts_from_the_same_weights(
    source: Path, tmp_path: Path, call: Call
) -> None:
    assert call("--init-from", source, *QUICK, *places(tmp_path / "a")).code == 0
    config = tmp_path / "a" / "run" / "config.yaml"
    assert call("--config", config, *places(tmp_path / "b")).code == 0
    assert result(tmp_path / "b" / "run") == result(tmp_path / "a" / "run")


def test_the_other_processes_of_a_run_start_from_the_same_weights(
    source: Path, tmp_path: Path, call: Call
) -> None:
    call("--init-from", source, *QUICK, *places(tmp_path), stop_at=1)
    folder = tmp_path / "run"
    config = load_config(folder / "config.yaml", type(preset("smoke")))
    sent: list[Any] = []
    workers: Any = SimpleNamespace(world_size=2, rank=1, broadcast=lambda x: x and sent.append(x))
    given = load_checkpoint(source)
    data = SimpleNamespace(fingerprint="")
    run: Any = SimpleNamespace(workers=workers, config=config, state=None, data=data, folder=folder)
    announce_run(run)
    fingerprint = train.load_stored_data(config, given).fingerprint
    workers.broadcast = lambda _: (sent[0][0], sent[0][1], fingerprint, sent[0][3])
    received = receive_run(workers).model.state_dict()
    assert all(torch.equal(received[name], given.weights[name]) for name in given.weights)


# --- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--d-model", 64), 2, "--d-model 64: SOURCE has d_model 24"),
        (("--n-layers", 3), 2, "--n-layers 3: SOURCE has n_layers 2"),
        (("--vocab-size", 99), 2, "--vocab-size 99: SOURCE has vocab_size"),
        (("--position", "learned"), 2, "--position learned: SOURCE has position rope"),
        (("--tie-weights",), 2, "--tie-weights True: SOURCE has tie_weights False"),
        (("--n-heads", "many"), 2, "n_heads 'many' is not a whole number"),
        (("--tokenizer", "bpe"), 2, "--tokenizer bpe: SOURCE has char"),
    ],
)
def test_a_flag_that_contradicts_the_given_model_is_refused(
    source: Path, tmp_path: Path, call: Call, flags: tuple[object, ...], code: int, message: str
) -> None:
    outcome = call("--init-from", source, *QUICK, *flags, *places(tmp_path))
    assert outcome.code == code
    assert message.replace("SOURCE", str(source)) in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_character_that_the_given_tokenizer_does_not_know_is_named(
    source: Path, tmp_path: Path, call: Call
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT.read_text(encoding="utf-8") + "\nna\u00efve\n", encoding="utf-8")
    outcome = call("--init-from", source, *QUICK, "--data", text, *places(tmp_path))
    assert outcome.code == 2
    line = text.read_text(encoding="utf-8").count("\n")
    assert f"--data {text}: unknown character 'ï' (U+00EF)" in outcome.err
    assert f"(line {line}, column 3)" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_prepared_folder_must_have_the_tokenizer_of_the_model(
    source: Path, tmp_path: Path, call: Call
) -> None:
    tokenizer = CharTokenizer.train("another vocabulary")
    (tmp_path / "data").mkdir()
    stored = json.dumps(tokenizer.to_dict())
    (tmp_path / "data" / "tokenizer.json").write_text(stored, encoding="utf-8")
    meta = {"name": "x", "characters": 100, "train_tokens": 90, "val_tokens": 10}
    (tmp_path / "data" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    np.save(tmp_path / "data" / "train.npy", np.zeros(90, dtype=np.uint16))
    np.save(tmp_path / "data" / "val.npy", np.zeros(10, dtype=np.uint16))
    outcome = call("--init-from", source, *QUICK, "--data", tmp_path / "data", *places(tmp_path))
    assert outcome.code == 2
    assert "was prepared with another tokenizer than the model has" in outcome.err


def test_a_missing_or_damaged_model_is_refused_before_any_work(
    source: Path, tmp_path: Path, call: Call
) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(source.read_bytes()[:1000])
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "nothing", "no checkpoint at"),
        (cut, "is truncated or not a checkpoint"),
        (tmp_path / "empty", "config.json is missing"),
    ):
        outcome = call("--init-from", path, *QUICK, *places(tmp_path))
        assert outcome.code == 1
        assert message in outcome.err and outcome.err.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_overwrite_does_not_remove_the_model_that_it_starts_from(
    source: Path, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "run").mkdir()
    inside = tmp_path / "run" / "best.safetensors"
    shutil.copy(source, inside)
    outcome = call("--init-from", inside, "--overwrite", *QUICK, *places(tmp_path))
    assert outcome.code == 2
    assert f"--overwrite would replace {inside}" in outcome.err
    assert inside.exists()


def test_overwrite_removes_what_an_earlier_run_had_started_from(
    source: Path, tmp_path: Path, call: Call
) -> None:
    assert call("--init-from", source, *QUICK, *places(tmp_path)).code == 0
    assert (tmp_path / "run" / "initial.safetensors").exists()
    assert call("--preset", "smoke", "--overwrite", *QUICK, *places(tmp_path)).code == 0
    assert not (tmp_path / "run" / "initial.safetensors").exists()


# --- and the way out ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_exported_to_hugging_face(name: str) -> None:
    config = preset(name).model
    model_type = fitting_format(config)
    assert model_type == ("gpt2" if name in ("nano", "baby_gpt") else "qwen3")
    stored = {"model_type": model_type, **FORMATS[model_type].to_config(config)}
    assert FORMATS[model_type].from_config(stored) == config
