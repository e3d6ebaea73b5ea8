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
    """What happens to the jobs of one request, as events that their thread sets."""

    def __init__(self, bell: ThreadBell, stream: bool) -> None:
        self._bell = bell
        self._stream = stream
        self.news = asyncio.Event()  # a job has new text (in a stream), or has ended
        self.end = asyncio.Event()  # a job has ended

    def note(self, job: TextJob) -> None:
        """The jobs' `on_change`."""
        if job.finish_reason is not None:
            self._bell.ring(self.end)
        if self._stream or job.finish_reason is not None:
            self._bell.ring(self.news)

    async def next(self) -> None:
        """Wait for news."""
        await self.news.wait()
        self.news.clear()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until a job ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.end.wait(), seconds)
        self.end.clear()
