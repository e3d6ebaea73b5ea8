"""The weights that a run saves: checkpoints for sampling, and states for --resume."""

import math
import time
from pathlib import Path
from typing import Any

import torch

from checkpointing import save_checkpoint
from loss_functions import bits_per_char
from tiny_transformer_lm import TinyTransformerLM
from training_data import TrainingData
from training_loop import Trainer
from training_state import TrainingState, random_states, save_state


class RunCheckpoints:
    """best.safetensors and last.safetensors, and the validation losses that tell them apart."""

    def __init__(self, folder: Path, model: TinyTransformerLM, data: TrainingData) -> None:
        self.folder = folder
        self.model = model
        self.data = data
        self.best = math.inf
        self.val_loss = math.nan
        self.evaluated_at = 0  # the step of that loss

    @property
    def has_best(self) -> bool:
        """Whether an evaluation gave a finite loss, so that best.safetensors exists."""
        return math.isfinite(self.best)

    def on_evaluation(self, step: int, val_loss: float) -> None:
        """Save the model as the last one, and as the best if its loss is the lowest."""
        self.val_loss = val_loss
        self.evaluated_at = step
        if val_loss < self.best:
            self.best = val_loss
            self.save("best", step)
        self.save("last", step)

    def save(self, name: str, step: int) -> None:
        """Write best.safetensors or last.safetensors."""
        info: dict[str, Any] = {"step": step, "corpus": self.data.name, "run": self.folder.name}
        if step == self.evaluated_at and math.isfinite(self.val_loss):
            info["val_loss"] = self.val_loss
            info["val_bits_per_char"] = bits_per_char(self.val_loss, self.data.chars_per_token)
        path = self.folder / f"{name}.safetensors"
        save_checkpoint(path, self.model, self.data.tokenizer, info)

    def state_dict(self) -> dict[str, Any]:
        """The losses, ready for JSON: None stands for a loss that is not finite."""
        return {
            "best": self.best if self.has_best else None,
            "val_loss": self.val_loss if math.isfinite(self.val_loss) else None,
            "evaluated_at": self.evaluated_at,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best = math.inf if saved["best"] is None else saved["best"]
        self.val_loss = math.nan if saved["val_loss"] is None else saved["val_loss"]
        self.evaluated_at = saved["evaluated_at"]


class RunStates:
    """states/: everything that --resume needs, and the time it took to save it."""

    def __init__(
        self,
        folder: Path,
        run_id: str,
        model: TinyTransformerLM,
        data: TrainingData,
        device: torch.device,
    ) -> None:
        self.folder = folder / "states"
        self.run_id = run_id
        self.model = model
        self.data = data
        self.device = device
        self.seconds = 0.0  # spent on saving

    def save(self, trainer: Trainer, losses: dict[str, Any]) -> None:
        """Write the state that --resume continues from."""
        start = time.perf_counter()
        position = {**trainer.state_dict(), "run": losses, "place": self._place()}
        state = TrainingState(
            self.model.state_dict(),
            [optimizer.state_dict() for optimizer in trainer.optimizers],
            random_states(),
            position,
        )
        save_state(self.folder, state, self.run_id)
        self.seconds += time.perf_counter() - start

    def _place(self) -> dict[str, Any]:
        """The device, the threads and the data, which must be the same for an exact resume."""
        return {
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "data": self.data.fingerprint,
        }
