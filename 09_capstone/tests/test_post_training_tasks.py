"""The tasks of post-training: what a prompt shows, which answers are right, and how far."""

import random
from collections.abc import Callable

import pytest

from post_training.rewards import exact
from post_training.tasks import (
    CLOSE,
    END,
    HELD_OUT,
    OPEN,
    SPECIAL,
    TRAINING,
    VERBS,
    Continue,
    Follow,
    Prompt,
    Verdict,
    all_instructions,
)
from post_training.verifier import Verifier
from utils.mock_corpus import generate, parse_scenes
from utils.playbill import CASTS

N_CHARS = 60_000
CONTEXT = 160  # that a model needs for both tasks
TASKS: dict[str, Callable[[], Continue | Follow]] = {
    "continue": lambda: Continue(n_chars=N_CHARS),
    "follow": Follow,
}


@pytest.fixture(scope="module")
def scenes() -> Continue:
    return Continue(n_chars=N_CHARS)


@pytest.fixture(scope="module")
def follow() -> Follow:
    return Follow()


def prompts(task: Continue | Follow, n: int = 200, seed: int = 0) -> list[Prompt]:
    return task.prompts(n, random.Random(seed))


# --- what both have in common -------------------------------------------------------------------


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_prompts_depend_on_the_generator_alone(make: Callable[[], Continue | Follow]) -> None:
    assert prompts(make()) == prompts(make())
    assert prompts(make()) != prompts(make(), seed=1)


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_the_answer_that_comes_with_a_prompt_is_right(
    make: Callable[[], Continue | Follow],
) -> None:
    task = make()
    for prompt in prompts(task):
        verdict = task.judge(prompt, prompt.answer)
        assert verdict == Verdict(len(prompt.answer), len(prompt.answer))
        assert verdict.is_right
        assert verdict.share == 1.0


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_prompt_and_answer_fit_into_the_context(make: Callable[[], Continue | Follow]) -> None:
    task = make()
    for prompt in prompts(task):
        assert len(prompt.answer) <= task.max_tokens
        assert len(prompt.text) + task.max_tokens <= CONTEXT


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_an_answer_is_right_up_to_its_first_wrong_character(
    make: Callable[[], Continue | Follow],
) -> None:
    task, rng = make(), random.Random(0)
    for prompt in prompts(task, 50):
        answer = prompt.answer
        place = rng.randrange(len(answer))
        verdict = task.judge(prompt, f"{answer[:place]}#{answer[place + 1 :]}")
        assert (verdict.accepted, verdict.length) == (place, len(answer))
        assert not verdict.is_right
        assert verdict.share == pytest.approx(place / len(answer))


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_an_empty_answer_has_no_share(make: Callable[[], Continue | Follow]) -> None:
    """Of Follow: an answer that ends at once, and one without an end."""
    task = make()
    (prompt,) = prompts(task, 1)
    if isinstance(task, Follow):
        assert task.judge(prompt, "").share == task.judge(prompt, END).share == 0.0
        assert not task.judge(prompt, "").is_right


def test_the_share_of_a_verdict() -> None:
    assert Verdict(3, 4).share == 0.75
    assert Verdict(4, 4).share == 1.0
    assert Verdict(4, 4, complete=False).share == 0.8  # the missing end is one more mistake
    assert Verdict(0, 0, complete=False).share == 0.0
    assert [Verdict(4, 4).is_right, Verdict(3, 4).is_right] == [True, False]
    assert not Verdict(4, 4, complete=False).is_right


# --- continuing a scene -------------------------------------------------------------------------


def test_prompts_are_cut_from_the_plays_and_judged_with_the_whole_scene(scenes: Continue) -> None:
    text, reader, starts = generate(N_CHARS, TRAINING), Verifier(), [0]
    for scene in parse_scenes(text):
        starts.append(starts[-1] + scene.n_chars)
    for prompt in prompts(scenes, 40):
        assert 64 <= len(prompt.text) <= 128
        assert len(prompt.answer) == scenes.max_tokens == 64
        cut = text.index(prompt.text + prompt.answer) + len(prompt.text)
        begin = max(start for start in starts if start <= cut)
        state, n = reader.advance(reader.start(), text[begin:cut])
        assert (state, n) == (prompt.expects, cut - begin)


