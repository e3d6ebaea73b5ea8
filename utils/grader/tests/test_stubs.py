"""utils/grader/stubs.py: a reset restores one stub and changes nothing else."""

from pathlib import Path

import pytest

from utils.errors import CourseError
from utils.grader import stubs
from utils.grader.exercises import ROOT, Exercise, Lesson, lessons
from utils.grader.learner_code import LoadError, read_source
from utils.grader.stubs import BYTE_ORDER_MARK, TODO, make_stubs, reset_exercise, stub_body

HEAD = '"""Exercises."""\n\nimport functools\n\n\n'
TAIL = '\n\nif __name__ == "__main__":\n    print("checked")\n'

DOUBLE = '''
def double(
    x: int, times: int = 2
) -> int:
    """Exercise 1.1: twice x.

    Returns x times two.
    """
    # a comment of the solution
    y = x * times
    return y
'''
CACHED = '''
@functools.cache
def cached(x: int) -> int:
    """Exercise 1.2: x."""
    return x
'''
LAYER = '''
class Layer:
    """Exercise 1.3: a layer."""

    size = 3

    def __init__(self, size: int) -> None:
        """Keep the size."""
        self.size = size

    def helper(self) -> int:
        """Not part of the exercise."""
        return 7

    @property
    def area(self) -> int:
        """Its area."""
        return self.size**2
'''
PARTS = {"double": DOUBLE, "cached": CACHED, "Layer": LAYER}


def raising(number: int, name: str) -> str:
    return f'raise NotImplementedError("Exercise 1.{number}: {name}")  {TODO["write"]}'


STUB = {
    "double": DOUBLE[: DOUBLE.index("    #")] + f"    {raising(1, 'double')}\n",
    "cached": CACHED.replace("return x", raising(2, "cached")),
    "Layer": LAYER.replace("self.size = size", raising(3, "Layer.__init__")).replace(
        "return self.size**2", raising(3, "Layer.area")
    ),
}


def file_of(parts: dict[str, str], head: str = HEAD) -> str:
    return head + "\n\n".join(part.lstrip("\n") for part in parts.values()) + TAIL


def exercise(number: int, *stubs: str) -> Exercise:
    return Exercise(f"1.{number}", "t", "write", stubs, 1, 1, "w", ("a", "b", "c"), ("test_it",))


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    """A lesson of three exercises, all solved."""
    folder = tmp_path / "01_first"
    (folder / "exercises").mkdir(parents=True)
    items = (
        exercise(1, "double"),
        exercise(2, "cached"),
        exercise(3, "Layer.__init__", "Layer.area"),
    )
    made = Lesson(folder, items)
    for path in (made.solutions, made.file):
        path.write_bytes(file_of(PARTS).encode())
    return made


def reset(lesson: Lesson, number: int) -> bytes:
    """Reset one exercise; returns the bytes of the file."""
    reset_exercise(lesson, lesson.exercises[number - 1])
    return lesson.file.read_bytes()


# --- stubs made from the solutions ---


def test_a_stub_is_its_solution_without_the_body(lesson):
    assert make_stubs(lesson) == {name: stub.lstrip("\n") for name, stub in STUB.items()}


def test_the_line_of_a_stub_fits_even_if_its_class_has_a_long_name(lesson):
    method = f"{'A' * 19}.forward"
    function = method.replace(".", "_")
    long, short = (stub_body(exercise(1, name), name).strip() for name in (method, function))
    assert long == f'raise NotImplementedError("Exercise 1.1: {method}")  # TODO'
    assert short == f'raise NotImplementedError("Exercise 1.1: {function}")  {TODO["write"]}'


def test_the_stubs_are_stubs(lesson):
    lesson.file.write_text(file_of(make_stubs(lesson)), encoding="utf-8")
    found = [(stub.exercise, stub.name) for stub in read_source(lesson.file).stubs()]
    assert found == [
        ("1.1", "double"),
        ("1.2", "cached"),
        ("1.3", "Layer.__init__"),
        ("1.3", "Layer.area"),
    ]


