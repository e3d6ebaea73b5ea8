"""Supervised fine-tuning: imitate right answers, and learn the marks of a conversation.

    loss = mean over the answer's tokens of  -log pi(y_t | prompt, y_<t)

It is the loss of pretraining, with a mask: the prompt is given, so predicting it is not the task.
New special tokens need new rows of the embedding, which start as the mean of all rows: a token that
is like no other yet, but as long as any.

Ouyang et al. 2022, "Training language models to follow instructions", section 3.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from dataclasses import replace

import torch
from torch import Tensor

from checkpointing import Checkpoint
from post_training.rollouts import gather_log_probs, token_mean
from post_training.tasks import SPECIAL
from tokenizer import CharTokenizer
from utils.errors import CourseError


def answer_loss(logits: Tensor, tokens: Tensor, is_answer: Tensor) -> Tensor:
    """Cross-entropy of the answers' tokens.

    logits (B, T, V), those of position t for the token after it; tokens (B, T); is_answer (B, T),
    True where a token belongs to an answer. Returns the mean over all of these.
    """
    log_probs = gather_log_probs(logits[:, :-1], tokens[:, 1:])  # (B, T - 1)
    return -token_mean(log_probs, is_answer[:, 1:])


def add_special_tokens(checkpoint: Checkpoint, special: str = SPECIAL) -> Checkpoint:
    """The same model with rows for the special characters that it does not know yet.

    Raises CourseError if its tokens are not characters.
    """
    tokenizer = checkpoint.tokenizer
    if not isinstance(tokenizer, CharTokenizer):
        raise CourseError(f"{checkpoint.name}: its tokens are not characters, which the tasks need")
    new = "".join(mark for mark in special if not tokenizer.accepts(mark))
    vocab_size = tokenizer.vocab_size + len(new)
    weights = {
        name: with_rows(weight, len(new)) if is_table(name) else weight
        for name, weight in checkpoint.weights.items()
    }
    return replace(
        checkpoint,
        model_config=replace(checkpoint.model_config, vocab_size=vocab_size),
        tokenizer=CharTokenizer(tokenizer.characters + new),
        weights=weights,
    )


def is_table(name: str) -> bool:
    """Whether a weight has one row per token: the embedding, and an output layer of its own."""
    return name.startswith(("token_embedding.", "unembedding."))


def with_rows(weight: Tensor, n: int) -> Tensor:
    """A table with n rows more, each the mean of the rows that it has."""
    return torch.cat([weight, weight.mean(0, keepdim=True).expand(n, *weight.shape[1:])])


def main() -> None:
    """An instruction with its answer: which tokens are learned, and the loss with the mask."""
    import random

    from post_training.rollouts import collate
    from post_training.tasks import Follow

    (prompt,) = Follow().prompts(1, random.Random(4))
    tokenizer = CharTokenizer("".join(sorted({*prompt.text, *prompt.answer})))
    batch = collate([prompt], [prompt.answer], tokenizer)
    tokens, is_answer = batch.tokens, batch.is_answer
    print(f"prompt  {prompt.text!r}\nanswer  {prompt.answer!r}")
    print(f"learned {int(is_answer.sum())} of {tokens.numel()} tokens")
    logits = torch.zeros(*tokens.shape, tokenizer.vocab_size)  # everything equally likely
    print(f"loss    {answer_loss(logits, tokens, is_answer):.3f}")
    logits[0, : len(prompt.text) - 1] = torch.randn(tokenizer.vocab_size)
    print(f"        {answer_loss(logits, tokens, is_answer):.3f} with other scores in the prompt")


if __name__ == "__main__":
    run_program(main)
