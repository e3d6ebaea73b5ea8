"""Penalties for repetition: lower the logits of tokens that the text already has.

    repetition:  l_v / r  if l_v > 0,  l_v * r  otherwise     for tokens v that have occurred
    presence:    l_v - a                                      for tokens v that have occurred
    frequency:   l_v - a * n_v                                n_v: how often v has occurred

Greedy decoding and low temperatures fall into loops: what was said once becomes more probable.
Keskar et al. 2019, "CTRL", section 4.1 (repetition); the other two come from OpenAI's interface.
The repetition penalty counts the tokens of prompt and new text, the other two the new text only.

Dimensions: B rows, `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from temperature import at_least_float32
from utils.errors import UsageError, run_program


def token_counts(sequences: Sequence[Sequence[int]], vocab_size: int) -> Tensor:
    """How often each id occurs in each sequence: (B, vocab_size) int64."""
    counts = torch.zeros(len(sequences), vocab_size, dtype=torch.long)
    for row, sequence in zip(counts, sequences, strict=True):
        # n_v for all v; with minlength also for ids that don't occur. `row` is a view of counts.
        row += torch.bincount(torch.tensor(sequence, dtype=torch.long), minlength=vocab_size)
    return counts


def apply_repetition_penalty(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Make tokens that have occurred less probable (penalty above 1) or more (below 1).

    logits and counts (..., V) -> (..., V); how often a token has occurred makes no difference.
    Half-precision logits come back as float32. Raises UsageError unless penalty > 0 and finite.
    """
    if not 0 < penalty < math.inf:
        raise UsageError(
            f"repetition penalty {penalty} is out of range; give a finite number above 0 (1: none)"
        )
    logits = at_least_float32(logits)
    # Dividing a negative logit would raise it, so it is multiplied instead. A weakness of the rule:
    # a constant added to all logits changes no probability, but it changes what the penalty does.
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)  # l_v / r or l_v * r
    return torch.where(counts > 0, lowered, logits)


def apply_presence_penalty(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Subtract the penalty once from the logit of each token that has occurred.

    logits and counts (..., V) -> (..., V); half precision comes back as float32.
    Raises UsageError unless the penalty is finite.
    """
    check_finite("presence penalty", penalty)
    logits = at_least_float32(logits)
    return logits - penalty * (counts > 0).to(logits.dtype)  # l_v - a, once


def apply_frequency_penalty(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Subtract the penalty from each token's logit as many times as the token has occurred.

    logits and counts (..., V) -> (..., V); half precision comes back as float32.
    Raises UsageError unless the penalty is finite.
    """
    check_finite("frequency penalty", penalty)
    logits = at_least_float32(logits)
    return logits - penalty * counts.to(logits.dtype)  # l_v - a n_v: odds fall by e^a each time


def check_finite(name: str, penalty: float) -> None:
    """Raise UsageError for NaN and infinity."""
    if not math.isfinite(penalty):
        raise UsageError(f"{name} {penalty} is out of range; give a finite number (0: none)")


class TokenCounts:
    """How often each token occurred: in the prompt of each row, and in its new text."""

    # Two tables, because OpenAI's two penalties leave the prompt alone.
    def __init__(self, prompt: Tensor, new: Tensor) -> None:
        self.prompt = prompt  # (B, V)
        self.new = new  # (B, V)

    @classmethod
    def of_prompts(cls, prompts: Sequence[Sequence[int]], vocab_size: int) -> "TokenCounts":
        """The counts before any token is generated."""
        counts = token_counts(prompts, vocab_size)
        return cls(counts, torch.zeros_like(counts))

    def add_(self, tokens: Tensor) -> None:
        """Count one new token for each row: tokens (B,)."""
        # new[b, tokens[b]] += 1 for each row b, without a loop
        self.new.scatter_add_(1, tokens[:, None], torch.ones_like(self.new[:, :1]))


def main() -> None:
    """Show what each penalty does to the tokens of "the cat and the owl"."""
    words = ["the", "cat", "and", "owl", "dog"]
    logits = torch.tensor([3.0, 1.0, -1.0, 2.0, 2.0])  # "and" has a negative one
    (counts,) = token_counts([[0, 1, 2, 0, 3]], len(words))
    rows = {
        "logits": logits,
        "repetition 2": apply_repetition_penalty(logits, counts, 2.0),
        "presence 1": apply_presence_penalty(logits, counts, 1.0),
        "frequency 1": apply_frequency_penalty(logits, counts, 1.0),
    }
    print(" " * 12 + "".join(f"{word:>7}" for word in words))
    print(f"{'occurred':12}" + "".join(f"{n:7}" for n in counts.tolist()))
    for name, row in rows.items():
        print(f"{name:12}" + "".join(f"{value:7.1f}" for value in row.tolist()))


if __name__ == "__main__":
    run_program(main)
