"""What happens beside the training: a progress bar, logs, samples and checkpoints."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from checkpointing import save_checkpoint
from experiment_tracking import write_environment
from fast_decoder import fast_decode_step
from generator import TextGenerator
from logging_utils import MetricsLog, TextLog, read_csv
from loss_functions import bits_per_char
from tensorboard_log import TensorBoardLog
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_data import TrainingData
from training_loop import Callback, StepReport, Trainer
from training_state import TrainingState, random_states, save_state
from utils.config import SampleConfig, TrainConfig, save_config
from utils.files import TEMPORARY_SUFFIX, atomic_write_text
from utils.visualization import plot_training_curves


class ProgressBar(Callback):
    """One line that moves on a terminal, and a line that stays for every evaluation."""

    def __init__(self, max_steps: int, done: int = 0) -> None:
        self.bar = tqdm(
            total=max_steps,
            initial=done,
            desc="starting",
            disable=None,  # where there is no terminal, only the evaluations are printed
            ncols=79,
            leave=False,
            bar_format="{percentage:3.0f}% |{bar}| {desc}, {remaining} left",
        )

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Move the bar; print a line where the model was evaluated."""
        speed = report.tokens / report.seconds
        self.bar.total = trainer.max_steps
        self.bar.set_description_str(
            f"loss {report.train_loss:.3f}, {speed / 1000:.1f}k tokens/s", refresh=False
        )
        self.bar.update()
        if report.val_loss is not None:
            tqdm.write(
                f"step {report.step:>5} of {trainer.max_steps}   train {report.train_loss:.4f}   "
                f"validation {report.val_loss:.4f}   {report.seconds:6.1f} s"
            )

    def close(self) -> None:
        """Take the bar away; the lines of the evaluations stay."""
        self.bar.close()


