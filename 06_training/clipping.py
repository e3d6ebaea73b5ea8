"""Gradient clipping: one bad batch must not move the weights far.

    norm = sqrt(sum of all squared gradients)        over all parameters of the model together
    if norm > max_norm:  gradient = gradient * max_norm / norm

All gradients shrink by the same factor, so the step keeps its direction (Pascanu et al. 2013,
"On the difficulty of training recurrent neural networks", section 3.2).
"""

import math
from collections.abc import Iterable

import torch
from torch import nn

from utils.errors import CourseError, run_program


def clip_gradients_(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients by one factor so that their joint norm is at most `max_norm`.

    A `max_norm` of 0 means no limit. Returns the norm before clipping.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    norms = [gradient.norm() for gradient in gradients]  # one norm per parameter
    norm = torch.stack(norms).norm().item()  # the norm of the norms is the norm of everything
    if 0 < max_norm < norm:
        scale = max_norm / norm  # below 1, and the same for all: the direction stays
        for gradient in gradients:
            gradient.mul_(scale)
    return norm


def check_finite(step: int, loss: float, norm: float) -> None:
    """Raise CourseError if the loss or the gradient norm of a step is nan or infinite."""
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            raise CourseError(
                f"step {step}: the {name} is {value}; the weights are unchanged. "
                "A smaller learning rate usually helps"
            )


def main() -> None:
    """Show a large gradient being shortened, and a small one left alone."""
    for scale in (3.0, 0.1):
        # The joint gradient is scale * (2, 1, 2), of norm scale * 3.
        weight = nn.Parameter(torch.zeros(2))
        bias = nn.Parameter(torch.zeros(1))
        weight.grad = torch.tensor([2.0, 1.0]) * scale
        bias.grad = torch.tensor([2.0]) * scale
        norm = clip_gradients_([weight, bias], max_norm=1.0)
        clipped = [round(value, 3) for value in [*weight.grad.tolist(), *bias.grad.tolist()]]
        print(f"norm {norm:.2f}, clipped to 1.0: {clipped}")


if __name__ == "__main__":
    run_program(main)
