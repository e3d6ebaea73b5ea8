"""Tests of lesson 01's exercises: against PyTorch, NumPy in float64, and calculations by hand.

All sizes differ, values have standard deviation 2, and the batch size is 3, not 2 (a batch of two
unpacks like a pair): so that a confused axis or a wrong scale becomes visible.
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

from utils.grader.feedback import expect, expect_equal, expect_same_gradients

B, H, T, T_q, T_k, d_model, d_k, d_v = 3, 2, 6, 5, 7, 8, 4, 6


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normally distributed values with standard deviation 2."""
    return 2 * torch.randn(shape, dtype=dtype)


def allowed(*shape: int) -> Tensor:
    """A random boolean mask in which every query may attend to at least one key."""
    mask = torch.rand(shape) < 0.5
    mask[..., 1] = True
    return mask


# --- 1.1 ---

SHARES = "the result"


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((7,), -1), ((4, 4), -1), ((5, 7), -1), ((4, 4), 0), ((5, 7), 0), ((B, 5, 7), 1)],
)
def test_softmax_is_each_exponential_over_their_sum(ex, shape, dim):
    x = draw(*shape)
    exps = np.exp(x.double().numpy())
    truth = torch.from_numpy(exps / exps.sum(axis=dim, keepdims=True)).float()
    expect_equal(ex.softmax(x, dim=dim), truth, what=SHARES)


def test_softmax_uses_the_last_axis_by_default(ex):
    x = draw(B, 5, 7)
    expect_equal(ex.softmax(x), torch.softmax(x, -1), what=SHARES)


def test_softmax_handles_large_entries(ex):
    x = torch.tensor([[1e4, 1e4, 0.0], [-1e4, -1e4, -2e4]], dtype=torch.float64)
    truth = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    expect_equal(ex.softmax(x), truth, what=SHARES)


def test_softmax_gives_minus_infinity_no_weight(ex):
    x = torch.tensor([[0.0, -math.inf, math.log(3)], [-math.inf] * 3])
    truth = torch.tensor([[0.25, 0.0, 0.75], [0.0, 0.0, 0.0]])
    expect_equal(ex.softmax(x[:1], dim=-1), truth[:1], what=SHARES)
    expect_equal(ex.softmax(x, dim=-1), truth, what=SHARES)


def test_softmax_lets_gradients_through(ex):
    x = draw(5, 7).requires_grad_()
    result, truth = ex.softmax(x, dim=0), torch.softmax(x, 0)
    expect_equal(result, truth, what=SHARES)
    expect_same_gradients(result, truth, {"x": x})


# --- 1.2 ---

SCORES = "the scores (..., T_q, T_k)"


def test_scores_are_scaled_dot_products(ex):
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


@pytest.mark.parametrize("T", [5, 1, 8, 130])
def test_position_i_attends_to_itself_and_the_past(ex, T):
    i, j = torch.arange(T)[:, None], torch.arange(T)
    expect_equal(ex.causal_mask(T), j <= i, what="the mask (T, T)")


def test_the_causal_mask_is_on_the_device_that_was_given(ex):
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


