"""Exercises of lesson 09: the capstone. Replace each `raise` with your own code.

    python 09_capstone/exercises/exercises.py    check them all
    make watch                                   check on every save, one after the other
    make hint EX=9.2                             one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md why; for 9.10 to 9.16 that is post_training/theory.md. Those before
are tools for the project: use yours on your own model and its texts. Later exercises may use
earlier ones.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from utils.errors import did_you_mean
from utils.grader.check import check_file

Config = Mapping[str, Any]  # the fields of a configuration, by name


def predict_floor() -> tuple[float, float, float, float]:
    """Exercise 9.1, a prediction: how far is a model from the floor?

    A model of the mock plays has tokens that are 2.5 characters long on average, and a validation
    loss of 1.50 nats per token. The entropy of the plays is 0.6266 bits per character.

    Returns four numbers, correct to 0.001, with a pocket calculator:

    1. the model's loss in bits per character;
    2. how many bits per character it is above the floor;
    3. its perplexity per character;
    4. the share of the way that it has gone, in bits per character: 0 would be a uniform guess
       among 65 characters (an alphabet like Tiny Shakespeare's, not the theory's 57), 1 the floor.
    """
    raise NotImplementedError("Exercise 9.1: predict_floor")  # TODO: return your prediction


def loss_by_group(losses: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """Exercise 9.2: where does the loss come from?

    losses, of any shape, float32: the loss of each target, in nats. groups, of the same shape,
    int64: to which group it belongs, 0 to n_groups - 1; -1 if it doesn't count, and its loss may
    be nan or inf. A group may be the place in the window, or the character to be predicted.

    Returns (n_groups,) float32: the mean loss of each group; nan for one without targets.
    """
    raise NotImplementedError("Exercise 9.2: loss_by_group")  # TODO: your code here


def fit_power_law(
    sizes: Sequence[float], losses: Sequence[float], lowest: float
) -> tuple[float, float]:
    """Exercise 9.3: fit losses = lowest + a sizes^-alpha.

    sizes: two or more, at least two of them different. losses: one per size, all above lowest.

    Returns (a, alpha), for which the squared errors in the logarithm of losses - lowest are as
    small as possible.
    """
    raise NotImplementedError("Exercise 9.3: fit_power_law")  # TODO: your code here


def predicted_loss(size: float, lowest: float, a: float, alpha: float) -> float:
    """Also exercise 9.3: the loss that such a law predicts for another size."""
    raise NotImplementedError("Exercise 9.3: predicted_loss")  # TODO: your code here


def train_keeping_best(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Sequence[tuple[Tensor, Tensor]],
    val: tuple[Tensor, Tensor],
    eval_every: int,
) -> tuple[float, int]:
    """Exercise 9.4, a repair: keep the model that was best on the validation data.

    batches: inputs x (B, d_in) and targets y (B,) int64 of one step each; model(x) are logits
    (B, V). val: x and y for validation.

    Trains the model in place, one step per batch, with dropout. The validation loss is measured
    after every eval_every-th step, the first of which is step eval_every, and after the last one,
    without dropout. At the end the model has the weights and buffers with which that loss was
    lowest, the first of equal ones; the mode may be either. Returns (that loss, its step, counted
    from 1). The code below the raise has one mistake. Delete the raise line, find the mistake,
    repair it.
    """
    raise NotImplementedError("Exercise 9.4: train_keeping_best")  # TODO: delete, then repair
    best_loss, best_step, best_weights = math.inf, 0, {}
    for step, (x, y) in enumerate(batches, start=1):
        model.train()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % eval_every == 0 or step == len(batches):
            model.eval()
            with torch.no_grad():
                loss = F.cross_entropy(model(val[0]), val[1]).item()
            if loss < best_loss:
                best_loss, best_step = loss, step
                best_weights = model.state_dict()
    model.load_state_dict(best_weights)
    return best_loss, best_step


def ablate(
    train: Callable[[Config, int], float],
    base: Config,
    changes: Mapping[str, Config],
    seeds: Sequence[int],
) -> dict[str, tuple[float, float]]:
    """Exercise 9.5: what does each change do to the loss, and how sure is that?

    train(config, seed) trains a model and returns its loss; config is a whole configuration, as
    base is. changes: by name, the fields that differ from base, with their new values. seeds: one
    or more, all different. base and changes stay as they are.

    Returns for each name (mean, standard error) of the differences: for each seed, the loss with
    the change minus the loss of base with the same seed. The standard error is their standard
    deviation, with n - 1 below, divided by the root of n; with one seed it is math.nan.

    Trainings are expensive: base is trained once per seed, and so is each change. Before anything
    is trained, a ValueError names a field of a change that base doesn't have.
    """
    raise NotImplementedError("Exercise 9.5: ablate")  # TODO: your code here


def read_texts() -> dict[str, str]:
    """Exercise 9.6, reading: which text comes from which model?

    The picture 09_capstone/pictures/texts_by_loss.png (it is in theory.md too) shows six texts, A
    to F, by models of Tiny Shakespeare. Five come from the laptop preset, at the validation losses
    named here; the sixth was drawn from a table of which character follows which, lesson 00's
    bigrams.

    Returns the letter of each: {"3.1 nats": ..., "2.2 nats": ..., "2.0 nats": ..., "1.8 nats": ...,
    "1.6 nats": ..., "a bigram table": ...}, each "A" to "F".
    """
    raise NotImplementedError("Exercise 9.6: read_texts")  # TODO: return your answer


def distinct_n(samples: Sequence[str], n: int) -> float:
    """Exercise 9.7: how diverse are these texts?

    An n-gram is n words in a row, all of one text. Words are what split() gives; "the" and "The,"
    are different ones. 1 <= n.

    Returns the number of different n-grams, over all texts together, divided by the number of all;
    0.0 if there are none.
    """
    raise NotImplementedError("Exercise 9.7: distinct_n")  # TODO: your code here


def repeated_share(sample: str, n: int) -> float:
    """Also exercise 9.7: how much of a text has been said before?

    Returns the share of its words that are part of an n-gram which occurs earlier in the text as
    well; the two may overlap. A word counts once. 0.0 for a text without words.
    """
    raise NotImplementedError("Exercise 9.7: repeated_share")  # TODO: your code here


def longest_copy(sample: str, corpus: str) -> tuple[int, int]:
    """Exercise 9.8: the longest stretch of a sample that occurs in the corpus.

    The sample may have a thousand characters and the corpus a million: 2000 searches of the corpus
    take a second, a search for each of the 500,000 stretches of the sample minutes.

    Returns (start, length): sample[start : start + length] is in corpus, character for character,
    and no longer stretch of the sample is; both ends may be within a word. Of several as long as
    this, the first; (0, 0) if no character is in corpus.
    """
    raise NotImplementedError("Exercise 9.8: longest_copy")  # TODO: your code here


def rolling_hashes(
    tokens: Sequence[int], n: int, base: int = 1_000_003, modulus: int = 2**61 - 1
) -> list[int]:
    """Exercise 9.9, a challenge: one number for each n-gram of a text.

    tokens: whole numbers, 0 or more. 1 <= n. The hash of n tokens a, b, ..., z is a number whose
    digits they are, modulo modulus:

        (a base^(n-1) + b base^(n-2) + ... + z) mod modulus

    Returns the hashes of tokens[0:n], tokens[1:n+1] and so on, an empty list if there are fewer
    than n tokens. The number of operations grows with the number of tokens, and not with n.
    """
    raise NotImplementedError("Exercise 9.9: rolling_hashes")  # TODO: your code here


def contaminated_share(train: list[int], evaluation: list[int], n: int) -> float:
    """Also exercise 9.9: how much of the evaluation data is in the training data?

    Returns the share of the tokens of evaluation that are part of n tokens in a row which train
    holds, too. A token counts once. 0.0 if evaluation is empty.

    The answer is exact, although different n-grams may have one hash: 0, base and 1, 0 have. The
    number of comparisons grows with that of tokens, not with its square. rolling_hashes is one way,
    a set of tuples another.
    """
    raise NotImplementedError("Exercise 9.9: contaminated_share")  # TODO: your code here


def predict_post_training() -> tuple[float, float, float, float, float]:
    """Exercise 9.10, a prediction: post-training with a pocket calculator.

    Returns five numbers, correct to 0.001:

    1. four answers to one prompt have the rewards 0.9, 0.4, 0.1 and 0.2: the advantage of the first
       in its group, with the deviation of a population, and nothing added to it;
    2. the policy gives the chosen answer a log-probability of -40 and the rejected one -55, the
       reference -45 and -54: the loss of DPO for this pair, with beta = 0.1;
    3. the policy samples a token with probability 0.2, and the reference gives it 0.5: its k3;
    4. a token's probability has risen from 0.4, when it was sampled, to 0.6, and its advantage is
       -2: its clipped objective, with clip = 0.2;
    5. the same for a token whose probability has fallen from 0.5 to 0.3, with the advantage -2.
    """
    raise NotImplementedError("Exercise 9.10: predict_post_training")  # TODO


def answer_loss(logits: Tensor, tokens: Tensor, is_answer: Tensor) -> Tensor:
    """Exercise 9.11: the loss of supervised fine-tuning, which counts the answers alone.

    logits (B, T, V) float32, also as large as 1000: those of position t predict the token of
    position t + 1. tokens (B, T) int64: prompt and answer, then padding, which may be any id.
    is_answer (B, T) bool: True where a token belongs to an answer, of which a row may hold several;
    somewhere it is True, and never at position 0, which nothing predicts.

    Returns the mean cross-entropy of the answers' tokens, a float32 scalar: each of them counts the
    same, whether its answer is long or short. Gradients flow through it.
    """
    raise NotImplementedError("Exercise 9.11: answer_loss")  # TODO: your code here


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Exercise 9.12: the loss of a reward model, from pairs of answers.

    chosen and rejected (B,) float32: the rewards of the better and the worse answer of each pair.
    Bradley and Terry's probability that the better one is preferred is the sigmoid of their
    difference, which may be as large as 1000, either way.

    Returns the mean of minus its logarithm over the pairs, a float32 scalar. Gradients flow through
    it to both.
    """
    raise NotImplementedError("Exercise 9.12: bradley_terry_loss")  # TODO: your code here


