"""leaderboard.json, the entries of the leaderboard, and LEADERBOARD.md, the page made from it."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation import EQUAL_CHARACTERS
from tools.benchmarks.leaderboard_rules import (
    FEWEST_SEEDS,
    LONGEST,
    MOST_THREADS,
    TOO_MANY_PARAMETERS,
)
from tools.benchmarks.leaderboard_runs import EntryRun
from tools.benchmarks.markdown_text import list_item, paragraph
from utils.errors import CourseError
from utils.files import atomic_write_text

JSON_FILE, PAGE_FILE = "leaderboard.json", "LEADERBOARD.md"
HEADER = (
    *("name", "loss at equal evaluation", "loss at its own context", "parameters", "seconds"),
    *("machine", "commit", "command"),
)
NOTE = "<!-- Written by tools/leaderboard.py from leaderboard.json: edits here are lost. -->"
RULES = (
    f"It trained at most {LONGEST / 60:.0f} minutes, which are the seconds of `metrics.csv`, on a "
    f"CPU with at most {MOST_THREADS} threads.",
    f"The model has fewer than {TOO_MANY_PARAMETERS:,} parameters.",
    "It was trained from scratch on the first nine tenths of Tiny Shakespeare; the last tenth is "
    "for validation.",
    f"At least {FEWEST_SEEDS} seeds, with the same settings and the same commit.",
    "The commit has no uncommitted changes, and no run was interrupted, so that anyone can repeat "
    "it.",
    "The losses are computed again from each `best.safetensors`.",
)


@dataclass(frozen=True)
class Entry:
    """One row: the seeds of one configuration, whose order is that of the lists."""

    name: str
    seeds: tuple[int, ...]
    equal: tuple[float, ...]  # losses at equal evaluation, nats per character
    own: tuple[float, ...]  # losses at the model's own context
    context: int
    parameters: int
    seconds: tuple[float, ...]
    machine: str
    commit: str
    command: str

    @property
    def mean(self) -> float:
        """What the rows are sorted by: the mean loss at equal evaluation."""
        return statistics.fmean(self.equal)


def entry_of(name: str, runs: Sequence[EntryRun]) -> Entry:
    """The row of runs that have passed the checks."""
    runs = sorted(runs, key=lambda run: run.config.seed)
    first = runs[0]
    machines = (f"{run.environment['cpu']}, {run.environment['cores']} cores" for run in runs)
    return Entry(
        name,
        tuple(run.config.seed for run in runs),
        tuple(run.losses[1] for run in runs),
        tuple(run.losses[0] for run in runs),
        first.config.model.max_seq_len,
        first.parameters,
        tuple(run.seconds for run in runs),
        "; ".join(dict.fromkeys(machines)),
        first.environment["git"]["commit"],
        first.command,
    )


# --- the files ---


def read_entries(folder: Path) -> list[Entry]:
    """The entries; none without a file. Raises CourseError if it is damaged."""
    path = folder / JSON_FILE
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return [Entry(**{name: fixed(value) for name, value in each.items()}) for each in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CourseError(f"{path} is not a file of entries: {error!r}") from None


def fixed(value: Any) -> Any:
    """JSON has lists where an entry has tuples."""
    return tuple(value) if isinstance(value, list) else value


def add_entry(folder: Path, entry: Entry) -> list[Path]:
    """Add a row, or replace the one of that name; returns the paths of the two files."""
    others = [each for each in read_entries(folder) if each.name != entry.name]
    entries = ranked([*others, entry])
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"entries": list(map(asdict, entries))}, indent=2) + "\n"
    atomic_write_text(folder / JSON_FILE, text)
    return [folder / JSON_FILE, write_page(folder)]


def write_page(folder: Path) -> Path:
    """Write the page from the entries; returns its path."""
    page, text = folder / PAGE_FILE, render(read_entries(folder))
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(page, text)
    return page


def is_current(folder: Path) -> bool:
    """Whether the page is what the entries say."""
    page, text = folder / PAGE_FILE, render(read_entries(folder))
    return page.exists() and page.read_text(encoding="utf-8") == text


def ranked(entries: Sequence[Entry]) -> list[Entry]:
    """The lowest mean first; of equal ones, the first by name."""
    return sorted(entries, key=lambda entry: (entry.mean, entry.name))


# --- the page ---


def render(entries: Sequence[Entry]) -> str:
    """The page."""
    opening = (
        "How low does the loss go in five minutes on two cores? This is a table for learners: "
        "beat the first row, then add yours."
    )
    how = (
        f"The rows are sorted by the mean loss at equal evaluation: nats per character over the "
        f"last tenth of the text, in non-overlapping blocks of {EQUAL_CHARACTERS} characters, or "
        "of the model's own context if that is shorter. ± is the standard deviation over the "
        "seeds; seconds are those of the slowest seed."
    )
    parts = (f"# Leaderboard\n\n{NOTE}", paragraph(opening), table(entries), paragraph(how))
    return "\n\n".join([*parts, rules(), entering()]) + "\n"


def table(entries: Sequence[Entry]) -> str:
    """The rows, or that there is none yet."""
    lines = [f"| {' | '.join(HEADER)} |", "| --- | ---: | ---: | ---: | ---: | --- | --- | --- |"]
    lines += map(line, ranked(entries))
    if not entries:
        lines.append(f"| no entry yet |{'  |' * (len(HEADER) - 1)}")
    return "\n".join(lines)


def line(entry: Entry) -> str:
    """One row of the table."""
    cells = (
        entry.name,
        f"{with_spread(entry.equal)}, {len(entry.seeds)} seeds",
        f"{with_spread(entry.own)}, context {entry.context:,}",
        f"{entry.parameters:,}",
        f"{max(entry.seconds):.0f}",
        entry.machine,
        f"`{entry.commit[:12]}`",
        f"`{entry.command} --seed {entry.seeds[0]}`",
    )
    return f"| {' | '.join(cells)} |"


def with_spread(values: Sequence[float]) -> str:
    """The mean and the standard deviation over the seeds."""
    return f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}"


def rules() -> str:
    """What a row must keep to."""
    text = (
        "`tools/leaderboard.py` checks these on the folders of the runs. What no program can check "
        "is in the commit, for everyone to read."
    )
    return "\n\n".join(["## The rules", "\n".join(map(list_item, RULES)), paragraph(text)])


def entering() -> str:
    """What to type."""
    text = (
        "Commit what you have changed, so that the runs record a clean commit. Train at least "
        f"{FEWEST_SEEDS} seeds, then check them together. With `--name`, the row is written:"
    )
    commands = [
        "python 09_capstone/train.py --seed 0 --out-dir 09_capstone/runs/mine-0",
        "python 09_capstone/train.py --seed 1 --out-dir 09_capstone/runs/mine-1",
        "python 09_capstone/train.py --seed 2 --out-dir 09_capstone/runs/mine-2",
        'python tools/leaderboard.py mine-0 mine-1 mine-2 --name "my recipe"',
    ]
    block = "\n".join(["```", *commands, "```"])
    last = (
        "Choose settings with other seeds than those you report, and [without the validation "
        "split](running.md#choose-settings-without-the-validation-split): a setting that was "
        "chosen on the reported loss looks better than it is."
    )
    return "\n\n".join(["## Add yours", paragraph(text), block, paragraph(last)])
