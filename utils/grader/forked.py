"""Processes that start in milliseconds, because they are forked from one that has torch loaded.

A program that starts dozens of the grader's workers, such as the tests and the checks, spends most
of its time importing torch. Here one process, the forker, imports it once and never uses it: torch
may not be forked once its threads have run. Between the forker and each process is a keeper, which
reports its exit code.
Linux only: elsewhere a fork of a process with libraries such as torch is not safe, or not possible.
"""

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

from utils.grader.exercises import ROOT
from utils.grader.runner import ENVIRONMENT, Worker

CAN_FORK = sys.platform == "linux"
SERVE = "import sys; from utils.grader.forked import serve; serve(int(sys.argv[1]))"
SIZE = 4  # bytes that tell how long a request is


class ForkedWorker(Worker):
    """A worker as any other, but for how its process starts."""

    def start_process(self) -> "subprocess.Popen[bytes]":
        """Fork the process; its standard input and output are pipes."""
        environment = {**os.environ, **ENVIRONMENT}
        main = "utils.grader.worker:main"
        forked = forker().start(main, [], ROOT, environment, self.errors.fileno())
        return cast("subprocess.Popen[bytes]", forked)  # what Worker uses of it


class Forker:
    """The process that forks others; it ends when this one does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # what workers and pages have anyway
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        call: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        errors: int,
    ) -> "ForkedProcess":
        """A process that calls a function, "module:name", in this folder and environment.

        `errors` is its standard error.
        """
        assert sys.platform == "linux"  # for the type checker on Windows
        (input_, stdin), (stdout, output), (status, keeper) = os.pipe(), os.pipe(), os.pipe()
        wanted = {"call": call, "arguments": arguments, "folder": str(folder)}
        request = json.dumps({**wanted, "environment": dict(environment)}).encode()
        theirs = [input_, output, errors, keeper]
        with self.lock:
            socket.send_fds(self.socket, [len(request).to_bytes(SIZE)], theirs)
            self.socket.sendall(request)
        for descriptor in (input_, output, keeper):
            os.close(descriptor)
        return ForkedProcess(stdin, stdout, status)

    def end(self) -> None:
        """End the process."""
        self.socket.close()
        self.process.wait()


class ForkedProcess:
    """What `subprocess.Popen` is for a process started the usual way."""

    def __init__(self, stdin: int, stdout: int, status: int) -> None:
        self.stdin = os.fdopen(stdin, "wb")
        self.stdout = os.fdopen(stdout, "rb")
        self.status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self.status.readline() or 0)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while the process is running."""
        ended = self.returncode is None and select.select([self.status], [], [], 0)[0]
        return self.wait() if ended else self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once the process has ended. Raises subprocess.TimeoutExpired."""
        assert sys.platform == "linux"  # for the type checker on Windows
        if self.returncode is None:
            if not select.select([self.status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
            self.returncode = int(self.status.readline() or -signal.SIGKILL)
            self.status.close()
        return self.returncode

    def kill(self) -> None:
        """End the process by force, unless it has ended."""
        assert sys.platform == "linux"  # for the type checker on Windows
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


@cache
def forker() -> Forker:
    """The forker of this process, started when it is first needed."""
    started = Forker()
    atexit.register(started.end)
    return started


# --- in the forker ---


def serve(descriptor: int) -> None:
    """Fork a process for each request, until the program that asks has ended."""
    assert sys.platform == "linux"
    import utils.grader.worker  # noqa: F401 - imports torch and pytest, for every process

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    requests = socket.socket(fileno=descriptor)
    while True:
        size, descriptors, *_ = socket.recv_fds(requests, SIZE, 4)
        if not size:
            return
        text = requests.recv(int.from_bytes(size), socket.MSG_WAITALL)
        if os.fork() == 0:
            requests.close()
            keep(json.loads(text), *descriptors)
        for one in descriptors:
            os.close(one)


def keep(request: dict[str, Any], stdin: int, stdout: int, errors: int, status: int) -> NoReturn:
    """In the keeper: start the process, and report its id and then its exit code."""
    assert sys.platform == "linux"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.close(status)
        become(request, stdin, stdout, errors)
    for one in (stdin, stdout, errors):
        os.close(one)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(status, b"%d\n" % child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(status, b"%d\n" % code)
    os._exit(0)


def become(request: dict[str, Any], *streams: int) -> NoReturn:
    """In the process that was asked for: make the call."""
    code = 1
    try:
        for standard, descriptor in enumerate(streams):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        module, _, name = request["call"].partition(":")
        getattr(importlib.import_module(module), name)(*request["arguments"])
        code = 0
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nothing reads it any more
            stream.flush()
    os._exit(code)
