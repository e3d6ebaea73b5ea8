"""A reward model: learn from pairs which answers are better, and give each a number.

    P(chosen is preferred) = sigmoid(r(chosen) - r(rejected))       Bradley and Terry 1952
    loss = -log sigmoid(r(chosen) - r(rejected))

It is the language model with one score in place of the vocabulary's: the reward of an answer is the
sum of its tokens' scores. Only differences are learned, so the zero of the rewards means nothing.

Large models are read at the last token alone (Ouyang et al. 2022, section 3.5), which must collect
what all positions have found. In a trial with 440 pairs, a model of four layers memorized them
instead. In a sum, each position needs to find only its own mistake.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from post_training.rollouts import Rollout, answer_sum
from tiny_transformer_lm import TinyTransformerLM

SCALE = 0.1  # of a score, so that the sum of a hundred moves slowly at first; it is DPO's beta


class ScalarModel(TinyTransformerLM):
    """The same transformer with one output per position: a reward, or PPO's value."""

    def __init__(self, model: TinyTransformerLM) -> None:
        super().__init__(model.config, model.parts)
        self.load_state_dict(model.state_dict())
        self.score = nn.Linear(model.config.d_model, 1, bias=False)
        nn.init.zeros_(self.score.weight)  # every answer starts equal

    @property
    def output_weight(self) -> Tensor:
        """(1, d_model), where the language model has (vocab_size, d_model)."""
        return self.score.weight

    def rewards(self, rollout: Rollout) -> Tensor:
        """The sum of the scores of each answer's tokens (B,), scaled."""
        scores = self(rollout.tokens).float().squeeze(-1)  # (B, T)
        return SCALE * answer_sum(scores, rollout.is_answer)


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The mean loss of pairs, from the rewards (B,) of their answers."""
    return -F.logsigmoid(chosen - rejected).mean()


def pair_loss(model: ScalarModel, pairs: Rollout) -> Tensor:
    """The loss of a batch that `collate_pairs` has made."""
    chosen, rejected = model.rewards(pairs).chunk(2)
    return bradley_terry_loss(chosen, rejected)


def main() -> None:
    """Answers with a b are preferred: a small model learns it from pairs in a few steps."""
    import random

    from post_training.preferences import Pair, collate_pairs
    from post_training.tasks import Prompt
    from post_training.verifier import State
    from tokenizer import CharTokenizer
    from utils.config import ModelConfig

    tokenizer, rng = CharTokenizer("abcdef"), random.Random(0)
    config = ModelConfig(6, max_seq_len=8, d_model=16, n_layers=1, n_heads=2)
    model = ScalarModel(TinyTransformerLM(config))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(31):
        plain = ["".join(rng.choices("cdef", k=5)) for _ in range(32)]
        pairs = [Pair(Prompt("a", State(None, ""), ""), f"{x[:2]}b{x[3:]}", x) for x in plain]
        batch = collate_pairs(pairs, tokenizer)
        loss = pair_loss(model, batch)
        if step % 10 == 0:
            chosen, rejected = model.rewards(batch).chunk(2)
            right = (chosen > rejected).float().mean()
            print(f"step {step:2}: loss {loss:.3f}, in the right order {right:4.0%}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    run_program(main)
