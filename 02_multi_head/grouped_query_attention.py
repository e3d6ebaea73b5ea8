"""Grouped-query attention: several query heads share one key-value head.

    n_kv_heads = n_heads    multi-head attention             Vaswani et al. 2017, section 3.2.2
    n_kv_heads = 1          multi-query attention            Shazeer 2019, section 3
    in between              grouped-query attention          Ainslie et al. 2023, section 2.2

During generation a model reads the cached keys and values of every earlier token at every step.
Sharing them among query heads shrinks this cache by the factor n_heads / n_kv_heads, and the memory
traffic as well, in kernels that read shared heads in place instead of copying them as we do here.

Dimensions: B batch, T positions, d_model = n_heads * d_head, n_repeats = n_heads / n_kv_heads.
"""

from torch import Tensor, nn

from attention import AttentionFunction, scaled_dot_product_attention
from multi_head import merge_heads, split_heads
from utils.errors import UsageError, run_program
from utils.shape_checker import check_shape


def repeat_kv(x: Tensor, n_repeats: int) -> Tensor:
    """(B, n_kv_heads, T, d_head) -> (B, n_kv_heads * n_repeats, T, d_head).

    The copies of a head are adjacent (0 0 1 1, not 0 1 0 1), so query head h reads key-value head
    h // n_repeats.
    """
    if n_repeats == 1:
        return x
    B, n_kv_heads, T, d_head = x.shape
    # A new axis right after the heads puts the copies next to each other. expand() copies nothing.
    repeated = x[:, :, None].expand(B, n_kv_heads, n_repeats, T, d_head)
    return repeated.reshape(B, n_kv_heads * n_repeats, T, d_head)  # here they are copied


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention in which k and v may have fewer heads than q.

    q (B, n_heads, T_q, d_head), k and v (B, n_kv_heads, T_k, d_head). Returns (output, weights),
    both with n_heads heads.
    """
    n_repeats = q.size(1) // k.size(1)  # query heads per key-value head
    k = repeat_kv(k, n_repeats)  # (B, n_heads, T_k, d_head)
    v = repeat_kv(v, n_repeats)
    return scaled_dot_product_attention(q, k, v, mask)


class GroupedQueryAttention(nn.Module):
    """Multi-head attention with only `n_kv_heads` heads for keys and values.

    `attend` receives k and v with n_kv_heads heads and repeats them itself, so that a cache can
    store them unrepeated.
    """

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, bias: bool = True) -> None:
        super().__init__()
        if d_model % n_heads != 0:
            raise UsageError(f"d_model {d_model} is not divisible by n_heads {n_heads}")
        if n_heads % n_kv_heads != 0:
            raise UsageError(f"n_heads {n_heads} is not divisible by n_kv_heads {n_kv_heads}")
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_kv_heads = n_kv_heads
        kv_width = n_kv_heads * (d_model // n_heads)  # n_kv_heads * d_head
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, kv_width, bias=bias)
        self.v_proj = nn.Linear(d_model, kv_width, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)
        self.split_heads = split_heads
        self.merge_heads = merge_heads

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = grouped_attention,
    ) -> Tensor:
        """x (B, T, d_model), mask broadcast to (B, n_heads, T, T_k); returns (B, T, d_model)."""
        check_shape(x, ("B", "T", "d_model"), d_model=self.d_model)
        # Project and split: many query heads, few key-value heads.
        q = self.split_heads(self.q_proj(x), self.n_heads)  # (B, n_heads, T, d_head)
        k = self.split_heads(self.k_proj(x), self.n_kv_heads)  # (B, n_kv_heads, T, d_head)
        v = self.split_heads(self.v_proj(x), self.n_kv_heads)
        output, _ = attend(q, k, v, mask)  # (B, n_heads, T, d_head)
        return self.out_proj(self.merge_heads(output))  # (B, T, d_model)


def main() -> None:
    """Print cache size and parameter count for fewer and fewer key-value heads."""
    d_model = 512
    n_heads = 8
    T = 1024
    print(f"Cached keys and values of {T} tokens in one layer, d_model {d_model}, float32:\n")
    for n_kv_heads in (8, 4, 2, 1):
        layer = GroupedQueryAttention(d_model, n_heads, n_kv_heads)
        # keys and values (2), float32 (4 bytes)
        kilobytes = 2 * T * n_kv_heads * (d_model // n_heads) * 4 / 1024
        parameters = sum(p.numel() for p in layer.parameters())
        print(f"  {n_kv_heads} kv heads: {kilobytes:6.0f} KiB cached, {parameters:>9,} parameters")


if __name__ == "__main__":
    run_program(main)
