"""What the exercises of lesson 03 must compute, against PyTorch, NumPy in float64 and by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other, values have a standard deviation of 2 and a mean that is not 0, and there are three
sequences, not two, so that an axis, a scale or a pair taken for another shows.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import causal_mask
from feedforward import FeedForward
from layer_norm import LayerNorm
from multi_head import MultiHeadAttention
from transformer_block import TransformerBlock
from utils.grader.feedback import (
    expect_equal,
    expect_prediction,
    expect_same_gradients,
    parameter_shapes,
)
from utils.grader.readings import expect_letters

B, T, d_model, d_ff, n_experts = 3, 5, 6, 10, 7


def draw(*shape: int, dtype: torch.dtype = torch.float32, mean: float = 0.0) -> Tensor:
    """Random values with a standard deviation of 2."""
    return mean + 2 * torch.randn(shape, dtype=dtype)


def turned(*shape: int) -> Tensor:
    """Random values that are not contiguous in memory."""
    *lead, rows, columns = shape
    return draw(*lead, columns, rows, mean=3.0).mT


# --- parameters of a layer ---


def expect_parameters(layer: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """The parameters have these names and shapes, and there are no others."""

    def view(found: Any) -> dict[str, tuple[int, ...]]:
        return found if isinstance(found, dict) else parameter_shapes(found)

    expect_equal(layer, shapes, what="the parameters", view=view)


def randomize(layer: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Draw new values for the parameters, after a look at their shapes; returns them by name."""
    expect_parameters(layer, shapes)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return dict(layer.named_parameters())


def norm_shapes(bias: bool) -> dict[str, tuple[int, ...]]:
    return {"weight": (d_model,), "bias": (d_model,)} if bias else {"weight": (d_model,)}


def linear_shapes(names: dict[str, tuple[int, int]], bias: bool) -> dict[str, tuple[int, ...]]:
    """Of linear layers, by name: (features in, features out)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (n_in, n_out) in names.items():
        shapes[f"{name}.weight"] = (n_out, n_in)
        if bias:
            shapes[f"{name}.bias"] = (n_out,)
    return shapes


# --- 3.1 ---


def test_the_predicted_sizes_are_those_of_a_sum_of_independent_updates(ex):
    blocks = np.array([4, 12, 24, 40])
    truth = tuple(np.sqrt(1 + 2 * blocks))
    expect_prediction(ex.predict_stream(), truth, what="the four sizes", within=0.006)


# --- 3.2 ---

NORMED = "the normed features (..., d_model)"


def numpy_layer_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    values = x.detach().double().numpy()
    mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
    return torch.from_numpy((values - mean) / np.sqrt(variance + eps)).to(x.dtype)


def test_each_token_gets_mean_0_and_variance_1(ex):
    """each token gets mean 0 and variance 1"""
    layer = ex.LayerNorm(6)
    x = torch.tensor([[1.0, 5.0, 5.0, 5.0, 7.0, 7.0]])
    expect_equal(layer(x), numpy_layer_norm(x), what=NORMED)
    x = torch.tensor([[1.0, 5.0, 5.0, 5.0, 7.0, 7.0], [8.0, 8.0, 8.0, 12.0, 12.0, 12.0]])
    expect_equal(layer(x), numpy_layer_norm(x), what=NORMED)


@pytest.mark.parametrize("lead", [(), (T,), (B, T), (B, 2, T)])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_equals_pytorchs(ex, bias, lead):
    """the normed features equal those of PyTorch's layer norm"""
    layer = ex.LayerNorm(d_model, bias)
    values = randomize(layer, norm_shapes(bias))
    x = draw(*lead, d_model, mean=3.0)
    truth = F.layer_norm(x, (d_model,), values["weight"], values.get("bias"))
    expect_equal(layer(x), truth, what=NORMED)


def test_as_many_tokens_as_features_and_any_memory_order(ex):
    layer = ex.LayerNorm(d_model)
    values = randomize(layer, norm_shapes(True))
    x = turned(d_model, d_model, d_model)
    truth = F.layer_norm(x, (d_model,), values["weight"], values["bias"])
    expect_equal(layer(x), truth, what=NORMED)


