"""Toy tasks and a training loop, with which attention patterns are compared.

Palindromes read the same from both ends: a model that sees all of one can fill any gap, because
each letter is there twice; one that reads from left to right can do so in the second half only.

Jumps: a row of cells, each with the number of a cell to jump to. The answer says for every cell
where two jumps lead, x[x[t]]; a model that may look ahead can work that out while reading.

    cells    0 1 2 3        from cell 0 to 2, from 2 to 3
    source   2 0 3 1
    target   3 2 1 0

Dimensions: B batch, T positions, V tokens.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import run_program

N_SYMBOLS = 16  # tokens 0 to 15 are letters, or the numbers of cells
MASK = 16  # the token that hides another, for the encoder
START = 17  # the token that begins an answer
VOCAB_SIZE = 18


def palindromes(n_rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Random palindromes (n_rows, length); `length` is even."""
    half = torch.randint(N_SYMBOLS, (n_rows, length // 2), generator=generator)
    return torch.cat((half, half.flip(1)), dim=1)


def jumps(n_rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(source, target): random cells, and where two jumps lead from each; both (n_rows, length)."""
    source = torch.randint(length, (n_rows, length), generator=generator)
    return source, source.gather(1, source)


def sorting(n_rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(source, target): random letters, and the same in order; both (n_rows, length)."""
    source = torch.randint(N_SYMBOLS, (n_rows, length), generator=generator)
    return source, source.sort(dim=1).values


Task = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]  # such as jumps and sorting


def shift_right(target: Tensor, start: int) -> Tensor:
    """What was read before each token of target (B, T): a start token, then all but the last."""
    return torch.cat((torch.full_like(target[:, :1], start), target[:, :-1]), dim=1)


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
    """Print an example of each task."""
    generator = torch.Generator().manual_seed(0)
    letters = palindromes(1, 12, generator)[0].tolist()
    print("a palindrome  " + " ".join("abcdefghijklmnop"[symbol] for symbol in letters))
    source, target = jumps(1, 12, generator)
    for name, cells in {"cell": torch.arange(12), "source": source[0], "target": target[0]}.items():
        print(f"{name:12}" + "".join(f"{cell:3}" for cell in cells.tolist()))


if __name__ == "__main__":
    run_program(main)
