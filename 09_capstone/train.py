"""Train a language model, from a text to a checkpoint that speaks.

    python 09_capstone/train.py                                   # laptop preset, Tiny Shakespeare
    python 09_capstone/train.py --preset smoke                    # seconds, to see that it works
    python 09_capstone/train.py --preset full --max-minutes 30    # as good as half an hour gets
    python 09_capstone/train.py --data my_poems.txt --d-model 64  # your text, your sizes
    python 09_capstone/train.py --config 09_capstone/runs/RUN/config.yaml   # that run again
    python 09_capstone/train.py --resume                          # go on, whatever stopped it

Everything a run writes goes into one folder, 09_capstone/runs/RUN/; the best model is also copied
to 09_capstone/checkpoints/, where sample.py looks for the newest. Ctrl-C saves and leaves; after
a power cut, --resume goes on from the last saved state, and comes to the same weights.
"""

import argparse
import os
import shutil
import signal
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from callbacks import ProgressBar, RunFolder, naming
from data_loader import check_tokens
from experiment_tracking import create_run_dir, new_run_id
from loss_functions import bits_per_char
from model.config import PRESETS, preset
from model.tiny_transformer import Engine, build_model, choose_engine
from resuming import (
    RESULT_FILE,
    RUN_FILE,
    locked,
    refuse_changes,
    run_id_of,
    run_to_resume,
    sign,
    state_to_resume,
    write_result,
)
from tiny_transformer_lm import TinyTransformerLM
from training_data import TrainingData, load_training_data
from training_loop import Trainer
from training_state import TrainingState, restore_random_states
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import TrainConfig, load_config
from utils.errors import CourseError, UsageError, run_program
from utils.files import atomic_write_bytes

HERE = Path(__file__).resolve().parent
WRITTEN = (  # by a run; --overwrite removes these and nothing else
    *("config.yaml", "environment.json", "metrics.csv", "metrics.jsonl", "log.txt"),
    *("samples.txt", "curves.png", "best.safetensors", "last.safetensors"),
    *(RUN_FILE, RESULT_FILE),
)
HANGING: Any = {"subsequent_indent": " " * 8, "break_long_words": False, "break_on_hyphens": False}
STOPPING = b"\nstopping after this step; once more (Ctrl-C) leaves at once\n"


def main() -> int:
    """Train once; returns the exit code."""
    args = parse_args()
    return resume(args) if args.resume else begin(args)


def begin(args: argparse.Namespace) -> int:
    """Start a run."""
    check_folders(args)
    config = config_from_args(args, base_config(args))
    data = load_training_data(config.data)
    config = fit_to_data(config, data)
    describe_data(data)
    engine = choose_engine(config)
    config = replace(config, dtype=engine.dtype_name)  # config.yaml says what was settled
    model = build_model(config.model, engine, config.seed)
    folder = make_run_folder(args, config)
    with locked(folder):
        clear(folder)
        sign(folder, folder.name if args.out_dir is None else new_run_id(folder.name))
        return train(config, data, engine, model, folder, args.checkpoint_dir)


def resume(args: argparse.Namespace) -> int:
    """Go on with a run that was stopped or killed, as if nothing had happened."""
    if args.overwrite:
        raise UsageError("--resume goes on with a run and --overwrite replaces it; choose one")
    folder = run_to_resume(args.out_dir, HERE / "runs")
    args.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        config = load_config(folder / "config.yaml", TrainConfig)
        named = args.preset or args.config
        refuse_changes(config_from_args(args, base_config(args) if named else config), config)
        data = load_training_data(config.data)
        describe_data(data)
        state = state_to_resume(folder, data)
        if state is not None:
            config = replace(config, device=state.position["place"]["device"])
        engine = choose_engine(config)
        model = build_model(config.model, engine, config.seed)
        return train(config, data, engine, model, folder, args.checkpoint_dir, state)


def train(
    config: TrainConfig,
    data: TrainingData,
    engine: Engine,
    model: TinyTransformerLM,
    folder: Path,
    checkpoint_dir: Path,
    state: TrainingState | None = None,
) -> int:
    """Run the loop, write the run's folder, publish the best model; returns the exit code."""
    describe_run(config, engine, model, folder)
    run = RunFolder(folder, config, data, model, engine.device, state, run_id_of(folder))
    if config.compile:
        model.compile()
    bar = ProgressBar(config.max_steps, state.step if state else 0)
    trainer = Trainer(model, data.train, data.val, config, engine.device, engine.dtype, [run, bar])
    with stop_on_signal(trainer), closing(run), closing(bar):
        if state is not None:
            go_on(trainer, state)
            run.sample_if_due(trainer)
        try:
            trainer.fit()
        except CourseError as error:  # a loss that is no number
            run.finish(trainer, str(error), keep=False)
            raise
        finished = trainer.step == trainer.max_steps and not trainer.evaluation_due
        run.finish(trainer, "finished" if finished else "interrupted")
    if run.has_best:
        publish(folder, checkpoint_dir, run.best, data.entropy_bits_per_char)
    if finished:  # last: a run killed before this line is resumed, and published then
        write_result(folder, {"outcome": "finished", "step": trainer.step, "best": run.best})
        return 0
    print(f"interrupted at step {trainer.step} of {trainer.max_steps}; the state is saved")
    print(f"go on   python 09_capstone/train.py --resume --out-dir {shown(folder)}")
    return 130


