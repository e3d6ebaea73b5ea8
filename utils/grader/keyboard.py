"""Single keys from a terminal, without Enter and without blocking.

    with open_keyboard() as keyboard:
        key = keyboard.read(0.2)

waits up to 0.2 seconds for a key; "" if none was pressed. If standard input is not a terminal,
there are no keys and `read` only waits. Ctrl-C still interrupts the program.
"""

import os
import sys
import time
from typing import Any, Self

if sys.platform == "win32":
    import msvcrt
else:
    import select
    import termios
    import tty

STEP = 0.05  # seconds between two looks at the keyboard, on Windows


class Keyboard:
    """No keys: standard input is not a terminal."""

    has_keys = False

    def read(self, seconds: float) -> str:
        """The key that is pressed within this time; "" if none is."""
        time.sleep(seconds)
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""


class PosixKeyboard(Keyboard):
    """The keys of a terminal on Linux and macOS; its settings are restored at the end.

    A job in the background must not read from the terminal, or the system would stop it.
    """

    has_keys = True

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal
        self.before: list[Any] | None = None

    def __enter__(self) -> Self:
        self._prepare()
        return self

    def read(self, seconds: float) -> str:
        if not self._prepare():
            time.sleep(seconds)
            return ""
        if not select.select([self.terminal], [], [], seconds)[0]:
            return ""
        typed = os.read(self.terminal, 1024)
        if not typed:  # the terminal is closed
            time.sleep(seconds)
        return only_key(typed.decode("utf-8", "replace"))

    def _prepare(self) -> bool:
        """Let keys arrive one by one, unseen; False while the program is in the background."""
        if is_in_background(self.terminal):
            return False
        settings = termios.tcgetattr(self.terminal)
        if settings[3] & termios.ICANON:  # at first, and after Ctrl-Z and fg
            self.before = self.before or settings
            tty.setcbreak(self.terminal, termios.TCSADRAIN)
        return True

    def __exit__(self, *_: object) -> None:
        if self.before is not None and not is_in_background(self.terminal):
            termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.before)


def is_in_background(terminal: int) -> bool:
    """Whether the shell runs this program as a background job of a terminal."""
    try:
        return os.getpgrp() != os.tcgetpgrp(terminal)
    except OSError:  # not the terminal of this session: no shell controls the job
        return False


class WindowsKeyboard(Keyboard):
    """The keys of a Windows console."""

    has_keys = True

    def __init__(self, console: Any) -> None:
        self.console = console  # the module msvcrt

    def read(self, seconds: float) -> str:
        end = time.monotonic() + seconds
        while not self.console.kbhit():
            if time.monotonic() >= end:
                return ""
            time.sleep(STEP)
        typed = ""
        while self.console.kbhit():
            typed += self.console.getwch()
        return only_key(typed)


def only_key(typed: str) -> str:
    """The key that was pressed, once or repeatedly; "" for arrow keys and pasted text."""
    return typed[0].lower() if typed and typed == typed[0] * len(typed) else ""


def open_keyboard() -> Keyboard:
    """The keyboard of the terminal; one without keys if standard input is something else."""
    if sys.stdin is None or not sys.stdin.isatty():
        return Keyboard()
    if sys.platform == "win32":
        return WindowsKeyboard(msvcrt)
    return PosixKeyboard(sys.stdin.fileno())
