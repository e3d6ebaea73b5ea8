"""How wrong was the model? Cross-entropy, and the two ways people like to read it.

For logits z over V tokens, of which y is the right one, the loss is how surprised the model was:

    loss = -log softmax(z)[y] = log sum_j exp(z_j) - z_y        in nats

exp overflows float32 above 88.7. But taking the same number from every logit changes nothing, and
with the largest at 0 nothing overflows: that is the log-sum-exp trick.

    perplexity      exp(loss)                        choosing fairly among so many tokens is as hard
    bits per char   loss / ln 2 / chars per token    comparable across tokenizers

A model that knows nothing loses log V: 4.174 for the 65 characters of Tiny Shakespeare.

Dimensions: V tokens in the vocabulary, the last axis; any axes before it.
"""

import math

import torch
from torch import Tensor

from utils.errors import CourseError, run_program
from utils.shape_checker import check_shape


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int | None = None) -> Tensor:
    """Average the surprise at every target, in nats: logits (..., V), targets (...) int64.

    Targets equal to `ignore_index` do not count. Returns a scalar. Raises ShapeError if the shapes
    do not fit, and CourseError if no target is left.
    """
    check_shape(targets, tuple(logits.shape[:-1]), "targets")
    if ignore_index is not None:
        kept = targets != ignore_index
        logits, targets = logits[kept], targets[kept]  # (n_kept, V), (n_kept,)
    if targets.numel() == 0:
        raise CourseError(f"no target is left to learn from (ignore_index is {ignore_index})")
    return surprise(logits, targets).mean()


def surprise(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -log softmax(logits) at the targets, (...): the loss of every position by itself."""
    shifted = logits - logits.detach().amax(dim=-1, keepdim=True)  # the largest is now 0
    at_target = shifted.gather(-1, targets[..., None]).squeeze(-1)
    return shifted.exp().sum(dim=-1).log() - at_target


def perplexity(loss: float) -> float:
    """Return exp(loss), between 1 (certain and right) and infinity."""
    try:
        return math.exp(loss)
    except OverflowError:  # beyond 709 nats, where a run that diverged may well be
        return math.inf


def bits_per_char(loss: float, chars_per_token: float = 1.0) -> float:
    """Turn a loss in nats per token into bits per character."""
    return loss / math.log(2) / chars_per_token


def main() -> None:
    """Show the loss of a model that knows nothing, one that is right, and one that is wrong."""
    target = torch.tensor([2])
    for name, logits in {
        "knows nothing": [0.0, 0.0, 0.0, 0.0],
        "right": [0.0, 0.0, 5.0, 0.0],
        "wrong": [5.0, 0.0, 0.0, 0.0],
        "wrong and sure": [1000.0, 0.0, 0.0, 0.0],
    }.items():
        loss = cross_entropy(torch.tensor([logits]), target).item()
        bits, choices = bits_per_char(loss), perplexity(loss)
        print(f"{name:14}  loss {loss:8.3f} nats = {bits:8.3f} bits, perplexity {choices:.4g}")


if __name__ == "__main__":
    run_program(main)
