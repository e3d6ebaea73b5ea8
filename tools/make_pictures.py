"""Draw two pictures from a real run: the attention weights of one head, and the training curves.

attention.png is shown in the README, loss.png in 09_capstone/BENCHMARKS.md.

python 09_capstone/train.py --preset laptop --out-dir 09_capstone/runs/picture
python tools/make_pictures.py --run 09_capstone/runs/picture
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from pathlib import Path

import torch

from any_tokenizer import tokenizer_kind
from checkpointing import load_checkpoint
from logging_utils import read_csv
from model_analysis import attention_weights
from token_colors import piece_of
from utils.command_line import OneLineParser
from utils.errors import CourseError
from utils.visualization import plot_attention, plot_training_curves

PICTURES = Path(__file__).resolve().parents[1] / "09_capstone" / "pictures"
TEXT = "ROMEO:\nO, speak again, bright angel!"


def main() -> None:
    """Write attention.png and loss.png."""
    parser = OneLineParser(description="Draw the pictures of a trained model from a run.")
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="the folder of the run"
    )
    parser.add_argument(
        "--layer",
        type=int,
        default=2,
        metavar="N",
        help="layer of attention.png, from 0 (default: 2)",
    )
    parser.add_argument(
        "--head", type=int, default=0, metavar="N", help="head of that layer, from 0 (default: 0)"
    )
    parser.add_argument(
        "--text", default=TEXT, metavar="TEXT", help="the text that the model reads"
    )
    args = parser.parse_args()
    loaded = load_checkpoint(args.run / "best.safetensors")
    tokens = loaded.tokenizer.encode(args.text)
    weights = attention_weights(loaded.build_model().eval(), torch.tensor([tokens]))
    if not 0 <= args.layer < len(weights) or not 0 <= args.head < weights[0].size(1):
        sizes = f"{len(weights)} layers with {weights[0].size(1)} heads each"
        raise CourseError(
            f"no layer {args.layer}, head {args.head}: the model has {sizes}, counted from 0"
        )
    unit = "character" if tokenizer_kind(loaded.tokenizer) == "char" else "token"
    title = f"Layer {args.layer}, head {args.head}: where each {unit} looks"
    head = weights[args.layer][0, args.head]
    labels = [piece_of(loaded.tokenizer, i) for i in tokens]
    plot_attention(head, labels, title=title, path=PICTURES / "attention.png")
    rows = read_csv(args.run / "metrics.csv")
    title = "The laptop preset on Tiny Shakespeare"
    plot_training_curves(rows, title=title, path=PICTURES / "loss.png")
    print(f"wrote {PICTURES / 'attention.png'} and {PICTURES / 'loss.png'}")


if __name__ == "__main__":
    run_program(main)
