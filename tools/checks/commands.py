"""Would the commands in the pages work? Each is dry-run: nothing is executed, nothing is written.

A command passes if

- its program exists: a target of the Makefile, a program of the course, an installed module, or
  one of the few foreign programs in FOREIGN;
- its parser accepts every flag and value (tools/checks/dry_run.py); `make` is judged by the Python
  command that its target runs; a mention in the running text may leave required arguments out;
- exercises, lessons and presets that it names exist, or new_exercise.py makes them on the page;
- each file that it reads is in the repository, is written by an earlier command of the same page
  (or docstring), is made by a command in MADE, or is the reader's own: a PLACEHOLDER, one of OWN,
  or outside the repository.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from tools.checks.command_lines import SHORT, Line, command_lines
from tools.checks.course_files import TESTED_FOLDERS, kept_files, lesson_folders
from tools.checks.dry_run import Answer
from tools.checks.result import Result
from utils.errors import CourseError
from utils.grader.exercises import find_exercise, lessons

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = {
    *("git", "cd", "tail", "head", "open", "export", "set", "source", "curl", "Get-Content"),
    *("apt-get", "exit"),
    "tensorboard",  # the page installs it on the line before
}
PYTHONS = {"python", "python3", "py", ".venv/bin/python", ".venv/Scripts/python"}
PIPS = {"pip", ".venv/bin/pip"}
MODULES = {  # of installed packages, with the options that the pages use
    "pip": {"install", "-e", "-r"},
    "pytest": {
        *("-q", "-v", "-k", "-x", "-s", "--solutions"),
        *("-n", "--maxprocesses", "--dist", "--no-loadscope-reorder"),
    },
    "jupyterlab": set(),
    "notebook": set(),
    "ruff": {"check", "format", "--check", "--fix"},
    "pyright": set(),
}
WITH_VALUE = {"-k", "-n", "--maxprocesses", "--dist"}  # the next word is not a file
READ_FILES = {"pytest", "jupyterlab", "notebook"}
TORCHRUN = {  # its options, and whether a value follows
    "--standalone": False,
    **dict.fromkeys(("--nproc-per-node", "--nnodes", "--node-rank", "--rdzv-id"), True),
    **dict.fromkeys(("--rdzv-backend", "--rdzv-endpoint", "--master-addr"), True),
}
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(?:\.\w+)?|\.\.\.|<[\w ]+>")  # RUN, T.safetensors, ...
OWN = {  # files that a reader is told to bring along
    *("my.txt", "my_text.txt", "my_poems.txt", "my_story.txt", "answers.py"),
    *("key.txt", "small.safetensors", "pg100.txt"),
}
MADE = ("data/tiny_shakespeare.txt", "09_capstone/runs/demo", "09_capstone/checkpoints/demo.")
FILE = re.compile(r"[\w./-]*/[\w./-]*|[\w-]+\.(?:py|md|txt|yaml|yml|json|ipynb|safetensors)")
INCOMPLETE = re.compile(r"expected (?:one|at least one|\d+) argument|is missing")
REQUIRED = {"tools/module_tests.py": "module"}  # though its parser would do without
OPERATORS = re.compile(r"&&|\|\||[|;&]")


@dataclass
class Asked:
    """A program of the course with its words, to be judged by its own parser."""

    line: Line
    program: str
    words: list[str]


@dataclass
class Page:
    """What the earlier commands of a page have written."""

    name: str = ""
    written: set[str] = field(default_factory=set)
    exercises: set[str] = field(default_factory=set)  # the names that new_exercise.py was given


def check_commands(root: Path, module: str | None) -> list[Result]:
    """Does every command in the pages, notebooks and docstrings exist, with its arguments?"""
    lines = list(command_lines(root, module))
    course = Course(root)
    problems = [(line, why) for line, why in course.problems_of(lines)]
    shown = tuple(f"{line.place}: {line.text}: {why}" for line, why in problems)
    pages = len({line.page for line in lines})
    return [Result("commands", not shown, f"{len(lines)} commands in {pages} files", shown)]


class Course:
    """What a command may refer to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = [path.as_posix() for path in kept_files(root)]
        folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}
        self.places = {*files, *folders}
        self.programs = [name for name in files if name.endswith(".py")]
        makefile = root / "Makefile"
        self.makefile = makefile.read_text(encoding="utf-8") if makefile.is_file() else ""

    @cached_property
    def lessons(self) -> list[str]:
        return lesson_folders(self.root)

    def problems_of(self, lines: list[Line]) -> Iterator[tuple[Line, str]]:
        """(line, what is wrong) for each command that would not work."""
        found: dict[Line, str] = {}
        asked: list[Asked] = []
        for line in lines:
            try:
                asked += self.read(line)
            except CourseError as error:
                found[line] = str(error)
        answers = dry_run(self.root, [(one.program, one.words, one.line.mention) for one in asked])
        page = Page()
        for one, (error, values) in zip(asked, answers, strict=True):
            if one.line.page != page.name:
                page = Page(one.line.page)
            why = self.judged(one, error, values, page)
            if why and one.line not in found:
                found[one.line] = why
        yield from ((line, found[line]) for line in lines if line in found)

    # --- what a line asks for ---

    def read(self, line: Line) -> Iterator[Asked]:
        """The programs of the course that a line starts. Raises CourseError if one is unknown."""
        try:
            words = shlex.split(portable(line.text))
        except ValueError as error:
            raise CourseError(f"the shell cannot read it: {error}") from None
        for command in commands_of(words):
            yield from self.programs_of(line, command)

    def programs_of(self, line: Line, words: list[str]) -> Iterator[Asked]:
        """The programs of the course that one command starts."""
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        first, *rest = words or ["export"]
        if first in FOREIGN or first.startswith("$env:") or first == ".venv/bin/activate":
            return
        if first == "make":
            yield from self.target(line, rest)
        elif first in PYTHONS:
            yield from self.python(line, rest)
        elif first in PIPS:
            self.module("pip", rest)
        elif first == "torchrun":
            yield from self.python(line, after_options(rest))
        elif first in ("sh", "bash"):
            self.require_file(rest[0])
        elif SHORT.match(line.text):
            yield Asked(line, self.only_program(first), rest)
        else:
            raise CourseError(f"unknown program {first!r}")

    def target(self, line: Line, words: list[str]) -> Iterator[Asked]:
        """What a target of the Makefile runs, with the variables that are set."""
        settings = dict(word.split("=", 1) for word in words if "=" in word)
        for name in [word for word in words if "=" not in word]:
            recipe = self.recipe(name)
            for variable in settings:
                if f"$({variable})" not in recipe and f"\n{variable} ?=" not in self.makefile:
                    raise CourseError(f"make {name} does not use {variable}")
            for command in recipe.splitlines():
                text = expanded(command, settings)
                if text.startswith("python "):
                    yield from self.python(line, shlex.split(text)[1:])

    def recipe(self, target: str) -> str:
        """The commands of a target."""
        pattern = rf"^{re.escape(target)}:.*\n((?:\t.*\n?)+)"
        found = re.search(pattern, self.makefile, re.MULTILINE)
        if found is None:
            raise CourseError(f"no target {target!r} in the Makefile")
        return found[1]

    def python(self, line: Line, words: list[str]) -> Iterator[Asked]:
        """What a Python command starts: a file, or a module after -m."""
        if words and words[0] == "-i":
            words = words[1:]
        if not words or words[0] == "-c":
            return
        if words[0] == "-m":
            name, *rest = words[1:]
            program = f"{name.replace('.', '/')}.py"
            if program not in self.places:
                self.module(name, rest)
                return
        else:
            program, rest = words[0], words[1:]
            self.require_file(program)
        yield Asked(line, program, [word for word in rest if word != "..."])

    def module(self, name: str, words: list[str]) -> None:
        """Raise CourseError unless a module is known, with its options and its files."""
        if name not in MODULES:
            raise CourseError(f"no module {name} in the course, nor among those that it installs")
        before = ""
        for word in words:
            if word.startswith("-") and word not in MODULES[name]:
                raise CourseError(f"{word} is not among the known options of {name}")
            is_file = name in READ_FILES and not word.startswith("-") and before not in WITH_VALUE
            if is_file and not self.has(word.partition("::")[0]):
                raise CourseError(f"{word} does not exist")
            before = word

    def only_program(self, name: str) -> str:
        """The program of this name in any folder."""
        found = [one for one in self.programs if one.endswith(f"/{name}")]
        if len(found) != 1:
            raise CourseError(f"{len(found)} programs are called {name}; write the folder as well")
        return found[0]

    def require_file(self, name: str) -> None:
        if name not in self.places or not (self.root / name).is_file():
            moved = [one for one in self.places if PurePosixPath(one).name == Path(name).name]
            where = f"; {moved[0]} does" if len(moved) == 1 else ""
            raise CourseError(f"{name} does not exist{where}")

    def has(self, name: str) -> bool:
        return name.removeprefix("./").rstrip("/") in self.places

    # --- what its parser answers ---

    def judged(
        self, one: Asked, error: str | None, values: list[tuple[str, str]], page: Page
    ) -> str | None:
        """What is wrong with a command, in the light of what its parser said."""
        if error and not (one.line.mention and INCOMPLETE.search(error)):
            return error.removesuffix("; --help lists the options")
        required = REQUIRED.get(one.program)
        if required and not one.line.mention and not dict(values).get(required):
            return f"{required} is missing"
        page.written |= {value for name, value in values if name.startswith("out")}
        if one.program == "tools/new_exercise.py":
            page.exercises |= {value for name, value in values if name == "name"}
        for name, value in values:
            if value in page.exercises:
                continue
            why = self.wrong_name(one, name, value) or self.wrong_path(name, value, page)
            if why:
                return why
        return None

    def wrong_name(self, one: Asked, name: str, value: str) -> str | None:
        """The message of the program about a value that its parser leaves to it."""
        check = NAMES.get((one.program, name))
        if check is None or not value:
            return None
        try:
            check(self, value)
        except CourseError as error:
            return str(error).partition("; choose")[0]
        return None

    def wrong_path(self, name: str, value: str, page: Page) -> str | None:
        """A file that is read and that a reader would not have."""
        if name.startswith("out") or not FILE.fullmatch(value):
            return None
        parts = PurePosixPath(value).parts
        known = self.has(value) or value in OWN or value.startswith((*MADE, "../", "/"))
        if known or any(PLACEHOLDER.fullmatch(part) for part in parts):
            return None
        if any(PurePosixPath(value).is_relative_to(place) for place in page.written):
            return None
        return f"{value} does not exist, and no earlier command of the page writes it"

    def check_lesson(self, value: str) -> None:
        if value.rstrip("/") not in [*self.lessons, *TESTED_FOLDERS]:
            raise CourseError(f"unknown lesson {value!r}")

    def check_exercise(self, value: str) -> None:
        if not re.match(r"\d+_", value):
            find_exercise(value, lessons(self.root))
        else:
            self.check_lesson(value)

    def check_command(self, value: str) -> None:
        source = (self.root / "tools" / "learn.py").read_text(encoding="utf-8")
        if f'\n    "{value}": do_' not in source:
            raise CourseError(f"unknown command {value!r}")


