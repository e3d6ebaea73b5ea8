"""Solutions of lesson 00. Yours may look different: what counts is what it computes.

Read a solution when yours passes, and compare; the comments name other ways that people choose.
"""

import torch
from torch import Tensor


def difference_table(rows: Tensor, columns: Tensor) -> Tensor:
    """Exercise 0.1: subtract every entry of one vector from every entry of another.

    rows (n,) and columns (m,), of one dtype.

    Returns (n, m) of that dtype: entry (i, j) is rows[i] - columns[j].
    """
    # (n, 1) against (m,): sizes are compared from the right, m with 1, then n with nothing. Both
    # are stretched to (n, m). rows.unsqueeze(1) and rows.view(-1, 1) make the same column.
    return rows[:, None] - columns


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
    return {
        "a": (3, 5),  # the last axis is gone
        "b": (3, 1, 4),  # axis 1, of size 5, has stayed with size 1
        "c": (3, 4),  # a number as index removes its axis; a slice, x[:, -1:], would keep it
        "d": (4, 4),  # (4, 1) against (4,)
        "e": (4, 5, 3),  # the first and the last axis have changed places
        "f": (3, 5, 4),  # (5, 1) is stretched over the last axis and repeated for each sequence
        "g": (3, 5, 6),  # 4 meets 4 and is summed over; the axes before it are a batch
    }


def sequence_means(x: Tensor) -> Tensor:
    """Exercise 0.3, a repair: the mean vector of each sequence.

    x (T, B, d) holds B sequences of T tokens, but with time as its first axis: x[t, b] is token t
    of sequence b.

    Returns (B, d): row b is the mean of the T vectors of sequence b. The code below the raise has
    one mistake. Delete the raise line, find the mistake, repair it.
    """
    # reshape fills the new shape in the order in which the values lie in memory: the first T
    # vectors, which are token 0 of several sequences, became "sequence 0". A transpose moves axes
    # and leaves every value with its indices. permute(1, 0, 2) does the same; so does no reordering
    # at all, x.mean(dim=0), because time is axis 0 already.
    by_sequence = x.transpose(0, 1)  # (B, T, d)
    return by_sequence.mean(dim=1)


def bigram_probabilities(ids: Tensor, V: int) -> Tensor:
    """Exercise 0.4: how often does each character follow each other one?

    ids (T,) are the characters of a text as whole numbers below V. Count the T - 1 pairs of
    neighbours: N_ij is how often j comes right after i.

    Returns (V, V) in float32 or float64: entry (i, j) is N_ij divided by the sum of row i of N, so
    that every row sums to 1. A row without counts has 1 / V everywhere.
    """
    current, following = ids[:-1], ids[1:]
    # Pair (i, j) has the place V * i + j in a table (V, V), and bincount counts places. A loop does
    # it too: for i, j in zip(current, following): counts[i, j] += 1. Not so
    # counts[current, following] += 1, which adds 1 to each pair once, however often it is listed;
    # counts.index_put_((current, following), ones, accumulate=True) adds every time.
    counts = torch.bincount(V * current + following, minlength=V * V).view(V, V)
    totals = counts.sum(dim=1, keepdim=True)  # (V, 1): without keepdim it would divide columns
    return torch.where(totals > 0, counts / totals, 1 / V)  # 0 / 0 is nan, and is not chosen


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
    # In A the likely cells lie left of the diagonal, so the next letter is an earlier one. B has
    # bright blocks away from the diagonal, and none of its letters follows one of its own half. C
    # has the diagonal itself, and D the cells to the right of it.
    return {"forwards": "D", "backwards": "A", "runs": "C", "alternating": "B"}


def draw(row: Tensor, u: float) -> int:
    """Exercise 0.6: turn a number into a character that has the probabilities of a row.

    row (V,) sums to 1. The characters share the interval from 0 to 1 in their order: character 0
    has the piece from 0 to row[0], character 1 the next piece, which is row[1] long, and so on. A
    piece includes its start and not its end. u is at least 0 and less than 1.

    Returns the number of the character whose piece u falls into, an int.
    """
    # Piece i ends at row[0] + ... + row[i]. The pieces that end at or before u are those that come
    # before the one we look for, and counting them gives its number. Others use
    # torch.searchsorted(ends, u, right=True), or a loop that adds up until the sum is above u.
    ends = row.cumsum(dim=0)
    # The last piece ends at 1, whatever the rounded sum says, so its end is left out.
    return int((ends[:-1] <= u).sum())


def cross_entropy(probabilities: Tensor, ids: Tensor) -> Tensor:
    """Exercise 0.7: how surprised is a table by a text, on average?

    probabilities (V, V), as in 0.4; ids (T,) is a text of T characters. The surprise at a pair is
    minus the natural logarithm of the probability that the table gave to the second character,
    given the first.

    Returns the mean surprise over the T - 1 pairs, a tensor without axes through which gradients
    flow. It is inf if a pair has probability 0. Write it without torch's own cross_entropy.
    """
    # Two lists of indices of one length pick one entry per pair: (T - 1,).
    p = probabilities[ids[:-1], ids[1:]]
    # log is the natural one; divided by log 2 the result would be in bits. A small number added to
    # p would hide the inf, and with it that the model called something impossible which happened.
    return -p.log().mean()


def neuron_gradient(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Exercise 0.8: the gradient of a neuron's loss, by the chain rule.

    The neuron computes a = w·x + b and h = tanh(a); its loss is (h - y) squared. w and x are (d,),
    b and y have no axes; all are of one dtype. The derivative of tanh(a) is 1 - tanh(a) squared.

    Returns (dw (d,), db ()) of that dtype: the derivatives of the loss with respect to w and to b.
    Write it without backward and torch.autograd.
    """
    h = torch.tanh(w @ x + b)
    # Link by link, from the loss back to a: the square gives 2 (h - y), tanh gives 1 - h². Both
    # results share them, so this is computed once. Autograd works in the same way.
    da = 2 * (h - y) * (1 - h**2)
    return da * x, da  # a is w·x + b: its derivative is x with respect to w, and 1 to b
