"""Temperature, and sampling a token at random.

    p = softmax(logits / temperature)

A temperature below 1 sharpens the distribution and one above 1 flattens it; the order of the tokens
never changes. As it approaches 0, all probability goes to the best token, so 0 means greedy. The
name comes from physics: with -logit as the energy, p is the Boltzmann distribution.

Dimensions: `...` any leading axes (a batch, or none), V the vocabulary, always last.
"""

import math

import torch
from torch import Tensor

from greedy import greedy
from utils.errors import UsageError, run_program

GREEDY_BELOW = 1e-30  # dividing by less could overflow, and only exact ties would survive it


def at_least_float32(logits: Tensor) -> Tensor:
    """Convert half-precision logits to float32, and leave others as they are.

    bfloat16 has 8 significant bits, too few to sum probabilities.
    """
    if logits.dtype == torch.float32:
        return logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits (..., V) by the temperature; at 0, all but the greedy choice become -inf.

    Half-precision logits come back as float32. Raises UsageError unless the temperature is finite
    and at least 0.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UsageError(
            f"temperature {temperature} is out of range; give a finite number, 0 (greedy) or more"
        )
    logits = at_least_float32(logits)
    if temperature >= GREEDY_BELOW:
        return logits / temperature
    ids = torch.arange(logits.size(-1), device=logits.device)
    return logits.masked_fill(ids != greedy(logits)[..., None], -math.inf)


def sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sample one id from softmax(logits) for each row of the logits (..., V): (...) int64.

    The Gumbel-max trick: add independent noise -log(E) to every logit, with E drawn from the
    exponential distribution. Then the largest sum is at id v with probability softmax(logits)[v].
    So sampling is greedy decoding of noisy logits, and an id at -inf (probability zero) is never
    chosen.

    The noise is drawn on the generator's device, so a seed gives the same noise wherever the logits
    are. Raises CourseError for a row without a finite largest value.
    """
    logits = at_least_float32(logits)
    device = logits.device if generator is None else generator.device
    exponential = torch.empty(logits.shape, dtype=logits.dtype, device=device)  # E
    exponential.exponential_(generator=generator)  # in (0, inf), so its logarithm is finite
    log_exponential = exponential.log().to(logits.device)  # log(E)
    return greedy(logits - log_exponential)  # argmax_v (logits[v] - log E_v)


def main() -> None:
    """Show how the temperature moves probability, and that samples follow it."""
    words = ["cat", "dog", "owl", "bee"]
    logits = torch.tensor([1.0, 2.0, 0.5, -1.0])
    generator = torch.Generator().manual_seed(0)
    print("temperature  " + "".join(f"{word:>6}" for word in words) + "   ten draws")
    for temperature in (0, 0.5, 1.0, 2.0):
        scaled = apply_temperature(logits, temperature)
        shares = "".join(f"{p:6.3f}" for p in scaled.softmax(dim=-1))
        draws = sample(scaled.expand(10, -1), generator)
        print(f"{temperature:11}  {shares}   {' '.join(words[i] for i in draws)}")


if __name__ == "__main__":
    run_program(main)
