"""Generate text with a trained model.

python 09_capstone/sample.py                                   # the newest checkpoint
python 09_capstone/sample.py --prompt "ROMEO:" --temperature 0.7 --max-tokens 300
python 09_capstone/sample.py --num-samples 3 --top-p 0.9 --seed 7
python 09_capstone/sample.py --beams 4 --num-samples 2         # the most probable texts
python 09_capstone/sample.py --draft small.safetensors         # a small model drafts tokens
python 09_capstone/sample.py --compare                         # decoding strategies side by side
python 09_capstone/sample.py --batch --output gallery.md       # 24 samples in a file
python 09_capstone/sample.py --interactive                     # type prompts, read continuations
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from any_tokenizer import tokenizer_kind
from checkpointing import Checkpoint, load_checkpoint
from fast_decoder import fast_decode_step
from gallery import GallerySource, check_output, write_gallery
from generator import TextGenerator
from parts import Parts
from prompt_loop import next_seed, prompt_loop
from sample_args import parse_args, unescape_settings
from speculative import Draft
from strategies import compare
from utils.command_line import config_from_args
from utils.config import SampleConfig
from utils.device import pick_device
from utils.errors import CourseError
from utils.terminal import labelled

HERE = Path(__file__).resolve().parent


def main(interactive: bool = False) -> None:
    """Read the command line, load the model, generate; interactive leaves no other mode."""
    args = parse_args(HERE / "checkpoints", interactive)
    sampling = unescape_settings(config_from_args(args, SampleConfig()))
    if args.batch:
        check_output(args.output)
    path = args.checkpoint or newest_checkpoint(args.checkpoint_dir)
    checkpoint = load_checkpoint(path)
    generator = build_generator(args, checkpoint, pick_device(sampling.device))
    generator.encode(sampling.prompt)  # refuses a bad prompt before anything is printed
    print(model_line(checkpoint), file=sys.stderr)  # the texts alone are the output
    if args.interactive:
        prompt_loop(generator, sampling)
    elif args.compare:
        compare(generator, sampling)
    elif args.batch:
        write_gallery(args.output, generator, sampling, GallerySource.from_args(args, path))
    elif sampling.beams is not None:
        print_beams(generator, sampling)
    else:
        print_samples(generator, sampling)


def build_generator(
    args: argparse.Namespace, checkpoint: Checkpoint, device: torch.device
) -> TextGenerator:
    """The model of a checkpoint, and its draft if one was named, on the device."""
    model = checkpoint.build_model(Parts.fused()).to(device)
    draft = None if args.draft is None else load_draft(args, checkpoint, device)
    return TextGenerator(
        model, checkpoint.model_config, checkpoint.tokenizer, fast_decode_step, draft
    )


def load_draft(args: argparse.Namespace, checkpoint: Checkpoint, device: torch.device) -> Draft:
    """The model that drafts for a checkpoint. Raises CourseError if it has other tokens."""
    small = load_checkpoint(args.draft)
    if small.tokenizer.to_dict() != checkpoint.tokenizer.to_dict():
        raise CourseError(
            f"the draft {args.draft} has other tokens than {checkpoint.name}; "
            "a draft must be trained with the same tokenizer"
        )
    model = small.build_model(Parts.fused()).to(device)
    return Draft(model, small.model_config, args.draft_tokens)


def model_line(checkpoint: Checkpoint) -> str:
    """Which model generates, its loss, and the step that it is from, as its file says."""
    loss, step = checkpoint.info.get("val_loss"), checkpoint.info.get("step")
    unit = "" if tokenizer_kind(checkpoint.tokenizer) == "char" else " nats per token"
    known = f"validation loss {loss:.3f}{unit}" if isinstance(loss, float) else "no loss recorded"
    known += f", step\xa0{step}" if isinstance(step, int) else ""  # one word where a line breaks
    return labelled("model", f"{Path(checkpoint.name).stem}: {known}").replace("\xa0", " ")


def newest_checkpoint(folder: Path) -> Path:
    """The most recent checkpoint in the folder. Raises CourseError if there is none yet."""
    found = list(folder.glob("*.safetensors"))
    if not found:
        raise CourseError(
            f"no checkpoint in {folder}; train a model first (make demo, or "
            "python 09_capstone/train.py) or name one with --checkpoint"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def print_samples(generator: TextGenerator, sampling: SampleConfig) -> None:
    """Print the prompt and its continuation as it is generated, once per sample."""
    prompt = sampling.prompt.lstrip("\n")
    for number in range(sampling.num_samples):
        pieces = generator.stream(next_seed(sampling, number))
        if not prompt:
            pieces = from_first_line(pieces)
        first = next(pieces, "")  # the prompt appears when the model has begun
        if sampling.num_samples > 1:
            print(f"--- sample {number + 1} of {sampling.num_samples} ---")
        print(prompt + first, end="", flush=True)
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        finally:  # Ctrl-C too
            print("\n")


def print_beams(generator: TextGenerator, sampling: SampleConfig) -> None:
    """Print the most probable continuations that beam search finds, the best first."""
    prompt = sampling.prompt.lstrip("\n")
    (texts,) = generator.search([sampling.prompt], sampling)
    for number, text in enumerate(texts, start=1):
        if sampling.num_samples > 1:
            print(f"--- text {number} of {len(texts)} ---")
        print(prompt + (text if prompt else text.lstrip("\n")), end="\n\n")


def from_first_line(pieces: Iterator[str]) -> Iterator[str]:
    """Text generated from an empty prompt, without the empty lines at its start."""
    started = False
    for piece in pieces:
        shown = piece if started else piece.lstrip("\n")
        started = started or shown != ""
        if shown:
            yield shown


if __name__ == "__main__":
    run_program(main)
