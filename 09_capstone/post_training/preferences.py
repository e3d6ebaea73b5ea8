"""Preferences: which of two answers is better, by the verifier or by a judge who errs.

    answers to one prompt -> scores -> the best and the worst of them are a pair

A pair says less than a score: which is better, not by how much. It is what people can give.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from any_tokenizer import Tokenizer
from post_training.rewards import exact
from post_training.rollouts import Rollout, collate
from post_training.tasks import Prompt, Task
from post_training.verifier import State

NOTHING = State(None, "")  # what is expected after a prompt, where no verifier asks


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, of which the first is preferred."""

    prompt: Prompt
    chosen: str
    rejected: str


def exact_scores(task: Task, rollout: Rollout) -> Tensor:
    """The exact reward of each answer (B,): an unfinished one loses to the same with its end."""
    answered = zip(rollout.prompts, rollout.answers, strict=True)
    return torch.tensor([exact(task, prompt, answer) for prompt, answer in answered])


def make_pairs(rollout: Rollout, scores: Tensor, group_size: int) -> list[Pair]:
    """The best and the worst answer of each group; none of a group whose scores are all equal."""
    pairs = []
    for first in range(0, len(rollout.answers), group_size):
        group = scores[first : first + group_size]
        best, worst = first + int(group.argmax()), first + int(group.argmin())
        if scores[best] > scores[worst]:
            answers = rollout.answers
            pairs.append(Pair(rollout.prompts[first], answers[best], answers[worst]))
    return pairs


def with_noise(pairs: Sequence[Pair], error_rate: float, rng: random.Random) -> list[Pair]:
    """What a judge would say who errs in this share of the pairs."""
    return [
        Pair(pair.prompt, pair.rejected, pair.chosen) if rng.random() < error_rate else pair
        for pair in pairs
    ]


def collate_pairs(pairs: Sequence[Pair], tokenizer: Tokenizer) -> Rollout:
    """All pairs as one batch: the chosen answers first, then the rejected ones."""
    prompts = [pair.prompt for pair in pairs]
    answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    return collate(prompts * 2, answers, tokenizer)


def write_pairs(path: Path, sets: Mapping[str, Sequence[Pair]]) -> None:
    """Sets of pairs as JSON: prompt, chosen and rejected, which is all that people would see."""
    texts = {
        name: [[pair.prompt.text, pair.chosen, pair.rejected] for pair in pairs]
        for name, pairs in sets.items()
    }
    path.write_text(json.dumps(texts, indent=0), encoding="utf-8")


def read_pairs(path: Path) -> dict[str, list[Pair]]:
    """What `write_pairs` has written; of the prompts, the text alone."""
    texts = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: [Pair(Prompt(text, NOTHING, ""), *answers) for text, *answers in rows]
        for name, rows in texts.items()
    }


def main() -> None:
    """Four answers to one instruction, their scores, and the pair that they give."""
    from post_training.tasks import Follow
    from tokenizer import CharTokenizer

    task, rng = Follow(), random.Random(0)
    (prompt,) = task.prompts(1, rng)
    right = prompt.answer
    answers = [right, right[:-1], right[:12] + "xx|", "Ay|"]
    tokenizer = CharTokenizer("".join(sorted({*prompt.text, *"".join(answers)})))
    rollout = collate([prompt] * 4, answers, tokenizer)
    scores = exact_scores(task, rollout)
    print(prompt.text)
    for score, answer in zip(scores, answers, strict=True):
        print(f"{score:.2f}  {answer!r}")
    (pair,) = make_pairs(rollout, scores, group_size=4)
    print(f"chosen    {pair.chosen!r}\nrejected  {pair.rejected!r}")
    turned = sum(judged != pair for judged in with_noise([pair] * 1000, 0.2, rng))
    print(f"a judge who errs in 20% turns {turned} of 1,000 such pairs round")


if __name__ == "__main__":
    run_program(main)
