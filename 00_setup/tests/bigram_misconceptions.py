"""Common wrong answers to the exercises of lesson 00; each diagnosis is shown to a learner.

Most exercises have one faulty implementation, `table_with` and so on, which is right until a
setting makes one mistake. Settings combine, so two mistakes at once are recognized as well. What
fits no setting is a function of its own, whose docstring is the diagnosis. `MISCONCEPTIONS` lists
them by the function that they imitate.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.grader.mistakes import mistakes

# --- 0.1 difference_table ---

OPERATIONS = {
    "minus": lambda rows, columns: rows - columns,
    "reversed": lambda rows, columns: columns - rows,
    "plus": lambda rows, columns: rows + columns,
    "times": lambda rows, columns: rows * columns,
    "divided": lambda rows, columns: rows / columns,
    "absolute": lambda rows, columns: (rows - columns).abs(),
    "squared": lambda rows, columns: (rows - columns) ** 2,
    "not negative": lambda rows, columns: (rows - columns).clamp(min=0),
}


def table_with(
    rows: Tensor,
    columns: Tensor,
    *,
    operation: str = "minus",
    left: str = "rows",
    right: str = "columns",
    layout: str = "(n, m)",
    dtype: str = "kept",
) -> Tensor:
    """The table of differences."""
    n, m = len(rows), len(columns)
    if left == "repeated as a whole":
        one = rows.repeat(m).view(n, m)
    else:  # columns
        one = (columns if left == "columns" else rows)[:, None]
    if right == "repeated one by one":
        other = columns.repeat_interleave(n).view(n, m)
    else:
        other = rows if right == "rows" else columns
    table = OPERATIONS[operation](one, other)
    if dtype == "of Python numbers":
        table = table.to(torch.float32 if table.is_floating_point() else torch.int64)
    elif dtype != "kept":
        table = table.to(DTYPES[dtype])
    if layout == "transposed":
        return table.T
    if layout == "reshaped":
        return table.T.reshape(table.shape)
    if layout == "flat":
        return table.flatten()
    if layout == "axis at the end":
        return table[..., None]
    if layout == "axis in front":
        return table[None]
    return table[0] if layout == "first row" else table


DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}

TABLE = mistakes(
    table_with,
    sign_reversed=(
        "the difference is the wrong way round: entry (i, j) is rows[i] - columns[j], and this is "
        "its negative",
        {"operation": "reversed"},
    ),
    sums_not_differences=(
        "the entries are added; the table holds differences",
        {"operation": "plus"},
    ),
    products_not_differences=(
        "the entries are multiplied; the table holds differences",
        {"operation": "times"},
    ),
    quotients_not_differences=(
        "the entries are divided; the table holds differences",
        {"operation": "divided"},
    ),
    absolute_differences=(
        "the sign is lost: these are absolute differences, and rows[i] - columns[j] may be "
        "negative",
        {"operation": "absolute"},
    ),
    squared_differences=(
        "the differences are squared; they are asked for as they are",
        {"operation": "squared"},
    ),
    negative_ones_cut=(
        "negative differences have become 0; rows[i] - columns[j] may be negative",
        {"operation": "not negative"},
    ),
    table_transposed=(
        "rows and columns are exchanged: rows[i] should run down the table, and belongs to its "
        "first axis",
        {"layout": "transposed"},
    ),
    transposed_and_reversed=(
        "the column axis was added to `columns`, and rows were subtracted from it; the axis of "
        "size 1 belongs to `rows`",
        {"layout": "transposed", "operation": "reversed"},
    ),
    table_reshaped=(
        "a table (m, n) is reshaped to (n, m): that regroups the differences in memory order; only "
        "a transpose moves each to its place",
        {"layout": "reshaped"},
    ),
    rows_repeated_as_a_whole=(
        "repeat sets the whole of rows one after the other, so that they run along the table; "
        "repeat_interleave, or a column rows[:, None], keeps each in its own row",
        {"left": "repeated as a whole"},
    ),
    columns_repeated_one_by_one=(
        "repeat_interleave repeats each entry of columns by itself, so that they run down the "
        "table in blocks; each row of it should hold all of columns in their order",
        {"right": "repeated one by one"},
    ),
    square_of_the_rows=(
        "rows are subtracted from rows; the second axis of the table belongs to columns",
        {"right": "rows"},
    ),
    square_of_the_columns=(
        "columns are subtracted from columns; the first axis of the table belongs to rows",
        {"left": "columns"},
    ),
    one_axis_too_many=(
        "there is an axis of size 1 too many; (n, 1) against (m,) is enough for a table (n, m)",
        {"layout": "axis at the end"},
    ),
    one_axis_in_front=(
        "there is an axis of size 1 too many in front; (n, 1) against (m,) is enough for a table "
        "(n, m)",
        {"layout": "axis in front"},
    ),
    flattened=(
        "the differences are in one long row; the table has the shape (n, m)",
        {"layout": "flat"},
    ),
    first_row_alone=(
        "this is only the first row of the table, rows[0] - columns; every entry of rows has a row",
        {"layout": "first row"},
    ),
    in_floating_point=(
        "the differences are float32, whatever rows and columns are; a table made with "
        "torch.zeros, or with .float(), needs dtype=rows.dtype",
        {"dtype": "float32"},
    ),
    in_double_precision=(
        "the differences are float64, whatever rows and columns are; the table has their dtype",
        {"dtype": "float64"},
    ),
    in_whole_numbers=(
        "the differences are cut to whole numbers of int64; the table has the dtype of rows and "
        "columns",
        {"dtype": "int64"},
    ),
    through_python_numbers=(
        "a tensor made from Python numbers is int64 or float32; give it dtype=rows.dtype",
        {"dtype": "of Python numbers"},
    ),
)


def element_by_element(rows: Tensor, columns: Tensor) -> Tensor:
    """the two are subtracted element by element, which gives one row and not a table (or an error,
    if they differ in length); one of them needs a second axis"""
    return rows - columns


def pair_by_pair(rows: Tensor, columns: Tensor) -> Tensor:
    """the two are subtracted element by element, which gives one row and not a table (or an error,
    if they differ in length); one of them needs a second axis"""
    return torch.stack([row - column for row, column in zip(rows, columns, strict=False)])


def two_columns(rows: Tensor, columns: Tensor) -> Tensor:
    """both have become columns, (n, 1) and (m, 1); only one of the two should"""
    return rows[:, None] - columns[:, None]


def two_rows(rows: Tensor, columns: Tensor) -> Tensor:
    """both have become rows, (1, n) and (1, m); rows should become a column, (n, 1)"""
    return rows[None] - columns[None]


def of_the_ranks(rows: Tensor, columns: Tensor) -> Tensor:
    """these are the differences i - j of the places; the entries rows[i] and columns[j] are asked
    for"""
    places = torch.arange(len(rows))[:, None] - torch.arange(len(columns))
    return places.to(rows.dtype)


def columns_added_up(rows: Tensor, columns: Tensor) -> Tensor:
    """the sum of all columns is subtracted from each of the rows; every pair has its own entry"""
    return (rows - columns.sum().to(rows.dtype))[:, None].repeat(1, len(columns))


def last_row_left_out(rows: Tensor, columns: Tensor) -> Tensor:
    """the last row of the table is left empty: range(n) runs to n - 1 by itself"""
    table = rows[:, None] - columns
    table[-1] = 0
    return table


def last_column_left_out(rows: Tensor, columns: Tensor) -> Tensor:
    """the last column of the table is left empty: range(m) runs to m - 1 by itself"""
    table = rows[:, None] - columns
    table[:, -1] = 0
    return table


def only_the_diagonal(rows: Tensor, columns: Tensor) -> Tensor:
    """only the entries (i, i) are filled; every entry of rows meets every entry of columns"""
    table = torch.zeros(len(rows), len(columns), dtype=rows.dtype)
    for i in range(min(len(rows), len(columns))):
        table[i, i] = rows[i] - columns[i]
    return table


# --- 0.2 predict_shapes ---


def shapes(letter: str, *shape: int) -> dict[str, tuple[int, ...]]:
    """The right shapes but for one, used by the wrong answers."""
    right = {"a": (3, 5), "b": (3, 1, 4), "c": (3, 4), "d": (4, 4), "e": (4, 5, 3), "f": (3, 5, 4)}
    return {**right, "g": (3, 5, 6), letter: shape}


def a_keeps_the_axis() -> dict[str, tuple[int, ...]]:
    """a sum removes its axis; only with keepdim=True does it stay, with size 1"""
    return shapes("a", 3, 5, 1)


def a_sums_the_first() -> dict[str, tuple[int, ...]]:
    """dim=-1 is the last axis, counted from the right, and this is the sum over the first"""
    return shapes("a", 5, 4)


def a_sums_the_middle() -> dict[str, tuple[int, ...]]:
    """dim=-1 is the last axis, and this is the sum over the one before it"""
    return shapes("a", 3, 4)


def a_is_only_the_axis() -> dict[str, tuple[int, ...]]:
    """a sum over one axis leaves all the others; this is the size of the axis that goes away"""
    return shapes("a", 4)


def b_loses_the_axis() -> dict[str, tuple[int, ...]]:
    """with keepdim=True the axis of the sum stays, and has size 1"""
    return shapes("b", 3, 4)


def b_counts_from_one() -> dict[str, tuple[int, ...]]:
    """axes are counted from 0, so dim=1 is the second one"""
    return shapes("b", 1, 5, 4)


def b_sums_the_last() -> dict[str, tuple[int, ...]]:
    """dim=1 is the second axis, of size 5; here the last one is summed"""
    return shapes("b", 3, 5, 1)


def c_keeps_the_axis() -> dict[str, tuple[int, ...]]:
    """a number as an index removes its axis; only a slice such as -1: would keep it, with size 1"""
    return shapes("c", 3, 1, 4)


def c_takes_the_last_feature() -> dict[str, tuple[int, ...]]:
    """the -1 is in the place of axis 1, and picks the last token; the features all stay"""
    return shapes("c", 3, 5)


def c_takes_the_last_sequence() -> dict[str, tuple[int, ...]]:
    """the colon keeps all of axis 0; the -1 picks from axis 1"""
    return shapes("c", 5, 4)


def c_drops_one_token() -> dict[str, tuple[int, ...]]:
    """the index -1 picks the last token; a slice :-1 would drop it and keep the other four"""
    return shapes("c", 3, 4, 4)


def d_is_a_row() -> dict[str, tuple[int, ...]]:
    """(4, 1) against (4,) is not element by element: the column is repeated to the right, and the
    row downwards"""
    return shapes("d", 4)


def d_is_a_column() -> dict[str, tuple[int, ...]]:
    """row[:, None] is (4, 1), but the product with (4,) stretches its axis of size 1"""
    return shapes("d", 4, 1)


def d_is_a_single_row() -> dict[str, tuple[int, ...]]:
    """[:, None] puts the new axis last and makes a column; the product of column and row has more
    than one row"""
    return shapes("d", 1, 4)


def d_is_a_number() -> dict[str, tuple[int, ...]]:
    """* multiplies entries and sums nothing; only @ would give a single number"""
    return shapes("d")


def e_keeps_the_shape() -> dict[str, tuple[int, ...]]:
    """transpose(0, 2) exchanges the first and the last axis, and their sizes differ"""
    return shapes("e", 3, 5, 4)


def e_swaps_the_last_two() -> dict[str, tuple[int, ...]]:
    """this is transpose(1, 2); axes are counted from 0, and 0 is the first"""
    return shapes("e", 3, 4, 5)


def e_swaps_the_first_two() -> dict[str, tuple[int, ...]]:
    """this is transpose(0, 1); axis 2 is the last one"""
    return shapes("e", 5, 3, 4)


def e_rotates() -> dict[str, tuple[int, ...]]:
    """a transpose exchanges two axes and leaves the third in its place"""
    return shapes("e", 4, 3, 5)


def e_rotates_the_other_way() -> dict[str, tuple[int, ...]]:
    """the middle axis does not take part in transpose(0, 2) and stays in the middle"""
    return shapes("e", 5, 4, 3)


def f_loses_its_features() -> dict[str, tuple[int, ...]]:
    """an axis of size 1 is stretched to the size it meets, never the other way round"""
    return shapes("f", 3, 5, 1)


def f_drops_the_batch() -> dict[str, tuple[int, ...]]:
    """the tensor with fewer axes is repeated along the missing ones; the batch of x stays"""
    return shapes("f", 5, 4)


def f_adds_an_axis() -> dict[str, tuple[int, ...]]:
    """shapes are compared from the right and merged, not joined: 4 meets 1, 5 meets 5"""
    return shapes("f", 3, 5, 4, 5, 1)


def f_meets_from_the_left() -> dict[str, tuple[int, ...]]:
    """shapes are compared from the right: 5 meets 5 and 1 meets 4, nothing else is stretched"""
    return shapes("f", 3, 5, 5)


def f_takes_the_smaller() -> dict[str, tuple[int, ...]]:
    """the smaller tensor is stretched to the larger one, and not the other way round"""
    return shapes("f", 5, 1)


def g_keeps_its_features() -> dict[str, tuple[int, ...]]:
    """a matrix product replaces the last axis: the 4 is summed over, and 6 columns come out"""
    return shapes("g", 3, 5, 4)


def g_joins_the_shapes() -> dict[str, tuple[int, ...]]:
    """the axis that both share, 4, is summed over and is gone"""
    return shapes("g", 3, 5, 4, 6)


def g_sums_the_tokens() -> dict[str, tuple[int, ...]]:
    """the axis that is summed over is the last of x; the 5 tokens stay"""
    return shapes("g", 3, 4, 6)


def g_drops_the_batch() -> dict[str, tuple[int, ...]]:
    """@ treats the axes before the last two as a batch: every sequence is multiplied, and the 3
    stays"""
    return shapes("g", 5, 6)


def a_sums_everything() -> dict[str, tuple[int, ...]]:
    """without dim a sum would run over all axes; dim=-1 sums over the last one alone"""
    return shapes("a")


def a_keeps_the_first_axis() -> dict[str, tuple[int, ...]]:
    """dim=-1 is the last axis, and it goes away; this has axis 0 with size 1"""
    return shapes("a", 1, 5, 4)


def a_keeps_its_shape() -> dict[str, tuple[int, ...]]:
    """a sum over one axis leaves a single number where that axis was, so it goes away"""
    return shapes("a", 3, 5, 4)


def a_is_the_batch() -> dict[str, tuple[int, ...]]:
    """a sum removes one axis, the last; here two are gone"""
    return shapes("a", 3)


def b_keeps_its_shape() -> dict[str, tuple[int, ...]]:
    """keepdim=True keeps the axis of the sum, not its size: one number is left in it"""
    return shapes("b", 3, 5, 4)


def b_keeps_the_axis_at_the_end() -> dict[str, tuple[int, ...]]:
    """keepdim=True leaves the axis of size 1 in its place, the middle"""
    return shapes("b", 3, 4, 1)


def b_keeps_the_axis_in_front() -> dict[str, tuple[int, ...]]:
    """keepdim=True leaves an axis of size 1 where the sum was taken, in the middle, not in front"""
    return shapes("b", 1, 3, 4)


def b_sums_the_last_away() -> dict[str, tuple[int, ...]]:
    """dim=1 is the middle axis, of size 5, and keepdim=True keeps it with size 1"""
    return shapes("b", 3, 5)


def b_keeps_only_its_axis() -> dict[str, tuple[int, ...]]:
    """only axis 1 is summed over; the axes before and after it stay as they are"""
    return shapes("b", 1, 1, 1)


def c_keeps_its_shape() -> dict[str, tuple[int, ...]]:
    """the index -1 picks one of the five tokens; no axis of tokens is left"""
    return shapes("c", 3, 5, 4)


def c_is_a_single_row() -> dict[str, tuple[int, ...]]:
    """the colon keeps every sequence: there is one last token for each of the three"""
    return shapes("c", 4)


def c_keeps_an_axis_for_the_sequence() -> dict[str, tuple[int, ...]]:
    """the colon keeps all of axis 0; the -1 picks from axis 1, and its axis goes away"""
    return shapes("c", 1, 5, 4)


def c_keeps_an_axis_for_the_feature() -> dict[str, tuple[int, ...]]:
    """the -1 is in the place of axis 1 and picks the last token, not the last feature; a number
    as an index also removes its axis"""
    return shapes("c", 3, 5, 1)


def c_is_the_batch() -> dict[str, tuple[int, ...]]:
    """[:, -1] names two of three axes; the one that is not named, of 4 features, stays whole"""
    return shapes("c", 3)


def d_has_three_axes() -> dict[str, tuple[int, ...]]:
    """shapes are aligned from the right and merged: (4, 1) against (4,) has two axes"""
    return shapes("d", 4, 1, 4)


def d_joins_the_shapes() -> dict[str, tuple[int, ...]]:
    """the axis of size 1 is stretched to 4 and not counted as an axis: two axes are left"""
    return shapes("d", 4, 4, 1)


def d_is_a_single_entry() -> dict[str, tuple[int, ...]]:
    """* multiplies entries and sums nothing; a row times a column with @ would be a single
    entry"""
    return shapes("d", 1, 1)


def d_adds_the_sizes() -> dict[str, tuple[int, ...]]:
    """sizes are not added: each of the 4 rows has 4 columns"""
    return shapes("d", 4, 5)


def d_is_sixteen() -> dict[str, tuple[int, ...]]:
    """the 16 products lie in rows and columns: two axes of 4"""
    return shapes("d", 16)


def e_loses_the_middle() -> dict[str, tuple[int, ...]]:
    """a transpose moves axes and removes none"""
    return shapes("e", 4, 3)


def f_puts_the_one_in_the_middle() -> dict[str, tuple[int, ...]]:
    """shapes are compared from the right: 5 meets 5 and 1 meets 4, and both sizes stay"""
    return shapes("f", 3, 1, 4)


def f_keeps_an_axis_of_one() -> dict[str, tuple[int, ...]]:
    """shapes are compared from the right and merged, not joined: no axis is added"""
    return shapes("f", 3, 5, 4, 1)


def f_adds_the_sizes() -> dict[str, tuple[int, ...]]:
    """+ adds the values, not the sizes: 1 meets 4 and is stretched to it"""
    return shapes("f", 3, 5, 5 + 5)


def f_joins_the_columns() -> dict[str, tuple[int, ...]]:
    """+ adds the values and does not append them: an axis of size 1 is stretched to 4"""
    return shapes("f", 3, 10, 4)


def g_is_two_axes() -> dict[str, tuple[int, ...]]:
    """only the 4 is summed over: batch and tokens both stay"""
    return shapes("g", 3, 6)


def g_turns_its_columns() -> dict[str, tuple[int, ...]]:
    """the columns of the right factor, 6, become the last axis, in the place of the 4"""
    return shapes("g", 3, 6, 5)


def g_is_the_right_factor() -> dict[str, tuple[int, ...]]:
    """the product has the rows of x and the columns of the other; this is the right factor alone"""
    return shapes("g", 4, 6)


def g_puts_its_columns_first() -> dict[str, tuple[int, ...]]:
    """the batch and the tokens keep their places; the 6 takes the place of the 4, the last"""
    return shapes("g", 6, 5, 3)


def g_multiplies_the_sizes() -> dict[str, tuple[int, ...]]:
    """the 4 is summed over and leaves nothing behind; the last axis has the 6 columns"""
    return shapes("g", 3, 5, 24)


# --- 0.3 sequence_means ---


def means_with(
    x: Tensor,
    *,
    order: str = "moved",
    over: str = "tokens",
    how: str = "mean",
    result: str = "(B, d)",
) -> Tensor:
    """The means; `how` says what is made of the tokens in place of their mean."""
    T, B, d = x.shape
    if order == "regrouped":
        by_sequence = x.reshape(B, T, d)
    elif order == "viewed":
        by_sequence = x.view(B, T, d)
    elif order == "moved and regrouped":
        by_sequence = x.transpose(0, 1).reshape(T, B, d).transpose(0, 1)
    elif order == "last two exchanged":
        by_sequence = x.transpose(1, 2).reshape(B, T, d)
    elif order == "first and last exchanged":
        by_sequence = x.transpose(0, 2).reshape(B, T, d)
    else:
        by_sequence = x.transpose(0, 1)
    if over == "nothing":
        return by_sequence
    if over == "everything":
        return by_sequence.mean()
    if over == "tokens and sequences":
        means = by_sequence.mean(dim=(0, 1)).expand(B, d)
    elif over == "tokens and features":
        means = by_sequence.mean(dim=(1, 2))[:, None].expand(B, d)
    else:
        means = reduced(by_sequence, AXES[over], how)
    if over.endswith("other axis first") or result == "transposed":
        means = means.T
    elif result == "reshaped":
        means = means.T.reshape(means.shape)
    elif result == "axis kept":
        means = means.unsqueeze(AXES.get(over, 1))
    elif result == "axis in front":
        means = means[None]
    elif result == "flat":
        means = means.flatten()
    return means


AXES = {
    "tokens": 1,
    "sequences": 0,
    "sequences, other axis first": 0,
    "features": 2,
    "features, other axis first": 2,
}


def reduced(x: Tensor, axis: int, how: str) -> Tensor:
    """One value in place of an axis; right if `how` is "mean". Sizes are those of (B, T, d)."""
    first, *others = x.unbind(axis)
    size = x.size(axis)
    if how == "halved at every step":
        for other in others:
            first = (first + other) / 2
        return first
    picked = {"first": 0, "last": size - 1, "middle": size // 2}
    if how in picked:
        return x.select(axis, picked[how])
    if how == "median":
        return x.median(dim=axis).values
    if how == "largest":
        return x.amax(dim=axis)
    if how == "smallest":
        return x.amin(dim=axis)
    if how == "deviation":
        return x.std(dim=axis) if size > 1 else x.select(axis, 0)
    if how == "product":
        return x.prod(dim=axis)
    if how == "length":
        return x.norm(dim=axis)
    if how == "root of the mean square":
        return x.norm(dim=axis) / math.sqrt(size)
    if how == "without the last":
        return x.narrow(axis, 0, size - 1).mean(dim=axis)
    if how == "without the first":
        return x.narrow(axis, 1, size - 1).mean(dim=axis)
    if how == "ends":
        return (x.select(axis, 0) + x.select(axis, size - 1)) / 2
    return x.sum(dim=axis) / COUNTS[how](*x.shape, size)


COUNTS = {
    "mean": lambda B, T, d, size: size,
    "sum": lambda B, T, d, size: 1,
    "divided by B": lambda B, T, d, size: B,
    "divided by d": lambda B, T, d, size: d,
    "divided by T - 1": lambda B, T, d, size: max(size - 1, 1),
    "divided by T + 1": lambda B, T, d, size: size + 1,
    "divided by all": lambda B, T, d, size: B * T,
    "divided twice": lambda B, T, d, size: size**2,
    "divided by a root": lambda B, T, d, size: math.sqrt(size),
}

REGROUPED = (
    "x is still regrouped in memory order, so each mean mixes vectors of several sequences; move "
    "the axes, don't regroup"
)
OVER_SEQUENCES = (
    "the mean runs over the sequences and gives one row per token; it should run over the tokens "
    "of each sequence"
)
OVER_FEATURES = "the mean runs over the features, the last axis; it should run over the tokens"

MEANS = mistakes(
    means_with,
    as_handed_out=(REGROUPED, {"order": "regrouped"}),
    as_a_view=(REGROUPED, {"order": "viewed"}),
    regrouped_after_the_transpose=(
        "the transpose is right, but a reshape after it regroups the values again",
        {"order": "moved and regrouped"},
    ),
    last_axes_exchanged=(
        "the last two axes are exchanged; time and batch are axes 0 and 1",
        {"order": "last two exchanged"},
    ),
    first_and_last_exchanged=(
        "axes 0 and 2 are exchanged; time and batch are axes 0 and 1",
        {"order": "first and last exchanged"},
    ),
    means_over_the_batch=(OVER_SEQUENCES, {"over": "sequences"}),
    batch_means_transposed=(OVER_SEQUENCES, {"over": "sequences, other axis first"}),
    means_over_the_features=(OVER_FEATURES, {"over": "features"}),
    features_of_each_token=(OVER_FEATURES, {"over": "features, other axis first"}),
    mean_of_everything=(
        "the mean runs over all tokens of all sequences, so that every row is the same; each "
        "sequence has a mean of its own",
        {"over": "tokens and sequences"},
    ),
    features_averaged_too=(
        "the mean runs over the features as well, so that a row has one value throughout; only the "
        "tokens are averaged",
        {"over": "tokens and features"},
    ),
    one_number=(
        "this is one mean of all values; each sequence has a mean vector of its own, (B, d)",
        {"over": "everything"},
    ),
    not_averaged=(
        "time and batch are exchanged as they should be, but the mean over the tokens is missing",
        {"over": "nothing"},
    ),
    sums_over_the_tokens=(
        "the tokens are summed; the mean divides by T as well",
        {"how": "sum"},
    ),
    divided_by_the_batch=(
        "the sum over the tokens is divided by B, the number of sequences; there are T tokens",
        {"how": "divided by B"},
    ),
    divided_by_the_features=(
        "the sum over the tokens is divided by d, the number of features; there are T tokens",
        {"how": "divided by d"},
    ),
    divided_by_t_minus_one=(
        "the sum over the tokens is divided by T - 1; there are T tokens",
        {"how": "divided by T - 1"},
    ),
    divided_by_t_plus_one=(
        "the sum over the tokens is divided by T + 1; there are T tokens",
        {"how": "divided by T + 1"},
    ),
    divided_by_all_tokens=(
        "the sum over the tokens of one sequence is divided by B times T, the tokens of all",
        {"how": "divided by all"},
    ),
    divided_twice=(
        "the sum is divided by T twice: mean has divided already",
        {"how": "divided twice"},
    ),
    divided_by_a_root=(
        "the sum over the tokens is divided by the square root of T; divide by T",
        {"how": "divided by a root"},
    ),
    halved_at_every_step=(
        "the mean so far and the next token are averaged at every step, which gives late tokens "
        "more weight; add all of them up and divide once, by T",
        {"how": "halved at every step"},
    ),
    mean_of_the_ends=(
        "this is the mean of the first and the last token; all T tokens count",
        {"how": "ends"},
    ),
    last_token_only=(
        "this is the last token of each sequence; all of its tokens count",
        {"how": "last"},
    ),
    first_token_only=(
        "this is the first token of each sequence; all of its tokens count",
        {"how": "first"},
    ),
    middle_token_only=(
        "this is the token in the middle of each sequence; all of its tokens count",
        {"how": "middle"},
    ),
    medians=("this is the median of the tokens; the mean is asked for", {"how": "median"}),
    largest_of_the_tokens=(
        "this is the largest value of each feature; the mean is asked for",
        {"how": "largest"},
    ),
    smallest_of_the_tokens=(
        "this is the smallest value of each feature; the mean is asked for",
        {"how": "smallest"},
    ),
    deviation_of_the_tokens=(
        "this is the standard deviation of the tokens; the mean is asked for",
        {"how": "deviation"},
    ),
    product_of_the_tokens=(
        "the tokens are multiplied; add them up and divide by T",
        {"how": "product"},
    ),
    length_of_the_tokens=(
        "this is the root of the sum of squares, which has lost the signs; the mean is asked for",
        {"how": "length"},
    ),
    root_of_the_mean_square=(
        "this is the root of the mean square, which has lost the signs; the mean is asked for",
        {"how": "root of the mean square"},
    ),
    last_token_left_out=(
        "the last token is left out; all T tokens count",
        {"how": "without the last"},
    ),
    first_token_left_out=(
        "the first token is left out; all T tokens count",
        {"how": "without the first"},
    ),
    axis_kept=(
        "the axis of the mean is still there, with size 1; (B, d) is asked for",
        {"result": "axis kept"},
    ),
    axis_in_front=(
        "there is an axis of size 1 in front; (B, d) is asked for",
        {"result": "axis in front"},
    ),
    means_transposed=(
        "the means are transposed: (d, B); (B, d) is asked for",
        {"result": "transposed"},
    ),
    means_reshaped=(
        "means of shape (d, B) are reshaped to (B, d), which regroups them in memory order; only a "
        "transpose moves each to its place",
        {"result": "reshaped"},
    ),
    means_in_one_row=(
        "the means are in one long row; (B, d) is asked for, a row per sequence",
        {"result": "flat"},
    ),
)


# --- 0.4 bigram_probabilities ---


def counts_of(current: Tensor, following: Tensor, V: int) -> Tensor:
    """The counts N (V, V) in floating point."""
    places = V * current + following
    return torch.bincount(places, minlength=V * V).view(V, V).float()


def counts_with(ids: Tensor, V: int, pairs: str) -> Tensor:
    """The counts (V, V) of the neighbours in a text, or of other pairs."""
    if pairs == "around the end":
        return counts_of(ids, ids.roll(-1), V)
    if pairs == "the first after the last only":
        return counts_of(ids, ids.roll(1), V)
    if pairs == "do not overlap":
        return counts_of(ids[:-1:2], ids[1::2], V)
    if pairs == "two steps ahead":
        return counts_of(ids[:-2], ids[2:], V)
    if pairs == "without the last":
        return counts_of(ids[:-2], ids[1:-1], V)
    if pairs == "without the first":
        return counts_of(ids[1:-1], ids[2:], V)
    if pairs == "with itself":
        return counts_of(ids, ids, V)
    if pairs == "all later ones":
        n = len(ids)
        before, after = torch.triu_indices(n, n, offset=1)
        return counts_of(ids[before], ids[after], V)
    return counts_of(ids[:-1], ids[1:], V)


def shares_with(
    ids: Tensor,
    V: int,
    *,
    pairs: str = "neighbours",
    counted: str = "each time",
    exchanged: bool = False,
    divisor: str = "row",
    filling: str = "by the divisor",
    empty: str = "uniform",
    form: str = "shares",
) -> Tensor:
    """The table. `filling` says how rows without counts are found: all ways are right by rows."""
    V = int(ids.max()) + 1 if form == "only what occurs" else V
    N = COUNTED[counted](counts_with(ids, V, pairs))
    N = N.T if exchanged else N
    if form == "softmax":
        return torch.softmax(N, dim=-1)
    is_empty = N.sum(1, keepdim=True) == 0
    if filling == "first" and empty == "uniform":
        N = N.masked_fill(is_empty, 1.0)
    totals = TOTALS[divisor](N, ids)
    shares = N / totals
    if empty == "uniform":
        if filling == "by columns":
            shares = torch.where(N.sum(0)[:, None] == 0, 1 / V, shares)
        elif filling == "by columns, then nan":
            shares = torch.where(N.sum(0)[:, None] == 0, 1 / V, shares.nan_to_num(0.0))
        elif filling == "by columns first":
            N = N.masked_fill(N.sum(0)[:, None] == 0, 1.0)
            shares = N / N.sum(1, keepdim=True).clamp(min=1)
        elif filling == "afterwards":
            shares = torch.where(is_empty, 1 / V, N / totals.clamp(min=1))
        elif filling == "nan replaced":
            shares = shares.nan_to_num(1 / V)
        else:
            shares = torch.where(totals > 0, shares, 1 / V)
    elif empty == "zeros for nan":
        shares = shares.nan_to_num(0.0)
    elif empty != "nan":
        shares = torch.where(is_empty, EMPTY[empty](ids, V), shares)
    return FORMS[form](shares)


COUNTED = {
    "each time": lambda N: N,
    "once": lambda N: (N > 0).float(),
    "plus one": lambda N: N + 1,
    "plus a half": lambda N: N + 0.5,
    "plus a tenth": lambda N: N + 0.1,
    "plus a hundredth": lambda N: N + 0.01,
    "without repetitions": lambda N: N - N.diag().diag(),
    "both ways": lambda N: N + N.T,
}
TOTALS = {
    "row": lambda N, ids: N.sum(1, keepdim=True),
    "column": lambda N, ids: N.sum(0, keepdim=True),
    "row without keepdim": lambda N, ids: N.sum(1),
    "column, downwards": lambda N, ids: N.sum(0)[:, None],
    "all pairs": lambda N, ids: N.sum().expand(len(N), 1),
    "length of the text": lambda N, ids: torch.full((len(N), 1), float(len(ids))),
    "occurrences": lambda N, ids: torch.bincount(ids, minlength=len(N))[:, None].float(),
    "number of characters": lambda N, ids: torch.full((len(N), 1), float(len(N))),
    "largest": lambda N, ids: N.amax(1, keepdim=True),
    "length": lambda N, ids: N.norm(dim=1, keepdim=True),
    "mean": lambda N, ids: N.mean(1, keepdim=True),
    "kinds": lambda N, ids: (N > 0).sum(1, keepdim=True).float(),
    "one more": lambda N, ids: N.sum(1, keepdim=True) + 1,
    "none": lambda N, ids: torch.ones(len(N), 1),
}
EMPTY = {
    "zeros": lambda ids, V: torch.zeros(V, V),
    "ones": lambda ids, V: torch.ones(V, V),
    "itself": lambda ids, V: torch.eye(V),
    "the first": lambda ids, V: F.one_hot(torch.tensor(0), V).float().expand(V, V),
    "of the text": lambda ids, V: torch.bincount(ids, minlength=V).expand(V, V) / len(ids),
    "one over T": lambda ids, V: torch.full((V, V), 1 / len(ids)),
    "one over the number of pairs": lambda ids, V: torch.full((V, V), 1 / max(len(ids) - 1, 1)),
    "one over the square": lambda ids, V: torch.full((V, V), 1 / V**2),
    "what occurs": lambda ids, V: F.one_hot(ids.unique(), V).float().mean(0).expand(V, V),
}
FORMS = {
    "shares": lambda shares: shares,
    "only what occurs": lambda shares: shares,
    "logarithms": lambda shares: shares.log(),
    "whole numbers": lambda shares: shares.floor(),
    "whole numbers of int64": lambda shares: shares.floor().nan_to_num(0.0).long(),
    "percent": lambda shares: 100 * shares,
    "cumulated": lambda shares: shares.cumsum(1),
    "flat": lambda shares: shares.flatten(),
}
DIVISORS = {
    "column": "each column is divided by its sum; the rows should sum to 1",
    "row without keepdim": (
        "the sums of the rows have lost their axis (no keepdim=True), so that column j is divided "
        "by the sum of row j"
    ),
    "column, downwards": (
        "row i is divided by the sum of column i, how often i comes second; divide it by its own "
        "sum"
    ),
    "all pairs": (
        "the counts are divided by the number of all pairs; each row needs a sum of its own"
    ),
    "length of the text": (
        "the counts are divided by T, the length of the text; each row needs a sum of its own"
    ),
    "occurrences": (
        "the rows are divided by how often their character occurs, and the last character of the "
        "text is followed by nothing; divide by the sum of the row"
    ),
    "number of characters": (
        "the counts are divided by V, the number of characters; divide each row by its sum"
    ),
    "largest": "each row is divided by its largest count; divide by its sum, so that it sums to 1",
    "length": (
        "each row is divided by its length, the root of the sum of squares (F.normalize does "
        "that); divide by its sum"
    ),
    "mean": "each row is divided by its mean; divide by its sum, so that it sums to 1",
    "kinds": (
        "each row is divided by how many different characters follow; divide by its sum, which "
        "counts them as often as they come"
    ),
    "one more": "1 is added to the sum of each row, which then falls short of 1; divide by the sum",
    "none": "these are the counts; divide each row by its sum",
}
FILLINGS = {
    "by the divisor": "",
    "first": "_filled_first",
    "afterwards": "_filled_afterwards",
    "nan replaced": "_with_nan_replaced",
}
BY_COLUMNS = (
    "the empty rows are looked for with the sums of the columns, which say whether a character "
    "comes second; a row is empty if its own sum is 0"
)
ONCE = (
    "each pair counts once, however often it occurs: counts[i, j] += 1 with tensors of indices "
    "does not add up repetitions; use a loop, index_put_ with accumulate=True, or bincount"
)
SMOOTHED = "a small number is added to every count; plain shares are asked for, with zeros"
NOTHING_LEFT = (
    "a row without counts is left at 0; every row sums to 1, so it should be 1 / V everywhere"
)
ROUNDED = "the shares were rounded down to whole numbers: // divides whole numbers, / gives shares"

SHARES = mistakes(
    shares_with,
    **{
        f"divided_by_{divisor}{suffix}": (said, {"divisor": divisor, "filling": filling})
        for divisor, said in DIVISORS.items()
        for filling, suffix in FILLINGS.items()
    },
    rows_are_the_next=(
        "rows and columns are exchanged: the row is the current character, the column the next one",
        {"exchanged": True},
    ),
    transposed_afterwards=(
        "the finished table is transposed: its rows, not its columns, belong to the current "
        "character",
        {"exchanged": True, "divisor": "column"},
    ),
    nan_for_empty_rows=(
        "a row without counts is nan, because it is 0 / 0; it should be 1 / V everywhere",
        {"empty": "nan"},
    ),
    zeros_for_empty_rows=(NOTHING_LEFT, {"empty": "zeros"}),
    zeros_for_all_nan=(NOTHING_LEFT, {"empty": "zeros for nan"}),
    ones_for_empty_rows=(
        "a row without counts is 1 everywhere; every row sums to 1, so it should be 1 / V",
        {"empty": "ones"},
    ),
    itself_for_empty_rows=(
        "a character that nothing follows is followed by itself here; its row should be 1 / V "
        "everywhere",
        {"empty": "itself"},
    ),
    first_for_empty_rows=(
        "a character that nothing follows is followed by character 0 here; its row should be 1 / V "
        "everywhere",
        {"empty": "the first"},
    ),
    text_for_empty_rows=(
        "a row without counts holds the shares of all characters in the text; it should be 1 / V "
        "everywhere",
        {"empty": "of the text"},
    ),
    one_over_t_for_empty_rows=(
        "a row without counts is 1 / T, with the length of the text; V characters share it, so it "
        "should be 1 / V",
        {"empty": "one over T"},
    ),
    one_over_pairs_for_empty_rows=(
        "a row without counts is 1 / (T - 1), with the number of pairs; V characters share it, so "
        "it should be 1 / V",
        {"empty": "one over the number of pairs"},
    ),
    one_over_the_square_for_empty_rows=(
        "a row without counts is 1 over V squared; every row has V entries and sums to 1, so it "
        "should be 1 / V",
        {"empty": "one over the square"},
    ),
    what_occurs_for_empty_rows=(
        "a row without counts is shared by the characters that occur in the text; all V share it",
        {"empty": "what occurs"},
    ),
    empty_by_columns=(BY_COLUMNS, {"filling": "by columns"}),
    empty_by_columns_without_nan=(BY_COLUMNS, {"filling": "by columns, then nan"}),
    empty_by_columns_first=(BY_COLUMNS, {"filling": "by columns first"}),
    each_pair_counted_once=(ONCE, {"counted": "once"}),
    one_added=(
        "1 is added to every count (smoothing); that is a way to avoid zeros, but plain shares are "
        "asked for here",
        {"counted": "plus one"},
    ),
    one_half_added=(SMOOTHED, {"counted": "plus a half"}),
    one_tenth_added=(SMOOTHED, {"counted": "plus a tenth"}),
    one_hundredth_added=(SMOOTHED, {"counted": "plus a hundredth"}),
    repetitions_skipped=(
        "pairs of one character twice are not counted; they are pairs like all others",
        {"counted": "without repetitions"},
    ),
    both_directions=(
        "each pair is counted in both directions; N_ij counts only j after i",
        {"counted": "both ways"},
    ),
    around_the_end=(
        "the last character is taken to be followed by the first (torch.roll, or an index of -1); "
        "a text of T characters has T - 1 pairs",
        {"pairs": "around the end"},
    ),
    around_the_end_backwards=(
        "torch.roll by +1 pairs each character with the one before it, and the first with the "
        "last; neighbours are ids[:-1] and ids[1:]",
        {"pairs": "the first after the last only"},
    ),
    pairs_do_not_overlap=(
        "the pairs don't overlap (characters 0 and 1, then 2 and 3); every character but the last "
        "begins a pair",
        {"pairs": "do not overlap"},
    ),
    two_steps_ahead=(
        "each character is paired with the one after the next; neighbours are ids[:-1] and ids[1:]",
        {"pairs": "two steps ahead"},
    ),
    last_pair_dropped=(
        "the last pair is not counted; a text of T characters has T - 1 pairs",
        {"pairs": "without the last"},
    ),
    first_pair_dropped=(
        "the first pair is not counted; it is ids[0] and ids[1]",
        {"pairs": "without the first"},
    ),
    paired_with_itself=(
        "every character is paired with itself; the second of a pair is the next one, ids[1:]",
        {"pairs": "with itself"},
    ),
    all_later_ones=(
        "each character is paired with all that come later; only its right neighbour counts",
        {"pairs": "all later ones"},
    ),
    softmax_of_the_counts=(
        "this is the softmax of the counts; shares are counts divided by their sum",
        {"form": "softmax"},
    ),
    logarithms=(
        "these are logarithms of the probabilities; the probabilities themselves are asked for",
        {"form": "logarithms"},
    ),
    whole_numbers=(ROUNDED, {"form": "whole numbers"}),
    whole_numbers_of_int64=(ROUNDED, {"form": "whole numbers of int64", "empty": "zeros"}),
    in_percent=(
        "the shares are in percent; every row should sum to 1",
        {"form": "percent"},
    ),
    shares_cumulated=(
        "the shares are added up along each row; each entry should be the share of one character",
        {"form": "cumulated"},
    ),
    only_the_characters_of_the_text=(
        "the table is only as large as the text needs; V says how many rows and columns it has",
        {"form": "only what occurs"},
    ),
    table_flattened=(
        "the shares are in one long row; the table has the shape (V, V)",
        {"form": "flat"},
    ),
)


def how_often_the_next_occurs(ids: Tensor, V: int) -> Tensor:
    """every row is the same, the share of each character in the text; the row of i counts only what
    comes after i"""
    return torch.bincount(ids, minlength=V).float().expand(V, V) / max(len(ids), 1)


def equal_shares_everywhere(ids: Tensor, V: int) -> Tensor:
    """every entry is 1 / V, as if nothing had been counted; that is for rows without counts"""
    return torch.full((V, V), 1 / V)


def equal_shares_of_what_occurs(ids: Tensor, V: int) -> Tensor:
    """every 0 of the table has become 1 / V; only rows without any counts should"""
    shares = shares_with(ids, V)
    return torch.where(shares == 0, 1 / V, shares)


# --- 0.5 read_tables ---


def reading(name: str, letter: str) -> dict[str, str]:
    """The right letters but for one, used by the wrong answers."""
    right = {"forwards": "D", "backwards": "A", "runs": "C", "alternating": "B"}
    return {**right, name: letter}


def a_goes_back() -> dict[str, str]:
    """in A the bright cell in the row of c is in the column of b: the row is the current letter,
    the column the next one"""
    return reading("forwards", "A")


def b_leaves_a_choice() -> dict[str, str]:
    """in B each row has three bright cells, so the next letter is not certain; forwards has one"""
    return reading("forwards", "B")


def c_stays() -> dict[str, str]:
    """in C the bright cell in the row of c is in the column of c, the same letter"""
    return reading("forwards", "C")


def d_goes_forward() -> dict[str, str]:
    """in D the bright cell in the row of c is in the column of d: the row is the current letter,
    the column the next one"""
    return reading("backwards", "D")


def b_has_no_single_successor() -> dict[str, str]:
    """in B each row has three bright cells; backwards has one"""
    return reading("backwards", "B")


def c_repeats() -> dict[str, str]:
    """in C each letter is followed by itself, which is neither forwards nor backwards"""
    return reading("backwards", "C")


def a_leaves_the_diagonal() -> dict[str, str]:
    """in A the bright cells are one beside the diagonal; a repeated letter is on it"""
    return reading("runs", "A")


def b_is_dark_on_the_diagonal() -> dict[str, str]:
    """B is dark on its whole diagonal, so no letter likes to follow itself"""
    return reading("runs", "B")


def d_leaves_the_diagonal() -> dict[str, str]:
    """in D the bright cells are one to the right of the diagonal; a repeated letter is on it"""
    return reading("runs", "D")


def a_stays_in_its_half() -> dict[str, str]:
    """in A the letters b and c are followed by letters of their own half"""
    return reading("alternating", "A")


def c_stays_in_its_half() -> dict[str, str]:
    """in C each letter is followed by itself, which is in its own half"""
    return reading("alternating", "C")


def d_stays_in_its_half() -> dict[str, str]:
    """in D the letters a and b are followed by letters of their own half"""
    return reading("alternating", "D")


# --- 0.6 draw ---


def draw_with(
    row: Tensor,
    u: float,
    *,
    order: str = "own",
    numbered: str = "in the row",
    pieces: str = "probabilities",
    border: str = "to the next",
    number: str = "of the piece",
    random_number: str = "u",
    result: str = "number",
) -> float:
    """The character drawn."""
    row = row.double()
    u = NUMBERS[random_number](u)
    places = ORDERS[order](row)
    if pieces == "equal":
        lengths = torch.full_like(row, 1 / len(row))
    elif pieces == "softmax":
        lengths = torch.softmax(row, dim=0)[places]
    else:
        lengths = row[places]
    ends = lengths.cumsum(0)
    if pieces == "starts":
        ends = ends - lengths
    ended = ends < u if border == "to the earlier" else ends <= u
    at = NUMBERINGS[number](int(ended.sum()), len(row))
    if result == "probability":
        return float(lengths[at])
    if result == "end":
        return float(ends[at])
    if result == "start":
        return float(ends[at] - lengths[at])
    if number == "plus one":
        return int(places[at]) + 1
    if numbered == "in the new order" or not 0 <= at < len(row):
        return at
    return int(places[at])


NUMBERS = {
    "u": lambda u: u,
    "1 - u": lambda u: 1 - u,
    "half of u": lambda u: u / 2,
    "square of u": lambda u: u * u,
}
ORDERS = {
    "own": lambda row: torch.arange(len(row)),
    "backwards": lambda row: torch.arange(len(row)).flip(0),
    "largest first": lambda row: row.argsort(descending=True, stable=True),
    "smallest first": lambda row: row.argsort(stable=True),
}
NUMBERINGS = {
    "of the piece": lambda at, n: at,
    "of the next": lambda at, n: at + 1,
    "plus one": lambda at, n: at,
    "of the next, at most the last": lambda at, n: min(at + 1, n - 1),
    "of the last that ended": lambda at, n: at - 1,
    "of the last that ended, at least 0": lambda at, n: max(at - 1, 0),
    "of those that have not ended": lambda at, n: n - at,
    "from the end": lambda at, n: n - 1 - at,
}
ONE_TOO_HIGH = (
    "the number is one too high: the first character is number 0, and the piece that holds u does "
    "not count as one that has ended"
)
ONE_TOO_LOW = (
    "the number is one too low: this is the last piece that ends before u, and the next one holds u"
)
EQUAL = (
    "all pieces have the same length here; the piece of a character is as long as its probability"
)

DRAWN = mistakes(
    draw_with,
    end_included=(
        "at the border of two pieces the earlier one is drawn; a piece includes its start and not "
        "its end, so a piece that ends at u itself is over",
        {"border": "to the earlier"},
    ),
    backwards=(
        "the pieces are laid out from the last character to the first; character 0 begins at 0",
        {"order": "backwards"},
    ),
    sorted_first=(
        "the pieces are laid out by size, the most likely first; they should keep their order",
        {"order": "largest first"},
    ),
    smallest_first=(
        "the pieces are laid out by size, the least likely first; they should keep their order",
        {"order": "smallest first"},
    ),
    number_after_sorting=(
        "the row is sorted first, and the result is a place in the sorted row; the pieces should "
        "keep their order",
        {"order": "largest first", "numbered": "in the new order"},
    ),
    number_after_sorting_upwards=(
        "the row is sorted first, and the result is a place in the sorted row; the pieces should "
        "keep their order",
        {"order": "smallest first", "numbered": "in the new order"},
    ),
    equal_pieces=(EQUAL, {"pieces": "equal"}),
    softmax_of_the_row=(
        "a softmax is taken of the row, but its entries are probabilities already",
        {"pieces": "softmax"},
    ),
    one_too_far=(ONE_TOO_HIGH, {"number": "of the next"}),
    one_too_far_at_most_the_last=(ONE_TOO_HIGH, {"number": "of the next, at most the last"}),
    one_added_at_last=(ONE_TOO_HIGH, {"number": "plus one"}),
    starts_in_place_of_ends=(ONE_TOO_HIGH, {"pieces": "starts"}),
    one_too_low=(ONE_TOO_LOW, {"number": "of the last that ended"}),
    one_too_low_at_least_0=(ONE_TOO_LOW, {"number": "of the last that ended, at least 0"}),
    numbered_from_the_end=(
        "the pieces that end after u are counted; those that end before it give the number",
        {"number": "of those that have not ended"},
    ),
    counted_from_the_end=(
        "the characters are numbered from the end; the first one is number 0",
        {"number": "from the end"},
    ),
    from_the_other_side=(
        "1 - u is used in place of u: the pieces begin at 0",
        {"random_number": "1 - u"},
    ),
    half_of_u=("half of u is used; u itself is the place", {"random_number": "half of u"}),
    square_of_u=(
        "the square of u is used; u itself is the place",
        {"random_number": "square of u"},
    ),
    probability_returned=(
        "this is the probability of the character; its number is asked for",
        {"result": "probability"},
    ),
    end_returned=(
        "this is where the piece ends; the number of the character is asked for",
        {"result": "end"},
    ),
    start_returned=(
        "this is where the piece begins; the number of the character is asked for",
        {"result": "start"},
    ),
)

NOT_ADDED_UP = (
    "this is the first character whose own probability is above u; compare u with the running sum "
    "of the probabilities"
)


def most_likely(row: Tensor, u: float) -> int:
    """this is the most likely character whatever u is; u decides"""
    return int(row.argmax())


def least_likely(row: Tensor, u: float) -> int:
    """this is the least likely character whatever u is; u decides"""
    return int(row.argmin())


def always_the_first(row: Tensor, u: float) -> int:
    """this is character 0 whatever u is: argmax, or a loop that returns at once, stops too early"""
    return 0


def always_the_last(row: Tensor, u: float) -> int:
    """this is the last character whatever u is: the loop runs on after it has found the piece"""
    return len(row) - 1


def pieces_not_added_up(row: Tensor, u: float) -> int:
    """the probabilities that are below u are counted; a piece ends where the sum of all
    probabilities up to its own ends"""
    return int((row <= u).sum())


def pieces_above_counted(row: Tensor, u: float) -> int:
    """the probabilities that are above u are counted; a piece ends where the sum of all
    probabilities up to its own ends"""
    return int((row > u).sum())


def first_above_or_last(row: Tensor, u: float) -> int:
    return next((i for i, p in enumerate(row.tolist()) if p > u), len(row) - 1)


def first_above_or_first(row: Tensor, u: float) -> int:
    return next((i for i, p in enumerate(row.tolist()) if p > u), 0)


def first_above_or_past_the_end(row: Tensor, u: float) -> int:
    return next((i for i, p in enumerate(row.tolist()) if p > u), len(row))


first_above_or_last.__doc__ = NOT_ADDED_UP
first_above_or_first.__doc__ = NOT_ADDED_UP
first_above_or_past_the_end.__doc__ = NOT_ADDED_UP


def first_below(row: Tensor, u: float) -> int:
    """this is the first character whose own probability is at most u; compare u with the running
    sum of the probabilities"""
    return next((i for i, p in enumerate(row.tolist()) if p <= u), 0)


def last_above(row: Tensor, u: float) -> int:
    """this is the last character whose own probability is above u; compare u with the running sum
    of the probabilities"""
    return max((i for i, p in enumerate(row.tolist()) if p > u), default=0)


def searched_in_the_row(row: Tensor, u: float) -> int:
    """u is searched among the probabilities themselves; search it in their running sum, cumsum"""
    return int(torch.searchsorted(row, u, right=True))


def nearest_probability(row: Tensor, u: float) -> int:
    """this is the character whose probability is nearest to u; find the piece that u falls into"""
    return int((row - u).abs().argmin())


def nearest_end(row: Tensor, u: float) -> int:
    """this is the character whose piece ends nearest to u; u may be past that end"""
    return int((row.cumsum(0) - u).abs().argmin())


def nearest_start(row: Tensor, u: float) -> int:
    """this is the character whose piece begins nearest to u; u may be before that start"""
    return int((row.cumsum(0) - row - u).abs().argmin())


def u_ignored(row: Tensor, u: float) -> int:
    """the character is drawn with new random numbers; u is the random number to use"""
    return int(torch.multinomial(row, 1))


def share_of_u(row: Tensor, u: float) -> int:
    """the probabilities are multiplied by u and the largest is taken; u is a place between 0 and
    1, and the piece there is drawn"""
    return len(row) - 1 - int((row * u).flip(0).argmax())


def equal_pieces_rounded(row: Tensor, u: float) -> int:
    """u is stretched to the numbers of the characters and rounded, so that the probabilities don't
    count; the piece of a character is as long as its probability"""
    return round(u * (len(row) - 1))


def equal_pieces_to_the_last(row: Tensor, u: float) -> int:
    """u is multiplied by V - 1, so that the probabilities don't count and the last character is
    never drawn; the piece of a character is as long as its probability"""
    return int(u * (len(row) - 1))


def expected_character(row: Tensor, u: float) -> int:
    """this is the mean of the characters' numbers, whatever u is; u decides"""
    return round((row * torch.arange(len(row))).sum().item())


