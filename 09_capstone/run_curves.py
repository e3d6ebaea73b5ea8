"""curves.png: the losses of a run. The picture is optional, so any error here is only a warning."""

import contextlib
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from logging_utils import read_csv
from training_data import TrainingData

Plot = Callable[[Path, TrainingData], None]  # of a run's folder


def draw_curves(folder: Path, data: TrainingData, plot: Plot | None = None) -> None:
    """Draw curves.png, from metrics.csv unless another function plots.

    Never raises: the run is complete without its picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as a character that the font does not have
            (plot or plot_metrics)(folder, data)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        with contextlib.suppress(OSError):  # standard error may be closed
            print(f"warning: curves.png was not drawn: {reason:.200}", file=sys.stderr)


def plot_metrics(folder: Path, data: TrainingData) -> None:
    """Plot the losses against the step; a run without rows has no picture."""
    # Imported here: a bad $MPLBACKEND makes importing matplotlib fail, and must not stop a run.
    from utils.visualization import plot_training_curves

    rows = read_csv(folder / "metrics.csv")
    if not rows:
        return
    title = f"{folder.name} on {data.name}"
    floor = entropy_per_token(data)
    plot_training_curves(rows, floor=floor, title=title, path=folder / "curves.png")


def entropy_per_token(data: TrainingData) -> float | None:
    """The lowest possible loss, in nats per token; None if it is unknown."""
    bits = data.entropy_bits_per_char
    return None if bits is None else bits * math.log(2) * data.chars_per_token
