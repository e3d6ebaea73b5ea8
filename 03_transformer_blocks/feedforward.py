"""The feed-forward network: where a token, having listened to the others, thinks for itself.

    FeedForward(x) = W_down activation(W_up x)                     Vaswani et al. 2017, section 3.3
    SwiGLU(x)      = W_down (silu(W_gate x) * W_up x)              Shazeer 2020

Activations: GELU (Hendrycks and Gimpel 2016), ReLU squared (So et al. 2021), SiLU in SwiGLU.

Dimensions: d_model features, the last axis; d_ff features inside.
"""

import math

import torch
from torch import Tensor, nn

from utils.errors import pick, run_program
from utils.shape_checker import check_shape


def gelu(x: Tensor) -> Tensor:
    """x times the chance that a standard normal variable is below x; any shape."""
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2; any shape. Cheap, and sparse: negative inputs give exact zeros."""
    return torch.relu(x).square()


def silu(x: Tensor) -> Tensor:
    """x times its logistic sigmoid, also called swish; any shape."""
    return x * torch.sigmoid(x)


ACTIVATIONS = {"gelu": gelu, "relu2": relu_squared}


class FeedForward(nn.Module):
    """Widen to d_ff, bend, and come back to d_model; the same for every position."""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.activation = ACTIVATIONS[pick(activation, ACTIVATIONS, "activation")]
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        return self.down_proj(self.activation(self.up_proj(x)))


class SwiGLU(nn.Module):
    """A feed-forward network in which one half of the widened features opens and shuts the other.

    It has three matrices where FeedForward has two: d_ff = 8/3 d_model here costs the same as
    4 d_model there.
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = True) -> None:
        super().__init__()
        self.d_model = d_model
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


def main() -> None:
    """Show what each activation makes of a few numbers."""
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
    print(f"{'x':>12}" + "".join(f"{value:8.2f}" for value in x))
    for function in (gelu, relu_squared, silu):
        print(f"{function.__name__:>12}" + "".join(f"{value:8.2f}" for value in function(x)))


if __name__ == "__main__":
    run_program(main)