# --- 0.7 cross_entropy ---


def loss_with(
    probabilities: Tensor,
    ids: Tensor,
    *,
    pairs: str = "neighbours",
    exchanged: bool = False,
    table: str = "as it is",
    base: float = math.e,
    minus: bool = True,
    score: str = "log",
    added: float = 0.0,
    infinite: str = "kept",
    average: str = "mean",
    result: str = "loss",
) -> Tensor:
    """The mean surprise."""
    if table != "as it is":
        probabilities = torch.softmax(probabilities, 0 if table == "softmax of columns" else 1)
    first, second = PAIRS[pairs](ids)
    first, second = (second, first) if exchanged else (first, second)
    p = probabilities[first, second]
    p = p.clamp(min=added) if added >= 1e-5 else p + added  # so much would show elsewhere, added
    if infinite == "left out":
        p = p[p > 0]
    if average == "before the logarithm":
        p = p.mean()
    if average == "product":
        p = p.prod()
    surprises = SCORES[score](p) / math.log(base) * (1 if minus else -1)
    if infinite in FINITE:
        surprises = FINITE[infinite](surprises)
    loss = AVERAGES[average](surprises, len(ids), len(probabilities))
    return RESULTS[result](loss)


PAIRS = {
    "neighbours": lambda ids: (ids[:-1], ids[1:]),
    "around the end": lambda ids: (ids, ids.roll(-1)),
    "around the end backwards": lambda ids: (ids, ids.roll(1)),
    "own": lambda ids: (ids, ids),
    "own, without the last": lambda ids: (ids[:-1], ids[:-1]),
    "own, without the first": lambda ids: (ids[1:], ids[1:]),
    "without the last": lambda ids: (ids[:-2], ids[1:-1]),
    "without the first": lambda ids: (ids[1:-1], ids[2:]),
    "two steps ahead": lambda ids: (ids[:-2], ids[2:]),
    "do not overlap": lambda ids: (ids[:-1:2], ids[1::2]),
    "the row of the first": lambda ids: (ids[:1].expand(len(ids) - 1), ids[1:]),
    "each once": lambda ids: tuple(torch.stack([ids[:-1], ids[1:]]).unique(dim=1)),
}
SCORES = {
    "log": lambda p: -p.log(),
    "1 - p": lambda p: 1 - p,
    "p": lambda p: p,
    "1 / p": lambda p: 1 / p,
    "p log p": lambda p: -p * p.log(),
    "log(1 + p)": lambda p: -p.log1p(),
    "log(1 - p)": lambda p: -(1 - p).log(),
    "both": lambda p: -p.log() - (1 - p).log(),
    "squared error": lambda p: (1 - p) ** 2,
    "squared": lambda p: p.log() ** 2,
}
FINITE = {
    "100": lambda surprises: surprises.clamp(max=100),
    "largest": torch.nan_to_num,
    "0": lambda surprises: surprises.masked_fill(surprises.isinf(), 0.0),
}
AVERAGES = {
    "mean": lambda surprises, T, V: surprises.mean(),
    "sum": lambda surprises, T, V: surprises.sum(),
    "sum / T": lambda surprises, T, V: surprises.sum() / T,
    "sum / V": lambda surprises, T, V: surprises.sum() / V,
    "sum / V squared": lambda surprises, T, V: surprises.sum() / V**2,
    "sum / (T - 2)": lambda surprises, T, V: surprises.sum() / max(T - 2, 1),
    "mean / (T - 1)": lambda surprises, T, V: surprises.mean() / max(T - 1, 1),
    "none": lambda surprises, T, V: surprises,
    "median": lambda surprises, T, V: surprises.median(),
    "largest": lambda surprises, T, V: surprises.max(),
    "last": lambda surprises, T, V: surprises[-1],
    "halved at every step": lambda surprises, T, V: halved(surprises),
    "before the logarithm": lambda surprises, T, V: surprises,
    "product": lambda surprises, T, V: surprises,
}
RESULTS = {
    "loss": lambda loss: loss,
    "with an axis": lambda loss: loss[None],
    "exp": lambda loss: loss.exp(),
    "exp(-loss)": lambda loss: (-loss).exp(),
    "rounded": lambda loss: loss.round(),
}


