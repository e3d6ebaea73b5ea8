"""The committed results of the benchmark, and the table of trained models made from them.

The results are the results.json of three calls of tools/benchmark.py, copied to 09_capstone/, and
benchmark_runs.json, which holds what train.py itself reported.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.benchmarks.report import Row, Section, read_report

FOLDER = Path(__file__).resolve().parents[2] / "09_capstone"


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

        `quantity` is "training time" or "validation loss".
        """
        (section,) = (
            section
            for section in self.starting_with(f"{preset} preset")
            if section.title.endswith(quantity)
        )
        return next(row for row in section.rows if row.label.startswith(label))


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
    rows = [
        trained_row("train.py", "laptop", results.main, runs),
        model_row(f"train.py {limited.label}", runs["parameters"]["laptop"], limited, limited.note),
        trained_row("train.py --preset full", "full", results.full, runs),
        long_row(runs["long_run"]),
    ]
    header = "| command | parameters | validation loss | bits per character | training time |"
    return "\n".join([header, "| --- | ---: | ---: | ---: | ---: |", *rows])


def trained_row(command: str, preset: str, call: Call, runs: Mapping[str, Any]) -> str:
    """The line of a preset that was trained to its last step."""
    loss = call.row(preset, "validation loss", "after ")
    time = call.row(preset, "training time", "to the last step")
    low, high = min(time.values), max(time.values)
    seconds = f"{time.median:.0f} s ({low:.0f} to {high:.0f})"
    return model_row(command, runs["parameters"][preset], loss, seconds)


def model_row(command: str, parameters: int, loss: Row, time: str) -> str:
    """One line of the table, with the loss as its median and range over the seeds."""
    low, high = min(loss.values), max(loss.values)
    losses = f"{loss.median:.3f} ({low:.3f} to {high:.3f})"
    bits = loss.median / math.log(2)
    return f"| `{command}` | {parameters:,} | {losses} | {bits:.3f} | {time} |"


def long_row(run: Mapping[str, Any]) -> str:
    """The line of the single long run; its flags are too many for a cell."""
    name = f"`{' '.join(run['command'].split()[:3])}` and more flags"
    bits = run["bits_per_character"]
    return f"| {name} | {run['parameters']:,} | {run['val_loss']} | {bits} | {run['seconds']} s |"
