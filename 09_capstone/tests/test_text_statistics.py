"""text_statistics.py: the numbers of texts that were counted by hand, and their limits."""

import random

import pytest

from text_statistics import distinct_n, repeated_share


@pytest.mark.parametrize(
    ("samples", "n", "share"),
    [
        (["to be or not to be"], 2, 4 / 5),
        (["a b a", "b a b"], 2, 2 / 4),
        (["a b", "c d"], 2, 1.0),  # b c is no pair
        (["a b"], 3, 0.0),
        ([], 1, 0.0),
    ],
)
def test_different_n_grams_are_counted(samples: list[str], n: int, share: float) -> None:
    assert distinct_n(samples, n) == pytest.approx(share)


@pytest.mark.parametrize(
    ("sample", "n", "share"),
    [
        ("to be or not to be", 2, 2 / 6),
        ("no no no no", 2, 3 / 4),
        ("a b c", 1, 0.0),
        ("a b c a b c a b c", 3, 6 / 9),
        ("", 2, 0.0),
    ],
)
def test_repeated_words_are_counted(sample: str, n: int, share: float) -> None:
    assert repeated_share(sample, n) == pytest.approx(share)


def test_for_single_words_both_numbers_add_up_to_1() -> None:
    chance = random.Random(0)
    for _ in range(20):
        text = " ".join(chance.choices("abcdef", k=chance.randrange(1, 30)))
        assert distinct_n([text], 1) + repeated_share(text, 1) == pytest.approx(1.0)


def test_a_text_said_twice_is_repeated_from_its_second_half_on() -> None:
    words = [f"w{i}" for i in range(25)]
    assert repeated_share(" ".join(words * 2), 5) == pytest.approx(0.5)
