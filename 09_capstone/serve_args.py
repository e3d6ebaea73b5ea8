"""The command line of serve.py: which model, where to listen, and the limits."""

import argparse
from pathlib import Path

from chat_prompt import Speakers
from serving_limits import DRAIN_SECONDS, QUEUE, SLOTS, Limits
from slot_decoder import GROUP
from utils.command_line import OneLineParser
from utils.errors import UsageError

KEY_VARIABLE = "TINY_TRANSFORMER_API_KEY"
TEXTS = {  # flag: default, help
    "name": (None, "the model's name in the API; default: the name of its file"),
    "host": ("127.0.0.1", "address to listen at; default: 127.0.0.1, this machine only"),
    "device": ("auto", "auto, cpu, cuda, cuda:N or mps"),
    "user-name": (Speakers.user, f"who the user of a chat is in the play ({Speakers.user})"),
    "assistant-name": (Speakers.assistant, f"and who answers ({Speakers.assistant})"),
}
NUMBERS: dict[str, tuple[int | float, float, str]] = {  # flag: default, at least, help
    "port": (8000, 0, "port to listen at; 0 takes a free one"),
    "slots": (SLOTS, 1, "texts that are generated together"),
    "queue": (QUEUE, 0, "texts that may wait for a slot"),
    "max-tokens": (Limits.max_tokens, 1, "new tokens per text, at most"),
    "max-seconds": (Limits.seconds, 0.001, "time limit of a request"),
    "drain-seconds": (DRAIN_SECONDS, 0, "time to finish after a signal"),
    "threads": (1, 1, "threads of PyTorch; more may pay for a large model"),
    "group": (GROUP, 1, "rows are computed in groups of N; 1: see serving.md"),
}


def read_options(checkpoints: Path) -> argparse.Namespace:
    """The command line. Raises UsageError for a value out of range."""
    parser = OneLineParser(
        description="Serve a trained model over HTTP.",
        usage="%(prog)s [--checkpoint FILE] [--port N] [options]",
    )
    files = {
        "checkpoint": (None, "the model; default: the newest in --checkpoint-dir"),
        "checkpoint-dir": (checkpoints, "where to look for the newest checkpoint"),
        "api-key-file": (None, f"clients must send the key in it, or that in {KEY_VARIABLE}"),
    }
    for name, (default, what) in files.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", default=default, help=what)
    for name, (default, what) in TEXTS.items():
        parser.add_argument(f"--{name}", metavar="TEXT", default=default, help=what)
    for name, (default, _, what) in NUMBERS.items():
        kind, what = type(default), f"{what} ({default:g})"
        parser.add_argument(f"--{name}", type=kind, metavar="N", default=default, help=what)
    args = parser.parse_args()
    check_numbers(args)
    return args


def check_numbers(args: argparse.Namespace) -> None:
    """Raise UsageError for a number that is too small or too large."""
    for name, (_, at_least, _) in NUMBERS.items():
        value = getattr(args, name.replace("-", "_"))
        at_most = 65535 if name == "port" else 10**6
        if not at_least <= value <= at_most:
            raise UsageError(f"--{name} {value} is out of range: {at_least} to {at_most}")
