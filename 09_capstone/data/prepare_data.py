"""Turn a text into what training reads: two arrays of token ids, and the tokenizer that made them.

    python 09_capstone/data/prepare_data.py                    # Tiny Shakespeare or mock
    python 09_capstone/data/prepare_data.py --data my_text.txt

A text may be larger than memory: a file of more than 100 MB is read in pieces, twice, once for its
vocabulary and once for its ids. Of such a text a million characters validate, not a tenth.

The folder it writes can be given to train.py as --data, which maps the arrays into memory and
reads only the pieces that a batch needs:

    train.npy, val.npy    (n,) unsigned integers: the ids of what trains, and of the end, which
                          validates
    tokenizer.json        the vocabulary
    meta.json             name, origin, characters, entropy; written last: without it, not finished
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
from utils.corpus import LARGE, NAMES, at_home, load_corpus, read_pieces, train_length
from utils.errors import CourseError, UsageError
from utils.files import atomic_write_text, atomic_writer

HERE = Path(__file__).resolve().parent
LARGEST_VAL = 1_000_000  # characters that validate a large text: an evaluation reads all of them


@dataclass(frozen=True)
class Source:
    """A text that can be gone through again and again, piece by piece."""

    name: str
    origin: str
    pieces: Callable[[], Iterator[str]]
    entropy_bits_per_char: float | None = None
    largest_val: int | None = None


def find_source(data: str) -> Source:
    """The corpus of that name, or a file; a large one is read only as it is needed."""
    path = at_home(data)
    if data not in NAMES and path.is_file() and path.stat().st_size > LARGE:
        pieces = partial(read_pieces, path)
        return Source(path.stem, f"your file: {path}", pieces, largest_val=LARGEST_VAL)
    corpus = load_corpus(data)
    bits = corpus.entropy_bits_per_char
    return Source(corpus.name, corpus.origin, lambda: iter([corpus.text]), bits)


def prepare(source: Source, out_dir: Path) -> dict[str, object]:
    """Write the four files into `out_dir`, each whole or not at all; return what meta.json holds.

    Raises CourseError if the text is too short to split, or changes while it is read, or the folder
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
            # Old and new files must not pass for one set: from here on the old one is gone.
            (out_dir / "meta.json").unlink(missing_ok=True)
        _write_json(out_dir / "tokenizer.json", tokenizer.to_dict())
        _write_json(out_dir / "meta.json", meta)
    except OSError as error:
        raise CourseError(f"cannot write {out_dir}: {error.strerror or error}") from error
    return meta


def write_ids(source: Source, tokenizer: CharTokenizer, lengths: dict[IO[bytes], int]) -> None:
    """Encode the text into .npy files, so many ids into each, one file after the other."""
    dtype = tokenizer.encode_array("").dtype
    for file, length in lengths.items():
        header = {"descr": dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
        write_array_header_1_0(file, header)
    left = list(lengths.items())
    for piece in source.pieces():
        ids = encode(tokenizer, piece, source)
        while len(ids) and left:
            file, room = left.pop(0)
            file.write(ids[:room].tobytes())
            if room > len(ids):
                left.insert(0, (file, room - len(ids)))
            ids = ids[room:]
        if len(ids):
            raise changed(source)
    if left:
        raise changed(source)


def encode(tokenizer: CharTokenizer, piece: str, source: Source) -> np.ndarray:
    """The ids of a piece, whose characters have all been seen in the first reading."""
    try:
        return tokenizer.encode_array(piece)
    except UsageError:
        raise changed(source) from None


def changed(source: Source) -> CourseError:
    """The text is not what it was when it was read before."""
    return CourseError(f"{source.origin} changed while it was read; prepare it again")


def _write_json(path: Path, content: object) -> None:
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")


def summary(meta: dict[str, object], out_dir: Path) -> str:
    """Say in a few lines what was prepared, and where it lies."""
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
    """Prepare the corpus that the command line names."""
    parser = OneLineParser(description=main.__doc__)
    parser.add_argument("--data", default="shakespeare", help="shakespeare, mock, or a text file")
    parser.add_argument("--out-dir", type=Path, help="default: 09_capstone/data/ and the name")
    options = parser.parse_args()
    source = find_source(options.data)
    out_dir = options.out_dir or HERE / source.name
    print(summary(prepare(source, out_dir), out_dir))


if __name__ == "__main__":
    run_program(main)
