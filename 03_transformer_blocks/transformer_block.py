"""One transformer block: listen to the others (attention), then think (feed-forward).

    pre-norm:    x = x + attention(norm(x));    x = x + feed_forward(norm(x))    Xiong et al. 2020
    post-norm:   x = norm(x + attention(x));    x = norm(x + feed_forward(x))    Vaswani et al. 2017

The additions are the residual stream: each sublayer reads it and writes a change to it, so even a
deep stack has a short way from its loss back to its input.

    python 03_transformer_blocks/transformer_block.py
"""

import torch
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask, scaled_dot_product_attention
from feedforward import FeedForward
from layer_norm import LayerNorm
from multi_head import MultiHeadAttention
from utils.errors import pick

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
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """x (B, T, d_model), mask broadcast to (B, n_heads, T, T_k); returns (B, T, d_model)."""
        if self.placement == "pre":
            x = x + self.dropout(self.attention(self.attention_norm(x), mask, attend))
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, mask, attend)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


if __name__ == "__main__":
    torch.manual_seed(0)
    d_model, T = 32, 6
    direction = torch.randn(1, T, d_model)
    for placement in PLACEMENTS:
        blocks = [
            TransformerBlock(
                MultiHeadAttention(d_model, n_heads=4),
                FeedForward(d_model, 4 * d_model),
                LayerNorm(d_model),
                LayerNorm(d_model),
                placement,
            )
            for _ in range(12)
        ]
        x = first = torch.randn(1, T, d_model, requires_grad=True)
        for block in blocks:
            x = block(x, causal_mask(T))
        (gradient,) = torch.autograd.grad((x * direction).sum(), first)
        print(f"{placement}-norm, 12 blocks: gradient at the input {gradient.norm():.3f}")
