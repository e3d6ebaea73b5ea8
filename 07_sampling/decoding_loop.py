"""Autoregressive decoding: a batch of sequences that each grow by one token per step.

    repeat:   logits = model(sequence)           the scores of every possible next token
              token  = choose(logits)            temperature, filters and a draw, or greedy
              sequence = sequence + [token]

The model sees at most `context` tokens. When a sequence outgrows the context, the start of its
window jumps by half a context (`window_start`). Between two jumps a cache of keys and values makes
a new token cost one position of computation; only a jump recomputes the whole window.

Dimensions: B rows (sequences decoded together), T positions, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from greedy import greedy
from utils.config import ModelConfig
from utils.errors import run_program
from utils.kv_cache import KVCache

Choose = Callable[[Tensor], Tensor]  # logits (B, V) -> token ids (B,)
DecodeStep = Callable[[Tensor], Tensor]  # the newest token of each row (B,) -> logits (B, V)
MakeDecodeStep = Callable[[nn.Module, KVCache], DecodeStep]


def window_start(length: int, context: int) -> int:
    """Where the window of a sequence of `length` tokens starts: 0, then jumps of half a context.

    It depends on the length alone, so decoding with and without a cache uses the same windows.
    """
    if length <= context:
        return 0
    jump = (context + 1) // 2
    n_jumps = -(-(length - context) // jump)  # rounded up: the window must fit in the context
    return n_jumps * jump


def forward_step(model: nn.Module, cache: KVCache) -> DecodeStep:
    """The plain decode step: the model's forward pass on the newest token of each row."""
    return lambda newest: model(newest[:, None], cache)[:, -1]


class BatchDecoder:
    """Computes the next-token logits of a batch of sequences, each one token longer per call.

    With a cache, a decode step computes the newest tokens only; without one, every call computes
    the whole windows. A faster decode step than the model's forward pass can be passed in
    (08_engineering/fast_decoder.py).
    """

    def __init__(
        self,
        model: nn.Module,
        config: ModelConfig,
        sequences: list[list[int]],
        use_cache: bool = True,
        make_decode_step: MakeDecodeStep = forward_step,
    ) -> None:
        weight = next(model.parameters())
        self.model = model
        self.config = config
        self.sequences = sequences
        self.device = weight.device
        self.dtype = weight.dtype
        self.cache = self._new_cache(len(sequences)) if use_cache else None
        self.decode_step = make_decode_step(model, self.cache) if self.cache else None
        self.starts = [-1] * len(sequences)  # where each cached window starts; -1: not cached yet

    def logits(self) -> Tensor:
        """Logits (B, V) of the token after each sequence."""
        if self.cache is None or self.decode_step is None:
            # Without a cache every window is computed from its start, whatever has changed.
            return self._window_logits(range(len(self.sequences)), None)
        context = self.config.max_seq_len
        starts = [window_start(len(sequence), context) for sequence in self.sequences]
        moved = [row for row, start in enumerate(starts) if start != self.starts[row]]
        self.starts = starts
        # Prefill: if every window is new, one pass fills the cache and gives the logits as well.
        if len(moved) == len(self.sequences):
            self.cache.truncate([0] * len(moved))
            return self._window_logits(moved, self.cache)
        # Refill the rows whose window moved, up to the newest token, as the other rows are filled.
        if moved:
            refilled = self._new_cache(len(moved))
            self._window_logits(moved, refilled, leave_out=1)
            self.cache.replace_rows(moved, refilled)
        # Decode: one position per row.
        newest = torch.tensor([sequence[-1] for sequence in self.sequences], device=self.device)
        return self.decode_step(newest)

    def reorder(self, parents: Sequence[int]) -> None:
        """Row i becomes a copy of row parents[i]: its sequence, and what is cached of it."""
        self.sequences[:] = [list(self.sequences[parent]) for parent in parents]
        self.starts = [self.starts[parent] for parent in parents]
        if self.cache is not None:
            self.cache.reorder_rows(parents)

    def _window_logits(
        self, rows: Sequence[int], cache: KVCache | None, leave_out: int = 0
    ) -> Tensor:
        """Run the model on these rows' windows, without their last `leave_out` tokens.

        Returns the logits (rows, V) at the last token of each window.
        """
        windows = [self._window(row, leave_out) for row in rows]
        lengths = [len(window) for window in windows]
        # Padded on the right, where a causal mask hides the padding from every real token.
        padded = torch.zeros(len(windows), max(lengths), dtype=torch.long)
        for row, window in zip(padded, windows, strict=True):
            row[: len(window)] = torch.tensor(window)
        logits = self.model(padded.to(self.device), cache)  # (rows, T, V)
        if cache is not None:
            cache.truncate(lengths)  # drop the padding
        last = torch.tensor(lengths, device=self.device) - 1  # (rows,): before the padding
        return logits[torch.arange(len(windows), device=self.device), last]

    def _window(self, row: int, leave_out: int) -> list[int]:
        sequence = self.sequences[row]
        start = window_start(len(sequence), self.config.max_seq_len)
        return sequence[start : len(sequence) - leave_out]

    def _new_cache(self, n_rows: int) -> KVCache:
        return KVCache(self.config, n_rows, self.dtype, self.device)


@torch.inference_mode()
def generate_tokens(
    model: nn.Module,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    choose: Choose,
    use_cache: bool = True,
    make_decode_step: MakeDecodeStep = forward_step,
) -> Iterator[list[int]]:
    """Continue all prompts as one batch; yields the new token of each, max_tokens times.

    Prompts may differ in length. Raises ValueError for an empty one.
    """
    sequences = [list(prompt) for prompt in prompts]
    if not all(sequences):
        raise ValueError("every prompt needs at least one token to continue")
    decoder = BatchDecoder(model, config, sequences, use_cache, make_decode_step)
    for _ in range(max_tokens if sequences else 0):
        tokens = choose(decoder.logits()).tolist()  # one token per row
        for sequence, token in zip(sequences, tokens, strict=True):
            sequence.append(token)
        yield tokens


def main() -> None:
    """Count the positions of 100 tokens after a prompt of 8, with the cache and without it."""
    from tiny_transformer_lm import TinyTransformerLM

    config = ModelConfig(vocab_size=10, max_seq_len=32, d_model=32, n_layers=2)
    model = TinyTransformerLM(config).eval()
    n_positions = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal n_positions
        n_positions += inputs[0].numel()

    model.register_forward_pre_hook(count)
    for use_cache in (True, False):
        n_positions = 0
        list(generate_tokens(model, config, [[1] * 8], 100, greedy, use_cache))
        print(f"use_cache={use_cache!s:<5} 100 tokens cost {n_positions:,} positions")


if __name__ == "__main__":
    run_program(main)
