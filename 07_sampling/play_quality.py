"""Quality and diversity of generated lines, counted.

    openings = scene_openings(n)            each ends where a speaker is about to say a line
    lines    = sample_lines(model, config, tokenizer, openings, choose)
    score(openings, lines)                  how many are valid, how many are different

line_patterns.py says when a line is valid. One that the model merely remembers is valid too, so
different ones are counted as well.
"""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from decoding_loop import Choose, generate_tokens
from line_patterns import is_valid
from temperature import apply_temperature, sample
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.errors import run_program
from utils.mock_corpus import play_grammar, speakers

LONGEST_OPENING = 120  # characters; the small model sees 128
LONGEST_LINE = 100


@dataclass(frozen=True)
class Score:
    """Shares of the lines: those that are valid, different, and both; and of their word pairs."""

    valid: float
    different: float  # different pairs of opening and line, of all
    both: float
    word_pairs: float  # different pairs of neighbouring words, of all; "distinct-2" in the field


def scenes(seed: int) -> Iterator[tuple[str, str]]:
    """Endless scenes, each cut where its second speaker is about to say a line."""
    rng = random.Random(seed)
    # A speech begins with its speaker's name, a colon and a newline.
    header = re.compile(rf"^(?:{'|'.join(speakers())}):\n", re.MULTILINE)
    while True:
        scene = play_grammar().sample(rng)
        ends = [found.end() for found in header.finditer(scene)]
        if len(ends) > 1:  # the second speaker has a speech to answer
            yield scene[: ends[1]], scene[ends[1] :]


def scene_openings(n: int, seed: int = 1) -> list[str]:
    """The beginnings of n different scenes."""
    found: list[str] = []
    for opening, _ in scenes(seed):
        if len(opening) <= LONGEST_OPENING and opening not in found:
            found.append(opening)
        if len(found) == n:
            break
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
        # tokens (B,): one character of each row, which therefore can be decoded alone.
        pieces = [tokenizer.decode([token]) for token in tokens]
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
        # A batch ends together: a row whose line was done earlier has written more, to be cut off.
        if all("\n" in text for text in texts):
            break
    return [text.partition("\n")[0] for text in texts]


def written_lines(n: int, seed: int = 1) -> list[str]:
    """The lines that the plays themselves have in such places."""
    return [rest.partition("\n")[0] for _, rest in itertools.islice(scenes(seed), n)]


def score(openings: Sequence[str], lines: Sequence[str]) -> Score:
    """Judge the lines, line i after opening i; the same opening may come several times."""
    # With its opening: the same line after another opening is not a repetition.
    pairs = list(zip(openings, lines, strict=True))
    valid = [pair for pair in pairs if is_valid(pair[1])]
    # Neighbours within a line, never the end of one and the beginning of the next.
    two = [pair for line in lines for pair in itertools.pairwise(line.split())]
    n = len(pairs)
    return Score(
        valid=len(valid) / n,
        different=len(set(pairs)) / n,
        both=len(set(valid)) / n,  # what neither nonsense nor a single remembered line can raise
        word_pairs=len(set(two)) / max(len(two), 1),  # lines of one word have no pairs
    )


def main() -> None:
    """Score lines at a low and at a high temperature."""
    from small_model import load_small_model

    model, tokenizer = load_small_model()
    # Ten lines for each: without repeated openings there would be nothing to repeat.
    openings = [opening for opening in scene_openings(2) for _ in range(10)]
    for temperature in (0.3, 1.0, 1.5):
        generator = torch.Generator().manual_seed(0)
        lines = sample_lines(
            model,
            model.config,
            tokenizer,
            openings,
            # As defaults, t and g keep the values of this round of the loop.
            lambda logits, t=temperature, g=generator: sample(apply_temperature(logits, t), g),
        )
        found = score(openings, lines)
        said = f"{found.valid:.2f} valid, {found.different:.2f} different"
        print(
            f"temperature {temperature}: {said}, {found.word_pairs:.2f} of the word pairs different"
        )
        print(f"    {lines[0]}")


if __name__ == "__main__":
    run_program(main)
