"""Evaluation: the mean loss over data that the model does not learn from.

    mean loss = (sum over batches of mean loss of the batch * its targets) / number of targets

Weighting each batch by its number of targets makes every position count once, although the last
batches are smaller. The training loss of a single batch is noisy, and the model may have memorized
the batch. The mean over held-out data has neither problem, so use it to compare runs.

A longer context lowers the loss, because the average position sees more text before it. So models
of different contexts are also compared at equal evaluation: each reads the same number of
characters at a time.

Dimensions: B batch size, T sequence length.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from data_loader import Batch, evaluation_blocks
from loss_functions import cross_entropy
from utils.device import autocast
from utils.errors import run_program

EQUAL_CHARACTERS = 256  # what a block of the equal evaluation holds; published losses use 256 too
TOKENS_PER_BATCH = 8192  # of an evaluation: enough to keep the processor busy


@torch.inference_mode()  # no graph for a backward pass: less memory, less time
def sum_losses(
    model: nn.Module,
    batches: Iterable[Batch],
    dtype: torch.dtype = torch.float32,
    should_stop: Callable[[], bool] = lambda: False,
) -> float:
    """Add up the loss at every position of `batches`, in nats, with dropout switched off.

    Calls `should_stop` before every batch, and returns nan as soon as it is true.
    """
    model.eval()  # the next training step turns dropout on again
    total = 0.0
    for x, y in batches:
        if should_stop():
            return math.nan
        if len(x) == 0:  # a process's share of a small batch can have no rows
            continue
        with autocast(x.device, dtype):
            logits = model(x)  # (B, T, vocab_size)
        # float32: in bfloat16 a sum over V probabilities has 2 or 3 correct digits.
        total += cross_entropy(logits.float(), y).item() * y.numel()  # mean * number of targets
    return total


def equal_context(max_seq_len: int, chars_per_token: float = 1.0) -> int:
    """The tokens per block of the equal evaluation: about EQUAL_CHARACTERS characters.

    A model whose context is shorter is evaluated in blocks of its own context.
    """
    # 256 tokens of one character, or 100 tokens of 2.56 characters: as much text before a target.
    return min(max_seq_len, max(1, round(EQUAL_CHARACTERS / chars_per_token)))


def equal_evaluation_loss(
    model: nn.Module,
    tokens: np.ndarray,
    max_seq_len: int,
    chars_per_token: float = 1.0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> float:
    """Mean loss over `tokens` at equal evaluation, in nats per character.

    `tokens` (n,) are held-out unsigned integers, cut into blocks of `equal_context` that do not
    overlap; every token but the first is a target once. `chars_per_token` is that of the targets.
    Raises CourseError if there is not one full block.
    """
    T = equal_context(max_seq_len, chars_per_token)
    return block_loss(model, tokens, T, device, dtype) / chars_per_token  # nats per character


def block_loss(
    model: nn.Module,
    tokens: np.ndarray,
    seq_len: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> float:
    """Mean loss over `tokens` (n,) in blocks of `seq_len`, in nats per token.

    Every token but the first is a target once, so a shorter last block weighs less.
    """
    n_rows = max(1, TOKENS_PER_BATCH // seq_len)
    blocks = evaluation_blocks(tokens, seq_len, n_rows, device)
    return sum_losses(model, blocks, dtype) / (len(tokens) - 1)  # the first token is not a target


def main() -> None:
    """Evaluate an untrained model on a text, one block at a time and four at a time."""
    from tiny_transformer_lm import TinyTransformerLM
    from tokenizer import CharTokenizer
    from utils.config import ModelConfig

    text = "the quick brown fox jumps over the lazy dog. " * 10
    tokenizer = CharTokenizer.train(text)
    tokens = tokenizer.encode_array(text)
    model = TinyTransformerLM(ModelConfig(tokenizer.vocab_size, max_seq_len=32, d_model=32))
    n_targets = len(tokens) - 1
    for batch_size in (1, 4):
        batches = list(evaluation_blocks(tokens, seq_len=32, batch_size=batch_size))
        mean_loss = sum_losses(model, batches) / n_targets
        print(f"{len(batches):>2} batches, {n_targets} targets: mean loss {mean_loss:.4f} nats")
    print(f"a uniform guess among {tokenizer.vocab_size} characters costs", end=" ")
    print(f"{math.log(tokenizer.vocab_size):.4f} nats")


if __name__ == "__main__":
    run_program(main)
