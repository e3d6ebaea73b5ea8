"""An encoder, as in BERT: every token sees every other, and hidden tokens are filled in.

    choose 15% of the tokens; of these    80% become [MASK]
                                          10% become a random token
                                          10% stay as they are
    predict the chosen tokens, and only those              Devlin et al. 2018, section 3.1

The only change to the model is a missing mask. But then next-token prediction is not a task any
more, because every position sees the answer; so the training hides what is to be predicted.

Dimensions: B batch, T positions, V tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from corruption import mask_tokens
from parts import Parts
from pattern_lab import MASK, N_SYMBOLS, VOCAB_SIZE, fit, palindromes
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import UsageError, run_program
from utils.kv_cache import KVCache

CHOSEN = 0.15  # the share of the tokens that are to be predicted
LENGTH = 16
CONFIG = ModelConfig(VOCAB_SIZE, max_seq_len=LENGTH, d_model=64, n_layers=2, n_heads=4)


class Encoder(TinyTransformerLM):
    """TinyTransformerLM without a causal mask."""

    def __init__(self, config: ModelConfig, parts: Parts | None = None, seed: int = 0) -> None:
        super().__init__(config, parts, seed)
        if config.position == "alibi":
            raise UsageError("Encoder has no ALiBi; position may be learned, sinusoidal or rope")

    def _mask(self, positions: Tensor, cache: KVCache | None) -> Tensor | None:
        if cache is not None:  # each new token would change what the earlier ones have computed
            raise UsageError("Encoder takes no cache: call it with the whole sequence")
        return None  # every position may attend to every position


def draw_batch(n_rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Palindromes, (corrupted, the originals, which are to be predicted), each (n_rows, LENGTH)."""
    tokens = palindromes(n_rows, LENGTH, generator)
    chosen = torch.rand(tokens.shape, generator=generator) < CHOSEN
    draws = torch.rand(tokens.shape, generator=generator)  # hidden, replaced or left as it is
    replacements = torch.randint(N_SYMBOLS, tokens.shape, generator=generator)
    return mask_tokens(tokens, chosen, draws, replacements, MASK), tokens, chosen


def masked_loss(model: TinyTransformerLM, generator: torch.Generator, n_rows: int = 64) -> Tensor:
    """The mean cross-entropy of the chosen tokens, at their own places: nothing is shifted."""
    corrupted, tokens, chosen = draw_batch(n_rows, generator)
    # Only the chosen: to repeat a token that can be seen would be no lesson.
    return F.cross_entropy(model(corrupted)[chosen], tokens[chosen])  # (n, V) and (n,)


@torch.no_grad()
def accuracy_by_half(model: TinyTransformerLM, n_rows: int = 2000) -> tuple[float, float]:
    """The share of the hidden tokens that are filled in correctly, in each half of a palindrome."""
    generator = torch.Generator().manual_seed(7)  # the same gaps for every model
    corrupted, tokens, chosen = draw_batch(n_rows, generator)
    # [MASK] and the start token are in the vocabulary, but never an answer.
    right = model(corrupted)[..., :N_SYMBOLS].argmax(-1) == tokens  # (n_rows, LENGTH)
    counted = chosen & (corrupted == MASK)  # the other 20% show a letter, the right one or not
    # A gap in the second half has its mirror image before it, one in the first half after it.
    half = LENGTH // 2
    first, second = (
        right[:, columns][counted[:, columns]].float().mean().item()
        for columns in (slice(half), slice(half, None))
    )
    return first, second


def train(model: TinyTransformerLM, n_steps: int = 600, seed: int = 0) -> list[float]:
    """Train on palindromes with hidden tokens; returns the losses."""
    return fit(model, lambda generator: masked_loss(model, generator), n_steps, seed=seed)


def main() -> None:
    """Train an encoder and a causal model to fill the gaps of palindromes."""
    torch.set_num_threads(1)
    print("tokens filled in correctly, of those hidden by [MASK]:\n")
    print(f"{'':22}first half   second half")
    models = {"encoder, sees all": Encoder, "causal": TinyTransformerLM}
    for name, kind in models.items():
        model = kind(CONFIG, Parts.fused())  # same first weights and batches: only the mask differs
        train(model)
        first, second = accuracy_by_half(model)
        print(f"{name:22}{first:10.0%}   {second:11.0%}")
    print(f"\nguessing among {N_SYMBOLS} symbols: {1 / N_SYMBOLS:.0%}")


if __name__ == "__main__":
    run_program(main)
