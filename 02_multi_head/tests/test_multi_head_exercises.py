"""What the exercises of lesson 02 must compute, against PyTorch, head by head and by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other, values have a standard deviation of 2, and there are three texts, not two, so that an
axis, a head or a pair taken for another shows.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attention import AttentionFunction
from grouped_query_attention import GroupedQueryAttention
from multi_head import MultiHeadAttention
from utils.grader.feedback import (
    expect,
    expect_equal,
    expect_parameters,
    expect_prediction,
    expect_same_gradients,
)
from utils.grader.readings import expect_letters

B, H, T, T_k, d_head, d_model = 3, 3, 5, 7, 4, 12


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random values with a standard deviation of 2."""
    return 2 * torch.randn(shape, dtype=dtype)


def allowed(*shape: int) -> Tensor:
    """A random boolean mask in which every query may attend to some key."""
    mask = torch.rand(shape) < 0.5
    mask[..., 1] = True
    return mask


def numbered(tokens: int, features: int) -> Tensor:
    """(1, tokens, features): 0, 1, 2, ... for token 0, 10, 11, 12, ... for token 1."""
    return (10.0 * torch.arange(tokens)[:, None] + torch.arange(features))[None]


# --- 2.1 ---

HEADS = "the heads (B, n_heads, T, d_head)"


def true_split(x: Tensor, n_heads: int) -> Tensor:
    """Slice by slice, as the words say it."""
    width = x.size(-1) // n_heads
    slices = [x[..., head * width : (head + 1) * width] for head in range(n_heads)]
    return torch.stack(slices, dim=1)


