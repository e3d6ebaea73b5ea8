"""serving.py over a real connection: answers, streams, errors, limits, and clients that leave."""

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from serving_helpers import (  # pyright: ignore[reportMissingImports]
    LIMITS,
    MAX_TOKENS,
    TOKENIZER,
    TestServer,
    running_server,
    wait_until,
)

from text_job import TextJob
from utils.config import SampleConfig

JSON = {"Content-Type": "application/json"}
USER = {"role": "user", "content": "Good morrow."}


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with running_server() as running:
        yield running


def events_of(server: TestServer, path: str, **body: Any) -> list[Any]:
    """The events of a stream, decoded; the last one must be [DONE]."""
    reply = server.post(path, stream=True, **body)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, done, end = reply.body.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


# --- answers ---


def test_a_completion_has_text_reason_and_usage(server: TestServer) -> None:
    reply = server.post(
        "/v1/completions", prompt="Nurse:\n", max_tokens=12, seed=1, temperature=0.5
    )
    assert reply.status == 200
    (choice,) = reply.json["choices"]
    assert len(choice["text"]) == 12 and choice["finish_reason"] == "length"
    usage = {"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 19}
    assert reply.json["usage"] == usage
    assert (reply.json["object"], reply.json["model"]) == ("text_completion", "small")


def test_a_chat_answers_with_one_speech(server: TestServer) -> None:
    reply = server.post("/v1/chat/completions", messages=[USER], seed=1, max_tokens=400)
    (choice,) = reply.json["choices"]
    prompt = "ROMEO:\nGood morrow.\n\nNurse:\n"
    expected = server.complete(prompt=prompt, seed=1, max_tokens=400, stop="\n\n")
    assert choice["message"] == {"role": "assistant", "content": expected, "refusal": None}
    assert choice["finish_reason"] == "stop" and "\n\n" not in expected
    assert reply.json["usage"]["prompt_tokens"] == len(prompt)


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_carries_the_same_texts_in_pieces(server: TestServer, n: int) -> None:
    body = {"prompt": "\n\n", "max_tokens": 60, "seed": 5, "n": n, "stop": ["ing", "z"]}
    whole = server.post("/v1/completions", **body).json
    *events, usage = events_of(
        server, "/v1/completions", stream_options={"include_usage": True}, **body
    )
    texts, reasons = [""] * n, [None] * n
    for event in events:
        (choice,) = event["choices"]
        assert reasons[choice["index"]] is None, "text after the end"
        texts[choice["index"]] += choice["text"]
        reasons[choice["index"]] = choice["finish_reason"]
        assert event["usage"] is None
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert reasons == [choice["finish_reason"] for choice in whole["choices"]]
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]
    assert len({event["id"] for event in events}) == 1
    assert len(events) > 2 * n  # it came in pieces


def test_a_chat_stream_begins_with_the_role(server: TestServer) -> None:
    body = {"messages": [USER], "seed": 2, "max_tokens": 30}
    whole = server.post("/v1/chat/completions", **body).json["choices"][0]["message"]["content"]
    first, *pieces, last = events_of(server, "/v1/chat/completions", **body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] in ("stop", "length")
    assert "".join(event["choices"][0]["delta"]["content"] for event in pieces) == whole
    assert {event["object"] for event in (first, *pieces, last)} == {"chat.completion.chunk"}


def test_every_client_of_a_crowd_gets_its_own_text(server: TestServer) -> None:
    bodies = [{"prompt": "The ", "max_tokens": 20 + i, "seed": i} for i in range(24)]
    expected = [server.complete(**body) for body in bodies]
    got: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda i=i: got.setdefault(i, server.complete(**bodies[i])))
        for i in range(len(bodies))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(len(bodies))] == expected
    assert len(set(expected)) == len(expected)


