"""TensorBoard: the numbers of metrics.csv as curves in a browser, while the run is still going.

    pip install tensorboard
    tensorboard --logdir 09_capstone/runs

TensorBoard is an extra. Where it is not installed, `TensorBoardLog` says so in one line and takes
every number without writing it, so whoever calls it need not ask. Its files never shrink: a run
that is resumed tells it from which step on the points of before no longer count.

Its files bear the name of this computer (events.out.tfevents.TIME.NAME...): rename what you share.
"""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from utils.errors import run_program

FOLDER = "tensorboard"  # inside the run's own
INSTALL = "pip install tensorboard"


class ScalarWriter(Protocol):
    """What is needed of torch.utils.tensorboard.SummaryWriter."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class NoWriter:
    """Stands in where TensorBoard is not installed: takes everything and does nothing."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoardLog(AbstractContextManager):
    """The rows of MetricsLog for TensorBoard: every column becomes a curve over the steps.

    `resumed_at` is the last step that still counts of what the run's folder holds: later points are
    hidden, for the run writes them again. 0 for a run that begins.
    """

    def __init__(self, run_dir: Path | str, resumed_at: int = 0) -> None:
        self._writer = open_writer(Path(run_dir) / FOLDER, purge_step=resumed_at + 1)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write the numbers of one row at its "step"; None is passed over."""
        step = int(row["step"])
        for name, value in row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, float(value), step)
        self._writer.flush()  # a killed run has lost nothing, and a browser sees it at once

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def open_writer(folder: Path, purge_step: int) -> ScalarWriter:
    """TensorBoard's writer, or NoWriter and a line that says why."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print(f"TensorBoard gets no curves: it is not installed ({INSTALL})")
        return NoWriter()
    except Exception as error:  # an extra that is broken is no reason not to train
        print(f"TensorBoard gets no curves: {' '.join(repr(error).split())}")
        return NoWriter()
    return SummaryWriter(str(folder), purge_step=purge_step)


def main() -> None:
    """Log three rows, and see what is on the disk."""
    with tempfile.TemporaryDirectory() as run_dir:
        with TensorBoardLog(run_dir) as log:
            for step, loss in ((10, 4.17), (20, 3.2), (30, 2.9)):
                log.append({"step": step, "train_loss": loss, "val_loss": None})
        files = sorted(Path(run_dir).glob(f"{FOLDER}/*"))
        print(f"three rows; files: {[f'{f.stat().st_size} bytes' for f in files] or 'none'}")


if __name__ == "__main__":
    run_program(main)
