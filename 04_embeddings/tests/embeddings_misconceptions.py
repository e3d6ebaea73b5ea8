"""Common wrong answers to the exercises of lesson 04; each diagnosis is shown to a learner.

Most exercises have one faulty implementation, `one_hot_with` and so on, which is right until a
setting makes one mistake. Settings combine, so two mistakes at once are recognized as well. What
fits no setting is a function of its own, whose docstring is the diagnosis. `MISCONCEPTIONS` lists
them by the function or class that they imitate.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.grader.mistakes import mistakes

# --- 4.1 predict_gradient ---

Four = tuple[float, float, float, float]


def last_one_wins() -> Four:
    """a row that was used more than once has only its last (and largest) gradient; the gradients of
    all its uses add up"""
    return 4, 6, 0, 5


def first_one_wins() -> Four:
    """a row that was used more than once has only its first gradient; the gradients of all its uses
    add up"""
    return 4, 2, 0, 1


def averaged() -> Four:
    """the gradients of a row's uses are averaged; they add up"""
    return 4, 4, 0, 3


def counted() -> Four:
    """this is how often each token occurs; add up the gradients that were sent back"""
    return 1, 2, 0, 3


def all_of_them_everywhere() -> Four:
    """every row has the sum of all gradients; a row gets only what was sent back to its own uses"""
    return 21, 21, 21, 21


def all_of_them_where_used() -> Four:
    """every row that was used has the sum of all gradients; a row gets those of its own uses"""
    return 21, 21, 0, 21


def in_the_order_of_the_text() -> Four:
    """these are the first four gradients in the order of the text; collect them by token"""
    return 1, 2, 3, 4


def places_added_up() -> Four:
    """the places in the text are added up, counted from 0; add up the gradients at those places"""
    return 3, 6, 0, 6


def multiplied() -> Four:
    """the gradients of a row's uses are multiplied; they add up"""
    return 4, 12, 0, 15


def rows_backwards() -> Four:
    """the right sums in reverse order; row 0 comes first"""
    return 9, 0, 8, 4


def unused_row_last() -> Four:
    """row 2 is left out and the others have moved up; it is in the table, with a gradient of its
    own"""
    return 4, 8, 9, 0


def times_the_token() -> Four:
    """the sums are multiplied by the number of the token; that number is only a name"""
    return 0, 8, 0, 27


def counted_from_one() -> Four:
    """the rows are shifted by one; tokens and rows both count from 0"""
    return 8, 0, 9, 4


def in_the_order_of_appearance() -> Four:
    """the right sums, but in the order in which the tokens first appear in the text; row 0 comes
    first"""
    return 9, 8, 4, 0


def gradients_reversed() -> Four:
    """the gradients are taken in reverse order; the first belongs to the first token"""
    return 3, 6, 0, 12


def divided_by_the_text() -> Four:
    """the sums are divided by the six tokens of the text; they are only added up"""
    return 4 / 6, 8 / 6, 0, 9 / 6


def as_if_each_were_1() -> Four:
    """each row that was used has a gradient of 1; add up the gradients that were sent back"""
    return 1, 1, 0, 1


# --- 4.2 one_hot, TokenEmbedding, embedding_gradient ---


def one_hot_with(
    tokens: Tensor,
    vocab_size: int,
    *,
    width: str = "vocab_size",
    first: int = 0,
    compared: str = "equal",
    value: str = "one",
    dtype: torch.dtype = torch.float32,
    axes: str = "last",
) -> Tensor:
    """The one-hot rows."""
    number = {
        "vocab_size": vocab_size,
        "largest": int(tokens.max()) + 1,
        "one more": vocab_size + 1,
    }[width]
    names = torch.arange(first, first + number)
    column = tokens[:, None] if axes == "in place 1" else tokens[..., None]
    if compared == "equal":
        rows = column == names
    elif compared == "not equal":
        rows = column != names
    elif compared == "up to":
        rows = names <= column
    elif compared == "any":
        rows = (tokens.flatten()[:, None] == names).any(0).expand(*tokens.shape, number)
    else:
        rows = names >= column
    result = rows.to(dtype)
    if value == "token":
        result = (rows * column).to(dtype)
    elif value == "minus one elsewhere":
        result = (2 * rows.float() - 1).to(dtype)
    if axes == "first":
        return result.movedim(-1, 0)
    if axes == "swapped":
        return result.mT
    if axes == "flattened":
        return result.reshape(-1, number)
    if axes == "summed":
        return result.sum(-2)
    if axes == "in front" or (axes == "two at least" and tokens.dim() == 1):
        return result[None]
    return result


ONE_HOT = mistakes(
    one_hot_with,
    as_wide_as_the_largest_token=(
        "the rows are as wide as the largest token that occurs; they have vocab_size entries",
        {"width": "largest"},
    ),
    one_entry_too_many=(
        "the rows have one entry too many; the tokens are 0 to vocab_size - 1",
        {"width": "one more"},
    ),
    counted_from_1=(
        "the 1 is one place too far to the left: the first place belongs to token 0",
        {"first": 1},
    ),
    inverted=(
        "zeros and ones are exchanged: a single 1 per row, at the token",
        {"compared": "not equal"},
    ),
    ones_up_to_the_token=(
        "there are ones at all places up to the token; only the token's own place has a 1",
        {"compared": "up to"},
    ),
    ones_from_the_token_on=(
        "there are ones at all places from the token on; only the token's own place has a 1",
        {"compared": "from"},
    ),
    ones_of_all_tokens=(
        "every row has a 1 for every token that occurs; a row has a 1 for its own token only",
        {"compared": "any"},
    ),
    the_token_itself=(
        "the entry holds the number of the token; it holds a 1, so that the product gives the row "
        "itself",
        {"value": "token"},
    ),
    minus_ones_elsewhere=(
        "the other entries are -1; they are 0, so that their rows don't count",
        {"value": "minus one elsewhere"},
    ),
    whole_numbers=(
        "the rows are whole numbers (int64); make them float32, a product with a table needs that",
        {"dtype": torch.int64},
    ),
    booleans=(
        "the rows are booleans; make them float32, a product with a table needs that",
        {"dtype": torch.bool},
    ),
    double_precision=("the rows are float64; float32 is asked for", {"dtype": torch.float64}),
    vocabulary_first=(
        "the vocabulary is the first axis; it is the last, one row per token",
        {"axes": "first"},
    ),
    last_two_axes_swapped=(
        "the last two axes are exchanged; the vocabulary is the last one, one row per token",
        {"axes": "swapped"},
    ),
    leading_axes_lost=(
        "the axes of the tokens are flattened into one; keep them, and add the vocabulary at the "
        "end",
        {"axes": "flattened"},
    ),
    axis_in_place_one=(
        "[:, None] adds the axis in place 1, which is the last one only for a single text; "
        "[..., None] adds it at the end",
        {"axes": "in place 1"},
    ),
    axis_before_the_rows=(
        "the one-hot rows have one more axis in front",
        {"axes": "in front"},
    ),
    batch_taken_for_granted=(
        "tokens with a single axis get another one in front; the result has the axes of the "
        "tokens, however many, and the vocabulary",
        {"axes": "two at least"},
    ),
    counts_of_a_text=(
        "the rows of a text are added up, which counts its tokens; each token has a row of its own",
        {"axes": "summed"},
    ),
)


def one_text_only(tokens: Tensor, vocab_size: int) -> Tensor:
    """this is written for one axis of tokens; there may be any number, such as (B, T)"""
    rows = torch.zeros(len(tokens), vocab_size)
    rows[torch.arange(len(tokens)), tokens] = 1
    return rows


def scattered_without_an_axis(tokens: Tensor, vocab_size: int) -> Tensor:
    """scatter needs an index with as many axes as the result: tokens[..., None]"""
    return torch.zeros(*tokens.shape, vocab_size).scatter_(-1, tokens, 1.0)


STARTS: dict[str, Callable[[int, int], Tensor]] = {
    "normal": torch.randn,
    "uniform": torch.rand,
    "zeros": torch.zeros,
    "ones": torch.ones,
    "small": lambda rows, width: 0.02 * torch.randn(rows, width),
    "by the root": lambda rows, width: torch.randn(rows, width) / math.sqrt(width),
    "times the root": lambda rows, width: torch.randn(rows, width) * math.sqrt(width),
    "both signs": lambda rows, width: 2 * torch.rand(rows, width) - 1,
}


class TableWith(nn.Module):
    """The table of 4.2 and of 4.5."""

    def __init__(
        self,
        n_rows: int,
        d_model: int,
        *,
        start: str = "normal",
        shape: str = "rows",
        kind: str = "parameter",
        taken: str = "rows",
    ) -> None:
        super().__init__()
        self.taken = taken
        sizes = {
            "rows": (n_rows, d_model),
            "exchanged": (d_model, n_rows),
            "one more": (n_rows + 1, d_model),
        }[shape]
        values = STARTS[start](*sizes)
        if kind == "parameter":
            self.weight = nn.Parameter(values)
        elif kind == "tensor":
            self.weight = values
        elif kind == "embedding":
            self.embedding = nn.Embedding(*sizes)
        elif kind == "linear":
            self.linear = nn.Linear(n_rows, d_model, bias=False)
        else:
            self.table = nn.Parameter(values)

    def forward(self, numbers: Tensor) -> Tensor:
        weight = self.weight
        if self.taken == "first rows":
            return weight[: numbers.shape[-1] if numbers.dim() else 1]
        if self.taken == "from 0":
            length = numbers.shape[-1] if numbers.dim() else 1
            return weight[torch.arange(length)].expand(*numbers.shape, -1)
        if self.taken == "columns":
            return weight[:, numbers]
        if self.taken == "everything":
            return weight
        if self.taken == "flattened":
            return weight[numbers.flatten()]
        if self.taken == "of the first text":
            return weight[numbers[0]]
        if self.taken == "next rows":
            return weight[(numbers + 1) % len(weight)]
        rows = weight[numbers]
        if self.taken == "axis in front":
            return rows[None]
        if self.taken == "summed":
            return rows.sum(-2)
        if self.taken == "scaled":
            return rows * math.sqrt(weight.size(-1))
        if self.taken == "squeezed":
            return rows.squeeze()
        if self.taken == "swapped":
            return rows.mT
        if self.taken == "normalized":
            return rows / rows.norm(dim=-1, keepdim=True)
        return rows


