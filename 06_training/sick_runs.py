"""Nine training runs of one tiny model: one is sound, each of the others has one real bug.

    python 06_training/sick_runs.py       trains all nine, in about two minutes

Every bug is a line or two that people really write, marked with BUG below, and none of them raises
an error. What they do to the loss curve is the subject of reading_curves.md: look at the curves
there, and at this file afterwards.

Dimensions: B batch size, T sequence length, V vocabulary size.
"""

import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from data_loader import Batch, DataLoader, evaluation_blocks
from loss_functions import cross_entropy
from optimizers import AdamW
from parts import Parts
from schedules import warmup_cosine
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.corpus import split_text
from utils.errors import pick, run_program
from utils.mock_corpus import generate

B, T = 16, 32
N_STEPS, EVAL_INTERVAL = 400, 10
PEAK = 5e-3  # learning rate
SOUND = "sound"
BUGS = (
    "softmax before the loss",
    "targets not shifted",
    "gradients never zeroed",
    "schedule too short",
    "optimizer holds another model",
    "one source after the other",
    "too little text",
    "validation text has its own vocabulary",
)


@dataclass(frozen=True)
class Curves:
    """The training loss of each step, and the validation loss every EVAL_INTERVAL steps."""

    train: list[float]
    val: list[float]


@cache
def plays() -> tuple[str, str]:
    """The mock plays: training text and validation text."""
    return split_text(generate(100_000))


def vocabulary() -> CharTokenizer:
    """The characters of the plays, and their capitals: the same for all runs."""
    return CharTokenizer.train(plays()[0] + plays()[0].upper())


def run(
    bug: str = SOUND, n_steps: int = N_STEPS, seed: int = 0
) -> tuple[TinyTransformerLM, Curves]:
    """Train the model with one of BUGS, or without any; returns it, and its losses."""
    pick(bug, (SOUND, *BUGS), what="bug")
    torch.manual_seed(seed)
    train_text, val_text = texts(bug)
    tokenizer = vocabulary()
    loader = DataLoader(tokenizer.encode_array(train_text), B, T, seed)
    val_batches = encode_validation(val_text, tokenizer, bug)
    model = build_model(tokenizer.vocab_size, seed)
    optimizer = build_optimizer(model, bug)
    curves = Curves([], [])
    for step in range(n_steps):
        if step % EVAL_INTERVAL == 0:
            curves.val.append(validation_loss(model, val_batches, bug))
        x, y = read_in_order(loader, step) if in_order(bug) else loader.batch(step)
        set_learning_rate_(optimizer, step, bug)
        curves.train.append(train_step(model, optimizer, x, y, bug))
    return model, curves


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, bug: str
) -> float:
    """One step, as in `Trainer.train_step`; returns the loss."""
    loss = loss_of(model, x, y, bug)
    if bug != "gradients never zeroed":
        optimizer.zero_grad()  # BUG: without this line they add up for ever
    loss.backward()
    optimizer.step()
    return loss.item()


def loss_of(model: nn.Module, x: Tensor, y: Tensor, bug: str) -> Tensor:
    """The loss of one batch, in training and in validation."""
    logits = model(x)  # (B, T, V)
    if bug == "softmax before the loss":
        logits = logits.softmax(dim=-1)  # BUG: cross_entropy takes the softmax itself
    if bug == "targets not shifted":
        y = x  # BUG: the answer to each position is its own input
    return cross_entropy(logits, y)


def build_model(vocab_size: int, seed: int) -> TinyTransformerLM:
    """Two layers, 64 features, rotary positions."""
    config = ModelConfig(vocab_size, T, d_model=64, n_layers=2, position="rope")
    return TinyTransformerLM(config, Parts.fused(), seed)


def build_optimizer(model: nn.Module, bug: str) -> torch.optim.Optimizer:
    """AdamW for all parameters of the model."""
    if bug == "optimizer holds another model":
        model = copy.deepcopy(model)  # BUG: the copy is trained, and the original is used
    return AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.99), weight_decay=0.1)


def set_learning_rate_(optimizer: torch.optim.Optimizer, step: int, bug: str) -> None:
    """Warm up over 20 steps, then follow a cosine to a tenth of the peak."""
    # BUG: this schedule counts something else than steps, and is at its end after 50 of them.
    short = bug == "schedule too short"
    max_steps, min_ratio = (50, 0.0) if short else (N_STEPS, 0.1)
    ratio = warmup_cosine(step, max_steps=max_steps, warmup_steps=20, min_ratio=min_ratio)
    for group in optimizer.param_groups:
        group["lr"] = PEAK * ratio


# --- data ---


def texts(bug: str) -> tuple[str, str]:
    """What the model learns from, and what it is tested on."""
    train_text, val_text = plays()
    if bug == "too little text":
        return train_text[:1000], val_text  # BUG: 1,000 characters, which fit into the weights
    if in_order(bug):
        return half_in_capitals(train_text), half_in_capitals(val_text)
    return train_text, val_text


def in_order(bug: str) -> bool:
    return bug == "one source after the other"


def half_in_capitals(text: str) -> str:
    """Two sources: plays as they are, then plays in capital letters."""
    half = len(text) // 2
    return text[:half] + text[half:].upper()


def read_in_order(loader: DataLoader, step: int) -> Batch:
    """The windows of a step, evenly spaced over the next stretch of the text."""
    # BUG: nothing is shuffled, so the second source is not seen until the first is over.
    n_windows = len(loader._windows)  # pyright: ignore[reportPrivateUsage]
    starts = np.arange(B) * (n_windows // (B * N_STEPS)) + step * (n_windows // N_STEPS)
    windows = torch.from_numpy(loader._windows[starts].astype(np.int64))  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]


def encode_validation(text: str, tokenizer: CharTokenizer, bug: str) -> list[Batch]:
    """The validation text in batches."""
    if bug == "validation text has its own vocabulary":
        tokenizer = CharTokenizer.train(text)  # BUG: ids are positions in *this* vocabulary
    return list(evaluation_blocks(tokenizer.encode_array(text), T, 128))


@torch.no_grad()
def validation_loss(model: nn.Module, batches: list[Batch], bug: str) -> float:
    """The mean loss over the validation text, in nats per character."""
    total = sum(loss_of(model, x, y, bug).item() * y.numel() for x, y in batches)
    return total / sum(y.numel() for _, y in batches)


def unigram_entropy() -> float:
    """The loss of a model that knows how frequent each character is, and nothing else."""
    shares = np.bincount(vocabulary().encode_array(plays()[0])) / len(plays()[0])
    return -float(sum(share * np.log(share) for share in shares if share > 0))


def main() -> None:
    """Train all nine, and print where each curve begins and ends."""
    torch.set_num_threads(1)
    print(f"{'':40} first   last   last validation")
    for bug in (SOUND, *BUGS):
        _, curves = run(bug)
        last = sum(curves.train[-20:]) / 20
        print(f"{bug:40} {curves.train[0]:5.2f}  {last:5.2f}  {curves.val[-1]:16.2f}")


if __name__ == "__main__":
    run_program(main)
