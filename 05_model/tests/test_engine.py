"""engine.py: a named engine is used as named, "auto" is measured, and all give the same logits."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import engine as engine_module
from engine import build_model, choose_engine
from utils.config import ModelConfig, TrainConfig, from_dict
from utils.kv_cache import KVCache

MODERN: dict[str, Any] = {
    **{"norm": "rmsnorm", "activation": "relu2", "position": "rope"},
    **{"qk_norm": True, "bias": False, "tie_weights": False},
}
SHAPE = ModelConfig(vocab_size=11, max_seq_len=8, d_model=16, n_layers=2, n_heads=2, **MODERN)
CONFIG = TrainConfig(SHAPE, batch_size=3, device="cpu")
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def config(**changes: str) -> TrainConfig:
    return from_dict(changes, TrainConfig, base=CONFIG)


def no_measurement(*_: object) -> str:
    raise AssertionError("an engine was timed although its dtype was given")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"parts": "reference"}, "reference, float32"),
        ({"parts": "reference", "dtype": "bfloat16"}, "reference, bfloat16"),
        ({"dtype": "float32"}, "fused sdpa, float32"),
        ({"dtype": "bfloat16"}, "fused matmul, bfloat16"),
    ],
)
def test_a_named_engine_is_used_without_a_measurement(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], name: str
) -> None:
    monkeypatch.setattr(engine_module, "fastest", no_measurement)
    engine = choose_engine(config(**changes))
    assert engine.name == name
    assert engine.dtype_name == changes.get("dtype", "float32")
    assert str(engine).startswith(f"{name} on cpu (")


@pytest.mark.parametrize("winner", ["float32", "bfloat16"])
def test_auto_uses_the_faster_precision(monkeypatch: pytest.MonkeyPatch, winner: str) -> None:
    def measure(probes: dict[str, object], device: torch.device) -> str:
        assert (list(probes), device.type) == (["float32", "bfloat16"], "cpu")  # the default first
        return winner

    monkeypatch.setattr(engine_module, "fastest", measure)
    assert choose_engine(CONFIG).dtype_name == winner


def test_the_precisions_are_told_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []

    def measure(probes: dict[str, object], device: torch.device) -> str:
        assert told == [["float32", "bfloat16"]]
        return "float32"

    monkeypatch.setattr(engine_module, "fastest", measure)
    choose_engine(CONFIG, lambda names: told.append([*names]))
    choose_engine(config(dtype="float32"), lambda names: told.append([]))  # nothing to compare
    assert told == [["float32", "bfloat16"]]


def test_auto_really_measures() -> None:
    assert choose_engine(CONFIG).dtype_name in ("float32", "bfloat16")


@pytest.mark.parametrize(("supported", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_uses_bfloat16_if_it_supports_it(
    monkeypatch: pytest.MonkeyPatch, supported: bool, dtype: str
) -> None:
    monkeypatch.setattr(engine_module, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    monkeypatch.setattr(engine_module, "fastest", no_measurement)
    assert choose_engine(CONFIG).name == f"fused sdpa, {dtype}"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_engines_give_the_logits_of_the_reference(dtype: str) -> None:
    reference = build_model(SHAPE, choose_engine(config(parts="reference")), seed=3)
    for (
        parameter
    ) in reference.parameters():  # an initial output layer is zero and would hide errors
        torch.nn.init.normal_(parameter, std=0.3)
    other = build_model(SHAPE, choose_engine(config(dtype=dtype)), seed=4)
    other.load_state_dict(reference.state_dict())
    torch.testing.assert_close(other(TOKENS), reference(TOKENS), rtol=1e-4, atol=1e-5)


def test_only_training_calls_the_compiled_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake_compile(function: Any, **options: Any) -> Any:
        assert options == {"dynamic": False}  # one graph, for the one shape of training batches

        def compiled(tokens: torch.Tensor) -> torch.Tensor:
            calls.append(tuple(tokens.shape))
            return function(tokens)

        return compiled

    monkeypatch.setattr(torch, "compile", fake_compile)
    monkeypatch.setattr(engine_module, "check_compiler", lambda device: None)
    engine = choose_engine(from_dict({"compile": True, "dtype": "float32"}, TrainConfig, CONFIG))
    assert (engine.compiled, engine.name) == (True, "fused sdpa, float32, compiled")
    model = build_model(SHAPE, engine, seed=3)
    plain = build_model(SHAPE, replace(engine, compiled=False), seed=3)
    assert list(model.state_dict()) == list(plain.state_dict())  # no "_orig_mod." in front
    assert torch.equal(model(TOKENS), plain(TOKENS))
    assert calls == [(1, 8)]
    with torch.inference_mode():
        assert torch.equal(model(TOKENS[:, :5]), plain(TOKENS[:, :5]))
        assert torch.equal(model(TOKENS, KVCache(SHAPE, 1)), plain(TOKENS))
    model(TOKENS, KVCache(SHAPE, 1))
    assert calls == [(1, 8)]


def test_the_seed_decides_the_weights_and_the_engine_does_not() -> None:
    engines = [choose_engine(config(**c)) for c in ({"parts": "reference"}, {"dtype": "float32"})]
    first, same = (build_model(SHAPE, engine, seed=5).state_dict() for engine in engines)
    other = build_model(SHAPE, engines[0], seed=6).state_dict()
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["token_embedding.weight"], other["token_embedding.weight"])
