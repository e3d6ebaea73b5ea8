"""The runs behind the figures of theory.md: methods, rewards that are cheated, the price of moving.

    python 09_capstone/post_training/experiments.py --base MODEL                  all of them
    python 09_capstone/post_training/experiments.py --base MODEL --only kl        one kind
    python 09_capstone/post_training/experiments.py --base MODEL --only word --seeds 1 2 3
    python 09_capstone/post_training/experiments.py --base MODEL --quick          does each run?

MODEL is made by:

    python 09_capstone/train.py --config 08_engineering/examples/plays.yaml

On two cores, the methods take five minutes each, the others at most four. A run that is finished
is not repeated, and one that was interrupted is resumed; to repeat a run, delete its folder,
09_capstone/runs/experiment-NAME-SEED. What the runs found goes to pictures/measured.json, from
which pictures/draw.py draws. --quick takes a few steps of each and writes to
09_capstone/runs/quick-experiments.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from logging_utils import CsvLogger, read_csv
from post_training import reward_errors
from post_training.post_run import ANSWERS_FILE
from post_training.preferences import read_pairs, write_pairs
from run_folder import is_finished, write_result
from run_places import default_runs
from utils.errors import CourseError
from utils.pictures import read_measured, write_measured

PICTURES = Path(__file__).resolve().parent / "pictures"
PROGRAM = Path(__file__).resolve().parents[1] / "post_train.py"
CHEATED = "--kl-weight 0.05 --max-steps 75 --eval-interval 25"
KL_WEIGHTS = (0, 0.02, 0.05, 0.2)
RUNS = {  # arguments of post_train.py; the first four take five minutes each on two cores
    "grpo": "grpo --max-steps 250 --eval-interval 50",
    "exact": "grpo --reward exact --kl-weight 0.05 --max-steps 250 --eval-interval 50",
    "dpo": "dpo --max-steps 390 --eval-interval 65",
    "sft": "sft --task continue --max-steps 2800 --eval-interval 560",
    "word": f"grpo --reward word {CHEATED}",
    "rhyme": "grpo --reward rhyme --kl-weight 0.05 --max-steps 200 --eval-interval 50",
    "follow": "sft --task follow --max-steps 400 --eval-interval 100",
    "length": f"grpo --task follow --reward length {CHEATED}",
    **{
        f"kl-{weight}": f"grpo --kl-weight {weight} --max-steps 120 --eval-interval 30"
        for weight in KL_WEIGHTS
    },
}
START = {"length": "follow"}  # a model that ends its answers; all others start from the base
REWARD_STEPS = 512  # of 16 pairs: two epochs
REWARD_MODELS = {"reward-model": 0.0, "reward-model-noisy": 0.2}  # the share of wrong preferences
GROUPS = {
    "methods": ["grpo", "exact", "dpo", "sft"],
    "cheated": ["word", "rhyme", "follow", "length"],
    "kl": [name for name in RUNS if name.startswith("kl-")],
    "reward-models": list(REWARD_MODELS),
}
JUDGED = "--judged-answers 512"
QUICK = "--max-steps 4 --max-minutes none --eval-interval 2 --batch-size 16 --judged-answers 16"
COLUMNS = ("step", "right", "followed", "kl", "distinct", "reward", "val_loss", "seconds")
ERRORS_FILE = "errors.csv"
ERROR_COLUMNS = (*reward_errors.COLUMNS, "seconds")


@dataclass(frozen=True)
class Experiments:
    """Where the runs start, how long they are, and where they and their figures are kept."""

    base: Path
    quick: bool

    @property
    def runs(self) -> Path:
        """The folder of the runs."""
        return default_runs() / "quick-experiments" if self.quick else default_runs()

    def folder(self, name: str, seed: int) -> Path:
        """The folder of a run."""
        return self.runs / f"experiment-{name}-{seed}"

    def finish(self, name: str, seed: int) -> list[dict[str, Any]]:
        """Make a run unless it is finished; returns what it found."""
        folder = self.folder(name, seed)
        if name in REWARD_MODELS:
            if not is_finished(folder):
                self.learn_reward(name, seed)
            return rounded(read_csv(folder / ERRORS_FILE), ERROR_COLUMNS)
        if not is_finished(folder):
            self.post_train(name, seed)
        return rounded(read_csv(folder / ANSWERS_FILE), COLUMNS)

    def post_train(self, name: str, seed: int) -> None:
        """Run post_train.py in a process of its own. Raises CourseError if it fails."""
        folder = self.folder(name, seed)
        start = self.folder(START[name], seed) / "last.safetensors" if name in START else self.base
        dtype = "float32" if self.quick else "bfloat16"
        arguments = [*RUNS[name].split(), "--seed", str(seed), "--dtype", dtype]
        arguments += (QUICK if self.quick else JUDGED).split()
        arguments += ["--checkpoint", str(start), "--overwrite"]
        if (folder / "states").is_dir():  # interrupted: its configuration is in its folder
            arguments = ["--resume"]
        places = ["--out-dir", str(folder), "--checkpoint-dir", str(folder / "published")]
        if code := subprocess.run([sys.executable, str(PROGRAM), *arguments, *places]).returncode:
            raise CourseError(f"the run in {folder} ended with {code}; see its messages above")

    def learn_reward(self, name: str, seed: int) -> None:
        """Train a reward model in this process, from its beginning."""
        folder = self.folder(name, seed)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ERRORS_FILE).unlink(missing_ok=True)
        sets, noise = self.pair_sets(seed), REWARD_MODELS[name]
        sizes = {"n_steps": 4, "eval_interval": 2} if self.quick else {"n_steps": REWARD_STEPS}
        dtype = torch.float32 if self.quick else torch.bfloat16
        learned = reward_errors.learn_reward(
            self.base, sets, seed, noise=noise, dtype=dtype, **sizes
        )
        begin = time.perf_counter()
        with CsvLogger(folder / ERRORS_FILE, ERROR_COLUMNS) as log:
            for row in learned:
                log.append(row | {"seconds": time.perf_counter() - begin})
                print(
                    f"step {row['step']:>4.0f}  loss {row['loss']:.3f}  wrong in pairs "
                    f"{row['pairs']:4.0%}, in slips {row['slips']:4.0%}",
                    flush=True,
                )
        write_result(folder, {"outcome": "finished"})

    def pair_sets(self, seed: int) -> reward_errors.PairSets:
        """The pairs of a seed, which all judges see: made once."""
        path = self.runs / f"experiment-pairs-{seed}.json"
        if not path.is_file():
            print(f"pairs of the base model's answers, for {path}", flush=True)
            sizes = {"n_pairs": 16} if self.quick else {}
            write_pairs(path, reward_errors.make_pair_sets(self.base, seed, **sizes))
        return read_pairs(path)

    def keep(self, name: str, seed: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write the rows of a run into measured.json."""
        place = self.runs if self.quick else PICTURES
        found = read_measured(place)
        runs = found.setdefault(name, {})
        runs[str(seed)] = list(rows)
        write_measured(place, found)


