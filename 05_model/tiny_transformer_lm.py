"""TinyTransformerLM: tokens in, a score for every possible next token out.

    x      = token_embedding(tokens) (+ position_embedding)        (B, T, d_model)
    x      = block(x) for each block                               (B, T, d_model)
    logits = norm(x) @ unembedding^T                               (B, T, vocab_size)

The layout is GPT-2's (Radford et al. 2019) or Llama's (Touvron et al. 2023), as configured. The
logits at position t depend on tokens 0 to t only, so one pass trains on T predictions at once.

Dimensions: B batch, T positions, V = vocab_size, d_model features, d_head in each of n_heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask
from grouped_query_attention import repeat_kv
from layer_norm import rms_normalize
from parts import Parts
from positional_embeddings import alibi_slopes, rotary_angles
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
        """Build the model and draw its weights from `seed`: the same numbers whatever the parts."""
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
        """Constants that follow the model from device to device and are not saved."""
        cos, sin = rotary_angles(torch.arange(config.max_seq_len), config.d_head // 2 * 2)
        tables = {
            "cos": cos,
            "sin": sin,
            "slopes": alibi_slopes(config.n_heads),
            "causal": causal_mask(config.max_seq_len),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """tokens (B, T) -> logits (B, T, vocab_size).

        With a cache, the tokens continue what the cache holds, and it grows by them.
        """
        _, T = check_shape(tokens, ("B", "T"))
        if self.config.max_seq_len < T:
            raise UsageError(f"{T} tokens do not fit in the context of {self.config.max_seq_len}")
        fresh = torch.arange(T, device=tokens.device)[None]
        positions = fresh if cache is None else cache.positions(T)
        mask = self._mask(positions, cache)
        rotation = self._rotation(positions)
        x = self.embed(tokens, positions)  # (B, T, d_model)
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, self._attend(layer, rotation, cache))
        if cache is not None:
            cache.advance(T)
        return F.linear(self.final_norm(x), self.output_weight)  # (B, T, vocab_size)

    @property
    def output_weight(self) -> Tensor:
        """(vocab_size, d_model): the token embedding itself where weights are tied."""
        if self.unembedding is None:
            return self.token_embedding.weight  # pyright: ignore[reportReturnType]
        return self.unembedding.weight

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens (...) and, if they are added, positions (...): (..., d_model)."""
        x = self.token_embedding(tokens)
        if self.config.position == "sinusoidal":
            # The factor of Vaswani et al. 2017, section 3.4: beside waves of size 1, the small
            # numbers of a fresh embedding would hardly be heard.
            x = x * math.sqrt(self.config.d_model)
        return x if self.position_embedding is None else x + self.position_embedding(positions)

    def _mask(self, positions: Tensor, cache: KVCache | None) -> Tensor | None:
        """Who may look at whom: None for all, boolean, or floating where ALiBi adds to the scores.

        positions (1 or B, T); the mask broadcasts to (B, n_heads, T, T_k).
        """
        T = positions.size(1)
        T_k = T if cache is None else max(cache.lengths) + T
        if cache is not None and T == 1 and cache.is_even and self.config.position != "alibi":
            return None  # the newest position of every row sees all that is stored
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
        """The attention of one layer: what happens between projection and softmax happens here."""
        n_repeats = self.config.n_heads // self.config.kv_heads

        def attend(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
        ) -> tuple[Tensor, Tensor | None]:
            q, k = self._place(q, rotation), self._place(k, rotation)
            if cache is not None:
                k, v = cache.write(layer, k, v)
            return self.parts.attention(q, repeat_kv(k, n_repeats), repeat_kv(v, n_repeats), mask)

        return attend

    def _place(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """Queries or keys (B, n_heads, T, d_head), normalised and turned, as configured."""
        if self.config.qk_norm and rotation is not None and self.parts.normalize_and_rotate:
            return self.parts.normalize_and_rotate(x, *rotation)
        if self.config.qk_norm:
            x = rms_normalize(x)
        return x if rotation is None else self.parts.apply_rotary(x, *rotation)


SILENT = ("out_proj.weight", "down_proj.weight", "unembedding.weight", "bias")


def initialize_(model: TinyTransformerLM, seed: int) -> None:
    """Set every parameter, from one generator, in the order of their names: one place decides.

    Matrices and tables are drawn with standard deviation 0.02, norms start as the identity, biases
    at zero. What writes to the residual stream starts at zero, so a pre-norm block begins as the
    identity; so does an untied output projection, and the first loss is exactly log(vocab_size).
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        with torch.no_grad():
            if name.endswith(SILENT):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0)
            else:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))


def main() -> None:
    """Show the shapes, and that no position hears of a later token."""
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
