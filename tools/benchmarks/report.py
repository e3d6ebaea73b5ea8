"""The results of tools/benchmark.py as a table of 80 columns, as Markdown, and as JSON.

A row holds one value per round. Quote its median; the smallest and the largest value say how far to
trust it. A ratio is computed round by round, from two values that were measured one shortly after
the other, so a machine that slows down for a while slows down both.
"""

import json
import os
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from experiment_tracking import environment_info
from utils.errors import CourseError
from utils.files import atomic_write_text

COLUMNS = 80
SPEED = "tokens per second"  # the unit of the sections that the picture shows
OURS, BASELINE = "ours", "transformers"  # the first word of each side's labels


@dataclass(frozen=True)
class Row:
    """One measured quantity; without values, the note says why."""

    label: str
    values: tuple[float, ...] = ()  # one per round
    digits: int = 0  # shown after the decimal point
    of_peak: tuple[float, ...] = ()  # FLOP/s as a share of the machine's peak
    note: str = ""

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Section:
    """Rows that share a unit."""

    title: str
    unit: str
    rows: tuple[Row, ...]

    def __getitem__(self, label: str) -> Row:
        return next(row for row in self.rows if row.label == label)


def ratio(label: str, numerators: Sequence[float], denominators: Sequence[float]) -> Row:
    """The ratios of two candidates, round by round."""
    values = tuple(a / b for a, b in zip(numerators, denominators, strict=True))
    return Row(label, values, digits=2)


# --- the tables ---


def table(section: Section) -> str:
    """The section as lines of at most 80 columns."""
    lines = [section.title, f"  {section.unit:<50} {'median':>8} {'(min-max)':>18}", "-" * COLUMNS]
    for row in section.rows:
        lines += _lines(row)
    return "\n".join(line.rstrip() for line in lines)


def _lines(row: Row) -> list[str]:
    if not row.values:
        text = f"  {row.label}: {row.note}"
        return textwrap.wrap(text, COLUMNS, subsequent_indent="    ", break_on_hyphens=False)
    return [f"  {full_label(row):<50} {median(row):>8} {spread(row):>18}"]


def full_label(row: Row) -> str:
    """The label, the median share of the peak where it is known, and the note."""
    share = f"{statistics.median(row.of_peak):.0%} of peak" if row.of_peak else ""
    return ", ".join(part for part in (row.label, share, row.note) if part)


def median(row: Row) -> str:
    """The middle value as shown; empty if there is none."""
    return f"{row.median:,.{row.digits}f}" if row.values else ""


def spread(row: Row) -> str:
    """The smallest and the largest value as shown; empty for a single value."""
    if len(row.values) < 2:
        return ""
    return f"({min(row.values):,.{row.digits}f}-{max(row.values):,.{row.digits}f})"


def markdown(machine: Mapping[str, Any], sections: Sequence[Section], legend: str) -> str:
    """All sections as a page of Markdown."""
    machine_list = "\n".join(f"- {line}" for line in description(machine))
    tables = [markdown_table(section) for section in sections]
    return "\n\n".join(["# Benchmark", machine_list, *tables, legend]) + "\n"


def markdown_table(section: Section) -> str:
    """One section as a Markdown table."""
    lines = [f"| {section.title} | {section.unit} | min-max |", "| --- | ---: | ---: |"]
    for row in section.rows:
        cells = (full_label(row), median(row), spread(row).strip("()"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# --- the machine ---


def describe_machine(origin: str) -> dict[str, Any]:
    """What the results depend on; `origin` says in one line where the text came from."""
    info = environment_info("cpu")
    info["transformers"] = installed("transformers")
    info["memory_gib"] = memory_gib()
    info["date"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    info["data"] = origin
    return info


def installed(package: str) -> str | None:
    """The version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def memory_gib() -> float | None:
    """The machine's memory; None on Windows, which has no sysconf."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def description(machine: Mapping[str, Any]) -> list[str]:
    """The machine in a few lines."""
    memory = f", {machine['memory_gib']} GiB" if machine["memory_gib"] else ""
    library = f", transformers {machine['transformers']}" if machine["transformers"] else ""
    git = machine["git"] or {"commit": "unknown", "dirty": False}
    changed = ", with uncommitted changes" if git["dirty"] else ""
    threads = f"threads {machine['torch_threads']}"
    return [
        f"{machine['cpu']}, cores {machine['cores']}, {threads}{memory}",
        f"{machine['platform']}, Python {machine['python']}",
        f"torch {machine['torch']}{library}",
        f"{machine['date']}, commit {git['commit'][:12]}{changed}",
        f"{machine['data']}",
    ]


# --- the files ---


def write_report(
    folder: Path, machine: dict[str, Any], sections: Sequence[Section], legend: str
) -> list[Path]:
    """Write results.json and table.md; return their paths."""
    results = {"machine": machine, "sections": [_to_dict(section) for section in sections]}
    paths = [folder / "results.json", folder / "table.md"]
    atomic_write_text(paths[0], json.dumps(results, indent=2) + "\n")
    atomic_write_text(paths[1], markdown(machine, sections, legend))
    return paths


def _to_dict(section: Section) -> dict[str, Any]:
    rows = [
        {
            "label": row.label,
            "median": row.median if row.values else None,
            "values": list(row.values),
            "digits": row.digits,
            "of_peak": list(row.of_peak),
            "note": row.note,
        }
        for row in section.rows
    ]
    return {"title": section.title, "unit": section.unit, "rows": rows}


def read_report(path: Path) -> tuple[dict[str, Any], tuple[Section, ...]]:
    """The machine and the sections, as write_report wrote them to results.json."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        return results["machine"], tuple(_from_dict(section) for section in results["sections"])
    except (ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{path} is not a file of benchmark results: {error!r}") from None


def _from_dict(section: Mapping[str, Any]) -> Section:
    rows = tuple(
        Row(row["label"], tuple(row["values"]), row["digits"], tuple(row["of_peak"]), row["note"])
        for row in section["rows"]
    )
    return Section(section["title"], section["unit"], rows)
