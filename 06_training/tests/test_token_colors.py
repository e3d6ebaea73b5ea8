"""Tokens in colour: nothing is lost or run as HTML, and neighbours differ."""

import html
import re
from itertools import pairwise

import pytest

from bpe_tokenizer import BPETokenizer, train_bpe
from token_colors import COLOURS, color_tokens
from tokenizer import CharTokenizer
from utils.errors import UsageError

TOKENIZER = train_bpe("good night, good night! " * 9, 270)


def spans(page: str) -> list[tuple[str, str, str]]:
    """(colour, id, text) of every token of the page."""
    found = re.findall(
        r'<span style="background:(#\w+);color:#000" title="(\d+)">(.*?)</span>', page
    )
    return [(colour, token_id, html.unescape(text)) for colour, token_id, text in found]


@pytest.mark.parametrize("tokenizer", [TOKENIZER, CharTokenizer.train("good night!")])
def test_every_token_is_shown_with_its_id_and_neighbours_differ_in_colour(tokenizer) -> None:
    shown = color_tokens(tokenizer, "good night!")
    found = spans(shown._repr_html_())
    assert "".join(text for _, _, text in found) == "good night!"
    assert [int(token_id) for _, token_id, _ in found] == tokenizer.encode("good night!")
    colours = [colour for colour, _, _ in found]
    assert all(a != b for a, b in pairwise(colours))


def test_what_looks_like_html_is_text() -> None:
    page = color_tokens(BPETokenizer([]), '<b> & "q"</span>')._repr_html_()
    assert "<b>" not in page
    assert "".join(text for _, _, text in spans(page)) == '<b> & "q"</span>'


def test_part_of_a_character_is_shown_as_bytes() -> None:
    assert color_tokens(BPETokenizer([]), "é").plain() == r"\xc3|\xa9"
    assert color_tokens(BPETokenizer([(0xC3, 0xA9)]), "éa").plain() == "é|a"


def test_line_breaks_and_control_characters_are_visible() -> None:
    assert color_tokens(BPETokenizer([]), "a\n\t\x1b").plain() == "a|↵\n|⇥\t|\\x1b"
    assert "\x1b[31m" not in str(color_tokens(BPETokenizer([(27, 91)]), "\x1b[31m"))


def test_a_terminal_gets_the_text_between_colour_codes() -> None:
    shown = str(color_tokens(TOKENIZER, "good night!"))
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == "good night!"
    assert f"48;5;{COLOURS[0][1]}m" in shown


def test_an_empty_text_has_no_tokens_and_an_unknown_character_is_named() -> None:
    assert color_tokens(TOKENIZER, "").plain() == ""
    with pytest.raises(UsageError, match="unknown character"):
        color_tokens(CharTokenizer("ab"), "c")
