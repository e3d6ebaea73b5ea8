"""Does a program understand its command line? Its own parser answers; the program does not run.

    [["tools/clean.py", ["--all"], false]]    what is asked, on standard input
    [[null, [["all", "True"]]]]               the answer

One process judges all command lines, because importing PyTorch once takes longer than all of them.
A program is found to read its command line from its syntax tree: its `__main__` block calls a
function that, itself or through functions of other modules of the course, calls `parse_args`.

- If that is `main`, it is called, and ended as soon as the command line has been read.
- If it is a function for the purpose, as `read_options` in tools/validate_all.py, it is called and
  runs to its end: it also checks combinations of flags.

Flags for the fields of a configuration are then turned into that configuration, which checks the
values. Of a mention, true at the end of the example, no argument is required. The answer for each
command line is a list: the error or null, and (name, value) of each argument given.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from utils import command_line
from utils.command_line import OneLineParser, config_from_args
from utils.errors import CourseError

Values = list[tuple[str, str]]
Answer = tuple[str | None, Values]
DEPTH = 4  # calls from the __main__ block to parse_args
UNREADABLE = "takes no arguments"


class Parsed(BaseException):
    """Ends a `main` whose command line has been read."""


@dataclass(frozen=True)
class Reader:
    """The function that reads the command line, and the constants that it is handed on the way."""

    path: Path
    name: str
    constants: tuple[tuple[str, Any], ...] = ()


@dataclass
class Record:
    """What happened while a command line was read, and whether it was only a mention."""

    mention: bool = False
    parser: argparse.ArgumentParser | None = None
    options: argparse.Namespace | None = None


RECORD = Record()
CONFIGS: dict[Any, Any] = {}  # for a parser: the configuration whose fields are its flags


def main() -> None:
    """Judge the command lines on standard input, a list of (program, words, mention), as JSON."""
    root = Path(sys.argv[1]).resolve()
    asked = json.loads(sys.stdin.read())
    watch_parsers()
    printed = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        answers = [judge(root, *one) for one in asked]
    print(json.dumps(answers), file=printed)


def judge(root: Path, program: str, words: list[str], mention: bool) -> Answer:
    """The error in a command line, None if there is none, and the values that it gives."""
    reader = find_reader(root, root / program)
    if reader is None:
        by_itself = b"sys.argv" in (root / program).read_bytes()  # without a parser
        return (f"{program} {UNREADABLE}" if words and not by_itself else None), []
    RECORD.parser = RECORD.options = None
    RECORD.mention = mention
    sys.argv = [program, *words]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            read(reader, root)
    except Parsed:
        pass
    except SystemExit as leave:
        if leave.code in (0, None):  # --help
            return None, []
        last = (printed.getvalue().strip() or str(leave.code)).splitlines()[-1]
        return last.partition("error: ")[2] or last, []
    except CourseError as error:
        return str(error), []
    except ImportError as error:
        return f"{program} cannot be imported: {error}", []
    except Exception:
        if not mention:  # else what it needs was left out
            raise
    values = given_values(words)
    return wrong_value(values) or wrong_config(reader), values


def read(reader: Reader, root: Path) -> None:
    """Call the function that reads the command line."""
    function: Callable[..., Any] = getattr(load(reader.path), reader.name)
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    required = names[: len(names) - len(function.__defaults__ or ())]
    constants = {name: value for name, value in reader.constants if name in names}
    function(**dict.fromkeys(required, root), **constants)


@cache
def load(path: Path) -> ModuleType:
    """A module of the course by its path: some have no name by which they could be imported."""
    spec = importlib.util.spec_from_file_location(f"_dry_run_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# --- what a parser tells ---


def watch_parsers() -> None:
    """Let every parser note what it read, and end a `main` that called it."""
    for kind in (argparse.ArgumentParser, OneLineParser):
        kind.parse_args = noting(kind.parse_args)
    add = command_line.add_config_flags

    def add_noting(parser: Any, config_class: Any, *options: Any, **named: Any) -> None:
        CONFIGS[parser] = config_class
        add(parser, config_class, *options, **named)

    command_line.add_config_flags = add_noting


def noting(parse: Callable[..., argparse.Namespace]) -> Callable[..., argparse.Namespace]:
    """parse_args, made to note its result."""

    def parse_args(self: argparse.ArgumentParser, *arguments: Any) -> argparse.Namespace:
        self.allow_abbrev = False  # a page shows the whole name of a flag
        for action in actions_of(self) if RECORD.mention else ():
            action.required = False
        options = parse(self, *arguments)
        RECORD.parser, RECORD.options = self, options
        if sys._getframe(1).f_code.co_name == "main":
            raise Parsed
        return options

    return parse_args


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from actions_of(one)
        yield action


def given_values(words: list[str]) -> Values:
    """(name of the argument, value) of what was typed; defaults are left out."""
    typed = {part for word in words for part in (word, word.partition("=")[2])}
    found = []
    for name, value in vars(RECORD.options or argparse.Namespace()).items():
        values = value if isinstance(value, list) else [value]
        found += [(name, str(one)) for one in values if str(one) in typed]
    return found


def wrong_value(values: Values) -> str | None:
    """The value that is not one of "this|that" of the argument's help, if there is one."""
    assert RECORD.parser is not None
    for action in actions_of(RECORD.parser):
        choices = action.metavar.split("|") if isinstance(action.metavar, str) else []
        if len(choices) < 2 or any(one.isupper() for one in choices):
            continue
        for name, value in values:
            if name == action.dest and value not in choices:
                return f"{name} {value!r} is not one of: {', '.join(choices)}"
    return None


