"""The speed targets, and whether the committed results reach them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median as middle

from tools.benchmarks.generation import BASELINE_RATIO, BATCH_RATIO
from tools.benchmarks.markdown_text import paragraph
from tools.benchmarks.report import BASELINE, OURS, Row, Section, median, spread
from tools.benchmarks.results import Results
from tools.benchmarks.training import peak_label

GPT2_LAYOUT = "training 6x384 in GPT-2's layout"
FLOAT32_RATIO = f"ratio: {OURS} bfloat16 / {BASELINE} float32"


@dataclass(frozen=True)
class Target:
    """A goal for one row of the results."""

    goal: str
    row: Row
    reached: Callable[[float], bool]

    @property
    def verdict(self) -> str:
        """Whether the median reaches the goal, and whether every single value does."""
        if not self.reached(self.row.median):
            return "no"
        if all(map(self.reached, self.row.values)):
            return "yes"
        return "by the median, but not by every value"


def targets(results: Results) -> list[Target]:
    """The goals that are hard to reach on this machine."""
    training = gpt2_section(results)
    small, large = results.generation.starting_with("generation ")
    seconds = results.main.row("laptop", "training time", "to a validation loss of 1.60")
    return [
        Target(
            "training step of `6x384` in GPT-2's layout: 3 times the baseline's float32 speed",
            training[FLOAT32_RATIO],
            lambda value: value >= 3,
        ),
        Target(
            "generation of `4x128`: 3 times the baseline's speed",
            small[BASELINE_RATIO],
            lambda value: value >= 3,
        ),
        Target(
            "generation of `4x128`: batch size 16 at 8 times the speed of batch size 1",
            small[BATCH_RATIO],
            lambda value: value >= 8,
        ),
        Target(
            "generation of `6x384`: batch size 16 at 8 times the speed of batch size 1",
            large[BATCH_RATIO],
            lambda value: value >= 8,
        ),
        Target(
            "`laptop` preset: a validation loss of 1.60 within 75 s",
            seconds,
            lambda value: value <= 75,
        ),
    ]


def gpt2_section(results: Results) -> Section:
    """Training speed where both sides compute GPT-2's architecture."""
    (section,) = results.main.starting_with(GPT2_LAYOUT)
    return section


def targets_text(results: Results) -> str:
    """The goals as a section of the page."""
    lines = ["| target | median | min-max | reached |", "| --- | ---: | ---: | --- |"]
    for target in targets(results):
        measured = f"{median(target.row)} | {spread(target.row).strip('()')}"
        lines.append(f"| {target.goal} | {measured} | {target.verdict} |")
    table = "\n".join(lines)
    return "\n\n".join(["## Targets", table, paragraph(ceiling(gpt2_section(results)))])


def ceiling(section: Section) -> str:
    """What three times the baseline's float32 speed would demand of this machine."""
    share = middle(section[f"{BASELINE}, float32"].of_peak)
    peaks = [section[peak_label(dtype)].median for dtype in ("bfloat16", "float32")]
    advantage = peaks[0] / peaks[1]
    return (
        f"On the first target: the baseline reaches {share:.0%} of the float32 peak, and the "
        f"bfloat16 peak is {advantage:.1f} times the float32 peak. Three times the baseline's "
        f"speed would therefore take {3 * share / advantage:.0%} of the bfloat16 peak."
    )


def slower_than_baseline(sections: Sequence[Section]) -> str:
    """The comparisons that the baseline wins, in a sentence; empty if there are none."""
    lost = [
        f"`{section.title.split(',')[0]}`, {row.label} ({median(row)})"
        for section in sections
        for row in section.rows
        if row.label.startswith("ratio") and row.median < 1
    ]
    if not lost:
        return ""
    return f"By the median, the baseline is faster in: {'; '.join(lost)}."
