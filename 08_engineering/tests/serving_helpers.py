"""A real server on a loopback port, for the tests that talk to it.

Importing this module skips the tests of the importing one where a package of the server is missing.
"""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from batch_engine import BatchEngine
from chat_prompt import Speakers
from parts import Parts
from serving_limits import Limits
from slot_batch import SlotBatch
from small_model import load_small_model

if TYPE_CHECKING:
    from serving import Service

INSTALL = "needs the packages of the server: python tools/install.py --extra serve"
for package in ("fastapi", "prometheus_client", "uvicorn"):
    pytest.importorskip(package, reason=INSTALL)

MODEL, TOKENIZER = load_small_model(Parts.fused())
MAX_TOKENS = 20_000  # so that a text can be longer than a test
LIMITS = Limits(max_tokens=MAX_TOKENS, stream_interval=0.002)


class Reply(NamedTuple):
    """What the server answered."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, after a check of its form."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


class TestServer(NamedTuple):
    """A running server."""

    __test__ = False
    port: int
    service: "Service"

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        """A connection to it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def send(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request."""
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, named, response.read())

    def post(self, path: str, **body: Any) -> Reply:
        """A JSON body, for the small model if it names no other."""
        data = json.dumps({"model": "small", **body}).encode()
        return self.send("POST", path, data, {"Content-Type": "application/json"})

    def complete(self, **body: Any) -> str:
        """The text of a completion."""
        reply = self.post("/v1/completions", **body)
        assert reply.status == 200, reply.body
        return reply.json["choices"][0]["text"]

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = self.send("GET", "/metrics").body.decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


@contextlib.contextmanager
def running_server(
    limits: Limits = LIMITS,
    n_slots: int = 8,
    max_waiting: int = 32,
    send_buffer: int | None = None,
    **options: Any,
) -> Iterator[TestServer]:
    """Serve the small model in a thread; a small buffer makes a client that reads nothing felt."""
    import uvicorn

    from serving import Service, create_app

    engine = BatchEngine(SlotBatch(MODEL, MODEL.config, n_slots), max_waiting)
    service = Service("small", TOKENIZER, engine, limits, Speakers())
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(service, **options), log_level="error", ws="none", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield TestServer(listener.getsockname()[1], service)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
