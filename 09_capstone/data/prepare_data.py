"""Turn a text into what training reads: two arrays of token ids, and their tokenizer.

    python 09_capstone/data/prepare_data.py                    # Tiny Shakespeare or mock
    python 09_capstone/data/prepare_data.py --data my_text.txt
    python 09_capstone/data/prepare_data.py --tokenizer bpe --vocab-size 1024   # learned tokens
    python 09_capstone/data/prepare_data.py --without-val      # to choose settings: see running.md

The text may be larger than memory: a file of more than 100 MB is read in pieces, twice, first for
its characters and then for its ids (three times with bpe, for its words in between). Its validation
split is a million characters, not a tenth.

The output folder can be given to train.py as --data, which maps the arrays into memory and reads
only what a batch needs:

    train.npy, val.npy    (n,) unsigned integers: the token ids of the two splits
    tokenizer.json        the tokenizer
    meta.json             name, origin, characters, entropy; written last: a folder without it is
                          incomplete
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from any_tokenizer import Tokenizer
from bpe_tokenizer import BPETokenizer, count_words, room_for_merges, train_on_words
from corpus_tokenizer import LEARNED_TOKENS, encode_corpus, refuse_size_of_characters
from special_tokens import SPECIAL_TOKENS
from split_pattern import whole_words
from tokenizer import CharTokenizer
from utils.command_line import OneLineParser
from utils.corpus import LARGE, NAMES, load_corpus, read_pieces, train_length
from utils.errors import CourseError, UsageError, pick
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


def without_val(source: Source) -> Source:
    """The same text, ending where its validation split begins.

    Settings that are chosen on the last tenth of it are chosen without the validation split.
    Raises CourseError if the text is too short to split.
    """
    n_train = train_length(sum(map(len, source.pieces())), source.largest_val)
    return replace(
        source,
        name=f"{source.name}_without_val",
        origin=f"{source.origin}, without its validation split",
        pieces=lambda: Reader(source.pieces()).read(n_train),
    )


def prepare(
    source: Source, out_dir: Path, kind: str = "char", vocab_size: int | None = None
) -> dict[str, object]:
    """Write the four files into `out_dir`, each completely or not at all; return the metadata.

    With `kind` "bpe", `vocab_size` tokens are learned from the training split. Raises CourseError
    if the text is too short to split or changes while it is read, or the folder cannot be written;
    UsageError if kind and size do not fit together.
    """
    refuse_size_of_characters(kind, vocab_size)
    characters: set[str] = set()
    length = 0
    for piece in source.pieces():
        characters.update(piece)
        length += len(piece)
    n_train = train_length(length, source.largest_val)
    if kind == "bpe":
        tokenizer = learn_tokens(source, n_train, vocab_size or LEARNED_TOKENS)
    else:
        tokenizer = CharTokenizer("".join(sorted(characters)))
    meta: dict[str, object] = {
        "name": source.name,
        "origin": source.origin,
        "characters": length,
        "val_characters": length - n_train,
        "vocab_size": tokenizer.vocab_size,
        "entropy_bits_per_char": source.entropy_bits_per_char,
    }
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with (
            atomic_writer(out_dir / "train.npy") as train,
            atomic_writer(out_dir / "val.npy") as val,
        ):
            lengths = {train: n_train, val: length - n_train}
            meta["train_tokens"], meta["val_tokens"] = write_ids(source, tokenizer, lengths)
            # From here on old and new files would be mixed: without meta.json they do not count.
            (out_dir / "meta.json").unlink(missing_ok=True)
        _write_json(out_dir / "tokenizer.json", tokenizer.to_dict())
        _write_json(out_dir / "meta.json", meta)
    except OSError as error:
        raise CourseError(f"cannot write {out_dir}: {error.strerror or error}") from error
    return meta


class Reader:
    """Hands out a text in order, any number of characters at a time."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self.pieces = pieces
        self.waiting = ""

    def read(self, n: int) -> Iterator[str]:
        """The next `n` characters, in pieces; fewer at the end of the text."""
        for piece in itertools.chain([self.waiting], self.pieces):
            self.waiting = piece[n:]
            yield piece[:n]
            n -= len(piece[:n])
            if n == 0:
                return


