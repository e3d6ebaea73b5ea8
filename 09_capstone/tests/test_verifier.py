"""The verifier, compared with a list of all texts, and on true scenes that are cut anywhere."""

import random
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product

import pytest

from post_training.verifier import State, Verifier
from utils.grammar import SLOT, Grammar, Ways
from utils.mock_corpus import generate, play_grammar

FARM: dict[str, Ways] = {  # a finite grammar, with ways that share their first letters
    "day": [(1, "The {beast} {does}.\n"), (1, "{beast} and {bird}!\n"), (1, "Rain{end}.\n")],
    "beast": [(1, "fox"), (1, "old {bird}"), (1, "orca"), (1, "foal")],
    "bird": [(1, "hen"), (1, "heron"), (1, "duck")],
    "does": [(1, "eats the {bird}"), (1, "eats all"), (1, "sleeps")],
    "end": [(1, "")],
}
LETTERS = {letter for ways in FARM.values() for _, way in ways for letter in way} - {*"{}"} | {"#"}


@pytest.fixture(scope="module")
def farm() -> Verifier:
    return Verifier(Grammar(FARM, "day"))


@pytest.fixture(scope="module")
def reader() -> Verifier:
    return Verifier()


# --- all texts of a small grammar, enumerated ---------------------------------------------------


@cache
def every_text(symbol: str) -> tuple[str, ...]:
    """All texts of a symbol of FARM."""
    texts = []
    for _, template in FARM[symbol]:
        pieces = SLOT.split(template)  # plain text and slots alternate
        choices = [every_text(piece) if i % 2 else (piece,) for i, piece in enumerate(pieces)]
        texts += ["".join(choice) for choice in product(*choices)]
    return tuple(texts)


@cache
def can_begin(text: str, symbol: str = "day") -> bool:
    """Whether a text can be continued to one of the symbol, followed by days."""
    return any(
        whole.startswith(text) or (text.startswith(whole) and can_begin(text[len(whole) :]))
        for whole in every_text(symbol)
    )


def accepted(text: str, symbol: str = "day") -> int:
    """How many characters of it are right, by trying every beginning."""
    return next((n for n in range(len(text)) if not can_begin(text[: n + 1], symbol)), len(text))


def expect_as_enumerated(farm: Verifier, text: str, symbol: str = "day") -> None:
    state, n = farm.advance(farm.start(symbol), text)
    assert n == accepted(text, symbol), text
    assert (state is None) == (n < len(text)), text


def test_the_enumeration_knows_enough_texts() -> None:
    assert len(set(every_text("day"))) == len(every_text("day")) > 40
    assert accepted("The fox eats the hen.\nRain.\nfoa") == len("The fox eats the hen.\nRain.\nfoa")
    assert accepted("The fox eats a hen.\n") == len("The fox eats a")


def test_every_text_of_the_grammar_is_accepted_and_ends_where_it_ends(farm: Verifier) -> None:
    for text in every_text("day"):
        assert farm.advance(farm.start(), text) == (State(None, ""), len(text))
        for cut in range(len(text)):
            state, n = farm.advance(farm.start(), text[:cut])
            assert n == cut
            assert state is not None and state.expected is not None


def test_one_replaced_character_is_rejected_exactly_where_no_text_has_it(farm: Verifier) -> None:
    for text in every_text("day")[::3]:
        for position, letter in product(range(len(text)), LETTERS):
            expect_as_enumerated(farm, text[:position] + letter + text[position + 1 :])


@pytest.mark.parametrize("seed", range(20))
def test_texts_with_random_changes_are_judged_as_enumerated(farm: Verifier, seed: int) -> None:
    """Characters replaced, left out, doubled and exchanged, in several days."""
    rng = random.Random(seed)
    for _ in range(50):
        letters = list("".join(rng.choices(every_text("day"), k=3)))
        i, j = rng.randrange(len(letters)), rng.randrange(len(letters))
        match rng.randrange(4):
            case 0:
                letters[i] = rng.choice(sorted(LETTERS))
            case 1:
                del letters[i]
            case 2:
                letters.insert(i, letters[i])
            case _:
                letters[i], letters[j] = letters[j], letters[i]
        expect_as_enumerated(farm, "".join(letters))


@pytest.mark.parametrize("symbol", ["beast", "bird", "does", "end", "day"])
def test_a_symbol_can_be_read_by_itself_and_days_follow(farm: Verifier, symbol: str) -> None:
    for text in every_text(symbol):
        state, n = farm.advance(farm.start(symbol), text)
        assert n == len(text)
        assert state is not None
        for following in ("Rain.\n", "The orca", "#", "old duck and"):
            expect_as_enumerated(farm, text + following, symbol)


def test_a_symbol_that_the_grammar_does_not_have_is_a_key_error(farm: Verifier) -> None:
    with pytest.raises(KeyError, match="beest"):
        farm.start("beest")


