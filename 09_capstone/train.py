"""Train a language model: from a text file to a checkpoint that generates text.

    python 09_capstone/train.py                                   # laptop preset, Tiny Shakespeare
    python 09_capstone/train.py --preset smoke                    # a test run of a few seconds
    python 09_capstone/train.py --preset full --max-minutes 5     # larger, and five minutes at most
    python 09_capstone/train.py --data my_poems.txt --d-model 64  # your text, your sizes
    python 09_capstone/train.py --tokenizer bpe --vocab-size 1024 # tokens learned from the text
    python 09_capstone/train.py --config 09_capstone/runs/RUN/config.yaml   # repeat that run
    python 09_capstone/train.py --resume                          # continue an interrupted run
    torchrun --nproc-per-node 2 09_capstone/train.py              # two processes share each batch

Everything a run writes goes into one folder, 09_capstone/runs/RUN/; the best model is also copied
to 09_capstone/checkpoints/, where sample.py looks for the newest. Ctrl-C saves the state and exits;
after a crash or a power cut, --resume continues from the last saved state to the same weights.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import os
import shutil
import signal
import textwrap
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from any_tokenizer import tokenizer_kind
from callbacks import RunRecorder
from data_loader import check_tokens
from data_parallel import DistributedTrainer
from distributed_context import DistributedContext, LostWorkerError, init_distributed
from engine import Engine, build_model, choose_engine
from experiment_tracking import create_run_dir, new_run_id
from loss_functions import bits_per_char
from model.config import PRESETS, preset
from progress_bar import ProgressBar
from publishing import check_name, publish
from resuming import (
    data_to_resume,
    device_to_resume,
    refuse_changes,
    run_to_resume,
    state_to_resume,
    stored_config,
)
from run_curves import draw_curves
from run_folder import RESULT_FILE, RUN_FILE, locked, run_id_of, write_result, write_run_file
from stop_signals import stop_on_signal, treat_as_ctrl_c
from tiny_transformer_lm import TinyTransformerLM
from training_data import TrainingData, load_training_data
from training_loop import Callback, Trainer
from training_state import TrainingState, restore_random_states
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import TrainConfig, load_config, save_config
from utils.device import pick_device
from utils.errors import CourseError, UsageError
from utils.files import quoted, shown
from utils.memory import keep_freed_memory

HERE = Path(__file__).resolve().parent
WRITTEN = (  # by a run; --overwrite removes these files and no others
    *(RUN_FILE, RESULT_FILE),  # first: a folder without them is not taken for a run
    *("config.yaml", "environment.json", "metrics.csv", "metrics.jsonl", "log.txt"),
    *("samples.txt", "samples.jsonl", "curves.png", "best.safetensors", "last.safetensors"),
)
HANGING: Any = {"subsequent_indent": " " * 8, "break_long_words": False, "break_on_hyphens": False}


def main() -> int:
    """Train once; returns the exit code. Under torchrun, rank 0 determines that of the run."""
    workers = init_distributed()
    code = 0
    if not workers.is_main:
        run_worker(workers)
    else:
        args = parse_args()
        try:
            code = resume_run(args, workers) if args.resume else start_run(args, workers)
        except LostWorkerError as error:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent by torchrun before we can report
            raise CourseError(f"{error}; --resume continues from the last saved state") from None
    return workers.shutdown(code)


def start_run(args: argparse.Namespace, workers: DistributedContext) -> int:
    """Train a new model from the first step."""
    check_folders(args)
    config = config_from_args(args, base_config(args))
    workers.validate(config.batch_size, pick_device(config.device))
    requested = tokens_to_learn(args, config)
    data = load_training_data(config.data, config.tokenizer, requested)
    config = fit_to_data(config, data)
    describe_data(data, requested)
    engine = choose_engine(config)
    config = replace(config, dtype=engine.dtype_name)  # config.yaml holds what "auto" became
    model = build_model(config.model, engine, config.seed)
    folder = make_run_folder(args, config)
    with locked(folder):
        clear(folder)
        save_config(config, folder / "config.yaml")  # before run.json, where --resume looks
        run_id = folder.name if args.out_dir is None else new_run_id(folder.name)
        write_run_file(folder, run_id)
        return train(config, data, engine, model, folder, args.checkpoint_dir, workers)


def resume_run(args: argparse.Namespace, workers: DistributedContext) -> int:
    """Continue a run that was stopped or killed, as if it had not been interrupted."""
    if args.overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it; choose one")
    folder = run_to_resume(args.out_dir, HERE / "runs")
    args.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        stored = stored_config(folder)
        requested = requested_config(args, stored)
        refuse_changes(requested, stored)
        config = replace(stored, data=data_to_resume(folder, requested.data, stored.data))
        data = load_stored_data(config)
        describe_data(data)
        state = state_to_resume(folder, data)
        if state is None:
            config = fit_to_data(replace(config, device=requested.device), data)
        else:
            config = replace(config, device=device_to_resume(requested.device, state))
            check_world_size(workers.world_size, state)
        save_config(config, folder / "config.yaml")  # with the data and the device it uses now
        engine = choose_engine(config)
        model = build_model(config.model, engine, config.seed)
        return train(config, data, engine, model, folder, args.checkpoint_dir, workers, state)


def run_worker(workers: DistributedContext) -> None:
    """Train as a process of rank > 0: the same steps on other rows, without output or files."""
    try:
        config, state, fingerprint = workers.broadcast(None)
    except LostWorkerError:
        return  # rank 0 refused to start, and has reported why
    data = load_stored_data(config)
    if data.fingerprint != fingerprint:
        raise CourseError(f"rank {workers.rank} found different data in {config.data} than rank 0")
    if state is not None:
        torch.set_num_threads(state.position["place"]["threads"])
    engine = choose_engine(config)
    model = build_model(config.model, engine, config.seed)
    trainer = make_trainer(config, data, engine, model, workers)
    with stop_on_signal(trainer, announce=False):
        if state is not None:
            restore(trainer, state)
        try:
            trainer.fit()
        except CourseError as error:  # rank 0 reports it, and rank 1 if rank 0 is lost
            if isinstance(error, LostWorkerError) and workers.rank == 1:
                raise


def train(
    config: TrainConfig,
    data: TrainingData,
    engine: Engine,
    model: TinyTransformerLM,
    folder: Path,
    checkpoint_dir: Path,
    workers: DistributedContext,
    state: TrainingState | None = None,
) -> int:
    """Run the loop, write the run's folder, publish the best model; returns the exit code."""
    describe_run(config, engine, model, folder, workers)
    recorder = RunRecorder(folder, config, data, model, engine.device, state, run_id_of(folder))
    bar = ProgressBar(config.max_steps, state.step if state else 0, data.chars_per_token)
    workers.broadcast((config, state, data.fingerprint))  # the other ranks wait for this
    trainer = make_trainer(config, data, engine, model, workers, [recorder, bar])
    with (
        stop_on_signal(trainer, announce=workers.world_size == 1),
        closing(recorder),
        closing(bar),
    ):
        if state is not None:
            restore(trainer, state)
            recorder.samples.add_if_due(trainer)
        finished = fit(trainer, recorder)
    published = publish(folder, checkpoint_dir) if recorder.has_best else None
    if finished:  # after publishing: a run killed before this line is resumed and published then
        result = {"outcome": "finished", "step": trainer.step, "best": recorder.best}
        write_result(folder, result)
    draw_curves(folder, data)  # everything that matters is on disk now
    if published is not None:
        describe_result(folder, published, recorder.best, data)
    if not finished:
        describe_interruption(folder, trainer, workers.world_size)
    return 0 if finished else 130