NAMES: dict[tuple[str, str], Callable[[Course, str], None]] = {
    ("tools/learn.py", "command"): Course.check_command,
    ("tools/learn.py", "what"): Course.check_exercise,
    ("tools/module_tests.py", "module"): Course.check_lesson,
    ("tools/mutation.py", "lesson"): Course.check_lesson,
    ("tools/new_exercise.py", "lesson"): Course.check_lesson,
}


def dry_run(root: Path, asked: list[tuple[str, list[str], bool]]) -> list[Answer]:
    """The answers of tools/checks/dry_run.py, in a process of its own; each question once."""
    keys = [json.dumps(one) for one in asked]
    questions = list(dict.fromkeys(keys))
    program = "from tools.checks.dry_run import main; main()"
    command = [sys.executable, "-c", program, str(root)]
    given = f"[{', '.join(questions)}]"
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise CourseError(f"the dry run failed: {last}")
    answers = dict(zip(questions, json.loads(done.stdout), strict=True))
    return [answers[key] for key in keys]


def portable(text: str) -> str:
    """A command for Windows, with slashes."""
    return text.replace("\\", "/") if text.startswith((".venv\\", "python tools\\")) else text


def commands_of(words: list[str]) -> Iterator[list[str]]:
    """The commands of a line, split at pipes and the like; where output goes is left out."""
    command: list[str] = []
    for word in words:
        if OPERATORS.fullmatch(word):
            yield command
            command = []
        else:
            command.append(word)
    if ">" in command:
        command = command[: command.index(">")]
    yield command


def after_options(words: list[str]) -> list[str]:
    """What torchrun starts. Raises CourseError for an unknown option."""
    while words and words[0].startswith("-"):
        option, _, value = words[0].partition("=")
        if option not in TORCHRUN:
            raise CourseError(f"{option} is not among the known options of torchrun")
        words = words[2 if TORCHRUN[option] and not value else 1 :]
    return words


def expanded(recipe: str, settings: dict[str, str]) -> str:
    """A line of a recipe as the shell gets it; variables that are not set are empty."""
    text = recipe.strip().lstrip("@").removesuffix("|| exit 0").strip()
    text = text.replace("$(EXEC)", "").strip()
    text = re.sub(r"^\$\((?:PY|PYTHON)\)", "python", text)
    choice = r"\$\(or \$\((\w+)\),\$\((\w+)\)\)"
    text = re.sub(choice, lambda m: settings.get(m[1]) or settings.get(m[2], ""), text)
    return re.sub(r"\$\((\w+)\)", lambda m: settings.get(m[1], ""), text)
