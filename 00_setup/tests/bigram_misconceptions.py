"""Common wrong answers to the exercises of lesson 00; each docstring is the diagnosis.

A learner whose result equals that of one of them is shown its docstring. `MISCONCEPTIONS` lists
them by the function that they imitate.
"""

import math

import torch
from torch import Tensor

from bigram import cross_entropy as right_loss
from bigram import draw as right_draw

# --- 0.1 difference_table ---


def sign_reversed(rows: Tensor, columns: Tensor) -> Tensor:
    """the difference is the wrong way round: entry (i, j) is rows[i] - columns[j], and this is its
    negative"""
    return columns - rows[:, None]


def table_transposed(rows: Tensor, columns: Tensor) -> Tensor:
    """rows and columns are exchanged: rows[i] should run down the table, and belongs to its first
    axis"""
    return rows - columns[:, None]


def transposed_and_reversed(rows: Tensor, columns: Tensor) -> Tensor:
    """the column axis was added to `columns`, and rows were subtracted from it; the axis of size 1
    belongs to `rows`"""
    return columns[:, None] - rows


def element_by_element(rows: Tensor, columns: Tensor) -> Tensor:
    """the two are subtracted element by element, which gives one row and not a table (or an error,
    if they differ in length); one of them needs a second axis"""
    return rows - columns


def sums_not_differences(rows: Tensor, columns: Tensor) -> Tensor:
    """the entries are added; the table holds differences"""
    return rows[:, None] + columns


def products_not_differences(rows: Tensor, columns: Tensor) -> Tensor:
    """the entries are multiplied; the table holds differences"""
    return rows[:, None] * columns


def absolute_differences(rows: Tensor, columns: Tensor) -> Tensor:
    """the sign is lost: these are absolute differences, and rows[i] - columns[j] may be negative"""
    return (rows[:, None] - columns).abs()


def squared_differences(rows: Tensor, columns: Tensor) -> Tensor:
    """the differences are squared; they are asked for as they are"""
    return (rows[:, None] - columns) ** 2


def in_floating_point(rows: Tensor, columns: Tensor) -> Tensor:
    """the differences are in floating point, where rows and columns are whole numbers; a table made
    with torch.zeros, or from Python floats, needs dtype=rows.dtype"""
    table = torch.zeros(len(rows), len(columns))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            table[i, j] = row - column
    return table


def two_columns(rows: Tensor, columns: Tensor) -> Tensor:
    """both have become columns, (n, 1) and (m, 1); only one of the two should"""
    return rows[:, None] - columns[:, None]


def one_axis_too_many(rows: Tensor, columns: Tensor) -> Tensor:
    """there is an axis of size 1 too many; (n, 1) against (m,) is enough for a table (n, m)"""
    return (rows[:, None] - columns)[..., None]


def flattened(rows: Tensor, columns: Tensor) -> Tensor:
    """the differences stand in one long row; the table has the shape (n, m)"""
    return (rows[:, None] - columns).flatten()


def of_the_ranks(rows: Tensor, columns: Tensor) -> Tensor:
    """these are the differences i - j of the places; the entries rows[i] and columns[j] are asked
    for"""
    places = torch.arange(len(rows))[:, None] - torch.arange(len(columns))
    return places.to(rows.dtype)


def pair_by_pair(rows: Tensor, columns: Tensor) -> Tensor:
    """the two are subtracted element by element, which gives one row and not a table (or an error,
    if they differ in length); one of them needs a second axis"""
    return torch.stack([row - column for row, column in zip(rows, columns, strict=False)])


def two_rows(rows: Tensor, columns: Tensor) -> Tensor:
    """both have become rows, (1, n) and (1, m); rows should become a column, (n, 1)"""
    return rows[None] - columns[None]


def square_of_the_rows(rows: Tensor, columns: Tensor) -> Tensor:
    """rows are subtracted from rows; the second axis of the table belongs to columns"""
    return rows[:, None] - rows


def absolute_in_floating_point(rows: Tensor, columns: Tensor) -> Tensor:
    """the sign is lost: these are absolute differences, and rows[i] - columns[j] may be negative"""
    return (rows[:, None].double() - columns).abs().float()


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
    """the -1 stands in the place of axis 1, and picks the last token; the features all stay"""
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


# --- 0.3 sequence_means ---


def as_handed_out(x: Tensor) -> Tensor:
    """x is still regrouped in memory order, so each mean mixes vectors of several sequences; move
    the axes, don't regroup"""
    T, B, d = x.shape
    return x.reshape(B, T, d).mean(dim=1)


def means_over_the_batch(x: Tensor) -> Tensor:
    """the mean runs over the sequences and gives one row per token; it should run over the tokens
    of each sequence"""
    return x.mean(dim=1)


def means_over_the_features(x: Tensor) -> Tensor:
    """the mean runs over the features, the last axis; it should run over the tokens"""
    return x.transpose(0, 1).mean(dim=-1)


def sums_over_the_tokens(x: Tensor) -> Tensor:
    """the tokens are summed; the mean divides by T as well"""
    return x.sum(dim=0)


def regrouped_after_the_transpose(x: Tensor) -> Tensor:
    """the transpose is right, but a reshape after it regroups the values again"""
    T, B, d = x.shape
    return x.transpose(0, 1).reshape(T, B, d).transpose(0, 1).mean(dim=1)


