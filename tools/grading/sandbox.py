"""The walls around a submission's code: what its processes can see, and how much they may use.

With bubblewrap (Linux) a process sees the system's libraries, Python, a scrubbed copy of the course
in place of the real one, and the one exercises.py that is judged: no other file, no network, no
process but its own. Elsewhere there are only limits, and `Sandbox.weakness` says what is missing.

Limits: address space, processes, size of a file (launch.py), and from outside, by a thread that
looks four times a second, memory and number of all processes together: a single process may be
small while there are many.

RLIMIT_NPROC does not bind root. A grader that is started by root, as in a container, gives the
judged process a user of its own.
"""

import contextlib
import functools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import psutil

from utils.grader.exercises import ROOT

MB = 2**20
ADDRESS_SPACE = 6144 * MB  # of one process; torch alone maps some hundred megabytes
MEMORY = 3072 * MB  # of all processes of a sandbox together
THREADS = 64  # of all processes together
PROCESSES = 16  # seen at once; data loaders and process groups of the exercises have fewer
FILE_SIZE = 64 * MB
DISK = 256 * MB  # of /tmp in the sandbox, which is in memory
USERS = (200_000, 2_000_000)  # of which judged processes get theirs; no system has users there
MOST_PATIENCE = 4.0
WATCH = 0.25  # seconds between two looks at the memory
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/alternatives")
PLAIN_ENVIRONMENT = ("LANG", "LC_ALL", "SYSTEMROOT", "PATHEXT", "COMSPEC")
NOTHING: Mapping[str, str] = MappingProxyType({})
NO_WALLS = (
    "bubblewrap does not work here: submissions can reach the network and read this user's "
    "files, solutions and other submissions included"
)


@dataclass(frozen=True)
class View:
    """What a judged process finds where the course is: a scrubbed copy, and one exercises.py.

    `copy` holds the scrubbed copy. Without bubblewrap nothing can be laid over it, so it must be
    the process's own.
    """

    copy: Path
    files: Mapping[str, Path] = field(default_factory=dict)  # path in the course: the real file


@dataclass(frozen=True)
class Sandbox:
    """One of the sandboxes that run at the same time."""

    uses_bubblewrap: bool = True
    own_user: int = 0  # one that no other process has

    @property
    def weakness(self) -> str:
        """What this sandbox does not protect from, "" if there is nothing to say."""
        return "" if self.uses_bubblewrap else NO_WALLS

    @property
    def user(self) -> int:
        """The user to become, 0 to stay: only root can, and only root needs to."""
        return self.own_user if is_root() else 0

    def root(self, view: View) -> Path:
        """Where the judged process finds the course."""
        return ROOT if self.uses_bubblewrap else view.copy

    def command(self, view: View, module: str) -> list[str]:
        """The command line that runs a module of the course in this sandbox."""
        if os.name == "nt":
            return [sys.executable, "-m", module]
        python = str(Path(sys.executable))
        launch = Path(__file__).with_name("launch.py")
        inside = Path("/launch.py") if self.uses_bubblewrap else launch
        start = [python, "-I", "-S", str(inside), launch_settings(self.user), python, "-m", module]
        return [*self._walls(view, launch), *start] if self.uses_bubblewrap else start

    def _walls(self, view: View, launch: Path) -> list[str]:
        """bubblewrap and its options."""
        mounts: dict[str, str] = {}  # where it is seen: what is there
        mounts |= {name: name for name in SYSTEM if Path(name).is_dir() or Path(name).is_file()}
        for prefix in (sys.base_prefix, sys.base_exec_prefix):
            if not any(Path(prefix).is_relative_to(name) for name in SYSTEM):
                mounts[prefix] = prefix
        mounts[str(ROOT)] = str(view.copy)
        mounts[sys.prefix] = sys.prefix  # the environment may be inside of the course
        mounts |= {str(ROOT / name): str(file) for name, file in view.files.items()}
        mounts["/launch.py"] = str(launch)
        options = ["--die-with-parent", "--new-session", "--unshare-net", "--unshare-pid"]
        options += ["--unshare-ipc", "--unshare-uts"]
        if is_root():  # keeps no right but to become another user
            options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            options += ["--unshare-user"]
        options += ["--proc", "/proc", "--dev", "/dev"]
        options += ["--perms", "1777", "--size", str(DISK), "--tmpfs", "/tmp"]
        options += ["--perms", "1777", "--size", str(DISK), "--tmpfs", "/dev/shm"]
        made = {"/", "/tmp"}
        for place, source in mounts.items():
            for parent in reversed(Path(place).parents):
                if str(parent) not in made and not is_inside(parent, mounts, made):
                    options += ["--perms", "0755", "--dir", str(parent)]
                made.add(str(parent))
            real = Path(source)
            if real.is_symlink() and place in SYSTEM:  # /lib is usr/lib
                options += ["--symlink", str(real.readlink()), place]
            else:
                options += ["--ro-bind", source, place]
            made.add(place)
        return [find_bubblewrap(), *options, "--chdir", str(ROOT), "--"]

    def environment(self, view: View) -> dict[str, str]:
        """The environment of a judged process: nothing of the user's, no proxy, no token."""
        lessons = sorted(str(one) for one in view.copy.glob("[0-9][0-9]_*"))
        path = {} if self.uses_bubblewrap else {"PYTHONPATH": os.pathsep.join(lessons)}
        kept = {name: os.environ[name] for name in PLAIN_ENVIRONMENT if name in os.environ}
        return {
            **kept,
            **path,
            "PATH": "/usr/bin:/bin" if os.name != "nt" else os.environ.get("PATH", ""),
            "HOME": tempfile.gettempdir() if not self.uses_bubblewrap else "/tmp",
            "TMPDIR": tempfile.gettempdir() if not self.uses_bubblewrap else "/tmp",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "TINY_TRANSFORMER_OFFLINE": "1",
            "MPLBACKEND": "agg",
        }

    def start(
        self, view: View, module: str, errors: int, added: Mapping[str, str] = NOTHING
    ) -> "subprocess.Popen[bytes]":
        """Start a module in the sandbox; its standard input and output are pipes."""
        return subprocess.Popen(
            self.command(view, module),
            cwd=self.root(view),
            env={**self.environment(view), **added},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=os.name != "nt",
            close_fds=True,
        )

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """End a process and everything that it has started."""
        for one in [*descendants(process.pid), *self._left_behind()]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        process.kill()
        process.wait()
        for one in self._left_behind():  # started in the meantime
            with contextlib.suppress(psutil.Error):
                one.kill()

    def _left_behind(self) -> list[psutil.Process]:
        """The processes of this sandbox's own user, wherever they hide."""
        if not self.user:
            return []
        return [one for one in psutil.process_iter() if has_user(one, self.user)]


