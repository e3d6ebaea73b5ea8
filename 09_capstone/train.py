"""Train a language model, from a text to a checkpoint that speaks.

    python 09_capstone/train.py                                   # laptop preset, Tiny Shakespeare
    python 09_capstone/train.py --preset smoke                    # seconds, to see that it works
    python 09_capstone/train.py --preset full --max-minutes 30    # as good as half an hour gets
    python 09_capstone/train.py --data my_poems.txt --d-model 64  # your text, your sizes
    python 09_capstone/train.py --config 09_capstone/runs/RUN/config.yaml   # that run again

Everything a run writes goes into one folder, 09_capstone/runs/RUN/; the best model is also copied
to 09_capstone/checkpoints/, where sample.py looks for the newest. Ctrl-C saves and leaves.
"""

import argparse
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch

from callbacks import ProgressBar, RunFolder
from experiment_tracking import create_run_dir
from loss_functions import bits_per_char
from model.config import PRESETS, preset
from model.tiny_transformer import Engine, build_model, choose_engine
from training_data import TrainingData, load_training_data
from training_loop import Trainer
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import TrainConfig, load_config
from utils.errors import UsageError, run_program

HERE = Path(__file__).resolve().parent
WRITTEN = (  # by a run; --overwrite removes these and nothing else
    *("config.yaml", "environment.json", "metrics.csv", "metrics.jsonl", "log.txt"),
    *("samples.txt", "curves.png", "best.safetensors", "last.safetensors"),
)


def main() -> int:
    """Train once; returns the exit code."""
    args = parse_args()
    config = config_from_args(args, base_config(args))
    data = load_training_data(config.data)
    config = replace(config, model=replace(config.model, vocab_size=data.tokenizer.vocab_size))
    engine = choose_engine(config)
    model = build_model(config.model, engine, config.seed)
    if config.compile:
        model.compile()
    folder = run_folder(args, config)
    describe(config, data, engine, sum(p.numel() for p in model.parameters()), folder)
    return train(config, data, engine, model, folder, args.checkpoint_dir)


def train(
    config: TrainConfig,
    data: TrainingData,
    engine: Engine,
    model: torch.nn.Module,
    folder: Path,
    checkpoint_dir: Path,
) -> int:
    """Run the loop, write the run's folder, publish the best model; returns the exit code."""
    run = RunFolder(folder, config, data, model)  # pyright: ignore[reportArgumentType]
    bar = ProgressBar(config.max_steps)
    trainer = Trainer(model, data.train, data.val, config, engine.device, engine.dtype, [bar, run])
    try:
        with stop_on_signal(trainer):
            trainer.fit()
    finally:
        bar.close()
        run.close(trainer)
    finished = trainer.step == trainer.max_steps
    if not finished:
        print(f"interrupted at step {trainer.step}; saved: {shown(folder / 'last.safetensors')}")
    if (folder / "best.safetensors").exists():
        publish(folder, checkpoint_dir, run.best, data.entropy_bits_per_char)
    return 0 if finished else 130


def parse_args() -> argparse.Namespace:
    """The command line: what names the run, and one flag for every field of the configuration."""
    parser = OneLineParser(
        description="Train a language model on a text.",
        epilog="A flag wins over --config, which wins over --preset. Exit codes: 0 done, "
        "1 failed, 2 wrong usage, 130 interrupted (state saved).",
    )
    parser.add_argument("--preset", metavar="|".join(PRESETS), help="where to start (laptop)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML or JSON file of fields")
    parser.add_argument("--out-dir", type=Path, metavar="DIR", help="the run's own folder")
    parser.add_argument("--overwrite", action="store_true", help="replace a run in --out-dir")
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        metavar="DIR",
        default=HERE / "checkpoints",
        help="where the best model is copied when the run ends",
    )
    add_config_flags(parser, TrainConfig)
    return parser.parse_args()


def base_config(args: argparse.Namespace) -> TrainConfig:
    """The preset with the configuration file's fields on top."""
    base = preset(args.preset or "laptop")
    return load_config(args.config, TrainConfig, base) if args.config else base


def run_folder(args: argparse.Namespace, config: TrainConfig) -> Path:
    """A new folder under runs/, or --out-dir, which must be empty unless --overwrite is given."""
    if args.out_dir is None:
        return create_run_dir(HERE / "runs", args.preset or Path(config.data).stem)
    folder: Path = args.out_dir
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out-dir {folder} is a file, not a folder")
    if folder.exists() and any(folder.iterdir()) and not args.overwrite:
        raise UsageError(f"--out-dir {folder} is not empty; add --overwrite to replace that run")
    folder.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
    return folder


def describe(
    config: TrainConfig, data: TrainingData, engine: Engine, n_parameters: int, folder: Path
) -> None:
    """Say in five lines what is about to happen."""
    model, n_chars = config.model, len(data.train) + len(data.val)
    print(f"data    {data.origin}")
    print(f"        {n_chars:,} characters, {model.vocab_size} different; the last tenth validates")
    print(
        f"model   {model.n_layers} layers x {model.d_model}, {model.n_heads} heads, "
        f"context {model.max_seq_len}: {n_parameters:,} parameters"
    )
    print(f"engine  {engine}")
    print(f"run     {shown(folder)}", flush=True)


def publish(folder: Path, checkpoint_dir: Path, val_loss: float, entropy: float | None) -> None:
    """Copy the best model to where sample.py looks, and say how good it is."""
    checkpoint_dir.mkdir(parents=True, exist_ok=True)
    target = checkpoint_dir / f"{folder.name}.safetensors"
    partial = target.with_suffix(".part")
    shutil.copyfile(folder / "best.safetensors", partial)
    partial.replace(target)
    bits = bits_per_char(val_loss)
    floor = "" if entropy is None else f"; the text's own entropy is {entropy:.3f}"
    print(f"best    validation loss {val_loss:.4f} nats, {bits:.3f} bits per character{floor}")
    print(f"speak   python 09_capstone/sample.py --checkpoint {shown(target)}")


@contextmanager
def stop_on_signal(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the current step; a second one ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if trainer.stop:
            raise KeyboardInterrupt
        trainer.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shown(path: Path) -> str:
    """A path as one would type it: relative to here if it lies below."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    run_program(main)
