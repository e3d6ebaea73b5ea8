"""What a run of post_train.py draws: what its evaluations found, from answers.csv.

The losses that train.py draws would mislead here. GRPO's is near 0 and says little, and that of DPO
is no loss on the plays, so neither can be compared with the entropy of the plays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from logging_utils import read_csv
from post_training.post_run import ANSWERS_FILE
from run_curves import entropy_per_token
from training_data import TrainingData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, float | None]]


def plot_answers(folder: Path, data: TrainingData) -> None:
    """Right answers, KL and the loss on the plays against the step; a run without rows has none."""
    # Imported here, as in run_curves.py: a bad $MPLBACKEND must not stop a run.
    from matplotlib.figure import Figure

    from utils.visualization import BLUE, GREEN, GREY, ORANGE, printable, save_figure

    rows = read_csv(folder / ANSWERS_FILE)
    if not rows:
        return
    figure = Figure(figsize=(7.0, 7.0), layout="constrained")
    answers, kl, loss = figure.subplots(3, sharex=True)
    plot_column(answers, rows, "followed", "followed", GREEN, 100)
    plot_column(answers, rows, "right", "right", BLUE, 100)
    answers.set(
        title=printable(f"{folder.name} on {data.name}"), ylabel="answers, %", ylim=(0, 105)
    )
    answers.legend(frameon=False)
    plot_column(kl, rows, "kl", "KL", ORANGE)
    kl.set(ylabel="KL (nats per token)")
    plot_column(loss, rows, "val_loss", "model", BLUE)
    if (floor := entropy_per_token(data)) is not None:
        loss.axhline(floor, color=GREY, linestyle="--", label=f"entropy of the text: {floor:.3f}")
        loss.legend(frameon=False)
    loss.set(xlabel="step", ylabel="loss on the plays (nats)")
    for axes in (answers, kl, loss):
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, folder / "curves.png")


def plot_column(
    axes: "Axes", rows: Rows, name: str, label: str, colour: str, factor: float = 1.0
) -> None:
    """A column against the step, where it has values."""
    known = [(row["step"], factor * value) for row in rows if (value := row[name]) is not None]
    if known:
        axes.plot(*zip(*known, strict=True), color=colour, marker="o", markersize=4, label=label)
