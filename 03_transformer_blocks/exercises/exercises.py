"""Exercises of lesson 03: the transformer block. Replace each `raise` with your own code.

    python 03_transformer_blocks/exercises/exercises.py   check them all
    make watch                                            check on every save, one after the other
    make hint EX=3.2                                      one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md why. Later exercises may use earlier ones.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction
from grouped_query_attention import grouped_attention
from utils.grader.check import check_file


def predict_stream() -> tuple[float, float, float, float]:
    """Exercise 3.1, a prediction: how large does the residual stream become?

    A stack of blocks runs on an embedding whose features have variance 1. Nothing rescales the
    stream. Each block adds two updates to it, that of attention and that of the feed-forward
    network; every update has variance 1 and is independent of what the stream holds.

    Returns the root mean square of the stream's features (their mean is 0) after 4, 12, 24 and 40
    blocks, to two decimals or better, computed by hand.
    """
    raise NotImplementedError("Exercise 3.1: predict_stream")  # TODO: return your prediction


class LayerNorm(nn.Module):
    """Exercise 3.2: bring each token to mean 0 and variance 1, then scale and shift each feature.

    The constructor is complete: `weight` and `bias` are (d_model,) parameters, and bias is None
    for bias=False. Write forward.
    """

    def __init__(self, d_model: int, bias: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))  # one scale per feature
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None  # one shift per feature

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model): (x - mean) / sqrt(variance + eps) * weight + bias.

        Mean and variance are those of the d_model features of one token; the variance is the mean
        of the squared deviations. Write it without F.layer_norm.
        """
        raise NotImplementedError("Exercise 3.2: LayerNorm.forward")  # TODO: your code here


class RMSNorm(nn.Module):
    """Exercise 3.3: divide each token by its root mean square, then scale each feature.

    Its only parameter is `weight` (d_model,), which starts as ones. Write both methods.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        """Make the parameter, and keep eps."""
        raise NotImplementedError("Exercise 3.3: RMSNorm.__init__")  # TODO: your code here

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model): x / sqrt(mean of the squares + eps) * weight.

        The mean runs over the d_model features of one token. Write it without F.rms_norm.
        """
        raise NotImplementedError("Exercise 3.3: RMSNorm.forward")  # TODO: your code here


def gelu(x: Tensor) -> Tensor:
    """Exercise 3.4: x times Phi(x), where Phi is the standard normal distribution function.

    Phi(x) = (1 + erf(x / sqrt(2))) / 2. Returns a tensor of the shape of x, exact (not one of the
    common approximations). Write it without F.gelu.
    """
    raise NotImplementedError("Exercise 3.4: gelu")  # TODO: your code here


def relu_squared(x: Tensor) -> Tensor:
    """Also exercise 3.4: the square of x where x is positive, else 0; the shape of x."""
    raise NotImplementedError("Exercise 3.4: relu_squared")  # TODO: your code here


class FeedForward(nn.Module):
    """Exercise 3.5: each token looks at d_ff hidden features of its own, and writes back.

    Two linear layers: `up_proj` from d_model to d_ff features, `down_proj` back to d_model; both
    have a bias unless bias=False. Between them the activation, "gelu" or "relu2", from 3.4.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        """Make the two layers, and keep what forward needs."""
        raise NotImplementedError("Exercise 3.5: FeedForward.__init__")  # TODO: your code here

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        raise NotImplementedError("Exercise 3.5: FeedForward.forward")  # TODO: your code here


class SwiGLU(nn.Module):
    """Exercise 3.6: a feed-forward network in which one projection opens and closes the other.

    SwiGLU(x) = down_proj(silu(gate_proj(x)) * up_proj(x)), where silu(z) = z sigmoid(z). The layers
    `gate_proj` and `up_proj` go from d_model to d_ff features, `down_proj` back to d_model; all
    three have a bias unless bias=False.
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = True) -> None:
        """Make the three layers."""
        raise NotImplementedError("Exercise 3.6: SwiGLU.__init__")  # TODO: your code here

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        raise NotImplementedError("Exercise 3.6: SwiGLU.forward")  # TODO: your code here


def swiglu_width(d_ff: int, multiple_of: int = 1) -> int:
    """Exercise 3.7: how wide is a SwiGLU with as many weights as a FeedForward?

    Both without biases, both with the same d_model. `d_ff` is the width of the FeedForward.

    Returns the smallest multiple of `multiple_of` with which a SwiGLU has at least as many weights.
    """
    raise NotImplementedError("Exercise 3.7: swiglu_width")  # TODO: your code here


