"""The metrics of a run: metrics.csv, metrics.jsonl, TensorBoard, and evaluations in log.txt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logging_utils import METRIC_COLUMNS, MetricsLog, TextLog
from loss_functions import bits_per_char
from tensorboard_log import TensorBoardLog
from training_loop import StepReport
from training_state import TrainingState
from utils.config import TrainConfig
from utils.files import complete_lines


class RunMetrics:
    """Writes a row every `log_interval` steps, at each evaluation and at the end.

    Rows after the resumed state are dropped: the run writes them again.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        log: TextLog,
        state: TrainingState | None,
        chars_per_token: float = 1.0,
    ) -> None:
        self.config = config
        self.log = log
        self.chars_per_token = chars_per_token
        last_row = last_row_of(state)
        self.columns = columns_of(folder)
        self.metrics = MetricsLog(folder, self.columns)
        self.metrics.truncate_after(last_row)
        self.curves = TensorBoardLog(folder, resumed_at=last_row)

    def on_step(self, report: StepReport, is_last: bool) -> None:
        """Write the row of a step, where one is due."""
        evaluated = report.val_loss is not None
        if report.step % self.config.log_interval == 0 or evaluated or is_last:
            row = self._row(report)
            self.metrics.append(row)
            self.curves.append(row)
        if evaluated:
            self.log.write(evaluation_line(report, self.chars_per_token))

    def _row(self, report: StepReport) -> dict[str, Any]:
        loss = report.val_loss
        row = {
            "step": report.step,
            "train_loss": report.train_loss,
            "val_loss": loss,
            "val_bits_per_char": None
            if loss is None
            else bits_per_char(loss, self.chars_per_token),
            "learning_rate": report.learning_rate * self.config.lr,
            "grad_norm": report.grad_norm,
            "seconds": round(report.seconds, 3),
        }
        return {name: value for name, value in row.items() if name in self.columns}

    def sync(self) -> None:
        """Wait until the rows are on disk; a state that relies on them is saved after that."""
        self.metrics.sync()

    def close(self) -> None:
        """Close the files."""
        self.metrics.close()
        self.curves.close()


def last_row_of(state: TrainingState | None) -> int:
    """The last step whose row a state relies on; 0 for a new run.

    The row of a step is written after its evaluation, which may still be due.
    """
    return state.step - state.position["evaluation_due"] if state else 0


def columns_of(folder: Path) -> Sequence[str]:
    """The columns of metrics.csv: a run that an older version started keeps the ones it has."""
    path = folder / "metrics.csv"
    lines = complete_lines(path) if path.exists() else []
    known = set(lines[0].split(",")) if lines else set(METRIC_COLUMNS)
    return [name for name in METRIC_COLUMNS if name in known]


def evaluation_line(report: StepReport, chars_per_token: float = 1.0) -> str:
    """One line of log.txt for a step that was evaluated."""
    assert report.val_loss is not None
    bits = bits_per_char(report.val_loss, chars_per_token)
    return (
        f"step {report.step}: train {report.train_loss:.4f}, validation "
        f"{report.val_loss:.4f} ({bits:.4f} bits per character), {report.seconds:.1f} s"
    )