STARTS_WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "starts_uniform": (
        "the table starts with uniform numbers between 0 and 1 (torch.rand); torch.randn draws "
        "normal ones",
        {"start": "uniform"},
    ),
    "starts_at_zero": (
        "the table starts as zeros, so that all rows are equal; start with normal random numbers",
        {"start": "zeros"},
    ),
    "starts_at_one": (
        "the table starts as ones, so that all rows are equal; start with normal random numbers",
        {"start": "ones"},
    ),
    "starts_small": (
        "the table starts with a standard deviation of 0.02; 1 is asked for",
        {"start": "small"},
    ),
    "starts_divided_by_the_root": (
        "the table starts with a standard deviation of 1 / sqrt(d_model); 1 is asked for",
        {"start": "by the root"},
    ),
    "starts_times_the_root": (
        "the table starts with a standard deviation of sqrt(d_model); 1 is asked for",
        {"start": "times the root"},
    ),
    "starts_between_minus_one_and_one": (
        "the table starts with uniform numbers between -1 and 1; torch.randn draws normal ones",
        {"start": "both signs"},
    ),
}
TABLE_WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "sizes_exchanged": (
        "the table's sizes are exchanged: one row per number, d_model columns",
        {"shape": "exchanged"},
    ),
    "one_row_too_many": (
        "the table has one row too many: the numbers count from 0",
        {"shape": "one more"},
    ),
    "plain_tensor": (
        "weight is a plain tensor, which no optimizer will ever see; make it an nn.Parameter",
        {"kind": "tensor"},
    ),
    "an_embedding_inside": (
        "the table is inside a layer of PyTorch, so its name is not weight; make one nn.Parameter, "
        "self.weight",
        {"kind": "embedding"},
    ),
    "a_linear_layer": (
        "the table is the matrix of a linear layer, whose name and shape differ; make one "
        "nn.Parameter, self.weight",
        {"kind": "linear"},
    ),
    "another_name": (
        "the parameter has another name; weight is the name with which a model loads it",
        {"kind": "table"},
    ),
    "columns_taken": (
        "columns are taken, [:, ...]; a row belongs to each number, and the first axis has the "
        "rows",
        {"taken": "columns"},
    ),
    "axis_in_front": ("the result has one more axis in front", {"taken": "axis in front"}),
    "the_next_row": (
        "each number gets the row after its own; both count from 0",
        {"taken": "next rows"},
    ),
    "swapped_axes": (
        "the last two axes of the result are exchanged; d_model is the last one",
        {"taken": "swapped"},
    ),
    "axes_flattened": (
        "the axes of the input are flattened into one; keep them, and add d_model at the end",
        {"taken": "flattened"},
    ),
    "scaled_by_the_root": (
        "the rows are multiplied by sqrt(d_model); here they are returned as they are",
        {"taken": "scaled"},
    ),
    "axes_squeezed": (
        "axes of size 1 are squeezed away; a batch of one text keeps its axis",
        {"taken": "squeezed"},
    ),
    "whole_table": (
        "the whole table is returned; take the rows of the input",
        {"taken": "everything"},
    ),
    "rows_summed": (
        "the rows of a text are added up; each place keeps a vector of its own",
        {"taken": "summed"},
    ),
    "rows_normalized": (
        "the rows are brought to length 1; return them as they are",
        {"taken": "normalized"},
    ),
}

TOKEN_TABLE = mistakes(
    TableWith,
    **STARTS_WRONG,
    **TABLE_WRONG,
    only_the_first_text=(
        "only the first text is looked up; index with the whole tensor of tokens",
        {"taken": "of the first text"},
    ),
    rows_by_place=(
        "the rows are those of the places 0, 1, 2, ...; each token has the row of its number",
        {"taken": "from 0"},
    ),
)


class NotInitialized(nn.Module):
    """super().__init__() is missing; it must be the first line of __init__"""

    def __init__(self, n_rows: int, d_model: int) -> None:
        self.weight = nn.Parameter(torch.randn(n_rows, d_model))


