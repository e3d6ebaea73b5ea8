"""The mock corpus: its plays, read as text and parsed by the grammar."""

import hashlib
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from utils import mock_corpus
from utils.errors import CourseError
from utils.mock_corpus import generate, parse_log_prob, parse_scenes, speakers

SHAKESPEARES = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
THOU = re.compile(r"\b(thou|thee|thy|art|hast|dost|didst)\b", re.IGNORECASE)
README = Path(__file__).parents[2] / "data" / "README.md"
YOU = re.compile(r"\b(you|your)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def play() -> str:
    return generate(seed=3)


def speeches(play: str) -> Iterator[tuple[str, str, str]]:
    """(speaker, listener, text) of all speeches but the greetings, found without the grammar."""
    for scene in re.split(r"^Enter .*\n\n", play, flags=re.MULTILINE)[1:]:
        blocks = [block.split(":\n", 1) for block in scene.strip().split("\n\n")]
        spoken = [block for block in blocks if len(block) == 2]  # the rest are stage directions
        for (before, _), (speaker, text) in pairwise(spoken):
            yield speaker, before, text


def test_the_same_seed_writes_the_same_play_on_every_system():
    digest = hashlib.sha256(generate(20_000, seed=0).encode("utf-8")).hexdigest()
    assert digest == "f97e94234c23987887f6a1510fa3311a8028ae3af7c83aa6015d92da475a2c8b"
    assert generate(20_000, seed=1) != generate(20_000, seed=0)


def test_a_longer_play_begins_with_the_shorter():
    assert generate(50_000).startswith(generate(20_000))


def test_only_the_characters_of_tiny_shakespeare_are_used(play: str):
    assert len(SHAKESPEARES) == 65
    assert set(play) <= set(SHAKESPEARES)


def test_a_play_is_speeches_and_stage_directions_between_blank_lines(play: str):
    assert len(play) >= 1_200_000
    assert play.endswith(".\n\n")
    names = "|".join(speakers())
    for block in play.removesuffix("\n\n").split("\n\n"):
        assert re.fullmatch(rf"({names}):\n([A-Z].*[.,;:!?a-z]\n?)+|(Enter |A |Exeunt).*\.", block)


def test_the_vocabulary_has_hundreds_of_words(play: str):
    assert len(set(re.findall(r"[a-z'-]+", play.lower()))) > 1000


def test_the_entropy_equals_the_cost_of_a_long_play(play: str):
    """Scenes are independent, so their spread gives the standard error of the ratio; allow four."""
    exact = mock_corpus.entropy_rate().bits_per_char
    scenes = [(-scene.log_prob / math.log(2), scene.n_chars) for scene in parse_scenes(play)]
    assert sum(chars for _, chars in scenes) == len(play)
    bits = sum(cost for cost, _ in scenes)
    spread = sum((cost - exact * chars) ** 2 for cost, chars in scenes)
    standard_error = math.sqrt(spread) / len(play)
    assert standard_error < 0.01 * exact  # otherwise the next line proves little
    assert abs(bits / len(play) - exact) < 4 * standard_error


def test_the_log_probability_of_a_play_is_that_of_its_scenes():
    play = generate(1000)
    assert parse_log_prob(play + play) == pytest.approx(2 * parse_log_prob(play))
    assert parse_log_prob("") == 0.0


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda play: play.replace("Exeunt.", "Exit.", 1),
        lambda play: play.replace("e", "", 1),
        lambda play: play.replace("FRIAR ANSELM:", "KING ALDRIC:", 1),
        lambda play: play[:-1],
        lambda play: play + "\n",
        lambda play: play[: len(play) // 2],
    ],
)
def test_a_corrupted_play_is_refused(corrupt):
    play = generate(20_000)
    assert corrupt(play) != play
    with pytest.raises(CourseError, match="at character"):
        parse_log_prob(corrupt(play))


def test_inferiors_are_addressed_as_thou_and_others_as_you(play: str):
    said = {"thou": 0, "you": 0}
    for speaker, to, text in speeches(play):
        below = speakers()[to].rank < speakers()[speaker].rank
        assert not (YOU if below else THOU).search(text), f"{speaker} to {to}: {text}"
        said["thou" if below else "you"] += bool((THOU if below else YOU).search(text))
    assert min(said.values()) > 500


def test_the_listener_answers_and_names_the_thing_asked_for(play: str):
    """The speaker of the answer is the one addressed, and the answer names the same thing."""
    asked = re.findall(
        r"^(?:Where is the|Why did\w* \w+ hide the) (\w+), (.+)\?\n\n(.+):\n(.+)\n", play, re.M
    )
    assert len(asked) > 100
    for topic, called, speaker, answer in asked:
        assert called in speakers()[speaker].words["call"]
        assert f"the {topic}" in answer.lower()


def test_no_speaker_uses_the_verbs_of_another(play: str):
    own = {name: set(speaker.words["verb"]) for name, speaker in speakers().items()}
    heard: dict[str, set[str]] = {name: set() for name in own}
    for speaker, _, text in speeches(play):
        heard[speaker] |= set(re.findall(r"[a-z-]+", text))
    for name, verbs in own.items():
        assert verbs <= heard[name]
        for other in own.keys() - {name}:
            strange = verbs & heard[other]
            assert not strange, f"{other} says {strange}, which are the words of {name}"


def test_the_figures_in_the_readme_are_correct():
    text, entropy = generate(), mock_corpus.entropy_rate()
    readme = README.read_text(encoding="utf-8")
    assert f"the mock corpus | {len(text):,} characters, {len(set(text))} different" in readme
    assert f"**{entropy.bits_per_char:.4f} bits** ({entropy.nats_per_char:.4f} nats)" in readme