@pytest.mark.parametrize("eps", [0.5, 1e-3])
def test_epsilon_is_added_to_the_variance(ex, eps):
    layer = ex.LayerNorm(d_model, eps=eps)
    x = draw(B, T, d_model, mean=3.0) / 10
    expect_equal(layer(x), numpy_layer_norm(x, eps), what=NORMED)


def test_equal_features_give_the_shift_and_not_nan(ex):
    layer = ex.LayerNorm(d_model)
    values = randomize(layer, norm_shapes(True))
    x = torch.full((B, d_model), 0.25)  # small: of equal features only rounding is left, times 300
    expect_equal(layer(x), values["bias"].detach().expand(B, -1), what=NORMED)


def test_layer_norm_lets_gradients_through(ex):
    layer = ex.LayerNorm(d_model)
    values = randomize(layer, norm_shapes(True))
    x = draw(B, T, d_model, mean=3.0).requires_grad_()
    result = layer(x)
    truth = F.layer_norm(x, (d_model,), values["weight"], values["bias"])
    expect_equal(result, truth, what=NORMED)
    expect_same_gradients(result, truth, {"x": x, **values})


# --- 3.3 ---


def numpy_rms_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    values = x.detach().double().numpy()
    mean_square = np.mean(values**2, axis=-1, keepdims=True)
    return torch.from_numpy(values / np.sqrt(mean_square + eps)).to(x.dtype)


def test_rms_norm_has_one_parameter_that_starts_as_ones(ex):
    """its only parameter is weight, which starts as ones"""
    layer = ex.RMSNorm(d_model)
    expect_parameters(layer, norm_shapes(bias=False))
    expect_equal(layer, "ones", what="weight, at the start", view=kind_of_parameter("weight"))


def test_each_token_is_divided_by_its_root_mean_square(ex):
    """each token is divided by its root mean square"""
    layer = ex.RMSNorm(4)
    x = torch.tensor([[1.0, 7.0, 5.0, 5.0]])
    expect_equal(layer(x), numpy_rms_norm(x), what=NORMED)
    x = torch.tensor([[1.0, 7.0, 5.0, 5.0], [0.0, 3.0, 4.0, 0.0]])
    expect_equal(layer(x), numpy_rms_norm(x), what=NORMED)


@pytest.mark.parametrize("lead", [(), (T,), (B, T), (B, 2, T)])
def test_rms_norm_equals_pytorchs(ex, lead):
    """the normed features equal those of PyTorch's RMS norm"""
    layer = ex.RMSNorm(d_model)
    values = randomize(layer, norm_shapes(bias=False))
    x = draw(*lead, d_model, mean=3.0)
    expect_equal(layer(x), F.rms_norm(x, (d_model,), values["weight"], 1e-5), what=NORMED)


@pytest.mark.parametrize("eps", [0.5, 1e-3])
def test_epsilon_is_added_to_the_mean_square(ex, eps):
    layer = ex.RMSNorm(d_model, eps)
    x = draw(d_model, d_model, d_model, mean=3.0) / 10
    expect_equal(layer(x), numpy_rms_norm(x, eps), what=NORMED)


def test_rms_norm_lets_gradients_through(ex):
    layer = ex.RMSNorm(d_model)
    values = randomize(layer, norm_shapes(bias=False))
    x = turned(B, T, d_model).requires_grad_()
    result, truth = layer(x), F.rms_norm(x, (d_model,), values["weight"], 1e-5)
    expect_equal(result, truth, what=NORMED)
    expect_same_gradients(result, truth, {"x": x, **values})


def kind_of_parameter(name: str) -> Callable[[Any], str]:
    """A view that says what values a parameter has: "ones", "zeros" or "other values"."""

    def view(layer: Any) -> str:
        if isinstance(layer, str):
            return layer
        found = dict(layer.named_parameters()).get(name)
        return "missing" if found is None else kind(found.detach())

    return view


