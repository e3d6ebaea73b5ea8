"""The same pieces from PyTorch's fused kernels: same numbers, fewer trips through memory.

Each class inherits its constructor, and so its parameters, from the lesson's; `forward` differs.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

import feedforward
import layer_norm
import token_embeddings
from attention import check_mask


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
    """PyTorch's scaled dot-product attention, flash attention where there is a kernel for it.

    Returns (output, None): a fused kernel never writes the weights down.
    """
    if mask is not None:
        check_mask(mask, torch.Size((*q.shape[:-1], k.size(-2))))
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None


def matmul_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Two matrix products and PyTorch's softmax, which reads a row once.

    In bfloat16 on a CPU this can be several times faster than the fused kernel.
    A row that may attend to nothing gives nan here, and zeros elsewhere; the model has none, for
    every token sees itself.
    """
    scores = q @ k.transpose(-2, -1) * (1.0 / math.sqrt(q.size(-1)))  # (B, n_heads, T_q, T_k)
    if mask is not None:
        check_mask(mask, scores.shape)
        scores = scores + _additive(mask, scores.dtype)
    return torch.softmax(scores, dim=-1, dtype=scores.dtype) @ v, None


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)


class LayerNorm(layer_norm.LayerNorm):
    """F.layer_norm."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        return F.layer_norm(x, (self.d_model,), self.weight, self.bias, self.eps)


class RMSNorm(layer_norm.RMSNorm):
    """F.rms_norm."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        return F.rms_norm(x, (self.d_model,), self.weight, self.eps)


class FeedForward(feedforward.FeedForward):
    """F.gelu, and no shape check."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        hidden = self.up_proj(x)
        is_gelu = self.activation is feedforward.gelu
        hidden = F.gelu(hidden) if is_gelu else self.activation(hidden)
        return self.down_proj(hidden)


class SwiGLU(feedforward.SwiGLU):
    """F.silu."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TokenEmbedding(token_embeddings.TokenEmbedding):
    """F.embedding."""

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) integers -> (B, T, d_model)."""
        return F.embedding(tokens, self.weight)
