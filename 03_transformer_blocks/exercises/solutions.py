"""Solutions of lesson 03. Yours may look different: what counts is what it computes.

Read a solution when yours passes, and compare; the comments name other ways that people choose.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction
from grouped_query_attention import grouped_attention


def predict_stream() -> tuple[float, float, float, float]:
    """Exercise 3.1, a prediction: how large does the residual stream become?

    A stack of blocks runs on an embedding whose features have variance 1. Nothing rescales the
    stream. Each block adds two updates to it, that of attention and that of the feed-forward
    network; every update has variance 1 and is independent of what the stream holds.

    Returns the root mean square of the stream's features (their mean is 0) after 4, 12, 24 and 40
    blocks, to two decimals or better, computed by hand.
    """
    # Variances of independent terms add up: 1 + 2 n after n blocks, that is 9, 25, 49 and 81. The
    # root mean square is the root of that: it grows like the square root of the depth.
    return 3.0, 5.0, 7.0, 9.0


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
        centered = x - x.mean(-1, keepdim=True)  # keepdim: one mean per token, (..., 1)
        # x.var(-1, correction=0, keepdim=True) is the same. The default, correction=1, divides by
        # d_model - 1: the right thing for a sample, but here the features are all there is.
        variance = centered.square().mean(-1, keepdim=True)
        # eps is inside the root; outside it, a token with equal features is 0 / eps, still
        # finite, but every other token comes out slightly different.
        normalized = centered / torch.sqrt(variance + self.eps)
        scaled = normalized * self.weight
        return scaled if self.bias is None else scaled + self.bias


class RMSNorm(nn.Module):
    """Exercise 3.3: divide each token by its root mean square, then scale each feature.

    Its only parameter is `weight` (d_model,), which starts as ones. Write both methods.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        """Make the parameter, and keep eps."""
        super().__init__()  # before any parameter: nn.Module keeps its books from here on
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))  # a plain tensor would never be trained

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model): x / sqrt(mean of the squares + eps) * weight.

        The mean runs over the d_model features of one token. Write it without F.rms_norm.
        """
        mean_square = x.square().mean(-1, keepdim=True)  # (..., 1)
        # torch.rsqrt is 1 / sqrt. x.norm(dim=-1) / sqrt(d_model) is the root mean square as well,
        # but leaves no place for eps.
        return x * torch.rsqrt(mean_square + self.eps) * self.weight


def gelu(x: Tensor) -> Tensor:
    """Exercise 3.4: x times Phi(x), where Phi is the standard normal distribution function.

    Phi(x) = (1 + erf(x / sqrt(2))) / 2. Returns a tensor of the shape of x, exact (not one of the
    common approximations). Write it without F.gelu.
    """
    # Phi(x) is the probability that a standard normal number is below x.
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def relu_squared(x: Tensor) -> Tensor:
    """Also exercise 3.4: the square of x where x is positive, else 0; the shape of x."""
    return torch.relu(x).square()  # also x.clamp(min=0) ** 2, or x * torch.relu(x)


class FeedForward(nn.Module):
    """Exercise 3.5: each token looks at d_ff hidden features of its own, and writes back.

    Two linear layers: `up_proj` from d_model to d_ff features, `down_proj` back to d_model; both
    have a bias unless bias=False. Between them the activation, "gelu" or "relu2", from 3.4.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True
    ) -> None:
        """Make the two layers, and keep what forward needs."""
        super().__init__()
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)
        # Functions are values: a dictionary chooses. An if in forward works as well.
        self.activation = {"gelu": gelu, "relu2": relu_squared}[activation]

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        # nn.Linear works on the last axis, whatever comes before it: no loop over the tokens, no
        # flattening, and no way for one token to see another.
        hidden = self.activation(self.up_proj(x))  # (..., d_ff)
        return self.down_proj(hidden)


