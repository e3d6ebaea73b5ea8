"""The committed results of the benchmark, and the table of trained models made from them.

The results are the results.json of three calls of tools/benchmark.py, copied to 09_capstone/, and
benchmark_runs.json, which holds what train.py itself reported. Its `long_run` may also have
`equal_evaluation`, the loss of its line `equal`, and `units`, its seconds in units.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.benchmarks.losses import EQUAL
from tools.benchmarks.report import Row, Section, read_report

FOLDER = Path(__file__).resolve().parents[2] / "09_capstone"
HEADER = (
    *("command", "parameters", "validation loss", "at equal evaluation", "bits per character"),
    *("training time", "in units"),
)
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Call:
    """One call of tools/benchmark.py: the machine it ran on, and what it measured."""

    machine: Mapping[str, Any]
    sections: tuple[Section, ...]

    @property
    def command(self) -> str:
        """What to type to repeat it, without the folder for the results."""
        words = list(self.machine["command"])
        if "--out" in words:
            del words[words.index("--out") : words.index("--out") + 2]
        return f"python {' '.join(words)}"

    def starting_with(self, start: str) -> list[Section]:
        """The sections whose titles begin with `start`."""
        return [section for section in self.sections if section.title.startswith(start)]

    def row(self, preset: str, quantity: str, label: str) -> Row:
        """The row of a preset whose label begins with `label`.

        `quantity` is "training time", "training time in units" or "validation loss". Without
        values if an older version measured, which had no such row.
        """
        rows = [
            row
            for section in self.starting_with(f"{preset} preset")
            if section.title.endswith(f": {quantity}")
            for row in section.rows
            if row.label.startswith(label)
        ]
        return rows[0] if rows else Row(label)

    def equal_row(self, preset: str, label: str) -> Row:
        """The row of that loss at equal evaluation."""
        return self.row(preset, "validation loss", f"{label}, {EQUAL}")


@dataclass(frozen=True)
class Results:
    """All that the page shows."""

    main: Call
    full: Call  # the time to given losses, for the preset `full`
    generation: Call  # generation and single changes, with more rounds
    runs: Mapping[str, Any]  # what train.py reported


def read_results(folder: Path = FOLDER) -> Results:
    """Read the four files. Raises CourseError or OSError."""
    main, full, generation = (
        Call(*read_report(folder / name))
        for name in ("benchmark.json", "benchmark_full.json", "benchmark_generation.json")
    )
    runs = json.loads((folder / "benchmark_runs.json").read_text(encoding="utf-8"))
    return Results(main, full, generation, runs)


def results_table(results: Results) -> str:
    """The four trained models, for BENCHMARKS.md and the course's README."""
    runs = results.runs
    limited = results.main.row("laptop", "validation loss", "--max-minutes")
    equal = results.main.equal_row("laptop", limited.label)
    parameters = runs["parameters"]["laptop"]
    rows = [
        trained_row("train.py", "laptop", results.main, runs),
        line(f"train.py {limited.label}", parameters, limited, equal, limited.note, ""),
        trained_row("train.py --preset full", "full", results.full, runs),
        long_row(runs["long_run"]),
    ]
    return "\n".join([f"| {' | '.join(HEADER)} |", "| --- |" + " ---: |" * 6, *rows])


def trained_row(command: str, preset: str, call: Call, runs: Mapping[str, Any]) -> str:
    """The line of a preset that was trained to its last step."""
    loss = call.row(preset, "validation loss", "after ")
    equal = call.equal_row(preset, loss.label)
    time = call.row(preset, "training time", "to the last step")
    units = call.row(preset, "training time in units", "to the last step")
    seconds = with_range(time, 0, " s")
    return line(command, runs["parameters"][preset], loss, equal, seconds, with_range(units, 2))


def line(command: str, parameters: int, loss: Row, equal: Row, time: str, units: str) -> str:
    """One line of the table, with the losses as their medians and ranges over the seeds."""
    bits = f"{loss.median / math.log(2):.3f}"
    cells = (with_range(loss, 3), with_range(equal, 3), bits, time, units)
    return f"| `{command}` | {parameters:,} | {' | '.join(cells)} |"


def with_range(row: Row, digits: int, unit: str = "") -> str:
    """The median, with the smallest and the largest value in parentheses."""
    if not row.values:
        return NOT_MEASURED
    low, high = min(row.values), max(row.values)
    return f"{row.median:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def long_row(run: Mapping[str, Any]) -> str:
    """The line of the single long run; its flags are too many for a cell."""
    name = f"`{' '.join(run['command'].split()[:3])}` and more flags"
    equal, units = (run.get(key, NOT_MEASURED) for key in ("equal_evaluation", "units"))
    cells = (run["val_loss"], equal, run["bits_per_character"], f"{run['seconds']} s", units)
    return f"| {name} | {run['parameters']:,} | {' | '.join(map(str, cells))} |"
