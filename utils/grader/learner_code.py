"""A learner's file, read and loaded with care: it may hold anything.

It is loaded by path and from its source, never through the import system, whose cached bytecode
would answer for two saves within one second. Whatever goes wrong on the way is one message.

A *stub* is a function that still is as it was handed out: its body is a docstring, perhaps, and
`raise NotImplementedError("Exercise 1.3: causal_mask")`. Only its syntax tree says so, so comments
and blank lines do not matter.
"""

import ast
import builtins
import io
import linecache
import re
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType

STUB = re.compile(r"Exercise (\d+\.\d+)\b")


class TimeUp(BaseException):  # no `except Exception` of a learner may catch it
    """Raised inside the learner's code when it has run for too long; see utils/grader/guard.py."""


class LoadError(Exception):
    """A learner's file cannot be loaded; the message says why and where, in one or two lines."""


@dataclass(frozen=True)
class Stub:
    """A function or method of an exercise that is still to do; lines count from 1."""

    exercise: str  # "1.3"
    name: str  # "causal_mask", or "MultiHeadAttention.forward"
    line: int


@dataclass(frozen=True)
class Source:
    """A learner's file as it was at one moment: its bytes and their syntax tree."""

    path: Path
    data: bytes
    tree: ast.Module

    def stubs(self) -> list[Stub]:
        """The stubs that nobody has touched, in the order of the file."""
        found = [(as_stub(node), name, node) for name, node in functions(self.tree)]
        return [Stub(exercise, name, node.lineno) for exercise, name, node in found if exercise]

    def stub_at(self, line: int) -> Stub | None:
        """The untouched stub around a line, if there is one."""
        around = [
            (node.lineno, name, node)
            for name, node in functions(self.tree)
            if node.lineno <= line <= (node.end_lineno or node.lineno)
        ]
        if not around:
            return None
        first, name, node = max(around, key=lambda found: found[0])
        exercise = as_stub(node)
        return Stub(exercise, name, first) if exercise else None

    def raises_at(self, line: int) -> bool:
        """Whether a `raise` statement stands on this line."""
        return any(
            isinstance(node, ast.Raise) and node.lineno <= line <= (node.end_lineno or line)
            for node in ast.walk(self.tree)
        )

    def raised(self, error: BaseException) -> int | None:
        """The line of this file whose own `raise` made this error; None if something else did."""
        file, line = innermost(error.__traceback__)
        return line if file == str(self.path) and self.raises_at(line) else None


def functions(tree: ast.Module) -> list[tuple[str, ast.FunctionDef]]:
    """Every function at the top and every method of a class at the top, by its full name."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.append((node.name, node))
        elif isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            found += [(f"{node.name}.{method.name}", method) for method in methods]
    return found


def as_stub(node: ast.FunctionDef) -> str:
    """The exercise ("1.3") whose untouched stub this function is, "" if it is none."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    match body:
        case [
            ast.Raise(
                exc=ast.Call(
                    func=ast.Name(id="NotImplementedError"), args=[ast.Constant(value=str(text))]
                )
            )
        ]:
            found = STUB.match(text)
            return found[1] if found else ""
    return ""


def read_source(path: Path) -> Source:
    """Read and parse a learner's file. Raises LoadError."""
    name = path.name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        place = "/".join(path.parts[-3:])
        raise LoadError(f"{name} is missing; git checkout {place} brings it back") from None
    except OSError as error:
        raise LoadError(f"{name} cannot be read: {error.strerror}") from None
    if b"\0" in data:
        raise LoadError(f"{name} holds NUL bytes: save it as UTF-8 text")
    try:
        with warnings.catch_warnings(action="ignore"):  # an odd escape in a string harms nobody
            return Source(path, data, ast.parse(data, str(path)))
    except SyntaxError as error:
        raise LoadError(syntax_message(name, error)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise LoadError(f"{name} cannot be read as Python: {error}") from None


def syntax_message(name: str, error: SyntaxError) -> str:
    """Where Python stopped understanding, with the line itself."""
    if "codec" in error.msg or "encoding" in error.msg:
        return f"{name} is not UTF-8 text: {error.msg}"
    line = (error.text or "").strip()
    return f"{name}, line {error.lineno}: {error.msg}" + (f"\n    {line}" if line else "")


def load(source: Source) -> ModuleType:
    """Run a learner's file and return it as a module. Raises LoadError for whatever it raises.

    Only what comes from outside passes: Ctrl-C, and the watchdog of an endless loop.
    """
    path = source.path
    module = ModuleType(f"_learner_{path.resolve().parents[1].name}_{path.stem}")
    module.__file__ = str(path)
    module.__dict__["__builtins__"] = builtins
    sys.modules[module.__name__] = module  # dataclasses look their module up
    remember_lines(source)
    try:
        with warnings.catch_warnings(action="ignore"):
            exec(compile(source.data, str(path), "exec"), module.__dict__)
    except BaseException as error:
        if isinstance(error, TimeUp) or is_interruption(error, source):
            raise
        raise LoadError(f"{path.name} stops while it loads, {describe(error, path)}") from None
    return module


def remember_lines(source: Source) -> None:
    """Let tracebacks quote the file as it was when it was loaded."""
    lines = lines_of(source.data.decode("utf-8", "replace"))
    linecache.cache[str(source.path)] = (len(source.data), None, lines, str(source.path))


def lines_of(text: str) -> list[str]:
    """Lines with their ends as Python counts them; str.splitlines cuts at form feeds as well."""
    return io.StringIO(text, newline="").readlines()


def is_interruption(error: BaseException, source: Source) -> bool:
    """Whether Ctrl-C was pressed: a learner's own `raise KeyboardInterrupt` is none."""
    return isinstance(error, KeyboardInterrupt) and source.raised(error) is None


def describe(error: BaseException, path: Path) -> str:
    """An exception in one or two lines: what Python said, and the learner's own line."""
    plain = traceback.TracebackException(type(error), error, None)
    plain.__notes__ = None
    said = " ".join([*plain.format_exception_only()][-1].split())
    said = said if len(said) <= 300 else said[:297] + "..."
    line = last_line_in(error.__traceback__, path)
    if line is None:
        return said
    text = linecache.getline(str(path), line).strip()
    return f"line {line}: {said}" + (f"\n    {text}" if text else "")


def last_line_in(trace: TracebackType | None, path: Path) -> int | None:
    """The last line of this file that a traceback went through, None if it did not."""
    lines = [
        line for frame, line in traceback.walk_tb(trace) if frame.f_code.co_filename == str(path)
    ]
    return lines[-1] if lines else None


def innermost(trace: TracebackType | None) -> tuple[str, int]:
    """File and line of the innermost Python frame of a traceback."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(trace)]
    return frames[-1] if frames else ("", 0)


def stub_behind(error: BaseException, source: Source) -> Stub | None:
    """The untouched stub that raised this error, None if the error comes from anywhere else."""
    line = source.raised(error)
    if line is None or not isinstance(error, NotImplementedError):
        return None
    return source.stub_at(line)


def left_raise(error: BaseException, source: Source) -> int | None:
    """The line of a stub's `raise` that was left standing in a function that was begun."""
    is_ours = isinstance(error, NotImplementedError) and STUB.match(str(error)) is not None
    return source.raised(error) if is_ours else None
