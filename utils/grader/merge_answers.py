"""Bring a learner's answers into a newer release of exercises.py, definition by definition.

Three texts take part: the release that the learner started from (`base`), the learner's file
(`mine`) and the newer release (`new`). The result is the new file, in which

- a function or class that the learner changed holds the learner's code, below the new first lines
  and docstring if the learner left those alone; of a class this holds for each method;
- a renamed exercise is found by its number, and the old name keeps working;
- what the learner added (helpers, imports, constants, comments) stands where it stood: before the
  same exercise as before;
- an answer to an exercise that no longer exists is at the end.

Nothing is trusted: `check_kept` compares syntax trees, so that no statement of the learner's can
be missing from the result.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from utils.grader.definitions import SCOPES, Definition, end_of_comments, first_line
from utils.grader.learner_code import as_stub, lines_of

NUMBER = re.compile(r"[Ee]xercise (\d+\.\d+)\b")
REMOVED = "# Answers to exercises that the course no longer has"


class MergeError(Exception):
    """The answers cannot be merged; the message says why. Nothing has been written."""


@dataclass(frozen=True)
class Merged:
    """The merged file, which exercises it keeps answers of, and what the learner should know."""

    text: str
    kept: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Piece:
    """One statement of a file or of a class, with its text and the comments right above it."""

    node: ast.stmt
    first: int  # its first line, decorators included; lines count from 0
    last: int  # the line after its last
    text: str
    comments: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What a function or class is called; "" for any other statement."""
        return self.node.name if isinstance(self.node, SCOPES) else ""

    @property
    def tree(self) -> str:
        return ast.dump(self.node)

    @property
    def exercise(self) -> str:
        """The number of the exercise that this function, class or method belongs to, else ""."""
        found = NUMBER.search(self.text) if self.name else None
        return found[1] if found else ""


def merge_answers(base: str | None, mine: str, new: str) -> Merged:
    """Merge three versions of one exercises.py; `base` is None if it isn't known.

    Raises MergeError if one of them cannot be parsed, or if something of the learner's is missing
    from the result.
    """
    base, mine, new = (with_plain_ends(text) for text in (base or new, mine, new))
    trees = [parsed(text) for text in (base, mine, new)]
    versions = zip((base, mine, new), trees, strict=True)
    scope = Scope(*(pieces(text, tree.body) for text, tree in versions))
    text = scope.merged(mine, new)
    check_kept(base, mine, new, text)
    return Merged(text, scope.kept, scope.notes)


