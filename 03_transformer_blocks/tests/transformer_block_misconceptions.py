"""Common wrong answers to the exercises of lesson 03; each docstring is the diagnosis.

A learner whose result equals that of one of them is shown its docstring. `MISCONCEPTIONS` lists
them by the function or class that they imitate.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction
from feedforward import FeedForward as RightFeedForward
from feedforward import SwiGLU as RightSwiGLU
from grouped_query_attention import grouped_attention
from layer_norm import LayerNorm as RightLayerNorm
from layer_norm import RMSNorm as RightRMSNorm
from transformer_block import TransformerBlock as RightBlock

# --- 3.1 predict_stream ---

Four = tuple[float, float, float, float]


def variances() -> Four:
    """these numbers are variances, or sizes added up as if every update pointed the same way; the
    variances of independent terms add, and a root mean square is the root of a variance"""
    return 9.0, 25.0, 49.0, 81.0


def one_update_per_block() -> Four:
    """one update per block is counted; attention and the feed-forward network each add one"""
    return 2.236, 3.606, 5.0, 6.403


def embedding_left_out() -> Four:
    """the embedding is left out: the stream has variance 1 before the first block"""
    return 2.828, 4.899, 6.928, 8.944


def always_one() -> Four:
    """the stream is taken to be normalized; here nothing rescales it, it is only added to"""
    return 1.0, 1.0, 1.0, 1.0


def one_update_and_no_root() -> Four:
    """one update per block is counted, and the root is missing; a block adds two updates, and the
    root mean square is the root of a variance"""
    return 5.0, 13.0, 25.0, 41.0


def root_of_the_depth() -> Four:
    """this is the root of the number of blocks; count what is there before the first block, and
    both updates of each"""
    return 2.0, 3.464, 4.899, 6.325


def variances_of_the_updates() -> Four:
    """these are variances, and the embedding is left out; take the root of all that adds up"""
    return 8.0, 24.0, 48.0, 80.0


def one_update_too_many() -> Four:
    """one update too many is counted: the embedding has variance 1, then each block adds 2"""
    return 3.162, 5.099, 7.071, 9.055


def mean_of_the_updates() -> Four:
    """the updates are averaged, so they shrink; they are added up"""
    return 0.333, 0.2, 0.143, 0.111


# --- 3.2 LayerNorm ---


def layer_norm_variant(
    self: RightLayerNorm,
    x: Tensor,
    *,
    dim: int | tuple[int, ...] = -1,
    spread_dim: int | tuple[int, ...] | None = None,
    correction: int = 0,
    eps: str = "inside",
    center: bool = True,
    power: float = 0.5,
) -> Tensor:
    """LayerNorm with one thing changed, used by the wrong answers."""
    mean = x.mean(dim, keepdim=True)
    variance = x.var(dim if spread_dim is None else spread_dim, correction=correction, keepdim=True)
    if eps == "inside":
        below = (variance + self.eps) ** power
    else:
        below = variance**power + (self.eps if eps == "outside" else 0.0)
    normalized = (x - mean if center else x) / below
    scaled = normalized * self.weight
    return scaled if self.bias is None else scaled + self.bias


class SampleVariance(RightLayerNorm):
    """the variance is divided by d_model - 1, the default of var and std; LayerNorm divides by
    d_model (correction=0)"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, correction=1)


class SampleStd(RightLayerNorm):
    """the variance is divided by d_model - 1, the default of var and std; LayerNorm divides by
    d_model (correction=0)"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, correction=1, eps="outside")


class EpsOutsideTheRoot(RightLayerNorm):
    """eps is added to the root; add it to the variance, below the root"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, eps="outside")


class EpsForgotten(RightLayerNorm):
    """eps is not used: features that are all equal give 0 / 0, which is nan"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, eps="none")


class EpsIsFixed(RightLayerNorm):
    """eps is 1e-5 whatever was given; use self.eps"""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-5)


class DividedByTheVariance(RightLayerNorm):
    """the deviations are divided by the variance; divide by its square root"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, power=1.0)


class RootOfTheStd(RightLayerNorm):
    """a root is taken of the standard deviation, which is a root already; the root belongs around
    variance + eps"""

    def forward(self, x: Tensor) -> Tensor:
        spread = x.std(-1, correction=0, keepdim=True)
        scaled = (x - x.mean(-1, keepdim=True)) / torch.sqrt(spread + self.eps) * self.weight
        return scaled if self.bias is None else scaled + self.bias


class NotCentered(RightLayerNorm):
    """the mean is not subtracted from what is divided"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, center=False)


class OnlyCentered(RightLayerNorm):
    """the mean is subtracted, but nothing is divided: the variance is not 1 yet"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, power=0.0)


class OverTheTokens(RightLayerNorm):
    """mean and variance run over the tokens, the second to last axis; they belong to one token, so
    take them over the last axis"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, dim=-2)


class OverTheBatch(RightLayerNorm):
    """mean and variance run over axis 0; that is batch normalization, in which sequences see each
    other. Take the last axis"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, dim=0)


class OverEverything(RightLayerNorm):
    """mean and variance are those of the whole tensor; each token has its own (dim=-1,
    keepdim=True)"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, dim=tuple(range(x.dim())))


class OverAxisOne(RightLayerNorm):
    """mean and variance run over axis 1, which is the last one only without a batch axis before the
    tokens; count from the end: dim=-1"""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm_variant(self, x, dim=1)


class WithoutKeepdim(RightLayerNorm):
    """mean and variance have lost their axis (no keepdim=True), so they line up with the features
    in place of the tokens"""

    def forward(self, x: Tensor) -> Tensor:
        normalized = (x - x.mean(-1)) / torch.sqrt(x.var(-1, correction=0) + self.eps)
        scaled = normalized * self.weight
        return scaled if self.bias is None else scaled + self.bias


class WithoutScaleAndShift(RightLayerNorm):
    """weight and bias are not used: the normalized features are returned as they are"""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], None, None, self.eps)


class WithoutShift(RightLayerNorm):
    """the bias is not added"""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, None, self.eps)


class ShiftedBeforeScaled(RightLayerNorm):
    """the bias is added before the multiplication by weight; scale first, then shift"""

    def forward(self, x: Tensor) -> Tensor:
        normalized = F.layer_norm(x, x.shape[-1:], None, None, self.eps)
        return (normalized if self.bias is None else normalized + self.bias) * self.weight


class BiasAlwaysThere(RightLayerNorm):
    """bias is None for bias=False, and None can't be added: ask before you add it"""

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        normalized = centered / torch.sqrt(centered.square().mean(-1, keepdim=True) + self.eps)
        return normalized * self.weight + self.bias  # pyright: ignore[reportOperatorIssue]


class VarianceOfTheRawSquares(RightLayerNorm):
    """the squares of x itself are averaged; a variance averages the squared deviations from the
    mean"""

    def forward(self, x: Tensor) -> Tensor:
        below = torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps)
        scaled = (x - x.mean(-1, keepdim=True)) / below * self.weight
        return scaled if self.bias is None else scaled + self.bias


# --- 3.3 RMSNorm ---


class RMSCentered(RightRMSNorm):
    """the mean is subtracted, as in LayerNorm; RMSNorm leaves it in"""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, None, self.eps)


class RMSOfTheDeviations(RightRMSNorm):
    """x is divided by its standard deviation; RMSNorm averages the squares of x itself"""

    def forward(self, x: Tensor) -> Tensor:
        below = torch.sqrt(x.var(-1, correction=0, keepdim=True) + self.eps)
        return x / below * self.weight


class RMSWithoutRoot(RightRMSNorm):
    """x is divided by the mean of the squares; divide by its root"""

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class RMSSum(RightRMSNorm):
    """the squares are summed, so x is divided by its length; average them over the features"""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + self.eps) * self.weight


class RMSEpsOutside(RightRMSNorm):
    """eps is added to the root; add it to the mean of the squares, below the root"""

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True).sqrt() + self.eps) * self.weight


