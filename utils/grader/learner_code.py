"""Read and load a learner's file, which may contain anything.

The file is loaded by path and from its source, never through the import system: its cached bytecode
would be stale when a file is saved twice within one second. Any failure becomes one message.

A *stub* is a function whose body has not been touched: an optional docstring, then
`raise NotImplementedError("Exercise 1.3: causal_mask")`; in an exercise of the kind repair, the
code to repair follows the `raise`. Only the syntax tree decides, so comments and blank lines do not
matter.
"""

import ast
import builtins
import io
import linecache
import re
import sys
import traceback
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType

from utils.errors import CourseError
from utils.grader.exercises import read_lesson
from utils.grader.state_words import LOADING, in_one_line

STUB = re.compile(r"Exercise (\d+\.\d+)\b")
LONGEST_MESSAGE = 300  # characters of an exception's message


class TimeUp(BaseException):  # so that a learner's `except Exception` cannot catch it
    """Raised inside the learner's code when its time limit is up; see utils/grader/guard.py."""


class LoadError(Exception):
    """A learner's file cannot be loaded; the message gives the reason in one or two lines."""


@dataclass(frozen=True)
class Stub:
    """An untouched function or method of an exercise; lines count from 1."""

    exercise: str  # "1.3"
    name: str  # "causal_mask", or "MultiHeadAttention.forward"
    line: int


@dataclass(frozen=True)
class Source:
    """A snapshot of a learner's file: its bytes and their syntax tree."""

    path: Path
    data: bytes
    tree: ast.Module
    bodies: Mapping[str, list[str]] = field(default_factory=dict)  # of repairs: see repair_bodies

    def stubs(self) -> list[Stub]:
        """The untouched stubs, in the order of the file."""
        found = [(as_stub(node, self.bodies), name, node) for name, node in functions(self.tree)]
        return [Stub(exercise, name, node.lineno) for exercise, name, node in found if exercise]

    def function_names(self) -> list[str]:
        """Every top-level function and every method, by qualified name: "Model.forward"."""
        return [name for name, _ in functions(self.tree)]

    def stub_at(self, line: int) -> Stub | None:
        """The untouched stub that contains a line, if there is one."""
        enclosing = [
            (node.lineno, name, node)
            for name, node in functions(self.tree)
            if node.lineno <= line <= (node.end_lineno or node.lineno)
        ]
        if not enclosing:
            return None
        first, name, node = max(enclosing, key=lambda found: found[0])
        exercise = as_stub(node, self.bodies)
        return Stub(exercise, name, first) if exercise else None

    def is_as_given(self, exercise: str, stubs: Sequence[str]) -> bool:
        """Whether a repair still is the code that was handed out, its `raise` line aside."""
        bodies = {name: statements(node) for name, node in functions(self.tree)}
        given = self.bodies.get(exercise)
        return given is not None and all(dumped(bodies.get(stub, [])) == given for stub in stubs)

    def raises_at(self, line: int) -> bool:
        """Whether there is a `raise` statement on this line."""
        return any(
            isinstance(node, ast.Raise) and node.lineno <= line <= (node.end_lineno or line)
            for node in ast.walk(self.tree)
        )

    def uses(
        self, names: Sequence[str], modules: Collection[str], given: Collection[str] = ()
    ) -> str:
        """The first of these modules that one of the functions or classes `names` uses, else "".

        `given` are methods that the course wrote, "Model.__init__": what they use does not count.
        """
        imported: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                imported |= {alias.asname or alias.name: str(node.module) for alias in node.names}
            elif isinstance(node, ast.Import):
                own = [alias for alias in node.names if alias.name in modules]
                imported |= {alias.asname or alias.name: alias.name for alias in own}
        bodies = [
            node
            for node in self.tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names
        ]
        written = [
            part
            for body in bodies
            for part in ast.iter_child_nodes(body)
            if f"{body.name}.{getattr(part, 'name', '')}" not in given
        ]
        used = [
            node.id for part in written for node in ast.walk(part) if isinstance(node, ast.Name)
        ]
        return next((imported[name] for name in used if name in imported), "")

    def raised(self, error: BaseException) -> int | None:
        """The line of this file whose `raise` statement raised this error; None otherwise."""
        file, line = innermost(error.__traceback__)
        return line if file == str(self.path) and self.raises_at(line) else None