def with_plain_ends(text: str) -> str:
    """The text with "\\n" at the end of every line, the last one too."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") or not text else text + "\n"


def parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise MergeError(f"{line}{getattr(error, 'msg', error)}") from None


def pieces(text: str, body: Sequence[ast.stmt]) -> list[Piece]:
    """The statements of a file or of a class, each with its text."""
    lines = lines_of(text)
    found: list[Piece] = []
    for node in body:
        first = first_line(node) - 1 if isinstance(node, SCOPES) else node.lineno - 1
        last = node.end_lineno or node.lineno
        if isinstance(node, SCOPES):
            last = end_of_comments(lines, last) if node.col_offset == 0 else last
        start = found[-1].last if found else 0
        comments = [line for line in lines[start:first] if line.strip().startswith("#")]
        found.append(Piece(node, first, last, "".join(lines[first:last]), comments))
    return found


class Scope:
    """The statements of the three versions of a file, or of one class in them."""

    def __init__(self, base: list[Piece], mine: list[Piece], new: list[Piece]) -> None:
        self.base, self.mine, self.new = base, mine, new
        self.kept: list[str] = []
        self.notes: list[str] = []
        self.in_base = {piece.name: piece for piece in base if piece.name}
        self.in_new = {piece.name: piece for piece in new if piece.name}
        self.known = {piece.tree for piece in (*base, *new)}
        self.known_comments = {line for piece in (*base, *new) for line in piece.comments}
        # A name that is bound twice means its last definition; the others are additions.
        last = {piece.name: piece for piece in mine if piece.name}
        self.changed = {name: piece for name, piece in last.items() if self.is_changed(piece)}
        self.targets = {name: self.target(name) for name in self.changed}

    def is_changed(self, piece: Piece) -> bool:
        """Whether the learner changed a function or class that a release has under this name."""
        given = [where[piece.name] for where in (self.in_base, self.in_new) if piece.name in where]
        is_same = any(piece.text.rstrip() == one.text.rstrip() for one in given)
        return bool(given) and not is_same and not is_stub(piece)

    def target(self, name: str) -> str:
        """The new name of a function or class of the base; "" if it was removed."""
        if name in self.in_new:
            return name
        number = self.in_base[name].exercise
        same = [one.name for one in self.base if number and one.exercise == number]
        gone = [one for one in same if one not in self.in_new]
        added = [
            one.name for one in self.new if one.exercise == number and one.name not in self.in_base
        ]
        return dict(zip(gone, added, strict=False)).get(name, "") if number else ""

    # --- the result ---

    def merged(self, mine: str, new: str) -> str:
        """The text of the new version with what is the learner's put in."""
        additions, at_end = self.additions(mine)
        sources = {target: name for name, target in self.targets.items() if target}
        lines = lines_of(new)
        result: list[str] = []
        done = 0
        for piece in self.new:
            first = piece.first - len(self.block_above(lines, piece.first))
            result += lines[done:first]
            result += additions.get(id(piece), [])
            result += lines[first : piece.first]
            name = sources.get(piece.name, "")
            result += self.answer(name, piece) if name else [piece.text]
            done = piece.last
        return "".join([*result, *at_end, *lines[done:]])

    @staticmethod
    def block_above(lines: list[str], first: int) -> list[str]:
        """The comments directly above a statement of the new version."""
        start = first
        while start > 0 and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        return lines[start:first]

    def answer(self, name: str, new: Piece) -> list[str]:
        """The learner's version of a function or class, in place of the new version's."""
        mine, base = self.changed[name], self.in_base.get(name)
        number = new.exercise
        label = f"{number} {new.name}".strip()
        comments = [line for line in mine.comments if line not in self.known_comments]
        if number:
            self.kept.append(number)
        if isinstance(mine.node, ast.ClassDef) and isinstance(new.node, ast.ClassDef):
            text = self.merged_class(base, mine, new)
        else:
            text = self.spliced(base, mine, new, label)
        if new.name != name:
            self.notes.append(f"{label} was called {name}: your answer has the new name")
            indent = " " * new.node.col_offset
            text = renamed(text, name, new.name)
            text += f"\n\n{indent}{name} = {new.name}  # its earlier name\n"
        return [*comments, text]

    def spliced(self, base: Piece | None, mine: Piece, new: Piece, label: str) -> str:
        """The learner's body below the new first lines, if the learner left those alone."""
        if base is None or base.text.rstrip() == new.text.rstrip():
            return mine.text
        change = what_changed(base, new)
        self.notes += [f"{label}: {change}"] if change else []
        if len({type(one.node) for one in (base, mine, new)}) > 1:
            return mine.text
        head = head_of(mine)
        if head not in (head_of(base), head_of(new)):
            self.notes.append(f"{label}: you changed its first lines, so they are still yours")
            return mine.text
        return head_of(new) + mine.text[len(head) :]

    def merged_class(self, base: Piece | None, mine: Piece, new: Piece) -> str:
        """The learner's class, method by method; a class with other first lines stays whole."""
        if base is None or base.text.rstrip() == new.text.rstrip():
            return mine.text
        label = f"{new.exercise} {new.name}".strip()
        if opening(mine) not in (opening(base), opening(new)) or not is_class(base, mine, new):
            self.notes.append(f"{label}: its first lines changed, and yours as well: still yours")
            return mine.text
        versions = [pieces(one.text, members(one)) for one in (base, mine, new)]
        scope = Scope(*versions)
        text = scope.merged(mine.text, new.text)
        self.notes += [note.replace(": ", f" (in {new.name}): ", 1) for note in scope.notes]
        return text

    def additions(self, mine: str) -> tuple[dict[int, list[str]], list[str]]:
        """What the learner added: by the piece of the new version that it precedes; at the end."""
        before: dict[int, list[str]] = {}
        removed: list[str] = []
        waiting: list[str] = []
        for piece in self.mine:
            if piece.name and self.changed.get(piece.name) is piece:
                if not self.targets[piece.name]:
                    removed += self.removed(piece)
                    continue
                anchor = self.in_new[self.targets[piece.name]]
            elif piece.tree in self.known or is_stub(piece):
                same = (one for one in self.new if one.tree == piece.tree)
                anchor = self.in_new.get(piece.name) or next(same, None)
                waiting += self.own_comments(piece)
            else:
                waiting += [*self.own_comments(piece), piece.text, *self.gap(piece)]
                continue
            if anchor is not None and waiting:
                before.setdefault(id(anchor), []).extend(waiting)
                waiting = []
        after = lines_of(mine)[self.mine[-1].last :] if self.mine else []
        waiting += [line for line in after if line.lstrip().startswith("#")]
        program = next((one for one in self.new if is_program(one)), None)
        if program is not None and removed:
            before.setdefault(id(program), []).extend([*removed, "\n"])
            removed = []
        return before, [*(["\n"] if waiting or removed else []), *waiting, *removed]

    def own_comments(self, piece: Piece) -> list[str]:
        return [line for line in piece.comments if line not in self.known_comments]

    @staticmethod
    def gap(piece: Piece) -> list[str]:
        """The empty lines between an addition and what follows."""
        if isinstance(piece.node, ast.Import | ast.ImportFrom):
            return []
        return ["\n", "\n"] if piece.name and piece.node.col_offset == 0 else ["\n"]

    def removed(self, piece: Piece) -> list[str]:
        """An answer whose exercise is gone, and a note."""
        number = self.in_base[piece.name].exercise
        label = f"{number} {piece.name}".strip()
        self.notes.append(f"{label} no longer exists: your answer is at the end of the file")
        if number:
            self.kept.append(number)
        heading = [f"\n{REMOVED}\n"] if piece.node.col_offset == 0 else []
        return [*heading, "\n", *self.own_comments(piece), piece.text, "\n"]


