"""An interactive prompt loop: type a prompt, watch the model continue it, change the settings.

    > ROMEO:                  continue this text
    > /temperature 0.5        any setting of SampleConfig, by name
    > /show                   the current settings
    > /quit                   or Ctrl-D

Ctrl-C stops the generation, not the program; at an empty prompt it exits.
"""

import contextlib
import io
import re
import sys
from dataclasses import replace

from generator import TextGenerator
from utils.command_line import change_field
from utils.config import SampleConfig, field_types
from utils.errors import CourseError, pick

HIDDEN = ("prompt", "num_samples", "device")  # settings that have no effect in the loop


def prompt_loop(generator: TextGenerator, sampling: SampleConfig) -> None:
    """Read and handle lines until /quit, the end of the input, or Ctrl-C at the prompt."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history, where available)
    if isinstance(sys.stdin, io.TextIOWrapper):  # other bytes become an unknown character
        sys.stdin.reconfigure(errors="replace")

    settings = [name for name in field_types(SampleConfig) if name not in HIDDEN]
    print("Type the beginning of a text; the model continues it. Settings you can change:")
    print(" ".join(f"/{name}" for name in settings))
    print("/show lists their values, /quit exits, Ctrl-C stops a generation.")
    while True:
        try:
            line = input("\n> ").removesuffix("\r")  # piped from a Windows text file
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line.strip() in ("/quit", "/exit"):
            return
        try:
            sampling = _handle(generator, sampling, settings, line)
        except CourseError as error:
            print(f"error: {error}")


def next_seed(sampling: SampleConfig, steps: int = 1) -> SampleConfig:
    """The same settings with the seed advanced by `steps`."""
    return replace(sampling, seed=(sampling.seed + steps) % 2**63)


def unescape(text: str) -> str:
    r"""A text as typed in a shell: \n is a newline, \t a tab, \r a carriage return, \\ a backslash.

    Any other backslash stays as it is.
    """
    meanings = {r"\n": "\n", r"\t": "\t", r"\r": "\r", r"\\": "\\"}
    return re.sub(r"\\[ntr\\]", lambda found: meanings[found[0]], text)


def _handle(
    generator: TextGenerator, sampling: SampleConfig, settings: list[str], line: str
) -> SampleConfig:
    """Handle one line; returns the settings for the next one."""
    if not line.startswith("/"):
        _continue_text(generator, replace(sampling, prompt=line))
        return next_seed(sampling)  # the same prompt again gives another text
    name, _, value = line[1:].partition(" ")
    if name != "show":
        name = pick(name.replace("-", "_"), [*settings, "show", "quit"], "setting")
        value = value.strip()
        sampling = change_field(sampling, name, unescape(value) if name == "stop" else value)
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
