"""What the exercises of lesson 05 must compute, against PyTorch, plain loops and by hand.

The first case of an exercise is small enough to be printed whole. In the others sizes differ from
each other, values have a standard deviation of 2, and there are three sequences, not two, so that
an axis, a scale or a pair taken for another shows.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import tiny_transformer_lm
from attention import causal_mask
from encoder_decoder import CrossAttention
from feedforward import FeedForward
from layer_norm import LayerNorm
from multi_head import MultiHeadAttention
from parts import Parts
from utils.config import ModelConfig
from utils.grader.feedback import (
    expect,
    expect_choice,
    expect_equal,
    expect_parameters,
    expect_same_gradients,
    is_number,
    type_name,
)
from utils.grader.readings import expect_letters
from utils.kv_cache import KVCache

B, T, V, d_model = 3, 5, 11, 6
SMALL = ModelConfig(V, max_seq_len=7, d_model=12, n_layers=2, n_heads=3, d_ff=20)
Reference = tiny_transformer_lm.TinyTransformerLM


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random values with a standard deviation of 2."""
    return 2 * torch.randn(shape, dtype=dtype)


def draw_tokens(*shape: int, n: int = V) -> Tensor:
    return torch.randint(n, shape)


def expect_dictionary(answer: Any, what: str) -> None:
    expect(
        isinstance(answer, dict),
        f"{what}: this is {type_name(answer)}; expected a dictionary with the names as they are",
    )


# --- 5.1 ---

FIRST_STEP = {
    "logits": (8, 20, 50),
    "weights": (8, 4, 20, 20),
    "predictions": 152,
    "loss": math.log(50),
}


def test_the_predicted_first_step(ex):
    """the shapes, the number of predictions and the loss of an untrained model"""
    answer = ex.predict_first_step()
    expect_dictionary(answer, "the prediction")
    for name, truth in FIRST_STEP.items():
        expect(name in answer, f"the prediction: {name!r} is missing; keep the names as they are")
        given = answer[name]
        if isinstance(truth, tuple):
            choice = tuple(given) if isinstance(given, list | torch.Size) else given
        else:
            choice = given
            if is_number(given):
                is_close = abs(float(given) - truth) <= 0.006
                choice = truth if is_close else round(float(given), 2)
                choice = int(choice) if choice == int(choice) else choice
        expect_choice(answer, choice, truth, name)


# --- 5.2 ---

LOSS = "the loss"


def true_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Prediction by prediction, in float64."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for b in range(tokens.size(0)):
        for t in range(tokens.size(1) - 1):
            scores = logits[b, t].double()
            total = total + scores.logsumexp(-1) - scores[tokens[b, t + 1]]
            count += 1
    return (total / count).to(logits.dtype)


def test_each_position_is_asked_for_the_next_token(ex):
    """position t is asked for token t + 1"""
    logits = torch.tensor([[[0.0, 2.0], [3.0, 0.0], [0.0, 5.0]]])
    tokens = torch.tensor([[1, 0, 1]])
    expect_equal(ex.next_token_loss(logits, tokens), true_loss(logits, tokens), what=LOSS)


@pytest.mark.parametrize("shape", [(B, T), (1, 2), (B, 2), (1, T), (T, T)])
def test_the_loss_is_the_mean_over_all_predictions(ex, shape):
    logits, tokens = draw(*shape, V), draw_tokens(*shape)
    expect_equal(ex.next_token_loss(logits, tokens), true_loss(logits, tokens), what=LOSS)
    logits = draw(*shape, V, dtype=torch.float64).flip(0)
    expect_equal(ex.next_token_loss(logits, tokens), true_loss(logits, tokens), what=LOSS)


def test_nothing_is_predicted_from_the_last_position(ex):
    logits, tokens = draw(B, T, V), draw_tokens(B, T)
    logits[:, -1] = 1000 * logits[:, -1]
    expect_equal(ex.next_token_loss(logits, tokens), true_loss(logits, tokens), what=LOSS)


def test_the_loss_lets_gradients_through(ex):
    logits, tokens = draw(B, T, V).requires_grad_(), draw_tokens(B, T)
    result, truth = ex.next_token_loss(logits, tokens), true_loss(logits, tokens)
    expect_equal(result, truth, what=LOSS)
    expect_same_gradients(result, truth, {"logits": logits})


# --- 5.3 ---

LOGITS = "the logits (B, T, vocab_size)"


def shaken(config: ModelConfig) -> tiny_transformer_lm.TinyTransformerLM:
    """The course's model, on PyTorch's kernels, its weights far from where training starts."""
    model = Reference(config, Parts.fused())
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return model.eval()


def learners(ex: Any, reference: tiny_transformer_lm.TinyTransformerLM) -> Any:
    """The learner's model, with the weights of the reference."""
    model = ex.TinyTransformerLM(reference.config)
    expect_parameters(model, reference)
    model.load_state_dict(reference.state_dict())
    return model.eval()


