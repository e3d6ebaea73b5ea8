"""What the runs in ablations.json add up to: one summary per variant, and the tables' rows."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Summary:
    """The results of all runs of one variant."""

    by_seed: dict[int, float]  # the losses of the runs that reached their last step
    n_runs: int
    ms: float  # per step
    tokens_per_second: float
    parameters: int

    @property
    def losses(self) -> list[float]:
        """The losses, whatever the seeds."""
        return [*self.by_seed.values()]

    @property
    def mean(self) -> float | None:
        """The mean loss; None if any run stopped early, since the others alone would be biased."""
        return statistics.mean(self.losses) if len(self.losses) == self.n_runs else None


def runs_of(record: Mapping[str, Any], *names: str) -> list[dict[str, Any]]:
    """The runs of these variants; the record may also hold runs of older presets."""
    wanted = {record["variants"][name] for name in names}
    return [run for run in record["runs"] if run["config"] in wanted]


def config_of(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of a variant, from the record."""
    return record["configs"][record["variants"][name]]


def summarize(record: Mapping[str, Any], name: str) -> Summary | None:
    """The summary of a variant's runs, or None if there are none."""
    runs = runs_of(record, name)
    timed = [run for run in runs if run["ms_per_step"]]
    if not timed:
        return None
    return Summary(
        by_seed={run["seed"]: run["val_loss"] for run in runs if run["val_loss"] is not None},
        n_runs=len(runs),
        ms=statistics.median(run["ms_per_step"] for run in timed),
        tokens_per_second=statistics.median(run["tokens_per_second"] for run in timed),
        parameters=runs[0]["parameters"],
    )


def table_rows(record: Mapping[str, Any], table: str) -> list[list[str]]:
    """The cells of each row that has been trained."""
    rows = []
    for row in record["tables"].get(table, []):
        summary = summarize(record, row["name"])
        if summary is None:
            continue
        change = ""
        delta, error = "", ""
        if row["compared"]:
            before = config_of(record, row["compared"])
            change = ", ".join(differences(before, config_of(record, row["name"])))
            base = summarize(record, row["compared"])
            delta, error = difference(summary, base), standard_error(summary, base)
        speed = [f"{summary.ms:.1f}", f"{summary.tokens_per_second:,.0f}"]
        rows.append(
            [row["label"], change, *loss_cells(summary), delta, error, *speed, f"{summary.n_runs}"]
        )
    return rows


def loss_cells(summary: Summary) -> tuple[str, str]:
    """The mean loss and its range, or how many runs stopped early."""
    if summary.mean is None:
        return f"{summary.n_runs - len(summary.losses)} of {summary.n_runs} stopped", ""
    if summary.n_runs == 1:
        return f"{summary.mean:.4f}", ""
    return f"{summary.mean:.4f}", f"{min(summary.losses):.4f} to {max(summary.losses):.4f}"


def difference(mine: Summary, other: Summary | None) -> str:
    """The difference of the means, with a ~ if the two ranges overlap."""
    if other is None or mine.mean is None or other.mean is None:
        return ""
    overlap = min(mine.losses) <= max(other.losses) and min(other.losses) <= max(mine.losses)
    return f"{mine.mean - other.mean:+.4f}{' ~' if overlap else ''}"


def standard_error(mine: Summary, other: Summary | None) -> str:
    """The standard error of the mean difference, seed by seed; "" without two pairs."""
    if other is None or mine.mean is None or other.mean is None:
        return ""
    if mine.by_seed.keys() != other.by_seed.keys() or len(mine.by_seed) < 2:
        return ""
    pairs = [loss - other.by_seed[seed] for seed, loss in mine.by_seed.items()]
    return f"{statistics.stdev(pairs) / math.sqrt(len(pairs)):.4f}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The fields that changed from one configuration to another: ["position learned -> rope"]."""
    return [
        f"{name} {shown(before[name])} -> {shown(after[name])}"
        for name in after
        if after[name] != before[name]
    ]


def shown(value: Any) -> str:
    """The value of a field as the page shows it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
