"""What is between the network and the server: host, key, the size and the pace of a body."""

import asyncio
import hmac
import json
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving_errors import ApiError, api_error
from serving_limits import Limits
from serving_metrics import ServerMetrics

OPEN_PATHS = ("/", "/health")  # no key needed
PATHS = (*OPEN_PATHS, "/metrics", "/v1/models", "/v1/completions", "/v1/chat/completions")


class Guard:
    """Checks the host and the key before anything else happens, and counts every request.

    A page of the internet may point its own name at 127.0.0.1 and talk to this server from the
    reader's browser; its requests carry that name in the Host header, and are refused.
    """

    def __init__(
        self, app: ASGIApp, metrics: ServerMetrics, key: str | None, hosts: Sequence[str] | None
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.key = key
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in PATHS else "other"

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(path, message["status"]).inc()
            await send(message)

        problem = self._problem(Headers(scope=scope), path)
        answer = self.app if problem is None else error_response(problem)
        await answer(scope, receive, counting_send)

    def _problem(self, headers: Headers, path: str) -> ApiError | None:
        host = headers.get("host", "").rsplit(":", 1)[0]
        if self.hosts is not None and host not in self.hosts:
            return ApiError(403, f"this server does not answer to the host {host!r:.80}")
        if self.key is None or path in OPEN_PATHS:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Constant time: how long the comparison takes says nothing about the key.
        same = hmac.compare_digest(given.strip().encode(), self.key.encode())
        if scheme.lower() == "bearer" and same:
            return None
        challenge = {"WWW-Authenticate": "Bearer"}
        return ApiError(401, "the API key is missing or wrong", None, "invalid_api_key",
                        headers=challenge)  # fmt: skip


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a JSON request. Raises ApiError if it is too large, too slow or of another type.

    A browser sends JSON to another site only after asking that site, and this server says no.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, f"the Content-Type must be application/json, not {kind!r:.60}")
    too_large = ApiError(413, f"the body is larger than {limits.max_body} bytes", None,
                         "body_too_large", headers={"Connection": "close"})  # fmt: skip
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limits.max_body:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds_to_read):
            async for piece in request.stream():
                body += piece
                if len(body) > limits.max_body:
                    raise too_large
    except ClientDisconnect:
        raise ApiError(400, "the client left before its body was complete") from None
    except TimeoutError:
        raise ApiError(
            408, "the body did not arrive in time", headers={"Connection": "close"}
        ) from None
    return bytes(body)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON in ASCII, so that half of a surrogate pair can be quoted in an error."""
    return Response(json.dumps(body), status, headers, media_type="application/json")


def error_response(error: Exception) -> Response:
    """An error in the form of the API."""
    shown = api_error(error)
    return json_response(shown.body(), shown.status, shown.headers)
