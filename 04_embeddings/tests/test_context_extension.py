"""Stretched RoPE: which angles stay, which shrink, and by how much."""

import pytest
import torch

from context_extension import interpolated_angles, ntk_base
from positional_embeddings import rotary_angles
from utils.errors import UsageError


def test_a_stretched_position_has_the_angles_of_training():
    stretched = interpolated_angles(4 * torch.arange(10), 8, factor=4)
    torch.testing.assert_close(stretched, rotary_angles(torch.arange(10), 8))


def test_no_pair_turns_further_than_in_training():
    cos, sin = interpolated_angles(torch.arange(253), 8, factor=4)
    slowest = torch.atan2(sin[:, -1], cos[:, -1])
    assert slowest.max() <= 63 * 10_000 ** (-6 / 8) + 1e-6


def test_a_factor_below_1_is_rejected():
    with pytest.raises(UsageError, match=r"factor 0\.5 is below 1"):
        interpolated_angles(torch.arange(3), 8, 0.5)


@pytest.mark.parametrize(("base", "d_head", "factor"), [(10_000.0, 16, 4.0), (500.0, 6, 2.5)])
def test_the_last_pair_slows_down_by_the_factor_and_the_first_not_at_all(base, d_head, factor):
    new = ntk_base(base, d_head, factor)
    exponents = [-2 * i / d_head for i in range(d_head // 2)]
    ratios = [base**exponent / new**exponent for exponent in exponents]
    assert ratios[0] == 1 and ratios[-1] == pytest.approx(factor)
    assert ratios == sorted(ratios)


def test_one_pair_cannot_be_slowed_down():
    with pytest.raises(UsageError, match="d_head 2 has one pair"):
        ntk_base(10_000.0, 2, 4.0)
