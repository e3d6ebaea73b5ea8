"""Top-p (the nucleus) and min-p: let the model's confidence decide how many tokens stay.

    top-p:  the smallest set of best tokens whose probability together reaches p
    min-p:  every token with at least min_p times the probability of the best one

A fixed k is too many where the model is sure of the next token and too few where much could follow;
both rules keep few in the first case and many in the second. Holtzman et al. 2020, section 3.1
(nucleus); Nguyen et al. 2024, "Turning Up the Heat" (min-p).

Dimensions: `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

import math

import torch
from torch import Tensor

from temperature import at_least_float32
from utils.errors import UsageError, run_program


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Keep the nucleus of the logits (..., V), and set the others to -inf.

    The most probable tokens are taken until their probabilities sum to p or more; of equal logits
    the lowest ids go first. The best token always stays, p = 1 keeps all.
    Raises UsageError unless 0 < p <= 1.
    """
    if not 0 < p <= 1:
        raise UsageError(f"top-p {p} is out of range; give more than 0, at most 1 (keep all)")
    if p == 1:
        return logits
    ordered, ids = at_least_float32(logits).sort(dim=-1, descending=True, stable=True)
    mass = ordered.softmax(dim=-1).cumsum(dim=-1)  # of the best one, the best two, ...
    size = 1 + (mass < p).sum(dim=-1, keepdim=True)  # (..., 1): the one that reaches p is in
    beyond = torch.arange(logits.size(-1), device=logits.device) >= size  # by rank, (..., V)
    dropped = torch.empty_like(beyond).scatter(-1, ids, beyond)  # by id
    return logits.masked_fill(dropped, -math.inf)


def min_p_filter(logits: Tensor, min_p: float) -> Tensor:
    """Keep the ids of the logits (..., V) whose probability is at least min_p times the largest.

    The others become -inf. The best token always stays, min_p = 0 keeps all.
    Raises UsageError unless 0 <= min_p <= 1.
    """
    if not 0 <= min_p <= 1:
        raise UsageError(f"min-p {min_p} is out of range; give a number from 0 (keep all) to 1")
    probabilities = at_least_float32(logits).softmax(dim=-1)
    best = probabilities.amax(dim=-1, keepdim=True)
    return logits.masked_fill(probabilities < min_p * best, -math.inf)


def main() -> None:
    """Show how many tokens each rule keeps for a sure model and for an unsure one."""
    sure, unsure = torch.tensor([6.0, 2.0, 1.0, 1.0, 0.0]), torch.tensor([1.2, 1.1, 1.0, 0.9, 0.8])
    for name, logits in (("sure", sure), ("unsure", unsure)):
        shares = " ".join(f"{p:.2f}" for p in logits.softmax(dim=-1))
        nucleus = int(top_p_filter(logits, 0.9).isfinite().sum())
        kept = int(min_p_filter(logits, 0.1).isfinite().sum())
        print(f"{name:>6}: {shares}   top-p 0.9 keeps {nucleus}, min-p 0.1 keeps {kept}")


if __name__ == "__main__":
    run_program(main)
