"""How often a learned reward is wrong, while it is trained on pairs of the base model's answers.

    pairs    two answers of the base model to a held-out scene: like the pairs that it learns from
    slips    a right answer, and the same with one wrong character: it has seen no such pair

The verifier knows which answer of each pair is better, so an error is a fact.

Sampling a pair costs as much as learning from it several times. So `make_pair_sets` makes them
once, for all judges, and `learn_reward` reads them in epochs.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean
from string import ascii_lowercase

import torch
from torch import Tensor

from any_tokenizer import Tokenizer
from checkpointing import load_checkpoint
from clipping import clip_gradients_
from param_groups import build_optimizers, set_learning_rate_
from parts import Parts
from post_training.preferences import Pair, collate_pairs, exact_scores, make_pairs, with_noise
from post_training.reward_model import ScalarModel, pair_loss
from post_training.rollouts import Rollout, sample_answers
from post_training.sft import add_special_tokens
from post_training.tasks import HELD_OUT, N_CHARS, TRAINING, Continue, Prompt, Task
from schedules import learning_rate_ratio
from tiny_transformer_lm import TinyTransformerLM
from utils.config import TrainConfig
from utils.device import autocast

GROUP = 4  # answers per prompt, of which the best and the worst are a pair
PROMPTS = 64  # whose answers are sampled at once
COLUMNS = ("step", "loss", "pairs", "slips")
SETTINGS = TrainConfig(
    optimizer="muon", lr=1e-3, muon_lr=4e-3, weight_decay=0.0, warmup_steps=5, schedule="wsd"
)

CPU = torch.device("cpu")
PairSets = Mapping[str, Sequence[Pair]]  # "training", and the two kinds that are held out


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
            drawn = self.task.prompts(min(n, PROMPTS), rng)
            prompts = [prompt for prompt in drawn for _ in range(GROUP)]
            rollout = sample_answers(self.model, self.tokenizer, self.task, prompts, generator)
            found += make_pairs(rollout, exact_scores(self.task, rollout), GROUP)
        return found[:n]

    def slips(self, n: int, rng: random.Random) -> list[Pair]:
        """n right answers, each with the same answer after one slip of the pen."""
        return [
            Pair(prompt, prompt.answer, with_slip(self.task, prompt, rng))
            for prompt in self.task.prompts(n, rng)
        ]


def with_slip(task: Task, prompt: Prompt, rng: random.Random) -> str:
    """The right answer with one letter replaced, which makes it wrong."""
    answer = prompt.answer
    while task.judge(prompt, answer).is_right:
        place = rng.randrange(len(answer))
        answer = prompt.answer[:place] + rng.choice(ascii_lowercase) + prompt.answer[place + 1 :]
    return answer


class RewardLearner:
    """A reward model and its optimizers: those that the language model was trained with."""

    def __init__(self, model: ScalarModel, config: TrainConfig, dtype: torch.dtype) -> None:
        self.model = model
        self.config = config
        self.optimizers = build_optimizers(model, config, dtype)
        self.step = 0

    def update(self, loss: Tensor) -> None:
        """One optimizer step."""
        loss.backward()
        clip_gradients_(self.model.parameters(), self.config.grad_clip)
        ratio = learning_rate_ratio(self.config, self.step, self.config.max_steps)
        for optimizer in self.optimizers:
            set_learning_rate_(optimizer, ratio)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1


def epochs(pairs: Sequence[Pair], batch_size: int, rng: random.Random) -> Iterator[list[Pair]]:
    """Batches of the pairs, in a new order in every epoch; without end."""
    while True:
        order = rng.sample(pairs, len(pairs))
        for first in range(0, len(order), batch_size):
            yield order[first : first + batch_size]


@torch.inference_mode()
def error_rate(model: ScalarModel, pairs: Rollout) -> float:
    """The share of pairs whose better answer gets the lower reward; equal rewards are a guess."""
    chosen, rejected = model.rewards(pairs).chunk(2)
    return torch.where(chosen == rejected, 0.5, (chosen < rejected).float()).mean().item()


def make_pair_sets(
    base: Path, seed: int, n_pairs: int = 4096, task_chars: int = N_CHARS
) -> PairSets:
    """n_pairs to learn from, and an eighth as many held-out ones of each kind."""
    initial = add_special_tokens(load_checkpoint(base))
    writer = initial.build_model(Parts.fused()).eval()
    training, held_out = (
        PairSource(writer, initial.tokenizer, Continue(plays=plays, n_chars=task_chars))
        for plays in (TRAINING, HELD_OUT)
    )
    n_judged = max(1, n_pairs // 8)
    return {
        "training": training.pairs(n_pairs, random.Random(seed)),
        "pairs": held_out.pairs(n_judged, random.Random(1)),
        "slips": held_out.slips(n_judged, random.Random(2)),
    }


def learn_reward(
    base: Path,
    sets: PairSets,
    seed: int,
    n_steps: int,
    eval_interval: int = 128,
    batch_size: int = 16,
    noise: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Iterator[dict[str, float]]:
    """Train a reward model from the base model; yields a row of COLUMNS per evaluation.

    noise is the share of training pairs that the judge turns round, the same ones in every epoch.
    "loss" is the mean over the steps since the row before.
    """
    initial = add_special_tokens(load_checkpoint(base))
    judged = {name: collate_pairs(sets[name], initial.tokenizer) for name in ("pairs", "slips")}
    rng = random.Random(seed)
    batches = epochs(with_noise(sets["training"], noise, rng), batch_size, rng)
    config = replace(SETTINGS, model=initial.model_config, max_steps=n_steps)
    learner = RewardLearner(ScalarModel(initial.build_model(Parts.fused())), config, dtype)
    losses: list[float] = []
    for step, batch in enumerate(islice(batches, n_steps + 1)):
        with autocast(CPU, dtype):
            loss = pair_loss(learner.model, collate_pairs(batch, initial.tokenizer))
        losses.append(loss.item())
        if step % eval_interval == 0 or step == n_steps:
            errors = {name: error_rate(learner.model, pairs) for name, pairs in judged.items()}
            yield {"step": step, "loss": mean(losses), **errors}
            losses.clear()
        learner.update(loss)


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
