"""Beam search: follow the K best sequences at once, instead of the best token at each step.

    score(tokens) = sum_t log p(token_t | tokens before t) / length^length_penalty

Greedy decoding cannot take a less probable token now for a much more probable one next. Beam
search keeps K candidates (beams), extends each by every token, and keeps the K best extensions.
With K = 1 it is greedy decoding; with K as large as the number of sequences, exhaustive search.
Lowerre 1976, "The Harpy Speech Recognition System"; Wu et al. 2016, section 7, has a length penalty
of another form. The most probable text is not the most human one: for open-ended writing, sampling
is better (Holtzman et al. 2020).

This file is the algorithm alone, for one prompt and any function as the model. beam_decoder.py is
the same with batches and a cache of keys and values.

Dimensions: K beams, V vocabulary.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from greedy import check_logits
from temperature import at_least_float32
from utils.errors import UsageError, run_program

NextLogits = Callable[[list[list[int]]], Tensor]  # sequences -> logits (sequences, V) of the next
HasEnded = Callable[[Sequence[int]], bool]  # the new tokens of a sequence -> is it complete?


@dataclass(frozen=True)
class Hypothesis:
    """One candidate: its new tokens, and the logarithm of their probability."""

    tokens: tuple[int, ...]  # without the prompt; with the end token, if it has ended
    log_prob: float  # the sum over its tokens
    ended: bool = False

    def score(self, length_penalty: float) -> float:
        """What hypotheses of different lengths are compared by."""
        return length_normalized(self.log_prob, len(self.tokens), length_penalty)


def never_ends(tokens: Sequence[int]) -> bool:
    """Every text is continued up to the limit."""
    return False


def ends_with(end_tokens: Collection[int]) -> HasEnded:
    """A sequence is complete when its last token is one of these."""
    return lambda tokens: tokens[-1] in end_tokens


def length_normalized(log_prob: float, length: int, length_penalty: float) -> float:
    """log_prob / length^length_penalty: with 0 the sum, with 1 the mean per token.

    Each token adds a negative number, so the plain sum favours short texts; the larger the penalty,
    the more it favours long ones. Nothing is divided for length 0.
    """
    return log_prob / max(length, 1) ** length_penalty


def best_extensions(
    log_probs: Tensor, next_log_probs: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The n best of all K * V extensions of K beams by one token.

    log_probs (K,) of the beams, next_log_probs (K, V) of the token after each -> log_probs, parents
    and tokens, each (n,), best first; of equal ones, the lowest parent and then the lowest token.
    """
    V = next_log_probs.size(-1)
    sums = (log_probs[:, None] + next_log_probs).flatten()  # (K * V,): log p(beam) + log p(token)
    order = sums.argsort(descending=True, stable=True)[:n]  # (n,)
    return sums[order], order // V, order % V


def beam_search(
    next_logits: NextLogits,
    prompt: Sequence[int],
    n_beams: int,
    max_tokens: int,
    has_ended: HasEnded = never_ends,
    length_penalty: float = 1.0,
) -> list[Hypothesis]:
    """Search for the continuation with the best score; the beams at the end, best first.

    A hypothesis that has ended keeps its place for as long as it is among the best. The search ends
    when all have ended, or after max_tokens. Raises UsageError for n_beams < 1.
    """
    check_n_beams(n_beams)
    beams = [Hypothesis((), 0.0)]
    for _ in range(max_tokens):
        live = live_beams(beams)
        if not live:
            break
        logits = next_logits([[*prompt, *beam.tokens] for beam in live])  # (live, V)
        beams, _ = next_beams(beams, logits, n_beams, has_ended, length_penalty)
    return beams


def live_beams(beams: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Those that have not ended: the ones that are extended."""
    return [beam for beam in beams if not beam.ended]


def next_beams(
    beams: Sequence[Hypothesis],
    logits: Tensor,
    n_beams: int,
    has_ended: HasEnded,
    length_penalty: float,
) -> tuple[list[Hypothesis], list[int]]:
    """One step: the best n_beams of the ended beams and of all extensions of the live ones.

    logits (live, V) of the token after each live beam. Returns the new beams, best first, and for
    each live one among them the index of its parent among the live beams before.
    """
    live = live_beams(beams)
    check_logits(logits)
    next_log_probs = at_least_float32(logits).log_softmax(dim=-1).cpu().double()
    log_probs = torch.tensor([beam.log_prob for beam in live], dtype=torch.float64)
    best = best_extensions(log_probs, next_log_probs, n_beams)
    candidates = [(beam, -1) for beam in beams if beam.ended]  # unchanged
    for log_prob, parent, token in zip(*(x.tolist() for x in best), strict=True):
        if log_prob > -math.inf:  # a token of probability 0 is not an extension
            tokens = (*live[parent].tokens, token)
            candidates.append((Hypothesis(tokens, log_prob, has_ended(tokens)), parent))
    # sorted() is stable: of equal scores, the earlier candidate stays.
    ranked = sorted(candidates, key=lambda pair: pair[0].score(length_penalty), reverse=True)
    kept = ranked[:n_beams]
    return [beam for beam, _ in kept], [parent for beam, parent in kept if not beam.ended]


def check_n_beams(n_beams: int) -> None:
    """Raise UsageError unless there is at least one beam."""
    if n_beams < 1:
        raise UsageError(f"{n_beams} beams would keep nothing; give 1 (greedy) or more")


def main() -> None:
    """A model for which the best first word leads to a worse pair of words."""
    words = ["the", "dog", "cat", "has"]
    first = torch.tensor([0.5, 0.4, 0.05, 0.05])
    second = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.0, 0.05, 0.05, 0.9], [0.25] * 4, [0.25] * 4])

    def next_logits(sequences: list[list[int]]) -> Tensor:
        rows = [second[tokens[-1]] if tokens else first for tokens in sequences]
        return torch.stack(rows).log()

    for n_beams in (1, 2):
        for beam in beam_search(next_logits, [], n_beams, max_tokens=2):
            text = " ".join(words[token] for token in beam.tokens)
            print(f"n_beams = {n_beams}   {text}   p = {math.exp(beam.log_prob):.2f}")


if __name__ == "__main__":
    run_program(main)
