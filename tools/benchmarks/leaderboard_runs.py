"""What the folder of a run tells the leaderboard, and its evaluation, computed again.

The evaluation comes from best.safetensors and the text on this machine, in float32, whatever the
precision of the run was: bfloat16 changes the loss in the fifth digit.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from checkpointing import Checkpoint, load_checkpoint
from evaluation import block_loss, equal_context, equal_evaluation_loss
from logging_utils import read_csv
from parts import Parts
from resuming import stored_config
from run_folder import read_json, run_id_of
from run_summary import curve
from training_data import TrainingData, load_training_data
from training_state import last_good_state
from utils.config import TrainConfig
from utils.errors import CourseError

FOLDER_FLAGS = {"--out-dir": 1, "--checkpoint-dir": 1, "--overwrite": 0, "--seed": 1}  # their words


@dataclass(frozen=True)
class EntryRun:
    """One run of an entry; each property reads a file. Raises CourseError, OSError or ValueError
    for a missing or damaged one, KeyError or TypeError for one that an older version wrote."""

    folder: Path

    @property
    def name(self) -> str:
        """How messages call the run."""
        return self.folder.resolve().name

    @cached_property
    def config(self) -> TrainConfig:
        """config.yaml. Raises CourseError, also for a run of post_train.py."""
        return stored_config(self.folder)

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """environment.json: processor, threads, commit, command."""
        return read_json(self.folder / "environment.json")

    @cached_property
    def result(self) -> Mapping[str, Any]:
        """result.json, which is written when a run reaches its end."""
        return read_json(self.folder / "result.json")

    @cached_property
    def position(self) -> Mapping[str, Any]:
        """What the newest state says of the run: data, threads, processes."""
        state, _ = last_good_state(self.folder / "states", run_id_of(self.folder))
        return state.position if state else {}

    @property
    def was_resumed(self) -> bool:
        """Whether the run was interrupted and continued, maybe by other code."""
        return "  resumed at step" in (self.folder / "log.txt").read_text(encoding="utf-8")

    @property
    def threads(self) -> int:
        """The threads of all processes of the run together."""
        workers = self.position.get("workers", 1)
        return workers * max(self.environment["torch_threads"], self.position["place"]["threads"])

    @property
    def seconds(self) -> float:
        """Seconds of training, without evaluations."""
        rows = curve(read_csv(self.folder / "metrics.csv"), "seconds")
        if not rows:
            raise CourseError("metrics.csv has no seconds")
        return rows[-1][1]

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model that the run has published."""
        return load_checkpoint(self.folder / "best.safetensors")

    @property
    def parameters(self) -> int:
        """The model's parameters; tied weights count once."""
        return sum(weight.numel() for weight in self.checkpoint.weights.values())

    @cached_property
    def data(self) -> TrainingData:
        """The text of the run as this machine has it, split and encoded as train.py does it."""
        return load_training_data(self.config.data, tokenizer=self.checkpoint.tokenizer)

    @cached_property
    def losses(self) -> tuple[float, float]:
        """The loss of best.safetensors, computed again, in nats per character: at the model's own
        context, and at equal evaluation."""
        model = self.checkpoint.build_model(Parts.fused_for(torch.device("cpu"), torch.float32))
        T, per_token = self.checkpoint.model_config.max_seq_len, self.data.chars_per_token
        own = block_loss(model, self.data.val, T) / per_token
        if equal_context(T, per_token) == T:
            return own, own
        return own, equal_evaluation_loss(model, self.data.val, T, per_token)

    @property
    def recorded_losses(self) -> tuple[float, float]:
        """The same two losses as the run itself recorded them."""
        return self.result["best"] / self.data.chars_per_token, self.result["equal_evaluation"]

    @property
    def command(self) -> str:
        """What to type to repeat the run with another seed, in a folder of its own."""
        words, kept = list(self.environment["command"][1:]), []
        while words:
            word = words.pop(0)
            flag, given, _ = word.partition("=")
            if flag in FOLDER_FLAGS:
                del words[: 0 if given else FOLDER_FLAGS[flag]]
            else:
                kept.append(word)
        if not any(word.partition("=")[0] == "--dtype" for word in kept):
            kept += ["--dtype", self.config.dtype]
        return f"python 09_capstone/train.py {shlex.join(kept)}"
