"""The two tasks that a model is trained for after pretraining, and how right an answer is.

    Continue    the beginning of a scene; the answer is the next 64 characters
    Follow      [LADY ROSAMUND greets First Sailor]; the answer is what she may say, to the end mark

A task makes prompts, knows true answers, and asks the verifier about a model's. It needs no model.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise, permutations
from typing import Protocol

from post_training.verifier import State, Verifier
from utils.mock_corpus import generate, parse_scenes
from utils.playbill import CASTS
from utils.terminal import labelled

OPEN, CLOSE, END = "[", "]", "|"  # characters that the plays do not use: they mark an instruction
SPECIAL = OPEN + CLOSE + END  # and the end of an answer
VERBS = {"greets": "greeting of {a} to {b}", "tells": "line of {a}", "begs": "plea of {a} to {b}"}
TRAINING, HELD_OUT = 0, 1  # seeds of the plays that prompts are cut from
N_CHARS = 1_200_000  # of such plays; with seed 0 they are what --data mock trains on


@dataclass(frozen=True)
class Prompt:
    """A prompt, what the grammar expects after it, and one answer that is right."""

    text: str
    expects: State
    answer: str


@dataclass(frozen=True)
class Verdict:
    """What the verifier says of an answer."""

    accepted: int  # characters before the first wrong one
    length: int  # characters that were judged
    complete: bool = True  # it is finished: with an end mark, if it needs one, and not too early

    @property
    def is_right(self) -> bool:
        """Whether the grammar accepts every character, and the end."""
        return self.complete and self.accepted == self.length

    @property
    def share(self) -> float:
        """The share of it before the first mistake; a missing end is one more character."""
        return self.accepted / max(self.length, self.accepted + (not self.complete))


class Task(Protocol):
    """What SFT, DPO and GRPO need to know of a task."""

    max_tokens: int  # of an answer
    stop: str  # the character that ends an answer; "" if all have the same length

    def prompts(self, n: int, rng: random.Random) -> list[Prompt]:
        """Draw n prompts."""
        ...

    def judge(self, prompt: Prompt, answer: str) -> Verdict:
        """How right an answer is; the stop character belongs to it."""
        ...


class Continue:
    """Continue a scene: its beginning is shown, 64 to 96 characters; the next 64 are judged.

    From the beginning on, because it says who is on stage: everything that the grammar asks for can
    be known from the prompt.
    """

    stop = ""
    shortest, longest = 64, 96  # prompts

    def __init__(self, length: int = 64, plays: int = TRAINING, n_chars: int = N_CHARS) -> None:
        self.max_tokens = length
        self.verifier = Verifier()
        needed = self.longest + length
        self.scenes = [scene for scene in scenes_of(n_chars, plays) if len(scene) >= needed]

    def prompts(self, n: int, rng: random.Random) -> list[Prompt]:
        """Cut n scenes, all at the same place: a batch of equal lengths is generated faster."""
        cut = rng.randint(self.shortest, self.longest)
        return [self._prompt(scene, cut) for scene in rng.choices(self.scenes, k=n)]

    def _prompt(self, scene: str, cut: int) -> Prompt:
        state, _ = self.verifier.advance(self.verifier.start(), scene[:cut])
        assert state is not None  # the plays follow the grammar
        return Prompt(scene[:cut], state, scene[cut : cut + self.max_tokens])

    def judge(self, prompt: Prompt, answer: str) -> Verdict:
        """How many characters the grammar accepts after the whole scene so far."""
        _, accepted = self.verifier.advance(prompt.expects, answer)
        return Verdict(accepted, len(answer))


class Follow:
    """Follow an instruction: who speaks, to whom, and what for."""

    stop = END

    def __init__(self, max_tokens: int = 88) -> None:
        self.max_tokens = max_tokens  # with the longest instruction, 128 characters are enough
        self.verifier = Verifier()
        self.expected = sorted({self._expects(*each) for each in all_instructions()})

    def prompts(self, n: int, rng: random.Random) -> list[Prompt]:
        """Draw n instructions, each with an answer of the grammar's own."""
        return [self._prompt(*rng.choice(all_instructions()), rng) for _ in range(n)]

    def _prompt(self, a: str, verb: str, b: str, rng: random.Random) -> Prompt:
        symbol, answer = VERBS[verb].format(a=a, b=b), ""
        while not 0 < len(answer) <= self.max_tokens:
            answer = self.verifier.grammar.sample(rng, symbol) + END
        return Prompt(f"{OPEN}{a} {verb} {b}{CLOSE}", self._expects(a, verb, b), answer)

    def _expects(self, a: str, verb: str, b: str) -> State:
        """What an answer to this instruction is, for the verifier."""
        symbol = self.verifier.grammar.symbol(VERBS[verb].format(a=a, b=b))
        return State((symbol, (END, None)), "")

    def judge(self, prompt: Prompt, answer: str) -> Verdict:
        """The grammar must accept every character, and the end mark must come where it ends."""
        _, accepted = self.verifier.advance(prompt.expects, answer)
        too_early = answer[accepted:] == END
        return Verdict(accepted, len(answer), answer.endswith(END) and not too_early)

    def is_followed(self, prompt: Prompt, answer: str) -> bool:
        """Whether an answer does what it was asked for, with mistakes or without.

        It does if no other instruction fits more of it. So "Well met, sirrah, whaat?" is a greeting
        of the fool, and an answer of which nothing fits follows no instruction.
        """
        _, asked = self.verifier.advance(prompt.expects, answer)
        if asked in (0, len(answer)):  # nothing fits, or nothing can fit better
            return asked > 0
        return all(self.verifier.advance(other, answer)[1] <= asked for other in self.expected)


@cache
def all_instructions() -> list[tuple[str, str, str]]:
    """(speaker, verb, listener): every pair that meets somewhere."""
    pairs = {pair for cast in CASTS.values() for pair in permutations(cast, 2)}
    return [(a, verb, b) for a, b in sorted(pairs) for verb in VERBS]


@cache
def scenes_of(n_chars: int, seed: int) -> Sequence[str]:
    """The scenes of the plays with this seed, one by one."""
    text = generate(n_chars, seed)
    lengths = [scene.n_chars for scene in parse_scenes(text)]
    return [text[begin:end] for begin, end in pairwise(accumulate(lengths, initial=0))]


def main() -> None:
    """Show a prompt of each task with a right answer, and what the verifier says of a wrong one."""
    rng = random.Random(0)
    for task in (Continue(n_chars=100_000), Follow()):
        (prompt,) = task.prompts(1, rng)
        wrong = f"{prompt.answer[:20]}#{prompt.answer[21:]}"
        print(labelled("prompt", repr(prompt.text)))
        print(labelled("answer", repr(prompt.answer)))
        print(f"right   {task.judge(prompt, prompt.answer).is_right}")
        verdict = task.judge(prompt, wrong)
        print(labelled("wrong", repr(wrong)))
        print(f"        accepted: {verdict.accepted} of {verdict.length} characters\n")


if __name__ == "__main__":
    run_program(main)
