"""Normalisation: each token's features are brought to a common scale for the next layer.

    LayerNorm(x) = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias      Ba et al. 2016
    RMSNorm(x)   =  x / sqrt(mean(x^2) + eps) * weight                     Zhang and Sennrich 2019

Both work on one token at a time, over its d_model features: nothing leaks between positions.

Dimensions: d_model features, the last axis; any axes before it.
"""

import torch
from torch import Tensor, nn

from utils.errors import run_program
from utils.shape_checker import check_shape


def rms_normalize(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Divide by the root mean square over the last axis: x (..., d) -> (..., d) with mean square 1.

    In bfloat16 the mean of squares is taken in float32, where it keeps its digits.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class LayerNorm(nn.Module):
    """Zero mean, unit variance over the features, then a learned scale and shift."""

    def __init__(self, d_model: int, bias: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        centered = x - x.mean(-1, keepdim=True)
        variance = centered.square().mean(-1, keepdim=True)  # divided by d_model, not d_model - 1
        scaled = centered * torch.rsqrt(variance + self.eps) * self.weight
        return scaled if self.bias is None else scaled + self.bias


class RMSNorm(nn.Module):
    """Unit mean square over the features, then a learned scale: LayerNorm without the centring."""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        return rms_normalize(x, self.eps) * self.weight


def main() -> None:
    """Show mean and root mean square of many tokens before and after each norm."""
    torch.manual_seed(0)
    x = 5 + 3 * torch.randn(10_000, 64)
    print("10,000 tokens of 64 features drawn around 5 with standard deviation 3:\n")
    for name, y in (("x", x), ("LayerNorm(x)", LayerNorm(64)(x)), ("RMSNorm(x)", RMSNorm(64)(x))):
        mean, rms = y.mean().item(), y.square().mean().sqrt().item()
        print(f"  {name:<13} mean {mean:6.3f}   root mean square {rms:6.3f}")


if __name__ == "__main__":
    run_program(main)
