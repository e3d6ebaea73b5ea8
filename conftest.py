"""Rules for all tests: skips that name the missing hardware, fixed seeds, no network access."""

import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import pytest

pytest_plugins = ["utils.grader.pytest_plugin"]  # the fixture `ex`, --solutions

MARKERS = {
    "gpu": "needs a GPU that PyTorch can use (CUDA or MPS)",
    "browser": "needs Playwright, which drives a headless Chromium",
    "transformers": "needs transformers: python tools/install.py --extra interop",
    "compiler": "needs a C++ compiler for torch.compile, and a path without spaces",
}
# The files that take longest: begun last, one would keep a process busy when the others are done.
LONG = (
    "09_capstone/tests/test_compile.py",
    "utils/grader/tests/test_runner.py",
    "09_capstone/tests/test_faults.py",
    "09_capstone/tests/test_data_parallel_run.py",
    "tools/tests/test_learn.py",
    "tools/tests/test_install.py",
    "tools/tests/test_attention_page.py",
    "09_capstone/tests/test_train.py",
)
LOOPBACK = ("127.", "::1", "localhost")
NOTHING: Mapping[str, str] = MappingProxyType({})

# The tensors of the tests are tiny: a second thread costs more than it gains. Set before torch is
# imported; programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers for --strict-markers. Raises UsageError under `python -O`."""
    if not __debug__:
        raise pytest.UsageError(
            "PYTHONOPTIMIZE (or python -O) removes the assert statements that tests need: unset it"
        )
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first; the others in their order."""
    rank = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose hardware is missing; `-ra` prints the reasons at the end."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip(MARKERS["gpu"])
    if item.get_closest_marker("browser") and importlib.util.find_spec("playwright") is None:
        pytest.skip(MARKERS["browser"])
    if item.get_closest_marker("transformers") and not importlib.util.find_spec("transformers"):
        pytest.skip(MARKERS["transformers"])
    if item.get_closest_marker("compiler") and not has_compiler():
        pytest.skip(MARKERS["compiler"])


def has_compiler() -> bool:
    """Whether torch.compile finds a compiler; it can't pass it a path with spaces in it."""
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "cl"]
    return " " not in sys.prefix and any(shutil.which(name) for name in names)


def has_gpu() -> bool:
    """Whether PyTorch can use a GPU; torch is imported only if a test needs to know."""
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


