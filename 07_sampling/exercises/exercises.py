"""Exercises of lesson 07: sampling. Replace each `raise` with your own code.

    python 07_sampling/exercises/exercises.py    check them all
    make watch                                   check on every save, one after the other
    make hint EX=7.2                             one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md, kv_cache.md, beam_search.md and speculative.md why. Later exercises
may use earlier ones. No function may change what it is given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.grader.check import check_file


def predict_distribution() -> tuple[float, float, float, float]:
    """Exercise 7.1, a prediction: what does a temperature do to four probabilities?

    At temperature 1, four tokens have the probabilities 1/2, 1/4, 1/8 and 1/8.

    Returns four numbers, to two decimals or better, computed by hand (a calculator is fine):

    1. their entropy, in bits;
    2. the probability of the first token at temperature 1/2;
    3. its probability at temperature 2;
    4. the entropy, in bits, that the four approach as the temperature grows without end.
    """
    raise NotImplementedError("Exercise 7.1: predict_distribution")  # TODO: return your prediction


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Exercise 7.2: sharpen or flatten the distribution that the logits stand for.

    logits (..., V), floating point, some may be -inf; temperature is a finite number, 0 or more.

    Returns (..., V): the logits divided by the temperature. At 0 the largest logit of each row
    stays as it is (of equal ones, that with the lowest id), and all others become -inf. Half
    precision, float16 or bfloat16, comes back as float32, and is converted before the division;
    other dtypes stay.
    """
    raise NotImplementedError("Exercise 7.2: apply_temperature")  # TODO: your code here


def sample_inverse_cdf(logits: Tensor, uniform: Tensor) -> Tensor:
    """Exercise 7.3: draw a token, given a random number from 0 to 1.

    logits (..., V) and uniform (...), one number u per row, 0 <= u < 1, are float32. Lay the
    probabilities p_0, p_1, ..., the softmax of the row, end to end from 0 to 1: the token is the
    one on whose piece u falls, p_0 + ... + p_(v-1) <= u < p_0 + ... + p_v. Rounding can make all
    of them sum to a little less than 1, and u can be larger still: then it is the last token whose
    probability is not 0. A token whose logit is -inf is never drawn.

    Returns the ids (...) int64.
    """
    raise NotImplementedError("Exercise 7.3: sample_inverse_cdf")  # TODO: your code here


def sample_gumbel(logits: Tensor, uniform: Tensor) -> Tensor:
    """Exercise 7.4: draw a token by adding noise and taking the largest.

    logits (..., V) and uniform (..., V), one number u per token, 0 < u < 1, are float32. The noise
    of a token is -log(-log(u)).

    Returns the id of the largest sum of logit and noise in each row, (...) int64. A token whose
    logit is -inf is never drawn.
    """
    raise NotImplementedError("Exercise 7.4: sample_gumbel")  # TODO: your code here


def top_k_filter(logits: Tensor, k: int | None) -> Tensor:
    """Exercise 7.5: keep the k largest logits of each row, and set the others to -inf.

    logits (..., V), some may be -inf. Exactly k are kept: of equal logits, those with the lowest
    ids. k is 1 or more; k = None, or a k of at least V, keeps all. Returns (..., V) of the same
    dtype.
    """
    raise NotImplementedError("Exercise 7.5: top_k_filter")  # TODO: your code here


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Exercise 7.6: keep the nucleus of each row, and set the others to -inf.

    logits (..., V), 0 < p <= 1. The nucleus takes the most probable tokens, one after the other,
    until their probabilities sum to p or more; of equal logits, the lowest ids first. If rounding
    keeps the sum of all below p, all stay. p = 1 keeps all, even those whose probability is too
    small for the dtype. Returns (..., V) of the dtype of logits; the probabilities of half
    precision are computed in float32.
    """
    raise NotImplementedError("Exercise 7.6: top_p_filter")  # TODO: your code here


def min_p_filter(logits: Tensor, min_p: float) -> Tensor:
    """Exercise 7.7: keep the tokens with at least min_p times the largest probability.

    logits (..., V), 0 <= min_p <= 1. The others become -inf. Returns (..., V) of the dtype of
    logits; the probabilities of half precision are computed in float32.
    """
    raise NotImplementedError("Exercise 7.7: min_p_filter")  # TODO: your code here


def read_strategies() -> dict[str, str]:
    """Exercise 7.8, reading: which rule made which distribution?

    The picture 07_sampling/pictures/which_rule.png (it is in theory.md too) shows two positions of
    a text, one above the other, in six columns. Outlined bars are the probabilities that the model
    gave, the same in every column; filled bars are those of the tokens after one rule.

    Returns the letter of each rule: {"greedy": ..., "temperature 0.5": ..., "temperature 2": ...,
    "top-k 4": ..., "top-p 0.8": ..., "min-p 0.2": ...}, each "A" to "F".
    """
    raise NotImplementedError("Exercise 7.8: read_strategies")  # TODO: return your answer


def apply_repetition_penalty(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Exercise 7.9: make the tokens that a text holds already less probable.

    logits (..., V); counts (..., V) int64, how often each token occurs in the text; penalty is a
    finite number above 0, usually a little above 1. Of a token that occurs, however often, a
    positive logit is divided by the penalty, and a negative one is multiplied by it.

    Returns new logits (..., V). Half precision comes back as float32, other dtypes stay; so does
    -inf.
    """
    raise NotImplementedError("Exercise 7.9: apply_repetition_penalty")  # TODO: your code here


