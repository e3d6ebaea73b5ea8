"""Two ways to make a task of a text without labels: hide tokens, or cut out spans.

    BERT   of the chosen tokens, 80% become [MASK], 10% a random token, 10% stay; predict the chosen
           ones at their places                                     Devlin et al. 2018, section 3.1
    T5     each gap becomes one sentinel; write down the gaps       Raffel et al. 2019, sec. 3.1.4

    source   thank <0> inviting me to your <1> week
    target   <0> you for <1> party last <2>

The random numbers are arguments, so that the functions can be checked.

Dimensions: B batch, T positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from utils.errors import run_program


def mask_tokens(
    tokens: Tensor, chosen: Tensor, draws: Tensor, replacements: Tensor, mask_token: int
) -> Tensor:
    """Corrupt the chosen tokens by BERT's rule: 80% hidden, 10% replaced, 10% left as they are.

    tokens (B, T) integers; chosen (B, T) bool, the tokens that are to be predicted; draws (B, T)
    uniform random numbers in [0, 1): a chosen token becomes mask_token where its draw is below 0.8,
    its replacement where the draw is at least 0.8 and below 0.9, and stays for the rest.
    replacements (B, T) random tokens. Returns new tokens (B, T); those not chosen stay.
    """
    # One draw decides among the three, so that they exclude each other.
    hidden = chosen & (draws < 0.8)
    replaced = chosen & (draws >= 0.8) & (draws < 0.9)
    # Without the other 20% the model would learn that only [MASK] needs a thought; in use there is
    # no [MASK] at all.
    corrupted = torch.where(replaced, replacements, tokens)
    return corrupted.masked_fill(hidden, mask_token)


def corrupt_spans(
    tokens: Tensor, spans: Sequence[tuple[int, int]], first_sentinel: int
) -> tuple[Tensor, Tensor]:
    """Cut spans out of one text: (source, target), as above.

    tokens (T,) integers; spans are (start, length) in ascending order, at least one token apart.
    Gap number n is marked by the token first_sentinel + n, in both; one more sentinel ends the
    target. Without spans, the source is the text, and the target that last sentinel alone.
    """
    source: list[Tensor] = []
    target: list[Tensor] = []
    read = 0  # tokens before this one are done
    for number, (start, length) in enumerate(spans):
        sentinel = tokens.new_tensor([first_sentinel + number])
        source += [tokens[read:start], sentinel]  # the text up to the gap, and its mark
        target += [sentinel, tokens[start : start + length]]  # the same mark, and what was there
        read = start + length
    source.append(tokens[read:])
    target.append(tokens.new_tensor([first_sentinel + len(spans)]))  # "nothing more is missing"
    return torch.cat(source), torch.cat(target)


def main() -> None:
    """Corrupt a sentence in both ways."""
    words = ["thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week"]
    names = [*words, "<0>", "<1>", "<2>", "[MASK]"]
    tokens = torch.arange(len(words))[None]
    generator = torch.Generator().manual_seed(5)
    chosen = torch.rand(tokens.shape, generator=generator) < 0.5  # BERT: 0.15
    draws = torch.rand(tokens.shape, generator=generator)
    replacements = torch.randint(len(words), tokens.shape, generator=generator)
    corrupted = mask_tokens(tokens, chosen, draws, replacements, len(names) - 1)
    source, target = corrupt_spans(tokens[0], [(1, 2), (7, 2)], len(words))
    rows = {"text": tokens[0], "masked": corrupted[0], "source": source, "target": target}
    for name, row in rows.items():
        print(f"{name:8}" + " ".join(names[token] for token in row.tolist()))


if __name__ == "__main__":
    run_program(main)
