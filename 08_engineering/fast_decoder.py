"""The next token of each row of a cache, computed from the weights in few operations.

A forward pass over one token does little arithmetic, so most of its time is overhead between
operations: modules, closures, checks, and new slices of the cache. `FastDecoder` computes the same
logits as `model(tokens, cache)` in about twenty operations per layer, on views of the cache that
are made once. Queries and keys are rotated by a product with one small matrix per position:

    rotated = x R_t          R_t (d_head, d_head) holds the cosines and sines of position t

It is used only for models that it is known to compute correctly (fast_path.py). Its matrices are
copies (prepared_weights.py), so they take memory a second time, and later changes of the weights
have no effect on a decoder that exists already. Large matrices are rounded to float16
(`inference_ops.matmul_op`), which changes the logits slightly.

Dimensions: B rows, one token each; t tokens are already in the cache.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from decoding_loop import DecodeStep, forward_step
from fast_path import is_supported
from inference_ops import rms_norm_op
from parts import Parts
from prepared_weights import PreparedBlock, prepared_weights
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import run_program
from utils.kv_cache import KVCache

QK_EPS = 1e-5  # the eps of rms_normalize


def fast_decode_step(model: nn.Module, cache: KVCache) -> DecodeStep:
    """A `FastDecoder` if it computes the same as the model; otherwise the model's forward pass."""
    if is_supported(model, cache):
        return FastDecoder(cast(TinyTransformerLM, model), cache)
    return forward_step(model, cache)


class FastDecoder:
    """The decode step of one model and one cache; rows of unequal length use the forward pass."""

    @torch.no_grad()
    def __init__(self, model: TinyTransformerLM, cache: KVCache) -> None:
        self.model = model
        self.config = model.config
        self.cache = cache
        self.forward_step = forward_step(model, cache)
        weights = prepared_weights(model)
        self.layers = [DecoderLayer.over(block, cache, i) for i, block in enumerate(weights.blocks)]
        self.unembed = weights.unembed
        self.positions = torch.arange(cache.max_seq_len, device=cache.keys.device).split(1)
        d_head = self.config.d_head
        self.qk_normalize = rms_norm_op(d_head, QK_EPS, cache.keys)
        # rms_norm_op leaves out the factor sqrt(d_head), and attention divides its scores by it.
        self.key_scale = math.sqrt(d_head) if self.config.qk_norm else 1.0
        self.query_scale = self.key_scale / math.sqrt(d_head)
        self.rotation = None
        if self.config.position == "rope":
            scales = (self.key_scale, self.query_scale)
            self.rotation = RotationMatrices(model.cos, model.sin, scales, cache.keys)

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens (B,), the newest of each row -> logits (B, vocab_size); added to the cache."""
        if not self.cache.equal_lengths:
            return self.forward_step(tokens)
        t = self.cache.lengths[0]
        if t == self.cache.max_seq_len:
            self.cache.positions(1)  # raises ValueError: the cache is full
        if self.rotation is not None:
            self.rotation.move_to(t)
        x = self.model.embed(tokens, self.positions[t])  # (B, d_model)
        for layer in self.layers:
            x = layer.out_proj(x, self._attention(layer, x, t))
            x = layer.mlp_down(x, layer.mlp_up(x))
        self.cache.advance(1)
        return self.unembed(x)  # (B, vocab_size)

    def _attention(self, layer: "DecoderLayer", x: Tensor, t: int) -> Tensor:
        """The heads' outputs side by side, before out_proj: x (B, d_model) -> (B, d_model)."""
        d_model, d_head = self.config.d_model, self.config.d_head
        # Project, and normalize queries and keys together.
        queries_keys, values = layer.qkv_proj(x).split((2 * d_model, d_model), 1)
        queries_keys = queries_keys.reshape(-1, d_head)  # (B * 2 * n_heads, d_head)
        if self.config.qk_norm:
            queries_keys = self.qk_normalize(queries_keys)
        q, k = queries_keys.view(-1, 2, self.config.n_heads, d_head).unbind(1)
        q, k = q.reshape(-1, d_head), k.reshape(-1, d_head)  # (B * n_heads, d_head)
        # Rotate and scale; the key and the value go into the cache.
        if self.rotation is None:
            q = q * self.query_scale
            layer.keys_at[t].copy_(k * self.key_scale)
        else:
            q = torch.mm(q, self.rotation.queries)
            torch.mm(k, self.rotation.keys, out=layer.keys_at[t])
        layer.values_at[t].copy_(values.reshape(-1, d_head))
        # Attend to all t + 1 positions; the scores are already divided by sqrt(d_head).
        keys = layer.keys.narrow(2, 0, t + 1)
        values = layer.values.narrow(1, 0, t + 1)
        scores = torch.bmm(q[:, None], keys)  # (B * n_heads, 1, t + 1)
        return torch.bmm(torch.softmax(scores, dim=-1), values).view_as(x)


