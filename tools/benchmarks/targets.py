"""The speed targets, and whether the committed results reach them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tools.benchmarks.generation import BASELINE_RATIO, BATCH_RATIO
from tools.benchmarks.report import BASELINE, OURS, Row, Section, median, spread
from tools.benchmarks.results import NOT_MEASURED, Call, Results

BFLOAT16_RATIO = f"ratio: {OURS} / {BASELINE}, bfloat16"
GPT2_LAYOUT = "6x384 in GPT-2's layout"
STEP_RATIOS = {GPT2_LAYOUT: 1.8, "6x384": 1.5, "laptop": 2.2}  # to the baseline's bfloat16
GENERATION_RATIOS = {"4x128": 4.0, "6x384": 3.0}  # to the baseline's, with caches
LOSS = "validation loss"
BATCH_GOAL = 8.0  # batch size 16 to batch size 1


@dataclass(frozen=True)
class Target:
    """A goal for one row of the results: to be at least, or at most, `goal`."""

    text: str
    row: Row
    goal: float
    at_most: bool = False

    def is_reached(self, value: float) -> bool:
        """Whether one value reaches the goal."""
        return value <= self.goal if self.at_most else value >= self.goal

    @property
    def verdict(self) -> str:
        """Whether the median reaches the goal, and whether every single value does."""
        if not self.row.values:
            return NOT_MEASURED
        if not self.is_reached(self.row.median):
            return "no"
        if all(map(self.is_reached, self.row.values)):
            return "yes"
        return "by the median, but not by every value"


def targets(results: Results) -> list[Target]:
    """The goals that are hard to reach on this machine."""
    return [*loss_targets(results), *speed_targets(results)]


def loss_targets(results: Results) -> list[Target]:
    """Validation losses within given times: both the loss and the time have a row."""
    laptop = results.trained["laptop"]
    limited = laptop.row("laptop", LOSS, "--max-minutes")
    last = laptop.row("laptop", LOSS, "after ")
    full = equal_row(results, "full")
    seventeen = "`full`: 1.43 at equal evaluation, the goal for 17 units"
    return [
        Target("`laptop` for 0.2 units: a validation loss of 1.70", limited, 1.70, at_most=True),
        Target("`laptop`: a validation loss of 1.50", last, 1.50, at_most=True),
        units_target("laptop", laptop, 1.1),
        Target("`full`: 1.46 at equal evaluation", full, 1.46, at_most=True),
        Target(seventeen, full, 1.43, at_most=True),
        units_target("full", results.trained["full"], 7),
    ]


def equal_row(results: Results, preset: str) -> Row:
    """The last losses of a preset at equal evaluation."""
    call = results.trained[preset]
    return call.equal_row(preset, call.row(preset, LOSS, "after ").label)


def units_target(preset: str, call: Call, goal: float) -> Target:
    """The training time of a preset, in units."""
    row = call.row(preset, "training time in units", "to the last step")
    return Target(f"`{preset}`: {goal:g} units of training", row, goal, at_most=True)


def speed_targets(results: Results) -> list[Target]:
    """Speeds as multiples of the baseline's, and of batch size 1."""
    steps = [
        Target(
            f"training step of `{name}`: {goal} times the baseline's speed, both in bfloat16",
            training_section(results, name)[BFLOAT16_RATIO],
            goal,
        )
        for name, goal in STEP_RATIOS.items()
    ]
    generation = {
        section.title.split(",")[0].removeprefix("generation "): section
        for section in results.generation.starting_with("generation ")
    }
    single = [
        Target(
            f"generation of `{name}`: {goal:g} times the baseline's speed",
            generation[name][BASELINE_RATIO],
            goal,
        )
        for name, goal in GENERATION_RATIOS.items()
    ]
    batched = [
        Target(
            f"generation of `{name}`: batch size 16 at {BATCH_GOAL:g} times the speed of batch "
            "size 1",
            section[BATCH_RATIO],
            BATCH_GOAL,
        )
        for name, section in generation.items()
    ]
    return [*steps, *single, *batched]


def training_section(results: Results, name: str) -> Section:
    """The section on the training speed of a shape."""
    (section,) = results.main.starting_with(f"training {name},")
    return section


def targets_text(results: Results) -> str:
    """The goals as a section of the page."""
    lines = ["| target | median | min-max | reached |", "| --- | ---: | ---: | --- |"]
    for target in targets(results):
        measured = f"{median(target.row)} | {spread(target.row).strip('()')}"
        lines.append(f"| {target.text} | {measured} | {target.verdict} |")
    return "\n\n".join(["## Targets", "\n".join(lines)])


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