def apply_frequency_penalty(logits: Tensor, counts: Tensor, penalty: float) -> Tensor:
    """Also exercise 7.9: subtract the penalty from a logit once for each time its token occurs.

    Shapes and dtypes as above; any finite penalty.
    """
    raise NotImplementedError("Exercise 7.9: apply_frequency_penalty")  # TODO: your code here


def next_token_logits(
    model: Callable[[Tensor], Tensor], prompts: Sequence[Sequence[int]]
) -> Tensor:
    """Exercise 7.10, a repair: several prompts of different lengths, in one batch.

    model takes tokens (B, T) int64 and returns logits (B, T, V); its attention is causal, so no
    position sees a later one. It is called once, with all prompts: B lists of at least one token
    each.

    Returns (B, V): for each prompt, the logits of the token that follows it. The code below the
    raise has one mistake. Delete the raise line, find the mistake, repair it.
    """
    raise NotImplementedError("Exercise 7.10: next_token_logits")  # TODO: delete, then repair
    lengths = [len(prompt) for prompt in prompts]
    padded = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    logits = model(padded)
    return logits[:, -1]


def feed_stop(held_back: str, piece: str, stop: str) -> tuple[str, str, bool]:
    """Exercise 7.11: show text as it arrives, but nothing of the stop string.

    held_back: what earlier calls did not show yet; piece: the text that has just arrived, of any
    length; stop: the stop string, at least one character.

    Returns (shown, held_back, finished). If the stop string is complete, shown is the text before
    its first character, nothing is held back, and finished is True. Otherwise as much as possible
    is shown: only the longest end of the text with which the stop string could begin is held back.
    """
    raise NotImplementedError("Exercise 7.11: feed_stop")  # TODO: your code here


def cache_positions(lengths: Tensor, T: int) -> Tensor:
    """Exercise 7.12: the positions of T new tokens per row.

    lengths (B,) int64: how many tokens each row of the cache holds already.

    Returns (B, T) int64: the positions of the T tokens that come next in each row, from 0.
    """
    raise NotImplementedError("Exercise 7.12: cache_positions")  # TODO: your code here


def write_cache(cache: Tensor, new: Tensor, lengths: Tensor) -> Tensor:
    """Also exercise 7.12: put the keys of new tokens into their places.

    cache (B, n_heads, max_len, d_head); new (B, n_heads, T, d_head), the keys (or values) of the
    next T tokens of each row; lengths (B,) int64, how many tokens each row holds. All new tokens
    fit. Rows may have different lengths.

    Returns a new cache of the same shape, in which all other places are as they were; what was
    given is not changed.
    """
    raise NotImplementedError("Exercise 7.12: write_cache")  # TODO: your code here


