"""The model's parts for speed: PyTorch's fused kernels, and functions with less memory traffic.

Each class inherits its constructor, and so its parameter names, from the lesson's class; only
`forward` differs. Under torch.compile the plain formulas replace the functions with a hand-written
backward pass, because the compiler fuses them by itself, forward and backward.

Dimensions: B batch, T_q queries, T_k keys, d_model features, d_head of them in a head.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import feedforward
from attention import AttentionFunction, check_mask, scaled_dot_product_attention
from custom_autograd import NormalizeAndRotateFunction, ReLUSquaredFunction, RMSNormFunction
from layer_norm import LayerNorm, RMSNorm, rms_normalize
from multi_head import MultiHeadAttention
from positional_embeddings import apply_rotary
from token_embeddings import TokenEmbedding

BLOCK = 128  # queries per block: smaller blocks skip more masked scores, but multiply less at once


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
    """PyTorch's scaled dot-product attention: flash attention where there is a kernel for it.

    Returns (output, None), because a fused kernel never stores the attention weights.
    """
    if mask is not None:
        check_mask(mask, torch.Size((*q.shape[:-1], k.size(-2))))
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None


def matmul_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Attention as two matrix products around PyTorch's softmax, which reads each row once.

    In bfloat16 on a CPU this can be several times faster than the fused kernel. If all sequences
    and heads share one boolean mask (T_q, T_k), as in training, a long sequence is computed in
    blocks of queries, each with only the keys that some query of the block may attend to: under a
    causal mask, half of the scores of a very long sequence are never computed.
    A query that may attend to nothing gives nan here (and zeros in the other attention functions).
    The model has no such query, since every token may attend to itself.
    """
    T_q, T_k = q.size(-2), k.size(-2)
    if mask is not None:
        check_mask(mask, torch.Size((*q.shape[:-1], T_k)))
    if mask is None or not _use_blocks(mask, T_q, T_k):
        return _attend(q, k, v, mask), None
    blocks = []
    for start in range(0, T_q, BLOCK):
        rows = slice(start, start + BLOCK)
        n_keys = visible_keys(mask[rows])
        queries, keys, values = q[..., rows, :], k[..., :n_keys, :], v[..., :n_keys, :]
        blocks.append(_attend(queries, keys, values, mask[rows, :n_keys]))
    return torch.cat(blocks, dim=-2), None


def _use_blocks(mask: Tensor, T_q: int, T_k: int) -> bool:
    """Whether blocks pay off: a long shared mask, on a CPU, where reading its values is cheap."""
    shared = mask.dtype == torch.bool and mask.shape == (T_q, T_k) and mask.device.type == "cpu"
    return shared and T_q > BLOCK and not torch.compiler.is_compiling()


def visible_keys(mask: Tensor) -> int:
    """The number of leading keys that include every key any query of the mask (T_q, T_k) sees."""
    return int(mask.any(0).nonzero().max()) + 1 if mask.any() else mask.size(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d_head) + mask) v."""
    scores = (q * (1.0 / math.sqrt(q.size(-1)))) @ k.transpose(-2, -1)  # (B, n_heads, T_q, T_k)
    if mask is not None:
        scores += _additive(mask, scores.dtype)
    return torch.softmax(scores, dim=-1, dtype=scores.dtype) @ v


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A floating mask as it is; a boolean one as 0 where True and -inf where False."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)


def normalize_and_rotate(x: Tensor, cos: Tensor, sin: Tensor, eps: float = 1e-5) -> Tensor:
    """rms_normalize, then apply_rotary: x (B, n_heads, T, d_head) -> the same shape and dtype."""
    if torch.compiler.is_compiling():
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return apply_rotary(rms_normalize(wide, eps), cos, sin).to(x.dtype)
    return NormalizeAndRotateFunction.apply(x, cos, sin, eps)  # pyright: ignore[reportReturnType]


def fused_relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2; any shape."""
    if torch.compiler.is_compiling():
        return feedforward.relu_squared(x)
    return ReLUSquaredFunction.apply(x)  # pyright: ignore[reportReturnType]


# The lessons' activations that have a faster equivalent here; any other is used as it is.
FUSED_ACTIVATIONS: dict[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = {
    feedforward.gelu: F.gelu,
    feedforward.relu_squared: fused_relu_squared,
}


class FusedMultiHeadAttention(MultiHeadAttention):
    """Queries, keys and values from one matrix product, which reads x once, not three times."""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """x (B, T, d_model), mask broadcast to (B, n_heads, T, T_k); returns (B, T, d_model)."""
        # Project: [q k v] = x [W_q W_k W_v]^T + [b_q b_k b_v]
        projections = (self.q_proj, self.k_proj, self.v_proj)
        weight = torch.cat(tuple(each.weight for each in projections))  # (3 * d_model, d_model)
        biases = tuple(each.bias for each in projections if each.bias is not None)
        qkv = F.linear(x, weight, torch.cat(biases) if biases else None)  # (B, T, 3 * d_model)
        # Attend in each head, then mix the heads.
        q, k, v = (self.split_heads(part, self.n_heads) for part in qkv.chunk(3, dim=-1))
        output, _ = attend(q, k, v, mask)  # (B, n_heads, T, d_head)
        return self.out_proj(self.merge_heads(output))  # (B, T, d_model)


class FusedLayerNorm(LayerNorm):
    """LayerNorm by F.layer_norm: one kernel for mean, variance, scale and shift."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        return F.layer_norm(x, (self.d_model,), self.weight, self.bias, self.eps)


class FusedRMSNorm(RMSNorm):
    """RMSNorm by F.rms_norm; in training, by a function with a hand-written backward pass.

    Under autocast, training writes the result directly in the dtype that the next matrix product
    reads.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return F.rms_norm(x, (self.d_model,), self.weight, self.eps)
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        output: Any = RMSNormFunction.apply(x, self.weight, self.eps, dtype)
        return output


class FusedFeedForward(feedforward.FeedForward):
    """W_down activation(W_up x), with a fused activation where there is one."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        activation = FUSED_ACTIVATIONS.get(self.activation, self.activation)
        hidden = activation(self.up_proj(x))  # (..., d_ff)
        return self.down_proj(hidden)


class FusedSwiGLU(feedforward.SwiGLU):
    """W_down (silu(W_gate x) * W_up x), with F.silu."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        hidden = F.silu(self.gate_proj(x)) * self.up_proj(x)  # (..., d_ff)
        return self.down_proj(hidden)


class FusedTokenEmbedding(TokenEmbedding):
    """The rows of the table, looked up by F.embedding."""

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) integers -> (B, T, d_model)."""
        return F.embedding(tokens, self.weight)