def functions(tree: ast.Module) -> list[tuple[str, ast.FunctionDef]]:
    """Every top-level function and every method of a top-level class, by qualified name."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.append((node.name, node))
        elif isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            found += [(f"{node.name}.{method.name}", method) for method in methods]
    return found


def as_stub(node: ast.FunctionDef, bodies: Mapping[str, list[str]] | None = None) -> str:
    """The exercise ("1.3") if this function is an untouched stub, else "".

    `bodies` holds the code that follows the `raise` in exercises of the kind repair.
    """
    match statements(node):
        case [
            ast.Raise(
                exc=ast.Call(
                    func=ast.Name(id="NotImplementedError"), args=[ast.Constant(value=str(text))]
                )
            ),
            *rest,
        ]:
            found = STUB.match(text)
            expected = (bodies or {}).get(found[1], []) if found else []
            return found[1] if found and dumped(rest) == expected else ""
    return ""


def statements(node: ast.FunctionDef) -> list[ast.stmt]:
    """The body of a function without its docstring."""
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def dumped(body: Sequence[ast.stmt]) -> list[str]:
    """Statements as text that does not depend on their layout, nor on comments."""
    return [ast.dump(one) for one in body]


def repair_bodies(path: Path) -> dict[str, list[str]]:
    """The code to repair, as syntax trees, by exercise, from the yaml beside this file."""
    try:
        lesson = read_lesson(path.resolve().parents[1])
    except CourseError:  # a file outside of any lesson
        return {}
    return {
        exercise.id: dumped(ast.parse(exercise.body).body)
        for exercise in lesson.exercises
        if exercise.body
    }


def read_source(path: Path) -> Source:
    """Read and parse a learner's file. Raises LoadError."""
    name = path.name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise LoadError(missing_file(path)) from None
    except OSError as error:
        raise LoadError(f"{name} cannot be read: {error.strerror}") from None
    if b"\0" in data:
        raise LoadError(f"{name} contains NUL bytes; save it as UTF-8 text")
    try:
        with warnings.catch_warnings(action="ignore"):  # an invalid escape in a string
            return Source(path, data, ast.parse(data, str(path)), repair_bodies(path))
    except SyntaxError as error:
        raise LoadError(syntax_message(name, error)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise LoadError(f"{name} cannot be read as Python: {error}") from None


def missing_file(path: Path) -> str:
    """What to do about a missing exercises.py; an editor may still have its text."""
    place = "/".join(path.parts[-3:])
    return (
        f"{path.name} is missing: save it again from your editor, or start over with "
        f"git checkout {place}"
    )


def syntax_message(name: str, error: SyntaxError) -> str:
    """Where parsing stopped, with the line itself."""
    if "codec" in error.msg or "encoding" in error.msg:
        return f"{name} is not UTF-8 text: {error.msg}"
    line = (error.text or "").strip()
    return f"{name}, line {error.lineno}: {error.msg}" + (f"\n    {line}" if line else "")


def load(source: Source) -> ModuleType:
    """Run a learner's file and return it as a module. Raises LoadError for any error in it.

    Only interruptions from outside pass through: Ctrl-C, and the watchdog's TimeUp.
    `optimize=0` keeps the learner's assert statements, even under PYTHONOPTIMIZE.
    """
    path = source.path
    module = ModuleType(f"_learner_{path.resolve().parents[1].name}_{path.stem}")
    module.__file__ = str(path)
    module.__dict__["__builtins__"] = builtins
    sys.modules[module.__name__] = module  # dataclasses look up their module here
    remember_lines(source)
    try:
        with warnings.catch_warnings(action="ignore"):
            code = compile(source.data, str(path), "exec", dont_inherit=True, optimize=0)
            exec(code, module.__dict__)
    except BaseException as error:
        if isinstance(error, TimeUp) or is_interruption(error, source):
            raise
        raise LoadError(f"{path.name} fails to load: {describe(error, path)}") from None
    return module


def remember_lines(source: Source) -> None:
    """Let tracebacks quote the file as it was when it was loaded, not as it is now."""
    lines = lines_of(source.data.decode("utf-8", "replace"))
    linecache.cache[str(source.path)] = (len(source.data), None, lines, str(source.path))


def lines_of(text: str) -> list[str]:
    """Lines with their ends, as Python counts them; str.splitlines also splits at form feeds."""
    return io.StringIO(text, newline="").readlines()


def is_interruption(error: BaseException, source: Source) -> bool:
    """Whether Ctrl-C was pressed; a learner's own `raise KeyboardInterrupt` does not count."""
    return isinstance(error, KeyboardInterrupt) and source.raised(error) is None


def describe(error: BaseException, path: Path, function: str = "") -> str:
    """An exception in one or two lines: Python's message, and the learner's line.

    That is the line of `function`, if the error passed through it, and not of a helper it called.
    """
    plain = traceback.TracebackException(type(error), error, None)
    plain.__notes__ = None
    message = " ".join([*plain.format_exception_only()][-1].split())
    if LOADING.search(message):
        message = in_one_line(error)
    if len(message) > LONGEST_MESSAGE:
        message = message[: LONGEST_MESSAGE - 3] + "..."
    line = last_line_in(error.__traceback__, path, function)
    if line is None:
        return message
    text = linecache.getline(str(path), line).strip()
    return f"line {line}: {message}" + (f"\n    {text}" if text else "")


def last_line_in(trace: TracebackType | None, path: Path, function: str = "") -> int | None:
    """The last line of this file in a traceback, in `function` if it is there; None if in none."""
    frames = [
        (frame.f_code.co_name, line)
        for frame, line in traceback.walk_tb(trace)
        if frame.f_code.co_filename == str(path)
    ]
    own = [line for name, line in frames if name == function.rpartition(".")[2]]
    lines = own or [line for _, line in frames]
    return lines[-1] if lines else None


def innermost(trace: TracebackType | None) -> tuple[str, int]:
    """File and line of the innermost Python frame of a traceback."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(trace)]
    return frames[-1] if frames else ("", 0)


def stub_that_raised(error: BaseException, source: Source) -> Stub | None:
    """The untouched stub that raised this error; None if the error came from elsewhere."""
    line = source.raised(error)
    if line is None or not isinstance(error, NotImplementedError):
        return None
    return source.stub_at(line)


def leftover_raise(error: BaseException, source: Source) -> int | None:
    """The line of a stub's `raise` that is still there although its function was edited."""
    is_ours = isinstance(error, NotImplementedError) and STUB.match(str(error)) is not None
    return source.raised(error) if is_ours else None
