"""The gate: parts that pass by themselves and fail in a model are found, and the case is named."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import scaled_dot_product_attention
from feedforward import FeedForward, SwiGLU
from grouped_query_attention import GroupedQueryAttention, repeat_kv
from layer_norm import LayerNorm, RMSNorm
from multi_head import MultiHeadAttention, merge_heads, split_heads
from part_gate import ADDITIVE, MASKED, differences
from parts import Parts
from positional_embeddings import (
    LearnedPositions,
    SinusoidalPositions,
    alibi_bias,
    apply_rotary,
    rotary_angles,
)
from token_embeddings import TokenEmbedding
from transformer_block import TransformerBlock
from utils.config import ModelConfig

CLASSIC = ModelConfig()
MODERN = ModelConfig(
    norm="rmsnorm", activation="swiglu", position="rope", n_kv_heads=2, bias=False, qk_norm=True
)
ALIBI = ModelConfig(position="alibi")
SINUSOIDAL = ModelConfig(position="sinusoidal", norm_placement="post")
EACH = ["a batch of 3", "batch size 1", "one token", "the full context", "cached decoding"]
EACH += ["unequal cached lengths", "the gradients"]


def cases(part: str, value: Any, config: ModelConfig = CLASSIC, **options: Any) -> list[str]:
    return [found.case for found in differences({part: value}, config, **options)]


# --- attention functions ---


def ignores_mask_at_batch_size_1(q, k, v, mask=None):
    return scaled_dot_product_attention(q, k, v, None if q.size(0) == 1 else mask)


def ignores_mask_for_one_token(q, k, v, mask=None):
    return scaled_dot_product_attention(q, k, v, None if q.size(-2) == 1 else mask)


def squeezes(q, k, v, mask=None):
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    return output.squeeze(), weights  # loses the batch if there is one row, T if there is one token


def makes_its_own_mask(q, k, v, mask=None):
    mask = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).tril()
    return scaled_dot_product_attention(q, k, v, mask)


def ignores_additive_masks(q, k, v, mask=None):
    boolean = mask is not None and mask.dtype == torch.bool
    return scaled_dot_product_attention(q, k, v, mask if boolean else None)


def inverts_additive_masks(q, k, v, mask=None):
    if mask is not None:
        mask = mask.bool()  # any bias but 0 counts as allowed
    return scaled_dot_product_attention(q, k, v, mask)


def detaches_the_weights(q, k, v, mask=None):
    _, weights = scaled_dot_product_attention(q, k, v, mask)
    return weights.detach() @ v, weights


def detaches_the_keys(q, k, v, mask=None):
    return scaled_dot_product_attention(q, k.detach(), v, mask)


def works_in_float64(q, k, v, mask=None):
    output, weights = scaled_dot_product_attention(q.double(), k.double(), v.double(), mask)
    return output, weights


def knows_32_positions(q, k, v, mask=None):
    table = torch.zeros(32, q.size(-1))
    return scaled_dot_product_attention(q + table[: q.size(-2)], k, v, mask)


def forgets_the_scale_for_long_texts(q, k, v, mask=None):
    scale = math.sqrt(q.size(-1)) if k.size(-2) > 50 else 1.0
    return scaled_dot_product_attention(q * scale, k, v, mask)


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        (ignores_mask_at_batch_size_1, ["batch size 1", "the full context", "cached decoding"]),
        (ignores_mask_for_one_token, ["unequal cached lengths"]),
        (squeezes, ["batch size 1", "one token", "the full context", "cached decoding"]),
        (makes_its_own_mask, ["cached decoding", "unequal cached lengths"]),
        (ignores_additive_masks, [ADDITIVE]),
        (inverts_additive_masks, [ADDITIVE]),
        (detaches_the_weights, ["the gradients"]),
        (detaches_the_keys, ["the gradients"]),
        (works_in_float64, EACH),
        (knows_32_positions, ["the full context"]),
        (forgets_the_scale_for_long_texts, ["the full context"]),
    ],
)
def test_an_attention_function_that_fails_in_a_model(attention: Any, expected: list[str]) -> None:
    found = cases("attention", attention)
    if attention is squeezes:  # with one token, rows of unequal length lose an axis as well
        expected = [*expected, "unequal cached lengths"]
    assert found == expected


def by_einsum(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    scores = torch.einsum("...id,...jd->...ij", q.double(), k.double()) / q.size(-1) ** 0.5
    if mask is not None:
        bias = mask if mask.is_floating_point() else torch.where(mask, 0.0, -math.inf)
        scores = scores + bias
    weights = torch.softmax(scores, -1)
    return (weights @ v.double()).to(q.dtype), weights.to(q.dtype)


@pytest.mark.parametrize("config", [CLASSIC, MODERN, ALIBI, SINUSOIDAL])
@pytest.mark.parametrize("attention", [by_einsum, scaled_dot_product_attention])
def test_a_right_attention_function_passes_in_every_model(
    attention: Any, config: ModelConfig
) -> None:
    assert cases("attention", attention, config) == []


# --- layers ---


class IgnoresAttend(MultiHeadAttention):
    def forward(self, x, mask=None, attend=scaled_dot_product_attention):
        return super().forward(x, mask)


class IgnoresMask(MultiHeadAttention):
    def forward(self, x, mask=None, attend=scaled_dot_product_attention):
        return super().forward(x, None, attend)


class Squeezes(MultiHeadAttention):
    def forward(self, x, mask=None, attend=scaled_dot_product_attention):
        return super().forward(x, mask, attend).squeeze()  # (1, T, d_model) would be harmless


class ExtraBuffer(MultiHeadAttention):
    def __init__(self, d_model, n_heads, bias=True):
        super().__init__(d_model, n_heads, bias)
        self.register_buffer("scale", torch.ones(1))


class OtherNames(nn.Module):
    def __init__(self, d_model, n_heads, bias=True):
        super().__init__()
        self.query = nn.Linear(d_model, d_model)


class TakesNoBias(MultiHeadAttention):
    def __init__(self, d_model, n_heads):
        super().__init__(d_model, n_heads)


class Frozen(RMSNorm):
    def __init__(self, d_model):
        super().__init__(d_model)
        self.weight.requires_grad_(False)


class ChangesItsInput(LayerNorm):
    def forward(self, x):
        x /= x.std(-1, keepdim=True)
        return super().forward(x)


class ForgetsTheMask(TransformerBlock):
    def forward(self, x, mask=None, attend=scaled_dot_product_attention):
        return super().forward(x, None, attend)


class ForgetsAttend(TransformerBlock):
    def forward(self, x, mask=None, attend=scaled_dot_product_attention):
        return super().forward(x, mask)


class OverTheBatch(LayerNorm):
    def forward(self, x):
        return F.layer_norm(x, (self.d_model,), self.weight, self.bias) * (
            1 if x.size(0) > 1 else 2
        )


class CountsFromZero(LearnedPositions):
    def forward(self, positions):
        return self.weight[: positions.size(-1)]


class CountsRowsFromZero(SinusoidalPositions):
    def forward(self, positions):
        return self.table[positions[:1]]


def rotates_from_zero(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    cos, sin = rotary_angles(torch.arange(x.size(2)), x.size(-1))
    return apply_rotary(x, cos, sin)


@pytest.mark.parametrize(
    ("part", "value", "config", "expected"),
    [
        ("multi_head", IgnoresAttend, CLASSIC, ["cached decoding", "unequal cached lengths"]),
        ("multi_head", Squeezes, CLASSIC, None),
        ("multi_head", ExtraBuffer, CLASSIC, ["the names or shapes of its parameters"]),
        ("multi_head", OtherNames, CLASSIC, ["the names or shapes of its parameters"]),
        ("multi_head", TakesNoBias, CLASSIC, ["building the model"]),
        ("rms_norm", Frozen, replace(MODERN, n_kv_heads=None), None),
        ("layer_norm", ChangesItsInput, CLASSIC, None),
        ("layer_norm", OverTheBatch, CLASSIC, None),
        ("block", ForgetsAttend, CLASSIC, ["cached decoding", "unequal cached lengths"]),
        ("learned_positions", CountsFromZero, CLASSIC, None),
        ("sinusoidal_positions", CountsRowsFromZero, SINUSOIDAL, ["unequal cached lengths"]),
        ("apply_rotary", rotates_from_zero, MODERN, ["cached decoding", "unequal cached lengths"]),
    ],
)
def test_a_layer_that_fails_in_a_model(
    part: str, value: Any, config: ModelConfig, expected: list[str] | None
) -> None:
    found = cases(part, value, config)
    assert found == expected if expected else found


@pytest.mark.parametrize("value", [IgnoresMask, ForgetsTheMask])
def test_a_layer_that_ignores_the_mask(value: Any) -> None:
    part = "block" if value is ForgetsTheMask else "multi_head"
    found = cases(part, value)
    assert {"a batch of 3", "batch size 1", "the gradients"} < set(found)
    assert "one token" not in found  # which has nothing to hide


def test_functions_that_fail_in_a_model() -> None:
    def strict(T: int, device: Any = None) -> Tensor:
        return torch.ones(T, T, dtype=torch.bool).tril(-1)

    def interleaved(x: Tensor, n_repeats: int) -> Tensor:
        return x.repeat(1, n_repeats, 1, 1)

    def first_row(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return alibi_bias(slopes, query_positions[:1], key_positions)

    def merged_without_transpose(x: Tensor) -> Tensor:
        B, n_heads, T, d_head = x.shape
        return x.reshape(B, T, n_heads * d_head)

    assert cases("causal_mask", strict)
    assert cases("repeat_kv", interleaved, MODERN)
    assert cases("alibi_bias", first_row, ALIBI) == ["unequal cached lengths"]
    assert cases("alibi_slopes", lambda n: torch.ones(n), ALIBI)
    assert "one token" not in cases("merge_heads", merged_without_transpose)
    assert cases("split_heads", lambda x, n: split_heads(x, n).flip(1))


def test_what_only_fails_with_additive_masks_is_named_so_in_an_alibi_model_too() -> None:
    assert cases("attention", ignores_additive_masks, ALIBI) == [ADDITIVE]
    assert "batch size 1" in cases("attention", ignores_mask_at_batch_size_1, ALIBI)


class SplitsInAMethod(nn.Module):
    """A right answer whose method has the name of an attribute of the reference's layer."""

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.out_proj = nn.Linear(d_model, d_model, bias)  # in another order than the reference
        self.v_proj = nn.Linear(d_model, d_model, bias)
        self.k_proj = nn.Linear(d_model, d_model, bias)
        self.q_proj = nn.Linear(d_model, d_model, bias)

    def split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def forward(self, x, mask=None, attend=scaled_dot_product_attention):
        q, k, v = (self.split_heads(proj(x)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attend(q, k, v, mask)[0].transpose(1, 2).flatten(2))


@pytest.mark.parametrize("config", [CLASSIC, ALIBI, SINUSOIDAL])
def test_a_right_layer_in_another_style_passes(config: ModelConfig) -> None:
    assert cases("multi_head", SplitsInAMethod, config) == []


REFERENCE = {
    **{"multi_head": MultiHeadAttention, "grouped_query": GroupedQueryAttention},
    **{"layer_norm": LayerNorm, "rms_norm": RMSNorm, "feed_forward": FeedForward},
    **{"swiglu": SwiGLU, "block": TransformerBlock, "token_embedding": TokenEmbedding},
    **{"merge_heads": merge_heads, "repeat_kv": repeat_kv},
}


@pytest.mark.parametrize("config", [CLASSIC, MODERN, ALIBI, SINUSOIDAL])
def test_the_reference_passes(config: ModelConfig) -> None:
    for part, value in REFERENCE.items():
        assert cases(part, value, config) == []


def test_the_masked_parts_are_parts() -> None:
    assert set(MASKED) <= {field.name for field in fields(Parts)}


@pytest.mark.parametrize("n_heads", [1, 2, 3, 16])
@pytest.mark.parametrize("max_seq_len", [1, 8, 1024])
def test_any_size_of_model_can_be_tried(n_heads: int, max_seq_len: int) -> None:
    config = ModelConfig(d_model=48, n_heads=n_heads, max_seq_len=max_seq_len)
    assert cases("feed_forward", FeedForward, config) == []


def test_an_error_is_kept_with_its_case() -> None:
    def fails(q, k, v, mask=None):
        if q.size(0) == 1:
            raise RuntimeError("no rows")
        return scaled_dot_product_attention(q, k, v, mask)

    found = differences({"attention": fails}, CLASSIC)
    errors = {each.case: str(each.error) for each in found}
    assert errors["batch size 1"] == "no rows"


def test_a_part_that_fails_in_bfloat16_is_found_where_that_is_asked_for() -> None:
    def needs_float32(q, k, v, mask=None):
        assert q.dtype == torch.float32
        return scaled_dot_product_attention(q, k, v, mask)

    assert "bfloat16" in cases("attention", needs_float32, dtype=torch.bfloat16)
    assert cases("attention", by_einsum, dtype=torch.bfloat16) == []


def test_all_parts_together_are_compared_in_the_model_itself() -> None:
    parts = {"attention": ignores_additive_masks, "multi_head": MultiHeadAttention}
    assert differences(parts, CLASSIC) == []
    assert differences(parts, ALIBI) != []
