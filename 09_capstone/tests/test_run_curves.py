"""A picture that cannot be drawn gives one warning, and the run keeps its result."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from checkpointing import load_checkpoint
from logging_utils import MetricsLog
from run_curves import draw_curves
from run_folder import is_finished
from tokenizer import CharTokenizer
from training_data import TrainingData

TRAIN = Path(__file__).parents[1] / "train.py"
TEXT = Path(__file__).parents[2] / "data" / "simple_sequences.txt"
QUICK = (
    *("--preset", "smoke", "--dtype", "float32", "--max-steps", "4", "--eval-interval", "4"),
    *("--sample-interval", "0"),
)


def data(name: str) -> TrainingData:
    tokens = np.zeros(3, np.uint16)
    return TrainingData(name, "a test", CharTokenizer("a"), tokens, tokens)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with MetricsLog(tmp_path) as log:
        log.append({"step": 1, "train_loss": 2.0, "val_loss": 2.0, "learning_rate": 0.1})
    return tmp_path


NAMES = {
    "a formula": "$$",
    "an unfinished formula": r"my_{notes $\frac$",
    "Latin-1 bytes": os.fsdecode(b"caf\xe9"),
    "a missing glyph": "\U0001f600\u4e2d\u6587",
    "a control character": "a\x07b\nc",
    "one surrogate": "\ud800",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_name_can_be_drawn(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    draw_curves(run, data(name))
    assert capsys.readouterr().err == ""
    assert (run / "curves.png").stat().st_size > 1000


def test_a_failure_is_one_warning(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("latex could\nnot be found")

    monkeypatch.setattr("utils.visualization.plot_training_curves", fail)
    draw_curves(run, data("text"))
    printed = capsys.readouterr()
    assert printed.err == "warning: curves.png was not drawn: latex could not be found\n"
    assert printed.out == ""


def test_a_run_without_rows_has_no_picture(tmp_path: Path) -> None:
    MetricsLog(tmp_path).close()
    draw_curves(tmp_path, data("text"))
    assert not (tmp_path / "curves.png").exists()


def train(root: Path, text: bytes | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program in a process of its own, which imports matplotlib afresh."""
    command = [sys.executable, TRAIN, *QUICK, "--data", text]
    command += ["--out-dir", root / "run", "--checkpoint-dir", root / "checkpoints"]
    return subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True
    )


def test_a_run_survives_a_backend_that_does_not_exist(tmp_path: Path) -> None:
    done = train(tmp_path, TEXT, MPLBACKEND="nonsense")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b"warning: curves.png was not drawn: ")
    assert b"nonsense" in done.stderr and done.stderr.count(b"\n") == 1
    assert is_finished(tmp_path / "run")
    assert load_checkpoint(tmp_path / "checkpoints" / "run.safetensors").info["step"] == 4


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are a matter of Linux")
def test_a_run_survives_a_file_name_in_latin_1_and_settings_that_need_latex(
    tmp_path: Path,
) -> None:
    text = os.path.join(os.fsencode(tmp_path), b"caf\xe9_$$.txt")  # noqa: PTH118 (bytes)
    Path(os.fsdecode(text)).write_bytes(TEXT.read_bytes())
    settings = tmp_path / "matplotlibrc"  # MPLCONFIGDIR would also look for every font again
    settings.write_text("text.usetex: True\n", encoding="utf-8")
    done = train(tmp_path, text, MATPLOTLIBRC=str(settings))
    assert done.returncode == 0, done.stderr
    assert b"warning" not in done.stderr
    assert is_finished(tmp_path / "run")
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
