"""contamination.py: hashes, copies and shares against those from scratch and of the library."""

import difflib
import random

import pytest

import contamination
from contamination import contaminated_share, longest_copy, rolling_hashes


@pytest.mark.parametrize(
    ("sample", "corpus", "start_and_length"),
    [
        ("xabcd", "yyabczz", (1, 3)),
        ("abcd", "dcba", (0, 1)),
        ("abcd", "abcdabcd", (0, 4)),
        ("ab", "xyz", (0, 0)),
        ("", "a", (0, 0)),
    ],
)
def test_the_longest_copy_is_found(
    sample: str, corpus: str, start_and_length: tuple[int, int]
) -> None:
    assert longest_copy(sample, corpus) == start_and_length


@pytest.mark.parametrize("seed", range(8))
def test_the_longest_copy_is_as_long_as_that_of_the_library(seed: int) -> None:
    chance = random.Random(seed)
    sample, corpus = ("".join(chance.choices("abc", k=k)) for k in (60, 300))
    start, length = longest_copy(sample, corpus)
    matcher = difflib.SequenceMatcher(None, sample, corpus, autojunk=False)
    assert sample[start : start + length] in corpus
    assert length == matcher.find_longest_match().size


@pytest.mark.parametrize("n", [1, 2, 5, 30, 31])
@pytest.mark.parametrize("modulus", [7, 97, 2**61 - 1])
def test_rolling_hashes_are_those_from_scratch(n: int, modulus: int) -> None:
    tokens = random.Random(n).choices(range(500), k=30)
    expected = []
    for start in range(30 - n + 1):
        value = 0
        for token in tokens[start : start + n]:
            value = (value * 257 + token) % modulus
        expected.append(value)
    assert rolling_hashes(tokens, n, 257, modulus) == expected


def by_brute_force(train: list[int], evaluation: list[int], n: int) -> float:
    covered = set()
    for start in range(len(evaluation) - n + 1):
        for other in range(len(train) - n + 1):
            if evaluation[start : start + n] == train[other : other + n]:
                covered |= {*range(start, start + n)}
    return len(covered) / len(evaluation)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_the_share_is_that_of_brute_force(seed: int, n: int) -> None:
    chance = random.Random(seed)
    train, evaluation = chance.choices(range(4), k=40), chance.choices(range(5), k=30)
    assert contaminated_share(train, evaluation, n) == by_brute_force(train, evaluation, n)


def test_equal_hashes_of_different_tokens_are_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        contamination, "rolling_hashes", lambda tokens, n: [0] * len(tokens[n - 1 :])
    )
    train, evaluation = [1, 2, 3, 4], [2, 1, 3, 4, 2]
    assert contaminated_share(train, evaluation, 2) == by_brute_force(train, evaluation, 2) == 0.4


def test_nothing_is_contaminated_by_nothing() -> None:
    assert contaminated_share([], [1, 2, 3], 2) == contaminated_share([1, 2], [], 2) == 0.0