def last_axes_exchanged(x: Tensor) -> Tensor:
    """the last two axes are exchanged; time and batch are axes 0 and 1"""
    T, B, d = x.shape
    return x.transpose(1, 2).reshape(B, T, d).mean(dim=1)


def first_and_last_exchanged(x: Tensor) -> Tensor:
    """axes 0 and 2 are exchanged; time and batch are axes 0 and 1"""
    T, B, d = x.shape
    return x.transpose(0, 2).reshape(B, T, d).mean(dim=1)


def mean_of_everything(x: Tensor) -> Tensor:
    """the mean runs over all tokens of all sequences, so that every row is the same; each sequence
    has a mean of its own"""
    return x.mean(dim=(0, 1)).expand(x.size(1), x.size(2))


def axis_kept(x: Tensor) -> Tensor:
    """the axis of the mean is still there, with size 1; (B, d) is asked for"""
    return x.transpose(0, 1).mean(dim=1, keepdim=True)


def last_token_only(x: Tensor) -> Tensor:
    """this is the last token of each sequence; all of its tokens count"""
    return x[-1]


def first_token_only(x: Tensor) -> Tensor:
    """this is the first token of each sequence; all of its tokens count"""
    return x[0]


def divided_by_the_batch(x: Tensor) -> Tensor:
    """the sum over the tokens is divided by B, the number of sequences; there are T tokens"""
    return x.sum(dim=0) / x.size(1)


def regrouped_mean_over_axis_zero(x: Tensor) -> Tensor:
    """x is still regrouped in memory order, and the mean now runs over axis 0, the sequences"""
    T, B, d = x.shape
    return x.reshape(B, T, d).mean(dim=0)


def means_transposed(x: Tensor) -> Tensor:
    """the means are right, but transposed: (d, B); (B, d) is asked for"""
    return x.permute(1, 2, 0).mean(dim=-1).T


def not_averaged(x: Tensor) -> Tensor:
    """time and batch are exchanged as they should be, but the mean over the tokens is missing"""
    return x.transpose(0, 1)


def features_of_each_token(x: Tensor) -> Tensor:
    """the mean runs over the features, the last axis; it should run over the tokens"""
    return x.mean(dim=-1)


def one_number(x: Tensor) -> Tensor:
    """this is one mean of all values; each sequence has a mean vector of its own, (B, d)"""
    return x.mean()


def batch_means_transposed(x: Tensor) -> Tensor:
    """the mean runs over the sequences and gives one row per token; it should run over the tokens
    of each sequence"""
    return x.permute(2, 1, 0).mean(dim=1)


def medians(x: Tensor) -> Tensor:
    """this is the median of the tokens; the mean is asked for"""
    return x.median(dim=0).values


def divided_by_t_minus_one(x: Tensor) -> Tensor:
    """the sum over the tokens is divided by T - 1; there are T tokens"""
    return x.sum(dim=0) / max(x.size(0) - 1, 1)


def last_token_left_out(x: Tensor) -> Tensor:
    """the last token is left out; all T tokens count"""
    return x[:-1].mean(dim=0)


def largest_of_the_tokens(x: Tensor) -> Tensor:
    """this is the largest value of each feature; the mean is asked for"""
    return x.amax(dim=0)


# --- 0.4 bigram_probabilities ---


def counts_of(ids: Tensor, V: int) -> Tensor:
    """The counts N (V, V) in floating point, used by the wrong answers."""
    counts = torch.zeros(V, V)
    for i, j in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
        counts[i, j] += 1
    return counts


def shares_of_rows(counts: Tensor) -> Tensor:
    """Each row divided by its sum; 1 / V in a row of zeros."""
    totals = counts.sum(1, keepdim=True)
    return torch.where(totals > 0, counts / totals, 1 / len(counts))


def counts_returned(ids: Tensor, V: int) -> Tensor:
    """these are the counts; divide each row by its sum"""
    return counts_of(ids, V)


def rows_are_the_next(ids: Tensor, V: int) -> Tensor:
    """rows and columns are exchanged: the row is the current character, the column the next one"""
    return shares_of_rows(counts_of(ids, V).T)


def columns_sum_to_one(ids: Tensor, V: int) -> Tensor:
    """each column is divided by its sum; the rows should sum to 1"""
    counts = counts_of(ids, V)
    totals = counts.sum(0, keepdim=True)
    return torch.where(totals > 0, counts / totals, 1 / V)


def keepdim_forgotten(ids: Tensor, V: int) -> Tensor:
    """the sums of the rows have lost their axis (no keepdim=True), so that column j is divided by
    the sum of row j"""
    counts = counts_of(ids, V)
    totals = counts.sum(1)
    return torch.where(totals > 0, counts / totals, 1 / V)


def keepdim_forgotten_with_nan(ids: Tensor, V: int) -> Tensor:
    """the sums of the rows have lost their axis (no keepdim=True), so that column j is divided by
    the sum of row j"""
    counts = counts_of(ids, V)
    return counts / counts.sum(1)


def columns_with_nan(ids: Tensor, V: int) -> Tensor:
    """each column is divided by its sum; the rows should sum to 1"""
    counts = counts_of(ids, V)
    return counts / counts.sum(0, keepdim=True)


