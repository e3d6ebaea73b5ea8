"""utils/pictures.py: figures saved under their names; measurements written and read again."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from utils.pictures import as_text, read_measured, save_pictures, write_measured


def test_every_figure_is_saved_under_its_name_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures({"one": Figure(), "two": Figure()}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "two.png"}
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "one.png",
        "two.png",
    ]


def test_measurements_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = {"a": {"x": [1.5, 2], "y": {"z": [3]}}, "b": [{"loss": 1.0}, {"loss": 0.5}], "c": {}}
    assert read_measured(tmp_path) == {}
    write_measured(tmp_path, found)
    assert read_measured(tmp_path) == found


def test_each_list_of_numbers_has_a_line() -> None:
    found = {"a": {"x": [1, 2], "y": [3]}, "b": [{"loss": 1.0}, {"loss": 0.5}]}
    lines = as_text(found).splitlines()
    assert '    "x": [1, 2],' in lines and '    {"loss": 1.0},' in lines
    assert json.loads(as_text(found)) == found
