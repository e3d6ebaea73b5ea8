"""Data parallelism: several processes train one model, each on a shard of every batch.

    gradient of the batch = mean over processes of the gradients of their shards

A loss is a mean over rows. If all shards have the same number of rows, the mean of their means is
the mean over the batch, and the same holds for gradients. So W processes start with equal weights,
rank r takes rows r, r + W, r + 2W, ... of the batch, DistributedDataParallel (DDP) averages the
gradients while the backward pass is still running (Li et al. 2020, "PyTorch Distributed", section
3.2), and every process takes the same optimizer step. The weights are never sent: they start equal
and change equally, so they stay equal.

The result differs from one process only by rounding, and by dropout, which each process draws for
its own rows.

Dimensions: B batch size, T sequence length, W number of processes; a shard is (B / W, T).
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_loader import Batch
from distributed_context import DistributedContext, lost_worker_errors
from evaluation import sum_losses
from time_budget import TimeBudget, Timed
from training_loop import Callback, Trainer
from utils.config import TrainConfig
from utils.device import autocast
from utils.errors import run_program


class DistributedTrainer(Trainer):
    """The training loop in each of several processes. It overrides only what has to differ."""

    @lost_worker_errors()
    def __init__(
        self,
        model: nn.Module,
        train_tokens: np.ndarray,
        val_tokens: np.ndarray,
        config: TrainConfig,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        callbacks: Sequence[Callback] = (),
        *,
        distributed: DistributedContext,
    ) -> None:
        distributed.validate(config.batch_size, device or torch.device("cpu"))
        super().__init__(model, train_tokens, val_tokens, config, device, dtype, callbacks)
        self.distributed = distributed
        # Every process loads the whole batch, and keeps its rows: no data is sent.
        x, _ = distributed.shard(self.loader.batch(0))
        self.parallel = wrap_model(self.model, x, dtype)
        self.forward = self.parallel  # train_step now averages; evaluate still uses self.model
        self.budget = SharedTimeBudget(config.max_minutes, distributed)

    @lost_worker_errors()
    def fit(self) -> float:
        """Train as one process would. Raises LostWorkerError if another process disappears."""
        return super().fit()

    def train_step(self) -> tuple[float, float, float]:
        """One optimizer step, the same in every process, with dropout drawn from (step, rank)."""
        self.distributed.seed_dropout(self.config.seed, self.step)
        return super().train_step()

    def _micro_batches(self) -> Iterator[Batch]:
        """This process's shards of the step's batches.

        The body of the loop in `train_step` runs while this generator waits at `yield`, so for all
        micro-batches but the last it runs inside `no_sync`. Gradients are added up locally, and
        averaged over the processes once, in the last backward pass.
        """
        last = self.config.accumulation - 1  # index of the micro-batch whose backward averages
        for micro, batch in enumerate(super()._micro_batches()):
            with nullcontext() if micro == last else self.parallel.no_sync():
                yield self.distributed.shard(batch)

    def _mean_loss(self, loss: float) -> float:
        """The mean over the shards' losses, which is the loss of the batch."""
        # (L_0 + L_1 + ...) / W: shards have equally many rows, so no weights are needed
        return self.distributed.all_reduce_sum(loss) / self.distributed.world_size

    def evaluate(self) -> float:
        """Each process adds up the losses of its rows; the sum of the sums is divided once."""
        total = sum_losses(self.model, self._val_batches(), self.dtype, self.should_stop)
        # sums, not means: the shards of the last batches differ in size
        return self.distributed.all_reduce_sum(total) / (len(self.val_tokens) - 1)

    def _val_batches(self) -> Iterator[Batch]:
        for batch in super()._val_batches():
            yield self.distributed.shard(batch)  # without rows if the batch has fewer than W

    def should_stop(self) -> bool:
        """Whether any process was told to stop: then all do, after the same step."""
        # One that stopped alone would leave the others waiting for its gradients.
        if self.distributed.all_reduce_sum(self.stop) > 0:
            self.stop = True
        return self.stop

    def state_dict(self) -> dict[str, Any]:
        """One state is enough for all processes; "workers" says how many must resume it."""
        return super().state_dict() | {"workers": self.distributed.world_size}


class SharedTimeBudget(TimeBudget):
    """One budget for all processes, measured by the main one: their schedules must be equal."""

    def __init__(self, max_minutes: float | None, distributed: DistributedContext) -> None:
        super().__init__(max_minutes)
        self.distributed = distributed

    def steps_for(self, trainer: Timed) -> int:
        """The number of steps that the main process has settled on."""
        if self.settled:
            return trainer.max_steps
        return self.distributed.broadcast(super().steps_for(trainer))


def wrap_model(model: nn.Module, x: Tensor, dtype: torch.dtype) -> DistributedDataParallel:
    """The same model, with a backward pass that averages the gradients over all processes.

    `x` is a batch of tokens for a first pass, whose result is discarded. DDP groups gradients for
    sending by the order in which the first pass produced them, and the grouping affects rounding.
    Without the extra pass, a resumed run would start with a different grouping than the
    uninterrupted run has at that step.
    """
    parallel = DistributedDataParallel(model, forward_sync_buffers=False)  # buffers are constants
    with autocast(x.device, dtype):
        parallel(x).sum().backward()  # any scalar that depends on all parameters will do
    model.zero_grad(set_to_none=True)
    return parallel


def main() -> None:
    """Show that the mean of two shards' gradients is the gradient of the whole batch."""
    torch.manual_seed(0)
    x = torch.randn(4, 3)
    y = torch.randn(4)
    weights = torch.zeros(3, requires_grad=True)
    both = [DistributedContext(rank, world_size=2) for rank in range(2)]
    for context in (*both, DistributedContext()):  # two halves, then the whole batch
        rows, targets = context.shard((x, y))
        loss = (rows @ weights - targets).square().mean()  # a mean over this rank's rows
        (gradient,) = torch.autograd.grad(loss, weights)
        print(f"rank {context.rank} of {context.world_size}, {len(rows)} rows: {gradient}")


if __name__ == "__main__":
    run_program(main)
