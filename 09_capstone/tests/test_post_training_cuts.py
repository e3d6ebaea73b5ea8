"""Where Continue cuts the plays: the beginning of a scene is shown, which says who is on stage."""

import random
import re

import pytest

from post_training.tasks import TRAINING, Continue, Prompt, scenes_of
from utils.mock_corpus import generate, speakers
from utils.playbill import CASTS

N_CHARS = 60_000


@pytest.fixture(scope="module")
def task() -> Continue:
    return Continue(n_chars=N_CHARS)


def prompts(task: Continue, n: int = 200, seed: int = 0) -> list[Prompt]:
    return task.prompts(n, random.Random(seed))


def test_scenes_are_the_plays_one_by_one() -> None:
    scenes = scenes_of(N_CHARS, TRAINING)
    assert "".join(scenes) == generate(N_CHARS, TRAINING)
    assert all(scene.startswith("Enter ") and scene.endswith("\nExeunt.\n\n") for scene in scenes)


def test_a_prompt_is_the_beginning_of_a_scene(task: Continue) -> None:
    for prompt in prompts(task):
        assert prompt.text.startswith("Enter ")
        assert any(scene.startswith(prompt.text + prompt.answer) for scene in task.scenes)


def test_a_prompt_says_who_is_on_stage(task: Continue) -> None:
    """And so what may be answered: only they speak in this scene."""
    for prompt in prompts(task):
        entering, _, _ = prompt.text.removeprefix("Enter ").partition(".\n\n")
        cast = tuple(re.split(", | and ", entering))
        assert cast in CASTS.values()
        assert {*re.findall(r"\n([A-Za-z ]+):\n", prompt.text + prompt.answer)} <= {*cast}
        assert {*cast} <= {*speakers()}


def test_all_prompts_of_a_call_have_one_length_and_calls_differ(task: Continue) -> None:
    lengths = []
    for seed in range(200):
        (length,) = {len(prompt.text) for prompt in prompts(task, 4, seed)}
        lengths.append(length)
    assert min(lengths) == task.shortest == 64
    assert max(lengths) == task.longest


@pytest.mark.parametrize("length", [16, 48])
def test_other_lengths_of_answers_are_possible(length: int) -> None:
    task = Continue(length=length, n_chars=N_CHARS)
    for prompt in prompts(task, 100):
        assert len(prompt.answer) == length
        assert task.judge(prompt, prompt.answer).is_right
