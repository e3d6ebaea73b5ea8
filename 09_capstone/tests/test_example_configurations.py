"""The configurations of 08_engineering/examples, through train.py: a few steps, on a small text."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import train
from logging_utils import read_csv
from model.config import preset
from utils.config import ModelConfig, TrainConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "08_engineering" / "examples").glob("*.yaml"))
TEXT = ROOT / "data" / "simple_sequences.txt"
SMALL = (
    "--data",
    TEXT,
    "--max-steps",
    2,
    "--batch-size",
    2,
    "--max-seq-len",
    16,
    "--dtype",
    "float32",
)

pytestmark = pytest.mark.usefixtures("training_folders")


def on_top_of_the_preset(path: Path) -> TrainConfig:
    """An example as train.py reads it: other fields are those of the laptop preset."""
    return load_config(path, TrainConfig, preset("laptop"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_every_example_runs(path: Path, tmp_path: Path, call_program: Callable[..., Any]) -> None:
    call = partial(call_program, train.main)
    out = tmp_path / "run"
    tokens = ("--vocab-size", 260) if path.stem == "bpe" else ()
    places = ("--out-dir", out, "--checkpoint-dir", tmp_path)
    ended = call("--config", path, *SMALL, *tokens, *places)
    assert ended.code == 0, ended.err
    used, asked = load_config(out / "config.yaml", TrainConfig), on_top_of_the_preset(path)
    for field in ("position", "norm", "activation", "n_layers", "d_model", "dropout"):
        assert getattr(used.model, field) == getattr(asked.model, field)
    assert (used.optimizer, used.schedule, used.lr) == (asked.optimizer, asked.schedule, asked.lr)
    assert read_csv(out / "metrics.csv")[-1]["step"] == 2


def test_the_classic_example_replaces_everything_modern_of_the_preset() -> None:
    config = on_top_of_the_preset(ROOT / "08_engineering" / "examples" / "gpt2.yaml")
    assert config.model == ModelConfig()  # whose defaults are GPT-2's layout
    classic = TrainConfig()
    for field in ("optimizer", "lr", "beta1", "beta2", "weight_decay", "grad_clip", "schedule"):
        assert getattr(config, field) == getattr(classic, field)
    assert config.min_lr_ratio == classic.min_lr_ratio
