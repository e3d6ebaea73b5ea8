"""utils/grader/exercises.py: an invalid yaml gives one line with file, exercise and problem."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from utils.errors import CourseError, UsageError
from utils.grader import exercises as exercises_module
from utils.grader.exercises import (
    ROOT,
    Exercise,
    Lesson,
    find_exercise,
    how_to,
    lessons,
    only_file,
    read_lesson,
)

FIRST = """
- id: "1.1"
  title: Twice
  kind: write
  stubs: [double]
  minutes: 5
  difficulty: 1
  why: Because.
  hints:
    - a nudge
    - >
      a hint
      over two lines
    - nearly the answer
  judge: [test_double, test_double_again]
"""
SECOND = """
- id: 1.2
  title: "A layer: yes or no"
  kind: write
  stubs: [Layer.__init__, Layer.forward, helper]
  minutes: 120
  difficulty: 5
  why: no
  hints: [a, b, 3]
  judge: [test_layer]
  core: true
  challenge: true
  fewer_misconceptions: there is only one way to write it
"""
WHERE = "01_first/exercises/exercises.yaml"


def write(root: Path, text: str | bytes, name: str = "01_first") -> Path:
    """A lesson's folder with this list of exercises."""
    folder = root / name
    (folder / "exercises").mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "exercises" / "exercises.yaml").write_bytes(data)
    return folder


def fault(root: Path, text: str | bytes) -> str:
    """The one-line error for this list of exercises."""
    with pytest.raises(CourseError) as error:
        read_lesson(write(root, text))
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is read ---


def test_every_value_is_read(tmp_path):
    lesson = read_lesson(write(tmp_path, FIRST + SECOND))
    assert lesson.exercises == (
        Exercise(
            id="1.1",
            title="Twice",
            kind="write",
            stubs=("double",),
            minutes=5,
            difficulty=1,
            why="Because.",
            hints=("a nudge", "a hint over two lines", "nearly the answer"),
            judge=("test_double", "test_double_again"),
        ),
        Exercise(
            id="1.2",
            title="A layer: yes or no",
            kind="write",
            stubs=("Layer.__init__", "Layer.forward", "helper"),
            minutes=120,
            difficulty=5,
            why="no",
            hints=("a", "b", "3"),
            judge=("test_layer",),
            core=True,
            challenge=True,
            fewer_misconceptions="there is only one way to write it",
        ),
    )
    assert lesson.exercises[1].names == ("Layer", "helper")


def test_the_paths_of_a_lesson(tmp_path):
    lesson = read_lesson(write(tmp_path, FIRST))
    assert lesson.name == "01_first"
    assert lesson.file == tmp_path / "01_first/exercises/exercises.py"
    assert lesson.solutions == tmp_path / "01_first/exercises/solutions.py"
    assert lesson.exercise("1.1").title == "Twice"


def test_the_path_of_a_lesson_is_all_of_it_or_its_core(tmp_path):
    lesson = read_lesson(write(tmp_path, FIRST + SECOND))
    assert lesson.path == lesson.exercises
    assert replace(lesson, only_core=True).path == lesson.core == lesson.exercises[1:]


def test_an_exercise_cannot_be_changed_by_accident(tmp_path):
    exercise = read_lesson(write(tmp_path, FIRST)).exercises[0]
    with pytest.raises(FrozenInstanceError):
        exercise.title = "other"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("quotes", ['"', "'", ""])
def test_the_tenth_exercise_is_not_the_first(tmp_path, quotes):
    ten = [FIRST.replace('"1.1"', f"{quotes}1.{number}{quotes}") for number in range(1, 11)]
    lesson = read_lesson(write(tmp_path, "".join(ten)))
    assert [exercise.id for exercise in lesson.exercises][-2:] == ["1.9", "1.10"]


def test_ids_of_lesson_ten_begin_with_ten(tmp_path):
    folder = write(tmp_path, FIRST.replace("1.1", "10.1"), name="10_tenth")
    assert read_lesson(folder).exercises[0].id == "10.1"


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    data = b"\xef\xbb\xbf" + FIRST.replace("\n", "\r\n").encode()
    assert read_lesson(write(tmp_path, data)).exercises[0].hints[1] == "a hint over two lines"


def test_the_pure_python_yaml_loader_gives_the_same_result(tmp_path, monkeypatch):
    fast = read_lesson(write(tmp_path, FIRST + SECOND))
    monkeypatch.delattr(exercises_module.yaml, "CBaseLoader", raising=False)
    assert read_lesson(fast.folder) == fast


# --- what is refused ---