@pytest.mark.parametrize("real", lessons(), ids=lambda real: real.name)
def test_the_stubs_of_the_course_match_their_solutions(real):
    """Checks untouched exercises only: a learner may run this test as well."""
    try:
        source = read_source(real.file)
    except LoadError:  # a learner is working on it
        return
    untouched = {stub.name for stub in source.stubs()}
    text = source.data.decode("utf-8").replace("\r\n", "\n")
    for one in real.exercises:
        if set(one.stubs) <= untouched:
            for name in one.names:
                assert f"\n{make_stubs(real)[name]}" in text, name


# --- resetting one exercise ---


@pytest.mark.parametrize("number", [1, 2, 3])
def test_resetting_one_exercise_leaves_the_others(lesson, number):
    name = lesson.exercises[number - 1].names[0]
    assert reset(lesson, number).decode() == file_of({**PARTS, name: STUB[name]})


def test_resetting_all_exercises_gives_the_original_file(lesson):
    for number in (2, 3, 1):
        reset(lesson, number)
    assert lesson.file.read_bytes().decode() == file_of(STUB)


def test_an_untouched_exercise_is_not_rewritten_or_backed_up(lesson):
    lesson.file.write_text(file_of(STUB), encoding="utf-8")
    before = lesson.file.stat().st_mtime_ns
    assert [reset_exercise(lesson, one) for one in lesson.exercises] == [None] * 3
    assert lesson.file.stat().st_mtime_ns == before
    assert not (lesson.folder.parent / ".progress").exists()