def learn_tokens(source: Source, n_train: int, vocab_size: int) -> BPETokenizer:
    """Byte-pair encoding of the training split, of which only the words are kept in memory."""
    room_for_merges(vocab_size, SPECIAL_TOKENS)  # refused before a large text is read
    texts = whole_words(Reader(source.pieces()).read(n_train))
    return train_on_words(count_words(texts, SPECIAL_TOKENS), vocab_size, SPECIAL_TOKENS)


def write_ids(source: Source, tokenizer: Tokenizer, lengths: dict[IO[bytes], int]) -> list[int]:
    """Encode the text into .npy files one after the other, each with its number of characters.

    Returns the number of ids in each.
    """
    dtype, reader, counts = tokenizer.encode_array("").dtype, Reader(source.pieces()), []
    for file, length in lengths.items():
        n_characters = n_ids = 0
        write_header(file, dtype, n_ids)
        pieces = reader.read(length)
        if isinstance(tokenizer, BPETokenizer):  # no word may be cut
            pieces = whole_words(pieces)
        for piece in pieces:
            ids = encode(tokenizer, piece, source)
            file.write(ids.tobytes())
            n_characters, n_ids = n_characters + len(piece), n_ids + len(ids)
        if n_characters != length:
            raise changed(source)
        file.seek(0)
        write_header(file, dtype, n_ids)  # NumPy leaves room for a larger number
        counts.append(n_ids)
    if any(reader.read(1)):
        raise changed(source)
    return counts


def write_header(file: IO[bytes], dtype: np.dtype, n_ids: int) -> None:
    """The beginning of a .npy file that holds `n_ids` integers."""
    header = {"descr": dtype_to_descr(dtype), "fortran_order": False, "shape": (n_ids,)}
    write_array_header_1_0(file, header)


def encode(tokenizer: Tokenizer, piece: str, source: Source) -> np.ndarray:
    """The ids of a piece; all of its characters were seen when the text was read first."""
    try:
        return encode_corpus(tokenizer, piece)
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
    n_tokens = int(str(meta["train_tokens"])) + int(str(meta["val_tokens"]))
    unit = "characters" if n_tokens == meta["characters"] else "tokens"
    lines = [
        f"corpus      {meta['origin']}",
        f"characters  {meta['characters']:,}",
        f"vocabulary  {meta['vocab_size']} {unit}",
        f"split       {meta['train_tokens']:,} to train, {meta['val_tokens']:,} to validate",
        f"entropy     {entropy:.4f} bits per character" if entropy is not None else "",
        f"written to  {out_dir}",
    ]
    return "\n".join(line for line in lines if line)


def main() -> None:
    """Turn a text into token ids for training."""
    parser = OneLineParser(description=main.__doc__)
    parser.add_argument(
        "--data",
        default="shakespeare",
        metavar="TEXT",
        help="shakespeare, mock, mock-large, or a text file",
    )
    parser.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="where to write (09_capstone/data/NAME)"
    )
    parser.add_argument(
        "--tokenizer",
        default="char",
        metavar="char|bpe",
        help="tokens are characters, or learned by byte-pair encoding (char)",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help=f"with bpe: how many tokens to learn ({LEARNED_TOKENS})",
    )
    parser.add_argument(
        "--without-val",
        action="store_true",
        help="leave out the validation split; the end of the rest takes its place",
    )
    options = parser.parse_args()
    kind = pick(options.tokenizer, ("char", "bpe"), "tokenizer")
    source = find_source(options.data)
    if options.without_val:
        source = without_val(source)
    out_dir = options.out_dir or HERE / source.name
    print(summary(prepare(source, out_dir, kind, options.vocab_size), out_dir))


if __name__ == "__main__":
    run_program(main)
