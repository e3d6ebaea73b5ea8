"""What is copied: the longest stretch of a sample, and the share of the evaluation data.

`longest_copy` searches the corpus only for a stretch that is longer than the best so far. So each
search makes the best one longer or ends a start: at most two per character of the sample.

`contaminated_share` takes time that n doesn't matter for. A hash of n tokens a, b, ..., z is the
number whose digits they are, modulo a large prime m:

    h = (a base^(n-1) + b base^(n-2) + ... + z) mod m

The next window loses its first digit and gets a new last one, so its hash takes three operations,
however large n is (Karp and Rabin 1987). Equal hashes are a suspicion; the tokens are compared as
well, so the result is exact. A token counts as contaminated if it is part of any n tokens in a row
that the training data hold (Touvron et al. 2023, "Llama 2", appendix A.6).
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from collections import defaultdict
from collections.abc import Sequence

from utils.corpus import split_text
from utils.mock_corpus import generate

BASE = 1_000_003
MODULUS = 2**61 - 1  # a prime; a product of two such numbers is no problem for Python's integers


def longest_copy(sample: str, corpus: str) -> tuple[int, int]:
    """Start and length of the longest stretch of `sample` that occurs in `corpus`; (0, 0) if none.

    Of several as long, the first.
    """
    start, length = 0, 0
    for i in range(len(sample)):
        # If the stretch one longer than the best isn't there, no longer one from this start is.
        while i + length < len(sample) and sample[i : i + length + 1] in corpus:
            start, length = i, length + 1
    return start, length


def rolling_hashes(
    tokens: Sequence[int], n: int, base: int = BASE, modulus: int = MODULUS
) -> list[int]:
    """The hash of each n tokens in a row; an empty list if there are fewer than n."""
    highest = pow(base, n, modulus)  # what the token that leaves is worth, after the shift
    hashes, value = [], 0
    for i, token in enumerate(tokens):
        value = value * base + token
        if i >= n:
            value -= tokens[i - n] * highest
        value %= modulus
        if i >= n - 1:  # the first whole window
            hashes.append(value)
    return hashes


def contaminated_share(train: list[int], evaluation: list[int], n: int) -> float:
    """The share of evaluation's tokens that are part of n in a row which train holds, too.

    0.0 if evaluation is empty.
    """
    places: defaultdict[int, list[int]] = defaultdict(list)  # of each hash in train
    for start, value in enumerate(rolling_hashes(train, n)):
        places[value].append(start)
    covered, end = 0, 0  # end: where the last match ended
    for start, value in enumerate(rolling_hashes(evaluation, n)):
        gram = evaluation[start : start + n]
        if any(train[i : i + n] == gram for i in places.get(value, ())):
            covered += start + n - max(start, end)  # what the match before didn't cover
            end = start + n
    return covered / len(evaluation) if evaluation else 0.0


def main() -> None:
    """Mock plays, split as a run splits them: lines come again, so some of it is inevitable."""
    train, evaluation = split_text(generate(300_000), val_fraction=0.1)
    start, length = longest_copy(evaluation[:400], train)
    print(f"the longest copy in 400 characters: {evaluation[start : start + length]!r}")
    codes = [ord(character) for character in train], [ord(character) for character in evaluation]
    print(f"{len(codes[0]):,} characters for training, {len(codes[1]):,} for validation")
    for n in (10, 20, 40, 80, 160):
        share = contaminated_share(*codes, n)
        print(f"{n:>4} characters in a row: {share:7.2%} of the validation text")


if __name__ == "__main__":
    run_program(main)
