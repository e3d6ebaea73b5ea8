"""A small language model around a stack of blocks, to measure what a block does in training.

The lesson's pictures, its notebook and its tests train with it. It predicts the next character of
the course's mock plays, and leaves out everything that later lessons are about: positions are
learned vectors, the optimizer is PyTorch's Adam, and there is no validation set.

Dimensions: B batch, T positions, d_model features, V characters.
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import causal_mask
from feedforward import FeedForward
from layer_norm import LayerNorm
from multi_head import MultiHeadAttention
from transformer_block import TransformerBlock
from utils.errors import run_program
from utils.mock_corpus import generate

B, T = 16, 32  # small, because the lesson compares many runs
Build = Callable[[int, str], nn.Module]  # (d_model, placement) -> block


def standard_block(d_model: int, placement: str = "pre") -> TransformerBlock:
    """Four heads, a GELU network four times as wide, and LayerNorm."""
    return TransformerBlock(
        MultiHeadAttention(d_model, 4),
        FeedForward(d_model, 4 * d_model),
        LayerNorm(d_model),
        LayerNorm(d_model),
        placement,
    )


class StackLM(nn.Module):
    """Embedding, n_blocks blocks, a final norm if they are pre-norm, and a score per character."""

    def __init__(
        self,
        n_blocks: int,
        placement: str = "pre",
        d_model: int = 32,
        build: Build = standard_block,
        std: float | None = None,
    ) -> None:
        """The blocks' matrices are drawn by Glorot's rule; with `std`, all are normal with it."""
        super().__init__()
        V = len(corpus()[1])
        self.token = nn.Embedding(V, d_model)
        self.position = nn.Embedding(T, d_model)
        self.blocks = nn.ModuleList(build(d_model, placement) for _ in range(n_blocks))
        # Pre-norm leaves the stream itself unnormed; a post-norm block ends with a norm.
        self.final_norm = LayerNorm(d_model) if placement == "pre" else nn.Identity()
        self.head = nn.Linear(d_model, V, bias=False)
        self.mask: Tensor | None = causal_mask(T)
        # Glorot's rule keeps the scale of what goes through a matrix, so that deep stacks can be
        # compared; the 0.02 of the embeddings and the head makes the first predictions nearly even.
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and std is None and "blocks" in name:
                nn.init.xavier_uniform_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02 if std is None else std)

    def stream(self, tokens: Tensor) -> list[Tensor]:
        """The residual stream of tokens (B, T): the embedding, then what each block leaves."""
        stream = [self.token(tokens) + self.position.weight]  # (B, T, d_model) + (T, d_model)
        for block in self.blocks:
            stream.append(block(stream[-1], self.mask))  # (B, T, d_model)
        return stream

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) -> logits (B, T, V)."""
        return self.head(self.final_norm(self.stream(tokens)[-1]))


@functools.cache
def corpus(n_characters: int = 100_000) -> tuple[Tensor, list[str]]:
    """The mock plays as numbers (n_characters,), and the character of each number."""
    text = generate(n_characters)
    characters = sorted(set(text))
    number = {character: i for i, character in enumerate(characters)}
    return torch.tensor([number[character] for character in text]), characters


def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """B random pieces of the text, (B, T), and the next character at each position, (B, T)."""
    text, _ = corpus()
    # Each piece is one character longer than T: the targets are the inputs moved by one.
    starts = torch.randint(len(text) - T, (B, 1), generator=generator)
    pieces = text[starts + torch.arange(T + 1)]
    return pieces[:, :-1], pieces[:, 1:]


def loss_of(model: nn.Module, tokens: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy, in nats per character."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def train(
    model: StackLM,
    n_steps: int = 200,
    lr: float = 3e-3,
    warmup: int = 0,
    seed: int = 0,
    extra: Callable[[StackLM], Tensor] | None = None,
) -> list[float]:
    """Adam with a constant learning rate, after a linear warm-up; returns the loss of each step.

    `extra` is one more term of the loss, which is trained on and not reported. Training stops at a
    loss that is not finite.
    """
    # The batches have a generator of their own: two models with one seed see the same text.
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    losses: list[float] = []
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / warmup) if warmup else lr
        loss = loss_of(model, *batch(generator))
        losses.append(loss.item())
        # A diverged run cannot recover: every later step would only add nan.
        if not math.isfinite(losses[-1]):
            break
        if extra is not None:  # added after the loss was noted: runs stay comparable
            loss = loss + extra(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def final_loss(losses: Sequence[float], last: int = 20) -> float:
    """The mean loss of the last steps."""
    return sum(losses[-last:]) / len(losses[-last:])  # one batch alone is too noisy


def unigram_entropy() -> float:
    """The loss of a model that knows how frequent each character is, and nothing else."""
    text, _ = corpus()
    shares = text.bincount() / len(text)  # p_v
    # -sum_v p_v log p_v: a stack that ends here has learned nothing from the text before.
    # xlogy(0, 0) is 0, where 0 * log(0) would be nan.
    return -torch.xlogy(shares, shares).sum().item()


def main() -> None:
    """Train a pre-norm and a post-norm stack of eight blocks for a few seconds."""
    torch.set_num_threads(1)
    print(f"knowing only how frequent each character is: {unigram_entropy():.2f} nats\n")
    for placement in ("pre", "post"):
        torch.manual_seed(0)
        losses = train(StackLM(8, placement), n_steps=100)
        print(f"{placement}-norm: first loss {losses[0]:.2f}, last {final_loss(losses):.2f}")


if __name__ == "__main__":
    run_program(main)
