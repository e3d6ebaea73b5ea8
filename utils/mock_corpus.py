"""A playwright without genius: plays without end, of exactly known entropy.

The plays have Tiny Shakespeare's format and keep to its characters. They come from a grammar.

A grammar is a set of symbols. Each symbol is written in one of several ways, chosen at random; a
way is plain text with `{slots}`, and a slot is another symbol. No text is the opening of two ways
at one choice (checked when a grammar is made), so a reader can always tell which way was taken: a
play has one derivation, and its probability is the product of the probabilities chosen.

For a symbol i, with ways w of probability p(w), the expected surprise h and length l solve

    h(i) = sum_w p(w) (-log p(w) + sum of h over the slots of w)
    l(i) = sum_w p(w) (characters of w + sum of l over the slots of w)

and a play, being scene after independent scene, has an entropy of h(scene) / l(scene) nats per
character: the loss that no model can beat, and that a perfect one would reach.

Grenander 1967, "Syntax-controlled probabilities"; Wetherell 1980, "Probabilistic languages".
"""

import math
import random
import re
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise, permutations
from string import Template

import numpy as np

from utils.errors import CourseError

# ---- what the plays are made of ---------------------------------------------------------------


# Ten speakers: name, rank and what others call them; then their nouns (all take an s), their verbs
# (so do these), their adjectives, and the places they speak of.
PLAYBILL = """\
KING ALDRIC = 5 = my liege|great king|your majesty|royal sir
crown throne realm sceptre banner vassal subject castle kingdom tower traitor decree herald border
command rule govern pardon conquer summon exalt condemn reward humble defend inherit
royal sovereign loyal mighty lawful rebellious ancient golden proud solemn majestic just
in the council chamber|upon the battlements|within the citadel|before the palace gate

QUEEN MAUDE = 5 = my queen|gracious madam|your highness|sovereign lady
rose garden petal orchard thorn root blossom fountain willow arbour sparrow vine meadow bough violet
gather tend plant water shelter prune ripen scatter perfume adorn wither entwine
fair gentle sweet fragrant tender green pale summer blooming silver quiet lovely
beside the fountain|under the willow|among the roses|in the walled garden

DUKE ORMOND = 4 = my lord duke|noble Ormond|my good lord
hound falcon stag forest arrow bow hunter quarry thicket hawk antler trail saddle spur glade stream
chase wound follow track pursue spare capture startle trap outrun corner loose
swift wild fierce wary hidden tawny cunning noble restless keen mossy breathless
in the deep forest|past the old mill|where the stag drinks|by the hunting lodge

LADY ROSAMUND = 4 = sweet lady|fair Rosamund|my lady
heart song lute sigh lover sonnet tear dream glance whisper verse tune promise ribbon chord mirror
adore woo sing charm enchant desire flatter soothe forsake remember praise treasure
constant trembling secret rapt blushing faithful wistful dear melting lonely tuneful shy
beneath my window|in the music room|on the moonlit stair|behind the tapestry

CAPTAIN BRAND = 3 = good captain|brave Brand|stout soldier
soldier lance shield drum cannon siege regiment helmet spear rampart foe battle sentinel gauntlet
guard defeat assault besiege shatter storm resist strike disarm repel muster avenge
bloody iron valiant stubborn bold grim scarlet unbroken hardy ruthless battered dreadful
upon the field|behind the rampart|at the northern pass|inside my tent

FRIAR ANSELM = 3 = holy father|good friar|reverend Anselm
soul prayer angel sin altar candle saint psalm relic blessing penance pilgrim chapel sermon grave
forgive absolve redeem hallow save mourn comfort anoint deliver heal judge chasten
holy humble blessed eternal penitent meek divine sacred mortal contrite merciful patient
before the altar|in the quiet cloister|among the graves|under the chapel floor

First Sailor = 2 = honest sailor|good fellow|old salt
ship wave anchor sail tempest mast oar harbour tide gull rudder reef rope pilot island lantern
steer drown haul moor swallow batter wreck hoist float rock salvage tow
salt stormy foaming northern drowned tattered windy briny roaring weary barnacled deep
below the deck|beyond the reef|across the bay|atop the mast

Merchant = 2 = worthy merchant|good master|careful sir
coin purse ledger debt bargain barrel silk spice ducat wagon scale profit creditor bale market
buy sell weigh borrow barter count lend trade measure insure hoard squander
costly cheap honest weighty foreign counterfeit precious thrifty scarce bankrupt gilded dry
in my strongbox|at the market cross|under the counter|aboard the barge

Nurse = 1 = good nurse|dear old mother|kind gossip
cradle kettle blanket babe apron spoon pillow supper hearth needle stocking broth thimble cupboard
feed mend stir scold coddle swaddle knead warm scrub boil sweeten darn
cosy drowsy plump hungry naughty buttered motherly woollen hot clean sleepy little
by the hearth|in the linen chest|under the cradle|behind the kettle

Fool = 0 = good fool|sirrah|merry rogue
donkey riddle pudding bauble jest nose cuckoo owl herring monkey fiddle cabbage onion turnip goblin
tickle juggle mock bite outwit tease gobble mimic nibble befuddle kick bewilder
merry foolish upside-down crooked silly hairy tipsy pickled mad wooden ridiculous lopsided
up my sleeve|inside a pudding|on the moon|down the well
"""
# What all of them say, as often as words of their own: nouns, verbs, adjectives.
SHARED = """\
hand eye face voice word deed thought hope fear grief joy vow lie truth name friend father cousin
neighbour servant prince beggar thief widow orphan ghost house door window wall road bridge river
mountain valley cloud star moon dawn evening winter spring season year hour moment morning journey
fire flame ember stone rock feather wing lion serpent lamb raven bread table bed chair cloak glove
mantle ladder bone limb finger shoulder fever slumber burden fault quarrel cause reason custom
fortune fate doom wonder game wager prize gift

love see know hear find keep leave break hold lift fear trust doubt hate honour obey serve help lose
win bring take give call name greet meet hurt burn cover hide open close bind cut draw pull turn
move raise lower change waste need want believe ignore question answer deceive protect destroy
abandon

good bad great small old young long short high low dark white black red grey blue cold fresh rich
poor brave wise weak strong sick sound happy angry sorry true false free heavy light quick slow soft
sharp blunt thin empty full bitter sour bare blind dumb rough smooth strange common noisy idle vain
rude guilty innocent kindly cruel distant
"""
CASTS = {
    "court": ("KING ALDRIC", "QUEEN MAUDE", "DUKE ORMOND"),
    "garden": ("QUEEN MAUDE", "LADY ROSAMUND", "Nurse"),
    "quay": ("CAPTAIN BRAND", "First Sailor", "Merchant"),
    "camp": ("KING ALDRIC", "FRIAR ANSELM", "CAPTAIN BRAND"),
    "market": ("Merchant", "DUKE ORMOND", "Fool"),
    "shore": ("LADY ROSAMUND", "First Sailor"),
    "kitchen": ("Nurse", "Fool"),
    "chapel": ("FRIAR ANSELM", "LADY ROSAMUND", "Nurse"),
    "forest": ("DUKE ORMOND", "CAPTAIN BRAND"),
    "hall": ("KING ALDRIC", "Fool"),
}
# One says you to equals and betters, thou to those below; the great say doth, the small say does.
PRONOUNS = "thou art hast thy thee dost didst"
YOU = dict(zip(PRONOUNS.split(), ["you", "are", "have", "your", "you", "do", "did"], strict=True))
THOU = {word: word for word in YOU}
GREAT, SMALL = {"hath": "hath", "doth": "doth"}, {"hath": "has", "doth": "does"}
GREAT_RANK = 3

