"""The other processes of a run under torchrun: they train on their rows, and write nothing.

Rank 0 reads the command line, decides and reports (train.py); each other rank waits until rank 0
broadcasts the configuration, and then takes the same steps.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from distributed_context import DistributedContext, LostWorkerError
from fine_tuning import stored_initial
from stop_signals import stop_on_signal
from training_loop import Trainer
from training_run import Run, Training, load_stored_data, prepare
from training_state import TrainingState
from utils.errors import CourseError, UsageError


def announce_run(run: Run) -> None:
    """Tell the waiting ranks what to train. A collective operation; `receive_run` is its twin."""
    run.workers.broadcast((run.config, run.state, run.data.fingerprint, run.folder))


def receive_run(workers: DistributedContext) -> Training:
    """What rank 0 has announced, on this rank's device. Raises CourseError if the data differs."""
    config, state, fingerprint, folder = workers.broadcast(None)
    initial = stored_initial(config, folder)
    data = load_stored_data(config, initial)
    if data.fingerprint != fingerprint:
        raise CourseError(f"rank {workers.rank} found different data in {config.data} than rank 0")
    if state is not None:
        torch.set_num_threads(state.position["place"]["threads"])
    return prepare(config, data, workers, state, initial)


def run_worker(workers: DistributedContext) -> int:
    """Train as a process of rank > 0; returns its exit code, 0: rank 0 reports the run."""
    try:
        training = receive_run(workers)
    except LostWorkerError:
        return 0  # rank 0 refused to start, and has reported why
    trainer = training.make_trainer()
    with stop_on_signal(trainer, announce=False):
        training.restore(trainer)
        training.initial_loss(trainer)
        fit_silently(trainer, workers.rank)
    return 0


def fit_silently(trainer: Trainer, rank: int) -> None:
    """Run the loop; an error is reported by rank 0, and by rank 1 if rank 0 is lost."""
    try:
        trainer.fit()
    except CourseError as error:
        if isinstance(error, LostWorkerError) and rank == 1:
            raise


@contextmanager
def reporting_lost_workers() -> Iterator[None]:
    """In rank 0: say how to continue, if another process of the run ends too early."""
    try:
        yield
    except LostWorkerError as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent by torchrun before we can report
        raise CourseError(f"{error}; --resume continues from the last saved state") from None


def check_world_size(world_size: int, state: TrainingState) -> None:
    """Raise UsageError for another number of processes: rounding and dropout would differ."""
    before = state.position.get("workers", 1)
    if before != world_size:
        raise UsageError(
            f"a run must be resumed with as many processes as before: {before}, not {world_size}"
        )