def kind(values: Tensor) -> str:
    """ "zeros", "ones", or the standard deviation to one digit."""
    if not values.any():
        return "zeros"
    if bool((values == 1).all()):
        return "ones"
    return f"random, standard deviation {values.double().square().mean().sqrt().item():.1g}"


# --- 3.4 ---


def test_gelu_weights_x_with_the_normal_distribution_function(ex):
    """gelu is x times the normal distribution function"""
    x = torch.tensor([-1.0, 0.0, 2.0])
    phi = [0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x.tolist()]
    expect_equal(ex.gelu(x), x * torch.tensor(phi), what="gelu(x)")
    x = draw(B, T, d_model)
    expect_equal(ex.gelu(x), F.gelu(x), what="gelu(x)")


def test_gelu_is_exact(ex):
    x = torch.linspace(-6, 6, 121, dtype=torch.float64)
    truth = F.gelu(x)
    thousandfold: Callable[[Tensor], Tensor] = lambda y: 1000 * y  # noqa: E731 - a view
    expect_equal(ex.gelu(x), truth, what="1000 gelu(x)", view=thousandfold)


def test_gelu_lets_gradients_through(ex):
    x = draw(B, T).requires_grad_()
    result, truth = ex.gelu(x), F.gelu(x)
    expect_equal(result, truth, what="gelu(x)")
    expect_same_gradients(result, truth, {"x": x})


def test_relu_squared_is_the_square_of_what_is_positive(ex):
    """relu_squared is the square of x where x is positive"""
    x = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
    truth = torch.tensor([0.0, 0.0, 0.0, 0.25, 9.0])
    expect_equal(ex.relu_squared(x), truth, what="relu_squared(x)")
    x = draw(B, T, d_model)
    truth = torch.from_numpy(np.maximum(x.numpy(), 0) ** 2)
    expect_equal(ex.relu_squared(x), truth, what="relu_squared(x)")


def test_relu_squared_lets_gradients_through(ex):
    x = draw(B, T).requires_grad_()
    result, truth = ex.relu_squared(x), F.relu(x) ** 2
    expect_equal(result, truth, what="relu_squared(x)")
    expect_same_gradients(result, truth, {"x": x})


# --- 3.5 ---

OUTPUT = "the output (..., d_model)"
UP_AND_DOWN = {"up_proj": (d_model, d_ff), "down_proj": (d_ff, d_model)}
TRUE_ACTIVATION = {"gelu": F.gelu, "relu2": lambda x: F.relu(x) ** 2}


def true_feed_forward(x: Tensor, values: dict[str, Tensor], activation: str = "gelu") -> Tensor:
    hidden = F.linear(x, values["up_proj.weight"], values.get("up_proj.bias"))
    hidden = TRUE_ACTIVATION[activation](hidden)
    return F.linear(hidden, values["down_proj.weight"], values.get("down_proj.bias"))


@pytest.mark.parametrize("bias", [True, False])
def test_the_feed_forward_network_has_an_up_and_a_down_projection(ex, bias):
    """its layers are up_proj and down_proj"""
    expect_parameters(ex.FeedForward(d_model, d_ff, bias=bias), linear_shapes(UP_AND_DOWN, bias))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu2"])
@pytest.mark.parametrize("lead", [(), (B, T)])
def test_the_feed_forward_network_goes_up_activates_and_comes_down(ex, lead, activation, bias):
    """up, activation, down"""
    layer = ex.FeedForward(d_model, d_ff, activation, bias)
    values = randomize(layer, linear_shapes(UP_AND_DOWN, bias))
    x = draw(*lead, d_model)
    expect_equal(layer(x), true_feed_forward(x, values, activation), what=OUTPUT)


def test_gelu_is_the_default_and_as_wide_as_the_model_is_fine_too(ex):
    layer = ex.FeedForward(d_model, d_model)
    square = {"up_proj": (d_model, d_model), "down_proj": (d_model, d_model)}
    values = randomize(layer, linear_shapes(square, True))
    x = turned(B, d_model, d_model)
    expect_equal(layer(x), true_feed_forward(x, values), what=OUTPUT)