def layer_norm_backward(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Exercise 3.8: the gradients of LayerNorm, by hand.

    y = normalized * weight + bias, where normalized = (x - mean) / sqrt(variance + eps), as in 3.2.
    grad_output is the gradient of a loss with respect to y; x and grad_output (..., d_model) with
    any leading axes, weight (d_model,).

    Returns (grad_x (..., d_model), grad_weight (d_model,), grad_bias (d_model,)), without autograd.
    """
    raise NotImplementedError("Exercise 3.8: layer_norm_backward")  # TODO: your code here


class TransformerBlock(nn.Module):
    """Exercise 3.9: attention and a feed-forward network, each with a norm and a residual.

    The pieces come in already built, and the constructor is complete: write forward.
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
        placement: str = "pre",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.placement = placement
        self.attention = attention
        self.feed_forward = feed_forward
        self.attention_norm = attention_norm
        self.feed_forward_norm = feed_forward_norm
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        """x (B, T, d_model) -> (B, T, d_model).

        First attention, self.attention(..., mask, attend), then self.feed_forward(...). With
        placement "pre" a sublayer reads the normed stream, and its update is added to the stream
        itself. With "post" it reads the stream, and the norm comes after the addition. Each update
        passes through self.dropout before it is added.
        """
        raise NotImplementedError("Exercise 3.9: TransformerBlock.forward")  # TODO: your code here


def initial_values(shapes: dict[str, tuple[int, ...]], std: float = 0.02) -> dict[str, Tensor]:
    """Exercise 3.10, a repair: where should the training of a block start?

    shapes: the shape of every parameter of a TransformerBlock, by its name, such as
    {"attention.q_proj.weight": (64, 64), "attention_norm.bias": (64,), ...}.

    Returns the initial value of each: zeros for biases, and for the two matrices that write to the
    residual stream, attention.out_proj.weight and feed_forward.down_proj.weight; ones for the
    weights of norms; normal random numbers with standard deviation std for all other matrices. The
    code below the raise has one mistake. Delete the raise line, find the mistake, repair it.
    """
    raise NotImplementedError("Exercise 3.10: initial_values")  # TODO: delete, then repair
    values = {}
    for name, shape in shapes.items():
        if name.endswith(("bias", "proj.weight")):
            values[name] = torch.zeros(shape)
        elif "norm" in name:
            values[name] = torch.ones(shape)
        else:
            values[name] = std * torch.randn(shape)
    return values


def block_budget(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """Exercise 3.11: what does a block hold, and what does it cost?

    Attention has four matrices of (d_model, d_model). The feed-forward network has an up and a down
    matrix between d_model and d_ff features; gated=True adds a gate matrix of the size of up.

    Returns (weights of all the matrices, multiply-adds of one forward pass over T tokens). Biases,
    norms, activations and the softmax are not counted; the two products of attention, queries times
    keys and weights times values, are, for all T x T pairs.
    """
    raise NotImplementedError("Exercise 3.11: block_budget")  # TODO: your code here


def read_curves() -> dict[str, str]:
    """Exercise 3.12, reading: which mistake made which curve?

    The picture 03_transformer_blocks/pictures/which_curve.png (it is in theory.md too) shows the
    losses of six training runs; the scale is logarithmic. The dotted line is the loss of equal
    probabilities, the dashed one that of knowing only how frequent each character is.

    Returns the letter of each run: {"sound": ..., "learning rate too low": ..., "learning rate too
    high": ..., "initial weights too large": ..., "no residual connections": ..., "no causal mask":
    ...}, each "A" to "F".
    """
    raise NotImplementedError("Exercise 3.12: read_curves")  # TODO: return your answer


def route(logits: Tensor, k: int) -> Tensor:
    """Exercise 3.13, a challenge: which experts does each token go to, and with which weight?

    logits (..., n_experts): the router's score of each expert, for each token. A token goes to the
    k experts with its largest scores, to k even if more are equal; their weights are the softmax
    of these k scores alone.

    Returns the gates (..., n_experts), of the dtype of logits: the weights of the chosen experts,
    which sum to 1 for each token, and exactly 0 for all others. Gradients flow through them.
    """
    raise NotImplementedError("Exercise 3.13: route")  # TODO: your code here


def load_balance_loss(logits: Tensor, gates: Tensor) -> Tensor:
    """Exercise 3.14, a challenge: a loss that is small when all experts have as much to do.

    logits (..., n_experts) and gates (..., n_experts) as in 3.13; a gate above 0 is a choice. For
    each expert i: f_i is its share of all the choices, P_i the mean over the tokens of its
    probability, the softmax of all the logits.

    Returns n_experts times the sum of f_i P_i, a tensor without axes: 1 where all experts are
    equally used. Gradients flow through P, and through P only.
    """
    raise NotImplementedError("Exercise 3.14: load_balance_loss")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)
