"""The answer to a request whose texts are being generated in another thread.

While it waits or streams, it watches for two things: the client leaves, and its texts are cancelled
at once; the client is slow, and only its own connection waits. A piece that the client doesn't
accept in time ends the connection. A stream is a sequence of server-sent events:

    data: {"choices": [{"index": 0, "text": "Good m", ...}], ...}

    data: [DONE]
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from batch_engine import BatchEngine
from job_changes import Changes
from reply_forms import ReplyForm
from serving_errors import ApiError, internal_error, timed_out
from serving_limits import Limits
from text_job import FAILED, TIMEOUT, TextJob

JSON = "application/json"


class JobReply(Response):
    """Sends the texts of some jobs: whole when all are complete, or as they grow."""

    def __init__(
        self,
        jobs: Sequence[TextJob],
        form: ReplyForm,
        changes: Changes,
        engine: BatchEngine,
        limits: Limits,
        stream: bool,
    ) -> None:
        super().__init__()
        self.jobs = jobs
        self.form = form
        self.changes = changes
        self.engine = engine
        self.limits = limits
        self.stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; whatever ends this, no text is generated for a client that is gone."""
        gone = asyncio.create_task(client_gone(receive))
        answer = asyncio.create_task(self._stream(send) if self.stream else self._whole(send))
        try:
            await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()  # raises what went wrong
        except TimeoutError:
            pass  # the client is too slow: uvicorn closes a connection whose answer is incomplete
        finally:
            for job in self.jobs:
                if job.finish_reason is None:
                    self.engine.cancel(job)
            for task in (gone, answer):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                    await task

    async def _whole(self, send: Send) -> None:
        while any(job.finish_reason is None for job in self.jobs):
            await self.changes.next()
        problem = self._problem()
        if problem is not None:
            await self._send_json(send, problem.status, problem.body(), problem.headers)
            return
        texts = [job.take() for job in self.jobs]
        await self._send_json(send, 200, self.form.whole(texts, self.jobs))

    async def _stream(self, send: Send) -> None:
        await self.changes.next()  # so that a request that fails at once gets a status that says so
        problem = self._problem()
        if problem is not None:
            await self._send_json(send, problem.status, problem.body(), problem.headers)
            return
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
        await self._send(send, start(200, headers))
        await self._send_events(send, self.form.opening(len(self.jobs)))
        ended: set[int] = set()
        while len(ended) < len(self.jobs):
            await self._send_events(send, self._news(ended))
            if len(ended) < len(self.jobs):
                await self.changes.pause(self.limits.stream_interval)
                await self.changes.next()
        problem = self._problem()  # too late for a status, so the error is an event
        last = [problem.body()] if problem else self.form.final_usage(self.jobs)
        await self._send_events(send, [*last, "[DONE]"], more=False)

    def _news(self, ended: set[int]) -> list[dict[str, Any]]:
        """Chunks for what has happened since the last call; adds the texts that are complete."""
        chunks = []
        for i, job in enumerate(self.jobs):
            if i in ended:
                continue
            complete = job.finish_reason is not None  # asked first: then all of the text is there
            text = job.take()
            chunks += [self.form.piece(i, text)] if text else []
            if complete:
                chunks.append(self.form.ending(i, job))
                ended.add(i)
        return chunks

    def _problem(self) -> ApiError | None:
        """The error to report instead of the texts, if there is one."""
        if any(job.finish_reason == FAILED for job in self.jobs):
            return internal_error()
        late = [job.finish_reason == TIMEOUT and job.n_tokens == 0 for job in self.jobs]
        return timed_out() if any(late) else None

    async def _send_events(self, send: Send, events: Iterable[Any], more: bool = True) -> None:
        lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
        data = "".join(f"data: {line}\n\n" for line in lines).encode("ascii")
        await self._send(send, {"type": "http.response.body", "body": data, "more_body": more})

    async def _send_json(
        self, send: Send, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> None:
        data = json.dumps(body).encode("ascii")
        length = {"content-length": str(len(data))}
        await self._send(send, start(status, {"content-type": JSON, **length, **(headers or {})}))
        await self._send(send, {"type": "http.response.body", "body": data})

    async def _send(self, send: Send, message: Message) -> None:
        """Raises TimeoutError if the client doesn't accept it in time."""
        await asyncio.wait_for(send(message), self.limits.seconds_to_send)


def start(status: int, headers: dict[str, str]) -> Message:
    """The message that begins an answer."""
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def client_gone(receive: Receive) -> None:
    """Wait until the client closes its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
