"""T5's relative positions: a learned number per distance and head, added to the scores.

    score(i, j) = q_i k_j / sqrt(d_head) + weight[bucket(i - j), head]     Raffel et al. 2020, 2.1

Small distances have a bucket each; larger ones share buckets whose widths grow like the distance
itself, and the last bucket holds everything from max_distance on. A table of 32 rows is enough for
any length. This is the causal form, in which keys never come after their query.

Dimensions: B batch, T_q and T_k queries and keys.
"""

import math

import torch
from torch import Tensor, nn

from utils.errors import UsageError, run_program


def relative_position_bucket(
    distance: Tensor, n_buckets: int = 32, max_distance: int = 128
) -> Tensor:
    """The bucket, from 0 to n_buckets - 1, of each distance i - j; the shape of distance.

    With n_exact = n_buckets // 2, distances below n_exact are buckets of their own. From there the
    buckets are equally wide on a logarithmic scale that ends at max_distance. A negative distance,
    a key after its query, counts as 0.
    """
    n_exact = n_buckets // 2
    if max_distance <= n_exact:
        raise UsageError(f"max_distance {max_distance} must be above n_buckets // 2 = {n_exact}")
    distance = distance.clamp(min=0)
    # How far along the logarithmic scale, from 0 at n_exact to 1 at max_distance.
    share = torch.log(distance.clamp(min=1) / n_exact) / math.log(max_distance / n_exact)
    far = n_exact + (share * (n_buckets - n_exact)).long()  # long() rounds down where share >= 0
    return torch.where(distance < n_exact, distance, far.clamp(max=n_buckets - 1))


class RelativeBias(nn.Module):
    """The learned numbers, `weight` (n_buckets, n_heads); in T5 all layers share one table."""

    def __init__(self, n_heads: int, n_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.weight = nn.Parameter(torch.zeros(n_buckets, n_heads))  # zeros: at first no preference

    def forward(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """A floating mask (B, n_heads, T_q, T_k), like that of alibi_bias.

        query_positions (B, T_q) and key_positions (T_k,) are integers.
        """
        distance = query_positions[:, :, None] - key_positions  # i - j  (B, T_q, T_k)
        bucket = relative_position_bucket(distance, len(self.weight), self.max_distance)
        return self.weight[bucket].movedim(-1, 1)  # (B, n_heads, T_q, T_k)


def main() -> None:
    """Print which distances share a bucket."""
    distance = torch.arange(150)
    bucket = relative_position_bucket(distance, n_buckets=16, max_distance=128)
    print("16 buckets up to a distance of 128:")
    for number in range(16):
        members = distance[bucket == number].tolist()
        last = f" to {members[-1]}" if len(members) > 1 else ""
        print(f"  bucket {number:>2}: distance {members[0]}{last}")


if __name__ == "__main__":
    run_program(main)
