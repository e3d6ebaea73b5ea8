"""One transformer block: listen to the others (attention), then think (feed-forward).

    pre-norm:    x = x + attention(norm(x));    x = x + feed_forward(norm(x))    Xiong et al. 2020
    post-norm:   x = norm(x + attention(x));    x = norm(x + feed_forward(x))    Vaswani et al. 2017

The additions are the residual stream: each sublayer reads it and writes a change to it, so even a
deep stack has a short way from its loss back to its input.

Dimensions: B batch, T positions, d_model features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask
from feedforward import FeedForward
from grouped_query_attention import grouped_attention
from layer_norm import LayerNorm
from multi_head import MultiHeadAttention
from utils.errors import pick, run_program

PLACEMENTS = ("pre", "post")


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each with its norm, around one residual stream.

    The pieces come ready built, so any attention layer, feed-forward network and norm fit in.
    `dropout` is the chance that a feature of what a sublayer writes is zeroed during training.
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
        """x (B, T, d_model), mask broadcast to (B, n_heads, T, T_k); returns (B, T, d_model).

        The default `attend` serves grouped heads and plain ones alike.
        """
        if self.placement == "pre":
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, attend))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, attend)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


def fresh_stack(placement: str, n_blocks: int, d_model: int) -> list[TransformerBlock]:
    """Blocks whose matrices are drawn so that features keep their size (Glorot and Bengio 2010)."""
    stack = []
    for _ in range(n_blocks):
        attention, feed_forward = MultiHeadAttention(d_model, 4), FeedForward(d_model, 4 * d_model)
        for parameter in (*attention.parameters(), *feed_forward.parameters()):
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
        norms = LayerNorm(d_model), LayerNorm(d_model)
        stack.append(TransformerBlock(attention, feed_forward, *norms, placement))
    return stack


def residual_stream(stack: list[TransformerBlock], x: Tensor) -> list[Tensor]:
    """The input, and what comes out of each block; all (B, T, d_model)."""
    stream = [x]
    for block in stack:
        stream.append(block(stream[-1], causal_mask(x.size(1))))
    return stream


def likeness(x: Tensor, y: Tensor) -> Tensor:
    """The average cosine between the tokens of x and y: 1 same direction, 0 unrelated."""
    return F.cosine_similarity(x, y, dim=-1).mean()


def main() -> None:
    """Follow an input down 12 blocks, and the gradient of a random linear loss back up."""
    B, T, d_model, shown = 8, 16, 64, (0, 1, 2, 4, 8, 12)
    print(f"{'after block':32}" + "".join(f"{n:7}" for n in shown))
    for placement in PLACEMENTS:
        torch.manual_seed(0)
        x, readout = torch.randn(B, T, d_model, requires_grad=True), torch.randn(B, T, d_model)
        stream = residual_stream(fresh_stack(placement, 12, d_model), x)
        gradients = torch.autograd.grad((stream[-1] * readout).sum(), stream)
        rows = {
            "size of the stream": [y.square().mean().sqrt() for y in stream],
            "its likeness to the input": [likeness(y, x) for y in stream],
            "gradient's likeness to the last": [likeness(g, readout) for g in gradients],
        }
        print(f"{placement}-norm")
        for name, values in rows.items():
            print(f"{name:>32}" + "".join(f"{values[n].item():7.2f}" for n in shown))
    print("\nPre-norm only adds to the stream; post-norm rescales it twice a block.")


if __name__ == "__main__":
    run_program(main)
