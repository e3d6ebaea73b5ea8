"""Preferences and the reward model that learns from them."""

import random
from dataclasses import replace

import pytest
import torch

from post_training.preferences import (
    Pair,
    collate_pairs,
    exact_scores,
    make_pairs,
    with_noise,
)
from post_training.reward_model import SCALE, ScalarModel, pair_loss
from post_training.rollouts import Rollout, collate
from post_training.tasks import END, Follow, Prompt
from post_training.verifier import State
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.recipes import MODERN

LETTERS = CharTokenizer("abcdefgh")
NOTHING = State(None, "")
LAYOUTS = {"modern": MODERN, "GPT-2": {}}


def prompt(text: str) -> Prompt:
    return Prompt(text, NOTHING, "")


def rollout(*answers: str, prompts: str = "a") -> Rollout:
    asked = [prompt(prompts[row % len(prompts)]) for row in range(len(answers))]
    return collate(asked, answers, LETTERS)


@pytest.fixture(params=LAYOUTS)
def language_model(request: pytest.FixtureRequest) -> TinyTransformerLM:
    layout = LAYOUTS[request.param]
    return TinyTransformerLM(
        ModelConfig(8, max_seq_len=16, d_model=16, n_layers=1, n_heads=2, **layout), seed=1
    )


# --- pairs --------------------------------------------------------------------------------------


def test_the_best_and_the_worst_answer_of_a_group_are_a_pair() -> None:
    given = collate([prompt("a")] * 3 + [prompt("b")] * 3, list("cdefgh"), LETTERS)
    scores = torch.tensor([0.5, 0.9, 0.1, 0.0, 0.2, 1.0])
    pairs = make_pairs(given, scores, group_size=3)
    assert pairs == [Pair(prompt("a"), "d", "e"), Pair(prompt("b"), "h", "f")]


def test_a_group_without_a_better_answer_gives_no_pair() -> None:
    given = collate([prompt("a")] * 4, list("cdef"), LETTERS)
    assert make_pairs(given, torch.tensor([0.3, 0.3, 0.1, 0.2]), 2) == [Pair(prompt("a"), "f", "e")]
    assert make_pairs(given, torch.zeros(4), 2) == []


def test_scores_are_the_exact_rewards() -> None:
    task = Follow()
    (drawn,) = task.prompts(1, random.Random(0))
    tokenizer = CharTokenizer("".join(sorted({*drawn.text, *drawn.answer, "#"})))
    unfinished = drawn.answer[:-1]
    answers = [drawn.answer, unfinished, f"{drawn.answer[:6]}#", f"{drawn.answer[:6]}#{END}", "#"]
    given = collate([drawn] * 5, answers, tokenizer)
    shares = [2, len(unfinished) / len(drawn.answer) / 2, 6 / 7 / 2, 6 / 8, 0]
    assert exact_scores(task, given).tolist() == pytest.approx(shares)


def test_a_judge_errs_in_a_share_of_the_pairs() -> None:
    pairs = [Pair(prompt("a"), f"right {i}", f"wrong {i}") for i in range(2000)]
    assert with_noise(pairs, 0.0, random.Random(0)) == pairs
    turned = with_noise(pairs, 1.0, random.Random(0))
    assert all(
        (a.chosen, a.rejected) == (b.rejected, b.chosen) for a, b in zip(pairs, turned, strict=True)
    )
    noisy = with_noise(pairs, 0.25, random.Random(0))
    assert sum(pair != other for pair, other in zip(pairs, noisy, strict=True)) == pytest.approx(
        500, abs=5 * (2000 * 0.25 * 0.75) ** 0.5
    )
    assert noisy == with_noise(pairs, 0.25, random.Random(0))


def test_a_batch_of_pairs_holds_the_chosen_answers_first() -> None:
    pairs = [Pair(prompt("a"), "bb", "c"), Pair(prompt("d"), "e", "fgh")]
    batch = collate_pairs(pairs, LETTERS)
    assert list(batch.answers) == ["bb", "e", "c", "fgh"]
    assert [each.text for each in batch.prompts] == ["a", "d", "a", "d"]


# --- the reward model ---------------------------------------------------------------------------


def test_every_answer_starts_with_the_reward_zero(language_model: TinyTransformerLM) -> None:
    model = ScalarModel(language_model)
    assert torch.equal(model.rewards(rollout("b", "cdef", "gh")), torch.zeros(3))


def test_it_starts_with_the_weights_of_the_language_model(
    language_model: TinyTransformerLM,
) -> None:
    model = ScalarModel(language_model)
    given, taken = language_model.state_dict(), model.state_dict()
    assert taken.keys() == given.keys() | {"score.weight"}
    assert all(torch.equal(taken[name], weight) for name, weight in given.items())
    before = given["token_embedding.weight"].clone()
    with torch.no_grad():
        model.get_parameter("token_embedding.weight").add_(1)  # a copy: the given one stays
    assert torch.equal(language_model.state_dict()["token_embedding.weight"], before)


def test_an_output_is_one_number_per_position(language_model: TinyTransformerLM) -> None:
    assert ScalarModel(language_model)(torch.randint(8, (3, 5))).shape == (3, 5, 1)


@torch.no_grad()
def test_the_reward_sums_the_scores_of_each_answers_tokens(
    language_model: TinyTransformerLM,
) -> None:
    """In a padded batch as alone; padding of other tokens changes nothing."""
    model = ScalarModel(language_model)
    torch.nn.init.normal_(model.score.weight)
    answers = ["b", "cdef", "gh"]
    together = model.rewards(rollout(*answers))
    for answer, reward in zip(answers, together, strict=True):
        alone = rollout(answer)
        torch.testing.assert_close(model.rewards(alone)[0], reward)
        scores = model(alone.tokens)[0, 1:, 0]  # the prompt is one token
        torch.testing.assert_close(SCALE * scores.sum(), reward)
    batch = rollout(*answers)
    positions = torch.arange(batch.tokens.size(1))
    is_padding = positions > (batch.is_answer * positions).amax(-1, keepdim=True)
    assert is_padding.any()
    changed = replace(batch, tokens=batch.tokens.masked_fill(is_padding, 7))
    torch.testing.assert_close(model.rewards(changed), together)


def test_it_learns_which_answers_are_preferred(language_model: TinyTransformerLM) -> None:
    """Those with a "b" in them: after a few steps, also in answers that it has not seen."""
    rng = random.Random(0)

    def pair() -> Pair:
        plain = "".join(rng.choices("cdefgh", k=rng.randint(3, 6)))
        place = rng.randrange(len(plain))
        return Pair(prompt("a"), f"{plain[:place]}b{plain[place:]}", plain)

    model = ScalarModel(language_model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = pair_loss(model, collate_pairs([pair() for _ in range(32)], LETTERS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)  # log 2: it knows nothing
    unseen = [pair() for _ in range(200)]
    with torch.no_grad():
        chosen, rejected = model.rewards(collate_pairs(unseen, LETTERS)).chunk(2)
    assert (chosen > rejected).float().mean() > 0.9