def test_a_symbol_may_contain_itself() -> None:
    stairs = Verifier(Grammar({"stairs": [(1, "up {stairs} down "), (1, "rest ")]}, "stairs"))
    right = "up " * 5000 + "rest " + " down " * 5000  # no recursion of Python's own
    assert stairs.advance(stairs.start(), right) == (State(None, ""), len(right))
    assert stairs.advance(stairs.start(), right + " ") == (None, len(right))


# --- true scenes, in pieces ---------------------------------------------------------------------


def random_pieces(text: str, rng: random.Random, n: int) -> list[str]:
    """The text, cut at n places; some of the pieces may be empty."""
    cuts = sorted(rng.choices(range(len(text) + 1), k=n))
    return [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)])]


def read(reader: Verifier, pieces: Sequence[str]) -> tuple[State | None, int]:
    """Read one piece after the other."""
    state, total = reader.start(), 0
    for piece in pieces:
        assert state is not None
        state, n = reader.advance(state, piece)
        total += n
    return state, total


@pytest.mark.parametrize("seed", range(12))
def test_a_true_text_is_accepted_in_any_pieces_with_the_same_state(
    reader: Verifier, seed: int
) -> None:
    """In one piece, character by character and cut at random: nothing is read again."""
    rng = random.Random(seed)
    text = generate(1, seed)[: rng.randint(500, 5000)]
    whole = reader.advance(reader.start(), text)
    assert whole[0] is not None
    assert whole[1] == len(text)
    assert read(reader, list(text)) == whole
    for n in (1, 5, 100):
        assert read(reader, random_pieces(text, rng, n)) == whole


@pytest.mark.parametrize("seed", range(4))
def test_every_cut_of_a_scene_is_accepted(reader: Verifier, seed: int) -> None:
    text, state = generate(1, seed)[:3000], reader.start()
    for cut, letter in enumerate(text, start=1):
        after, n = reader.advance(state, letter)
        assert n == 1
        assert after is not None
        if cut % 7 == 0:
            assert reader.advance(reader.start(), text[:cut]) == (after, cut)
        state = after


@pytest.mark.parametrize("seed", range(12))
def test_a_character_of_no_play_is_rejected_where_it_stands(reader: Verifier, seed: int) -> None:
    rng = random.Random(seed)
    text = generate(1, seed)[:4000]
    for _ in range(10):
        place = rng.randrange(len(text))
        cut = rng.randint(0, place)
        wrong = f"{text[:place]}#{text[place + 1 :]}"
        assert reader.advance(reader.start(), wrong) == (None, place)
        state, _ = reader.advance(reader.start(), wrong[:cut])
        assert state is not None
        assert reader.advance(state, wrong[cut:]) == (None, place - cut)


def test_what_one_speaker_may_say_another_may_not(reader: Verifier) -> None:
    """The words differ, so the rest of a scene depends on who speaks."""
    opening = "Enter Nurse and Fool.\n\nNurse:\n"
    assert reader.advance(reader.start(), opening)[1] == len(opening)
    wrong = opening.replace("Nurse:", "Merchant:")
    assert reader.advance(reader.start(), wrong) == (None, wrong.index("Merchant"))


def test_the_next_scene_begins_where_one_ends(reader: Verifier) -> None:
    one, two = generate(1, seed=1), generate(1, seed=2)
    assert reader.advance(reader.start(), one) == (State(None, ""), len(one))
    assert reader.advance(State(None, ""), two) == (State(None, ""), len(two))
    assert reader.advance(reader.start(), one + two) == (State(None, ""), len(one + two))
    assert reader.advance(State(None, ""), "\n") == (None, 0)


def test_nothing_read_changes_nothing(reader: Verifier) -> None:
    for text in ("", "Ent", "Enter Nurse and Fool.\n\n"):
        state, _ = reader.advance(reader.start(), text)
        assert state is not None
        assert reader.advance(state, "") == (state, 0)


def test_a_state_is_never_changed_by_reading_on(reader: Verifier) -> None:
    text = generate(1, seed=3)[:1000]
    state, _ = reader.advance(reader.start(), text[:500])
    assert state is not None
    before = repr(state)
    for continuation in (text[500:], "#", text[500:700]):
        reader.advance(state, continuation)
        assert repr(state) == before


def test_what_is_kept_unread_is_shorter_than_one_text_of_the_grammar(reader: Verifier) -> None:
    """So a piece costs its own characters, however long the scene before it is."""
    grammar = play_grammar()
    longest = 0
    text, state = generate(1, seed=5)[:4000], reader.start()
    for letter in text:
        after, _ = reader.advance(state, letter)
        assert after is not None
        longest, state = max(longest, len(after.unread)), after
    assert 0 < longest < max(len(opening) for opening, _ in grammar.openings_of(grammar.symbol()))
    depth, stack = 0, state.expected
    while stack is not None:
        depth, stack = depth + 1, stack[1]
    assert depth < 100