@pytest.mark.parametrize("shape", [(1, 4), (B, T), (1, 1)])
def test_the_model_gives_the_logits_of_the_course(ex, shape):
    """from tokens to logits, with the weights of the course's model"""
    reference = shaken(SMALL)
    tokens = draw_tokens(*shape)
    expect_equal(learners(ex, reference)(tokens), reference(tokens), what=LOGITS)


def test_an_untied_model_has_a_matrix_of_its_own(ex):
    reference = shaken(replace(SMALL, tie_weights=False, bias=False, activation="relu2"))
    tokens = draw_tokens(B, T)
    expect_equal(learners(ex, reference)(tokens), reference(tokens), what=LOGITS)


@pytest.mark.parametrize("length", [1, 6, 7])
def test_sequences_may_be_shorter_than_the_context(ex, length):
    reference = shaken(replace(SMALL, n_layers=3, n_heads=2))
    tokens = draw_tokens(2, length)
    expect_equal(learners(ex, reference)(tokens), reference(tokens), what=LOGITS)


def test_no_position_sees_a_later_token(ex):
    reference = shaken(SMALL)
    model, tokens = learners(ex, reference), draw_tokens(B, T)
    before = model(tokens)
    expect_equal(before, reference(tokens), what=LOGITS)
    changed = tokens.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % V
    first_three: Callable[[Tensor], Tensor] = lambda logits: logits[:, :3]  # noqa: E731 - a view
    what = "the logits of positions 0 to 2, after tokens 3 and 4 have changed"
    expect_equal(model(changed), before.detach(), what=what, view=first_three)


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_lets_gradients_through(ex, tied):
    reference = shaken(replace(SMALL, tie_weights=tied))
    model, tokens = learners(ex, reference), draw_tokens(B, T)
    result, truth = model(tokens), reference(tokens)
    expect_equal(result, truth, what=LOGITS)
    expect(result.requires_grad, "the values are right, but no gradient flows back through them")
    result.square().mean().backward()
    truth.square().mean().backward()
    gradients = {name: one.grad for name, one in model.named_parameters()}
    for name, parameter in reference.named_parameters():
        gradient, why = gradients[name], "every use of a weight must stay in the graph"
        if tied and name == "token_embedding.weight":
            why = "it is used twice, and both uses must stay in the graph"
        expect(gradient is not None, f"the logits are right, but {name} gets no gradient: {why}")
        expect(
            torch.allclose(gradient, parameter.grad, rtol=1e-4, atol=1e-6),  # pyright: ignore
            f"the logits are right, but not the gradient of {name}: {why}",
        )


# --- 5.4 ---

MASK = "the mask (T, T)"


def true_prefix_mask(length: int, n_prefix: int) -> Tensor:
    rows = [[j <= i or j < n_prefix for j in range(length)] for i in range(length)]
    return torch.tensor(rows, dtype=torch.bool).view(length, length)


@pytest.mark.parametrize(("length", "n_prefix"), [(4, 2), (5, 3), (7, 2), (7, 6), (6, 1), (9, 4)])
def test_all_see_the_prompt_and_the_rest_is_causal(ex, length, n_prefix):
    """all see the prompt, and the rest is causal"""
    truth = true_prefix_mask(length, n_prefix)
    expect_equal(ex.prefix_mask(length, n_prefix), truth, what=MASK)


@pytest.mark.parametrize(("length", "n_prefix"), [(5, 0), (5, 5), (1, 0), (1, 1), (2, 1)])
def test_no_prompt_is_the_causal_mask_and_all_prompt_hides_nothing(ex, length, n_prefix):
    truth = true_prefix_mask(length, n_prefix)
    expect_equal(ex.prefix_mask(length, n_prefix), truth, what=MASK)


def test_the_prefix_mask_is_made_on_the_device_asked_for(ex):
    """a device that is given is used for the whole mask"""
    mask = ex.prefix_mask(4, 2, "meta")
    device: Callable[[Tensor], str] = lambda found: str(found.device)  # noqa: E731 - a view
    expect_equal(mask, torch.empty(4, 4, device="meta"), what="the device", view=device)


# --- 5.5 ---

PATTERNS = {  # and those of LETTERS in pictures/draw.py
    "encoder": "B",
    "encoder with padding": "F",
    "decoder": "A",
    "prefix LM": "D",
    "cross-attention": "C",
    "decoder with a leak": "E",
}


def test_each_pattern_is_given_its_model(ex):
    expect_letters(ex.read_patterns(), PATTERNS, "the patterns")


# --- 5.6 ---

TABLE = "the gradient of the table (vocab_size, d_model)"


def true_tied_gradient(
    tokens: Tensor, grad_embedded: Tensor, features: Tensor, grad_logits: Tensor, vocab_size: int
) -> Tensor:
    """What autograd makes of both uses."""
    table = torch.zeros(vocab_size, features.size(-1), dtype=features.dtype, requires_grad=True)
    outputs = F.embedding(tokens, table), F.linear(features, table)
    (gradient,) = torch.autograd.grad(outputs, [table], [grad_embedded, grad_logits])
    return gradient