def fit(trainer: Trainer, recorder: RunRecorder) -> bool:
    """Run the loop and record how it ended; returns whether the run is finished."""
    try:
        trainer.fit()
    except CourseError as error:  # a non-finite loss: its weights are not worth saving
        recorder.finish(trainer, str(error), keep=False)
        draw_curves(recorder.folder, recorder.data)
        raise
    # After a stop in the last step, its evaluation or its sample may be missing.
    finished = trainer.step == trainer.max_steps and not trainer.stop
    recorder.finish(trainer, "finished" if finished else "interrupted")
    return finished


def make_trainer(
    config: TrainConfig,
    data: TrainingData,
    engine: Engine,
    model: TinyTransformerLM,
    workers: DistributedContext,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """The training loop of this process."""
    device, dtype = engine.device, engine.dtype
    arguments = (model, data.train, data.val, config, device, dtype, callbacks)
    if workers.world_size == 1:
        return Trainer(*arguments)
    return DistributedTrainer(*arguments, distributed=workers)


def restore(trainer: Trainer, state: TrainingState) -> None:
    """Give a new trainer everything that was saved: weights, optimizers, position, generators."""
    trainer.model.load_state_dict(state.model)
    for optimizer, saved in zip(trainer.optimizers, state.optimizers, strict=True):
        optimizer.load_state_dict(saved)
    trainer.load_state_dict(state.position)
    restore_random_states(state.random)


def check_world_size(world_size: int, state: TrainingState) -> None:
    """Raise UsageError for another number of processes: rounding and dropout would differ."""
    before = state.position.get("workers", 1)
    if before != world_size:
        raise UsageError(
            f"a run must be resumed with as many processes as before: {before}, not {world_size}"
        )


def parse_args() -> argparse.Namespace:
    """The command line: flags for the run's folder, and one flag per field of the configuration."""
    parser = OneLineParser(
        description="Train a language model on a text.",
        usage="%(prog)s [--preset NAME] [--data TEXT] [options]",
        epilog="A flag wins over --config, which wins over --preset. Exit codes: 0 done, "
        "1 failed, 2 wrong usage, 130 interrupted (state saved).",
    )
    parser.add_argument(
        "--preset", metavar="|".join(PRESETS), help="initial settings (default: laptop)"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a YAML or JSON configuration file"
    )
    parser.add_argument("--out-dir", type=Path, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the newest unfinished run, or the one in --out-dir",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out-dir")
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        metavar="DIR",
        default=HERE / "checkpoints",
        help="where the best model is copied when the run ends",
    )
    add_config_flags(parser, TrainConfig)
    return parser.parse_args()


