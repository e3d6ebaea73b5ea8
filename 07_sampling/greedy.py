"""Greedy decoding: always choose the most probable token.

    next token = argmax_v logits[v]

This is the simplest rule, and the only deterministic one here: the same prompt always gives the
same text. Long greedy texts tend to repeat themselves (Holtzman et al. 2020, "The Curious Case of
Neural Text Degeneration"), which is why the other files of this lesson exist.

Dimensions: `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

import math

import torch
from torch import Tensor

from utils.errors import CourseError, run_program


def check_logits(logits: Tensor) -> None:
    """Check that every row of the logits (..., V) has a token that can be chosen.

    Raises CourseError for a row whose largest value is NaN, inf, or -inf (no token is allowed).
    """
    # The largest value is enough: filters set the others to -inf on purpose.
    best = logits.amax(dim=-1)  # (...); NaN if the row contains one
    # As Python's numbers: for so few, isfinite and all of PyTorch would take ten times as long.
    if all(map(math.isfinite, best.flatten().tolist())):
        return
    # The first bad row of a batch by its index; without a batch the index is empty.
    row = torch.isfinite(best).logical_not().nonzero()[0].tolist()
    where = f" in row {', '.join(map(str, row))}" if row else ""
    raise CourseError(
        f"the largest of the logits{where} is {best[tuple(row)].item()}; "
        "choosing a token needs at least one finite value and no NaN"
    )


def greedy(logits: Tensor) -> Tensor:
    """The id of the largest of the logits (..., V), as (...) int64; the lowest id if several tie.

    Raises CourseError for a row without a finite largest value.
    """
    check_logits(logits)  # argmax of a row with NaN would return its place, as if it were the best
    return logits.argmax(dim=-1)  # argmax_v logits[v]; of equal values PyTorch returns the first


def main() -> None:
    """Show which words are chosen, and that ties are always broken the same way."""
    words = ["cat", "dog", "owl", "bee"]
    rows = torch.tensor([[0.5, 2.0, 1.0, -1.0], [0.0, 1.5, 1.5, 0.0]])  # the second row has a tie
    print("logits of   " + "".join(f"{word:>7}" for word in words))
    for logits, choice in zip(rows, greedy(rows).tolist(), strict=True):
        print(" " * 12 + "".join(f"{value:7.1f}" for value in logits) + f"  -> {words[choice]}")
    print("dog and owl tie in the second row: the lower id is chosen, every time")


if __name__ == "__main__":
    run_program(main)
