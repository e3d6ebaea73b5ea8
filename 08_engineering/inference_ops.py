"""Layers without modules around them: functions of a few operations, for one token at a time.

A linear layer's matrix is turned round once, so that a row of numbers times the matrix reads it in
order. RMSNorm is a length and a division: with d features,

    x / sqrt(mean(x^2) + eps) = sqrt(d) x / hypot(|x|, sqrt(d eps))

and the factor sqrt(d) goes, with the norm's weight, into the matrix that comes next. Dimensions: B
rows, one token each.
"""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from fused import LayerNorm, RMSNorm
from utils.errors import run_program

Function = Callable[[Tensor], Tensor]
Addition = Callable[[Tensor, Tensor], Tensor]
LARGE = 2**17  # numbers in a matrix that no longer waits near the processor


def linear_of(*layers: nn.Linear, norm: nn.Module | None = None) -> Function:
    """The layers side by side, after the norm, as one product: (B, d) -> (B, all outputs)."""
    product = product_of(torch.cat(tuple(layer.weight for layer in layers)), norm)
    biases = tuple(layer.bias for layer in layers if layer.bias is not None)
    if not biases:
        return product
    bias = torch.cat(biases)
    return lambda x: product(x).add_(bias)


def addition_of(layer: nn.Linear) -> Addition:
    """What the layer makes of y, added to x."""
    linear = linear_of(layer)
    return lambda x, y: linear(y).add_(x)


def product_of(weight: Tensor, norm: nn.Module | None = None) -> Function:
    """norm(x) weight^T, or without a norm x weight^T: (B, d_in) -> (B, d_out)."""
    if norm is None:
        return product_with(weight)
    if isinstance(norm, LayerNorm):
        product = product_with(weight)
        where, bias, eps = (norm.d_model,), norm.bias, norm.eps
        return lambda x: product(torch.layer_norm(x, where, norm.weight, bias, eps))
    norm = cast(RMSNorm, norm)
    normalize = rms_norm_of(norm.d_model, norm.eps, norm.weight)
    product = product_with(weight * (norm.weight * math.sqrt(norm.d_model)))
    return lambda x: product(normalize(x))


def product_with(weight: Tensor) -> Function:
    """x weight^T. With few rows the time of a large matrix goes into reading it.

    A processor that FBGEMM knows reads it as float16, half the bytes, and still multiplies and adds
    in float32: each weight is rounded, by a factor between 1 - 2^-11 and 1 + 2^-11.
    """
    known = weight.device.type == "cpu" and weight.dtype == torch.float32
    if weight.numel() >= LARGE and known and "fbgemm" in torch.backends.quantized.supported_engines:
        packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
        return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, packed)
    matrix = weight.t().contiguous()
    return lambda x: torch.mm(x, matrix)


def rms_norm_of(width: int, eps: float, like: Tensor) -> Function:
    """Divides rows of so many features by sqrt(sum(x^2) + width * eps), which is hypot(|x|, ...).

    That is their root mean square but for the factor sqrt(width), which can be put elsewhere.
    `like` is a tensor of the type that the rows will have, on their device.
    """
    shortest = like.new_tensor(math.sqrt(width * eps))
    return lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(shortest)


def main() -> None:
    """Compare each with the layer that it was made of."""
    torch.manual_seed(0)
    x, y, layer, norm = torch.randn(1, 8), torch.randn(1, 8), nn.Linear(8, 8), RMSNorm(8)
    with torch.no_grad():
        pairs = {
            "linear_of": (linear_of(layer)(x), layer(x)),
            "addition_of": (addition_of(layer)(x, y), x + layer(y)),
            "with a norm": (linear_of(layer, norm=norm)(x), layer(norm(x))),
        }
    for name, (ours, theirs) in pairs.items():
        print(f"{name:12} largest difference {(ours - theirs).abs().max().item():.0e}")


if __name__ == "__main__":
    run_program(main)