def halved(values: Tensor) -> Tensor:
    """A mean that is averaged with the next value at every step."""
    mean = values[0]
    for value in values[1:]:
        mean = (mean + value) / 2
    return mean


OWN = (
    "each character is looked up in its own row and its own column; the column belongs to the "
    "character after it"
)
HIDDEN = (
    "a small number is added to the probabilities, or they are clamped, which hides what was "
    "impossible; the loss should be inf there"
)
REPLACED = "the infinite surprise is replaced by a finite number; leave it as it is"

LOSSES = mistakes(
    loss_with,
    **{
        f"small_number_{number:g}_added": (HIDDEN, {"added": number})
        for number in (
            1e-3,
            1e-4,
            1e-5,
            1e-6,
            1e-7,
            2.0**-23,
            1e-8,
            1e-9,
            1e-10,
            1e-12,
            1e-15,
            1e-16,
            1e-20,
        )
    },
    **{
        f"small_number_{number:g}_added": (HIDDEN, {"added": number})
        for number in (1e-30, 1e-38, torch.finfo(torch.float32).tiny)
    },
    minus_forgotten=(
        "the minus is missing: the logarithm of a probability is negative, surprise is positive",
        {"minus": False},
    ),
    in_bits=(
        "this is in bits, with the logarithm to base 2; the natural logarithm gives nats",
        {"base": 2},
    ),
    base_ten=(
        "this uses the logarithm to base 10; torch.log is the natural one",
        {"base": 10},
    ),
    summed=(
        "the surprises are added up; their mean is asked for, so that texts of any length compare",
        {"average": "sum"},
    ),
    divided_by_t=(
        "the sum is divided by T, but T characters have T - 1 pairs",
        {"average": "sum / T"},
    ),
    divided_by_v=(
        "the sum is divided by V, the number of different characters; divide by T - 1, the number "
        "of pairs",
        {"average": "sum / V"},
    ),
    divided_by_v_squared=(
        "the sum is divided by the number of entries of the table; divide by T - 1, the number of "
        "pairs in the text",
        {"average": "sum / V squared"},
    ),
    divided_by_t_minus_two=(
        "the sum is divided by T - 2, but T characters have T - 1 pairs",
        {"average": "sum / (T - 2)"},
    ),
    divided_twice=(
        "the sum is divided by T - 1 twice: mean has divided already",
        {"average": "mean / (T - 1)"},
    ),
    not_averaged_surprise=(
        "these are the surprises of all pairs; their mean is asked for",
        {"average": "none"},
    ),
    median_surprise=(
        "this is the median of the surprises; their mean is asked for",
        {"average": "median"},
    ),
    largest_surprise=(
        "this is the largest surprise; the mean of all is asked for",
        {"average": "largest"},
    ),
    last_surprise=(
        "this is the surprise at the last pair alone: a variable is overwritten where it should be "
        "added to",
        {"average": "last"},
    ),
    halved_at_every_step=(
        "the mean so far and the next surprise are averaged at every step, which gives late pairs "
        "more weight; add all of them up and divide once",
        {"average": "halved at every step"},
    ),
    log_of_the_mean=(
        "this is the surprise at the mean probability; take the logarithm of each first, then the "
        "mean",
        {"average": "before the logarithm"},
    ),
    surprise_of_the_text=(
        "this is minus the logarithm of the product, the sum of all surprises; their mean is asked "
        "for",
        {"average": "product"},
    ),
    rows_and_columns_exchanged=(
        "rows and columns are exchanged: the row is the current character, ids[:-1]",
        {"exchanged": True},
    ),
    pair_around_the_end=(
        "the pair of the last and the first character is counted too (torch.roll); a text of T "
        "characters has T - 1 pairs",
        {"pairs": "around the end"},
    ),
    rolled_backwards=(
        "torch.roll by +1 pairs each character with the one before it, and the first with the "
        "last; neighbours are ids[:-1] and ids[1:]",
        {"pairs": "around the end backwards"},
    ),
    own_character=(OWN, {"pairs": "own"}),
    own_character_without_the_last=(OWN, {"pairs": "own, without the last"}),
    own_character_without_the_first=(OWN, {"pairs": "own, without the first"}),
    last_pair_left_out=(
        "the last pair is left out; a text of T characters has T - 1 pairs",
        {"pairs": "without the last"},
    ),
    first_pair_left_out=(
        "the first pair is left out; it is ids[0] and ids[1]",
        {"pairs": "without the first"},
    ),
    next_but_one=(
        "each character is paired with the one after the next; neighbours are ids[:-1] and ids[1:]",
        {"pairs": "two steps ahead"},
    ),
    no_overlap=(
        "the pairs don't overlap (characters 0 and 1, then 2 and 3); every character but the last "
        "begins a pair",
        {"pairs": "do not overlap"},
    ),
    always_the_first_row=(
        "every probability is taken from the row of the first character; each pair has the row of "
        "its own first one",
        {"pairs": "the row of the first"},
    ),
    each_pair_once=(
        "each pair counts once, however often it occurs in the text; the mean runs over all T - 1",
        {"pairs": "each once"},
    ),
    softmax_taken_again=(
        "a softmax is taken, but the rows are probabilities already",
        {"table": "softmax"},
    ),
    softmax_of_columns=(
        "a softmax is taken, and over the columns, but the rows are probabilities already",
        {"table": "softmax of columns"},
    ),
    missing_probability=(
        "this is the mean of 1 - p; surprise is minus the logarithm of p",
        {"score": "1 - p"},
    ),
    mean_probability=(
        "this is the mean probability; the surprise is minus its logarithm, pair by pair",
        {"score": "p"},
    ),
    mean_of_one_over_p=(
        "this is the mean of 1 / p; the logarithm is missing",
        {"score": "1 / p"},
    ),
    weighted_by_p=(
        "each surprise is multiplied by its probability, as in an entropy; the pairs of the text "
        "come as often as they come, so a plain mean does",
        {"score": "p log p"},
    ),
    one_added_to_p=(
        "this is the logarithm of 1 + p; the surprise is minus that of p",
        {"score": "log(1 + p)"},
    ),
    one_minus_p=(
        "this is the logarithm of 1 - p, the surprise if the character had not come; take that of "
        "p",
        {"score": "log(1 - p)"},
    ),
    binary_cross_entropy=(
        "the logarithm of 1 - p is added, as in a loss for yes or no; the surprise is minus the "
        "logarithm of p alone",
        {"score": "both"},
    ),
    squared_error=(
        "this is the mean of (1 - p) squared; surprise is minus the logarithm of p",
        {"score": "squared error"},
    ),
    squared_logarithm=(
        "the logarithms are squared; the surprise is minus the logarithm",
        {"score": "squared"},
    ),
    impossible_pairs_left_out=(
        "pairs of probability 0 are left out; they happened, and their surprise is inf",
        {"infinite": "left out"},
    ),
    large_number_for_inf=(REPLACED, {"infinite": "100"}),
    largest_number_for_inf=(REPLACED, {"infinite": "largest"}),
    zero_for_inf=(REPLACED, {"infinite": "0"}),
    a_single_axis=(
        "the mean has an axis of size 1; a tensor without axes is asked for, as .mean() gives it",
        {"result": "with an axis"},
    ),
    perplexity=(
        "this is the perplexity, the exponential of the loss; the loss itself is asked for",
        {"result": "exp"},
    ),
    one_over_perplexity=(
        "this is the exponential of the mean logarithm, a probability again; the surprise is minus "
        "the mean logarithm",
        {"result": "exp(-loss)"},
    ),
    rounded=("the loss is rounded to a whole number", {"result": "rounded"}),
)


