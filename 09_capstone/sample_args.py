"""The command line of sample.py: which model, what to do, and how to sample.

A setting that the chosen way of decoding would ignore is refused, in one line: a flag that has no
effect would mislead its user.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from prompt_loop import UNUSED_BY_BEAMS, unescape
from utils.command_line import OneLineParser, add_config_flags
from utils.config import SampleConfig
from utils.errors import UsageError

DRAFT_TOKENS = 4
SET_BY_COMPARE = (*UNUSED_BY_BEAMS[:-1], "beams", "length_penalty")  # the seed stays


def parse_args(checkpoints: Path, interactive: bool = False) -> argparse.Namespace:
    """Read and check the command line; interactive leaves no other mode."""
    parser = OneLineParser(
        description="Generate text with a trained model.",
        usage="%(prog)s [--prompt TEXT] [options]",
    )
    add_model_flags(parser, checkpoints)
    if interactive:
        parser.set_defaults(interactive=True, compare=False, batch=False, output=None)
    else:
        add_mode_flags(parser)
    add_config_flags(parser, SampleConfig)
    args = parser.parse_args()
    refuse_ignored_flags(args)
    args.draft_tokens = read_draft_tokens(args.draft_tokens)
    return args


def read_draft_tokens(text: str | None) -> int:
    """The number of drafted tokens. Raises UsageError unless it is 1 or more."""
    if text is None:
        return DRAFT_TOKENS
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--draft-tokens {text!r} is not a whole number of 1 or more")
    return int(text)


def given_flags(args: argparse.Namespace) -> set[str]:
    """The names of the flags that were typed (and of those with a default of their own)."""
    return {name for name, value in vars(args).items() if value is not None}


def add_model_flags(parser: argparse.ArgumentParser, checkpoints: Path) -> None:
    """Which model generates, and which one drafts for it."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="the model (default: the newest in --checkpoint-dir)",
    )
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        metavar="DIR",
        default=checkpoints,
        help="where to look for the newest checkpoint",
    )
    parser.add_argument(
        "--draft",
        type=Path,
        metavar="FILE",
        help="a small model that drafts tokens, which the large one checks (speculative decoding)",
    )
    parser.add_argument(
        "--draft-tokens",
        metavar="N",
        help=f"how many tokens are drafted before each check (default: {DRAFT_TOKENS})",
    )


def add_mode_flags(parser: argparse.ArgumentParser) -> None:
    """What to do instead of printing samples; one of them at most."""
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--compare", action="store_true", help="show decoding strategies side by side"
    )
    modes.add_argument(
        "--batch",
        action="store_true",
        help="write a gallery of samples to --output: several prompts and settings",
    )
    modes.add_argument(
        "--interactive",
        action="store_true",
        help="a prompt loop: type a text, the model continues it",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the gallery's file (Markdown)")


def refuse_ignored_flags(args: argparse.Namespace) -> None:
    """Raise UsageError for a flag that would have no effect together with the others."""
    given = given_flags(args)
    beams = getattr(args, "beams", "none").lower() != "none"
    if args.batch and args.output is None:
        raise UsageError("--batch needs --output FILE, where the gallery is written")
    if args.output is not None and not args.batch:
        raise UsageError("--output has no effect without --batch; leave it out")
    if args.compare:
        why = "with --compare, which sets it for each strategy"
        refuse(given, SET_BY_COMPARE, why)
        refuse(given, ("num_samples",), "with --compare, which shows one text for each strategy")
        refuse(given, ("draft", "draft_tokens"), "with --compare, which decodes without a draft")
    if args.interactive:
        refuse(given, ("prompt",), "in the prompt loop, where you type the prompts")
        refuse(given, ("num_samples",), "in the prompt loop, which continues each prompt once")
    if beams and not args.interactive:
        why = "with --beams, which searches by the model's own probabilities"
        refuse(given, UNUSED_BY_BEAMS, why)
    if beams:
        refuse(given, ("draft", "draft_tokens"), "with --beams, which decodes without a draft")
    if beams and args.batch:
        refuse(given, ("num_samples",), "with --batch and --beams: each prompt has one best text")
    if not beams and not args.interactive:
        refuse(given, ("length_penalty",), "without --beams")
    if args.draft is None:
        refuse(given, ("draft_tokens",), "without --draft")


def refuse(given: set[str], names: tuple[str, ...], why: str) -> None:
    """Raise UsageError for the first of these names that was given as a flag."""
    for name in names:
        if name in given:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} has no effect {why}; leave it out")


def unescape_settings(sampling: SampleConfig) -> SampleConfig:
    """Replace escapes such as "\\n" in --stop, and Windows line endings in --prompt."""
    stop = tuple(unescape(text) for text in sampling.stop)
    return replace(sampling, stop=stop, prompt=sampling.prompt.replace("\r\n", "\n"))
