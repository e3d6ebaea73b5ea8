"""The feed-forward network: two linear layers and a nonlinearity, applied to each token by itself.

    FeedForward(x) = W_down activation(W_up x)                     Vaswani et al. 2017, section 3.3
    SwiGLU(x)      = W_down (silu(W_gate x) * W_up x)              Shazeer 2020, section 2

Attention moves information between tokens; the feed-forward network processes what has arrived.
Activations: GELU (Hendrycks and Gimpel 2016), ReLU squared (So et al. 2021), SiLU in SwiGLU. The
first transformer used ReLU.

Dimensions: d_model features, the last axis; d_ff hidden features.
"""

import math

import torch
from torch import Tensor, nn

from utils.errors import pick, run_program
from utils.shape_checker import check_shape


def gelu(x: Tensor) -> Tensor:
    """x Phi(x), where Phi is the standard normal distribution function; any shape.

    A smooth ReLU: close to x for large x, close to 0 for very negative x.
    """
    # Phi(x) = (1 + erf(x / sqrt(2))) / 2: the probability that a standard normal is below x
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2; any shape. Cheap, and sparse: negative inputs give exactly zero."""
    return torch.relu(x).square()


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x), also called swish; any shape."""
    return x * torch.sigmoid(x)  # the same idea as GELU, with a logistic curve for Phi


ACTIVATIONS = {"gelu": gelu, "relu2": relu_squared}  # what ModelConfig calls them


class FeedForward(nn.Module):
    """Project up to d_ff, apply the activation, project back down; each position separately."""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.activation = ACTIVATIONS[pick(activation, ACTIVATIONS, "activation")]
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)  # W_up
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)  # W_down

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        hidden = self.activation(self.up_proj(x))  # (..., d_ff)
        return self.down_proj(hidden)  # (..., d_model)


class SwiGLU(nn.Module):
    """A gated feed-forward network: one projection decides how much of the other passes.

    It has three matrices where FeedForward has two, so d_ff = 8/3 d_model here has as many weights
    as d_ff = 4 d_model there.
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = True) -> None:
        super().__init__()
        self.d_model = d_model
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)  # W_gate
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)  # W_up
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)  # W_down

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        check_shape(x, ("...", "d_model"), d_model=self.d_model)
        gate = silu(self.gate_proj(x))  # (..., d_ff): near 0 shuts a feature off
        return self.down_proj(gate * self.up_proj(x))  # (..., d_model)


def main() -> None:
    """Print each activation at a few inputs."""
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
    print(f"{'x':>12}" + "".join(f"{value:8.2f}" for value in x))
    for function in (gelu, relu_squared, silu):
        print(f"{function.__name__:>12}" + "".join(f"{value:8.2f}" for value in function(x)))


if __name__ == "__main__":
    run_program(main)