@dataclass(frozen=True)
class DecoderLayer(PreparedBlock):
    """The functions of one block, and views of its part of the cache."""

    keys: Tensor  # (B * n_heads, d_head, max_seq_len)
    values: Tensor  # (B * n_heads, max_seq_len, d_head)
    keys_at: tuple[Tensor, ...]  # one view per position, (B * n_heads, d_head)
    values_at: tuple[Tensor, ...]

    @classmethod
    def over(cls, block: PreparedBlock, cache: KVCache, layer: int) -> "DecoderLayer":
        """Add the views of one layer of the cache to the functions of its block."""
        keys = cache.keys[layer].flatten(0, 1)  # (B * n_heads, max_seq_len, d_head)
        values = cache.values[layer].flatten(0, 1)
        return cls(
            **vars(block),
            keys=keys.mT,
            values=values,
            keys_at=keys.unbind(1),
            values_at=values.unbind(1),
        )


class RotationMatrices:
    """R_t of the current position, times a scale for keys and one for queries.

    With c = diag(cos) and s = diag(sin),  R = [[c, s], [-s, c]]. Only the 2 d_head entries that are
    not zero are stored for each position; `move_to` writes those of one position into the matrices.
    """

    def __init__(self, cos: Tensor, sin: Tensor, scales: Sequence[float], like: Tensor) -> None:
        d_head = 2 * cos.size(1)
        first = torch.arange(d_head // 2, device=like.device)  # i, paired with i + d_head / 2
        second = first + d_head // 2
        rows = torch.cat((first, first, second, second))
        columns = torch.cat((first, second, first, second))
        places = rows * d_head + columns  # in a flattened matrix
        entries = torch.cat((cos, sin, -sin, cos), dim=1)  # (max_seq_len, 2 * d_head)
        scaled = torch.cat([entries * scale for scale in scales], dim=1)
        self.entries = scaled.to(like).unbind()
        self.places = torch.cat([places + i * d_head**2 for i in range(len(scales))])
        self.flat = like.new_zeros(len(scales) * d_head**2)
        self.keys, self.queries = self.flat.view(-1, d_head, d_head).unbind()

    def move_to(self, t: int) -> None:
        """Make `keys` and `queries` the matrices of position t."""
        self.flat.index_copy_(0, self.places, self.entries[t])


def main() -> None:
    """Show that the fast decoder gives the same logits as the model."""
    config = ModelConfig(vocab_size=10, d_model=32, n_layers=2, position="rope", qk_norm=True)
    model = TinyTransformerLM(config, Parts.fused(), seed=1).eval()
    largest = 0.0
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        cache, fast_cache = (KVCache(config, batch_size=3) for _ in range(2))
        decoder = FastDecoder(model, fast_cache)
        for token in (3, 1, 4, 1, 5):
            tokens = torch.full((3,), token)
            expected = model(tokens[:, None], cache)[:, -1]
            largest = max(largest, (decoder(tokens) - expected).abs().max().item())
    print(f"five tokens, three rows: the logits differ by {largest:.1e} at most")


if __name__ == "__main__":
    run_program(main)
