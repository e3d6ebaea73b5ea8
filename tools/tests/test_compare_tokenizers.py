"""compare_tokenizers.py: equal compute, and a file whose numbers belong together."""

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bpe_tokenizer import train_bpe
from tools import compare_tokenizers
from utils.mock_corpus import generate

MEASURED = compare_tokenizers.OUT


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def test_the_measured_runs_have_equal_compute_and_three_seeds(measured: dict[str, Any]) -> None:
    assert measured["quick"] is False
    first, *others = measured["training"]
    assert first["tokenizer"] == "char"
    for row in others:
        assert row["total_tflop"] == pytest.approx(first["total_tflop"], rel=0.01)
        assert row["steps"] < first["steps"]
        assert [run["seed"] for run in row["runs"]] == [0, 1, 2]


def test_the_bits_of_every_run_follow_from_its_loss(measured: dict[str, Any]) -> None:
    for row in measured["training"]:
        for run in row["runs"]:
            bits = run["loss"] / math.log(2) / row["chars_per_predicted_token"]
            assert run["bits_per_char"] == pytest.approx(bits)


def test_all_measured_merges_were_the_library_s_in_our_order_of_bytes(measured) -> None:
    for row in measured["library"]["rows"]:
        assert row["equal_with_our_byte_order"] == row["merges"]


@pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None,
    reason="needs the library tokenizers (make install-dev)",
)
def test_a_small_text_is_compared_with_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    row = compare_tokenizers.library_row(generate(20_000), 50, rounds=1)
    assert (row["equal_with_our_byte_order"], row["in_both"]) == (50, 50)
    assert row["tokens"] == row["library_tokens"]
    assert capsys.readouterr().out.startswith('{"merges": 50')


def test_bytes_are_read_from_the_library_s_spelling() -> None:
    assert compare_tokenizers.bytes_of("\u0120a\u010a") == " a\n"
    assert train_bpe(" a a a", 257).tokens[256] == b" a"


def test_the_file_is_where_lesson_06_looks_for_it() -> None:
    assert Path("06_training/pictures/tokenizers.json").parts == MEASURED.parts[-3:]
