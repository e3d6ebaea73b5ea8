"""Errors: the exit code, the one line, and programs whose output is cut off.

The programs run in processes of their own, because exit codes and pipes belong to processes.
"""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from utils.errors import (
    CourseError,
    UsageError,
    did_you_mean,
    is_out_of_memory,
    pick,
    print_error,
)

FULL = Path("/dev/full")
PROGRAM = """
import os, sys
from utils.errors import CourseError, UsageError, run_program

def main():
    {body}

if __name__ == "__main__":
    run_program(main)
"""


def run(body: str, stdout: Any = subprocess.PIPE, **options: str) -> subprocess.CompletedProcess:
    """Run a program whose `main` is this line of code; its output is buffered, as usual."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "", **options},
    )


# --- words --------------------------------------------------------------------------------------


LONG = (
    "unknown preset 'labtop' (did you mean 'laptop'?); choose one of: smoke, laptop, nano, full, "
    "baby_gpt, /" + 90 * "x"
)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_error_is_broken_between_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    print_error(LONG)
    lines = stream.getvalue().splitlines()
    assert len(lines) == (3 if is_terminal else 1)
    assert " ".join(line.strip() for line in lines) == f"error: {LONG}"
    if is_terminal:
        assert all(len(line) < 80 for line in lines[:2])
        assert all(line.startswith(" " * 7) for line in lines[1:])


@pytest.mark.parametrize(
    ("given", "choices", "hint"),
    [
        ("laptpo", ["smoke", "laptop"], " (did you mean 'laptop'?)"),
        ("LAPTOP", ["smoke", "laptop"], " (did you mean 'laptop'?)"),
        ("laptop", {"laptop": 1}, " (did you mean 'laptop'?)"),
        ("xyz", ["smoke", "laptop"], ""),
        ("", ["smoke"], ""),
        ("smoke", [], ""),
    ],
)
def test_a_suggestion_is_made_only_for_a_close_match(given, choices, hint):
    assert did_you_mean(given, choices) == hint


def test_pick_returns_the_choice_or_lists_the_choices():
    assert pick("b", iter("abc"), "letter") == "b"
    with pytest.raises(UsageError) as raised:
        pick("smok", (word for word in ("smoke", "full")), "preset")
    message = "unknown preset 'smok' (did you mean 'smoke'?); choose one of: smoke, full"
    assert str(raised.value) == message


def test_pick_keeps_the_given_text_on_one_line():
    with pytest.raises(UsageError) as raised:
        pick("a\nb", ["c"], "letter")
    assert "\n" not in str(raised.value)


def test_a_usage_error_is_a_course_error_which_is_a_value_error():
    assert issubclass(UsageError, CourseError) and issubclass(CourseError, ValueError)
    assert (CourseError.exit_code, UsageError.exit_code) == (1, 2)


# --- programs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        ("return None", 0, ""),
        ("return 0", 0, ""),
        ("return 130", 130, ""),
        ("raise CourseError('the file is truncated')", 1, "error: the file is truncated\n"),
        ("raise UsageError('no such preset')", 2, "error: no such preset\n"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
        ("raise OSError(28, 'No space left on device')", 1, "error: No space left on device\n"),
        ("raise OSError('strange')", 1, "error: strange\n"),
        (
            "raise PermissionError(13, 'Permission denied', 'runs/a')",
            1,
            "error: Permission denied: runs/a\n",
        ),
        ("open('no/where')", 1, "error: No such file or directory: no/where\n"),
        ("raise MemoryError", 1, "error: out of memory; use a smaller model or batch\n"),
        ("sys.exit(3)", 3, ""),
    ],
)
def test_a_program_exits_with_its_code_and_one_line(body, code, line):
    done = run(body)
    assert (done.returncode, done.stderr, done.stdout) == (code, line, "")


def test_a_bug_keeps_its_traceback():
    done = run("raise RuntimeError('a bug')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "RuntimeError: a bug" in done.stderr


def test_output_comes_before_the_error_that_ends_the_program():
    done = run("print('so far'); raise CourseError('and no further')")
    assert (done.stdout, done.stderr) == ("so far\n", "error: and no further\n")


def test_text_that_the_console_encoding_lacks_is_printed_as_utf8():
    body = r"print('caf\u00e9 \u2028 \U0001f600'); raise CourseError('\u00e9')"
    done = run(body, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.stdout == "caf\u00e9 \u2028 \U0001f600\n"
    assert done.stderr == "error: \u00e9\n"


def test_half_a_character_is_printed_as_a_question_mark():
    done = run(r"print('a\udcffb'); raise CourseError('\ud800')")
    assert (done.returncode, done.stdout, done.stderr) == (1, "a?b\n", "error: ?\n")


@pytest.mark.parametrize(
    "body",
    [
        "[print(n) for n in range(100000)]",  # fails while it prints
        "print('short')",  # fails when it flushes
        "print('help'); sys.exit(0)",
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="Windows reports a closed pipe differently")
def test_a_reader_that_closes_the_pipe_early_is_not_an_error(body):
    reading, writing = os.pipe()
    os.close(reading)  # as `program | head` does, once it has its lines
    with os.fdopen(writing, "wb") as pipe:
        done = run(body, stdout=pipe)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a closed pipe differently")
def test_an_error_is_printed_even_when_the_output_is_not_read():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = run("print('so far'); raise CourseError('and no further')", stdout=pipe)
    assert (done.returncode, done.stderr) == (1, "error: and no further\n")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("body", ["print('x')", "print('x' * 10**6)", "print('x'); sys.exit(0)"])
def test_a_full_disk_behind_the_output_is_one_line(body):
    with FULL.open("wb") as full:
        done = run(body, stdout=full)
    assert (done.returncode, done.stderr) == (1, f"error: {os.strerror(errno.ENOSPC)}\n")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), True),
        (RuntimeError("shapes (3, 4) and (5, 6) cannot be multiplied"), False),
    ],
)
def test_a_lack_of_memory_is_recognized_by_the_message(error, is_one):
    assert is_out_of_memory(error) is is_one


@pytest.mark.parametrize("shape", [(10**6, 10**9), (2**40, 2**40)])
def test_a_tensor_too_large_for_any_machine_is_out_of_memory(shape):
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(shape)
    assert is_out_of_memory(raised.value)