def table_gradient_with(
    tokens: Tensor,
    grad_output: Tensor,
    vocab_size: int,
    *,
    collected: str = "added",
    what: str = "gradients",
    rows: str = "all",
    sign: float = 1.0,
    turned: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The gradient of the table."""
    d_model = grad_output.size(-1)
    if collected == "one axis, index_add":
        return grad_output.new_zeros(vocab_size, d_model).index_add_(0, tokens, grad_output)
    if collected == "one axis, product":
        return F.one_hot(tokens, vocab_size).to(grad_output.dtype).mT @ grad_output
    flat, given = tokens.flatten(), grad_output.reshape(-1, d_model)
    if what == "ones":
        given = torch.ones_like(given)
    elif what == "reversed":
        given = given.flip(0)
    elif what == "regrouped":
        given = grad_output.mT.reshape(-1, d_model) if grad_output.dim() > 1 else given
    elif what == "times the token":
        given = given * flat[:, None]
    elif what == "mean":
        given = given / len(flat)
    n_rows = {"all": vocab_size, "largest": int(flat.max()) + 1}.get(rows, vocab_size)
    total = given.new_zeros(n_rows, d_model)
    if collected == "last":
        for token, gradient in zip(flat, given, strict=True):
            total[token] = gradient
    elif collected == "first":
        for token, gradient in zip(flat.flip(0), given.flip(0), strict=True):
            total[token] = gradient
    elif collected == "everywhere":
        total[flat.unique()] = given.sum(0)
    else:
        for token, gradient in zip(flat, given, strict=True):
            total[token] += gradient
    if collected == "averaged":
        total = total / flat.bincount(minlength=n_rows)[:, None].clamp(min=1)
    if rows == "used":
        total = total[flat.unique()]
    elif rows == "shifted":
        total = total.roll(1, 0)
    total = sign * total
    total = total.mT if turned else total
    return total if dtype is None else total.to(dtype)


ONE_AXIS = (
    "this is right for tokens with one axis only; flatten tokens, and the leading axes of "
    "grad_output, into one"
)
TABLE_GRADIENT = mistakes(
    table_gradient_with,
    only_the_last_use=(
        "of a token that occurs more than once only the last gradient is kept: [tokens] += does "
        "not add up repeated rows, and [tokens] = overwrites them",
        {"collected": "last"},
    ),
    only_the_first_use=(
        "of a token that occurs more than once only the first gradient is kept; all of them add up",
        {"collected": "first"},
    ),
    averaged_over_the_uses=(
        "the gradients of a token's uses are averaged; they add up",
        {"collected": "averaged"},
    ),
    the_sum_of_all=(
        "each row that was used has the sum of all gradients; it gets only those of its own uses",
        {"collected": "everywhere"},
    ),
    uses_counted=(
        "the uses are counted; what adds up is grad_output at those places",
        {"what": "ones"},
    ),
    in_reverse_order=("the gradients are taken in reverse order", {"what": "reversed"}),
    gradients_regrouped=(
        "the gradients are regrouped: flatten the leading axes with reshape(-1, d_model), without "
        "a transpose",
        {"what": "regrouped"},
    ),
    multiplied_by_the_token=(
        "the gradients are multiplied by the number of the token; that number is only a name",
        {"what": "times the token"},
    ),
    divided_by_the_number_of_tokens=(
        "the gradients are divided by the number of tokens; that belongs to the loss, if anywhere",
        {"what": "mean"},
    ),
    rows_up_to_the_largest_token=(
        "the result has rows up to the largest token that occurs; it has vocab_size rows",
        {"rows": "largest"},
    ),
    only_rows_that_were_used=(
        "rows that were not used are missing; they are zeros",
        {"rows": "used"},
    ),
    one_row_too_far=("the rows are shifted by one; row v belongs to token v", {"rows": "shifted"}),
    descent_already=(
        "the sign is turned round; the gradient itself is asked for, not the step against it",
        {"sign": -1.0},
    ),
    table_turned=(
        "the result is (d_model, vocab_size); it has the shape of the table, (vocab_size, d_model)",
        {"turned": True},
    ),
    one_axis_for_index_add=(ONE_AXIS, {"collected": "one axis, index_add"}),
    one_axis_for_the_product=(ONE_AXIS, {"collected": "one axis, product"}),
    always_float32=(
        "the result is float32, whatever was given; it has the dtype of grad_output",
        {"dtype": torch.float32},
    ),
)

# --- 4.3 scaled_lookup, tied_logits ---


def scaled_with(
    tokens: Tensor,
    weight: Tensor,
    *,
    factor: str = "root",
    taken: str = "rows",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The scaled rows."""
    width = weight.size(-1)
    by = {
        "root": math.sqrt(width),
        "none": 1.0,
        "divided": 1 / math.sqrt(width),
        "width": width,
        "root of the rows": math.sqrt(len(weight)),
        "half": width**1 / 2,
        "whole root": math.isqrt(width),
        "square": width**2,
        "one over": 1 / width,
    }.get(factor, 1.0)
    promoted = dtype == torch.float32 and weight.dtype in (torch.bfloat16, torch.float16)
    weight = weight.float() if promoted else weight
    rows = weight[:, tokens] if taken == "columns" else weight[tokens]
    if taken == "one text":
        rows = rows[None]
    if factor == "length":
        by = math.sqrt(width) / rows.norm(dim=-1, keepdim=True)
    if factor == "root of T":
        by = math.sqrt(tokens.size(-1)) if tokens.dim() else 1.0
    rows = rows * by
    return rows if dtype is None or taken == "promoted" else rows.to(dtype)


SCALED = mistakes(
    scaled_with,
    not_scaled=(
        "the rows are not scaled; multiply by the square root of d_model",
        {"factor": "none"},
    ),
    divided_by_the_root=(
        "the rows are divided by sqrt(d_model); multiply: a tied table has small rows",
        {"factor": "divided"},
    ),
    times_the_width=(
        "the rows are multiplied by d_model; multiply by its square root",
        {"factor": "width"},
    ),
    divided_by_the_width=(
        "the rows are divided by d_model; multiply by its square root",
        {"factor": "one over"},
    ),
    root_of_the_vocabulary=(
        "the factor is the root of vocab_size, the number of rows; d_model is their width, "
        "weight.size(-1)",
        {"factor": "root of the rows"},
    ),
    root_of_the_text=(
        "the factor is the root of the number of tokens; d_model is the width of the table",
        {"factor": "root of T"},
    ),
    power_before_division=(
        "** comes before /, so d_model ** 1 / 2 is half of d_model; use ** 0.5 or math.sqrt",
        {"factor": "half"},
    ),
    root_rounded_down=(
        "the root is rounded to a whole number; use math.sqrt",
        {"factor": "whole root"},
    ),
    brought_to_one_length=(
        "every row is brought to the same length; the rows keep their lengths, times sqrt(d_model)",
        {"factor": "length"},
    ),
    columns_taken=(
        "columns are taken, [:, ...]; a token has a row, and the first axis has the rows",
        {"taken": "columns"},
    ),
    axis_in_front=("the result has one more axis in front", {"taken": "one text"}),
    always_float32=(
        "the result is float32, whatever was given; it has the dtype of the table",
        {"dtype": torch.float32},
    ),
    promoted=(
        "a bfloat16 table gives float32, because a factor that is a tensor of float32 has made it "
        "so; use a plain number",
        {"dtype": torch.float32, "taken": "promoted"},
    ),
)


def logits_with(
    x: Tensor,
    weight: Tensor,
    *,
    product: str = "right",
    factor: str = "none",
    after: str = "nothing",
) -> Tensor:
    """The scores of all tokens."""
    if product == "not transposed":
        scores = x @ weight
    elif product == "reshaped":
        scores = x @ weight.reshape(weight.size(1), weight.size(0))
    elif product == "exchanged":
        scores = weight @ x
    elif product == "turned":
        scores = weight @ x.mT if x.dim() > 1 else weight @ x
    elif product == "cosine":
        scores = F.normalize(x, dim=-1) @ F.normalize(weight, dim=-1).T
    elif product == "distance":
        scores = -(x[..., None, :] - weight).square().sum(-1)
    else:
        scores = x @ weight.T
    width = weight.size(-1)
    scores = (
        scores
        * {
            "none": 1.0,
            "root": math.sqrt(width),
            "divided": 1 / math.sqrt(width),
            "mean": 1 / width,
            "negative": -1.0,
        }[factor]
    )
    if after == "softmax":
        return torch.softmax(scores, -1)
    if after == "logarithm":
        return torch.log_softmax(scores, -1)
    if after == "best":
        return scores.argmax(-1)
    if after == "swapped":
        return scores.mT if scores.dim() > 1 else scores
    return scores


TIED = mistakes(
    logits_with,
    not_transposed=(
        "weight is not transposed: x meets each row, so the rows must become columns of the "
        "product",
        {"product": "not transposed"},
    ),
    table_reshaped=(
        "the table is reshaped, not transposed: the shape is right, but the values are regrouped",
        {"product": "reshaped"},
    ),
    exchanged=(
        "the two sides of the product are exchanged; x comes first, then the table transposed",
        {"product": "exchanged"},
    ),
    vocabulary_first=(
        "the vocabulary is the axis before the last; it is the last one",
        {"product": "turned"},
    ),
    cosines=(
        "these are cosines: lengths are divided away; plain dot products are asked for",
        {"product": "cosine"},
    ),
    distances=(
        "these are negative squared distances; dot products are asked for",
        {"product": "distance"},
    ),
    scaled_here_too=(
        "the logits are multiplied by sqrt(d_model); only the lookup is scaled",
        {"factor": "root"},
    ),
    logits_divided=(
        "the logits are divided by sqrt(d_model), as in attention; here they stay as they are",
        {"factor": "divided"},
    ),
    averaged=("the products are averaged over d_model; they are summed", {"factor": "mean"}),
    sign_turned=("the sign is turned round", {"factor": "negative"}),
    softmax_taken=("the softmax is taken already; the logits are asked for", {"after": "softmax"}),
    logarithms_taken=(
        "these are logarithms of probabilities; the logits are asked for",
        {"after": "logarithm"},
    ),
    best_token=("the best token is returned; all logits are asked for", {"after": "best"}),
)

# --- 4.4 sinusoidal_encoding, SinusoidalPositions ---


def waves_with(
    max_seq_len: int,
    d_model: int,
    base: float = 10_000.0,
    *,
    first: int = 0,
    exponent: str = "2i / d",
    sign: int = -1,
    base_of: str = "given",
    unit: float = 1.0,
    order: str = "sin cos",
    axes: str = "right",
    odd: str = "sine",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The table of waves."""
    base = {"given": base, "10000": 10_000.0, "e": math.e}[base_of]
    n_pairs = (d_model + 1) // 2
    width = {"rounded up": 2 * n_pairs, "rounded down": max(d_model // 2 * 2, 2)}.get(odd, d_model)
    pair = torch.arange(n_pairs, dtype=torch.float64)
    powers = {
        "2i / d": 2 * pair / width,
        "i / d": pair / width,
        "i": pair,
        "2i": 2 * pair,
        "last at base": pair / max(n_pairs - 1, 1),
        "4i / d": 4 * pair / d_model,
        "zero": 0 * pair,
        "from 1": 2 * (pair + 1) / d_model,
    }
    positions = torch.arange(first, max_seq_len + first, dtype=torch.float64)[:, None] * unit
    if exponent == "per feature":  # j / d for feature j
        each = positions * base ** (sign * torch.arange(2.0 * n_pairs).double() / d_model)
        sines, cosines = each[:, 0::2].sin(), each[:, 1::2].cos()
    elif exponent == "power before division":
        angles = positions / (base ** (2 * pair) / d_model)
        sines, cosines = angles.sin(), angles.cos()
    elif exponent == "2j / d":
        each = positions * base ** (sign * 2 * torch.arange(2.0 * n_pairs).double() / d_model)
        sines, cosines = each[:, 0::2].sin(), each[:, 1::2].cos()
    else:
        angles = positions * base ** (sign * powers[exponent])
        sines, cosines = angles.sin(), angles.cos()
    if order == "cos sin":
        sines, cosines = cosines, sines
    elif order == "sin sin":
        cosines = sines
    if order == "halves":
        table = torch.cat((sines, cosines[:, : d_model - n_pairs]), dim=-1)
    elif order == "cosines first":
        table = torch.cat((cosines[:, : d_model - n_pairs], sines), dim=-1)
    elif odd == "too many cosines":
        table = torch.zeros(max_seq_len, d_model)
        table[:, 0::2] = sines.float()
        table[:, 1::2] = cosines.float()
    elif odd == "too few sines":
        table = torch.zeros(max_seq_len, d_model)
        table[:, 0::2] = sines[:, : d_model // 2].float()
        table[:, 1::2] = cosines[:, : d_model // 2].float()
    else:
        table = torch.stack((sines, cosines), dim=-1).flatten(1)
        table = table if odd == "one more" else table[:, :d_model]
    if odd == "dropped":
        table = table[:, : d_model // 2 * 2]
    if odd == "zero" and d_model % 2 == 1:
        table[:, -1] = 0.0
    if axes == "turned":
        table = table.mT
    elif axes == "batch":
        table = table[None]
    return table.to(dtype)


WAVES = mistakes(
    waves_with,
    sines_and_cosines_exchanged=(
        "sines and cosines are exchanged: the even features are sines, the odd ones cosines",
        {"order": "cos sin"},
    ),
    sines_then_cosines=(
        "all sines come first, then all cosines; here they alternate, sine, cosine, sine, cosine",
        {"order": "halves"},
    ),
    cosines_then_sines=(
        "all cosines come first, then all sines; here they alternate, sine, cosine, sine, cosine",
        {"order": "cosines first"},
    ),
    only_sines=(
        "both features of a pair are sines; the odd ones are cosines",
        {"order": "sin sin"},
    ),
    i_in_place_of_2i=(
        "the exponent is i / d_model, where i counts the pairs; it is 2i / d_model",
        {"exponent": "i / d"},
    ),
    each_feature_its_own_speed=(
        "every feature has a frequency of its own; the sine and the cosine of a pair share one, "
        "that of the even feature",
        {"exponent": "per feature"},
    ),
    twice_the_feature=(
        "the exponent is twice the number of the feature, divided by d_model; 2i is the number of "
        "the even feature itself, and both of a pair share it",
        {"exponent": "2j / d"},
    ),
    doubled_twice=(
        "the exponent is 4i / d_model; an index that counts 0, 2, 4, ... is 2i already",
        {"exponent": "4i / d"},
    ),
    not_divided_by_d=("the exponent is i itself; divide 2i by d_model", {"exponent": "i"}),
    two_i_not_divided_by_d=("the exponent is 2i; divide it by d_model", {"exponent": "2i"}),
    power_before_division=(
        "** comes before /: write base ** (2 * i / d_model), with brackets",
        {"exponent": "power before division"},
    ),
    last_pair_at_the_base=(
        "the exponents run from 0 to 1; with 2i / d_model the last one stays below 1",
        {"exponent": "last at base"},
    ),
    one_speed_for_all=(
        "all pairs have the frequency 1; pair i has base^(-2i / d_model), and // would round that "
        "exponent to 0",
        {"exponent": "zero"},
    ),
    pairs_from_1=(
        "the pairs are counted from 1; the first has i = 0 and the frequency 1",
        {"exponent": "from 1"},
    ),
    faster_and_faster=(
        "the sign of the exponent is turned round, so that pairs get faster; divide by the power",
        {"sign": 1},
    ),
    base_ignored=("the base is 10000 whatever was given; use the argument", {"base_of": "10000"}),
    base_e=(
        "the powers are those of e: exp needs the logarithm of the base as a factor",
        {"base_of": "e"},
    ),
    positions_from_1=("the positions are counted from 1; the first is 0", {"first": 1}),
    turns_in_place_of_radians=(
        "the angles are multiplied by 2 pi; the position times the frequency is the angle itself",
        {"unit": 2 * math.pi},
    ),
    degrees=(
        "the angles are taken for degrees; sin takes radians, as they are",
        {"unit": math.pi / 180},
    ),
    table_turned=(
        "the table is (d_model, max_seq_len); positions are its rows",
        {"axes": "turned"},
    ),
    axis_in_front=("the table has one more axis in front", {"axes": "batch"}),
    odd_width_cut=(
        "for an odd d_model the last feature is missing: one more sine than cosines",
        {"odd": "dropped"},
    ),
    odd_width_too_long=(
        "for an odd d_model there is one feature too many: the last cosine is left out",
        {"odd": "one more"},
    ),
    odd_width_rounded_up=(
        "an odd d_model is rounded up for the frequencies as well; only the last cosine is left "
        "out, and the exponents are divided by d_model itself",
        {"odd": "rounded up"},
    ),
    odd_width_rounded_down=(
        "an odd d_model is rounded down for the frequencies; the exponents are divided by d_model "
        "itself",
        {"odd": "rounded down"},
    ),
    odd_width_fails=(
        "for an odd d_model there are more sines than cosines: the last cosine must be left out "
        "before it is written",
        {"odd": "too many cosines"},
    ),
    odd_width_one_pair_too_few=(
        "one pair too few: an odd d_model has (d_model + 1) // 2 sines",
        {"odd": "too few sines"},
    ),
    odd_width_zero=(
        "for an odd d_model the last feature is 0; it is a sine",
        {"odd": "zero"},
    ),
    double_precision=("the table is float64; float32 is asked for", {"dtype": torch.float64}),
)


class WavesTakenWith(nn.Module):
    """The lookup of 4.4."""

    table: Tensor

    def __init__(self, max_seq_len: int, d_model: int, *, taken: str) -> None:
        super().__init__()
        self.taken = taken
        self.register_buffer("table", waves_with(max_seq_len, d_model), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        length = positions.shape[-1] if positions.dim() else 1
        if self.taken == "first rows":
            return self.table[:length]
        if self.taken == "everything":
            return self.table
        if self.taken == "columns":
            return self.table[:, positions]
        if self.taken == "next rows":
            return self.table[(positions + 1) % len(self.table)]
        if self.taken == "flattened":
            return self.table[positions.flatten()]
        if self.taken == "axis in front":
            return self.table[positions][None]
        if self.taken == "squeezed":
            return self.table[positions].squeeze()
        return self.table[positions] + positions[..., None]


WAVES_TAKEN = mistakes(
    WavesTakenWith,
    the_first_rows=(
        "the first rows are taken, as many as there are positions; take the rows of the positions "
        "that were given",
        {"taken": "first rows"},
    ),
    the_whole_table=(
        "the whole table is returned; take the rows of the positions",
        {"taken": "everything"},
    ),
    columns_taken=("columns are taken, [:, ...]; a position has a row", {"taken": "columns"}),
    the_next_row=(
        "each position gets the row after its own; both count from 0",
        {"taken": "next rows"},
    ),
    axes_flattened=(
        "the axes of the positions are flattened into one; keep them, and add d_model at the end",
        {"taken": "flattened"},
    ),
    rows_with_an_axis_in_front=(
        "the result has one more axis in front",
        {"taken": "axis in front"},
    ),
    axes_squeezed=("axes of size 1 are squeezed away; keep them", {"taken": "squeezed"}),
    positions_added=(
        "the positions are added to their rows; the rows alone are asked for",
        {"taken": "added"},
    ),
)

# --- 4.5 LearnedPositions ---

POSITION_TABLE = mistakes(
    TableWith,
    **STARTS_WRONG,
    **TABLE_WRONG,
    the_first_rows=(
        "the first rows are taken, as many as there are positions; take the rows of the positions "
        "that were given, which may start anywhere",
        {"taken": "first rows"},
    ),
    counted_from_zero=(
        "every text gets the rows of 0, 1, 2, ...; take the rows of the positions that were given",
        {"taken": "from 0"},
    ),
)

# --- 4.6 shift_matrix ---


def shift_with(
    k: int,
    d_model: int,
    base: float = 10_000.0,
    *,
    signs: tuple[int, int] = (1, -1),
    functions: str = "cos sin",
    exponent: str = "2i / d",
    exponent_sign: int = -1,
    base_of: str = "given",
    places: str = "neighbours",
    shift: str = "k",
    pairs: str = "all",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The matrix; signs are those of the sines above and below the diagonal."""
    base = {"given": base, "10000": 10_000.0}[base_of]
    half = d_model // 2
    pair = torch.arange(half, dtype=torch.float64)
    powers = {
        "2i / d": 2 * pair / d_model,
        "i / d": pair / d_model,
        "zero": 0 * pair,
        "4i / d": 4 * pair / d_model,
    }
    moved = {"|k|": abs(k), "k or 0": max(k, 0), "k + 1": k + 1, "1": 1, "0": 0}.get(shift, k)
    speeds = base ** (exponent_sign * powers.get(exponent, pair))
    if exponent in ("times i", "times 2i"):
        speeds = pair * (2 if exponent == "times 2i" else 1)
    angles = speeds**k if shift == "power" else moved * speeds
    if shift == "degrees":
        angles = angles * math.pi / 180
    elif shift == "turns":
        angles = angles * 2 * math.pi
    cos, sin = angles.cos(), angles.sin()
    if functions == "sin cos":
        cos, sin = sin, cos
    elif functions == "no sines":
        sin = torch.zeros_like(sin)
    matrix = torch.zeros(d_model, d_model, dtype=torch.float64)
    if places == "neighbours":
        first, second = torch.arange(0, d_model, 2), torch.arange(1, d_model, 2)
    else:
        first, second = torch.arange(half), torch.arange(half, d_model)
    if pairs == "first only":
        matrix = torch.eye(d_model, dtype=torch.float64)
        first, second, cos, sin = first[:1], second[:1], cos[:1], sin[:1]
    matrix[first, first] = cos
    matrix[first, second] = signs[0] * sin
    matrix[second, first] = signs[1] * sin
    matrix[second, second] = cos
    return matrix.to(dtype)


SHIFT = mistakes(
    shift_with,
    moves_back=(
        "the signs of the sines are exchanged: the matrix moves back by k, or turns (cos, sin), "
        "while the table has the sine first, or is meant for the right side of the product",
        {"signs": (-1, 1)},
    ),
    both_sines_positive=(
        "both sines of a block are positive; cos(a + b) = cos a cos b - sin a sin b",
        {"signs": (1, 1)},
    ),
    both_sines_negative=(
        "both sines of a block are negative; sin(a + b) = sin a cos b + cos a sin b",
        {"signs": (-1, -1)},
    ),
    sines_on_the_diagonal=(
        "sines and cosines are exchanged: for k = 0 the matrix must be the identity",
        {"functions": "sin cos"},
    ),
    only_cosines=(
        "the sines are missing: the new sine needs the old cosine as well",
        {"functions": "no sines"},
    ),
    i_in_place_of_2i=(
        "the frequencies have the exponent i / d_model; the table has 2i / d_model",
        {"exponent": "i / d"},
    ),
    doubled_twice=(
        "the frequencies have the exponent 4i / d_model; an index that counts 0, 2, 4, ... is 2i "
        "already",
        {"exponent": "4i / d"},
    ),
    all_pairs_alike=(
        "all pairs turn by k; pair i turns by k times its frequency, base^(-2i / d_model)",
        {"exponent": "zero"},
    ),
    angles_k_times_i=(
        "pair i turns by k times i; it turns by k times its frequency, base^(-2i / d_model)",
        {"exponent": "times i"},
    ),
    angles_k_times_2i=(
        "pair i turns by k times 2i; it turns by k times its frequency, base^(-2i / d_model)",
        {"exponent": "times 2i"},
    ),
    faster_and_faster=(
        "the sign of the exponent is turned round, so that later pairs turn faster",
        {"exponent_sign": 1},
    ),
    base_ignored=("the base is 10000 whatever was given; use the argument", {"base_of": "10000"}),
    pairs_in_halves=(
        "feature i is paired with feature i + d_model / 2; in the table, sine and cosine of a pair "
        "are neighbours",
        {"places": "halves"},
    ),
    never_back=("the sign of k is lost; a negative k moves back", {"shift": "|k|"}),
    not_back_at_all=("a negative k moves nothing; it moves back", {"shift": "k or 0"}),
    power_of_the_speed=(
        "the frequency is raised to the power of k; the angle is k times the frequency",
        {"shift": "power"},
    ),
    degrees=(
        "the angles are taken for degrees; cos takes radians, as they are",
        {"shift": "degrees"},
    ),
    turns=(
        "the angles are multiplied by 2 pi; k times the frequency is the angle itself",
        {"shift": "turns"},
    ),
    one_too_far=("the matrix moves by k + 1", {"shift": "k + 1"}),
    always_one=("the matrix moves by 1 whatever k is", {"shift": "1"}),
    identity=("this is the identity, which moves nothing", {"shift": "0"}),
    only_the_first_pair=(
        "only the first pair is turned; each pair has a block of its own",
        {"pairs": "first only"},
    ),
    double_precision=("the matrix is float64; float32 is asked for", {"dtype": torch.float64}),
)


def rows_moved_in_the_matrix(k: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """this matrix moves the features of a vector by k places; it should turn each pair of features
    by an angle"""
    return torch.eye(d_model).roll(k, 0)


def fits_one_position(k: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """this matrix moves row 0 of the table, and no other; the same matrix must move every row"""
    start = waves_with(1, d_model, base)[0]
    angles = k * base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    target = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten().float()
    return torch.outer(target, start) / start.square().sum()


def scales_one_position(k: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """this matrix only stretches the features of a row, each for itself; sine and cosine of a pair
    must be mixed, since the same matrix must move every row"""
    angles = k * base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    return torch.diag(torch.stack((angles.sin(), angles.cos()), dim=-1).flatten().float())


# --- 4.7 alibi_slopes, alibi_bias ---


def slopes_with(
    n_heads: int,
    *,
    first: int = 1,
    ratio: str = "8 / n",
    others: str = "as the authors",
    sign: int = 1,
    order: str = "falling",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The slopes."""
    power = 2 ** math.floor(math.log2(n_heads))

    def geometric(n: int) -> list[float]:
        step = {"8 / n": 8 / n, "1": 1.0, "8": 8.0, "1 / n": 1 / n, "n / 8": n / 8}[ratio]
        return [step * (head + first) for head in range(n)]

    rest = n_heads - power
    if others == "the formula":
        exponents = geometric(n_heads)
    elif others == "of the larger":
        larger = power if power == n_heads else 2 * power
        exponents = geometric(larger)[:n_heads]
    elif others == "every other from 2":
        exponents = geometric(power) + geometric(2 * power)[1::2][:rest]
    elif others == "the first of the larger":
        exponents = geometric(power) + geometric(2 * power)[:rest]
    elif others == "in front":
        exponents = geometric(2 * power)[0::2][:rest] + geometric(power)
    elif others == "continued":
        exponents = [8 / power * (head + first) for head in range(n_heads)]
    else:
        exponents = geometric(power) + geometric(2 * power)[0::2][:rest]
    slopes = [sign * 2.0**-exponent for exponent in exponents]
    if order == "rising":
        slopes = slopes[::-1]
    elif order == "sorted":
        slopes = sorted(slopes, reverse=True)
    elif order == "even steps":
        slopes = [(head + 1) / n_heads for head in range(n_heads)]
    elif order == "one over":
        slopes = [1 / (head + 1) for head in range(n_heads)]
    elif order == "exponents":
        slopes = exponents
    elif order == "base e":
        slopes = [math.exp(-exponent) for exponent in exponents]
    return torch.tensor(slopes, dtype=dtype)


SLOPES = mistakes(
    slopes_with,
    heads_from_0=(
        "the exponents begin with 0, so that the first slope is 1; the first is 2^(-8/n)",
        {"first": 0},
    ),
    halved_at_each_head=(
        "the slopes are 1/2, 1/4, 1/8, ... for any number of heads; the exponents are multiples of "
        "8/n",
        {"ratio": "1"},
    ),
    eight_at_each_head=(
        "the exponents are multiples of 8; they are multiples of 8/n",
        {"ratio": "8"},
    ),
    one_over_n=(
        "the exponents are multiples of 1/n; they are multiples of 8/n",
        {"ratio": "1 / n"},
    ),
    n_over_8=("the exponents are multiples of n/8; they are multiples of 8/n", {"ratio": "n / 8"}),
    one_formula_for_all=(
        "the formula 2^(-8/n) is used for any n; for a number of heads that is not a power of two, "
        "the slopes of two powers are combined",
        {"others": "the formula"},
    ),
    only_the_larger_power=(
        "for other numbers of heads these are the first slopes of the next larger power of two; "
        "begin with all slopes of the next smaller one",
        {"others": "of the larger"},
    ),
    every_other_from_the_second=(
        "the slopes that remain are the 2nd, 4th, ... of the next larger power, which the first "
        "heads have already; take the 1st, 3rd, 5th",
        {"others": "every other from 2"},
    ),
    the_first_of_the_larger=(
        "the slopes that remain are the first ones of the next larger power; take every other one, "
        "the 1st, 3rd, 5th",
        {"others": "the first of the larger"},
    ),
    the_rest_in_front=(
        "the slopes from the larger power come first; they belong to the last heads",
        {"others": "in front"},
    ),
    series_continued=(
        "the heads that remain continue the series of the smaller power of two, below 2^-8; take "
        "them from the next larger power",
        {"others": "continued"},
    ),
    negative_slopes=("the slopes are negative; the sign belongs to the bias", {"sign": -1}),
    in_reverse_order=(
        "the slopes rise from head to head; the first head has the largest",
        {"order": "rising"},
    ),
    sorted_slopes=(
        "the slopes are sorted; those from the larger power of two stay at the end",
        {"order": "sorted"},
    ),
    equal_steps=(
        "the slopes rise in equal steps; they are powers of 2 with equal steps of the exponent",
        {"order": "even steps"},
    ),
    one_over_the_head=(
        "the slopes are 1, 1/2, 1/3, ...; they are powers of 2",
        {"order": "one over"},
    ),
    exponents_returned=(
        "these are the exponents; the slopes are 2 to minus these",
        {"order": "exponents"},
    ),
    powers_of_e=("these are powers of e; the slopes are powers of 2", {"order": "base e"}),
    double_precision=("the slopes are float64; float32 is asked for", {"dtype": torch.float64}),
)


def bias_with(
    slopes: Tensor,
    query_positions: Tensor,
    key_positions: Tensor,
    *,
    sign: int = -1,
    distance: str = "absolute",
    queries: str = "given",
    keys: str = "given",
    axes: str = "right",
    heads: str = "each its own",
    masked: bool = False,
    combined: str = "times",
) -> Tensor:
    """The bias of ALiBi."""
    if queries == "from 0":
        query_positions = torch.arange(query_positions.size(1)).expand_as(query_positions)
    elif queries == "of the first text":
        query_positions = query_positions[:1].expand_as(query_positions)
    elif queries == "last ones":
        first = len(key_positions) - query_positions.size(1)
        query_positions = (first + torch.arange(query_positions.size(1))).expand_as(query_positions)
    if keys == "from 0":
        key_positions = torch.arange(len(key_positions))
    signed = query_positions[:, :, None] - key_positions  # (B, T_q, T_k)
    steps = {
        "absolute": signed.abs(),
        "signed": signed,
        "turned": -signed,
        "past": signed.clamp(min=0),
        "square": signed.square(),
        "from 1": signed.abs() + 1,
        "logarithm": torch.log(signed.abs() + 1.0),
        "root": signed.abs().sqrt(),
        "future": (-signed).clamp(min=0),
    }[distance][:, None]
    if combined == "without an axis":
        return sign * slopes * signed.abs()
    if combined == "distance without an axis":  # PyTorch's error names the sizes in this order
        return sign * (signed.abs() * slopes)
    slope = slopes[:, None, None]
    if heads == "mean":
        slope = slope.mean().expand_as(slope)
    elif heads == "first":
        slope = slope[:1].expand_as(slope)
    elif heads == "reversed":
        slope = slope.flip(0)
    if combined == "times":
        bias = sign * slope * steps
    elif combined == "divided":
        bias = sign * steps / slope
    elif combined == "plus":
        bias = sign * (slope + steps)
    else:
        bias = (sign * slope).expand(len(steps), -1, steps.size(2), steps.size(3)).clone()
    if masked:
        bias = bias.masked_fill(signed[:, None] < 0, -math.inf)
    if axes == "heads last":
        return bias.movedim(1, -1)
    if axes == "heads first":
        return bias.transpose(0, 1)
    if axes == "keys before queries":
        return bias.mT
    if axes == "no batch":
        return bias[0]
    if axes == "no batch of one":
        return bias.squeeze(0)
    return bias


HEADS_WITHOUT_AN_AXIS = (
    "the heads have no axis of their own: bring slopes and distance to shapes with one, so that "
    "each slope meets each distance"
)
BIAS = mistakes(
    bias_with,
    distance_rewarded=(
        "the sign is turned round: distant keys are preferred; a distance lowers the score",
        {"sign": 1},
    ),
    later_keys_rewarded=(
        "the distance has a sign, so keys after the query are rewarded; take its absolute value",
        {"distance": "signed"},
    ),
    earlier_keys_rewarded=(
        "the distance is key minus query with its sign, so keys before the query are rewarded; "
        "take its absolute value",
        {"distance": "turned"},
    ),
    later_keys_free=(
        "keys after the query count as distance 0; their distance is counted as well",
        {"distance": "past"},
    ),
    earlier_keys_free=(
        "keys before the query count as distance 0; their distance is counted as well",
        {"distance": "future"},
    ),
    squares=("the distance is squared; ALiBi is linear in it", {"distance": "square"}),
    logarithms=(
        "the penalty is logarithmic; ALiBi is linear in the distance",
        {"distance": "logarithm"},
    ),
    roots=("the root of the distance is taken; ALiBi is linear in it", {"distance": "root"}),
    distance_from_1=(
        "a token is at distance 1 of itself; that distance is 0",
        {"distance": "from 1"},
    ),
    queries_from_0=(
        "the queries are taken to be at 0, 1, 2, ...; use query_positions: in generation they come "
        "later",
        {"queries": "from 0"},
    ),
    queries_at_the_end=(
        "the queries are taken to be the last of the keys; use query_positions",
        {"queries": "last ones"},
    ),
    queries_of_the_first_text=(
        "all texts have the positions of the first; each row of query_positions is a text of its "
        "own",
        {"queries": "of the first text"},
    ),
    keys_from_0=("the keys are taken to be at 0, 1, 2, ...; use key_positions", {"keys": "from 0"}),
    heads_at_the_end=("the heads are the last axis; they are axis 1", {"axes": "heads last"}),
    heads_before_texts=(
        "batch and heads are exchanged: (B, n_heads, T_q, T_k)",
        {"axes": "heads first"},
    ),
    keys_before_queries=(
        "queries and keys are exchanged: rows are queries, columns keys",
        {"axes": "keys before queries"},
    ),
    without_batch=("only the first text is returned; the batch is axis 0", {"axes": "no batch"}),
    batch_of_one_lost=(
        "the axis of a batch of one text is squeezed away; keep it",
        {"axes": "no batch of one"},
    ),
    one_slope=("all heads have the mean slope; each has its own", {"heads": "mean"}),
    slope_of_the_first_head=(
        "all heads have the slope of the first; each has its own",
        {"heads": "first"},
    ),
    slopes_reversed=("the slopes are in reverse order", {"heads": "reversed"}),
    causal_already=(
        "keys after the query are masked with -inf; the causal mask comes later, and this bias "
        "knows distances only",
        {"masked": True},
    ),
    divided_by_the_slope=(
        "the distance is divided by the slope; multiply",
        {"combined": "divided"},
    ),
    slope_added=("the slope is added to the distance; multiply", {"combined": "plus"}),
    slopes_without_an_axis=(HEADS_WITHOUT_AN_AXIS, {"combined": "without an axis"}),
    distance_without_an_axis=(HEADS_WITHOUT_AN_AXIS, {"combined": "distance without an axis"}),
    slope_alone=("the distance is missing: every key has the same penalty", {"combined": "slope"}),
)

# --- 4.8 relative_position_bucket ---


def bucket_with(
    distance: Tensor,
    n_buckets: int = 32,
    max_distance: int = 128,
    *,
    number: str = "given",
    up_to: str = "given",
    exact: str = "half",
    far_buckets: str = "rest",
    scale: str = "logarithm",
    rounding: str = "down",
    offset: int = 0,
    last: str = "n - 1",
    negative: str = "zero",
    dtype: torch.dtype = torch.int64,
) -> Tensor:
    """The buckets."""
    n_buckets = 32 if number == "32" else n_buckets
    max_distance = 128 if up_to == "128" else max_distance
    n_exact = {
        "half": n_buckets // 2,
        "quarter": n_buckets // 4,
        "one more": n_buckets // 2 + 1,
        "one less": n_buckets // 2 - 1,
        "rounded up": -(-n_buckets // 2),
    }[exact]
    n_far = {
        "rest": n_buckets - n_exact,
        "all": n_buckets,
        "one less": n_buckets - n_exact - 1,
        "as many": n_exact,
    }[far_buckets]
    if negative == "zero":
        distance = distance.clamp(min=0)
    elif negative == "absolute":
        distance = distance.abs()
    safe = distance.clamp(min=1).double()
    whole = math.log(max_distance / n_exact)
    share = {
        "logarithm": torch.log(safe / n_exact) / whole,
        "not by n_exact": torch.log(safe) / whole,
        "by log max": torch.log(safe / n_exact) / math.log(max_distance),
        "both by 1": torch.log(safe) / math.log(max_distance),
        "base e": torch.log(safe / n_exact),
        "mixed bases": torch.log2(safe / n_exact) / whole,
        "linear": (safe - n_exact) / (max_distance - n_exact),
        "of the ratio": safe / max_distance,
    }[scale]
    steps = share.floor() * n_far if rounding == "too early" else share * n_far
    steps = steps.ceil() if rounding == "up" else steps
    steps = {"nearest": steps.round(), "none": steps}.get(rounding, steps.floor())
    far = steps + n_exact + (-n_exact if offset == -1 else offset)
    ends = {"n - 1": n_buckets - 1, "n": n_buckets, "2 n_exact - 1": 2 * n_exact - 1}
    if last != "none":
        far = far.clamp(max=ends[last])
    return torch.where(distance < n_exact, distance.double(), far).to(dtype)


BUCKETS = mistakes(
    bucket_with,
    always_32_buckets=(
        "there are 32 buckets whatever was given; use n_buckets",
        {"number": "32"},
    ),
    always_up_to_128=(
        "max_distance is 128 whatever was given; use the argument",
        {"up_to": "128"},
    ),
    a_quarter_exact=(
        "a quarter of the buckets hold one distance each, as in T5's encoder, which needs buckets "
        "for both sides; here it is half",
        {"exact": "quarter"},
    ),
    one_exact_bucket_too_many=(
        "one bucket too many holds a single distance; n_exact is n_buckets // 2",
        {"exact": "one more"},
    ),
    one_exact_bucket_too_few=(
        "one bucket too few holds a single distance; n_exact is n_buckets // 2",
        {"exact": "one less"},
    ),
    half_rounded_up=(
        "half of an odd number of buckets is rounded up; // rounds down",
        {"exact": "rounded up"},
    ),
    all_buckets_for_far=(
        "the logarithm is multiplied by n_buckets; only n_buckets - n_exact are left for far "
        "distances",
        {"far_buckets": "all"},
    ),
    one_far_bucket_missing=(
        "the logarithm is multiplied by one bucket too few; n_buckets - n_exact are left",
        {"far_buckets": "one less"},
    ),
    not_divided_by_n_exact=(
        "the logarithm is that of the distance itself; divide the distance by n_exact first",
        {"scale": "not by n_exact"},
    ),
    divided_by_log_of_max=(
        "the logarithm is divided by log(max_distance); divide by log(max_distance / n_exact)",
        {"scale": "by log max"},
    ),
    counted_from_distance_1=(
        "the scale runs from distance 1 to max_distance; it begins at n_exact",
        {"scale": "both by 1"},
    ),
    natural_logarithm=(
        "the logarithm is not divided by log(max_distance / n_exact), so the scale does not end at "
        "max_distance",
        {"scale": "base e"},
    ),
    two_kinds_of_logarithm=(
        "one logarithm has base 2 and the other base e; both must have the same base",
        {"scale": "mixed bases"},
    ),
    linear_scale=(
        "far buckets are all equally wide; their width grows: take logarithms",
        {"scale": "linear"},
    ),
    no_logarithm=(
        "the distance is divided by max_distance without logarithms",
        {"scale": "of the ratio"},
    ),
    rounded_up=("the far buckets are rounded up; round down", {"rounding": "up"}),
    rounded_to_the_nearest=(
        "the far buckets are rounded to the nearest; round down",
        {"rounding": "nearest"},
    ),
    exact_buckets_not_added=(
        "n_exact is not added, so far distances share the buckets of near ones",
        {"offset": -1},
    ),
    one_bucket_further=("far distances are one bucket too far", {"offset": 1}),
    not_rounded=(
        "the far buckets are not rounded down, so they are not integers",
        {"rounding": "none", "dtype": torch.float32},
    ),
    rounded_too_early=(
        "the quotient of the logarithms is rounded down before it is multiplied by the number of "
        "far buckets; round the product",
        {"rounding": "too early"},
    ),
    as_many_far_as_exact=(
        "the logarithm is multiplied by n_exact; n_buckets - n_exact are left, one more if "
        "n_buckets is odd",
        {"far_buckets": "as many"},
    ),
    twice_the_half=(
        "the last bucket is taken to be 2 n_exact - 1; for an odd n_buckets there is one more",
        {"last": "2 n_exact - 1"},
    ),
    beyond_the_last=(
        "distances beyond max_distance get buckets that don't exist; the last is n_buckets - 1",
        {"last": "none"},
    ),
    one_beyond_the_last=("the last bucket is n_buckets - 1, not n_buckets", {"last": "n"}),
    both_sides_alike=(
        "the absolute value of a negative distance is used; a key after its query counts as 0",
        {"negative": "absolute"},
    ),
    negative_buckets=(
        "negative distances get negative buckets; a key after its query counts as 0",
        {"negative": "kept"},
    ),
    floating_numbers=(
        "the buckets are floating numbers; rows are looked up by integers (int64)",
        {"dtype": torch.float32},
    ),
    small_integers=("the buckets are int32; int64 is asked for", {"dtype": torch.int32}),
)


def clamped_only(distance: Tensor, n_buckets: int = 32, max_distance: int = 128) -> Tensor:
    """distances are only clamped to the last bucket, so that all far ones are one; the second half
    of the buckets shares them on a logarithmic scale"""
    return distance.clamp(0, n_buckets - 1)


# --- 4.9 rotary_angles, apply_rotary ---


def angles_with(
    positions: Tensor,
    d_head: int,
    base: float = 10_000.0,
    *,
    exponent: str = "2i / d",
    sign: int = -1,
    base_of: str = "given",
    first: int = 0,
    unit: float = 1.0,
    order: str = "cos sin",
    width: str = "half",
    axes: str = "right",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Cosines and sines."""
    base = {"given": base, "10000": 10_000.0, "e": math.e}[base_of]
    pair = torch.arange(d_head // 2, dtype=torch.float64)
    powers = {
        "2i / d": 2 * pair / d_head,
        "i / d": pair / d_head,
        "4i / d": 4 * pair / d_head,
        "last at base": pair / max(d_head // 2 - 1, 1),
        "2i": 2 * pair,
        "i": pair,
        "zero": 0 * pair,
        "from 1": 2 * (pair + 1) / d_head,
    }[exponent]
    speeds = base ** (sign * powers)
    if width == "all":
        speeds = base ** (sign * torch.arange(d_head, dtype=torch.float64) / d_head)
    elif width == "twice":
        speeds = torch.cat((speeds, speeds))
    elif width == "interleaved":
        speeds = speeds.repeat_interleave(2)
    positions = positions.long() if axes == "whole" else positions
    places = (positions + first).double() * unit
    if axes == "in place 1":
        angles = places[:, None] * speeds
    elif axes == "flattened":
        angles = places.flatten()[:, None] * speeds
    elif axes == "outer":
        angles = torch.outer(places, speeds)
    elif axes == "turned":
        angles = (places[..., None] * speeds).movedim(-1, 0)
    elif axes == "from 0":
        length = positions.shape[-1] if positions.dim() else 1
        angles = torch.arange(length).double()[:, None] * speeds
    else:
        angles = places[..., None] * speeds
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    return {
        "cos sin": (cos, sin),
        "sin cos": (sin, cos),
        "angles": angles.to(dtype),
        "minus sin": (cos, -sin),
        "stacked": torch.stack((cos, sin)),
    }[order]


ANGLES = mistakes(
    angles_with,
    i_in_place_of_2i=(
        "the exponent is i / d_head, where i counts the pairs; it is 2i / d_head",
        {"exponent": "i / d"},
    ),
    doubled_twice=(
        "the exponent is 4i / d_head; an index that counts 0, 2, 4, ... is 2i already",
        {"exponent": "4i / d"},
    ),
    last_pair_at_the_base=(
        "the exponents run from 0 to 1; with 2i / d_head the last one stays below 1",
        {"exponent": "last at base"},
    ),
    not_divided_by_d=("the exponent is 2i; divide it by d_head", {"exponent": "2i"}),
    pair_number_as_exponent=("the exponent is i; it is 2i / d_head", {"exponent": "i"}),
    one_speed_for_all=(
        "all pairs turn alike; pair i turns by base^(-2i / d_head)",
        {"exponent": "zero"},
    ),
    pairs_from_1=(
        "the pairs are counted from 1; the first has i = 0 and turns by 1",
        {"exponent": "from 1"},
    ),
    faster_and_faster=(
        "the sign of the exponent is turned round, so that later pairs turn faster",
        {"sign": 1},
    ),
    base_ignored=("the base is 10000 whatever was given; use the argument", {"base_of": "10000"}),
    base_e=(
        "the powers are those of e: exp needs the logarithm of the base as a factor",
        {"base_of": "e"},
    ),
    positions_from_1=("the positions are shifted by 1; position 0 does not turn", {"first": 1}),
    turns_in_place_of_radians=(
        "the angles are multiplied by 2 pi; the position times the frequency is the angle itself",
        {"unit": 2 * math.pi},
    ),
    degrees=(
        "the angles are taken for degrees; cos takes radians, as they are",
        {"unit": math.pi / 180},
    ),
    sines_first=("the sines are returned first; the cosines come first", {"order": "sin cos"}),
    only_the_angles=(
        "the angles are returned; their cosines and sines are asked for",
        {"order": "angles"},
    ),
    turned_the_other_way=("the sines have the wrong sign", {"order": "minus sin"}),
    one_tensor=(
        "cosines and sines are stacked in one tensor; return two, as a tuple",
        {"order": "stacked"},
    ),
    an_angle_per_feature=(
        "there is an angle per feature; two features share one, so the last axis is d_head / 2 "
        "wide",
        {"width": "all"},
    ),
    each_angle_twice=(
        "each angle is there twice, one half after the other; here the last axis is d_head / 2 "
        "wide",
        {"width": "twice"},
    ),
    each_angle_twice_in_a_row=(
        "each angle is there twice in a row; here the last axis is d_head / 2 wide",
        {"width": "interleaved"},
    ),
    axis_in_place_one=(
        "[:, None] adds the axis in place 1, which is the last one only for positions with one "
        "axis; [..., None] adds it at the end",
        {"axes": "in place 1"},
    ),
    only_one_axis=(
        "torch.outer takes positions with one axis; there may be any number: [..., None] and a "
        "product",
        {"axes": "outer"},
    ),
    positions_flattened=(
        "the axes of the positions are flattened into one; keep them, and add the pairs at the end",
        {"axes": "flattened"},
    ),
    positions_cut_off=(
        "the positions are cut off to whole numbers; 2.5 is a position, too",
        {"axes": "whole"},
    ),
    pairs_first=("the pairs are the first axis; they are the last", {"axes": "turned"}),
    counted_from_zero=(
        "the positions are taken to be 0, 1, 2, ...; use those that were given",
        {"axes": "from 0"},
    ),
    double_precision=("the results are float64; float32 is asked for", {"dtype": torch.float64}),
)


def rotary_with(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    pairs: str = "halves",
    signs: tuple[int, int] = (-1, 1),
    functions: str = "right",
    joined: str = "as they were",
    updated: str = "together",
    rotated: str = "both",
    keeps_dtype: bool = True,
    axes: str = "right",
) -> Tensor:
    """Turned queries or keys; signs are those of the two sines."""
    if functions == "exchanged":
        cos, sin = sin, cos
    elif functions == "only cos":
        sin = torch.zeros_like(sin)
    elif functions == "squared":
        cos, sin = cos * cos, sin * sin
    first, second = x.chunk(2, dim=-1) if pairs == "halves" else (x[..., 0::2], x[..., 1::2])
    if pairs == "halves exchanged":
        second, first = x.chunk(2, dim=-1)
    if rotated == "repeated angles":  # an angle per feature, neighbours share one
        wide_cos, wide_sin = cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1)
        halves = x.chunk(2, dim=-1)
        turned = x * wide_cos + torch.cat((-halves[1], halves[0]), -1) * wide_sin
        return turned.to(x.dtype)
    if rotated == "angles of half the width":
        return (x * cos + torch.cat((-second, first), -1) * sin).to(x.dtype)
    new_first = first * cos + signs[0] * second * sin
    partner = new_first if updated == "one after the other" else first
    new_second = second * cos + signs[1] * partner * sin
    if rotated == "first half":
        new_second = second.expand_as(new_second)
    elif rotated == "second half":
        new_first = first.expand_as(new_first)
    if joined == "as they were":
        joined = "side by side" if pairs == "neighbours" else "halves"
    if joined == "halves":
        turned = torch.cat((new_first, new_second), dim=-1)
    elif joined == "exchanged":
        turned = torch.cat((new_second, new_first), dim=-1)
    elif joined == "one half":
        turned = new_first
    else:
        turned = torch.stack((new_first, new_second), dim=-1).flatten(-2)
    if axes == "squeezed":
        turned = turned.squeeze()
    return turned.to(x.dtype) if keeps_dtype else turned


ROTARY = mistakes(
    rotary_with,
    neighbours_paired=(
        "neighbours are paired, x[2i] with x[2i + 1]; here feature i is paired with i + d_head / 2",
        {"pairs": "neighbours"},
    ),
    neighbours_paired_and_moved=(
        "neighbours are paired and put into two halves; here feature i is paired with i + d_head "
        "/ 2 from the beginning",
        {"pairs": "neighbours", "joined": "halves"},
    ),
    pairs_turned_the_other_way=(
        "the pairs turn the other way: (a, b) becomes (a cos - b sin, b cos + a sin)",
        {"signs": (1, -1)},
    ),
    both_added=("both sines are added; in the first line b sin is subtracted", {"signs": (1, 1)}),
    both_subtracted=(
        "both sines are subtracted; in the second line a sin is added",
        {"signs": (-1, -1)},
    ),
    functions_exchanged=("sines and cosines are exchanged", {"functions": "exchanged"}),
    only_cosines=(
        "the sines are missing: the pairs shrink in place of turning",
        {"functions": "only cos"},
    ),
    put_side_by_side=(
        "the two results are interleaved; they go back to the halves where they came from",
        {"joined": "side by side"},
    ),
    halves_exchanged=("the two halves come back exchanged", {"joined": "exchanged"}),
    only_one_half=(
        "only the first half is returned; join both with torch.cat",
        {"joined": "one half"},
    ),
    new_value_used_too_early=(
        "the second line uses the new a; keep the old one until both are computed",
        {"updated": "one after the other"},
    ),
    second_half_unchanged=(
        "only the first half changes; both features of a pair turn",
        {"rotated": "first half"},
    ),
    first_half_unchanged=(
        "only the second half changes; both features of a pair turn",
        {"rotated": "second half"},
    ),
    angles_repeated_in_a_row=(
        "the angles are repeated in a row (0, 0, 1, 1), but the features are paired by halves, "
        "where they must be 0, 1, 0, 1",
        {"rotated": "repeated angles"},
    ),
    angles_not_doubled=(
        "x has d_head features, cos and sin have d_head / 2: double them (cos, cos), or turn the "
        "two halves one by one",
        {"rotated": "angles of half the width"},
    ),
    promoted=(
        "the result has the dtype of cos and sin; bring it back to that of x",
        {"keeps_dtype": False},
    ),
    axes_squeezed=("axes of size 1 are squeezed away; keep the shape of x", {"axes": "squeezed"}),
)

# --- 4.10 read_schemes ---

READ = {"none": "B", "learned": "F", "sinusoidal": "D", "rope": "A", "alibi": "E", "t5": "C"}
WHY = {
    ("none", "learned"): (
        "one colour means that places change nothing; noise comes from a table of random vectors"
    ),
    ("none", "sinusoidal"): (
        "without positions equal tokens have equal scores, one colour; added waves change them"
    ),
    ("none", "rope"): (
        "without positions equal tokens have equal scores, one colour; rotations change them"
    ),
    ("none", "alibi"): (
        "without positions equal tokens have equal scores, one colour; a penalty changes them"
    ),
    ("none", "t5"): (
        "without positions equal tokens have equal scores, one colour; T5's table changes them"
    ),
    ("learned", "sinusoidal"): (
        "waves make smooth pictures, and an untrained table noise: these two are exchanged"
    ),
    ("learned", "rope"): (
        "rotations depend on the distance alone, so they make stripes along the diagonals; a table "
        "of random vectors makes noise"
    ),
    ("learned", "alibi"): (
        "a penalty depends on the distance alone, so it makes stripes along the diagonals; a table "
        "of random vectors makes noise"
    ),
    ("learned", "t5"): (
        "T5's table has a row per distance, so it makes stripes along the diagonals; a table with "
        "a row per place makes noise in rows and columns"
    ),
    ("sinusoidal", "rope"): (
        "waves that are added pass through both projections, so that places themselves count; only "
        "rotations leave stripes along the diagonals: these two are exchanged"
    ),
    ("sinusoidal", "alibi"): "a penalty falls in a straight line on both sides of the diagonal",
    ("sinusoidal", "t5"): "buckets make steps along the diagonals; added waves make spots",
    ("rope", "alibi"): (
        "rotations go up and down and differ left and right of the diagonal; a penalty falls "
        "evenly on both sides: these two are exchanged"
    ),
    ("rope", "t5"): (
        "buckets make steps, and one flat colour for keys after the query; rotations make waves on "
        "both sides: these two are exchanged"
    ),
    ("alibi", "t5"): (
        "buckets make steps, and one flat colour for keys after the query; a penalty falls evenly "
        "on both sides: these two are exchanged"
    ),
}


def reading(changed: str = "", given: str = "", also: str = "") -> dict[str, str]:
    """The right reading, with two schemes exchanged."""
    return READ | {changed: given, also: READ[changed]}


READINGS = mistakes(
    reading,
    **{
        f"{one}_and_{other}": (why, {"changed": one, "given": READ[other], "also": other})
        for (one, other), why in WHY.items()
    },
)

# --- 4.11 rotate ---


def rotate_with(
    x: Tensor,
    positions: Tensor,
    base: float = 10_000.0,
    *,
    rounded: str = "nothing",
    exponent: str = "i / half",
    base_of: str = "given",
    pairs: str = "halves",
    signs: tuple[int, int] = (-1, 1),
    returned: str = "as x",
    limited: str = "no",
) -> Tensor:
    """RoPE, as it was handed out or half repaired."""
    half = x.size(-1) // 2
    base = {"given": base, "10000": 10_000.0}[base_of]
    low = x.dtype
    pair = torch.arange(half, dtype=low if rounded == "pairs" else torch.float64)
    powers = {"i / half": pair / half, "i / d": pair / (2 * half), "2i / half": 2 * pair / half}
    speeds = base ** -powers[exponent]
    if rounded == "speeds":
        speeds = speeds.to(low).double()
    places = positions.to(low) if rounded == "positions" else positions
    if limited == "modulo 256":
        places = places % 256
    elif limited == "clamped":
        places = places.clamp(max=256)
    elif limited == "from 0":
        places = torch.arange(len(positions))
    is_low = low == torch.bfloat16 or rounded == "half in float32 too"
    if rounded.startswith("half") and is_low:
        places, speeds = places.half(), speeds.half()
    angles = places[:, None] * speeds
    if rounded == "angles":
        angles = angles.to(low)
    elif rounded == "angles half" and is_low:
        angles = angles.half()
    cos, sin = angles.cos().float(), angles.sin().float()
    if pairs == "halves":
        first, second = x.float().chunk(2, dim=-1)
    else:
        first, second = x.float()[..., 0::2], x.float()[..., 1::2]
    new = first * cos + signs[0] * second * sin, second * cos + signs[1] * first * sin
    turned = torch.cat(new, -1) if pairs == "halves" else torch.stack(new, -1).flatten(-2)
    return turned.to({"as x": low, "float32": torch.float32, "bfloat16": torch.bfloat16}[returned])


ANGLES_ROUNDED = (
    "the angles are still in the dtype of x, and bfloat16 has no odd numbers above 256; look for "
    "the line that makes them so"
)
ANGLES_HALF = (
    "the angles are computed in float16, which has 11 significant bits; large positions need "
    "float32"
)
ROTATE = mistakes(
    rotate_with,
    as_handed_out=(ANGLES_ROUNDED, {"rounded": "pairs"}),
    rounded_angles=(ANGLES_ROUNDED, {"rounded": "angles"}),
    rounded_speeds=(
        "the frequencies are rounded to the dtype of x, so that a large position is off by whole "
        "turns",
        {"rounded": "speeds"},
    ),
    rounded_positions=(
        "the positions are rounded to the dtype of x; bfloat16 has no odd numbers above 256",
        {"rounded": "positions"},
    ),
    half_precision=(ANGLES_HALF, {"rounded": "half"}),
    half_precision_always=(ANGLES_HALF, {"rounded": "half in float32 too"}),
    angles_in_half_precision=(ANGLES_HALF, {"rounded": "angles half"}),
    positions_repeat=(
        "the positions start again after 256, which makes far tokens near; keep them, in float32",
        {"limited": "modulo 256"},
    ),
    positions_end=(
        "positions above 256 are cut off, so that all far tokens turn alike; keep them, in float32",
        {"limited": "clamped"},
    ),
    positions_ignored=(
        "the positions are taken to be 0, 1, 2, ...; use those given",
        {"limited": "from 0"},
    ),
    exponent_halved=(
        "the exponent is i / d_head; it is 2i / d_head, which is i / half",
        {"exponent": "i / d"},
    ),
    exponent_doubled=(
        "the exponent is 2i / half; it is 2i / d_head, which is i / half",
        {"exponent": "2i / half"},
    ),
    base_ignored=("the base is 10000 whatever was given; use the argument", {"base_of": "10000"}),
    neighbours_paired=(
        "neighbours are paired; the halves were right as they were",
        {"pairs": "neighbours"},
    ),
    turned_the_other_way=(
        "the pairs turn the other way; the signs were right as they were",
        {"signs": (1, -1)},
    ),
    always_float32=(
        "the result is float32; bring it back to the dtype of x",
        {"returned": "float32"},
    ),
    always_bfloat16=("the result is bfloat16; it has the dtype of x", {"returned": "bfloat16"}),
)

# --- 4.12 rotate_new_tokens ---


def new_tokens_with(
    q: Tensor,
    k: Tensor,
    n_cached: Tensor,
    base: float = 10_000.0,
    *,
    start: str = "n_cached",
    steps: str = "up",
    turned: str = "both",
    key_places: str = "as queries",
    base_of: str = "given",
    returned: str = "q k",
    pairs: str = "halves",
    signs: tuple[int, int] = (-1, 1),
    axis: int = 1,
    keeps_dtype: bool = True,
    rounded: str = "nothing",
) -> tuple[Tensor, Tensor]:
    """Turned new tokens."""
    base = {"given": base, "10000": 10_000.0}[base_of]
    T = q.size(2)
    begin = {
        "n_cached": n_cached,
        "0": 0 * n_cached,
        "n_cached + 1": n_cached + 1,
        "n_cached - 1": n_cached - 1,
        "before the end": n_cached - T,
        "of the first": n_cached[:1].expand_as(n_cached),
        "longest": n_cached.max().expand_as(n_cached),
        "shortest": n_cached.min().expand_as(n_cached),
        "after all": n_cached + T,
    }[start]
    walk = {
        "up": torch.arange(T),
        "same": torch.zeros(T, dtype=torch.long),
        "down": torch.arange(T).flip(0),
        "flat": torch.arange(T),
        "from 1": torch.arange(1, T + 1),
    }[steps]
    positions = begin + walk if steps == "flat" else begin[:, None] + walk
    if rounded == "start" and steps != "flat":  # each term by itself
        positions = (begin.to(q.dtype)[:, None] + walk.to(q.dtype)).double()
    at_zero = torch.arange(T).expand_as(positions)

    def rotated(x: Tensor, places: Tensor) -> Tensor:
        places = places.to(x.dtype).double() if rounded == "positions" else places
        cos, sin = angles_with(places, x.size(-1), base)
        if rounded == "angles":
            angles = angles_with(places, x.size(-1), base, order="angles").to(x.dtype).double()
            cos, sin = angles.cos().float(), angles.sin().float()
        cos, sin = cos.unsqueeze(axis), sin.unsqueeze(axis)
        return rotary_with(x, cos, sin, pairs=pairs, signs=signs, keeps_dtype=keeps_dtype)

    new_q = q.clone() if turned == "keys" else rotated(q, positions)
    places = at_zero if key_places == "from 0" else positions
    new_k = k.clone() if turned == "queries" else rotated(k, places)
    if returned == "keys repeated":
        return new_q, new_k.repeat_interleave(q.size(1) // k.size(1), dim=1)
    return (new_q, new_k) if returned == "q k" else (new_k, new_q)


POSITIONS_ROUNDED = (
    "the positions are in the dtype of q: bfloat16 has no odd numbers above 256, so that "
    "neighbours get one angle"
)
NEW_TOKENS = mistakes(
    new_tokens_with,
    cache_ignored=(
        "the new tokens have the positions 0, 1, 2, ...; they come after the n_cached tokens in "
        "the cache",
        {"start": "0"},
    ),
    one_too_late=(
        "the first new token is at n_cached + 1; the cached ones are at 0 to n_cached - 1, so "
        "n_cached is the next",
        {"start": "n_cached + 1"},
    ),
    one_too_early=(
        "the first new token is at n_cached - 1, where a cached one is",
        {"start": "n_cached - 1"},
    ),
    new_ones_counted_as_cached=(
        "n_cached is taken to include the new tokens; they come after it",
        {"start": "before the end"},
    ),
    after_themselves=(
        "the new tokens are put T places too far back in the text",
        {"start": "after all"},
    ),
    all_as_the_first_text=(
        "all texts continue where the first one does; each has its own n_cached",
        {"start": "of the first"},
    ),
    all_as_the_longest=(
        "all texts continue after the longest; each has its own n_cached",
        {"start": "longest"},
    ),
    all_as_the_shortest=(
        "all texts continue after the shortest; each has its own n_cached",
        {"start": "shortest"},
    ),
    all_at_one_place=(
        "all T new tokens have the same position; they follow each other",
        {"steps": "same"},
    ),
    in_reverse=("the positions of the new tokens fall; they rise", {"steps": "down"}),
    keys_not_turned=("the keys are not turned; both queries and keys are", {"turned": "queries"}),
    queries_not_turned=(
        "the queries are not turned; both queries and keys are",
        {"turned": "keys"},
    ),
    keys_from_zero=(
        "the keys have the positions 0, 1, 2, ...; the new keys belong to the same tokens as the "
        "new queries",
        {"key_places": "from 0"},
    ),
    base_ignored=("the base is 10000 whatever was given; use the argument", {"base_of": "10000"}),
    texts_meet_tokens=(
        "n_cached and the T steps are added without an axis between them: n_cached[:, None] makes "
        "a row of positions for each text",
        {"steps": "flat", "axis": 0},
    ),
    keys_repeated=(
        "the keys are repeated for all query heads; that happens later, they keep their n_kv_heads",
        {"returned": "keys repeated"},
    ),
    results_exchanged=("the keys are returned first; q comes first", {"returned": "k q"}),
    neighbours_paired=(
        "neighbours are paired; feature i is paired with i + d_head / 2, as in 4.9",
        {"pairs": "neighbours"},
    ),
    turned_the_other_way=("the pairs turn the other way, see 4.9", {"signs": (1, -1)}),
    axis_after_the_tokens=(
        "the axis for the heads comes after the tokens; heads are axis 1 of q and k",
        {"axis": 2},
    ),
    axis_in_front=(
        "the cosines have no axis for the heads, or have it in front, so that texts meet heads; "
        "it is axis 1",
        {"axis": 0},
    ),
    promoted=("the results are float32; they have the dtypes of q and k", {"keeps_dtype": False}),
    positions_rounded=(POSITIONS_ROUNDED, {"rounded": "positions"}),
    start_rounded=(POSITIONS_ROUNDED, {"rounded": "start"}),
    angles_rounded=(
        "the angles are rounded to the dtype of q; in bfloat16 they are too coarse, see 4.11",
        {"rounded": "angles"},
    ),
)

# --- 4.13 interleaved_to_halves, halves_to_interleaved ---


def permuted_with(
    weight: Tensor,
    n_heads: int,
    *,
    direction: str = "there",
    heads: str = "each for itself",
    first: str = "even",
    axis: str = "rows",
    how: str = "moved",
    back: bool = False,
) -> Tensor:
    """The rows in the other layout; back=True for the way back."""
    n_rows = len(weight)
    number = {"each for itself": n_heads, "all at once": 1, "d_head": n_rows // n_heads}[heads]
    d_head = n_rows // number
    inside = [*range(0, d_head, 2), *range(1, d_head, 2)]
    if first == "odd":
        inside = [*range(1, d_head, 2), *range(0, d_head, 2)]
    elif first == "odd reversed":
        inside = [*range(0, d_head, 2), *reversed(range(1, d_head, 2))]
    order = torch.tensor([head * d_head + row for head in range(number) for row in inside])
    if back != (direction == "the other way"):
        order = order.argsort()
    if direction == "not at all":
        order = torch.arange(n_rows)
    elif direction == "twice":
        order = order[order]
    if how == "halves exchanged":
        half = d_head // 2
        order = torch.arange(n_rows).reshape(number, d_head).roll(half, 1).flatten()
    elif how == "heads exchanged":
        order = torch.arange(n_rows).reshape(number, d_head).mT.flatten()
    if axis == "last":
        rows = weight.reshape(*weight.shape[:-1], n_heads, *((2, -1) if back else (-1, 2)))
        return rows.transpose(-1, -2).reshape(weight.shape)
    if axis == "last, sliced" and not back:
        parts = weight.chunk(n_heads, dim=-1)
        return torch.cat([torch.cat((x[..., 0::2], x[..., 1::2]), -1) for x in parts], -1)
    if axis == "columns" and weight.dim() == 2 and weight.size(1) == n_rows:
        return weight[:, order]
    if axis == "columns":
        return weight.clone()
    result = weight[order]
    if axis == "turned":
        return result.mT if weight.dim() == 2 else result
    if axis == "four axes" and d_head % 2 == 0:
        return result.reshape(number, 2, d_head // 2, *weight.shape[1:])
    if axis == "negated":
        sign = torch.ones(n_rows, dtype=weight.dtype).reshape(number, d_head)
        sign[:, d_head // 2 :] = -1
        return result * sign.flatten().reshape(-1, *[1] * (weight.dim() - 1))
    return result


def way_back_with(weight: Tensor, n_heads: int, **settings: Any) -> Tensor:
    """The rows in the interleaved layout."""
    return permuted_with(weight, n_heads, back=True, **settings)


LAST_AXIS = (
    "the last axis is taken apart, which is right for a bias only; in a matrix the features of a "
    "head are rows, axis 0"
)
PERMUTED_WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "the_other_direction": (
        "this is the permutation of the other direction; the two are inverses, and equal only for "
        "small heads",
        {"direction": "the other way"},
    ),
    "unchanged": ("the rows are returned as they were", {"direction": "not at all"}),
    "applied_twice": ("the permutation is applied twice", {"direction": "twice"}),
    "heads_mixed": (
        "the rows of all heads are sorted together; each head keeps its own rows",
        {"heads": "all at once"},
    ),
    "width_taken_for_heads": (
        "n_heads and d_head are exchanged: a head has as many rows as there are rows divided by "
        "n_heads",
        {"heads": "d_head"},
    ),
    "odd_rows_first": (
        "the second features of the pairs come first; the first ones do",
        {"first": "odd"},
    ),
    "second_half_reversed": (
        "the second half of a head is in reverse order; pair i is at i and i + d_head / 2",
        {"first": "odd reversed"},
    ),
    "columns_moved": (
        "the columns are permuted; the features of a head are outputs of the projection, and those "
        "are rows",
        {"axis": "columns"},
    ),
    "last_axis_moved": (LAST_AXIS, {"axis": "last"}),
    "matrix_turned": ("the matrix comes back transposed", {"axis": "turned"}),
    "axes_not_joined": (
        "the rows are still divided into several axes; bring them back to the shape of weight",
        {"axis": "four axes"},
    ),
    "signs_changed": (
        "the second features change their sign; the rows only change their places",
        {"axis": "negated"},
    ),
    "halves_swapped": (
        "the two halves of a head are exchanged; what is asked for brings pairs together or apart",
        {"how": "halves exchanged"},
    ),
    "heads_interleaved": (
        "the rows are dealt out among the heads; each head keeps its own rows",
        {"how": "heads exchanged"},
    ),
}

THERE = mistakes(
    permuted_with,
    **PERMUTED_WRONG,
    last_axis_sliced=(LAST_AXIS, {"axis": "last, sliced"}),
)
# The two functions need texts of their own: where one is right, its mistakes are ruled out.
BACK = mistakes(
    way_back_with,
    **{
        f"back_{name}": (f"on the way back, {diagnosis}", settings)
        for name, (diagnosis, settings) in PERMUTED_WRONG.items()
    },
)

# --- 4.14 interpolated_angles, ntk_base ---


def stretched_with(
    positions: Tensor,
    d_head: int,
    factor: float,
    base: float = 10_000.0,
    *,
    positions_by: str = "divided",
    base_of: str = "given",
    order: str = "cos sin",
    exponent: str = "2i / d",
    results: str = "as they are",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The angles of squeezed positions."""
    places = {
        "divided": positions / factor,
        "multiplied": positions * factor,
        "not at all": positions,
        "rounded down": positions // factor,
        "rounded": (positions / factor).round(),
        "root": positions / math.sqrt(factor),
        "modulo": positions % factor,
        "minus": positions - factor,
        "squared": positions / factor**2,
        "whole factor": positions / int(factor),
    }[positions_by]
    base = {
        "given": base,
        "10000": 10_000.0,
        "times the factor": base * factor,
        "divided": base / factor,
        "larger": base * factor ** (d_head / (d_head - 2)) if d_head > 2 else base,
    }[base_of]
    found = angles_with(places, d_head, base, order=order, exponent=exponent, dtype=dtype)
    if results == "as they are":
        return found
    by = 1 / factor if results == "divided" else factor
    return found[0] * by, found[1] * by


STRETCHED = mistakes(
    stretched_with,
    positions_stretched=(
        "the positions are multiplied by the factor; divide, so that long texts have the angles of "
        "training",
        {"positions_by": "multiplied"},
    ),
    factor_ignored=(
        "the positions are not divided by the factor",
        {"positions_by": "not at all"},
    ),
    neighbours_merged=(
        "the positions are rounded down to whole numbers, so that neighbours get one angle; divide "
        "with /",
        {"positions_by": "rounded down"},
    ),
    neighbours_rounded=(
        "the positions are rounded to whole numbers, so that neighbours get one angle; leave the "
        "fractions",
        {"positions_by": "rounded"},
    ),
    divided_by_the_root=(
        "the positions are divided by the root of the factor",
        {"positions_by": "root"},
    ),
    divided_twice=("the positions are divided by the factor twice", {"positions_by": "squared"}),
    positions_repeat=(
        "positions start again after `factor` of them; divide them, so that each has its own place",
        {"positions_by": "modulo"},
    ),
    positions_moved=(
        "the factor is subtracted from the positions; divide by it",
        {"positions_by": "minus"},
    ),
    factor_cut_off=(
        "the factor is cut off to a whole number; 2.5 is a factor, too",
        {"positions_by": "whole factor"},
    ),
    base_changed_too=(
        "the base is multiplied by the factor besides; here only positions change",
        {"base_of": "times the factor"},
    ),
    base_in_place_of_positions=(
        "the base is changed and the positions are not; that is the other way, ntk_base",
        {"base_of": "larger", "positions_by": "not at all"},
    ),
    base_times_factor_in_place_of_positions=(
        "the base is multiplied by the factor and the positions are not divided; here it is the "
        "positions that change, and the base stays",
        {"base_of": "times the factor", "positions_by": "not at all"},
    ),
    results_divided=(
        "the cosines and sines are divided by the factor, so that nothing turns by another angle; "
        "divide the positions",
        {"results": "divided", "positions_by": "not at all"},
    ),
    results_multiplied=(
        "the cosines and sines are multiplied by the factor, so that nothing turns by another "
        "angle; divide the positions",
        {"results": "multiplied", "positions_by": "not at all"},
    ),
    base_ignored=("the base is 10000 whatever was given; use the argument", {"base_of": "10000"}),
    sines_first=("the sines are returned first; the cosines come first", {"order": "sin cos"}),
    only_the_angles=(
        "the angles are returned; their cosines and sines are asked for",
        {"order": "angles"},
    ),
    i_in_place_of_2i=("the exponent is i / d_head; it is 2i / d_head", {"exponent": "i / d"}),
    double_precision=("the results are float64; float32 is asked for", {"dtype": torch.float64}),
)


def base_with(
    base: float,
    d_head: int,
    factor: float,
    *,
    exponent: str = "d / (d - 2)",
    combined: str = "times",
) -> float:
    """The new base."""
    power = {
        "d / (d - 2)": d_head / (d_head - 2),
        "1": 1.0,
        "(d - 2) / d": (d_head - 2) / d_head,
        "d / (d - 1)": d_head / (d_head - 1),
        "d / i": d_head / (d_head / 2 - 1),
        "half": (d_head / 2) / (d_head / 2 - 2) if d_head != 4 else 3.0,
        "2 / d": 2 / d_head,
        "d / 2": d_head / 2,
        "2": 2.0,
        "1 / (d - 2)": 1 / (d_head - 2),
        "d": float(d_head),
        "whole": float(d_head // (d_head - 2)),
        "whole and upside down": float((d_head - 2) // d_head),
        "2 / (d - 2)": 2 / (d_head - 2),
    }[exponent]
    if combined == "times":
        return base * factor**power
    if combined == "divided":
        return base / factor**power
    if combined == "plus":
        return base + factor**power
    if combined == "all":
        return (base * factor) ** power
    if combined == "power of the base":
        return base**power * factor
    if combined == "precedence":
        return base * factor**d_head / (d_head - 2)
    return factor**power


BASE = mistakes(
    base_with,
    times_the_factor=(
        "the base is multiplied by the factor itself; the last pair's exponent is not quite 1, so "
        "it slows down by less than the factor",
        {"exponent": "1"},
    ),
    exponent_upside_down=(
        "the exponent of the factor is upside down: to undo a power e, raise to 1 / e",
        {"exponent": "(d - 2) / d"},
    ),
    one_less=(
        "the last pair is i = d_head / 2 - 1, so 2i is d_head - 2, not d_head - 1",
        {"exponent": "d / (d - 1)"},
    ),
    the_pair_before_the_last=(
        "this is the base that slows down the pair before the last by the factor; the last one is "
        "i = d_head / 2 - 1, with the exponent 2i / d_head",
        {"exponent": "half"},
    ),
    whole_number_division=(
        "// rounds the exponent down to a whole number; divide with /",
        {"exponent": "whole"},
    ),
    whole_number_division_upside_down=(
        "// rounds the exponent down to 0, so that the base stays as it is; divide with /, and "
        "mind which of the two numbers is above",
        {"exponent": "whole and upside down"},
    ),
    i_in_place_of_2i_there=(
        "the exponent of the last pair is taken to be i / d_head; it is 2i / d_head",
        {"exponent": "d / i"},
    ),
    not_divided_by_d_head=(
        "the exponent of the last pair is taken to be 2i; it is 2i / d_head",
        {"exponent": "1 / (d - 2)"},
    ),
    pair_number_alone=(
        "the exponent of the last pair is taken to be i; it is 2i / d_head",
        {"exponent": "2 / (d - 2)"},
    ),
    speed_of_pair_1=(
        "the factor is raised to 2 / d_head, as for pair 1; the last pair counts",
        {"exponent": "2 / d"},
    ),
    inverse_of_pair_1=(
        "this slows down pair 1 by the factor; the last pair is asked for",
        {"exponent": "d / 2"},
    ),
    squared=("the factor is squared; that is right for d_head = 4 only", {"exponent": "2"}),
    divided_by_the_power=(
        "the base is divided; a larger base makes pairs slower",
        {"combined": "divided"},
    ),
    added=("the power of the factor is added to the base; it multiplies it", {"combined": "plus"}),
    base_raised_too=(
        "base times factor is raised to the power; only the factor is",
        {"combined": "all"},
    ),
    base_raised=(
        "the base is raised to the power; the factor is",
        {"combined": "power of the base"},
    ),
    power_before_division=(
        "** comes before /: put d_head / (d_head - 2) in brackets",
        {"combined": "precedence"},
    ),
    base_forgotten=("the old base is missing from the product", {"combined": "factor alone"}),
)

MISCONCEPTIONS = {
    "predict_gradient": (
        last_one_wins,
        first_one_wins,
        averaged,
        counted,
        all_of_them_everywhere,
        all_of_them_where_used,
        in_the_order_of_the_text,
        places_added_up,
        multiplied,
        rows_backwards,
        unused_row_last,
        times_the_token,
        counted_from_one,
        in_the_order_of_appearance,
        gradients_reversed,
        divided_by_the_text,
        as_if_each_were_1,
    ),
    "one_hot": (*ONE_HOT, one_text_only, scattered_without_an_axis),
    "TokenEmbedding": (*TOKEN_TABLE, NotInitialized),
    "embedding_gradient": TABLE_GRADIENT,
    "scaled_lookup": SCALED,
    "tied_logits": TIED,
    "sinusoidal_encoding": WAVES,
    "SinusoidalPositions": WAVES_TAKEN,
    "LearnedPositions": (*POSITION_TABLE, NotInitialized),
    "shift_matrix": (
        *SHIFT,
        rows_moved_in_the_matrix,
        fits_one_position,
        scales_one_position,
    ),
    "alibi_slopes": SLOPES,
    "alibi_bias": BIAS,
    "relative_position_bucket": (*BUCKETS, clamped_only),
    "rotary_angles": ANGLES,
    "apply_rotary": ROTARY,
    "read_schemes": READINGS,
    "rotate": ROTATE,
    "rotate_new_tokens": NEW_TOKENS,
    "interleaved_to_halves": THERE,
    "halves_to_interleaved": BACK,
    "interpolated_angles": STRETCHED,
    "ntk_base": BASE,
}
