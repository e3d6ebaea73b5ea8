"""Scaffold an exercise in its lesson: stub, solution, list entry, test and misconception.

    python tools/new_exercise.py 02_multi_head split_heads
    python tools/new_exercise.py 02_multi_head predict_shape --kind predict --title "The shape"
    python tools/new_exercise.py 01_attention entropy --arguments "(weights: Tensor) -> Tensor"
    python tools/new_exercise.py 05_model tie_weights --core

The exercise is added after the lesson's last one; a lesson without exercises gets its files. If a
module of the lesson defines the function, its arguments are taken from there. Every text to write
is marked TODO, and the new exercise counts as "to do" at once. Nothing that exists is replaced.
00_setup/contributing.md goes through the rest.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import ast
import builtins
import keyword
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tools.checks.course_files import lesson_folders
from utils.command_line import OneLineParser
from utils.errors import CourseError, UsageError, pick
from utils.files import atomic_write_text
from utils.grader.definitions import binds, parse
from utils.grader.exercises import KINDS, ROOT, Lesson, how_to, read_lesson
from utils.grader.learner_code import lines_of
from utils.grader.stubs import TODO, add_definition

LIST = "exercises/exercises.yaml"
STUBS = "exercises/exercises.py"
SOLUTIONS = "exercises/solutions.py"
IMPORTED = {"Tensor", *dir(builtins)}  # what the annotations of a stub may use
ARGUMENTS = {
    "write": "(x: Tensor) -> Tensor",
    "repair": "(x: Tensor) -> Tensor",
    "predict": "() -> list[float]",
    "read": "() -> dict[str, str]",
}
RESULTS = {  # of the solution, and of the misconception; FIRST is the first argument
    "write": ("FIRST", "-FIRST"),
    "repair": ("FIRST", "-FIRST"),
    "predict": ("[0.5, 0.5]", "[1.0, 0.0]"),
    "read": ('{"TODO": "A"}', '{"TODO": "B"}'),
}
NEW_LIST = "# The exercises of lesson {number}; utils/grader/exercises.py explains the keys.\n"
NEW_STUBS = '''"""Exercises of lesson {number}: {topic}. Replace each `raise` with your own code.

    python {folder}/exercises/exercises.py    check them all
    make watch                                check on every save, one after the other
    make hint EX={first}                      one more hint each time, up to three

The docstrings say what is wanted, theory.md why. Later exercises may use earlier ones.
"""

from torch import Tensor

from utils.grader.check import check_file


if __name__ == "__main__":
    check_file(__file__)
'''
NEW_SOLUTIONS = '''"""Solutions of lesson {number}. Yours may look different: the result counts."""

from torch import Tensor
'''
NEW_TESTS = '''"""What the exercises of lesson {number} must compute."""

import torch

from utils.grader.{module} import {helper}
'''
NEW_MISCONCEPTIONS = '''"""Common wrong answers in lesson {number}; a docstring is the diagnosis."""

from torch import Tensor

MISCONCEPTIONS = {{}}
'''
ENTRY = """- id: "{id}"
  title: "{title}"
  kind: {kind}
  stubs: [{name}]
  minutes: 10
  difficulty: {difficulty}
{core}  why: "TODO: why it matters, in one sentence."
  hints:
    - "TODO: a question that leads to the first step."
    - "TODO: one row worked out by hand, with numbers."
    - "TODO: the names of the tools; never the code."
{body}  judge:
    - test_{name}
"""
BUG = "return -FIRST  # TODO: plausible code with one bug"
DEFINITION = '''def {name}{arguments}:
    """Exercise {id}: TODO what it computes, in one sentence.

    TODO: what it takes and returns, with shapes, and all that the tests require.
    """
    {body}
'''
TESTS = {
    "write": """x = torch.randn(3, 5, 4)
expect_equal(ex.{name}({call}), x, what="TODO: the name of the result (B, T, d)")""",
    "repair": """x = torch.randn(3, 5, 4)
