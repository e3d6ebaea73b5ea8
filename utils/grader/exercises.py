"""The exercises of a lesson: exercises/exercises.yaml, read and validated.

    - id: "1.3"
      title: The causal mask
      kind: write
      stubs: [causal_mask]
      minutes: 5
      difficulty: 1
      why: Without it, a model in training could read the answers it has to predict.
      hints: [a question, a worked example, nearly the answer]
      judge: [test_causal_mask]

`stubs` lists the functions or methods to fill in, `judge` the tests in the lesson's
tests/test_*_exercises.py that decide whether the exercise is solved. `core: true` marks one of the
core, the shortest way through the course (00_setup/learning_paths.md); `challenge: true` one that
goes beyond the lesson. `fewer_misconceptions` gives the reason why an exercise has fewer than three
known wrong answers. `kind` is one of

    write     a function or class to write
    predict   a function without arguments that returns what the learner expects to come out
    repair    code with one bug in it: `body` holds the code that is handed out
    read      a function without arguments that returns what the learner reads in a picture

`page` is the page of the lesson that prepares the exercise, if it isn't theory.md.

`without` names functions of PyTorch that would replace the exercise ("*": all of PyTorch): an
answer that calls one of them is right, but does not count as solved.
"""

import ast
import os
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from utils.errors import CourseError, UsageError, did_you_mean

ROOT = Path(__file__).resolve().parents[2]
ID = re.compile(r"\d+\.[1-9]\d*")
REQUIRED = ("id", "title", "kind", "stubs", "minutes", "difficulty", "why", "hints", "judge")
OPTIONAL = ("core", "challenge", "fewer_misconceptions", "page", "without", "body")
THEORY = "theory.md"
KINDS = ("write", "predict", "repair", "read")
HINTS = 3


@dataclass(frozen=True)
class Exercise:
    """One exercise. `minutes` assumes the theory has been read; `difficulty` is 1 to 5."""

    id: str
    title: str
    kind: str
    stubs: tuple[str, ...]
    minutes: int
    difficulty: int
    why: str
    hints: tuple[str, ...]
    judge: tuple[str, ...]
    core: bool = False
    challenge: bool = False
    fewer_misconceptions: str = ""
    without: tuple[str, ...] = ()
    body: str = ""
    page: str = THEORY

    @property
    def names(self) -> tuple[str, ...]:
        """The top-level functions and classes that belong to the exercise."""
        return tuple(dict.fromkeys(stub.partition(".")[0] for stub in self.stubs))


@dataclass(frozen=True)
class Lesson:
    """A lesson: its folder and its exercises, in order.

    `only_core` is set for a learner who takes the core alone; the lesson is judged as a whole.
    """

    folder: Path
    exercises: tuple[Exercise, ...]
    only_core: bool = False

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def file(self) -> Path:
        """exercises.py, which the learner fills in."""
        return self.folder / "exercises" / "exercises.py"

    @property
    def solutions(self) -> Path:
        return self.folder / "exercises" / "solutions.py"

    @property
    def core(self) -> tuple[Exercise, ...]:
        """The exercises of the core, in order."""
        return tuple(exercise for exercise in self.exercises if exercise.core)

    @property
    def path(self) -> tuple[Exercise, ...]:
        """The exercises that the learner goes through, in order."""
        return self.core if self.only_core else self.exercises

    def exercise(self, exercise_id: str) -> Exercise:
        return next(exercise for exercise in self.exercises if exercise.id == exercise_id)

    def test_file(self) -> Path:
        """The tests of the exercises. Raises CourseError unless there is exactly one file."""
        return only_file(self.folder / "tests", "test_*_exercises.py")

    def misconceptions_file(self) -> Path:
        """The known wrong answers. Raises CourseError unless there is exactly one file."""
        return only_file(self.folder / "tests", "*_misconceptions.py")


def only_file(folder: Path, pattern: str) -> Path:
    """The only file in a folder that matches a pattern. Raises CourseError for none or several.

    Hidden files (`._x.py`, `.#x.py`) are left behind by file systems and editors: not ours.
    """
    found = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    if len(found) == 1:
        return found[0]
    where = f"{folder.parent.name}/{folder.name}"
    names = ", ".join(path.name for path in found)
    problem = f"holds {len(found)} ({names})" if found else "holds none"
    raise CourseError(f"{where} must hold exactly one {pattern}; it {problem}")


def lessons(root: Path = ROOT) -> list[Lesson]:
    """The lessons that have exercises, in order. Raises CourseError for an invalid yaml."""
    files = sorted(root.glob("[0-9][0-9]_*/exercises/exercises.yaml"))
    return [read_lesson(file.parents[1]) for file in files]


