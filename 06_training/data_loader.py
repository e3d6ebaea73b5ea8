"""Cut one long array of tokens into batches of training examples.

A language model learns to predict the next token, so the targets are the inputs shifted by one. A
window of T + 1 tokens holds T examples, one per position:

    tokens    T o   b e ,          T = 5
    x         T o   b e            what the model reads
    y         o   b e ,            what it should predict at each position

For training, windows start anywhere: `DataLoader.batch(step)` draws them from (seed, step) alone.
There is no hidden state, so a resumed run sees the batches that it would have seen. For evaluation,
`evaluation_blocks` goes through the data once, from the first token to the last.

Tokens stay where they are, possibly in a file larger than memory; only a batch is copied.

Dimensions: B batch size, T sequence length.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from utils.errors import CourseError, UsageError, run_program

Batch = tuple[Tensor, Tensor]


class DataLoader:
    """Random windows of `tokens` for training, in batches of shape (B, T).

    `tokens` is a one-dimensional array of unsigned integers, in memory or mapped from a file.
    Raises CourseError if it is shorter than one window; the message calls it `name`.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        batch_size: int,
        seq_len: int,
        seed: int,
        device: str | torch.device = "cpu",
        name: str = "training split",
    ) -> None:
        check_tokens(tokens, batch_size, seq_len, name)
        if seed < 0:
            raise UsageError(f"the seed is {seed}; it must be 0 or more")
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.seed = seed
        self.device = torch.device(device)
        # Row i is tokens[i : i + T + 1]: every possible window, as a view without a copy.
        self._windows = np.lib.stride_tricks.sliding_window_view(tokens, seq_len + 1)

    def batch(self, step: int) -> Batch:
        """Return x and y, each (B, T) int64: always the same batch for the same step."""
        # A new generator for every step: nothing to save, nothing to restore
        generator = np.random.Generator(np.random.PCG64([self.seed, step]))
        starts = generator.integers(len(self._windows), size=self.batch_size)  # (B,)
        windows = self._windows[starts]  # (B, T + 1)
        x = windows[:, :-1]  # all tokens but the last of each window
        y = windows[:, 1:]  # all but the first: y[:, i] follows x[:, i]
        return to_device(x, self.device), to_device(y, self.device)


def evaluation_blocks(
    tokens: np.ndarray,
    seq_len: int,
    batch_size: int,
    device: str | torch.device = "cpu",
    name: str = "validation split",
) -> Iterator[Batch]:
    """Go through all of `tokens` in blocks: every token but the first is a target exactly once.

    Yields x and y, each (B, T) int64; the last batch of full blocks may have fewer rows. The
    remainder, shorter than a block, comes at the end as a batch of one row. Raises CourseError if
    there is not one full block; the message calls the tokens `name`.
    """
    check_tokens(tokens, batch_size, seq_len, name)
    return _blocks(tokens, seq_len, batch_size, torch.device(device))


def _blocks(
    tokens: np.ndarray, seq_len: int, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    n_targets = len(tokens) - 1  # the first token has nothing before it
    n_full = n_targets - n_targets % seq_len  # targets in full blocks of T
    for start in range(0, n_full, batch_size * seq_len):
        stop = min(start + batch_size * seq_len, n_full)
        stretch = to_device(tokens[start : stop + 1], device)  # one token more: the last target
        yield stretch[:-1].view(-1, seq_len), stretch[1:].view(-1, seq_len)  # (B, T)
    if n_full < n_targets:
        rest = to_device(tokens[n_full:], device)
        yield rest[None, :-1], rest[None, 1:]  # (1, n_targets - n_full)


def check_tokens(tokens: np.ndarray, batch_size: int, seq_len: int, name: str) -> None:
    """Raise unless `tokens` is an array of unsigned integers with room for one window."""
    if batch_size < 1 or seq_len < 1:
        raise UsageError(f"a batch is {batch_size} x {seq_len} tokens; both must be 1 or more")
    check_token_array(tokens, f"the {name}")
    if len(tokens) <= seq_len:
        raise CourseError(
            f"the {name} has {len(tokens)} tokens; "
            f"a context of {seq_len} needs at least {seq_len + 1}"
        )


def check_token_array(tokens: np.ndarray, what: str) -> None:
    """Raise unless `tokens` is a one-dimensional array of unsigned integers."""
    if tokens.ndim != 1 or tokens.dtype.kind != "u":
        raise CourseError(
            f"{what} holds {tokens.dtype} of shape {tokens.shape}; "
            "tokens must be a one-dimensional array of unsigned integers"
        )


def to_device(tokens: np.ndarray, device: torch.device) -> Tensor:
    """Copy tokens into an int64 tensor on the device.

    For a GPU, the copy starts from pinned memory and does not block the program.
    """
    tensor = torch.from_numpy(tokens.astype(np.int64))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def load_tokens(path: Path) -> np.ndarray:
    """Map a `.npy` file of tokens into memory: only what a batch needs is read from disk.

    Returns (n,) unsigned integers, read-only. Raises CourseError if the file is missing or damaged,
    or holds something else.
    """
    try:
        tokens = open_memmap(path, mode="r")
    except FileNotFoundError:
        raise CourseError(f"no token file at {path}; prepare the data first") from None
    except OSError:
        raise  # no permission, or a folder: the system's own message is clear
    except Exception as error:  # a damaged header can raise almost anything in NumPy
        reason = str(error).partition("\n")[0]
        raise CourseError(f"{path} is not a complete .npy file of tokens: {reason}") from None
    check_token_array(tokens, str(path))
    return tokens


def main() -> None:
    """Show one batch as text, and that a step always has the same batch."""
    text = "It was the best of times, it was the worst of times"
    tokens = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    loader = DataLoader(tokens, batch_size=3, seq_len=12, seed=0)
    x, y = loader.batch(step=7)
    print(f"step 7: x and y are {tuple(x.shape)}")
    for inputs, targets in zip(x, y, strict=True):
        print(f"  x {bytes(inputs.tolist()).decode()!r}", end="  ")
        print(f"y {bytes(targets.tolist()).decode()!r}")
    again, _ = loader.batch(step=7)
    print(f"the same batch again: {torch.equal(x, again)}")
    shapes = [tuple(x.shape) for x, _ in evaluation_blocks(tokens, seq_len=12, batch_size=3)]
    print(f"evaluation cuts {len(tokens)} tokens into batches of shape {shapes}")


if __name__ == "__main__":
    run_program(main)
