"""T5's buckets against its own formula in NumPy, and the bias that is looked up with them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from relative_bias import RelativeBias, relative_position_bucket
from utils.errors import UsageError

B, H = 3, 2


def t5_bucket(relative_position: NDArray[np.int64], n_buckets: int, max_distance: int):
    """The published function, bidirectional=False; its argument is key minus query."""
    backwards = -np.minimum(relative_position, 0)
    max_exact = n_buckets // 2
    with np.errstate(divide="ignore"):
        large = max_exact + (
            np.log(backwards / max_exact)
            / np.log(max_distance / max_exact)
            * (n_buckets - max_exact)
        )
    large = np.minimum(np.where(backwards < max_exact, 0, large).astype(int), n_buckets - 1)
    return np.where(backwards < max_exact, backwards, large)


@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (16, 32), (7, 90), (2, 5)])
def test_the_buckets_are_those_of_t5(n_buckets, max_distance):
    distance = torch.arange(-20, 3 * max_distance)
    # Where the logarithm is exact (16, 32, 64, ...), float32 and float64 may round differently.
    ratio = np.log(np.maximum(distance.numpy(), 1) / (n_buckets // 2))
    steps = ratio / np.log(max_distance / (n_buckets // 2)) * (n_buckets - n_buckets // 2)
    unambiguous = torch.from_numpy(np.abs(steps - np.round(steps)) > 1e-5) | (distance < 1)
    kept = distance[unambiguous]
    truth = t5_bucket(-kept.numpy(), n_buckets, max_distance)
    assert torch.equal(
        relative_position_bucket(kept, n_buckets, max_distance), torch.from_numpy(truth)
    )


def test_buckets_never_fall_and_reach_the_last():
    bucket = relative_position_bucket(torch.arange(1000))
    assert bool((bucket.diff() >= 0).all()) and bucket.max() == 31
    assert set(bucket.tolist()) == set(range(32))


def test_max_distance_must_be_beyond_the_exact_buckets():
    with pytest.raises(UsageError, match=r"max_distance 16 must be above n_buckets // 2 = 16"):
        relative_position_bucket(torch.arange(3), 32, 16)


def test_the_bias_is_a_row_per_bucket_and_a_column_per_head():
    layer = RelativeBias(H, n_buckets=6, max_distance=20)
    torch.nn.init.normal_(layer.weight)
    queries, keys = torch.tensor([[3, 4], [0, 1], [17, 18]]), torch.arange(19)
    bias = layer(queries, keys)
    assert bias.shape == (B, H, 2, 19)
    for b, h, i, j in np.ndindex(B, H, 2, 19):
        bucket = t5_bucket(np.array(j - int(queries[b, i])), 6, 20)
        assert bias[b, h, i, j] == layer.weight[int(bucket), h]


def test_a_new_bias_prefers_nothing_and_learns_in_the_buckets_used():
    layer = RelativeBias(H, n_buckets=6, max_distance=20)
    bias = layer(torch.tensor([[2]]), torch.arange(3))
    assert not bias.any()
    bias.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[:, 0].tolist() == [1, 1, 1, 0, 0, 0]
