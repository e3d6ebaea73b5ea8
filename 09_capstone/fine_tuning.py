"""Fine-tuning: a run that starts from given weights, on a text that they have not seen.

    train.py --init-from CHECKPOINT --data MY_TEXT        a checkpoint of this course
    train.py --init-from HF_FOLDER --data MY_TEXT         a folder of Hugging Face (lesson 08)

The sizes of the model and its tokenizer come with the weights: a row of the embedding means one
token of one tokenizer. The run keeps a copy of what it started from, so that it can be resumed
when the original is gone.
"""

import argparse
from dataclasses import fields
from pathlib import Path

from any_tokenizer import tokenizer_kind
from checkpointing import Checkpoint, load_checkpoint, save_checkpoint
from interop_checkpoint import import_folder
from utils.command_line import read_value
from utils.config import ModelConfig, TrainConfig, field_types
from utils.errors import UsageError
from utils.shakespeare import expand_home

INITIAL_FILE = "initial.safetensors"  # what the run started from; with --init-from only
FREE_FIELDS = ("dropout",)  # of the model: it has no weights


def load_initial(args: argparse.Namespace, source: str | None) -> Checkpoint | None:
    """The checkpoint or the folder that --init-from names.

    Raises CourseError if it can't be read, and UsageError if a flag contradicts it.
    """
    if source is None:
        return None
    path = expand_home(source)
    initial = import_folder(path) if path.is_dir() else load_checkpoint(path)
    refuse_other_sizes(args, source, initial.model_config)
    return initial


def refuse_other_sizes(args: argparse.Namespace, source: str, given: ModelConfig) -> None:
    """Raise UsageError for a flag that asks for another model than the weights belong to."""
    for f in fields(ModelConfig):
        if f.name not in args or f.name in FREE_FIELDS:
            continue
        typed = getattr(args, f.name)  # text, or a bool from --bias and --no-bias
        value = read_value(f, field_types(ModelConfig)[f.name], str(typed))
        if value != getattr(given, f.name):
            flag = "--" + f.name.replace("_", "-")
            raise UsageError(f"{flag} {typed}: {source} has {f.name} {getattr(given, f.name)}")


def check_tokenizer(config: TrainConfig, initial: Checkpoint) -> None:
    """Raise UsageError if another kind of tokenizer is requested than the model has."""
    kind = tokenizer_kind(initial.tokenizer)
    if config.tokenizer not in ("auto", kind):
        raise UsageError(f"--tokenizer {config.tokenizer}: {config.init_from} has {kind}")


def save_initial(folder: Path, initial: Checkpoint) -> None:
    """Keep what a run starts from in its folder."""
    info = {**initial.info, "init_from": initial.name}
    save_checkpoint(folder / INITIAL_FILE, initial.build_model(), initial.tokenizer, info)


def stored_initial(config: TrainConfig, folder: Path) -> Checkpoint | None:
    """What a run in this folder started from, if it was given weights. Raises CourseError."""
    return None if config.init_from is None else load_checkpoint(folder / INITIAL_FILE)