BAD = [  # text to replace in the first exercise, its replacement, the error
    ("title: Twice", "title: [a, b]", "title must be a string, not ['a', 'b']"),
    ("title: Twice", "title:", "title must be a string, not ''"),
    ("title: Twice", "title: '  '", "title must be a string, not '  '"),
    ("why: Because.", "why: {a: b}", "why must be a string, not {'a': 'b'}"),
    ("stubs: [double]", "stubs: double", "stubs must be a list, not 'double'"),
    ("stubs: [double]", "stubs: []", "stubs must be a list, not []"),
    ("stubs: [double]", "stubs: [[double]]", "stubs must be a string, not ['double']"),
    ("judge: [test_double, test_double_again]", "judge:", "judge must be a list, not ''"),
    ("minutes: 5", "minutes: soon", "minutes is 'soon'; allowed: 1 to 120"),
    ("minutes: 5", "minutes: 0", "minutes is '0'; allowed: 1 to 120"),
    ("minutes: 5", "minutes: 121", "minutes is '121'; allowed: 1 to 120"),
    ("minutes: 5", "minutes: -5", "minutes is '-5'; allowed: 1 to 120"),
    ("minutes: 5", "minutes: 2.5", "minutes is '2.5'; allowed: 1 to 120"),
    ("minutes: 5", "minutes: [5]", """minutes is "['5']"; allowed: 1 to 120"""),
    ("difficulty: 1", "difficulty: 9", "difficulty is '9'; allowed: 1 to 5"),
    ("difficulty: 1", "difficulty: 0", "difficulty is '0'; allowed: 1 to 5"),
    ("difficulty: 1", "difficulty: hard", "difficulty is 'hard'; allowed: 1 to 5"),
    ("    - a nudge\n", "", "found 2 hints; exactly 3 are needed"),
    ("    - a nudge\n", "    - a nudge\n    - one more\n", "found 4 hints; exactly 3 are needed"),
    ("    - a nudge\n", "    -\n", "hints must be a string, not ''"),
    ("  minutes: 5\n", "", "minutes is missing"),
    ("  minutes: 5\n  difficulty: 1\n", "", "minutes, difficulty is missing"),
    ("  minutes: 5", "  minute: 5", "unknown key 'minute' (did you mean 'minutes'?)"),
    ("  minutes: 5", "  Judge: [a]\n  minutes: 5", "unknown key 'Judge' (did you mean 'judge'?)"),
    ("  minutes: 5", "  zzz: 1\n  minutes: 5", "unknown key 'zzz'"),
    (
        "  minutes: 5",
        "  challenge: yes\n  minutes: 5",
        "challenge is 'yes'; allowed: true or false",
    ),
    ("  minutes: 5", "  core: 1\n  minutes: 5", "core is '1'; allowed: true or false"),
    ("  minutes: 5", "  challenge: []\n  minutes: 5", "challenge is []; allowed: true or false"),
    (
        "  minutes: 5",
        "  fewer_misconceptions:\n  minutes: 5",
        "fewer_misconceptions must be a string",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), BAD)
def test_an_invalid_value_is_reported_with_its_exercise(tmp_path, old, new, said):
    assert FIRST.count(old) == 1
    text = FIRST.replace(old, new)
    told = fault(tmp_path, text)
    assert told.startswith(f"{WHERE}: exercise 1.1: {said}")


@pytest.mark.parametrize("given", ["1", "one", "1.0", "1.01", "1.1.1", "'1. 1'", "", "[1.1]"])
def test_an_invalid_id_is_refused(tmp_path, given):
    told = fault(tmp_path, FIRST.replace('"1.1"', given))
    assert told.startswith(f"{WHERE}: exercise ")
    assert told.endswith(": an id must look like '1.3'")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1.2"], ["1.1"]),
        (["2.1"], ["1.1"]),
        (["1.1", "1.1"], ["1.1", "1.2"]),
        (["1.2", "1.1"], ["1.1", "1.2"]),
        (["1.1", "1.3"], ["1.1", "1.2"]),
        (["1.1", "1.10"], ["1.1", "1.2"]),
    ],
)
def test_ids_that_do_not_count_up_are_refused(tmp_path, ids, expected):
    text = "".join(FIRST.replace("1.1", one) for one in ids)
    assert fault(tmp_path, text) == f"{WHERE}: the ids are {ids}; they must be {expected}"


def test_an_exercise_without_an_id_is_reported(tmp_path):
    told = fault(tmp_path, FIRST.replace('id: "1.1"\n  title', "title"))
    assert told == f"{WHERE}: exercise (no id): id is missing"


@pytest.mark.parametrize("entry", ["- text\n", "- [a, b]\n", "-\n"])
def test_an_entry_must_be_a_mapping(tmp_path, entry):
    assert fault(tmp_path, FIRST + entry).startswith(f"{WHERE}: an exercise must be a mapping, not")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "[]", "{}", "text", "id: 1.1", "---"])
def test_the_file_must_hold_a_list(tmp_path, text):
    assert fault(tmp_path, text) == f"{WHERE} must be a list of exercises"