def gradient_inputs(
    rows: int, length: int, width: int, vocab_size: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    return (
        draw_tokens(rows, length, n=vocab_size),
        draw(rows, length, width, dtype=dtype),
        draw(rows, length, width, dtype=dtype),
        draw(rows, length, vocab_size, dtype=dtype),
        vocab_size,
    )


def test_the_table_of_the_worked_example(ex):
    """row v collects what both of its uses contribute"""
    inputs = (
        torch.tensor([[2, 0, 2]]),
        torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]),
        torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]),
        torch.tensor([[[2.0, 0.0, -2.0], [0.0, 3.0, -3.0], [-1.0, 0.0, 1.0]]]),
        3,
    )
    expect_equal(ex.tied_gradient(*inputs), true_tied_gradient(*inputs), what=TABLE)


@pytest.mark.parametrize("shape", [(B, T, d_model, V), (1, 1, 4, 7), (1, T, 4, 7), (B, 1, 4, 7)])
def test_the_gradient_is_that_of_autograd(ex, shape):
    inputs = gradient_inputs(*shape)
    expect_equal(ex.tied_gradient(*inputs), true_tied_gradient(*inputs), what=TABLE)
    inputs = gradient_inputs(*shape, dtype=torch.float64)
    expect_equal(ex.tied_gradient(*inputs), true_tied_gradient(*inputs), what=TABLE)


def test_a_token_that_occurs_often_collects_every_gradient(ex):
    _, grad_embedded, features, grad_logits, _ = gradient_inputs(B, T, d_model, V)
    tokens = torch.full((B, T), 4)
    inputs = tokens, grad_embedded, features, grad_logits, V
    expect_equal(ex.tied_gradient(*inputs), true_tied_gradient(*inputs), what=TABLE)
    inputs = gradient_inputs(d_model, d_model, d_model, d_model)
    expect_equal(ex.tied_gradient(*inputs), true_tied_gradient(*inputs), what=TABLE)


@pytest.mark.parametrize("end", ["input", "output"])
def test_each_end_alone(ex, end):
    tokens, grad_embedded, features, grad_logits, _ = gradient_inputs(B, T, d_model, V)
    if end == "input":
        grad_logits = torch.zeros_like(grad_logits)
    else:
        grad_embedded = torch.zeros_like(grad_embedded)
    inputs = tokens, grad_embedded, features, grad_logits, V
    expect_equal(ex.tied_gradient(*inputs), true_tied_gradient(*inputs), what=TABLE)


def test_the_gradient_of_the_table_in_a_model(ex):
    """what a tied model's table gets in a step of training"""
    table = draw(V, d_model, dtype=torch.float64).requires_grad_()
    tokens = draw_tokens(B, T)
    embedded = F.embedding(tokens, table)
    features = torch.tanh(embedded.cumsum(1))
    logits = F.linear(features, table)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    wanted = [table, embedded, logits]
    truth, grad_embedded, grad_logits = torch.autograd.grad(loss, wanted)
    result = ex.tied_gradient(tokens, grad_embedded, features.detach(), grad_logits, V)
    expect_equal(result, truth, what=TABLE)


# --- 5.7 ---

SHAPES = {
    "token_embedding.weight": (V, 12),
    "position_embedding.weight": (7, 12),
    "blocks.0.attention.q_proj.weight": (12, 12),
    "blocks.0.attention.q_proj.bias": (12,),
    "blocks.0.attention.out_proj.weight": (12, 12),
    "blocks.0.feed_forward.up_proj.weight": (20, 12),
    "blocks.0.feed_forward.down_proj.weight": (12, 20),
    "blocks.0.feed_forward_norm.weight": (12,),
    "blocks.0.feed_forward_norm.bias": (12,),
    "final_norm.weight": (12,),
    "unembedding.weight": (V, 12),
}
WEIGHTS = "the values"


def true_weights(
    shapes: dict[str, tuple[int, ...]], seed: int, std: float = 0.02
) -> dict[str, Tensor]:
    """What each name gets, spelled out."""
    source = torch.Generator().manual_seed(seed)
    values = {}
    for name in sorted(shapes):
        last = name.split(".")[-2:]
        if last[-1] == "bias" or last[0] in ("out_proj", "down_proj", "unembedding"):
            values[name] = torch.zeros(shapes[name])
        elif last[0].endswith("norm"):
            values[name] = torch.ones(shapes[name])
        else:
            values[name] = torch.randn(shapes[name], generator=source) * std
    return values


def kind_of(name: str) -> Callable[[Any], str]:
    """A view that says what values one parameter gets; texts stay as they are."""

    def view(values: Any) -> str:
        if isinstance(values, str):
            return values
        found = values[name].detach()
        if not found.any():
            return "zeros"
        if bool((found == 1).all()):
            return "ones"
        return f"random, standard deviation {found.double().square().mean().sqrt().item():.1g}"

    return view


