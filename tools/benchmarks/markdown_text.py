"""Markdown that is readable as source too: paragraphs and list items wrapped at 100 columns."""

import textwrap


def paragraph(text: str) -> str:
    """The text as a paragraph."""
    return _wrap(text)


def list_item(text: str) -> str:
    """The text as an item of a list."""
    return _wrap(text, first="- ", rest="  ")


def _wrap(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text,
        100,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