def wrong_config(reader: Reader) -> str | None:
    """What a configuration says of the flags that were given for its fields."""
    config_class = CONFIGS.get(RECORD.parser)
    if config_class is None or RECORD.options is None:
        return None
    new_config = getattr(load(reader.path), "new_config", None)  # train.py: --preset comes first
    try:
        if new_config is None or getattr(RECORD.options, "config", None):  # a file: FILE, perhaps
            config_from_args(RECORD.options, config_class())
        else:
            new_config(RECORD.options)
    except CourseError as error:
        return str(error)
    return None


# --- which function reads the command line ---


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def find_reader(root: Path, path: Path) -> Reader | None:
    """The function that reads a program's command line; None if the program ignores it."""
    blocks = [node for node in tree_of(path).body if isinstance(node, ast.If)]
    main_blocks = [node for node in blocks if "__main__" in ast.unparse(node.test)]
    found = (reader_below(root, path, node, (), DEPTH) for node in main_blocks)
    return next(filter(None, found), None)


def reader_below(
    root: Path, path: Path, node: ast.AST, constants: tuple[tuple[str, Any], ...], depth: int
) -> Reader | None:
    """The function that calls parse_args, among those that a piece of code calls or names."""
    if depth == 0:
        return None
    for name, more in named_functions(node):
        where, function = definition(root, path, name)
        if function is None:
            continue
        handed = (*constants, *more)
        if calls_parse_args(function):
            return Reader(where, function.name, handed)
        found = reader_below(root, where, function, handed, depth - 1)
        if found is not None:
            return found
    return None


def named_functions(node: ast.AST) -> Iterator[tuple[str, tuple[tuple[str, Any], ...]]]:
    """The plain names in a piece of code; for a call, with the constants given by keyword."""
    calls = {}
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
            calls[one.func.id] = tuple(
                (word.arg, word.value.value)
                for word in one.keywords
                if word.arg and isinstance(word.value, ast.Constant)
            )
    names = [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
    yield from ((name, calls.get(name, ())) for name in dict.fromkeys(names))


def calls_parse_args(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(one, ast.Attribute) and one.attr == "parse_args" for one in ast.walk(function)
    )


def definition(root: Path, path: Path, name: str) -> tuple[Path, ast.FunctionDef | None]:
    """Where a name of a module is defined as a function: there, or in a module of the course."""
    for node in tree_of(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return path, node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    there = file_of(root, path.parent, node.module)
                    return definition(root, there, alias.name) if there else (path, None)
    return path, None


def file_of(root: Path, folder: Path, module: str) -> Path | None:
    """The file of a module: beside the program, below the root, or in a lesson."""
    name = Path(*module.split(".")).with_suffix(".py")
    places = [folder, root, *sorted(root.glob("[0-9][0-9]_*"))]
    return next((place / name for place in places if (place / name).is_file()), None)
