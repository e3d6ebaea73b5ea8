"""Rules for all tests: skips that name the missing hardware, fixed seeds, no network access."""

import importlib.util
import os
import random
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest_plugins = ["utils.grader.pytest_plugin"]  # the fixture `ex`, --solutions

MARKERS = {
    "gpu": "needs a GPU that PyTorch can use (CUDA or MPS)",
    "browser": "needs Playwright, which drives a headless Chromium",
    "compiler": "needs a C++ compiler for torch.compile, and a path without spaces",
}
LOOPBACK = ("127.", "::1", "localhost")

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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose hardware is missing; `-ra` prints the reasons at the end."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip(MARKERS["gpu"])
    if item.get_closest_marker("browser") and importlib.util.find_spec("playwright") is None:
        pytest.skip(MARKERS["browser"])
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
def training_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The capstone's default folders are temporary, and no curves are drawn, which is slow."""
    import train

    monkeypatch.setattr(train, "HERE", tmp_path / "capstone")
    monkeypatch.setattr("run_curves.plot_metrics", lambda folder, data: None)


@pytest.fixture(autouse=True)
def same_seed_for_every_test() -> None:
    """Seed all generators, so that random numbers do not depend on the tests that ran before."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


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
