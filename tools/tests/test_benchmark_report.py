"""The benchmark's table, files and picture, from values that were never measured."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from tools.benchmarks import report
from tools.benchmarks.report import (
    SPEED,
    Row,
    Section,
    describe_machine,
    description,
    draw,
    markdown,
    ratio,
    table,
    write_report,
)

FAST = Row("ours, float32", (300.0, 100.0, 200.0), of_peak=(0.5, 0.1, 0.25))
SLOW = Row("transformers, float32", (100.0, 100.0, 50.0))
ABSENT = Row("transformers", note="not measured: pip install -e .[interop]")
TRAINING = Section("training tiny", SPEED, (FAST, SLOW, ratio("ratio: a / b", (3.0,), (2.0,))))
MEMORY = Section("memory", "MiB", (Row("train.py", (1234.4,)), ABSENT))


@pytest.fixture
def machine() -> dict[str, Any]:
    """This machine, on a text that is not there."""
    return describe_machine("a text, found: nowhere")


def test_a_ratio_is_made_pair_by_pair() -> None:
    row = ratio("ours / theirs", (10.0, 40.0, 90.0), (10.0, 10.0, 30.0))
    assert row.values == (1.0, 4.0, 3.0)  # median 3.0; the medians' own ratio would be 4.0
    assert "3.00        (1.00-4.00)" in table(Section("", "", (row,)))


def test_a_ratio_of_unequal_numbers_of_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio("ours / theirs", (1.0, 2.0), (1.0,))


def test_a_line_gives_label_share_of_peak_median_and_spread() -> None:
    line = table(TRAINING).splitlines()[3]
    assert line.startswith("  ours, float32, 25% of peak ")
    assert line.split()[-2:] == ["200", "(100-300)"]
    assert len(line) == 80


def test_headings_stand_over_their_columns() -> None:
    title, heading, rule, line, *_ = table(TRAINING).splitlines()
    assert title == "training tiny"
    assert heading.index("median") + len("median") == line.index("200") + 3
    assert len(heading) == len(rule) == len(line) == 80
    assert SPEED in heading


def test_one_value_has_no_spread_and_a_missing_one_says_why() -> None:
    *_, single, absent = table(MEMORY).splitlines()
    assert single.split()[-1] == "1,234"
    assert absent == "  transformers: not measured: pip install -e .[interop]"


def test_markdown_says_the_same_as_the_table(machine: dict[str, Any]) -> None:
    page = markdown(machine, [TRAINING, MEMORY], "a legend")
    assert "| ours, float32, 25% of peak | 200 | 100-300 |" in page
    assert "| train.py | 1,234 |  |" in page
    assert "| transformers, not measured: pip install -e .[interop] |  |  |" in page
    assert page.endswith("\n\na legend\n")


def test_the_machine_is_described(machine: dict[str, Any]) -> None:
    assert {"cpu", "cores", "torch_threads", "memory_gib", "platform"} <= machine.keys()
    assert {"python", "torch", "transformers", "date", "git"} <= machine.keys()
    text = "\n".join(description(machine))
    assert machine["torch"] in text
    assert "a text, found: nowhere" in text


def test_a_machine_that_tells_little_is_described_all_the_same(machine: dict[str, Any]) -> None:
    bare = {**machine, "memory_gib": None, "transformers": None, "git": None}
    text = "\n".join(description(bare))
    assert "None" not in text
    assert "commit unknown" in text


def test_files_hold_every_value_and_leave_no_half_file(
    tmp_path: Path, machine: dict[str, Any]
) -> None:
    paths = write_report(tmp_path, machine, [TRAINING, MEMORY], "a legend")
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["machine"] == machine
    first = results["sections"][0]["rows"][0]
    assert first["values"] == [300.0, 100.0, 200.0]
    assert first["of_peak"] == [0.5, 0.1, 0.25]
    assert first["median"] == 200.0
    assert results["sections"][1]["rows"][1]["median"] is None
    assert imread(tmp_path / "picture.png").shape[1] == 1200


def test_an_old_file_stays_whole_when_the_disk_is_full(
    tmp_path: Path, machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.json").write_text("old", encoding="utf-8")

    def full(point: str) -> None:
        if "half written" in point:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("utils.files.failpoint", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path, machine, [TRAINING], "")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text(encoding="utf-8") == "old"


def test_without_speeds_there_is_no_picture(tmp_path: Path, machine: dict[str, Any]) -> None:
    write_report(tmp_path, machine, [MEMORY], "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "table.md"]


def test_the_picture_shows_medians_as_bars_and_the_spread_as_whiskers() -> None:
    figure = draw([MEMORY, TRAINING], "this machine")
    (axes,) = figure.axes
    assert axes.get_title() == "training tiny"
    assert [label.get_text() for label in axes.get_yticklabels()] == [FAST.label, SLOW.label]
    assert [bar.get_width() for bar in axes.patches] == [200.0, 100.0]  # pyright: ignore
    (whiskers,) = axes.collections
    ends = [path.vertices[:, 0].tolist() for path in whiskers.get_paths()]  # pyright: ignore
    assert ends == [[100.0, 300.0], [50.0, 100.0]]
    blue, orange = (bar.get_facecolor() for bar in axes.patches)
    assert blue != orange


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert report.installed("torch") is not None
    assert report.installed("no-such-package-here") is None
