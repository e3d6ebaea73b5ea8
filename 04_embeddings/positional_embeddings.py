"""Four ways to tell a transformer where each token stands; attention alone cannot see order.

    sinusoidal   a fixed wave for each feature, added to the tokens     Vaswani et al. 2017, 3.5
    learned      a learned row for each position, added to the tokens   Gehring et al. 2017
    rotary       queries and keys turn by an angle that grows with the  Su et al. 2021 (RoPE)
                 position: their product depends on the distance only
    ALiBi        a penalty on the scores that grows with the distance   Press et al. 2022

`positions` are integers of any shape; during cached generation each row of a batch has its own.

Dimensions: B batch, T positions, d_model features, d_head of them in a head.
"""

import math

import torch
from torch import Tensor, nn

from utils.errors import UsageError, run_program


def sinusoidal_encoding(max_seq_len: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """The table of waves (max_seq_len, d_model): sines in the even features, cosines in the odd.

    encoding[t, 2i] = sin(t / base^(2i / d_model)); encoding[t, 2i + 1] is the cosine of that angle.
    """
    positions = torch.arange(max_seq_len, dtype=torch.float32)
    frequencies = base ** (-torch.arange(0, d_model, 2, dtype=torch.float32) / d_model)
    angles = positions[:, None] * frequencies  # (max_seq_len, ceil(d_model / 2))
    encoding = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    return encoding[:, :d_model]


class SinusoidalPositions(nn.Module):
    """The sinusoidal table, looked up by position. Nothing to learn and nothing to save."""

    table: Tensor

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoidal_encoding(max_seq_len, d_model), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) integers -> (..., d_model)."""
        return self.table[positions]


class LearnedPositions(nn.Module):
    """A learned row for each position: simple, and blind beyond max_seq_len."""

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_seq_len, d_model))

    def forward(self, positions: Tensor) -> Tensor:
        """positions (...) integers in [0, max_seq_len) -> (..., d_model)."""
        return self.weight[positions]


def rotary_angles(positions: Tensor, d_head: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (..., d_head / 2), of the angle by which each pair of features turns.

    Pair i turns by position * base^(-2i / d_head): the first pairs turn fast, the last ones slowly.
    """
    if d_head % 2 != 0:
        raise UsageError(f"rotary positions turn pairs of features: d_head {d_head} must be even")
    pairs = torch.arange(0, d_head, 2, dtype=torch.float32, device=positions.device)
    angles = positions[..., None] * base ** (-pairs / d_head)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + d_head / 2]) of a query or key by its angle.

    x (B, n_heads, T, d_head); cos and sin broadcast to (B, n_heads, T, d_head / 2); returns x's
    shape and dtype.
    """
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)


def alibi_slopes(n_heads: int) -> Tensor:
    """How steeply each head's attention falls with distance, (n_heads,).

    For a power of two the slopes are 2^(-8/n), 2^(-16/n), ..., 2^(-8). Otherwise the rest are every
    other slope of twice as many heads, as in the authors' code.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    exponents = [8 * (head + 1) / power for head in range(power)]
    exponents += [4 * (2 * head + 1) / power for head in range(n_heads - power)]
    return torch.tensor([2.0**-exponent for exponent in exponents])


def alibi_bias(slopes: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """What is added to the scores: minus slope times distance.

    slopes (n_heads,), query_positions (B, T_q), key_positions (T_k,); returns
    (B, n_heads, T_q, T_k).
    """
    distance = (query_positions[:, :, None] - key_positions).abs()  # (B, T_q, T_k)
    return -slopes[:, None, None] * distance[:, None]


def main() -> None:
    """Show that rotary products know the distance alone, and what ALiBi adds to the scores."""
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 32), torch.randn(1, 1, 1, 32)
    print("Rotary: at the same distance, a query and a key have the same product anywhere.")
    for start in (0, 10, 100):
        turned_q = apply_rotary(q, *rotary_angles(torch.tensor([start + 3]), 32))
        turned_k = apply_rotary(k, *rotary_angles(torch.tensor([start]), 32))
        print(f"  positions {start + 3:>3} and {start:>3}: {(turned_q * turned_k).sum():.4f}")
    print("\nALiBi: what four heads add to the score of a key 0, 1, 2, ... positions back.")
    bias = alibi_bias(alibi_slopes(4), torch.tensor([[5]]), torch.arange(6))
    for head, row in enumerate(bias[0, :, 0].flip(-1)):
        print(f"  head {head}: " + " ".join(f"{value:7.3f}" for value in row))


if __name__ == "__main__":
    run_program(main)
