"""Newton-Schulz iteration against its polynomial, applied to the singular values."""

import pytest
import torch
from torch import Tensor

from newton_schulz import newton_schulz


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
