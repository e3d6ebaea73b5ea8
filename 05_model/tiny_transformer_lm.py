"""TinyTransformerLM: from tokens to a score for every possible next token.

    x      = token_embedding(tokens) (+ position_embedding)        (B, T, d_model)
    x      = block(x) for each block                               (B, T, d_model)
    logits = norm(x) @ unembedding^T                               (B, T, vocab_size)

The configuration chooses between the layouts of GPT-2 (Radford et al. 2019) and Llama (Touvron et
al. 2023). The logits at position t depend on tokens 0 to t only, so one forward pass trains on T
predictions at once.

Dimensions: B batch, T positions, V = vocab_size, d_model features, d_head in each of n_heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction
from initialization import initialize_
from layer_norm import rms_normalize
from parts import Parts
from utils.config import ModelConfig
from utils.errors import UsageError, run_program
from utils.kv_cache import KVCache
from utils.shape_checker import check_shape


class TinyTransformerLM(nn.Module):
    """A decoder-only transformer, assembled from parts."""

    cos: Tensor
    sin: Tensor
    slopes: Tensor
    causal: Tensor

    def __init__(self, config: ModelConfig, parts: Parts | None = None, seed: int = 0) -> None:
        """Build the model and draw its weights from `seed`; the parts do not change the values."""
        super().__init__()
        self.config = config
        self.parts = parts or Parts.reference()
        self.token_embedding = self.parts.token_embedding(config.vocab_size, config.d_model)
        self.position_embedding = self.parts.build_positions(config)
        self.blocks = nn.ModuleList(self.parts.build_block(config) for _ in range(config.n_layers))
        pre_norm = config.norm_placement == "pre"  # post-norm blocks end in a norm of their own
        self.final_norm = self.parts.build_norm(config) if pre_norm else nn.Identity()
        self.unembedding = (
            None if config.tie_weights else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self._register_tables(config)
        initialize_(self, seed)

    def _register_tables(self, config: ModelConfig) -> None:
        """Register the constants that move with the model to its device and are not saved."""
        positions = torch.arange(config.max_seq_len)
        cos, sin = self.parts.rotary_angles(positions, config.d_head // 2 * 2)
        tables = {
            "cos": cos,
            "sin": sin,
            "slopes": self.parts.alibi_slopes(config.n_heads),
            "causal": self.parts.causal_mask(config.max_seq_len),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """tokens (B, T) -> logits (B, T, vocab_size).

        With a cache, the tokens continue the sequences in the cache and are added to it.
        """
        _, T = check_shape(tokens, ("B", "T"))
        if self.config.max_seq_len < T:
            raise UsageError(f"{T} tokens do not fit in the context of {self.config.max_seq_len}")

        # Where each token is, which positions it may attend to, and how far to rotate it.
        from_zero = torch.arange(T, device=tokens.device)[None]  # (1, T)
        positions = from_zero if cache is None else cache.positions(T)  # (1 or B, T)
        mask = self._mask(positions, cache)
        rotation = self._rotation(positions)

        # The residual stream: embed, then let each block add to it.
        x = self.embed(tokens, positions)  # (B, T, d_model)
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, self._attend(layer, rotation, cache))
        if cache is not None:
            cache.advance(T)

        # Unembed: the dot product of each position's features with each token's row.
        return F.linear(self.final_norm(x), self.output_weight)  # (B, T, vocab_size)

    @property
    def output_weight(self) -> Tensor:
        """(vocab_size, d_model): the token embedding itself if weights are tied."""
        if self.unembedding is None:
            return self.token_embedding.weight  # pyright: ignore[reportReturnType]
        return self.unembedding.weight

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed tokens (...), and add their positions (...) if the scheme does: (..., d_model)."""
        x = self.token_embedding(tokens)
        if self.config.position == "sinusoidal":
            # Vaswani et al. 2017, section 3.4: without this factor, sines of size 1 would drown out
            # the small entries of a freshly initialized embedding.
            x = x * math.sqrt(self.config.d_model)
        return x if self.position_embedding is None else x + self.position_embedding(positions)

    def _mask(self, positions: Tensor, cache: KVCache | None) -> Tensor | None:
        """Which keys each query may attend to: None for all, boolean, or floating (ALiBi's bias).

        positions (1 or B, T); the mask broadcasts to (B, n_heads, T, T_k).
        """
        T = positions.size(1)
        T_k = T if cache is None else max(cache.lengths) + T
        if cache is not None and T == 1 and cache.equal_lengths and self.config.position != "alibi":
            return None  # the newest token of every row may attend to everything in the cache
        mask = self.causal[:T, :T] if cache is None else self.causal[positions, :T_k][:, None]
        if self.config.position != "alibi":
            return mask
        key_positions = torch.arange(T_k, device=positions.device)
        bias = self.parts.alibi_bias(self.slopes, positions, key_positions)
        return bias.masked_fill(~mask, -math.inf)  # (1 or B, n_heads, T, T_k)

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines for these positions, each (1 or B, 1, T, d_head / 2)."""
        if self.config.position != "rope":
            return None
        return self.cos[positions][:, None], self.sin[positions][:, None]

    def _attend(
        self, layer: int, rotation: tuple[Tensor, Tensor] | None, cache: KVCache | None
    ) -> AttentionFunction:
        """The attention of one layer, and what happens between the projections and the softmax.

        The attention module calls it with its heads and needs to know nothing of positions, caches
        or grouped queries.
        """
        n_repeats = self.config.n_heads // self.config.kv_heads

        def attend(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
        ) -> tuple[Tensor, Tensor | None]:
            q = self._normalize_and_rotate(q, rotation)  # (B, n_heads, T, d_head)
            k = self._normalize_and_rotate(k, rotation)  # (B, n_kv_heads, T, d_head)
            if cache is not None:
                k, v = cache.write(layer, k, v)  # (B, n_kv_heads, T_k, d_head)
            if n_repeats > 1:
                k = self.parts.repeat_kv(k, n_repeats)  # (B, n_heads, T_k, d_head)
                v = self.parts.repeat_kv(v, n_repeats)
            return self.parts.attention(q, k, v, mask)

        return attend

    def _normalize_and_rotate(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """Queries or keys (B, n_heads, T, d_head), after qk-norm and rotation, if configured."""
        if self.config.qk_norm and rotation is not None and self.parts.normalize_and_rotate:
            return self.parts.normalize_and_rotate(x, *rotation)
        if self.config.qk_norm:
            x = rms_normalize(x)
        return x if rotation is None else self.parts.apply_rotary(x, *rotation)


def main() -> None:
    """Show the shapes, and that no position depends on a later token."""
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    model = TinyTransformerLM(ModelConfig(vocab_size=10, d_model=32, n_layers=2))
    logits = model(tokens)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    print(f"tokens {tuple(tokens.shape)} -> logits {tuple(logits.shape)}")
    changed = model(torch.tensor([[3, 1, 4, 1, 9]]))
    same = [torch.equal(logits[0, t], changed[0, t]) for t in range(5)]
    print("After changing the last token, are the logits of each position the same?")
    print(same)


if __name__ == "__main__":
    run_program(main)
