"""An interrupted measurement continues with the training runs that its folder holds."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tools.benchmarks.losses as losses_section
import tools.benchmarks.measured_runs as runs_module
import tools.benchmarks.unit as unit_module
from checkpointing import load_checkpoint
from experiment_tracking import environment_info
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from tools.benchmarks.held_out import LAST, TUNING, WHOLE, Losses
from tools.benchmarks.interleave import Settings
from tools.benchmarks.measured_runs import MeasuredRun, RunFolder
from training_data import TrainingData
from utils.config import ModelConfig, TrainConfig
from utils.errors import CourseError
from utils.recipes import MODERN, MODERN_TRAINING

CONFIG = TrainConfig(
    ModelConfig(11, max_seq_len=8, d_model=16, n_layers=1, n_heads=2, **MODERN),
    batch_size=2,
    max_steps=3,
    dtype="float32",
    **MODERN_TRAINING,
)
HELD_OUT = {part: Losses(1 / 3, 2 / 7) for part in (WHOLE, TUNING, LAST)}
RUN = MeasuredRun(((0.1, 2.0), (0.30000000000000004, 1.5)), 2, 0.7, HELD_OUT, (70.1, 69.9))


@pytest.fixture
def data() -> TrainingData:
    tokens = np.tile(np.arange(11, dtype=np.uint8), 20)
    tokenizer = CharTokenizer.train("abcdefghijk")
    return TrainingData("letters", "eleven letters", tokenizer, tokens, tokens)


@pytest.fixture(autouse=True)
def clean_commit(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """As if nothing were changed since a commit; the environment, to be changed by a test."""
    found = {**environment_info("cpu"), "git": {"commit": "abc", "dirty": False}}
    monkeypatch.setattr(runs_module, "environment_info", lambda device: dict(found))
    return found


@pytest.fixture
def measure() -> "Counted":
    return Counted()


class Counted:
    """Measures by returning RUN, and counts how often."""

    n_calls = 0

    def __call__(self, config: TrainConfig) -> tuple[MeasuredRun, TinyTransformerLM]:
        self.n_calls += 1
        return RUN, TinyTransformerLM(config.model, seed=config.seed)


def test_a_run_that_was_saved_is_not_measured_again(
    tmp_path: Path, data: TrainingData, measure: Counted
) -> None:
    first = RunFolder(tmp_path, data).measured("tiny-0", CONFIG, measure)
    second = RunFolder(tmp_path, data).measured("tiny-0", CONFIG, measure)
    assert first == second == RUN
    assert measure.n_calls == 1


def test_its_model_is_saved_as_a_checkpoint(
    tmp_path: Path, data: TrainingData, measure: Counted
) -> None:
    RunFolder(tmp_path, data).measured("tiny-0", CONFIG, measure)
    saved = load_checkpoint(tmp_path / "runs" / "tiny-0.safetensors")
    assert (saved.info["val_loss"], saved.info["step"]) == (
        1.5,
        2,
    )  # the steps of the run, which a time limit may have shortened
    expected = TinyTransformerLM(CONFIG.model, seed=CONFIG.seed).state_dict()
    for name, weight in saved.build_model().state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)


def other_seed(config: TrainConfig, data: TrainingData, environment: Any) -> tuple[Any, Any]:
    return replace(config, seed=1), data


def other_text(config: TrainConfig, data: TrainingData, environment: Any) -> tuple[Any, Any]:
    return config, replace(data, train=data.train[:-11])


def other_processor(config: TrainConfig, data: TrainingData, environment: Any) -> tuple[Any, Any]:
    environment["cpu"] = "another"
    return config, data


def other_commit(config: TrainConfig, data: TrainingData, environment: Any) -> tuple[Any, Any]:
    environment["git"] = {"commit": "def", "dirty": False}
    return config, data


def other_threads(config: TrainConfig, data: TrainingData, environment: Any) -> tuple[Any, Any]:
    environment["torch_threads"] += 1
    return config, data


CHANGES = [other_seed, other_text, other_processor, other_commit, other_threads]


@pytest.mark.parametrize("change", CHANGES)
def test_another_measurement_does_not_count(
    tmp_path: Path,
    data: TrainingData,
    measure: Counted,
    clean_commit: dict[str, Any],
    change: Callable[..., tuple[TrainConfig, TrainingData]],
) -> None:
    RunFolder(tmp_path, data).measured("tiny-0", CONFIG, measure)
    config, text = change(CONFIG, data, clean_commit)
    RunFolder(tmp_path, text).measured("tiny-0", config, measure)
    assert measure.n_calls == 2


@pytest.mark.parametrize("git", [None, {"commit": "abc", "dirty": True}])
def test_with_uncommitted_changes_every_run_is_measured(
    tmp_path: Path, data: TrainingData, measure: Counted, clean_commit: dict[str, Any], git: Any
) -> None:
    clean_commit["git"] = git
    for _ in range(2):
        RunFolder(tmp_path, data).measured("tiny-0", CONFIG, measure)
    assert measure.n_calls == 2


def test_without_a_folder_nothing_is_kept(data: TrainingData, measure: Counted) -> None:
    for _ in range(2):
        assert RunFolder(None, data).measured("tiny-0", CONFIG, measure) == RUN
    assert measure.n_calls == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run": {"losses": 1}}', '{"run": null}'])
def test_a_damaged_file_is_named(
    tmp_path: Path, data: TrainingData, measure: Counted, content: str
) -> None:
    path = tmp_path / "runs" / "tiny-0.json"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CourseError, match=r"tiny-0\.json is damaged; delete it to measure again"):
        RunFolder(tmp_path, data).measured("tiny-0", CONFIG, measure)


def test_an_interrupted_measurement_trains_only_the_missing_seeds(
    tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_module, "is_installed", lambda: False)
    monkeypatch.setattr(losses_section, "preset", lambda name: CONFIG)
    train, trained = losses_section.train, []

    def counted(config: TrainConfig, *args: Any) -> Any:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(config.seed)
        return train(config, *args)

    monkeypatch.setattr(losses_section, "train", counted)
    settings = Settings(data, seeds=3, preset="tiny", out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        list(losses_section.losses(settings))
    trained.clear()
    times, _, found = losses_section.losses(settings)
    assert trained == [2]
    assert [len(row.values) for row in found.rows] == [3] * len(found.rows)
    trained.clear()
    quick = replace(settings, quick=True, seeds=1)
    list(losses_section.losses(quick))  # keeps nothing, and reuses nothing
    assert trained == [0]
    saved = json.loads((tmp_path / "runs" / "tiny-1.json").read_text(encoding="utf-8"))
    assert times.rows[-1].values[1] == saved["run"]["losses"][-1][0]