def launch_settings(user: int) -> str:
    """The first argument of launch.py."""
    limits = f'"AS": {ADDRESS_SPACE}, "NPROC": {THREADS}, "FSIZE": {FILE_SIZE}, "CORE": 0'
    return f'{{"limits": {{{limits}}}, "user": {user}}}'


def is_inside(path: Path, mounts: Mapping[str, str], made: set[str]) -> bool:
    """Whether a folder comes with one that is mounted already."""
    return any(path.is_relative_to(place) for place in mounts if place in made)


def has_user(process: psutil.Process, user: int) -> bool:
    try:
        return process.uids().real == user
    except (psutil.Error, AttributeError):
        return False


def first_user() -> int:
    """The number of a user whom no other grading on this machine is likely to have."""
    return USERS[0] + secrets.randbelow(USERS[1] - USERS[0])


def patience() -> float:
    """How many times longer to wait than on a quiet machine: by the processes per core."""
    try:
        return min(MOST_PATIENCE, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
    except (AttributeError, OSError):  # Windows
        return 1.0


def is_root() -> bool:
    return os.name != "nt" and os.geteuid() == 0


def find_bubblewrap() -> str:
    """The path of bubblewrap, "" if it is not installed."""
    return shutil.which("bwrap") or ""


@functools.cache
def bubblewrap_works() -> bool:
    """Whether a process can be started behind walls here; containers often forbid it."""
    if sys.platform != "linux" or not find_bubblewrap():
        return False
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy.chmod(0o755)
        if Path(sys.prefix).is_relative_to(ROOT):
            (copy / Path(sys.prefix).relative_to(ROOT)).mkdir(parents=True)
        command = Sandbox(own_user=first_user()).command(View(copy), "this")
        try:
            done = subprocess.run(command, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def user_works(user: int) -> bool:
    """Whether a user of its own can run this Python; not if that is in root's home, for example."""
    launch = str(Path(__file__).with_name("launch.py"))
    python = [sys.executable, "-I", "-S"]
    command = [*python, launch, launch_settings(user), *python, "-c", "pass"]
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def descendants(pid: int) -> list[psutil.Process]:
    """A process's children, theirs, and so on; the process itself is not among them."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


class Watch:
    """A thread that ends a sandbox whose processes together use too much."""

    def __init__(self, sandbox: Sandbox, process: "subprocess.Popen[bytes]") -> None:
        self.sandbox = sandbox
        self.process = process
        self.problem = ""  # why it was ended
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.stopped.wait(WATCH):
            used, count = usage(descendants(self.process.pid))
            if used > MEMORY:
                self.problem = f"it uses more than {MEMORY // MB} MB of memory"
            elif count > PROCESSES:
                self.problem = f"it starts more than {PROCESSES} processes"
            if self.problem:
                self.sandbox.end(self.process)
                return

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()


def usage(processes: Sequence[psutil.Process]) -> tuple[int, int]:
    """The bytes of memory of these processes together, and how many they are.

    What several share counts once; that is slow to find out, and only done if it matters.
    """
    used = sum(memory_of(one, "rss") for one in processes)
    if used > MEMORY:
        used = sum(memory_of(one, "pss") for one in processes)
    return used, len(processes)


def memory_of(process: psutil.Process, kind: str) -> int:
    """The memory of a process; 0 if it has just ended."""
    try:
        found = process.memory_info() if kind == "rss" else process.memory_full_info()
        return int(getattr(found, kind, found.rss))  # only Linux has pss
    except psutil.Error:
        return 0
