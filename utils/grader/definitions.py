"""Find where a top-level function or class stands in a file, even if Python cannot parse the file.

Places are a pair: the first line and the line after the last, counted from 0.
"""

import ast
import re
import warnings
from collections.abc import Iterator

from utils.grader.learner_code import lines_of

SURE_START = re.compile(
    r"@\w|(async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[:(]|import\s+\w|from\s+[\w.]+\s+import\b"
    r"|if\s+__name__\b"
)  # a line that certainly begins a top-level statement
MAYBE_START = re.compile(
    SURE_START.pattern + r"|(async\s+def|def|class|if|for|while|with|try|del|assert|raise)\b"
    r"|[A-Za-z_][\w.]*\s*(\[.*\]\s*)?[-+*/|&@%^]?=|[A-Za-z_][\w.]*\s*[:(]"
)  # a line that may begin one: `x = 1`, `x: int`, `f(x)`, `if x:`
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def find_definition(text: str, name: str, stub: str) -> tuple[int, int] | None:
    """The place of a definition that a stub is to replace; None if it is not there."""
    tree = parse(text)
    if tree is None:
        return find_in_broken_file(lines_of(text), name, stub)
    return find_in_tree(tree, lines_of(text), name)


def parse(text: str) -> ast.Module | None:
    """The syntax tree; None for a text that Python cannot parse.

    Bytes that are not UTF-8 are replaced by a letter each, which moves no line; Python itself reads
    such a file only if a comment names its encoding.
    """
    readable = re.sub("[\ud800-\udfff]", "x", text)
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(readable)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def last_binding(tree: ast.Module, name: str) -> ast.stmt | None:
    """The last top-level statement that gives this name a value: a later one wins in Python."""
    return next((node for node in reversed(tree.body) if binds(node, name)), None)


def binds(statement: ast.stmt, name: str) -> bool:
    """Whether a statement binds a name of the module, bodies of functions and classes aside."""
    if isinstance(statement, SCOPES):
        return statement.name == name
    if isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test):
        return False  # runs only as a program, after everything else
    return any(
        (isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load))
        or (isinstance(node, SCOPES) and node.name == name)
        or (isinstance(node, ast.alias) and (node.asname or node.name) == name)
        for node in nodes_of_scope(statement)
    )


def nodes_of_scope(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one, without entering functions and classes."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (*SCOPES, ast.Lambda)):
            yield from nodes_of_scope(child)


def find_in_tree(tree: ast.Module, lines: list[str], name: str) -> tuple[int, int] | None:
    """First line of a definition and the line after its last, from 0; None if it is not there."""
    node = last_binding(tree, name)
    if not isinstance(node, SCOPES):  # missing, or hidden by `name = ...`: add the stub after that
        return None
    first = first_line(node) - 1
    return first, end_of_comments(lines, node.end_lineno or node.lineno)


def end_of_comments(lines: list[str], last: int) -> int:
    """The line after the indented comments that follow a body: the learner's notes belong to it."""
    end = last
    for at in range(last, len(lines)):
        stripped = lines[at].strip()
        if stripped and not (stripped.startswith("#") and lines[at][0] in " \t"):
            break
        if stripped:
            end = at + 1
    return end


def first_line(node: Definition) -> int:
    """The first line of a function or class, decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


# --- in a file that Python cannot parse ---


def find_in_broken_file(lines: list[str], name: str, stub: str) -> tuple[int, int] | None:
    """Where a definition begins and ends in a file with a syntax error in it or elsewhere.

    A definition ends before a later line that may begin a statement. That is the first such line
    where the whole file can be parsed with the stub (so the error was in this definition); else
    where the definition can be parsed by itself (so the error is elsewhere); else where the
    statements that follow can be parsed.
    """
    start = start_in_broken_file(lines, name)
    if start is None:
        return None
    first = with_decorators(lines, start)
    ends = possible_ends(lines, start)
    near = ends_of_body(lines, start, ends)  # no other definition may be removed along with it

    def file_is_repaired(end: int) -> bool:
        return parse("".join([*lines[:first], stub, *lines[end:]])) is not None

    def is_whole(end: int) -> bool:
        return is_definition("".join(lines[first:end]), name) and is_followed_by_code(lines, end)

    candidates = [end for end in near if file_is_repaired(end)]
    candidates = candidates or [end for end in ends if is_whole(end)]
    candidates = candidates or [end for end in near if is_followed_by_code(lines, end)]
    return first, next(iter(candidates), near[-1])


def start_in_broken_file(lines: list[str], name: str) -> int | None:
    """The last line that begins the definition: of two, the later one wins in Python."""
    begin = re.compile(rf"\f*(async\s+def|def|class)\s+{name}\b")
    found = [at for at, line in enumerate(lines) if begin.match(line)]
    return found[-1] if found else None


def with_decorators(lines: list[str], start: int) -> int:
    """The first line of the decorators directly above a definition."""
    first = start
    for at in range(start - 1, -1, -1):
        if not lines[at].strip():
            break
        if lines[at].startswith("@") and parse("".join(lines[at:start]) + "def _(): pass\n"):
            first = at
    return first


def possible_ends(lines: list[str], start: int) -> list[int]:
    """Where a definition may end: before each line that may begin a statement, and at the end.

    A comment in the first column ends no body, so it is never such a line.
    """
    begins = (at for at in range(start + 1, len(lines)) if MAYBE_START.match(lines[at]))
    return [without_gap(lines, start, at) for at in (*begins, len(lines))]


def ends_of_body(lines: list[str], start: int, ends: list[int]) -> list[int]:
    """Of the possible ends, those up to the next line that certainly begins a statement."""
    later = (at for at in range(start + 1, len(lines)) if SURE_START.match(lines[at]))
    limit = without_gap(lines, start, next(later, len(lines)))
    return [end for end in ends if end <= limit]


def without_gap(lines: list[str], start: int, end: int) -> int:
    """An end moved up over blank lines and over comments in the first column."""
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end


def is_definition(text: str, name: str) -> bool:
    """Whether a text is one function or class of this name and nothing else."""
    tree = parse(text)
    if tree is None or len(tree.body) != 1:
        return False
    [node] = tree.body
    return isinstance(node, SCOPES) and node.name == name


def is_followed_by_code(lines: list[str], end: int) -> bool:
    """Whether the statements from here to the next certain one can be parsed (or are none)."""
    begins = (at for at in range(end, len(lines)) if SURE_START.match(lines[at]))
    return parse("".join(lines[end : next(begins, len(lines))])) is not None
