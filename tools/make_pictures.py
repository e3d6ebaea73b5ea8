"""Draw two pictures from a real run: the attention weights of one head, and the training curves.

attention.png is shown in the README, loss.png in 09_capstone/BENCHMARKS.md.

python 09_capstone/train.py --preset laptop --out-dir 09_capstone/runs/picture
python tools/make_pictures.py --run 09_capstone/runs/picture
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from any_tokenizer import tokenizer_kind
from attention import scaled_dot_product_attention
from checkpointing import Checkpoint, load_checkpoint
from logging_utils import read_csv
from parts import Parts
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
    weights = attention_weights(loaded, args.text)
    if not 0 <= args.layer < len(weights) or not 0 <= args.head < len(weights[0]):
        sizes = f"{len(weights)} layers with {len(weights[0])} heads each"
        raise CourseError(
            f"no layer {args.layer}, head {args.head}: the model has {sizes}, counted from 0"
        )
    unit = "character" if tokenizer_kind(loaded.tokenizer) == "char" else "token"
    title = f"Layer {args.layer}, head {args.head}: where each {unit} looks"
    head = weights[args.layer][args.head]
    labels = [piece_of(loaded.tokenizer, i) for i in loaded.tokenizer.encode(args.text)]
    plot_attention(head, labels, title=title, path=PICTURES / "attention.png")
    rows = read_csv(args.run / "metrics.csv")
    title = "The laptop preset on Tiny Shakespeare"
    plot_training_curves(rows, title=title, path=PICTURES / "loss.png")
    print(f"wrote {PICTURES / 'attention.png'} and {PICTURES / 'loss.png'}")


@torch.inference_mode()
def attention_weights(loaded: Checkpoint, text: str) -> list[Tensor]:
    """Each layer's attention weights for `text`: a list of (n_heads, T, T)."""
    recorded: list[Tensor] = []

    def attention(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        output, weights = scaled_dot_product_attention(q, k, v, mask)
        recorded.append(weights[0])  # the batch holds one text
        return output, weights

    model = loaded.build_model(replace(Parts.reference(), attention=attention)).eval()
    model(torch.tensor([loaded.tokenizer.encode(text)]))
    return recorded


if __name__ == "__main__":
    run_program(main)