def test_every_name_gets_its_kind_of_values(ex):
    """zeros, ones or random numbers, by name"""
    shapes = {one: tuple(4 * size for size in shape) for one, shape in SHAPES.items()}
    values, truth = ex.initial_weights(shapes, 3), true_weights(shapes, 3)
    for name in SHAPES:
        expect_equal(values, kind_of(name)(truth), what=name, view=kind_of(name))


def joined(values: Any) -> Tensor:
    """A view: all values in alphabetical order of their names, in one row."""
    return torch.cat([values[name].flatten() for name in sorted(values)])


def names_of(values: Any) -> dict[str, tuple[int, ...]]:
    """A view: the shape of each value by its name."""
    return {name: tuple(value.shape) for name, value in values.items()}


@pytest.mark.parametrize(("seed", "std"), [(0, None), (5, None), (5, 0.5)])
def test_the_weights_are_drawn_in_the_order_of_their_names(ex, seed, std):
    """one generator, and one draw after the other in the order of the names"""
    given = () if std is None else (std,)
    values = ex.initial_weights({"b.weight": (2,), "a.weight": (3,)}, seed, *given)
    truth = true_weights({"b.weight": (2,), "a.weight": (3,)}, seed, *given)
    expect_equal(values, truth, what="the values of a.weight and b.weight", view=joined)
    values, truth = ex.initial_weights(SHAPES, seed, *given), true_weights(SHAPES, seed, *given)
    expect_equal(values, truth, what="the shapes", view=names_of)
    expect_equal(values, truth, what=WEIGHTS, view=joined)


def test_the_order_of_the_shapes_does_not_matter(ex):
    turned = dict(reversed(SHAPES.items()))
    truth = true_weights(SHAPES, 2)
    expect_equal(ex.initial_weights(turned, 2), truth, what=WEIGHTS, view=joined)
    deep = {f"blocks.{n}.attention.q_proj.weight": (3, 2) for n in range(12)}  # 10 before 2
    truth = true_weights(deep, 2)
    expect_equal(ex.initial_weights(deep, 2), truth, what=WEIGHTS, view=joined)


def test_pytorchs_own_random_numbers_are_left_alone(ex):
    """PyTorch's own random numbers are left alone"""
    torch.manual_seed(11)
    truth = torch.randn(4)
    torch.manual_seed(11)
    values = ex.initial_weights(SHAPES, 2)
    after = torch.randn(4)
    expect_equal(values, true_weights(SHAPES, 2), what=WEIGHTS, view=joined)
    expect(
        torch.equal(after, truth),
        "PyTorch's own random numbers are used, or seeded again: draw from a torch.Generator",
    )


def test_a_model_starts_at_the_logarithm_of_its_vocabulary(ex):
    """the first loss is the logarithm of vocab_size, and the blocks start as the identity"""
    model = Reference(replace(SMALL, tie_weights=False))
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    values = ex.initial_weights(shapes, 4)
    expect_equal(values, true_weights(shapes, 4), what=WEIGHTS, view=joined)
    model.load_state_dict(values)
    tokens = draw_tokens(B, T)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).item()
    expect(abs(loss - math.log(V)) < 1e-6, f"the first loss is {loss:.4f}, not log {V}")


# --- 5.8 ---

COUNT = "the number of parameters"
NOTHING = ModelConfig(
    *(10, 4, 6, 1, 2, None, 8),
    bias=False,
)


@functools.cache
def built(config: ModelConfig) -> int:
    """Counted on the model itself."""
    return sum(parameter.numel() for parameter in Reference(config).parameters())


def changed(**changes: Any) -> ModelConfig:
    return replace(SMALL, **changes)


def expect_count(ex: Any, config: ModelConfig) -> None:
    expect_equal(ex.count_parameters(config), built(config), what=COUNT)


@pytest.mark.parametrize(
    "config",
    [NOTHING, SMALL, changed(n_layers=1, d_ff=None), changed(max_seq_len=13, n_layers=5)],
    ids=["without biases", "classic", "d_ff None", "deep"],
)
def test_the_classic_model_is_counted(ex, config):
    expect_count(ex, config)


@pytest.mark.parametrize(
    "config",
    [
        changed(n_heads=6, n_kv_heads=2),
        changed(n_heads=6, n_kv_heads=1, bias=False),
        changed(activation="swiglu"),
        changed(activation="swiglu", bias=False),
        changed(activation="relu2"),
        changed(norm="rmsnorm"),
        changed(norm="rmsnorm", bias=False, norm_placement="post"),
        changed(norm_placement="post"),
        changed(qk_norm=True, dropout=0.1),
    ],
    ids=lambda config: "",
)
def test_grouped_heads_gates_and_norms_are_counted(ex, config):
    expect_count(ex, config)


