"""Show where a text is cut: its tokens in colour, in a notebook or on a terminal.

    color_tokens(tokenizer, "good night!")      a notebook shows colours; print(...) too

Neighbours never have the same colour, so a space belongs to the token whose colour it has. A token
that holds only some of the bytes of a character is written as bytes: \\xc3. In a notebook, pointing
at a token shows its id.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer
from utils.errors import run_program

# Pale, so that black letters are legible on light pages and dark ones: (HTML, terminal of 256)
COLOURS = (("#fbd3c1", 223), ("#c9e4f6", 153), ("#d3ecc9", 194), ("#ead7f3", 225), ("#f8ecb4", 229))
MARKS = {"\n": "↵\n", "\t": "⇥\t"}  # the break stays, and is visible


@dataclass(frozen=True)
class ColoredTokens:
    """Tokens with their ids: `_repr_html_` for a notebook, str() for a terminal."""

    pieces: Sequence[str]  # what each token shows
    ids: Sequence[int]

    def __str__(self) -> str:
        """The tokens on coloured grounds, by the codes of a terminal with 256 colours."""
        return "".join(
            # 30: black letters; 48;5;N: colour N as the ground; 0: back to normal
            f"\x1b[30;48;5;{COLOURS[i % len(COLOURS)][1]}m{piece}\x1b[0m"
            for i, piece in enumerate(self.pieces)
        )

    def plain(self) -> str:
        """The tokens separated by |, where there are no colours."""
        return "|".join(self.pieces)

    def _repr_html_(self) -> str:
        spans = (
            f'<span style="background:{COLOURS[i % len(COLOURS)][0]};color:#000" '
            f'title="{token_id}">{html.escape(piece)}</span>'  # a text may contain "<"
            for i, (piece, token_id) in enumerate(zip(self.pieces, self.ids, strict=True))
        )
        # pre-wrap keeps spaces and line breaks, and still breaks long lines
        style = "white-space:pre-wrap;font-family:monospace;line-height:1.7"
        return f'<div style="{style}">{"".join(spans)}</div>'


def color_tokens(tokenizer: Tokenizer, text: str) -> ColoredTokens:
    """Encode a text, and show its tokens in colour. Raises UsageError as `encode` does."""
    ids = tokenizer.encode(text)
    return ColoredTokens([visible(piece_of(tokenizer, i)) for i in ids], ids)


def piece_of(tokenizer: Tokenizer, token_id: int) -> str:
    """The text of one token, with its bytes where it holds only a part of a character."""
    if isinstance(tokenizer, BPETokenizer):
        # Not `decode`, which shows the same U+FFFD for every incomplete token.
        return tokenizer.token_bytes(token_id).decode("utf-8", "backslashreplace")
    return tokenizer.decode([token_id])


def visible(piece: str) -> str:
    """The piece with marks for line breaks and tabs, and codes for other control characters."""
    # A control character would act on the terminal; repr turns it into a code such as \x1b.
    return "".join(
        MARKS.get(c, c if c.isprintable() or c.isspace() else repr(c)[1:-1]) for c in piece
    )


def main() -> None:
    """Show one line as characters and as learned tokens."""
    from bpe_tokenizer import train_bpe
    from tokenizer import CharTokenizer
    from utils.mock_corpus import generate

    text, line = generate(100_000), "Good night, good night!\nTo the café. 🙂"
    for tokenizer in (CharTokenizer.train(text + line), train_bpe(text, 400)):
        tokens = color_tokens(tokenizer, line)
        print(f"{tokens}\n{len(tokens.ids)} tokens\n")


if __name__ == "__main__":
    run_program(main)
