"""tools/speculative_speed.py: what it counts and writes; the committed file has the same shape."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from checkpointing import save_checkpoint
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from tools import speculative_speed
from tools.speculative_speed import (
    CHECKED,
    DRAFTS,
    ENGINES,
    N_DRAFT,
    PROMPTS,
    RESULTS,
    TARGET,
    TEMPERATURES,
)
from utils.config import ModelConfig

Call = Callable[..., Any]


def write_model(path: Path, d_model: int) -> Path:
    tokenizer = CharTokenizer.train("".join(PROMPTS))
    config = ModelConfig(tokenizer.vocab_size, 32, d_model=d_model, n_layers=1, n_heads=1)
    save_checkpoint(path, TinyTransformerLM(config), tokenizer)
    return path


@pytest.fixture
def results(call_program: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a measurement of two small models writes."""
    monkeypatch.setattr(speculative_speed, "CHECKED", ("1x32",))
    large, small = (write_model(tmp_path / f"{width}.safetensors", width) for width in (16, 8))
    done = partial(call_program, speculative_speed.main)(
        *("--target", large, "--draft", small, "--tokens", 12, "--runs", 1),
        *("--out", tmp_path / "out.json"),
    )
    assert (done.code, done.err) == (0, "")
    return json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))


def test_every_way_of_decoding_has_a_row_with_what_it_counted(results: dict[str, Any]) -> None:
    assert list(results["models"]) == ["1x16", "1x8"]
    rows = results["rows"]
    assert len(rows) == len(TEMPERATURES) * len(ENGINES) * (1 + len(N_DRAFT))
    for row in rows:
        assert row["tokens_per_second"] > 0
        assert 0 <= row["accepted"] <= 1
        assert 1 <= row["tokens_per_pass"] <= row["n_draft"] + 1
        assert row["least"] <= row["speed_up"] <= row["most"]
        if not row["draft"]:
            assert (row["tokens_per_pass"], row["accepted"], row["speed_up"]) == (1, 0, 1)
    (cost,) = results["check_costs"]
    assert cost["shape"] == "1x32" and min(cost["fast_ms"], cost["check_of_5_ms"]) > 0


def test_the_committed_figures_have_the_shape_of_these(results: dict[str, Any]) -> None:
    committed = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert committed.keys() == results.keys()
    assert list(committed["models"]) == [TARGET, *DRAFTS]
    assert [cost["shape"] for cost in committed["check_costs"]] == list(CHECKED)
    assert [row.keys() for row in committed["rows"][:1]] == [
        row.keys() for row in results["rows"][:1]
    ]
    n_ways = 1 + len(DRAFTS) * len(N_DRAFT)
    assert len(committed["rows"]) == len(TEMPERATURES) * len(ENGINES) * n_ways


def test_the_figures_of_the_capstone_s_page_are_the_committed_ones() -> None:
    committed = json.loads(RESULTS.read_text(encoding="utf-8"))
    page = " ".join((RESULTS.parents[2] / "09_capstone/running.md").read_text("utf-8").split())
    drafted = [row for row in committed["rows"] if row["engine"] == "fast" and row["draft"]]
    speeds = [row["speed_up"] for row in drafted]
    settled = [row["tokens_per_pass"] for row in drafted]
    (cost,) = (cost for cost in committed["check_costs"] if cost["shape"] == TARGET)
    first, second = (f"{committed['models'][name]['parameters']:,}" for name in DRAFTS)
    assert f"drafts of {first} and {second} parameters" in page
    assert f"{min(speeds):.2f} to {max(speeds):.2f} times the speed" in page
    assert f"as long as {cost['check_of_5_ms'] / cost['fast_ms']:.1f} tokens" in page
    assert f"settled {min(settled):.1f} to {max(settled):.1f} tokens" in page
