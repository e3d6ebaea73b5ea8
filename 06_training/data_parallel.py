"""Data parallelism: several workers train one model, each on a share of every batch.

    gradient of the batch = mean over the workers of the gradients of their shares

A loss is a mean over rows, and where all shares have equally many rows, the mean of their means is
the mean of all. So W workers start with the same weights, worker r takes rows r, r + W, r + 2W, ...
of the batch, DistributedDataParallel averages the gradients while the backward pass is still at
work (Li et al. 2020, "PyTorch Distributed", section 3.2), and every optimizer makes the same step.
No weights need to travel: what starts equal and moves equally stays equal.

`torchrun --nproc-per-node 2 PROGRAM` starts two workers and tells each in its environment which one
it is. They differ from one by rounding, and by dropout, which each draws for its own rows.

Dimensions: B rows in a batch, T positions, W workers; a share is (B / W, T).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.device import autocast
from utils.errors import CourseError, UsageError, run_program

TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")  # by torchrun
PATIENCE = timedelta(minutes=10)  # with one that is silent; one that dies is noticed at once


class LostWorkerError(CourseError):
    """A worker that the others need is gone."""


@contextmanager
def connected() -> Iterator[None]:
    """Tell a lost worker in one line, as LostWorkerError: PyTorch raises a plain RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        named = any(name in str(error) for name in ("gloo", "NCCL", "TCPStore"))
        if not (named or isinstance(error, dist.DistError)):
            raise
        reason = str(error).rpartition("] ")[2].partition(". ")[0]
        raise LostWorkerError(f"a worker is gone, crashed or killed ({reason:.90})") from None


@dataclass(frozen=True)
class Workers:
    """Who this process is among those that train together; by default it is alone."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # among those on this machine

    @property
    def is_main(self) -> bool:
        """Whether this is the one that decides, prints and writes."""
        return self.rank == 0

    def check(self, batch_size: int, device: torch.device) -> None:
        """Raise UsageError unless the rows can be shared, and every worker has a processor."""
        W, here = self.world_size, int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if batch_size % W:
            raise UsageError(f"batch_size {batch_size} is not divisible by the {W} workers")
        enough = device == torch.device("cuda") and here <= torch.cuda.device_count()
        if W > 1 and not (enough or device.type == "cpu"):
            raise UsageError(f"there is no {device} for each of {here} workers; try --device cpu")

    def shard(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """This worker's rows of x and y (B, T); every row is one worker's, and only one's."""
        x, y = batch
        return x[self.rank :: self.world_size], y[self.rank :: self.world_size]

    def wrap(self, model: nn.Module, x: Tensor, dtype: torch.dtype) -> nn.Module:
        """The same model, whose backward pass averages the gradients over the workers."""
        if self.world_size == 1:
            return model
        parallel = DistributedDataParallel(model, forward_sync_buffers=False)  # ours are constants
        # It sends gradients in the order in which they first came, and the order decides how sums
        # are rounded. A first pass for nothing: a resumed run must not begin in another order.
        with autocast(x.device, dtype):
            parallel(x).sum().backward()
        model.zero_grad(set_to_none=True)
        return parallel

    def averaging(self, model: nn.Module, now: bool) -> AbstractContextManager[object]:
        """Around a forward and backward pass: average its gradients, or wait for a later one's."""
        if now or not isinstance(model, DistributedDataParallel):
            return nullcontext()
        return model.no_sync()

    def add_up(self, value: float) -> float:
        """The sum of what the workers have; all of them get it, at the same point of the run."""
        total = torch.tensor(value, dtype=torch.float64)
        if self.world_size > 1:
            dist.all_reduce(total)
        return total.item()

    @connected()
    def from_main(self, value: Any) -> Any:
        """The main worker's value, for everyone. It travels as a pickle, between one's own only."""
        box = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def seed_dropout(self, seed: int, step: int) -> None:
        """Draw a step's dropout from (seed, step, rank): a state saved by one worker serves all."""
        if self.world_size > 1:
            torch.manual_seed(np.random.PCG64([seed, step, self.rank]).random_raw())

    def leave(self, code: int) -> int:
        """Wait until all have come to the end, so that nobody's leaving is taken for a death.

        Returns the exit code, alone. One worker of several ends its process with it, at once: a
        thread of gloo may still hold a tensor when Python takes itself apart, and that aborts.
        """
        if self.world_size > 1:
            with suppress(LostWorkerError), connected():
                dist.barrier()
            dist.destroy_process_group()
            sys.stdout.flush()
            os._exit(code)
        return code


@connected()
def init_from_environment() -> Workers:
    """Join the workers that torchrun has started; without it, or with one, work alone.

    Raises LostWorkerError if one of them does not come.
    """
    if any(name not in os.environ for name in TOLD) or os.environ["WORLD_SIZE"] == "1":
        return Workers()
    rank, local_rank, world_size = (int(os.environ[name]) for name in TOLD[:3])
    if n_gpus := torch.cuda.device_count():
        torch.cuda.set_device(local_rank % n_gpus)  # what "cuda" means here from now on
    dist.init_process_group("cpu:gloo,cuda:nccl" if n_gpus else "gloo", timeout=PATIENCE)
    return Workers(rank, world_size, local_rank)


def main() -> None:
    """Show that two shares have, on average, the gradient of the batch."""
    torch.manual_seed(0)
    x, y, weights = torch.randn(4, 3), torch.randn(4), torch.zeros(3, requires_grad=True)
    for workers in (Workers(0, world_size=2), Workers(1, world_size=2), Workers()):
        rows, targets = workers.shard((x, y))
        loss = (rows @ weights - targets).square().mean()
        (gradient,) = torch.autograd.grad(loss, weights)
        print(f"worker {workers.rank} of {workers.world_size}, {len(rows)} rows: {gradient}")


if __name__ == "__main__":
    run_program(main)
