"""curves.png: the losses of a run. The picture is optional, so any error here is only a warning."""

import contextlib
import math
import sys
import warnings
from pathlib import Path

from logging_utils import read_csv
from training_data import TrainingData


def draw_curves(folder: Path, data: TrainingData) -> None:
    """Draw curves.png from metrics.csv. Never raises: the run is complete without its picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as a character that the font does not have
            plot_metrics(folder, data)
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
    bits = data.entropy_bits_per_char
    floor = None if bits is None else bits * math.log(2) * data.chars_per_token
    title = f"{folder.name} on {data.name}"
    plot_training_curves(rows, floor=floor, title=title, path=folder / "curves.png")
