"""One more token for each row of a cache, straight from the weights: what makes speaking fast.

A forward pass over one token does little arithmetic, so most of its time goes into getting from one
operation to the next: modules, closures, checks, and slices made anew. `FastDecoder` computes the
same logits as `model(tokens, cache)` with some twenty operations per layer, on views of the cache
that are cut once. Turning queries and keys by their angle is a product with one small matrix:

    turned = x R_t          R_t (d_head, d_head) holds the cosines and sines of position t

It knows the layouts of the presets (`fast_decode_step`); every other model uses its own forward.
Matrices are copied, so weights that change later are not seen, and memory holds them twice; large
ones are rounded to float16 on the way (`inference_ops.product_with`), and logits with them.
Dimensions: B rows, one token each; t tokens are in the cache.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feedforward import gelu
from fused import FeedForward, MultiHeadAttention, matmul_attention, sdpa
from generator import DecodeStep, forward_step
from inference_ops import Addition, Function, addition_of, linear_of, product_of, rms_norm_of
from parts import Parts
from positional_embeddings import rotary_angles
from tiny_transformer_lm import TinyTransformerLM
from transformer_block import TransformerBlock
from utils.config import ModelConfig
from utils.errors import run_program
from utils.kv_cache import KVCache

QK_EPS = 1e-5  # of rms_normalize


def fast_decode_step(model: nn.Module, cache: KVCache) -> DecodeStep:
    """A `FastDecoder` where it computes the same as the model; else the model's forward pass.

    Of fused parts only, so that a learner's own parts are never passed over.
    """
    if type(model) is not TinyTransformerLM or model.training:
        return forward_step(model, cache)
    config, engines = model.config, [Parts.fused(kernel) for kernel in (sdpa, matmul_attention)]
    known = (
        model.parts in engines
        and config.norm_placement == "pre"
        and config.kv_heads == config.n_heads
        and config.activation in ("gelu", "relu2")
        and config.position != "alibi"
    )
    return FastDecoder(model, cache) if known else forward_step(model, cache)


class FastDecoder:
    """The next step of a model, for all rows of a cache.

    Rows of unequal length are left to the model's forward pass.
    """

    @torch.no_grad()
    def __init__(self, model: TinyTransformerLM, cache: KVCache) -> None:
        self.model, self.config, self.cache = model, model.config, cache
        self.forward_step = forward_step(model, cache)
        blocks = [cast(TransformerBlock, block) for block in model.blocks]
        self.layers = [Layer.of(block, cache, i) for i, block in enumerate(blocks)]
        self.positions = torch.arange(cache.max_seq_len, device=cache.keys.device).split(1)
        self.speak = product_of(model.output_weight, model.final_norm)
        d_head = self.config.d_head
        self.qk_normalize = rms_norm_of(d_head, QK_EPS, cache.keys)
        self.scale = math.sqrt(d_head) if self.config.qk_norm else 1.0
        self.keys_turn = self.queries_turn = None
        if self.config.position == "rope":
            turns = rotations(self.config) * self.scale
            self.keys_turn = turns.to(cache.keys).unbind()  # a matrix for each position
            self.queries_turn = (turns / math.sqrt(d_head)).to(cache.keys).unbind()

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens (B,), the newest of each row -> logits (B, vocab_size); the cache grows by it."""
        if not self.cache.is_even:
            return self.forward_step(tokens)
        if self.cache.lengths[0] == self.cache.max_seq_len:
            self.cache.positions(1)  # which says that it is full
        x = self.model.embed(tokens, self.positions[self.cache.lengths[0]])  # (B, d_model)
        for layer in self.layers:
            x = layer.add_out(x, self._attention(layer, x))
            x = layer.add_down(x, layer.think(x))
        self.cache.advance(1)
        return self.speak(x)

    def _attention(self, layer: "Layer", x: Tensor) -> Tensor:
        """What the heads tell one another: x (B, d_model) -> (B, d_model), before out_proj."""
        d_model, d_head, t = self.config.d_model, self.config.d_head, self.cache.lengths[0]
        asked, values = layer.project(x).split((2 * d_model, d_model), 1)
        asked = asked.reshape(-1, d_head)  # queries and keys
        if self.config.qk_norm:
            asked = self.qk_normalize(asked)
        q, k = asked.view(-1, 2, self.config.n_heads, d_head).unbind(1)
        q, k = q.reshape(-1, d_head), k.reshape(-1, d_head)  # (B * n_heads, d_head)
        if self.queries_turn is None or self.keys_turn is None:
            q = q * (self.scale / math.sqrt(d_head))
            layer.keys_at[t].copy_(k * self.scale)
        else:
            q = torch.mm(q, self.queries_turn[t])
            torch.mm(k, self.keys_turn[t], out=layer.keys_at[t])
        layer.values_at[t].copy_(values.reshape(-1, d_head))
        scores = torch.bmm(q[:, None], layer.keys.narrow(2, 0, t + 1))  # (B * n_heads, 1, t + 1)
        values = layer.values.narrow(1, 0, t + 1)
        return torch.bmm(torch.softmax(scores, dim=-1), values).view_as(x)


@dataclass(frozen=True)
class Layer:
    """The functions of one layer and its part of the cache, cut out once."""

    project: Function  # (B, d_model) -> (B, 3 * d_model): queries, keys and values, normalised
    add_out: Addition  # x and what the heads say -> x
    think: Function  # (B, d_model) -> (B, d_ff): normalised, widened, bent
    add_down: Addition
    keys: Tensor  # (B * n_heads, d_head, max_seq_len)
    values: Tensor  # (B * n_heads, max_seq_len, d_head)
    keys_at: tuple[Tensor, ...]  # a view for each position, (B * n_heads, d_head)
    values_at: tuple[Tensor, ...]

    @classmethod
    def of(cls, block: TransformerBlock, cache: KVCache, number: int) -> "Layer":
        """Cut a block and its part of the cache."""
        heads, wide = (
            cast(MultiHeadAttention, block.attention),
            cast(FeedForward, block.feed_forward),
        )
        keys, values = (each[number].flatten(0, 1) for each in (cache.keys, cache.values))
        widen = linear_of(wide.up_proj, norm=block.feed_forward_norm)
        bend = F.gelu if wide.activation is gelu else lambda x: x.relu_().square_()
        return cls(
            linear_of(heads.q_proj, heads.k_proj, heads.v_proj, norm=block.attention_norm),
            addition_of(heads.out_proj),
            lambda x: bend(widen(x)),
            addition_of(wide.down_proj),
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
    config = ModelConfig(vocab_size=10, d_model=32, n_layers=2, position="rope", qk_norm=True)
    model = TinyTransformerLM(config, Parts.fused(), seed=1).eval()
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        caches = [KVCache(config, batch_size=3) for _ in range(2)]
        decoder, largest = FastDecoder(model, caches[0]), 0.0
        for token in (3, 1, 4, 1, 5):
            tokens = torch.full((3,), token)
            expected = model(tokens[:, None], caches[1])[:, -1]
            largest = max(largest, (decoder(tokens) - expected).abs().max().item())
    print(f"five tokens, three rows: the logits differ by {largest:.1e} at most")


if __name__ == "__main__":
    run_program(main)
