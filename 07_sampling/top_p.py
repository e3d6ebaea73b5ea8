"""Top-p (nucleus) and min-p: the model's confidence decides how many tokens are kept.

    top-p:  the smallest set of most probable tokens whose probabilities sum to at least p
    min-p:  every token with at least min_p times the probability of the most probable one

A fixed k keeps too many tokens where the model is confident and too few where many could follow.
Both rules keep few in the first case and many in the second. Holtzman et al. 2020, section 3.1
(nucleus); Nguyen et al. 2024, "Turning Up the Heat" (min-p).

Dimensions: `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

import math

import torch
from torch import Tensor

from temperature import at_least_float32
from utils.errors import UsageError, run_program


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Keep the nucleus of each row of the logits (..., V), and set the others to -inf.

    The nucleus takes the most probable tokens until their probabilities sum to p or more; of equal
    logits, the lowest ids first. The best token is always kept, and p = 1 keeps all.
    Raises UsageError unless 0 < p <= 1.
    """
    if not 0 < p <= 1:
        raise UsageError(f"top-p {p} is out of range; give more than 0, at most 1 (keep all)")
    if p == 1:
        return logits
    ordered, ids = at_least_float32(logits).sort(dim=-1, descending=True, stable=True)
    mass = ordered.softmax(dim=-1).cumsum(dim=-1)  # of the best token, the best two, ...
    size = 1 + (mass < p).sum(dim=-1, keepdim=True)  # (..., 1), with the token that reaches p
    beyond = torch.arange(logits.size(-1), device=logits.device) >= size  # (..., V), by rank
    dropped = torch.empty_like(beyond).scatter(-1, ids, beyond)  # (..., V), by id
    return logits.masked_fill(dropped, -math.inf)


def min_p_filter(logits: Tensor, min_p: float) -> Tensor:
    """Keep the tokens of the logits (..., V) with at least min_p times the largest probability.

    The others become -inf. The best token is always kept, and min_p = 0 keeps all.
    Raises UsageError unless 0 <= min_p <= 1.
    """
    if not 0 <= min_p <= 1:
        raise UsageError(f"min-p {min_p} is out of range; give a number from 0 (keep all) to 1")
    probabilities = at_least_float32(logits).softmax(dim=-1)
    best = probabilities.amax(dim=-1, keepdim=True)  # (..., 1)
    return logits.masked_fill(probabilities < min_p * best, -math.inf)


def main() -> None:
    """Show how many tokens each rule keeps for a confident model and for an uncertain one."""
    confident = torch.tensor([6.0, 2.0, 1.0, 1.0, 0.0])
    uncertain = torch.tensor([1.2, 1.1, 1.0, 0.9, 0.8])
    for name, logits in (("confident", confident), ("uncertain", uncertain)):
        shares = " ".join(f"{p:.2f}" for p in logits.softmax(dim=-1))
        nucleus = int(top_p_filter(logits, 0.9).isfinite().sum())
        kept = int(min_p_filter(logits, 0.1).isfinite().sum())
        print(f"{name:>9}: {shares}   top-p 0.9 keeps {nucleus}, min-p 0.1 keeps {kept}")


if __name__ == "__main__":
    run_program(main)
