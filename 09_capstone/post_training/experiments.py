"""The runs behind the figures of theory.md: each method, and rewards that can be cheated.

    python 09_capstone/post_training/experiments.py --base MODEL      all: half an hour
    python 09_capstone/post_training/experiments.py --base MODEL --only word

MODEL is made by:

    python 09_capstone/train.py --config 08_engineering/examples/plays.yaml

A run that is finished is not repeated. What the runs found goes to pictures/measured.json, from
which pictures/draw.py draws.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logging_utils import read_csv
from post_training.post_run import ANSWERS_FILE
from run_folder import is_finished
from run_places import default_runs
from utils.errors import CourseError
from utils.pictures import read_measured, write_measured

PICTURES = Path(__file__).resolve().parent / "pictures"
PROGRAM = Path(__file__).resolve().parents[1] / "post_train.py"
CHEATED = "--kl-weight 0.05 --max-steps 75 --eval-interval 25"
RUNS = {  # the first four take five minutes each on two cores
    "grpo": "grpo --max-steps 250 --eval-interval 50",
    "exact": "grpo --reward exact --kl-weight 0.05 --max-steps 250 --eval-interval 50",
    "dpo": "dpo --max-steps 390 --eval-interval 65",
    "sft": "sft --task continue --max-steps 2800 --eval-interval 560",
    "word": f"grpo --reward word {CHEATED}",
    "rhyme": f"grpo --reward rhyme {CHEATED}",
}
COLUMNS = ("step", "right", "kl", "distinct", "reward", "val_loss", "seconds")


def main() -> int:
    """Make the runs that are missing, and collect what all of them found."""
    parser = argparse.ArgumentParser(description="The runs behind the figures of theory.md.")
    parser.add_argument("--base", type=Path, required=True, help="the model to start from")
    parser.add_argument("--only", choices=RUNS, help="one kind of run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one run per seed")
    options = parser.parse_args()
    for name in [options.only] if options.only else RUNS:
        for seed in options.seeds:
            folder = default_runs() / f"experiment-{name}-{seed}"
            if not is_finished(folder):
                make_run(folder, options.base, [*RUNS[name].split(), "--seed", str(seed)])
            keep(name, seed, rows_of(folder))
    return 0


def make_run(folder: Path, base: Path, arguments: Sequence[str]) -> None:
    """Run post_train.py in a process of its own. Raises CourseError if it fails."""
    places = [
        "--judged-answers",
        "512",
        "--dtype",
        "bfloat16",
        "--checkpoint",
        str(base),
        "--out-dir",
        str(folder),
        "--overwrite",
    ]
    command = [sys.executable, str(PROGRAM), *arguments, *places]
    if code := subprocess.run(command).returncode:
        raise CourseError(f"the run in {folder} ended with {code}; see its messages above")


def rows_of(folder: Path) -> list[dict[str, float | None]]:
    """What each evaluation of a run found, with four digits."""
    return [
        {name: None if row.get(name) is None else round(row[name] or 0.0, 4) for name in COLUMNS}
        for row in read_csv(folder / ANSWERS_FILE)
    ]


def keep(name: str, seed: int, rows: list[dict[str, Any]]) -> None:
    """Write the rows of a run into measured.json."""
    found = read_measured(PICTURES)
    runs = found.setdefault(name, {})
    runs[str(seed)] = rows
    write_measured(PICTURES, found)


if __name__ == "__main__":
    run_program(main)