def shares_of_all_pairs(ids: Tensor, V: int) -> Tensor:
    """the counts are divided by the number of all pairs; each row needs a sum of its own"""
    counts = counts_of(ids, V)
    totals = counts.sum(1, keepdim=True)
    return torch.where(totals > 0, counts / counts.sum(), 1 / V)


def shares_of_all_pairs_throughout(ids: Tensor, V: int) -> Tensor:
    """the counts are divided by the number of all pairs; each row needs a sum of its own"""
    counts = counts_of(ids, V)
    return counts / counts.sum()


def nan_for_empty_rows(ids: Tensor, V: int) -> Tensor:
    """a row without counts is nan, because it is 0 / 0; it should be 1 / V everywhere"""
    counts = counts_of(ids, V)
    return counts / counts.sum(1, keepdim=True)


def zeros_for_empty_rows(ids: Tensor, V: int) -> Tensor:
    """a row without counts is left at 0; every row sums to 1, so it should be 1 / V everywhere"""
    counts = counts_of(ids, V)
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def each_pair_counted_once(ids: Tensor, V: int) -> Tensor:
    """each pair counts once, however often it occurs: counts[i, j] += 1 with tensors of indices
    does not add up repetitions; use a loop, index_put_ with accumulate=True, or bincount"""
    return shares_of_rows((counts_of(ids, V) > 0).float())


def pairs_once_with_nan(ids: Tensor, V: int) -> Tensor:
    """each pair counts once, however often it occurs: counts[i, j] += 1 with tensors of indices
    does not add up repetitions; use a loop, index_put_ with accumulate=True, or bincount"""
    counts = (counts_of(ids, V) > 0).float()
    return counts / counts.sum(1, keepdim=True)


def around_the_end(ids: Tensor, V: int) -> Tensor:
    """the last character is taken to be followed by the first (torch.roll, or an index of -1); a
    text of T characters has T - 1 pairs"""
    return shares_of_rows(counts_of(torch.cat([ids, ids[:1]]), V))


def divided_by_occurrences(ids: Tensor, V: int) -> Tensor:
    """the rows are divided by how often their character occurs, and the last character of the text
    is followed by nothing; divide by the sum of the row"""
    occurrences = torch.bincount(ids, minlength=V)[:, None].float()
    return torch.where(occurrences > 0, counts_of(ids, V) / occurrences, 1 / V)


def softmax_of_the_counts(ids: Tensor, V: int) -> Tensor:
    """this is the softmax of the counts; shares are counts divided by their sum"""
    return torch.softmax(counts_of(ids, V), dim=-1)


def one_added(ids: Tensor, V: int) -> Tensor:
    """1 is added to every count (smoothing); that is a way to avoid zeros, but plain shares are
    asked for here"""
    return shares_of_rows(counts_of(ids, V) + 1)


def pairs_do_not_overlap(ids: Tensor, V: int) -> Tensor:
    """the pairs don't overlap (characters 0 and 1, then 2 and 3); every character but the last
    begins a pair"""
    counts = torch.zeros(V, V)
    for at in range(0, len(ids) - 1, 2):
        counts[ids[at], ids[at + 1]] += 1
    return shares_of_rows(counts)


def two_steps_ahead(ids: Tensor, V: int) -> Tensor:
    """each character is paired with the one after the next; neighbours are ids[:-1] and ids[1:]"""
    counts = torch.zeros(V, V)
    for i, j in zip(ids[:-2].tolist(), ids[2:].tolist(), strict=True):
        counts[i, j] += 1
    return shares_of_rows(counts)


def last_pair_dropped(ids: Tensor, V: int) -> Tensor:
    """the last pair is not counted; a text of T characters has T - 1 pairs"""
    return shares_of_rows(counts_of(ids[:-1], V))


def first_pair_dropped(ids: Tensor, V: int) -> Tensor:
    """the first pair is not counted; it is ids[0] and ids[1]"""
    return shares_of_rows(counts_of(ids[1:], V))


def both_directions(ids: Tensor, V: int) -> Tensor:
    """each pair is counted in both directions; N_ij counts only j after i"""
    counts = counts_of(ids, V)
    return shares_of_rows(counts + counts.T)


def how_often_the_next_occurs(ids: Tensor, V: int) -> Tensor:
    """every row is the same, the share of each character in the text; the row of i counts only what
    comes after i"""
    return torch.bincount(ids, minlength=V).float().expand(V, V) / max(len(ids), 1)


def whole_numbers(ids: Tensor, V: int) -> Tensor:
    """the shares were rounded down to whole numbers: // divides whole numbers, and / gives
    shares"""
    counts = counts_of(ids, V).long()
    totals = counts.sum(1, keepdim=True).clamp(min=1)
    return counts // totals


def shares_of_the_largest(ids: Tensor, V: int) -> Tensor:
    """each row is divided by its largest count; divide by its sum, so that it sums to 1"""
    counts = counts_of(ids, V)
    return counts / counts.amax(1, keepdim=True)


def shares_of_the_largest_with_uniform(ids: Tensor, V: int) -> Tensor:
    """each row is divided by its largest count; divide by its sum, so that it sums to 1"""
    counts = counts_of(ids, V)
    largest = counts.amax(1, keepdim=True)
    return torch.where(largest > 0, counts / largest, 1 / V)


