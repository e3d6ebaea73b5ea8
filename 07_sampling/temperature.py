"""Temperature, and drawing a token at random.

    p = softmax(logits / temperature)

Below 1 the temperature sharpens the distribution, above 1 it flattens it; the order of the tokens
never changes. Towards 0 all the probability goes to the best token, so 0 stands for greedy. The
name comes from physics: with -logit as the energy, p is the Boltzmann distribution.

Dimensions: `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

import math

import torch
from torch import Tensor

from greedy import greedy
from utils.errors import UsageError, run_program

GREEDY_BELOW = 1e-30  # dividing by less could overflow; only exact ties would survive it anyway


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits as float32, others as they are.

    bfloat16 has 8 significant bits, too few to add up probabilities.
    """
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits (..., V) by the temperature; at 0 only the greedy choice stays above -inf.

    Half precision comes back as float32. Raises UsageError unless temperature is finite and >= 0.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UsageError(
            f"temperature {temperature} cannot be used; give a finite number, 0 (greedy) or more"
        )
    logits = at_least_float32(logits)
    if temperature >= GREEDY_BELOW:
        return logits / temperature
    ids = torch.arange(logits.size(-1), device=logits.device)
    return logits.masked_fill(ids != greedy(logits)[..., None], -math.inf)


def sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one id from softmax(logits) for each row of the logits (..., V): (...) int64.

    The Gumbel-max trick: add to every logit its own -log(E), with E drawn from the exponential
    distribution, and the largest sum is at id v with probability softmax(logits)[v]. So to sample
    is to be greedy about noisy logits, and an id at -inf, probability zero, cannot win.

    The noise is drawn on the generator's device: one seed gives the same noise wherever the logits
    are. Raises CourseError for a row without a finite largest value.
    """
    logits = at_least_float32(logits)
    device = logits.device if generator is None else generator.device
    race = torch.empty(logits.shape, dtype=logits.dtype, device=device)
    race.exponential_(generator=generator)  # in (0, inf): its logarithm is finite
    return greedy(logits - race.log().to(logits.device))


def main() -> None:
    """Show how the temperature moves probability, and that drawing follows it."""
    words = ["cat", "dog", "owl", "bee"]
    logits = torch.tensor([1.0, 2.0, 0.5, -1.0])
    generator = torch.Generator().manual_seed(0)
    print("temperature  " + "".join(f"{word:>7}" for word in words) + "   ten draws")
    for temperature in (0, 0.5, 1.0, 2.0):
        scaled = apply_temperature(logits, temperature)
        shares = "".join(f"{p:7.3f}" for p in scaled.softmax(dim=-1))
        draws = sample(scaled.expand(10, -1), generator)
        print(f"{temperature:11}  {shares}   {' '.join(words[i] for i in draws)}")


if __name__ == "__main__":
    run_program(main)
