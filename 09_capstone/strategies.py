"""Decoding strategies side by side: the same prompt and seed, in columns that fit 80 characters."""

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from generator import TextGenerator
from utils.config import SampleConfig
from utils.terminal import WIDEST

GREEDY_AND_BEAMS: dict[str, dict[str, Any]] = {
    "greedy (temperature 0)": {"temperature": 0.0},
    "4 beams": {"beams": 4},
    "greedy, repetition 1.3": {"temperature": 0.0, "repetition_penalty": 1.3},
}
DRAWN: dict[str, dict[str, Any]] = {
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1.0": {"temperature": 1.0},
    "temperature 1.5": {"temperature": 1.5},
    "top-k 10": {"temperature": 1.0, "top_k": 10},
    "top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
    "min-p 0.1": {"temperature": 1.0, "min_p": 0.1},
}
STRATEGIES = {**GREEDY_AND_BEAMS, **DRAWN}
COLUMNS = 3
GAP = " | "
COLUMN_WIDTH = (WIDEST - (COLUMNS - 1) * len(GAP)) // COLUMNS


def compare(generator: TextGenerator, sampling: SampleConfig) -> None:
    """Print the continuation by each strategy, three columns at a time."""
    names = list(STRATEGIES)
    for first in range(0, len(names), COLUMNS):
        columns = []
        for name in names[first : first + COLUMNS]:
            (text,) = generator.generate([sampling.prompt], replace(sampling, **STRATEGIES[name]))
            shown = (sampling.prompt + text).strip("\n") or "(only empty lines)"
            columns.append([name, "-" * COLUMN_WIDTH, *wrapped(shown, COLUMN_WIDTH)])
        print("\n".join(side_by_side(columns, COLUMN_WIDTH)), end="\n\n", flush=True)


def side_by_side(columns: list[list[str]], column_width: int) -> Iterator[str]:
    """The lines of all columns, next to each other."""
    for i in range(max(map(len, columns))):
        cells = [column[i] if i < len(column) else "" for column in columns]
        padded = [cell + " " * (column_width - width(cell)) for cell in cells]
        yield GAP.join(padded).rstrip()


def wrapped(text: str, columns: int) -> list[str]:
    """The lines of a text, broken where they are too wide: at a space if there is one."""
    lines = []
    for line in printable(text).split("\n"):
        while width(line) > columns:
            n = fitting(line, columns)
            space = line.rfind(" ", 1, n + 1)
            cut = space if space > 0 else n
            lines.append(line[:cut])
            line = line[cut:].removeprefix(" ")
        lines.append(line)
    return lines


def fitting(line: str, columns: int) -> int:
    """How many characters of the line fit into so many columns; at least one."""
    used = 0
    for n, character in enumerate(line):
        used += width(character)
        if used > columns:
            return max(1, n)
    return len(line)


def printable(text: str) -> str:
    """The text without tabs and control characters, which would break the columns."""
    expanded = text.expandtabs(4)
    return "".join(c if c == "\n" or c.isprintable() else "\ufffd" for c in expanded)


def width(text: str) -> int:
    """Columns of a terminal: two for an East Asian wide character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
