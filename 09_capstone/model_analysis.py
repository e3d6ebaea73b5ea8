"""Look into a trained model: what heads attend to, how a prediction forms, what a head is worth.

    attention_weights(model, tokens)      one (B, n_heads, T, T) per layer
    logit_lens(model, tokens)             (n_layers + 1, B, T, V): what each depth would predict
    with head_removed(model, 1, 2): ...   layer 1 without its head 2

The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens") reads the residual stream
after each block as if it were the last: logits = norm(x) @ unembedding^T. Works because every block
only adds to x. Removing a head and measuring the loss is an ablation of what was learned (Michel
et al. 2019, "Are sixteen heads really better than one?", section 3).

Dimensions: B batch, T positions, V tokens.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction, scaled_dot_product_attention
from small_model import load_small_model
from tiny_transformer_lm import TinyTransformerLM
from utils.errors import UsageError


@contextmanager
def attention_replaced(model: TinyTransformerLM, attention: AttentionFunction) -> Iterator[None]:
    """Within the block, every layer of the model computes its attention with this function."""
    parts = model.parts
    model.parts = replace(parts, attention=attention)
    try:
        yield
    finally:
        model.parts = parts


@torch.inference_mode()
def attention_weights(model: TinyTransformerLM, tokens: Tensor) -> list[Tensor]:
    """Each layer's attention weights for tokens (B, T): a list of (B, n_heads, T, T)."""
    recorded: list[Tensor] = []

    def attention(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        output, weights = scaled_dot_product_attention(q, k, v, mask)
        recorded.append(weights)
        return output, weights

    with attention_replaced(model, attention):
        model(tokens)
    return recorded


@contextmanager
def head_removed(model: TinyTransformerLM, layer: int, head: int) -> Iterator[None]:
    """Within the block, one head adds nothing to the residual stream.

    Raises UsageError if there is no such layer or head.
    """
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    if not (0 <= layer < n_layers and 0 <= head < n_heads):
        raise UsageError(f"no layer {layer}, head {head}: {n_layers} layers with {n_heads} heads")
    calls, attention = 0, model.parts.attention  # one call per layer, in their order

    def without_head(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        nonlocal calls
        output, weights = attention(q, k, v, mask)  # (B, n_heads, T, d_head)
        if calls % n_layers == layer:
            kept = torch.arange(n_heads, device=output.device) != head
            output = output * kept[:, None, None]
        calls += 1
        return output, weights

    with attention_replaced(model, without_head):
        yield


@torch.inference_mode()
def logit_lens(model: TinyTransformerLM, tokens: Tensor) -> Tensor:
    """The logits at each depth, (n_layers + 1, B, T, V): of the embedding, then of each block."""
    stream: list[Tensor] = []

    def keep_input(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        stream.append(inputs[0])

    def keep_output(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        stream.append(output)

    hooks = [model.blocks[0].register_forward_pre_hook(keep_input)]
    hooks += [block.register_forward_hook(keep_output) for block in model.blocks]
    try:
        model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    # Every depth is read by the last norm and the output layer, which were trained for the last.
    return torch.stack([F.linear(model.final_norm(x), model.output_weight) for x in stream])


def main() -> None:
    """How a prediction forms in the small model of lesson 07, layer by layer."""
    model, tokenizer = load_small_model()
    text = "FRIAR ANSELM:\nNo truth so h"
    for depth, logits in enumerate(logit_lens(model, torch.tensor([tokenizer.encode(text)]))):
        p, ids = logits[0, -1].softmax(-1).topk(4)
        shown = "  ".join(
            f"{tokenizer.characters[i]!r} {q:.2f}" for q, i in zip(p, ids, strict=True)
        )
        print(f"after {depth} blocks: {shown}")


if __name__ == "__main__":
    run_program(main)