# In what follows {noun}, {verb}, {adj} and {place} are the speaker's own, {call} is what the one
# spoken to is called, {a|b|c} is one of three, $words are those just above, and / is a new line.
LINES = """\
The {adj} {noun} $doth {verb} the {noun};
My {noun} is {adj}, and my {noun} is {adj}.
I did {verb} the {noun} {place}.
O {adj} {noun}, O {adj} {noun}!
If the {noun} be {adj}, then let the {noun}/Go {verb} the {adj} {noun}s {place}.
And who shall {verb} the {noun}, shall {verb} the {noun}.
But every {noun} must {verb} some {adj} {noun},
No {noun} so {adj} but $hath lost the {noun}.
What {adj} {noun}s do {verb} us {place}!
While {noun}s grow {adj}, {noun}s grow {adj} too.
I shall {verb} this {adj} {noun} {place},/And {verb} the {noun} that would {verb} the {noun}.
For I have seen the {noun} {verb} the {noun},
Let {adj} {noun}s {verb} what {noun}s they can,
There stands the {noun}, {adj} as the {noun}:
Yet {adj} is the {noun}, and {adj} the {noun},/That $hath no {noun} to {verb} it {place}.
This {noun}, this {adj} {noun}, this {noun} of mine,
So {adj} were the {noun}s {place}
How many {noun}s have I seen {verb} the {noun}!
Now {adj}, now {adj}, goes the {noun} {place};
Some say the {noun} $doth {verb} us; I say the {noun}.
Nor {noun} nor {noun} shall {verb} the {adj} {noun}.
As {adj} as the {noun} that {verb}s the {noun},/So {adj} is the {noun} I would {verb}.
Though {noun}s {verb} {noun}s, the {noun} is {adj}.
These {adj} {noun}s would {verb} the very {noun}!
Would that the {noun} were {adj}, and I {place}!
Until the {noun} $doth {verb} the {noun} once more,
Not all the {noun}s {place}/Could {verb} the {noun}, nor make the {noun} less {adj}.
Once was the {noun} {adj}; once I was {adj}.
""".splitlines()
PLEAS = """\
I know $thee, {call}; $thou $dost {verb} the {noun}.
$Thou $art as {adj} as the {noun}, {call}.
Hear me, {call}: $thy {noun} is {adj}.
Believe me, {call}, I would {verb} $thy {noun}.
Give me $thy hand; $thou $hast been {adj} to me, {call}.
Alas, {call}, the {noun} will {verb} $thee {place}.
Speak not of {noun}s, {call}, lest they {verb} $thee.
$Thy {noun}, {call}, $hath met my {noun} {place}.
""".splitlines()
GREETINGS = """\
Good morrow, {call}; the {noun} is {adj}.
Well met, {call}: $thou $art {adj} to-day.
God save $thee, {call}, from every {adj} {noun}.
Welcome, {call}; $thou $hast come {place}.
""".splitlines()
TOPICS = ["letter", "ring", "key", "casket", "map", "horse"]
EXCHANGES = """\
Where is the $topic, {call}? = The $topic is {place}.
Who $hath the $topic, {call}? = {The king|My brother|A beggar|No man} $hath the $topic.
When shall I see the $topic, {call}? = {At dawn|To-night|On Sunday} I will show $thee the $topic.
Why $didst $thou hide the $topic, {call}? = I hid the $topic to {verb} the {noun}.
$Hast $thou my $topic, {call}? = {Ay|Nay|Not I|In truth}, I had $thy $topic {place}.
Bring me the $topic, {call}. = I go to bring $thee the $topic.
""".splitlines()
NOISES = ["trumpet", "bell", "shout", "thunderclap", "drum"]
COUPLETS = """\
Thus falls the {noun} at the close of {day|play|May},/And {adj} {noun}s steal away like {hay|clay}.
Here ends the {adj} {noun} in the {night|fight},/And {noun}s {verb} what once was {bright|light}.
Come, let the {noun} have its {sleep|sweep}:/The {noun}s are {adj}, and the well is {deep|steep}.
Away, away, the {noun} seeks the {shore|door}:/The {adj} {noun}s shall {verb} us no {more|war}.
Then fare you well, and be the {noun} {found|crowned}/Before the {adj} {noun} runs {aground|around}.
""".splitlines()

