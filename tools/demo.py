"""From nothing to a model that talks: train the laptop preset, print samples, say what comes next.

make demo        (or: python tools/demo.py, when the environment is there)
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = "09_capstone/runs/demo"
PROGRAMS = (
    ["09_capstone/train.py", "--preset", "laptop", "--overwrite", "--out-dir", RUN],
    ["09_capstone/sample.py", "--checkpoint", f"{RUN}/best.safetensors", "--num-samples", "3"],
)
WHAT_NEXT = f"""
What to try next
  Talk to your model:   python 09_capstone/sample.py --interactive
  Give it a start:      python 09_capstone/sample.py --prompt "KING" --temperature 0.7
  See how it learned:   {RUN}/curves.png and {RUN}/log.txt
  Train a larger one:   python 09_capstone/train.py --preset full
  Understand it all:    open 01_attention/README.md and begin with the first lesson
  (`python` is the one of the environment: .venv/bin/python, on Windows .venv\\Scripts\\python)"""


def run(arguments: list[str]) -> int:
    """Run one of our programs to its end and return its exit code.

    Ctrl-C reaches the program as well, which saves its state before it leaves: wait for that.
    """
    child = subprocess.Popen([sys.executable, *arguments], cwd=ROOT)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def main() -> int:
    """Run the programs in turn; the first that fails ends the demo with its exit code."""
    for arguments in PROGRAMS:
        print(f"\n$ python {' '.join(arguments)}", flush=True)
        code = run(arguments)
        if code != 0:
            return code
    print(WHAT_NEXT)
    return 0


if __name__ == "__main__":
    run_program(main)
