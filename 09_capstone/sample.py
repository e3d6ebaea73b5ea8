"""Generate text with a trained model.

python 09_capstone/sample.py                                   # the newest checkpoint
python 09_capstone/sample.py --prompt "ROMEO:" --temperature 0.7 --max-tokens 300
python 09_capstone/sample.py --num-samples 3 --top-p 0.9 --seed 7
python 09_capstone/sample.py --compare                         # sampling strategies side by side
python 09_capstone/sample.py --interactive                     # type prompts, read continuations
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from checkpointing import load_checkpoint
from fast_decoder import fast_decode_step
from generator import TextGenerator
from parts import Parts
from prompt_loop import next_seed, prompt_loop, unescape
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import SampleConfig
from utils.device import pick_device
from utils.errors import CourseError

HERE = Path(__file__).resolve().parent
STRATEGIES = {
    "greedy (temperature 0)": {"temperature": 0.0},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1.0": {"temperature": 1.0},
    "top-k 10": {"temperature": 1.0, "top_k": 10},
    "top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
    "min-p 0.1": {"temperature": 1.0, "min_p": 0.1},
    "temperature 1.5": {"temperature": 1.5},
}


def main(interactive: bool = False) -> None:
    """Read the command line, load the model, generate; interactive leaves no other mode."""
    args = parse_args(interactive)
    sampling = unescape_settings(config_from_args(args, SampleConfig()))
    device = pick_device(sampling.device)
    checkpoint = load_checkpoint(args.checkpoint or newest_checkpoint(args.checkpoint_dir))
    model = checkpoint.build_model(Parts.fused()).to(device)
    generator = TextGenerator(
        model, checkpoint.model_config, checkpoint.tokenizer, fast_decode_step
    )
    if args.interactive:
        prompt_loop(generator, sampling)
    elif args.compare:
        compare(generator, sampling)
    else:
        print_samples(generator, sampling)


def parse_args(interactive: bool = False) -> argparse.Namespace:
    """The command line: which model, what to do, and one flag per field of SampleConfig."""
    parser = OneLineParser(
        description="Generate text with a trained model.",
        usage="%(prog)s [--prompt TEXT] [options]",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="the model (default: the newest in --checkpoint-dir)",
    )
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        metavar="DIR",
        default=HERE / "checkpoints",
        help="where to look for the newest checkpoint",
    )
    if interactive:
        parser.set_defaults(interactive=True, compare=False)
    else:
        add_mode_flags(parser)
    add_config_flags(parser, SampleConfig)
    return parser.parse_args()


def add_mode_flags(parser: argparse.ArgumentParser) -> None:
    """What to do instead of printing samples; one of them at most."""
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--compare", action="store_true", help="show sampling strategies side by side"
    )
    modes.add_argument(
        "--interactive",
        action="store_true",
        help="a prompt loop: type a text, the model continues it",
    )


def unescape_settings(sampling: SampleConfig) -> SampleConfig:
    """Replace escapes such as "\\n" in --stop, and Windows line endings in --prompt."""
    stop = None if sampling.stop is None else unescape(sampling.stop)
    return replace(sampling, stop=stop, prompt=sampling.prompt.replace("\r\n", "\n"))


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
        first = next(pieces, "")  # refuses a bad prompt before anything is printed
        if sampling.num_samples > 1:
            print(f"--- sample {number + 1} of {sampling.num_samples} ---")
        print(prompt + first, end="", flush=True)
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        finally:  # Ctrl-C too
            print("\n")


def from_first_line(pieces: Iterator[str]) -> Iterator[str]:
    """Text generated from an empty prompt, without the empty lines at its start."""
    started = False
    for piece in pieces:
        shown = piece if started else piece.lstrip("\n")
        started = started or shown != ""
        if shown:
            yield shown


def compare(generator: TextGenerator, sampling: SampleConfig) -> None:
    """Print the continuation by each sampling strategy, all with the same prompt and seed."""
    plain = replace(sampling, top_k=None, top_p=None, min_p=None)
    for name, changes in STRATEGIES.items():
        (text,) = generator.generate([sampling.prompt], replace(plain, **changes))
        shown = (sampling.prompt + text).strip() or "(only empty lines)"
        print(f"--- {name} ---\n{shown}\n", flush=True)


if __name__ == "__main__":
    run_program(main)
