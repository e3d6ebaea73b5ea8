"""Turn a text into what training reads: two arrays of token ids, and the tokenizer that made them.

    python 09_capstone/data/prepare_data.py                    # Tiny Shakespeare or mock
    python 09_capstone/data/prepare_data.py --data my_text.txt

A text may be larger than memory: a file of more than 100 MB is read in pieces, twice, once for its
vocabulary and once for its ids. Of such a text a million characters validate, not a tenth.

The folder it writes can be given to train.py as --data, which maps the arrays into memory and
reads only the pieces that a batch needs:

    train.npy, val.npy    (n,) unsigned integers: the ids of the first nine tenths, and of the rest
    tokenizer.json        the vocabulary
    meta.json             name, origin, characters, entropy; written last: without it, not finished
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from numpy.lib.format import open_memmap

from tokenizer import CharTokenizer
from utils.command_line import OneLineParser
from utils.corpus import LARGE, at_home, load_corpus, read_pieces, train_length
from utils.errors import CourseError, run_program
from utils.files import TEMPORARY_SUFFIX, atomic_write_text

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
    if path.is_file() and path.stat().st_size > LARGE:
        pieces = partial(read_pieces, path)
        return Source(path.stem, f"your file: {path}", pieces, largest_val=LARGEST_VAL)
    corpus = load_corpus(data)
    bits = corpus.entropy_bits_per_char
    return Source(corpus.name, corpus.origin, lambda: iter([corpus.text]), bits)


def prepare(source: Source, out_dir: Path) -> dict[str, object]:
    """Write the four files into `out_dir`, each whole or not at all; return what meta.json holds.

    Raises CourseError if the text is too short to split or the folder cannot be written.
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
        # Old and new files must not pass for one set.
        (out_dir / "meta.json").unlink(missing_ok=True)
        _write_arrays(out_dir, source, tokenizer, {"train": n_train, "val": length - n_train})
        _write_json(out_dir / "tokenizer.json", tokenizer.to_dict())
        _write_json(out_dir / "meta.json", meta)
    except OSError as error:
        raise CourseError(f"cannot write {out_dir}: {error.strerror or error}") from error
    return meta


def _write_arrays(
    folder: Path, source: Source, tokenizer: CharTokenizer, lengths: dict[str, int]
) -> None:
    """Encode the text into files that are mapped into memory, one part after the other."""
    dtype = tokenizer.encode_array("").dtype
    paths = {part: folder / f".{part}.npy{TEMPORARY_SUFFIX}" for part in lengths}
    arrays = [
        open_memmap(paths[part], mode="w+", dtype=dtype, shape=(lengths[part],)) for part in paths
    ]
    ends = list(itertools.accumulate(lengths.values()))
    done = 0
    for piece in source.pieces():
        ids = tokenizer.encode_array(piece)
        for array, end in zip(arrays, ends, strict=True):
            start = done - (end - len(array))  # where the next id belongs in this array
            taken = ids[: max(0, end - done)]
            array[start : start + len(taken)] = taken
            ids, done = ids[len(taken) :], done + len(taken)
    while arrays:
        arrays.pop().flush()  # and let go: Windows does not rename a file that is mapped
    for part, path in paths.items():
        path.replace(folder / f"{part}.npy")


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
