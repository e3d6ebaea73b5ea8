"""tools/benchmark.py: which sections it measures, what it prints and writes, what it refuses."""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tools import benchmark
from tools.benchmarks.interleave import Settings
from tools.benchmarks.report import SPEED, Row, Section
from utils.errors import run_program

Call = Callable[..., tuple[int, str, str]]
NAMES = ("training", "losses", "generation", "changes", "startup", "memory")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Settings]]:
    """Replace the sections by fakes that record their name and settings."""
    seen: list[tuple[str, Settings]] = []

    def section(name: str) -> Callable[[Settings], Iterator[Section]]:
        def fake(settings: Settings) -> Iterator[Section]:
            seen.append((name, settings))
            yield Section(f"the {name}", SPEED, (Row("ours, one", (1.0, 2.0, 4.0)),))

        return fake

    monkeypatch.setattr(benchmark, "SECTIONS", {name: section(name) for name in NAMES})
    return seen


@pytest.fixture
def call(tmp_path: Path, call_program: Call) -> Call:
    """Run the program on a small text; exit code, output and errors."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\n" * 40, encoding="utf-8")
    return partial(call_program, benchmark.main, "--data", text)


def names(measured: list[tuple[str, Settings]]) -> list[str]:
    return [name for name, _ in measured]


def test_by_default_all_sections_but_losses_are_measured_in_order(
    call: Call, measured: list
) -> None:
    code, out, err = call()
    assert (code, err) == (0, "")
    assert names(measured) == ["training", "generation", "changes", "startup", "memory"]
    places = [out.index(f"the {name}\n") for name in names(measured)]
    assert places == sorted(places)


def test_losses_are_measured_when_train_seeds_is_given(call: Call, measured: list) -> None:
    assert call("--train-seeds", 3, "--preset", "full")[0] == 0
    assert names(measured) == list(NAMES)
    assert (measured[0][1].seeds, measured[0][1].preset) == (3, "full")


def test_only_the_named_sections_are_measured(call: Call, measured: list) -> None:
    assert call("--only", "memory", "training")[0] == 0
    assert names(measured) == ["training", "memory"]


@pytest.mark.parametrize(
    ("words", "rounds"), [((), 5), (("--quick",), 2), (("--quick", "--rounds", "7"), 7)]
)
def test_rounds_are_five_or_two_or_as_given(
    call: Call, measured: list, words: tuple[str, ...], rounds: int
) -> None:
    _, out, _ = call(*words)
    settings = measured[0][1]
    assert (settings.rounds, settings.quick) == (rounds, "--quick" in words)
    assert ("Do not quote" in " ".join(out.split())) == settings.quick


def test_the_output_names_machine_versions_and_data_in_80_columns(
    call: Call, measured: list
) -> None:
    _, out, _ = call("--quick")
    for word in ("torch 2.", "Python 3.", "cores", "threads", "commit", "UTC", "your file"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80
    assert "ours, one" in out
    assert "(1-4)" in out


def test_without_out_nothing_is_written(call: Call, measured: list, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    call()
    assert sorted(tmp_path.rglob("*")) == before


def test_out_writes_results_table_and_picture(call: Call, measured: list, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "results"
    code, out, _ = call("--out", folder)
    assert code == 0
    found = sorted(path.name for path in folder.iterdir())
    assert found == ["picture.png", "results.json", "table.md"]
    assert all(f"wrote {folder / name}" in out for name in found)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    titles = [section["title"] for section in results["sections"]]
    assert titles == [f"the {name}" for name in names(measured)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "trainin"], "did you mean 'training'?"),
        (["--rounds", "0"], "--rounds 0 is out of range: it must be at least 1"),
        (["--rounds", "many"], "'many'"),
        (["--train-seeds", "-1"], "--train-seeds -1 is out of range"),
        (["--only", "losses"], "--only losses needs --train-seeds"),
        (["--only", "memory", "--train-seeds", "2"], "which --only leaves out"),
        (["--train-seeds", "2", "--preset", "ful"], "did you mean 'full'?"),
        (["--preset", "full"], "--preset full needs --train-seeds N"),
        (["--quik"], "did you mean '--quick'?"),
        (["--page", "--quick"], "--page measures nothing and takes no other flag"),
        (["--page"], "--page measures nothing and takes no other flag"),  # `call` adds --data
        (["--out", __file__], "is a file, not a folder"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(
    call: Call, measured: list, words: list[str], message: str
) -> None:
    code, out, err = call(*words)
    assert (code, out, measured) == (2, "", [])
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_missing_data_is_refused_in_one_line(call: Call, measured: list) -> None:
    code, _, err = call("--data", "no_such_text.txt")
    assert code != 0
    assert err.count("\n") == 1
    assert "no_such_text.txt" in err


def test_page_writes_the_page_and_measures_nothing(
    measured: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "write_page", lambda: [Path("BENCHMARKS.md")])
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--page"])
    with pytest.raises(SystemExit) as left:
        run_program(benchmark.main)
    assert not left.value.code
    assert capsys.readouterr().out == "wrote BENCHMARKS.md\n"
    assert measured == []
