"""The commands that the course tells people to type, found in its pages, notebooks and programs.

Where a command is looked for:

- in a fenced block without a language (or `sh`, `bash`, `console`) that has a line which starts
  with one of our programs: then every line of the block is a command;
- in any fenced block, after a colon: `For a hint: make hint EX=1.3`;
- in `code` of the running text, when it starts with one of our programs and names more than it;
- in the Markdown cells of a notebook, in the same way, and in `!command` lines of its code cells;
- in the docstring of a program and in the comments that open a YAML file, on lines of their own;
- in what a program prints: `python`, the path of a program, and the flags right behind it.

In a table whose first column is headed "they say", that column holds the commands of others.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.checks.course_files import kept_files

PYTHON = r"(?:\.venv[/\\](?:bin|Scripts)[/\\])?(?:python3?|py)"
SETTING = r"(?:[A-Z_]+=\S+ +)*"
OURS = re.compile(rf"{SETTING}(?:make|{PYTHON}|torchrun|sh|bash|pip|git) +[\w./\\-]")
SHORT = re.compile(
    r"\w+\.py +(?:-|[a-z]+(?:$| [A-Z]))"
)  # `train.py --resume`: the folder is left out
SHELLS = ("", "sh", "bash", "console", "shell")
FENCE = re.compile(r"^[ >]*(`{3,}|~{3,})[ ]*(\S*)")
INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
THEIRS, FIRST_CELL = re.compile(r"\|\s*they say\s*\|"), re.compile(r"^\|[^|]*\|")
AFTER_COLON = re.compile(rf": ((?:make|{PYTHON}) [a-z][^()]*?)(?: \(.*)?$")
COMMENT = re.compile(r"^#!.*|(?:^|\s)#(?:\s.*)?$")
PRINTED = re.compile(r"(?<!\w)python (?:[\w-]+/)+\w+\.py(?: --[a-z][\w-]*)*")
DOCSTRING = re.compile(r'\A(?:#.*\n)*"""(.*?)"""', re.DOTALL)
EXPLAINED = re.compile(r"\s{2,}.*$")  # in a docstring, what a command does stands beside it


@dataclass(frozen=True)
class Line:
    """A command line, and where it is. A mention in the running text may leave arguments out."""

    page: str
    number: int
    text: str
    mention: bool = False

    @property
    def place(self) -> str:
        return f"{self.page}:{self.number}"


def command_lines(root: Path, module: str | None) -> Iterator[Line]:
    """Every command of the course, or of one folder, page by page from top to bottom."""
    for path in kept_files(root):
        if module not in (None, path.parts[0]) or path.suffix not in READERS:
            continue
        text = (root / path).read_text(encoding="utf-8")
        yield from READERS[path.suffix](path.as_posix(), text)


def of_page(page: str, text: str) -> Iterator[Line]:
    """The commands of a Markdown page."""
    fence, language = "", ""
    block: list[tuple[int, str]] = []
    prose: list[str] = []  # the running text; its lines keep their numbers
    found: list[Line] = []
    for number, line in enumerate(text.splitlines(), start=1):
        mark = FENCE.match(line)
        prose.append("" if fence or mark else line)
        if mark and not fence:
            fence, language, block = mark[1], mark[2], []
        elif mark and mark[1].startswith(fence) and not mark[2]:
            found += of_block(page, language, block)
            fence = ""
        elif fence:
            block.append((number, line))
    found += of_prose(page, prose)
    yield from sorted(found, key=lambda line: line.number)


def of_prose(page: str, lines: list[str]) -> Iterator[Line]:
    """The commands in the running text, whose `code` may continue on the next line."""
    theirs = False
    ours = []
    for line in lines:
        theirs = line.startswith("|") and (theirs or THEIRS.match(line) is not None)
        ours.append(FIRST_CELL.sub("|", line) if theirs else line)
    text = "\n".join(ours)
    for code in INLINE.finditer(text):
        words = code[1].replace("\n", " ")
        if OURS.match(words) or SHORT.match(words):
            yield Line(page, text.count("\n", 0, code.start()) + 1, words, mention=True)


def of_block(page: str, language: str, block: list[tuple[int, str]]) -> Iterator[Line]:
    """The commands of a fenced block."""
    lines = [(number, without_prompt(line)) for number, line in block]
    if language in SHELLS and any(OURS.match(line) for _, line in lines):
        yield from (Line(page, number, line) for number, line in joined(lines))
        return
    for number, line in lines:
        if found := AFTER_COLON.search(line):
            yield Line(page, number, found[1], mention=True)


def without_prompt(line: str) -> str:
    return re.sub(r"^\s*(?:\$|PS>|>) ", "", line).strip()


def joined(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Lines without comments and blank ones; a line that ends in a backslash continues."""
    begun = ""
    start = 0
    for number, line in lines:
        start = start if begun else number
        if line.endswith("\\"):
            begun += line[:-1].rstrip() + " "
            continue
        whole = COMMENT.sub("", begun + line).strip()
        begun = ""
        if whole:
            yield start, whole


def of_notebook(page: str, text: str) -> Iterator[Line]:
    """The commands of a notebook; the number of a line is that of its cell."""
    for index, cell in enumerate(json.loads(text)["cells"], start=1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            found = of_page(page, source)
        else:
            lines = [line[1:] for line in source.splitlines() if line.startswith("!")]
            found = (Line(page, 0, line.strip()) for line in lines)
        yield from (Line(page, index, one.text, one.mention) for one in found)


def of_program(page: str, text: str) -> Iterator[Line]:
    """The commands in the docstring of a module, each on a line of its own, and printed ones."""
    docstring = DOCSTRING.match(text)
    lines = docstring[1].splitlines() if docstring else []
    for number, line in joined([(n, line.strip()) for n, line in enumerate(lines, start=1)]):
        if OURS.match(line):
            yield Line(page, number, EXPLAINED.sub("", line))
    start = docstring.end() if docstring else 0
    for found in PRINTED.finditer(text, start) if "/tests/" not in page else ():
        yield Line(page, text.count("\n", 0, found.start()) + 1, found[0], mention=True)


def of_settings(page: str, text: str) -> Iterator[Line]:
    """The commands in the comments of a YAML file."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") and OURS.match(line.lstrip("# ")):
            yield Line(page, number, EXPLAINED.sub("", line.lstrip("# ")))


READERS = {
    ".md": of_page,
    ".ipynb": of_notebook,
    ".py": of_program,
    ".yaml": of_settings,
}
