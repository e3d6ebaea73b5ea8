"""What a post-trained model is measured by, on prompts that no training step has seen.

    right       the share of answers that the verifier accepts to the end: what is wanted
    share       how much of an answer comes before its first mistake
    followed    the share of answers that do what was asked, with mistakes or without; of Follow
    kl          how far the model has moved from the reference, in nats per token
    distinct    the share of different lines among the lines that it writes

A model that repeats one safe line is right and has learned little: so look at all of them.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from any_tokenizer import Tokenizer
from post_training.rollouts import Rollout, sample_answers, token_log_probs, token_mean
from post_training.tasks import Follow, Prompt, Task
from tiny_transformer_lm import TinyTransformerLM

PROMPT_SEED = 1  # of the held-out prompts: the same for every model
BATCH = 128  # answers sampled at once


@dataclass(frozen=True)
class AnswerReport:
    """How a model answers held-out prompts."""

    right: float
    share: float
    kl: float
    distinct: float
    followed: float | None = None  # of the task Follow alone


def measure(
    model: TinyTransformerLM,
    reference: TinyTransformerLM,
    tokenizer: Tokenizer,
    task: Task,
    n: int,
    seed: int = 0,
) -> AnswerReport:
    """Sample n answers to held-out prompts, judge them, and compare with the reference.

    The model is left in evaluation mode: with dropout it would be another one.
    """
    model.eval()
    prompts = task.prompts(n, random.Random(PROMPT_SEED))
    generator = torch.Generator().manual_seed(seed)
    parts = [prompts[first : first + BATCH] for first in range(0, n, BATCH)]
    rollouts = [sample_answers(model, tokenizer, task, part, generator) for part in parts]
    answers = [answer for rollout in rollouts for answer in rollout.answers]
    answered = list(zip(prompts, answers, strict=True))
    verdicts = [task.judge(prompt, answer) for prompt, answer in answered]
    kl = sum(kl_of(model, reference, rollout) * len(rollout.answers) for rollout in rollouts)
    return AnswerReport(
        sum(verdict.is_right for verdict in verdicts) / n,
        sum(verdict.share for verdict in verdicts) / n,
        kl / n,
        distinct_lines(answers, task.stop),
        followed_share(task, answered),
    )


def followed_share(task: Task, answered: Sequence[tuple[Prompt, str]]) -> float | None:
    """How many of the answers do what was asked; None for a task without instructions."""
    if not isinstance(task, Follow):
        return None
    return sum(task.is_followed(*each) for each in answered) / len(answered)


@torch.no_grad()
def kl_of(model: TinyTransformerLM, reference: TinyTransformerLM, rollout: Rollout) -> float:
    """The KL divergence per token, by k1: its mean is exact for samples of the model."""
    tokens = rollout.tokens.to(next(model.parameters()).device)
    log_ratio = token_log_probs(model, tokens) - token_log_probs(reference, tokens)
    return token_mean(log_ratio.cpu(), rollout.is_answer[:, 1:]).item()


def distinct_lines(answers: Sequence[str], stop: str) -> float:
    """The share of different ones among the complete lines of the answers; nan without any.

    The names of speakers don't count. An answer with a stop character consists of complete lines;
    of another, the first and the last line are cut off.
    """
    lines: list[str] = []
    for answer in answers:
        split = answer.removesuffix(stop).split("\n") if stop else answer.split("\n")[1:-1]
        lines += [line for line in split if line and not line.endswith(":")]  # no names
    return len(set(lines)) / len(lines) if lines else float("nan")


def first_answers(
    model: TinyTransformerLM, tokenizer: Tokenizer, task: Task, n: int, seed: int = 0
) -> list[tuple[Prompt, str]]:
    """A few answers to the first held-out prompts, to be read."""
    prompts = task.prompts(n, random.Random(PROMPT_SEED))
    generator = torch.Generator().manual_seed(seed)
    rollout = sample_answers(model, tokenizer, task, prompts, generator)
    return list(zip(prompts, rollout.answers, strict=True))


def main() -> None:
    """Four ways to answer instructions: one number alone could not tell them apart."""
    task = Follow()
    prompts = [prompt for prompt in task.prompts(2000, random.Random(0)) if "greets" in prompt.text]
    answered = {
        "true answers": [prompt.answer for prompt in prompts],
        "cut in the middle": [prompt.answer[: len(prompt.answer) // 2] for prompt in prompts],
        "with a slip": [prompt.answer.replace("e", "ee", 1) for prompt in prompts],
        "one safe line": [prompts[0].answer] * len(prompts),
    }
    print(f"{'':20}{'right':>8}{'share':>8}{'followed':>10}{'distinct':>10}")
    for name, answers in answered.items():
        answered = list(zip(prompts, answers, strict=True))
        verdicts = [task.judge(*each) for each in answered]
        right = sum(verdict.is_right for verdict in verdicts) / len(verdicts)
        share = sum(verdict.share for verdict in verdicts) / len(verdicts)
        distinct = distinct_lines(answers, task.stop)
        followed = followed_share(task, answered) or 0.0
        print(f"{name:20}{right:8.0%}{share:8.0%}{followed:10.0%}{distinct:10.0%}")


if __name__ == "__main__":
    run_program(main)
