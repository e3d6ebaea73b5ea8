"""tools/load_test.py: it finds what is lost and what is mixed up, and writes what it measured."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tools import load_test
from tools.benchmarks.load_client import Answer, Pass, Question, percentile
from tools.benchmarks.load_page import BEGIN, END

for package in ("fastapi", "prometheus_client", "uvicorn"):
    reason = "needs the packages of the server: python tools/install.py --extra serve"
    pytest.importorskip(package, reason=reason)


def test_a_small_load_loses_nothing(call_program: Callable[..., Any], tmp_path: Path) -> None:
    output, page = tmp_path / "measured.json", tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    arguments = ("--requests", 12, "--clients", 4, "--slots", 3, "--rounds", 0)
    done = call_program(load_test.main, *arguments, "--output", output, "--page", page)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("12 requests: 0 lost, 0 mixed up; 12 different texts\n")
    crowd = json.loads(output.read_text(encoding="utf-8"))["crowd"]
    one, four = crowd["passes"]
    assert (one["clients"], four["clients"]) == (1, 4)
    expected = sum(Question(i).body("")["max_tokens"] for i in range(12))
    assert one["tokens"] == four["tokens"] == expected
    assert "0 were lost and 0 got another" in page.read_text(encoding="utf-8")


class SilentServer:
    """A server without metrics."""

    url = model = ""

    def metric(self, name: str) -> float:
        return 0.0


def test_lost_and_swapped_texts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapping(url: str, model: str, questions: Sequence[Question], n_clients: int) -> Pass:
        texts = {q.number: f"text {q.number}" for q in questions}
        errors = []
        if n_clients > 1:
            texts[2], texts[3] = texts[3], texts[2]
            del texts[5]
            errors = ["request 5: lost"]
        answers = {number: Answer(text, 6, 0.1, 0.05) for number, text in texts.items()}
        return Pass(n_clients, answers, errors, 1.0)

    monkeypatch.setattr(load_test, "run_pass", swapping)
    crowd = load_test.crowd_test(SilentServer(), 8, 4)  # pyright: ignore[reportArgumentType]
    assert (crowd["lost"], crowd["mixed_up"], crowd["different_texts"]) == (1, 2, 8)
    assert crowd["errors"] == ["request 5: lost"]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (1, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 50) == 7.0


def test_wrong_numbers_are_refused(call_program: Callable[..., Any]) -> None:
    done = call_program(load_test.main, "--clients", "0")
    assert (done.code, done.err) == (2, "error: --clients 0 is less than 1\n")