class Outcome(NamedTuple):
    """How a call of a program ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def call_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run the `main` of a program in this process, with these command-line arguments."""
    from utils.errors import run_program

    def call(main: Callable[[], int | None], *arguments: object) -> Outcome:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit_info:
            patch.setattr(sys, "argv", ["program.py", *map(str, arguments)])
            run_program(main)
        printed = capsys.readouterr()
        return Outcome(int(exit_info.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture
def call_and_stop(call_program: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Run the `main` of a training program; with stop_at, press Ctrl-C in the middle of that step.

    The second argument is the class of its trainer.
    """

    def call(
        main: Callable[[], int], trainer: type[Any], *arguments: object, stop_at: int = 0
    ) -> Outcome:
        train_step = trainer.train_step

        def interrupted(self: Any) -> tuple[float, float, float]:
            if self.step + 1 == stop_at:
                signal.raise_signal(signal.SIGINT)
            return train_step(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "train_step", interrupted)
            return call_program(main, *arguments)

    return call


@pytest.fixture
def training_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The capstone's default folders are temporary, and no curves are drawn, which is slow."""
    import run_places

    monkeypatch.setattr(run_places, "HERE", tmp_path / "capstone")
    monkeypatch.setattr("run_curves.plot_metrics", lambda folder, data: None)


@pytest.fixture(scope="module")
def draw(request: pytest.FixtureRequest) -> ModuleType:
    """pictures/draw.py of the lesson that the test belongs to."""
    lesson = request.path.parents[1]
    path = lesson / "pictures" / "draw.py"
    spec = importlib.util.spec_from_file_location(f"_draw_{lesson.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shown_to_learner(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, str], str]:
    """What a learner reads whose answer has this body: `shown_to_learner("3.2", body)`.

    The answer takes the place of the exercise's first stub, in a copy of the test's lesson without
    any other answer, and is judged by the real engine.
    """
    from utils.grader.exercises import read_lesson
    from utils.grader.report import message_lines
    from utils.grader.runner import judge
    from utils.grader.stubs import emptied_solutions

    folder = request.path.parents[1]

    def shown(exercise: str, body: str) -> str:
        for name in ("conftest.py", "pyproject.toml", "requirements.txt"):
            shutil.copy(folder.parent / name, tmp_path)
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs", "checkpoints")
        shutil.copytree(folder, tmp_path / folder.name, ignore=ignored)
        lesson = read_lesson(tmp_path / folder.name)
        unsolved = emptied_solutions(lesson)
        todo = rf'^( *)raise NotImplementedError\("Exercise {re.escape(exercise)}: .*$'
        stub = re.search(todo, unsolved, flags=re.MULTILINE)
        assert stub is not None, f"no stub of {exercise}"
        answer = textwrap.indent(textwrap.dedent(body).strip(), stub[1])
        text = unsolved[: stub.start()] + answer + unsolved[stub.end() :]
        lesson.file.write_text(text, encoding="utf-8")
        verdicts, _ = judge(lesson, [exercise])
        title = f"{exercise}   wrong  {lesson.exercise(exercise).title}"
        return "\n".join([title, *message_lines(verdicts[exercise], indent="  ")])

    return shown


@pytest.fixture
def solved_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Callable[..., Path]":
    """Makes a course of a learner who has solved lessons 01 to 04, and lets Parts.mine use it.

    `to_do` are exercises whose stubs are put back, `wrong` those that count as wrong, and `written`
    is code of the learner's, by lesson, which replaces that of the solutions. The verdicts are
    given and not computed: that takes too long for most tests.
    """
    import my_parts
    import my_pieces
    from utils.grader.exercises import ROOT, Lesson, read_lesson
    from utils.grader.report import SOLVED, TO_DO, WRONG, Verdict
    from utils.grader.stubs import reset_exercise

    def make(
        to_do: Sequence[str] = (), wrong: Sequence[str] = (), written: Mapping[str, str] = NOTHING
    ) -> Path:
        root = tmp_path / "course"
        for folder in {lesson for lesson, _ in my_pieces.PIECES.values()}:
            source, copy = ROOT / folder / "exercises", root / folder / "exercises"
            if not (source / "exercises.yaml").exists():
                continue
            copy.mkdir(parents=True)
            for name in ("exercises.yaml", "solutions.py"):
                shutil.copy(source / name, copy)
            text = (source / "solutions.py").read_text(encoding="utf-8")
            added = written.get(folder, "")
            (copy / "exercises.py").write_text(f"{text}\n\n{added}", encoding="utf-8")
            lesson = read_lesson(root / folder)
            for exercise in lesson.exercises:
                if exercise.id in to_do:
                    reset_exercise(lesson, exercise)

        def verdicts_of(lesson: Lesson) -> dict[str, Verdict]:
            states = dict.fromkeys(to_do, TO_DO) | dict.fromkeys(wrong, WRONG)
            ids = [exercise.id for exercise in lesson.exercises]
            return {one: Verdict(one, states.get(one, SOLVED)) for one in ids}

        monkeypatch.setattr(my_parts, "ROOT", root)
        monkeypatch.setattr(my_pieces, "verdicts_of", verdicts_of)
        return root

    return make


@pytest.fixture(scope="session", autouse=True)
def forked_workers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start the grader's processes in milliseconds, where the system can fork them.

    Only in runs of all tests, not where a learner's answers are judged: there it would cost time.
    """
    if not request.config.getoption("solutions"):
        yield
        return
    from utils.grader.forked import CAN_FORK, ForkedWorker
    from utils.grader.runner import Worker

    with pytest.MonkeyPatch.context() as patch:
        if CAN_FORK:
            patch.setattr(Worker, "start_process", ForkedWorker.start_process)
        yield


@pytest.fixture(autouse=True)
def same_seed_for_every_test() -> None:
    """Seed all generators, so that random numbers do not depend on the tests that ran before."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        seed_torch(sys.modules["torch"])


def seed_torch(torch: Any) -> None:
    """torch.manual_seed(0) in microseconds.

    Itself it takes milliseconds, because it records the call stack once for every kind of
    accelerator that has not been used yet.
    """
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Fail any test that connects to another machine, and name the address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_TRANSFORMER_OFFLINE", "1")  # for programs that tests start
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        yield


def guarded(connect: Any) -> Any:
    """Wrap a connect method so that it refuses addresses outside this machine."""

    def connect_locally(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            pytest.fail(f"a test tried to reach {address[0]}; tests may not use the network")
        return connect(self, address)

    return connect_locally
