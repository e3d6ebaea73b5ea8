"""The next token of each row of a cache, computed from the weights in few operations.

A forward pass over one token does little arithmetic, so most of its time is overhead between
operations: modules, closures, checks, and new slices of the cache. `FastDecoder` computes the same
logits as `model(tokens, cache)` in about twenty operations per layer, on views of the cache that
are made once per capacity. Queries and keys are rotated by one small matrix per position:

    rotated = x R_t          R_t (d_head, d_head) holds the cosines and sines of position t

It is used only for models that it is known to compute correctly (fast_path.py). Its matrices are
copies (prepared_weights.py), so they take memory a second time, and later changes of the weights
have no effect on a decoder that exists already. Large matrices are rounded to float16
(`inference_ops.matmul_op`), which changes the logits slightly.

Dimensions: B rows, one token each; t tokens are already in the cache.
"""

import math
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
        self.weights = prepared_weights(model)
        self.unembed = self.weights.unembed
        self._view_cache()
        like, T, d_head = cache.keys, cache.max_seq_len, self.config.d_head
        self.positions = torch.arange(T, device=like.device).split(1)
        # Of a query at position t, from index T - 1 - t on: 0 for what it sees, then -inf.
        self.seen = like.new_zeros(2 * T).masked_fill_(
            torch.arange(2 * T, device=like.device) >= T, -math.inf
        )
        self.qk_normalize = rms_norm_op(d_head, QK_EPS, like)
        # rms_norm_op leaves out the factor sqrt(d_head), and attention divides its scores by it.
        self.qk_scale = math.sqrt(d_head) if self.config.qk_norm else 1.0
        self.score_scale = 1 / math.sqrt(d_head)
        self.rotation = None
        if self.config.position == "rope":
            self.rotation = RotationMatrix(model.cos, model.sin, self.qk_scale, like)

    def _view_cache(self) -> None:
        """The layers' views of the cache, whose tensors change when its capacity grows."""
        self.keys = self.cache.keys
        blocks = self.weights.blocks
        self.layers = [DecoderLayer.over(each, self.cache, i) for i, each in enumerate(blocks)]

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens (B,), the newest of each row -> logits (B, vocab_size); added to the cache."""
        if not self.cache.equal_lengths:
            return self.forward_step(tokens)
        t = self.cache.lengths[0]
        if t == self.cache.max_seq_len:
            self.cache.positions(1)  # raises ValueError: the cache is full
        self.cache.reserve(t + 1)
        if self.cache.keys is not self.keys:
            self._view_cache()
        if self.rotation is not None:
            self.rotation.move_to(t)
        seen = self.seen.narrow(0, self.cache.max_seq_len - 1 - t, self.cache.capacity)
        x = self.model.embed(tokens, self.positions[t])  # (B, d_model)
        for layer in self.layers:
            x = layer.out_proj(x, self._attention(layer, x, t, seen))
            x = layer.mlp_down(x, layer.mlp_up(x))
        self.cache.advance(1)
        return self.unembed(x)  # (B, vocab_size)

    def _attention(self, layer: "DecoderLayer", x: Tensor, t: int, seen: Tensor) -> Tensor:
        """The heads' outputs side by side, before out_proj: x (B, d_model) -> (B, d_model)."""
        n_heads, d_head = self.config.n_heads, self.config.d_head
        # Project, normalize and rotate queries and keys together.
        qkv = layer.qkv_proj(x).view(-1, 3 * n_heads, d_head)  # (B, 3 * n_heads, d_head)
        queries_keys, values = qkv.split((2 * n_heads, n_heads), 1)
        if self.config.qk_norm:
            queries_keys = self.qk_normalize(queries_keys)
        if self.rotation is not None:
            rotated = torch.mm(queries_keys.reshape(-1, d_head), self.rotation.matrix)
            queries_keys = rotated.view(-1, 2 * n_heads, d_head)
        elif self.config.qk_norm:
            queries_keys = queries_keys * self.qk_scale
        q, k = queries_keys.split(n_heads, 1)  # (B, n_heads, d_head) each
        # The key and the value go into the cache.
        layer.keys_by_row.select(2, t).copy_(k)
        layer.values_by_row.select(2, t).copy_(values)
        # Attend: the whole memory is read, without a gap; places after t have the score -inf.
        q = q.reshape(-1, 1, d_head)  # (B * n_heads, 1, d_head)
        scores = torch.baddbmm(seen, q, layer.keys, alpha=self.score_scale)
        return torch.bmm(torch.softmax(scores, dim=-1), layer.values).view_as(x)


@dataclass(frozen=True)
class DecoderLayer(PreparedBlock):
    """The functions of one block, and views of its part of the cache."""

    keys: Tensor  # (B * n_heads, d_head, capacity)
    values: Tensor  # (B * n_heads, capacity, d_head)
    keys_by_row: Tensor  # (B, n_heads, capacity, d_head)
    values_by_row: Tensor

    @classmethod
    def over(cls, block: PreparedBlock, cache: KVCache, layer: int) -> "DecoderLayer":
        """Add the views of one layer of the cache to the functions of its block."""
        keys, values = cache.keys[layer], cache.values[layer]
        return cls(
            **vars(block),
            keys=keys.flatten(0, 1).mT,
            values=values.flatten(0, 1),
            keys_by_row=keys,
            values_by_row=values,
        )


class RotationMatrix:
    """R_t of the current position, times a scale.

    With c = diag(cos) and s = diag(sin),  R = [[c, s], [-s, c]]. Only the 2 d_head entries that are
    not zero are stored for each position; `move_to` writes those of one position into the matrix.
    """

    def __init__(self, cos: Tensor, sin: Tensor, scale: float, like: Tensor) -> None:
        d_head = 2 * cos.size(1)
        first = torch.arange(d_head // 2, device=like.device)  # i, paired with i + d_head / 2
        second = first + d_head // 2
        rows = torch.cat((first, first, second, second))
        columns = torch.cat((first, second, first, second))
        self.places = rows * d_head + columns  # in the flattened matrix
        entries = scale * torch.cat((cos, sin, -sin, cos), dim=1)  # (max_seq_len, 2 * d_head)
        self.entries = entries.to(like).unbind()
        self.matrix = like.new_zeros(d_head, d_head)
        self.flat = self.matrix.view(-1)

    def move_to(self, t: int) -> None:
        """Make `matrix` that of position t."""
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
