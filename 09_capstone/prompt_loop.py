"""A conversation with the model: type a prompt, watch it continue, change the settings as you go.

    > ROMEO:                  continue this text
    > /temperature 0.5        any setting of SampleConfig, by name
    > /show                   the settings as they are
    > /quit                   or Ctrl-D

Ctrl-C stops what is being said, not the program; at an empty prompt it leaves.
"""

import contextlib
import io
import sys
from dataclasses import replace

from generator import TextGenerator
from utils.command_line import change_field
from utils.config import SampleConfig, field_types
from utils.errors import CourseError, pick

HIDDEN = ("prompt", "num_samples", "device")  # what makes no sense to change while talking


def prompt_loop(generator: TextGenerator, sampling: SampleConfig) -> None:
    """Read a line, answer it, until /quit, the end of the input, or Ctrl-C at the prompt."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (the arrow keys and a history, where the system has it)
    if isinstance(sys.stdin, io.TextIOWrapper):  # bytes that are not UTF-8 are told as unknown
        sys.stdin.reconfigure(errors="replace")

    settings = [name for name in field_types(SampleConfig) if name not in HIDDEN]
    print("Type the beginning of a text; the model continues it. Settings you may change:")
    print(" ".join(f"/{name}" for name in settings))
    print("/show lists their values, /quit leaves, Ctrl-C stops a text.")
    while True:
        try:
            line = input("\n> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line.strip() in ("/quit", "/exit"):
            return
        try:
            sampling = _answer(generator, sampling, settings, line)
        except CourseError as error:
            print(f"error: {error}")


def next_seed(sampling: SampleConfig, steps: int = 1) -> SampleConfig:
    """The same settings for another draw."""
    return replace(sampling, seed=(sampling.seed + steps) % 2**63)


def _answer(
    generator: TextGenerator, sampling: SampleConfig, settings: list[str], line: str
) -> SampleConfig:
    """Carry out one line; returns the settings for the next."""
    if not line.startswith("/"):
        _continue_text(generator, replace(sampling, prompt=line))
        return next_seed(sampling)  # the same prompt again: another text
    name, _, value = line[1:].partition(" ")
    if name != "show":
        name = pick(name.replace("-", "_"), [*settings, "show", "quit"], "setting")
        sampling = change_field(sampling, name, value.strip())
        settings = [name]
    print("  ".join(f"{name} {getattr(sampling, name)!r}" for name in settings))
    return sampling


def _continue_text(generator: TextGenerator, sampling: SampleConfig) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        pieces = generator.stream(sampling)
        first = next(pieces, "")
        print(sampling.prompt + first, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
    print()
