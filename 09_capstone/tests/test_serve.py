"""serve.py as a program: signals, keys, warnings, and one line for each mistake."""

import contextlib
import http.client
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from serve_args import KEY_VARIABLE, read_options
from utils.errors import UsageError

for package in ("fastapi", "prometheus_client", "uvicorn"):
    reason = "needs the packages of the server: python tools/install.py --extra serve"
    pytest.importorskip(package, reason=reason)
serve_program = importlib.import_module("serve")  # only now: it needs those packages

ROOT = Path(__file__).resolve().parents[2]
SERVE = ROOT / "09_capstone" / "serve.py"
CHECKPOINT = ROOT / "07_sampling" / "small_model.safetensors"
STOPPING = serve_program.STOPPING
needs_signals = pytest.mark.skipif(os.name == "nt", reason="needs SIGTERM, which Windows lacks")


class Program:
    """A running serve.py, and where it listens."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self.log = log
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next((line.split()[1] for line in lines if line.startswith("API")), None)
        assert url is not None, self.errors()
        self.port = urlsplit(url).port

    def errors(self) -> str:
        """What it has written to standard error."""
        return self.log.read_text(encoding="utf-8")

    def get(self, path: str, **headers: str) -> int:
        """The status of a GET."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

    def connect(self) -> http.client.HTTPConnection:
        """A connection to it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    @contextlib.contextmanager
    def stream(self, max_tokens: int, **headers: str) -> Iterator[http.client.HTTPResponse]:
        """A text that is being generated."""
        with contextlib.closing(self.connect()) as connection:
            body = {"model": "small_model", "prompt": "a", "max_tokens": max_tokens, "stream": True}
            headers["Content-Type"] = "application/json"
            connection.request("POST", "/v1/completions", json.dumps(body), headers)
            response = connection.getresponse()
            assert response.readline()
            yield response


@pytest.fixture
def serve(tmp_path: Path) -> Iterator:
    """Starts serve.py with these arguments; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, env: dict[str, str] | None = None) -> Program:
        command = [sys.executable, str(SERVE), "--checkpoint", str(CHECKPOINT), "--port", "0"]
        log = tmp_path / f"errors{len(started)}.txt"
        with log.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env={**os.environ, **(env or {})},
            )
        started.append(process)
        return Program(process, log)

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def texts(events: list[str]) -> str:
    """What a stream has sent, without its first line; it must have ended with [DONE]."""
    assert events[-2] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[1:-2]]
    return "".join(chunk["choices"][0]["text"] for chunk in chunks)


@needs_signals
def test_sigterm_finishes_what_is_running_and_exits_with_0(serve, tmp_path: Path) -> None:
    key = tmp_path / "key.txt"
    key.write_text("open sesame\n", encoding="utf-8")
    program = serve("--api-key-file", key)
    assert program.get("/v1/models") == 401
    assert program.get("/v1/models", Authorization="Bearer open sesame") == 200
    assert program.get("/health") == 200
    assert program.get("/health", Host="evil.example") == 403
    assert program.errors() == ""
    with program.stream(max_tokens=1500, Authorization="Bearer open sesame") as response:
        program.process.terminate()
        assert len(texts(response.read().decode().split("\n\n"))) > 1000  # it was not cut short
    assert program.process.wait(timeout=20) == 0
    assert program.errors() == STOPPING.decode()


@needs_signals
def test_ctrl_c_does_the_same_and_the_time_to_drain_is_bounded(serve) -> None:
    program = serve("--drain-seconds", "0.5", "--max-tokens", "100000", "--host", "0.0.0.0")
    assert "lets other machines use this model, and there is no key" in program.errors()
    assert program.get("/v1/models", Host="my.server:80") == 200
    with program.stream(max_tokens=100_000) as response:
        began = time.monotonic()
        program.process.send_signal(signal.SIGINT)
        assert 0 < len(texts(response.read().decode().split("\n\n"))) < 100_000
    assert program.process.wait(timeout=20) == 0
    assert time.monotonic() - began < 10
    assert "Traceback" not in program.errors()


