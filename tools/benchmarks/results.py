"""The committed results of the benchmark, and the table of trained models made from them.

Each file is the results.json of one call of tools/benchmark.py, copied to 09_capstone/: one file
for each preset that was trained, one for generation, and one for all other sections.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from budgets import count_parameters
from model.config import preset
from tools.benchmarks.losses import EQUAL, LIMITED
from tools.benchmarks.report import Row, Section, read_report

FOLDER = Path(__file__).resolve().parents[2] / "09_capstone"
MAIN, GENERATION = "benchmark.json", "benchmark_generation.json"
TRAINED = {"laptop": "benchmark_laptop.json", "full": "benchmark_full.json"}  # by preset
VOCAB_SIZE = 65  # of Tiny Shakespeare
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

    main: Call  # speeds, start-up and memory
    generation: Call  # generation and single changes, with more rounds
    trained: Mapping[str, Call]  # the time to given losses and the last losses, by preset

    @property
    def calls(self) -> tuple[Call, ...]:
        """All of them."""
        return (self.main, *self.trained.values(), self.generation)


def read_results(folder: Path = FOLDER) -> Results:
    """Read the files. Raises CourseError or OSError."""

    def read(name: str) -> Call:
        return Call(*read_report(folder / name))

    trained = {preset_name: read(name) for preset_name, name in TRAINED.items()}
    return Results(read(MAIN), read(GENERATION), trained)


def results_table(results: Results) -> str:
    """The trained models, for BENCHMARKS.md and the course's README."""
    rows = []
    for name, call in results.trained.items():
        rows.append(trained_row(name, call))
        if name == LIMITED:
            rows.append(limited_row(name, call))
    return "\n".join([f"| {' | '.join(HEADER)} |", "| --- |" + " ---: |" * 6, *rows])


def trained_row(name: str, call: Call) -> str:
    """The line of a preset that was trained to its last step."""
    loss = call.row(name, "validation loss", "after ")
    equal = call.equal_row(name, loss.label)
    time = call.row(name, "training time", "to the last step")
    units = call.row(name, "training time in units", "to the last step")
    seconds = with_range(time, 0, " s")
    return line(train_command(name), name, loss, equal, seconds, with_range(units, 2))


def limited_row(name: str, call: Call) -> str:
    """The line of a preset that was trained with a time limit."""
    loss = call.row(name, "validation loss", "--max-minutes")
    equal = call.equal_row(name, loss.label)
    return line(f"{train_command(name)} {loss.label}", name, loss, equal, loss.note, "")


def train_command(name: str) -> str:
    """What to type to train a preset."""
    return "train.py" if name == "laptop" else f"train.py --preset {name}"


def n_parameters(name: str) -> int:
    """How many parameters a preset has with the characters of Tiny Shakespeare."""
    return count_parameters(replace(preset(name).model, vocab_size=VOCAB_SIZE))


def line(command: str, name: str, loss: Row, equal: Row, time: str, units: str) -> str:
    """One line of the table, with the losses as their medians and ranges over the seeds."""
    bits = f"{loss.median / math.log(2):.3f}"
    cells = (with_range(loss, 3), with_range(equal, 3), bits, time, units)
    return f"| `{command}` | {n_parameters(name):,} | {' | '.join(cells)} |"


def with_range(row: Row, digits: int, unit: str = "") -> str:
    """The median, with the smallest and the largest value in parentheses."""
    if not row.values:
        return NOT_MEASURED
    low, high = min(row.values), max(row.values)
    return f"{row.median:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"
