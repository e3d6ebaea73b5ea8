"""The mock corpus: endless plays from a grammar, whose entropy is known exactly.

The plays have the format of Tiny Shakespeare and use only its 65 characters. A scene opens with the
list of who enters. Each speaker has words, favourite lines and forms of address of their own, says
"thou" to inferiors and "you" to everyone else, answers questions, and may end the scene with a
rhyme.

All of it is one grammar (utils/grammar.py), built from the words and templates of
utils/playbill.py. So `entropy_rate()` is exact: in the long run no model can have a lower loss on
these plays, and a model that has learned the grammar reaches it.
"""

import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from string import Template

from utils.errors import run_program
from utils.grammar import SLOT, Entropy, Grammar, Parsed, Ways
from utils.playbill import (
    ADVERBS,
    CASTS,
    COUPLETS,
    DETERMINERS,
    EXCHANGES,
    GREAT,
    GREAT_RANK,
    GREETINGS,
    LINES,
    MODALS,
    NOISES,
    PLAYBILL,
    PLEAS,
    PREPOSITIONS,
    SHARED,
    SMALL,
    THOU,
    TOPICS,
    YOU,
)


def generate(n_chars: int = 1_200_000, seed: int = 0) -> str:
    """Write whole scenes until there are at least `n_chars` characters, set by the seed."""
    rng, scenes, length = random.Random(seed), [], 0
    while length < n_chars:
        scenes.append(play_grammar().sample(rng))
        length += len(scenes[-1])
    return "".join(scenes)


def entropy_rate() -> Entropy:
    """The exact entropy of the plays that `generate` writes."""
    return play_grammar().entropy()


def parse_scenes(text: str) -> list[Parsed]:
    """Parse a play scene by scene. Raises CourseError where it does not follow the grammar."""
    scenes, position = [], 0
    while position < len(text):
        scenes.append(play_grammar().parse(text, position))
        position += scenes[-1].n_chars
    return scenes


def parse_log_prob(text: str) -> float:
    """The log-probability of a play in nats, computed by parsing it."""
    return math.fsum(scene.log_prob for scene in parse_scenes(text))


@dataclass(frozen=True)
class Speaker:
    """A speaker of the playbill: a rank, and the words for each slot (noun, verb ...)."""

    rank: int
    words: Mapping[str, Sequence[str]]


@cache
def speakers() -> dict[str, Speaker]:
    """The speakers of the playbill, by name."""
    cast = {}
    for block in PLAYBILL.split("\n\n"):
        head, nouns, verbs, adjectives, places = block.splitlines()
        name, rank, called = head.split(" = ")
        words = {"noun": nouns.split(), "verb": verbs.split(), "adj": adjectives.split()}
        words |= {"place": places.split("|"), "call": called.split("|")}
        cast[name] = Speaker(int(rank), words)
    return cast


@cache
def play_grammar() -> Grammar:
    """Build the grammar of plays; its start symbol is one scene."""
    rules: dict[str, Ways] = {
        "scene": zipf(_enter(place) for place in CASTS),
        "the": zipf(DETERMINERS),
        "must": zipf(MODALS),
    }
    for name in speakers():
        rules |= _words_of(name)
    for place, cast in CASTS.items():
        around = zip(cast, (*cast[1:], cast[0]), strict=True)  # each greets the next
        rules[f"greeting at {place}"] = zipf(_greet(place, a, b) for a, b in around)
        for a, b in permutations(cast, 2):
            rules |= _turns(place, a, b)
    texts = [text for ways in rules.values() for _, text in ways]
    slots = {slot for text in texts for slot in SLOT.findall(text) if "|" in slot}
    rules |= {slot: zipf(slot.split("|")) for slot in sorted(slots)}
    return Grammar(rules, "scene")


def zipf(texts: Iterable[str], total: float = 1.0) -> Ways:
    """Distribute a weight of `total` by Zipf's law: the k-th text gets a share of 1 / (k + 8).

    The 8 is Mandelbrot's correction for the most frequent words (1953).
    """
    texts = list(texts)
    shares = [1 / (k + 8) for k in range(1, len(texts) + 1)]
    whole = math.fsum(shares)
    return [(total * share / whole, text) for share, text in zip(shares, texts, strict=True)]