class RMSEpsFixed(RightRMSNorm):
    """eps is 1e-5, or left out, whatever was given; use self.eps"""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-5)


class RMSMultiplied(RightRMSNorm):
    """x is multiplied by the root mean square; divide by it"""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class RMSWithoutWeight(RightRMSNorm):
    """weight is not used: every feature keeps scale 1"""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], None, self.eps)


class RMSMeanAbsolute(RightRMSNorm):
    """the absolute values are averaged; square, average, then take the root"""

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.abs().mean(-1, keepdim=True) + self.eps) * self.weight


class RMSSquareOfTheMean(RightRMSNorm):
    """the mean is squared; average the squares"""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.mean(-1, keepdim=True).square() + self.eps) * self.weight


class RMSOverTokens(RightRMSNorm):
    """the mean runs over the tokens, the second to last axis; take the features of one token,
    dim=-1"""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-2, keepdim=True) + self.eps) * self.weight


class RMSOverEverything(RightRMSNorm):
    """the mean runs over the whole tensor; each token has its own (dim=-1, keepdim=True)"""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean() + self.eps) * self.weight


class RMSWithoutKeepdim(RightRMSNorm):
    """the mean of the squares has lost its axis (no keepdim=True), so it lines up with the features
    in place of the tokens"""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1) + self.eps) * self.weight


class RMSWithBias(RightRMSNorm):
    """there is a bias; RMSNorm shifts nothing, its only parameter is weight"""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__(d_model, eps)
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.bias


class RMSWithoutSuper(nn.Module):
    """super().__init__() is not called, or too late; nn.Module must be set up before it can hold a
    parameter"""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        self.weight = nn.Parameter(torch.ones(d_model))


class RMSPlainTensor(nn.Module):
    """weight is a plain tensor, which no optimizer will ever see; make it an nn.Parameter"""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = torch.ones(d_model)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class RMSStartsAtZero(RightRMSNorm):
    """weight starts as zeros, so the norm gives zeros; start with ones"""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__(d_model, eps)
        nn.init.zeros_(self.weight)


class RMSStartsRandom(RightRMSNorm):
    """weight starts with random values; start with ones, so that a new norm scales nothing"""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__(d_model, eps)
        nn.init.normal_(self.weight)


class RMSOneScale(RightRMSNorm):
    """weight is a single number; each feature has a scale of its own, so it is (d_model,)"""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__(d_model, eps)
        self.weight = nn.Parameter(torch.ones(1))


# --- 3.4 gelu and relu_squared ---


def sigmoid_gelu(x: Tensor) -> Tensor:
    """this is x sigmoid(1.702 x), an approximation of GELU; use erf"""
    return x * torch.sigmoid(1.702 * x)


def silu_for_gelu(x: Tensor) -> Tensor:
    """this is SiLU, x sigmoid(x); GELU uses the normal distribution function, made with erf"""
    return x * torch.sigmoid(x)


def tanh_gelu(x: Tensor) -> Tensor:
    """this is the tanh approximation of GELU, which GPT-2 used; the exact one uses erf"""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x * (1 + torch.tanh(inner)) / 2


def only_phi(x: Tensor) -> Tensor:
    """this is Phi(x) alone; GELU is x times that"""
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def density(x: Tensor) -> Tensor:
    """x is multiplied by the bell curve, the density; Phi is the area below it, made with erf"""
    return x * torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def root_of_two_forgotten(x: Tensor) -> Tensor:
    """erf is taken of x; take it of x / sqrt(2)"""
    return x * (1 + torch.erf(x)) / 2


def half_forgotten(x: Tensor) -> Tensor:
    """the result is twice too large: Phi is half of 1 + erf"""
    return x * (1 + torch.erf(x / math.sqrt(2)))


def one_forgotten(x: Tensor) -> Tensor:
    """erf is between -1 and 1; Phi, a probability, adds 1 before it halves"""
    return x * torch.erf(x / math.sqrt(2)) / 2


def divided_by_two_inside(x: Tensor) -> Tensor:
    """x is divided by 2 inside erf; divide by the root of 2"""
    return x * (1 + torch.erf(x / 2)) / 2


def multiplied_inside(x: Tensor) -> Tensor:
    """x is multiplied by the root of 2 inside erf; divide by it"""
    return x * (1 + torch.erf(x * math.sqrt(2))) / 2


def one_number_at_a_time(x: Tensor) -> Tensor:
    """math.erf works on a single number; torch.erf works on a whole tensor"""
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def plain_relu(x: Tensor) -> Tensor:
    """this is ReLU: all or nothing. GELU lets a little of what is below 0 through"""
    return torch.relu(x)


def halves_in_the_wrong_place(x: Tensor) -> Tensor:
    """only erf is halved: both 1 and erf are above the 2"""
    return x * (1 + torch.erf(x / math.sqrt(2)) / 2)


def every_square(x: Tensor) -> Tensor:
    """negative numbers are squared too; they should give 0, so clip before you square"""
    return x.square()


def not_squared(x: Tensor) -> Tensor:
    """this is ReLU; its square is asked for"""
    return torch.relu(x)


def square_with_sign(x: Tensor) -> Tensor:
    """the square keeps the sign of x; negative numbers should give 0"""
    return x * x.abs()


def doubled_relu(x: Tensor) -> Tensor:
    """ReLU is doubled here; it should be squared"""
    return 2 * torch.relu(x)


def negatives_squared(x: Tensor) -> Tensor:
    """the squares are those of the negative numbers; keep the positive ones"""
    return torch.relu(-x).square()


def root_of_relu(x: Tensor) -> Tensor:
    """this is the root of ReLU; its square is asked for"""
    return torch.relu(x).sqrt()


def negatives_pass(x: Tensor) -> Tensor:
    """negative numbers pass unchanged; they should give 0"""
    return torch.where(x > 0, x.square(), x)


def gelu_squared(x: Tensor) -> Tensor:
    """this is the square of GELU; ReLU is exactly 0 below 0"""
    return F.gelu(x).square()


# --- 3.5 FeedForward ---


def hidden_of(self: RightFeedForward, x: Tensor) -> Tensor:
    return self.activation(self.up_proj(x))


class WithoutActivation(RightFeedForward):
    """there is no activation: two linear layers in a row are one linear layer"""

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.up_proj(x))


class ReluInstead(RightFeedForward):
    """the activation is ReLU whatever was asked for; use gelu and relu_squared of 3.4"""

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(torch.relu(self.up_proj(x)))


class AlwaysGelu(RightFeedForward):
    """the activation is GELU whatever was asked for; "relu2" means relu_squared"""

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x)))


class AlwaysReluSquared(RightFeedForward):
    """the activation is ReLU squared whatever was asked for; "gelu" is the default"""

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(torch.relu(self.up_proj(x)).square())


class ReluForReluSquared(RightFeedForward):
    """for "relu2" the activation is ReLU; the 2 says that it is squared"""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up_proj(x)
        is_gelu = self.activation(-torch.ones(1)).item() != 0
        return self.down_proj(F.gelu(hidden) if is_gelu else torch.relu(hidden))


class ActivationAtTheEnd(RightFeedForward):
    """the activation comes after down_proj; it belongs between the two layers"""

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.down_proj(self.up_proj(x)))


class ActivationTwice(RightFeedForward):
    """the activation comes after both layers; what is written to the stream must be able to be
    negative, so it belongs between them only"""

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.down_proj(hidden_of(self, x)))


class ActivationFirst(RightFeedForward):
    """the activation is applied to x; it belongs between the two layers"""

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.up_proj(self.activation(x)))


class AddsTheInput(RightFeedForward):
    """x is added to the result; the residual connection belongs to the block, not to this layer"""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down_proj(hidden_of(self, x))


class SoftmaxInside(RightFeedForward):
    """the hidden features are a softmax; they don't compete with each other: use the activation"""

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(torch.softmax(self.up_proj(x), -1))


class OnlyUp(RightFeedForward):
    """the hidden features are returned; project them down again"""

    def forward(self, x: Tensor) -> Tensor:
        return hidden_of(self, x)


