"""Turn a text into what training reads: two arrays of token ids, and the tokenizer that made them.

    python 09_capstone/data/prepare_data.py                    # Tiny Shakespeare or mock
    python 09_capstone/data/prepare_data.py --data my_text.txt

The folder it writes can be given to train.py as --data, which maps the arrays into memory and
reads only the pieces that a batch needs:

    train.npy, val.npy    (n,) unsigned integers: the ids of the first nine tenths, and of the last
    tokenizer.json        the vocabulary
    meta.json             name, origin, characters, entropy; written last: without it, not finished
"""

import io
import json
from pathlib import Path

import numpy as np

from tokenizer import CharTokenizer
from utils.command_line import OneLineParser
from utils.corpus import Corpus, load_corpus, split_text
from utils.errors import CourseError, run_program
from utils.files import atomic_write_bytes, atomic_write_text

HERE = Path(__file__).resolve().parent


def prepare(corpus: Corpus, out_dir: Path) -> dict[str, object]:
    """Write the four files into `out_dir`, each whole or not at all; return what meta.json holds.

    Raises CourseError if the text is too short to split or the folder cannot be written.
    """
    train, val = split_text(corpus.text)
    tokenizer = CharTokenizer.train(corpus.text)
    meta: dict[str, object] = {
        "name": corpus.name,
        "origin": corpus.origin,
        "characters": len(corpus.text),
        "vocab_size": tokenizer.vocab_size,
        "train_tokens": len(train),
        "val_tokens": len(val),
        "entropy_bits_per_char": corpus.entropy_bits_per_char,
    }
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / "meta.json").unlink(
            missing_ok=True
        )  # old and new files must not pass for one set
        _write_array(out_dir / "train.npy", tokenizer.encode_array(train))
        _write_array(out_dir / "val.npy", tokenizer.encode_array(val))
        _write_json(out_dir / "tokenizer.json", tokenizer.to_dict())
        _write_json(out_dir / "meta.json", meta)
    except OSError as error:
        raise CourseError(f"cannot write {out_dir}: {error.strerror or error}") from error
    return meta


def _write_array(path: Path, ids: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, ids, allow_pickle=False)
    atomic_write_bytes(path, buffer.getvalue())


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
    corpus = load_corpus(options.data)
    out_dir = options.out_dir or HERE / corpus.name
    print(summary(prepare(corpus, out_dir), out_dir))


if __name__ == "__main__":
    run_program(main)
