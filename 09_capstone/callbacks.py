"""RunRecorder: everything that a training run writes into its folder.

    metrics.csv, metrics.jsonl, tensorboard/, log.txt     run_metrics.py
    best.safetensors, last.safetensors, states/           run_checkpoints.py
    samples.txt, samples.jsonl                            run_samples.py
    config.yaml, environment.json                         here

The trainer calls it after every step; train.py calls `finish` when the loop has ended.
"""

from dataclasses import replace
from pathlib import Path

import torch

from experiment_tracking import write_environment
from logging_utils import TextLog
from run_checkpoints import RunCheckpoints, RunStates
from run_metrics import RunMetrics
from run_samples import RunSamples
from tiny_transformer_lm import TinyTransformerLM
from training_data import TrainingData
from training_loop import Callback, StepReport, Trainer
from training_state import TrainingState
from utils.config import TrainConfig, save_config
from utils.files import TEMPORARY_SUFFIX, naming_errors


class RunRecorder(Callback):
    """Writes what is due after each step; each kind of file has a class of its own.

    With `state`, the run resumes from it, and anything its files contain beyond that step is
    removed. Without, the run starts from the beginning, also if it was killed before it saved its
    first state.
    """

    make_checkpoints = RunCheckpoints

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        data: TrainingData,
        model: TinyTransformerLM,
        device: torch.device | None = None,
        state: TrainingState | None = None,
        run_id: str = "",
    ) -> None:
        self.folder = folder
        self.config = config
        self.data = data
        device = device or torch.device("cpu")
        remove_leftovers(folder)
        self.log = TextLog(folder / "log.txt")
        self.metrics = RunMetrics(folder, config, self.log, state, data.chars_per_token)
        self.checkpoints = self.make_checkpoints(folder, model, data)
        self.states = RunStates(folder, run_id or folder.name, model, data, device)
        self.samples = RunSamples(folder, config, model, data.tokenizer)
        self.samples.remove_from(state.step if state else 0)
        if state is None:
            save_config(config, folder / "config.yaml")
            write_environment(folder, config.device)
        else:
            self.checkpoints.load_state_dict(state.position["run"])
            self.log.write(resumed_line(state, device))

    @property
    def best(self) -> float:
        """The lowest validation loss so far; infinite before the first evaluation."""
        return self.checkpoints.best

    @property
    def has_best(self) -> bool:
        """Whether there is a best.safetensors to publish."""
        return self.checkpoints.has_best

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Write what is due after this step; the state comes after everything it relies on."""
        is_last = report.step == trainer.max_steps
        with naming_errors(self.folder):
            self.metrics.on_step(report, is_last)
            if report.val_loss is not None:
                self.checkpoints.on_evaluation(report.step, report.val_loss)
            if report.step % self.config.save_interval == 0 or is_last:
                self.save_state(trainer)
            self.samples.add_if_due(trainer)

    def save_state(self, trainer: Trainer) -> None:
        """Write the state that --resume continues from."""
        self.metrics.sync()
        self.states.save(trainer, self.checkpoints.state_dict())

    def finish(self, trainer: Trainer, outcome: str, keep: bool = True) -> None:
        """Save the run as it is now, and log how it ended.

        With `keep` false, the weights are not worth saving, and the last good ones are kept.
        """
        with naming_errors(self.folder):
            if keep:
                self.checkpoints.save("last", trainer.step)
                if trainer.step < trainer.max_steps or trainer.evaluation_due:
                    self.save_state(trainer)
            if outcome == "finished":
                save_config(repeatable(self.config, trainer), self.folder / "config.yaml")
            self.log.write(self._last_line(trainer, outcome))

    def _last_line(self, trainer: Trainer, outcome: str) -> str:
        seconds = self.states.seconds
        share = seconds / trainer.seconds if trainer.seconds else 0.0
        return (
            f"step {trainer.step} of {trainer.max_steps}: {outcome}; saving states took "
            f"{seconds:.2f} s, {share:.1%} of the training time"
        )

    def close(self) -> None:
        """Close the files that are still open."""
        self.metrics.close()
        self.log.close()


def resumed_line(state: TrainingState, device: torch.device) -> str:
    """The line of log.txt for a run that resumes, with a warning if it changes its device."""
    before = state.position["place"]["device"]
    if before == str(device):
        return f"resumed at step {state.step}"
    return (
        f"resumed at step {state.step} on {device}; the steps before ran on {before}, "
        "so this run is not bit-exact"
    )


def remove_leftovers(folder: Path) -> None:
    """Remove half-written files that a killed process left in this folder."""
    for path in folder.glob(f".*.????????{TEMPORARY_SUFFIX}"):
        path.unlink()


def repeatable(config: TrainConfig, trainer: Trainer) -> TrainConfig:
    """The configuration that repeats this run: minutes are replaced by the number of steps."""
    if config.max_minutes is None or not trainer.budget.settled:
        return config
    return replace(config, max_steps=trainer.max_steps, max_minutes=None)
