"""Position encodings against the formulas of their papers, in NumPy and complex numbers."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from positional_embeddings import (
    LearnedPositions,
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    apply_rotary,
    rotary_angles,
    sinusoidal_encoding,
)
from utils.errors import UsageError

B, H, T = 3, 2, 5


# --- added to the embeddings ---


def numpy_encoding(max_seq_len: int, d_model: int, base: float = 10_000.0) -> NDArray[np.float64]:
    """Vaswani et al. 2017, section 3.5, one entry at a time."""
    table = np.zeros((max_seq_len, d_model))
    for t in range(max_seq_len):
        for j in range(d_model):
            angle = t / base ** (2 * (j // 2) / d_model)
            table[t, j] = np.sin(angle) if j % 2 == 0 else np.cos(angle)
    return table


@pytest.mark.parametrize(("T", "d_model", "base"), [(1, 6, 1e4), (64, 6, 1e4), (40, 7, 100.0)])
def test_the_sinusoidal_table_is_that_of_the_paper(T, d_model, base):
    ours = sinusoidal_encoding(T, d_model, base)
    assert ours.shape == (T, d_model)
    np.testing.assert_allclose(ours.numpy(), numpy_encoding(T, d_model, base), atol=1e-5)


def test_a_shift_of_position_rotates_each_pair_by_a_constant_angle():
    """The paper's argument for sinusoids: encoding(t + 3) is a linear function of encoding(t)."""
    waves = sinusoidal_encoding(50, 8).view(50, 4, 2)
    phases = torch.view_as_complex(waves.flip(-1).contiguous())  # cos + i sin
    rotations = phases[3:] / phases[:-3]
    torch.testing.assert_close(rotations, rotations[:1].expand_as(rotations), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", [SinusoidalPositions, LearnedPositions])
def test_positions_may_have_any_shape(scheme):
    layer = scheme(max_seq_len=10, d_model=6)
    table = layer(torch.arange(10))
    positions = torch.tensor([[0, 1, 2], [7, 8, 9]])
    assert torch.equal(layer(positions)[1, 2], table[9])
    assert layer(positions).shape == (2, 3, 6)
    with pytest.raises(IndexError):
        layer(torch.tensor([10]))


def test_the_sinusoidal_table_is_neither_a_parameter_nor_saved():
    layer = SinusoidalPositions(10, 6)
    np.testing.assert_allclose(layer(torch.arange(10)).numpy(), numpy_encoding(10, 6), atol=1e-5)
    assert not layer.state_dict()
    assert not list(layer.parameters())


def test_only_the_positions_used_get_a_gradient():
    layer = LearnedPositions(10, 6)
    layer(torch.tensor([[2, 3], [3, 4]])).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[:, 0].tolist() == [0, 0, 1, 2, 1, 0, 0, 0, 0, 0]


# --- rotary ---


def complex_rotation(x: Tensor, positions: Tensor, base: float = 10_000.0) -> NDArray[np.float64]:
    """Llama's layout in complex numbers: features i and i + d_head / 2 form one number."""
    half = x.size(-1) // 2
    frequencies = base ** (-np.arange(half) / half)
    rotations = np.exp(1j * positions.numpy()[..., None] * frequencies)  # (..., T, d_head / 2)
    numbers = x.detach().numpy()[..., :half] + 1j * x.detach().numpy()[..., half:]
    rotated = numbers * rotations
    return np.concatenate([rotated.real, rotated.imag], axis=-1)


def rotate_half(x: Tensor) -> Tensor:
    """The helper of the Llama code: (a, b) becomes (-b, a)."""
    first, second = x.split(x.size(-1) // 2, dim=-1)
    return torch.cat((-second, first), dim=-1)


@pytest.mark.parametrize("d_head", [2, 4, 6])
@pytest.mark.parametrize("base", [1e4, 50.0])
def test_rotary_equals_complex_multiplication(d_head, base):
    x = torch.randn(B, H, T, d_head)
    positions = torch.tensor([0, 1, 5, 17, 63])
    ours = apply_rotary(x, *rotary_angles(positions, d_head, base))
    np.testing.assert_allclose(ours.numpy(), complex_rotation(x, positions, base), atol=1e-5)


def test_rotary_and_its_gradient_equal_the_llama_code():
    x = torch.randn(B, H, T, 6, dtype=torch.float64, requires_grad=True)
    angles = torch.randn(T, 3, dtype=torch.float64)
    cos, sin = angles.cos(), angles.sin()
    ours = apply_rotary(x, cos, sin)
    theirs = x * torch.cat((cos, cos), dim=-1) + rotate_half(x) * torch.cat((sin, sin), dim=-1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(x)
    (our_gradient,) = torch.autograd.grad((ours * weight).sum(), x)
    (their_gradient,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-12, atol=1e-12)


def test_rotary_scores_depend_on_distance_alone():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(query_position: int, key_position: int) -> float:
        rotated_q = apply_rotary(q, *rotary_angles(torch.tensor([query_position]), 8))
        rotated_k = apply_rotary(k, *rotary_angles(torch.tensor([key_position]), 8))
        return (rotated_q * rotated_k).sum().item()

    assert score(7, 3) == pytest.approx(score(57, 53), abs=1e-4)
    assert score(4, 0) == pytest.approx(score(57, 53), abs=1e-4)
    assert score(4, 0) != pytest.approx(score(0, 4), abs=1e-2)
    assert score(4, 0) != pytest.approx(score(5, 0), abs=1e-2)


def test_rotation_preserves_norms_and_is_the_identity_at_position_0():
    x = torch.randn(B, H, T, 6)
    rotated = apply_rotary(x, *rotary_angles(torch.arange(T), 6))
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotated[..., 0, :], x[..., 0, :])


def test_each_row_of_a_batch_may_have_its_own_positions():
    x = torch.randn(B, H, 2, 6)
    positions = torch.tensor([[0, 1], [4, 5], [9, 10]])
    cos, sin = rotary_angles(positions, 6)  # (B, T, d_head / 2)
    together = apply_rotary(x, cos[:, None], sin[:, None])
    for row in range(B):
        alone = apply_rotary(x[row : row + 1], *rotary_angles(positions[row], 6))
        assert torch.equal(together[row : row + 1], alone)


def test_rotary_preserves_the_dtype():
    x = torch.randn(B, H, T, 6).bfloat16()
    rotated = apply_rotary(x, *rotary_angles(torch.arange(T), 6))
    assert rotated.dtype == torch.bfloat16


def test_an_odd_d_head_is_rejected():
    with pytest.raises(UsageError, match="d_head 5 must be even"):
        rotary_angles(torch.arange(T), 5)


# --- ALiBi ---

# For n heads, n a power of two, the slopes are 2^(-8/n), 2^(-16/n), ..., 2^-8. Other n use those
# of the next smaller power of two, then the 1st, 3rd, 5th ... slope of the next larger one.
SLOPE_EXPONENTS = {
    1: [8],
    2: [4, 8],
    3: [4, 8, 2],
    4: [2, 4, 6, 8],
    5: [2, 4, 6, 8, 1],
    6: [2, 4, 6, 8, 1, 3],
    7: [2, 4, 6, 8, 1, 3, 5],
    8: [1, 2, 3, 4, 5, 6, 7, 8],
    9: [1, 2, 3, 4, 5, 6, 7, 8, 0.5],
    10: [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5],
    11: [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5],
    12: [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5],
}


@pytest.mark.parametrize("n_heads", SLOPE_EXPONENTS)
def test_alibi_slopes_are_those_of_the_authors(n_heads):
    expected = [2.0**-exponent for exponent in SLOPE_EXPONENTS[n_heads]]
    torch.testing.assert_close(alibi_slopes(n_heads), torch.tensor(expected))


def test_alibi_bias_is_minus_slope_times_distance():
    slopes = alibi_slopes(H)
    query_positions = torch.tensor([[3, 4], [0, 1], [7, 8]])
    bias = alibi_bias(slopes, query_positions, torch.arange(9))
    assert bias.shape == (B, H, 2, 9)
    for b, h, i, j in np.ndindex(B, H, 2, 9):
        expected = -slopes[h].item() * abs(query_positions[b, i].item() - j)
        assert bias[b, h, i, j].item() == pytest.approx(expected)