def test_the_other_paths_answer(server: TestServer) -> None:
    assert server.send("GET", "/health").json == {"status": "ok"}
    (model,) = server.send("GET", "/v1/models").json["data"]
    assert model["id"] == "small" and model["object"] == "model"
    page = server.send("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "connect-src 'self'" in page.headers["content-security-policy"]


def test_the_page_is_one_file_without_network_resources(server: TestServer) -> None:
    page = server.send("GET", "/").body.decode()
    assert "<title>Chat with your model</title>" in page
    assert not re.findall(r"https?://|//cdn|@import|<script src|<link rel=\"stylesheet", page)
    assert "innerHTML" not in page  # what a model writes is text, never HTML


def test_the_metrics_count(server: TestServer) -> None:
    before = {name: server.metric(name) for name in METRICS}
    server.complete(prompt="Nurse:\n", max_tokens=25)
    after = {name: server.metric(name) for name in METRICS}
    assert {name: after[name] - before[name] for name in METRICS} == METRICS
    assert server.metric("tiny_running") == server.metric("tiny_queue_length") == 0
    text = server.send("GET", "/metrics").body.decode()
    assert 'tiny_requests_total{path="/v1/completions",status="200"}' in text
    assert 'tiny_finish_reasons_total{reason="length"}' in text


METRICS = {  # what one completion of 25 tokens adds
    "tiny_generated_tokens_total": 25,
    "tiny_prompt_tokens_total": 7,
    "tiny_prefilled_tokens_total": 6,  # the newest token is computed by the first step
    "tiny_decode_steps_total": 25,
    "tiny_texts_total": 1,
    "tiny_text_seconds_count": 1,
    "tiny_first_token_seconds_count": 1,
}


# --- refusals ---


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405), ("POST", "/health", 405),
     ("DELETE", "/v1/models", 405), ("GET", "/docs", 404), ("GET", "/openapi.json", 404),
     ("GET", "/..%2f..%2fetc", 404)],
)  # fmt: skip
def test_unknown_paths_and_wrong_methods_get_json_errors(
    server: TestServer, method: str, path: str, status: int
) -> None:
    reply = server.send(method, path)
    assert reply.status == status
    assert reply.error["type"] == "invalid_request_error"
    assert status != 405 or reply.headers["allow"]


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"", JSON, 400),
        (b"[1]", JSON, 400),
        (b'{"model": "small"}', JSON, 400),
        (b'{"model": "other", "prompt": "a"}', JSON, 404),
        (b'{"model": "small", "prompt": "\\ud800"}', JSON, 400),
        (b'{"model": "small", "prompt": "a", "colour": "\\ud800"}', JSON, 400),
        (b'{"model": "small", "prompt": "a"}', {"Content-Type": "text/plain"}, 415),
        (b'{"model": "small", "prompt": "a"}', {}, 415),
    ],
)
def test_malformed_requests_get_json_errors(
    server: TestServer, data: bytes, headers: dict[str, str], status: int
) -> None:
    reply = server.send("POST", "/v1/completions", data, headers)
    assert reply.status == status
    assert reply.error["message"]


def test_an_unknown_character_is_named(server: TestServer) -> None:
    error = server.post("/v1/completions", prompt="Nurse 7").error
    assert "unknown character '7'" in error["message"]
    assert (error["param"], error["code"]) == ("prompt", "unknown_character")


