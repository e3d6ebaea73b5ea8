"""The two layouts of RoPE: complex numbers, Hugging Face's permutation of Llama, equal scores."""

import numpy as np
import pytest
import torch
from torch import Tensor

from positional_embeddings import apply_rotary, rotary_angles
from rotary_layouts import apply_rotary_interleaved, halves_to_interleaved, interleaved_to_halves
from utils.errors import UsageError

B, H, T = 3, 2, 5


def test_interleaved_rotary_equals_complex_multiplication():
    x, positions = torch.randn(B, H, T, 6), torch.tensor([0, 1, 5, 17, 63])
    ours = apply_rotary_interleaved(x, *rotary_angles(positions, 6))
    speeds = 10_000.0 ** (-np.arange(3) / 3)
    turns = np.exp(1j * positions.numpy()[:, None] * speeds)
    numbers = (x.numpy()[..., 0::2] + 1j * x.numpy()[..., 1::2]) * turns
    truth = np.stack([numbers.real, numbers.imag], axis=-1).reshape(x.shape)
    np.testing.assert_allclose(ours.numpy(), truth, atol=1e-5)


def test_interleaved_rotary_preserves_the_dtype():
    x = torch.randn(B, H, T, 6).bfloat16()
    assert apply_rotary_interleaved(x, *rotary_angles(torch.arange(T), 6)).dtype == torch.bfloat16


def hugging_face_permute(weight: Tensor, n_heads: int, rows: int, columns: int) -> Tensor:
    """The permutation with which Llama's checkpoints were converted."""
    pairs = weight.view(n_heads, rows // n_heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


@pytest.mark.parametrize("n_heads", [1, 2, 3])
def test_the_permutation_is_that_of_the_conversion_script(n_heads):
    weight = torch.randn(n_heads * 6, 10)
    expected = hugging_face_permute(weight, n_heads, n_heads * 6, 10)
    assert torch.equal(interleaved_to_halves(weight, n_heads), expected)


@pytest.mark.parametrize("shape", [(12, 10), (12,)])
@pytest.mark.parametrize("n_heads", [1, 2, 3])
def test_there_and_back_is_the_identity(n_heads, shape):
    weight = torch.randn(shape)
    assert torch.equal(
        halves_to_interleaved(interleaved_to_halves(weight, n_heads), n_heads), weight
    )
    assert torch.equal(
        interleaved_to_halves(halves_to_interleaved(weight, n_heads), n_heads), weight
    )


def test_scores_are_equal_in_both_layouts_with_fewer_key_heads():
    x = torch.randn(B, T, 10)
    w_q, w_k = torch.randn(4 * 6, 10), torch.randn(2 * 6, 10)
    cos, sin = rotary_angles(torch.arange(T), 6)

    def heads(weight: Tensor, n_heads: int) -> Tensor:
        return (x @ weight.T).view(B, T, n_heads, 6).transpose(1, 2)

    q = apply_rotary_interleaved(heads(w_q, 4), cos, sin)
    k = apply_rotary_interleaved(heads(w_k, 2), cos, sin).repeat_interleave(2, dim=1)
    q_halves = apply_rotary(heads(interleaved_to_halves(w_q, 4), 4), cos, sin)
    k_halves = apply_rotary(heads(interleaved_to_halves(w_k, 2), 2), cos, sin)
    k_halves = k_halves.repeat_interleave(2, dim=1)
    torch.testing.assert_close(q_halves @ k_halves.mT, q @ k.mT, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("move", [interleaved_to_halves, halves_to_interleaved])
def test_rows_that_are_no_heads_of_pairs_are_rejected(move):
    with pytest.raises(UsageError, match="12 rows can't be 5 heads of pairs"):
        move(torch.randn(12, 3), 5)
