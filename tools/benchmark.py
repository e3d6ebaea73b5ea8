"""How fast is the course here? Training, generation, start-up and memory, measured in one run.

    python tools/benchmark.py                          # some minutes; --quick takes about one
    python tools/benchmark.py --only generation startup
    python tools/benchmark.py --train-seeds 3          # the time to given losses too: long
    python tools/benchmark.py --only losses --train-seeds 3 --preset full
    python tools/benchmark.py --out FOLDER             # results.json, table.md, picture.png too

The peer is GPT-2 as the library transformers writes it; tools/benchmarks/baseline.py says how it is
set up. Both sides have the same sizes, vocabulary, batches and threads, and take turns. Ours is the
capstone's: its newer layout, Muon, and the precision that is faster here. Beside it stand ours with
the peer's optimizer, and both in either precision where bfloat16 is fast. All of it runs on the
CPU; close other busy programs first.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from model.config import preset
from tools.benchmarks.changes import changes
from tools.benchmarks.generation import generation
from tools.benchmarks.interleave import Settings
from tools.benchmarks.processes import memory, startup
from tools.benchmarks.report import (
    COLUMNS,
    Section,
    describe_machine,
    description,
    table,
    write_report,
)
from tools.benchmarks.training import losses, training
from training_data import load_training_data
from utils.command_line import OneLineParser
from utils.errors import UsageError, pick
from utils.memory import keep_freed_memory

SECTIONS: dict[str, Callable[[Settings], Iterator[Section]]] = {
    "training": training,
    "losses": losses,
    "generation": generation,
    "changes": changes,
    "startup": startup,
    "memory": memory,
}
LEGEND = (
    "ours: the capstone's layout, with Muon unless AdamW is named. transformers: its GPT-2 of the "
    "same sizes, with PyTorch's fused AdamW. A value is the median of the rounds; a ratio is made "
    "in each round. of peak: the model's arithmetic as a share of what matrix products reach."
)
QUICK = "--quick: few rounds of small batches and short texts; these figures are not to be quoted."


def main() -> None:
    """Measure, print the table section by section, and write the files if they are asked for."""
    args = parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)  # now, not when the work is done
    data = load_training_data(args.data)
    settings = Settings(data, args.data, args.rounds, args.quick, args.train_seeds, args.preset)
    machine = describe_machine(data.origin.partition(":")[0])  # where it lies is nobody's business
    for line in description(machine):
        print(textwrap.fill(line, COLUMNS, subsequent_indent="  "))
    sections = []
    for name in chosen(args):
        for section in SECTIONS[name](settings):
            sections.append(section)
            print(f"\n{table(section)}", flush=True)
    legend = f"{LEGEND} {QUICK}" if args.quick else LEGEND
    print(f"\n{textwrap.fill(legend, COLUMNS)}")
    if args.out is not None:
        for path in write_report(args.out, machine, sections, legend):
            print(f"wrote {path}")


def parse_args() -> argparse.Namespace:
    """The command line. Raises UsageError for what cannot be."""
    parser = OneLineParser(description="Measure training, generation, start-up and memory.")
    parser.add_argument("--only", nargs="+", metavar="SECTION", help=f"of: {', '.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="values behind a median (5)")
    parser.add_argument("--quick", action="store_true", help="see that it works; do not quote it")
    parser.add_argument(
        "--train-seeds", type=int, default=0, metavar="N", help="train a preset N times"
    )
    parser.add_argument("--preset", default="laptop", metavar="NAME", help="which (laptop)")
    parser.add_argument("--data", default="shakespeare", metavar="TEXT", help="as train.py's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the results there as well")
    args = parser.parse_args()
    args.rounds = (2 if args.quick else 5) if args.rounds is None else args.rounds
    refuse_nonsense(args)
    return args


def refuse_nonsense(args: argparse.Namespace) -> None:
    """Raise UsageError, in one line, for values that no benchmark can have."""
    if args.rounds < 1:
        raise UsageError(f"--rounds {args.rounds} is out of range: it must be at least 1")
    if args.train_seeds < 0:
        raise UsageError(f"--train-seeds {args.train_seeds} is out of range: it must be at least 0")
    for name in args.only or ():
        pick(name, SECTIONS, "section")
    if args.only and "losses" in args.only and not args.train_seeds:
        raise UsageError("--only losses needs --train-seeds N, how often to train")
    if args.only and "losses" not in args.only and args.train_seeds:
        raise UsageError("--train-seeds is for the section losses, which --only leaves out")
    preset(args.preset)  # which knows the names
    if args.preset != "laptop" and not args.train_seeds:
        raise UsageError(f"--preset {args.preset} needs --train-seeds N, how often to train it")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out} is a file, not a folder")


def chosen(args: argparse.Namespace) -> list[str]:
    """The sections to measure, in the order of the table; losses take long and wait to be asked."""
    asked = args.only or [name for name in SECTIONS if name != "losses" or args.train_seeds]
    return [name for name in SECTIONS if name in asked]


if __name__ == "__main__":
    keep_freed_memory()  # as train.py does; the process of the peer is left as it is
    run_program(main)
