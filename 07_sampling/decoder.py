"""One more token for each row of a cache, straight from the weights: what makes speaking fast.

A forward pass over one token does little arithmetic, so most of its time goes into getting from one
operation to the next: modules, closures, checks, and slices made anew. `Decoder` computes the same
logits as `model(tokens, cache)` with some fifteen operations a layer, on views of the cache that
are cut once. Turning queries and keys by their angle is a product with one small matrix:

    turned = x R_t          R_t (d_head, d_head) holds the cosines and sines of position t

It knows the layouts of the presets (`decoder_for`); every other model speaks through its forward.
Dimensions: B rows, one token each; t tokens are in the cache.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fused import MultiHeadAttention
from positional_embeddings import rotary_angles
from tiny_transformer_lm import TinyTransformerLM
from transformer_block import TransformerBlock
from utils.config import ModelConfig
from utils.errors import run_program
from utils.kv_cache import KVCache

QK_EPS = 1e-5  # of rms_normalize


def decoder_for(model: nn.Module, cache: KVCache) -> "Decoder | None":
    """A decoder if it knows the model: of fused parts only, so that yours are never passed over."""
    if not isinstance(model, TinyTransformerLM) or model.config.position == "alibi":
        return None
    for block in model.blocks:
        if not isinstance(block, TransformerBlock) or block.placement != "pre":
            return None
        if type(block.attention) is not MultiHeadAttention or type(block) is not TransformerBlock:
            return None
    return Decoder(model, cache)


class Decoder:
    """The next step of a model, for all rows of a cache, as long as these are equally long."""

    def __init__(self, model: TinyTransformerLM, cache: KVCache) -> None:
        self.model, self.config, self.cache = model, model.config, cache
        blocks = [cast(TransformerBlock, block) for block in model.blocks]
        self.layers = [Layer.of(block, cache, i) for i, block in enumerate(blocks)]
        self.keys_turn = self.queries_turn = None
        if self.config.position == "rope":
            turns = rotations(self.config).to(cache.keys)  # (max_seq_len, d_head, d_head)
            self.keys_turn = turns.unbind()
            self.queries_turn = (turns / math.sqrt(self.config.d_head)).unbind()

    def logits(self, tokens: Tensor) -> Tensor:
        """tokens (B,), the newest of each row -> logits (B, vocab_size); the cache grows by it."""
        x = self.model.embed(tokens, self.cache.positions(1)[0])  # (B, d_model)
        for layer in self.layers:
            x = x + F.linear(self._attention(layer, x), layer.out_weight, layer.out_bias)
            x = x + layer.feed_forward(layer.feed_forward_norm(x))
        self.cache.advance(1)
        return F.linear(self.model.final_norm(x), self.model.output_weight)

    def _attention(self, layer: "Layer", x: Tensor) -> Tensor:
        """What the heads tell one another: x (B, d_model) -> (B, d_model), before out_proj."""
        d_head, t = self.config.d_head, self.cache.lengths[0]
        together = F.linear(layer.attention_norm(x), layer.weight, layer.bias)  # (B, 3 * d_model)
        q, k, v = (part.reshape(-1, d_head) for part in together.chunk(3, dim=1))
        if self.config.qk_norm:
            q, k = F.rms_norm(q, (d_head,), eps=QK_EPS), F.rms_norm(k, (d_head,), eps=QK_EPS)
        if self.queries_turn is None or self.keys_turn is None:
            q = q / math.sqrt(d_head)
            layer.keys_at[t].copy_(k)
        else:
            q = torch.mm(q, self.queries_turn[t])
            torch.mm(k, self.keys_turn[t], out=layer.keys_at[t])
        layer.values_at[t].copy_(v)
        scores = torch.bmm(q[:, None], layer.keys.narrow(2, 0, t + 1))  # (B * n_heads, 1, t + 1)
        values = layer.values.narrow(1, 0, t + 1)
        return torch.bmm(torch.softmax(scores, dim=-1), values).view_as(x)


@dataclass(frozen=True)
class Layer:
    """The weights of one layer and its part of the cache, cut out once."""

    attention_norm: nn.Module
    weight: Tensor  # (3 * d_model, d_model): queries, keys and values
    bias: Tensor | None
    out_weight: Tensor
    out_bias: Tensor | None
    feed_forward_norm: nn.Module
    feed_forward: nn.Module
    keys: Tensor  # (B * n_heads, d_head, max_seq_len)
    values: Tensor  # (B * n_heads, max_seq_len, d_head)
    keys_at: tuple[Tensor, ...]  # a view for each position, (B * n_heads, d_head)
    values_at: tuple[Tensor, ...]

    @classmethod
    def of(cls, block: TransformerBlock, cache: KVCache, number: int) -> "Layer":
        """Cut a block and its part of the cache."""
        attention = cast(MultiHeadAttention, block.attention)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        biases = tuple(each.bias for each in projections if each.bias is not None)
        keys, values = (each[number].flatten(0, 1) for each in (cache.keys, cache.values))
        return cls(
            block.attention_norm,
            torch.cat(tuple(each.weight for each in projections)),
            torch.cat(biases) if biases else None,
            attention.out_proj.weight,
            attention.out_proj.bias,
            block.feed_forward_norm,
            block.feed_forward,
            keys.mT,
            values,
            keys.unbind(1),
            values.unbind(1),
        )


def rotations(config: ModelConfig) -> Tensor:
    """The matrices R_t of all positions, (max_seq_len, d_head, d_head)."""
    cos, sin = rotary_angles(torch.arange(config.max_seq_len), config.d_head)
    rows = torch.cat((torch.diag_embed(cos), torch.diag_embed(sin)), -1)
    below = torch.cat((torch.diag_embed(-sin), torch.diag_embed(cos)), -1)
    return torch.cat((rows, below), -2)


def main() -> None:
    """Show that both ways give the same logits."""
    from parts import Parts

    config = ModelConfig(vocab_size=10, d_model=32, n_layers=2, position="rope", qk_norm=True)
    model = TinyTransformerLM(config, Parts.fused(), seed=1).eval()
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        caches = [KVCache(config, batch_size=3) for _ in range(2)]
        decoder, largest = Decoder(model, caches[0]), 0.0
        for token in (3, 1, 4, 1, 5):
            tokens = torch.full((3,), token)
            expected = model(tokens[:, None], caches[1])[:, -1]
            largest = max(largest, (decoder.logits(tokens) - expected).abs().max().item())
    print(f"five tokens, three rows: the logits differ by {largest:.1e} at most")


if __name__ == "__main__":
    run_program(main)
