"""Byte-pair encoding on integers, against the plainest possible version and the library's."""

import importlib.util
import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bpe import Pair, Words, apply_merges, check_merges, count_pairs, learn_merges, merge_pair
from split_pattern import split_words
from utils.errors import CourseError
from utils.mock_corpus import generate

STORED = Path(__file__).with_name("library_merges.json")  # written by the library, see below
N_MERGES = 512
LIBRARY = pytest.mark.skipif(
    importlib.util.find_spec("tokenizers") is None,
    reason="needs the library tokenizers (make install-dev)",
)


def learn_plainly(words: Words, n_merges: int) -> list[Pair]:
    """Count all pairs again after every merge; ties by sorting."""
    merges: list[Pair] = []
    spellings = [(list(word), count) for word, count in words.items()]
    for i in range(n_merges):
        counts: Counter[Pair] = Counter()
        for ids, count in spellings:
            for pair in pairwise(ids):
                counts[pair] += count
        frequent = sorted((-count, pair) for pair, count in counts.items() if count > 1)
        if not frequent:
            break
        merges.append(frequent[0][1])
        spellings = [(merge_pair(ids, merges[-1], 256 + i), count) for ids, count in spellings]
    return merges


def random_words(generator: random.Random, letters: int) -> dict[tuple[int, ...], int]:
    """Few different letters: many ties, and many repeated pairs such as (7, 7, 7)."""
    return {
        tuple(generator.randrange(letters) for _ in range(generator.randrange(1, 12))): (
            generator.randrange(1, 4)
        )
        for _ in range(generator.randrange(1, 15))
    }


def words_of(text: str) -> dict[tuple[int, ...], int]:
    return {tuple(word.encode()): n for word, n in Counter(split_words(text)).items()}


# --- counting and merging -----------------------------------------------------------------------


def test_every_position_of_a_pair_counts_and_words_count_as_often_as_they_occur() -> None:
    words = {(1, 2, 1, 2): 3, (7, 7, 7): 5, (9,): 4, (2, 1): 1}
    assert count_pairs(words) == {(1, 2): 6, (2, 1): 4, (7, 7): 10}
    assert count_pairs({}) == {}


@pytest.mark.parametrize(
    ("ids", "merged"),
    [
        ([1, 2, 3, 1, 2], [256, 3, 256]),
        ([1, 1, 2], [1, 256]),
        ([2, 1], [2, 1]),
        ([1], [1]),
        ([], []),
    ],
)
def test_a_pair_becomes_its_new_id_wherever_it_stands(ids: list[int], merged: list[int]) -> None:
    before = list(ids)
    assert merge_pair(ids, (1, 2), 256) == merged
    assert merge_pair(tuple(ids), (1, 2), 256) == merged
    assert ids == before


def test_merges_go_from_left_to_right_and_do_not_overlap() -> None:
    assert merge_pair([7, 7, 7], (7, 7), 256) == [256, 7]
    assert merge_pair([7] * 4, (7, 7), 256) == [256, 256]


# --- learning -----------------------------------------------------------------------------------


def test_the_most_frequent_pair_is_merged_and_then_the_next() -> None:
    words = {(1, 2, 3): 5, (1, 2, 4): 3, (3, 4): 6}
    assert learn_merges(words, 3) == [(1, 2), (3, 4), (256, 3)]
    assert learn_merges(words, 1) == [(1, 2)]
    assert learn_merges(words, 0) == []


def test_among_equal_counts_the_smallest_pair_of_ids_is_first() -> None:
    assert learn_merges({(9, 1): 4, (3, 8): 4, (3, 5): 4}, 3) == [(3, 5), (3, 8), (9, 1)]


def test_a_pair_that_occurs_once_is_not_merged() -> None:
    assert learn_merges({(1, 2): 1, (3, 4): 2}, 9) == [(3, 4)]
    assert learn_merges({(7, 7, 7): 1}, 9) == [(7, 7)]
    assert learn_merges({}, 9) == learn_merges({(5,): 8}, 9) == []


def test_the_words_are_not_changed() -> None:
    words = {(1, 2, 3): 5}
    learn_merges(words, 2)
    assert words == {(1, 2, 3): 5}


@pytest.mark.parametrize("letters", [1, 2, 3, 5])
def test_counts_kept_up_to_date_give_the_merges_of_counting_again(letters: int) -> None:
    generator = random.Random(letters)
    for _ in range(200):
        words = random_words(generator, letters)
        assert learn_merges(words, 50) == learn_plainly(words, 50), words


