"""Signals that stop a training run: it ends after the current step, and its state is saved.

SIGINT     Ctrl-C
SIGTERM    kill, a batch system, a shutdown
SIGHUP     the terminal was closed (not on Windows); ignored under nohup
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from training_loop import Trainer

STOPPING = b"\nstopping after this step; press Ctrl-C again to exit at once\n"
SIGHUP: int | None = getattr(signal, "SIGHUP", None)


def stop_numbers() -> list[int]:
    """The signals that end a run on this platform."""
    hangup_counts = SIGHUP is not None and signal.getsignal(SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([SIGHUP] if hangup_counts and SIGHUP else [])]


def treat_as_ctrl_c() -> None:
    """Let each of them end the program: before the first step there is nothing to save."""
    for number in stop_numbers():
        signal.signal(number, signal.default_int_handler)


@contextmanager
def stop_on_signal(trainer: Trainer, announce: bool = True) -> Iterator[None]:
    """Let a signal end the run after the current step; a second one ends it at once.

    With `announce`, the first one prints a message on standard error.
    """
    was_signalled = False  # `trainer.stop` may also have been set by another process
    terminals = [fd for fd in (1, 2) if is_terminal(fd)]

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal was_signalled
        if number == SIGHUP:
            discard_output(terminals)
        if was_signalled:
            raise KeyboardInterrupt
        was_signalled = trainer.stop = True
        if announce:
            with suppress(OSError):  # standard error may be closed
                os.write(2, STOPPING)  # not print, which may be what was interrupted

    before = {number: signal.signal(number, stop) for number in stop_numbers()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_terminal(descriptor: int) -> bool:
    """Whether a file descriptor is a terminal; False if it is closed."""
    with suppress(OSError):
        return os.isatty(descriptor)
    return False


def discard_output(descriptors: list[int]) -> None:
    """Redirect output to the null device: writing to a closed terminal would raise an error."""
    for descriptor in descriptors:
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