def whole_table(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the mean runs over the whole table; only the entries of the pairs in the text count, each as
    often as it occurs"""
    return -probabilities.log().mean()


def whole_rows(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the mean runs over whole rows; of each row only the entry of the next character counts"""
    return -probabilities[ids[:-1]].log().mean()


def whole_columns(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the mean runs over whole columns; of each column only the entry of the current character, its
    row, counts"""
    return -probabilities[:, ids[1:]].log().mean()


def every_row_with_every_column(probabilities: Tensor, ids: Tensor) -> Tensor:
    """every current character meets every next one, (T - 1, T - 1) entries; two lists of indices in
    one pair of brackets pick one entry per pair"""
    return -probabilities[ids[:-1]][:, ids[1:]].log().mean()


def block_divided_by_the_pairs(probabilities: Tensor, ids: Tensor) -> Tensor:
    """every current character meets every next one, (T - 1, T - 1) entries; two lists of indices in
    one pair of brackets pick one entry per pair"""
    return -probabilities[ids[:-1]][:, ids[1:]].log().sum() / (len(ids) - 1)


def entropy_of_the_rows(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the surprise that the table expects, the entropy of its rows; take the surprise at
    the characters that came"""
    p = probabilities[ids[:-1]]
    return -(p * p.log()).sum(-1).mean()


def most_likely_characters(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the surprise at the likeliest character of each row; the one that came counts"""
    return -probabilities[ids[:-1]].amax(-1).log().mean()


ZERO_TIMES_INFINITY = (
    "entries that do not count are multiplied by 0, but where the table has a 0 its logarithm is "
    "-inf, and 0 times -inf is nan; pick the entries of the pairs, then take their logarithm"
)


def one_hot_times_logarithms(probabilities: Tensor, ids: Tensor) -> Tensor:
    wanted = F.one_hot(ids[1:], len(probabilities)).to(probabilities.dtype)
    return -(wanted * probabilities[ids[:-1]].log()).sum(-1).mean()


def one_hot_without_nan(probabilities: Tensor, ids: Tensor) -> Tensor:
    wanted = F.one_hot(ids[1:], len(probabilities)).to(probabilities.dtype)
    return -(wanted * probabilities[ids[:-1]].log()).nan_to_num(0.0, neginf=0.0).sum(-1).mean()


def one_hot_times_largest(probabilities: Tensor, ids: Tensor) -> Tensor:
    wanted = F.one_hot(ids[1:], len(probabilities)).to(probabilities.dtype)
    return -(wanted * probabilities[ids[:-1]].log().nan_to_num()).sum(-1).mean()


one_hot_times_logarithms.__doc__ = ZERO_TIMES_INFINITY
one_hot_without_nan.__doc__ = REPLACED
one_hot_times_largest.__doc__ = REPLACED


def probability_left(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the minus is inside the logarithm, and log of -p is nan; the surprise is minus the
    logarithm of p"""
    return (-probabilities[ids[:-1], ids[1:]]).log().mean()


# --- 0.8 neuron_gradient ---


def gradient_with(
    w: Tensor,
    x: Tensor,
    b: Tensor,
    y: Tensor,
    *,
    inside: str = "w·x + b",
    factor: float = 2.0,
    error: str = "h - y",
    tanh: str = "1 - h²",
    last: str = "x",
    db: str = "all links",
    multiplied: bool = True,
    returned: str = "dw and db",
) -> Any:
    """The gradients (dw, db)."""
    a = INSIDE[inside](w, x, b)
    h = torch.tanh(a)
    outer = factor * ERRORS[error](h, y, a)
    inner = TANH[tanh](h, a)
    da = outer * inner if multiplied else outer + inner
    dw = da * LAST[last](w, x, h) if multiplied else da + x
    d_bias = (da if multiplied else da + 1) if db == "all links" else DB[db](da, dw, b, outer, x)
    if returned == "db and dw":
        return d_bias, dw
    if returned == "dw":
        return dw
    if returned == "with the loss":
        return (h - y) ** 2, dw, d_bias
    if returned == "db with an axis":
        return dw, d_bias[None]
    if returned == "summed":
        return dw.sum(), d_bias
    return torch.cat([dw, d_bias.reshape(-1)]) if returned == "joined" else (dw, d_bias)


INSIDE = {
    "w·x + b": lambda w, x, b: w @ x + b,
    "w·x": lambda w, x, b: w @ x,
    "w·x - b": lambda w, x, b: w @ x - b,
    "b": lambda w, x, b: b,
    "w * x + b": lambda w, x, b: w * x + b,
    "mean of w * x": lambda w, x, b: (w * x).mean() + b,
    "sum of w * x + b": lambda w, x, b: (w * x + b).sum(),
    "sums multiplied": lambda w, x, b: w.sum() * x.sum() + b,
    "w·(x + b)": lambda w, x, b: w @ (x + b),
    "w + x + b": lambda w, x, b: (w + x).sum() + b,
}
ERRORS = {
    "h - y": lambda h, y, a: h - y,
    "y - h": lambda h, y, a: y - h,
    "h + y": lambda h, y, a: h + y,
    "a - y": lambda h, y, a: a - y,
    "h": lambda h, y, a: h,
    "y": lambda h, y, a: y.expand_as(h),
    "squared": lambda h, y, a: (h - y) ** 2,
    "half of the square": lambda h, y, a: (h - y) ** 2 / 2,
    "squares": lambda h, y, a: h**2 - y**2,
    "sign": lambda h, y, a: (h - y).sign() / 2,
    "absolute": lambda h, y, a: (h - y).abs(),
    "missing": lambda h, y, a: torch.ones_like(h) / 2,
}
TANH = {
    "1 - h²": lambda h, a: 1 - h**2,
    "missing": lambda h, a: torch.ones_like(h),
    "1 - a²": lambda h, a: 1 - a**2,
    "1 - h": lambda h, a: 1 - h,
    "h": lambda h, a: h,
    "h²": lambda h, a: h**2,
    "h (1 - h)": lambda h, a: h * (1 - h),
    "sigmoid": lambda h, a: torch.sigmoid(a) * (1 - torch.sigmoid(a)),
    "1 + h²": lambda h, a: 1 + h**2,
    "(1 - h)²": lambda h, a: (1 - h) ** 2,
    "(1 - h²)²": lambda h, a: (1 - h**2) ** 2,
    "1 - tanh(h)²": lambda h, a: 1 - torch.tanh(h) ** 2,
    "1 - tanh(a²)": lambda h, a: 1 - torch.tanh(a**2),
    "1 - 2h": lambda h, a: 1 - 2 * h,
    "-2h": lambda h, a: -2 * h,
    "root": lambda h, a: (1 - h**2).sqrt(),
    "one over": lambda h, a: 1 / (1 - h**2),
    "arctan": lambda h, a: 1 / (1 + a**2),
}
LAST = {
    "x": lambda w, x, h: x,
    "w": lambda w, x, h: w,
    "1": lambda w, x, h: torch.ones_like(x),
    "h": lambda w, x, h: h.expand_as(x),
    "sum of x": lambda w, x, h: x.sum().expand_as(x),
    "mean of x": lambda w, x, h: x.mean().expand_as(x),
    "w * x": lambda w, x, h: w * x,
    "w·x": lambda w, x, h: (w @ x).expand_as(x),
    "x²": lambda w, x, h: x**2,
    "x / d": lambda w, x, h: x / len(x),
    "1 / x": lambda w, x, h: 1 / x,
    "w + x": lambda w, x, h: w + x,
}
DB = {
    "sum of dw": lambda da, dw, b, outer, x: dw.sum(),
    "mean of dw": lambda da, dw, b, outer, x: dw.mean(),
    "dw": lambda da, dw, b, outer, x: dw,
    "times b": lambda da, dw, b, outer, x: da * b,
    "1": lambda da, dw, b, outer, x: torch.ones_like(b),
    "0": lambda da, dw, b, outer, x: torch.zeros_like(b),
    "without tanh": lambda da, dw, b, outer, x: outer,
    "without the square": lambda da, dw, b, outer, x: da / outer,
    "minus": lambda da, dw, b, outer, x: -da,
    "half": lambda da, dw, b, outer, x: da / 2,
    "times d": lambda da, dw, b, outer, x: da * len(x),
    "sum of da": lambda da, dw, b, outer, x: da.sum(),
    "mean of da": lambda da, dw, b, outer, x: da.mean(),
}
NOT_SUMMED = (
    "the products w * x are not summed, so that every feature has a neuron of its own; w·x is a "
    "single number, and so are a and h"
)

GRADIENTS = mistakes(
    gradient_with,
    two_forgotten=(
        "the factor 2 is missing: the derivative of a square is twice what is squared",
        {"factor": 1.0},
    ),
    four=(
        "the factor 2 is there twice; the square gives it once",
        {"factor": 4.0},
    ),
    wrong_sign=(
        "the sign is wrong: what is squared is h - y, and its derivative with respect to h is +1",
        {"error": "y - h"},
    ),
    y_added=(
        "y is added to h; what is squared is h - y",
        {"error": "h + y"},
    ),
    a_in_place_of_h=(
        "the error is a - y here; the loss compares h with y",
        {"error": "a - y"},
    ),
    y_forgotten=(
        "y is missing: the loss is the square of h - y",
        {"error": "h"},
    ),
    only_y=(
        "h is missing in the first factor: the derivative of the square is 2 (h - y)",
        {"error": "y"},
    ),
    the_loss_itself=(
        "the first factor is the loss, (h - y) squared; the chain rule takes its derivative",
        {"error": "half of the square"},
    ),
    twice_the_loss=(
        "the first factor is twice the square of h - y; its derivative is 2 (h - y), without the "
        "square",
        {"error": "squared"},
    ),
    difference_of_squares=(
        "h and y are squared one by one; the loss is the square of their difference",
        {"error": "squares"},
    ),
    absolute_error=(
        "only the sign of the error is used, as for a loss of |h - y|; the loss is its square",
        {"error": "sign"},
    ),
    error_without_sign=(
        "the error has lost its sign: the derivative of the square is 2 (h - y), which may be "
        "negative",
        {"error": "absolute"},
    ),
    square_forgotten=(
        "this is the gradient of h; the derivative of the loss with respect to h is still missing",
        {"error": "missing"},
    ),
    tanh_forgotten=(
        "the derivative of tanh is missing; every link between the loss and w has its factor",
        {"tanh": "missing"},
    ),
    tanh_at_the_wrong_place=(
        "the derivative of tanh is 1 minus the square of h, its result; this takes 1 minus the "
        "square of a, what goes in",
        {"tanh": "1 - a²"},
    ),
    tanh_not_squared=(
        "the derivative of tanh is 1 - h squared, and this is 1 - h",
        {"tanh": "1 - h"},
    ),
    tanh_in_place_of_its_derivative=(
        "the factor is tanh itself; the chain rule takes its derivative",
        {"tanh": "h"},
    ),
    only_the_square=(
        "the factor is h squared; the derivative of tanh is 1 - h squared",
        {"tanh": "h²"},
    ),
    sigmoid_derivative=(
        "h (1 - h) is the derivative of the sigmoid; that of tanh is 1 - h squared",
        {"tanh": "h (1 - h)"},
    ),
    sigmoid_of_a=(
        "this is the derivative of the sigmoid at a; that of tanh is 1 - h squared",
        {"tanh": "sigmoid"},
    ),
    derivative_with_plus=(
        "the derivative of tanh is 1 - h squared, and this is 1 + h squared",
        {"tanh": "1 + h²"},
    ),
    square_twice=(
        "1 - h is squared as a whole; only h is: 1 - h squared",
        {"tanh": "(1 - h)²"},
    ),
    derivative_twice=(
        "the derivative of tanh, 1 - h squared, is there twice; this link belongs to the product "
        "once",
        {"tanh": "(1 - h²)²"},
    ),
    tanh_twice=(
        "tanh is taken of h, which is a tanh already: its derivative at a is 1 - h squared",
        {"tanh": "1 - tanh(h)²"},
    ),
    tanh_of_the_square=(
        "a is squared before the tanh; the derivative is 1 minus the square of tanh(a)",
        {"tanh": "1 - tanh(a²)"},
    ),
    doubled_not_squared=(
        "h is doubled where it should be squared: the derivative of tanh is 1 - h squared",
        {"tanh": "1 - 2h"},
    ),
    derivative_of_the_derivative=(
        "1 - h squared is the derivative of tanh already; it is not differentiated again",
        {"tanh": "-2h"},
    ),
    root_of_the_derivative=(
        "this is the square root of 1 - h squared; the derivative of tanh has no root",
        {"tanh": "root"},
    ),
    one_over_the_derivative=(
        "the link of tanh is divided by; every link is a factor",
        {"tanh": "one over"},
    ),
    arctangent=(
        "1 / (1 + a squared) is the derivative of the arctangent; that of tanh is 1 - h squared",
        {"tanh": "arctan"},
    ),
    without_tanh=(
        "this is the gradient of a neuron without tanh: h is tanh(a), not a",
        {"error": "a - y", "tanh": "missing"},
    ),
    gradient_of_x=(
        "the last factor is w, which gives the gradient of x; the derivative of w·x with respect "
        "to w is the other one",
        {"last": "w"},
    ),
    x_forgotten=(
        "dw lacks its last factor, the derivative of w·x with respect to w",
        {"last": "1"},
    ),
    h_in_place_of_x=(
        "the last factor is h; the derivative of w·x with respect to w is x",
        {"last": "h"},
    ),
    features_of_x_summed=(
        "dw has one value for all of w, because x was summed; each entry of w has its entry of x",
        {"last": "sum of x"},
    ),
    features_of_x_averaged=(
        "dw has one value for all of w, because x was averaged; each entry of w has its entry of x",
        {"last": "mean of x"},
    ),
    w_and_x=(
        "the last factor is w times x; the derivative of w·x with respect to w is x alone",
        {"last": "w * x"},
    ),
    product_in_place_of_x=(
        "the last factor is w·x; its derivative with respect to w is x alone",
        {"last": "w·x"},
    ),
    x_squared=(
        "x is squared, or multiplied in twice; the derivative of w·x with respect to w is x",
        {"last": "x²"},
    ),
    x_averaged_over_features=(
        "dw is divided by d, the number of features; w·x is a sum, not a mean",
        {"last": "x / d"},
    ),
    one_over_x=(
        "dw is divided by x; the derivative of w·x with respect to w is the factor x",
        {"last": "1 / x"},
    ),
    w_and_x_added=(
        "the last factor is w + x; the derivative of w·x with respect to w is x alone",
        {"last": "w + x"},
    ),
    x_summed=(
        "db is the sum of dw; b is added to a once, so the derivative of a with respect to b is 1",
        {"db": "sum of dw"},
    ),
    x_averaged=(
        "db is the mean of dw; b is added to a once, so the derivative of a with respect to b is 1",
        {"db": "mean of dw"},
    ),
    db_like_dw=(
        "db has the last factor of dw, x; the derivative of w·x + b with respect to b is 1",
        {"db": "dw"},
    ),
    b_as_a_factor=(
        "db is multiplied by b; the derivative of w·x + b with respect to b is 1",
        {"db": "times b"},
    ),
    db_is_one=(
        "db is only the last link, the derivative of a with respect to b; the other links belong "
        "to it as well",
        {"db": "1"},
    ),
    db_is_zero=(
        "db is 0, as if the loss did not depend on b; the derivative of w·x + b with respect to b "
        "is 1",
        {"db": "0"},
    ),
    db_without_tanh=(
        "the derivative of tanh is missing in db; it is between the loss and b as well",
        {"db": "without tanh"},
    ),
    db_without_the_square=(
        "the derivative of the square is missing in db; it is between the loss and b as well",
        {"db": "without the square"},
    ),
    db_negative=(
        "the sign of db is wrong: b is added to a, so its derivative is +1",
        {"db": "minus"},
    ),
    db_without_two=(
        "the factor 2 is missing in db; both results share the derivative of the square",
        {"db": "half"},
    ),
    db_for_every_feature=(
        "db is multiplied by d, the number of features; b is added to a once",
        {"db": "times d"},
    ),
    b_forgotten=("b is missing in a: h is tanh of w·x + b", {"inside": "w·x"}),
    b_subtracted=("b is subtracted in a: h is tanh of w·x + b", {"inside": "w·x - b"}),
    product_forgotten=("w·x is missing in a: h is tanh of w·x + b", {"inside": "b"}),
    products_not_summed=(NOT_SUMMED, {"inside": "w * x + b"}),
    products_not_summed_db_is=(NOT_SUMMED, {"inside": "w * x + b", "db": "sum of da"}),
    products_not_summed_db_mean=(NOT_SUMMED, {"inside": "w * x + b", "db": "mean of da"}),
    products_averaged=(
        "the products w * x are averaged in a; w·x is their sum",
        {"inside": "mean of w * x"},
    ),
    b_added_for_every_feature=(
        "b is added to each product w * x before they are summed; it is added to w·x once",
        {"inside": "sum of w * x + b"},
    ),
    sums_multiplied=(
        "w and x are summed by themselves, and the sums multiplied; w·x is the sum of the products",
        {"inside": "sums multiplied"},
    ),
    b_added_to_x=(
        "b is added to x before the product; a is w·x + b",
        {"inside": "w·(x + b)"},
    ),
    w_and_x_summed=(
        "w and x are added in a; w·x is the sum of their products",
        {"inside": "w + x + b"},
    ),
    links_added=(
        "the derivatives of the links are added; the chain rule multiplies them",
        {"multiplied": False},
    ),
    results_exchanged=(
        "the two results are exchanged; dw comes first",
        {"returned": "db and dw"},
    ),
    only_dw=("only dw is returned; return dw and db", {"returned": "dw"}),
    with_the_loss=(
        "the loss is returned as well; return dw and db alone",
        {"returned": "with the loss"},
    ),
    one_tensor=("dw and db are joined in one tensor; return two", {"returned": "joined"}),
    db_with_an_axis=(
        "db has an axis of size 1; b has no axes, and so has its derivative",
        {"returned": "db with an axis"},
    ),
    dw_summed=(
        "dw is summed to a single number; it has a value for each entry of w",
        {"returned": "summed"},
    ),
)
DIFFERENCES = (
    "this is a quotient of differences, (loss(w + step) - loss(w)) / step, and so small a step is "
    "lost in rounding; use the chain rule"
)


def neuron_loss(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """The loss of the neuron."""
    return (torch.tanh(w @ x + b) - y) ** 2


def forward_differences(
    w: Tensor, x: Tensor, b: Tensor, y: Tensor, *, step: float
) -> tuple[Tensor, Tensor]:
    """The gradients as quotients of differences."""
    loss = neuron_loss(w, x, b, y)
    shifted = w + step * torch.eye(len(w), dtype=w.dtype)
    dw = torch.stack([(neuron_loss(one, x, b, y) - loss) / step for one in shifted])
    return dw, (neuron_loss(w, x, b + step, y) - loss) / step


def central_differences(
    w: Tensor, x: Tensor, b: Tensor, y: Tensor, *, step: float
) -> tuple[Tensor, Tensor]:
    """The gradients as quotients of differences on both sides."""

    def quotient(up: Tensor, down: Tensor) -> Tensor:
        return (up - down) / (2 * step)

    steps = step * torch.eye(len(w), dtype=w.dtype)
    dw = [quotient(neuron_loss(w + s, x, b, y), neuron_loss(w - s, x, b, y)) for s in steps]
    db = quotient(neuron_loss(w, x, b + step, y), neuron_loss(w, x, b - step, y))
    return torch.stack(dw), db


FORWARD = mistakes(
    forward_differences,
    forward_1e_6=(DIFFERENCES, {"step": 1e-6}),
    forward_1e_7=(DIFFERENCES, {"step": 1e-7}),
    forward_1e_8=(DIFFERENCES, {"step": 1e-8}),
)
CENTRAL = mistakes(
    central_differences,
    central_1e_6=(DIFFERENCES, {"step": 1e-6}),
    central_1e_7=(DIFFERENCES, {"step": 1e-7}),
    central_1e_8=(DIFFERENCES, {"step": 1e-8}),
)


MISCONCEPTIONS = {
    "difference_table": (
        *TABLE,
        element_by_element,
        pair_by_pair,
        two_columns,
        two_rows,
        of_the_ranks,
        columns_added_up,
        last_row_left_out,
        last_column_left_out,
        only_the_diagonal,
    ),
    "predict_shapes": (
        a_keeps_the_axis,
        a_sums_the_first,
        a_sums_the_middle,
        a_is_only_the_axis,
        a_sums_everything,
        a_keeps_the_first_axis,
        a_keeps_its_shape,
        a_is_the_batch,
        b_loses_the_axis,
        b_counts_from_one,
        b_sums_the_last,
        b_keeps_its_shape,
        b_keeps_the_axis_at_the_end,
        b_keeps_the_axis_in_front,
        b_sums_the_last_away,
        b_keeps_only_its_axis,
        c_keeps_the_axis,
        c_takes_the_last_feature,
        c_takes_the_last_sequence,
        c_drops_one_token,
        c_keeps_its_shape,
        c_is_a_single_row,
        c_keeps_an_axis_for_the_sequence,
        c_keeps_an_axis_for_the_feature,
        c_is_the_batch,
        d_is_a_row,
        d_is_a_column,
        d_is_a_single_row,
        d_is_a_number,
        d_has_three_axes,
        d_joins_the_shapes,
        d_is_a_single_entry,
        d_adds_the_sizes,
        d_is_sixteen,
        e_keeps_the_shape,
        e_swaps_the_last_two,
        e_swaps_the_first_two,
        e_rotates,
        e_rotates_the_other_way,
        e_loses_the_middle,
        f_loses_its_features,
        f_drops_the_batch,
        f_adds_an_axis,
        f_meets_from_the_left,
        f_takes_the_smaller,
        f_puts_the_one_in_the_middle,
        f_keeps_an_axis_of_one,
        f_adds_the_sizes,
        f_joins_the_columns,
        g_keeps_its_features,
        g_joins_the_shapes,
        g_sums_the_tokens,
        g_drops_the_batch,
        g_is_two_axes,
        g_turns_its_columns,
        g_is_the_right_factor,
        g_puts_its_columns_first,
        g_multiplies_the_sizes,
    ),
    "sequence_means": MEANS,
    "bigram_probabilities": (
        *SHARES,
        how_often_the_next_occurs,
        equal_shares_everywhere,
        equal_shares_of_what_occurs,
    ),
    "read_tables": (
        a_goes_back,
        b_leaves_a_choice,
        c_stays,
        d_goes_forward,
        b_has_no_single_successor,
        c_repeats,
        a_leaves_the_diagonal,
        b_is_dark_on_the_diagonal,
        d_leaves_the_diagonal,
        a_stays_in_its_half,
        c_stays_in_its_half,
        d_stays_in_its_half,
    ),
    "draw": (
        *DRAWN,
        most_likely,
        least_likely,
        always_the_first,
        always_the_last,
        pieces_not_added_up,
        pieces_above_counted,
        first_above_or_last,
        first_above_or_first,
        first_above_or_past_the_end,
        first_below,
        last_above,
        searched_in_the_row,
        nearest_probability,
        nearest_end,
        nearest_start,
        u_ignored,
        share_of_u,
        equal_pieces_rounded,
        equal_pieces_to_the_last,
        expected_character,
    ),
    "cross_entropy": (
        *LOSSES,
        whole_table,
        whole_rows,
        whole_columns,
        every_row_with_every_column,
        block_divided_by_the_pairs,
        entropy_of_the_rows,
        most_likely_characters,
        one_hot_times_logarithms,
        one_hot_without_nan,
        one_hot_times_largest,
        probability_left,
    ),
    "neuron_gradient": (*GRADIENTS, *FORWARD, *CENTRAL),
}
