"""utils/grader/learner_code.py: whatever a file contains, loading it gives one message."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from utils.grader.learner_code import (
    LoadError,
    Source,
    Stub,
    TimeUp,
    describe,
    last_line_in,
    leftover_raise,
    lines_of,
    load,
    read_source,
    stub_that_raised,
)

RAISE = 'raise NotImplementedError("Exercise 1.1: double")'
STUB = f'def double(x):\n    """Exercise 1.1: twice x."""\n    {RAISE}  # TODO\n'


def write(folder: Path, content: str | bytes) -> Path:
    """Write exercises.py where a lesson has it."""
    path = folder / "01_first" / "exercises" / "exercises.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def source_of(folder: Path, content: str | bytes) -> Source:
    return read_source(write(folder, content))


def module_of(folder: Path, content: str | bytes) -> ModuleType:
    return load(source_of(folder, content))


def caught(module: ModuleType, name: str) -> BaseException:
    """What a function of the module raises when it is called."""
    with pytest.raises(BaseException) as info:
        getattr(module, name)(3)
    return info.value


# --- what is a stub ---


@pytest.mark.parametrize(
    "text",
    [
        STUB,
        f"def double(x):\n    {RAISE}\n",
        STUB.replace("twice x.", "my own words,\n\n    on three lines."),
        STUB.replace("    raise", "\n    # what shall I do\n\n    raise").replace("# TODO", ""),
        STUB.replace('"Exercise 1.1: double"', '\n        "Exercise 1.1: double"\n    '),
        STUB.replace("(x)", "(x: int, *more: int, last: int = 1) -> int"),
        "import functools\n\n@functools.cache\n" + STUB,
        STUB.replace("\n", "\r\n"),
        "\ufeff" + STUB,
    ],
)
def test_a_stub_is_recognized_whatever_surrounds_its_raise(tmp_path, text):
    (stub,) = source_of(tmp_path, text).stubs()
    assert (stub.exercise, stub.name) == ("1.1", "double")


@pytest.mark.parametrize(
    "text",
    [
        STUB + "    return 2 * x\n",
        STUB.replace("    raise", "    y = 2 * x\n    raise"),
        STUB.replace("    raise", "    pass\n    raise"),
        STUB.replace("Exercise 1.1: double", "later"),
        STUB.replace('("Exercise 1.1', '("See Exercise 1.1'),
        STUB.replace("NotImplementedError", "ValueError"),
        STUB.replace('("Exercise 1.1: double")', ""),
        STUB.replace('("Exercise 1.1: double")', "()"),
        STUB.replace("    raise", "    if x: raise"),
        "def double(x):\n    return 2 * x\n",
        "",
    ],
)
def test_an_edited_function_is_not_a_stub(tmp_path, text):
    assert source_of(tmp_path, text).stubs() == []


def test_methods_are_stubs_too_in_the_order_of_the_file(tmp_path):
    text = f"""
    class Layer:
        def __init__(self):
            raise NotImplementedError("Exercise 1.10: Layer.__init__")

        def forward(self, x):
            raise NotImplementedError("Exercise 1.2: Layer.forward")

        def done(self):
            return 1

    def double(x):
        {RAISE}
    """
    assert source_of(tmp_path, textwrap.dedent(text)).stubs() == [
        Stub("1.10", "Layer.__init__", 3),
        Stub("1.2", "Layer.forward", 6),
        Stub("1.1", "double", 12),
    ]


def test_the_stub_that_contains_a_line_is_found(tmp_path):
    source = source_of(tmp_path, STUB + "\n\ndef other():\n    return 1\n\n\n" + STUB)
    found = [source.stub_at(line) for line in range(1, 14)]
    first, second = Stub("1.1", "double", 1), Stub("1.1", "double", 10)
    assert found == [first] * 3 + [None] * 6 + [second] * 3 + [None]


def test_a_nested_function_is_not_a_stub(tmp_path):
    inner = textwrap.indent(STUB, "    ")
    module = module_of(tmp_path, f"def outer(x):\n{inner}    return double(x)\n")
    source = read_source(Path(str(module.__file__)))
    assert source.stubs() == []
    assert stub_that_raised(caught(module, "outer"), source) is None


# --- which stub an error comes from ---

WAYS = f"""import torch
def double(x):
    {RAISE}

