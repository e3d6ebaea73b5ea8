"""Train the laptop preset, print samples, and show what to try next.

make demo        (or, once it is installed: python tools/demo.py)
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import subprocess
import sys
from pathlib import Path

from utils.command_line import OneLineParser

ROOT = Path(__file__).resolve().parents[1]
RUN = "09_capstone/runs/demo"
PROGRAMS = (
    ["09_capstone/train.py", "--preset", "laptop", "--overwrite", "--out-dir", RUN],
    ["09_capstone/sample.py", "--checkpoint", f"{RUN}/best.safetensors", "--num-samples", "3"],
)
WHAT_NEXT = f"""
What to try next
  Prompt it:            python 09_capstone/sample.py --interactive
  Continue a text:      python 09_capstone/sample.py --prompt "KING" --temperature 0.7
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
    OneLineParser(description="Train the laptop preset and print samples.").parse_args()
    for arguments in PROGRAMS:
        print(f"\n$ python {' '.join(arguments)}", flush=True)
        code = run(arguments)
        if code != 0:
            return code
    print(WHAT_NEXT)
    return 0


if __name__ == "__main__":
    run_program(main)
