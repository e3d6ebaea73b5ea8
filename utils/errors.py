"""Errors that people can fix are one line on standard error and an exit code, not a traceback.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import difflib
import io
import os
import sys
import textwrap
from collections.abc import Callable, Iterable


class CourseError(ValueError):
    """Something outside the code is wrong, such as a file; the message says what would work."""

    exit_code = 1


class UsageError(CourseError):
    """The command or the configuration asks for something impossible: exit code 2."""

    exit_code = 2


def did_you_mean(given: str, choices: Iterable[str]) -> str:
    """ " (did you mean 'laptop'?)" if one of the choices is close to `given`, else ""."""
    close = difflib.get_close_matches(given.lower(), list(choices), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def pick(given: str, choices: Iterable[str], what: str) -> str:
    """Return `given` if it is one of the choices; else raise a UsageError that lists them."""
    choices = list(choices)
    if given in choices:
        return given
    hint = did_you_mean(given, choices)
    raise UsageError(f"unknown {what} {given!r}{hint}; choose one of: {', '.join(choices)}")


def run_program(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with its exit code; a CourseError is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):  # a Windows console may have another encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        try:
            code = main() or 0
        except SystemExit as leave:  # after --help
            code = leave.code
        sys.stdout.flush()
    except CourseError as error:
        print_error(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `sample.py | head` closed the pipe: that is not an error
        code = 0
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print_error(f"{error.strerror or error}:{where}".rstrip(":"))
        code = 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print_error("out of memory; use a smaller model or batch")
        code = 1
    _empty_stdout()
    sys.exit(code)


def print_error(message: str) -> None:
    """One line on standard error; on a terminal it is broken between words, before column 80."""
    line = f"error: {message}"
    if sys.stderr.isatty() and "\n" not in message:
        line = textwrap.fill(
            line, 79, subsequent_indent=" " * 7, break_long_words=False, break_on_hyphens=False
        )
    print(line, file=sys.stderr)


def _empty_stdout() -> None:
    """Python flushes once more when it exits; with a closed pipe, discard the rest."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_out_of_memory(error: BaseException) -> bool:
    """Did Python or PyTorch run out of memory? PyTorch may raise a RuntimeError then."""
    signs = ("allocate memory", "out of memory", "not enough memory", "size calculation overflowed")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)