def test_held_out_prompts_are_of_other_plays(scenes: Continue) -> None:
    training, other = (generate(N_CHARS, plays) for plays in (TRAINING, HELD_OUT))
    held_out = prompts(Continue(plays=HELD_OUT, n_chars=N_CHARS), 50)
    assert all(prompt.text + prompt.answer in other for prompt in held_out)
    assert all(prompt.text + prompt.answer not in training for prompt in held_out)
    assert all(prompt.text + prompt.answer in training for prompt in prompts(scenes, 50))


# --- following an instruction -------------------------------------------------------------------


def test_an_instruction_names_speaker_verb_and_listener(follow: Follow) -> None:
    meet = {(a, b) for cast in CASTS.values() for a in cast for b in cast if a != b}
    assert {(a, b) for a, _, b in all_instructions()} == meet
    assert len(all_instructions()) == len(VERBS) * len(meet)
    texts = {f"{OPEN}{a} {verb} {b}{CLOSE}" for a, verb, b in all_instructions()}
    assert {prompt.text for prompt in prompts(follow, 3000)} == texts


def test_every_instruction_has_answers_short_enough_for_a_context_of_128(follow: Follow) -> None:
    """At least half of the grammar's own, so that drawing one takes a few trials."""
    rng, grammar = random.Random(0), follow.verifier.grammar
    for a, verb, b in all_instructions():
        assert len(f"{OPEN}{a} {verb} {b}{CLOSE}") + follow.max_tokens <= 128
        symbol = VERBS[verb].format(a=a, b=b)
        lengths = [len(grammar.sample(rng, symbol) + END) for _ in range(20)]
        assert sum(length <= follow.max_tokens for length in lengths) >= 10


def test_the_end_mark_must_come_where_the_answer_ends(follow: Follow) -> None:
    for prompt in prompts(follow, 50):
        text = prompt.answer.removesuffix(END)
        n = len(text)
        assert END not in text
        missing = follow.judge(prompt, text)
        assert (missing.accepted, missing.is_right, missing.complete) == (n, False, False)
        assert missing.share == n / (n + 1)
        early = follow.judge(prompt, text[: n // 2] + END)
        assert (early.accepted, early.is_right, early.complete) == (n // 2, False, False)
        assert early.share == (n // 2) / (n // 2 + 1)
        mistaken = follow.judge(prompt, f"{text[: n // 2]}#{END}")  # wrong, but it ends
        assert (mistaken.accepted, mistaken.complete) == (n // 2, True)
        twice = follow.judge(prompt, text + END + END)
        assert (twice.accepted, twice.is_right) == (n + 1, False)
        assert follow.judge(prompt, text + END).is_right


def test_an_answer_without_its_end_earns_less_than_half(follow: Follow) -> None:
    """Less than with its end, and less than an answer whose last word is wrong, but which ends."""
    for prompt in prompts(follow, 50):
        text = prompt.answer.removesuffix(END)
        last_word = text.rindex(" ") + 1
        answers = (prompt.answer, f"{text[:last_word]}#\n{END}", text, text[:last_word] + END)
        whole, mistaken, endless, cut = (exact(follow, prompt, answer) for answer in answers)
        assert whole == 2.0
        assert 1 > mistaken > 0.5 > endless > cut


def test_continuations_need_no_end(scenes: Continue) -> None:
    for prompt in prompts(scenes, 20):
        assert exact(scenes, prompt, prompt.answer) == 2.0
        assert exact(scenes, prompt, prompt.answer[:32] + "#" * 32) == 0.5


def test_what_comes_after_the_end_of_an_answer_is_wrong(follow: Follow) -> None:
    """Although a scene may begin there in a play."""
    for prompt in prompts(follow, 20):
        text = prompt.answer.removesuffix(END)
        for more in ("Enter", "\n", text):
            verdict = follow.judge(prompt, text + more + END)
            assert (verdict.accepted, verdict.is_right) == (len(text), False)


def test_an_answer_to_another_instruction_is_wrong(follow: Follow) -> None:
    """The forms of address differ with the listener, and the words with the speaker."""
    by_text = {prompt.text: prompt for prompt in prompts(follow, 3000)}
    king = by_text[f"{OPEN}KING ALDRIC greets QUEEN MAUDE{CLOSE}"]
    fool = by_text[f"{OPEN}KING ALDRIC greets Fool{CLOSE}"]
    assert not follow.judge(king, fool.answer).is_right
    assert not follow.judge(fool, king.answer).is_right


def test_the_marks_are_no_characters_of_the_plays() -> None:
    assert len({*SPECIAL}) == len(SPECIAL) == 3
    assert not {*SPECIAL} & {*generate(200_000)}
