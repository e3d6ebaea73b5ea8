"""Longer contexts for a model with RoPE, without training it from scratch again.

    interpolation    positions are divided by a factor, so that all angles
                     stay within those of training                            Chen et al. 2023
    a larger base    fast pairs keep their speed, the slowest pair slows
                     down by the factor, the others by something in between   "NTK-aware", 2023

After interpolation neighbours are closer together than in training; a little fine-tuning gets the
model used to that. Dimensions: d_head features per head, d_head / 2 pairs of them.
"""

import torch
from torch import Tensor

from positional_embeddings import rotary_angles
from utils.errors import UsageError, run_program


def interpolated_angles(
    positions: Tensor, d_head: int, factor: float, base: float = 10_000.0
) -> tuple[Tensor, Tensor]:
    """Cosine and sine as in rotary_angles, with positions squeezed by a factor of at least 1.

    A context `factor` times as long then turns each pair about as far as training did.
    """
    if factor < 1:
        raise UsageError(f"factor {factor} is below 1: it says how many times longer texts become")
    # angle = (position / factor) * speed: position 4T is turned as far as T was in training.
    return rotary_angles(positions / factor, d_head, base)


def ntk_base(base: float, d_head: int, factor: float) -> float:
    """The base with which the slowest of the pairs turns `factor` times slower.

    Pair i turns by base^(-2i / d_head) per position: pair 0 by 1 whatever the base, the slowest by
    base^(-(d_head - 2) / d_head).
    """
    if d_head <= 2:
        raise UsageError(
            f"d_head {d_head} has one pair, whose speed does not depend on the base; use 4 or more"
        )
    # Wanted: new^(-(d_head - 2) / d_head) = base^(-(d_head - 2) / d_head) / factor. Solved for new:
    return base * factor ** (d_head / (d_head - 2))  # pair 0 turns by 1 as before


def main() -> None:
    """Print how far each pair turns over a text four times as long as in training."""
    trained, factor, d_head, step = 64, 4, 8, torch.tensor(1)
    # The last position of a text four times as long, and the angles there: position * speed.
    plain, last = speeds(rotary_angles(step, d_head)), factor * trained - 1
    larger = rotary_angles(step, d_head, ntk_base(10_000.0, d_head, factor))
    angles = {
        "trained, 64 tokens": plain * (trained - 1),
        "256 tokens": plain * last,
        "256, interpolated": speeds(interpolated_angles(step, d_head, factor)) * last,
        "256, larger base": speeds(larger) * last,
    }
    print("How far each pair turns from the first token to the last, in turns:")
    for name, values in angles.items():
        # divided by 2 pi: turns, not radians
        print(f"{name:>20} " + " ".join(f"{value / 6.283185:8.3f}" for value in values))


def speeds(angles: tuple[Tensor, Tensor]) -> Tensor:
    """Radians per position (d_head / 2,), from cosine and sine of the angles at position 1."""
    cos, sin = angles
    return torch.atan2(sin, cos)  # at most 1 radian, so no full turn is lost


if __name__ == "__main__":
    run_program(main)
