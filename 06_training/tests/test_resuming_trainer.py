"""A resumed trainer ends with the same bits as an uninterrupted one.

What 08_engineering/training_state.py stores on disk is kept in memory here: weights, optimizers,
the state of the random generator, and the trainer's state_dict as JSON.
"""

import copy
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import training_loop
from run_progress import StepReport
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Callback, Trainer
from utils.config import ModelConfig, TrainConfig
from utils.errors import CourseError

V = 11
TOKENS = np.random.default_rng(0).integers(V, size=500).astype(np.uint16)
MODEL = ModelConfig(V, max_seq_len=8, d_model=16, n_layers=1, n_heads=2, dropout=0.2)
CONFIG = TrainConfig(
    MODEL, batch_size=4, max_steps=7, lr=1e-2, muon_lr=0.02, warmup_steps=3, eval_interval=3
)
CONFIGS = {
    "adamw, cosine": CONFIG,
    "muon, wsd": replace(CONFIG, optimizer="muon", schedule="wsd", weight_decay=0.1),
    "accumulation": replace(CONFIG, accumulation=3),
    "no clipping, constant": replace(CONFIG, grad_clip=0.0, schedule="constant"),
}


class Recorder(Callback):
    """Keeps all reports, without their times; stops training after a given step."""

    def __init__(self, stop_at: int = 0) -> None:
        self.reports: list[StepReport] = []
        self.stop_at = stop_at

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        self.reports.append(replace(report, seconds=0.0))
        trainer.stop = trainer.stop or report.step == self.stop_at


@dataclass(frozen=True)
class Saved:
    """Everything that determines what a trainer does next."""

    model: dict[str, Any]
    optimizers: list[dict[str, Any]]
    random: torch.Tensor
    progress: str  # JSON


def trainer_for(config: TrainConfig, recorder: Recorder, seed: int = 0) -> Trainer:
    model = TinyTransformerLM(config.model, seed=seed)
    return Trainer(model, TOKENS[:-100], TOKENS[-100:], config, callbacks=[recorder])


def saved(trainer: Trainer) -> Saved:
    states = [optimizer.state_dict() for optimizer in trainer.optimizers]
    progress = json.dumps(trainer.state_dict())
    model = copy.deepcopy(trainer.model.state_dict())
    return Saved(model, copy.deepcopy(states), torch.get_rng_state(), progress)


def resumed(config: TrainConfig, state: Saved, recorder: Recorder) -> Trainer:
    """A new trainer with other weights and another random state, restored from `state`."""
    trainer = trainer_for(config, recorder, seed=1)
    torch.rand(7)
    trainer.model.load_state_dict(state.model)
    for optimizer, old in zip(trainer.optimizers, copy.deepcopy(state.optimizers), strict=True):
        optimizer.load_state_dict(old)
    trainer.load_state_dict(json.loads(state.progress))
    torch.set_rng_state(state.random)
    return trainer


def bits_of(trainer: Trainer) -> bytes:
    """The bytes of weights, optimizer states and random generator."""
    states = [optimizer.state_dict()["state"] for optimizer in trainer.optimizers]
    file = io.BytesIO()
    for tensor in (
        *trainer.model.state_dict().values(),
        *(x for state in states for values in state.values() for x in values.values()),
        torch.get_rng_state(),
    ):
        file.write(tensor.detach().numpy().tobytes())
    return file.getvalue()


def uninterrupted_run(config: TrainConfig) -> tuple[bytes, list[StepReport], float]:
    """An uninterrupted run."""
    recorder = Recorder()
    trainer = trainer_for(config, recorder)
    val_loss = trainer.fit()
    return bits_of(trainer), recorder.reports, val_loss


def stopped_run(config: TrainConfig, step: int) -> tuple[Saved, list[StepReport]]:
    """A run stopped after a step; 0 means before the first one."""
    recorder = Recorder(step)
    trainer = trainer_for(config, recorder)
    trainer.stop = step == 0
    trainer.fit()
    assert trainer.step == step
    return saved(trainer), recorder.reports


@pytest.mark.parametrize("step", range(8))
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_stopped_after_any_step_a_run_ends_with_the_same_weights_and_reports(
    config: TrainConfig, step: int
) -> None:
    state, before = stopped_run(config, step)
    recorder = Recorder()
    trainer = resumed(config, state, recorder)
    val_loss = trainer.fit()
    assert (bits_of(trainer), before + recorder.reports, val_loss) == uninterrupted_run(config)


def test_stopped_after_every_step_a_run_ends_with_the_same_weights_and_reports() -> None:
    recorder = Recorder(1)
    trainer = trainer_for(CONFIG, recorder)
    val_loss = trainer.fit()
    for step in range(2, 8):
        recorder.stop_at = step
        trainer = resumed(CONFIG, saved(trainer), recorder)
        val_loss = trainer.fit()
    assert (bits_of(trainer), recorder.reports, val_loss) == uninterrupted_run(CONFIG)


def forget_optimizer(state: Saved, trainer: Trainer) -> None:
    for optimizer in trainer.optimizers:
        optimizer.state.clear()


def forget_random(state: Saved, trainer: Trainer) -> None:
    torch.manual_seed(0)


def forget_weights(state: Saved, trainer: Trainer) -> None:
    trainer.model.load_state_dict(TinyTransformerLM(MODEL, seed=1).state_dict())


def forget_step(state: Saved, trainer: Trainer) -> None:
    trainer.step -= 1


