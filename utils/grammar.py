"""Random text from a grammar, whose entropy is known exactly.

A grammar is a set of symbols. Each symbol has several ways to be written, of which one is chosen at
random; a way is plain text with `{slots}`, and a slot is another symbol. (The textbooks call this a
probabilistic context-free grammar, a symbol a nonterminal, and a way a production.)

    sentence    The {noun} sleeps.   or   A {noun} and a {noun} walk by.
    noun        fox   or   hen

The opening of one way is never a prefix of another way of the same symbol (this is checked when a
grammar is made), so a parser can always tell which way was taken: a text has one derivation, and
its probability is the product of the probabilities chosen. For a symbol i, whose way w has
probability p(w), the expected surprisal h and the expected length l solve two systems of linear
equations:

    h(i) = sum_w p(w) (-log p(w) + sum of h over the slots of w)
    l(i) = sum_w p(w) (characters of w + sum of l over the slots of w)

A sequence of independent texts of the start symbol has an entropy of h / l nats per character: the
lowest possible loss, which a perfect model reaches.

Grenander 1967, "Syntax-controlled probabilities"; Wetherell 1980, "Probabilistic languages".
"""

import math
import random
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from utils.errors import CourseError

Ways = Sequence[tuple[float, str]]  # (weight, template) of each way to write a symbol
SLOT = re.compile(r"\{(.+?)\}")


@dataclass(frozen=True)
class Entropy:
    """The average surprisal of a character for a reader who knows the grammar."""

    nats_per_char: float

    @property
    def bits_per_char(self) -> float:
        """The same in bits: nats divided by the logarithm of 2."""
        return self.nats_per_char / math.log(2)


@dataclass(frozen=True)
class Parsed:
    """One parsed start symbol: its log-probability in nats and its length in characters."""

    log_prob: float
    n_chars: int


class Grammar:
    """A set of symbols, each with its ways to be written; see the top of this file.

    Raises ValueError if a slot has no rule, or if one way of a symbol is a prefix of another.
    """

    def __init__(self, rules: Mapping[str, Ways], start: str) -> None:
        self._names = list(rules)
        self._numbers = {name: i for i, name in enumerate(rules)}
        self._start = self._numbers[start]
        self._ways = [[_split(text, self._numbers) for _, text in ways] for ways in rules.values()]
        weights = [[weight for weight, _ in ways] for ways in rules.values()]
        self._probs = [[weight / math.fsum(row) for weight in row] for row in weights]
        self._cumulative = [list(accumulate(row)) for row in self._probs]
        self._openings: dict[int, list[tuple[str, int]]] = {}  # of each symbol: (text, which way)
        for symbol in range(len(self._ways)):
            self._check_openings(symbol)

    def symbol(self, name: str | None = None) -> int:
        """The number of a symbol, by default of the start symbol. Raises KeyError."""
        return self._start if name is None else self._numbers[name]

    def parts(self, symbol: int, way: int) -> Sequence[str | int]:
        """What one way of a symbol consists of: plain texts, and the numbers of other symbols."""
        return self._ways[symbol][way]

    def sample(self, rng: random.Random, name: str | None = None) -> str:
        """Write a symbol once, by default the start symbol, choosing at random."""
        written: list[str] = []
        pending: list[str | int] = [self.symbol(name)]  # a stack: the next part is last
        while pending:
            part = pending.pop()
            if isinstance(part, str):
                written.append(part)
            else:
                cumulative = self._cumulative[part]
                way = bisect(cumulative, rng.random(), 0, len(cumulative) - 1)
                pending.extend(reversed(self._ways[part][way]))
        return "".join(written)

    def parse(self, text: str, position: int = 0) -> Parsed:
        """Parse the start symbol once from `position`, finding the way taken at each choice.

        Raises CourseError at the first character that does not follow the grammar.
        """
        begin, log_prob = position, 0.0
        pending: list[str | int] = [self._start]
        while pending:
            part = pending.pop()
            if isinstance(part, int):
                way = self._recognize(part, text, position)
                log_prob += math.log(self._probs[part][way])
                pending.extend(reversed(self._ways[part][way]))
            elif text.startswith(part, position):
                position += len(part)
            else:
                raise _mismatch(text, position, f"{part!r}")
        return Parsed(log_prob, position - begin)

    def entropy(self) -> Entropy:
        """Solve for the expected surprisal and length of the start symbol; return their ratio."""
        n = len(self._ways)
        slots = np.zeros((n, n))  # slots[i, j]: the expected number of j in one i
        own = np.zeros((n, 2))  # nats and characters of i itself, without its slots
        for i, (probs, ways) in enumerate(zip(self._probs, self._ways, strict=True)):
            for prob, parts in zip(probs, ways, strict=True):
                own[i, 0] -= prob * math.log(prob)
                for part in parts:
                    if isinstance(part, str):
                        own[i, 1] += prob * len(part)
                    else:
                        slots[i, part] += prob
        nats, chars = np.linalg.solve(np.eye(n) - slots, own)[self._start]
        return Entropy(float(nats / chars))

    def _recognize(self, symbol: int, text: str, position: int) -> int:
        for opening, way in self._openings[symbol]:
            if text.startswith(opening, position):
                return way
        raise _mismatch(text, position, f"a {self._names[symbol]!r}")

    def openings_of(self, symbol: int) -> list[tuple[str, int]]:
        """(text, way): how each way can begin, with its own text or an opening of its first slot.

        No opening is a prefix of an opening of another way.
        """
        if symbol not in self._openings:
            self._openings[symbol] = [
                (opening, way)
                for way, parts in enumerate(self._ways[symbol])
                for opening in self._begin(parts)
            ]
        return self._openings[symbol]

    def _begin(self, parts: Sequence[str | int]) -> list[str]:
        first = parts[0] if parts else ""
        if isinstance(first, str):
            return [first]
        return [opening for opening, _ in self.openings_of(first)]

    def _check_openings(self, symbol: int) -> None:
        """Compare neighbours in sorted order: a prefix comes right before a text it begins."""
        for (first, way), (second, other) in pairwise(sorted(self.openings_of(symbol))):
            if way != other and second.startswith(first):
                name = self._names[symbol]
                raise ValueError(f"{name!r} is ambiguous: {first!r} is a prefix of {second!r}")


def _split(template: str, number: Mapping[str, int]) -> tuple[str | int, ...]:
    """Cut "The {noun} is" into "The ", the number of the symbol noun, and " is"."""
    parts: list[str | int] = []
    for i, piece in enumerate(SLOT.split(template)):  # plain text and slots alternate
        if i % 2 and piece not in number:
            raise ValueError(f"the slot {piece!r} in {template!r} has no rule")
        if piece:
            parts.append(number[piece] if i % 2 else piece)
    return tuple(parts)


def _mismatch(text: str, position: int, expected: str) -> CourseError:
    found = text[position : position + 20]
    return CourseError(f"at character {position} the grammar expects {expected}, not {found!r}")