expect_equal(ex.{name}({call}), x, what="TODO: the name of the result (B, T, d)")""",
    "predict": 'expect_prediction(ex.{name}(), [0.5, 0.5], "TODO: the name of the row")',
    "read": 'expect_letters(ex.{name}(), {{"TODO": "A"}}, "TODO: the panels")',
}
HELPERS = {
    "write": ("feedback", "expect_equal"),
    "repair": ("feedback", "expect_equal"),
    "predict": ("feedback", "expect_prediction"),
    "read": ("readings", "expect_letters"),
}


@dataclass(frozen=True)
class Scaffold:
    """The exercise to add."""

    id: str
    name: str
    kind: str
    title: str
    arguments: str  # with the type of the result: "(x: Tensor) -> Tensor"
    difficulty: int
    core: bool = False  # whether the core needs it

    @property
    def call(self) -> str:
        """The arguments of the call in its test: x, and None for the other required ones."""
        node = function_of(f"def f{self.arguments}: ...")
        required = len(node.args.posonlyargs + node.args.args) - len(node.args.defaults)
        return ", ".join(["x", *["None"] * (required - 1)] if required else [])

    def fill(self, text: str) -> str:
        """A text with the name of the first argument in it."""
        arguments = function_of(f"def f{self.arguments}: ...").args
        names = [one.arg for one in arguments.posonlyargs + arguments.args]
        return text.replace("FIRST", names[0] if names else "1")


def main(root: Path = ROOT) -> int:
    """Write the parts of a new exercise, and print what to do next."""
    parser = OneLineParser(description="Scaffold an exercise in its lesson.")
    parser.add_argument("lesson", help="the lesson's folder: 02_multi_head")
    parser.add_argument("name", help="the function to write: split_heads")
    kinds = "|".join(KINDS)
    parser.add_argument("--kind", default="write", metavar=kinds, help="default: write")
    parser.add_argument("--title", default="", help="default: made from the name")
    parser.add_argument(
        "--arguments",
        default="",
        metavar="TEXT",
        help="of the function, with its result: '(weights: Tensor) -> Tensor'",
    )
    parser.add_argument("--core", action="store_true", help="it belongs to the core of the lesson")
    options = parser.parse_args()
    pick(options.kind, KINDS, "kind")
    folder = root / pick(options.lesson.rstrip("/\\"), lesson_folders(root), "lesson")
    lesson = existing_lesson(folder)
    scaffold = plan(folder, lesson, options.name, options.kind, options.title, options.arguments)
    scaffold = replace(scaffold, core=options.core)
    texts = files_of(folder, lesson, scaffold)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, text)
    read_lesson(folder)
    print("\n".join(next_steps(root, scaffold, texts)))
    return 0


def existing_lesson(folder: Path) -> Lesson | None:
    """The lesson; None if it has no exercises yet. Raises CourseError if it has half of them."""
    if (folder / LIST).exists():
        return read_lesson(folder)
    left = [name for name in (STUBS, SOLUTIONS) if (folder / name).exists()]
    if left:
        raise CourseError(f"{folder.name} has {left[0]}, but no {LIST}: write one, or delete it")
    return None


def plan(
    folder: Path, lesson: Lesson | None, name: str, kind: str, title: str, arguments: str = ""
) -> Scaffold:
    """The exercise to add. Raises UsageError for a name that cannot be used or is taken."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot be the name of a function")
    taken = [one.id for one in lesson.exercises if name in one.names] if lesson else []
    if taken:
        raise UsageError(f"{folder.name} has {name} already: it is exercise {taken[0]}")
    count = len(lesson.exercises) if lesson else 0
    return Scaffold(
        id=f"{int(folder.name[:2])}.{count + 1}",
        name=name,
        kind=kind,
        title=" ".join(title.split()) or name.replace("_", " ").capitalize(),
        arguments=read_arguments(arguments) or arguments_of_reference(folder, name, kind),
        difficulty=lesson.exercises[-1].difficulty if lesson else 1,
    )


def read_arguments(text: str) -> str:
    """Arguments as they were typed. Raises UsageError unless a stub can have them."""
    try:
        usable = not text or can_be_copied(function_of(f"def f{text}: ..."))
    except (SyntaxError, ValueError, AssertionError):
        usable = False
    if not usable:
        names = "Tensor and Python's own types"
        raise UsageError(f"arguments {text!r} must look like '(x: Tensor) -> Tensor', with {names}")
    return text


