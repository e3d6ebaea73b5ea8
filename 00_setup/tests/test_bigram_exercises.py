"""What the exercises of lesson 00 must compute, against PyTorch, plain Python and by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other, and there are three sequences, not two, so that an axis taken for another shows.
"""

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.grader.feedback import (
    expect,
    expect_choice,
    expect_equal,
    expect_same_gradients,
    type_name,
)

B, T, d, V = 3, 5, 4, 6


def draw_normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random values with a standard deviation of 2."""
    return 2 * torch.randn(shape, dtype=dtype)


# --- 0.1 ---

TABLE = "the table (n, m)"


@pytest.mark.parametrize(("n", "m"), [(2, 3), (5, 7), (7, 5), (1, 4), (4, 1)])
def test_entry_i_j_is_the_difference_of_row_i_and_column_j(ex, n, m):
    """entry (i, j) is rows[i] - columns[j]"""
    rows = torch.tensor([5, 7]) if n == 2 else torch.randint(-9, 9, (n,))
    columns = torch.tensor([1, 2, 4]) if n == 2 else torch.randint(-9, 9, (m,))
    truth = torch.tensor([[i - j for j in columns.tolist()] for i in rows.tolist()])
    expect_equal(ex.difference_table(rows, columns), truth, what=TABLE)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.float64])
def test_differences_keep_the_dtype(ex, dtype):
    """the table has the dtype of rows and columns"""
    rows, columns = draw_normal(5).to(dtype), (3 * draw_normal(14)).to(dtype)[::2]
    truth = torch.cat([value - columns for value in rows]).view(5, 7)
    expect_equal(ex.difference_table(rows, columns), truth, what=TABLE)


def test_as_many_rows_as_columns_is_a_table_too(ex):
    """four rows and four columns are a (4, 4) table"""
    rows, columns = torch.tensor([3, 1, 4, 9]), torch.tensor([2, 7, 1, 8])
    truth = torch.tensor([[i - j for j in columns.tolist()] for i in rows.tolist()])
    expect_equal(ex.difference_table(rows, columns), truth, what=TABLE)


# --- 0.2 ---


def true_shapes() -> dict[str, tuple[int, ...]]:
    """The shapes that PyTorch makes."""
    x, row = torch.zeros(3, 5, 4), torch.zeros(4)
    tensors = {
        "a": x.sum(dim=-1),
        "b": x.sum(dim=1, keepdim=True),
        "c": x[:, -1],
        "d": row[:, None] * row,
        "e": x.transpose(0, 2),
        "f": x + torch.zeros(5, 1),
        "g": x @ torch.zeros(4, 6),
    }
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_the_predicted_shapes_are_those_of_pytorch(ex):
    answer = ex.predict_shapes()
    expect(isinstance(answer, dict), f"a dictionary is asked for, and this is {type_name(answer)}")
    truth = true_shapes()
    for name, shape in truth.items():
        expect(name in answer, f"the answer has no {name!r}; it asks for {', '.join(truth)}")
        theirs = answer[name]
        expect(
            isinstance(theirs, tuple | list),
            f"{name}: a shape is a tuple of whole numbers, and this is {type_name(theirs)}; a "
            "tuple of one number is written (4,)",
        )
        expect_choice(answer, tuple(theirs), shape, name)


# --- 0.3 ---

MEANS = "the means (B, d)"


def means_by_loops(x: Tensor) -> Tensor:
    """The means, added up token by token."""
    T, B, d = x.shape
    means = torch.zeros(B, d, dtype=x.dtype)
    for b in range(B):
        for t in range(T):
            means[b] += x[t, b] / T
    return means


@pytest.mark.parametrize(("T", "B", "d"), [(3, 2, 2), (5, 3, 4), (3, 5, 4), (4, 4, 6), (5, 1, 3)])
def test_row_b_is_the_mean_of_sequence_b(ex, T, B, d):
    small = torch.tensor(
        [[[0.0, 1.0], [2.0, 5.0]], [[9.0, 1.0], [8.0, 7.0]], [[3.0, 4.0], [5.0, 0.0]]]
    )
    x = small if B == 2 else draw_normal(T, B, d)
    truth = means_by_loops(x)
    expect_equal(ex.sequence_means(x), truth, what=MEANS)


def test_the_means_take_any_layout_in_memory(ex):
    """the means are right however x lies in memory"""
    x = draw_normal(B, d, T, dtype=torch.float64).permute(2, 0, 1)
    truth = means_by_loops(x)
    expect_equal(ex.sequence_means(x), truth, what=MEANS)


# --- 0.4 ---

PROBABILITIES = "the probabilities (V, V)"


def true_probabilities(ids: list[int], V: int) -> Tensor:
    """Pair by pair, in plain Python."""
    pairs, totals = Counter(pairwise(ids)), Counter(ids[:-1])
    rows = [[pairs[i, j] / totals[i] if totals[i] else 1 / V for j in range(V)] for i in range(V)]
    return torch.tensor(rows)


@pytest.mark.parametrize(
    "ids", [[0, 1, 0, 2, 0, 1, 0], [0, 0, 1, 2, 2, 2, 1, 0, 2], [2, 1, 0, 2, 1, 1, 0, 2, 0, 0, 2]]
)
def test_each_row_holds_the_shares_of_what_follows(ex, ids):
    """each row holds the shares of what follows its character"""
    truth = true_probabilities(ids, 3)
    expect_equal(ex.bigram_probabilities(torch.tensor(ids), 3), truth, what=PROBABILITIES)


@pytest.mark.parametrize(("ids", "V"), [([0, 1, 0, 2], 3), ([0, 1, 1, 0, 3, 0], 5), ([2], 4)])
def test_a_character_that_nothing_follows_gets_equal_shares(ex, ids, V):
    """a character that nothing follows gets equal shares, 1 / V"""
    truth = true_probabilities(ids, V)
    expect_equal(ex.bigram_probabilities(torch.tensor(ids), V), truth, what=PROBABILITIES)


def test_a_longer_text_is_counted_pair_by_pair(ex):
    ids = (torch.randn(400).abs() * 2).long().clamp(max=V - 1)
    truth = true_probabilities(ids.tolist(), V)
    expect_equal(ex.bigram_probabilities(ids, V), truth, what=PROBABILITIES)


# --- 0.5 ---

LETTERS = {"forwards": "D", "backwards": "A", "runs": "C", "alternating": "B"}


def test_each_table_is_given_the_text_that_made_it(ex):
    answer = ex.read_tables()
    expect(isinstance(answer, dict), f"a dictionary is asked for, and this is {type_name(answer)}")
    for name, letter in LETTERS.items():
        expect(name in answer, f"the answer has no {name!r}; it asks for {', '.join(LETTERS)}")
        expect_choice(answer, str(answer[name]).strip().upper(), letter, name)


# --- 0.6 ---

DRAWN = "the character"


@pytest.mark.parametrize("u", [0.6, 0.3, 0.9, 0.1, 0.8])
def test_the_piece_that_holds_u_is_drawn(ex, u):
    row = torch.tensor([0.5, 0.25, 0.125, 0.125])
    expect_equal(ex.draw(row, u), sum(end <= u for end in (0.5, 0.75, 0.875)), what=DRAWN)
    row = torch.tensor([0.125, 0.0625, 0.4375, 0.25, 0.125])
    ends = [0.125, 0.1875, 0.625, 0.875]
    expect_equal(ex.draw(row, u), sum(end <= u for end in ends), what=DRAWN)


@pytest.mark.parametrize(("u", "truth"), [(0.0, 1), (0.25, 2), (0.75, 4), (0.5, 2), (0.9990234, 4)])
def test_a_piece_includes_its_start_and_not_its_end(ex, u, truth):
    """a piece includes its start and not its end, and one of length 0 is never drawn"""
    row = torch.tensor([0.0, 0.25, 0.5, 0.0, 0.25, 0.0])
    expect_equal(ex.draw(row, u), truth, what=DRAWN)


def test_each_character_is_drawn_as_often_as_its_probability_says(ex):
    """evenly spaced numbers draw each character as often as its probability says"""
    shares = [0.1, 0.3, 0.05, 0.2, 0.35]
    for at in range(60):
        u = (at + 0.5) / 60
        truth = sum(sum(shares[: i + 1]) < u for i in range(len(shares)))
        expect_equal(ex.draw(torch.tensor(shares), u), truth, what=DRAWN)


# --- 0.7 ---

LOSS = "the mean surprise ()"


def table_of(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A random table whose rows sum to 1."""
    return torch.softmax(draw_normal(size, size, dtype=dtype), dim=-1)


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_the_mean_surprise_of_a_text(ex, n):
    """the loss is the mean of -log P(next | current)"""
    if n == 2:
        table, ids = torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([0, 1, 1, 1, 0])
    else:
        table, ids = table_of(V), torch.randint(V, (n,))
    surprises = [-math.log(table[i, j].item()) for i, j in pairwise(ids.tolist())]
    truth = torch.tensor(sum(surprises) / len(surprises))
    expect_equal(ex.cross_entropy(table, ids), truth, what=LOSS)


