"""Multi-head attention: small attentions side by side, each free to look for something else.

    head_h    = attention(x W_q[h], x W_k[h], x W_v[h])
    output    = concat(head_1, ..., head_n) W_o            Vaswani et al. 2017, section 3.2.2

The heads are cut out of one wide projection, so eight heads cost no more multiplications than one.

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
    return x.view(B, T, n_heads, width // n_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, n_heads, T, d_head) -> (B, T, n_heads * d_head): the heads side by side again."""
    B, n_heads, T, d_head = x.shape
    return x.transpose(1, 2).reshape(B, T, n_heads * d_head)


class MultiHeadAttention(nn.Module):
    """Attention with `n_heads` heads of width d_model / n_heads.

    `attend` is the attention that runs inside the heads: the model hands in one that also rotates
    positions or keeps a cache, and this layer need not know.
    """

    def __init__(self, d_model: int, n_heads: int, bias: bool = True) -> None:
        super().__init__()
        if d_model % n_heads != 0:
            raise UsageError(f"d_model {d_model} is not divisible by n_heads {n_heads}")
        self.d_model = d_model
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, d_model, bias=bias)
        self.v_proj = nn.Linear(d_model, d_model, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)
        self.split_heads = split_heads  # plain attributes, so that yours can take their place
        self.merge_heads = merge_heads

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """x (B, T, d_model), mask broadcast to (B, n_heads, T, T_k); returns (B, T, d_model)."""
        check_shape(x, ("B", "T", "d_model"), d_model=self.d_model)
        q = self.split_heads(self.q_proj(x), self.n_heads)  # (B, n_heads, T, d_head)
        k = self.split_heads(self.k_proj(x), self.n_heads)
        v = self.split_heads(self.v_proj(x), self.n_heads)
        output, _ = attend(q, k, v, mask)
        return self.out_proj(self.merge_heads(output))  # (B, T, d_model)


def main() -> None:
    """Show the shapes on the way through the heads, and that each head looks elsewhere."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(d_model=16, n_heads=4)
    x = torch.randn(1, 5, 16)
    q = split_heads(layer.q_proj(x), 4)
    k = split_heads(layer.k_proj(x), 4)
    _, weights = scaled_dot_product_attention(q, k, k, causal_mask(5))
    print(f"x {tuple(x.shape)} -> queries {tuple(q.shape)} -> output {tuple(layer(x).shape)}\n")
    print("How the last token shares its attention, head by head:")
    for head, row in enumerate(weights[0, :, -1]):
        print(f"  head {head}: " + " ".join(f"{weight:.2f}" for weight in row))


if __name__ == "__main__":
    run_program(main)
