"""Where Continue cuts the plays: 64 characters, with the name of who speaks in sight."""

import random
import re

import pytest

from post_training.tasks import SPEAKER, TRAINING, Continue, Prompt, plays_of
from utils.mock_corpus import generate, speakers

N_CHARS = 60_000


@pytest.fixture(scope="module")
def scenes() -> Continue:
    return Continue(n_chars=N_CHARS)


def prompts(task: Continue, n: int = 200, seed: int = 0) -> list[Prompt]:
    return task.prompts(n, random.Random(seed))


def test_a_prompt_shows_64_characters_with_a_speakers_whole_name(scenes: Continue) -> None:
    for prompt in prompts(scenes):
        assert len(prompt.text) == len(prompt.answer) == scenes.max_tokens == 64
        names = re.findall(r"\n([A-Za-z ]+):\n", prompt.text)
        assert names
        assert {*names} <= {*speakers()}


def test_every_name_that_is_found_is_a_speaker_and_every_speaker_is_found() -> None:
    found = {match.group().strip(":\n") for match in SPEAKER.finditer(generate(200_000))}
    assert found == {*speakers()}


def test_the_whole_of_a_speech_is_asked_for(scenes: Continue) -> None:
    """The cut lies anywhere from right behind a name to where the name is about to leave."""
    behind = [len(each.text) - each.text.rindex(":\n") - 2 for each in prompts(scenes, 500)]
    assert min(behind) == 0
    assert max(behind) > 40


def test_plays_begin_with_those_of_fewer_characters() -> None:
    """So the plays that are trained on are those of --data mock, also where fewer are cut."""
    short, _ = plays_of(N_CHARS, TRAINING)
    longer, starts = plays_of(2 * N_CHARS, TRAINING)
    assert longer.startswith(short)
    assert starts[-1] == len(longer)


@pytest.mark.parametrize("length", [16, 48])
def test_other_lengths_are_possible(length: int) -> None:
    task = Continue(length=length, n_chars=N_CHARS)
    for prompt in prompts(task, 100):
        assert len(prompt.text) == len(prompt.answer) == length
        assert SPEAKER.search(prompt.text)
        assert task.judge(prompt, prompt.answer).is_right


def test_prompts_drawn_one_by_one_are_those_drawn_at_once(scenes: Continue) -> None:
    rng = random.Random(0)
    assert [prompt for _ in range(20) for prompt in scenes.prompts(1, rng)] == prompts(scenes, 20)
