"""An encoder-decoder, as in T5: one stack reads the input, another writes the answer.

    memory = encoder(source)                              every token of the source sees every other
    logits = decoder(target so far, memory)               causal, and cross-attention to the memory

T5 (Raffel et al. 2019) learned from texts with gaps, `corrupt_spans` in corruption.py; here the
task is one that pays for reading all of the source before the first word is written.

Dimensions: B batch, T_s positions of the source, T_t of the target, V tokens.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask, scaled_dot_product_attention
from initialization import initialize_
from multi_head import MultiHeadAttention
from parts import Parts
from pattern_lab import START, VOCAB_SIZE, Task, fit, jumps, shift_right
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import run_program

LENGTH = 12  # cells
CONFIG = ModelConfig(VOCAB_SIZE, max_seq_len=2 * LENGTH, d_model=64, n_layers=1, n_heads=4)


class CrossAttention(MultiHeadAttention):
    """Multi-head attention whose queries come from x, and whose keys and values from a context."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """x (B, T_t, d_model), context (B, T_s, d_model) -> (B, T_t, d_model).

        The mask broadcasts to (B, n_heads, T_t, T_s).
        """
        # The target asks, the source answers: T_t queries, T_s keys and values.
        q = self.split_heads(self.q_proj(x), self.n_heads)  # (B, n_heads, T_t, d_head)
        k = self.split_heads(self.k_proj(context), self.n_heads)  # (B, n_heads, T_s, d_head)
        v = self.split_heads(self.v_proj(context), self.n_heads)
        output, _ = attend(q, k, v, mask)  # (B, n_heads, T_t, d_head)
        return self.out_proj(self.merge_heads(output))


class DecoderBlock(nn.Module):
    """Three sublayers, pre-norm: self-attention, cross-attention, feed-forward network."""

    def __init__(
        self,
        attention: nn.Module,
        cross_attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        cross_attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
    ) -> None:
        super().__init__()
        self.attention = attention  # (x, mask, attend): what has been written so far
        self.cross_attention = cross_attention  # (x, context, mask, attend): what was read
        self.feed_forward = feed_forward  # (x): each position alone
        self.attention_norm = attention_norm
        self.cross_attention_norm = cross_attention_norm
        self.feed_forward_norm = feed_forward_norm

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        attend: AttentionFunction = scaled_dot_product_attention,
    ) -> Tensor:
        """x (B, T_t, d_model), context (B, T_s, d_model) -> (B, T_t, d_model).

        mask is for the self-attention, context_mask for the cross-attention. The context is read as
        it is: the encoder has normed it already.
        """
        # Look at what is written, then at the source, then compute on both at each position.
        x = x + self.attention(self.attention_norm(x), mask, attend)
        x = x + self.cross_attention(self.cross_attention_norm(x), context, context_mask, attend)
        return x + self.feed_forward(self.feed_forward_norm(x))


class EncoderDecoder(nn.Module):
    """config.n_layers blocks that read, and as many that write; all embeddings are one table."""

    def __init__(self, config: ModelConfig, parts: Parts | None = None, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.parts = parts = parts or Parts.reference()
        self.token_embedding = parts.token_embedding(config.vocab_size, config.d_model)
        # Two tables: place 3 of the source has nothing to do with place 3 of the target.
        self.source_positions = parts.learned_positions(config.max_seq_len, config.d_model)
        self.target_positions = parts.learned_positions(config.max_seq_len, config.d_model)
        self.encoder = nn.ModuleList(parts.build_block(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(self._decoder_block() for _ in range(config.n_layers))
        self.encoder_norm = parts.build_norm(config)  # a pre-norm stack ends with a norm
        self.decoder_norm = parts.build_norm(config)
        initialize_(self, seed)
        self._open_the_way_to_the_encoder(seed)

    def _open_the_way_to_the_encoder(self, seed: int) -> None:
        """Cross-attention starts with small random outputs; zeros would hide the encoder.

        The encoder's only way to the loss leads through these matrices. At zero they pass no
        gradient down; when they have grown, the decoder has learned to do without.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in sorted(self.named_parameters()):
            if name.endswith("cross_attention.out_proj.weight"):
                with torch.no_grad():
                    parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))

    def _decoder_block(self) -> DecoderBlock:
        config, parts = self.config, self.parts
        norms = (parts.build_norm(config) for _ in range(3))
        return DecoderBlock(
            parts.build_attention(config),
            CrossAttention(config.d_model, config.n_heads, config.bias),
            parts.build_feed_forward(config),
            *norms,
        )

    def encode(self, source: Tensor) -> Tensor:
        """source (B, T_s) -> memory (B, T_s, d_model), computed once for the whole target."""
        x = self.token_embedding(source) + self.source_positions(positions_of(source))
        for block in self.encoder:
            x = block(x, None, self.parts.attention)  # no mask: the source is all there
        return self.encoder_norm(x)

    def decode(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """inputs (B, T_t), memory (B, T_s, d_model) -> logits (B, T_t, V)."""
        x = self.token_embedding(inputs) + self.target_positions(positions_of(inputs))
        mask = causal_mask(inputs.size(1), inputs.device)  # of the target only: None for memory
        for block in self.decoder:
            x = block(x, memory, mask, None, self.parts.attention)
        return F.linear(self.decoder_norm(x), self.token_embedding.weight)  # pyright: ignore

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        """source (B, T_s), inputs (B, T_t) -> logits (B, T_t, V), each for the next token."""
        return self.decode(inputs, self.encode(source))


def positions_of(tokens: Tensor) -> Tensor:
    """0, 1, 2, ... for tokens (B, T): (T,)."""
    return torch.arange(tokens.size(1), device=tokens.device)


def logits_of(model: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """The logits (B, T_t, V) for the target, from an EncoderDecoder or a decoder-only model.

    The latter reads one text: the source, a start token, the target.
    """
    inputs = shift_right(target, START)  # position t reads token t - 1, and predicts token t
    if isinstance(model, EncoderDecoder):
        return model(source, inputs)
    return model(torch.cat((source, inputs), dim=1))[:, source.size(1) :]  # the answer's only


def train(model: nn.Module, n_steps: int = 400, seed: int = 0, task: Task = jumps) -> list[float]:
    """Train on pairs of source and target; returns the losses."""

    def loss_of(generator: torch.Generator) -> Tensor:
        source, target = task(64, LENGTH, generator)
        return F.cross_entropy(logits_of(model, source, target).flatten(0, 1), target.flatten())

    return fit(model, loss_of, n_steps, seed=seed)


@torch.no_grad()
def accuracy(model: nn.Module, task: Task = jumps, n_rows: int = 1000) -> float:
    """The share of the target's tokens that are predicted correctly, given those before."""
    source, target = task(n_rows, LENGTH, torch.Generator().manual_seed(7))  # same for all
    return (logits_of(model, source, target).argmax(-1) == target).float().mean().item()


def main() -> None:
    """Train on two jumps, with and without an encoder."""
    torch.set_num_threads(1)
    print("where two jumps lead: correct cells after 400 steps\n")
    for name, model in {
        "encoder-decoder, 1 + 1 layers": EncoderDecoder(CONFIG, Parts.fused()),
        "decoder only, 1 layer": TinyTransformerLM(CONFIG, Parts.fused()),
        "decoder only, 2 layers": TinyTransformerLM(replace(CONFIG, n_layers=2), Parts.fused()),
    }.items():
        train(model)
        print(f"{name:30}{accuracy(model):6.0%}")


if __name__ == "__main__":
    run_program(main)
