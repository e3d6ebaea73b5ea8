"""What train.py prints: the data, the run, its result, and how to continue it."""

from collections.abc import Sequence
from pathlib import Path

from any_tokenizer import tokenizer_kind
from evaluation import EQUAL_CHARACTERS
from loss_functions import bits_per_char
from run_places import default_checkpoints
from training_data import TrainingData
from training_loop import Trainer
from training_run import Run
from utils.files import quoted, shown
from utils.terminal import labelled


def describe_data(data: TrainingData, requested: int | None = None) -> None:
    """Print what the model is trained on, before anything that takes a while."""
    n_chars, V = sum(data.n_characters), data.tokenizer.vocab_size
    is_char = tokenizer_kind(data.tokenizer) == "char"
    print(labelled("data", data.origin))
    print(
        f"        {n_chars:,} characters{f', {V} distinct' if is_char else ''}; "
        f"the last {data.n_characters[1]:,} for validation",
        flush=True,
    )
    if not is_char:
        describe_tokens(data, n_chars)
        if requested is not None and requested > V:
            print(f"        {requested:,} were requested, but no more pairs of tokens repeat")


def describe_tokens(data: TrainingData, n_chars: int) -> None:
    """Print into how many tokens the text was cut."""
    n_tokens = len(data.train) + len(data.val)
    ratio = f"{n_chars / n_tokens:.2f} characters per token"
    V = data.tokenizer.vocab_size
    print(f"        {n_tokens:,} tokens of a vocabulary of {V:,}: {ratio}", flush=True)


def describe_timing(precisions: Sequence[str]) -> None:
    """Print that precisions are being timed, which takes seconds on a busy machine."""
    print(f"timing  a few steps in {' and '.join(precisions)}, to take the faster", flush=True)


def describe_run(run: Run) -> None:
    """Print what is about to be trained, and where."""
    shape = run.config.model
    n_parameters = sum(p.numel() for p in run.model.parameters())
    print(
        f"model   {shape.n_layers} layers x {shape.d_model}, {shape.n_heads} heads, "
        f"context {shape.max_seq_len}: {n_parameters:,} parameters"
    )
    print(f"engine  {run.engine}")
    if run.engine.mine is not None:
        print(run.engine.mine.table())
    if run.workers.world_size > 1:
        rows = run.config.batch_size // run.workers.world_size
        print(f"workers {run.workers.world_size}, {rows} of the {run.config.batch_size} rows each")
    print(f"run     {shown(run.folder)}", flush=True)


def describe_initial(run: Run, loss: float) -> str:
    """Print the loss of given weights before the first step; returns the line for log.txt."""
    print(f"start   {run.config.init_from}: validation loss {loss:.4f}", flush=True)
    return f"started from {run.config.init_from}: validation {loss:.4f}"


def describe_result(run: Run, published: Path, val_loss: float, equal: float | None) -> None:
    """Print the loss of the best model, how to sample from it, and how to watch it attend.

    `equal` is its loss at equal evaluation, in nats per character; None if that is not known.
    """
    describe_losses(run, val_loss, equal)
    if (entropy := run.data.entropy_bits_per_char) is not None:
        print(f"floor   {entropy:.3f} bits per character, the entropy of the text itself")
    if published.stem != run.folder.name:
        name = run.folder.name
        print(f"saved   as {published.name}: {name}.safetensors belongs to another run")
    is_default = published.parent == default_checkpoints()  # where both programs take the newest
    option = "" if is_default else f" --checkpoint {quoted(published)}"
    print(f"sample  python 09_capstone/sample.py{option}")
    print(f"watch   python tools/export_demo.py{option} --out my_model.html")


def describe_losses(run: Run, val_loss: float, equal: float | None) -> None:
    """Print the loss at the model's own context and, unless it is the same, at equal evaluation."""
    per_token = run.data.chars_per_token
    bits = bits_per_char(val_loss, per_token)
    unit = "nats" if tokenizer_kind(run.data.tokenizer) == "char" else "nats per token"
    print(f"best    validation loss {val_loss:.4f} {unit}, {bits:.3f} bits per character")
    if equal is not None and equal != val_loss / per_token:
        nats_and_bits = f"{equal:.4f} nats, {bits_per_char(equal):.3f} bits per character"
        print(f"equal   {nats_and_bits}, in blocks of {EQUAL_CHARACTERS} characters")


def describe_interruption(run: Run, trainer: Trainer) -> None:
    """Print where the run stopped, and how to resume it."""
    n = run.workers.world_size
    program = "python" if n == 1 else f"torchrun --nproc-per-node {n}"
    print(f"interrupted at step {trainer.step} of {trainer.max_steps}; the state is saved")
    print(f"resume  {program} 09_capstone/train.py --resume --out-dir {quoted(run.folder)}")
