"""Wrong answers made by one faulty implementation, alone and two at a time.

    SCALES = mistakes(
        attention_with,
        not_scaled=("the division by the square root of d_k is missing", {"scale": "none"}),
        softmax_over_queries=("the softmax runs over the queries", {"dim": -2}),
    )

`attention_with` computes the right answer, unless a setting tells it to make a mistake. Each entry
is a misconception like any other. Because the settings combine, so do the mistakes: an answer with
two of them is recognized, though no single misconception gives it. For an exercise that asks for a
class, a class takes the place of the function: its constructor takes the settings.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 3.0  # seconds of computing for the pairs of an answer
PASSED_KEPT = 40  # right answers remembered, to refute pairs with

Functions = frozenset[Callable[..., Any]]  # the faulty implementations of what was called


class Mistake:
    """A misconception: one implementation, with the settings that make it wrong."""

    def __init__(
        self, function: Callable[..., Any], name: str, diagnosis: str, settings: Mapping[str, Any]
    ) -> None:
        self.function = function
        self.settings = dict(settings)
        self.__name__ = name
        self.__doc__ = diagnosis

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs, **self.settings)


class Pair:
    """Two mistakes of one implementation at once."""

    def __init__(self, one: Mistake, other: Mistake) -> None:
        self.function = one.function
        self.settings = one.settings | other.settings
        self.diagnoses = (str(one.__doc__), str(other.__doc__))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs, **self.settings)


def mistakes(
    function: Callable[..., Any], **table: tuple[str, Mapping[str, Any]]
) -> tuple[Mistake, ...]:
    """One misconception per entry: its name, its diagnosis and the settings that make it."""
    return tuple(Mistake(function, name, *entry) for name, entry in table.items())


def class_of(answer: Any) -> type | None:
    """The class behind an answer, itself or one with mistakes; None if it is a function."""
    made = answer.function if isinstance(answer, Mistake | Pair) else answer
    return made if isinstance(made, type) else None


def functions_of(misconceptions: Iterable[Any]) -> Functions:
    """The faulty implementations behind misconceptions."""
    return frozenset(one.function for one in misconceptions if isinstance(one, Mistake))


def pairs_of(misconceptions: Iterable[Any]) -> list[Pair]:
    """Every two mistakes that one implementation can make at once."""
    single = [one for one in misconceptions if isinstance(one, Mistake)]
    return [
        Pair(one, other)
        for one, other in itertools.combinations(single, 2)
        if one.function is other.function and not one.settings.keys() & other.settings.keys()
    ]


Gives = Callable[[Any], bool]  # whether a misconception gives an answer, on the inputs of one call


@dataclass
class Suspects:
    """The pairs that give the learner's answer in every case so far, wrong and right ones.

    All pairs are tried at the first wrong answer, and from then on only those that are left. So an
    answer without mistakes costs nothing. A call says nothing about pairs of another function: an
    exercise may ask for two.
    """

    pairs: list[Pair] | None = None  # None until an answer is wrong
    passed: list[tuple[Functions, Gives]] = field(default_factory=list)
    is_known: bool = False  # the answer is a known wrong one, of which only the name is checked
    names: frozenset[str] | None = None  # of a known one: the diagnoses that are left

    def concerns(self, diagnosis: str) -> bool:
        """Whether a misconception can still be the one behind the answers."""
        return self.names is None or diagnosis in self.names

    def explained_by(self, diagnoses: frozenset[str]) -> None:
        """Of a known wrong answer, only those that explain one case need a look at the next."""
        if self.is_known:
            self.names = diagnoses

    def answer_is_right(self, misconceptions: Sequence[Any], is_right: Gives) -> None:
        """Drop the pairs that would be wrong here."""
        functions = functions_of(misconceptions)
        if self.pairs is None:
            self.passed = [*self.passed[1 - PASSED_KEPT :], (functions, is_right)]
        else:
            self.pairs = [
                pair for pair in self.pairs if pair.function not in functions or is_right(pair)
            ]

    def answer_is_wrong(self, misconceptions: Sequence[Any], is_same: Gives) -> None:
        """Keep the pairs that are wrong in the same way; none if it takes too long to try them."""
        is_first = self.pairs is None
        known = pairs_of(misconceptions) if self.pairs is None else self.pairs
        functions = functions_of(misconceptions)
        rights = [is_right for those, is_right in self.passed if is_first and those & functions]
        self.pairs = []
        start = time.process_time()
        for pair in known:
            if time.process_time() - start > PATIENCE:
                self.pairs = []
                return
            is_other = pair.function not in functions
            if is_other or (is_same(pair) and all(is_right(pair) for is_right in rights)):
                self.pairs.append(pair)

    def diagnoses(self) -> list[tuple[str, str]]:
        """The diagnoses of the pairs that are left, without repetition."""
        return list(dict.fromkeys(pair.diagnoses for pair in self.pairs or ()))