def arguments_of_reference(folder: Path, name: str, kind: str) -> str:
    """The arguments of the function in the lesson's own modules, else those of its kind."""
    if kind in ("write", "repair"):
        for path in sorted(folder.glob("*.py")):
            tree = parse(path.read_text(encoding="utf-8"))
            for node in tree.body if tree else []:
                if isinstance(node, ast.FunctionDef) and node.name == name and can_be_copied(node):
                    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
                    return f"({ast.unparse(node.args)}){result}"
    return ARGUMENTS[kind]


def can_be_copied(node: ast.FunctionDef) -> bool:
    """Whether the arguments of a function use only names that a stub can use."""
    parts = [*ast.walk(node.args), *(ast.walk(node.returns) if node.returns else [])]
    return {one.id for one in parts if isinstance(one, ast.Name)} <= IMPORTED


def function_of(text: str) -> ast.FunctionDef:
    """The syntax tree of a text that is one function."""
    [node] = ast.parse(text).body
    assert isinstance(node, ast.FunctionDef)
    return node


# --- the files ---


def files_of(folder: Path, lesson: Lesson | None, scaffold: Scaffold) -> dict[Path, str]:
    """The new text of each file. Raises CourseError if one has a part of the exercise already."""
    topic = folder.name.partition("_")[2]
    module, helper = HELPERS[scaffold.kind]
    words = {"number": folder.name[:2], "folder": folder.name, "topic": topic.replace("_", " ")}
    words |= {"first": scaffold.id, "module": module, "helper": helper}
    tests = lesson.test_file() if lesson else folder / "tests" / f"test_{topic}_exercises.py"
    wrong = folder / "tests" / f"{topic}_misconceptions.py"
    wrong = lesson.misconceptions_file() if lesson else wrong
    starts = {
        folder / LIST: NEW_LIST.format(**words),
        folder / STUBS: NEW_STUBS.format(**words),
        folder / SOLUTIONS: NEW_SOLUTIONS.format(**words),
        tests: NEW_TESTS.format(**words),
        wrong: NEW_MISCONCEPTIONS.format(**words),
    }
    old = {path: text_of(path, start, lesson) for path, start in starts.items()}
    parts = {
        folder / STUBS: scaffold.name,
        folder / SOLUTIONS: scaffold.name,
        tests: f"test_{scaffold.name}",
        wrong: f"wrong_{scaffold.name}",
    }
    for path, name in parts.items():
        refuse_existing(path, old[path], name)
    new = {
        folder / LIST: old[folder / LIST].rstrip("\n") + "\n\n" + entry(scaffold),
        folder / STUBS: added(old[folder / STUBS], stub(scaffold)),
        folder / SOLUTIONS: added(old[folder / SOLUTIONS], solution(scaffold)),
        tests: with_helpers(added(old[tests], test(scaffold)), scaffold.kind),
        wrong: with_misconception(wrong, old[wrong], scaffold),
    }
    return new


def text_of(path: Path, start: str, lesson: Lesson | None) -> str:
    """The text of a file; what it starts with in a lesson without exercises."""
    if lesson is not None:
        return path.read_text(encoding="utf-8")
    if path.exists():
        raise CourseError(f"{path.parent.parent.name} has {path.name}, but no {LIST}")
    return start


def refuse_existing(path: Path, text: str, name: str) -> None:
    """Raise CourseError if a file binds this name already, or cannot be parsed."""
    tree = parse(text)
    if tree is None:
        raise CourseError(f"{path.name} is not valid Python: repair it first")
    if any(binds(node, name) for node in tree.body):
        raise CourseError(f"{path.name} has {name} already; nothing was changed")


def entry(scaffold: Scaffold) -> str:
    """The entry of exercises.yaml."""
    title = scaffold.title.replace("\\", "\\\\").replace('"', '\\"')
    return ENTRY.format(
        id=scaffold.id,
        title=title,
        kind=scaffold.kind,
        name=scaffold.name,
        difficulty=scaffold.difficulty,
        core="  core: true\n" * scaffold.core,
        body=f"  body: |\n    {scaffold.fill(BUG)}\n" if scaffold.kind == "repair" else "",
    )


def definition(scaffold: Scaffold, body: str) -> str:
    """The function with this body."""
    words = {"name": scaffold.name, "arguments": scaffold.arguments, "id": scaffold.id}
    return DEFINITION.format(**words, body=body)