def test_a_huge_body_is_refused_whether_its_length_is_told_or_not(server: TestServer) -> None:
    data = b'{"prompt": "' + b"a" * LIMITS.max_body + b'"}'
    reply = server.send("POST", "/v1/completions", data, JSON)
    assert (reply.status, reply.error["code"]) == (413, "body_too_large")
    chunked = (
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    piece = b"1000\r\n" + b"a" * 4096 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(chunked + piece * (LIMITS.max_body // 4096 + 1))
        assert b" 413 " in raw.recv(65536).split(b"\r\n")[0]
    assert server.send("GET", "/health").status == 200


def test_a_body_that_never_comes_is_given_up() -> None:
    with running_server(replace(LIMITS, seconds_to_read=0.2)) as server:
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(f"{head}Content-Length: 50\r\n\r\n{{".encode())
            assert server.complete(prompt="a", max_tokens=5)  # others don't wait for it
            assert b" 408 " in raw.recv(65536).split(b"\r\n")[0]


def test_a_full_queue_answers_429_with_the_time_to_come_back() -> None:
    with running_server(n_slots=1, max_waiting=1) as server, open_streams(server, 2):
        reply = server.post("/v1/completions", prompt="a")
        assert reply.status == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert (reply.error["type"], reply.error["code"]) == ("rate_limit_error", "queue_full")


def test_the_time_limit_ends_a_text_and_a_request_that_never_began() -> None:
    with running_server(replace(LIMITS, seconds=0.4), n_slots=1) as server:
        endless = TextJob([1], SampleConfig(max_tokens=MAX_TOKENS), TOKENIZER)
        server.service.engine.submit([endless])
        waiting = server.post("/v1/completions", prompt="a", max_tokens=5)
        server.service.engine.cancel(endless)
        assert (waiting.status, waiting.error["code"]) == (503, "timeout")
        late = server.post("/v1/completions", prompt="a", max_tokens=MAX_TOKENS).json
        (choice,) = late["choices"]
        assert choice["finish_reason"] == "length"
        assert 0 < len(choice["text"]) == late["usage"]["completion_tokens"] < MAX_TOKENS


def test_a_failed_step_is_a_server_error_and_a_stream_ends_with_one() -> None:
    def fail(tokens: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("a secret of the server")

    with running_server() as server:
        batch = server.service.engine.batch
        step = batch.decode_step
        batch.decode_step = fail
        reply = server.post("/v1/completions", prompt="a")
        assert (reply.status, reply.error["type"]) == (500, "server_error")
        assert "secret" not in reply.error["message"]
        batch.decode_step = step
        with open_streams(server, 1) as (raw,):
            received = raw.recv(4096)
            assert b" 200 " in received.split(b"\r\n")[0]
            batch.decode_step = fail
            while b"[DONE]" not in received:
                received += raw.recv(65536)
        assert received.count(b'"server_error"') == 1 and b"secret" not in received
        batch.decode_step = step
        assert server.complete(prompt="a", max_tokens=3)


# --- keys and hosts ---


def test_a_key_is_needed_everywhere_but_for_the_page_and_the_health_check() -> None:
    with running_server(key="open sesame") as server:
        for path in ("/v1/models", "/metrics", "/v1/completions", "/nothing"):
            reply = server.send("GET", path)
            assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
            assert reply.headers["www-authenticate"] == "Bearer"
        for given in ("open sesame", "Bearer open", "Bearer ", "Basic open sesame", "Bearer é"):
            header = {"Authorization": given}
            assert server.send("GET", "/v1/models", headers=header).status == 401
        for given in ("Bearer open sesame", "bearer open sesame"):
            assert server.send("GET", "/v1/models", headers={"Authorization": given}).status == 200
        assert server.send("GET", "/").status == server.send("GET", "/health").status == 200


def test_the_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("serving_guard.hmac.compare_digest", compare)
    with running_server(key="secret") as server:
        assert server.send("GET", "/v1/models").status == 401
        header = {"Authorization": "Bearer guess"}
        assert server.send("GET", "/v1/models", headers=header).status == 401
    assert compared == [(b"", b"secret"), (b"guess", b"secret")]


def test_another_host_name_is_refused_on_a_local_server() -> None:
    with running_server(hosts=("127.0.0.1", "localhost")) as server:
        assert server.send("GET", "/health").status == 200
        assert server.send("GET", "/health", headers={"Host": "localhost:80"}).status == 200
        reply = server.send("GET", "/health", headers={"Host": "evil.example:80"})
        assert reply.status == 403 and "evil.example" in reply.error["message"]


# --- clients that leave, and clients that are slow ---


@contextlib.contextmanager
def open_streams(server: TestServer, n: int, **body: Any) -> Iterator[list[socket.socket]]:
    """So many requests for texts that never end, as raw connections."""
    wanted = {"model": "small", "prompt": "a", "max_tokens": MAX_TOKENS, "stream": True, **body}
    data = json.dumps(wanted).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
    engine = server.service.engine
    before = engine.n_unfinished
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(n):
            raw = stack.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.settimeout(20)
            raw.connect(("127.0.0.1", server.port))
            raw.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + data)
            connections.append(raw)
        wait_until(lambda: engine.n_unfinished == before + n)
        yield connections


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("abrupt", [True, False])
def test_a_client_that_leaves_frees_its_slot(
    server: TestServer, stream: bool, abrupt: bool
) -> None:
    engine = server.service.engine
    with open_streams(server, 2, stream=stream) as connections:
        wait_until(lambda: len(engine.running) == 2)
        if abrupt:  # a reset instead of an orderly end
            for raw in connections:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: not engine.running, seconds=5)
    assert engine.batch.occupied() == []
    assert 'tiny_finish_reasons_total{reason="cancelled"}' in str(
        server.send("GET", "/metrics").body
    )


def test_a_client_that_leaves_the_queue_never_takes_a_slot() -> None:
    with running_server(n_slots=1) as server, open_streams(server, 1):
        engine = server.service.engine
        with open_streams(server, 2):
            assert len(engine.waiting) == 2
        wait_until(lambda: not engine.waiting, seconds=5)
        assert len(engine.running) == 1


def test_a_client_that_reads_nothing_does_not_hold_up_the_others_and_is_dropped() -> None:
    limits = replace(LIMITS, seconds_to_send=0.5)
    with running_server(limits, n_slots=4, send_buffer=4096) as server, open_streams(server, 3):
        began = time.monotonic()
        assert len(server.complete(prompt="a", max_tokens=50)) == 50
        assert time.monotonic() - began < 5
        engine = server.service.engine
        wait_until(lambda: not engine.running)
        assert engine.n_tokens < 3 * MAX_TOKENS
        metrics = server.send("GET", "/metrics").body.decode()
        assert 'tiny_finish_reasons_total{reason="cancelled"} 3.0' in metrics


def test_the_vocabulary_of_the_small_model_spells_the_names_of_the_chat() -> None:
    assert TOKENIZER.accepts("ROMEO:\nNurse:\n")