def main() -> int:
    """Make the runs that are missing, and collect what all of them found."""
    options = parse_args()
    experiments = Experiments(options.base, options.quick)
    wanted = list(runs_of(options.only, options.seeds))
    for number, (name, seed) in enumerate(wanted, start=1):
        done = is_finished(experiments.folder(name, seed))
        label = f"run {number} of {len(wanted)}: {name}, seed {seed}"
        print(f"{label}{', finished before' if done else ''}", flush=True)
        begin = time.perf_counter()
        rows = experiments.finish(name, seed)
        experiments.keep(name, seed, rows)
        if not done:
            print(f"{label}: {time.perf_counter() - begin:.0f} s\n", flush=True)
    return 0


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The runs behind the figures of theory.md.")
    parser.add_argument("--base", type=Path, required=True, help="the model to start from")
    names = [*GROUPS, *RUNS, *REWARD_MODELS]
    parser.add_argument(
        "--only", choices=names, metavar="NAME", help=f"one kind of runs: {', '.join(names)}"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one run per seed")
    parser.add_argument("--quick", action="store_true", help="a few steps: do they all run?")
    return parser.parse_args()


def runs_of(only: str | None, seeds: Sequence[int]) -> Iterator[tuple[str, int]]:
    """(name, seed) of the runs, each after the one whose model it starts from."""
    everything = [*RUNS, *REWARD_MODELS]
    names = everything if only is None else GROUPS.get(only, [only])
    needed = {START[name] for name in names if name in START}
    for seed in seeds:
        yield from ((name, seed) for name in everything if name in needed or name in names)


def rounded(
    rows: Sequence[dict[str, float | None]], columns: Sequence[str]
) -> list[dict[str, float | None]]:
    """These columns, with four digits."""
    return [
        {name: None if row.get(name) is None else round(row[name] or 0.0, 4) for name in columns}
        for row in rows
    ]


if __name__ == "__main__":
    run_program(main)
