"""Dropout: in training, set a random share p of the features to zero.

    y = x * keep / (1 - p)      keep: for each feature, 1 with probability 1 - p and 0 with p

The division keeps the mean of every feature, so evaluation needs no correction: there y = x.
Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".

The random numbers cost more than the product. PyTorch's `nn.Dropout` draws one for each feature,
on a CPU one after another. This one cuts each 64 random bits into four numbers of 16 bits, so p is
rounded to a multiple of 1/65,536.

Dimensions: x of any shape.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import run_program

LEVELS = 1 << 16  # how many values a number of 16 bits has


class Dropout(nn.Dropout):
    """`nn.Dropout` with fewer draws on a CPU. The mask depends on PyTorch's global generator."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """x of any shape -> the same shape and dtype; in evaluation mode, x itself."""
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)  # a GPU draws in parallel
        return x * dropout_factors(x, self.p)


def dropout_factors(x: Tensor, p: float) -> Tensor:
    """keep / (1 - p) for each element of `x`: 0 for a random share p of them; dtype of `x`."""
    n_dropped = round(p * LEVELS)  # this many of the values of a random number mean "drop"
    if n_dropped == LEVELS:
        return torch.zeros_like(x)
    keep = random_levels(x.numel()).view(x.shape) >= n_dropped - LEVELS // 2
    return keep.to(x.dtype).mul_(LEVELS / (LEVELS - n_dropped))


def random_levels(n: int) -> Tensor:
    """n random integers from -32,768 to 32,767, all equally likely: (n,) int16."""
    words = torch.empty(-(-n // 4), dtype=torch.int64)  # n / 4, rounded up
    words.random_(torch.iinfo(torch.int64).min, None)  # None: up to the largest int64, inclusive
    return words.view(torch.int16)[:n]  # the same bits, read as four numbers each


def main() -> None:
    """Show one row in training, its mean over many draws, and the same row in evaluation."""
    torch.manual_seed(0)
    x = torch.arange(1.0, 9.0)
    dropout = Dropout(0.25)
    mean = torch.stack([dropout(x) for _ in range(10_000)]).mean(0)
    rows = {"x": x, "training": dropout(x), "mean of 10,000": mean, "evaluation": dropout.eval()(x)}
    for name, row in rows.items():
        print(f"{name:15}" + "".join(f"{value:7.2f}" for value in row))


if __name__ == "__main__":
    run_program(main)
