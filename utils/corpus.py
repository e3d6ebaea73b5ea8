r"""Find a text to learn from: Tiny Shakespeare if it can be had, a play of our own if not.

`load_corpus("shakespeare")` takes the first of these:

1. `data/tiny_shakespeare.txt` in this repository;
2. `tiny_shakespeare.txt` in the folder that TINY_TRANSFORMER_DATA names (a classroom mirror);
3. a download into `data/`, unless TINY_TRANSFORMER_OFFLINE is set;
4. the mock corpus of utils/mock_corpus.py, whose entropy is known.

A file is Tiny Shakespeare only if its size and its SHA-256 say so. `Corpus.origin` tells in one
line what was found and why; nothing here prints but the program:

    python -m utils.corpus               # where would the text come from?
    python -m utils.corpus --download    # get the real file, or exit with 1
"""

import argparse
import codecs
import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from utils.errors import CourseError, UsageError, did_you_mean, run_program
from utils.files import atomic_write_bytes
from utils.terminal import bar_options

FILE_NAME = "tiny_shakespeare.txt"
DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SIZE = 1_115_394  # bytes
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
MIRROR_VARIABLE = "TINY_TRANSFORMER_DATA"
OFFLINE_VARIABLE = "TINY_TRANSFORMER_OFFLINE"
NAMES = ("shakespeare", "mock")  # of corpora; whatever else is asked for is a file
LARGE = 100_000_000  # bytes; a larger file is read in pieces, never as a whole
PATIENCE = 4.0  # seconds without a sign of life before the network counts as dead
LONGEST_DOWNLOAD = 60.0  # seconds


@dataclass(frozen=True)
class Corpus:
    """A text, and where it came from.

    `origin` is one line for people. `entropy_bits_per_char` is the loss that no model can beat,
    known only of the mock corpus.
    """

    name: str
    text: str = field(repr=False)
    origin: str
    path: Path | None = None
    entropy_bits_per_char: float | None = None


def load_corpus(source: str = "shakespeare") -> Corpus:
    """Load "shakespeare", "mock", or the text file that `source` names.

    Raises CourseError if a file is missing, empty, not UTF-8, or is called tiny_shakespeare.txt in
    one of its two places and is not.
    """
    if source == "shakespeare":
        return _load_shakespeare()
    if source == "mock":
        return _load_mock("as asked")
    return _load_file(at_home(source))


def at_home(name: str) -> Path:
    """A path as typed, "~" read as the home folder. Raises UsageError for a stranger's."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UsageError(f"{name}: nobody here is called that; write the path in full") from None


def split_text(text: str, val_fraction: float = 0.1) -> tuple[str, str]:
    """Cut the text in two, for training and for validation: the last tenth is kept unseen.

    Raises UsageError if the fraction is not between 0 and 1, CourseError if a part would be empty.
    """
    if not 0 < val_fraction < 1:
        raise UsageError(f"val_fraction is {val_fraction}; it must lie between 0 and 1")
    n_train = train_length(len(text), val_fraction=val_fraction)
    return text[:n_train], text[n_train:]


def train_length(length: int, largest_val: int | None = None, val_fraction: float = 0.1) -> int:
    """How many of the first characters train; the rest validate, at most `largest_val` of them.

    Raises CourseError if a part would be empty.
    """
    n_train = int((1 - val_fraction) * length)
    if largest_val is not None:
        n_train = max(n_train, length - largest_val)
    if not 0 < n_train < length:
        raise CourseError(f"a text of {length} characters is too short to split; give a longer")
    return n_train


def read_pieces(path: Path, size: int = 2**20) -> Iterator[str]:
    """The text of a UTF-8 file, `size` bytes at a time: put together, what load_corpus reads.

    Raises CourseError if the file cannot be read or is not UTF-8. A long reading shows a bar.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    waiting = ""  # a "\r" at the end of a piece: it may be half of a line's end
    try:
        size_of_file = path.stat().st_size
        bar = tqdm(total=size_of_file, unit="B", unit_scale=True, delay=2, **bar_options())
        with path.open("rb") as file, bar:
            while True:
                data = file.read(size)
                text = waiting + decoder.decode(data, final=not data)
                waiting = "\r" if data and text.endswith("\r") else ""
                yield text.removesuffix(waiting).replace("\r\n", "\n")
                bar.update(len(data))
                if not data:
                    return
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise CourseError(f"{path} is not UTF-8 text ({byte}); save it as UTF-8") from error
    except OSError as error:
        raise CourseError(f"cannot read {path}: {error.strerror or error}") from error


def find_shakespeare() -> Path | None:
    """Look in `data/`, then in the mirror; None if neither holds the file.

    Raises CourseError if a file of that name is not the real one.
    """
    mirror = os.environ.get(MIRROR_VARIABLE)
    for folder in (DATA_FOLDER, at_home(mirror) if mirror else None):
        if folder and (path := folder / FILE_NAME).exists():
            _check_shakespeare(_read(path), str(path), remedy="delete or replace it")
            return path
    return None


