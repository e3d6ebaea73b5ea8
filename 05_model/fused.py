"""The same pieces for speed: PyTorch's fused kernels, and functions that go to memory less often.

Each class inherits its constructor, and so its parameters, from the lesson's; `forward` differs.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import custom_autograd
import feedforward
import layer_norm
import multi_head
import token_embeddings
from attention import AttentionFunction, check_mask, scaled_dot_product_attention

FAST: dict[Any, Callable[..., Any]] = {
    feedforward.gelu: F.gelu,
    feedforward.relu_squared: custom_autograd.ReLUSquared.apply,
}
BLOCK = 128  # queries; smaller blocks save more scores and pay for it with smaller products


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

    In bfloat16 on a CPU this can be several times faster than the fused kernel. Where all rows and
    heads share one boolean mask (T_q, T_k), as in training, long texts are taken in blocks of
    queries, each with the keys that the mask lets any of them see: under a causal mask, half of the
    scores of a very long text are never computed.
    A row that may attend to nothing gives nan here, and zeros elsewhere; the model has none, for
    every token sees itself.
    """
    T_q, T_k = q.size(-2), k.size(-2)
    if mask is not None:
        check_mask(mask, torch.Size((*q.shape[:-1], T_k)))
    if mask is None or not _shared(mask, T_q, T_k):
        return _attend(q, k, v, mask), None
    blocks = []
    for start in range(0, T_q, BLOCK):
        rows = slice(start, start + BLOCK)
        seen = last_seen(mask[rows])
        queries, keys, values = q[..., rows, :], k[..., :seen, :], v[..., :seen, :]
        blocks.append(_attend(queries, keys, values, mask[rows, :seen]))
    return torch.cat(blocks, dim=-2), None


def _shared(mask: Tensor, T_q: int, T_k: int) -> bool:
    """Whether blocks of queries pay, and asking the mask how far they see costs no waiting."""
    plain = mask.dtype == torch.bool and mask.shape == (T_q, T_k) and mask.device.type == "cpu"
    return plain and T_q > BLOCK and not torch.compiler.is_compiling()


def last_seen(mask: Tensor) -> int:
    """How many of the first keys hold all that any query of a boolean (T_q, T_k) mask may see."""
    return int(mask.any(0).nonzero().max()) + 1 if mask.any() else mask.size(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = (q * (1.0 / math.sqrt(q.size(-1)))) @ k.transpose(-2, -1)  # (B, n_heads, T_q, T_k)
    if mask is not None:
        scores += _additive(mask, scores.dtype)
    return torch.softmax(scores, dim=-1, dtype=scores.dtype) @ v


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)


def normalize_and_rotate(x: Tensor, cos: Tensor, sin: Tensor, eps: float = 1e-5) -> Tensor:
    """rms_normalize and apply_rotary at once: x (B, n_heads, T, d_head), the same shape back."""
    return custom_autograd.NormalizeAndRotate.apply(x, cos, sin, eps)  # pyright: ignore[reportReturnType]


class MultiHeadAttention(multi_head.MultiHeadAttention):
    """One product for queries, keys and values together: x is read once."""

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """x (B, T, d_model), mask broadcast to (B, n_heads, T, T_k); returns (B, T, d_model)."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        weight = torch.cat(tuple(each.weight for each in projections))
        biases = tuple(each.bias for each in projections if each.bias is not None)
        together = F.linear(x, weight, torch.cat(biases) if biases else None)
        q, k, v = (self.split_heads(part, self.n_heads) for part in together.chunk(3, dim=-1))
        output, _ = attend(q, k, v, mask)
        return self.out_proj(self.merge_heads(output))  # (B, T, d_model)


class LayerNorm(layer_norm.LayerNorm):
    """F.layer_norm."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        return F.layer_norm(x, (self.d_model,), self.weight, self.bias, self.eps)


class RMSNorm(layer_norm.RMSNorm):
    """With a backward pass of its own; in training it writes what the next product reads."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        if not torch.is_grad_enabled():
            return F.rms_norm(x, (self.d_model,), self.weight, self.eps)
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return custom_autograd.RMSNorm.apply(x, self.weight, self.eps, dtype)  # pyright: ignore[reportReturnType]


class FeedForward(feedforward.FeedForward):
    """F.gelu or ReLU squared with a backward pass of its own, and no shape check."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model)."""
        activation = FAST.get(self.activation, self.activation)
        return self.down_proj(activation(self.up_proj(x)))


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
