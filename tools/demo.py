"""Train the laptop preset for a minute, print samples, and show what to try next.

make demo                          (or, once it is installed: python tools/demo.py)
make demo ARGS="--parts mine"      a model of your own solved exercises
make demo ARGS="--max-minutes 5"   any field of the configuration, as in train.py
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import subprocess
import sys
from pathlib import Path

from utils.command_line import OneLineParser, add_config_flags
from utils.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
RUN = "09_capstone/runs/demo"
WHOSE = "parts.txt"  # in that folder: which parts of the model are the learner's own code
MINUTES = "1"  # on a fast machine this is nearly all of the preset
TRAIN = (
    *("09_capstone/train.py", "--preset", "laptop", "--max-minutes", MINUTES),
    *("--overwrite", "--out-dir", RUN),
)
SAMPLE = ("09_capstone/sample.py", "--checkpoint", f"{RUN}/best.safetensors", "--num-samples", "3")
WHAT_NEXT = f"""
What to try next
  Prompt it:            python 09_capstone/sample.py --interactive
  Continue a text:      python 09_capstone/sample.py --prompt "KING" --temperature 0.7
  Watch it attend:      python tools/export_demo.py --out my_model.html
  See how it learned:   {RUN}/curves.png and {RUN}/log.txt
  Train a larger one:   python 09_capstone/train.py --preset full
  Learn how it works:   start with 00_setup/README.md, the first lesson
  (`python` stands for .venv/bin/python, on Windows .venv\\Scripts\\python)"""


def run(arguments: list[str]) -> int:
    """Run a program of the course to its end and return its exit code.

    Ctrl-C reaches the program as well, which saves its state before it exits: wait for that.
    """
    child = subprocess.Popen([sys.executable, *arguments], cwd=ROOT)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def main() -> int:
    """Run the programs in order; the first failure ends the demo with its exit code."""
    parser = OneLineParser(
        description="Train the laptop preset for a minute and print samples.",
        usage="%(prog)s [--parts mine] [options of train.py]",
    )
    add_config_flags(parser, TrainConfig, skip="vocab_size")
    parser.parse_args()
    for arguments in ([*TRAIN, *sys.argv[1:]], [*SAMPLE]):
        print(f"\n$ python {' '.join(arguments)}", flush=True)
        code = run(arguments)
        if code != 0:
            return code
    print(WHAT_NEXT)
    print_own_share(ROOT / RUN / WHOSE)
    return 0


def print_own_share(whose: Path) -> None:
    """Print "9 of 12 parts of this model are your own code", if any was asked for."""
    if whose.is_file():
        first = whose.read_text(encoding="utf-8").splitlines()[0]
        print(f"\n{first.removeprefix('parts').strip()}")


if __name__ == "__main__":
    run_program(main)