def test_what_was_impossible_and_happened_costs_infinitely_much(ex):
    """a pair of probability 0 makes the loss inf"""
    table = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    expect_equal(
        ex.cross_entropy(table, torch.tensor([0, 1, 1, 0])),
        torch.tensor(2 * math.log(2) / 3),
        what=LOSS,
    )
    expect_equal(
        ex.cross_entropy(table, torch.tensor([0, 1, 0, 0])), torch.tensor(math.inf), what=LOSS
    )


def test_the_loss_lets_gradients_through(ex):
    """gradients flow through the loss"""
    logits, ids = draw_normal(V, V, dtype=torch.float64), torch.randint(V, (20,))
    logits.requires_grad_()
    result = ex.cross_entropy(torch.softmax(logits, dim=-1), ids)
    truth = F.cross_entropy(logits[ids[:-1]], ids[1:])
    expect_equal(result, truth, what=LOSS)
    expect_same_gradients(result, truth, {"logits": logits})


# --- 0.8 ---

GRADIENTS = ("dw (d,)", "db ()")


def by_autograd(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the loss, computed by PyTorch."""
    w, b = w.clone().requires_grad_(), b.clone().requires_grad_()
    loss = (torch.tanh(w @ x + b) - y) ** 2
    return torch.autograd.grad(loss, [w, b])


@pytest.mark.parametrize("size", [2, 5, 1, 7])
def test_the_gradients_are_those_of_autograd(ex, size):
    if size == 2:
        w, x = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 1.0])
        b, y = torch.tensor(0.5), torch.tensor(1.0)
    else:
        w, x = torch.randn(size, dtype=torch.float64) / 2, torch.randn(size, dtype=torch.float64)
        b, y = torch.tensor(0.25, dtype=torch.float64), torch.tensor(-1.5, dtype=torch.float64)
    expect_equal(ex.neuron_gradient(w, x, b, y), by_autograd(w, x, b, y), what=GRADIENTS)


def test_a_neuron_without_error_has_no_gradient(ex):
    """where h equals y the gradients are zero"""
    w, x, b = torch.tensor([0.5, -1.0, 0.25]), torch.tensor([2.0, 1.0, 4.0]), torch.tensor(0.0)
    y = torch.tanh(w @ x + b)
    truth = torch.zeros(3), torch.tensor(0.0)
    expect_equal(ex.neuron_gradient(w, x, b, y), truth, what=GRADIENTS)
