"""Which size of model is best for a given amount of computing? Fourteen tiny runs.

    python 09_capstone/budget_runs.py        about four minutes on an idle core

Training takes about 6 N D operations: N weights in the blocks, D characters read. A budget of
operations can be spent on a large model that reads little or on a small one that reads much.
Somewhere between them is the lowest loss. Hoffmann et al. 2022, "Training compute-optimal large
language models", section 3.2. The models and their text, the mock plays, are those of lesson 06.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import torch

from scaling_runs import final_loss, floor, n_block_weights, n_characters

WIDTHS = (16, 32, 48, 64, 96)  # d_model; lesson 06 has the number of layers of each
MIDDLE = 48
STEPS_OF_MIDDLE = (100, 400, 1600)  # three budgets: what this many steps of the middle size cost
MOST_STEPS = 6000


def steps_for(d_model: int, budget: int) -> int:
    """How many steps of this size cost as much as `budget` steps of the middle size."""
    return round(budget * n_block_weights(MIDDLE) / n_block_weights(d_model))


def n_operations(budget: int) -> int:
    """What a budget amounts to: 6 N D."""
    return 6 * n_block_weights(MIDDLE) * n_characters(budget)


def measure() -> dict[int, dict[int, float]]:
    """For each budget: the final validation loss by d_model."""
    found: dict[int, dict[int, float]] = {}
    for budget in STEPS_OF_MIDDLE:
        sizes = [d for d in WIDTHS if steps_for(d, budget) <= MOST_STEPS]
        found[budget] = {d: final_loss(d, steps_for(d, budget)) for d in sizes}
        print(budget, found[budget], flush=True)
    return found


def main() -> None:
    """Print the losses of all sizes, budget by budget."""
    torch.set_num_threads(1)
    print(f"the lowest possible loss: {floor():.3f} nats per character")
    for budget, losses in measure().items():
        print(f"{n_operations(budget):.1e} operations")
        for d_model, loss in losses.items():
            read = n_characters(steps_for(d_model, budget))
            print(f"{n_block_weights(d_model):>9,} weights, {read:>9,} characters: loss {loss:.3f}")


if __name__ == "__main__":
    run_program(main)
