"""Normalization: bring the features of each token to a common scale for the next layer.

    LayerNorm(x) = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias      Ba et al. 2016, sec. 3
    RMSNorm(x)   =  x / sqrt(mean(x^2) + eps) * weight                     Zhang and Sennrich 2019

Both use the d_model features of one token only, so no information flows between positions. The
small eps keeps the division finite when all features are equal (LayerNorm) or zero (RMSNorm).

Dimensions: d_model features, the last axis; any axes before it.
"""

import torch
from torch import Tensor, nn

from utils.errors import run_program
from utils.shape_checker import check_shape


def rms_normalize(x: Tensor, eps: float = 1e-5) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axis: x (..., d) -> (..., d) with mean square 1.

    bfloat16 inputs are computed in float32 and rounded once, at the end.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # float64 stays float64
    mean_square = wide.square().mean(-1, keepdim=True)  # (..., 1)
    return (wide * torch.rsqrt(mean_square + eps)).to(x.dtype)


class LayerNorm(nn.Module):
    """Normalize each token to mean 0 and variance 1, then apply a learned scale and shift."""

    def __init__(self, d_model: int, bias: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))  # scale, called gain g in the paper
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None  # shift, b in the paper

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        centered = x - x.mean(-1, keepdim=True)  # x - mean(x)
        variance = centered.square().mean(-1, keepdim=True)  # divided by d_model, not d_model - 1
        # eps inside the root: features that are all equal give zeros, not nan
        scaled = centered * torch.rsqrt(variance + self.eps) * self.weight
        return scaled if self.bias is None else scaled + self.bias


class RMSNorm(nn.Module):
    """LayerNorm without centring and shift: divide by the root mean square, then scale.

    Zhang and Sennrich 2019, section 4.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))  # no bias: nothing is shifted

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        return rms_normalize(x, self.eps) * self.weight


def main() -> None:
    """Print mean and root mean square of many tokens, before and after each norm."""
    torch.manual_seed(0)
    x = 5 + 3 * torch.randn(10_000, 64)
    print("10,000 tokens with 64 random features each, mean 5 and standard deviation 3:\n")
    for name, y in (("x", x), ("LayerNorm(x)", LayerNorm(64)(x)), ("RMSNorm(x)", RMSNorm(64)(x))):
        mean = y.mean().item()
        rms = y.square().mean().sqrt().item()
        print(f"  {name:<13} mean {mean:6.3f}   root mean square {rms:6.3f}")


if __name__ == "__main__":
    run_program(main)
