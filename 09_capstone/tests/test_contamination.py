"""contamination.py: rolling hashes against hashes from scratch, shares against brute force."""

import random

import pytest

import contamination
from contamination import contaminated_share, rolling_hashes


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