# ---- grammars in general ----------------------------------------------------------------------

Ways = Sequence[tuple[float, str]]  # (weight, template) of each way to write a symbol
SLOT = re.compile(r"\{(.+?)\}")


@dataclass(frozen=True)
class Entropy:
    """How surprising a character is, on average, to one who knows the grammar."""

    nats_per_char: float

    @property
    def bits_per_char(self) -> float:
        """The same in bits: nats divided by the logarithm of 2."""
        return self.nats_per_char / math.log(2)


@dataclass(frozen=True)
class Parsed:
    """One reading of the start symbol: its log-probability in nats and its length in characters."""

    log_prob: float
    n_chars: int


class Grammar:
    """A set of symbols, each with its ways to be written; see the head of this file.

    Raises ValueError if a slot has no rule, or if two ways at one choice may begin alike.
    """

    def __init__(self, rules: Mapping[str, Ways], start: str) -> None:
        self._names = list(rules)
        number = {name: i for i, name in enumerate(rules)}
        self._start = number[start]
        self._ways = [[_split(text, number) for _, text in ways] for ways in rules.values()]
        weights = [[weight for weight, _ in ways] for ways in rules.values()]
        self._probs = [[weight / math.fsum(row) for weight in row] for row in weights]
        self._cumulative = [list(accumulate(row)) for row in self._probs]
        self._openings: dict[int, list[tuple[str, int]]] = {}  # of each symbol: (text, which way)
        for symbol in range(len(self._ways)):
            self._check_openings(symbol)

    def sample(self, rng: random.Random) -> str:
        """Write the start symbol once, choosing at random."""
        written: list[str] = []
        pending: list[str | int] = [self._start]  # what is still to be written, last first
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
        """Read the start symbol once from `position`, finding the way taken at each choice.

        Raises CourseError at the first character that the grammar could not have written.
        """
        begin, log_prob = position, 0.0
        pending: list[str | int] = [self._start]
        while pending:
            part = pending.pop()
            if isinstance(part, int):
                way = self._recognise(part, text, position)
                log_prob += math.log(self._probs[part][way])
                pending.extend(reversed(self._ways[part][way]))
            elif text.startswith(part, position):
                position += len(part)
            else:
                raise _foreign(text, position, f"{part!r}")
        return Parsed(log_prob, position - begin)

    def entropy(self) -> Entropy:
        """Solve for the expected surprise and length of the start symbol; return their ratio."""
        n = len(self._ways)
        slots = np.zeros((n, n))  # slots[i, j]: how many j one i is expected to hold
        own = np.zeros((n, 2))  # nats and characters of i itself, its slots left out
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

    def _recognise(self, symbol: int, text: str, position: int) -> int:
        for opening, way in self._openings[symbol]:
            if text.startswith(opening, position):
                return way
        raise _foreign(text, position, f"a {self._names[symbol]!r}")

    def _openings_of(self, symbol: int) -> list[tuple[str, int]]:
        """With what each way begins: its first plain text, or the openings of its first slot."""
        if symbol not in self._openings:
            self._openings[symbol] = [
                (opening, way)
                for way, parts in enumerate(self._ways[symbol])
                for opening in self._begin(parts)
            ]
        return self._openings[symbol]

    def _begin(self, parts: Sequence[str | int]) -> list[str]:
        if not parts or isinstance(parts[0], str):
            return [parts[0] if parts else ""]  # type: ignore[list-item]
        return [opening for opening, _ in self._openings_of(parts[0])]

    def _check_openings(self, symbol: int) -> None:
        """In sorted order a text that begins another stands right before one that it begins."""
        for (first, way), (second, other) in pairwise(sorted(self._openings_of(symbol))):
            if way != other and second.startswith(first):
                name = self._names[symbol]
                raise ValueError(f"{name!r} is ambiguous: {first!r} also begins {second!r}")


