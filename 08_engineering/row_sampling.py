"""Choosing the next token of several rows, each with its own settings and its own generator.

    row 0   temperature 0.8, seed 7      the rules of lesson 07 are applied once per group of rows
    row 1   temperature 0.8, seed 8      with equal settings, but every row draws its own noise:
    row 2   greedy                       its text depends on its seed and on nothing else

Dimensions: n rows, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from distribution import has_penalties, process_logits
from greedy import greedy
from penalties import TokenCounts
from temperature import GREEDY_BELOW
from utils.config import SampleConfig
from utils.errors import run_program


class RowSampler:
    """What one row needs to draw its tokens: settings, generator, and the counts of its tokens."""

    def __init__(self, sampling: SampleConfig, prompt: Sequence[int], vocab_size: int) -> None:
        self.generator = torch.Generator().manual_seed(sampling.seed)
        # Rows that differ only in what doesn't change the distribution share a group.
        self.settings = replace(sampling, seed=0, prompt="", stop=(), max_tokens=0)
        self.group = repr(self.settings)  # a text computes its hash once, a dataclass every time
        self.counts = None
        if has_penalties(sampling):
            self.counts = TokenCounts.of_prompts([prompt], vocab_size)  # (1, V) each


@torch.inference_mode()
def choose_tokens(logits: Tensor, samplers: Sequence[RowSampler]) -> list[int]:
    """The next token of each row: logits (n, V) -> n ids; each row's counts are updated.

    With equal logits, a row gets the tokens that `generator.choose_with` would give it alone.
    """
    logits = logits.float().cpu()
    groups: dict[str, list[int]] = defaultdict(list)
    for row, sampler in enumerate(samplers):
        groups[sampler.group].append(row)
    noisy = torch.empty_like(logits)
    for rows in groups.values():
        members = [samplers[row] for row in rows]
        settings = members[0].settings
        of_group = logits if len(groups) == 1 else logits[rows]
        processed = process_logits(of_group, settings, joined_counts(members))  # (rows, V)
        if settings.temperature >= GREEDY_BELOW:
            processed = processed + gumbel_noise(processed, members)
        noisy[rows] = processed
    tokens = greedy(noisy).tolist()
    for sampler, token in zip(samplers, tokens, strict=True):
        if sampler.counts is not None:
            sampler.counts.add_(torch.tensor([token]))
    return tokens


def gumbel_noise(like: Tensor, samplers: Sequence[RowSampler]) -> Tensor:
    """-log(E) for each row (rows, V), with E drawn from the row's own generator.

    The draws are those of `temperature.sample`, one row at a time.
    """
    exponential = torch.empty_like(like)  # E
    for row, sampler in zip(exponential.unbind(), samplers, strict=True):
        row.exponential_(generator=sampler.generator)
    return exponential.log_().neg_()


def joined_counts(samplers: Sequence[RowSampler]) -> TokenCounts | None:
    """The counts of several rows as one (rows, V); None if their settings need none."""
    counts = [sampler.counts for sampler in samplers if sampler.counts is not None]
    if not counts:
        return None
    return TokenCounts(
        torch.cat([one.prompt for one in counts]), torch.cat([one.new for one in counts])
    )


def main() -> None:
    """Draw tokens for three rows from the same distribution: two seeds, and one greedy row."""
    settings = [SampleConfig(seed=7), SampleConfig(seed=8), SampleConfig(temperature=0)]
    samplers = [RowSampler(sampling, [0], vocab_size=5) for sampling in settings]
    logits = torch.tensor([1.0, 2.0, 0.5, -1.0, 1.5]).expand(3, -1)
    drawn = [choose_tokens(logits, samplers) for _ in range(12)]
    for name, column in zip(("seed 7", "seed 8", "greedy"), zip(*drawn, strict=True), strict=True):
        print(f"{name}  {' '.join(map(str, column))}")


if __name__ == "__main__":
    run_program(main)
