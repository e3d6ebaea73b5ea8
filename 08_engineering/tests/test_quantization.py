"""Quantized weights against NumPy in float64, PyTorch's own quantization, and their properties."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_loader import evaluation_blocks
from evaluation import sum_losses
from parts import Parts
from quantization import (
    GROUP,
    Int4Linear,
    Int8Linear,
    dequantize_rows,
    int8_linear,
    pack_nibbles,
    quantize_rows,
    quantized,
    size_in_bytes,
    unpack_nibbles,
)
from small_model import load_small_model
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import UsageError
from utils.mock_corpus import generate

TIED = ModelConfig(vocab_size=11, max_seq_len=8, d_model=32, n_layers=2)


def random_layer(d_in: int = 64, d_out: int = 24, bias: bool = True) -> nn.Linear:
    return nn.Linear(d_in, d_out, bias)


# --- 8 bits ---


def test_the_codes_are_those_of_numpy_in_float64() -> None:
    weight = torch.randn(7, 40)
    q, scale = quantize_rows(weight)
    exact = weight.numpy().astype(np.float64)
    expected = np.abs(exact).max(axis=1, keepdims=True) / 127
    np.testing.assert_allclose(scale, expected[:, 0], rtol=1e-6)
    assert q.dtype == torch.int8
    assert np.array_equal(q, np.rint(exact / expected))


def test_the_rounded_matrix_is_that_of_pytorchs_own_quantization_per_channel() -> None:
    weight = torch.randn(5, 33)
    q, scale = quantize_rows(weight)
    zeros = torch.zeros(5, dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)
    torch.testing.assert_close(dequantize_rows(q, scale), theirs)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_no_weight_is_off_by_more_than_half_a_step(size: float) -> None:
    weight = size * torch.randn(50, 30, dtype=torch.float64)
    q, scale = quantize_rows(weight)
    error = (dequantize_rows(q, scale) - weight).abs()
    assert (error <= scale[:, None] / 2 * (1 + 1e-9)).all()


def test_the_largest_weight_of_a_row_gets_the_largest_code() -> None:
    weight = torch.randn(50, 30)
    q, _ = quantize_rows(weight)
    assert (q.abs().amax(1) == 127).all()
    assert torch.equal(q.abs().argmax(1), weight.abs().argmax(1))


def test_zero_stays_zero_and_signs_are_symmetric() -> None:
    weight = torch.randn(9, 20)
    weight[:, 3] = 0.0
    q, scale = quantize_rows(weight)
    assert (q[:, 3] == 0).all()
    assert torch.equal(quantize_rows(-weight)[0], -q)
    assert torch.equal(quantize_rows(-weight)[1], scale)


def test_a_row_of_zeros_stays_one() -> None:
    q, scale = quantize_rows(torch.zeros(2, 4))
    assert torch.equal(scale, torch.ones(2))  # not 0, by which nothing can be divided
    assert torch.equal(dequantize_rows(q, scale), torch.zeros(2, 4))


def test_a_row_does_not_depend_on_the_others() -> None:
    weight = torch.randn(3, 8)
    spoiled = weight.clone()
    spoiled[1, 0] = 1000.0
    assert torch.equal(quantize_rows(weight)[0][[0, 2]], quantize_rows(spoiled)[0][[0, 2]])


def test_quantizing_twice_changes_nothing() -> None:
    q, scale = quantize_rows(torch.randn(6, 10, dtype=torch.float64))
    again, _ = quantize_rows(dequantize_rows(q, scale))
    assert torch.equal(again, q)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_no_code_leaves_the_range(dtype: torch.dtype) -> None:
    q, _ = quantize_rows(torch.randn(300, 50).to(dtype))
    assert q.min() >= -127 and q.max() <= 127


@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 3, 64)])
def test_the_scaled_product_is_that_of_the_rounded_matrix(shape: tuple[int, ...]) -> None:
    x, layer = torch.randn(shape), random_layer()
    q, scale = quantize_rows(layer.weight.detach())
    expected = F.linear(x.double(), q.double() * scale.double()[:, None])
    torch.testing.assert_close(int8_linear(x, q, scale).double(), expected, rtol=1e-5, atol=1e-5)


def test_the_product_of_integers_is_that_of_pytorchs_integer_kernel() -> None:
    """With integer inputs nothing is rounded: torch._int_mm adds up in 32-bit integers."""
    x = torch.randint(-127, 128, (32, 64), dtype=torch.int8)
    q, scale = quantize_rows(torch.randn(24, 64))
    exact = torch._int_mm(x, q.t().contiguous())  # pyright: ignore  (32, 24) int32
    assert torch.equal(int8_linear(x.float(), q, scale), exact * scale)


def test_pytorchs_kernel_for_8_bit_weights_gives_the_same_on_the_same_integers() -> None:
    x, weight = torch.randn(3, 64), torch.randn(32, 64)
    q, scale = quantize_rows(weight)
    theirs = torch.ops.aten._weight_int8pack_mm(x, q, scale)
    torch.testing.assert_close(int8_linear(x, q, scale), theirs, rtol=1e-5, atol=1e-5)


def test_the_layer_is_close_to_the_one_it_was_made_from() -> None:
    layer = random_layer()
    x = torch.randn(100, 64)
    expected = layer(x)
    difference = Int8Linear(layer)(x) - expected
    assert difference.std() < 0.01 * expected.std()
    torch.testing.assert_close(
        Int8Linear(layer)(x), F.linear(x, Int8Linear(layer).weight, layer.bias)
    )


def test_a_large_weight_spoils_its_row_only() -> None:
    weight = torch.randn(4, 64)
    weight[0, 0] = 100.0
    q, scale = quantize_rows(weight)
    error = (dequantize_rows(q, scale) - weight).abs().mean(1)
    assert error[0] > 10 * error[1:].max()


# --- 4 bits ---


def test_packed_nibbles_come_back_and_take_half_the_bytes() -> None:
    q = torch.arange(-8, 8, dtype=torch.int8).repeat(3, 2)
    packed = pack_nibbles(q)
    assert packed.dtype == torch.uint8 and packed.shape == (3, 16)
    assert torch.equal(unpack_nibbles(packed), q)


def test_each_group_of_a_row_has_its_own_scale() -> None:
    layer = random_layer(d_in=2 * GROUP, d_out=3)
    with torch.no_grad():
        layer.weight[0, 0] = 100.0
    error = (Int4Linear(layer).weight - layer.weight).abs().detach()
    assert error[0, :GROUP].mean() > 10 * error[0, GROUP:].mean()
    groups = layer.weight.detach().reshape(-1, GROUP)
    half_a_step = groups.abs().amax(1, keepdim=True) / 7 / 2
    assert (error.reshape(-1, GROUP) <= half_a_step * 1.0001).all()


def test_a_row_that_is_no_multiple_of_the_group_is_refused() -> None:
    with pytest.raises(UsageError, match="40 inputs are not divisible by groups of 32"):
        Int4Linear(random_layer(d_in=40))


def test_a_layer_without_bias_has_none() -> None:
    x, layer = torch.randn(2, 64), random_layer(bias=False)
    for kind in (Int8Linear, Int4Linear):
        torch.testing.assert_close(kind(layer)(x), F.linear(x, kind(layer).weight))


# --- models ---


@pytest.mark.parametrize("kind", [Int8Linear, Int4Linear])
@pytest.mark.parametrize("parts", [Parts.reference(), Parts.fused()])
def test_a_quantized_model_computes_with_the_rounded_matrices(
    kind: type[Int8Linear] | type[Int4Linear], parts: Parts
) -> None:
    tokens = torch.randint(11, (2, 8))
    small = quantized(TinyTransformerLM(TIED, parts), kind)
    assert not any(type(module) is nn.Linear for module in small.modules())
    rounded = TinyTransformerLM(TIED, parts)
    for name, module in rounded.named_modules():
        if isinstance(module, nn.Linear):
            module.weight.data = small.get_submodule(name).weight  # pyright: ignore
    torch.testing.assert_close(small(tokens), rounded(tokens))


def test_the_original_model_stays_as_it_is() -> None:
    model = TinyTransformerLM(TIED)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    quantized(model)
    assert all(torch.equal(before[name], w) for name, w in model.state_dict().items())


def test_a_quantized_model_is_saved_and_loaded() -> None:
    small = quantized(TinyTransformerLM(TIED, seed=1))
    other = quantized(TinyTransformerLM(TIED, seed=2))
    other.load_state_dict(small.state_dict())
    tokens = torch.randint(11, (1, 8))
    assert torch.equal(small(tokens), other(tokens))


def test_bytes_are_counted_once_and_by_their_type() -> None:
    layer = random_layer(64, 24)
    assert size_in_bytes(layer) == 4 * (64 * 24 + 24)
    assert size_in_bytes(Int8Linear(layer)) == 64 * 24 + 4 * 24 + 4 * 24
    assert size_in_bytes(Int4Linear(layer)) == 64 * 24 // 2 + 4 * (64 * 24 // GROUP) + 4 * 24
    tied = nn.Module()
    tied.one = tied.two = layer
    assert size_in_bytes(tied) == size_in_bytes(layer)


@pytest.fixture(scope="module")
def losses() -> dict[str, float]:
    """Nats per character of the small model of lesson 07, on plays that it has not seen."""
    model, tokenizer = load_small_model(Parts.fused())
    tokens = tokenizer.encode_array(generate(3201, seed=1)[:3201])
    blocks: list[tuple[Tensor, Tensor]] = list(evaluation_blocks(tokens, 128, batch_size=25))
    models = {"float32": model, "int8": quantized(model), "int4": quantized(model, Int4Linear)}
    return {name: sum_losses(each, blocks) / 3200 for name, each in models.items()}


def test_eight_bits_cost_a_trained_model_nothing_and_four_a_little(
    losses: dict[str, float],
) -> None:
    assert abs(losses["int8"] - losses["float32"]) < 0.002
    assert 0.005 < losses["int4"] - losses["float32"] < 0.06
