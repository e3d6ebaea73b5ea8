"""Cut the header and the licence off a book of Project Gutenberg, so that a model learns the book.

    python 09_capstone/gutenberg.py pg100.txt complete_works.txt

Every plain-text book of gutenberg.org has a header before a line "*** START OF THE PROJECT
GUTENBERG EBOOK ... ***" and a long licence after "*** END OF ...": a model would learn both. Line
ends of Windows become "\\n", and the typographical quotation marks and dashes that the books have
become the plain ones, which keeps the vocabulary of a character model small.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import re
from pathlib import Path

from utils.command_line import OneLineParser
from utils.errors import CourseError
from utils.files import atomic_write_text

START = re.compile(r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*$", re.MULTILINE)
END = re.compile(r"^\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*$", re.MULTILINE)
PLAIN = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "--"}
)


def book_alone(text: str) -> str:
    """The text between the START and the END line, with plain line ends, quotes and dashes.

    Raises CourseError if one of the lines is missing, or if they are not in this order.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    start, end = START.search(text), END.search(text)
    if start is None or end is None or end.start() < start.end():
        raise CourseError(
            "no book of Project Gutenberg: a line '*** START OF THE PROJECT GUTENBERG EBOOK' and "
            "after it one with END are expected"
        )
    return text[start.end() : end.start()].strip().translate(PLAIN) + "\n"


def main() -> None:
    """Cut the header and the licence off a book of Project Gutenberg."""
    parser = OneLineParser(description=main.__doc__)
    parser.add_argument("book", type=Path, help="the file from gutenberg.org")
    parser.add_argument("output", type=Path, help="where the text goes")
    options = parser.parse_args()
    try:
        book = options.book.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f"cannot read {options.book} as UTF-8 text: {error}") from None
    text = book_alone(book)
    try:
        atomic_write_text(options.output, text)
    except OSError as error:
        raise CourseError(f"cannot write {options.output}: {error.strerror or error}") from error
    print(f"{len(book):,} characters read; {len(text):,} written, {len(set(text))} different ones")


if __name__ == "__main__":
    run_program(main)
