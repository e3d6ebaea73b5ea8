"""Clients that send completion requests at once, and check that each gets its own text back.

A request's text depends on its prompt and seed alone. So the texts of a first pass, one request
after the other, are what every later pass must give again, whatever runs beside it.
"""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PROMPTS = ("Nurse:\n", "ROMEO:\n", "KING ALDRIC:\nWell met, ", "\n\n", "The ", "O my good friar, ")
TIMEOUT = 120.0  # seconds


@dataclass(frozen=True)
class Question:
    """One request of the test; its number decides everything about it."""

    number: int

    def body(self, model: str) -> dict[str, Any]:
        """Prompt, length and settings vary, and no two seeds are the same."""
        return {
            "model": model,
            "prompt": PROMPTS[self.number % len(PROMPTS)],
            "max_tokens": 20 + 37 * self.number % 101,  # 20 to 120
            "temperature": (0.7, 1.0)[self.number % 2],
            "seed": self.number,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


@dataclass(frozen=True)
class Answer:
    """What came back, and when."""

    text: str
    n_tokens: int
    seconds: float  # until the end
    first_token: float  # seconds until the first text


@dataclass(frozen=True)
class Pass:
    """The answers of one pass over the questions, and how long all of it took."""

    n_clients: int
    answers: dict[int, Answer]  # by the question's number
    errors: list[str]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens of all clients together."""
        return sum(answer.n_tokens for answer in self.answers.values()) / self.seconds


def ask(connection: http.client.HTTPConnection, question: Question, model: str) -> Answer:
    """Send one request, read its stream. Raises OSError or ValueError if none is complete."""
    began = time.perf_counter()
    data = json.dumps(question.body(model))
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/completions", data, headers)
    response = connection.getresponse()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {response.read()[:200]!r}")
    pieces, n_tokens, first = [], 0, 0.0
    for line in response:
        event = line.decode("utf-8").strip().removeprefix("data: ")
        if event == "[DONE]":
            response.read()
            return Answer("".join(pieces), n_tokens, time.perf_counter() - began, first)
        if event:
            chunk = json.loads(event)
            n_tokens = (chunk["usage"] or {}).get("completion_tokens", n_tokens)
            pieces += [choice["text"] for choice in chunk["choices"]]
            first = first or time.perf_counter() - began
    raise ValueError("the stream ended before [DONE]")


def run_pass(url: str, model: str, questions: Sequence[Question], n_clients: int) -> Pass:
    """Ask all questions with so many clients; each takes the next as soon as it has an answer."""
    place = urlsplit(url)
    waiting = iter(questions)
    lock = threading.Lock()
    answers: dict[int, Answer] = {}
    errors: list[str] = []

    def client() -> None:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT)
        while True:
            with lock:
                question = next(waiting, None)
            if question is None:
                break
            try:
                answers[question.number] = ask(connection, question, model)
            except (OSError, ValueError, http.client.HTTPException) as error:
                errors.append(f"request {question.number}: {type(error).__name__}: {error}")
                connection.close()
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(n_clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Pass(n_clients, answers, errors, time.perf_counter() - began)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least this percentage of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
