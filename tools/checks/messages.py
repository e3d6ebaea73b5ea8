"""Can a reader act on every error message, and does troubleshooting.md quote real ones?

A program of the course ends with one line, raised as a CourseError or printed to standard error.
That line explains itself if, besides what is wrong, it says

- what is allowed ("must be", "at least", "may be", "choose one of", "needs", "expected", "not"),
- which two values should fit each other ("mask ... does not broadcast to scores ..."),
- what to do: a command, a flag, or an instruction after a semicolon or comma ("; use another"),
- or that what was named is not there ("no checkpoint at ...", "unknown ..."), or why the system
  cannot use it ("cannot read ...: Permission denied").

Every other message must be quoted in 00_setup/troubleshooting.md, which says what to do, or in a
page that it refers to: PAGES. And every `error:`, `warning:` or `note:` that these pages quote must
be a message in the sources, word for word, with `...` for what differs; it may end with a sentence.
Messages that only pass on another one have no words of their own.

Left out are the programs for those who teach the course or work on it: MAINTAINERS.
"""

import ast
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tools.checks.course_files import python_files
from tools.checks.result import Result

PAGES = ("00_setup/troubleshooting.md", "00_setup/updating.md", "08_engineering/interop.md")
NOT_LEARNERS = {"tests", "exercises", "pictures", "checks", "benchmarks", "grading"}  # folders
MAINTAINERS = {  # what they say is for the people who change the course, or teach it
    "grade",
    *("ablations", "benchmark", "compare_tokenizers", "crash_test", "load_test", "make_pictures"),
    "utils/grader/exercises.py",  # what is wrong with exercises.yaml
    *(
        "experiments",
        "mutation",
        "new_exercise",
        "run_pages",
        "speculative_speed",
        "try_answers",
        "validate_all",
    ),
}
FIELD = "\0"  # stands for what differs, in a message
ALLOWED = (
    r"\bmust\b|\bneed(?:s|ed)?\b|\bmay be\b|\bat (?:least|most)\b|\ballow(?:s|ed)\b|\bup to\b"
    r"|\bchoose one\b|\bexpected\b|\bavailable:|\bonly\b|, not\b|\bfrom \S+ to\b|\bFor example\b"
    r"|\bout of range: \S|\bis not divisible by\b|\bdo not fit in the context of\b|\bis below\b"
    r"|\bcharacters are\b|\bdevices: |\bcounted from\b|\bto a whole number\b|\bby groups of\b"
    rf"|\bis not (?:{FIELD}$|a list of|valid Python)|\bthat is not a number\b"
)
FITTING = (  # the two values that should fit each other
    rf"\bdoes not broadcast to scores {FIELD}|\bcan't be {FIELD}|\bbut there are {FIELD}"
    rf"|\bdiffer in length: {FIELD}|: {FIELD} layers with {FIELD} heads"
)
ADVICE = (
    r"\bmake [a-z]|\bpython |\bpip |--[a-z]"
    r"|, write |[;:.] (?:use|give|try|write|leave|train|prepare|save|name|start|add|undo|fix|keep"
    r"|move|rename|delete|remove|install|repair|replace|a smaller|apply|repeat|call|choose"
    r"|restore)\b"
)
MISSING = (  # what was named is not there: a typing mistake, or the system's own reason follows
    rf"^no [\w ]+ (?:at|under|in) {FIELD}|^no file |\bunknown \w+ {FIELD}|{FIELD} is missing$"
    rf"|^cannot (?:read|write|remove|download|listen at) {FIELD}.*: {FIELD}$|not UTF-8 text"
    rf"|: no permission to write in {FIELD}|: this drive does not exist"
)
EXPLAINS = re.compile(f"{ALLOWED}|{FITTING}|{ADVICE}|{MISSING}", re.IGNORECASE)
LEAST = 7  # letters that a message needs to be recognized by
SIGNS = (
    b"Error(",
    b"SystemExit(",
    b"stderr",
    b"print_error(",
)  # of a file that raises or prints messages
PREFIX = re.compile(r"^(?:error|warning|note): ")
BASES = {"CourseError", "UsageError", "InstallError"}


@dataclass(frozen=True)
class Message:
    """A message in the sources: where, and its text with FIELD for each value in it."""

    path: str
    line: int
    text: str

    @property
    def shown(self) -> str:
        return re.sub(f"{FIELD}+", "...", self.text)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return pattern_of(self.text, FIELD)

    @property
    def has_words(self) -> bool:
        return sum(letter.isalpha() for letter in self.text) >= LEAST

    def is_quoted_as(self, quote: str) -> bool:
        """Whether a quote shows this message, with `...` or example values, to a sentence's end."""
        first = re.split(r"[;.:]\s", self.text)[0]
        return bool(
            self.pattern.fullmatch(quote)
            or (sum(map(str.isalpha, first)) >= LEAST and pattern_of(first, FIELD).fullmatch(quote))
            or pattern_of(quote, "...").match(self.shown)
        )