def test_the_feed_forward_network_lets_gradients_through(ex):
    layer = ex.FeedForward(d_model, d_ff)
    values = randomize(layer, linear_shapes(UP_AND_DOWN, True))
    x = draw(B, T, d_model).requires_grad_()
    result, truth = layer(x), true_feed_forward(x, values)
    expect_equal(result, truth, what=OUTPUT)
    expect_same_gradients(result, truth, {"x": x, **values})


# --- 3.6 ---

THREE = {"gate_proj": (d_model, d_ff), **UP_AND_DOWN}


def true_swiglu(x: Tensor, values: dict[str, Tensor]) -> Tensor:
    def project(name: str, y: Tensor) -> Tensor:
        return F.linear(y, values[f"{name}.weight"], values.get(f"{name}.bias"))

    return project("down_proj", F.silu(project("gate_proj", x)) * project("up_proj", x))


@pytest.mark.parametrize("bias", [True, False])
def test_swiglu_has_a_gate_an_up_and_a_down_projection(ex, bias):
    """its layers are gate_proj, up_proj and down_proj"""
    expect_parameters(ex.SwiGLU(d_model, d_ff, bias), linear_shapes(THREE, bias))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (B, T)])
def test_the_gate_multiplies_what_goes_up(ex, lead, bias):
    layer = ex.SwiGLU(d_model, d_ff, bias)
    values = randomize(layer, linear_shapes(THREE, bias))
    x = draw(*lead, d_model)
    expect_equal(layer(x), true_swiglu(x, values), what=OUTPUT)


def test_swiglu_lets_gradients_through(ex):
    layer = ex.SwiGLU(d_model, d_ff)
    values = randomize(layer, linear_shapes(THREE, True))
    x = turned(B, T, d_model).requires_grad_()
    result, truth = layer(x), true_swiglu(x, values)
    expect_equal(result, truth, what=OUTPUT)
    expect_same_gradients(result, truth, {"x": x, **values})


# --- 3.7 ---

WIDTH = "the width"


@pytest.mark.parametrize(("width", "truth"), [(12, 8), (3072, 2048), (16, 11), (17, 12), (1, 1)])
def test_swiglu_gets_two_thirds_of_the_width(ex, width, truth):
    expect_equal(ex.swiglu_width(width), truth, what=WIDTH)


@pytest.mark.parametrize(
    ("width", "multiple_of", "truth"),
    # 24 and 48 need no rounding; 16384 is what Llama 7B starts from, with d_model 4096
    [(20, 8, 16), (24, 16, 16), (25, 16, 32), (16384, 256, 11008), (48, 32, 32), (5, 64, 64)],
)
def test_the_width_is_rounded_up_to_a_multiple(ex, width, multiple_of, truth):
    expect_equal(ex.swiglu_width(width, multiple_of), truth, what=WIDTH)


def test_no_smaller_multiple_has_as_many_weights(ex):
    for width, multiple_of in itertools.product((1, 2, 7, 30, 100, 512), (1, 4, 6, 64)):
        enough = (
            wide
            for wide in range(multiple_of, 3 * width + 2 * multiple_of, multiple_of)
            if 3 * d_model * wide >= 2 * d_model * width
        )
        expect_equal(ex.swiglu_width(width, multiple_of), next(enough), what=WIDTH)


# --- 3.8 ---

GRADIENTS = ("grad_x (..., d_model)", "grad_weight (d_model,)", "grad_bias (d_model,)")


