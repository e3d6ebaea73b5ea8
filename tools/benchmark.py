"""How fast is the course on this machine? Training, generation, start-up and memory.

    python tools/benchmark.py                          # some minutes; --quick takes about one
    python tools/benchmark.py --only generation startup
    python tools/benchmark.py --train-seeds 3          # also the time to given losses: long
    python tools/benchmark.py --only losses --train-seeds 5 --preset full
    python tools/benchmark.py --out DIR                # also results.json, table.md, picture.png
    python tools/benchmark.py --page                   # write 09_capstone/BENCHMARKS.md again

The baseline is the library transformers' GPT-2; tools/benchmarks/baseline.py says how it is set up.
Both sides have the same sizes, vocabulary, batches and threads, and their measurements are
interleaved. Ours is what the capstone trains: its newer architecture, Muon, and the precision that
is faster on this machine. It is also measured with the baseline's optimizer and, where bfloat16 is
fast, both sides are measured in both precisions. Everything runs on the CPU; close other busy
programs first.

Each training run is saved in DIR/runs, with its model. If the command is interrupted, the same
command skips the runs that are there, as long as nothing that they depend on has changed.
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
from tools.benchmarks.losses import losses
from tools.benchmarks.page import write_page
from tools.benchmarks.picture import speeds, write_picture
from tools.benchmarks.processes import memory, startup
from tools.benchmarks.report import (
    COLUMNS,
    Section,
    describe_machine,
    description,
    table,
    write_report,
)
from tools.benchmarks.training import training
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
    "ours: the capstone's architecture, with Muon unless AdamW is named. transformers: its GPT-2 "
    "of the same sizes, with PyTorch's fused AdamW. A value is the median over the rounds; a ratio "
    "is computed within each round. of peak: the model's FLOP/s as a share of what plain matrix "
    "products reach. One unit: 2,000 steps of transformers' GPT-2, 4 layers x 128, on 12 x 64 "
    "tokens in float32."
)
QUICK = "--quick: few rounds, small batches, short texts. Do not quote these figures."


def main() -> None:
    """Measure, print each section as it is done, and write the files that are asked for."""
    args = parse_args()
    written = write_page() if args.page else measure(args)
    for path in written:
        print(f"wrote {path}")


def measure(args: argparse.Namespace) -> list[Path]:
    """Run the chosen sections; return the paths of the files that --out asked for."""
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)  # fails now, not after the measurements
    data = load_training_data(args.data)
    settings = Settings(
        data, args.data, args.rounds, args.quick, args.train_seeds, args.preset, args.out
    )
    machine = describe_machine(data.origin.partition(":")[0])  # without the path of the file
    for line in description(machine):
        print(textwrap.fill(line, COLUMNS, subsequent_indent="  "))
    sections = []
    for name in chosen(args):
        for section in SECTIONS[name](settings):
            sections.append(section)
            print(f"\n{table(section)}", flush=True)
    legend = f"{LEGEND} {QUICK}" if args.quick else LEGEND
    print(f"\n{textwrap.fill(legend, COLUMNS)}")
    if args.out is None:
        return []
    paths = write_report(args.out, machine, sections, legend)
    if any(speeds(section) for section in sections):
        paths.append(args.out / "picture.png")
        write_picture(paths[-1], sections, description(machine)[0])
    return paths


def parse_args() -> argparse.Namespace:
    """The command line. Raises UsageError for values and combinations that make no sense."""
    parser = OneLineParser(description="Measure training, generation, start-up and memory.")
    parser.add_argument(
        "--only", nargs="+", metavar="SECTION", help=f"measure only these: {', '.join(SECTIONS)}"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="measurements per row (default: 5)")
    parser.add_argument(
        "--quick", action="store_true", help="a quick trial; do not quote its figures"
    )
    parser.add_argument(
        "--train-seeds",
        type=int,
        default=0,
        metavar="N",
        help="train the preset N times (default: 0)",
    )
    parser.add_argument(
        "--preset",
        default="laptop",
        metavar="NAME",
        help="what --train-seeds trains (default: laptop)",
    )
    parser.add_argument(
        "--data", default="shakespeare", metavar="TEXT", help="the text, as for train.py"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write the results there")
    parser.add_argument(
        "--page", action="store_true", help="write 09_capstone/BENCHMARKS.md, measure nothing"
    )
    args = parser.parse_args()
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    if args.page and given != {"page"}:
        raise UsageError("--page measures nothing and takes no other flag")
    args.rounds = (2 if args.quick else 5) if args.rounds is None else args.rounds
    validate_args(args)
    return args


def validate_args(args: argparse.Namespace) -> None:
    """Raise UsageError, in one line, for values that are out of range or do not go together."""
    if args.rounds < 1:
        raise UsageError(f"--rounds {args.rounds} is out of range: it must be at least 1")
    if args.train_seeds < 0:
        raise UsageError(f"--train-seeds {args.train_seeds} is out of range: it must be at least 0")
    for name in args.only or ():
        pick(name, SECTIONS, "section")
    if args.only and "losses" in args.only and not args.train_seeds:
        raise UsageError("--only losses needs --train-seeds N, the number of training runs")
    if args.only and "losses" not in args.only and args.train_seeds:
        raise UsageError("--train-seeds is for the section losses, which --only leaves out")
    preset(args.preset)  # raises UsageError for an unknown name
    if args.preset != "laptop" and not args.train_seeds:
        raise UsageError(
            f"--preset {args.preset} needs --train-seeds N, the number of training runs"
        )
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out} is a file, not a folder")


def chosen(args: argparse.Namespace) -> list[str]:
    """The sections to measure, in the order of SECTIONS; losses only if --train-seeds asks."""
    names = args.only or [name for name in SECTIONS if name != "losses" or args.train_seeds]
    return [name for name in SECTIONS if name in names]


if __name__ == "__main__":
    keep_freed_memory()  # as train.py does; the baseline's process keeps the defaults
    run_program(main)
