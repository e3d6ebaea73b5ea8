"""Progress bars fit the terminal, and a terminal that cannot redraw a line gets none."""

import io
import os
import sys

import pytest

from utils import terminal


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "term", "expected"),
    [
        (Terminal(), "xterm", True),
        (Terminal(), None, True),  # Windows sets no TERM
        (Terminal(), "dumb", False),
        (io.StringIO(), "xterm", False),
    ],
)
def test_a_line_is_redrawn_only_on_a_terminal_that_can(monkeypatch, stream, term, expected):
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    assert terminal.can_redraw(stream) == expected
    monkeypatch.setattr(sys, "stderr", stream)
    assert terminal.bar_options()["disable"] == (not expected)


@pytest.mark.parametrize(("wide", "expected"), [(200, 79), (80, 79), (40, 39), (1, 1), (0, 79)])
def test_a_bar_is_narrower_than_the_terminal(monkeypatch, wide, expected):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((wide, 24)))
    monkeypatch.setattr(Terminal, "fileno", lambda self: 2)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert terminal.bar_options()["ncols"] == expected


def test_the_environment_may_say_how_wide_it_is(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert terminal.columns(sys.stderr) == 50
    monkeypatch.setenv("COLUMNS", "wide")
    assert terminal.columns(io.StringIO()) == 80


def test_a_labelled_text_stands_beside_its_label_in_eighty_columns():
    assert terminal.labelled("data", "a short text") == "data    a short text"
    words = " ".join(["well-known"] * 30)
    first, *others = terminal.labelled("model", words).split("\n")
    assert first.startswith("model   well-known") and len(others) > 2
    assert all(line.startswith(" " * 8 + "well-known") for line in others)
    assert max(map(len, (first, *others))) <= 80
    assert " ".join(" ".join((first[8:], *others)).split()) == words
    assert terminal.labelled("pair", (1, 2), 12) == "pair        (1, 2)"
    assert terminal.labelled("model", words, 12).split("\n")[1].startswith(" " * 12 + "well")
    assert "x" * 99 in terminal.labelled("run", "x" * 99)  # a path can be copied
