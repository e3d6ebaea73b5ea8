"""TensorBoard: the metrics of a run as curves in a browser, updated while it trains.

    pip install tensorboard
    tensorboard --logdir 09_capstone/runs

TensorBoard is optional. Where it is not installed, `TensorBoardLog` writes nothing, so callers need
not check. Its files never shrink: a resumed run records the step from which earlier points are to
be hidden.

PyTorch's SummaryWriter writes from a background thread. Here a row is in the file when `append`
returns, and a full disk is an OSError as everywhere else.
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
MODULES = (  # loaded only when a run starts
    "tensorboard.compat.proto.event_pb2",
    "tensorboard.compat.proto.summary_pb2",
    "tensorboard.summary.writer.record_writer",
)


class ScalarWriter(Protocol):
    """Writes the points of curves."""

    def add(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class NoWriter:
    """The writer where TensorBoard is not installed: it does nothing."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class EventFile:
    """A TensorBoard event file: a version record, a start record, and one record per row.

    TensorBoard hides the points of older files in the folder from `purge_step` on.
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
        self._file.flush()  # survives a kill, and is visible in the browser at once

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardLog(AbstractContextManager):
    """The rows of MetricsLog for TensorBoard: every column becomes a curve over the steps.

    `resumed_at` is the last step whose points stay valid: later ones are hidden, because the run
    writes them again. 0 for a new run.
    """

    def __init__(self, run_dir: Path | str, resumed_at: int = 0) -> None:
        self._writer = open_writer(Path(run_dir) / FOLDER, purge_step=resumed_at + 1)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write the values of one row at its "step"; None is skipped."""
        values = {name: float(v) for name, v in row.items() if name != "step" and v is not None}
        self._writer.add(int(row["step"]), values)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def open_writer(folder: Path, purge_step: int) -> ScalarWriter:
    """An event file, or NoWriter if TensorBoard is not installed or (with a warning) broken."""
    try:
        return EventFile(folder, purge_step)
    except ImportError:
        return NoWriter()
    except OSError:
        raise  # an error of the run's own folder
    except Exception as error:  # a broken optional package must not stop a run
        print(f"warning: no curves for TensorBoard: {' '.join(repr(error).split())}")
        return NoWriter()


def main() -> None:
    """Log three rows, and list the files."""
    with tempfile.TemporaryDirectory() as run_dir:
        with TensorBoardLog(run_dir) as log:
            for step, loss in ((10, 4.17), (20, 3.2), (30, 2.9)):
                log.append({"step": step, "train_loss": loss, "val_loss": None})
        files = sorted(Path(run_dir).glob(f"{FOLDER}/*"))
        print(f"three rows; files: {[f'{f.stat().st_size} bytes' for f in files] or 'none'}")


if __name__ == "__main__":
    run_program(main)
