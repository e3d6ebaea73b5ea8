"""Quality and diversity of sampled lines, counted: the grammar of the mock plays judges each line.

    openings = scene_openings(n)            each ends where a speaker is about to say a line
    lines    = sample_lines(model, config, tokenizer, openings, choose)
    score(openings, lines)                  how many are valid, how many are different

A line is valid if some play of the grammar begins with its opening and this line. So the words, the
form of address, and who may say what are all checked; a line that the model merely remembers counts
as valid too, which is why the different ones are counted as well.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from decoding_loop import Choose, generate_tokens
from temperature import apply_temperature, sample
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.errors import run_program
from utils.mock_corpus import play_grammar, valid_length

LONGEST_OPENING = 96  # characters; the line then fits into the context too
LONGEST_LINE = 100


@dataclass(frozen=True)
class Score:
    """Shares of the sampled lines, and the number of different valid ones."""

    valid: float  # lines that the grammar allows
    distinct: float  # different lines, of all
    distinct_valid: int  # different lines that are valid


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
        texts = [
            text + tokenizer.decode([token]) for text, token in zip(texts, tokens, strict=True)
        ]
        if all("\n" in text for text in texts):
            break
    return [text.partition("\n")[0] for text in texts]


def is_valid(opening: str, line: str) -> bool:
    """Whether a play can begin with the opening and this line."""
    text = opening + line + "\n"
    return valid_length(text) == len(text)


def score(openings: Sequence[str], lines: Sequence[str]) -> Score:
    """Judge the lines, line i after opening i; the same opening may come several times."""
    pairs = list(zip(openings, lines, strict=True))
    valid = [pair for pair in pairs if is_valid(*pair)]
    n = len(pairs)
    return Score(len(valid) / n, len(set(pairs)) / n, len(set(valid)))


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
        print(f"temperature {temperature}: {lines[0]!r}")
        print(f"    {score(openings, lines)}")


if __name__ == "__main__":
    run_program(main)
