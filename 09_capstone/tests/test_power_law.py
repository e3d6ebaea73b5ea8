"""power_law.py: a law is found again, and its least squares are those of the logarithms."""

import math
import statistics

from power_law import fit_power_law, predicted_loss


def test_a_law_is_found_again_and_predicts() -> None:
    sizes = [10, 100, 1000]
    losses = [0.4 + 3 * n**-0.3 for n in sizes]
    a, alpha = fit_power_law(sizes, losses, 0.4)
    assert math.isclose(a, 3) and math.isclose(alpha, 0.3)
    assert math.isclose(predicted_loss(10_000, 0.4, a, alpha), 0.4 + 3 * 10_000**-0.3)


def test_noisy_losses_give_the_line_of_the_standard_library() -> None:
    sizes, losses, lowest = [10, 40, 90, 700], [2.0, 1.5, 1.4, 0.9], 0.5
    a, alpha = fit_power_law(sizes, losses, lowest)
    x, y = map(math.log, sizes), (math.log(loss - lowest) for loss in losses)
    line = statistics.linear_regression(list(x), list(y))
    assert math.isclose(a, math.exp(line.intercept)) and math.isclose(alpha, -line.slope)
