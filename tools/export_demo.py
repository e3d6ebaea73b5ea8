"""Put a trained model into one HTML page, in which one can watch it attend.

    python tools/export_demo.py --out my_model.html                       the newest checkpoint
    python tools/export_demo.py --checkpoint X.safetensors --out my_model.html
    python tools/export_demo.py --no-weights --out page.html              asks for a checkpoint
    python tools/export_demo.py --lesson           put lesson 01's page together again
    python tools/export_demo.py --lesson --train   and train its model anew: about two minutes

The page opens from disk, in any browser, without a network. `--lesson` keeps the model that
01_attention/interactive_demo.html holds, so run it after a change in tools/attention_page/.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
from pathlib import Path
from typing import Any

from checkpointing import load_checkpoint
from numpy_checkpoint import newest_checkpoint
from run_places import default_checkpoints
from tools.attention_page.assemble import assemble, embedded_model
from tools.attention_page.embed import LARGEST_EMBEDDED, describe, n_parameters
from utils.command_line import OneLineParser
from utils.errors import CourseError, UsageError
from utils.files import atomic_write_text, shown

ROOT = Path(__file__).resolve().parents[1]
LESSON_PAGE = ROOT / "01_attention" / "interactive_demo.html"
LESSON_TITLE = "A small model of the mock plays"


def main() -> None:
    """Write the page that the command line asks for, and say where it is."""
    args = read_options()
    if args.lesson:
        write_page(LESSON_PAGE, lesson_model(args.train))
    elif args.no_weights:
        write_page(args.out, None)
    else:
        write_page(args.out, chosen_model(args.checkpoint))


def read_options() -> argparse.Namespace:
    """The command line. Raises UsageError for options that do not belong together."""
    parser = OneLineParser(description="Put a trained model into one HTML page.")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="default: the newest")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="the .html file to write")
    parser.add_argument("--no-weights", action="store_true", help="a page that asks for a file")
    parser.add_argument("--lesson", action="store_true", help="rebuild lesson 01's page")
    parser.add_argument("--train", action="store_true", help="with --lesson: train its model anew")
    args = parser.parse_args()
    if args.lesson and (args.checkpoint or args.out or args.no_weights):
        raise UsageError("--lesson has its own model and place; give it alone, or with --train")
    if args.train and not args.lesson:
        raise UsageError("--train needs --lesson; other models are trained by 09_capstone/train.py")
    if args.no_weights and args.checkpoint:
        raise UsageError("--no-weights leaves out the model; give it without --checkpoint")
    if not args.lesson and args.out is None:
        raise UsageError("--out is missing: the page to write, such as --out my_model.html")
    if args.out is not None and args.out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {args.out} is not a page; its name must end in .html")
    return args


def chosen_model(path: Path | None) -> dict[str, Any] | None:
    """The model to embed; None if it is too large. Raises CourseError if it can't be read."""
    path = path or newest_checkpoint(default_checkpoints())
    checkpoint = load_checkpoint(path)
    checkpoint.build_model()  # do the weights fit?
    count = n_parameters(checkpoint)
    print(f"model   {shown(path)}: {count:,} parameters")
    if count > LARGEST_EMBEDDED:
        print(f"        more than {LARGEST_EMBEDDED:,} do not fit: the page asks for the file")
        return None
    return describe(checkpoint, path.stem)


def lesson_model(train: bool) -> dict[str, Any]:
    """The model of lesson 01's page: the one it holds, or trained anew."""
    if train:
        from tools.attention_page.lesson_model import train_lesson_model  # loads the trainer

        return describe(train_lesson_model(), LESSON_TITLE)
    if not LESSON_PAGE.is_file():
        raise CourseError(f"no {shown(LESSON_PAGE)} to take the model from; add --train")
    try:
        found = embedded_model(LESSON_PAGE.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CourseError(f"{shown(LESSON_PAGE)}: {error}; add --train") from None
    if found is None:
        raise CourseError(f"{shown(LESSON_PAGE)} holds no model; add --train")
    return found


def write_page(path: Path, description: dict[str, Any] | None) -> None:
    """Assemble and write the page, and print how to open it."""
    page = assemble(description)
    atomic_write_text(path, page)
    print(f"page    {shown(path)}: {len(page.encode()):,} bytes; open it in a browser")


if __name__ == "__main__":
    run_program(main)
