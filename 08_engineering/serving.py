"""The server: a model behind the HTTP interface that OpenAI's clients know.

    POST /v1/completions  /v1/chat/completions       GET /v1/models  /health  /metrics  /

This file only connects the parts. A request is read and checked (serving_api.py), becomes jobs
(text_job.py) that a thread generates together (batch_engine.py), and their texts are sent while
they grow (job_reply.py). Nothing here waits for the model: the event loop serves every connection.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from any_tokenizer import Tokenizer
from batch_engine import BatchEngine
from chat_prompt import Speakers
from job_changes import Changes, ThreadBell
from job_reply import JobReply
from reply_forms import ReplyForm
from request_fields import read_json
from serving_api import RequestReader, TextRequest
from serving_errors import ApiError
from serving_guard import Guard, error_response, json_response, read_body
from serving_limits import Limits
from serving_metrics import ServerMetrics
from text_job import TextJob
from utils.errors import CourseError

PAGE = Path(__file__).resolve().parent / "chat_page.html"
# What the page may do: run its own script, look as it does, and talk to this server alone.
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)


class Service:
    """One model, ready to serve: its engine, the limits, and what is counted."""

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        engine: BatchEngine,
        limits: Limits | None = None,
        speakers: Speakers | None = None,
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.engine = engine
        self.limits = limits or Limits()
        self.reader = RequestReader(name, tokenizer, self.limits, speakers or Speakers())
        self.metrics = ServerMetrics(engine)
        self.bell: ThreadBell | None = None  # from the moment the event loop runs

    async def answer(self, request: Request, chat: bool) -> Response:
        """The reply to a POST: its texts are being generated from now on. Raises CourseError."""
        body = read_json(await read_body(request, self.limits))
        asked = self.reader.chat(body) if chat else self.reader.completion(body)
        assert self.bell is not None  # the application has started
        changes = Changes(self.bell, asked.stream)
        jobs = self._jobs(asked, changes)
        self.engine.submit(jobs)
        self.metrics.prompt_tokens.inc(asked.n_prompt_tokens)
        form = ReplyForm(self.name, chat, asked.n_prompt_tokens, asked.include_usage)
        return JobReply(jobs, form, changes, self.engine, self.limits, asked.stream)

    def _jobs(self, asked: TextRequest, changes: Changes) -> list[TextJob]:
        """One job per text."""

        def on_change(job: TextJob) -> None:
            if job.finish_reason is not None:
                self.metrics.ended(job)
            changes.note(job)

        return [
            TextJob(prompt, sampling, self.tokenizer, self.limits.seconds, on_change)
            for prompt, sampling in zip(asked.prompts, asked.settings, strict=True)
        ]


def create_app(
    service: Service, key: str | None = None, hosts: Sequence[str] | None = None
) -> ASGIApp:
    """The application. With a key, clients must send it; hosts are the names it answers to."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.bell = ThreadBell(asyncio.get_running_loop())
        service.engine.start()
        yield
        await asyncio.to_thread(service.engine.close)

    # The generated documentation pages load scripts from the network, so there are none.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(HTTPException, http_error_response)
    for kind in (CourseError, Exception):
        app.add_exception_handler(kind, lambda _, error: error_response(error))
    app.add_middleware(Guard, metrics=service.metrics, key=key, hosts=hosts)
    add_routes(app, service)
    return app


def add_routes(app: FastAPI, service: Service) -> None:
    """The endpoints."""

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await service.answer(request, chat=False)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await service.answer(request, chat=True)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        model = {"id": service.name, "object": "model", "created": 0, "owned_by": "you"}
        return {"object": "list", "data": [model]}

    @app.get("/health")
    async def health() -> Response:
        engine = service.engine
        status = "draining" if engine.draining else "ok" if engine.alive else "stopped"
        return json_response({"status": status}, 200 if status == "ok" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/")
    async def page() -> Response:
        headers = {"Content-Security-Policy": PAGE_POLICY}
        return FileResponse(PAGE, media_type="text/html; charset=utf-8", headers=headers)


def http_error_response(request: Request, error: Exception) -> Response:
    """An unknown path or a wrong method, in the form of the API."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path!r:.80}"
    what = {404: f"unknown path: {where}", 405: f"method not allowed: {where}"}
    message = what.get(error.status_code, str(error.detail))
    return error_response(ApiError(error.status_code, message, headers=error.headers))
