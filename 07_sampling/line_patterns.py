"""The patterns of the mock plays' lines, with which a generated line can be judged.

    is_valid("O young ladder, O lovely blossom!")     True: "O {adj} {noun}, O {adj} {noun}!"
    is_valid("O young lovely, O ladder blossom!")     False

A line is valid if it is one of the templates of utils/playbill.py, with words of the right kind in
its places. Which speaker may use which word is not asked.
"""

import functools
import re
from collections.abc import Iterator, Sequence

from utils import playbill
from utils.errors import run_program
from utils.mock_corpus import generate, speakers

WORD = re.compile(r"[a-z-]+")
PART = re.compile(r"\{(.+?)\}|\$(\w+)")  # {noun}, {a|b|c} or $thou


def is_valid(line: str) -> bool:
    """Whether a line is one of the patterns, with words of the right kind."""
    # A pattern fits if it can end where the line does: nothing may be left over.
    return any(len(line) in ends(pattern, line, 0) for pattern in patterns())


@functools.cache
def patterns() -> list[tuple[str, ...]]:
    """Each line of the playbill's templates, cut into plain text and {slots}."""
    texts = [*playbill.LINES, *playbill.PLEAS, *playbill.GREETINGS, *playbill.COUPLETS]
    for exchange in playbill.EXCHANGES:
        topics = f"{{{'|'.join(playbill.TOPICS)}}}"  # any topic: which one was asked is not known
        # A question and its answer are two lines, of two speakers.
        texts += exchange.replace("$topic", topics).split(" = ")
    lines = [line for text in texts for line in text.split("/") if line]  # "/": a couplet has two
    # The grammar itself writes this one, where a noise interrupts a speech.
    lines += [f"Hark, a {{{'|'.join(playbill.NOISES)}}}!"]
    return [tuple(parts_of(line)) for line in lines]


def parts_of(line: str) -> Iterator[str]:
    """Plain text as it is, slots with braces; $thou becomes a slot of its two forms."""
    position = 0  # where the plain text before the next slot begins
    for slot in PART.finditer(line):
        yield line[position : slot.start()]
        # Whether the listener is a "thou" or a "you" is not asked: both forms fit.
        yield slot[0] if slot[1] else f"{{{'|'.join(forms(slot[2]))}}}"
        position = slot.end()
    yield line[position:]


def forms(word: str) -> set[str]:
    """What may stand for "thou" or "Hath" in a template."""
    tables = (playbill.YOU, playbill.THOU, playbill.GREAT, playbill.SMALL)
    found = {form for table in tables for key, form in table.items() if key == word.lower()}
    # $Hast begins a sentence, and so do its forms.
    return {form.capitalize() for form in found} if word[0].isupper() else found


@functools.cache
def words() -> dict[str, set[str]]:
    """All words of each kind, of all speakers."""
    shared = zip(("noun", "verb", "adj"), playbill.SHARED.split("\n\n"), strict=True)
    kinds: dict[str, set[str]] = {kind: set(text.split()) for kind, text in shared}
    for speaker in speakers().values():
        for kind in kinds:
            kinds[kind] |= set(speaker.words[kind])  # the speaker's own words, beside the shared
    others = {"the": playbill.DETERMINERS, "must": playbill.MODALS, "adverb": playbill.ADVERBS}
    return kinds | {kind: set(found) for kind, found in others.items()}


@functools.cache
def alternatives(slot: str) -> tuple[str, ...]:
    """What may fill a slot: texts, in which there may be slots again."""
    if slot == "thing":  # a rule of a grammar: its slots are filled in turn, by `ends_of`
        return "{noun}", "{adj} {noun}"
    if slot == "do":
        return "{verb}", "{adverb} {verb}"
    if slot in ("place", "call"):
        own = {text for one in speakers().values() for text in one.words[slot]}
        new = [f"{word} {{the}} {{noun}}" for word in playbill.PREPOSITIONS if slot == "place"]
        return *sorted(own), *new
    return tuple(slot.split("|"))  # {day|play|May}: the words themselves


def ends(parts: Sequence[str], line: str, start: int) -> set[int]:
    """Where in the line the parts can end, if they begin at `start`."""
    # A set, because a slot can end in several places: a thing is "{noun}" or "{adj} {noun}". All of
    # them are followed at once, so there is no going back.
    places = {start}
    for part in parts:
        places = {end for place in places for end in ends_of(part, line, place)}
    return places


def ends_of(part: str, line: str, start: int) -> set[int]:
    """The same for one part: plain text, or one slot."""
    if not part.startswith("{"):
        return {start + len(part)} if line.startswith(part, start) else set()
    slot = part[1:-1]  # without the braces
    if slot in words():
        found = WORD.match(line, start)  # as many letters as there are: no word is cut in two
        end = found.end() if found else start
        # The word itself, or without the s of a plural, which the pattern then has as plain text.
        return {stop for stop in (end, end - 1) if line[start:stop] in words()[slot]}
    # What fills the slot may have slots of its own: `ends` again, one level deeper.
    found = (ends(tuple(parts_of(text)), line, start) for text in alternatives(slot))
    return set().union(*found)


def main() -> None:
    """Judge a few lines of a play, and the same lines with one letter changed."""
    for line in [line for line in generate(2000).splitlines() if is_valid(line)][:4]:
        changed = line.replace("e", "a", 1)  # a misspelled word
        print(f"{is_valid(line)!s:<6}{line}\n{is_valid(changed)!s:<6}{changed}")


if __name__ == "__main__":
    run_program(main)
