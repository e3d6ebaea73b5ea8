"""How often a learned reward is wrong, while it is trained on pairs of the base model's answers.

    pairs    two answers of the base model to a held-out scene: like the pairs that it learns from
    slips    a right answer, and the same with one wrong character: it has seen no such pair

The verifier knows which answer of each pair is better, so an error is a fact. A judge who errs in
some of the training pairs costs little; pairs of another kind than those of training cost much.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase

import torch

from any_tokenizer import Tokenizer
from checkpointing import load_checkpoint
from parts import Parts
from post_training.preferences import Pair, collate_pairs, exact_scores, make_pairs, with_noise
from post_training.reward_model import ScalarModel, pair_loss
from post_training.rollouts import Rollout, sample_answers
from post_training.sft import add_special_tokens
from post_training.tasks import HELD_OUT, TRAINING, Continue, Prompt, Task
from tiny_transformer_lm import TinyTransformerLM

GROUP = 8  # answers per prompt, of which the best and the worst are a pair
COLUMNS = ("step", "loss", "pairs", "slips")


class PairSource:
    """Pairs of a model's answers, and pairs of a right answer and a slip."""

    def __init__(self, model: TinyTransformerLM, tokenizer: Tokenizer, task: Task) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.task = task

    def pairs(self, n: int, rng: random.Random) -> list[Pair]:
        """The first n pairs; a group whose answers are equally good gives none."""
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        found: list[Pair] = []
        while len(found) < n:
            prompts = [prompt for prompt in self.task.prompts(n, rng) for _ in range(GROUP)]
            rollout = sample_answers(self.model, self.tokenizer, self.task, prompts, generator)
            found += make_pairs(rollout, exact_scores(self.task, rollout), GROUP)
        return found[:n]

    def slips(self, n: int, rng: random.Random) -> list[Pair]:
        """n right answers, each with the same answer after one slip of the pen."""
        return [
            Pair(prompt, prompt.answer, with_slip(self.task, prompt, rng))
            for prompt in self.task.prompts(n, rng)
        ]

    def batch(self, pairs: Sequence[Pair]) -> Rollout:
        """The pairs as tokens."""
        return collate_pairs(pairs, self.tokenizer)


def with_slip(task: Task, prompt: Prompt, rng: random.Random) -> str:
    """The right answer with one letter replaced, which makes it wrong."""
    answer = prompt.answer
    while task.judge(prompt, answer).is_right:
        place = rng.randrange(len(answer))
        answer = prompt.answer[:place] + rng.choice(ascii_lowercase) + prompt.answer[place + 1 :]
    return answer


@torch.inference_mode()
def error_rate(model: ScalarModel, pairs: Rollout) -> float:
    """The share of pairs whose better answer gets the lower reward; equal rewards are a guess."""
    chosen, rejected = model.rewards(pairs).chunk(2)
    return torch.where(chosen == rejected, 0.5, (chosen < rejected).float()).mean().item()


def learn_reward(
    base: Path,
    seed: int,
    n_steps: int,
    eval_interval: int = 20,
    n_pairs: int = 16,
    noise: float = 0.0,
    task_chars: int = 1_200_000,
) -> Iterator[dict[str, float]]:
    """Train a reward model from the base model; yields a row of COLUMNS per evaluation.

    n_pairs is the number per step, and 4 n_pairs are held out of each kind; noise is the share of
    training pairs that the judge turns round.
    """
    initial = add_special_tokens(load_checkpoint(base))
    writer = initial.build_model(Parts.fused()).eval()
    learner = ScalarModel(initial.build_model(Parts.fused()))
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-4)
    training, held_out = (
        PairSource(writer, initial.tokenizer, Continue(plays=plays, n_chars=task_chars))
        for plays in (TRAINING, HELD_OUT)
    )
    judged = {
        "pairs": held_out.batch(held_out.pairs(4 * n_pairs, random.Random(1))),
        "slips": held_out.batch(held_out.slips(4 * n_pairs, random.Random(2))),
    }
    for step in range(n_steps + 1):
        rng = random.Random(f"{seed} {step}")
        pairs = with_noise(training.pairs(n_pairs, rng), noise, rng)
        loss = pair_loss(learner, training.batch(pairs))
        if step % eval_interval == 0 or step == n_steps:
            errors = {name: error_rate(learner, batch) for name, batch in judged.items()}
            yield {"step": step, "loss": loss.item(), **errors}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    """Right answers, and what a slip makes of them: how similar the two of a pair are."""
    task = Continue(n_chars=30_000)
    rng = random.Random(0)
    for prompt in task.prompts(3, rng):
        slip = with_slip(task, prompt, rng)
        place = task.judge(prompt, slip).accepted
        shown = prompt.answer[max(0, place - 12) : place + 1]
        print(f"{shown!r} becomes {slip[max(0, place - 12) : place + 1]!r}")


if __name__ == "__main__":
    run_program(main)