def true_gradients(
    grad_output: Tensor, x: Tensor, weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """What autograd makes of PyTorch's own LayerNorm."""
    inputs = x.clone(), weight.clone(), torch.zeros_like(weight)
    for one in inputs:
        one.requires_grad_()
    y = F.layer_norm(inputs[0], (x.size(-1),), inputs[1], inputs[2], eps)
    grad_x, grad_weight, grad_bias = torch.autograd.grad(y, inputs, grad_output)
    return grad_x, grad_weight, grad_bias


def test_the_backward_pass_of_the_worked_example(ex):
    x = torch.tensor([[1.0, 5.0, 5.0, 5.0, 7.0, 7.0]])
    weight = torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0, 1.0])
    grad_output = torch.tensor([[3.0, 0.0, 3.0, 0.0, 0.0, 3.0]])
    truth = true_gradients(grad_output, x, weight, 0.0)
    expect_equal(ex.layer_norm_backward(grad_output, x, weight, 0.0), truth, what=GRADIENTS)
    x = torch.tensor([[1.0, 5.0, 5.0, 5.0, 7.0, 7.0], [8.0, 8.0, 8.0, 12.0, 12.0, 12.0]])
    grad_output = torch.tensor([[3.0, 0.0, 3.0, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0, 6.0]])
    truth = true_gradients(grad_output, x, weight, 0.0)
    expect_equal(ex.layer_norm_backward(grad_output, x, weight, 0.0), truth, what=GRADIENTS)


@pytest.mark.parametrize("lead", [(), (T,), (B, T), (B, 2, T), (d_model, d_model)])
def test_the_gradients_are_those_of_autograd(ex, lead):
    shape = (*lead, d_model)
    grad_output, x = (draw(*shape, dtype=torch.float64, mean=m) for m in (1.0, 3.0))
    weight = draw(d_model, dtype=torch.float64)
    result = ex.layer_norm_backward(grad_output, x, weight)
    expect_equal(result, true_gradients(grad_output, x, weight), what=GRADIENTS)


def test_the_gradients_are_right_with_a_large_epsilon(ex):
    grad_output, x = (draw(B, T, d_model, dtype=torch.float64, mean=1.0) for _ in range(2))
    weight = draw(d_model, dtype=torch.float64)
    result = ex.layer_norm_backward(grad_output, x, weight, 0.7)
    expect_equal(result, true_gradients(grad_output, x, weight, 0.7), what=GRADIENTS)


# --- 3.9 ---

STREAM = "the output (B, T, d_model)"
WIDE, N_HEADS = 12, 3


def pieces() -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """Attention, feed-forward network and two norms, in float64, all parameters random."""
    made = (
        MultiHeadAttention(WIDE, N_HEADS),
        FeedForward(WIDE, 20),
        LayerNorm(WIDE),
        LayerNorm(WIDE),
    )
    for piece in made:
        piece.double()
        for parameter in piece.parameters():
            nn.init.normal_(parameter, std=0.5)
    return made


def pytorch_block(block: Any, placement: str) -> nn.TransformerEncoderLayer:
    """PyTorch's layer, with the same weights."""
    theirs = nn.TransformerEncoderLayer(
        WIDE,
        N_HEADS,
        20,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=placement == "pre",
        dtype=torch.float64,
    )
    ours = block.state_dict()
    renamed = {
        "attention.out_proj": "self_attn.out_proj",
        "feed_forward.up_proj": "linear1",
        "feed_forward.down_proj": "linear2",
        "attention_norm": "norm1",
        "feed_forward_norm": "norm2",
    }
    state = {}
    for kind, ending in (("weight", "in_proj_weight"), ("bias", "in_proj_bias")):
        projections = [ours[f"attention.{one}_proj.{kind}"] for one in "qkv"]
        state[f"self_attn.{ending}"] = torch.cat(projections)
        state |= {f"{theirs}.{kind}": ours[f"{name}.{kind}"] for name, theirs in renamed.items()}
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_block_equals_pytorchs(ex, placement, masked):
    """the block equals PyTorch's, pre-norm and post-norm, with and without a mask"""
    block = ex.TransformerBlock(*pieces(), placement)
    x = draw(B, T, WIDE, dtype=torch.float64)
    mask = causal_mask(T) if masked else None
    truth = pytorch_block(block, placement)(x, None if mask is None else ~mask)
    expect_equal(block(x, mask), truth, what=STREAM)


