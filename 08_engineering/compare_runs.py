"""What runs differ in, and how they went: a table for the eye, and their curves in one picture.

    python 08_engineering/experiment_tracking.py compare RUN RUN

Two runs teach something when one thing differs between them. So the table shows the fields of the
configurations that differ, and no others, above the results; and the commit, PyTorch and device,
if those differ too. What a run's files do not say is a "-".
"""

import contextlib
import io
import itertools
import json
import math
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from logging_utils import MetricsLog
from run_summary import best_evaluation, curve, read_config, read_metrics, steps_done
from utils.config import TrainConfig, save_config, to_dict
from utils.errors import UsageError, pick, run_program
from utils.files import atomic_write_bytes, shown

UNKNOWN = "-"
WIDTH, WIDEST_CELL = 80, 26
SUFFIXES = (".png", ".svg", ".pdf")
# The Okabe-Ito colours, told apart by colour-blind eyes too; then the same again with dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")

Table = dict[str, list[str]]  # the name of a row, and a cell for each run


@dataclass(frozen=True)
class Run:
    """What the files of a run say; a part that cannot be read is empty."""

    folder: Path
    config: dict[str, Any]  # flat: "model.d_model" and so on
    place: dict[str, str]  # the code and the machine
    rows: list[dict[str, float | None]]


def compare(folders: Sequence[Path], out: Path | None = None) -> None:
    """Print how runs compare, and draw their validation curves into `out`.

    Without `out` that is compare.png beside the run that was at work last. Raises UsageError for
    fewer than two runs, for one that is named twice, and for a picture of an unknown format.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UsageError("compare needs two runs or more, each named once")
    newest = max(folders, key=lambda folder: folder.stat().st_mtime)
    out = out or newest.parent / "compare.png"
    pick(out.suffix.lower(), SUFFIXES, "suffix of a picture")
    runs = [read_run(folder) for folder in folders]
    print(comparison(runs))
    if any(curve(run.rows, "val_loss") for run in runs):
        draw(runs, out)
        print(f"picture {shown(out)}")
    else:
        print("no picture: none of them has a validation loss yet")


def read_run(folder: Path) -> Run:
    """Read config.yaml, environment.json and metrics.csv, as far as they can be read."""
    config = read_config(folder)
    fields = to_dict(config) if config else {}
    shape = {f"model.{name}": value for name, value in fields.pop("model", {}).items()}
    return Run(folder.resolve(), {**shape, **fields}, read_place(folder), read_metrics(folder))


def read_place(folder: Path) -> dict[str, str]:
    """Where a run ran; a commit with a + had changes on top of it."""
    said = {}
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        said |= {name: environment[name] for name in ("torch", "device") if name in environment}
        git = environment.get("git") or {}  # null where there was no git
        if "commit" in git:
            said["git commit"] = git["commit"][:9] + ("+" if git.get("dirty") else "")
    return said


def comparison(runs: Sequence[Run]) -> str:
    """Which run is which, the table, and what to bear in mind, in at most 80 columns."""
    names = [f"run {number}" for number in range(1, len(runs) + 1)]
    legend = [f"{name:<7} {shown(run.folder)[-72:]}" for name, run in zip(names, runs, strict=True)]
    settings = differing([run.config for run in runs])
    places = differing([run.place for run in runs])
    results = side_by_side([result(run) for run in runs])
    table = columns(names, {**settings, **results, **places})
    return "\n".join([*legend, "", *table, *notes(runs, settings)])


def notes(runs: Sequence[Run], settings: Table) -> Iterator[str]:
    """What the numbers alone would not tell."""
    if not settings and sum(bool(run.config) for run in runs) > 1:
        yield "the configurations are the same"
    if "data" in settings:
        yield "data differs: losses on different texts do not compare"
    for number, run in enumerate(runs, start=1):
        if not run.config:
            yield f"run {number} has no config.yaml that can be read"


def result(run: Run) -> dict[str, str]:
    """How a run went; tokens/s is the mean over the training, evaluations left out."""
    said: dict[str, str] = {}
    if best := best_evaluation(run.rows):
        said |= {"best validation loss": f"{best[0]:.4f}", "at step": str(best[1])}
    if run.rows:
        said["steps"] = f"{steps_done(run.rows)}/{run.config.get('max_steps', '?')}"
    step, seconds = max(curve(run.rows, "seconds"), default=(0.0, 0.0))
    if seconds > 0:
        said["training seconds"] = f"{seconds:,.1f}"
        if run.config:
            sizes = ("batch_size", "accumulation", "model.max_seq_len")
            tokens = step * math.prod(run.config[name] for name in sizes)
            said["tokens/s"] = f"{tokens / seconds:,.0f}"
    return said


def differing(said: Sequence[Mapping[str, Any]]) -> Table:
    """The rows in which at least two known values differ."""
    table = side_by_side(said)
    return {name: row for name, row in table.items() if len(set(row) - {UNKNOWN}) > 1}


def side_by_side(said: Sequence[Mapping[str, Any]]) -> Table:
    """A row for every name that any run knows."""
    names = dict.fromkeys(name for each in said for name in each)
    return {name: [str(each.get(name, UNKNOWN)) for each in said] for name in names}


def columns(names: Sequence[str], table: Table) -> Iterator[str]:
    """The table as lines of at most 80 columns; runs that find no room go on below the others."""
    label = max(map(len, table), default=0)
    longest = max(len(text) for row in (names, *table.values()) for text in row)
    width = min(WIDEST_CELL, longest)
    abreast = (WIDTH - label) // (width + 2)
    for start in range(0, len(names), abreast):
        for name, row in {"": names, **table}.items():
            wrapped = [textwrap.wrap(text, width) or [""] for text in row[start : start + abreast]]
            for texts in itertools.zip_longest(*wrapped, fillvalue=""):
                yield f"{name:<{label}}" + "".join(f"  {text:>{width}}" for text in texts)
                name = ""  # a long cell goes on in the next line
        yield ""


def draw(runs: Sequence[Run], path: Path) -> Figure:
    """Draw the validation loss of every run that has one against the step; save and return it."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="validation loss (nats per token)")
    for i, run in enumerate(runs):
        if points := curve(run.rows, "val_loss"):
            name = run.folder.name.replace("$", r"\$")  # a dollar is a dollar, and no formula
            label = f"run {i + 1}, best {min(loss for _, loss in points):.3f}: {name}"
            colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
            axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=label)
    axes.legend(frameon=False, fontsize="small", loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, picture.getvalue())
    return figure


def main() -> None:
    """Compare two runs that were never trained: their numbers are made up."""
    with tempfile.TemporaryDirectory() as root:
        for name, lr in (("careful", 0.001), ("bold", 0.004)):
            folder = Path(root) / name
            folder.mkdir()
            save_config(TrainConfig(max_steps=300, lr=lr), folder / "config.yaml")
            with MetricsLog(folder) as log:
                for step in (100, 200, 300):
                    loss = 1.5 + math.exp(-250 * lr * step / 100)
                    log.append({"step": step, "val_loss": loss, "seconds": step / 20})
        print(comparison([read_run(Path(root) / name) for name in ("careful", "bold")]))


if __name__ == "__main__":
    run_program(main)