@pytest.mark.parametrize(
    "config",
    [
        changed(tie_weights=False),
        changed(position="rope", n_heads=2),
        changed(position="sinusoidal", tie_weights=False),
        changed(position="alibi", bias=False),
        changed(bias=False),
    ],
    ids=lambda config: "",
)
def test_biases_and_embeddings_are_counted(ex, config):
    expect_count(ex, config)


GPT_2 = ModelConfig(50257, 1024, 768, 12, 12)
LLAMA_3 = ModelConfig(
    *(128256, 8192, 4096, 32, 32, 8, 14336, "rmsnorm", "pre", "swiglu", "rope"),
    bias=False,
    tie_weights=False,
)


@pytest.mark.parametrize(
    ("config", "truth"), [(GPT_2, 124_439_808), (LLAMA_3, 8_030_261_248)], ids=["GPT-2", "Llama 3"]
)
def test_real_models_are_counted(ex, config, truth):
    expect_equal(ex.count_parameters(config), truth, what=COUNT)


# --- 5.9 ---

OPERATIONS = "the number of operations"


@functools.cache
def counted(config: ModelConfig, length: int) -> int:
    """Counted by PyTorch, while a model without memory runs."""
    with torch.device("meta"):
        model = Reference(replace(config, max_seq_len=length))
        tokens = torch.zeros(1, length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("config", "length", "truth"),
    # 2 * (T * (144 + 96 + 60) + 2 * T * T * 6)
    [(NOTHING, 2, 1296), (NOTHING, 1, 624), (GPT_2, 1024, 291_648_307_200)],
    ids=["T 2", "T 1", "GPT-2"],
)
def test_the_operations_of_the_classic_model(ex, config, length, truth):
    expect_equal(ex.forward_flops(config, length), truth, what=OPERATIONS)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        changed(n_layers=5, d_ff=None),
        changed(n_heads=6, n_kv_heads=2, position="rope"),
        changed(activation="swiglu", bias=False),
        changed(tie_weights=False, norm="rmsnorm", norm_placement="post", activation="relu2"),
    ],
    ids=["classic", "d_ff None", "grouped", "gated", "untied"],
)
def test_the_operations_are_those_that_pytorch_counts(ex, config, length):
    expect_equal(ex.forward_flops(config, length), counted(config, length), what=OPERATIONS)


def test_what_costs_no_parameters_and_what_costs_no_operations(ex):
    """tying saves parameters and no operations; a longer context costs its square"""
    for config in (changed(tie_weights=True), changed(tie_weights=False), changed(bias=False)):
        truth = counted(config, 6)
        expect_equal(ex.forward_flops(config, 6), truth, what=OPERATIONS)
    expect_equal(ex.forward_flops(LLAMA_3, 8192), 158_140_695_838_720, what=OPERATIONS)


# --- 5.10 ---

CORRUPTED = "the corrupted tokens (B, T)"
HIDDEN = 99


def true_masked(
    tokens: Tensor, chosen: Tensor, draws: Tensor, replacements: Tensor, mask_token: int
) -> Tensor:
    """Token by token."""
    result = tokens.clone()
    for b in range(tokens.size(0)):
        for t in range(tokens.size(1)):
            if chosen[b, t] and draws[b, t] < 0.8:
                result[b, t] = mask_token
            elif chosen[b, t] and draws[b, t] < 0.9:
                result[b, t] = replacements[b, t]
    return result


def test_each_chosen_token_has_one_of_three_fates(ex):
    """hidden, replaced or left as it is"""
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    chosen = torch.tensor([[True, True, True, False, False, False]])
    draws = torch.tensor([[0.2, 0.85, 0.95, 0.2, 0.85, 0.95]])
    replacements = torch.tensor([[7, 8, 9, 7, 8, 9]])
    inputs = tokens, chosen, draws, replacements, HIDDEN
    expect_equal(ex.mask_tokens(*inputs), true_masked(*inputs), what=CORRUPTED)
    inputs = draw_tokens(B, 30), torch.rand(B, 30) < 0.5, torch.rand(B, 30), draw_tokens(B, 30), 0
    expect_equal(ex.mask_tokens(*inputs), true_masked(*inputs), what=CORRUPTED)


def test_the_draws_decide_at_their_borders(ex):
    draws = torch.tensor([[0.0, 0.5, 0.8, 0.9, 0.7999, 0.8999, 0.9999]], dtype=torch.float64)
    tokens, replacements = torch.arange(7)[None], torch.arange(10, 17)[None]
    inputs = tokens, torch.ones_like(tokens, dtype=torch.bool), draws, replacements, HIDDEN
    expect_equal(ex.mask_tokens(*inputs), true_masked(*inputs), what=CORRUPTED)


