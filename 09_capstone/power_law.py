"""A law from small runs: how far is the loss above its lowest value, for models of each size?

    L(N) = E + a N^-alpha               N weights in the blocks, E the lowest possible loss
    log(L - E) = log a - alpha log N    so a line, on logarithmic axes

Two runs determine a line (lesson 06); through more of them, it is fitted by least squares, of the
logarithms. The prediction for a larger model is worth as much as the runs are on a line (Kaplan et
al. 2020, "Scaling laws for neural language models", section 3; with E, Henighan et al. 2020).
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling_runs import floor, n_block_weights
from utils.pictures import read_measured

LESSON_06 = Path(__file__).resolve().parents[1] / "06_training"


def fit_power_law(
    sizes: Sequence[float], losses: Sequence[float], lowest: float
) -> tuple[float, float]:
    """Fit losses = lowest + a sizes^-alpha; returns (a, alpha).

    Two sizes or more, which aren't all equal; every loss is above lowest.
    """
    above = np.subtract(losses, lowest)  # what is left to learn, (n,)
    slope, intercept = np.polyfit(np.log(sizes), np.log(above), 1)
    return math.exp(intercept), -float(slope)


def predicted_loss(size: float, lowest: float, a: float, alpha: float) -> float:
    """The loss that such a law predicts for a model of another size."""
    return lowest + a * size**-alpha


def main() -> None:
    """Lesson 06's runs: the law of the four smaller models, asked for the fifth."""
    found = read_measured(LESSON_06 / "pictures")["scaling"]["by_size"]
    sizes = [n_block_weights(int(d_model)) for d_model in found]
    losses, lowest = list(found.values()), floor()
    a, alpha = fit_power_law(sizes[:-1], losses[:-1], lowest)
    print(f"L(N) = {lowest:.3f} + {a:.1f} N^-{alpha:.3f}, from models of {sizes[0]:,}", end=" ")
    print(f"to {sizes[-2]:,} weights")
    predicted = predicted_loss(sizes[-1], lowest, a, alpha)
    print(f"N = {sizes[-1]:,}: predicted {predicted:.3f}, measured {losses[-1]:.3f}")


if __name__ == "__main__":
    run_program(main)
