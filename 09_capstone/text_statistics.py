"""What the loss cannot tell: are the samples diverse, or does a text repeat itself?

    distinct_n(samples, n)      = different n-grams / all n-grams, over all samples together
    repeated_share(sample, n)   = words that are part of an n-gram which occurred before / all words

An n-gram is n words in a row. Both numbers are between 0 and 1, and both depend on the length of
the texts: a longer text repeats more. So compare samples of one length, and look at the training
text as well. Li et al. 2016, "A diversity-promoting objective function", section 5 (distinct-n);
Rae et al. 2021, "Scaling language models: Gopher", appendix A.1.1 (duplicate n-grams).
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from collections.abc import Sequence

import torch

from generator import TextGenerator
from small_model import load_small_model
from utils.config import SampleConfig
from utils.mock_corpus import generate

N_SAMPLES, LENGTH = 8, 240  # characters
Gram = tuple[str, ...]


def n_grams(text: str, n: int) -> list[Gram]:
    """The n-grams of a text, in order; none if it has fewer than n words."""
    words = text.split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct_n(samples: Sequence[str], n: int) -> float:
    """The share of different n-grams among all; 0.0 if there are none.

    No n-gram reaches from one sample into the next.
    """
    grams = [gram for sample in samples for gram in n_grams(sample, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repeated_share(sample: str, n: int) -> float:
    """The share of the words that are part of an n-gram which occurs earlier in the sample, too.

    The two occurrences may overlap; a word counts once. 0.0 for a text without words.
    """
    seen: set[Gram] = set()
    repeated: set[int] = set()  # the places of words
    for i, gram in enumerate(n_grams(sample, n)):
        if gram in seen:
            repeated.update(range(i, i + n))
        seen.add(gram)
    n_words = len(sample.split())
    return len(repeated) / n_words if n_words else 0.0


def main() -> None:
    """Samples of lesson 07's small model at three temperatures, and the plays themselves."""
    torch.set_num_threads(1)  # the model is too small for more
    model, tokenizer = load_small_model()
    generator = TextGenerator(model, model.config, tokenizer)
    texts = {}
    for temperature in (0.1, 0.7, 1.2):
        sampling = SampleConfig(max_tokens=LENGTH, temperature=temperature)
        texts[f"temperature {temperature}"] = generator.generate(["\n\n"] * N_SAMPLES, sampling)
    play = generate(N_SAMPLES * LENGTH, seed=3)
    texts["the plays"] = [play[i * LENGTH :][:LENGTH] for i in range(N_SAMPLES)]
    print(" " * 16, "  distinct-1  distinct-2  repeated 4-grams")
    for name, samples in texts.items():
        repeated = sum(repeated_share(sample, 4) for sample in samples) / len(samples)
        distinct = f"{distinct_n(samples, 1):12.2f}{distinct_n(samples, 2):12.2f}"
        print(f"{name:<16}{distinct}{repeated:18.2f}")


if __name__ == "__main__":
    run_program(main)