@pytest.mark.parametrize(
    ("shape", "n_heads"),
    [(None, 2), ((B, T, d_model), H), ((B, 4, 8), 2), ((1, T, 10), 5), ((B, T, 6), 1)],
)
def test_head_h_gets_slice_h_of_the_features(ex, shape, n_heads):
    """head h gets slice h of the features"""
    x = numbered(2, 4) if shape is None else draw(*shape)
    expect_equal(ex.split_heads(x, n_heads), true_split(x, n_heads), what=HEADS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_splitting_takes_views_and_keeps_the_dtype(ex, dtype):
    """a view of another tensor can be split, and the dtype stays"""
    x = draw(T, B, d_model).transpose(0, 1).to(dtype)
    expect_equal(ex.split_heads(x, H), true_split(x, H), what=HEADS)
    x = draw(d_model, B, T).permute(1, 2, 0).to(dtype)
    expect_equal(ex.split_heads(x, 2), true_split(x, 2), what=HEADS)


def test_splitting_lets_gradients_through(ex):
    x = draw(B, T, d_model).requires_grad_()
    result, truth = ex.split_heads(x, H), true_split(x, H)
    expect_equal(result, truth, what=HEADS)
    expect_same_gradients(result, truth, {"x": x})


# --- 2.2 ---

MERGED = "the merged heads (B, T, n_heads * d_head)"


def true_merge(x: Tensor) -> Tensor:
    """Head by head, side by side."""
    return torch.cat([x[:, head] for head in range(x.size(1))], dim=-1)


@pytest.mark.parametrize(
    "shape", [None, (B, H, T, d_head), (B, 2, 4, 6), (1, 5, T, 2), (B, 1, T, 6)]
)
def test_the_heads_of_a_token_stand_side_by_side(ex, shape):
    """the features of a token's heads are side by side"""
    x = true_split(numbered(2, 4), 2) if shape is None else draw(*shape)
    expect_equal(ex.merge_heads(x), true_merge(x), what=MERGED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_merging_takes_views_and_keeps_the_dtype(ex, dtype):
    """heads that are a view of another tensor can be merged, and the dtype stays"""
    x = draw(B, T, H, d_head).transpose(1, 2).to(dtype)
    expect_equal(ex.merge_heads(x), true_merge(x), what=MERGED)
    x = draw(T, B, d_head, 2).permute(1, 3, 0, 2).to(dtype)
    expect_equal(ex.merge_heads(x), true_merge(x), what=MERGED)


def test_merging_lets_gradients_through(ex):
    x = draw(B, H, T, d_head).requires_grad_()
    result, truth = ex.merge_heads(x), true_merge(x)
    expect_equal(result, truth, what=MERGED)
    expect_same_gradients(result, truth, {"x": x})


# --- 2.3 ---


def test_the_predicted_numbers_are_those_that_view_makes(ex):
    """the predicted numbers are those that view makes"""
    regrouped = numbered(2, 6).view(1, 3, 2, 2)[0, 1]
    truth = tuple(regrouped.flatten().tolist())
    expect_prediction(ex.predict_regrouped(), truth, what="the four numbers of head 1")


# --- 2.4 ---

LAYER = "the output (B, T, d_model)"


def fill(layer: nn.Module, std: float = 0.3) -> nn.Module:
    """A layer with random weights and biases, the same for every learner."""
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        with torch.no_grad():
            parameter.normal_(std=std, generator=generator)
    return layer


def multi_head(ex, *sizes: int, bias: bool = True) -> nn.Module:
    """A layer of the learner's, with weights of ours."""
    reference = fill(MultiHeadAttention(*sizes, bias=bias))
    layer = ex.MultiHeadAttention(*sizes, bias=bias)
    expect_parameters(layer, reference)
    layer.load_state_dict(reference.state_dict())
    return layer


def project(layer: nn.Module, name: str, x: Tensor) -> Tensor:
    """One of the projections of a layer, by its parameters alone."""
    projection = layer.get_submodule(name)
    bias = projection.bias if isinstance(projection.bias, Tensor) else None
    return F.linear(x, projection.weight, bias)  # pyright: ignore[reportArgumentType]


def head_by_head(
    layer: nn.Module,
    x: Tensor,
    n_heads: int,
    mask: Tensor | None = None,
    context: Tensor | None = None,
) -> Tensor:
    """One head after the other by PyTorch's attention, on slices of the projections."""
    context = x if context is None else context
    q, k = project(layer, "q_proj", x), project(layer, "k_proj", context)
    v = project(layer, "v_proj", context)
    width = q.size(-1) // n_heads
    kv_heads = k.size(-1) // width
    heads = []
    for head in range(n_heads):
        kv_head = head * kv_heads // n_heads
        own = slice(head * width, (head + 1) * width)
        shared = slice(kv_head * width, (kv_head + 1) * width)
        its_mask = None if mask is None else mask.expand(len(x), n_heads, -1, -1)[:, head]
        heads.append(
            F.scaled_dot_product_attention(
                q[..., own], k[..., shared], v[..., shared], attn_mask=its_mask
            )
        )
    return project(layer, "out_proj", torch.cat(heads, dim=-1))


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_has_four_projections_of_full_width(ex, bias):
    """the layer has four projections of full width, named as the course names them"""
    reference = MultiHeadAttention(d_model, H, bias=bias)
    expect_parameters(ex.MultiHeadAttention(d_model, H, bias=bias), reference)
    expect_parameters(ex.MultiHeadAttention(d_model, H), MultiHeadAttention(d_model, H))


@pytest.mark.parametrize(
    ("sizes", "bias"),
    [((4, 2), False), ((d_model, H), True), ((d_model, 6), False), ((8, 1), True)],
)
def test_one_head_after_the_other_gives_the_same(ex, sizes, bias):
    """all heads at once give the same as one head after the other"""
    layer = multi_head(ex, *sizes, bias=bias)
    x = numbered(2, 4) / 10 if sizes == (4, 2) else draw(B, T, sizes[0])
    expect_equal(layer(x), head_by_head(layer, x, sizes[1]), what=LAYER)


def test_the_layer_equals_pytorchs(ex):
    """the layer equals nn.MultiheadAttention with the same weights"""
    layer = multi_head(ex, d_model, H)
    theirs = nn.MultiheadAttention(d_model, H, batch_first=True)
    names = ("q_proj", "k_proj", "v_proj")
    state = {
        f"in_proj_{kind}": torch.cat([layer.state_dict()[f"{name}.{kind}"] for name in names])
        for kind in ("weight", "bias")
    }
    state |= {name: value for name, value in layer.state_dict().items() if "out_proj" in name}
    theirs.load_state_dict(state)
    x, causal = draw(B, T, d_model), torch.ones(T, T, dtype=torch.bool).tril()
    with torch.no_grad():
        truth, _ = theirs(x, x, x, attn_mask=~causal, need_weights=False)
    expect_equal(layer(x, causal).detach(), truth, what=LAYER, view=torch.clone)


MASKS = {
    "causal": torch.ones(T, T, dtype=torch.bool).tril(),
    "padding": (torch.arange(T) < torch.tensor([5, 2, 3])[:, None])[:, None, None],
    "one per head": allowed(B, H, T, T),
    "floating": draw(1, H, T, T),
}


@pytest.mark.parametrize("kind", MASKS)
def test_the_layer_hands_the_mask_to_every_head(ex, kind):
    """the mask reaches every head"""
    layer, x = multi_head(ex, d_model, H), draw(B, T, d_model)
    expect_equal(layer(x, MASKS[kind]), head_by_head(layer, x, H, MASKS[kind]), what=LAYER)


def last_key_first(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Not attention at all: values in reverse order, twice the queries, and the mask's sum.

    Axis 1 is mixed in, so that a call with all the heads differs from one call per head.
    """
    extra = 0.0 if mask is None else mask.to(q.dtype).sum(-1, keepdim=True)
    return v.flip(-2) + 2 * q - k + 3 * q.mean(1, keepdim=True) + extra, None


class Counted:
    """An attention function, and how often it was called."""

    def __init__(self, attend: AttentionFunction) -> None:
        self.attend = attend
        self.calls = 0

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        self.calls += 1
        return self.attend(q, k, v, mask)


def expect_one_call(layer: nn.Module, x: Tensor, attend: AttentionFunction) -> None:
    """Raise Wrong unless a layer calls the attention that is handed in once."""
    counted = Counted(attend)
    layer(x, None, counted)
    calls = counted.calls  # the known wrong answers may call it as well
    expect(calls == 1, f"attend is called {calls} times; call it once, with all the heads")


def test_the_heads_run_in_the_attention_that_is_handed_in(ex):
    """the attention that is handed in is called once, with all heads and the mask"""
    layer, x = multi_head(ex, d_model, H), draw(B, T, d_model)
    for mask in (None, MASKS["padding"]):
        q, k, v = (
            true_split(project(layer, name, x), H) for name in ("q_proj", "k_proj", "v_proj")
        )
        truth = project(layer, "out_proj", true_merge(last_key_first(q, k, v, mask)[0]))
        expect_equal(layer(x, mask, last_key_first), truth, what=LAYER)
    expect_equal(layer(x, attend=last_key_first).shape, x.shape, what="the shape of the output")
    expect_one_call(layer, x, last_key_first)


def test_the_layer_lets_gradients_through(ex):
    layer, x = multi_head(ex, d_model, H), torch.randn(B, T, d_model).div(2).requires_grad_()
    result, truth = layer(x), head_by_head(layer, x, H)
    expect_equal(result, truth, what=LAYER)
    expect_same_gradients(result, truth, {"x": x, **dict(layer.named_parameters())})


# --- 2.5 ---

QKV = tuple(f"{name} (B, n_heads, T, d_head)" for name in ("q", "k", "v"))


def true_thirds(qkv: Tensor, n_heads: int) -> tuple[Tensor, ...]:
    width = qkv.size(-1) // 3
    thirds = [qkv[..., i * width : (i + 1) * width] for i in range(3)]
    return tuple(true_split(third, n_heads) for third in thirds)


@pytest.mark.parametrize(
    ("shape", "n_heads"), [(None, 2), ((B, T, 3 * d_model), H), ((B, 4, 18), 2), ((B, T, 24), 1)]
)
def test_queries_keys_and_values_are_the_thirds_of_the_projection(ex, shape, n_heads):
    """queries, keys and values are the three thirds of the projection"""
    qkv = numbered(1, 12) if shape is None else draw(*shape)
    expect_equal(ex.split_qkv(qkv, n_heads), true_thirds(qkv, n_heads), what=QKV)


def test_the_repaired_heads_give_the_attention_of_three_projections(ex):
    x, weights = draw(B, T, 8, dtype=torch.float64), draw(3, 6, 8, dtype=torch.float64)
    qkv = F.linear(x, weights.flatten(0, 1))
    truth = tuple(true_split(F.linear(x, weight), 2) for weight in weights)
    expect_equal(ex.split_qkv(qkv, 2), truth, what=QKV)


# --- 2.6 ---

CROSS = "the output (B, T_q, d_model)"


class Bare(nn.Module):
    """A layer with what the exercise names, n_heads and four projections, and nothing else."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.n_heads = layer.n_heads
        self.q_proj, self.k_proj = layer.q_proj, layer.k_proj
        self.v_proj, self.out_proj = layer.v_proj, layer.out_proj


@pytest.mark.parametrize("n_keys", [T_k, T])
def test_x_asks_and_context_answers(ex, n_keys):
    """x asks and context answers"""
    for n_heads in (H, 2):
        layer = fill(MultiHeadAttention(d_model, n_heads))
        x, context = draw(B, T, d_model), draw(B, n_keys, d_model)
        truth = head_by_head(layer, x, n_heads, context=context)
        expect_equal(ex.cross_attend(layer, x, context), truth, what=CROSS)
    result = ex.cross_attend(Bare(layer), x, context)
    expect_equal(result, head_by_head(layer, x, 2, context=context), what=CROSS)


@pytest.mark.parametrize("kind", ["boolean", "floating", "padding"])
def test_the_padding_of_the_context_is_hidden(ex, kind):
    """the mask hides keys of the context"""
    layer, x, context = (
        fill(MultiHeadAttention(d_model, H)),
        draw(B, T, d_model),
        draw(B, T_k, d_model),
    )
    mask = {
        "padding": (torch.arange(T_k) < torch.tensor([7, 3, 5])[:, None])[:, None, None],
        "boolean": allowed(B, H, T, T_k),
        "floating": draw(1, H, T, T_k),
    }[kind]
    truth = head_by_head(layer, x, H, mask, context)
    expect_equal(ex.cross_attend(layer, x, context, mask), truth, what=CROSS)


def test_with_context_x_it_is_the_layer_itself(ex):
    """with context = x it is the layer itself"""
    layer, x = fill(MultiHeadAttention(d_model, H, bias=False)), draw(B, T, d_model)
    expect_equal(ex.cross_attend(layer, x, x), layer(x), what=CROSS)


def test_cross_attend_lets_gradients_through(ex):
    layer = fill(MultiHeadAttention(d_model, H))
    x, context = draw(B, T, d_model).requires_grad_(), draw(B, T_k, d_model).requires_grad_()
    result = ex.cross_attend(layer, x, context)
    truth = head_by_head(layer, x, H, context=context)
    expect_equal(result, truth, what=CROSS)
    expect_same_gradients(result, truth, {"x": x, "context": context})


# --- 2.7 ---

WRITTEN = "the contributions (B, n_heads, T, d_model)"


def true_contributions(heads: Tensor, w_o: Tensor) -> Tensor:
    """All other heads set to zero, one head after the other."""
    alone = []
    for head in range(heads.size(1)):
        only = torch.zeros_like(heads)
        only[:, head] = heads[:, head]
        alone.append(F.linear(true_merge(only), w_o))
    return torch.stack(alone, dim=1)


@pytest.mark.parametrize(
    ("shape", "width"), [(None, 2), ((B, H, T, d_head), 10), ((B, 2, T, 3), 6), ((B, H, 4, 4), 12)]
)
def test_each_head_meets_its_own_columns_of_the_projection(ex, shape, width):
    """each head meets its own columns of the projection"""
    if shape is None:
        heads, w_o = torch.tensor([[[[2.0]], [[3.0]]]]), torch.tensor([[1.0, 10.0], [0.0, 1.0]])
    else:
        heads, w_o = draw(*shape), draw(width, shape[1] * shape[3])
    truth = true_contributions(heads, w_o)
    expect_equal(ex.head_contributions(heads, w_o), truth, what=WRITTEN)


def test_the_contributions_add_up_to_the_output(ex):
    """summed over the heads, the contributions are the output"""
    heads = draw(B, T, H, d_head, dtype=torch.float64).transpose(1, 2)
    w_o = draw(d_model, 8, dtype=torch.float64).T.repeat(1, 1)[:8]  # (8, d_model)
    result = ex.head_contributions(heads, w_o)
    expect_equal(result, true_contributions(heads, w_o), what=WRITTEN)
    output = F.linear(true_merge(heads), w_o)
    expect_equal(result.sum(1), output, what="the sum of the contributions (B, T, d_model)")


def test_contributions_let_gradients_through(ex):
    heads, w_o = draw(B, H, T, d_head).requires_grad_(), draw(10, 12).requires_grad_()
    result = ex.head_contributions(heads, w_o)
    slices = torch.stack(w_o.chunk(H, dim=1))  # (n_heads, d_model, d_head)
    truth = torch.stack([heads[:, h] @ slices[h].T for h in range(H)], dim=1)
    expect_equal(result, truth, what=WRITTEN)
    expect_same_gradients(result, truth, {"heads": heads, "w_o": w_o})


# --- 2.8 ---

COST = ("the number of parameters", "the number of multiply-adds")


@pytest.mark.parametrize(
    ("sizes", "bias", "cost"),
    [
        # 4 matrices of 16 and 4 biases of 4; 4 * 3 * 16 and twice 3 * 3 * 4
        ((4, 2, 3), True, (80, 264)),
        ((4, 1, 3), True, (80, 264)),
        ((6, 3, 5), False, (144, 1020)),
        ((1, 1, 1), True, (8, 6)),
        ((768, 12, 1024), True, (2_362_368, 4_026_531_840)),
        ((8192, 64, 8192), False, (268_435_456, 3_298_534_883_328)),  # more than 32 bits hold
    ],
)
def test_the_cost_equals_what_is_counted_by_hand(ex, sizes, bias, cost):
    expect_equal(ex.layer_cost(*sizes, bias=bias), cost, what=COST)


@pytest.mark.parametrize("n_heads", [1, H, 6])
def test_the_cost_equals_what_pytorch_counts(ex, n_heads):
    """the cost equals what PyTorch counts in the course's layer"""
    layer = MultiHeadAttention(d_model, n_heads)
    with FlopCounterMode(display=False) as counter:
        layer(draw(1, T, d_model))
    truth = sum(p.numel() for p in layer.parameters()), counter.get_total_flops() // 2
    expect_equal(ex.layer_cost(d_model, n_heads, T), truth, what=COST)
    without = sum(p.numel() for p in MultiHeadAttention(d_model, n_heads, False).parameters())
    expect_equal(ex.layer_cost(d_model, n_heads, T, False), (without, truth[1]), what=COST)


# --- 2.9 ---

LETTERS = {"previous token": "C", "same token": "D", "induction": "B", "first token": "A"}


def test_each_head_is_given_what_it_does(ex):
    expect_letters(ex.read_heads(), LETTERS, "the heads")


# --- 2.10 ---

SCORE = "the scores (n_heads,)"


def true_score(weights: Tensor, period: int) -> Tensor:
    """Weight by weight, as the words say it."""
    positions = range(period, weights.size(-1))
    heads = weights.transpose(0, 1)
    return torch.stack(
        [
            torch.stack([text[i, i - period + 1] for text in head for i in positions]).mean()
            for head in heads
        ]
    )


@pytest.mark.parametrize(
    ("shape", "period"),
    [((1, 1, 7), 3), ((B, 4, 12), 5), ((B, 2, 13), 4), ((1, 5, 8), 7), ((B, 4, 9), 1)],
)
def test_the_score_is_the_mean_weight_on_the_token_after_the_earlier_place(ex, shape, period):
    """the score is the mean weight on the token after the earlier place"""
    batch, n_heads, length = shape
    weights = torch.softmax(draw(batch, n_heads, length, length), -1)
    expect_equal(ex.induction_score(weights, period), true_score(weights, period), what=SCORE)


def test_each_head_has_a_score_of_its_own(ex):
    weights = torch.softmax(draw(B, H, 10, 10, dtype=torch.float64), -1)
    weights[:, 1] *= 0.1
    expect_equal(ex.induction_score(weights, 3), true_score(weights, 3), what=SCORE)


@pytest.mark.parametrize(("length", "period"), [(12, 4), (10, 5), (11, 3)])
def test_a_perfect_induction_head_scores_one_and_another_stripe_nothing(ex, length, period):
    """a perfect induction head scores 1, the stripes beside it 0"""
    stripes = [torch.zeros(length, length) for _ in range(3)]
    for offset, stripe in zip((-1, 0, 1), stripes, strict=True):
        stripe.diagonal(1 - period + offset).fill_(1.0)
    weights = torch.stack(stripes)[None].expand(B, -1, -1, -1)
    expect_equal(ex.induction_score(weights, period), torch.tensor([0.0, 1.0, 0.0]), what=SCORE)


# --- 2.11 ---

REPEATED = "the repeated heads (B, n_kv_heads * n_repeats, T, d_head)"


@pytest.mark.parametrize(
    ("shape", "n_repeats"),
    [(None, 2), ((B, H, T, d_head), 2), ((B, 2, 4, 6), 3), ((B, 1, T, 6), 4)],
)
def test_copies_of_a_head_are_neighbours(ex, shape, n_repeats):
    """the copies of a head are neighbours: 0 0 1 1"""
    x = true_split(numbered(2, 4), 2)[:, :, :, :1] if shape is None else draw(*shape)
    truth = torch.repeat_interleave(x, n_repeats, dim=1)
    expect_equal(ex.repeat_kv(x, n_repeats), truth, what=REPEATED)


@pytest.mark.parametrize("n_repeats", [1, 3])
def test_one_repeat_changes_nothing(ex, n_repeats):
    """one repeat changes nothing, and views can be repeated"""
    x = draw(B, T, 2, d_head).transpose(1, 2)
    truth = torch.repeat_interleave(x, n_repeats, dim=1)
    expect_equal(ex.repeat_kv(x, n_repeats), truth, what=REPEATED)


def test_repeating_lets_gradients_through(ex):
    x = draw(B, 2, T, d_head).requires_grad_()
    result, truth = ex.repeat_kv(x, 3), torch.repeat_interleave(x, 3, dim=1)
    expect_equal(result, truth, what=REPEATED)
    expect_same_gradients(result, truth, {"x": x})


# --- 2.12 ---

BYTES = "the number of bytes"


@pytest.mark.parametrize(
    ("sizes", "truth"),
    [
        ((1, 10, 2, 3, 4), 960),  # 2 * 1 * 10 * 2 * 3 * 4 numbers of 2 bytes
        ((3, 5, 7, 2, 4, 4), 6720),
        ((1, 1, 1, 1, 1, 1), 2),
        ((1, 8192, 32, 8, 128), 1_073_741_824),
        ((16, 131_072, 80, 8, 128), 687_194_767_360),  # more than 32 bits hold
    ],
)
def test_the_bytes_equal_what_is_counted_by_hand(ex, sizes, truth):
    expect_equal(ex.kv_cache_bytes(*sizes), truth, what=BYTES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_the_bytes_equal_those_of_real_tensors(ex, dtype):
    keys = [torch.zeros(B, 2, T, d_head, dtype=dtype) for _ in range(7)]  # one per layer
    values = [torch.zeros_like(key) for key in keys]
    truth = sum(x.nbytes for x in (*keys, *values))
    per_number = keys[0].element_size()
    expect_equal(ex.kv_cache_bytes(B, T, 7, 2, d_head, per_number), truth, what=BYTES)


# --- 2.13 ---


def grouped(ex, *sizes: int, bias: bool = True) -> nn.Module:
    """A grouped layer of the learner's, with weights of ours."""
    reference = fill(GroupedQueryAttention(*sizes, bias=bias))
    layer = ex.GroupedQueryAttention(*sizes, bias=bias)
    expect_parameters(layer, reference)
    layer.load_state_dict(reference.state_dict())
    return layer


@pytest.mark.parametrize("sizes", [(d_model, 6, 2), (d_model, 6, 1), (20, 4, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_keys_and_values_have_narrow_projections(ex, sizes, bias):
    """keys and values have narrow projections, queries and output full ones"""
    reference = GroupedQueryAttention(*sizes, bias=bias)
    expect_parameters(ex.GroupedQueryAttention(*sizes, bias=bias), reference)
    expect_parameters(ex.GroupedQueryAttention(*sizes), GroupedQueryAttention(*sizes))


@pytest.mark.parametrize("sizes", [(4, 2, 1), (d_model, 6, 2), (d_model, 6, 3), (d_model, 4, 4)])
def test_grouped_heads_equal_pytorchs(ex, sizes):
    """grouped heads equal those of PyTorch's attention, one head after the other"""
    width, n_heads, _ = sizes
    layer = grouped(ex, *sizes, bias=n_heads != 2)
    x = numbered(2, 4) / 10 if width == 4 else draw(B, T, width)
    expect_equal(layer(x), head_by_head(layer, x, n_heads), what=LAYER)


@pytest.mark.parametrize("kind", ["causal", "padding", "one per head", "floating"])
def test_the_grouped_layer_hands_on_the_mask(ex, kind):
    """the mask reaches every head"""
    layer, x = grouped(ex, d_model, 6, 2), draw(B, T, d_model)
    mask = {**MASKS, "one per head": allowed(B, 6, T, T), "floating": draw(1, 6, T, T)}[kind]
    expect_equal(layer(x, mask), head_by_head(layer, x, 6, mask), what=LAYER)


def sum_of_values(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, None]:
    """Not attention at all, and different if keys or values come repeated."""
    extra = 0.0 if mask is None else mask.to(q.dtype).sum(-1, keepdim=True)
    return q + (v - 2 * k).sum(1, keepdim=True) + extra, None


def test_attend_gets_the_few_heads_unrepeated(ex):
    """attend gets the few key-value heads, unrepeated, and the mask"""
    layer, x = grouped(ex, d_model, 6, 2), draw(B, T, d_model)
    for mask in (None, MASKS["padding"]):
        q = true_split(project(layer, "q_proj", x), 6)
        k, v = (true_split(project(layer, name, x), 2) for name in ("k_proj", "v_proj"))
        truth = project(layer, "out_proj", true_merge(sum_of_values(q, k, v, mask)[0]))
        expect_equal(layer(x, mask, sum_of_values), truth, what=LAYER)
    expect_one_call(layer, x, sum_of_values)


def test_the_grouped_layer_lets_gradients_through(ex):
    layer, x = grouped(ex, d_model, 6, 2), torch.randn(B, T, d_model).div(2).requires_grad_()
    result, truth = layer(x), head_by_head(layer, x, 6)
    expect_equal(result, truth, what=LAYER)
    expect_same_gradients(result, truth, {"x": x, **dict(layer.named_parameters())})


# --- 2.14 ---

OUTPUT = "the output (..., T_q, d_v)"
D_K, D_V = 4, 6


def causal_window(T_q: int, n_keys: int, window: int) -> Tensor:
    """(T_q, n_keys) bool: the queries come last, and see `window` keys that end with themselves."""
    i = torch.arange(n_keys - T_q, n_keys)[:, None]
    j = torch.arange(n_keys)
    return (j <= i) & (i - j < window)


def true_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """PyTorch's attention under the mask; zeros where it allows nothing."""
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return output.masked_fill(~mask.any(-1, keepdim=True), 0.0)


def block_inputs(T_q: int, n_keys: int, *lead: int) -> tuple[Tensor, Tensor, Tensor]:
    return draw(*lead, T_q, D_K), draw(*lead, n_keys, D_K), draw(*lead, n_keys, D_V)


@pytest.mark.parametrize("kind", ["small", "window", "causal", "random", "everything", "sinks"])
def test_block_sparse_attention_equals_masked_attention(ex, kind):
    """block-sparse attention equals masked attention"""
    if kind == "small":
        q, k, v = torch.eye(4, 2), torch.eye(4, 2), torch.tensor([[10.0], [20.0], [30.0], [40.0]])
        mask = causal_window(4, 4, 2)
        truth = true_masked(q, k, v, mask)
        expect_equal(ex.block_sparse_attention(q, k, v, mask, 2), truth, what=OUTPUT)
        return
    q, k, v = block_inputs(12, 12, B)
    mask = {
        "window": causal_window(12, 12, 4),
        "causal": causal_window(12, 12, 12),
        "random": torch.rand(12, 12) < 0.15,
        "everything": torch.ones(12, 12, dtype=torch.bool),
        "sinks": causal_window(12, 12, 2) | (causal_window(12, 12, 12) & (torch.arange(12) < 1)),
    }[kind]
    truth = true_masked(q, k, v, mask)
    expect_equal(ex.block_sparse_attention(q, k, v, mask, 3), truth, what=OUTPUT)


@pytest.mark.parametrize(
    ("T_q", "n_keys", "lead", "block_size"),
    [(5, 7, (), 2), (7, 11, (B,), 3), (10, 10, (B, 2), 4), (5, 7, (B,), 1), (5, 7, (B,), 64)],
)
def test_blocks_need_not_fit_and_axes_may_lead(ex, T_q, n_keys, lead, block_size):
    """T_q and T_k need not be multiples of block_size, nor equal"""
    q, k, v = block_inputs(T_q, n_keys, *lead)
    for mask in (causal_window(T_q, n_keys, 3), allowed(T_q, n_keys)):
        truth = true_masked(q, k, v, mask)
        expect_equal(ex.block_sparse_attention(q, k, v, mask, block_size), truth, what=OUTPUT)
    q, k, v = block_inputs(70, 70)
    mask = causal_window(70, 70, 5)
    expect_equal(ex.block_sparse_attention(q, k, v, mask), true_masked(q, k, v, mask), what=OUTPUT)


@pytest.mark.parametrize("kind", ["large", "very negative", "both"])
def test_scores_may_be_large_or_very_negative(ex, kind):
    """scores may be large or very negative"""
    q = torch.randint(-2, 3, (B, 7, D_K)).float()  # whole numbers: products are exact
    k = torch.randint(-2, 3, (B, 11, D_K)).float()
    q[..., 0], k[..., 0] = 200.0, 100.0  # 20,000 / 2 is added to each score
    if kind == "both":
        q[:, ::2, 0] *= -1
    elif kind == "very negative":
        q[..., 0] *= -1
    v = draw(B, 11, D_V)
    for mask in (causal_window(7, 11, 4), allowed(7, 11)):
        truth = true_masked(q, k, v, mask)
        expect_equal(ex.block_sparse_attention(q, k, v, mask, 3), truth, what=OUTPUT)


def test_queries_that_see_nothing_get_zeros(ex):
    q, k, v = block_inputs(8, 8, B)
    mask = causal_window(8, 8, 3)
    mask[2] = False  # one query of a block, then a whole block, then all
    truth = true_masked(q, k, v, mask)
    expect_equal(ex.block_sparse_attention(q, k, v, mask, 4), truth, what=OUTPUT)
    mask[4:] = False
    truth = true_masked(q, k, v, mask)
    expect_equal(ex.block_sparse_attention(q, k, v, mask, 4), truth, what=OUTPUT)
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    truth = torch.zeros(B, 8, D_V)
    expect_equal(ex.block_sparse_attention(q, k, v, nothing, 4), truth, what=OUTPUT)


@pytest.mark.parametrize("unseen", [3, 0, 9])
def test_blocks_of_keys_that_no_query_sees_are_not_read(ex, unseen):
    """a block of keys that no query may see is not read"""
    q, k, v = block_inputs(9, 12, B)
    mask = torch.rand(9, 12) < 0.5
    mask[:, [2, 7, 10]] = True  # so that every query needs the other blocks
    mask[:, unseen : unseen + 3] = False
    truth = true_masked(q, k, v, mask)
    k[:, unseen : unseen + 3], v[:, unseen : unseen + 3] = math.nan, math.nan
    expect_equal(ex.block_sparse_attention(q, k, v, mask, 3), truth, what=OUTPUT)


def test_the_blocks_are_of_64_if_nothing_is_said(ex):
    q, k, v = block_inputs(5, 130)
    mask = allowed(5, 130)
    mask[:, 63], mask[:, 64:128] = True, False  # the second block of 64, the default
    truth = true_masked(q, k, v, mask)
    k[64:128], v[64:128] = math.nan, math.nan
    expect_equal(ex.block_sparse_attention(q, k, v, mask), truth, what=OUTPUT)


@pytest.mark.parametrize(("T_q", "n_keys", "block_size"), [(32, 32, 4), (30, 31, 4), (24, 40, 8)])
def test_only_the_allowed_blocks_are_computed(ex, T_q, n_keys, block_size):
    """only blocks in which something is allowed are computed"""
    q, k, v = block_inputs(T_q, n_keys)
    mask = causal_window(T_q, n_keys, 6)
    with FlopCounterMode(display=False) as counter:
        result = ex.block_sparse_attention(q, k, v, mask, block_size)
    expect_equal(result, true_masked(q, k, v, mask), what=OUTPUT)
    pairs = 0
    for rows, columns in itertools.product(range(0, T_q, block_size), range(0, n_keys, block_size)):
        block = mask[rows : rows + block_size, columns : columns + block_size]
        pairs += block.numel() * bool(block.any())
    done, needed = counter.get_total_flops() // 2, pairs * (D_K + D_V)
    expect(
        done <= needed,
        f"the result is right, but with T_q = {T_q}, T_k = {n_keys} and blocks of {block_size} its "
        f"products take {done} multiply-adds; the blocks in which something is allowed need only "
        f"{needed}: compute scores for those alone",
    )


def test_block_sparse_attention_lets_gradients_through(ex):
    shapes = {"q": (B, 7, D_K), "k": (B, 11, D_K), "v": (B, 11, D_V)}
    inputs = {name: draw(*shape).requires_grad_() for name, shape in shapes.items()}
    mask = causal_window(7, 11, 4)
    result = ex.block_sparse_attention(**inputs, mask=mask, block_size=3)
    truth = true_masked(inputs["q"], inputs["k"], inputs["v"], mask)
    expect_equal(result, truth, what=OUTPUT)
    expect_same_gradients(result, truth, inputs)
