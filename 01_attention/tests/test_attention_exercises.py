"""What the exercises of lesson 01 must compute, against PyTorch, NumPy in float64 and by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other, values have a standard deviation of 2, and there are three sequences, not two, so that
an axis, a scale or a pair taken for another shows.
"""

import itertools
import math
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from utils.grader.feedback import (
    expect,
    expect_equal,
    expect_prediction,
    expect_same_gradients,
)
from utils.grader.readings import expect_letters

B, H, T, T_q, T_k, d_model, d_k, d_v = 3, 2, 6, 5, 7, 8, 4, 6


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random values with a standard deviation of 2."""
    return 2 * torch.randn(shape, dtype=dtype)


def allowed(*shape: int) -> Tensor:
    """A random boolean mask in which every query may attend to some key."""
    mask = torch.rand(shape) < 0.5
    mask[..., 1] = True
    return mask


# --- 1.1 ---

WEIGHTS = "the weights"


def test_each_weight_is_its_exponential_divided_by_the_sum_along_dim(ex):
    """each weight is its exponential, divided by the sum along dim"""
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    for dim in (-1, 0):
        exps = np.exp(x.double().numpy())
        truth = torch.from_numpy(exps / exps.sum(axis=dim, keepdims=True)).float()
        expect_equal(ex.softmax(x, dim=dim), truth, what=WEIGHTS)
    for shape, dim in [((7,), -1), ((4, 4), -1), ((5, 7), -1), ((5, 7), 0), ((B, 5, 7), 1)]:
        x = draw(*shape)
        exps = np.exp(x.double().numpy())
        truth = torch.from_numpy(exps / exps.sum(axis=dim, keepdims=True)).float()
        expect_equal(ex.softmax(x, dim=dim), truth, what=WEIGHTS)


def test_the_last_axis_is_the_default(ex):
    x = draw(B, 5, 7)
    expect_equal(ex.softmax(x), torch.softmax(x, -1), what=WEIGHTS)


def test_large_scores_do_not_overflow(ex):
    x = torch.tensor([[1e4, 9999, 0.0], [-1e4, -1e4, -2e4]], dtype=torch.float64)
    share = 1 / (1 + math.exp(-1))
    truth = torch.tensor([[share, 1 - share, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    expect_equal(ex.softmax(x), truth, what=WEIGHTS)


def test_a_score_of_minus_infinity_gets_no_weight(ex):
    """a score of -inf gets no weight, and a row of only -inf gives zeros"""
    x = torch.tensor([[0.0, -math.inf, math.log(3)], [-math.inf] * 3])
    truth = torch.tensor([[0.25, 0.0, 0.75], [0.0, 0.0, 0.0]])
    expect_equal(ex.softmax(x[:1], dim=-1), truth[:1], what=WEIGHTS)
    expect_equal(ex.softmax(x, dim=-1), truth, what=WEIGHTS)


def test_softmax_lets_gradients_through(ex):
    x = draw(5, 7).requires_grad_()
    result, truth = ex.softmax(x, dim=0), torch.softmax(x, 0)
    expect_equal(result, truth, what=WEIGHTS)
    expect_same_gradients(result, truth, {"x": x})


def test_the_gradient_is_never_nan(ex):
    """the gradient is never nan, not even for a row of only -inf"""
    x = draw(3, 5)
    x[0, 2], x[1] = -math.inf, -math.inf
    x.requires_grad_()
    hidden = torch.tensor([[False], [True], [False]])
    truth = torch.softmax(x.masked_fill(hidden, 0.0), -1).masked_fill(hidden, 0.0)
    result = ex.softmax(x)
    expect_equal(result, truth, what=WEIGHTS)
    expect_same_gradients(result, truth, {"x": x})


# --- 1.2 ---

SCORES = "the scores (..., T_q, T_k)"


def test_a_score_is_a_dot_product_divided_by_the_root_of_d_k(ex):
    """a score is a dot product, divided by the square root of d_k"""
    q = torch.tensor([[1.0, 0.0, 2.0, 0.0]])
    k = torch.tensor([[3.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 2.0]])
    expect_equal(ex.attention_scores(q, k), torch.tensor([[2.5, 1.5]]), what=SCORES)
    q, k = draw(T_q, d_k), draw(T_k, d_k)
    by_loops = [[sum(q_i[c] * k_j[c] for c in range(d_k)) / 2 for k_j in k] for q_i in q]
    expect_equal(ex.attention_scores(q, k), torch.tensor(by_loops), what=SCORES)


@pytest.mark.parametrize("lead", [(B,), (B, H), (1, B, H)])
def test_scores_take_any_leading_axes(ex, lead):
    q, k = draw(*lead, T_q, 3, dtype=torch.float64), draw(*lead, T_k, 3, dtype=torch.float64)
    truth = torch.einsum("...id,...jd->...ij", q, k) / math.sqrt(3)
    expect_equal(ex.attention_scores(q, k), truth, what=SCORES)


def test_scores_let_gradients_through(ex):
    q, k = draw(B, T_q, d_k).requires_grad_(), draw(B, T_k, d_k).requires_grad_()
    result, truth = ex.attention_scores(q, k), q @ k.mT / 2
    expect_equal(result, truth, what=SCORES)
    expect_same_gradients(result, truth, {"q": q, "k": k})


# --- 1.3 ---


@pytest.mark.parametrize("T", [3, 5, 1, 8, 130])
def test_position_i_sees_itself_and_the_past(ex, T):
    i, j = torch.arange(T)[:, None], torch.arange(T)
    expect_equal(ex.causal_mask(T), j <= i, what="the mask (T, T)")


def test_the_causal_mask_is_made_on_the_device_that_is_asked_for(ex):
    ex.causal_mask(3)  # a mask cached by this call must not be returned for another device
    mask = ex.causal_mask(3, device="meta")  # a device of shapes without data, on any machine
    device = getattr(mask, "device", None)
    expect(
        str(device) == "meta",
        f'causal_mask(3, device="meta") is on device {device}: pass device on to the function of '
        "PyTorch that makes the mask",
    )


# --- 1.4 ---

MASKED = "the masked scores (..., T_q, T_k)"


@pytest.mark.parametrize("shape", [(1, 3), (T_q, T_k), (B, 1, T_q, T_k), (B, 1, 1, T_k)])
def test_a_boolean_mask_puts_minus_infinity_where_it_is_false(ex, shape):
    """a boolean mask puts -inf where it is False"""
    small = shape == (1, 3)
    scores = torch.tensor([[2.0, 1.0, 3.0]]) if small else draw(B, H, T_q, T_k)
    mask = torch.tensor([[True, True, False]]) if small else allowed(*shape)
    truth = scores.masked_fill(mask.logical_not(), -math.inf)
    expect_equal(ex.apply_mask(scores, mask), truth, what=MASKED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_floating_mask_is_added(ex, dtype):
    scores, bias = torch.tensor([[2.0, 1.0, 3.0]]), torch.tensor([[0.0, -1.0, -math.inf]]).to(dtype)
    truth = torch.tensor([[2.0, 0.0, -math.inf]])
    expect_equal(ex.apply_mask(scores, bias), truth, what=MASKED)
    half = torch.bfloat16
    expect_equal(ex.apply_mask(scores.to(half), bias), truth.to(half), what=MASKED)
    scores, bias = draw(B, H, T_q, T_k), draw(H, T_q, T_k, dtype=dtype)
    bias[:, 0, 1:] = -math.inf
    bias[:, 1, :3] = 0.0
    expect_equal(ex.apply_mask(scores, bias[None]), scores + bias.float(), what=MASKED)


def test_zero_is_a_score_and_a_floating_mask_of_zeros_and_ones_is_floating(ex):
    scores, mask = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[True, False, False]])
    truth = torch.tensor([[0.0, -math.inf, -math.inf]])
    expect_equal(ex.apply_mask(scores, mask), truth, what=MASKED)
    bias = torch.tensor([[0.0, 1.0, 0.0]])
    expect_equal(ex.apply_mask(scores, bias), scores + bias, what=MASKED)


def test_masking_lets_gradients_through(ex):
    scores, bias = draw(T_q, T_k).requires_grad_(), draw(T_q, T_k).requires_grad_()
    result, truth = ex.apply_mask(scores, bias), scores + bias
    expect_equal(result, truth, what=MASKED)
    expect_same_gradients(result, truth, {"scores": scores, "mask": bias})
    mask = allowed(T_q, T_k)
    result, truth = ex.apply_mask(scores, mask), scores.masked_fill(~mask, -math.inf)
    expect_equal(result, truth, what=MASKED)
    shown, shown_truth = (torch.exp(each) for each in (result, truth))
    expect_same_gradients(shown, shown_truth, {"scores": scores})


# --- 1.5 ---

OUTPUT_AND_WEIGHTS = ("the output (..., T_q, d_v)", "the weights (..., T_q, T_k)")


def true_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """PyTorch's attention; its weights are what it makes of the identity as values."""
    eye = torch.eye(k.size(-2), dtype=q.dtype).expand(*q.shape[:-2], -1, -1)
    bias = mask.to(q.dtype) if mask is not None and mask.is_floating_point() else mask
    attend = F.scaled_dot_product_attention
    return attend(q, k, v, attn_mask=bias), attend(q, k, eye, attn_mask=bias)


