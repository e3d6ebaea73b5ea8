"""An interactive prompt loop: type a prompt, watch the model continue it, change the settings.

    > ROMEO:                  continue this text
    > /temperature 0.5        any setting of SampleConfig, by name
    > /stop \n                one more text that ends a sample; /stop none removes them all
    > /show                   the current settings
    > /help                   what the settings mean
    > /quit                   or Ctrl-D

Ctrl-C stops the generation, not the program; at an empty prompt it exits.
"""

import contextlib
import io
import re
import sys
import textwrap
from dataclasses import fields, replace

from generator import TextGenerator
from utils.command_line import change_field
from utils.config import SampleConfig, field_types
from utils.errors import CourseError, pick
from utils.terminal import WIDEST

HIDDEN = ("prompt", "num_samples", "device")  # settings that have no effect in the loop
UNUSED_BY_BEAMS = (
    *("temperature", "top_k", "top_p", "min_p"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty", "seed"),
)


def prompt_loop(generator: TextGenerator, sampling: SampleConfig) -> None:
    """Read and handle lines until /quit, the end of the input, or Ctrl-C at the prompt."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history, where available)
    if isinstance(sys.stdin, io.TextIOWrapper):  # other bytes become an unknown character
        sys.stdin.reconfigure(errors="replace")

    settings = [name for name in field_types(SampleConfig) if name not in HIDDEN]
    print("Type the beginning of a text; the model continues it. Settings you can change:")
    print(textwrap.fill(" ".join(f"/{name}" for name in settings), WIDEST))
    print("/help explains them, /show lists their values, /quit exits,")
    print("Ctrl-C stops a generation.")
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
    if name.strip() == "help":
        print_help(settings)
        return sampling
    if name != "show":
        name = pick(name.replace("-", "_"), [*settings, "show", "help", "quit"], "setting")
        value = value.strip()
        sampling = change_field(sampling, name, unescape(value) if name == "stop" else value)
        settings = [name]
    print_settings(sampling, settings)
    if sampling.beams is not None and name in UNUSED_BY_BEAMS:
        print(f"{name} has no effect while there are beams; /beams none turns them off")
    return sampling


def print_settings(sampling: SampleConfig, names: list[str]) -> None:
    """The values of these settings, as many per line as fit into 79 characters."""
    line = ""
    for name in names:
        value = getattr(sampling, name)
        texts = " ".join(map(repr, value)) or "None" if isinstance(value, tuple) else repr(value)
        shown = f"{name} {texts}"
        if line and len(line) + len(shown) + 2 > WIDEST:
            print(line)
            line = ""
        line += f"  {shown}" if line else shown
    print(line)


def print_help(settings: list[str]) -> None:
    """What can be typed, in lines of at most 79 characters."""
    described = {f"/{f.name} {hint(f.name)}": f.metadata["help"] for f in fields(SampleConfig)}
    rows = {
        "TEXT": "continue this text",
        **{typed: text for typed, text in described.items() if typed.split()[0][1:] in settings},
        "/show": "the current settings",
        "/help": "this list",
        "/quit": "leave, as Ctrl-D does; Ctrl-C stops a generation",
    }
    for typed, text in rows.items():
        print(
            textwrap.fill(text, WIDEST, initial_indent=f"{typed:23} ", subsequent_indent=" " * 24)
        )
    print("A setting stays until it is changed; none removes one that may be absent.")


def hint(name: str) -> str:
    """The kind of value that a setting takes, for the list of settings."""
    return {int: "N", float: "X"}.get(field_types(SampleConfig)[name], "TEXT")


def _continue_text(generator: TextGenerator, sampling: SampleConfig) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        pieces = generator.stream(sampling)
        first = next(pieces, "")
        print(sampling.prompt + first, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
    print()
