"""Turn a text into what training reads: two arrays of token ids, and their tokenizer.

    python 09_capstone/data/prepare_data.py                    # Tiny Shakespeare or mock
    python 09_capstone/data/prepare_data.py --data my_text.txt

The text may be larger than memory: a file of more than 100 MB is read in pieces, twice, first for
its vocabulary and then for its ids. Its validation split is a million characters, not a tenth.

The output folder can be given to train.py as --data, which maps the arrays into memory and reads
only what a batch needs:

    train.npy, val.npy    (n,) unsigned integers: the token ids of the two splits
    tokenizer.json        the vocabulary
    meta.json             name, origin, characters, entropy; written last: a folder without it is
                          incomplete
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from tokenizer import CharTokenizer
from utils.command_line import OneLineParser
from utils.corpus import LARGE, NAMES, load_corpus, read_pieces, train_length
from utils.errors import CourseError, UsageError
from utils.files import atomic_write_text, atomic_writer
from utils.shakespeare import expand_home

HERE = Path(__file__).resolve().parent
LARGEST_VAL = 1_000_000  # characters: an evaluation reads the whole validation split


@dataclass(frozen=True)
class Source:
    """A text that can be read repeatedly, piece by piece."""

    name: str
    origin: str
    pieces: Callable[[], Iterator[str]]
    entropy_bits_per_char: float | None = None
    largest_val: int | None = None


def find_source(data: str) -> Source:
    """The corpus of that name, or a file; a large file is not read yet."""
    path = expand_home(data)
    if data not in NAMES and path.is_file() and path.stat().st_size > LARGE:
        pieces = partial(read_pieces, path)
        return Source(path.stem, f"your file: {path}", pieces, largest_val=LARGEST_VAL)
    corpus = load_corpus(data)
    bits = corpus.entropy_bits_per_char
    return Source(corpus.name, corpus.origin, lambda: iter([corpus.text]), bits)


def prepare(source: Source, out_dir: Path) -> dict[str, object]:
    """Write the four files into `out_dir`, each completely or not at all; return the metadata.

    Raises CourseError if the text is too short to split or changes while it is read, or the folder
    cannot be written.
    """
    characters: set[str] = set()
    length = 0
    for piece in source.pieces():
        characters.update(piece)
        length += len(piece)
    tokenizer = CharTokenizer("".join(sorted(characters)))
    n_train = train_length(length, source.largest_val)
    meta: dict[str, object] = {
        "name": source.name,
        "origin": source.origin,
        "characters": length,
        "vocab_size": tokenizer.vocab_size,
        "train_tokens": n_train,
        "val_tokens": length - n_train,
        "entropy_bits_per_char": source.entropy_bits_per_char,
    }
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with (
            atomic_writer(out_dir / "train.npy") as train,
            atomic_writer(out_dir / "val.npy") as val,
        ):
            write_ids(source, tokenizer, {train: n_train, val: length - n_train})
            # From here on old and new files would be mixed: without meta.json they do not count.
            (out_dir / "meta.json").unlink(missing_ok=True)
        _write_json(out_dir / "tokenizer.json", tokenizer.to_dict())
        _write_json(out_dir / "meta.json", meta)
    except OSError as error:
        raise CourseError(f"cannot write {out_dir}: {error.strerror or error}") from error
    return meta


def write_ids(source: Source, tokenizer: CharTokenizer, lengths: dict[IO[bytes], int]) -> None:
    """Encode the text into .npy files one after the other, each with its number of ids."""
    dtype = tokenizer.encode_array("").dtype
    for file, length in lengths.items():
        header = {"descr": dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
        write_array_header_1_0(file, header)
    remaining = list(lengths.items())
    for piece in source.pieces():
        ids = encode(tokenizer, piece, source)
        while len(ids) and remaining:
            file, room = remaining.pop(0)
            file.write(ids[:room].tobytes())
            if room > len(ids):
                remaining.insert(0, (file, room - len(ids)))
            ids = ids[room:]
        if len(ids):
            raise changed(source)
    if remaining:
        raise changed(source)


def encode(tokenizer: CharTokenizer, piece: str, source: Source) -> np.ndarray:
    """The ids of a piece; all of its characters were seen when the text was read first."""
    try:
        return tokenizer.encode_array(piece)
    except UsageError:
        raise changed(source) from None


def changed(source: Source) -> CourseError:
    """The error for a text that differs between the two readings."""
    return CourseError(f"{source.origin} changed while it was being read; prepare it again")


def _write_json(path: Path, content: object) -> None:
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")


def summary(meta: dict[str, object], out_dir: Path) -> str:
    """What was prepared, and where it is, in a few lines."""
    entropy = meta["entropy_bits_per_char"]
    lines = [
        f"corpus      {meta['origin']}",
        f"characters  {meta['characters']:,}",
        f"vocabulary  {meta['vocab_size']} characters",
        f"split       {meta['train_tokens']:,} to train, {meta['val_tokens']:,} to validate",
        f"entropy     {entropy:.4f} bits per character" if entropy is not None else "",
        f"written to  {out_dir}",
    ]
    return "\n".join(line for line in lines if line)


def main() -> None:
    """Turn a text into token ids for training."""
    parser = OneLineParser(description=main.__doc__)
    parser.add_argument(
        "--data", default="shakespeare", metavar="TEXT", help="shakespeare, mock, or a text file"
    )
    parser.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="where to write (09_capstone/data/NAME)"
    )
    options = parser.parse_args()
    source = find_source(options.data)
    out_dir = options.out_dir or HERE / source.name
    print(summary(prepare(source, out_dir), out_dir))


if __name__ == "__main__":
    run_program(main)