@dataclass(frozen=True)
class Quote:
    """A message that a page quotes, without its `error: `."""

    page: str
    line: int
    text: str


def check_messages(root: Path, module: str | None) -> list[Result]:
    """Are messages explained, and are those that the pages quote in the sources?"""
    quotes = [quote for page in PAGES if (root / page).is_file() for quote in quoted(root, page)]
    found = list(messages(root))
    unexplained = [
        one
        for one in found
        if for_learners(one.path)
        and not EXPLAINS.search(one.text)
        and not any(one.is_quoted_as(quote.text) for quote in quotes)
    ]
    problems = [
        f"{one.path}:{one.line}: {one.shown!r} neither says what to do, nor is it in {PAGES[0]}"
        for one in unexplained
        if module in (None, one.path.split("/")[0])
    ]
    problems += [
        f"{quote.page}:{quote.line}: no message in the sources reads {quote.text!r}"
        for quote in quotes
        if not is_printed(quote.text, found) and module in (None, quote.page.split("/")[0])
    ]
    detail = f"{len(found)} messages, {len(quotes)} quotes"
    return [Result("messages", not problems, detail, tuple(problems))]


def quoted(root: Path, page: str) -> Iterator[Quote]:
    """The messages of our programs that a page quotes."""
    for number, line in enumerate((root / page).read_text(encoding="utf-8").splitlines(), start=1):
        for text in re.findall(r"`((?:error|warning|note): [^`]+)`", line):
            yield Quote(page, number, PREFIX.sub("", text))


def is_printed(quote: str, found: list[Message]) -> bool:
    """Whether a quote is one of the messages, or one of the system, such as a full disk."""
    system = (os.strerror(number) for number in errno.errorcode)
    return quote.startswith(tuple(system)) or any(one.is_quoted_as(quote) for one in found)


def for_learners(path: str) -> bool:
    """Whether the people who take the course meet the messages of a file."""
    own = {Path(path).stem, path} & MAINTAINERS
    return not own and not NOT_LEARNERS & set(Path(path).parts)


def pattern_of(text: str, gap: str) -> re.Pattern[str]:
    """What a text matches when anything may stand in its gaps."""
    return re.compile(".*".join(re.escape(part) for part in text.split(gap)), re.DOTALL)


# --- the messages of the sources ---


def messages(root: Path) -> Iterator[Message]:
    """Every message that a program of the course ends with, tests left out."""
    texts = {path: (root / path).read_bytes() for path in python_files(root)}
    trees = {
        path.as_posix(): ast.parse(text)
        for path, text in texts.items()
        if "tests" not in path.parts and any(word in text for word in SIGNS)
    }
    errors = error_classes(trees.values())
    for path, tree in trees.items():
        constants = constants_of(tree)
        for node in ast.walk(tree):
            for argument in printed_by(node, errors):
                text = " ".join(PREFIX.sub("", text_of(argument, constants)).split())
                message = Message(path, node.lineno, text)  # type: ignore[attr-defined]
                if message.has_words:
                    yield message


def error_classes(trees: object) -> set[str]:
    """The names of CourseError and of every class below it."""
    below: dict[str, set[str]] = {}
    for tree in trees:  # type: ignore[attr-defined]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                below[node.name] = {ast.unparse(base) for base in node.bases}
    known = set(BASES)
    while more := {name for name, bases in below.items() if bases & known} - known:
        known |= more
    return known


def printed_by(node: ast.AST, errors: set[str]) -> Iterator[ast.expr]:
    """The text of a message, if the node raises or prints one."""
    if not isinstance(node, ast.Call) or not node.args:
        return
    name = ast.unparse(node.func)
    first = node.args[0]
    to_stderr = any(ast.unparse(word.value) == "sys.stderr" for word in node.keywords)
    starts = PREFIX.match(text_of(first, {}))
    if name in {*errors, "print_error"} or (starts and (name == "SystemExit" or to_stderr)):
        yield first


def constants_of(tree: ast.Module) -> dict[str, str]:
    """The texts that a module gives a name at its top level."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = text_of(node.value, found)
            if text.strip(FIELD):
                found[node.targets[0].id] = text
    return found


def text_of(node: ast.expr, constants: dict[str, str]) -> str:
    """A text of the sources, with FIELD for each part that is known only when it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, constants) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left, constants) + text_of(node.right, constants)
    if isinstance(node, ast.FormattedValue):
        node = node.value
    if isinstance(node, ast.Name) and node.id in constants:
        return constants[node.id]
    return FIELD
