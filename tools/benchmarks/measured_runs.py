"""What was measured of a training run, and the files that let an interrupted measurement continue.

    DIR/runs/full-0.json           what was measured of the preset `full` with seed 0
    DIR/runs/full-0.safetensors    the trained model, for sample.py

DIR is the folder of --out. A run is measured again if the commit, the configuration, the text,
the processor or the number of threads has changed since.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from checkpointing import save_checkpoint
from experiment_tracking import environment_info
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.held_out import Losses
from training_data import TrainingData
from utils.config import TrainConfig, to_dict
from utils.errors import CourseError
from utils.files import atomic_write_text


@dataclass(frozen=True)
class MeasuredRun:
    """One training run: its validation losses, its times, and the units around it."""

    losses: tuple[tuple[float, float], ...]  # (seconds of training, validation loss)
    steps: int
    total: float  # seconds including the evaluations
    held_out: Mapping[str, Losses]  # of the model after the last step
    units: tuple[float, ...] = ()  # seconds of one unit, before and after; empty if not measured

    @property
    def final(self) -> float:
        """The last validation loss."""
        return self.losses[-1][1]

    @property
    def seconds(self) -> float:
        """The training time, without evaluations."""
        return self.losses[-1][0]

    def seconds_to(self, target: float) -> float | None:
        """When the loss was first at or below `target`; None if it never was."""
        return next((seconds for seconds, loss in self.losses if loss <= target), None)


class RunFolder:
    """DIR/runs: what earlier calls have measured. Without a folder, nothing is kept."""

    def __init__(self, out: Path | None, data: TrainingData) -> None:
        self.folder = None if out is None else out / "runs"
        self.data = data

    def measured(
        self,
        name: str,
        config: TrainConfig,
        measure: Callable[[TrainConfig], tuple[MeasuredRun, TinyTransformerLM]],
    ) -> MeasuredRun:
        """What the folder holds of this run; if nothing, `measure` it and save the result.

        Raises CourseError if the file of the run is damaged.
        """
        if self.folder is None:
            return measure(config)[0]
        path = self.folder / f"{name}.json"
        identity = self._identity(config)
        found = _read(path, identity) if path.exists() else None
        if found is not None:
            return found
        run, model = measure(config)
        self.folder.mkdir(parents=True, exist_ok=True)
        info = {"step": run.steps, "corpus": self.data.name, "val_loss": run.final}
        save_checkpoint(path.with_suffix(".safetensors"), model, self.data.tokenizer, info)
        atomic_write_text(path, json.dumps({**identity, "run": asdict(run)}, indent=1) + "\n")
        return run

    def _identity(self, config: TrainConfig) -> dict[str, Any]:
        """What must be the same for a run to count as measured."""
        environment = environment_info("cpu")
        kept = {key: environment[key] for key in ("cpu", "torch", "torch_threads", "git")}
        data = {"name": self.data.name, "fingerprint": self.data.fingerprint}
        identity = {"environment": kept, "config": to_dict(config), "data": data}
        return json.loads(json.dumps(identity))  # as it will be read


def _read(path: Path, identity: Mapping[str, Any]) -> MeasuredRun | None:
    """The run in the file; None if it belongs to another measurement."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        run = saved.pop("run")
        held_out = {part: Losses(**losses) for part, losses in run["held_out"].items()}
        losses = tuple((seconds, loss) for seconds, loss in run["losses"])
        found = MeasuredRun(losses, run["steps"], run["total"], held_out, tuple(run["units"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CourseError(f"{path} is damaged; delete it to measure again: {error!r}") from None
    git = identity["environment"]["git"]
    is_known = git is not None and not git["dirty"]  # else the code may have changed unnoticed
    return found if is_known and saved == identity else None