@pytest.mark.parametrize("shape", [(1, 1), (B, T), (T, T)])
def test_tokens_that_were_not_chosen_stay(ex, shape):
    tokens, replacements = draw_tokens(*shape), draw_tokens(*shape)
    for chosen in (torch.zeros(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)):
        inputs = tokens, chosen, torch.rand(shape), replacements, 55
        found = ex.mask_tokens(*inputs)
        expect_equal(found, true_masked(*inputs), what=CORRUPTED)
        expect(
            found.data_ptr() != tokens.data_ptr(),
            "the result shares its memory with the input: return a new tensor",
        )


def test_of_many_tokens_the_shares_are_80_10_and_10(ex):
    n = 400
    tokens, replacements = torch.zeros(1, n, dtype=torch.long), torch.ones(1, n, dtype=torch.long)
    chosen = torch.ones(1, n, dtype=torch.bool)
    draws = ((torch.randperm(n) + 0.5) / n)[None]

    def counts(found: Tensor) -> Tensor:
        return torch.stack([(found == token).sum() for token in (HIDDEN, 1, 0)])

    truth = true_masked(tokens, chosen, draws, replacements, HIDDEN)
    what = "how many of 400 tokens are hidden, replaced and left as they are"
    found = ex.mask_tokens(tokens, chosen, draws, replacements, HIDDEN)
    expect_equal(found, truth, what=what, view=counts)


# --- 5.11 ---

SIDES = ("the source", "the target")


def true_spans(
    tokens: Tensor, spans: list[tuple[int, int]], first_sentinel: int
) -> tuple[Tensor, Tensor]:
    """Token by token."""
    starts = {start: number for number, (start, _) in enumerate(spans)}
    inside = {place for start, length in spans for place in range(start, start + length)}
    source, target = [], []
    for place, token in enumerate(tokens.tolist()):
        if place in starts:
            source.append(first_sentinel + starts[place])
            target.append(first_sentinel + starts[place])
        (target if place in inside else source).append(token)
    target.append(first_sentinel + len(spans))
    return torch.tensor(source, dtype=tokens.dtype), torch.tensor(target, dtype=tokens.dtype)


def test_the_example_of_the_paper(ex):
    """a sentinel for each gap, and in the target what was cut out"""
    tokens, spans = torch.arange(1, 8), [(1, 2), (4, 1)]
    expect_equal(ex.corrupt_spans(tokens, spans, 20), true_spans(tokens, spans, 20), what=SIDES)
    # thank you for inviting me to your party last week
    tokens, spans = torch.arange(10, 20), [(1, 2), (7, 2)]
    expect_equal(ex.corrupt_spans(tokens, spans, 50), true_spans(tokens, spans, 50), what=SIDES)


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [(0, 2)],
        [(6, 3)],
        [(0, 1), (8, 1)],
        [(0, 9)],
        [(4, 1)],
        [(0, 1), (2, 1), (4, 1), (6, 1)],
        [(1, 3), (5, 4)],
    ],
    ids=str,
)
def test_gaps_at_both_ends_and_texts_without_a_gap(ex, spans):
    tokens = draw_tokens(9)
    found = ex.corrupt_spans(tokens, spans, 30)
    expect_equal(found, true_spans(tokens, spans, 30), what=SIDES)
    expect(
        all(side.data_ptr() != tokens.data_ptr() for side in found),
        "a result shares its memory with tokens: return new tensors",
    )


def test_source_and_target_together_hold_every_token_once(ex):
    tokens = torch.arange(100, 140)
    for spans in ([(3, 5), (11, 1), (20, 8)], [(0, 3), (30, 10)], [(1, 38)]):
        truth = true_spans(tokens, spans, 7)
        expect_equal(ex.corrupt_spans(tokens, spans, 7), truth, what=SIDES)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_dtype_of_the_tokens_is_kept(ex, dtype):
    tokens, spans = draw_tokens(9).to(dtype), [(2, 3), (7, 1)]
    expect_equal(ex.corrupt_spans(tokens, spans, 30), true_spans(tokens, spans, 30), what=SIDES)


# --- 5.12 ---

STREAM = "the output (B, T_t, d_model)"
WIDE, N_HEADS, T_s = 12, 3, 7


def pieces() -> tuple[nn.Module, ...]:
    """Two attentions, a feed-forward network and three norms, in float64, all weights random."""
    made = (
        MultiHeadAttention(WIDE, N_HEADS),
        CrossAttention(WIDE, N_HEADS),
        FeedForward(WIDE, 20),
        *(LayerNorm(WIDE) for _ in range(3)),
    )
    for piece in made:
        piece.double()
        for parameter in piece.parameters():
            nn.init.normal_(parameter, std=0.5)
    return made