def window_start(length: int, context: int) -> int:
    """Exercise 7.13: which part of a long text does the model see?

    A text of `length` tokens, and a model that can attend to `context` of them. As long as the
    text fits, the window starts at 0. Then its start jumps: each jump is half a context, rounded
    up, and there are as many jumps as are needed for the rest of the text to fit.

    Returns the index of the window's first token.
    """
    raise NotImplementedError("Exercise 7.13: window_start")  # TODO: your code here


# --- for 7.14: what a search returns, and by what its texts are compared ---

NextLogits = Callable[[list[list[int]]], Tensor]  # sequences -> logits (sequences, V)
HasEnded = Callable[[Sequence[int]], bool]  # the new tokens of a text -> is it complete?


@dataclass(frozen=True)
class Hypothesis:
    """One text of a beam search."""

    tokens: tuple[int, ...]  # the new ones, without the prompt
    log_prob: float  # the sum over the new tokens
    ended: bool = False


def length_normalized(log_prob: float, length: int, length_penalty: float) -> float:
    """By what texts are compared: 0 is the plain sum, 1 the mean per token."""
    return log_prob / max(length, 1) ** length_penalty


def never_ends(tokens: Sequence[int]) -> bool:
    """The default of has_ended."""
    return False


def best_extensions(
    log_probs: Tensor, next_log_probs: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Exercise 7.14, a challenge: the best continuations of several texts at once.

    log_probs (K,): the log-probabilities of K texts so far; next_log_probs (K, V): of each possible
    next token of each text. A text and one more token have the sum of both.

    Returns (log_probs (n,) of the same dtype, parents (n,) int64, tokens (n,) int64): of the K V
    sums the n best, the best first; which text each one continues, and with which token. Of equal
    sums, the one of the lower parent comes first, and of one parent that of the lower token. If n
    is more than K V, all are returned.
    """
    raise NotImplementedError("Exercise 7.14: best_extensions")  # TODO: your code here


def beam_search(
    next_logits: NextLogits,
    prompt: Sequence[int],
    n_beams: int,
    max_tokens: int,
    has_ended: HasEnded = never_ends,
    length_penalty: float = 1.0,
) -> list[Hypothesis]:
    """Also exercise 7.14: search for the most probable continuation of a prompt.

    next_logits takes sequences, a list of lists of tokens (prompt included), and returns logits
    (rows, V) of the token after each; has_ended takes the new tokens of a text, one or more, and
    says whether it is complete.

    Begin with one hypothesis without new tokens, whose log_prob is 0. In each step, the candidates
    are all the extensions, by one token, of the hypotheses that have not ended; and those that
    have, as they are. The n_beams candidates with the largest length_normalized(log_prob, number of
    new tokens, length_penalty) stay, of equal ones any. Stop when all have ended, or after
    max_tokens steps.

    Returns the hypotheses that stayed, the best first: Hypothesis(tokens, log_prob, ended), where
    tokens is a tuple of the new tokens, and log_prob the sum of their log-probabilities, a float.
    """
    raise NotImplementedError("Exercise 7.14: beam_search")  # TODO: your code here


def residual_distribution(p: Tensor, q: Tensor) -> Tensor:
    """Exercise 7.15, a challenge: what is left of p when q has had its share?

    p (..., V) and q (..., V): probabilities. Returns (..., V): max(0, p - q), divided by its sum
    over the last axis; and p itself in rows where p is nowhere above q.
    """
    raise NotImplementedError("Exercise 7.15: residual_distribution")  # TODO: your code here


def accept_drafted(drafted: Tensor, q: Tensor, p: Tensor, uniform: Tensor) -> tuple[int, Tensor]:
    """Also exercise 7.15: which of the tokens that a small model drafted does a large one accept?

    drafted (n,) int64: the tokens, one or more; q (n, V): the distributions that the small model
    drew them from, so none of them has q(x) = 0;
    p (n + 1, V): those of the large model, for the same positions and the one after; uniform (n,):
    random numbers, 0 <= u < 1. With its own q, p and u, a token x is accepted if u < p(x) / q(x).
    At the first that is not, all later ones are dropped.

    Returns (how many were accepted, the distribution (V,) that one more token is drawn from): after
    a rejection the residual distribution of that position; if all were accepted, the last row of p.
    """
    raise NotImplementedError("Exercise 7.15: accept_drafted")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)