class SwiGLU(nn.Module):
    """Exercise 3.6: a feed-forward network in which one projection opens and closes the other.

    SwiGLU(x) = down_proj(silu(gate_proj(x)) * up_proj(x)), where silu(z) = z sigmoid(z). The layers
    `gate_proj` and `up_proj` go from d_model to d_ff features, `down_proj` back to d_model; all
    three have a bias unless bias=False.
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = True) -> None:
        """Make the three layers."""
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        gate = F.silu(self.gate_proj(x))  # (..., d_ff); only the gate gets the activation
        # Llama's code has the same three names. Others make gate and up with one wide layer, and
        # cut its output in two with chunk(2, dim=-1): one product in place of two.
        return self.down_proj(gate * self.up_proj(x))


def swiglu_width(d_ff: int, multiple_of: int = 1) -> int:
    """Exercise 3.7: how wide is a SwiGLU with as many weights as a FeedForward?

    Both without biases, both with the same d_model. `d_ff` is the width of the FeedForward.

    Returns the smallest multiple of `multiple_of` with which a SwiGLU has at least as many weights.
    """
    # 3 d_model w >= 2 d_model d_ff, so w >= 2/3 d_ff: d_model cancels. The number of steps of
    # multiple_of is 2 d_ff / (3 multiple_of), rounded up; -(-a // b) is that in whole numbers.
    # math.ceil(2 * d_ff / (3 * multiple_of)) is fine too.
    return -(-2 * d_ff // (3 * multiple_of)) * multiple_of


def layer_norm_backward(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Exercise 3.8: the gradients of LayerNorm, by hand.

    y = normalized * weight + bias, where normalized = (x - mean) / sqrt(variance + eps), as in 3.2.
    grad_output is the gradient of a loss with respect to y; x and grad_output (..., d_model) with
    any leading axes, weight (d_model,).

    Returns (grad_x (..., d_model), grad_weight (d_model,), grad_bias (d_model,)), without autograd.
    """
    centered = x - x.mean(-1, keepdim=True)
    std = torch.sqrt(centered.square().mean(-1, keepdim=True) + eps)  # (..., 1)
    normalized = centered / std
    # weight and bias are shared by all tokens: their gradients sum over every axis but the last.
    leading = tuple(range(x.dim() - 1))
    grad_weight = (grad_output * normalized).sum(leading) if leading else grad_output * normalized
    grad_bias = grad_output.sum(leading) if leading else grad_output.clone()
    # What reaches the normalized features. The output doesn't change if x is shifted or (up to eps)
    # stretched; so the gradient has no part along "all equal" and none along `normalized`: the two
    # means take those parts away.
    grad = grad_output * weight
    along_shift = grad.mean(-1, keepdim=True)
    along_stretch = normalized * (grad * normalized).mean(-1, keepdim=True)
    return (grad - along_shift - along_stretch) / std, grad_weight, grad_bias


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
        if self.placement == "pre":
            # The norm is on the branch: the line from x to the output holds additions only.
            update = self.attention(self.attention_norm(x), mask, attend)
            x = x + self.dropout(update)  # a new tensor; x += ... would change the caller's
            update = self.feed_forward(self.feed_forward_norm(x))
            return x + self.dropout(update)
        # The norm is on the stream: the gradient passes it twice per block on its way down.
        update = self.attention(x, mask, attend)
        x = self.attention_norm(x + self.dropout(update))
        update = self.feed_forward(x)
        return self.feed_forward_norm(x + self.dropout(update))


