"""News of the texts, from the engine's thread to the event loop, which is not woken per token."""

import asyncio
import contextlib
import threading

from text_job import TextJob


class ThreadBell:
    """Sets asyncio events from another thread; many rings wake the event loop once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._rung: set[asyncio.Event] = set()

    def ring(self, event: asyncio.Event) -> None:
        """Set the event soon, in its own thread."""
        with self._lock:
            asleep = not self._rung
            self._rung.add(event)
        if asleep:
            with contextlib.suppress(RuntimeError):  # the loop has ended: no one listens
                self._loop.call_soon_threadsafe(self._set_events)

    def _set_events(self) -> None:
        with self._lock:
            rung, self._rung = self._rung, set()
        for event in rung:
            event.set()


class Changes:
    """What happens to the jobs of one request.

    A stream that has just sent a piece pauses before the next one. Tokens that come meanwhile don't
    wake it: the event loop is woken only for those that wait.
    """

    def __init__(self, bell: ThreadBell, stream: bool) -> None:
        self._bell = bell
        self._stream = stream
        self._fresh = False  # there is news that `next` has not told yet
        self._listening = False  # `next` waits for it
        self._news = asyncio.Event()
        self._end = asyncio.Event()

    def note(self, job: TextJob) -> None:
        """The jobs' `on_change`, in the engine's thread."""
        if job.finish_reason is not None:
            self._bell.ring(self._end)
        elif not self._stream:
            return
        self._fresh = True  # first this, then the question: `next` does both in the other order
        if self._listening:
            self._bell.ring(self._news)

    async def next(self) -> None:
        """Wait until a job has new text (in a stream), or has ended."""
        self._listening = True
        while not self._fresh:
            self._news.clear()
            if not self._fresh:
                await self._news.wait()
        self._listening = self._fresh = False

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until a job ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._end.wait(), seconds)
        self._end.clear()