def pytorch_decoder(block: Any) -> nn.TransformerDecoderLayer:
    """PyTorch's layer, with the same weights."""
    theirs = nn.TransformerDecoderLayer(
        *(WIDE, N_HEADS, 20),
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    ours = block.state_dict()
    renamed = {
        "attention.out_proj": "self_attn.out_proj",
        "cross_attention.out_proj": "multihead_attn.out_proj",
        "feed_forward.up_proj": "linear1",
        "feed_forward.down_proj": "linear2",
        "attention_norm": "norm1",
        "cross_attention_norm": "norm2",
        "feed_forward_norm": "norm3",
    }
    state = {}
    for kind in ("weight", "bias"):
        for name, other in (("attention", "self_attn"), ("cross_attention", "multihead_attn")):
            projections = [ours[f"{name}.{one}_proj.{kind}"] for one in "qkv"]
            state[f"{other}.in_proj_{kind}"] = torch.cat(projections)
        state |= {f"{theirs}.{kind}": ours[f"{name}.{kind}"] for name, theirs in renamed.items()}
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("masked", [False, True])
def test_the_decoder_block_equals_pytorchs(ex, masked):
    """self-attention, cross-attention, feed-forward network, as in PyTorch's decoder layer"""
    block = ex.DecoderBlock(*pieces())
    x, context = draw(B, T, WIDE, dtype=torch.float64), draw(B, T_s, WIDE, dtype=torch.float64)
    mask = causal_mask(T) if masked else None
    truth = pytorch_decoder(block)(x, context, None if mask is None else ~mask)
    expect_equal(block(x, context, mask), truth, what=STREAM)


@pytest.mark.parametrize("length", [T, T_s])
@pytest.mark.parametrize("causal", [True, False])
def test_each_mask_goes_to_its_attention(ex, causal, length):
    block = ex.DecoderBlock(*pieces())
    x, context = draw(B, T, WIDE, dtype=torch.float64), draw(B, length, WIDE, dtype=torch.float64)
    allowed = torch.rand(T, length) < 0.6
    allowed[:, 0] = True
    mask = causal_mask(T) if causal else None
    truth = pytorch_decoder(block)(
        x, context, tgt_mask=None if mask is None else ~mask, memory_mask=~allowed
    )
    expect_equal(block(x, context, mask, allowed), truth, what=STREAM)


def mean_of_allowed(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """An attention function that looks at all allowed keys equally."""
    allowed = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool) if mask is None else mask
    weights = allowed.to(q.dtype) / allowed.sum(-1, keepdim=True)
    return (weights @ v) * 2, weights


def test_attend_is_handed_to_both(ex):
    block = ex.DecoderBlock(*pieces())
    x, context = draw(B, T, WIDE, dtype=torch.float64), draw(B, T_s, WIDE, dtype=torch.float64)
    allowed = torch.ones(T, T_s, dtype=torch.bool)
    allowed[:, 2:] = False
    mask = causal_mask(T)
    y = x + block.attention(block.attention_norm(x), mask, mean_of_allowed)
    update = block.cross_attention(block.cross_attention_norm(y), context, allowed, mean_of_allowed)
    y = y + update
    truth = y + block.feed_forward(block.feed_forward_norm(y))
    expect_equal(block(x, context, mask, allowed, mean_of_allowed), truth, what=STREAM)


def test_the_decoder_block_lets_gradients_through(ex):
    block = ex.DecoderBlock(*pieces())
    theirs = pytorch_decoder(block)
    x = draw(B, T, WIDE, dtype=torch.float64).requires_grad_()
    context = draw(B, T_s, WIDE, dtype=torch.float64).requires_grad_()
    result, truth = block(x, context), theirs(x, context)
    expect_equal(result, truth, what=STREAM)
    expect_same_gradients(result, truth, {"x": x, "context": context})


# --- 5.13 ---

MIXED = "the output (..., T_q, d_v)"
d_k, d_v = 4, 6


def true_linear(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """With all products of queries and keys, in float64."""
    queries, keys = (torch.where(x > 0, x + 1, torch.exp(x)) for x in (q.double(), k.double()))
    weights = queries @ keys.mT
    if mask is not None:
        weights = weights * mask
    total = weights.sum(-1, keepdim=True)
    weights = weights / torch.where(total == 0, 1.0, total)
    return (weights @ v.double()).to(v.dtype)


def expect_linear(
    ex: Any, inputs: tuple[Tensor, Tensor, Tensor], mask: Tensor | None = None
) -> None:
    found = ex.linear_attention(*inputs) if mask is None else ex.linear_attention(*inputs, mask)
    expect(
        isinstance(found, tuple | list) and len(found) == 2,
        f"it returned {type_name(found)}; expected two values: the output, and None",
    )
    expect(found[1] is None, "the second value must be None: there are no T_q x T_k weights")
    expect_equal(found[0], true_linear(*inputs, mask), what=MIXED)


def qkv(
    *lead: int, T_q: int = T, T_k: int = T, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    q, k = draw(*lead, T_q, d_k, dtype=dtype), draw(*lead, T_k, d_k, dtype=dtype)
    return q, k, draw(*lead, T_k, d_v, dtype=dtype)


SMALL_Q = torch.tensor([[0.5], [1.0], [-1.0]])
SMALL_K = torch.tensor([[2.0], [0.0], [-0.5]])
SMALL_V = torch.tensor([[10.0], [20.0], [30.0]])


def test_linear_attention_without_a_mask(ex):
    """each query sees every key"""
    expect_linear(ex, (SMALL_Q, SMALL_K, SMALL_V))
    for lead in ((B, 2), (), (B,), (1, 1)):
        expect_linear(ex, qkv(*lead))
        expect_linear(ex, qkv(*lead, T_k=7))


def test_causal_linear_attention(ex):
    """each query sees the keys up to its own position"""
    expect_linear(ex, (SMALL_Q, SMALL_K, SMALL_V), causal_mask(3))
    for lead in ((B, 2), (), (B,), (1, 1)):
        expect_linear(ex, qkv(*lead), causal_mask(T))
        expect_linear(ex, qkv(*lead, T_q=1, T_k=1), causal_mask(1))


def test_each_query_may_see_its_own_number_of_keys(ex):
    """each query sees the first n keys, for an n of its own"""
    seen = torch.tensor([[2, 2, 5, 3, 7], [1, 7, 7, 1, 4], [3, 4, 5, 6, 7]])
    mask = torch.arange(7) < seen[..., None]  # (B, T, T_k)
    expect_linear(ex, qkv(B, 2), mask[:, None, :, :T])  # as many queries as keys
    expect_linear(ex, qkv(B, 2, T_k=7), mask[:, None])
    expect_linear(ex, qkv(B, 2, T_k=7), mask[0])
    expect_linear(ex, qkv(B, 2, T_k=7), mask[:, None, -1:])  # the same for every query
    expect_linear(ex, qkv(B, T_q=1, T_k=7), mask[0, :1])
    whole = torch.tensor([True, False, True, True, False])[:, None]  # all keys, or none
    expect_linear(ex, qkv(B, 2, T_k=7), whole)
    expect_linear(ex, qkv(B, 2, T_k=7), torch.ones(1, 1, dtype=torch.bool))


def test_queries_that_see_nothing_give_zeros(ex):
    seen = torch.tensor([0, 2, 0, 1, 7])
    expect_linear(ex, qkv(B, 2, T_k=7), torch.arange(7) < seen[:, None])


@pytest.mark.parametrize("masked", [False, True])
def test_large_inputs_and_other_dtypes(ex, masked):
    mask = causal_mask(T) if masked else None
    expect_linear(ex, qkv(B, 2, dtype=torch.float64), mask)
    q, k, v = qkv(B, 2)
    expect_linear(ex, (100 * q.abs(), 100 * k.abs(), v), mask)
    expect_linear(ex, (q.mT.contiguous().mT, k.flip(0), v.mT.contiguous().mT), mask)


class LargestTensor(TorchDispatchMode):
    """Notes how many values the largest floating tensor has that is computed inside."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, Tensor) and one.is_floating_point():
                self.values = max(self.values, one.numel())
        return result


@pytest.mark.parametrize("masked", [False, True])
def test_no_product_of_all_queries_with_all_keys_is_computed(ex, masked):
    """no tensor of T x T values is computed"""
    long = 256
    q, k, v = (torch.randn(1, long, 2) for _ in range(3))
    mask = causal_mask(long) if masked else None
    with LargestTensor() as largest:
        output = ex.linear_attention(q, k, v, mask)[0]
    n = largest.values
    expect_equal(output.detach(), true_linear(q, k, v, mask), what=MIXED)
    expect(
        n < long * long,
        f"a tensor of {n} values was computed for T = {long}, which is as large as the T x T "
        "weights: sum over the keys first, and let no sum depend on a pair of query and key",
    )


def test_a_model_runs_on_linear_attention(ex):
    """the function takes the place of softmax attention in a model, with and without a cache"""

    def attend(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        output, weights = ex.linear_attention(q, k, v, mask)
        expect_equal(output, true_linear(q, k, v, mask), what=MIXED)
        return output, weights

    model = Reference(replace(SMALL, position="rope"), Parts(attention=attend)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens = draw_tokens(B, T)
    with torch.no_grad():
        whole = model(tokens)
        cache = KVCache(model.config, B, torch.float64)
        pieces_of = [model(tokens[:, :3], cache), model(tokens[:, 3:4], cache)]
    expect(
        torch.allclose(torch.cat(pieces_of, 1), whole[:, :4]),
        "with a cache, a model gives other logits than without",
    )


@pytest.mark.parametrize("kind", ["no mask", "causal", "nothing for the first"])
def test_linear_attention_lets_gradients_through(ex, kind):
    q, k, v = (x.requires_grad_() for x in qkv(B, 2, dtype=torch.float64))
    mask = None if kind == "no mask" else causal_mask(T)
    if kind == "nothing for the first":
        mask = torch.ones(T, T, dtype=torch.bool).tril(-1)
    result, truth = ex.linear_attention(q, k, v, mask)[0], true_linear(q, k, v, mask)
    expect_equal(result, truth, what=MIXED)
    expect_same_gradients(result, truth, {"q": q, "k": k, "v": v})
