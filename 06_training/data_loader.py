"""Cut one long row of tokens into batches of examples.

A language model learns to name the next token, so the targets are the inputs moved by one. A window
of T + 1 tokens holds T examples, one for every position:

    tokens    T o   b e ,          T = 5
    x         T o   b e            what the model reads
    y         o   b e ,            what it should say at each position

For training, windows start anywhere: `DataLoader.batch(step)` draws them from (seed, step) alone,
with no hidden state, so a run that was stopped sees the same batches when it goes on. For
evaluation, `evaluation_blocks` goes through the data once, from the first token to the last.

B batch, T sequence length. Tokens stay where they are (perhaps in a file): a batch copies its own.
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
    """Random windows of `tokens` for training, (B, T) at a time.

    `tokens` is one row of unsigned integers, in memory or mapped from a file. Raises CourseError if
    it is shorter than one window, naming it as `name`.
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
        # Every window there is, without a copy: row i is tokens[i : i + T + 1].
        self._windows = np.lib.stride_tricks.sliding_window_view(tokens, seq_len + 1)

    def batch(self, step: int) -> Batch:
        """Return x and y of this step, each (B, T) int64: always the same for the same step."""
        generator = np.random.Generator(np.random.PCG64([self.seed, step]))
        starts = generator.integers(len(self._windows), size=self.batch_size)
        windows = self._windows[starts]  # (B, T + 1)
        return to_device(windows[:, :-1], self.device), to_device(windows[:, 1:], self.device)


def evaluation_blocks(
    tokens: np.ndarray,
    seq_len: int,
    batch_size: int,
    device: str | torch.device = "cpu",
    name: str = "validation split",
) -> Iterator[Batch]:
    """Go through all of `tokens`, block after block: every token but the first is a target once.

    Yields x and y, each (B, T) int64; the last batch of whole blocks may have fewer rows. What is
    left is shorter than a block and comes at the end, as a batch of one row. Raises CourseError if
    there is not one whole block, naming the tokens as `name`.
    """
    check_tokens(tokens, batch_size, seq_len, name)
    return _blocks(tokens, seq_len, batch_size, torch.device(device))


def _blocks(
    tokens: np.ndarray, seq_len: int, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    n_targets = len(tokens) - 1
    whole = n_targets - n_targets % seq_len
    for start in range(0, whole, batch_size * seq_len):
        stop = min(start + batch_size * seq_len, whole)
        stretch = to_device(tokens[start : stop + 1], device)
        yield stretch[:-1].view(-1, seq_len), stretch[1:].view(-1, seq_len)
    if whole < n_targets:
        rest = to_device(tokens[whole:], device)
        yield rest[None, :-1], rest[None, 1:]


def check_tokens(tokens: np.ndarray, batch_size: int, seq_len: int, name: str) -> None:
    """Raise unless `tokens` is a row of unsigned integers that holds a window of seq_len + 1."""
    if batch_size < 1 or seq_len < 1:
        raise UsageError(f"a batch is {batch_size} x {seq_len} tokens; both must be 1 or more")
    check_row(tokens, f"the {name}")
    if len(tokens) <= seq_len:
        raise CourseError(
            f"the {name} has {len(tokens)} tokens, "
            f"a context of {seq_len} needs at least {seq_len + 1}"
        )


def check_row(tokens: np.ndarray, what: str) -> None:
    """Raise unless `tokens` is one row of unsigned integers."""
    if tokens.ndim != 1 or tokens.dtype.kind != "u":
        raise CourseError(
            f"{what} holds {tokens.dtype} of shape {tokens.shape}; "
            "tokens are one row of unsigned integers"
        )


def to_device(tokens: np.ndarray, device: torch.device) -> Tensor:
    """Copy tokens into an int64 tensor on the device.

    To a GPU they travel from pinned memory, so that the copy runs while the program goes on.
    """
    tensor = torch.from_numpy(tokens.astype(np.int64))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def load_tokens(path: Path) -> np.ndarray:
    """Map a `.npy` file of tokens into memory: the disk is read only where a batch needs it.

    Returns (n,) unsigned integers, read-only. Raises CourseError if the file is missing, damaged or
    holds something else.
    """
    try:
        tokens = open_memmap(path, mode="r")
    except FileNotFoundError:
        raise CourseError(f"no token file at {path}; prepare the data first") from None
    except OSError:
        raise  # no permission, a folder: the system's own words are clear
    except Exception as error:  # NumPy meets a damaged header with errors of many kinds
        reason = str(error).partition("\n")[0]
        raise CourseError(f"{path} is not a whole .npy file of tokens: {reason}") from None
    check_row(tokens, str(path))
    return tokens


def main() -> None:
    """Show one batch as text, and that a step always gives the same one."""
    text = "It was the best of times, it was the worst of times"
    tokens = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    loader = DataLoader(tokens, batch_size=3, seq_len=12, seed=0)
    x, y = loader.batch(step=7)
    print(f"step 7: x and y are {tuple(x.shape)}")
    for reads, says in zip(x, y, strict=True):
        print(f"  reads {bytes(reads.tolist()).decode()!r}  says {bytes(says.tolist()).decode()!r}")
    print(f"the same again: {bool((x == loader.batch(step=7)[0]).all())}")
    rows = [tuple(x.shape) for x, _ in evaluation_blocks(tokens, seq_len=12, batch_size=3)]
    print(f"evaluation goes through {len(tokens)} tokens in batches of {rows}")


if __name__ == "__main__":
    run_program(main)