def test_pre_norm_is_the_default(ex):
    block = ex.TransformerBlock(*pieces())
    x = draw(B, T, WIDE, dtype=torch.float64)
    expect_equal(block(x), pytorch_block(block, "pre")(x), what=STREAM)


def only_the_values(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """An attention function in which each token looks at itself, and negates it if it is masked."""
    return (v if mask is None else -v), torch.eye(q.size(-2), dtype=q.dtype)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_mask_and_attend_are_passed_on_to_attention(ex, placement, masked):
    block = ex.TransformerBlock(*pieces(), placement)
    x, mask = draw(B, T, WIDE, dtype=torch.float64), causal_mask(T) if masked else None
    first = block.attention_norm(x) if placement == "pre" else x
    seen = block.attention.out_proj(block.attention.v_proj(first) * (-1 if masked else 1))
    y = x + seen
    if placement == "pre":
        truth = y + block.feed_forward(block.feed_forward_norm(y))
    else:
        y = block.attention_norm(y)
        truth = block.feed_forward_norm(y + block.feed_forward(y))
    expect_equal(block(x, mask, only_the_values), truth, what=STREAM)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_dropout_is_for_the_updates(ex, placement, training):
    """dropout is for the updates, and the stream itself is never dropped"""
    attention, feed_forward, norm_1, norm_2 = made = pieces()
    block = ex.TransformerBlock(*made, placement, 0.5)
    block.train(training)
    x = draw(B, T, WIDE, dtype=torch.float64)
    torch.manual_seed(7)
    if placement == "pre":
        y = x + F.dropout(attention(norm_1(x)), 0.5, training)
        truth = y + F.dropout(feed_forward(norm_2(y)), 0.5, training)
    else:
        y = norm_1(x + F.dropout(attention(x), 0.5, training))
        truth = norm_2(y + F.dropout(feed_forward(y), 0.5, training))
    torch.manual_seed(7)
    expect_equal(block(x), truth, what=STREAM)


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_block_lets_gradients_through(ex, placement):
    block = ex.TransformerBlock(*pieces(), placement)
    theirs = pytorch_block(block, placement)
    x = draw(B, T, WIDE, dtype=torch.float64).requires_grad_()
    result, truth = block(x), theirs(x)
    expect_equal(result, truth, what=STREAM)
    expect_same_gradients(result, truth, {"x": x})


# --- 3.10 ---


def block_shapes(width: int, hidden: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of a block, as the reference has them."""
    block = TransformerBlock(
        MultiHeadAttention(width, 4, bias),
        FeedForward(width, hidden, bias=bias),
        LayerNorm(width, bias),
        LayerNorm(width, bias),
    )
    return {name: tuple(value.shape) for name, value in block.named_parameters()}


def true_kind(name: str, std: float) -> str:
    if name.endswith(".bias") or name in (
        "attention.out_proj.weight",
        "feed_forward.down_proj.weight",
    ):
        return "zeros"
    return "ones" if "norm" in name else f"random, standard deviation {std:.1g}"


def kind_of(name: str) -> Callable[[Any], str]:
    """A view that says what values one parameter gets; texts stay as they are."""

    def view(values: Any) -> str:
        return values if isinstance(values, str) else kind(values[name])

    return view


@pytest.mark.parametrize("name", block_shapes(32, 64))
def test_every_parameter_starts_where_it_should(ex, name):
    values = ex.initial_values(block_shapes(32, 64))
    expect_equal(values, true_kind(name, 0.02), what=name, view=kind_of(name))


def test_the_standard_deviation_is_the_one_given_and_biases_may_be_missing(ex):
    shapes = block_shapes(32, 64, bias=False)
    values = ex.initial_values(shapes, 0.3)
    for name in shapes:
        expect_equal(values, true_kind(name, 0.3), what=name, view=kind_of(name))


def test_every_parameter_has_its_shape(ex):
    shapes = block_shapes(8, 20)
    values = ex.initial_values(shapes)
    for name, shape in shapes.items():

        def view(given: Any, name: str = name) -> str:
            return given if isinstance(given, str) else str(tuple(given[name].shape))

        expect_equal(values, str(shape), what=f"the shape of {name}", view=view)


def test_after_one_step_the_block_is_no_longer_the_identity(ex):
    """the first step of training moves the output of the block"""
    shapes = block_shapes(8, 20)
    values = ex.initial_values(shapes)

    def moved(given: Any) -> str:
        if isinstance(given, str):
            return given
        block = TransformerBlock(
            MultiHeadAttention(8, 4), FeedForward(8, 20), LayerNorm(8), LayerNorm(8)
        )
        block.load_state_dict(given)
        torch.manual_seed(3)
        x, target = torch.randn(B, T, 8), torch.randn(B, T, 8)
        matrices = [block.attention.out_proj.weight, block.feed_forward.down_proj.weight]  # pyright: ignore
        gradients = torch.autograd.grad((block(x) * target).sum(), matrices)  # pyright: ignore
        is_identity = torch.allclose(block(x), x)
        reached = all(bool(gradient.any()) for gradient in gradients)
        return f"identity: {is_identity}, gradients: {reached}"

    what = "does the block start as the identity, and do gradients reach it"
    expect_equal(values, "identity: True, gradients: True", what=what, view=moved)


# --- 3.11 ---

BUDGET = ("the number of weights", "the number of multiply-adds")


@pytest.mark.parametrize(
    ("sizes", "budget"),
    [
        # 4 * 9 + 2 * 15 = 66 weights; 2 * 66 + 2 * 4 * 3 = 156 multiply-adds
        ((3, 5, 2), (66, 156)),
        ((3, 5, 2, True), (81, 186)),
        ((6, 24, 1), (432, 444)),
        ((5, 7, 11, True), (205, 3465)),
        ((768, 3072, 1024), (7_077_888, 8_858_370_048)),  # GPT-2 small
        ((4096, 11008, 2048, True), (202_375_168, 448_824_082_432)),  # Llama 7B
    ],
)
def test_the_budget_is_what_is_counted_by_hand(ex, sizes, budget):
    expect_equal(ex.block_budget(*sizes), budget, what=BUDGET)


@pytest.mark.parametrize("gated", [False, True])
def test_the_budget_is_that_of_products_done_step_by_step(ex, gated):
    width, hidden, length = 6, 10, 7
    matrices = [(width, width)] * 4 + [(width, hidden)] * (3 if gated else 2)
    weights = sum(rows * columns for rows, columns in matrices)
    done = sum(1 for _ in itertools.product(range(length), range(weights)))
    done += 2 * sum(1 for _ in itertools.product(range(length), range(length), range(width)))
    expect_equal(ex.block_budget(width, hidden, length, gated), (weights, done), what=BUDGET)


# --- 3.12 ---

CAUSES = {  # and where the curves of LETTERS in pictures/draw.py come from
    "sound": "D",
    "learning rate too low": "A",
    "learning rate too high": "C",
    "initial weights too large": "F",
    "no residual connections": "E",
    "no causal mask": "B",
}


def test_each_curve_is_given_its_cause(ex):
    expect_letters(ex.read_curves(), CAUSES, "the curves")


# --- 3.13 ---

GATES = "the gates (..., n_experts)"


def true_gates(logits: Tensor, k: int) -> Tensor:
    """Token by token, in NumPy."""
    rows = logits.detach().double().numpy().reshape(-1, logits.size(-1))
    gates = np.zeros_like(rows)
    for row, gate in zip(rows, gates, strict=True):
        chosen = np.argsort(-row)[:k]
        exps = np.exp(row[chosen] - row.max())
        gate[chosen] = exps / exps.sum()
    return torch.from_numpy(gates.reshape(logits.shape)).to(logits.dtype)


@pytest.mark.parametrize(
    ("lead", "k"), [((), 2), ((T,), 1), ((B, T), 2), ((B, T), 3), ((n_experts,), 2), ((T,), 7)]
)
def test_the_best_k_experts_share_a_token(ex, lead, k):
    """the softmax of the k largest scores, and 0 for the rest"""
    small = torch.tensor([[2.0, 1.0, 0.0, 1.5]])
    expect_equal(ex.route(small, 2), true_gates(small, 2), what=GATES)
    logits = draw(*lead, n_experts)
    expect_equal(ex.route(logits, k), true_gates(logits, k), what=GATES)


def test_negative_and_large_scores_are_routed_too(ex):
    logits = draw(B, T, n_experts, dtype=torch.float64) - 50
    expect_equal(ex.route(logits, 3), true_gates(logits, 3), what=GATES)
    logits = 200 * draw(B, T, n_experts, dtype=torch.float64)
    expect_equal(ex.route(logits, 2), true_gates(logits, 2), what=GATES)


def test_of_equal_scores_no_more_than_k_experts_are_chosen(ex):
    """k experts are chosen, even if scores are equal"""
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    gates = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.5, 0.5, 0.0, 0.0]])

    def in_order(found: Tensor) -> Tensor:  # which of the equal ones does not matter
        return found.sort(dim=-1, descending=True).values

    expect_equal(ex.route(logits, 2), gates, what="the gates, in order", view=in_order)


def test_the_router_gets_gradients(ex):
    logits = draw(B, T, n_experts).requires_grad_()
    result = ex.route(logits, 2)
    expect_equal(result, true_gates(logits, 2), what=GATES)
    chosen = true_gates(logits, 2) > 0
    truth = torch.softmax(logits.masked_fill(~chosen, -math.inf), -1)
    expect_same_gradients(result, truth, {"logits": logits})


# --- 3.14 ---

BALANCE = "the loss"


def true_balance(logits: Tensor, gates: Tensor) -> Tensor:
    """Counted choice by choice, in NumPy."""
    n = logits.size(-1)
    scores = logits.detach().double().numpy().reshape(-1, n)
    exps = np.exp(scores - scores.max(-1, keepdims=True))
    probability = (exps / exps.sum(-1, keepdims=True)).mean(0)
    counts = np.zeros(n)
    for gate in gates.reshape(-1, n).numpy():
        for expert in np.nonzero(gate)[0]:
            counts[expert] += 1
    return torch.tensor(n * float(np.dot(counts / counts.sum(), probability)), dtype=logits.dtype)


@pytest.mark.parametrize(("lead", "k"), [((T,), 1), ((T,), 2), ((B, T), 2), ((B, T), 3)])
def test_the_loss_compares_shares_with_probabilities(ex, lead, k):
    """n_experts times the sum of share times probability"""
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    gates = true_gates(logits, 1)
    expect_equal(ex.load_balance_loss(logits, gates), true_balance(logits, gates), what=BALANCE)
    logits = draw(*lead, n_experts) + torch.linspace(0, 2, n_experts)
    gates = true_gates(logits, k)
    expect_equal(ex.load_balance_loss(logits, gates), true_balance(logits, gates), what=BALANCE)


def test_the_loss_is_1_if_all_is_even_and_n_experts_if_one_does_all(ex):
    even = torch.zeros(n_experts, n_experts)
    gates = torch.eye(n_experts)
    expect_equal(ex.load_balance_loss(even, gates), torch.tensor(1.0), what=BALANCE)
    one = torch.zeros(T, n_experts)
    one[:, 2] = 100.0
    gates = true_gates(one, 1)
    expect_equal(ex.load_balance_loss(one, gates), torch.tensor(float(n_experts)), what=BALANCE)


def test_the_loss_pushes_through_the_probabilities_only(ex):
    logits = (draw(B, T, n_experts) + torch.linspace(0, 2, n_experts)).requires_grad_()
    gates = true_gates(logits, 2)
    result = ex.load_balance_loss(logits, gates)
    share = (gates > 0).double().mean((0, 1)).float() / 2
    truth = n_experts * (share * torch.softmax(logits, -1).mean((0, 1))).sum()
    expect_equal(result, truth, what=BALANCE)
    expect_same_gradients(result, truth, {"logits": logits})