def read_lesson(folder: Path) -> Lesson:
    """Read one lesson. Raises CourseError, which names the file, the exercise and the problem."""
    path = folder / "exercises" / "exercises.yaml"
    where = f"{folder.name}/exercises/exercises.yaml"
    try:
        entries = yaml.load(path.read_bytes(), getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except yaml.YAMLError as error:
        raise CourseError(f"{where}: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise CourseError(f"{where}: {error.strerror}") from None
    if not isinstance(entries, list) or not entries:
        raise CourseError(f"{where} must be a list of exercises")
    exercises = tuple(read_exercise(entry, where) for entry in entries)
    number = str(int(folder.name[:2]))
    expected = [f"{number}.{position}" for position in range(1, len(exercises) + 1)]
    found = [exercise.id for exercise in exercises]
    if found != expected:
        raise CourseError(f"{where}: the ids are {found}; they must be {expected}")
    return Lesson(folder, exercises)


def read_exercise(entry: Any, where: str) -> Exercise:
    """Validate one entry of the list; its values are still strings. Raises CourseError."""
    if not isinstance(entry, dict):
        raise CourseError(f"{where}: an exercise must be a mapping, not {entry!r}")
    where = f"{where}: exercise {entry.get('id', '(no id)')}"
    for key in entry:
        if key not in REQUIRED + OPTIONAL:
            hint = did_you_mean(str(key), REQUIRED + OPTIONAL)
            raise CourseError(f"{where}: unknown key {key!r}{hint}")
    missing = [key for key in REQUIRED if key not in entry]
    if missing:
        raise CourseError(f"{where}: {', '.join(missing)} is missing")
    if not ID.fullmatch(str(entry["id"])):
        raise CourseError(f"{where}: an id must look like '1.3'")
    hints = string_list(entry, "hints", where)
    if len(hints) != HINTS:
        raise CourseError(f"{where}: found {len(hints)} hints; exactly {HINTS} are needed")
    kind = string(entry, "kind", where)
    if kind not in KINDS:
        raise CourseError(f"{where}: kind is {kind!r}; allowed: {', '.join(KINDS)}")
    if (kind == "repair") != ("body" in entry):
        raise CourseError(f"{where}: an exercise of the kind repair, and only that, has a body")
    return Exercise(
        id=entry["id"],
        title=string(entry, "title", where),
        kind=kind,
        stubs=string_list(entry, "stubs", where),
        minutes=integer(entry, "minutes", where, 1, 120),
        difficulty=integer(entry, "difficulty", where, 1, 5),
        why=string(entry, "why", where),
        hints=hints,
        judge=string_list(entry, "judge", where),
        core=boolean(entry.get("core", "false"), "core", where),
        challenge=boolean(entry.get("challenge", "false"), "challenge", where),
        fewer_misconceptions=string(entry, "fewer_misconceptions", where)
        if "fewer_misconceptions" in entry
        else "",
        without=string_list(entry, "without", where) if "without" in entry else (),
        body=code(entry, "body", where) if "body" in entry else "",
        page=string(entry, "page", where) if "page" in entry else THEORY,
    )


def string(entry: dict[str, Any], key: str, where: str) -> str:
    """A string, its whitespace collapsed to one line."""
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise CourseError(f"{where}: {key} must be a string, not {value!r}")
    return " ".join(value.split())


def code(entry: dict[str, Any], key: str, where: str) -> str:
    """Python code that can be parsed."""
    string(entry, key, where)
    try:
        ast.parse(f"def body():\n{textwrap.indent(entry[key], '    ')}")
    except SyntaxError as error:
        raise CourseError(f"{where}: {key} is not valid Python: {error.msg}") from None
    return entry[key]


def string_list(entry: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A non-empty list of strings."""
    values = entry[key]
    if not isinstance(values, list) or not values:
        raise CourseError(f"{where}: {key} must be a list, not {values!r}")
    return tuple(string({key: value}, key, where) for value in values)


def integer(entry: dict[str, Any], key: str, where: str, low: int, high: int) -> int:
    """An integer from low to high."""
    value = str(entry[key])
    if not value.isdecimal() or not low <= int(value) <= high:
        raise CourseError(f"{where}: {key} is {value!r}; allowed: {low} to {high}")
    return int(value)


def boolean(value: Any, key: str, where: str) -> bool:
    """A boolean, still written as true or false."""
    if value not in ("true", "false"):
        raise CourseError(f"{where}: {key} is {value!r}; allowed: true or false")
    return value == "true"


def how_to(command: str, exercise_id: str = "", flag: str = "") -> str:
    """How to type a command of tools/learn.py: "make hint EX=1.3"; Windows has no make."""
    if os.name == "nt":
        return " ".join(filter(None, ("python tools\\learn.py", command, exercise_id, flag)))
    words = (f"EX={exercise_id}" * bool(exercise_id), f"ARGS={flag}" * bool(flag))
    return " ".join(filter(None, ("make", command, *words)))


def find_exercise(given: str, among: list[Lesson]) -> tuple[Lesson, Exercise]:
    """Find an exercise by its id ("1.3") or by the name of its function or class.

    Raises UsageError with a did-you-mean; for a name that several exercises have, with their ids.
    """
    known = [(lesson, exercise) for lesson in among for exercise in lesson.exercises]
    found = [(lesson, one) for lesson, one in known if given in (one.id, *one.names, *one.stubs)]
    ids = [exercise.id for _, exercise in found or known]
    if len(found) > 1:
        raise UsageError(f"{given!r} is in {len(found)} exercises; choose one of: {', '.join(ids)}")
    number = re.fullmatch(r"0?(\d+)(\.\d+)?", given)
    if not found and number:
        own = [one for one in ids if one.split(".")[0] == number[1]]
        known_ids = f"lesson {number[1]} has {own[0]} to {own[-1]}" if own else "no such lesson"
        raise UsageError(f"unknown exercise {given!r}; {known_ids}")
    if not found:
        names = [name for _, exercise in known for name in exercise.names]
        hint = did_you_mean(given, [*ids, *names])
        raise UsageError(f"unknown exercise {given!r}{hint}; choose one of: {', '.join(ids)}")
    return found[0]
