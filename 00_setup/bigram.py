"""A language model small enough to hold in the hand: the next character, given the last one.

    P(j | i) = N_ij / sum_k N_ik        counted: how often did j follow i?
    P(j | i) = softmax(logits_i)_j      trained: gradient descent on a table of logits

A language model gives every possible next token a probability. This one looks at a single
character, so all it knows fits into a table: one row per current character, one column per next
one. Counting fills the table with the lowest loss that such a table can have on its text. Gradient
descent, which only asks in which direction the loss falls, finds the same table. The models of the
later lessons can't be counted, but they can be trained in the same way.

Markov counted the letters of "Eugene Onegin" like this in 1913; Shannon sampled from such tables in
"A Mathematical Theory of Communication", 1948, section 3.

Dimensions: T characters in the text, so T - 1 pairs of neighbours; V different characters.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from utils import mock_corpus
from utils.errors import run_program
from utils.shape_checker import check_shape


def encode(text: str) -> tuple[Tensor, str]:
    """Number the characters: ids (T,), and the vocabulary, a string with character i at place i."""
    vocabulary = "".join(sorted(set(text)))
    number = {character: i for i, character in enumerate(vocabulary)}
    return torch.tensor([number[character] for character in text]), vocabulary


def decode(ids: Sequence[int], vocabulary: str) -> str:
    """The text of a row of ids."""
    return "".join(vocabulary[i] for i in ids)


def bigram_probabilities(ids: Tensor, V: int) -> Tensor:
    """How often does each character follow each other one, as shares of its row?

    ids (T,) integers below V; returns (V, V), where entry (i, j) is P(j | i) and every row sums to
    1. A character that is never followed by anything has a row of 1 / V.
    """
    check_shape(ids, ("T",))
    current, following = ids[:-1], ids[1:]  # T - 1 pairs
    # Entry (i, j) of a (V, V) table lies at place V * i + j in memory: its strides are (V, 1).
    counts = torch.bincount(V * current + following, minlength=V * V).view(V, V)  # N
    totals = counts.sum(1, keepdim=True)  # (V, 1): N_i, how often i is followed by anything
    return torch.where(totals > 0, counts / totals, 1 / V)


def cross_entropy(probabilities: Tensor, ids: Tensor) -> Tensor:
    """The mean surprise, -log P(next | current), over the pairs of a text.

    probabilities (V, V), ids (T,); returns a tensor without axes, in nats per character. It is
    infinite if one pair of the text has probability 0.
    """
    check_shape(probabilities, ("V", "V"))
    p = probabilities[ids[:-1], ids[1:]]  # (T - 1,): what the model gave to what came
    return -p.log().mean()


def draw(row: Tensor, u: float) -> int:
    """Turn a number u, 0 <= u < 1, into a character with the probabilities of the row (V,).

    The characters share the interval from 0 to 1 in their order, each a piece as long as its
    probability; the one whose piece holds u is drawn.
    """
    ends = row.double().cumsum(0)  # where each piece ends
    ends = ends / ends[-1]  # rounding may have left the last end a little below 1
    return int((ends <= u).sum())  # pieces that end before u, or at it


def generate(probabilities: Tensor, start: int, n: int, generator: torch.Generator) -> list[int]:
    """Draw n characters, each from the row of the one before it, beginning after `start`."""
    ids = [start]
    for _ in range(n):
        u = torch.rand((), generator=generator).item()
        ids.append(draw(probabilities[ids[-1]], u))
    return ids[1:]


def train(
    ids: Tensor, V: int, n_steps: int = 200, learning_rate: float = 1.0
) -> tuple[Tensor, list[float]]:
    """Find the table by gradient descent; returns logits (V, V) and the loss before each step."""
    logits = torch.zeros(V, V, requires_grad=True)  # softmax of zeros: every character equally
    # Adam is gradient descent that adapts the size of the step for each entry: the rows of rare
    # characters, whose gradients are small, keep up with the others. Lesson 06 builds it.
    optimizer = torch.optim.Adam([logits], lr=learning_rate)
    losses = []
    for _ in range(n_steps):
        loss = cross_entropy(torch.softmax(logits, dim=-1), ids)
        optimizer.zero_grad()  # forget the last gradient, which would be added to
        loss.backward()  # the chain rule: fills logits.grad
        optimizer.step()  # a step downhill
        losses.append(loss.item())
    return logits.detach(), losses


def main() -> None:
    """Count a table, train the same one, compare their losses, and let both generate."""
    ids, vocabulary = encode(mock_corpus.generate(20_000))
    V = len(vocabulary)
    counted = bigram_probabilities(ids, V)
    logits, losses = train(ids, V)
    trained = torch.softmax(logits, dim=-1)
    print(f"{len(ids):,} characters of a play, {V} of them different; the mean surprise\n")
    print(f"{'':<24}{'nats':>8}{'bits':>8}  per character")
    rows = {
        "untrained": losses[0],
        "counted": cross_entropy(counted, ids).item(),
        "trained": cross_entropy(trained, ids).item(),
        "the play's own entropy": mock_corpus.entropy_rate().nats_per_char,
    }
    for name, nats in rows.items():
        print(f"{name:<24}{nats:8.4f}{nats / math.log(2):8.4f}")
    for name, table in (("counted", counted), ("trained", trained)):
        generator = torch.Generator().manual_seed(8)  # the same random numbers for both
        sample = generate(table, vocabulary.index("\n"), 100, generator)
        print(f"\n{name}:\n{decode(sample, vocabulary)}")


if __name__ == "__main__":
    run_program(main)
