"""Exercises of lesson 00: tensors, gradients, a first language model. Replace each `raise`.

    python 00_setup/exercises/exercises.py    check them all
    make watch                                check on every save, one after the other
    make hint EX=0.1                          one more hint each time, up to three

`python` is the environment's (.venv/bin/python, on Windows .venv\\Scripts\\python). The docstrings
say what is wanted, theory.md why.
"""

import math

import torch
from torch import Tensor

from utils.grader.check import check_file


def difference_table(rows: Tensor, columns: Tensor) -> Tensor:
    """Exercise 0.1: subtract every entry of one vector from every entry of another.

    rows (n,) and columns (m,), of one dtype.

    Returns (n, m) of that dtype: entry (i, j) is rows[i] - columns[j].
    """
    raise NotImplementedError("Exercise 0.1: difference_table")  # TODO: your code here


def predict_shapes() -> dict[str, tuple[int, ...]]:
    """Exercise 0.2, a prediction: which shapes come out?

        x = torch.zeros(3, 5, 4)    # B sequences of T tokens with d features
        row = torch.zeros(4)

        a    x.sum(dim=-1)
        b    x.sum(dim=1, keepdim=True)
        c    x[:, -1]
        d    row[:, None] * row
        e    x.transpose(0, 2)
        f    x + torch.zeros(5, 1)
        g    x @ torch.zeros(4, 6)

    Returns the shape of each as a tuple, by its letter: {"a": (..., ...), "b": ...}. Work them out
    on paper: numbers, no calls of PyTorch.
    """
    raise NotImplementedError("Exercise 0.2: predict_shapes")  # TODO: return your prediction


def sequence_means(x: Tensor) -> Tensor:
    """Exercise 0.3, a repair: the mean vector of each sequence.

    x (T, B, d) holds B sequences of T tokens, but with time as its first axis: x[t, b] is token t
    of sequence b.

    Returns (B, d): row b is the mean of the T vectors of sequence b. The code below the raise has
    one mistake. Delete the raise line, find the mistake, repair it.
    """
    raise NotImplementedError("Exercise 0.3: sequence_means")  # TODO: delete, then repair
    T, B, d = x.shape
    by_sequence = x.reshape(B, T, d)
    return by_sequence.mean(dim=1)


def bigram_probabilities(ids: Tensor, V: int) -> Tensor:
    """Exercise 0.4: how often does each character follow each other one?

    ids (T,) are the characters of a text as whole numbers below V. Count the T - 1 pairs of
    neighbours: N_ij is how often j comes right after i.

    Returns (V, V) in float32 or float64: entry (i, j) is N_ij divided by the sum of row i of N, so
    that every row sums to 1. A row without counts has 1 / V everywhere.
    """
    raise NotImplementedError("Exercise 0.4: bigram_probabilities")  # TODO: your code here


def read_tables() -> dict[str, str]:
    """Exercise 0.5, reading: which text made which table?

    The picture 00_setup/pictures/which_text.png (it is in theory.md too) shows P(next | current)
    for four texts over the letters a to f: the row is the current letter, the column the next one,
    and bright is likely. Each text keeps to its rule most of the time:

        forwards       the next letter of the alphabet, with a after f
        backwards      the previous letter of the alphabet, with f after a
        runs           the same letter again
        alternating    one of a, b, c after one of d, e, f, and one of d, e, f after one of a, b, c

    Returns the letter of each table: {"forwards": ..., "backwards": ..., "runs": ...,
    "alternating": ...}, each "A", "B", "C" or "D", in either case.
    """
    raise NotImplementedError("Exercise 0.5: read_tables")  # TODO: return your answer


def draw(row: Tensor, u: float) -> int:
    """Exercise 0.6: turn a number into a character that has the probabilities of a row.

    row (V,) sums to 1. The characters share the interval from 0 to 1 in their order: character 0
    has the piece from 0 to row[0], character 1 the next piece, which is row[1] long, and so on. A
    piece includes its start and not its end. u is at least 0 and less than 1.

    Returns the number of the character whose piece u falls into, an int.
    """
    raise NotImplementedError("Exercise 0.6: draw")  # TODO: your code here


def cross_entropy(probabilities: Tensor, ids: Tensor) -> Tensor:
    """Exercise 0.7: how surprised is a table by a text, on average?

    probabilities (V, V), as in 0.4; ids (T,) is a text of T characters. The surprise at a pair is
    minus the natural logarithm of the probability that the table gave to the second character,
    given the first.

    Returns the mean surprise over the T - 1 pairs, a tensor without axes through which gradients
    flow. It is inf if a pair has probability 0. Write it without torch's own cross_entropy.
    """
    raise NotImplementedError("Exercise 0.7: cross_entropy")  # TODO: your code here


def neuron_gradient(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Exercise 0.8: the gradient of a neuron's loss, by the chain rule.

    The neuron computes a = w·x + b and h = tanh(a); its loss is (h - y) squared. w and x are (d,),
    b and y have no axes; all are of one dtype. The derivative of tanh(a) is 1 - tanh(a) squared.

    Returns (dw (d,), db ()) of that dtype: the derivatives of the loss with respect to w and to b.
    Write it without backward and torch.autograd.
    """
    raise NotImplementedError("Exercise 0.8: neuron_gradient")  # TODO: your code here


if __name__ == "__main__":
    check_file(__file__)
