"""Decode and prefill for rows whose sequences have different lengths, in few operations.

fast_decoder.py is quick while all rows have the same length: one position, one rotation matrix, one
slice of the cache. A server's requests arrive at any time, so each row has a position of its own:

    rotation   one matrix R_t per row, gathered from a table      (W, d_head, d_head)
    cache      the new key and value go to a place per row        index_copy_
    mask       a row's query sees its own t + 1 positions         0, or -inf beyond them

All of it is gathered once per step and shared by the layers, so a step of eight rows needs about as
many operations as a step of one.

A request's text must not depend on who else is being served. So a row's logits are the same to the
last bit, whatever the other rows are. What attention adds beyond a row's length is exactly zero;
but for few rows or positions a matrix product uses another kernel, which rounds differently.
Therefore SlotBatch computes a multiple of GROUP rows, positions are read in whole blocks, and every
prompt is computed by itself, padded to a whole number of pieces.

Dimensions: W rows, the first of the cache, one token each; T_k positions are read from the cache.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fast_decoder import QK_EPS, DecoderLayer
from inference_ops import rms_norm_op
from parts import Parts
from prepared_weights import prepared_weights
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import run_program
from utils.kv_cache import KVCache

GROUP = 4  # rows are computed in groups of this size
BLOCK = 32  # positions are read in blocks of this size
PIECE = 16  # and a prompt is padded to a multiple of this


def rounded_up(n: int, multiple: int) -> int:
    """The smallest multiple that is at least n."""
    return -(-n // multiple) * multiple


@dataclass(frozen=True)
class Step:
    """What one step gathers, for all layers to use."""

    T_k: int  # positions to read: those of the longest row, rounded up
    places: Tensor  # (W * n_heads,): the lines of the cache where the new keys and values go
    bias: Tensor  # (W * n_heads, 1, T_k): 0 where the row's query may attend, -inf elsewhere
    rotations: Tensor | None  # (W, d_head, d_head)


class SlotDecoder:
    """One model that fast_path.py supports, and one cache; each row has its own position."""

    @torch.no_grad()
    def __init__(self, model: TinyTransformerLM, cache: KVCache) -> None:
        self.model = model
        self.config = model.config
        self.cache = cache
        cache.reserve(cache.max_seq_len)  # positions of its own for each row: no common capacity
        weights = prepared_weights(model)
        self.layers = [DecoderLayer.over(block, cache, i) for i, block in enumerate(weights.blocks)]
        # The same memory again, one line per row, head and position: (B * n_heads * T, d_head).
        self.key_lines = [layer.keys.mT.flatten(0, 1) for layer in self.layers]
        self.value_lines = [layer.values.flatten(0, 1) for layer in self.layers]
        self.unembed = weights.unembed
        d_head, T, like = self.config.d_head, cache.max_seq_len, cache.keys
        self.qk_normalize = rms_norm_op(d_head, QK_EPS, like)
        # rms_norm_op leaves out the factor sqrt(d_head). Prefill writes keys with it, so this does.
        self.norm_scale = math.sqrt(d_head) if self.config.qk_norm else 1.0
        self.score_scale = 1 / math.sqrt(d_head)
        unseen = torch.ones(T, T, dtype=torch.bool, device=like.device).triu(1)
        self.biases = like.new_zeros(T, T).masked_fill(unseen, -math.inf)  # row t: a query at t
        self.rotations = None
        if self.config.position == "rope":
            matrices = self.norm_scale * rotation_matrices(model.cos, model.sin)
            self.rotations = matrices.to(like)  # (T, d_head, d_head)
        n_lines = cache.batch_size * self.config.n_heads * T
        self.first_places = torch.arange(0, n_lines, T, device=like.device)  # position 0 of each

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """tokens (W,), the newest of each row -> logits (W, vocab_size); added to the cache."""
        W = len(tokens)
        positions = torch.tensor(self.cache.lengths[:W], device=tokens.device)  # (W,)
        step = self._gather(positions)
        x = self.model.embed(tokens, positions)  # (W, d_model)
        for i, layer in enumerate(self.layers):
            q = self._write_and_query(i, x, step.places, step.rotations)  # (W, n_heads, d_head)
            # Attend: scores = scale * q k^T + bias, for each pair of a row and a head.
            n_pairs = W * self.config.n_heads
            keys = layer.keys[:n_pairs, :, : step.T_k]  # (n_pairs, d_head, T_k)
            values = layer.values[:n_pairs, : step.T_k]  # (n_pairs, T_k, d_head)
            q = q.reshape(n_pairs, 1, -1)
            scores = torch.baddbmm(step.bias, q, keys, alpha=self.score_scale)
            attended = torch.bmm(torch.softmax(scores, dim=-1), values)  # (n_pairs, 1, d_head)
            x = layer.out_proj(x, attended.view_as(x))
            x = layer.mlp_down(x, layer.mlp_up(x))
        self.cache.lengths[:W] = [length + 1 for length in self.cache.lengths[:W]]
        return self.unembed(x)  # (W, vocab_size)

    def prefill(self, windows: Mapping[int, Sequence[int]]) -> None:
        """Fill rows of the cache with the keys and values of these tokens, from position 0 on."""
        for row, window in windows.items():
            if window:
                self._prefill_row(row, window)
            self.cache.lengths[row] = len(window)

    @torch.no_grad()
    def _prefill_row(self, row: int, window: Sequence[int]) -> None:
        """One row: all T positions at once, each attending to those before it."""
        T = min(rounded_up(len(window), PIECE), self.cache.max_seq_len)
        tokens = torch.tensor([*window, *[0] * (T - len(window))], device=self.biases.device)
        positions = torch.arange(T, device=tokens.device)
        heads = slice(row * self.config.n_heads, (row + 1) * self.config.n_heads)
        places = (self.first_places[heads] + positions[:, None]).flatten()  # (T * n_heads,)
        rotations = None if self.rotations is None else self.rotations[:T]
        x = self.model.embed(tokens, positions)  # (T, d_model)
        for i, layer in enumerate(self.layers):
            q = self._write_and_query(i, x, places, rotations)  # (T, n_heads, d_head)
            if i == len(self.layers) - 1:
                break  # the keys and values are all there, and no logits are needed
            keys, values = layer.keys[heads, :, :T], layer.values[heads, :T]
            bias = self.biases[:T, :T]  # causal
            scores = torch.baddbmm(bias, q.transpose(0, 1), keys, alpha=self.score_scale)
            attended = torch.bmm(torch.softmax(scores, dim=-1), values)  # (n_heads, T, d_head)
            x = layer.out_proj(x, attended.transpose(0, 1).reshape(x.shape))
            x = layer.mlp_down(x, layer.mlp_up(x))

    def _gather(self, positions: Tensor) -> Step:
        """What the layers need to know of the rows' positions (W,)."""
        longest = max(self.cache.lengths[: len(positions)]) + 1
        if longest > self.cache.max_seq_len:
            self.cache.positions(1)  # raises ValueError: the cache is full
        T_k = min(rounded_up(longest, BLOCK), self.cache.max_seq_len)
        per_head = positions.repeat_interleave(self.config.n_heads)  # (W * n_heads,)
        return Step(
            T_k=T_k,
            places=self.first_places[: len(per_head)] + per_head,
            bias=self.biases[per_head, None, :T_k],
            rotations=None if self.rotations is None else self.rotations[positions],
        )

    def _write_and_query(
        self, i: int, x: Tensor, places: Tensor, rotations: Tensor | None
    ) -> Tensor:
        """Project x (N, d_model); write N keys and values; return queries (N, n_heads, d_head)."""
        d_model, d_head, n_heads = self.config.d_model, self.config.d_head, self.config.n_heads
        # Normalize and rotate queries and keys together.
        queries_keys, values = self.layers[i].qkv_proj(x).split((2 * d_model, d_model), 1)
        queries_keys = queries_keys.reshape(-1, d_head)  # (N * 2 * n_heads, d_head)
        if self.config.qk_norm:
            queries_keys = self.qk_normalize(queries_keys)
        queries_keys = queries_keys.view(-1, 2 * n_heads, d_head)
        if rotations is not None:
            queries_keys = torch.bmm(queries_keys, rotations)  # each times R of its position
        elif self.config.qk_norm:
            queries_keys = queries_keys * self.norm_scale
        q, k = queries_keys.split(n_heads, 1)  # (N, n_heads, d_head) each
        self.key_lines[i].index_copy_(0, places, k.reshape(-1, d_head))
        self.value_lines[i].index_copy_(0, places, values.reshape(-1, d_head))
        return q


