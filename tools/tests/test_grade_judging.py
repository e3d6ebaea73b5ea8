"""Judging a submission: what is hidden from it, what it cannot forge, what it costs to break.

A few exercises of lesson 01 and four submissions; tools/grading_trial.py grades a whole class.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.grading import scrubbed
from tools.grading.grades import LONGEST_TEXT, Grade, clean, withheld
from tools.grading.hostile import hostile, right, the_class
from tools.grading.judging import Grader
from tools.grading.sandbox import Sandbox, View, bubblewrap_works, launch_settings
from tools.grading.submissions import Submission
from tools.grading.wire import CannotSendError, Packer, Unpacker, known_dataclass, parse, sizes_of
from tools.grading.worker_events import TYPES, is_event
from utils.config import ModelConfig
from utils.errors import UsageError
from utils.grader.exercises import ROOT, Lesson, lessons
from utils.grader.report import SOLVED, TO_DO, WRONG, Case, Verdict
from utils.grader.worker import as_json

WHOLE = lessons()[1]
LESSON = Lesson(WHOLE.folder, WHOLE.exercises[:3])

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="needs limits of processes")
needs_walls = pytest.mark.skipif(not bubblewrap_works(), reason="needs bubblewrap")


# --- the whole way, on three exercises ---


def submission(name: str) -> Submission:
    """One of the made-up students of tools/grading/hostile.py."""
    student = next(one for one in hostile(WHOLE) if one.name == name)
    return Submission(name, {WHOLE.name: student.text.encode()})


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, dict[str, Grade]]]:
    """The grades of four submissions, judged two at a time."""
    honest = Submission("honest", {WHOLE.name: right(WHOLE, ["1.1", "1.3"]).encode()})
    class_ = [honest, *map(submission, ("forger", "patcher", "thief"))]
    with Grader(2) as grader:
        yield {one.name: one.grades for one in grader.grade_all(class_, [LESSON])}


@needs_walls
def test_an_honest_answer_is_confirmed_from_outside(outcomes: Any) -> None:
    grades = outcomes["honest"]
    assert [one.verdict.outcome for one in grades.values()] == [SOLVED, TO_DO, SOLVED]
    assert grades["1.1"].confirmed >= 4 and grades["1.3"].confirmed >= 4


@needs_walls
@pytest.mark.parametrize("name", ["forger", "patcher", "thief"])
def test_no_trick_raises_the_score(outcomes: Any, name: str) -> None:
    """all three convince the tests in their own process, and are asked again from outside"""
    grades = outcomes[name]
    assert [one.verdict.outcome for one in grades.values()][::2] == [SOLVED, WRONG]
    assert grades["1.2"].verdict.outcome != SOLVED
    assert grades["1.3"].disputed
    assert "asked from outside" in grades["1.3"].verdict.message


def test_what_cannot_be_confirmed_does_not_count_beside_a_forgery() -> None:
    good = Grade(Verdict("1.1", SOLVED), confirmed=3)
    unasked = Grade(Verdict("1.2", SOLVED))
    forged = Grade(Verdict("1.3", WRONG), disputed=True)
    made = withheld({"1.1": good, "1.2": unasked, "1.3": forged})
    assert [one.verdict.outcome for one in made.values()] == [SOLVED, WRONG, WRONG]


def test_the_made_up_class_has_thirty_students_and_ten_ways_to_cheat() -> None:
    made = the_class(WHOLE)
    assert len({one.name for one in made}) == 30
    assert sum(bool(one.tries) for one in made) >= 10
    assert len({one.deserves for one in made}) > 5


# --- what a judged process finds ---


def texts(folder: Path) -> dict[str, str]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {name: one.read_text(encoding="utf-8") for name, one in found.items() if one.is_file()}


def test_the_scrubbed_copies_hold_no_solution_and_no_history(tmp_path: Path) -> None:
    for copy in (
        scrubbed.copy_for_tests(WHOLE, tmp_path / "tests"),
        scrubbed.copy_for_answers(WHOLE, tmp_path / "answers"),
    ):
        found = texts(copy)
        assert not any(
            name.startswith((".git/", "02_", "09_capstone/m"))
            for name in found
            if "exercises" not in name
        )
        for lesson in lessons():
            for file in ("solutions.py", "exercises.py"):
                text = found[f"{lesson.name}/exercises/{file}"]
                assert text.count('raise NotImplementedError("Exercise') >= len(lesson.exercises)


def test_where_answers_are_given_there_is_neither_test_nor_reference(tmp_path: Path) -> None:
    found = texts(scrubbed.copy_for_answers(WHOLE, tmp_path))
    assert "01_attention/attention.py" not in found
    assert not any("/tests/" in name for name in found)
    assert "utils/grader/learner_code.py" in found


@needs_walls
def test_behind_the_walls_there_is_no_file_of_ours_and_no_network(tmp_path: Path) -> None:
    (tmp_path / "copy" / "look").mkdir(parents=True)
    (tmp_path / "copy" / ".venv").mkdir()
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    (tmp_path / "copy" / "look" / "around.py").write_text(
        "import json, os, pathlib, socket\n"
        "def network():\n"
        "    try:\n"
        "        socket.create_connection(('127.0.0.1', 22), timeout=1)\n"
        "    except OSError as error:\n"
        "        return type(error).__name__\n"
        "def write():\n"
        "    try:\n"
        "        pathlib.Path('new').write_text('x')\n"
        "    except OSError as error:\n"
        "        return type(error).__name__\n"
        f"seen = [os.path.exists({str(secret)!r}), os.path.exists('conftest.py')]\n"
        "print(json.dumps([os.getcwd(), seen, os.environ.get('GITHUB_TOKEN'), os.getuid() == 0,\n"
        "    len(os.listdir('/sys/class/net')) if os.path.exists('/sys') else 0,\n"
        "    sum(one.isdigit() for one in os.listdir('/proc')), network() is None, write()]))\n",
        encoding="utf-8",
    )
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    sandbox = Sandbox(own_user=300_001)
    process = sandbox.start(View(tmp_path / "copy"), "look.around", sys.stderr.fileno())
    output, _ = process.communicate(timeout=60)
    where, seen, token, is_root, networks, processes, connected, written = json.loads(output)
    assert where == str(ROOT)
    assert (seen, token, is_root, connected) == ([False, False], None, False, False)
    assert networks <= 1 and processes <= 3
    assert written == "OSError"  # a read-only file system


@needs_walls
def test_the_limits_are_set_before_anything_else_runs() -> None:
    settings = json.loads(launch_settings(7))
    assert settings["user"] == 7
    assert set(settings["limits"]) == {"AS", "NPROC", "FSIZE", "CORE"}


# --- what comes back ---


def event(**changes: Any) -> dict[str, Any]:
    return {"event": "case", **as_json(Case("1.1", SOLVED)), **changes}


def test_an_event_of_the_engine_is_one() -> None:
    assert is_event(event())
    assert is_event({"event": "start", "exercise": "1.1"})
    assert is_event(event(explained_by=["a"], pairs=[["a", "b"]], margin=float("inf")))


@pytest.mark.parametrize(
    "forged",
    [
        event(outcome="excellent"),
        event(points=100),
        event(message=None),
        event(resembles=[["a"]]),
        event(pairs=[["a"]]),
        {"event": "case"},
        {"event": "end", "code": "0"},
        {"event": "promote"},
        {},
    ],
)
def test_anything_else_is_not(forged: dict[str, Any]) -> None:
    assert not is_event(forged)


def test_texts_from_a_submission_are_short_and_printable() -> None:
    found = clean(replace(Verdict("1.1", WRONG), message="\x1b[2J\udcff" + 9999 * "x"))
    assert len(found.message) <= LONGEST_TEXT
    assert "\x1b" not in found.message and found.message.encode()


def round_trip(value: Any, allows_names: bool = False) -> Any:
    packer = Packer()
    packed = json.loads(json.dumps(packer.pack(value)))
    return Unpacker(packer.tensors, allows_names).unpack(packed)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2.5, "x", True, None],
        (1, (2, [3])),
        {"a": 1, 2: {"b": {3}}},
        {(1, 2): frozenset({4})},
        b"\0\xff",
        complex(1, -2),
        range(1, 9, 2),
        torch.float16,
        torch.device("meta"),
        float("inf"),
    ],
)
def test_values_cross(value: Any) -> None:
    made = round_trip(value)
    assert made == value and type(made) is type(value)


def test_tensors_cross_with_dtype_shape_and_the_wish_for_a_gradient() -> None:
    for tensor in (
        torch.randn(2, 3).t(),
        torch.zeros(0, 4),
        torch.tensor(3),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(3, requires_grad=True),
    ):
        made = round_trip(tensor)
        assert torch.equal(made, tensor) and made.dtype == tensor.dtype
        assert made.requires_grad == tensor.requires_grad
    assert round_trip(torch.empty(2, 3, device="meta")).shape == (2, 3)


def test_a_layer_crosses_to_the_side_that_may_resolve_names() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False), torch.nn.GELU()).eval()
    made = round_trip(layer, allows_names=True)
    x = torch.randn(4, 3)
    assert torch.equal(made(x), layer(x)) and not made.training
    with pytest.raises(ValueError, match="unknown kind"):
        round_trip(layer)


def test_an_answer_can_name_no_function_and_only_known_dataclasses() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        Unpacker({}, allows_names=False).unpack({"named": "os:system"})
    with pytest.raises(ValueError, match="not a known dataclass"):
        known_dataclass("os:system")
    assert round_trip(ModelConfig()) == ModelConfig()


def test_what_has_no_entry_cannot_be_sent() -> None:
    for value in (object(), lambda: None, Path("x"), iter([])):
        with pytest.raises(CannotSendError):
            Packer().pack(value)
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(CannotSendError, match="deeply"):
        Packer().pack(deep)


@pytest.mark.parametrize("text", [b"[]", b"1", b"{", b"\xff"])
def test_a_message_must_be_an_object(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse(text, b"")


def test_a_message_that_is_too_large_is_not_read() -> None:
    with pytest.raises(ValueError, match="too large"):
        sizes_of((2**40).to_bytes(8, "little") + bytes(8))


# --- the command line ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.zip"], "there is no submission nowhere.zip"),
        ([".", "--format", "xml"], "unknown format 'xml'"),
        ([".", "--jobs", "0"], "--jobs is 0; allowed: 1 to 32"),
        ([".", "--output", "x.json"], "--output x.json needs a format that writes files"),
        ([], "submissions"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, call_program: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from tools import grade

    monkeypatch.chdir(tmp_path)
    outcome = call_program(grade.main, *arguments)
    assert outcome.code == 2
    assert said in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.parametrize("form", ["gradescope", "csv", "classroom50"])
def test_where_the_results_go_is_asked_before_grading(
    form: str, call_program: Any, tmp_path: Path
) -> None:
    from tools import grade

    (tmp_path / "ann.py").write_text("def softmax(x):\n    return x\n", encoding="utf-8")
    outcome = call_program(grade.main, tmp_path / "ann.py", "--format", form)
    assert (outcome.code, "needs --output" in outcome.err) == (2, True)


def test_a_lesson_that_is_not_there_is_a_mistake_of_usage() -> None:
    from tools.grade import choose

    with pytest.raises(UsageError, match="did you mean '01_attention'"):
        choose(["01_atention"], [WHOLE], [])
    assert choose([], [WHOLE], [WHOLE.name]) == [WHOLE]


def test_a_case_keeps_its_form() -> None:
    """the form that the grader expects is the one that the engine sends"""
    assert set(TYPES) == set(asdict(Case("1.1")))


def test_the_page_counts_the_exercises_that_cannot_be_asked_from_outside() -> None:
    """Which they are, each grading finds out anew; the page has to name exercises that exist."""
    page = (ROOT / "00_setup" / "for_instructors.md").read_text(encoding="utf-8")
    (named, count) = re.findall(r"is left\s+\(today (.+?), of (\d+)\)", page, re.DOTALL)[0]
    ids = {one.id for lesson in lessons() for one in lesson.exercises}
    assert int(count) == len(ids)
    assert {*re.findall(r"\d\.\d+", named)} <= ids