# --- parts of a file ---


def is_program(piece: Piece) -> bool:
    """Whether this is the part that runs the checks: `if __name__ == "__main__":`."""
    return isinstance(piece.node, ast.If) and "__name__" in ast.dump(piece.node.test)


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_stub(piece: Piece) -> bool:
    """Whether a function is an untouched stub, of any release: no code, no notes in comments."""
    has_notes = any(line.lstrip().startswith("#") for line in lines_of(piece.text))
    return isinstance(piece.node, ast.FunctionDef) and bool(as_stub(piece.node)) and not has_notes


def is_class(*found: Piece) -> bool:
    return all(isinstance(one.node, ast.ClassDef) for one in found)


def members(piece: Piece) -> list[ast.stmt]:
    """The statements of a class, with lines counted in its own text."""
    [node] = ast.parse(piece.text).body
    assert isinstance(node, ast.ClassDef)
    return node.body


def opening(piece: Piece) -> str:
    """The decorators and the line of a class, without its body."""
    assert isinstance(piece.node, ast.ClassDef)
    body = piece.node.body[0]
    first = first_line(body) if isinstance(body, SCOPES) else body.lineno
    return "".join(lines_of(piece.text)[: first - 1 - piece.first])


def head_of(piece: Piece) -> str:
    """The decorators, the signature and the docstring of a function."""
    node = piece.node
    assert isinstance(node, Definition)
    body = node.body[0]
    with_docstring = ast.get_docstring(node, clean=False) is not None
    end = (body.end_lineno or body.lineno) if with_docstring else body.lineno - 1
    return "".join(lines_of(piece.text)[: end - piece.first])


def what_changed(base: Piece, new: Piece) -> str:
    """What differs between the stubs of two releases, for the learner; "" for a name alone."""
    old_node, new_node = base.node, new.node
    if not (isinstance(old_node, ast.FunctionDef) and isinstance(new_node, ast.FunctionDef)):
        return "its description changed: read it again"
    if ast.dump(old_node.args) != ast.dump(new_node.args):
        return "its arguments changed: your code is below the new line, check it"
    if ast.get_docstring(old_node) != ast.get_docstring(new_node):
        return "its description changed: read it again"
    if given_code(old_node) != given_code(new_node):
        return "the code to repair changed: yours is kept"
    return ""


def given_code(node: ast.FunctionDef) -> list[str]:
    """What a stub holds besides its docstring and its `raise`."""
    return [
        ast.dump(one)
        for one in node.body
        if not isinstance(one, ast.Raise) and not is_docstring(one)
    ]


def renamed(text: str, old: str, new: str) -> str:
    """The definition under its new name."""
    return re.sub(rf"^(\s*(?:async\s+)?(?:def|class)\s+){old}\b", rf"\g<1>{new}", text, flags=re.M)


# --- the guarantee ---


def check_kept(base: str, mine: str, new: str, result: str) -> None:
    """Raise MergeError if a statement of the learner's is missing from the result."""
    there = bodies(parsed(result))
    missing = [
        body
        for body in bodies(parsed(mine))
        if body not in there and body not in bodies(parsed(base))
    ]
    if missing:
        raise MergeError("not everything in it could be kept")
    comments = {line.strip() for line in lines_of(mine) if line.strip().startswith("#")}
    given = {line.strip() for text in (base, new, result) for line in lines_of(text)}
    if not comments <= given:
        raise MergeError("not every comment in it could be kept")


def bodies(tree: ast.Module) -> set[str]:
    """Every statement of a file: of functions and classes, the statements of their bodies."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for child in getattr(node, "body", []) if isinstance(node, (ast.Module, *SCOPES)) else []:
            if not isinstance(child, SCOPES) and not is_docstring(child):
                found.add(ast.dump(child))
    return found
