"""Four ways to give a transformer the position of each token; attention alone ignores order.

    sinusoidal   a fixed wave per feature, added to the embeddings       Vaswani et al. 2017, 3.5
    learned      one learned vector per position, also added             Gehring et al. 2017, 3.1
    rotary       queries and keys are rotated by an angle proportional   Su et al. 2021 (RoPE)
                 to the position; scores then depend on distance alone
    ALiBi        a penalty on the scores, proportional to the distance   Press et al. 2022, 3

`positions` are integers of any shape; during cached generation each row of a batch has its own.

Dimensions: B batch, T positions, d_model features, d_head features per head.
"""

import math

import torch
from torch import Tensor, nn

from utils.errors import UsageError, run_program


def sinusoidal_encoding(max_seq_len: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """The table of waves (max_seq_len, d_model): sines in the even features, cosines in the odd.

    encoding[t, 2i] = sin(t / base^(2i / d_model)); encoding[t, 2i + 1] is the cosine of that angle.
    """
    positions = torch.arange(max_seq_len, dtype=torch.float32)  # t
    # One frequency per pair of features, base^(-2i / d_model): from 1 down to about 1 / base.
    frequencies = base ** (-torch.arange(0, d_model, 2, dtype=torch.float32) / d_model)
    angles = positions[:, None] * frequencies  # (max_seq_len, ceil(d_model / 2))
    # sin and cos side by side, then flattened: sin, cos, sin, cos, ...
    encoding = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    return encoding[:, :d_model]  # an odd d_model drops the last cosine


class SinusoidalPositions(nn.Module):
    """The sinusoidal table, looked up by position; no parameters, nothing in the checkpoint."""

    table: Tensor

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        super().__init__()
        # A buffer follows the module to its device; not persistent: it can be computed again.
        self.register_buffer("table", sinusoidal_encoding(max_seq_len, d_model), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) integers -> (..., d_model)."""
        return self.table[positions]  # (..., d_model)


class LearnedPositions(nn.Module):
    """One learned vector per position; there is none beyond max_seq_len."""

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_seq_len, d_model))

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) integers in [0, max_seq_len) -> (..., d_model)."""
        return self.weight[positions]  # (..., d_model)


def rotary_angles(positions: Tensor, d_head: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each (..., d_head / 2), of the rotation angle of each pair of features.

    Pair i rotates by position * base^(-2i / d_head): the first pairs fast, the last ones slowly.
    """
    if d_head % 2 != 0:
        raise UsageError(f"rotary positions rotate pairs of features: d_head {d_head} must be even")
    pairs = torch.arange(0, d_head, 2, dtype=torch.float32, device=positions.device)  # 2i
    angles = positions[..., None] * base ** (-pairs / d_head)  # (..., d_head / 2), in radians
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x[i], x[i + d_head / 2]) of a query or key by its angle.

    x (B, n_heads, T, d_head); cos and sin broadcast to (B, n_heads, T, d_head / 2). Returns the
    shape and dtype of x. The pairing is that of Llama in Hugging Face; Su et al. pair neighbours,
    x[2i] and x[2i + 1].
    """
    first, second = x.chunk(2, dim=-1)  # each (B, n_heads, T, d_head / 2)
    # The 2 x 2 rotation matrix [[cos, -sin], [sin, cos]], applied to every pair at once.
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return rotated.to(x.dtype)  # float32 angles would promote bfloat16


def alibi_slopes(n_heads: int) -> Tensor:
    """The penalty per position of distance in each head, (n_heads,).

    For n heads, n a power of two, the slopes are 2^(-8/n), 2^(-16/n), ..., 2^(-8). For other n, the
    authors' code takes the slopes of the next smaller power of two, and for the remaining heads
    every other slope of the next larger one.
    """
    power = 2 ** math.floor(math.log2(n_heads))  # the largest power of two up to n_heads
    exponents = [8 * (head + 1) / power for head in range(power)]
    exponents += [4 * (2 * head + 1) / power for head in range(n_heads - power)]  # 1st, 3rd, 5th
    return torch.tensor([2.0**-exponent for exponent in exponents])


def alibi_bias(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """A floating mask to add to the scores: minus slope times distance.

    slopes (n_heads,), query_positions (B, T_q), key_positions (T_k,); returns
    (B, n_heads, T_q, T_k).
    """
    distance = (query_positions[:, :, None] - key_positions).abs()  # |i - j|  (B, T_q, T_k)
    return -slopes[:, None, None] * distance[:, None]  # (B, n_heads, T_q, T_k)


def main() -> None:
    """Print that rotary scores depend on distance alone, and what ALiBi adds to the scores."""
    torch.manual_seed(0)
    q = torch.randn(1, 1, 1, 32)  # (B, n_heads, T, d_head)
    k = torch.randn(1, 1, 1, 32)
    print("Rotary: the score of the same query and key, three positions apart:")
    for start in (0, 10, 100):
        rotated_q = apply_rotary(q, *rotary_angles(torch.tensor([start + 3]), 32))
        rotated_k = apply_rotary(k, *rotary_angles(torch.tensor([start]), 32))
        print(f"  positions {start + 3:>3} and {start:>3}: {(rotated_q * rotated_k).sum():.4f}")
    print("\nALiBi: what four heads add to the score of a key 0, 1, 2, ... positions back:")
    bias = alibi_bias(alibi_slopes(4), torch.tensor([[5]]), torch.arange(6))
    for head, row in enumerate(bias[0, :, 0].flip(-1)):
        print(f"  head {head}: " + " ".join(f"{value:7.3f}" for value in row))


if __name__ == "__main__":
    run_program(main)
