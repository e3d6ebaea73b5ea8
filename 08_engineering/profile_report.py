"""A profile as a table of 80 columns and as a picture.

A `Profile` breaks one step down twice: by stage and by kind of operation. Each breakdown adds up to
the whole step, so shares are shares of the total time.
"""

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.errors import UsageError, pick, run_program
from utils.files import atomic_write_bytes

SUFFIXES = (".png", ".svg", ".pdf")
# The Okabe-Ito colours, which colour-blind readers can tell apart, and grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
BUSY = 3.0  # the profiler alone never makes a step so many times as long
HEAD = f"{'milliseconds':>14} {'share':>8} {'GFLOP/s':>12} {'of the peak':>12}"


@dataclass(frozen=True)
class Row:
    """The time of one stage, or of one kind of operation, in a step."""

    name: str
    seconds: float
    share: float  # of the total time
    flops: float = 0.0  # multiplications and additions in its matrix products


@dataclass(frozen=True)
class Profile:
    """One training step or one generated token.

    `stages` are timed with a stopwatch, `kinds` under the profiler, which makes the step longer.
    `peak` is the fastest matrix product of this precision on this machine, in FLOP/s. For a step
    that is limited by memory, `weight_bytes` is what it reads during the stage `reading`, and
    `bandwidth` is the speed of memory in bytes/s.
    """

    title: str
    stages: tuple[Row, ...]
    kinds: tuple[Row, ...]
    peak: float
    weight_bytes: int = 0
    reading: str = "model"
    bandwidth: float = 0.0

    @property
    def seconds(self) -> float:
        """Length of the whole step, by the stopwatch."""
        return sum(row.seconds for row in self.stages)


def rows_of(seconds: Mapping[str, float], flops: Mapping[str, float]) -> tuple[Row, ...]:
    """Build rows from seconds by name and, for the names that have any, operations by name."""
    total = sum(seconds.values())
    return tuple(
        Row(name, taken, taken / total if total else 0.0, flops.get(name, 0.0))
        for name, taken in seconds.items()
    )


def table(profile: Profile) -> str:
    """Both breakdowns as text, at most 80 columns wide."""
    peak = profile.peak
    overhead = sum(row.seconds for row in profile.kinds) / profile.seconds
    lines = [profile.title, f"the peak: {peak / 1e9:.1f} GFLOP/s, the fastest matrix product here"]
    lines += ["", f"{'by stage':<22} {HEAD}"]
    lines += [_line(row, peak) for row in (*profile.stages, _total(profile.stages))]
    lines += ["", f"{'by kind of operation':<22} {HEAD}"]
    lines += [_line(row, peak) for row in (*profile.kinds, _total(profile.kinds))]
    lines += [f"  (the step takes {overhead:.2f} times as long under the profiler)"]
    if overhead > BUSY:
        lines += ["  (so much is the noise of a busy machine: measure again)"]
    if profile.weight_bytes:
        reading = next(row.seconds for row in profile.stages if row.name == profile.reading)
        speed = profile.weight_bytes / reading
        lines += [
            "",
            f"{profile.weight_bytes / 1e6:.2f} MB of weights, read once in the {reading * 1e3:.2f} "
            f"ms of the model: {speed / 1e9:.2f} GB/s,",
            f"{speed / profile.bandwidth:.1%} of the {profile.bandwidth / 1e9:.1f} GB/s "
            "of a large copy in memory",
        ]
    return "\n".join(lines)


def _total(rows: Sequence[Row]) -> Row:
    return Row(
        "all",
        sum(row.seconds for row in rows),
        sum(row.share for row in rows),
        sum(row.flops for row in rows),
    )


def _line(row: Row, peak: float) -> str:
    line = f"  {row.name:<20} {row.seconds * 1e3:>14.3f} {row.share:>8.1%}"
    if not row.flops or not row.seconds:
        return line
    rate = row.flops / row.seconds
    return f"{line} {rate / 1e9:>12.2f} {rate / peak:>12.1%}"


def draw(profiles: Mapping[str, Profile], path: Path | None = None) -> Figure:
    """Draw each breakdown as one stacked bar; save it if there is a path, and return the figure.

    The keys of `profiles` are short names such as "training step". Raises UsageError for an unknown
    picture format, or if there is no profile.
    """
    if not profiles:
        raise UsageError("there is no profile to draw; at least one is needed")
    figure = Figure(figsize=(9.0, 3.4 * len(profiles)), layout="constrained")
    panels = iter(figure.subplots(2 * len(profiles), squeeze=False)[:, 0])
    stage_colours = _colours(row for profile in profiles.values() for row in profile.stages)
    kind_colours = _colours(row for profile in profiles.values() for row in profile.kinds)
    for name, profile in profiles.items():
        _draw_bar(next(panels), f"{name}, by stage", profile.stages, stage_colours)
        title = f"{name}, by kind of operation, under the profiler"
        _draw_bar(next(panels), title, profile.kinds, kind_colours)
    if path is not None:
        kind = pick(path.suffix.lower(), SUFFIXES, "suffix of a picture")
        picture = io.BytesIO()
        figure.savefig(picture, format=kind[1:], dpi=150)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, picture.getvalue())
    return figure


def _colours(rows: Iterable[Row]) -> dict[str, str]:
    """One colour per name, the same in every bar."""
    names = dict.fromkeys(row.name for row in rows)
    return dict(zip(names, itertools.cycle(COLOURS), strict=False))


def _draw_bar(axes: Axes, title: str, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    """One stacked bar; a share is written into each piece that is wide enough for it."""
    left = 0.0
    for row in rows:
        colour, label = colours[row.name], f"{row.name} {_milliseconds(row.seconds)}"
        bars = axes.barh([0], [row.share], left=[left], color=colour, label=label)
        if row.share >= 0.04:
            ink = "white" if colour == COLOURS[0] else "black"
            axes.bar_label(bars, [f"{row.share:.0%}"], label_type="center", color=ink, fontsize=9)
        left += row.share
    whole = _milliseconds(sum(row.seconds for row in rows))
    axes.set_title(f"{title}: {whole}", loc="left", fontsize=11)
    axes.set(xlim=(0, 1), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    small = {"fontsize": 8, "handlelength": 1.0, "columnspacing": 1.2, "frameon": False}
    axes.legend(ncols=4, loc="upper left", bbox_to_anchor=(0, 0), **small)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds * 1e3:,.0f} ms"


def main() -> None:
    """Print a profile of made-up numbers."""
    stages = {"forward": 4e-3, "backward": 8e-3, "optimizer": 2e-3}
    kinds = {"matrix products": 9e-3, "norms, elementwise": 3e-3, "interpreter": 4e-3}
    profile = Profile(
        "a training step (made up)",
        rows_of(stages, {"forward": 0.2e9, "backward": 0.4e9}),
        rows_of(kinds, {"matrix products": 0.6e9}),
        peak=100e9,
    )
    print(table(profile))


if __name__ == "__main__":
    run_program(main)
