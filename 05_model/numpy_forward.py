"""The forward pass in NumPy alone: from a checkpoint on disk to logits, without PyTorch.

    python 05_model/numpy_forward.py --prompt "ROMEO:"              the most likely next characters
    python 05_model/numpy_forward.py --prompt "ROMEO:" --compare    and how far PyTorch's logits are

A trained model is a file of arrays and the formulas below; nothing of the framework that trained it
is needed to run it. The formulas are those of lessons 01 to 04 for every `ModelConfig`; attention
itself is lesson 01's attention_numpy.py. Everything is float32.

Dimensions: B batch, T positions, d_model features, d_head in each of n_heads, d_ff hidden features.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attention_numpy import Array, causal_mask, scaled_dot_product_attention, softmax
from numpy_checkpoint import newest_checkpoint, read_checkpoint
from numpy_positions import alibi_mask, apply_rotary, sinusoidal_encoding
from utils.command_line import OneLineParser
from utils.config import ModelConfig
from utils.errors import UsageError, run_program
from utils.shape_checker import check_shape


@dataclass(frozen=True)
class NumpyLM:
    """A language model: its configuration, and its weights by the names they have in PyTorch."""

    config: ModelConfig
    weights: Mapping[str, Array]

    def __call__(self, tokens: Array) -> Array:
        """tokens (B, T) integers -> logits (B, T, vocab_size)."""
        _, T = check_shape(tokens, ("B", "T"))
        if self.config.max_seq_len < T:
            raise UsageError(f"{T} tokens do not fit in the context of {self.config.max_seq_len}")
        x = self.weights["token_embedding.weight"][tokens]  # (B, T, d_model)
        if self.config.position == "learned":
            x = x + self.weights["position_embedding.weight"][:T]
        elif self.config.position == "sinusoidal":
            x = x * math.sqrt(self.config.d_model) + sinusoidal_encoding(T, self.config.d_model)
        for layer in range(self.config.n_layers):
            x = self.block(f"blocks.{layer}", x)
        if self.config.norm_placement == "pre":
            x = self.norm("final_norm", x)
        output = "token_embedding" if self.config.tie_weights else "unembedding"
        return x @ self.weights[f"{output}.weight"].T  # (B, T, vocab_size)

    def block(self, name: str, x: Array) -> Array:
        """Attention, then the feed-forward network, each with its residual: x (B, T, d_model)."""
        for sublayer, compute in (("attention", self.attention), ("feed_forward", self.mlp)):
            part = f"{name}.{sublayer}"
            if self.config.norm_placement == "pre":
                x = x + compute(part, self.norm(f"{part}_norm", x))
            else:
                x = self.norm(f"{part}_norm", x + compute(part, x))
        return x

    def attention(self, name: str, x: Array) -> Array:
        """Every head attends to the present and the past: x (B, T, d_model) -> the same shape."""
        q, k, v = (self.heads(f"{name}.{each}_proj", x) for each in "qkv")
        if self.config.qk_norm:
            q, k = rms_normalize(q), rms_normalize(k)
        if self.config.position == "rope":
            q, k = apply_rotary(q), apply_rotary(k)
        n_repeats = self.config.n_heads // self.config.kv_heads  # query heads per key-value head
        k, v = k.repeat(n_repeats, axis=1), v.repeat(n_repeats, axis=1)  # (B, n_heads, T, d_head)
        T = x.shape[1]
        alibi = self.config.position == "alibi"
        mask = alibi_mask(T, self.config.n_heads) if alibi else causal_mask(T)
        output, _ = scaled_dot_product_attention(q, k, v, mask)  # (B, n_heads, T, d_head)
        return self.linear(f"{name}.out_proj", output.swapaxes(1, 2).reshape(x.shape))

    def heads(self, name: str, x: Array) -> Array:
        """Project, and give each head its slice: (B, T, d_model) -> (B, heads, T, d_head)."""
        B, T, _ = x.shape
        return self.linear(name, x).reshape(B, T, -1, self.config.d_head).swapaxes(1, 2)

    def mlp(self, name: str, x: Array) -> Array:
        """The feed-forward network, W_down activation(W_up x): x (..., d_model) -> the same."""
        hidden = self.linear(f"{name}.up_proj", x)  # (..., d_ff)
        if self.config.activation == "swiglu":
            gate = self.linear(f"{name}.gate_proj", x)
            hidden = hidden * gate * 0.5 * (1.0 + np.tanh(gate / 2.0))  # silu(gate) * hidden
        elif self.config.activation == "relu2":
            hidden = np.maximum(hidden, 0.0) ** 2
        else:
            hidden = hidden * 0.5 * (1.0 + erf(hidden / math.sqrt(2.0)))  # GELU: z Phi(z)
        return self.linear(f"{name}.down_proj", hidden)

    def norm(self, name: str, x: Array) -> Array:
        """LayerNorm, or RMSNorm, which does not centre: x (..., d_model) -> the same."""
        if self.config.norm == "layernorm":
            x = x - x.mean(-1, keepdims=True)
        return rms_normalize(x) * self.weights[f"{name}.weight"] + self.bias(name)

    def linear(self, name: str, x: Array) -> Array:
        """x W^T + b."""
        return x @ self.weights[f"{name}.weight"].T + self.bias(name)

    def bias(self, name: str) -> Array | float:
        """The bias of a layer, 0 if it has none."""
        return self.weights.get(f"{name}.bias", 0.0)


def rms_normalize(x: Array, eps: float = 1e-5) -> Array:
    """x / sqrt(mean(x^2) + eps) over the last axis."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def erf(x: Array) -> Array:
    """The error function, which NumPy lacks: Python's, element by element."""
    return np.vectorize(math.erf, otypes=[np.float32])(x)


def main() -> None:
    """Print the most likely next characters after a prompt."""
    parser = OneLineParser(description="Run a checkpoint in NumPy alone.")
    parser.add_argument("--prompt", default="ROMEO:", metavar="TEXT", help="text to continue")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="default: the newest")
    parser.add_argument("--compare", action="store_true", help="also with PyTorch's engines")
    args = parser.parse_args()
    path = args.checkpoint or newest_checkpoint()
    checkpoint = read_checkpoint(path)
    model = NumpyLM(checkpoint.config, checkpoint.weights)
    tokens = np.array([checkpoint.encode(args.prompt)[-model.config.max_seq_len :]])  # (1, T)
    probabilities = softmax(model(tokens)[0, -1])  # (vocab_size,), after the last character
    print(f"{path.name} in NumPy: after {args.prompt!r} come most likely")
    for token in np.argsort(-probabilities)[:5]:
        print(f"  {checkpoint.characters[token]!r:5} {probabilities[token]:6.1%}")
    if args.compare:
        from compare_engines import compare  # imports PyTorch

        compare(model, tokens)


if __name__ == "__main__":
    run_program(main)
