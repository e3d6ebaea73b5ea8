"""AdamW and Muon against PyTorch's own over many steps; Newton-Schulz against the decomposition."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from optimizers import SCALES, AdamW, Muon, newton_schulz
from utils.errors import UsageError

Rule = Callable[..., Optimizer]
MATRICES = [(16, 16), (16, 16), (48, 16), (16, 48), (7, 5), (1, 9), (9, 1)]
ANYTHING = [*MATRICES, (5,), (), (2, 3, 4)]


@pytest.fixture(autouse=True)
def the_same_random_numbers_every_time() -> None:
    torch.manual_seed(0)


def parameters(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def set_gradients_(params: list[Tensor], step: int) -> None:
    """Gradients that change from step to step, of several sizes; each third one is missing."""
    generator = torch.Generator().manual_seed(step)
    for i, parameter in enumerate(params):
        gradient = torch.randn(parameter.shape, generator=generator) * 10.0 ** (i % 4 - 3)
        parameter.grad = None if (i + step) % 3 == 0 else gradient


def in_groups(params: list[Tensor]) -> list[dict[str, Any]]:
    return [{"params": params[::2], "weight_decay": 0.3}, {"params": params[1::2], "lr": 0.02}]


def train_(optimizer: Optimizer, params: list[Tensor], steps: range) -> None:
    """Step with a learning rate that is another one every time."""
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + step % 7)
        set_gradients_(params, step)
        optimizer.step()


def distance(ours: Rule, theirs: Rule, shapes: list[tuple[int, ...]], steps: int) -> float:
    """Train twice from the same start; return how far apart the weights are at most."""
    mine, other = parameters(shapes), parameters(shapes)
    train_(ours(in_groups(mine)), mine, range(steps))
    train_(theirs(in_groups(other)), other, range(steps))
    return max((a - b).abs().max().item() for a, b in zip(mine, other, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.0},
        {"betas": (0.8, 0.95), "eps": 1e-6},
        {"betas": (0.0, 0.0), "weight_decay": 1.0},
    ],
)
def test_adamw_is_pytorchs_over_a_hundred_steps(options):
    ours, theirs = partial(AdamW, **options), partial(torch.optim.AdamW, **options)
    assert distance(ours, theirs, ANYTHING, steps=100) < 1e-6


def test_adamw_moves_every_number_by_the_learning_rate_at_first():
    weight = torch.zeros(3, 4, requires_grad=True)
    weight.grad = torch.randn(3, 4)
    AdamW([weight], lr=0.1).step()
    torch.testing.assert_close(weight.detach(), -0.1 * weight.grad.sign(), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize(
    ("first", "second"), [(AdamW, torch.optim.AdamW), (torch.optim.AdamW, AdamW)]
)
def test_pytorchs_adamw_and_ours_continue_each_others_work(first, second):
    expected, params = parameters(ANYTHING), parameters(ANYTHING)
    train_(torch.optim.AdamW(in_groups(expected)), expected, range(20))
    begun = first(in_groups(params))
    train_(begun, params, range(10))
    continued = second(in_groups(params))
    continued.load_state_dict(begun.state_dict())
    train_(continued, params, range(10, 20))
    torch.testing.assert_close(params, expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust_lr_fn", SCALES)
def test_muon_is_pytorchs_but_for_the_rounding_of_bfloat16(adjust_lr_fn, nesterov):
    """A wrong Nesterov step is 0.05 away, and a momentum or a decay wrong by 0.01 is 0.009."""
    options = {"adjust_lr_fn": adjust_lr_fn, "nesterov": nesterov, "momentum": 0.9}
    ours, theirs = partial(Muon, **options), partial(torch.optim.Muon, **options)
    assert distance(ours, theirs, MATRICES, steps=15) < 0.005
    wrong = partial(Muon, **options | {"momentum": 0.91})
    assert distance(wrong, theirs, MATRICES, steps=15) > 0.009


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48), (1, 9)])
def test_muon_moves_along_the_orthogonal_factor_of_the_momentum(shape):
    """In float64, against the equations written out with the singular value decomposition."""
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected, momentum = weight.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    optimizer = Muon([weight], lr=0.1, weight_decay=0.2, momentum=0.9, dtype=torch.float64)
    for _ in range(5):
        weight.grad = torch.randn(shape, dtype=torch.float64)
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * weight.grad
        step = through_the_decomposition(0.9 * momentum + 0.1 * weight.grad)
        scale = max(1, shape[0] / shape[1]) ** 0.5
        expected = expected - 0.1 * 0.2 * expected - 0.1 * scale * step
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-9, atol=1e-9)


def through_the_decomposition(update: Tensor, steps: int = 5) -> Tensor:
    """What `newton_schulz` does, done to the singular values alone."""
    u, s, vh = torch.linalg.svd(update, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag_embed(s) @ vh


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("shape", [(8, 8), (32, 8), (8, 32), (3, 8, 32), (2, 3, 32, 8), (1, 1)])
def test_newton_schulz_acts_on_the_singular_values_alone(shape, steps):
    update = torch.randn(shape, dtype=torch.float64)
    expected = through_the_decomposition(update, steps)
    torch.testing.assert_close(newton_schulz(update, steps), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shape", [(128, 512), (512, 128), (16, 200)])
def test_newton_schulz_brings_singular_values_near_1(shape, size):
    generator = torch.Generator().manual_seed(0)
    values = torch.linalg.svdvals(newton_schulz(size * torch.randn(shape, generator=generator)))
    assert values.min() > 0.68
    assert values.max() < 1.21


def test_newton_schulz_ends_where_its_docstring_says():
    values = torch.logspace(-5, 0, 100_000, dtype=torch.float64)
    ends = values.clone()
    for _ in range(5):
        ends = 3.4445 * ends - 4.7750 * ends**3 + 2.0315 * ends**5
    near = values > 0.0016
    assert ends[near].min() > 0.68
    assert ends[near].max() < 1.21
    assert (ends[~near] / values[~near]).max() <= 485


def test_newton_schulz_keeps_the_type_and_survives_zeros():
    for dtype in (torch.bfloat16, torch.float32):
        result = newton_schulz(torch.zeros(3, 4, 5, dtype=dtype))
        assert result.dtype == dtype
        assert not result.any()


def test_muon_gives_each_matrix_the_step_it_would_have_alone():
    together, alone = parameters(MATRICES), parameters(MATRICES)
    set_gradients_(together, step=1)
    set_gradients_(alone, step=1)
    Muon(together, dtype=torch.float32).step()
    for parameter in alone:
        Muon([parameter], dtype=torch.float32).step()
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("rule", [AdamW, Muon])
def test_a_saved_state_continues_bit_for_bit(rule):
    straight, resumed = parameters(MATRICES), parameters(MATRICES)
    train_(rule(in_groups(straight)), straight, range(20))
    before = rule(in_groups(resumed))
    train_(before, resumed, range(10))
    saved = deepcopy(before.state_dict())
    after = rule(in_groups(resumed))
    after.load_state_dict(saved)
    train_(after, resumed, range(10, 20))
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))


@pytest.mark.parametrize("rule", [AdamW, Muon])
def test_a_step_leaves_gradients_alone_and_idle_parameters_too(rule):
    moved, idle = parameters([(4, 4), (4, 4)])
    moved.grad = torch.randn(4, 4)
    gradient, still = moved.grad.clone(), idle.detach().clone()
    rule([moved, idle]).step()
    assert torch.equal(moved.grad, gradient)
    assert torch.equal(idle, still)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_muon_refuses_what_is_not_a_matrix(shape):
    optimizer = Muon(parameters([(4, 4)]))
    with pytest.raises(UsageError, match="Muon moves matrices"):
        Muon(parameters([(4, 4), shape]))
    with pytest.raises(UsageError, match="Muon moves matrices"):
        optimizer.add_param_group({"params": parameters([shape])})


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (AdamW, {"lr": -1.0}, "lr is -1.0; it must be at least 0 and below inf"),
        (AdamW, {"lr": float("nan")}, "lr is nan"),
        (AdamW, {"betas": (0.9, 1.0)}, "beta2 is 1.0; it must be at least 0 and below 1"),
        (AdamW, {"eps": -1e-8}, "eps is -1e-08"),
        (AdamW, {"weight_decay": -0.1}, "weight_decay is -0.1"),
        (Muon, {"lr": -1.0}, "lr is -1.0"),
        (Muon, {"momentum": 1.0}, "momentum is 1.0"),
        (Muon, {"adjust_lr_fn": "originel"}, "did you mean 'original'"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(rule, options, message):
    with pytest.raises(UsageError, match=message):
        rule(parameters([(4, 4)]), **options)