@pytest.mark.parametrize("shape", [(T_q, T_k), (B, 1, T_q, T_k), (B, 1, 1, T_k)])
def test_a_boolean_mask_gives_minus_infinity_where_it_is_false(ex, shape):
    scores, mask = draw(B, H, T_q, T_k), allowed(*shape)
    truth = scores.masked_fill(mask.logical_not(), -math.inf)
    expect_equal(ex.apply_mask(scores, mask), truth, what=MASKED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_floating_mask_is_added(ex, dtype):
    scores, bias = draw(B, H, T_q, T_k), draw(H, T_q, T_k, dtype=dtype)
    bias[:, 0, 1:] = -math.inf
    bias[:, 1, :3] = 0.0
    result = ex.apply_mask(scores, bias[None])
    expect_equal(result, scores + bias.float(), what=MASKED)


def test_a_zero_score_is_kept_and_a_floating_mask_of_zeros_and_ones_is_added(ex):
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
    """PyTorch's attention; with the identity as values it returns its weights."""
    eye = torch.eye(k.size(-2), dtype=q.dtype).expand(*q.shape[:-2], -1, -1)
    bias = mask.to(q.dtype) if mask is not None and mask.is_floating_point() else mask
    attend = F.scaled_dot_product_attention
    return attend(q, k, v, attn_mask=bias), attend(q, k, eye, attn_mask=bias)


def masks() -> dict[str, Tensor | None]:
    """One mask of each kind that broadcasts to (B, T_q, T_k)."""
    late = torch.ones(T_q, T_k, dtype=torch.bool).tril(T_k - T_q)
    return {
        "no mask": None,
        "boolean (T_q, T_k)": allowed(T_q, T_k),
        "boolean (B, T_q, T_k)": allowed(B, T_q, T_k),
        "causal": late,
        "padding": (torch.arange(T_k) < torch.tensor([7, 4, 6])[:, None])[:, None],
        "floating": draw(T_q, T_k),
        "floating with -inf": draw(B, T_q, T_k).masked_fill(~late, -math.inf),
    }


@pytest.mark.parametrize("kind", masks())
def test_attention_equals_pytorchs(ex, kind):
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


def test_a_masked_key_gets_no_weight_however_large_its_score(ex):
    q, k, v = torch.ones(1, d_k), torch.tensor([[500.0], [1.0], [2.0]]).expand(3, d_k), draw(3, d_v)
    mask = torch.tensor([[False, True, True]])
    result = ex.scaled_dot_product_attention(q, k, v, mask)
    expect_equal(result, true_attention(q, k, v, mask), what=OUTPUT_AND_WEIGHTS)


def test_a_query_that_may_attend_to_nothing_gets_zeros(ex):
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

PADDING = "the mask (B, 1, 1, T)"


@pytest.mark.parametrize("lengths", [[6, 2, 4], [1, 0, 3], [5]])
def test_padding_begins_at_the_length(ex, lengths):
    truth = torch.tensor([[[[position < length for position in range(T)]]] for length in lengths])
    expect_equal(ex.padding_mask(torch.tensor(lengths), T), truth, what=PADDING)


def test_the_padding_mask_broadcasts_over_heads_and_queries(ex):
    lengths = torch.tensor([7, 3, 5])
    truth = torch.stack([torch.arange(T_k) < length for length in lengths])[:, None, None]
    expect_equal(ex.padding_mask(lengths, T_k), truth, what=PADDING)


def test_the_padding_mask_is_on_the_device_of_lengths(ex):
    """Only without a device does a new tensor go to the default device, here one without data."""
    lengths = torch.tensor([6, 2, 4])
    truth = torch.tensor([[[[position < length for position in range(T)]]] for length in lengths])
    expect_equal(ex.padding_mask(lengths, T), truth, what=PADDING)
    with torch.device("meta"):
        expect_equal(ex.padding_mask(lengths, T), truth, what=PADDING)


# --- 1.7 ---


def sides(d_values: int, n_keys: int = T_k) -> dict[str, Tensor]:
    """x, context and the three matrices, in float64: with five tensors, float32 rounds too much."""
    shapes = {"x": (B, T_q, d_model), "context": (B, n_keys, d_model), "w_q": (d_model, d_k)}
    shapes |= {"w_k": (d_model, d_k), "w_v": (d_model, d_values)}
    return {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}


def true_cross_attention(
    x: Tensor, context: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return true_attention(x @ w_q, context @ w_k, context @ w_v, mask)


@pytest.mark.parametrize("d_values", [d_k, d_v])
def test_queries_come_from_x_and_keys_and_values_from_context(ex, d_values):
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
def test_cross_attention_applies_a_mask(ex, mask):
    inputs = sides(d_v)
    truth = true_cross_attention(**inputs, mask=mask)
    expect_equal(ex.cross_attention(**inputs, mask=mask), truth, what=OUTPUT_AND_WEIGHTS)


def test_cross_attention_lets_gradients_through(ex):
    inputs = {name: tensor.requires_grad_() for name, tensor in sides(d_v).items()}
    result, truth = ex.cross_attention(**inputs), true_cross_attention(**inputs)
    expect_equal(result, truth, what=OUTPUT_AND_WEIGHTS)
    expect_same_gradients(result[0], truth[0], inputs)


# --- 1.8 ---

COST = ("the number of multiply-adds", "the number of bytes")


@pytest.mark.parametrize(
    ("sizes", "cost"),
    [
        # 3 * 3 scores of 5 multiply-adds, and as many for the values; 9 weights of 4 bytes
        ((1, 1, 3, 5, 4), (90, 36)),
        ((3, 2, 5, 4, 2), (1200, 300)),
        ((1, 1, 1, 1, 8), (2, 8)),
        ((1, 12, 1024, 64), (1_610_612_736, 50_331_648)),
    ],
)
def test_the_cost_equals_a_count_by_hand(ex, sizes, cost):
    expect_equal(ex.attention_cost(*sizes), cost, what=COST)


def test_the_cost_equals_a_count_step_by_step(ex):
    done = 0
    for _ in range(B * H):
        for _ in itertools.product(range(T), range(T), range(d_k)):  # q times k transposed
            done += 1
        for _ in itertools.product(range(T), range(d_k), range(T)):  # weights times v
            done += 1
    weights = draw(B, H, T, T)
    truth = done, weights.numel() * weights.element_size()
    expect_equal(ex.attention_cost(B, H, T, d_k), truth, what=COST)


# --- 1.9 ---


def true_window(T: int, window: int, n_sinks: int) -> Tensor:
    """Position by position, as the docstring defines it."""
    mask = torch.zeros(T, T, dtype=torch.bool)
    for i in range(T):
        visible = {*range(i - window + 1, i + 1), *range(n_sinks)}
        for j in visible & set(range(i + 1)):
            mask[i, j] = True
    return mask


@pytest.mark.parametrize(("T", "window"), [(6, 3), (6, 1), (5, 9), (1, 1), (20, 15)])
def test_the_window_has_the_given_length(ex, T, window):
    truth = true_window(T, window, 0)
    expect_equal(ex.sliding_window_mask(T, window), truth, what="the mask (T, T)")


@pytest.mark.parametrize(
    ("T", "window", "n_sinks"), [(7, 2, 1), (8, 3, 2), (6, 1, 4), (20, 2, 12), (3, 1, 5)]
)
def test_sinks_stay_visible_but_never_in_the_future(ex, T, window, n_sinks):
    truth = true_window(T, window, n_sinks)
    expect_equal(ex.sliding_window_mask(T, window, n_sinks), truth, what="the mask (T, T)")


# --- 1.10 ---

OUTPUT = "the output (..., T_q, d_v)"


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
    q, k, v = draw(*lead, T_q, d_k), draw(*lead, T_k, d_k), draw(*lead, T_k, d_v)
    truth = F.scaled_dot_product_attention(q.double(), k.double(), v.double()).float()
    expect_equal(ex.online_attention(q, k, v, block_size), truth, what=OUTPUT)


@pytest.mark.parametrize("order", [1, -1], ids=["rising", "falling"])
def test_online_attention_handles_scores_that_rise_and_fall(ex, order):
    heights = order * torch.linspace(-1000, 1000, T_k, dtype=torch.float64)
    k, v = heights[:, None].expand(T_k, d_k), draw(T_k, d_v, dtype=torch.float64)
    q = torch.tensor([1.0, -1.0, 0.001, 0.0], dtype=torch.float64)[:, None].expand(4, d_k)
    truth = F.scaled_dot_product_attention(q, k, v)
    expect_equal(ex.online_attention(q, k, v, 3), truth, what=OUTPUT)


@pytest.mark.parametrize("size", [1000.0, -1000.0])
def test_online_attention_handles_large_scores(ex, size):
    q, k, v = torch.ones(T_q, d_k), draw(T_k, d_k), draw(T_k, d_v)
    k = (k + size).double()
    truth = F.scaled_dot_product_attention(q.double(), k, v.double())
    expect_equal(ex.online_attention(q.double(), k, v.double(), 3), truth, what=OUTPUT)


def test_online_attention_never_holds_all_scores(ex):
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