def stub(scaffold: Scaffold) -> str:
    """What a learner gets; the same that `make_stubs` makes from the solution."""
    body = f'raise NotImplementedError("Exercise {scaffold.id}: {scaffold.name}")'
    body += f"  {TODO[scaffold.kind]}"
    if scaffold.kind == "repair":
        body += f"\n    {scaffold.fill(BUG)}"
    return definition(scaffold, body)


def solution(scaffold: Scaffold) -> str:
    result = scaffold.fill(RESULTS[scaffold.kind][0])
    return definition(scaffold, f"return {result}  # TODO: the solution, and why")


def test(scaffold: Scaffold) -> str:
    """A test whose docstring is what a learner is told."""
    body = TESTS[scaffold.kind].format(name=scaffold.name, call=scaffold.call)
    docstring = '"""TODO: what must hold, as a sentence without its full stop"""'
    return f"def test_{scaffold.name}(ex):\n    {docstring}\n{textwrap.indent(body, '    ')}\n"


def added(text: str, part: str) -> str:
    """A file with a function added at its end, but before the part that runs the checks."""
    new = add_definition(lines_of(text), part)
    return new.rstrip("\n") + "\n"


def with_helpers(text: str, kind: str) -> str:
    """A test file that imports what the new test uses; an import is added if one is missing."""
    tree = ast.parse(text)
    names = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    module, helper = HELPERS[kind]
    wanted = [] if helper in names else [f"from utils.grader.{module} import {helper}"]
    wanted += ["import torch"] * ("torch" not in names and "torch." in TESTS[kind])
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    last = imports[-1].end_lineno or 0 if imports else 0
    lines = lines_of(text)
    return "".join([*lines[:last], *(f"{one}\n" for one in wanted), *lines[last:]])


def with_misconception(path: Path, text: str, scaffold: Scaffold) -> str:
    """A file of misconceptions with one more function, listed in its dictionary."""
    tree = ast.parse(text)
    found = [node for node in tree.body if binds(node, "MISCONCEPTIONS")]
    value = getattr(found[-1], "value", None) if found else None
    if not isinstance(value, ast.Dict):
        raise CourseError(f"{path.name} must define MISCONCEPTIONS, a dictionary")
    lines = lines_of(text)
    result = scaffold.fill(RESULTS[scaffold.kind][1])
    name = f"wrong_{scaffold.name}"
    function = (
        f"def {name}{scaffold.arguments}:\n"
        '    """TODO: the diagnosis, as a sentence without its full stop"""\n'
        f"    return {result}\n"
    )
    first, last = found[-1].lineno - 1, found[-1].end_lineno or len(lines)
    statement = "".join(lines[first:last]).rstrip("\n").removesuffix("}").rstrip()
    comma = "," if value.keys and not statement.endswith(",") else ""
    statement += f'{comma}\n    "{scaffold.name}": ({name},),\n}}\n'
    above = "".join(lines[:first]).rstrip("\n")
    return f"{above}\n\n\n{function}\n\n{statement}" + "".join(lines[last:])


def next_steps(root: Path, scaffold: Scaffold, texts: Mapping[Path, str]) -> list[str]:
    """The lines that tell what was written and what to do now."""
    names = [path.relative_to(root).as_posix() for path in texts]
    return [
        f"{scaffold.id} {scaffold.title} ({scaffold.kind}) is in",
        *(f"  {name}" for name in names),
        "Now",
        "  1. replace every TODO: docstring (the same in stub and solution), hints, minutes",
        "  2. write the solution, and tests that compare with independent truth",
        "  3. write three wrong answers or more, each with its diagnosis",
        f"  4. python -m pytest --solutions {Path(names[3]).as_posix()}",
        f"  5. {how_to('check', scaffold.id)}, which must say: to do",
        f"  6. theory.md leads to it (Now write {scaffold.id}), and the README counts it",
        "  7. 00_setup/learning_paths.md lists it, in the core or as left out of it",
        f"  8. python tools/validate_all.py --module {names[0].partition('/')[0]} --skip-tests",
        "00_setup/contributing.md says more about each",
    ]


if __name__ == "__main__":
    run_program(main)
