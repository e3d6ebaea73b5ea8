"""Where Continue cuts a scene: its first 64 to 96 characters are shown."""

import random

import pytest

from post_training.tasks import TRAINING, Continue, Prompt, scenes_of

N_CHARS = 60_000


@pytest.fixture(scope="module")
def scenes() -> Continue:
    return Continue(n_chars=N_CHARS)


def prompts(task: Continue, n: int = 200, seed: int = 0) -> list[Prompt]:
    return task.prompts(n, random.Random(seed))


def test_a_prompt_is_the_beginning_of_a_scene(scenes: Continue) -> None:
    for prompt in prompts(scenes):
        assert prompt.text.startswith("Enter ")
        assert 64 <= len(prompt.text) <= 96
        assert len(prompt.answer) == scenes.max_tokens == 64
        assert any(one.startswith(prompt.text + prompt.answer) for one in scenes.scenes)


def test_the_prompts_of_a_batch_are_equally_long_and_those_of_others_are_not(
    scenes: Continue,
) -> None:
    lengths = set()
    for seed in range(300):
        (length,) = {len(prompt.text) for prompt in prompts(scenes, 4, seed)}
        lengths.add(length)
    assert lengths == set(range(64, 97))


def test_the_scenes_begin_with_those_of_fewer_characters() -> None:
    """So the plays that are trained on are those of --data mock, also where fewer are cut."""
    short, longer = scenes_of(N_CHARS, TRAINING), scenes_of(2 * N_CHARS, TRAINING)
    assert longer[: len(short)] == short


@pytest.mark.parametrize("length", [16, 48])
def test_other_lengths_are_possible(length: int) -> None:
    task = Continue(length=length, n_chars=N_CHARS)
    for prompt in prompts(task, 100):
        assert len(prompt.answer) == length
        assert task.judge(prompt, prompt.answer).is_right
