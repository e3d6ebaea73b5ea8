"""decoder.py: the logits of the model's own forward, and the same cache behind them."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from decoder import Decoder, decoder_for, rotations
from fused import matmul_attention
from generator import NextToken, choose_with, generate_tokens
from lean_layers import linear_of
from parts import Parts
from positional_embeddings import apply_rotary, rotary_angles
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig, SampleConfig
from utils.kv_cache import KVCache

V, T = 11, 12
SMALL = ModelConfig(vocab_size=V, max_seq_len=T, d_model=16, n_layers=2, n_heads=2)
MODERN: dict[str, Any] = {
    **{"norm": "rmsnorm", "activation": "relu2", "position": "rope"},
    **{"qk_norm": True, "bias": False, "tie_weights": False},
}
KNOWN: dict[str, dict[str, Any]] = {
    "classic": {},
    "modern": MODERN,
    "rope without qk-norm": {**MODERN, "qk_norm": False},
    "qk-norm without rope": {**MODERN, "position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "relu2 with biases": {**MODERN, "bias": True, "norm": "layernorm"},
    "one head": {**MODERN, "n_heads": 1},
}


def model_of(changes: dict[str, Any], parts: Parts | None = None) -> TinyTransformerLM:
    """A model far from its start."""
    model = TinyTransformerLM(replace(SMALL, **changes), parts or Parts.fused())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


CLOSENESS = [(torch.float64, 1e-6), (torch.float32, 1e-4), (torch.bfloat16, 0.2)]


@pytest.mark.parametrize(("dtype", "within"), CLOSENESS)
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("changes", KNOWN.values(), ids=KNOWN)
@torch.inference_mode()
def test_logits_and_cache_are_those_of_the_forward_pass(
    changes: dict[str, Any], B: int, dtype: torch.dtype, within: float
) -> None:
    model = model_of(changes).to(dtype)
    prompt, tokens = torch.randint(V, (B, 4)), torch.randint(V, (B, T - 4))
    caches = [KVCache(model.config, B, dtype) for _ in range(2)]
    decoder = decoder_for(model, caches[0])
    assert decoder is not None
    for cache in caches:
        model(prompt, cache)
    for newest in tokens.unbind(1):
        expected = model(newest[:, None], caches[1])[:, -1]
        torch.testing.assert_close(decoder.logits(newest), expected, rtol=within, atol=within)
    assert caches[0].lengths == caches[1].lengths == [T] * B
    torch.testing.assert_close(caches[0].keys, caches[1].keys, rtol=within, atol=within)
    torch.testing.assert_close(caches[0].values, caches[1].values, rtol=within, atol=within)


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("engines", [["none"], torch.backends.quantized.supported_engines])
def test_large_float32_matrices_are_rounded_to_float16_where_that_can_be_read(
    B: int, engines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lean_layers.LARGE", 0)
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", engines)
    layer, x = torch.nn.Linear(50, 30), torch.randn(B, 50)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    read = weight.half().float() if "fbgemm" in engines else weight
    expected = torch.addmm(bias, x, read.t())
    torch.testing.assert_close(linear_of(layer)(x), expected, rtol=1e-6, atol=1e-6)
    exact = (x.double() @ weight.double().t() + bias).float()
    torch.testing.assert_close(linear_of(layer)(x), exact, rtol=2**-10, atol=2**-10)
    small = linear_of(layer.double())(x.double())
    torch.testing.assert_close(small.float(), exact, rtol=1e-6, atol=1e-6)


UNKNOWN: dict[str, tuple[dict[str, Any], Parts]] = {
    "alibi": ({"position": "alibi"}, Parts.fused()),
    "post-norm": ({"norm_placement": "post"}, Parts.fused()),
    "swiglu": ({"activation": "swiglu"}, Parts.fused()),
    "grouped queries": ({"n_kv_heads": 1}, Parts.fused()),
    "the code of the lessons": ({}, Parts.reference()),
}


@pytest.mark.parametrize(("changes", "parts"), UNKNOWN.values(), ids=UNKNOWN)
def test_other_models_speak_through_their_forward(changes: dict[str, Any], parts: Parts) -> None:
    model = model_of(changes, parts)
    assert decoder_for(model, KVCache(model.config, 1)) is None
    assert NextToken(model, model.config, [[1]]).decoder is None


@pytest.mark.parametrize("part", [field.name for field in fields(Parts)])
def test_parts_of_your_own_are_never_passed_over(part: str) -> None:
    given = getattr(Parts.fused(), part)

    def own(*arguments: Any) -> Any:
        return given(*arguments)

    model = model_of(MODERN, replace(Parts.fused(), **{part: own}))
    assert decoder_for(model, KVCache(model.config, 1)) is None


def test_models_of_your_own_and_models_in_training_speak_through_their_forward() -> None:
    class Mine(TinyTransformerLM):
        pass

    assert decoder_for(Mine(SMALL, Parts.fused()).eval(), KVCache(SMALL, 1)) is None
    assert decoder_for(TinyTransformerLM(SMALL, Parts.fused()).train(), KVCache(SMALL, 1)) is None
    assert decoder_for(torch.nn.Linear(1, 1), KVCache(SMALL, 1)) is None


def test_a_full_cache_is_refused_as_by_the_forward_pass() -> None:
    model = model_of(MODERN)
    cache = KVCache(model.config, 1)
    decoder = decoder_for(model, cache)
    assert decoder is not None
    for _ in range(T):
        decoder.logits(torch.tensor([1]))  # with gradients on, which it has no use for
    with pytest.raises(ValueError, match="the cache holds 12 positions, of which 12 are taken"):
        decoder.logits(torch.tensor([1]))


def test_turning_is_a_product_with_one_matrix() -> None:
    x = torch.randn(3, 1, T, 8, dtype=torch.float64)
    turns = rotations(replace(SMALL, **MODERN)).double()  # (T, 8, 8)
    expected = apply_rotary(x, *(each.double() for each in rotary_angles(torch.arange(T), 8)))
    torch.testing.assert_close((x[..., None, :] @ turns).squeeze(-2), expected)


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["classic", "modern"])
@pytest.mark.parametrize("prompts", [[[1]], [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4]]])
def test_texts_are_those_of_a_model_without_a_decoder(
    changes: dict[str, Any], prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three windows long, so that the cache is filled again; with unequal rows as well."""
    model = model_of(changes, Parts.fused(matmul_attention)).double()
    sampling = SampleConfig(temperature=1.0, seed=3)
    used = count_calls(monkeypatch)

    def texts() -> list[list[int]]:
        return list(generate_tokens(model, model.config, prompts, 3 * T, choose_with(sampling)))

    with_decoder = texts()
    assert used or len(prompts[0]) != len(prompts[-1])
    monkeypatch.setattr("generator.decoder_for", lambda model, cache: None)
    assert texts() == with_decoder


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = Decoder.logits

    def counted(self: Decoder, tokens: Tensor) -> Tensor:
        calls.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(Decoder, "logits", counted)
    return calls
