"""The processes that train together, and the operations by which they exchange values.

PyTorch calls such a set a process group. Each process has a rank, 0 to world_size - 1, and runs the
same program. Values are exchanged in collective operations: every process must call them at the
same point of the program, because each waits for all the others.

    all_reduce_sum(value)    every process gets the sum of all their values
    broadcast(value)         every process gets the value of rank 0
    barrier                  no process continues before the last one has arrived

`torchrun --nproc-per-node 2 PROGRAM` starts two processes and describes the group to each of them
in environment variables (docs.pytorch.org/docs/stable/elastic/run.html).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from utils.errors import CourseError, UsageError, run_program

# What torchrun sets in the environment of every process.
INTEGERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
TORCHRUN_VARIABLES = (*INTEGERS, "MASTER_ADDR")
TIMEOUT = timedelta(minutes=10)  # for a process that hangs; one that dies is noticed at once


class LostWorkerError(CourseError):
    """Another process of the group crashed, was killed, or never started."""


@contextmanager
def lost_worker_errors() -> Iterator[None]:
    """Raise LostWorkerError, in one line, where PyTorch raises a RuntimeError for a lost process.

    Works as a decorator too.
    """
    try:
        yield
    except RuntimeError as error:
        # A lost process has no exception class of its own; only the message names the backend.
        from_backend = any(name in str(error) for name in ("gloo", "NCCL", "TCPStore"))
        if not (from_backend or isinstance(error, dist.DistError)):
            raise
        reason = str(error).rpartition("] ")[2].partition(". ")[0]
        raise LostWorkerError(
            f"a worker process crashed, was killed or did not start ({reason:.90})"
        ) from None


@dataclass(frozen=True)
class DistributedContext:
    """This process's place in the group; the default is a group of one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # the rank among the processes on this machine
    local_world_size: int = 1  # how many processes are on this machine

    @property
    def is_main(self) -> bool:
        """Whether this is the process that decides, prints and writes."""
        return self.rank == 0

    def validate(self, batch_size: int, device: torch.device) -> None:
        """Raise UsageError unless the batch divides evenly and every process has a device."""
        W = self.world_size
        if batch_size % W:
            raise UsageError(f"batch_size {batch_size} is not divisible by the {W} workers")
        n_gpus = torch.cuda.device_count()
        # "cuda" without an index: init_distributed has made it a different GPU in each process.
        one_each = device == torch.device("cuda") and self.local_world_size <= n_gpus
        if W > 1 and device.type != "cpu" and not one_each:
            raise UsageError(
                f"{device} is not available to each of the {self.local_world_size} workers on "
                "this machine; try --device cpu"
            )

    def shard(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """This process's rows of x and y (B, T): every row belongs to exactly one process."""
        x, y = batch
        # rows rank, rank + W, rank + 2W, ...
        return x[self.rank :: self.world_size], y[self.rank :: self.world_size]

    def all_reduce_sum(self, value: float) -> float:
        """The sum of the values of all processes, the same in each. A collective operation."""
        total = torch.tensor(value, dtype=torch.float64)  # exact for a Python float
        if self.world_size > 1:
            dist.all_reduce(total)  # in place; the default operation is the sum
        return total.item()

    @lost_worker_errors()
    def broadcast(self, value: Any) -> Any:
        """The value of rank 0, in every process. A collective operation.

        The value is sent as a pickle, which is safe here: every process runs this same program.
        """
        box = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(box, src=0)  # overwrites the list in all ranks but 0
        return box[0]

    def seed_dropout(self, seed: int, step: int) -> None:
        """Seed a step's dropout with (seed, step, rank).

        Processes then draw different masks, and a state saved by rank 0 is enough to resume all.
        """
        if self.world_size > 1:
            # PCG64 mixes the three numbers into one; a plain sum would repeat across steps.
            torch.manual_seed(np.random.PCG64([seed, step, self.rank]).random_raw())

    def shutdown(self, code: int) -> int:
        """Wait for the others and leave the group; returns the exit code in a group of one.

        Without the wait, an early exit would look like a crash to the others. A process of a larger
        group exits right here, without Python's own cleanup, which aborts if one of gloo's threads
        still holds a tensor.
        """
        if self.world_size > 1:
            with suppress(LostWorkerError), lost_worker_errors():
                dist.barrier()
            dist.destroy_process_group()
            sys.stdout.flush()  # os._exit does not
            os._exit(code)
        return code


@lost_worker_errors()
def init_distributed() -> DistributedContext:
    """Join the group that torchrun started; without torchrun, return a group of one.

    Raises UsageError if the environment describes a group incompletely, and LostWorkerError if a
    process of the group does not start.
    """
    context = context_from_environment()
    if context.world_size > 1:
        n_gpus = torch.cuda.device_count()
        if n_gpus:
            torch.cuda.set_device(context.local_rank % n_gpus)  # from now on "cuda" means this one
        # gloo for tensors on the CPU (losses, flags), NCCL for gradients on GPUs
        backend = "cpu:gloo,cuda:nccl" if n_gpus else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
    return context


def context_from_environment() -> DistributedContext:
    """Read torchrun's variables. Raises UsageError if some are missing or make no sense."""
    present = [name for name in ("RANK", "WORLD_SIZE") if os.environ.get(name)]
    if not present or os.environ.get("WORLD_SIZE") == "1":  # a group of one needs no variables
        return DistributedContext()
    missing = [name for name in TORCHRUN_VARIABLES if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"the environment sets {' and '.join(present)} but not {', '.join(missing)}; start "
            "with torchrun, which sets them all, or unset RANK and WORLD_SIZE for a single process"
        )
    values = {name: integer_variable(name) for name in INTEGERS}
    rank = values["RANK"]
    world_size = values["WORLD_SIZE"]
    if rank >= world_size:
        raise UsageError(f"RANK is {rank}; it must be below WORLD_SIZE, which is {world_size}")
    if values["MASTER_PORT"] > 65535:
        raise UsageError(f"MASTER_PORT is {values['MASTER_PORT']}; a port is at most 65535")
    local_world_size = integer_variable("LOCAL_WORLD_SIZE", default="1")
    return DistributedContext(rank, world_size, values["LOCAL_RANK"], local_world_size)


def integer_variable(name: str, default: str = "") -> int:
    """An environment variable that holds a whole number. Raises UsageError if it does not."""
    value = os.environ.get(name) or default
    if not (value.isascii() and value.isdigit()):  # isdigit alone accepts other scripts
        raise UsageError(f"{name} is {value!r}; torchrun sets it to a whole number")
    return int(value)


def main() -> None:
    """Show the shards of a batch of six rows in a group of three."""
    x = torch.arange(6)[:, None]  # (B, T) = (6, 1): each row holds its own index
    for rank in range(3):
        rows, _ = DistributedContext(rank, world_size=3).shard((x, x))
        print(f"rank {rank} of 3 takes rows {rows.flatten().tolist()}")
    alone = context_from_environment()
    print(f"this program runs in a group of {alone.world_size}")


if __name__ == "__main__":
    run_program(main)
