"""Newton-Schulz iteration against its polynomial, applied to the singular values."""

import numpy as np
import pytest
import torch
from torch import Tensor

from newton_schulz import POLAR_EXPRESS, newton_schulz, orthogonalize


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def by_decomposition(update: Tensor, steps: int) -> Tensor:
    """The same result from a singular value decomposition."""
    u, s, vh = torch.linalg.svd(update, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag_embed(s) @ vh


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("shape", [(8, 8), (32, 8), (8, 32), (3, 8, 32), (2, 3, 32, 8), (1, 1)])
def test_only_the_singular_values_change(shape, steps):
    update = torch.randn(shape, dtype=torch.float64)
    expected = by_decomposition(update, steps)
    torch.testing.assert_close(newton_schulz(update, steps), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shape", [(128, 512), (512, 128), (16, 200)])
def test_singular_values_come_close_to_1(shape, size):
    generator = torch.Generator().manual_seed(0)
    values = torch.linalg.svdvals(newton_schulz(size * torch.randn(shape, generator=generator)))
    assert values.min() > 0.68
    assert values.max() < 1.21


def test_the_bounds_in_the_docstring_hold():
    values = torch.logspace(-5, 0, 100_000, dtype=torch.float64)
    ends = values.clone()
    for _ in range(5):
        ends = 3.4445 * ends - 4.7750 * ends**3 + 2.0315 * ends**5
    near = values > 0.0016
    assert ends[near].min() > 0.68
    assert ends[near].max() < 1.21
    assert (ends[~near] / values[~near]).max() <= 485


def test_the_dtype_is_kept_and_zeros_give_zeros():
    for dtype in (torch.bfloat16, torch.float32):
        result = newton_schulz(torch.zeros(3, 4, 5, dtype=dtype))
        assert result.dtype == dtype
        assert not result.any()


def best_quintic(low: float, high: float) -> tuple[np.ndarray, float]:
    """The a, b, c with the smallest largest error |1 - (a s + b s^3 + c s^5)| on [low, high].

    At the best one the error is equally large, with alternating signs, at both ends and at the two
    extrema between them. Remez 1934: solve for four points, move the inner ones to the extrema.
    """
    inner = np.array([(3 * low + high) / 4, (low + 3 * high) / 4])
    a = b = c = error = 0.0
    for _ in range(100):
        s = np.array([low, *inner, high])
        equations = np.stack([s, s**3, s**5, [1, -1, 1, -1]], axis=1)
        a, b, c, error = np.linalg.solve(equations, np.ones(4))
        # a + 3 b s^2 + 5 c s^4 = 0
        inner = np.sqrt(np.sort(np.roots([5 * c, 3 * b, a]).real))
    return np.array([a, b, c]), abs(error)


def test_each_polynomial_is_the_best_for_what_the_one_before_it_leaves():
    low, high = 0.01, 1.0
    bands = []
    for polynomial in POLAR_EXPRESS:
        best, error = best_quintic(low, high)
        np.testing.assert_allclose(polynomial, best, atol=6e-5)
        low, high = 1 - error, 1 + error
        bands.append((round(low, 2), round(high, 2)))
    assert bands == [(0.08, 1.92), (0.29, 1.71), (0.73, 1.27)]  # as the module says


def test_three_polynomials_bring_singular_values_as_close_to_1_as_five_steps():
    values = torch.logspace(-5, 0, 100_000, dtype=torch.float64)
    ends = values.clone()
    for a, b, c in POLAR_EXPRESS:
        ends = a * ends + b * ends**3 + c * ends**5
    near = values > 0.01
    assert [round(end.item(), 2) for end in ends[near].aminmax()] == [0.73, 1.27]
    assert (ends / values).max() <= 79


@pytest.mark.parametrize("shape", [(8, 8), (32, 8), (3, 8, 32)])
def test_orthogonalize_changes_only_the_singular_values(shape):
    update = torch.randn(shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(update, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for a, b, c in POLAR_EXPRESS:
        s = a * s + b * s**3 + c * s**5
    expected = u @ torch.diag_embed(s) @ vh
    torch.testing.assert_close(orthogonalize(update), expected, rtol=1e-9, atol=1e-9)
