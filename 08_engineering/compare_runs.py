"""Compare runs: a table of the settings that differ and of the results, and a plot of the curves.

    python 08_engineering/experiment_tracking.py compare RUN RUN

A comparison is instructive when one thing differs. So the table shows only the configuration fields
that differ, then the results, then the commit, PyTorch and device if those differ too. "-" marks a
value that the files of a run do not contain.
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
from typing import TYPE_CHECKING, Any

from logging_utils import MetricsLog
from run_summary import best_evaluation, curve, read_config, read_metrics, steps_done
from utils.config import TrainConfig, save_config, to_dict
from utils.errors import CourseError, UsageError, pick, run_program
from utils.files import atomic_write_bytes, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNKNOWN = "-"
WIDTH, WIDEST_CELL = 80, 26
SUFFIXES = (".png", ".svg", ".pdf")
STYLES = ("-", "--", ":", "-.")  # when the colours are used up, they start again with dashes

Table = dict[str, list[str]]  # row name -> one cell per run


@dataclass(frozen=True)
class Run:
    """What the files of a run contain; a part that cannot be read is empty."""

    folder: Path
    config: dict[str, Any]  # flat: "model.d_model" and so on
    place: dict[str, str]  # the code and the machine
    rows: list[dict[str, float | None]]


def compare(folders: Sequence[Path], out: Path | None = None) -> None:
    """Print a comparison of runs, and plot their validation curves into `out`.

    `out` defaults to compare.png next to the most recent run. Raises UsageError for fewer than two
    runs, a run that is named twice, and an unknown image format.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UsageError("compare needs at least two different runs")
    newest = max(folders, key=lambda folder: folder.stat().st_mtime)
    out = out or newest.parent / "compare.png"
    pick(out.suffix.lower(), SUFFIXES, "suffix of a picture")
    runs = [read_run(folder) for folder in folders]
    print(comparison(runs))
    if any(curve(run.rows, "val_loss") for run in runs):
        draw(runs, out)
        print(f"picture {shown(out)}")
    else:
        print("no picture: none of these runs has a validation loss yet")


def read_run(folder: Path) -> Run:
    """Read config.yaml, environment.json and metrics.csv, as far as they can be read."""
    config = read_config(folder)
    fields = to_dict(config) if config else {}
    shape = {f"model.{name}": value for name, value in fields.pop("model", {}).items()}
    return Run(folder.resolve(), {**shape, **fields}, read_place(folder), read_metrics(folder))


def read_place(folder: Path) -> dict[str, str]:
    """Where a run ran; a + marks a commit with uncommitted changes."""
    found = {}
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        found |= {name: environment[name] for name in ("torch", "device") if name in environment}
        git = environment.get("git") or {}  # null where there was no git
        if "commit" in git:
            found["git commit"] = git["commit"][:9] + ("+" if git.get("dirty") else "")
    return found


def comparison(runs: Sequence[Run]) -> str:
    """The legend, the table and the notes, in at most 80 columns."""
    names = [f"run {number}" for number in range(1, len(runs) + 1)]
    legend = [f"{name:<7} {shown(run.folder)[-72:]}" for name, run in zip(names, runs, strict=True)]
    settings = differing([run.config for run in runs])
    places = differing([run.place for run in runs])
    results = side_by_side([result(run, "tokenizer" in settings) for run in runs])
    table = columns(names, {**settings, **results, **places})
    return "\n".join([*legend, "", *table, *notes(runs, settings)])


def notes(runs: Sequence[Run], settings: Table) -> Iterator[str]:
    """What a reader must know to interpret the table."""
    if not settings and sum(bool(run.config) for run in runs) > 1:
        yield "the configurations are the same"
    if "data" in settings:
        yield "data differs: losses on different texts are not comparable"
    if "tokenizer" in settings:
        yield "tokenizer differs: compare bits per character, not the losses per token"
    for number, run in enumerate(runs, start=1):
        if not run.config:
            yield f"run {number} has no readable config.yaml"


def result(run: Run, in_bits: bool = False) -> dict[str, str]:
    """The results of a run; tokens/s is the mean over training, without evaluations.

    With `in_bits`, the loss in bits per character as well, where the run has recorded it.
    """
    found: dict[str, str] = {}
    if best := best_evaluation(run.rows):
        found |= {"best validation loss": f"{best[0]:.4f}", "at step": str(best[1])}
    bits = [value for _, value in curve(run.rows, "val_bits_per_char")]
    if bits and in_bits:
        found["bits per character"] = f"{min(bits):.4f}"
    if run.rows:
        found["steps"] = f"{steps_done(run.rows)}/{run.config.get('max_steps', '?')}"
    step, seconds = max(curve(run.rows, "seconds"), default=(0.0, 0.0))
    if seconds > 0:
        found["training seconds"] = f"{seconds:,.1f}"
        if run.config:
            sizes = ("batch_size", "accumulation", "model.max_seq_len")
            tokens = step * math.prod(run.config[name] for name in sizes)
            found["tokens/s"] = f"{tokens / seconds:,.0f}"
    return found


def differing(found: Sequence[Mapping[str, Any]]) -> Table:
    """The rows with at least two different known values."""
    table = side_by_side(found)
    return {name: row for name, row in table.items() if len(set(row) - {UNKNOWN}) > 1}


def side_by_side(found: Sequence[Mapping[str, Any]]) -> Table:
    """One row per name that any run has."""
    names = dict.fromkeys(name for each in found for name in each)
    return {name: [str(each.get(name, UNKNOWN)) for each in found] for name in names}


def columns(names: Sequence[str], table: Table) -> Iterator[str]:
    """The table as lines of at most 80 columns; runs that do not fit are continued below."""
    label = max(map(len, table), default=0)
    longest = max(len(text) for row in (names, *table.values()) for text in row)
    width = min(WIDEST_CELL, longest)
    abreast = (WIDTH - label) // (width + 2)
    for start in range(0, len(names), abreast):
        for name, row in {"": names, **table}.items():
            wrapped = [textwrap.wrap(text, width) or [""] for text in row[start : start + abreast]]
            for texts in itertools.zip_longest(*wrapped, fillvalue=""):
                yield f"{name:<{label}}" + "".join(f"  {text:>{width}}" for text in texts)
                name = ""  # a long cell continues on the next line
        yield ""


def draw(runs: Sequence[Run], path: Path) -> "Figure":
    """Plot the validation loss of each run against the step and save the plot.

    Raises CourseError, in one line, if matplotlib cannot be used.
    """
    try:
        from utils.visualization import literal_text
    except ValueError as error:  # such as an unknown $MPLBACKEND
        reason = " ".join(str(error).split())
        raise CourseError(f"the picture was not drawn: {reason:.200}") from None
    return literal_text(plot_curves)(runs, path)


def plot_curves(runs: Sequence[Run], path: Path) -> "Figure":
    """The plot itself."""
    from matplotlib.figure import Figure

    from utils.visualization import PALETTE, printable

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="validation loss (nats per token)")
    for i, run in enumerate(runs):
        if points := curve(run.rows, "val_loss"):
            best = min(loss for _, loss in points)
            label = f"run {i + 1}, best {best:.3f}: {printable(run.folder.name)}"
            colour = PALETTE[i % len(PALETTE)]
            style = STYLES[i // len(PALETTE) % len(STYLES)]
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
    """Compare two runs with made-up losses."""
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
