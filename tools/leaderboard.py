"""The leaderboard of the course: five minutes on two cores, fewer than five million parameters.

    python tools/leaderboard.py RUN                       # which rules does a run keep?
    python tools/leaderboard.py RUN RUN RUN               # the seeds of one entry
    python tools/leaderboard.py RUN RUN RUN --name wide   # and write its row, if all is well
    python tools/leaderboard.py --check                   # is LEADERBOARD.md up to date?

RUN is the folder of a run of train.py, its id, or the beginning of its id. The losses are computed
again from each best.safetensors. The row goes into 09_capstone/leaderboard.json, from which
09_capstone/LEADERBOARD.md is written. Exit codes: 0 done, 1 a rule is broken, 2 wrong usage.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from experiment_tracking import RUNS, find_run
from tools.benchmarks.leaderboard_page import (
    Entry,
    add_entry,
    entry_of,
    is_current,
    with_spread,
    write_page,
)
from tools.benchmarks.leaderboard_rules import all_checks
from tools.benchmarks.leaderboard_runs import EntryRun
from utils.command_line import OneLineParser
from utils.errors import CourseError, UsageError

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 80
NAME = re.compile(r"[^\W_]([^\W_]|[ .,+()-]){0,39}")  # nothing that Markdown takes for a mark


def main() -> int:
    """Check the runs and print their row, or write or compare the page."""
    args = parse_args()
    if args.check:
        return check_page(args.out)
    if args.page:
        print(f"wrote {write_page(args.out)}")
        return 0
    runs = [EntryRun(find_run(run, RUNS)) for run in args.runs]
    if not passes(runs):
        return 1
    entry = entry_of(args.name or "(no name)", runs)
    print_row(entry)
    if args.name is None:
        print('Nothing was written. To enter this row, add --name "NAME".')
        return 0
    for path in add_entry(args.out, entry):
        print(f"wrote {path}")
    return 0


def parse_args() -> argparse.Namespace:
    """The command line. Raises UsageError for combinations that make no sense."""
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run; several: its seeds")
    parser.add_argument("--name", metavar="NAME", help="write the row, under this name")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=ROOT / "09_capstone",
        help="folder of leaderboard.json and LEADERBOARD.md (default: 09_capstone)",
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--check", action="store_true", help="fail if the page is out of date")
    other.add_argument("--page", action="store_true", help="write the page again")
    args = parser.parse_args()
    validate_args(args)
    return args


def validate_args(args: argparse.Namespace) -> None:
    """Raise UsageError, in one line, for what is missing or does not go together."""
    if args.check or args.page:
        flag = "--check" if args.check else "--page"
        if args.runs or args.name is not None:
            raise UsageError(f"{flag} takes no run and no name; give it alone")
    elif not args.runs:
        raise UsageError(
            "the run is missing; name one, such as 09_capstone/runs/RUN, or give --check"
        )
    if args.name is not None and not NAME.fullmatch(args.name):
        raise UsageError(
            f"--name {args.name!r}: 1 to 40 letters, digits, spaces or .,+()-, the first of them "
            "a letter or a digit"
        )
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out} is a file, not a folder")


def check_page(folder: Path) -> int:
    """Whether the page is what leaderboard.json says. Raises CourseError if it is not."""
    if not is_current(folder):
        raise CourseError(
            f"{folder / 'LEADERBOARD.md'} is out of date; python tools/leaderboard.py --page "
            "writes it again"
        )
    print("LEADERBOARD.md is what leaderboard.json says")
    return 0


def passes(runs: Sequence[EntryRun]) -> bool:
    """Print every check as it is done; whether all are met."""
    failed = 0
    for check in all_checks(runs):
        print(wrapped(str(check)), flush=True)
        failed += not check.ok
    if failed:
        print(f"No row: {failed} of the rules above {'is' if failed == 1 else 'are'} not met.")
    return not failed


def print_row(entry: Entry) -> None:
    """The row, one cell per line."""
    print(f"row    {entry.name}, seeds {', '.join(map(str, entry.seeds))}")
    for name, value in (
        ("equal evaluation", f"{with_spread(entry.equal)} nats per character"),
        ("own context", f"{with_spread(entry.own)}, in blocks of {entry.context:,}"),
        ("parameters", f"{entry.parameters:,}"),
        ("seconds", f"{max(entry.seconds):.0f}, the slowest seed"),
        ("machine", entry.machine),
        ("commit", entry.commit),
        ("command", entry.command),
    ):
        print(wrapped(f"       {name:<18}{value}", indent=25))


def wrapped(line: str, indent: int = 7) -> str:
    """A line of at most 80 columns, continued after `indent` spaces; words and paths stay whole."""
    spaces = " " * indent
    return textwrap.fill(
        line, COLUMNS, subsequent_indent=spaces, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    run_program(main)
