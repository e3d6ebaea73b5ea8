"""Layers without modules around them: functions of a few operations, for one token at a time.

A linear layer's matrix is turned round once, so that a row of numbers times the matrix reads it in
order. RMSNorm is a length and a division: with d features,

    x / sqrt(mean(x^2) + eps) = sqrt(d) x / hypot(|x|, sqrt(d eps))

and the factor sqrt(d) goes into the weight. Dimensions: B rows, one token each.
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
LARGE = 2**17  # numbers in a matrix that is worth more than one thread


def linear_of(*layers: nn.Linear) -> Function:
    """The layers side by side, as one product: (B, d) -> (B, all their outputs)."""
    product = product_with(torch.cat(tuple(layer.weight for layer in layers)))
    biases = tuple(layer.bias for layer in layers if layer.bias is not None)
    if not biases:
        return product
    bias = torch.cat(biases)
    return lambda x: product(x).add_(bias)


def addition_of(layer: nn.Linear) -> Addition:
    """What the layer makes of y, added to x."""
    linear = linear_of(layer)
    return lambda x, y: linear(y).add_(x)


def product_with(weight: Tensor) -> Function:
    """x (B, d_in) -> x weight^T (B, d_out). A large matrix is cut into a piece for each thread:
    with few rows the time goes into reading it, and one thread cannot read as fast as two."""
    n_pieces = torch.get_num_threads() if weight.numel() >= LARGE else 1
    if n_pieces == 1 or weight.size(0) % n_pieces or weight.device.type != "cpu":
        matrix = weight.t().contiguous()
        return lambda x: torch.mm(x, matrix)
    pieces = weight.view(n_pieces, -1, weight.size(1)).mT.contiguous()  # (n_pieces, d_in, ...)

    def product(x: Tensor) -> Tensor:
        parts = torch.bmm(x.expand(n_pieces, *x.shape), pieces)  # (n_pieces, B, d_out / n_pieces)
        return parts.transpose(0, 1).reshape(x.size(0), -1)

    return product


def norm_of(norm: nn.Module) -> Function:
    """The same norm, without a module around it."""
    if isinstance(norm, RMSNorm):
        normalize = rms_norm_of(norm.d_model, norm.eps)
        weight = norm.weight * math.sqrt(norm.d_model)
        return lambda x: normalize(x).mul_(weight)
    norm = cast(LayerNorm, norm)
    return lambda x: torch.layer_norm(x, (norm.d_model,), norm.weight, norm.bias, norm.eps)


def rms_norm_of(width: int, eps: float) -> Function:
    """Divides rows of so many features by sqrt(sum(x^2) + width * eps), which is hypot(|x|, ...).

    That is their root mean square but for the factor sqrt(width), which can be put elsewhere.
    """
    shortest = torch.tensor(math.sqrt(width * eps), dtype=torch.float64)  # for any device and type
    return lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(shortest)


def main() -> None:
    """Compare each with the layer that it was made of."""
    torch.manual_seed(0)
    x, y, layer, norm = torch.randn(1, 8), torch.randn(1, 8), nn.Linear(8, 8), RMSNorm(8)
    with torch.no_grad():
        pairs = {
            "linear_of": (linear_of(layer)(x), layer(x)),
            "addition_of": (addition_of(layer)(x, y), x + layer(y)),
            "norm_of": (norm_of(norm)(x), norm(x)),
        }
    for name, (ours, theirs) in pairs.items():
        print(f"{name:12} largest difference {(ours - theirs).abs().max().item():.0e}")


if __name__ == "__main__":
    run_program(main)
