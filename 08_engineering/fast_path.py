"""Which models the fast decoder is known to compute correctly; the rest use their forward.

A fast path that guesses is worse than none: with an activation, a norm or a layer that it does not
know, it would generate text from the wrong function without any error. So this is a list of what is
allowed, by the identity of the classes and functions that a model really uses, and never a list of
what is excluded.
"""

from typing import cast

from torch import nn

from dropout import Dropout
from engine import CompiledForward
from fused import (
    FusedFeedForward,
    FusedLayerNorm,
    FusedMultiHeadAttention,
    FusedRMSNorm,
    FusedTokenEmbedding,
    matmul_attention,
    sdpa,
)
from inference_ops import ACTIVATION_OPS
from multi_head import merge_heads, split_heads
from parts import Parts
from positional_embeddings import LearnedPositions, SinusoidalPositions
from tiny_transformer_lm import TinyTransformerLM
from transformer_block import TransformerBlock
from utils.kv_cache import KVCache

NORMS = (FusedLayerNorm, FusedRMSNorm)
MODULES = {  # every module of a supported model is one of these, and no subclass of it
    *(TinyTransformerLM, TransformerBlock, FusedMultiHeadAttention, FusedFeedForward, *NORMS),
    *(FusedTokenEmbedding, LearnedPositions, SinusoidalPositions),
    *(nn.Linear, Dropout, nn.ModuleList),
}
POSITIONS = ("learned", "sinusoidal", "rope")  # not alibi, which needs a mask


def is_supported(model: nn.Module, cache: KVCache) -> bool:
    """Whether FastDecoder computes the same logits as this model's forward pass."""
    return (
        type(model) is TinyTransformerLM
        and model.parts in (Parts.fused(sdpa), Parts.fused(matmul_attention))
        and model.config.position in POSITIONS
        and type(model.final_norm) in NORMS
        and all(_is_unmodified(module) for module in model.modules())
        and all(_has_known_layout(cast(TransformerBlock, block)) for block in model.blocks)
        and _has_dtype_and_device_of(model, cache)
    )


def _is_unmodified(module: nn.Module) -> bool:
    """A known class in evaluation mode, without hooks and without a forward of its own."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    forward = vars(module).get("forward")
    plain = forward is None or isinstance(forward, CompiledForward)
    return type(module) in MODULES and not module.training and not hooks and plain


def _has_known_layout(block: TransformerBlock) -> bool:
    """Pre-norm, full multi-head attention, and an activation with an inference op."""
    attention, feed_forward = block.attention, block.feed_forward
    return (
        block.placement == "pre"
        and type(block.attention_norm) in NORMS
        and type(block.feed_forward_norm) in NORMS
        and type(attention) is FusedMultiHeadAttention
        and attention.split_heads is split_heads
        and attention.merge_heads is merge_heads
        and type(feed_forward) is FusedFeedForward
        and feed_forward.activation in ACTIVATION_OPS
    )


def _has_dtype_and_device_of(model: nn.Module, cache: KVCache) -> bool:
    keys = cache.keys
    return all(p.dtype == keys.dtype and p.device == keys.device for p in model.parameters())
