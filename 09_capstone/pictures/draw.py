"""Draw every picture of this lesson, from real numbers.

    python 09_capstone/pictures/draw.py                     from measured.json where it is slow
    python 09_capstone/pictures/draw.py --measure texts     measure one part again: minutes

Pictures have a white background of their own, so they are legible on light and dark pages.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import budget_runs
import overfitting_runs
import texts_by_loss
from utils.errors import run_program
from utils.pictures import read_measured, write_measured

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measure one part."""
    parser = argparse.ArgumentParser(description="Draw the pictures of lesson 09.")
    parser.add_argument("--measure", choices=MEASURE, help="measure again, and keep the results")
    part = parser.parse_args().measure
    if part:
        torch.set_num_threads(1)
        new = MEASURE[part]()
        write_measured(HERE, read_measured(HERE) | {part: new})


def measure_texts() -> dict[str, Any]:
    """What was written at each loss, and by a table of pairs."""
    return {name: asdict(entry) for name, entry in texts_by_loss.run().items()}


def measure_budgets() -> dict[str, Any]:
    """For each budget, the losses by d_model."""
    return {
        str(budget): {str(d_model): round(loss, 4) for d_model, loss in losses.items()}
        for budget, losses in budget_runs.measure().items()
    }


def measure_overfitting() -> dict[str, Any]:
    """The curves of the three runs."""
    return {name: asdict(overfitting_runs.run(*how)) for name, how in overfitting_runs.RUNS.items()}


MEASURE: dict[str, Callable[[], Any]] = {
    "texts": measure_texts,
    "budgets": measure_budgets,
    "overfitting": measure_overfitting,
}

if __name__ == "__main__":
    run_program(main)
