"""Layers as functions of a few tensor operations, for decoding one token per row.

Each function here takes modules and returns a closure over prepared weights. A linear layer's
matrix is transposed once, so that the product reads it in memory order. RMSNorm becomes a norm and
a division: with d features,

    x / sqrt(mean(x^2) + eps) = sqrt(d) * x / hypot(|x|, sqrt(d * eps))

and the factor sqrt(d) and the norm's weight are multiplied into the next matrix.

Dimensions: B rows, one token each; d features.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feedforward import gelu, relu_squared
from fused import FusedLayerNorm, FusedRMSNorm
from utils.errors import run_program

Op = Callable[[Tensor], Tensor]
ResidualOp = Callable[[Tensor, Tensor], Tensor]
LARGE = 2**17  # weights in a matrix that does not stay in the processor's cache between tokens

# The activations of lesson 03, in place where that is possible.
ACTIVATION_OPS: dict[Op, Op] = {
    gelu: F.gelu,
    relu_squared: lambda x: x.relu_().square_(),
}


def linear_op(*layers: nn.Linear, norm: nn.Module | None = None) -> Op:
    """Several linear layers side by side, after a norm if given: (B, d) -> (B, all outputs)."""
    matmul = norm_matmul_op(torch.cat(tuple(layer.weight for layer in layers)), norm)
    biases = tuple(layer.bias for layer in layers if layer.bias is not None)
    if not biases:
        return matmul
    bias = torch.cat(biases)
    return lambda x: matmul(x).add_(bias)


def residual_linear_op(layer: nn.Linear) -> ResidualOp:
    """The function (x, y) -> x + layer(y)."""
    linear = linear_op(layer)
    return lambda x, y: linear(y).add_(x)


def norm_matmul_op(weight: Tensor, norm: nn.Module | None = None) -> Op:
    """norm(x) weight^T, or x weight^T without a norm: (B, d_in) -> (B, d_out).

    Raises TypeError for a norm of another kind than FusedLayerNorm and FusedRMSNorm.
    """
    if norm is None:
        return matmul_op(weight)
    if type(norm) is FusedLayerNorm:
        matmul = matmul_op(weight)
        shape = (norm.d_model,)
        return lambda x: matmul(torch.layer_norm(x, shape, norm.weight, norm.bias, norm.eps))
    if type(norm) is FusedRMSNorm:
        normalize = rms_norm_op(norm.d_model, norm.eps, norm.weight)
        scaled = weight * (norm.weight * math.sqrt(norm.d_model))
        matmul = matmul_op(scaled)
        return lambda x: matmul(normalize(x))
    raise TypeError(f"no inference op for {type(norm).__name__}: FusedLayerNorm or FusedRMSNorm")


def matmul_op(weight: Tensor) -> Op:
    """x weight^T. With few rows, reading a large matrix takes longer than multiplying by it.

    On a CPU that FBGEMM supports, a large float32 matrix is stored in float16, half the bytes, and
    still multiplied in float32: every weight is rounded by a factor of at most 1 +- 2^-11.
    """
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    has_fbgemm = "fbgemm" in torch.backends.quantized.supported_engines
    if weight.numel() >= LARGE and on_cpu and has_fbgemm:
        packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
        return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, packed)
    matrix = weight.t().contiguous()
    return lambda x: torch.mm(x, matrix)


def rms_norm_op(width: int, eps: float, like: Tensor) -> Op:
    """RMSNorm of rows (B, width) without its weight and without the factor sqrt(width).

    The caller multiplies that factor into what comes next. `like` gives the dtype and the device.
    """
    sqrt_width_eps = like.new_tensor(math.sqrt(width * eps))
    return lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(sqrt_width_eps)


def main() -> None:
    """Compare each function with the modules that it was made from."""
    torch.manual_seed(0)
    x = torch.randn(1, 8)
    y = torch.randn(1, 8)
    layer = nn.Linear(8, 8)
    norm = FusedRMSNorm(8)
    with torch.no_grad():
        pairs = {
            "linear_op": (linear_op(layer)(x), layer(x)),
            "with a norm": (linear_op(layer, norm=norm)(x), layer(norm(x))),
            "residual_linear_op": (residual_linear_op(layer)(x, y), x + layer(y)),
        }
    for name, (ours, expected) in pairs.items():
        print(f"{name:18} largest difference {(ours - expected).abs().max().item():.0e}")


if __name__ == "__main__":
    run_program(main)
