"""fast_decoder.py: the logits of the model's own forward, and the same cache behind them."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from decoding_loop import MakeDecodeStep, forward_step, generate_tokens
from fast_decoder import FastDecoder, fast_decode_step, rotations
from fused import matmul_attention
from generator import choose_with
from inference_ops import linear_op
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


def is_fast(model: torch.nn.Module) -> bool:
    """Whether the model gets the fast decode step."""
    return isinstance(fast_decode_step(model, KVCache(SMALL, 1)), FastDecoder)


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
    decode_step = fast_decode_step(model, caches[0])
    assert isinstance(decode_step, FastDecoder)
    for cache in caches:
        model(prompt, cache)
    for newest in tokens.unbind(1):
        expected = model(newest[:, None], caches[1])[:, -1]
        torch.testing.assert_close(decode_step(newest), expected, rtol=within, atol=within)
    assert caches[0].lengths == caches[1].lengths == [T] * B
    torch.testing.assert_close(caches[0].keys, caches[1].keys, rtol=within, atol=within)
    torch.testing.assert_close(caches[0].values, caches[1].values, rtol=within, atol=within)


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("engines", [["none"], torch.backends.quantized.supported_engines])
def test_large_float32_matrices_are_rounded_to_float16_where_that_can_be_read(
    B: int, engines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_ops.LARGE", 0)
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", engines)
    layer, x = torch.nn.Linear(50, 30), torch.randn(B, 50)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    read = weight.half().float() if "fbgemm" in engines else weight
    expected = torch.addmm(bias, x, read.t())
    torch.testing.assert_close(linear_op(layer)(x), expected, rtol=1e-6, atol=1e-6)
    exact = (x.double() @ weight.double().t() + bias).float()
    torch.testing.assert_close(linear_op(layer)(x), exact, rtol=2**-10, atol=2**-10)
    small = linear_op(layer.double())(x.double())
    torch.testing.assert_close(small.float(), exact, rtol=1e-6, atol=1e-6)


UNKNOWN: dict[str, tuple[dict[str, Any], Parts]] = {
    "alibi": ({"position": "alibi"}, Parts.fused()),
    "post-norm": ({"norm_placement": "post"}, Parts.fused()),
    "swiglu": ({"activation": "swiglu"}, Parts.fused()),
    "grouped queries": ({"n_kv_heads": 1}, Parts.fused()),
    "the code of the lessons": ({}, Parts.reference()),
}


@pytest.mark.parametrize(("changes", "parts"), UNKNOWN.values(), ids=UNKNOWN)
def test_other_models_use_their_own_forward_pass(changes: dict[str, Any], parts: Parts) -> None:
    model = model_of(changes, parts)
    assert not is_fast(model)


@pytest.mark.parametrize("part", [field.name for field in fields(Parts)])
def test_parts_of_your_own_are_never_passed_over(part: str) -> None:
    given = getattr(Parts.fused(), part)

    def own(*arguments: Any) -> Any:
        return given(*arguments)

    model = model_of(MODERN, replace(Parts.fused(), **{part: own}))
    assert not is_fast(model)


def test_models_of_your_own_and_models_in_training_use_their_own_forward_pass() -> None:
    class Mine(TinyTransformerLM):
        pass

    assert not is_fast(Mine(SMALL, Parts.fused()).eval())
    assert not is_fast(TinyTransformerLM(SMALL, Parts.fused()).train())
    assert not is_fast(torch.nn.Linear(1, 1))


def test_a_full_cache_is_refused_as_by_the_forward_pass() -> None:
    model = model_of(MODERN)
    cache = KVCache(model.config, 1)
    decode_step = fast_decode_step(model, cache)
    assert isinstance(decode_step, FastDecoder)
    for _ in range(T):
        decode_step(torch.tensor([1]))  # with gradients on, which it has no use for
    with pytest.raises(ValueError, match="the cache holds 12 positions, of which 12 are taken"):
        decode_step(torch.tensor([1]))


def test_turning_is_a_product_with_one_matrix() -> None:
    x = torch.randn(3, 1, T, 8, dtype=torch.float64)
    turns = rotations(replace(SMALL, **MODERN)).double()  # (T, 8, 8)
    expected = apply_rotary(x, *(each.double() for each in rotary_angles(torch.arange(T), 8)))
    torch.testing.assert_close((x[..., None, :] @ turns).squeeze(-2), expected)


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["classic", "modern"])
@pytest.mark.parametrize("prompts", [[[1]], [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4]]])
def test_texts_are_those_of_the_forward_pass(
    changes: dict[str, Any], prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three windows long, so that the cache is filled again; with unequal rows as well."""
    model = model_of(changes, Parts.fused(matmul_attention)).double()
    sampling = SampleConfig(temperature=1.0, seed=3)
    used = count_calls(monkeypatch)

    def texts(make_decode_step: MakeDecodeStep) -> list[list[int]]:
        choose = choose_with(sampling)
        steps = generate_tokens(
            model, model.config, prompts, 3 * T, choose, make_decode_step=make_decode_step
        )
        return list(steps)

    expected = texts(forward_step)
    assert not used
    assert texts(fast_decode_step) == expected
    assert used


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = FastDecoder.__call__

    def counted(self: FastDecoder, tokens: Tensor) -> Tensor:
        calls.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(FastDecoder, "__call__", counted)
    return calls
