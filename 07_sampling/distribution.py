"""The distribution that a token is drawn from: all settings, applied in order.

    logits -> penalties -> temperature -> top-k -> top-p -> min-p -> softmax

The order matters. Penalties change the logits as the model gave them. Temperature comes before
top-p and min-p, which look at the probabilities that it changes. Hugging Face's generate() has the
same order.

Dimensions: `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from penalties import (
    TokenCounts,
    apply_frequency_penalty,
    apply_presence_penalty,
    apply_repetition_penalty,
    token_counts,
)
from temperature import apply_temperature, at_least_float32
from top_k import top_k_filter
from top_p import min_p_filter, top_p_filter
from utils.config import SampleConfig
from utils.errors import run_program


def has_penalties(sampling: SampleConfig) -> bool:
    """Whether the distribution depends on the tokens that occurred before."""
    return (
        sampling.repetition_penalty != 1
        or sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
    )


def process_logits(
    logits: Tensor, sampling: SampleConfig, counts: TokenCounts | None = None
) -> Tensor:
    """The logits (..., V) after penalties, temperature and filters; what is excluded is -inf.

    Half precision comes back as float32. Penalties need the counts of the tokens before; raises
    ValueError without them.
    """
    if has_penalties(sampling):
        if counts is None:
            raise ValueError("penalties need the counts of the tokens that have occurred")
        logits = apply_penalties(logits, sampling, counts)  # first: on the logits of the model
    logits = apply_temperature(logits, sampling.temperature)  # (..., V)
    # Each filter sets what it excludes to -inf, so the next one sees what is left, as if the
    # excluded tokens did not exist: top-p sums to p within the k that top-k has kept.
    if sampling.top_k is not None:
        logits = top_k_filter(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = top_p_filter(logits, sampling.top_p)
    if sampling.min_p is not None:
        logits = min_p_filter(logits, sampling.min_p)
    return logits


def apply_penalties(logits: Tensor, sampling: SampleConfig, counts: TokenCounts) -> Tensor:
    """The logits (B, V) after the penalties that the settings ask for."""
    if sampling.repetition_penalty != 1:
        occurred = counts.prompt + counts.new  # the prompt's tokens as well, as in CTRL
        logits = apply_repetition_penalty(logits, occurred, sampling.repetition_penalty)
    if sampling.presence_penalty != 0:
        logits = apply_presence_penalty(logits, counts.new, sampling.presence_penalty)
    if sampling.frequency_penalty != 0:
        logits = apply_frequency_penalty(logits, counts.new, sampling.frequency_penalty)
    return logits


def next_distribution(
    logits: Tensor, sampling: SampleConfig, counts: TokenCounts | None = None
) -> Tensor:
    """The probabilities (..., V) that a token is drawn from; one-hot at temperature 0."""
    # exp(-inf) = 0: what was filtered has probability 0, and the rest is normalized to 1.
    return at_least_float32(process_logits(logits, sampling, counts)).softmax(dim=-1)


def distribution_after(
    prompt: Sequence[int], sampling: SampleConfig
) -> Callable[[Tensor, Sequence[Sequence[int]]], Tensor]:
    """`next_distribution` at several positions of one text, for speculative.py.

    The function takes logits (n, V) and the new tokens before each of the n positions.
    """

    def distribution(logits: Tensor, befores: Sequence[Sequence[int]]) -> Tensor:
        logits = logits.float().cpu()  # the acceptance rule divides probabilities: full precision
        counts = None
        if has_penalties(sampling):
            of_prompt = token_counts([prompt], logits.size(-1)).expand_as(logits)
            # Position i of a draft comes after i drafted tokens: each row has counts of its own.
            counts = TokenCounts(of_prompt, token_counts(befores, logits.size(-1)))
        return next_distribution(logits, sampling, counts)

    return distribution


def main() -> None:
    """Show what each setting leaves of a distribution over five words."""
    words = ["cat", "dog", "owl", "bee", "ant"]
    logits = torch.tensor([0.40, 0.30, 0.15, 0.10, 0.05]).log()  # softmax(log p) = p
    settings: tuple[dict[str, Any], ...] = (
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 1.0, "top_k": 2},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 2.0, "top_p": 0.8},
        {"temperature": 1.0, "min_p": 0.3},
        {"temperature": 0.0},
    )
    print(" " * 16 + "".join(f"{word:>7}" for word in words))
    for changes in settings:
        probabilities = next_distribution(logits, SampleConfig(**changes))
        name = " ".join(f"{name.replace('temperature', 't')}={x:g}" for name, x in changes.items())
        print(f"{name:16}" + "".join(f"{p:7.3f}" for p in probabilities.tolist()))


if __name__ == "__main__":
    run_program(main)
