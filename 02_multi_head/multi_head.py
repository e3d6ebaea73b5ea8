"""Multi-head attention: several small attentions in parallel, each with weights of its own.

    head_h    = attention(x W_q[h], x W_k[h], x W_v[h])
    output    = concat(head_0, ..., head_{n-1}) W_o        Vaswani et al. 2017, section 3.2.2

All heads share one wide projection, and head h takes slice h of its output: eight heads of width
d_model / 8 need as many multiplications as one head of width d_model.

Dimensions: B batch, T positions, d_model = n_heads * d_head.
"""

import torch
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask, scaled_dot_product_attention
from utils.errors import UsageError, run_program
from utils.shape_checker import check_shape


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, T, n_heads * d_head) -> (B, n_heads, T, d_head): head h gets slice h of the features."""
    B, T, width = x.shape
    heads = x.view(B, T, n_heads, width // n_heads)  # splits the last axis only
    # The heads move next to the batch axis, so that attention runs in each of them by itself.
    return heads.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, n_heads, T, d_head) -> (B, T, n_heads * d_head), the inverse of split_heads."""
    B, n_heads, T, d_head = x.shape
    # The transposed tensor is not contiguous, which view() would refuse; reshape() copies it.
    return x.transpose(1, 2).reshape(B, T, n_heads * d_head)


class MultiHeadAttention(nn.Module):
    """Attention with `n_heads` heads of width d_head = d_model / n_heads.

    `attend` is the attention function that runs inside the heads. The model passes in one that also
    rotates queries and keys or caches them, so this layer stays free of both.
    """

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__()
        if d_model % n_heads != 0:
            raise UsageError(f"d_model {d_model} is not divisible by n_heads {n_heads}")
        self.d_model = d_model
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)  # W_q of all heads side by side
        self.k_proj = nn.Linear(d_model, d_model, bias=bias)  # W_k
        self.v_proj = nn.Linear(d_model, d_model, bias=bias)  # W_v
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)  # W_o
        self.split_heads = split_heads  # plain attributes, so that your versions can replace them
        self.merge_heads = merge_heads

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """x (B, T, d_model), mask broadcast to (B, n_heads, T, T_k); returns (B, T, d_model)."""
        check_shape(x, ("B", "T", "d_model"), d_model=self.d_model)
        # Project, then give each head its slice.
        q = self.split_heads(self.q_proj(x), self.n_heads)  # (B, n_heads, T, d_head)
        k = self.split_heads(self.k_proj(x), self.n_heads)
        v = self.split_heads(self.v_proj(x), self.n_heads)
        # Every head attends on its own; the head axis acts like a second batch axis.
        output, _ = attend(q, k, v, mask)  # (B, n_heads, T, d_head)
        # Concatenate the heads; W_o mixes what they found.
        return self.out_proj(self.merge_heads(output))  # (B, T, d_model)


def main() -> None:
    """Print the shapes inside the layer, and the attention weights of each head."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(d_model=16, n_heads=4)
    x = torch.randn(1, 5, 16)
    q = split_heads(layer.q_proj(x), 4)
    k = split_heads(layer.k_proj(x), 4)
    # Only the weights are shown, and they don't depend on the values: k stands in for v.
    _, weights = scaled_dot_product_attention(q, k, k, causal_mask(5))
    print(f"x {tuple(x.shape)} -> queries {tuple(q.shape)} -> output {tuple(layer(x).shape)}\n")
    print("Attention weights of the last token over all five, head by head:")
    for head, row in enumerate(weights[0, :, -1]):
        print(f"  head {head}: " + " ".join(f"{weight:.2f}" for weight in row))


if __name__ == "__main__":
    run_program(main)
