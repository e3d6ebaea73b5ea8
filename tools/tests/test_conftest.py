"""The root conftest.py: no network access, fixed seeds, and no `python -O`."""

import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

import conftest

DRAWN: list[tuple[float, float, float]] = []


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 443)])
def test_a_connection_to_another_machine_is_refused(method: str, address: tuple[str, int]) -> None:
    with (
        socket.socket() as client,
        pytest.raises(pytest.fail.Exception, match=f"tried to reach {address[0]}"),
    ):
        client.settimeout(0.1)
        getattr(client, method)(address)


def test_a_connection_to_this_machine_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_programs_that_tests_start_are_told_to_stay_offline() -> None:
    assert os.environ["TINY_TRANSFORMER_OFFLINE"] == "1"


@pytest.mark.parametrize("time", ["first", "second"])
def test_every_test_draws_the_same_numbers(time: str) -> None:
    DRAWN.append((random.random(), float(np.random.rand()), torch.rand(()).item()))
    assert DRAWN[-1] == DRAWN[0]
    assert len({*DRAWN[0]}) == 3


class Marked:
    """The only method of a test that conftest uses."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def get_closest_marker(self, name: str) -> bool:
        return name == self.marker


def test_a_gpu_test_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    item = cast(pytest.Item, Marked("gpu"))
    monkeypatch.setattr(conftest, "has_gpu", lambda: True)
    conftest.pytest_runtest_setup(item)
    monkeypatch.setattr(conftest, "has_gpu", lambda: False)
    with pytest.raises(pytest.skip.Exception, match="needs a GPU"):
        conftest.pytest_runtest_setup(item)


def test_a_comparison_with_a_library_is_skipped_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = cast(pytest.Item, Marked("transformers"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    conftest.pytest_runtest_setup(item)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match=r"python tools/install.py --extra interop"):
        conftest.pytest_runtest_setup(item)


def test_python_o_is_refused_in_one_line() -> None:
    root = Path(conftest.__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tools/tests/test_conftest.py"],
        cwd=root,
        env={**os.environ, "PYTHONOPTIMIZE": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 4
    assert "ERROR: PYTHONOPTIMIZE (or python -O) removes the assert statements" in done.stderr
    assert "Traceback" not in done.stderr
