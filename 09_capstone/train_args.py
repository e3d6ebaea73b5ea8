"""The command line of train.py, and the configuration that it asks for.

A flag wins over --config, which wins over --preset.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from model.config import PRESETS, preset
from run_places import default_checkpoints
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import ModelConfig, TrainConfig, load_config
from utils.errors import UsageError


def parse_args() -> argparse.Namespace:
    """The command line: flags for the run's folder, and one flag per field of the configuration."""
    parser = OneLineParser(
        description="Train a language model on a text.",
        usage="%(prog)s [--preset NAME] [--data TEXT] [options]",
        epilog="A flag wins over --config, which wins over --preset. Exit codes: 0 done, "
        "1 failed, 2 wrong usage, 130 interrupted (state saved).",
    )
    add_run_flags(parser)
    add_config_flags(parser, TrainConfig)
    args = parser.parse_args()
    if args.resume and args.overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it; choose one")
    return args


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Where the configuration comes from, and where the run writes."""
    parser.add_argument(
        "--preset", metavar="|".join(PRESETS), help="initial settings (default: laptop)"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a YAML or JSON configuration file"
    )
    add_folder_flags(parser)


def add_folder_flags(parser: argparse.ArgumentParser) -> None:
    """Where a run writes, and whether it continues or replaces one; also for post_train.py."""
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
        default=default_checkpoints(),
        help="where the best model is copied when the run ends",
    )


def new_config(args: argparse.Namespace, model: ModelConfig | None = None) -> TrainConfig:
    """The configuration that a command line requests for a new run; `model` comes with weights."""
    base = base_config(args)
    return config_from_args(args, base if model is None else replace(base, model=model))


def init_source(args: argparse.Namespace) -> str | None:
    """What a new run starts from: the flag, or the field of a configuration file."""
    return getattr(args, "init_from", base_config(args).init_from)


def requested_config(args: argparse.Namespace, stored: TrainConfig) -> TrainConfig:
    """The configuration that a command line with --resume requests."""
    base = base_config(args) if args.preset or args.config else stored
    # The data has determined the vocabulary, so only a flag can request another.
    base = replace(base, model=replace(base.model, vocab_size=stored.model.vocab_size))
    if stored.init_from is not None:  # which has determined the whole model
        base = replace(base, model=stored.model, init_from=stored.init_from)
    return config_from_args(args, base)


def base_config(args: argparse.Namespace) -> TrainConfig:
    """The preset with the configuration file's fields on top."""
    base = preset(args.preset or "laptop")
    return load_config(args.config, TrainConfig, base) if args.config else base


def tokens_to_learn(args: argparse.Namespace, config: TrainConfig) -> int | None:
    """The vocabulary size requested: by the flag, or by a configuration file of a bpe run."""
    by_file = config.tokenizer == base_config(args).tokenizer == "bpe"
    return config.model.vocab_size if by_file or "vocab_size" in args else None