def requested_config(args: argparse.Namespace, stored: TrainConfig) -> TrainConfig:
    """The configuration that a command line with --resume requests."""
    base = base_config(args) if args.preset or args.config else stored
    # The data has determined the vocabulary, so only a flag can request another.
    base = replace(base, model=replace(base.model, vocab_size=stored.model.vocab_size))
    return config_from_args(args, base)


def base_config(args: argparse.Namespace) -> TrainConfig:
    """The preset with the configuration file's fields on top."""
    base = preset(args.preset or "laptop")
    return load_config(args.config, TrainConfig, base) if args.config else base


def tokens_to_learn(args: argparse.Namespace, config: TrainConfig) -> int | None:
    """The vocabulary size requested: by the flag, or by a configuration file of a bpe run."""
    by_file = config.tokenizer == base_config(args).tokenizer == "bpe"
    return config.model.vocab_size if by_file or "vocab_size" in args else None


def load_stored_data(config: TrainConfig) -> TrainingData:
    """The data of a configuration that knows its vocabulary, as config.yaml does."""
    learned = config.model.vocab_size if config.tokenizer == "bpe" else None
    return load_training_data(config.data, config.tokenizer, learned)


def fit_to_data(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """The configuration with the data's tokenizer. Raises CourseError if a split is too short."""
    for tokens, name in ((data.train, "training split"), (data.val, "validation split")):
        check_tokens(tokens, config.batch_size, config.model.max_seq_len, name)
    model = replace(config.model, vocab_size=data.tokenizer.vocab_size)
    return replace(config, tokenizer=tokenizer_kind(data.tokenizer), model=model)


def check_folders(args: argparse.Namespace) -> None:
    """Refuse folders that cannot be used before any work is done. Raises CourseError."""
    if args.out_dir is not None:
        check_name(args.out_dir.absolute(), args.checkpoint_dir)
    for flag, folder in (("--out-dir", args.out_dir), ("--checkpoint-dir", args.checkpoint_dir)):
        if folder is None:
            continue
        places = (folder, *folder.absolute().parents)
        exists = next((place for place in places if place.exists()), None)
        if exists is None:
            raise UsageError(f"{flag} {folder}: this drive does not exist")
        if not exists.is_dir():
            raise UsageError(f"{flag} {folder}: {exists} is a file, not a folder")
        if not os.access(exists, os.W_OK):
            raise CourseError(f"{flag} {folder}: no permission to write in {exists}")
    folder = args.out_dir
    if folder and folder.exists() and any(folder.iterdir()) and not args.overwrite:
        raise UsageError(
            f"--out-dir {folder} is not empty; add --resume to continue that run, or "
            "--overwrite to replace it"
        )
    if folder and args.config and args.config.resolve() == (folder / "config.yaml").resolve():
        raise UsageError(f"--overwrite would replace {args.config}; choose another --out-dir")


def make_run_folder(args: argparse.Namespace, config: TrainConfig) -> Path:
    """A new folder under runs/, or --out-dir."""
    args.checkpoint_dir.mkdir(parents=True, exist_ok=True)  # fails now, not after the training
    if args.out_dir is None:
        return create_run_dir(HERE / "runs", args.preset or Path(config.data).stem)
    folder: Path = args.out_dir.resolve()  # "." gets its full name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clear(folder: Path) -> None:
    """Remove the files of an earlier run from a folder, and no others."""
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
    for name in ("states", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)


def describe_data(data: TrainingData, requested: int | None = None) -> None:
    """Print what the model is trained on; measuring the engines may take a while after this."""
    n_chars, V = sum(data.n_characters), data.tokenizer.vocab_size
    is_char = tokenizer_kind(data.tokenizer) == "char"
    print(textwrap.fill(data.origin, 80, initial_indent="data    ", **HANGING))
    print(
        f"        {n_chars:,} characters{f', {V} distinct' if is_char else ''}; "
        f"the last {data.n_characters[1]:,} for validation",
        flush=True,
    )
    if not is_char:
        n_tokens = len(data.train) + len(data.val)
        ratio = f"{n_chars / n_tokens:.2f} characters per token"
        print(f"        {n_tokens:,} tokens of a vocabulary of {V:,}: {ratio}", flush=True)
        if requested is not None and requested > V:
            print(f"        {requested:,} were requested, but no more pairs of tokens repeat")


def describe_run(
    config: TrainConfig,
    engine: Engine,
    model: TinyTransformerLM,
    folder: Path,
    workers: DistributedContext,
) -> None:
    """Print what is about to be trained, and where."""
    shape = config.model
    n_parameters = sum(p.numel() for p in model.parameters())
    print(
        f"model   {shape.n_layers} layers x {shape.d_model}, {shape.n_heads} heads, "
        f"context {shape.max_seq_len}: {n_parameters:,} parameters"
    )
    print(f"engine  {engine}")
    if workers.world_size > 1:
        rows = config.batch_size // workers.world_size
        print(f"workers {workers.world_size}, {rows} of the {config.batch_size} rows each")
    print(f"run     {shown(folder)}", flush=True)


def describe_result(folder: Path, published: Path, val_loss: float, data: TrainingData) -> None:
    """Print the loss of the best model, and how to sample from it."""
    bits = bits_per_char(val_loss, data.chars_per_token)
    unit = "nats" if tokenizer_kind(data.tokenizer) == "char" else "nats per token"
    print(f"best    validation loss {val_loss:.4f} {unit}, {bits:.3f} bits per character")
    if (entropy := data.entropy_bits_per_char) is not None:
        print(f"floor   {entropy:.3f} bits per character, the entropy of the text itself")
    if published.stem != folder.name:
        print(f"saved   as {published.name}: {folder.name}.safetensors belongs to another run")
    is_default = published.parent == HERE / "checkpoints"  # where sample.py takes the newest
    option = "" if is_default else f" --checkpoint {quoted(published)}"
    print(f"sample  python 09_capstone/sample.py{option}")


def describe_interruption(folder: Path, trainer: Trainer, world_size: int) -> None:
    """Print where the run stopped, and how to resume it."""
    print(f"interrupted at step {trainer.step} of {trainer.max_steps}; the state is saved")
    program = "python" if world_size == 1 else f"torchrun --nproc-per-node {world_size}"
    print(f"resume  {program} 09_capstone/train.py --resume --out-dir {quoted(folder)}")


if __name__ == "__main__":
    keep_freed_memory()
    treat_as_ctrl_c()
    run_program(main)
