"""Toy tasks and a training loop, with which the three attention patterns are compared.

A *palindrome* reads the same from both ends. Whoever sees the whole of it can fill any gap, because
each token stands there twice; whoever reads from left to right can do so in the second half only.

Dimensions: B batch, T positions, V tokens.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import run_program

N_SYMBOLS = 16  # tokens 0 to 15 are letters
MASK = N_SYMBOLS  # the token that hides another, for the encoder
START = N_SYMBOLS  # the token that begins an answer, for the encoder-decoder
FIRST_SENTINEL = N_SYMBOLS + 1  # the sentinels of the gaps, and one more that ends an answer
VOCAB_SIZE = N_SYMBOLS + 4


def palindromes(n_rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Random palindromes (n_rows, length); `length` is even."""
    half = torch.randint(N_SYMBOLS, (n_rows, length // 2), generator=generator)
    return torch.cat((half, half.flip(1)), dim=1)


def next_token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """The mean cross-entropy of each token, given those before it, in nats.

    logits (B, T, V) of the model that read tokens (B, T). The first token has nothing before it and
    the last logits have nothing to predict: B (T - 1) predictions count.
    """
    predictions = logits[:, :-1]  # position t predicts ...
    targets = tokens[:, 1:]  # ... token t + 1
    return F.cross_entropy(predictions.flatten(0, 1), targets.flatten())


def fit(
    model: nn.Module,
    loss_of: Callable[[torch.Generator], Tensor],
    n_steps: int,
    lr: float = 3e-3,
    warmup: int = 50,
    seed: int = 0,
) -> list[float]:
    """Adam with a linear warm-up, then a linear descent to 0; returns the loss of each step.

    loss_of(generator) draws a batch from the generator and returns its loss.
    """
    # The data have a generator of their own: models with one seed see the same batches.
    generator = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.99))
    losses: list[float] = []
    model.train()
    for step in range(n_steps):
        left = (n_steps - step) / max(1, n_steps - warmup)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / warmup, left)
        loss = loss_of(generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def main() -> None:
    """Print a few palindromes."""
    for row in palindromes(3, 12, torch.Generator().manual_seed(0)).tolist():
        print(" ".join("abcdefghijklmnop"[symbol] for symbol in row))


if __name__ == "__main__":
    run_program(main)