def dpo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float = 0.1
) -> Tensor:
    """Exercise 9.13: the loss of direct preference optimization.

    chosen and rejected (B,) float32: the log-probabilities that the policy gives to the answers of
    each pair, sums over their tokens. ref_chosen and ref_rejected (B,): the same of the reference,
    computed by the caller without gradients, so there is nothing to detach. Their differences may
    be as large as 10,000.

    The reward of an answer is beta times the logarithm of policy / reference. Returns the mean of
    Bradley and Terry's loss with these rewards, a float32 scalar. Gradients flow through it to
    chosen and rejected.
    """
    raise NotImplementedError("Exercise 9.13: dpo_loss")  # TODO: your code here


def group_advantages(rewards: Tensor) -> Tensor:
    """Exercise 9.14: the advantages of GRPO.

    rewards (n_prompts, G) float32: those of G answers to each prompt; 1 <= G.

    Returns (n_prompts, G) float32: how far each reward is above the mean of its group, the answers
    to the same prompt, in standard deviations of the group. The deviation is that of a population,
    whose variance is a mean of G squares; 1e-4 is added to it, so a group of equal rewards gets 0.
    """
    raise NotImplementedError("Exercise 9.14: group_advantages")  # TODO: your code here


def kl_k3(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """Exercise 9.15: the estimate of the KL divergence that GRPO uses.

    log_probs and ref_log_probs, of any shape, float32: the log-probabilities of sampled tokens
    under the policy, from which they were sampled, and under the reference. They may be 40 apart.

    Returns an estimate of KL(policy || reference) for each token, float32 of the same shape:
    Schulman's k3, ratio - 1 - log ratio with ratio = reference / policy, which is never negative.
    Gradients flow through it to log_probs.
    """
    raise NotImplementedError("Exercise 9.15: kl_k3")  # TODO: your code here


def clipped_objective(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float = 0.2
) -> Tensor:
    """Exercise 9.16, a repair: the objective of PPO and GRPO, per token.

    log_probs: log-probabilities of tokens under the policy; old_log_probs: those when the tokens
    were sampled; advantages: how much better than expected they turned out. Float32, of shapes that
    broadcast, such as (B, T), (B, T) and (B, 1).

    Returns what is to be maximized for each token, float32: the ratio of its probabilities, new /
    old, times its advantage. Once the ratio has moved by more than clip in the direction that its
    advantage asks for, the objective stays at its value at 1 + clip or 1 - clip, so that nothing
    pulls any more; a move in the other direction always counts in full, also in the gradient. The
    code below the raise has one mistake. Delete the raise line, find the mistake, repair it.
    """
    raise NotImplementedError("Exercise 9.16: clipped_objective")  # TODO: delete, then repair
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio, clipped) * advantages


if __name__ == "__main__":
    check_file(__file__)
