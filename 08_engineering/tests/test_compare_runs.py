"""compare_runs.py: what differs and nothing else, results counted by hand, damage as blanks."""

import json
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from compare_runs import STYLES, Run, compare, comparison, draw, read_run
from logging_utils import MetricsLog
from utils.config import ModelConfig, TrainConfig, save_config
from utils.errors import UsageError

RESULTS = ["best validation loss", "at step", "steps", "training seconds", "tokens/s"]
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write the folder of a run: its configuration, rows (step, val_loss, seconds), environment."""

    def make(
        name: str,
        rows: Iterable[tuple[float | None, ...]] = ((300, 1.5, 6.0),),
        environment: object = None,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        model = ModelConfig(**{"max_seq_len": 16, **changes.pop("model", {})})
        fields = {"batch_size": 4, "accumulation": 2, "max_steps": 300, **changes}
        save_config(TrainConfig(model, **fields), folder / "config.yaml")
        with MetricsLog(folder) as log:
            for row in rows:
                log.append(dict(zip(("step", "val_loss", "seconds"), row, strict=True)))
        if environment is not None:
            text = json.dumps(environment)
            (folder / "environment.json").write_text(text, encoding="utf-8")
        return folder

    return make


def said(*folders: Path) -> str:
    return comparison([read_run(folder) for folder in folders])


def table(text: str) -> dict[str, list[str]]:
    """The rows of a printed comparison: name, and a cell for each run."""
    body = text.split("\n\n")[1]
    lines = [re.split(r" {2,}", line) for line in body.splitlines()]
    return {name: cells for name, *cells in lines}


def environment(commit: str = "a" * 40, dirty: bool = False, **changes: str) -> dict[str, Any]:
    git = {"commit": commit, "dirty": dirty}
    return {"torch": "2.13.0", "device": "cpu (x86_64, 2 threads)", "git": git, **changes}


# --- the table ----------------------------------------------------------------------------------


def test_the_fields_that_differ_are_shown_and_no_others(make):
    a = make("a", lr=0.001, model={"n_kv_heads": 2})
    b = make("b", lr=0.002, compile=True)
    assert table(said(a, b)) == {
        "": ["run 1", "run 2"],
        "model.n_kv_heads": ["2", "None"],
        "lr": ["0.001", "0.002"],
        "compile": ["False", "True"],
        **{"best validation loss": ["1.5000"] * 2, "at step": ["300"] * 2},
        **{"steps": ["300/300"] * 2, "training seconds": ["6.0"] * 2, "tokens/s": ["6,400"] * 2},
    }


def test_a_setting_that_differs_in_one_of_three_runs_is_shown(make):
    text = said(make("a", seed=1), make("b", seed=1), make("c", seed=2))
    assert table(text)["seed"] == ["1", "1", "2"]


def test_equal_configurations_are_reported(make):
    text = said(make("a"), make("b"))
    assert "the configurations are the same" in text
    assert list(table(text)) == ["", *RESULTS]
    assert "the same" not in said(make("c"), make("d", seed=1))


def test_different_texts_give_a_warning(make):
    assert "losses on different texts are not comparable" in said(make("a"), make("b", data="mock"))
    assert "different texts" not in said(make("c"), make("d", seed=1))


def test_runs_with_different_tokenizers_are_compared_in_bits_per_character(make):
    a, b = make("a", tokenizer="char"), make("b", [], tokenizer="bpe")
    with MetricsLog(b) as log:
        for step, bits in ((100, 3.0), (200, 2.5)):
            log.append({"step": step, "val_loss": 2 * bits, "val_bits_per_char": bits})
    text = said(a, b)
    assert table(text)["tokenizer"] == ["char", "bpe"]
    assert table(text)["bits per character"] == ["-", "2.5000"]
    assert "tokenizer differs: compare bits per character" in text
    assert "bits per character" not in said(make("c"), make("d", seed=1))


def test_the_best_loss_is_the_lowest_finite_one_with_its_step(make):
    rows = [(100, 2.0, 1.0), (200, 1.25, 2.0), (250, math.nan, 2.5), (300, 1.5, 3.0)]
    cells = table(said(make("a", rows), make("b")))
    assert cells["best validation loss"] == ["1.2500", "1.5000"]
    assert cells["at step"] == ["200", "300"]


def test_steps_and_speed_are_those_of_the_last_row(make):
    rows = [(10, None, 0.5), (20, 2.0, None), (40, None, 2.0)]
    cells = table(said(make("a", rows), make("b")))
    assert cells["steps"] == ["40/300", "300/300"]
    assert cells["training seconds"] == ["2.0", "6.0"]
    assert cells["tokens/s"] == [f"{40 * 4 * 2 * 16 / 2.0:,.0f}", f"{300 * 4 * 2 * 16 / 6.0:,.0f}"]


def test_a_run_that_has_just_begun_has_no_results_yet(make):
    cells = table(said(make("a", []), make("b", [(1, None, 0.0)])))
    assert cells == {"": ["run 1", "run 2"], "steps": ["-", "1/300"]}


def test_commit_torch_and_device_are_shown_where_they_differ(make):
    same = said(make("a", environment=environment()), make("b", environment=environment()))
    assert not {"git commit", "torch", "device"} & set(table(same))
    other = environment(commit="b" * 40, torch="2.12.0", device="cuda (a GPU)")
    cells = table(said(make("c", environment=environment()), make("d", environment=other)))
    assert cells["git commit"] == ["aaaaaaaaa", "bbbbbbbbb"]
    assert cells["torch"] == ["2.13.0", "2.12.0"]
    assert cells["device"] == ["cpu (x86_64, 2 threads)", "cuda (a GPU)"]


def test_changes_on_top_of_one_commit_are_a_difference(make):
    clean, dirty = environment(), environment(dirty=True)
    cells = table(said(make("a", environment=clean), make("b", environment=dirty)))
    assert cells["git commit"] == ["aaaaaaaaa", "aaaaaaaaa+"]


def test_a_value_unknown_for_one_run_is_not_a_difference(make):
    nowhere = make("b", environment={**environment(), "git": None})
    text = said(make("a", environment=environment()), nowhere, make("c"))
    assert list(table(text)) == ["", *RESULTS]


# --- missing and damaged files ------------------------------------------------------------------

DAMAGE = [
    None,
    b"",
    b"\xff\xfe",
    b"{",
    b"[",
    b"[]",
    b"7",
    b'"torch"',
    b'{"python": 3}',
    b'{"git": 7}',
    b'{"git": []}',
]


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "metrics.csv"])
def test_a_missing_or_damaged_file_leaves_blanks_and_the_other_run_whole(make, name, content):
    a = make("a", environment=environment(torch="2.12.0"), seed=1)
    b = make("b", environment=environment())
    whole, path = table(said(a, b)), a / name
    path.unlink() if content is None else path.write_bytes(content)
    cells = table(said(a, b))
    for row, (damaged, kept) in cells.items():
        assert kept == whole[row][1]
        assert damaged in ("-", whole[row][0]) or row == "steps"
    lost = {
        "config.yaml": {"seed": None, "steps": "300/?", "tokens/s": "-"},
        "environment.json": {"torch": None},
        "metrics.csv": dict.fromkeys(RESULTS, "-"),
    }[name]
    assert {row: cells[row][0] if row in cells else None for row in lost} == lost


def test_a_configuration_that_cannot_be_read_is_named(make):
    a, b = make("a"), make("b", seed=1)
    (b / "config.yaml").write_text("max_stesp: 3", encoding="utf-8")
    text = said(a, b)
    assert "run 2 has no readable config.yaml" in text
    assert "the configurations are the same" not in text


def test_a_torn_last_row_is_skipped(make):
    a = make("a")
    with (a / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("400,,0.1")
    assert table(said(a, make("b")))["steps"] == ["300/300"] * 2


# --- eighty columns -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_runs", [2, 5, 6, 7, 13])
def test_every_run_is_in_the_table_and_no_line_is_wider_than_80_columns(make, n_runs):
    text = said(*(make(f"a{i}", lr=0.001 * (i + 1), seed=i) for i in range(n_runs)))
    assert max(map(len, text.splitlines()[n_runs:])) <= 80
    assert re.findall(r"run \d+(?=  )", text.replace("\n", "  "))[n_runs:] == [
        f"run {i + 1}" for i in range(n_runs)
    ]
    seeds = " ".join(re.findall(r"^seed +(.*)", text, re.MULTILINE)).split()
    assert seeds == [str(i) for i in range(n_runs)]


def test_a_long_value_is_wrapped_and_nothing_of_it_is_lost(make):
    path = "/data/" + "".join(f"{i:03}" for i in range(40)) + ".txt"
    text = said(make("a", data=path), make("b", data="mock"), make("c", data=path + "x"))
    assert max(map(len, text.splitlines()[3:])) <= 80
    rest = text[text.index("\ndata") :].split("best validation")[0]
    pieces = [line[22:50].strip() for line in rest.splitlines()]
    assert "".join(pieces) == path
    assert text.count("\ndata   ") == 2  # once for runs 1 and 2, once for run 3 below them


def test_the_legend_fits_and_ends_in_the_name_of_the_run(make):
    folders = [make("x" * 60 + "/" + name) for name in ("first", "second")]
    legend = said(*folders).splitlines()[:2]
    assert legend[0].startswith("run 1   ") and legend[0].endswith("x/first")
    assert legend[1].startswith("run 2   ") and legend[1].endswith("x/second")
    assert max(map(len, legend)) <= 80


def test_a_run_below_the_current_folder_is_shown_by_its_relative_path(make, monkeypatch):
    a, b = make("runs/a"), make("runs/b")
    monkeypatch.chdir(a.parents[1])
    assert said(a, b).splitlines()[0] == f"run 1   {Path('runs', 'a')}"


# --- the picture --------------------------------------------------------------------------------


def test_the_curves_are_the_validation_losses_over_the_steps(make, tmp_path):
    rows = [(100, 2.0, 1.0), (150, None, 1.5), (200, math.nan, 2.0), (300, 1.5, 3.0)]
    folders = [make("a", rows), make("none", []), make("b", [(300, 1.25, 3.0)])]
    figure = draw([read_run(folder) for folder in folders], tmp_path / "x.png")
    lines = figure.axes[0].get_lines()
    assert [list(np.asarray(line.get_xdata())) for line in lines] == [[100, 300], [300]]
    assert [list(np.asarray(line.get_ydata())) for line in lines] == [[2.0, 1.5], [1.25]]
    assert [line.get_label() for line in lines] == ["run 1, best 1.500: a", "run 3, best 1.250: b"]
    assert min(imread(tmp_path / "x.png").shape[:2]) > 300


def test_28_curves_look_different(tmp_path):
    run = Run(Path("a"), {}, {}, [{"step": 1.0, "val_loss": 1.0}])
    lines = draw([run] * 30, tmp_path / "x.png").axes[0].get_lines()
    looks = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(looks) == 28 == 7 * len(STYLES)


def test_a_name_with_dollars_is_drawn_as_it_is(make, tmp_path):
    figure = draw([read_run(make("$^$")), read_run(make("_b"))], tmp_path / "x.svg")
    legend = figure.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert not any(text.get_parse_math() for text in legend.get_texts())
    assert labels == ["run 1, best 1.500: $^$", "run 2, best 1.500: _b"]


def test_the_picture_is_next_to_the_most_recent_run(make, tmp_path, capsys):
    a, b = make("here/a"), make("there/b")
    os.utime(b, (1e9, 1e9))
    compare([a, b])
    assert capsys.readouterr().out.endswith(f"picture {tmp_path / 'here' / 'compare.png'}\n")
    assert not (tmp_path / "there" / "compare.png").exists()
    os.utime(a, (1e8, 1e8))
    compare([a, b])
    assert imread(tmp_path / "there" / "compare.png").shape


@pytest.mark.parametrize("suffix", [".PNG", ".svg", ".pdf"])
def test_the_picture_goes_to_the_requested_path_in_the_format_of_its_suffix(make, tmp_path, suffix):
    out = tmp_path / "new" / "folder" / f"x{suffix}"
    compare([make("a"), make("b")], out)
    begins = {".PNG": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert out.read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_without_any_validation_loss_there_is_no_picture(make, tmp_path, capsys):
    compare([make("a", []), make("b", [(10, math.nan, 1.0)])])
    assert capsys.readouterr().out.endswith(
        "no picture: none of these runs has a validation loss yet\n"
    )
    assert not (tmp_path / "compare.png").exists()


# --- refused ------------------------------------------------------------------------------------


def test_one_run_or_the_same_one_twice_cannot_be_compared(make, tmp_path, monkeypatch):
    a, b = make("a"), make("b")
    monkeypatch.chdir(tmp_path)
    for folders in ([a], [a, a], [a, b, a], [a, Path("a")]):
        with pytest.raises(UsageError, match="at least two different runs"):
            compare(folders)


def test_a_picture_of_another_format_is_refused_before_anything_is_printed(make, capsys):
    with pytest.raises(UsageError, match=r"choose one of: \.png, \.svg, \.pdf"):
        compare([make("a"), make("b")], Path("x.jpg"))
    assert capsys.readouterr().out == ""