class RunFolder(Callback):
    """Everything a run writes: configuration, environment, metrics, log, samples, checkpoints.

    With `state`, the run goes on from there: what the files say beyond that step is taken back.
    Without, it begins, perhaps once more after it was killed before its first state.
    """

    def __init__(
        self,
        path: Path,
        config: TrainConfig,
        data: TrainingData,
        model: TinyTransformerLM,
        device: torch.device | None = None,
        state: TrainingState | None = None,
        run_id: str = "",
    ) -> None:
        self.path, self.config, self.data, self.model = path, config, data, model
        self.device = device or torch.device("cpu")
        self.run_id = run_id or path.name
        self.best = math.inf
        self.val_loss = math.nan
        self.evaluated_at = 0  # the step of that loss
        self.saving = 0.0  # seconds spent on states
        self.metrics = MetricsLog(path)
        self.log = TextLog(path / "log.txt")
        self.samples = path / "samples.txt"
        remove_leftovers(path)
        if state is None:
            save_config(config, path / "config.yaml")
            write_environment(path, config.device)
        else:
            self._go_on(state)
        # Rows and samples beyond the state will be written again. The row of a step is written
        # after its evaluation, which may still be due.
        step = state.step if state else 0
        kept = step - state.position["evaluation_due"] if state else 0
        self.metrics.truncate_after(kept)
        self.curves = TensorBoardLog(path, resumed_at=kept)
        keep_samples_until(self.samples, step)

    def _go_on(self, state: TrainingState) -> None:
        """Stand where the state was saved."""
        run = state.position["run"]
        self.best, self.evaluated_at = run["best"] or math.inf, run["evaluated_at"]
        self.val_loss = math.nan if run["val_loss"] is None else run["val_loss"]
        self.log.write(f"resumed at step {state.step}")

    @property
    def has_best(self) -> bool:
        """Whether an evaluation has given a number, so that there is a best.safetensors."""
        return math.isfinite(self.best)

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Write what is due after this step; the state comes after all that it counts on."""
        last = report.step == trainer.max_steps
        with naming(self.path):
            if report.step % self.config.log_interval == 0 or last or report.val_loss is not None:
                self._log(report)
            if report.val_loss is not None:
                self._save_evaluated(report.step, report.val_loss)
            if report.step % self.config.save_interval == 0 or last:
                self.save_state(trainer)
            self.sample_if_due(trainer)

    def _save_evaluated(self, step: int, val_loss: float) -> None:
        self.val_loss, self.evaluated_at = val_loss, step
        if val_loss < self.best:
            self.best = val_loss
            self.save("best", step)
        self.save("last", step)

    def save(self, name: str, step: int) -> None:
        """Write best.safetensors or last.safetensors."""
        info: dict[str, Any] = {"step": step, "corpus": self.data.name, "run": self.path.name}
        if step == self.evaluated_at and math.isfinite(self.val_loss):
            info["val_loss"] = self.val_loss
        path = self.path / f"{name}.safetensors"
        save_checkpoint(path, self.model, self.data.tokenizer, info)

    def save_state(self, trainer: Trainer) -> None:
        """Write the state that --resume goes on from."""
        start = time.perf_counter()
        self.metrics.sync()
        run = {
            "best": self.best if self.has_best else None,
            "val_loss": self.val_loss if math.isfinite(self.val_loss) else None,
            "evaluated_at": self.evaluated_at,
        }
        place = {
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "data": self.data.fingerprint,
        }
        state = TrainingState(
            self.model.state_dict(),
            [optimizer.state_dict() for optimizer in trainer.optimizers],
            random_states(),
            {**trainer.state_dict(), "run": run, "place": place},
        )
        save_state(self.path / "states", state, self.run_id)
        self.saving += time.perf_counter() - start

    def finish(self, trainer: Trainer, how: str, keep: bool = True) -> None:
        """Save where the run stands, and how it came to its end; draw curves.png.

        With `keep` false the weights are not worth saving, and the last good ones stay.
        """
        with naming(self.path):
            if keep:
                self.save("last", trainer.step)
                if trainer.step < trainer.max_steps or trainer.evaluation_due:
                    self.save_state(trainer)
            if how == "finished":
                save_config(settled(self.config, trainer), self.path / "config.yaml")
            share = self.saving / trainer.seconds if trainer.seconds else 0.0
            self.log.write(
                f"step {trainer.step} of {trainer.max_steps}: {how}; saving states took "
                f"{self.saving:.2f} s, {share:.1%} of the training"
            )
            self._draw()

    def close(self) -> None:
        """Close the files that grow."""
        self.metrics.close()
        self.curves.close()
        self.log.close()

    def _draw(self) -> None:
        rows = read_csv(self.path / "metrics.csv")
        if not rows:
            return
        bits = self.data.entropy_bits_per_char
        floor = None if bits is None else bits * math.log(2)
        title = f"{self.path.name} on {self.data.name}"
        plot_training_curves(rows, floor=floor, title=title, path=self.path / "curves.png")

    def _log(self, report: StepReport) -> None:
        row = {
            "step": report.step,
            "train_loss": report.train_loss,
            "val_loss": report.val_loss,
            "learning_rate": report.learning_rate * self.config.lr,
            "grad_norm": report.grad_norm,
            "seconds": round(report.seconds, 3),
        }
        self.metrics.append(row)
        self.curves.append(row)
        if report.val_loss is not None:
            bits = bits_per_char(report.val_loss)
            self.log.write(
                f"step {report.step}: train {report.train_loss:.4f}, validation "
                f"{report.val_loss:.4f} ({bits:.4f} bits per character), {report.seconds:.1f} s"
            )

    def sample_if_due(self, trainer: Trainer) -> None:
        """Add a sample of this step to samples.txt, unless it is there; a stop leaves it out."""
        step, every = trainer.step, self.config.sample_interval
        if not every or not step or (step % every and step != trainer.max_steps):
            return
        before = self.samples.read_text(encoding="utf-8") if self.samples.exists() else ""
        heading = f"--- step {step} ---\n"
        if heading in before:
            return
        sampling = SampleConfig(max_tokens=300, seed=self.config.seed)
        text = sample_text(self.model, self.data.tokenizer, sampling, trainer)
        if not trainer.stop:
            atomic_write_text(self.samples, f"{before}{heading}{text}\n\n")


def remove_leftovers(folder: Path) -> None:
    """Remove the half-written files of a process that was killed in this folder."""
    for path in folder.glob(f".*.????????{TEMPORARY_SUFFIX}"):
        path.unlink()


def keep_samples_until(path: Path, step: int) -> None:
    """Take back the samples of later steps."""
    if not path.exists():
        return
    parts = re.split(r"^(?=--- step \d+ ---$)", path.read_text(encoding="utf-8"), flags=re.M)
    kept = [part for part in parts if part and int(part.split()[2]) <= step]
    atomic_write_text(path, "".join(kept))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the disk says where it happened: a full one does not know by itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def settled(config: TrainConfig, trainer: Trainer) -> TrainConfig:
    """The configuration that repeats this run: minutes have become a number of steps."""
    if config.max_minutes is None or not trainer.budget.settled:
        return config
    return replace(config, max_steps=trainer.max_steps, max_minutes=None)


def sample_text(
    model: TinyTransformerLM, tokenizer: CharTokenizer, sampling: SampleConfig, trainer: Trainer
) -> str:
    """One sample, from the model as it is now; cut short when the trainer is told to stop."""
    was_training = model.training
    pieces = []
    generator = TextGenerator(model, model.config, tokenizer, fast_decode_step)
    for piece in generator.stream(sampling):
        pieces.append(piece)
        if trainer.stop:
            break
    model.train(was_training)
    return "".join(pieces)
