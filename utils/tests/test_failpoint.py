"""A failpoint kills its process where the environment asks for it, and does nothing elsewhere."""

import os
import subprocess
import sys

import pytest

from utils import failpoint

THREE_PLACES = """
import atexit
from utils.failpoint import failpoint
atexit.register(print, "cleaned up")
try:
    for place in ("first", "second", "first"):
        failpoint(place)
        print(place)
finally:
    print("finally")
"""
TO_THE_END = "first\nsecond\nfirst\nfinally\ncleaned up\n"


def run(asked: str | None) -> tuple[int, str]:
    """Run the three places in a process of their own; its exit code and what it printed."""
    environment = {name: x for name, x in os.environ.items() if name != failpoint.VARIABLE}
    environment |= {} if asked is None else {failpoint.VARIABLE: asked}
    done = subprocess.run(
        [sys.executable, "-u", "-c", THREE_PLACES],
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("asked", [None, "", "third", "firs", "first and more", "@1"])
def test_without_the_variable_it_does_nothing(asked: str | None) -> None:
    assert run(asked) == (0, TO_THE_END)


@pytest.mark.parametrize("asked", ["first", "first@1"])
def test_it_dies_the_first_time_without_any_clean_up(asked: str) -> None:
    assert run(asked) == (failpoint.EXIT_CODE, "")


def test_it_dies_at_the_place_that_was_named() -> None:
    assert run("second") == (failpoint.EXIT_CODE, "first\n")


def test_it_dies_at_the_requested_count_and_counts_its_own_place_only() -> None:
    assert run("first@2") == (failpoint.EXIT_CODE, "first\nsecond\n")
    assert run("first@3") == (0, TO_THE_END)


def test_no_other_way_to_end_has_this_exit_code() -> None:
    assert failpoint.EXIT_CODE not in {0, 1, 2, 130}
