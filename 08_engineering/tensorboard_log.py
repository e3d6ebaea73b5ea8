"""TensorBoard: the numbers of metrics.csv as curves in a browser, while the run is still going.

    pip install tensorboard
    tensorboard --logdir 09_capstone/runs

TensorBoard is an extra. Where it is not installed, `TensorBoardLog` takes every number and writes
none, so whoever calls it need not ask. Its files never shrink: a run that is resumed tells it from
which step on the points of before no longer count.

PyTorch's SummaryWriter writes from a thread of its own. Here a row is on the disk when `append`
returns, and a full disk is an OSError like any other.
"""

import importlib
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from utils.errors import run_program

FOLDER = "tensorboard"  # inside the run's own
MODULES = (  # of the package: they are loaded only when a run begins
    "tensorboard.compat.proto.event_pb2",
    "tensorboard.compat.proto.summary_pb2",
    "tensorboard.summary.writer.record_writer",
)


class ScalarWriter(Protocol):
    """Takes the points of curves."""

    def add(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class NoWriter:
    """Stands in where TensorBoard is not installed: takes everything and does nothing."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class EventFile:
    """A file of TensorBoard's: a record for its version, one for the start, one for each row.

    TensorBoard hides what older files of the folder hold from `purge_step` on.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        event_pb2, summary_pb2, record_writer = map(importlib.import_module, MODULES)
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}").open("wb")
        self._records = record_writer.RecordWriter(self._file)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(file_version="brain.Event:2")
        self._write(step=purge_step, session_log=start)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write one point of each curve at this step."""
        points = [self._summary.Value(tag=name, simple_value=v) for name, v in values.items()]
        self._write(step=step, summary=self._summary(value=points))

    def _write(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._file.flush()  # a killed run has lost nothing, and a browser sees it at once

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardLog(AbstractContextManager):
    """The rows of MetricsLog for TensorBoard: every column becomes a curve over the steps.

    `resumed_at` is the last step that still counts of what the run's folder holds: later points are
    hidden, for the run writes them again. 0 for a run that begins.
    """

    def __init__(self, run_dir: Path | str, resumed_at: int = 0) -> None:
        self._writer = open_writer(Path(run_dir) / FOLDER, purge_step=resumed_at + 1)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write the numbers of one row at its "step"; None is passed over."""
        values = {name: float(v) for name, v in row.items() if name != "step" and v is not None}
        self._writer.add(int(row["step"]), values)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def open_writer(folder: Path, purge_step: int) -> ScalarWriter:
    """A file for TensorBoard, or NoWriter where it is not installed; a line if it is broken."""
    try:
        return EventFile(folder, purge_step)
    except ImportError:
        return NoWriter()
    except OSError:
        raise  # of our own folder
    except Exception as error:  # an extra that is broken is no reason not to train
        print(f"TensorBoard gets no curves: {' '.join(repr(error).split())}")
        return NoWriter()


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
