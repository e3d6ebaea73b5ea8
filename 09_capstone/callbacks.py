"""What happens beside the training: a progress bar, logs, samples and checkpoints."""

import math
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
from training_loop import Callback, StepReport, Trainer
from utils.config import SampleConfig, TrainConfig, save_config
from utils.files import atomic_write_text
from utils.visualization import plot_training_curves


class ProgressBar(Callback):
    """One line that moves on a terminal, and a line that stays for every evaluation."""

    def __init__(self, max_steps: int) -> None:
        self.bar = tqdm(
            total=max_steps,
            disable=None,  # where there is no terminal, only the evaluations are printed
            ncols=79,
            bar_format="{percentage:3.0f}% |{bar}| {postfix} [{elapsed}<{remaining}]",
        )

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Move the bar; print a line where the model was evaluated."""
        speed = report.tokens / report.seconds
        self.bar.total = trainer.max_steps
        self.bar.set_postfix_str(
            f"loss {report.train_loss:.3f}, {speed / 1000:.1f}k tokens/s", refresh=False
        )
        self.bar.update()
        if report.val_loss is not None:
            tqdm.write(
                f"step {report.step:>5} of {trainer.max_steps}   train {report.train_loss:.4f}   "
                f"validation {report.val_loss:.4f}   {report.seconds:6.1f} s"
            )

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


class RunFolder(Callback):
    """Everything a run writes: configuration, environment, metrics, log, samples, checkpoints."""

    def __init__(
        self, path: Path, config: TrainConfig, data: TrainingData, model: TinyTransformerLM
    ) -> None:
        self.path, self.config, self.data, self.model = path, config, data, model
        self.best = math.inf
        self.val_loss = math.nan
        save_config(config, path / "config.yaml")
        write_environment(path)
        self.metrics = MetricsLog(path)
        self.log = TextLog(path / "log.txt")
        self.samples = path / "samples.txt"

    def on_step(self, trainer: Trainer, report: StepReport) -> None:
        """Write what is due after this step."""
        last = report.step == trainer.max_steps or trainer.stop
        if report.step % self.config.log_interval == 0 or last or report.val_loss is not None:
            self._log(report)
        if report.val_loss is not None:
            self.val_loss = report.val_loss
            if report.val_loss < self.best:
                self.best = report.val_loss
                self.save("best", report.step)
            self.save("last", report.step)
        every = self.config.sample_interval
        if every and (report.step % every == 0 or report.step == trainer.max_steps):
            self._sample(report.step)

    def save(self, name: str, step: int) -> None:
        """Write best.safetensors or last.safetensors."""
        info: dict[str, Any] = {"step": step, "corpus": self.data.name, "preset": self.path.name}
        if math.isfinite(self.val_loss):
            info["val_loss"] = self.val_loss
        path = self.path / f"{name}.safetensors"
        save_checkpoint(path, self.model, self.data.tokenizer, info)

    def close(self, trainer: Trainer) -> None:
        """Save where the run stands, close the logs, draw curves.png."""
        self.save("last", trainer.step)
        budget = replace(self.config, max_steps=trainer.max_steps)  # --max-minutes may cut it
        save_config(budget, self.path / "config.yaml")
        self.metrics.close()
        self.log.close()
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


def sample_text(model: TinyTransformerLM, tokenizer: CharTokenizer, sampling: SampleConfig) -> str:
    """One sample; a vocabulary without a newline starts from its first character."""
    prompt = sampling.prompt if set(sampling.prompt) <= set(tokenizer.characters) else ""
    prompt = prompt or ("\n" if "\n" in tokenizer.characters else tokenizer.characters[0])
    was_training = model.training
    (text,) = TextGenerator(model, model.config, tokenizer).generate([prompt], sampling)
    model.train(was_training)
    return text