def rotation_matrices(cos: Tensor, sin: Tensor) -> Tensor:
    """R_t of every position: (T, d_head, d_head), from cosines and sines (T, d_head / 2).

    With c = diag(cos) and s = diag(sin),  R = [[c, s], [-s, c]], and rotated = x R.
    """
    c, s = torch.diag_embed(cos), torch.diag_embed(sin)  # (T, d_head / 2, d_head / 2)
    return torch.cat((torch.cat((c, s), dim=2), torch.cat((-s, c), dim=2)), dim=1)


def main() -> None:
    """Decode two rows of different lengths, together and alone, and compare their logits."""
    config = ModelConfig(vocab_size=32, d_model=64, n_layers=2, n_heads=2, position="rope")
    model = TinyTransformerLM(config, Parts.fused(), seed=1).eval()
    batch, alone = KVCache(config, 2 * GROUP), KVCache(config, GROUP)
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        together, by_itself = SlotDecoder(model, batch), SlotDecoder(model, alone)
        together.prefill({0: [3]})  # the first row is one token ahead
        both = together.decode(torch.tensor([1, 9, 0, 0, 0, 0, 0, 0]))[:2]
        second = by_itself.decode(torch.tensor([9, 0, 0, 0]))[0]
        expected = torch.stack([model(torch.tensor([row]))[0, -1] for row in ([3, 1], [9])])
    print(f"against the model: the logits differ by {(both - expected).abs().max():.0e} at most")
    print(f"the second row, in company and alone: the same bits: {torch.equal(both[1], second)}")


if __name__ == "__main__":
    run_program(main)