class BiasIgnored(RightFeedForward):
    """bias=False is not passed on: the layers have biases all the same"""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__(d_model, d_ff, activation)


class BiasIgnoredBelow(RightFeedForward):
    """bias is passed on to one of the two layers only"""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__(d_model, d_ff, activation, bias)
        self.down_proj = nn.Linear(d_ff, d_model)


class NeverBiased(RightFeedForward):
    """the layers have no biases although bias=True is the default"""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__(d_model, d_ff, activation, bias=False)


class WidthsExchanged(nn.Module):
    """the widths are exchanged: nn.Linear(features in, features out) goes up to d_ff first"""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        self.up_proj = nn.Linear(d_ff, d_model, bias=bias)
        self.down_proj = nn.Linear(d_model, d_ff, bias=bias)


class FourTimesAsWide(nn.Module):
    """the hidden width is 4 d_model; use d_ff, which was given"""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        self.up_proj = nn.Linear(d_model, 4 * d_model, bias=bias)
        self.down_proj = nn.Linear(4 * d_model, d_model, bias=bias)


class InASequential(nn.Module):
    """the layers have names of their own (or sit in an nn.Sequential); up_proj and down_proj are
    the names with which the model loads its weights"""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        up, down = nn.Linear(d_model, d_ff, bias=bias), nn.Linear(d_ff, d_model, bias=bias)
        self.layers = nn.Sequential(up, nn.GELU(), down)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# --- 3.6 SwiGLU ---


def project(self: RightSwiGLU, x: Tensor) -> tuple[Tensor, Tensor]:
    """gate and up."""
    return self.gate_proj(x), self.up_proj(x)


class SiluOnUp(RightSwiGLU):
    """silu is applied to up_proj(x); it belongs on gate_proj(x), the one that opens and closes"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(gate * F.silu(up))


class SigmoidOnUp(RightSwiGLU):
    """up_proj(x) passes through a sigmoid and gates gate_proj(x): the two have changed places, and
    silu(z) is z times the sigmoid of z"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(gate * torch.sigmoid(up))


class SigmoidGate(RightSwiGLU):
    """the gate is a sigmoid (that is GLU); silu(z) is z times the sigmoid of z"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(torch.sigmoid(gate) * up)


class GeluGate(RightSwiGLU):
    """the gate is a GELU (that is GEGLU, which Gemma uses); here it is a SiLU"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(F.gelu(gate) * up)


class ReluGate(RightSwiGLU):
    """the gate is a ReLU (that is ReGLU); here it is a SiLU"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(torch.relu(gate) * up)


class GateAdded(RightSwiGLU):
    """gate and up are added; multiply them, so that a gate of 0 shuts a feature off"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(F.silu(gate) + up)


class SiluOfTheProduct(RightSwiGLU):
    """silu is applied to the product; apply it to the gate, then multiply"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(F.silu(gate * up))


class SiluOnBoth(RightSwiGLU):
    """silu is applied to gate and up; up_proj(x) stays linear"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(F.silu(gate) * F.silu(up))


class WithoutSilu(RightSwiGLU):
    """there is no silu: the two projections are multiplied as they are"""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(self, x)
        return self.down_proj(gate * up)


class WithoutUp(RightSwiGLU):
    """up_proj is not used: the gate has nothing to multiply"""

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)))


class WithoutGate(RightSwiGLU):
    """gate_proj is not used: silu is applied to up_proj(x), and nothing is multiplied"""

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.up_proj(x)))


class GateIsItsOwnUp(RightSwiGLU):
    """both factors come from the same projection; one comes from gate_proj, one from up_proj"""

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        return self.down_proj(F.silu(gate) * gate)


class SwiGLUAddsTheInput(RightSwiGLU):
    """x is added to the result; the residual connection belongs to the block, not to this layer"""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class SwiGLUBiasIgnored(RightSwiGLU):
    """bias=False is not passed on to all three layers"""

    def __init__(self, d_model: int, d_ff: int, bias: bool = True) -> None:
        super().__init__(d_model, d_ff)


class SwiGLUNeverBiased(RightSwiGLU):
    """the layers have no biases although bias=True is the default"""

    def __init__(self, d_model: int, d_ff: int, bias: bool = True) -> None:
        super().__init__(d_model, d_ff, bias=False)