BROKEN = [  # definitions of double with a syntax error
    "def double(x):\n    return (x\n",
    "def double(x:\n    return x\n\n    # and more\n\n    return 3\n",
    "def double(x)\n\treturn x\n",
    "class double\n    pass\n",
    "def double(\n    x,\n) -> int:\n    return (((\n",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_an_exercise_with_a_syntax_error_is_reset(lesson, broken):
    lesson.file.write_text(file_of({**PARTS, "double": broken}), encoding="utf-8")
    with pytest.raises(LoadError):
        read_source(lesson.file)
    assert reset(lesson, 1).decode() == file_of({**PARTS, "double": STUB["double"]})


@pytest.mark.parametrize(
    "after", ["_hidden = 3\n", "# mine\n", "@functools.cache\ndef f(): pass\n", "class C: pass\n"]
)
def test_code_after_a_broken_exercise_stays(lesson, after):
    lesson.file.write_text(HEAD + BROKEN[0] + after + TAIL, encoding="utf-8")
    assert reset(lesson, 1).decode() == HEAD + STUB["double"].lstrip("\n") + after + TAIL


def test_a_syntax_error_in_another_exercise_does_not_prevent_a_reset(lesson):
    broken = "def double(x):\n    return (x\n"
    lesson.file.write_text(file_of({**PARTS, "double": broken}), encoding="utf-8")
    wanted = file_of({**PARTS, "double": broken, "Layer": STUB["Layer"]})
    assert reset(lesson, 3).decode() == wanted


@pytest.mark.parametrize("left", ["", "def twice(x):\n    return 2 * x\n", "double = max\n"])
def test_a_missing_exercise_is_added_before_the_main_block(lesson, left):
    text = file_of({"Layer": LAYER, "rest": left})
    lesson.file.write_text(text, encoding="utf-8")
    after = reset(lesson, 1).decode()
    above = text.removesuffix(TAIL).rstrip()
    assert after == f"{above}\n\n\n{STUB['double'].lstrip()}{TAIL}"
    assert "double" in [one.name for one in read_source(lesson.file).stubs()]


def test_a_missing_exercise_comes_last_without_a_main_block(lesson):
    lesson.file.write_text("x = 1\n\n\n", encoding="utf-8")
    assert reset(lesson, 1).decode() == f"x = 1\n\n\n{STUB['double'].lstrip()}\n\n"


def test_a_missing_file_is_an_error_with_what_to_do(lesson):
    lesson.file.unlink()
    with pytest.raises(CourseError, match=r"exercises\.py is missing: save it again from your ed"):
        reset(lesson, 1)


def test_of_two_definitions_the_later_one_which_counts_is_reset(lesson):
    second = "def double(x):\n    return 7\n"
    lesson.file.write_text(file_of({**PARTS, "again": second}), encoding="utf-8")
    assert reset(lesson, 1).decode() == file_of({**PARTS, "again": STUB["double"]})


# --- nothing of the old body is left behind ---

SOLVED = [  # bodies of double in a file that Python can parse
    "    y = 2 * x\n# a comment in column 0\n    return y\n",
    "    y = 2 * x\n    return y\n    # a note after the last statement\n\n    # and another\n",
    '    s = """\ntext in column 0\ndef triple(x):\n"""\n    return 2 * x\n',
    "    def inner():\n        return x\n\n    return 2 * inner()\n",
    "    y = 2; z = 3; return y * x\n",
    "\ty = 2\n\treturn y * x\n",
    "    y = 2\n\x0c\n    return y * x\n",
    "    return x + \\\nx\n",
    "    return (\nx\n+ x\n)\n",
    "    class Inner:\n        def double(self): pass\n    return x\n",
]
UNREADABLE = [  # and in one that it cannot parse
    "    y = 2 * x\n# a comment in column 0\n    return (y\n",
    "    y = 2 * x\nz = 3\n    return y\n",  # one line has lost its indentation
    '    s = """\ntext in column 0\nfrom the paper\n"""\n    return (x\n',
    "    return (\nx\n+ x\n",
    "    y = 2\n\treturn y\n",  # tabs and spaces
    "    y = = 2; return y\n    # a note\n",
    "    y = 2 * x\n<<<<<<< HEAD\n    return y\n=======\n    return x\n>>>>>>> theirs\n",
]
HEADS = ["def double(x):\n", "async def double(x):\n", "@functools.cache\n@print\ndef double(x):\n"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("body", [*SOLVED, *UNREADABLE])
def test_the_stub_replaces_the_whole_definition(lesson, body, end):
    head, mark = HEADS[len(body) % len(HEADS)], BYTE_ORDER_MARK * (len(body) % 2)
    text = file_of({**PARTS, "double": head + body})
    lesson.file.write_bytes(mark + text.replace("\n", end).encode())
    wanted = file_of({**PARTS, "double": STUB["double"]}).replace("\n", end)
    assert reset(lesson, 1) == mark + wanted.encode()
    assert "double" in [stub.name for stub in read_source(lesson.file).stubs()]


@pytest.mark.parametrize("body", [*SOLVED, *UNREADABLE])
def test_nothing_is_left_behind_if_another_exercise_has_a_syntax_error(lesson, body):
    other = "def cached(x):\n    return (x\n"
    parts = {**PARTS, "double": f"def double(x):\n{body}", "cached": other}
    lesson.file.write_text(file_of(parts), encoding="utf-8")
    wanted = file_of({**parts, "double": STUB["double"]})
    assert reset(lesson, 1).decode() == wanted


@pytest.mark.parametrize("above", ["class double:\n    size = 3\n", "if True:\n    double = 3\n"])
def test_a_first_line_with_a_byte_order_mark_is_found(lesson, above):
    lesson.file.write_bytes(b"\xef\xbb\xbf" + above.encode())
    reset(lesson, 1)
    assert "double" in [stub.name for stub in read_source(lesson.file).stubs()]


@pytest.mark.parametrize(
    "after", ["double = max\n", "from math import ceil as double\n", "del double\n"]
)
def test_the_stub_comes_after_a_later_binding_of_its_name(lesson, after):
    lesson.file.write_text(file_of({**PARTS, "after": after}), encoding="utf-8")
    reset(lesson, 1)
    text = lesson.file.read_text(encoding="utf-8")
    assert text.index(after) < text.index(STUB["double"].strip()) < text.index(TAIL.strip())


def test_a_stub_that_would_be_shadowed_is_not_written(lesson):
    text = file_of(PARTS) + "\n\ndouble = max\n"
    lesson.file.write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match=r"exercises\.py binds double again on line 5\d: rem"):
        reset(lesson, 1)
    assert lesson.file.read_text(encoding="utf-8") == text


def test_a_solution_with_a_form_feed_makes_the_same_stubs(lesson):
    lesson.solutions.write_text("x = 1\n\x0c\n" + file_of(PARTS), encoding="utf-8")
    assert make_stubs(lesson)["double"] == STUB["double"].lstrip()


def test_names_with_the_same_prefix_are_left_alone(lesson):
    other = "def doubled(x):\n    return (\n"
    lesson.file.write_text(file_of({"doubled": other, **PARTS}), encoding="utf-8")
    wanted = file_of({"doubled": other, **PARTS, "double": STUB["double"]})
    assert reset(lesson, 1).decode() == wanted


# --- bytes that must not change ---


def test_windows_line_ends_stay_windows_line_ends(lesson):
    lesson.file.write_bytes(file_of(PARTS).replace("\n", "\r\n").encode())
    wanted = file_of({**PARTS, "double": STUB["double"]}).replace("\n", "\r\n")
    assert reset(lesson, 1) == wanted.encode()
    lesson.file.write_bytes(file_of(STUB).replace("\n", "\r\n").encode())
    assert reset_exercise(lesson, lesson.exercises[0]) is None


def test_windows_line_ends_stay_where_an_exercise_is_missing(lesson):
    lesson.file.write_bytes(file_of({"Layer": LAYER}).replace("\n", "\r\n").encode())
    windows = reset(lesson, 1)
    lesson.file.write_text(file_of({"Layer": LAYER}), encoding="utf-8", newline="\n")
    assert windows == reset(lesson, 1).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "odd",
    [
        b'note = "one \x0c two \xe2\x80\xa8 three \xc2\x85"\n',  # str.splitlines() would split here
        b"note = '''\ndef double(x):\n    pass\n'''\n",
        b"# \xff is no UTF-8\n",
        b"def broken(:\n    '\xff'\n",
        b"\tx = 1  \n",
    ],
)
def test_every_other_byte_of_the_file_stays_as_it_was(lesson, odd):
    solved = file_of(PARTS).encode()
    wanted = file_of({**PARTS, "double": STUB["double"]}).encode()
    lesson.file.write_bytes(solved + odd)
    assert reset(lesson, 1) == wanted + odd
    lesson.file.write_bytes(odd + solved)
    assert reset(lesson, 1) == odd + wanted


