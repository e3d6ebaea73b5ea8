"""Where does the loss come from? The mean loss of each group of targets.

    losses = token_losses(logits, y)                  (B, T), lesson 06
    loss_by_group(losses, places, T)                  by the place in the window
    loss_by_group(losses, y, vocab_size)              by the character to be predicted

The mean over all targets hides both: the first places of a window have little to go by, and some
characters are as good as certain while others are a coin toss.

Dimensions: B batch size, T sequence length, V vocabulary size.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import torch
from torch import Tensor

from data_loader import evaluation_blocks
from loss_functions import token_losses
from small_model import load_small_model
from utils.mock_corpus import generate
from utils.shape_checker import check_shape


def loss_by_group(losses: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """The mean loss of each group: (n_groups,) float32, nan for a group without targets.

    losses, of any shape: in nats. groups, of the same shape, int64: 0 to n_groups - 1, or -1 for a
    target that doesn't count. Raises ShapeError if the shapes differ.
    """
    check_shape(groups, tuple(losses.shape), "groups")
    counted = groups >= 0
    numbers = groups[counted]  # (n_counted,)
    # The sum and the count of each group, all groups in one pass.
    sums = torch.zeros(n_groups).index_add(0, numbers, losses[counted].float())
    counts = torch.bincount(numbers, minlength=n_groups)
    return sums / counts  # 0 / 0 is nan


@torch.inference_mode()
def main() -> None:
    """The loss of lesson 07's small model on new mock plays, by place and by character."""
    model, tokenizer = load_small_model()
    T, V = model.config.max_seq_len, model.config.vocab_size
    tokens = tokenizer.encode_array(generate(20_000, seed=1))
    # The last window is shorter than the others, so it is left out.
    batches = [(x, y) for x, y in evaluation_blocks(tokens, T, batch_size=32) if x.size(1) == T]
    targets = torch.cat([y for _, y in batches])  # (n_windows, T)
    losses = torch.cat([token_losses(model(x), y) for x, y in batches])  # (n_windows, T)

    print(f"all {losses.numel():,} targets: {losses.mean():.3f} nats per character")
    # Groups of places, each twice as large as the one before: 0, 1-2, 3-6, 7-14, ...
    octaves = (torch.arange(T) + 1).log2().long()  # (T,)
    by_place = loss_by_group(losses, octaves.expand_as(losses), int(octaves[-1]) + 1)
    for octave, loss in enumerate(by_place.tolist()):
        first, last = 2**octave - 1, min(2 ** (octave + 1) - 2, T - 1)
        print(f"places {first:>3} to {last:>3}: {loss:.3f}")
    by_character = loss_by_group(losses, targets, V)
    seen = torch.bincount(targets.flatten(), minlength=V) >= 100  # a mean of few says little
    order = by_character.masked_fill(~seen, torch.nan).argsort(descending=True)  # nan comes first
    hardest = [i for i in order.tolist() if seen[i]]
    for name, chosen in (("hardest", hardest[:5]), ("easiest", hardest[-5:])):
        said = [f"{tokenizer.decode([i])!r} {by_character[i]:.2f}" for i in chosen]
        print(f"{name} to predict: {', '.join(said)}")


if __name__ == "__main__":
    run_program(main)
