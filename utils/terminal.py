"""What the terminal can show: progress bars that fit it, or none where it cannot redraw a line."""

import os
import sys
import textwrap
from typing import Any, TextIO

WIDEST = 79  # columns: one less than the usual 80, so that a full line does not wrap
NARROW = 60  # below this, there is no room for a bar next to its description


def can_redraw(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can overwrite a line; TERM=dumb cannot."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def columns(stream: TextIO) -> int:
    """The width of the terminal behind `stream`; $COLUMNS wins, and 80 is assumed if unknown."""
    try:
        return int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # not a terminal, or not a file at all
        return 80


def labelled(label: str, text: object, column: int = 8) -> str:
    """A text beside its label, in lines of at most 80 characters; words are kept whole.

    `column` is where the text begins.
    """
    return textwrap.fill(
        str(text),
        WIDEST + 1,
        initial_indent=f"{label:{column}}",
        subsequent_indent=" " * column,
        break_long_words=False,
        break_on_hyphens=False,
    )


def bar_options() -> dict[str, Any]:
    """Options for a tqdm bar on standard error: its width, and whether to show it at all."""
    width = min(WIDEST, columns(sys.stderr) - 1)
    return {"ncols": max(1, width), "disable": not can_redraw(sys.stderr)}
