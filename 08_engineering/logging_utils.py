"""Logs that survive a crash: one line per row, written without a buffer.

A program killed at any instant can tear only the last line (`LineFile` in utils/files.py): readers
skip a torn line, and opening the log again drops it.

Two formats for the same values: CSV for people and spreadsheets, JSONL (one JSON object per line)
for programs. Both restore a float exactly: `repr` prints the shortest digits that do so.

JSON has no NaN and no infinities, and `null` would not say which it was. So JSONL uses the strings
"NaN", "Infinity" and "-Infinity", which `read_jsonl` turns back into floats (any string of exactly
these letters becomes a float). In CSV they are nan, inf and -inf, and an empty cell is None.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from utils.errors import CourseError, UsageError, run_program
from utils.files import LineFile, atomic_write_text, complete_lines

METRIC_COLUMNS = (
    *("step", "train_loss", "val_loss", "val_bits_per_char"),
    *("learning_rate", "grad_norm", "seconds"),
)
NON_FINITE = ("NaN", "Infinity", "-Infinity")  # what json.dumps calls them


class TextLog(LineFile):
    """log.txt: time-stamped messages, to be followed with `tail -f`."""

    def write(self, message: str) -> None:
        self.write_line(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {message}")


class CsvLogger(LineFile):
    """Rows of numbers under fixed columns; a missing value leaves its cell empty.

    Raises UsageError for a name that CSV would quote, CourseError if the file has other columns.
    """

    def __init__(self, path: Path | str, columns: Sequence[str]) -> None:
        for name in columns:
            if not name or set(name) & set(',"\r\n'):
                raise UsageError(
                    f"column {name!r} cannot be used: no commas, quotes or newlines allowed"
                )
        self.columns = tuple(columns)
        header = ",".join(columns)
        lines = complete_lines(path) if Path(path).exists() else []
        if lines and lines[0] != header:
            raise CourseError(f"{path} has the columns {lines[0]}; expected {header}")
        super().__init__(path)
        if not lines:
            self.write_line(header)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row. Raises CourseError for a column the file does not have."""
        if unknown := set(row) - set(self.columns):
            raise CourseError(f"unknown column {min(unknown)}; known: {', '.join(self.columns)}")
        self.write_line(",".join(_csv_cell(row.get(name)) for name in self.columns))


class JsonlLogger(LineFile):
    """One JSON object per line: numbers, strings, None, and lists and mappings of them."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; its keys may differ from those of other rows."""
        self.write_line(json.dumps(_each_leaf(row, _to_json)))


class MetricsLog(AbstractContextManager):
    """metrics.csv and metrics.jsonl of one run, with the same rows."""

    def __init__(self, run_dir: Path | str, columns: Sequence[str] = METRIC_COLUMNS) -> None:
        self._csv = CsvLogger(Path(run_dir) / "metrics.csv", columns)
        self._jsonl = JsonlLogger(Path(run_dir) / "metrics.jsonl")

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row to both files; it must contain "step", the number of steps done.

        Save the state of a step after its row: then a crash between the two files loses nothing,
        because the run resumes at an earlier step and writes the row again.
        """
        if row.get("step") is None:
            raise CourseError(f"a row of metrics needs a step; this one has only {', '.join(row)}")
        self._csv.append(row)
        self._jsonl.append(row)

    def truncate_after(self, step: int) -> None:
        """Drop the rows after `step`: a run resumed there writes them again.

        Each file is replaced atomically; after a crash between the two, call it again.
        """
        self.close()  # Windows does not replace a file that is open
        _keep_up_to(step, self._csv.path, read_csv(self._csv.path))
        _keep_up_to(step, self._jsonl.path, read_jsonl(self._jsonl.path))
        self._csv = CsvLogger(self._csv.path, self._csv.columns)
        self._jsonl = JsonlLogger(self._jsonl.path)

    def sync(self) -> None:
        """Wait until the rows are on disk: before a checkpoint that relies on them."""
        self._csv.sync()
        self._jsonl.sync()

    def close(self) -> None:
        self._csv.close()
        self._jsonl.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def read_csv(path: Path | str) -> list[dict[str, float | None]]:
    """The rows that CsvLogger wrote. Raises CourseError naming the first bad line."""
    header, *lines = complete_lines(path) or [""]
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            pairs = zip(header.split(","), line.split(","), strict=True)
            rows.append({name: float(cell) if cell else None for name, cell in pairs})
        except ValueError:
            raise CourseError(f"{path}, line {number}: not numbers: {line[:60]!r}") from None
    return rows


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The rows that JsonlLogger wrote. Raises CourseError naming the first bad line."""
    rows = []
    for number, line in enumerate(complete_lines(path), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise CourseError(f"{path}, line {number}: not a JSON object: {line[:60]!r}")
        rows.append(_each_leaf(row, _from_json))
    return rows


def _keep_up_to(step: int, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rewrite the file with its rows up to `step`, each exactly as it was."""
    lines = complete_lines(path)
    above = len(lines) - len(rows)  # header lines: 1 in CSV, 0 in JSONL
    kept = [line for line, row in zip(lines[above:], rows, strict=True) if row["step"] <= step]
    atomic_write_text(path, "".join(f"{line}\n" for line in lines[:above] + kept))


def _plain(value: Any) -> Any:
    """The Python number inside a NumPy scalar or a tensor of one element; others as they are."""
    return value.item() if hasattr(value, "item") else value


def _csv_cell(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return ""
    if not isinstance(value, int | float):
        raise CourseError(f"a cell of a CSV log holds a number or None, not {value!r}")
    return repr(+value)  # the + makes a number of True


def _each_leaf(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to every value that is not itself a list or a mapping."""
    if isinstance(value, Mapping):
        return {key: _each_leaf(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_leaf(item, change) for item in value]
    return change(value)


def _to_json(value: Any) -> Any:
    value = _plain(value)
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in NON_FINITE else value


def main() -> None:
    """Log three rows, tear the last one as a crash would, and continue."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.csv"
        with CsvLogger(path, ["step", "loss"]) as log:
            for step, loss in enumerate([4.174, 2.5, 1 / 3]):
                log.append({"step": step, "loss": loss})
        os.truncate(path, path.stat().st_size - 9)
        print(f"torn:     {path.read_text(encoding='utf-8')!r}")
        print(f"readable: {read_csv(path)}")
        with CsvLogger(path, ["step", "loss"]) as log:
            log.append({"step": 2, "loss": math.nan})
        print(f"repaired: {path.read_text(encoding='utf-8')!r}")


if __name__ == "__main__":
    run_program(main)
