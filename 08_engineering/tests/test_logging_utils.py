"""logging_utils.py: values are restored exactly, and a crash costs at most the last line."""

import csv
import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from logging_utils import (
    METRIC_COLUMNS,
    CsvLogger,
    JsonlLogger,
    MetricsLog,
    TextLog,
    read_csv,
    read_jsonl,
)
from utils.errors import CourseError, UsageError

AWKWARD = [0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, 2**53, math.pi, math.nan, math.inf]


def bits(value: float | None) -> bytes:
    """All 64 bits, so that -0.0 is not 0.0 and NaN equals NaN."""
    return struct.pack("<d", math.nan if value is None else value)


def random_floats(n: int) -> list[float]:
    """Floats of any exponent, from random bits."""
    numbers = random.Random(0)
    drawn = [struct.unpack("<d", numbers.randbytes(8))[0] for _ in range(n)]
    return [x for x in drawn if not math.isnan(x)]


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("logger", ["csv", "jsonl"])
def test_every_float_is_restored_bit_for_bit(tmp_path, logger):
    values = [*AWKWARD, -math.inf, *random_floats(500)]
    path = tmp_path / "x"
    log = CsvLogger(path, ["x"]) if logger == "csv" else JsonlLogger(path)
    with log:
        for value in values:
            log.append({"x": value})
    rows = read_csv(path) if logger == "csv" else read_jsonl(path)
    assert [bits(row["x"]) for row in rows] == [bits(value) for value in values]


@pytest.mark.parametrize("one", [np.float32(0.1), np.float64(0.1), torch.tensor(0.1), np.int64(3)])
def test_numpy_and_torch_scalars_are_written_as_numbers(tmp_path, one):
    with CsvLogger(tmp_path / "c", ["x"]) as table, JsonlLogger(tmp_path / "j") as lines:
        table.append({"x": one})
        lines.append({"x": one})
    assert read_csv(tmp_path / "c") == read_jsonl(tmp_path / "j") == [{"x": float(one)}]


def test_the_csv_is_what_pythons_own_reader_reads(tmp_path):
    with CsvLogger(tmp_path / "m.csv", ["step", "loss", "ok"]) as log:
        log.append({"loss": 0.5, "step": 1, "ok": True})
        log.append({"step": 2, "loss": None})
    with (tmp_path / "m.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = [{"step": "1", "loss": "0.5", "ok": "1"}, {"step": "2", "loss": "", "ok": ""}]
    assert rows == expected
    assert read_csv(tmp_path / "m.csv")[1] == {"step": 2.0, "loss": None, "ok": None}


def test_each_line_of_jsonl_is_json_to_a_strict_reader(tmp_path):
    row = {"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": "caf\u00e9\n", "e": None, "f": 2}
    with JsonlLogger(tmp_path / "m.jsonl") as log:
        log.append(row)
    text = (tmp_path / "m.jsonl").read_text(encoding="utf-8")
    strict = json.loads(text, parse_constant=refuse_constant)
    assert strict == row | {"a": "NaN", "b": ["Infinity", {"c": "-Infinity"}]}
    back = read_jsonl(tmp_path / "m.jsonl")[0]
    assert math.isnan(back.pop("a"))
    assert back == {name: value for name, value in row.items() if name != "a"}


def test_a_row_is_not_modified_by_logging_it(tmp_path):
    row = {"x": math.inf, "list": [math.inf]}
    with JsonlLogger(tmp_path / "m.jsonl") as log:
        log.append(row)
    assert row == {"x": math.inf, "list": [math.inf]}


@pytest.mark.parametrize("cut", range(len("step,loss\n1,0.5\n2,0.25\n") + 1))
def test_a_csv_cut_anywhere_continues_after_its_last_complete_row(tmp_path, cut):
    path = tmp_path / "m.csv"
    path.write_bytes(b"step,loss\n1,0.5\n2,0.25\n"[:cut])
    whole = [{"step": 1.0, "loss": 0.5}] * (cut >= 16) + [{"step": 2.0, "loss": 0.25}] * (cut >= 23)
    assert read_csv(path) == whole
    with CsvLogger(path, ["step", "loss"]) as log:
        log.append({"step": 9, "loss": 9})
    assert read_csv(path) == [*whole, {"step": 9.0, "loss": 9.0}]


def test_a_torn_line_of_jsonl_is_dropped_when_the_log_continues(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2')
    assert read_jsonl(path) == [{"step": 1}]
    with JsonlLogger(path) as log:
        log.append({"step": 3})
    assert read_jsonl(path) == [{"step": 1}, {"step": 3}]


def test_a_reader_finds_each_row_while_the_log_is_still_open(tmp_path):
    with CsvLogger(tmp_path / "m.csv", ["step"]) as log:
        log.append({"step": 1})
        assert read_csv(tmp_path / "m.csv") == [{"step": 1.0}]


def test_a_log_with_other_columns_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"step,loss\n1,0.5\ntorn")
    with pytest.raises(CourseError, match="has the columns step,loss; expected step,perplexity"):
        CsvLogger(path, ["step", "perplexity"])
    assert path.read_bytes() == b"step,loss\n1,0.5\ntorn"


@pytest.mark.parametrize("name", ["", "a,b", 'a"b', "a\nb", "a\rb"])
def test_a_column_name_that_would_need_quotes_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be used"):
        CsvLogger(tmp_path / "m.csv", ["step", name])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"step": 1, "los": 2.0}, "unknown column los; known: step, loss"),
        ({"step": 1, "loss": "high"}, "a number or None, not 'high'"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_of_it_is_written(tmp_path, row, message):
    with CsvLogger(tmp_path / "m.csv", ["step", "loss"]) as log:
        with pytest.raises(CourseError, match=message):
            log.append(row)
        assert read_csv(log.path) == []


@pytest.mark.parametrize("line", ["1,0.5,7", "1", "1,high"])
def test_a_damaged_row_of_csv_is_named_by_file_and_line(tmp_path, line):
    (tmp_path / "m.csv").write_text(f"step,loss\n1,2\n{line}\n", encoding="utf-8")
    with pytest.raises(CourseError, match=rf"m\.csv, line 3: not numbers: '{line}'"):
        read_csv(tmp_path / "m.csv")


@pytest.mark.parametrize("line", ["{broken", "[1, 2]", "7", ""])
def test_a_damaged_row_of_jsonl_is_named_by_file_and_line(tmp_path, line):
    (tmp_path / "m.jsonl").write_text(f'{{"a": 1}}\n{line}\n', encoding="utf-8")
    with pytest.raises(CourseError, match=r"m\.jsonl, line 2: not a JSON object"):
        read_jsonl(tmp_path / "m.jsonl")


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "empty").touch()
    assert read_csv(tmp_path / "empty") == read_jsonl(tmp_path / "empty") == []


