"""09_capstone/BENCHMARKS.md and the table of the README are what the committed results say."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model.config import preset
from tools.benchmarks.page import render, write_page
from tools.benchmarks.report import Row, Section
from tools.benchmarks.results import Call, Results, read_results, results_table
from tools.benchmarks.targets import Target, slower_than_baseline

ROOT = Path(__file__).resolve().parents[2]
CAPSTONE = ROOT / "09_capstone"


@pytest.fixture(scope="module")
def results() -> Results:
    return read_results()


def with_values(call: Call, section: str, label: str, values: tuple[float, ...]) -> Call:
    """The same call with other values in one row."""

    def row(old: Row) -> Row:
        return replace(old, values=values) if old.label.startswith(label) else old

    sections = tuple(
        replace(old, rows=tuple(map(row, old.rows))) if old.title.startswith(section) else old
        for old in call.sections
    )
    return replace(call, sections=sections)


def with_call(results: Results, preset_name: str, call: Call) -> Results:
    """The same results with another call for a preset."""
    return replace(results, trained={**results.trained, preset_name: call})


def with_losses(results: Results, label: str, values: tuple[float, ...]) -> Results:
    """The same results with other losses of `laptop`."""
    call = with_values(results.trained["laptop"], "laptop preset, bfloat16: val", label, values)
    return with_call(results, "laptop", call)


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
    for call in results.calls:
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
    assert len(lines) == len(results.trained) + 1  # and the time limit


def test_the_parameter_counts_are_those_of_the_presets(results: Results) -> None:
    for name, (_, parameters, *_) in zip(
        ("laptop", "laptop", "full"), cells(results)[2:], strict=True
    ):
        model = preset(name).model
        # Two tables of 65 characters, and per layer four matrices of attention and two of the MLP.
        d_model = model.d_model
        counted = 2 * 65 * d_model + model.n_layers * 12 * d_model**2
        counted += (2 * model.n_layers + 1) * d_model  # the gains of the norms
        assert parameters == f"{counted:,}"


def test_other_results_give_another_page_and_table(results: Results) -> None:
    other = with_losses(results, "after", (1.5, 1.7, 1.25))
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

    return replace(results, trained={name: call(old) for name, old in results.trained.items()})


def cells(results: Results) -> list[list[str]]:
    return [
        line.removeprefix("| ").removesuffix(" |").split(" | ")
        for line in results_table(results).splitlines()
    ]


def test_what_an_older_measurement_lacks_is_not_measured(results: Results) -> None:
    header, _, *lines = cells(older(results))
    assert (header[3], header[6]) == ("at equal evaluation", "in units")
    assert [line[3] for line in lines] == ["not measured"] * 3
    # The second row is a run of 15 s, whatever the machine.
    assert [line[6] for line in lines] == ["not measured", "", "not measured"]
    assert "not measured" not in " ".join(line[2] + line[4] + line[5] for line in lines)


def test_the_loss_at_equal_evaluation_and_the_units_have_columns(results: Results) -> None:
    old = older(results)
    call = old.trained["full"]
    (section,) = (s for s in call.sections if s.title.endswith("validation loss"))
    own = section.rows[0]
    equal = Row(f"{own.label}, equal evaluation", (1.61, 1.6, 1.7), 4, note="blocks of 256")
    units = Row("to the last step", (4.0, 5.0, 3.0), 2)
    measured = (
        *(s for s in call.sections if s is not section),
        Section("full preset, bfloat16: training time in units", "units", (units,)),
        replace(section, rows=(own, equal, *section.rows[1:])),
    )
    full = cells(with_call(old, "full", replace(call, sections=measured)))[4]
    assert (full[3], full[6]) == ("1.610 (1.600 to 1.700)", "4.00 (3.00 to 5.00)")
    assert full[2] == cells(old)[4][2]  # at its own context, as before


def test_the_page_says_how_many_seeds_were_measured(results: Results) -> None:
    n_full = len(results.trained["full"].row("full", "validation loss", "after ").values)
    more = with_losses(results, "after", tuple([1.8] * (n_full + 1)))
    text = f"the seeds, 0 to {n_full} for `laptop` and 0 to {n_full - 1} for `full`,"
    assert text in " ".join(render(more).split())
    same = with_losses(results, "after", tuple([1.8] * n_full))
    assert f"the seeds, 0 to {n_full - 1}, with" in " ".join(render(same).split())


def test_the_page_says_how_long_the_training_took(results: Results) -> None:
    seconds = results.trained["full"].row("full", "training time", "to the last step").values
    text = " ".join(render(results).split())
    assert f"and {sum(seconds) / 60:.0f} for `full`." in text


def test_the_page_names_every_machine_once(results: Results) -> None:
    call = results.trained["full"]
    other = replace(call, machine={**call.machine, "cpu": "Another CPU"})
    opening = " ".join(render(with_call(results, "full", other)).split()).partition("## ")[0]
    assert opening.count("Another CPU") == opening.count(results.main.machine["cpu"]) == 1


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

    def measured(ratio: float) -> Results:
        main = with_values(results.main, "training 6x384 in GPT-2", label, (ratio,) * 3)
        return replace(results, main=main)

    goal = "GPT-2's layout`: 1.8 times the baseline's speed, both in bfloat16"
    assert f"{goal} | 1.70 | 1.70-1.70 | no |" in render(measured(1.7))
    assert f"{goal} | 1.90 | 1.90-1.90 | yes |" in render(measured(1.9))


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