def test_a_byte_order_mark_stays(lesson):
    lesson.file.write_bytes(b"\xef\xbb\xbf" + file_of(PARTS).encode())
    wanted = file_of({**PARTS, "double": STUB["double"]}).encode()
    assert reset(lesson, 1) == b"\xef\xbb\xbf" + wanted


# --- the backup ---


def test_the_old_file_is_backed_up(lesson):
    old = lesson.file.read_bytes()
    kept = reset_exercise(lesson, lesson.exercises[0])
    assert kept is not None
    assert kept.parent == lesson.folder.parent / ".progress" / "backups"
    assert kept.read_bytes() == old


def test_resets_within_one_second_keep_all_backups(lesson, monkeypatch):
    monkeypatch.setattr(stubs.time, "strftime", lambda _: "20260102-030405")
    solved = lesson.file.read_bytes()
    kept = []
    for _ in range(3):
        lesson.file.write_bytes(solved)
        kept.append(reset_exercise(lesson, lesson.exercises[0]))
    names = [path.name for path in kept if path is not None]
    moment = "01_first-20260102-030405"
    assert names == [f"{moment}.py", f"{moment}b.py", f"{moment}c.py"]
    assert all(path is not None and path.read_bytes() == solved for path in kept)


def test_without_a_backup_the_file_is_not_changed(lesson):
    (lesson.folder.parent / ".progress").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError):
        reset_exercise(lesson, lesson.exercises[0])
    assert lesson.file.read_bytes() == file_of(PARTS).encode()


def test_the_root_of_the_course_is_where_the_lessons_are():
    assert (ROOT / "01_attention" / "exercises" / "exercises.yaml").is_file()
