"""What tools/benchmark.py has measured, as a table of 80 columns, as files, and as a picture.

A row holds one value a round. Its median is what to quote, and the smallest and largest say how far
to trust it. A ratio is made round by round, of two values that were measured one after the other,
so that a machine which slows down for a while slows both sides of it.
"""

import io
import json
import os
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiment_tracking import environment_info
from utils.files import atomic_write_bytes, atomic_write_text
from utils.visualization import BLUE, GREY, ORANGE

COLUMNS = 80
SPEED = "tokens per second"  # the unit of the sections that the picture shows
OURS, PEER = "ours", "transformers"  # how the labels of the two sides begin


@dataclass(frozen=True)
class Row:
    """One thing measured, once a round; without values, the note says why."""

    label: str
    values: tuple[float, ...] = ()
    digits: int = 0  # behind the point
    of_peak: tuple[float, ...] = ()  # FLOP done, as a share of what the machine can do
    note: str = ""


@dataclass(frozen=True)
class Section:
    """Rows of one unit."""

    title: str
    unit: str
    rows: tuple[Row, ...]


def ratio(label: str, above: Sequence[float], below: Sequence[float]) -> Row:
    """How many times `below` fits into `above`, round by round: pairs measured in turn."""
    return Row(label, tuple(a / b for a, b in zip(above, below, strict=True)), digits=2)


# --- the table ---


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
    note = f", {row.note}" if row.note else ""
    return [f"  {row.label + share(row) + note:<50} {median(row):>8} {spread(row):>18}"]


def median(row: Row) -> str:
    """The middle value, or nothing."""
    return f"{statistics.median(row.values):,.{row.digits}f}" if row.values else ""


def spread(row: Row) -> str:
    """The smallest and the largest value, or nothing where there is but one."""
    if len(row.values) < 2:
        return ""
    return f"({min(row.values):,.{row.digits}f}-{max(row.values):,.{row.digits}f})"


def share(row: Row) -> str:
    """How much of the machine's arithmetic the row has used, where that is known."""
    return f", {statistics.median(row.of_peak):.0%} of peak" if row.of_peak else ""


def markdown(machine: dict[str, Any], sections: Sequence[Section], legend: str) -> str:
    """The same as a page of Markdown."""
    parts = ["# Benchmark", "\n".join(f"- {line}" for line in description(machine))]
    for section in sections:
        lines = [f"| {section.title} | {section.unit} | min-max |", "| --- | --- | --- |"]
        for row in section.rows:
            label = row.label + share(row) + (f", {row.note}" if row.note else "")
            lines.append(f"| {label} | {median(row)} | {spread(row).strip('()')} |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, legend]) + "\n"


# --- the machine ---


def describe_machine(origin: str) -> dict[str, Any]:
    """What the figures depend on; `origin` says in one line where the text came from."""
    info = environment_info("cpu")
    info["transformers"] = installed("transformers")
    info["memory_gib"] = memory_gib()
    info["date"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    info["data"] = origin
    return info


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def memory_gib() -> float | None:
    """The machine's memory; None where the system does not tell it this way (Windows)."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def description(machine: dict[str, Any]) -> list[str]:
    """The machine in a few lines."""
    memory = f", {machine['memory_gib']} GiB" if machine["memory_gib"] else ""
    peer = f", transformers {machine['transformers']}" if machine["transformers"] else ""
    git = machine["git"] or {"commit": "unknown", "dirty": False}
    changed = ", with changes" if git["dirty"] else ""
    threads = f"threads {machine['torch_threads']}"
    return [
        f"{machine['cpu']}, cores {machine['cores']}, {threads}{memory}",
        f"{machine['platform']}, Python {machine['python']}",
        f"torch {machine['torch']}{peer}",
        f"{machine['date']}, commit {git['commit'][:12]}{changed}",
        f"{machine['data']}",
    ]


# --- the files ---


def write_report(
    folder: Path, machine: dict[str, Any], sections: Sequence[Section], legend: str
) -> list[Path]:
    """Write results.json, table.md and, of speeds, picture.png; returns their paths."""
    results = {"machine": machine, "sections": [_plain(section) for section in sections]}
    paths = [folder / "results.json", folder / "table.md"]
    atomic_write_text(paths[0], json.dumps(results, indent=2) + "\n")
    atomic_write_text(paths[1], markdown(machine, sections, legend))
    if any(speeds(section) for section in sections):
        picture = io.BytesIO()
        draw(sections, description(machine)[0]).savefig(picture, format="png", dpi=150)
        paths.append(folder / "picture.png")
        atomic_write_bytes(paths[2], picture.getvalue())
    return paths


def _plain(section: Section) -> dict[str, Any]:
    rows = [
        {
            "label": row.label,
            "median": statistics.median(row.values) if row.values else None,
            "values": list(row.values),
            "of_peak": list(row.of_peak),
            "note": row.note,
        }
        for row in section.rows
    ]
    return {"title": section.title, "unit": section.unit, "rows": rows}


def draw(sections: Sequence[Section], title: str) -> Figure:
    """A panel for each section of speeds: a bar to the median, a whisker from min to max."""
    shown = {section.title: bars for section in sections if (bars := speeds(section))}
    heights = [len(bars) for bars in shown.values()]
    size = (8.0, 0.6 + 0.9 * len(shown) + 0.3 * sum(heights))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"{title}\n{SPEED}", fontsize=10)
    panels = figure.subplots(len(shown), squeeze=False, height_ratios=heights).ravel()
    for axes, (name, bars) in zip(panels, shown.items(), strict=True):
        axes.set_title(name, fontsize=10)
        _draw_bars(axes, bars)
    return figure


def _draw_bars(axes: Axes, bars: Sequence[Row]) -> None:
    middles = [statistics.median(row.values) for row in bars]
    below = [m - min(row.values) for m, row in zip(middles, bars, strict=True)]
    above = [max(row.values) - m for m, row in zip(middles, bars, strict=True)]
    colours = [BLUE if row.label.startswith(OURS) else ORANGE for row in bars]
    axes.barh(range(len(bars)), middles, xerr=[below, above], color=colours, ecolor=GREY)
    axes.set_yticks(range(len(bars)), [row.label for row in bars], fontsize=9)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def speeds(section: Section) -> list[Row]:
    """The rows of a section that a picture of speeds can show: no ratios, no peaks."""
    if section.unit != SPEED:
        return []
    return [row for row in section.rows if row.values and row.label.startswith((OURS, PEER))]
