"""What the exercises of lesson 00 must compute, against PyTorch, plain Python and by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other, and there are three sequences, not two, so that an axis taken for another shows. What no
docstring promises is not tested: means, probabilities and losses may be float32 or float64.
"""

import contextlib
import math
import numbers
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.grader.feedback import (
    Wrong,
    expect,
    expect_choice,
    expect_equal,
    expect_same_gradients,
)
from utils.grader.readings import expect_letters
from utils.grader.values import type_name

B, T, d, V = 3, 5, 4, 6


def draw_normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random values with a standard deviation of 2."""
    return 2 * torch.randn(shape, dtype=dtype)


def in_float32(values: Any) -> Any:
    """float64 as float32, for results whose precision is not asked for."""
    is_double = isinstance(values, Tensor) and values.dtype == torch.float64
    return values.float() if is_double else values


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
        if type(theirs) is int:  # (4) is written for (4,); neither is the shape of any of them
            theirs = (theirs,)
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
    expect_equal(ex.sequence_means(x), truth, what=MEANS, view=in_float32)


def test_the_means_take_any_layout_in_memory(ex):
    """the means are right however x lies in memory"""
    x = draw_normal(B, d, T, dtype=torch.float64).permute(2, 0, 1)
    truth = means_by_loops(x)
    expect_equal(ex.sequence_means(x), truth, what=MEANS, view=in_float32)


# --- 0.4 ---

PROBABILITIES = "the probabilities (V, V)"


def true_probabilities(ids: list[int], V: int) -> Tensor:
    """Pair by pair, in plain Python."""
    pairs, totals = Counter(pairwise(ids)), Counter(ids[:-1])
    rows = [[pairs[i, j] / totals[i] if totals[i] else 1 / V for j in range(V)] for i in range(V)]
    return torch.tensor(rows)


@pytest.mark.parametrize(
    "ids",
    [
        [2, 0, 0, 1, 0, 2, 2, 1, 2, 0, 1, 1],
        [0, 0, 1, 2, 2, 2, 1, 0, 2],
        [2, 1, 0, 2, 1, 1, 0, 2, 0, 0, 2],
    ],
)
def test_each_row_holds_the_shares_of_what_follows(ex, ids):
    """each row holds the shares of what follows its character"""
    truth = true_probabilities(ids, 3)
    expect_equal(
        ex.bigram_probabilities(torch.tensor(ids), 3), truth, what=PROBABILITIES, view=in_float32
    )


@pytest.mark.parametrize(
    ("ids", "V"), [([0, 1, 1, 0, 0, 1, 1, 2], 3), ([0, 1, 1, 0, 0, 3, 0, 1], 5), ([2, 0], 4)]
)
def test_a_character_that_nothing_follows_gets_equal_shares(ex, ids, V):
    """a character that nothing follows gets equal shares, 1 / V"""
    truth = true_probabilities(ids, V)
    expect_equal(
        ex.bigram_probabilities(torch.tensor(ids), V), truth, what=PROBABILITIES, view=in_float32
    )


def test_a_longer_text_is_counted_pair_by_pair(ex):
    ids = (torch.randn(400).abs() * 2).long().clamp(max=V - 1)
    truth = true_probabilities(ids.tolist(), V)
    expect_equal(ex.bigram_probabilities(ids, V), truth, what=PROBABILITIES, view=in_float32)


# --- 0.5 ---

LETTERS = {"forwards": "D", "backwards": "A", "runs": "C", "alternating": "B"}


def test_each_table_is_given_the_text_that_made_it(ex):
    expect_letters(ex.read_tables(), LETTERS, "the tables")


# --- 0.6 ---

DRAWN = "the character"


def expect_draws(ex: Any, row: Sequence[float], points: Sequence[float]) -> None:
    """Raise Wrong unless every u draws the right character.

    One number says little about its cause, so a misconception must explain all the wrong ones.
    """
    ends = list(accumulate(row))[:-1]
    drawn: dict[float, Any] = {}
    wrong: list[Wrong] = []
    for u in points:
        try:
            drawn[u] = ex.draw(torch.tensor(row), u)
            expect_equal(drawn[u], sum(end <= u for end in ends), what=DRAWN)
        except Wrong as problem:
            if problem.explained_by is None and not wrong:
                raise
            wrong.append(problem)
    if not wrong:
        for character in drawn.values():
            expect(
                isinstance(character, numbers.Integral),
                f"the number is right, but this is {type_name(character)}, and an int is asked "
                "for: int(...) makes one",
            )
        return
    raise Wrong(
        wrong[0].message + order_note(drawn),
        frozenset.intersection(*(one.explained_by or frozenset() for one in wrong)),
        max(one.margin for one in wrong),
        frozenset.intersection(*(one.resembles for one in wrong)),
    )


def order_note(drawn: dict[float, Any]) -> str:
    """A note if a larger u draws an earlier character, or all the same; else ""."""
    known = [(u, int(value)) for u, value in sorted(drawn.items()) if is_whole(value)]
    for (u, one), (v, other) in pairwise(known):
        if other < one:
            said = f"u={u:g} draws {one} and u={v:g} draws {other}"
            return f"\nNote: {said}; a larger u never draws an earlier character"
    characters = {character for _, character in known}
    return f"\nNote: every u draws {characters.pop()}" if len(characters) == 1 else ""


def is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) or (isinstance(value, Tensor) and value.dim() == 0)


ROWS = ([0.5, 0.25, 0.125, 0.125], [0.125, 0.0625, 0.4375, 0.25, 0.125])


@pytest.mark.parametrize("row", [*ROWS, [0.0625, 0.25, 0.1875, 0.25, 0.03125, 0.21875]])
def test_the_piece_that_holds_u_is_drawn(ex, row):
    expect_draws(ex, row, [0.6, 0.3, 0.9, 0.1, 0.8, 0.45, 0.98, 0.7, 0.02])


def test_a_piece_includes_its_start_and_not_its_end(ex):
    """a piece includes its start and not its end, and one of length 0 is never drawn"""
    expect_draws(ex, [0.0, 0.25, 0.5, 0.0, 0.25, 0.0], [0.0, 0.25, 0.75, 0.5, 0.9990234])
    expect_draws(ex, [0.125, 0.375, 0.25, 0.25], [0.5, 0.125, 0.75, 0.0])


def test_each_character_is_drawn_as_often_as_its_probability_says(ex):
    """evenly spaced numbers draw each character as often as its probability says"""
    points = [(at + 0.5) / 60 for at in range(60)]
    expect_draws(ex, [0.1, 0.3, 0.05, 0.2, 0.35], points)


# --- 0.7 ---

LOSS = "the mean surprise ()"


def table_of(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A random table whose rows sum to 1."""
    return torch.softmax(draw_normal(size, size, dtype=dtype), dim=-1)


