"""tensorboard_log.py: the rows of metrics.csv as scalars, with the package and without it."""

import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch

import tensorboard_log
from logging_utils import METRIC_COLUMNS, MetricsLog, read_csv
from tensorboard_log import TensorBoardLog


class FakeWriter:
    """Replaces EventFile and records its calls."""

    made: list["FakeWriter"]

    def __init__(self, folder: Path, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.written: list[tuple[str, float, int]] = []
        self.closed = False
        self.made.append(self)

    def add(self, step: int, values: dict[str, float]) -> None:
        assert not self.closed
        self.written += [(name, value, step) for name, value in values.items()]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWriter]:
    """The writers that are made while TensorBoard seems to be installed."""
    monkeypatch.setattr("tensorboard_log.EventFile", FakeWriter)
    monkeypatch.setattr(FakeWriter, "made", [], raising=False)
    return FakeWriter.made


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard is not installed."""
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)


def rows_up_to(last: int) -> list[dict[str, Any]]:
    """A row every tenth step; every second one holds a validation loss."""
    steps = range(10, last + 1, 10)
    return [
        {"step": s, "train_loss": 1 / s, "val_loss": None if s % 20 else 0.1 * s, "seconds": s / 8}
        for s in steps
    ]


# --- with TensorBoard ---------------------------------------------------------------------------


def test_every_number_of_metrics_csv_becomes_a_scalar_at_its_step(writers, tmp_path):
    with MetricsLog(tmp_path) as metrics, TensorBoardLog(tmp_path) as log:
        for row in rows_up_to(40):
            metrics.append(row)
            log.append(row)
    (writer,) = writers
    assert sorted(writer.written) == sorted(
        (name, row[name], row["step"])
        for row in read_csv(tmp_path / "metrics.csv")
        for name in METRIC_COLUMNS[1:]
        if row[name] is not None
    )


def test_the_files_go_into_a_folder_of_their_own_in_that_of_the_run(writers, tmp_path):
    TensorBoardLog(tmp_path).close()
    TensorBoardLog(str(tmp_path)).close()
    assert [writer.folder for writer in writers] == [tmp_path / "tensorboard"] * 2


def test_the_points_beyond_the_step_of_a_resumed_run_are_superseded_and_no_others(
    writers, tmp_path
):
    with TensorBoardLog(tmp_path, resumed_at=250) as log:
        log.append({"step": 260, "train_loss": 2.5})
    assert writers[0].purge_step == 251  # TensorBoard hides what stands at this step or later


def test_a_run_that_starts_over_supersedes_every_point(writers, tmp_path):
    TensorBoardLog(tmp_path).close()
    assert writers[0].purge_step == 1


def test_the_file_is_closed_even_if_the_training_fails(writers, tmp_path):
    with pytest.raises(RuntimeError, match="out of luck"), TensorBoardLog(tmp_path):
        raise RuntimeError("out of luck")
    assert writers[0].closed


@pytest.mark.parametrize("one", [np.float32(0.5), torch.tensor(0.5), np.float64(0.5), 0.5])
def test_numbers_of_numpy_and_torch_are_written_as_floats(writers, tmp_path, one):
    TensorBoardLog(tmp_path).append({"step": np.int64(3), "x": one})
    ((name, value, step),) = writers[0].written
    assert (name, value, step) == ("x", 0.5, 3)
    assert (type(value), type(step)) == (float, int)


def test_infinite_and_missing_values_are_kept(writers, tmp_path):
    row = {"step": 3, "grad_norm": float("inf"), "train_loss": float("nan"), "val_loss": 0.0}
    TensorBoardLog(tmp_path).append(row)
    written = {name: value for name, value, _ in writers[0].written}
    assert str(written) == "{'grad_norm': inf, 'train_loss': nan, 'val_loss': 0.0}"
    assert list(row) == ["step", "grad_norm", "train_loss", "val_loss"]  # left as it was


def test_with_tensorboard_nothing_is_printed(writers, tmp_path, capsys):
    with TensorBoardLog(tmp_path) as log:
        log.append({"step": 1, "x": 1.0})
    assert capsys.readouterr() == ("", "")


# --- without it ---------------------------------------------------------------------------------


def test_without_tensorboard_nothing_is_written_or_printed_and_training_continues(
    without, tmp_path, capsys
):
    with TensorBoardLog(tmp_path, resumed_at=3) as log:
        for row in rows_up_to(40):
            log.append(row)
    assert capsys.readouterr() == ("", "")
    assert list(Path(tmp_path).iterdir()) == []


def test_a_broken_installation_is_one_line_with_its_reason(tmp_path, monkeypatch, capsys):
    class Broken:
        def __init__(self, folder: Path, purge_step: int) -> None:
            raise TypeError("Descriptors cannot be created\n  directly")

    monkeypatch.setattr("tensorboard_log.EventFile", Broken)
    with TensorBoardLog(tmp_path) as log:
        log.append({"step": 1, "x": 1.0})
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("\n") == 1
    assert "Descriptors cannot be created" in said.out


# --- reading the files --------------------------------------------------------------------------


class Message(SimpleNamespace):
    """A stand-in for TensorBoard's protobuf messages; its bytes are JSON."""

    def SerializeToString(self) -> bytes:  # noqa: N802, the name is TensorBoard's
        return json.dumps(self, default=vars).encode()


class Event(Message):
    SessionLog = type("SessionLog", (Message,), {"START": 1})


class Records:
    """A stand-in for TensorBoard's RecordWriter: one line per record."""

    def __init__(self, file: BinaryIO) -> None:
        self.write: Callable[[bytes], object] = lambda record: file.write(record + b"\n")


def read_stand_in(folder: Path) -> list[tuple[int, float]]:
    """The points that TensorBoard shows: a START hides earlier points from its step on."""
    points: dict[int, float] = {}
    for file in sorted(folder.iterdir()):
        for event in map(json.loads, file.read_bytes().splitlines()):
            if "session_log" in event:
                points = {step: y for step, y in points.items() if step < event["step"]}
            for value in event.get("summary", {}).get("value", []):
                points[event["step"]] = value["simple_value"]
    return sorted(points.items())


def read_with_tensorboard(folder: Path) -> list[tuple[int, float]]:
    reader: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in found.Scalars("train_loss")]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[tuple[int, float]]]:
    """Reads the curve from the files, with TensorBoard itself where it is installed."""
    if importlib.util.find_spec("tensorboard") is not None:
        return read_with_tensorboard
    modules = (
        SimpleNamespace(Event=Event, SessionLog=Event.SessionLog),
        SimpleNamespace(Summary=type("Summary", (Message,), {"Value": Message})),
        SimpleNamespace(RecordWriter=Records),
    )
    for name, module in zip(tensorboard_log.MODULES, modules, strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    return read_stand_in


def test_the_files_contain_the_curve_of_a_resumed_run(read, tmp_path):
    logs = []
    for resumed_at, last, factor in ((0, 40, 1.0), (20, 50, 2.0)):
        logs.append(log := TensorBoardLog(tmp_path, resumed_at))
        for row in rows_up_to(last):
            if row["step"] > resumed_at:
                log.append({"step": row["step"], "train_loss": factor * row["step"]})
        time.sleep(0.01)  # the second file must not have the time of the first
    points = read(tmp_path / "tensorboard")
    for log in logs:  # they were still open when they were read: a killed run loses no row
        log.close()
    assert points == [(10, 10.0), (20, 20.0), (30, 60.0), (40, 80.0), (50, 100.0)]
