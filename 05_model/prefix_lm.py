"""The prefix language model: the prompt is read in both directions, the answer is generated.

    allowed[i, j] = (j <= i) or (j < n_prefix)             Raffel et al. 2019, section 3.2.1, fig. 4

A causal model reads even its prompt from left to right, although all of it is known. A prefix
language model lifts the causal mask inside the prompt. It is trained on the answer only: the
prompt's positions see their own next tokens.

Dimensions: B batch, T positions, the first n_prefix of which are the prompt.
"""

import torch
from torch import Tensor

from attention import causal_mask
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import UsageError, run_program
from utils.kv_cache import KVCache


def prefix_mask(T: int, n_prefix: int, device: torch.device | str | None = None) -> Tensor:
    """Everyone may attend to the first n_prefix positions; besides, the mask is causal.

    Returns (T, T) bool, True where query i may attend to key j. 0 <= n_prefix <= T.
    """
    is_prompt = torch.arange(T, device=device) < n_prefix  # (T,): which keys are prompt
    return causal_mask(T, device) | is_prompt  # the row broadcasts over all queries


class PrefixLM(TinyTransformerLM):
    """TinyTransformerLM whose first n_prefix positions all see each other."""

    def __init__(
        self, config: ModelConfig, n_prefix: int, parts: Parts | None = None, seed: int = 0
    ) -> None:
        super().__init__(config, parts, seed)
        if config.position == "alibi":
            raise UsageError("PrefixLM has no ALiBi; position may be learned, sinusoidal or rope")
        self.n_prefix = n_prefix  # a setting, not a parameter: the weights fit the causal model too

    def _mask(self, positions: Tensor, cache: KVCache | None) -> Tensor | None:
        if cache is not None:  # a prompt in several pieces would have to see what is still to come
            raise UsageError("PrefixLM takes no cache: call it with the whole sequence")
        return prefix_mask(positions.size(1), self.n_prefix, positions.device)


def main() -> None:
    """Print a prefix mask, and which logits change with a token of the prompt or of the answer."""
    print("prefix_mask(6, n_prefix=3): row i shows what position i may attend to\n")
    for row in prefix_mask(6, 3):
        print("   " + " ".join("x" if allowed else "." for allowed in row))
    config = ModelConfig(vocab_size=10, d_model=32, n_layers=2)
    models = {"causal": TinyTransformerLM(config), "prefix": PrefixLM(config, n_prefix=3)}
    print("\nWhich positions notice that token 2 (of the prompt) or token 4 changes?\n")
    for name, model in models.items():
        torch.manual_seed(0)
        for parameter in model.parameters():  # the initial blocks are the identity: nothing flows
            torch.nn.init.normal_(parameter)
        tokens = torch.tensor([[3, 1, 4, 1, 5, 9]])
        before = model(tokens)
        for changed in (2, 4):
            after = model(tokens.index_fill(1, torch.tensor([changed]), 7))
            # Exactly equal, not nearly: what may not attend to a token doesn't depend on it at all.
            noticed = [t for t in range(6) if not torch.equal(before[0, t], after[0, t])]
            print(f"   {name}, token {changed}: positions {noticed}")


if __name__ == "__main__":
    run_program(main)