def test_no_two_merges_spell_the_same_bytes() -> None:
    """Why an id per merge is an id per string: a string is always built in the same way."""
    generator = random.Random(0)
    for _ in range(300):
        spelled: list[tuple[int, ...]] = [(i,) for i in range(256)]
        for left, right in learn_merges(random_words(generator, 2), 50):
            spelled.append(spelled[left] + spelled[right])
        assert len(set(spelled)) == len(spelled)


# --- encoding a word ----------------------------------------------------------------------------


def test_the_earliest_merge_goes_first_wherever_it_stands() -> None:
    new_ids = {(2, 3): 256, (1, 2): 257, (256, 4): 258}
    assert apply_merges([1, 2, 3, 4], new_ids) == [1, 258]
    assert apply_merges([1, 2, 1, 2], new_ids) == [257, 257]
    assert apply_merges([5, 6], new_ids) == [5, 6]
    assert apply_merges([5], new_ids) == [5]
    assert apply_merges([], new_ids) == apply_merges([], {}) == []


@pytest.mark.parametrize("letters", [1, 2, 4])
def test_words_of_the_training_text_get_the_tokens_that_they_had_there(letters: int) -> None:
    generator = random.Random(letters)
    for _ in range(100):
        words = random_words(generator, letters)
        merges = learn_merges(words, 30)
        new_ids = {pair: 256 + i for i, pair in enumerate(merges)}
        for word in words:
            ids = list(word)
            for pair, new_id in new_ids.items():
                ids = merge_pair(ids, pair, new_id)
            assert apply_merges(word, new_ids) == ids


# --- merges from a file -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merges", "problem"),
    [
        ([(1, 256)], "merge 0 joins 1 and 256; ids up to 255 exist there"),
        ([(1, 2), (256, -1)], "merge 1 joins 256 and -1; ids up to 256 exist there"),
        ([(1, 2), (3, 4), (1, 2)], r"the pair \(1, 2\) is merged 2 times"),
        (
            [(97, 97), *((256 + i, 256 + i) for i in range(60))],
            "makes a token of .* too much memory",
        ),
    ],
)
def test_merges_that_cannot_be_are_refused(merges: list[Pair], problem: str) -> None:
    with pytest.raises(CourseError, match=problem):
        check_merges(merges)


# --- Hugging Face's library, which shares no code with ours ---------------------------------------


def library_merges(words: Words, n_merges: int) -> list[list[str]]:
    """The library's merges of the same words; a character stands for each byte."""
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n_merges,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=[chr(b) for b in range(256)],  # numbered in this order, as ours
    )
    texts = (bytes(word).decode("latin-1") for word, n in words.items() for _ in range(n))
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())["model"]["merges"]


def spelled(merges: list[Pair], alphabet: list[str]) -> list[list[str]]:
    tokens = list(alphabet)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return [[tokens[left], tokens[right]] for left, right in merges]


def test_the_merges_of_the_mock_corpus_are_the_ones_that_the_library_learned() -> None:
    merges = learn_merges(words_of(generate(200_000)), N_MERGES)
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert spelled(merges, [chr(b) for b in range(256)]) == stored


@LIBRARY
def test_the_stored_merges_are_the_library_s() -> None:
    found = library_merges(words_of(generate(200_000)), N_MERGES)
    assert found == json.loads(STORED.read_text(encoding="utf-8"))


@LIBRARY
@pytest.mark.parametrize("letters", [1, 2, 3, 5])
def test_ties_and_repeated_letters_are_resolved_as_in_the_library(letters: int) -> None:
    generator = random.Random(letters)
    for _ in range(50):
        words = random_words(generator, letters)
        merges = learn_merges(words, 40)
        assert spelled(merges, [chr(b) for b in range(256)]) == library_merges(words, 40), words


@LIBRARY
def test_with_the_library_s_numbers_for_the_bytes_its_usual_settings_give_the_same_merges() -> None:
    """Its ByteLevel numbers the visible bytes first, which decides some ties."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    text = generate(200_000)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer: Any = trainers.BpeTrainer(
        vocab_size=256 + N_MERGES, min_frequency=2, show_progress=False, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator([text], trainer)
    byte_level = tokenizer.pre_tokenizer.pre_tokenize_str
    number = {character: i for i, character in enumerate(alphabet)}
    words = Counter(tuple(number[c] for c in word) for word, _ in byte_level(text))
    merges = spelled(learn_merges(words, N_MERGES), alphabet)
    assert merges == json.loads(tokenizer.to_str())["model"]["merges"]