@pytest.mark.parametrize(
    "text",
    [
        "- id: [",
        "- id: 'open",
        "\t- id: 1.1",
        FIRST + "  - loose",
        "- *unknown",
        "- ? [a]\n  : b",
        FIRST.encode() + b"- \xff\xfe\n",
        b"\x00\x01",
    ],
)
def test_invalid_yaml_is_reported_with_the_file(tmp_path, text):
    assert fault(tmp_path, text).startswith(f"{WHERE}: ")


def test_a_missing_yaml_or_a_folder_in_its_place_is_reported(tmp_path):
    with pytest.raises(CourseError, match=f"^{WHERE}: No such file"):
        read_lesson(tmp_path / "01_first")
    (tmp_path / WHERE).mkdir(parents=True)
    with pytest.raises(CourseError, match=f"^{WHERE}: "):
        read_lesson(tmp_path / "01_first")


# --- the lessons of a course ---


def test_lessons_with_exercises_are_listed_in_order(tmp_path, monkeypatch):
    for number in ("02", "10", "01"):
        text = FIRST.replace("1.1", f"{int(number)}.1")
        write(tmp_path, text, name=f"{number}_lesson")
    (tmp_path / "03_lesson").mkdir()
    write(tmp_path, "nonsense", name="notes")
    glob = Path.glob  # its order is not guaranteed
    monkeypatch.setattr(Path, "glob", lambda *what: sorted(glob(*what), reverse=True))
    found = [lesson.name for lesson in lessons(tmp_path)]
    assert found == ["01_lesson", "02_lesson", "10_lesson"]


def test_every_exercises_yaml_of_the_course_is_valid():
    course = lessons(ROOT)
    assert "01_attention" in [lesson.name for lesson in course]
    for lesson in course:
        assert lesson.test_file().is_file()
        assert lesson.misconceptions_file().is_file()


def test_an_exercise_is_found_by_its_id(tmp_path):
    write(tmp_path, FIRST + SECOND)
    write(tmp_path, FIRST.replace("1.1", "2.1"), name="02_second")
    lesson, exercise = find_exercise("2.1", lessons(tmp_path))
    assert (lesson.name, exercise.id) == ("02_second", "2.1")


def test_an_exercise_is_found_by_the_name_of_a_function_class_or_method(tmp_path):
    write(tmp_path, FIRST + SECOND)
    found = {
        name: find_exercise(name, lessons(tmp_path))[1].id
        for name in ("double", "Layer", "Layer.forward", "helper")
    }
    assert found == {"double": "1.1", "Layer": "1.2", "Layer.forward": "1.2", "helper": "1.2"}


def test_a_name_of_several_exercises_is_refused_with_their_ids(tmp_path):
    write(tmp_path, FIRST + SECOND)
    write(tmp_path, FIRST.replace("1.1", "2.1"), name="02_second")
    with pytest.raises(
        UsageError, match=r"^'double' is in 2 exercises; choose one of: 1\.1, 2\.1$"
    ):
        find_exercise("double", lessons(tmp_path))


def test_an_unknown_exercise_lists_the_known_ones(tmp_path):
    write(tmp_path, FIRST + SECOND)
    with pytest.raises(UsageError, match=r"unknown exercise '1\.3'; lesson 1 has 1\.1 to 1\.2$"):
        find_exercise("1.3", lessons(tmp_path))


def test_there_must_be_exactly_one_test_file_and_one_misconceptions_file(tmp_path):
    lesson = Lesson(write(tmp_path, FIRST), ())
    folder = lesson.folder / "tests"
    with pytest.raises(
        CourseError, match=r"01_first/tests must hold exactly one test_\*_exercises\.py; it "
    ):
        lesson.test_file()
    folder.mkdir()
    with pytest.raises(CourseError, match=r"exactly one \*_misconceptions\.py; it holds none$"):
        lesson.misconceptions_file()
    hidden = ("._first_misconceptions.py", ".#first_misconceptions.py")  # made by macOS and Emacs
    for name in ("test_first_exercises.py", "first_misconceptions.py", *hidden):
        (folder / name).touch()
    assert lesson.test_file() == folder / "test_first_exercises.py"
    assert lesson.misconceptions_file() == folder / "first_misconceptions.py"
    (folder / "test_more_exercises.py").touch()
    with pytest.raises(
        CourseError, match=r"it holds 2 \(test_first_exercises\.py, test_more_exercises\.py\)$"
    ):
        only_file(folder, "test_*_exercises.py")


def test_commands_fit_the_operating_system(monkeypatch):
    monkeypatch.setattr(exercises_module, "os", type("Posix", (), {"name": "posix"}))
    assert how_to("hint", "1.3") == "make hint EX=1.3"
    assert how_to("watch") == "make watch"
    assert how_to("watch", flag="--core") == "make watch ARGS=--core"
    monkeypatch.setattr(exercises_module, "os", type("Windows", (), {"name": "nt"}))
    assert how_to("hint", "1.3") == "python tools\\learn.py hint 1.3"
    assert how_to("watch") == "python tools\\learn.py watch"
    assert how_to("watch", flag="--core") == "python tools\\learn.py watch --core"
