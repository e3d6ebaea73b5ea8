"""What happens beside the training: a progress bar, logs, samples and checkpoints."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from checkpointing import save_checkpoint
from experiment_tracking import write_environment
from generator import TextGenerator
from logging_utils import MetricsLog, TextLog, read_csv
from loss_functions import bits_per_char
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_data import TrainingData
from training_loop import TIMED_STEPS, Callback, StepReport, Trainer
from utils.config import SampleConfig, TrainConfig, save_config
from utils.files import atomic_write_text
from utils.visualization import plot_training_curves


class ProgressBar(Callback):
    """One line that moves on a terminal, and a line that stays for every evaluation."""

    def __init__(self, max_steps: int) -> None:
        self.bar = tqdm(
            total=max_steps,
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
    """Everything a run writes: configuration, environment, metrics, log, samples, checkpoints."""

    def __init__(
        self, path: Path, config: TrainConfig, data: TrainingData, model: TinyTransformerLM
    ) -> None:
        self.path, self.config, self.data, self.model = path, config, data, model
        self.best = math.inf
        self.val_loss = math.nan
        self.evaluated_at = 0  # the step of that loss
        save_config(config, path / "config.yaml")
        write_environment(path, config.device)
        self.metrics = MetricsLog(path)
        self.log = TextLog(path / "log.txt")
        self.samples = path / "samples.txt"

    @property
    def has_best(self) -> bool:
        """Whether an evaluation has given a number, so that there is a best.safetensors."""
        return math.isfinite(self.best)

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Write what is due after this step."""
        last = report.step == trainer.max_steps or trainer.stop
        with naming(self.path):
            if report.step % self.config.log_interval == 0 or last or report.val_loss is not None:
                self._log(report)
            if report.val_loss is not None:
                self._save_evaluated(report.step, report.val_loss)
            every = self.config.sample_interval
            if every and (report.step % every == 0 or report.step == trainer.max_steps):
                self._sample(report.step)

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

    def finish(self, trainer: Trainer, how: str, keep: bool = True) -> None:
        """Save where the run stands, and how it came to its end; draw curves.png.

        With `keep` false the weights are not worth saving, and the last good ones stay.
        """
        with naming(self.path):
            if keep:
                self.save("last", trainer.step)
            save_config(settled(self.config, trainer), self.path / "config.yaml")
            self.log.write(f"step {trainer.step} of {trainer.max_steps}: {how}")
            self._draw()

    def close(self) -> None:
        """Close the files that grow."""
        self.metrics.close()
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
        if report.val_loss is not None:
            bits = bits_per_char(report.val_loss)
            self.log.write(
                f"step {report.step}: train {report.train_loss:.4f}, validation "
                f"{report.val_loss:.4f} ({bits:.4f} bits per character), {report.seconds:.1f} s"
            )

    def _sample(self, step: int) -> None:
        sampling = SampleConfig(max_tokens=300, seed=self.config.seed)
        text = sample_text(self.model, self.data.tokenizer, sampling)
        before = self.samples.read_text(encoding="utf-8") if self.samples.exists() else ""
        atomic_write_text(self.samples, f"{before}--- step {step} ---\n{text}\n\n")


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
    if trainer.step < TIMED_STEPS.stop:
        return config
    return replace(config, max_steps=trainer.max_steps, max_minutes=None)


def sample_text(model: TinyTransformerLM, tokenizer: CharTokenizer, sampling: SampleConfig) -> str:
    """One sample, from the model as it is now."""
    was_training = model.training
    (text,) = TextGenerator(model, model.config, tokenizer).generate([sampling.prompt], sampling)
    model.train(was_training)
    return text
