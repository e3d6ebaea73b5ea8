"""The speeds that tools/benchmark.py has measured, as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.benchmarks.report import BASELINE, OURS, SPEED, Row, Section
from utils.files import atomic_write_bytes
from utils.visualization import BLUE, GREY, ORANGE


def write_picture(path: Path, sections: Sequence[Section], title: str) -> None:
    """Save the picture as a PNG file, whole or not at all."""
    picture = io.BytesIO()
    draw(sections, title).savefig(picture, format="png", dpi=90)
    atomic_write_bytes(path, picture.getvalue())


def draw(sections: Sequence[Section], title: str) -> Figure:
    """One panel per section of speeds: bars for the medians, whiskers from minimum to maximum."""
    shown = {section.title: bars for section in sections if (bars := speeds(section))}
    heights = [len(bars) for bars in shown.values()]
    size = (8.0, 0.8 + 0.6 * len(shown) + 0.3 * sum(heights))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(len(shown), squeeze=False, height_ratios=heights).ravel()
    for axes, (name, bars) in zip(panels, shown.items(), strict=True):
        axes.set_title(name, fontsize=10, loc="left")
        _draw_bars(axes, bars)
    figure.supxlabel(f"{SPEED}: median, with whiskers from minimum to maximum", fontsize=9)
    return figure


def _draw_bars(axes: Axes, bars: Sequence[Row]) -> None:
    medians = [row.median for row in bars]
    below = [row.median - min(row.values) for row in bars]
    above = [max(row.values) - row.median for row in bars]
    colours = [BLUE if row.label.startswith(OURS) else ORANGE for row in bars]
    axes.barh(range(len(bars)), medians, xerr=[below, above], color=colours, ecolor=GREY)
    axes.set_yticks(range(len(bars)), [row.label for row in bars], fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def speeds(section: Section) -> list[Row]:
    """The rows that the picture shows: measured speeds, without ratios and peaks."""
    if section.unit != SPEED:
        return []
    return [row for row in section.rows if row.values and row.label.startswith((OURS, BASELINE))]
