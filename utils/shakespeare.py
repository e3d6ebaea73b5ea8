"""Tiny Shakespeare: where it may be on this machine, how to verify it, how to download it.

A file is Tiny Shakespeare only if its size and its SHA-256 are right; a wrong file is never kept.
Standard library only, so that a download works before anything is installed.
"""

import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.request
from pathlib import Path

from utils.errors import CourseError, UsageError
from utils.files import atomic_write_bytes

FILE_NAME = "tiny_shakespeare.txt"
DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SIZE = 1_115_394  # bytes
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
MIRROR_VARIABLE = "TINY_TRANSFORMER_DATA"
OFFLINE_VARIABLE = "TINY_TRANSFORMER_OFFLINE"
SILENCE = 4.0  # seconds without an answer before the network counts as down
LONGEST_DOWNLOAD = 60.0  # seconds


def find_shakespeare() -> Path | None:
    """Look in `data/`, then in the mirror; None if the file is in neither.

    Raises CourseError if a file of that name is another text.
    """
    mirror = os.environ.get(MIRROR_VARIABLE)
    for folder in (DATA_FOLDER, expand_home(mirror) if mirror else None):
        if folder and (path := folder / FILE_NAME).exists():
            _check_shakespeare(read_bytes(path), str(path), remedy="delete or replace it")
            return path
    return None


def download_shakespeare(target: Path, url: str = URL) -> Path:
    """Download Tiny Shakespeare to `target`, verified before it gets that name; return `target`.

    Raises CourseError, leaving `target` unchanged, if the download fails, or the file is wrong or
    cannot be written.
    """
    data = _fetch(url)
    _check_shakespeare(data, url, remedy="it was not kept")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(target, data)
    except OSError as error:
        raise CourseError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def download_if_allowed() -> Path:
    """Download into `data/`. Raises CourseError if that fails or OFFLINE_VARIABLE forbids it."""
    if os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0"):
        raise CourseError(f"{OFFLINE_VARIABLE} is set, so nothing is downloaded")
    return download_shakespeare(DATA_FOLDER / FILE_NAME, URL)


def mirror_hint() -> str:
    """A note for the message, if the mirror is set but has no Tiny Shakespeare; else ""."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    return f" ({MIRROR_VARIABLE}={mirror} has no {FILE_NAME})" if mirror else ""


def _check_shakespeare(data: bytes, where: str, remedy: str) -> None:
    """Raise CourseError unless these bytes are Tiny Shakespeare."""
    if len(data) != SIZE:
        found = f"it has {len(data):,} bytes, not {SIZE:,}"
    elif (digest := hashlib.sha256(data).hexdigest()) != SHA256:
        found = f"its SHA-256 is {digest[:12]}..., not {SHA256[:12]}..."
    else:
        return
    raise CourseError(f"{where} is not Tiny Shakespeare: {found}; {remedy}")


def read_bytes(path: Path) -> bytes:
    """The contents of a file. Raises CourseError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CourseError(f"cannot read {path}: {error.strerror or error}") from error


def expand_home(name: str) -> Path:
    """A path as typed, with "~" replaced by the home folder.

    Raises UsageError if there is none: for "~name" without such a user, "~" without a home folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{name}: no home folder is known for {Path(name).parts[0]!r}; write the full path"
        ) from None


def _fetch(url: str) -> bytes:
    """Read at most one byte more than expected, so that a wrong file cannot fill the memory."""
    deadline, data = time.monotonic() + LONGEST_DOWNLOAD, b""
    try:
        with _open(url) as response:
            while len(data) <= SIZE and (chunk := response.read1(2**16)):
                data += chunk
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not finished after {LONGEST_DOWNLOAD:.0f} s")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise CourseError(f"cannot download {url}: {reason}") from error
    return data


def _open(url: str) -> http.client.HTTPResponse:
    """Connect, or give up: a dead name server can block urllib for longer than its timeout.

    So the connection is made in a thread, which may keep waiting without harm.
    """
    answer: queue.Queue[http.client.HTTPResponse | Exception] = queue.Queue()

    def connect() -> None:
        try:
            answer.put(urllib.request.urlopen(url, timeout=SILENCE))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        result = answer.get(timeout=1.5 * SILENCE)  # urllib's own timeout comes first
    except queue.Empty:
        raise TimeoutError(f"no answer within {1.5 * SILENCE:.0f} s") from None
    if isinstance(result, Exception):
        raise result
    return result
