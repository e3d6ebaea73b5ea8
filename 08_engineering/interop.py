"""Interoperability: models of this course in the library transformers, and models from there here.

    python 08_engineering/interop.py export CHECKPOINT FOLDER    our file -> their folder
    python 08_engineering/interop.py import FOLDER CHECKPOINT    their folder -> our file
    python 08_engineering/interop.py check FOLDER                the same logits in both programs?

Export and import move numbers between files and need nothing but this course. Only `check` runs
the library: python -m pip install -e ".[interop]". How it works is told in interop.md.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpointing import load_checkpoint, save_checkpoint
from decoding_loop import generate_tokens
from greedy import greedy
from interop_checkpoint import export_folder, import_folder
from interop_folder import check_new, naming_folder, read_config, read_weights
from interop_models import FORMATS, from_hugging_face, to_hugging_face
from tiny_transformer_lm import TinyTransformerLM
from utils.command_line import OneLineParser
from utils.config import ModelConfig
from utils.errors import CourseError, run_program

TOLERANCE = 1e-5  # of a logit, relative to the largest one if that is above 1
INSTALL = 'check needs transformers: python -m pip install -e ".[interop]"'


@dataclass(frozen=True)
class Comparison:
    """How far two programs are apart on the same model."""

    difference: float  # the largest, of any logit
    first: float  # the same at the first position, where no other token can matter
    scale: float  # the largest logit, at least 1
    same_greedy: bool  # whether they choose the same tokens

    @property
    def agrees(self) -> bool:
        return self.same_greedy and self.difference <= TOLERANCE * self.scale


@torch.inference_mode()
def compare(theirs: Any, ours: TinyTransformerLM, max_tokens: int = 20) -> Comparison:
    """Compare a model of transformers with one of ours, on random tokens. Both in float32."""
    generator = torch.Generator().manual_seed(0)
    T = min(ours.config.max_seq_len, 64)
    tokens = torch.randint(ours.config.vocab_size, (3, T), generator=generator)
    logits = ours.eval()(tokens)
    differences = (theirs.eval()(tokens).logits - logits).abs()  # (B, T, V)
    prompt = tokens[:1, : max(1, T - max_tokens)]
    greedy_tokens = continue_with(ours, prompt, min(max_tokens, T - prompt.size(1)))
    same = greedy_tokens == continue_with_theirs(theirs, prompt, len(greedy_tokens))
    difference, first = differences.max().item(), differences[:, 0].max().item()
    return Comparison(difference, first, max(1.0, logits.abs().max().item()), same)


def continue_with(model: TinyTransformerLM, prompt: Tensor, n: int) -> list[int]:
    """The `n` greedy tokens after a prompt (1, T), by our model with its cache."""
    steps = generate_tokens(model, model.config, prompt.tolist(), n, greedy)
    return [token for (token,) in steps]


def continue_with_theirs(theirs: Any, prompt: Tensor, n: int) -> list[int]:
    """The same by transformers; no token ends the text early."""
    if n == 0:
        return []
    output = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=n,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return output[0, prompt.size(1) :].tolist()


def check(folder: Path) -> bool:
    """Load a folder with both programs, and print how far their logits are apart."""
    with naming_folder(folder):
        config, weights = from_hugging_face(read_config(folder), read_weights(folder))
    ours = TinyTransformerLM(config)
    ours.load_state_dict(weights)
    theirs = load_theirs(folder)
    found = compare(theirs, ours)
    sizes = f"{config.n_layers} layers x {config.d_model}, V = {config.vocab_size}"
    print(f"{type(theirs).__name__}, {sizes}")
    print(f"largest difference of a logit   {found.difference:.1e} (of up to {found.scale:.1f})")
    print(f"at the first token              {found.first:.1e}")
    print(f"the same greedy tokens          {found.same_greedy}")
    return found.agrees


def load_theirs(folder: Path) -> Any:
    """The model of a folder, by transformers. Raises CourseError if it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise CourseError(INSTALL)
    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()  # this folder is loaded in an instant
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def show_idea() -> None:
    """Convert a small model to each format, and back."""
    modern: dict[str, Any] = {"norm": "rmsnorm", "position": "rope", "bias": False}
    examples = {
        "gpt2": ModelConfig(d_model=32, n_layers=2),
        "llama": ModelConfig(d_model=32, n_layers=2, n_kv_heads=2, activation="swiglu", **modern),
        "qwen3": ModelConfig(d_model=32, n_layers=2, activation="relu2", qk_norm=True, **modern),
    }
    name = "blocks.0.attention.q_proj.weight"
    print("The same weights, as Hugging Face stores them:\n")
    for model_type, config in examples.items():
        weights = TinyTransformerLM(config, seed=1).state_dict()
        stored, tensors = to_hugging_face(config, weights, model_type)
        back = from_hugging_face(stored, tensors)
        same = back[0] == config and all(torch.equal(back[1][n], weights[n]) for n in weights)
        row = next(
            row for row in FORMATS[model_type].rows(config) if name in getattr(row, "ours", ())
        )
        print(f"{model_type}: {name} {tuple(weights[name].shape)}")
        print(f"       is in {row.theirs} {tuple(tensors[row.theirs].shape)}")
        print(f"       {len(weights)} tensors -> {len(tensors)}; back again, bit for bit: {same}")


def main() -> int:
    """Export, import or check; without a command, show the idea."""
    parser = OneLineParser(description="Convert between this course and Hugging Face transformers.")
    commands = parser.add_subparsers(dest="command")
    exporting = commands.add_parser("export", help="write a folder that transformers can load")
    exporting.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=".safetensors file")
    exporting.add_argument("folder", type=Path, metavar="FOLDER", help="new or empty folder")
    exporting.add_argument(
        "--format",
        metavar="|".join(FORMATS),
        help="default: gpt2 for LayerNorm, qwen3 for RMSNorm with qk-norm, else llama",
    )
    importing = commands.add_parser("import", help="make a checkpoint of such a folder")
    importing.add_argument("folder", type=Path, metavar="FOLDER", help="folder with config.json")
    importing.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file to write")
    importing.add_argument(
        "--max-seq-len", type=int, metavar="N", help="shorten the context to N positions"
    )
    importing.add_argument(
        "--exact-gelu",
        action="store_true",
        help="take gelu_new, the approximation in GPT-2, as the exact gelu",
    )
    checking = commands.add_parser("check", help="compare the logits of both programs")
    checking.add_argument("folder", type=Path, metavar="FOLDER", help="folder with config.json")
    args = parser.parse_args()
    if args.command == "export":
        check_new(args.folder)
        model_type = export_folder(load_checkpoint(args.checkpoint), args.folder, args.format)
        print(f"{args.folder}: {model_type}; load it with AutoModelForCausalLM.from_pretrained")
    elif args.command == "import":
        checkpoint = import_folder(args.folder, args.max_seq_len, args.exact_gelu)
        save_checkpoint(
            args.checkpoint, checkpoint.build_model(), checkpoint.tokenizer, checkpoint.info
        )
        print(f"{args.checkpoint}: generate with 09_capstone/sample.py --checkpoint")
    elif args.command == "check":
        return 0 if check(args.folder) else 1
    else:
        show_idea()
    return 0


if __name__ == "__main__":
    run_program(main)
