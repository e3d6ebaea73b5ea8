"""The command line of post_train.py, the settings of each method, and the model to start from."""

import argparse
from collections.abc import Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

from checkpointing import Checkpoint, load_checkpoint
from post_training.post_config import METHODS, PostTrainConfig
from post_training.sft import add_special_tokens
from run_places import default_checkpoints
from sample import newest_checkpoint
from train_args import add_folder_flags
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import ModelConfig
from utils.corpus import MOCK_SIZES
from utils.errors import CourseError, UsageError, pick

# What the checkpoint determines, and what no method uses
SKIPPED = " ".join(
    [f.name for f in fields(ModelConfig)]
    + ["method", "data", "init_from", "tokenizer", "accumulation", "parts", "compile"]
)
SHARED = {
    "data": "mock",
    "optimizer": "muon",
    "schedule": "wsd",
    "warmup_steps": 5,
    "decay_fraction": 0.6,
    "weight_decay": 0.0,
    "eval_interval": 25,
    "save_interval": 25,
    "sample_interval": 0,
    "log_interval": 1,
}
TRAIN_BASE = "python 09_capstone/train.py --config 08_engineering/examples/plays.yaml"
METHOD_SETTINGS = {
    "sft": PostTrainConfig(
        method="sft", batch_size=32, lr=1e-3, muon_lr=5e-3, max_steps=400, **SHARED
    ),
    "dpo": PostTrainConfig(
        method="dpo", lr=2e-4, muon_lr=1e-3, kl_weight=0.1, max_steps=200, **SHARED
    ),
    "grpo": PostTrainConfig(
        method="grpo", lr=1e-3, muon_lr=4e-3, kl_weight=0.05, group_size=2, max_steps=250, **SHARED
    ),
}
# Where only the answer as a whole is rewarded, the group is the baseline, so it must be larger.
# Such rewards were tried with these learning rates; the larger ones above belong to `tokens`.
PER_ANSWER = replace(METHOD_SETTINGS["grpo"], lr=5e-4, muon_lr=2e-3, group_size=8)


def parse_args() -> argparse.Namespace:
    """The command line: a method, flags for the run's folder, and one flag per setting."""
    parser = OneLineParser(
        description="Post-train a model of the plays, with the grammar as its verifier.",
        usage="%(prog)s sft|dpo|grpo [--checkpoint FILE] [--max-minutes X] [options]",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (state saved).",
    )
    parser.add_argument(
        "method",
        nargs="?",
        metavar="|".join(METHODS),
        default=argparse.SUPPRESS,  # with --resume, the run has one
        help="sft imitates right answers, dpo learns from pairs, grpo from rewards of its samples",
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="model to start from (default: the newest)"
    )
    add_folder_flags(parser)
    add_config_flags(parser, PostTrainConfig, SKIPPED, notes_on_defaults())
    args = parser.parse_args()
    if args.resume and args.overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it; choose one")
    if "method" in args:
        pick(args.method, METHODS, "method")
        refuse_other_methods(args)
    elif not args.resume:
        raise UsageError(f"name a method: {', '.join(METHODS)}; --help says what each does")
    if args.checkpoint is not None:
        args.init_from = str(args.checkpoint)
    args.config, args.preset = None, getattr(args, "method", None)  # what run_places.py asks for
    return args


def refuse_other_methods(args: argparse.Namespace) -> None:
    """Raise UsageError for a setting that the method doesn't use."""
    for f in fields(PostTrainConfig):
        methods = methods_of(f)
        if f.name in args and args.method not in methods:
            flag = f"--{f.name.replace('_', '-')}"
            raise UsageError(f"{flag} has no effect with {args.method}; leave it out")


def methods_of(setting: Field[Any]) -> Sequence[str]:
    """The methods that use a setting: those that its help begins with, or all."""
    named = setting.metadata.get("help", "").partition(":")[0].split(", ")
    return [method for method in METHODS if method in named] or METHODS


def notes_on_defaults() -> dict[str, str]:
    """What each method uses if a flag isn't given, to be shown in its help."""
    notes = {}
    for f in fields(PostTrainConfig):
        methods = methods_of(f)
        values = {method: getattr(METHOD_SETTINGS[method], f.name) for method in methods}
        same = len({*values.values()}) == 1
        values = {method: "none" if v is None else v for method, v in values.items()}
        each = [f"{value}" if same else f"{method} {value}" for method, value in values.items()]
        notes[f.name] = f" (default: {', '.join(dict.fromkeys(each))})"
    return notes


def starting_point(args: argparse.Namespace) -> tuple[Checkpoint, PostTrainConfig]:
    """The checkpoint with its special tokens, and the configuration of a new run."""
    path = args.checkpoint or newest_checkpoint(default_checkpoints())
    initial = add_special_tokens(load_checkpoint(path))
    # without dropout: the probabilities that a sample was drawn with are those that are compared
    model = replace(initial.model_config, dropout=0.0)
    config = config_from_args(args, settings_of(args))
    corpus = initial.info.get("corpus", config.data)  # the loss is measured on its validation split
    config = replace(config, model=model, init_from=str(path), data=corpus)
    check_model(initial, config)
    return replace(initial, model_config=model), config


def settings_of(args: argparse.Namespace) -> PostTrainConfig:
    """The settings of the method, before the flags."""
    per_answer = args.method == "grpo" and getattr(args, "reward", "tokens") != "tokens"
    return PER_ANSWER if per_answer else METHOD_SETTINGS[args.method]


def check_model(initial: Checkpoint, config: PostTrainConfig) -> None:
    """Raise CourseError if the model can't learn the task."""
    corpus = initial.info.get("corpus", "mock")
    if corpus not in MOCK_SIZES:
        raise CourseError(
            f"{initial.name} was trained on {corpus}; the grammar judges the plays of the mock "
            f"corpus: {TRAIN_BASE}"
        )
    needed, context = 160, initial.model_config.max_seq_len
    if context < needed:
        raise CourseError(
            f"{initial.name} has a context of {context}; prompt and answer need {needed}: "
            f"{TRAIN_BASE}"
        )


def requested_post_config(args: argparse.Namespace, stored: PostTrainConfig) -> PostTrainConfig:
    """The configuration that a command line with --resume requests."""
    return config_from_args(args, stored)
