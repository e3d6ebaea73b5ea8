"""Exercises of lesson 06: training. Replace each `raise` with your own code.

    python 06_training/exercises/exercises.py    check them all
    make watch                                   check on every save, one after the other
    make hint EX=6.2                             one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, the pages of the lesson why. Later exercises may use earlier ones. What a
function is given belongs to its caller: it returns something new, and changes nothing in place.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.grader.check import check_file

Pair = tuple[int, int]


def predict_losses() -> tuple[float, float, float, float]:
    """Exercise 6.1, a prediction: what does the loss say?

    Returns four numbers, to two decimals or better, computed by hand (a calculator is fine):

    1. the loss of a model that gives all of 65 characters the same probability, in nats;
    2. the loss of a model that gives the correct characters of four positions the probabilities
       1/2, 1/4, 1/8 and 1/2, in nats;
    3. the perplexity of the second model, from its loss before it is rounded;
    4. the loss of a model that is right and certain (probability 1) at nine positions of ten, and
       at the tenth gives the correct character a probability of 0.001, in nats.
    """
    raise NotImplementedError("Exercise 6.1: predict_losses")  # TODO: return your prediction


def cut_windows(tokens: Tensor, starts: Tensor, seq_len: int) -> tuple[Tensor, Tensor]:
    """Exercise 6.2: cut examples out of a text, each with the answers to it.

    tokens (n,) int64: the text. starts (B,) int64: where each window begins; all windows fit.

    Returns x (B, seq_len) and y (B, seq_len), int64: row b of x holds the seq_len tokens from
    starts[b] on, and y[b, t] is the token that follows x[b, t] in the text.
    """
    raise NotImplementedError("Exercise 6.2: cut_windows")  # TODO: your code here


def perplexity(loss: float) -> float:
    """Exercise 6.3: the size of a uniform choice that is as uncertain as a model of this loss.

    Returns e to the power of the loss, which is in nats; infinity (math.inf) where that is too
    large for a float.
    """
    raise NotImplementedError("Exercise 6.3: perplexity")  # TODO: your code here


def bits_per_char(loss: float, chars_per_token: float = 1.0) -> float:
    """Also exercise 6.3: a loss in nats per token, in bits per character.

    A token is chars_per_token characters long on average. Returns a float.
    """
    raise NotImplementedError("Exercise 6.3: bits_per_char")  # TODO: your code here


def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int | None = None) -> Tensor:
    """Exercise 6.4: how wrong are the predictions?

    logits (..., V), of any size, such as 1000 or -1000; targets (...) int64. The loss of a
    position is -log softmax(logits)[target], computed without an overflow.

    Returns the mean over all positions, a tensor without axes, in nats, of the dtype of logits.
    Positions whose target is ignore_index, which may be outside of 0 to V - 1, don't count; at
    least one position does. Gradients flow through it. Write it without F.cross_entropy,
    log_softmax and logsumexp.
    """
    raise NotImplementedError("Exercise 6.4: cross_entropy")  # TODO: your code here


def cross_entropy_backward(logits: Tensor, targets: Tensor) -> Tensor:
    """Exercise 6.5: the gradient of 6.4 with respect to the logits, by hand.

    logits (..., V), of any size, as in 6.4; targets (...) int64. The loss is the mean over all
    positions.

    Returns the gradient (..., V), of the dtype of logits, without autograd.
    """
    raise NotImplementedError("Exercise 6.5: cross_entropy_backward")  # TODO: your code here


def adamw_step(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor]:
    """Exercise 6.6: one step of AdamW for one parameter.

    weight, gradient, mean and square have the same shape. mean and square are the running means of
    the gradient and of its square as the last step left them, zeros before the first; step counts
    from 1.

    Returns (the new weight, the new mean, the new square), new tensors: what was given is not
    changed. mean and square are returned without their bias correction. The decay takes lr *
    weight_decay times the old weight from the weight. Write it without torch.optim.
    """
    raise NotImplementedError("Exercise 6.6: adamw_step")  # TODO: your code here


def warmup_cosine(step: int, *, max_steps: int, warmup_steps: int, min_ratio: float) -> float:
    """Exercise 6.7: the learning rate of a step, as a fraction of its peak.

    Steps count from 0 to max_steps - 1. In the warm-up, the first warmup_steps steps, the factor
    rises in equal parts, from 1 / warmup_steps at step 0 to 1 at step warmup_steps - 1. Then it
    falls along half a cosine, from that 1 to min_ratio at the very last step. Without a warm-up,
    step 0 has factor 1. 0 <= warmup_steps < max_steps, and 2 <= max_steps.
    """
    raise NotImplementedError("Exercise 6.7: warmup_cosine")  # TODO: your code here


def warmup_stable_decay(
    step: int, *, max_steps: int, warmup_steps: int, decay_steps: int, min_ratio: float
) -> float:
    """Exercise 6.8: the same, with a factor that stays at 1 and falls late.

    The warm-up is that of 6.7. Then the factor is 1, and over the last decay_steps steps it falls
    in equal parts, from 1 just before them to min_ratio at the last step. With decay_steps 0 it
    never falls. warmup_steps + decay_steps <= max_steps, and decay_steps < max_steps.
    """
    raise NotImplementedError("Exercise 6.8: warmup_stable_decay")  # TODO: your code here


def clip_gradients(gradients: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], float]:
    """Exercise 6.9: limit the length of a step without changing its direction.

    gradients: one tensor per parameter, of any shapes. Their norm is that of all their entries
    together. If it is above max_norm, all are multiplied by one factor that makes it max_norm;
    otherwise they stay as they are, and may be returned themselves. A max_norm of 0 means no limit.

    Returns (the list of gradients, their norm before the clipping). What was given is not changed.
    """
    raise NotImplementedError("Exercise 6.9: clip_gradients")  # TODO: your code here


def accumulated_step(
    weight: Tensor, micro_batches: Sequence[tuple[Tensor, Tensor]], lr: float
) -> Tensor:
    """Exercise 6.10, a repair: one step on a batch that is too large for the memory.

    The batch comes in micro-batches (x, y): x (n, d_model) are features, y (n,) the targets. n is 1
    or more, and may differ from one micro-batch to the next. The logits are x times weight (V,
    d_model) transposed. (Joining them all with torch.cat passes, and needs all the memory again.)

    Returns the weight after one step of SGD on the mean loss over all targets of all micro-batches,
    as if they had come in one. The code below the raise has one mistake. Delete the raise line,
    find the mistake, repair it.
    """
    raise NotImplementedError("Exercise 6.10: accumulated_step")  # TODO: delete, then repair
    weight = weight.detach().clone().requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=lr)
    optimizer.zero_grad()
    for x, y in micro_batches:
        loss = F.cross_entropy(x @ weight.mT, y)
        share = loss / len(micro_batches)
        share.backward()
    optimizer.step()
    return weight.detach()


def read_sick_curves() -> dict[str, str]:
    """Exercise 6.11, reading: which bug made which curve?

    The picture 06_training/pictures/sick_curves.png (it is in reading_curves.md too) shows eight
    training runs, A to H, next to a sound one.

    Returns the letter of each bug: {"softmax before the loss": ..., "targets not shifted": ...,
    "gradients never zeroed": ..., "schedule too short": ..., "optimizer holds another model": ...,
    "one source after the other": ..., "too little text": ..., "validation text has its own
    vocabulary": ...}, each "A" to "H".
    """
    raise NotImplementedError("Exercise 6.11: read_sick_curves")  # TODO: return your answer


def count_pairs(words: Mapping[tuple[int, ...], int]) -> Counter[Pair]:
    """Exercise 6.12: which two tokens stand next to each other most often?

    words: each different word of a text, as a tuple of token ids, and how often the text has it.

    Returns how often each pair of neighbours occurs in the text: {(left, right): count}. Every
    position counts, so a word (7, 7, 7) holds the pair (7, 7) twice. No pair reaches from one word
    into the next, and a pair that never occurs is not listed.
    """
    raise NotImplementedError("Exercise 6.12: count_pairs")  # TODO: your code here


def merge_pair(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Also exercise 6.12: replace every occurrence of a pair by one new token.

    Goes from left to right, and a token belongs to one pair only: merge_pair([7, 7, 7], (7, 7), 9)
    is [9, 7]. Returns a new list; ids is not changed.
    """
    raise NotImplementedError("Exercise 6.12: merge_pair")  # TODO: your code here


def apply_merges(ids: Sequence[int], new_ids: Mapping[Pair, int]) -> list[int]:
    """Exercise 6.13, a challenge: encode one word with merges that were learned.

    ids: the word as the ids of its bytes. new_ids: for each merge, the pair and the id that
    replaces it, {(left, right): new id}; merges that were learned earlier have lower new ids.

    Repeats, until no pair of neighbours is in new_ids: of the pairs that are there, take the one
    with the lowest new id, and merge all its occurrences, from left to right.

    Returns the tokens of the word, a new list. May use 6.12.
    """
    raise NotImplementedError("Exercise 6.13: apply_merges")  # TODO: your code here


def newton_schulz(update: Tensor, steps: int = 5) -> Tensor:
    """Exercise 6.14, a challenge: bring all singular values of a matrix close to 1.

    update (..., m, n), no matrix of it (almost) zero. X starts as update / its Frobenius norm, the
    root of the sum of its squared entries. Each of the steps replaces X by

        a X + b (X X^T) X + c (X X^T) (X X^T) X     with a = 3.4445, b = -4.7750, c = 2.0315

    Returns the last X, of the shape and dtype of update. Each matrix has a norm of its own. (For m
    > n the same comes out, up to rounding, with X^T X on the right of X, which is the smaller one.)
    """
    raise NotImplementedError("Exercise 6.14: newton_schulz")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)
