"""What does each part of a modern recipe contribute? One change at a time, several seeds each.

    python tools/ablations.py                     # train what is missing, write the page
    python tools/ablations.py --list              # the variants, and what each one changes
    python tools/ablations.py --only laptop without-rope --seeds 5
    python tools/ablations.py --render            # write the page again, train nothing

Four tables: from the classic recipe up to the `laptop` preset, `laptop` with one change reverted,
AdamW at other learning rates, because a badly tuned baseline proves nothing, and ideas that the
course does not use. All models but two have the sizes of `laptop`. Results are saved to
ablations.json run by run, so an interrupted run can be continued; ablations.md is rendered from
that file alone.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tools.benchmarks.ablation_page import SECTIONS, render
from tools.benchmarks.ablation_record import read_record
from tools.benchmarks.ablation_summary import differences, runs_of
from tools.benchmarks.ablation_training import train_missing
from tools.benchmarks.ablation_variants import Variant, flat, variants
from utils.command_line import OneLineParser
from utils.errors import UsageError, pick
from utils.files import atomic_write_text

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Train what is missing and write the page; --list and --render train nothing."""
    args = parse_args()
    if args.list:
        print("\n".join(listing()))
        return
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out} is a file, not a folder")
    results = args.out / "ablations.json"
    page = args.out / "ablations.md"
    if not args.render:
        args.out.mkdir(parents=True, exist_ok=True)
        train_missing(results, args.only, args.steps, args.seeds)
    elif not results.exists():
        raise UsageError(f"there is no {results}; without --render, the models are trained first")
    record = read_record(results)
    if not runs_of(record, *record["variants"]):
        raise UsageError(f"{results} contains no finished run; train one without --render")
    atomic_write_text(page, render(record))
    print(f"wrote {page}")


def parse_args() -> argparse.Namespace:
    """The command line. Raises UsageError for values that are out of range or unknown."""
    parser = OneLineParser(description="What each part of a modern recipe contributes.")
    parser.add_argument(
        "--steps", type=int, default=600, metavar="N", help="steps per run (default: 600)"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs per row (default: 3)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=ROOT / "09_capstone",
        help="folder of ablations.json and ablations.md (default: 09_capstone)",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="train only these rows or tables"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="list the rows, train nothing")
    other.add_argument("--render", action="store_true", help="write the page again, train nothing")
    args = parser.parse_args()
    for flag in ("steps", "seeds"):
        if getattr(args, flag) < 1:
            raise UsageError(f"--{flag} {getattr(args, flag)} must be 1 or more")
    args.only = select(args.only) if args.only else []
    return args


def select(given: Sequence[str]) -> list[str]:
    """The variants named by themselves or by their table. Raises UsageError for unknown names."""
    rows = variants()
    known = list(dict.fromkeys([*SECTIONS, *(row.name for row in rows)]))
    for name in given:
        pick(name, known, "variant")
    return list(dict.fromkeys(row.name for row in rows if {row.name, row.table} & {*given}))


def listing() -> list[str]:
    """Each variant with what it changes, within 80 columns."""
    rows: dict[str, Variant] = {}
    for row in variants():
        rows.setdefault(row.name, row)  # some are in two tables
    lines = []
    for row in rows.values():
        change = "GPT-2's layout, AdamW, cosine schedule"
        if row.compared:
            changes = differences(flat(rows[row.compared].config), flat(row.config))
            change = ", ".join([*changes, *([f"idea: {row.idea}"] if row.idea else [])])
        heading = f"{row.name:<26}"
        lines += textwrap.wrap(change, 79, initial_indent=heading, subsequent_indent=" " * 26)
    return lines


if __name__ == "__main__":
    run_program(main)
