"""The section to read before an exercise, found on the page that leads to it.

Such a section ends with the exercises that it prepares, in bold: "**Now write 1.3.**",
"**Now repair 8.9 to 8.12.**", "**Now write 1.5.** ... **Write 1.6**". So the pages are the only
place that says so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from utils.grader.exercises import THEORY, Exercise, Lesson

HEADING = re.compile(r"#{2,3} +(.+?) *$")
BOLD = re.compile(r"\*\*(.+?)\*\*")
NUMBERS = re.compile(r"(\d+)\.(\d+)(?: to \d+\.(\d+))?")
ANNOUNCEMENT = "**Now "
FENCE = "```"


@dataclass(frozen=True)
class Section:
    """A section of a page."""

    page: Path
    heading: str  # "" above the first one
    line: int  # of the heading, from 1


def section_before(lesson: Lesson, exercise: Exercise) -> Section | None:
    """The section that ends with an exercise; None if no page names it.

    An exercise of theory.md may be prepared by any page of the lesson, one of another page by that.
    """
    pages = [lesson.folder / exercise.page]
    if exercise.page == THEORY:
        pages += sorted(lesson.folder.glob("*.md"))
    for page in pages:
        for section, paragraph in paragraphs(page):
            if exercise.id in announced(paragraph, int(lesson.name[:2])):
                return section
    return None


def paragraphs(page: Path) -> Iterator[tuple[Section, str]]:
    """The paragraphs of a page, each with its section; code is left out."""
    try:
        lines = page.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    section, paragraph, is_code = Section(page, "", 1), "", False
    for at, line in enumerate([*lines, ""], start=1):
        is_fence = line.startswith(FENCE)
        is_code ^= is_fence
        if is_fence or is_code:
            continue
        if heading := HEADING.match(line):
            section = Section(page, heading[1], at)
        if line.strip():
            paragraph += f" {line}"
            continue
        yield section, paragraph
        paragraph = ""


def announced(paragraph: str, lesson: int) -> list[str]:
    """The exercises of a lesson that a paragraph sends its reader to."""
    if ANNOUNCEMENT not in paragraph:
        return []
    return [
        f"{lesson}.{number}"
        for bold in BOLD.findall(paragraph)
        for of_lesson, first, last in NUMBERS.findall(bold)
        if int(of_lesson) == lesson
        for number in range(int(first), int(last or first) + 1)
    ]