def go_on(trainer: Trainer, state: TrainingState) -> None:
    """Put a fresh trainer where the state was saved."""
    trainer.model.load_state_dict(state.model)
    for optimizer, saved in zip(trainer.optimizers, state.optimizers, strict=True):
        optimizer.load_state_dict(saved)
    trainer.resume(state.position)
    restore_random_states(state.random)


def parse_args() -> argparse.Namespace:
    """The command line: what names the run, and one flag for every field of the configuration."""
    parser = OneLineParser(
        description="Train a language model on a text.",
        usage="%(prog)s [--preset NAME] [--data TEXT] [options]",
        epilog="A flag wins over --config, which wins over --preset. Exit codes: 0 done, "
        "1 failed, 2 wrong usage, 130 interrupted (state saved).",
    )
    parser.add_argument("--preset", metavar="|".join(PRESETS), help="where to start (laptop)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML or JSON file of fields")
    parser.add_argument("--out-dir", type=Path, metavar="DIR", help="the run's own folder")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the newest unfinished run, or the one in --out-dir",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a run in --out-dir")
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        metavar="DIR",
        default=HERE / "checkpoints",
        help="where the best model is copied when the run ends",
    )
    add_config_flags(parser, TrainConfig, skip="vocab_size")  # the data says that
    return parser.parse_args()


def base_config(args: argparse.Namespace) -> TrainConfig:
    """The preset with the configuration file's fields on top."""
    base = preset(args.preset or "laptop")
    return load_config(args.config, TrainConfig, base) if args.config else base


def fit_to_data(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """The configuration with the data's vocabulary. Raises CourseError if a part is too short."""
    for tokens, name in ((data.train, "training split"), (data.val, "validation split")):
        check_tokens(tokens, config.batch_size, config.model.max_seq_len, name)
    return replace(config, model=replace(config.model, vocab_size=data.tokenizer.vocab_size))


def check_folders(args: argparse.Namespace) -> None:
    """Refuse a place that cannot be written, before anybody has waited for anything."""
    for flag, folder in (("--out-dir", args.out_dir), ("--checkpoint-dir", args.checkpoint_dir)):
        if folder is None:
            continue
        places = (folder, *folder.absolute().parents)
        exists = next((place for place in places if place.exists()), None)
        if exists is None:
            raise UsageError(f"{flag} {folder}: there is no such drive")
        if not exists.is_dir():
            raise UsageError(f"{flag} {folder}: {exists} is a file, not a folder")
        if not os.access(exists, os.W_OK):
            raise CourseError(f"{flag} {folder}: no permission to write in {exists}")
    folder = args.out_dir
    if folder and folder.exists() and any(folder.iterdir()) and not args.overwrite:
        raise UsageError(
            f"--out-dir {folder} is not empty; add --resume to go on with that run, or "
            "--overwrite to replace it"
        )
    if folder and args.config and args.config.resolve() == (folder / "config.yaml").resolve():
        raise UsageError(f"--overwrite would replace {args.config}; choose another --out-dir")


def make_run_folder(args: argparse.Namespace, config: TrainConfig) -> Path:
    """A new folder under runs/, or --out-dir."""
    args.checkpoint_dir.mkdir(parents=True, exist_ok=True)  # now, not when the work is done
    if args.out_dir is None:
        return create_run_dir(HERE / "runs", args.preset or Path(config.data).stem)
    folder: Path = args.out_dir.resolve()  # "." has a name too
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clear(folder: Path) -> None:
    """Remove what an earlier run has left in a folder, and nothing else."""
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "states", ignore_errors=True)


def describe_data(data: TrainingData) -> None:
    """Say what there is to learn from; measuring the engines may take a while after this."""
    n_chars = len(data.train) + len(data.val)
    print(textwrap.fill(data.origin, 80, initial_indent="data    ", **HANGING))
    print(
        f"        {n_chars:,} characters, {data.tokenizer.vocab_size} different; "
        "the last tenth validates",
        flush=True,
    )


def describe_run(
    config: TrainConfig, engine: Engine, model: TinyTransformerLM, folder: Path
) -> None:
    """Say what is about to happen, and where it is written down."""
    shape, n_parameters = config.model, sum(p.numel() for p in model.parameters())
    print(
        f"model   {shape.n_layers} layers x {shape.d_model}, {shape.n_heads} heads, "
        f"context {shape.max_seq_len}: {n_parameters:,} parameters"
    )
    print(f"engine  {engine}")
    print(f"run     {shown(folder)}", flush=True)


def publish(folder: Path, checkpoint_dir: Path, val_loss: float, entropy: float | None) -> None:
    """Copy the best model to where sample.py looks, and say how good it is."""
    target = checkpoint_dir / f"{folder.name}.safetensors"
    with naming(target):
        atomic_write_bytes(target, (folder / "best.safetensors").read_bytes())
    bits = bits_per_char(val_loss)
    print(f"best    validation loss {val_loss:.4f} nats, {bits:.3f} bits per character")
    if entropy is not None:
        print(f"floor   {entropy:.3f} bits per character, the entropy of the text itself")
    newest = checkpoint_dir == HERE / "checkpoints"  # there sample.py finds it by itself
    option = "" if newest else f" --checkpoint {shown(target)}"
    print(f"speak   python 09_capstone/sample.py{option}")


@contextmanager
def stop_on_signal(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the current step; a second one ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if trainer.stop:
            raise KeyboardInterrupt
        trainer.stop = True
        with suppress(OSError):  # nobody may be listening any more
            os.write(2, STOPPING)  # print must not interrupt itself, and may be at work

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
