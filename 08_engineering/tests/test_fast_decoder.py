"""fast_decoder.py: the logits and the cache of the model's own forward pass, or no fast decoder."""

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import feedforward
import fused
from beam_decoder import beam_search_batch
from cached_sequence import CachedSequence
from decoding_loop import MakeDecodeStep, forward_step, generate_tokens
from fast_decoder import FastDecoder, RotationMatrix, fast_decode_step
from fused import matmul_attention
from generator import choose_with
from greedy import greedy
from inference_ops import linear_op, norm_matmul_op
from layer_norm import RMSNorm
from parts import Parts
from penalties import TokenCounts
from positional_embeddings import apply_rotary, rotary_angles
from speculative import Draft, single_tokens
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig, SampleConfig
from utils.kv_cache import GROWTH, KVCache

V, T = 11, 12
SMALL = ModelConfig(vocab_size=V, max_seq_len=T, d_model=16, n_layers=2, n_heads=2)
MODERN: dict[str, Any] = {
    **{"norm": "rmsnorm", "activation": "relu2", "position": "rope"},
    **{"qk_norm": True, "bias": False, "tie_weights": False},
}
SUPPORTED: dict[str, dict[str, Any]] = {
    "classic": {},
    "modern": MODERN,
    "rope without qk-norm": {**MODERN, "qk_norm": False},
    "qk-norm without rope": {**MODERN, "position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "relu2 with biases": {**MODERN, "bias": True, "norm": "layernorm"},
    "one head": {**MODERN, "n_heads": 1},
}


def random_model(changes: dict[str, Any], parts: Parts | None = None) -> TinyTransformerLM:
    """A model whose weights are far from their initial values."""
    model = TinyTransformerLM(replace(SMALL, **changes), parts or Parts.fused())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def is_fast(model: nn.Module) -> bool:
    """Whether the model gets the fast decode step."""
    return isinstance(fast_decode_step(model, KVCache(SMALL, 1)), FastDecoder)


@torch.inference_mode()
def assert_same_as_forward(model: TinyTransformerLM, B: int = 2, within: float = 1e-4) -> None:
    """Decode a sequence by fast_decode_step and by the forward pass: same logits, same cache."""
    dtype = model.output_weight.dtype
    prompt, tokens = torch.randint(V, (B, 4)), torch.randint(V, (B, T - 4))
    cache, expected_cache = (KVCache(model.config, B, dtype) for _ in range(2))
    decode_step = fast_decode_step(model, cache)
    model(prompt, cache)
    model(prompt, expected_cache)
    for newest in tokens.unbind(1):
        expected = model(newest[:, None], expected_cache)[:, -1]
        torch.testing.assert_close(decode_step(newest), expected, rtol=within, atol=within)
    assert cache.lengths == expected_cache.lengths == [T] * B
    torch.testing.assert_close(cache.keys, expected_cache.keys, rtol=within, atol=within)
    torch.testing.assert_close(cache.values, expected_cache.values, rtol=within, atol=within)


CLOSENESS = [(torch.float64, 1e-6), (torch.float32, 1e-4), (torch.bfloat16, 0.2)]


@pytest.mark.parametrize(("dtype", "within"), CLOSENESS)
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("changes", SUPPORTED.values(), ids=SUPPORTED)
def test_logits_and_cache_are_those_of_the_forward_pass(
    changes: dict[str, Any], B: int, dtype: torch.dtype, within: float
) -> None:
    model = random_model(changes).to(dtype)
    assert isinstance(fast_decode_step(model, KVCache(model.config, B, dtype)), FastDecoder)
    assert_same_as_forward(model, B, within)


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("engines", [["none"], torch.backends.quantized.supported_engines])
def test_large_float32_matrices_are_rounded_to_float16_where_fbgemm_is_available(
    B: int, engines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_ops.LARGE", 0)
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", engines)
    layer, x = nn.Linear(50, 30), torch.randn(B, 50)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    rounded = weight.half().float() if "fbgemm" in engines else weight
    expected = torch.addmm(bias, x, rounded.t())
    torch.testing.assert_close(linear_op(layer)(x), expected, rtol=1e-6, atol=1e-6)
    exact = (x.double() @ weight.double().t() + bias).float()
    torch.testing.assert_close(linear_op(layer)(x), exact, rtol=2**-10, atol=2**-10)
    in_float64 = linear_op(layer.double())(x.double())
    torch.testing.assert_close(in_float64.float(), exact, rtol=1e-6, atol=1e-6)


# --- a model that the fast decoder does not know uses its own forward pass ---

UNSUPPORTED: dict[str, tuple[dict[str, Any], Parts]] = {
    "alibi": ({"position": "alibi"}, Parts.fused()),
    "post-norm": ({"norm_placement": "post"}, Parts.fused()),
    "swiglu": ({"activation": "swiglu"}, Parts.fused()),
    "grouped queries": ({"n_kv_heads": 1}, Parts.fused()),
    "reference parts": ({}, Parts.reference()),
}


@pytest.mark.parametrize(("changes", "parts"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_other_layouts_use_their_own_forward_pass(changes: dict[str, Any], parts: Parts) -> None:
    model = random_model(changes, parts)
    assert not is_fast(model)
    assert_same_as_forward(model)


@pytest.mark.parametrize("part", [field.name for field in fields(Parts)])
def test_a_replaced_part_is_never_bypassed(part: str) -> None:
    given = getattr(Parts.fused(), part)

    def own(*arguments: Any) -> Any:
        return given(*arguments)

    model = random_model(MODERN, replace(Parts.fused(), **{part: own}))
    assert not is_fast(model)


def test_a_subclass_a_model_in_training_and_other_modules_use_their_own_forward_pass() -> None:
    class Subclass(TinyTransformerLM):
        pass

    assert is_fast(TinyTransformerLM(SMALL, Parts.fused()).eval())
    assert not is_fast(Subclass(SMALL, Parts.fused()).eval())
    assert not is_fast(TinyTransformerLM(SMALL, Parts.fused()).train())
    assert not is_fast(nn.Linear(1, 1))


def tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


@pytest.mark.parametrize("own", [tanh_gelu, torch.sigmoid, F.gelu, nn.Tanh()])
@pytest.mark.parametrize("name", ["gelu", "relu2"])
def test_a_registered_activation_is_the_one_that_generates(
    name: str, own: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under its own name or in place of a known one: it trains, so it must generate too."""
    monkeypatch.setitem(feedforward.ACTIVATIONS, name, own)
    model = random_model({"activation": name})
    assert model.blocks[0].get_submodule("feed_forward").activation is own
    assert not is_fast(model)
    assert_same_as_forward(model)


class HalvedLinear(nn.Linear):
    """A layer of another kind with the same weights, like a quantized or a LoRA layer."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 0.5 * super().forward(x)


def halve_linear(block: nn.Module) -> None:
    layer = HalvedLinear(16, 16)
    layer.load_state_dict(block.get_submodule("attention.out_proj").state_dict())
    block.attention.out_proj = layer.eval()  # pyright: ignore


def add_hook(block: nn.Module) -> None:
    hook = block.get_submodule("feed_forward").register_forward_hook
    hook(lambda module, inputs, output: torch.add(output, output))  # pyright: ignore


def add_pre_hook(block: nn.Module) -> None:
    hook = block.get_submodule("attention_norm").register_forward_pre_hook
    hook(lambda module, inputs: (2 * inputs[0],))


def replace_forward(block: nn.Module) -> None:
    block.forward = lambda x, mask, attend: 2 * x


def replace_norm(block: nn.Module) -> None:
    block.attention_norm = RMSNorm(16).eval()


def replace_activation(block: nn.Module) -> None:
    block.get_submodule("feed_forward").activation = tanh_gelu  # pyright: ignore


def replace_split_heads(block: nn.Module) -> None:
    def reversed_heads(x: Tensor, n_heads: int) -> Tensor:
        return x.unflatten(-1, (n_heads, -1)).transpose(1, 2).flip(-1)

    block.get_submodule("attention").split_heads = reversed_heads  # pyright: ignore


def change_placement(block: nn.Module) -> None:
    block.placement = "post"  # pyright: ignore


def one_module_in_training(block: nn.Module) -> None:
    block.get_submodule("dropout").train()


CHANGES: dict[str, Callable[[nn.Module], None]] = {
    change.__name__: change
    for change in (
        *(halve_linear, add_hook, add_pre_hook, replace_forward, replace_norm),
        *(replace_activation, replace_split_heads, change_placement, one_module_in_training),
    )
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_model_that_was_changed_after_it_was_built_uses_its_own_forward_pass(
    change: Callable[[nn.Module], None],
) -> None:
    model = random_model({})
    assert is_fast(model)
    change(model.blocks[1])
    assert not is_fast(model)
    assert_same_as_forward(model)


def test_a_cache_of_another_dtype_uses_the_forward_pass() -> None:
    model = random_model({})
    step = fast_decode_step(model, KVCache(SMALL, 1, torch.float64))
    assert not isinstance(step, FastDecoder)


def test_each_norm_uses_its_own_eps() -> None:
    for changes in ({}, MODERN):
        model = random_model(changes)
        for module in model.modules():
            if hasattr(module, "eps"):
                module.eps = 0.5  # pyright: ignore
        assert is_fast(model)
        assert_same_as_forward(model)


def test_the_model_s_own_rotary_tables_are_used() -> None:
    model = random_model(MODERN)
    model.cos, model.sin = rotary_angles(torch.arange(T), 8, base=50.0)
    assert is_fast(model)
    assert_same_as_forward(model)


def test_a_norm_without_an_inference_op_is_refused() -> None:
    with pytest.raises(TypeError, match="no inference op for RMSNorm"):
        norm_matmul_op(torch.ones(3, 4), RMSNorm(4))
    assert fused.FusedRMSNorm is not RMSNorm


# --- the rotation ---


def test_rotating_is_a_product_with_one_matrix_per_position() -> None:
    x = torch.randn(3, 1, T, 8, dtype=torch.float64)
    cos, sin = (table.double() for table in rotary_angles(torch.arange(T), 8))
    rotation = RotationMatrix(cos, sin, 3.0, like=x)
    expected = apply_rotary(x, cos, sin)
    for t in (0, T - 1, 5):
        rotation.move_to(t)
        torch.testing.assert_close(x[:, 0, t] @ rotation.matrix, 3.0 * expected[:, 0, t])


def test_memory_of_the_rotation_grows_with_the_width_of_a_head_and_not_its_square() -> None:
    d_head, context = 128, 1024
    like = torch.zeros(())
    rotation = RotationMatrix(*rotary_angles(torch.arange(context), d_head), 1.0, like)
    stored = {tensor.untyped_storage().data_ptr(): tensor for tensor in rotation.entries}
    n_bytes = sum(tensor.untyped_storage().nbytes() for tensor in stored.values())
    assert n_bytes == 4 * (2 * d_head * context)  # 2 d_head entries for each position
    assert rotation.matrix.numel() == d_head**2


# --- in use ---


def test_a_full_cache_is_refused_as_by_the_forward_pass() -> None:
    model = random_model(MODERN)
    cache = KVCache(model.config, 1)
    decode_step = fast_decode_step(model, cache)
    assert isinstance(decode_step, FastDecoder)
    for _ in range(T):
        decode_step(torch.tensor([1]))  # with gradients enabled, which it does not need
    with pytest.raises(ValueError, match="the cache holds 12 positions, of which 12 are taken"):
        decode_step(torch.tensor([1]))


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["classic", "modern"])
@pytest.mark.parametrize("prompts", [[[1]], [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4]]])
def test_generated_tokens_are_those_of_the_forward_pass(
    changes: dict[str, Any], prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three contexts long, so that the cache is refilled; with rows of unequal length as well."""
    model = random_model(changes, Parts.fused(matmul_attention)).double()
    sampling = SampleConfig(temperature=1.0, seed=3)
    calls = count_calls(monkeypatch)

    def generated(make_decode_step: MakeDecodeStep) -> list[list[int]]:
        choose = choose_with(sampling)
        steps = generate_tokens(
            model, model.config, prompts, 3 * T, choose, make_decode_step=make_decode_step
        )
        return list(steps)

    expected = generated(forward_step)
    assert not calls
    assert generated(fast_decode_step) == expected
    assert calls


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["classic", "modern"])
@pytest.mark.parametrize("B", [1, 3])
def test_the_cache_grows_while_it_decodes(changes: dict[str, Any], B: int) -> None:
    model = random_model({**changes, "max_seq_len": 2 * GROWTH + 5})
    fast, plain = KVCache(model.config, B), KVCache(model.config, B)
    decode_step = fast_decode_step(model, fast)
    with torch.inference_mode():
        text = torch.randint(V, (model.config.max_seq_len, B))
        for tokens in text:
            expected = model(tokens[:, None], plain)[:, -1]
            torch.testing.assert_close(decode_step(tokens), expected, rtol=1e-4, atol=1e-4)
        fast.truncate([3] * B)  # as after a rejected draft: what lies behind must not be seen
        plain.truncate([3] * B)
        expected = model(text[-1][:, None], plain)[:, -1]
        torch.testing.assert_close(decode_step(text[-1]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["classic", "modern"])
def test_beam_search_reorders_the_cache_that_the_decoder_has_views_of(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(changes, Parts.fused(matmul_attention)).double()
    prompts, calls = [[1, 2, 3], [4, 5, 6]], count_calls(monkeypatch)
    plain, fast = (
        beam_search_batch(model, model.config, prompts, 4, 3 * T, make_decode_step=make)
        for make in (forward_step, fast_decode_step)
    )
    assert calls and set(calls) == {8}
    for expected, found in zip(chain(*plain), chain(*fast), strict=True):
        assert found.tokens == expected.tokens
        assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-5)


def test_penalties_are_applied_to_its_logits_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = random_model(MODERN).double(), [[1, 2, 3], [4, 5, 6]]
    sampling = SampleConfig(temperature=0, repetition_penalty=1.5, frequency_penalty=0.4)
    calls = count_calls(monkeypatch)

    def generated(make_decode_step: MakeDecodeStep) -> list[list[int]]:
        choose = choose_with(sampling, TokenCounts.of_prompts(prompts, V))
        steps = generate_tokens(
            model, model.config, prompts, 3 * T, choose, make_decode_step=make_decode_step
        )
        return list(steps)

    assert generated(fast_decode_step) == generated(forward_step)
    assert calls


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["classic", "modern"])
def test_speculative_decoding_drafts_with_it_and_gives_the_same_text(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(changes, Parts.fused(matmul_attention)).double()
    small = random_model({**changes, "n_layers": 1}, Parts.fused(matmul_attention)).double()
    sampling, calls = SampleConfig(temperature=0, max_tokens=3 * T), count_calls(monkeypatch)
    found = [
        list(
            single_tokens(
                CachedSequence(model, model.config, make),
                Draft(small, small.config),
                [1, 2, 3],
                sampling,
            )
        )
        for make in (forward_step, fast_decode_step)
    ]
    steps = generate_tokens(model, model.config, [[1, 2, 3]], 3 * T, greedy)
    assert found[0] == found[1] == list(steps)
    assert calls


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of every call of a FastDecoder from now on."""
    calls: list[int] = []
    original = FastDecoder.__call__

    def counted(self: FastDecoder, tokens: Tensor) -> Tensor:
        calls.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(FastDecoder, "__call__", counted)
    return calls
