"""Newton-Schulz iteration: make a matrix orthogonal with nothing but matrix products.

Every matrix has a singular value decomposition X = U S V^T: it rotates, stretches by the singular
values on the diagonal of S, and rotates again. The iteration pushes all singular values towards 1
and does not change U and V, so X approaches U V^T. An odd polynomial of X does that, since

    X <- a X + b (X X^T) X + c (X X^T)^2 X      maps each singular value s to a s + b s^3 + c s^5

A decomposition would give U V^T exactly, but matrix products are what GPUs and CPUs are fastest at,
and Muon (optimizers.py) needs no more than an approximation. Jordan et al. 2024,
kellerjordan.github.io/posts/muon; for the iteration itself, Higham 2008, "Functions of Matrices",
chapter 8; for one polynomial per step, Amsel et al. 2025, "The Polar Express".

Dimensions: m x n a matrix, any axes before them.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from utils.errors import run_program

# Jordan et al. chose these to lift small singular values quickly: near 0, s grows by a = 3.4445 per
# step. The price is that the values do not converge to 1 but end somewhere near it.
Polynomial = tuple[float, float, float]  # a, b, c
COEFFICIENTS: Polynomial = (3.4445, -4.7750, 2.0315)

# Three polynomials do what five of those do, if each is the best for what the one before it leaves:
# of all (a, b, c), the one that brings values from 0.01 to 1 closest to 1; then the values between
# 0.08 and 1.92 that come out; then those between 0.29 and 1.71. They end between 0.73 and 1.27.
POLAR_EXPRESS: tuple[Polynomial, ...] = (
    (8.0934, -23.6204, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)

# By how much an (m, n) matrix scales Muon's learning rate. U V^T has the same singular values for
# every shape, so a larger matrix has smaller entries. The second rule makes their root mean square
# 0.2, as AdamW's steps usually have (Liu et al. 2025, "Muon is scalable for LLM training", 2.2).
SCALES: dict[str, Callable[[int, int], float]] = {
    "original": lambda m, n: math.sqrt(max(1.0, m / n)),
    "match_rms_adamw": lambda m, n: 0.2 * math.sqrt(max(m, n)),
}


def newton_schulz(update: Tensor, steps: int = 5) -> Tensor:
    """Push every singular value of `update` (..., m, n) close to 1; its directions stay.

    After five steps, a singular value that was above 0.0016 of the Frobenius norm lies between 0.68
    and 1.21; a smaller one has grown up to 485-fold.
    """
    return orthogonalize(update, [COEFFICIENTS] * steps)


def orthogonalize(update: Tensor, polynomials: Sequence[Polynomial] = POLAR_EXPRESS) -> Tensor:
    """`newton_schulz` with a polynomial for each step: update (..., m, n) -> the same shape.

    After the three of POLAR_EXPRESS, a singular value that was above 0.01 of the Frobenius norm
    lies between 0.73 and 1.27; a smaller one has grown up to 79-fold.
    """
    if update.size(-2) > update.size(-1):
        return orthogonalize(update.mT, polynomials).mT  # X X^T is the smaller of the two products
    x = update.reshape(-1, *update.shape[-2:])  # (n_matrices, m, n)
    # The Frobenius norm is at least the largest singular value: divided by it, all are at most 1.
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for a, b, c in polynomials:
        gram = x @ x.mT  # X X^T (n_matrices, m, m)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b X X^T + c (X X^T)^2
        x = torch.baddbmm(x, polynomial, x, beta=a)  # a X + (b X X^T + c (X X^T)^2) X
    return x.reshape(update.shape)


def main() -> None:
    """Show the singular values of a diagonal matrix after each step."""
    matrix = torch.diag(torch.tensor([1.0, 0.3, 0.1, 0.01, 0.001]))
    print("step  singular values")
    for steps in range(6):
        values = torch.linalg.svdvals(newton_schulz(matrix, steps))
        print(f"{steps:4}" + "".join(f"{value:9.4f}" for value in values))
    print("three steps with a polynomial each")
    values = torch.linalg.svdvals(orthogonalize(matrix))
    print("   3" + "".join(f"{value:9.4f}" for value in values))


if __name__ == "__main__":
    run_program(main)