def download_shakespeare(target: Path, url: str = URL) -> Path:
    """Download Tiny Shakespeare to `target`, checked before it gets that name; return `target`.

    Raises CourseError, leaving `target` as it was, if the network is off, or what came is not the
    right file, or cannot be written.
    """
    data = _fetch(url)
    _check_shakespeare(data, url, remedy="it was not kept")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(target, data)
    except OSError as error:
        raise CourseError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _load_shakespeare() -> Corpus:
    path, how = find_shakespeare(), "found"
    if path is None:
        try:
            path, how = _download_if_allowed(), "downloaded"
        except CourseError as error:
            return _load_mock(
                f"as Tiny Shakespeare is neither here nor to be had{_mirror()}: {error}"
            )
    text = _decode(_read(path), path)
    return Corpus("shakespeare", text, f"Tiny Shakespeare, {how}: {path}", path)


def _download_if_allowed() -> Path:
    if os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0"):
        raise CourseError(f"{OFFLINE_VARIABLE} is set, so nothing is downloaded")
    return download_shakespeare(DATA_FOLDER / FILE_NAME, URL)


def _mirror() -> str:
    mirror = os.environ.get(MIRROR_VARIABLE)
    return f" ({MIRROR_VARIABLE}={mirror} does not hold {FILE_NAME})" if mirror else ""


def _load_mock(why: str) -> Corpus:
    from utils import mock_corpus  # needs NumPy, which a download does without

    bits = mock_corpus.entropy_rate().bits_per_char
    origin = f"mock corpus (made here, entropy {bits:.4f} bits per character), {why}"
    return Corpus("mock", mock_corpus.generate(), origin, entropy_bits_per_char=bits)


def _load_file(path: Path) -> Corpus:
    if not path.exists():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, [*names, "shakespeare", "mock"])
        raise UsageError(f"no file {path}{hint}; give shakespeare, mock, or a UTF-8 text file")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give shakespeare, mock, or a UTF-8 text file")
    text = _decode(_read(path), path)
    if not text:
        raise CourseError(f"{path} is empty; give a file with some text in it")
    return Corpus(path.stem, text, f"your file: {path}", path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CourseError(f"cannot read {path}: {error.strerror or error}") from error


def _decode(data: bytes, path: Path) -> str:
    r"""Read UTF-8, with or without a byte order mark; "\r\n" becomes "\n", a lone "\r" stays."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise CourseError(f"{path} is not UTF-8 text ({byte}); save it as UTF-8") from error


def _check_shakespeare(data: bytes, where: str, remedy: str) -> None:
    if len(data) != SIZE:
        found = f"it has {len(data):,} bytes, not {SIZE:,}"
    elif (digest := hashlib.sha256(data).hexdigest()) != SHA256:
        found = f"its SHA-256 is {digest[:12]}..., not {SHA256[:12]}..."
    else:
        return
    raise CourseError(f"{where} is not Tiny Shakespeare: {found}; {remedy}")


def _fetch(url: str) -> bytes:
    """Download at most one byte more than expected, so that a wrong file cannot fill the disk."""
    deadline, data = time.monotonic() + LONGEST_DOWNLOAD, b""
    try:
        with _open(url) as response:
            while len(data) <= SIZE and (chunk := response.read1(2**16)):
                data += chunk
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not done after {LONGEST_DOWNLOAD:.0f} s")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise CourseError(f"cannot download {url}: {reason}") from error
    return data


def _open(url: str) -> http.client.HTTPResponse:
    """Connect, giving up in time: a dead name server can hold urllib longer than its timeout.

    The waiting is done on a thread, which may outlive us harmlessly.
    """
    answer: queue.Queue[http.client.HTTPResponse | Exception] = queue.Queue()

    def connect() -> None:
        try:
            answer.put(urllib.request.urlopen(url, timeout=PATIENCE))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        result = answer.get(timeout=1.5 * PATIENCE)  # what urllib can time, it may time itself
    except queue.Empty:
        raise TimeoutError(f"no answer within {1.5 * PATIENCE:.0f} s") from None
    if isinstance(result, Exception):
        raise result
    return result


def main() -> None:
    """Say where Tiny Shakespeare is; with --download, make sure that it is somewhere."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--download", action="store_true", help="get the real file, or exit with 1")
    if parser.parse_args().download:
        path = find_shakespeare() or _download_if_allowed()
        print(f"[OK] {path} is Tiny Shakespeare ({SIZE:,} bytes, SHA-256 as expected)")
        return
    corpus = load_corpus()
    print(f"{len(corpus.text):,} characters: {corpus.origin}")


if __name__ == "__main__":
    run_program(main)
