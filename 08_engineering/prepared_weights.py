"""The weights of a model in the form in which a decoder multiplies by them, prepared once.

Preparing takes a while: matrices are joined, transposed, or stored in float16. For a model of ten
million parameters that is as long as forty tokens, and a program that generates many texts would
pay it for each. So what was prepared is kept as long as the model lives, and used again while

    every parameter    is the same memory, has counted no change, and has the same norm
    every norm         has the same eps

PyTorch counts changes in place (`_version`), but not those made through `.data`: these change the
norm. A model of inference tensors, which count nothing, is prepared anew each time.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Self, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

from fused import FusedFeedForward, FusedMultiHeadAttention
from inference_ops import (
    ACTIVATION_OPS,
    Op,
    ResidualOp,
    linear_op,
    norm_matmul_op,
    residual_linear_op,
)
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from transformer_block import TransformerBlock
from utils.config import ModelConfig
from utils.errors import run_program


@dataclass(frozen=True)
class PreparedBlock:
    """The functions of one block. Dimensions: B rows, one token each."""

    qkv_proj: Op  # (B, d_model) -> (B, 3 * d_model): norm, then queries, keys and values
    out_proj: ResidualOp  # x, attention output -> x
    mlp_up: Op  # (B, d_model) -> (B, d_ff): norm, up projection, activation
    mlp_down: ResidualOp  # x, hidden features -> x

    @classmethod
    def build(cls, block: TransformerBlock) -> Self:
        """Prepare the functions of one block."""
        heads = cast(FusedMultiHeadAttention, block.attention)
        mlp = cast(FusedFeedForward, block.feed_forward)
        up_proj = linear_op(mlp.up_proj, norm=block.feed_forward_norm)
        activation = ACTIVATION_OPS[mlp.activation]
        return cls(
            qkv_proj=linear_op(heads.q_proj, heads.k_proj, heads.v_proj, norm=block.attention_norm),
            out_proj=residual_linear_op(heads.out_proj),
            mlp_up=lambda x: activation(up_proj(x)),
            mlp_down=residual_linear_op(mlp.down_proj),
        )


@dataclass(frozen=True)
class PreparedWeights:
    """The functions of all blocks, and the output layer."""

    blocks: tuple[PreparedBlock, ...]
    unembed: Op  # (B, d_model) -> (B, vocab_size): final norm and unembedding


_kept: WeakKeyDictionary[nn.Module, tuple[Hashable, PreparedWeights]] = WeakKeyDictionary()


@torch.no_grad()
def prepared_weights(model: TinyTransformerLM) -> PreparedWeights:
    """The prepared weights of a model that fast_path.py supports."""
    before = fingerprint(model)
    kept, prepared = _kept.get(model, (None, None)) if before else (None, None)
    if prepared is None or kept != before:
        blocks = (PreparedBlock.build(cast(TransformerBlock, block)) for block in model.blocks)
        unembed = norm_matmul_op(model.output_weight, model.final_norm)
        prepared = PreparedWeights(tuple(blocks), unembed)
        if before is not None:
            _kept[model] = before, prepared
    return prepared


def fingerprint(model: nn.Module) -> Hashable:
    """What tells whether a weight has changed; None for inference tensors, which do not tell."""
    parameters = list(model.parameters())
    if any(parameter.is_inference() for parameter in parameters):
        return None
    norms = torch.stack([torch.linalg.vector_norm(p) for p in parameters]).tolist()
    places = [(p.data_ptr(), p._version, p.dtype, p.device) for p in parameters]
    modules = [(id(m), getattr(m, "eps", 0), getattr(m, "activation", 0)) for m in model.modules()]
    return tuple(norms), tuple(places), tuple(modules)


def main() -> None:
    """Prepare a model, use it again, and prepare it again after a change."""
    model = TinyTransformerLM(ModelConfig(vocab_size=10, d_model=32, n_layers=2), Parts.fused())
    first = prepared_weights(model)
    print("used again:        ", prepared_weights(model) is first)
    with torch.no_grad():
        model.output_weight.mul_(2)
    print("after a change:    ", prepared_weights(model) is first)


if __name__ == "__main__":
    run_program(main)
