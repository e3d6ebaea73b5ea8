"""Draw the pictures of the README from a real run: what a head looks at, and how the loss fell.

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

from attention import scaled_dot_product_attention
from checkpointing import load_checkpoint
from logging_utils import read_csv
from parts import Parts
from utils.command_line import OneLineParser
from utils.errors import CourseError
from utils.visualization import plot_attention, plot_training_curves

PICTURES = Path(__file__).resolve().parents[1] / "09_capstone" / "pictures"
TEXT = "ROMEO:\nO, speak again, bright angel!"


def main() -> None:
    """Write attention.png and loss.png."""
    parser = OneLineParser(description="Draw the pictures of the README from a run.")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run's folder")
    parser.add_argument("--layer", type=int, default=2, metavar="N", help="which layer")
    parser.add_argument("--head", type=int, default=0, metavar="N", help="which head of it")
    parser.add_argument("--text", default=TEXT, help="what the model reads")
    args = parser.parse_args()
    weights = attention_weights(args.run / "best.safetensors", args.text)
    if not 0 <= args.layer < len(weights) or not 0 <= args.head < len(weights[0]):
        sizes = f"{len(weights)} layers of {len(weights[0])} heads, counted from 0"
        raise CourseError(f"layer {args.layer}, head {args.head} is not there; there are {sizes}")
    title = f"Layer {args.layer}, head {args.head}: where each character looks"
    head = weights[args.layer][args.head]
    plot_attention(head, list(args.text), title=title, path=PICTURES / "attention.png")
    rows = read_csv(args.run / "metrics.csv")
    title = "The laptop preset on Tiny Shakespeare"
    plot_training_curves(rows, title=title, path=PICTURES / "loss.png")
    print(f"wrote {PICTURES / 'attention.png'} and {PICTURES / 'loss.png'}")


@torch.inference_mode()
def attention_weights(checkpoint: Path, text: str) -> list[Tensor]:
    """The weights of each layer while the model reads `text`: (n_heads, T, T) each."""
    seen: list[Tensor] = []

    def recording(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        output, weights = scaled_dot_product_attention(q, k, v, mask)
        seen.append(weights[0])
        return output, weights

    loaded = load_checkpoint(checkpoint)
    model = loaded.build_model(replace(Parts.reference(), attention=recording)).eval()
    model(torch.tensor([loaded.tokenizer.encode(text)]))
    return seen


if __name__ == "__main__":
    run_program(main)