class LlamaNames(nn.Module):
    """the layers have names of their own; gate_proj, up_proj and down_proj are the names with which
    the model loads its weights"""

    def __init__(self, d_model: int, d_ff: int, bias: bool = True) -> None:
        super().__init__()
        self.w1 = nn.Linear(d_model, d_ff, bias=bias)
        self.w2 = nn.Linear(d_ff, d_model, bias=bias)
        self.w3 = nn.Linear(d_model, d_ff, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


# --- 3.7 swiglu_width ---


def up_to(width: float, multiple_of: int) -> int:
    """The next multiple at or above a width, used by the wrong answers."""
    return math.ceil(width / multiple_of) * multiple_of


def eight_thirds(d_ff: int, multiple_of: int = 1) -> int:
    """this is 8/3 of the given width; 8/3 of d_model is 2/3 of d_ff, if that is 4 d_model"""
    return up_to(8 * d_ff / 3, multiple_of)


def three_halves(d_ff: int, multiple_of: int = 1) -> int:
    """this is 3/2 of the width; three matrices share what two had, so each gets less"""
    return up_to(3 * d_ff / 2, multiple_of)


def as_wide(d_ff: int, multiple_of: int = 1) -> int:
    """the width is kept: with a third matrix that is half as many weights again"""
    return up_to(d_ff, multiple_of)


def one_third(d_ff: int, multiple_of: int = 1) -> int:
    """this is a third of the width; two matrices' worth of weights is shared by three"""
    return up_to(d_ff / 3, multiple_of)


def half_the_width(d_ff: int, multiple_of: int = 1) -> int:
    """this is half the width, which is right for gate and up alone; down_proj shrinks as well"""
    return up_to(d_ff / 2, multiple_of)


def rounded_down(d_ff: int, multiple_of: int = 1) -> int:
    """the width is rounded down, so it has too few weights; round up"""
    return 2 * d_ff // 3 // multiple_of * multiple_of


def rounded_to_the_nearest(d_ff: int, multiple_of: int = 1) -> int:
    """the width is rounded to the nearest multiple; round up"""
    return math.floor(2 * d_ff / 3 / multiple_of + 0.5) * multiple_of


def always_one_more(d_ff: int, multiple_of: int = 1) -> int:
    """a width that is a multiple already gets one more step; it needs none"""
    return (2 * d_ff // (3 * multiple_of) + 1) * multiple_of


def multiple_ignored(d_ff: int, multiple_of: int = 1) -> int:
    """multiple_of is not used"""
    return up_to(2 * d_ff / 3, 1)


def cut_to_an_integer_first(d_ff: int, multiple_of: int = 1) -> int:
    """two thirds are cut to a whole number before they are rounded up; round once, at the end"""
    return up_to(2 * d_ff // 3, multiple_of)


def rounded_before_two_thirds(d_ff: int, multiple_of: int = 1) -> int:
    """d_ff is rounded up first, and then two thirds are taken, which need not be a multiple; round
    last"""
    return math.ceil(2 * up_to(d_ff, multiple_of) / 3)


def steps_not_width(d_ff: int, multiple_of: int = 1) -> int:
    """this is how many times multiple_of fits; multiply by it again"""
    return math.ceil(2 * d_ff / (3 * multiple_of))


# --- 3.8 layer_norm_backward ---

Gradients = tuple[Tensor, Tensor, Tensor]


def backward_variant(
    grad_output: Tensor,
    x: Tensor,
    weight: Tensor,
    eps: float,
    *,
    shift: bool = True,
    stretch: bool = True,
    scaled: bool = True,
    divided: float = 1.0,
    dim: int = -1,
    correction: int = 0,
    sign: float = 1.0,
) -> Gradients:
    """The gradients with one thing changed, used by the wrong answers."""
    centered = x - x.mean(-1, keepdim=True)
    std = torch.sqrt(x.var(-1, correction=correction, keepdim=True) + eps)
    normalized = centered / std
    grad = grad_output * weight if scaled else grad_output
    grad_x = grad
    if shift:
        grad_x = grad_x - grad.mean(dim, keepdim=True)
    if stretch:
        grad_x = grad_x - sign * normalized * (grad * normalized).mean(dim, keepdim=True)
    width = weight.numel()
    grad_weight = (grad_output * normalized).reshape(-1, width).sum(0)
    return grad_x / std**divided, grad_weight, grad_output.reshape(-1, width).sum(0)


def constants_inside(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """mean and variance are treated as constants; they depend on x too, and each takes a part of
    the gradient away"""
    return backward_variant(grad_output, x, weight, eps, shift=False, stretch=False)


def constants_and_no_weight(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """two things are missing in grad_x: weight, and what mean and variance take away, since they
    depend on x too"""
    return backward_variant(grad_output, x, weight, eps, shift=False, stretch=False, scaled=False)


def variance_is_constant(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """the variance is treated as a constant: the part of the gradient along the normalized features
    is still there"""
    return backward_variant(grad_output, x, weight, eps, stretch=False)


def mean_is_constant(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """the mean is treated as a constant: grad_x of a token must sum to 0, because a shift of all
    features changes nothing"""
    return backward_variant(grad_output, x, weight, eps, shift=False)


def weight_not_applied(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """weight is missing in grad_x: what reaches the normalized features is grad_output * weight"""
    return backward_variant(grad_output, x, weight, eps, scaled=False)


def weight_applied_last(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """weight multiplies grad_x at the end; it belongs at the beginning, before the two means are
    taken"""
    grad_x, *others = backward_variant(grad_output, x, weight, eps, scaled=False)
    return grad_x * weight, *others  # pyright: ignore[reportReturnType]


def not_divided_by_the_std(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """grad_x is not divided by the standard deviation"""
    return backward_variant(grad_output, x, weight, eps, divided=0.0)


def divided_by_the_variance(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """grad_x is divided by the variance; divide by its root"""
    return backward_variant(grad_output, x, weight, eps, divided=2.0)


def means_over_the_tokens(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """the two means run over the tokens; they run over the features of one token, dim=-1"""
    return backward_variant(grad_output, x, weight, eps, dim=-2)


def sample_variance_in_backward(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """the variance is divided by d_model - 1, the default of var and std; LayerNorm divides by
    d_model (correction=0)"""
    return backward_variant(grad_output, x, weight, eps, correction=1)


def second_part_added(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """the part along the normalized features is added; subtract it"""
    return backward_variant(grad_output, x, weight, eps, sign=-1.0)


def epsilon_left_out(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """eps is left out of the standard deviation"""
    return backward_variant(grad_output, x, weight, 0.0)


def parameters_not_summed(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """grad_weight and grad_bias still have a row per token; all tokens share weight and bias, so
    sum over every axis but the last"""
    grad_x, _, _ = backward_variant(grad_output, x, weight, eps)
    normalized = F.layer_norm(x, x.shape[-1:], None, None, eps)
    return grad_x, grad_output * normalized, grad_output


def parameters_summed_over_axis_0(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """grad_weight and grad_bias are summed over axis 0 alone; sum over every axis but the last"""
    grad_x, _, _ = backward_variant(grad_output, x, weight, eps)
    normalized = F.layer_norm(x, x.shape[-1:], None, None, eps)
    return grad_x, (grad_output * normalized).sum(0), grad_output.sum(0)


def parameters_averaged(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """grad_weight and grad_bias are averaged over the tokens; sum them"""
    grad_x, grad_weight, grad_bias = backward_variant(grad_output, x, weight, eps)
    n_tokens = x.numel() // x.size(-1)
    return grad_x, grad_weight / n_tokens, grad_bias / n_tokens


def weight_times_x(grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5) -> Gradients:
    """for grad_weight, grad_output meets x; weight multiplies the normalized features, so use
    those"""
    grad_x, _, grad_bias = backward_variant(grad_output, x, weight, eps)
    return grad_x, (grad_output * x).reshape(-1, x.size(-1)).sum(0), grad_bias


def weight_in_its_own_gradient(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """grad_weight holds weight itself as a factor; it is grad_output times the normalized features,
    summed"""
    grad_x, grad_weight, grad_bias = backward_variant(grad_output, x, weight, eps)
    return grad_x, grad_weight * weight, grad_bias


def weight_in_the_gradient_of_bias(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """grad_bias holds weight as a factor; bias is added last, so its gradient is that of y,
    summed"""
    grad_x, grad_weight, grad_bias = backward_variant(grad_output, x, weight, eps)
    return grad_x, grad_weight, grad_bias * weight


def gradients_in_another_order(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> Gradients:
    """grad_bias and grad_weight are exchanged: return grad_x, grad_weight, grad_bias"""
    grad_x, grad_weight, grad_bias = backward_variant(grad_output, x, weight, eps)
    return grad_x, grad_bias, grad_weight


# --- 3.9 TransformerBlock ---


class BlockVariant(RightBlock):
    """A block whose sublayers are given names, used by the wrong answers."""

    def attended(self, x: Tensor, mask: Tensor | None, attend: AttentionFunction) -> Tensor:
        return self.attention(x, mask, attend)


class StreamOverwritten(BlockVariant):
    """the update is added to the normed stream (x = norm(x) came first): in pre-norm the norm is on
    the branch only, and x itself stays as it was"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement != "pre":
            return super().forward(x, mask, attend)
        x = self.attention_norm(x)
        x = x + self.dropout(self.attended(x, mask, attend))
        x = self.feed_forward_norm(x)
        return x + self.dropout(self.feed_forward(x))


class AlwaysPre(BlockVariant):
    """the block is pre-norm whatever placement says"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        x = x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class AlwaysPost(BlockVariant):
    """the block is post-norm whatever placement says"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attended(x, mask, attend)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class PlacementsExchanged(BlockVariant):
    """pre and post are exchanged: "pre" norms what a sublayer reads, "post" the sum"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        other = AlwaysPost if self.placement == "pre" else AlwaysPre
        return other.forward(self, x, mask, attend)  # pyright: ignore[reportArgumentType]


class UpdateNormed(BlockVariant):
    """in post-norm the update is normed before it is added; the norm belongs on the sum"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            return super().forward(x, mask, attend)
        x = x + self.attention_norm(self.dropout(self.attended(x, mask, attend)))
        return x + self.feed_forward_norm(self.dropout(self.feed_forward(x)))


class StreamNormedAlone(BlockVariant):
    """in post-norm the stream is normed before the update is added; the norm belongs on the sum"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            return super().forward(x, mask, attend)
        x = self.attention_norm(x) + self.dropout(self.attended(x, mask, attend))
        return self.feed_forward_norm(x) + self.dropout(self.feed_forward(x))


class OneNormForBoth(BlockVariant):
    """both sublayers use attention_norm; the feed-forward network has a norm of its own"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
            return x + self.dropout(self.feed_forward(self.attention_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attended(x, mask, attend)))
        return self.attention_norm(x + self.dropout(self.feed_forward(x)))


class NormsExchanged(BlockVariant):
    """the two norms are exchanged: attention_norm goes with attention"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = x + self.dropout(self.attended(self.feed_forward_norm(x), mask, attend))
            return x + self.dropout(self.feed_forward(self.attention_norm(x)))
        x = self.feed_forward_norm(x + self.dropout(self.attended(x, mask, attend)))
        return self.attention_norm(x + self.dropout(self.feed_forward(x)))


class WithoutNorms(BlockVariant):
    """neither norm is used"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        x = x + self.dropout(self.attended(x, mask, attend))
        return x + self.dropout(self.feed_forward(x))


class SecondNormOnTheStream(BlockVariant):
    """in pre-norm the second norm comes after the addition; it belongs on the branch, before the
    feed-forward network"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement != "pre":
            return super().forward(x, mask, attend)
        x = x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class AlwaysMixed(BlockVariant):
    """placement is not used, and the first norm is on the branch, the second on the stream: "pre"
    has both on the branches, "post" both on the stream"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        x = x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class FeedForwardWithoutNorm(BlockVariant):
    """in pre-norm the feed-forward network reads the stream without its norm"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement != "pre":
            return super().forward(x, mask, attend)
        x = x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
        return x + self.dropout(self.feed_forward(x))


class InParallel(BlockVariant):
    """the feed-forward network reads the stream as it was before attention; it comes second, and
    reads what attention has added"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            update = self.dropout(self.attended(self.attention_norm(x), mask, attend))
            return x + update + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        y = self.attention_norm(x + self.dropout(self.attended(x, mask, attend)))
        return self.feed_forward_norm(y + self.dropout(self.feed_forward(x)))


class InParallelIfPre(BlockVariant):
    """in pre-norm the feed-forward network reads the stream as it was before attention; it comes
    second, and reads what attention has added"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement != "pre":
            return super().forward(x, mask, attend)
        update = self.dropout(self.attended(self.attention_norm(x), mask, attend))
        return x + update + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class FeedForwardFirst(BlockVariant):
    """the feed-forward network comes first; attention comes first"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
            return x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return self.attention_norm(x + self.dropout(self.attended(x, mask, attend)))


class ResidualOfTheInput(BlockVariant):
    """the second update is added to the block's input, so the first one is lost; add it to what the
    first sublayer left"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            y = x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(y)))
        y = self.attention_norm(x + self.dropout(self.attended(x, mask, attend)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(y)))


class NoResidual(BlockVariant):
    """nothing is added to the stream: each sublayer replaces it. A residual is x + update"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = self.dropout(self.attended(self.attention_norm(x), mask, attend))
            return self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(self.dropout(self.attended(x, mask, attend)))
        return self.feed_forward_norm(self.dropout(self.feed_forward(x)))


class SecondResidualMissing(BlockVariant):
    """the output of the feed-forward network is returned without the stream: add it to x"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
            return self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attended(x, mask, attend)))
        return self.feed_forward_norm(self.dropout(self.feed_forward(x)))


class FirstResidualMissing(BlockVariant):
    """the output of attention replaces the stream: add it to x"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = self.dropout(self.attended(self.attention_norm(x), mask, attend))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(self.dropout(self.attended(x, mask, attend)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class DropoutForgotten(BlockVariant):
    """self.dropout is not used: each update passes through it before it is added"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = x + self.attended(self.attention_norm(x), mask, attend)
            return x + self.feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self.attended(x, mask, attend))
        return self.feed_forward_norm(x + self.feed_forward(x))


class StreamDropped(BlockVariant):
    """dropout is applied to the sum, so it erases parts of the stream itself; apply it to the
    update, then add"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = self.dropout(x + self.attended(self.attention_norm(x), mask, attend))
            return self.dropout(x + self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(self.dropout(x + self.attended(x, mask, attend)))
        return self.feed_forward_norm(self.dropout(x + self.feed_forward(x)))


class ReturnedStreamDropped(BlockVariant):
    """dropout is applied to the stream that is returned, so it erases parts of the stream itself;
    apply it to each update, then add"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = x + self.attended(self.attention_norm(x), mask, attend)
            return self.dropout(x + self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.attended(x, mask, attend))
        return self.dropout(self.feed_forward_norm(x + self.feed_forward(x)))


class ReturnedStreamDroppedAsWell(BlockVariant):
    """dropout is applied to the stream that is returned as well, so it erases parts of the stream
    itself; only the updates pass through it"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        return self.dropout(super().forward(x, mask, attend))


class DropoutOfOneUpdate(BlockVariant):
    """only one of the two updates passes through dropout"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        if self.placement == "pre":
            x = x + self.dropout(self.attended(self.attention_norm(x), mask, attend))
            return x + self.feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self.dropout(self.attended(x, mask, attend)))
        return self.feed_forward_norm(x + self.feed_forward(x))


class MaskNotPassedOn(BlockVariant):
    """mask is not passed on to attention, so every token sees the future"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        return super().forward(x, None, attend)


class AttendNotPassedOn(BlockVariant):
    """attend is not passed on to attention, which then uses its own default"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        return super().forward(x, mask)


class NeitherPassedOn(BlockVariant):
    """neither mask nor attend is passed on to attention"""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        return super().forward(x)


# --- 3.10 initial_values ---

Shapes = dict[str, tuple[int, ...]]
Values = dict[str, Tensor]
WRITERS = ("out_proj.weight", "down_proj.weight")


def values_variant(
    shapes: Shapes,
    std: float,
    zeros: tuple[str, ...] = ("bias", *WRITERS),
    norm: float = 1.0,
    uniform: bool = False,
) -> Values:
    """Initial values with one thing changed, used by the wrong answers."""
    values = {}
    for name, shape in shapes.items():
        if name.endswith(zeros):
            values[name] = torch.zeros(shape)
        elif "norm" in name and not math.isnan(norm):
            values[name] = torch.full(shape, norm)
        elif uniform:
            values[name] = std * (2 * torch.rand(shape) - 1)
        else:
            values[name] = std * torch.randn(shape)
    return values


def as_handed_out(shapes: Shapes, std: float = 0.02) -> Values:
    """every matrix is zero, as in the code that was handed out: see which names end in
    "proj.weight\""""
    return values_variant(shapes, std, ("bias", "proj.weight"))


def nothing_is_zero(shapes: Shapes, std: float = 0.02) -> Values:
    """the two matrices that write to the stream are random, so the block is not the identity at the
    start; make them zero"""
    return values_variant(shapes, std, ("bias",))


def only_attention_is_zero(shapes: Shapes, std: float = 0.02) -> Values:
    """feed_forward.down_proj.weight is random; it writes to the stream as well"""
    return values_variant(shapes, std, ("bias", "out_proj.weight"))


def only_the_feed_forward_network_is_zero(shapes: Shapes, std: float = 0.02) -> Values:
    """attention.out_proj.weight is random; it writes to the stream as well"""
    return values_variant(shapes, std, ("bias", "down_proj.weight"))


def readers_are_zero(shapes: Shapes, std: float = 0.02) -> Values:
    """up_proj.weight is zero too: with both factors of a product zero, neither gets a gradient"""
    return values_variant(shapes, std, ("bias", "out_proj.weight", "up_proj.weight", WRITERS[1]))


def up_in_place_of_down(shapes: Shapes, std: float = 0.02) -> Values:
    """up_proj.weight is zero in place of down_proj.weight, the one that writes to the stream"""
    return values_variant(shapes, std, ("bias", "out_proj.weight", "up_proj.weight"))


def queries_are_zero(shapes: Shapes, std: float = 0.02) -> Values:
    """q_proj.weight is zero too; it only reads the stream, so it starts random"""
    return values_variant(shapes, std, ("bias", *WRITERS, "q_proj.weight"))


def readers_of_attention_are_zero(shapes: Shapes, std: float = 0.02) -> Values:
    """q, k and v start at zero too; these matrices only read the stream, so they start random"""
    names = tuple(f"{one}_proj.weight" for one in "qkv")
    return values_variant(shapes, std, ("bias", *WRITERS, *names))


def norms_are_zero(shapes: Shapes, std: float = 0.02) -> Values:
    """the weights of the norms are zero, so a norm lets nothing through; they start as ones"""
    return values_variant(shapes, std, norm=0.0)


def norms_are_random(shapes: Shapes, std: float = 0.02) -> Values:
    """the weights of the norms are random; they start as ones"""
    return values_variant(shapes, std, norm=math.nan)


def biases_are_random(shapes: Shapes, std: float = 0.02) -> Values:
    """the biases are random; they start as zeros"""
    return {
        name: std * torch.randn(shapes[name]) if name.endswith("proj.bias") else value
        for name, value in values_variant(shapes, std).items()
    }


def norm_biases_are_ones(shapes: Shapes, std: float = 0.02) -> Values:
    """the biases of the norms are ones (the name holds "norm"); biases start as zeros"""
    return {
        name: torch.ones(shapes[name]) if "norm" in name else value
        for name, value in values_variant(shapes, std).items()
    }


def std_ignored(shapes: Shapes, std: float = 0.02) -> Values:
    """the random numbers have standard deviation 1; multiply them by std"""
    return values_variant(shapes, 1.0)


def variance_for_std(shapes: Shapes, std: float = 0.02) -> Values:
    """std is squared (or taken for a variance); it is the standard deviation itself"""
    return values_variant(shapes, std**2)


def root_of_std(shapes: Shapes, std: float = 0.02) -> Values:
    """std is taken for a variance: the numbers are multiplied by its root; it is the standard
    deviation itself"""
    return values_variant(shapes, std**0.5)


def uniform_numbers(shapes: Shapes, std: float = 0.02) -> Values:
    """the random numbers are uniform between -std and std, whose standard deviation is smaller; use
    torch.randn"""
    return values_variant(shapes, std, uniform=True)


def writers_divided(shapes: Shapes, std: float = 0.02) -> Values:
    """the two matrices that write to the stream are small; GPT-2 does that, but here they are
    zero"""
    return {
        name: 0.5 * std * torch.randn(shapes[name]) if name.endswith(WRITERS) else value
        for name, value in values_variant(shapes, std).items()
    }


# --- 3.11 block_budget ---


def budget_variant(
    d_model: int,
    d_ff: int,
    T: int,
    *,
    n_attention: int = 4,
    n_ff: int = 2,
    n_products: int = 2,
    factor: int = 1,
) -> tuple[int, int]:
    """The budget with one thing changed, used by the wrong answers."""
    weights = n_attention * d_model**2 + n_ff * d_model * d_ff
    return weights, factor * (T * weights + n_products * T**2 * d_model)


def three_for_attention(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """attention is counted with three matrices; besides queries, keys and values it has W_o"""
    return budget_variant(d_model, d_ff, T, n_attention=3, n_ff=2 + gated)


def gate_forgotten(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """gated is not used: the gate is a third matrix"""
    return budget_variant(d_model, d_ff, T)


def always_gated(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """three matrices are counted for the feed-forward network even without a gate"""
    return budget_variant(d_model, d_ff, T, n_ff=3)


def one_matrix_up(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """one matrix too few is counted for the feed-forward network: up and down, and the gate"""
    return budget_variant(d_model, d_ff, T, n_ff=1 + gated)


def products_forgotten(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """the two products of attention are missing: they have no weights, but they cost"""
    return budget_variant(d_model, d_ff, T, n_ff=2 + gated, n_products=0)


def one_product(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """one of attention's two products is counted: queries times keys, and weights times values"""
    return budget_variant(d_model, d_ff, T, n_ff=2 + gated, n_products=1)


def operations_counted(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """multiplications and additions are counted separately; a multiply-add is one"""
    return budget_variant(d_model, d_ff, T, n_ff=2 + gated, factor=2)


def one_token(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """each weight is used once here; each of the T tokens uses it"""
    weights, _ = budget_variant(d_model, d_ff, T, n_ff=2 + gated)
    return weights, weights + 2 * T**2 * d_model


def per_token(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """these are the multiply-adds per token; T tokens are asked for"""
    weights, _ = budget_variant(d_model, d_ff, T, n_ff=2 + gated)
    return weights, weights + 2 * T * d_model


def products_linear_in_length(
    d_model: int, d_ff: int, T: int, gated: bool = False
) -> tuple[int, int]:
    """the products of attention are counted with T in place of T x T pairs"""
    weights, _ = budget_variant(d_model, d_ff, T, n_ff=2 + gated)
    return weights, T * weights + 2 * T * d_model


def products_of_d_ff(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """the products of attention are counted with d_ff; all heads together are d_model wide"""
    weights, _ = budget_variant(d_model, d_ff, T, n_ff=2 + gated)
    return weights, T * weights + 2 * T**2 * d_ff


def products_squared_width(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """the products of attention are counted with d_model squared; a score is a sum of as many
    multiply-adds as the vectors are wide"""
    weights, _ = budget_variant(d_model, d_ff, T, n_ff=2 + gated)
    return weights, T * weights + 2 * T * d_model**2


def half_of_the_pairs(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """half of the pairs are counted, as for a causal mask; all T x T are asked for"""
    weights, _ = budget_variant(d_model, d_ff, T, n_ff=2 + gated)
    return weights, T * weights + T * (T + 1) * d_model


def four_times_the_width(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """d_ff is taken to be 4 d_model; it is given"""
    return budget_variant(d_model, 4 * d_model, T, n_ff=2 + gated)


def budget_exchanged(d_model: int, d_ff: int, T: int, gated: bool = False) -> tuple[int, int]:
    """the two results are exchanged: return the weights first"""
    weights, cost = budget_variant(d_model, d_ff, T, n_ff=2 + gated)
    return cost, weights


# --- 3.12 read_curves ---


def reading(name: str, letter: str) -> dict[str, str]:
    """The right answer with one wrong letter."""
    right = {
        "sound": "D",
        "learning rate too low": "A",
        "learning rate too high": "C",
        "initial weights too large": "F",
        "no residual connections": "E",
        "no causal mask": "B",
    }
    return {**right, name: letter}


def d_sees_too_little() -> dict[str, str]:
    """D falls below the dashed line early; with tiny steps it would not get there in this
    time"""
    return reading("learning rate too low", "D")


def e_has_stopped() -> dict[str, str]:
    """E has come to rest; with tiny steps a loss is still falling at the end"""
    return reading("learning rate too low", "E")


def f_starts_too_high() -> dict[str, str]:
    """F is wrong before its first step, when no learning rate has been used; a large one shows
    later"""
    return reading("learning rate too high", "F")


def a_is_too_smooth() -> dict[str, str]:
    """A is smooth, and slow; steps that are too large make a curve jump"""
    return reading("learning rate too high", "A")


def e_is_low() -> dict[str, str]:
    """E never leaves the range of a sound run; steps of that size would throw the loss above
    its start"""
    return reading("learning rate too high", "E")


def c_starts_where_it_should() -> dict[str, str]:
    """C starts on the dotted line and jumps afterwards; weights that are too large show before
    the first step"""
    return reading("initial weights too large", "C")


def e_starts_where_it_should() -> dict[str, str]:
    """E starts on the dotted line, as small weights do"""
    return reading("initial weights too large", "E")


def a_still_falls() -> dict[str, str]:
    """A is still falling; a stack through which nothing passes comes to rest on the dashed
    line"""
    return reading("no residual connections", "A")


def d_goes_below() -> dict[str, str]:
    """D goes below the dashed line, so something of its input reaches the output"""
    return reading("no residual connections", "D")


def f_comes_from_above() -> dict[str, str]:
    """F comes from far above; what is missing here leaves the start on the dotted line"""
    return reading("no residual connections", "F")


def d_is_within_reason() -> dict[str, str]:
    """D ends at a loss that the text allows; with the answers in sight it would fall far
    lower"""
    return reading("no causal mask", "D")


def b_is_too_good() -> dict[str, str]:
    """B ends far below what can be known about the next character; a loss that good is a
    leak"""
    return reading("sound", "B")


def a_is_not_there_yet() -> dict[str, str]:
    """A is smooth but late: a sound run is below the dashed line within 50 steps"""
    return reading("sound", "A")


def e_is_stuck() -> dict[str, str]:
    """E stays on the dashed line, so it never uses its input"""
    return reading("sound", "E")


# --- 3.13 route ---


def chosen_mask(logits: Tensor, k: int) -> Tensor:
    """True for the k largest scores of each token."""
    indices = logits.topk(k, dim=-1).indices
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, indices, True)


def not_renormalized(logits: Tensor, k: int) -> Tensor:
    """these are the weights of a softmax over all experts, with the others cut off: they no longer
    sum to 1"""
    return torch.softmax(logits, -1) * chosen_mask(logits, k)


def all_experts(logits: Tensor, k: int) -> Tensor:
    """every expert gets a weight; only the k best may"""
    return torch.softmax(logits, -1)


def zeros_in_the_softmax(logits: Tensor, k: int) -> Tensor:
    """the scores of the others become 0, and exp(0) = 1 still gets weight; use -inf"""
    return torch.softmax(logits * chosen_mask(logits, k), -1)


def equal_gates(logits: Tensor, k: int) -> Tensor:
    """the chosen experts share equally; their scores decide how much each counts"""
    return chosen_mask(logits, k).to(logits.dtype) / k


def ones_for_the_chosen(logits: Tensor, k: int) -> Tensor:
    """each chosen expert has weight 1; the weights of a token sum to 1"""
    return chosen_mask(logits, k).to(logits.dtype)


def scores_as_gates(logits: Tensor, k: int) -> Tensor:
    """the scores themselves are the weights; take their softmax"""
    return logits * chosen_mask(logits, k)


def scores_divided_by_their_sum(logits: Tensor, k: int) -> Tensor:
    """the chosen scores are divided by their sum, which may be negative or 0; take their softmax"""
    chosen = logits * chosen_mask(logits, k)
    return chosen / chosen.sum(-1, keepdim=True)


def worst_experts(logits: Tensor, k: int) -> Tensor:
    """the k smallest scores are chosen; choose the largest"""
    return torch.softmax(logits.masked_fill(~chosen_mask(-logits, k), -math.inf), -1)


def only_the_best(logits: Tensor, k: int) -> Tensor:
    """only the best expert is chosen, whatever k is"""
    return chosen_mask(logits, 1).to(logits.dtype)


def ties_kept(logits: Tensor, k: int) -> Tensor:
    """every score that is not below the k-th largest is kept, which are more than k where scores
    are equal; topk gives the indices of exactly k"""
    kept = logits >= logits.topk(k, dim=-1).values[..., -1:]
    return torch.softmax(logits.masked_fill(~kept, -math.inf), -1)


def softmax_over_axis_one(logits: Tensor, k: int) -> Tensor:
    """the softmax runs over axis 1, which is the experts only without a batch; take the last one"""
    hidden = logits.masked_fill(~chosen_mask(logits, k), -math.inf)
    return torch.softmax(hidden, min(1, logits.dim() - 1)).nan_to_num(0.0)


def always_two(logits: Tensor, k: int) -> Tensor:
    """two experts are chosen, whatever k is"""
    return torch.softmax(logits.masked_fill(~chosen_mask(logits, 2), -math.inf), -1)


def tokens_compete(logits: Tensor, k: int) -> Tensor:
    """the k largest are taken along the tokens: each expert chooses its tokens. Each token chooses
    its experts, along the last axis"""
    kept = torch.zeros_like(logits, dtype=torch.bool)
    kept = kept.scatter(-2, logits.topk(k, dim=-2).indices, True)
    return torch.softmax(logits.masked_fill(~kept, -math.inf), -1)


def softmax_over_the_tokens(logits: Tensor, k: int) -> Tensor:
    """the softmax runs over the tokens; it belongs over the experts, the last axis"""
    hidden = logits.masked_fill(~chosen_mask(logits, k), -math.inf)
    return torch.softmax(hidden, -2).nan_to_num(0.0)


def only_the_chosen(logits: Tensor, k: int) -> Tensor:
    """only the k weights are returned, without a place for the other experts: the gates have
    n_experts entries, most of them 0"""
    return torch.softmax(logits.topk(k, dim=-1).values, -1)


def softmax_twice(logits: Tensor, k: int) -> Tensor:
    """the softmax is taken twice, the second time of probabilities, which makes the gates too even;
    take it of the scores"""
    weights = torch.softmax(logits, -1)
    return torch.softmax(weights.masked_fill(~chosen_mask(logits, k), -math.inf), -1)


# --- 3.14 load_balance_loss ---


def balance_variant(
    logits: Tensor,
    gates: Tensor,
    *,
    factor: float = math.nan,
    share: Tensor | None = None,
    probability: Tensor | None = None,
) -> Tensor:
    """The loss with one thing changed, used by the wrong answers."""
    n = logits.size(-1)
    chosen = (gates > 0).to(logits.dtype).reshape(-1, n)
    share = chosen.sum(0) / chosen.sum() if share is None else share
    if probability is None:
        probability = torch.softmax(logits, -1).reshape(-1, n).mean(0)
    return (n if math.isnan(factor) else factor) * (share * probability).sum()


def not_multiplied(logits: Tensor, gates: Tensor) -> Tensor:
    """the factor n_experts is missing, or a mean over the experts takes it away again: an even load
    should give 1, however many experts there are"""
    return balance_variant(logits, gates, factor=1.0)


def counted_per_token(logits: Tensor, gates: Tensor) -> Tensor:
    """the choices are divided by the number of tokens; with k choices per token the shares then sum
    to k. Divide by the number of all choices"""
    chosen = (gates > 0).to(logits.dtype).reshape(-1, gates.size(-1))
    return balance_variant(logits, gates, share=chosen.mean(0))


def counts_not_shares(logits: Tensor, gates: Tensor) -> Tensor:
    """the choices are counted, but not divided by their number"""
    chosen = (gates > 0).to(logits.dtype).reshape(-1, gates.size(-1))
    return balance_variant(logits, gates, share=chosen.sum(0))


def gates_as_shares(logits: Tensor, gates: Tensor) -> Tensor:
    """the gates are averaged for the share; a choice counts as one, however large its gate is"""
    return balance_variant(logits, gates, share=gates.reshape(-1, gates.size(-1)).mean(0))


def gates_as_probabilities(logits: Tensor, gates: Tensor) -> Tensor:
    """P is taken from the gates; it is the mean of the softmax of all the logits"""
    return balance_variant(logits, gates, probability=gates.reshape(-1, gates.size(-1)).mean(0))


def squared_shares(logits: Tensor, gates: Tensor) -> Tensor:
    """the shares are squared, and counting has no gradient; multiply them by the probabilities"""
    chosen = (gates > 0).to(logits.dtype).reshape(-1, gates.size(-1))
    return balance_variant(logits, gates, probability=chosen.sum(0) / chosen.sum())


def squared_probabilities(logits: Tensor, gates: Tensor) -> Tensor:
    """the probabilities are squared; multiply them by the shares of the choices"""
    n = logits.size(-1)
    return balance_variant(logits, gates, share=torch.softmax(logits, -1).reshape(-1, n).mean(0))


def probabilities_not_averaged(logits: Tensor, gates: Tensor) -> Tensor:
    """the probabilities are summed over the tokens; take their mean"""
    n = logits.size(-1)
    total = torch.softmax(logits, -1).reshape(-1, n).sum(0)
    return balance_variant(logits, gates, probability=total)


def softmax_over_tokens(logits: Tensor, gates: Tensor) -> Tensor:
    """the softmax runs over the tokens; it belongs over the experts, the last axis"""
    n = logits.size(-1)
    probability = torch.softmax(logits.reshape(-1, n), 0).mean(0)
    return balance_variant(logits, gates, probability=probability)


def logits_as_probabilities(logits: Tensor, gates: Tensor) -> Tensor:
    """the logits are averaged; take their softmax first"""
    n = logits.size(-1)
    return balance_variant(logits, gates, probability=logits.reshape(-1, n).mean(0))


def softmax_of_the_mean(logits: Tensor, gates: Tensor) -> Tensor:
    """the softmax is taken of the mean logits; take it per token, then the mean"""
    n = logits.size(-1)
    return balance_variant(
        logits, gates, probability=torch.softmax(logits.reshape(-1, n).mean(0), -1)
    )


def token_by_token(logits: Tensor, gates: Tensor) -> Tensor:
    """choice and probability are multiplied token by token and then averaged; average each over
    the tokens first"""
    chosen = (gates > 0).to(logits.dtype)
    chosen = chosen / chosen.sum(-1, keepdim=True)
    return logits.size(-1) * (chosen * torch.softmax(logits, -1)).sum(-1).mean()


def distance_from_even(logits: Tensor, gates: Tensor) -> Tensor:
    """this measures how far the shares are from even, which has no gradient; multiply share and
    probability"""
    n = logits.size(-1)
    chosen = (gates > 0).to(logits.dtype).reshape(-1, n)
    return n * (chosen.sum(0) / chosen.sum() - 1 / n).square().sum()


def variance_of_the_gates(logits: Tensor, gates: Tensor) -> Tensor:
    """this is the variance of the mean gates; the loss multiplies shares by probabilities"""
    return gates.reshape(-1, gates.size(-1)).mean(0).var() * logits.size(-1)


def one_per_expert(logits: Tensor, gates: Tensor) -> Tensor:
    """the result has an entry per expert; sum over the experts"""
    n = logits.size(-1)
    chosen = (gates > 0).to(logits.dtype).reshape(-1, n)
    probability = torch.softmax(logits, -1).reshape(-1, n).mean(0)
    return n * chosen.sum(0) / chosen.sum() * probability


MISCONCEPTIONS = {
    "predict_stream": (
        variances,
        one_update_per_block,
        embedding_left_out,
        always_one,
        one_update_and_no_root,
        root_of_the_depth,
        variances_of_the_updates,
        one_update_too_many,
        mean_of_the_updates,
    ),
    "LayerNorm": (
        SampleVariance,
        SampleStd,
        EpsOutsideTheRoot,
        EpsForgotten,
        EpsIsFixed,
        DividedByTheVariance,
        RootOfTheStd,
        NotCentered,
        OnlyCentered,
        OverTheTokens,
        OverTheBatch,
        OverEverything,
        OverAxisOne,
        WithoutKeepdim,
        WithoutScaleAndShift,
        WithoutShift,
        ShiftedBeforeScaled,
        BiasAlwaysThere,
        VarianceOfTheRawSquares,
    ),
    "RMSNorm": (
        RMSCentered,
        RMSOfTheDeviations,
        RMSWithoutRoot,
        RMSSum,
        RMSEpsOutside,
        RMSEpsFixed,
        RMSMultiplied,
        RMSWithoutWeight,
        RMSMeanAbsolute,
        RMSSquareOfTheMean,
        RMSOverTokens,
        RMSOverEverything,
        RMSWithoutKeepdim,
        RMSWithBias,
        RMSWithoutSuper,
        RMSPlainTensor,
        RMSStartsAtZero,
        RMSStartsRandom,
        RMSOneScale,
    ),
    "gelu": (
        sigmoid_gelu,
        silu_for_gelu,
        tanh_gelu,
        only_phi,
        density,
        root_of_two_forgotten,
        half_forgotten,
        one_forgotten,
        divided_by_two_inside,
        multiplied_inside,
        one_number_at_a_time,
        plain_relu,
        halves_in_the_wrong_place,
    ),
    "relu_squared": (
        every_square,
        not_squared,
        square_with_sign,
        doubled_relu,
        negatives_squared,
        root_of_relu,
        negatives_pass,
        gelu_squared,
    ),
    "FeedForward": (
        WithoutActivation,
        ReluInstead,
        AlwaysGelu,
        AlwaysReluSquared,
        ReluForReluSquared,
        ActivationAtTheEnd,
        ActivationTwice,
        ActivationFirst,
        AddsTheInput,
        SoftmaxInside,
        OnlyUp,
        BiasIgnored,
        BiasIgnoredBelow,
        NeverBiased,
        WidthsExchanged,
        FourTimesAsWide,
        InASequential,
    ),
    "SwiGLU": (
        SiluOnUp,
        SigmoidOnUp,
        SigmoidGate,
        GeluGate,
        ReluGate,
        GateAdded,
        SiluOfTheProduct,
        SiluOnBoth,
        WithoutSilu,
        WithoutUp,
        WithoutGate,
        GateIsItsOwnUp,
        SwiGLUAddsTheInput,
        SwiGLUBiasIgnored,
        SwiGLUNeverBiased,
        LlamaNames,
    ),
    "swiglu_width": (
        eight_thirds,
        three_halves,
        as_wide,
        one_third,
        half_the_width,
        rounded_down,
        rounded_to_the_nearest,
        always_one_more,
        multiple_ignored,
        cut_to_an_integer_first,
        rounded_before_two_thirds,
        steps_not_width,
    ),
    "layer_norm_backward": (
        constants_inside,
        constants_and_no_weight,
        variance_is_constant,
        mean_is_constant,
        weight_not_applied,
        weight_applied_last,
        not_divided_by_the_std,
        divided_by_the_variance,
        means_over_the_tokens,
        sample_variance_in_backward,
        second_part_added,
        epsilon_left_out,
        parameters_not_summed,
        parameters_summed_over_axis_0,
        parameters_averaged,
        weight_times_x,
        weight_in_its_own_gradient,
        weight_in_the_gradient_of_bias,
        gradients_in_another_order,
    ),
    "TransformerBlock": (
        StreamOverwritten,
        AlwaysPre,
        AlwaysPost,
        PlacementsExchanged,
        UpdateNormed,
        StreamNormedAlone,
        OneNormForBoth,
        NormsExchanged,
        WithoutNorms,
        SecondNormOnTheStream,
        AlwaysMixed,
        FeedForwardWithoutNorm,
        InParallel,
        InParallelIfPre,
        FeedForwardFirst,
        ResidualOfTheInput,
        NoResidual,
        SecondResidualMissing,
        FirstResidualMissing,
        DropoutForgotten,
        StreamDropped,
        ReturnedStreamDropped,
        ReturnedStreamDroppedAsWell,
        DropoutOfOneUpdate,
        MaskNotPassedOn,
        AttendNotPassedOn,
        NeitherPassedOn,
    ),
    "initial_values": (
        as_handed_out,
        nothing_is_zero,
        only_attention_is_zero,
        only_the_feed_forward_network_is_zero,
        readers_are_zero,
        up_in_place_of_down,
        queries_are_zero,
        readers_of_attention_are_zero,
        norms_are_zero,
        norms_are_random,
        biases_are_random,
        norm_biases_are_ones,
        std_ignored,
        variance_for_std,
        root_of_std,
        uniform_numbers,
        writers_divided,
    ),
    "block_budget": (
        three_for_attention,
        gate_forgotten,
        always_gated,
        one_matrix_up,
        products_forgotten,
        one_product,
        operations_counted,
        one_token,
        per_token,
        products_linear_in_length,
        products_of_d_ff,
        products_squared_width,
        half_of_the_pairs,
        four_times_the_width,
        budget_exchanged,
    ),
    "read_curves": (
        d_sees_too_little,
        e_has_stopped,
        f_starts_too_high,
        a_is_too_smooth,
        e_is_low,
        c_starts_where_it_should,
        e_starts_where_it_should,
        a_still_falls,
        d_goes_below,
        f_comes_from_above,
        d_is_within_reason,
        b_is_too_good,
        a_is_not_there_yet,
        e_is_stuck,
    ),
    "route": (
        not_renormalized,
        all_experts,
        zeros_in_the_softmax,
        equal_gates,
        ones_for_the_chosen,
        scores_as_gates,
        scores_divided_by_their_sum,
        worst_experts,
        only_the_best,
        ties_kept,
        softmax_over_axis_one,
        always_two,
        tokens_compete,
        softmax_over_the_tokens,
        only_the_chosen,
        softmax_twice,
    ),
    "load_balance_loss": (
        not_multiplied,
        counted_per_token,
        counts_not_shares,
        gates_as_shares,
        gates_as_probabilities,
        squared_shares,
        squared_probabilities,
        probabilities_not_averaged,
        softmax_over_tokens,
        logits_as_probabilities,
        softmax_of_the_mean,
        token_by_token,
        distance_from_even,
        variance_of_the_gates,
        one_per_expert,
    ),
}
