"""Quality and diversity of generated lines, counted: the mock plays are made from known patterns.

    openings = scene_openings(n)            each ends where a speaker is about to say a line
    lines    = sample_lines(model, config, tokenizer, openings, choose)
    score(openings, lines)                  how many are valid, how many are different

A line is valid if it is one of the patterns of utils/playbill.py, such as "O {adj} {noun}, O {adj}
{noun}!", with words of the right kind in its places. Which speaker may use which word is not asked.
A line that the model merely remembers is valid too, so different ones are counted as well.
"""

import functools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from decoding_loop import Choose, generate_tokens
from temperature import apply_temperature, sample
from tokenizer import CharTokenizer
from utils import playbill
from utils.config import ModelConfig
from utils.errors import run_program
from utils.mock_corpus import play_grammar, speakers

LONGEST_OPENING = 96  # characters
LONGEST_LINE = 100
WORD = re.compile(r"[a-z-]+")
PART = re.compile(r"\{(.+?)\}|\$(\w+)")  # {noun}, {a|b|c} or $thou


@dataclass(frozen=True)
class Score:
    """Shares of the lines: those that are valid, different, and both; and of their word pairs."""

    valid: float
    different: float  # different pairs of opening and line, of all
    both: float
    word_pairs: float  # different pairs of neighbouring words, of all; "distinct-2" in the field


def scene_openings(n: int, seed: int = 1) -> list[str]:
    """The beginnings of n different scenes, cut where the second speaker is about to say a line."""
    rng, found = random.Random(seed), []
    while len(found) < n:
        scene = play_grammar().sample(rng)
        first = scene.find(":\n") + 2
        end = scene.find(":\n", first) + 2
        opening = scene[:end]
        if first < end <= LONGEST_OPENING and opening not in found:
            found.append(opening)
    return found


def sample_lines(
    model: nn.Module,
    config: ModelConfig,
    tokenizer: CharTokenizer,
    openings: Sequence[str],
    choose: Choose,
) -> list[str]:
    """The line with which the model continues each opening, without the newline."""
    prompts = [tokenizer.encode(opening) for opening in openings]
    texts = [""] * len(prompts)
    for tokens in generate_tokens(model, config, prompts, LONGEST_LINE, choose):
        pieces = [tokenizer.decode([token]) for token in tokens]
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
        if all("\n" in text for text in texts):
            break
    return [text.partition("\n")[0] for text in texts]


def score(openings: Sequence[str], lines: Sequence[str]) -> Score:
    """Judge the lines, line i after opening i; the same opening may come several times."""
    pairs = list(zip(openings, lines, strict=True))
    valid = [pair for pair in pairs if is_valid(pair[1])]
    two = [pair for line in lines for pair in pairwise(line.split())]
    n = len(pairs)
    return Score(
        len(valid) / n, len(set(pairs)) / n, len(set(valid)) / n, len(set(two)) / max(len(two), 1)
    )


# --- the patterns ---


def is_valid(line: str) -> bool:
    """Whether a line is one of the patterns, with words of the right kind."""
    return any(len(line) in ends(pattern, line, 0) for pattern in patterns())


@functools.cache
def patterns() -> list[tuple[str, ...]]:
    """Each line of the playbill's templates, cut into plain text and {slots}."""
    texts = [*playbill.LINES, *playbill.PLEAS, *playbill.GREETINGS, *playbill.COUPLETS]
    for exchange in playbill.EXCHANGES:
        topics = f"{{{'|'.join(playbill.TOPICS)}}}"
        texts += exchange.replace("$topic", topics).split(" = ")
    lines = [line for text in texts for line in text.split("/") if line]
    lines += [f"Hark, a {{{'|'.join(playbill.NOISES)}}}!"]
    return [tuple(parts_of(line)) for line in lines]


def parts_of(line: str) -> Iterator[str]:
    """Plain text as it is, slots with braces; $thou becomes a slot of its two forms."""
    position = 0
    for slot in PART.finditer(line):
        yield line[position : slot.start()]
        yield slot[0] if slot[1] else f"{{{'|'.join(forms(slot[2]))}}}"
        position = slot.end()
    yield line[position:]


def forms(word: str) -> set[str]:
    """What may stand for "thou" or "Hath" in a template."""
    tables = (playbill.YOU, playbill.THOU, playbill.GREAT, playbill.SMALL)
    found = {table[word.lower()] for table in tables if word.lower() in table}
    return {form.capitalize() for form in found} if word[0].isupper() else found


@functools.cache
def words() -> dict[str, set[str]]:
    """All words of each kind, of all speakers."""
    shared = zip(("noun", "verb", "adj"), playbill.SHARED.split("\n\n"), strict=True)
    kinds = {kind: set(text.split()) for kind, text in shared}
    for speaker in speakers().values():
        for kind in kinds:
            kinds[kind] |= set(speaker.words[kind])
    others = {"the": playbill.DETERMINERS, "must": playbill.MODALS, "adverb": playbill.ADVERBS}
    return kinds | {kind: set(found) for kind, found in others.items()}


@functools.cache
def alternatives(slot: str) -> tuple[str, ...]:
    """What may fill a slot: texts, in which there may be slots again."""
    if slot == "thing":
        return "{noun}", "{adj} {noun}"
    if slot == "do":
        return "{verb}", "{adverb} {verb}"
    if slot in ("place", "call"):
        own = {text for one in speakers().values() for text in one.words[slot]}
        new = [f"{word} {{the}} {{noun}}" for word in playbill.PREPOSITIONS if slot == "place"]
        return *sorted(own), *new
    return tuple(slot.split("|"))


def ends(parts: Sequence[str], line: str, start: int) -> set[int]:
    """Where in the line the parts can end, if they begin at `start`."""
    places = {start}
    for part in parts:
        places = {end for place in places for end in ends_of(part, line, place)}
    return places


def ends_of(part: str, line: str, start: int) -> set[int]:
    """The same for one part: plain text, or one slot."""
    if not part.startswith("{"):
        return {start + len(part)} if line.startswith(part, start) else set()
    slot = part[1:-1]
    if slot in words():
        found = WORD.match(line, start)
        end = found.end() if found else start
        # The word itself, or without the s of a plural, which the pattern then has as plain text.
        return {stop for stop in (end, end - 1) if line[start:stop] in words()[slot]}
    found = (ends(tuple(parts_of(text)), line, start) for text in alternatives(slot))
    return set().union(*found)


def main() -> None:
    """Score lines at a low and at a high temperature."""
    from small_model import load_small_model

    model, tokenizer = load_small_model()
    openings = [opening for opening in scene_openings(2) for _ in range(10)]
    for temperature in (0.3, 1.0, 1.5):
        generator = torch.Generator().manual_seed(0)
        lines = sample_lines(
            model,
            model.config,
            tokenizer,
            openings,
            lambda logits, t=temperature, g=generator: sample(apply_temperature(logits, t), g),
        )
        print(f"temperature {temperature}: {score(openings, lines)}")
        print(f"    {lines[0]}")


if __name__ == "__main__":
    run_program(main)
