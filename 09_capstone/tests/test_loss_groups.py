"""loss_groups.py: the means are those of each group, computed one by one."""

import pytest
import torch

from loss_groups import loss_by_group
from utils.shape_checker import ShapeError


@pytest.mark.parametrize("shape", [(40,), (5, 8), (2, 3, 4)])
def test_each_group_has_the_mean_of_its_losses(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    losses, groups = torch.rand(shape), torch.randint(-1, 6, shape)
    expected = torch.stack([losses[groups == group].mean() for group in range(8)])
    torch.testing.assert_close(loss_by_group(losses, groups, 8), expected, equal_nan=True)


def test_the_means_weighted_by_their_counts_are_the_mean_of_all() -> None:
    losses = torch.rand(30)
    groups = torch.arange(30) % 7
    means, counts = loss_by_group(losses, groups, 7), torch.bincount(groups)
    torch.testing.assert_close((means * counts).sum() / 30, losses.mean())


def test_groups_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError):
        loss_by_group(torch.rand(4, 5), torch.zeros(5, dtype=torch.int64), 1)