@needs_signals
def test_a_second_signal_exits_at_once(serve) -> None:
    program = serve("--max-tokens", "100000", env={KEY_VARIABLE: "k"})
    with program.stream(max_tokens=100_000, Authorization="Bearer k") as response:
        program.process.terminate()
        end = time.monotonic() + 20
        while not program.errors():
            assert time.monotonic() < end
            response.readline()
        program.process.terminate()
        assert program.process.wait(timeout=5) == 130


def test_a_taken_port_a_strange_host_and_an_empty_key_are_one_line_each(
    call_program: Callable[..., Any], tmp_path: Path
) -> None:
    empty = tmp_path / "key.txt"
    empty.write_text(" \n", encoding="utf-8")
    with contextlib.closing(serve_program.listen("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, message in (
            (("--port", port), f"error: cannot listen at 127.0.0.1, port {port}: "),
            (("--host", "no such host"), "error: cannot listen at no such host, port 8000: "),
            (("--api-key-file", empty), f"error: --api-key-file {empty} is empty"),
            (("--api-key-file", tmp_path / "none"), "error: No such file"),
            (("--checkpoint", empty), "error: "),
        ):
            done = call_program(serve_program.main, "--checkpoint", CHECKPOINT, *arguments)
            assert (done.code, done.out) == (1, "")
            assert done.err.startswith(message) and done.err.count("\n") == 1


def test_a_key_in_the_environment_counts_unless_a_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert serve_program.read_key(None) is None
    monkeypatch.setenv(KEY_VARIABLE, " from the environment\n")
    assert serve_program.read_key(None) == "from the environment"
    file = tmp_path / "key.txt"
    file.write_text("from the file\n", encoding="utf-8")
    assert serve_program.read_key(file) == "from the file"


def test_the_page_names_the_limit_of_connections() -> None:
    page = (ROOT / "08_engineering" / "serving.md").read_text(encoding="utf-8")
    assert f"| {serve_program.CONNECTIONS} connections and requests being answered |" in page


def test_which_addresses_are_this_machine_s_own() -> None:
    local = ("127.0.0.1", "127.1.2.3", "::1", "localhost")
    assert all(serve_program.is_loopback(host) for host in local)
    assert not any(map(serve_program.is_loopback, ("0.0.0.0", "::", "192.168.0.2", "my.server")))


@pytest.mark.parametrize("package", ["uvicorn", "fastapi", "prometheus_client"])
def test_a_missing_package_is_one_line_that_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("serving", "serving_guard", "serving_metrics"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(SERVE), run_name="__main__")
    assert left.value.code == (
        f"error: {package} is not installed; run: python tools/install.py --extra serve"
    )


def options(monkeypatch: pytest.MonkeyPatch, *arguments: str):
    """The command line, read."""
    monkeypatch.setattr(sys, "argv", ["serve.py", *arguments])
    return read_options(Path("checkpoints"))


def test_the_server_is_for_this_machine_unless_told_otherwise(monkeypatch) -> None:
    args = options(monkeypatch)
    assert (args.host, args.port, args.api_key_file) == ("127.0.0.1", 8000, None)
    assert (args.slots, args.queue, args.checkpoint_dir) == (16, 64, Path("checkpoints"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port 70000 is out of range: 0 to 65535"),
        (["--slots", "0"], "--slots 0 is out of range: 1 to"),
        (["--max-seconds", "nan"], "--max-seconds nan is out of range"),
        (["--slots", "many"], "invalid int value: 'many'"),
        (["--ports", "1"], r"unknown argument --ports \(did you mean --port\?\)|'--port'"),
    ],
)
def test_wrong_options_are_refused(monkeypatch, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options(monkeypatch, *arguments)
