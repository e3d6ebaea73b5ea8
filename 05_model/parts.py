"""Parts: the interchangeable pieces of the model, so that one checkpoint runs on many engines.

    Parts.reference()    the code of the lessons
    Parts.fused()        the same numbers for speed, mostly from PyTorch's fused kernels

Every engine builds modules with the same parameter names and shapes: what one saved, all load.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

import fused
from attention import AttentionFunction, scaled_dot_product_attention
from feedforward import FeedForward, SwiGLU
from grouped_query_attention import GroupedQueryAttention
from layer_norm import LayerNorm, RMSNorm
from multi_head import MultiHeadAttention, merge_heads, split_heads
from positional_embeddings import LearnedPositions, SinusoidalPositions, alibi_bias, apply_rotary
from token_embeddings import TokenEmbedding
from transformer_block import TransformerBlock
from utils.config import ModelConfig


@dataclass(frozen=True)
class Parts:
    """What a model is made of: functions and classes with the signatures of their lessons."""

    attention: AttentionFunction = scaled_dot_product_attention
    split_heads: Callable[[Tensor, int], Tensor] = split_heads
    merge_heads: Callable[[Tensor], Tensor] = merge_heads
    multi_head: Callable[[int, int, bool], nn.Module] = MultiHeadAttention
    grouped_query: Callable[[int, int, int, bool], nn.Module] = GroupedQueryAttention
    layer_norm: Callable[[int, bool], nn.Module] = LayerNorm
    rms_norm: Callable[[int], nn.Module] = RMSNorm
    feed_forward: Callable[[int, int, str, bool], nn.Module] = FeedForward
    swiglu: Callable[[int, int, bool], nn.Module] = SwiGLU
    block: Callable[..., nn.Module] = TransformerBlock
    token_embedding: Callable[[int, int], nn.Module] = TokenEmbedding
    learned_positions: Callable[[int, int], nn.Module] = LearnedPositions
    sinusoidal_positions: Callable[[int, int], nn.Module] = SinusoidalPositions
    apply_rotary: Callable[[Tensor, Tensor, Tensor], Tensor] = apply_rotary
    # Where the model normalises queries and keys before it turns them: both at once, if not None.
    # Then apply_rotary is not called, so whoever puts in another one sets this to None.
    normalize_and_rotate: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    alibi_bias: Callable[[Tensor, Tensor, Tensor], Tensor] = alibi_bias

    @classmethod
    def reference(cls) -> Self:
        """The code of the lessons."""
        return cls()

    @classmethod
    def fused(cls, attention: AttentionFunction = fused.sdpa) -> Self:
        """PyTorch's fused kernels; `attention` may be fused.sdpa or fused.matmul_attention."""
        return cls(
            attention=attention,
            multi_head=fused.MultiHeadAttention,
            layer_norm=fused.LayerNorm,
            rms_norm=fused.RMSNorm,
            feed_forward=fused.FeedForward,
            swiglu=fused.SwiGLU,
            token_embedding=fused.TokenEmbedding,
            normalize_and_rotate=fused.normalize_and_rotate,
        )

    @classmethod
    def fused_for(cls, device: torch.device, dtype: torch.dtype) -> Self:
        """With the faster attention there: on a CPU, two plain products are in bfloat16."""
        plain = device.type == "cpu" and dtype == torch.bfloat16
        return cls.fused(fused.matmul_attention if plain else fused.sdpa)

    # --- building with the parts ---

    def build_attention(self, config: ModelConfig) -> nn.Module:
        """The attention layer of one block: grouped-query where key-value heads are fewer."""
        if config.kv_heads == config.n_heads:
            layer = self.multi_head(config.d_model, config.n_heads, config.bias)
        else:
            layer = self.grouped_query(config.d_model, config.n_heads, config.kv_heads, config.bias)
        layer.split_heads = self.split_heads  # pyright: ignore[reportArgumentType]
        layer.merge_heads = self.merge_heads  # pyright: ignore[reportArgumentType]
        return layer

    def build_norm(self, config: ModelConfig) -> nn.Module:
        """LayerNorm or RMSNorm over d_model features."""
        if config.norm == "rmsnorm":
            return self.rms_norm(config.d_model)
        return self.layer_norm(config.d_model, config.bias)

    def build_feed_forward(self, config: ModelConfig) -> nn.Module:
        """The feed-forward network of one block."""
        if config.activation == "swiglu":
            return self.swiglu(config.d_model, config.ff_width, config.bias)
        return self.feed_forward(config.d_model, config.ff_width, config.activation, config.bias)

    def build_block(self, config: ModelConfig) -> nn.Module:
        """One transformer block with its pieces built."""
        return self.block(
            self.build_attention(config),
            self.build_feed_forward(config),
            self.build_norm(config),
            self.build_norm(config),
            config.norm_placement,
            config.dropout,
        )

    def build_positions(self, config: ModelConfig) -> nn.Module | None:
        """The positions that are added to the tokens; None for those that act inside attention."""
        if config.position == "learned":
            return self.learned_positions(config.max_seq_len, config.d_model)
        if config.position == "sinusoidal":
            return self.sinusoidal_positions(config.max_seq_len, config.d_model)
        return None