def masks() -> dict[str, Tensor | None]:
    """One of each kind that broadcasts to (B, T_q, T_k)."""
    late = torch.ones(T_q, T_k, dtype=torch.bool).tril(T_k - T_q)
    return {
        "no mask": None,
        "boolean (T_q, T_k)": allowed(T_q, T_k),
        "boolean (B, T_q, T_k)": allowed(B, T_q, T_k),
        "causal": late,
        "padding": (torch.arange(T_k) < torch.tensor([7, 4, 6])[:, None])[:, None],
        "floating": draw(T_q, T_k) * (torch.arange(T_k) % 3 > 0),
        "floating with -inf": draw(B, T_q, T_k).masked_fill(~late, -math.inf),
    }


@pytest.mark.parametrize("kind", ["small", *masks()])
def test_attention_equals_pytorchs(ex, kind):
    """the result equals that of PyTorch's own attention"""
    if kind == "small":
        q, k = torch.tensor([[1.0, 0.0, 2.0, 1.0]]), torch.eye(2, 4)
        v = torch.tensor([[10.0, 0.0, 1.0], [20.0, 5.0, 2.0]])
        result = ex.scaled_dot_product_attention(q, k, v)
        expect_equal(result, true_attention(q, k, v), what=OUTPUT_AND_WEIGHTS)
        return
    q, k, v, mask = draw(B, T_q, d_k), draw(B, T_k, d_k), draw(B, T_k, d_v), masks()[kind]
    result = ex.scaled_dot_product_attention(q, k, v, mask)
    expect_equal(result, true_attention(q, k, v, mask), what=OUTPUT_AND_WEIGHTS)


