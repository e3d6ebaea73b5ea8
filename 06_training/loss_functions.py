"""How wrong are the predictions? Cross-entropy, and two ways to read it.

For logits z over V tokens, with the correct token y, the loss is the negative log-probability that
the model gave to y:

    loss = -log softmax(z)[y] = log sum_j exp(z_j) - z_y        in nats

exp overflows float32 above 88.7. But subtracting the same value from every logit changes nothing:
it cancels between the two terms. With the largest logit at 0, nothing overflows. That is the
log-sum-exp trick.

    perplexity      exp(loss)                        as uncertain as a uniform choice of this many
    bits per char   loss / log 2 / chars per token   comparable across tokenizers

A model that gives all tokens equal probability has loss log V: 4.174 for the 65 characters of Tiny
Shakespeare.

Dimensions: V vocabulary size, the last axis; any axes before it.
"""

import math

import torch
from torch import Tensor

from utils.errors import CourseError, run_program
from utils.shape_checker import check_shape


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int | None = None) -> Tensor:
    """Mean loss over all targets, in nats: logits (..., V), targets (...) int64.

    Targets equal to `ignore_index` do not count. Returns a scalar. Raises ShapeError if the shapes
    do not match, and CourseError if no targets are left.
    """
    check_shape(targets, tuple(logits.shape[:-1]), "targets")
    if ignore_index is not None:
        kept = targets != ignore_index
        logits = logits[kept]  # (n_kept, V)
        targets = targets[kept]  # (n_kept,)
    if targets.numel() == 0:
        raise CourseError(
            f"no targets are left to learn from (ignore_index is {ignore_index}); keep at least one"
        )
    return token_losses(logits, targets).mean()


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss at every position, -log softmax(logits) at its target: (...)."""
    # z - max z: the largest logit is now 0, so exp cannot overflow. The shift cancels from the
    # loss and therefore from its gradient, so the backward pass need not go through the maximum.
    shifted = logits - logits.detach().amax(dim=-1, keepdim=True)  # (..., V)
    # z_y: the logit of the correct token
    at_target = shifted.gather(-1, targets[..., None]).squeeze(-1)  # (...)
    # log sum_j exp(z_j): what turns logits into log-probabilities
    log_normalizer = shifted.exp().sum(dim=-1).log()  # (...)
    return log_normalizer - at_target


def perplexity(loss: float) -> float:
    """Return exp(loss), between 1 (certain and correct) and infinity."""
    try:
        return math.exp(loss)
    except OverflowError:  # above 709 nats, which a diverged run can reach
        return math.inf


def bits_per_char(loss: float, chars_per_token: float = 1.0) -> float:
    """Convert a loss in nats per token to bits per character."""
    bits_per_token = loss / math.log(2)  # 1 bit = log 2 nats
    return bits_per_token / chars_per_token


def main() -> None:
    """Show the loss of a model that is undecided, one that is correct, and two that are wrong."""
    target = torch.tensor([2])
    for name, logits in {
        "undecided": [0.0, 0.0, 0.0, 0.0],
        "correct": [0.0, 0.0, 5.0, 0.0],
        "wrong": [5.0, 0.0, 0.0, 0.0],
        "wrong and certain": [1000.0, 0.0, 0.0, 0.0],
    }.items():
        loss = cross_entropy(torch.tensor([logits]), target).item()
        bits = bits_per_char(loss)
        print(f"{name:17}  loss {loss:8.3f} nats = {bits:8.3f} bits", end=", ")
        print(f"perplexity {perplexity(loss):.4g}")


if __name__ == "__main__":
    run_program(main)