def length_one(ids: Tensor, V: int) -> Tensor:
    """each row is divided by its length, the root of the sum of squares (F.normalize does that);
    divide by its sum"""
    return torch.nn.functional.normalize(counts_of(ids, V), dim=1)


def mean_in_place_of_the_sum(ids: Tensor, V: int) -> Tensor:
    """each row is divided by its mean; divide by its sum, so that it sums to 1"""
    counts = counts_of(ids, V)
    return torch.where(
        counts.sum(1, keepdim=True) > 0, counts / counts.mean(1, keepdim=True), 1 / V
    )


def rows_are_the_next_with_nan(ids: Tensor, V: int) -> Tensor:
    """rows and columns are exchanged: the row is the current character, the column the next one"""
    counts = counts_of(ids, V).T
    return counts / counts.sum(1, keepdim=True)


def only_the_characters_of_the_text(ids: Tensor, V: int) -> Tensor:
    """the table is only as large as the text needs; V says how many rows and columns it has"""
    return shares_of_rows(counts_of(ids, int(ids.max()) + 1))


def logarithms(ids: Tensor, V: int) -> Tensor:
    """these are logarithms of the probabilities; the probabilities themselves are asked for"""
    return shares_of_rows(counts_of(ids, V)).log()


def repetitions_skipped(ids: Tensor, V: int) -> Tensor:
    """pairs of one character twice are not counted; they are pairs like all others"""
    counts = counts_of(ids, V)
    return shares_of_rows(counts - counts.diag().diag())


def ones_for_empty_rows(ids: Tensor, V: int) -> Tensor:
    """a row without counts is 1 everywhere; every row sums to 1, so it should be 1 / V"""
    counts = counts_of(ids, V)
    return torch.nan_to_num(counts / counts.sum(1, keepdim=True), nan=1.0)


def itself_for_empty_rows(ids: Tensor, V: int) -> Tensor:
    """a character that nothing follows is followed by itself here; its row should be 1 / V
    everywhere"""
    counts = counts_of(ids, V)
    totals = counts.sum(1, keepdim=True)
    return torch.where(totals > 0, counts / totals, torch.eye(V))


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


def most_likely(row: Tensor, u: float) -> int:
    """this is the most likely character whatever u is; u decides"""
    return int(row.argmax())


def equal_pieces(row: Tensor, u: float) -> int:
    """all pieces have the same length here; the piece of a character is as long as its
    probability"""
    return int(u * len(row))


def end_included(row: Tensor, u: float) -> int:
    """at the border of two pieces the earlier one is drawn; a piece includes its start and not its
    end, so compare with <= and not <"""
    return int((row.cumsum(0) < u).sum())


def pieces_not_added_up(row: Tensor, u: float) -> int:
    """u is compared with the probabilities themselves; a piece ends where the sum of all
    probabilities up to its own ends"""
    return int((row <= u).sum())


def first_above(row: Tensor, u: float) -> int:
    """this is the first character whose own probability is above u; compare u with the running sum
    of the probabilities"""
    return next((i for i, p in enumerate(row.tolist()) if p > u), len(row) - 1)


def one_too_far(row: Tensor, u: float) -> int:
    """the number is one too high: the first character is number 0, and the piece that holds u does
    not count as one that has ended"""
    return right_draw(row, u) + 1


def one_too_low(row: Tensor, u: float) -> int:
    """the number is one too low: this is the last piece that ends before u, and the next one holds
    u"""
    return right_draw(row, u) - 1


def backwards(row: Tensor, u: float) -> int:
    """the pieces are laid out from the last character to the first; character 0 begins at 0"""
    return len(row) - 1 - right_draw(row.flip(0), u)


def numbered_from_the_end(row: Tensor, u: float) -> int:
    """the pieces that end after u are counted; those that end before it give the number"""
    return int((row.cumsum(0) > u).sum())


def from_the_other_side(row: Tensor, u: float) -> int:
    """1 - u is used in place of u: the pieces begin at 0"""
    return right_draw(row, 1 - u)


def sorted_first(row: Tensor, u: float) -> int:
    """the pieces are laid out by size, the most likely first; they should keep their order"""
    order = row.argsort(descending=True, stable=True)
    return int(order[right_draw(row[order], u)])


def number_after_sorting(row: Tensor, u: float) -> int:
    """the row is sorted first, and the result is a place in the sorted row; the pieces should keep
    their order"""
    return right_draw(row.sort(descending=True).values, u)


def nearest_probability(row: Tensor, u: float) -> int:
    """this is the character whose probability is nearest to u; find the piece that u falls into"""
    return int((row - u).abs().argmin())


def nearest_end(row: Tensor, u: float) -> int:
    """this is the character whose piece ends nearest to u; u may be past that end"""
    return int((row.cumsum(0) - u).abs().argmin())


def probability_returned(row: Tensor, u: float) -> float:
    """this is the probability of the character; its number is asked for"""
    return row[right_draw(row, u)].item()


def end_returned(row: Tensor, u: float) -> float:
    """this is where the piece ends; the number of the character is asked for"""
    return row.cumsum(0)[right_draw(row, u)].item()


