"""Gradient clipping: one wild batch must not throw the weights far.

    norm = sqrt(sum of all squared gradients)        over every parameter of the model together
    if norm > max_norm:  gradient = gradient * max_norm / norm

All gradients shrink by one factor, so the step keeps its direction (Pascanu et al. 2013).
"""

from collections.abc import Iterable

import torch
from torch import nn

from utils.errors import run_program


def clip_gradients_(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients together so that their joint norm is at most `max_norm`; 0 is no limit.

    Returns the norm before. The direction stays: one wild batch cannot throw the weights far.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
    if 0 < max_norm < norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    return norm


def main() -> None:
    """Show a large gradient made shorter, and a small one left alone."""
    for scale in (3.0, 0.1):
        weight, bias = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
        weight.grad, bias.grad = torch.tensor([2.0, 1.0]) * scale, torch.tensor([2.0]) * scale
        norm = clip_gradients_([weight, bias], max_norm=1.0)
        clipped = [round(value, 3) for value in [*weight.grad.tolist(), *bias.grad.tolist()]]
        print(f"norm {norm:.2f}, clipped to 1.0: {clipped}")


if __name__ == "__main__":
    run_program(main)
