"""Parts: the interchangeable pieces of the model, so that one checkpoint runs on many engines.

    Parts.reference()    the code of the lessons
    Parts.fused()        the same functions for speed, mostly PyTorch's fused kernels
    Parts.mine()         your own code: every exercise that you have solved (my_parts.py)

All of them build modules with the same parameter names and shapes, so each can load a checkpoint
that another has saved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

import fused
from attention import AttentionFunction, causal_mask, scaled_dot_product_attention
from feedforward import FeedForward, SwiGLU
from grouped_query_attention import GroupedQueryAttention, repeat_kv
from layer_norm import LayerNorm, RMSNorm
from multi_head import MultiHeadAttention, merge_heads, split_heads
from positional_embeddings import (
    LearnedPositions,
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    apply_rotary,
    rotary_angles,
)
from token_embeddings import TokenEmbedding
from transformer_block import TransformerBlock
from utils.config import ModelConfig


@dataclass(frozen=True)
class Parts:
    """The pieces of a model: functions and classes, with the signatures of the lessons."""

    # functions: softmax attention, its mask, and the reshaping around it
    attention: AttentionFunction = scaled_dot_product_attention
    causal_mask: Callable[[int], Tensor] = causal_mask
    split_heads: Callable[[Tensor, int], Tensor] = split_heads
    merge_heads: Callable[[Tensor], Tensor] = merge_heads
    repeat_kv: Callable[[Tensor, int], Tensor] = repeat_kv
    # layers, as constructors: (d_model, n_heads, bias) -> module, and so on
    multi_head: Callable[[int, int, bool], nn.Module] = MultiHeadAttention
    grouped_query: Callable[[int, int, int, bool], nn.Module] = GroupedQueryAttention
    layer_norm: Callable[[int, bool], nn.Module] = LayerNorm
    rms_norm: Callable[[int], nn.Module] = RMSNorm
    feed_forward: Callable[[int, int, str, bool], nn.Module] = FeedForward
    swiglu: Callable[[int, int, bool], nn.Module] = SwiGLU
    block: Callable[..., nn.Module] = TransformerBlock
    # embeddings: (vocab_size or max_seq_len, d_model) -> module
    token_embedding: Callable[[int, int], nn.Module] = TokenEmbedding
    learned_positions: Callable[[int, int], nn.Module] = LearnedPositions
    sinusoidal_positions: Callable[[int, int], nn.Module] = SinusoidalPositions
    # positions inside attention: RoPE rotates queries and keys, ALiBi adds to the scores
    rotary_angles: Callable[[Tensor, int], tuple[Tensor, Tensor]] = rotary_angles
    apply_rotary: Callable[[Tensor, Tensor, Tensor], Tensor] = apply_rotary
    # If not None, a model with both qk_norm and rotary positions calls this one function in place
    # of rms_normalize and apply_rotary. Set it to None when you replace apply_rotary.
    normalize_and_rotate: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    alibi_slopes: Callable[[int], Tensor] = alibi_slopes
    alibi_bias: Callable[[Tensor, Tensor, Tensor], Tensor] = alibi_bias

    @classmethod
    def reference(cls) -> Self:
        """The code of the lessons."""
        return cls()

    @classmethod
    def fused(cls, attention: AttentionFunction = fused.sdpa) -> Self:
        """The fused parts, with fused.sdpa or fused.matmul_attention as the attention."""
        return cls(
            attention=attention,
            multi_head=fused.FusedMultiHeadAttention,
            layer_norm=fused.FusedLayerNorm,
            rms_norm=fused.FusedRMSNorm,
            feed_forward=fused.FusedFeedForward,
            swiglu=fused.FusedSwiGLU,
            token_embedding=fused.FusedTokenEmbedding,
            normalize_and_rotate=fused.normalize_and_rotate,
        )

    @classmethod
    def fused_for(cls, device: torch.device, dtype: torch.dtype) -> Self:
        """The fused parts with the attention that is faster for this device and dtype.

        That is PyTorch's fused kernel, except in bfloat16 on a CPU.
        """
        bfloat16_on_cpu = device.type == "cpu" and dtype == torch.bfloat16
        return cls.fused(fused.matmul_attention if bfloat16_on_cpu else fused.sdpa)

    @classmethod
    def mine(cls, config: ModelConfig | None = None) -> Self:
        """Your own code for models of this configuration, or of any: each exercise you have solved.

        What you have not started is the reference. Raises CourseError, which names the exercise, if
        one is wrong, or passes its tests but computes something else in a model.
        """
        from my_parts import collect  # it builds models, and so imports this module

        return cls(**collect(config).own)

    # --- building modules from the parts ---

    def build_attention(self, config: ModelConfig) -> nn.Module:
        """The attention layer of one block: grouped-query if there are fewer key-value heads."""
        if config.kv_heads == config.n_heads:
            layer = self.multi_head(config.d_model, config.n_heads, config.bias)
        else:
            layer = self.grouped_query(config.d_model, config.n_heads, config.kv_heads, config.bias)
        # Set after construction, so that the layers keep the signatures of the lessons. A layer of
        # your own splits and merges its heads as it likes.
        if isinstance(layer, MultiHeadAttention | GroupedQueryAttention):
            layer.split_heads = self.split_heads  # pyright: ignore[reportAttributeAccessIssue]
            layer.merge_heads = self.merge_heads  # pyright: ignore[reportAttributeAccessIssue]
        return layer

    def build_norm(self, config: ModelConfig) -> nn.Module:
        """LayerNorm or RMSNorm over d_model features."""
        if config.norm == "rmsnorm":
            return self.rms_norm(config.d_model)
        return self.layer_norm(config.d_model, config.bias)  # RMSNorm never has a bias

    def build_feed_forward(self, config: ModelConfig) -> nn.Module:
        """The feed-forward network of one block."""
        if config.activation == "swiglu":
            return self.swiglu(config.d_model, config.ff_width, config.bias)
        return self.feed_forward(config.d_model, config.ff_width, config.activation, config.bias)

    def build_block(self, config: ModelConfig) -> nn.Module:
        """One transformer block."""
        return self.block(
            self.build_attention(config),
            self.build_feed_forward(config),
            self.build_norm(config),  # of attention
            self.build_norm(config),  # of the feed-forward network
            config.norm_placement,
            config.dropout,
        )

    def build_positions(self, config: ModelConfig) -> nn.Module | None:
        """The embedding that is added to the tokens; None if positions act inside attention."""
        if config.position == "learned":
            return self.learned_positions(config.max_seq_len, config.d_model)
        if config.position == "sinusoidal":
            return self.sinusoidal_positions(config.max_seq_len, config.d_model)
        return None  # rope and alibi