def u_ignored(row: Tensor, u: float) -> int:
    """the character is drawn with new random numbers; u is the random number to use"""
    return int(torch.multinomial(row, 1))


def share_of_u(row: Tensor, u: float) -> int:
    """the probabilities are multiplied by u and the largest is taken; u is a place between 0 and
    1, and the piece there is drawn"""
    return len(row) - 1 - int((row * u).flip(0).argmax())


def equal_pieces_rounded(row: Tensor, u: float) -> int:
    """all pieces have the same length here; the piece of a character is as long as its
    probability"""
    return round(u * (len(row) - 1))


def counted_until_u_is_used_up(row: Tensor, u: float) -> int:
    """the number is one too high: the first character is number 0, and the piece that holds u does
    not count as one that has ended"""
    return int((row.cumsum(0) - row < u).sum())


def one_too_far_at_most_the_last(row: Tensor, u: float) -> int:
    """the number is one too high: the first character is number 0, and the piece that holds u does
    not count as one that has ended"""
    return min(right_draw(row, u) + 1, len(row) - 1)


def smallest_first(row: Tensor, u: float) -> int:
    """the pieces are laid out by size, the least likely first; they should keep their order"""
    order = row.argsort(stable=True)
    return int(order[right_draw(row[order], u)])


# --- 0.7 cross_entropy ---


def pair_probabilities(probabilities: Tensor, ids: Tensor) -> Tensor:
    """The probability of each pair (T - 1,), used by the wrong answers."""
    return probabilities[ids[:-1], ids[1:]]


