"""The picture of a post-training run shows what its evaluations found."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import utils.visualization
from logging_utils import CsvLogger
from post_training.post_curves import plot_answers
from post_training.post_run import ANSWER_COLUMNS
from run_curves import draw_curves
from tokenizer import CharTokenizer
from training_data import TrainingData

TOKENS = np.zeros(3, np.uint16)
DATA = TrainingData("mock", "a test", CharTokenizer("a"), TOKENS, TOKENS, entropy_bits_per_char=1.0)


def write_answers(folder: Path, followed: float | None) -> None:
    with CsvLogger(folder / "answers.csv", ANSWER_COLUMNS) as log:
        for step, right in ((0, 0.5), (25, 0.75)):
            row = {"step": step, "right": right, "share": 0.9, "kl": step / 100, "distinct": 1.0}
            log.append({**row, "followed": followed, "val_loss": 0.9, "seconds": 1.0 * step})


@pytest.mark.parametrize("followed", [None, 0.8])
def test_right_answers_kl_and_loss_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, followed: float | None
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(utils.visualization, "save_figure", lambda f, path: figures.append(f))
    write_answers(tmp_path, followed)
    plot_answers(tmp_path, DATA)
    (figure,) = figures
    answers, kl, loss = figure.axes
    drawn = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in answers.lines}
    assert drawn.pop("right") == [50.0, 75.0]
    assert drawn == ({} if followed is None else {"followed": [80.0, 80.0]})
    assert np.asarray(kl.lines[0].get_ydata()).tolist() == [0.0, 0.25]
    model, floor = (np.asarray(line.get_ydata()).tolist() for line in loss.lines)
    assert model == [0.9, 0.9] and np.allclose(floor, np.log(2))


def test_it_is_saved_without_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_answers(tmp_path, 0.8)
    draw_curves(tmp_path, DATA, plot_answers)
    assert capsys.readouterr().err == ""
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_without_rows_nothing_is_drawn(tmp_path: Path) -> None:
    CsvLogger(tmp_path / "answers.csv", ANSWER_COLUMNS).close()
    draw_curves(tmp_path, DATA, plot_answers)
    assert not (tmp_path / "curves.png").exists()
