"""The engine's worker in a sandbox, and what is believed of the lines that it writes."""

import contextlib
import json
import queue
import secrets
import subprocess
import threading
import time
from typing import Any

from tools.grading.sandbox import MB, Sandbox, View, Watch, patience
from tools.grading.worker_events import is_event
from utils.grader.runner import ENVIRONMENT, Worker

NEVER = threading.Event()
LONGEST_EVENT = 256 * 1024  # bytes
MOST_EVENT_BYTES = 32 * MB  # of one process


class SandboxedWorker(Worker):
    """A worker whose process may be hostile: what it sends is limited and checked."""

    def __init__(
        self, sandbox: Sandbox, view: View, end: float, stopped: threading.Event = NEVER
    ) -> None:
        self.sandbox, self.view, self.deadline, self.stopped = sandbox, view, end, stopped
        self.secret = secrets.token_hex(16)
        self.is_ready = False  # the first event; no job, and no submission, before it
        self.forged = 0
        super().__init__()
        self.watch = Watch(sandbox, self.process)

    def start_process(self) -> "subprocess.Popen[bytes]":
        return self.sandbox.start(
            self.view, "utils.grader.worker", self.errors.fileno(), ENVIRONMENT
        )

    def send_job(self, job: dict[str, Any]) -> None:
        root = self.sandbox.root(self.view)
        super().send_job({**job, "root": str(root), "secret": self.secret})

    def _read_events(self) -> None:
        """Events go into the queue until one is not valid, or there are too many."""
        read = 0
        stream = self.process.stdout
        with contextlib.suppress(OSError, ValueError):
            while stream is not None and (line := stream.readline(LONGEST_EVENT)):
                read += len(line)
                event = self._event(line)
                if event is None or read > MOST_EVENT_BYTES:
                    self.forged += event is None
                    break
                self.events.put(event)
        self.events.put(None)

    def _event(self, line: bytes) -> dict[str, Any] | None:
        """An event of the engine; None for anything else."""
        try:
            event = json.loads(line)
            if event == {"event": "ready"} and not self.is_ready:
                self.is_ready = True
                return event
            if not secrets.compare_digest(str(event.pop("secret", "")), self.secret):
                return None
            return event if is_event(event) else None
        except (ValueError, AttributeError, TypeError, RecursionError):
            return None

    def next_event(self, seconds: float) -> dict[str, Any] | None:
        end = min(self.deadline, time.monotonic() + seconds * patience())
        while not self.stopped.is_set():
            left = end - time.monotonic()
            try:
                return super().next_event(max(0.0, min(1.0, left)))
            except queue.Empty:
                if time.monotonic() >= self.deadline:
                    return None
                if left <= 1.0:
                    raise
        return None

    def end(self, timeout: float = 0.0) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        self.watch.stop()
        self.sandbox.end(self.process)
        return super().end()
