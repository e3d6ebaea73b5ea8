"""The training loop: guess, measure the surprise, walk a step downhill, again.

    for each step:   loss = cross_entropy(model(x), y)      how surprised was the model?
                     loss.backward()                        how does each weight change that?
                     clip, optimizer.step()                 change every weight a little

Everything around it (progress bars, logs, checkpoints, samples) is a `Callback`, so that the loop
itself stays short enough to see whole.

Dimensions: B batch, T sequence length.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from clipping import clip_gradients_
from data_loader import DataLoader, evaluation_blocks
from data_parallel import Workers, connected
from loss_functions import cross_entropy
from param_groups import build_optimizers
from schedules import learning_rate_at
from time_budget import TimeBudget
from utils.config import ModelConfig, TrainConfig
from utils.device import autocast, seed_everything
from utils.errors import CourseError, run_program


@dataclass(frozen=True)
class StepReport:
    """What happened in one step; losses are means in nats per token."""

    step: int  # steps done, counting this one
    train_loss: float
    learning_rate: float  # as a share of the peak
    grad_norm: float  # before clipping
    tokens: int  # seen since the run began
    seconds: float  # of training, without evaluation and callbacks
    val_loss: float | None = None  # where this step was evaluated


class Callback:
    """Something that wants to know how training goes. Override what you need."""

    def on_step(self, trainer: "Trainer", report: StepReport) -> None:
        """Called after every step, and after the evaluation if there was one."""


class Trainer:
    """Train a model on one row of tokens and evaluate it on another.

    The batch is a function of (seed, step), so two runs of one seed see the same data. Set `stop`
    to end after the current step, or the current batch of an evaluation. `position` and `resume`
    carry everything that is no tensor from one process to the next.
    """

    def __init__(
        self,
        model: nn.Module,
        train_tokens: np.ndarray,
        val_tokens: np.ndarray,
        config: TrainConfig,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        callbacks: Sequence[Callback] = (),
        workers: Workers | None = None,
    ) -> None:
        self.config = config
        self.device = device or torch.device("cpu")
        self.workers = workers or Workers()
        self.workers.check(config.batch_size, self.device)
        self.dtype = dtype
        self.model = model.to(self.device)
        self.callbacks = callbacks
        self.context = config.model.max_seq_len
        self.loader = DataLoader(
            train_tokens, config.batch_size, self.context, config.seed, self.device
        )
        example, _ = self.workers.shard(self.loader.batch(0))
        self.parallel = self.workers.wrap(self.model, example, dtype)  # the same weights
        self.val_tokens = val_tokens
        self.optimizers = build_optimizers(model, config, dtype)
        self.max_steps = config.max_steps
        self.step = 0
        self.seconds = 0.0
        self.stop = False
        self.report: StepReport | None = None  # of the last step
        self.evaluation_due = False  # that step's evaluation was stopped half way
        self.budget = TimeBudget(config.max_minutes)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from."""
        return self.config.batch_size * self.config.accumulation * self.context

    @connected()
    def fit(self) -> float:
        """Train to the end, or until `stop`; return the last validation loss."""
        if self.step == 0:
            seed_everything(self.config.seed)  # dropout is the only draw left
        self.budget.start()
        if self.evaluation_due:
            self._after_step()
        while self.step < self.max_steps and not self.stopping():
            start = time.perf_counter()
            loss, norm, rate = self.train_step()
            self.seconds += time.perf_counter() - start
            tokens = self.step * self.tokens_per_step
            self.report = StepReport(self.step, loss, rate, norm, tokens, self.seconds)
            if not self.budget.settled:
                self.max_steps = self.workers.from_main(self.budget.steps(self))
            self._after_step()
        val_loss = self.report.val_loss if self.report else None
        return math.nan if val_loss is None else val_loss

    def stopping(self) -> bool:
        """Whether any worker was told to stop: then all do, after the same step."""
        if stop := self.workers.add_up(self.stop) > 0:
            self.stop = True
        return stop

    def _after_step(self) -> None:
        """Evaluate if it is time, and tell the callbacks; a stop on the way leaves it due."""
        assert self.report is not None  # a step has been taken
        self.evaluation_due = (
            self.step % self.config.eval_interval == 0 or self.step == self.max_steps
        )
        if self.evaluation_due:
            val_loss = self.evaluate()
            if self.stop and math.isnan(val_loss):
                return
            self.report = replace(self.report, val_loss=val_loss)
            self.evaluation_due = False
        for callback in self.callbacks:
            callback.on_step(self, self.report)

    def position(self) -> dict[str, Any]:
        """Where the run stands, ready for JSON; the tensors are the model's and optimizers'."""
        return {
            "step": self.step,
            "max_steps": self.max_steps,
            "seconds": self.seconds,
            "evaluation_due": self.evaluation_due,
            "report": asdict(self.report) if self.report else None,
            "budget": self.budget.position(),
            "workers": self.workers.world_size,
        }

    def resume(self, position: Mapping[str, Any]) -> None:
        """Stand where another trainer of this configuration said it stood."""
        self.step, self.max_steps = position["step"], position["max_steps"]
        self.seconds, self.evaluation_due = position["seconds"], position["evaluation_due"]
        self.report = StepReport(**position["report"]) if position["report"] else None
        self.budget.resume(position["budget"])

    def train_step(self) -> tuple[float, float, float]:
        """One step of the optimizer; returns loss, gradient norm and learning rate ratio.

        Raises CourseError when loss or gradient is not finite, before any weight has changed.
        """
        self.model.train()
        total = torch.zeros((), device=self.device)
        n_micro = self.config.accumulation
        self.workers.seed_dropout(self.config.seed, self.step)
        for micro in range(n_micro):
            x, y = self.workers.shard(self.loader.batch(self.step * n_micro + micro))
            with self.workers.averaging(self.parallel, now=micro == n_micro - 1):
                with autocast(self.device, self.dtype):
                    logits = self.parallel(x)  # (B, T, vocab_size)
                loss = cross_entropy(logits.float(), y) / n_micro
                loss.backward()
            total += loss.detach()
        mean_loss = self.workers.add_up(total.item()) / self.workers.world_size
        norm = clip_gradients_(self.model.parameters(), self.config.grad_clip)
        self._check_finite(mean_loss, norm)
        rate = self._set_learning_rate()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return mean_loss, norm, rate

    @torch.inference_mode()
    def evaluate(self) -> float:
        """Mean loss over every position of the validation split, in blocks that do not overlap.

        nan if `stop` is set on the way.
        """
        self.model.eval()
        total = 0.0
        rows = max(1, 8192 // self.context)
        for batch in evaluation_blocks(self.val_tokens, self.context, rows, self.device):
            if self.stopping():
                return math.nan
            x, y = self.workers.shard(batch)
            if len(x) == 0:  # the last batches have few rows, and other workers have them
                continue
            with autocast(self.device, self.dtype):
                logits = self.model(x)
            total += cross_entropy(logits.float(), y).item() * y.numel()
        return self.workers.add_up(total) / (len(self.val_tokens) - 1)

    def _set_learning_rate(self) -> float:
        config = self.config
        rate = learning_rate_at(
            self.step,
            config.schedule,
            max_steps=self.max_steps,
            warmup_steps=config.warmup_steps,
            decay_steps=round(config.decay_fraction * self.max_steps),
            min_ratio=config.min_lr_ratio,
        )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * rate
        return rate

    def _check_finite(self, loss: float, norm: float) -> None:
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                raise CourseError(
                    f"step {self.step + 1}: the {name} is {value}; no weight was changed by it. "
                    "A smaller learning rate is the usual cure"
                )


def main() -> None:
    """Teach a tiny model to count, and print the loss as it falls."""
    from tiny_transformer_lm import TinyTransformerLM
    from tokenizer import CharTokenizer

    text = "one two three four five six seven eight nine ten\n" * 40
    tokenizer = CharTokenizer.train(text)
    tokens = tokenizer.encode_array(text)
    model_config = ModelConfig(tokenizer.vocab_size, max_seq_len=32, d_model=32, n_layers=2)
    config = TrainConfig(model_config, max_steps=200, eval_interval=50, lr=1e-2, batch_size=8)

    class Print(Callback):
        def on_step(self, trainer: Trainer, report: StepReport) -> None:
            if report.val_loss is not None:
                print(f"step {report.step:>3}: validation loss {report.val_loss:.3f}")

    model = TinyTransformerLM(model_config)
    print(f"a model that knows nothing loses log {tokenizer.vocab_size} = ", end="")
    print(f"{math.log(tokenizer.vocab_size):.3f}")
    Trainer(model, tokens[:-200], tokens[-200:], config, callbacks=[Print()]).fit()


if __name__ == "__main__":
    run_program(main)
