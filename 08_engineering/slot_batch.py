"""A batch whose rows come and go: one slot of the cache per sequence, from its first token on.

    slot = batch.join(prompt)        between two steps; the prompt's keys and values are computed
    batch.logits()                   one step for every occupied slot
    batch.append(slot, token)        the sequence grows
    batch.leave(slot)                the slot is free for the next sequence

A step computes one token per row, as in lesson 07, and the same rule moves the window of a sequence
that outgrows the context. A new prompt and a moved window are the same case: keys and values that
the cache does not have yet. They are computed at once (prefill), up to the newest token, which then
joins those of the others in the decode step.

Dimensions: W rows in a step, T positions, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from decoding_loop import window_start
from parts import Parts
from plain_slots import slot_model
from slot_decoder import GROUP, rounded_up
from utils.config import ModelConfig
from utils.errors import run_program
from utils.kv_cache import KVCache


@dataclass
class Slot:
    """What occupies a row of the cache: a sequence, and where its cached window starts."""

    sequence: list[int]
    start: int = -1  # -1: nothing is cached yet


class SlotBatch:
    """Up to n_slots sequences that are decoded together."""

    def __init__(
        self, model: nn.Module, config: ModelConfig, n_slots: int, group: int = GROUP
    ) -> None:
        """With `group` 1, few rows are faster, and rounding may depend on how many there are."""
        weight = next(model.parameters())
        self.config = config
        self.device = weight.device
        self.group = group
        self.cache = KVCache(config, rounded_up(n_slots, group), weight.dtype, weight.device)
        compute = slot_model(model, config, self.cache)
        self.decode_step, self.prefill = compute.decode, compute.prefill
        self.slots: list[Slot | None] = [None] * n_slots
        self.n_steps = 0  # decode steps so far
        self.n_prefilled = 0  # positions computed by prefill so far, without padding

    def occupied(self) -> list[int]:
        """The slots with a sequence, in order."""
        return [i for i, slot in enumerate(self.slots) if slot is not None]

    def n_free(self) -> int:
        """How many more sequences can join."""
        return self.slots.count(None)

    def join(self, prompt: list[int]) -> int:
        """Give the sequence the lowest free slot, so that the rows in use stay close together.

        Raises ValueError for an empty prompt, or if no slot is free.
        """
        if not prompt:
            raise ValueError("a prompt needs at least one token to continue")
        index = self.slots.index(None)
        self.slots[index] = Slot(list(prompt))
        return index

    def append(self, slot: int, token: int) -> None:
        """Add the token that was chosen from the slot's logits."""
        self._sequence(slot).append(token)

    def leave(self, slot: int) -> None:
        """Free the slot. What it leaves in the cache is overwritten by the next sequence."""
        self.slots[slot] = None

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """The logits (occupied, V) of the token after each sequence, in the order of the slots."""
        occupied = self.occupied()
        self._fill([i for i in occupied if self._has_moved(i)])
        W = rounded_up(occupied[-1] + 1, self.group)
        newest = [slot.sequence[-1] if slot else 0 for slot in self.slots[:W]]
        newest += [0] * (W - len(newest))
        for i in set(range(W)) - set(occupied):  # computed with the others, and not used
            self.cache.lengths[i] = 0
        self.n_steps += 1
        return self.decode_step(torch.tensor(newest, device=self.device))[occupied]

    def _has_moved(self, index: int) -> bool:
        """Whether the cache lacks the window of this slot: it is new, or its window has jumped."""
        slot = self.slots[index]
        return slot is not None and slot.start != self._start(index)

    def _fill(self, moved: list[int]) -> None:
        """Compute the keys and values of these slots' windows, without their newest token."""
        windows = {i: self._sequence(i)[self._start(i) : -1] for i in moved}
        self.prefill(windows)
        for i in moved:
            self._slot(i).start = self._start(i)
        self.n_prefilled += sum(map(len, windows.values()))

    def _start(self, index: int) -> int:
        return window_start(len(self._sequence(index)), self.config.max_seq_len)

    def _sequence(self, index: int) -> list[int]:
        return self._slot(index).sequence

    def _slot(self, index: int) -> Slot:
        slot = self.slots[index]
        if slot is None:
            raise ValueError(f"slot {index} is free")
        return slot


def main() -> None:
    """Three sequences share two slots: the third takes the place of the first that leaves."""
    from greedy import greedy
    from tiny_transformer_lm import TinyTransformerLM

    config = ModelConfig(vocab_size=10, max_seq_len=16, d_model=32, n_layers=2)
    batch = SlotBatch(TinyTransformerLM(config, Parts.fused()).eval(), config, n_slots=2)
    waiting = {"A": ([3, 1, 4], 2), "B": ([1, 5], 5), "C": ([9, 2, 6], 3)}  # prompt, new tokens
    running: dict[int, tuple[str, int]] = {}
    while waiting or running:
        while waiting and batch.n_free():
            name, (prompt, n_tokens) = next(iter(waiting.items()))
            del waiting[name]
            running[batch.join(prompt)] = (name, n_tokens)
        tokens = greedy(batch.logits()).tolist()
        shown = [running[i][0] if i in running else "-" for i in range(2)]
        print(f"step {batch.n_steps}   slots {' '.join(shown)}")
        for i, token in zip(batch.occupied(), tokens, strict=True):
            batch.append(i, token)
            name, left = running[i]
            running[i] = (name, left - 1)
            if left == 1:
                batch.leave(i)
                del running[i]


if __name__ == "__main__":
    run_program(main)