@pytest.mark.parametrize("forget", [forget_optimizer, forget_random, forget_weights, forget_step])
def test_without_any_part_of_the_state_a_run_ends_differently(
    forget: Callable[[Saved, Trainer], None],
) -> None:
    state, _ = stopped_run(CONFIG, 4)
    trainer = resumed(CONFIG, state, Recorder())
    forget(state, trainer)
    trainer.fit()
    assert bits_of(trainer) != uninterrupted_run(CONFIG)[0]


# --- stopped during an evaluation -----------------------------------------------------------------


def stop_in_evaluation(
    monkeypatch: pytest.MonkeyPatch, trainer: Trainer, at_step: int
) -> list[int]:
    """Stop in the first batch of the evaluation at `at_step`; returns the batches seen in it."""
    batches: list[int] = []
    monkeypatch.setattr(training_loop, "evaluation_blocks", one_row_at_a_time)

    def count(model: nn.Module, inputs: object) -> None:
        if not model.training and trainer.step == at_step:
            batches.append(trainer.step)
            trainer.stop = True

    trainer.model.register_forward_pre_hook(count)
    return batches


def one_row_at_a_time(*arguments: Any) -> Any:
    """The blocks of an evaluation, in batches of one row."""
    tokens, seq_len, _, device = arguments
    return BLOCKS(tokens, seq_len, 1, device)


BLOCKS = training_loop.evaluation_blocks


@pytest.mark.parametrize("step", [3, 6, 7])
def test_stopped_during_an_evaluation_a_run_ends_after_one_batch_and_evaluates_when_resumed(
    monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "evaluation_blocks", one_row_at_a_time)
        expected = uninterrupted_run(CONFIG)
    recorder = Recorder()
    trainer = trainer_for(CONFIG, recorder)
    batches = stop_in_evaluation(monkeypatch, trainer, step)
    trainer.fit()
    assert len(batches) == 1 < len(list(one_row_at_a_time(TOKENS[-100:], 8, 1, "cpu")))
    assert (trainer.step, trainer.evaluation_due) == (step, True)
    # the report of the last step is still due
    assert [report.step for report in recorder.reports] == list(range(1, step))
    trainer = resumed(CONFIG, saved(trainer), recorder)
    val_loss = trainer.fit()
    assert (bits_of(trainer), recorder.reports, val_loss) == expected
    assert not trainer.evaluation_due


def test_an_evaluation_that_gives_nan_is_not_mistaken_for_a_stopped_one() -> None:
    recorder = Recorder()
    trainer = trainer_for(replace(CONFIG, max_steps=3), recorder)
    trainer.evaluate = lambda: math.nan
    trainer.fit()
    assert [report.step for report in recorder.reports] == [1, 2, 3]
    assert not trainer.evaluation_due


# --- the state dict -------------------------------------------------------------------------------


def test_a_state_dict_is_json_and_is_restored_unchanged() -> None:
    state, _ = stopped_run(CONFIG, 4)
    progress = json.loads(state.progress)
    again = resumed(CONFIG, state, Recorder()).state_dict()
    spent = (progress.pop("budget").pop("spent"), again.pop("budget").pop("spent"))
    assert again == progress
    assert spent[0] > 0
    assert (progress["step"], progress["max_steps"]) == (4, 7)


def test_the_last_validation_loss_is_known_after_a_resume_at_the_end() -> None:
    state, before = stopped_run(CONFIG, 7)
    assert resumed(CONFIG, state, Recorder()).fit() == before[-1].val_loss


def test_the_seconds_of_training_continue_from_the_saved_value() -> None:
    seconds: list[float] = []

    class Clock(Recorder):
        def on_step(self, trainer: Trainer, report: StepReport) -> None:
            super().on_step(trainer, report)
            seconds.append(report.seconds)

    trainer = trainer_for(CONFIG, Clock(4))
    trainer.fit()
    resumed(CONFIG, saved(trainer), Clock()).fit()
    assert len(seconds) == 7
    assert seconds == sorted(seconds)


# --- nan ------------------------------------------------------------------------------------------


def nan(*given: Any) -> Any:
    return given[-1] * math.nan


def spoil(trainer: Trainer, what: str) -> Any:
    """From now on, make the data, the loss or a gradient NaN."""
    if what == "gradient":
        return next(trainer.model.parameters()).register_hook(nan)
    name = {"data": "token_embedding", "loss": ""}[what]
    return trainer.model.get_submodule(name).register_forward_hook(nan)


NAMED = {"data": "loss is nan", "loss": "loss is nan", "gradient": "gradient norm is nan"}


@pytest.mark.parametrize("what", NAMED)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_nan_stops_before_the_step_and_without_it_the_run_can_continue(
    what: str, optimizer: str
) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    state, _ = stopped_run(config, 4)
    trainer = resumed(config, state, Recorder())
    before = bits_of(trainer)[: -len(torch.get_rng_state())]  # dropout has advanced the generator
    hook = spoil(trainer, what)
    with pytest.raises(CourseError, match=f"^step 5: the {NAMED[what]}; [^\n]+$"):
        trainer.fit()
    assert bits_of(trainer)[: len(before)] == before
    assert trainer.step == 4
    hook.remove()
    trainer = resumed(config, state, Recorder())
    trainer.fit()
    assert bits_of(trainer) == uninterrupted_run(config)[0]


@pytest.mark.parametrize("what", NAMED)
def test_without_the_check_nan_would_reach_the_weights(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(training_loop, "check_finite", lambda *_: None)
    trainer = trainer_for(CONFIG, Recorder())
    spoil(trainer, what)
    trainer.fit()
    assert any(parameter.isnan().any() for parameter in trainer.model.parameters())
