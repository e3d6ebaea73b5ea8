"""09_capstone/BENCHMARKS.md and the table of the README are what the committed results say."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import preset
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.page import render, write_page
from tools.benchmarks.report import Row, Section
from tools.benchmarks.results import Call, Results, read_results, results_table
from tools.benchmarks.targets import Target, slower_than_baseline

ROOT = Path(__file__).resolve().parents[2]
CAPSTONE = ROOT / "09_capstone"


@pytest.fixture(scope="module")
def results() -> Results:
    return read_results()


def changed(results: Results, section: str, label: str, values: tuple[float, ...]) -> Results:
    """The same results with other values in one row of the main call."""

    def row(old: Row) -> Row:
        return replace(old, values=values) if old.label.startswith(label) else old

    sections = tuple(
        replace(old, rows=tuple(map(row, old.rows))) if old.title.startswith(section) else old
        for old in results.main.sections
    )
    return replace(results, main=replace(results.main, sections=sections))


def test_the_committed_page_is_what_the_results_say(results: Results) -> None:
    page = (CAPSTONE / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert page == render(results), "write it again: python tools/benchmark.py --page"


def test_the_readme_shows_the_same_table_as_the_page(results: Results) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert results_table(results) in readme, "copy the table of 09_capstone/BENCHMARKS.md"


def test_every_measured_row_is_on_the_page_with_its_median_and_range(results: Results) -> None:
    page = render(results)
    again = [  # sections that the other call measured again
        *(s for s in results.main.sections if s.title.startswith("generation")),
        *(s for s in results.generation.sections if s.title.startswith("one change")),
    ]
    for call in (results.main, results.full, results.generation):
        for section in call.sections:
            if section not in again:
                assert f"| {section.title} | {section.unit} |" in page
                for row in section.rows:
                    assert row_with_figures(row) in page, row.label


def row_with_figures(row: Row) -> str:
    """The end of the row's line, formatted without the program's own functions."""
    if not row.values:
        return f"| {row.label}, {row.note} |  |  |"
    n = len(row.values)
    middle = sum(sorted(row.values)[(n - 1) // 2 : n // 2 + 1]) / (1 if n % 2 else 2)
    shown = [f"{value:,.{row.digits}f}" for value in (middle, min(row.values), max(row.values))]
    spread = f"{shown[1]}-{shown[2]}" if len(row.values) > 1 else ""
    return f" | {shown[0]} | {spread} |"


def test_both_ratios_of_the_first_generation_call_are_on_the_page(results: Results) -> None:
    page = " ".join(render(results).split())
    for section in results.main.starting_with("generation"):
        values = section["ratio: ours / transformers"].values
        assert f"{sorted(values)[1]:.2f} ({min(values):.2f}-{max(values):.2f})" in page


def test_bits_are_nats_divided_by_log_2(results: Results) -> None:
    lines = results_table(results).splitlines()[2:]
    for line in lines:
        _, _, _, loss, _, bits, *_ = (cell.strip() for cell in line.split("|"))
        assert float(bits) == pytest.approx(float(loss.split()[0]) / math.log(2), abs=1e-3)
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("name", "sizes"), [("laptop", {}), ("full", {}), ("full", {"max_seq_len": 1024})]
)
def test_the_parameter_counts_are_those_of_the_presets(
    results: Results, name: str, sizes: dict[str, Any]
) -> None:
    with torch.device("meta"):
        model = TinyTransformerLM(replace(preset(name).model, vocab_size=65, **sizes))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == results.runs["parameters"][name]
    assert name == "laptop" or count == results.runs["long_run"]["parameters"]


def test_other_results_give_another_page_and_table(results: Results) -> None:
    other = changed(results, "laptop preset, bfloat16: validation", "after", (1.5, 1.7, 1.25))
    start = "| `train.py` | 804,224 | 1.500 (1.250 to 1.700) | "
    (line,) = (one for one in results_table(other).splitlines() if one.startswith(start))
    assert line.split(" | ")[4] == "2.164"
    assert results_table(other) in render(other)


def older(results: Results) -> Results:
    """The same results, as a measurement without equal evaluation and units."""

    def call(old: Call) -> Call:
        sections = tuple(
            replace(
                section,
                rows=tuple(row for row in section.rows if "equal evaluation" not in row.label),
            )
            for section in old.sections
            if "in units" not in section.title
        )
        return replace(old, sections=sections)

    runs = {**results.runs, "long_run": dict(results.runs["long_run"])}
    for key in ("equal_evaluation", "units"):
        runs["long_run"].pop(key, None)
    return replace(results, main=call(results.main), full=call(results.full), runs=runs)


def cells(results: Results) -> list[list[str]]:
    return [
        line.removeprefix("| ").removesuffix(" |").split(" | ")
        for line in results_table(results).splitlines()
    ]


def test_what_an_older_measurement_lacks_is_not_measured(results: Results) -> None:
    header, _, *lines = cells(older(results))
    assert (header[3], header[6]) == ("at equal evaluation", "in units")
    assert [line[3] for line in lines] == ["not measured"] * 4
    # The second row is a run of 15 s, whatever the machine.
    assert [line[6] for line in lines] == ["not measured", "", *["not measured"] * 2]
    assert "not measured" not in " ".join(line[2] + line[4] + line[5] for line in lines)


def test_the_loss_at_equal_evaluation_and_the_units_have_columns(results: Results) -> None:
    old = older(results)
    (section,) = (s for s in old.full.sections if s.title.endswith("validation loss"))
    own = section.rows[0]
    equal = Row(f"{own.label}, equal evaluation", (1.61, 1.6, 1.7), 4, note="blocks of 256")
    units = Row("to the last step", (4.0, 5.0, 3.0), 2)
    measured = (
        *(s for s in old.full.sections if s is not section),
        Section("full preset, bfloat16: training time in units", "units", (units,)),
        replace(section, rows=(own, equal, *section.rows[1:])),
    )
    runs = {**old.runs, "long_run": {**old.runs["long_run"], "equal_evaluation": 1.5, "units": 17}}
    new = replace(old, full=replace(old.full, sections=measured), runs=runs)
    *_, full, long = cells(new)
    assert (full[3], full[6]) == ("1.610 (1.600 to 1.700)", "4.00 (3.00 to 5.00)")
    assert full[2] == cells(old)[4][2]  # at its own context, as before
    assert (long[3], long[6]) == ("1.5", "17")


def test_the_page_says_how_many_seeds_were_measured(results: Results) -> None:
    five = changed(results, "laptop preset, bfloat16: validation", "--max", (1.8, 1.9, 2, 2, 2))
    assert "medians over seeds 0 to 4," in " ".join(render(five).split())


def test_the_page_and_its_picture_are_written_from_the_files_of_a_folder(tmp_path: Path) -> None:
    for path in CAPSTONE.glob("benchmark*.json"):
        shutil.copy(path, tmp_path)
    page, picture = write_page(tmp_path)
    assert page.read_bytes() == (CAPSTONE / "BENCHMARKS.md").read_bytes()
    assert picture == tmp_path / "pictures" / "benchmark.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((1.0, 2.0, 9.0), "no"),
        ((1.0, 4.0, 9.0), "by the median, but not by every value"),
        ((3.0, 4.0, 9.0), "yes"),
    ],
)
def test_a_target_is_reached_only_if_the_median_reaches_it(
    values: tuple[float, ...], verdict: str
) -> None:
    assert Target("three", Row("a ratio", values), 3.0).verdict == verdict
    mirrored = tuple(-value for value in values)
    assert Target("at most", Row("a loss", mirrored), -3.0, at_most=True).verdict == verdict


def test_missed_targets_are_called_missed(results: Results) -> None:
    label = "ratio: ours / transformers, bfloat16"
    lost = changed(results, "training 6x384 in GPT-2", label, (1.7, 1.7, 1.7))
    won = changed(results, "training 6x384 in GPT-2", label, (1.9, 1.9, 1.9))
    goal = "GPT-2's layout`: 1.8 times the baseline's speed, both in bfloat16"
    assert f"{goal} | 1.70 | 1.70-1.70 | no |" in render(lost)
    assert f"{goal} | 1.90 | 1.90-1.90 | yes |" in render(won)


def test_a_target_without_a_measurement_says_so(results: Results) -> None:
    assert "| `full`: 7 units of training |  |  | not measured |" in render(older(results))


def test_comparisons_that_the_baseline_wins_are_listed() -> None:
    rows = (Row("ours", (0.1,)), Row("ratio: a / b", (0.5,), 2), Row("ratio: c / d", (1.5,), 2))
    text = slower_than_baseline([Section("training tiny, 2 x 8", "", rows)])
    assert text.endswith("faster in: `training tiny`, ratio: a / b (0.50).")
    assert slower_than_baseline([Section("training tiny", "", rows[2:])]) == ""


def test_the_command_of_a_call_is_shown_without_its_folder() -> None:
    call = Call({"command": ["tools/benchmark.py", "--rounds", "3", "--out", "DIR"]}, ())
    assert call.command == "python tools/benchmark.py --rounds 3"
