"""One transformer block: attention, then a feed-forward network, with norms and residuals.

    pre-norm:    x = x + attention(norm(x));    x = x + feed_forward(norm(x))    Xiong et al. 2020
    post-norm:   x = norm(x + attention(x));    x = norm(x + feed_forward(x))    Vaswani et al. 2017

Vaswani et al.: sections 3.1 (the block) and 5.4 (where dropout goes). The running sum x is called
the residual stream: each sublayer reads it and adds an update. In a pre-norm stack the gradient has
a direct path from the last block's output back to the input, through additions only.

Dimensions: B batch, T positions, d_model features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask
from dropout import Dropout
from feedforward import FeedForward
from grouped_query_attention import grouped_attention
from layer_norm import LayerNorm
from multi_head import MultiHeadAttention
from utils.errors import pick, run_program

PLACEMENTS = ("pre", "post")  # of the norm: before the sublayer, or after the addition


class TransformerBlock(nn.Module):
    """Two sublayers, attention and feed-forward, each with a norm and a residual connection.

    The pieces are passed in already built, so any attention, feed-forward network and norm fit.
    `dropout` is the probability that a feature of a sublayer's output is zeroed during training;
    the residual stream itself is never dropped.
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
        self.placement = pick(placement, PLACEMENTS, "norm placement")
        self.attention = attention  # moves information between tokens
        self.feed_forward = feed_forward  # processes each token on its own
        self.attention_norm = attention_norm
        self.feed_forward_norm = feed_forward_norm
        self.dropout = Dropout(dropout)  # for both sublayers; it has no parameters

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        """x (B, T, d_model), mask broadcast to (B, n_heads, T, T_k); returns (B, T, d_model).

        The default `attend` works with and without grouped heads.
        """
        if self.placement == "pre":
            # Norm on the branch: the stream x itself is only ever added to.
            update = self.attention(self.attention_norm(x), mask, attend)
            x = x + self.dropout(update)  # (B, T, d_model)
            update = self.feed_forward(self.feed_forward_norm(x))
            return x + self.dropout(update)
        # Norm on the stream: after every addition it is rescaled.
        update = self.attention(x, mask, attend)
        x = self.attention_norm(x + self.dropout(update))  # (B, T, d_model)
        update = self.feed_forward(x)
        return self.feed_forward_norm(x + self.dropout(update))


def build_stack(placement: str, n_blocks: int, d_model: int) -> list[TransformerBlock]:
    """Untrained blocks with Glorot's (Xavier) initialization.

    It roughly keeps the variance through a square matrix. Glorot and Bengio 2010.
    """
    stack = []
    for _ in range(n_blocks):
        attention = MultiHeadAttention(d_model, 4)
        feed_forward = FeedForward(d_model, 4 * d_model)
        for parameter in (*attention.parameters(), *feed_forward.parameters()):
            if parameter.dim() == 2:  # matrices; biases keep PyTorch's default
                nn.init.xavier_uniform_(parameter)
        norms = LayerNorm(d_model), LayerNorm(d_model)
        stack.append(TransformerBlock(attention, feed_forward, *norms, placement))
    return stack


def residual_stream(stack: list[TransformerBlock], x: Tensor) -> list[Tensor]:
    """The input and the output of every block; all (B, T, d_model)."""
    stream = [x]
    for block in stack:
        stream.append(block(stream[-1], causal_mask(x.size(1))))
    return stream


def mean_cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine similarity averaged over tokens: 1 for the same direction, 0 for unrelated ones."""
    return F.cosine_similarity(x, y, dim=-1).mean()


def main() -> None:
    """Send an input through 12 untrained blocks, and the gradient of a random linear loss back."""
    B = 8
    T = 16
    d_model = 64
    shown = (0, 1, 2, 4, 8, 12)
    print(f"{'after block':32}" + "".join(f"{n:7}" for n in shown))
    for placement in PLACEMENTS:
        torch.manual_seed(0)
        x = torch.randn(B, T, d_model, requires_grad=True)
        readout = torch.randn(B, T, d_model)  # the gradient of the loss at the last block
        stream = residual_stream(build_stack(placement, 12, d_model), x)
        gradients = torch.autograd.grad((stream[-1] * readout).sum(), stream)  # one per depth
        rows = {
            "root mean square of x": [y.square().mean().sqrt() for y in stream],
            "cosine of x with the input": [mean_cosine(y, x) for y in stream],
            "cosine of gradient with last": [mean_cosine(g, readout) for g in gradients],
        }
        print(f"{placement}-norm")
        for name, values in rows.items():
            print(f"{name:>32}" + "".join(f"{values[n].item():7.2f}" for n in shown))
    print("\nPre-norm only adds to the stream; post-norm rescales it twice per block.")


if __name__ == "__main__":
    run_program(main)
