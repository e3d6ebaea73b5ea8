"""Continuous batching: one thread that generates for all requests at once.

    between two steps    finished, cancelled and late texts leave; waiting ones take their slots
    a step               one token for every occupied slot, whatever the others are doing

Static batching would wait until the longest text of a batch is complete before it starts the next
batch. Here a slot is never empty while a text is waiting (Yu et al. 2022, "Orca", section 3).
The model is used by this thread alone, so it needs no lock; what two threads touch is the queue,
under one condition.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Self

from row_sampling import choose_tokens
from slot_batch import SlotBatch
from text_job import CANCELLED, FAILED, TIMEOUT, DrainingError, QueueFullError, TextJob
from utils.errors import run_program

# New prompts of one step, in positions: more would make the running texts wait too long.
PREFILL_BUDGET = 2048
logger = logging.getLogger(__name__)


class BatchEngine:
    """A thread that continues texts in the slots of a batch, in order of arrival."""

    def __init__(self, batch: SlotBatch, max_waiting: int = 64) -> None:
        self.batch = batch
        self.max_waiting = max_waiting
        self.waiting: deque[TextJob] = deque()
        self.running: dict[int, TextJob] = {}  # by slot
        self.n_tokens = 0  # generated since the start
        self.n_finished = 0
        self.mean_seconds = 1.0  # how long a text occupies a slot: a moving average
        self.draining = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="batch engine", daemon=True)

    def start(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def n_unfinished(self) -> int:
        """Texts that run or wait."""
        return len(self.running) + len(self.waiting)

    def submit(self, jobs: Sequence[TextJob]) -> None:
        """Queue texts, all of them or none. Raises QueueFullError or DrainingError."""
        with self._changed:
            if self.draining:
                raise DrainingError("the server is shutting down; try again later")
            n_slots = len(self.batch.slots)
            if self.n_unfinished + len(jobs) > n_slots + self.max_waiting:
                raise QueueFullError(len(self.waiting), self._retry_after())
            self.waiting.extend(jobs)
            self._changed.notify()

    def cancel(self, job: TextJob) -> None:
        """Stop generating this text: its slot is free before the next step."""
        with self._changed:
            job.cancelled = True
            self._changed.notify()

    def drain(self, seconds: float) -> None:
        """Accept nothing new, and end what is still running after so many seconds."""
        latest = time.monotonic() + seconds
        with self._changed:
            self.draining = True
            for job in (*self.waiting, *self.running.values()):
                job.deadline = min(job.deadline, latest)
            self._changed.notify()

    def close(self) -> None:
        """End the thread; what it was generating ends as cancelled."""
        with self._changed:
            self.draining = self._closing = True
            self._changed.notify()
        if self.alive:
            self._thread.join()

    def _retry_after(self) -> int:
        """Seconds until the queue is served: its length over texts per second (Little's law)."""
        texts_per_second = len(self.batch.slots) / max(self.mean_seconds, 1e-3)
        return min(60, max(1, round(self.n_unfinished / texts_per_second)))

    # --- in the thread ---

    def _loop(self) -> None:
        while self._wait_for_work():
            try:
                self._leave_early()
                self._admit()
                if self.running:
                    self._step()
            except Exception:  # out of memory, say: these texts fail, and the server continues
                logger.exception("a step of the batch failed")
                for slot in list(self.running):
                    self._finish(slot, FAILED)
        for slot in list(self.running):
            self._finish(slot, CANCELLED)
        while self.waiting:
            self._end(self.waiting.popleft(), CANCELLED)

    def _wait_for_work(self) -> bool:
        """Sleep while there is nothing to do; False when the engine is to close."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self.running or self.waiting)
            return not self._closing

    def _leave_early(self) -> None:
        """End the texts that no one waits for, and those whose time is up."""
        now = time.monotonic()
        for slot, job in list(self.running.items()):
            if job.cancelled or now >= job.deadline:
                self._finish(slot, CANCELLED if job.cancelled else TIMEOUT)
        with self._changed:
            left = [job for job in self.waiting if job.cancelled or now >= job.deadline]
            for job in left:
                self.waiting.remove(job)
        for job in left:
            self._end(job, CANCELLED if job.cancelled else TIMEOUT)

    def _admit(self) -> None:
        """Let waiting texts take the free slots, the oldest first."""
        budget = PREFILL_BUDGET
        with self._changed:
            while self.waiting and self.batch.n_free() and budget > 0:
                job = self.waiting.popleft()
                job.started_at = time.monotonic()
                self.running[self.batch.join(job.prompt)] = job
                budget -= min(len(job.prompt), self.batch.config.max_seq_len)

    def _step(self) -> None:
        """One token for every running text."""
        slots = self.batch.occupied()
        jobs = [self.running[slot] for slot in slots]
        tokens = choose_tokens(self.batch.logits(), [job.sampler for job in jobs])
        self.n_tokens += len(tokens)
        for slot, job, token in zip(slots, jobs, tokens, strict=True):
            self.batch.append(slot, token)
            job.add(token)
            if job.finish_reason is None:
                job.on_change(job)
            else:
                self._finish(slot, job.finish_reason)

    def _finish(self, slot: int, reason: str) -> None:
        """Free the slot; the text ends for this reason, if it hasn't ended already."""
        job = self.running.pop(slot)
        self.batch.leave(slot)
        self._end(job, reason)
        self.mean_seconds += 0.1 * (time.monotonic() - job.started_at - self.mean_seconds)

    def _end(self, job: TextJob, reason: str) -> None:
        if job.finish_reason is None:
            job.finish(reason)
        self.n_finished += 1
        job.on_change(job)


def main() -> None:
    """Five texts of different lengths share two slots."""
    from parts import Parts
    from small_model import load_small_model
    from utils.config import SampleConfig

    model, tokenizer = load_small_model(Parts.fused())
    engine = BatchEngine(SlotBatch(model, model.config, n_slots=2)).start()
    settings = [SampleConfig(max_tokens=10 + 8 * seed, seed=seed) for seed in range(5)]
    jobs = [TextJob(tokenizer.encode("Nurse:\n"), one, tokenizer) for one in settings]
    engine.submit(jobs)
    while engine.n_unfinished:
        time.sleep(0.01)
    engine.close()
    for job in jobs:
        print(f"{job.n_tokens} tokens, {job.finish_reason}: {job.take()!r}")
    print(f"{engine.n_tokens} tokens in {engine.batch.n_steps} steps")


if __name__ == "__main__":
    run_program(main)
