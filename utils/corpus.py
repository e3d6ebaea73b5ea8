r"""Find a text to train on: Tiny Shakespeare where possible, otherwise the mock corpus.

`load_corpus("shakespeare")` takes the first of these:

1. `data/tiny_shakespeare.txt` in this repository;
2. `tiny_shakespeare.txt` in the folder that TINY_TRANSFORMER_DATA names (a classroom mirror);
3. a download into `data/`, unless TINY_TRANSFORMER_OFFLINE is set;
4. the mock corpus of utils/mock_corpus.py, whose entropy is known.

`Corpus.origin` is one line that says what was found and why. Only the program prints:

    python -m utils.corpus               # which text would be used?
    python -m utils.corpus --download    # get Tiny Shakespeare, or exit with 1
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from utils.command_line import OneLineParser
from utils.errors import CourseError, UsageError, did_you_mean, run_program
from utils.shakespeare import (
    SIZE,
    download_if_allowed,
    expand_home,
    find_shakespeare,
    mirror_hint,
    read_bytes,
)
from utils.terminal import bar_options

MOCK_SIZES = {"mock": 1_200_000, "mock-large": 5_000_000}  # characters
NAMES = ("shakespeare", *MOCK_SIZES)  # of corpora; any other name is a file
LARGE = 100_000_000  # bytes; a larger file is read in pieces


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from.

    `origin` is one line for people. `entropy_bits_per_char` is the lowest loss that a model can
    have; it is known only for the mock corpus.
    """

    name: str
    text: str = field(repr=False)
    origin: str
    path: Path | None = None
    entropy_bits_per_char: float | None = None


def load_corpus(source: str = "shakespeare") -> Corpus:
    """Load "shakespeare", "mock", "mock-large", or the text file that `source` names.

    Raises CourseError if a file is missing, empty or not UTF-8, or if a tiny_shakespeare.txt in
    `data/` or the mirror is another text.
    """
    if source == "shakespeare":
        return _load_shakespeare()
    if source in MOCK_SIZES:
        return _load_mock("as requested", source)
    return _load_file(expand_home(source))


def split_text(text: str, val_fraction: float = 0.1) -> tuple[str, str]:
    """Split the text into a training and a validation part, which is the last tenth.

    Raises UsageError if the fraction is not between 0 and 1, CourseError if a part would be empty.
    """
    if not 0 < val_fraction < 1:
        raise UsageError(f"val_fraction is {val_fraction}; it must be between 0 and 1")
    n_train = train_length(len(text), val_fraction=val_fraction)
    return text[:n_train], text[n_train:]


def train_length(length: int, largest_val: int | None = None, val_fraction: float = 0.1) -> int:
    """The length of the training part; the rest (at most `largest_val`) is for validation.

    Raises CourseError if a part would be empty.
    """
    n_train = int((1 - val_fraction) * length)
    if largest_val is not None:
        n_train = max(n_train, length - largest_val)
    if not 0 < n_train < length:
        raise CourseError(f"a text of {length} characters is too short to split; use a longer one")
    return n_train


def read_pieces(path: Path, size: int = 2**20) -> Iterator[str]:
    """Read a UTF-8 file `size` bytes at a time; the joined pieces are what load_corpus reads.

    Raises CourseError if the file cannot be read or is not UTF-8. Shows a progress bar if it takes
    long.
    """
    from tqdm import tqdm  # not needed for a download, which works without any package

    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    waiting = ""  # a "\r" at the end of a piece: it may be the first half of "\r\n"
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


def _load_shakespeare() -> Corpus:
    path, how = find_shakespeare(), "found"
    if path is None:
        try:
            path, how = download_if_allowed(), "downloaded"
        except CourseError as error:
            return _load_mock(f"because Tiny Shakespeare is not available{mirror_hint()}: {error}")
    text = _decode(read_bytes(path), path)
    return Corpus("shakespeare", text, f"Tiny Shakespeare, {how}: {path}", path)


def _load_mock(why: str, name: str = "mock") -> Corpus:
    from utils import mock_corpus  # needs NumPy, which a download does without

    bits = mock_corpus.entropy_rate().bits_per_char
    origin = f"mock corpus (entropy {bits:.4f} bits per character), {why}"
    text = mock_corpus.generate(MOCK_SIZES[name])
    return Corpus(name, text, origin, entropy_bits_per_char=bits)


def _load_file(path: Path) -> Corpus:
    if not path.exists():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, [*names, *NAMES])
        raise UsageError(f"no file {path}{hint}; use shakespeare, mock, or a UTF-8 text file")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; use shakespeare, mock, or a UTF-8 text file")
    text = _decode(read_bytes(path), path)
    if not text:
        raise CourseError(f"{path} is empty; use a file that contains text")
    return Corpus(path.stem, text, f"your file: {path}", path)


def _decode(data: bytes, path: Path) -> str:
    r"""Read UTF-8, with or without a byte order mark; "\r\n" becomes "\n", a lone "\r" stays."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise CourseError(f"{path} is not UTF-8 text ({byte}); save it as UTF-8") from error


def main() -> None:
    """Print which text would be used; with --download, make sure it is Tiny Shakespeare."""
    parser = OneLineParser(description=main.__doc__)
    parser.add_argument("--download", action="store_true", help="get Tiny Shakespeare or fail")
    if parser.parse_args().download:
        path = find_shakespeare() or download_if_allowed()
        print(f"[OK] {path} is Tiny Shakespeare ({SIZE:,} bytes, SHA-256 as expected)")
        return
    corpus = load_corpus()
    print(f"{len(corpus.text):,} characters: {corpus.origin}")


if __name__ == "__main__":
    run_program(main)
