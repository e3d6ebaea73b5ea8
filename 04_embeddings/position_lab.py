"""A small language model in which only the position scheme changes, to measure what each can do.

The lesson's pictures, its notebook and its tests train with it. It predicts the next character of
the course's mock plays from contexts of 64 characters, and is then tested on contexts of 512.

Dimensions: B batch, T positions, d_model features, V characters.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask, scaled_dot_product_attention
from context_extension import interpolated_angles
from feedforward import FeedForward
from layer_norm import LayerNorm
from multi_head import MultiHeadAttention
from positional_embeddings import (
    LearnedPositions,
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    apply_rotary,
)
from relative_bias import RelativeBias
from token_embeddings import TokenEmbedding, scaled_lookup, tied_logits
from transformer_block import TransformerBlock
from utils.errors import run_program
from utils.mock_corpus import generate

SCHEMES = ("none", "learned", "sinusoidal", "rope", "alibi", "t5", "t5 up to 128")
T_TRAIN, T_MAX = 64, 512  # trained on short contexts, tested on up to eight times as long
EDGES = (0, 16, 32, 64, 96, 128, 192, 256, 384, 512)  # of the bins of positions


class PositionLM(nn.Module):
    """Two pre-norm blocks with one of the SCHEMES; the embedding table is tied, and scaled."""

    def __init__(self, scheme: str, d_model: int = 64, n_heads: int = 4, n_blocks: int = 2) -> None:
        super().__init__()
        self.scheme, self.n_heads, self.d_head = scheme, n_heads, d_model // n_heads
        self.factor, self.base = 1.0, 10_000.0  # RoPE only; set them to stretch a trained model
        self.token = TokenEmbedding(len(corpus()[1]), d_model)
        self.learned = LearnedPositions(T_MAX, d_model) if scheme == "learned" else None
        self.waves = SinusoidalPositions(T_MAX, d_model) if scheme == "sinusoidal" else None
        self.bias = None
        if scheme.startswith("t5"):  # 16 buckets up to 32: every one of them is met in training
            buckets = (32, 128) if scheme.endswith("128") else (16, 32)
            self.bias = RelativeBias(n_heads, *buckets)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                MultiHeadAttention(d_model, n_heads),
                FeedForward(d_model, 4 * d_model),
                LayerNorm(d_model),
                LayerNorm(d_model),
            )
            for _ in range(n_blocks)
        )
        self.final_norm = LayerNorm(d_model)
        nn.init.normal_(self.token.weight, std=d_model**-0.5)  # times sqrt(d_model): features of 1
        if self.learned is not None:
            nn.init.normal_(self.learned.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) -> logits (B, T, V)."""
        positions = torch.arange(tokens.size(1))
        # Learned vectors and waves say where a token is, and are added to what it is ...
        x = scaled_lookup(tokens, self.token.weight)  # (B, T, d_model)
        for added in (self.learned, self.waves):
            x = x if added is None else x + added(positions)
        # ... the other schemes act in every attention: on its scores, or on its queries and keys.
        mask, attend = self.mask(positions), self.attend(positions)
        for block in self.blocks:
            x = block(x, mask, attend)
        return tied_logits(self.final_norm(x), self.token.weight)  # (B, T, V)

    def mask(self, positions: Tensor) -> Tensor:
        """The causal mask, with the bias of ALiBi or T5 where the scheme has one."""
        causal = causal_mask(len(positions))
        if self.scheme == "alibi":
            bias = alibi_bias(alibi_slopes(self.n_heads), positions[None], positions)
        elif self.bias is not None:
            bias = self.bias(positions[None], positions)
        else:
            return causal
        # A floating mask is added to the scores, so "may not attend" is -inf.
        return bias.masked_fill(~causal, -math.inf)  # (1, n_heads, T, T)

    def attend(self, positions: Tensor) -> AttentionFunction:
        """Attention, in heads that are rotated first if the scheme is RoPE."""
        if self.scheme != "rope":
            return scaled_dot_product_attention
        angles = interpolated_angles(positions, self.d_head, self.factor, self.base)

        def rotate_and_attend(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            # Not v: positions decide who attends to whom, not what is passed on.
            q, k = apply_rotary(q, *angles), apply_rotary(k, *angles)
            return scaled_dot_product_attention(q, k, v, mask)

        return rotate_and_attend


@functools.cache
def corpus(n_characters: int = 300_000) -> tuple[Tensor, list[str]]:
    """The mock plays as numbers (n_characters,), and the character of each number."""
    text = generate(n_characters)
    characters = sorted(set(text))
    number = {character: i for i, character in enumerate(characters)}
    return torch.tensor([number[character] for character in text]), characters


def batch(generator: torch.Generator, B: int, T: int, held_out: bool = False) -> Tensor:
    """B random pieces of T + 1 characters; the last fifth of the text is never trained on."""
    text, _ = corpus()
    cut = len(text) * 4 // 5
    text = text[cut:] if held_out else text[:cut]
    starts = torch.randint(len(text) - T, (B, 1), generator=generator)
    return text[starts + torch.arange(T + 1)]  # (B, 1) + (T + 1,): one row of places per piece


def losses_of(model: nn.Module, pieces: Tensor) -> Tensor:
    """The loss at each position (B, T), in nats; pieces (B, T + 1)."""
    logits = model(pieces[:, :-1])
    # `mT`, because cross_entropy wants the classes second: (B, V, T). "none": every position counts
    # by itself here, since the question is where the loss rises.
    return F.cross_entropy(logits.mT, pieces[:, 1:], reduction="none")


def train(
    model: nn.Module,
    n_steps: int = 1200,
    T: int = T_TRAIN,
    lr: float = 3e-3,
    seed: int = 0,
) -> list[float]:
    """Adam at a learning rate that falls linearly to 0; returns the loss of each step.

    A step sees 1024 characters, in longer or shorter pieces.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    losses = []
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / n_steps)
        loss = losses_of(model, batch(generator, 1024 // T, T)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def loss_by_position(
    model: nn.Module, n_texts: int = 128, edges: Sequence[int] = EDGES
) -> list[float]:
    """The mean loss on held-out text in each bin of positions between `edges`."""
    generator = torch.Generator().manual_seed(99)  # the same texts for every model
    pieces = batch(generator, n_texts, edges[-1], held_out=True)
    # 16 texts at a time: the scores alone take T_MAX^2 values per head and text.
    losses = torch.cat([losses_of(model, some) for some in pieces.split(16)]).mean(0)  # (T,)
    return [losses[first:last].mean().item() for first, last in itertools.pairwise(edges)]


def main() -> None:
    """Train three schemes for a few seconds, and test each on a longer context."""
    torch.set_num_threads(1)
    edges = (32, 64, 128, 256)
    bins = [f"{first:>3} to {last:<3}" for first, last in itertools.pairwise(edges)]
    print(f"loss at positions      {'   '.join(bins)}")
    for scheme in ("learned", "rope", "alibi"):
        torch.manual_seed(0)
        model = PositionLM(scheme)
        train(model, n_steps=100)
        found = loss_by_position(model, n_texts=16, edges=edges)
        print(f"{scheme:<22} " + "   ".join(f"{loss:10.2f}" for loss in found))
    print("After 100 steps the schemes hardly differ; theory.md has them after 1,200.")


if __name__ == "__main__":
    run_program(main)
