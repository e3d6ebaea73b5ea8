"""Train a language model, from a text to a checkpoint that speaks.

    python 09_capstone/train.py                                   # laptop preset, Tiny Shakespeare
    python 09_capstone/train.py --preset smoke                    # seconds, to see that it works
    python 09_capstone/train.py --preset full --max-minutes 5     # larger, and five minutes at most
    python 09_capstone/train.py --data my_poems.txt --d-model 64  # your text, your sizes
    python 09_capstone/train.py --config 09_capstone/runs/RUN/config.yaml   # that run again
    python 09_capstone/train.py --resume                          # go on, whatever stopped it
    torchrun --nproc-per-node 2 09_capstone/train.py              # two processes share each batch

Everything a run writes goes into one folder, 09_capstone/runs/RUN/; the best model is also copied
to 09_capstone/checkpoints/, where sample.py looks for the newest. Ctrl-C saves and leaves; after
a power cut, --resume goes on from the last saved state, and comes to the same weights.
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
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from callbacks import ProgressBar, RunFolder, naming
from data_loader import check_tokens
from data_parallel import DistributedTrainer
from distributed_context import DistributedContext, LostWorkerError, init_distributed
from engine import Engine, build_model, choose_engine
from experiment_tracking import create_run_dir, new_run_id
from loss_functions import bits_per_char
from model.config import PRESETS, preset
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
from training_loop import Callback, Trainer
from training_state import TrainingState, restore_random_states
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import TrainConfig, load_config, save_config
from utils.device import pick_device
from utils.errors import CourseError, UsageError
from utils.files import atomic_write_bytes
from utils.memory import keep_freed_memory

HERE = Path(__file__).resolve().parent
WRITTEN = (  # by a run; --overwrite removes these and nothing else
    *(RUN_FILE, RESULT_FILE),  # first: without them, what is left is no run
    *("config.yaml", "environment.json", "metrics.csv", "metrics.jsonl", "log.txt"),
    *("samples.txt", "curves.png", "best.safetensors", "last.safetensors"),
)
HANGING: Any = {"subsequent_indent": " " * 8, "break_long_words": False, "break_on_hyphens": False}
STOPPING = b"\nstopping after this step; once more (Ctrl-C) leaves at once\n"


def main() -> int:
    """Train once; returns the exit code. Under torchrun, the main worker's is the run's."""
    workers = init_distributed()
    code = 0
    if not workers.is_main:
        assist(workers)
    else:
        args = parse_args()
        try:
            code = resume(args, workers) if args.resume else begin(args, workers)
        except LostWorkerError as error:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of torchrun, before we could say why
            raise CourseError(f"{error}; --resume goes on from the last saved state") from None
    return workers.shutdown(code)


def begin(args: argparse.Namespace, workers: DistributedContext) -> int:
    """Start a run."""
    check_folders(args)
    config = config_from_args(args, base_config(args))
    workers.validate(config.batch_size, pick_device(config.device))
    data = load_training_data(config.data)
    config = fit_to_data(config, data)
    describe_data(data)
    engine = choose_engine(config)
    config = replace(config, dtype=engine.dtype_name)  # config.yaml says what was settled
    model = build_model(config.model, engine, config.seed)
    folder = make_run_folder(args, config)
    with locked(folder):
        clear(folder)
        save_config(config, folder / "config.yaml")  # from the signature on --resume finds it
        sign(folder, folder.name if args.out_dir is None else new_run_id(folder.name))
        return train(config, data, engine, model, folder, args.checkpoint_dir, workers)


def resume(args: argparse.Namespace, workers: DistributedContext) -> int:
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
        if state is None:
            config = fit_to_data(config, data)  # which may have changed: nothing was learned yet
        else:
            config = replace(config, device=state.position["place"]["device"])
            refuse_other_number(workers.world_size, state)
        engine = choose_engine(config)
        model = build_model(config.model, engine, config.seed)
        return train(config, data, engine, model, folder, args.checkpoint_dir, workers, state)


def assist(workers: DistributedContext) -> None:
    """What the workers beside the main one do: the same steps, on other rows, and in silence."""
    try:
        config, state, fingerprint = workers.broadcast(None)
    except LostWorkerError:
        return  # it would not begin, and has said why
    data = load_training_data(config.data)
    if data.fingerprint != fingerprint:
        raise CourseError(f"worker {workers.rank} finds other data as {config.data} than worker 0")
    if state is not None:
        torch.set_num_threads(state.position["place"]["threads"])
    engine = choose_engine(config)
    model = build_model(config.model, engine, config.seed)
    trainer = make_trainer(config, data, engine, model, workers)
    with stop_on_signal(trainer):
        if state is not None:
            go_on(trainer, state)
        try:
            trainer.fit()
        except CourseError as error:  # all have the same one; if the main worker is lost, say so
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
    run = RunFolder(folder, config, data, model, engine.device, state, run_id_of(folder))
    bar = ProgressBar(config.max_steps, state.step if state else 0)
    workers.broadcast((config, state, data.fingerprint))  # they wait for this
    trainer = make_trainer(config, data, engine, model, workers, [run, bar])
    with stop_on_signal(trainer), closing(run), closing(bar):
        if state is not None:
            go_on(trainer, state)
            run.sample_if_due(trainer)
        try:
            trainer.fit()
        except CourseError as error:  # a loss that is no number
            run.finish(trainer, str(error), keep=False)
            raise
        # After a stop in the last step, its evaluation or its sample may be missing.
        finished = trainer.step == trainer.max_steps and not trainer.stop
        run.finish(trainer, "finished" if finished else "interrupted")
    if run.has_best:
        publish(folder, checkpoint_dir, run.best, data.entropy_bits_per_char)
    if finished:  # last: a run killed before this line is resumed, and published then
        write_result(folder, {"outcome": "finished", "step": trainer.step, "best": run.best})
        return 0
    print(f"interrupted at step {trainer.step} of {trainer.max_steps}; the state is saved")
    W = workers.world_size
    program = "python" if W == 1 else f"torchrun --nproc-per-node {W}"
    print(f"go on   {program} 09_capstone/train.py --resume --out-dir {shown(folder)}")
    return 130


def make_trainer(
    config: TrainConfig,
    data: TrainingData,
    engine: Engine,
    model: TinyTransformerLM,
    workers: DistributedContext,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """The training loop of a worker."""
    device, dtype = engine.device, engine.dtype
    arguments = (model, data.train, data.val, config, device, dtype, callbacks)
    if workers.world_size == 1:
        return Trainer(*arguments)
    return DistributedTrainer(*arguments, distributed=workers)


def go_on(trainer: Trainer, state: TrainingState) -> None:
    """Put a fresh trainer where the state was saved."""
    trainer.model.load_state_dict(state.model)
    for optimizer, saved in zip(trainer.optimizers, state.optimizers, strict=True):
        optimizer.load_state_dict(saved)
    trainer.load_state_dict(state.position)
    restore_random_states(state.random)


def refuse_other_number(world_size: int, state: TrainingState) -> None:
    """Raise UsageError unless as many workers go on: others would round and drop out otherwise."""
    before = state.position.get("workers", 1)
    if before != world_size:
        raise UsageError(
            f"a run goes on with as many workers as it had: {before}, and not {world_size}"
        )


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
    for name in ("states", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)


def describe_data(data: TrainingData) -> None:
    """Say what there is to learn from; measuring the engines may take a while after this."""
    n_chars = len(data.train) + len(data.val)
    print(textwrap.fill(data.origin, 80, initial_indent="data    ", **HANGING))
    print(
        f"        {n_chars:,} characters, {data.tokenizer.vocab_size} different; "
        f"the last {len(data.val):,} validate",
        flush=True,
    )


def describe_run(
    config: TrainConfig,
    engine: Engine,
    model: TinyTransformerLM,
    folder: Path,
    workers: DistributedContext,
) -> None:
    """Say what is about to happen, and where it is written down."""
    shape, n_parameters = config.model, sum(p.numel() for p in model.parameters())
    print(
        f"model   {shape.n_layers} layers x {shape.d_model}, {shape.n_heads} heads, "
        f"context {shape.max_seq_len}: {n_parameters:,} parameters"
    )
    print(f"engine  {engine}")
    if workers.world_size > 1:
        rows = config.batch_size // workers.world_size
        print(f"workers {workers.world_size}, {rows} of the {config.batch_size} rows each")
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

    told = False  # by a signal; `stop` may also have come from another worker

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            raise KeyboardInterrupt
        told = trainer.stop = True
        if not isinstance(trainer, DistributedTrainer):  # else torchrun has printed its own line
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
    keep_freed_memory()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # before the first step: as Ctrl-C
    run_program(main)
