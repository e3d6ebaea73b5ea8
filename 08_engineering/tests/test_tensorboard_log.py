"""tensorboard_log.py: the rows of metrics.csv as scalars, with the package and without it."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from logging_utils import METRIC_COLUMNS, MetricsLog, read_csv
from tensorboard_log import TensorBoardLog

NOTICE = "TensorBoard gets no curves: it is not installed (pip install tensorboard)\n"
MODULE = "torch.utils.tensorboard"


class FakeWriter:
    """Stands in for SummaryWriter and tells what it was asked to do."""

    made: list["FakeWriter"]

    def __init__(self, log_dir: str, purge_step: int) -> None:
        self.log_dir, self.purge_step = log_dir, purge_step
        self.waiting: list[tuple[str, float, int]] = []
        self.written: list[tuple[str, float, int]] = []
        self.closed = False
        self.made.append(self)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert not self.closed
        self.waiting.append((tag, scalar_value, global_step))

    def flush(self) -> None:
        self.written += self.waiting
        self.waiting = []

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWriter]:
    """The writers that are made while TensorBoard seems to be installed."""
    module: Any = ModuleType(MODULE)
    module.SummaryWriter = FakeWriter
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setattr(FakeWriter, "made", [], raising=False)
    return FakeWriter.made


@pytest.fixture(params=["tensorboard", MODULE])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard is not installed; for "tensorboard", PyTorch itself finds out."""
    for name in [name for name in sys.modules if name.startswith(MODULE)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, request.param, None)


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
    assert [writer.log_dir for writer in writers] == [str(tmp_path / "tensorboard")] * 2


def test_a_row_is_written_at_once_so_that_a_killed_run_has_lost_nothing(writers, tmp_path):
    log = TensorBoardLog(tmp_path)
    log.append({"step": 10, "train_loss": 2.5})
    assert writers[0].written == [("train_loss", 2.5, 10)]
    assert writers[0].waiting == []


def test_the_points_beyond_the_step_of_a_resumed_run_are_superseded_and_no_others(
    writers, tmp_path
):
    with TensorBoardLog(tmp_path, resumed_at=250) as log:
        log.append({"step": 260, "train_loss": 2.5})
    assert writers[0].purge_step == 251  # TensorBoard hides what stands at this step or later


def test_a_run_that_begins_again_supersedes_every_point(writers, tmp_path):
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


def test_an_infinite_or_missing_number_is_told_as_such(writers, tmp_path):
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


def test_without_tensorboard_one_line_says_so_and_everything_goes_on(without, tmp_path, capsys):
    with TensorBoardLog(tmp_path, resumed_at=3) as log:
        for row in rows_up_to(40):
            log.append(row)
    assert capsys.readouterr() == (NOTICE, "")
    assert len(NOTICE) <= 80
    assert list(Path(tmp_path).iterdir()) == []


def test_an_installation_that_is_broken_is_one_line_with_its_reason(tmp_path, monkeypatch, capsys):
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise TypeError("Descriptors cannot be created\n  directly")

    monkeypatch.setitem(sys.modules, MODULE, Broken(MODULE))
    with TensorBoardLog(tmp_path) as log:
        log.append({"step": 1, "x": 1.0})
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("\n") == 1
    assert "Descriptors cannot be created" in said.out
