"""The benchmark's table, files and picture, from invented values."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from tools.benchmarks import report
from tools.benchmarks.picture import draw, speeds, write_picture
from tools.benchmarks.report import (
    SPEED,
    Row,
    Section,
    describe_machine,
    description,
    markdown,
    ratio,
    read_report,
    table,
    write_report,
)
from utils.errors import CourseError

FAST = Row("ours, float32", (300.0, 100.0, 200.0), of_peak=(0.5, 0.1, 0.25))
SLOW = Row("transformers, float32", (100.0, 100.0, 50.0))
ABSENT = Row("transformers", note="not measured: python tools/install.py --extra interop")
TRAINING = Section("training tiny", SPEED, (FAST, SLOW, ratio("ratio: a / b", (3.0,), (2.0,))))
MEMORY = Section("memory", "MiB", (Row("train.py", (1234.4,)), ABSENT))


@pytest.fixture
def machine() -> dict[str, Any]:
    """The description of this machine, with an invented text."""
    return describe_machine("a text, found: nowhere")


def test_a_ratio_is_computed_round_by_round() -> None:
    row = ratio("ours / theirs", (10.0, 40.0, 90.0), (10.0, 10.0, 30.0))
    assert row.values == (1.0, 4.0, 3.0)  # median 3.0; the ratio of the medians would be 4.0
    assert "3.00        (1.00-4.00)" in table(Section("", "", (row,)))


def test_a_ratio_of_different_numbers_of_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio("ours / theirs", (1.0, 2.0), (1.0,))


def test_a_line_shows_label_share_of_peak_median_and_range() -> None:
    line = table(TRAINING).splitlines()[3]
    assert line.startswith("  ours, float32, 25% of peak ")
    assert line.split()[-2:] == ["200", "(100-300)"]
    assert len(line) == 80


def test_headings_are_aligned_with_their_columns() -> None:
    title, heading, rule, line, *_ = table(TRAINING).splitlines()
    assert title == "training tiny"
    assert heading.index("median") + len("median") == line.index("200") + 3
    assert len(heading) == len(rule) == len(line) == 80
    assert SPEED in heading


def test_a_single_value_has_no_range_and_a_missing_one_has_its_reason() -> None:
    *_, single, absent = table(MEMORY).splitlines()
    assert single.split()[-1] == "1,234"
    assert absent == "  transformers: not measured: python tools/install.py --extra interop"


def test_markdown_shows_the_same_as_the_table(machine: dict[str, Any]) -> None:
    page = markdown(machine, [TRAINING, MEMORY], "a legend")
    assert "| ours, float32, 25% of peak | 200 | 100-300 |" in page
    assert "| train.py | 1,234 |  |" in page
    assert "| transformers, not measured: python tools/install.py --extra interop |  |  |" in page
    assert page.endswith("\n\na legend\n")


def test_the_machine_is_described(machine: dict[str, Any]) -> None:
    assert {"cpu", "cores", "torch_threads", "memory_gib", "platform"} <= machine.keys()
    assert {"python", "torch", "transformers", "date", "git"} <= machine.keys()
    text = "\n".join(description(machine))
    assert machine["torch"] in text
    assert "a text, found: nowhere" in text


def test_unknown_facts_about_the_machine_are_left_out(machine: dict[str, Any]) -> None:
    bare = {**machine, "memory_gib": None, "transformers": None, "git": None}
    text = "\n".join(description(bare))
    assert "None" not in text
    assert "commit unknown" in text


def test_the_files_hold_every_value_and_nothing_else_is_written(
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


def test_results_are_read_back_as_they_were_written(
    tmp_path: Path, machine: dict[str, Any]
) -> None:
    write_report(tmp_path, machine, [TRAINING, MEMORY], "a legend")
    assert read_report(tmp_path / "results.json") == (machine, (TRAINING, MEMORY))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"machine": {}, "sections": [{}]}'])
def test_a_file_without_results_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match=r"results\.json is not a file of benchmark results"):
        read_report(path)


def test_the_old_file_is_kept_when_the_disk_is_full(
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


def test_ratios_peaks_and_other_units_are_not_in_the_picture() -> None:
    assert speeds(MEMORY) == []
    assert speeds(TRAINING) == [FAST, SLOW]


def test_the_picture_is_a_png_of_720_pixels(tmp_path: Path) -> None:
    write_picture(tmp_path / "picture.png", [TRAINING], "this machine")
    assert imread(tmp_path / "picture.png").shape[1] == 720


def test_the_picture_shows_medians_as_bars_and_ranges_as_whiskers() -> None:
    figure = draw([MEMORY, TRAINING], "this machine")
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "training tiny"
    assert [label.get_text() for label in axes.get_yticklabels()] == [FAST.label, SLOW.label]
    assert [bar.get_width() for bar in axes.patches] == [200.0, 100.0]  # pyright: ignore
    (whiskers,) = axes.collections
    ends = [path.vertices[:, 0].tolist() for path in whiskers.get_paths()]  # pyright: ignore
    assert ends == [[100.0, 300.0], [50.0, 100.0]]
    blue, orange = (bar.get_facecolor() for bar in axes.patches)
    assert blue != orange


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert report.installed("torch") is not None
    assert report.installed("no-such-package-here") is None
