"""Rollouts: answers as one batch, their log-probabilities, and sampling from the model itself."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from post_training import rollouts
from post_training.rollouts import (
    PADDING,
    answer_sum,
    collate,
    sample_answers,
    token_log_probs,
    token_mean,
    until,
)
from post_training.tasks import Prompt
from post_training.verifier import State
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.recipes import MODERN

LETTERS = CharTokenizer("abc|")
NOTHING = State(None, "")


class Guess:
    """A task whose answers are not judged."""

    def __init__(self, max_tokens: int, stop: str = "") -> None:
        self.max_tokens = max_tokens
        self.stop = stop

    def prompts(self, n: int, rng: Any) -> list[Prompt]:
        raise NotImplementedError

    def judge(self, prompt: Prompt, answer: str) -> Any:
        raise NotImplementedError


def asked(*texts: str) -> list[Prompt]:
    return [Prompt(text, NOTHING, "") for text in texts]


@pytest.fixture(params=["modern", "GPT-2"])
def model(request: pytest.FixtureRequest) -> TinyTransformerLM:
    """A model of four letters whose next letters are far from equally likely."""
    layout = MODERN if request.param == "modern" else {}
    config = ModelConfig(4, max_seq_len=16, d_model=16, n_layers=2, n_heads=2, **layout)
    model = TinyTransformerLM(config)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


# --- one batch ----------------------------------------------------------------------------------


def test_prompts_and_answers_are_one_batch_padded_on_the_right() -> None:
    prompts = asked("a", "abc", "bb")
    batch = collate(prompts, ["b|", "c", "ccc"], LETTERS)
    a, b, c, end = range(4)
    expected = [
        [a, b, end, PADDING, PADDING],
        [a, b, c, c, PADDING],
        [b, b, c, c, c],
    ]
    assert batch.tokens.tolist() == expected
    assert batch.tokens.dtype == torch.int64
    assert batch.is_answer.int().tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.is_answer.dtype == torch.bool
    assert (batch.prompts, batch.answers) == (prompts, ["b|", "c", "ccc"])


def test_log_probabilities_are_minus_the_cross_entropy(model: TinyTransformerLM) -> None:
    tokens = torch.randint(4, (3, 9))
    found = token_log_probs(model, tokens)
    assert found.shape == (3, 8)
    loss = F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert -found.mean().item() == pytest.approx(loss.item(), rel=1e-5)
    each = F.cross_entropy(model(tokens)[:, :-1].mT, tokens[:, 1:], reduction="none")
    torch.testing.assert_close(found, -each)


def test_padding_changes_no_log_probability_of_an_answer(model: TinyTransformerLM) -> None:
    prompts, answers = asked("a", "abc", "cabb"), ["b|", "c", "cccab"]
    batch = collate(prompts, answers, LETTERS)
    together = token_log_probs(model, batch.tokens)
    sums = answer_sum(together, batch.is_answer[:, 1:])
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        alone = collate([prompt], [answer], LETTERS)
        expected = token_log_probs(model, alone.tokens)
        torch.testing.assert_close(together[row, : expected.size(1)], expected[0])
        (whole,) = answer_sum(expected, alone.is_answer[:, 1:])
        torch.testing.assert_close(sums[row], whole)


def test_the_probabilities_of_all_answers_sum_to_one(model: TinyTransformerLM) -> None:
    answers = ["".join(letters) for letters in product("abc|", repeat=3)]
    batch = collate(asked("ab") * len(answers), answers, LETTERS)
    log_probs = answer_sum(token_log_probs(model, batch.tokens), batch.is_answer[:, 1:])
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-5)


# --- means over tokens --------------------------------------------------------------------------


def lengths_1_and_3() -> tuple[Tensor, Tensor]:
    values = torch.tensor([[8.0, 99.0, 99.0], [1.0, 2.0, 3.0]])
    return values, torch.tensor([[1, 0, 0], [1, 1, 1]], dtype=torch.bool)


def test_every_token_counts_the_same_in_a_long_answer_as_in_a_short_one() -> None:
    values, is_answer = lengths_1_and_3()
    assert token_mean(values, is_answer).item() == (8 + 1 + 2 + 3) / 4
    values.requires_grad_()
    token_mean(values, is_answer).backward()
    assert values.grad is not None
    assert torch.equal(values.grad, is_answer / 4)


def test_a_mean_of_means_would_give_the_tokens_of_a_long_answer_less_weight() -> None:
    """What GRPO first did: here 5 in place of 3.5."""
    values, is_answer = lengths_1_and_3()
    per_answer = answer_sum(values, is_answer) / is_answer.sum(-1)
    assert per_answer.tolist() == [8, 2]
    assert per_answer.mean().item() == 5
    assert token_mean(values, is_answer).item() == 3.5


def test_without_padding_both_means_agree() -> None:
    values, everything = torch.randn(3, 4), torch.ones(3, 4, dtype=torch.bool)
    torch.testing.assert_close(token_mean(values, everything), values.mean(-1).mean())


# --- sampling -----------------------------------------------------------------------------------


def sampled(
    model: TinyTransformerLM, texts: Sequence[str], task: Guess, seed: int = 0
) -> Sequence[str]:
    generator = torch.Generator().manual_seed(seed)
    return sample_answers(model, LETTERS, task, asked(*texts), generator).answers


def exact(model: TinyTransformerLM, text: str, n: int) -> dict[str, float]:
    """The probability of each answer of n letters, by one forward pass for each."""
    answers = ["".join(letters) for letters in product("abc|", repeat=n)]
    batch = collate(asked(text) * len(answers), answers, LETTERS)
    log_probs = answer_sum(token_log_probs(model, batch.tokens), batch.is_answer[:, 1:])
    return dict(zip(answers, log_probs.exp().tolist(), strict=True))


def chi_squared(answers: Sequence[str], probabilities: dict[str, float]) -> float:
    """Standard deviations from what is expected: (chi2 - dof) / sqrt(2 dof)."""
    counts, n = Counter(answers), len(answers)
    expected = {answer: n * p for answer, p in probabilities.items()}
    assert min(expected.values()) > 5  # else the counts are too coarse for this test
    chi2 = sum((counts[answer] - e) ** 2 / e for answer, e in expected.items())
    dof = len(expected) - 1
    return (chi2 - dof) / math.sqrt(2 * dof)


@torch.no_grad()
def test_answers_have_the_models_own_probabilities(model: TinyTransformerLM) -> None:
    probabilities = exact(model, "ab", 2)
    answers = sampled(model, ["ab"] * 6000, Guess(2))
    assert max(probabilities.values()) > 3 * min(probabilities.values())  # not all alike
    assert abs(chi_squared(answers, probabilities)) < 4


@torch.no_grad()
def test_rows_of_unequal_length_each_have_their_own_probabilities(
    model: TinyTransformerLM,
) -> None:
    texts = ["c", "abcab"]
    answers = sampled(model, texts * 6000, Guess(2))
    for row, text in enumerate(texts):
        assert abs(chi_squared(answers[row::2], exact(model, text, 2))) < 4
    assert chi_squared(answers[1::2], exact(model, texts[0], 2)) > 10  # the two do differ


def test_a_seed_determines_the_answers(model: TinyTransformerLM) -> None:
    texts = ["a", "bc", "cab"] * 4
    assert sampled(model, texts, Guess(8)) == sampled(model, texts, Guess(8))
    assert sampled(model, texts, Guess(8)) != sampled(model, texts, Guess(8), seed=1)


def test_an_answer_ends_with_its_stop_character(model: TinyTransformerLM) -> None:
    answers = sampled(model, ["a", "bc"] * 20, Guess(8, stop="|"))
    ended = [answer for answer in answers if "|" in answer]
    assert 0 < len(ended) < len(answers)  # some stop, and some are cut off
    assert all(answer.index("|") == len(answer) - 1 for answer in ended)
    assert all(len(answer) == 8 for answer in answers if answer not in ended)
    whole = sampled(model, ["a", "bc"] * 20, Guess(8))  # the same, without a stop
    assert [until("|", answer) for answer in whole] == answers


def test_sampling_ends_when_every_answer_has_ended(
    model: TinyTransformerLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_steps = 0

    def always_stop(logits: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal n_steps
        n_steps += 1
        tokens = torch.zeros(len(logits), dtype=torch.long)
        return tokens + 3 * (torch.arange(len(logits)) < n_steps)  # one row more in each step

    monkeypatch.setattr(rollouts, "sample", always_stop)
    assert sampled(model, ["a"] * 3, Guess(10, stop="|")) == ["|", "a|", "aa|"]
    assert n_steps == 3


def test_sampling_leaves_the_model_as_it_was(model: TinyTransformerLM) -> None:
    for training in (True, False):
        model.train(training)
        sampled(model, ["a"], Guess(2))
        assert model.training is training
    generator = torch.Generator().manual_seed(0)
    batch = sample_answers(model, LETTERS, Guess(2), asked("a", "b"), generator)
    token_log_probs(model, batch.tokens).sum().backward()  # no inference tensors among them
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("stop", "answer", "expected"),
    [
        ("|", "ab|c|", "ab|"),
        ("|", "|", "|"),
        ("|", "abc", "abc"),
        ("", "ab|c", "ab|c"),
    ],
)
def test_until_keeps_the_stop_character(stop: str, answer: str, expected: str) -> None:
    assert until(stop, answer) == expected
