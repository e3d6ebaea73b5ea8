"""The entropy and probabilities of a grammar, compared with enumeration, formulas and counts."""

import math
import random
from collections import Counter
from itertools import product

import pytest

from utils.errors import CourseError
from utils.grammar import SLOT, Grammar, Ways

FARM: dict[str, Ways] = {
    "day": [(3, "The {beast} {does}.\n"), (1, "{beast} and {beast}!\n"), (2, "Rain.\n")],
    "beast": [(5, "fox"), (2, "old {bird}"), (1, "cow")],
    "bird": [(1, "hen"), (4, "duck")],
    "does": [(2, "eats the {bird}"), (1, "sleeps")],
}


def every_text(symbol: str) -> list[tuple[float, str]]:
    """Enumerate the texts of a finite grammar: (probability, text)."""
    whole = sum(weight for weight, _ in FARM[symbol])
    texts = []
    for weight, template in FARM[symbol]:
        pieces = [
            every_text(piece) if i % 2 else [(1.0, piece)]
            for i, piece in enumerate(SLOT.split(template))
        ]
        for choice in product(*pieces):
            prob = math.prod(p for p, _ in choice) * weight / whole
            texts.append((prob, "".join(text for _, text in choice)))
    return texts


def test_the_entropy_equals_that_of_all_texts_enumerated():
    texts = every_text("day")
    assert len({text for _, text in texts}) == len(texts) > 20
    nats = -sum(prob * math.log(prob) for prob, _ in texts)
    chars = sum(prob * len(text) for prob, text in texts)
    assert Grammar(FARM, "day").entropy().nats_per_char == pytest.approx(nats / chars, rel=1e-12)


def test_every_text_is_parsed_with_its_own_probability():
    grammar = Grammar(FARM, "day")
    for prob, text in every_text("day"):
        parsed = grammar.parse("..." + text + "and more", position=3)
        assert parsed.log_prob == pytest.approx(math.log(prob))
        assert parsed.n_chars == len(text)


def test_texts_are_sampled_with_their_probabilities():
    grammar, rng, n = Grammar(FARM, "day"), random.Random(1), 20_000
    counts = Counter(grammar.sample(rng) for _ in range(n))
    for prob, text in every_text("day"):
        assert abs(counts[text] / n - prob) < 5 * math.sqrt(prob * (1 - prob) / n), text


def test_a_symbol_may_contain_itself():
    """Writing "a" repeatedly with probability p costs the entropy of p per character."""
    p = 0.8
    entropy = Grammar({"run": [(p, "a{run}"), (1 - p, "b")]}, "run").entropy()
    assert entropy.nats_per_char == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert entropy.bits_per_char == pytest.approx(-p * math.log2(p) - (1 - p) * math.log2(1 - p))


@pytest.mark.parametrize(
    "rules",
    [
        {"s": [(1, "king"), (1, "kingdom")]},
        {"s": [(1, "{a}."), (1, "{b}.")], "a": [(1, "fox")], "b": [(1, "hen"), (1, "foxes")]},
        {"s": [(1, "fox"), (1, "")]},
        {"s": [(1, "fox"), (1, "fox")]},
    ],
)
def test_ambiguous_alternatives_are_refused(rules: dict[str, Ways]):
    with pytest.raises(ValueError, match="'s' is ambiguous"):
        Grammar(rules, "s")


def test_a_slot_without_a_rule_is_named():
    with pytest.raises(ValueError, match="'beest'"):
        Grammar({"s": [(1, "The {beest} sleeps.")]}, "s")


@pytest.mark.parametrize(
    ("text", "position"),
    [("The cat sleeps.\n", 4), ("The fox sleeps!\n", 14), ("The ", 4), ("", 0)],
)
def test_a_text_outside_the_grammar_is_refused_where_it_deviates(text: str, position: int):
    """The position is where the last expected text begins: ' sleeps' or the full stop."""
    with pytest.raises(CourseError, match=f"at character {position} "):
        Grammar(FARM, "day").parse(text)