def summed(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the surprises are added up; their mean is asked for, so that texts of any length compare"""
    return -pair_probabilities(probabilities, ids).log().sum()


def minus_forgotten(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the minus is missing: the logarithm of a probability is negative, surprise is positive"""
    return -right_loss(probabilities, ids)


def in_bits(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is in bits, with the logarithm to base 2; the natural logarithm gives nats"""
    return right_loss(probabilities, ids) / math.log(2)


def base_ten(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this uses the logarithm to base 10; torch.log is the natural one"""
    return right_loss(probabilities, ids) / math.log(10)


def log_of_the_mean(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the surprise at the mean probability; take the logarithm of each first, then the
    mean"""
    return -pair_probabilities(probabilities, ids).mean().log()


def rows_and_columns_exchanged(probabilities: Tensor, ids: Tensor) -> Tensor:
    """rows and columns are exchanged: the row is the current character, ids[:-1]"""
    return right_loss(probabilities.T, ids)


def divided_by_t(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the sum is divided by T, but T characters have T - 1 pairs"""
    return right_loss(probabilities, ids) * (len(ids) - 1) / len(ids)


def pair_around_the_end(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the pair of the last and the first character is counted too (torch.roll); a text of T
    characters has T - 1 pairs"""
    return right_loss(probabilities, torch.cat([ids, ids[:1]]))


def perplexity(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the perplexity, the exponential of the loss; the loss itself is asked for"""
    return right_loss(probabilities, ids).exp()


def missing_probability(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the mean of 1 - p; surprise is minus the logarithm of p"""
    return (1 - pair_probabilities(probabilities, ids)).mean()


def weighted_by_p(probabilities: Tensor, ids: Tensor) -> Tensor:
    """each surprise is multiplied by its probability, as in an entropy; the pairs of the text come
    as often as they come, so a plain mean does"""
    p = pair_probabilities(probabilities, ids)
    return -(p * p.log()).mean()


def zero_hidden(probabilities: Tensor, ids: Tensor) -> Tensor:
    """a small number is added to the probabilities, or they are clamped, which hides what was
    impossible; the loss should be inf there"""
    return right_loss(probabilities.clamp(min=1e-9), ids)


def small_number_added(probabilities: Tensor, ids: Tensor) -> Tensor:
    """a small number is added to the probabilities, or they are clamped, which hides what was
    impossible; the loss should be inf there"""
    return right_loss(probabilities + 1e-8, ids)


def smaller_number_added(probabilities: Tensor, ids: Tensor) -> Tensor:
    """a small number is added to the probabilities, or they are clamped, which hides what was
    impossible; the loss should be inf there"""
    return right_loss(probabilities + 1e-10, ids)


def smallest_number_added(probabilities: Tensor, ids: Tensor) -> Tensor:
    """a small number is added to the probabilities, or they are clamped, which hides what was
    impossible; the loss should be inf there"""
    return right_loss(probabilities + 1e-12, ids)


def whole_table(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the mean runs over the whole table; only the entries of the pairs in the text count, each as
    often as it occurs"""
    return -probabilities.log().mean()


def whole_rows(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the mean runs over whole rows; of each row only the entry of the next character counts"""
    return -probabilities[ids[:-1]].log().mean()


def not_averaged_surprise(probabilities: Tensor, ids: Tensor) -> Tensor:
    """these are the surprises of all pairs; their mean is asked for"""
    return -pair_probabilities(probabilities, ids).log()


def mean_probability(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the mean probability; the surprise is minus its logarithm, pair by pair"""
    return pair_probabilities(probabilities, ids).mean()


def own_character(probabilities: Tensor, ids: Tensor) -> Tensor:
    """each character is looked up in its own row and its own column; the column belongs to the
    character after it"""
    return -probabilities[ids, ids].log().mean()


def softmax_taken_again(probabilities: Tensor, ids: Tensor) -> Tensor:
    """a softmax is taken, but the rows are probabilities already"""
    return right_loss(torch.softmax(probabilities, -1), ids)


def summed_without_minus(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the minus is missing, and the logarithms are added up where their mean is asked for"""
    return pair_probabilities(probabilities, ids).log().sum()


def bits_without_minus(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the minus is missing, and the logarithm is to base 2; torch.log is the natural one"""
    return pair_probabilities(probabilities, ids).log2().mean()


def summed_in_bits(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is a sum, in bits; the mean is asked for, with the natural logarithm"""
    return -pair_probabilities(probabilities, ids).log2().sum()


def impossible_pairs_left_out(probabilities: Tensor, ids: Tensor) -> Tensor:
    """pairs of probability 0 are left out; they happened, and their surprise is inf"""
    p = pair_probabilities(probabilities, ids)
    return -p[p > 0].log().mean()


def large_number_for_inf(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the infinite surprise is replaced by a finite number; leave it as it is"""
    return -pair_probabilities(probabilities, ids).log().clamp(min=-100).mean()


def largest_number_for_inf(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the infinite surprise is replaced by a finite number; leave it as it is"""
    return torch.nan_to_num(-pair_probabilities(probabilities, ids).log()).mean()


def zero_for_inf(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the infinite surprise is replaced by a finite number; leave it as it is"""
    surprises = -pair_probabilities(probabilities, ids).log()
    return surprises.masked_fill(surprises.isinf(), 0.0).mean()


def every_row_with_every_column(probabilities: Tensor, ids: Tensor) -> Tensor:
    """every current character meets every next one, (T - 1, T - 1) entries; two lists of indices in
    one pair of brackets pick one entry per pair"""
    return -probabilities[ids[:-1]][:, ids[1:]].log().mean()


def entropy_of_the_rows(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the surprise that the table expects, the entropy of its rows; take the surprise at
    the characters that came"""
    p = probabilities[ids[:-1]]
    return -(p * p.log()).sum(-1).mean()


def mean_of_one_over_p(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the mean of 1 / p; the logarithm is missing"""
    return (1 / pair_probabilities(probabilities, ids)).mean()


def a_single_axis(probabilities: Tensor, ids: Tensor) -> Tensor:
    """the mean has an axis of size 1; a tensor without axes is asked for, as .mean() gives it"""
    return right_loss(probabilities, ids)[None]


def one_over_perplexity(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the exponential of the mean logarithm, a probability again; the surprise is minus the
    mean logarithm"""
    return (-right_loss(probabilities, ids)).exp()


def most_likely_characters(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the surprise at the likeliest character of each row; the one that came counts"""
    return -probabilities[ids[:-1]].amax(-1).log().mean()


def one_added_to_p(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the logarithm of 1 + p; the surprise is minus that of p"""
    return -pair_probabilities(probabilities, ids).log1p().mean()


def median_surprise(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the median of the surprises; their mean is asked for"""
    return (-pair_probabilities(probabilities, ids).log()).median()


def median_of_the_logarithms(probabilities: Tensor, ids: Tensor) -> Tensor:
    """this is the median of the surprises; their mean is asked for"""
    return -pair_probabilities(probabilities, ids).log().median()


# --- 0.8 neuron_gradient ---


def links(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """h, and the derivatives of the square and of tanh, used by the wrong answers."""
    h = torch.tanh(w @ x + b)
    return h, 2 * (h - y), 1 - h**2


def two_forgotten(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the factor 2 is missing: the derivative of a square is twice what is squared"""
    _, square, tanh = links(w, x, b, y)
    return square / 2 * tanh * x, square / 2 * tanh


def tanh_forgotten(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the derivative of tanh is missing; every link between the loss and w has its factor"""
    _, square, _ = links(w, x, b, y)
    return square * x, square


def square_forgotten(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """this is the gradient of h; the derivative of the loss with respect to h is still missing"""
    _, _, tanh = links(w, x, b, y)
    return tanh * x, tanh


def wrong_sign(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the sign is wrong: what is squared is h - y, and its derivative with respect to h is +1"""
    _, square, tanh = links(w, x, b, y)
    return -square * tanh * x, -square * tanh


def tanh_at_the_wrong_place(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the derivative of tanh is 1 minus the square of h, its result; this takes 1 minus the square
    of a, what goes in"""
    _, square, _ = links(w, x, b, y)
    tanh = 1 - (w @ x + b) ** 2
    return square * tanh * x, square * tanh


def tanh_not_squared(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the derivative of tanh is 1 - h squared, and this is 1 - h"""
    h, square, _ = links(w, x, b, y)
    return square * (1 - h) * x, square * (1 - h)


def tanh_in_place_of_its_derivative(
    w: Tensor, x: Tensor, b: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """the factor is tanh itself; the chain rule takes its derivative"""
    h, square, _ = links(w, x, b, y)
    return square * h * x, square * h


def sigmoid_derivative(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """h (1 - h) is the derivative of the sigmoid; that of tanh is 1 - h squared"""
    h, square, _ = links(w, x, b, y)
    return square * h * (1 - h) * x, square * h * (1 - h)


def gradient_of_x(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the last factor is w, which gives the gradient of x; the derivative of w·x with respect to w
    is the other one"""
    _, square, tanh = links(w, x, b, y)
    return square * tanh * w, square * tanh


def x_forgotten(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """dw lacks its last factor, the derivative of w·x with respect to w"""
    _, square, tanh = links(w, x, b, y)
    return (square * tanh).expand(x.shape), square * tanh


def x_summed(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """db is the sum of dw; b is added to a once, so the derivative of a with respect to b is 1"""
    _, square, tanh = links(w, x, b, y)
    return square * tanh * x, (square * tanh * x).sum()


def b_forgotten(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """b is missing in a: h is tanh of w·x + b"""
    _, square, tanh = links(w, x, torch.zeros_like(b), y)
    return square * tanh * x, square * tanh


def b_as_a_factor(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """db is multiplied by b; the derivative of w·x + b with respect to b is 1"""
    _, square, tanh = links(w, x, b, y)
    return square * tanh * x, square * tanh * b


def results_exchanged(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the two results are exchanged; dw comes first"""
    _, square, tanh = links(w, x, b, y)
    return square * tanh, square * tanh * x


def the_loss_itself(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the first factor is the loss, (h - y) squared; the chain rule takes its derivative"""
    h, _, tanh = links(w, x, b, y)
    return (h - y) ** 2 * tanh * x, (h - y) ** 2 * tanh


def only_dw(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """only dw is returned; return dw and db"""
    _, square, tanh = links(w, x, b, y)
    return square * tanh * x


def without_tanh(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """this is the gradient of a neuron without tanh: h is tanh(a), not a"""
    a = w @ x + b
    return 2 * (a - y) * x, 2 * (a - y)


def links_added(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the derivatives of the links are added; the chain rule multiplies them"""
    _, square, tanh = links(w, x, b, y)
    return square + tanh + x, square + tanh + 1


def two_and_sign(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the factor 2 is missing, and the sign is wrong: the derivative of (h - y) squared is
    2 (h - y)"""
    _, square, tanh = links(w, x, b, y)
    return -square / 2 * tanh * x, -square / 2 * tanh


def two_and_tanh(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the factor 2 is missing, and so is the derivative of tanh"""
    _, square, _ = links(w, x, b, y)
    return square / 2 * x, square / 2


def tanh_twice(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """tanh is taken of h, which is a tanh already: its derivative at a is 1 - h squared"""
    h, square, _ = links(w, x, b, y)
    tanh = 1 - torch.tanh(h) ** 2
    return square * tanh * x, square * tanh


def derivative_with_plus(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the derivative of tanh is 1 - h squared, and this is 1 + h squared"""
    h, square, _ = links(w, x, b, y)
    return square * (1 + h**2) * x, square * (1 + h**2)


def derivative_negative(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the sign is wrong: what is squared is h - y, and its derivative with respect to h is +1"""
    h, square, _ = links(w, x, b, y)
    return square * (h**2 - 1) * x, square * (h**2 - 1)


def db_is_one(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """db is only the last link, the derivative of a with respect to b; the other links belong to it
    as well"""
    _, square, tanh = links(w, x, b, y)
    return square * tanh * x, torch.ones_like(b)


def y_forgotten(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """y is missing: the loss is the square of h - y"""
    _, square, tanh = links(w, x, b, torch.zeros_like(y))
    return square * tanh * x, square * tanh


def a_in_place_of_h(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the error is a - y here; the loss compares h with y"""
    _, _, tanh = links(w, x, b, y)
    error = 2 * (w @ x + b - y)
    return error * tanh * x, error * tanh


def one_tensor(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """dw and db are joined in one tensor; return two"""
    _, square, tanh = links(w, x, b, y)
    return torch.cat([square * tanh * x, (square * tanh)[None]])


def square_twice(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the whole derivative of tanh is squared; only h is: 1 - h squared"""
    h, square, _ = links(w, x, b, y)
    return square * (1 - h) ** 2 * x, square * (1 - h) ** 2


def products_not_summed(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the products w * x are not summed: w·x is a single number, and so are a and h"""
    _, square, tanh = links(torch.ones(1, dtype=w.dtype), (w * x)[None], b, y)
    return square * tanh * x, square * tanh


def features_of_x_summed(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """dw has one value for all of w, because x was summed; each entry of w has its entry of x"""
    _, square, tanh = links(w, x, b, y)
    return (square * tanh * x.sum()).expand(x.shape), square * tanh


def absolute_error(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """only the sign of the error is used, as for a loss of |h - y|; the loss is its square"""
    _, square, tanh = links(w, x, b, y)
    return square.sign() * tanh * x, square.sign() * tanh


def w_and_x(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the last factor is w times x; the derivative of w·x with respect to w is x alone"""
    _, square, tanh = links(w, x, b, y)
    return square * tanh * w * x, square * tanh


def db_without_tanh(w: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """the derivative of tanh is missing in db; it stands between the loss and b as well"""
    _, square, tanh = links(w, x, b, y)
    return square * tanh * x, square


MISCONCEPTIONS = {
    "difference_table": (
        sign_reversed,
        table_transposed,
        transposed_and_reversed,
        element_by_element,
        sums_not_differences,
        products_not_differences,
        absolute_differences,
        squared_differences,
        in_floating_point,
        two_columns,
        one_axis_too_many,
        flattened,
        of_the_ranks,
        pair_by_pair,
        two_rows,
        square_of_the_rows,
        absolute_in_floating_point,
    ),
    "predict_shapes": (
        a_keeps_the_axis,
        a_sums_the_first,
        a_sums_the_middle,
        a_is_only_the_axis,
        b_loses_the_axis,
        b_counts_from_one,
        b_sums_the_last,
        c_keeps_the_axis,
        c_takes_the_last_feature,
        c_takes_the_last_sequence,
        c_drops_one_token,
        d_is_a_row,
        d_is_a_column,
        d_is_a_single_row,
        d_is_a_number,
        e_keeps_the_shape,
        e_swaps_the_last_two,
        e_swaps_the_first_two,
        e_rotates,
        e_rotates_the_other_way,
        f_loses_its_features,
        f_drops_the_batch,
        f_adds_an_axis,
        f_meets_from_the_left,
        g_keeps_its_features,
        g_joins_the_shapes,
        g_sums_the_tokens,
        g_drops_the_batch,
        f_takes_the_smaller,
    ),
    "sequence_means": (
        as_handed_out,
        means_over_the_batch,
        means_over_the_features,
        sums_over_the_tokens,
        regrouped_after_the_transpose,
        last_axes_exchanged,
        first_and_last_exchanged,
        mean_of_everything,
        axis_kept,
        last_token_only,
        first_token_only,
        divided_by_the_batch,
        regrouped_mean_over_axis_zero,
        means_transposed,
        not_averaged,
        features_of_each_token,
        one_number,
        batch_means_transposed,
        medians,
        divided_by_t_minus_one,
        last_token_left_out,
        largest_of_the_tokens,
    ),
    "bigram_probabilities": (
        counts_returned,
        rows_are_the_next,
        columns_sum_to_one,
        keepdim_forgotten,
        keepdim_forgotten_with_nan,
        columns_with_nan,
        shares_of_all_pairs,
        shares_of_all_pairs_throughout,
        nan_for_empty_rows,
        zeros_for_empty_rows,
        each_pair_counted_once,
        pairs_once_with_nan,
        around_the_end,
        divided_by_occurrences,
        softmax_of_the_counts,
        one_added,
        pairs_do_not_overlap,
        two_steps_ahead,
        last_pair_dropped,
        first_pair_dropped,
        both_directions,
        how_often_the_next_occurs,
        whole_numbers,
        shares_of_the_largest,
        shares_of_the_largest_with_uniform,
        length_one,
        mean_in_place_of_the_sum,
        rows_are_the_next_with_nan,
        only_the_characters_of_the_text,
        logarithms,
        repetitions_skipped,
        ones_for_empty_rows,
        itself_for_empty_rows,
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
        most_likely,
        equal_pieces,
        end_included,
        pieces_not_added_up,
        first_above,
        one_too_far,
        one_too_low,
        backwards,
        numbered_from_the_end,
        from_the_other_side,
        sorted_first,
        number_after_sorting,
        nearest_probability,
        nearest_end,
        probability_returned,
        end_returned,
        u_ignored,
        share_of_u,
        equal_pieces_rounded,
        counted_until_u_is_used_up,
        one_too_far_at_most_the_last,
        smallest_first,
    ),
    "cross_entropy": (
        summed,
        minus_forgotten,
        in_bits,
        base_ten,
        log_of_the_mean,
        rows_and_columns_exchanged,
        divided_by_t,
        pair_around_the_end,
        perplexity,
        missing_probability,
        weighted_by_p,
        zero_hidden,
        small_number_added,
        smaller_number_added,
        smallest_number_added,
        whole_table,
        whole_rows,
        not_averaged_surprise,
        mean_probability,
        own_character,
        softmax_taken_again,
        summed_without_minus,
        bits_without_minus,
        summed_in_bits,
        impossible_pairs_left_out,
        large_number_for_inf,
        largest_number_for_inf,
        zero_for_inf,
        every_row_with_every_column,
        entropy_of_the_rows,
        mean_of_one_over_p,
        a_single_axis,
        one_over_perplexity,
        most_likely_characters,
        one_added_to_p,
        median_surprise,
        median_of_the_logarithms,
    ),
    "neuron_gradient": (
        two_forgotten,
        tanh_forgotten,
        square_forgotten,
        wrong_sign,
        tanh_at_the_wrong_place,
        tanh_not_squared,
        tanh_in_place_of_its_derivative,
        sigmoid_derivative,
        gradient_of_x,
        x_forgotten,
        x_summed,
        b_forgotten,
        b_as_a_factor,
        results_exchanged,
        the_loss_itself,
        only_dw,
        without_tanh,
        links_added,
        two_and_sign,
        two_and_tanh,
        tanh_twice,
        derivative_with_plus,
        derivative_negative,
        db_is_one,
        y_forgotten,
        a_in_place_of_h,
        one_tensor,
        square_twice,
        products_not_summed,
        features_of_x_summed,
        absolute_error,
        w_and_x,
        db_without_tanh,
    ),
}
