"""What a book of Project Gutenberg becomes before a model learns from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gutenberg
from gutenberg import book_alone
from utils.errors import CourseError

HEADER = "\ufeffThe Project Gutenberg eBook of Poems\r\n\r\n"
START = "*** START OF THE PROJECT GUTENBERG EBOOK POEMS ***\r\n"
END = "*** END OF THE PROJECT GUTENBERG EBOOK POEMS ***\r\nThe licence\r\n"


def test_header_and_licence_are_gone_and_line_ends_are_plain() -> None:
    book = HEADER + START + "\r\nA rose\r\n  is a rose.\r\n\r\n" + END
    assert book_alone(book) == "A rose\n  is a rose.\n"


def test_typographical_marks_become_plain_ones() -> None:
    book = START + "\u201cIt\u2019s\u201d \u2014 \u2018so\u2019 \u2013 \u00e9" + "\r\n" + END
    assert book_alone(book) == "\"It's\" -- 'so' - \u00e9\n"


def test_the_older_form_of_the_lines_is_known() -> None:
    book = (
        "***START OF THIS PROJECT GUTENBERG EBOOK X***\nA\n***END OF THIS PROJECT GUTENBERG EBOOK"
    )
    assert book_alone(book) == "A\n"


@pytest.mark.parametrize("book", ["A rose", START + "A rose", "A rose" + "\n" + END, END + START])
def test_a_text_without_both_lines_is_refused(book: str) -> None:
    with pytest.raises(CourseError, match="no book of Project Gutenberg"):
        book_alone(book)


def test_the_program_writes_the_book_and_says_how_much_is_left(
    tmp_path: Path, call_program: Callable[..., Any]
) -> None:
    source, target = tmp_path / "pg.txt", tmp_path / "book.txt"
    source.write_bytes((HEADER + START + "A rose\r\n" + END).encode())
    outcome = call_program(gutenberg.main, source, target)
    assert outcome.code == 0 and "7 written, 7 different ones" in outcome.out
    assert target.read_bytes() == b"A rose\n"


def test_a_missing_file_is_one_line(tmp_path: Path, call_program: Callable[..., Any]) -> None:
    outcome = call_program(gutenberg.main, tmp_path / "none.txt", tmp_path / "book.txt")
    assert outcome.code == 1 and "cannot read" in outcome.err and outcome.err.count("\n") <= 2