@pytest.mark.parametrize("lead", [(), (1,), (B, H)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_takes_any_leading_axes(ex, lead, masked):
    shapes = (T_q, d_k), (T_k, d_k), (T_k, d_v)
    q, k, v = (draw(*lead, *shape, dtype=torch.float64) for shape in shapes)
    mask = allowed(T_q, T_k) if masked else None
    result = ex.scaled_dot_product_attention(q, k, v, mask)
    expect_equal(result, true_attention(q, k, v, mask), what=OUTPUT_AND_WEIGHTS)


def test_a_mask_may_differ_from_head_to_head(ex):
    shapes = (T_q, d_k), (T_k, d_k), (T_k, d_v)
    q, k, v = (draw(B, shape[0], H, shape[1]).transpose(1, 2) for shape in shapes)
    mask = allowed(B, H, T_q, T_k)
    result = ex.scaled_dot_product_attention(q, k, v, mask)
    expect_equal(result, true_attention(q, k, v, mask), what=OUTPUT_AND_WEIGHTS)


def test_a_hidden_key_gets_no_weight_however_well_it_matches(ex):
    q, k, v = torch.ones(1, d_k), torch.tensor([[500.0], [1.0], [2.0]]).expand(3, d_k), draw(3, d_v)
    mask = torch.tensor([[False, True, True]])
    result = ex.scaled_dot_product_attention(q, k, v, mask)
    expect_equal(result, true_attention(q, k, v, mask), what=OUTPUT_AND_WEIGHTS)


def test_a_query_that_sees_nothing_gets_zeros(ex):
    q, k, v, mask = draw(B, T_q, d_k), draw(B, T_k, d_k), draw(B, T_k, d_v), allowed(T_q, T_k)
    mask[2] = False
    output, weights = true_attention(q, k, v, mask)
    output[:, 2], weights[:, 2] = 0.0, 0.0
    result = ex.scaled_dot_product_attention(q, k, v, mask)
    expect_equal(result, (output, weights), what=OUTPUT_AND_WEIGHTS)
    nothing = torch.zeros(T_q, T_k, dtype=torch.bool)
    result = ex.scaled_dot_product_attention(q, k, v, nothing)
    zeros = torch.zeros(B, T_q, d_v), torch.zeros(B, T_q, T_k)
    expect_equal(result, zeros, what=OUTPUT_AND_WEIGHTS)


def test_attention_lets_gradients_through(ex):
    shapes = {"q": (B, T_q, d_k), "k": (B, T_k, d_k), "v": (B, T_k, d_v)}
    inputs = {name: draw(*shape).requires_grad_() for name, shape in shapes.items()}
    mask = allowed(T_q, T_k)
    result = ex.scaled_dot_product_attention(**inputs, mask=mask)
    truth = true_attention(**inputs, mask=mask)
    expect_equal(result, truth, what=OUTPUT_AND_WEIGHTS)
    expect_same_gradients(result[0], truth[0], inputs)
    expect_same_gradients(result[1], truth[1], {name: inputs[name] for name in "qk"})


# --- 1.6 ---


def test_the_predicted_weights_are_those_of_the_masked_row(ex):
    exps = np.exp(np.array([2.0, 0.0, -math.inf]))
    predicted = ex.predict_weights()
    expect_prediction(predicted, tuple(exps / exps.sum()), what="the three weights", within=0.006)


# --- 1.7 ---

PADDING = "the mask (B, 1, 1, T)"


@pytest.mark.parametrize(
    ("lengths", "length"), [([3, 1, 4], 4), ([6, 2, 4], T), ([1, 0, 3], T), ([5], T)]
)
def test_a_key_is_a_token_if_its_position_is_below_the_length(ex, lengths, length):
    truth = torch.tensor([[[[j < n for j in range(length)]]] for n in lengths])
    expect_equal(ex.padding_mask(torch.tensor(lengths), length), truth, what=PADDING)


def test_the_padding_mask_broadcasts_over_heads_and_queries(ex):
    lengths = torch.tensor([7, 3, 5])
    truth = torch.stack([torch.arange(T_k) < length for length in lengths])[:, None, None]
    expect_equal(ex.padding_mask(lengths, T_k), truth, what=PADDING)


def test_the_padding_mask_is_on_the_device_of_lengths(ex):
    """the mask is on the device of lengths"""
    lengths = torch.tensor([6, 2, 4])
    truth = torch.tensor([[[[position < length for position in range(T)]]] for length in lengths])
    expect_equal(ex.padding_mask(lengths, T), truth, what=PADDING)
    # A new tensor without a device goes to the default one, which is here a device without data.
    with torch.device("meta"):
        expect_equal(ex.padding_mask(lengths, T), truth, what=PADDING)


# --- 1.8 ---

OUTPUT = "the output (..., T_q, d_v)"


@pytest.mark.parametrize(
    ("lead", "n_queries", "n_keys"), [((), 1, 3), ((), 2, 5), ((B,), 3, 7), ((B, H), 4, 5)]
)
def test_the_newest_queries_see_themselves_and_the_whole_past(ex, lead, n_queries, n_keys):
    q, k, v = draw(*lead, n_queries, d_k), draw(*lead, n_keys, d_k), draw(*lead, n_keys, d_v)
    everywhere = torch.ones(n_keys, n_keys, dtype=torch.bool).tril()
    truth = F.scaled_dot_product_attention(q, k, v, attn_mask=everywhere[-n_queries:])
    expect_equal(ex.attend_from_the_end(q, k, v), truth, what=OUTPUT)


def test_as_many_queries_as_keys_is_plain_causal_attention(ex):
    q, k, v = draw(B, T, d_k), draw(B, T, d_k), draw(B, T, d_v)
    truth = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    expect_equal(ex.attend_from_the_end(q, k, v), truth, what=OUTPUT)


# --- 1.9 ---


def sides(d_values: int, n_keys: int = T_k) -> dict[str, Tensor]:
    """x, context and the three matrices, in float64: of five tensors float32 would round much."""
    shapes = {"x": (B, T_q, d_model), "context": (B, n_keys, d_model), "w_q": (d_model, d_k)}
    shapes |= {"w_k": (d_model, d_k), "w_v": (d_model, d_values)}
    return {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}


def true_cross_attention(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return true_attention(x @ w_q, context @ w_k, context @ w_v, mask)


@pytest.mark.parametrize("d_values", [d_k, d_v])
def test_queries_come_from_x_keys_and_values_from_context(ex, d_values):
    """queries come from x, keys and values from context"""
    inputs = sides(d_values)
    expect_equal(
        ex.cross_attention(**inputs), true_cross_attention(**inputs), what=OUTPUT_AND_WEIGHTS
    )


@pytest.mark.parametrize("same", [False, True], ids=["as many keys", "x itself"])
def test_context_may_be_as_long_as_x_or_x_itself(ex, same):
    inputs = sides(d_v, n_keys=T_q)
    inputs["context"] = inputs["x"] if same else inputs["context"]
    truth = true_cross_attention(**inputs)
    expect_equal(ex.cross_attention(**inputs), truth, what=OUTPUT_AND_WEIGHTS)


@pytest.mark.parametrize("mask", [masks()["padding"], masks()["floating"]], ids=["bool", "float"])
def test_cross_attention_obeys_a_mask(ex, mask):
    inputs = sides(d_v)
    truth = true_cross_attention(**inputs, mask=mask)
    expect_equal(ex.cross_attention(**inputs, mask=mask), truth, what=OUTPUT_AND_WEIGHTS)


def test_cross_attention_lets_gradients_through(ex):
    inputs = {name: tensor.requires_grad_() for name, tensor in sides(d_v).items()}
    result, truth = ex.cross_attention(**inputs), true_cross_attention(**inputs)
    expect_equal(result, truth, what=OUTPUT_AND_WEIGHTS)
    expect_same_gradients(result[0], truth[0], inputs)


# --- 1.10 ---

LETTERS = {
    "causal": "D",
    "padding": "A",
    "causal and padded": "C",
    "sliding window": "B",
}


NAMES = ", ".join(map(repr, LETTERS))


def test_each_map_is_given_the_mask_that_made_it(ex):
    expect_letters(ex.read_maps(), LETTERS, "the maps")


# --- 1.11 ---


def test_numpy_attention_equals_pytorchs(ex):
    """the result equals that of PyTorch's attention"""
    for lead, shape in [((), None), ((B,), (T_q, T_k)), ((B, H), (B, 1, T_q, T_k))]:
        q, k, v = (draw(*lead, *s) for s in ((T_q, d_k), (T_k, d_k), (T_k, d_v)))
        mask = None if shape is None else allowed(*shape)
        truth = tuple(x.numpy() for x in true_attention(q, k, v, mask))
        arrays = (x.numpy() for x in (q, k, v))
        result = ex.numpy_attention(*arrays, None if mask is None else mask.numpy())
        expect_equal(result, truth, what=OUTPUT_AND_WEIGHTS)


def test_numpy_attention_survives_large_scores_and_empty_rows(ex):
    k = np.array([[200.0] * 4, [-200.0] * 4, [200.0] * 4])
    q = np.array([[100.0] * 4, [100.0] * 4, [0.0] * 4, [100.0] * 4])
    v = np.array([[10.0], [20.0], [30.0]])
    # The last query may attend to one key alone, whose score is -40,000: lower than any stand-in.
    mask = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=bool)
    weights = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    truth = weights @ v, weights
    expect_equal(ex.numpy_attention(q, k, v, mask), truth, what=OUTPUT_AND_WEIGHTS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_attention_keeps_the_dtype(ex, dtype):
    q, k, v = (draw(*s).numpy().astype(dtype) for s in ((T_q, d_k), (T_k, d_k), (T_k, d_v)))
    output, weights = true_attention(*(torch.from_numpy(x) for x in (q, k, v)))
    result = ex.numpy_attention(q, k, v)
    expect_equal(result, (output.numpy(), weights.numpy()), what=OUTPUT_AND_WEIGHTS)


# --- 1.12 ---

COST = ("the number of multiply-adds", "the number of bytes")


@pytest.mark.parametrize(
    ("sizes", "cost"),
    [
        # 3 * 3 scores of 5 multiply-adds, and as many for the values; 9 weights of 4 bytes
        ((1, 1, 3, 5, 4), (90, 36)),
        ((3, 2, 5, 4, 2), (1200, 300)),
        ((1, 1, 1, 1, 8), (2, 8)),
        ((1, 12, 1024, 64), (1_610_612_736, 50_331_648)),
        ((8, 32, 8192, 128), (4_398_046_511_104, 68_719_476_736)),  # more than 32 bits hold
    ],
)
def test_the_cost_equals_what_is_counted_by_hand(ex, sizes, cost):
    expect_equal(ex.attention_cost(*sizes), cost, what=COST)


def test_the_cost_equals_that_of_products_done_step_by_step(ex):
    done = 0
    for _ in range(B * H):
        for _ in itertools.product(range(T), range(T), range(d_k)):  # q times k transposed
            done += 1
        for _ in itertools.product(range(T), range(d_k), range(T)):  # weights times v
            done += 1
    weights = draw(B, H, T, T)
    truth = done, weights.numel() * weights.element_size()
    expect_equal(ex.attention_cost(B, H, T, d_k), truth, what=COST)


# --- 1.13 ---


def true_window(T: int, window: int, n_sinks: int) -> Tensor:
    """Position by position, as the words say it."""
    mask = torch.zeros(T, T, dtype=torch.bool)
    for i in range(T):
        visible = {*range(i - window + 1, i + 1), *range(n_sinks)}
        for j in visible & set(range(i + 1)):
            mask[i, j] = True
    return mask


@pytest.mark.parametrize(("T", "window"), [(6, 3), (6, 1), (5, 9), (1, 1), (20, 15)])
def test_the_window_holds_as_many_positions_as_it_says(ex, T, window):
    truth = true_window(T, window, 0)
    expect_equal(ex.sliding_window_mask(T, window), truth, what="the mask (T, T)")


@pytest.mark.parametrize(
    ("T", "window", "n_sinks"), [(7, 2, 1), (8, 3, 2), (6, 1, 4), (20, 2, 12), (3, 1, 5)]
)
def test_sinks_stay_visible_but_not_ahead_of_time(ex, T, window, n_sinks):
    """sinks stay visible, but not ahead of time"""
    truth = true_window(T, window, n_sinks)
    expect_equal(ex.sliding_window_mask(T, window, n_sinks), truth, what="the mask (T, T)")


# --- 1.14 ---


class LiveElements(TorchFunctionMode):
    """Counts the elements of the tensors that PyTorch functions returned and that still exist."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor) and x._base is None and id(x) not in self.alive:
                self.alive[id(x)] = x.numel()
                weakref.finalize(x, self.alive.pop, id(x), None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize(
    ("lead", "block_size"), [((), 3), ((B,), 3), ((B, H), 2), ((B,), 1), ((B,), 7), ((B,), 64)]
)
def test_online_attention_equals_attention(ex, lead, block_size):
    """online attention equals attention"""
    q, k, v = draw(*lead, T_q, d_k), draw(*lead, T_k, d_k), draw(*lead, T_k, d_v)
    truth = F.scaled_dot_product_attention(q.double(), k.double(), v.double()).float()
    expect_equal(ex.online_attention(q, k, v, block_size), truth, what=OUTPUT)


@pytest.mark.parametrize("order", [1, -1], ids=["rising", "falling"])
def test_online_attention_follows_scores_from_block_to_block(ex, order):
    heights = order * torch.linspace(-1000, 1000, T_k, dtype=torch.float64)
    k, v = heights[:, None].expand(T_k, d_k), draw(T_k, d_v, dtype=torch.float64)
    q = torch.tensor([1.0, -1.0, 0.001, 0.0], dtype=torch.float64)[:, None].expand(4, d_k)
    truth = F.scaled_dot_product_attention(q, k, v)
    expect_equal(ex.online_attention(q, k, v, 3), truth, what=OUTPUT)


@pytest.mark.parametrize("size", [1000.0, -1000.0])
def test_online_attention_survives_large_scores(ex, size):
    q, k, v = torch.ones(T_q, d_k), draw(T_k, d_k), draw(T_k, d_v)
    k = (k + size).double()
    truth = F.scaled_dot_product_attention(q.double(), k, v.double())
    expect_equal(ex.online_attention(q.double(), k, v.double(), 3), truth, what=OUTPUT)


def test_online_attention_never_holds_all_the_scores(ex):
    n = 96
    q, k, v = draw(n, d_k), draw(n, d_k), draw(n, d_v)
    with LiveElements() as live:
        result = ex.online_attention(q, k, v, 8)
    expect_equal(result, F.scaled_dot_product_attention(q, k, v), what=OUTPUT)
    expect(
        live.peak < n * n,
        f"the result is right, but with {n} queries, {n} keys and blocks of 8 its tensors hold "
        f"{live.peak} elements at once; that must stay below {n} x {n} = {n * n}",
    )


class WholeRows(TorchFunctionMode):
    """Finds the first tensor with a score for every key. (Copies of the keys have their width.)"""

    def __init__(self, n_keys: int, widths: set[int]) -> None:
        super().__init__()
        self.n_keys = n_keys
        self.widths = widths
        self.shape: tuple[int, ...] = ()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor) and x.is_floating_point() and not self.shape:
                sizes = set(x.shape)
                if self.n_keys in sizes and not sizes & self.widths:
                    self.shape = tuple(x.shape)
        return result


@pytest.mark.parametrize("n_queries", [1, 2])
def test_online_attention_never_holds_a_whole_row_of_scores(ex, n_queries):
    n_keys, width, value_width = 101, 3, 5
    q, k, v = draw(n_queries, width), draw(n_keys, width), draw(n_keys, value_width)
    with WholeRows(n_keys, {width, value_width}) as rows:
        result = ex.online_attention(q, k, v, 8)
    expect_equal(result, F.scaled_dot_product_attention(q, k, v), what=OUTPUT)
    expect(
        not rows.shape,
        f"the result is right, but with {n_keys} keys and blocks of 8 it makes a tensor of shape "
        f"{rows.shape}, which holds a query's scores for all keys: go through the keys in blocks",
    )


def test_online_attention_lets_gradients_through(ex):
    shapes = {"q": (B, T_q, d_k), "k": (B, T_k, d_k), "v": (B, T_k, d_v)}
    inputs = {name: draw(*shape).requires_grad_() for name, shape in shapes.items()}
    result = ex.online_attention(**inputs, block_size=3)
    truth = F.scaled_dot_product_attention(inputs["q"], inputs["k"], inputs["v"])
    expect_equal(result, truth, what=OUTPUT)
    expect_same_gradients(result, truth, inputs)
