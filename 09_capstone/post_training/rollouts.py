"""Answers of a model to prompts, as one batch, and the log-probabilities of their tokens.

    prompts -> sample one answer each -> Rollout: tokens (B, T), which of them are answers, texts

All methods of this folder work on the same quantity: log pi(y_t | prompt, y_<t), the
log-probability that a model gives to each token of an answer.

Dimensions: B answers, T tokens of prompt and answer, padded on the right, V vocabulary.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from any_tokenizer import Tokenizer
from decoding_loop import generate_tokens
from fast_decoder import fast_decode_step
from post_training.tasks import Prompt, Task
from post_training.verifier import State
from temperature import sample
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer

PADDING = 0  # any token: `is_answer` is False there, and no earlier position sees it


@dataclass(frozen=True)
class Rollout:
    """Prompts with answers, ready for a forward pass."""

    prompts: Sequence[Prompt]
    answers: Sequence[str]
    tokens: Tensor  # (B, T) int64
    is_answer: Tensor  # (B, T) bool: True where the token belongs to the answer

    def to(self, device: torch.device) -> "Rollout":
        """The same, with its tensors on a device."""
        return replace(self, tokens=self.tokens.to(device), is_answer=self.is_answer.to(device))


def sample_answers(
    model: TinyTransformerLM,
    tokenizer: Tokenizer,
    task: Task,
    prompts: Sequence[Prompt],
    generator: torch.Generator,
) -> Rollout:
    """Sample one answer to each prompt at temperature 1, so that it is the model's own choice."""
    was_training = model.training
    encoded = [tokenizer.encode(prompt.text) for prompt in prompts]
    steps = generate_tokens(
        model.eval(),
        model.config,
        encoded,
        task.max_tokens,
        lambda logits: sample(logits.float().cpu(), generator),
        make_decode_step=fast_decode_step,
    )
    columns = []
    finished = torch.zeros(len(prompts), dtype=torch.bool)
    stop = tokenizer.encode(task.stop)[0] if task.stop else -1
    for tokens in steps:
        columns.append(tokens)
        finished |= torch.tensor(tokens) == stop
        if finished.all():
            break
    model.train(was_training)
    answers = [tokenizer.decode(row) for row in zip(*columns, strict=True)]
    return collate(prompts, [until(task.stop, answer) for answer in answers], tokenizer)


def until(stop: str, answer: str) -> str:
    """The answer up to its stop character, which belongs to it."""
    text, end, _ = answer.partition(stop) if stop else (answer, "", "")
    return text + end


def collate(prompts: Sequence[Prompt], answers: Sequence[str], tokenizer: Tokenizer) -> Rollout:
    """Prompts and given answers as one batch, padded on the right."""
    pairs = [
        (tokenizer.encode(prompt.text), tokenizer.encode(answer))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    T = max(len(question) + len(answer) for question, answer in pairs)
    tokens = torch.full((len(pairs), T), PADDING)
    is_answer = torch.zeros(len(pairs), T, dtype=torch.bool)
    for row, (question, answer) in enumerate(pairs):
        end = len(question) + len(answer)
        tokens[row, :end] = torch.tensor(question + answer)
        is_answer[row, len(question) : end] = True
    return Rollout(prompts, answers, tokens, is_answer)


def token_log_probs(model: nn.Module, tokens: Tensor) -> Tensor:
    """log pi of every token but the first, given those before it: (B, T) to (B, T - 1)."""
    logits = model(tokens[:, :-1]).float()  # (B, T - 1, V)
    return gather_log_probs(logits, tokens[:, 1:])


def gather_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-softmax of logits (B, T, V), at the targets (B, T)."""
    return logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)


def token_mean(values: Tensor, is_answer: Tensor) -> Tensor:
    """The mean over all answer tokens of the batch, each with the same weight.

    Averaging within each answer first would give a token of a long answer less weight, so that a
    long wrong answer would cost less per token than a short one (Liu et al. 2025, section 3).
    """
    return (values * is_answer).sum() / is_answer.sum()


def answer_sum(values: Tensor, is_answer: Tensor) -> Tensor:
    """The sum over each answer's tokens (B,): of log-probabilities, log pi(answer | prompt)."""
    return (values * is_answer).sum(-1)


def main() -> None:
    """Two answers as one batch, and what a mean over tokens is that a mean of means is not."""
    tokenizer = CharTokenizer("abcd?")
    prompts = [Prompt(text, State(None, ""), "") for text in ("a?", "abc?")]
    batch = collate(prompts, ["b", "dcba"], tokenizer)
    values = torch.tensor([[0.0, 0, 8, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 2, 3, 2]])
    for tokens, is_answer in zip(batch.tokens, batch.is_answer, strict=True):
        letters = tokenizer.decode(tokens)
        shown = "".join(a if b else "." for a, b in zip(letters, is_answer, strict=True))
        print(f"tokens {letters}   of the answer {shown}")
    per_answer = answer_sum(values, batch.is_answer) / batch.is_answer.sum(-1)
    print(f"mean over all tokens   {token_mean(values, batch.is_answer):.1f}")
    print(f"mean of the means      {per_answer.mean():.1f}, from {per_answer.tolist()}")


if __name__ == "__main__":
    run_program(main)
