"""One checkpoint, many engines: the same weights, logits, gradients and training losses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fused
from attention import AttentionFunction, scaled_dot_product_attention
from feedforward import FeedForward, SwiGLU
from grouped_query_attention import GroupedQueryAttention
from layer_norm import LayerNorm, RMSNorm
from multi_head import MultiHeadAttention, split_heads
from parts import Parts
from positional_embeddings import (
    LearnedPositions,
    SinusoidalPositions,
    alibi_bias,
    apply_rotary,
)
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig

B, T, V = 3, 7, 11
SMALL = ModelConfig(vocab_size=V, max_seq_len=10, d_model=24, n_layers=2, n_heads=4)
MODERN = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "d_ff": 20, "bias": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "classic": {},
    "classic, untied": {"tie_weights": False},
    "classic without biases": {"bias": False},
    "post-norm": {"norm_placement": "post"},
    "sinusoidal, relu2": {"position": "sinusoidal", "activation": "relu2"},
    "alibi": {"position": "alibi"},
    "alibi, six heads": {"position": "alibi", "n_heads": 6, "n_kv_heads": 3},
    "grouped queries": {"n_kv_heads": 2},
    "one key-value head, post-norm": {"n_kv_heads": 1, "norm_placement": "post"},
    "modern": {**MODERN, "n_kv_heads": 2, "tie_weights": False},
    "modern with qk-norm": {**MODERN, "qk_norm": True},
    "modern with biases": {**MODERN, "bias": True, "activation": "relu2"},
}
KERNELS = [fused.sdpa, fused.matmul_attention]


def config_named(name: str, **changes: Any) -> ModelConfig:
    return replace(SMALL, **CONFIGS[name] | changes)


def random_(model: TinyTransformerLM) -> TinyTransformerLM:
    """Move every weight, bias and norm away from its initial value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def twins(
    name: str, kernel: AttentionFunction, dtype: torch.dtype, **changes: Any
) -> tuple[TinyTransformerLM, TinyTransformerLM]:
    """A reference and a fused model with the same weights, far from the initial ones."""
    config = config_named(name, **changes)
    reference = random_(TinyTransformerLM(config, Parts.reference())).to(dtype)
    fast = TinyTransformerLM(config, Parts.fused(kernel), seed=99).to(dtype)
    fast.load_state_dict(reference.state_dict())
    return reference, fast


def next_token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_seed_means_the_same_weights_whatever_the_parts(name):
    config = config_named(name)
    torch.manual_seed(1)
    one = TinyTransformerLM(config, Parts.reference(), seed=7).state_dict()
    torch.manual_seed(2)
    other = TinyTransformerLM(config, Parts.fused(), seed=7).state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CONFIGS)
def test_engines_give_the_same_logits_and_gradients(name, kernel, dtype, within):
    reference, fast = twins(name, kernel, dtype)
    tokens = torch.randint(V, (B, T))
    results = []
    for model in (reference, fast):
        logits = model(tokens)
        next_token_loss(logits, tokens).backward()
        gradients = {key: p.grad for key, p in model.named_parameters()}
        results.append({"logits": logits, **gradients})
    assert results[0]["logits"].std() > 0.1  # an initial model would hide errors
    torch.testing.assert_close(results[0], results[1], rtol=within, atol=within)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CONFIGS)
def test_engines_give_the_same_losses_in_training_with_dropout(name, kernel):
    tokens = torch.randint(V, (5, B, T))
    losses = [train_(model, tokens) for model in twins(name, kernel, torch.float32, dropout=0.1)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][0] != pytest.approx(losses[0][-1], rel=1e-3)  # the weights changed


def train_(model: TinyTransformerLM, batches: Tensor) -> list[float]:
    """Train one step per batch, with dropout drawn from a fixed seed; returns the losses."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for tokens in batches:
        loss = next_token_loss(model(tokens), tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_dropout_changes_the_losses_of_that_training():
    tokens = torch.randint(V, (5, B, T))
    with_dropout, _ = twins("classic", fused.sdpa, torch.float32, dropout=0.1)
    without, _ = twins("classic", fused.sdpa, torch.float32)
    assert train_(with_dropout, tokens) != pytest.approx(train_(without, tokens), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "attention", "norm", "feed_forward", "positions"),
    [
        ({}, MultiHeadAttention, LayerNorm, FeedForward, LearnedPositions),
        ({"n_kv_heads": 4}, MultiHeadAttention, LayerNorm, FeedForward, LearnedPositions),
        ({"n_kv_heads": 2}, GroupedQueryAttention, LayerNorm, FeedForward, LearnedPositions),
        (MODERN, MultiHeadAttention, RMSNorm, SwiGLU, None),
        (
            {"position": "sinusoidal"},
            MultiHeadAttention,
            LayerNorm,
            FeedForward,
            SinusoidalPositions,
        ),
        ({"position": "alibi"}, MultiHeadAttention, LayerNorm, FeedForward, None),
    ],
)
def test_the_configuration_chooses_the_modules(changes, attention, norm, feed_forward, positions):
    model = TinyTransformerLM(replace(SMALL, **changes))
    for block in model.blocks:
        assert type(block.get_submodule("attention")) is attention
        assert type(block.get_submodule("feed_forward")) is feed_forward
        assert type(block.get_submodule("attention_norm")) is norm
        assert type(block.get_submodule("feed_forward_norm")) is norm
    assert type(model.final_norm) is norm
    assert type(model.position_embedding) is (positions or type(None))


def test_a_post_norm_model_has_no_final_norm():
    model = TinyTransformerLM(config_named("post-norm"))
    assert isinstance(model.final_norm, nn.Identity)


@pytest.mark.parametrize("kernel", KERNELS)
def test_fused_parts_come_from_fused_py(kernel):
    parts = Parts.fused(kernel)
    assert parts.attention is kernel
    for name in ("layer_norm", "rms_norm", "feed_forward", "swiglu", "token_embedding"):
        assert getattr(parts, name).__module__ == "fused"


@pytest.mark.parametrize(
    ("device", "dtype", "kernel"),
    [
        ("cpu", torch.float32, fused.sdpa),
        ("cpu", torch.bfloat16, fused.matmul_attention),
        ("cuda", torch.bfloat16, fused.sdpa),
        ("mps", torch.float32, fused.sdpa),
    ],
)
def test_matmul_attention_is_used_only_in_bfloat16_on_a_cpu(device, dtype, kernel):
    assert Parts.fused_for(torch.device(device), dtype) == Parts.fused(kernel)


class Counted:
    """A function that counts its calls, to test whether a model uses it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.function(*args)


@pytest.mark.parametrize(
    ("part", "function", "name", "calls"),
    [
        ("attention", scaled_dot_product_attention, "classic", 2),  # once per layer, in two layers
        ("split_heads", split_heads, "classic", 6),  # queries, keys and values
        ("split_heads", split_heads, "grouped queries", 6),
        ("apply_rotary", apply_rotary, "modern", 4),  # queries and keys
        ("apply_rotary", apply_rotary, "classic", 0),
        ("alibi_bias", alibi_bias, "alibi", 1),
        ("alibi_bias", alibi_bias, "classic", 0),
    ],
)
def test_a_replaced_part_is_called(part, function, name, calls):
    mine = Counted(function)
    model = TinyTransformerLM(config_named(name), replace(Parts.reference(), **{part: mine}))
    model(torch.randint(V, (B, T)))
    assert mine.calls == calls