def initial_values(shapes: dict[str, tuple[int, ...]], std: float = 0.02) -> dict[str, Tensor]:
    """Exercise 3.10, a repair: where should the training of a block start?

    shapes: the shape of every parameter of a TransformerBlock, by its name, such as
    {"attention.q_proj.weight": (64, 64), "attention_norm.bias": (64,), ...}.

    Returns the initial value of each: zeros for biases, and for the two matrices that write to the
    residual stream, attention.out_proj.weight and feed_forward.down_proj.weight; ones for the
    weights of norms; normal random numbers with standard deviation std for all other matrices. The
    code below the raise has one mistake. Delete the raise line, find the mistake, repair it.
    """
    # "proj.weight" is the end of every matrix's name. With all of them zero, so are the queries,
    # the hidden features and every gradient: up_proj gets none because down_proj is zero, and
    # down_proj none because its input is. One of two factors may be zero, not both.
    values = {}
    for name, shape in shapes.items():
        if name.endswith(("bias", "out_proj.weight", "down_proj.weight")):
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
    weights = 4 * d_model**2 + (3 if gated else 2) * d_model * d_ff
    # Each token meets each weight once. Besides, all heads together make T x T scores of d_model
    # multiply-adds, and mix values with as many: these have no weights, but they cost.
    return weights, T * weights + 2 * T**2 * d_model


def read_curves() -> dict[str, str]:
    """Exercise 3.12, reading: which mistake made which curve?

    The picture 03_transformer_blocks/pictures/which_curve.png (it is in theory.md too) shows the
    losses of six training runs; the scale is logarithmic. The dotted line is the loss of equal
    probabilities, the dashed one that of knowing only how frequent each character is.

    Returns the letter of each run: {"sound": ..., "learning rate too low": ..., "learning rate too
    high": ..., "initial weights too large": ..., "no residual connections": ..., "no causal mask":
    ...}, each "A" to "F".
    """
    # C jumps far above its start: each step overshoots. F starts far above the dotted line: large
    # weights make confident predictions, and wrong ones. B falls below what the text allows: it
    # sees its answers. E stays on the dashed line: nothing of the input reaches the output. A is
    # smooth, and late. D is as it should be.
    return {
        "sound": "D",
        "learning rate too low": "A",
        "learning rate too high": "C",
        "initial weights too large": "F",
        "no residual connections": "E",
        "no causal mask": "B",
    }


def route(logits: Tensor, k: int) -> Tensor:
    """Exercise 3.13, a challenge: which experts does each token go to, and with which weight?

    logits (..., n_experts): the router's score of each expert, for each token. A token goes to the
    k experts with its largest scores, to k even if more are equal; their weights are the softmax
    of these k scores alone.

    Returns the gates (..., n_experts), of the dtype of logits: the weights of the chosen experts,
    which sum to 1 for each token, and exactly 0 for all others. Gradients flow through them.
    """
    chosen = logits.topk(k, dim=-1).indices  # (..., k)
    # -inf for what was not chosen: the softmax then shares 1 among the chosen. The softmax of all
    # scores, cut to the chosen and divided by its sum, is the same: e^s / sum of the chosen e^s.
    hidden = torch.full_like(logits, -math.inf).scatter(-1, chosen, 0.0)
    return torch.softmax(logits + hidden, dim=-1)


def load_balance_loss(logits: Tensor, gates: Tensor) -> Tensor:
    """Exercise 3.14, a challenge: a loss that is small when all experts have as much to do.

    logits (..., n_experts) and gates (..., n_experts) as in 3.13; a gate above 0 is a choice. For
    each expert i: f_i is its share of all the choices, P_i the mean over the tokens of its
    probability, the softmax of all the logits.

    Returns n_experts times the sum of f_i P_i, a tensor without axes: 1 where all experts are
    equally used. Gradients flow through P, and through P only.
    """
    n_experts = logits.size(-1)
    chosen = (gates > 0).to(logits.dtype).reshape(-1, n_experts)  # counting has no gradient
    share = chosen.sum(0) / chosen.sum()  # f: (n_experts,), sums to 1
    probability = torch.softmax(logits, dim=-1).reshape(-1, n_experts).mean(0)  # P: sums to 1
    # An expert with a large share has its probability pushed down, in proportion to that share.
    return n_experts * (share * probability).sum()
