"""The real client, the package openai, against a real server."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_helpers import (  # pyright: ignore[reportMissingImports]
    INSTALL,
    TestServer,
    running_server,
    wait_until,
)

openai = pytest.importorskip("openai", reason=INSTALL)

USER = {"role": "user", "content": "Good morrow."}


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with running_server(key="open sesame") as running:
        yield running


@pytest.fixture
def client(server: TestServer) -> Iterator[Any]:
    url = f"http://127.0.0.1:{server.port}/v1"
    with openai.OpenAI(base_url=url, api_key="open sesame", max_retries=0) as made:
        yield made


def test_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["small"]


def test_a_completion(client: Any) -> None:
    ask = {"model": "small", "prompt": "Nurse:\n", "max_tokens": 30, "seed": 3}
    done = client.completions.create(**ask)
    assert len(done.choices[0].text) == done.usage.completion_tokens == 30
    assert done.choices[0].finish_reason == "length"
    pieces = list(client.completions.create(**ask, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == done.choices[0].text
    assert len(pieces) > 2


def test_a_chat_with_all_settings(client: Any) -> None:
    done = client.chat.completions.create(
        model="small",
        messages=[{"role": "system", "content": "A street."}, USER],
        **{"max_completion_tokens": 60, "temperature": 0.7, "top_p": 0.9, "n": 2, "seed": 1},
        **{"stop": ["lord", "king"], "presence_penalty": 0.1, "frequency_penalty": 0.1},
        extra_body={"top_k": 20},
    )
    assert [choice.index for choice in done.choices] == [0, 1]
    assert done.choices[0].message.role == "assistant"
    assert done.choices[0].message.content != done.choices[1].message.content
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


def test_a_chat_as_a_stream(client: Any) -> None:
    ask = {"model": "small", "messages": [USER], "seed": 1, "max_tokens": 400}
    whole = client.chat.completions.create(**ask).choices[0]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage = client.chat.completions.create(**ask, **options)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason == "stop"
    assert usage.usage.completion_tokens > 0


def test_a_continued_chat(client: Any) -> None:
    messages = [USER]
    for text in ("How now?", "What news?"):
        done = client.chat.completions.create(model="small", messages=messages, max_tokens=80)
        messages.append(done.choices[0].message.model_dump())  # as clients do
        messages.append({"role": "user", "content": text})
    assert done.usage.prompt_tokens > 28


def test_errors_are_the_exceptions_of_the_client(client: Any, server: TestServer) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="gpt-4o", prompt="a")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="small", prompt="a", temperature=3)
    assert wrong.value.param == "temperature" and "not 3" in wrong.value.message
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="guess").models.list()
    with pytest.raises(openai.BadRequestError, match="unknown character"):
        client.completions.create(model="small", prompt="€")


def test_the_transcript_of_the_page_is_what_the_client_gets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).resolve().parents[1] / "serving.md").read_text(encoding="utf-8")
    shown = re.search(r"```python notest\n(.*?)```\n```text\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    with running_server() as server:
        code = shown[1].replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        exec(code, {})  # the page is ours
    assert capsys.readouterr().out == shown[2]


def test_a_full_queue_is_a_rate_limit_error() -> None:
    with running_server(n_slots=1, max_waiting=0) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        with openai.OpenAI(base_url=url, api_key="-", max_retries=0) as client:
            ask = {"model": "small", "prompt": "a", "max_tokens": 20_000}
            stream = client.completions.create(**ask, stream=True)
            next(iter(stream))
            with pytest.raises(openai.RateLimitError):
                client.completions.create(**ask)
            stream.close()


def test_a_stream_that_is_closed_early_frees_its_slot(client: Any, server: TestServer) -> None:
    stream = client.completions.create(model="small", prompt="a", max_tokens=20_000, stream=True)
    next(iter(stream))
    assert server.service.engine.running
    stream.close()
    wait_until(lambda: not server.service.engine.running, seconds=5)
