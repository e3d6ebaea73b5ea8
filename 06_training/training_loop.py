"""The training loop: predict the next token, measure the loss, take a step downhill, repeat.

    for each step:   loss = cross_entropy(model(x), y)      how wrong were the predictions?
                     loss.backward()                        how does each weight change the loss?
                     clip, optimizer.step()                 change every weight a little

Progress bars, logs, checkpoints and samples are `Callback`s. Training in several processes is a
subclass (data_parallel.py). What remains is the loop itself: read `Trainer.train_step` first.

Dimensions: B batch size, T sequence length.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from clipping import check_finite, clip_gradients_
from data_loader import Batch, DataLoader, evaluation_blocks
from evaluation import TOKENS_PER_BATCH, sum_losses
from loss_functions import cross_entropy
from param_groups import build_optimizers, set_learning_rate_
from run_progress import RunProgress, StepReport
from schedules import learning_rate_ratio
from utils.config import ModelConfig, TrainConfig
from utils.device import autocast, seed_everything
from utils.errors import run_program


class Callback:
    """Called by the trainer during a run. Override what you need."""

    def on_step(self, trainer: "Trainer", report: StepReport) -> None:
        """Called after every step, and after its evaluation if there was one."""


class Trainer(RunProgress):
    """Train a model on one array of tokens and evaluate it on another.

    A batch depends on (seed, step) alone, so two runs with one seed see the same data. Set `stop`
    to end after the current step, or after the current batch of an evaluation.
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
    ) -> None:
        super().__init__(config)
        self.device = device or torch.device("cpu")
        self.dtype = dtype
        self.callbacks = callbacks
        self.seq_len = config.model.max_seq_len
        self.model = model.to(self.device)
        self.forward = self.model  # what train_step calls; a subclass may wrap the model
        self.loader = DataLoader(
            train_tokens, config.batch_size, self.seq_len, config.seed, self.device
        )
        self.val_tokens = val_tokens
        self.optimizers = build_optimizers(self.model, config, dtype)
        self.stop = False  # set it to end after the current step

    @property
    def tokens_per_step(self) -> int:
        """How many tokens one optimizer step learns from."""
        return self.config.batch_size * self.config.accumulation * self.seq_len

    def train_step(self) -> tuple[float, float, float]:
        """Take one optimizer step; return the loss, the gradient norm, the learning rate ratio.

        Raises CourseError if the loss or a gradient is not finite, before any weight changes.
        """
        self.model.train()
        total = torch.zeros((), device=self.device)
        # 1. Batch: tokens x (B, T), and for each position the token that follows, y (B, T)
        for x, y in self._micro_batches():
            # 2. Forward: a score for every token of the vocabulary, at every position
            with autocast(self.device, self.dtype):
                logits = self.forward(x)  # (B, T, vocab_size)
            # 3. Loss: micro-batches are equally large, so the mean of their means is the batch's
            loss = cross_entropy(logits.float(), y) / self.config.accumulation
            # 4. Backward: adds this micro-batch's gradients to parameter.grad
            loss.backward()
            total += loss.detach()
        mean_loss = self._mean_loss(total.item())
        norm, ratio = self.update(mean_loss)
        self.step += 1
        return mean_loss, norm, ratio

    def update(self, loss: float) -> tuple[float, float]:
        """Change the weights by their gradients; return the gradient norm and the rate's ratio."""
        # 5. Clip: bound the length of the step that one bad batch can cause
        norm = clip_gradients_(self.model.parameters(), self.config.grad_clip)
        # 6. Check: past this point, a nan would spread to the weights
        check_finite(self.step + 1, loss, norm)
        # 7. Learning rate: the schedule's fraction of the peak
        ratio = learning_rate_ratio(self.config, self.step, self.max_steps)
        # 8. Optimizer step
        for optimizer in self.optimizers:
            set_learning_rate_(optimizer, ratio)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # the next backward starts from nothing
        return norm, ratio

    def fit(self) -> float:
        """Train to the last step, or until `stop`; return the last validation loss."""
        if self.step == 0:
            seed_everything(self.config.seed)  # only dropout draws from the global generator
        self.budget.start()
        if self.evaluation_due:
            self._after_step()
        while self.step < self.max_steps and not self.should_stop():
            start = time.perf_counter()
            loss, norm, ratio = self.train_step()
            self.seconds += time.perf_counter() - start
            tokens = self.step * self.tokens_per_step
            self.report = StepReport(self.step, loss, ratio, norm, tokens, self.seconds)
            self.max_steps = self.budget.steps_for(self)
            self._after_step()
        val_loss = self.report.val_loss if self.report else None
        return math.nan if val_loss is None else val_loss

    def _after_step(self) -> None:
        """Evaluate if it is time to, then call the callbacks; a stop leaves the evaluation due."""
        assert self.report is not None  # at least one step was taken
        last = self.step == self.max_steps
        self.evaluation_due = last or self.step % self.config.eval_interval == 0
        if self.evaluation_due:
            val_loss = self.evaluate()
            if self.stop and math.isnan(val_loss):
                return
            self.report = replace(self.report, val_loss=val_loss)
            self.evaluation_due = False
        for callback in self.callbacks:
            callback.on_step(self, self.report)

    def evaluate(self) -> float:
        """Mean loss over every position of the validation split; nan if `stop` is set meanwhile."""
        total = sum_losses(self.model, self._val_batches(), self.dtype, self.should_stop)
        return total / (len(self.val_tokens) - 1)

    # What follows is overridden in data_parallel.py, where several processes share each batch.

    def should_stop(self) -> bool:
        """Whether to end the run after the current step."""
        return self.stop

    def _micro_batches(self) -> Iterator[Batch]:
        """The batches of this step: `accumulation` of them, whose gradients add up."""
        n_micro = self.config.accumulation
        for i in range(n_micro):
            yield self.loader.batch(self.step * n_micro + i)

    def _val_batches(self) -> Iterator[Batch]:
        """The validation split, cut into batches."""
        n_rows = max(1, TOKENS_PER_BATCH // self.seq_len)
        return evaluation_blocks(self.val_tokens, self.seq_len, n_rows, self.device)

    def _mean_loss(self, loss: float) -> float:
        """The loss of the whole batch, given the loss of the rows that were computed here."""
        return loss


def main() -> None:
    """Teach a tiny model to count, and print the validation loss as it falls."""
    from tiny_transformer_lm import TinyTransformerLM
    from tokenizer import CharTokenizer

    text = "one two three four five six seven eight nine ten\n" * 40
    tokenizer = CharTokenizer.train(text)
    tokens = tokenizer.encode_array(text)
    model_config = ModelConfig(tokenizer.vocab_size, max_seq_len=32, d_model=32, n_layers=2)
    config = TrainConfig(model_config, max_steps=200, eval_interval=50, lr=1e-2, batch_size=8)

    class PrintLoss(Callback):
        def on_step(self, trainer: Trainer, report: StepReport) -> None:
            if report.val_loss is not None:
                print(f"step {report.step:>3}: validation loss {report.val_loss:.3f}")

    model = TinyTransformerLM(model_config)
    untrained = math.log(tokenizer.vocab_size)
    print(f"before training: log {tokenizer.vocab_size} = {untrained:.3f}")
    Trainer(model, tokens[:-200], tokens[-200:], config, callbacks=[PrintLoss()]).fit()


if __name__ == "__main__":
    run_program(main)