def _split(template: str, number: Mapping[str, int]) -> tuple[str | int, ...]:
    """Cut "The {noun} is" into "The ", the number of the symbol noun, and " is"."""
    parts: list[str | int] = []
    for i, piece in enumerate(SLOT.split(template)):  # plain text and slots take turns
        if i % 2 and piece not in number:
            raise ValueError(f"the slot {piece!r} in {template!r} has no rule")
        if piece:
            parts.append(number[piece] if i % 2 else piece)
    return tuple(parts)


def _foreign(text: str, position: int, expected: str) -> CourseError:
    found = text[position : position + 20]
    return CourseError(f"at character {position} the grammar expects {expected}, not {found!r}")


# ---- the grammar of plays ---------------------------------------------------------------------


def generate(n_chars: int = 1_200_000, seed: int = 0) -> str:
    """Write whole scenes until there are at least `n_chars` characters; the same for one seed."""
    rng, scenes, length = random.Random(seed), [], 0
    while length < n_chars:
        scenes.append(play_grammar().sample(rng))
        length += len(scenes[-1])
    return "".join(scenes)


def entropy_rate() -> Entropy:
    """Return the exact entropy of the plays that `generate` writes."""
    return play_grammar().entropy()


def parse_scenes(text: str) -> list[Parsed]:
    """Read a play scene by scene. Raises CourseError where it is not one of ours."""
    scenes, position = [], 0
    while position < len(text):
        scenes.append(play_grammar().parse(text, position))
        position += scenes[-1].n_chars
    return scenes


