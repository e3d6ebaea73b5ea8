"""An encoder-decoder, as in T5: one stack reads the input, another writes the answer.

    memory = encoder(source)                              every token of the source sees every other
    logits = decoder(target so far, memory)               causal, and cross-attention to the memory

T5 is trained by *span corruption*: gaps are cut out of a text, each is replaced by one sentinel, and
the answer lists the sentinels, each followed by what was cut out (Raffel et al. 2020, section 3.1.4):

    source   thank <0> inviting me to your <1> week
    target   <0> you for <1> party last <2>

Dimensions: B batch, T_s positions of the source, T_t of the target, V tokens.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, causal_mask, scaled_dot_product_attention
from multi_head import MultiHeadAttention
from parts import Parts
from tiny_transformer_lm import initialize_
from utils.config import ModelConfig
from utils.errors import run_program


def corrupt_spans(
    tokens: Tensor, spans: Sequence[tuple[int, int]], first_sentinel: int
) -> tuple[Tensor, Tensor]:
    """Cut spans out of one text: (source, target), as above.

    tokens (T,) integers; spans are (start, length) in ascending order, at least one token apart.
    Gap number n is marked by the token first_sentinel + n, in both; one more sentinel ends the
    target. Without spans, the source is the text, and the target that last sentinel alone.
    """
    source: list[Tensor] = []
    target: list[Tensor] = []
    read = 0  # tokens before this one are done
    for number, (start, length) in enumerate(spans):
        sentinel = tokens.new_tensor([first_sentinel + number])
        source += [tokens[read:start], sentinel]
        target += [sentinel, tokens[start : start + length]]
        read = start + length
    source.append(tokens[read:])
    target.append(tokens.new_tensor([first_sentinel + len(spans)]))  # "nothing more is missing"
    return torch.cat(source), torch.cat(target)


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
        q = self.split_heads(self.q_proj(x), self.n_heads)  # (B, n_heads, T_t, d_head)
        k = self.split_heads(self.k_proj(context), self.n_heads)  # (B, n_heads, T_s, d_head)
        v = self.split_heads(self.v_proj(context), self.n_heads)
        output, _ = attend(q, k, v, mask)
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
        self.feed_forward = feed_forward
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
        self.source_positions = parts.learned_positions(config.max_seq_len, config.d_model)
        self.target_positions = parts.learned_positions(config.max_seq_len, config.d_model)
        self.encoder = nn.ModuleList(parts.build_block(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(self._decoder_block() for _ in range(config.n_layers))
        self.encoder_norm = parts.build_norm(config)
        self.decoder_norm = parts.build_norm(config)
        initialize_(self, seed)

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
        """source (B, T_s) -> memory (B, T_s, d_model), computed once, read by every decoder block."""
        x = self.token_embedding(source) + self.source_positions(positions_of(source))
        for block in self.encoder:
            x = block(x, None, self.parts.attention)  # no mask: the source is all there
        return self.encoder_norm(x)

    def decode(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """inputs (B, T_t), memory (B, T_s, d_model) -> logits (B, T_t, V)."""
        x = self.token_embedding(inputs) + self.target_positions(positions_of(inputs))
        mask = causal_mask(inputs.size(1), inputs.device)
        for block in self.decoder:
            x = block(x, memory, mask, None, self.parts.attention)
        return F.linear(self.decoder_norm(x), self.token_embedding.weight)  # pyright: ignore

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        """source (B, T_s), inputs (B, T_t) -> logits (B, T_t, V) of the next token of the target."""
        return self.decode(inputs, self.encode(source))


def positions_of(tokens: Tensor) -> Tensor:
    """0, 1, 2, ... for tokens (B, T): (T,)."""
    return torch.arange(tokens.size(1), device=tokens.device)


def shift_right(target: Tensor, start: int) -> Tensor:
    """What the decoder has read when it predicts the target (B, T_t): a start token, then all but
    the last."""
    return torch.cat((torch.full_like(target[:, :1], start), target[:, :-1]), dim=1)


def main() -> None:
    pass


if __name__ == "__main__":
    run_program(main)