def _words_of(name: str) -> dict[str, Ways]:
    """The words and lines of one speaker; each speaker prefers different lines."""
    own = speakers()[name].words
    shared = zip(("noun", "verb", "adj"), SHARED.split("\n\n"), strict=True)
    first = 3 * list(speakers()).index(name) % len(LINES)
    lines = LINES[first:] + LINES[:first]
    noun, verb = f"{{noun of {name}}}", f"{{verb of {name}}}"
    return {
        **{
            f"{slot} of {name}": [*zipf(own[slot], 0.4), *zipf(words.split(), 0.6)]
            for slot, words in shared
        },
        f"place of {name}": [
            *zipf(own["place"]),
            *zipf(f"{word} {{the}} {noun}" for word in PREPOSITIONS),
        ],
        f"call of {name}": zipf(own["call"]),
        f"thing of {name}": [(3, noun), (2, f"{{adj of {name}}} {noun}")],
        f"do of {name}": [(3, verb), *zipf((f"{adverb} {verb}" for adverb in ADVERBS), 2)],
        f"line of {name}": zipf(_say(line, name) for line in lines),
        f"couplet of {name}": zipf(_say(couplet, name) for couplet in COUPLETS),
    }


def _turns(place: str, a: str, b: str) -> dict[str, Ways]:
    """The speeches of `a` after `b` has spoken: line after line, until another speaker replies."""
    here = f"{a} to {b} at {place}"
    line, plea = f"{{line of {a}}}{{more of {here}}}", f"{{plea of {a} to {b}}}{{more of {here}}}"
    others = [b, *(c for c in CASTS[place] if c not in (a, b))]  # b is the likeliest to reply
    return {
        f"greeting of {a} to {b}": zipf(_say(text, a, b) for text in GREETINGS),
        f"plea of {a} to {b}": zipf(_say(text, a, b) for text in PLEAS),
        f"speech of {here}": [(4, line), (1, plea)],
        f"more of {here}": [
            (0.70, line),
            (0.06, plea),
            *zipf((f"\n{c}:\n{{speech of {c} to {a} at {place}}}" for c in others), 0.18),
            *zipf(_exchanges(place, a, b), 0.04),
            *zipf((_interrupt(noise, place, a, b) for noise in NOISES), 0.01),
            (0.01, f"{{couplet of {a}}}\nExeunt.\n\n"),
            (0.01, "\nExeunt.\n\n"),
        ],
    }


def _enter(place: str) -> str:
    *others, last = CASTS[place]
    return f"Enter {', '.join(others)} and {last}.\n\n{{greeting at {place}}}"


def _greet(place: str, a: str, b: str) -> str:
    return f"{a}:\n{{greeting of {a} to {b}}}{{more of {a} to {b} at {place}}}"


def _exchanges(place: str, a: str, b: str) -> list[str]:
    """Every question that `a` may ask `b`, with the answer."""
    texts = []
    for exchange in EXCHANGES:
        for topic in TOPICS:
            question, answer = exchange.replace("$topic", topic).split(" = ")
            reply = f"\n{b}:\n{_say(answer, b, a)}{{more of {b} to {a} at {place}}}"
            texts.append(_say(question, a, b) + reply)
    return texts


def _interrupt(noise: str, place: str, a: str, b: str) -> str:
    return f"\nA {noise} within.\n\n{b}:\nHark, a {noise}!\n{{more of {b} to {a} at {place}}}"


def _say(template: str, a: str, b: str | None = None) -> str:
    """Fill a template with the words of `a`, who speaks to `b` or to no one in particular."""
    rank = speakers()[a].rank
    forms = THOU if b and rank > speakers()[b].rank else YOU
    forms = forms | (GREAT if rank >= GREAT_RANK else SMALL)
    forms |= {word.capitalize(): form.capitalize() for word, form in forms.items()}
    text = Template(template).substitute(forms).replace("{call}", f"{{call of {b}}}")
    text = re.sub(r"\{(thing|noun|do|verb|adj|place)\}", rf"{{\1 of {a}}}", text)
    return text.replace("/", "\n") + "\n"


def main() -> None:
    """Print the opening of a play, and the entropy of such plays."""
    print(generate(1)[:900])
    print(f"... entropy: {entropy_rate().bits_per_char:.4f} bits per character")


if __name__ == "__main__":
    run_program(main)
