"""AdamW and Muon against PyTorch's own over many steps, and Muon against its equations."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from newton_schulz import SCALES
from optimizers import AdamW, Muon
from utils.errors import UsageError

Rule = Callable[..., Optimizer]
MATRICES = [(16, 16), (16, 16), (48, 16), (16, 48), (7, 5), (1, 9), (9, 1)]
ANYTHING = [*MATRICES, (5,), (), (2, 3, 4)]


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def parameters(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def set_gradients_(params: list[Tensor], step: int) -> None:
    """Set gradients of several magnitudes, other ones at each step; every third one is missing."""
    generator = torch.Generator().manual_seed(step)
    for i, parameter in enumerate(params):
        gradient = torch.randn(parameter.shape, generator=generator) * 10.0 ** (i % 4 - 3)
        parameter.grad = None if (i + step) % 3 == 0 else gradient


def in_groups(params: list[Tensor]) -> list[dict[str, Any]]:
    return [{"params": params[::2], "weight_decay": 0.3}, {"params": params[1::2], "lr": 0.02}]


def train_(optimizer: Optimizer, params: list[Tensor], steps: range) -> None:
    """Take steps with a learning rate that changes every time."""
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + step % 7)
        set_gradients_(params, step)
        optimizer.step()


def distance(ours: Rule, theirs: Rule, shapes: list[tuple[int, ...]], steps: int) -> float:
    """Train twice from the same weights; return the largest difference at the end."""
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
def test_adamw_equals_pytorch_over_a_hundred_steps(options):
    ours, theirs = partial(AdamW, **options), partial(torch.optim.AdamW, **options)
    assert distance(ours, theirs, ANYTHING, steps=100) < 1e-6


def test_adamws_first_step_moves_every_parameter_by_the_learning_rate():
    weight = torch.zeros(3, 4, requires_grad=True)
    weight.grad = torch.randn(3, 4)
    AdamW([weight], lr=0.1).step()
    torch.testing.assert_close(weight.detach(), -0.1 * weight.grad.sign(), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize(
    ("first", "second"), [(AdamW, torch.optim.AdamW), (torch.optim.AdamW, AdamW)]
)
def test_pytorchs_adamw_and_ours_load_each_others_state(first, second):
    expected, params = parameters(ANYTHING), parameters(ANYTHING)
    train_(torch.optim.AdamW(in_groups(expected)), expected, range(20))
    before = first(in_groups(params))
    train_(before, params, range(10))
    continued = second(in_groups(params))
    continued.load_state_dict(before.state_dict())
    train_(continued, params, range(10, 20))
    torch.testing.assert_close(params, expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust_lr_fn", SCALES)
def test_muon_equals_pytorch_up_to_bfloat16_rounding(adjust_lr_fn, nesterov):
    """A wrong Nesterov step differs by 0.05; a momentum or decay wrong by 0.01 differs by 0.009."""
    options = {"adjust_lr_fn": adjust_lr_fn, "nesterov": nesterov, "momentum": 0.9}
    ours, theirs = partial(Muon, **options), partial(torch.optim.Muon, **options)
    assert distance(ours, theirs, MATRICES, steps=15) < 0.005
    wrong = partial(Muon, **options | {"momentum": 0.91})
    assert distance(wrong, theirs, MATRICES, steps=15) > 0.009


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48), (1, 9)])
def test_muon_steps_along_the_orthogonal_factor_of_the_momentum(shape):
    """In float64, against the equations written with a singular value decomposition."""
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected, momentum = weight.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    optimizer = Muon([weight], lr=0.1, weight_decay=0.2, momentum=0.9, dtype=torch.float64)
    for _ in range(5):
        weight.grad = torch.randn(shape, dtype=torch.float64)
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * weight.grad
        step = by_decomposition(0.9 * momentum + 0.1 * weight.grad)
        scale = max(1, shape[0] / shape[1]) ** 0.5
        expected = expected - 0.1 * 0.2 * expected - 0.1 * scale * step
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-9, atol=1e-9)


def by_decomposition(update: Tensor, steps: int = 5) -> Tensor:
    """The result of `newton_schulz`, from a singular value decomposition."""
    u, s, vh = torch.linalg.svd(update, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag_embed(s) @ vh


def test_muon_batches_matrices_without_changing_their_steps():
    together, alone = parameters(MATRICES), parameters(MATRICES)
    set_gradients_(together, step=1)
    set_gradients_(alone, step=1)
    Muon(together, dtype=torch.float32).step()
    for parameter in alone:
        Muon([parameter], dtype=torch.float32).step()
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("rule", [AdamW, Muon])
def test_a_saved_state_resumes_bit_for_bit(rule):
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
def test_a_step_changes_neither_gradients_nor_parameters_without_one(rule):
    moved, idle = parameters([(4, 4), (4, 4)])
    moved.grad = torch.randn(4, 4)
    gradient, still = moved.grad.clone(), idle.detach().clone()
    rule([moved, idle]).step()
    assert torch.equal(moved.grad, gradient)
    assert torch.equal(idle, still)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_muon_refuses_parameters_that_are_not_matrices(shape):
    optimizer = Muon(parameters([(4, 4)]))
    with pytest.raises(UsageError, match="Muon updates only matrices"):
        Muon(parameters([(4, 4), shape]))
    with pytest.raises(UsageError, match="Muon updates only matrices"):
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
def test_invalid_options_are_refused_by_name(rule, options, message):
    with pytest.raises(UsageError, match=message):
        rule(parameters([(4, 4)]), **options)
