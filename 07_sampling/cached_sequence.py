"""One model's logits along one sequence, with a cache that is cut back when the sequence changes.

    sequence = CachedSequence(model, config)
    sequence.logits([3, 1, 4], 1)        # computes three positions
    sequence.logits([3, 1, 5, 9], 2)     # keeps two of them, computes 5 and 9

A draft that is rejected leaves keys and values of tokens that are not part of the text. They are
found by comparison: what the cache holds is used as far as its tokens are those of the sequence.

Dimensions: n positions, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from decoding_loop import MakeDecodeStep, forward_step, window_start
from utils.config import ModelConfig
from utils.errors import run_program
from utils.kv_cache import KVCache

FEW = 2  # so many new tokens are computed one by one if the decode step is a faster one


class CachedSequence:
    """A model and its cache, for one sequence at a time."""

    def __init__(
        self, model: nn.Module, config: ModelConfig, make_decode_step: MakeDecodeStep = forward_step
    ) -> None:
        weight = next(model.parameters())
        self.model = model
        self.context = config.max_seq_len
        self.device = weight.device
        self.cache = KVCache(config, 1, weight.dtype, weight.device)
        self.make_decode_step = make_decode_step
        self.decode_step = make_decode_step(model, self.cache)
        self.few = 0 if make_decode_step is forward_step else FEW  # the plain step has no advantage
        self.cached: list[int] = []  # the tokens whose keys and values the cache holds

    def room(self, length: int) -> int:
        """How many tokens a sequence of this length can grow before its window moves."""
        return self.context - (length - window_start(length, self.context))

    def logits(self, sequence: Sequence[int], n: int) -> Tensor:
        """Logits (n, V) after each of the last n tokens; all n see the window of the last one.

        Raises ValueError if the window does not hold n tokens.
        """
        window = list(sequence[window_start(len(sequence), self.context) :])
        if not 1 <= n <= len(window):
            raise ValueError(f"the window holds {len(window)} tokens, not {n}")
        # The last n are computed even if they are cached: a cache holds no logits.
        n_kept = min(common_prefix(self.cached, window), len(window) - n)
        self.cache.truncate([n_kept])
        new = torch.tensor(window[n_kept:], device=self.device)  # (n or more,)
        self.cached = window
        if n == 1 and len(new) <= self.few and n_kept > 0:
            return [self.decode_step(token[None]) for token in new][-1]  # (1, V)
        return self.model(new[None], self.cache)[0, -n:]  # (n, V)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens the beginnings of both have in common."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def main() -> None:
    """Count the positions that are computed when the end of a sequence changes."""
    from tiny_transformer_lm import TinyTransformerLM

    config = ModelConfig(vocab_size=10, max_seq_len=32, d_model=32, n_layers=2)
    model = TinyTransformerLM(config).eval()
    sequence = CachedSequence(model, config)
    for tokens in ([3, 1, 4, 1, 5], [3, 1, 4, 1, 5, 9], [3, 1, 4, 2, 6]):
        n_before = common_prefix(sequence.cached, tokens)
        with torch.inference_mode():
            sequence.logits(tokens, 1)
        print(f"{tokens!s:22} {n_before} positions from the cache")


if __name__ == "__main__":
    run_program(main)