def through(x):
    return double(x)

def again(x):
    try:
        return double(x)
    except NotImplementedError:
        raise

def begun(x):
    y = 2 * x
    {RAISE}

def other_words(x):
    raise NotImplementedError("later")

def from_elsewhere(x):
    raise ValueError("Exercise 1.1: double")

def by_pytorch_in_python(x):
    return torch.nn.Module()(x)

def by_pytorch_in_c(x):
    return torch.empty(2, device="meta").cpu()
"""


@pytest.mark.parametrize(
    ("name", "stub", "left"),
    [
        ("double", "double", 3),
        ("through", "double", 3),
        ("again", "double", 3),
        ("begun", None, 16),
        ("other_words", None, None),
        ("from_elsewhere", None, None),
        ("by_pytorch_in_python", None, None),
        ("by_pytorch_in_c", None, None),
    ],
)
def test_only_an_untouched_stub_means_not_started(tmp_path, name, stub, left):
    source = source_of(tmp_path, WAYS)
    error = caught(load(source), name)
    found = stub_that_raised(error, source)
    assert (found and found.name) == stub
    assert leftover_raise(error, source) == left


@pytest.mark.parametrize("name", ["by_pytorch_in_python", "by_pytorch_in_c"])
def test_pytorch_itself_raises_not_implemented_error_in_these_two(tmp_path, name):
    assert isinstance(caught(module_of(tmp_path, WAYS), name), NotImplementedError)


def test_the_message_of_a_stub_raised_in_another_file_is_not_a_stub(tmp_path):
    source = source_of(tmp_path, f"{STUB}\n\ndef call(x):\n    return helper(x)\n")
    module = load(source)
    exec(compile(STUB.replace("double(", "helper("), "other.py", "exec"), vars(module))
    error = caught(module, "call")  # on the same line number as a stub's raise
    assert stub_that_raised(error, source) is None
    assert leftover_raise(error, source) is None


# --- files that cannot be read ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("x = 1\ny = (2 +\n", "exercises.py, line 2: '(' was never closed\n    y = (2 +"),
        ("def f():\nreturn 1\n", "exercises.py, line 2: expected an indented block"),
        ("if 1:\n        x = 1\n\ty = 2\n", "line 3: inconsistent use of tabs and spaces"),
        ("x = 1\n  y = 2\n", "line 2: unexpected indent\n    y = 2"),
        (b"x = 1\0\n", "exercises.py contains NUL bytes; save it as UTF-8 text"),
        ("x = 1\n".encode("utf-16"), "exercises.py contains NUL bytes; save it as UTF-8 text"),
        (b"x = '\xff'\n", "exercises.py is not UTF-8 text: "),
        ("# coding: nonsense\n", "exercises.py is not UTF-8 text: unknown encoding: nonsense"),
        ("(" * 500, "exercises.py, line 1: too many nested parentheses"),
        ("x = " + "-" * 100_000 + "1", "exercises.py cannot be read as Python"),
    ],
)
def test_a_syntax_error_is_reported_with_its_line(tmp_path, content, said):
    path = write(tmp_path, content)
    with pytest.raises(LoadError) as error:
        read_source(path)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_a_missing_file_is_reported_with_what_to_do(tmp_path):
    path = write(tmp_path, "")
    path.unlink()
    with pytest.raises(LoadError) as error:
        read_source(path)
    said = "exercises.py is missing: save it again from your editor, or start over with "
    assert str(error.value) == f"{said}git checkout 01_first/exercises/exercises.py"


def test_a_folder_in_place_of_the_file_is_reported(tmp_path):
    path = write(tmp_path, "")
    path.unlink()
    path.mkdir()
    with pytest.raises(LoadError, match=r"^exercises.py cannot be read: "):
        read_source(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfanswer = 42\n",
        b"answer = 41\r\nanswer += 1\r\n",
        b"answer = 41\ranswer += 1",
        b"# coding: latin-1\nanswer = 42 if '\xff' == chr(255) else 0\n",
        b"answer = 42 if '\\d' else 0\nanswer is 42\n",  # two harmless warnings
    ],
)
def test_any_valid_source_is_loaded(tmp_path, content):
    assert module_of(tmp_path, content).answer == 42


def test_an_empty_file_is_an_empty_module(tmp_path):
    assert not hasattr(module_of(tmp_path, ""), "double")


# --- files that fail while they load ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_there", "line 2: ModuleNotFoundError: No module named 'nothing_there'"),
        ("from os import nothing", "line 2: ImportError: cannot import name 'nothing'"),
        ("1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "line 2: SystemExit: 3"),
        ("import sys; sys.exit('bye')", "line 2: SystemExit: bye"),
        ("raise KeyboardInterrupt", "line 2: KeyboardInterrupt"),
        ("raise GeneratorExit", "line 2: GeneratorExit"),
        ("def f(): f()\nf()", "line 2: RecursionError: maximum recursion depth exceeded"),
        ("int('x' * 400)", "line 2: ValueError: invalid literal for int()"),
        ("exec('1 +')", "line 2: SyntaxError: invalid syntax"),
    ],
)
def test_an_error_while_loading_is_reported_with_its_line(tmp_path, text, said):
    source = source_of(tmp_path, f"x = 1\n{text}\n")
    with pytest.raises(LoadError) as error:
        load(source)
    message = str(error.value)
    assert message.startswith(f"exercises.py fails to load: {said}")
    assert message.splitlines()[1] == f"    {text.splitlines()[0]}"
    assert len(message) < 500


def test_a_warning_does_not_stop_loading(tmp_path):
    assert module_of(tmp_path, "import warnings\nwarnings.warn('old')\nx = 1\n").x == 1


def test_ctrl_c_while_it_loads_is_not_the_learners_mistake(tmp_path):
    source = source_of(tmp_path, f"import signal\nsignal.raise_signal({int(signal.SIGINT)})\n")
    with pytest.raises(KeyboardInterrupt):
        load(source)


def test_time_up_passes_through_even_on_a_raise_statement(tmp_path):
    source = source_of(tmp_path, "from utils.grader.learner_code import TimeUp\nraise TimeUp\n")
    with pytest.raises(TimeUp):
        load(source)


def test_two_saves_within_a_second_are_told_apart(tmp_path):
    answers = [module_of(tmp_path, f"answer = {number}\n").answer for number in range(5)]
    assert answers == [0, 1, 2, 3, 4]
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_save_between_reading_and_loading_changes_nothing(tmp_path):
    source = source_of(tmp_path, "answer = 1\n")
    write(tmp_path, "answer = 2\n")
    assert load(source).answer == 1


def test_the_file_is_not_run_as_a_program_and_dataclasses_work(tmp_path):
    text = """
    from dataclasses import dataclass

    @dataclass
    class Pair:
        x: "int"

    started = __name__ == "__main__"
    place = __file__
    """
    module = module_of(tmp_path, textwrap.dedent(text))
    assert module.Pair(3).x == 3
    assert not module.started
    assert Path(module.place).name == "exercises.py"


# --- an error in words ---


def error_of(folder: Path, lines: str) -> tuple[BaseException, Path]:
    """The error of a function with these lines, and its file."""
    path = write(folder, "def fail(x):\n" + textwrap.indent(textwrap.dedent(lines), "    "))
    return caught(load(read_source(path)), "fail"), path


def test_an_error_quotes_the_line_as_it_was_when_loaded(tmp_path):
    error, path = error_of(tmp_path, "return x / 0\n")
    path.write_text("something else\nentirely\n", encoding="utf-8")
    assert describe(error, path) == "line 2: ZeroDivisionError: division by zero\n    return x / 0"


def test_the_line_is_the_learners_own_even_if_the_error_came_from_deeper(tmp_path):
    error, path = error_of(tmp_path, "import json\nreturn json.loads('{')\n")
    assert describe(error, path).startswith("line 3: json.decoder.JSONDecodeError: ")
    assert last_line_in(error.__traceback__, path) == 3


def test_lines_are_counted_as_python_counts_them(tmp_path):
    odd = "s = 'one \x0c two \u2028 three \x85'\n"  # str.splitlines() sees three more lines here
    error, path = error_of(tmp_path, f"{odd}return x / 0\n")
    assert describe(error, path) == "line 3: ZeroDivisionError: division by zero\n    return x / 0"
    assert lines_of(f"a{odd}b\r\nc\rd") == [f"a{odd}", "b\r\n", "c\r", "d"]


def test_a_long_message_is_cut_and_becomes_one_line(tmp_path):
    error, path = error_of(tmp_path, "raise ValueError('one\\n\\n  two ' + 'z' * 1000)\n")
    said, _ = describe(error, path).splitlines()
    assert said.startswith("line 2: ValueError: one two zzz")
    assert said.endswith("zzz...")
    assert len(said) == len("line 2: ") + 300


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("e = ValueError('big')\ne.add_note('a note')\nraise e\n", "line 4: ValueError: big"),
        ("raise KeyError('k')\n", "line 2: KeyError: 'k'"),
        ("raise ValueError\n", "line 2: ValueError"),
        ("compile('x = = 1', 'f', 'exec')\n", "line 2: SyntaxError: invalid syntax"),
    ],
)
def test_an_error_is_described_by_type_and_message(tmp_path, lines, said):
    assert describe(*error_of(tmp_path, lines)).splitlines()[0] == said


def test_an_error_that_cannot_be_printed_is_described(tmp_path):
    text = "class Odd(Exception):\n    def __str__(self):\n        return 1 / 0\nraise Odd\n"
    assert "Odd: <exception str() failed>" in describe(*error_of(tmp_path, text))


def test_an_error_outside_the_file_has_no_line(tmp_path):
    assert describe(ValueError("elsewhere"), tmp_path / "exercises.py") == "ValueError: elsewhere"


def test_assert_statements_of_a_learner_count_under_python_o(tmp_path):
    path = write(tmp_path, "def half(x):\n    assert x != 3, 'odd'\n    return x // 2\n")
    program = (
        "import sys; from pathlib import Path; from utils.grader.learner_code import *;"
        "load(read_source(Path(sys.argv[1]))).half(3)"
    )
    done = subprocess.run([sys.executable, "-O", "-c", program, path], capture_output=True)
    assert b"AssertionError: odd" in done.stderr


@pytest.mark.parametrize(
    ("content", "module"),
    [
        ("from attention import softmax\ndef share(x):\n    return softmax(x)\n", "attention"),
        ("import attention as a\ndef share(x):\n    return a.softmax(x)\n", "attention"),
        ("from attention import softmax as s\ndef share(x):\n    return s(x)\n", "attention"),
        ("def share(x):\n    from attention import softmax\n    return softmax(x)\n", "attention"),
        ("from attention import softmax\ndef share(x):\n    return x\n", ""),  # to compare with
        ("from attention import softmax\ndef other(x):\n    return softmax(x)\n", ""),
        ("from torch import softmax\ndef share(x):\n    return softmax(x)\n", ""),
    ],
)
def test_the_use_of_a_module_in_a_function_is_seen(tmp_path, content, module):
    assert source_of(tmp_path, content).uses(["share"], {"attention", "flash"}) == module


@pytest.mark.parametrize(
    ("forward", "module"),
    [("return x", ""), ("return made(x)", "parts"), ("return made()", "parts")],
)
def test_a_constructor_that_the_course_wrote_may_use_the_reference(tmp_path, forward, module):
    text = f"""
from parts import made
class Model:
    def __init__(self):
        self.block = made()
    def forward(self, x):
        {forward}
"""
    source = source_of(tmp_path, text)
    assert source.uses(["Model"], {"parts"}, given={"Model.__init__"}) == module
    assert source.uses(["Model"], {"parts"}) == "parts"