def parse_log_prob(text: str) -> float:
    """Return the log-probability of a play in nats, found by parsing it."""
    return math.fsum(scene.log_prob for scene in parse_scenes(text))


@dataclass(frozen=True)
class Speaker:
    """One character of the playbill: a rank, and for each slot (noun, verb ...) its words."""

    rank: int
    words: dict[str, list[str]]


@cache
def speakers() -> dict[str, Speaker]:
    """Read the playbill."""
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
    """Assemble the grammar of plays; its start symbol is one scene."""
    rules: dict[str, Ways] = {"scene": zipf(_enter(place) for place in CASTS)}
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
    """Weigh texts as words are in nature: the k-th is 1/k as frequent as the first."""
    texts = list(texts)
    harmonic = math.fsum(1 / k for k in range(1, len(texts) + 1))
    return [(total / k / harmonic, text) for k, text in enumerate(texts, start=1)]


def _words_of(name: str) -> dict[str, Ways]:
    """Return the words of one speaker, and their lines, of which each has other favourites."""
    first = 3 * list(speakers()).index(name) % len(LINES)
    lines = LINES[first:] + LINES[:first]
    return {
        **{f"{slot} of {name}": zipf(words) for slot, words in speakers()[name].words.items()},
        f"line of {name}": zipf(_say(line, name) for line in lines),
        f"couplet of {name}": zipf(_say(couplet, name) for couplet in COUPLETS),
    }


def _turns(place: str, a: str, b: str) -> dict[str, Ways]:
    """Return how `a` speaks when `b` spoke last: line upon line, until it is another's turn."""
    here = f"{a} to {b} at {place}"
    line, plea = f"{{line of {a}}}{{more of {here}}}", f"{{plea of {a} to {b}}}{{more of {here}}}"
    others = [b, *(c for c in CASTS[place] if c not in (a, b))]  # b is the likeliest to reply
    return {
        f"greeting of {a} to {b}": zipf(_say(text, a, b) for text in GREETINGS),
        f"plea of {a} to {b}": zipf(_say(text, a, b) for text in PLEAS),
        f"speech of {here}": [(3, line), (1, plea)],
        f"more of {here}": [
            (0.50, line),
            (0.12, plea),
            *zipf((f"\n{c}:\n{{speech of {c} to {a} at {place}}}" for c in others), 0.2),
            *zipf(_exchanges(place, a, b), 0.12),
            *zipf((_interrupt(noise, place, a, b) for noise in NOISES), 0.02),
            (0.02, f"{{couplet of {a}}}\nExeunt.\n\n"),
            (0.02, "\nExeunt.\n\n"),
        ],
    }


def _enter(place: str) -> str:
    *others, last = CASTS[place]
    return f"Enter {', '.join(others)} and {last}.\n\n{{greeting at {place}}}"


def _greet(place: str, a: str, b: str) -> str:
    return f"{a}:\n{{greeting of {a} to {b}}}{{more of {a} to {b} at {place}}}"


def _exchanges(place: str, a: str, b: str) -> list[str]:
    """Return every question that `a` may put to `b`, each with the answer it gets."""
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
    """Put a template into the mouth of `a`, who speaks to `b` or to nobody in particular."""
    rank = speakers()[a].rank
    forms = THOU if b and rank > speakers()[b].rank else YOU
    forms = forms | (GREAT if rank >= GREAT_RANK else SMALL)
    forms |= {word.capitalize(): form.capitalize() for word, form in forms.items()}
    text = Template(template).substitute(forms).replace("{call}", f"{{call of {b}}}")
    text = re.sub(r"\{(noun|verb|adj|place)\}", rf"{{\1 of {a}}}", text)
    return text.replace("/", "\n") + "\n"