@pytest.mark.parametrize("n", [8, 2, 5, 40])
def test_the_mean_surprise_of_a_text(ex, n):
    """the loss is the mean of -log P(next | current)"""
    if n == 8:
        table = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.15, 0.45, 0.4]])
        ids = torch.tensor([2, 0, 1, 1, 0, 2, 1, 0])
    else:
        table, ids = table_of(V), torch.randint(V, (n,))
    surprises = [-math.log(table[i, j].item()) for i, j in pairwise(ids.tolist())]
    truth = torch.tensor(sum(surprises) / len(surprises))
    expect_equal(ex.cross_entropy(table, ids), truth, what=LOSS, view=in_float32)


def test_what_was_impossible_and_happened_costs_infinitely_much(ex):
    """a pair of probability 0 makes the loss inf"""
    table = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    expect_equal(
        ex.cross_entropy(table, torch.tensor([0, 1, 1, 0])),
        torch.tensor(2 * math.log(2) / 3),
        what=LOSS,
        view=in_float32,
    )
    expect_equal(
        ex.cross_entropy(table, torch.tensor([0, 1, 0, 0])),
        torch.tensor(math.inf),
        what=LOSS,
        view=in_float32,
    )


def test_the_loss_lets_gradients_through(ex):
    """gradients flow through the loss"""
    logits, ids = draw_normal(V, V, dtype=torch.float64), torch.randint(V, (20,))
    logits.requires_grad_()
    result = ex.cross_entropy(torch.softmax(logits, dim=-1), ids)
    truth = F.cross_entropy(logits[ids[:-1]], ids[1:])
    expect_equal(result, truth, what=LOSS, view=in_float32)
    expect_reached(result, logits)
    expect_same_gradients(result, truth, {"logits": logits})


def expect_reached(result: Tensor, logits: Tensor) -> None:
    """Raise Wrong if the result has a graph, but one that does not lead back to the logits."""
    if not result.requires_grad:
        return  # expect_same_gradients says so
    with contextlib.suppress(RuntimeError):  # and that a backward pass fails
        found = torch.autograd.grad(result, logits, retain_graph=True, allow_unused=True)
        expect(
            found[0] is not None,
            "the values are right, but no gradient reaches the table: requires_grad=True on a new "
            "tensor begins a new graph, and .item(), .detach(), .tolist() or NumPy has left the "
            "old one",
        )


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
        w, x = torch.tensor([0.5, 0.25]), torch.tensor([3.0, -2.0])
        b, y = torch.tensor(-0.25), torch.tensor(1.5)
    else:
        w, x = torch.randn(size, dtype=torch.float64) / 2, torch.randn(size, dtype=torch.float64)
        b, y = torch.tensor(0.25, dtype=torch.float64), torch.tensor(-1.5, dtype=torch.float64)
    expect_gradients(ex.neuron_gradient(w, x, b, y), by_autograd(w, x, b, y))


def test_a_neuron_without_error_has_no_gradient(ex):
    """where h equals y the gradients are zero"""
    w, x, b = torch.tensor([0.5, -1.0, 0.25]), torch.tensor([2.0, 1.0, 4.0]), torch.tensor(0.0)
    y = torch.tanh(w @ x + b)
    truth = torch.zeros(3), torch.tensor(0.0)
    expect_gradients(ex.neuron_gradient(w, x, b, y), truth)


def expect_gradients(answer: Any, truth: tuple[Tensor, ...]) -> None:
    """Raise Wrong unless both gradients are right; a note if they are only approximately."""
    try:
        expect_equal(answer, truth, what=GRADIENTS)
    except Wrong as problem:
        if not is_near(answer, truth):
            raise
        note = "\nNote: near, but not equal; is it a quotient of differences? Use the chain rule"
        message = problem.message + note
        raise Wrong(message, problem.explained_by, problem.margin, problem.resembles) from None


def is_near(answer: Any, truth: tuple[Tensor, ...]) -> bool:
    """Whether every value is within a tenth of the right one, and they are tensors like them."""
    if not isinstance(answer, tuple | list) or len(answer) != len(truth):
        return False
    return all(
        isinstance(mine, Tensor)
        and mine.shape == right.shape
        and mine.dtype == right.dtype
        and torch.allclose(mine, right, rtol=0.1, atol=1e-3)
        for mine, right in zip(answer, truth, strict=True)
    )
