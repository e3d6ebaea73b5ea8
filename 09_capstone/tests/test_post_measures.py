"""How answers are measured: right, share, KL and distinct lines, on held-out prompts."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from post_training import measures
from post_training.measures import distinct_lines, first_answers, kl_of, measure
from post_training.rollouts import Rollout, collate, token_log_probs
from post_training.tasks import SPECIAL, Continue, Follow, Prompt
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.recipes import MODERN

CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + SPECIAL
TOKENIZER = CharTokenizer(CHARACTERS)
VERBS_OF_THE_FOOL = ("greets", "begs", "tells")
CONFIG = ModelConfig(len(CHARACTERS), max_seq_len=128, d_model=16, n_layers=1, n_heads=2, **MODERN)


@pytest.fixture
def model() -> TinyTransformerLM:
    return TinyTransformerLM(CONFIG, seed=1)


@pytest.fixture
def other() -> TinyTransformerLM:
    other = TinyTransformerLM(CONFIG, seed=1)
    torch.nn.init.normal_(other.get_parameter("unembedding.weight"), std=0.1)
    return other


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, Prompt], str]], None]:
    """Let the model's answers be given ones."""

    def answering(answer: Callable[[int, Prompt], str]) -> None:
        n = 0

        def given(
            model: Any, tokenizer: Any, task: Any, prompts: Sequence[Prompt], _: Any
        ) -> Rollout:
            nonlocal n
            answers = [answer(n + i, prompt) for i, prompt in enumerate(prompts)]
            n += len(prompts)
            return collate(prompts, answers, tokenizer)

        monkeypatch.setattr(measures, "sample_answers", given)

    return answering


def test_true_answers_are_right_and_far_from_no_reference(
    model: TinyTransformerLM, answering: Callable[..., None]
) -> None:
    answering(lambda i, prompt: prompt.answer)
    report = measure(model, model, TOKENIZER, Follow(), 10)
    assert (report.right, report.share, report.kl) == (1.0, 1.0, 0.0)


def test_right_is_the_share_of_right_answers_and_share_the_mean_of_theirs(
    model: TinyTransformerLM, answering: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every four answers one is right; the others are wrong at once. Several batches."""
    answering(lambda i, prompt: prompt.answer if i % 4 == 0 else "33|")
    monkeypatch.setattr(measures, "BATCH", 8)
    report = measure(model, model, TOKENIZER, Follow(), 20)
    assert (report.right, report.share) == (0.25, 0.25)


def test_what_was_asked_is_followed_or_not_whatever_mistakes_there_are(
    model: TinyTransformerLM, answering: Callable[..., None]
) -> None:
    """Answers that are right, end in a mistake, don't end, or belong to the prompt before."""
    task = Follow()
    drawn = [each for each in task.prompts(100, random.Random(0)) if "greets" in each.text]
    kinds = ["\n|", "#|", "\n"]
    for i, prompt in enumerate(drawn[1:]):
        other = drawn[i]
        assert task.is_followed(prompt, prompt.answer[:-2] + kinds[i % 3])
        if other.text.split(" greets ")[1] != prompt.text.split(" greets ")[1]:
            assert not task.is_followed(prompt, other.answer)
        assert not task.is_followed(prompt, "#")
    answering(lambda i, prompt: prompt.answer if i % 4 else "33|")
    assert measure(model, model, TOKENIZER, task, 20).followed == 0.75


def test_a_greeting_and_a_plea_are_told_apart() -> None:
    task = Follow()
    by_text = {prompt.text: prompt for prompt in task.prompts(2000, random.Random(0))}
    greeting, plea, line = (by_text[f"[Fool {verb} KING ALDRIC]"] for verb in VERBS_OF_THE_FOOL)
    for asked in (greeting, plea, line):
        followed = [task.is_followed(asked, each.answer) for each in (greeting, plea, line)]
        assert followed == [each is asked for each in (greeting, plea, line)]


def test_a_continuation_follows_no_instruction(
    model: TinyTransformerLM, answering: Callable[..., None]
) -> None:
    answering(lambda i, prompt: prompt.answer)
    longer = TinyTransformerLM(replace(CONFIG, max_seq_len=192), seed=1)
    assert measure(longer, longer, TOKENIZER, Continue(n_chars=60_000), 4).followed is None


def test_prompts_are_the_same_for_every_model(
    model: TinyTransformerLM, other: TinyTransformerLM
) -> None:
    task = Follow()
    shown = [first_answers(each, TOKENIZER, task, 3) for each in (model, other)]
    assert [prompt for prompt, _ in shown[0]] == [prompt for prompt, _ in shown[1]]
    assert shown[0] != shown[1]
    assert first_answers(model, TOKENIZER, task, 3) == shown[0]


def test_measuring_draws_from_no_generator_of_the_run(model: TinyTransformerLM) -> None:
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    measure(model, model, TOKENIZER, Follow(max_tokens=40), 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_kl_is_the_mean_log_ratio_of_the_answers_tokens(
    model: TinyTransformerLM, other: TinyTransformerLM
) -> None:
    prompts = Follow().prompts(3, random.Random(0))
    batch = collate(prompts, ["abc", "de|", "f"], TOKENIZER)
    ratios = token_log_probs(model, batch.tokens) - token_log_probs(other, batch.tokens)
    expected = ratios[batch.is_answer[:, 1:]].mean().item()
    assert kl_of(model, other, batch) == pytest.approx(expected)
    assert kl_of(model, model, batch) == 0.0
    assert kl_of(other, model, batch) == pytest.approx(-expected)


@torch.no_grad()
def test_kl_is_exact_in_expectation(model: TinyTransformerLM, other: TinyTransformerLM) -> None:
    """Of one token: all of them, weighted by the model's own probabilities."""
    (prompt,) = Follow().prompts(1, random.Random(0))
    tokens = torch.tensor([TOKENIZER.encode(prompt.text)])
    log_p, log_q = (each(tokens)[0, -1].double().log_softmax(-1) for each in (model, other))
    divergence = (log_p.exp() * (log_p - log_q)).sum().item()
    single = [collate([prompt], [letter], TOKENIZER) for letter in CHARACTERS]
    mean = sum(
        p * kl_of(model, other, b) for p, b in zip(log_p.exp().tolist(), single, strict=True)
    )
    assert mean == pytest.approx(divergence, rel=1e-3)
    assert divergence > 0


def test_answers_with_a_stop_consist_of_whole_lines() -> None:
    answers = ["a\nb\n|", "a\nc\n|", "a"]
    assert distinct_lines(answers, "|") == 3 / 5


def test_of_other_answers_the_first_and_the_last_line_are_cut_off() -> None:
    answers = ["half\na\nb\nha", "lf\na\n\nhalf", "half a line"]
    assert distinct_lines(answers, "") == 2 / 3


def test_without_a_whole_line_nothing_is_distinct() -> None:
    assert math.isnan(distinct_lines(["half a line", "ha\nlf"], ""))
    assert math.isnan(distinct_lines(["|", "|"], "|"))


def test_one_safe_line_is_hardly_distinct() -> None:
    assert distinct_lines(["The same.\n|"] * 50, "|") == 1 / 50


def test_a_report_is_that_of_the_model_in_evaluation_mode(other: TinyTransformerLM) -> None:
    """Dropout would make the model another one than the reference."""
    noisy = TinyTransformerLM(replace(CONFIG, dropout=0.5), seed=1)
    noisy.train()
    assert measure(noisy, noisy, TOKENIZER, Follow(max_tokens=40), 3).kl == 0.0
    assert not noisy.training