def test_a_text_log_puts_the_time_before_each_message_and_appends_when_reopened(tmp_path):
    for message in ("started", "step 10: loss 2.5"):
        with TextLog(tmp_path / "log.txt") as log:
            log.write(message)
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line[21:] for line in lines] == ["started", "step 10: loss 2.5"]
    assert all(line[4::3][:5] == "-- ::" for line in lines)  # 2026-11-21 10:15:30


# --- MetricsLog ---------------------------------------------------------------------------------


def rows_up_to(last: int) -> list[dict[str, Any]]:
    """A row every tenth step; every second one holds a validation loss."""
    steps = range(0, last + 1, 10)
    return [{"step": s, "train_loss": 1 / (s + 3), "val_loss": s % 20 and 0.1 * s} for s in steps]


def write_run(folder: Path, last: int) -> None:
    with MetricsLog(folder) as log:
        for row in rows_up_to(last):
            log.append(row)


def both_files(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "metrics.csv").read_bytes(), (folder / "metrics.jsonl").read_bytes()


def test_the_two_files_hold_the_same_rows(tmp_path):
    write_run(tmp_path, 50)
    table, lines = read_csv(tmp_path / "metrics.csv"), read_jsonl(tmp_path / "metrics.jsonl")
    assert lines == rows_up_to(50)
    assert [{name: row[name] for name in lines[0]} for row in table] == lines


@pytest.mark.parametrize("resumed_at", [0, 20, 25, 50])
def test_a_run_resumed_anywhere_leaves_the_files_of_a_run_never_stopped(tmp_path, resumed_at):
    (tmp_path / "whole").mkdir()
    (tmp_path / "resumed").mkdir()
    write_run(tmp_path / "whole", 80)
    write_run(tmp_path / "resumed", 50)
    with MetricsLog(tmp_path / "resumed") as log:
        log.truncate_after(resumed_at)
        for row in rows_up_to(80):
            if row["step"] > resumed_at:
                log.append(row)
    assert both_files(tmp_path / "resumed") == both_files(tmp_path / "whole")


def test_a_crash_between_the_two_files_is_repaired_by_the_next_truncation(tmp_path):
    write_run(tmp_path, 50)
    with CsvLogger(tmp_path / "metrics.csv", METRIC_COLUMNS) as log:
        log.append({"step": 60})  # and the crash came before the line of JSON
    with MetricsLog(tmp_path) as metrics:
        metrics.truncate_after(50)
    assert len(read_csv(tmp_path / "metrics.csv")) == len(read_jsonl(tmp_path / "metrics.jsonl"))


def test_a_truncation_that_fails_leaves_every_row_in_its_file(tmp_path, monkeypatch):
    write_run(tmp_path, 50)
    before = both_files(tmp_path)
    log = MetricsLog(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("utils.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        log.truncate_after(20)
    assert both_files(tmp_path) == before


def test_truncating_beyond_the_end_or_an_empty_log_changes_nothing(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.truncate_after(100)
        assert read_csv(tmp_path / "metrics.csv") == []
    write_run(tmp_path, 50)
    before = both_files(tmp_path)
    with MetricsLog(tmp_path) as log:
        log.truncate_after(1000)
    assert both_files(tmp_path) == before


@pytest.mark.parametrize("row", [{"train_loss": 1.0}, {"step": None}, {}])
def test_a_row_of_metrics_without_a_step_is_refused(tmp_path, row):
    with MetricsLog(tmp_path) as log, pytest.raises(CourseError, match="needs a step"):
        log.append(row)


def test_a_row_that_the_csv_refuses_is_in_neither_file(tmp_path):
    with MetricsLog(tmp_path) as log:
        with pytest.raises(CourseError, match="unknown column"):
            log.append({"step": 1, "speed": 3.0})
        assert read_jsonl(tmp_path / "metrics.jsonl") == []


def test_other_columns_are_possible(tmp_path):
    with MetricsLog(tmp_path, columns=("step", "reward")) as log:
        log.append({"step": 1, "reward": 0.5})
        log.sync()
    assert read_csv(tmp_path / "metrics.csv") == [{"step": 1.0, "reward": 0.5}]
